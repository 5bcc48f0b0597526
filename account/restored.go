package account

import (
	"context"
	"time"

	"github.com/harmony/id/db"
)

// Restored belongs into the transaction that restores a database from a backup:
// what happened since the backup is unknown to it, so every session ends, codes of
// authenticator apps up to now count as used, and a reset that was asked for is
// not mailed any more. What else works once is in no backup. After a drill nobody is
// told of anything. It returns how many sessions ended.
func Restored(ctx context.Context, tx *db.Tx, now time.Time, drill bool, by Actor) (ended int, err error) {
	n, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = $1, ended_by = $2 WHERE ended_at IS NULL AND expires_at > $1`, db.Micros(now), by.String())
	if err != nil {
		return 0, err
	}
	// A clock that is ahead may have used the next one, too.
	if _, err := tx.Exec(ctx, `UPDATE totp SET last_step = $1 WHERE last_step < $1`, stepAt(now)+totpSkew); err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `UPDATE events SET due_at = NULL WHERE due_at IS NOT NULL AND (kind = $1 OR $2 = 1)`, EventResetRequested, flag(drill))
	return int(n), err
}
