package idp

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// Rotation says how signing keys come and go. A key is published for Prepublish
// before it signs, so that whoever keeps the JWKS for a while knows it by then, signs
// for Every, and is published for Overlap after its successor took over.
type Rotation struct {
	Every, Prepublish, Overlap time.Duration
}

// DefaultRotation is what a Config without one keeps to.
var DefaultRotation = Rotation{Every: 30 * 24 * time.Hour, Prepublish: 48 * time.Hour, Overlap: 48 * time.Hour}

// The least that Rotation may be: the JWKS may be kept for five minutes (max-age), and
// a key outlives the tokens that it signed.
const (
	MinPrepublish = 20 * time.Minute
	MinOverlap    = idTokenTTL + 5*time.Minute
)

// Check refuses what would leave a relying party with an unknown key.
func (r Rotation) Check() error {
	switch {
	case r.Prepublish < MinPrepublish:
		return fmt.Errorf("key-prepublish is %s: write %s or more, for the JWKS is kept for a while", r.Prepublish, MinPrepublish)
	case r.Overlap < MinOverlap:
		return fmt.Errorf("key-overlap is %s: write %s or more, for tokens have to outlive their key's turn", r.Overlap, MinOverlap)
	case r.Every < r.Prepublish+r.Overlap:
		return fmt.Errorf("key-rotate-every (%s) is less than key-prepublish and key-overlap together (%s)", r.Every, r.Prepublish+r.Overlap)
	}
	return nil
}

// hintLife is how long after its retirement a key still tells an id_token_hint of ours
// from a forged one: as long as a session may last. The key itself is wiped.
const hintLife = 35 * 24 * time.Hour

var (
	// ErrNextWaits means that the next key is published already.
	ErrNextWaits = errors.New("the next key is published already and takes over by itself")

	housekeeper = account.Actor{Kind: "harmony"}
)

// RotateKeys has the next key of each algorithm published when its time has come,
// retires those whose time is over and forgets those that are long retired. Any
// number of replicas may call it; each change is made once.
func (s *Server) RotateKeys(ctx context.Context) error {
	now := time.Now()
	for _, alg := range algs {
		_, active, err := newestKey(ctx, s.db, alg)
		if err != nil {
			return err
		}
		if next := active.Add(s.cfg.Rotation.Every); !now.Before(next.Add(-s.cfg.Rotation.Prepublish)) {
			if err := publishNext(ctx, s.db, s.ring, alg, next, s.cfg.Rotation, housekeeper); err != nil && !errors.Is(err, ErrNextWaits) {
				return err
			}
		}
	}
	return s.db.Tx(ctx, func(tx *db.Tx) error {
		wiped, err := tx.Exec(ctx, `UPDATE signing_keys SET private_sealed = $1 WHERE retired_at <= $2 AND private_sealed <> $1`, []byte{}, db.Micros(now))
		if err != nil {
			return err
		}
		gone, err := tx.Exec(ctx, `DELETE FROM signing_keys WHERE retired_at < $1`, db.Micros(now.Add(-hintLife)))
		if err != nil || wiped+gone == 0 {
			return err
		}
		return bump(ctx, tx)
	})
}

// newestKey is the key of an algorithm that has no successor, and from when it signs.
func newestKey(ctx context.Context, d *db.DB, alg string) (id string, active time.Time, err error) {
	var at int64
	err = d.QueryRow(ctx, `SELECT id, active_at FROM signing_keys WHERE alg = $1 AND retired_at IS NULL ORDER BY active_at DESC, id LIMIT 1`, alg).Scan(&id, &at)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("reading the newest %s key: %w", alg, err)
	}
	return id, db.Time(at), nil
}

// publishNext publishes the successor of an algorithm's newest key, which signs from
// at on, but not before it was published for long enough. Its error is ErrNextWaits,
// if somebody did so before.
func publishNext(ctx context.Context, d *db.DB, ring *secret.Ring, alg string, at time.Time, plan Rotation, by account.Actor) error {
	id, active, err := newestKey(ctx, d, alg)
	if err != nil {
		return err
	}
	now := time.Now()
	if active.After(now) {
		return ErrNextWaits
	}
	if soonest := now.Add(plan.Prepublish); at.Before(soonest) {
		at = soonest
	}
	k, err := newKey(ring, alg)
	if err != nil {
		return err
	}
	return d.Tx(ctx, func(tx *db.Tx) error {
		// That the old key gets its end names the one who makes its successor.
		n, err := tx.Exec(ctx, `UPDATE signing_keys SET retired_at = $1 WHERE id = $2 AND retired_at IS NULL`, db.Micros(at.Add(plan.Overlap)), id)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNextWaits
		}
		return k.insert(ctx, tx, now, at, account.Event{Kind: "signing_key_published", Actor: by})
	})
}

// A madeKey is a new signing key, sealed.
type madeKey struct {
	id, alg, public string
	sealed          []byte
}

func newKey(ring *secret.Ring, alg string) (*madeKey, error) {
	private, err := generate(alg)
	if err != nil {
		return nil, fmt.Errorf("making the %s key: %w", alg, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("making the %s key: %w", alg, err)
	}
	id := secret.ID("")
	public, err := json.Marshal(jose.JSONWebKey{Key: private.Public(), KeyID: id, Algorithm: alg, Use: "sig"})
	if err != nil {
		return nil, fmt.Errorf("making the %s key: %w", alg, err)
	}
	return &madeKey{id, alg, string(public), ring.Box(boxSigningKey).Seal(der, "signing_keys/"+id)}, nil
}

func (k *madeKey) insert(ctx context.Context, tx *db.Tx, now, active time.Time, e account.Event) error {
	if _, err := tx.Exec(ctx, `INSERT INTO signing_keys (id, alg, public_jwk, private_sealed, created_at, active_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		k.id, k.alg, k.public, k.sealed, db.Micros(now), db.Micros(active)); err != nil {
		return err
	}
	e.Detail.Other = k.alg + " " + k.id
	if err := account.Record(ctx, tx, e); err != nil {
		return err
	}
	return bump(ctx, tx)
}

// A KeyInfo is a signing key as operators see it.
type KeyInfo struct {
	ID, Alg   string
	CreatedAt time.Time
	ActiveAt  time.Time // it signs from then on
	RetiredAt time.Time // it is published until then; zero: it has no successor yet
	State     KeyState
}

// A KeyState is where a key is on its way.
type KeyState string

// The states of keys, in their order.
const (
	KeyNext     KeyState = "next"     // published, and does not sign yet
	KeyActive   KeyState = "active"   // signs
	KeyRetiring KeyState = "retiring" // published for what it signed
	KeyRetired  KeyState = "retired"  // wiped; its public half still checks id_token_hint
)

// Keys keeps the signing keys of one database.
type Keys struct {
	db   *db.DB
	ring *secret.Ring
}

// NewKeys returns the signing keys of a migrated database. Listing needs no ring.
func NewKeys(d *db.DB, ring *secret.Ring) *Keys { return &Keys{d, ring} }

// List returns every key, by algorithm, the youngest first.
func (k *Keys) List(ctx context.Context) ([]KeyInfo, error) {
	rows, err := k.db.Query(ctx, `SELECT id, alg, created_at, active_at, retired_at FROM signing_keys ORDER BY alg, active_at DESC, id`)
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	defer rows.Close()
	now, signs := time.Now(), map[string]bool{}
	var out []KeyInfo
	for rows.Next() {
		var i KeyInfo
		var created, active int64
		var retired sql.NullInt64
		if err := rows.Scan(&i.ID, &i.Alg, &created, &active, &retired); err != nil {
			return nil, fmt.Errorf("reading the signing keys: %w", err)
		}
		i.CreatedAt, i.ActiveAt = db.Time(created), db.Time(active)
		if retired.Valid {
			i.RetiredAt = db.Time(retired.Int64)
		}
		switch {
		case i.ActiveAt.After(now):
			i.State = KeyNext
		case !i.RetiredAt.IsZero() && !i.RetiredAt.After(now):
			i.State = KeyRetired
		case !signs[i.Alg]:
			i.State, signs[i.Alg] = KeyActive, true
		default:
			i.State = KeyRetiring
		}
		out = append(out, i)
	}
	return out, rows.Err()
}

// Rotate publishes the next key of every algorithm now, ahead of its time. Its error
// is ErrNextWaits, if all have one.
func (k *Keys) Rotate(ctx context.Context, plan Rotation, by string) error {
	waiting := 0
	for _, alg := range algs {
		err := publishNext(ctx, k.db, k.ring, alg, time.Time{}, plan, operator(by))
		if errors.Is(err, ErrNextWaits) {
			waiting++
		} else if err != nil {
			return err
		}
	}
	if waiting == len(algs) {
		return ErrNextWaits
	}
	return nil
}

// Replace is for keys that somebody else may have: new ones sign at once, and nothing
// that was signed by the old ones is believed any more, on every replica within a
// second. Relying parties that keep the JWKS refuse what the new keys sign until they
// read it again.
func (k *Keys) Replace(ctx context.Context, by string) error {
	now := time.Now()
	var made []*madeKey
	for _, alg := range algs {
		one, err := newKey(k.ring, alg)
		if err != nil {
			return err
		}
		made = append(made, one)
	}
	return k.db.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM signing_keys`); err != nil {
			return err
		}
		for _, one := range made {
			if err := one.insert(ctx, tx, now, now, account.Event{Kind: "signing_key_replaced", Actor: operator(by)}); err != nil {
				return err
			}
		}
		return nil
	})
}
