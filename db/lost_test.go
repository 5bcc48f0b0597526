package db_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// What is repeated when connections to PostgreSQL break, and what is not.

// cut breaks every connection to the database of d but those of the one that cuts.
type cut struct {
	t     *testing.T
	other *db.DB
	name  string
}

func newCut(t *testing.T, d *db.DB) cut {
	t.Helper()
	c := cut{t: t, other: connect(t, dbtest.Empty(t, "postgres"))}
	if err := d.QueryRow(ctx, `SELECT current_database()`).Scan(&c.name); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c cut) all() {
	c.t.Helper()
	if _, err := c.other.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, c.name); err != nil {
		c.t.Error(err)
	}
	for count(c.t, c.other, `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, c.name) > 0 { // until they are gone
	}
}

// tries counts on PostgreSQL, in a sequence, which no transaction takes back.
const tries = `CREATE SEQUENCE tries`

func tried(t *testing.T, d *db.DB) (n int) {
	t.Helper()
	if err := d.QueryRow(ctx, `SELECT last_value FROM tries`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// suicide is a statement's condition that breaks its own connection the first time.
const suicide = `(SELECT CASE WHEN n = 1 THEN pg_terminate_backend(pg_backend_pid(), 10000) ELSE TRUE END FROM (SELECT nextval('tries') AS n) AS x)`

// A server that starts anew breaks every connection that waits for its next use. The
// statement that would have been sent there goes elsewhere, whatever it is.
func TestIdleConnectionsAreCut(t *testing.T) {
	d := open(t, "postgres")
	c := newCut(t, d)
	const rounds = 8
	for i := range rounds {
		crowd(t, d, 12, func(int) error { return d.QueryRow(ctx, `SELECT 1 FROM pg_sleep(0.001)`).Scan(new(int)) }) // many wait
		c.all()
		for _, err := range crowd(t, d, 12, func(j int) error {
			id := fmt.Sprint(i, " ", j)
			switch j % 3 {
			case 0:
				return d.Returning(ctx, insert+` RETURNING id`, []any{id, id, "x", 1}, new(string))
			case 1:
				return d.Tx(ctx, func(tx *db.Tx) error {
					_, err := tx.Exec(ctx, insert, id, id, "x", 1)
					return err
				})
			}
			_, err := d.Exec(ctx, insert, id, id, "x", 1)
			return err
		}) {
			if err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
	}
	if n := count(t, d, `SELECT count(*) FROM things`); n != rounds*12 {
		t.Errorf("%d things, want %d", n, rounds*12)
	}
}

// What only reads, and what did not come to its commit, is done again.
func TestRepeatedWhenCut(t *testing.T) {
	for name, do := range map[string]func(d *db.DB, c cut) error{
		"QueryRow": func(d *db.DB, _ cut) error { return d.QueryRow(ctx, `SELECT 1 WHERE `+suicide).Scan(new(int)) },
		"Query": func(d *db.DB, _ cut) error {
			rows, err := d.Query(ctx, `SELECT 1 WHERE `+suicide)
			if err != nil {
				return err
			}
			defer rows.Close()
			if !rows.Next() {
				return errors.Join(errors.New("no row"), rows.Err())
			}
			return nil
		},
		"Tx, in its only statement": func(d *db.DB, _ cut) error {
			return d.Tx(ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO things (id) SELECT 'a' WHERE `+suicide)
				return err
			})
		},
		"Tx, between two": func(d *db.DB, c cut) error {
			return d.Tx(ctx, func(tx *db.Tx) error {
				var n int
				if err := tx.QueryRow(ctx, `SELECT nextval('tries')`).Scan(&n); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, insert, "a", "ann", "x", 1); err != nil {
					return err
				}
				if n == 1 {
					c.all()
				}
				_, err := tx.Exec(ctx, `UPDATE things SET n = n + 1 WHERE id = 'a'`)
				return err
			})
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			d := open(t, "postgres")
			must(t, d, tries)
			if err := do(d, newCut(t, d)); err != nil {
				t.Error(err)
			}
			if n := tried(t, d); n != 2 {
				t.Errorf("%d tries, want 2", n)
			}
			if n := count(t, d, `SELECT count(*) FROM things`); strings.HasPrefix(name, "Tx") != (n == 1) {
				t.Errorf("%d things", n)
			}
		})
	}
}

// What may have been done is not done again: who asked for it is told, and looks.
func TestNotRepeatedWhenCut(t *testing.T) {
	for name, do := range map[string]func(d *db.DB, c cut) error{
		"Exec": func(d *db.DB, _ cut) error {
			_, err := d.Exec(ctx, `INSERT INTO things (id) SELECT 'a' WHERE `+suicide)
			return err
		},
		"Returning": func(d *db.DB, _ cut) error {
			return d.Returning(ctx, `INSERT INTO things (id) SELECT 'a' WHERE `+suicide+` RETURNING id`, nil, new(string))
		},
		"a commit": func(d *db.DB, c cut) error {
			return d.Tx(ctx, func(tx *db.Tx) error {
				if err := tx.QueryRow(ctx, `SELECT nextval('tries')`).Scan(new(int)); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, insert, "a", "ann", "x", 1)
				c.all()
				return err
			})
		},
		"a refusal": func(d *db.DB, _ cut) error {
			return d.Tx(ctx, func(tx *db.Tx) error {
				if err := tx.QueryRow(ctx, `SELECT nextval('tries')`).Scan(new(int)); err != nil {
					return err
				}
				return driver.ErrSkip // none of ours
			})
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			d := open(t, "postgres")
			must(t, d, tries)
			err := do(d, newCut(t, d))
			if err == nil || db.Unavailable(err) != (name != "a refusal") {
				t.Errorf("%v", err)
			}
			if n := tried(t, d); n != 1 {
				t.Errorf("%d tries, want 1", n)
			}
			if n := count(t, d, `SELECT count(*) FROM things`); n != 0 {
				t.Errorf("%d things", n)
			}
		})
	}
}

// A server that comes back within a second is waited for; one that does not is not.
func TestWaitsForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, "postgres")
		c := newCut(t, d)
		allow := func(yes bool) {
			t.Helper()
			must(t, c.other, fmt.Sprintf(`ALTER DATABASE %s WITH ALLOW_CONNECTIONS %t`, c.name, yes))
		}
		allow(false)
		c.all()
		began := time.Now()
		if _, err := d.Exec(ctx, insert, "a", "ann", "x", 1); !db.Unavailable(err) || time.Since(began) < 900*time.Millisecond || time.Since(began) > 1100*time.Millisecond {
			t.Errorf("without a server: %v after %s", err, time.Since(began))
		}
		done := make(chan error, 1)
		go func() {
			_, err := d.Exec(ctx, insert, "b", "ann", "y", 1)
			done <- err
		}()
		time.Sleep(50 * time.Millisecond)
		allow(true)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := count(t, d, `SELECT count(*) FROM things`); n != 1 {
			t.Errorf("%d things, want 1", n)
		}
	})
}
