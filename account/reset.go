package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// ChangePassword sets a new password for the person of a session who knows the
// present one. The session goes on under a new token; with endOthers the person's
// other sessions end (ASVS 7.4.3). In any case this browser alone stays a known one, and links that set a password and half sign-ins end
// in any case. Of those who change the same password at once, one wins. Its errors
// are ErrWrong, ErrGoogle, ErrTooLong, ErrBusy, *ThrottledError, *WeakError and
// ErrNoSession.
func (s *Store) ChangePassword(ctx context.Context, in *Session, present, anew string, endOthers bool, browser string, d Device) (p Passage, ended int, err error) {
	before, err := s.checkOwnPassword(ctx, in, present, s.knownBrowser(browser, in.UserID, in.credential), d.Network)
	if err != nil {
		return Passage{}, 0, err
	}
	if anew == present {
		return Passage{}, 0, &WeakError{Code: "same", Reason: "it is the one that you have"}
	}
	if err := s.checkNewPassword(anew, in.Email, in.Name); err != nil {
		return Passage{}, 0, err
	}
	hash, err := s.hasher.hash(ctx, anew)
	if err != nil {
		return Passage{}, 0, err
	}
	now := time.Now()
	err = s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		// What holds now goes on with the new credential, what does not stays dead.
		if _, err := tx.Exec(ctx, `
			UPDATE sessions SET credential = $1 WHERE user_id = $2 AND ended_at IS NULL
			AND credential = (SELECT COALESCE(password_changed_at, 0) FROM users WHERE id = $2)`, db.Micros(now), in.UserID); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `
			UPDATE users SET password_hash = $1, password_changed_at = $2, updated_at = $2 WHERE id = $3 AND password_hash = $4 AND disabled_at IS NULL`,
			hash, db.Micros(now), in.UserID, before)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrWrong
		}
		if err := forgetLinks(ctx, tx, in.UserID); err != nil {
			return err
		}
		if p.Session, err = proved(ctx, tx, in.ID, now); err != nil {
			return err
		}
		if ended = 0; endOthers {
			if ended, err = endSessions(ctx, tx, in.UserID, in.ID, person, now); err != nil {
				return err
			}
		}
		return Record(ctx, tx, Event{Kind: EventPasswordChanged, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{Ended: ended}})
	})
	if err == nil {
		p.Known = s.remember(browser, in.UserID, db.Micros(now))
	}
	return p, ended, s.told("changing a password", err)
}

// forgetLinks ends what was begun with a password that is no more, links that are
// still to be mailed among it.
func forgetLinks(ctx context.Context, tx *db.Tx, userID string) error {
	for _, q := range []string{
		`DELETE FROM resets WHERE user_id = $1`, `DELETE FROM logins WHERE user_id = $1`,
		`UPDATE events SET due_at = NULL WHERE user_id = $1 AND due_at IS NOT NULL AND kind = '` + EventResetRequested + `'`,
	} {
		if _, err := tx.Exec(ctx, q, userID); err != nil {
			return err
		}
	}
	return nil
}

// RequestReset has a link that resets the password mailed to an address. Whether
// there is such a person makes no difference to what it does, costs or answers
// (ASVS 6.3.8): that is found out when the mail is sent. An address that had its
// share of mails gets no more. Its errors are *InvalidError, for what is no address,
// and *ThrottledError, for a network that asks too often.
func (s *Store) RequestReset(ctx context.Context, email string, d Device) error {
	canonical, err := CanonicalEmail(email)
	if err != nil {
		return err
	}
	if err := s.reserve(ctx, []lane{{"reset/network/" + d.Network, resetsPerNetwork, resetWindow, false}}, time.Now()); err != nil {
		return err
	}
	err = s.reserve(ctx, s.resetLane(canonical), time.Now())
	if _, full := errors.AsType[*ThrottledError](err); full {
		return nil
	}
	if err != nil {
		return err
	}
	e := Event{ID: newEventID(), Kind: EventResetRequested, Actor: person, Device: d}
	e.sealed = s.addresses.Seal([]byte(canonical), "events/"+e.ID)
	return s.told("asking for a reset", s.db.Tx(ctx, func(tx *db.Tx) error { return Record(ctx, tx, e) }))
}

func (s *Store) resetLane(email string) []lane {
	return []lane{{"reset/address/" + s.pseudonym(email), resetsPerAddress, resetWindow, false}}
}

// RequestOwnReset has the link mailed to the person of a session. Its errors are
// ErrGoogle and *ThrottledError.
func (s *Store) RequestOwnReset(ctx context.Context, in *Session, d Device) error {
	if in.Method != MethodPassword {
		return ErrGoogle
	}
	if err := s.reserve(ctx, s.resetLane(in.Email), time.Now()); err != nil {
		return err
	}
	e := Event{Kind: EventResetRequested, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d}
	return s.told("asking for a reset", s.db.Tx(ctx, func(tx *db.Tx) error { return Record(ctx, tx, e) }))
}

// A Link is a link that sets a password.
type Link struct {
	Email, Name string
	Invitation  bool // to set a first one

	userID string
}

// Link returns what a link's token is good for, and spends nothing: mail scanners
// open links, too. Its errors are ErrNoLink and, for a network that tries too many
// that are none, *ThrottledError.
func (s *Store) Link(ctx context.Context, token string, d Device) (*Link, error) {
	l, err := s.link(ctx, token)
	if !errors.Is(err, ErrNoLink) {
		return l, err
	}
	if err := s.reserve(ctx, []lane{{"link/network/" + d.Network, linksPerNetwork, resetWindow, false}}, time.Now()); err != nil {
		return nil, err
	}
	return nil, ErrNoLink
}

func (s *Store) link(ctx context.Context, token string) (*Link, error) {
	if !secret.IsToken(token, resetPrefix) {
		return nil, ErrNoLink
	}
	var l Link
	var kind string
	err := s.db.QueryRow(ctx, `
		SELECT u.id, u.email, u.name, r.kind FROM resets r JOIN users u ON u.id = r.user_id
		WHERE r.token_hash = $1 AND r.expires_at > $2 AND u.disabled_at IS NULL AND u.method = 'password'`,
		secret.Hash(token), db.Micros(time.Now())).Scan(&l.userID, &l.Email, &l.Name, &kind)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoLink
	}
	if err != nil {
		return nil, fmt.Errorf("reading a link: %w", err)
	}
	l.Invitation = kind == resetInvitation
	return &l, nil
}

// ExpiredLink returns the address that a link was mailed to, even if it is too old
// by now, "" if it never was or is gone.
func (s *Store) ExpiredLink(ctx context.Context, token string) (email string, err error) {
	if !secret.IsToken(token, resetPrefix) {
		return "", nil
	}
	err = s.db.QueryRow(ctx, `SELECT u.email FROM resets r JOIN users u ON u.id = r.user_id WHERE r.token_hash = $1`, secret.Hash(token)).Scan(&email)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("reading a link: %w", err)
	}
	return email, nil
}

// ResetPassword sets a new password by a link, which only a password that can be
// set spends: of those who come at once, one wins. Every session of the person ends,
// and with it every token (ASVS 7.4.3); nobody is signed in by it, and two-factor
// authentication and passkeys stay as they are (ASVS 6.4.3): the mail names them. The
// browser, whose last Passage.Known is given, is a known one from then on, so that who
// is locked out of a new browser by strangers' guesses gets in by a link: known is its
// next. Its errors are ErrNoLink, *WeakError and ErrBusy.
func (s *Store) ResetPassword(ctx context.Context, token, anew, browser string, d Device) (known string, err error) {
	l, err := s.link(ctx, token)
	if err != nil {
		return "", err
	}
	userID := l.userID
	if err := s.checkNewPassword(anew, l.Email, l.Name); err != nil {
		return "", err
	}
	hash, err := s.hasher.hash(ctx, anew)
	if err != nil {
		return "", err
	}
	now := time.Now()
	err = s.inTurn(ctx, userID, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM resets WHERE token_hash = $1 AND user_id = $2 AND expires_at > $3`, secret.Hash(token), userID, db.Micros(now))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNoLink
		}
		n, err = tx.Exec(ctx, `
			UPDATE users SET password_hash = $1, password_changed_at = $2, updated_at = $2 WHERE id = $3 AND method = 'password' AND disabled_at IS NULL`,
			hash, db.Micros(now), userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNoLink
		}
		if err := forgetLinks(ctx, tx, userID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM enrollments WHERE user_id = $1`, userID); err != nil {
			return err
		}
		e := Event{Kind: EventPasswordReset, UserID: userID, Actor: person, Device: d}
		keys, err := readPasskeys(ctx, tx, userID)
		if err != nil {
			return err
		}
		e.Detail.Passkeys = keys.names()
		if l.Invitation { // nothing was there that could be reset
			e.Kind = EventPasswordSet
		}
		if e.Detail.Ended, err = endSessions(ctx, tx, userID, "", person, now); err != nil {
			return err
		}
		return Record(ctx, tx, e)
	})
	if err == nil {
		known = s.remember(browser, userID, db.Micros(now))
	}
	return known, s.told("resetting a password", err)
}
