package account

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
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

// sql is the filter's condition, and its arguments.
func (f Filter) sql() (where string, args []any) {
	var conditions []string
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
	if len(conditions) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(conditions, " AND "), args
}

// Events calls fn for every event that the filter means, the oldest first, one at a
// time: all that there were at one moment.
func (s *Store) Events(ctx context.Context, f Filter, fn func(*Event) error) error {
	where, args := f.sql()
	return s.events(ctx, `SELECT `+eventColumns+`, client_id FROM events`+where+` ORDER BY at, id`, args, fn)
}

// LastEvents returns the last events that the filter means, most at the most, the
// newest first.
func (s *Store) LastEvents(ctx context.Context, f Filter, most int) (out []*Event, err error) {
	where, args := f.sql()
	text := fmt.Sprintf(`SELECT %s, client_id FROM events%s ORDER BY at DESC, id DESC LIMIT $%d`, eventColumns, where, len(args)+1)
	err = s.events(ctx, text, append(slices.Clone(args), most), func(e *Event) error {
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
