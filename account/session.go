package account

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A Session is a browser that a person is signed in with. That there is one is
// the proof; no flag says "second factor done".
type Session struct {
	ID        string // also the sid of ID tokens
	UserID    string
	Email     string
	Name      string
	Method    Method
	AuthTime  time.Time // of the last full authentication
	AMR       []string
	ACR       string
	CreatedAt time.Time
	SeenAt    time.Time
}

// ErrNoSession means that a token opens no session: it is nobody's, or its
// session has ended, expired or been idle too long, or its person is disabled.
var ErrNoSession = errors.New("no session")

// seenEvery is how often the time of a session's last use is written down.
const seenEvery = time.Minute

// Session returns the live session of a token, or ErrNoSession. It is one read,
// and at most once a minute one write.
func (s *Store) Session(ctx context.Context, token string) (*Session, error) {
	if !secret.IsToken(token, "hse_") {
		return nil, ErrNoSession
	}
	now := time.Now()
	var (
		in                      Session
		authTime, created, seen int64
		amr, method             string
	)
	err := s.db.QueryRow(ctx, `
		SELECT s.id, s.user_id, u.email, u.name, u.method, s.auth_time, s.amr, s.acr, s.created_at, s.seen_at
		FROM sessions s JOIN users u ON u.id = s.user_id
		WHERE s.token_hash = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND s.seen_at > $3 AND u.disabled_at IS NULL`,
		secret.Hash(token), db.Micros(now), db.Micros(now.Add(-s.cfg.SessionIdle))).
		Scan(&in.ID, &in.UserID, &in.Email, &in.Name, &method, &authTime, &amr, &in.ACR, &created, &seen)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoSession
	}
	if err != nil {
		return nil, fmt.Errorf("reading a session: %w", err)
	}
	in.Method, in.AMR = Method(method), strings.Fields(amr)
	in.AuthTime, in.CreatedAt, in.SeenAt = db.Time(authTime), db.Time(created), db.Time(seen)
	if now.Sub(in.SeenAt) >= seenEvery {
		if _, err := s.db.Exec(db.Soft(ctx), `UPDATE sessions SET seen_at = $1 WHERE id = $2 AND ended_at IS NULL`, db.Micros(now), in.ID); err != nil {
			return nil, fmt.Errorf("noting a session's use: %w", err)
		}
	}
	return &in, nil
}

// EndSession ends the session of a token, and with it every code and token it
// led to, in one statement: whatever reads a grant joins a session that has not
// ended. It ends one that was idle too long as well, for its grants live on.
// With only, it ends that session and no other. It reports whether it ended one:
// ending twice, or what never was, changes nothing.
func (s *Store) EndSession(ctx context.Context, token, only string, by Actor, d Device) (ended bool, err error) {
	if !secret.IsToken(token, "hse_") {
		return false, nil
	}
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		e := Event{Kind: "signed_out", Actor: by, Device: d}
		err := tx.Returning(ctx, `
			UPDATE sessions SET ended_at = $1, ended_by = $2
			WHERE token_hash = $3 AND ended_at IS NULL AND (CAST($4 AS TEXT) = '' OR id = $4) RETURNING id, user_id`,
			[]any{db.Micros(time.Now()), by.String(), secret.Hash(token), only}, &e.SessionID, &e.UserID)
		if ended = err == nil; ended {
			return Record(ctx, tx, e)
		}
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("ending a session: %w", err)
	}
	return ended, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") { // which the decoder would skip
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) > 0
}
