package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/secret"
)

// The security cases of password resets (RST), and of the mails that they send.

const newPassword = "seven quiet harbours 41"

// forgot asks for a reset link.
func (b *browser) forgot(email string) *page {
	b.w.t.Helper()
	return b.once(http.MethodPost, "/login/forgot", url.Values{"email": {email}}, nil)
}

// reset opens a link and sets a password by it.
func (b *browser) reset(link, password string) *page {
	b.w.t.Helper()
	p := b.get(strings.TrimPrefix(link, issuer))
	if p.status != http.StatusOK {
		return p
	}
	return b.setPassword(password)
}

// setPassword sends the form of a link that was opened.
func (b *browser) setPassword(password string) *page {
	b.w.t.Helper()
	return b.post("/login/reset", url.Values{"new_password": {password}, "confirm_password": {password}})
}

// link has a reset link mailed to Ada.
func (w *world) link() string {
	w.t.Helper()
	w.newBrowser().forgot(adaEmail).wantStatus(http.StatusSeeOther)
	return resetLink(w.t, w.mail(adaEmail, "Reset"))
}

// The seeds' story: who forgot the password gets a link and signs in with a new one.
func TestResetStory(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		p := b.get("/login")
		p.wantText("Forgot password?")
		p = b.post("/login/forgot", url.Values{"email": {" Ada@Example.com "}})
		p.want(http.StatusOK, "/login/forgot")
		p.wantText("If an account uses that address")
		link := resetLink(t, w.mail(adaEmail, "Reset"))
		p = b.get(strings.TrimPrefix(link, issuer))
		p.want(http.StatusOK, "/login/reset") // G-9: the token is out of the address
		if p.url.RawQuery != "" {
			t.Errorf("the address still has %q", p.url.RawQuery)
		}
		p.wantText(adaEmail)
		p = b.setPassword(newPassword)
		p.want(http.StatusOK, "/login")
		p.wantText("Password changed")
		if b.signedIn() {
			t.Error("signed in by a reset")
		}
		w.mail(adaEmail, "password was")
		b.attempt(adaEmail, adaPassword).wantStatus(http.StatusUnprocessableEntity)
		b.signIn(adaEmail, newPassword)
	})
}

// RST-01, RST-02: one answer for every address, for the same work.
func TestRST01_OneAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.hopeless()
		var first string
		for _, email := range []string{adaEmail, "unk@example.com", "goo@example.com", "dis@example.com", "non@example.com", "x+y@sub.example"} {
			p := w.newBrowser().forgot(email)
			if got := ofAttempt(p, email); first == "" {
				first = got
			} else if got != first {
				t.Errorf("%s:\n%s\nother than\n%s", email, got, first)
			}
		}
		// Those who can reset get a link, Google's a word, the others nothing.
		to := map[string]bool{}
		for _, m := range w.mails() {
			to[m.To] = strings.Contains(m.Text, "/login/reset")
		}
		if fmt.Sprint(to) != fmt.Sprint(map[string]bool{adaEmail: true, "goo@example.com": false, "non@example.com": true}) {
			t.Errorf("mails: %v", to)
		}
		if left := w.texts(`SELECT id FROM events WHERE sealed IS NOT NULL OR (user_id IS NULL AND kind = 'password_reset_requested')`); len(left) != 0 {
			t.Errorf("%d strangers' addresses are kept", len(left))
		}
	})
}

// RST-03: whatever a request says of itself, the link is the issuer's.
func TestRST03_LinkIsTheIssuers(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		for name, value := range map[string]string{
			"X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "666", "X-Forwarded-Prefix": "/evil",
			"Forwarded": "host=evil.test", "X-Original-Host": "evil.test",
		} {
			w.exec(`DELETE FROM throttles`)
			w.newBrowser().once(http.MethodPost, "/login/forgot", url.Values{"email": {adaEmail}}, http.Header{name: {value}}).wantStatus(http.StatusSeeOther)
			m := w.mail(adaEmail, "Reset")
			resetLink(t, m)
			if strings.Contains(m.Text+m.HTML, "evil") || strings.Contains(m.Text+m.HTML, "666") {
				t.Errorf("%s: %s", name, m.Text)
			}
		}
	})
}

// RST-04, RST-06, RST-07, RST-19: once; everything of before ends; nobody is
// signed in; two-factor authentication stays.
func TestRST04_OnceAndEverythingEnds(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		first, a := w.twoFactor()
		other := w.newBrowser()
		f := w.acme.begin()
		k := f.redeem(f.code(other.verify(other.fill(other.get(f.url()), adaEmail, adaPassword), a.code()))).ok()
		time.Sleep(30 * time.Second)
		half := w.newBrowser()
		half.half(adaEmail, adaPassword)
		w.mails()
		link := w.link()
		token := linkRE.FindStringSubmatch(link)[1]

		b := w.newBrowser()
		b.reset(link, newPassword).want(http.StatusOK, "/login")
		replica := w.newReplica()
		for _, c := range []*browser{first, other, first.at(replica), other.at(replica), b} {
			if c.signedIn() {
				t.Error("somebody is signed in after a reset")
			}
		}
		w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		if w.userinfo(k.AccessToken) != nil {
			t.Error("the access token lives")
		}
		half.post("/login/verify", url.Values{"code": {a.code()}}).want(http.StatusOK, "/login")
		if m := w.mail(adaEmail, "password was"); strings.Contains(m.Text+m.HTML, token) || strings.Contains(m.Text+m.HTML, newPassword) {
			t.Error("the mail says too much")
		}
		// A second time, in the same browser and in another.
		for _, c := range []*browser{b, w.newBrowser()} {
			c.reset(link, "another long password 77").wantStatus(http.StatusGone)
		}
		b.verify(b.half(adaEmail, newPassword), a.code()).want(http.StatusOK, "/preferences/security")
	})
}

// RST-05: of those who use one link at once, one sets the password.
func TestRST05_Race(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		link := w.link()
		var bs [racers]*browser
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].get(strings.TrimPrefix(link, issuer)).want(http.StatusOK, "/login/reset")
		}
		var won, winner atomic.Int64
		release(func(i int) {
			password := fmt.Sprintf("%s, racer %d", newPassword, i)
			p := bs[i].once(http.MethodPost, "/login/reset", url.Values{"new_password": {password}, "confirm_password": {password}}, nil)
			if p.status == http.StatusSeeOther {
				won.Add(1)
				winner.Store(int64(i))
			}
		})
		if won.Load() != 1 {
			t.Fatalf("%d passwords were set", won.Load())
		}
		w.newBrowser().signIn(adaEmail, fmt.Sprintf("%s, racer %d", newPassword, winner.Load()))
	})
}

// A sign-in with the old password that is under way when a reset ends everything
// opens nothing (I5), on whichever side of the reset it comes to its end.
func TestRST07_SignInUnderWay(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		link := w.link()
		resetter := w.newBrowser()
		resetter.get(strings.TrimPrefix(link, issuer))
		var bs [racers]*browser
		release(func(i int) {
			if i == racers/2 {
				resetter.setPassword(newPassword)
				return
			}
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].once(http.MethodPost, "/login", url.Values{"email": {adaEmail}, "password": {adaPassword}}, nil)
		})
		for i, b := range bs {
			if b != nil && b.signedIn() {
				t.Errorf("browser %d is signed in with the old password", i)
			}
		}
	})
}

// RST-08: what is stored opens nothing.
func TestRST08_Stored(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.newBrowser().forgot("stranger@example.org")
		if strings.Contains(w.everything(), "stranger@") {
			t.Error("a stranger's address is stored in clear")
		}
		w.mails()
		link := w.link()
		token := linkRE.FindStringSubmatch(link)[1]
		everything := w.everything()
		for _, s := range []string{token, strings.TrimPrefix(token, "hrp_"), "/login/reset"} {
			if strings.Contains(everything, s) {
				t.Errorf("stored: %s", s)
			}
		}
		for _, h := range w.texts(`SELECT token_hash FROM resets`) {
			w.newBrowser().get("/login/reset?" + url.Values{"token": {"hrp_" + b64(h)}}.Encode()).wantStatus(http.StatusGone)
		}
	})
}

// RST-09, RST-14: too old, made up, cut short: one page, which offers another.
func TestRST09_NoLink(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		link := w.link()
		token := linkRE.FindStringSubmatch(link)[1]
		b := w.newBrowser()
		b.get(strings.TrimPrefix(link, issuer)).want(http.StatusOK, "/login/reset")
		time.Sleep(account.ResetLife + time.Second)
		var first string
		for _, s := range []string{token, secret.Token("hrp_"), token[:20], strings.ToUpper(token), flip(token, 10), "x", "", strings.Repeat("a", 5000), "\"><svg>", "a b;c,d\\"} {
			c := w.newBrowser()
			p := c.get("/login/reset?" + url.Values{"token": {s}}.Encode())
			p.wantStatus(http.StatusGone)
			p.wantText("This link has expired")
			if got := p.withoutID(); first == "" {
				first = got
			} else if got != first {
				t.Errorf("%.30q: another page", s)
			}
			c.setPassword(newPassword).wantStatus(http.StatusGone)
		}
		b.setPassword(newPassword).wantStatus(http.StatusGone)
		w.newBrowser().signIn(adaEmail, adaPassword)
		// FP-8: the way to another is a click, the address is in the form.
		c := w.newBrowser()
		c.get(strings.TrimPrefix(link, issuer))
		if got := c.get("/login/forgot").form("/login/forgot").Get("email"); got != adaEmail {
			t.Errorf("the form has %q", got)
		}
		if got := w.newBrowser().get("/login/forgot").form("/login/forgot").Get("email"); got != "" {
			t.Errorf("a stranger's form has %q", got)
		}
		// A network that tries many is slowed down.
		d := w.browserAt(w.house, "192.0.2.77")
		last := 0
		for range 120 {
			last = d.get("/login/reset?token=" + secret.Token("hrp_")).status
		}
		if last != http.StatusTooManyRequests {
			t.Errorf("the 120th link that is none: %d", last)
		}
	})
}

// withoutID is a page without the reference that is another each time.
func (p *page) withoutID() string {
	return strings.ReplaceAll(p.body, p.header.Get("X-Request-Id"), "")
}

// RST-10: an older link, or one from before a change, is dead.
func TestRST10_Overtaken(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		dead := func(what, link string) {
			t.Helper()
			p := w.newBrowser().reset(link, newPassword)
			if p.status != http.StatusGone {
				t.Errorf("%s: %d", what, p.status)
			}
		}
		one := w.link()
		two := w.link()
		dead("a newer link", one)
		w.newBrowser().reset(two, newPassword).want(http.StatusOK, "/login")
		dead("used", two)
		w.mails()
		three := w.link()
		b := w.newBrowser()
		b.signIn(adaEmail, newPassword)
		w.mails()
		b.post("/preferences/security/password", url.Values{"current_password": {newPassword}, "new_password": {adaPassword}, "confirm_password": {adaPassword}}).
			want(http.StatusOK, "/preferences/security")
		dead("the password was changed", three)
		w.exec(`DELETE FROM throttles`)
		w.mails()
		four := w.link()
		if err := w.house.accounts.DisableUser(t.Context(), w.ada.ID, supporter); err != nil {
			t.Fatal(err)
		}
		dead("disabled", four)
		if err := w.house.accounts.EnableUser(t.Context(), w.ada.ID, supporter); err != nil {
			t.Fatal(err)
		}
		dead("disabled and enabled", four)
	})
}

// RST-12, EM-04: an address gets three mails an hour, whoever asks, and the answer
// does not tell; a network may ask twenty times.
func TestRST12_Limits(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		for i := range 50 {
			b := w.browserAt([]*house{w.house, other}[i%2], fmt.Sprintf("192.0.2.%d", 10+i%10))
			b.forgot(adaEmail).wantStatus(http.StatusSeeOther)
		}
		if n := len(w.mails()); n == 0 || n > 3 {
			t.Errorf("%d mails", n)
		}
		signedIn := w.newBrowser()
		signedIn.signIn(adaEmail, adaPassword)
		w.mails()
		signedIn.post("/preferences/security/reset-email", url.Values{}).want(http.StatusOK, "/preferences/security")
		if n := len(w.mails()); n != 0 {
			t.Error("the tab's button has a limit of its own")
		}
		b := w.browserAt(w.house, "192.0.2.200")
		for i := range 20 {
			b.forgot(fmt.Sprintf("somebody%d@example.org", i)).wantStatus(http.StatusSeeOther)
		}
		b.forgot("somebody@example.org").wantStatus(http.StatusTooManyRequests)
		time.Sleep(time.Hour)
		b.forgot(adaEmail).wantStatus(http.StatusSeeOther)
		w.mail(adaEmail, "Reset")
	})
}

// RST-13: an account of Google's gets no link and no password.
func TestRST13_Google(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		u := must(w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: "goo@example.com", Name: "Goo Gle", Method: account.MethodGoogle}, supporter))(t)
		w.newBrowser().forgot("goo@example.com")
		m := w.mail("goo@example.com", "Google")
		if linkRE.MatchString(m.Text) || strings.Contains(m.Text+m.HTML, "hrp_") {
			t.Error("there is a link")
		}
		if _, err := w.house.accounts.MakeLink(t.Context(), u.ID, time.Hour, supporter); !errors.Is(err, account.ErrGoogle) {
			t.Errorf("an operator's link: %v", err)
		}
		// Even a link that is there sets none.
		token := secret.Token("hrp_")
		w.exec(`INSERT INTO resets (token_hash, user_id, kind, created_at, expires_at) VALUES ($1, $2, 'email', 1, 99999999999999999)`, secret.Hash(token), u.ID)
		w.newBrowser().reset("/login/reset?token="+token, newPassword).wantStatus(http.StatusGone)
		if got := w.texts(`SELECT COALESCE(password_hash, '') FROM users WHERE method = 'google'`); !slices.Equal(got, []string{""}) {
			t.Errorf("password %q", got)
		}
	})
}

// RST-15: "Send reset email" goes to the account's address and no other.
func TestRST15_OwnAddress(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		w.mails()
		p := b.post("/preferences/security/reset-email", url.Values{"email": {bobEmail}, "user_id": {w.bob.ID}})
		p.want(http.StatusOK, "/preferences/security")
		p.wantText(adaEmail)
		resetLink(t, w.mail(adaEmail, "Reset"))
		for what, header := range foreignForms() {
			if p := b.once(http.MethodPost, "/preferences/security/reset-email", url.Values{}, header); p.status != http.StatusForbidden {
				t.Errorf("%s: %d", what, p.status)
			}
		}
		if n := len(w.mails()); n != 0 {
			t.Errorf("%d mails", n)
		}
	})
}

// RST-16: a password that cannot be set spends no link.
func TestRST16_RefusedPasswords(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		link := w.link()
		b := w.newBrowser()
		b.get(strings.TrimPrefix(link, issuer)).want(http.StatusOK, "/login/reset")
		for _, c := range []struct{ one, two, says string }{
			{"seven77", "seven77", "at least 12"},
			{"password1234", "password1234", "breach"},
			{"ada@example.com", "ada@example.com", "email"},
			{newPassword, newPassword + "!", "aren’t the same"},
			{strings.Repeat("long ", 60), strings.Repeat("long ", 60), "256"},
			{"", "", "at least 12"},
		} {
			p := b.post("/login/reset", url.Values{"new_password": {c.one}, "confirm_password": {c.two}})
			if p.status != http.StatusUnprocessableEntity && p.status != http.StatusBadRequest {
				t.Fatalf("%.20q: %d", c.one, p.status)
			}
			p.wantText(c.says)
			if c.one != "" && strings.Contains(p.body, c.one) && c.one != adaEmail {
				t.Errorf("the page has %q", c.one)
			}
		}
		b.once(http.MethodPost, "/login/reset", url.Values{"new_password": {strings.Repeat("x", 1<<20)}}, nil).wantStatus(http.StatusRequestEntityTooLarge)
		b.setPassword(newPassword).want(http.StatusOK, "/login")
	})
}

// RST-17, EM-01: one address, the stored one.
func TestRST17_OneRecipient(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for _, s := range []string{
			adaEmail + "," + bobEmail, adaEmail + "\r\nBcc: " + bobEmail, "<" + adaEmail + ">,<" + bobEmail + ">", "Ada <" + adaEmail + ">", adaEmail + "\x00", "", "ada",
		} {
			if p := b.forgot(s); p.status != http.StatusUnprocessableEntity && p.status != http.StatusBadRequest {
				t.Errorf("%q: %d", s, p.status)
			}
		}
		b.stream("/login/forgot", strings.NewReader("email="+url.QueryEscape(adaEmail)+"&email="+url.QueryEscape(bobEmail)), -1).wantStatus(http.StatusBadRequest)
		b.once(http.MethodPost, "/login/forgot", url.Values{"email[]": {adaEmail}}, nil).wantStatus(http.StatusUnprocessableEntity)
		if n := len(w.mails()); n != 0 {
			t.Errorf("%d mails", n)
		}
	})
}

// RST-18: a link is one person's.
func TestRST18_OnePerson(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		link := w.link()
		b := w.newBrowser()
		b.get(strings.TrimPrefix(link, issuer))
		b.post("/login/reset?user_id="+w.bob.ID, url.Values{
			"new_password": {newPassword}, "confirm_password": {newPassword}, "user_id": {w.bob.ID}, "email": {bobEmail}, "username": {bobEmail},
		}).want(http.StatusOK, "/login")
		w.newBrowser().signIn(bobEmail, bobPassword)
		w.newBrowser().signIn(adaEmail, newPassword)
	})
}

// FP-3: scanners that open a link, as often as they like, spend nothing; HEAD neither.
func TestFP3_Scanners(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		link := w.link()
		for range 3 {
			c := w.newBrowser()
			c.once(http.MethodHead, link, nil, nil).wantStatus(http.StatusSeeOther)
			c.get(strings.TrimPrefix(link, issuer)).want(http.StatusOK, "/login/reset")
			c.once(http.MethodPost, strings.TrimPrefix(link, issuer), url.Values{}, nil) // a form with nothing in it
		}
		w.newBrowser().reset(link, newPassword).want(http.StatusOK, "/login")
	})
}

// A mail server that is down delays mail and nothing else.
func TestMailDown(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.post.mu.Lock()
		w.post.refuse = errors.New("connection refused")
		w.post.mu.Unlock()
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		b.forgot(adaEmail).wantStatus(http.StatusSeeOther)
		b.enable()
		if n := len(w.mails()); n != 0 {
			t.Fatalf("%d mails", n)
		}
		w.post.mu.Lock()
		w.post.refuse = nil
		w.post.mu.Unlock()
		time.Sleep(time.Hour)
		var subjects []string
		for _, m := range w.mails() {
			subjects = append(subjects, m.Subject)
		}
		if len(subjects) != 3 { // a new browser, the link, 2FA
			t.Errorf("mails: %q", subjects)
		}
		if n := len(w.mails()); n != 0 {
			t.Errorf("%d mails came twice", n)
		}
	})
}

// Workers on two replicas tell everything once.
func TestOutboxTwoWorkers(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		for i := range 20 {
			must(w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: fmt.Sprintf("p%d@example.com", i), Name: "P"}, supporter))(t)
			w.browserAt(w.house, fmt.Sprintf("192.0.2.%d", 100+i)).forgot(fmt.Sprintf("p%d@example.com", i))
		}
		release(func(i int) {
			if _, err := pick(i).mail.Deliver(t.Context()); err != nil {
				t.Error(err)
			}
		})
		to := map[string]int{}
		for _, m := range w.mails() {
			to[m.To]++
		}
		for email, n := range to {
			if n != 1 {
				t.Errorf("%s: %d mails", email, n)
			}
		}
		if len(to) != 20 {
			t.Errorf("%d people were told", len(to))
		}
	})
}
