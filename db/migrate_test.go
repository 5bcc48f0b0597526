package db_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

func schema(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

func TestMigrate(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := connect(t, dbtest.Empty(t, engine))
		one := []string{"0001_one.sql", "CREATE TABLE a (id TEXT PRIMARY KEY); -- two\nCREATE TABLE b (id TEXT PRIMARY KEY);\nINSERT INTO a VALUES ('x');"}
		two := []string{"0002_two.sql", "ALTER TABLE a ADD COLUMN n BIGINT;"}
		bad := []string{"0003_bad.sql", "CREATE TABLE c (id TEXT);\nINSERT INTO nothing VALUES (1);"}
		at := func(files ...string) { d.SetMigrations(schema(files...)) }
		pending := func(want int) {
			t.Helper()
			if n, err := d.Pending(ctx); n != want || err != nil {
				t.Errorf("Pending = %d, %v; want %d", n, err, want)
			}
		}
		migrate := func(want ...string) error {
			t.Helper()
			got, err := d.Migrate(ctx)
			if !slices.Equal(got, want) {
				t.Errorf("Migrate = %v, want %v", got, want)
			}
			return err
		}
		at(one...)
		pending(1)
		if err := migrate("0001_one"); err != nil {
			t.Fatal(err)
		}
		pending(0)
		at(slices.Concat(one, two, bad)...)
		pending(2)
		if err := migrate("0002_two"); err == nil || !strings.Contains(err.Error(), "0003_bad") {
			t.Errorf("a bad migration: %v", err)
		}
		pending(1)
		if _, err := d.Exec(ctx, `INSERT INTO c VALUES ('x')`); err == nil {
			t.Error("half of a bad migration was kept")
		}
		list, err := d.Migrations(ctx)
		if err != nil || len(list) != 3 || list[0].ID != 1 || list[1].Name != "0002_two" || time.Since(list[1].AppliedAt).Abs() > time.Minute || !list[2].AppliedAt.IsZero() {
			t.Errorf("Migrations = %+v, %v", list, err)
		}
		if n := count(t, d, `SELECT count(*) FROM a WHERE n IS NULL`); n != 1 {
			t.Errorf("%d rows in a, want 1", n)
		}

		at(one...) // an older program: what it does not know only adds
		pending(0)
		if err := migrate(); err != nil {
			t.Errorf("an older program: %v", err)
		}
		if list, err := d.Migrations(ctx); err != nil || len(list) != 2 || list[0].Later || !list[1].Later || list[1].Name != "0002_two" || list[1].AppliedAt.IsZero() {
			t.Errorf("an older program: %+v, %v", list, err)
		}
		// A step that takes something away says which programs it can be beside.
		gone := []string{"0005_less-needs-0002.sql", "ALTER TABLE a DROP COLUMN n;"}
		at(slices.Concat(one, two, gone)...)
		if err := migrate("0005_less-needs-0002"); err != nil {
			t.Fatal(err)
		}
		at(slices.Concat(one, two)...)
		pending(0)
		for _, older := range [][]string{one, slices.Concat(one, two, []string{"0003_other.sql", "SELECT 1"}), slices.Concat(one, two, []string{"0006_other.sql", "SELECT 1"})} {
			at(older...) // too old, or of another descent
			if _, err := d.Migrate(ctx); !errors.Is(err, db.ErrNewerSchema) || !strings.Contains(err.Error(), "0005_less-needs-0002") {
				t.Errorf("a program that knows %q: %v", older[len(older)-2], err)
			}
			if _, err := d.Pending(ctx); !errors.Is(err, db.ErrNewerSchema) {
				t.Errorf("a program that knows %q: %v", older[len(older)-2], err)
			}
		}
		at("0001_needs-needs-0002.sql", "")
		if _, err := d.Migrate(ctx); err == nil || !strings.Contains(err.Error(), "comes after it") {
			t.Errorf("a step that needs a later one: %v", err)
		}
		at(slices.Concat(one, []string{two[0], two[1] + " "})...) // a changed file
		if _, err := d.Migrate(ctx); err == nil || !strings.Contains(err.Error(), "0002_two was changed") {
			t.Errorf("a changed file: %v", err)
		}
		for _, name := range []string{"1_one.sql", "one.sql", "000x_one.sql", "0000_none.sql"} {
			at(name, "")
			if _, err := d.Migrate(ctx); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("a file called %s: %v", name, err)
			}
		}
		at("0001_a.sql", "", "0001_b.sql", "")
		if _, err := d.Migrate(ctx); err == nil || !strings.Contains(err.Error(), "one number") {
			t.Errorf("two files of one number: %v", err)
		}
	})
}

func TestMigrateRace(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		for range 4 {
			url := dbtest.Empty(t, engine)
			var mu sync.Mutex
			var applied []string
			var wg sync.WaitGroup
			start := make(chan bool)
			for range 6 {
				wg.Go(func() {
					<-start
					d, err := db.Open(ctx, url)
					if err != nil {
						t.Error(err)
						return
					}
					d.SetMigrations(schema("0001_one.sql", "CREATE TABLE a (n BIGINT); INSERT INTO a VALUES (1);",
						"0002_two.sql", "INSERT INTO a VALUES (2);", "0003_three.sql", "INSERT INTO a VALUES (3);"))
					names, err := d.Migrate(ctx)
					if err != nil {
						t.Error(err)
					}
					if n, err := d.Pending(ctx); n != 0 || err != nil {
						t.Errorf("Pending = %d, %v", n, err)
					}
					mu.Lock()
					applied = append(applied, names...)
					mu.Unlock()
					if err := d.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			wg.Wait()
			slices.Sort(applied)
			if want := []string{"0001_one", "0002_two", "0003_three"}; !slices.Equal(applied, want) {
				t.Errorf("applied %v, want each once", applied)
			}
			if n := count(t, connect(t, url), `SELECT count(*) FROM a`); n != 3 {
				t.Errorf("%d rows, want 3", n)
			}
		}
	})
}

// The product's own schema: the template of dbtest has all of it.
func TestSchema(t *testing.T) {
	dbtest.EachDB(t, func(t *testing.T, d *db.DB) {
		if n, err := d.Pending(ctx); n != 0 || err != nil {
			t.Errorf("Pending = %d, %v", n, err)
		}
		if names, err := d.Migrate(ctx); len(names) != 0 || err != nil {
			t.Errorf("Migrate = %v, %v", names, err)
		}
	})
}
