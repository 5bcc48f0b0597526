package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// The security cases of the token endpoint and of userinfo (TK), and those of
// refreshing (RF).

// watch runs *between just before a statement with these words, once.
func watch(words string, between *func()) db.Option {
	var mu sync.Mutex
	return db.Observe(func(_ context.Context, query string) {
		mu.Lock()
		fn := *between
		if fn == nil || !strings.Contains(query, words) {
			mu.Unlock()
			return
		}
		*between = nil
		mu.Unlock()
		fn()
	})
}

// newSigner signs with a key that nobody knows, under any kid.
func newSigner(t testing.TB, alg, typ, kid string) jose.Signer {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	return must(jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: key, KeyID: kid}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ))))(t)
}

// granted is a browser that is signed in, with a code that waits to be redeemed.
func (w *world) granted(c rp, extra ...string) (b *browser, f *flow, code string) {
	w.t.Helper()
	b = w.newBrowser()
	b.signIn(adaEmail, adaPassword)
	f = c.begin(extra...)
	return b, f, f.code(b.get(f.url()))
}

// again is one more code in a browser that is signed in.
func (b *browser) again(c rp, extra ...string) (*flow, string) {
	b.w.t.Helper()
	f := c.begin(extra...)
	return f, f.code(b.get(f.url()))
}

// dead checks that tokens open nothing any more.
func (w *world) dead(c rp, k *tokens) {
	w.t.Helper()
	if info := w.userinfo(k.AccessToken); info != nil {
		w.t.Errorf("the access token still opens %v", info)
	}
	if k.RefreshToken != "" {
		c.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
	}
}

// bearer asks for userinfo.
func (w *world) bearer(method string, header http.Header, form url.Values) *page {
	w.t.Helper()
	return w.newBrowser().once(method, "/userinfo", form, header)
}

// A code that comes twice is a code that was stolen: nothing it led to lives on
// (ASVS 10.4.2).
func TestTK01_CodeReuseEndsTheGrant(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, wait := range []time.Duration{0, time.Second, 31 * time.Second, 48 * time.Hour} {
			for _, c := range []rp{w.acme, w.globex, w.legacy} {
				f, code := b.again(c)
				k := f.redeem(code).ok()
				time.Sleep(wait)
				if wait < 5*time.Minute && w.userinfo(k.AccessToken) == nil {
					t.Fatal("no userinfo before the second try")
				}
				f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
				w.dead(c, k)
			}
		}
		// Who only knows the grant's name, which stands in the code, gets nothing and ends nothing.
		g, waits := b.again(w.acme)
		g.redeem(secret.Token(waits[:len(waits)-43])).refused(http.StatusBadRequest, "invalid_grant")
		g.redeem(waits).ok()
		f, code := b.again(w.acme)
		k := f.redeem(code).ok()
		f.redeem(secret.Token(code[:len(code)-43])).refused(http.StatusBadRequest, "invalid_grant")
		w.globex.post(f.redemption(secret.Token(code[:len(code)-43]))).refused(http.StatusBadRequest, "invalid_grant")
		if w.userinfo(k.AccessToken) == nil {
			t.Error("a made-up code ended a grant")
		}
		w.acme.refresh(k.RefreshToken).ok()
	})
}

func TestTK02_Z03_CodeRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, c := range []rp{w.acme, w.globex, w.acme, w.globex} {
			f, code := b.again(c)
			var got [racers]*tokens
			release(func(i int) { got[i] = c.postAt(pick(i), f.redemption(code), nil) })
			var winners []*tokens
			for _, k := range got {
				if k.status == http.StatusOK {
					winners = append(winners, k.ok())
				} else {
					k.refused(http.StatusBadRequest, "invalid_grant")
				}
			}
			if len(winners) != 1 {
				t.Fatalf("%d of %d redeemed one code", len(winners), racers)
			}
			w.dead(c, winners[0]) // the others were replays
		}
	})
}

// A code is its client's. Another client that presents it spends it.
func TestTK03_CodeOfAnotherClient(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, thief := range []rp{w.legacy, w.globex} {
			f, code := b.again(w.acme)
			thief.post(f.redemption(code)).refused(http.StatusBadRequest, "invalid_grant")
			v := f.redemption(code)
			v.Set("redirect_uri", thief.redirect)
			thief.post(v).refused(http.StatusBadRequest, "invalid_grant")
			f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
			thief.post(f.redemption(code)).refused(http.StatusBadRequest, "invalid_grant")
		}
		// Nor does a client's name help with another's secret; and that spends nothing.
		f, code := b.again(w.acme)
		rp{w: w, id: "acme", secret: w.legacy.secret, auth: idp.AuthBasic}.post(f.redemption(code)).refused(http.StatusUnauthorized, "invalid_client")
		rp{w: w, id: "acme", auth: idp.AuthNone}.post(f.redemption(code)).refused(http.StatusUnauthorized, "invalid_client")
		f.redeem(code).ok()
	})
}

func TestTK04_RedirectURIOfTheRequest(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, uri := range []string{callback + "?tenant=1", callback + "/", callback + "x", "https://ACME.test/callback", "https://acme.test/%63allback", "https%3A%2F%2Facme.test%2Fcallback", " " + callback, "https://globex.test/cb"} {
			f, code := b.again(w.acme)
			v := f.redemption(code)
			v.Set("redirect_uri", uri)
			w.acme.post(v).refused(http.StatusBadRequest, "invalid_grant")
			f.redeem(code).refused(http.StatusBadRequest, "invalid_grant") // spent
		}
		// Without one it is no request at all, and the code is still good.
		f, code := b.again(w.acme)
		for _, v := range []url.Values{f.redemption(code), f.redemption(code)} {
			v.Del("redirect_uri")
			w.acme.post(v).refused(http.StatusBadRequest, "invalid_request")
			v.Set("redirect_uri", "")
			w.acme.post(v).refused(http.StatusBadRequest, "invalid_request")
		}
		f.redeem(code).ok()
	})
}

// There is one guess at a verifier (trap Z11), and none at doing without.
func TestTK05_Z11_WrongVerifierSpendsTheCode(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, c := range []rp{w.acme, w.globex, w.legacy} {
			for what, wrong := range map[string]func(f *flow) string{
				"another":       func(*flow) string { return secret.Token("") },
				"none":          func(*flow) string { return "" },
				"the challenge": func(f *flow) string { return f.query.Get("code_challenge") },
				"cut":           func(f *flow) string { return f.verifier[:42] },
				"longer":        func(f *flow) string { return f.verifier + "A" },
				"another case":  func(f *flow) string { return strings.ToUpper(f.verifier) },
				"a line after":  func(f *flow) string { return f.verifier + "\n" },
				"too long":      func(*flow) string { return strings.Repeat("A", 129) },
			} {
				f, code := b.again(c)
				v := f.redemption(code)
				if v.Set("code_verifier", wrong(f)); wrong(f) == "" {
					v.Del("code_verifier")
				}
				if k := c.post(v); k.status != http.StatusBadRequest || k.Error != "invalid_grant" {
					t.Errorf("%s, verifier %s: %d %s", c.id, what, k.status, k.raw)
				}
				if k := f.redeem(code); k.status != http.StatusBadRequest || k.Error != "invalid_grant" {
					t.Errorf("%s, the right verifier after %s: %d %s", c.id, what, k.status, k.raw)
				}
			}
		}
		// One that was never announced is no sign of a careful client (RFC 9700 4.8.2).
		f, code := b.again(w.legacy, "code_challenge", "", "code_challenge_method", "")
		v := f.redemption(code)
		v.Set("code_verifier", f.verifier)
		w.legacy.post(v).refused(http.StatusBadRequest, "invalid_grant")
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")

		// A client that has to use PKCE by now does not get away with a code from before.
		f, code = b.again(w.legacy, "code_challenge", "", "code_challenge_method", "")
		w.change(`UPDATE clients SET require_pkce = 1 WHERE id = 'legacy'`)
		w.forget()
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")

		// One that fits its challenge, and is too short to be hard to guess.
		for _, verifier := range []string{"x", strings.Repeat("a", 42), strings.Repeat("a", 129), strings.Repeat("a", 42) + "é"} {
			sum := sha256.Sum256([]byte(verifier))
			f, code := b.again(w.acme, "code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
			f.verifier = verifier
			f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		}

		// Short and long ones that are right.
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
		for _, verifier := range []string{strings.Repeat("~", 43), (letters + letters)[:128]} {
			sum := sha256.Sum256([]byte(verifier))
			f, code := b.again(w.acme, "code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
			f.verifier = verifier
			f.redeem(code).ok()
		}
	})
}

func TestTK06_CodeLivesAMinute(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, f, code := w.granted(w.acme)
		time.Sleep(time.Minute)
		f.redeem(code).ok()
		f, code = b.again(w.acme)
		time.Sleep(time.Minute + time.Millisecond)
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		f, code = b.again(w.acme)
		time.Sleep(48 * time.Hour)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
	})
}

// Codes and refresh tokens ask for the person and the session at the very moment
// (I4, I5).
func TestTK06_CodeAfterTheSession(t *testing.T) {
	for what, query := range map[string]string{
		"ended":    `UPDATE sessions SET ended_at = 1`,
		"expired":  `UPDATE sessions SET expires_at = 1`,
		"disabled": `UPDATE users SET disabled_at = 1 WHERE email = 'ada@example.com'`,
		"deleted":  `DELETE FROM users WHERE email = 'ada@example.com'`,
	} {
		t.Run(what, func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				b, f, code := w.granted(w.acme)
				g, other := b.again(w.globex)
				k := g.redeem(other).ok()
				h, third := b.again(w.legacy)
				k2 := h.redeem(third).ok()
				must(w.db.Exec(t.Context(), query))(t)
				f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
				w.dead(w.globex, k)
				w.dead(w.legacy, k2)
			})
		})
	}
}

// A client is known before its code is looked at (trap Z14), in the one way that
// it is registered for.
func TestTK07_Z14_ClientFirst(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		type attempt struct {
			what   string
			form   url.Values
			basic  []string // id and secret as they stand in the header
			header []string // in its place
			want   string
		}
		for _, c := range []rp{w.acme, w.globex, w.legacy} {
			f, code := b.again(c)
			in := func(more ...string) url.Values {
				v := f.redemption(code)
				for i := 0; i < len(more); i += 2 {
					v.Set(more[i], more[i+1])
				}
				return v
			}
			attempts := []attempt{
				{"nothing", in(), nil, nil, "invalid_client"},
				{"unknown", in("client_id", "nobody"), nil, nil, "invalid_client"},
				{"unknown, with a secret", in("client_id", "nobody", "client_secret", w.legacy.secret), nil, nil, "invalid_client"},
				{"unknown, Basic", in(), []string{"nobody", w.acme.secret}, nil, "invalid_client"},
				{"wrong secret", in("client_id", c.id, "client_secret", secret.Token("hcs_")), nil, nil, "invalid_client"},
				{"wrong secret, Basic", in(), []string{c.id, secret.Token("hcs_")}, nil, "invalid_client"},
				{"empty secret", in("client_id", c.id, "client_secret", ""), nil, nil, "invalid_client"},
				{"empty secret, Basic", in(), []string{c.id, ""}, nil, "invalid_client"},
				{"secret and more (trap C1)", in("client_id", c.id, "client_secret", c.secret+"x"), nil, nil, "invalid_client"},
				{"secret in another case", in(), []string{c.id, strings.ToLower(c.secret)}, nil, "invalid_client"},
				{"a secret's hash", in("client_id", c.id, "client_secret", hex.EncodeToString(secret.Hash(c.secret))), nil, nil, "invalid_client"},
				{"Basic and body", in("client_id", c.id, "client_secret", c.secret), []string{c.id, c.secret}, nil, "invalid_request"},
				{"Basic and a secret of nothing", in("client_secret", ""), []string{c.id, c.secret}, nil, "invalid_request"},
				{"Basic and another id", in("client_id", "other"), []string{c.id, c.secret}, nil, "invalid_request"},
				{"Basic and an assertion", in("client_assertion", "e30.bnVsbA.eA"), []string{c.id, c.secret}, nil, "invalid_request"},
				{"Basic of nothing", in(), nil, []string{"Basic "}, "invalid_client"},
				{"Basic without a colon", in(), nil, []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(c.id))}, "invalid_client"},
				{"Basic that is not base64", in(), nil, []string{"Basic %%%"}, "invalid_client"},
				{"Basic with a bad escape in the secret", in(), []string{c.id, "%zz"}, nil, "invalid_client"},
				{"Basic with a bad escape in the id", in(), []string{"%zz", c.secret}, nil, "invalid_client"},
				{"Basic of bytes", in(), []string{"\xff\xfe", "\xff\x00"}, nil, "invalid_client"},
				{"Bearer", in("client_id", c.id), nil, []string{"Bearer " + c.secret}, "invalid_client"},
				{"two headers", in(), nil, []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(c.id+":"+c.secret)), "Basic eDp5"}, "invalid_request"},
				// None of these is registered for assertions (TK-20, trap Z22), and the library's own reading of them is not reached.
				{"assertion", in("client_id", c.id, "client_assertion", "e30.bnVsbA.eA", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), nil, nil, "invalid_client"},
				{"assertion without an id", in("client_assertion", "e30.bnVsbA.eA", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), nil, nil, "invalid_client"},
				{"assertion of a strange type", in("client_id", c.id, "client_assertion", "x", "client_assertion_type", "\"é\r\n"), nil, nil, "invalid_client"},
				{"assertion's type alone", in("client_id", c.id, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), nil, nil, "invalid_client"},
			}
			// The methods that are not the client's own.
			if c.auth != idp.AuthBasic {
				attempts = append(attempts, attempt{"right secret, but by Basic", in(), []string{c.id, c.secret}, nil, "invalid_client"})
			}
			if c.auth != idp.AuthPost {
				attempts = append(attempts, attempt{"right secret, but in the body", in("client_id", c.id, "client_secret", c.secret), nil, nil, "invalid_client"})
			}
			if c.auth != idp.AuthNone {
				attempts = append(attempts, attempt{"no secret", in("client_id", c.id), nil, nil, "invalid_client"})
			}
			for _, a := range attempts {
				header := http.Header{}
				if a.basic != nil {
					header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(a.basic[0]+":"+a.basic[1]))}
				}
				if a.header != nil {
					header["Authorization"] = a.header
				}
				p := b.raw(http.MethodPost, "/oauth/token", a.form.Encode(), header)
				var got struct{ Error, ErrorDescription string }
				if err := json.Unmarshal([]byte(p.body), &got); err != nil {
					t.Fatalf("%s, %s: %q", c.id, a.what, p.body)
				}
				status := http.StatusBadRequest
				if a.want == "invalid_client" {
					status = http.StatusUnauthorized
				}
				if p.status != status || got.Error != a.want {
					t.Errorf("%s, %s: %d %s, want %d %s", c.id, a.what, p.status, p.body, status, a.want)
				}
				if challenge := p.header.Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Basic ") != (status == http.StatusUnauthorized) {
					t.Errorf("%s, %s: WWW-Authenticate %q", c.id, a.what, challenge)
				}
			}
			f.redeem(code).ok() // all that has cost the code nothing
		}
		// And before a code that does not exist.
		rp{w: w, id: "acme", secret: "wrong", auth: idp.AuthBasic}.post(url.Values{"grant_type": {"authorization_code"}, "code": {"nonsense"}, "redirect_uri": {callback}}).refused(http.StatusUnauthorized, "invalid_client")
		rp{w: w, id: "acme", secret: "wrong", auth: idp.AuthBasic}.refresh("nonsense").refused(http.StatusUnauthorized, "invalid_client")
	})
}

// A secret is dead within a second of its successor's making.
func TestTK18_RotatedSecret(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, f, code := w.granted(w.acme)
		next := must(w.house.clients.RotateSecret(t.Context(), "acme", "", 0, "test"))(t)
		w.forget()
		f.redeem(code).refused(http.StatusUnauthorized, "invalid_client")
		now := w.acme
		now.secret = next
		f.rp = now
		f.redeem(code).ok()
	})
}

// Or after a while, so that the workspace's servers can be given the new one one by
// one. Of three secrets the first is dead.
func TestTK18_TwoSecrets(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, c := range []rp{w.acme, w.legacy} {
			k := w.newBrowser().connect(c, adaEmail, adaPassword)
			works := func(what, secret string, want bool) {
				t.Helper()
				one := c
				one.secret = secret
				if got := one.refresh(k.RefreshToken).status == http.StatusOK; got != want {
					t.Errorf("%s, %s: taken %v, want %v", c.id, what, got, want)
				}
				if got := one.send(one.request("/oauth/introspect", url.Values{"token": {k.RefreshToken}}, nil)).status == http.StatusOK; got != want {
					t.Errorf("%s, %s: taken by introspection %v, want %v", c.id, what, got, want)
				}
			}
			rotate := func(keep time.Duration) string {
				t.Helper()
				next := must(w.house.clients.RotateSecret(t.Context(), c.id, "", keep, "test"))(t)
				w.forget()
				return next
			}
			first := c.secret
			second := rotate(24 * time.Hour)
			works("the new one", second, true)
			works("the old one", first, true)
			works("neither", second+"x", false)
			works("nothing", "", false)
			time.Sleep(24*time.Hour - 2*time.Second)
			works("the old one, a second before its end", first, true)
			time.Sleep(time.Second)
			works("the old one, at its end", first, false)
			works("the new one, a day later", second, true)

			third := rotate(24 * time.Hour)
			fourth := rotate(24 * time.Hour)
			works("the one before the last", second, false)
			works("the last", third, true)
			works("the present", fourth, true)
			fifth := rotate(0)
			works("one that was to be dead at once", fourth, false)
			works("one that was taken until then", third, false)
			works("the present", fifth, true)
		}
		for _, keep := range []time.Duration{-time.Second, 31 * 24 * time.Hour} {
			if _, err := w.house.clients.RotateSecret(t.Context(), "acme", "", keep, "test"); err == nil {
				t.Errorf("kept for %s", keep)
			}
		}
	})
}

// Parameters belong in the body of a POST (trap Z12), once (trap Z9).
func TestTK08_Z12_PostOnly(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, f, code := w.granted(w.legacy)
		v := f.redemption(code)
		v.Set("client_id", "legacy")
		v.Set("client_secret", w.legacy.secret)
		refused := func(what string, p *page, status int) {
			t.Helper()
			if p.status != status || strings.Contains(p.body, "access_token") {
				t.Errorf("%s: %d %s", what, p.status, p.body)
			}
		}
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodTrace, "PROPFIND"} {
			p := b.once(method, "/oauth/token?"+v.Encode(), nil, nil)
			refused(method, p, http.StatusMethodNotAllowed)
			if !strings.Contains(p.header.Get("Allow"), "POST") {
				t.Errorf("%s: Allow %q", method, p.header.Get("Allow"))
			}
			refused(method+" with a body", b.raw(method, "/oauth/token", v.Encode(), nil), http.StatusMethodNotAllowed)
		}
		refused("query", b.raw(http.MethodPost, "/oauth/token?"+v.Encode(), "", nil), http.StatusBadRequest)
		refused("query and body", b.raw(http.MethodPost, "/oauth/token?client_secret="+w.legacy.secret, v.Encode(), nil), http.StatusBadRequest)
		for name := range v {
			refused(name+" twice", b.raw(http.MethodPost, "/oauth/token", v.Encode()+"&"+name+"="+url.QueryEscape(v.Get(name)), nil), http.StatusBadRequest)
		}
		refused("JSON", b.raw(http.MethodPost, "/oauth/token", `{"grant_type":"authorization_code"}`, http.Header{"Content-Type": {"application/json"}}), http.StatusUnsupportedMediaType)
		refused("multipart", b.raw(http.MethodPost, "/oauth/token", "--x\r\n", http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}), http.StatusUnsupportedMediaType)
		refused("too long", b.raw(http.MethodPost, "/oauth/token", v.Encode()+"&x="+strings.Repeat("x", 64<<10), nil), http.StatusRequestEntityTooLarge)
		refused("not UTF-8", b.raw(http.MethodPost, "/oauth/token", v.Encode()+"&x=%ff", nil), http.StatusBadRequest)
		refused("a bad escape", b.raw(http.MethodPost, "/oauth/token", v.Encode()+"&x=%zz", nil), http.StatusBadRequest)
		refused("nothing", b.raw(http.MethodPost, "/oauth/token", "", nil), http.StatusUnauthorized)
		// Names that a careless decoder takes for a path into the request.
		p := b.raw(http.MethodPost, "/oauth/token", v.Encode()+"&scope.15999=x&client_id.0=x&code.x.y=1&Scopes.99999999=x&unknown=1", nil)
		if p.status != http.StatusOK {
			t.Errorf("with parameters that are nobody's business: %d %s", p.status, p.body)
		}
	})
}

// What the token endpoint and userinfo say is for one reader (trap Z6).
func TestTK09_Z06_NoStore(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, f, code := w.granted(w.acme)
		k := f.redeem(code).ok()
		for what, h := range map[string]http.Header{
			"tokens":            k.header,
			"refresh":           w.acme.refresh(k.RefreshToken).ok().header,
			"invalid_grant":     f.redeem("x").header,
			"invalid_client":    rp{w: w, id: "x", auth: idp.AuthNone}.refresh("x").header,
			"invalid_request":   w.acme.post(url.Values{}).header,
			"duplicate":         b.raw(http.MethodPost, "/oauth/token", "a=1&a=2", nil).header,
			"method":            b.once(http.MethodGet, "/oauth/token", nil, nil).header,
			"userinfo":          w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + k.AccessToken}}, nil).header,
			"userinfo, by POST": w.bearer(http.MethodPost, nil, url.Values{"access_token": {k.AccessToken}}).header,
			"invalid_token":     w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer x"}}, nil).header,
		} {
			if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || len(h.Values("Set-Cookie")) != 0 {
				t.Errorf("%s: %v", what, h)
			}
			if kind := h.Get("Content-Type"); kind != "application/json" && !strings.EqualFold(strings.ReplaceAll(kind, " ", ""), "application/json;charset=utf-8") {
				t.Errorf("%s: Content-Type %q", what, kind)
			}
		}
		for _, path := range []string{"/login", "/logout", "/end_session", w.acme.begin().url(), "/authorize/resume", "/authorize", "/preferences/security"} {
			if h := b.once(http.MethodGet, path, nil, nil).header; h.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: Cache-Control %q", path, h.Get("Cache-Control"))
			}
		}
	})
}

func TestTK10_Z21_GrantTypes(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		noRefresh := w.add(idp.Client{ID: "norefresh", Name: "No refresh", RedirectURIs: []string{"https://nr.test/cb"}, RequirePKCE: true, GrantTypes: []string{"authorization_code"}})
		_, f, code := w.granted(w.acme)
		k := f.redeem(code).ok()
		assertion := "e30.bnVsbA.eA"
		for _, c := range []struct {
			form url.Values
			want string
		}{
			{url.Values{"grant_type": {"password"}, "username": {adaEmail}, "password": {adaPassword}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {"client_credentials"}}, "unauthorized_client"},
			{url.Values{"grant_type": {"implicit"}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {k.IDToken}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {k.AccessToken}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {assertion}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {"AUTHORIZATION_CODE"}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {" authorization_code"}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {"é\"\r\n\\"}}, "unsupported_grant_type"},
			{url.Values{"grant_type": {""}}, "invalid_request"},
			{url.Values{}, "invalid_request"},
			{url.Values{"grant_type": {"authorization_code"}}, "invalid_request"},
			{url.Values{"grant_type": {"refresh_token"}}, "invalid_request"},
		} {
			for _, rp := range []rp{w.acme, w.globex, w.legacy} {
				if k := rp.post(c.form); k.status != http.StatusBadRequest || k.Error != c.want {
					t.Errorf("%s, %v: %d %s", rp.id, c.form, k.status, k.raw)
				}
			}
		}
		refused := noRefresh.refresh(k.RefreshToken)
		refused.refused(http.StatusBadRequest, "unauthorized_client")
		if strings.ContainsAny(refused.Description, `"\`) { // the library's own words
			t.Errorf("error_description %q", refused.Description)
		}
		w.acme.refresh(k.RefreshToken).ok()
	})
}

// What an ID token says: who, how and when, and nothing more (trap Z7), in a
// signature that its own key in the JWKS verifies.
func TestTK11_Z07_Z19_IDToken(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		eddsa := w.add(idp.Client{ID: "ed", Name: "Ed", RedirectURIs: []string{"https://ed.test/cb"}, RequirePKCE: true, IDTokenAlg: "EdDSA"})
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		signedIn := time.Now()
		time.Sleep(10 * time.Second)
		var keys jose.JSONWebKeySet
		document := b.get("/jwks").body
		if err := json.Unmarshal([]byte(document), &keys); err != nil {
			t.Fatal(err)
		}
		for _, private := range []string{`"d"`, `"p"`, `"q"`, `"dp"`, `"dq"`, `"qi"`, `"oth"`, `"k"`} {
			if strings.Contains(document, private+":") {
				t.Errorf("the JWKS has %s", private)
			}
		}
		if len(keys.Keys) != 3 {
			t.Errorf("%d keys", len(keys.Keys))
		}
		sids := map[any]bool{}
		for alg, c := range map[string]rp{"ES256": w.acme, "RS256": w.legacy, "EdDSA": eddsa} {
			f, code := b.again(c, "scope", "openid profile email phone address offline_access")
			k := f.redeem(code).ok()
			refreshed := c.refresh(k.RefreshToken).ok()
			for _, k := range []*tokens{k, refreshed} {
				jws, err := jose.ParseSignedCompact(k.IDToken, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
				if err != nil {
					t.Fatalf("%s: %v", alg, err)
				}
				head := jws.Signatures[0].Protected
				if head.ExtraHeaders[jose.HeaderType] != "JWT" || len(keys.Key(head.KeyID)) != 1 || keys.Key(head.KeyID)[0].Algorithm != alg || keys.Key(head.KeyID)[0].Use != "sig" {
					t.Fatalf("%s: header %+v", alg, head)
				}
				if _, err := jws.Verify(keys.Key(head.KeyID)[0]); err != nil {
					t.Fatalf("%s: %v", alg, err)
				}
				claims := k.claims()
				names := []string{"acr", "amr", "at_hash", "aud", "auth_time", "exp", "iat", "iss", "nonce", "sid", "sub"}
				if k == refreshed {
					names = slices.DeleteFunc(names, func(s string) bool { return s == "nonce" })
				} else if claims["nonce"] != f.query.Get("nonce") {
					t.Errorf("%s: nonce %v", alg, claims["nonce"])
				}
				if got := slices.Sorted(maps.Keys(claims)); !slices.Equal(got, names) {
					t.Errorf("%s: claims %v, want %v", alg, got, names)
				}
				half := sha256.Sum256([]byte(k.AccessToken))
				left := half[:16]
				if alg == "EdDSA" {
					long := sha512.Sum512([]byte(k.AccessToken))
					left = long[:32]
				}
				now := float64(time.Now().Unix())
				for name, want := range map[string]any{
					"iss": issuer, "sub": w.ada.ID, "aud": c.id, "iat": now, "exp": now + 3600, "auth_time": float64(signedIn.Unix()),
					"acr": "urn:harmony:acr:1fa", "at_hash": base64.RawURLEncoding.EncodeToString(left),
				} {
					if claims[name] != want {
						t.Errorf("%s: %s = %v, want %v", alg, name, claims[name], want)
					}
				}
				if !slices.Equal(claims["amr"].([]any), []any{"pwd"}) {
					t.Errorf("%s: amr %v", alg, claims["amr"])
				}
				sids[claims["sid"]] = true
			}
			if k.TokenType != "Bearer" || k.ExpiresIn != 300 {
				t.Errorf("%s: %s %d", alg, k.TokenType, k.ExpiresIn)
			}
		}
		if len(sids) != 1 || sids[""] || sids[nil] {
			t.Errorf("one session with the ids %v", sids)
		}
		if id := w.ada.ID; len(id) < 20 || strings.Contains(id, "ada") {
			t.Errorf("sub %q tells something", id)
		}
	})
}

// A token is of one kind (RFC 8725 3.11).
func TestTK12_TokensOfAnotherKind(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, f, code := w.granted(w.acme)
		k := f.redeem(code).ok()
		_, unused := b.again(w.acme)
		wrong := append(traps(), k.IDToken, k.RefreshToken, code, unused, w.acme.secret, w.acme.id, w.ada.ID, k.claims()["sid"].(string),
			sign(t, w.signer("ES256", "at+jwt"), k.claims()), sign(t, w.signer("ES256", "JWT"), map[string]any{"aud": []int{1}}),
			"hat_"+k.RefreshToken[4:], "hat_"+code[4:])
		for _, c := range b.jar.Cookies(must(url.Parse(issuer))(t)) {
			wrong = append(wrong, c.Value)
		}
		for _, token := range wrong {
			p := w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + token}}, nil)
			if p.status != http.StatusUnauthorized || p.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
				t.Errorf("bearer %q: %d %q", token, p.status, p.header.Get("WWW-Authenticate"))
			}
			p = w.bearer(http.MethodPost, nil, url.Values{"access_token": {token}})
			if p.status != http.StatusUnauthorized {
				t.Errorf("bearer %q in the body: %d", token, p.status)
			}
		}
		for _, token := range append(traps(), k.IDToken, k.AccessToken, code, "hrt_"+k.AccessToken[4:], "hrt_"+code[4:]) {
			for _, c := range []rp{w.acme, w.globex} {
				if k := c.refresh(token); k.status != http.StatusBadRequest || k.Error != "invalid_grant" {
					t.Errorf("refresh token %q: %d %s", token, k.status, k.raw)
				}
				v := f.redemption(token)
				if token == code {
					continue // would be a replay, and end the grant
				}
				if k := c.post(v); k.status != http.StatusBadRequest || k.Error != "invalid_grant" {
					t.Errorf("code %q: %d %s", token, k.status, k.raw)
				}
			}
		}
		if w.userinfo(k.AccessToken) == nil { // all of that has ended nothing
			t.Error("the access token is dead")
		}
		w.acme.refresh(k.RefreshToken).ok()
	})
}

// What the database has opens nothing (I16).
func TestTK13_TK18_NothingInTheDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		waiting := w.browserAt(w.house, "192.0.2.44")
		waiting.arrive(w.acme.begin())
		k := b.connect(w.acme, adaEmail, adaPassword)
		k2 := w.globex.refresh(b.connect(w.globex, adaEmail, adaPassword).RefreshToken).ok()
		_, code := b.again(w.acme)
		secrets := map[string]string{
			"code": code, "access token": k.AccessToken, "refresh token": k.RefreshToken, "rotated": k2.RefreshToken, "client secret": w.acme.secret,
			"ID token": k.IDToken, "password": adaPassword,
		}
		for i, jar := range []*browser{b, waiting} {
			for _, c := range jar.jar.Cookies(must(url.Parse(issuer))(t)) {
				secrets[fmt.Sprint(c.Name, i)] = c.Value
			}
		}
		dump := w.dump()
		if !strings.Contains(dump, w.ada.ID) || !strings.Contains(dump, hex.EncodeToString(secret.Hash(code))) {
			t.Fatal("the dump does not have what it should")
		}
		for what, s := range secrets {
			parts := []string{s, hex.EncodeToString([]byte(s))}
			if len(s) > 43 && tokenRE.MatchString(s[:44]) {
				random := s[len(s)-43:]
				plain := must(base64.RawURLEncoding.DecodeString(random))(t)
				parts = append(parts, random, hex.EncodeToString([]byte(random)), hex.EncodeToString(plain), string(plain))
			}
			for _, part := range parts {
				if strings.Contains(dump, part) {
					t.Errorf("the database has the %s", what)
				}
			}
		}
	})
}

// tables are the names of all tables.
func (w *world) tables() (names []string) {
	w.t.Helper()
	query := `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`
	if w.db.Engine() == "postgres" {
		query = `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY table_name`
	}
	rows := must(w.db.Query(w.t.Context(), query))(w.t)
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			w.t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil || len(names) < 15 {
		w.t.Fatalf("tables %q: %v", names, err)
	}
	return names
}

// dump is every row of every table, with bytes both as they are and in hex.
func (w *world) dump() string {
	w.t.Helper()
	var out strings.Builder
	for _, table := range w.tables() {
		rows := must(w.db.Query(w.t.Context(), `SELECT * FROM `+table))(w.t)
		columns := must(rows.Columns())(w.t)
		for rows.Next() {
			row := make([]any, len(columns))
			for i := range row {
				row[i] = new(any)
			}
			if err := rows.Scan(row...); err != nil {
				w.t.Fatal(err)
			}
			for i := range row {
				switch v := (*row[i].(*any)).(type) {
				case []byte:
					fmt.Fprintf(&out, "%s %s\n", v, hex.EncodeToString(v))
				default:
					fmt.Fprintln(&out, v)
				}
			}
		}
		if err := rows.Err(); err != nil {
			w.t.Fatal(err)
		}
		rows.Close()
	}
	return out.String()
}

// Userinfo takes one token, in the header or the body (trap Z13, RFC 6750).
func TestTK14_Z13_Userinfo(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, f, code := w.granted(w.acme)
		k := f.redeem(code).ok()
		_ = b
		const bad = `Bearer error="invalid_token"`
		header := func(v ...string) http.Header { return http.Header{"Authorization": v} }
		good := "Bearer " + k.AccessToken
		for _, c := range []struct {
			what, method, query string
			header              http.Header
			form                url.Values
			status              int
			challenge           string
		}{
			{"header", "GET", "", header(good), nil, 200, ""},
			{"header, by POST", "POST", "", header(good), url.Values{}, 200, ""},
			{"body", "POST", "", nil, url.Values{"access_token": {k.AccessToken}}, 200, ""},
			{"bearer", "GET", "", header("bearer " + k.AccessToken), nil, 200, ""},
			{"BEARER", "GET", "", header("BEARER " + k.AccessToken), nil, 200, ""},
			{"nothing", "GET", "", nil, nil, 401, "Bearer"},
			{"nothing, by POST", "POST", "", nil, url.Values{}, 401, "Bearer"},
			{"query", "GET", "?access_token=" + k.AccessToken, nil, nil, 401, "Bearer"},
			{"query, by POST", "POST", "?access_token=" + k.AccessToken, nil, url.Values{}, 401, "Bearer"},
			{"bad header, good query", "GET", "?access_token=" + k.AccessToken, header("Bearer x"), nil, 401, bad},
			{"empty header, good query", "GET", "?access_token=" + k.AccessToken, header("Bearer "), nil, 401, bad},
			{"bad header", "GET", "", header("Bearer x"), nil, 401, bad},
			{"scheme alone", "GET", "", header("Bearer"), nil, 401, bad},
			{"no scheme", "GET", "", header(k.AccessToken), nil, 401, bad},
			{"Basic", "GET", "", header("Basic " + k.AccessToken), nil, 401, bad},
			{"DPoP", "GET", "", header("DPoP " + k.AccessToken), nil, 401, bad},
			{"empty body", "POST", "", nil, url.Values{"access_token": {""}}, 401, bad},
			{"two headers", "GET", "", header(good, good), nil, 400, `Bearer error="invalid_request"`},
			{"Basic and Bearer", "GET", "", header("Basic eDp5", good), nil, 400, `Bearer error="invalid_request"`},
			{"header and body", "POST", "", header(good), url.Values{"access_token": {k.AccessToken}}, 400, `Bearer error="invalid_request"`},
			{"two in one header", "GET", "", header(good + ", " + good), nil, 401, bad},
			{"more behind it", "GET", "", header(good + "x"), nil, 401, bad},
			{"a line behind it", "POST", "", nil, url.Values{"access_token": {k.AccessToken + "\n"}}, 401, bad},
			{"a line within", "POST", "", nil, url.Values{"access_token": {k.AccessToken[:20] + "\r\n" + k.AccessToken[20:]}}, 401, bad},
			{"padding", "GET", "", header(good + "="), nil, 401, bad},
			{"cut", "GET", "", header(good[:len(good)-1]), nil, 401, bad},
			{"another prefix", "GET", "", header("Bearer hac_" + k.AccessToken[4:]), nil, 401, bad},
		} {
			p := w.newBrowser().once(c.method, "/userinfo"+c.query, c.form, c.header)
			if p.status != c.status || p.header.Get("WWW-Authenticate") != c.challenge {
				t.Errorf("%s: %d %q, want %d %q", c.what, p.status, p.header.Get("WWW-Authenticate"), c.status, c.challenge)
			}
			if c.status == 200 != strings.Contains(p.body, w.ada.ID) {
				t.Errorf("%s: %s", c.what, p.body)
			}
			if c.status != 200 && c.challenge != "Bearer" && !json.Valid([]byte(p.body)) {
				t.Errorf("%s: %q is not JSON", c.what, p.body)
			}
		}
		for _, method := range []string{"PUT", "DELETE", "TRACE"} {
			if p := w.newBrowser().once(method, "/userinfo", nil, header(good)); p.status != http.StatusMethodNotAllowed {
				t.Errorf("%s: %d", method, p.status)
			}
		}
		time.Sleep(5*time.Minute - time.Millisecond)
		if w.userinfo(k.AccessToken) == nil {
			t.Error("dead too soon")
		}
		time.Sleep(time.Millisecond)
		if w.userinfo(k.AccessToken) != nil {
			t.Error("the access token outlives its time")
		}
	})
}

// An access token is sealed: there is no bit of it to change (trap Z20), and no
// other provider's opens.
func TestZ20_TamperedAccessToken(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		_, f, code := w.granted(w.acme, "scope", "openid")
		token := f.redeem(code).ok().AccessToken
		sealed := must(base64.RawURLEncoding.DecodeString(token[4:]))(t)
		for i := range sealed {
			for _, flip := range []byte{1, 0x80} {
				changed := slices.Clone(sealed)
				changed[i] ^= flip
				if w.userinfo("hat_"+base64.RawURLEncoding.EncodeToString(changed)) != nil {
					t.Errorf("byte %d can be changed", i)
				}
			}
			if w.userinfo("hat_"+base64.RawURLEncoding.EncodeToString(sealed[:i])) != nil {
				t.Errorf("cut to %d bytes it opens", i)
			}
		}
		if w.userinfo("hat_"+base64.RawURLEncoding.EncodeToString(append(sealed, 0))) != nil {
			t.Error("a byte can be added")
		}
		// What a purpose's key sealed is no token of another's.
		grant := code[4:30]
		plain := append(make([]byte, 16), (grant + "openid")...)
		plain[8] = 0x7f // until the end of time
		for _, purpose := range []string{"access token", "signing key", "browser", "refresh token"} {
			info := w.userinfo("hat_" + base64.RawURLEncoding.EncodeToString(w.ring.Box(purpose).Seal(plain, "")))
			if (info != nil) != (purpose == "access token") {
				t.Errorf("sealed for %q: %v", purpose, info)
			}
		}
		other := must(secret.ParseRing(secret.GenerateKeyFile()))(t)
		if w.userinfo("hat_"+base64.RawURLEncoding.EncodeToString(other.Box("access token").Seal(plain, ""))) != nil {
			t.Error("another provider's token opens")
		}
	})
}

func TestTK15_ClaimsOfTheScopes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		claims := map[string][]string{
			"openid":  {"sub"},
			"email":   {"email", "email_verified"},
			"phone":   {"phone_number", "phone_number_verified"},
			"address": {"address"},
			"profile": {"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at"},
		}
		for n := range 16 { // every subset
			scope := "openid"
			want := slices.Clone(claims["openid"])
			for i, s := range []string{"profile", "email", "phone", "address"} {
				if n>>i&1 == 1 {
					scope += " " + s
					want = append(want, claims[s]...)
				}
			}
			f, code := b.again(w.acme, "scope", scope)
			k := f.redeem(code).ok()
			info := w.userinfo(k.AccessToken)
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(info)); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", scope, got, want)
			}
			if info["sub"] != k.claims()["sub"] {
				t.Errorf("sub %v, in the ID token %v", info["sub"], k.claims()["sub"])
			}
			for name, kind := range map[string]any{"email_verified": true, "phone_number_verified": true, "updated_at": 1.0, "address": map[string]any{}} {
				if v, ok := info[name]; ok && fmt.Sprintf("%T", v) != fmt.Sprintf("%T", kind) {
					t.Errorf("%s is a %T", name, v)
				}
			}
		}
		// Who has told us little is not made to have said more.
		bob := w.browserAt(w.house, "192.0.2.13").connect(w.acme, bobEmail, bobPassword, "scope", "openid profile email phone address")
		info := w.userinfo(bob.AccessToken)
		if got := slices.Sorted(maps.Keys(info)); !slices.Equal(got, []string{"email", "email_verified", "name", "sub", "updated_at"}) || info["email_verified"] != false {
			t.Errorf("Bob: %v", info)
		}
	})
}

// A person who is gone is gone everywhere at once (I5).
func TestTK16_PersonDisabledOrDeleted(t *testing.T) {
	operator := account.Actor{Kind: "operator", Name: "test"}
	for what, act := range map[string]func(ctx context.Context, w *world) error{
		"disabled": func(ctx context.Context, w *world) error {
			return w.house.accounts.DisableUser(ctx, w.ada.ID, operator)
		},
		"disabled and enabled": func(ctx context.Context, w *world) error {
			if err := w.house.accounts.DisableUser(ctx, w.ada.ID, operator); err != nil {
				return err
			}
			return w.house.accounts.EnableUser(ctx, w.ada.ID, operator)
		},
		"deleted":        func(ctx context.Context, w *world) error { return w.house.accounts.DeleteUser(ctx, w.ada.ID, operator) },
		"client deleted": func(ctx context.Context, w *world) error { return w.house.clients.Delete(ctx, "acme", "test") },
	} {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				b, f, code := w.granted(w.acme)
				k := f.redeem(code).ok()
				f, code = b.again(w.acme)
				k2 := w.newBrowser().connect(w.acme, bobEmail, bobPassword)
				if err := act(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				second := network{w.newReplica(), "198.51.100.7"} // the other replica as well
				for _, h := range []*house{w.house, second.h} {
					p := w.browserAt(h, "192.0.2.1").once(http.MethodGet, "/userinfo", nil, http.Header{"Authorization": {"Bearer " + k.AccessToken}})
					if p.status != http.StatusUnauthorized {
						t.Errorf("userinfo: %d %s", p.status, p.body)
					}
				}
				if what == "client deleted" {
					w.forget()
					w.acme.refresh(k.RefreshToken).refused(http.StatusUnauthorized, "invalid_client")
					f.redeem(code).refused(http.StatusUnauthorized, "invalid_client")
					return
				}
				w.dead(w.acme, k)
				f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
				if w.userinfo(k2.AccessToken) == nil {
					t.Error("Bob is gone, too")
				}
				w.acme.refresh(k2.RefreshToken).ok()
			})
		})
	}
}

// Nothing of what a client sent, and nothing of ours, is in an error (traps Z15
// and Z16), whose texts are those of RFC 6749 5.2.
func TestTK19_Z16_ErrorsRepeatNothing(t *testing.T) {
	plain := regexp.MustCompile(`^[\x20\x21\x23-\x5b\x5d-\x7e]+$`)
	onOne(t, func(t *testing.T, w *world) {
		b, f, code := w.granted(w.acme)
		k := f.redeem(code).ok()
		const mark = "M4RK\"\\\r\n\té日'<x>"
		check := func(what string, p *page) {
			t.Helper()
			var e map[string]string
			if err := json.Unmarshal([]byte(p.body), &e); err != nil || p.status/100 != 4 {
				t.Errorf("%s: %d %q", what, p.status, p.body)
				return
			}
			for name, text := range e {
				if (name != "error" && name != "error_description") || !plain.MatchString(text) || strings.Contains(text, "M4RK") {
					t.Errorf("%s: %s = %q", what, name, text)
				}
			}
			for _, v := range p.header {
				if strings.Contains(strings.Join(v, ""), "M4RK") {
					t.Errorf("%s: header %q", what, v)
				}
			}
		}
		for _, base := range []url.Values{f.redemption(code), {"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}, "scope": {"openid"}}} {
			for _, name := range []string{"grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret", "client_assertion", "client_assertion_type", "refresh_token", "scope", "assertion"} {
				for _, id := range []string{"globex", "legacy", "nobody"} {
					v := maps.Clone(base)
					v.Set("client_id", id)
					if id == "legacy" {
						v.Set("client_secret", w.legacy.secret)
					}
					v.Set(name, mark)
					check(name+" of "+id, b.raw(http.MethodPost, "/oauth/token", v.Encode(), nil))
					if name == "client_assertion" || name == "client_assertion_type" { // together
						v.Set("client_assertion", mark)
						v.Set("client_assertion_type", mark)
						check("assertion of "+id, b.raw(http.MethodPost, "/oauth/token", v.Encode(), nil))
					}
				}
			}
			for _, basic := range []string{mark + ":x", "acme:" + mark, "acme:%" + mark, "%" + mark + ":x"} {
				check("Basic "+basic, b.raw(http.MethodPost, "/oauth/token", base.Encode(), http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(basic))}}))
			}
		}
		check("userinfo", w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + mark}}, nil))
		check("userinfo, another scheme", w.bearer(http.MethodGet, http.Header{"Authorization": {mark}}, nil))
		check("userinfo, in the body", w.bearer(http.MethodPost, nil, url.Values{"access_token": {mark}}))

		// And what a browser carries back.
		for _, name := range []string{"response_type", "response_mode", "scope", "code_challenge", "code_challenge_method", "prompt", "max_age", "id_token_hint", "request", "request_uri", "registration"} {
			f := w.acme.begin(name, mark)
			q := f.answer(b.get(f.url()))
			if !plain.MatchString(q.Get("error")) || !plain.MatchString(q.Get("error_description")) || strings.Contains(q.Get("error_description"), "M4RK") {
				t.Errorf("%s: %v", name, q)
			}
		}
	})
}

// A database that does not answer grants nothing and tells nothing (I7, trap Z15).
func TestZ15_StorageErrorsTellNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, engine)
			b, f, code := w.granted(w.acme)
			k := f.redeem(code).ok()
			f, code = b.again(w.acme)
			f2 := w.acme.begin("prompt", "login")
			time.Sleep(time.Second)
			p := b.arrive(f2)
			resume := p.url.Query().Get("to")
			k3 := b.at(w.house).connect(w.globex, adaEmail, adaPassword)
			hidden := regexp.MustCompile(`(?i)sql|grants|gone_|relation|no such|pq:|pgx|SELECT|UPDATE`)
			check := func(what string, status int, body string) {
				t.Helper()
				if status/100 != 5 || hidden.MatchString(tagRE.ReplaceAllString(body, "")) {
					t.Errorf("%s: %d %s", what, status, body)
				}
			}
			must(w.db.Exec(t.Context(), `ALTER TABLE grants RENAME TO gone_grants`))(t)
			for what, k := range map[string]*tokens{
				"code": f.redeem(code), "refresh": w.acme.refresh(k.RefreshToken), "refresh of a public client": w.globex.refresh(k3.RefreshToken),
				"refresh with a scope": w.acme.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}, "scope": {"openid"}}),
			} {
				check(what, k.status, k.raw)
				if k.Error != "server_error" || k.AccessToken != "" {
					t.Errorf("%s: %s", what, k.raw)
				}
			}
			info := w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + k.AccessToken}}, nil)
			if check("userinfo", info.status, info.body); info.header.Get("WWW-Authenticate") != "" {
				t.Errorf("userinfo: a client is told that its token is bad: %q", info.header.Get("WWW-Authenticate"))
			}
			for what, to := range map[string]string{"authorize": w.acme.begin().url(), "end_session": "/end_session"} {
				p := b.get(to)
				check(what, p.status, p.body)
			}
			must(w.db.Exec(t.Context(), `ALTER TABLE auth_requests RENAME TO gone_requests`))(t)
			for what, to := range map[string]string{"a new browser": w.acme.begin("prompt", "login").url(), "resume": resume, "the form": "/login?" + url.Values{"to": {resume}}.Encode()} {
				p := b.get(to)
				check(what, p.status, p.body)
			}
			must(w.db.Exec(t.Context(), `ALTER TABLE sessions RENAME TO gone_sessions`))(t)
			for what, to := range map[string]string{"authorize without sessions": w.acme.begin().url(), "prompt=none": w.acme.begin("prompt", "none").url(), "logout": "/logout"} {
				p := b.get(to)
				check(what, p.status, p.body)
			}
			// Clients and keys are in memory: what asks nothing goes on, and is not refused for a wrong reason.
			must(w.db.Exec(t.Context(), `ALTER TABLE settings RENAME TO gone_settings`))(t)
			w.forget()
			if p := b.get("/jwks"); p.status != http.StatusOK {
				t.Errorf("jwks: %d", p.status)
			}
			rp{w: w, id: "acme", secret: "wrong", auth: idp.AuthBasic}.refresh("x").refused(http.StatusUnauthorized, "invalid_client")
			if strings.Contains(w.log.String(), `"msg":"panic"`) {
				t.Error("a panic")
			}
		})
	})
}

// Who is told of it: the person, in their activity and by one mail a day for each
// workspace, however often it happens.
func TestRF01_ReuseIsTold(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		w.mails()
		reuse := func(c rp) {
			t.Helper()
			k := b.connect(c, adaEmail, adaPassword)
			c.refresh(k.RefreshToken).ok()
			time.Sleep(time.Minute)
			c.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
			c.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		}
		reuse(w.globex)
		m := w.mail(adaEmail, "Globex was disconnected")
		if !strings.Contains(m.Text, "We ended this connection") || strings.Contains(m.Text, "198.51.100.7") {
			t.Errorf("mail: %s", m.Text)
		}
		p := b.get("/preferences/activity")
		p.wantText("Globex was disconnected")
		p.wantText("At Globex")
		// More of the same is no news, another workspace is.
		reuse(w.globex)
		if all := w.mails(); len(all) != 0 {
			t.Errorf("told again: %+v", all)
		}
		if n := w.count(`events WHERE kind = 'refresh_token_reused'`); n != 2 {
			t.Errorf("%d events", n)
		}
		reuse(w.add(idp.Client{ID: "spa", Name: "Spa", RedirectURIs: []string{"https://spa.test/cb"}, AuthMethod: idp.AuthNone, RequirePKCE: true}))
		w.mail(adaEmail, "Spa was disconnected")
		time.Sleep(24 * time.Hour)
		reuse(w.globex)
		w.mail(adaEmail, "Globex was disconnected")
	})
}

// RF: a refresh token that comes back after its time was given up, and with it
// the whole grant (ASVS 10.4.5).
func TestRF01_ReuseEndsTheGrant(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		rt0 := b.connect(w.globex, adaEmail, adaPassword)
		time.Sleep(time.Minute)
		rt1 := w.globex.refresh(rt0.RefreshToken).ok()
		if rt1.RefreshToken == rt0.RefreshToken {
			t.Fatal("a public client's refresh token does not rotate")
		}
		// For a moment the predecessor gets the very same successor: two tabs, a lost answer.
		time.Sleep(30 * time.Second)
		if again := w.globex.refresh(rt0.RefreshToken).ok(); again.RefreshToken != rt1.RefreshToken {
			t.Error("another successor")
		}
		events := w.count(`events WHERE kind = 'refresh_token_reused'`)
		time.Sleep(time.Millisecond)
		w.globex.refresh(rt0.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		w.dead(w.globex, rt1)
		w.dead(w.globex, rt0)
		if n := w.count(`events WHERE kind = 'refresh_token_reused' AND user_id = $1 AND client_id = 'globex'`, w.ada.ID) - events; n != 1 {
			t.Errorf("%d events of it", n)
		}

		// No token is exchanged twice within the grace, so that a slow tab is never two
		// generations behind.
		rt0 = b.connect(w.globex, adaEmail, adaPassword)
		rt1 = w.globex.refresh(rt0.RefreshToken).ok()
		time.Sleep(20 * time.Second)
		if again := w.globex.refresh(rt1.RefreshToken).ok(); again.RefreshToken != rt1.RefreshToken {
			t.Error("a token was exchanged for another within the grace")
		}
		if again := w.globex.refresh(rt0.RefreshToken).ok(); again.RefreshToken != rt1.RefreshToken {
			t.Error("the predecessor got another successor")
		}
		// After it, two generations back ends the grant.
		time.Sleep(11 * time.Second)
		rt2 := w.globex.refresh(rt1.RefreshToken).ok()
		if rt2.RefreshToken == rt1.RefreshToken {
			t.Error("after the grace it does not rotate")
		}
		w.globex.refresh(rt0.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		w.dead(w.globex, rt2)

		// Reuse says nothing about other sign-ins of the same browser.
		other := b.connect(w.acme, adaEmail, adaPassword)
		if w.userinfo(other.AccessToken) == nil {
			t.Error("another workspace's grant is gone")
		}

		// A confidential client keeps its token.
		for range 3 {
			time.Sleep(time.Hour)
			if k := w.acme.refresh(other.RefreshToken).ok(); k.RefreshToken != other.RefreshToken {
				t.Error("a confidential client's refresh token changed")
			}
		}
	})
}

// A made-up token that names a grant ends nothing: only who had the secret could
// have reused it.
func TestRF01_MadeUpTokenEndsNothing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		k := w.newBrowser().connect(w.globex, adaEmail, adaPassword)
		for range 3 {
			w.globex.refresh(secret.Token(k.RefreshToken[:len(k.RefreshToken)-43])).refused(http.StatusBadRequest, "invalid_grant")
		}
		if w.userinfo(k.AccessToken) == nil {
			t.Error("a stranger ended a grant")
		}
		w.globex.refresh(k.RefreshToken).ok()
	})
}

func TestRF02_RefreshRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, c := range []rp{w.globex, w.acme, w.globex, w.globex} {
			k := b.connect(c, adaEmail, adaPassword)
			for range 3 {
				var got [racers]*tokens
				release(func(i int) {
					got[i] = c.postAt(pick(i), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}}, nil)
				})
				next := map[string]bool{}
				for _, k := range got {
					next[k.ok().RefreshToken] = true
					if w.userinfo(k.AccessToken) == nil {
						t.Error("one of the access tokens is dead")
					}
				}
				if len(next) != 1 {
					t.Fatalf("%d successors", len(next))
				}
				k = got[0]
			}
			c.refresh(k.RefreshToken).ok()
		}
		if n := w.count(`events WHERE kind = 'refresh_token_reused'`); n != 0 {
			t.Errorf("%d reuses that were none", n)
		}
	})
}

func TestRF03_RefreshTokenOfAnotherClient(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		public := w.add(idp.Client{ID: "public2", Name: "Public 2", RedirectURIs: []string{"https://p2.test/cb"}, AuthMethod: idp.AuthNone, RequirePKCE: true})
		for _, owner := range []rp{w.acme, w.globex} {
			k := b.connect(owner, adaEmail, adaPassword)
			for _, thief := range []rp{w.legacy, w.acme, w.globex, public} {
				if thief.id != owner.id {
					thief.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
					// Nor does it learn what was granted.
					thief.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}, "scope": {"openid phone"}}).refused(http.StatusBadRequest, "invalid_grant")
				}
			}
			rp{w: w, id: owner.id, secret: w.legacy.secret, auth: idp.AuthBasic}.refresh(k.RefreshToken).refused(http.StatusUnauthorized, "invalid_client")
			if w.userinfo(k.AccessToken) == nil {
				t.Errorf("%s: another client ended the grant", owner.id)
			}
			before := k.RefreshToken
			k = owner.refresh(before).ok()
			// Nor is a token that was just given up of use to another.
			public.refresh(before).refused(http.StatusBadRequest, "invalid_grant")
			time.Sleep(time.Minute)
			public.refresh(before).refused(http.StatusBadRequest, "invalid_grant")
			owner.refresh(k.RefreshToken).ok()
		}
		if n := w.count(`events WHERE kind = 'refresh_token_reused'`); n != 0 {
			t.Errorf("%d reuses that were none", n)
		}
	})
}

// A refresh may ask for less, for one access token, and never for more.
func TestRF04_ScopeOfARefresh(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, c := range []rp{w.acme, w.globex} {
			k := w.newBrowser().connect(c, adaEmail, adaPassword, "scope", "openid profile email offline_access")
			token := k.RefreshToken
			ask := func(scope string) *tokens {
				t.Helper()
				v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
				if scope != "" {
					v.Set("scope", scope)
				}
				return c.post(v)
			}
			for _, scope := range []string{"openid phone", "openid profile email offline_access address", "admin", "OPENID", "openid\tphone", "profile", "email offline_access", " "} {
				if k := ask(scope); k.status != http.StatusBadRequest || k.Error != "invalid_scope" {
					t.Errorf("%s, scope %q: %d %s", c.id, scope, k.status, k.raw)
				}
				time.Sleep(time.Minute) // well past the grace: a refused request has not used the token up
			}
			less := ask("email openid").ok()
			token = less.RefreshToken
			if info := w.userinfo(less.AccessToken); less.Scope != "openid email" || info["email"] != adaEmail || info["name"] != nil {
				t.Errorf("less: %q, %v", less.Scope, info)
			}
			same := ask(strings.Repeat("openid ", 200) + "email").ok()
			token = same.RefreshToken
			if w.userinfo(same.AccessToken) == nil || same.Scope != "openid email" {
				t.Errorf("%s: one scope many times: %q", c.id, same.Scope)
			}
			all := ask("").ok()
			token = all.RefreshToken
			if info := w.userinfo(all.AccessToken); all.Scope != "openid profile email offline_access" || info["name"] != "Ada Lovelace" {
				t.Errorf("all again: %q, %v", all.Scope, info)
			}
			if full := ask("openid profile email offline_access").ok(); w.userinfo(full.AccessToken)["name"] != "Ada Lovelace" {
				t.Errorf("the full scope, named: %q", full.Scope)
			}
		}
	})
}

// Idle for two weeks, or thirty days in all, and it is over (ASVS 10.4.8).
func TestRF05_IdleAndAbsoluteLimits(t *testing.T) {
	const day = 24 * time.Hour
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		used, unused := b.connect(w.acme, adaEmail, adaPassword), b.connect(w.globex, adaEmail, adaPassword)
		late := b.connect(w.globex, adaEmail, adaPassword)
		time.Sleep(14*day - time.Second)
		w.acme.refresh(used.RefreshToken).ok()
		late = w.globex.refresh(late.RefreshToken).ok()
		time.Sleep(2 * time.Second)
		w.globex.refresh(unused.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		if n := w.count(`events WHERE kind = 'refresh_token_reused'`); n != 0 {
			t.Errorf("a token that is too old counts as reused: %d", n)
		}

		// The person proves themselves again, so that the session outlives the grant.
		b2 := w.newBrowser()
		young := b2.connect(w.legacy, bobEmail, bobPassword)
		if young.Scope == "" {
			t.Fatal("no scope")
		}
		must(w.db.Exec(t.Context(), `UPDATE sessions SET expires_at = expires_at + $1`, (30 * day).Microseconds()))(t)
		time.Sleep(10 * day) // day 24
		w.acme.refresh(used.RefreshToken).ok()
		late = w.globex.refresh(late.RefreshToken).ok()
		w.legacy.refresh(young.RefreshToken).ok()
		time.Sleep(6*day - 2*time.Second) // a second before day 30
		w.acme.refresh(used.RefreshToken).ok()
		late = w.globex.refresh(late.RefreshToken).ok()
		time.Sleep(2 * time.Second)
		w.acme.refresh(used.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		w.globex.refresh(late.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		w.legacy.refresh(young.RefreshToken).ok()
	})
}

// The session's own end is the end of all that it led to.
func TestRF05_NotBeyondTheSession(t *testing.T) {
	const day = 24 * time.Hour
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for range 10 { // the browser is used, so that it stays signed in
			time.Sleep(2 * day)
			b.get("/preferences/security").want(http.StatusOK, "/preferences/security")
		}
		k := b.connect(w.acme, adaEmail, adaPassword) // day 20
		time.Sleep(10*day - time.Second)
		k = w.acme.refresh(k.RefreshToken).ok()
		time.Sleep(2 * time.Second) // day 30
		w.dead(w.acme, k)
	})
}

// What ends a session, a person or a client ends its refresh tokens.
func TestRF06_RefreshAfterTheEnd(t *testing.T) {
	operator := account.Actor{Kind: "operator", Name: "test"}
	for what, act := range map[string]func(t *testing.T, w *world, b *browser){
		"sign-out": func(_ *testing.T, _ *world, b *browser) { b.post("/logout", url.Values{}) },
		"another person signs in": func(_ *testing.T, _ *world, b *browser) {
			b.fill(b.get("/login?another=1"), bobEmail, bobPassword).want(http.StatusOK, "/preferences/security")
		},
		"person disabled": func(t *testing.T, w *world, _ *browser) {
			if err := w.house.accounts.DisableUser(t.Context(), w.ada.ID, operator); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				b := w.newBrowser()
				k, k2 := b.connect(w.acme, adaEmail, adaPassword), b.connect(w.globex, adaEmail, adaPassword)
				elsewhere := w.browserAt(w.house, "192.0.2.77").connect(w.acme, adaEmail, adaPassword)
				act(t, w, b)
				w.dead(w.acme, k)
				w.dead(w.globex, k2)
				if alive := w.userinfo(elsewhere.AccessToken) != nil; alive == (what == "person disabled") {
					t.Errorf("the other browser's tokens are alive: %v", alive)
				}
			})
		})
	}
	t.Run("client_disabled", func(t *testing.T) {
		onEach(t, func(t *testing.T, w *world) {
			b := w.newBrowser()
			k, k2 := b.connect(w.acme, adaEmail, adaPassword), b.connect(w.globex, adaEmail, adaPassword)
			w.change(`UPDATE clients SET disabled_at = 1 WHERE id <> 'legacy'`)
			w.forget()
			w.acme.refresh(k.RefreshToken).refused(http.StatusUnauthorized, "invalid_client")
			w.globex.refresh(k2.RefreshToken).refused(http.StatusUnauthorized, "invalid_client")
			if w.userinfo(k.AccessToken) != nil || w.userinfo(k2.AccessToken) != nil {
				t.Error("the access token of a disabled client lives")
			}
		})
	})
	t.Run("refresh_taken_away", func(t *testing.T) {
		onEach(t, func(t *testing.T, w *world) {
			k := w.newBrowser().connect(w.globex, adaEmail, adaPassword)
			w.change(`UPDATE clients SET grant_types = '["authorization_code"]' WHERE id = 'globex'`)
			w.forget()
			w.globex.refresh(k.RefreshToken).refused(http.StatusBadRequest, "unauthorized_client")
		})
	})
}

// RF-07: with offline_access and without, the end of the session is the end of what
// it gave (docs/protocol.md), and nothing of it stays on the Sessions tab.
func TestRF07_SignOutEndsOfflineAccess(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, scope := range []string{"openid", "openid offline_access"} {
			b, other := w.newBrowser(), w.newBrowser()
			k := b.connect(w.acme, adaEmail, adaPassword, "scope", scope)
			if (k.RefreshToken != "") != strings.Contains(scope, "offline_access") {
				t.Fatalf("%s: %s", scope, k.raw)
			}
			other.signIn(adaEmail, adaPassword)
			other.get("/preferences/sessions").wantText("Acme")
			b.post("/logout", url.Values{})
			if w.userinfo(k.AccessToken) != nil {
				t.Errorf("%s: the access token lives", scope)
			}
			if k.RefreshToken != "" {
				w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
			}
			if p := other.get("/preferences/sessions"); strings.Contains(p.body, "Acme") {
				t.Errorf("%s: the Sessions tab still has it:\n%s", scope, p.body)
			}
			other.post("/logout", url.Values{})
		}
	})
}

// RF-11: an operator's reset of two-factor authentication ends every refresh token;
// setting it up ends those of the other sessions unless the person keeps them
// (TOTP-20).
func TestRF11_RefreshAfterTheSecondFactorWasReset(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		b.enable()
		k2 := b.connect(w.globex, adaEmail, adaPassword)
		w.acme.refresh(k.RefreshToken).ok()
		if err := w.house.accounts.ResetTwoFactor(t.Context(), w.ada.ID, "4711", account.Actor{Kind: "operator", Name: "test"}); err != nil {
			t.Fatal(err)
		}
		w.dead(w.acme, k)
		w.dead(w.globex, k2)
	})
}

func TestRF08_NoRefreshTokenUnasked(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for _, c := range []rp{w.acme, w.globex, w.legacy} {
			k := b.connect(c, adaEmail, adaPassword, "scope", "openid profile")
			if k.RefreshToken != "" || strings.Contains(k.raw, "refresh_token") {
				t.Errorf("%s: %s", c.id, k.raw)
			}
		}
		// Nor was one made that could be guessed.
		f, code := b.again(w.acme, "scope", "openid")
		f.redeem(code).ok()
		w.acme.refresh(strings.Replace(code, "hac_", "hrt_", 1)).refused(http.StatusBadRequest, "invalid_grant")
	})
}

func TestRF09_RefreshedIDToken(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for _, c := range []rp{w.acme, w.globex, w.legacy} {
			k := b.connect(c, adaEmail, adaPassword)
			before := k.claims()
			time.Sleep(time.Hour)
			// Signing in again elsewhere meanwhile is no news to this grant.
			b.fill(b.get(w.acme.begin("prompt", "login").url()), adaEmail, adaPassword)
			after := c.refresh(k.RefreshToken).ok().claims()
			for _, name := range []string{"iss", "sub", "aud", "auth_time", "sid", "acr", "azp"} {
				if before[name] != after[name] {
					t.Errorf("%s: %s was %v, is %v", c.id, name, before[name], after[name])
				}
			}
			if after["iat"].(float64) <= before["iat"].(float64) || after["at_hash"] == before["at_hash"] || after["nonce"] != nil {
				t.Errorf("%s: %v after %v", c.id, after, before)
			}
		}
	})
}
