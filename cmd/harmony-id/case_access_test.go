package main

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// Access tokens of a client as itself (RFC 6749 4.4), and those that are JWTs (RFC
// 9068): TK-10, TK-12, TK-16.

// machine is a client in which nobody signs in.
func machine(accessToken string) idp.Client {
	return idp.Client{
		ID: "machine-" + accessToken, Name: "Machine", GrantTypes: []string{"client_credentials"}, Scopes: []string{"openid", "api.read", "api.write"}, AccessToken: accessToken,
	}
}

// reader is a workspace whose access tokens are JWTs.
func reader() idp.Client {
	return idp.Client{ID: "reader", Name: "Reader", RedirectURIs: []string{"https://reader.test/cb"}, RequirePKCE: true, AccessToken: idp.TokenJWT, IDTokenAlg: "RS256"}
}

// itself gets the client a token of its own.
func (c rp) itself(scope string) *tokens {
	c.w.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope != "" {
		form.Set("scope", scope)
	}
	k := c.post(form)
	if k.status != http.StatusOK || k.AccessToken == "" || k.IDToken != "" || k.RefreshToken != "" || k.TokenType != "Bearer" || k.ExpiresIn != 300 {
		c.w.t.Fatalf("client credentials: %d %s", k.status, k.raw)
	}
	return k
}

func TestTK10_ClientCredentials(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		opaque, jwt := w.add(machine("opaque")), w.add(machine("jwt"))
		for _, c := range []rp{opaque, jwt} {
			k := c.itself("")
			if k.Scope != "api.read api.write" {
				t.Errorf("%s: scope %q", c.id, k.Scope)
			}
			k = c.itself("api.write")
			now := time.Now().Unix()
			want := map[string]any{
				"active": true, "client_id": c.id, "aud": c.id, "iss": issuer, "sub": c.id, "scope": "api.write", "token_type": "Bearer", "iat": float64(now), "exp": float64(now + 300),
			}
			if got := c.introspect(k.AccessToken); !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", c.id, got, want)
			}
			for _, other := range []rp{opaque, jwt, w.acme} {
				if other.id != c.id {
					other.unknown("another client's own token", k.AccessToken)
				}
			}
			// It is nobody's, so it says nothing about anybody.
			if got := w.userinfo(k.AccessToken); got != nil {
				t.Errorf("%s: userinfo %v", c.id, got)
			}
			for _, scope := range []string{"openid", "api.read openid", "api.read profile", "offline_access", "api.delete", "API.READ"} {
				c.post(url.Values{"grant_type": {"client_credentials"}, "scope": {scope}}).refused(http.StatusBadRequest, "invalid_scope")
			}
			wrong := c
			wrong.secret = "x"
			wrong.post(url.Values{"grant_type": {"client_credentials"}}).refused(http.StatusUnauthorized, "invalid_client")
			c.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}).refused(http.StatusBadRequest, "unauthorized_client")
			c.post(url.Values{"grant_type": {"authorization_code"}, "code": {"x"}, "redirect_uri": {"x"}}).refused(http.StatusBadRequest, "unauthorized_client")
			time.Sleep(5 * time.Minute)
			c.unknown("expired", k.AccessToken)
		}
		// One can be given back, the other cannot, and the client is told so.
		k := opaque.itself("")
		jwt.revoke(k.AccessToken)
		if opaque.introspect(k.AccessToken)["active"] != true {
			t.Error("another client ended it")
		}
		opaque.revoke(k.AccessToken)
		opaque.unknown("revoked", k.AccessToken)
		k = jwt.itself("")
		opaque.revoke(k.AccessToken)
		if p := jwt.send(jwt.request("/oauth/revoke", url.Values{"token": {k.AccessToken}}, nil)); p.status != http.StatusBadRequest || !strings.Contains(p.body, "unsupported_token_type") {
			t.Errorf("revocation of a client's own JWT: %d %s", p.status, p.body)
		}
		// No person's sign-in at a client in which nobody signs in.
		b := w.newBrowser()
		b.get("/authorize?" + url.Values{"client_id": {opaque.id}, "response_type": {"code"}, "redirect_uri": {"https://machine.test/cb"}, "scope": {"openid"}}.Encode()).wantBroken(brokenLink)
	})
}

// A client's own grants go with their tokens.
func TestTK10_ClientCredentialsLeaveNothing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.add(machine("opaque"))
		for range 3 {
			c.itself("")
		}
		time.Sleep(5 * time.Minute)
		alive := c.itself("")
		_, f, code := w.granted(w.acme)
		time.Sleep(time.Minute + time.Second)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count(`grants WHERE client_id = 'machine-opaque'`); n != 1 || c.introspect(alive.AccessToken)["active"] != true {
			t.Errorf("%d grants of the client, want the one that lives", n)
		}
		if n := w.count(`grants WHERE client_id = 'acme'`); n != 1 {
			t.Errorf("%d grants of a person, want 1", n)
		}
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		// And with the client, at once.
		w.change(`UPDATE clients SET disabled_at = 1 WHERE id = 'machine-opaque'`)
		c.post(url.Values{"grant_type": {"client_credentials"}}).refused(http.StatusUnauthorized, "invalid_client")
	})
}

// claimsOf decodes a JWT after checking it with the provider's keys.
func (w *world) claimsOf(token, alg, typ string) map[string]any {
	w.t.Helper()
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(w.newBrowser().get("/jwks").body), &keys); err != nil {
		w.t.Fatal(err)
	}
	jws := must(jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)}))(w.t)
	head := jws.Signatures[0].Protected
	if head.ExtraHeaders[jose.HeaderType] != typ || len(keys.Key(head.KeyID)) != 1 {
		w.t.Fatalf("header %+v", head)
	}
	var c map[string]any
	if err := json.Unmarshal(must(jws.Verify(keys.Key(head.KeyID)[0]))(w.t), &c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestTK12_JWTAccessToken(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.add(reader())
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		signedIn := time.Now().Unix()
		time.Sleep(10 * time.Second)
		k := b.connect(c, adaEmail, adaPassword)
		now := float64(time.Now().Unix())
		got := w.claimsOf(k.AccessToken, "ES256", "at+jwt")
		jti, amr := got["jti"], got["amr"]
		want := map[string]any{
			"iss": issuer, "sub": w.ada.ID, "aud": "reader", "client_id": "reader", "exp": now + 300, "iat": now, "scope": k.Scope, "auth_time": float64(signedIn), "acr": "urn:harmony:acr:1fa",
		}
		if !maps.Equal(with(got, "jti", nil, "amr", nil), want) || jti == "" || !slices.Equal(amr.([]any), []any{"pwd"}) {
			t.Errorf("claims %v, want %v", got, want)
		}
		if w.claimsOf(c.refresh(k.RefreshToken).ok().AccessToken, "ES256", "at+jwt")["jti"] == jti {
			t.Error("two tokens of one jti")
		}
		if info := w.userinfo(k.AccessToken); info["sub"] != w.ada.ID || info["email"] != adaEmail {
			t.Errorf("userinfo = %v", info)
		}
		if told := c.introspect(k.AccessToken); told["active"] != true || told["sub"] != w.ada.ID || told["exp"] != now+300 || told["iat"] != now || told["scope"] != k.Scope {
			t.Errorf("introspection = %v", told)
		}
		w.acme.unknown("another client's JWT", k.AccessToken)

		// It is good for nothing else.
		f := c.begin("prompt", "none", "id_token_hint", k.AccessToken)
		f.wantError(b.get(f.url()), "invalid_request")
		if p := b.get(leave("id_token_hint", k.AccessToken)); p.status != http.StatusOK || p.url.Path != "/end_session" {
			t.Errorf("signed out by an access token: %d %s", p.status, p.url)
		}
		c.refresh(k.AccessToken).refused(http.StatusBadRequest, "invalid_grant")
		c.post(f.redemption(k.AccessToken)).refused(http.StatusBadRequest, "invalid_grant")
		if w.userinfo(k.IDToken) != nil || c.introspect(k.IDToken)["active"] != false {
			t.Error("an ID token is taken for an access token")
		}

		// What is signed by us and is not what we sign, and what is signed by others.
		part := strings.Split(k.AccessToken, ".")
		for what, token := range map[string]string{
			"typ JWT":            sign(t, w.signer("ES256", "JWT"), got),
			"no typ":             sign(t, w.signer("ES256", ""), got),
			"logout token":       sign(t, w.signer("ES256", "logout+jwt"), got),
			"another's key":      sign(t, newSigner(t, "ES256", "at+jwt", "x"), got),
			"another's, our kid": sign(t, newSigner(t, "ES256", "at+jwt", must(jose.ParseSignedCompact(k.AccessToken, []jose.SignatureAlgorithm{"ES256"}))(t).Signatures[0].Protected.KeyID), got),
			"another issuer":     sign(t, w.signer("ES256", "at+jwt"), with(got, "iss", "https://evil.test")),
			"expired":            sign(t, w.signer("ES256", "at+jwt"), with(got, "exp", now)),
			"no exp":             sign(t, w.signer("ES256", "at+jwt"), with(got, "exp", nil)),
			"no client":          sign(t, w.signer("ES256", "at+jwt"), with(got, "client_id", nil)),
			"another client":     sign(t, w.signer("ES256", "at+jwt"), with(got, "client_id", "acme")),
			"no jti":             sign(t, w.signer("ES256", "at+jwt"), with(got, "jti", nil)),
			"another grant":      sign(t, w.signer("ES256", "at+jwt"), with(got, "jti", secret.Token(secret.ID("")+"_"))),
			"null":               sign(t, w.signer("ES256", "at+jwt"), nil),
			"aud [1]":            sign(t, w.signer("ES256", "at+jwt"), with(got, "aud", []int{1})),
			"alg none":           base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + part[1] + ".",
			"signature cut":      part[0] + "." + part[1] + ".",
			"a line after":       k.AccessToken + "\n",
		} {
			if w.userinfo(token) != nil && what != "a line after" {
				t.Errorf("%s: userinfo answers", what)
			}
			c.unknown(what, token)
			c.revoke(token)
		}
		if w.userinfo(k.AccessToken) == nil {
			t.Fatal("some of that has ended the grant")
		}
		c.revoke(k.AccessToken)
		w.dead(c, k)
		c.unknown("revoked", k.AccessToken)
		time.Sleep(time.Second)

		// It dies with its session, for whoever asks.
		k = b.connect(c, adaEmail, adaPassword)
		b.post("/logout", url.Values{})
		w.dead(c, k)
		c.unknown("signed out", k.AccessToken)
	})
}
