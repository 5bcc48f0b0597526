package dbtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

var ctx = context.Background()

func TestEachHasItsOwn(t *testing.T) {
	dbtest.EachDB(t, func(t *testing.T, d *db.DB) {
		if n, err := d.Pending(ctx); n != 0 || err != nil {
			t.Errorf("Pending = %d, %v; want a migrated database", n, err)
		}
		if _, err := d.Exec(ctx, `CREATE TABLE mine (id TEXT)`); err != nil {
			t.Error(err)
		}
		other := dbtest.New(t, d.Engine())
		if _, err := other.Exec(ctx, `INSERT INTO mine VALUES ('x')`); err == nil {
			t.Error("two databases are one")
		}
	})
}

func TestReplicas(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			url := dbtest.URL(t, engine)
			var replicas [2]*db.DB
			for i := range replicas {
				d, err := db.Open(ctx, url)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				replicas[i] = d
			}
			_, err := replicas[0].Exec(ctx, `CREATE TABLE ours (id TEXT)`)
			_, err2 := replicas[1].Exec(ctx, `INSERT INTO ours VALUES ('x')`)
			if err := errors.Join(err, err2); err != nil {
				t.Error(err)
			}
		})
	})
}

func BenchmarkNew(b *testing.B) {
	for _, engine := range dbtest.Engines {
		b.Run(engine, func(b *testing.B) {
			for b.Loop() {
				dbtest.New(b, engine)
			}
		})
	}
}
