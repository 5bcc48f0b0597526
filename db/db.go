// Package db is the way to the rows: one SQL text for SQLite and PostgreSQL,
// each written as that engine likes it best.
//
// SQLite has one writer. Writes that wait for it are taken together and share
// a commit, and so the wait for the disk; each is answered only when the
// commit is durable. Reads go to other connections, which refuse to write.
// PostgreSQL has a pool of connections and does all of this itself.
//
// The statements must mean the same to both engines: numbered parameters,
// TEXT, BIGINT and BYTEA, times as Unix microseconds, no deferred constraints,
// no RAISE(ROLLBACK) and no ON CONFLICT ROLLBACK.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harmony/id/migrations"
)

// ErrClosed answers a write that came after Close.
var ErrClosed = errors.New("the database is closed")

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	engine  string
	pool    *sql.DB // SQLite: the readers
	writer  *writer // SQLite only
	files   fs.FS   // the migrations
	observe func(ctx context.Context, query string)
	failed  atomic.Bool // a write did, for a reason that may last

	closing  sync.Once
	closeErr error
}

// An Option changes how Open opens a database.
type Option func(*DB)

// Observe has fn called once for each statement that the methods of DB and Tx
// send, on the goroutine that sends it. BEGIN, COMMIT and SAVEPOINT do not
// count. A transaction that is tried again counts again.
func Observe(fn func(ctx context.Context, query string)) Option {
	return func(d *DB) {
		if before := d.observe; before != nil {
			d.observe = func(ctx context.Context, query string) { before(ctx, query); fn(ctx, query) }
			return
		}
		d.observe = fn
	}
}

// Open opens the database at url, "sqlite:path/to/file.db" or "postgres://…",
// and sees that it answers. A SQLite file that does not exist is made, for its
// owner's eyes only; its directory must exist. Open does not migrate.
func Open(ctx context.Context, url string, opts ...Option) (*DB, error) {
	d := &DB{files: migrations.FS}
	for _, opt := range opts {
		opt(d)
	}
	scheme, rest, _ := strings.Cut(url, ":")
	var err error
	switch scheme {
	case "sqlite":
		err = d.openSQLite(ctx, rest)
	case "postgres", "postgresql":
		err = d.openPostgres(ctx, url)
	default:
		return nil, errors.New(`a database URL begins with "sqlite:" or "postgres://"`)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	return d, nil
}

// Close waits for the writes that have begun or are waiting, each of which
// gets its answer, and closes the database. Later writes get ErrClosed.
func (d *DB) Close() error {
	d.closing.Do(func() {
		d.closeErr = d.pool.Close()
		if d.writer != nil { // after the readers: the last to leave tidies the write-ahead log away
			d.closeErr = errors.Join(d.closeErr, d.writer.close())
		}
	})
	return d.closeErr
}

// Engine names the engine: "sqlite" or "postgres".
func (d *DB) Engine() string { return d.engine }

// QueryRow reads at most one row. On PostgreSQL it must not write either: it is
// tried again when the connection breaks.
func (d *DB) QueryRow(ctx context.Context, query string, args ...any) (row *sql.Row) {
	d.observed(ctx, query)
	if d.writer != nil {
		return d.pool.QueryRowContext(d.unwatched(ctx), query, args...)
	}
	_ = retry(ctx, func() (bool, error) { // the row has the error
		row = d.pool.QueryRowContext(ctx, query, args...)
		return true, row.Err()
	})
	return row
}

// Query reads rows, as QueryRow does. Close them before the next read where you can:
// each open Rows keeps a connection.
func (d *DB) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	d.observed(ctx, query)
	if d.writer != nil {
		return d.pool.QueryContext(d.unwatched(ctx), query, args...)
	}
	return reading(ctx, func() (*sql.Rows, error) { return d.pool.QueryContext(ctx, query, args...) })
}

// Exec runs one statement that writes and says how many rows it changed. The
// write is durable when Exec returns without an error; after an error it has
// not happened, unless the error says that the connection or the commit
// itself failed. It is tried again as long as that is certain.
func (d *DB) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	d.observed(ctx, query)
	if d.writer != nil {
		j := job{ctx: ctx, soft: isSoft(ctx), query: query, args: args}
		err := d.noted(d.writer.do(&j))
		return j.n, err
	}
	var n int64
	err := retry(ctx, func() (_ bool, err error) {
		n, err = exec(ctx, d.pool, query, args)
		return false, err
	})
	return n, d.noted(err)
}

// Returning runs one statement that writes and has a RETURNING clause, and
// scans the row that it yields into dest: sql.ErrNoRows if there is none, the
// first if there are several. It is as durable as Exec.
func (d *DB) Returning(ctx context.Context, query string, args []any, dest ...any) error {
	d.observed(ctx, query)
	if d.writer != nil {
		j := job{ctx: ctx, soft: isSoft(ctx), query: query, args: args, dest: dest, returning: true}
		return d.noted(d.writer.do(&j))
	}
	return d.noted(retry(ctx, func() (bool, error) { return false, returning(ctx, d.pool, query, args, dest) }))
}

// Tx runs fn in a transaction: everything that fn does through tx happens, or
// nothing. If fn returns an error, nothing does and Tx returns that error as
// it is.
//
// fn may run again when PostgreSQL finds that two transactions were in each
// other's way or the connection breaks before the commit, so it must have no effect
// but its SQL. A commit that breaks off is not repeated: it may have been done. On SQLite it holds up
// every other writer, so it must wait for nothing, and least of all for a
// write through the DB itself, which would wait for fn.
func (d *DB) Tx(ctx context.Context, fn func(tx *Tx) error) error {
	if d.writer != nil {
		j := job{ctx: ctx, soft: isSoft(ctx), fn: fn, observe: d.observe}
		return d.noted(d.writer.do(&j))
	}
	return d.noted(retry(ctx, func() (bool, error) { return d.postgresTx(ctx, fn) }))
}

// noted is err, of a write. Writes asks the database if it says that others may fail.
func (d *DB) noted(err error) error {
	if Unavailable(err) {
		d.failed.Store(true)
	}
	return err
}

func (d *DB) observed(ctx context.Context, query string) {
	if d.observe != nil {
		d.observe(ctx, query)
	}
}

// unwatched is ctx, or what database/sql need not start a goroutine for. A
// read of SQLite ends by itself in microseconds.
func (d *DB) unwatched(ctx context.Context) context.Context {
	if d.writer != nil && ctx.Err() == nil {
		return context.Background()
	}
	return ctx
}

type softKey struct{}

// Soft marks the writes made with the context as ones whose loss in a power
// cut does no harm: a "last seen", a counter that only slows a thief down. A
// crash of the process never loses them. SQLite answers them without waiting
// for the disk, unless they share a commit with a write that is not soft.
func Soft(ctx context.Context) context.Context {
	return context.WithValue(ctx, softKey{}, true)
}

func isSoft(ctx context.Context) bool { return ctx.Value(softKey{}) != nil }

// Micros is t as the rows keep it, Unix microseconds.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time is the time that a row keeps as us, in UTC.
func Time(us int64) time.Time { return time.UnixMicro(us).UTC() }
