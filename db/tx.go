package db

import (
	"context"
	"database/sql"
)

// A Tx is a transaction, good until the function that DB.Tx calls with it
// returns, and for that function's goroutine only.
type Tx struct {
	via     statements
	rows    []*sql.Rows
	observe func(ctx context.Context, query string)
	over    bool
	local   bool // SQLite: no statement waits for anything that a context could call off
}

// statements is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type statements interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Exec runs one statement and says how many rows it changed. After an error
// PostgreSQL refuses everything else in the transaction: let it fail, or say
// ON CONFLICT.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := t.ready(ctx, query); err != nil {
		return 0, err
	}
	return exec(t.unwatched(ctx), t.via, query, args)
}

// Returning runs one statement with a RETURNING clause, as DB.Returning does.
func (t *Tx) Returning(ctx context.Context, query string, args []any, dest ...any) error {
	if err := t.ready(ctx, query); err != nil {
		return err
	}
	return returning(t.unwatched(ctx), t.via, query, args, dest)
}

// Lock makes t and every other transaction that locks the same row of table run
// one after the other; what t reads from now on is what the one before it left.
// SQLite's transactions always do: there it does nothing. A row that does not
// exist locks nothing.
func (t *Tx) Lock(ctx context.Context, table, id string) error {
	if t.local {
		return ctx.Err()
	}
	// NO KEY: rows that refer to it may still be written.
	_, err := t.Exec(ctx, `SELECT 1 FROM `+table+` WHERE id = $1 FOR NO KEY UPDATE`, id)
	return err
}

// QueryRow reads at most one row. Scan it: an unread row keeps its connection.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	if err := t.ready(ctx, query); err != nil { // a row that says so when it is scanned
		gone, cancel := context.WithCancel(ctx)
		cancel()
		return t.via.QueryRowContext(gone, query, args...)
	}
	return t.via.QueryRowContext(t.unwatched(ctx), query, args...)
}

// Query reads rows. Those still open at the end of the transaction are closed.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := t.ready(ctx, query); err != nil {
		return nil, err
	}
	rows, err := t.via.QueryContext(t.unwatched(ctx), query, args...)
	if err == nil {
		t.rows = append(t.rows, rows)
	}
	return rows, err
}

func (t *Tx) ready(ctx context.Context, query string) error {
	if t.over {
		return sql.ErrTxDone
	}
	if t.observe != nil {
		t.observe(ctx, query)
	}
	return ctx.Err()
}

// unwatched is ctx, or what database/sql need not start a goroutine for.
func (t *Tx) unwatched(ctx context.Context) context.Context {
	if t.local {
		return context.Background()
	}
	return ctx
}

// end makes t useless and closes what it left open.
func (t *Tx) end() {
	t.over = true
	for _, rows := range t.rows {
		_ = rows.Close() // read errors are the reader's, who stopped reading
	}
}

func exec(ctx context.Context, via statements, query string, args []any) (int64, error) {
	res, err := via.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, conflict(err)
	}
	return res.RowsAffected()
}

func returning(ctx context.Context, via statements, query string, args, dest []any) error {
	return conflict(via.QueryRowContext(ctx, query, args...).Scan(dest...))
}
