// Package login is the sign-in pages: how a person proves who they are. It
// opens sessions through session.Manager and knows nothing of the protocol: the
// seam to it is a local path that a person goes on to.
package login

import (
	"context"
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
}

// Routes adds the sign-in pages to r.
func (h *Handler) Routes(r *mux.Router) {
	r.Handle("/login", web.HandlerFunc(h.page)).Methods("GET", "HEAD")
	r.Handle("/login", web.HandlerFunc(h.signIn)).Methods("POST")
}

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
	another := q.Has("another") || pending != nil && pending.Another
	if in != nil && !another && (pending == nil || !pending.Again) {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
	p := form(to, pending)
	if in != nil && !another {
		fix(&p, in)
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
	if err == nil {
		err = h.Sessions.Start(w, r, l)
	}
	if err == nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}

	h.note(r, err)
	in, none := h.Sessions.In(r)
	if none != nil {
		in = nil
	}
	pending, gone := h.Pending(r, to, in)
	if gone != nil {
		pending = nil // they can still sign in; the page they go on to will tell
	}
	p := form(to, pending)
	p.Email = r.PostForm.Get("email")
	if in != nil && pending != nil && pending.Again && in.Email == p.Email {
		fix(&p, in)
	}
	status := http.StatusUnprocessableEntity
	throttled, _ := errors.AsType[*account.ThrottledError](err)
	switch {
	case throttled != nil:
		p.Error, p.Wait, status = templates.Throttled, seconds(throttled.Wait), http.StatusTooManyRequests
	case errors.Is(err, account.ErrBusy):
		p.Error, p.Wait, status = templates.Busy, seconds(busyWait), http.StatusServiceUnavailable
	case errors.Is(err, account.ErrTooLong):
		p.Error, status = templates.TooLong, http.StatusBadRequest
	case errors.Is(err, account.ErrWrong):
		p.Error = templates.Wrong
	case errors.Is(err, context.Canceled):
		return &web.Error{Status: http.StatusBadRequest, Err: err}
	default:
		return err
	}
	if p.Wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.Wait))
	}
	return web.Show(w, r, status, p)
}

// note tells the operator of an attempt that failed: for whom, as a pseudonym
// that is the same each time, and how. What was typed is nobody's business: it
// may be a password in the wrong field.
func (h *Handler) note(r *http.Request, err error) {
	outcome := "failed"
	if _, ok := errors.AsType[*account.ThrottledError](err); ok {
		outcome = "throttled"
	}
	for what, is := range map[string]error{"wrong": account.ErrWrong, "busy": account.ErrBusy, "too_long": account.ErrTooLong} {
		if errors.Is(err, is) {
			outcome = what
		}
	}
	web.Log(r.Context()).InfoContext(r.Context(), "sign-in refused", "outcome", outcome, "account", h.Accounts.Pseudonym(r.PostForm.Get("email")), "address", web.Address(r).String())
}

// form is the empty form. One that can end at a workspace says so to the
// browser: Chromium follows a post's redirects with the page's form-action.
func form(to string, pending *Pending) templates.SignIn {
	p := templates.SignIn{To: to}
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
	p.Fixed, p.Name, p.Email = true, in.Name, in.Email
	p.OtherURL = "/login?" + url.Values{"to": {p.To}, "another": {"1"}}.Encode()
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
