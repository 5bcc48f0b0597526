package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
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

// The security cases of the authorization endpoint (AZ), and what the cases of
// the protocol have in common. A test carries the id of its case; Z, B and C are
// the traps of the libraries.

// onEach tells a story on each engine, in a bubble of its own.
func onEach(t *testing.T, story func(t *testing.T, w *world)) {
	t.Parallel() // each world is its own, and so is its time
	eachAlone(t, story)
}

// eachAlone is onEach for what touches more than its world.
func eachAlone(t *testing.T, story func(t *testing.T, w *world)) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) { story(t, wellBehaved(t, engine)) })
	})
}

// onOne is for what happens before a database is asked, or in the same words on
// both engines.
func onOne(t *testing.T, story func(t *testing.T, w *world)) {
	t.Parallel()
	oneAlone(t, story)
}

func oneAlone(t *testing.T, story func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { story(t, wellBehaved(t, "sqlite")) })
}

// atOnce is for races: real time, and two replicas, each of which opened the database
// for itself. What two connections of one process do to an SQLite file, those of two
// processes do (OP-11).
func atOnce(t *testing.T, race func(t *testing.T, w *world, pick func(i int) *house)) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		w := wellBehaved(t, engine)
		both := []*house{w.house, w.newReplicaOver(w.open())}
		race(t, w, func(i int) *house { return both[i%2] })
	})
}

const racers = 16

// release runs fn racers times at once.
func release(fn func(i int)) {
	var ready, done sync.WaitGroup
	ready.Add(racers)
	for i := range racers {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			fn(i)
		})
	}
	done.Wait()
}

var tokenRE = regexp.MustCompile(`\bh(ac|at|dt|pr|rt|se|br|cs|lo|rp|gs|gb|pk)_[A-Za-z0-9_-]{40}`)

// wellBehaved is a world whose provider, whatever it is sent, does not panic,
// does not answer 500, says in its log why it refused, and does not log a token.
func wellBehaved(t testing.TB, engine string, opts ...db.Option) *world {
	t.Helper()
	w := newWorld(t, engine, opts...)
	t.Cleanup(func() {
		log := w.log.String()
		explained(t, log)
		for _, bad := range []string{`"msg":"panic"`, `"status":500`} {
			if strings.Contains(log, bad) {
				t.Errorf("the log says %s", bad)
			}
		}
		if leaked := tokenRE.FindString(log); leaked != "" {
			t.Errorf("the log has a token: %s", leaked)
		}
	})
	return w
}

// change writes to the database past the provider, as an operator's command on
// another machine does, and has every replica look at clients and keys again.
func (w *world) change(query string, args ...any) {
	w.t.Helper()
	for _, q := range []struct {
		text string
		args []any
	}{{query, args}, {`UPDATE settings SET value = $1 WHERE name = 'version'`, []any{secret.ID("")}}} {
		if n := must(w.db.Exec(w.t.Context(), q.text, q.args...))(w.t); n == 0 {
			w.t.Fatalf("%s: no row", q.text)
		}
	}
}

// add registers one more client, in a bubble, and waits until every replica knows it.
func (w *world) add(c idp.Client) rp {
	w.t.Helper()
	made := w.register(c)
	w.forget()
	return made
}

func (w *world) count(what string, args ...any) (n int) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), `SELECT count(*) FROM `+what, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// signer signs as the provider does, with its own key: the cases that a stranger
// cannot make up have to be refused too.
func (w *world) signer(alg, typ string) jose.Signer {
	w.t.Helper()
	var id string
	var sealed []byte
	if err := w.db.QueryRow(w.t.Context(), `SELECT id, private_sealed FROM signing_keys WHERE alg = $1`, alg).Scan(&id, &sealed); err != nil {
		w.t.Fatal(err)
	}
	der := must(w.ring.Box("signing key").Open(sealed, "signing_keys/"+id))(w.t)
	key := must(x509.ParsePKCS8PrivateKey(der))(w.t)
	options := &jose.SignerOptions{}
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	return must(jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: key, KeyID: id}}, options))(w.t)
}

func sign(t testing.TB, s jose.Signer, claims any) string {
	t.Helper()
	jws := must(s.Sign(must(json.Marshal(claims))(t)))(t)
	return must(jws.CompactSerialize())(t)
}

// with returns the claims with changes: name, value, …; a nil value removes.
func with(claims map[string]any, changes ...any) map[string]any {
	out := map[string]any{}
	for k, v := range claims {
		out[k] = v
	}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(out, changes[i].(string))
		} else {
			out[changes[i].(string)] = changes[i+1]
		}
	}
	return out
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// traps are strings that made the library panic, or that look like tokens and
// are none. (e30.bnVsbA.eA is {}.null.x.)
func traps() []string {
	return []string{
		"e30.bnVsbA.eA",
		b64(`{"alg":"ES256"}`) + "." + b64(`{"aud":[1]}`) + ".eA",
		b64(`{"alg":"RS256","typ":"JWT"}`) + "." + b64(`null`) + "." + b64(strings.Repeat("s", 384)),
		b64(`{"alg":"none"}`) + "." + b64(`{"aud":[1]}`) + ".",
		"..", "a.b.c.d.e", "null", "{}", `"`, "'; DROP TABLE grants; --", "日本語", "%00", strings.Repeat("A", 4000),
		"hac_", "hat_", "hrt_", secret.Token("hac_"), secret.Token("hat_"), secret.Token("hrt_"),
		secret.Token("hac_" + secret.ID("") + "_"), secret.Token("hat_" + secret.ID("") + "_"), secret.Token("hrt_" + secret.ID("") + "_"),
		"hat_" + b64(strings.Repeat("\xff", 60)), "hat_" + b64(strings.Repeat("1:", 30)),
	}
}

// wantBroken checks that a request ended on a page of ours that leads nowhere and
// repeats nothing raw.
func (p *page) wantBroken(title string) {
	p.t.Helper()
	if p.status != http.StatusBadRequest || p.header.Get("Location") != "" || !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") {
		p.t.Fatalf("got %d to %q, want a 400 page\n%s", p.status, p.header.Get("Location"), p.body)
	}
	p.wantText(title)
	if strings.Contains(p.body, "<script>alert") || strings.Contains(p.body, codeMark) {
		p.t.Fatalf("the page repeats what it was sent, or has a code:\n%s", p.body)
	}
}

const (
	codeMark    = "hac_"
	brokenLink  = "This sign-in link doesn’t work"
	expiredLink = "This sign-in has expired"
)

// arrive begins an authorization request that gets as far as the sign-in form.
func (b *browser) arrive(f *flow) *page {
	b.w.t.Helper()
	p := b.get(f.url())
	p.want(http.StatusOK, "/login")
	return p
}

// submit fills in the sign-in form and follows nothing: it returns where it leads.
func (b *browser) submit(p *page, email, password string) string {
	b.w.t.Helper()
	v := p.form("/login")
	v.Set("email", email)
	v.Set("password", password)
	res := b.once(http.MethodPost, "/login", v, nil)
	if res.status != http.StatusSeeOther {
		b.w.t.Fatalf("sign-in: %d\n%s", res.status, res.body)
	}
	return res.header.Get("Location")
}

// A redirect URI is compared byte for byte: once decoded, nothing folded (trap Z8).
func TestAZ01_Z08_RedirectURIByteForByte(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		odd := w.add(idp.Client{ID: "odd", Name: "Odd", RedirectURIs: []string{"https://odd.test/a%2Fb?x=%41+1", "http://127.0.0.1:8081/cb"}, RequirePKCE: true})
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		grants := w.count("grants")
		for _, c := range []struct {
			rp  rp
			uri string
		}{
			{w.acme, ""}, {w.acme, "https://acme.test/callbac"}, {w.acme, callback + "x"}, {w.acme, callback + "/"}, {w.acme, callback + "/sub"}, {w.acme, callback + "?"},
			{w.acme, callback + "?a=1"}, {w.acme, callback + "?tenant=2"}, {w.acme, callback + "?tenant=1&x=2"}, {w.acme, callback + "#"}, {w.acme, callback + "#f"},
			{w.acme, "https://ACME.test/callback"}, {w.acme, "HTTPS://acme.test/callback"}, {w.acme, "https://acme.test/Callback"}, {w.acme, "http://acme.test/callback"},
			{w.acme, "https://acme.test:443/callback"}, {w.acme, "https://acme.test:8443/callback"}, {w.acme, "https://acme.test./callback"},
			{w.acme, "https://user@acme.test/callback"}, {w.acme, "https://acme.test@evil.test/callback"}, {w.acme, "https://acme.test:x@evil.test/callback"},
			{w.acme, `https://acme.test\@evil.test/callback`}, {w.acme, `https:\\acme.test\callback`}, {w.acme, "//acme.test/callback"}, {w.acme, "/callback"}, {w.acme, "acme.test/callback"},
			{w.acme, "https://acme.test/x/../callback"}, {w.acme, "https://acme.test/%2e%2e/callback"}, {w.acme, "https://acme.test/./callback"}, {w.acme, "https://acme.test//callback"},
			{w.acme, "https://acme.test/callback;x"}, {w.acme, "https://acme.test/callbac%6b"}, {w.acme, "https%3A%2F%2Facme.test%2Fcallback"}, {w.acme, "https://acm%65.test/callback"},
			{w.acme, "https://acme。test/callback"}, {w.acme, "https://аcme.test/callback"}, {w.acme, " " + callback}, {w.acme, callback + " "}, {w.acme, callback + "\n"}, {w.acme, callback + "\t"},
			{w.acme, callback + " https://evil.test/"}, {w.acme, callback + "," + callback}, {w.acme, "*"}, {w.acme, "https://*.test/callback"}, {w.acme, "javascript:alert(1)"},
			{w.acme, "data:text/html,<script>alert(1)</script>"}, {w.acme, "https://evil.test/<script>alert(1)</script>"}, {w.acme, farewell}, {w.acme, "https://globex.test/cb"}, {w.acme, "urn:ietf:wg:oauth:2.0:oob"},
			{odd, "https://odd.test/a/b?x=A+1"}, {odd, "https://odd.test/a%2fb?x=%41+1"}, {odd, "https://odd.test/a%2Fb?x=%41%201"}, {odd, "https://odd.test/a%2Fb?x=A 1"},
			{odd, "http://127.0.0.1:8082/cb"}, {odd, "http://localhost:8081/cb"}, {odd, "http://127.1:8081/cb"},
		} {
			f := c.rp.begin("redirect_uri", c.uri)
			b.get(f.url()).wantBroken(brokenLink)
		}
		if n := w.count("grants"); n != grants {
			t.Errorf("%d grants were made", n-grants)
		}
		// What is registered works, as strange as it looks.
		for _, f := range []*flow{w.acme.begin(), w.acme.begin("redirect_uri", callback+"?tenant=1"), odd.begin(), odd.begin("redirect_uri", "http://127.0.0.1:8081/cb")} {
			f.redeem(f.code(b.get(f.url()))).ok()
		}
	})
}

func TestAZ02_UnknownClient(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		disabled := w.add(idp.Client{ID: "disabled", Name: "Disabled", RedirectURIs: []string{"https://disabled.test/cb"}, RequirePKCE: true})
		deleted := w.add(idp.Client{ID: "deleted", Name: "Deleted", RedirectURIs: []string{"https://deleted.test/cb"}, RequirePKCE: true})
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, c := range []rp{disabled, deleted} {
			f := c.begin()
			f.code(b.get(f.url()))
		}
		w.change(`UPDATE clients SET disabled_at = 1 WHERE id = $1`, disabled.id)
		if err := w.house.clients.Delete(t.Context(), deleted.id, "test"); err != nil {
			t.Fatal(err)
		}
		w.forget()
		for _, f := range []*flow{
			disabled.begin(), deleted.begin(), w.acme.begin("client_id", ""), w.acme.begin("client_id", "ACME"), w.acme.begin("client_id", "acme "),
			w.acme.begin("client_id", "<script>alert(1)</script>"), w.acme.begin("client_id", strings.Repeat("c", 3000)), w.acme.begin("client_id", "日本"),
		} {
			b.get(f.url()).wantBroken(brokenLink)
		}
		// Named and empty is not the same as left out, to a careless reader.
		f := w.acme.begin("client_id", "")
		b.get(f.url() + "&client_id=").wantBroken(brokenLink)
	})
}

func TestAZ03_OnlyTheCode(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for value, want := range map[string]string{
			"token": "unsupported_response_type", "id_token": "unsupported_response_type", "code token": "unsupported_response_type", "code id_token": "unsupported_response_type",
			"id_token token": "unsupported_response_type", "none": "unsupported_response_type", "CODE": "unsupported_response_type", "code code": "unsupported_response_type", "": "invalid_request",
		} {
			f := w.acme.begin("response_type", value)
			p := b.get(f.url())
			f.wantError(p, want)
			if p.url.Fragment != "" {
				t.Errorf("response_type %q is answered in the fragment: %s", value, p.url)
			}
		}
	})
}

// PKCE cannot be left out, weakened or misspelt (trap Z10).
func TestAZ04_Z10_PKCE(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		good := w.acme.begin().query.Get("code_challenge")
		for _, c := range []struct{ challenge, method string }{
			{"", ""}, {"", "S256"}, {good, ""}, {good, "plain"}, {good, "S999"}, {good, "s256"}, {good, "S256 "}, {good, "none"}, {"plain-verifier-that-is-43-characters-long-xyz", "plain"},
			{good[:42], "S256"}, {good + "A", "S256"}, {good + "=", "S256"}, {good[:42] + "=", "S256"}, {good[:42] + " ", "S256"}, {" " + good, "S256"}, {good + " ", "S256"},
			{good + "\n", "S256"}, {good[:20] + "\r\n" + good[20:], "S256"}, {good[:42] + "+", "S256"}, {good[:42] + "/", "S256"}, {good[:42] + "é", "S256"}, {strings.Repeat("A", 128), "S256"}, {strings.Repeat("A", 129), "S256"},
		} {
			for _, rp := range []rp{w.acme, w.globex, w.legacy} {
				if rp.id == "legacy" && c.challenge == "" && c.method == "" {
					continue // the one that may do without
				}
				f := rp.begin("code_challenge", c.challenge, "code_challenge_method", c.method)
				p := b.get(f.url())
				if q := f.answer(p); q.Get("error") != "invalid_request" || q.Has("code") {
					t.Errorf("%s, challenge %q, method %q: %s", rp.id, c.challenge, c.method, p.url)
				}
			}
		}
		f := w.legacy.begin("code_challenge", "", "code_challenge_method", "")
		f.redeem(f.code(b.get(f.url()))).ok()
	})
}

// A request belongs to the browser that began it: neither can an attacker get
// the code of a person whom they sent to the sign-in page, nor can the request be
// finished for them there (trap Z1).
func TestAZ05_Z01_RequestBoundToBrowser(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		attacker, victim := w.newBrowser(), w.browserAt(w.house, "192.0.2.99")
		f := w.acme.begin()
		link := attacker.arrive(f).url
		resume := link.Query().Get("to")
		if !strings.HasPrefix(resume, "/authorize/resume?id=") {
			t.Fatalf("sign-in leads to %q", resume)
		}

		// A stranger is told to start again, with a browser cookie of their own or without.
		for range 2 {
			victim.get(link.String()).wantBroken(expiredLink)
			victim.get(resume).wantBroken(expiredLink)
			victim.arrive(w.globex.begin())
		}
		// Even one who signs in with the attacker's form.
		v := url.Values{"to": {resume}, "email": {adaEmail}, "password": {adaPassword}}
		victim.post("/login", v).wantBroken(expiredLink)
		victim.get("/preferences/security").want(http.StatusOK, "/preferences/security")
		victim.get(resume).wantBroken(expiredLink)

		// The attacker has no session, so nothing comes of it; nor with a cookie made up, or two.
		attacker.get(resume).want(http.StatusOK, "/login")
		bound := "harmony-request-" + strings.TrimPrefix(resume, "/authorize/resume?id=")
		for _, name := range []string{"__Host-" + bound, bound} {
			for _, value := range []string{"", "x", secret.Token("hbr_"), "hbr_" + strings.Repeat("A", 43)} {
				b := w.browserAt(w.house, "192.0.2.99")
				b.http.Jar, b.jar = victim.jar, victim.jar // signed in
				b.header = http.Header{"Cookie": {name + "=" + value}}
				b.once(http.MethodGet, resume, nil, nil).wantBroken(expiredLink)
			}
		}
		// One of two cookies is not ours, and nobody can tell which.
		if attacker.cookie("__Host-"+bound) == "" {
			t.Fatal("no cookie binds the request")
		}
		for _, value := range []string{secret.Token("hbr_"), attacker.cookie("__Host-" + bound)} {
			p := attacker.once(http.MethodGet, resume, nil, http.Header{"Cookie": {"__Host-" + bound + "=" + value}})
			p.wantBroken(expiredLink)
		}
		if n := w.count("grants"); n != 0 {
			t.Fatalf("%d grants", n)
		}
		// The browser that began it can finish it.
		f.redeem(f.code(attacker.fill(attacker.get(resume), bobEmail, bobPassword))).ok()
	})
}

// Two workspaces in two tabs of one browser wait side by side.
func TestAZ05_TwoTabs(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		f, g := w.acme.begin(), w.globex.begin()
		first, second := b.arrive(f), b.arrive(g)
		resume := second.url.Query().Get("to")
		f.redeem(f.code(b.fill(first, adaEmail, adaPassword))).ok()
		g.redeem(g.code(b.get(resume))).ok()
	})
}

// So they do when they arrive at the same time, neither with a cookie of the
// other's: a browser that restores its tabs.
func TestAZ05_TwoTabsAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, late := w.newBrowser(), w.newBrowser()
		f, g := w.acme.begin(), w.globex.begin()
		first, second := b.once(http.MethodGet, f.url(), nil, nil), late.once(http.MethodGet, g.url(), nil, nil)
		b.jar.SetCookies(must(url.Parse(issuer))(t), (&http.Response{Header: second.header}).Cookies())
		f.redeem(f.code(b.fill(b.follow(first), adaEmail, adaPassword))).ok()
		g.redeem(g.code(b.follow(second))).ok()
	})
}

// A browser that begins and begins again keeps a bounded number of cookies: with
// more its requests would be refused for their length.
func TestAZ05_CookiesAreBounded(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for range 60 {
			b.arrive(w.acme.begin())
		}
		if n := len(b.jar.Cookies(must(url.Parse(issuer))(t))); n > 20 {
			t.Errorf("%d cookies", n)
		}
		f := w.acme.begin()
		f.redeem(f.code(b.fill(b.arrive(f), adaEmail, adaPassword))).ok()
	})
}

// Who is signed in is not asked to prove it when somebody else is wanted: they
// get the open form.
func TestAZ11_HintOfAnother(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		hint := w.newBrowser().connect(w.acme, adaEmail, adaPassword).IDToken
		b := w.newBrowser()
		b.signIn(bobEmail, bobPassword)
		time.Sleep(time.Second)
		f := w.acme.begin("id_token_hint", hint)
		p := b.get(f.url())
		p.want(http.StatusOK, "/login")
		if strings.Contains(p.body, bobEmail) {
			t.Errorf("the form is Bob's:\n%s", p.body)
		}
		if got := f.redeem(f.code(b.fill(p, adaEmail, adaPassword))).ok().claims()["sub"]; got != w.ada.ID {
			t.Errorf("sub = %v", got)
		}
	})
}

// The cookie that binds is one that scripts and other sites do not get, and
// workspaces' redirects do (trap B3).
func TestB3_CookiesOfTheFlow(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		p := b.once(http.MethodGet, w.acme.begin().url(), nil, nil)
		set := p.header.Values("Set-Cookie")
		form := b.follow(p)
		v := form.form("/login")
		v.Set("email", adaEmail)
		v.Set("password", adaPassword)
		set = append(set, b.once(http.MethodPost, "/login", v, nil).header.Values("Set-Cookie")...)
		if len(set) != 3 {
			t.Fatalf("%d cookies: %q", len(set), set)
		}
		for _, line := range set {
			c := must(http.ParseSetCookie(line))(t)
			if !strings.HasPrefix(c.Name, "__Host-harmony-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
				t.Errorf("cookie %s", line)
			}
		}
	})
}

func TestAZ06_ResumeOfNothing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		f := w.acme.begin()
		p := b.arrive(f)
		resume := p.url.Query().Get("to")
		// Unfinished: back to the form.
		b.get(resume).want(http.StatusOK, "/login")
		f.code(b.fill(p, adaEmail, adaPassword))

		other := w.browserAt(w.house, "192.0.2.11")
		foreign := other.arrive(w.acme.begin()).url.Query().Get("to")
		first := b.once(http.MethodGet, resume, nil, nil) // used
		first.wantBroken(expiredLink)
		for _, to := range []string{
			foreign, "/authorize/resume", "/authorize/resume?id=", "/authorize/resume?id=" + secret.ID(""), "/authorize/resume?id=" + strings.Repeat("a", 5000),
			"/authorize/resume?id=%27%22%3Cscript%3Ealert(1)%3C/script%3E", "/authorize/resume?id=%E6%97%A5", resume + "&id=x",
		} {
			p := b.once(http.MethodGet, to, nil, nil)
			p.wantBroken(expiredLink)
			if a, b := first.words(), p.words(); a != b {
				t.Errorf("%s: another text than for a used request: %q, not %q", to, b, a)
			}
		}

		// Half an hour and it is over, session or not (AUTHREQ_TTL).
		time.Sleep(time.Second)
		f = w.acme.begin("prompt", "login")
		resume = b.arrive(f).url.Query().Get("to")
		time.Sleep(29 * time.Minute)
		b.get(resume).want(http.StatusOK, "/login")
		bound := "__Host-harmony-request-" + strings.TrimPrefix(resume, "/authorize/resume?id=")
		kept := w.browserAt(w.house, "192.0.2.12") // does not forget the cookie when it is told to
		kept.header = http.Header{"Cookie": {bound + "=" + b.cookie(bound)}}
		if p := kept.once(http.MethodGet, resume, nil, nil); p.status != http.StatusSeeOther {
			t.Fatalf("with the cookie alone: %d", p.status)
		}
		time.Sleep(2 * time.Minute)
		b.get(resume).wantBroken(expiredLink)
		kept.once(http.MethodGet, resume, nil, nil).wantBroken(expiredLink)
	})
}

var (
	referenceRE = regexp.MustCompile(`<span class="mono"[^>]*>[^<]*</span>`)
	tagRE       = regexp.MustCompile(`(?s)<[^>]*>`)
)

// words is what a page says, without its reference.
func (p *page) words() string {
	return strings.Join(strings.Fields(html.UnescapeString(tagRE.ReplaceAllString(referenceRE.ReplaceAllString(p.body, ""), " "))), " ")
}

// One request leads to one code, however often it is resumed (trap Z2).
func TestAZ07_Z02_OneCodeForOneRequest(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		f := w.acme.begin()
		resume := b.submit(b.arrive(f), adaEmail, adaPassword)
		code := f.code(b.get(resume))
		for range 3 {
			b.get(resume).wantBroken(expiredLink)
		}
		if n := w.count("grants"); n != 1 {
			t.Errorf("%d grants", n)
		}
		f.redeem(code).ok()
		b.get(resume).wantBroken(expiredLink)

		// House-keeping does not make it young again.
		time.Sleep(10 * time.Minute)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.get(resume).wantBroken(expiredLink)
	})
}

// House-keeping keeps the grant of a code that was never redeemed while its
// request could still be resumed.
func TestAZ07_Z02_OneCodeAfterHouseKeeping(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		f := w.acme.begin()
		resume := b.submit(b.arrive(f), adaEmail, adaPassword)
		f.code(b.get(resume))
		for range 5 {
			time.Sleep(5 * time.Minute)
			if err := w.house.clean(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.get(resume).wantBroken(expiredLink)
		}
	})
}

func TestAZ07_Z02_ResumeRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for range 3 {
			f := w.acme.begin("prompt", "login")
			resume := b.submit(b.arrive(f), adaEmail, adaPassword)
			var got [racers]*page
			release(func(i int) { got[i] = b.at(pick(i)).once(http.MethodGet, resume, nil, nil) })
			var codes []string
			for _, p := range got {
				if to := must(url.Parse(p.header.Get("Location")))(t); to.Query().Has("code") {
					codes = append(codes, to.Query().Get("code"))
				} else {
					p.wantBroken(expiredLink)
				}
			}
			if len(codes) != 1 {
				t.Fatalf("%d codes", len(codes))
			}
			f.redeem(codes[0]).ok()
		}
	})
}

func TestAZ08_PromptNone(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		quiet := func(b *browser, want string) {
			t.Helper()
			f := w.acme.begin("prompt", "none", "state", secret.Token("")+secret.Token("")+"-._~")
			p := b.once(http.MethodGet, f.url(), nil, nil) // no page on the way
			if p.status != http.StatusSeeOther {
				t.Fatalf("prompt=none: %d\n%s", p.status, p.body)
			}
			if p = b.follow(p); want == "" {
				f.code(p)
			} else {
				f.wantError(p, want)
			}
		}
		b := w.newBrowser()
		quiet(b, "login_required")
		if n := w.count("auth_requests"); n != 0 {
			t.Errorf("%d requests wait for a person that may not be asked", n)
		}
		b.signIn(adaEmail, adaPassword)
		quiet(b, "")

		time.Sleep(73 * time.Hour) // idle too long
		quiet(b, "login_required")

		b.signIn(adaEmail, adaPassword)
		quiet(b, "")
		if err := w.house.accounts.DisableUser(t.Context(), w.ada.ID, account.Actor{Kind: "operator", Name: "test"}); err != nil {
			t.Fatal(err)
		}
		quiet(b, "login_required")
	})
}

func TestAZ08_PromptAlone(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, prompt := range []string{"none login", "none consent", "login none", "create", "none none", "NONE", "login magic"} {
			f := w.acme.begin("prompt", prompt)
			f.wantError(b.get(f.url()), "invalid_request")
		}
	})
}

func TestAZ09_PromptLogin(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, prompt := range []string{"login", "select_account", "login consent"} {
			b := w.newBrowser()
			before := b.connect(w.acme, adaEmail, adaPassword).claims()
			time.Sleep(5 * time.Second)

			f := w.acme.begin("prompt", prompt)
			p := b.arrive(f)
			resume := p.url.Query().Get("to")
			// What is in the URL of the form, or not, changes nothing.
			for _, to := range []string{resume, resume + "&prompt=none", resume + "&prompt=", "/login?" + url.Values{"to": {resume}}.Encode()} {
				b.get(to).want(http.StatusOK, "/login")
			}
			p = b.fill(p, adaEmail, "not her password")
			p.want(http.StatusUnprocessableEntity, "/login")
			b.get(resume).want(http.StatusOK, "/login")

			after := f.redeem(f.code(b.fill(b.get(resume), adaEmail, adaPassword))).ok().claims()
			if after["auth_time"].(float64) < before["auth_time"].(float64)+5 {
				t.Errorf("prompt=%s: auth_time %v, before %v", prompt, after["auth_time"], before["auth_time"])
			}
			time.Sleep(time.Second)
			b.arrive(w.acme.begin("prompt", prompt)) // once more for the next one
		}
	})
}

func TestAZ10_MaxAge(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.connect(w.acme, adaEmail, adaPassword)
		signedIn := time.Now()
		time.Sleep(3 * time.Second)
		asks := func(maxAge string) {
			t.Helper()
			f := w.acme.begin("max_age", maxAge)
			p := b.arrive(f)
			b.get(p.url.Query().Get("to")).want(http.StatusOK, "/login")
			c := f.redeem(f.code(b.fill(p, adaEmail, adaPassword))).ok().claims()
			if signedIn = time.Now(); c["auth_time"] != float64(signedIn.Unix()) {
				t.Errorf("max_age=%s: auth_time %v, want %d", maxAge, c["auth_time"], signedIn.Unix())
			}
		}
		serves := func(maxAge string) {
			t.Helper()
			f := w.acme.begin("max_age", maxAge)
			c := f.redeem(f.code(b.get(f.url()))).ok().claims()
			if c["auth_time"] != float64(signedIn.Unix()) {
				t.Errorf("max_age=%s: auth_time %v, want %d", maxAge, c["auth_time"], signedIn.Unix())
			}
		}
		serves("3")
		asks("1")
		time.Sleep(time.Second)
		asks("0")
		serves("10000")
		time.Sleep(2 * time.Hour)
		serves("7200")
		serves("2147483647")
		asks("7199")

		// A person who takes their time on the way has still signed in for this request.
		time.Sleep(time.Minute)
		f := w.acme.begin("max_age", "1")
		resume := b.submit(b.arrive(f), adaEmail, adaPassword)
		time.Sleep(10 * time.Second)
		f.code(b.get(resume))

		// prompt=none has to say that the age does not do (OIDC Core 3.1.2.1).
		f = w.acme.begin("max_age", "1", "prompt", "none")
		f.wantError(b.get(f.url()), "login_required")
		for _, bad := range []string{"abc", "-1", "1.5", "1s", "+5", "0x10", "1e3", " 5", "2147483648", "99999999999999999999", "-9223372036854775808"} { // trap Z17
			f := w.acme.begin("max_age", bad)
			f.wantError(b.get(f.url()), "invalid_request")
		}
	})
}

func TestAZ11_IDTokenHint(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		ada := w.newBrowser().connect(w.acme, adaEmail, adaPassword)
		atGlobex := w.newBrowser().connect(w.globex, adaEmail, adaPassword)
		b := w.browserAt(w.house, "192.0.2.12")
		bob := b.connect(w.acme, bobEmail, bobPassword)
		time.Sleep(time.Second)

		// Bob's browser never answers for Ada.
		f := w.acme.begin("prompt", "none", "id_token_hint", ada.IDToken)
		f.wantError(b.get(f.url()), "login_required")
		f = w.acme.begin("id_token_hint", ada.IDToken)
		p := b.arrive(f)
		b.get(p.url.Query().Get("to")).want(http.StatusOK, "/login")
		f.wantError(b.fill(p, bobEmail, bobPassword), "login_required")
		f = w.acme.begin("id_token_hint", ada.IDToken)
		time.Sleep(time.Second)
		f.code(b.fill(b.arrive(f), adaEmail, adaPassword))

		// Hers does, with an ID token that has expired, too.
		time.Sleep(2 * time.Hour)
		f = w.acme.begin("prompt", "none", "id_token_hint", ada.IDToken)
		f.code(b.get(f.url()))
		f = w.acme.begin("prompt", "none", "id_token_hint", bob.IDToken)
		f.wantError(b.get(f.url()), "login_required")

		for what, hint := range w.badHints(ada.claims(), atGlobex) {
			f := w.acme.begin("prompt", "none", "id_token_hint", hint)
			if q := f.answer(b.get(f.url())); q.Get("error") != "invalid_request" || q.Has("code") {
				t.Errorf("%s: %v", what, q)
			}
		}
	})
}

// badHints are strings that are no ID token that acme got, by what they are.
// claims are those of one that is.
func (w *world) badHints(claims map[string]any, atGlobex *tokens) map[string]string {
	ours := w.signer("ES256", "JWT")
	foreign := newSigner(w.t, "ES256", "JWT", "")
	var kid string
	if err := w.db.QueryRow(w.t.Context(), `SELECT id FROM signing_keys WHERE alg = 'ES256'`).Scan(&kid); err != nil {
		w.t.Fatal(err)
	}
	good := strings.Split(sign(w.t, ours, claims), ".")
	out := map[string]string{
		"another key":               sign(w.t, foreign, claims),
		"another key, our kid":      sign(w.t, newSigner(w.t, "ES256", "JWT", kid), claims),
		"no algorithm":              b64(`{"alg":"none","typ":"JWT","kid":"`+kid+`"}`) + "." + good[1] + ".",
		"HMAC":                      sign(w.t, must(jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: kid}}, (&jose.SignerOptions{}).WithType("JWT")))(w.t), claims),
		"other claims":              good[0] + "." + b64(`{"iss":"`+issuer+`","sub":"`+w.bob.ID+`","aud":"acme","sid":"x"}`) + "." + good[2],
		"cut":                       good[0] + "." + good[1],
		"an access token by type":   sign(w.t, w.signer("ES256", "at+jwt"), claims),
		"a logout token by type":    sign(w.t, w.signer("ES256", "logout+jwt"), claims),
		"no type":                   sign(w.t, w.signer("ES256", ""), claims),
		"another issuer":            sign(w.t, ours, with(claims, "iss", "https://evil.test")),
		"no issuer":                 sign(w.t, ours, with(claims, "iss", nil)),
		"no subject":                sign(w.t, ours, with(claims, "sub", nil)),
		"no session":                sign(w.t, ours, with(claims, "sid", nil)),
		"another client":            atGlobex.IDToken,
		"no client that we know":    sign(w.t, ours, with(claims, "aud", "gone")),
		"an audience of two":        sign(w.t, ours, with(claims, "aud", []any{"acme", "globex"})),
		"an audience of numbers":    sign(w.t, ours, with(claims, "aud", []any{1})),
		"null":                      sign(w.t, ours, nil),
		"an array":                  sign(w.t, ours, []int{1}),
		"an access token of acme's": atGlobex.AccessToken,
		"too long":                  sign(w.t, ours, with(claims, "pad", strings.Repeat("x", 7000))),
	}
	for _, s := range traps() {
		out["trap "+s] = s
	}
	return out
}

// What a workspace sends along comes back as it was.
func TestAZ12_StateAndNonceComeBack(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		long := strings.Repeat("0123456789abcdef", 128)
		for i, value := range []string{
			long, "a&b=c#d%41%", "a\r\nLocation: https://evil.test\r\n\r\n<script>", "日本語 ünïcödé 😀", `"quotes" 'and' \back\slash`, "+ plus and space ", "a;b", "\x7f\t\x01", "%2526", "null",
		} {
			b := w.newBrowser()
			f := w.acme.begin("state", value, "nonce", value)
			p := b.fill(b.arrive(f), adaEmail, adaPassword) // through the database
			k := f.redeem(f.code(p)).ok()
			if got := k.claims()["nonce"]; got != value {
				t.Errorf("%d: nonce %q, want %q", i, got, value)
			}
			f = w.acme.begin("state", value) // and straight
			one := b.once(http.MethodGet, f.url(), nil, nil)
			if len(one.header.Values("Location")) != 1 || strings.ContainsAny(one.header.Get("Location"), "\r\n<\"") {
				t.Errorf("%d: Location %q", i, one.header.Values("Location"))
			}
			f.code(b.follow(one))
			f = w.acme.begin("state", value, "scope", "nothing") // and with an error
			f.wantError(b.get(f.url()), "invalid_scope")
		}
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := w.acme.begin("state", "", "nonce", "")
		p := b.get(f.url())
		if f.code(p); p.url.Query().Has("state") {
			t.Errorf("a state out of nowhere: %s", p.url)
		}
		if k := f.redeem(p.url.Query().Get("code")).ok(); k.claims()["nonce"] != nil {
			t.Errorf("a nonce out of nowhere: %v", k.claims())
		}
		f = w.acme.begin("nonce", strings.Repeat("n", 4097))
		f.wantError(b.get(f.url()), "invalid_request")
		// What cannot be kept as it is, is refused.
		for _, raw := range []string{"state=%ff", "state=a%00b", "nonce=%c3%28", "state=%zz"} {
			f := w.acme.begin("state", "", "nonce", "")
			if p := b.get(f.url() + "&" + raw); p.status != http.StatusBadRequest {
				t.Errorf("%s: %d at %s", raw, p.status, p.url)
			}
		}
	})
}

func TestAZ13_Z23_AnswersNameTheIssuer(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		var meta map[string]any
		if err := json.Unmarshal([]byte(b.get("/.well-known/openid-configuration").body), &meta); err != nil {
			t.Fatal(err)
		}
		if meta["issuer"] != issuer || meta["authorization_response_iss_parameter_supported"] != true {
			t.Errorf("metadata: %v, %v", meta["issuer"], meta["authorization_response_iss_parameter_supported"])
		}
		// f.answer checks iss in each.
		f := w.acme.begin("prompt", "none")
		f.wantError(b.get(f.url()), "login_required")
		f = w.acme.begin("redirect_uri", callback+"?tenant=1")
		p := b.fill(b.arrive(f), adaEmail, adaPassword)
		if f.code(p); p.url.Query().Get("tenant") != "1" {
			t.Errorf("the redirect URI's own query is gone: %s", p.url)
		}
		f = w.acme.begin("redirect_uri", callback+"?tenant=1", "response_type", "token")
		p = b.get(f.url())
		if f.wantError(p, "unsupported_response_type"); p.url.Query().Get("tenant") != "1" {
			t.Errorf("the redirect URI's own query is gone: %s", p.url)
		}
		for name := range p.url.Query() {
			if !slices.Contains([]string{"tenant", "error", "error_description", "state", "iss"}, name) {
				t.Errorf("an answer with %s", name)
			}
		}
	})
}

// A parameter that stands there twice is refused, and never is one of the two
// picked (trap Z9).
func TestAZ14_Z09_NoParameterTwice(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, name := range []string{
			"response_type", "scope", "nonce", "code_challenge", "code_challenge_method", "prompt", "max_age", "response_mode",
			"id_token_hint", "login_hint", "acr_values", "claims", "display", "ui_locales", "claims_locales", "request", "request_uri", "registration", "state",
		} {
			f := w.acme.begin()
			more := "&" + name + "=" + url.QueryEscape(f.query.Get(name)) // the very same
			if !f.query.Has(name) {
				more += more
			}
			to := f.url() + more
			if name == "state" {
				f.query.Del("state") // which of the two?
			}
			if q := f.answer(b.get(to)); q.Get("error") != "invalid_request" || q.Has("code") {
				t.Errorf("%s twice: %v", name, q)
			}
		}
		for _, name := range []string{"client_id", "redirect_uri"} {
			f := w.acme.begin()
			b.get(f.url() + "&" + name + "=" + url.QueryEscape(f.query.Get(name))).wantBroken(brokenLink)
			b.get(f.url() + "&" + name + "=").wantBroken(brokenLink)
		}
		// The same by POST.
		f := w.acme.begin()
		if p := b.raw(http.MethodPost, "/authorize", f.query.Encode()+"&scope=openid", nil); p.status != http.StatusBadRequest || p.header.Get("Location") != "" {
			t.Errorf("posted twice: %d to %s", p.status, p.header.Get("Location"))
		}
		if p := b.raw(http.MethodPost, "/authorize?scope=openid", f.query.Encode(), nil); p.status != http.StatusBadRequest || p.header.Get("Location") != "" {
			t.Errorf("posted with a query: %d to %s", p.status, p.header.Get("Location"))
		}
		// Unknown ones are nobody's business, however often.
		f.code(b.get(f.url() + "&extra=foobar&extra=2&display=page"))
	})
}

// raw posts a body as it stands.
func (b *browser) raw(method, to, body string, header http.Header) *page {
	b.w.t.Helper()
	r := must(http.NewRequestWithContext(b.w.t.Context(), method, issuer+to, strings.NewReader(body)))(b.w.t)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for k, v := range header {
		r.Header[k] = v
	}
	res := must(b.http.Do(r))(b.w.t)
	defer res.Body.Close()
	var text bytes.Buffer
	must(text.ReadFrom(res.Body))(b.w.t)
	return &page{t: b.w.t, url: r.URL, status: res.StatusCode, header: res.Header, body: text.String()}
}

// What is not done is refused with its own error, not ignored (trap Z17), and no
// URL that a request names is fetched.
func TestAZ15_AZ16_Z17_NotSupported(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		object := b64(`{"alg":"none"}`) + "." + b64(`{"redirect_uri":"https://evil.test","client_id":"acme"}`) + "."
		for _, c := range []struct{ name, value, want string }{
			{"response_mode", "fragment", "invalid_request"}, {"response_mode", "web_message", "invalid_request"}, {"response_mode", "query.jwt", "invalid_request"},
			{"response_mode", "form_post query", "invalid_request"}, {"response_mode", "foo", "invalid_request"}, {"response_mode", "QUERY", "invalid_request"},
			{"request", object, "request_not_supported"}, {"request", "e30.bnVsbA.eA", "request_not_supported"},
			{"request_uri", "http://127.0.0.1:1/sink", "request_uri_not_supported"}, {"request_uri", "urn:ietf:params:oauth:request_uri:x", "request_uri_not_supported"},
			{"registration", `{"redirect_uris":["https://evil.test"]}`, "registration_not_supported"},
		} {
			f := w.acme.begin(c.name, c.value)
			if q := f.answer(b.get(f.url())); q.Get("error") != c.want || q.Has("code") {
				t.Errorf("%s=%s: %v, want %s", c.name, c.value, q, c.want)
			}
		}
		// Before anything else of the request is found wanting, as certification asks.
		f := w.acme.begin("request", object, "code_challenge", "", "code_challenge_method", "", "scope", "")
		f.wantError(b.get(f.url()), "request_not_supported")
		f = w.acme.begin("response_mode", "query")
		f.code(b.get(f.url()))
	})
}

// AZ-15, WEB-11: with response_mode=form_post a page of ours posts what the workspace
// gets, errors too, and nothing of it stands in a URL; the page may post there and
// nowhere else.
func TestAZ15_FormPost(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		posted := func(f *flow, p *page) url.Values {
			t.Helper()
			p.wantStatus(http.StatusOK)
			if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "; form-action https://acme.test") || strings.Count(csp, "form-action") != 1 || p.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("CSP %q", csp)
			}
			if strings.Contains(p.url.String(), "code=") || strings.Contains(p.url.String(), "error") {
				t.Errorf("in the URL: %s", p.url)
			}
			v := p.form(callback)
			if v.Get("state") != f.query.Get("state") || v.Get("iss") != issuer {
				t.Errorf("answer %v", v)
			}
			return v
		}
		b := w.newBrowser()
		f := w.acme.begin("response_mode", "form_post", "prompt", "none")
		if v := posted(f, b.get(f.url())); v.Get("error") != "login_required" || v.Has("code") {
			t.Errorf("answer %v", v)
		}
		f = w.acme.begin("response_mode", "form_post", "response_type", "token")
		if v := posted(f, b.get(f.url())); v.Get("error") != "unsupported_response_type" {
			t.Errorf("answer %v", v)
		}
		// An app's own scheme cannot be posted to.
		app := w.add(idp.Client{ID: "app", Name: "App", AuthMethod: idp.AuthNone, RedirectURIs: []string{"com.example.app:/cb"}, RequirePKCE: true})
		f = app.begin("response_mode", "form_post")
		f.wantError(b.get(f.url()), "invalid_request")
		// Through the sign-in page, with a state that would break out of an attribute.
		f = w.acme.begin("response_mode", "form_post", "state", `"><script>alert(1)</script>&'`)
		p := b.fill(b.get(f.url()), adaEmail, adaPassword)
		if strings.Contains(p.body, "<script>alert") {
			t.Error("the state is part of the page")
		}
		f.redeem(posted(f, p).Get("code")).ok()
		// And in a session, where it is one page.
		f = w.acme.begin("response_mode", "form_post")
		f.redeem(posted(f, b.once(http.MethodGet, f.url(), nil, nil)).Get("code")).ok()
	})
}

func TestAZ17_Scopes(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		few := w.add(idp.Client{ID: "few", Name: "Few", RedirectURIs: []string{"https://few.test/cb"}, RequirePKCE: true, Scopes: []string{"openid", "email", "offline_access"}, GrantTypes: []string{"authorization_code"}})
		own := w.add(idp.Client{ID: "own", Name: "Own", RedirectURIs: []string{"https://own.test/cb"}, RequirePKCE: true, Scopes: []string{"openid", "api.read", "api.write"}})
		none := w.add(idp.Client{ID: "none", Name: "None", RedirectURIs: []string{"https://none.test/cb"}, RequirePKCE: true, Scopes: []string{"email"}})
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := none.begin("scope", "openid email")
		f.wantError(b.get(f.url()), "invalid_scope")
		for _, scope := range []string{"", "profile email", "OPENID", "openid2", "openid,email"} {
			f := w.acme.begin("scope", scope)
			f.wantError(b.get(f.url()), "invalid_scope")
		}
		for _, c := range []struct {
			rp          rp
			asked, want string
		}{
			{w.acme, "openid", "openid"}, {w.acme, "email openid", "openid email"}, {w.acme, "openid openid admin urn:x:y \"", "openid"},
			{w.acme, "openid offline_access phone address email profile", "openid profile email phone address offline_access"},
			{few, "openid profile email phone address offline_access", "openid email"},
			{own, "api.write openid api.read api.other", "openid api.read api.write"}, {w.acme, "openid api.read", "openid"},
		} {
			f := c.rp.begin("scope", c.asked)
			k := f.redeem(f.code(b.get(f.url()))).ok()
			if k.Scope != c.want {
				t.Errorf("%s asked for %q and got %q, want %q", c.rp.id, c.asked, k.Scope, c.want)
			}
			if wants := strings.Contains(c.want, "offline_access"); wants != (k.RefreshToken != "") {
				t.Errorf("%s with %q: refresh token %v", c.rp.id, c.want, k.RefreshToken != "")
			}
			if info := w.userinfo(k.AccessToken); c.rp.id == "few" && (info["email"] != adaEmail || info["name"] != nil || info["phone_number"] != nil) {
				t.Errorf("userinfo beyond the client's scopes: %v", info)
			}
		}
	})
}

// Whether there still are such a person, such a client and such an address is
// decided when the code is given.
func TestAZ19_DecidedLate(t *testing.T) {
	operator := account.Actor{Kind: "operator", Name: "test"}
	for _, c := range []struct {
		name string
		act  func(t *testing.T, w *world)
		wait bool // the client's URIs are looked at again within a second
		want func(p *page)
	}{
		{"person disabled", func(t *testing.T, w *world) {
			if err := w.house.accounts.DisableUser(t.Context(), w.ada.ID, operator); err != nil {
				t.Fatal(err)
			}
		}, false, func(p *page) { p.want(http.StatusOK, "/login") }},
		{"person deleted", func(t *testing.T, w *world) {
			if err := w.house.accounts.DeleteUser(t.Context(), w.ada.ID, operator); err != nil {
				t.Fatal(err)
			}
		}, false, func(p *page) { p.want(http.StatusOK, "/login") }},
		{"client disabled", func(t *testing.T, w *world) {
			w.change(`UPDATE clients SET disabled_at = 1 WHERE id = 'acme'`)
		}, false, func(p *page) { p.wantBroken(expiredLink) }},
		{"client disabled a second ago", func(t *testing.T, w *world) {
			w.change(`UPDATE clients SET disabled_at = 1 WHERE id = 'acme'`)
		}, true, func(p *page) { p.wantBroken(expiredLink) }},
		{"client deleted", func(t *testing.T, w *world) {
			if err := w.house.clients.Delete(t.Context(), "acme", "test"); err != nil {
				t.Fatal(err)
			}
		}, false, func(p *page) { p.wantBroken(expiredLink) }},
		{"redirect URI removed", func(t *testing.T, w *world) {
			w.change(`UPDATE clients SET redirect_uris = '["https://acme.test/other"]' WHERE id = 'acme'`)
		}, true, func(p *page) { p.wantBroken(expiredLink) }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				b := w.newBrowser()
				f := w.acme.begin()
				resume := b.submit(b.arrive(f), adaEmail, adaPassword)
				c.act(t, w)
				if c.wait {
					w.forget()
				}
				c.want(b.get(resume))
				if n := w.count("grants"); n != 0 {
					t.Errorf("%d grants", n)
				}
			})
		})
	}
}

// The same without a request that waits: between the look at the session and
// the grant there is a moment, and the statement that grants looks again.
func TestAZ19_DecidedInTheGrant(t *testing.T) {
	for what, query := range map[string]string{
		"session ended":   `UPDATE sessions SET ended_at = 1`,
		"session expired": `UPDATE sessions SET expires_at = 1`,
		"person disabled": `UPDATE users SET disabled_at = 1 WHERE email = 'ada@example.com'`,
		"client disabled": `UPDATE clients SET disabled_at = 1 WHERE id = 'acme'`,
	} {
		t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, engine string) {
				synctest.Test(t, func(t *testing.T) {
					var between func()
					w := wellBehaved(t, engine, watch("INSERT INTO grants", &between))
					b := w.newBrowser()
					b.signIn(adaEmail, adaPassword)
					f := w.acme.begin()
					between = func() { must(w.db.Exec(t.Context(), query))(t) }
					b.get(f.url()).wantBroken(expiredLink)
					if n := w.count("grants"); n != 0 {
						t.Errorf("%d grants", n)
					}
				})
			})
		})
	}
}

func TestAZ20_CodesAreRandom(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		const n = 200
		var bits [256]int // how often each bit is set
		seen := map[string]bool{}
		for range n {
			f := w.acme.begin()
			code := f.code(b.get(f.url()))
			random, err := base64.RawURLEncoding.DecodeString(code[strings.LastIndexByte(code[:len(code)-43], '_')+1:])
			if err != nil || len(random) != 32 {
				t.Fatalf("code %q: %d bytes, %v", code, len(random), err)
			}
			for _, part := range []string{string(random), code[4:30]} {
				if seen[part] {
					t.Fatalf("code %q repeats", code)
				}
				seen[part] = true
			}
			for i := range bits {
				bits[i] += int(random[i/8]>>(i%8)) & 1
			}
		}
		for i, k := range bits {
			if k < n/5 || k > n*4/5 { // 8 standard deviations
				t.Errorf("bit %d is set in %d of %d codes", i, k, n)
			}
		}
	})
}

func TestAZ21_TooMuch(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := w.acme.begin("nonce", strings.Repeat("n", 10<<10))
		f.wantError(b.get(f.url()), "invalid_request")
		var many strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&many, " scope%d", i)
		}
		f = w.acme.begin("scope", "openid"+many.String())
		if k := f.redeem(f.code(b.get(f.url()))).ok(); k.Scope != "openid" {
			t.Errorf("scope %q", k.Scope)
		}
		f = w.acme.begin("login_hint", strings.Repeat("l", 10<<10), "prompt", "login")
		time.Sleep(time.Second)
		b.arrive(f)
		if p := b.raw(http.MethodPost, "/authorize", strings.Repeat("a", 65<<10), nil); p.status != http.StatusRequestEntityTooLarge {
			t.Errorf("a body of 65 KiB: %d", p.status)
		}
		f = w.acme.begin("nonce", strings.Repeat("n", 13<<10))
		if p := b.raw(http.MethodPost, "/authorize", f.query.Encode(), nil); p.status != http.StatusBadRequest {
			t.Errorf("a form that is too long for a URL: %d", p.status)
		}
	})
}

// A workspace may post its request. The browser then sends no cookie of ours
// along, and does so with the GET that follows (trap B2).
func TestAZ22_B2_PostFromAnotherSite(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, blank := w.newBrowser(), w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		session := b.jar.Cookies(must(url.Parse(issuer))(t))
		elsewhere := http.Header{"Origin": {"https://acme.test"}, "Sec-Fetch-Site": {"cross-site"}}
		f := w.acme.begin()
		p := blank.once(http.MethodPost, "/authorize", f.query, elsewhere)
		if p.status != http.StatusSeeOther || len(p.header.Values("Set-Cookie")) != 0 {
			t.Fatalf("posted: %d, cookies %q\n%s", p.status, p.header.Values("Set-Cookie"), p.body)
		}
		f.code(b.follow(p))
		if now := b.jar.Cookies(must(url.Parse(issuer))(t)); len(now) != len(session) {
			t.Errorf("cookies %v", now)
		}

		// Exactly these endpoints; the forms of our own pages take posts from nowhere else.
		for path, form := range map[string]url.Values{
			"/login":            {"email": {adaEmail}, "password": {adaPassword}},
			"/logout":           {},
			"/authorize/resume": {},
			"/authorize/":       {},
			"/end_session/":     {},
		} {
			for _, header := range []http.Header{elsewhere, {"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}}, {"Origin": nil, "Sec-Fetch-Site": {"same-site"}}, {"Origin": nil, "Sec-Fetch-Site": nil}} {
				if p := b.once(http.MethodPost, path, form, header); p.status != http.StatusForbidden || len(p.header.Values("Set-Cookie")) != 0 {
					t.Errorf("%s with %v: %d", path, header, p.status)
				}
			}
		}
		b.get("/preferences/security").want(http.StatusOK, "/preferences/security")
		for _, path := range []string{"/oauth/token", "/oauth/revoke", "/userinfo", "/end_session"} {
			if p := blank.once(http.MethodPost, path, url.Values{"grant_type": {"authorization_code"}, "client_id": {"acme"}}, elsewhere); p.status == http.StatusForbidden {
				t.Errorf("%s refuses another origin", path)
			}
		}
	})
}

// One sign-in serves every workspace, each with its own code.
func TestAZ23_B3_SecondWorkspaceAsksNothing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		f := w.globex.begin()
		p := b.once(http.MethodGet, f.url(), nil, http.Header{"Referer": {"https://globex.test/"}, "Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}})
		code := f.code(b.follow(p))
		w.acme.post(f.redemption(code)).refused(http.StatusBadRequest, "invalid_grant") // not acme's

		f = w.globex.begin()
		k2 := f.redeem(f.code(b.get(f.url()))).ok()
		if a, b := k.claims(), k2.claims(); a["sub"] != b["sub"] || a["auth_time"] != b["auth_time"] || a["sid"] != b["sid"] || b["aud"] != "globex" {
			t.Errorf("acme %v, globex %v", a, b)
		}
	})
}

// No acr but the true one: what is only wished for is not pretended.
func TestAZ24_NoFalseACR(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for _, extra := range [][]string{
			{"acr_values", "urn:harmony:acr:2fa"}, {"acr_values", "1 2"}, {"claims", `{"id_token":{"acr":{"values":["urn:harmony:acr:2fa"]}}}`},
		} {
			k := b.connect(w.acme, adaEmail, adaPassword, extra...)
			if c := k.claims(); c["acr"] != "urn:harmony:acr:1fa" || !slices.Equal(c["amr"].([]any), []any{"pwd"}) {
				t.Errorf("%v: acr %v, amr %v", extra, c["acr"], c["amr"])
			}
		}
	})
}

// Chromium takes form-action for every redirect of a form's answer: the sign-in
// page of a workspace must not have 'self', and its post ends at our own GET (trap B1).
func TestB1_FormsThatLeadToAWorkspace(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		p := b.arrive(w.acme.begin())
		if csp := p.header.Get("Content-Security-Policy"); strings.Contains(csp, "form-action") || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("sign-in for a workspace: %s", csp)
		}
		if to := b.submit(p, adaEmail, adaPassword); !strings.HasPrefix(to, "/authorize/resume?id=") {
			t.Errorf("the post leads to %s", to)
		}
		if csp := w.newBrowser().get("/login").header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self'") {
			t.Errorf("sign-in for nobody: %s", csp)
		}
		if p := b.get("/end_session"); !strings.Contains(p.header.Get("Content-Security-Policy"), "form-action 'self'") {
			t.Errorf("sign-out for nobody: %s", p.header.Get("Content-Security-Policy"))
		}
		p = b.get("/end_session?" + url.Values{"client_id": {"acme"}, "post_logout_redirect_uri": {farewell}}.Encode())
		if csp := p.header.Get("Content-Security-Policy"); strings.Contains(csp, "form-action") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("sign-out for a workspace: %s", csp)
		}
	})
}

// What the library would serve besides is not there (trap Z21).
func TestZ21_OnlyWhatWeServe(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		var meta map[string]any
		if err := json.Unmarshal([]byte(b.get("/.well-known/openid-configuration").body), &meta); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]any{
			"grant_types_supported":                            {"authorization_code", "refresh_token", "client_credentials"},
			"response_types_supported":                         {"code"},
			"response_modes_supported":                         {"query", "form_post"},
			"code_challenge_methods_supported":                 {"S256"},
			"id_token_signing_alg_values_supported":            {"ES256", "RS256", "EdDSA"},
			"token_endpoint_auth_methods_supported":            {"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
			"revocation_endpoint_auth_methods_supported":       {"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
			"introspection_endpoint_auth_methods_supported":    {"client_secret_basic", "client_secret_post", "private_key_jwt"},
			"token_endpoint_auth_signing_alg_values_supported": {"ES256", "PS256", "EdDSA", "RS256"},
			"request_object_signing_alg_values_supported":      {"RS256"},
			"acr_values_supported":                             {"urn:harmony:acr:1fa", "urn:harmony:acr:2fa"},
		} {
			if got, _ := meta[name].([]any); !slices.Equal(got, want) {
				t.Errorf("%s = %v, want %v", name, meta[name], want)
			}
		}
		for name, value := range meta {
			path, ok := strings.CutPrefix(fmt.Sprint(value), issuer)
			if name == "issuer" || !ok {
				continue
			}
			if p := b.once(http.MethodGet, path, nil, nil); p.status == http.StatusNotFound {
				t.Errorf("%s is not there", name)
			}
		}
		for _, path := range []string{
			"/healthz", "/ready", "/authorize/callback", "/device_authorization", "/revoke", "/introspect", "/keys", "/oauth/token/", "/userinfo/", "/authorize//resume", "/Authorize", "/oauth/%74oken",
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				var form url.Values
				if method == http.MethodPost {
					form = url.Values{}
				}
				if p := b.once(method, path, form, nil); p.status != http.StatusNotFound {
					t.Errorf("%s %s: %d", method, path, p.status)
				}
			}
		}
	})
}

// Every page may read what is public. None may with the person's cookies (trap Z4).
func TestZ04_NoCORSWithCredentials(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		origin := http.Header{"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}, "Authorization": {"Bearer " + k.AccessToken}}
		for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/jwks", "/userinfo", "/authorize?" + w.acme.begin().query.Encode(), "/authorize/resume", "/end_session", "/login", "/logout", "/preferences/security", "/"} {
			open := strings.HasPrefix(path, "/.well-known") || path == "/jwks" || path == "/userinfo"
			p := b.once(http.MethodGet, path, nil, origin)
			if got := p.header.Get("Access-Control-Allow-Credentials"); got != "" {
				t.Errorf("%s: credentials %s", path, got)
			}
			if got := p.header.Get("Access-Control-Allow-Origin"); open && got != "*" || !open && got != "" {
				t.Errorf("%s: origin %q", path, got)
			}
		}
		for _, path := range []string{"/oauth/token", "/oauth/revoke", "/userinfo", "/jwks"} {
			p := b.once(http.MethodOptions, path, nil, http.Header{"Origin": {"https://evil.test"}, "Access-Control-Request-Method": {"POST"}})
			if p.status != http.StatusNoContent || p.header.Get("Access-Control-Allow-Origin") != "*" || p.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("preflight of %s: %d %v", path, p.status, p.header)
			}
		}
		for _, path := range []string{"/oauth/introspect", "/authorize", "/end_session", "/login", "/logout"} {
			p := b.once(http.MethodOptions, path, nil, http.Header{"Origin": {"https://evil.test"}, "Access-Control-Request-Method": {"POST"}})
			if p.status != http.StatusMethodNotAllowed || p.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("preflight of %s: %d %v", path, p.status, p.header)
			}
		}
	})
}

// A password counts to its last byte (trap C1): bcrypt would stop at the 72nd, or
// at a NUL.
func TestC1_PasswordsToTheLastByte(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		long := strings.Repeat("marmalade ", 9) // 90 bytes
		if _, err := w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: "long@example.com", Name: "Long", Password: long + "!"}, account.Actor{Kind: "operator", Name: "test"}); err != nil {
			t.Fatal(err)
		}
		b := w.newBrowser()
		for _, wrong := range []string{long + "?", long, long[:72], long + "!!", long + "! "} {
			b.fill(b.get("/login"), "long@example.com", wrong).want(http.StatusUnprocessableEntity, "/login")
		}
		if p := b.fill(b.get("/login"), "long@example.com", long+"!\x00"+long+"!"); p.status/100 != 4 {
			t.Errorf("a NUL and once more: %d", p.status)
		}
		b.signIn("long@example.com", long+"!")
	})
}
