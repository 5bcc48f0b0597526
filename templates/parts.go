package templates

import (
	"fmt"
	"html/template"
	"strings"
	"time"
)

// What the parts of pages are given that need more than one thing.

// A pips is a row of marks, one for each backup code.
type pips struct {
	Label      string
	Left, Used int
}

// Pips shows how many backup codes are left.
func (v *view) Pips(left, total int) (pips, error) {
	label, err := v.T("codes.left_label", "n", left, "total", total)
	return pips{Label: label, Left: left, Used: max(0, total-left)}, err
}

// An others is the choice whether other sessions end.
type others struct {
	ID, Label string
	N         int
	Keep      bool
}

// Others is the choice whether n other sessions end, in a field of that id.
func (v *view) Others(id string, n int, keep bool) (others, error) {
	label, err := v.T("password.others")
	return others{ID: id, Label: label, N: n, Keep: keep}, err
}

// A sheet is backup codes as they are shown and printed.
type sheet struct {
	*view
	Codes []string
	Head  string // whose they are, where they are entered: people find the print again years later
}

// Sheet is backup codes as they are shown and printed.
func (v *view) Sheet(codes []string, made time.Time, useAt string) (sheet, error) {
	s := sheet{view: v, Codes: codes}
	day, err := v.Day(made)
	if err != nil {
		return s, err
	}
	s.Head, err = v.T("codes.paper", "email", v.Page.(Security).Email, "date", day, "url", useAt)
	return s, err
}

// An unfinished is what is said before codes that may be saved come to nothing.
type unfinished struct {
	*view
	Title, Text, CancelURL string
}

// Unfinished is what the texts of key say before a dialog is left for cancelURL.
func (v *view) Unfinished(key, cancelURL string) (unfinished, error) {
	u := unfinished{view: v, CancelURL: cancelURL}
	var err error
	if u.Title, err = v.T(key); err != nil {
		return u, err
	}
	u.Text, err = v.T(key + "_text")
	return u, err
}

// Ticked reports whether "I have saved my backup codes" was ticked.
func (v *view) Ticked() bool {
	p := v.Page.(Security)
	return p.SetUp != nil && p.SetUp.Saved
}

// The template writes the scheme of these two URLs, which are safe for what they
// are and not by their scheme; what is of another one is an error.

// OTPAuth is an otpauth: URL without its scheme.
func (v *view) OTPAuth(url string) (string, error) { return without("otpauth:", url) }

// SVG is the data: URL of an SVG without its scheme and type.
func (v *view) SVG(url string) (string, error) { return without("data:image/svg+xml", url) }

func without(prefix, url string) (string, error) {
	rest, ok := strings.CutPrefix(url, prefix)
	if !ok {
		return "", fmt.Errorf("a URL of the set-up does not begin with %s", prefix)
	}
	return rest, nil
}

// ForWhat says what a fresh proof is for, "" if that needs no words.
func (v *view) ForWhat() (string, error) {
	p := v.Page.(Confirm)
	key := "confirm.for." + p.For
	if _, ok := v.Text[key]; !ok || p.For == "workspace" && p.Workspace == "" {
		return "", nil
	}
	return v.T(key, "workspace", p.Workspace)
}

// Where is where a session is, and when it was last used.
func (v *view) Where(s SessionRow) (any, error) {
	place, err := v.Place(s.Device)
	if err != nil || s.Active {
		return place, err
	}
	ago, err := v.Ago(s.SeenAt)
	switch {
	case err != nil:
		return nil, err
	case place == "":
		return v.M("sessions.last", "ago", ago)
	}
	return v.M("sessions.where_last", "place", place, "ago", ago)
}

// From is where something happened, and when.
func (v *view) From(e ActivityEvent) (template.HTML, error) {
	clock, err := v.Clock(e.At)
	if err != nil {
		return "", err
	}
	if e.Support && e.Case != "" {
		return v.M("activity.from_case", "case", e.Case, "time", clock)
	}
	if e.Support {
		return v.M("activity.from_support", "time", clock)
	}
	if e.Workspace != "" {
		return v.M("activity.from_workspace", "workspace", e.Workspace, "time", clock)
	}
	device, err := v.DeviceName(e.Device)
	if err != nil {
		return "", err
	}
	place, err := v.Place(e.Device)
	switch {
	case err != nil:
		return "", err
	case place == "":
		return v.M("activity.from_device", "device", device, "time", clock)
	}
	return v.M("activity.from", "device", device, "place", place, "time", clock)
}

// A passkeyForm has its script ask the browser for a passkey, and sends the answer.
type passkeyForm struct {
	*view
	Action string // where the answer goes
	Label  string // of the button
	Fields []Field
	Auto   bool   // the field of the page's first form offers passkeys, too
	First  bool   // it is the first thing to do on the page
	Signal string // what the script tells the browser of passkeys, or ""
}

// SignInByPasskey is the form of the sign-in page.
func (v *view) SignInByPasskey() passkeyForm {
	p := v.Page.(SignIn)
	return passkeyForm{view: v, Action: "/login/passkey", Label: v.Text["passkey.sign_in"], Fields: []Field{{"use", "sign_in"}, {"to", p.To}}, Auto: !p.Fixed, Signal: p.Signal}
}

// VerifyByPasskey is the form of the page that asks for a second factor.
func (v *view) VerifyByPasskey() passkeyForm {
	p := v.Page.(Verify)
	return passkeyForm{view: v, Action: "/login/verify", Label: v.Text["passkey.use"], Fields: []Field{{"use", "second"}, {"to", p.To}}, First: p.NoApp || p.Error == Paused}
}

// ConfirmByPasskey is the form of the page that asks for a fresh proof.
func (v *view) ConfirmByPasskey() passkeyForm {
	p := v.Page.(Confirm)
	return passkeyForm{view: v, Action: "/login/confirm", Label: v.Text["passkey.use"], Fields: []Field{{"use", "confirm"}, {"with", p.With}, {"for", p.For}, {"to", p.To}}, First: true}
}

// A nameField is the field for the name of a passkey.
type nameField struct {
	*view
	Value string
}

// NameField is the field for the name of a passkey, which stands in it.
func (v *view) NameField(value string) nameField { return nameField{v, value} }

// PasskeyTimes says when a passkey was made and last used.
func (v *view) PasskeyTimes(p PasskeyRow) (template.HTML, error) {
	made, err := v.ShortDate(p.Made)
	if err != nil {
		return "", err
	}
	if p.Used.IsZero() {
		return v.M("passkey.made", "date", made)
	}
	ago, err := v.Ago(p.Used)
	if err != nil {
		return "", err
	}
	return v.M("passkey.made_used", "date", made, "ago", ago)
}
