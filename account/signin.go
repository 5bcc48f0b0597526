package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// Authentication context classes (acr) that a session can have.
const (
	ACR1FA = "urn:harmony:acr:1fa"
	ACR2FA = "urn:harmony:acr:2fa"
)

// Authentication method references (amr, RFC 8176).
const (
	amrPassword = "pwd"
	amrOTP      = "otp"
	amrMFA      = "mfa"
)

// An Attempt is what a person put into the sign-in form, and where it came from.
type Attempt struct {
	Email    string
	Password string
	Browser  string // the last Passage.Known of this browser, or ""
	Device   Device
}

// A Login is a person on the way in: who they are and what they have proved so
// far. It is not a session and opens nothing; Complete decides whether it is
// enough for one.
type Login struct {
	userID string
	amr    []string
	// credential is when the password was set that was in force, 0 if there was
	// none: a login is worth nothing once it was changed.
	credential int64
	device     Device
	twoFactor  bool       // as it was when the proof was judged; Complete decides
	key        *assertion // the passkey that was the proof, or nil
}

// UserID is the person's id.
func (l *Login) UserID() string { return l.userID }

// CheckPassword judges an attempt by password. Every attempt is counted before
// it is judged. Its errors are ErrWrong, *ThrottledError, ErrTooLong and ErrBusy;
// all that is not the right password of an enabled account is ErrWrong, after the same work.
func (s *Store) CheckPassword(ctx context.Context, a Attempt) (*Login, error) {
	l, err := s.checkPassword(ctx, a)
	if err != nil {
		s.watch.SignIn("password", outcome(err))
	}
	return l, err
}

func (s *Store) checkPassword(ctx context.Context, a Attempt) (*Login, error) {
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
		enabled       sql.NullInt64
	)
	err := s.db.QueryRow(ctx, `
		SELECT u.id, u.password_hash, u.password_changed_at, u.disabled_at, t.enabled_at
		FROM users u LEFT JOIN totp t ON t.user_id = u.id WHERE u.email = $1`, canonical).
		Scan(&userID, &hash, &set, &disabled, &enabled)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("finding who signs in: %w", err)
	}
	address := canonical
	if invalid != nil {
		address = "not an address: " + a.Email // counts as one of its own
	}
	lanes := s.passwordLanes(address, a.Device.Network, s.knownBrowser(a.Browser, userID, set.Int64))
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
	return &Login{userID: userID, amr: []string{amrPassword}, credential: set.Int64, device: a.Device, twoFactor: enabled.Valid}, nil
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

// HalfLife is how long a half sign-in waits for its second factor.
const HalfLife = 10 * time.Minute

// halfTries is how many wrong codes it survives.
const halfTries = 10

const loginPrefix = "hlo_"

// A Passage is what a login led to: the only copy of the token of a session or,
// if the person has two-factor authentication, of a half sign-in.
type Passage struct {
	Session string
	Half    string
	// Known is what the browser keeps, for KnownFor, to show that this person
	// signed in with it before. It proves nothing; it only keeps strangers from
	// locking the person out. It is worth nothing once the password was changed
	// elsewhere.
	Known string
}

// Complete is the one gate after every first factor: password, Google, whatever is
// to come. If the proofs of l are enough, it opens a session in one transaction;
// of a person with two-factor authentication they are not, and a half sign-in
// waits for the second, which opens nothing. That is decided in the statements
// themselves, so that a set-up which ends at this moment counts. A passkey that
// verified its holder is both factors; one that did not opens nothing by itself
// (ErrNotVerified), and one of which there may be a copy nothing at all (ErrCloned).
// The person must
// still be enabled and have the credential that was in force (else ErrWrong). old
// is the token that the browser held: if it is the same person's session, that
// session goes on under the new token, so that the tokens of workspaces stay with
// it; anyone else's ends. browser is the last Passage.Known that it was given, or "".
func (s *Store) Complete(ctx context.Context, l *Login, old, browser string) (p Passage, err error) {
	o := opening{userID: l.userID, amr: l.amr, acr: ACR1FA, credential: l.credential, old: old, device: l.device, newBrowser: s.knownBrowser(browser, l.userID, l.credential) == ""}
	err = s.inTurn(ctx, l.userID, func(tx *db.Tx) error {
		p = Passage{}
		if l.key != nil {
			if err := l.key.use(ctx, tx, time.Now()); err != nil {
				return err
			}
			if l.key.verified {
				o.acr = ACR2FA
				p.Session, err = s.open(ctx, tx, o)
				return err
			}
		}
		if !l.twoFactor {
			token, err := s.open(ctx, tx, o)
			if !errors.Is(err, ErrWrong) {
				p.Session = token
				return err
			}
		}
		// Not enough, or not any more.
		token := secret.Token(loginPrefix)
		now := time.Now()
		n, err := tx.Exec(ctx, `
			INSERT INTO logins (token_hash, user_id, amr, credential, new_browser, tries, created_at, expires_at)
			SELECT $1, u.id, $2, $3, $4, 0, $5, $6 FROM users u JOIN totp t ON t.user_id = u.id
			WHERE u.id = $7 AND u.disabled_at IS NULL AND COALESCE(u.password_changed_at, 0) = $3`,
			secret.Hash(token), strings.Join(l.amr, " "), l.credential, flag(o.newBrowser), db.Micros(now), db.Micros(now.Add(HalfLife)), l.userID)
		if err != nil {
			return err
		}
		if n == 1 {
			p.Half = token
			return nil
		}
		switch {
		case l.key != nil:
			return ErrNotVerified
		case !l.twoFactor:
			return ErrWrong
		}
		p.Session, err = s.open(ctx, tx, o) // it was turned off a moment ago
		return err
	})
	if err = s.refused(ctx, l.key, "", l.device, err); err != nil {
		return Passage{}, s.acted("opening a session", err)
	}
	if p.Session != "" {
		p.Known = s.remember(browser, l.userID, l.credential)
	}
	result := outcome(err)
	if err == nil && p.Half != "" {
		result = "half"
	}
	s.watch.SignIn(method(l.amr), result)
	if o.newBrowser {
		return p, s.told("opening a session", err)
	}
	return p, s.acted("opening a session", err)
}

// An opening is a session that is to be opened.
type opening struct {
	userID     string
	amr        []string
	acr        string
	credential int64
	old        string
	device     Device
	newBrowser bool
}

// open opens a session or goes on with the old one. Only with acr ACR2FA, whose
// second factor was spent in the same transaction, it does so for a person with
// two-factor authentication. Its error is ErrWrong.
func (s *Store) open(ctx context.Context, tx *db.Tx, o opening) (token string, err error) {
	now := time.Now()
	token = secret.Token(sessionPrefix)
	at, amr, expires := db.Micros(now), strings.Join(o.amr, " "), db.Micros(now.Add(s.cfg.SessionMax))
	var secondAt *int64
	if o.acr == ACR2FA {
		secondAt = &at
	}
	const may = `u.disabled_at IS NULL AND COALESCE(u.password_changed_at, 0) = $1 AND (CAST($2 AS TEXT) = '` + ACR2FA + `' OR NOT EXISTS (SELECT 1 FROM totp t WHERE t.user_id = u.id))`
	e := Event{Kind: EventSignedInAgain, UserID: o.userID, Actor: person, Device: o.device, Detail: Detail{AMR: o.amr, New: o.newBrowser}}
	if o.old != "" {
		err := tx.Returning(ctx, `
			UPDATE sessions SET token_hash = $3, auth_time = $4, amr = $5, acr = $2, address = $6, user_agent = $7, seen_at = $4, expires_at = $8, proved_at = $4, second_at = $9, credential = $1
			WHERE token_hash = $10 AND user_id = $11 AND ended_at IS NULL AND expires_at > $4 AND seen_at > $12
			AND EXISTS (SELECT 1 FROM users u WHERE u.id = $11 AND `+may+`)
			RETURNING id`,
			[]any{o.credential, o.acr, secret.Hash(token), at, amr, o.device.Address, o.device.UserAgent, expires, secondAt,
				secret.Hash(o.old), o.userID, db.Micros(now.Add(-s.cfg.SessionIdle))}, &e.SessionID)
		if err == nil {
			return token, Record(ctx, tx, e)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
	}
	e.Kind, e.SessionID = EventSignedIn, secret.ID("ses_")
	n, err := tx.Exec(ctx, `
		INSERT INTO sessions (id, token_hash, user_id, auth_time, amr, acr, address, user_agent, created_at, seen_at, expires_at, proved_at, second_at, credential)
		SELECT $3, $4, u.id, $5, $6, $2, $7, $8, $5, $5, $9, $5, $10, $1 FROM users u WHERE u.id = $11 AND `+may,
		o.credential, o.acr, e.SessionID, secret.Hash(token), at, amr, o.device.Address, o.device.UserAgent, expires, secondAt, o.userID)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", ErrWrong
	}
	if o.old != "" {
		if _, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = $1, ended_by = 'replaced' WHERE token_hash = $2 AND ended_at IS NULL`, at, secret.Hash(o.old)); err != nil {
			return "", err
		}
	}
	if err := s.makeRoom(ctx, tx, o, e.SessionID, now); err != nil {
		return "", err
	}
	if o.newBrowser {
		told, err := first(ctx, tx, "told/sign-in/"+o.userID+"/"+o.device.Network, now, newSignInWindow)
		if err != nil {
			return "", err
		}
		e.hushed = !told
	}
	return token, Record(ctx, tx, e)
}

// maxSessions is how many sessions a person has at the most. One more ends the one
// that was not used for the longest time, as the person's activity says (ASVS 7.1.2).
const maxSessions = 50

// limitReached is who ends a session of which there are too many.
var limitReached = Actor{Kind: "limit"}

func (s *Store) makeRoom(ctx context.Context, tx *db.Tx, o opening, opened string, now time.Time) error {
	rows, err := tx.Query(ctx, `
		SELECT id, user_agent FROM sessions WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL AND expires_at > $3
		ORDER BY seen_at DESC, created_at DESC LIMIT $4 OFFSET $5`, o.userID, opened, db.Micros(now), maxSessions, maxSessions-1)
	if err != nil {
		return err
	}
	defer rows.Close()
	var out []Event
	for rows.Next() {
		e := Event{Kind: EventSessionEnded, UserID: o.userID, Actor: limitReached, Device: o.device}
		if err := rows.Scan(&e.SessionID, &e.Detail.Other); err != nil {
			return err
		}
		out = append(out, e)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, e := range out {
		if _, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = $1, ended_by = $2 WHERE id = $3`, db.Micros(now), limitReached.String(), e.SessionID); err != nil {
			return err
		}
		if err := Record(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// A Half is a person whose first proof was right and whose second is to come.
type Half struct {
	UserID   string
	Email    string
	Method   Method
	App      bool // an authenticator app can be asked
	Passkeys bool // a passkey can be asked for: it was not the first proof
	KeyFirst bool // a key that was only touched was the first proof: only the app's code will do

	amr        []string
	credential int64
	newBrowser bool
}

// Half returns who waits under a half sign-in's token, or ErrNoLogin.
func (s *Store) Half(ctx context.Context, token string) (*Half, error) {
	if !secret.IsToken(token, loginPrefix) {
		return nil, ErrNoLogin
	}
	var h Half
	var amr, method string
	var fresh int64
	var app, key sql.NullInt64
	err := s.db.QueryRow(ctx, `
		SELECT l.user_id, u.email, u.method, l.amr, l.credential, l.new_browser, length(t.secret_sealed), p.verifies
		FROM logins l JOIN users u ON u.id = l.user_id LEFT JOIN totp t ON t.user_id = l.user_id
			LEFT JOIN passkeys p ON p.id = (SELECT MIN(q.id) FROM passkeys q WHERE q.user_id = l.user_id)
		WHERE l.token_hash = $1 AND l.expires_at > $2 AND l.tries < $3 AND u.disabled_at IS NULL`,
		secret.Hash(token), db.Micros(time.Now()), halfTries).Scan(&h.UserID, &h.Email, &method, &amr, &h.credential, &fresh, &app, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoLogin
	}
	if err != nil {
		return nil, fmt.Errorf("reading a half sign-in: %w", err)
	}
	h.Method, h.amr, h.newBrowser = Method(method), strings.Fields(amr), fresh == 1
	h.KeyFirst = keyFirst(h.amr)
	h.App, h.Passkeys = app.Int64 > 0, key.Valid && !h.KeyFirst && s.keys != nil
	return &h, nil
}

// AbandonHalf forgets a half sign-in.
func (s *Store) AbandonHalf(ctx context.Context, token string) error {
	if !secret.IsToken(token, loginPrefix) {
		return nil
	}
	if _, err := s.db.Exec(ctx, `DELETE FROM logins WHERE token_hash = $1`, secret.Hash(token)); err != nil {
		return fmt.Errorf("forgetting a half sign-in: %w", err)
	}
	return nil
}

// Finish judges the second factor of a half sign-in. If it is right, it is spent,
// the half sign-in ends and the session opens, all in one transaction. Its errors are
// ErrNoLogin, ErrWrong, ErrUsed, ErrPaused, ErrBusy, *ThrottledError and, for a passkey,
// ErrNoCeremony, ErrUnknownPasskey and ErrCloned.
func (s *Store) Finish(ctx context.Context, half string, f SecondFactor, old, browser string, d Device) (p Passage, err error) {
	h, err := s.Half(ctx, half)
	if err != nil {
		return Passage{}, err
	}
	e := Event{Kind: EventCodeFailed, UserID: h.UserID, Actor: person, Device: d, Detail: Detail{AMR: h.amr}}
	if f.Passkey != nil {
		answer := *f.Passkey
		answer.half = half
		f.Passkey = &answer
	}
	if h.KeyFirst && (f.Backup || f.Passkey != nil) { // a key and a piece of paper are things that lie together
		return Passage{}, ErrWrong
	}
	proof, err := s.judge(ctx, e, s.knownBrowser(browser, h.UserID, h.credential), f)
	if err != nil {
		if _, throttled := errors.AsType[*ThrottledError](err); !throttled && !errors.Is(err, ErrBusy) {
			n, counting := s.db.Exec(db.Soft(context.WithoutCancel(ctx)), `UPDATE logins SET tries = tries + 1 WHERE token_hash = $1`, secret.Hash(half))
			switch {
			case counting != nil: // what was not counted is not told to be right or wrong
				return Passage{}, fmt.Errorf("counting an attempt: %w", counting)
			case n == 0:
				return Passage{}, ErrNoLogin
			}
		}
		return Passage{}, err
	}
	err = s.inTurn(ctx, h.UserID, func(tx *db.Tx) error {
		left, err := spend(ctx, tx, h.UserID, proof)
		if err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `DELETE FROM logins WHERE token_hash = $1 AND expires_at > $2 AND tries < $3`, secret.Hash(half), db.Micros(time.Now()), halfTries)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNoLogin
		}
		p.Session, err = s.open(ctx, tx, opening{
			userID: h.UserID, amr: withAMR(h.amr, proof.amr()), acr: ACR2FA, credential: h.credential, old: old, device: d, newBrowser: h.newBrowser,
		})
		if err != nil || !f.Backup {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventCodeUsed, UserID: h.UserID, Actor: person, Device: d, Detail: Detail{Left: left}})
	})
	err = s.refused(ctx, proof.key, "", d, err)
	s.watch.SecondFactor(outcome(err))
	if err == nil {
		s.watch.SignIn(method(h.amr), "ok")
		p.Known = s.remember(browser, h.UserID, h.credential)
	}
	if f.Backup || h.newBrowser {
		return p, s.told("finishing a sign-in", err)
	}
	return p, s.acted("finishing a sign-in", err)
}

// maxKnown bounds how many people one browser is remembered for.
const maxKnown = 8

// KnownFor is how long a browser is a known one after its person signed in with it.
const KnownFor = 180 * 24 * time.Hour

// An acquaintance is a person who signed in with a browser before: with which
// credential, and when.
type acquaintance struct {
	userID         string
	credential, at int64
}

// remember returns the value for Passage.Known. It goes on from what the browser held.
func (s *Store) remember(held, userID string, credential int64) string {
	id, people := s.openBrowser(held)
	if id == "" {
		id = secret.ID("")
	}
	people = slices.DeleteFunc(people, func(p acquaintance) bool { return p.userID == userID })
	people = append([]acquaintance{{userID, credential, db.Micros(time.Now())}}, people[:min(len(people), maxKnown-1)]...)
	text := id
	for _, p := range people {
		text += fmt.Sprintf(" %s %d %d", p.userID, p.credential, p.at)
	}
	return encode(s.browsers.Seal([]byte(text), ""))
}

// knownBrowser is the id of a browser in which the person signed in before, with
// the credential that is in force, or "". Who only knew a password that was changed
// is a stranger again.
func (s *Store) knownBrowser(held, userID string, credential int64) string {
	id, people := s.openBrowser(held)
	since := db.Micros(time.Now().Add(-KnownFor))
	if userID != "" && slices.ContainsFunc(people, func(p acquaintance) bool { return p.userID == userID && p.credential == credential && p.at > since }) {
		return id
	}
	return ""
}

func (s *Store) openBrowser(held string) (id string, people []acquaintance) {
	sealed, ok := decode(held)
	if !ok {
		return "", nil
	}
	plain, err := s.browsers.Open(sealed, "")
	if err != nil {
		return "", nil
	}
	f := strings.Fields(string(plain))
	const words = 3 // of an acquaintance
	if len(f)%words != 1 {
		return "", nil
	}
	for p := range slices.Chunk(f[1:], words) {
		credential, err1 := strconv.ParseInt(p[1], 10, 64)
		at, err2 := strconv.ParseInt(p[2], 10, 64)
		if err1 != nil || err2 != nil {
			return "", nil
		}
		people = append(people, acquaintance{p[0], credential, at})
	}
	return f[0], people
}
