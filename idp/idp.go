// Package idp speaks OpenID Connect: discovery and keys, the authorization
// endpoint, tokens with their introspection and revocation, userinfo and sign-out,
// clients and grants.
//
// An authorization request that cannot be answered at once waits as a row bound
// to its browser. Sign-in pages never finish it: they lead back to
// /authorize/resume, and request.needs decides afresh what is missing. A grant is
// one row, born with its code and dead with its session, and each step of the
// protocol is one statement on it.
//
// The endpoints that programs speak to are served through the wire layer of
// zitadel/oidc (op.RegisterServer), behind checks of our own (wire.go); the pages
// are ours.
package idp

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/mux"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
	"github.com/harmony/id/session"
	"github.com/harmony/id/web"
)

// Config is what an operator decides about the protocol.
type Config struct {
	// Issuer is the provider's URL, without a slash at its end.
	Issuer string
	// AccessTokenTTL is how long an access token lives at most.
	AccessTokenTTL time.Duration
	// RefreshIdle ends a refresh token that was not used for so long.
	RefreshIdle time.Duration
	// RefreshMax ends a refresh token however often it is used (ASVS 10.4.8).
	RefreshMax time.Duration
	// RefreshGrace is how long after its rotation a public client's refresh token
	// still gets the successor that it was exchanged for.
	RefreshGrace time.Duration
	// Rotation says how signing keys come and go. Default DefaultRotation.
	Rotation Rotation
	// AllowPrivate lets addresses that registrations name be on loopback or a private
	// network: for a provider that is itself on this machine.
	AllowPrivate bool
	// Roots are the certificate authorities that are trusted there, nil for the
	// system's.
	Roots *x509.CertPool
	// Outbound reaches these addresses. Nil: the network, with outboundClient's guards.
	Outbound http.RoundTripper
	// Watch is told what the Server does.
	Watch Watch
}

// The protocol's fixed lifetimes.
const (
	requestTTL = 30 * time.Minute // an authorization request waits so long for a person
	codeTTL    = time.Minute      // ASVS 10.4.3, FAPI 2.0
	idTokenTTL = time.Hour
)

// A Server is one provider. It may be used by many goroutines, and any number of
// Servers may share one database.
type Server struct {
	unimplemented

	cfg      Config
	db       *db.DB
	ring     *secret.Ring
	access   *secret.Box
	sessions *session.Manager
	state    *state
	outbound *http.Client
	remote   *remoteKeys
	farewell *secret.Box
	flood    flood
	metadata []byte
}

// New returns the provider over a migrated database. Signing keys are made by
// EnsureKeys.
func New(d *db.DB, ring *secret.Ring, sessions *session.Manager, cfg Config) (*Server, error) {
	cfg.Rotation = cmp.Or(cfg.Rotation, DefaultRotation)
	cfg.Watch = cfg.Watch.complete()
	s := &Server{
		cfg:      cfg,
		db:       d,
		ring:     ring,
		access:   ring.Box("access token"),
		sessions: sessions,
		state:    newState(d, ring),
		outbound: outboundClient(cfg.AllowPrivate, cfg.Roots),
		farewell: ring.Box("farewell"),
	}
	if cfg.Outbound != nil {
		s.outbound.Transport = cfg.Outbound
	}
	s.remote = &remoteKeys{client: s.outbound, at: map[string]*fetchedKeys{}}
	var err error
	if s.metadata, err = s.discoveryDocument(); err != nil {
		return nil, err
	}
	return s, nil
}

// Load reads the clients and signing keys, so that a provider with other
// encryption keys than its database's says so at its start and not to the first person.
func (s *Server) Load(ctx context.Context) error {
	_, err := s.state.get(ctx)
	return err
}

// The paths of the protocol.
const (
	pathDiscovery  = "/.well-known/openid-configuration"
	pathMetadata   = "/.well-known/oauth-authorization-server" // RFC 8414
	pathJWKS       = "/jwks"
	pathAuthorize  = "/authorize"
	pathResume     = "/authorize/resume"
	pathConsent    = "/authorize/consent"
	pathPush       = "/oauth/par"
	pathToken      = "/oauth/token"
	pathRevoke     = "/oauth/revoke"
	pathIntrospect = "/oauth/introspect"
	pathUserinfo   = "/userinfo"
	pathEndSession = "/end_session"
	pathLogout     = "/logout"

	// The steps are other rooms'; the seam between them and this one is a URL.
	pathLogin   = "/login"
	pathConfirm = "/login/confirm"
	pathSetUp   = "/preferences/security/2fa"
)

// Routes adds the provider's routes to r.
func (s *Server) Routes(r *mux.Router) {
	wire := s.wire()
	r.Handle(pathDiscovery, document(s.metadataDocument)).Methods("GET", "HEAD", "OPTIONS")
	r.Handle(pathMetadata, document(s.metadataDocument)).Methods("GET", "HEAD", "OPTIONS")
	r.Handle(pathJWKS, document(s.jwks)).Methods("GET", "HEAD", "OPTIONS")
	r.Handle(pathAuthorize, web.HandlerFunc(s.authorize)).Methods("GET", "POST")
	r.Handle(pathResume, web.HandlerFunc(s.resume)).Methods("GET")
	r.Handle(pathConsent, web.HandlerFunc(s.consentPage)).Methods("GET")
	r.Handle(pathConsent, web.HandlerFunc(s.decide)).Methods("POST")
	r.Handle(pathPush, wire).Methods("POST", "OPTIONS")
	r.Handle(pathToken, wire).Methods("POST", "OPTIONS")
	r.Handle(pathRevoke, wire).Methods("POST", "OPTIONS")
	r.Handle(pathIntrospect, wire).Methods("POST")
	r.Handle(pathUserinfo, wire).Methods("GET", "POST", "OPTIONS")
	r.Handle(pathEndSession, web.HandlerFunc(s.endSession)).Methods("GET", "POST")
	r.Handle(pathLogout, web.HandlerFunc(s.logoutPage)).Methods("GET", "HEAD")
	r.Handle(pathLogout, web.HandlerFunc(s.logout)).Methods("POST")
}

// CrossOriginAllowed reports whether a workspace's page may post to this
// endpoint: the ones that take no cookie, and the two that only ask (RFC 6749
// 3.1, OIDC RP-Initiated Logout 2). For web.Config.
func CrossOriginAllowed(r *http.Request) bool {
	switch r.URL.Path {
	case pathPush, pathToken, pathRevoke, pathIntrospect, pathUserinfo, pathAuthorize, pathEndSession:
		return true
	}
	return false
}

// AnswersJSON reports whether the endpoint at path speaks to programs. For
// web.Config.
func AnswersJSON(path string) bool {
	switch path {
	case pathPush, pathToken, pathRevoke, pathIntrospect, pathUserinfo, pathDiscovery, pathMetadata, pathJWKS:
		return true
	}
	return false
}

// Clean deletes authorization requests that nobody finished, pushed ones that no
// browser came for, codes that nobody redeemed, and assertions that have expired. Call
// it every minute or so; any number of replicas may.
func (s *Server) Clean(ctx context.Context) error {
	now := time.Now()
	for _, q := range []struct {
		text   string
		before time.Time
	}{
		{`DELETE FROM auth_requests WHERE id IN (SELECT id FROM auth_requests WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `)`, now},
		// Kept while its client has yet to be told that its session ended.
		{`DELETE FROM grants WHERE id IN (
			SELECT g.id FROM grants g JOIN clients c ON c.id = g.client_id
			WHERE g.ended_at < $1 AND (g.session_id IS NULL OR g.redeemed_at IS NULL OR g.told_at IS NOT NULL OR c.backchannel_logout_uri = '')
			ORDER BY g.ended_at LIMIT ` + db.SweepRows + `)`, now.Add(-24 * time.Hour)},
		// Kept past its request's life, for the grant is what says that the request has had its code.
		{`DELETE FROM grants WHERE id IN (
			SELECT id FROM grants WHERE redeemed_at IS NULL AND session_id IS NOT NULL AND created_at < $1 ORDER BY created_at LIMIT ` + db.SweepRows + `)`, now.Add(-2 * requestTTL)},
		// A client's own grants are never redeemed. They live as long as their one token.
		{`DELETE FROM grants WHERE id IN (
			SELECT id FROM grants WHERE redeemed_at IS NULL AND session_id IS NULL AND created_at < $1 ORDER BY created_at LIMIT ` + db.SweepRows + `)`, now.Add(-s.cfg.AccessTokenTTL - time.Minute)},
		{`DELETE FROM pushed_requests WHERE uri_hash IN (SELECT uri_hash FROM pushed_requests WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `)`, now},
		{`DELETE FROM assertions WHERE jti_hash IN (SELECT jti_hash FROM assertions WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `)`, now},
	} {
		if err := s.db.Sweep(ctx, q.text, db.Micros(q.before)); err != nil {
			return fmt.Errorf("house-keeping: %w", err)
		}
	}
	return nil
}

// CleanSessions deletes the grants of sessions that are about to be deleted, which the
// query over, with its argument, yields. For account's Clean.
func (s *Server) CleanSessions(ctx context.Context, over string, before int64) error {
	return s.db.Sweep(ctx, `DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE session_id IN (`+over+`) LIMIT `+db.SweepRows+`)`, before)
}

// ErrOtherIssuer means that the database belongs to a provider of another name.
var ErrOtherIssuer = errors.New("the database was made for another issuer")

// FreezeIssuer writes the issuer down at the first start and refuses another
// one ever after with ErrOtherIssuer, which names the first: every workspace and
// every token knows the provider by it. With change it takes the new one.
func FreezeIssuer(ctx context.Context, d *db.DB, issuer string, change bool) error {
	if u, err := url.Parse(issuer); err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("issuer %q is not a plain URL", issuer)
	}
	text := `INSERT INTO settings (name, value) VALUES ('issuer', $1) ON CONFLICT (name) DO NOTHING`
	if change {
		text = `INSERT INTO settings (name, value) VALUES ('issuer', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`
	}
	// Reads first: an ordinary start writes nothing.
	first, err := setting(ctx, d, "issuer")
	if err == nil && first == issuer {
		return nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("reading the issuer: %w", err)
	}
	if _, err := d.Exec(ctx, text, issuer); err != nil {
		return fmt.Errorf("freezing the issuer: %w", err)
	}
	if first, err = setting(ctx, d, "issuer"); err != nil {
		return fmt.Errorf("reading the issuer: %w", err)
	}
	if first != issuer {
		return fmt.Errorf("%w: it is %s, not %s", ErrOtherIssuer, first, issuer)
	}
	return nil
}

// FrozenIssuer returns the issuer that FreezeIssuer wrote down, "" before the first
// start.
func FrozenIssuer(ctx context.Context, d *db.DB) (string, error) {
	issuer, err := setting(ctx, d, "issuer")
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("reading the issuer: %w", err)
	}
	return issuer, nil
}

func setting(ctx context.Context, d *db.DB, name string) (value string, err error) {
	err = d.QueryRow(ctx, `SELECT value FROM settings WHERE name = $1`, name).Scan(&value)
	return value, err
}

// equal compares two secrets in constant time.
func equal(a, b []byte) bool { return hmac.Equal(a, b) }

// note tells the operator what exactly differed; the person sees none of it.
func note(r *http.Request, what string, args ...any) {
	web.Log(r.Context()).LogAttrs(r.Context(), slog.LevelInfo, what, slog.Group("detail", args...))
}
