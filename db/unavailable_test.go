package db_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// What passes by itself is told from what is wrong with a statement.
func TestUnavailable(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{sql.ErrNoRows, false},
		{context.Canceled, false},
		{sql.ErrTxDone, false},
		{errors.New("anything else"), false},
		{&pgconn.PgError{Code: "42P01"}, false}, // no such table
		{&pgconn.PgError{Code: "23505"}, false}, // not unique
		{&pgconn.PgError{Code: "23503"}, false}, // no such row
		{&pgconn.PgError{Code: "22021"}, false}, // no text
		{&pgconn.PgError{Code: "42501"}, false}, // not allowed
		{&pgconn.PgError{Code: ""}, false},
		{&pgconn.PgError{Code: "53100"}, true}, // the disk is full
		{&pgconn.PgError{Code: "53300"}, true}, // too many connections
		{&pgconn.PgError{Code: "57P01"}, true}, // it shuts down
		{&pgconn.PgError{Code: "57P03"}, true}, // it starts
		{&pgconn.PgError{Code: "58030"}, true}, // its disk fails
		{&pgconn.PgError{Code: "08006"}, true}, // a pooler lost it
		{&pgconn.PgError{Code: "25006"}, true}, // a standby
		{&pgconn.PgError{Code: "57014"}, true}, // it took too long
		{&pgconn.PgError{Code: "40001"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{&pgconn.ConnectError{}, true},
		{&net.OpError{Op: "read", Err: io.EOF}, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true},
		{sql.ErrConnDone, true},
		{io.ErrUnexpectedEOF, true},
		{driver.ErrBadConn, true},
		{context.DeadlineExceeded, true},
		{db.ErrClosed, true},
	} {
		if got := db.Unavailable(c.err); got != c.want {
			t.Errorf("Unavailable(%v) = %v", c.err, got)
		}
		if c.err != nil && db.Unavailable(fmt.Errorf("doing something: %w", c.err)) != c.want {
			t.Errorf("wrapped, %v is another", c.err)
		}
	}
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		for _, wrong := range []string{`INSERT INTO nothing VALUES (1)`, `INSERT INTO parts VALUES (NULL, NULL)`, `NO SQL`} {
			if _, err := d.Exec(ctx, wrong); err == nil || db.Unavailable(err) {
				t.Errorf("%s: %v", wrong, err)
			}
		}
	})
	full := open(t, "sqlite")
	must(t, full, fmt.Sprintf(`PRAGMA max_page_count = %d`, count(t, full, `PRAGMA page_count`)))
	if _, err := full.Exec(ctx, `INSERT INTO things (id, data) VALUES ('a', $1)`, make([]byte, 1<<20)); !db.Unavailable(err) {
		t.Errorf("a full disk: %v", err)
	}
}

// Whoever finds SQLite's lock taken for too long is told so, and nothing of theirs has
// happened; after that all is as before.
func TestLockedByAnotherProcess(t *testing.T) {
	defer db.ShortPatience(2)()
	url := "sqlite:" + t.TempDir() + "/locked.db"
	d := withThings(t, connect(t, url))
	if _, err := d.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	other := connect(t, url)
	err := other.Tx(ctx, func(*db.Tx) error {
		if err := d.Writes(ctx); err != nil {
			t.Errorf("a database that nobody was refused by: %v", err)
		}
		if _, err := d.Exec(ctx, insert, "one", "ann", "x", 1); !db.Unavailable(err) || !strings.Contains(err.Error(), "locked") {
			t.Errorf("a statement: %v", err)
		}
		if err := d.Tx(ctx, func(*db.Tx) error { t.Error("it ran"); return nil }); !db.Unavailable(err) {
			t.Errorf("a transaction: %v", err)
		}
		if err := d.Writes(ctx); !db.Unavailable(err) {
			t.Errorf("a database that takes no writes: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Writes(ctx); err != nil {
		t.Error(err)
	}
	if n := count(t, d, `SELECT count(*) FROM things`); n != 0 {
		t.Errorf("%d rows of those that were refused", n)
	}
	must(t, d, insert, "two", "ann", "x", 1)
	if n := count(t, d, `SELECT count(*) FROM migrations WHERE id = 0`); n != 0 {
		t.Error("what looked for room is still there")
	}
}

// A lock that is free for moments only is found free: another process that writes all
// the time does not keep this one from its turn.
func TestTurns(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/turns.db"
	d := withThings(t, connect(t, url))
	other := connect(t, url)
	stop, gone := make(chan bool), make(chan error)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				gone <- nil
				return
			default:
				_, err = other.Exec(ctx, insert, fmt.Sprint("other ", i), fmt.Sprint(i), "x", 1)
			}
		}
		gone <- err
	}()
	for i := range 100 {
		if _, err := d.Exec(ctx, insert, fmt.Sprint("mine ", i), fmt.Sprint("me ", i), "x", 1); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	if err := <-gone; err != nil {
		t.Error(err)
	}
	if n := count(t, d, `SELECT count(*) FROM things WHERE id LIKE 'mine %'`); n != 100 {
		t.Errorf("%d rows", n)
	}
}
