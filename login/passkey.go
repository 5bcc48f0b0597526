package login

import (
	"encoding/base64"
	"encoding/json"
	"net/http"

	"github.com/harmony/id/account"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// askPasskey asks the browser for a passkey: of anybody, of who is half signed in or,
// to confirm, of who is signed in. It takes no address, so it tells nothing about one
// (WA-13).
func (h *Handler) askPasskey(w http.ResponseWriter, r *http.Request) error {
	use := account.PasskeyUse(r.PostForm.Get("use"))
	var in *account.Session
	switch use {
	case account.PasskeySignIn, account.PasskeySecond:
	case account.PasskeyConfirm:
		var err error
		if in, err = h.Sessions.In(r); err != nil {
			return err
		}
		if in == nil {
			return &web.Error{Status: http.StatusUnauthorized}
		}
	default:
		return &web.Error{Status: http.StatusBadRequest}
	}
	return h.Sessions.AskPasskey(w, r, use, in)
}

// passkey takes the passkey of somebody who signs in.
func (h *Handler) passkey(w http.ResponseWriter, r *http.Request) error {
	to := local(r.PostForm.Get("to"))
	answer := h.Sessions.Passkey(w, r)
	if answer == nil {
		return h.toSignIn(w, r)
	}
	l, err := h.Accounts.CheckPasskey(r.Context(), *answer, session.Device(r))
	if err = h.start(w, r, l, to, err); err == nil {
		return nil
	}
	h.note(r, "", err)
	p := h.formAgain(r, to, "")
	status, ok := refusal(w, r, err, &p.Error, &p.Wait)
	if !ok {
		return err
	}
	switch p.Error {
	case templates.Wrong:
		p.Error = templates.WrongPasskey
	case templates.UnknownPasskey:
		p.Signal = h.unknown(answer.Response)
	}
	return web.Show(w, r, status, p)
}

// unknown is what the browser is told of a passkey that nobody has any more, so that it
// offers it no more (WebAuthn L3 5.1.10.1).
func (h *Handler) unknown(response string) string {
	var said struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(response), &said); err != nil {
		return ""
	}
	if _, err := base64.RawURLEncoding.DecodeString(said.ID); err != nil {
		return ""
	}
	text, err := json.Marshal(map[string]any{
		"signalUnknownCredential": map[string]string{"rpId": h.Accounts.PasskeyDomain(), "credentialId": said.ID},
	})
	if err != nil {
		return ""
	}
	return string(text)
}

// toSignIn leads who reloads the page of a passkey that was refused.
func (h *Handler) toSignIn(w http.ResponseWriter, r *http.Request) error {
	to := r.URL.Query().Get("to")
	if r.Method == http.MethodPost {
		to = r.PostForm.Get("to")
	}
	http.Redirect(w, r, withTo("/login", local(to)), http.StatusSeeOther)
	return nil
}
