package templates

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// SignIn is the sign-in page and, with Fixed, "Confirm it’s you". Its form
// posts the fields email, password and to (if To is set) to /login.
type SignIn struct {
	Workspace string // the client's display name; "" where nobody but the account pages asked
	To        string // local path to go on to
	Name      string // with Fixed, the person's name, if there is one
	Email     string // kept after a mistake, or from login_hint
	Fixed     bool   // re-authentication: whose account it is stands fixed
	OtherURL  string // with Fixed, where "Use another account" leads
	Error     string // Wrong, Throttled, TooLong, Busy, or "" for none
	Wait      int    // seconds, with Throttled and Busy
	GoogleURL string // where "Continue with Google" leads; "" where nobody signs in that way
	Google    bool   // with Fixed: whose account it is signs in with Google
	Passkeys  bool   // people can sign in with a passkey
	Signal    string // what the script tells the browser of a passkey, as JSON; "" for nothing
	Notice    string // what was just done, a key below "notice." in the catalogue; "" for nothing
	AnyOrigin bool   // the form may end at a workspace (see FormsLeave)
}

// Why signing in did not work. There is one error for everything that is wrong
// about an address and a password: what exactly must not be told (SI-5).
const (
	Wrong     = "wrong"
	Throttled = "throttled"
	TooLong   = "too_long"
	Busy      = "busy"
)

// Why a passkey did not work.
const (
	WrongPasskey    = "wrong_passkey"
	UnknownPasskey  = "unknown_passkey" // nobody has it, or not any more
	NotVerified     = "not_verified"    // it did not check who holds it
	Cloned          = "cloned"          // there may be a copy of it
	PasskeyOver     = "passkey_over"    // too late, or twice, or not asked for here
	PasskeyTaken    = "passkey_taken"   // it is somebody's already
	TooManyPasskeys = "too_many_passkeys"
	BadName         = "bad_name" // the name that it was to have
	LastWay         = "last_way" // it is the last one that the person has to have
)

func (p SignIn) name() string { return "sign-in" }
func (p SignIn) failed() bool { return p.Error != "" }
func (p SignIn) leaves() bool { return p.AnyOrigin }
func (p SignIn) title(v *view) string {
	if p.Fixed {
		return v.Text["confirm.title"]
	}
	return v.Text["sign_in.page"]
}

func (p SignIn) notice() (string, string) { return p.Notice, "" }

// Which of the two is wrong must not be told, so both are blamed (SI-5).
func (p SignIn) problem() problem {
	q := problem{Title: "sign_in.failed", Text: "sign_in." + p.Error, Wait: p.Wait}
	if p.Blames() {
		q.Link, q.At, q.Beside = "email", "password", "sign_in.wrong_field"
	}
	if p.Fixed {
		q.Title = "confirm.failed"
		if p.Error == Wrong {
			q.Text = "sign_in.wrong_fixed"
		}
		if p.Blames() {
			q.Link, q.At, q.Beside = "password", "password", "sign_in.wrong_field_fixed"
		}
	}
	return q
}

// OnlyGoogle reports whether Google is the one way in.
func (p SignIn) OnlyGoogle() bool { return p.Fixed && p.Google && p.GoogleURL != "" }

// Blames reports whether the error is about what was entered.
func (p SignIn) Blames() bool { return p.Error == Wrong || p.Error == TooLong }

// Initials stand for the person whose account is fixed.
func (p SignIn) Initials() string { return initials(p.Name, p.Email) }

// Message is every error page, and every page that has one thing to say.
// Title, Text and Action are keys of the catalogue ("link_broken.title") or
// the words themselves; a Title or Text left empty is that of the Status.
type Message struct {
	Status            int // 400 and above is an error
	Title, Text       string
	Wait              int    // seconds after which to try again, 0 for none
	Site              string // with 421, the host where we are
	Action, ActionURL string // the button
	Reference         string // what support finds in the log
}

func (p Message) name() string { return "message" }
func (p Message) failed() bool { return p.Status >= 400 }
func (p Message) leaves() bool { return false }
func (p Message) title(v *view) string {
	s, err := v.heading(p)
	if err != nil {
		return p.Title
	}
	return s
}

// Heading is the h1 of a Message.
func (v *view) Heading() (string, error) { return v.heading(v.Page.(Message)) }

func (v *view) heading(p Message) (string, error) {
	return v.Say(cmp.Or(p.Title, v.ofStatus(p.Status, "title")))
}

// Words is the text of a Message.
func (v *view) Words() (string, error) {
	p := v.Page.(Message)
	return v.Say(cmp.Or(p.Text, v.ofStatus(p.Status, "text")), "site", p.Site)
}

// Button is the text of a Message's button.
func (v *view) Button() (string, error) {
	p := v.Page.(Message)
	return v.Say(cmp.Or(p.Action, v.ofStatus(p.Status, "action")), "site", p.Site)
}

// ofStatus is the key of what is said about a status that has no words of its own.
func (v *view) ofStatus(status int, part string) string {
	key := "error." + strconv.Itoa(status) + "." + part
	if _, ok := v.Text[key]; ok {
		return key
	}
	if part == "action" {
		return "error.home"
	}
	if status < 500 {
		return "error.400." + part
	}
	return "error.500." + part
}

// A Field is a hidden field of a form.
type Field struct{ Name, Value string }

// SignOut asks whether to sign out. Its form posts Fields to Action.
type SignOut struct {
	Name, Email string   // who is signed in
	Workspaces  []string // what else ends
	Fields      []Field
	Action      string
	StayURL     string // where "Stay" leads; "" leaves it out
	AnyOrigin   bool   // the form may end at a workspace (see FormsLeave)
}

func (p SignOut) name() string         { return "sign-out" }
func (p SignOut) failed() bool         { return false }
func (p SignOut) leaves() bool         { return p.AnyOrigin }
func (p SignOut) title(v *view) string { return v.Text["sign_out.title"] }

// Initials stand for the person.
func (p SignOut) Initials() string { return initials(p.Name, p.Email) }

// Consent asks whether a third-party workspace may have what it asks for. Its form
// posts id and decision (allow or deny) to Action.
type Consent struct {
	Workspace   string // its display name
	Host        string // where the browser will go; "" for an app on this device
	Name, Email string // who is signed in
	Scopes      []string
	Action, ID  string
}

func (p Consent) name() string { return "consent" }
func (p Consent) failed() bool { return false }
func (p Consent) leaves() bool { return true }
func (p Consent) title(v *view) string {
	s, err := v.T("consent.title", "workspace", p.Workspace)
	if err != nil {
		return p.Workspace
	}
	return s
}

// Initials stand for the person.
func (p Consent) Initials() string { return initials(p.Name, p.Email) }

// An allowance is a scope in words.
type allowance struct{ Icon, Title, Text string }

// scopeIcons are the icons of the scopes that have words.
var scopeIcons = map[string]string{"openid": "check", "profile": "sliders", "email": "mail", "phone": "phone", "address": "house", "offline_access": "key"}

// Allowed are scopes in words; one that has none is named.
func (v *view) Allowed(scopes []string) ([]allowance, error) {
	var out []allowance
	for _, scope := range scopes {
		if icon := scopeIcons[scope]; icon != "" {
			out = append(out, allowance{icon, v.Text["consent.scope."+scope], v.Text["consent.scope."+scope+".text"]})
			continue
		}
		title, err := v.T("consent.scope.other", "scope", scope)
		if err != nil {
			return nil, err
		}
		out = append(out, allowance{"info", title, v.Text["consent.scope.other.text"]})
	}
	return out, nil
}

// FormPost has the browser post Fields to a workspace, by itself or at a press.
type FormPost struct {
	Workspace string // its display name
	Action    string // its redirect URI
	Fields    []Field
}

func (p FormPost) name() string         { return "form-post" }
func (p FormPost) failed() bool         { return false }
func (p FormPost) leaves() bool         { return true }
func (p FormPost) title(v *view) string { return v.Text["form_post.title"] }
func (p FormPost) formAction() string   { return p.Action }

// FormAction is the one URI that the page's forms may be sent to, "" if FormsLeave
// decides.
func FormAction(p Page) string {
	if one, ok := p.(interface{ formAction() string }); ok {
		return one.formAction()
	}
	return ""
}

// SignedOut is the page after signing out.
type SignedOut struct {
	SignInURL  string
	Workspaces []Receipt // where the person was signed in, too
}

// A Receipt is what a workspace answered to the end of a session.
type Receipt struct {
	Workspace  string
	State      string    // Confirmed, Waiting, NoAnswer or NotTold
	At         time.Time // with Confirmed
	AccessEnds time.Time // at the latest, confirmed or not
}

// The states of a Receipt.
const (
	Confirmed = "confirmed"
	Waiting   = "waiting"   // no answer yet
	NoAnswer  = "no_answer" // and none to come
	NotTold   = "not_told"  // the workspace does not want to know
)

// Over reports whether the workspace's access has ended by now.
func (r Receipt) Over() bool { return !time.Now().Before(r.AccessEnds) }

// Waits reports whether a workspace has yet to answer.
func (p SignedOut) Waits() bool {
	return slices.ContainsFunc(p.Workspaces, func(r Receipt) bool { return r.State == Waiting })
}

// Text is the key of what is said of the workspaces.
func (p SignedOut) Text() string {
	switch {
	case p.Waits():
		return "signed_out.waiting"
	case len(p.Workspaces) > 0 && !slices.ContainsFunc(p.Workspaces, func(r Receipt) bool { return r.State != Confirmed }):
		return "signed_out.confirmed"
	case len(p.Workspaces) > 0:
		return "signed_out.workspaces"
	}
	return "signed_out.text"
}

func (p SignedOut) name() string         { return "signed-out" }
func (p SignedOut) failed() bool         { return false }
func (p SignedOut) leaves() bool         { return false }
func (p SignedOut) title(v *view) string { return v.Text["signed_out.title"] }

// DemoHome is a demo workspace before signing in.
type DemoHome struct {
	Workspace string
	SignInURL string
	SignedOut bool // just now
}

func (p DemoHome) name() string         { return "demo-home" }
func (p DemoHome) failed() bool         { return false }
func (p DemoHome) leaves() bool         { return true }
func (p DemoHome) title(v *view) string { return v.demo(p.Workspace) }

// DemoClaims is a demo workspace after signing in: everything it was told.
type DemoClaims struct {
	Workspace string
	Name      string      // the person's, for the greeting; may be ""
	Claims    []DemoClaim // of the ID token
	UserInfo  []DemoClaim // of the userinfo endpoint
	Algorithm string      // that signed the ID token

	IDTokenHeader, IDTokenPayload string // decoded, as indented JSON
	AccessToken, RefreshToken     string
	Expires                       string // when the access token does

	Other, OtherURL string // the other workspace
	FreshURL        string // asks for a fresh sign-in
	RefreshURL      string // takes the POST of the Refresh button
	SecurityURL     string // the Security tab at the provider
	SignOutURL      string // takes the POST of the Sign out button
}

// A DemoClaim is one claim, its value as text.
type DemoClaim struct{ Name, Value string }

func (p DemoClaims) name() string         { return "demo-claims" }
func (p DemoClaims) failed() bool         { return false }
func (p DemoClaims) leaves() bool         { return true }
func (p DemoClaims) title(v *view) string { return v.demo(p.Workspace) }

// DemoError is a demo workspace after the provider answered with an error.
type DemoError struct {
	Workspace         string
	Code, Description string
	SignInURL         string // tries again
	HomeURL           string
}

func (p DemoError) name() string         { return "demo-error" }
func (p DemoError) failed() bool         { return true }
func (p DemoError) leaves() bool         { return true }
func (p DemoError) title(v *view) string { return v.demo(p.Workspace) }

func (v *view) demo(workspace string) string {
	s, err := v.T("demo.page", "workspace", workspace)
	if err != nil {
		return workspace
	}
	return s
}
