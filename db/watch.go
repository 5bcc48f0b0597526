package db

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"
)

// Stats are those of the connections that are waited for: all of PostgreSQL's,
// SQLite's readers.
func (d *DB) Stats() sql.DBStats { return d.pool.Stats() }

// roomWanted is how much Writes writes: more than is left over in pages that are
// there already, which a small row would fit into when the disk is full.
const roomWanted = 64 << 10

// Writes says why the database does not take writes. A database that takes them costs
// nothing to ask, for it is written to only once one has failed (Unavailable), until
// one succeeds: a row that is gone at the end of its transaction.
func (d *DB) Writes(ctx context.Context) error {
	if !d.failed.Load() {
		return nil
	}
	filler := make([]byte, roomWanted/2)
	_, _ = rand.Read(filler) // never fails; PostgreSQL would make little of 64 KiB that repeat
	err := d.Tx(ctx, func(tx *Tx) error {
		// Of the ledger, which is this package's. No step has the number 0.
		if _, err := tx.Exec(ctx, `INSERT INTO migrations (id, name, checksum, applied_at) VALUES (0, '', $1, 0)`, hex.EncodeToString(filler)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM migrations WHERE id = 0`)
		return err
	})
	if err != nil {
		return fmt.Errorf("the database takes no writes: %w", err)
	}
	d.failed.Store(false)
	return nil
}

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
