package main

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// How many statements a request sends to the database is what it costs. The
// table of the house (house.md §3) says how many; this test keeps it true.

var statementRE = regexp.MustCompile(`(?is)^\s*(SELECT|INSERT|UPDATE|DELETE)\b.*?(?:\bFROM|\bINTO|^\s*UPDATE)\s+([a-z_]+)`)

// inShort is a statement's verb and its first table.
func inShort(query string) string {
	if m := regexp.MustCompile(`(?is)^\s*UPDATE\s+([a-z_]+)`).FindStringSubmatch(query); m != nil {
		return "UPDATE " + m[1]
	}
	if m := regexp.MustCompile(`(?is)\bFROM\s+([a-z_]+)\b.*\bFOR NO KEY UPDATE$`).FindStringSubmatch(query); m != nil {
		return "LOCK " + m[1]
	}
	m := statementRE.FindStringSubmatch(query)
	if m == nil {
		return query
	}
	return strings.ToUpper(m[1]) + " " + m[2]
}

func TestStatements(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			w := wellBehaved(t, engine, db.Observe(func(_ context.Context, query string) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, inShort(query))
			}))
			b := w.newBrowser()
			// costs runs act and compares the statements it sent. Clients and keys are in
			// memory and looked at again once a second; in a bubble no time passes unless somebody sleeps.
			costs := func(what string, act func(), want ...string) {
				t.Helper()
				b.get("/jwks") // warm
				mu.Lock()
				seen = nil
				mu.Unlock()
				act()
				mu.Lock()
				defer mu.Unlock()
				if engine == "sqlite" { // where every transaction is alone
					want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, "LOCK ") })
				}
				if !slices.Equal(seen, want) {
					t.Errorf("%s:\n got %q\nwant %q", what, seen, want)
				}
			}

			costs("discovery", func() { b.get("/.well-known/openid-configuration") })
			costs("JWKS", func() { b.get("/jwks") })
			costs("a page of style", func() { b.get("/static/app.css") })

			// The whole sign-in, as a browser does it.
			f := w.acme.begin()
			var p *page
			costs("authorize, without a session", func() { p = b.once(http.MethodGet, f.url(), nil, nil) }, "INSERT auth_requests")
			costs("the form", func() { p = b.follow(p) }, "SELECT auth_requests")
			form := p.form("/login")
			form.Set("email", adaEmail)
			form.Set("password", "not her password")
			costs("a wrong password", func() { p = b.once(http.MethodPost, "/login", form, nil) },
				"SELECT users", "INSERT throttles", "SELECT auth_requests")
			form.Set("email", "nobody@example.com")
			costs("nobody's address", func() { b.once(http.MethodPost, "/login", form, nil) },
				"SELECT users", "INSERT throttles", "SELECT auth_requests")
			form.Set("email", adaEmail)
			form.Set("password", adaPassword)
			costs("the right password", func() { p = b.once(http.MethodPost, "/login", form, nil) },
				"SELECT users", "INSERT throttles", "UPDATE throttles", "LOCK users", "INSERT sessions", "SELECT sessions", "INSERT throttles", "INSERT events") // the second throttle: a new browser is told of once an hour
			costs("resume", func() { p = b.follow(p) }, "SELECT auth_requests", "SELECT sessions", "INSERT grants")
			// One statement more makes a hash of another program's anew.
			w.exec(`UPDATE users SET password_hash = $1 WHERE id = $2`, byBcrypt, w.person("imported@example.com", goodPassword).ID)
			elsewhere := w.browserAt(w.house, "192.0.2.60")
			costs("the right password, with a hash that was imported", func() { elsewhere.attempt("imported@example.com", goodPassword).wantStatus(http.StatusSeeOther) },
				"SELECT users", "INSERT throttles", "UPDATE throttles", "UPDATE users", "LOCK users", "INSERT sessions", "SELECT sessions", "INSERT throttles", "INSERT events")
			var k, k3 *tokens
			code := f.code(p)
			costs("code → tokens", func() { k = f.redeem(code).ok() }, "UPDATE grants")
			costs("userinfo", func() { w.userinfo(k.AccessToken) }, "SELECT grants")
			costs("introspection", func() { w.acme.introspect(k.AccessToken) }, "SELECT grants")
			costs("introspection of a refresh token", func() { w.acme.introspect(k.RefreshToken) }, "SELECT grants")
			costs("refresh", func() { k = w.acme.refresh(k.RefreshToken).ok() }, "UPDATE grants")

			// A second workspace.
			g := w.globex.begin()
			costs("authorize, with a session", func() { p = b.once(http.MethodGet, g.url(), nil, nil) }, "SELECT sessions", "INSERT grants")
			code = g.code(b.follow(p))
			var k2 *tokens
			costs("code → tokens, public client", func() { k2 = g.redeem(code).ok() }, "UPDATE grants")
			rt0 := k2.RefreshToken
			costs("refresh that rotates", func() { k2 = w.globex.refresh(rt0).ok() }, "UPDATE grants")
			costs("refresh within the grace", func() { w.globex.refresh(rt0).ok() }, "UPDATE grants", "SELECT sessions") // a grant, with its session
			costs("refresh for a narrower scope", func() {
				w.acme.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}, "scope": {"openid"}}).ok()
			}, "SELECT grants", "UPDATE grants")
			quiet := w.acme.begin("prompt", "none")
			costs("prompt=none", func() { quiet.code(b.get(quiet.url())) }, "SELECT sessions", "INSERT grants")
			costs("prompt=none without a session", func() { w.newBrowser().get(quiet.url()) })
			costs("a page", func() { b.get("/preferences/security") }, "SELECT sessions", "SELECT sessions", "SELECT users") // and how many others there are, and which passkeys

			// A client as itself.
			one, other := w.add(machine("opaque")), w.add(machine("jwt"))
			costs("client credentials", func() { k3 = one.itself("") }, "INSERT grants")
			costs("introspection of a client's own token", func() { one.introspect(k3.AccessToken) }, "SELECT grants")
			costs("client credentials, JWT", func() { k3 = other.itself("") })
			costs("introspection of a client's own JWT", func() { other.introspect(k3.AccessToken) })

			ring := newKeyring(t, "ES256")
			keyed := w.add(ring.client("keyed"))
			keyed.assert = ring.assertion("keyed")
			costs("client credentials with an assertion", func() { keyed.itself("") }, "INSERT assertions", "INSERT grants")

			// A request that is pushed, and tokens that are bound to a key.
			pushed := w.acme.begin()
			costs("a pushed request", func() { pushed.push().ok() }, "INSERT pushed_requests")
			var bound string
			costs("authorize, pushed", func() { bound = pushed.code(b.get(pushed.url())) }, "DELETE pushed_requests", "SELECT sessions", "INSERT grants")
			mine := newProver(t, "ES256")
			costs("code → tokens, bound", func() { k3 = mine.redeem(pushed, bound).ok() }, "INSERT assertions", "UPDATE grants")
			costs("userinfo, bound", func() { mine.userinfo(w, k3.AccessToken).want(http.StatusOK, "/userinfo") }, "INSERT assertions", "SELECT grants")

			// What is refused costs no more, and what is nonsense costs nothing.
			costs("garbage", func() {
				for _, s := range traps() {
					w.userinfo(s)
					w.acme.refresh(b64(s))
					f.redeem(b64(s))
				}
			})
			costs("garbage to ask about and to revoke", func() {
				for _, s := range traps() {
					w.acme.introspect(b64(s))
					w.acme.revoke(b64(s))
				}
			})
			costs("a broken link", func() { b.get(w.acme.begin("redirect_uri", "https://evil.test").url()) })
			costs("a refused request", func() { b.get(w.acme.begin("response_type", "token").url()) })
			costs("revocation", func() { w.globex.revoke(k2.RefreshToken) }, "UPDATE grants")
			costs("a code that was used", func() { g.redeem(code) }, "UPDATE grants", "UPDATE grants", "SELECT grants") // its grant has ended already; why, for the log

			// A minute later the session's last use is written down, once.
			time.Sleep(time.Minute)
			costs("a page, a minute later", func() { b.get("/preferences/security") }, "SELECT sessions", "UPDATE sessions", "SELECT sessions", "SELECT users")
			costs("and again", func() { b.get("/preferences/security") }, "SELECT sessions", "SELECT sessions", "SELECT users")
			// And a second after the last look somebody looks whether clients or keys changed.
			b.get("/jwks")
			mu.Lock()
			seen = nil
			mu.Unlock()
			time.Sleep(time.Second)
			b.get("/jwks")
			b.get("/jwks")
			if want := []string{"SELECT settings"}; !slices.Equal(seen, want) {
				t.Errorf("a second later: %q, want %q", seen, want)
			}

			// With a passkey: all of it costs less than one password's hash.
			held, key := w.newBrowser(), newSoftKey()
			held.signIn(bobEmail, bobPassword)
			var q askedKey
			costs("asking for a new passkey", func() { q = held.askKey(pathAskNewKey, "") },
				"SELECT sessions", "SELECT users", "UPDATE users", "INSERT throttles", "DELETE ceremonies", "INSERT ceremonies") // a user handle, once
			costs("adding it", func() {
				held.once(http.MethodPost, pathAddKey, url.Values{"name": {"1"}, "credential": {key.register(q)}}, nil)
			}, "SELECT sessions", "DELETE ceremonies", "LOCK users", "SELECT sessions", "SELECT passkeys", "INSERT passkeys", "INSERT events")
			held = w.newBrowser()
			costs("asking anybody for a passkey", func() { q = held.askKey(pathAskKey, "sign_in") }, "INSERT throttles", "INSERT ceremonies")
			costs("the right passkey", func() { held.once(http.MethodPost, pathPasskey, url.Values{"credential": {key.sign(q)}}, nil) },
				"DELETE ceremonies", "SELECT passkeys", "SELECT users", "SELECT users", "LOCK users", "UPDATE passkeys", "INSERT sessions", "SELECT sessions", "INSERT throttles", "INSERT events")

			// With two-factor authentication.
			two := w.newBrowser()
			two.signIn(bobEmail, bobPassword)
			a := two.enable()
			time.Sleep(time.Minute)
			two = w.newBrowser()
			two.get("/login")
			costs("the right password of somebody with 2FA", func() {
				p = two.once(http.MethodPost, "/login", url.Values{"email": {bobEmail}, "password": {bobPassword}}, nil)
			},
				"SELECT users", "INSERT throttles", "UPDATE throttles", "LOCK users", "INSERT logins")
			costs("the code page", func() { p = two.follow(p) }, "SELECT logins")
			form = p.form("/login/verify")
			form.Set("code", a.wrong())
			costs("a wrong code", func() { two.once(http.MethodPost, "/login/verify", form, nil) },
				"SELECT logins", "INSERT throttles", "UPDATE totp", "INSERT events", "UPDATE logins", "SELECT logins")
			form.Set("code", a.code())
			costs("the right code", func() { two.once(http.MethodPost, "/login/verify", form, nil) },
				"SELECT logins", "INSERT throttles", "UPDATE totp", "UPDATE throttles", "LOCK users", "UPDATE totp", "DELETE logins", "INSERT sessions", "SELECT sessions", "INSERT throttles", "INSERT events")
			costs("the tab of somebody with 2FA", func() { two.get("/preferences/security") }, "SELECT sessions", "SELECT sessions", "SELECT users", "SELECT backup_codes")
			costs("the Sessions tab", func() { two.get("/preferences/sessions") }, "SELECT sessions", "SELECT sessions", "SELECT grants", "SELECT consents")
			costs("the Activity tab", func() { two.get("/preferences/activity") }, "SELECT sessions", "SELECT events")
			costs("a forgotten password", func() { two.once(http.MethodPost, "/login/forgot", url.Values{"email": {bobEmail}}, nil) }, "INSERT throttles", "INSERT throttles", "INSERT events")
			costs("and nobody's", func() { two.once(http.MethodPost, "/login/forgot", url.Values{"email": {"nobody@example.com"}}, nil) }, "INSERT throttles", "INSERT throttles", "INSERT events")

			b.get("/preferences/security") // its use is written down
			costs("the question", func() { p = b.get("/end_session") }, "SELECT sessions", "SELECT grants")
			costs("sign-out by hint", func() { b.once(http.MethodGet, leave("id_token_hint", k.IDToken), nil, nil) },
				"SELECT sessions", "UPDATE sessions", "INSERT events")
			costs("the farewell", func() { b.get("/logout") }, "SELECT grants") // what the workspaces answered
			costs("a stranger's", func() { w.newBrowser().get("/logout") })
			costs("telling nobody", func() { must(w.house.teller.Deliver(t.Context()))(t) })
			b.signIn(adaEmail, adaPassword)
			costs("sign-out by button", func() { b.once(http.MethodPost, "/logout", url.Values{}, nil) },
				"UPDATE sessions", "INSERT events")

			// Workspaces that want to know when sessions end.
			told := w.listens("told")
			w.forget()
			b.connect(told, adaEmail, adaPassword)
			tell := func() { must(w.house.teller.Deliver(t.Context()))(t) }
			costs("looking whom to tell", tell, "SELECT grants")
			costs("sign-out that is told", func() { b.once(http.MethodPost, "/logout", url.Values{}, nil) },
				"UPDATE sessions", "INSERT events")
			costs("telling", tell, "SELECT grants", "UPDATE grants", "UPDATE grants", "UPDATE grants", "SELECT grants")
		})
	})
}
