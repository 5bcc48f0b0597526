// Package security is the signed-in person's own pages: the Security, Sessions
// and Activity tabs, on which they change how they prove who they are. What may be
// done, and after which proof, account decides; these pages ask for it.
package security

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// A Handler serves the pages below /preferences.
type Handler struct {
	// Accounts keeps what they show and change.
	Accounts *account.Store
	// Sessions guards them.
	Sessions *session.Manager
	// Places names where an address is; nil names none.
	Places *device.Places
	// Issuer is the provider's address, as people read it.
	Issuer string
	// PasswordMinLength is the least number of characters of a new password.
	PasswordMinLength int
	// AccessTokenTTL is how long a workspace may still act on an access token
	// after its session ended, if it does not ask.
	AccessTokenTTL time.Duration
	// Workspaces are the names of the workspaces that each session of a person
	// led to, by the session's id.
	Workspaces func(ctx context.Context, userID string) (map[string][]string, error)
	// Allowed are the third-party workspaces that a person allowed something; nil
	// where there are none. Withdraw takes that back from one of them.
	Allowed  func(ctx context.Context, userID string) ([]templates.AllowedApp, error)
	Withdraw func(ctx context.Context, userID, clientID string, d account.Device) (bool, error)
	// Requiring2FA are the names of the workspaces of a person that demand
	// two-factor authentication.
	Requiring2FA func(ctx context.Context, userID string) ([]string, error)
	// Waiting is the name of the workspace that waits at a local path for this
	// browser, "" if none does.
	Waiting func(r *http.Request, to string, in *account.Session) string
}

// The pages, and what their forms post to.
const (
	pathSecurity      = "/preferences/security"
	pathPassword      = "/preferences/security/password"
	pathResetMail     = "/preferences/security/reset-email"
	pathSetUp         = "/preferences/security/2fa"
	pathVerify        = "/preferences/security/2fa/verify"
	pathAgain         = "/preferences/security/2fa/again"
	pathDownload      = "/preferences/security/2fa/codes.txt"
	pathDisable       = "/preferences/security/2fa/off"
	pathCodes         = "/preferences/security/2fa/codes"
	pathSaveCodes     = "/preferences/security/2fa/codes/save"
	pathKeysOn        = "/preferences/security/2fa/passkeys"
	pathSaveKeysOn    = "/preferences/security/2fa/passkeys/save"
	pathPasskeys      = "/preferences/security/passkeys"
	pathAddPasskey    = "/preferences/security/passkeys/add"
	pathAskPasskey    = "/preferences/security/passkeys/ask"
	pathRenamePasskey = "/preferences/security/passkeys/rename"
	pathRemovePasskey = "/preferences/security/passkeys/remove"
	pathSessions      = "/preferences/sessions"
	pathEnd           = "/preferences/sessions/end"
	pathEndOthers     = "/preferences/sessions/end-others"
	pathWithdraw      = "/preferences/sessions/withdraw"
	pathActivity      = "/preferences/activity"
	pathNotMe         = "/preferences/not-me"
	pathConfirm       = "/login/confirm" // login's; the seam between the two is this URL
)

// Routes adds the pages to r.
func (h *Handler) Routes(r *mux.Router) {
	show := func(path string, page func(http.ResponseWriter, *http.Request, *account.Session) error) {
		r.Handle(path, h.Sessions.Require(page)).Methods("GET", "HEAD")
	}
	take := func(path string, act func(http.ResponseWriter, *http.Request, *account.Session) error) {
		r.Handle(path, h.Sessions.Require(act)).Methods("POST")
	}
	show(pathSecurity, h.tab)
	take(pathPassword, h.changePassword)
	show(pathPassword, h.toTab)
	take(pathResetMail, h.sendReset)
	show(pathResetMail, h.toTab)
	show(pathSetUp, h.setUp)
	take(pathSetUp, h.beginSetUp)
	take(pathAgain, h.beginAgain)
	take(pathVerify, h.verify)
	show(pathVerify, h.toSetUp)
	take(pathDownload, h.download)
	show(pathDisable, h.disablePage)
	take(pathDisable, h.disable)
	show(pathCodes, h.codes)
	take(pathCodes, h.beginCodes)
	take(pathSaveCodes, h.saveCodes)
	show(pathSaveCodes, h.toCodes)
	if h.Accounts.HasPasskeys() {
		show(pathPasskeys, h.toPasskeys)
		show(pathKeysOn, h.keysOn)
		take(pathKeysOn, h.beginKeysOn)
		take(pathSaveKeysOn, h.saveKeysOn)
		show(pathSaveKeysOn, h.toKeysOn)
		show(pathAddPasskey, h.addPasskeyPage)
		take(pathAddPasskey, h.addPasskey)
		take(pathAskPasskey, h.askPasskey)
		show(pathRenamePasskey, h.renamePasskeyPage)
		take(pathRenamePasskey, h.renamePasskey)
		show(pathRemovePasskey, h.removePasskeyPage)
		take(pathRemovePasskey, h.removePasskey)
		r.Handle("/.well-known/passkey-endpoints", web.HandlerFunc(h.passkeyEndpoints)).Methods("GET", "HEAD")
	}
	show(pathSessions, h.sessions)
	show(pathEnd, h.askEnd)
	take(pathEnd, h.end)
	show(pathEndOthers, h.askEndOthers)
	take(pathEndOthers, h.endOthers)
	take(pathWithdraw, h.withdraw)
	show(pathWithdraw, h.toSessions)
	show(pathActivity, h.activity)
	show(pathNotMe, h.notMe)
	take(pathNotMe, h.secure)
	r.Handle("/.well-known/change-password", web.HandlerFunc(changePasswordURL)).Methods("GET", "HEAD")
}

// changePasswordURL is where password managers lead people (W3C "A Well-Known URL
// for Changing Passwords").
func changePasswordURL(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, pathSecurity+"#password", http.StatusSeeOther)
	return nil
}

// What was posted to stands in the address bar of a page that shows a mistake:
// who reloads it, or comes back to it by signing in, gets the page itself.

func (h *Handler) toTab(w http.ResponseWriter, r *http.Request, _ *account.Session) error {
	return seeOther(w, r, pathSecurity)
}

func (h *Handler) toSetUp(w http.ResponseWriter, r *http.Request, _ *account.Session) error {
	return seeOther(w, r, pathSetUp)
}

func (h *Handler) toKeysOn(w http.ResponseWriter, r *http.Request, _ *account.Session) error {
	return seeOther(w, r, pathKeysOn)
}

func (h *Handler) toPasskeys(w http.ResponseWriter, r *http.Request, _ *account.Session) error {
	return seeOther(w, r, cancelPasskeys)
}

func (h *Handler) toSessions(w http.ResponseWriter, r *http.Request, _ *account.Session) error {
	return seeOther(w, r, pathSessions)
}

func (h *Handler) toCodes(w http.ResponseWriter, r *http.Request, _ *account.Session) error {
	return seeOther(w, r, pathCodes)
}

func seeOther(w http.ResponseWriter, r *http.Request, to string) error {
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// confirmFirst leads to a fresh proof of the person, and back to a page of ours.
func confirmFirst(w http.ResponseWriter, r *http.Request, purpose, back string) error {
	return seeOther(w, r, pathConfirm+"?"+url.Values{"for": {purpose}, "to": {back}}.Encode())
}

// signInAgain is for a session that ended while its form was on the way.
func signInAgain(w http.ResponseWriter, r *http.Request, back string) error {
	return seeOther(w, r, "/login?"+url.Values{"to": {back}}.Encode())
}

func accountOf(in *account.Session) templates.Account {
	return templates.Account{Name: in.Name, Email: in.Email}
}

// noticed is the person's part of a page, with what was just done.
func (h *Handler) noticed(w http.ResponseWriter, r *http.Request, in *account.Session) templates.Account {
	a := accountOf(in)
	a.Notice, a.NoticeText = h.Sessions.TakeNotice(w, r)
	return a
}

// device is a session's or an event's, in the words of the pages.
func (h *Handler) device(d account.Device) templates.Device {
	b := device.Parse(d.UserAgent)
	return templates.Device{Browser: b.Name, OS: b.OS, Kind: b.Kind, Place: h.Places.Lookup(d.Address), Address: d.Address}
}

// refusal puts why something was refused into a form, and says with which status
// to show it; false for an error that is not about the form.
func refusal(w http.ResponseWriter, err error, why *string, wait *int) (status int, ok bool) {
	status = http.StatusUnprocessableEntity
	throttled, _ := errors.AsType[*account.ThrottledError](err)
	switch {
	case throttled != nil:
		*why, *wait, status = templates.Throttled, int(math.Ceil(throttled.Wait.Seconds())), http.StatusTooManyRequests
	case errors.Is(err, account.ErrBusy):
		const busyWait = 5
		*why, *wait, status = templates.Busy, busyWait, http.StatusServiceUnavailable
	case errors.Is(err, account.ErrTooLong):
		*why, status = templates.TooLong, http.StatusBadRequest
	case errors.Is(err, account.ErrWrong):
		*why = templates.Wrong
	case errors.Is(err, account.ErrUsed):
		*why = templates.Used
	case errors.Is(err, account.ErrPaused):
		*why = templates.Paused
	default:
		return 0, false
	}
	if *wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(*wait))
	}
	return status, true
}

// tabPage is the Security tab with nothing over it.
func (h *Handler) tabPage(r *http.Request, in *account.Session) (templates.Security, error) {
	p := templates.Security{Account: accountOf(in), Method: string(in.Method), Password: templates.NewPassword{MinLength: h.PasswordMinLength}}
	var err error
	if p.Password.Others, err = h.Accounts.OtherSessions(r.Context(), in); err != nil {
		return p, err
	}
	if p.Passkeys, err = h.passkeyList(r, in); err != nil || !in.TwoFactor {
		return p, err
	}
	two, err := h.Accounts.TwoFactor(r.Context(), in.UserID)
	if two != nil {
		p.TwoFactor = &templates.TwoFactor{
			Since: two.EnabledAt, CodesLeft: two.CodesLeft, CodesTotal: two.CodesTotal, CodesMade: two.CodesMadeAt, CodesPaused: two.Paused, NoApp: !two.App,
		}
	}
	return p, err
}

// tab is the Security tab.
func (h *Handler) tab(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	p, err := h.tabPage(r, in)
	if err != nil {
		return err
	}
	p.Account = h.noticed(w, r, in)
	return web.Show(w, r, http.StatusOK, p)
}

// changePassword takes the form of the tab.
func (h *Handler) changePassword(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	if in.Method != account.MethodPassword {
		return google(account.ErrGoogle)
	}
	f := r.PostForm
	anew, others := f.Get("new_password"), f.Get("sign_out_others") != ""
	var err error
	why := ""
	if anew != f.Get("confirm_password") {
		why = templates.Mismatch
	} else {
		var p account.Passage
		p, _, err = h.Accounts.ChangePassword(r.Context(), in, f.Get("current_password"), anew, others, h.Sessions.Known(r), session.Device(r))
		switch {
		case err == nil:
			h.Sessions.Turn(w, p)
			h.Sessions.Notice(w, "password_changed", "")
			return seeOther(w, r, pathSecurity)
		case errors.Is(err, account.ErrNoSession):
			return signInAgain(w, r, pathSecurity)
		}
	}
	p, failed := h.tabPage(r, in)
	if failed != nil {
		return failed
	}
	p.Password.Error, p.Password.Keep = why, !others
	status := http.StatusUnprocessableEntity
	if weak, ok := errors.AsType[*account.WeakError](err); ok {
		p.Password.Error, p.Password.Reason = templates.Weak, weak.Code
	} else if err != nil {
		known := false
		if status, known = refusal(w, err, &p.Password.Error, &p.Password.Wait); !known {
			return err
		}
		if p.Password.Error == templates.Wrong {
			p.Password.Error = templates.WrongCurrent
		}
	}
	return web.Show(w, r, status, p)
}

// sendReset mails the person a link that resets the password: to the address of
// the account, whatever the form says (RST-15).
func (h *Handler) sendReset(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	err := h.Accounts.RequestOwnReset(r.Context(), in, session.Device(r))
	_, throttled := errors.AsType[*account.ThrottledError](err)
	switch {
	case throttled:
		h.Sessions.Notice(w, "reset_waiting", "")
	case err != nil:
		return google(err)
	default:
		h.Sessions.Notice(w, "reset_sent", in.Email)
	}
	return seeOther(w, r, pathSecurity)
}

// google is the page for people who sign in with Google and have no password.
func google(err error) error {
	if errors.Is(err, account.ErrGoogle) {
		return &web.Error{Status: http.StatusForbidden, Title: "google_account.title", Message: "google_account.text", Action: "error.home", ActionURL: pathSecurity, Err: err}
	}
	return err
}

// local is to if it is a path of ours, else "".
func local(to string) string {
	if path, ok := web.LocalPath(to); ok {
		return path
	}
	return ""
}

// back is a page of ours that leads on to a local path afterwards.
func back(path, to string) string {
	if to == "" {
		return path
	}
	return path + "?" + url.Values{"to": {to}}.Encode()
}

// grouped is a key in groups of four, as people read it.
func grouped(key string) string {
	var b strings.Builder
	for i := 0; i < len(key); i += 4 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(key[i:min(i+4, len(key))])
	}
	return b.String()
}
