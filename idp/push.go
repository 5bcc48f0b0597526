package idp

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A pushed authorization request (RFC 9126) comes from the client itself, which is
// authenticated before the browser sets out, and waits under a request_uri that
// nobody can guess. The browser carries that name alone, once.
const (
	pushedURI    = "urn:ietf:params:oauth:request_uri:"
	pushedPrefix = "hpr_"
	pushedTTL    = time.Minute // the browser is on its way
)

// push is the pushed authorization request endpoint (RFC 9126 2). What cannot be
// asked for at the authorization endpoint cannot be pushed either: the same
// function reads it, here for an early answer and there for the decision.
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	out, err := s.pushed(r)
	if err != nil {
		refuse(w, r, err)
		return
	}
	b, err := json.Marshal(out)
	if err != nil {
		refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(b) // a reader that left is no fault of ours
}

// A pushResponse is RFC 9126 2.2.
type pushResponse struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

func (s *Server) pushed(r *http.Request) (_ *pushResponse, err error) {
	ctx := r.Context()
	c, err := s.authenticate(ctx, r.Header, r.PostForm, credentials(r))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("client %s: %w", c.ID, err)
		}
	}()
	if r.PostForm.Has("request_uri") { // RFC 9126 2.1
		return nil, &oauthError{"invalid_request", "a request_uri cannot be pushed"}
	}
	q := url.Values{} // what is read later: anything else may be a secret, and is a burden
	for name, v := range r.PostForm {
		if name == "client_id" || name == "redirect_uri" || slices.Contains(parameters, name) {
			q[name] = v
		}
	}
	if id := q.Get("client_id"); id != "" && id != c.ID {
		return nil, fmt.Errorf("%w (client %s pushes a request of %s)", &oauthError{"invalid_request", "two different client ids"}, c.ID, short(id))
	}
	q.Set("client_id", c.ID)
	jkt, err := s.prove(ctx, r.Header, http.MethodPost, pathPush, "")
	if err != nil {
		return nil, err
	}
	if jkt != "" { // a proof here binds the code, as dpop_jkt does (RFC 9449 10.1)
		if asked := q.Get("dpop_jkt"); asked != "" && asked != jkt {
			return nil, badProof("another key than dpop_jkt")
		}
		q.Set("dpop_jkt", jkt)
	}
	snap, err := s.state.get(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.parse(snap, q); err != nil {
		if page, ok := errors.AsType[*pageError](err); ok {
			return nil, fmt.Errorf("%w (%w)", &oauthError{"invalid_request", "redirect_uri is not registered, or state is not text"}, page)
		}
		return nil, err
	}
	params := q.Encode()
	if len(params) > maxQuery { // a public client's pusher is anybody
		return nil, &oauthError{"invalid_request", "the request is too long"}
	}
	token := secret.Token(pushedPrefix)
	// Soft: a request that a power cut takes away is begun again.
	_, err = s.db.Exec(db.Soft(ctx), `INSERT INTO pushed_requests (uri_hash, client_id, params, expires_at) VALUES ($1, $2, $3, $4)`,
		secret.Hash(token), c.ID, params, db.Micros(time.Now().Add(pushedTTL)))
	if err != nil {
		return nil, fmt.Errorf("keeping a pushed request: %w", err)
	}
	return &pushResponse{RequestURI: pushedURI + token, ExpiresIn: int64(pushedTTL.Seconds())}, nil
}

// credentials are a client's, from the header or the form, which checkClientRequest
// has looked at.
func credentials(r *http.Request) *op.ClientCredentials {
	got := &op.ClientCredentials{ClientID: r.PostForm.Get("client_id"), ClientSecret: r.PostForm.Get("client_secret"), ClientAssertion: r.PostForm.Get("client_assertion")}
	if id, password, ok := r.BasicAuth(); ok {
		// Both can be read, or checkClientRequest would have refused them.
		got.ClientID, _ = url.QueryUnescape(id)
		got.ClientSecret, _ = url.QueryUnescape(password)
	}
	return got
}

// pull returns the parameters that a browser's request stands for, and whether they
// were pushed. Of one that names a pushed request nothing else counts (RFC 9126 4),
// and it is used up: whoever finds the name later finds nothing.
func (s *Server) pull(ctx context.Context, q url.Values) (_ url.Values, pushed bool, err error) {
	uri := q["request_uri"]
	if len(uri) != 1 || !strings.HasPrefix(uri[0], pushedURI+pushedPrefix) {
		return q, false, nil
	}
	token := uri[0][len(pushedURI):]
	if !secret.IsToken(token, pushedPrefix) || len(q["client_id"]) != 1 {
		return nil, true, &pageError{"request_uri is not one of ours, or without its client_id", []any{"client_id", short(q.Get("client_id"))}}
	}
	var params string
	err = s.db.Returning(db.Soft(ctx), `DELETE FROM pushed_requests WHERE uri_hash = $1 AND client_id = $2 AND expires_at > $3 RETURNING params`,
		[]any{secret.Hash(token), q.Get("client_id"), db.Micros(time.Now())}, &params)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, true, &pageError{"request_uri is used, over, another client's, or never was", []any{"client_id", short(q.Get("client_id"))}}
	}
	if err != nil {
		return nil, true, fmt.Errorf("taking a pushed request: %w", err)
	}
	q, err = url.ParseQuery(params)
	return q, true, err
}

// parse is parseRequest with the hints of this provider.
func (s *Server) parse(snap *snapshot, q url.Values) (*request, error) {
	return parseRequest(q, snap.clients, func(token, clientID string) (string, error) {
		h, err := s.readHint(snap, token, clientID)
		if err != nil {
			return "", errors.New(short(err.Error()))
		}
		return h.Subject, nil
	})
}
