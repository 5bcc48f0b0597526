package crowd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/harmony/id/db"
)

// A table is rows that are to be written to it.
type table struct {
	name    string
	columns []string
	rows    [][]any
}

func (t *table) add(row ...any) { t.rows = append(t.rows, row) }

// A sink writes tables, all or none, one after the other.
type sink interface {
	write(ctx context.Context, tables []*table) error
	close()
}

// A copySink writes to PostgreSQL as pg_restore does: no statement is parsed for a row.
type copySink struct{ conn *pgx.Conn }

func openCopy(ctx context.Context, url string) (sink, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	return copySink{conn}, nil
}

func (s copySink) write(ctx context.Context, tables []*table) error {
	tx, err := s.conn.Begin(ctx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", t.name, err), tx.Rollback(ctx))
		}
	}
	return tx.Commit(ctx)
}

func (s copySink) close() { _ = s.conn.Close(context.Background()) } // what it wrote is committed

// A sqliteSink writes through the product's one writer.
type sqliteSink struct{ db *db.DB }

func (s sqliteSink) write(ctx context.Context, tables []*table) error {
	return s.db.Tx(db.Soft(ctx), func(tx *db.Tx) error {
		for _, t := range tables {
			places := make([]string, len(t.columns))
			for i := range places {
				places[i] = fmt.Sprintf("$%d", i+1)
			}
			text := `INSERT INTO ` + t.name + ` (` + strings.Join(t.columns, ", ") + `) VALUES (` + strings.Join(places, ", ") + `)`
			for _, row := range t.rows {
				if _, err := tx.Exec(ctx, text, row...); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
			}
		}
		return nil
	})
}

func (sqliteSink) close() {}
