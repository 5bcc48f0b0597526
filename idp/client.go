package idp

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A Client is a relying party: a workspace. Names are those of RFC 7591.
type Client struct {
	ID                     string
	Name                   string
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
	AuthMethod             string // client_secret_basic, client_secret_post, private_key_jwt or none (a public client)
	IDTokenAlg             string // ES256, RS256 or EdDSA
	RequirePKCE            bool   // only a confidential client can do without
	Require2FA             bool   // only people who proved a second factor get there
	GrantTypes             []string
	Scopes                 []string // the scopes that it may be given
	AccessToken            string   // TokenOpaque or TokenJWT
	RequirePAR             bool     // only requests that it pushed are taken (RFC 9126 6)
	DPoP                   bool     // its tokens are bound to a key that it proves to have (RFC 9449 5.2)
	ThirdParty             bool     // people are asked before it gets anything (consent)
	JWKS                   string   // its public keys (RFC 7517), for private_key_jwt; "": none, or at JWKSURI
	JWKSURI                string
	BackchannelLogoutURI   string // where it is told that a session ended (OIDC Back-Channel Logout 2.2)
	CreatedAt              time.Time
	DisabledAt             time.Time // zero: enabled
	OldSecretUntil         time.Time // so long the secret before the present one is taken, too; zero: there is none

	secretHash    []byte
	oldSecretHash []byte
}

// What a client's access tokens are: opaque, or JWTs that its resource servers read
// themselves (RFC 9068).
const (
	TokenOpaque = "opaque"
	TokenJWT    = "jwt"
)

// The authentication methods of clients (OIDC Core 9).
const (
	AuthBasic = "client_secret_basic"
	AuthPost  = "client_secret_post"
	AuthKey   = "private_key_jwt"
	AuthNone  = "none"
)

var authMethods = []string{AuthBasic, AuthPost, AuthKey, AuthNone}

// The grant types that clients can have.
const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantClient  = "client_credentials"
)

var grantTypes = []string{grantCode, grantRefresh, grantClient}

// The scopes about people (OIDC Core 5.4, 11). A client can have scopes of its own
// besides, which mean something to its resource servers alone.
var allScopes = []string{"openid", "profile", "email", "phone", "address", "offline_access"}

// ownScopes are the client's scopes that are not about people.
func (c *Client) ownScopes() []string {
	return slices.DeleteFunc(slices.Clone(c.Scopes), func(s string) bool { return slices.Contains(allScopes, s) })
}

// Public reports whether the client cannot prove who it is.
func (c *Client) Public() bool { return c.AuthMethod == AuthNone }

// knows reports whether plain is the client's secret, or the one before it while
// that is still taken.
func (c *Client) knows(plain string, now time.Time) bool {
	h := secret.Hash(plain)
	return equal(h, c.secretHash) || c.oldSecretHash != nil && now.Before(c.OldSecretUntil) && equal(h, c.oldSecretHash)
}

func (c *Client) hasSecret() bool { return c.AuthMethod == AuthBasic || c.AuthMethod == AuthPost }

var (
	// ErrNotFound means that there is no such client.
	ErrNotFound = errors.New("no such client")
	// ErrClientExists means that another client has the id.
	ErrClientExists = errors.New("another client has this id")
	// ErrNoSecret means that a client has no secret to change.
	ErrNoSecret = errors.New("a client that is public or has keys of its own has no secret")
)

// MinSecret is the least length in bytes of a client secret that is brought
// along: 32, so that its plain SHA-256 tells nothing.
const MinSecret = 32

// Clients keeps the relying parties of one database.
type Clients struct {
	db           *db.DB
	allowPrivate bool
	tx           *db.Tx // in which all changes happen; nil: each in one of its own
}

// NewClients returns the clients of a migrated database.
func NewClients(d *db.DB) *Clients { return &Clients{db: d} }

// AllowPrivate is the same clients for a provider whose Config has AllowPrivate.
func (c *Clients) AllowPrivate() *Clients { return &Clients{db: c.db, allowPrivate: true} }

var clientID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Create registers a client and returns it with its secret, which is shown this
// once. Fields that are empty get their defaults: an id of its own, AuthBasic,
// ES256, opaque access tokens, the grant types of sign-in, and for these every scope
// about people. An empty secret is made for a
// client that has one. by is the operator's name. Errors: *account.InvalidError,
// ErrClientExists.
func (c *Clients) Create(ctx context.Context, n Client, plain, by string) (*Client, string, error) {
	if n.ID == "" {
		n.ID = secret.ID("")
	}
	n.fillIn()
	if err := n.check(c.allowPrivate); err != nil {
		return nil, "", err
	}
	switch {
	case !n.hasSecret() && plain != "":
		return nil, "", &account.InvalidError{Field: "secret", Reason: "cannot be set for a client that has none"}
	case !n.hasSecret():
	case plain == "":
		plain = secret.Token("hcs_")
	case len(plain) < MinSecret:
		return nil, "", &account.InvalidError{Field: "secret", Reason: fmt.Sprintf("has %d bytes; %d random ones are the least", len(plain), MinSecret)}
	}
	if plain != "" {
		n.secretHash = secret.Hash(plain)
	}
	n.CreatedAt = time.Now().UTC()
	err := c.change(ctx, account.Event{Kind: "client_created", ClientID: n.ID, Actor: operator(by)}, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO clients (id, name, secret_hash, auth_method, redirect_uris, post_logout_redirect_uris, grant_types, scopes, id_token_alg, require_pkce, require_2fa,
				access_token, third_party, jwks, jwks_uri, backchannel_logout_uri, created_at, require_par, dpop)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
			n.ID, n.Name, n.secretHash, n.AuthMethod, list(n.RedirectURIs), list(n.PostLogoutRedirectURIs), list(n.GrantTypes), list(n.Scopes),
			n.IDTokenAlg, flag(n.RequirePKCE), flag(n.Require2FA),
			n.AccessToken, flag(n.ThirdParty), n.JWKS, n.JWKSURI, n.BackchannelLogoutURI, db.Micros(n.CreatedAt), flag(n.RequirePAR), flag(n.DPoP))
		return err
	})
	if db.IsConflict(err, "clients", "id") {
		return nil, "", ErrClientExists
	}
	if err != nil {
		return nil, "", fmt.Errorf("registering a client: %w", err)
	}
	return &n, plain, nil
}

// fillIn gives fields that are empty their defaults.
func (n *Client) fillIn() {
	n.AuthMethod = orDefault(n.AuthMethod, AuthBasic)
	n.IDTokenAlg = orDefault(n.IDTokenAlg, algES256)
	n.AccessToken = orDefault(n.AccessToken, TokenOpaque)
	if n.GrantTypes == nil {
		n.GrantTypes = []string{grantCode, grantRefresh}
	}
	if n.Scopes == nil && slices.Contains(n.GrantTypes, grantCode) {
		n.Scopes = slices.Clone(allScopes)
	}
}

// check refuses what no client may be registered with.
func (n *Client) check(allowPrivate bool) error {
	if !clientID.MatchString(n.ID) {
		return &account.InvalidError{Field: "id", Reason: "has to be 1 to 100 letters, digits, dots, hyphens or underscores"}
	}
	if err := account.CheckName("name", n.Name); err != nil {
		return err
	}
	if !slices.Contains(authMethods, n.AuthMethod) {
		return &account.InvalidError{Field: "auth-method", Reason: "has to be " + strings.Join(authMethods, ", ")}
	}
	if err := n.checkOwnKeys(); err != nil {
		return err
	}
	if !slices.Contains(algs, n.IDTokenAlg) {
		return &account.InvalidError{Field: "id-token-alg", Reason: "has to be " + strings.Join(algs, ", ")}
	}
	if n.Public() && !n.RequirePKCE {
		return &account.InvalidError{Field: "require-pkce", Reason: "cannot be switched off for a public client (RFC 9700 2.1.1)"}
	}
	if !slices.Contains([]string{TokenOpaque, TokenJWT}, n.AccessToken) {
		return &account.InvalidError{Field: "access-token", Reason: "has to be opaque or jwt"}
	}
	if err := n.checkGrants(); err != nil {
		return err
	}
	const most = 50
	if len(n.RedirectURIs) > most || len(n.PostLogoutRedirectURIs) > most {
		return &account.InvalidError{Field: "redirect-uri", Reason: fmt.Sprintf("stands there more than %d times", most)}
	}
	for _, u := range n.RedirectURIs {
		if err := checkRedirectURI(u, n.Public()); err != nil {
			return &account.InvalidError{Field: "redirect-uri", Reason: fmt.Sprintf("%q %s", u, err)}
		}
	}
	for _, u := range n.PostLogoutRedirectURIs {
		if err := checkRedirectURI(u, n.Public()); err != nil {
			return &account.InvalidError{Field: "post-logout-redirect-uri", Reason: fmt.Sprintf("%q %s", u, err)}
		}
	}
	if u := n.BackchannelLogoutURI; u != "" {
		if err := checkBackchannelURI(u, allowPrivate); err != nil {
			return &account.InvalidError{Field: "backchannel-logout-uri", Reason: fmt.Sprintf("%q %s", u, err)}
		}
	}
	return n.checkScopes()
}

func (n *Client) checkOwnKeys() error {
	switch {
	case n.AuthMethod != AuthKey && n.JWKS+n.JWKSURI != "":
		return &account.InvalidError{Field: "jwks", Reason: "is of no use without private_key_jwt"}
	case n.AuthMethod == AuthKey && (n.JWKS == "") == (n.JWKSURI == ""):
		return &account.InvalidError{Field: "jwks", Reason: "or jwks-uri is needed for private_key_jwt, and not both"}
	case n.JWKS != "":
		if err := checkJWKS(n.JWKS); err != nil {
			return &account.InvalidError{Field: "jwks", Reason: err.Error()}
		}
	case n.JWKSURI != "":
		if err := checkOutboundURL(n.JWKSURI); err != nil {
			return &account.InvalidError{Field: "jwks-uri", Reason: err.Error()}
		}
	}
	return nil
}

func (n *Client) checkGrants() error {
	for _, g := range n.GrantTypes {
		if !slices.Contains(grantTypes, g) {
			return &account.InvalidError{Field: "grant", Reason: "has to be of " + strings.Join(grantTypes, ", ")}
		}
	}
	signsIn := slices.Contains(n.GrantTypes, grantCode)
	switch {
	case len(n.GrantTypes) == 0:
		return &account.InvalidError{Field: "grant", Reason: "is needed at least once"}
	case slices.Contains(n.GrantTypes, grantRefresh) && !signsIn:
		return &account.InvalidError{Field: "grant", Reason: "refresh_token is of no use without authorization_code"}
	case slices.Contains(n.GrantTypes, grantClient) && n.Public():
		return &account.InvalidError{Field: "grant", Reason: "client_credentials is for clients that can keep a secret (RFC 6749 4.4)"}
	case signsIn && len(n.RedirectURIs) == 0:
		return &account.InvalidError{Field: "redirect-uri", Reason: "is needed at least once"}
	case !signsIn && len(n.RedirectURIs)+len(n.PostLogoutRedirectURIs) > 0:
		return &account.InvalidError{Field: "redirect-uri", Reason: "is of no use without the grant authorization_code"}
	}
	return nil
}

// maxScope bounds the length of all scopes of a client: access tokens repeat them.
const maxScope = 1000

func (n *Client) checkScopes() error {
	if len(strings.Join(n.Scopes, " ")) > maxScope {
		return &account.InvalidError{Field: "scope", Reason: fmt.Sprintf("has more than %d characters in all", maxScope)}
	}
	for i, s := range n.Scopes {
		if !scopeToken(s) {
			return &account.InvalidError{Field: "scope", Reason: fmt.Sprintf("%q is not a scope (RFC 6749 3.3)", s)}
		}
		if slices.Contains(n.Scopes[:i], s) {
			return &account.InvalidError{Field: "scope", Reason: fmt.Sprintf("%q stands there twice", s)}
		}
	}
	return nil
}

// scopeToken reports whether s is one scope-token (RFC 6749 3.3).
func scopeToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
}

// checkRedirectURI takes an https URL, an http URL on loopback, and for public
// (native) clients a scheme of their own with a dot in it (RFC 8252 7.1). It
// refuses what could be read in two ways: it will be compared byte for byte.
func checkRedirectURI(s string, public bool) error {
	for _, c := range s {
		if c <= ' ' || c > '~' || strings.ContainsRune(`"<>\^`+"`{|}*", c) {
			return errors.New("has a character that belongs percent-encoded, or a wildcard")
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || !u.IsAbs() || len(s) > 2000:
		return errors.New("is not an absolute URL")
	case strings.Contains(s, "#"):
		return errors.New("has a fragment")
	case u.User != nil:
		return errors.New("has a user name in it")
	case slices.Contains(strings.Split(u.Path, "/"), "..") || slices.Contains(strings.Split(u.Path, "/"), "."):
		return errors.New("has a dot segment in its path")
	}
	for name := range u.Query() {
		if slices.Contains([]string{"code", "state", "iss", "error", "error_description", "error_uri", "session_state"}, name) {
			return fmt.Errorf("has the parameter %q, which answers have", name)
		}
	}
	switch u.Scheme {
	case "https":
		if u.Hostname() == "" {
			return errors.New("has no host")
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLinkLocalUnicast() {
			return errors.New("is a link-local address")
		}
	case "http":
		if !Loopback(u.Hostname()) {
			return errors.New("is http; only loopback may be, use https")
		}
	default:
		if !public || !strings.Contains(u.Scheme, ".") {
			return errors.New("is neither https nor, for a public client, a private-use scheme such as com.example.app")
		}
	}
	return nil
}

// checkBackchannelURI takes where the provider can tell a client that a session
// ended: an https URL, or an http one on loopback. Loopback and addresses of private
// networks are for a provider that is let go there; names are looked up when it
// does (outboundClient).
func checkBackchannelURI(s string, allowPrivate bool) error {
	if err := checkRedirectURI(s, false); err != nil {
		return err
	}
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(u.Hostname())
	switch {
	case err == nil && !reachable(ip, true):
		return errors.New("is an address that no workspace can have")
	case err == nil && !reachable(ip, allowPrivate), Loopback(u.Hostname()) && !allowPrivate:
		return errors.New("is on this machine or a private network; if the provider may go there, set allow-private-addresses")
	}
	return nil
}

// Loopback reports whether a host name can only be this machine.
func Loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

const clientColumns = `id, name, secret_hash, auth_method, redirect_uris, post_logout_redirect_uris, grant_types, scopes, id_token_alg, require_pkce, require_2fa,
	access_token, third_party, jwks, jwks_uri, backchannel_logout_uri, old_secret_hash, old_secret_until, created_at, disabled_at, require_par, dpop`

func scanClient(scan func(...any) error) (*Client, error) {
	var (
		c                                  Client
		redirects, logouts, grants, scopes string
		pkce, second, third, par, dpop     int64
		created                            int64
		oldUntil, disabled                 sql.NullInt64
	)
	if err := scan(&c.ID, &c.Name, &c.secretHash, &c.AuthMethod, &redirects, &logouts, &grants, &scopes, &c.IDTokenAlg, &pkce, &second,
		&c.AccessToken, &third, &c.JWKS, &c.JWKSURI, &c.BackchannelLogoutURI, &c.oldSecretHash, &oldUntil, &created, &disabled, &par, &dpop); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		text string
		to   *[]string
	}{{redirects, &c.RedirectURIs}, {logouts, &c.PostLogoutRedirectURIs}, {grants, &c.GrantTypes}, {scopes, &c.Scopes}} {
		if err := json.Unmarshal([]byte(l.text), l.to); err != nil {
			return nil, fmt.Errorf("client %s: %w", c.ID, err)
		}
	}
	c.RequirePKCE, c.Require2FA, c.ThirdParty, c.RequirePAR, c.DPoP, c.CreatedAt = pkce == 1, second == 1, third == 1, par == 1, dpop == 1, db.Time(created)
	if oldUntil.Valid {
		c.OldSecretUntil = db.Time(oldUntil.Int64)
	}
	if disabled.Valid {
		c.DisabledAt = db.Time(disabled.Int64)
	}
	return &c, nil
}

// List returns every client in the order of their names.
func (c *Clients) List(ctx context.Context) ([]*Client, error) {
	rows, err := c.db.Query(ctx, `SELECT `+clientColumns+` FROM clients ORDER BY name, id`)
	if err != nil {
		return nil, fmt.Errorf("listing clients: %w", err)
	}
	defer rows.Close()
	var out []*Client
	for rows.Next() {
		one, err := scanClient(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("listing clients: %w", err)
		}
		out = append(out, one)
	}
	return out, rows.Err()
}

// Get returns a client, or ErrNotFound.
func (c *Clients) Get(ctx context.Context, id string) (*Client, error) {
	one, err := scanClient(c.db.QueryRow(ctx, `SELECT `+clientColumns+` FROM clients WHERE id = $1`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("finding a client: %w", err)
	}
	return one, nil
}

// Delete deletes a client with all that it was granted. Its error for a client
// that is not there is ErrNotFound.
func (c *Clients) Delete(ctx context.Context, id, by string) error {
	return c.change(ctx, account.Event{Kind: "client_deleted", ClientID: id, Actor: operator(by)}, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM clients WHERE id = $1`, id)
		if err == nil && n == 0 {
			return ErrNotFound
		}
		return err
	})
}

// MaxKeepOld is how long an old secret can be taken beside its successor.
const MaxKeepOld = 30 * 24 * time.Hour

// RotateSecret gives a client a new secret, its own or one that is made, and
// returns it this once. The old one is taken for keepOld more; without, it is dead
// within a second. The one before that is dead in any case. Errors: ErrNotFound,
// ErrNoSecret, *account.InvalidError.
func (c *Clients) RotateSecret(ctx context.Context, id, plain string, keepOld time.Duration, by string) (string, error) {
	if keepOld < 0 || keepOld > MaxKeepOld {
		return "", &account.InvalidError{Field: "keep-old", Reason: fmt.Sprintf("is %s; %s is the longest", keepOld, MaxKeepOld)}
	}
	var until *int64
	if keepOld > 0 {
		at := db.Micros(time.Now().Add(keepOld))
		until = &at
	}
	if plain == "" {
		plain = secret.Token("hcs_")
	} else if len(plain) < MinSecret {
		return "", &account.InvalidError{Field: "secret", Reason: fmt.Sprintf("has %d bytes; %d random ones are the least", len(plain), MinSecret)}
	}
	err := c.change(ctx, account.Event{Kind: "client_secret_rotated", ClientID: id, Actor: operator(by)}, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `
			UPDATE clients SET old_secret_hash = CASE WHEN $3 = 1 THEN secret_hash END, old_secret_until = $4, secret_hash = $1
			WHERE id = $2 AND auth_method IN ('client_secret_basic', 'client_secret_post')`, secret.Hash(plain), id, flag(keepOld > 0), until)
		if err != nil || n == 1 {
			return err
		}
		var method string
		if err := tx.QueryRow(ctx, `SELECT auth_method FROM clients WHERE id = $1`, id).Scan(&method); errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		} else if err != nil {
			return err
		}
		return ErrNoSecret
	})
	if err != nil {
		return "", err
	}
	return plain, nil
}

// change runs fn, records the event and moves the version that every replica
// watches, in one transaction.
func (c *Clients) change(ctx context.Context, e account.Event, fn func(*db.Tx) error) error {
	act := func(tx *db.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		if err := account.Record(ctx, tx, e); err != nil {
			return err
		}
		return bump(ctx, tx)
	}
	if c.tx != nil {
		return act(c.tx)
	}
	return c.db.Tx(ctx, act)
}

func operator(name string) account.Actor { return account.Actor{Kind: "operator", Name: name} }

func list(s []string) string {
	if s == nil {
		return "[]"
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings can always be written
	}
	return string(b)
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
