package idp

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// An accessToken is what an access token says.
type accessToken struct {
	grantID      string // "": the client's own JWT, which has no grant
	clientID     string // "": that of the grant
	scope        string
	jkt          string // the thumbprint of the key that it is bound to, or ""
	issued, ends time.Time
}

// accessClaims are the claims of an access token that is a JWT (RFC 9068 2.2).
type accessClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	ID       string   `json:"jti"` // names the grant, as a code does
	ClientID string   `json:"client_id"`
	Scope    string   `json:"scope,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`

	Confirmation *confirmation `json:"cnf,omitempty"`
}

// A confirmation says which key a token is bound to (RFC 7800 3, RFC 9449 6.1).
type confirmation struct {
	JKT string `json:"jkt"`
}

func confirm(jkt string) *confirmation {
	if jkt == "" {
		return nil
	}
	return &confirmation{jkt}
}

// newAccessToken makes an access token of a grant, of the kind that its client is
// registered for. Nothing is written: any number of them may live at once, as when a
// workspace's servers each refresh, and here each dies with its grant, for userinfo
// and introspection read the grant.
func (s *Server) newAccessToken(snap *snapshot, c *Client, g *grant, now time.Time) (token string, ends time.Time, err error) {
	ends = now.Add(s.cfg.AccessTokenTTL)
	if c.AccessToken != TokenJWT {
		return s.sealAccessToken(g, now, ends), ends, nil
	}
	claims := accessClaims{
		Issuer: s.cfg.Issuer, Subject: g.userID, Audience: c.ID, Expires: ends.Unix(), IssuedAt: now.Unix(),
		ID: newHandle("", g.id), ClientID: c.ID, Scope: g.scope, ACR: g.acr, AMR: g.amr, Confirmation: confirm(g.jkt),
	}
	if g.userID == "" {
		claims.Subject, claims.ID = c.ID, secret.ID("")
	} else {
		claims.AuthTime = g.authTime.Unix()
	}
	token, err = snap.keys.sign(algES256, typeAccessToken, now, nil, claims)
	return token, ends, err
}

// accessPrefix begins an opaque access token: when it was issued and ends, its
// grant's id and its scope, sealed. One that is bound to a key begins with boundPrefix
// and has the key's thumbprint before the scope.
const (
	accessPrefix = "hat_"
	boundPrefix  = "hdt_"
)

// jktLen is the length of a thumbprint (RFC 7638), SHA-256 in base64url.
const jktLen = 43

func (s *Server) sealAccessToken(g *grant, now, ends time.Time) string {
	prefix := accessPrefix
	if g.jkt != "" {
		prefix = boundPrefix
	}
	plain := make([]byte, 0, 16+grantIDLen+jktLen+len(g.scope))
	plain = binary.BigEndian.AppendUint64(plain, uint64(now.UnixMicro()))
	plain = binary.BigEndian.AppendUint64(plain, uint64(ends.UnixMicro()))
	plain = append(plain, g.id...)
	plain = append(plain, g.jkt...)
	plain = append(plain, g.scope...)
	return prefix + base64.RawURLEncoding.EncodeToString(s.access.Seal(plain, sealedAs(prefix)))
}

// sealedAs keeps the two kinds apart: the one never opens as the other.
func sealedAs(prefix string) string { return strings.TrimPrefix(prefix, accessPrefix) }

func (s *Server) openSealed(token string) (*accessToken, bool) {
	const most = 2048 // maxScope among it
	prefix, jkt := accessPrefix, 0
	if strings.HasPrefix(token, boundPrefix) {
		prefix, jkt = boundPrefix, jktLen
	}
	rest, ok := strings.CutPrefix(token, prefix)
	if !ok || len(rest) > most || strings.ContainsAny(rest, "\r\n") { // which the decoder would skip
		return nil, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return nil, false
	}
	plain, err := s.access.Open(sealed, sealedAs(prefix))
	if err != nil || len(plain) < 16+grantIDLen+jkt {
		return nil, false
	}
	return &accessToken{
		issued: time.UnixMicro(int64(binary.BigEndian.Uint64(plain))), ends: time.UnixMicro(int64(binary.BigEndian.Uint64(plain[8:]))),
		grantID: string(plain[16 : 16+grantIDLen]), jkt: string(plain[16+grantIDLen : 16+grantIDLen+jkt]), scope: string(plain[16+grantIDLen+jkt:]),
	}, true
}

// openAccessToken returns what an access token of ours says, or errInvalidToken
// for one that is none or whose time is over. Whether its grant lives is for the
// caller to ask.
func (s *Server) openAccessToken(ctx context.Context, token string, now time.Time) (*accessToken, error) {
	t, ok := s.openSealed(token)
	if !ok && strings.Count(token, ".") == 2 {
		snap, err := s.state.get(ctx)
		if err != nil {
			return nil, err
		}
		if t, err = s.readAccessJWT(snap, token); err != nil {
			return nil, fmt.Errorf("%w (%s)", errInvalidToken, short(err.Error()))
		}
		ok = true
	}
	switch {
	case !ok:
		return nil, fmt.Errorf("%w (not an access token of this provider)", errInvalidToken)
	case !now.Before(t.ends):
		return nil, fmt.Errorf("%w (expired at %s)", errInvalidToken, t.ends.UTC().Format(time.RFC3339))
	}
	return t, nil
}

func (s *Server) readAccessJWT(snap *snapshot, token string) (*accessToken, error) {
	payload, err := snap.keys.verify(token, typeAccessToken)
	if err != nil {
		return nil, err
	}
	var c accessClaims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	if c.Issuer != s.cfg.Issuer || c.ClientID == "" {
		return nil, errors.New("another issuer's, or of no client")
	}
	id, ok := grantOf(c.ID, "")
	if !ok && c.Subject != c.ClientID {
		return nil, errors.New("names no grant")
	}
	t := &accessToken{grantID: id, clientID: c.ClientID, scope: c.Scope, issued: time.Unix(c.IssuedAt, 0), ends: time.Unix(c.Expires, 0)}
	if c.Confirmation != nil {
		t.jkt = c.Confirmation.JKT
	}
	return t, nil
}

// ClientCredentialsExchange is the client_credentials grant (RFC 6749 4.4): a
// client as itself, without a person. An opaque token has a grant without a
// session; a JWT has none and lives until its end.
func (s *Server) ClientCredentialsExchange(ctx context.Context, r *op.ClientRequest[oidc.ClientCredentialsRequest]) (*op.Response, error) {
	c := r.Client.(wireClient).Client
	jkt, err := s.bound(ctx, c, r.Header, pathToken)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	out, err := s.clientCredentials(ctx, c, strings.Fields(strings.Join(r.Data.Scope, " ")), jkt)
	if err != nil {
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, err))
	}
	return op.NewResponse(out), nil
}

func (s *Server) clientCredentials(ctx context.Context, c *Client, asked []string, jkt string) (*tokenResponse, error) {
	own := c.ownScopes()
	for _, one := range asked {
		if !slices.Contains(own, one) { // openid and its like are about people
			return nil, particular(&oauthError{"invalid_scope", "scope goes beyond what this client may have as itself"}, strings.Join(asked, " "), strings.Join(own, " "))
		}
	}
	if len(asked) > 0 {
		own = slices.DeleteFunc(own, func(one string) bool { return !slices.Contains(asked, one) })
	}
	snap, err := s.state.get(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	g := &grant{id: secret.ID(""), clientID: c.ID, scope: strings.Join(own, " "), jkt: jkt}
	if c.AccessToken != TokenJWT {
		n, err := s.db.Exec(ctx, `
			INSERT INTO grants (id, client_id, scope, nonce, redirect_uri, challenge, auth_time, amr, acr, created_at, dpop_jkt)
			SELECT $1, c.id, $2, '', '', '', 0, '', '', $3, $5 FROM clients c WHERE c.id = $4 AND c.disabled_at IS NULL`,
			g.id, g.scope, db.Micros(now), c.ID, jkt)
		if err != nil {
			return nil, fmt.Errorf("granting to a client: %w", err)
		}
		if n == 0 {
			return nil, fmt.Errorf("%w (it was disabled meanwhile)", errInvalidClient)
		}
	}
	token, ends, err := s.newAccessToken(snap, c, g, now)
	if err != nil {
		return nil, err
	}
	s.cfg.Watch.Token(grantClient)
	return &tokenResponse{AccessToken: token, TokenType: tokenType(jkt), ExpiresIn: int64(ends.Sub(now).Seconds()), Scope: g.scope}, nil
}
