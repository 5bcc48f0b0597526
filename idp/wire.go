package idp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/web"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// unimplemented is the library's server of nothing: every endpoint and grant that
// is not ours answers that it is not supported.
type unimplemented = op.UnimplementedServer

// wire serves the endpoints of programs through the library's wire layer, which
// decodes forms and writes JSON. In front of it stands what it leaves out
// (security-cases.md §0): nothing in the query, nothing twice, only the grants
// that are served, no-store, WWW-Authenticate, CORS without credentials.
func (s *Server) wire() http.Handler {
	inner := op.RegisterServer(s, op.Endpoints{
		Token:         op.NewEndpoint(pathToken),
		Revocation:    op.NewEndpoint(pathRevoke),
		Introspection: op.NewEndpoint(pathIntrospect),
		Userinfo:      op.NewEndpoint(pathUserinfo),
	}, op.WithServerCORSOptions(nil))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != pathIntrospect && cors(w, r, "GET, POST", "Authorization, Content-Type, DPoP") {
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		aw := &wireWriter{ResponseWriter: w, challenge: `Basic realm="Harmony ID"`}
		if r.URL.Path == pathUserinfo {
			aw.challenge = "Bearer"
			scheme, token, ok := bearer(aw, r)
			if !ok {
				return
			}
			access := s.presented(aw, r, scheme, token)
			if access == nil {
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), openedKey{}, access))
		} else if err := checkClientRequest(r); err != nil {
			id, _, _ := r.BasicAuth()
			refuse(aw, r, fmt.Errorf("%w (client_id %q)", err, short(cmp.Or(id, r.PostForm.Get("client_id")))))
			return
		}
		if r.URL.Path == pathPush { // which the library does not know
			s.push(aw, r)
			return
		}
		r.URL.RawQuery = "" // no parameter of these endpoints may stand in a URL
		inner.ServeHTTP(aw, r)
	})
}

// cors lets any page read an answer, with no cookie and no credential of the
// browser's (RFC 9700 2.6). It answers preflights and reports whether it did.
func cors(w http.ResponseWriter, r *http.Request, methods, headers string) bool {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate")
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", headers)
	h.Set("Access-Control-Max-Age", "3600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// A wireWriter says with a 401 how to authenticate (RFC 6749 5.2, RFC 6750 3), with
// a 503 when to come again, and gives the JSON its charset.
type wireWriter struct {
	http.ResponseWriter
	challenge string
	status    int // in place of the one that is written; 0: none
}

func (w *wireWriter) WriteHeader(status int) {
	h := w.Header()
	if w.status != 0 {
		status = w.status
	}
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", w.challenge)
	}
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", web.RetrySoon)
	}
	if h.Get("Content-Type") == "application/json" {
		h.Set("Content-Type", "application/json;charset=UTF-8")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *wireWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// checkClientRequest looks at a request that a client authenticates before the
// library does.
func checkClientRequest(r *http.Request) error {
	switch {
	case r.Method != http.MethodPost:
		return particular(&oauthError{"invalid_request", "this endpoint takes POST only"}, r.Method)
	case r.URL.RawQuery != "":
		return &oauthError{"invalid_request", "parameters belong in the body"}
	}
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("%w (%w)", &oauthError{"invalid_request", "the body is not a form"}, err)
	}
	for name, v := range r.PostForm {
		if len(v) > 1 {
			return particular(&oauthError{"invalid_request", "a parameter stands there more than once"}, name)
		}
		if len(v) == 1 && !text(name+v[0]) {
			return particular(&oauthError{"invalid_request", "a parameter is not text"}, name)
		}
	}
	f := r.PostForm
	if len(r.Header.Values("Authorization")) > 1 {
		return &oauthError{"invalid_request", "Authorization stands there more than once"}
	}
	if auth := r.Header.Get("Authorization"); auth != "" {
		if f.Has("client_secret") || f.Has("client_assertion") {
			return fmt.Errorf("%w (Authorization, and client_secret or client_assertion in the body)", &oauthError{"invalid_request", "a client authenticates in one way only"})
		}
		id, password, ok := r.BasicAuth()
		plain, err := url.QueryUnescape(id)
		if _, bad := url.QueryUnescape(password); !ok || err != nil || bad != nil {
			return fmt.Errorf("%w (Authorization is not Basic with id and secret as RFC 6749 2.3.1 encodes them)", errInvalidClient)
		}
		if f.Has("client_id") && plain != f.Get("client_id") {
			return particular(&oauthError{"invalid_request", "two different client ids"}, f.Get("client_id"))
		}
	} else if f.Has("client_assertion") || f.Has("client_assertion_type") {
		if f.Has("client_secret") {
			return fmt.Errorf("%w (client_secret and client_assertion)", &oauthError{"invalid_request", "a client authenticates in one way only"})
		}
		if f.Get("client_assertion") == "" || f.Get("client_assertion_type") != assertionType {
			return fmt.Errorf("%w (client_assertion is missing, or client_assertion_type %q is not %s)", errInvalidClient, short(f.Get("client_assertion_type")), assertionType)
		}
	} else if f.Get("client_id") == "" {
		return fmt.Errorf("%w (neither Authorization nor client_id)", errInvalidClient)
	}
	if _, password, _ := r.BasicAuth(); r.URL.Path == pathIntrospect && password == "" && f.Get("client_secret") == "" && f.Get("client_assertion") == "" {
		return fmt.Errorf("%w (no secret and no assertion: a public client may not ask about tokens)", errInvalidClient)
	}
	if r.URL.Path == pathIntrospect && f.Get("token") == "" {
		return missing("token")
	}
	if r.URL.Path != pathToken {
		delete(f, "grant_type") // the library would look at it here, too
		delete(r.Form, "grant_type")
		return nil
	}
	switch f.Get("grant_type") {
	case "":
		return missing("grant_type")
	case grantCode, grantRefresh, grantClient:
		return nil
	}
	return particular(&oauthError{"unsupported_grant_type", "the grant types here are authorization_code, refresh_token and client_credentials"}, f.Get("grant_type"))
}

func missing(name string) *oauthError { return &oauthError{"invalid_request", name + " is missing"} }

// missingIn names the first parameter that a client's request lacks, or "".
func missingIn(r *op.Request[op.ClientCredentials]) string {
	var names []string
	switch g := r.Form.Get("grant_type"); {
	case r.URL.Path == pathRevoke:
		names = []string{"token"}
	case g == grantCode:
		names = []string{"code", "redirect_uri"}
	case g == grantRefresh:
		names = []string{"refresh_token"}
	}
	for _, name := range names {
		if r.Form.Get(name) == "" {
			return name
		}
	}
	return ""
}

// bearer finds the one access token of a userinfo request and how it is presented,
// in the header or the body (RFC 6750 2.1, 2.2; RFC 9449 7.1), and puts it where the
// library looks. It answers a request that has none or two.
func bearer(w *wireWriter, r *http.Request) (scheme, token string, ok bool) {
	var found [][2]string
	for _, v := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		switch token = strings.TrimSpace(token); {
		case strings.EqualFold(scheme, "Bearer"):
			found = append(found, [2]string{"Bearer", token})
		case strings.EqualFold(scheme, "DPoP"):
			found = append(found, [2]string{"DPoP", token})
		default:
			found = append(found, [2]string{"Bearer", ""})
		}
	}
	if r.Method == http.MethodPost {
		if err := r.ParseForm(); err != nil {
			refuse(w, r, fmt.Errorf("%w (%w)", &oauthError{"invalid_request", "the body is not a form"}, err))
			return "", "", false
		}
		for _, token := range r.PostForm["access_token"] {
			found = append(found, [2]string{"Bearer", token})
		}
	}
	switch {
	case len(found) == 0:
		note(r, "no access token") // RFC 6750 3.1: and no error
		w.WriteHeader(http.StatusUnauthorized)
		return "", "", false
	case len(found) > 1:
		w.challenge = `Bearer error="invalid_request"`
		w.Header().Set("WWW-Authenticate", w.challenge)
		refuse(w, r, &oauthError{"invalid_request", "more than one access token"})
		return "", "", false
	}
	w.challenge = `Bearer error="invalid_token"`
	scheme, token = found[0][0], found[0][1]
	r.Header["Authorization"] = []string{"Bearer " + token}
	r.PostForm, r.Form = url.Values{}, url.Values{}
	return scheme, token, true
}

// refuse answers with the JSON of the OAuth error that err has in it.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	op.WriteError(w, r, wireError(r.Context(), err), nil)
}

var errInvalidClient = &oauthError{"invalid_client", "client authentication failed"}

// wire is the error as the library writes it. why, which has it and what exactly
// differed, goes to the log alone.
func (e *oauthError) wire(ctx context.Context, why error) error {
	status := http.StatusBadRequest
	switch e.code {
	case "invalid_client", "invalid_token":
		status = http.StatusUnauthorized
	case "server_error":
		status = http.StatusInternalServerError
		if db.Unavailable(why) || errors.Is(why, errUnconfirmed) {
			status = http.StatusServiceUnavailable
		}
	}
	level := slog.LevelInfo
	if e == errServer {
		level = slog.LevelError
	}
	web.Log(ctx).Log(ctx, level, "token request refused", "error", e.code, "why", strings.Replace(why.Error(), e.code+": ", "", 1))
	out := &oidc.Error{Description: e.description}
	setCode(&out.ErrorType, e.code)
	return op.NewStatusError(out, status)
}

// setCode writes a code into the library's field, whose type has no name outside.
func setCode[T ~string](field *T, code string) { *field = T(code) }

// wireError maps every error to one that a client may see: nothing of the
// database's or ours gets out (trap Z15).
func wireError(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*oauthError](err); ok {
		return e.wire(ctx, err)
	}
	return errServer.wire(ctx, err)
}

// VerifyClient authenticates a client before anything else of the request is
// looked at. At the token endpoint it has to be registered for the grant type.
func (s *Server) VerifyClient(ctx context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	c, err := s.authenticate(ctx, r.Header, r.Form, r.Data)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	if g := r.Form.Get("grant_type"); r.URL.Path == pathToken && !slices.Contains(c.GrantTypes, g) {
		refused := &oauthError{"unauthorized_client", "this client is not registered for the grant type"}
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, particular(refused, g, strings.Join(c.GrantTypes, " "))))
	}
	if name := missingIn(r); name != "" {
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, missing(name)))
	}
	return wireClient{c}, nil
}

// authenticate authenticates a client in the one way that it is registered for
// (RFC 6749 2.3, 3.2.1), at every endpoint alike.
func (s *Server) authenticate(ctx context.Context, header http.Header, form url.Values, got *op.ClientCredentials) (*Client, error) {
	snap, err := s.state.current(ctx)
	if err != nil {
		return nil, err
	}
	id, method := got.ClientID, AuthNone
	var proof *assertion
	switch {
	case header.Get("Authorization") != "":
		method = AuthBasic
	case got.ClientAssertion != "":
		method = AuthKey
		if proof, err = readAssertion(got.ClientAssertion); err != nil {
			return nil, fmt.Errorf("%w (assertion: %s)", errInvalidClient, short(err.Error()))
		}
		if id == "" {
			id = proof.claims.Subject // RFC 7521 4.2: client_id may be left out
		}
	case form.Has("client_secret"):
		method = AuthPost
	}
	c := snap.clients[id]
	if c == nil {
		return nil, fmt.Errorf("%w (client %q is unknown or disabled)", errInvalidClient, short(id))
	}
	if method != c.AuthMethod {
		return nil, fmt.Errorf("%w (client %s used %s, registered is %s)", errInvalidClient, c.ID, method, c.AuthMethod)
	}
	if c.hasSecret() && !c.knows(got.ClientSecret, time.Now()) {
		return nil, fmt.Errorf("%w (wrong secret of client %s)", errInvalidClient, c.ID)
	}
	if proof != nil {
		if err := s.assert(ctx, c, proof); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// CodeExchange is the authorization_code grant (RFC 6749 4.1.3).
func (s *Server) CodeExchange(ctx context.Context, r *op.ClientRequest[oidc.AccessTokenRequest]) (*op.Response, error) {
	c := r.Client.(wireClient).Client
	jkt, err := s.bound(ctx, c, r.Header, pathToken)
	if err != nil {
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, err))
	}
	g, err := s.redeem(ctx, c, r.Data.Code, r.Data.RedirectURI, r.Data.CodeVerifier, jkt)
	if err != nil {
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, err))
	}
	return s.tokens(ctx, c, g, grantCode)
}

// RefreshToken is the refresh_token grant (RFC 6749 6).
func (s *Server) RefreshToken(ctx context.Context, r *op.ClientRequest[oidc.RefreshTokenRequest]) (*op.Response, error) {
	c := r.Client.(wireClient).Client
	jkt, err := s.bound(ctx, c, r.Header, pathToken)
	if err != nil {
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, err))
	}
	g, err := s.renew(ctx, c, r.Data.RefreshToken, strings.Join(r.Data.Scopes, " "), jkt)
	if err != nil {
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, err))
	}
	return s.tokens(ctx, c, g, grantRefresh)
}

// wireClient is a client as the library asks about it. What it would decide with
// the answers is decided by us before, so most of them are the harmless ones.
type wireClient struct{ *Client }

func (c wireClient) GetID() string                    { return c.ID }
func (c wireClient) RedirectURIs() []string           { return c.Client.RedirectURIs }
func (c wireClient) PostLogoutRedirectURIs() []string { return c.Client.PostLogoutRedirectURIs }
func (c wireClient) AuthMethod() oidc.AuthMethod      { return oidc.AuthMethod(c.Client.AuthMethod) }
func (c wireClient) LoginURL(string) string           { return "" }
func (c wireClient) IDTokenLifetime() time.Duration   { return idTokenTTL }
func (c wireClient) DevMode() bool                    { return false }
func (c wireClient) IsScopeAllowed(string) bool       { return false }
func (c wireClient) ClockSkew() time.Duration         { return 0 }

func (c wireClient) IDTokenUserinfoClaimsAssertion() bool { return false }

func (c wireClient) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }

func (c wireClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }

func (c wireClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c wireClient) GrantTypes() []oidc.GrantType {
	var out []oidc.GrantType
	for _, g := range c.Client.GrantTypes {
		out = append(out, oidc.GrantType(g))
	}
	return out
}

func (c wireClient) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}

func (c wireClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}
