package rewrap

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/secret"
)

var (
	boxes = secret.Column{Table: "boxes", Column: "value_sealed", Key: "id", Purpose: "box"}
	flows = secret.Column{Table: "flows", Column: "sealed", Key: "hash", Purpose: "flow"}
	both  = []secret.Column{boxes, flows}
)

func rings(t *testing.T) (old, mixed *secret.Ring) {
	t.Helper()
	a, b := string(secret.GenerateKeyFile()), string(secret.GenerateKeyFile())
	return parsed(t, a), parsed(t, b+a)
}

// rows is how many values each of the columns of a test has: several batches.
const rows = 250

// withValues is a database with values that the ring sealed.
func withValues(t *testing.T, d *db.DB, ring *secret.Ring) {
	t.Helper()
	exec(t, d, `CREATE TABLE boxes (id TEXT PRIMARY KEY, value_sealed BYTEA NOT NULL)`)
	exec(t, d, `CREATE TABLE flows (hash BYTEA PRIMARY KEY, sealed BYTEA)`)
	err := d.Tx(t.Context(), func(tx *db.Tx) error {
		for i := range rows {
			id, hash := fmt.Sprintf("b%04d", i), []byte{0xff, byte(i)}
			if _, err := tx.Exec(t.Context(), `INSERT INTO boxes VALUES ($1, $2)`, id, ring.Box("box").Seal([]byte(id), "boxes/"+id)); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), `INSERT INTO flows VALUES ($1, $2)`, hash, ring.Box("flow").Seal(hash, fmt.Sprintf("flows/%x", hash))); err != nil {
				return err
			}
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO boxes VALUES ('empty', $1)`, []byte{})
		if err == nil {
			_, err = tx.Exec(t.Context(), `INSERT INTO flows VALUES ($1, NULL)`, []byte("none"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, d *db.DB, query string, args ...any) {
	t.Helper()
	if _, err := d.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// used is how many values each key sealed.
func used(t *testing.T, d *db.DB) map[string]int64 {
	t.Helper()
	uses, err := Uses(t.Context(), d, both)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, u := range uses {
		out[u.KeyID] += u.Values
	}
	return out
}

// opens checks that every value opens with the ring, for its row.
func opens(t *testing.T, d *db.DB, ring *secret.Ring) {
	t.Helper()
	for _, c := range both {
		all, err := d.Query(t.Context(), `SELECT `+c.Key+`, `+c.Column+` FROM `+c.Table+` WHERE length(`+c.Column+`) > 0`)
		if err != nil {
			t.Fatal(err)
		}
		defer all.Close()
		n := 0
		for ; all.Next(); n++ {
			var key any
			var sealed []byte
			if err := all.Scan(&key, &sealed); err != nil {
				t.Fatal(err)
			}
			plain, err := ring.Box(c.Purpose).Open(sealed, c.Row(key))
			want := fmt.Sprintf("%s", key)
			if err != nil || string(plain) != want {
				t.Fatalf("%s: %q, %v", c.Row(key), plain, err)
			}
		}
		if err := all.Err(); err != nil || n != rows {
			t.Errorf("%s has %d values, %v", c.Table, n, err)
		}
	}
}

// A rewrap that dies at any of its statements leaves values that all open; the next
// one finishes.
func TestStoppedAnywhere(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		var left int
		var stop context.CancelFunc
		d, err := db.Open(t.Context(), dbtest.Empty(t, engine), db.Observe(func(context.Context, string) {
			if left--; left == 0 {
				stop()
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		old, mixed := rings(t)
		withValues(t, d, old)
		if got := used(t, d); !maps.Equal(got, map[string]int64{old.KeyID(): 2 * rows}) {
			t.Fatalf("used before: %v", got)
		}
		var stops, resealed int64
		for n := 1; ; n += 37 {
			ctx, cancel := context.WithCancel(t.Context())
			stop, left = cancel, n
			r, err := Run(ctx, d, mixed, both)
			stop, left = func() {}, 0
			cancel()
			resealed += r.Resealed
			opens(t, d, mixed)
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			stops++
		}
		if got := used(t, d); !maps.Equal(got, map[string]int64{mixed.KeyID(): 2 * rows}) {
			t.Errorf("used after: %v", got)
		}
		if stops < 3 || resealed != 2*rows {
			t.Errorf("it was stopped %d times, and sealed %d values, want %d", stops, resealed, 2*rows)
		}
		if r, err := Run(t.Context(), d, mixed, both); err != nil || r.Resealed != 0 || r.Refused != 0 {
			t.Errorf("once more: %+v, %v", r, err)
		}
	})
}

// What is changed while it is sealed stays changed: of two who write, the rewrap
// loses.
func TestChangedMeanwhile(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := dbtest.New(t, engine)
		old, mixed := rings(t)
		withValues(t, d, old)
		page, err := read(t.Context(), d, boxes, nil)
		if err != nil || len(page) != batch {
			t.Fatal(len(page), err)
		}
		for i := range page {
			page[i].fresh = mixed.Box("box").Seal([]byte("stale"), boxes.Row(page[i].key))
		}
		changed := old.Box("box").Seal([]byte("changed"), boxes.Row(page[7].key))
		exec(t, d, `UPDATE boxes SET value_sealed = $1 WHERE id = $2`, changed, page[7].key)
		exec(t, d, `DELETE FROM boxes WHERE id = $1`, page[8].key)
		if n, err := replace(t.Context(), d, boxes, page); n != batch-2 || err != nil {
			t.Errorf("%d values were replaced, %v; want %d", n, err, batch-2)
		}
		var got []byte
		if err := d.QueryRow(t.Context(), `SELECT value_sealed FROM boxes WHERE id = $1`, page[7].key).Scan(&got); err != nil || !bytes.Equal(got, changed) {
			t.Errorf("the changed value was replaced, %v", err)
		}
	})
}

// A value that was moved to another row, or whose key is gone, is not made good by
// sealing it anew: it stays as it is, and is counted.
func TestRefused(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := dbtest.New(t, engine)
		old, mixed := rings(t)
		withValues(t, d, old)
		strange, _ := rings(t)
		exec(t, d, `UPDATE boxes SET value_sealed = (SELECT o.value_sealed FROM boxes o WHERE o.id = 'b0002') WHERE id = 'b0001'`)
		exec(t, d, `UPDATE boxes SET value_sealed = $1 WHERE id = 'b0003'`, strange.Box("box").Seal([]byte("x"), "boxes/b0003"))
		exec(t, d, `UPDATE boxes SET value_sealed = $1 WHERE id = 'b0004'`, []byte("not sealed at all, and longer than a head is"))
		r, err := Run(t.Context(), d, mixed, both)
		if err != nil || r.Resealed != 2*rows-3 || r.Refused != 3 || !errors.Is(r.Why, secret.ErrSealed) || !strings.Contains(r.Why.Error(), "boxes/b0001") {
			t.Errorf("%+v, %v", r, err)
		}
		if got := used(t, d); !maps.Equal(got, map[string]int64{mixed.KeyID(): 2*rows - 3, old.KeyID(): 1, strange.KeyID(): 1, "": 1}) {
			t.Errorf("used: %v", got)
		}
	})
}

// A key of another file that has the same name seals nothing: what it sealed would open
// nowhere else. Check finds it out, too.
func TestSameNameOtherKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := dbtest.New(t, engine)
		text := string(secret.GenerateKeyFile())
		old, theirs := parsed(t, text), parsed(t, named("new", text))
		withValues(t, d, old)
		exec(t, d, `UPDATE boxes SET value_sealed = $1 WHERE id = 'b0240'`, theirs.Box("box").Seal([]byte("b0240"), "boxes/b0240"))
		mine := parsed(t, named("new", text))
		r, err := Run(t.Context(), d, mine, both)
		if !errors.Is(err, ErrOtherKey) || r.Resealed != 0 || r.Refused != 1 {
			t.Errorf("Run with another key of this name: %+v, %v", r, err)
		}
		opens(t, d, theirs)
		if r, err := Check(t.Context(), d, mine, both); err != nil || r.Refused != 1 || r.Opened != 2*rows-1 || !strings.Contains(r.Why.Error(), "boxes/b0240") {
			t.Errorf("Check = %+v, %v", r, err)
		}
		if r, err := Check(t.Context(), d, theirs, both); err != nil || r.Refused != 0 || r.Opened != 2*rows {
			t.Errorf("Check with the right key = %+v, %v", r, err)
		}
		if r, err := Check(t.Context(), d, old, both); err != nil || r.Refused != 0 || r.Opened != 2*rows-1 {
			t.Errorf("Check without the key = %+v, %v", r, err)
		}
		// One value that was damaged holds nothing up.
		if r, err := Run(t.Context(), d, theirs, both); err != nil || r.Resealed != 2*rows-1 {
			t.Errorf("Run = %+v, %v", r, err)
		}
		exec(t, d, `UPDATE boxes SET value_sealed = $1 WHERE id = 'b0001'`, mine.Box("box").Seal([]byte("b0001"), "boxes/b0001"))
		if r, err := Run(t.Context(), d, theirs, both); err != nil || r.Resealed != 0 || r.Refused != 1 {
			t.Errorf("Run with a damaged value = %+v, %v", r, err)
		}
	})
}

// named is a key file with a new key of this name before the keys of another file.
func named(id, text string) string {
	return id + ":" + base64.StdEncoding.EncodeToString(secret.Hash(secret.Token(""))) + "\n" + text
}

func parsed(t *testing.T, text string) *secret.Ring {
	t.Helper()
	r, err := secret.ParseRing([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
