package idp

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/harmony/id/account"
)

// A tokenResponse is RFC 6749 5.1 with OIDC Core 3.1.3.3.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	Scope        string `json:"scope"`
}

// idClaims are the claims of an ID token (OIDC Core 2, 3.1.3.6): who signed in, how
// and when, and nothing about the person that userinfo is for.
type idClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	AuthTime int64    `json:"auth_time"`
	Nonce    string   `json:"nonce,omitempty"`
	ACR      string   `json:"acr"`
	AMR      []string `json:"amr"`
	Session  string   `json:"sid"`
	AtHash   string   `json:"at_hash,omitempty"`
}

// tokens makes the answer for a grant, by a grant type.
func (s *Server) tokens(ctx context.Context, c *Client, g *grant, by string) (*op.Response, error) {
	snap, err := s.state.get(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	now := time.Now()
	access, ends, err := s.newAccessToken(snap, c, g, now)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	more, err := s.moreClaims(ctx, g)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	id, err := snap.keys.sign(c.IDTokenAlg, typeIDToken, now, more, idClaims{
		Issuer:   s.cfg.Issuer,
		Subject:  g.userID,
		Audience: c.ID,
		Expires:  now.Add(idTokenTTL).Unix(),
		IssuedAt: now.Unix(),
		AuthTime: g.authTime.Unix(),
		Nonce:    g.nonce,
		ACR:      g.acr,
		AMR:      g.amr,
		Session:  g.sessionID,
		AtHash:   leftHalf(c.IDTokenAlg, access),
	})
	if err != nil {
		return nil, wireError(ctx, err)
	}
	s.cfg.Watch.Token(by)
	return op.NewResponse(tokenResponse{
		AccessToken:  access,
		TokenType:    tokenType(g.jkt),
		ExpiresIn:    int64(ends.Sub(now).Seconds()),
		RefreshToken: g.refresh,
		IDToken:      id,
		Scope:        g.scope,
	}), nil
}

// moreClaims are the claims of a person that the workspace asked for in the ID token
// by name, a JSON object, nil for none.
func (s *Server) moreClaims(ctx context.Context, g *grant) (json.RawMessage, error) {
	if len(g.claims.IDToken) == 0 {
		return nil, nil
	}
	u, err := account.ScanUser(func(dest ...any) error {
		return s.db.QueryRow(ctx, `SELECT `+account.UserColumns("u")+` FROM users u WHERE u.id = $1`, g.userID).Scan(dest...)
	})
	if err != nil {
		return nil, fmt.Errorf("reading a person's claims: %w", err)
	}
	return pick(u, g.claims.IDToken)
}

// sign writes a JWT of a type: claims and, if there are any, more.
func (k keySet) sign(alg, typ string, now time.Time, more json.RawMessage, claims any) (string, error) {
	signer := k.signer(alg, typ, now)
	if signer == nil {
		return "", fmt.Errorf("no %s key to sign with", alg)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("writing a %s: %w", typ, err)
	}
	if more != nil {
		if payload, err = joined(payload, more); err != nil {
			return "", fmt.Errorf("writing a %s: %w", typ, err)
		}
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing a %s: %w", typ, err)
	}
	return jws.CompactSerialize()
}

// notJWS reports a character that no compact JWS has (RFC 7515 3.1): decoders skip some.
func notJWS(c rune) bool {
	return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}

// maxJWT bounds the length of a JWT that comes back.
const maxJWT = 8 << 10

// verify returns the claims of a JWT of ours: signed by one of our keys with its
// algorithm, and of this type.
func (k keySet) verify(token, typ string) ([]byte, error) {
	if len(token) > maxJWT || strings.ContainsFunc(token, notJWS) {
		return nil, errors.New("too long, or not a compact JWS")
	}
	allowed := make([]jose.SignatureAlgorithm, 0, len(algs))
	for _, a := range algs {
		allowed = append(allowed, jose.SignatureAlgorithm(a))
	}
	jws, err := jose.ParseSignedCompact(token, allowed)
	if err != nil {
		return nil, fmt.Errorf("not a JWT signed as ours are: %w", err)
	}
	head := jws.Signatures[0].Protected
	key, ok := k.public[head.KeyID]
	switch {
	case !ok:
		return nil, fmt.Errorf("not signed with a key of ours (kid %q)", short(head.KeyID))
	case key.Algorithm != head.Algorithm:
		return nil, errors.New("signed with another algorithm than its key's")
	case head.ExtraHeaders[jose.HeaderType] != typ:
		return nil, fmt.Errorf("its type is not %s but %v", typ, head.ExtraHeaders[jose.HeaderType])
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return payload, nil
}

// readHint verifies an ID token that a client hands back (OIDC Core 3.1.2.1,
// RP-Initiated Logout 2): our signature and key, its type, our issuer, the
// client among its audience. It may have expired. clientID "" takes any client that is registered.
func (s *Server) readHint(snap *snapshot, token, clientID string) (*idClaims, error) {
	payload, err := snap.keys.verify(token, typeIDToken)
	if err != nil {
		return nil, err
	}
	var c idClaims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	switch {
	case c.Issuer != s.cfg.Issuer:
		return nil, fmt.Errorf("its issuer is %q", short(c.Issuer))
	case c.Subject == "" || c.Session == "":
		return nil, errors.New("no sub or no sid")
	case clientID != "" && c.Audience != clientID:
		return nil, fmt.Errorf("it is client %s's, not %q's", c.Audience, short(clientID))
	case snap.clients[c.Audience] == nil:
		return nil, fmt.Errorf("its client %s is no longer registered", c.Audience)
	}
	return &c, nil
}

// userinfo is the answer of the userinfo endpoint (OIDC Core 5.3.2): the claims of
// the granted scopes (5.4).
type userinfo struct {
	Subject       string `json:"sub"`
	Name          string `json:"name,omitempty"`
	UpdatedAt     int64  `json:"updated_at,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified *bool  `json:"email_verified,omitempty"`
	account.Claims
	PhoneNumberVerified *bool `json:"phone_number_verified,omitempty"` // in place of the one in Claims
}

func claimsFor(u *account.User, g *grant) userinfo {
	out := userinfo{Subject: u.ID}
	if g.has("profile") {
		out.Claims = u.Claims
		out.PhoneNumber, out.Address = "", nil
		out.Name, out.UpdatedAt = u.Name, u.UpdatedAt.Unix()
	}
	if g.has("email") {
		out.Email, out.EmailVerified = u.Email, &u.EmailVerified
	}
	if g.has("phone") && u.Claims.PhoneNumber != "" {
		out.PhoneNumber, out.PhoneNumberVerified = u.Claims.PhoneNumber, &u.Claims.PhoneNumberVerified
	}
	if g.has("address") {
		out.Address = u.Claims.Address
	}
	return out
}

var errInvalidToken = &oauthError{"invalid_token", "the access token is invalid, expired or revoked"}

// UserInfo is the userinfo endpoint (OIDC Core 5.3).
func (s *Server) UserInfo(ctx context.Context, r *op.Request[oidc.UserInfoRequest]) (*op.Response, error) {
	token, ok := ctx.Value(openedKey{}).(*accessToken)
	if !ok {
		return nil, wireError(ctx, errors.New("userinfo without an access token that was looked at"))
	}
	u, g, err := s.person(ctx, token.grantID, time.Now())
	if errors.Is(err, sql.ErrNoRows) {
		return nil, wireError(ctx, fmt.Errorf("%w (its grant was revoked or spent twice, or its session has ended)", errInvalidToken))
	}
	if err != nil {
		return nil, wireError(ctx, err)
	}
	snap, err := s.state.get(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	c := snap.clients[g.clientID]
	if c == nil || token.clientID != "" && token.clientID != g.clientID {
		return nil, wireError(ctx, fmt.Errorf("%w (client %s is disabled, or it is not the token's)", errInvalidToken, g.clientID))
	}
	g.scope = token.scope
	g.narrow(c)
	if len(g.claims.UserInfo) == 0 {
		return op.NewResponse(claimsFor(u, g)), nil
	}
	answer, err := askedFor(u, g)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return op.NewResponse(answer), nil
}
