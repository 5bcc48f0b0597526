package main

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/db/dbtest"
)

// The main job, once through: a person signs in with a Harmony password, two
// workspaces receive tokens, the second asks nothing, and signing out ends it all.
func TestStory(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, engine)
			b := w.newBrowser()

			f := w.acme.begin("login_hint", adaEmail)
			p := b.get(f.url())
			p.want(http.StatusOK, "/login")
			p.wantText("Sign in to continue to Acme")
			if got := p.form("/login").Get("email"); got != adaEmail {
				t.Errorf("email filled in: %q, want the login_hint", got)
			}
			p = b.fill(p, adaEmail, "not her password")
			p.want(http.StatusUnprocessableEntity, "/login")
			p.wantText("Check your email and password and try again.")
			p = b.fill(p, adaEmail, adaPassword)
			k := f.redeem(f.code(p)).ok()

			c := k.claims()
			for name, want := range map[string]any{
				"iss": issuer, "sub": w.ada.ID, "aud": "acme", "nonce": f.query.Get("nonce"), "acr": "urn:harmony:acr:1fa",
			} {
				if c[name] != want {
					t.Errorf("%s = %v, want %v", name, c[name], want)
				}
			}
			if amr, _ := c["amr"].([]any); !slices.Equal(amr, []any{"pwd"}) {
				t.Errorf("amr = %v", c["amr"])
			}
			if got := c["auth_time"].(float64); got != float64(time.Now().Unix()) {
				t.Errorf("auth_time = %v, want now", got)
			}
			info := w.userinfo(k.AccessToken)
			if info["sub"] != w.ada.ID || info["email"] != adaEmail || info["name"] != "Ada Lovelace" || info["birthdate"] != "1815-12-10" || info["phone_number"] != nil {
				t.Errorf("userinfo = %v", info)
			}

			// A second workspace asks nothing and gets its own tokens of the same session.
			g := w.globex.begin()
			k2 := g.redeem(g.code(b.get(g.url()))).ok()
			if got := k2.claims(); got["sid"] != c["sid"] || got["aud"] != "globex" {
				t.Errorf("second workspace: %v", got)
			}

			time.Sleep(6 * time.Minute)
			if w.userinfo(k.AccessToken) != nil {
				t.Error("the access token outlives its time")
			}
			k = w.acme.refresh(k.RefreshToken).ok()
			if got := k.claims(); got["auth_time"] != c["auth_time"] || got["sid"] != c["sid"] || got["nonce"] != nil {
				t.Errorf("refreshed ID token: %v", got)
			}
			k2 = w.globex.refresh(k2.RefreshToken).ok()

			// Acme signs the person out, with its ID token: nothing is asked.
			p = b.get("/end_session?" + url.Values{"id_token_hint": {k.IDToken}, "post_logout_redirect_uri": {farewell}, "state": {"s 1"}}.Encode())
			if p.status != 0 || p.url.String() != farewell+"?state=s+1" {
				t.Fatalf("after sign-out: %d %s", p.status, p.url)
			}
			if w.userinfo(k.AccessToken) != nil || w.userinfo(k2.AccessToken) != nil {
				t.Error("access tokens outlive their session")
			}
			w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
			w.globex.refresh(k2.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
			f = w.acme.begin("prompt", "none")
			f.wantError(b.get(f.url()), "login_required")
			b.get("/preferences/security").want(http.StatusOK, "/login")
		})
	})
}
