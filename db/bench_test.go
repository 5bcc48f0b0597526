package db_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The processor time of an operation: cpu-ms/op, without PostgreSQL's own.
//
//	go run ./db/dbtest/withpg -- go test -run '^$' -bench . ./db
func Benchmark(b *testing.B) {
	const rows = 10000
	key := func(i int) string { return fmt.Sprintf("key%06d", i*7919%rows) }
	const update = `UPDATE things SET n = (n + 1) % 1000 WHERE id = $1`
	soft := db.Soft(ctx)
	for _, engine := range dbtest.Engines {
		d := open(b, engine)
		err := d.Tx(ctx, func(tx *db.Tx) error {
			for i := range rows {
				if _, err := tx.Exec(ctx, insert, key(i), key(i), "some name that a row of this kind has", i%1000); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range []struct {
			name       string
			goroutines int
			op         func(i int) error
		}{
			{"read", 1, func(i int) error {
				var id, owner, name string
				var n int64
				return d.QueryRow(ctx, `SELECT id, owner, name, n FROM things WHERE id = $1`, key(i)).Scan(&id, &owner, &name, &n)
			}},
			{"read", 8, func(i int) error {
				var id, owner, name string
				var n int64
				return d.QueryRow(ctx, `SELECT id, owner, name, n FROM things WHERE id = $1`, key(i)).Scan(&id, &owner, &name, &n)
			}},
			{"exec", 1, func(i int) error { _, err := d.Exec(ctx, update, key(i)); return err }},
			{"exec", 8, func(i int) error { _, err := d.Exec(ctx, update, key(i)); return err }},
			{"soft", 1, func(i int) error { _, err := d.Exec(soft, update, key(i)); return err }},
			{"soft", 8, func(i int) error { _, err := d.Exec(soft, update, key(i)); return err }},
			{"returning", 1, func(i int) error {
				var id, name string
				return d.Returning(ctx, update+` RETURNING id, name`, []any{key(i)}, &id, &name)
			}},
			{"returning", 8, func(i int) error {
				var id, name string
				return d.Returning(ctx, update+` RETURNING id, name`, []any{key(i)}, &id, &name)
			}},
			{"tx", 1, func(i int) error {
				return d.Tx(ctx, func(tx *db.Tx) error {
					_, err := tx.Exec(ctx, update, key(i))
					return err
				})
			}},
			{"tx", 8, func(i int) error {
				return d.Tx(ctx, func(tx *db.Tx) error {
					_, err := tx.Exec(ctx, update, key(i))
					return err
				})
			}},
		} {
			b.Run(fmt.Sprintf("%s/%s/%d", engine, c.name, c.goroutines), func(b *testing.B) {
				b.ReportAllocs()
				before := cpu(b)
				var next atomic.Int64
				var wg sync.WaitGroup
				for range c.goroutines {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if err := c.op(int(i)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(cpu(b)-before)/1e6/float64(b.N), "cpu-ms/op")
			})
		}
	}
}
