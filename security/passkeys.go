package security

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// Where the dialogs about passkeys lead that are closed.
const (
	cancelAddPasskey = pathSecurity + "#add-passkey"
	cancelPasskeys   = pathSecurity + "#passkeys"
	cancelPasskeysOn = pathSecurity + "#passkeys-on"
)

// passkeyList is the section of the tab, nil where nobody can have passkeys.
func (h *Handler) passkeyList(r *http.Request, in *account.Session) (*templates.PasskeyList, error) {
	if !h.Accounts.HasPasskeys() {
		return nil, nil
	}
	all, err := h.Accounts.Passkeys(r.Context(), in.UserID)
	if err != nil {
		return nil, err
	}
	list := &templates.PasskeyList{}
	for _, k := range all.Keys {
		list.Keys = append(list.Keys, templates.PasskeyRow{
			ID: k.ID, Name: k.Name, Model: device.Model(k.Model), Verifies: k.Verifies, Synced: k.Synced, BackedUp: k.BackedUp, Made: k.CreatedAt, Used: k.UsedAt,
		})
	}
	list.Signal, err = h.signal(in, all)
	return list, err
}

// signal is what the browser may tell whoever keeps the person's passkeys: which are
// still taken here, and what the person is called (WebAuthn L3 5.1.10). "" for who
// never had one.
func (h *Handler) signal(in *account.Session, all *account.Passkeys) (string, error) {
	if all.Handle == nil {
		return "", nil
	}
	b64 := base64.RawURLEncoding.EncodeToString
	ids := []string{}
	for _, k := range all.Keys {
		ids = append(ids, b64(k.CredentialID()))
	}
	domain, person := h.Accounts.PasskeyDomain(), b64(all.Handle)
	text, err := json.Marshal(map[string]any{
		"signalAllAcceptedCredentials": map[string]any{"rpId": domain, "userId": person, "allAcceptedCredentialIds": ids},
		"signalCurrentUserDetails":     map[string]any{"rpId": domain, "userId": person, "name": in.Email, "displayName": in.Name},
	})
	return string(text), err
}

// addPasskeyPage is the dialog in which a passkey gets its name.
func (h *Handler) addPasskeyPage(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	if !in.FreshBest() {
		return confirmFirst(w, r, "passkey_add", pathAddPasskey)
	}
	b := device.Parse(r.UserAgent())
	d := templates.Device{Browser: b.Name, OS: b.OS}
	return h.showAddPasskey(w, r, in, http.StatusOK, templates.AddPasskey{Device: &d})
}

func (h *Handler) showAddPasskey(w http.ResponseWriter, r *http.Request, in *account.Session, status int, a templates.AddPasskey) error {
	p, err := h.tabPage(r, in)
	if err != nil {
		return err
	}
	if p.Passkeys == nil {
		return seeOther(w, r, pathSecurity)
	}
	a.CancelURL = cancelAddPasskey
	p.AddPasskey = &a
	return web.Show(w, r, status, p)
}

// askPasskey is what the dialog's script asks the browser for.
func (h *Handler) askPasskey(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	return h.Sessions.AskPasskey(w, r, account.PasskeyAdd, in)
}

// addPasskey takes the new passkey.
func (h *Handler) addPasskey(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	a := templates.AddPasskey{Name: r.PostForm.Get("name")}
	answer := h.Sessions.Passkey(w, r)
	if answer == nil { // without JavaScript
		a.Error = templates.PasskeyOver
		return h.showAddPasskey(w, r, in, http.StatusUnprocessableEntity, a)
	}
	err := h.Accounts.AddPasskey(r.Context(), in, *answer, a.Name, session.Device(r))
	status := http.StatusUnprocessableEntity
	invalid, _ := errors.AsType[*account.InvalidError](err)
	switch {
	case err == nil:
		h.Sessions.Notice(w, "passkey_added", "")
		return seeOther(w, r, cancelPasskeys)
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "passkey_add", pathAddPasskey)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathAddPasskey)
	case invalid != nil:
		a.Error = templates.BadName
	case errors.Is(err, account.ErrPasskeyTaken):
		a.Error, status = templates.PasskeyTaken, http.StatusConflict
	case errors.Is(err, account.ErrTooMany):
		a.Error = templates.TooManyPasskeys
	case errors.Is(err, account.ErrNoCeremony):
		a.Error = templates.PasskeyOver
	case errors.Is(err, account.ErrWrong):
		a.Error = templates.WrongPasskey
	default:
		return err
	}
	return h.showAddPasskey(w, r, in, status, a)
}

// onePasskey shows a dialog about one of the person's passkeys. One that is not theirs,
// or not any more, is on no page.
func (h *Handler) onePasskey(w http.ResponseWriter, r *http.Request, in *account.Session, id string, status int, show func(*templates.Security, templates.PasskeyRow)) error {
	p, err := h.tabPage(r, in)
	if err != nil {
		return err
	}
	if p.Passkeys != nil {
		for _, k := range p.Passkeys.Keys {
			if k.ID == id {
				show(&p, k)
				return web.Show(w, r, status, p)
			}
		}
	}
	return noPasskey(account.ErrNotFound)
}

func noPasskey(err error) error {
	return &web.Error{Status: http.StatusNotFound, Title: "passkey_gone.title", Message: "passkey_gone.text", Action: "error.home", ActionURL: cancelPasskeys, Err: err}
}

// renamePasskeyPage asks for the new name.
func (h *Handler) renamePasskeyPage(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	return h.showRenamePasskey(w, r, in, r.URL.Query().Get("id"), http.StatusOK, templates.RenamePasskey{})
}

func (h *Handler) showRenamePasskey(w http.ResponseWriter, r *http.Request, in *account.Session, id string, status int, d templates.RenamePasskey) error {
	return h.onePasskey(w, r, in, id, status, func(p *templates.Security, k templates.PasskeyRow) {
		d.ID, d.CancelURL = k.ID, cancelPasskeys
		if d.Error == "" {
			d.Name = k.Name
		}
		p.RenamePasskey = &d
	})
}

// renamePasskey takes it.
func (h *Handler) renamePasskey(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	id, name := r.PostForm.Get("id"), r.PostForm.Get("name")
	err := h.Accounts.RenamePasskey(r.Context(), in, id, name, session.Device(r))
	invalid, _ := errors.AsType[*account.InvalidError](err)
	switch {
	case invalid != nil:
		return h.showRenamePasskey(w, r, in, id, http.StatusUnprocessableEntity, templates.RenamePasskey{Name: name, Error: templates.BadName})
	case errors.Is(err, account.ErrNotFound):
		return noPasskey(err)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathSecurity)
	case err != nil:
		return err
	}
	h.Sessions.Notice(w, "passkey_renamed", "")
	return seeOther(w, r, cancelPasskeys)
}

// removePasskeyPage asks whether to remove a passkey.
func (h *Handler) removePasskeyPage(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	id := r.URL.Query().Get("id")
	if !in.FreshBest() {
		return confirmFirst(w, r, "passkey_remove", pathRemovePasskey+"?"+url.Values{"id": {id}}.Encode())
	}
	return h.showRemovePasskey(w, r, in, id, http.StatusOK, "")
}

func (h *Handler) showRemovePasskey(w http.ResponseWriter, r *http.Request, in *account.Session, id string, status int, why string) error {
	return h.onePasskey(w, r, in, id, status, func(p *templates.Security, k templates.PasskeyRow) {
		p.RemovePasskey = &templates.RemovePasskey{ID: k.ID, Name: k.Name, Others: p.Password.Others, Error: why, CancelURL: cancelPasskeys}
	})
}

// removePasskey removes it.
func (h *Handler) removePasskey(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	id := r.PostForm.Get("id")
	err := h.Accounts.RemovePasskey(r.Context(), in, id, r.PostForm.Get("sign_out_others") != "", session.Device(r))
	switch {
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "passkey_remove", pathRemovePasskey+"?"+url.Values{"id": {id}}.Encode())
	case errors.Is(err, account.ErrLastWay):
		return h.showRemovePasskey(w, r, in, id, http.StatusConflict, templates.LastWay)
	case errors.Is(err, account.ErrNotFound):
		return noPasskey(err)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathSecurity)
	case err != nil:
		return err
	}
	h.Sessions.Notice(w, "passkey_removed", "")
	return seeOther(w, r, cancelPasskeys)
}

// passkeyEndpoints is where password managers lead people (W3C "A Well-Known URL for
// Relying Party Passkey Endpoints").
func (h *Handler) passkeyEndpoints(w http.ResponseWriter, _ *http.Request) error {
	text, err := json.Marshal(map[string]string{"enroll": h.Issuer + pathAddPasskey, "manage": h.Issuer + cancelPasskeys})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(text)
	return err
}

// keysOn is two-factor authentication without an app: it asks whether to begin and, if
// that was done, shows the backup codes until they are saved.
func (h *Handler) keysOn(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	return h.showKeysOn(w, r, in, http.StatusOK, templates.Codes{})
}

func (h *Handler) showKeysOn(w http.ResponseWriter, r *http.Request, in *account.Session, status int, c templates.Codes) error {
	e, err := h.Accounts.Enrollment(r.Context(), in, account.PurposeKeys)
	if err != nil && !errors.Is(err, account.ErrNoEnrollment) {
		return h.noKeysOn(w, r, err)
	}
	p, err := h.tabPage(r, in)
	if err != nil {
		return err
	}
	c.Passkeys, c.UseAt, c.CancelURL, c.Others = true, h.useAt(), cancelPasskeysOn, p.Password.Others
	if e != nil {
		c.Codes, c.Made = e.Codes, e.CreatedAt
	}
	p.Codes = &c
	return web.Show(w, r, status, p)
}

func (h *Handler) noKeysOn(w http.ResponseWriter, r *http.Request, err error) error {
	switch {
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "enable", pathKeysOn)
	case errors.Is(err, account.ErrOn):
		h.Sessions.Notice(w, "two_factor_on_already", "")
		return seeOther(w, r, pathSecurity)
	case errors.Is(err, account.ErrNoEnrollment):
		h.Sessions.Notice(w, "set_up_expired", "")
		return seeOther(w, r, pathSecurity)
	case errors.Is(err, account.ErrNotFound):
		return seeOther(w, r, cancelPasskeys)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathKeysOn)
	}
	return unavailable(err)
}

// beginKeysOn makes the backup codes, which are worth nothing before they are saved.
func (h *Handler) beginKeysOn(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	if err := h.Accounts.Enroll(r.Context(), in, account.PurposeKeys, false); err != nil {
		return h.noKeysOn(w, r, err)
	}
	return seeOther(w, r, pathKeysOn)
}

// saveKeysOn turns it on.
func (h *Handler) saveKeysOn(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	c := templates.Codes{Keep: r.PostForm.Get("sign_out_others") == ""}
	if r.PostForm.Get("saved") == "" {
		c.Error = templates.NotSaved
		return h.showKeysOn(w, r, in, http.StatusUnprocessableEntity, c)
	}
	if err := h.Accounts.EnableByPasskeys(r.Context(), in, !c.Keep, session.Device(r)); err != nil {
		return h.noKeysOn(w, r, err)
	}
	h.Sessions.Notice(w, "passkeys_on", "")
	return seeOther(w, r, pathSecurity)
}
