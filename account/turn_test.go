package account

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/secret"
)

// A crossing is a database on which one act comes in the middle of another's
// transaction.
type crossing struct {
	*Store
	t      *testing.T
	engine string
	at     atomic.Pointer[string] // the beginning of the statement at which it comes
	act    func() error
	came   chan error
}

func newCrossing(t *testing.T, engine string) *crossing {
	t.Helper()
	c := &crossing{t: t, engine: engine, came: make(chan error, 1)}
	ring, err := secret.ParseRing(secret.GenerateKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	c.Store = New(dbtest.New(t, engine, db.Observe(c.observe)), ring, Config{})
	return c
}

func (c *crossing) observe(_ context.Context, query string) {
	at := c.at.Load()
	if at == nil || !strings.HasPrefix(strings.TrimSpace(query), *at) || !c.at.CompareAndSwap(at, nil) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.came <- c.act()
	}()
	for c.engine == "postgres" { // SQLite's one writer is held up by who asks
		select {
		case <-done:
			return
		default:
		}
		var waiting int
		err := c.db.QueryRow(context.Background(), `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil || waiting > 0 {
			return
		}
	}
}

// cross runs first and, at its statement that begins so, second. It returns both
// errors.
func (c *crossing) cross(at string, first, second func() error) (error, error) {
	c.t.Helper()
	c.act = second
	c.at.Store(&at)
	err := first()
	if c.at.Load() != nil {
		c.t.Fatalf("no statement %q", at)
	}
	return err, <-c.came
}

// code is what an app with this key shows now.
func code(t *testing.T, key string) string {
	t.Helper()
	now, err := totp.GenerateCode(key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return now
}

const turnPassword = "an old brass telescope"

func (c *crossing) signedIn(u *User) (*Session, *Login) {
	c.t.Helper()
	l, err := c.CheckPassword(c.t.Context(), Attempt{Email: u.Email, Password: turnPassword})
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := c.Complete(c.t.Context(), l, "", "")
	if err != nil {
		c.t.Fatal(err)
	}
	in, err := c.Session(c.t.Context(), p.Session)
	if err != nil {
		c.t.Fatal(err)
	}
	return in, l
}

// I4, I5: who comes in by one factor while two-factor authentication is being turned
// on, or while the person is disabled, is not signed in afterwards: whichever of the
// two came first.
func TestSignInMeetsChange(t *testing.T) {
	const last = "INSERT INTO events" // of either
	for name, firstIsSignIn := range map[string]bool{"change, then sign-in": false, "sign-in, then change": true} {
		for what, change := range map[string]func(c *crossing, in *Session, code string) error{
			"enable": func(c *crossing, in *Session, code string) error {
				_, err := c.EnableTwoFactor(context.Background(), in, code, true, Device{})
				return err
			},
			"disable the person": func(c *crossing, in *Session, _ string) error {
				return c.DisableUser(context.Background(), in.UserID, Actor{Kind: "operator", Name: "root"})
			},
		} {
			t.Run(what+"/"+name, func(t *testing.T) {
				dbtest.Each(t, func(t *testing.T, engine string) {
					c := newCrossing(t, engine)
					u := c.person(t, NewUser{Email: "ada@example.com", Name: "Ada", Password: turnPassword})
					in, l := c.signedIn(u)
					if err := c.Enroll(t.Context(), in, PurposeTOTP, false); err != nil {
						t.Fatal(err)
					}
					e, err := c.Enrollment(t.Context(), in, PurposeTOTP)
					if err != nil {
						t.Fatal(err)
					}
					var p Passage
					signIn := func() (err error) {
						p, err = c.Complete(context.Background(), l, "", "")
						return err
					}
					changing := func() error { return change(c, in, code(t, e.Key)) }
					var changed, signedIn error
					if firstIsSignIn {
						signedIn, changed = c.cross(last, signIn, changing)
					} else {
						changed, signedIn = c.cross(last, changing, signIn)
					}
					if changed != nil || signedIn != nil && !errors.Is(signedIn, ErrWrong) {
						t.Fatalf("change: %v, sign-in: %v", changed, signedIn)
					}
					for _, other := range c.texts(t, `SELECT id FROM sessions WHERE ended_at IS NULL`) {
						if other != in.ID {
							t.Errorf("%s is still signed in by one factor (sign-in: %+v, %v)", other, p, signedIn)
						}
					}
				})
			})
		}
	}
}

// RST: a link that was asked for before the password changed dies with the old
// password, mailed before, meanwhile or not yet; and the two wait for each other in
// one order.
func TestLinkMeetsChange(t *testing.T) {
	for who, ask := range map[string]func(c *crossing, in *Session) error{
		"a stranger": func(c *crossing, in *Session) error {
			return c.RequestReset(c.t.Context(), in.Email, Device{Network: "192.0.2.1/32"})
		},
		"the owner": func(c *crossing, in *Session) error { return c.RequestOwnReset(c.t.Context(), in, Device{}) },
	} {
		for order, at := range map[string]string{"mail, then change": "INSERT INTO resets", "change, then mail": "UPDATE users", "change before": ""} {
			t.Run(who+"/"+order, func(t *testing.T) {
				dbtest.Each(t, func(t *testing.T, engine string) {
					c := newCrossing(t, engine)
					u := c.person(t, NewUser{Email: "ada@example.com", Name: "Ada", Password: turnPassword})
					in, _ := c.signedIn(u)
					for len(c.claimed(t, 10)) > 0 { // what was told before
					}
					if err := ask(c, in); err != nil {
						t.Fatal(err)
					}
					var letters []Letter
					claim := func() (err error) {
						letters, err = c.ClaimLetters(context.Background(), 10)
						return err
					}
					change := func() error {
						_, _, err := c.ChangePassword(context.Background(), in, turnPassword, "a new brass telescope", true, "", Device{})
						return err
					}
					var claimed, changed error
					switch {
					case at == "":
						changed, claimed = change(), claim()
					case order == "mail, then change":
						claimed, changed = c.cross(at, claim, change)
					default:
						changed, claimed = c.cross(at, change, claim)
					}
					if claimed != nil || changed != nil {
						t.Fatalf("claim: %v, change: %v", claimed, changed)
					}
					if n := len(c.texts(t, `SELECT user_id FROM resets`)); n != 0 {
						t.Errorf("%d links of before still set a password", n)
					}
					for _, l := range append(letters, c.claimed(t, 10)...) {
						if _, err := c.Link(t.Context(), l.Token, Device{}); l.Token != "" && !errors.Is(err, ErrNoLink) {
							t.Errorf("%s: the link of before still sets a password: %v", l.Kind, err)
						}
					}
					if engine == "postgres" {
						if n := c.texts(t, `SELECT CAST(deadlocks AS TEXT) FROM pg_stat_database WHERE datname = current_database()`); n[0] != "0" {
							t.Errorf("%s deadlocks", n[0])
						}
					}
				})
			})
		}
	}
}
