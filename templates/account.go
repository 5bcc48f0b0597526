package templates

import (
	"strings"
	"time"
)

// Account is what every page of a signed-in person shows of them. Pages embed it.
type Account struct {
	Name, Email string
	Zone        *time.Location // their time zone if they named one, else nil: UTC, which the script makes the browser's
	Notice      string         // what was just done, a key below "notice." in the catalogue; "" for nothing
	NoticeText  string         // a value that the notice names, for {value}
}

// Initials stand for the person.
func (p Account) Initials() string { return initials(p.Name, p.Email) }

func (p Account) zone() *time.Location     { return p.Zone }
func (p Account) notice() (string, string) { return p.Notice, p.NoticeText }
func (p Account) leaves() bool             { return false }

// A Device is where something came from, as far as it is known.
type Device struct {
	Browser string // "Chrome"; "" for an unknown one
	OS      string // "macOS", or ""
	Kind    string // "desktop", "phone", "tablet" or ""
	Place   string // "Lisbon, Portugal"; "" without a GeoIP file
	Address string // IP address, or ""
}

// Security is the Security tab of a signed-in person, with at most one dialog
// over it. With JavaScript the dialog is modal; without, it is a page of its own.
type Security struct {
	Account
	Method    string     // "password" or "google"
	TwoFactor *TwoFactor // nil: off
	Password  NewPassword
	Passkeys  *PasskeyList // nil: nobody can have any

	// At most one of these is not nil.
	Enable  *Enable
	SetUp   *SetUp
	Disable *Disable
	Codes   *Codes

	AddPasskey    *AddPasskey
	RenamePasskey *RenamePasskey
	RemovePasskey *RemovePasskey
}

// leaves: what is set up for a workspace that waits leads on to it.
func (p Security) leaves() bool {
	return p.Enable != nil && p.Enable.To != "" || p.SetUp != nil && p.SetUp.To != "" || p.Codes != nil && p.Codes.To != ""
}

func (p Security) name() string { return "security" }
func (p Security) tab() string  { return "security" }
func (p Security) failed() bool {
	return p.Password.Error != "" || p.SetUp != nil && p.SetUp.Error != "" ||
		p.Disable != nil && p.Disable.Error != "" || p.Codes != nil && p.Codes.Error != "" || p.passkeyError() != ""
}
func (p Security) title(v *view) string {
	switch {
	case p.Enable != nil:
		return v.Text["enable.title"]
	case p.SetUp != nil:
		return v.Text["set_up.title"]
	case p.Disable != nil:
		return v.Text["disable.title"]
	case p.Codes != nil && p.Codes.Passkeys:
		return v.Text["passkeys_on.title"]
	case p.Codes != nil && p.Codes.Codes != nil:
		return v.Text["codes.save_title"]
	case p.Codes != nil:
		return v.Text["codes.title"]
	case p.AddPasskey != nil:
		return v.Text["passkey.add"]
	case p.RenamePasskey != nil:
		return v.Text["passkey.rename_title"]
	case p.RemovePasskey != nil:
		return v.Text["passkey.remove_title"]
	}
	return v.Text["security.title"]
}
func (p Security) problem() problem {
	switch {
	case p.SetUp != nil:
		return p.SetUp.problem()
	case p.Disable != nil:
		return p.Disable.problem()
	case p.Codes != nil:
		q := notSaved("codes.failed")
		if p.Codes.Passkeys {
			q = notSaved("set_up.failed")
		}
		q.Dialog = true
		return q
	case p.passkeyError() != "":
		return p.passkeyProblem()
	}
	return p.Password.problem("password.failed", "current_password")
}

// Google reports whether the person signs in with Google.
func (p Security) Google() bool { return p.Method == "google" }

// Open reports whether there is a dialog.
func (p Security) Open() bool {
	return p.Enable != nil || p.SetUp != nil || p.Disable != nil || p.Codes != nil || p.AddPasskey != nil || p.RenamePasskey != nil || p.RemovePasskey != nil
}

// PasskeyList is the section "Passkeys and security keys" of the tab.
type PasskeyList struct {
	Keys   []PasskeyRow // the oldest first
	Signal string       // what the script tells the browser of them, as JSON; "" for nothing
}

// A PasskeyRow is one passkey or security key.
type PasskeyRow struct {
	ID, Name string
	Model    string // what its maker calls it, or ""
	Verifies bool   // it checks who holds it
	Synced   bool   // it may be on several devices
	BackedUp bool   // and is
	Made     time.Time
	Used     time.Time // zero: never
}

// Kind is the key of what kind of passkey it is.
func (p PasskeyRow) Kind() string {
	switch {
	case p.BackedUp:
		return "passkey.synced"
	case p.Synced:
		return "passkey.can_sync"
	}
	return "passkey.one_device"
}

// AddPasskey is the dialog in which a new passkey gets its name. Its script asks
// /preferences/security/passkeys/ask what to ask the browser for; it posts name and
// credential to /preferences/security/passkeys/add.
type AddPasskey struct {
	Name      string  // as it was entered
	Device    *Device // what the name is made of that is proposed, or nil
	Error     string  // WrongPasskey, PasskeyOver, PasskeyTaken, TooManyPasskeys, BadName or ""
	CancelURL string
}

// RenamePasskey posts id and name to /preferences/security/passkeys/rename.
type RenamePasskey struct {
	ID, Name  string
	Error     string // BadName or ""
	CancelURL string
}

// RemovePasskey asks whether to remove a passkey. It posts id and sign_out_others to
// /preferences/security/passkeys/remove.
type RemovePasskey struct {
	ID, Name  string
	Others    int    // other sessions that can be signed out: those that it began among them
	Error     string // LastWay or ""
	CancelURL string
}

func (p Security) passkeyError() string {
	switch {
	case p.AddPasskey != nil:
		return p.AddPasskey.Error
	case p.RenamePasskey != nil:
		return p.RenamePasskey.Error
	case p.RemovePasskey != nil:
		return p.RemovePasskey.Error
	}
	return ""
}

func (p Security) passkeyProblem() problem {
	q := problem{Title: "passkey.add_failed", Text: "problem." + p.passkeyError(), Dialog: true}
	switch {
	case p.RenamePasskey != nil:
		q.Title = "passkey.rename_failed"
	case p.RemovePasskey != nil:
		q.Title = "passkey.remove_failed"
	}
	if p.passkeyError() == BadName {
		q.Link, q.At, q.Beside = "name", "name", "passkey.name_field"
	}
	return q
}

// PasskeyName is the name that stands in the field for one.
func (v *view) PasskeyName(p AddPasskey) (string, error) {
	if p.Device == nil {
		return p.Name, nil
	}
	return v.DeviceName(*p.Device)
}

// TwoFactor is what the tab says of two-factor authentication that is on.
type TwoFactor struct {
	Since       time.Time
	CodesLeft   int
	CodesTotal  int
	CodesMade   time.Time
	CodesPaused bool // too many wrong codes: only backup codes are taken at sign-in
	NoApp       bool // passkeys are asked for, and no app
}

// Few reports whether it is time for new backup codes.
func (p TwoFactor) Few() bool { return p.CodesLeft <= fewCodes }

// NewPassword is a form with New Password and Confirm New Password, on the
// Security tab (with Current Password) and on the reset page. Fields:
// current_password, new_password, confirm_password and, on the tab,
// sign_out_others, which is "on" unless somebody unticked it.
type NewPassword struct {
	MinLength int
	Error     string // WrongCurrent, Mismatch, Weak, Throttled, Busy, TooLong or ""
	Reason    string // with Weak, one of the Weak… reasons
	Wait      int    // seconds, with Throttled and Busy
	Others    int    // other sessions that can be signed out
	Keep      bool   // "Sign out all other sessions" was unticked
}

// problem is what is wrong with the form, headed by title; tooLong is the field
// in which something can be longer than any password.
func (p NewPassword) problem(title, tooLong string) problem {
	q := problem{Title: title, Text: "problem." + p.Error, Wait: p.Wait, N: p.MinLength}
	switch p.Error {
	case WrongCurrent:
		q.Text, q.Link = "password.wrong_current", "current_password"
	case Mismatch:
		q.Text, q.Link = "password.mismatch", "confirm_password"
	case Weak:
		q.Text, q.Link = "weak."+p.Reason, "new_password"
	case TooLong:
		q.Link = tooLong
	}
	if q.At = q.Link; q.At != "" {
		q.Beside = q.Text
	}
	return q
}

// What else can be wrong with a form.
const (
	WrongCurrent = "wrong_current" // the current password
	Mismatch     = "mismatch"      // New Password and Confirm New Password
	Weak         = "weak"          // see the reasons
	Used         = "used"          // a code that was right, and used already
	Paused       = "paused"        // codes are refused after too many wrong ones
	NotSaved     = "not_saved"     // "I have saved my backup codes" is not ticked
)

// Why a new password is refused. The catalogue has "weak." and the reason.
const (
	WeakShort    = "short"
	WeakLong     = "long"
	WeakSymbols  = "symbols"  // characters that no keyboard can type
	WeakPersonal = "personal" // mostly the address, the name or the product
	WeakBreached = "breached" // on the list of passwords known from breaches
	WeakSame     = "same"     // the one that it replaces
)

// Enable explains 2FA and asks whether to set it up. It posts to
// /preferences/security/2fa with To.
type Enable struct {
	To        string // local path to go on to afterwards, or ""
	Workspace string // that requires 2FA and led here, or ""
	CancelURL string
}

// SetUp is the modal "Set Up Two-Factor Authentication". Its form posts code,
// saved, sign_out_others and to to /preferences/security/2fa/verify; its Download
// button posts to /preferences/security/2fa/codes.txt, "Start again" (shown with
// an Error) to /preferences/security/2fa/again.
type SetUp struct {
	QR        string   // the data: URI of an SVG, dark on white, with its quiet zone
	Key       string   // the set-up key in groups of four
	URI       string   // otpauth://…
	Codes     []string // backup codes
	Made      time.Time
	UseAt     string // where backup codes are entered, as people read it: https://id.example.com/login/backup-code
	Others    int    // other sessions that can be signed out
	Keep      bool   // "Sign out my other sessions" was unticked
	Saved     bool   // "I have saved my backup codes" was ticked
	Error     string // Wrong, Used, NotSaved, Throttled or ""
	Wait      int    // seconds, with Throttled
	To        string
	Workspace string // that requires 2FA and led here, or ""
	CancelURL string
}

func (p SetUp) problem() problem {
	q := wrongCode("set_up.failed", "code", p.Error, p.Wait)
	if p.Error == NotSaved {
		q = notSaved("set_up.failed")
	}
	q.Dialog = true
	return q
}

// Disable asks whether to disable 2FA. It posts code to
// /preferences/security/2fa/off.
type Disable struct {
	AskCode    bool     // the last proof is too old: a code or a backup code is asked for
	Workspaces []string // that require 2FA and cannot be opened afterwards
	Error      string   // Wrong, Used, Paused, Throttled, Busy or ""
	Wait       int      // seconds, with Throttled and Busy
	CancelURL  string
}

func (p Disable) problem() problem {
	q := wrongCode("disable.failed", "code", p.Error, p.Wait)
	switch p.Error {
	case Wrong:
		q.Text, q.Beside = "disable.wrong", "disable.wrong_field"
	case Paused:
		q.Text, q.Link, q.At, q.Beside = "disable.paused", "code", "code", "disable.paused_field"
	}
	q.Dialog = true
	return q
}

// Codes makes new backup codes. Without Codes it asks whether to, posting to
// /preferences/security/2fa/codes; with them it shows them until they are saved,
// posting saved to /preferences/security/2fa/codes/save, and Download to
// /preferences/security/2fa/codes.txt. The old codes work until then.
type Codes struct {
	Passkeys  bool // they come with passkeys that are to be asked for: below /preferences/security/2fa/passkeys in place of …/codes
	Others    int  // with Passkeys, other sessions that can be signed out
	Keep      bool // "Sign out my other sessions" was unticked
	Codes     []string
	Left      int // of the old set
	Made      time.Time
	UseAt     string
	Error     string // NotSaved or ""
	To        string
	CancelURL string
}

// Verify asks for the 6-digit code of somebody whose first proof was right. It
// posts code and to to /login/verify.
type Verify struct {
	Email     string // masked: a•••e@example.com
	Google    bool   // the first proof came from Google
	NoApp     bool   // there is no app whose code could be asked for
	Passkeys  bool   // so can a passkey
	KeyFirst  bool   // a passkey was the first proof: nothing but the code will do
	To        string
	Error     string // Wrong, Used, Throttled, Paused, or why a passkey did not work, or ""
	Wait      int    // seconds, with Throttled
	AnyOrigin bool   // the form may end at a workspace (see FormsLeave)
}

func (p Verify) name() string         { return "verify" }
func (p Verify) failed() bool         { return p.Error != "" }
func (p Verify) leaves() bool         { return p.AnyOrigin }
func (p Verify) title(v *view) string { return v.Text["verify.page"] }
func (p Verify) problem() problem     { return wrongCode("verify.failed", "code", p.Error, p.Wait) }

// Paused reports whether only a backup code will do now.
func (p Verify) Paused() bool { return p.Error == Paused }

// BackupCode asks for a backup code instead. It posts backup_code and to to
// /login/backup-code.
type BackupCode struct {
	Email     string // masked
	To        string
	Error     string // Wrong, Throttled, Busy or ""
	Wait      int
	AnyOrigin bool
}

func (p BackupCode) name() string         { return "backup-code" }
func (p BackupCode) failed() bool         { return p.Error != "" }
func (p BackupCode) leaves() bool         { return p.AnyOrigin }
func (p BackupCode) title(v *view) string { return v.Text["backup_code.title"] }
func (p BackupCode) problem() problem {
	return wrongCode("verify.failed", "backup_code", p.Error, p.Wait)
}

// BackupCodeUsed follows a sign-in with a backup code.
type BackupCodeUsed struct {
	Email       string
	Left, Total int
	To          string // where Continue leads
	CodesURL    string // where new ones are made
	SecurityURL string
}

// Few reports whether it is time for new ones.
func (p BackupCodeUsed) Few() bool { return p.Left <= fewCodes }

// fewCodes is how many backup codes are few (BC-3).
const fewCodes = 3

func (p BackupCodeUsed) name() string         { return "backup-code-used" }
func (p BackupCodeUsed) failed() bool         { return false }
func (p BackupCodeUsed) leaves() bool         { return false }
func (p BackupCodeUsed) title(v *view) string { return v.Text["code_used.page"] }

// Recovery is the honest page for people who have neither their authenticator
// nor a backup code.
type Recovery struct {
	To string // back to /login/verify?to=
}

func (p Recovery) name() string         { return "recovery" }
func (p Recovery) failed() bool         { return false }
func (p Recovery) leaves() bool         { return false }
func (p Recovery) title(v *view) string { return v.Text["recovery.title"] }

// Forgot asks for the address that gets a reset link. It posts email to
// /login/forgot.
type Forgot struct {
	Email string // prefilled after a link that expired
	Sent  bool   // the answer, the same for every address
	Error string // Wrong (that is no address), Throttled, Busy or ""
	Wait  int
}

func (p Forgot) name() string         { return "forgot" }
func (p Forgot) failed() bool         { return p.Error != "" }
func (p Forgot) leaves() bool         { return false }
func (p Forgot) title(v *view) string { return v.Text["forgot.title"] }
func (p Forgot) problem() problem {
	q := problem{Title: "forgot.failed", Text: "problem." + p.Error, Wait: p.Wait}
	if p.Error == Wrong {
		q.Text, q.Link, q.At, q.Beside = "forgot.wrong", "email", "email", "forgot.wrong_field"
	}
	return q
}

// Reset is the page of a reset link that is good. It posts new_password and
// confirm_password to /login/reset.
type Reset struct {
	Email    string
	Invited  bool // a first password: nothing ends
	Password NewPassword
}

func (p Reset) name() string { return "reset" }
func (p Reset) failed() bool { return p.Password.Error != "" }
func (p Reset) leaves() bool { return false }
func (p Reset) title(v *view) string {
	if p.Invited {
		return v.Text["reset.title_invited"]
	}
	return v.Text["reset.title"]
}
func (p Reset) problem() problem { return p.Password.problem("reset.failed", "new_password") }

// Confirm is "Confirm it’s you" before something that needs a recent proof. It
// posts password, code or backup_code, and to, for, with, to /login/confirm.
type Confirm struct {
	Name, Email string
	For         string   // what it is for: a key below "confirm.for." in the catalogue ("" for none)
	Workspace   string   // with For "workspace", who asks
	With        string   // the proof that this page asks for: "password", "code", "passkey", "backup_code" or "google"
	Others      []string // the other proofs that would do, of the same; links with ?with=
	To          string
	CancelURL   string
	OtherURL    string // "Use another account"
	Error       string // Wrong, Used, Paused, Throttled, Busy, TooLong or ""
	Wait        int
	AnyOrigin   bool
}

func (p Confirm) name() string         { return "confirm" }
func (p Confirm) failed() bool         { return p.Error != "" }
func (p Confirm) leaves() bool         { return p.AnyOrigin }
func (p Confirm) title(v *view) string { return v.Text["confirm.title"] }
func (p Confirm) problem() problem {
	q := wrongCode("confirm.failed", p.With, p.Error, p.Wait)
	if p.With == "password" && (p.Error == Wrong || p.Error == TooLong) {
		q.Link, q.At, q.Beside = "password", "password", "sign_in.wrong_field_fixed"
		if p.Error == Wrong {
			q.Text = "sign_in.wrong_fixed"
		}
	}
	return q
}

// Initials stand for the person.
func (p Confirm) Initials() string { return initials(p.Name, p.Email) }

// Paused reports whether the proof that the page asks for is refused for now.
func (p Confirm) Paused() bool { return p.Error == Paused }

// Sessions is the Sessions tab. "Sign out" of another session posts id to
// /preferences/sessions/end, "Sign out all other sessions" posts to
// /preferences/sessions/end-others; this device's own posts to /logout.
type Sessions struct {
	Account
	This   SessionRow
	Others []SessionRow // by last use
	More   int          // sessions that are not shown
	Access int          // minutes until access at workspaces ends at the latest
	Ask    *SessionRow  // asks whether to sign out this one (after a proof was asked for)
	AskAll bool         // asks whether to sign out all others

	Allowed []AllowedApp // third-party workspaces that the person allowed something
}

// An AllowedApp is a third-party workspace that a person allowed something. Its form
// posts client to /preferences/sessions/withdraw.
type AllowedApp struct {
	ClientID, Name string
	Scopes         []string
	GivenAt        time.Time
}

// ScopeNames are scopes in words, in one line.
func (v *view) ScopeNames(scopes []string) (string, error) {
	all, err := v.Allowed(scopes)
	var names []string
	for _, a := range all {
		names = append(names, a.Title)
	}
	return strings.Join(names, dot), err
}

func (p Sessions) name() string { return "sessions" }
func (p Sessions) tab() string  { return "sessions" }
func (p Sessions) failed() bool { return false }
func (p Sessions) title(v *view) string {
	switch {
	case p.Ask != nil:
		return v.Text["sessions.ask_page"]
	case p.AskAll:
		return v.Text["sessions.ask_all"]
	}
	return v.Text["sessions.title"]
}

// Count is how many other sessions there are, shown or not.
func (p Sessions) Count() int { return len(p.Others) + p.More }

// A SessionRow is one session in the list.
type SessionRow struct {
	ID         string
	Device     Device
	SeenAt     time.Time
	Active     bool // used in the last few minutes
	SignedInAt time.Time
	How        string // a key below "how." in the catalogue: "password", "password_code", "password_backup_code", "google", …
	Workspaces []string
}

// Activity is the Activity tab: what happened in 90 days, newest first.
type Activity struct {
	Account
	Events []ActivityEvent
	Next   string // the URL of what is older, or ""
}

func (p Activity) name() string         { return "activity" }
func (p Activity) tab() string          { return "activity" }
func (p Activity) failed() bool         { return false }
func (p Activity) title(v *view) string { return v.Text["activity.title"] }

// An ActivityEvent is one line of it.
type ActivityEvent struct {
	Kind    string // a key below "event." in the catalogue; another one is told without words of its own
	At      time.Time
	Device  Device
	How     string  // with "signed_in" and its kin, a key below "how."
	New     bool    // signed in on a browser not seen before
	Count   int     // codes left, sessions ended, …: {n}
	Other   *Device // the session that was ended
	Case    string  // support's case number
	Support bool    // an operator did it
	Limit   bool    // nobody did: there were too many

	Workspace string   // it happened there, not in a browser: {workspace}
	Passkeys  []string // the names of those that it is about: {passkey} and, after that was renamed, {renamed}
}

// NotMe is where "This wasn’t me" leads. It posts to /preferences/not-me, which
// signs out everywhere else and leads on to the change of the password.
type NotMe struct {
	Account
	Method    string // "password" or "google"
	TwoFactor bool
	Passkeys  bool // there are some, which a new password leaves as they are
	Others    int
	CancelURL string
}

func (p NotMe) name() string         { return "not-me" }
func (p NotMe) tab() string          { return "activity" }
func (p NotMe) failed() bool         { return false }
func (p NotMe) title(v *view) string { return v.Text["not_me.title"] }

// Google reports whether the person signs in with Google.
func (p NotMe) Google() bool { return p.Method == "google" }

// DemoMailbox shows every message that dev would have sent.
type DemoMailbox struct {
	Messages []DemoMessage // newest first
	Open     *DemoMessage  // the one that is read, or nil
	EmptyURL string        // takes the POST of the Empty button
}

func (p DemoMailbox) name() string         { return "demo-mailbox" }
func (p DemoMailbox) failed() bool         { return false }
func (p DemoMailbox) leaves() bool         { return false }
func (p DemoMailbox) title(v *view) string { return v.Text["demo.mailbox.title"] }

// A DemoMessage is one message in the mailbox.
type DemoMessage struct {
	URL      string // of the page that shows it
	HTMLURL  string // of its HTML part
	Subject  string
	From, To string
	At       time.Time
	Text     []DemoLine // its text part
	Current  bool
}

// Paragraphs are the lines of the text part, parted where one is empty.
func (m DemoMessage) Paragraphs() [][]DemoLine {
	var out [][]DemoLine
	begin := true
	for _, line := range m.Text {
		switch {
		case strings.TrimSpace(line.Text) == "":
			begin = true
		case begin:
			out, begin = append(out, []DemoLine{line}), false
		default:
			out[len(out)-1] = append(out[len(out)-1], line)
		}
	}
	return out
}

// A DemoLine is a line of a message; Link is not "" where the line is an address
// to follow.
type DemoLine struct{ Text, Link string }
