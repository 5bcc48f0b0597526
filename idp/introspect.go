package idp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// An introspection is what a client is told of a token (RFC 7662 2.2): of one that
// is not its own, or no longer good, that it is not active and nothing more.
type introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	TokenType string `json:"token_type,omitempty"` // of an access token (RFC 6749 5.1)
	Issuer    string `json:"iss,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Expires   int64  `json:"exp,omitempty"`
	IssuedAt  int64  `json:"iat,omitempty"`
	AuthTime  int64  `json:"auth_time,omitempty"` // RFC 9470 6.2
	ACR       string `json:"acr,omitempty"`

	Confirmation *confirmation `json:"cnf,omitempty"` // RFC 9449 6.2
}

// Introspect is the introspection endpoint (RFC 7662), for confidential clients
// and their own tokens: checkClientRequest takes nothing without a proof of the client.
func (s *Server) Introspect(ctx context.Context, r *op.Request[op.IntrospectionRequest]) (*op.Response, error) {
	c, err := s.authenticate(ctx, r.Header, r.Form, r.Data.ClientCredentials)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	told, err := s.introspect(ctx, c, r.Data.IntrospectionRequest.Token)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return op.NewResponse(told), nil
}

func (s *Server) introspect(ctx context.Context, c *Client, token string) (*introspection, error) {
	now := time.Now()
	told := &introspection{Active: true, ClientID: c.ID, Issuer: s.cfg.Issuer, Audience: c.ID}
	id, isRefresh := grantOf(token, refreshPrefix)
	access := &accessToken{}
	if !isRefresh {
		var err error
		if access, err = s.openAccessToken(ctx, token, now); errors.Is(err, errInvalidToken) {
			return &introspection{}, nil
		} else if err != nil {
			return nil, err
		}
		id, told.TokenType, told.Confirmation = access.grantID, tokenType(access.jkt), confirm(access.jkt)
	}
	switch {
	case isRefresh && !slices.Contains(c.GrantTypes, grantRefresh), access.clientID != "" && access.clientID != c.ID:
		return &introspection{}, nil
	case !isRefresh && access.grantID == "":
		told.Subject, told.Scope, told.IssuedAt, told.Expires = c.ID, access.scope, access.issued.Unix(), access.ends.Unix()
		return told, nil
	}
	var user sql.NullString
	var created, authTime int64
	var redeemed, refreshed, sessionEnds sql.NullInt64
	var refresh []byte
	err := s.db.QueryRow(ctx, `
		SELECT g.user_id, g.scope, g.auth_time, g.acr, g.created_at, g.redeemed_at, g.refreshed_at, g.refresh_hash, s.expires_at
		FROM grants g LEFT JOIN sessions s ON s.id = g.session_id LEFT JOIN users u ON u.id = s.user_id
		WHERE g.id = $2 AND g.client_id = $3 AND g.ended_at IS NULL
			AND (g.session_id IS NULL OR g.redeemed_at IS NOT NULL AND s.ended_at IS NULL AND s.expires_at > $1 AND `+account.SessionHolds+`)`,
		db.Micros(now), id, c.ID).
		Scan(&user, &told.Scope, &authTime, &told.ACR, &created, &redeemed, &refreshed, &refresh, &sessionEnds)
	if errors.Is(err, sql.ErrNoRows) {
		return &introspection{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("introspecting: %w", err)
	}
	issued, ends := access.issued, access.ends
	if isRefresh {
		issued, ends = db.Time(redeemed.Int64), earliest(db.Time(refreshed.Int64).Add(s.cfg.RefreshIdle), db.Time(created).Add(s.cfg.RefreshMax))
		if !equal(refresh, secret.Hash(token)) || !now.Before(ends) {
			return &introspection{}, nil
		}
	} else {
		told.Scope = access.scope
	}
	if told.Subject = c.ID; user.Valid {
		told.Subject, told.AuthTime, ends = user.String, db.Time(authTime).Unix(), earliest(ends, db.Time(sessionEnds.Int64))
	}
	told.Scope = c.allowed(strings.Fields(told.Scope)) // its registration may have been narrowed since
	told.IssuedAt, told.Expires = issued.Unix(), ends.Unix()
	return told, nil
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Revocation is the revocation endpoint (RFC 7009). A grant ends with any token of
// it, for they are one permission: an access token, too, is only as good as its
// grant. What is not a token of the client's is of no effect, and is not told apart.
func (s *Server) Revocation(ctx context.Context, r *op.ClientRequest[oidc.RevocationRequest]) (*op.Response, error) {
	c := r.Client.(wireClient).Client
	if err := s.revoke(ctx, c, r.Data.Token); err != nil {
		return nil, wireError(ctx, fmt.Errorf("client %s: %w", c.ID, err))
	}
	return op.NewResponse(nil), nil
}

func (s *Server) revoke(ctx context.Context, c *Client, token string) error {
	now := time.Now()
	proof, args := ``, []any{db.Micros(now), "", c.ID}
	switch {
	case strings.HasPrefix(token, refreshPrefix):
		id, ok := grantOf(token, refreshPrefix)
		if !ok {
			return nil
		}
		args[1] = id
		proof, args = ` AND (refresh_hash = $4 OR prev_refresh_hash = $4)`, append(args, secret.Hash(token))
	case strings.HasPrefix(token, codePrefix):
		id, ok := grantOf(token, codePrefix)
		if !ok {
			return nil
		}
		args[1] = id
		proof, args = ` AND code_hash = $4`, append(args, secret.Hash(token))
	default:
		access, err := s.openAccessToken(ctx, token, now)
		if errors.Is(err, errInvalidToken) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case access.clientID != "" && access.clientID != c.ID:
			return nil
		case access.grantID == "":
			return &oauthError{"unsupported_token_type", "a JWT that a client got for itself cannot be revoked, it ends soon"} // RFC 7009 2.2.1
		}
		args[1] = access.grantID
	}
	if _, err := s.db.Exec(ctx, `UPDATE grants SET ended_at = $1 WHERE id = $2 AND client_id = $3 AND ended_at IS NULL`+proof, args...); err != nil {
		return fmt.Errorf("revoking: %w", err)
	}
	return nil
}
