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

// Authentication context classes (acr) that a session can have.
const (
	ACR1FA = "urn:harmony:acr:1fa"
)

// Authentication method references (amr, RFC 8176).
const (
	amrPassword = "pwd"
)

// An Attempt is what a person put into the sign-in form, and where it came from.
type Attempt struct {
	Email    string
	Password string
	Browser  string // the value that Remember gave to this browser, or ""
	Device   Device
}

// A Login is a person on the way in: who they are and what they have proved so
// far. It is not a session and opens nothing; Complete decides whether it is
// enough for one.
type Login struct {
	userID string
	amr    []string
	at     time.Time
	// credential is when the password was set that was in force, 0 if there was
	// none: a login is worth nothing once it was changed.
	credential int64
	device     Device
}

// UserID is the person's id.
func (l *Login) UserID() string { return l.userID }

// CheckPassword judges an attempt by password. Every attempt is counted before
// it is judged. Its errors are ErrWrong, *ThrottledError, ErrTooLong and ErrBusy;
// all that is not the right password of an enabled account is ErrWrong, after the same work.
func (s *Store) CheckPassword(ctx context.Context, a Attempt) (*Login, error) {
	if tooLong(a.Password) {
		return nil, ErrTooLong
	}
	canonical, invalid := CanonicalEmail(a.Email)
	if invalid != nil {
		canonical = "" // nobody's address
	}
	var (
		userID        string
		hash          sql.NullString
		set, disabled sql.NullInt64
	)
	err := s.db.QueryRow(ctx, `SELECT id, password_hash, password_changed_at, disabled_at FROM users WHERE email = $1`, canonical).
		Scan(&userID, &hash, &set, &disabled)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("finding who signs in: %w", err)
	}
	address := canonical
	if invalid != nil {
		address = "not an address: " + a.Email // counts as one of its own
	}
	lanes := s.passwordLanes(address, a.Device.Network, s.knownBrowser(a.Browser, userID))
	if err := s.reserve(ctx, lanes, time.Now()); err != nil {
		return nil, err
	}
	if !hash.Valid || disabled.Valid {
		if err := s.hasher.pretend(ctx, a.Password); err != nil {
			return nil, err
		}
		return nil, ErrWrong
	}
	right, stale, err := s.hasher.check(ctx, a.Password, hash.String)
	if err != nil {
		return nil, fmt.Errorf("checking a password: %w", err)
	}
	if !right {
		return nil, ErrWrong
	}
	if err := s.giveBack(ctx, lanes); err != nil {
		return nil, err
	}
	if stale {
		if err := s.rehash(ctx, userID, a.Password, hash.String); err != nil {
			return nil, err
		}
	}
	return &Login{userID: userID, amr: []string{amrPassword}, at: time.Now(), credential: set.Int64, device: a.Device}, nil
}

// rehash replaces a hash whose parameters are of yesterday. It loses against a
// change of the password and against another sign-in that does the same.
func (s *Store) rehash(ctx context.Context, userID, password, old string) error {
	anew, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	if _, err := s.db.Exec(ctx, `UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3`, anew, userID, old); err != nil {
		return fmt.Errorf("hashing a password anew: %w", err)
	}
	return nil
}

// Complete is the one gate after every first factor. If the proofs of l are
// enough, it opens a session in one transaction: the person must still be
// enabled and have the credential that was in force (else ErrWrong). token
// is the only copy of the session's token. old is the token that the browser
// held: if it is the same person's session, that session goes on under the new
// token, so that the tokens of workspaces stay with it; anyone else's ends.
func (s *Store) Complete(ctx context.Context, l *Login, old string) (token string, err error) {
	now := time.Now()
	token = secret.Token("hse_")
	at, amr, expires := db.Micros(l.at), strings.Join(l.amr, " "), db.Micros(now.Add(s.cfg.SessionMax))
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		e := Event{Kind: "signed_in_again", UserID: l.userID, Actor: Actor{Kind: "person"}, Device: l.device}
		if old != "" {
			err := tx.Returning(ctx, `
				UPDATE sessions SET token_hash = $1, auth_time = $2, amr = $3, acr = $4, address = $5, user_agent = $6, seen_at = $7, expires_at = $8
				WHERE token_hash = $9 AND user_id = $10 AND ended_at IS NULL AND expires_at > $7 AND seen_at > $11
				AND EXISTS (SELECT 1 FROM users WHERE id = $10 AND disabled_at IS NULL AND COALESCE(password_changed_at, 0) = $12)
				RETURNING id`,
				[]any{secret.Hash(token), at, amr, ACR1FA, l.device.Address, l.device.UserAgent, db.Micros(now), expires,
					secret.Hash(old), l.userID, db.Micros(now.Add(-s.cfg.SessionIdle)), l.credential}, &e.SessionID)
			if err == nil {
				return Record(ctx, tx, e)
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = $1, ended_by = 'replaced' WHERE token_hash = $2 AND ended_at IS NULL`, db.Micros(now), secret.Hash(old)); err != nil {
				return err
			}
		}
		e.Kind, e.SessionID = "signed_in", secret.ID("ses_")
		n, err := tx.Exec(ctx, `
			INSERT INTO sessions (id, token_hash, user_id, auth_time, amr, acr, address, user_agent, created_at, seen_at, expires_at)
			SELECT $1, $2, id, $3, $4, $5, $6, $7, $8, $8, $9
			FROM users WHERE id = $10 AND disabled_at IS NULL AND COALESCE(password_changed_at, 0) = $11`,
			e.SessionID, secret.Hash(token), at, amr, ACR1FA, l.device.Address, l.device.UserAgent, db.Micros(now), expires, l.userID, l.credential)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrWrong
		}
		return Record(ctx, tx, e)
	})
	if errors.Is(err, ErrWrong) {
		return "", ErrWrong
	}
	if err != nil {
		return "", fmt.Errorf("opening a session: %w", err)
	}
	return token, nil
}

// maxKnown bounds how many people one browser is remembered for.
const maxKnown = 8

// Remember returns the value that a browser keeps to show that this person
// signed in with it before. It goes on from what the browser held. It proves
// nothing; it only keeps strangers from locking the person out.
func (s *Store) Remember(held, userID string) string {
	id, people := s.openBrowser(held)
	if id == "" {
		id = secret.ID("")
	}
	people = slices.DeleteFunc(people, func(p string) bool { return p == userID })
	people = append([]string{userID}, people[:min(len(people), maxKnown-1)]...)
	return encode(s.browsers.Seal([]byte(strings.Join(append([]string{id}, people...), " ")), ""))
}

// knownBrowser is the id of a browser in which the person signed in before, or "".
func (s *Store) knownBrowser(held, userID string) string {
	if id, people := s.openBrowser(held); userID != "" && slices.Contains(people, userID) {
		return id
	}
	return ""
}

func (s *Store) openBrowser(held string) (id string, people []string) {
	sealed, ok := decode(held)
	if !ok {
		return "", nil
	}
	plain, err := s.browsers.Open(sealed, "")
	if err != nil {
		return "", nil
	}
	f := strings.Fields(string(plain))
	return f[0], f[1:]
}
