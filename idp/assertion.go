package idp

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
	"github.com/harmony/id/web"
)

// assertionType is the one client_assertion_type (RFC 7523 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// The algorithms that assertions can be signed with: asymmetric ones, so that
// whoever knows a client's keys here still cannot pass for it.
const algPS256 = "PS256"

var assertionAlgs = []string{algES256, algPS256, algEdDSA, algRS256}

const (
	assertionTTL  = 5 * time.Minute // the longest that an assertion may be valid
	assertionSkew = 10 * time.Second
	maxJTI        = 255
)

// An assertion is the JWT of a private_key_jwt authentication (OIDC Core 9, RFC
// 7523 3), read and not verified yet.
type assertion struct {
	jws    *jose.JSONWebSignature
	alg    string
	kid    string
	claims struct {
		Issuer    string   `json:"iss"`
		Subject   string   `json:"sub"`
		Audience  audience `json:"aud"`
		Expires   float64  `json:"exp"`
		IssuedAt  float64  `json:"iat"`
		NotBefore float64  `json:"nbf"`
		ID        string   `json:"jti"`
	}
}

// An audience is one or several of them (RFC 7519 4.1.3).
type audience []string

// UnmarshalJSON takes a string or an array of strings.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

func readAssertion(token string) (*assertion, error) {
	if len(token) > maxJWT || strings.ContainsFunc(token, notJWS) {
		return nil, errors.New("too long, or not a compact JWS")
	}
	allowed := make([]jose.SignatureAlgorithm, 0, len(assertionAlgs))
	for _, a := range assertionAlgs {
		allowed = append(allowed, jose.SignatureAlgorithm(a))
	}
	jws, err := jose.ParseSignedCompact(token, allowed)
	if err != nil {
		return nil, fmt.Errorf("not a JWT in an algorithm that is taken: %w", err)
	}
	head := jws.Signatures[0].Protected
	a := &assertion{jws: jws, alg: head.Algorithm, kid: head.KeyID}
	switch typ := head.ExtraHeaders[jose.HeaderType]; typ {
	case nil, "JWT", "jwt", "client-authentication+jwt":
	default: // a token of another kind is no assertion (RFC 8725 3.11)
		return nil, fmt.Errorf("its type is %q", typ)
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &a.claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return a, nil
}

// wrong says what is wrong with an assertion of a client, or "". One that may be
// from before restored, when the database was restored from a backup, may have been
// used after the backup was made.
func (a *assertion) wrong(clientID string, audiences []string, now, restored time.Time) string {
	seconds := float64(now.UnixMicro()) / 1e6
	skew := assertionSkew.Seconds()
	switch c := a.claims; {
	case c.Issuer != clientID || c.Subject != clientID:
		return fmt.Sprintf("iss %q and sub %q are not the client", short(c.Issuer), short(c.Subject))
	case !slices.ContainsFunc(c.Audience, func(s string) bool { return slices.Contains(audiences, s) }):
		return fmt.Sprintf("aud %q is neither the issuer nor an endpoint", short(strings.Join(c.Audience, " ")))
	case c.Expires <= seconds-skew:
		return "expired"
	case c.Expires > seconds+assertionTTL.Seconds()+skew:
		return "valid for too long, or without an end"
	case !restored.IsZero() && cmp.Or(c.IssuedAt, c.Expires-assertionTTL.Seconds()) <= float64(restored.UnixMicro())/1e6+skew:
		return "from before the database was restored"
	case c.NotBefore > seconds+skew || c.IssuedAt > seconds+skew:
		return "not valid yet"
	case c.ID == "" || len(c.ID) > maxJTI:
		return "jti is missing or too long"
	}
	return ""
}

// assert authenticates a client by an assertion. It counts once, on all replicas
// together.
func (s *Server) assert(ctx context.Context, c *Client, a *assertion) error {
	snap, err := s.state.get(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	if why := a.wrong(c.ID, []string{s.cfg.Issuer, s.cfg.Issuer + pathToken, s.cfg.Issuer + pathPush}, now, snap.restored); why != "" {
		return fmt.Errorf("%w (assertion of client %s: %s)", errInvalidClient, c.ID, why)
	}
	keys, err := s.keysOf(ctx, c, a.signedBy)
	if err != nil {
		return fmt.Errorf("%w (keys of client %s: %w)", errInvalidClient, c.ID, err)
	}
	if !slices.ContainsFunc(keys, func(k jose.JSONWebKey) bool { _, err := a.jws.Verify(k); return err == nil }) {
		return fmt.Errorf("%w (assertion of client %s: signed with none of its keys)", errInvalidClient, c.ID)
	}
	// For as long as a replica takes it whose clock goes behind that of the one who cleans.
	ends := time.UnixMicro(int64(a.claims.Expires * 1e6)).Add(assertionSkew + account.MaxSkew)
	n, err := s.db.Exec(ctx, `INSERT INTO assertions (jti_hash, expires_at) VALUES ($1, $2) ON CONFLICT (jti_hash) DO NOTHING`,
		secret.Hash(c.ID+"\n"+a.claims.ID), db.Micros(ends))
	if err != nil {
		return fmt.Errorf("taking an assertion: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("%w (assertion of client %s: its jti was used before)", errInvalidClient, c.ID)
	}
	return nil
}

// signedBy reports whether a key may be the one that the assertion says it is
// signed with.
func (a *assertion) signedBy(k jose.JSONWebKey) bool {
	return (a.kid == "" || a.kid == k.KeyID) && slices.Contains(algsOf(k), a.alg)
}

// The RSA keys that are taken. To check a signature takes longer the larger they are,
// tens of milliseconds with the largest that fits into a header: who brings a key of
// their own, for a proof, is not to make that our work.
const (
	minRSABits     = 2048
	maxRSABits     = 4096
	maxRSAExponent = 65537
)

// algsOf are the algorithms that a public key may sign assertions with: that of
// its alg, or all that fit it (RFC 8725 3.1: one key, one use).
func algsOf(k jose.JSONWebKey) []string {
	var fit []string
	switch key := k.Key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			fit = []string{algES256}
		}
	case ed25519.PublicKey:
		fit = []string{algEdDSA}
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n >= minRSABits && n <= maxRSABits && key.E <= maxRSAExponent {
			fit = []string{algPS256, algRS256}
		}
	}
	if k.Use != "" && k.Use != "sig" {
		return nil
	}
	return slices.DeleteFunc(fit, func(alg string) bool { return k.Algorithm != "" && k.Algorithm != alg })
}

// maxKeys bounds how many keys of a client are tried.
const maxKeys = 20

// parseKeys returns the keys of a JWKS (RFC 7517 5) that can sign assertions.
// Others are passed over, as the RFC asks; others is how many there were.
func parseKeys(text []byte) (keys []jose.JSONWebKey, others int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, 0, fmt.Errorf("not a JWKS: %w", err)
	}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil || len(algsOf(k)) == 0 || len(keys) == maxKeys {
			others++
			continue
		}
		keys = append(keys, k)
	}
	return keys, others, nil
}

// checkJWKS refuses a JWKS that is registered with anything but public keys that
// can sign assertions.
func checkJWKS(text string) error {
	if len(text) > maxJWKS {
		return fmt.Errorf("is larger than %d bytes", maxJWKS)
	}
	keys, others, err := parseKeys([]byte(text))
	switch {
	case err != nil:
		return errors.New("is not a JWKS (RFC 7517 5)")
	case others > 0 || len(keys) == 0:
		return fmt.Errorf("has to hold 1 to %d public keys for %s, and no others", maxKeys, strings.Join(assertionAlgs, ", "))
	}
	return nil
}

// keysOf returns the keys of a client that fit.
func (s *Server) keysOf(ctx context.Context, c *Client, fits func(jose.JSONWebKey) bool) ([]jose.JSONWebKey, error) {
	if c.JWKSURI != "" {
		return s.remote.find(ctx, c.JWKSURI, fits)
	}
	keys, _, err := parseKeys([]byte(c.JWKS))
	return only(keys, fits), err
}

func only(keys []jose.JSONWebKey, fits func(jose.JSONWebKey) bool) []jose.JSONWebKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k jose.JSONWebKey) bool { return !fits(k) })
}

const (
	maxJWKS     = 64 << 10         // of a JWKS that is registered
	maxFetched  = 1 << 20          // of one that is fetched
	fetchEvery  = time.Minute      // at most
	keysFresh   = 10 * time.Minute // then they are fetched again when they are next used
	keysForgone = 24 * time.Hour   // so long they serve while they cannot be fetched again
)

// A remoteKeys holds the keys that clients publish at a jwks_uri.
type remoteKeys struct {
	client *http.Client
	mu     sync.Mutex
	at     map[string]*fetchedKeys
}

type fetchedKeys struct {
	fetch sync.Mutex // held by the one who fetches
	mu    sync.Mutex
	keys  []jose.JSONWebKey
	last  time.Time // when they came
	tried time.Time
}

// find returns the keys at a URI that fit. If none does, or they are not fresh,
// the document is fetched, by one at a time and once a minute: who makes up key
// ids does not make us a burden on the client, nor keep others waiting.
func (r *remoteKeys) find(ctx context.Context, uri string, fits func(jose.JSONWebKey) bool) ([]jose.JSONWebKey, error) {
	r.mu.Lock()
	f := r.at[uri]
	if f == nil {
		f = &fetchedKeys{}
		r.at[uri] = f
	}
	r.mu.Unlock()

	found, due := f.only(fits)
	if !due {
		return found, nil
	}
	if len(found) == 0 {
		f.fetch.Lock()
	} else if !f.fetch.TryLock() {
		return found, nil
	}
	defer f.fetch.Unlock()
	if found, due = f.only(fits); !due {
		return found, nil // another fetched them meanwhile
	}
	keys, err := r.get(context.WithoutCancel(ctx), uri)
	f.mu.Lock()
	f.tried = time.Now()
	if err == nil {
		f.keys, f.last = keys, f.tried
	}
	f.mu.Unlock()
	if err != nil {
		web.Log(ctx).WarnContext(ctx, "a client's keys could not be fetched", "jwks_uri", uri, "error", err.Error())
	}
	found, _ = f.only(fits)
	return found, nil
}

// only returns the keys that fit, and whether to fetch them.
func (f *fetchedKeys) only(fits func(jose.JSONWebKey) bool) (found []jose.JSONWebKey, due bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.last) < keysForgone {
		found = only(f.keys, fits)
	}
	return found, (len(found) == 0 || now.Sub(f.last) >= keysFresh) && now.Sub(f.tried) >= fetchEvery
}

func (r *remoteKeys) get(ctx context.Context, uri string) ([]jose.JSONWebKey, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := r.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxFetched+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFetched {
		return nil, fmt.Errorf("more than %d bytes", maxFetched)
	}
	keys, _, err := parseKeys(text)
	return keys, err
}
