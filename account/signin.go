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
	email  string
	amr    []string
	at     time.Time
	hash   string // the hash that was checked
	set    int64  // when its password was set
	rehash string // its successor, if its parameters are of yesterday
	lanes  []lane // given back once the person is in
	device Device
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
	l := &Login{amr: []string{amrPassword}, device: a.Device}
	canonical, invalid := CanonicalEmail(a.Email)
	if invalid != nil {
		canonical = "" // nobody's address, and one throttle for all such
	}
	var (
		hash          sql.NullString
		set, disabled sql.NullInt64
	)
	err := s.db.QueryRow(ctx, `SELECT id, email, password_hash, password_changed_at, disabled_at FROM users WHERE email = $1`, canonical).
		Scan(&l.userID, &l.email, &hash, &set, &disabled)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("finding who signs in: %w", err)
	}
	l.lanes = s.passwordLanes(canonical, a.Device.Network, s.knownBrowser(a.Browser, l.userID))
	if err := s.reserve(ctx, l.lanes, time.Now()); err != nil {
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
	l.hash, l.set, l.at = hash.String, set.Int64, time.Now()
	if stale {
		if l.rehash, err = s.hasher.hash(ctx, a.Password); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Complete is the one gate after every first factor. If the proofs of l are
// enough, it opens a session in one transaction: the person must still be
// enabled and still have the credential that was checked (else ErrWrong). token
// is the only copy of the session's token. old is the token that the browser
// held: if it is the same person's session, that session goes on under the new
// token, so that the tokens of workspaces stay with it; anyone else's ends.
func (s *Store) Complete(ctx context.Context, l *Login, old string) (in *Session, token string, err error) {
	now := time.Now()
	token = secret.Token("hse_")
	at := db.Micros(l.at)
	amr := strings.Join(l.amr, " ")
	expires := db.Micros(now.Add(s.cfg.SessionMax))
	write := ctx
	if old == "" {
		write = db.Soft(ctx) // a session that a power cut takes away costs one more sign-in
	}
	err = s.db.Tx(write, func(tx *db.Tx) error {
		in = &Session{UserID: l.userID, Email: l.email, AuthTime: db.Time(at), AMR: l.amr, ACR: ACR1FA, CreatedAt: now.UTC(), SeenAt: now.UTC()}
		hash := l.hash
		if l.rehash != "" {
			// Loses against a change of the password, which is wrong then, and against
			// another sign-in that did the same, after which it is still the one that was checked.
			n, err := tx.Exec(ctx, `UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3`, l.rehash, l.userID, l.hash)
			if err != nil {
				return err
			}
			if n == 1 {
				hash = l.rehash
			} else {
				err := tx.QueryRow(ctx, `SELECT password_hash FROM users WHERE id = $1 AND password_changed_at = $2`, l.userID, l.set).Scan(&hash)
				if errors.Is(err, sql.ErrNoRows) {
					return ErrWrong
				}
				if err != nil {
					return err
				}
			}
		}
		if old != "" {
			var created int64
			err := tx.Returning(ctx, `
				UPDATE sessions SET token_hash = $1, auth_time = $2, amr = $3, acr = $4, address = $5, user_agent = $6, seen_at = $7, expires_at = $8
				WHERE token_hash = $9 AND user_id = $10 AND ended_at IS NULL AND expires_at > $7 AND seen_at > $11
				AND EXISTS (SELECT 1 FROM users WHERE id = $10 AND disabled_at IS NULL AND password_hash = $12)
				RETURNING id, created_at`,
				[]any{secret.Hash(token), at, amr, in.ACR, l.device.Address, l.device.UserAgent, db.Micros(now), expires,
					secret.Hash(old), l.userID, db.Micros(now.Add(-s.cfg.SessionIdle)), hash}, &in.ID, &created)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			in.CreatedAt = db.Time(created)
			if in.ID == "" {
				if _, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = $1, ended_by = 'replaced' WHERE token_hash = $2 AND ended_at IS NULL`, db.Micros(now), secret.Hash(old)); err != nil {
					return err
				}
			}
		}
		kind := "signed_in_again"
		if in.ID == "" {
			kind, in.ID, in.CreatedAt = "signed_in", secret.ID("ses_"), now.UTC()
			n, err := tx.Exec(ctx, `
				INSERT INTO sessions (id, token_hash, user_id, auth_time, amr, acr, address, user_agent, created_at, seen_at, expires_at)
				SELECT $1, $2, id, $3, $4, $5, $6, $7,
					$8, $8, $9
				FROM users WHERE id = $10 AND disabled_at IS NULL AND password_hash = $11`,
				in.ID, secret.Hash(token), at, amr, in.ACR, l.device.Address, l.device.UserAgent, db.Micros(now), expires, l.userID, hash)
			if err != nil {
				return err
			}
			if n == 0 {
				return ErrWrong
			}
		}
		if err := giveBack(ctx, tx, l.lanes); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: kind, UserID: l.userID, SessionID: in.ID, Actor: Actor{Kind: "person"}, Device: l.device})
	})
	if errors.Is(err, ErrWrong) {
		return nil, "", ErrWrong
	}
	if err != nil {
		return nil, "", fmt.Errorf("opening a session: %w", err)
	}
	return in, token, nil
}

// maxKnown bounds how many people one browser is remembered for.
const maxKnown = 8

// Remember returns the value that a browser keeps to show that the person of in
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
