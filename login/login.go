// Package login is the sign-in pages: how a person proves who they are. It
// opens sessions through session.Manager and knows nothing of the protocol: the
// seam to it is a local path that a person goes on to.
package login

import (
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gorilla/mux"

	"github.com/harmony/id/account"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// home is where a person goes who came of their own accord.
const home = "/preferences/security"

// busyWait is when to try again after too many people signed in at once.
const busyWait = 5 * time.Second

// Pending is what waits at the path that a person goes on to.
type Pending struct {
	Workspace string // that asked them to sign in, by its display name
	LoginHint string // the address that it expects
	Again     bool   // they have a session, and have to prove it afresh
	Another   bool   // they have a session, and another person is asked for
}

// A Handler serves the sign-in pages.
type Handler struct {
	// Accounts checks what a person proves.
	Accounts *account.Store
	// Sessions opens their session.
	Sessions *session.Manager
	// Pending looks up what waits at a local path for a browser with this session
	// (nil: none), nil if nothing does. An error (a request that is over, or
	// another browser's) has a page of its own.
	Pending func(r *http.Request, to string, in *account.Session) (*Pending, error)
	// Google is the way to Google; nil: nobody signs in that way.
	Google *Google
	// PasswordMinLength is the least number of characters of a new password.
	PasswordMinLength int
}

// Routes adds the sign-in pages to r.
func (h *Handler) Routes(r *mux.Router) {
	r.Handle("/login", web.HandlerFunc(h.page)).Methods("GET", "HEAD")
	r.Handle("/login", web.HandlerFunc(h.signIn)).Methods("POST")
	for path, handler := range map[string]struct {
		show, take func(http.ResponseWriter, *http.Request) error
	}{
		pathVerify:     {h.verifyPage, h.verify},
		pathBackupCode: {h.backupCodePage, h.backupCode},
		pathForgot:     {h.forgotPage, h.forgot},
		pathReset:      {h.resetPage, h.reset},
	} {
		r.Handle(path, web.HandlerFunc(handler.show)).Methods("GET", "HEAD")
		r.Handle(path, web.HandlerFunc(handler.take)).Methods("POST")
	}
	r.Handle(pathPasskey, web.HandlerFunc(h.passkey)).Methods("POST")
	r.Handle(pathPasskey, web.HandlerFunc(h.toSignIn)).Methods("GET", "HEAD")
	r.Handle(pathAskPasskey, web.HandlerFunc(h.askPasskey)).Methods("POST")
	r.Handle(pathConfirm, h.Sessions.Require(h.confirmPage)).Methods("GET", "HEAD")
	r.Handle(pathConfirm, h.Sessions.Require(h.confirm)).Methods("POST")
	r.Handle(pathCodeUsed, h.Sessions.Require(h.codeUsed)).Methods("GET", "HEAD")
	if h.Google != nil {
		r.Handle(pathGoogle, web.HandlerFunc(h.google)).Methods("GET", "HEAD")
		r.Handle(pathGoogleBack, web.HandlerFunc(h.googleCallback)).Methods("GET")
	}
	r.Handle(pathRecovery, web.HandlerFunc(h.recovery)).Methods("GET", "HEAD")
}

// The paths of the pages besides /login.
const (
	pathVerify     = "/login/verify"
	pathBackupCode = "/login/backup-code"
	pathCodeUsed   = "/login/backup-code/used"
	pathRecovery   = "/login/recovery"
	pathForgot     = "/login/forgot"
	pathReset      = "/login/reset"
	pathPasskey    = "/login/passkey"
	pathAskPasskey = "/login/passkey/ask"
	pathConfirm    = "/login/confirm"
	pathGoogle     = "/login/google"
	pathGoogleBack = "/login/google/callback"
)

// page shows the form, or leads on who is signed in already (SI-11).
func (h *Handler) page(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	to := local(q.Get("to"))
	in, err := h.Sessions.In(r)
	if err != nil {
		return err
	}
	pending, err := h.Pending(r, to, in)
	if err != nil {
		return err
	}
	if q.Has("another") { // whoever was half signed in is not, now
		if err := h.Sessions.Abandon(w, r); err != nil {
			return err
		}
	}
	another := q.Has("another") || pending != nil && pending.Another
	if in != nil && !another && (pending == nil || !pending.Again) {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
	p := h.form(to, pending)
	if in != nil && !another {
		fix(&p, in)
	}
	var value string
	if p.Notice, value = h.Sessions.TakeNotice(w, r); value != "" && (p.Notice == "google_password" || p.Notice == "password_reset") {
		p.Email = value
	}
	return web.Show(w, r, http.StatusOK, p)
}

// signIn takes the form. Nothing about an account can be told from how it
// refuses (SI-5, ASVS 6.3.8).
func (h *Handler) signIn(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return &web.Error{Status: http.StatusBadRequest, Err: err}
	}
	to := local(r.PostForm.Get("to"))
	l, err := h.Accounts.CheckPassword(r.Context(), account.Attempt{
		Email:    r.PostForm.Get("email"),
		Password: r.PostForm.Get("password"),
		Browser:  h.Sessions.Known(r),
		Device:   session.Device(r),
	})
	if err = h.start(w, r, l, to, err); err == nil {
		return nil
	}

	h.note(r, r.PostForm.Get("email"), err)
	p := h.formAgain(r, to, r.PostForm.Get("email"))
	status, ok := refusal(w, r, err, &p.Error, &p.Wait)
	if !ok {
		return err
	}
	return web.Show(w, r, status, p)
}

// formAgain is the form for who was refused, with the address that they entered.
func (h *Handler) formAgain(r *http.Request, to, email string) templates.SignIn {
	in, none := h.Sessions.In(r)
	if none != nil {
		in = nil
	}
	pending, gone := h.Pending(r, to, in)
	if gone != nil {
		pending = nil // they can still sign in; the page they go on to will tell
	}
	p := h.form(to, pending)
	if p.Email = email; in != nil && pending != nil && pending.Again && (email == "" || in.Email == email) {
		fix(&p, in)
	}
	return p
}

// refusal puts why a proof was refused into a form, and says with which status
// to show it; false for an error that is not about the proof.
func refusal(w http.ResponseWriter, r *http.Request, err error, why *string, wait *int) (status int, ok bool) {
	status = http.StatusUnprocessableEntity
	throttled, _ := errors.AsType[*account.ThrottledError](err)
	switch {
	case throttled != nil:
		*why, *wait, status = templates.Throttled, seconds(throttled.Wait), http.StatusTooManyRequests
	case errors.Is(err, account.ErrBusy):
		*why, *wait, status = templates.Busy, seconds(busyWait), http.StatusServiceUnavailable
	case errors.Is(err, account.ErrTooLong):
		*why, status = templates.TooLong, http.StatusBadRequest
	case errors.Is(err, account.ErrWrong):
		*why = templates.Wrong
	case errors.Is(err, account.ErrUsed):
		*why = templates.Used
	case errors.Is(err, account.ErrPaused):
		*why = templates.Paused
	case errors.Is(err, account.ErrUnknownPasskey): // the one answer that lets a browser forget it
		*why, status = templates.UnknownPasskey, http.StatusNotFound
	case errors.Is(err, account.ErrNotVerified):
		*why = templates.NotVerified
	case errors.Is(err, account.ErrCloned):
		*why = templates.Cloned
	case errors.Is(err, account.ErrNoCeremony):
		*why = templates.PasskeyOver
	default:
		return 0, false
	}
	if *wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(*wait))
	}
	return status, true
}

// note tells the operator of an attempt that failed: for whom, as a pseudonym
// that is the same each time, and how. What was typed is nobody's business: it
// may be a password in the wrong field.
func (h *Handler) note(r *http.Request, email string, err error) {
	outcome := "failed"
	if _, ok := errors.AsType[*account.ThrottledError](err); ok {
		outcome = "throttled"
	}
	for what, is := range map[string]error{
		"wrong": account.ErrWrong, "busy": account.ErrBusy, "too_long": account.ErrTooLong, "used": account.ErrUsed, "paused": account.ErrPaused, "too_late": account.ErrNoLogin,
		"passkey_unknown": account.ErrUnknownPasskey, "passkey_not_verified": account.ErrNotVerified, "passkey_cloned": account.ErrCloned, "passkey_over": account.ErrNoCeremony,
	} {
		if errors.Is(err, is) {
			outcome = what
		}
	}
	web.Log(r.Context()).InfoContext(r.Context(), "sign-in refused", "at", r.URL.Path, "outcome", outcome, "account", h.Accounts.Pseudonym(email), "address", web.Address(r).String())
}

// form is the empty form. One that can end at a workspace says so to the
// browser: Chromium follows a post's redirects with the page's form-action.
func (h *Handler) form(to string, pending *Pending) templates.SignIn {
	p := templates.SignIn{To: to, Passkeys: h.Accounts.HasPasskeys()}
	if h.Google != nil {
		p.GoogleURL = withTo(pathGoogle, to)
	}
	if pending != nil {
		p.Workspace, p.Email, p.AnyOrigin = pending.Workspace, pending.LoginHint, true
	}
	return p
}

// local is the path to go on to: the one that was asked for if it is ours.
func local(to string) string {
	if path, ok := web.LocalPath(to); ok {
		return path
	}
	return home
}

// fix makes it the form of the person whose session it is.
func fix(p *templates.SignIn, in *account.Session) {
	p.Fixed, p.Name, p.Email, p.Google = true, in.Name, in.Email, in.Method == account.MethodGoogle
	if !p.Google {
		p.GoogleURL = "" // would lead to somebody else's account, or to none
	}
	p.OtherURL = "/login?" + url.Values{"to": {p.To}, "another": {"1"}}.Encode()
}

// withTo is a page of ours that leads on to a local path.
func withTo(path, to string) string { return path + "?" + url.Values{"to": {to}}.Encode() }

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// start goes on after a first proof that err did not refuse: to the second, or to
// where the person wanted to go.
func (h *Handler) start(w http.ResponseWriter, r *http.Request, l *account.Login, to string, err error) error {
	if err != nil {
		return err
	}
	whole, err := h.Sessions.Start(w, r, l)
	if err != nil {
		return err
	}
	if !whole {
		to = withTo(pathVerify, to)
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}
