package idp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// A consent is what a person allowed a third-party client to learn (OIDC Core 3.1.2.4):
// one row a person and client, which grows with what is allowed further and goes with
// what is withdrawn. First-party clients, the workspaces, need none.
type consent struct {
	scope   string // as it is kept; "" for none
	givenAt time.Time
}

func (s *Server) readConsent(ctx context.Context, userID, clientID string) (c consent, err error) {
	var at int64
	err = s.db.QueryRow(ctx, `SELECT scope, given_at FROM consents WHERE user_id = $1 AND client_id = $2`, userID, clientID).Scan(&c.scope, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return consent{}, nil
	}
	if err != nil {
		return consent{}, fmt.Errorf("reading a consent: %w", err)
	}
	c.givenAt = db.Time(at)
	return c, nil
}

// consented reads what the person of a session allowed the client of a request, if
// that asks anybody.
func (s *Server) consented(ctx context.Context, r *request, in *account.Session) (err error) {
	if r.client.ThirdParty && in != nil {
		r.consent, err = s.readConsent(ctx, in.UserID, r.ClientID)
	}
	return err
}

// asksFor are the scopes that the answer to a request needs a consent for: those that
// it is granted, and those of claims that are asked for by name.
func (r *request) asksFor() []string {
	scopes := strings.Fields(r.Scope)
	for _, name := range slices.Concat(r.Claims.UserInfo, r.Claims.IDToken) {
		if scope := scopeOfClaim[name]; !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// needsConsent decides whether the person of a session has to be asked: for what they
// have not allowed yet, and for all of it once more if the request says so.
func (r *request) needsConsent() step {
	if !r.client.ThirdParty {
		return stepNone
	}
	given := strings.Fields(r.consent.scope)
	missing := slices.ContainsFunc(r.asksFor(), func(s string) bool { return !slices.Contains(given, s) })
	again := r.AskAgain && (r.ID == "" || r.consent.givenAt.Before(r.CreatedAt))
	switch {
	case !missing && !again:
		return stepNone
	case r.Prompt == "none":
		return stepRefuseConsent
	}
	return stepConsent
}

// allow writes down what the person of a session allows, besides what they allowed
// before.
func (s *Server) allow(ctx context.Context, r *request, in *account.Session, d account.Device) error {
	now := time.Now()
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "users", in.UserID); err != nil { // nothing is withdrawn meanwhile, to come back with this
			return err
		}
		var before string
		err := tx.QueryRow(ctx, `SELECT scope FROM consents WHERE user_id = $1 AND client_id = $2`, in.UserID, r.ClientID).Scan(&before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		scopes := append(strings.Fields(before), r.asksFor()...)
		slices.Sort(scopes)
		if _, err := tx.Exec(ctx, `
			INSERT INTO consents (user_id, client_id, scope, given_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (user_id, client_id) DO UPDATE SET scope = excluded.scope, given_at = excluded.given_at`,
			in.UserID, r.ClientID, strings.Join(slices.Compact(scopes), " "), db.Micros(now)); err != nil {
			return err
		}
		return account.Record(ctx, tx, account.Event{
			Kind: "consent_given", UserID: in.UserID, ClientID: r.ClientID, SessionID: in.ID, Actor: account.Actor{Kind: "person"}, Device: d,
			Detail: account.Detail{Client: r.client.Name},
		})
	})
	if err != nil {
		return fmt.Errorf("writing a consent down: %w", err)
	}
	return nil
}

// Withdraw takes back what a person allowed a client: every grant of theirs there ends,
// and with it every code and token. It reports whether there was anything to take back.
func (s *Server) Withdraw(ctx context.Context, userID, clientID string, d account.Device) (done bool, err error) {
	now := db.Micros(time.Now())
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "users", userID); err != nil { // no grant is born meanwhile
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM consents WHERE user_id = $1 AND client_id = $2`, userID, clientID)
		if done = n == 1; err != nil || !done {
			return err
		}
		if _, err := tx.Exec(ctx, `
			UPDATE grants SET ended_at = $1 WHERE `+clientOf("grants")+` = $2 AND ended_at IS NULL AND session_id IN (SELECT id FROM sessions WHERE user_id = $3)`,
			now, clientID, userID); err != nil {
			return err
		}
		var name string
		if err := tx.QueryRow(ctx, `SELECT name FROM clients WHERE id = $1`, clientID).Scan(&name); err != nil {
			return err
		}
		return account.Record(ctx, tx, account.Event{
			Kind: "consent_withdrawn", UserID: userID, ClientID: clientID, Actor: account.Actor{Kind: "person"}, Device: d,
			Detail: account.Detail{Client: name},
		})
	})
	if err != nil {
		return false, fmt.Errorf("withdrawing a consent: %w", err)
	}
	return done, nil
}

// A Consent is what a person allowed, as they see it.
type Consent struct {
	ClientID, Name string
	Scopes         []string
	GivenAt        time.Time
}

// Consents are what a person allowed third-party clients, by name.
func (s *Server) Consents(ctx context.Context, userID string) ([]Consent, error) {
	rows, err := s.db.Query(ctx, `
		SELECT c.id, c.name, k.scope, k.given_at FROM consents k JOIN clients c ON c.id = k.client_id
		WHERE k.user_id = $1 ORDER BY c.name, c.id LIMIT 200`, userID)
	if err != nil {
		return nil, fmt.Errorf("reading a person's consents: %w", err)
	}
	defer rows.Close()
	var out []Consent
	for rows.Next() {
		var c Consent
		var scope string
		var at int64
		if err := rows.Scan(&c.ClientID, &c.Name, &scope, &at); err != nil {
			return nil, fmt.Errorf("reading a person's consents: %w", err)
		}
		c.Scopes, c.GivenAt = strings.Fields(scope), db.Time(at)
		out = append(out, c)
	}
	return out, rows.Err()
}

// asking is the request that a consent page is about, nil for one that needs no
// consent (any more): it has been led on.
func (s *Server) asking(w http.ResponseWriter, r *http.Request, id string) (*request, *account.Session, error) {
	req, err := s.waiting(r, id)
	if errors.Is(err, errNoRequest) {
		return nil, nil, startAgain(err)
	}
	if err != nil {
		return nil, nil, err
	}
	in, err := s.sessions.In(r)
	if err != nil {
		return nil, nil, err
	}
	if err := s.consented(r.Context(), req, in); err != nil {
		return nil, nil, err
	}
	if req.needs(in) != stepConsent {
		return nil, nil, redirect(w, pathResume+"?"+url.Values{"id": {id}}.Encode())
	}
	return req, in, nil
}

// consentPage asks.
func (s *Server) consentPage(w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("id")
	req, in, err := s.asking(w, r, id)
	if req == nil {
		return err
	}
	host := ""
	if u, err := url.Parse(req.RedirectURI); err == nil {
		host = u.Host
	}
	return web.Show(w, r, http.StatusOK, templates.Consent{
		Workspace: req.client.Name, Host: host, Name: in.Name, Email: in.Email, Scopes: req.asksFor(), Action: pathConsent, ID: id,
	})
}

// decide takes the answer. What is allowed is what the request asks for, whatever the
// form says.
func (s *Server) decide(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badRequest(err)
	}
	req, in, err := s.asking(w, r, r.PostForm.Get("id"))
	if req == nil {
		return err
	}
	switch r.PostForm.Get("decision") {
	case "allow":
		if err := s.allow(r.Context(), req, in, session.Device(r)); err != nil {
			return err
		}
		return redirect(w, pathResume+"?"+url.Values{"id": {req.ID}}.Encode())
	case "deny":
		return s.answerError(w, r, req, &oauthError{"access_denied", "the person does not allow it"})
	}
	return badRequest(errors.New("neither allow nor deny"))
}
