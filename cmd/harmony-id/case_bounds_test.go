package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/account"
)

// How long things last and how many there may be.

const halfCookieName = "__Host-harmony-login"

// LOGIN-04: a browser that knows an old password is a stranger's; the one in which
// the password was changed is the owner's. Who comes with the new password for the
// first time is told of.
func TestLOGIN04_KnownWithThePassword(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		old, own := w.newBrowser(), w.newBrowser()
		old.signIn(adaEmail, adaPassword)
		own.signIn(adaEmail, adaPassword)
		time.Sleep(time.Second)
		own.post(pathPassword, changeForm(adaPassword, newPassword)).want(http.StatusOK, "/preferences/security")
		own.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
		w.weaken(w.ada.ID, newPassword)
		w.exec(`DELETE FROM throttles`)
		for range 10 {
			w.newBrowser().attempt(adaEmail, "guess").wantStatus(http.StatusUnprocessableEntity)
		}
		old.attempt(adaEmail, newPassword).wantStatus(http.StatusTooManyRequests)
		own.attempt(adaEmail, newPassword).wantStatus(http.StatusSeeOther)
		w.mails()
		time.Sleep(2 * time.Hour)
		old.attempt(adaEmail, newPassword).wantStatus(http.StatusSeeOther)
		w.mail(adaEmail, "New sign-in to your Harmony account")
		own.attempt(adaEmail, newPassword).wantStatus(http.StatusSeeOther)
		if m := w.mails(); len(m) != 0 {
			t.Errorf("mails %+v", m)
		}
	})
}

// TOTP, I20: what the owner mistypes does not hide that somebody else has the
// password.
func TestWrongCodesOfTheOwnerHideNobody(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		owner, a := w.twoFactor()
		time.Sleep(11 * time.Minute)
		p := owner.get("/preferences/security/2fa/codes")
		p.want(http.StatusOK, "/login/confirm")
		for range 4 {
			form := p.form("/login/confirm")
			form.Set("code", a.wrong())
			owner.post("/login/confirm", form).want(http.StatusUnprocessableEntity, "/login/confirm")
		}
		w.mails()
		thief := w.newBrowser()
		for range 3 {
			if m := w.mails(); len(m) != 0 {
				t.Errorf("mails %+v", m)
			}
			time.Sleep(5 * time.Minute)
			thief.verify(thief.half(adaEmail, adaPassword), a.wrong())
		}
		w.mail(adaEmail, "Someone knows your Harmony password")
	})
}

// I18, SES-14: who has the password costs so much and no more: hashes, rows, mails.
func TestSES14_RightPasswordsAreBounded(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.weaken(w.ada.ID, adaPassword)
		n := 0
		for ; n < 200; n++ {
			if w.newBrowser().attempt(adaEmail, adaPassword).status != http.StatusSeeOther {
				break
			}
		}
		if n < 80 || n > 100 {
			t.Errorf("%d sign-ins within a moment", n)
		}
		w.mail(adaEmail, "New sign-in")
		known := w.browserAt(w.house, "203.0.113.77")
		for n = 0; n < 200; n++ {
			if known.attempt(adaEmail, adaPassword).status != http.StatusSeeOther {
				break
			}
		}
		if n < 80 || n > 101 {
			t.Errorf("%d sign-ins within a moment in a browser that is known", n)
		}
		w.mail(adaEmail, "New sign-in")
		if n := w.count(`sessions WHERE ended_at IS NULL`); n != 50 {
			t.Errorf("%d sessions", n)
		}
		// From elsewhere it goes on, and is told.
		other := w.browserAt(w.house, "203.0.113.5")
		other.signIn(adaEmail, adaPassword)
		w.mail(adaEmail, "New sign-in")
		other.get("/preferences/activity").wantText("50 sessions are the most")
		time.Sleep(time.Hour)
		w.newBrowser().attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther)
		w.mail(adaEmail, "New sign-in")
	})
}

// TOTP-06: who is half signed in is not any more when the browser is signed out, or
// somebody signs in there.
func TestHalfEndsWithTheBrowser(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		for what, end := range map[string]func(*browser){
			"sign-out": func(b *browser) { b.post("/logout", url.Values{}) },
			"sign-in":  func(b *browser) { b.attempt(bobEmail, bobPassword).wantStatus(http.StatusSeeOther) },
			"another":  func(b *browser) { b.get("/login?another=1") },
		} {
			b := w.newBrowser()
			b.half(adaEmail, adaPassword)
			half := b.cookie(halfCookieName)
			end(b)
			if b.cookie(halfCookieName) != "" || half == "" {
				t.Errorf("%s: the cookie is %q", what, half)
			}
			b = w.newBrowser()
			b.plant(halfCookieName, half)
			b.get("/login/verify").want(http.StatusOK, "/login")
			time.Sleep(time.Minute)
			b.post("/login/verify", url.Values{"code": {a.code()}})
			if n := w.count(`sessions WHERE user_id = $1 AND acr = $2 AND created_at > $3`, w.ada.ID, account.ACR2FA, time.Now().Add(-time.Second).UnixMicro()); n != 0 {
				t.Errorf("%s: the half sign-in went on", what)
			}
		}
		if n := w.count(`logins`); n != 0 {
			t.Errorf("%d half sign-ins", n)
		}
	})
}

// TOTP-14: a half sign-in ends by itself, whatever the browser keeps of it.
func TestTOTP14_HalfExpires(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		b.half(adaEmail, adaPassword)
		half := b.cookie(halfCookieName)
		time.Sleep(account.HalfLife + time.Second)
		b.plant(halfCookieName, half)
		b.get("/login/verify").want(http.StatusOK, "/login")
		b.plant(halfCookieName, half)
		b.post("/login/verify", url.Values{"code": {a.code()}}).want(http.StatusOK, "/login")
		if b.signedIn() {
			t.Error("a half sign-in of yesterday got in")
		}
	})
}

// TOTP-11: a right code forgives the wrong ones before it.
func TestRightCodeForgives(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		w.exec(`UPDATE totp SET failures = 98`)
		for range 3 {
			time.Sleep(10 * time.Minute)
			b := w.newBrowser()
			p := b.half(adaEmail, adaPassword)
			b.verify(p, a.wrong())
			b.verify(p, a.code())
			if !b.signedIn() {
				t.Fatal("the right code is refused")
			}
		}
	})
}

// I10: a thief who has the password cannot keep the owner's browser from the code.
func TestI10_ThiefBurnsTheCodes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		owner, a := w.twoFactor()
		owner.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
		time.Sleep(time.Minute)
		thief := w.newBrowser()
		p := thief.half(adaEmail, adaPassword)
		for range 5 {
			thief.verify(p, a.wrong()).wantStatus(http.StatusUnprocessableEntity)
		}
		thief.verify(p, a.code()).wantStatus(http.StatusTooManyRequests)
		owner.verify(owner.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")
	})
}

// TOTP-16: what was shown can be confirmed for a quarter of an hour, however often
// the person proves who they are, and not without end begun anew.
func TestSetUpIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		p := b.setUp()
		a, form := p.scan(), p.form(pathTurnOn)
		time.Sleep(14*time.Minute + 50*time.Second)
		b.confirm(adaPassword)
		form.Set("saved", "on")
		form.Set("code", a.wrong())
		b.post(pathTurnOn, form).wantStatus(http.StatusUnprocessableEntity) // still there
		time.Sleep(11 * time.Second)
		form.Set("code", a.code())
		b.post(pathTurnOn, form).wantText("left open for too long")
		if n := w.count(`totp`); n != 0 {
			t.Error("an old set-up was confirmed")
		}
		n := 0
		for ; n < 30; n++ {
			if b.once(http.MethodPost, "/preferences/security/2fa/again", url.Values{}, nil).status != http.StatusSeeOther {
				break
			}
		}
		if n < 15 || n > 20 {
			t.Errorf("%d set-ups within a moment", n)
		}
	})
}

// confirm proves with the password that it is who is signed in.
func (b *browser) confirm(password string) {
	b.w.t.Helper()
	form := b.get("/login/confirm?to=" + url.QueryEscape("/preferences/security")).form("/login/confirm")
	form.Set("with", "password")
	form.Set("password", password)
	b.post("/login/confirm", form).want(http.StatusOK, "/preferences/security")
}

// RST-05, DF-2: what ends, ends in the rows, and not only because something else is
// asked, too.
func TestEndedMeansGone(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		w.newBrowser().half(adaEmail, adaPassword)
		time.Sleep(time.Minute)
		form := b.get(pathOff).form(pathOff)
		form.Set("code", a.code())
		b.post(pathOff, form).want(http.StatusOK, "/preferences/security")
		for _, table := range []string{"logins", "totp", "backup_codes", "enrollments"} {
			if n := w.count(table); n != 0 {
				t.Errorf("%d %s after 2FA was turned off", n, table)
			}
		}
		b.setUp()
		w.mails()
		w.newBrowser().reset(w.link(), newPassword).want(http.StatusOK, "/login")
		for _, what := range []string{"enrollments", "sessions WHERE ended_at IS NULL", "resets"} {
			if n := w.count(what); n != 0 {
				t.Errorf("%d %s after a reset", n, what)
			}
		}
	})
}

// DOS: what no password can be is refused before it is hashed, on the change form, too.
func TestTooLongOnTheChangeForm(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		b.post(pathPassword, changeForm(strings.Repeat("x", 4000), newPassword)).wantStatus(http.StatusBadRequest)
	})
}
