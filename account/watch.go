package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/harmony/id/db"
)

// A Watch is told what a Store decides, where it decides it, for the operator's
// metrics: how it ended and never about whom. A function that is nil is told nothing.
// They are called on the goroutine that does the work and must not wait.
type Watch struct {
	// SignIn is told how a sign-in ended, once for each. method is "password",
	// "google" or "passkey". result is "ok" (a session was opened), "half" (the first proof was
	// right and the second is to come), "wrong", "throttled", "busy", "refused" (by a
	// rule about Google accounts, or a key that did not verify its holder where it has
	// to), "over" (it was not asked for, or not any more), "cloned" (there may be a copy
	// of the key) or "error".
	SignIn func(method, result string)
	// SecondFactor is told of each code or passkey in its place: "ok", "wrong", "used", "paused",
	// "throttled", "busy", "over" (nothing waited for it any more), "refused", "cloned"
	// or "error".
	SecondFactor func(result string)
	// Throttled is told which lane refused an attempt.
	Throttled func(lane string)
	// Hashed is told how long a password's hash took, without the wait for its turn.
	Hashed func(took time.Duration)
}

func (w Watch) complete() Watch {
	if w.SignIn == nil {
		w.SignIn = func(string, string) {}
	}
	if w.SecondFactor == nil {
		w.SecondFactor = func(string) {}
	}
	if w.Throttled == nil {
		w.Throttled = func(string) {}
	}
	if w.Hashed == nil {
		w.Hashed = func(time.Duration) {}
	}
	return w
}

// outcome is the word for an error in metrics.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if _, ok := errors.AsType[*ThrottledError](err); ok {
		return "throttled"
	}
	for word, errs := range map[string][]error{
		"wrong":   {ErrWrong, ErrTooLong, ErrUnknownPasskey},
		"cloned":  {ErrCloned},
		"used":    {ErrUsed},
		"paused":  {ErrPaused},
		"busy":    {ErrBusy},
		"over":    {ErrNoLogin, ErrOff, ErrNoSession, ErrProofNeeded, ErrNoCeremony},
		"refused": {ErrUnverified, ErrUsePassword, ErrOtherGoogle, ErrNoAccount, ErrNotVerified},
	} {
		for _, e := range errs {
			if errors.Is(err, e) {
				return word
			}
		}
	}
	return "error"
}

// method is the way in that the first proof of a sign-in belongs to.
func method(amr []string) string {
	switch {
	case len(amr) > 0 && amr[0] == amrFederated:
		return "google"
	case len(amr) > 0 && (amr[0] == amrHardware || amr[0] == amrSoftware):
		return "passkey"
	}
	return "password"
}

// laneKinds are the second words of lanes' keys that are not somebody's id.
var laneKinds = map[string]bool{"account": true, "account-day": true, "account-network": true, "account-network-day": true, "address": true, "all": true, "browser": true, "browser-day": true, "network": true}

// name is the lane's kind: its key without whose it is.
func (l lane) name() string {
	what, rest, _ := strings.Cut(l.key, "/")
	if kind, _, _ := strings.Cut(rest, "/"); laneKinds[kind] {
		return what + "/" + kind
	}
	return what
}

// Lanes are what Watch.Throttled may be told.
func Lanes() []string {
	return []string{
		"password/all", "password/browser", "password/browser-day", "password/account-network", "password/account-network-day", "password/account", "password/network",
		"code/browser", "code/account", "code/account-day", "backup-code/browser", "backup-code/account",
		"google/network", "enroll", "reset/network", "reset/address", "link/network",
	}
}

// OldestLetter is when the event happened that waits longest to be told by email,
// the zero time if none waits.
func (s *Store) OldestLetter(ctx context.Context) (time.Time, error) {
	var at sql.NullInt64
	if err := s.db.QueryRow(ctx, `SELECT MIN(at) FROM events WHERE due_at IS NOT NULL`).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("looking for the oldest letter: %w", err)
	}
	if !at.Valid {
		return time.Time{}, nil
	}
	return db.Time(at.Int64), nil
}
