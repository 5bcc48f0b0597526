package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// The security cases of password sign-in (LOGIN), with the limits of what one
// request may cost (DOS) and of whose address counts (OP-02).

// attempt sends the sign-in form and follows nothing. A nil form of the page is
// fetched first as a browser would: here it has no hidden token, so it is not.
func (b *browser) attempt(email, password string) *page {
	b.w.t.Helper()
	return b.once(http.MethodPost, "/login", url.Values{"email": {email}, "password": {password}}, nil)
}

// signedIn reports whether the browser is.
func (b *browser) signedIn() bool {
	b.w.t.Helper()
	switch p := b.once(http.MethodGet, "/preferences/security", nil, nil); p.status {
	case http.StatusOK:
		return true
	case http.StatusSeeOther:
		return false
	default:
		b.w.t.Fatalf("account page: %d\n%s", p.status, p.body)
		return false
	}
}

// wantStatus checks the answer to one request.
func (p *page) wantStatus(status int) *page {
	p.t.Helper()
	if p.status != status {
		p.t.Fatalf("%s: got %d, want %d:\n%s", p.url, p.status, status, p.body)
	}
	return p
}

// weak is a hash that costs nothing, with parameters that nobody uses any more:
// for cases that are about something else than the cost.
func weak(password string) string {
	salt := []byte("a salt of old")
	key := argon2.IDKey(norm.NFC.Bytes([]byte(password)), salt, 1, 8, 1, 32)
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", enc(salt), enc(key))
}

// weaken gives a person's password a hash that costs nothing.
func (w *world) weaken(id, password string) {
	w.t.Helper()
	w.exec(`UPDATE users SET password_hash = $1 WHERE id = $2`, weak(password), id)
}

// exec writes to the database past the provider.
func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	must(w.db.Exec(w.t.Context(), query, args...))(w.t)
}

var supporter = account.Actor{Kind: "operator", Name: "test"}

// hashes counts the passwords that are hashed while fn runs, by the 19 MiB that
// Argon2id takes for each.
func hashes(fn func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int((after.TotalAlloc - before.TotalAlloc) / (19 << 20))
}

// hopeless are attempts that prove nothing, with addresses of one length.
func (w *world) hopeless() map[string][2]string {
	w.t.Helper()
	for _, n := range []account.NewUser{
		{Email: "non@example.com", Name: "No Password"},
		{Email: "dis@example.com", Name: "Disabled", Password: adaPassword},
	} {
		must(w.house.accounts.CreateUser(w.t.Context(), n, supporter))(w.t)
	}
	must(w.house.accounts.CreateUser(w.t.Context(), account.NewUser{Email: "goo@example.com", Name: "Google"}, supporter))(w.t)
	w.exec(`UPDATE users SET method = 'google' WHERE email = 'goo@example.com'`)
	w.exec(`UPDATE users SET disabled_at = 1 WHERE email = 'dis@example.com'`)
	return map[string][2]string{
		"wrong password":  {adaEmail, "not her password"},
		"unknown address": {"unk@example.com", adaPassword},
		"no password":     {"non@example.com", adaPassword},
		"Google account":  {"goo@example.com", adaPassword},
		"disabled":        {"dis@example.com", adaPassword},
		"not an address":  {"ada.example.com", adaPassword},
	}
}

// ofAttempt is all that a stranger sees of an answer.
func ofAttempt(p *page, email string) string {
	h := p.header.Clone()
	h.Del("X-Request-Id")
	h.Del("Date")
	var head bytes.Buffer
	_ = h.Write(&head)
	return fmt.Sprintf("%d\n%s\n%s", p.status, &head, strings.ReplaceAll(p.body, email, "EMAIL"))
}

// LOGIN-01: one answer, byte for byte, also to who is throttled.
func TestLOGIN01_OneAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		attempts := w.hopeless()
		for round := 1; round <= 11; round++ {
			var first, of string
			for what, a := range attempts {
				b := w.browserAt(w.house, "192.0.2."+strconv.Itoa(10+len(what))) // an address of its own
				p := b.attempt(a[0], a[1])
				want := http.StatusUnprocessableEntity
				if round == 11 {
					want = http.StatusTooManyRequests
				}
				p.wantStatus(want)
				if got := ofAttempt(p, a[0]); first == "" {
					first, of = got, what
				} else if got != first {
					t.Fatalf("attempt %d: %s and %s can be told apart:\n%s\n---\n%s", round, of, what, first, got)
				}
				if len(b.jar.Cookies(must(url.Parse(issuer))(t))) != 0 {
					t.Errorf("%s: cookies", what)
				}
			}
		}
		// Not even the right one tells that the account is disabled, nor does a known browser.
		b := w.newBrowser()
		b.signIn(bobEmail, bobPassword)
		if err := w.house.accounts.DisableUser(t.Context(), w.bob.ID, supporter); err != nil {
			t.Fatal(err)
		}
		p, q := b.attempt(bobEmail, bobPassword), b.attempt(bobEmail, "wrong")
		if ofAttempt(p, bobEmail) != ofAttempt(q, bobEmail) || p.status != http.StatusUnprocessableEntity {
			t.Errorf("disabled: %d with the right password, %d with a wrong one", p.status, q.status)
		}
	})
}

// LOGIN-02: what strangers cannot see they cannot time either: the same
// statements, and one hash, whoever it is.
func TestLOGIN02_SameWork(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		var mu sync.Mutex
		var sent []string
		w := wellBehaved(t, engine, db.Observe(func(_ context.Context, query string) {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, query)
		}))
		var want []string
		i := 0
		for what, a := range w.hopeless() {
			i++
			b := w.browserAt(w.house, "192.0.2."+strconv.Itoa(i))
			sent = nil
			n := hashes(func() { b.attempt(a[0], a[1]).wantStatus(http.StatusUnprocessableEntity) })
			if n != 1 {
				t.Errorf("%s: %d hashes, want one", what, n)
			}
			if want == nil {
				want = sent
			} else if !slices.Equal(sent, want) {
				t.Errorf("%s: other statements\n%q\n%q", what, sent, want)
			}
		}
	})
}

// LOGIN-03: ten guesses, then not even the right one is looked at, until the time
// is over that the page says.
func TestLOGIN03_Throttled(t *testing.T) {
	eachAlone(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for i := range 10 {
			p := b.attempt(strings.ToUpper(adaEmail[:1+i])+adaEmail[1+i:], fmt.Sprint("wrong ", i)) // one account, however it is written
			p.wantStatus(http.StatusUnprocessableEntity)
		}
		var p *page
		if n := hashes(func() { p = b.attempt(adaEmail, adaPassword) }); n != 0 {
			t.Errorf("%d hashes for who is throttled", n)
		}
		p.wantStatus(http.StatusTooManyRequests)
		wait, err := strconv.Atoi(p.header.Get("Retry-After"))
		if err != nil || wait < 1 || wait > 900 {
			t.Fatalf("Retry-After: %q", p.header.Get("Retry-After"))
		}
		p.wantText("Too many attempts. Try again in")
		if f := p.form("/login"); f.Get("email") != adaEmail || f.Get("password") != "" {
			t.Errorf("the form stands at %v", f)
		}
		if b.signedIn() {
			t.Fatal("signed in")
		}
		time.Sleep(time.Duration(wait-2) * time.Second)
		b.attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
		time.Sleep(2 * time.Second)
		b.attempt(adaEmail, "wrong again").wantStatus(http.StatusUnprocessableEntity)
		b.attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
		time.Sleep(15 * time.Minute)
		b.signIn(adaEmail, adaPassword)
	})
}

// LOGIN-03: a right password costs nothing, so that a person may sign in as often
// as they like, and it gives nothing back of what wrong ones cost.
func TestLOGIN03_RightOnesAreFree(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		// From one address, in new browsers: none of them is known.
		for range 12 {
			w.weaken(w.bob.ID, bobPassword)
			w.newBrowser().attempt(bobEmail, bobPassword).wantStatus(http.StatusSeeOther)
		}
		for i := range 10 {
			w.newBrowser().attempt(adaEmail, "wrong").wantStatus(http.StatusUnprocessableEntity)
			if i%3 == 0 {
				w.newBrowser().attempt(bobEmail, bobPassword).wantStatus(http.StatusSeeOther)
			}
		}
		w.newBrowser().attempt(adaEmail, "wrong").wantStatus(http.StatusTooManyRequests)
		// Not through a session of the attacker's either.
		b := w.newBrowser()
		b.signIn(bobEmail, bobPassword)
		b.attempt(adaEmail, "wrong").wantStatus(http.StatusTooManyRequests)
	})
}

// LOGIN-04: strangers cannot lock the owner out of a browser that they use, and
// what lets the owner in lets nobody else in.
func TestLOGIN04_OwnerIsNotLockedOut(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		owner, bob := w.newBrowser(), w.newBrowser()
		owner.signIn(adaEmail, adaPassword)
		bob.signIn(bobEmail, bobPassword)
		owner.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
		bob.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
		w.weaken(w.ada.ID, adaPassword)

		// A stranger in the same network as the owner.
		for range 10 {
			w.newBrowser().attempt(adaEmail, "guess").wantStatus(http.StatusUnprocessableEntity)
		}
		w.newBrowser().attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
		elsewhere := w.browserAt(w.house, "203.0.113.1")
		elsewhere.attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther) // (a)
		w.weaken(w.ada.ID, adaPassword)

		// Strangers everywhere: fifty guesses in all, then nobody without a known browser.
		n := 0
		for host := 1; host <= 6; host++ {
			for range 9 {
				if w.browserAt(w.house, "198.51.100."+strconv.Itoa(host)).attempt(adaEmail, "guess").status == http.StatusUnprocessableEntity {
					n++
				}
			}
		}
		if n != 40 {
			t.Errorf("%d more guesses were judged, want 40", n)
		}
		w.browserAt(w.house, "203.0.113.2").attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)

		// A browser that knows somebody else, or says that it knows Ada, is a stranger.
		bob.attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
		known := owner.cookie("__Host-harmony-known")
		if known == "" {
			t.Fatal("the owner's browser is not remembered")
		}
		for _, forged := range []string{
			flip(known, len(known)/2), known[:len(known)-1], known + "A", "AAAA", "",
			base64.RawURLEncoding.EncodeToString([]byte("id " + w.ada.ID)), strings.Repeat("A", 8192),
		} {
			b := w.newBrowser()
			b.plant("__Host-harmony-known", forged)
			b.attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
		}

		// (b) The owner, at the attacked address. Their browser has a limit of its own.
		owner.attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther)
		owner.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
		w.weaken(w.ada.ID, adaPassword)
		for range 10 {
			owner.attempt(adaEmail, "guess").wantStatus(http.StatusUnprocessableEntity)
		}
		owner.attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
	})
}

// flip changes one character of base64url into another.
func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}

var siteURL = &url.URL{Scheme: "https", Host: "id.test", Path: "/"}

// cookie is the value of a browser's cookie, or "".
func (b *browser) cookie(name string) string {
	for _, c := range b.jar.Cookies(siteURL) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

const sessionCookieName = "__Host-harmony-session"

// waits is the value of a cookie that binds an authorization request, or "".
func (b *browser) waits() string {
	for _, c := range b.jar.Cookies(siteURL) {
		if strings.HasPrefix(c.Name, "__Host-harmony-request-") {
			return c.Value
		}
	}
	return ""
}

// plant puts a cookie into a browser.
func (b *browser) plant(name, value string) {
	b.jar.SetCookies(siteURL, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

// LOGIN-05: guesses at once at two replicas count as guesses one after another.
func TestLOGIN05_ParallelGuesses(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		for round := range 4 {
			w.weaken(w.ada.ID, adaPassword)
			address := fmt.Sprintf("198.51.100.%d", round)
			right := rand.IntN(racers)
			var wrong, in atomic.Int64
			release(func(i int) {
				b := w.browserAt(pick(i), address)
				password := fmt.Sprint("guess ", i)
				if i == right {
					password = adaPassword
				}
				switch p := b.attempt(adaEmail, password); {
				case p.status == http.StatusUnprocessableEntity && i != right:
					wrong.Add(1)
				case p.status == http.StatusSeeOther && i == right:
					in.Add(1)
				case p.status != http.StatusTooManyRequests:
					t.Errorf("%d", p.status)
				default:
					if b.signedIn() {
						t.Error("throttled, and signed in")
					}
				}
			})
			if wrong.Load() > 10 {
				t.Errorf("%d wrong passwords were judged, want 10 at the most", wrong.Load())
			}
			if wrong.Load()+in.Load() < 5 {
				t.Errorf("only %d were judged", wrong.Load()+in.Load())
			}
			w.browserAt(w.house, address).attempt(adaEmail, "one more")
			w.browserAt(w.house, address).attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
		}
	})
}

// LOGIN-05: the same for guesses from everywhere: fifty for an account.
func TestLOGIN05_ParallelGuessesFromEverywhere(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		var judged atomic.Int64
		release(func(i int) {
			for j := range 5 {
				if p := w.browserAt(pick(i+j), fmt.Sprintf("203.0.113.%d", i*5+j)).attempt(adaEmail, "guess"); p.status == http.StatusUnprocessableEntity {
					judged.Add(1)
				} else {
					p.wantStatus(http.StatusTooManyRequests)
				}
			}
		})
		if judged.Load() > 51 || judged.Load() < 25 { // one comes back in half an hour
			t.Errorf("%d guesses were judged, want 50", judged.Load())
		}
		w.weaken(w.ada.ID, adaPassword)
		w.browserAt(w.house, "203.0.113.200").attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
	})
}

// LOGIN-06: one network, many accounts: the same limit whether they exist or not,
// and whoever is elsewhere does not notice.
func TestLOGIN06_Stuffing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		now := db.Micros(time.Now())
		hash := weak("right")
		for i := range 100 {
			w.exec(`INSERT INTO users (id, email, email_verified, name, claims, method, password_hash, password_changed_at, created_at, updated_at)
				VALUES ($1, $2, 0, 'One', '{}', 'password', $3, $4, $4, $4)`, fmt.Sprint("usr_", i), fmt.Sprintf("u%d@example.com", i), hash, now)
		}
		for i := range 100 { // from all over one /64: what a customer has
			address := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i), 8: byte(i)})
			b := w.browserAt(w.house, "["+address.String()+"]")
			b.attempt(fmt.Sprintf("u%d@example.com", i), "guess").wantStatus(http.StatusUnprocessableEntity)
			if i%10 == 8 { // with an account of the attacker's own, which gives back what it cost and no more
				w.weaken(w.bob.ID, bobPassword)
				b.attempt(bobEmail, bobPassword).wantStatus(http.StatusSeeOther)
			}
		}
		b := w.browserAt(w.house, "[2001:db8::ffff]")
		known, unknown := b.attempt("u1@example.com", "right"), b.attempt("x1@example.com", "right")
		known.wantStatus(http.StatusTooManyRequests)
		if ofAttempt(known, "u1@example.com") != ofAttempt(unknown, "x1@example.com") {
			t.Error("an account can be told from none")
		}
		b.attempt(adaEmail, adaPassword).wantStatus(http.StatusTooManyRequests)
		w.browserAt(w.house, "[2001:db8:0:1::1]").attempt("u1@example.com", "right").wantStatus(http.StatusSeeOther)
		w.browserAt(w.house, "192.0.2.1").attempt("u2@example.com", "right").wantStatus(http.StatusSeeOther)
	})
}

// LOGIN-07, WEB-05: no other site can sign a person in as somebody else, or out.
func TestLOGIN07_OtherSitesForms(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		in := w.newBrowser()
		in.signIn(adaEmail, adaPassword)
		for name, header := range foreignForms() {
			b := w.newBrowser()
			p := b.once(http.MethodPost, "/login", url.Values{"email": {bobEmail}, "password": {bobPassword}}, header)
			if p.status != http.StatusForbidden || len(p.header.Values("Set-Cookie")) != 0 || b.signedIn() {
				t.Errorf("%s: %d %v", name, p.status, p.header)
			}
			session := in.cookie(sessionCookieName)
			in.once(http.MethodPost, "/login", url.Values{"email": {bobEmail}, "password": {bobPassword}}, header).wantStatus(http.StatusForbidden)
			in.once(http.MethodPost, "/logout", url.Values{}, header).wantStatus(http.StatusForbidden)
			if !in.signedIn() || in.cookie(sessionCookieName) != session {
				t.Fatalf("%s: the session is another", name)
			}
		}
		// Nor can anything be done by a link or an image.
		for _, path := range []string{"/login?email=" + bobEmail + "&password=" + url.QueryEscape(bobPassword), "/logout", "/logout?client_id=acme", "/end_session"} {
			in.once(http.MethodGet, path, nil, http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Dest": {"image"}})
		}
		if !in.signedIn() {
			t.Error("signed out by a link")
		}
	})
}

// foreignForms are the headers with which browsers send the forms of other sites.
func foreignForms() map[string]http.Header {
	return map[string]http.Header{
		"another site":        {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}},
		"a sibling":           {"Origin": {"https://evil.id.test"}, "Sec-Fetch-Site": {"same-site"}},
		"another port":        {"Origin": {issuer + ":8443"}, "Sec-Fetch-Site": {"same-site"}},
		"plain http":          {"Origin": {"http://id.test"}, "Sec-Fetch-Site": {"cross-site"}},
		"no Sec-Fetch-Site":   {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": nil},
		"no Origin":           {"Origin": nil, "Sec-Fetch-Site": {"cross-site"}},
		"a sandboxed frame":   {"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}},
		"null and no site":    {"Origin": {"null"}, "Sec-Fetch-Site": nil},
		"a sibling, old":      {"Origin": nil, "Sec-Fetch-Site": {"same-site"}},
		"nothing is said":     {"Origin": nil, "Sec-Fetch-Site": nil},
		"a lookalike":         {"Origin": {issuer + ".evil.test"}, "Sec-Fetch-Site": {"cross-site"}},
		"Origin contradicts":  {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"same-origin"}},
		"a Referer of ours":   {"Origin": nil, "Sec-Fetch-Site": nil, "Referer": {issuer + "/login"}},
		"method in the query": {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}, "X-Http-Method-Override": {"GET"}},
	}
}

// LOGIN-08: what a browser held before signing in is worth nothing after.
func TestLOGIN08_Fixation(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		// An attacker's cookies, from every page before the sign-in.
		attacker := w.newBrowser()
		f := w.acme.begin()
		attacker.arrive(f)
		attacker.get("/login")
		victim := w.newBrowser()
		for _, c := range attacker.jar.Cookies(siteURL) {
			victim.plant(c.Name, c.Value)
		}
		for _, token := range []string{"", "hse_" + strings.Repeat("A", 43), "chosen"} {
			if token != "" {
				victim.plant(sessionCookieName, token)
				attacker.plant(sessionCookieName, token)
			}
			victim.fill(victim.get("/login"), adaEmail, adaPassword).want(http.StatusOK, "/preferences/security")
			if got := victim.cookie(sessionCookieName); got == token || len(got) != 47 {
				t.Fatalf("the session's cookie is %q", got)
			}
			if attacker.signedIn() {
				t.Fatalf("the attacker is signed in with %q", token)
			}
			victim.post("/logout", url.Values{})
		}

		// An attacker's own session, planted: it ends, and does not become the victim's.
		attacker = w.newBrowser()
		attacker.signIn(bobEmail, bobPassword)
		victim.plant(sessionCookieName, attacker.cookie(sessionCookieName))
		victim.get("/login?another=1").want(http.StatusOK, "/login")
		victim.attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther)
		if victim.cookie(sessionCookieName) == attacker.cookie(sessionCookieName) {
			t.Error("the token stayed")
		}
		if attacker.signedIn() {
			t.Error("the attacker's session lives on")
		}
		victim.get("/preferences/security").wantText("Ada Lovelace")
	})
}

// person makes an account.
func (w *world) person(email, password string) *account.User {
	w.t.Helper()
	return must(w.house.accounts.CreateUser(w.t.Context(), account.NewUser{Email: email, Name: "Somebody", Password: password}, supporter))(w.t)
}

// LOGIN-09: every character of a password counts, however long it is (trap C1).
func TestLOGIN09_WholePassword(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		for _, n := range []int{72, 128, 255} {
			email, head := fmt.Sprintf("long%d@example.com", n), strings.Repeat("a", n)
			w.person(email, head+"X")
			b := w.newBrowser()
			b.attempt(email, head+"Y").wantStatus(http.StatusUnprocessableEntity)
			b.attempt(email, head).wantStatus(http.StatusUnprocessableEntity)
			if n < 255 {
				b.attempt(email, head+"XX").wantStatus(http.StatusUnprocessableEntity)
			}
			b.attempt(email, head+"X").wantStatus(http.StatusSeeOther)
		}
	})
}

// LOGIN-10: what is too long is not hashed, and not read to its end.
func TestLOGIN10_TooLong(t *testing.T) {
	eachAlone(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for _, c := range []struct {
			password string
			status   int
		}{
			{strings.Repeat("a", 257), http.StatusBadRequest},
			{strings.Repeat("é", 257), http.StatusBadRequest},
			{strings.Repeat("a", 60<<10), http.StatusBadRequest},
			{strings.Repeat("a", 1<<20), http.StatusRequestEntityTooLarge},
			{strings.Repeat("a", 10<<20), http.StatusRequestEntityTooLarge},
		} {
			for range 3 {
				var p *page
				body := url.Values{"email": {adaEmail}, "password": {c.password}}.Encode()
				if n := hashes(func() { p = b.stream("/login", strings.NewReader(body), int64(len(body))) }); n != 0 && len(body) < 1<<20 {
					t.Errorf("%d characters: %d hashes", len(c.password), n)
				}
				p.wantStatus(c.status)
			}
		}
		// They cost the person nothing: fifteen attempts, and no throttle.
		if n := w.count("throttles"); n != 0 {
			t.Errorf("%d throttles", n)
		}
		b.attempt(adaEmail, strings.Repeat("a", 256)).wantStatus(http.StatusUnprocessableEntity)
	})
}

// stream posts a body as it comes. A length of -1 is one that is not known.
func (b *browser) stream(to string, body io.Reader, length int64, headers ...http.Header) *page {
	b.w.t.Helper()
	r := must(http.NewRequestWithContext(b.w.t.Context(), http.MethodPost, issuer+to, body))(b.w.t)
	r.ContentLength = length
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", issuer)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, h := range headers {
		maps.Copy(r.Header, h)
	}
	res := must(b.http.Do(r))(b.w.t)
	defer res.Body.Close()
	text := must(io.ReadAll(res.Body))(b.w.t)
	return &page{t: b.w.t, url: r.URL, status: res.StatusCode, header: res.Header, body: string(text)}
}

// endless is a body that never ends, and counts what was read of it.
type endless struct {
	head io.Reader
	read int64
}

func (e *endless) Read(b []byte) (int, error) {
	n, err := e.head.Read(b)
	if err != nil || n == 0 {
		for i := range b {
			b[i] = 'a'
		}
		n = len(b)
	}
	e.read += int64(n)
	return n, nil
}

// DOS-01: a body without end, with and without a length, is left alone early.
func TestDOS01_BodyWithoutEnd(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for _, path := range []string{"/login", "/logout", "/authorize", "/end_session", "/oauth/token", "/userinfo"} {
			for _, length := range []int64{100 << 20, -1} {
				body := &endless{head: strings.NewReader("grant_type=authorization_code&email=")}
				p := b.stream(path, body, length)
				p.wantStatus(http.StatusRequestEntityTooLarge)
				if body.read > 70<<10 {
					t.Errorf("%s: %d bytes were read of %d", path, body.read, length)
				}
			}
		}
		// What cannot have a body is not read either.
		body := &endless{head: strings.NewReader("")}
		b.stream("/jwks", body, -1)
		b.stream("/nowhere", body, -1)
		b.stream("/static/app.css", body, -1)
		if body.read > 3*70<<10 {
			t.Errorf("%d bytes were read for pages without forms", body.read)
		}
	})
}

// DOS-05: forms of many fields, strange fields, and great fields.
func TestDOS05_StrangeForms(t *testing.T) {
	oneAlone(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		many := strings.Repeat("a&", 30000)
		distinct := "client_id=acme"
		for i := range 5000 {
			distinct += fmt.Sprintf("&f%d=", i)
		}
		for _, path := range []string{"/login", "/logout", "/authorize", "/end_session", "/oauth/token", "/userinfo"} {
			for body, want := range map[string][]int{
				many:                                   {http.StatusBadRequest},
				distinct:                               {http.StatusBadRequest},
				"email=" + strings.Repeat("a", 10<<20): {http.StatusRequestEntityTooLarge},
				"a.99999999.b=1&a[b][c]=2&a.b.c.d.e.f.g=3&[]=4&=5&&&%5B0%5D=": {200, 303, 400, 401, 422},
				"email=a&email=b":    {http.StatusBadRequest},
				"email=%":            {http.StatusBadRequest},
				"email=%ff%fe":       {http.StatusBadRequest},
				"email=%00":          {http.StatusBadRequest},
				"email=a;password=b": {http.StatusBadRequest},
				"client_id[]=acme&scope.0=openid&code.9=1":   {200, 303, 400, 401, 422},
				"client_id=acme&" + strings.Repeat("&", 150): {200, 303, 400, 401, 422},
			} {
				n := hashes(func() {
					if p := b.stream(path, strings.NewReader(body), int64(len(body))); !slices.Contains(want, p.status) {
						t.Errorf("%s %.40q: got %d, want %d\n%s", path, body, p.status, want, p.body)
					}
				})
				if len(body) <= 64<<10 && n > 1 {
					t.Errorf("%s %.40q takes %d MiB", path, body, n*19)
				}
			}
		}
	})
}

// DOS-03: a thousand cookies, and ten thousand headers. (More bytes than 16 KiB
// the listener refuses: TestHeaderLimit.)
func TestDOS03_Headers(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		header := http.Header{}
		for i := range 1000 {
			header.Add("Cookie", fmt.Sprintf("c%d=%d", i, i))
		}
		for i := range 10000 {
			header.Add(fmt.Sprintf("X-%d", i), "1")
			header.Add("X-Forwarded-For", "192.0.2.1, 192.0.2.2")
		}
		for _, path := range []string{"/login", "/preferences/security", w.acme.begin().url(), "/jwks", "/nowhere"} {
			if p := b.once(http.MethodGet, path, nil, header); p.status >= 500 {
				t.Errorf("%s: %d", path, p.status)
			}
		}
	})
}

// LOGIN-11: what a person types is the same password on every keyboard; case and
// length count.
func TestLOGIN11_Unicode(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for email, c := range map[string]struct{ password, same, other string }{
			"cafe@example.com":   {"caf\u00e9-crème-brûlée", "cafe\u0301-cre\u0300me-bru\u0302le\u0301e", "cafe-creme-brulee"},
			"nfd@example.com":    {"cafe\u0301-cre\u0300me-bru\u0302le\u0301e", "caf\u00e9-crème-brûlée", "CAF\u00c9-crème-brûlée"},
			"emoji@example.com":  {strings.Repeat("😀", 64), strings.Repeat("😀", 64), strings.Repeat("😀", 63)},
			"most@example.com":   {strings.Repeat("😀", 256), strings.Repeat("😀", 256), strings.Repeat("😀", 255)},
			"hangul@example.com": {strings.Repeat("각", 256), norm.NFD.String(strings.Repeat("각", 256)), strings.Repeat("각", 255)},
			"case@example.com":   {"Correct Horse Battery", "Correct Horse Battery", "correct horse battery"},
			"spaces@example.com": {" two  spaces\tand a tab ", " two  spaces\tand a tab ", "two  spaces\tand a tab"}, // LOGIN-12
		} {
			w.person(email, c.password)
			b.attempt(email, c.other).wantStatus(http.StatusUnprocessableEntity)
			if p := b.attempt(email, c.same); p.status != http.StatusSeeOther {
				t.Errorf("%s: %d", email, p.status)
			}
		}
	})
}

// LOGIN-13: what is not text is refused before anything looks at it, and what
// nobody can see is nobody's address.
func TestLOGIN13_NotText(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		w.person("eleven@example.com", "twelve letters")
		for _, c := range []struct {
			email, password string
			status          int
		}{
			{"eleven@example.com", "twelve letters%00x", http.StatusBadRequest},
			{"eleven@example.com", "twelve letters%00", http.StatusBadRequest},
			{"eleven@example.com%00", "twelve letters", http.StatusBadRequest},
			{"%00eleven@example.com", "twelve letters", http.StatusBadRequest},
			{"eleven@example.com", "%ff%fe", http.StatusBadRequest},
			{"%ff%fe@example.com", "twelve letters", http.StatusBadRequest},
			{"eleven@example.com", "twelve letters%EF%BF%BF", http.StatusUnprocessableEntity},
			{"eleven@example.com%EF%BF%BF", "twelve letters", http.StatusUnprocessableEntity},
			{"eleven@example.com", "twelve letters%E2%80%AE", http.StatusUnprocessableEntity},
			{"%E2%80%AEeleven@example.com", "twelve letters", http.StatusUnprocessableEntity},
			{"eleven%E2%80%8B@example.com", "twelve letters", http.StatusUnprocessableEntity},
			{"eleven@example.com,ada@example.com", "twelve letters", http.StatusUnprocessableEntity},
			{"Eleven <eleven@example.com>", "twelve letters", http.StatusUnprocessableEntity},
			{"eleven@example.com%0d%0aBcc: x@example.com", "twelve letters", http.StatusUnprocessableEntity},
			{"' OR 1=1 --", "' OR 1=1 --", http.StatusUnprocessableEntity},
			{"%25@example.com", "twelve letters", http.StatusUnprocessableEntity},
			{"", "", http.StatusUnprocessableEntity},
			{strings.Repeat("e", 60000) + "@example.com", "x", http.StatusUnprocessableEntity},
		} {
			body := "email=" + c.email + "&password=" + strings.ReplaceAll(c.password, " ", "+")
			body = strings.ReplaceAll(strings.ReplaceAll(body, "'", "%27"), " ", "+")
			w.exec(`DELETE FROM throttles`)
			p := b.stream("/login", strings.NewReader(body), int64(len(body)))
			if p.status != c.status || b.signedIn() {
				t.Errorf("%.60q: got %d, want %d", body, p.status, c.status)
			}
		}
		b.attempt(" ELEVEN@Example.com ", "twelve letters").wantStatus(http.StatusSeeOther)
	})
}

// LOGIN-14: whoever signs in stays here.
func TestLOGIN14_NowhereElse(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		for _, to := range []string{
			"//evil.test", "https:evil.test", "https://evil.test/", `/\evil.test`, `\\evil.test`, "/\tevil.test", "/%09/evil.test", "/\n/evil.test",
			"javascript:alert(1)", "data:text/html,x", "https://id.test@evil.test/", "//id.test@evil.test", "\u2215evil.test", "/\u2215evil.test", "/\u2044evil.test", "/..//evil.test", "/.//evil.test",
			" //evil.test", "\x00//evil.test", "https://id.test.evil.test", "evil.test", "?x", "#x", "/preferences/security#//evil.test", "/%2f%2fevil.test", "/%5cevil.test", "///evil.test", "/login/../..//evil.test", "http://id.test/login",
		} {
			b := w.newBrowser()
			if strings.Contains(to, "\x00") {
				b.once(http.MethodGet, "/login?"+url.Values{"to": {to}}.Encode(), nil, nil).wantStatus(http.StatusBadRequest)
				continue
			}
			p := b.get("/login?" + url.Values{"to": {to}}.Encode())
			p.want(http.StatusOK, "/login")
			if got := p.form("/login").Get("to"); got != "/preferences/security" {
				t.Errorf("%q: the form leads to %q", to, got)
			}
			w.exec(`DELETE FROM throttles`)
			w.weaken(w.ada.ID, adaPassword)
			p = b.once(http.MethodPost, "/login", url.Values{"email": {adaEmail}, "password": {adaPassword}, "to": {to}}, nil)
			if got := p.header.Get("Location"); p.status != http.StatusSeeOther || got != "/preferences/security" {
				t.Errorf("%q leads to %d %q", to, p.status, got)
			}
			p = b.once(http.MethodGet, "/login?"+url.Values{"to": {to}}.Encode(), nil, nil)
			if got := p.header.Get("Location"); p.status != http.StatusSeeOther || got != "/preferences/security" {
				t.Errorf("%q leads who is signed in to %d %q", to, p.status, got)
			}
		}
	})
}

// LOGIN-15: credentials are taken from one form in the body, and from nowhere else.
func TestLOGIN15_OnlyTheForm(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		query := url.Values{"email": {adaEmail}, "password": {adaPassword}}.Encode()
		b.once(http.MethodGet, "/login?"+query, nil, nil).wantStatus(http.StatusOK)
		p := b.once(http.MethodPost, "/login?"+query, url.Values{}, nil)
		p.wantStatus(http.StatusUnprocessableEntity)
		for kind, body := range map[string]string{
			"application/json": `{"email":"` + adaEmail + `","password":"` + adaPassword + `"}`,
			"text/plain":       query,
			"":                 query,
			"multipart/form-data; boundary=x": "--x\r\nContent-Disposition: form-data; name=\"email\"\r\n\r\n" + adaEmail + "\r\n--x\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n" +
				adaPassword + "\r\n--x--\r\n",
			"application/x-www-form-urlencoded; charset=utf-16": query,
		} {
			b.stream("/login", strings.NewReader(body), int64(len(body)), http.Header{"Content-Type": {kind}}).wantStatus(http.StatusUnsupportedMediaType)
		}
		for _, body := range []string{query + "&email=x", "email=x&" + query, query + "&password=" + url.QueryEscape(adaPassword), query + "&to=/&to=/"} {
			b.stream("/login", strings.NewReader(body), int64(len(body))).wantStatus(http.StatusBadRequest)
		}
		if b.signedIn() {
			t.Error("signed in")
		}
		if strings.Contains(w.log.String(), "engine") {
			t.Error("the log has the password")
		}
	})
}

// LOGIN-16: a hash of yesterday is made anew by whoever signs in, also by many at
// once, and every one of them gets in.
func TestLOGIN16_Rehash(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		browsers := make([]*browser, racers)
		release(func(i int) {
			browsers[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", i))
			if p := browsers[i].attempt(adaEmail, adaPassword); p.status != http.StatusSeeOther {
				t.Errorf("%d", p.status)
			}
		})
		for i, b := range browsers {
			if !b.signedIn() {
				t.Errorf("browser %d is not signed in", i)
			}
		}
		hash := w.hash(w.ada.ID)
		if !currentHash.MatchString(hash) {
			t.Errorf("the hash is %s", hash)
		}
		w.newBrowser().attempt(adaEmail, "wrong").wantStatus(http.StatusUnprocessableEntity)
		w.newBrowser().attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther)
		if w.hash(w.ada.ID) != hash {
			t.Error("a hash of today was made anew")
		}
	})
}

// currentHash is CR-07's: OWASP's parameters, a salt of 128 bits, 256 bits of hash.
var currentHash = regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`)

func (w *world) hash(id string) (hash string) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), `SELECT password_hash FROM users WHERE id = $1`, id).Scan(&hash); err != nil {
		w.t.Fatal(err)
	}
	return hash
}

// CR-07: a salt of its own for each.
func TestCR07_PasswordHashes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		seen := map[string]bool{}
		for i := range 3 {
			hash := w.hash(w.person(fmt.Sprintf("twin%d@example.com", i), "the same for everybody").ID)
			if !currentHash.MatchString(hash) {
				t.Errorf("the hash is %s", hash)
			}
			salt := strings.Split(hash, "$")[4]
			if seen[salt] {
				t.Error("a salt stands there twice")
			}
			seen[salt] = true
		}
	})
}

// LOGIN-18: more people than can wait at once are told so, whether they exist or
// not, and nothing of the rest is lost.
func TestLOGIN18_TooManyAtOnce(t *testing.T) {
	w := wellBehaved(t, "sqlite")
	h := w.newReplica(func(c *houseConfig) { c.account.HashMemory = 1 }) // one at a time
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var busy atomic.Pointer[page]
	var all sync.WaitGroup
	for i := range 2000 {
		all.Go(func() {
			address := fmt.Sprintf("[2001:db8:%x::1]", i)
			body := url.Values{"email": {fmt.Sprintf("nobody%d@example.com", i)}, "password": {adaPassword}}.Encode()
			r := must(http.NewRequestWithContext(ctx, http.MethodPost, issuer+"/login", strings.NewReader(body)))(t)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", issuer)
			res, err := network{h, address}.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			text := must(io.ReadAll(res.Body))(t)
			if res.StatusCode == http.StatusServiceUnavailable {
				busy.Store(&page{t: t, url: r.URL, status: res.StatusCode, header: res.Header, body: string(text)})
				enough() // the others go home
			}
		})
	}
	all.Wait()
	p := busy.Load()
	if p == nil {
		t.Fatal("all of them wait")
	}
	p.wantText("Many people are signing in at this moment. Try again in 5 seconds.")
	if p.header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After: %q", p.header.Get("Retry-After"))
	}
	w.browserAt(h, "192.0.2.1").attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther)
}

// LOGIN-18: as many as the memory allows at once, and all of them in the end.
func TestLOGIN18_AllInTheEnd(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		release(func(i int) {
			b := w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", i))
			if p := b.attempt(adaEmail, adaPassword); p.status != http.StatusSeeOther || !b.signedIn() {
				t.Errorf("%d", p.status)
			}
		})
	})
}

// OP-02: whose address counts. Only a listed proxy may say it, and only the
// right-most address that is not a proxy's is believed.
func TestOP02_ForwardedFor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			w := wellBehaved(t, engine)
			w.weaken(w.ada.ID, adaPassword)
			h := w.newReplica(func(c *houseConfig) { c.proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
			guess := func(peer string, forwarded ...string) int {
				b := w.browserAt(h, peer)
				return b.once(http.MethodPost, "/login", url.Values{"email": {adaEmail}, "password": {"guess"}}, http.Header{"X-Forwarded-For": forwarded, "Forwarded": {"for=203.0.113.99"}, "X-Real-Ip": {"203.0.113.98"}}).status
			}
			for i := range 10 { // a stranger who makes addresses up
				if got := guess("198.51.100.1", fmt.Sprintf("203.0.113.%d", i)); got != http.StatusUnprocessableEntity {
					t.Fatalf("guess %d: %d", i, got)
				}
			}
			if got := guess("198.51.100.1", "203.0.113.11"); got != http.StatusTooManyRequests {
				t.Errorf("a stranger's made-up address counts: %d", got)
			}
			for i := range 10 { // the same through the proxy, which adds the true one
				if got := guess("10.1.1.1", fmt.Sprintf("203.0.113.%d, 198.51.100.2", i), "10.2.2.2"); got != http.StatusUnprocessableEntity {
					t.Fatalf("guess %d: %d", i, got)
				}
			}
			if got := guess("10.1.1.1", "203.0.113.12, 198.51.100.2"); got != http.StatusTooManyRequests {
				t.Errorf("a made-up left part counts: %d", got)
			}
			if got := guess("10.1.1.1", "198.51.100.3"); got != http.StatusUnprocessableEntity {
				t.Errorf("another person behind the proxy: %d", got)
			}
			b := w.browserAt(h, "10.1.1.1")
			b.header.Set("X-Forwarded-For", "203.0.113.13, 198.51.100.4")
			b.signIn(adaEmail, adaPassword)
			var address string
			if err := w.db.QueryRow(t.Context(), `SELECT address FROM sessions WHERE user_id = $1`, w.ada.ID).Scan(&address); err != nil || address != "198.51.100.4" {
				t.Errorf("the session has address %q, %v", address, err)
			}
			if log := w.log.String(); !strings.Contains(log, `"address":"198.51.100.4"`) || strings.Contains(log, "203.0.113.") {
				t.Error("the log has another address")
			}
		})
	})
}
