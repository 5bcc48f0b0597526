package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
)

// Passkeys and security keys: the WA cases, with a soft authenticator. Chromium's
// virtual ones are in browser_passkey_test.go.

// WA-01: registered, signed out, signed in, on either replica; the ID token says so.
func TestWA01_SignInWithAPasskey(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("Work laptop")
		w.mails()
		other := w.newReplica()
		for i, h := range []*house{w.house, other} {
			b := w.browserAt(h, "192.0.2.77")
			f := w.acme.begin()
			b.get(f.url()).wantText("Sign in to continue to Acme")
			p := b.withKey(k)
			p.want(http.StatusOK, "/preferences/security")
			c := f.redeem(f.code(b.get(f.url()))).ok().claims()
			if fmt.Sprint(c["amr"]) != "[hwk user mfa]" || c["acr"] != account.ACR2FA {
				t.Errorf("replica %d: amr %v, acr %v", i, c["amr"], c["acr"])
			}
			b.get("/preferences/sessions").wantText("with passkey")
		}
		// One that is synced says that.
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		s := newSoftKey()
		s.synced = true
		b.add(s, "Phone")
		b.get("/preferences/security").wantText("Synced to your other devices")
		b = w.newBrowser()
		b.withKey(s).want(http.StatusOK, "/preferences/security")
		if c := b.connect(w.acme, "", "").claims(); fmt.Sprint(c["amr"]) != "[swk user mfa]" {
			t.Errorf("amr %v", c["amr"])
		}
	})
}

// refusedKey checks that a passkey got nobody in, and that the page says why.
func (b *browser) refusedKey(p *page, status int, says string) {
	b.w.t.Helper()
	if p.status != status || b.signedIn() || b.session() != "" {
		b.w.t.Fatalf("%d at %s, signed in %v, want %d and nobody:\n%s", p.status, p.url, b.signedIn(), status, p.body)
	}
	p.wantText(says)
}

// WA-02: what was sent once is worth nothing a second time.
func TestWA02_Replay(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.newBrowser(), newSoftKey()
		b.signIn(adaEmail, adaPassword)
		q := b.askKey(pathAskNewKey, "")
		cookie := b.cookie(passkeyCookieName)
		form := url.Values{"name": {"One"}, "credential": {k.register(q)}}
		b.post(pathAddKey, form).want(http.StatusOK, "/preferences/security")
		w.exec(`DELETE FROM passkeys`)
		b.plant(passkeyCookieName, cookie)
		b.post(pathAddKey, form).want(http.StatusUnprocessableEntity, pathAddKey)
		if w.count(`passkeys`) != 0 {
			t.Error("a registration counts twice")
		}
		b.add(k, "One")

		c := w.newBrowser()
		q = c.askKey(pathAskKey, "sign_in")
		cookie = c.cookie(passkeyCookieName)
		form = url.Values{"credential": {k.sign(q)}}
		c.post(pathPasskey, form).want(http.StatusOK, "/preferences/security")
		d := w.newBrowser()
		d.plant(passkeyCookieName, cookie)
		d.refusedKey(d.post(pathPasskey, form), http.StatusUnprocessableEntity, "another page asked for a passkey meanwhile")
	})
}

// I1: one answer, sixteen times at once, on two replicas: one session.
func TestWA02_Race(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		_, k := w.withPasskey("One")
		b := w.newBrowser()
		form := url.Values{"credential": {k.sign(b.askKey(pathAskKey, "sign_in"))}}
		cookie := b.cookie(passkeyCookieName)
		var bs [racers]*browser
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			bs[i].plant(passkeyCookieName, cookie)
		}
		before := w.count(`sessions`)
		var in atomic.Int64
		release(func(i int) {
			if p := bs[i].once(http.MethodPost, pathPasskey, form, nil); p.status == http.StatusSeeOther && p.header.Get("Location") == "/preferences/security" {
				in.Add(1)
			}
		})
		if in.Load() != 1 || w.count(`sessions`) != before+1 {
			t.Errorf("%d got in, %d sessions more, want 1 and 1", in.Load(), w.count(`sessions`)-before)
		}
	})
}

// I1: one new key, sixteen times at once, of two people: it is one's.
func TestWA06_Race(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		w.weaken(w.bob.ID, bobPassword)
		k := newSoftKey()
		var bs [racers]*browser
		var forms [racers]url.Values
		for i := range bs {
			bs[i] = w.browserAt(pick(i), fmt.Sprintf("192.0.2.%d", 100+i))
			if i%2 == 0 {
				bs[i].signIn(adaEmail, adaPassword)
			} else {
				bs[i].signIn(bobEmail, bobPassword)
			}
			forms[i] = url.Values{"name": {"One"}, "credential": {k.register(bs[i].askKey(pathAskNewKey, ""))}}
		}
		var added atomic.Int64
		release(func(i int) {
			if p := bs[i].once(http.MethodPost, pathAddKey, forms[i], nil); p.status == http.StatusSeeOther {
				added.Add(1)
			}
		})
		if added.Load() != 1 || w.count(`passkeys`) != 1 || w.count(`events WHERE kind = 'passkey_added'`) != 1 {
			t.Errorf("%d were told yes, %d keys, %d events", added.Load(), w.count(`passkeys`), w.count(`events WHERE kind = 'passkey_added'`))
		}
	})
}

// WA-03: too late, and after something newer was asked.
func TestWA03_TooLateOrOvertaken(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("One")
		for life, in := range map[time.Duration]bool{account.PasskeyLife - time.Second: true, account.PasskeyLife + time.Second: false} {
			c := w.newBrowser()
			q := c.askKey(pathAskKey, "sign_in")
			if q.PublicKey.Timeout != int(account.PasskeyLife.Milliseconds()) {
				t.Errorf("the browser has %d ms", q.PublicKey.Timeout)
			}
			cookie := c.cookie(passkeyCookieName)
			time.Sleep(life)
			c.plant(passkeyCookieName, cookie) // a browser that keeps cookies for longer
			c.post(pathPasskey, url.Values{"credential": {k.sign(q)}})
			if c.signedIn() != in {
				t.Errorf("after %s: signed in %v", life, !in)
			}
		}
		c := w.newBrowser()
		q, cookie := c.askKey(pathAskKey, "sign_in"), c.cookie(passkeyCookieName)
		newer := c.askKey(pathAskKey, "sign_in")
		c.refusedKey(c.post(pathPasskey, url.Values{"credential": {k.sign(q)}}), http.StatusUnprocessableEntity, "couldn’t be checked")
		c.plant(passkeyCookieName, cookie)
		c.refusedKey(c.post(pathPasskey, url.Values{"credential": {k.sign(q)}}), http.StatusUnprocessableEntity, "took too long")
		c.refusedKey(c.post(pathPasskey, url.Values{"credential": {k.sign(newer)}}), http.StatusUnprocessableEntity, "took too long") // the first mistake spent it

		// The same when a key is added, from whichever browser of the session.
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		n := newSoftKey()
		q, cookie = b.askKey(pathAskNewKey, ""), b.cookie(passkeyCookieName)
		b.plant(passkeyCookieName, "")
		b.askKey(pathAskNewKey, "")
		b.plant(passkeyCookieName, cookie)
		b.post(pathAddKey, url.Values{"name": {"Two"}, "credential": {n.register(q)}}).wantStatus(http.StatusUnprocessableEntity)
		if w.count(`passkeys`) != 1 {
			t.Error("an older request was answered")
		}
	})
}

// WA-04: what one browser was asked, another does not answer.
func TestWA04_AnotherBrowser(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("One")
		victim, thief := w.newBrowser(), w.newBrowser()
		q := victim.askKey(pathAskKey, "sign_in")
		thief.refusedKey(thief.post(pathPasskey, url.Values{"credential": {k.sign(q)}}), http.StatusUnprocessableEntity, "took too long")
		thief.askKey(pathAskKey, "sign_in")
		thief.refusedKey(thief.post(pathPasskey, url.Values{"credential": {k.sign(q)}}), http.StatusUnprocessableEntity, "couldn’t be checked")

		// Nor for another use: what was asked to sign in adds no key and confirms nothing.
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		time.Sleep(account.ProofLife + time.Minute)
		q = b.askKey(pathAskKey, "sign_in")
		b.post("/login/confirm", url.Values{"with": {"passkey"}, "for": {"passkey_add"}, "to": {pathAddKey}, "credential": {k.sign(q)}}).want(http.StatusUnprocessableEntity, "/login/confirm")

		// A half sign-in's is that half sign-in's.
		one, two := w.newBrowser(), w.newBrowser()
		a := func() *app { c := w.newBrowser(); c.signIn(adaEmail, adaPassword); return c.enable() }()
		one.half(adaEmail, adaPassword)
		two.half(adaEmail, adaPassword)
		q = one.askKey(pathAskKey, "second")
		two.plant(passkeyCookieName, one.cookie(passkeyCookieName))
		two.post("/login/verify", url.Values{"credential": {k.sign(q)}}).want(http.StatusUnprocessableEntity, "/login/verify")
		if two.signedIn() {
			t.Error("another half sign-in was finished")
		}
		time.Sleep(time.Minute)
		two.verify(two.get("/login/verify"), a.code())
		two.in(true)
	})
}

// WA-05: everything that can be wrong in an answer, one at a time.
func TestWA05_WrongAnswers(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, k := w.withPasskey("One")
		bad := map[string]wrongs{
			"origin":                         {origin: "https://id.test.evil.example"},
			"origin, http":                   {origin: "http://id.test"},
			"origin, a port":                 {origin: "https://id.test:8443"},
			"origin, subdomain":              {origin: "https://evil.id.test"},
			"another domain":                 {domain: "evil.example"},
			"the other type":                 {kind: "webauthn.create"},
			"no type":                        {kind: "payment.get"},
			"another challenge":              {challenge: []byte("0123456789abcdef0123456789abcdef")},
			"a short challenge":              {challenge: []byte("0")},
			"a bit of signature":             {flip: true},
			"nobody touched it":              {absent: true},
			"backed up, though it cannot be": {backedUp: true},
			"in a frame of another site":     {crossOrigin: true},
		}
		for what, wrong := range bad {
			k.wrong = wrong
			c := w.newBrowser()
			p := c.withKey(k)
			k.wrong = wrongs{}
			if p.status != http.StatusUnprocessableEntity || c.signedIn() || c.session() != "" {
				t.Errorf("%s: %d at %s", what, p.status, p.url)
			}
			p.wantText("That passkey couldn’t be checked")
			if wrong.flip { // which a registration without attestation has not
				continue
			}
			if wrong.kind == "webauthn.create" {
				wrong.kind = "webauthn.get"
			}
			n := newSoftKey()
			n.wrong = wrong
			if p := b.tryAdd(n, "Two"); p.status != http.StatusUnprocessableEntity {
				t.Errorf("%s, registered: %d", what, p.status)
			}
		}
		if w.count(`passkeys`) != 1 {
			t.Errorf("%d passkeys", w.count(`passkeys`))
		}
		// Eligibility for a backup is a property of the key.
		k.synced = true
		c := w.newBrowser()
		c.refusedKey(c.withKey(k), http.StatusUnprocessableEntity, "couldn’t be checked")
		k.synced = false
		c.withKey(k).want(http.StatusOK, "/preferences/security")
	})
}

// WA-06: nobody registers what is somebody's.
func TestWA06_SomebodysKey(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("Ada’s")
		thief, n := w.newBrowser(), newSoftKey()
		thief.signIn(bobEmail, bobPassword)
		n.id = k.id
		thief.tryAdd(n, "Mine").want(http.StatusConflict, pathAddKey)
		if w.count(`passkeys`) != 1 || w.count(`passkeys WHERE user_id = $1`, w.ada.ID) != 1 {
			t.Error("the key changed hands")
		}
		b := w.newBrowser()
		b.withKey(k).wantText(adaEmail)
		c := w.newBrowser()
		n.handle = k.handle
		c.refusedKey(c.withKey(n), http.StatusUnprocessableEntity, "couldn’t be checked")
	})
}

// WA-07: whose key it is and whom it names are one person.
func TestWA07_HandleOfAnother(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, adas := w.withPasskey("Ada’s")
		b, bobs := w.newBrowser(), newSoftKey()
		b.signIn(bobEmail, bobPassword)
		b.add(bobs, "Bob’s")
		for _, pair := range [][2]*softKey{{adas, bobs}, {bobs, adas}} {
			pair[0].wrong.handle = pair[1].handle
			c := w.newBrowser()
			c.refusedKey(c.withKey(pair[0]), http.StatusUnprocessableEntity, "couldn’t be checked")
			pair[0].wrong.handle = []byte{}
			c.refusedKey(c.withKey(pair[0]), http.StatusUnprocessableEntity, "couldn’t be checked")
			pair[0].wrong.handle = nil
		}
		// As a second factor, too, and to confirm: another's key is nothing.
		a := w.newBrowser()
		a.signIn(adaEmail, adaPassword)
		a.enable()
		bobs.handle, adas.handle = adas.handle, bobs.handle
		c := w.newBrowser()
		c.half(adaEmail, adaPassword)
		c.secondKey(bobs).want(http.StatusUnprocessableEntity, "/login/verify")
		c.in(false)
	})
}

// WA-08: who may add a key: nobody who is half signed in, whose proof is old, or whose
// form comes from elsewhere.
func TestWA08_WhoMayAdd(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		k := newSoftKey()
		ask := func(b *browser) *page { return b.once(http.MethodPost, pathAskNewKey, url.Values{}, nil) }
		stranger := w.newBrowser()
		if p := ask(stranger); p.status != http.StatusSeeOther || !strings.HasPrefix(p.header.Get("Location"), "/login") {
			t.Errorf("a stranger was asked: %d", p.status)
		}
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		form := url.Values{"name": {"One"}, "credential": {k.register(b.askKey(pathAskNewKey, ""))}}
		for _, header := range []http.Header{{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}, {"Origin": nil, "Sec-Fetch-Site": nil}} {
			b.once(http.MethodPost, pathAddKey, form, header).wantStatus(http.StatusForbidden)
			b.once(http.MethodPost, pathAskNewKey, url.Values{}, header).wantStatus(http.StatusForbidden)
			w.newBrowser().once(http.MethodPost, pathAskKey, url.Values{"use": {"sign_in"}}, header).wantStatus(http.StatusForbidden)
		}
		time.Sleep(account.ProofLife - time.Minute)
		form = url.Values{"name": {"One"}, "credential": {k.register(b.askKey(pathAskNewKey, ""))}}
		cookie := b.cookie(passkeyCookieName)
		time.Sleep(2 * time.Minute)
		b.plant(passkeyCookieName, cookie)
		ask(b).wantStatus(http.StatusForbidden)
		b.post(pathAddKey, form).want(http.StatusOK, "/login/confirm")
		b.get(pathAddKey).wantText("You’re about to add a passkey or security key.")
		if w.count(`passkeys`) != 0 {
			t.Fatal("an old proof adds a key")
		}

		// With two-factor authentication, the password alone is not proof enough.
		b.confirm(adaPassword)
		a := b.enable()
		time.Sleep(account.ProofLife + time.Minute)
		p := b.get(pathAddKey)
		p.want(http.StatusOK, "/login/confirm")
		b.post("/login/confirm", url.Values{"with": {"password"}, "for": {"passkey_add"}, "to": {pathAddKey}, "password": {adaPassword}})
		ask(b).wantStatus(http.StatusForbidden)
		half := w.newBrowser()
		half.half(adaEmail, adaPassword)
		if p := ask(half); p.status != http.StatusSeeOther {
			t.Errorf("half signed in: asked for a new key: %d", p.status)
		}
		b.post("/login/confirm", url.Values{"with": {"code"}, "for": {"passkey_add"}, "to": {pathAddKey}, "code": {a.code()}}).want(http.StatusOK, pathAddKey)
		b.add(k, "One")
	})
}

// WA-09: a key that counts fewer uses than were seen is refused, its person is told, and
// the count stays.
func TestWA09_Cloned(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.newBrowser(), newSoftKey()
		k.count = 10
		b.signIn(adaEmail, adaPassword)
		b.add(k, "Blue key")
		w.mails()
		clone := k.copied()
		k.count = 20
		c := w.newBrowser()
		c.withKey(k).want(http.StatusOK, "/preferences/security")
		w.mails()
		for _, count := range []uint32{11, 20} { // fewer, and as many
			clone.count = count
			d := w.newBrowser()
			d.refusedKey(d.withKey(clone), http.StatusUnprocessableEntity, "There may be a copy of that passkey")
			if m := w.mail(adaEmail, "We refused one of your passkeys"); !strings.Contains(m.Text, "Blue key") {
				t.Errorf("the mail does not name it:\n%s", m.Text)
			}
			if w.count(`passkeys WHERE sign_count = 20`) != 1 {
				t.Error("the count moved")
			}
		}
		clone.count = 0 // one that does not count any more
		d := w.newBrowser()
		d.refusedKey(d.withKey(clone), http.StatusUnprocessableEntity, "There may be a copy")
		w.mails()
		b.get("/preferences/activity").wantText("Passkey “Blue key” refused: there may be a copy of it")
		if !strings.Contains(w.log.String(), `"outcome":"passkey_cloned"`) {
			t.Error("the log does not say so")
		}
		// The same as a second factor and as a fresh proof.
		b.enable()
		clone.count = 12
		d = w.newBrowser()
		d.half(adaEmail, adaPassword)
		d.secondKey(clone).want(http.StatusUnprocessableEntity, "/login/verify")
		d.in(false)
		clone.count = 12
		time.Sleep(account.ProofLife + time.Minute)
		b.confirmKey(clone, "passkey_add", pathAddKey).want(http.StatusUnprocessableEntity, "/login/confirm")
		if w.count(`events WHERE kind = 'passkey_refused'`) != 5 {
			t.Errorf("%d events", w.count(`events WHERE kind = 'passkey_refused'`))
		}
		// The key itself goes on.
		k.count = 21
		w.newBrowser().withKey(k).want(http.StatusOK, "/preferences/security")
	})
}

// WA-10, WA-14: a key that is only touched is one factor: the second after a password or
// Google; as the first it opens nothing, and with an app its code is asked.
func TestWA10_TouchAlone(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.newBrowser(), newSoftKey()
		k.verifies = false
		b.signIn(adaEmail, adaPassword)
		w.mails()
		b.add(k, "Blue key")
		if m := w.mail(adaEmail, "A security key was added"); !strings.Contains(m.Text, "It only asks for a touch") || strings.Contains(m.Text, "can sign in with it.") {
			t.Errorf("the mail: %s", m.Text)
		}
		b.get("/preferences/security").wantText("Touch only")
		c := w.newBrowser()
		c.refusedKey(c.withKey(k), http.StatusUnprocessableEntity, "isn’t enough alone")
		if c.waits() != "" {
			t.Error("half signed in")
		}
		// Nor does it confirm who is signed in without a second factor.
		time.Sleep(account.ProofLife + time.Minute)
		b.confirmKey(k, "passkey_add", pathAddKey).want(http.StatusUnprocessableEntity, "/login/confirm")

		b.confirm(adaPassword)
		a := b.enable()
		time.Sleep(30 * time.Second)
		// After the password.
		c = w.newBrowser()
		c.half(adaEmail, adaPassword).wantText("Use a passkey or security key")
		c.secondKey(k).want(http.StatusOK, "/preferences/security")
		if got := c.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != "[pwd hwk user mfa]" || got["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", got["amr"], got["acr"])
		}
		c.get("/preferences/sessions").wantText("password + passkey")
		// Before the code, and nothing but the code.
		c = w.newBrowser()
		p := c.withKey(k)
		p.want(http.StatusOK, "/login/verify")
		p.wantText("Your key was right, but it didn’t check that it’s you.")
		if strings.Contains(p.body, "backup code") || strings.Contains(p.body, `action="/login/verify" data-passkey`) {
			t.Errorf("another way is offered:\n%s", p.body)
		}
		c.in(false)
		c.useBackupCode(a.codes[0])
		c.in(false)
		c.secondKey(k)
		c.in(false)
		c.verify(c.get("/login/verify"), a.code()).want(http.StatusOK, "/preferences/security")
		if got := c.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != "[hwk user otp mfa]" {
			t.Errorf("amr %v", got["amr"])
		}
		c.get("/preferences/sessions").wantText("security key + code")
		// It confirms like a code does.
		time.Sleep(account.ProofLife + time.Minute)
		c.confirmKey(k, "passkey_add", pathAddKey).want(http.StatusOK, pathAddKey)

		// WA-14: one that verifies is both.
		u := newSoftKey()
		c.add(u, "Laptop")
		c = w.newBrowser()
		c.withKey(u).want(http.StatusOK, "/preferences/security")
		if got := c.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != "[hwk user mfa]" || got["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", got["amr"], got["acr"])
		}
	})
}

// WA-11: what is not offered is not registered.
func TestWA11_WhatIsNotOffered(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for what, edit := range map[string]func(*softKey){
			"RS1":                 func(k *softKey) { k.wrong.alg = -65535 },
			"ES256K":              func(k *softKey) { k.wrong.alg = -47 },
			"ES512":               func(k *softKey) { k.wrong.alg = -36 },
			"an attestation":      func(k *softKey) { k.wrong.format = "garbage" },
			"a TPM's attestation": func(k *softKey) { k.wrong.format = "tpm" },
			"an id of 1024 bytes": func(k *softKey) { k.id = make([]byte, 1024) },
			"an empty id":         func(k *softKey) { k.id = nil },
			"no key":              func(k *softKey) { k.wrong.noKey = true },
		} {
			k := newSoftKey()
			edit(k)
			if p := b.tryAdd(k, "One"); p.status != http.StatusUnprocessableEntity {
				t.Errorf("%s: %d", what, p.status)
			}
		}
		if w.count(`passkeys`) != 0 {
			t.Errorf("%d passkeys", w.count(`passkeys`))
		}
	})
}

// WA-12: removing needs a recent proof, and is at once, everywhere.
func TestWA12_Remove(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.withPasskey("Work laptop")
		w.mails()
		id := w.texts(`SELECT id FROM passkeys`)[0]
		time.Sleep(account.ProofLife + time.Minute)
		b.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusOK, "/login/confirm")
		w.newBrowser().withKey(k).want(http.StatusOK, "/preferences/security")
		p := b.fillConfirm(b.get(pathRemovePasskey+"?id="+id), adaPassword)
		p.want(http.StatusOK, pathRemovePasskey)
		p.wantText("won’t sign you in any more.")

		// Somebody else's, or nobody's, is on no page.
		other := w.newBrowser()
		other.signIn(bobEmail, bobPassword)
		w.mails()
		for _, path := range []string{pathRemovePasskey, pathRenamePasskey} {
			other.get(path + "?id=" + id).wantStatus(http.StatusNotFound)
			other.post(path, url.Values{"id": {id}, "name": {"Mine"}}).wantStatus(http.StatusNotFound)
		}

		replica := w.newReplica()
		c := w.browserAt(replica, "192.0.2.88")
		q := c.askKey(pathAskKey, "sign_in")
		b.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusOK, "/preferences/security")
		p = c.post(pathPasskey, url.Values{"credential": {k.sign(q)}})
		c.refusedKey(p, http.StatusNotFound, "That passkey was removed from Harmony")
		// The browser may forget it now: this answer, and no other, says so.
		want := fmt.Sprintf(`{"signalUnknownCredential":{"credentialId":%q,"rpId":"id.test"}}`, b64url(k.id))
		if got := attributes(p.body[strings.Index(p.body, `data-signal=`):])["data-signal"]; got != want {
			t.Errorf("the browser is told %s, want %s", got, want)
		}
		if m := w.mail(adaEmail, "A passkey was removed"); !strings.Contains(m.Text, "Work laptop") {
			t.Errorf("the mail: %s", m.Text)
		}
		b.post(pathRemovePasskey, url.Values{"id": {id}}).wantStatus(http.StatusNotFound)
		b.get("/preferences/activity").wantText("Passkey “Work laptop” removed")
	})
}

// Sessions that a removed passkey began go on, unless the person has the others end: the
// dialog offers it, and does so unless that is unticked.
func TestWA12_RemoveAndSignOut(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, ends := range []bool{false, true} {
			b, k := w.withPasskey("Work laptop")
			thief := w.newBrowser()
			thief.withKey(k).want(http.StatusOK, "/preferences/security")
			w.mails()
			id := w.texts(`SELECT id FROM passkeys`)[0]
			p := b.get(pathRemovePasskey + "?id=" + id)
			if box := regexp.MustCompile(`<input id="remove_others"[^>]*>`).FindString(p.body); !strings.Contains(box, "checked") || !strings.Contains(box, `name="sign_out_others"`) {
				t.Fatalf("the choice: %q", box)
			}
			form := url.Values{"id": {id}}
			if ends {
				form.Set("sign_out_others", "on")
			}
			b.post(pathRemovePasskey, form).want(http.StatusOK, "/preferences/security")
			thief.in(!ends)
			b.in(true)
			said := "None ended"
			if ends { // with the two of before
				said = "3 ended"
			}
			if m := w.mail(adaEmail, "A passkey was removed"); !strings.Contains(m.Text, said) {
				t.Errorf("the mail: %s", m.Text)
			}
		}
	})
}

// A key that is removed between the answer and the session opens none (I4).
func TestWA12_RemovedMeanwhile(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("One")
		b := w.newBrowser()
		q := b.askKey(pathAskKey, "sign_in")
		answer := account.PasskeyAnswer{Token: b.cookie(passkeyCookieName), Response: k.sign(q)}
		l := must(w.house.accounts.CheckPasskey(t.Context(), answer, account.Device{}))(t)
		w.exec(`DELETE FROM passkeys`)
		if p, err := w.house.accounts.Complete(t.Context(), l, "", ""); err == nil || p.Session != "" {
			t.Errorf("a session opened with a passkey that is gone: %v", err)
		}
	})
}

// Nor does a key that was only touched, of who had an app a moment ago.
func TestWA10_AppGoneMeanwhile(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, _ := w.twoFactor()
		k := newSoftKey()
		k.verifies = false
		b.add(k, "One")
		c := w.newBrowser()
		q := c.askKey(pathAskKey, "sign_in")
		answer := account.PasskeyAnswer{Token: c.cookie(passkeyCookieName), Response: k.sign(q)}
		l := must(w.house.accounts.CheckPasskey(t.Context(), answer, account.Device{}))(t)
		b.post(pathOff, url.Values{}).want(http.StatusOK, "/preferences/security")
		if p, err := w.house.accounts.Complete(t.Context(), l, "", ""); err == nil || p.Session != "" || p.Half != "" {
			t.Errorf("a touch alone opened a session: %v", err)
		}
	})
}

// What one session was asked, another of the same person does not answer.
func TestWA04_AnotherSession(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		a, k := w.withPasskey("One")
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		time.Sleep(account.ProofLife + time.Minute)
		q := a.askKey(pathAskKey, "confirm")
		b.plant(passkeyCookieName, a.cookie(passkeyCookieName))
		form := url.Values{"with": {"passkey"}, "for": {"passkey_add"}, "to": {pathAddKey}, "credential": {k.sign(q)}}
		b.post("/login/confirm", form).want(http.StatusUnprocessableEntity, "/login/confirm")
		b.get(pathAddKey).want(http.StatusOK, "/login/confirm")
		a.confirmKey(k, "passkey_add", pathAddKey).want(http.StatusOK, pathAddKey)
	})
}

// WA-13: what is asked at sign-in depends on nobody.
func TestWA13_NobodyIsNamed(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		w.withPasskey("One")
		seen := map[string]bool{}
		for _, email := range []string{adaEmail, bobEmail, "nobody@example.com", ""} {
			b := w.newBrowser()
			p := b.once(http.MethodPost, pathAskKey, url.Values{"use": {"sign_in"}, "email": {email}}, nil)
			var q askedKey
			if err := json.Unmarshal([]byte(p.body), &q); err != nil {
				t.Fatal(err)
			}
			seen[strings.ReplaceAll(p.body, q.PublicKey.Challenge, "")] = true
			if len(q.PublicKey.AllowCredentials) != 0 || q.PublicKey.RPID != "id.test" || q.PublicKey.UserVerification != "preferred" {
				t.Errorf("%s: %s", email, p.body)
			}
		}
		if len(seen) != 1 {
			t.Errorf("the answers differ: %v", seen)
		}
	})
}

// WA-15: what no browser sends is refused without a fuss.
func TestWA15_Nonsense(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, k := w.withPasskey("One")
		huge := []byte{0x5b, 0, 0, 0, 1, 0, 0, 0, 0} // a string of 2^32 bytes
		deep := strings.Repeat("[", 10000) + strings.Repeat("]", 10000)
		object := func(cbor []byte) string {
			return fmt.Sprintf(`{"type":"public-key","id":"AAAA","rawId":"AAAA","response":{"clientDataJSON":"e30","attestationObject":%q}}`, b64url(cbor))
		}
		good := func(q askedKey) string { return k.sign(q) }
		for what, body := range map[string]func(askedKey) string{
			"nothing":            func(askedKey) string { return " " },
			"no JSON":            func(askedKey) string { return "passkey" },
			"null":               func(askedKey) string { return "null" },
			"an array":           func(askedKey) string { return "[]" },
			"a number":           func(askedKey) string { return "1e999" },
			"nested":             func(askedKey) string { return deep },
			"nested in a member": func(askedKey) string { return `{"type":"public-key","id":` + deep + `}` },
			"truncated":          func(q askedKey) string { s := good(q); return s[:len(s)/2] },
			"more behind it":     func(q askedKey) string { return good(q) + "{}" },
			"a name twice":       func(q askedKey) string { return `{"id":"AAAA",` + good(q)[1:] },
			"larger than any": func(q askedKey) string {
				return good(q)[:1] + `"x":"` + strings.Repeat("x", 40<<10) + `",` + good(q)[1:]
			},
			"CBOR of 2^32 bytes": func(askedKey) string { return object(huge) },
			"CBOR, nested":       func(askedKey) string { return object([]byte(strings.Repeat("\x81", 10000))) },
			"CBOR, a name twice": func(askedKey) string { return object([]byte("\xa2\x63fmt\x60\x63fmt\x60")) },
			"CBOR, truncated":    func(askedKey) string { return object([]byte("\xa3\x63fmt")) },
			"no authenticator data": func(q askedKey) string {
				return strings.Replace(good(q), `"authenticatorData":"`, `"authenticatorData":"AA`, 1)
			},
			"client data that is none": func(askedKey) string {
				return `{"type":"public-key","id":"AAAA","rawId":"AAAA","response":{"clientDataJSON":"bm9uZQ","authenticatorData":"AA","signature":"AA"}}`
			},
		} {
			c := w.newBrowser()
			q := c.askKey(pathAskKey, "sign_in")
			if p := c.post(pathPasskey, url.Values{"credential": {body(q)}}); p.status != http.StatusUnprocessableEntity || c.signedIn() {
				t.Errorf("%s: %d", what, p.status)
			}
			q = b.askKey(pathAskNewKey, "")
			if p := b.post(pathAddKey, url.Values{"name": {"Two"}, "credential": {body(q)}}); p.status != http.StatusUnprocessableEntity {
				t.Errorf("%s, registered: %d", what, p.status)
			}
		}
		c := w.newBrowser()
		c.askKey(pathAskKey, "sign_in")
		c.once(http.MethodPost, pathPasskey, url.Values{"credential": {strings.Repeat("x", 1<<20)}}, nil).wantStatus(http.StatusRequestEntityTooLarge)
		if w.count(`passkeys`) != 1 {
			t.Error("nonsense was registered")
		}
	})
}

// WA-16: what a browser is asked for when a key is added.
func TestWA16_CreationOptions(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, k := w.withPasskey("One")
		q := b.askKey(pathAskNewKey, "").PublicKey
		handle := must(base64.RawURLEncoding.DecodeString(q.User.ID))(t)
		if len(handle) < 16 || strings.Contains(string(handle), "ada") || string(handle) == w.ada.ID || string(handle) != string(k.handle) {
			t.Errorf("user handle %q", handle)
		}
		if len(q.ExcludeCredentials) != 1 || q.ExcludeCredentials[0].ID != b64url(k.id) {
			t.Errorf("excluded: %v", q.ExcludeCredentials)
		}
		if q.User.Name != adaEmail || q.User.DisplayName != "Ada Lovelace" || q.RP.ID != "id.test" || q.Attestation != "none" || fmt.Sprint(q.PubKeyCredParams) != "[{-8} {-7} {-257}]" {
			t.Errorf("%+v", q)
		}
		seen := map[string]bool{}
		const many = 500
		for range many {
			c := b.askKey(pathAskKey, "sign_in").PublicKey.Challenge
			if len(must(base64.RawURLEncoding.DecodeString(c))(t)) < 16 {
				t.Fatalf("challenge %s", c)
			}
			seen[c] = true
		}
		if len(seen) != many || w.count(`ceremonies`) != 1 {
			t.Errorf("%d challenges of %d, %d rows", len(seen), many, w.count(`ceremonies`))
		}
	})
}

// WA-17: twenty are the most.
func TestWA17_Twenty(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for i := range 20 {
			b.add(newSoftKey(), fmt.Sprint("Key ", i))
		}
		b.once(http.MethodPost, pathAskNewKey, url.Values{}, nil).wantStatus(http.StatusNotFound)
		if w.count(`passkeys`) != 20 {
			t.Errorf("%d passkeys", w.count(`passkeys`))
		}
		// Nor by a request that was made before.
		w.exec(`DELETE FROM passkeys WHERE id = (SELECT MIN(id) FROM passkeys)`)
		k := newSoftKey()
		form := url.Values{"name": {"One more"}, "credential": {k.register(b.askKey(pathAskNewKey, ""))}}
		c := w.newBrowser()
		c.signIn(adaEmail, adaPassword)
		c.add(newSoftKey(), "Meanwhile")
		b.post(pathAddKey, form).want(http.StatusUnprocessableEntity, pathAddKey)
		if w.count(`passkeys`) != 20 {
			t.Errorf("%d passkeys", w.count(`passkeys`))
		}
		if p := c.once(http.MethodPost, pathAskKey, url.Values{"use": {"sign_in"}}, nil); len(p.body) > 500 {
			t.Errorf("%d bytes to sign in", len(p.body))
		}
	})
}

// WA-18: every event has a mail and a line of the activity, whatever the name.
func TestWA18_Told(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		w.mails()
		const evil = `"><script>alert(1)</script>`
		b.tryAdd(newSoftKey(), evil).wantText("Your passkey was added")
		if m := w.mail(adaEmail, "A passkey was added"); !strings.Contains(m.Text, evil) || strings.Contains(m.HTML, "<script>") || !strings.Contains(m.Text, "192.0.2.10") {
			t.Errorf("%s\n%s", m.Text, m.HTML)
		}
		id := w.texts(`SELECT id FROM passkeys`)[0]
		b.get(pathRenamePasskey + "?id=" + id).wantText("Rename your passkey")
		for _, name := range []string{"", "   ", strings.Repeat("x", 61), "a\u202eb", "a\x07b"} {
			b.post(pathRenamePasskey, url.Values{"id": {id}, "name": {name}}).want(http.StatusUnprocessableEntity, pathRenamePasskey)
			if name != "" {
				b.post(pathAddKey, url.Values{"name": {name}, "credential": {newSoftKey().register(b.askKey(pathAskNewKey, ""))}}).want(http.StatusUnprocessableEntity, pathAddKey)
			}
		}
		b.post(pathRenamePasskey, url.Values{"id": {id}, "name": {"Work laptop"}}).want(http.StatusOK, "/preferences/security")
		if m := w.mail(adaEmail, "A passkey of yours was renamed"); !strings.Contains(m.Text, "New name: Work laptop") {
			t.Errorf("%s", m.Text)
		}
		p := b.get("/preferences/activity")
		p.wantText("renamed “Work laptop”")
		p.wantText("Passkey “" + evil + "” added")
		if strings.Contains(p.body, evil) {
			t.Error("not escaped")
		}
	})
}

// WA-19: a reset of the password leaves passkeys and names them in the mail; support's
// reset of two-factor authentication removes and names them.
func TestWA19_Resets(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.withPasskey("Work laptop")
		time.Sleep(time.Second) // the oldest is named first
		b.add(newSoftKey(), "Phone")
		w.mails()
		c := w.newBrowser()
		c.reset(w.link(), newPassword)
		if m := w.mail(adaEmail, "Your Harmony password was reset"); !strings.Contains(m.Text, "Passkeys that still sign you in: Work laptop, Phone") {
			t.Errorf("%s", m.Text)
		}
		b.in(false)
		b = w.newBrowser()
		b.withKey(k).want(http.StatusOK, "/preferences/security")
		w.mails()
		// Without an app, too: they are what she has.
		if err := w.house.accounts.ResetTwoFactor(t.Context(), w.ada.ID, "4711", supporter); err != nil {
			t.Fatal(err)
		}
		if m := w.mail(adaEmail, "Harmony support turned 2FA off"); !strings.Contains(m.Text, "Passkeys removed: Work laptop, Phone") {
			t.Errorf("%s", m.Text)
		}
		b.in(false)
		d := w.newBrowser()
		d.refusedKey(d.withKey(k), http.StatusNotFound, "removed from Harmony")
		if w.count(`passkeys`) != 0 {
			t.Error("they are still there")
		}
		if err := w.house.accounts.ResetTwoFactor(t.Context(), w.ada.ID, "4711", supporter); err == nil {
			t.Error("there was nothing to reset")
		}
	})
}

// WA-20: nobody is left without a way in.
func TestWA20_TheLastWay(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.withPasskey("One")
		w.exec(`UPDATE users SET password_hash = NULL WHERE id = $1`, w.ada.ID)
		id := w.texts(`SELECT id FROM passkeys`)[0]
		b.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusConflict, pathRemovePasskey)
		b.get("/preferences/activity").wantText("added")
		if w.count(`passkeys`) != 1 || w.count(`events WHERE kind = 'passkey_removed'`) != 0 {
			t.Error("it is gone")
		}
		b = w.newBrowser()
		b.withKey(k).want(http.StatusOK, "/preferences/security")
		b.add(newSoftKey(), "Two")
		b.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusOK, "/preferences/security")
	})
}

// A workspace that demands two factors takes a passkey that verifies, and asks for it
// who is signed in with less.
func TestPasskeyIsTwoFactors(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("One")
		vault := w.add(idp.Client{ID: "vault", Name: "Vault", RedirectURIs: []string{"https://vault.test/cb"}, RequirePKCE: true, Require2FA: true})
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := vault.begin()
		p := b.get(f.url())
		p.want(http.StatusOK, "/login/confirm")
		p.wantText("Vault asks for two-factor authentication.")
		if strings.Contains(p.body, "with=password") {
			t.Error("a password is offered")
		}
		to := p.form("/login/confirm").Get("to")
		code := f.code(b.confirmKey(k, "workspace", to))
		if c := f.redeem(code).ok().claims(); fmt.Sprint(c["amr"]) != "[pwd hwk user mfa]" || c["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", c["amr"], c["acr"])
		}
		// Turning two-factor authentication off takes nothing from a passkey's own session.
		c := w.newBrowser()
		c.withKey(k)
		kept := c.connect(vault, "", "")
		c.enable()
		c.post(pathOff, url.Values{}).want(http.StatusOK, "/preferences/security")
		if got := vault.refresh(kept.RefreshToken).ok().claims(); fmt.Sprint(got["amr"]) != "[hwk user mfa]" || got["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", got["amr"], got["acr"])
		}
		if got := c.connect(vault, "", "").claims(); fmt.Sprint(got["amr"]) != "[hwk user mfa]" {
			t.Errorf("amr %v", got["amr"])
		}
		// One that only has a password beside it is back at one factor.
		b.get("/preferences/security").want(http.StatusOK, "/preferences/security")
		if got := b.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != "[pwd]" || got["acr"] != account.ACR1FA {
			t.Errorf("amr %v, acr %v", got["amr"], got["acr"])
		}
	})
}

// Two-factor authentication by security keys alone: backup codes remain, an app can be
// added, and the last key cannot be removed by accident (WA-20).
func TestSecurityKeyOnly(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.newBrowser(), newSoftKey()
		k.verifies = false
		b.signIn(adaEmail, adaPassword)
		b.get(pathKeysOn).want(http.StatusOK, "/preferences/security") // who has no key is asked for none
		b.add(k, "Blue key")
		other := w.newBrowser()
		other.signIn(adaEmail, adaPassword)
		w.mails()
		b.get("/preferences/security").wantText("Ask for a passkey")
		b.get(pathKeysOn).wantText("Ask for a passkey at sign-in?")
		p := b.post(pathKeysOn, url.Values{})
		p.want(http.StatusOK, pathKeysOn)
		codes := p.backupCodes()
		if again := b.get(pathKeysOn).backupCodes(); len(codes) != 10 || fmt.Sprint(again) != fmt.Sprint(codes) {
			t.Errorf("codes %v, then %v", codes, again)
		}
		form := p.form(pathKeysOn + "/save")
		b.post(pathKeysOn+"/save", form).want(http.StatusUnprocessableEntity, pathKeysOn+"/save")
		if w.count(`totp`) != 0 || w.count(`backup_codes`) != 0 {
			t.Error("it is on before the codes are saved")
		}
		form.Set("saved", "on")
		form.Set("sign_out_others", "on")
		p = b.post(pathKeysOn+"/save", form)
		p.want(http.StatusOK, "/preferences/security")
		p.wantText("You’ll be asked for a passkey or security key every time you start a new session.")
		p.wantText("No authenticator app")
		other.in(false)
		w.mail(adaEmail, "Two-factor authentication is on")

		// The password leads to the key, or a backup code; no code is asked for or taken.
		c := w.newBrowser()
		p = c.half(adaEmail, adaPassword)
		p.wantText("Use your passkey or security key for Harmony")
		if strings.Contains(p.body, `name="code"`) {
			t.Error("a code is asked for")
		}
		for _, code := range []string{"000000", ""} {
			c.post("/login/verify", url.Values{"code": {code}}).want(http.StatusUnprocessableEntity, "/login/verify")
		}
		c.secondKey(k).want(http.StatusOK, "/preferences/security")
		if got := c.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != "[pwd hwk user mfa]" || got["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", got["amr"], got["acr"])
		}
		d := w.newBrowser()
		d.half(adaEmail, adaPassword)
		d.useBackupCode(codes[0]).want(http.StatusOK, "/login/backup-code/used")
		d.in(true)
		// The key alone opens nothing.
		e := w.newBrowser()
		e.refusedKey(e.withKey(k), http.StatusUnprocessableEntity, "isn’t enough alone")

		// It is the last one.
		id := w.texts(`SELECT id FROM passkeys`)[0]
		c.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusConflict, pathRemovePasskey)
		if w.count(`passkeys`) != 1 {
			t.Fatal("the last second factor is gone")
		}
		// With an app beside it, it is not.
		a := c.setUp().scan()
		v := c.get(pathTwoFactor).form(pathTurnOn)
		v.Set("code", a.code())
		v.Set("saved", "on")
		c.post(pathTurnOn, v).want(http.StatusOK, "/preferences/security")
		c.get(pathTwoFactor).want(http.StatusOK, "/preferences/security") // it is there already
		if w.count(`totp WHERE length(secret_sealed) > 0`) != 1 || w.count(`backup_codes`) != 10 {
			t.Error("no app, or not the new backup codes")
		}
		time.Sleep(time.Minute)
		f := w.newBrowser()
		f.verify(f.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")
		c.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusOK, "/preferences/security")
	})
}

// Who has keys alone turns it off with one of them, and is told which proof it was.
func TestSecurityKeyOnlyOff(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, k := w.withPasskey("Blue key")
		b.post(pathKeysOn, url.Values{})
		b.post(pathKeysOn+"/save", url.Values{"saved": {"on"}}).want(http.StatusOK, "/preferences/security")
		w.mails()
		b.get(pathOff).want(http.StatusOK, "/login/confirm") // no second factor was proved in this session
		b.post(pathOff, url.Values{}).wantStatus(http.StatusUnprocessableEntity)
		b.confirmKey(k, "disable", pathOff).want(http.StatusOK, pathOff)
		b.post(pathOff, url.Values{}).want(http.StatusOK, "/preferences/security")
		if m := w.mail(adaEmail, "Two-factor authentication is off"); !strings.Contains(m.Text, "Passkey") {
			t.Errorf("%s", m.Text)
		}
		if w.count(`totp`)+w.count(`backup_codes`) != 0 || w.count(`passkeys`) != 1 {
			t.Error("something is left, or the passkey is gone")
		}
		w.newBrowser().signIn(adaEmail, adaPassword)
	})
}

const pathKeysOn = "/preferences/security/2fa/passkeys"

// Google accounts have passkeys, too.
func TestPasskeyOfAGoogleAccount(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		g := w.withGoogle()
		b, k := w.newBrowser(), newSoftKey()
		b.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/preferences/security")
		b.add(k, "One")
		w.newBrowser().withKey(k).wantText(veraEmail)
		b.enable()
		c := w.newBrowser()
		c.withGoogle(g, pathGoogle, vera()).want(http.StatusOK, "/login/verify")
		c.secondKey(k).want(http.StatusOK, "/preferences/security")
		if got := c.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != "[fed hwk user mfa]" {
			t.Errorf("amr %v", got["amr"])
		}
		c.get("/preferences/sessions").wantText("Google + passkey")
		// And it confirms without a round trip.
		time.Sleep(account.ProofLife + time.Minute)
		c.confirmKey(k, "end_others", "/preferences/sessions/end-others").want(http.StatusOK, "/preferences/sessions/end-others")
	})
}

// A person who may not sign in gets nothing for a right passkey.
func TestPasskeyOfADisabledPerson(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("One")
		if err := w.house.accounts.DisableUser(t.Context(), w.ada.ID, supporter); err != nil {
			t.Fatal(err)
		}
		b := w.newBrowser()
		b.refusedKey(b.withKey(k), http.StatusUnprocessableEntity, "couldn’t be checked")
	})
}

// The URLs that password managers look for, and what house-keeping leaves.
func TestPasskeyEndpoints(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		p := b.get("/.well-known/passkey-endpoints")
		if p.body != `{"enroll":"https://id.test/preferences/security/passkeys/add","manage":"https://id.test/preferences/security#passkeys"}` || p.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", p.header.Get("Content-Type"), p.body)
		}
		b.askKey(pathAskKey, "sign_in")
		// One network is not asked without end.
		w.exec(`UPDATE throttles SET tat = $1 WHERE key = 'passkey/network/192.0.2.10/32'`, time.Now().Add(15*time.Minute).UnixMicro())
		if p := b.once(http.MethodPost, pathAskKey, url.Values{"use": {"sign_in"}}, nil); p.status != http.StatusTooManyRequests || p.header.Get("Retry-After") == "" {
			t.Errorf("asked in spite of the limit: %d", p.status)
		}
		for use, status := range map[string]int{"second": http.StatusNotFound, "confirm": http.StatusUnauthorized, "add": http.StatusBadRequest, "": http.StatusBadRequest} {
			w.newBrowser().once(http.MethodPost, pathAskKey, url.Values{"use": {use}}, nil).wantStatus(status)
		}
		time.Sleep(account.PasskeyLife + time.Second)
		must(0, w.house.clean(t.Context()))(t)
		if n := w.count(`ceremonies`); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// Mails about passkeys lead to "This wasn’t me", which says what a new password does not
// do: a passkey that a thief added goes on signing in until it is removed.
func TestNotMe_Passkeys(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, k := w.newBrowser(), newSoftKey()
		b.signIn(adaEmail, adaPassword)
		const step = "Remove passkeys that aren’t yours"
		if p := b.get("/preferences/not-me"); strings.Contains(p.body, step) {
			t.Error("there are none")
		}
		b.add(k, "A thief's")
		p := b.get("/preferences/not-me")
		p.wantText(step)
		if !strings.Contains(p.body, `href="/preferences/security#passkeys"`) {
			t.Error("it does not lead to them")
		}
	})
}

// fillConfirm gives the password on the page that asks for it.
func (b *browser) fillConfirm(p *page, password string) *page {
	b.w.t.Helper()
	v := p.form("/login/confirm")
	v.Set("password", password)
	return b.post("/login/confirm", v)
}

const passkeyCookieName = "__Host-harmony-passkey"

// What a touched key and the code of an app opened, no confirmation makes look like one
// passkey that checked who holds it, which is what two-factor authentication that is
// turned off takes nothing from.
func TestTouchedKeyConfirms(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		k := newSoftKey()
		k.verifies = false
		b.add(k, "Blue key")
		time.Sleep(30 * time.Second)
		c := w.newBrowser()
		c.withKey(k)
		c.verify(c.get("/login/verify"), a.code()).want(http.StatusOK, "/preferences/security")
		amr := func(want, acr string) {
			t.Helper()
			if got := c.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != want || got["acr"] != acr {
				t.Errorf("amr %v, acr %v, want %s, %s", got["amr"], got["acr"], want, acr)
			}
		}
		time.Sleep(account.ProofLife + time.Minute)
		c.confirmKey(k, "passkey_add", pathAddKey).want(http.StatusOK, pathAddKey)
		amr("[hwk user otp mfa]", account.ACR2FA)
		time.Sleep(account.ProofLife + time.Minute)
		c.post("/login/confirm", url.Values{"with": {"backup_code"}, "for": {"disable"}, "to": {pathOff}, "backup_code": {a.codes[0]}}).want(http.StatusOK, "/login/backup-code/used")
		amr("[hwk user otp mfa]", account.ACR2FA)
		c.post(pathOff, url.Values{}).want(http.StatusOK, "/preferences/security")
		amr("[hwk user]", account.ACR1FA)

		// Nor do a touch or a backup code make two factors of the touch that is left.
		p := c.post(pathKeysOn, url.Values{})
		p.want(http.StatusOK, pathKeysOn)
		codes := p.backupCodes()
		c.post(pathKeysOn+"/save", url.Values{"saved": {"on"}}).want(http.StatusOK, "/preferences/security")
		c.confirmKey(k, "disable", pathOff).want(http.StatusUnprocessableEntity, "/login/confirm")
		c.post("/login/confirm", url.Values{"with": {"backup_code"}, "for": {"disable"}, "to": {pathOff}, "backup_code": {codes[0]}}).want(http.StatusUnprocessableEntity, "/login/confirm")
		amr("[hwk user]", account.ACR1FA)
		k.verifies = true
		c.confirmKey(k, "disable", pathOff).want(http.StatusOK, pathOff)
		amr("[hwk user mfa]", account.ACR2FA)
	})
}

// A key that is removed while its touch waits for the code leads nowhere any more.
func TestWA12_RemovedBeforeTheCode(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, a := w.twoFactor()
		k := newSoftKey()
		k.verifies = false
		b.add(k, "Blue key")
		thief := w.newBrowser()
		thief.withKey(k).want(http.StatusOK, "/login/verify")
		b.post(pathRemovePasskey, url.Values{"id": {w.texts(`SELECT id FROM passkeys`)[0]}}).want(http.StatusOK, "/preferences/security")
		thief.post("/login/verify", url.Values{"code": {a.code()}})
		thief.in(false)
	})
}

// WA-20: a key that is only touched is no way in.
func TestWA20_TouchIsNoWayIn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, _ := w.withPasskey("One")
		id := w.texts(`SELECT id FROM passkeys`)[0]
		k := newSoftKey()
		k.verifies = false
		b.add(k, "Blue key")
		w.exec(`UPDATE users SET password_hash = NULL WHERE id = $1`, w.ada.ID)
		b.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusConflict, pathRemovePasskey)
		// With the code of an app it is.
		a := b.enable()
		time.Sleep(30 * time.Second)
		b.post(pathRemovePasskey, url.Values{"id": {id}}).want(http.StatusOK, "/preferences/security")
		c := w.newBrowser()
		c.withKey(k)
		c.verify(c.get("/login/verify"), a.code()).want(http.StatusOK, "/preferences/security")
	})
}

// WA-19: support that switches how somebody signs in leaves passkeys, and says which.
func TestWA19_AnotherMethod(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("Work laptop")
		w.mails()
		if err := w.house.accounts.LinkGoogle(t.Context(), w.ada.ID, login.GoogleIssuer, veraSub, "4711", supporter); err != nil {
			t.Fatal(err)
		}
		if m := w.mail(adaEmail, "You sign in with Google now"); !strings.Contains(m.Text, "Passkeys that still sign you in: Work laptop") {
			t.Errorf("%s", m.Text)
		}
		if err := w.house.accounts.UnlinkGoogle(t.Context(), w.ada.ID, "4712", supporter); err != nil {
			t.Fatal(err)
		}
		if m := w.mail(adaEmail, "You sign in with a password now"); !strings.Contains(m.Text, "Passkeys that still sign you in: Work laptop") {
			t.Errorf("%s", m.Text)
		}
		w.newBrowser().withKey(k).want(http.StatusOK, "/preferences/security")
	})
}

// Wrong codes after a key that was only touched say that somebody has the key, and
// nothing of a password.
func TestWrongCodesAfterAKey(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b, _ := w.twoFactor()
		k := newSoftKey()
		k.verifies = false
		b.add(k, "Blue key")
		w.mails()
		thief := w.newBrowser()
		thief.withKey(k).want(http.StatusOK, "/login/verify")
		for range 3 {
			thief.post("/login/verify", url.Values{"code": {"000000"}})
		}
		if m := w.mail(adaEmail, "Someone has a security key of yours"); strings.Contains(m.Text, "Your password was") || !strings.Contains(m.Text, "/preferences/security/passkeys") {
			t.Errorf("%s", m.Text)
		}
		b.get("/preferences/activity").wantText("Right security key, but the code was wrong")
	})
}

// Who signs in again with a password takes nothing from what a workspace was granted
// after a passkey that was both factors.
func TestPasskeyThenPassword(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		_, k := w.withPasskey("One")
		vault := w.add(idp.Client{ID: "vault", Name: "Vault", RedirectURIs: []string{"https://vault.test/cb"}, RequirePKCE: true, Require2FA: true})
		b := w.newBrowser()
		b.withKey(k)
		kept := b.connect(vault, "", "")
		b.fill(b.get("/login?another=1"), adaEmail, adaPassword).want(http.StatusOK, "/preferences/security")
		if got := b.connect(w.acme, "", "").claims(); fmt.Sprint(got["amr"]) != "[pwd]" || got["acr"] != account.ACR1FA {
			t.Errorf("amr %v, acr %v", got["amr"], got["acr"])
		}
		if got := vault.refresh(kept.RefreshToken).ok().claims(); fmt.Sprint(got["amr"]) != "[hwk user mfa]" || got["acr"] != account.ACR2FA {
			t.Errorf("amr %v, acr %v", got["amr"], got["acr"])
		}
	})
}
