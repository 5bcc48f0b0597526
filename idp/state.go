package idp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
	"github.com/harmony/id/web"
)

// fresh is how old the clients and keys in memory may be before the next request
// asks whether they changed (I5 of the security cases: within a second, on all replicas).
const fresh = time.Second

// A state holds the clients and signing keys in memory, so that most requests
// read neither.
type state struct {
	db   *db.DB
	box  *secret.Box
	now  atomic.Pointer[snapshot]
	load sync.Mutex
}

// A snapshot is the clients and keys at one moment. It does not change.
type snapshot struct {
	version string
	checked atomic.Int64 // when it was last known to be current, Unix microseconds
	tried   atomic.Int64 // when that was last asked, Unix microseconds
	clients map[string]*Client
	keys    keySet

	restored time.Time // when the database was restored from a backup; zero: never
}

func newState(d *db.DB, ring *secret.Ring) *state {
	return &state{db: d, box: ring.Box(boxSigningKey)}
}

// stale is how long clients and keys serve on that the database does not confirm:
// documents for ever, for they can be read without it; clients not.
const stale = time.Minute

var errUnconfirmed = errors.New("clients and keys could not be confirmed")

// current is get for whoever relies on the clients: it refuses a snapshot that
// could not be confirmed for a minute.
func (s *state) current(ctx context.Context) (*snapshot, error) {
	snap, err := s.get(ctx)
	if err != nil {
		return nil, err
	}
	if since := time.Since(db.Time(snap.checked.Load())); since > stale {
		return nil, fmt.Errorf("%w for %s", errUnconfirmed, since.Round(time.Second))
	}
	return snap, nil
}

// get returns a snapshot that was current less than about a second ago. Who finds
// it older asks the database; meanwhile the others go on with what there is, if
// it is not much older, or wait. If the database does not answer, or what it says
// cannot be used, the old one serves on and the log says why.
func (s *state) get(ctx context.Context) (*snapshot, error) {
	snap := s.now.Load()
	now := time.Now()
	age := time.Duration(0)
	if snap != nil {
		age = now.Sub(db.Time(max(snap.checked.Load(), snap.tried.Load())))
		if age < fresh {
			return snap, nil
		}
	}
	if snap == nil || age > 2*fresh {
		s.load.Lock()
	} else if !s.load.TryLock() {
		return snap, nil
	}
	defer s.load.Unlock()
	if current := s.now.Load(); current != nil && (current != snap || db.Time(max(snap.checked.Load(), snap.tried.Load())).Add(fresh).After(now)) {
		return current, nil // another did it
	}
	next, err := s.read(ctx, snap)
	if err != nil {
		if snap == nil {
			return nil, err
		}
		snap.tried.Store(db.Micros(time.Now())) // which may have taken its time: the others have a second again
		web.Log(ctx).ErrorContext(ctx, "clients and keys are not current", "error", err.Error(), "confirmed", db.Time(snap.checked.Load()))
		return snap, nil
	}
	next.checked.Store(db.Micros(now))
	s.now.Store(next)
	return next, nil
}

// read returns old if it is still current.
func (s *state) read(ctx context.Context, old *snapshot) (*snapshot, error) {
	version, err := setting(ctx, s.db, "version")
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("reading the version of clients and keys: %w", err)
	}
	if old != nil && old.version == version {
		return old, nil
	}
	next := &snapshot{version: version, clients: map[string]*Client{}}
	if next.restored, err = restoredAt(ctx, s.db); err != nil {
		return nil, err
	}
	clients, err := NewClients(s.db).List(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		if c.DisabledAt.IsZero() {
			next.clients[c.ID] = c
		}
	}
	if next.keys, err = readKeys(ctx, s.db, s.box); err != nil {
		return nil, err
	}
	return next, nil
}

// bump tells every replica that clients or keys changed. It goes into the
// transaction of the change.
func bump(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO settings (name, value) VALUES ('version', $1)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, secret.ID(""))
	return err
}
