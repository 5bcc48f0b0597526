package idp

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/harmony/id/account"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// A leaving is a sign-out that a workspace asks for, checked (OIDC RP-Initiated
// Logout 2). Its redirect URI is "" unless it is registered for a client that is known for sure.
type leaving struct {
	clientID, redirectURI, state string
	hint                         *idClaims // verified, or nil
}

// endSession is the end-session endpoint. Who comes with an ID token of the very
// session of this browser is signed out at once; everyone else is asked, for a
// link or an image on any page can lead here.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) error {
	q, err := s.browserQuery(w, r)
	if q == nil {
		return err
	}
	l, err := s.leaving(r, q)
	if err != nil {
		return err
	}
	in, err := s.sessions.In(r)
	if err != nil {
		return err
	}
	switch {
	case in == nil && l.hint != nil:
		// Signed out already, or idle for too long: then the very session that the
		// hint names ends now, for the tokens of workspaces outlive idleness.
		ended, err := s.sessions.EndOnly(w, r, l.hint.Session)
		if err != nil {
			return err
		}
		return s.sayFarewell(w, r, ended, l)
	case in == nil:
		return redirect(w, pathLogout)
	case l.hint != nil && l.hint.Session == in.ID && l.hint.Subject == in.UserID:
		ended, err := s.sessions.End(w, r)
		if err != nil {
			return err
		}
		return s.sayFarewell(w, r, ended, l)
	}
	why := "id_token_hint is of another session of this browser, or of another person"
	if l.hint == nil {
		why = "there is no id_token_hint that vouches for the request"
	}
	note(r, "sign-out is asked about", "client_id", l.clientID, "why", why)
	return s.askToLeave(w, r, in, l)
}

// leaving checks the parameters of a sign-out. What cannot be relied on is left
// out and noted for the operator; it never keeps a person from signing out.
func (s *Server) leaving(r *http.Request, q url.Values) (*leaving, error) {
	l := &leaving{}
	snap, err := s.state.current(r.Context())
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} {
		if v := q[name]; len(v) > 1 || len(v) == 1 && !text(v[0]) {
			return nil, badRequest(fmt.Errorf("%s stands there more than once or is not text", name))
		}
	}
	id := q.Get("client_id")
	if token := q.Get("id_token_hint"); token != "" {
		if l.hint, err = s.readHint(snap, token, id); err != nil {
			note(r, "id_token_hint refused", "client_id", short(id), "why", short(err.Error()))
			return l, nil // a forged hint vouches for nothing else in the request
		}
		id = l.hint.Audience
	}
	c := snap.clients[id]
	if c == nil {
		if to := q.Get("post_logout_redirect_uri"); to != "" {
			note(r, "post_logout_redirect_uri of nobody: neither id_token_hint nor the client_id of a client that is registered", "client_id", short(id), "got", short(to))
		}
		return l, nil
	}
	l.clientID = c.ID
	if to := q.Get("post_logout_redirect_uri"); slices.Contains(c.PostLogoutRedirectURIs, to) {
		l.redirectURI, l.state = to, q.Get("state")
	} else if to != "" {
		note(r, "post_logout_redirect_uri is not registered", "client_id", c.ID, "got", short(to), "registered", c.PostLogoutRedirectURIs)
	}
	return l, nil
}

// back is where a person goes when they are signed out.
func (l *leaving) back() string {
	if l.redirectURI == "" {
		return pathLogout
	}
	v := url.Values{}
	if l.state != "" {
		v.Set("state", l.state)
	}
	return withQuery(l.redirectURI, v)
}

// askToLeave shows the question. The form carries what the workspace asked for;
// it is checked again when it comes back.
func (s *Server) askToLeave(w http.ResponseWriter, r *http.Request, in *account.Session, l *leaving) error {
	names, err := s.workspaces(r.Context(), in.ID)
	if err != nil {
		return err
	}
	page := templates.SignOut{Name: in.Name, Email: in.Email, Workspaces: names, Action: pathLogout, StayURL: "/preferences/security"}
	if l.redirectURI != "" {
		page.AnyOrigin = true
		page.Fields = []templates.Field{{Name: "client_id", Value: l.clientID}, {Name: "post_logout_redirect_uri", Value: l.redirectURI}}
		if l.state != "" {
			page.Fields = append(page.Fields, templates.Field{Name: "state", Value: l.state})
		}
	}
	return web.Show(w, r, http.StatusOK, page)
}

// logoutPage is the question of who is signed in, and the farewell of who is not.
func (s *Server) logoutPage(w http.ResponseWriter, r *http.Request) error {
	in, err := s.sessions.In(r)
	if err != nil {
		return err
	}
	if in == nil {
		return s.signedOut(w, r)
	}
	return s.askToLeave(w, r, in, &leaving{})
}

// logout ends the session of the browser, once its person has said so on a page
// of ours, and leads back to the workspace that asked.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badRequest(err)
	}
	q := url.Values{}
	for _, name := range []string{"client_id", "post_logout_redirect_uri", "state"} {
		if v := r.PostForm[name]; len(v) > 0 {
			q[name] = v
		}
	}
	l, err := s.leaving(r, q)
	if err != nil {
		return err
	}
	ended, err := s.sessions.End(w, r)
	if err != nil {
		return err
	}
	w.Header().Set("Clear-Site-Data", `"cache"`)
	return s.sayFarewell(w, r, ended, l)
}

// workspaces are the display names of the clients that a session led to.
func (s *Server) workspaces(ctx context.Context, sessionID string) ([]string, error) {
	rows, err := s.db.Query(ctx, `
		SELECT DISTINCT c.name FROM grants g JOIN clients c ON c.id = g.client_id
		WHERE g.session_id = $1 AND g.redeemed_at IS NOT NULL AND g.ended_at IS NULL ORDER BY c.name LIMIT 100`, sessionID)
	if err != nil {
		return nil, fmt.Errorf("reading a session's workspaces: %w", err)
	}
	return names(rows)
}

// Workspaces are the display names of the clients that each session of a person
// led to, by the session's id.
func (s *Server) Workspaces(ctx context.Context, userID string) (map[string][]string, error) {
	rows, err := s.db.Query(ctx, `
		SELECT DISTINCT g.session_id, c.name FROM grants g JOIN clients c ON c.id = g.client_id JOIN sessions s ON s.id = g.session_id
		WHERE s.user_id = $1 AND s.ended_at IS NULL AND g.redeemed_at IS NOT NULL AND g.ended_at IS NULL ORDER BY c.name LIMIT 1000`, userID)
	if err != nil {
		return nil, fmt.Errorf("reading a person's workspaces: %w", err)
	}
	defer rows.Close()
	out := map[string][]string{}
	for rows.Next() {
		var session, name string
		if err := rows.Scan(&session, &name); err != nil {
			return nil, fmt.Errorf("reading a person's workspaces: %w", err)
		}
		out[session] = append(out[session], name)
	}
	return out, rows.Err()
}

// Requiring2FA are the display names of the clients that a person uses and that
// demand a second factor.
func (s *Server) Requiring2FA(ctx context.Context, userID string) ([]string, error) {
	rows, err := s.db.Query(ctx, `
		SELECT DISTINCT c.name FROM grants g JOIN clients c ON c.id = g.client_id JOIN sessions s ON s.id = g.session_id
		WHERE s.user_id = $1 AND c.require_2fa = 1 AND c.disabled_at IS NULL ORDER BY c.name LIMIT 100`, userID)
	if err != nil {
		return nil, fmt.Errorf("reading a person's workspaces: %w", err)
	}
	return names(rows)
}

func names(rows *sql.Rows) (out []string, err error) {
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("reading a person's workspaces: %w", err)
		}
		out = append(out, name)
	}
	return out, rows.Err()
}
