package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/harmony/id/db"
)

// CheckImport says whether an account could be made from n, and under which
// address; nothing is hashed. Its errors are *InvalidError and ErrEmailTaken, with
// which it returns the address, too.
func (s *Store) CheckImport(ctx context.Context, n NewUser) (email string, err error) {
	if n.Password != "" {
		return "", &InvalidError{"password", "cannot be imported, only its hash"}
	}
	row, err := s.newRow(n)
	if err != nil {
		return "", err
	}
	var one int64
	err = s.db.QueryRow(ctx, `SELECT 1 FROM users WHERE email = $1`, row.user.Email).Scan(&one)
	switch {
	case err == nil:
		return row.user.Email, ErrEmailTaken
	case !errors.Is(err, sql.ErrNoRows):
		return "", fmt.Errorf("looking for an address: %w", err)
	}
	return row.user.Email, nil
}

// Import makes accounts, all or none. It hashes nothing: they have the hashes that
// they bring, which are made anew when their person signs in. Its errors are
// *InvalidError and ErrEmailTaken.
func (s *Store) Import(ctx context.Context, people []NewUser, by Actor) error {
	rows := make([]*newRow, 0, len(people))
	for _, n := range people {
		row, err := s.newRow(n)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		for _, row := range rows {
			if err := row.insert(ctx, tx, by); err != nil {
				return err
			}
		}
		return nil
	})
	if taken(err) {
		return ErrEmailTaken
	}
	if err != nil {
		return fmt.Errorf("importing people: %w", err)
	}
	return nil
}
