package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
)

// What is decided late, and what goes wrong behind a provider that runs.

// Signing out ends a session that was idle too long for its person, for the
// workspaces' tokens outlive idleness.
func TestSES15_SignOutAfterIdle(t *testing.T) {
	for name, leave := range map[string]func(b *browser, k *tokens){
		"by hint": func(b *browser, k *tokens) {
			p := b.get("/end_session?" + url.Values{"id_token_hint": {k.IDToken}, "post_logout_redirect_uri": {farewell}}.Encode())
			if p.status != 0 || p.url.String() != farewell {
				p.t.Fatalf("after sign-out: %d %s", p.status, p.url)
			}
		},
		"by button": func(b *browser, _ *tokens) {
			b.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				b := w.newBrowser()
				k := b.connect(w.acme, adaEmail, adaPassword)
				time.Sleep(73 * time.Hour)
				b.get("/preferences/security").want(http.StatusOK, "/login")
				k = w.acme.refresh(k.RefreshToken).ok()
				b.get("/preferences/security").want(http.StatusOK, "/login") // refreshing revives nothing
				leave(b, k)
				w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
				if w.userinfo(k.AccessToken) != nil {
					t.Error("the access token outlives the sign-out")
				}
			})
		})
	}
}

// But nobody else's ID token ends it (trap Z18).
func TestZ18_HintOfAnotherAfterIdle(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		hint := w.newBrowser().connect(w.acme, bobEmail, bobPassword).IDToken
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		time.Sleep(73 * time.Hour)
		b.get("/end_session?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {farewell}}.Encode())
		w.acme.refresh(k.RefreshToken).ok()
		if b.cookie(sessionCookieName) == "" {
			t.Error("the cookie is gone, so she cannot end the session herself")
		}
	})
}

// A change of clients that cannot be read with the keys is no reason to go on
// with the old clients for ever: after a minute nobody is authenticated, and the
// documents can still be read. The log says why.
func TestST06_ClientsThatCannotBeConfirmed(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		k := w.newBrowser().connect(w.acme, adaEmail, adaPassword)
		if _, err := w.db.Exec(t.Context(), `UPDATE signing_keys SET private_sealed = $1`, []byte("not what was sealed")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.house.clients.RotateSecret(t.Context(), "acme", "", 0, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		w.newBrowser().get("/jwks").want(http.StatusOK, "/jwks")
		time.Sleep(2 * time.Second)
		w.acme.refresh(k.RefreshToken).refused(http.StatusServiceUnavailable, "server_error")
		w.newBrowser().get("/jwks").want(http.StatusOK, "/jwks")
		if !strings.Contains(w.log.String(), "clients and keys are not current") {
			t.Error("the log does not say so")
		}
	})
}

// A secret that was replaced, and a client that was deleted, are dead within a
// second on every replica, for the first request after a quiet night as well and
// for the second at the same time.
func TestI5_AfterAQuietNight(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		k := w.newBrowser().connect(w.acme, adaEmail, adaPassword)
		other := w.newReplica()
		if _, err := w.house.clients.RotateSecret(t.Context(), "acme", "", 0, "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Hour)
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}}
		answers := make(chan *tokens, 8)
		for i := range cap(answers) {
			go func() {
				h := w.house
				if i%2 == 0 {
					h = other
				}
				answers <- w.acme.postAt(h, form, nil)
			}()
		}
		for range cap(answers) {
			(<-answers).refused(http.StatusUnauthorized, "invalid_client")
		}
	})
}

// A key that was published for later does not sign yet, and one that has
// retired is no longer published.
func TestCR02_KeysSignInTheirTime(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		next := 48 * time.Hour
		if _, err := w.db.Exec(t.Context(), `UPDATE signing_keys SET retired_at = $1`, db.Micros(time.Now().Add(2*next))); err != nil {
			t.Fatal(err)
		}
		// A second set: made for another database with the same ring, moved here.
		spare := dbtest.New(t, w.db.Engine())
		if err := idp.EnsureKeys(t.Context(), spare, w.ring); err != nil {
			t.Fatal(err)
		}
		rows, err := spare.Query(t.Context(), `SELECT id, alg, public_jwk, private_sealed, created_at FROM signing_keys`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id, alg, public string
			var sealed []byte
			var created int64
			if err := rows.Scan(&id, &alg, &public, &sealed, &created); err != nil {
				t.Fatal(err)
			}
			if _, err := w.db.Exec(t.Context(), `INSERT INTO signing_keys (id, alg, public_jwk, private_sealed, created_at, active_at) VALUES ($1, $2, $3, $4, $5, $6)`,
				id, alg, public, sealed, created, db.Micros(time.Now().Add(next))); err != nil {
				t.Fatal(err)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		old := w.kid(w.newBrowser().connect(w.acme, adaEmail, adaPassword))
		w.register(idp.Client{ID: "new", Name: "New", RedirectURIs: []string{callback}, RequirePKCE: true}) // a change: everyone looks again
		time.Sleep(2 * time.Second)
		if n := w.published(); n != 6 {
			t.Errorf("%d keys published, want 6", n)
		}
		if got := w.kid(w.newBrowser().connect(w.acme, adaEmail, adaPassword)); got != old {
			t.Error("a key signs before its time")
		}
		time.Sleep(next)
		if got := w.kid(w.newBrowser().connect(w.acme, adaEmail, adaPassword)); got == old {
			t.Error("the old key still signs")
		}
		time.Sleep(next)
		if n := w.newReplica().published(t); n != 3 {
			t.Errorf("%d keys published, want 3", n)
		}
	})
}

// kid is the id of the key that signed an ID token.
func (w *world) kid(k *tokens) string {
	w.t.Helper()
	head, _, _ := strings.Cut(k.IDToken, ".")
	var h struct{ Kid string }
	if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(head))(w.t), &h); err != nil || h.Kid == "" {
		w.t.Fatalf("header %q: %v", head, err)
	}
	return h.Kid
}

func (w *world) published() int { return w.house.published(w.t) }

func (h *house) published(t testing.TB) int {
	t.Helper()
	r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, issuer+"/jwks", nil))(t)
	res := must(network{h, "192.0.2.1"}.RoundTrip(r))(t)
	defer res.Body.Close()
	var doc struct{ Keys []any }
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return len(doc.Keys)
}

// What is nobody's address counts against its network and nobody else's.
func TestLOGIN06_NobodysAddressLocksNobodyOut(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.browserAt(w.house, "203.0.113.9")
		p := b.get("/login")
		for range 60 {
			p = b.fill(p, "not an address", adaPassword)
		}
		far := w.browserAt(w.house, "198.51.100.9")
		far.fill(far.get("/login"), "ada@", adaPassword).want(http.StatusUnprocessableEntity, "/login")
		far.signIn(adaEmail, adaPassword)
	})
}

// LG-03: an attempt that failed leaves a line with its outcome and a pseudonym,
// the same each time, and never what was typed. A code that was used twice leaves
// an event.
func TestLG03_FailuresLeaveATrace(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		p := b.get("/login")
		for range 11 {
			p = b.fill(p, adaEmail, "not her password")
		}
		b.fill(p, "my password, typed here", "x")
		var outcomes []string
		accounts := map[string]int{}
		for line := range strings.Lines(w.log.String()) {
			var l struct{ Msg, Outcome, Account, Request string }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if l.Msg == "sign-in refused" {
				outcomes = append(outcomes, l.Outcome)
				accounts[l.Account]++
				if l.Request == "" {
					t.Error("no request id")
				}
			}
		}
		if got := strings.Join(outcomes, " "); got != strings.Repeat("wrong ", 10)+"throttled wrong" {
			t.Errorf("outcomes: %s", got)
		}
		if len(accounts) != 2 {
			t.Errorf("accounts: %v", accounts)
		}
		for _, typed := range []string{adaEmail, "my password", "not her password"} {
			if strings.Contains(w.log.String(), typed) {
				t.Errorf("the log says %q", typed)
			}
		}
		bob := w.browserAt(w.house, "192.0.2.77")
		f := w.acme.begin()
		code := f.code(bob.fill(bob.get(f.url()), bobEmail, bobPassword))
		f.redeem(code).ok()
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		if n := w.count("events WHERE kind = 'code_reused' AND user_id = $1 AND client_id = 'acme'", w.bob.ID); n != 1 {
			t.Errorf("%d events of a code that was used twice", n)
		}
	})
}
