package login

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/harmony/id/account"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// half is who is half signed in in the request's browser, and the path that they
// go on to; nil if nobody is: then the answer, which leads to the beginning, is
// given.
func (h *Handler) half(w http.ResponseWriter, r *http.Request, to string) (*account.Half, error) {
	half, err := h.Sessions.Half(r)
	if errors.Is(err, account.ErrNoLogin) {
		return nil, h.startOver(w, r, to)
	}
	return half, err
}

// startOver leads who has nothing under way to the sign-in page, or on if they are
// signed in already: a code that was sent twice is no error.
func (h *Handler) startOver(w http.ResponseWriter, r *http.Request, to string) error {
	in, err := h.Sessions.In(r)
	if err != nil {
		return err
	}
	if in == nil {
		h.Sessions.Notice(w, "sign_in_over", "")
	}
	http.Redirect(w, r, withTo("/login", to), http.StatusSeeOther)
	return nil
}

// leads reports whether a form that leads on to this path may end at a workspace.
func (h *Handler) leads(r *http.Request, to string) bool {
	pending, err := h.Pending(r, to, nil)
	return err == nil && pending != nil
}

// verifyPage asks for the code.
func (h *Handler) verifyPage(w http.ResponseWriter, r *http.Request) error {
	to := local(r.URL.Query().Get("to"))
	half, err := h.half(w, r, to)
	if half == nil {
		return err
	}
	return web.Show(w, r, http.StatusOK, h.verifyForm(r, half, to))
}

func (h *Handler) verifyForm(r *http.Request, half *account.Half, to string) templates.Verify {
	return templates.Verify{
		Email: account.MaskEmail(half.Email), Google: half.Method == account.MethodGoogle && !half.KeyFirst, To: to, AnyOrigin: h.leads(r, to),
		NoApp: !half.App, Passkeys: half.Passkeys, KeyFirst: half.KeyFirst,
	}
}

// finish judges a second factor and leads on to next if it is right, or to the
// beginning if there is nothing to finish. Otherwise it returns why it was refused,
// and who is still half signed in, to whom the form is shown again.
func (h *Handler) finish(w http.ResponseWriter, r *http.Request, to string, f account.SecondFactor, next string) (*account.Half, error) {
	err := h.Sessions.Finish(w, r, f)
	switch {
	case err == nil:
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil, nil
	case errors.Is(err, account.ErrNoLogin), errors.Is(err, account.ErrOff):
		h.note(r, "", err)
		return nil, h.startOver(w, r, to)
	}
	half, gone := h.half(w, r, to)
	if half == nil {
		return nil, gone
	}
	h.note(r, half.Email, err)
	return half, err
}

// verify takes the code. An error does not tell whether another code would have
// been right.
func (h *Handler) verify(w http.ResponseWriter, r *http.Request) error {
	to := local(r.PostForm.Get("to"))
	f := account.SecondFactor{Code: r.PostForm.Get("code"), Passkey: h.Sessions.Passkey(w, r)}
	half, err := h.finish(w, r, to, f, to)
	if half == nil {
		return err
	}
	p := h.verifyForm(r, half, to)
	status, ok := refusal(w, r, err, &p.Error, &p.Wait)
	if p.Error == templates.Wrong && f.Passkey != nil {
		p.Error = templates.WrongPasskey
	}
	if !ok {
		return err
	}
	return web.Show(w, r, status, p)
}

// backupCodePage asks for a backup code in place of one of the app.
func (h *Handler) backupCodePage(w http.ResponseWriter, r *http.Request) error {
	to := local(r.URL.Query().Get("to"))
	half, err := h.half(w, r, to)
	if half == nil {
		return err
	}
	return web.Show(w, r, http.StatusOK, templates.BackupCode{Email: account.MaskEmail(half.Email), To: to, AnyOrigin: h.leads(r, to)})
}

// backupCode takes one, and leads on by a page that says how many are left.
func (h *Handler) backupCode(w http.ResponseWriter, r *http.Request) error {
	to := local(r.PostForm.Get("to"))
	half, err := h.finish(w, r, to, account.SecondFactor{Code: r.PostForm.Get("backup_code"), Backup: true}, withTo(pathCodeUsed, to))
	if half == nil {
		return err
	}
	p := templates.BackupCode{Email: account.MaskEmail(half.Email), To: to, AnyOrigin: h.leads(r, to)}
	status, ok := refusal(w, r, err, &p.Error, &p.Wait)
	if !ok {
		return err
	}
	return web.Show(w, r, status, p)
}

// codeUsed tells who signed in with a backup code how many are left.
func (h *Handler) codeUsed(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	to := local(r.URL.Query().Get("to"))
	two, err := h.Accounts.TwoFactor(r.Context(), in.UserID)
	if err != nil {
		return err
	}
	if two == nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
	return web.Show(w, r, http.StatusOK, templates.BackupCodeUsed{
		Email: in.Email, Left: two.CodesLeft, Total: two.CodesTotal, To: to,
		CodesURL: withTo("/preferences/security/2fa/codes", to), SecurityURL: home,
	})
}

// recovery says what can be done without either. It is the same for everybody.
func (h *Handler) recovery(w http.ResponseWriter, r *http.Request) error {
	return web.Show(w, r, http.StatusOK, templates.Recovery{To: local(r.URL.Query().Get("to"))})
}

// The proofs that the confirmation page can ask for: the names of its fields.
const (
	withPassword   = "password"
	withCode       = "code"
	withBackupCode = "backup_code"
	withGoogle     = "google" // no field: a round trip
	withPasskey    = "passkey"
)

// purposes are what a proof is asked for, and whether it has to be a second
// factor of who has one: a thief with a session and a password must not get past
// the code (ASVS 7.5.1).
var purposes = map[string]purpose{
	"enable": {second: true, cancel: home + "#enable-2fa"}, "end_session": {cancel: "/preferences/sessions"}, "end_others": {cancel: "/preferences/sessions"}, "not_me": {cancel: "/preferences/activity"},
	"disable": {second: true, only: true, cancel: home + "#disable-2fa"}, "codes": {second: true, only: true, cancel: home + "#new-codes"}, "workspace": {second: true, only: true, cancel: home},
	"passkey_add": {second: true, cancel: home + "#add-passkey"}, "passkey_remove": {second: true, cancel: home + "#passkeys"},
}

type purpose struct {
	second bool
	only   bool   // it is nothing for who has no second factor
	cancel string // where "Cancel" leads
}

// proved reports whether a session was proved enough for a purpose.
func (p purpose) proved(in *account.Session) bool {
	if p.second && (p.only || in.TwoFactor) {
		return in.SecondFresh()
	}
	return in.SecondFresh() || in.Fresh()
}

// proofs are those that would do for a purpose.
func (h *Handler) proofs(in *account.Session, second bool) (with []string) {
	if in.Method == account.MethodPassword && (!second || !in.TwoFactor) {
		with = append(with, withPassword)
	}
	if in.App {
		with = append(with, withCode)
	}
	if in.Passkeys && h.Accounts.HasPasskeys() {
		with = append(with, withPasskey)
	}
	if in.TwoFactor {
		with = append(with, withBackupCode)
	}
	if in.Method == account.MethodGoogle && !in.TwoFactor && h.Google != nil {
		with = append(with, withGoogle)
	}
	return with
}

// confirmForm is the page for a proof, ok false if there is nothing to prove.
func (h *Handler) confirmForm(r *http.Request, in *account.Session, q url.Values) (p templates.Confirm, ok bool, err error) {
	p = templates.Confirm{Name: in.Name, Email: in.Email, For: q.Get("for"), To: local(q.Get("to")), CancelURL: home}
	purpose, known := purposes[p.For]
	if known {
		p.CancelURL = purpose.cancel
	} else {
		p.For = ""
	}
	p.OtherURL = "/login?" + url.Values{"to": {p.To}, "another": {"1"}}.Encode()
	pending, err := h.Pending(r, p.To, in)
	if err != nil {
		return p, false, err
	}
	if pending != nil {
		p.Workspace, p.AnyOrigin = pending.Workspace, true
	}
	all := h.proofs(in, purpose.second)
	if p.For == "workspace" && !in.TwoFactor { // two factors of who has them in a passkey alone
		all = slices.DeleteFunc(all, func(with string) bool { return with != withPasskey })
	}
	switch {
	case purpose.only && !in.TwoFactor && (p.For != "workspace" || !in.Verifies), len(all) == 0 && in.Fresh():
		return p, false, nil
	case len(all) == 0: // nothing can be proved here: only a sign-in is fresh
		return p, false, &web.Error{Status: http.StatusForbidden, Title: "prove_none.title", Message: "prove_none.text", Action: "prove_none.action", ActionURL: "/logout"}
	}
	p.With = all[0]
	if slices.Contains(all, q.Get("with")) {
		p.With = q.Get("with")
	}
	for _, other := range all {
		if other != p.With {
			p.Others = append(p.Others, other)
		}
	}
	return p, true, nil
}

// confirmPage asks a signed-in person for a fresh proof, or leads on who gave one
// in the last minutes.
func (h *Handler) confirmPage(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	p, ok, err := h.confirmForm(r, in, r.URL.Query())
	if err != nil {
		return err
	}
	if purposes[p.For].proved(in) && p.For != "workspace" || !ok {
		http.Redirect(w, r, p.To, http.StatusSeeOther)
		return nil
	}
	return web.Show(w, r, http.StatusOK, p)
}

// confirm takes the proof.
func (h *Handler) confirm(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	p, ok, err := h.confirmForm(r, in, r.PostForm)
	if err != nil {
		return err
	}
	if !ok {
		http.Redirect(w, r, p.To, http.StatusSeeOther)
		return nil
	}
	switch p.With {
	case withGoogle:
		http.Redirect(w, r, pathGoogle+"?"+url.Values{"confirm": {"1"}, "to": {p.To}}.Encode(), http.StatusSeeOther)
		return nil
	case withPassword:
		err = h.Sessions.Prove(w, r, in, r.PostForm.Get("password"), nil)
	case withPasskey:
		err = account.ErrNoCeremony
		if a := h.Sessions.Passkey(w, r); a != nil {
			err = h.Sessions.Prove(w, r, in, "", &account.SecondFactor{Passkey: a})
		}
	default:
		err = h.Sessions.Prove(w, r, in, "", &account.SecondFactor{Code: r.PostForm.Get(p.With), Backup: p.With == withBackupCode})
	}
	switch {
	case err == nil && p.With == withBackupCode:
		http.Redirect(w, r, withTo(pathCodeUsed, p.To), http.StatusSeeOther)
		return nil
	case err == nil:
		http.Redirect(w, r, p.To, http.StatusSeeOther)
		return nil
	case errors.Is(err, account.ErrNoSession):
		http.Redirect(w, r, withTo("/login", p.To), http.StatusSeeOther)
		return nil
	}
	h.note(r, in.Email, err)
	status, known := refusal(w, r, err, &p.Error, &p.Wait)
	if !known {
		return err
	}
	if p.Error == templates.Wrong && p.With == withPasskey {
		p.Error = templates.WrongPasskey
	}
	return web.Show(w, r, status, p)
}
