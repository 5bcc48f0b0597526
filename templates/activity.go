package templates

import (
	"html/template"
	"slices"
	"strings"
)

// DeviceName is "Chrome on macOS", or as much of it as is known.
func (c *catalogue) DeviceName(d Device) (string, error) {
	switch {
	case d.Browser != "" && d.OS != "":
		return c.T("device.on", "browser", d.Browser, "os", d.OS)
	case d.Browser != "":
		return d.Browser, nil
	case d.OS != "":
		return c.T("device.unknown_on", "os", d.OS)
	}
	return c.T("device.unknown")
}

// Place is "Lisbon, Portugal (approximate) · 203.0.113.7", or as much of it as is
// known. Where an address is, nobody knows exactly (SE-5).
func (v *view) Place(d Device) (string, error) {
	if d.Place == "" {
		return d.Address, nil
	}
	place, err := v.T("place.approximate", "place", d.Place)
	if d.Address != "" {
		place += dot + d.Address
	}
	return place, err
}

// dot stands between things that are said in one line.
const dot = "\u00a0· "

// Spot names where a device is, for people who hear one button among many.
func (v *view) Spot(d Device) (string, error) {
	name, err := v.DeviceName(d)
	for _, where := range []string{d.Place, d.Address} {
		if where != "" {
			return name + ", " + where, err
		}
	}
	return name, err
}

// DeviceIcon names the icon of a kind of device.
func (v *view) DeviceIcon(d Device) string {
	if d.Kind == "phone" || d.Kind == "tablet" {
		return d.Kind
	}
	return "laptop"
}

// List is "Acme, Beta Labs".
func (v *view) List(names []string) string { return strings.Join(names, ", ") }

// SignedIn is when and how a session began: "Signed in 12 Sep with password + code".
func (v *view) SignedIn(s SessionRow) (template.HTML, error) {
	day, err := v.ShortDay(s.SignedInAt)
	if err != nil {
		return "", err
	}
	if how := v.Text["how."+s.How]; how != "" {
		return v.M("sessions.signed_in", "date", day, "how", how)
	}
	return v.M("sessions.signed_in_somehow", "date", day)
}

// Count is the text of key, or of its plural, for n things.
func (v *view) Count(key string, n int) (string, error) { return v.count(key, n) }

// An activityDay is the events of one day.
type activityDay struct {
	Heading string
	Events  []ActivityEvent
}

// Days are the events of the Activity tab by day.
func (v *view) Days() ([]activityDay, error) {
	var days []activityDay
	for _, e := range v.Page.(Activity).Events {
		heading, err := v.dayHeading(e.At)
		if err != nil {
			return nil, err
		}
		if n := len(days); n == 0 || days[n-1].Heading != heading {
			days = append(days, activityDay{Heading: heading})
		}
		last := &days[len(days)-1]
		last.Events = append(last.Events, e)
	}
	return days, nil
}

// Event says what happened. What it is said of an event may depend on who did it
// ("event.session_ended_support"), and a kind that has no words yet is told
// without them: it is still the person's to see.
func (v *view) Event(e ActivityEvent) (string, error) {
	passkeys := append(slices.Clone(e.Passkeys), "", "")
	values := []any{"n", e.Count, "how", v.Text["with."+e.How], "workspace", e.Workspace, "passkey", passkeys[0], "renamed", passkeys[1], "device", ""}
	if e.Other != nil {
		device, err := v.DeviceName(*e.Other)
		if err != nil {
			return "", err
		}
		values[len(values)-1] = device
	}
	key := "event." + e.Kind
	if e.Kind == "signed_in" && e.New {
		key = "event.signed_in_new"
	}
	for _, more := range []struct {
		suffix string
		when   bool
	}{
		{"_support", e.Support},
		{"_limit", e.Limit},
		{"_key", e.How == "passkey"},
		{"_google", strings.HasPrefix(e.How, "google")},
		{"_how", v.Text["with."+e.How] != ""},
		{"_device", e.Other != nil},
		{"_one", e.Count == 1},
		{"_none", e.Count == 0},
	} {
		if _, ok := v.Text[key+more.suffix]; ok && more.when {
			key += more.suffix
		}
	}
	if _, ok := v.Text[key]; !ok {
		key = "event.other"
	}
	return v.T(key, values...)
}

// eventIcons are the icons of events.
var eventIcons = []struct {
	name  string
	kinds []string
}{
	{"check", []string{"signed_in", "signed_in_again"}},
	{"alert", []string{"code_failed", "codes_paused", "refresh_token_reused", "passkey_refused"}},
	{"leave", []string{"signed_out", "session_ended", "sessions_ended"}},
	{"mail", []string{"password_reset_requested", "reset_link_made", "invited", "email_changed"}},
	{"lock", []string{"password_changed", "password_reset", "password_set", "method_google", "method_password"}},
	{"shield-on", []string{"two_factor_enabled"}},
	{"shield", []string{"two_factor_disabled", "two_factor_reset"}},
	{"key", []string{"backup_codes_made", "backup_code_used"}},
	{"passkey", []string{"passkey_added", "passkey_renamed", "passkey_removed"}},
}

// EventIcon names the icon of an event.
func (v *view) EventIcon(e ActivityEvent) string {
	if e.Kind == "signed_in" && e.New {
		return v.DeviceIcon(e.Device)
	}
	for _, icon := range eventIcons {
		if slices.Contains(icon.kinds, e.Kind) {
			return icon.name
		}
	}
	return "info"
}

// How says in a key of the catalogue below "how." how somebody proved who they are,
// given the authentication method references (RFC 8176): "password_code".
func How(amr []string) string {
	first, second := "", ""
	key := slices.Contains(amr, "hwk") || slices.Contains(amr, "swk")
	switch {
	case slices.Contains(amr, "fed"):
		first = "google"
	case slices.Contains(amr, "pwd"):
		first = "password"
	case key:
		first, key = "passkey", false
	}
	switch {
	case slices.Contains(amr, "otp"):
		second = "code"
	case key:
		second = "passkey"
	case first == "passkey": // both factors, or one that was only touched
	case slices.Contains(amr, "mfa"):
		second = "backup_code"
	}
	switch {
	case first == "" && second == "":
		return "unknown"
	case first == "" || second == "":
		return first + second
	}
	return first + "_" + second
}
