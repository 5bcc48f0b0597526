package account

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/harmony/id/db"
)

// A Filter says which events are meant. What is empty leaves none out.
type Filter struct {
	UserID   string
	ClientID string
	Kinds    []string
	Since    time.Time // at or after
	Until    time.Time // before
}

// sql is a statement for the events that the filter means, in the order "at" or "at DESC",
// and its arguments; with most not 0 it is the first so many of them.
//
// A person's or a client's have an index with their times. Of all others those of operators
// have one and the rest another, as house-keeping needs them; so two lists are merged, and no
// table is sorted.
func (f Filter) sql(order string, most int) (text string, args []any) {
	conditions := []string{"TRUE"}
	add := func(condition string, value any) {
		args = append(args, value)
		conditions = append(conditions, fmt.Sprintf(condition, len(args)))
	}
	if f.UserID != "" {
		add("user_id = $%d", f.UserID)
	}
	if f.ClientID != "" {
		add("client_id = $%d", f.ClientID)
	}
	if !f.Since.IsZero() {
		add("at >= $%d", db.Micros(f.Since))
	}
	if !f.Until.IsZero() {
		add("at < $%d", db.Micros(f.Until))
	}
	if len(f.Kinds) > 0 {
		var places []string
		for _, k := range f.Kinds {
			args = append(args, k)
			places = append(places, fmt.Sprintf("$%d", len(args)))
		}
		conditions = append(conditions, "kind IN ("+strings.Join(places, ", ")+")")
	}
	by, limit := " ORDER BY "+order+", "+strings.Replace(order, "at", "id", 1), ""
	if most > 0 {
		args = append(args, most)
		limit = fmt.Sprintf(" LIMIT $%d", len(args))
	}
	const columns = eventColumns + ", client_id"
	where := " WHERE " + strings.Join(conditions, " AND ")
	if f.UserID != "" || f.ClientID != "" {
		return `SELECT ` + columns + ` FROM events` + where + by + limit, args
	}
	part := func(whose string) string {
		return `SELECT ` + columns + ` FROM (SELECT ` + columns + ` FROM events` + where + ` AND ` + whose + by + limit + `) AS part`
	}
	return part(`substr(actor, 1, 8) <> 'operator'`) + ` UNION ALL ` + part(`substr(actor, 1, 8) = 'operator'`) + by + limit, args
}

// Events calls fn for every event that the filter means, the oldest first, one at a
// time: all that there were at one moment.
func (s *Store) Events(ctx context.Context, f Filter, fn func(*Event) error) error {
	text, args := f.sql("at", 0)
	return s.events(ctx, text, args, fn)
}

// LastEvents returns the last events that the filter means, most at the most, the
// newest first.
func (s *Store) LastEvents(ctx context.Context, f Filter, most int) (out []*Event, err error) {
	text, args := f.sql("at DESC", most)
	err = s.events(ctx, text, args, func(e *Event) error {
		out = append(out, e)
		return nil
	})
	return out, err
}

func (s *Store) events(ctx context.Context, text string, args []any, fn func(*Event) error) error {
	return s.db.Snapshot(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(ctx, text, args...)
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			var client sql.NullString
			e, err := scanEvent(rows.Scan, &client)
			if err != nil {
				return fmt.Errorf("reading events: %w", err)
			}
			e.ClientID = client.String
			if err := fn(e); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}
