// Package rewrap says which encryption keys the sealed values of a database need,
// and seals them with another one while everything runs.
package rewrap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A Use is how many values of one column one key sealed.
type Use struct {
	Column secret.Column
	KeyID  string // "" for values that do not say which key sealed them
	Values int64
}

// Uses counts the values of the columns by their keys, at one moment, in the order
// of the columns and then of the keys' ids.
func Uses(ctx context.Context, d *db.DB, columns []secret.Column) ([]Use, error) {
	var uses []Use
	err := d.Snapshot(ctx, func(tx *db.Tx) error {
		for _, c := range columns {
			counts, err := count(ctx, tx, c)
			if err != nil {
				return fmt.Errorf("reading %s.%s: %w", c.Table, c.Column, err)
			}
			var some []Use
			for id, n := range counts {
				some = append(some, Use{c, id, n})
			}
			slices.SortFunc(some, func(a, b Use) int { return strings.Compare(a.KeyID, b.KeyID) })
			uses = append(uses, some...)
		}
		return nil
	})
	return uses, err
}

// headBytes is the most that a value needs to say which key sealed it.
const headBytes = 33

func count(ctx context.Context, tx *db.Tx, c secret.Column) (map[string]int64, error) {
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT substr(%s, 1, %d) FROM %s WHERE length(%[1]s) > 0`, c.Column, headBytes, c.Table))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := map[string]int64{}
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var head []byte
		if err := rows.Scan(&head); err != nil {
			return nil, err
		}
		id, ok := secret.KeyOf(head)
		if !ok {
			id = ""
		}
		counts[id]++
	}
	return counts, rows.Err()
}

// batch is how many values one transaction changes at the most, so that it never
// holds up a sign-in.
const batch = 100

// ErrOtherKey means that the first key of a ring opens nothing of what was sealed
// under its id: another file has another key of that name.
var ErrOtherKey = errors.New("the first key of the file opens nothing of what was sealed under its name: another file has another key of that name")

// A Result is what Run or Check did.
type Result struct {
	Opened   int64 // with a key of the ring
	Resealed int64
	Refused  int64 // values that do not open, and stay as they are
	Why      error // of the first of these; nil: there were none
}

// open opens a value for its row, and counts it.
func (r *Result) open(box *secret.Box, c secret.Column, v value) (plain []byte, ok bool) {
	plain, err := box.Open(v.sealed, c.Row(v.key))
	if err == nil {
		r.Opened++
		return plain, true
	}
	r.Refused++
	if r.Why == nil {
		r.Why = fmt.Errorf("%s: %w", c.Row(v.key), err)
	}
	return nil, false
}

// Check opens the values of the columns that a key of the ring, by its id, sealed.
// One that does not open for its row is counted.
func Check(ctx context.Context, d *db.DB, ring *secret.Ring, columns []secret.Column) (Result, error) {
	return openAll(ctx, d, ring, columns, ring.Has)
}

// openAll opens the values of the columns that a key sealed which is meant.
func openAll(ctx context.Context, d *db.DB, ring *secret.Ring, columns []secret.Column, meant func(keyID string) bool) (r Result, err error) {
	for _, c := range columns {
		box := ring.Box(c.Purpose)
		err := each(ctx, d, c, func(page []value) error {
			for _, v := range page {
				if id, ok := secret.KeyOf(v.sealed); ok && meant(id) {
					r.open(box, c, v)
				}
			}
			return nil
		})
		if err != nil {
			return r, fmt.Errorf("reading %s.%s: %w", c.Table, c.Column, err)
		}
	}
	return r, nil
}

// Run seals every value of the columns with the first key of the ring that
// another key sealed. It can be stopped at any point and run again; the rows say
// how far it came. A value that is changed meanwhile stays as it was changed. One
// that does not open for its row is left alone and counted. Errors: ErrOtherKey,
// before anything is sealed.
func Run(ctx context.Context, d *db.DB, ring *secret.Ring, columns []secret.Column) (Result, error) {
	r, err := openAll(ctx, d, ring, columns, func(id string) bool { return id == ring.KeyID() })
	if err != nil {
		return r, err
	}
	if r.Opened == 0 && r.Refused > 0 {
		return r, ErrOtherKey
	}
	for _, c := range columns {
		if err := r.column(ctx, d, ring, c); err != nil {
			return r, fmt.Errorf("sealing %s.%s: %w", c.Table, c.Column, err)
		}
	}
	return r, nil
}

// A value is one value with the key of its row.
type value struct {
	key           any
	sealed, fresh []byte
}

func (r *Result) column(ctx context.Context, d *db.DB, ring *secret.Ring, c secret.Column) error {
	box := ring.Box(c.Purpose)
	return each(ctx, d, c, func(page []value) error {
		var changes []value
		for _, v := range page {
			if id, ok := secret.KeyOf(v.sealed); ok && id == ring.KeyID() {
				continue
			}
			if plain, ok := r.open(box, c, v); ok {
				v.fresh = box.Seal(plain, c.Row(v.key))
				changes = append(changes, v)
			}
		}
		if len(changes) == 0 {
			return nil
		}
		done, err := replace(ctx, d, c, changes)
		if err != nil {
			return err
		}
		r.Resealed += done
		return nil
	})
}

// each calls fn with every value of the column, a page at a time.
func each(ctx context.Context, d *db.DB, c secret.Column, fn func(page []value) error) error {
	var after any
	for {
		page, err := read(ctx, d, c, after)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1].key
		if err := fn(page); err != nil {
			return err
		}
	}
}

// replace writes fresh values in the place of those that they were made from, and
// says how many: whoever changed one meanwhile has won.
func replace(ctx context.Context, d *db.DB, c secret.Column, changes []value) (done int64, err error) {
	update := fmt.Sprintf(`UPDATE %s SET %s = $1 WHERE %s = $2 AND %[2]s = $3`, c.Table, c.Column, c.Key)
	err = d.Tx(ctx, func(tx *db.Tx) error {
		done = 0
		for _, v := range changes {
			n, err := tx.Exec(ctx, update, v.fresh, v.key, v.sealed)
			if err != nil {
				return err
			}
			done += n
		}
		return nil
	})
	return done, err
}

// read reads the next values, whoever sealed them, in the order of their keys.
func read(ctx context.Context, d *db.DB, c secret.Column, after any) (page []value, err error) {
	text, args := fmt.Sprintf(`SELECT %s, %s FROM %s WHERE length(%[2]s) > 0`, c.Key, c.Column, c.Table), []any(nil)
	if after != nil {
		text, args = text+` AND `+c.Key+` > $1`, []any{after}
	}
	rows, err := d.Query(ctx, text+fmt.Sprintf(` ORDER BY %s LIMIT %d`, c.Key, batch), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v value
		if err := rows.Scan(&v.key, &v.sealed); err != nil {
			return nil, err
		}
		switch v.key.(type) {
		case string, []byte:
		default:
			return nil, errors.New("the key of a row is neither text nor bytes")
		}
		page = append(page, v)
	}
	return page, rows.Err()
}
