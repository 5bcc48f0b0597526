package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/idp"
)

// keys is the JWKS as a relying party reads it.
func (b *browser) keys() (set jose.JSONWebKeySet) {
	b.w.t.Helper()
	p := b.get("/jwks")
	if err := json.Unmarshal([]byte(p.body), &set); err != nil {
		b.w.t.Fatal(err)
	}
	if cc := p.header.Get("Cache-Control"); cc != "public, max-age=300" {
		b.w.t.Errorf("Cache-Control %q", cc)
	}
	return set
}

// robot is a client that gets JWTs as itself.
func (w *world) robot() rp {
	return w.add(idp.Client{ID: "robot", Name: "Robot", GrantTypes: []string{"client_credentials"}, Scopes: []string{"api.read"}, AccessToken: idp.TokenJWT})
}

func (c rp) asItself() string {
	c.w.t.Helper()
	k := c.post(url.Values{"grant_type": {"client_credentials"}})
	if k.status != http.StatusOK {
		c.w.t.Fatalf("token endpoint: %d %s", k.status, k.raw)
	}
	return k.AccessToken
}

// CR-02: through three rotations a relying party that keeps the JWKS for as long as it
// may never sees a key that it does not know.
func TestCR02_Rotation(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		robot, b := w.robot(), w.newBrowser()
		seen := map[string]bool{}
		for until := time.Now().Add(95 * 24 * time.Hour); time.Now().Before(until); time.Sleep(23 * time.Hour) {
			if err := other.clean(t.Context()); err != nil {
				t.Fatal(err)
			}
			kept := b.at(other).keys()
			time.Sleep(5 * time.Minute)
			jws, err := jose.ParseSignedCompact(robot.asItself(), []jose.SignatureAlgorithm{jose.ES256})
			if err != nil {
				t.Fatal(err)
			}
			kid := jws.Signatures[0].Header.KeyID
			key := kept.Key(kid)
			if len(key) != 1 {
				t.Fatalf("%s: signed by %s, which the JWKS of five minutes ago does not have", time.Now(), kid)
			}
			if _, err := jws.Verify(key[0]); err != nil {
				t.Fatal(err)
			}
			seen[kid] = true
			if n := len(kept.Keys); n < 3 || n > 6 {
				t.Errorf("%s: %d keys are published", time.Now(), n)
			}
		}
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 4 {
			t.Errorf("%d keys signed in 95 days", len(seen))
		}
		if n := w.count(`signing_keys WHERE retired_at < $1 AND LENGTH(private_sealed) > 0`, time.Now().UnixMicro()); n != 0 {
			t.Errorf("%d private keys outlived their time", n)
		}
	})
}

// A sign-out by an ID token still works when its key was retired since.
func TestHintOfARetiredKey(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		kid := w.kid(k)
		w.exec(`UPDATE sessions SET expires_at = expires_at * 2`)
		time.Sleep(29 * 24 * time.Hour)
		for range 5 {
			if err := w.house.clean(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.exec(`UPDATE sessions SET seen_at = $1`, time.Now().UnixMicro())
			time.Sleep(24 * time.Hour)
		}
		if set := b.keys(); len(set.Key(kid)) != 0 {
			t.Fatal("the key is still published")
		}
		b.get(leave("id_token_hint", k.IDToken)).want(http.StatusOK, "/logout")
		b.in(false)
	})
}

// CR-10: keys that are replaced are gone on every replica within a second, and what
// they signed is believed no more.
func TestCR10_Replace(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		robot, b := w.robot(), w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		b.at(other).keys()
		old, kid := robot.asItself(), w.kid(k)
		if err := idp.NewKeys(w.db, w.ring).Replace(t.Context(), "tess"); err != nil {
			t.Fatal(err)
		}
		w.forget()
		for _, h := range []*house{w.house, other} {
			if set := b.at(h).keys(); len(set.Key(kid)) != 0 || len(set.Keys) != 3 {
				t.Errorf("published: %v", set.Keys)
			}
			p := b.at(h).get(leave("id_token_hint", k.IDToken))
			p.wantStatus(http.StatusOK)
			b.in(true)
		}
		if fresh := robot.asItself(); strings.Split(fresh, ".")[0] == strings.Split(old, ".")[0] {
			t.Error("the old key signs on")
		}
		if w.userinfo(old) != nil {
			t.Error("the old key's token is believed")
		}
		if n := w.count(`events WHERE kind = 'signing_key_replaced' AND actor = 'operator:tess'`); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}

// Of replicas that find at once that a key's time has come, one makes the next.
func TestRotationRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.exec(`UPDATE signing_keys SET active_at = $1`, time.Now().Add(-29*24*time.Hour).UnixMicro())
		var failed atomic.Int64
		release(func(i int) {
			if err := pick(i).clean(t.Context()); err != nil {
				failed.Add(1)
				t.Error(err)
			}
		})
		all, err := idp.NewKeys(w.db, nil).List(t.Context())
		if err != nil || failed.Load() != 0 {
			t.Fatal(err)
		}
		var states []string
		for _, k := range all {
			states = append(states, k.Alg+" "+string(k.State))
		}
		slices.Sort(states)
		if want := []string{"ES256 active", "ES256 next", "EdDSA active", "EdDSA next", "RS256 active", "RS256 next"}; !slices.Equal(states, want) {
			t.Errorf("keys: %q", states)
		}
		if err := idp.NewKeys(w.db, w.ring).Rotate(t.Context(), idp.DefaultRotation, "tess"); !errors.Is(err, idp.ErrNextWaits) {
			t.Errorf("another rotation: %v", err)
		}
	})
}

// Keys that an operator rotates ahead of their time are published as long as any others
// before they sign.
func TestRotateAhead(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		keys := idp.NewKeys(w.db, w.ring)
		if err := keys.Rotate(t.Context(), idp.DefaultRotation, "tess"); err != nil {
			t.Fatal(err)
		}
		next := 0
		for _, k := range must(keys.List(t.Context()))(t) {
			if k.State != idp.KeyNext {
				continue
			}
			if next++; time.Until(k.ActiveAt) != idp.DefaultRotation.Prepublish {
				t.Errorf("%s signs in %s", k.Alg, time.Until(k.ActiveAt))
			}
		}
		if next != 3 {
			t.Errorf("%d next keys", next)
		}
	})
}
