package account

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A Session is a browser that a person is signed in with. That there is one is
// the proof; no flag says "second factor done".
type Session struct {
	ID        string // also the sid of ID tokens
	UserID    string
	Email     string
	Name      string
	Method    Method
	AuthTime  time.Time // of the last full authentication
	AMR       []string
	ACR       string
	CreatedAt time.Time
	SeenAt    time.Time
	ProvedAt  time.Time // of the last proof of any kind
	SecondAt  time.Time // of the last second factor; zero: none
	TwoFactor bool      // whether the person has two-factor authentication by now
	App       bool      // and an authenticator app
	Passkeys  bool      // whether the person has passkeys by now
	Verifies  bool      // and one that verified its holder before

	credential int64 // as a Login's
}

// ProofLife is how long a proof is good for changes of how a person signs in
// (ASVS 7.5.1).
const ProofLife = 10 * time.Minute

// Fresh reports whether the session was proved in the last minutes.
func (in *Session) Fresh() bool { return recent(in.ProvedAt) }

// SecondFresh reports whether a second factor was proved in the last minutes.
func (in *Session) SecondFresh() bool { return recent(in.SecondAt) }

// FreshBest reports whether the best that the person has was proved in the last
// minutes: the second factor of who has two-factor authentication (NIST SP 800-63B-4
// 4.1.2: no factor is added or removed by less).
func (in *Session) FreshBest() bool {
	if in.TwoFactor {
		return in.SecondFresh()
	}
	return in.Fresh()
}

// recent is false for times that are to come: a clock that is ahead proves nothing.
func recent(t time.Time) bool {
	age := time.Since(t)
	return !t.IsZero() && age <= ProofLife && age > -MaxSkew
}

// MaxSkew is how far the clocks of replicas may be apart. What is from further in the
// future is not fresh.
const MaxSkew = 5 * time.Second

// sessionPrefix begins the tokens of sessions.
const sessionPrefix = "hse_"

// person is who acts on the pages.
var person = Actor{Kind: "person"}

// ErrNoSession means that a token opens no session: it is nobody's, or its
// session has ended, expired or been idle too long, or its person is disabled.
var ErrNoSession = errors.New("no session")

// SessionHolds is the part of every statement on a session s and its person u
// that asks whether the person may still sign in, with the credential that the
// session was opened with. A session that opens while a reset ends all others is
// found out here.
const SessionHolds = `u.disabled_at IS NULL AND s.credential = COALESCE(u.password_changed_at, 0)`

// seenEvery is how often the time of a session's last use is written down.
const seenEvery = time.Minute

// Session returns the live session of a token, or ErrNoSession. It is one read,
// and at most once a minute one write.
func (s *Store) Session(ctx context.Context, token string) (*Session, error) {
	if !secret.IsToken(token, sessionPrefix) {
		return nil, ErrNoSession
	}
	now := time.Now()
	var (
		in                              Session
		authTime, created, seen, proved int64
		secondAt, app, verifies         sql.NullInt64
		amr, method                     string
	)
	err := s.db.QueryRow(ctx, `
		SELECT s.id, s.user_id, u.email, u.name, u.method, s.auth_time, s.amr, s.acr, s.created_at, s.seen_at, s.proved_at, s.second_at, s.credential, length(t.secret_sealed), p.verifies
		FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN totp t ON t.user_id = s.user_id
			LEFT JOIN passkeys p ON p.id = (SELECT q.id FROM passkeys q WHERE q.user_id = s.user_id ORDER BY q.verifies DESC, q.id LIMIT 1)
		WHERE s.token_hash = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND s.seen_at > $3 AND `+SessionHolds,
		secret.Hash(token), db.Micros(now), db.Micros(now.Add(-s.cfg.SessionIdle))).
		Scan(&in.ID, &in.UserID, &in.Email, &in.Name, &method, &authTime, &amr, &in.ACR, &created, &seen, &proved, &secondAt, &in.credential, &app, &verifies)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoSession
	}
	if err != nil {
		return nil, fmt.Errorf("reading a session: %w", err)
	}
	in.Method, in.AMR = Method(method), strings.Fields(amr)
	in.AuthTime, in.CreatedAt, in.SeenAt = db.Time(authTime), db.Time(created), db.Time(seen)
	in.ProvedAt, in.TwoFactor, in.App = db.Time(proved), app.Valid, app.Int64 > 0
	in.Passkeys, in.Verifies = verifies.Valid, verifies.Int64 == 1
	if secondAt.Valid {
		in.SecondAt = db.Time(secondAt.Int64)
	}
	if now.Sub(in.SeenAt) >= seenEvery {
		if _, err := s.db.Exec(db.Soft(ctx), `UPDATE sessions SET seen_at = $1 WHERE id = $2 AND ended_at IS NULL`, db.Micros(now), in.ID); err != nil {
			return nil, fmt.Errorf("noting a session's use: %w", err)
		}
	}
	return &in, nil
}

// EndSession ends the session of a token, and with it every code and token it
// led to, in one statement: whatever reads a grant joins a session that has not
// ended. It ends one that was idle too long as well, for its grants live on.
// With only, it ends that session and no other. It returns the id of the one that it
// ended, or "": ending twice, or what never was, changes nothing.
func (s *Store) EndSession(ctx context.Context, token, only string, by Actor, d Device) (id string, err error) {
	if !secret.IsToken(token, sessionPrefix) {
		return "", nil
	}
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		e := Event{Kind: "signed_out", Actor: by, Device: d}
		err := tx.Returning(ctx, `
			UPDATE sessions SET ended_at = $1, ended_by = $2
			WHERE token_hash = $3 AND ended_at IS NULL AND (CAST($4 AS TEXT) = '' OR id = $4) RETURNING id, user_id`,
			[]any{db.Micros(time.Now()), by.String(), secret.Hash(token), only}, &e.SessionID, &e.UserID)
		if id = e.SessionID; errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return Record(ctx, tx, e)
	})
	if err != nil {
		return "", fmt.Errorf("ending a session: %w", err)
	}
	if id != "" {
		wake(s.ended)
	}
	return id, nil
}

// rotate gives a session that is alive a new token (ASVS 7.2.4).
func rotate(ctx context.Context, tx *db.Tx, id string) (token string, err error) {
	token = secret.Token(sessionPrefix)
	n, err := tx.Exec(ctx, `UPDATE sessions SET token_hash = $1 WHERE id = $2 AND ended_at IS NULL`, secret.Hash(token), id)
	if err == nil && n == 0 {
		err = ErrNoSession
	}
	return token, err
}

// proved writes down that a session was proved now, and rotates its token.
func proved(ctx context.Context, tx *db.Tx, id string, now time.Time) (token string, err error) {
	if _, err := tx.Exec(ctx, `UPDATE sessions SET proved_at = $1 WHERE id = $2`, db.Micros(now), id); err != nil {
		return "", err
	}
	return rotate(ctx, tx, id)
}

// raise rotates a session's token after a second factor was proved, and writes down
// what that adds to amr.
func raise(ctx context.Context, tx *db.Tx, in *Session, amr []string, now time.Time) (token string, err error) {
	if token, err = rotate(ctx, tx, in.ID); err != nil {
		return "", err
	}
	switch first := keyFirst(in.AMR); {
	case first && in.ACR == ACR2FA: // all that was proved at sign-in stays true
		amr = in.AMR
	case first && keyFirst(amr): // the key, which checked who holds it this time (see proveSecond)
	default:
		amr = withAMR(in.AMR, amr)
	}
	_, err = tx.Exec(ctx, `UPDATE sessions SET amr = $1, acr = $2, second_at = $3 WHERE id = $4`,
		strings.Join(amr, " "), ACR2FA, db.Micros(now), in.ID)
	return token, err
}

// withAMR is a first factor's amr with a second factor's.
func withAMR(first, second []string) []string { return append(FirstFactor(first), second...) }

// FirstFactor is what of amr does not come from a second factor. A passkey is the first
// factor where neither a password nor Google was.
func FirstFactor(amr []string) []string {
	for _, first := range []string{amrPassword, amrFederated} {
		if slices.Contains(amr, first) {
			return []string{first}
		}
	}
	return slices.DeleteFunc(slices.Clone(amr), func(a string) bool { return a == amrOTP || a == amrMFA })
}

// keyFirst reports whether amr begins with a passkey.
func keyFirst(amr []string) bool {
	return len(amr) > 0 && (amr[0] == amrHardware || amr[0] == amrSoftware)
}

// Whole reports whether amr is one passkey that was both factors: nothing that becomes
// of another second factor changes that. (A key that was only touched is followed by
// the code of an app, see Finish.)
func Whole(amr []string) bool {
	return keyFirst(amr) && slices.Contains(amr, amrMFA) && !slices.Contains(amr, amrOTP)
}

// notWhole is the part of a statement on a session that asks the contrary of Whole.
const notWhole = `amr NOT IN ('` + amrHardware + ` ` + amrUser + ` ` + amrMFA + `', '` + amrSoftware + ` ` + amrUser + ` ` + amrMFA + `')`

// endSessions ends the sessions of a person but for one (keep, "" for none), and
// with them every code and token they led to. It returns how many there were.
func endSessions(ctx context.Context, tx *db.Tx, userID, keep string, by Actor, now time.Time) (int, error) {
	n, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = $1, ended_by = $2 WHERE user_id = $3 AND id <> $4 AND ended_at IS NULL AND expires_at > $1`,
		db.Micros(now), by.String(), userID, keep)
	return int(n), err
}

// A Proof is what a signed-in person proves afresh: a password or a second factor.
type Proof struct {
	Password string
	Second   *SecondFactor // in place of Password
	Browser  string        // the last Passage.Known of this browser, or ""
	Device   Device
}

// Prove judges a fresh proof of the person of a session. If it is right, the
// session goes on under a new token, proved by it now; a second factor raises the
// session. Its errors are ErrWrong, ErrUsed, ErrPaused, ErrOff, ErrGoogle, ErrTooLong,
// ErrBusy, *ThrottledError, ErrNoSession and, for a passkey, ErrNoCeremony,
// ErrUnknownPasskey, ErrNotVerified and ErrCloned.
func (s *Store) Prove(ctx context.Context, in *Session, f Proof) (token string, err error) {
	known := s.knownBrowser(f.Browser, in.UserID, in.credential)
	if f.Second != nil {
		return s.proveSecond(ctx, in, *f.Second, known, f.Device)
	}
	hash, err := s.checkOwnPassword(ctx, in, f.Password, known, f.Device.Network)
	if err != nil {
		return "", err
	}
	now := time.Now()
	err = s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		var one int64
		err := tx.QueryRow(ctx, `SELECT 1 FROM users WHERE id = $1 AND password_hash = $2`, in.UserID, hash).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrWrong // changed meanwhile
		}
		if err != nil {
			return err
		}
		if token, err = proved(ctx, tx, in.ID, now); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventSignedInAgain, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: f.Device, Detail: Detail{AMR: []string{amrPassword}}})
	})
	return token, s.acted("proving a session", err)
}

func (s *Store) proveSecond(ctx context.Context, in *Session, f SecondFactor, known string, d Device) (token string, err error) {
	// A touch is all that is left of the session's sign-in, when the app that was
	// asked beside it is gone: what does not do after it there does not do here.
	touched := keyFirst(in.AMR) && in.ACR == ACR1FA
	if touched && f.Backup {
		return "", ErrWrong
	}
	p, err := s.judge(ctx, Event{Kind: EventConfirmFailed, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d}, known, f)
	if err != nil {
		return "", err
	}
	if touched && p.key != nil && !p.key.verified {
		return "", ErrNotVerified
	}
	defer func() { err = s.refused(ctx, p.key, in.ID, d, err) }()
	now := time.Now()
	err = s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		left, err := spend(ctx, tx, in.UserID, p)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE sessions SET proved_at = $1 WHERE id = $2`, db.Micros(now), in.ID); err != nil {
			return err
		}
		if token, err = raise(ctx, tx, in, p.amr(), now); err != nil {
			return err
		}
		e := Event{Kind: EventSignedInAgain, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{AMR: p.amr()}}
		if f.Backup {
			e.Kind, e.Detail = EventCodeUsed, Detail{Left: left}
		}
		return Record(ctx, tx, e)
	})
	s.watch.SecondFactor(outcome(err))
	if f.Backup {
		return token, s.told("proving a session", err)
	}
	return token, s.acted("proving a session", err)
}

// checkOwnPassword checks the password of the person of a session, in the lanes
// of sign-in: a stolen session is no place to guess from (ACC-01). It returns the
// hash that it was right for.
func (s *Store) checkOwnPassword(ctx context.Context, in *Session, password, known, network string) (hash string, err error) {
	if tooLong(password) {
		return "", ErrTooLong
	}
	if in.Method != MethodPassword {
		return "", ErrGoogle
	}
	var stored sql.NullString
	if err := s.db.QueryRow(ctx, `SELECT password_hash FROM users WHERE id = $1`, in.UserID).Scan(&stored); err != nil {
		return "", fmt.Errorf("reading a password: %w", err)
	}
	lanes := s.passwordLanes(in.Email, network, known)
	if err := s.reserve(ctx, lanes, time.Now()); err != nil {
		return "", err
	}
	if !stored.Valid {
		return "", ErrWrong
	}
	right, _, err := s.hasher.check(ctx, password, stored.String)
	if err != nil {
		return "", err
	}
	if !right {
		return "", ErrWrong
	}
	return stored.String, s.giveBack(ctx, lanes)
}

// A SessionInfo is one of a person's sessions, as its person sees it.
type SessionInfo struct {
	ID        string
	Device    Device
	AMR       []string
	CreatedAt time.Time
	SeenAt    time.Time
}

// Sessions returns up to most sessions of a person that have not ended, the last
// used first, and how many there are in all. One that was idle for too long is
// among them: what it gave to workspaces lives on.
func (s *Store) Sessions(ctx context.Context, userID string, most int) (list []SessionInfo, all int, err error) {
	rows, err := s.db.Query(ctx, `
		SELECT s.id, s.address, s.user_agent, s.amr, s.created_at, s.seen_at, COUNT(*) OVER () FROM sessions s JOIN users u ON u.id = s.user_id
		WHERE s.user_id = $1 AND s.ended_at IS NULL AND s.expires_at > $2 AND `+SessionHolds+` ORDER BY s.seen_at DESC, s.id LIMIT $3`,
		userID, db.Micros(time.Now()), most)
	if err != nil {
		return nil, 0, fmt.Errorf("reading a person's sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var i SessionInfo
		var amr string
		var created, seen int64
		if err := rows.Scan(&i.ID, &i.Device.Address, &i.Device.UserAgent, &amr, &created, &seen, &all); err != nil {
			return nil, 0, fmt.Errorf("reading a person's sessions: %w", err)
		}
		i.AMR, i.CreatedAt, i.SeenAt = strings.Fields(amr), db.Time(created), db.Time(seen)
		list = append(list, i)
	}
	return list, all, rows.Err()
}

// OtherSessions is how many sessions a person has besides this one.
func (s *Store) OtherSessions(ctx context.Context, in *Session) (n int, err error) {
	err = s.db.QueryRow(ctx, `
		SELECT COUNT(*) FROM sessions s JOIN users u ON u.id = s.user_id
		WHERE s.user_id = $1 AND s.id <> $2 AND s.ended_at IS NULL AND s.expires_at > $3 AND `+SessionHolds,
		in.UserID, in.ID, db.Micros(time.Now())).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("counting a person's sessions: %w", err)
	}
	return n, nil
}

// EndOther ends one other session of the person, and with it every code and
// token it led to. Its errors are ErrProofNeeded, ErrNoSession and ErrNotFound, which
// is also the answer for somebody else's session.
func (s *Store) EndOther(ctx context.Context, in *Session, id string, d Device) error {
	if !in.Fresh() {
		return ErrProofNeeded
	}
	return s.endOne(ctx, in.UserID, id, in.ID, person, d)
}

func (s *Store) endOne(ctx context.Context, userID, id, not string, by Actor, d Device) error {
	now := db.Micros(time.Now())
	return s.acted("ending a session", s.inTurn(ctx, userID, func(tx *db.Tx) error {
		if err := alive(ctx, tx, not); err != nil {
			return err
		}
		e := Event{Kind: EventSessionEnded, UserID: userID, SessionID: id, Actor: by, Device: d}
		err := tx.Returning(ctx, `
			UPDATE sessions SET ended_at = $1, ended_by = $2 WHERE id = $3 AND user_id = $4 AND id <> $5 AND ended_at IS NULL AND expires_at > $1 RETURNING user_agent`,
			[]any{now, by.String(), id, userID, not}, &e.Detail.Other)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		return Record(ctx, tx, e)
	}))
}

// alive refuses, with ErrNoSession, an act of a session that ended meanwhile. ""
// is an operator's, who has none.
func alive(ctx context.Context, tx *db.Tx, id string) error {
	if id == "" {
		return nil
	}
	var one int64
	err := tx.QueryRow(ctx, `SELECT 1 FROM sessions WHERE id = $1 AND ended_at IS NULL`, id).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNoSession
	}
	return err
}

// EndOthers ends all other sessions of the person and returns how many there
// were. Its errors are ErrProofNeeded and ErrNoSession.
func (s *Store) EndOthers(ctx context.Context, in *Session, d Device) (int, error) {
	if !in.Fresh() {
		return 0, ErrProofNeeded
	}
	return s.endMany(ctx, in.UserID, in.ID, person, d)
}

func (s *Store) endMany(ctx context.Context, userID, keep string, by Actor, d Device) (n int, err error) {
	err = s.inTurn(ctx, userID, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM logins WHERE user_id = $1`, userID); err != nil {
			return err
		}
		if err := alive(ctx, tx, keep); err != nil {
			return err
		}
		if n, err = endSessions(ctx, tx, userID, keep, by, time.Now()); err != nil || n == 0 {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventSessionsEnded, UserID: userID, SessionID: keep, Actor: by, Device: d, Detail: Detail{Ended: n}})
	})
	return n, s.acted("ending sessions", err)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") { // which the decoder would skip
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil && len(b) > 0
}
