package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
)

// The security cases of signing in with Google (FED, and GO-1 to GO-7 of the pages),
// and the gate behind every door.

const pathGoogle = "/login/google"

// refused checks that Google's person was led back to the sign-in page, which says
// why, and that nobody is signed in and nothing changed since before.
func (b *browser) refused(p *page, before, says string) {
	b.w.t.Helper()
	p.want(http.StatusOK, "/login")
	p.wantText(says)
	b.nothing(before)
}

// failed checks that the browser sees the page of a Google that did not do its part.
func (b *browser) failed(p *page, before string) {
	b.w.t.Helper()
	p.wantStatus(http.StatusBadGateway)
	p.wantText("Google didn’t respond as it should")
	b.nothing(before)
}

// over checks that the browser sees the page of a round trip that is none of its own.
func (b *browser) over(p *page, before string) {
	b.w.t.Helper()
	p.want(http.StatusBadRequest, "/login/google/callback")
	p.wantText("This Google sign-in is over")
	b.nothing(before)
}

func (b *browser) nothing(before string) {
	b.w.t.Helper()
	if b.signedIn() || b.session() != "" {
		b.w.t.Error("somebody is signed in")
	}
	if after := b.w.state(); after != before {
		b.w.t.Errorf("something changed:\n%s\n%s", before, after)
	}
}

// The story: a first sign-in through a workspace makes the account, which signs in
// with Google for good; the second finds it again.
func TestGoogleStory(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		if p := b.get("/login"); strings.Contains(p.body, pathGoogle) {
			t.Error("the page offers Google, which is not set up")
		}
		b.get(pathGoogle).wantStatus(http.StatusNotFound)

		g := w.withGoogle()
		if n := g.called(googleMetadata); n != 0 {
			t.Errorf("Google was asked %d times before anybody wanted to sign in", n)
		}
		b = w.newBrowser()
		f := w.acme.begin()
		p := b.get(f.url())
		p.want(http.StatusOK, "/login")
		p.wantText("Continue with Google")
		p = b.withGoogle(g, p.googleLink(), vera())
		claims := f.redeem(f.code(p)).ok().claims()
		if fmt.Sprint(claims["amr"]) != "[fed]" || claims["acr"] != account.ACR1FA {
			t.Errorf("amr %v, acr %v", claims["amr"], claims["acr"])
		}
		if at := int64(claims["auth_time"].(float64)); at != time.Now().Unix() {
			t.Errorf("auth_time %d, now %d", at, time.Now().Unix())
		}
		u := must(w.house.accounts.FindUser(t.Context(), veraEmail))(t)
		if u.ID != claims["sub"] || u.Method != account.MethodGoogle || u.HasPassword || !u.EmailVerified || u.Name != "Vera G. Oogle" {
			t.Errorf("the account is %+v", u)
		}
		b.get("/preferences/security").wantText("You sign in with Google")
		// Globex asks nothing, and the second sign-in is the same person.
		other := w.globex.begin()
		other.code(b.get(other.url()))
		c := w.newBrowser()
		c.withGoogle(g, pathGoogle, vera("name", "Vera Renamed")).want(http.StatusOK, "/preferences/security")
		h := w.acme.begin()
		if again := h.redeem(h.code(c.get(h.url()))).ok().claims(); again["sub"] != u.ID {
			t.Errorf("the second sign-in is %v, the first was %s", again["sub"], u.ID)
		}
		if n := w.count(`users WHERE method = 'google'`); n != 1 {
			t.Errorf("%d accounts", n)
		}
		// GO-1: Google's short way to write its issuer is no other Google.
		g.tell(func() { g.claims = func(c map[string]any) { c["iss"] = "accounts.google.com" } })
		d := w.newBrowser()
		d.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		// She has no password, and is told so where she asks for one (GO, ST-1).
		w.mails()
		d.forgot(veraEmail)
		if m := w.mail(veraEmail, "You sign in with Google"); strings.Contains(m.Text, "/login/reset") {
			t.Error("the mail has a link that sets a password")
		}
		d.attempt(veraEmail, "whatever it may be 77").wantStatus(http.StatusUnprocessableEntity)
		// prompt=login leads to Google again, with the address as a hint.
		time.Sleep(time.Minute)
		k := w.acme.begin("prompt", "login")
		p = c.get(k.url())
		p.want(http.StatusOK, "/login")
		if strings.Contains(p.body, `type="password"`) {
			t.Error("the page asks for a password that there is not")
		}
		at := c.toGoogle(p.googleLink())
		if at.Query().Get("login_hint") != veraEmail {
			t.Errorf("login_hint %q", at.Query().Get("login_hint"))
		}
		k.redeem(k.code(c.get(g.consents(at, vera())))).ok()
	})
}

// FED-01, GO-3: an address that Google does not vouch for opens and makes nothing.
func TestFED01_Unverified(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		before := w.state()
		for _, verified := range []any{false, nil, "false", "yes", 1, "TRUE"} {
			for _, email := range []string{adaEmail, "nobody@gmail.com"} {
				b := w.newBrowser()
				b.refused(b.withGoogle(g, pathGoogle, somebody("sub-1", email, "email_verified", verified)), before, "Google hasn’t verified that email address")
			}
		}
		for _, email := range []any{"not an address", "ada@example.com, eve@example.com", "<script>@gmail.com"} {
			b := w.newBrowser()
			b.refused(b.withGoogle(g, pathGoogle, somebody("sub-1", "", "email", email)), before, "Google hasn’t verified that email address")
		}
		// Some providers write it as a word.
		b := w.newBrowser()
		b.withGoogle(g, pathGoogle, vera("email_verified", "true")).want(http.StatusOK, "/preferences/security")
	})
}

// FED-02, FED-14, GO-2: Google opens no account that has a password, verified or not,
// and its person learns how to sign in.
func TestFED02_PasswordAccount(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		before := w.state()
		// Bob's address was never verified: whoever made that account may be anybody.
		for _, email := range []string{adaEmail, "ADA@Example.COM", bobEmail} {
			b := w.newBrowser()
			f := w.acme.begin()
			p := b.withGoogle(g, b.get(f.url()).googleLink(), somebody("sub-of-"+email, email))
			b.refused(p, before, "This email signs in with a Harmony password. Enter it here.")
			p.wantText("Sign in to continue to Acme")
			if got := p.form("/login").Get("email"); got != email {
				t.Errorf("filled in is %q, want %q", got, email)
			}
			if p = b.get(p.url.RequestURI()); strings.Contains(p.body, "Harmony password. Enter it here") {
				t.Error("a reload says it again")
			}
			if email == adaEmail { // and so they go on to the workspace
				f.code(b.fill(p, adaEmail, adaPassword))
				before = w.state()
			}
		}
		// The other way round: Google's address gets no password.
		b := w.newBrowser()
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		operator := account.Actor{Kind: "operator", Name: "test"}
		if _, err := w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: veraEmail, Name: "V", Password: "a password of some length"}, operator); err == nil {
			t.Error("there are two accounts of one address")
		}
		w.newBrowser().attempt(veraEmail, "a password of some length").wantStatus(http.StatusUnprocessableEntity)
	})
}

// FED-03: who somebody is at Google is the subject. An address that changed there
// changes here if it is verified and free, and the person is told.
func TestFED03_Renamed(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		b := w.newBrowser()
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		id := must(w.house.accounts.FindUser(t.Context(), veraEmail))(t).ID
		w.mails()
		for _, c := range []struct {
			what string
			who  map[string]any
			want string
		}{
			{"a password account's", vera("email", adaEmail), veraEmail},
			{"not verified", vera("email", "vera.new@gmail.com", "email_verified", false), veraEmail},
			{"none", vera("email", nil), veraEmail},
			{"no address", vera("email", "vera at gmail"), veraEmail},
			{"the same in capitals", vera("email", "VERA@gmail.com"), veraEmail},
			{"verified and free", vera("email", "Vera.New@gmail.com"), "vera.new@gmail.com"},
			{"and back", vera(), veraEmail},
		} {
			if c.what == "none" { // then userinfo is asked, and has none either
				g.tell(func() {
					g.answer = func(at string, r *http.Request) (*http.Response, error) {
						if at == googleUserinfo {
							return jsonAnswer(r, http.StatusOK, map[string]any{"sub": veraSub}), nil
						}
						return nil, nil
					}
				})
			}
			b := w.newBrowser()
			f := w.acme.begin()
			claims := f.redeem(f.code(b.withGoogle(g, b.get(f.url()).googleLink(), c.who))).ok().claims()
			g.behave()
			if claims["sub"] != id {
				t.Fatalf("%s: signed in as %v, want %s", c.what, claims["sub"], id)
			}
			u := must(w.house.accounts.FindUser(t.Context(), id))(t)
			if u.Email != c.want || !u.EmailVerified {
				t.Errorf("%s: the address is %s (verified %v), want %s", c.what, u.Email, u.EmailVerified, c.want)
			}
			switch mails := w.mails(); c.what {
			case "verified and free", "and back": // to the address that it was
				was := map[string]string{veraEmail: "vera.new@gmail.com", "vera.new@gmail.com": veraEmail}[c.want]
				if !slices.ContainsFunc(mails, func(m mail.Message) bool { return m.To == was && strings.Contains(m.Subject, "email address changed") }) {
					t.Errorf("%s: mails %+v", c.what, mails)
				}
				b.get("/preferences/activity").wantText("Email address changed, as at Google")
			default:
				if slices.ContainsFunc(mails, func(m mail.Message) bool { return strings.Contains(m.Subject, "address changed") }) {
					t.Errorf("%s: mails %+v", c.what, mails)
				}
			}
		}
		ada := must(w.house.accounts.FindUser(t.Context(), adaEmail))(t)
		if ada.ID != w.ada.ID || ada.Method != account.MethodPassword {
			t.Errorf("Ada is %+v", ada)
		}
	})
}

// FED-04: a mailbox that belongs to another Google account by now opens nothing of
// the account that had it before.
func TestFED04_RecycledMailbox(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		w.newBrowser().withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		before := w.state()
		b := w.newBrowser()
		b.refused(b.withGoogle(g, pathGoogle, vera("sub", "999")), before, "isn’t the Google account that this Harmony account was made with")
		// Nor does the same subject of another issuer.
		other := w.newReplica(g.join(func(c *login.GoogleConfig) { c.Issuer = "https://other.test" }))
		g.tell(func() {
			g.claims = func(c map[string]any) { c["iss"] = "https://other.test" }
			g.metadata = with(g.metadata, "issuer", "https://other.test")
			g.answer = func(at string, r *http.Request) (*http.Response, error) {
				if at == "other.test/.well-known/openid-configuration" {
					return jsonAnswer(r, http.StatusOK, g.metadata), nil
				}
				return nil, nil
			}
		})
		b = w.browserAt(other, "192.0.2.11")
		b.refused(b.withGoogle(g, pathGoogle, vera()), before, "isn’t the Google account")
	})
}

// FED-05, FED-09: the answer counts once, and in the browser that asked.
func TestFED05_State(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		before := w.state()
		b, eve := w.newBrowser(), w.newBrowser()
		mine := g.consents(b.toGoogle(pathGoogle), vera())
		hers := g.consents(eve.toGoogle(pathGoogle), somebody("eve", "eve@gmail.com"))
		state := func(s string) string {
			u := must(url.Parse(mine))(t)
			q := u.Query()
			if s == "" {
				q.Del("state")
			} else {
				q.Set("state", s)
			}
			return u.Path + "?" + q.Encode()
		}
		genuine := must(url.Parse(mine))(t).Query().Get("state")
		for _, s := range []string{"", "x", secret.Token("hgs_"), genuine[:len(genuine)-1], genuine + "x", "'; DROP TABLE google_flows; --"} {
			b.over(b.get(state(s)), before)
		}
		b.over(b.get(hers), before)                           // login CSRF: Eve's answer in Vera's browser
		w.newBrowser().over(w.newBrowser().get(mine), before) // without the cookie
		eve.over(eve.get(mine), before)                       // with the cookie of another
		twice := w.newBrowser()                               // with two cookies, of which one is not ours
		twice.jar, twice.http.Jar = nil, nil
		cookie := "__Host-harmony-google=" + b.cookie("__Host-harmony-google")
		if p := twice.once(http.MethodGet, mine, nil, http.Header{"Cookie": {cookie + "; " + cookie}}); p.status != http.StatusBadRequest {
			t.Errorf("with the cookie twice: %d", p.status)
		}
		if n := g.called(googleToken); n != 0 {
			t.Errorf("%d codes were redeemed", n)
		}
		// None of it took Vera's own answer away. It counts once.
		b.get(mine).want(http.StatusOK, "/preferences/security")
		token := b.session()
		p := b.get(mine)
		p.want(http.StatusBadRequest, "/login/google/callback")
		c := w.newBrowser()
		after := w.state()
		c.over(c.get(mine), after)
		if n := w.count(`sessions`); n != 1 || b.session() != token || g.called(googleToken) != 1 {
			t.Errorf("%d sessions, %d codes redeemed", n, g.called(googleToken))
		}
		// An answer that comes too late.
		late := w.newBrowser()
		at := g.consents(late.toGoogle(pathGoogle), vera())
		time.Sleep(10*time.Minute + time.Second)
		late.over(late.get(at), after)
		if err := w.house.clean(t.Context()); err != nil || w.count(`google_flows`) != 0 {
			t.Errorf("%d round trips are kept, %v", w.count(`google_flows`), err)
		}
	})
}

// FED-09: of the same answer many times at once, on two replicas, one counts.
func TestFED09_Race(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, _ func(int) *house) {
		g := w.withGoogle()
		both := []*house{w.house, w.newReplica(g.join())}
		b := w.newBrowser()
		at := g.consents(b.toGoogle(pathGoogle), vera())
		g.tell(func() { g.lax = true }) // Google gives tokens for it every time
		var in, over atomic.Int64
		release(func(i int) {
			switch p := b.at(both[i%2]).once(http.MethodGet, at, nil, nil); p.status {
			case http.StatusSeeOther:
				in.Add(1)
			case http.StatusBadRequest:
				over.Add(1)
			}
		})
		if in.Load() != 1 || over.Load() != racers-1 || w.count(`sessions`) != 1 || g.called(googleToken) != 1 {
			t.Errorf("%d got in, %d were refused, %d sessions, %d codes redeemed", in.Load(), over.Load(), w.count(`sessions`), g.called(googleToken))
		}
	})
}

// Many first sign-ins of one person at once make one account.
func TestGoogleFirstSignInRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, _ func(int) *house) {
		g := w.withGoogle()
		both := []*house{w.house, w.newReplica(g.join())}
		var bs [racers]*browser
		var at [racers]string
		for i := range bs {
			bs[i] = w.browserAt(both[i%2], fmt.Sprintf("192.0.2.%d", 100+i))
			at[i] = g.consents(bs[i].toGoogle(pathGoogle), vera())
		}
		var in atomic.Int64
		release(func(i int) {
			if p := bs[i].once(http.MethodGet, at[i], nil, nil); p.status == http.StatusSeeOther && p.header.Get("Location") == "/preferences/security" {
				in.Add(1)
			}
		})
		if in.Load() != racers || w.count(`users WHERE method = 'google'`) != 1 || w.count(`sessions`) != racers {
			t.Errorf("%d got in, %d accounts, %d sessions", in.Load(), w.count(`users WHERE method = 'google'`), w.count(`sessions`))
		}
	})
}

// FED-06, FED-07, FED-08, GO-1: no ID token but the right one of this round trip.
func TestFED06_FED07_FED08_IDToken(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		w.newBrowser().withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security") // the keys are known
		before := w.state()
		in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
		set := func(changes ...any) func(map[string]any) {
			return func(c map[string]any) {
				for k, v := range with(c, changes...) {
					c[k] = v
				}
				for i := 0; i < len(changes); i += 2 {
					if changes[i+1] == nil {
						delete(c, changes[i].(string))
					}
				}
			}
		}
		hmac := func(key []byte, kid string) func(map[string]any) string {
			return func(c map[string]any) string {
				return g.sign(jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: "HS256"}, c)
			}
		}
		for _, c := range []struct {
			name   string
			claims func(map[string]any)
			mint   func(map[string]any) string
		}{
			{"nonce wrong", set("nonce", "x"), nil},
			{"nonce empty", set("nonce", ""), nil},
			{"nonce missing", set("nonce", nil), nil},
			{"nonce twice", set("nonce", []string{"a", "b"}), nil},
			{"aud other", set("aud", "somebody-else"), nil},
			{"aud missing", set("aud", nil), nil},
			{"aud many, azp foreign", set("aud", []string{googleClient, "somebody-else"}, "azp", "somebody-else"), nil},
			{"aud many, azp missing", set("aud", []string{googleClient, "somebody-else"}, "azp", nil), nil},
			{"azp foreign", set("azp", "somebody-else"), nil},
			{"iss of a like-named", set("iss", "https://accounts.google.com.evil"), nil},
			{"iss with a slash", set("iss", "https://accounts.google.com/"), nil},
			{"iss in the clear", set("iss", "http://accounts.google.com"), nil},
			{"iss missing", set("iss", nil), nil},
			{"exp past", set("exp", in(-time.Second)), nil},
			{"exp missing", set("exp", nil), nil},
			{"exp a word", set("exp", "tomorrow"), nil},
			{"iat in an hour", set("iat", in(time.Hour)), nil},
			{"iat missing", set("iat", nil), nil},
			{"nbf in an hour", set("nbf", in(time.Hour)), nil},
			{"sub missing", set("sub", nil), nil},
			{"sub empty", set("sub", ""), nil},
			{"sub a number", set("sub", 4711), nil},
			{"sub too long", set("sub", strings.Repeat("9", 256)), nil},
			{"sub with a NUL", set("sub", "1\x002"), nil},
			{"hd no text", set("hd", []string{"example.com"}), nil},
			{"alg none", nil, func(c map[string]any) string { return b64(`{"alg":"none"}`) + "." + b64(jsonText(t, c)) + "." }},
			{"alg None, with the key's id", nil, func(c map[string]any) string {
				return b64(`{"alg":"None","kid":"first"}`) + "." + b64(jsonText(t, c)) + "."
			}},
			{"HS256 with the public key as its secret", nil, hmac(g.publicPEM(), "first")},
			{"HS256 with the client's secret", nil, hmac([]byte(googleSecret), "first")},
			{"another key under the key's id", nil, func(c map[string]any) string { return g.sign(googleKey(1, "first"), c) }},
			{"a key that is not published", nil, func(c map[string]any) string { return g.sign(googleKey(1, "unknown"), c) }},
			{"a key in the header", nil, func(c map[string]any) string {
				s := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: googleKey(1, "mine")}, &jose.SignerOptions{EmbedJWK: true}))(t)
				return sign(t, s, c)
			}},
			{"a signature cut off", nil, func(c map[string]any) string {
				s := g.sign(g.keys[0], c)
				return s[:strings.LastIndexByte(s, '.')+1]
			}},
			{"the claims of another", nil, func(c map[string]any) string {
				part := strings.Split(g.sign(g.keys[0], c), ".")
				return part[0] + "." + b64(jsonText(t, with(c, "sub", "another"))) + "." + part[2]
			}},
			{"no token", nil, func(map[string]any) string { return "" }},
			{"null", nil, func(map[string]any) string { return "e30.bnVsbA.eA" }},
		} {
			g.tell(func() { g.claims, g.mint = c.claims, c.mint })
			b := w.newBrowser()
			p := b.withGoogle(g, pathGoogle, vera())
			if p.status != http.StatusBadGateway {
				t.Errorf("%s: %d at %s", c.name, p.status, p.url)
			}
			b.failed(p, before)
		}
		// The keys were fetched at the start and once more for what they did not fit.
		if n := g.called(googleKeys); n > 2 {
			t.Errorf("keys fetched %d times within a minute", n)
		}
		// What a clock that is a little ahead does is no fraud.
		g.tell(func() {
			g.claims, g.mint = set("iat", in(time.Minute), "nbf", in(time.Minute), "aud", []string{googleClient}), nil
		})
		w.newBrowser().withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
	})
}

func jsonText(t testing.TB, v any) string {
	t.Helper()
	return string(must(json.Marshal(v))(t))
}

// FED-06: a code that an attacker got for a round trip of their own does not fit
// into another's, whatever Google thinks of PKCE.
func TestFED06_InjectedCode(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		before := w.state()
		for _, lax := range []bool{false, true} {
			g.tell(func() { g.lax = lax })
			b, eve := w.newBrowser(), w.newBrowser()
			mine := must(url.Parse(g.consents(b.toGoogle(pathGoogle), vera())))(t).Query()
			hers := must(url.Parse(g.consents(eve.toGoogle(pathGoogle), somebody("eve", "eve@gmail.com"))))(t).Query()
			b.failed(b.get("/login/google/callback?"+url.Values{"state": mine["state"], "code": hers["code"]}.Encode()), before)
			eve.failed(eve.get("/login/google/callback?"+url.Values{"state": hers["state"], "code": mine["code"]}.Encode()), before)
		}
		// Nor does an answer that another issuer gave (RFC 9207).
		b := w.newBrowser()
		b.failed(b.get(g.consents(b.toGoogle(pathGoogle), vera())+"&iss="+url.QueryEscape("https://evil.test")), before)
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
	})
}

// FED-08: keys that Google changed are found, once a minute at the most.
func TestFED08_Rotation(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		for range 3 {
			w.newBrowser().withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		}
		if n := g.called(googleKeys); n != 1 {
			t.Errorf("keys fetched %d times for three sign-ins", n)
		}
		time.Sleep(time.Minute)
		g.tell(func() { g.keys = []jose.JSONWebKey{googleKey(1, "second"), googleKey(0, "first")} })
		w.newBrowser().withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		g.tell(func() { g.keys = g.keys[:1] })
		w.newBrowser().withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		if n := g.called(googleKeys); n != 2 {
			t.Errorf("keys fetched %d times, want once more for the new key", n)
		}
		before := w.state()
		for i := range 20 {
			g.tell(func() {
				g.mint = func(c map[string]any) string { return g.sign(googleKey(0, fmt.Sprint("made up ", i)), c) }
			})
			b := w.newBrowser()
			b.failed(b.withGoogle(g, pathGoogle, vera()), before)
			time.Sleep(10 * time.Second)
		}
		if n := g.called(googleKeys) - 2; n > 4 {
			t.Errorf("keys fetched %d times in 200 s", n)
		}
		// The metadata is believed for hours, and after that while it is asked for again.
		if n := g.called(googleMetadata); n != 1 {
			t.Errorf("metadata fetched %d times", n)
		}
		g.behave()
		time.Sleep(7 * time.Hour)
		g.tell(func() {
			g.answer = func(at string, r *http.Request) (*http.Response, error) {
				if at == googleMetadata {
					return answer(r, http.StatusInternalServerError, strings.NewReader("out of order")), nil
				}
				return nil, nil
			}
		})
		w.newBrowser().withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
	})
}

// FED-10, GO-4: two-factor authentication is ours, and asked for after Google.
func TestFED10_SecondFactor(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		first := w.newBrowser()
		first.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		a := first.enable()
		time.Sleep(30 * time.Second)

		b := w.newBrowser()
		f := w.acme.begin()
		p := b.withGoogle(g, b.get(f.url()).googleLink(), vera())
		p.want(http.StatusOK, "/login/verify")
		p.wantText("Google confirmed your account. Now enter your Harmony code.")
		resume := p.form("/login/verify").Get("to")
		if b.session() != "" {
			t.Error("a half sign-in has a session's cookie")
		}
		// TOTP-06: half is nothing.
		before := w.state()
		for _, path := range accountPages() {
			if q := b.once(http.MethodGet, path, nil, nil); q.status != http.StatusSeeOther || !strings.HasPrefix(q.header.Get("Location"), "/login?") {
				t.Errorf("GET %s: %d to %s", path, q.status, q.header.Get("Location"))
			}
		}
		for _, path := range accountActs() {
			form := url.Values{"code": {a.code()}, "saved": {"on"}, "for": {"disable"}, "with": {"google"}}
			if q := b.once(http.MethodPost, path, form, nil); q.status != http.StatusSeeOther || !strings.HasPrefix(q.header.Get("Location"), "/login?") {
				t.Errorf("POST %s: %d to %s", path, q.status, q.header.Get("Location"))
			}
		}
		b.get(resume).want(http.StatusOK, "/login")
		quiet := w.acme.begin("prompt", "none")
		quiet.wantError(b.get(quiet.url()), "login_required")
		b.get(pathGoogle+"?confirm=1").want(http.StatusOK, "/login") // nobody is signed in whom Google could confirm
		b.nothing(before)

		p = b.verify(b.get("/login/verify?"+url.Values{"to": {resume}}.Encode()), a.code())
		claims := f.redeem(f.code(p)).ok().claims()
		if fmt.Sprint(claims["amr"]) != "[fed otp mfa]" || claims["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", claims["amr"], claims["acr"])
		}
		c := w.newBrowser()
		c.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/login/verify")
		c.useBackupCode(a.codes[0]).want(http.StatusOK, "/login/backup-code/used")
		// Signing in again asks for both again (TOTP-13).
		time.Sleep(time.Minute)
		k := w.acme.begin("prompt", "login")
		p = b.withGoogle(g, b.get(k.url()).googleLink(), vera())
		p.want(http.StatusOK, "/login/verify")
		k.code(b.verify(p, a.code()))
	})
}

// FED-11, GO-6: whatever Google answers in place of a code, the page is ours.
func TestFED11_Errors(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		before := w.state()
		script, more := `<script>alert(1)</script>`, `<script>alert(2)</script>`
		b := w.newBrowser()
		f := w.acme.begin()
		for _, code := range []string{"access_denied", "server_error", script, "\x1b[2J", strings.Repeat("long", 2000), "temporarily_unavailable\nforged"} {
			p := b.get(g.back(b.toGoogle(b.get(f.url()).googleLink()), url.Values{"error": {code}, "error_description": {more}, "error_uri": {"javascript:alert(2)"}}))
			if strings.Contains(p.body, "alert(") {
				t.Errorf("%q: the page has what Google said:\n%s", code, p.body)
			}
			if code != "access_denied" {
				b.failed(p, before)
				p.wantText("Try again")
				continue
			}
			b.refused(p, before, "Google sign-in was cancelled.")
			p.wantText("Sign in to continue to Acme")
		}
		b.over(b.get("/login/google/callback?error=access_denied&error_description="+url.QueryEscape(script)), before)
		b.over(b.get("/login/google/callback"), before)
		// An answer with neither, and one with both.
		b.failed(b.get(g.back(b.toGoogle(pathGoogle), url.Values{})), before)
		b.refused(b.get(g.consents(b.toGoogle(pathGoogle), vera())+"&error=access_denied"), before, "cancelled")
		log := w.log.String()
		for _, bad := range []string{"alert(2)", `\u001b`, strings.Repeat("long", 100)} {
			if strings.Contains(log, bad) {
				t.Errorf("the log has %q", bad)
			}
		}
		if !strings.Contains(log, "server_error") {
			t.Error("the log does not say what Google answered")
		}
		// A new attempt is possible, and still leads to the workspace.
		f.code(b.withGoogle(g, b.get(f.url()).googleLink(), vera()))
	})
}

// FED-12, GO-1: what Harmony asks Google for.
func TestFED12_Request(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		w.withGoogle()
		seen := map[string]bool{}
		for range 2 {
			q := w.newBrowser().toGoogle(pathGoogle).Query()
			for name, want := range map[string]string{
				"response_type": "code", "client_id": googleClient, "redirect_uri": issuer + "/login/google/callback", "scope": "openid email profile",
				"code_challenge_method": "S256", "prompt": "select_account", "login_hint": "", "hd": "",
			} {
				if q.Get(name) != want {
					t.Errorf("%s = %q, want %q", name, q.Get(name), want)
				}
			}
			for _, name := range []string{"state", "nonce", "code_challenge"} {
				if v := q.Get(name); len(v) < 43 || seen[v] { // 256 bits
					t.Errorf("%s = %q", name, v)
				}
				seen[q.Get(name)] = true
			}
			for _, name := range []string{"client_secret", "code_verifier", "access_type"} {
				if q.Has(name) {
					t.Errorf("%s is sent along", name)
				}
			}
		}
		// The state is the browser's: it is no cookie that a page could read or send elsewhere.
		p := w.newBrowser().once(http.MethodGet, pathGoogle, nil, nil)
		cookie := p.header.Get("Set-Cookie")
		for _, want := range []string{"__Host-harmony-google=hgb_", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax", "; Max-Age=600"} {
			if !strings.Contains(cookie, want) {
				t.Errorf("cookie %q lacks %q", cookie, want)
			}
		}
		if to := must(url.Parse(p.header.Get("Location")))(t); strings.Contains(cookie, to.Query().Get("state")) {
			t.Error("the cookie tells the state")
		}
		// Whom a session belongs to is a hint; one domain is, too.
		w.withGoogle(func(c *login.GoogleConfig) { c.Domains = []string{"example.com"} })
		if q := w.newBrowser().toGoogle(pathGoogle).Query(); q.Get("hd") != "example.com" {
			t.Errorf("hd = %q", q.Get("hd"))
		}
		// Nowhere but to ourselves (WEB-09).
		for _, to := range []string{"https://evil.test/", "//evil.test", `/\evil.test`, "javascript:alert(1)", "/%0aSet-Cookie:x"} {
			b := w.newBrowser()
			g := w.withGoogle()
			b = b.at(w.house)
			if p := b.withGoogle(g, pathGoogle+"?"+url.Values{"to": {to}}.Encode(), vera()); p.url.Host != "id.test" || p.status != http.StatusOK && p.status != http.StatusNotFound {
				t.Errorf("to=%q leads to %s (%d)", to, p.url, p.status)
			}
		}
	})
}

// FED-13: a Google that is slow, down or mad costs ten seconds and a page. The
// bubble ends only when every goroutine has returned.
func TestFED13_GoogleIsDown(t *testing.T) {
	type fault func(*http.Request) (*http.Response, error)
	var flood *endless
	faults := map[string]fault{
		"hangs":   func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
		"is down": func(r *http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"fails": func(r *http.Request) (*http.Response, error) {
			return answer(r, 500, strings.NewReader("<h1>oops</h1>")), nil
		},
		"drips":      func(r *http.Request) (*http.Response, error) { return answer(r, 200, drip{r.Context()}), nil },
		"talks HTML": func(r *http.Request) (*http.Response, error) { return answer(r, 200, strings.NewReader("<html>")), nil },
		"floods": func(r *http.Request) (*http.Response, error) {
			flood = &endless{head: strings.NewReader(`{"x":"`)}
			return answer(r, 200, flood), nil
		},
		"redirects": func(r *http.Request) (*http.Response, error) {
			res := answer(r, http.StatusFound, strings.NewReader(""))
			res.Header.Set("Location", "http://169.254.169.254/latest/meta-data/")
			return res, nil
		},
	}
	onOne(t, func(t *testing.T, w *world) {
		for name, fault := range faults {
			for _, where := range []string{googleMetadata, googleToken, googleKeys, googleUserinfo} {
				g := w.withGoogle() // one that knows nothing yet
				before := w.state()
				who := vera()
				if where == googleUserinfo { // which is asked if the ID token has no address
					who = vera("email", nil)
				}
				flood = nil
				g.tell(func() {
					g.answer = func(at string, r *http.Request) (*http.Response, error) {
						if at == where {
							return fault(r)
						}
						return nil, nil
					}
				})
				b := w.newBrowser()
				began := time.Now()
				var p *page
				if where == googleMetadata {
					p = b.get(pathGoogle)
				} else {
					p = b.withGoogle(g, pathGoogle, who)
				}
				if p.status != http.StatusBadGateway || time.Since(began) > 10*time.Second {
					t.Errorf("%s %s: %d after %s", where, name, p.status, time.Since(began))
				}
				b.failed(p, before)
				if strings.Contains(p.body, "oops") || strings.Contains(p.body, "169.254") {
					t.Errorf("%s %s: the page tells what Google said:\n%s", where, name, p.body)
				}
				if g.called("169.254.169.254/latest/meta-data/") != 0 {
					t.Errorf("%s: the redirect was followed", where)
				}
				if flood != nil && flood.read > 2<<20 {
					t.Errorf("%s: %d bytes were read", where, flood.read)
				}
				// A password signs in meanwhile, at once (and there is a way on to it).
				began = time.Now()
				c := w.newBrowser()
				c.signIn(adaEmail, adaPassword)
				if d := time.Since(began); d != 0 {
					t.Errorf("%s %s: a password took %s", where, name, d)
				}
				// And when Google is well again, so is signing in with it.
				g.behave()
				time.Sleep(10 * time.Second)
				b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
				w.exec(`DELETE FROM users WHERE method = 'google'`)
			}
		}
		for line := range strings.Lines(w.log.String()) {
			if len(line) > 4096 || strings.Contains(line, "oops") {
				t.Errorf("the log has %.300q", line)
			}
		}
	})
}

// FED-13: people do not queue up before a Google that hangs.
func TestFED13_NobodyQueues(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		g.tell(func() {
			g.answer = func(_ string, r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
		})
		began := time.Now()
		release(func(int) { w.newBrowser().get(pathGoogle).wantStatus(http.StatusBadGateway) })
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("%d people waited %s", racers, d)
		}
		if n := g.called(googleMetadata); n != 1 {
			t.Errorf("Google was asked %d times at once", n)
		}
	})
}

// FED-13: endpoints that no secret may be sent to are not used.
func TestFED13_Metadata(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		for name, bad := range map[string]any{
			"authorization_endpoint": "http://accounts.google.com/auth", "token_endpoint": "http://169.254.169.254/token", "jwks_uri": "file:///etc/passwd",
			"userinfo_endpoint": "http://openidconnect.googleapis.com/v1/userinfo", "issuer": "https://accounts.google.com.evil",
		} {
			g := w.withGoogle()
			before := w.state()
			g.tell(func() { g.metadata = with(g.metadata, name, bad) })
			b := w.newBrowser()
			b.failed(b.get(pathGoogle), before)
		}
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
			g := w.withGoogle()
			before := w.state()
			g.tell(func() { g.metadata = with(g.metadata, name, nil) })
			b := w.newBrowser()
			b.failed(b.get(pathGoogle), before)
		}
	})
}

// A provider whose ID tokens have no address is asked for it; userinfo about
// somebody else counts for nothing (OIDC Core 5.3.2).
func TestGoogleUserinfo(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		before := w.state()
		for _, sub := range []string{"somebody else", "", veraSub} {
			g.tell(func() {
				g.answer = func(at string, r *http.Request) (*http.Response, error) {
					if at != googleUserinfo {
						return nil, nil
					}
					if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ya29_") {
						t.Errorf("asked with %q", r.Header.Get("Authorization"))
					}
					return jsonAnswer(r, http.StatusOK, vera("sub", sub)), nil
				}
			})
			b := w.newBrowser()
			p := b.withGoogle(g, pathGoogle, vera("email", nil, "email_verified", nil))
			if sub != veraSub {
				b.failed(p, before)
				continue
			}
			p.want(http.StatusOK, "/preferences/security")
			must(w.house.accounts.FindUser(t.Context(), veraEmail))(t)
		}
	})
}

// FED-15: who may sign in is decided by the domain that Google names, not by what
// an address ends in.
func TestFED15_Domains(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.withGoogle()
		open := w.house
		g := w.withGoogle(func(c *login.GoogleConfig) { c.Domains = []string{"example.com", "example.org"} })
		before := w.state()
		for _, hd := range []any{nil, "", "evil.example", "example.com.evil.example", "sub.example.com", "example.com,example.org", " example.com"} {
			b := w.newBrowser()
			b.refused(b.withGoogle(g, pathGoogle, vera("email", "vera@example.com", "hd", hd)), before, "isn’t of an organisation that may sign in here")
		}
		b := w.newBrowser()
		b.withGoogle(g, pathGoogle, vera("email", "vera@elsewhere.example", "hd", "Example.com")).want(http.StatusOK, "/preferences/security")
		w.newBrowser().withGoogle(g, pathGoogle, somebody("org", "o@example.org", "hd", "example.org")).want(http.StatusOK, "/preferences/security")
		// Who has an account from before is asked the same.
		before = w.state()
		c := w.newBrowser()
		c.refused(c.withGoogle(g, pathGoogle, vera("hd", nil)), before, "isn’t of an organisation")
		_ = open
	})
}

// FED-16: neither the database nor the log has anything that Google gave.
func TestFED16_NothingIsKept(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		b := w.newBrowser()
		at := b.toGoogle(pathGoogle)
		state, nonce, cookie := at.Query().Get("state"), at.Query().Get("nonce"), b.cookie("__Host-harmony-google")
		dump := w.everything()
		for what, s := range map[string]string{"state": state, "nonce": nonce, "cookie": cookie} {
			if s == "" || strings.Contains(dump, s) {
				t.Errorf("the database has the %s of a round trip", what)
			}
		}
		b.get(g.consents(at, vera())).want(http.StatusOK, "/preferences/security")
		b.withGoogle(g, pathGoogle+"?confirm=1", vera()).want(http.StatusOK, "/preferences/security")
		// And what goes wrong with a secret at hand.
		c := w.newBrowser()
		for _, where := range []string{googleKeys, googleUserinfo, googleToken} {
			d := w.withGoogle()
			d.tell(func() {
				d.answer = func(at string, r *http.Request) (*http.Response, error) {
					if at != where {
						return nil, nil
					}
					echo := "you sent " + r.Header.Get("Authorization")
					if r.Body != nil {
						body, _ := io.ReadAll(r.Body)
						echo += string(body)
					}
					return answer(r, http.StatusUnauthorized, strings.NewReader(echo)), nil
				}
			})
			c = c.at(w.house)
			c.withGoogle(d, pathGoogle, vera("email", nil)).wantStatus(http.StatusBadGateway)
			g.secrets = append(g.secrets, d.secrets...)
		}
		dump, log := w.everything(), w.log.String()
		for _, s := range append(g.secrets, googleSecret, state, nonce, cookie) {
			for form, v := range forms(s) {
				if strings.Contains(dump, v) {
					t.Errorf("the database has %.20q as %s", s, form)
				}
				if strings.Contains(log, v) {
					t.Errorf("the log has %.20q as %s", s, form)
				}
			}
		}
		if strings.Contains(log, veraEmail) || strings.Contains(log, veraSub) {
			t.Error("the log says who it was")
		}
	})
}

// FED-18: a round trip may begin at one replica and end at another, though the first
// is gone by then.
func TestFED18_Replicas(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		b := w.newBrowser()
		at := g.consents(b.toGoogle(pathGoogle), vera())
		b.at(w.newReplica(g.join())).get(at).want(http.StatusOK, "/preferences/security")
		b = b.at(w.newReplica(g.join()))
		b.withGoogle(g, pathGoogle+"?confirm=1", vera()).want(http.StatusOK, "/preferences/security")
	})
}

// GO-5: who has no code is asked by Google again, and has to be the same person.
func TestGO5_ConfirmWithGoogle(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		b := w.newBrowser()
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		w.newBrowser().withGoogle(g, pathGoogle, somebody("eve", "eve@gmail.com")).want(http.StatusOK, "/preferences/security")
		time.Sleep(11 * time.Minute)
		p := b.get(pathTwoFactor)
		p.want(http.StatusOK, "/login/confirm")
		p.wantText("Continue with Google")
		for _, field := range []string{`name="password"`, `name="code"`} {
			if strings.Contains(p.body, field) {
				t.Errorf("the page has %s", field)
			}
		}
		before, token := w.state(), b.session()
		at := b.toGoogle(p.googleLink())
		if at.Query().Get("login_hint") != veraEmail || at.Query().Get("prompt") != "select_account" {
			t.Errorf("asks Google for %v", at.Query())
		}
		// Another person at Google, with an account here and without, and Vera of no
		// verified address, which does not matter.
		for _, who := range []map[string]any{somebody("eve", "eve@gmail.com"), somebody("new", veraEmail), vera("sub", veraSub+"0")} {
			q := b.get(g.consents(b.toGoogle(p.googleLink()), who))
			q.wantStatus(http.StatusForbidden)
			q.wantText("That was another Google account")
			b.get(pathTwoFactor).want(http.StatusOK, "/login/confirm")
			if after := w.state(); after != before || b.session() != token {
				t.Errorf("something changed:\n%s\n%s", before, after)
			}
		}
		// Cancelled, or nonsense: nothing is proved.
		b.get(g.back(b.toGoogle(p.googleLink()), url.Values{"error": {"access_denied"}})).want(http.StatusOK, "/login/confirm")
		g.tell(func() { g.claims = func(c map[string]any) { c["nonce"] = "x" } })
		b.withGoogle(g, p.googleLink(), vera()).wantStatus(http.StatusBadGateway)
		g.tell(func() { g.claims = func(c map[string]any) { c["sub"] = "" } })
		b.withGoogle(g, p.googleLink(), vera()).wantStatus(http.StatusBadGateway)
		g.behave()
		b.get(pathTwoFactor).want(http.StatusOK, "/login/confirm")
		if after := w.state(); after != before {
			t.Errorf("something changed:\n%s\n%s", before, after)
		}
		// The same person is one, and the session goes on under another token.
		b.withGoogle(g, p.googleLink(), vera("email_verified", false)).want(http.StatusOK, pathTwoFactor)
		if b.session() == token || w.holding(w.house, token).signedIn() || w.count(`sessions`) != 2 {
			t.Error("the session has the same token, or another was opened")
		}
		// A round trip that was begun in a session is worth nothing without it.
		time.Sleep(11 * time.Minute)
		back := g.consents(b.toGoogle(pathGoogle+"?confirm=1"), vera())
		b.post("/logout", url.Values{}).wantStatus(http.StatusOK)
		b.get(back).want(http.StatusOK, "/login")
		if b.signedIn() {
			t.Error("a confirmation opened a session")
		}
		// Nor in a later session of the same person, or that of another in the same browser.
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		back = g.consents(b.toGoogle(pathGoogle+"?confirm=1"), vera())
		b.post("/logout", url.Values{}).wantStatus(http.StatusOK)
		cookie := b.cookie("__Host-harmony-google")
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		flows := w.count(`google_flows`)
		token = b.session()
		b.plant("__Host-harmony-google", cookie)
		b.once(http.MethodGet, back, nil, nil)
		if b.session() != token || w.count(`google_flows`) != flows-1 {
			t.Error("a round trip of another session moved this one")
		}
		back = g.consents(b.toGoogle(pathGoogle+"?confirm=1"), vera())
		b.fill(b.get("/login?another=1"), bobEmail, bobPassword).want(http.StatusOK, "/preferences/security")
		token = b.session()
		b.get(back)
		if b.session() != token {
			t.Error("Vera's proof moved Bob's session")
		}
		// A person with a password proves nothing by Google.
		b.withGoogle(g, pathGoogle+"?confirm=1", vera()).wantStatus(http.StatusForbidden)
		// Who has codes proves with one what needs a second factor.
		v := w.newBrowser()
		v.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		a := v.enable()
		time.Sleep(11 * time.Minute)
		v.withGoogle(g, pathGoogle+"?confirm=1", vera()).want(http.StatusOK, "/preferences/security")
		p = v.get(pathCodes)
		p.want(http.StatusOK, "/login/confirm")
		if strings.Contains(p.body, pathGoogle) {
			t.Error("Google is offered to who has a code")
		}
		form := p.form("/login/confirm")
		form.Set("code", a.code())
		v.post("/login/confirm", form).want(http.StatusOK, pathCodes)
	})
}

// Accounts are made at sign-in only where that is wanted, and a disabled one stays so.
func TestGoogleNoAccount(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle(func(c *login.GoogleConfig) { c.SignUp = false })
		before := w.state()
		b := w.newBrowser()
		b.refused(b.withGoogle(g, pathGoogle, vera()), before, "There is no Harmony account for that Google account")
		u := must(w.house.accounts.CreateUser(t.Context(), account.NewUser{
			Email: veraEmail, EmailVerified: true, Name: "Vera", Method: account.MethodGoogle, Google: &account.Identity{Issuer: login.GoogleIssuer, Subject: veraSub},
		}, supporter))(t)
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		at := g.consents(w.newBrowser().toGoogle(pathGoogle), vera())
		if err := w.house.accounts.DisableUser(t.Context(), u.ID, supporter); err != nil {
			t.Fatal(err)
		}
		if b.signedIn() {
			t.Error("a disabled person is signed in")
		}
		before = w.state()
		c := w.newBrowser()
		c.over(c.get(at), before)
		c.refused(c.withGoogle(g, pathGoogle, vera("email", "vera.new@gmail.com")), before, "There is no Harmony account for that Google account")
	})
}

// A name that is none is made up from the address.
func TestGoogleNames(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		long := strings.Repeat("x", 240) + "@a.example"
		for i, c := range []struct {
			email, want string
			name        any
		}{
			{"a@gmail.com", "a", nil}, {"b@gmail.com", "b", "\u202eevil"}, {"c@gmail.com", "c", strings.Repeat("n", 201)}, {"d@gmail.com", "<b>D</b>", "<b>D</b>"},
			{long, strings.Repeat("x", 200), ""},
		} {
			w.newBrowser().withGoogle(g, pathGoogle, somebody(fmt.Sprint("sub ", i), c.email, "name", c.name)).want(http.StatusOK, "/preferences/security")
			if u := must(w.house.accounts.FindUser(t.Context(), c.email))(t); u.Name != c.want {
				t.Errorf("%.20q is called %.20q, want %.20q", c.email, u.Name, c.want)
			}
		}
	})
}

// AD-09: support switches how a person signs in. The old way is dead, what it opened
// has ended, the person is told, and it stands recorded.
func TestAD09_SwitchMethod(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		ctx := t.Context()
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		w.mails()
		link := w.link()
		begun := w.newBrowser()
		half := begun.toGoogle(pathGoogle)

		for _, sub := range []string{"", strings.Repeat("9", 256), "1\n2"} {
			if err := w.house.accounts.LinkGoogle(ctx, w.ada.ID, login.GoogleIssuer, sub, "4711", supporter); err == nil {
				t.Errorf("linked to the subject %.10q", sub)
			}
		}
		if err := w.house.accounts.LinkGoogle(ctx, w.ada.ID, login.GoogleIssuer, veraSub, "case <4711>", supporter); err != nil {
			t.Fatal(err)
		}
		if b.signedIn() {
			t.Error("a session outlives the switch")
		}
		w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		b.attempt(adaEmail, adaPassword).wantStatus(http.StatusUnprocessableEntity)
		b.get(link)
		if p := b.once(http.MethodPost, "/login/reset", url.Values{"new_password": {newPassword}, "confirm_password": {newPassword}}, nil); p.status/100 == 2 || b.signedIn() {
			t.Errorf("the old link: %d", p.status)
		}
		if m := w.mail(adaEmail, "You sign in with Google now"); !strings.Contains(m.Text, "signed out everywhere") || !strings.Contains(m.Text, "case <4711>") {
			t.Errorf("the mail says %s", m.Text)
		}
		// Google opens it, by the subject and by nothing else; its address stays unless it is free.
		eve := w.newBrowser()
		eve.refused(eve.withGoogle(g, pathGoogle, somebody("eve", adaEmail)), w.state(), "isn’t the Google account")
		begun.get(g.consents(half, vera("email", adaEmail))).want(http.StatusOK, "/preferences/security")
		begun.get("/preferences/activity").wantText("Harmony support switched your sign-in to Google")
		f := w.acme.begin()
		k = f.redeem(f.code(begun.get(f.url()))).ok()
		if k.claims()["sub"] != w.ada.ID {
			t.Errorf("Google opens %v", k.claims()["sub"])
		}
		// One Google account is one account's.
		if err := w.house.accounts.LinkGoogle(ctx, w.bob.ID, login.GoogleIssuer, veraSub, "4712", supporter); err == nil || !strings.Contains(err.Error(), "another account") {
			t.Errorf("linked twice: %v", err)
		}
		w.mails()

		// And back: Google is dead, a link of support sets a password.
		later := w.newBrowser()
		at := g.consents(later.toGoogle(pathGoogle), vera("email", adaEmail))
		if err := w.house.accounts.UnlinkGoogle(ctx, w.ada.ID, "4713", supporter); err != nil {
			t.Fatal(err)
		}
		if begun.signedIn() {
			t.Error("a session outlives the switch back")
		}
		w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		before := w.state()
		later.refused(later.get(at), before, "This email signs in with a Harmony password")
		b.attempt(adaEmail, adaPassword).wantStatus(http.StatusUnprocessableEntity) // nor is the old password back
		w.mail(adaEmail, "You sign in with a password now")
		b.reset(w.link(), newPassword)
		w.newBrowser().signIn(adaEmail, newPassword)
		if kinds := w.texts(`SELECT kind FROM events WHERE kind IN ('method_google', 'method_password') ORDER BY kind`); !slices.Equal(kinds, []string{"method_google", "method_password"}) {
			t.Errorf("recorded: %q", kinds)
		}
	})
}

// A half sign-in and a round trip of before the switch are worth nothing after it.
func TestAD09_UnderWay(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.withGoogle()
		_, a := w.twoFactor()
		b := w.newBrowser()
		p := b.half(adaEmail, adaPassword)
		if err := w.house.accounts.LinkGoogle(t.Context(), w.ada.ID, login.GoogleIssuer, veraSub, "4711", supporter); err != nil {
			t.Fatal(err)
		}
		b.verify(p, a.code())
		if b.signedIn() {
			t.Error("the old password and a code got in")
		}
	})
}

// The gate (FED-10, TOTP-13): through whichever door, nobody who has two-factor
// authentication gets a session without a second factor.
func TestEveryDoorAsksForTheSecondFactor(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		_, adas := w.twoFactor()
		v := w.newBrowser()
		v.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		veras := v.enable()
		// Both have security keys that are only touched, and one that verifies.
		touched, hers, adaKey := newSoftKey(), newSoftKey(), newSoftKey()
		touched.verifies, hers.verifies = false, false
		known := w.newBrowser()
		known.verify(known.half(adaEmail, adaPassword), "") // nothing: her set-up's code is spent
		time.Sleep(time.Minute)
		known.verify(known.get("/login/verify"), adas.code())
		known.add(touched, "Ada’s key")
		known.add(adaKey, "Ada’s laptop")
		v.add(hers, "Vera’s key")
		time.Sleep(30 * time.Second)
		demanding := w.add(idp.Client{ID: "vault", Name: "Vault", RedirectURIs: []string{"https://vault.test/cb"}, RequirePKCE: true, Require2FA: true})
		w.mails()
		at := func(c rp, extra ...string) func(*browser) string {
			return func(b *browser) string { return b.get(c.begin(extra...).url()).url.RequestURI() }
		}
		bare := func(*browser) string { return "/login" }
		password := func(from func(*browser) string) func(*browser) *page {
			return func(b *browser) *page { return b.fill(b.get(from(b)), adaEmail, adaPassword) }
		}
		google := func(from func(*browser) string, more ...any) func(*browser) *page {
			return func(b *browser) *page { return b.withGoogle(g, b.get(from(b)).googleLink(), vera(more...)) }
		}
		doors := []struct {
			name  string
			app   *app
			enter func(*browser) *page
			half  bool // else the door leads to the sign-in page
		}{
			{"password", adas, password(bare), true},
			{"password, for a workspace", adas, password(at(w.acme)), true},
			{"password, for a workspace that asks for a fresh sign-in", adas, password(at(w.globex, "prompt", "login")), true},
			{"password, for a workspace that demands two factors", adas, password(at(demanding)), true},
			{"password, for a workspace that is content with one", adas, password(at(w.acme, "acr_values", account.ACR1FA)), true},
			{"password, in a browser that Bob is signed in with", adas, func(b *browser) *page {
				b.signIn(bobEmail, bobPassword)
				p := b.fill(b.get("/login?another=1"), adaEmail, adaPassword)
				w.exec(`UPDATE sessions SET ended_at = 1 WHERE user_id = $1`, w.bob.ID)
				b.plant(sessionCookieName, "")
				return p
			}, true},
			{"password, in a browser that she knows", adas, func(b *browser) *page {
				b.verify(b.half(adaEmail, adaPassword), adas.code())
				b.post("/logout", url.Values{})
				time.Sleep(time.Minute)
				return password(bare)(b)
			}, true},
			{"Google", veras, google(bare), true},
			{"Google, for a workspace", veras, google(at(w.acme)), true},
			{"Google, for a workspace that demands two factors", veras, google(at(demanding)), true},
			{"Google, with an address that changed", veras, google(bare, "email", "vera.new@gmail.com"), true},
			{"Google, back again", veras, google(bare), true},
			{"Google, which says that it asked for two factors", veras, google(bare, "amr", []string{"mfa", "otp"}, "acr", account.ACR2FA), true},
			{"a link that resets the password", adas, func(b *browser) *page {
				w.mails()
				b.reset(w.link(), adaPassword+" II")
				return b.fill(b.get("/login?another=1"), adaEmail, adaPassword+" II")
			}, true},
			{"a key that is only touched", adas, func(b *browser) *page { return b.withKey(touched) }, true},
			{"a key that is only touched, of a Google account", veras, func(b *browser) *page { return b.withKey(hers) }, true},
			{"a key that is only touched, for a workspace that demands two factors", adas, func(b *browser) *page {
				b.get(demanding.begin().url())
				return b.withKey(touched)
			}, true},
			{"a key that is only touched, twice", adas, func(b *browser) *page {
				b.withKey(touched)
				b.secondKey(touched)
				return b.get("/login/verify")
			}, true},
			{"a key that is only touched, and a backup code", adas, func(b *browser) *page {
				b.withKey(touched)
				b.post("/login/backup-code", url.Values{"backup_code": {adas.codes[8]}})
				return b.get("/login/verify")
			}, true},
			{"a password, and somebody else's key", adas, func(b *browser) *page {
				b.half(adaEmail, adaPassword+" II")
				q := b.askKey(pathAskKey, "second")
				p := b.post("/login/verify", url.Values{"credential": {hers.sign(q)}})
				p.wantStatus(http.StatusUnprocessableEntity)
				return b.get("/login/verify")
			}, true},
			{"a passkey that nobody asked for", adas, func(b *browser) *page {
				q := w.newBrowser().askKey(pathAskKey, "sign_in")
				b.post(pathPasskey, url.Values{"credential": {adaKey.sign(q)}})
				return b.get("/login")
			}, false},
			{"a passkey as the second without anything before", adas, func(b *browser) *page {
				q := b.askKey(pathAskKey, "sign_in")
				return b.post("/login/verify", url.Values{"credential": {adaKey.sign(q)}})
			}, false},
			{"a passkey confirms without a session", adas, func(b *browser) *page {
				q := b.askKey(pathAskKey, "sign_in")
				return b.post("/login/confirm", url.Values{"with": {"passkey"}, "credential": {adaKey.sign(q)}})
			}, false},
			{"a code without anything before", adas, func(b *browser) *page { return b.post("/login/verify", url.Values{"code": {adas.code()}}) }, false},
			{"a backup code without anything before", adas, func(b *browser) *page {
				return b.post("/login/backup-code", url.Values{"backup_code": {adas.codes[9]}})
			}, false},
			{"a confirmation without a session", adas, func(b *browser) *page {
				return b.post("/login/confirm", url.Values{"with": {"password"}, "password": {adaPassword + " II"}, "code": {adas.code()}})
			}, false},
			{"Google confirms without a session", veras, func(b *browser) *page { return b.get(pathGoogle + "?confirm=1") }, false},
		}
		for i, door := range doors {
			w.exec(`DELETE FROM throttles`)
			time.Sleep(time.Minute)
			b := w.browserAt(w.house, fmt.Sprintf("192.0.2.%d", 100+i))
			p := door.enter(b)
			if b.signedIn() || b.session() != "" {
				t.Errorf("%s opens a session without the second factor", door.name)
				continue
			}
			if !door.half {
				p.want(http.StatusOK, "/login")
				continue
			}
			p.want(http.StatusOK, "/login/verify")
			// Neither a wrong code nor another's opens it, and the right one does.
			other := adas
			if door.app == adas {
				other = veras
			}
			for _, code := range []string{door.app.wrong(), other.code(), ""} {
				b.verify(p, code)
				if b.signedIn() {
					t.Errorf("%s opens with the code %q", door.name, code)
				}
			}
			b.verify(p, door.app.code())
			if !b.signedIn() {
				t.Errorf("%s does not open with the right code", door.name)
			}
			if w.count(`sessions WHERE token_hash = $1 AND acr = $2`, secret.Hash(b.session()), account.ACR2FA) != 1 {
				t.Errorf("%s: the session is not one of two factors", door.name)
			}
		}
		// A passkey that verifies is a second factor itself.
		b := w.browserAt(w.house, "192.0.2.99")
		b.withKey(adaKey).want(http.StatusOK, "/preferences/security")
		if w.count(`sessions WHERE token_hash = $1 AND acr = $2`, secret.Hash(b.session()), account.ACR2FA) != 1 {
			t.Error("a passkey that verifies is not two factors")
		}
	})
}
