package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// Introspection (RFC 7662) and revocation (RFC 7009): TK-16, TK-17, RF-06.

// introspect asks about a token and returns what is told of it.
func (c rp) introspect(token string) map[string]any {
	c.w.t.Helper()
	p := c.send(c.request("/oauth/introspect", url.Values{"token": {token}}, nil))
	var out map[string]any
	if err := json.Unmarshal([]byte(p.body), &out); err != nil || p.status != http.StatusOK {
		c.w.t.Fatalf("introspection: %d %q", p.status, p.body)
	}
	return out
}

// unknown checks that nothing is told of a token.
func (c rp) unknown(what, token string) {
	c.w.t.Helper()
	if got := c.introspect(token); len(got) != 1 || got["active"] != false {
		c.w.t.Errorf("%s: %s is told %v", what, c.id, got)
	}
}

// revoke gives a token back.
func (c rp) revoke(token string) {
	c.w.t.Helper()
	if p := c.send(c.request("/oauth/revoke", url.Values{"token": {token}}, nil)); p.status != http.StatusOK || p.body != "" {
		c.w.t.Fatalf("revocation: %d %q", p.status, p.body)
	}
}

func (c rp) send(r *http.Request) *page {
	c.w.t.Helper()
	return readPage(c.w.t, must(network{c.w.house, "198.51.100.7"}.RoundTrip(r))(c.w.t))
}

func TestTK17_Introspection(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		signedIn := time.Now()
		time.Sleep(10 * time.Second)
		for _, c := range []rp{w.acme, w.legacy} {
			k := b.connect(c, adaEmail, adaPassword)
			now := time.Now()
			time.Sleep(5 * time.Second)
			common := map[string]any{
				"active": true, "client_id": c.id, "aud": c.id, "iss": issuer, "sub": w.ada.ID, "scope": k.Scope,
				"iat": float64(now.Unix()), "auth_time": float64(signedIn.Unix()), "acr": "urn:harmony:acr:1fa",
			}
			if got, want := c.introspect(k.AccessToken), with(common, "token_type", "Bearer", "exp", float64(now.Unix()+300)); !maps.Equal(got, want) {
				t.Errorf("%s, access token: %v, want %v", c.id, got, want)
			}
			if got, want := c.introspect(k.RefreshToken), with(common, "exp", float64(now.Add(14*24*time.Hour).Unix())); !maps.Equal(got, want) {
				t.Errorf("%s, refresh token: %v, want %v", c.id, got, want)
			}
			// A narrower token says so.
			few := c.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}, "scope": {"openid email"}}).ok()
			if got := c.introspect(few.AccessToken); got["scope"] != "openid email" {
				t.Errorf("%s, narrower: %v", c.id, got)
			}
			for what, other := range map[string]rp{"acme": w.acme, "legacy": w.legacy} {
				if what == c.id {
					continue
				}
				other.unknown("another client's access token", k.AccessToken)
				other.unknown("another client's refresh token", k.RefreshToken)
			}
			_, code := b.again(c)
			for _, s := range append(traps(), k.IDToken, code, c.secret, "hrt_"+k.AccessToken[4:], "hat_"+k.RefreshToken[4:],
				secret.Token(k.RefreshToken[:len(k.RefreshToken)-43]), k.RefreshToken+"x", k.AccessToken+"x", k.AccessToken+"\n") {
				c.unknown("no token", s)
			}
			time.Sleep(5 * time.Minute)
			c.unknown("expired", k.AccessToken)
			if c.introspect(k.RefreshToken)["active"] != true {
				t.Error("to ask about a refresh token ends it")
			}
		}
	})
}

// Who may ask, and how: a client with a secret, in its own way.
func TestTK17_WhoMayAsk(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
			k := b.connect(w.acme, adaEmail, adaPassword)
			k2 := b.connect(w.globex, adaEmail, adaPassword)
			for what, c := range map[string]struct {
				rp    rp
				token string
				form  url.Values
				want  string
			}{
				"no authentication":      {rp{w: w, auth: idp.AuthNone}, k.AccessToken, nil, "invalid_client"},
				"a public client's name": {rp{w: w, id: "acme", auth: idp.AuthNone}, k.AccessToken, nil, "invalid_client"},
				"wrong secret":           {rp{w: w, id: "acme", secret: "x", auth: idp.AuthBasic}, k.AccessToken, nil, "invalid_client"},
				"no secret":              {rp{w: w, id: "acme", auth: idp.AuthBasic}, k.AccessToken, nil, "invalid_client"},
				"another method":         {rp{w: w, id: "acme", secret: w.acme.secret, auth: idp.AuthPost}, k.AccessToken, nil, "invalid_client"},
				"another's secret":       {rp{w: w, id: "acme", secret: w.legacy.secret, auth: idp.AuthBasic}, k.AccessToken, nil, "invalid_client"},
				"unknown":                {rp{w: w, id: "nobody", secret: "x", auth: idp.AuthBasic}, k.AccessToken, nil, "invalid_client"},
				"two methods":            {w.acme, k.AccessToken, url.Values{"client_secret": {w.acme.secret}}, "invalid_request"},
				"no token":               {w.acme, "", nil, "invalid_request"},
				"a stray grant type":     {rp{w: w, id: "acme", secret: "x", auth: idp.AuthBasic}, k.AccessToken, url.Values{"grant_type": {"client_credentials"}}, "invalid_client"},
			} {
				form := url.Values{"token": {c.token}}
				for name, v := range c.form {
					form[name] = v
				}
				p := c.rp.send(c.rp.request(path, form, nil))
				status := http.StatusBadRequest
				if c.want == "invalid_client" {
					status = http.StatusUnauthorized
				}
				var got struct{ Error string }
				if err := json.Unmarshal([]byte(p.body), &got); err != nil || p.status != status || got.Error != c.want {
					t.Errorf("%s, %s: %d %s", path, what, p.status, p.body)
				}
				if (p.header.Get("WWW-Authenticate") != "") != (status == http.StatusUnauthorized) {
					t.Errorf("%s, %s: WWW-Authenticate %q", path, what, p.header.Get("WWW-Authenticate"))
				}
			}
			for what, p := range map[string]*page{
				"query": b.raw(http.MethodPost, path+"?token="+k.AccessToken, "client_id=globex", nil), "twice": b.raw(http.MethodPost, path, "client_id=globex&token=a&token=b", nil),
			} {
				if p.status != http.StatusBadRequest {
					t.Errorf("%s, %s: %d", path, what, p.status)
				}
			}
			// A page in a browser has no secret, so it may revoke, and may not ask.
			if path == "/oauth/introspect" {
				if p := w.globex.send(w.globex.request(path, url.Values{"token": {k2.AccessToken}}, nil)); p.status != http.StatusUnauthorized {
					t.Errorf("a public client asks: %d %s", p.status, p.body)
				}
				p := w.acme.send(w.acme.request(path, url.Values{"token": {k.AccessToken}, "grant_type": {"password"}, "token_type_hint": {"nonsense"}}, nil))
				if p.status != http.StatusOK || p.header.Get("Cache-Control") != "no-store" || p.header.Get("Content-Type") != "application/json;charset=UTF-8" || p.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("answer: %d %v", p.status, p.header)
				}
			}
			if w.userinfo(k.AccessToken) == nil || w.userinfo(k2.AccessToken) == nil { // none of that has ended anything
				t.Errorf("%s: a token is dead", path)
			}
		}
	})
}

// A grant ends with any token of it, and only for its own client.
func TestTK17_Revocation(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, c := range []rp{w.acme, w.globex, w.legacy} {
			for what, token := range map[string]func(*tokens, string) string{
				"access token": func(k *tokens, _ string) string { return k.AccessToken }, "refresh token": func(k *tokens, _ string) string { return k.RefreshToken },
				"code": func(_ *tokens, code string) string { return code },
			} {
				f, code := b.again(c)
				k, bystander := f.redeem(code).ok(), b.connect(c, adaEmail, adaPassword)
				revoked := token(k, code)
				for _, other := range []rp{w.acme, w.globex, w.legacy} {
					if other.id != c.id {
						other.revoke(revoked)
					}
				}
				for _, s := range append(traps(), k.IDToken, revoked+"x", secret.Token(k.RefreshToken[:len(k.RefreshToken)-43]), secret.Token(code[:len(code)-43])) {
					c.revoke(s)
				}
				if w.userinfo(k.AccessToken) == nil {
					t.Fatalf("%s, %s: ended by another client or by what is no token", c.id, what)
				}
				k = c.refresh(k.RefreshToken).ok()
				if what == "refresh token" {
					revoked = k.RefreshToken
				}
				c.revoke(revoked)
				w.dead(c, k)
				if c.id != "globex" {
					c.unknown(what, k.AccessToken)
					c.unknown(what, k.RefreshToken)
				}
				c.revoke(revoked) // once more is no news
				if w.userinfo(bystander.AccessToken) == nil {
					t.Errorf("%s, %s: another grant of the client ended, too", c.id, what)
				}
			}
			// A code that nobody has redeemed yet.
			f, code := b.again(c)
			c.revoke(code)
			f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
			// The page of a public client that revokes with the token it had before it refreshed.
			k := b.connect(c, adaEmail, adaPassword)
			next := c.refresh(k.RefreshToken).ok()
			c.revoke(k.RefreshToken)
			w.dead(c, next)
		}
		b.get("/preferences/security").want(http.StatusOK, "/preferences/security")
	})
}

// What ends a session or a person is known to who asks at once.
func TestTK16_IntrospectionAfterTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, query := range []string{
			`UPDATE sessions SET ended_at = 1`, `UPDATE sessions SET expires_at = 1`, `UPDATE sessions SET credential = 1`,
			`UPDATE grants SET ended_at = 1`, `UPDATE users SET disabled_at = 1 WHERE email = 'ada@example.com'`,
		} {
			b := w.newBrowser()
			k := b.connect(w.acme, adaEmail, adaPassword)
			if w.acme.introspect(k.AccessToken)["active"] != true || w.acme.introspect(k.RefreshToken)["active"] != true {
				t.Fatal("not active before")
			}
			must(w.db.Exec(t.Context(), query))(t)
			w.acme.unknown(query, k.AccessToken)
			w.acme.unknown(query, k.RefreshToken)
		}
	})
}

// A refresh token is as old as renew takes it, and no token outlives its session.
func TestTK17_IntrospectionTellsTheRealEnd(t *testing.T) {
	const day = 24 * time.Hour
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		time.Sleep(14*day - time.Second)
		if w.acme.introspect(k.RefreshToken)["active"] != true {
			t.Error("ends before its time")
		}
		time.Sleep(time.Second)
		w.acme.unknown("idle too long", k.RefreshToken)

		k = w.newBrowser().connect(w.acme, adaEmail, adaPassword)
		ends := time.Now().Add(20 * time.Second)
		must(w.db.Exec(t.Context(), `UPDATE sessions SET expires_at = $1`, ends.UnixMicro()))(t)
		for _, token := range []string{k.AccessToken, k.RefreshToken} {
			if got := w.acme.introspect(token)["exp"]; got != float64(ends.Unix()) {
				t.Errorf("exp = %v, want that of the session, %d", got, ends.Unix())
			}
		}
		w.change(`UPDATE clients SET grant_types = '["authorization_code"]' WHERE id = 'acme'`)
		w.forget()
		w.acme.unknown("a client that may not refresh", k.RefreshToken)
		if w.acme.introspect(k.AccessToken)["active"] != true {
			t.Error("its access token is dead, too")
		}
	})
}
