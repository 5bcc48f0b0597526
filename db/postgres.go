package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	d.pool = stdlib.OpenDB(*cfg)
	d.pool.SetMaxOpenConns(maxConns)
	d.pool.SetMaxIdleConns(maxConns)
	d.pool.SetConnMaxIdleTime(5 * time.Minute)
	d.pool.SetConnMaxLifetime(time.Hour) // so that a new address in the DNS is noticed
	if err := d.pool.PingContext(ctx); err != nil {
		return errors.Join(err, d.pool.Close())
	}
	return nil
}

func (d *DB) postgresTx(ctx context.Context, fn func(*Tx) error) error {
	// Lock relies on each statement's seeing what was committed before it.
	tx, err := d.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	t := &Tx{via: tx, observe: d.observe}
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	t.end()
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// retry runs fn again, a few times and each time after a longer moment, when
// PostgreSQL undid it only because another transaction was in its way.
func retry(ctx context.Context, fn func() error) error {
	for i := 0; ; i++ {
		err := fn()
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "40001" && e.Code != "40P01" || i == 5 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond << i):
		}
	}
}
