// Package account owns every row about a person and is the only package that
// can verify anything: users, passwords, second factors, sessions, throttles, events.
//
// It knows nothing of HTTP. What a person proves becomes a Login; Complete, the
// one gate after every first factor, turns a Login into a session once the
// proofs are enough.
package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// Config bounds what a Store does. The zero value of a field means its default.
type Config struct {
	// HashMemory bounds the memory of password hashing at once, in bytes.
	// Default 256 MiB.
	HashMemory int64
	// PasswordMinLength is the least number of characters of a new password
	// (ASVS 6.2.1 asks 8 at least). Default 12.
	PasswordMinLength int
	// SessionIdle ends a session that no request used for so long. Default 72 h.
	SessionIdle time.Duration
	// SessionMax ends a session however busy it is (ASVS 7.3.2). Default 30 days.
	SessionMax time.Duration
	// Watch is told what the Store decides.
	Watch Watch
	// Issuer is the provider's address: passkeys are bound to its host, and taken at
	// its origin alone. nil: nobody has any.
	Issuer *url.URL
}

// A Store keeps people and what they prove themselves with. It may be used by
// many goroutines.
type Store struct {
	db         *db.DB
	ring       *secret.Ring
	browsers   *secret.Box
	totp       *secret.Box
	pending    *secret.Box // what is shown and not confirmed yet
	addresses  *secret.Box // of people who are yet to be looked up
	flows      *secret.Box
	notices    *secret.Box
	ceremonies *secret.Box
	keys       *webauthn.WebAuthn // nil: nobody has passkeys
	hasher     *hasher
	cfg        Config
	watch      Watch
	letters    chan struct{}
	ended      chan struct{}
}

// New returns a Store over a migrated database. The operator's commands hold no
// keys: with a nil ring nobody signs in and all else works.
func New(d *db.DB, ring *secret.Ring, cfg Config) *Store {
	cfg.HashMemory = cmp.Or(cfg.HashMemory, 256<<20)
	cfg.PasswordMinLength = cmp.Or(cfg.PasswordMinLength, 12)
	cfg.SessionIdle = cmp.Or(cfg.SessionIdle, 72*time.Hour)
	cfg.SessionMax = cmp.Or(cfg.SessionMax, 30*24*time.Hour)
	s := &Store{db: d, ring: ring, cfg: cfg, watch: cfg.Watch.complete(), letters: make(chan struct{}, 1), ended: make(chan struct{}, 1)}
	s.hasher = newHasher(cfg.HashMemory)
	s.hasher.took = s.watch.Hashed
	if ring != nil {
		s.browsers, s.totp, s.pending, s.addresses = ring.Box("browser"), ring.Box(boxTOTP), ring.Box(boxPending), ring.Box(boxAddresses)
		s.flows, s.notices, s.ceremonies = ring.Box(boxFlows), ring.Box("notice"), ring.Box(boxCeremonies)
		s.keys = newWebAuthn(cfg.Issuer)
	}
	return s
}

// Sealed are the columns that keep what the encryption keys seal.
func Sealed() []secret.Column {
	return []secret.Column{
		{Table: "totp", Column: "secret_sealed", Key: "user_id", Purpose: boxTOTP},
		{Table: "enrollments", Column: "sealed", Key: "user_id", Purpose: boxPending},
		{Table: "ceremonies", Column: "sealed", Key: "token_hash", Purpose: boxCeremonies},
		{Table: "google_flows", Column: "sealed", Key: "state_hash", Purpose: boxFlows},
		{Table: "events", Column: "sealed", Key: "id", Purpose: boxAddresses},
	}
}

// The purposes of the boxes whose values are kept in rows.
const (
	boxTOTP       = "totp"
	boxPending    = "enrollment"
	boxFlows      = "google flow"
	boxCeremonies = "passkey ceremony"
	boxAddresses  = "address"
)

// SealNotice makes of a text what a browser may keep until its next page: nobody
// else reads or writes it (SES-01).
func (s *Store) SealNotice(text string) string { return encode(s.notices.Seal([]byte(text), "")) }

// OpenNotice is the text of SealNotice, "" of anything else.
func (s *Store) OpenNotice(sealed string) string {
	b, ok := decode(sealed)
	if !ok {
		return ""
	}
	text, err := s.notices.Open(b, "")
	if err != nil {
		return ""
	}
	return string(text)
}

// PasswordMinLength is the least number of characters of a new password.
func (s *Store) PasswordMinLength() int { return s.cfg.PasswordMinLength }

var (
	// ErrNotFound means that there is no such person.
	ErrNotFound = errors.New("no such person")
	// ErrEmailTaken means that another account has the address.
	ErrEmailTaken = errors.New("another account has this email address")
	// ErrWrong is the one answer to a sign-in that proves nothing: unknown
	// address, wrong password, no password, disabled account (ASVS 6.3.8).
	ErrWrong = errors.New("wrong email address or password")
	// ErrBusy means that too many passwords wait to be hashed; it passes.
	ErrBusy = errors.New("too many people are signing in at once")
	// ErrTooLong means that a password is longer than any that can be set; it
	// was not hashed.
	ErrTooLong = errors.New("password is too long")
	// ErrUsed means that a code was right, and used before.
	ErrUsed = errors.New("the code was used already")
	// ErrPaused means that codes are refused after too many wrong ones; a backup
	// code ends that, or an operator.
	ErrPaused = errors.New("codes are refused after too many wrong ones")
	// ErrNoLogin means that nobody is half signed in here: too late, or tried too
	// often, or never begun.
	ErrNoLogin = errors.New("no sign-in is under way")
	// ErrProofNeeded means that the last proof is too old for what is to be done.
	ErrProofNeeded = errors.New("a proof of the last minutes is needed")
	// ErrOn means that two-factor authentication is on already, ErrOff that it is off.
	ErrOn  = errors.New("two-factor authentication is on already")
	ErrOff = errors.New("two-factor authentication is off")
	// ErrNoEnrollment means that nothing is being set up in this session, or no longer.
	ErrNoEnrollment = errors.New("nothing is being set up")
	// ErrNoLink means that a link sets no password: it was used, replaced, is too
	// old, or never was.
	ErrNoLink = errors.New("the link is not valid any more")
	// ErrNoKeys means that the Store was made without encryption keys, which this needs.
	ErrNoKeys = errors.New("this needs the encryption keys")
	// ErrGoogle means that the person signs in with Google and has no password to
	// change.
	ErrGoogle = errors.New("this person signs in with Google")
)

// An InvalidError says which field of a request cannot be and why, in words for
// the person who wrote it.
type InvalidError struct {
	Field, Reason string
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// A WeakError refuses a new password. Code is for programs: short, long,
// symbols, personal or breached. Reason says the same to the person.
type WeakError struct {
	Code, Reason string
}

func (e *WeakError) Error() string { return "password refused: " + e.Reason }

// A ThrottledError refuses an attempt unseen. Wait is the time until the next
// one is let through.
type ThrottledError struct {
	Wait time.Duration
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many attempts, next one in %s", e.Wait.Round(time.Second))
}

// An Actor is who did something: an "operator" with the name of their account at
// the machine, a "person", a "client" by its id.
type Actor struct {
	Kind, Name string
}

func (a Actor) String() string {
	if a.Name == "" {
		return a.Kind
	}
	return a.Kind + ":" + a.Name
}

// A Device is where a request came from, as it is kept with sessions and events.
type Device struct {
	Address   string // textual IP address
	Network   string // its /32 or /64, the throttles' unit
	UserAgent string
}

// inTurn runs a transaction about how a person proves who they are, or about their
// sessions, after those of the same person that are under way: what one finds, none
// changes meanwhile. A session must not open by one factor while the second is
// being turned on, or while the person is disabled (I4 of the security cases).
func (s *Store) inTurn(ctx context.Context, userID string, fn func(*db.Tx) error) error {
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "users", userID); err != nil {
			return err
		}
		return fn(tx)
	})
	if err == nil {
		wake(s.ended)
	}
	return err
}

// Ended has a value when this process did what may have ended sessions. Which ones
// did end, and of whatever process, their rows say.
func (s *Store) Ended() <-chan struct{} { return s.ended }

// wake tells who waits for c; one that is lost only delays.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// SessionKept is how long a session is kept after it ended or expired, with its grants:
// workspaces are told of its end meanwhile.
const SessionKept = 24 * time.Hour

// The next sessions that are over, which ended or expired before $1, for the statements of
// house-keeping.
const (
	endedSessions   = `SELECT id FROM sessions WHERE ended_at < $1 ORDER BY ended_at, id LIMIT ` + db.SweepRows
	expiredSessions = `SELECT id FROM sessions WHERE expires_at < $1 ORDER BY expires_at, id LIMIT ` + db.SweepRows
)

// Clean deletes what has expired: sessions when SessionKept is over,
// throttles that are at rest, half sign-ins and set-ups that
// were left, links a day after their end, and what happened to people when nobody
// is shown it any more; what operators did stays for operatorActAge. Call it every minute or so;
// any number of replicas may.
//
// A session may have thousands of grants, which go with it at once, while everybody waits
// on SQLite. So grants is called before each few sessions are deleted; it deletes the grants of
// the sessions that the query over, with its argument, yields. It may be nil.
func (s *Store) Clean(ctx context.Context, grants func(ctx context.Context, over string, before int64) error) error {
	if err := s.cleanSessions(ctx, grants); err != nil {
		return fmt.Errorf("house-keeping: %w", err)
	}
	now := time.Now()
	for _, q := range []struct {
		text   string
		before time.Time
	}{
		{`DELETE FROM throttles WHERE key IN (SELECT key FROM throttles WHERE tat < $1 ORDER BY tat LIMIT ` + db.SweepRows + `) AND tat < $1`, now},
		{`DELETE FROM logins WHERE token_hash IN (SELECT token_hash FROM logins WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `) AND expires_at < $1`, now},
		{`DELETE FROM enrollments WHERE user_id IN (SELECT user_id FROM enrollments WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `) AND expires_at < $1`, now},
		{`DELETE FROM ceremonies WHERE token_hash IN (SELECT token_hash FROM ceremonies WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `) AND expires_at < $1`, now},
		{`DELETE FROM google_flows WHERE state_hash IN (SELECT state_hash FROM google_flows WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `) AND expires_at < $1`, now},
		{`DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < $1 AND substr(actor, 1, 8) <> 'operator' AND due_at IS NULL ORDER BY at LIMIT ` + db.SweepRows + `)`, now.Add(-ActivityAge)},
		{`DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < $1 AND substr(actor, 1, 8) = 'operator' AND due_at IS NULL ORDER BY at LIMIT ` + db.SweepRows + `)`, now.Add(-operatorActAge)},
		{`DELETE FROM resets WHERE token_hash IN (SELECT token_hash FROM resets WHERE expires_at < $1 ORDER BY expires_at LIMIT ` + db.SweepRows + `) AND expires_at < $1`, now.Add(-24 * time.Hour)},
	} {
		if err := s.db.Sweep(ctx, q.text, db.Micros(q.before)); err != nil {
			return fmt.Errorf("house-keeping: %w", err)
		}
	}
	return nil
}

func (s *Store) cleanSessions(ctx context.Context, grants func(ctx context.Context, over string, before int64) error) error {
	before := db.Micros(time.Now().Add(-SessionKept))
	for _, q := range []struct{ over, text string }{
		{endedSessions, `DELETE FROM sessions WHERE id IN (` + endedSessions + `) AND ended_at < $1`},
		{expiredSessions, `DELETE FROM sessions WHERE id IN (` + expiredSessions + `) AND expires_at < $1`},
	} {
		for {
			if grants != nil {
				if err := grants(ctx, q.over, before); err != nil {
					return err
				}
			}
			n, err := s.db.Exec(db.Soft(ctx), q.text, before)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
		}
	}
	return nil
}
