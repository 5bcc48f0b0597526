package security

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

const (
	mostSessions = 100             // that are shown (SE-6)
	mostEvents   = 100             // on one page of the activity
	activeFor    = 5 * time.Minute // since the last use
	busyWait     = 5 * time.Second // when everything hashes
)

// sessionsPage is the Sessions tab with nothing asked.
func (h *Handler) sessionsPage(r *http.Request, in *account.Session) (templates.Sessions, error) {
	p := templates.Sessions{Account: accountOf(in), Access: int((h.AccessTokenTTL + time.Minute - 1) / time.Minute)}
	list, all, err := h.Accounts.Sessions(r.Context(), in.UserID, mostSessions)
	if err != nil {
		return p, err
	}
	workspaces, err := h.Workspaces(r.Context(), in.UserID)
	if err != nil {
		return p, err
	}
	p.This = templates.SessionRow{ID: in.ID, Device: h.device(session.Device(r)), SeenAt: time.Now(), Active: true, SignedInAt: in.CreatedAt, How: templates.How(in.AMR), Workspaces: workspaces[in.ID]}
	for _, i := range list {
		if i.ID == in.ID {
			continue
		}
		p.Others = append(p.Others, templates.SessionRow{
			ID: i.ID, Device: h.device(i.Device), SeenAt: i.SeenAt, Active: time.Since(i.SeenAt) < activeFor,
			SignedInAt: i.CreatedAt, How: templates.How(i.AMR), Workspaces: workspaces[i.ID],
		})
	}
	p.More = max(0, all-len(list))
	p.Allowed, err = h.Allowed(r.Context(), in.UserID)
	return p, err
}

// withdraw takes back what the person allowed a third-party workspace. It only ever
// ends access, so no fresh proof is asked for.
func (h *Handler) withdraw(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	done, err := h.Withdraw(r.Context(), in.UserID, r.PostForm.Get("client"), session.Device(r))
	if err != nil {
		return err
	}
	if done {
		h.Sessions.Notice(w, "consent_withdrawn", "")
	}
	return seeOther(w, r, pathSessions)
}

// sessions is the Sessions tab.
func (h *Handler) sessions(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	p, err := h.sessionsPage(r, in)
	if err != nil {
		return err
	}
	p.Account = h.noticed(w, r, in)
	return web.Show(w, r, http.StatusOK, p)
}

// askEnd is where a fresh proof leads back to: it was asked for in order to sign
// out this one.
func (h *Handler) askEnd(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	p, err := h.sessionsPage(r, in)
	if err != nil {
		return err
	}
	id := r.URL.Query().Get("id")
	for i := range p.Others {
		if p.Others[i].ID == id {
			p.Ask = &p.Others[i]
			return web.Show(w, r, http.StatusOK, p)
		}
	}
	return seeOther(w, r, pathSessions)
}

// end signs out another session of the person's.
func (h *Handler) end(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	id := r.PostForm.Get("id")
	err := h.Accounts.EndOther(r.Context(), in, id, session.Device(r))
	switch {
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "end_session", pathEnd+"?"+url.Values{"id": {id}}.Encode())
	case errors.Is(err, account.ErrNotFound):
		return &web.Error{Status: http.StatusNotFound, Title: "session_gone.title", Message: "session_gone.text", Action: "session_gone.action", ActionURL: pathSessions, Err: err}
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathSessions)
	case err != nil:
		return err
	}
	h.Sessions.Notice(w, "session_ended", "")
	return seeOther(w, r, pathSessions)
}

// askEndOthers is askEnd for all of them.
func (h *Handler) askEndOthers(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	p, err := h.sessionsPage(r, in)
	if err != nil {
		return err
	}
	if len(p.Others) == 0 {
		return seeOther(w, r, pathSessions)
	}
	p.AskAll = true
	return web.Show(w, r, http.StatusOK, p)
}

// endOthers signs out every session of the person's but this one.
func (h *Handler) endOthers(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	n, err := h.Accounts.EndOthers(r.Context(), in, session.Device(r))
	switch {
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "end_others", pathEndOthers)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathSessions)
	case err != nil:
		return err
	case n == 0:
		h.Sessions.Notice(w, "nothing_to_end", "")
	default:
		h.Sessions.Notice(w, "sessions_ended", strconv.Itoa(n))
	}
	return seeOther(w, r, pathSessions)
}

// activity is the Activity tab. A page goes on where the one before it ended.
func (h *Handler) activity(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	var before time.Time
	if us, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64); err == nil && us > 0 {
		before = time.UnixMicro(us)
	}
	events, err := h.Accounts.Activity(r.Context(), in.UserID, before, mostEvents)
	if err != nil {
		return err
	}
	p := templates.Activity{Account: h.noticed(w, r, in)}
	for _, e := range events {
		p.Events = append(p.Events, h.event(e))
	}
	if len(events) == mostEvents {
		p.Next = pathActivity + "?" + url.Values{"before": {strconv.FormatInt(events[len(events)-1].At.UnixMicro(), 10)}}.Encode()
	}
	return web.Show(w, r, http.StatusOK, p)
}

func (h *Handler) event(e account.Event) templates.ActivityEvent {
	out := templates.ActivityEvent{
		Kind: e.Kind, At: e.At, Device: h.device(e.Device), How: templates.How(e.Detail.AMR), New: e.Detail.New,
		Count: max(e.Detail.Left, e.Detail.Ended), Case: e.Detail.Case, Support: e.Actor.Kind == "operator", Limit: e.Actor.Kind == "limit", Workspace: e.Detail.Client,
		Passkeys: e.Detail.Passkeys,
	}
	if e.Kind == account.EventSessionEnded {
		other := h.device(account.Device{UserAgent: e.Detail.Other})
		out.Other = &other
	}
	return out
}

// notMe is where "This wasn’t me" leads.
func (h *Handler) notMe(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	others, err := h.Accounts.OtherSessions(r.Context(), in)
	if err != nil {
		return err
	}
	keys, err := h.passkeyList(r, in)
	if err != nil {
		return err
	}
	return web.Show(w, r, http.StatusOK, templates.NotMe{
		Account: accountOf(in), Method: string(in.Method), TwoFactor: in.TwoFactor, Passkeys: keys != nil && len(keys.Keys) > 0, Others: others, CancelURL: pathActivity,
	})
}

// secure signs out everywhere else and leads to the change of the password.
func (h *Handler) secure(w http.ResponseWriter, r *http.Request, in *account.Session) error {
	_, err := h.Accounts.EndOthers(r.Context(), in, session.Device(r))
	switch {
	case errors.Is(err, account.ErrProofNeeded):
		return confirmFirst(w, r, "not_me", pathNotMe)
	case errors.Is(err, account.ErrNoSession):
		return signInAgain(w, r, pathNotMe)
	case err != nil:
		return err
	}
	notice, next := "secured", pathSecurity+"#current_password"
	if in.Method == account.MethodGoogle {
		notice, next = "secured_google", pathSecurity
	}
	h.Sessions.Notice(w, notice, "")
	return seeOther(w, r, next)
}
