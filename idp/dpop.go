package idp

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// Demonstrated proof of possession (RFC 9449): whoever presents a token that is
// bound to a key proves with a JWT of their own that they have it. A client's
// tokens are bound when it sends a proof for them, and always if it is registered so.

// typeDPoP is the type of a proof (RFC 9449 4.2).
const typeDPoP = "dpop+jwt"

const (
	dpopTTL = time.Minute // a proof is younger
	maxHTU  = 2000
)

var errProof = &oauthError{"invalid_dpop_proof", "the DPoP proof is missing, was used before, or does not fit the request"}

func badProof(why string) error { return fmt.Errorf("%w (%s)", errProof, short(why)) }

// dpopClaims are the claims of a proof (RFC 9449 4.2).
type dpopClaims struct {
	ID       string  `json:"jti"`
	Method   string  `json:"htm"`
	URI      string  `json:"htu"`
	IssuedAt float64 `json:"iat"`
	Token    string  `json:"ath"`
}

// prove checks the proof that a request carries (RFC 9449 4.3), which counts once,
// on all replicas together, and returns the thumbprint of its key: "" for a request
// without one. token is the access token that comes with it, "" for none.
func (s *Server) prove(ctx context.Context, h http.Header, method, path, token string) (jkt string, err error) {
	proofs := h.Values("DPoP")
	if len(proofs) == 0 {
		return "", nil
	}
	if len(proofs) > 1 || len(proofs[0]) > maxJWT || strings.ContainsFunc(proofs[0], notJWS) {
		return "", badProof("not one compact JWS")
	}
	allowed := make([]jose.SignatureAlgorithm, 0, len(assertionAlgs))
	for _, a := range assertionAlgs {
		allowed = append(allowed, jose.SignatureAlgorithm(a))
	}
	jws, err := jose.ParseSignedCompact(proofs[0], allowed)
	if err != nil {
		return "", badProof(err.Error())
	}
	head := jws.Signatures[0].Protected
	key := head.JSONWebKey
	switch {
	case head.ExtraHeaders[jose.HeaderType] != typeDPoP:
		return "", badProof("its type is not " + typeDPoP)
	case key == nil || !slices.Contains(algsOf(*key), head.Algorithm):
		return "", badProof("its jwk is no public key for its alg")
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return "", badProof("not signed with its jwk")
	}
	var c dpopClaims
	if err := json.Unmarshal(payload, &c); err != nil {
		return "", badProof("claims: " + err.Error())
	}
	snap, err := s.state.get(ctx)
	if err != nil {
		return "", err
	}
	now := time.Now()
	if c.IssuedAt <= float64(db.Micros(snap.restored))/1e6 {
		return "", badProof("from before the database was restored")
	}
	if why := c.wrong(method, s.cfg.Issuer+path, token, now); why != "" {
		return "", badProof(why)
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", badProof(err.Error())
	}
	jkt = base64.RawURLEncoding.EncodeToString(sum)
	// Soft: a proof that a power cut gives back is too old when the power is.
	n, err := s.db.Exec(db.Soft(ctx), `INSERT INTO assertions (jti_hash, expires_at) VALUES ($1, $2) ON CONFLICT (jti_hash) DO NOTHING`,
		secret.Hash(jkt+"\n"+c.ID), db.Micros(now.Add(2*dpopTTL)))
	if err != nil {
		return "", fmt.Errorf("taking a proof: %w", err)
	}
	if n == 0 {
		return "", badProof("its jti was used before")
	}
	return jkt, nil
}

// wrong says what is wrong with a proof for a request, or "".
func (c dpopClaims) wrong(method, uri, token string, now time.Time) string {
	age := now.Sub(time.UnixMicro(int64(c.IssuedAt * 1e6)))
	switch {
	case c.ID == "" || len(c.ID) > maxJTI:
		return "jti is missing or too long"
	case c.Method != method:
		return fmt.Sprintf("htm is another method: %q", short(c.Method))
	case !sameURI(c.URI, uri):
		return "htu is another address: " + short(c.URI)
	case age > dpopTTL || age < -assertionSkew:
		return fmt.Sprintf("iat is not now, it is %d s ago", int64(age.Seconds()))
	case token != "" && c.Token != tokenHash(token):
		return "ath is not that of the access token"
	}
	return ""
}

// sameURI compares what a proof says with an address of ours, query and fragment
// left out (RFC 9449 4.3 check 9).
func sameURI(got, want string) bool {
	u, err := url.Parse(got)
	if err != nil || len(got) > maxHTU || u.User != nil {
		return false
	}
	u.RawQuery, u.Fragment, u.RawFragment, u.ForceQuery = "", "", "", false
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]; port != "" {
		u.Host = strings.TrimSuffix(u.Host, port)
	}
	return u.String() == want
}

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// bound is prove for a request at which a client gets something: one that is
// registered to bind its tokens has to.
func (s *Server) bound(ctx context.Context, c *Client, h http.Header, path string) (jkt string, err error) {
	jkt, err = s.prove(ctx, h, http.MethodPost, path, "")
	if err == nil && jkt == "" && c.DPoP {
		return "", badProof("client " + c.ID + " is registered to send one")
	}
	return jkt, err
}

// tokenType is how a token is presented (RFC 6750, RFC 9449 5).
func tokenType(jkt string) string {
	if jkt != "" {
		return "DPoP"
	}
	return "Bearer"
}

// openedKey is where wire leaves the access token of a userinfo request.
type openedKey struct{}

// presented returns the access token that came to userinfo if it is presented as it
// is to be: one that is bound to a key with a proof, any other without (RFC 9449
// 7.1, 7.2). A request that is not, it answers, and returns nil.
func (s *Server) presented(w *wireWriter, r *http.Request, scheme, token string) *accessToken {
	access, err := s.openAccessToken(r.Context(), token, time.Now())
	if err == nil && access.jkt != "" {
		w.challenge = `DPoP error="invalid_token", algs="` + strings.Join(assertionAlgs, " ") + `"`
	}
	if err == nil && tokenType(access.jkt) != scheme {
		err = fmt.Errorf("%w (presented as %s)", errInvalidToken, scheme)
	}
	if err != nil {
		refuse(w, r, err)
		return nil
	}
	if access.jkt == "" {
		return access
	}
	jkt, err := s.prove(r.Context(), r.Header, r.Method, pathUserinfo, token)
	if err == nil && jkt != access.jkt {
		err = badProof("none, or with another key than the token's")
	}
	if err != nil {
		if errors.Is(err, errProof) {
			w.challenge = strings.Replace(w.challenge, errInvalidToken.code, errProof.code, 1)
			w.status = http.StatusUnauthorized
		}
		refuse(w, r, err)
		return nil
	}
	return access
}
