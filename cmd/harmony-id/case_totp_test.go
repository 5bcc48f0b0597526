package main

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db/dbtest"
)

// The security cases of two-factor authentication (TOTP), with those of sign-in
// that it brings.

// twoFactor gives Ada two-factor authentication, and the step of her set-up's
// code time to pass.
func (w *world) twoFactor() (*browser, *app) {
	w.t.Helper()
	b := w.newBrowser()
	b.signIn(adaEmail, adaPassword)
	a := b.enable()
	time.Sleep(30 * time.Second)
	w.mails()
	return b, a
}

// twoFactorNow is twoFactor for races, in which no time passes: the step of the
// set-up's code is put back.
func (w *world) twoFactorNow() *app {
	w.t.Helper()
	b := w.newBrowser()
	b.signIn(adaEmail, adaPassword)
	a := b.enable()
	w.exec(`UPDATE totp SET last_step = 0`)
	return a
}

// The seeds' story: once it is on, a code is asked for in every new session, and
// one session serves every workspace.
func TestTwoFactorStory(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		first, a := w.twoFactor()
		first.get("/preferences/security").wantText("Two-factor authentication is on")

		b := w.newBrowser()
		f := w.acme.begin()
		p := b.fill(b.get(f.url()), adaEmail, adaPassword)
		p.want(http.StatusOK, "/login/verify")
		p.wantText("a•••a@example.com")
		p = b.verify(p, a.code())
		claims := f.redeem(f.code(p)).ok().claims()
		if fmt.Sprint(claims["amr"]) != "[pwd otp mfa]" || claims["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", claims["amr"], claims["acr"])
		}
		if at := int64(claims["auth_time"].(float64)); at != time.Now().Unix() {
			t.Errorf("auth_time %d, now %d", at, time.Now().Unix())
		}
		g := w.globex.begin()
		g.code(b.get(g.url()))

		// max_age and prompt=login ask for everything again.
		time.Sleep(time.Minute)
		for _, demand := range [][]string{{"max_age", "30"}, {"prompt", "login"}} {
			f = w.acme.begin(demand...)
			p = b.get(f.url())
			p.want(http.StatusOK, "/login")
			p = b.fill(p, adaEmail, adaPassword)
			p.want(http.StatusOK, "/login/verify")
			f.code(b.verify(p, a.code()))
			time.Sleep(time.Minute)
		}
	})
}

// TOTP-01: a code serves once, in whichever browser.
func TestTOTP01_Once(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		code := a.code()
		b := w.newBrowser()
		b.verify(b.half(adaEmail, adaPassword), code).want(http.StatusOK, "/preferences/security")
		for _, typed := range []string{code, " " + code, code[:3] + " " + code[3:], code[:3] + "-" + code[3:] + "\n", "\u00a0" + code} { // trap P1
			c := w.newBrowser()
			p := c.verify(c.half(adaEmail, adaPassword), typed)
			p.want(http.StatusUnprocessableEntity, "/login/verify")
			p.wantText("already used")
			if c.signedIn() {
				t.Fatalf("%q signed in a second time", typed)
			}
		}
	})
}

// TOTP-02: of those who come at once with one code, one gets in.
func TestTOTP02_Race(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		a := w.twoFactorNow()
		var bs [racers]*browser
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].half(adaEmail, adaPassword)
		}
		w.exec(`UPDATE totp SET last_step = 0`)
		code := a.code()
		var in atomic.Int64
		release(func(i int) {
			if p := bs[i].once(http.MethodPost, "/login/verify", url.Values{"code": {code}}, nil); p.status == http.StatusSeeOther {
				in.Add(1)
			}
		})
		if in.Load() != 1 {
			t.Errorf("%d browsers got in with one code", in.Load())
		}
		for i := range bs {
			if bs[i].signedIn() {
				in.Add(-1)
			}
		}
		if in.Load() != 0 {
			t.Errorf("%d more browsers are signed in than were let in", -in.Load())
		}
	})
}

// TOTP-03, OTP-8: a half sign-in survives ten wrong codes; then its password has
// to be given again.
func TestTOTP03_TriesOfOneSignIn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		b.half(adaEmail, adaPassword)
		for i := 1; i <= 10; i++ {
			w.exec(`DELETE FROM throttles`) // the account's limit is another case
			want := http.StatusUnprocessableEntity
			if i == 10 {
				want = http.StatusSeeOther // back to the password
			}
			b.once(http.MethodPost, "/login/verify", url.Values{"code": {a.wrong()}}, nil).wantStatus(want)
		}
		w.exec(`DELETE FROM throttles`)
		b.post("/login/verify", url.Values{"code": {a.code()}}).want(http.StatusOK, "/login")
		if b.signedIn() {
			t.Error("the eleventh try got in")
		}
	})
}

// TOTP-04, TOTP-05: the limit is the account's. A right password does not reset
// it, other browsers share it, and many at once get no more.
func TestTOTP04_TriesOfTheAccount(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		for i := range 5 {
			b := w.browserAt(w.house, fmt.Sprintf("192.0.2.%d", 100+i))
			b.verify(b.half(adaEmail, adaPassword), a.wrong()).want(http.StatusUnprocessableEntity, "/login/verify")
		}
		b := w.browserAt(w.newReplica(), "192.0.2.200")
		p := b.verify(b.half(adaEmail, adaPassword), a.code())
		p.want(http.StatusTooManyRequests, "/login/verify")
		if p.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		p.wantText("Try again in")
		time.Sleep(5 * time.Minute)
		b.verify(b.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")
	})
}

func TestTOTP05_ParallelGuesses(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		a := w.twoFactorNow()
		var bs [racers]*browser
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].half(adaEmail, adaPassword)
		}
		var judged atomic.Int64
		release(func(i int) {
			if p := bs[i].once(http.MethodPost, "/login/verify", url.Values{"code": {a.wrong()}}, nil); p.status == http.StatusUnprocessableEntity {
				judged.Add(1)
			}
		})
		if n := judged.Load(); n == 0 || n > 5 {
			t.Errorf("%d codes were judged, want 5 at most", n)
		}
	})
}

// TOTP-06, TOTP-07: half is nothing.
func TestTOTP06_HalfIsNothing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		f := w.acme.begin()
		p := b.fill(b.get(f.url()), adaEmail, adaPassword)
		p.want(http.StatusOK, "/login/verify")
		resume := p.form("/login/verify").Get("to")
		if b.session() != "" {
			t.Error("a half sign-in has a session's cookie")
		}
		before := w.state()
		for _, path := range accountPages() {
			if q := b.once(http.MethodGet, path, nil, nil); q.status != http.StatusSeeOther || !strings.HasPrefix(q.header.Get("Location"), "/login?") {
				t.Errorf("GET %s: %d to %s", path, q.status, q.header.Get("Location"))
			}
		}
		for _, path := range accountActs() {
			form := url.Values{"code": {a.code()}, "saved": {"on"}, "password": {adaPassword}, "current_password": {adaPassword},
				"new_password": {"another long password 77"}, "confirm_password": {"another long password 77"}, "id": {w.sessionID()}}
			if q := b.once(http.MethodPost, path, form, nil); q.status != http.StatusSeeOther || !strings.HasPrefix(q.header.Get("Location"), "/login?") {
				t.Errorf("POST %s: %d to %s", path, q.status, q.header.Get("Location"))
			}
		}
		b.get(resume).want(http.StatusOK, "/login") // asks for the password; no code for the workspace
		quiet := w.acme.begin("prompt", "none")
		quiet.wantError(b.get(quiet.url()), "login_required")
		if after := w.state(); after != before {
			t.Errorf("something changed:\n%s\n%s", before, after)
		}
		// TOTP-14: the half sign-in ends by itself.
		time.Sleep(account.HalfLife + time.Second)
		b.post("/login/verify", url.Values{"code": {a.code()}, "to": {resume}}).want(http.StatusOK, "/login")
		b.get(resume).want(http.StatusOK, "/login")
		if b.signedIn() {
			t.Error("a half sign-in of yesterday got in")
		}
	})
}

// accountPages are the pages of a signed-in person, accountActs what they post to.
func accountPages() []string {
	return []string{
		"/preferences/security", pathTwoFactor, "/preferences/security/2fa/off", "/preferences/security/2fa/codes",
		"/preferences/sessions", "/preferences/sessions/end", "/preferences/sessions/end-others", "/preferences/activity", "/preferences/not-me",
		"/login/confirm", "/login/backup-code/used",
	}
}

func accountActs() []string {
	return []string{
		"/preferences/security/password", "/preferences/security/reset-email", pathTwoFactor, pathTurnOn, "/preferences/security/2fa/again",
		"/preferences/security/2fa/codes.txt", "/preferences/security/2fa/off", "/preferences/security/2fa/codes", "/preferences/security/2fa/codes/save",
		"/preferences/sessions/end", "/preferences/sessions/end-others", "/preferences/not-me", "/login/confirm",
	}
}

// state is what the database knows of people and what they were given, but for
// limits, half sign-ins and waiting requests.
func (w *world) state() string {
	w.t.Helper()
	var b strings.Builder
	for _, q := range []string{
		`SELECT id || email || COALESCE(password_hash, '') || COALESCE(password_changed_at, 0) || COALESCE(disabled_at, 0) FROM users ORDER BY id`,
		`SELECT user_id || last_step || codes_made_at FROM totp ORDER BY user_id`,
		`SELECT user_id || purpose || created_at FROM enrollments ORDER BY user_id`,
		`SELECT id || auth_time || amr || acr || COALESCE(ended_at, 0) || proved_at || COALESCE(second_at, 0) FROM sessions ORDER BY id`,
		`SELECT id || COALESCE(ended_at, 0) FROM grants ORDER BY id`,
		`SELECT user_id || kind || created_at FROM resets ORDER BY user_id`,
		`SELECT CAST(COUNT(*) AS TEXT) FROM backup_codes`,
	} {
		b.WriteString(strings.Join(w.texts(q), "\n"))
		b.WriteByte('\n')
	}
	return b.String()
}

// texts are the rows of a query of one column; there may be none.
func (w *world) texts(query string) (out []string) {
	w.t.Helper()
	rows, err := w.db.Query(w.t.Context(), query)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// TOTP-08: one step before and after, each once, never back.
func TestTOTP08_Window(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		time.Sleep(10 * time.Minute)
		try := func(step int64) bool {
			t.Helper()
			w.exec(`DELETE FROM throttles`)
			b := w.newBrowser()
			return b.verify(b.half(adaEmail, adaPassword), a.codeAt(step)).status == http.StatusOK
		}
		now := a.now()
		for _, c := range []struct {
			off  int64
			want bool
		}{{-2, false}, {2, false}, {-1, true}, {0, true}, {-1, false}, {1, true}, {0, false}, {1, false}} {
			if got := try(now + c.off); got != c.want {
				t.Errorf("step %+d: %v, want %v", c.off, got, c.want)
			}
		}
	})
}

// TOTP-09, BC-06: a set-up that was left is worth nothing, in another session it
// begins anew.
func TestTOTP09_AbandonedSetUp(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		left := b.setUp().scan()
		c := w.newBrowser()
		c.signIn(adaEmail, adaPassword) // asks for no code
		p := c.setUp()
		second := p.scan()
		if bytes.Equal(second.key, left.key) || slices.ContainsFunc(second.codes, func(s string) bool { return slices.Contains(left.codes, s) }) {
			t.Error("another session's set-up has the same key or codes")
		}
		v := p.form(pathTurnOn)
		v.Set("saved", "on")
		v.Set("code", left.code())
		c.post(pathTurnOn, v).want(http.StatusUnprocessableEntity, pathTurnOn)
		// The first session's own set-up is over.
		v.Set("code", left.code())
		b.post(pathTurnOn, v).want(http.StatusOK, "/preferences/security")
		b.get("/preferences/security").wantText("Two-factor authentication is off")
		v.Set("code", second.code())
		c.post(pathTurnOn, v).want(http.StatusOK, "/preferences/security")
		time.Sleep(30 * time.Second)
		// The codes of the first were never any use.
		d := w.newBrowser()
		d.half(adaEmail, adaPassword)
		d.useBackupCode(left.codes[0]).want(http.StatusUnprocessableEntity, "/login/backup-code")
		d.useBackupCode(second.codes[0]).want(http.StatusOK, "/login/backup-code/used")
	})
}

// TOTP-10: the code that turned it on is spent.
func TestTOTP10_EnrolmentCodeIsSpent(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		a := b.enable()
		c := w.newBrowser()
		c.verify(c.half(adaEmail, adaPassword), a.code()).want(http.StatusUnprocessableEntity, "/login/verify")
		c.verify(c.get("/login/verify"), a.codeAt(a.now()+1)).want(http.StatusOK, "/preferences/security")
	})
}

// TF-5: a mistake, a reload and a second tab show the same; "Start again" does not.
func TestTF5_SameUntilStartedAgain(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		p := b.setUp()
		a := p.scan()
		same := func(what string, p *page) {
			t.Helper()
			if c := p.scan(); !bytes.Equal(c.key, a.key) || !slices.Equal(c.codes, a.codes) {
				t.Errorf("%s shows another set-up", what)
			}
		}
		same("a reload", b.get(pathTwoFactor))
		same("a second tab", b.post(pathTwoFactor, url.Values{}))
		v := p.form(pathTurnOn)
		v.Set("code", a.wrong())
		v.Set("saved", "on")
		p = b.post(pathTurnOn, v)
		p.want(http.StatusUnprocessableEntity, pathTurnOn)
		p.wantText("That code isn’t right.")
		same("a wrong code", p)
		// TF-7: the box is the server's business, too.
		v.Set("code", a.code())
		v.Del("saved")
		p = b.post(pathTurnOn, v)
		p.want(http.StatusUnprocessableEntity, pathTurnOn)
		same("an unticked box", p)
		b.get("/preferences/security").wantText("Two-factor authentication is off")
		again := b.post("/preferences/security/2fa/again", url.Values{}).scan()
		if bytes.Equal(again.key, a.key) {
			t.Error("Start again shows the same key")
		}
		v.Set("saved", "on")
		b.post(pathTurnOn, v).want(http.StatusUnprocessableEntity, pathTurnOn)
		time.Sleep(16 * time.Minute)
		b.get(pathTwoFactor).want(http.StatusOK, "/login/confirm") // both the set-up and the proof are too old
	})
}

// TOTP-11, BC-05: once it is on, nothing shows the secret or the codes again.
func TestTOTP11_NeverShownAgain(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		a := b.enable()
		key := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(a.key)
		look := func(what string, p *page) {
			t.Helper()
			text := strings.ReplaceAll(html.UnescapeString(p.body), " ", "")
			if strings.Contains(text, key) || strings.Contains(text, "otpauth:") || strings.Contains(text, "data:image") {
				t.Errorf("%s shows the secret", what)
			}
			for _, c := range a.codes {
				if strings.Contains(text, c) {
					t.Errorf("%s shows a backup code", what)
				}
			}
			if p.status == http.StatusOK && p.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s may be kept", what)
			}
		}
		for _, c := range []*browser{b, b.at(w.newReplica())} {
			for _, path := range accountPages() {
				look("GET "+path, c.get(path))
			}
			look("download", c.post("/preferences/security/2fa/codes.txt", url.Values{}))
			look("begin", c.post(pathTwoFactor, url.Values{}))
			look("begin again", c.post("/preferences/security/2fa/again", url.Values{}))
		}
	})
}

// TOTP-12, DF-2: a cookie alone turns nothing off, nor does a password.
func TestTOTP12_DisableNeedsTheSecondFactor(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		time.Sleep(11 * time.Minute)
		const off = "/preferences/security/2fa/off"
		p := b.post(off, url.Values{})
		p.want(http.StatusUnprocessableEntity, off)
		b.post(off, url.Values{"code": {a.wrong()}}).want(http.StatusUnprocessableEntity, off)
		// A fresh password is no second factor.
		confirm := b.get("/login/confirm?" + url.Values{"for": {"end_others"}, "to": {off}}.Encode()).form("/login/confirm")
		confirm.Set("password", adaPassword)
		b.post("/login/confirm", confirm).want(http.StatusOK, off)
		b.post(off, url.Values{}).want(http.StatusUnprocessableEntity, off)
		b.get("/preferences/security").wantText("Two-factor authentication is on")
		w.mails()
		token := b.session()
		b.post(off, url.Values{"code": {a.code()}}).want(http.StatusOK, "/preferences/security")
		if b.session() == token {
			t.Error("the session has the same token")
		}
		b.get("/preferences/security").wantText("Two-factor authentication is off")
		if m := w.mail(adaEmail, "off"); strings.Contains(m.Text, a.code()) {
			t.Error("the mail has a code")
		}
		c := w.newBrowser()
		c.signIn(adaEmail, adaPassword)
		// BC-08: on again, and the first set's codes are dead.
		old := a.codes
		a = c.enable()
		time.Sleep(30 * time.Second)
		d := w.newBrowser()
		d.half(adaEmail, adaPassword)
		d.useBackupCode(old[0]).want(http.StatusUnprocessableEntity, "/login/backup-code")
		// A backup code turns it off as well.
		time.Sleep(11 * time.Minute)
		c.post(off, url.Values{"code": {strings.ToLower(a.codes[3])}}).want(http.StatusOK, "/preferences/security")
	})
}

// In the minutes after a code it is not asked for again.
func TestDF2_FreshProof(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, _ := w.twoFactor()
		b.post("/preferences/security/2fa/off", url.Values{}).want(http.StatusOK, "/preferences/security")
		b.get("/preferences/security").wantText("Two-factor authentication is off")
	})
}

// TOTP-13: there is no device that is trusted.
func TestTOTP13_EveryTime(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		for range 3 {
			b.post("/logout", url.Values{})
			p := b.half(adaEmail, adaPassword)
			b.verify(p, a.code()).want(http.StatusOK, "/preferences/security")
			time.Sleep(time.Minute)
		}
	})
}

// TOTP-15: of those who finish one set-up at once, one does; what is stored is
// what was shown.
func TestTOTP15_VerifyRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		a := b.setUp().scan()
		v := url.Values{"code": {a.code()}, "saved": {"on"}, "sign_out_others": {"on"}}
		var won atomic.Int64
		var mu sync.Mutex
		var tokens []string
		release(func(i int) {
			c := w.holding(pick(i), b.session())
			c.once(http.MethodPost, pathTurnOn, v, nil)
			mu.Lock()
			defer mu.Unlock()
			if c.session() != b.session() {
				won.Add(1)
				tokens = append(tokens, c.session())
			}
		})
		if won.Load() != 1 {
			t.Fatalf("%d set-ups were finished", won.Load())
		}
		if n := len(w.texts(`SELECT user_id FROM backup_codes`)); n != 10 {
			t.Errorf("%d backup codes are stored", n)
		}
		if !w.holding(w.house, tokens[0]).signedIn() || b.signedIn() {
			t.Error("the winner's token, and only that, opens the session")
		}
		if n := w.texts(`SELECT id FROM events WHERE kind = 'two_factor_enabled'`); len(n) != 1 {
			t.Errorf("%d events", len(n))
		}
		c := w.newBrowser()
		c.half(adaEmail, adaPassword)
		c.useBackupCode(a.codes[9]).want(http.StatusOK, "/login/backup-code/used")
	})
}

// TOTP-16: what is no code.
func TestTOTP16_NoCodes(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		b.half(adaEmail, adaPassword)
		good := a.code()
		for _, s := range []string{
			"12345", "0" + good, good + "0", "-12345", "1e5", "１２３４５６", "٠١٢٣٤٥", "", " ", "true", `["` + good + `"]`, good + "\x00", good + "\u200b",
			strings.Repeat("1", 10_000), "0x" + good[:4],
		} {
			w.exec(`DELETE FROM throttles`)
			w.exec(`UPDATE logins SET tries = 0`)
			p := b.once(http.MethodPost, "/login/verify", url.Values{"code": {s}}, nil)
			if p.status != http.StatusUnprocessableEntity && p.status != http.StatusBadRequest || b.signedIn() {
				t.Errorf("%.20q: %d", s, p.status)
			}
		}
		w.exec(`DELETE FROM throttles`)
		w.exec(`UPDATE logins SET tries = 0`)
		b.once(http.MethodPost, "/login/verify?code="+good, url.Values{"to": {"/"}}, nil).wantStatus(http.StatusUnprocessableEntity)
		b.once(http.MethodGet, "/login/verify?code="+good, nil, nil)
		if b.signedIn() {
			t.Error("a code in the address got in")
		}
		// A code with a leading zero is one like any other.
		for a.code()[0] != '0' {
			time.Sleep(30 * time.Second)
		}
		c := w.newBrowser()
		c.verify(c.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")
	})
}

// TOTP-17: what the QR code says.
func TestTOTP17_URI(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		seen := map[string]bool{}
		for _, email := range []string{"colon&amp?#+%@example.com", "o'brien/x@example.com"} {
			w.person(email, "a password of some length")
			b := w.newBrowser()
			b.signIn(email, "a password of some length")
			for _, p := range []*page{b.setUp(), b.post("/preferences/security/2fa/again", url.Values{})} {
				raw := html.UnescapeString(otpauthRE.FindString(p.body))
				u := must(url.Parse(raw))(t)
				q := u.Query()
				if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Harmony:"+email || q.Get("issuer") != "Harmony" || len(q) != 2 {
					t.Errorf("%s", raw)
				}
				key := q.Get("secret")
				if len(key) != 32 || seen[key] { // 160 bits
					t.Errorf("secret %q", key)
				}
				seen[key] = true
			}
		}
	})
}

// TOTP-18: three wrong codes after the right password are told, once.
func TestTOTP18_PasswordIsKnown(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		p := b.half(adaEmail, adaPassword)
		for i := 1; i <= 4; i++ {
			p = b.verify(p, a.wrong())
			p.want(http.StatusUnprocessableEntity, "/login/verify")
			switch mails := w.mails(); {
			case i == 3 && (len(mails) != 1 || mails[0].To != adaEmail):
				t.Errorf("after 3: %+v", mails)
			case i != 3 && len(mails) != 0:
				t.Errorf("after %d: %+v", i, mails)
			}
		}
	})
}

// TOTP-19, BC-03: what is stored is of no use.
func TestTOTP19_Stored(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		w := wellBehaved(t, engine)
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		shown := b.setUp().scan() // still being shown
		everything := w.everything()
		secrets := func(a *app) (out []string) {
			out = append(out, string(a.key), base32.StdEncoding.EncodeToString(a.key), hex.EncodeToString(a.key), base64.StdEncoding.EncodeToString(a.key), base64.RawURLEncoding.EncodeToString(a.key))
			for _, c := range a.codes {
				out = append(out, c, strings.ReplaceAll(c, "-", ""), strings.ToLower(c))
				for _, h := range forms(strings.ReplaceAll(c, "-", "")) {
					out = append(out, h)
				}
			}
			return out
		}
		for _, s := range secrets(shown) {
			if strings.Contains(everything, s) {
				t.Errorf("a set-up is stored in clear: %q", s)
			}
		}
		a := b.enable()
		everything = w.everything()
		for _, s := range secrets(a) {
			if strings.Contains(everything, s) {
				t.Errorf("stored in clear: %q", s)
			}
		}
		// I16: one person's secret does not open in another's row.
		w.person("eve@example.com", "a password of some length")
		e := w.newBrowser()
		e.signIn("eve@example.com", "a password of some length")
		e.enable()
		w.exec(`UPDATE totp SET last_step = 0, secret_sealed = (SELECT t.secret_sealed FROM totp t WHERE t.user_id = $1) WHERE user_id <> $1`, w.ada.ID)
		c := w.newBrowser()
		p := c.half("eve@example.com", "a password of some length")
		if p := c.once(http.MethodPost, "/login/verify", url.Values{"code": {a.code()}}, nil); p.status != http.StatusInternalServerError {
			t.Errorf("a secret in another row: %d", p.status)
		}
		_ = p
		w.log.b.Reset() // that was a 500, as it should
	})
}

// everything is the content of every table, as text and as it is.
func (w *world) everything() string {
	w.t.Helper()
	var out strings.Builder
	for _, table := range []string{"users", "totp", "enrollments", "backup_codes", "logins", "resets", "sessions", "events", "throttles", "grants", "auth_requests", "google_flows", "settings"} {
		rows, err := w.db.Query(w.t.Context(), `SELECT * FROM `+table) //nolint:gosec // a test's own names
		if err != nil {
			w.t.Fatal(err)
		}
		columns := must(rows.Columns())(w.t)
		for rows.Next() {
			cells := make([]any, len(columns))
			for i := range cells {
				cells[i] = new(any)
			}
			if err := rows.Scan(cells...); err != nil {
				w.t.Fatal(err)
			}
			for _, c := range cells {
				switch v := (*c.(*any)).(type) {
				case []byte:
					out.Write(v)
					fmt.Fprintf(&out, " %x %s\n", v, base64.StdEncoding.EncodeToString(v))
				default:
					fmt.Fprintf(&out, "%v\n", v)
				}
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			w.t.Fatal(err)
		}
	}
	return out.String()
}

// TOTP-20: other sessions may end with the set-up, and then do with their tokens.
func TestTOTP20_OtherSessions(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, end := range []bool{false, true} {
			other := w.newBrowser()
			k := other.connect(w.acme, adaEmail, adaPassword)
			b := w.newBrowser()
			b.signIn(adaEmail, adaPassword)
			p := b.setUp()
			p.wantText("Sign out all other sessions")
			a := p.scan()
			v := p.form(pathTurnOn)
			v.Set("code", a.code())
			v.Set("saved", "on")
			if !end {
				v.Del("sign_out_others")
			} else {
				v.Set("sign_out_others", "on")
			}
			b.post(pathTurnOn, v).want(http.StatusOK, "/preferences/security")
			if other.signedIn() == end {
				t.Errorf("end %v: the other is signed in: %v", end, other.signedIn())
			}
			if r := w.acme.refresh(k.RefreshToken); (r.status == http.StatusOK) == end {
				t.Errorf("end %v: refresh %d", end, r.status)
			}
			if in := w.userinfo(k.AccessToken); (in != nil) == end {
				t.Errorf("end %v: userinfo %v", end, in)
			}
			// TF-9: this session is raised, on the spot.
			f := w.acme.begin("acr_values", account.ACR2FA)
			if c := f.redeem(f.code(b.get(f.url()))).ok().claims(); c["acr"] != account.ACR2FA || fmt.Sprint(c["amr"]) != "[pwd otp mfa]" {
				t.Errorf("acr %v, amr %v", c["acr"], c["amr"])
			}
			b.post("/preferences/security/2fa/off", url.Values{}).want(http.StatusOK, "/preferences/security")
			b.post("/preferences/sessions/end-others", url.Values{})
		}
	})
}

// TOTP-21: nothing is shown to who has not proved the first factor.
func TestTOTP21_NothingBefore(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		w.twoFactor()
		b := w.newBrowser()
		for _, path := range []string{"/login/verify", "/login/backup-code"} {
			b.get(path).want(http.StatusOK, "/login")
			b.post(path, url.Values{"code": {"123456"}, "backup_code": {"00000-00000"}}).want(http.StatusOK, "/login")
		}
		b.attempt(adaEmail, "not her password").wantStatus(http.StatusUnprocessableEntity)
		b.get("/login/verify").want(http.StatusOK, "/login")
	})
}

// TOTP-22: after a hundred wrong codes in a row the app's are refused, right ones
// too, until a backup code is used or an operator helps.
func TestTOTP22_Paused(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		w.exec(`UPDATE totp SET failures = 99`)
		b := w.newBrowser()
		p := b.verify(b.half(adaEmail, adaPassword), a.wrong())
		p.want(http.StatusUnprocessableEntity, "/login/verify")
		w.mail(adaEmail, "paused")
		p = b.verify(p, a.code())
		p.want(http.StatusUnprocessableEntity, "/login/verify")
		if b.signedIn() {
			t.Fatal("a paused app's code got in")
		}
		time.Sleep(24 * time.Hour)
		b.verify(b.half(adaEmail, adaPassword), a.code()).want(http.StatusUnprocessableEntity, "/login/verify")
		b.useBackupCode(a.codes[0]).want(http.StatusOK, "/login/backup-code/used")
		c := w.newBrowser()
		c.verify(c.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")

		w.exec(`UPDATE totp SET failures = 100`)
		time.Sleep(time.Minute)
		d := w.newBrowser()
		d.verify(d.half(adaEmail, adaPassword), a.code()).want(http.StatusUnprocessableEntity, "/login/verify")
		if err := w.house.accounts.Unthrottle(t.Context(), w.ada, supporter); err != nil {
			t.Fatal(err)
		}
		d.verify(d.get("/login/verify"), a.code()).want(http.StatusOK, "/preferences/security")
	})
}

// The client that takes only people who proved a second factor, and acr_values.
func TestRequire2FA(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.change(`UPDATE clients SET require_2fa = 1 WHERE id = 'acme'`)
		w.forget()
		// Who has none is led into set-up and back.
		b := w.newBrowser()
		f := w.acme.begin()
		p := b.fill(b.get(f.url()), adaEmail, adaPassword)
		p.want(http.StatusOK, pathTwoFactor)
		p.wantText("Acme")
		quiet := w.acme.begin("prompt", "none")
		quiet.wantError(b.get(quiet.url()), "interaction_required")
		p = b.post(pathTwoFactor, p.form(pathTwoFactor))
		a := p.scan()
		v := p.form(pathTurnOn)
		v.Set("code", a.code())
		v.Set("saved", "on")
		if c := f.redeem(f.code(b.post(pathTurnOn, v))).ok().claims(); c["acr"] != account.ACR2FA {
			t.Errorf("acr %v", c["acr"])
		}
		// A workspace that does not ask gets people without it, too.
		bob := w.newBrowser()
		bob.connect(w.globex, bobEmail, bobPassword)
		// Whose session is older than their 2FA proves it once.
		time.Sleep(time.Minute)
		w.exec(`UPDATE sessions SET acr = $1, amr = 'pwd', second_at = NULL`, account.ACR1FA)
		f = w.acme.begin()
		p = b.get(f.url())
		p.want(http.StatusOK, "/login/confirm")
		confirm := p.form("/login/confirm")
		confirm.Set("code", a.code())
		if c := f.redeem(f.code(b.post("/login/confirm", confirm))).ok().claims(); c["acr"] != account.ACR2FA || fmt.Sprint(c["amr"]) != "[pwd otp mfa]" {
			t.Errorf("acr %v, amr %v", c["acr"], c["amr"])
		}
		// acr_values is a wish: who has no second factor comes without.
		f = w.globex.begin("acr_values", account.ACR2FA)
		if c := f.redeem(f.code(bob.get(f.url()))).ok().claims(); c["acr"] != account.ACR1FA {
			t.Errorf("acr %v", c["acr"])
		}
		// I4: the database has the last word.
		in := must(w.house.accounts.Session(t.Context(), bob.session()))(t)
		if in.ACR != account.ACR1FA {
			t.Fatal(in.ACR)
		}
		// Turned off, the workspace's door is closed again.
		time.Sleep(time.Minute)
		b.post("/preferences/security/2fa/off", url.Values{"code": {a.code()}}).want(http.StatusOK, "/preferences/security")
		b.get(w.acme.begin().url()).want(http.StatusOK, pathTwoFactor)
	})
}
