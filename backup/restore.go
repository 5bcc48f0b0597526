package backup

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// Restore fills an empty database from a backup in one transaction: all of it is
// there in the end, or nothing. The database is brought to the schema of the backup
// first and to the program's after that. after runs in the same transaction, with
// the moment that the rows are of. With a ring that lacks a key, or does not open
// what the key sealed, nothing is restored. Errors: those of Verify and of
// db.DB.Fill, ErrNotEmpty. ErrNewer is also that the program lacks steps of its schema.
func Restore(ctx context.Context, d *db.DB, r io.Reader, sealed []secret.Column, identities []age.Identity, ring *secret.Ring,
	after func(tx *db.Tx, made time.Time) error,
) (s *Summary, err error) {
	in, err := open(r, identities)
	if err != nil {
		return nil, err
	}
	steps, err := d.Migrations(ctx)
	if err != nil {
		return nil, err
	}
	switch i := slices.IndexFunc(steps, func(m db.Migration) bool { return m.ID == in.Schema }); {
	case i < 0:
		return nil, fmt.Errorf("%w (step %d of the schema, this one knows %d)", ErrNewer, in.Schema, steps[len(steps)-1].ID)
	case steps[i].Name != in.Step:
		return nil, fmt.Errorf("step %d of the schema is %s in the backup and %s in this program", in.Schema, in.Step, steps[i].Name)
	}
	err = d.Fill(ctx, in.Schema, func(tx *db.Tx) error {
		f := &filler{ctx: ctx, tx: tx, sealed: sealed, ring: ring}
		if f.tables, err = tx.Tables(ctx); err != nil {
			return err
		}
		if err := f.empty(); err != nil {
			return err
		}
		if s, err = in.read(ctx, sealed, visitor{table: f.table, row: f.row}); err != nil {
			return err
		}
		if err := f.flush(); err != nil {
			return err
		}
		s.Opened = f.opened
		return s.missing(ring)
	}, func(tx *db.Tx) error { return after(tx, in.At) })
	if err != nil {
		return nil, err
	}
	return s, nil
}

// A filler writes the rows of a stream, several with a statement.
type filler struct {
	ctx    context.Context
	tx     *db.Tx
	tables []db.Table
	sealed []secret.Column
	ring   *secret.Ring

	insert  string // up to VALUES
	columns int
	open    opener
	opened  int64
	args    []any
	bytes   int
}

// How many rows go into one statement at the most, and about how many bytes. The
// engines take 32766 values.
const (
	rowsAtOnce  = 100
	bytesAtOnce = 1 << 20
)

// empty refuses a database that has rows.
func (f *filler) empty() error {
	for _, t := range f.tables {
		if t.Name == "migrations" {
			continue
		}
		var some int64
		if err := f.tx.QueryRow(f.ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM `+t.Name+` LIMIT 1) AS one`).Scan(&some); err != nil {
			return err
		}
		if some > 0 {
			return fmt.Errorf("%w (table %s)", ErrNotEmpty, t.Name)
		}
	}
	return nil
}

func (f *filler) table(name string, columns []db.Column) error {
	if err := f.flush(); err != nil {
		return err
	}
	i := slices.IndexFunc(f.tables, func(t db.Table) bool { return t.Name == name })
	if i < 0 {
		return damaged(fmt.Errorf("there is no table %s at its step of the schema", name))
	}
	names := make([]string, 0, len(columns))
	for _, c := range columns {
		if !slices.ContainsFunc(f.tables[i].Columns, func(has db.Column) bool { return has.Name == c.Name && has.Type == c.Type }) {
			return damaged(fmt.Errorf("there is no column %s %s at its step of the schema", c.Name, c.Type))
		}
		names = append(names, c.Name)
	}
	f.insert, f.columns = `INSERT INTO `+name+` (`+strings.Join(names, ", ")+`) VALUES `, len(columns)
	f.open = newOpener(name, columns, f.sealed, f.ring)
	return nil
}

func (f *filler) row(row []any) error {
	n, err := f.open.row(row)
	if f.opened += n; err != nil {
		return err
	}
	f.args = append(f.args, row...)
	for _, v := range row {
		switch v := v.(type) {
		case string:
			f.bytes += len(v)
		case []byte:
			f.bytes += len(v)
		}
	}
	if len(f.args) >= rowsAtOnce*f.columns || f.bytes >= bytesAtOnce {
		return f.flush()
	}
	return nil
}

func (f *filler) flush() error {
	if len(f.args) == 0 {
		return nil
	}
	var text strings.Builder
	text.WriteString(f.insert)
	for i := range f.args {
		switch {
		case i == 0:
			text.WriteString("(")
		case i%f.columns == 0:
			text.WriteString("), (")
		default:
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "$%d", i+1)
	}
	text.WriteString(")")
	_, err := f.tx.Exec(f.ctx, text.String(), f.args...)
	clear(f.args)
	f.args, f.bytes = f.args[:0], 0
	return err
}
