package db

import "context"

// SweepRows is the LIMIT of every statement that Sweep runs. Whoever signs in on SQLite,
// which has one writer, waits no longer than so many rows take to delete.
const SweepRows = "200"

// Sweep runs a statement that deletes at most SweepRows rows until it finds none, each
// time in a transaction of its own: other writers take their turn in between.
//
// Its rows are chosen by a subquery with ORDER BY, the column of an index, and LIMIT
// SweepRows: the order keeps PostgreSQL from reading the whole table for what it
// takes to be there and, most of the time, is not.
func (d *DB) Sweep(ctx context.Context, query string, args ...any) error {
	for {
		n, err := d.Exec(Soft(ctx), query, args...)
		if err != nil || n == 0 {
			return err
		}
	}
}
