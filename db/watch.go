package db

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Stats are those of the connections that are waited for: all of PostgreSQL's,
// SQLite's readers.
func (d *DB) Stats() sql.DBStats { return d.pool.Stats() }

// ClockOffset is how far the database server's clock is ahead of this machine's,
// give or take the time that the question took. SQLite has no clock but the
// machine's.
func (d *DB) ClockOffset(ctx context.Context) (time.Duration, error) {
	if d.writer != nil {
		return 0, nil
	}
	var there int64
	asked := time.Now()
	if err := d.QueryRow(ctx, `SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)`).Scan(&there); err != nil {
		return 0, fmt.Errorf("reading the database's clock: %w", err)
	}
	took := time.Since(asked)
	return time.UnixMicro(there).Sub(asked.Add(took / 2)), nil
}
