package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harmony/id/db"
)

// What operators do for people. Each act is an event that says who did it; the
// person sees it in their activity and, where it touches how they sign in, hears of
// it by email.

// maxCase bounds the number of a case, in characters.
const maxCase = 60

// CheckCase refuses what is no case number: an operator's word for how the person
// proved who they are (ASVS 6.4.4).
func CheckCase(number string) error {
	switch {
	case strings.TrimSpace(number) == "":
		return &InvalidError{"case", "is empty: write the number under which it stands how the person proved who they are"}
	case utf8.RuneCountInString(number) > maxCase || !utf8.ValidString(number) || strings.ContainsFunc(number, unprintable):
		return &InvalidError{"case", fmt.Sprintf("is longer than %d characters or has some that cannot be seen", maxCase)}
	}
	return nil
}

// ResetTwoFactor turns a person's two-factor authentication off who has lost both
// the app and the backup codes, deletes their passkeys, which they are told the names
// of, and ends every session. number is the case under
// which it stands how they proved who they are. Its errors are *InvalidError,
// ErrNotFound and ErrOff, for who has none of it.
func (s *Store) ResetTwoFactor(ctx context.Context, userID, number string, by Actor) error {
	if err := CheckCase(number); err != nil {
		return err
	}
	now := time.Now()
	return s.acted("resetting two-factor authentication", s.inTurn(ctx, userID, func(tx *db.Tx) error {
		if err := exists(ctx, tx, userID); err != nil {
			return err
		}
		keys, err := readPasskeys(ctx, tx, userID)
		if err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM totp WHERE user_id = $1`, userID)
		if err != nil {
			return err
		}
		if n == 0 && len(keys.Keys) == 0 {
			return ErrOff
		}
		if _, err := tx.Exec(ctx, `DELETE FROM passkeys WHERE user_id = $1`, userID); err != nil {
			return err
		}
		if err := forgetSecond(ctx, tx, userID); err != nil {
			return err
		}
		e := Event{Kind: EventTwoFactorReset, UserID: userID, Actor: by, Detail: Detail{Case: number, Passkeys: keys.names()}}
		if e.Detail.Ended, err = endSessions(ctx, tx, userID, "", by, now); err != nil {
			return err
		}
		return Record(ctx, tx, e)
	}))
}

// MakeLink makes a link with which a person sets a password, for an operator to
// hand over; the token is in the result alone. A person who has none is invited by
// it, one who has is told by email that it was made. Every older link of theirs
// ends. Its errors are ErrNotFound and ErrGoogle.
func (s *Store) MakeLink(ctx context.Context, userID string, life time.Duration, by Actor) (token string, err error) {
	now := time.Now()
	err = s.inTurn(ctx, userID, func(tx *db.Tx) error {
		var method string
		var hash sql.NullString
		err := tx.QueryRow(ctx, `SELECT method, password_hash FROM users WHERE id = $1`, userID).Scan(&method, &hash)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if Method(method) != MethodPassword {
			return ErrGoogle
		}
		kind, event := resetInvitation, EventInvited
		if hash.Valid {
			kind, event = resetByOperator, EventResetLinkMade
		}
		if token, err = newReset(ctx, tx, userID, kind, now, life); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: event, UserID: userID, Actor: by})
	})
	return token, s.acted("making a link", err)
}

// EndUserSession ends one session of a person. Its error is ErrNotFound.
func (s *Store) EndUserSession(ctx context.Context, userID, id string, by Actor) error {
	return s.endOne(ctx, userID, id, "", by, Device{})
}

// EndUserSessions ends all sessions of a person and returns how many there were.
func (s *Store) EndUserSessions(ctx context.Context, userID string, by Actor) (int, error) {
	return s.endMany(ctx, userID, "", by, Device{})
}

// A Refusal is a limit that refuses somebody at this moment.
type Refusal struct {
	Limit string    // which one, as "password/account"
	Until time.Time // zero: until an operator lifts it, or a backup code is used
}

// lanesOf are the beginnings of the keys of every lane that is a person's own.
func (s *Store) lanesOf(u *User) map[string]string {
	who := s.pseudonym(u.Email)
	return map[string]string{
		"password/account":             "password/account/" + who,
		"password/account-network":     "password/account-network/" + who + "/",
		"password/account-network-day": "password/account-network-day/" + who + "/",
		"password/all":                 "password/all/" + who + "/",
		"password/browser":             "password/browser/" + who + "/",
		"password/browser-day":         "password/browser-day/" + who + "/",
		"code/account":                 "code/account/" + u.ID,
		"code/account-day":             "code/account-day/" + u.ID,
		"code/browser":                 "code/browser/" + u.ID + "/",
		"backup-code/account":          "backup-code/account/" + u.ID,
		"backup-code/browser":          "backup-code/browser/" + u.ID + "/",
		"reset/address":                "reset/address/" + who,
		"enroll":                       "enroll/" + u.ID,
	}
}

// limits are the limits and windows of the lanes of lanesOf.
var limits = map[string]lane{
	"password/account":             {"", perAccountDay, dayWindow, false},
	"password/account-network":     {"", perAccountNetwork, passwordWindow, false},
	"password/account-network-day": {"", perAccountNetworkDay, dayWindow, false},
	"password/all":                 {"", allPerNetwork, passwordWindow, true},
	"password/browser":             {"", perBrowser, passwordWindow, false},
	"password/browser-day":         {"", perBrowserDay, dayWindow, false},
	"code/account":                 {"", codesPerAccount, codeWindow, false},
	"code/account-day":             {"", codesPerDay, dayWindow, false},
	"code/browser":                 {"", codesPerBrowser, codeWindow, false},
	"backup-code/account":          {"", codesPerAccount, codeWindow, false},
	"backup-code/browser":          {"", codesPerBrowser, codeWindow, false},
	"reset/address":                {"", resetsPerAddress, resetWindow, false},
	"enroll":                       {"", setUpsPerPerson, passwordWindow, false},
}

// pattern is what LIKE compares keys with: one key, or all that begin so if it
// ends in a slash. (An order of text would depend on the database's collation.)
func pattern(key string) string {
	p := strings.NewReplacer("!", "!!", "_", "!_", "%", "!%").Replace(key)
	if strings.HasSuffix(key, "/") {
		p += "%"
	}
	return p
}

// Refusals are the limits on attempts that refuse a person at this moment, here or
// there. It needs encryption keys: the addresses in the limits' names are MACs.
func (s *Store) Refusals(ctx context.Context, u *User) ([]Refusal, error) {
	if s.ring == nil {
		return nil, ErrNoKeys
	}
	now := time.Now()
	var out []Refusal
	for name, prefix := range s.lanesOf(u) {
		l := limits[name]
		var tat sql.NullInt64
		if err := s.db.QueryRow(ctx, `SELECT MAX(tat) FROM throttles WHERE key LIKE $1 ESCAPE '!'`, pattern(prefix)).Scan(&tat); err != nil {
			return nil, fmt.Errorf("reading limits: %w", err)
		}
		if until := db.Time(tat.Int64).Add(l.interval() - l.window); tat.Valid && until.After(now) {
			out = append(out, Refusal{name, until})
		}
	}
	two, err := s.TwoFactor(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	if two != nil && two.Paused {
		out = append(out, Refusal{Limit: "codes"})
	}
	return out, nil
}

// Unthrottle lifts every limit on attempts that is a person's own, and the pause
// after too many wrong codes. It needs encryption keys.
func (s *Store) Unthrottle(ctx context.Context, u *User, by Actor) error {
	if s.ring == nil {
		return ErrNoKeys
	}
	return s.acted("lifting limits", s.db.Tx(ctx, func(tx *db.Tx) error {
		for _, prefix := range s.lanesOf(u) {
			if _, err := tx.Exec(ctx, `DELETE FROM throttles WHERE key LIKE $1 ESCAPE '!'`, pattern(prefix)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE totp SET failures = 0, login_failures = 0, login_told = 0 WHERE user_id = $1`, u.ID); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventUnthrottled, UserID: u.ID, Actor: by})
	}))
}
