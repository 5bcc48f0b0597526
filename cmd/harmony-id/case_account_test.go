package main

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harmony/id/account"
)

// The security cases of backup codes (BC), of the account pages (ACC), and of the
// Sessions and Activity tabs (SES).

const (
	pathCodes     = "/preferences/security/2fa/codes"
	pathSaveCodes = "/preferences/security/2fa/codes/save"
	pathOff       = "/preferences/security/2fa/off"
)

// BC-01, BC-10, BC-3: a backup code serves once, the page says how many are left,
// and so does the mail.
func TestBC01_Once(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		f := w.acme.begin()
		b.fill(b.get(f.url()), adaEmail, adaPassword).want(http.StatusOK, "/login/verify")
		p := b.useBackupCode(a.codes[0])
		p.want(http.StatusOK, "/login/backup-code/used")
		p.wantText("You used a backup code.")
		p.wantText("9 left.")
		var subjects []string
		for _, m := range w.mails() {
			subjects = append(subjects, m.Subject)
		}
		if !slices.ContainsFunc(subjects, func(s string) bool { return strings.Contains(s, "9 left") }) {
			t.Errorf("mails %q", subjects)
		}
		c := w.newBrowser()
		c.half(adaEmail, adaPassword)
		c.useBackupCode(a.codes[0]).want(http.StatusUnprocessableEntity, "/login/backup-code")
		// Typed as people type (BC-2).
		for i, typed := range []string{
			strings.ToLower(a.codes[1]), " " + strings.ReplaceAll(a.codes[2], "-", " ") + "\n", strings.ReplaceAll(a.codes[3], "-", ""),
			strings.NewReplacer("0", "o", "1", "l").Replace(a.codes[4]), strings.ReplaceAll(a.codes[5], "1", "I"),
		} {
			w.exec(`DELETE FROM throttles`)
			d := w.newBrowser()
			d.half(adaEmail, adaPassword)
			p := d.useBackupCode(typed)
			if p.url.Path != "/login/backup-code/used" {
				t.Fatalf("%q of %s: %d at %s", typed, a.codes[1+i], p.status, p.url)
			}
			p.wantText(fmt.Sprintf("%d left.", 8-i))
		}
		// The workspace hears of a second factor that is no one-time password.
		k := w.newBrowser()
		k.half(adaEmail, adaPassword)
		k.useBackupCode(a.codes[6])
		g := w.globex.begin()
		if claims := g.redeem(g.code(k.get(g.url()))).ok().claims(); fmt.Sprint(claims["amr"]) != "[pwd mfa]" || claims["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", claims["amr"], claims["acr"])
		}
		// To the last: the app still works.
		for _, code := range a.codes[7:] {
			w.exec(`DELETE FROM throttles`)
			d := w.newBrowser()
			d.half(adaEmail, adaPassword)
			p = d.useBackupCode(code)
		}
		p.wantText("You have no backup codes")
		d := w.newBrowser()
		d.verify(d.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")
	})
}

// Signing in for a workspace by a backup code leads on to it.
func TestBC3_LeadsOn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		f := w.acme.begin()
		p := b.fill(b.get(f.url()), adaEmail, adaPassword)
		to := p.form("/login/verify").Get("to")
		v := b.get("/login/backup-code?" + url.Values{"to": {to}}.Encode()).form("/login/backup-code")
		v.Set("backup_code", a.codes[0])
		p = b.post("/login/backup-code", v)
		p.want(http.StatusOK, "/login/backup-code/used")
		p.wantText("Continue")
		f.code(b.get(to))
	})
}

// BC-02: of those who come at once with one backup code, one gets in.
func TestBC02_Race(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		a := w.twoFactorNow()
		var bs [racers]*browser
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].half(adaEmail, adaPassword)
		}
		var in atomic.Int64
		release(func(i int) {
			if p := bs[i].once(http.MethodPost, "/login/backup-code", url.Values{"backup_code": {a.codes[0]}}, nil); p.status == http.StatusSeeOther {
				in.Add(1)
			}
		})
		signedIn := 0
		for _, b := range bs {
			if b.signedIn() {
				signedIn++
			}
		}
		if in.Load() != 1 || signedIn != 1 {
			t.Errorf("%d browsers got in with one code, %d are signed in", in.Load(), signedIn)
		}
		if n := len(w.texts(`SELECT user_id FROM backup_codes`)); n != 9 {
			t.Errorf("%d codes are left", n)
		}
	})
}

// BC-04, BC-6: backup codes have a limit of their own, as tight as the app's.
func TestBC04_Limit(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		b.half(adaEmail, adaPassword)
		for range 5 {
			b.useBackupCode("00000-00000").want(http.StatusUnprocessableEntity, "/login/backup-code")
		}
		c := w.newBrowser()
		c.half(adaEmail, adaPassword)
		c.useBackupCode(a.codes[0]).want(http.StatusTooManyRequests, "/login/backup-code")
		// The app's own limit is untouched by it, and a right code does not lift the other.
		c.verify(c.get("/login/verify"), a.code()).want(http.StatusOK, "/preferences/security")
		d := w.newBrowser()
		d.half(adaEmail, adaPassword)
		d.useBackupCode(a.codes[0]).want(http.StatusTooManyRequests, "/login/backup-code")
		time.Sleep(5 * time.Minute)
		d.useBackupCode(a.codes[0]).want(http.StatusOK, "/login/backup-code/used")
	})
}

// BC-07: new codes need a recent second factor, are shown until they are saved,
// and then the old ones are dead.
func TestBC07_NewCodes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		time.Sleep(11 * time.Minute)
		b.get(pathCodes).want(http.StatusOK, "/login/confirm")
		b.post(pathCodes, url.Values{}).want(http.StatusOK, "/login/confirm")
		b.post(pathSaveCodes, url.Values{"saved": {"on"}}).want(http.StatusOK, "/login/confirm")
		// A password is not enough for who has a code.
		p := b.get(pathCodes)
		confirm := p.form("/login/confirm")
		confirm.Set("with", "password")
		confirm.Set("password", adaPassword)
		b.post("/login/confirm", confirm).want(http.StatusUnprocessableEntity, "/login/confirm")
		confirm = p.form("/login/confirm")
		confirm.Set("code", a.code())
		p = b.post("/login/confirm", confirm)
		p.want(http.StatusOK, pathCodes)
		p = b.post(pathCodes, p.form(pathCodes))
		fresh := p.backupCodes()
		if len(fresh) != 10 || slices.ContainsFunc(fresh, func(c string) bool { return slices.Contains(a.codes, c) }) {
			t.Fatalf("new codes %q", fresh)
		}
		if again := b.get(pathCodes).backupCodes(); !slices.Equal(again, fresh) {
			t.Error("a reload shows other codes")
		}
		use := func(code string, path string) {
			t.Helper()
			w.exec(`DELETE FROM throttles`)
			c := w.newBrowser()
			c.half(adaEmail, adaPassword)
			if p := c.useBackupCode(code); p.url.Path != path {
				t.Errorf("%s: %d at %s, want %s", code, p.status, p.url.Path, path)
			}
		}
		use(fresh[0], "/login/backup-code") // not in force yet
		use(a.codes[0], "/login/backup-code/used")
		// The box is the server's business (TF-7).
		b.post(pathSaveCodes, url.Values{}).want(http.StatusUnprocessableEntity, pathSaveCodes)
		w.mails()
		b.post(pathSaveCodes, url.Values{"saved": {"on"}}).want(http.StatusOK, "/preferences/security")
		m := w.mail(adaEmail, "backup codes")
		for _, c := range fresh {
			if strings.Contains(m.Text+m.HTML, c) {
				t.Error("the mail has codes")
			}
		}
		use(a.codes[1], "/login/backup-code")
		use(fresh[0], "/login/backup-code/used")
		if shown := b.get(pathCodes).backupCodes(); len(shown) != 0 {
			t.Error("they are shown again")
		}
	})
}

// BC-09: what codes look like.
func TestBC09_Form(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		p := b.setUp()
		seen := map[string]bool{}
		for range 5 {
			for _, c := range p.backupCodes() {
				if seen[c] || !regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}$`).MatchString(c) {
					t.Errorf("code %q", c)
				}
				seen[c] = true
			}
			p = b.post("/preferences/security/2fa/again", url.Values{})
		}
		if len(seen) != 50 {
			t.Errorf("%d codes of 50", len(seen))
		}
		file := b.once(http.MethodPost, "/preferences/security/2fa/codes.txt", url.Values{}, nil)
		if got := file.header.Get("Content-Disposition"); !regexp.MustCompile(`^attachment; filename="harmony-backup-codes-ada@example\.com-2000-01-01\.txt"$`).MatchString(got) {
			t.Errorf("file %s", got)
		}
		for _, s := range append(p.backupCodes(), "Harmony", adaEmail, "works once", issuer+"/login and choose “Use a backup code”") {
			if !strings.Contains(file.body, s) {
				t.Errorf("the file lacks %q", s)
			}
		}
	})
}

// BC-11: one person's code is nothing to another's account.
func TestBC11_OfAnother(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		e := w.newBrowser()
		e.signIn(bobEmail, bobPassword)
		bobs := e.enable()
		b := w.newBrowser()
		b.half(adaEmail, adaPassword)
		b.useBackupCode(bobs.codes[0]).want(http.StatusUnprocessableEntity, "/login/backup-code")
		if n := len(w.texts(`SELECT user_id FROM backup_codes`)); n != 20 {
			t.Errorf("%d codes are left", n)
		}
		_ = a
	})
}

func changeForm(current, anew string) url.Values {
	return url.Values{"current_password": {current}, "new_password": {anew}, "confirm_password": {anew}, "sign_out_others": {"1"}}
}

const pathPassword = "/preferences/security/password"

// ACC-01: a stolen session is no place to guess the password from.
func TestACC01_Guessing(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for range 10 {
			p := b.once(http.MethodPost, pathPassword, changeForm("not her password", newPassword), nil)
			p.wantStatus(http.StatusUnprocessableEntity)
			p.wantText("current password")
		}
		p := b.once(http.MethodPost, pathPassword, changeForm(adaPassword, newPassword), nil)
		p.wantStatus(http.StatusTooManyRequests)
		if p.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		confirm := url.Values{"with": {"password"}, "password": {adaPassword}, "for": {"end_others"}}
		b.once(http.MethodPost, "/login/confirm", confirm, nil).wantStatus(http.StatusTooManyRequests)
		time.Sleep(15 * time.Minute)
		b.once(http.MethodPost, pathPassword, changeForm(adaPassword, newPassword), nil).wantStatus(http.StatusSeeOther)
	})
}

// ACC-02, CP-6: this session goes on under a new token, the others end unless the
// box is unticked.
func TestACC02_Change(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, other := w.newBrowser(), w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		mine := b.connect(w.globex, adaEmail, adaPassword)
		k := other.connect(w.acme, adaEmail, adaPassword)
		w.mails()
		form := changeForm(adaPassword, newPassword)
		form.Del("sign_out_others")
		token := b.session()
		b.post(pathPassword, form).want(http.StatusOK, "/preferences/security")
		if b.session() == token || w.holding(w.house, token).signedIn() {
			t.Error("the session has the same token")
		}
		if !other.signedIn() {
			t.Error("the other session ended, though the box was unticked")
		}
		w.acme.refresh(k.RefreshToken).ok()
		w.mail(adaEmail, "password was changed")

		b.post(pathPassword, changeForm(newPassword, adaPassword)).want(http.StatusOK, "/preferences/security")
		if other.signedIn() || !b.signedIn() {
			t.Error("the others end, this one stays")
		}
		w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		w.globex.refresh(mine.RefreshToken).ok()
		b.attempt(adaEmail, newPassword).wantStatus(http.StatusUnprocessableEntity)
	})
}

// ACC-03: what can be a new password.
func TestACC03_NewPasswords(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.weaken(w.ada.ID, adaPassword)
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, c := range []struct{ password, says string }{
			{"seven77", "at least 12 characters"}, {"password1234", "breach"}, {"harmony2026!!", "your name"}, {"ada@example.com", "email address"}, {adaPassword, "the one that you have"},
			{strings.Repeat("x", 257), "at most 256 characters"},
		} {
			w.exec(`DELETE FROM throttles`)
			p := b.once(http.MethodPost, pathPassword, changeForm(adaPassword, c.password), nil)
			p.wantStatus(http.StatusUnprocessableEntity)
			p.wantText(c.says)
		}
		form := changeForm(adaPassword, newPassword)
		form.Set("confirm_password", newPassword+"!")
		p := b.once(http.MethodPost, pathPassword, form, nil)
		p.wantStatus(http.StatusUnprocessableEntity)
		p.wantText("aren’t the same")
		present := adaPassword
		for _, good := range []string{strings.Repeat("ab cd", 51), "onlylowercaseletters", "пароль из слов", "  spaces kept  x"} {
			b.post(pathPassword, changeForm(present, good)).want(http.StatusOK, "/preferences/security")
			present = good
		}
	})
}

// ACC-04: no other site can have anything done, and nothing is done by a link.
func TestACC04_Forged(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		other := w.newBrowser()
		other.verify(other.half(adaEmail, adaPassword), a.code())
		id := w.texts(`SELECT id FROM sessions ORDER BY created_at DESC`)[0]
		form := url.Values{
			"code": {a.code()}, "saved": {"on"}, "password": {adaPassword}, "current_password": {adaPassword}, "id": {id},
			"new_password": {newPassword}, "confirm_password": {newPassword}, "with": {"password"},
		}
		before := w.state()
		for _, path := range accountActs() {
			for what, header := range foreignForms() {
				if p := b.once(http.MethodPost, path, form, header); p.status != http.StatusForbidden {
					t.Errorf("POST %s, %s: %d", path, what, p.status)
				}
			}
			b.once(http.MethodGet, path+"?"+form.Encode(), nil, nil)
			if p := b.once(http.MethodPost, path, nil, http.Header{"Content-Type": {"text/plain"}, "Origin": {issuer}, "Sec-Fetch-Site": {"same-origin"}}); p.status/100 == 2 {
				t.Errorf("POST %s without a form: %d", path, p.status)
			}
		}
		if after := w.state(); strings.ReplaceAll(after, " ", "") != strings.ReplaceAll(before, " ", "") && !sameButEnrollments(before, after) {
			t.Errorf("something changed:\n%s\n%s", before, after)
		}
	})
}

// sameButEnrollments reports whether two states differ only in what a form without
// fields may do: begin, and ask for a mail.
func sameButEnrollments(a, b string) bool {
	drop := func(s string) string {
		var out []string
		for line := range strings.SplitSeq(s, "\n") {
			if !strings.Contains(line, "codes1") && !strings.Contains(line, "codes9") {
				out = append(out, line)
			}
		}
		return strings.Join(out, "\n")
	}
	return drop(a) == drop(b)
}

// ACC-05: who signs in with Google has no password to change, reset or set.
func TestACC05_Google(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.google("goo@example.com")
		p := b.get("/preferences/security")
		p.want(http.StatusOK, "/preferences/security")
		p.wantText("You sign in with Google")
		p.wantText("Change your Google password instead")
		for _, s := range []string{`name="current_password"`, `name="new_password"`, pathPassword, "reset-email"} {
			if strings.Contains(p.body, s) {
				t.Errorf("the page has %s", s)
			}
		}
		b.once(http.MethodPost, pathPassword, changeForm("", newPassword), nil).wantStatus(http.StatusForbidden)
		b.once(http.MethodPost, "/preferences/security/reset-email", url.Values{}, nil).wantStatus(http.StatusForbidden)
		if got := w.texts(`SELECT COALESCE(password_hash, '') FROM users WHERE method = 'google'`); !slices.Equal(got, []string{""}) {
			t.Errorf("password %q", got)
		}
		if n := len(w.mails()); n != 0 {
			t.Errorf("%d mails", n)
		}
		// 2FA is theirs as well.
		a := b.enable()
		b.get("/preferences/security").wantText("Two-factor authentication is on")
		_ = a
	})
}

// google is a browser in which somebody is signed in who signs in with Google.
func (w *world) google(email string) *browser {
	w.t.Helper()
	u := must(w.house.accounts.CreateUser(w.t.Context(), account.NewUser{Email: email, Name: "Goo Gle", Method: account.MethodGoogle, EmailVerified: true}, supporter))(w.t)
	b := w.newBrowser()
	b.signIn(bobEmail, bobPassword) // a session, which becomes the other's
	w.exec(`UPDATE sessions SET user_id = $1, amr = 'fed', credential = 0 WHERE user_id = $2`, u.ID, w.bob.ID)
	w.mails()
	return b
}

// ACC-06, SES-09, SE-7: nobody acts on another's account.
func TestACC06_Anothers(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		victim := w.newBrowser()
		victim.signIn(adaEmail, adaPassword)
		id := w.sessionID()
		b := w.newBrowser()
		b.signIn(bobEmail, bobPassword)
		for _, guess := range []string{id, flip(id, len(id)-1), "", "ses_x", "' OR 1=1 --"} {
			p := b.once(http.MethodPost, "/preferences/sessions/end", url.Values{"id": {guess}, "user_id": {w.ada.ID}}, nil)
			p.wantStatus(http.StatusNotFound)
		}
		if strings.Contains(b.get("/preferences/sessions/end?id="+id).body, id) {
			t.Error("another's session is shown")
		}
		for _, path := range accountPages() {
			p := b.get(path + "?user_id=" + w.ada.ID + "&id=" + id + "&email=" + url.QueryEscape(adaEmail))
			if strings.Contains(p.body, "Ada Lovelace") {
				t.Errorf("%s shows somebody else", path)
			}
		}
		if !victim.signedIn() {
			t.Error("the victim was signed out")
		}
	})
}

// ACC-07: of those who change the same password at once, one does.
func TestACC07_Race(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		w.exec(`UPDATE throttles SET tat = 0`)
		var bs [racers]*browser
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].signIn(adaEmail, adaPassword)
		}
		var won, winner atomic.Int64
		release(func(i int) {
			form := changeForm(adaPassword, fmt.Sprintf("%s, racer %d", newPassword, i))
			form.Del("sign_out_others")
			p := bs[i].once(http.MethodPost, pathPassword, form, nil)
			if p.status == http.StatusSeeOther && p.header.Get("Location") == "/preferences/security" {
				won.Add(1)
				winner.Store(int64(i))
			}
		})
		if won.Load() != 1 {
			t.Fatalf("%d changed the password", won.Load())
		}
		w.newBrowser().signIn(adaEmail, fmt.Sprintf("%s, racer %d", newPassword, winner.Load()))
	})
}

// ACC-08, TF-1, SE-3: what changes how one signs in, or ends sessions, needs a
// proof of the last ten minutes.
func TestACC08_RecentProof(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newBrowser()
		other.signIn(adaEmail, adaPassword)
		id := w.sessionID()
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		time.Sleep(10*time.Minute + time.Second)
		before := w.state()
		for path, form := range map[string]url.Values{
			pathTwoFactor: {}, "/preferences/security/2fa/again": {}, pathTurnOn: {"code": {"123456"}, "saved": {"1"}},
			"/preferences/sessions/end": {"id": {id}}, "/preferences/sessions/end-others": {}, "/preferences/not-me": {},
			"/preferences/security/2fa/codes.txt": {},
		} {
			b.post(path, form).want(http.StatusOK, "/login/confirm")
		}
		if after := w.state(); after != before {
			t.Errorf("something changed:\n%s\n%s", before, after)
		}
		// The proof leads back to what it was for, and serves the visit.
		p := b.post("/preferences/sessions/end", url.Values{"id": {id}})
		token := b.session()
		v := p.form("/login/confirm")
		v.Set("password", "not her password")
		b.post("/login/confirm", v).want(http.StatusUnprocessableEntity, "/login/confirm")
		v.Set("password", adaPassword)
		p = b.post("/login/confirm", v)
		p.want(http.StatusOK, "/preferences/sessions/end")
		if b.session() == token || w.holding(w.house, token).signedIn() {
			t.Error("SES-03: the session has the same token") // I11
		}
		b.post("/preferences/sessions/end", p.form("/preferences/sessions/end")).want(http.StatusOK, "/preferences/sessions")
		if other.signedIn() {
			t.Error("the other session lives")
		}
		b.setUp()
	})
}

// ACC-10: where password managers lead.
func TestACC10_ChangePasswordURL(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		p := b.once(http.MethodGet, "/.well-known/change-password", nil, nil)
		p.wantStatus(http.StatusSeeOther)
		if got := p.header.Get("Location"); got != "/preferences/security#password" {
			t.Errorf("leads to %s", got)
		}
		b.once(http.MethodGet, "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200", nil, nil).wantStatus(http.StatusNotFound)
	})
}

// SES-06, SES-07, SES-08: the Sessions tab.
func TestSES06_Sessions(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		replica := w.newReplica()
		phone := w.browserAt(w.house, "198.51.100.20")
		phone.header.Set("User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1")
		k := phone.connect(w.acme, adaEmail, adaPassword)
		waiting := w.globex.begin()
		code := waiting.code(phone.get(waiting.url())) // issued, not redeemed
		time.Sleep(3 * time.Hour)
		b := w.newBrowser()
		b.header.Set("User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0")
		b.connect(w.globex, adaEmail, adaPassword)
		third := w.newBrowser()
		third.signIn(adaEmail, adaPassword)
		p := b.get("/preferences/sessions")
		p.want(http.StatusOK, "/preferences/sessions")
		for _, s := range []string{"This device", "Firefox on Windows", "Safari on iPhone", "3 hours ago", "198.51.100.20", "Acme", "Globex", "password"} {
			p.wantText(s)
		}
		for _, s := range []string{"hse_", phone.session(), b.session(), "hac_", "hrt_"} {
			if strings.Contains(p.body, s) {
				t.Errorf("the page has %q", s)
			}
		}
		var id string
		for _, m := range regexp.MustCompile(`name="id" value="(ses_[a-z2-7]+)"`).FindAllStringSubmatch(p.body, -1) {
			if got := w.texts(`SELECT user_agent FROM sessions WHERE id = '` + m[1] + `'`); strings.Contains(got[0], "iPhone") {
				id = m[1]
			}
		}
		b.post("/preferences/sessions/end", url.Values{"id": {id}}).want(http.StatusOK, "/preferences/sessions")
		if phone.signedIn() || phone.at(replica).signedIn() {
			t.Error("the phone is signed in")
		}
		w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		if w.userinfo(k.AccessToken) != nil {
			t.Error("its access token lives")
		}
		waiting.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		// A second time, it is gone.
		b.once(http.MethodPost, "/preferences/sessions/end", url.Values{"id": {id}}, nil).wantStatus(http.StatusNotFound)
		if !third.signedIn() {
			t.Error("a third session ended with it")
		}
		b.post("/preferences/sessions/end-others", url.Values{}).want(http.StatusOK, "/preferences/sessions")
		if third.signedIn() || !b.signedIn() {
			t.Error("all but this one end")
		}
		b.get("/preferences/sessions").wantText("only signed in here")
	})
}

// A session that ends while its tokens are refreshed is dead when it has ended.
func TestSES07_EndAgainstRefresh(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		other := w.newBrowser()
		k := other.connect(w.globex, adaEmail, adaPassword)
		id := w.sessionID()
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}}
		var last atomic.Value
		release(func(i int) {
			if i == racers/2 {
				b.at(pick(i)).once(http.MethodPost, "/preferences/sessions/end", url.Values{"id": {id}}, nil)
				return
			}
			if r := w.globex.postAt(pick(i), form, nil); r.status == http.StatusOK {
				last.Store(r)
			}
		})
		if r, ok := last.Load().(*tokens); ok {
			w.globex.refresh(r.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
			if w.userinfo(r.AccessToken) != nil {
				t.Error("an access token outlives its session")
			}
		}
	})
}

// The Activity tab tells what happened, in plain words, the operators' acts too,
// and nothing of strangers.
func TestActivity(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.newBrowser().attempt(adaEmail, "a stranger's guess")
		_, a := w.twoFactor()
		c := w.newBrowser()
		p := c.half(adaEmail, adaPassword)
		c.verify(p, a.wrong())
		c.useBackupCode(a.codes[0])
		time.Sleep(24 * time.Hour)
		w.mails()
		if err := w.house.accounts.ResetTwoFactor(t.Context(), w.ada.ID, "case <4711>", supporter); err != nil {
			t.Fatal(err)
		}
		w.mail(adaEmail, "2FA off")
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword) // no code is asked for
		p = b.get("/preferences/activity")
		p.want(http.StatusOK, "/preferences/activity")
		for _, s := range []string{
			"Two-factor authentication turned on", "Right password, but the code was wrong", "Used a backup code. 9 left", "case <4711>",
			"Signed in on a new browser with password", "Account created", "This wasn’t me",
		} {
			p.wantText(s)
		}
		if strings.Contains(p.body, "guess") {
			t.Error("a stranger's attempt is shown")
		}
		if strings.Contains(w.newBrowser().get("/preferences/activity").body, "4711") {
			t.Error("shown to nobody in particular")
		}
		time.Sleep(91 * 24 * time.Hour)
		b.signIn(adaEmail, adaPassword)
		if strings.Contains(b.get("/preferences/activity").body, "4711") {
			t.Error("shown after 90 days")
		}
	})
}

// "This wasn’t me" ends everything else and leads to the password.
func TestNotMe(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		thief := w.newBrowser()
		thief.signIn(adaEmail, adaPassword)
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		p := b.get("/preferences/not-me")
		p.want(http.StatusOK, "/preferences/not-me")
		b.post("/preferences/not-me", p.form("/preferences/not-me")).want(http.StatusOK, "/preferences/security")
		if thief.signedIn() || !b.signedIn() {
			t.Error("the thief stays, or the owner goes")
		}
	})
}

// A notice that a cookie brings is one of ours or none.
func TestNoticeOfNobody(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, v := range []string{"n=<script>&v=x", "n=nonsense", "%zz", "n=reset_sent&v=" + url.QueryEscape("<b>x</b>"), "n=reset_sent"} {
			b.plant("__Host-harmony-notice", v)
			p := b.get("/preferences/security")
			p.want(http.StatusOK, "/preferences/security")
			if strings.Contains(p.body, "<script>") || strings.Contains(p.body, "<b>x") || strings.Contains(p.body, "nonsense") || strings.Contains(p.body, "We’ve sent") {
				t.Errorf("%q is shown", v)
			}
		}
	})
}

// The headers and rules of pages hold on all of these (WEB-01, WEB-09).
func TestAccountPagesHeaders(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, _ := w.twoFactor()
		for _, path := range append(accountPages(), "/login/forgot", "/login/recovery", "/login/reset", "/login/verify", "/login/backup-code") {
			b.get(path).wantHeaders(path)
		}
	})
}
