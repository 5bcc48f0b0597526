package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// Snapshot runs fn in a transaction that reads: all that fn reads is as it was
// at one moment, however long fn takes, and no writer waits for it. fn must not
// write. On SQLite the write-ahead log grows until fn returns.
func (d *DB) Snapshot(ctx context.Context, fn func(tx *Tx) error) error {
	if d.writer == nil {
		tx, err := d.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // nothing was written
		t := &Tx{via: tx, observe: d.observe}
		defer t.end()
		return fn(t)
	}
	conn, err := d.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	t := &Tx{via: conn, observe: d.observe, local: true}
	defer func() {
		t.end()
		if _, err := conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // it does not go back to the others
		}
	}()
	return fn(t)
}

// A Table is a table of the database as it is, not as the migrations say.
type Table struct {
	Name    string
	Columns []Column
}

// A Column is a column of a table.
type Column struct {
	Name    string
	Type    string // "TEXT", "BIGINT" or "BYTEA"
	NotNull bool
}

// Tables lists the tables of the database in the order of their names, and
// their columns in that in which they were made. The ledger of migrations is
// among them.
func (t *Tx) Tables(ctx context.Context) ([]Table, error) {
	text := `
		SELECT t.name, c.name, c.type, c."notnull" FROM sqlite_schema t JOIN pragma_table_info(t.name) c
		WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY t.name, c.cid`
	if !t.local {
		text = `
			SELECT c.table_name, c.column_name, c.data_type, CASE c.is_nullable WHEN 'NO' THEN 1 ELSE 0 END
			FROM information_schema.columns c JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
			WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' ORDER BY c.table_name, c.ordinal_position`
	}
	rows, err := t.Query(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	defer rows.Close()
	var tables []Table
	for rows.Next() {
		var table string
		var c Column
		var notNull int64
		if err := rows.Scan(&table, &c.Name, &c.Type, &notNull); err != nil {
			return nil, fmt.Errorf("reading the schema: %w", err)
		}
		c.Type, c.NotNull = strings.ToUpper(c.Type), notNull == 1
		if n := len(tables); n == 0 || tables[n-1].Name != table {
			tables = append(tables, Table{Name: table})
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, c)
	}
	return tables, rows.Err()
}

// A SchemaError refuses to fill a database whose schema is further than that of
// what is to be put into it.
type SchemaError struct {
	Has, Wanted int // the last step that it took, and the one that was asked for
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the database's schema is at step %d, and this is of step %d", e.Has, e.Wanted)
}

// Fill fills a database with rows of the schema as it was after the step of
// this number, in one transaction: it takes the steps up to there that the
// database has not taken, calls fill, takes the rest of the steps, and calls
// after. If either fails, the database is as before. It is not tried again when
// PostgreSQL undoes it. Errors: *SchemaError, ErrNewerSchema for a step that
// the program does not know.
func (d *DB) Fill(ctx context.Context, step int, fill, after func(tx *Tx) error) error {
	steps, err := d.Migrations(ctx)
	if err != nil {
		return err
	}
	known := false
	for _, m := range steps {
		known = known || m.ID == step
		if m.ID > step && !m.AppliedAt.IsZero() {
			return &SchemaError{Has: lastApplied(steps), Wanted: step}
		}
	}
	if !known {
		return fmt.Errorf("%w: it is of step %d of the schema, the last that the program knows is %d", ErrNewerSchema, step, steps[len(steps)-1].ID)
	}
	if err := d.makeLedger(ctx); err != nil {
		return fmt.Errorf("making the ledger of migrations: %w", err)
	}
	tried := false
	return d.Tx(ctx, func(tx *Tx) error {
		if tried {
			return errors.New("somebody else was writing to the database")
		}
		tried = true
		rest := steps
		for ; len(rest) > 0 && rest[0].ID <= step; rest = rest[1:] {
			if _, err := tx.take(ctx, rest[0]); err != nil {
				return err
			}
		}
		if err := fill(tx); err != nil {
			return err
		}
		for _, m := range rest {
			if _, err := tx.take(ctx, m); err != nil {
				return err
			}
		}
		return after(tx)
	})
}

func lastApplied(steps []Migration) (id int) {
	for _, m := range steps {
		if !m.AppliedAt.IsZero() {
			id = m.ID
		}
	}
	return id
}
