package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// maxConns is how many connections one process keeps to PostgreSQL, which
// allows 100 unless told otherwise: enough for four replicas and the operator.
const maxConns = 20

func (d *DB) openPostgres(ctx context.Context, url string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return err // without the password: pgconn sees to that
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "harmony-id"
	}
	d.engine = "postgres"
	d.pool = stdlib.OpenDB(*cfg, stdlib.OptionResetSession(stillThere))
	d.pool.SetMaxOpenConns(maxConns)
	d.pool.SetMaxIdleConns(maxConns)
	d.pool.SetConnMaxIdleTime(5 * time.Minute)
	d.pool.SetConnMaxLifetime(time.Hour) // so that a new address in the DNS is noticed
	if err := d.pool.PingContext(ctx); err != nil {
		return errors.Join(err, d.pool.Close())
	}
	return nil
}

// postgresTx is one attempt at a Tx. undone reports that a failed one has certainly
// left nothing: it did not come to the commit.
func (d *DB) postgresTx(ctx context.Context, fn func(*Tx) error) (undone bool, err error) {
	// Lock relies on each statement's seeing what was committed before it.
	tx, err := d.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return true, err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	t := &Tx{via: tx, observe: d.observe}
	defer t.end()
	if err := fn(t); err != nil {
		return true, err
	}
	t.end()
	if err := tx.Commit(); err != nil {
		return false, fmt.Errorf("committing: %w", err)
	}
	return false, nil
}

// patience is how long a request waits for a connection to come back: the restart of
// a server goes unnoticed, its loss is told soon.
const patience = time.Second

// retry runs fn again, each time after a longer moment, when what failed has certainly
// not been done and may go well: PostgreSQL undid it because another transaction was in
// its way, or there is no connection, or it broke and fn reports that it undid all. Of a
// statement by itself, and of a commit, that were sent nobody knows; they are not repeated.
func retry(ctx context.Context, fn func() (undone bool, err error)) error {
	began := time.Now()
	for i := 0; ; i++ {
		undone, err := fn()
		switch {
		case err == nil:
			return nil
		case inTheWay(err):
			if i >= 5 {
				return err
			}
		case !unsent(err) && (!undone || !lost(err)), time.Since(began) >= patience:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond << min(i, 6)):
		}
	}
}

// reading is retry for what has no effect.
func reading[T any](ctx context.Context, fn func() (T, error)) (got T, err error) {
	err = retry(ctx, func() (_ bool, err error) {
		got, err = fn()
		return true, err
	})
	return got, err
}

// stillThere is asked before a connection that was idle is used again. One that the
// server has closed, or has said its last word on, is not: found out later, by a
// statement that was sent, nobody would know whether it was done.
func stillThere(_ context.Context, c *pgx.Conn) error {
	if spoken(c.PgConn().Conn()) {
		return driver.ErrBadConn // database/sql takes another
	}
	return nil
}
