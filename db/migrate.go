package db

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNewerSchema says that the database was migrated by a newer program than
// this one, and lacks or needs something of which this one knows nothing.
var ErrNewerSchema = errors.New("the database has a newer schema than this program")

// A Migration is a step of the schema.
type Migration struct {
	ID        int
	Name      string    // "0001_house"
	AppliedAt time.Time // zero: pending
	Later     bool      // a newer program's: this one does not know it, and works beside it

	text     string
	checksum string
}

// A step only adds, so that programs that do not know it go on beside it. One that
// takes something away, or changes what something means, ends its name in -needs- and
// the number of the step that a program has to know to go on beside it.
var needing = regexp.MustCompile(`-needs-([0-9]{4})$`)

// needs is the number of that step; 0: any program will do.
func (m Migration) needs() int {
	found := needing.FindStringSubmatch(m.Name)
	if found == nil {
		return 0
	}
	id, _ := strconv.Atoi(found[1]) // four digits
	return id
}

// Migrations lists the steps that this program knows, in order, and when the
// database took them, and then those that a newer program took. It is an error if one
// of these says that it needs a newer program (ErrNewerSchema), or if one that the
// program knows reads differently now.
func (d *DB) Migrations(ctx context.Context) ([]Migration, error) {
	steps, err := readSteps(d.files)
	if err != nil {
		return nil, err
	}
	rows, err := d.Query(ctx, `SELECT id, name, checksum, applied_at FROM migrations ORDER BY id`)
	if missingTable(err) {
		return steps, nil
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	known := len(steps)
	last := 0
	if known > 0 {
		last = steps[known-1].ID
	}
	for rows.Next() {
		var m Migration
		var at int64
		if err := rows.Scan(&m.ID, &m.Name, &m.checksum, &at); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(steps[:known], func(s Migration) bool { return s.ID == m.ID })
		if i < 0 && (m.ID < last || m.needs() > last) {
			return nil, fmt.Errorf("%w: it holds migration %s", ErrNewerSchema, m.Name)
		}
		if i < 0 {
			m.AppliedAt, m.Later = Time(at), true
			steps = append(steps, m)
			continue
		}
		if steps[i].checksum != m.checksum {
			return nil, fmt.Errorf("migration %s was changed after the database took it: restore the file and add another", m.Name)
		}
		steps[i].AppliedAt = Time(at)
	}
	// A statement that PostgreSQL prepares may fail only now.
	if err := rows.Err(); missingTable(err) {
		return steps, nil
	} else if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(steps, func(m Migration) bool { return m.AppliedAt.IsZero() }); i >= 0 && len(steps) > known {
		return nil, fmt.Errorf("%w: it holds migration %s, and lacks %s", ErrNewerSchema, steps[known].Name, steps[i].Name)
	}
	return steps, nil
}

// Pending counts the steps that the database has yet to take.
func (d *DB) Pending(ctx context.Context) (int, error) {
	steps, err := d.Migrations(ctx)
	n := 0
	for _, m := range steps {
		if m.AppliedAt.IsZero() {
			n++
		}
	}
	return n, err
}

// Migrate takes the steps that are pending and names those that it took. Any
// number of processes may do so at once: each step is taken once, and Migrate
// returns when all are.
func (d *DB) Migrate(ctx context.Context) (applied []string, err error) {
	steps, err := d.Migrations(ctx)
	if err != nil {
		return nil, err
	}
	steps = slices.DeleteFunc(steps, func(m Migration) bool { return !m.AppliedAt.IsZero() })
	if len(steps) == 0 {
		return nil, nil
	}
	if err := d.makeLedger(ctx); err != nil {
		return nil, fmt.Errorf("making the ledger of migrations: %w", err)
	}
	for _, m := range steps {
		mine := false
		err := d.Tx(ctx, func(tx *Tx) (err error) {
			mine, err = tx.take(ctx, m)
			return err
		})
		if err != nil {
			return applied, err
		}
		if mine {
			applied = append(applied, m.Name)
		}
	}
	_, err = d.Migrations(ctx) // what another process did meanwhile must be what this one would have done
	return applied, err
}

// take takes a step unless it was taken, and says whether it did.
func (t *Tx) take(ctx context.Context, m Migration) (mine bool, err error) {
	// The ledger is the lock: a second process waits at this row until
	// the first has committed, and then has nothing left to do.
	n, err := t.Exec(ctx, `
		INSERT INTO migrations (id, name, checksum, applied_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO NOTHING`, m.ID, m.Name, m.checksum, Micros(time.Now()))
	if err == nil && n == 1 {
		_, err = t.Exec(ctx, m.text)
	}
	if err != nil {
		return false, fmt.Errorf("migration %s: %w", m.Name, err)
	}
	return n == 1, nil
}

func (d *DB) makeLedger(ctx context.Context) (err error) {
	// PostgreSQL looks whether a table exists before it takes the lock under
	// which it makes it, so all but one of those that race here may fail once.
	for range 10 {
		_, err = d.Exec(ctx, `
			CREATE TABLE IF NOT EXISTS migrations (
				id         BIGINT PRIMARY KEY,
				name       TEXT   NOT NULL,
				checksum   TEXT   NOT NULL,
				applied_at BIGINT NOT NULL
			)`)
		if err == nil || d.engine == "sqlite" {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// readSteps reads the files NNNN_name.sql, in order.
func readSteps(files fs.FS) ([]Migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	var steps []Migration
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		number, _, ok := strings.Cut(name, "_")
		id, err := strconv.Atoi(number)
		if !ok || err != nil || id < 1 || len(number) != 4 {
			return nil, fmt.Errorf("migration %s: its name is not NNNN_what.sql", name)
		}
		sum := sha256.Sum256(text)
		steps = append(steps, Migration{
			ID:       id,
			Name:     strings.TrimSuffix(name, path.Ext(name)),
			text:     string(text),
			checksum: hex.EncodeToString(sum[:]),
		})
		if needs := steps[len(steps)-1].needs(); needs > id {
			return nil, fmt.Errorf("migration %s needs step %d, which comes after it", name, needs)
		}
	}
	slices.SortFunc(steps, func(a, b Migration) int { return a.ID - b.ID })
	for i := range steps {
		if i > 0 && steps[i].ID == steps[i-1].ID {
			return nil, fmt.Errorf("migrations %s and %s have one number", steps[i-1].Name, steps[i].Name)
		}
	}
	return steps, nil
}
