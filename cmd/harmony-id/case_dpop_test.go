package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// Tokens that are bound to a key (DPoP, RFC 9449).

// A prover has the key that its tokens are bound to.
type prover struct {
	*keyring
}

func newProver(t testing.TB, alg string) prover { return prover{newKeyring(t, alg)} }

// jkt is the key's thumbprint (RFC 7638).
func (p prover) jkt() string {
	p.t.Helper()
	public := p.keys[0].Public()
	return base64.RawURLEncoding.EncodeToString(must(public.Thumbprint(crypto.SHA256))(p.t))
}

func (p prover) claims(method, to, token string) map[string]any {
	c := map[string]any{"jti": secret.ID(""), "htm": method, "htu": issuer + to, "iat": time.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		c["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return c
}

func (p prover) signed(typ string, claims map[string]any) string {
	p.t.Helper()
	k := jose.JSONWebKey{Key: p.keys[0].Key}
	options := (&jose.SignerOptions{EmbedJWK: true}).WithType(jose.ContentType(typ))
	return sign(p.t, must(jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(p.keys[0].Algorithm), Key: k}, options))(p.t), claims)
}

// proof makes a new proof for a request.
func (p prover) proof(method, to, token string) http.Header {
	p.t.Helper()
	return http.Header{"Dpop": {p.signed("dpop+jwt", p.claims(method, to, token))}}
}

func (p prover) post(c rp, form url.Values) *tokens {
	p.t.Helper()
	return c.postAt(c.w.house, form, p.proof(http.MethodPost, "/oauth/token", ""))
}

func (p prover) redeem(f *flow, code string) *tokens {
	p.t.Helper()
	return p.post(f.rp, f.redemption(code))
}

func (p prover) refresh(c rp, token string) *tokens {
	p.t.Helper()
	return p.post(c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func (p prover) userinfo(w *world, token string) *page {
	p.t.Helper()
	h := p.proof(http.MethodGet, "/userinfo", token)
	h.Set("Authorization", "DPoP "+token)
	return w.bearer(http.MethodGet, h, nil)
}

// wantChallenge checks a 401 of userinfo.
func (p *page) wantChallenge(begins string) {
	p.t.Helper()
	if got := p.header.Get("WWW-Authenticate"); p.status != http.StatusUnauthorized || !strings.HasPrefix(got, begins) {
		p.t.Fatalf("userinfo: %d %q %s, want a 401 that begins %s", p.status, got, p.body, begins)
	}
}

func bearerOf(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func TestDPoP(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		jwt := w.add(reader())
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for i, c := range []rp{w.acme, w.globex, jwt} {
			mine, other := newProver(t, []string{"ES256", "EdDSA", "PS256"}[i]), newProver(t, "ES256")
			f, code := b.again(c)
			k := mine.redeem(f, code).ok()
			if k.TokenType != "DPoP" {
				t.Errorf("%s: token_type %q", c.id, k.TokenType)
			}
			if k = mine.refresh(c, k.RefreshToken).ok(); k.TokenType != "DPoP" {
				t.Errorf("%s: token_type %q", c.id, k.TokenType)
			}
			mine.userinfo(w, k.AccessToken).want(http.StatusOK, "/userinfo")

			// Whoever only has the token has nothing.
			w.bearer(http.MethodGet, bearerOf(k.AccessToken), nil).wantChallenge(`DPoP error="invalid_token", algs="ES256 `)
			w.bearer(http.MethodPost, nil, url.Values{"access_token": {k.AccessToken}}).wantChallenge(`DPoP error="invalid_token"`)
			w.bearer(http.MethodGet, http.Header{"Authorization": {"DPoP " + k.AccessToken}}, nil).wantChallenge(`DPoP error="invalid_dpop_proof"`)
			other.userinfo(w, k.AccessToken).wantChallenge(`DPoP error="invalid_dpop_proof"`)
			// A proof is for this token and this request, and for once.
			another := mine.refresh(c, k.RefreshToken).ok().AccessToken
			for what, proof := range map[string]http.Header{
				"another token's": mine.proof(http.MethodGet, "/userinfo", another),
				"no token's":      mine.proof(http.MethodGet, "/userinfo", ""),
				"another method":  mine.proof(http.MethodPost, "/userinfo", k.AccessToken),
				"another address": mine.proof(http.MethodGet, "/oauth/token", k.AccessToken),
			} {
				proof.Set("Authorization", "DPoP "+k.AccessToken)
				t.Log(what)
				w.bearer(http.MethodGet, proof, nil).wantChallenge(`DPoP error="invalid_dpop_proof"`)
			}
			proof := mine.proof(http.MethodGet, "/userinfo", k.AccessToken)
			proof.Set("Authorization", "DPoP "+k.AccessToken)
			w.bearer(http.MethodGet, proof, nil).want(http.StatusOK, "/userinfo")
			w.bearer(http.MethodGet, proof, nil).wantChallenge(`DPoP error="invalid_dpop_proof"`)

			if c.auth != idp.AuthNone {
				got := c.introspect(k.AccessToken)
				if cnf, _ := got["cnf"].(map[string]any); got["token_type"] != "DPoP" || cnf["jkt"] != mine.jkt() {
					t.Errorf("%s: introspection %v", c.id, got)
				}
			}
			// A token that is bound to nothing cannot be passed off as bound.
			f, code = b.again(c)
			plain := f.redeem(code).ok()
			if plain.TokenType != "Bearer" {
				t.Errorf("token_type %q", plain.TokenType)
			}
			mine.userinfo(w, plain.AccessToken).wantChallenge(`Bearer error="invalid_token"`)
			if strings.HasPrefix(k.AccessToken, "hdt_") {
				w.bearer(http.MethodGet, bearerOf("hat_"+k.AccessToken[4:]), nil).wantChallenge(`Bearer error="invalid_token"`)
				mine.userinfo(w, "hdt_"+plain.AccessToken[4:]).wantChallenge(`Bearer error="invalid_token"`)
			}
		}
		claims := w.claimsOf(newProver(t, "ES256").redeem(firstOf(b.again(jwt))).ok().AccessToken, "ES256", "at+jwt")
		if _, ok := claims["cnf"].(map[string]any)["jkt"]; !ok {
			t.Errorf("the JWT says %v", claims)
		}
	})
}

func firstOf(f *flow, code string) (*flow, string) { return f, code }

// A public client's refresh token is bound to its key, a confidential client's to
// the client (RFC 9449 5).
func TestDPoPRefresh(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		mine, other := newProver(t, "ES256"), newProver(t, "ES256")

		f, code := b.again(w.globex)
		k := mine.redeem(f, code).ok()
		other.refresh(w.globex, k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		w.globex.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		next := mine.refresh(w.globex, k.RefreshToken).ok()
		other.refresh(w.globex, k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant") // within the grace
		time.Sleep(time.Minute)
		next = mine.refresh(w.globex, next.RefreshToken).ok()
		other.refresh(w.globex, k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant") // reuse, by somebody without the key: not even that ends it
		w.globex.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		mine.refresh(w.globex, next.RefreshToken).ok()

		f, code = b.again(w.acme)
		k = mine.redeem(f, code).ok()
		w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant") // no way back to tokens that anybody can use
		if k = other.refresh(w.acme, k.RefreshToken).ok(); k.TokenType != "DPoP" {
			t.Errorf("token_type %q", k.TokenType)
		}
		other.userinfo(w, k.AccessToken).want(http.StatusOK, "/userinfo")
		mine.userinfo(w, k.AccessToken).wantChallenge(`DPoP error="invalid_dpop_proof"`)
	})
}

// A code can be bound to the key before it is given (RFC 9449 10).
func TestDPoPCode(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		mine, other := newProver(t, "ES256"), newProver(t, "ES256")
		f, code := b.again(w.acme, "dpop_jkt", mine.jkt())
		mine.redeem(f, code).ok()
		for _, wrong := range []func(f *flow, code string) *tokens{other.redeem, (*flow).redeem} {
			f, code = b.again(w.acme, "dpop_jkt", mine.jkt())
			wrong(f, code).refused(http.StatusBadRequest, "invalid_grant")
			mine.redeem(f, code).refused(http.StatusBadRequest, "invalid_grant") // it is spent
		}
		// A proof at the pushed request binds it, too.
		f = w.acme.begin()
		f.pushed = w.acme.pushing(f.query, mine.proof(http.MethodPost, "/oauth/par", "")).ok().URI
		code = f.code(b.get(f.url()))
		other.redeem(f, code).refused(http.StatusBadRequest, "invalid_grant")
		f = w.acme.begin("dpop_jkt", other.jkt())
		w.acme.pushing(f.query, mine.proof(http.MethodPost, "/oauth/par", "")).refused(http.StatusBadRequest, "invalid_dpop_proof")
		w.acme.pushing(f.query, mine.proof(http.MethodPost, "/oauth/token", "")).refused(http.StatusBadRequest, "invalid_dpop_proof")
		f.pushed = w.acme.pushing(f.query, other.proof(http.MethodPost, "/oauth/par", "")).ok().URI
		other.redeem(f, f.code(b.get(f.url()))).ok()
	})
}

// A client that is registered so gets no token that anybody can use.
func TestDPoPRequired(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.add(idp.Client{
			ID: "bound", Name: "Bound", RedirectURIs: []string{"https://bound.test/cb"}, RequirePKCE: true, DPoP: true,
			GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials"}, Scopes: []string{"openid", "offline_access", "api.read"},
		})
		mine := newProver(t, "ES256")
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f, code := b.again(c)
		f.redeem(code).refused(http.StatusBadRequest, "invalid_dpop_proof")
		k := mine.redeem(f, code).ok() // which it forgot; the code is still there
		c.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_dpop_proof")
		itself := url.Values{"grant_type": {"client_credentials"}}
		c.post(itself).refused(http.StatusBadRequest, "invalid_dpop_proof")
		k = mine.post(c, itself)
		if cnf, _ := c.introspect(k.AccessToken)["cnf"].(map[string]any); k.TokenType != "DPoP" || cnf["jkt"] != mine.jkt() {
			t.Errorf("client credentials: %s", k.raw)
		}
	})
}

func TestDPoPProofsRefused(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		c := w.add(machine("opaque"))
		mine, other := newProver(t, "ES256"), newProver(t, "ES256")
		good := func(changes ...any) map[string]any {
			return with(mine.claims(http.MethodPost, "/oauth/token", ""), changes...)
		}
		now := time.Now().Unix()
		whole := strings.Split(mine.signed("dpop+jwt", good()), ".")
		embed := func(key any, alg string, signer any) string {
			s := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: signer}, (&jose.SignerOptions{}).WithType("dpop+jwt").WithHeader("jwk", json.RawMessage(must(json.Marshal(key))(t)))))
			return sign(t, s(t), good())
		}
		for what, proof := range map[string]string{
			"nothing":              "",
			"not a JWT":            "x",
			"another type":         mine.signed("JWT", good()),
			"no type":              mine.signed("", good()),
			"no jti":               mine.signed("dpop+jwt", good("jti", nil)),
			"a long jti":           mine.signed("dpop+jwt", good("jti", strings.Repeat("j", 256))),
			"another method":       mine.signed("dpop+jwt", good("htm", "GET")),
			"the method in small":  mine.signed("dpop+jwt", good("htm", "post")),
			"no method":            mine.signed("dpop+jwt", good("htm", nil)),
			"another address":      mine.signed("dpop+jwt", good("htu", issuer+"/userinfo")),
			"another host":         mine.signed("dpop+jwt", good("htu", "https://evil.test/oauth/token")),
			"a name in it":         mine.signed("dpop+jwt", good("htu", strings.Replace(issuer, "://", "://id.test@", 1)+"/oauth/token")),
			"no address":           mine.signed("dpop+jwt", good("htu", nil)),
			"old":                  mine.signed("dpop+jwt", good("iat", now-61)),
			"of the future":        mine.signed("dpop+jwt", good("iat", now+11)),
			"without a time":       mine.signed("dpop+jwt", good("iat", nil)),
			"another's signature":  whole[0] + "." + whole[1] + "." + strings.Split(other.signed("dpop+jwt", good()), ".")[2],
			"no signature":         whole[0] + "." + whole[1] + ".",
			"changed":              whole[0] + "." + b64(`{"jti":"x","htm":"POST","htu":"`+issuer+`/oauth/token","iat":99999999999}`) + "." + whole[2],
			"alg none":             b64(`{"typ":"dpop+jwt","alg":"none"}`) + "." + whole[1] + ".",
			"no key":               sign(t, must(jose.NewSigner(jose.SigningKey{Algorithm: "ES256", Key: mine.keys[0].Key}, (&jose.SignerOptions{}).WithType("dpop+jwt")))(t), good()),
			"the private key":      embed(jose.JSONWebKey{Key: mine.keys[0].Key}, "ES256", mine.keys[0].Key),
			"another's key":        embed(other.keys[0].Public(), "ES256", mine.keys[0].Key),
			"a key for encryption": embed(jose.JSONWebKey{Key: mine.keys[0].Public().Key, Use: "enc"}, "ES256", mine.keys[0].Key),
			"a symmetric key":      embed(map[string]any{"kty": "oct", "k": b64(strings.Repeat("k", 32))}, "HS256", []byte(strings.Repeat("k", 32))),
			"too long":             mine.signed("dpop+jwt", good("more", strings.Repeat("m", 9<<10))),
		} {
			t.Log(what)
			c.postAt(w.house, url.Values{"grant_type": {"client_credentials"}}, http.Header{"Dpop": {proof}}).refused(http.StatusBadRequest, "invalid_dpop_proof")
		}
		two := mine.proof(http.MethodPost, "/oauth/token", "")
		two.Add("DPoP", mine.signed("dpop+jwt", good()))
		c.postAt(w.house, url.Values{"grant_type": {"client_credentials"}}, two).refused(http.StatusBadRequest, "invalid_dpop_proof")
		for what, claims := range map[string]map[string]any{
			"a minute old":            good("iat", now-59),
			"a clock that goes ahead": good("iat", now+9),
			"a query":                 good("htu", issuer+"/oauth/token?x=y#z"),
			"the host in capitals":    good("htu", strings.ToUpper(issuer)+"/oauth/token"),
			"the port":                good("htu", issuer+":443/oauth/token"),
			"a fraction of a second":  good("iat", float64(now)-0.5),
		} {
			t.Log(what)
			c.postAt(w.house, url.Values{"grant_type": {"client_credentials"}}, http.Header{"Dpop": {mine.signed("dpop+jwt", claims)}}).refusedNot()
		}
	})
}

// A proof that was used before a backup was restored is not taken again after it.
func TestDPoPAfterARestore(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		c := w.add(machine("opaque"))
		itself := url.Values{"grant_type": {"client_credentials"}}
		mine := newProver(t, "ES256")
		proof := mine.proof(http.MethodPost, "/oauth/token", "")
		c.postAt(w.house, itself, proof).refusedNot()
		w.change(`DELETE FROM assertions`)
		w.change(`INSERT INTO settings (name, value) VALUES ('restored_at', $1)`, fmt.Sprint(db.Micros(time.Now())))
		w.forget()
		c.postAt(w.house, itself, proof).refused(http.StatusBadRequest, "invalid_dpop_proof")
		mine.post(c, itself).refusedNot()
	})
}

func TestDPoPRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, _ func(int) *house) {
		c := w.register(machine("opaque"))
		both := []*house{w.newReplica(), w.newReplica()} // which know it from their start
		mine := newProver(t, "ES256")
		for range 5 {
			proof := mine.proof(http.MethodPost, "/oauth/token", "")
			var got [racers]*tokens
			release(func(i int) {
				got[i] = c.postAt(both[i%2], url.Values{"grant_type": {"client_credentials"}}, proof)
			})
			winners := 0
			for _, k := range got {
				if k.status == http.StatusOK {
					winners++
				} else {
					k.refused(http.StatusBadRequest, "invalid_dpop_proof")
				}
			}
			if winners != 1 {
				t.Fatalf("%d of %d used one proof", winners, racers)
			}
		}
	})
}

// LG-02: what a stranger's JWT says of itself does not fill the log.
func TestLG02_LongHeadersOfJWTs(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		long := strings.Repeat("\x1b[2J", 400)
		jwt := b64(string(must(json.Marshal(map[string]any{"typ": "JWT", "alg": long}))(t))) + ".e30.e30"
		w.globex.postAt(w.house, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, http.Header{"Dpop": {jwt}}).refused(http.StatusBadRequest, "invalid_dpop_proof")
		w.globex.post(url.Values{
			"grant_type": {"refresh_token"}, "client_assertion": {jwt}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}).refused(http.StatusUnauthorized, "invalid_client")
		w.bearer(http.MethodGet, bearerOf(jwt), nil).wantChallenge("Bearer")
		b := w.newBrowser()
		f := w.acme.begin("id_token_hint", jwt)
		f.wantError(b.get(f.url()), "invalid_request")
		b.get("/end_session?" + url.Values{"id_token_hint": {jwt}}.Encode())
		for line := range strings.Lines(w.log.String()) {
			if len(line) > 1500 {
				t.Errorf("%d bytes: %.200s", len(line), line)
			}
		}
	})
}

// A page of a workspace may send proofs.
func TestDPoPFromAPage(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		for _, to := range []string{"/userinfo", "/oauth/token", "/oauth/par"} {
			r := must(http.NewRequestWithContext(context.Background(), http.MethodOptions, issuer+to, nil))(t)
			r.Header.Set("Origin", "https://globex.test")
			r.Header.Set("Access-Control-Request-Method", "POST")
			r.Header.Set("Access-Control-Request-Headers", "dpop")
			res := must(network{w.house, "192.0.2.10"}.RoundTrip(r))(t)
			if !strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "DPoP") {
				t.Errorf("%s: %v", to, res.Header)
			}
		}
	})
}
