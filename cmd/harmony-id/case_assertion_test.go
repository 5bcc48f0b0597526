package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// Clients that prove themselves with a key (private_key_jwt): TK-20.

// A keyring is a client's signing keys.
type keyring struct {
	t    testing.TB
	keys []jose.JSONWebKey
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newKeyring(t testing.TB, algs ...string) *keyring {
	r := &keyring{t: t}
	for _, alg := range algs {
		r.add(alg)
	}
	return r
}

// add makes a key, the one that signs from now on.
func (r *keyring) add(alg string) {
	var key crypto.Signer = rsaKey()
	switch alg {
	case "ES256":
		key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(r.t)
	case "EdDSA":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		key = must(private, err)(r.t)
	}
	r.keys = append(r.keys, jose.JSONWebKey{Key: key, KeyID: secret.ID("key-"), Algorithm: alg, Use: "sig"})
}

func (r *keyring) public() jose.JSONWebKeySet {
	var set jose.JSONWebKeySet
	for _, k := range r.keys {
		set.Keys = append(set.Keys, k.Public())
	}
	return set
}

func (r *keyring) signer(typ string) jose.Signer {
	r.t.Helper()
	k := r.keys[len(r.keys)-1]
	options := &jose.SignerOptions{}
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	return must(jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k}, options))(r.t)
}

// client is a client with these keys, for people and for itself.
func (r *keyring) client(id string) idp.Client {
	return idp.Client{
		ID: id, Name: "Keyed", RedirectURIs: []string{"https://keyed.test/cb"}, RequirePKCE: true, AuthMethod: idp.AuthKey,
		GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials"}, JWKS: string(must(json.Marshal(r.public()))(r.t)),
	}
}

func (r *keyring) claims(id string) map[string]any {
	now := time.Now().Unix()
	return map[string]any{"iss": id, "sub": id, "aud": issuer, "iat": now, "exp": now + 60, "jti": secret.ID("")}
}

// assertion makes a new assertion each time.
func (r *keyring) assertion(id string) func() string {
	return func() string { return sign(r.t, r.signer("JWT"), r.claims(id)) }
}

func TestTK20_PrivateKeyJWT(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, alg := range []string{"ES256", "PS256", "EdDSA", "RS256"} {
			ring := newKeyring(t, alg)
			c := w.add(ring.client("keyed-" + alg))
			if c.secret != "" {
				t.Errorf("%s: it has a secret, too", alg)
			}
			c.assert = ring.assertion(c.id)
			f, code := b.again(c)
			k := c.refresh(f.redeem(code).ok().RefreshToken).ok()
			if c.introspect(k.AccessToken)["active"] != true {
				t.Errorf("%s: introspection", alg)
			}
			c.revoke(k.AccessToken)
			w.dead(c, k)
			if got := c.itself(""); got.Scope != "" {
				t.Errorf("%s: scope %q", alg, got.Scope)
			}
			// client_id may be left out, and may not be another's.
			for id, want := range map[string]int{"": http.StatusOK, c.id: http.StatusOK, "acme": http.StatusUnauthorized, "nobody": http.StatusUnauthorized} {
				form := url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {c.assert()}}
				if id != "" {
					form.Set("client_id", id)
				}
				if p := b.raw(http.MethodPost, "/oauth/token", form.Encode(), nil); p.status != want {
					t.Errorf("%s, client_id %q: %d %s", alg, id, p.status, p.body)
				}
			}
		}
	})
}

func TestTK20_AssertionsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		ring, theirs := newKeyring(t, "ES256"), newKeyring(t, "ES256")
		c, other := w.add(ring.client("keyed")), w.add(theirs.client("other"))
		strange := newKeyring(t, "ES256", "PS256", "RS256", "EdDSA")
		now := time.Now().Unix()
		good := func(changes ...any) map[string]any { return with(ring.claims("keyed"), changes...) }
		es := ring.signer("JWT")
		part := strings.Split(sign(t, es, good()), ".")
		hmac := func(alg string, key []byte) string {
			s := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: key, KeyID: ring.keys[0].KeyID}}, nil))(t)
			return sign(t, s, good())
		}
		renamed := newKeyring(t, "ES256")
		renamed.keys[0].KeyID = ring.keys[0].KeyID
		embedded := must(jose.NewSigner(jose.SigningKey{Algorithm: "ES256", Key: strange.keys[0].Key}, &jose.SignerOptions{EmbedJWK: true}))(t)
		for what, token := range map[string]string{
			"iss of another":         sign(t, es, good("iss", "other")),
			"sub of another":         sign(t, es, good("sub", "other")),
			"no iss":                 sign(t, es, good("iss", nil)),
			"no sub":                 sign(t, es, good("sub", nil)),
			"another's key":          sign(t, theirs.signer("JWT"), good()),
			"a stranger's key":       sign(t, strange.signer("JWT"), good()),
			"our kid, not our key":   sign(t, renamed.signer("JWT"), good()),
			"a key in the header":    sign(t, embedded, good()),
			"the provider's key":     sign(t, w.signer("ES256", "JWT"), good()),
			"no aud":                 sign(t, es, good("aud", nil)),
			"aud elsewhere":          sign(t, es, good("aud", "https://evil.test")),
			"aud with a slash":       sign(t, es, good("aud", issuer+"/")),
			"aud of userinfo":        sign(t, es, good("aud", issuer+"/userinfo")),
			"aud of nothing":         sign(t, es, good("aud", []string{})),
			"aud of others":          sign(t, es, good("aud", []string{"https://evil.test", "acme"})),
			"aud a number":           sign(t, es, good("aud", []int{1})),
			"expired":                sign(t, es, good("exp", now-11)),
			"a day long":             sign(t, es, good("exp", now+86400)),
			"a bit too long":         sign(t, es, good("exp", now+320)),
			"no exp":                 sign(t, es, good("exp", nil)),
			"exp without end":        sign(t, es, good("exp", 1e300)),
			"exp as text":            sign(t, es, good("exp", "soon")),
			"from tomorrow":          sign(t, es, good("iat", now+20)),
			"not before tomorrow":    sign(t, es, good("nbf", now+20)),
			"no jti":                 sign(t, es, good("jti", nil)),
			"jti of nothing":         sign(t, es, good("jti", "")),
			"jti too long":           sign(t, es, good("jti", strings.Repeat("j", 256))),
			"typ of an access token": sign(t, ring.signer("at+jwt"), good()),
			"typ of a logout token":  sign(t, ring.signer("logout+jwt"), good()),
			"typ of a DPoP proof":    sign(t, ring.signer("dpop+jwt"), good()),
			"alg none":               b64(`{"alg":"none"}`) + "." + part[1] + ".",
			"no signature":           part[0] + "." + part[1] + ".",
			"HS256 with the JWKS":    hmac("HS256", must(json.Marshal(ring.public()))(t)),
			"null":                   sign(t, es, nil),
			"too long":               sign(t, es, good("x", strings.Repeat("x", 9000))),
		} {
			bad := c
			bad.assert = func() string { return token }
			if k := bad.post(url.Values{"grant_type": {"client_credentials"}}); k.status != http.StatusUnauthorized || k.Error != "invalid_client" || k.AccessToken != "" {
				t.Errorf("%s: %d %s", what, k.status, k.raw)
			}
			for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
				if p := bad.send(bad.request(path, url.Values{"token": {"x"}}, nil)); p.status != http.StatusUnauthorized {
					t.Errorf("%s, %s: %d %s", path, what, p.status, p.body)
				}
			}
		}
		for _, token := range traps() {
			bad := c
			bad.assert = func() string { return token }
			bad.post(url.Values{"grant_type": {"client_credentials"}}).refused(http.StatusUnauthorized, "invalid_client")
		}
		if n := w.count("assertions"); n != 0 {
			t.Errorf("what is refused was written down %d times", n)
		}
		// The limits themselves, and what may differ.
		for what, token := range map[string]string{
			"aud the token endpoint": sign(t, es, good("aud", issuer+"/oauth/token")),
			"aud among others":       sign(t, es, good("aud", []string{"https://else.test", issuer})),
			"five minutes":           sign(t, es, good("exp", now+300)),
			"a clock that is slow":   sign(t, es, good("exp", now-9)),
			"a clock that is fast":   sign(t, es, good("iat", now+10, "nbf", now+10, "exp", now+310)),
			"no iat":                 sign(t, es, good("iat", nil)),
			"no typ":                 sign(t, ring.signer(""), good()),
			"a type of its own":      sign(t, ring.signer("client-authentication+jwt"), good()),
			"half a second":          sign(t, es, good("exp", float64(now)+30.5)),
			"the longest jti":        sign(t, es, good("jti", strings.Repeat("j", 255))),
		} {
			fine := c
			fine.assert = func() string { return token }
			if k := fine.post(url.Values{"grant_type": {"client_credentials"}}); k.status != http.StatusOK {
				t.Errorf("%s: %d %s", what, k.status, k.raw)
			}
		}
		// The registered method is the only one, at every endpoint, for either side.
		for what, wrong := range map[string]rp{
			"no authentication":   {w: w, id: "keyed", auth: idp.AuthNone},
			"a secret":            {w: w, id: "keyed", auth: idp.AuthPost, secret: secret.Token("hcs_")},
			"a secret of nothing": {w: w, id: "keyed", auth: idp.AuthPost},
			"Basic":               {w: w, id: "keyed", auth: idp.AuthBasic, secret: secret.Token("hcs_")},
			"Basic of nothing":    {w: w, id: "keyed", auth: idp.AuthBasic},
			"acme's assertion":    {w: w, id: "acme", auth: idp.AuthKey, assert: func() string { return sign(t, es, with(ring.claims("acme"))) }},
		} {
			wrong.post(url.Values{"grant_type": {"client_credentials"}}).refused(http.StatusUnauthorized, "invalid_client")
			for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
				if p := wrong.send(wrong.request(path, url.Values{"token": {"x"}}, nil)); p.status != http.StatusUnauthorized {
					t.Errorf("%s, %s: %d %s", path, what, p.status, p.body)
				}
			}
		}
		c.assert, other.assert = ring.assertion("keyed"), theirs.assertion("other")
		c.post(url.Values{"grant_type": {"client_credentials"}, "client_secret": {"x"}}).refused(http.StatusBadRequest, "invalid_request")
		c.postAt(w.house, url.Values{"grant_type": {"client_credentials"}}, http.Header{"Authorization": {"Basic eDp5"}}).refused(http.StatusBadRequest, "invalid_request")
		other.itself("")
	})
}

// An assertion counts once, and its client's name with it.
func TestTK20_AssertionOnce(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		ring := newKeyring(t, "ES256")
		c, twin := w.add(ring.client("keyed")), w.add(ring.client("twin"))
		claims := ring.claims("keyed")
		form := url.Values{"grant_type": {"client_credentials"}}
		c.assert = func() string { return sign(t, ring.signer("JWT"), claims) } // signed anew, the same jti
		c.post(form).refusedNot()
		c.post(form).refused(http.StatusUnauthorized, "invalid_client")
		time.Sleep(60 * time.Second)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.post(form).refused(http.StatusUnauthorized, "invalid_client") // within the skew
		if n := w.count("assertions"); n != 1 {
			t.Errorf("%d assertions are remembered", n)
		}
		time.Sleep(12 * time.Second) // a replica whose clock goes behind is within it still
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count("assertions"); n != 1 {
			t.Errorf("%d assertions are remembered after the skew", n)
		}
		twin.assert = func() string { return sign(t, ring.signer("JWT"), with(ring.claims("twin"), "jti", claims["jti"])) }
		twin.post(form).refusedNot() // another client's jti is another
		time.Sleep(2 * time.Minute)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count("assertions"); n != 0 {
			t.Errorf("%d assertions are left", n)
		}
		c.post(form).refused(http.StatusUnauthorized, "invalid_client")
	})
}

func (k *tokens) refusedNot() {
	k.t.Helper()
	if k.status != http.StatusOK {
		k.t.Fatalf("token endpoint: %d %s", k.status, k.raw)
	}
}

func TestTK20_AssertionRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		ring := newKeyring(t, "ES256")
		c := w.register(ring.client("keyed"))
		both := []*house{w.newReplica(), w.newReplica()} // which know it from their start
		for range 5 {
			token := ring.assertion("keyed")()
			c.assert = func() string { return token }
			var got [racers]*tokens
			release(func(i int) {
				got[i] = c.postAt(both[i%2], url.Values{"grant_type": {"client_credentials"}}, nil)
			})
			winners := 0
			for _, k := range got {
				if k.status == http.StatusOK {
					winners++
				} else {
					k.refused(http.StatusUnauthorized, "invalid_client")
				}
			}
			if winners != 1 {
				t.Fatalf("%d of %d used one assertion", winners, racers)
			}
		}
	})
}

// A keySite is a client's server, which publishes its keys.
type keySite struct {
	mu     sync.Mutex
	body   string
	status int
	err    error
	asked  int
}

// RoundTrip answers.
func (s *keySite) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if r.URL.String() != "https://keyed.test/jwks" {
		return nil, errors.New("asked for " + r.URL.String())
	}
	if s.err != nil {
		return nil, s.err
	}
	return &http.Response{StatusCode: s.status, Status: http.StatusText(s.status), Header: http.Header{"Location": {"https://keyed.test/else"}}, Body: io.NopCloser(strings.NewReader(s.body)), Request: r}, nil
}

func (s *keySite) publish(r *keyring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.status, s.err = string(must(json.Marshal(r.public()))(r.t)), http.StatusOK, nil
}

func (s *keySite) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Keys at a jwks_uri are fetched when they are needed, again for a key that is not
// known yet, and at most once a minute whatever comes.
func TestTK20_KeysAtAURI(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		ring, site := newKeyring(t, "ES256"), &keySite{}
		reg := ring.client("keyed")
		reg.JWKS, reg.JWKSURI = "", "https://keyed.test/jwks"
		c := w.register(reg)
		w.house = w.newReplica(func(cfg *houseConfig) { cfg.idp.Outbound = site })
		c.assert = ring.assertion("keyed")
		form := url.Values{"grant_type": {"client_credentials"}}
		asked := func(what string, want int) {
			t.Helper()
			if got := site.times(); got != want {
				t.Errorf("%s: asked %d times, want %d", what, got, want)
			}
		}
		// Nothing there, or nothing that is a JWKS: refused, and not asked for each time.
		n := 0
		for what, set := range map[string]func(){
			"down": func() { site.err = errors.New("down") }, "not found": func() { site.status = http.StatusNotFound }, "a redirect": func() { site.status = http.StatusFound },
			"no JSON": func() { site.body = "<html>" }, "too large": func() { site.body = strings.Repeat(" ", 1<<20) + site.body },
		} {
			site.publish(ring)
			site.mu.Lock()
			set()
			site.mu.Unlock()
			time.Sleep(time.Minute)
			n++
			for range 3 {
				c.post(form).refused(http.StatusUnauthorized, "invalid_client")
			}
			asked(what, n)
		}
		site.publish(ring)
		time.Sleep(time.Minute)
		for range 3 {
			c.itself("")
		}
		asked("there", n+1)
		// A new key.
		time.Sleep(time.Minute)
		ring.add("ES256")
		site.publish(ring)
		c.itself("")
		c.itself("")
		asked("a new key", n+2)
		// Keys that nobody has.
		strange := newKeyring(t, "ES256")
		for range 10 {
			bad := c
			bad.assert = strange.assertion("keyed")
			bad.post(form).refused(http.StatusUnauthorized, "invalid_client")
			time.Sleep(3 * time.Second)
		}
		asked("made-up keys", n+2)
		time.Sleep(time.Minute)
		for range 10 {
			bad := c
			bad.assert = strange.assertion("keyed")
			bad.post(form).refused(http.StatusUnauthorized, "invalid_client")
		}
		asked("made-up keys, a minute later", n+3)
		c.itself("")
		asked("and the right one", n+3)
		// A key that is published no longer goes within ten minutes.
		gone := &keyring{t: t, keys: ring.keys[:1]}
		ring.keys = ring.keys[1:]
		site.publish(ring)
		old := c
		old.assert = gone.assertion("keyed")
		old.itself("")
		time.Sleep(10 * time.Minute)
		old.post(form).refused(http.StatusUnauthorized, "invalid_client")
		c.itself("")
		// While the client's server is down its keys serve on for a day.
		site.mu.Lock()
		site.err = errors.New("down")
		site.mu.Unlock()
		time.Sleep(23 * time.Hour)
		c.itself("")
		time.Sleep(time.Hour)
		c.post(form).refused(http.StatusUnauthorized, "invalid_client")
	})
}

// The provider does not go where a registration must not lead it.
func TestTK20_KeysInsideTheNetwork(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		ring := newKeyring(t, "ES256")
		reg := ring.client("keyed")
		reg.JWKS, reg.JWKSURI = "", "http://127.0.0.1:1/jwks"
		c := w.register(reg)
		w.house = w.newReplica(func(cfg *houseConfig) { cfg.idp.Outbound = nil })
		c.assert = ring.assertion("keyed")
		c.post(url.Values{"grant_type": {"client_credentials"}}).refused(http.StatusUnauthorized, "invalid_client")
		if !strings.Contains(w.log.String(), "127.0.0.1 is not a public address") {
			t.Error("the log does not say why")
		}
	})
}
