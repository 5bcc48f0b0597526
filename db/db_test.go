package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

var ctx = context.Background()

// open opens a database with a table of things.
func open(t testing.TB, engine string, opts ...db.Option) *db.DB {
	t.Helper()
	return withThings(t, connect(t, dbtest.Empty(t, engine), opts...))
}

func connect(t testing.TB, url string, opts ...db.Option) *db.DB {
	t.Helper()
	d, err := db.Open(ctx, url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func withThings(t testing.TB, d *db.DB) *db.DB {
	t.Helper()
	must(t, d, `CREATE TABLE things (
		id TEXT PRIMARY KEY, owner TEXT, name TEXT, n BIGINT NOT NULL DEFAULT 0, data BYTEA, UNIQUE (owner, name), CHECK (n < 1000))`)
	must(t, d, `CREATE TABLE parts (thing_id TEXT NOT NULL REFERENCES things (id) ON DELETE CASCADE, name TEXT)`)
	return d
}

func must(t testing.TB, d *db.DB, query string, args ...any) int64 {
	t.Helper()
	n, err := d.Exec(ctx, query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func count(t testing.TB, d *db.DB, query string, args ...any) (n int) {
	t.Helper()
	if err := d.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

const insert = `INSERT INTO things (id, owner, name, n) VALUES ($1, $2, $3, $4)`

func TestStatements(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		if d.Engine() != engine {
			t.Errorf("Engine() = %q", d.Engine())
		}
		if n := must(t, d, `INSERT INTO things (id, n, data) VALUES ($2, $1, $3), ('b', $1, NULL)`, 7, "a", []byte{0, 255}); n != 2 {
			t.Errorf("inserted %d rows, want 2", n)
		}
		if n := must(t, d, `UPDATE things SET n = n + 1 WHERE id = $1`, "c"); n != 0 {
			t.Errorf("updated %d rows, want 0", n)
		}
		var id string
		var n int64
		var data []byte
		err := d.Returning(ctx, `UPDATE things SET n = n + $1 WHERE id = $2 RETURNING id, n, data`, []any{1, "a"}, &id, &n, &data)
		if err != nil || id != "a" || n != 8 || string(data) != "\x00\xff" {
			t.Errorf("Returning = %q %d %x, %v", id, n, data, err)
		}
		err = d.Returning(ctx, `UPDATE things SET n = 0 WHERE id = 'c' RETURNING n`, nil, &n)
		if !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("Returning without a row: %v", err)
		}
		// Every row is written, though one is read.
		if err := d.Returning(ctx, `UPDATE things SET n = 3 WHERE id < 'z' RETURNING n`, nil, &n); err != nil || n != 3 {
			t.Errorf("Returning = %d, %v", n, err)
		}
		rows, err := d.Query(ctx, `SELECT id, n FROM things ORDER BY id`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var got []string
		for rows.Next() {
			if err := rows.Scan(&id, &n); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(id, n))
		}
		if want := []string{"a3", "b3"}; !slices.Equal(got, want) || rows.Err() != nil {
			t.Errorf("rows = %v, %v; want %v", got, rows.Err(), want)
		}
		if _, err := d.Exec(ctx, `UPDATE things SET nonsense = 1`); err == nil {
			t.Error("nonsense was accepted")
		}
		if _, err := d.Exec(ctx, `INSERT INTO parts VALUES ('nobody', 'x')`); err == nil {
			t.Error("a part of nothing was accepted")
		}
		if err := d.Returning(ctx, `INSERT INTO parts VALUES ('nobody', 'x'), ('nothing', 'y') RETURNING name`, nil, &id); err == nil {
			t.Error("parts of nothing were accepted by Returning")
		}
		if n := count(t, d, `SELECT count(*) FROM parts`); n != 0 {
			t.Errorf("%d parts, want none", n)
		}
		if _, err := d.Exec(ctx, `UPDATE things SET n = 1 WHERE id = "a"`); err == nil {
			t.Error("a string in double quotes was accepted")
		}
	})
}

func TestConflict(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		must(t, d, insert, "a", "ann", "x) (1, =)=(", 1)
		for _, c := range []struct {
			id, name, column string
		}{{"a", "y", "id"}, {"b", "x) (1, =)=(", "owner,name"}} {
			_, err := d.Exec(ctx, insert, c.id, "ann", c.name, 1)
			conflict, ok := errors.AsType[*db.ConflictError](err)
			if !ok || conflict.Table != "things" || conflict.Column != c.column || !db.IsConflict(err, "things", c.column) {
				t.Errorf("Exec: %#v, want a conflict of things, %s", err, c.column)
			}
			if db.IsConflict(err, "things", "n") || db.IsConflict(err, "parts", c.column) || errors.Unwrap(err) == nil || strings.Contains(err.Error(), "ann") {
				t.Errorf("the conflict is about everything: %v", err)
			}
			err = d.Tx(ctx, func(tx *db.Tx) error {
				var id string
				return tx.Returning(ctx, insert+" RETURNING id", []any{c.id, "ann", c.name, 1}, &id)
			})
			if !db.IsConflict(err, "things", c.column) {
				t.Errorf("Tx.Returning: %v, want a conflict of things, %s", err, c.column)
			}
		}
		for _, query := range []string{`UPDATE things SET n = 1000`, `INSERT INTO parts VALUES ('x', 'x')`, `INSERT INTO parts VALUES (NULL, 'x')`} {
			if _, err := d.Exec(ctx, query); err == nil || errors.As(err, new(*db.ConflictError)) {
				t.Errorf("%s: %v, want an error that is no conflict", query, err)
			}
		}
	})
}

func TestTx(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		mine := errors.New("mine")
		var kept *db.Tx
		var left *sql.Rows
		err := d.Tx(ctx, func(tx *db.Tx) error {
			kept = tx
			if n, err := tx.Exec(ctx, insert, "a", "ann", "x", 1); n != 1 || err != nil {
				t.Errorf("Tx.Exec = %d, %v", n, err)
			}
			if n, err := tx.Exec(ctx, insert, "b", "ann", "y", 2); n != 1 || err != nil {
				t.Errorf("Tx.Exec = %d, %v", n, err)
			}
			var n int
			if err := tx.QueryRow(ctx, `SELECT n FROM things WHERE id = $1`, "a").Scan(&n); n != 1 || err != nil {
				t.Errorf("Tx.QueryRow = %d, %v", n, err)
			}
			if count(t, d, `SELECT count(*) FROM things`) != 0 {
				t.Error("others see what is not committed")
			}
			rows, err := tx.Query(ctx, `SELECT id FROM things ORDER BY id`)
			if err != nil || !rows.Next() {
				t.Fatalf("Tx.Query: %v", err)
			}
			left = rows
			if engine == "sqlite" { // PostgreSQL's protocol reads one result at a time
				var m int
				if err := tx.QueryRow(ctx, `SELECT count(*) FROM things`).Scan(&m); m != 2 || err != nil {
					t.Errorf("a second query while rows are open = %d, %v", m, err)
				}
				again, err := tx.Query(ctx, `SELECT id FROM things ORDER BY id`) // the same text
				if err != nil || !again.Next() || !again.Next() || again.Next() {
					t.Errorf("the same query while its rows are open: %v", err)
				}
				if !rows.Next() || rows.Next() {
					t.Error("the first rows were disturbed by the second")
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if left.Next() {
			t.Error("rows outlive their transaction")
		}
		if n := count(t, d, `SELECT count(*) FROM things`); n != 2 {
			t.Errorf("%d things after the commit, want 2", n)
		}
		if _, err := kept.Exec(ctx, `DELETE FROM things`); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("Exec after the end: %v", err)
		}
		if err := kept.Returning(ctx, `DELETE FROM things RETURNING id`, nil, new(string)); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("Returning after the end: %v", err)
		}
		if _, err := kept.Query(ctx, `SELECT 1`); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("Query after the end: %v", err)
		}
		if err := kept.QueryRow(ctx, `SELECT 1`).Scan(new(int)); err == nil {
			t.Error("QueryRow works after the end")
		}
		err = d.Tx(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM things`)
			return errors.Join(err, mine)
		})
		if !errors.Is(err, mine) {
			t.Errorf("Tx = %v, want its function's error", err)
		}
		if n := count(t, d, `SELECT count(*) FROM things`); n != 2 {
			t.Errorf("%d things after the rollback, want 2", n)
		}
		func() {
			defer func() {
				if recover() != "boo" {
					t.Error("the panic was lost")
				}
			}()
			_ = d.Tx(ctx, func(tx *db.Tx) error {
				if _, err := tx.Exec(ctx, `DELETE FROM things`); err != nil {
					t.Error(err)
				}
				panic("boo")
			})
		}()
		if n := must(t, d, `UPDATE things SET n = n + 1`); n != 2 {
			t.Errorf("%d things after the panic, want 2", n)
		}
	})
}

func TestCancelled(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := d.Exec(gone, insert, "a", "ann", "x", 1)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Exec: %v", err)
		}
		if err := d.Returning(gone, insert+` RETURNING id`, []any{"a", "ann", "x", 1}, new(string)); !errors.Is(err, context.Canceled) {
			t.Errorf("Returning: %v", err)
		}
		if err := d.Tx(gone, func(*db.Tx) error { t.Error("the function ran"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("Tx: %v", err)
		}
		if err := d.QueryRow(gone, `SELECT 1`).Scan(new(int)); !errors.Is(err, context.Canceled) {
			t.Errorf("QueryRow: %v", err)
		}
		if _, err := d.Query(gone, `SELECT 1`); !errors.Is(err, context.Canceled) {
			t.Errorf("Query: %v", err)
		}
		later, cancel := context.WithCancel(ctx)
		err = d.Tx(later, func(tx *db.Tx) error {
			if _, err := tx.Exec(later, insert, "a", "ann", "x", 1); err != nil {
				t.Error(err)
			}
			cancel()
			_, err := tx.Exec(later, insert, "b", "ann", "y", 1)
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Tx that is called off: %v", err)
		}
		if n := count(t, d, `SELECT count(*) FROM things`); n != 0 {
			t.Errorf("%d things, want none", n)
		}
	})
}

// crowd runs n functions at once, on SQLite in as few batches as it can be.
func crowd(t *testing.T, d *db.DB, n int, fn func(i int) error) []error {
	t.Helper()
	errs := make([]error, n)
	var started sync.WaitGroup
	var wg sync.WaitGroup
	started.Add(n)
	race := func() {
		for i := range n {
			wg.Go(func() {
				started.Done()
				errs[i] = fn(i)
			})
		}
	}
	if d.Engine() == "sqlite" { // all come while one holds the writer
		err := d.Tx(ctx, func(*db.Tx) error {
			race()
			started.Wait()
			time.Sleep(20 * time.Millisecond)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	} else {
		race()
	}
	wg.Wait()
	return errs
}

func TestNeighbours(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		must(t, d, insert, "taken", "ann", "x", 1)
		mine := errors.New("mine")
		gone, cancel := context.WithCancel(ctx)
		cancel()
		const n = 180 // more than a batch
		errs := crowd(t, d, n, func(i int) error {
			id := fmt.Sprint("id", i)
			switch i % 9 {
			case 0: // a conflict
				_, err := d.Exec(ctx, insert, "taken", id, "x", 1)
				return err
			case 1: // half of several rows is wrong
				_, err := d.Exec(ctx, `INSERT INTO things (id, n) VALUES ($1, 1), ($2, 1000)`, id, id+"b")
				return err
			case 2: // nonsense
				_, err := d.Exec(ctx, `INSERT INTO nothing VALUES ($1)`, id)
				return err
			case 3: // a transaction that changes its mind
				return d.Tx(ctx, func(tx *db.Tx) error {
					if _, err := tx.Exec(ctx, insert, id, id, "x", 1); err != nil {
						t.Error(err)
					}
					if _, err := tx.Exec(ctx, `DELETE FROM things WHERE id <> 'taken'`); err != nil {
						t.Error(err)
					}
					return mine
				})
			case 4: // one that is called off before its turn
				_, err := d.Exec(gone, insert, id, id, "x", 1)
				return err
			case 5: // one that panics
				defer func() { _ = recover() }()
				return d.Tx(ctx, func(tx *db.Tx) error {
					if _, err := tx.Exec(ctx, insert, id, id, "x", 1); err != nil {
						t.Error(err)
					}
					panic("boo")
				})
			case 6:
				return d.Returning(ctx, insert+` RETURNING id`, []any{id, id, "x", 1}, new(string))
			case 7:
				return d.Tx(ctx, func(tx *db.Tx) error {
					_, err := tx.Exec(ctx, insert, id, id, "x", 1)
					return err
				})
			default:
				_, err := d.Exec(db.Soft(ctx), insert, id, id, "x", 1)
				return err
			}
		})
		for i, err := range errs {
			var ok bool
			switch i % 9 {
			case 0:
				ok = db.IsConflict(err, "things", "id")
			case 1, 2:
				ok = err != nil
			case 3:
				ok = errors.Is(err, mine)
			case 4:
				ok = errors.Is(err, context.Canceled)
			default:
				ok = err == nil
			}
			if !ok {
				t.Errorf("write %d (kind %d): %v", i, i%9, err)
			}
			want := 0
			if i%9 >= 6 {
				want = 1
			}
			if n := count(t, d, `SELECT count(*) FROM things WHERE id LIKE $1`, fmt.Sprintf("id%d%%", i)); i >= 100 && n != want {
				t.Errorf("write %d (kind %d) left %d rows, want %d", i, i%9, n, want)
			}
		}
	})
}

// A full disk ends the whole transaction, not the statement alone. Nobody is
// told that a write was kept that was not, and the next writes work.
func TestDiskFull(t *testing.T) {
	d := open(t, "sqlite")
	pages := count(t, d, `PRAGMA page_count`)
	must(t, d, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+20))
	var kept atomic.Int32
	full := crowd(t, d, 100, func(i int) error {
		id := fmt.Sprint(i)
		add := func(exec func(context.Context, string, ...any) (int64, error)) error {
			_, err := exec(ctx, `INSERT INTO things (id, owner, name, data) VALUES ($1, $1, 'x', $2)`, id, make([]byte, i%2*9000))
			return err
		}
		var err error
		if i%4 < 2 {
			err = add(d.Exec)
		} else {
			err = d.Tx(ctx, func(tx *db.Tx) error { return add(tx.Exec) })
		}
		if err == nil {
			kept.Add(1)
		} else if !strings.Contains(err.Error(), "full") {
			t.Error(err)
		}
		return err
	})
	if errors.Join(full...) == nil {
		t.Fatal("nothing was full")
	}
	if n := count(t, d, `SELECT count(*) FROM things`); n != int(kept.Load()) {
		t.Errorf("%d rows, and %d writes were answered well", n, kept.Load())
	}
	must(t, d, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+10000))
	must(t, d, insert, "later", "later", "x", 1)
}

// A goroutine may end inside a transaction, as t.Fatal ends one, while others
// wait for what it was leading.
func TestGoexit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		var first sync.WaitGroup
		inside, others := make(chan bool), make(chan bool)
		first.Go(func() {
			_ = d.Tx(ctx, func(tx *db.Tx) error {
				if _, err := tx.Exec(ctx, insert, "gone", "x", "x", 1); err != nil {
					t.Error(err)
				}
				close(inside)
				<-others
				time.Sleep(10 * time.Millisecond)
				runtime.Goexit()
				return nil
			})
		})
		<-inside
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if i%2 == 0 {
					must(t, d, insert, fmt.Sprint(i), fmt.Sprint(i), "x", 1)
					return
				}
				_ = d.Tx(ctx, func(tx *db.Tx) error {
					if _, err := tx.Exec(ctx, insert, fmt.Sprint(i), fmt.Sprint(i), "x", 1); err != nil {
						t.Error(err)
					}
					if i%4 == 1 {
						runtime.Goexit()
					}
					return nil
				})
			})
		}
		close(others)
		first.Wait()
		wg.Wait()
		if n := count(t, d, `SELECT count(*) FROM things`); n != 6 {
			t.Errorf("%d things, want 6", n)
		}
	})
}

func TestOneWinner(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		must(t, d, insert, "code", "ann", "x", 0)
		var winners, winnersTx atomic.Int32
		crowd(t, d, 16, func(i int) error {
			n, err := d.Exec(ctx, `UPDATE things SET n = 1 WHERE id = 'code' AND n = 0`)
			winners.Add(int32(n))
			if err != nil {
				t.Error(err)
			}
			return err
		})
		crowd(t, d, 16, func(i int) error {
			return d.Tx(ctx, func(tx *db.Tx) error {
				err := tx.Returning(ctx, `UPDATE things SET n = 2 WHERE id = 'code' AND n = 1 RETURNING id`, nil, new(string))
				if err == nil {
					winnersTx.Add(1)
				} else if !errors.Is(err, sql.ErrNoRows) {
					t.Error(err)
				}
				return err
			})
		})
		if winners.Load() != 1 || winnersTx.Load() != 1 {
			t.Errorf("%d and %d winners, want 1 and 1", winners.Load(), winnersTx.Load())
		}
	})
}

// Transactions that take the same rows in another order are in each other's
// way on PostgreSQL, which ends one of them. It runs again.
func TestDeadlock(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		must(t, d, insert, "a", "ann", "a", 0)
		must(t, d, insert, "b", "ann", "b", 0)
		var met sync.WaitGroup
		met.Add(2)
		run := func(first, second string) error {
			once := sync.OnceFunc(func() {
				met.Done()
				if engine == "postgres" {
					met.Wait()
				}
			})
			return d.Tx(ctx, func(tx *db.Tx) error {
				if _, err := tx.Exec(ctx, `UPDATE things SET n = n + 1 WHERE id = $1`, first); err != nil {
					return err
				}
				once()
				_, err := tx.Exec(ctx, `UPDATE things SET n = n + 1 WHERE id = $1`, second)
				return err
			})
		}
		other := make(chan error)
		go func() { other <- run("b", "a") }()
		if err := errors.Join(run("a", "b"), <-other); err != nil {
			t.Error(err)
		}
		if n := count(t, d, `SELECT CAST(sum(n) AS BIGINT) FROM things`); n != 4 {
			t.Errorf("%d updates, want 4", n)
		}
	})
}

func TestObserve(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		type key struct{}
		var mu sync.Mutex
		var seen []string
		note := func(ctx context.Context, query string) {
			if ctx.Value(key{}) != nil {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, query)
			}
		}
		var all atomic.Int32
		d := open(t, engine, db.Observe(note), db.Observe(func(context.Context, string) { all.Add(1) }))
		before := all.Load()
		ctx := context.WithValue(ctx, key{}, true)
		_, _ = d.Exec(ctx, `UPDATE things SET n = 1`)
		_ = d.Returning(ctx, `UPDATE things SET n = 2 RETURNING n`, nil, new(int))
		_ = d.QueryRow(ctx, `SELECT 3`).Scan(new(int))
		if rows, err := d.Query(ctx, `SELECT 4`); err == nil {
			rows.Close()
		}
		_ = d.Tx(ctx, func(tx *db.Tx) error {
			_, _ = tx.Exec(ctx, `UPDATE things SET n = 5`)
			_ = tx.Returning(ctx, `UPDATE things SET n = 6 RETURNING n`, nil, new(int))
			_ = tx.QueryRow(ctx, `SELECT 7`).Scan(new(int))
			rows, err := tx.Query(ctx, `SELECT 8`)
			if err == nil {
				rows.Close()
			}
			return err
		})
		want := []string{`UPDATE things SET n = 1`, `UPDATE things SET n = 2 RETURNING n`, `SELECT 3`, `SELECT 4`,
			`UPDATE things SET n = 5`, `UPDATE things SET n = 6 RETURNING n`, `SELECT 7`, `SELECT 8`}
		if !slices.Equal(seen, want) {
			t.Errorf("seen:\n%q\nwant:\n%q", seen, want)
		}
		if n := all.Load() - before; n != 8 {
			t.Errorf("the second observer saw %d statements, want 8", n)
		}
	})
}

func TestClose(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		url := dbtest.Empty(t, engine)
		d, err := db.Open(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		withThings(t, d)
		const n = 200
		errs := make([]error, n)
		var wg sync.WaitGroup
		var under sync.WaitGroup
		under.Add(n)
		for i := range n {
			wg.Go(func() {
				under.Done()
				id := fmt.Sprint(i)
				if i%3 == 0 {
					errs[i] = d.Tx(ctx, func(tx *db.Tx) error {
						_, err := tx.Exec(ctx, insert, id, id, "x", 1)
						return err
					})
					return
				}
				_, errs[i] = d.Exec(ctx, insert, id, id, "x", 1)
			})
		}
		under.Wait()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := d.Close(); err != nil {
			t.Errorf("the second Close: %v", err)
		}
		if _, err := d.Exec(ctx, `DELETE FROM things`); err == nil || engine == "sqlite" && !errors.Is(err, db.ErrClosed) {
			t.Errorf("Exec after Close: %v", err)
		}
		done := 0
		for i, err := range errs {
			if err == nil {
				done++
			} else if engine == "sqlite" && !errors.Is(err, db.ErrClosed) {
				t.Errorf("write %d: %v", i, err)
			}
		}
		if got := count(t, connect(t, url), `SELECT count(*) FROM things`); engine == "sqlite" && got != done || got < done {
			t.Errorf("%d rows, and %d writes were answered well", got, done)
		}
	})
}

func TestNothingIsLeftRunning(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		url := dbtest.Empty(t, engine)
		before := runtime.NumGoroutine()
		for range 3 {
			d, err := db.Open(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					_ = d.QueryRow(ctx, `SELECT 1`).Scan(new(int))
					_ = d.Tx(ctx, func(tx *db.Tx) error { return tx.QueryRow(ctx, `SELECT 1`).Scan(new(int)) })
				})
			}
			wg.Wait()
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, there were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			}
		}
	})
}

func TestBubble(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			d := dbtest.New(t, engine)
			start := time.Now()
			withThings(t, d)
			for i := range 3 {
				errs := crowd(t, d, 10, func(j int) error {
					_, err := d.Exec(ctx, insert, fmt.Sprint(i, j), fmt.Sprint(i, j), "x", 1)
					return err
				})
				if err := errors.Join(errs...); err != nil {
					t.Error(err)
				}
				time.Sleep(31 * 24 * time.Hour)
			}
			if n := count(t, d, `SELECT count(*) FROM things`); n != 30 {
				t.Errorf("%d things, want 30", n)
			}
			if time.Since(start) < 93*24*time.Hour {
				t.Error("the clock stands still")
			}
		})
	})
}

func TestTwoHandles(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		url := dbtest.Empty(t, engine)
		a, b := withThings(t, connect(t, url)), connect(t, url)
		var wg sync.WaitGroup
		for i := range 200 {
			d := a
			if i%2 == 1 {
				d = b
			}
			wg.Go(func() {
				if _, err := d.Exec(ctx, insert, fmt.Sprint(i), fmt.Sprint(i), "x", 1); err != nil {
					t.Error(err)
				}
				if n := count(t, d, `SELECT count(*) FROM things WHERE id = $1`, fmt.Sprint(i)); n != 1 {
					t.Error("a write is not seen by the handle that made it")
				}
			})
		}
		wg.Wait()
		for _, d := range []*db.DB{a, b} {
			if n := count(t, d, `SELECT count(*) FROM things`); n != 200 {
				t.Errorf("%d things, want 200", n)
			}
		}
	})
}

func TestReaderRefusesToWrite(t *testing.T) {
	d := open(t, "sqlite")
	must(t, d, insert, "a", "ann", "x", 1)
	if err := d.QueryRow(ctx, `UPDATE things SET n = 2 RETURNING n`).Scan(new(int)); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("QueryRow with an UPDATE: %v", err)
	}
	if rows, err := d.Query(ctx, `DELETE FROM things RETURNING n`); err == nil {
		t.Errorf("Query with a DELETE: %v", rows.Close())
	}
	if n := count(t, d, `SELECT n FROM things`); n != 1 {
		t.Errorf("n = %d, want 1", n)
	}
}

func TestOpenSQLite(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ url, want string }{
		{"sqlite:" + dir + "/none/x.db", dir + "/none does not exist"},
		{"sqlite:" + dir, "is a directory"},
		{"sqlite:", "not \"sqlite:\" and a file's path"},
		{"sqlite::memory:", "not \"sqlite:\" and a file's path"},
		{"sqlite://x.db", "not \"sqlite:\" and a file's path"},
		{"sqlite:x.db?mode=ro", "not \"sqlite:\" and a file's path"},
		{"mysql://localhost/x", `begins with "sqlite:" or "postgres://"`},
		{"x.db", `begins with "sqlite:" or "postgres://"`},
	} {
		if d, err := db.Open(ctx, c.url); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%q) = %v, %v; want an error with %q", c.url, d, err, c.want)
		}
	}
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte(strings.Repeat("this is no database\n", 99)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Open(ctx, "sqlite:"+junk); err == nil {
		t.Error("a file that is no database was opened")
	}
	file := filepath.Join(dir, "a b%20c ü.db")
	d := withThings(t, connect(t, "sqlite:"+file))
	for _, name := range []string{file, file + "-wal", file + "-shm"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", name, info.Mode(), err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file + "-wal"); err == nil {
		t.Error("Close leaves the write-ahead log")
	}
}

func TestOpenPostgres(t *testing.T) {
	_, err := db.Open(ctx, "postgres://ann:open-sesame@127.0.0.1:1/x?connect_timeout=1")
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("Open without a server: %v", err)
	}
	_, err = db.Open(ctx, "postgres://ann:open-sesame@127.0.0.1:port/x")
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("Open with a bad port: %v", err)
	}
}

// What is committed is written to the disk's file before it is answered, and a
// soft write at least to the kernel.
func TestSoft(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		url := dbtest.Empty(t, engine)
		d := withThings(t, connect(t, url))
		for i := range 6 {
			ctx := ctx
			if i%3 > 0 {
				ctx = db.Soft(ctx)
			}
			id := fmt.Sprint(i)
			if n, err := d.Exec(ctx, insert, id, id, "x", 1); n != 1 || err != nil {
				t.Errorf("Exec = %d, %v", n, err)
			}
			// Another process would see it.
			if n := count(t, connect(t, url), `SELECT count(*) FROM things`); n != i+1 {
				t.Errorf("%d things, want %d", n, i+1)
			}
		}
	})
}

// synchronous is how SQLite treats the commit of a write made with ctx:
// 2 is FULL, 1 is NORMAL.
func synchronous(t *testing.T, d *db.DB, ctx context.Context) (n int) {
	t.Helper()
	if err := d.Returning(ctx, `PRAGMA synchronous`, nil, &n); err != nil {
		t.Error(err)
	}
	return n
}

func TestOnlySoftWritesAreSoft(t *testing.T) {
	d := open(t, "sqlite")
	soft := db.Soft(ctx)
	for i, c := range []struct {
		ctx  context.Context
		want int
	}{{ctx, 2}, {soft, 1}, {soft, 1}, {ctx, 2}, {ctx, 2}, {soft, 1}} {
		if got := synchronous(t, d, c.ctx); got != c.want {
			t.Errorf("write %d: synchronous = %d, want %d", i, got, c.want)
		}
	}
	// One that is not soft makes its whole batch wait for the disk.
	crowd(t, d, 20, func(i int) error {
		ctx := soft
		if i == 11 {
			ctx = context.Background()
		}
		if got := synchronous(t, d, ctx); got != 2 {
			t.Errorf("write %d in company: synchronous = %d, want 2", i, got)
		}
		return nil
	})
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 2, 28, 23, 59, 59, 123456789, time.FixedZone("x", 3600))
	if got := db.Time(db.Micros(at)); !got.Equal(at.Truncate(time.Microsecond)) || got.Location() != time.UTC {
		t.Errorf("Time(Micros(%v)) = %v", at, got)
	}
}
