package db_test

import (
	"errors"
	"testing"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// A snapshot sees one moment, and writes neither wait for it nor happen in it.
func TestSnapshot(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := open(t, engine)
		must(t, d, insert, "a", nil, nil, 1)
		for range 3 { // the connection goes back as it was
			err := d.Snapshot(ctx, func(tx *db.Tx) error {
				var first, second int
				if err := tx.QueryRow(ctx, `SELECT n FROM things`).Scan(&first); err != nil {
					return err
				}
				must(t, d, `UPDATE things SET n = n + 1`)
				if err := tx.QueryRow(ctx, `SELECT n FROM things`).Scan(&second); err != nil {
					return err
				}
				if first != second {
					t.Errorf("n = %d, and then %d", first, second)
				}
				if _, err := tx.Exec(ctx, `UPDATE things SET n = 9`); err == nil {
					t.Error("a snapshot wrote")
				}
				return errors.New("done")
			})
			if err == nil || err.Error() != "done" {
				t.Fatal(err)
			}
		}
		if n := count(t, d, `SELECT n FROM things`); n != 4 {
			t.Errorf("n = %d, want 4", n)
		}
	})
}

// Fill takes the steps around the rows, all in one transaction.
func TestFill(t *testing.T) {
	one := []string{"0001_one.sql", "CREATE TABLE a (id TEXT PRIMARY KEY);"}
	two := []string{"0002_two.sql", "ALTER TABLE a ADD COLUMN n BIGINT; UPDATE a SET n = length(id); CREATE INDEX a_n ON a (n);"}
	nothing := func(*db.Tx) error { return nil }
	fill := func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO a VALUES ('seven77')`)
		return err
	}
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := connect(t, dbtest.Empty(t, engine))
		d.SetMigrations(schema(append(one, two...)...))
		failed := errors.New("failed")
		fails := func(*db.Tx) error { return failed }
		for _, fns := range [][2]func(*db.Tx) error{{fails, nothing}, {fill, fails}} {
			if err := d.Fill(ctx, 1, fns[0], fns[1]); !errors.Is(err, failed) {
				t.Fatal(err)
			}
			if n, err := d.Pending(ctx); n != 2 || err != nil {
				t.Errorf("after a failure %d steps are pending, %v; want 2", n, err)
			}
		}
		if err := d.Fill(ctx, 3, fill, nothing); !errors.Is(err, db.ErrNewerSchema) {
			t.Errorf("of a step that nobody knows: %v", err)
		}
		err := d.Fill(ctx, 1, fill, func(tx *db.Tx) error {
			var n int
			err := tx.QueryRow(ctx, `SELECT n FROM a`).Scan(&n)
			if n != 7 {
				t.Errorf("after the last step n = %d, want 7", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := d.Pending(ctx); n != 0 || err != nil {
			t.Errorf("%d steps are pending, %v", n, err)
		}
		if further, ok := errors.AsType[*db.SchemaError](d.Fill(ctx, 1, fill, nothing)); !ok || further.Has != 2 || further.Wanted != 1 {
			t.Errorf("into a further schema: %v", further)
		}
	})
}
