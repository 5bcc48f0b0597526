package main

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
)

// watched has the world's provider counted from now on, and returns what operators ask.
func (w *world) watched(edits ...func(*houseConfig)) *admin {
	w.t.Helper()
	m := newMetrics()
	w.house = w.newReplica(append(slices.Clone(edits), func(c *houseConfig) { m.watch(c) })...)
	m.registry.MustRegister(newStateCollector(w.db))
	return &admin{db: w.db, keys: idp.NewKeys(w.db, nil), metrics: m, log: quietLog}
}

// asks sends one request to an admin listener.
func (a *admin) asks(t testing.TB, path string) (status int, body string) {
	t.Helper()
	rec := httptest.NewRecorder()
	a.handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

// A scrape is the metrics of one moment, by name and labels as they stand in it.
type scrape map[string]float64

var sampleRE = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^}]*\})?) (\S+)$`)

func readScrape(t testing.TB, text string) scrape {
	t.Helper()
	s := scrape{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sampleRE.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no sample: %q", line)
		}
		s[m[1]] = must(strconv.ParseFloat(m[2], 64))(t)
	}
	return s
}

func (a *admin) scrape(t testing.TB) scrape {
	t.Helper()
	status, text := a.asks(t, pathMetrics)
	if status != http.StatusOK {
		t.Fatalf("scrape: %d %s", status, text)
	}
	return readScrape(t, text)
}

// counted runs act and compares which counters of decisions went up, and by how much.
func (a *admin) counted(t testing.TB, what string, act func(), want scrape) {
	t.Helper()
	decisions := func() scrape {
		s := a.scrape(t)
		maps.DeleteFunc(s, func(name string, _ float64) bool {
			base, _, _ := strings.Cut(name, "{")
			return !strings.HasPrefix(name, metricsPrefix) || !strings.HasSuffix(base, "_total") || strings.Contains(name, "db_pool")
		})
		return s
	}
	before := decisions()
	act()
	got := scrape{}
	for name, v := range decisions() {
		if d := v - before[name]; d != 0 {
			got[strings.TrimPrefix(name, metricsPrefix+"_")] = d
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// Each decision is counted once, where it is made, whichever page it came by.
func TestMetricsOfSignIn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		a := w.watched()
		hashed := a.scrape(t)["harmony_id_password_hash_seconds_count"]
		b := w.newBrowser()
		a.counted(t, "a wrong password", func() { b.attempt(bobEmail, "not his password") }, scrape{`signin_total{method="password",result="wrong"}`: 1})
		a.counted(t, "nobody's address", func() { b.attempt("nobody@example.com", "not a password") }, scrape{`signin_total{method="password",result="wrong"}`: 1})
		a.counted(t, "a password that cannot be", func() { b.attempt(bobEmail, strings.Repeat("x", 5000)) }, scrape{`signin_total{method="password",result="wrong"}`: 1})
		a.counted(t, "the right password", func() { b.signIn(bobEmail, bobPassword) }, scrape{`signin_total{method="password",result="ok"}`: 1})
		if n := a.scrape(t)["harmony_id_password_hash_seconds_count"] - hashed; n != 3 {
			t.Errorf("%v hashes, want 3: one is not hashed", n)
		}
		a.counted(t, "eleven times wrong", func() {
			c := w.browserAt(w.house, "192.0.2.66")
			for range 11 {
				c.attempt("nobody@example.com", "guess")
			}
		}, scrape{
			`signin_total{method="password",result="wrong"}`: 10, `signin_total{method="password",result="throttled"}`: 1, `throttled_total{lane="password/account-network"}`: 1,
		})

		// The second factor.
		ada := w.newBrowser()
		ada.signIn(adaEmail, adaPassword)
		app := ada.enable()
		c := w.newBrowser()
		var half *page
		a.counted(t, "the first of two proofs", func() { half = c.half(adaEmail, adaPassword) }, scrape{`signin_total{method="password",result="half"}`: 1})
		a.counted(t, "a wrong code", func() { half = c.verify(half, app.wrong()) }, scrape{`second_factor_total{result="wrong"}`: 1})
		time.Sleep(31 * time.Second) // past the step of the set-up
		code := app.code()
		a.counted(t, "the right code", func() { c.verify(half, code) }, scrape{`second_factor_total{result="ok"}`: 1, `signin_total{method="password",result="ok"}`: 1})
		a.counted(t, "the same code again", func() {
			d := w.newBrowser()
			d.verify(d.half(adaEmail, adaPassword), code)
		}, scrape{`signin_total{method="password",result="half"}`: 1, `second_factor_total{result="used"}`: 1})
		a.counted(t, "a backup code", func() {
			d := w.newBrowser()
			d.half(adaEmail, adaPassword)
			d.useBackupCode(app.codes[0]).want(http.StatusOK, "/login/backup-code/used")
		}, scrape{`signin_total{method="password",result="half"}`: 1, `second_factor_total{result="ok"}`: 1, `signin_total{method="password",result="ok"}`: 1})
		a.counted(t, "codes without end", func() {
			d := w.browserAt(w.house, "192.0.2.67")
			p := d.half(adaEmail, adaPassword)
			for range 10 {
				if p.status == http.StatusOK || p.status == http.StatusUnprocessableEntity {
					p = d.verify(p, app.wrong())
				}
			}
		}, scrape{
			`signin_total{method="password",result="half"}`: 1, `second_factor_total{result="wrong"}`: 3, // of five in this window two were not right before
			`second_factor_total{result="throttled"}`: 1, `throttled_total{lane="code/account"}`: 1,
		})

		// Passkeys.
		grace := w.newBrowser()
		grace.signIn(bobEmail, bobPassword)
		key := newSoftKey()
		grace.add(key, "Phone")
		a.counted(t, "a passkey", func() { w.newBrowser().withKey(key).want(http.StatusOK, "/preferences/security") }, scrape{`signin_total{method="passkey",result="ok"}`: 1})
		a.counted(t, "a passkey that nobody has", func() { w.newBrowser().withKey(newSoftKey()) }, scrape{`signin_total{method="passkey",result="wrong"}`: 1})
		a.counted(t, "an answer to nothing", func() {
			w.newBrowser().post(pathPasskey, url.Values{"credential": {"{}"}})
		}, scrape{`signin_total{method="passkey",result="over"}`: 1})

		// Nothing in a scrape says who it was.
		_, text := a.asks(t, pathMetrics)
		for _, who := range append(column(t, w, `SELECT id FROM users`), append(column(t, w, `SELECT id FROM sessions`), adaEmail, bobEmail, "nobody", "192.0.2", "acme", "Acme")...) {
			if strings.Contains(text, who) {
				t.Errorf("the metrics have %s", who)
			}
		}
	})
}

func TestMetricsOfGoogle(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		a := w.watched(g.join(func(c *login.GoogleConfig) { c.Domains = []string{"example.com"} }))
		a.counted(t, "another domain", func() { w.newBrowser().withGoogle(g, pathGoogle, vera()) }, scrape{`signin_total{method="google",result="refused"}`: 1})
		a.counted(t, "a new person", func() { w.newBrowser().withGoogle(g, pathGoogle, vera("hd", "example.com")) }, scrape{`signin_total{method="google",result="ok"}`: 1})
		a.counted(t, "an address with a password", func() {
			w.newBrowser().withGoogle(g, pathGoogle, somebody("sub-of-ada", adaEmail, "hd", "example.com"))
		}, scrape{`signin_total{method="google",result="refused"}`: 1})
		a.counted(t, "a Google that fails", func() {
			g.tell(func() {
				g.answer = func(at string, _ *http.Request) (*http.Response, error) {
					if at == googleToken {
						return nil, errors.New("nobody is there")
					}
					return nil, nil
				}
			})
			w.newBrowser().withGoogle(g, pathGoogle, vera("hd", "example.com")).wantStatus(http.StatusBadGateway)
		}, scrape{`signin_total{method="google",result="unavailable"}`: 1})
	})
}

func TestMetricsOfTokens(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		machine := w.add(machine("jwt"))
		a := w.watched()
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		var k *tokens
		a.counted(t, "a code", func() { k = b.connect(w.acme, adaEmail, adaPassword) }, scrape{`token_issued_total{grant="authorization_code"}`: 1})
		a.counted(t, "a refresh token", func() { w.acme.refresh(k.RefreshToken).ok() }, scrape{`token_issued_total{grant="refresh_token"}`: 1})
		a.counted(t, "a refresh token that is none", func() { w.acme.refresh(k.RefreshToken + "x") }, scrape{})
		a.counted(t, "a client as itself", func() { machine.itself("") }, scrape{`token_issued_total{grant="client_credentials"}`: 1})
		f, code := b.again(w.acme)
		f.redeem(code).ok()
		a.counted(t, "a code, again", func() {
			f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
			f.redeem(code).refused(http.StatusBadRequest, "invalid_grant") // its grant has ended before
		}, scrape{`code_reuse_total`: 1})
		public := b.connect(w.globex, adaEmail, adaPassword)
		time.Sleep(time.Minute)
		w.globex.refresh(public.RefreshToken).ok()
		time.Sleep(time.Minute)
		a.counted(t, "one that was given up", func() {
			w.globex.refresh(public.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
			w.globex.refresh(public.RefreshToken).refused(http.StatusBadRequest, "invalid_grant") // its grant has ended before
		}, scrape{`refresh_reuse_total`: 1})
	})
}

// What is to be told is counted by how it went, and how old the oldest of it is.
func TestMetricsOfOutboxes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		hooli := w.listens("hooli")
		w.forget()
		a := w.watched()
		oldest := func(outbox string) float64 {
			return a.scrape(t)[`harmony_id_outbox_oldest_seconds{outbox="`+outbox+`"}`]
		}
		w.mails() // of the people who were created
		if oldest("mail") != 0 || oldest("logout") != 0 {
			t.Error("something waits, and nothing happened yet")
		}
		b := w.newBrowser()
		b.connect(hooli, adaEmail, adaPassword) // a new browser: she is told
		a.counted(t, "a mail server that refuses", func() {
			w.post.mu.Lock()
			w.post.refuse = errors.New("not now")
			w.post.mu.Unlock()
			w.mails()
		}, scrape{`mail_total{result="delayed"}`: 1})
		time.Sleep(2 * time.Minute)
		if got := oldest("mail"); got < 120 || got > 130 {
			t.Errorf("the oldest mail is %v s old, want 120", got)
		}
		w.post.mu.Lock()
		w.post.refuse = nil
		w.post.mu.Unlock()
		a.counted(t, "one that takes it", func() { w.mails() }, scrape{`mail_total{result="sent"}`: 1})
		if got := oldest("mail"); got != 0 {
			t.Errorf("a mail of %v s waits, want none", got)
		}

		w.answers("hooli.test", status(http.StatusServiceUnavailable))
		b.post("/logout", url.Values{})
		if got := oldest("logout"); got > 1 { // the page after it waits a little for answers
			t.Errorf("told %v s late at once", got)
		}
		a.counted(t, "a workspace that is down", func() { w.told() }, scrape{`bcl_deliveries_total{result="delayed"}`: 1})
		time.Sleep(time.Hour)
		if got := oldest("logout"); got < 3600 || got > 3610 {
			t.Errorf("the oldest logout is %v s old, want 3600", got)
		}
		w.answers("hooli.test", status(http.StatusOK))
		a.counted(t, "one that is back", func() { w.told() }, scrape{`bcl_deliveries_total{result="confirmed"}`: 1})
		if got := oldest("logout"); got != 0 {
			t.Errorf("a logout of %v s waits, want none", got)
		}
	})
}

// What the database knows is read at each scrape; without it the rest is told all the
// same.
func TestMetricsOfState(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		a := w.watched()
		before := a.scrape(t)
		time.Sleep(24 * time.Hour)
		s := a.scrape(t)
		for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
			name := `harmony_id_signing_key_age_seconds{alg="` + alg + `"}`
			if d := s[name] - before[name]; d != 24*3600 {
				t.Errorf("%s grew by %v in a day", name, d)
			}
		}
		if s["harmony_id_database_up"] != 1 || s["harmony_id_db_pool_max_connections"] < 2 || before["harmony_id_db_pool_open_connections"] < 1 {
			t.Errorf("up %v, pool of %v with %v open", s["harmony_id_database_up"], s["harmony_id_db_pool_max_connections"], before["harmony_id_db_pool_open_connections"])
		}
		if _, ok := s["harmony_id_clock_offset_seconds"]; !ok {
			t.Error("nothing says how the clock is")
		}
		b := w.newBrowser()
		b.get("/login")
		b.once(http.MethodGet, "/nowhere", nil, nil)
		b.once(http.MethodGet, "/", nil, nil)
		after := a.scrape(t)
		for _, class := range []string{"2xx", "3xx", "4xx"} {
			if name := `harmony_id_http_request_seconds_count{status="` + class + `"}`; after[name]-s[name] != 1 {
				t.Errorf("%s is %v, was %v", name, after[name], s[name])
			}
		}
		must(1, w.db.Close())(t)
		s = a.scrape(t)
		if s["harmony_id_database_up"] != 0 || s[`harmony_id_http_request_seconds_count{status="2xx"}`] == 0 {
			t.Errorf("without a database: up %v", s["harmony_id_database_up"])
		}
	})
}
