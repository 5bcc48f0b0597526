package idp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
)

// settingRestored is when the database was restored, Unix microseconds.
const settingRestored = "restored_at"

// Restored belongs into the transaction that restores a database from a backup that
// was made at made, after account.Restored, which ends the sessions: nothing that a
// client could use once is taken again, and the clients that are to be told when
// a session ends are told of those that ended with the restore. After a drill nobody
// is told.
func Restored(ctx context.Context, tx *db.Tx, made, now time.Time, drill bool, by string) error {
	if drill {
		if _, err := tx.Exec(ctx, `UPDATE grants SET tell_at = NULL, told_at = $1, tell_result = 'drill' WHERE told_at IS NULL`, db.Micros(now)); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		settingRestored, strconv.FormatInt(db.Micros(now), 10)); err != nil {
		return err
	}
	e := account.Event{Kind: "database_restored", Actor: operator(by), Detail: account.Detail{Other: "the backup of " + made.UTC().Format(time.RFC3339)}}
	if err := account.Record(ctx, tx, e); err != nil {
		return err
	}
	return bump(ctx, tx)
}

func restoredAt(ctx context.Context, d *db.DB) (time.Time, error) {
	value, err := setting(ctx, d, settingRestored)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("reading when the database was restored: %w", err)
	}
	us, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("when the database was restored: %w", err)
	}
	return db.Time(us), nil
}
