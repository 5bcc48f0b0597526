package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// The events are the outbox: what is still to be told by email is an event whose
// due_at is not NULL. Any number of workers on any number of replicas may claim.

// A Letter is an event that its person has to be told of by email, claimed by one
// worker for a while.
type Letter struct {
	ID     string // the event's
	Kind   string // the event's
	At     time.Time
	Email  string // where to
	Name   string // the person's
	Zone   string // the IANA time zone that the person named, or ""
	Method Method
	Device Device // where the act came from
	Actor  Actor
	Detail Detail
	Token  string // of the link that resets the password, with EventResetRequested of a person who has one
	Tries  int    // how often it was claimed before
}

// letterLease is how long a claimed letter is its worker's alone.
const letterLease = 5 * time.Minute

// dueAtOnce is how many events one transaction looks at: most may be about
// addresses that are nobody's.
const dueAtOnce = 50

// Letters has a value when this process recorded an event that is told by email.
func (s *Store) Letters() <-chan struct{} { return s.letters }

// nudge wakes the worker of this process. Call it when a letter's transaction
// is committed; a nudge that is lost only delays the letter.
func (s *Store) nudge() { wake(s.letters) }

// ClaimLetters returns up to most letters that are due, for letterLease: who does
// not say meanwhile what became of one loses it to the next who claims. A link
// that resets the password is made here, at the last moment, and ends the one
// before it: its token is in the letter alone, its life begins now, and asking for
// it costs the same whether or not there is such a person. A Store without keys gets
// ErrNoKeys.
func (s *Store) ClaimLetters(ctx context.Context, most int) ([]Letter, error) {
	if s.addresses == nil {
		return nil, ErrNoKeys
	}
	for {
		ids, err := s.dueLetters(ctx)
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		var out []Letter
		for _, id := range slices.Backward(ids) { // the newest first: it overtakes others
			if len(out) == most {
				break
			}
			l, err := s.claim(ctx, id)
			if err != nil && len(out) > 0 {
				return out, nil // the next call says what is wrong
			}
			if err != nil {
				return nil, fmt.Errorf("claiming a letter: %w", err)
			}
			if l != nil {
				out = append(out, *l)
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		// They were nobody's, or another's: there may be more behind them.
	}
}

func (s *Store) dueLetters(ctx context.Context) ([]string, error) {
	rows, err := s.db.Query(ctx, `SELECT id FROM events WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2`, db.Micros(time.Now()), dueAtOnce)
	if err != nil {
		return nil, fmt.Errorf("looking for letters: %w", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("looking for letters: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// claim claims one letter, nil if another has it or nobody is to be told.
func (s *Store) claim(ctx context.Context, id string) (l *Letter, err error) {
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		l, err = s.claimIn(ctx, tx, id)
		return err
	})
	return l, err
}

// claimIn first waits for whatever changes the person at this moment, as inTurn does.
func (s *Store) claimIn(ctx context.Context, tx *db.Tx, id string) (*Letter, error) {
	now := time.Now()
	var sealed []byte
	var tries int
	e, err := scanEvent(tx.QueryRow(ctx, `SELECT `+eventColumns+`, sealed, tries FROM events WHERE id = $1`, id).Scan, &sealed, &tries)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	column, value := s.whom(e, sealed)
	if column != "" {
		var userID string
		if err := tx.QueryRow(ctx, `SELECT id FROM users WHERE `+column+` = $1`, value).Scan(&userID); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		if err := tx.Lock(ctx, "users", userID); err != nil {
			return nil, err
		}
	}
	n, err := tx.Exec(ctx, `UPDATE events SET due_at = $1, tries = tries + 1, tell_result = '' WHERE id = $2 AND due_at <= $3`, db.Micros(now.Add(letterLease)), id, db.Micros(now))
	if err != nil || n == 0 {
		return nil, err
	}
	if column == "" { // its key is gone: one letter is lost, the others are not held up
		return nil, giveUp(ctx, tx, e.ID, "the address cannot be opened: its encryption key is gone")
	}
	u, err := s.addressee(ctx, tx, e, sealed != nil, column, value)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, nil
	}
	l := &Letter{
		ID: e.ID, Kind: e.Kind, At: e.At, Email: u.Email, Name: u.Name, Zone: u.Claims.Zoneinfo, Method: u.Method,
		Device: e.Device, Actor: e.Actor, Detail: e.Detail, Tries: tries,
	}
	if e.Kind == EventEmailChanged { // to the address that it was
		l.Email = e.Detail.Other
	}
	if e.Kind == EventResetRequested {
		switch over, err := overtaken(ctx, tx, e, u.ID, now); {
		case err != nil:
			return nil, err
		case over:
			_, err := tx.Exec(ctx, `UPDATE events SET due_at = NULL WHERE id = $1`, e.ID)
			return nil, err
		}
	}
	if e.Kind == EventResetRequested && u.Method == MethodPassword {
		if l.Token, err = newReset(ctx, tx, u.ID, resetByEmail, now, ResetLife); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// resetWaits is how long a reset that was asked for may wait for its mail: after
// that nobody waits for it any more.
const resetWaits = 2 * time.Hour

// overtaken reports whether a reset that was asked for need not be mailed: it waited
// for too long, the password was changed meanwhile, or a newer one of the same person
// is mailed in its place.
func overtaken(ctx context.Context, tx *db.Tx, e *Event, userID string, now time.Time) (bool, error) {
	if now.Sub(e.At) > resetWaits {
		return true, nil
	}
	var newer int64
	err := tx.QueryRow(ctx, `
		SELECT (SELECT COUNT(*) FROM events WHERE user_id = $1 AND kind = $2 AND at > $3) +
			(SELECT COUNT(*) FROM users WHERE id = $1 AND password_changed_at > $3)`, userID, EventResetRequested, db.Micros(e.At)).Scan(&newer)
	return newer > 0, err
}

// whom is the column of users, and its value, by which an event's person is found; ""
// if the address was sealed with a key that is gone.
func (s *Store) whom(e *Event, sealed []byte) (column, value string) {
	if sealed == nil {
		return "id", e.UserID
	}
	address, err := s.addresses.Open(sealed, "events/"+e.ID)
	if err != nil {
		return "", ""
	}
	return "email", string(address)
}

// addressee is whom an event is told to. An event about an address that is
// nobody's is deleted, one about a person who may not sign in is not told.
func (s *Store) addressee(ctx context.Context, tx *db.Tx, e *Event, sealed bool, column, value string) (*User, error) {
	u, err := ScanUser(tx.QueryRow(ctx, `SELECT `+userColumns+` FROM users WHERE `+column+` = $1`, value).Scan)
	switch {
	case errors.Is(err, sql.ErrNoRows) && sealed:
		_, err := tx.Exec(ctx, `DELETE FROM events WHERE id = $1`, e.ID)
		return nil, err
	case errors.Is(err, sql.ErrNoRows):
		_, err := tx.Exec(ctx, `UPDATE events SET due_at = NULL WHERE id = $1`, e.ID)
		return nil, err
	case err != nil:
		return nil, err
	case !u.DisabledAt.IsZero():
		_, err := tx.Exec(ctx, `UPDATE events SET due_at = NULL, user_id = $1, sealed = NULL WHERE id = $2`, u.ID, e.ID)
		return nil, err
	}
	if sealed {
		_, err = tx.Exec(ctx, `UPDATE events SET user_id = $1, sealed = NULL WHERE id = $2`, u.ID, e.ID)
	}
	return u, err
}

// LetterSent says that a letter was taken by the mail server. Like LetterFailed and
// LetterGivenUp it does nothing to one of which that was said before.
func (s *Store) LetterSent(ctx context.Context, id string) error { return s.settle(ctx, id, nil, "") }

// LetterFailed has a letter tried again after wait. why is for operators; "" says
// that it was not really tried.
func (s *Store) LetterFailed(ctx context.Context, id, why string, wait time.Duration) error {
	again := db.Micros(time.Now().Add(wait))
	return s.settle(ctx, id, &again, strings.ToValidUTF8(why[:min(len(why), maxWhy)], "?"))
}

// maxWhy bounds what is kept of a mail server's answer, in bytes.
const maxWhy = 500

// LetterGivenUp ends the attempts to send a letter. why stands in its event.
func (s *Store) LetterGivenUp(ctx context.Context, id, why string) error {
	return s.db.Tx(ctx, func(tx *db.Tx) error { return giveUp(ctx, tx, id, why) })
}

func giveUp(ctx context.Context, tx *db.Tx, id, why string) error {
	var user sql.NullString
	err := tx.Returning(ctx, `UPDATE events SET due_at = NULL, sealed = NULL WHERE id = $1 AND due_at IS NOT NULL RETURNING user_id`, []any{id}, &user)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("giving a letter up: %w", err)
	}
	why = strings.ToValidUTF8(id+": "+why[:min(len(why), maxWhy)], "?")
	return Record(ctx, tx, Event{Kind: "mail_given_up", UserID: user.String, Actor: Actor{Kind: "mail"}, Detail: Detail{Other: why}})
}

func (s *Store) settle(ctx context.Context, id string, due *int64, why string) error {
	if _, err := s.db.Exec(ctx, `UPDATE events SET due_at = $1, tell_result = $2 WHERE id = $3 AND due_at IS NOT NULL`, due, why, id); err != nil {
		return fmt.Errorf("settling a letter: %w", err)
	}
	return nil
}

// A Waiting is an event that its person is still to be told of by email.
type Waiting struct {
	ID, Kind string // the event's
	UserID   string // whose it is; "": an address is yet to be looked up
	Since    time.Time
	Tries    int
	Next     time.Time // when it is tried, or, being tried, free for another to try
	Failed   string    // why the last attempt failed; "": it was not tried, or is being tried
}

// WaitingLetters returns up to most events that are still to be told by email, those
// that wait for the longest first.
func (s *Store) WaitingLetters(ctx context.Context, most int) ([]Waiting, error) {
	rows, err := s.db.Query(ctx, `SELECT id, kind, user_id, at, tries, due_at, tell_result FROM events WHERE due_at IS NOT NULL ORDER BY at, id LIMIT $1`, most)
	if err != nil {
		return nil, fmt.Errorf("listing letters: %w", err)
	}
	defer rows.Close()
	var out []Waiting
	for rows.Next() {
		var w Waiting
		var user sql.NullString
		var at, due int64
		if err := rows.Scan(&w.ID, &w.Kind, &user, &at, &w.Tries, &due, &w.Failed); err != nil {
			return nil, fmt.Errorf("listing letters: %w", err)
		}
		w.UserID, w.Since, w.Next = user.String, db.Time(at), db.Time(due)
		out = append(out, w)
	}
	return out, rows.Err()
}

// RetryLetters makes letters due now whose last attempt failed, and returns how many.
// One that is being tried stays its worker's: nobody gets a mail twice for it.
func (s *Store) RetryLetters(ctx context.Context) (int, error) {
	n, err := s.db.Exec(ctx, `UPDATE events SET due_at = $1 WHERE due_at > $1 AND tell_result <> ''`, db.Micros(time.Now()))
	if err != nil {
		return 0, fmt.Errorf("having letters tried again: %w", err)
	}
	return int(n), nil
}

// ResetLife is how long a link that resets the password lives when it was mailed
// (ASVS 6.5.5).
const ResetLife = 30 * time.Minute

const resetPrefix = "hrp_"

// What made a link that sets a password.
const (
	resetByEmail    = "email"
	resetByOperator = "operator"
	resetInvitation = "invitation"
)

// newReset makes a link of a person that sets a password. An older one of its kind
// ends.
func newReset(ctx context.Context, tx *db.Tx, userID, kind string, now time.Time, life time.Duration) (token string, err error) {
	token = secret.Token(resetPrefix)
	_, err = tx.Exec(ctx, `
		INSERT INTO resets (token_hash, user_id, kind, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id, kind) DO UPDATE SET token_hash = excluded.token_hash, created_at = excluded.created_at, expires_at = excluded.expires_at`,
		secret.Hash(token), userID, kind, db.Micros(now), db.Micros(now.Add(life)))
	return token, err
}
