package idp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A code and a refresh token name their grant and prove it: prefix, the grant's
// id, an underscore, 256 bits that nobody can guess. The database has their SHA-256.
const (
	codePrefix    = "hac_"
	refreshPrefix = "hrt_"
)

// grantIDLen is the length of a grant's id, which is secret.ID("").
const grantIDLen = 26

func newHandle(prefix, grantID string) string { return secret.Token(prefix + grantID + "_") }

// grantOf returns the id of the grant that a code or refresh token names.
func grantOf(token, prefix string) (id string, ok bool) {
	if len(token) < len(prefix)+grantIDLen+1 {
		return "", false
	}
	head := token[:len(prefix)+grantIDLen+1]
	if !secret.IsToken(token, head) || head[:len(prefix)] != prefix || head[len(head)-1] != '_' {
		return "", false
	}
	id = head[len(prefix) : len(head)-1]
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", false
		}
	}
	return id, true
}

// errNotGranted means that no code was given: the request has had its code, or
// the session, person or client is no longer there, or no longer what is asked for.
var errNotGranted = errors.New("no code: the request has had one, or its session, person or client is gone")

// grant makes a grant with its code. It is one statement, which judges session,
// person and client once more and gives a waiting request one code, ever.
func (s *Server) grant(ctx context.Context, r *request, in *account.Session) (code string, err error) {
	id := secret.ID("")
	code = newHandle(codePrefix, id)
	var requestID *string
	if r.ID != "" {
		requestID = &r.ID
	}
	now := db.Micros(time.Now())
	const insert = `
		INSERT INTO grants (id, session_id, user_id, client_id, request_id, scope, claims, nonce, redirect_uri, challenge, auth_time, amr, acr, code_hash, created_at, dpop_jkt)
		SELECT $1, s.id, s.user_id, c.id, $2, $3, $11, $4, $5, $6,
			s.auth_time, s.amr, s.acr, $7, $8, $13
		FROM sessions s JOIN users u ON u.id = s.user_id JOIN clients c ON c.id = $9
		WHERE s.id = $10 AND s.ended_at IS NULL AND s.expires_at > $8 AND ` + account.SessionHolds + ` AND c.disabled_at IS NULL
			AND (c.require_2fa = 0 OR s.acr = '` + account.ACR2FA + `')
			AND (c.third_party = 0 OR EXISTS (SELECT 1 FROM consents k WHERE k.user_id = s.user_id AND k.client_id = c.id AND k.scope = $12))
		ON CONFLICT (request_id) DO NOTHING`
	args := []any{id, requestID, r.Scope, r.Nonce, r.RedirectURI, r.Challenge, secret.Hash(code), now, r.ClientID, in.ID, r.Claims.text(), r.consent.scope, r.JKT}
	var n int64
	if r.client.ThirdParty { // no consent is withdrawn meanwhile
		err = s.db.Tx(ctx, func(tx *db.Tx) error {
			if err := tx.Lock(ctx, "users", in.UserID); err != nil {
				return err
			}
			n, err = tx.Exec(ctx, insert, args...)
			return err
		})
	} else {
		n, err = s.db.Exec(ctx, insert, args...)
	}
	if err != nil {
		return "", fmt.Errorf("granting: %w", err)
	}
	if n == 0 {
		return "", errNotGranted
	}
	return code, nil
}

// A grant is what tokens repeat.
type grant struct {
	id, sessionID, userID, clientID, scope, nonce, acr string
	claims                                             claimsRequest
	amr                                                []string
	authTime, createdAt                                time.Time
	refresh                                            string // the refresh token to answer with, or ""
	jkt                                                string // the thumbprint of the key that its tokens are bound to, or "" (RFC 9449)
}

func (g *grant) has(scope string) bool { return slices.Contains(strings.Fields(g.scope), scope) }

// narrow leaves of a grant what its client may have today: less, if its registration
// was narrowed since.
func (g *grant) narrow(c *Client) {
	g.scope = c.allowed(strings.Fields(g.scope))
	no := func(name string) bool { return !c.mayClaim(name) }
	g.claims.UserInfo, g.claims.IDToken = slices.DeleteFunc(g.claims.UserInfo, no), slices.DeleteFunc(g.claims.IDToken, no)
}

// alive is the part of every statement on a grant that asks whether its session
// and its person are still there. $1 is the time. That a session was idle too
// long closes the browser's way in, not the workspace's (docs/protocol.md).
const alive = `grants.ended_at IS NULL AND EXISTS (
		SELECT 1 FROM sessions s JOIN users u ON u.id = s.user_id
		WHERE s.id = grants.session_id AND s.ended_at IS NULL AND s.expires_at > $1 AND ` + account.SessionHolds + `)`

// errInvalidGrant is all that a client learns of a code or refresh token that is
// not, or no longer, its own.
var errInvalidGrant = &oauthError{"invalid_grant", "the code or token is invalid, expired, used or not this client's"}

// redeem spends a code (RFC 6749 4.1.3, RFC 7636 4.6). The first to present it
// spends it, whatever else is wrong with what they present: then the grant ends.
// A code that was spent before ends its grant, too, with every token (RFC 9700
// 2.1.1, ASVS 10.4.2). jkt is the key that the client proves to have, "" for none: from
// now on the grant is bound to it.
func (s *Server) redeem(ctx context.Context, c *Client, code, redirectURI, verifier, jkt string) (*grant, error) {
	id, ok := grantOf(code, codePrefix)
	if !ok {
		return nil, fmt.Errorf("%w (not a code of this provider)", errInvalidGrant)
	}
	now := time.Now()
	g := &grant{id: id, jkt: jkt}
	refresh := s.newRefreshToken(id)
	var (
		amr, registered, challenge, claims, boundTo string
		authTime, created                           int64
	)
	// COALESCE keeps planners from the index of unredeemed grants, which costs more with
	// each code that was spent since it was last cleaned.
	err := s.db.Returning(ctx, `
		UPDATE grants SET redeemed_at = $1, refreshed_at = $1, refresh_hash = $2, dpop_jkt = CASE WHEN dpop_jkt = '' THEN $5 ELSE dpop_jkt END
		WHERE id = $3 AND code_hash = $4 AND COALESCE(redeemed_at, 0) = 0 AND `+alive+`
		RETURNING session_id, user_id, client_id, scope, claims, nonce, redirect_uri, challenge, auth_time, amr, acr, created_at, dpop_jkt`,
		[]any{db.Micros(now), secret.Hash(refresh), id, secret.Hash(code), jkt},
		&g.sessionID, &g.userID, &g.clientID, &g.scope, &claims, &g.nonce, &registered, &challenge, &authTime, &amr, &g.acr, &created, &boundTo)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.replayed(ctx, id, code)
	}
	if err != nil {
		return nil, fmt.Errorf("redeeming a code: %w", err)
	}
	g.amr, g.authTime, g.createdAt = strings.Fields(amr), db.Time(authTime), db.Time(created)
	if g.claims, err = readClaims(claims); err != nil {
		return nil, err
	}
	why := wrongRedemption(c, g, redirectURI, registered, verifier, challenge, now)
	if why == "" && boundTo != jkt {
		why = "the code is bound to another key than the DPoP proof's"
	}
	if g.narrow(c); why == "" && !g.has("openid") {
		why = "the client may not have openid any more"
	}
	if why != "" {
		if err := s.endGrant(ctx, id); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w (%s)", errInvalidGrant, why)
	}
	if g.has("offline_access") && slices.Contains(c.GrantTypes, grantRefresh) {
		g.refresh = refresh
	}
	return g, nil
}

// wrongRedemption says, for the log, what is wrong with a redemption, or "".
func wrongRedemption(c *Client, g *grant, redirectURI, registered, verifier, challenge string, now time.Time) string {
	switch {
	case g.clientID != c.ID:
		return "the code is client " + g.clientID + "'s"
	case now.Sub(g.createdAt) > codeTTL || now.Sub(g.createdAt) < -account.MaxSkew:
		return fmt.Sprintf("the code has expired, it is of %s", g.createdAt.UTC().Format(time.RFC3339))
	case redirectURI != registered:
		return fmt.Sprintf("redirect_uri is %q, in the authorization request it was %q", short(redirectURI), registered)
	case challenge == "" && verifier != "":
		return "a code_verifier, though there was no code_challenge"
	case challenge == "" && c.RequirePKCE:
		return "no code_challenge, though the client has to use PKCE"
	case challenge == "":
		return ""
	case !verifierText(verifier):
		return "code_verifier is missing or not one"
	}
	sum := sha256.Sum256([]byte(verifier))
	if !equal([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) {
		return "code_verifier does not fit the code_challenge"
	}
	return ""
}

// verifierText reports whether s has the form of a code_verifier (RFC 7636 4.1).
func verifierText(s string) bool {
	if len(s) < 43 || len(s) > 128 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("-._~", c) {
			return false
		}
	}
	return true
}

// replayed ends the grant of a code that was spent before. A string that merely
// names a grant ends nothing.
func (s *Server) replayed(ctx context.Context, id, code string) error {
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		e := account.Event{Kind: "code_reused", Actor: account.Actor{Kind: "client"}}
		err := tx.Returning(ctx, `
			UPDATE grants SET ended_at = $1 WHERE id = $2 AND code_hash = $3 AND redeemed_at IS NOT NULL AND ended_at IS NULL
			RETURNING user_id, client_id, session_id`,
			[]any{db.Micros(time.Now()), id, secret.Hash(code)}, &e.UserID, &e.ClientID, &e.SessionID)
		if err != nil {
			return err
		}
		return account.Record(ctx, tx, e)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return s.whyNot(ctx, nil, id, code, "")
	}
	if err != nil {
		return fmt.Errorf("ending a grant: %w", err)
	}
	s.cfg.Watch.CodeReused()
	return fmt.Errorf("%w (the code was used before, its grant has ended)", errInvalidGrant)
}

// whyNot is errInvalidGrant with, for the log, what is wrong with a code or refresh
// token that names a grant and was not taken. jkt is the key that the client c of a
// refresh token proved to have, "" for none.
func (s *Server) whyNot(ctx context.Context, c *Client, id, token, jkt string) error {
	var code, refresh []byte
	var client, boundTo string
	var redeemed, refreshed, ended, sessionEnded, sessionEnds sql.NullInt64
	err := s.db.QueryRow(ctx, `
		SELECT g.code_hash, g.refresh_hash, g.client_id, g.dpop_jkt, g.redeemed_at, g.refreshed_at, g.ended_at, s.ended_at, s.expires_at
		FROM grants g LEFT JOIN sessions s ON s.id = g.session_id WHERE g.id = $1`, id).
		Scan(&code, &refresh, &client, &boundTo, &redeemed, &refreshed, &ended, &sessionEnded, &sessionEnds)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("reading a grant: %w", err)
	}
	at := func(micros sql.NullInt64) string { return db.Time(micros.Int64).UTC().Format(time.RFC3339) }
	now := db.Micros(time.Now())
	why := "its session's person may not sign in any more"
	switch {
	case err != nil:
		why = "its grant is gone: the session ended a while ago, or it never was"
	case !equal(secret.Hash(token), code) && !equal(secret.Hash(token), refresh):
		why = "client " + client + "'s grant has another one now, or it was made up"
	case ended.Valid:
		why = "its grant ended at " + at(ended) + ": revoked, withdrawn, or a code or token of it was used twice"
	case sessionEnded.Valid:
		why = "its session ended at " + at(sessionEnded)
	case sessionEnds.Valid && sessionEnds.Int64 <= now:
		why = "its session's time was over at " + at(sessionEnds)
	case strings.HasPrefix(token, refreshPrefix) && boundTo != jkt && (jkt == "" || c.Public()):
		why = "it is client " + client + "'s, and the DPoP key of the request is not the one that it is bound to"
	case strings.HasPrefix(token, refreshPrefix):
		why = "it is client " + client + "'s, last used at " + at(refreshed) + ", of a grant that began at " + at(redeemed)
	}
	return fmt.Errorf("%w (%s)", errInvalidGrant, why)
}

func (s *Server) endGrant(ctx context.Context, id string) error {
	if _, err := s.db.Exec(ctx, `UPDATE grants SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL`, db.Micros(time.Now()), id); err != nil {
		return fmt.Errorf("ending a grant: %w", err)
	}
	return nil
}

// renew uses a refresh token (RFC 6749 6). A confidential client's stays as it is
// (RFC 9700 4.14.2). A public client's is exchanged for a successor, which is the
// predecessor's MAC: two tabs that race get the same one, and no token is
// exchanged twice within the grace. scope is what the
// client asks for now, "" for all; jkt the key that it proves to have, "" for none. A
// public client's refresh token is bound to the first one, a confidential client's to
// the client, which may take another (RFC 9449 5).
func (s *Server) renew(ctx context.Context, c *Client, token, scope, jkt string) (*grant, error) {
	id, ok := grantOf(token, refreshPrefix)
	if !ok {
		return nil, fmt.Errorf("%w (not a refresh token of this provider)", errInvalidGrant)
	}
	if scope != "" {
		if err := s.narrower(ctx, c, id, token, scope); err != nil {
			return nil, err
		}
	}
	now, next := time.Now(), token
	set, key := `refreshed_at = $1`, `(dpop_jkt = '' OR $7 <> '')`
	args := []any{db.Micros(now), id, secret.Hash(token), c.ID, db.Micros(now.Add(-s.cfg.RefreshIdle)), db.Micros(now.Add(-s.cfg.RefreshMax)), jkt}
	write := db.Soft(ctx) // only the time of the last use
	if c.Public() {
		// A token that is younger than the grace stays as it is: whoever still holds
		// its predecessor is never two generations behind.
		next, write, key = s.successors(id, token)[0], ctx, `dpop_jkt = $7`
		set = `refreshed_at = $1,
			prev_refresh_hash = CASE WHEN rotated_at > $8 THEN prev_refresh_hash ELSE refresh_hash END,
			refresh_hash = CASE WHEN rotated_at > $8 THEN refresh_hash ELSE $9 END,
			rotated_at = CASE WHEN rotated_at > $8 THEN rotated_at ELSE $1 END`
		args = append(args, db.Micros(now.Add(-s.cfg.RefreshGrace)), secret.Hash(next))
	}
	g := &grant{id: id, clientID: c.ID, refresh: token, jkt: jkt}
	var (
		amr      string
		claims   string
		authTime int64
		current  []byte
		nowACR   string // of the session
	)
	err := s.db.Returning(write, `
		UPDATE grants SET `+set+`
		WHERE id = $2 AND refresh_hash = $3 AND client_id = $4 AND refreshed_at > $5 AND created_at > $6 AND `+key+` AND `+alive+`
		RETURNING session_id, user_id, scope, claims, auth_time, amr, acr, refresh_hash, (SELECT s.acr FROM sessions s WHERE s.id = grants.session_id)`,
		args, &g.sessionID, &g.userID, &g.scope, &claims, &authTime, &amr, &g.acr, &current, &nowACR)
	if err == nil && equal(secret.Hash(next), current) {
		g.refresh = next
	}
	if errors.Is(err, sql.ErrNoRows) && c.Public() {
		err = s.renewAgain(ctx, c, g, token, now, &authTime, &claims, &amr, &nowACR)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.whyNot(ctx, c, id, token, jkt)
	}
	if err != nil {
		return nil, fmt.Errorf("refreshing: %w", err)
	}
	g.amr, g.authTime = strings.Fields(amr), db.Time(authTime)
	if g.claims, err = readClaims(claims); err != nil {
		return nil, err
	}
	if g.narrow(c); !g.has("openid") || !g.has("offline_access") {
		return nil, fmt.Errorf("%w (the client may not have openid and offline_access any more)", errInvalidGrant)
	}
	if nowACR == account.ACR1FA && g.acr == account.ACR2FA && !account.Whole(g.amr) { // two-factor authentication was turned off since
		if c.Require2FA {
			return nil, fmt.Errorf("%w (the client demands a second factor, which the person turned off)", errInvalidGrant)
		}
		g.acr, g.amr = nowACR, account.FirstFactor(g.amr)
	}
	if scope != "" {
		asked := strings.Fields(scope)
		g.scope = strings.Join(slices.DeleteFunc(strings.Fields(g.scope), func(s string) bool { return !slices.Contains(asked, s) }), " ")
	}
	return g, nil
}

// A refresh token's 256 bits are 128 that are random and a MAC over them and the
// grant's id: one that was given up can be told from one that was made up.
const refreshRandom = 16

func (s *Server) newRefreshToken(id string) string {
	random := make([]byte, refreshRandom)
	rand.Read(random)
	return refreshToken(id, random, s.refreshMACs(id, random)[0])
}

func refreshToken(id string, random, mac []byte) string {
	return refreshPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(slices.Concat(random, mac))
}

func (s *Server) refreshMACs(id string, random []byte) [][]byte {
	macs := s.ring.MACs("refresh token", append([]byte(id), random...))
	for i := range macs {
		macs[i] = macs[i][:refreshRandom]
	}
	return macs
}

// madeHere reports whether a token of this grant is one that we gave out, once.
func (s *Server) madeHere(id, token string) bool {
	b, err := base64.RawURLEncoding.DecodeString(token[len(refreshPrefix)+grantIDLen+1:])
	if err != nil || len(b) != 2*refreshRandom {
		return false
	}
	return slices.ContainsFunc(s.refreshMACs(id, b[:refreshRandom]), func(mac []byte) bool { return equal(mac, b[refreshRandom:]) })
}

// successors are the tokens that a refresh token of a public client may have been
// exchanged for: one for each key of the ring, today's first.
func (s *Server) successors(id, token string) []string {
	var out []string
	for i, mac := range s.ring.MACs("refresh token's successor", []byte(token)) {
		random := mac[:refreshRandom]
		out = append(out, refreshToken(id, random, s.refreshMACs(id, random)[i]))
	}
	return out
}

// renewAgain is for a refresh token of a public client that is not the current
// one. Within the grace it gets the successor that it was exchanged for.
// After that somebody uses a token that was given up, the grant ends and its person
// is told (ASVS 10.4.5). A string that merely names a grant ends nothing.
func (s *Server) renewAgain(ctx context.Context, c *Client, g *grant, token string, now time.Time, authTime *int64, claims, amr, nowACR *string) error {
	var current, prev []byte
	var rotated sql.NullInt64
	err := s.db.QueryRow(ctx, `
		SELECT session_id, user_id, scope, claims, auth_time, amr, acr, refresh_hash, prev_refresh_hash, rotated_at,
			(SELECT s.acr FROM sessions s WHERE s.id = grants.session_id)
		FROM grants
		WHERE id = $2 AND client_id = $3 AND dpop_jkt = $4 AND redeemed_at IS NOT NULL AND `+alive, db.Micros(now), g.id, c.ID, g.jkt).
		Scan(&g.sessionID, &g.userID, &g.scope, claims, authTime, amr, &g.acr, &current, &prev, &rotated, nowACR)
	if err != nil {
		return err
	}
	h := secret.Hash(token)
	switch {
	case equal(h, current):
		return sql.ErrNoRows // current, and past its time
	case equal(h, prev) && rotated.Valid && now.Sub(db.Time(rotated.Int64)) <= s.cfg.RefreshGrace:
		for _, next := range s.successors(g.id, token) {
			if equal(secret.Hash(next), current) {
				g.refresh = next
				return nil
			}
		}
	case !equal(h, prev) && !s.madeHere(g.id, token):
		return sql.ErrNoRows
	}
	ended := false
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE grants SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL`, db.Micros(now), g.id)
		ended = n > 0
		if err != nil || n == 0 {
			return err
		}
		return account.RecordRefreshReused(ctx, tx, account.Event{
			UserID: g.userID, ClientID: c.ID, SessionID: g.sessionID, Actor: account.Actor{Kind: "client", Name: c.ID}, Detail: account.Detail{Client: c.Name},
		})
	})
	if err != nil {
		return err
	}
	if ended {
		s.cfg.Watch.RefreshReused()
	}
	return fmt.Errorf("%w (the refresh token was used before, its grant has ended)", errInvalidGrant)
}

// narrower refuses a scope that goes beyond the grant's (RFC 6749 6), or that
// leaves out openid: every answer here has an ID token. It says so before the
// token is exchanged for another, and to nobody but the token's client.
func (s *Server) narrower(ctx context.Context, c *Client, id, token, scope string) error {
	wanted := strings.Fields(scope)
	if !slices.Contains(wanted, "openid") {
		return particular(&oauthError{"invalid_scope", "scope has to contain openid"}, scope)
	}
	var granted string
	err := s.db.QueryRow(ctx, `SELECT scope FROM grants WHERE id = $1 AND client_id = $2 AND (refresh_hash = $3 OR prev_refresh_hash = $3)`,
		id, c.ID, secret.Hash(token)).Scan(&granted)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // what is wrong with the token is for renew to find
	}
	if err != nil {
		return fmt.Errorf("reading a grant: %w", err)
	}
	has := strings.Fields(granted)
	for _, one := range wanted {
		if !slices.Contains(has, one) {
			return fmt.Errorf("%w (got %q, granted is %q)", &oauthError{"invalid_scope", "scope goes beyond what was granted"}, short(scope), granted)
		}
	}
	return nil
}

// person returns an access token's person, with the client and the claims of the
// grant: one read of grant, session and person.
func (s *Server) person(ctx context.Context, grantID string, now time.Time) (*account.User, *grant, error) {
	g := &grant{id: grantID}
	var claims string
	u, err := account.ScanUser(func(dest ...any) error {
		return s.db.QueryRow(ctx, `
			SELECT g.client_id, g.claims, `+account.UserColumns("u")+`
			FROM grants g JOIN sessions s ON s.id = g.session_id JOIN users u ON u.id = s.user_id
			WHERE g.id = $2 AND g.redeemed_at IS NOT NULL AND g.ended_at IS NULL AND s.ended_at IS NULL AND s.expires_at > $1 AND `+account.SessionHolds,
			db.Micros(now), grantID).Scan(append([]any{&g.clientID, &claims}, dest...)...)
	})
	if err != nil {
		return nil, nil, err
	}
	g.claims, err = readClaims(claims)
	return u, g, err
}
