package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/secret"
)

// The demo workspaces do as any workspace should: they believe a logout token of the
// provider, about them, of now, once (OIDC Back-Channel Logout 2.6).
func TestDemoLogoutTokens(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		d := newWorkspace("Demo", "demo", "", must(url.Parse("https://demo.test"))(t), must(url.Parse(issuer))(t))
		d.client.Transport = network{w.house, "198.51.100.7"}
		handler := d.handler(slog.New(slog.DiscardHandler))
		claims := func(changes ...any) map[string]any {
			return with(map[string]any{
				"iss": issuer, "aud": "demo", "sub": "ada", "sid": "ses_1", "iat": time.Now().Unix(), "exp": time.Now().Add(2 * time.Minute).Unix(), "jti": secret.ID(""),
				"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
			}, changes...)
		}
		d.sessions["this"], d.sessions["hers, too"] = demoSession{sub: "ada", sid: "ses_1", at: time.Now()}, demoSession{sub: "ada", sid: "ses_2", at: time.Now()}
		post := func(token string) int {
			r := httptest.NewRequest(http.MethodPost, "https://demo.test/backchannel-logout", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			rec := httptest.NewRecorder()
			handler.ServeHTTP(rec, r)
			if cache := rec.Header().Get("Cache-Control"); cache != "no-store" {
				t.Errorf("Cache-Control %q", cache)
			}
			return rec.Code
		}
		typ := "logout+jwt"
		ours := w.signer("ES256", typ)
		for what, token := range map[string]string{
			"nothing":         "",
			"an ID token":     sign(t, w.signer("ES256", "JWT"), claims()),
			"another key":     sign(t, newSigner(t, "ES256", typ, ""), claims()),
			"another issuer":  sign(t, ours, claims("iss", "https://evil.test")),
			"another's":       sign(t, ours, claims("aud", "acme")),
			"a nonce":         sign(t, ours, claims("nonce", "n")),
			"an empty nonce":  sign(t, ours, claims("nonce", "")),
			"no events":       sign(t, ours, claims("events", nil)),
			"another event":   sign(t, ours, claims("events", map[string]any{"http://schemas.openid.net/event/other": map[string]any{}})),
			"no object":       sign(t, ours, claims("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": "x"})),
			"no jti":          sign(t, ours, claims("jti", nil)),
			"no sid":          sign(t, ours, claims("sid", nil)),
			"expired":         sign(t, ours, claims("exp", time.Now().Add(-time.Minute).Unix())),
			"old":             sign(t, ours, claims("iat", time.Now().Add(-time.Hour).Unix())),
			"another session": sign(t, ours, claims("sid", "ses_3")),
			"another person":  sign(t, ours, claims("sub", "bob")),
		} {
			want := http.StatusBadRequest
			if strings.HasPrefix(what, "another session") || strings.HasPrefix(what, "another person") {
				want = http.StatusOK // ended already, perhaps
			}
			if got := post(token); got != want || len(d.sessions) != 2 {
				t.Errorf("%s: %d, %d sessions", what, got, len(d.sessions))
			}
		}
		good := sign(t, ours, claims())
		if got := post(good); got != http.StatusOK || len(d.sessions) != 1 || d.sessions["hers, too"].sid != "ses_2" {
			t.Errorf("%d, %v", got, d.sessions)
		}
		d.sessions["again"] = demoSession{sub: "ada", sid: "ses_1", at: time.Now()}
		if got := post(good); got != http.StatusBadRequest || len(d.sessions) != 2 {
			t.Errorf("once more: %d, %v", got, d.sessions)
		}
	})
}
