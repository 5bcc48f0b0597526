package idp

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/harmony/id/db"
)

// A Waiting is that a client is still to be told of the end of a session.
type Waiting struct {
	ClientID, SessionID, UserID string
	Since                       time.Time // when the session ended
	Tries                       int
	Next                        time.Time // when it is tried, or, being tried, free for another to try; zero: at once
	Failed                      string    // why the last attempt failed; "": it was not tried, or is being tried
}

// WaitingLogouts returns up to most clients that are still to be told of the end of
// a session, those that wait for the longest first.
func WaitingLogouts(ctx context.Context, d *db.DB, most int) ([]Waiting, error) {
	now := time.Now()
	rows, err := d.Query(ctx, `
		SELECT g.client_id, g.session_id, MIN(g.user_id), MIN(COALESCE(s.ended_at, s.expires_at)) AS since, MAX(g.tell_tries), MIN(g.tell_at), MAX(g.tell_result)
		FROM grants g JOIN sessions s ON s.id = g.session_id JOIN clients c ON c.id = g.client_id
		WHERE g.session_id IN (
			SELECT id FROM sessions WHERE ended_at > $1
			UNION ALL SELECT id FROM sessions WHERE expires_at > $1 AND expires_at <= $2 AND ended_at IS NULL
		) AND g.redeemed_at IS NOT NULL AND g.told_at IS NULL AND c.backchannel_logout_uri <> '' AND c.disabled_at IS NULL
		GROUP BY g.client_id, g.session_id ORDER BY since, g.client_id, g.session_id LIMIT $3`,
		db.Micros(now.Add(-tellPatience)), db.Micros(now), most)
	if err != nil {
		return nil, fmt.Errorf("listing clients to tell: %w", err)
	}
	defer rows.Close()
	var out []Waiting
	for rows.Next() {
		var w Waiting
		var since int64
		var next sql.NullInt64
		if err := rows.Scan(&w.ClientID, &w.SessionID, &w.UserID, &since, &w.Tries, &next, &w.Failed); err != nil {
			return nil, fmt.Errorf("listing clients to tell: %w", err)
		}
		w.Since = db.Time(since)
		if next.Valid {
			w.Next = db.Time(next.Int64)
		}
		out = append(out, w)
	}
	return out, rows.Err()
}

// RetryLogouts has clients told now for whom the last attempt failed, and returns for how
// many ends of sessions. One that is being told stays as it is.
func RetryLogouts(ctx context.Context, d *db.DB) (n int, err error) {
	now := db.Micros(time.Now())
	err = d.Tx(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, `
			SELECT COUNT(*) FROM (SELECT 1 FROM grants WHERE tell_at > $1 AND told_at IS NULL AND tell_result <> '' GROUP BY client_id, session_id) AS waiting`, now).Scan(&n)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE grants SET tell_at = $1 WHERE tell_at > $1 AND told_at IS NULL AND tell_result <> ''`, now)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("having clients told again: %w", err)
	}
	return n, nil
}
