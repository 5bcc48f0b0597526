package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/harmony/id/account"
	"github.com/harmony/id/idp"
)

// OIDC Core 5.5: claims by name, in the ID token and at userinfo, as far as the client
// is allowed their scopes; the refreshed ID token has them as well.
func TestClaimsParameter(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		const ask = `{"userinfo":{"name":{"essential":true},"zoneinfo":null,"nobody_knows":null},"id_token":{"email":null,"email_verified":{"value":true},"auth_time":{"essential":true}}}`
		k := b.connect(w.acme, adaEmail, adaPassword, "scope", "openid offline_access", "claims", ask)
		u := w.userinfo(k.AccessToken)
		if len(u) != 3 || u["sub"] != w.ada.ID || u["name"] != "Ada Lovelace" || u["zoneinfo"] != "Europe/London" {
			t.Errorf("userinfo %v", u)
		}
		for what, k := range map[string]*tokens{"code": k, "refresh": w.acme.refresh(k.RefreshToken).ok()} {
			if c := k.claims(); c["email"] != adaEmail || c["email_verified"] != true || c["name"] != nil || c["sub"] != w.ada.ID {
				t.Errorf("%s: ID token %v", what, c)
			}
		}
		// Besides the scopes', not in place of them.
		u = w.userinfo(b.connect(w.acme, "", "", "scope", "openid email", "claims", `{"userinfo":{"name":null}}`).AccessToken)
		if len(u) != 4 || u["email"] != adaEmail || u["name"] != "Ada Lovelace" {
			t.Errorf("userinfo %v", u)
		}
		few := w.add(idp.Client{ID: "few", Name: "Few", RedirectURIs: []string{"https://few.test/cb"}, RequirePKCE: true, Scopes: []string{"openid"}})
		k = b.connect(few, "", "", "claims", ask)
		if u, c := w.userinfo(k.AccessToken), k.claims(); len(u) != 1 || c["email"] != nil {
			t.Errorf("without the scopes: %v, %v", u, c)
		}
		// The protocol's own cannot be asked away, and nonsense is refused.
		c := b.connect(w.acme, "", "", "claims", `{"id_token":{"iss":{"value":"https://evil.test"},"aud":null,"sid":null,"exp":{"value":1}}}`).claims()
		if c["iss"] != issuer || c["aud"] != "acme" {
			t.Errorf("ID token %v", c)
		}
		for _, bad := range []string{`{`, `[]`, `"x"`, `{"userinfo":[]}`, `{"id_token":{"acr":{"values":"x"}}}`, `{"userinfo":{"name":1}}`, strings.Repeat(`{"userinfo":`, 900)} {
			f := w.acme.begin("claims", bad)
			f.wantError(b.get(f.url()), "invalid_request")
		}
		f := w.acme.begin("claims", `{"unknown":1,"userinfo":null}`)
		f.code(b.get(f.url()))
	})
}

// OIDC Core 5.5.1.1: an essential acr is a demand, any other a wish; a sub that is
// asked for is the only one that is answered with.
func TestClaimsAskWhoAndHow(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		ask := func(essential bool, acr string) *flow {
			return w.acme.begin("claims", fmt.Sprintf(`{"id_token":{"acr":{"essential":%v,"values":[%q]}}}`, essential, acr))
		}
		f := ask(false, account.ACR2FA)
		if c := f.redeem(f.code(b.get(f.url()))).ok().claims(); c["acr"] != account.ACR1FA {
			t.Errorf("acr %v", c["acr"])
		}
		f = ask(true, account.ACR2FA)
		b.get(f.url()).want(http.StatusOK, pathTwoFactor)
		f.query.Set("prompt", "none")
		f.wantError(b.get(f.url()), "interaction_required")
		f = ask(true, "urn:nobody")
		f.wantError(b.get(f.url()), "unmet_authentication_requirements")
		f = ask(false, "urn:nobody")
		f.code(b.get(f.url()))

		who := func(sub string) *flow {
			return w.acme.begin("prompt", "none", "claims", fmt.Sprintf(`{"id_token":{"sub":{"value":%q}}}`, sub))
		}
		f = who(w.bob.ID)
		f.wantError(b.get(f.url()), "login_required")
		f = who(w.ada.ID)
		f.code(b.get(f.url()))
	})
}
