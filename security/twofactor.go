package security

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/harmony/id/account"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// Where a dialog leads that is closed: to its opener on the tab.
const (
	cancelEnable  = pathSecurity + "#enable-2fa"
	cancelDisable = pathSecurity + "#disable-2fa"
	cancelCodes   = pathSecurity + "#new-codes"
)

// setUp shows what is being set up or, if nothing is, asks whether to begin.
func (h *Handler) setUp(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	to := local(r.URL.Query().Get("to"))
	e, err := h.Accounts.Enrollment(r.Context(), in, account.PurposeTOTP)
	if errors.Is(err, account.ErrNoEnrollment) {
		p, err := h.tabPage(r, in)
		if err != nil {
			return err
		}
		p.Enable = &templates.Enable{To: to, Workspace: h.waiting(r, to, in), CancelURL: cancelEnable}
		return web.Show(w, r, http.StatusOK, p)
	}
	if err != nil {
		return h.notSetUp(w, r, to, err)
	}
	return h.showSetUp(w, r, in, e, http.StatusOK, templates.SetUp{To: to})
}

func (h *Handler) waiting(r *http.Request, to string, in *account.Session) string {
	if to == "" {
		return ""
	}
	return h.Waiting(r, to, in)
}

// notSetUp is what becomes of a set-up that may not go on.
func (h *Handler) notSetUp(w http.ResponseWriter, r *http.Request, to string, err error) error {
	switch {
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "enable", back(pathSetUp, to))
	case errors.Is(err, account.ErrOn):
		if to != "" {
			return seeOther(w, r, to)
		}
		h.Sessions.Notice(w, "two_factor_on_already", "")
		return seeOther(w, r, pathSecurity)
	case errors.Is(err, account.ErrNoEnrollment):
		h.Sessions.Notice(w, "set_up_expired", "")
		return seeOther(w, r, pathSecurity)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, back(pathSetUp, to))
	}
	return unavailable(err)
}

// unavailable is the page of what can only be done later.
func unavailable(err error) error {
	if errors.Is(err, account.ErrBusy) {
		return &web.Error{Status: http.StatusServiceUnavailable, RetryAfter: busyWait, Err: err}
	}
	if t, ok := errors.AsType[*account.ThrottledError](err); ok {
		return &web.Error{Status: http.StatusTooManyRequests, RetryAfter: t.Wait, Action: "error.home", ActionURL: pathSecurity, Err: err}
	}
	return err
}

// showSetUp shows the same code, key and backup codes each time, until they are
// confirmed (TF-5).
func (h *Handler) showSetUp(w http.ResponseWriter, r *http.Request, in *account.Session, e *account.Enrollment, status int, s templates.SetUp) error {
	p, err := h.tabPage(r, in)
	if err != nil {
		return err
	}
	if s.QR, err = qrCode(e.URI); err != nil {
		return err
	}
	s.Key, s.URI, s.Codes, s.Made, s.UseAt = grouped(e.Key), e.URI, e.Codes, e.CreatedAt, h.useAt()
	s.Others, s.Workspace, s.CancelURL = p.Password.Others, h.waiting(r, s.To, in), cancelEnable
	p.SetUp = &s
	return web.Show(w, r, status, p)
}

// useAt is where backup codes are entered.
func (h *Handler) useAt() string { return h.Issuer + "/login" }

// beginSetUp is the dark Enable 2FA button.
func (h *Handler) beginSetUp(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	return h.begin(w, r, in, false)
}

// beginAgain throws away what is being set up: another QR code, other backup codes.
func (h *Handler) beginAgain(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	return h.begin(w, r, in, true)
}

func (h *Handler) begin(w http.ResponseWriter, r *http.Request, in *account.Session, anew bool) error {
	to := local(r.PostForm.Get("to"))
	if err := h.Accounts.Enroll(r.Context(), in, account.PurposeTOTP, anew); err != nil {
		return h.notSetUp(w, r, to, err)
	}
	return seeOther(w, r, back(pathSetUp, to))
}

// verify turns two-factor authentication on.
func (h *Handler) verify(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	f := r.PostForm
	s := templates.SetUp{To: local(f.Get("to")), Saved: f.Get("saved") != "", Keep: f.Get("sign_out_others") == ""}
	e, err := h.Accounts.Enrollment(r.Context(), in, account.PurposeTOTP)
	if err != nil {
		return h.notSetUp(w, r, s.To, err)
	}
	if !s.Saved { // TF-7: the server insists, too
		s.Error = templates.NotSaved
		return h.showSetUp(w, r, in, e, http.StatusUnprocessableEntity, s)
	}
	token, err := h.Accounts.EnableTwoFactor(r.Context(), in, f.Get("code"), !s.Keep, session.Device(r))
	switch {
	case errors.Is(err, account.ErrWrong):
		s.Error = templates.Wrong
		return h.showSetUp(w, r, in, e, http.StatusUnprocessableEntity, s)
	case errors.Is(err, account.ErrNoEnrollment): // another tab was faster
		if two, err := h.Accounts.TwoFactor(r.Context(), in.UserID); err != nil {
			return err
		} else if two != nil {
			return h.notSetUp(w, r, s.To, account.ErrOn)
		}
		return h.notSetUp(w, r, s.To, err)
	case err != nil:
		return h.notSetUp(w, r, s.To, err)
	}
	h.Sessions.Turn(w, account.Passage{Session: token})
	if s.To != "" {
		return seeOther(w, r, s.To)
	}
	h.Sessions.Notice(w, "two_factor_on", "")
	return seeOther(w, r, pathSecurity)
}

// download is the backup codes as a file, while they are being shown (TF-6). It is
// a post, so that no history and no prefetch holds it.
func (h *Handler) download(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	for _, purpose := range []account.Purpose{account.PurposeTOTP, account.PurposeCodes, account.PurposeKeys} {
		e, err := h.Accounts.Enrollment(r.Context(), in, purpose)
		if err == nil {
			return h.writeCodes(w, in, e)
		}
		switch {
		case errors.Is(err, account.ErrNoEnrollment), errors.Is(err, account.ErrOn), errors.Is(err, account.ErrOff), errors.Is(err, account.ErrNotFound):
		case purpose == account.PurposeCodes:
			return h.noCodes(w, r, "", err)
		default:
			return h.notSetUp(w, r, "", err)
		}
	}
	return &web.Error{Status: http.StatusGone, Title: "codes_gone.title", Message: "codes_gone.text", Action: "error.home", ActionURL: pathSecurity}
}

func (h *Handler) writeCodes(w http.ResponseWriter, in *account.Session, e *account.Enrollment) error {
	text, err := templates.CodesFile{Email: in.Email, Made: e.CreatedAt, Codes: e.Codes, UseAt: h.useAt()}.Text()
	if err != nil {
		return err
	}
	name := "harmony-backup-codes-" + fileName(in.Email) + "-" + e.CreatedAt.UTC().Format("2006-01-02") + ".txt"
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s"`, name))
	_, err = w.Write([]byte(text))
	return err
}

// fileName is an address with only what every file system and header can hold.
func fileName(email string) string {
	return strings.Map(func(c rune) rune {
		if c == '@' || c == '.' || c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' {
			return c
		}
		return '-'
	}, email)
}

// disablePage asks whether to disable 2FA.
func (h *Handler) disablePage(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	switch {
	case !in.TwoFactor:
		return seeOther(w, r, pathSecurity)
	case !in.App && in.Passkeys && !in.SecondFresh(): // whose passkey is asked for, or a backup code
		return confirmFirst(w, r, "disable", pathDisable)
	}
	return h.showDisable(w, r, in, http.StatusOK, templates.Disable{})
}

func (h *Handler) showDisable(w http.ResponseWriter, r *http.Request, in *account.Session, status int, d templates.Disable) error {
	p, err := h.tabPage(r, in)
	if err != nil {
		return err
	}
	if d.Workspaces, err = h.Requiring2FA(r.Context(), in.UserID); err != nil {
		return err
	}
	d.AskCode, d.CancelURL = d.AskCode || !in.SecondFresh(), cancelDisable
	p.Disable = &d
	return web.Show(w, r, status, p)
}

// disable takes a code of the app or a backup code, whichever was typed.
func (h *Handler) disable(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	var f *account.SecondFactor
	if typed := strings.TrimSpace(r.PostForm.Get("code")); typed != "" {
		f = account.EitherCode(typed)
	}
	token, err := h.Accounts.DisableTwoFactor(r.Context(), in, f, h.Sessions.Known(r), session.Device(r))
	d := templates.Disable{}
	switch {
	case err == nil:
		h.Sessions.Turn(w, account.Passage{Session: token})
		h.Sessions.Notice(w, "two_factor_off", "")
		return seeOther(w, r, pathSecurity)
	case errors.Is(err, account.ErrOff):
		return seeOther(w, r, pathSecurity)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathDisable)
	case errors.Is(err, account.ErrProofNeeded): // the field was empty
		d.AskCode, d.Error = true, templates.Wrong
		return h.showDisable(w, r, in, http.StatusUnprocessableEntity, d)
	}
	d.AskCode = true
	status, ok := refusal(w, err, &d.Error, &d.Wait)
	if !ok {
		return err
	}
	return h.showDisable(w, r, in, status, d)
}

// codes shows new backup codes until they are saved or, if there are none, asks
// whether to make some.
func (h *Handler) codes(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	return h.showCodes(w, r, in, http.StatusOK, templates.Codes{To: local(r.URL.Query().Get("to"))})
}

func (h *Handler) showCodes(w http.ResponseWriter, r *http.Request, in *account.Session, status int, c templates.Codes) error {
	e, err := h.Accounts.Enrollment(r.Context(), in, account.PurposeCodes)
	if err != nil && !errors.Is(err, account.ErrNoEnrollment) {
		return h.noCodes(w, r, c.To, err)
	}
	p, err := h.tabPage(r, in)
	if err != nil {
		return err
	}
	c.UseAt, c.CancelURL = h.useAt(), cancelCodes
	if e != nil {
		c.Codes, c.Made = e.Codes, e.CreatedAt
	}
	if p.TwoFactor != nil {
		c.Left = p.TwoFactor.CodesLeft
	}
	p.Codes = &c
	return web.Show(w, r, status, p)
}

func (h *Handler) noCodes(w http.ResponseWriter, r *http.Request, to string, err error) error {
	switch {
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "codes", back(pathCodes, to))
	case errors.Is(err, account.ErrOff):
		return seeOther(w, r, pathSecurity)
	case errors.Is(err, account.ErrNoEnrollment):
		h.Sessions.Notice(w, "set_up_expired", "")
		return seeOther(w, r, pathSecurity)
	}
	return unavailable(err)
}

// beginCodes makes them. The old ones are good until these are saved.
func (h *Handler) beginCodes(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	to := local(r.PostForm.Get("to"))
	if err := h.Accounts.Enroll(r.Context(), in, account.PurposeCodes, false); err != nil {
		return h.noCodes(w, r, to, err)
	}
	return seeOther(w, r, back(pathCodes, to))
}

// saveCodes puts them in the place of the old ones.
func (h *Handler) saveCodes(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	c := templates.Codes{To: local(r.PostForm.Get("to"))}
	if r.PostForm.Get("saved") == "" {
		c.Error = templates.NotSaved
		return h.showCodes(w, r, in, http.StatusUnprocessableEntity, c)
	}
	if err := h.Accounts.MakeCodes(r.Context(), in, session.Device(r)); err != nil {
		return h.noCodes(w, r, c.To, err)
	}
	if c.To != "" {
		return seeOther(w, r, c.To)
	}
	h.Sessions.Notice(w, "codes_made", "")
	return seeOther(w, r, pathSecurity)
}
