package idp

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/harmony/id/db"
)

// A Watch is told what a Server and its Tellers do, for the operator's metrics, and
// never for whom. A function that is nil is told nothing. They must not wait.
type Watch struct {
	// Token is told of each answer with tokens: "authorization_code", "refresh_token"
	// or "client_credentials".
	Token func(grant string)
	// CodeReused is told of each code that was used again, whose grant has ended (RFC
	// 9700 2.1.1).
	CodeReused func()
	// RefreshReused is told of each refresh token that was used after it was given up,
	// whose grant has ended (RFC 9700 4.14.2).
	RefreshReused func()
	// Told is told what became of each attempt to tell a workspace that a session
	// ended: "confirmed", "delayed" or "given_up".
	Told func(result string)
}

func (w Watch) complete() Watch {
	if w.Token == nil {
		w.Token = func(string) {}
	}
	if w.CodeReused == nil {
		w.CodeReused = func() {}
	}
	if w.RefreshReused == nil {
		w.RefreshReused = func() {}
	}
	if w.Told == nil {
		w.Told = func(string) {}
	}
	return w
}

// untriedFor bounds how far back OldestNotice looks for ends of sessions that no
// teller has tried to tell. What was tried is found however old it is.
const untriedFor = 10 * time.Minute

// OldestNotice is when the session ended that workspaces wait longest to be told of,
// the zero time if they know of all.
func OldestNotice(ctx context.Context, d *db.DB) (time.Time, error) {
	now := time.Now()
	var at sql.NullInt64
	err := d.QueryRow(ctx, `
		SELECT MIN(COALESCE(o.ended_at, o.expires_at))
		FROM grants g JOIN sessions o ON o.id = g.session_id JOIN clients c ON c.id = g.client_id
		WHERE g.session_id IN (
			SELECT id FROM sessions WHERE ended_at > $1
			UNION ALL SELECT id FROM sessions WHERE expires_at > $1 AND expires_at <= $2 AND ended_at IS NULL
			UNION ALL SELECT session_id FROM grants WHERE tell_at IS NOT NULL
		) AND g.redeemed_at IS NOT NULL AND g.told_at IS NULL AND c.backchannel_logout_uri <> '' AND c.disabled_at IS NULL`,
		db.Micros(now.Add(-untriedFor)), db.Micros(now)).Scan(&at)
	if err != nil {
		return time.Time{}, fmt.Errorf("looking for the oldest notice: %w", err)
	}
	if !at.Valid {
		return time.Time{}, nil
	}
	return db.Time(at.Int64), nil
}
