package account

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// An Identity is what Google says of somebody, checked: signature, issuer,
// audience, nonce and life of the ID token are the caller's business.
type Identity struct {
	Issuer, Subject string // who it is (OIDC Core 2)
	Email           string
	EmailVerified   bool
	Name            string
}

var (
	// ErrUnverified means that Google does not vouch for the address.
	ErrUnverified = errors.New("the address is not verified at Google")
	// ErrUsePassword means that the address belongs to an account that signs in
	// with a password: no account changes its method by itself.
	ErrUsePassword = errors.New("the address belongs to an account with a password")
	// ErrOtherGoogle means that the address, or the session, belongs to another
	// Google account.
	ErrOtherGoogle = errors.New("this is another Google account than the one that belongs here")
	// ErrNoAccount means that nobody has an account by this identity and that none
	// is made.
	ErrNoAccount = errors.New("no account, and accounts are not made at sign-in")
	// ErrNoIdentity means that what came from Google says of nobody who it is.
	ErrNoIdentity = errors.New("an identity without a subject that can be one")
	// ErrNoFlow means that no round trip to Google waits here: it was finished
	// before, begun in another browser, or is too old.
	ErrNoFlow = errors.New("no round trip to Google waits in this browser")
)

// amrFederated is the proof of somebody who signed in elsewhere (docs/protocol.md).
const amrFederated = "fed"

// flowLife is how long a round trip to Google may take.
const flowLife = 10 * time.Minute

// A GoogleFlow is a round trip to Google that is under way.
type GoogleFlow struct {
	State     string // goes to Google and back
	Browser   string // stays with the browser
	SessionID string // of the session that is confirmed, "" for a sign-in
	To        string // the local path to go on to
	Nonce     string
	Verifier  string // of PKCE (RFC 7636)
}

const (
	statePrefix = "hgs_"
	flowPrefix  = "hgb_"
)

type flowSecrets struct {
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
}

// BeginGoogle begins a round trip. Its values are random, 256 bits each.
func (s *Store) BeginGoogle(ctx context.Context, sessionID, to string, d Device) (*GoogleFlow, error) {
	if err := s.reserve(ctx, []lane{{"google/network/" + d.Network, googlePerNetwork, passwordWindow, false}}, time.Now()); err != nil {
		return nil, err
	}
	f := &GoogleFlow{State: secret.Token(statePrefix), Browser: secret.Token(flowPrefix), SessionID: sessionID, To: to, Nonce: secret.Token(""), Verifier: secret.Token("")}
	text, err := json.Marshal(flowSecrets{f.Nonce, f.Verifier})
	if err != nil {
		return nil, fmt.Errorf("beginning a round trip: %w", err)
	}
	now, hash := time.Now(), secret.Hash(f.State)
	_, err = s.db.Exec(db.Soft(ctx), `
		INSERT INTO google_flows (state_hash, browser_hash, session_id, go_on, sealed, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		hash, secret.Hash(f.Browser), orNull(sessionID), to, s.flows.Seal(text, "google_flows/"+hex.EncodeToString(hash)), db.Micros(now), db.Micros(now.Add(flowLife)))
	if err != nil {
		return nil, fmt.Errorf("beginning a round trip: %w", err)
	}
	return f, nil
}

// TakeGoogle takes the round trip of this state out of this browser, once: of those
// who come back at once, one gets it and the others ErrNoFlow.
func (s *Store) TakeGoogle(ctx context.Context, state, browser string) (*GoogleFlow, error) {
	if !secret.IsToken(state, statePrefix) || !secret.IsToken(browser, flowPrefix) {
		return nil, ErrNoFlow
	}
	f := &GoogleFlow{State: state, Browser: browser}
	var session sql.NullString
	var sealed []byte
	hash := secret.Hash(state)
	err := s.db.Returning(ctx, `
		DELETE FROM google_flows WHERE state_hash = $1 AND browser_hash = $2 AND expires_at > $3 RETURNING session_id, go_on, sealed`,
		[]any{hash, secret.Hash(browser), db.Micros(time.Now())}, &session, &f.To, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoFlow
	}
	if err != nil {
		return nil, fmt.Errorf("ending a round trip: %w", err)
	}
	text, err := s.flows.Open(sealed, "google_flows/"+hex.EncodeToString(hash))
	if err != nil {
		return nil, fmt.Errorf("ending a round trip: %w", err)
	}
	var secrets flowSecrets
	if err := json.Unmarshal(text, &secrets); err != nil {
		return nil, fmt.Errorf("ending a round trip: %w", err)
	}
	f.SessionID, f.Nonce, f.Verifier = session.String, secrets.Nonce, secrets.Verifier
	return f, nil
}

// maxSubject bounds the length of a subject (OIDC Core 2).
const maxSubject = 255

func isSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable)
}

// CheckGoogle is the first factor of who signs in with Google: the account of this
// identity, and of no other, whatever the address. If there is none it is made, for
// good as a Google account, unless signUp is false. An address that changed at
// Google changes here if Google vouches for it and nobody else has it. Its errors
// are ErrUnverified, ErrUsePassword, ErrOtherGoogle, ErrNoAccount, ErrNoIdentity and
// ErrWrong (a disabled account).
func (s *Store) CheckGoogle(ctx context.Context, id Identity, signUp bool, d Device) (*Login, error) {
	l, err := s.checkGoogle(ctx, id, signUp, d)
	if err != nil && !errors.Is(err, ErrNoIdentity) { // which is Google's failure and no sign-in
		s.watch.SignIn("google", outcome(err))
	}
	return l, err
}

func (s *Store) checkGoogle(ctx context.Context, id Identity, signUp bool, d Device) (*Login, error) {
	if id.Issuer == "" || !isSubject(id.Subject) {
		return nil, ErrNoIdentity
	}
	l, email, err := s.googleAccount(ctx, id)
	if err == nil && l == nil {
		if err = s.newGoogleAccount(ctx, id, signUp, d); err == nil || errors.Is(err, ErrEmailTaken) || errors.Is(err, ErrOtherGoogle) {
			// It is there now, if only because somebody else made it at this moment.
			if l, email, err = s.googleAccount(ctx, id); err == nil && l == nil {
				err = ErrOtherGoogle
			}
		}
	}
	if err != nil {
		return nil, err
	}
	l.amr, l.device = []string{amrFederated}, d
	if err := s.follow(ctx, l.userID, email, id, d); err != nil {
		return nil, err
	}
	return l, nil
}

// googleAccount is the account of an identity and its address, nil if there is none.
func (s *Store) googleAccount(ctx context.Context, id Identity) (*Login, string, error) {
	var l Login
	var email string
	var set, disabled, enabled sql.NullInt64
	err := s.db.QueryRow(ctx, `
		SELECT u.id, u.email, u.password_changed_at, u.disabled_at, t.enabled_at FROM users u LEFT JOIN totp t ON t.user_id = u.id
		WHERE u.google_issuer = $1 AND u.google_subject = $2 AND u.method = 'google'`, id.Issuer, id.Subject).
		Scan(&l.userID, &email, &set, &disabled, &enabled)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("finding who signs in: %w", err)
	case disabled.Valid:
		return nil, "", ErrWrong
	}
	l.credential, l.twoFactor = set.Int64, enabled.Valid
	return &l, email, nil
}

// newGoogleAccount makes the account of an identity that comes for the first time.
func (s *Store) newGoogleAccount(ctx context.Context, id Identity, signUp bool, d Device) error {
	if !id.EmailVerified {
		return ErrUnverified
	}
	email, err := CanonicalEmail(id.Email)
	if err != nil {
		return ErrUnverified
	}
	switch u, err := s.FindUser(ctx, email); {
	case err == nil && u.Method == MethodPassword:
		return ErrUsePassword
	case err == nil:
		return ErrOtherGoogle
	case !errors.Is(err, ErrNotFound):
		return err
	case !signUp:
		return ErrNoAccount
	}
	name := id.Name
	if CheckName("name", name) != nil {
		name, _, _ = strings.Cut(email, "@")
		name = string([]rune(name)[:min(len([]rune(name)), maxName)])
	}
	_, err = s.CreateUser(ctx, NewUser{Email: email, EmailVerified: true, Name: name, Method: MethodGoogle, Google: &id, Device: d}, person)
	return err
}

// follow changes the address of an account to the one that Google has now.
func (s *Store) follow(ctx context.Context, userID, old string, id Identity, d Device) error {
	email, invalid := CanonicalEmail(id.Email)
	if invalid != nil || email == old || !id.EmailVerified {
		return nil
	}
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `
			UPDATE users SET email = $1, email_verified = 1, updated_at = $2 WHERE id = $3 AND email = $4 AND NOT EXISTS (SELECT 1 FROM users o WHERE o.email = $1)`,
			email, db.Micros(time.Now()), userID, old)
		if err != nil || n == 0 {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventEmailChanged, UserID: userID, Actor: person, Device: d, Detail: Detail{Other: old}})
	})
	if db.IsConflict(err, "users", "email") {
		return nil // somebody took it at this moment
	}
	if err != nil {
		return fmt.Errorf("following a changed address: %w", err)
	}
	s.nudge()
	return nil
}

// ProveGoogle is a fresh proof of the person of a session by a round trip to
// Google: it has to have come back with the very identity of the account. The
// session goes on under a new token. Its errors are ErrOtherGoogle, ErrNoIdentity and
// ErrNoSession.
func (s *Store) ProveGoogle(ctx context.Context, in *Session, id Identity, d Device) (token string, err error) {
	if !isSubject(id.Subject) {
		return "", ErrNoIdentity
	}
	var one int64
	err = s.db.QueryRow(ctx, `SELECT 1 FROM users WHERE id = $1 AND method = 'google' AND google_issuer = $2 AND google_subject = $3`, in.UserID, id.Issuer, id.Subject).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrOtherGoogle
	}
	if err != nil {
		return "", fmt.Errorf("proving a session: %w", err)
	}
	now := time.Now()
	err = s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if token, err = proved(ctx, tx, in.ID, now); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventSignedInAgain, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{AMR: []string{amrFederated}}})
	})
	return token, s.acted("proving a session", err)
}

// LinkGoogle has a person sign in with Google from now on: the password, its links
// and every session end. Passkeys stay, here and with UnlinkGoogle: the mail names them. Its errors are *InvalidError (among them that the identity
// belongs to another account) and ErrNotFound.
func (s *Store) LinkGoogle(ctx context.Context, userID, issuer, subject, number string, by Actor) error {
	if err := CheckCase(number); err != nil {
		return err
	}
	if !isSubject(subject) {
		return &InvalidError{"sub", "is not a subject as Google's ID tokens have it"}
	}
	return s.switchMethod(ctx, userID, MethodGoogle, &issuer, &subject, number, by)
}

// UnlinkGoogle has a person sign in with a password from now on, which a link of
// MakeLink sets. Every session ends. Its errors are *InvalidError and ErrNotFound.
func (s *Store) UnlinkGoogle(ctx context.Context, userID, number string, by Actor) error {
	if err := CheckCase(number); err != nil {
		return err
	}
	return s.switchMethod(ctx, userID, MethodPassword, nil, nil, number, by)
}

func (s *Store) switchMethod(ctx context.Context, userID string, to Method, issuer, subject *string, number string, by Actor) error {
	now := time.Now()
	err := s.inTurn(ctx, userID, func(tx *db.Tx) error {
		// password_changed_at moves in any case: what was opened with the old
		// credential is dead.
		n, err := tx.Exec(ctx, `
			UPDATE users SET method = $1, password_hash = NULL, password_changed_at = $2, google_issuer = $3, google_subject = $4, updated_at = $2 WHERE id = $5`,
			string(to), db.Micros(now), issuer, subject, userID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		if err := forgetLinks(ctx, tx, userID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM enrollments WHERE user_id = $1`, userID); err != nil {
			return err
		}
		keys, err := readPasskeys(ctx, tx, userID)
		if err != nil {
			return err
		}
		e := Event{Kind: EventMethodPassword, UserID: userID, Actor: by, Detail: Detail{Case: number, Passkeys: keys.names()}}
		if to == MethodGoogle {
			e.Kind = EventMethodGoogle
		}
		if e.Detail.Ended, err = endSessions(ctx, tx, userID, "", by, now); err != nil {
			return err
		}
		return Record(ctx, tx, e)
	})
	if db.IsConflict(err, "users", "google_issuer,google_subject") {
		return &InvalidError{"sub", "belongs to another account"}
	}
	return s.acted("switching how a person signs in", err)
}
