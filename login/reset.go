package login

import (
	"errors"
	"net/http"
	"strings"

	"github.com/harmony/id/account"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// resetCookie holds the token of a reset link while its page is open: the link
// itself leaves the address bar with the first answer (RST-11).
const resetCookie = "harmony-reset"

// forgotPage asks for the address. Who comes from a link that is too old finds
// theirs in it (FP-8): they hold what was mailed there.
func (h *Handler) forgotPage(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("sent") {
		return web.Show(w, r, http.StatusOK, templates.Forgot{Sent: true})
	}
	email, err := h.Accounts.ExpiredLink(r.Context(), h.Sessions.Cookie(r, resetCookie))
	if err != nil {
		return err
	}
	return web.Show(w, r, http.StatusOK, templates.Forgot{Email: email})
}

// forgot has the link mailed. The answer is one and the same for every address
// (FP-1, ASVS 6.3.8).
func (h *Handler) forgot(w http.ResponseWriter, r *http.Request) error {
	p := templates.Forgot{Email: r.PostForm.Get("email")}
	err := h.Accounts.RequestReset(r.Context(), p.Email, session.Device(r))
	if err == nil {
		h.Sessions.SetCookie(w, resetCookie, "", -1)
		http.Redirect(w, r, pathForgot+"?sent=1", http.StatusSeeOther)
		return nil
	}
	if _, ok := errors.AsType[*account.InvalidError](err); ok {
		err = account.ErrWrong
	}
	status, ok := refusal(w, r, err, &p.Error, &p.Wait)
	if !ok {
		return err
	}
	return web.Show(w, r, status, p)
}

// resetPage is what a reset link opens. It spends nothing, for scanners open links,
// too. The token goes into a cookie and out of the URL first.
func (h *Handler) resetPage(w http.ResponseWriter, r *http.Request) error {
	if q := r.URL.Query(); q.Has("token") {
		// What a link cannot be is not kept: a cookie has its limits.
		if token := q.Get("token"); len(token) <= 100 && !strings.ContainsAny(token, " \",;\\") {
			h.Sessions.SetCookie(w, resetCookie, token, 0)
		} else {
			h.Sessions.SetCookie(w, resetCookie, "", -1)
		}
		http.Redirect(w, r, pathReset, http.StatusSeeOther)
		return nil
	}
	link, err := h.Accounts.Link(r.Context(), h.Sessions.Cookie(r, resetCookie), session.Device(r))
	if err != nil {
		return linkError(err)
	}
	return web.Show(w, r, http.StatusOK, h.resetForm(link))
}

func (h *Handler) resetForm(l *account.Link) templates.Reset {
	return templates.Reset{Email: l.Email, Invited: l.Invitation, Password: templates.NewPassword{MinLength: h.PasswordMinLength}}
}

func linkError(err error) error {
	if errors.Is(err, account.ErrNoLink) {
		return &web.Error{Status: http.StatusGone, Title: "link_expired.title", Message: "link_expired.text", Action: "link_expired.action", ActionURL: pathForgot, Err: err}
	}
	if t, ok := errors.AsType[*account.ThrottledError](err); ok {
		return &web.Error{Status: http.StatusTooManyRequests, RetryAfter: t.Wait, Err: err}
	}
	return err
}

// reset sets the new password. Nobody is signed in by it.
func (h *Handler) reset(w http.ResponseWriter, r *http.Request) error {
	token, d := h.Sessions.Cookie(r, resetCookie), session.Device(r)
	link, err := h.Accounts.Link(r.Context(), token, d)
	if err != nil {
		return linkError(err)
	}
	p := h.resetForm(link)
	anew := r.PostForm.Get("new_password")
	if anew != r.PostForm.Get("confirm_password") {
		p.Password.Error = templates.Mismatch
		return web.Show(w, r, http.StatusUnprocessableEntity, p)
	}
	known, err := h.Accounts.ResetPassword(r.Context(), token, anew, h.Sessions.Known(r), d)
	if err == nil {
		h.Sessions.Remember(w, known)
		h.Sessions.SetCookie(w, resetCookie, "", -1)
		h.Sessions.Notice(w, "password_reset", link.Email)
		http.Redirect(w, r, "/login?another=1", http.StatusSeeOther) // whoever else may be signed in here
		return nil
	}
	if weak, ok := errors.AsType[*account.WeakError](err); ok {
		p.Password.Error, p.Password.Reason = templates.Weak, weak.Code
		return web.Show(w, r, http.StatusUnprocessableEntity, p)
	}
	status, ok := refusal(w, r, err, &p.Password.Error, &p.Password.Wait)
	if !ok {
		return linkError(err)
	}
	return web.Show(w, r, status, p)
}
