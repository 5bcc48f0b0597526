package templates

import (
	"fmt"
	"html"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Sample data has no letters: see TestNoHardCodedText.

var someDevice = Device{Browser: "1", OS: "2", Kind: "phone", Place: "3", Address: "4.5.6.7"}

func someSetUp() *SetUp {
	return &SetUp{
		QR: "data:image/svg+xml;base64,0123+/4567==", Key: "2345 6723", URI: "otpauth://totp/1:2%40?secret=3&issuer=4",
		Codes: someCodes, Made: time.Unix(1e9, 0), UseAt: "5://6", CancelURL: "/7#8", Others: 2,
	}
}

var someCodes = []string{"00000-00001", "00000-00002", "00000-00003"}

// accountPages is each page of the second issue in each of its states.
func accountPages() map[string]Page {
	now := time.Now()
	zone := time.FixedZone("", 3600)
	someone := Account{Name: "1 2", Email: "3@4.5"}
	tab := Security{Account: someone, Method: "password", Password: NewPassword{MinLength: 12, Others: 2}}
	on := tab
	on.TwoFactor = &TwoFactor{Since: now, CodesLeft: 8, CodesTotal: 10, CodesMade: now}
	google := Security{Account: Account{Email: "3@4.5", Zone: zone}, Method: "google"}
	pages := map[string]Page{
		"security":                       tab,
		"security, on":                   on,
		"security, Google":               google,
		"verify":                         Verify{Email: "3@4.5", To: "/6"},
		"verify, Google":                 Verify{Email: "3@4.5", To: "/6", Google: true, AnyOrigin: true},
		"verify, nowhere to go":          Verify{Email: "3@4.5"},
		"backup code":                    BackupCode{Email: "3@4.5", To: "/6"},
		"backup code used":               BackupCodeUsed{Email: "3@4.5", Left: 7, Total: 10, To: "/6", CodesURL: "/7", SecurityURL: "/8"},
		"backup code used, few are left": BackupCodeUsed{Email: "3@4.5", Left: 3, Total: 10, To: "/6", CodesURL: "/7", SecurityURL: "/8"},
		"backup code used, none is left": BackupCodeUsed{Email: "3@4.5", Total: 10, To: "/6", CodesURL: "/7", SecurityURL: "/8"},
		"recovery":                       Recovery{To: "/6"},
		"forgot":                         Forgot{},
		"forgot, address known":          Forgot{Email: "3@4.5"},
		"forgot, sent":                   Forgot{Sent: true},
		"reset":                          Reset{Email: "3@4.5", Password: NewPassword{MinLength: 12}},
		"reset, invited":                 Reset{Email: "3@4.5", Invited: true, Password: NewPassword{MinLength: 12}},
		"sign in, password reset":        SignIn{Notice: "password_reset"},
		"not me":                         NotMe{Account: someone, Method: "password", Others: 1, CancelURL: "/6"},
		"not me, Google":                 NotMe{Account: someone, Method: "google", TwoFactor: true, Passkeys: true, Others: 2, CancelURL: "/6"},
		"not me, only here":              NotMe{Account: someone, Method: "password", TwoFactor: true, CancelURL: "/6"},
		"sessions, only here":            Sessions{Account: someone, This: SessionRow{ID: "1", Active: true, SignedInAt: now, How: "password"}},
		"activity, nothing":              Activity{Account: someone},
		"demo mailbox, empty":            DemoMailbox{EmptyURL: "/6"},
		"demo mailbox":                   DemoMailbox{Messages: []DemoMessage{{URL: "/1", HTMLURL: "/2", Subject: "3", From: "4", To: "5", At: now}}, EmptyURL: "/6"},
		"demo mailbox, one open": DemoMailbox{
			Messages: []DemoMessage{{URL: "/1", HTMLURL: "/2", Subject: "3", From: "4", To: "5", At: now, Current: true}, {URL: "/7", Subject: "8"}},
			Open: &DemoMessage{URL: "/1", HTMLURL: "/2", Subject: "3", From: "4", To: "5", At: now,
				Text: []DemoLine{{Text: ""}, {Text: "9"}, {Text: "10://11", Link: "/12"}, {Text: ""}, {Text: "13"}}},
			EmptyURL: "/6"},
	}

	with := func(name string, p Security, change func(*Security)) {
		change(&p)
		pages[name] = p
	}
	with("security, few codes, paused", on, func(p *Security) { p.TwoFactor = &TwoFactor{CodesLeft: 3, CodesTotal: 10, CodesPaused: true} })
	with("security, nobody's name, no other session", tab, func(p *Security) { p.Name, p.Password.Others = "", 0 })
	for _, key := range notices() {
		with("security, "+key, tab, func(p *Security) { p.Notice, p.NoticeText = key, "2" })
		with("security, "+key+", one", tab, func(p *Security) { p.Notice, p.NoticeText = key, "1" })
	}
	with("security, an unknown notice", tab, func(p *Security) { p.Notice, p.NoticeText = "unheard-of", "2" })
	for _, e := range []string{WrongCurrent, Mismatch, Throttled, Busy, TooLong} {
		with("security, "+e, tab, func(p *Security) { p.Password.Error, p.Password.Wait, p.Password.Keep = e, 42, true })
		if e != WrongCurrent {
			pages["reset, "+e] = Reset{Email: "3@4.5", Password: NewPassword{MinLength: 12, Error: e, Wait: 42}}
		}
	}
	for _, why := range []string{WeakShort, WeakLong, WeakSymbols, WeakPersonal, WeakBreached, WeakSame} {
		with("security, "+why, tab, func(p *Security) { p.Password.Error, p.Password.Reason = Weak, why })
		pages["reset, "+why] = Reset{Email: "3@4.5", Password: NewPassword{MinLength: 12, Error: Weak, Reason: why}}
	}

	with("enable", tab, func(p *Security) { p.Enable = &Enable{CancelURL: "/6#7"} })
	with("enable, Google, for a workspace", google, func(p *Security) { p.Enable = &Enable{To: "/8", Workspace: "9", CancelURL: "/6#7"} })
	with("set up", tab, func(p *Security) { p.SetUp = someSetUp() })
	with("set up, for a workspace, nothing else to end", tab, func(p *Security) {
		p.SetUp = someSetUp()
		p.SetUp.To, p.SetUp.Workspace, p.SetUp.Others = "/8", "9", 0
	})
	for _, e := range []string{Wrong, Used, NotSaved, Throttled} {
		with("set up, "+e, tab, func(p *Security) {
			p.SetUp = someSetUp()
			p.SetUp.Error, p.SetUp.Wait, p.SetUp.Saved, p.SetUp.Keep = e, 42, e != NotSaved, true
		})
	}
	with("disable", on, func(p *Security) { p.Disable = &Disable{CancelURL: "/6#7"} })
	with("disable, Google, with a code", google, func(p *Security) {
		p.Disable = &Disable{AskCode: true, Workspaces: []string{"8", "9"}, CancelURL: "/6#7"}
	})
	for _, e := range []string{Wrong, Used, Paused, Throttled, Busy} {
		with("disable, "+e, on, func(p *Security) { p.Disable = &Disable{AskCode: true, Error: e, Wait: 42, CancelURL: "/6#7"} })
	}
	for left := range 3 {
		with(fmt.Sprint("codes, left ", left), on, func(p *Security) { p.Codes = &Codes{Left: left, To: "/8", CancelURL: "/6#7"} })
	}
	with("codes, to save", on, func(p *Security) { p.Codes = &Codes{Codes: someCodes, UseAt: "8://9", CancelURL: "/6#7"} })
	with("codes, not saved", on, func(p *Security) {
		p.Codes = &Codes{Codes: someCodes, UseAt: "8://9", CancelURL: "/6#7", Error: NotSaved}
	})

	keys := on
	keys.Passkeys = &PasskeyList{Signal: "{}", Keys: []PasskeyRow{
		{ID: "1", Name: "2", Model: "7", Verifies: true, Synced: true, BackedUp: true, Made: now, Used: now.Add(-time.Hour)}, {ID: "3", Name: "4", Synced: true, Made: now}, {ID: "5", Name: "6", Made: now},
	}}
	pages["security, passkeys"] = keys
	with("security, no passkeys", google, func(p *Security) { p.Passkeys = &PasskeyList{} })
	for _, e := range []string{"", WrongPasskey, PasskeyOver, PasskeyTaken, TooManyPasskeys, BadName} {
		with("add a passkey "+e, keys, func(p *Security) { p.AddPasskey = &AddPasskey{Name: "1", Error: e, CancelURL: "/6#7"} })
	}
	with("security, passkeys and no app", keys, func(p *Security) {
		p.TwoFactor = &TwoFactor{Since: now, CodesLeft: 8, CodesTotal: 10, CodesMade: now, NoApp: true}
	})
	with("security, passkeys, off", keys, func(p *Security) { p.TwoFactor = nil })
	with("passkeys on", keys, func(p *Security) { p.Codes = &Codes{Passkeys: true, CancelURL: "/6#7"} })
	with("passkeys on, to save", keys, func(p *Security) {
		p.Codes = &Codes{Passkeys: true, Others: 2, Codes: someCodes, UseAt: "8://9", CancelURL: "/6#7"}
	})
	with("passkeys on, not saved", keys, func(p *Security) {
		p.Codes = &Codes{Passkeys: true, Codes: someCodes, UseAt: "8://9", CancelURL: "/6#7", Error: NotSaved}
	})
	with("add a passkey, with a proposal", keys, func(p *Security) { p.AddPasskey = &AddPasskey{Device: &someDevice, CancelURL: "/6#7"} })
	for _, e := range []string{"", BadName} {
		with("rename a passkey "+e, keys, func(p *Security) { p.RenamePasskey = &RenamePasskey{ID: "1", Name: "2", Error: e, CancelURL: "/6#7"} })
	}
	with("remove a passkey, other sessions", keys, func(p *Security) { p.RemovePasskey = &RemovePasskey{ID: "1", Name: "2", Others: 3, CancelURL: "/6#7"} })
	for _, e := range []string{"", LastWay} {
		with("remove a passkey "+e, keys, func(p *Security) { p.RemovePasskey = &RemovePasskey{ID: "1", Name: "2", Error: e, CancelURL: "/6#7"} })
	}
	for _, e := range []string{"", WrongPasskey, UnknownPasskey, Cloned, PasskeyOver} {
		pages["verify, or with a passkey "+e] = Verify{Email: "3@4.5", To: "/6", Passkeys: true, Error: e}
		pages["verify with a passkey "+e] = Verify{Email: "3@4.5", To: "/6", Google: true, NoApp: true, Passkeys: true, Error: e}
		pages["confirm with a passkey "+e] = Confirm{Name: "1 2", Email: "3@4.5", For: "passkey_add", With: "passkey", Others: []string{"code", "google"}, To: "/6", CancelURL: "/7", OtherURL: "/8", Error: e}
	}
	pages["verify, after a key"] = Verify{Email: "3@4.5", To: "/6", KeyFirst: true}
	pages["verify, paused, with a passkey"] = Verify{Email: "3@4.5", To: "/6", Passkeys: true, Error: Paused}
	for _, e := range []string{Wrong, Used, Throttled, Paused, Busy} {
		pages["verify, "+e] = Verify{Email: "3@4.5", To: "/6", Error: e, Wait: 42}
	}
	for _, e := range []string{Wrong, Throttled, Busy} {
		pages["backup code, "+e] = BackupCode{Email: "3@4.5", To: "/6", Error: e, Wait: 42}
	}
	for _, e := range []string{Wrong, Throttled, Busy} {
		pages["forgot, "+e] = Forgot{Email: "3@4.5", Error: e, Wait: 42}
	}
	proofs := []string{"password", "code", "backup_code"} // a passkey's page is above
	for _, with := range proofs {
		others := slices.DeleteFunc(slices.Clone(proofs), func(s string) bool { return s == with })
		errors := []string{"", Wrong, Throttled, Busy, TooLong}
		if with == "code" {
			errors = []string{"", Wrong, Used, Paused, Throttled, Busy}
		}
		for _, e := range errors {
			pages["confirm with "+with+" "+e] = Confirm{Name: "1 2", Email: "3@4.5", For: "codes", With: with, Others: others, To: "/6", CancelURL: "/7", OtherURL: "/8", Error: e, Wait: 42}
		}
	}
	pages["confirm with Google"] = Confirm{Name: "1 2", Email: "3@4.5", For: "enable", With: "google", To: "/6", CancelURL: "/7", OtherURL: "/8"}
	for _, what := range []string{"enable", "disable", "codes", "end_session", "end_others", "workspace", "not_me", "passkey_add", "passkey_remove", "", "unheard-of"} {
		pages["confirm for "+what] = Confirm{Email: "3@4.5", For: what, Workspace: "9", With: "code", To: "/6"}
	}

	row := SessionRow{ID: "1", Device: someDevice, SeenAt: now.Add(-3 * time.Hour), SignedInAt: now, How: "password_code", Workspaces: []string{"8", "9"}}
	active := SessionRow{ID: "2", Device: Device{OS: "2", Kind: "tablet", Address: "4.5.6.7"}, Active: true, SignedInAt: now, How: "unheard-of"}
	unknown := SessionRow{ID: "3", SeenAt: now.AddDate(-1, 0, 0), SignedInAt: now.AddDate(-1, 0, 0), How: "google_backup_code"}
	sessions := Sessions{Account: someone, This: active, Others: []SessionRow{row, active, unknown}, More: 1, Access: 15}
	pages["sessions"] = sessions
	sessions.Zone, sessions.More, sessions.Access = zone, 2, 1
	pages["sessions, in a zone"] = sessions
	for name, ask := range map[string]*SessionRow{"": &row, ", active": &active, ", unknown": &unknown} {
		sessions.Ask = ask
		pages["sessions, ask"+name] = sessions
	}
	sessions.Ask, sessions.AskAll = nil, true
	pages["sessions, ask for all"] = sessions

	activity := Activity{Account: someone, Next: "/6"}
	for i, kind := range append(eventKinds(), "unheard-of") {
		at := now.Add(-time.Duration(i) * 9 * time.Hour)
		activity.Events = append(activity.Events,
			ActivityEvent{Kind: kind, At: at, Device: someDevice, How: "password_code", Count: 8, Other: &someDevice, Passkeys: []string{"1", "2"}},
			ActivityEvent{Kind: kind, At: at, How: "google_code", New: true, Count: 1, Support: true, Case: "9"},
			ActivityEvent{Kind: kind, At: at, New: true, Support: true, Other: &someDevice},
			ActivityEvent{Kind: kind, At: at, Device: Device{Browser: "1"}, New: true})
	}
	pages["activity"] = activity
	activity.Zone = zone
	pages["activity, in a zone"] = activity
	return pages
}

func notices() []string {
	var keys []string
	for key := range english().Text {
		if name, ok := strings.CutPrefix(key, "notice."); ok && !strings.Contains(name, ".") {
			keys = append(keys, name)
		}
	}
	return keys
}

func eventKinds() []string {
	return []string{
		"signed_in", "signed_in_again", "signed_out", "code_failed", "codes_paused", "password_changed", "password_reset", "password_reset_requested",
		"reset_link_made", "two_factor_enabled", "two_factor_disabled", "two_factor_reset", "backup_codes_made", "backup_code_used", "session_ended",
		"sessions_ended", "user_created", "user_disabled", "user_enabled", "invited", "unthrottled", "email_changed", "method_google", "method_password", "refresh_token_reused",
		"passkey_added", "passkey_renamed", "passkey_removed", "passkey_refused",
	}
}

// said is the text of a page as people read it.
func said(t *testing.T, p Page) string {
	t.Helper()
	var words []string
	for _, n := range parse(t, render(t, Renderer{Links: someLinks}, p)) {
		if n.text != "" {
			words = append(words, strings.Join(strings.Fields(n.text), " "))
		}
	}
	return html.UnescapeString(strings.Join(words, " "))
}

// The words that people were promised.
func TestSeeds(t *testing.T) {
	pages := accountPages()
	for name, words := range map[string][]string{
		"security": {
			"Manage how you sign in: your password, two-factor authentication, and password-reset email.",
			"Password reset email", "Send yourself a password-reset link.", "Two-factor authentication (2FA)", "Enable 2FA",
			"2FA adds a second layer of security to your account. Even if someone steals your password, they can’t sign in without the verification code generated by your mobile authenticator app.",
			"Change password", "Change your password directly from inside Harmony.", "Current Password", "New Password", "Confirm New Password", "Save Changes",
			"User preferences", "Security", "Sessions", "Activity", "contact support",
		},
		"security, on": {"Disable 2FA", "You’ll be asked for a 6-digit code from your authenticator every time you start a new session.", "Backup codes: 8 of 10 left", "Make new codes"},
		"enable": {
			"Why enable 2FA?", "Protection Against Password Theft", "Blocks unauthorized access even if credentials are leaked.", "Secure Sensitive Data",
			"Adds a barrier around your meeting transcripts and business insights.", "Compliance", "Meets security standards required by many enterprise organizations.", "Enable 2FA",
		},
		"set up": {
			"Set Up Two-Factor Authentication", "Enter verification code", "I have saved my backup codes", "Verify", "Google Authenticator, Authy, Microsoft Authenticator, 1Password, etc.",
			"If you lose your phone or delete your authenticator app, these codes are the only way to regain access to your account.",
		},
		"disable": {"Once disabled, sign-in will only ask for your password. Make sure you still have a strong, unique password before doing this.", "Disable 2FA"},
	} {
		got := said(t, pages[name])
		for _, want := range words {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %q", name, want, got)
			}
		}
	}
	if got := said(t, pages["security, Google"]); strings.Contains(got, "steals your password") || strings.Contains(got, "Change password") {
		t.Errorf("Google: %q", got)
	}
}

// inputs are the fields of a page by name, those of the dialog first.
func inputs(t *testing.T, p Page) map[string]map[string]string {
	t.Helper()
	out := make(map[string]map[string]string)
	for _, n := range parse(t, render(t, Renderer{}, p)) {
		if name := n.attrs["name"]; n.name == "input" && out[name] == nil {
			out[name] = n.attrs
		}
	}
	return out
}

// ST-1, GO: who signs in with Google has no password here, neither to change nor to
// reset: that would be another sign-in method.
func TestGoogleHasNoPassword(t *testing.T) {
	for name, p := range accountPages() {
		s, ok := p.(Security)
		if !ok {
			continue
		}
		s.Method = "google"
		page := render(t, Renderer{}, s)
		for _, not := range []string{`type="password"`, "/preferences/security/password", "/preferences/security/reset-email", `name="username"`} {
			if strings.Contains(page, not) {
				t.Errorf("%s: %s", name, not)
			}
		}
		if !strings.Contains(page, `href="https://myaccount.google.com/security"`) {
			t.Errorf("%s: no way to Google", name)
		}
	}
}

// OTP-1, OTP-7, WCAG F109: one field, drawn as six boxes.
func TestOneFieldSixBoxes(t *testing.T) {
	pages := accountPages()
	for _, name := range []string{"verify", "verify, wrong", "set up", "set up, wrong", "confirm with code "} {
		var fields []map[string]string
		boxes := 0
		for _, n := range parse(t, render(t, Renderer{}, pages[name])) {
			if n.name == "input" && n.attrs["type"] == "text" && n.attrs["name"] != "username" {
				fields = append(fields, n.attrs)
			}
			if n.name == "i" {
				boxes++
			}
		}
		if len(fields) != 1 || boxes != 6 {
			t.Fatalf("%s: %d fields, %d boxes", name, len(fields), boxes)
		}
		got := fields[0]
		for attr, want := range map[string]string{
			"id": "code", "name": "code", "inputmode": "numeric", "autocomplete": "one-time-code", "pattern": `[0-9 \-]*`, "spellcheck": "false", "enterkeyhint": "go", "required": "required",
		} {
			if got[attr] != want {
				t.Errorf("%s: %s is %q, want %q", name, attr, got[attr], want)
			}
		}
		for _, attr := range []string{"value", "maxlength"} {
			if _, ok := got[attr]; ok {
				t.Errorf("%s: the field has %s", name, attr)
			}
		}
	}
}

// OTP-4: the script sends the code where that is said and nowhere else.
func TestCodeIsSentOnlyWhenSigningIn(t *testing.T) {
	for name, p := range accountPages() {
		v, ok := p.(Verify)
		want := ok && v.Error == "" && !v.NoApp
		page := render(t, Renderer{}, p)
		if strings.Contains(page, "data-sends") != want || strings.Contains(page, "as soon as you enter the sixth digit") != want {
			t.Errorf("%s: sent at once: want %v", name, want)
		}
	}
}

// CP-1, FP-4, BC-1: what password managers fill in, and what they must not.
func TestAutocomplete(t *testing.T) {
	pages := accountPages()
	for name, want := range map[string]map[string]string{
		"security":                  {"username": "username", "current_password": "current-password", "new_password": "new-password", "confirm_password": "new-password"},
		"reset":                     {"username": "username", "new_password": "new-password", "confirm_password": "new-password"},
		"confirm with password ":    {"username": "username", "password": "current-password"},
		"confirm with code ":        {"code": "one-time-code"},
		"confirm with backup_code ": {"backup_code": "off"},
		"verify":                    {"code": "one-time-code"},
		"backup code":               {"backup_code": "off"},
		"disable, wrong":            {"code": "one-time-code", "username": "username", "current_password": "current-password", "new_password": "new-password", "confirm_password": "new-password"},
		"forgot":                    {"email": "username"},
	} {
		got := make(map[string]string)
		for field, attrs := range inputs(t, pages[name]) {
			if token, ok := attrs["autocomplete"]; ok {
				got[field] = token
			}
			if attrs["type"] == "password" && attrs["value"] != "" {
				t.Errorf("%s: %s came back", name, field)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	page := render(t, Renderer{}, pages["security"])
	if strings.Index(page, `name="username"`) > strings.Index(page, `name="current_password"`) {
		t.Error("the address comes after the password")
	}
}

// TF-5: a mistake changes nothing of what was scanned and saved; what was typed is
// gone, what was ticked stays.
func TestSetUpIsTheSameAfterAnError(t *testing.T) {
	shown := func(p Page) []string {
		page := render(t, Renderer{}, p)
		return regexp.MustCompile(`src="data:[^"]*"|<code.*</code>|href="otpauth:[^"]*"|<li>[0-9-]*</li>|<p class="paper">.*</p>`).FindAllString(page, -1)
	}
	pages := accountPages()
	first := shown(pages["set up"])
	if len(first) != 7 || first[1] != `href="otpauth://totp/1:2%40?secret=3&amp;issuer=4"` || html.UnescapeString(first[2]) != `src="data:image/svg+xml;base64,0123+/4567=="` {
		t.Fatalf("%q", first)
	}
	for _, e := range []string{Wrong, NotSaved, Throttled} {
		p := pages["set up, "+e]
		if again := shown(p); !slices.Equal(first, again) {
			t.Errorf("%s: %q, want %q", e, again, first)
		}
		in := inputs(t, p)
		_, saved := in["saved"]["checked"]
		_, ends := in["sign_out_others"]["checked"]
		if saved != (e != NotSaved) || ends || in["code"]["value"] != "" {
			t.Errorf("%s: saved %v, others end %v, code %q", e, saved, ends, in["code"]["value"])
		}
		if !strings.Contains(render(t, Renderer{}, p), `form="again"`) {
			t.Errorf("%s: no way to start again", e)
		}
	}
}

// The Enter key presses the first button of a form: that has to be what the form
// is for. So does the one choice that is safe while nothing is chosen.
func TestFirstButton(t *testing.T) {
	for name, p := range accountPages() {
		s, ok := p.(Security)
		if !ok || s.SetUp == nil {
			continue
		}
		page := render(t, Renderer{}, p)
		form := page[strings.Index(page, `action="/preferences/security/2fa/verify"`):]
		first := regexp.MustCompile(`<button[^>]*type="submit"(?:>| [^>]*>)[^<]*`).FindAllString(form, -1)
		first = slices.DeleteFunc(first, func(b string) bool { return strings.Contains(b, `form="`) })
		if !strings.HasSuffix(first[0], ">Verify") {
			t.Errorf("%s: Enter presses %q", name, first[0])
		}
	}
}

// ASVS 7.4.3, CP-6: other sessions end unless somebody said no, also those that
// began after the page was made.
func TestOthersEndByDefault(t *testing.T) {
	for _, c := range []struct {
		others int
		keep   bool
		want   string // the type of the field
		on     bool
	}{
		{2, false, "checkbox", true},
		{2, true, "checkbox", false},
		{0, false, "hidden", true},
		{0, true, "hidden", true},
	} {
		setUp := someSetUp()
		setUp.Others, setUp.Keep = c.others, c.keep
		tab := Security{Method: "password", Password: NewPassword{Others: c.others, Keep: c.keep}}
		withSetUp := Security{Method: "google", SetUp: setUp}
		for _, p := range []Page{tab, withSetUp} {
			got := inputs(t, p)["sign_out_others"]
			_, checked := got["checked"]
			if got["type"] != c.want || (checked || got["value"] == "on") != c.on {
				t.Errorf("%+v: %v", c, got)
			}
		}
	}
}

// A URL of another kind than set-ups have is no link and no picture, but an error.
func TestSetUpURLs(t *testing.T) {
	for _, evil := range []string{"", "javascript:alert(1)", "https://evil.example/?otpauth:", "data:text/html,<script>", " otpauth://totp/", "OTPAUTH:x"} {
		for _, change := range []func(*SetUp){func(s *SetUp) { s.QR = evil }, func(s *SetUp) { s.URI = evil }} {
			setUp := someSetUp()
			change(setUp)
			if err := Render(&strings.Builder{}, Security{Method: "password", SetUp: setUp}); err == nil {
				t.Errorf("%q was taken", evil)
			}
		}
	}
	setUp := someSetUp()
	setUp.QR, setUp.URI = `data:image/svg+xml," onerror="alert(1)`, `otpauth:"><script>alert(1)</script>`
	page := render(t, Renderer{}, Security{Method: "password", SetUp: setUp})
	for _, n := range parse(t, page) {
		if n.attrs["onerror"] != "" || n.name == "script" && n.attrs["src"] == "" {
			t.Errorf("<%s %v>", n.name, n.attrs)
		}
	}
}

// A backup code proves nothing twice and is asked for nowhere else: neither page
// says how many there are (BC-6).
func TestBackupCodePageDoesNotCount(t *testing.T) {
	for _, e := range []string{"", Wrong, Throttled} {
		if got := said(t, BackupCode{Email: "a•••e@example.com", To: "/", Error: e, Wait: 7}); strings.Contains(got, "left") {
			t.Errorf("%q", got)
		}
	}
}

// FP-1: one answer, whatever the address.
func TestForgotAnswersTheSame(t *testing.T) {
	if a, b := render(t, Renderer{}, Forgot{Sent: true}), render(t, Renderer{}, Forgot{Sent: true, Email: "ada@example.com"}); a != b {
		t.Errorf("%s\n\n%s", a, b)
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		page Page
		want []string
	}{
		{Verify{Error: Wrong}, []string{"That code isn’t right. Check that your app shows Harmony and enter the newest code.", `href="#code"`}},
		{Verify{Error: Used}, []string{"That code was already used. Wait for the next one."}},
		{Verify{Error: Throttled, Wait: 42}, []string{"Too many attempts. Try again in 42 seconds."}},
		{Verify{Error: Paused, To: "/a?b=c&d"}, []string{"Codes from your app are paused", `href="/login/backup-code?to=%2fa%3fb%3dc%26d"`}},
		{Verify{Google: true}, []string{"Google confirmed your account. Now enter your Harmony code."}},
		{Security{Method: "password", Password: NewPassword{Error: Weak, Reason: WeakShort, MinLength: 15}}, []string{"Use at least 15 characters.", `href="#new_password"`, `id="new_password-error"`}},
		{Security{Method: "password", Password: NewPassword{Error: WrongCurrent}}, []string{`href="#current_password"`}},
		{Security{Method: "password", Password: NewPassword{Error: Mismatch}}, []string{`href="#confirm_password"`, `data-match="new_password"`}},
		{Security{Method: "password", TwoFactor: &TwoFactor{}, Disable: &Disable{AskCode: true, Error: Wrong}}, []string{"or a backup code", `href="#code"`}},
		{Confirm{With: "password", Error: Wrong}, []string{"Check your password and try again.", `href="#password"`}},
		{Confirm{With: "backup_code", Error: Wrong}, []string{"That backup code isn’t right", `href="#backup_code"`}},
		{Confirm{With: "code", For: "codes"}, []string{"You’re about to make new backup codes. Open your authenticator app and enter the <span class=\"nb\">6-digit</span> code"}},
		{Confirm{With: "code", For: "workspace", Workspace: "Acme"}, []string{"Acme asks"}},
		{Confirm{With: "code", For: "end_session", Others: []string{"backup_code"}, To: "/x?id=1"}, []string{`href="/login/confirm?for=end_session&amp;with=backup_code&amp;to=%2fx%3fid%3d1"`}},
		{SignIn{Notice: "password_reset"}, []string{"Password changed. Sign in with the new one.", `class="notice good" role="status"`}},
		{SignIn{Notice: "google_cancelled"}, []string{"Google sign-in was cancelled.", `class="notice" role="status"`}},
		{SignIn{Notice: "google_unverified"}, []string{"Google hasn’t verified that email address.", `class="notice warn" role="status"`}},
		{Security{Method: "password", Account: Account{Notice: "sessions_ended", NoticeText: "1"}}, []string{"You signed out 1 other session."}},
		{Security{Method: "password", Account: Account{Notice: "sessions_ended", NoticeText: "4"}}, []string{"You signed out 4 other sessions."}},
		{BackupCodeUsed{Left: 7, Total: 10}, []string{"You used a backup code.</span> 7 left.", `aria-label="7 of 10 backup codes left"`}},
		{BackupCodeUsed{Total: 10}, []string{"You have no backup codes"}},
	} {
		raw := render(t, Renderer{}, c.page)
		page := html.UnescapeString(raw)
		for _, want := range c.want {
			if !strings.Contains(page, want) && !strings.Contains(raw, want) {
				t.Errorf("%+v: no %q in\n%s", c.page, want, page)
			}
		}
	}
}

// §11: every event in plain words.
func TestEvents(t *testing.T) {
	edge := &Device{Browser: "Edge", OS: "Windows"}
	for _, c := range []struct {
		event ActivityEvent
		want  string
	}{
		{ActivityEvent{Kind: "signed_in", How: "password_code"}, "Signed in with password and code"},
		{ActivityEvent{Kind: "signed_in", How: "password_code", New: true}, "Signed in on a new browser with password and code"},
		{ActivityEvent{Kind: "signed_in", New: true}, "Signed in on a new browser"},
		{ActivityEvent{Kind: "signed_in_again", How: "code"}, "Confirmed it was you with code"},
		{ActivityEvent{Kind: "signed_in_again"}, "Confirmed it was you"},
		{ActivityEvent{Kind: "code_failed", How: "password"}, "Right password, but the code was wrong"},
		{ActivityEvent{Kind: "code_failed", How: "passkey"}, "Right security key, but the code was wrong"},
		{ActivityEvent{Kind: "method_google", Support: true, Case: "4711"}, "Harmony support switched your sign-in to Google"},
		{ActivityEvent{Kind: "code_failed", How: "google"}, "Google confirmed it was you, but the code was wrong"},
		{ActivityEvent{Kind: "backup_code_used", Count: 8}, "Used a backup code. 8 left"},
		{ActivityEvent{Kind: "backup_code_used"}, "Used a backup code. None left"},
		{ActivityEvent{Kind: "session_ended", Other: edge}, "You signed out Edge on Windows"},
		{ActivityEvent{Kind: "session_ended", Other: edge, Support: true}, "Harmony support signed out Edge on Windows"},
		{ActivityEvent{Kind: "session_ended"}, "You signed out another session"},
		{ActivityEvent{Kind: "sessions_ended", Count: 4}, "Signed out 4 other sessions"},
		{ActivityEvent{Kind: "sessions_ended", Count: 1}, "Signed out 1 other session"},
		{ActivityEvent{Kind: "sessions_ended", Count: 4, Support: true}, "Harmony support signed out all your sessions"},
		{ActivityEvent{Kind: "two_factor_reset", Support: true, Case: "4711"}, "Harmony support reset your 2FA"},
		{ActivityEvent{Kind: "two_factor_reset", Support: true, Case: "4711"}, "By Harmony support, case 4711 · 13:41 UTC"},
		{ActivityEvent{Kind: "user_disabled", Support: true}, "By Harmony support · 13:41 UTC"},
		{ActivityEvent{Kind: "signed_out", Device: Device{Browser: "Chrome", OS: "macOS", Place: "Lisbon, Portugal", Address: "203.0.113.7"}},
			"Chrome on macOS · Lisbon, Portugal (approximate) · 203.0.113.7 · 13:41 UTC"},
		{ActivityEvent{Kind: "signed_out", Device: Device{Address: "203.0.113.7"}}, "Unknown browser · 203.0.113.7 · 13:41 UTC"},
		{ActivityEvent{Kind: "signed_out", Device: Device{OS: "Windows"}}, "Unknown browser on Windows · 13:41 UTC"},
		{ActivityEvent{Kind: "refresh_token_reused", Workspace: "Acme"}, "Acme was disconnected: a key that it had replaced was used again At Acme · 13:41 UTC"},
		{ActivityEvent{Kind: "signed_in", How: "passkey", New: true}, "Signed in on a new browser with passkey"},
		{ActivityEvent{Kind: "signed_in", How: "google_passkey"}, "Signed in with Google and passkey"},
		{ActivityEvent{Kind: "passkey_added", Passkeys: []string{"Work"}}, "Passkey “Work” added"},
		{ActivityEvent{Kind: "passkey_renamed", Passkeys: []string{"Work", "Home"}}, "Passkey “Work” renamed “Home”"},
		{ActivityEvent{Kind: "passkey_removed", Passkeys: []string{"Work"}}, "Passkey “Work” removed"},
		{ActivityEvent{Kind: "passkey_refused", Passkeys: []string{"Work"}}, "Passkey “Work” refused: there may be a copy of it"},
		{ActivityEvent{Kind: "unheard-of"}, "A change to your account’s security"},
	} {
		c.event.At = time.Date(2026, 9, 24, 13, 41, 0, 0, time.UTC)
		got := strings.ReplaceAll(said(t, Activity{Events: []ActivityEvent{c.event}}), "· ", "· ")
		if !strings.Contains(strings.ReplaceAll(got, "\u00a0", " "), c.want) {
			t.Errorf("%+v: no %q in %q", c.event, c.want, got)
		}
	}
	for _, kind := range eventKinds() {
		if english().Text["event."+kind] == "" {
			t.Errorf("%s has no words", kind)
		}
	}
}

// SE-1, SE-2: what is said of a session, and what its button is called.
func TestSessionRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		firefox := SessionRow{
			ID: "s1", Device: Device{Browser: "Firefox", OS: "Windows", Kind: "desktop", Place: "Porto, Portugal"}, SeenAt: now.Add(-3 * time.Hour),
			SignedInAt: time.Date(1999, 9, 20, 0, 0, 0, 0, time.UTC), How: "password_code", Workspaces: []string{"Acme", "Beta Labs"},
		}
		p := Sessions{Account: Account{Zone: time.UTC}, This: SessionRow{SignedInAt: now, How: "google"}, Others: []SessionRow{firefox}, More: 3, Access: 15}
		got := strings.ReplaceAll(said(t, p), "\u00a0", " ")
		for _, want := range []string{
			"This device Unknown browser Active now", "Signed in 1 Jan with Google", "Firefox on Windows Porto, Portugal (approximate) · Last active 3 hours ago",
			"Signed in 20 Sep 1999 with password + code · Acme, Beta Labs", "Sign out Firefox on Windows, Porto, Portugal", "Sign out all other sessions (4)",
			"3 more sessions aren’t shown.", "Workspaces notice within 15 minutes.",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %q", want, got)
			}
		}
		p.Ask = &firefox
		if page := render(t, Renderer{}, p); !strings.Contains(page, "Sign out Firefox on Windows?") || !strings.Contains(page, `href="/preferences/sessions#end-s1"`) || !strings.Contains(page, `id="end-s1"`) {
			t.Error(page)
		}
		p.Others = nil
		p.Ask = nil
		if got := said(t, p); !strings.Contains(got, "You’re only signed in here.") {
			t.Error(got)
		}
	})
}

// Which tab is current is said to everybody.
func TestTabs(t *testing.T) {
	for _, c := range []struct {
		page Page
		want string
	}{
		{Security{Method: "password"}, "/preferences/security"}, {Sessions{}, "/preferences/sessions"}, {Activity{}, "/preferences/activity"}, {NotMe{CancelURL: "/"}, "/preferences/activity"},
	} {
		var current []string
		for _, n := range parse(t, render(t, Renderer{}, c.page)) {
			if n.attrs["aria-current"] == "page" {
				current = append(current, n.attrs["href"])
			}
		}
		if !slices.Equal(current, []string{c.want}) {
			t.Errorf("%s: %v", reflect.TypeOf(c.page), current)
		}
	}
}

// What was done to a passkey is told in the section that its form leads back to, the
// last of a long page; everything else at the top.
func TestNoticeIsWhereItsFormLeads(t *testing.T) {
	for _, name := range notices() {
		p := Security{Method: "password", Passkeys: &PasskeyList{}, Account: Account{Notice: name, NoticeText: "1"}}
		page := render(t, Renderer{}, p)
		at, section := strings.Index(page, `role="status"`), strings.Index(page, `id="passkeys"`)
		if inside := strings.HasPrefix(name, "passkey_"); at < 0 || section < 0 || (at > section) != inside || strings.Count(page, `role="status"`) != 1 {
			t.Errorf("%s: the notice is at %d, the section at %d, in it: %v", name, at, section, inside)
		}
	}
}

// A dialog gives the page its title, so that tabs of a browser can be told apart.
func TestTitles(t *testing.T) {
	pages := accountPages()
	for name, want := range map[string]string{
		"security":                  "Account security – Harmony",
		"security, mismatch":        "Error: Account security – Harmony",
		"enable":                    "Enable two-factor authentication? – Harmony",
		"set up":                    "Set Up Two-Factor Authentication – Harmony",
		"set up, wrong":             "Error: Set Up Two-Factor Authentication – Harmony",
		"disable":                   "Disable two-factor authentication? – Harmony",
		"codes, left 1":             "Make new backup codes? – Harmony",
		"codes, to save":            "Save your new backup codes – Harmony",
		"sessions":                  "Active sessions – Harmony",
		"sessions, ask":             "Sign out another session? – Harmony",
		"sessions, ask for all":     "Sign out all other sessions? – Harmony",
		"reset, invited":            "Choose a password – Harmony",
		"add a passkey ":            "Add a passkey or security key – Harmony",
		"rename a passkey bad_name": "Error: Rename your passkey – Harmony",
		"remove a passkey ":         "Remove this passkey? – Harmony",
		"verify":                    "Enter verification code – Harmony",
	} {
		if page := render(t, Renderer{}, pages[name]); !strings.Contains(page, "<title>"+want+"</title>") {
			t.Errorf("%s: no title %q", name, want)
		}
	}
}

// B1: a browser stops a form that may end at a workspace if the page says that its
// forms stay here.
func TestFormsLeaveForAWorkspace(t *testing.T) {
	for what, c := range map[string]struct {
		page Page
		want bool
	}{
		"the tab":              {Security{}, false},
		"set-up of one's own":  {Security{SetUp: &SetUp{}}, false},
		"set-up on the way":    {Security{SetUp: &SetUp{To: "/authorize/resume?id=1"}}, true},
		"before it":            {Security{Enable: &Enable{To: "/authorize/resume?id=1"}}, true},
		"new codes on the way": {Security{Codes: &Codes{To: "/authorize/resume?id=1"}}, true},
		"a code":               {Verify{AnyOrigin: true}, true},
		"a backup code":        {BackupCode{AnyOrigin: true}, true},
		"a confirmation":       {Confirm{AnyOrigin: true}, true},
		"a reset":              {Reset{}, false},
	} {
		if FormsLeave(c.page) != c.want {
			t.Errorf("%s: %v", what, !c.want)
		}
	}
}
