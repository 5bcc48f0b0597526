package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/account"
)

// Cases beyond the catalogue, each found by somebody who looked for it.

// I5: a session of a credential that is no more stays dead, also when the password
// is changed again and the other sessions are kept.
func TestI5_DeadSessionsStayDead(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		thief, b := w.newBrowser(), w.newBrowser()
		thief.signIn(adaEmail, adaPassword)
		b.signIn(adaEmail, adaPassword)
		w.exec(`UPDATE sessions SET credential = credential - 1 WHERE id = $1`, w.texts(`SELECT id FROM sessions ORDER BY created_at, id`)[0])
		kept := 0
		for _, c := range []*browser{thief, b} {
			if c.signedIn() {
				kept++
				b = c
			}
		}
		if kept != 1 {
			t.Fatalf("%d sessions hold", kept)
		}
		b.get("/preferences/sessions").wantText("only signed in here")
		form := changeForm(adaPassword, newPassword)
		form.Del("sign_out_others")
		b.post(pathPassword, form).want(http.StatusOK, "/preferences/security")
		if n := len(w.texts(`SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.credential = u.password_changed_at`)); n != 1 {
			t.Errorf("%d sessions hold after the change", n)
		}
	})
}

// DF-3: once it is off, the next token says so, and a workspace that demands it
// gets none.
func TestDF3_ToldByTheNextToken(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, a := w.twoFactor()
		b := w.newBrowser()
		b.verify(b.half(adaEmail, adaPassword), a.code())
		k, kp := b.connect(w.acme, "", ""), b.connect(w.globex, "", "")
		if c := w.acme.refresh(k.RefreshToken).ok().claims(); c["acr"] != account.ACR2FA {
			t.Fatalf("acr %v", c["acr"])
		}
		b.post(pathOff, url.Values{}).want(http.StatusOK, "/preferences/security")
		for _, r := range []*tokens{w.acme.refresh(k.RefreshToken).ok(), w.globex.refresh(kp.RefreshToken).ok(), b.connect(w.acme, "", "")} {
			if c := r.claims(); c["acr"] != account.ACR1FA || fmt.Sprint(c["amr"]) != "[pwd]" {
				t.Errorf("acr %v, amr %v", c["acr"], c["amr"])
			}
		}
		w.change(`UPDATE clients SET require_2fa = 1 WHERE id = 'acme'`)
		w.forget()
		w.acme.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
	})
}

// TF-1: setting up and turning off proves nothing: the ten minutes of the password
// are not prolonged by it.
func TestTF1_NotProlonged(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		time.Sleep(9 * time.Minute)
		b.enable()
		b.post(pathOff, url.Values{}).want(http.StatusOK, "/preferences/security")
		time.Sleep(2 * time.Minute)
		b.get(pathTwoFactor).want(http.StatusOK, "/login/confirm")
	})
}

// OTP-8: three wrong backup codes after the right password are told like three
// wrong codes; wrong ones of who is signed in are not, for nobody typed a password.
func TestOTP8_WhoIsTold(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		c := w.newBrowser()
		c.half(adaEmail, adaPassword)
		for range 3 {
			c.useBackupCode("00000-00000").want(http.StatusUnprocessableEntity, "/login/backup-code")
		}
		w.mail(adaEmail, "knows")
		time.Sleep(11 * time.Minute)
		for range 3 {
			b.post(pathOff, url.Values{"code": {a.wrong()}}).want(http.StatusUnprocessableEntity, pathOff)
		}
		if m := w.mails(); len(m) != 0 {
			t.Errorf("mails %+v", m)
		}
		b.get("/preferences/activity").wantText("A wrong code was entered to confirm it was you")
		// The pause begins here as well.
		w.exec(`UPDATE totp SET failures = 99`)
		b.post(pathOff, url.Values{"code": {a.wrong()}})
		w.mail(adaEmail, "paused")
	})
}

// FP-3: of two requests one is mailed; what an operator or an invitation gave is
// not taken away by who types an address.
func TestFP3_OneLinkOfAKind(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		support := must(w.house.accounts.MakeLink(t.Context(), w.ada.ID, 24*time.Hour, supporter))(t)
		w.mails()
		w.newBrowser().forgot(adaEmail)
		time.Sleep(time.Second)
		w.newBrowser().forgot(adaEmail)
		var links []string
		for _, m := range w.mails() {
			links = append(links, resetLink(t, m))
		}
		if len(links) == 0 {
			t.Fatal("no link")
		}
		last := w.newBrowser()
		last.get(strings.TrimPrefix(links[len(links)-1], issuer)).want(http.StatusOK, "/login/reset")
		b := w.newBrowser()
		b.get("/login/reset?token="+support).want(http.StatusOK, "/login/reset")
		time.Sleep(31 * time.Minute) // its page is good for as long as it is
		b.setPassword(newPassword).want(http.StatusOK, "/login")
		// Whatever else was asked for is over.
		w.newBrowser().forgot(adaEmail)
		w.newBrowser().signIn(adaEmail, newPassword)
	})
}

// A reset that nobody waits for any more is not mailed.
func TestFP3_NotDaysLater(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.newBrowser().forgot(adaEmail)
		time.Sleep(3 * time.Hour)
		if m := w.mails(); len(m) != 0 {
			t.Errorf("mails %+v", m)
		}
	})
}

// SE-4: who signs out everywhere else ends half sign-ins, too, even with no session
// to end.
func TestSE4_HalfEndsAsWell(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		half := w.newBrowser()
		half.half(adaEmail, adaPassword)
		b.post("/preferences/sessions/end-others", url.Values{}).want(http.StatusOK, "/preferences/sessions")
		half.post("/login/verify", url.Values{"code": {a.code()}}).want(http.StatusOK, "/login")
		if half.signedIn() {
			t.Error("signed in")
		}
		// "Use a different account" forgets it as well.
		half.half(adaEmail, adaPassword)
		half.get("/login?another=1")
		half.post("/login/verify", url.Values{"code": {a.code()}}).want(http.StatusOK, "/login")
	})
}

// Who has nothing to prove with is told so, and not led in circles.
func TestConfirmWithoutProofs(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.google("goo@example.com")
		time.Sleep(11 * time.Minute)
		b.get(pathTwoFactor).want(http.StatusForbidden, "/login/confirm")
	})
}

// The codes that are shown can be downloaded for as long as they are shown, after
// the proof that was asked for again.
func TestTF6_DownloadLater(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		b.post(pathCodes, url.Values{})
		time.Sleep(11 * time.Minute)
		p := b.post("/preferences/security/2fa/codes.txt", url.Values{})
		p.want(http.StatusOK, "/login/confirm")
		v := p.form("/login/confirm")
		v.Set("code", a.code())
		b.post("/login/confirm", v).want(http.StatusOK, pathCodes)
	})
}

// An invitation sets a first password, which is no reset.
func TestInvitation(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		u := must(w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: "ivy@example.com", Name: "Ivy"}, supporter))(t)
		token := must(w.house.accounts.MakeLink(t.Context(), u.ID, 7*24*time.Hour, supporter))(t)
		time.Sleep(6 * 24 * time.Hour)
		b := w.newBrowser()
		b.reset("/login/reset?token="+token, newPassword).want(http.StatusOK, "/login")
		w.mail("ivy@example.com", "Your Harmony password is set")
		b.signIn("ivy@example.com", newPassword)
		b.get("/preferences/activity").wantText("First password set")
	})
}
