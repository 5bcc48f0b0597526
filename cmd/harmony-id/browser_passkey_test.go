package main

import (
	"context"
	"strconv"
	"testing"
	"time"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Passkeys in Chromium, with virtual authenticators (Web Authentication's automation,
// WebAuthn L3 11).

// A virtualKey is an authenticator of a tab.
type virtualKey struct {
	b  *tab
	id webauthn.AuthenticatorID
}

// plugIn gives the tab an authenticator: one that is built in and checks who is there,
// or a security key that is only touched.
func (b *tab) plugIn(edit func(*webauthn.VirtualAuthenticatorOptions)) *virtualKey {
	b.t.Helper()
	o := &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}
	if edit != nil {
		edit(o)
	}
	k := &virtualKey{b: b}
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		made, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: o})
		if err == nil {
			k.id = made.AuthenticatorID
		}
		return err
	}))
	return k
}

func touchOnly(o *webauthn.VirtualAuthenticatorOptions) {
	o.Transport, o.HasResidentKey, o.HasUserVerification, o.IsUserVerified = webauthn.AuthenticatorTransportUsb, false, false, false
}

// credentials are what an authenticator holds.
func (k *virtualKey) credentials() (held []*webauthn.Credential) {
	k.b.t.Helper()
	k.b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		got, err := chromedp.Call(ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: k.id})
		if err == nil {
			held = got.Credentials
		}
		return err
	}))
	return held
}

// present says whether somebody touches the authenticator when it asks.
func (k *virtualKey) present(on bool) {
	k.b.t.Helper()
	k.b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: k.id, Enabled: on})
		return err
	}))
}

// unplug takes it away, with what it holds.
func (k *virtualKey) unplug() {
	k.b.t.Helper()
	k.b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: k.id})
		return err
	}))
}

// addPasskey adds what the tab's authenticator makes, on the Security tab.
func (b *tab) addPasskey(name string) arrival {
	b.t.Helper()
	b.choose("Add a passkey or security key")
	b.fill("Name", name)
	return b.touch(chromedp.Click("Continue", named("Continue")))
}

// nobodyThere opens a page in a browser that does not offer passkeys in the address
// field: an authenticator that simulates presence would take the offer at once. The
// keys' presence is as it is otherwise.
func (b *tab) nobodyThere(address string, keys ...*virtualKey) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{
			Source: `PublicKeyCredential.isConditionalMediationAvailable = async () => false`,
		})
		return err
	}))
	for _, k := range keys {
		k.present(true)
	}
	b.open(address)
}

// signOut ends the session of the tab.
func (s *devStage) signOut(b *tab, p resident) {
	b.t.Helper()
	b.open(s.provider + "/preferences/security")
	b.click(p.name + " " + p.email)
	b.choose("Sign out").want(200, s.provider+"/logout")
}

// arrives waits until the tab goes to an address by itself.
func (b *tab) arrives(address string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); run1(b, chromedp.Location()) != address || js[string](b, "document.readyState") != "complete"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("it does not go to %s\n%s", address, b.where())
		}
	}
}

// touch does what has a passkey asked for, which leads to another page by and by.
func (b *tab) touch(step chromedp.Action[chromedp.Void]) arrival {
	b.t.Helper()
	js[chromedp.Void](b, "void (window.before = true)")
	b.do(step)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		// While one page goes and another comes there is none to ask.
		status, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`window.before || document.readyState !== "complete" ? 0 : performance.getEntriesByType("navigation")[0].responseStatus`))
		if err == nil && status != 0 {
			b.keepsNothing()
			return arrival{b: b, status: status, at: run1(b, chromedp.Location())}
		}
		if ctx.Err() != nil {
			b.t.Fatalf("it leads nowhere (%v)\n%s", err, b.where())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// useKey presses the button for a passkey.
func (b *tab) useKey() arrival {
	b.t.Helper()
	return b.touch(chromedp.Click(keyButton))
}

const keyButton = chromedp.CSS("form[data-passkey] button[type=submit]")

// A passkey that checks who is there: offered in the address field, by the button, to
// workspaces; renamed, and removed on both sides.
func testPasskey(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Erna Hoover")
	k := b.plugIn(nil)
	s.security(b, p)
	b.wantText("Passkeys and security keys", "No passkeys yet")
	b.addPasskey("Work laptop").want(200, s.provider+"/preferences/security", "Your passkey was added", "Work laptop", "On one device")
	s.mail(b, p, "A passkey was added to your account")
	if held := k.credentials(); len(held) != 1 || held[0].RpID != "localhost" || !held[0].IsResidentCredential || held[0].UserName != p.email {
		t.Fatalf("the authenticator holds %+v", held)
	}
	s.signOut(b, p)

	// The address field offers it (conditional mediation), and somebody chooses it.
	b.leave(chromedp.Navigate(s.acme + "/sign-in"))
	b.arrives(s.acme + "/")
	b.wantText("Hello, Erna Hoover")
	b.wantText("hwk", "user", "mfa", "urn:harmony:acr:2fa")
	s.signOut(b, p)

	// The button.
	b.nobodyThere(s.provider+"/login", k)
	wantJS(b, `document.querySelector("#email").autocomplete`, "username webauthn")
	b.useKey().want(200, s.provider+"/preferences/security", "Work laptop", "Last used a moment ago")

	// It confirms who is signed in.
	s.proofsAge(t, p)
	b.choose("Remove Work laptop").want(200, s.provider+"/login/confirm", "You’re about to remove a passkey.")
	b.choose("Use a passkey or security key").want(200, s.provider+"/login/confirm")
	b.useKey().want(200, s.provider+"/preferences/security/passkeys/remove", "Remove this passkey?")
	b.choose("Cancel").want(200, s.provider+"/preferences/security")
	b.choose("Rename Work laptop").want(200, s.provider, "Rename your passkey")
	b.fill("Name", "Blue laptop")
	b.choose("Save name").want(200, s.provider+"/preferences/security", "The name was changed.", "Blue laptop")

	// Removed here: whoever keeps it hears of it.
	b.choose("Remove Blue laptop")
	b.choose("Remove").want(200, s.provider+"/preferences/security", "The passkey was removed.", "No passkeys yet")
	k.forgets()
	s.mail(b, p, "A passkey was removed from your account")

	// Removed behind its back: it hears when somebody uses it.
	b.open(s.provider + "/preferences/security")
	b.addPasskey("Again").want(200, s.provider+"/preferences/security")
	s.signOut(b, p)
	b.nobodyThere(s.provider+"/login", k)
	s.exec(t, `DELETE FROM passkeys WHERE user_id = (SELECT id FROM users WHERE email = $1)`, p.email)
	b.useKey().want(404, s.provider+"/login/passkey", "Error: ", "That passkey was removed from Harmony.")
	k.forgets()
	b.nobodyThere(s.provider+"/login", k)
	b.signIn(p.email, p.password).want(200, s.provider+"/preferences/security") // every other way works
}

// forgets waits until an authenticator holds nothing.
func (k *virtualKey) forgets() {
	k.b.t.Helper()
	for deadline := time.Now().Add(patience); len(k.credentials()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.b.t.Fatalf("the authenticator still holds %+v", k.credentials())
		}
	}
}

// says presses the button for a passkey and waits for what the page then says, of the
// texts that it has.
func (b *tab) says(which string) {
	b.t.Helper()
	b.do(chromedp.Click(keyButton),
		chromedp.Poll[chromedp.Void](`(() => { const e = document.querySelector("#passkey-error"); return !e.hidden && e.role === "alert" && e.textContent === e.dataset[`+strconv.Quote(which)+`]; })()`))
	b.unpressed()
}

// unpressed checks that the button can be pressed again.
func (b *tab) unpressed() {
	b.t.Helper()
	wantJS(b, `document.querySelector("form[data-passkey] button[type=submit]").hasAttribute("aria-disabled")`, false)
}

// A security key that is only touched, beside a passkey of the device: each is added
// once, the key is the second factor, and no first one.
func testSecurityKey(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Thelma Estrin")
	usb := b.plugIn(touchOnly)
	ph, _ := s.enabled(b, p)
	b.addPasskey("Blue key").want(200, s.provider+"/preferences/security", "Blue key", "Touch only")

	// The same one again is refused by the browser, which knows what is there.
	b.choose("Add a passkey or security key")
	b.fill("Name", "Blue key again")
	b.do(chromedp.Click("Continue", named("Continue")), chromedp.Poll[chromedp.Void](`document.querySelector("#passkey-error").textContent === document.querySelector("#passkey-error").dataset.known`))
	b.wantText("That one is among your passkeys already.")
	b.choose("Cancel").want(200, s.provider+"/preferences/security")
	s.signOut(b, p)

	// After the password, in place of the code.
	b.nobodyThere(s.acme+"/sign-in", usb)
	b.signIn(p.email, p.password).want(200, s.provider+"/login/verify", "Enter verification code", "Use a passkey or security key")
	b.useKey().want(200, s.acme+"/", "Hello, Thelma Estrin", "pwd", "hwk", "mfa")
	s.signOut(b, p)

	// Alone it is not found, for it does not know whose it is.
	b.nobodyThere(s.provider+"/login", usb)
	b.says("cancelled")
	b.signIn(p.email, p.password).want(200, s.provider+"/login/verify")
	b.enterCode(ph.code()).want(200, s.provider+"/preferences/security")

	// A second authenticator.
	usb.unplug()
	device := b.plugIn(nil)
	b.addPasskey("Laptop").want(200, s.provider+"/preferences/security", "Blue key", "Laptop")
	s.signOut(b, p)
	b.nobodyThere(s.provider+"/login", device)
	b.useKey().want(200, s.provider+"/preferences/security")
	if len(device.credentials()) != 1 {
		t.Errorf("the device holds %d", len(device.credentials()))
	}
}

// What goes wrong at a key: cancelled, too late, copied, from another origin.
func testPasskeyRefused(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Shafi Goldwasser")
	k := b.plugIn(nil)
	s.security(b, p)
	b.addPasskey("Laptop").want(200, s.provider+"/preferences/security")
	s.signOut(b, p)
	nobody := func() {
		t.Helper()
		if in := js[bool](b, `fetch("/preferences/sessions", { redirect: "manual" }).then((r) => r.type !== "opaqueredirect")`); in {
			t.Error("somebody is signed in")
		}
	}

	// Who cancels, which is what the browser then says.
	b.nobodyThere(s.provider+"/login", k)
	js[chromedp.Void](b, `void (navigator.credentials.get = () => Promise.reject(new DOMException("", "NotAllowedError")))`)
	b.says("cancelled")
	b.says("cancelled") // and again
	nobody()

	// Who answers after the five minutes.
	b.nobodyThere(s.provider+"/login", k)
	b.answers(k)
	s.exec(t, `UPDATE ceremonies SET expires_at = 1`)
	b.touch(script(`void later()`)).want(422, s.provider+"/login/passkey", "Error: ", "That took too long")
	nobody()

	// A key of which there is a copy that was used more often.
	s.exec(t, `UPDATE passkeys SET sign_count = 1000 WHERE user_id = (SELECT id FROM users WHERE email = $1)`, p.email)
	b.nobodyThere(s.provider+"/login", k)
	b.answers(k)
	b.touch(script(`void later()`)).want(422, s.provider+"/login/passkey", "There may be a copy of that passkey")
	nobody()
	b.inspect(s.axe, "sign-in-cloned")
	s.mail(b, p, "We refused one of your passkeys")
	b.press("article .letter a").want(200, s.provider+"/login") // to sign in another way, and remove it
	s.exec(t, `UPDATE passkeys SET sign_count = 0 WHERE user_id = (SELECT id FROM users WHERE email = $1)`, p.email)

	// Another origin of the same host, to which the browser gives such an answer.
	b.open(s.provider + "/login/forgot")
	options := js[string](b, `fetch("/login/passkey/ask", { method: "POST", body: new URLSearchParams({ use: "sign_in" }) }).then((r) => r.text())`)
	b.open(s.acme + "/")
	k.present(true)
	answer := js[string](b, `navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(`+options+`.publicKey) }).then((c) => JSON.stringify(c))`)
	k.present(false)
	b.open(s.provider + "/login/forgot")
	b.touch(script(`void (() => {
		const form = Object.assign(document.createElement("form"), { method: "post", action: "/login/passkey" });
		form.append(Object.assign(document.createElement("input"), { name: "credential", value: `+strconv.Quote(answer)+` }));
		document.body.append(form);
		form.submit();
	})()`)).want(422, s.provider+"/login/passkey", "That passkey couldn’t be checked.")
	nobody()

	// The key itself is as good as before.
	b.nobodyThere(s.provider+"/login", k)
	b.useKey().want(200, s.provider+"/preferences/security")
}

// script runs in the page.
func script(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](text)
}

// answers presses the button and waits until somebody used the key, which the page sends
// when later is called. Then nobody is there any more: the page that comes would ask again.
func (b *tab) answers(k *virtualKey) {
	b.t.Helper()
	js[chromedp.Void](b, `void (() => {
		const get = navigator.credentials.get.bind(navigator.credentials);
		navigator.credentials.get = async (o) => {
			const c = await get(o);
			await new Promise((done) => (window.later = done));
			return c;
		};
	})()`)
	b.do(chromedp.Click(keyButton), chromedp.Poll[chromedp.Void](`window.later`))
	k.present(false)
}

// Every page with passkeys on it, in each way that there is to look at it.
func testPasskeyPages(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Adele Goldberg")
	visit := func(page string) {
		t.Helper()
		b.inspect(s.axe, page)
	}
	k := b.plugIn(nil)
	s.security(b, p)
	b.addPasskey("Work laptop").want(200, s.provider+"/preferences/security")
	k.unplug()
	b.plugIn(touchOnly)
	b.addPasskey("A blue key with quite a long name that goes on to sixty").want(200, s.provider+"/preferences/security")
	visit("tab-passkeys")
	b.choose("Add a passkey or security key")
	visit("passkey-add")
	b.choose("Cancel")
	b.choose("Rename Work laptop")
	visit("passkey-rename")
	b.choose("Cancel")
	b.choose("Remove Work laptop")
	visit("passkey-remove")
	b.choose("Cancel")
	b.choose("Ask for a passkey")
	visit("passkeys-on")
	b.choose("Continue").want(200, s.provider+"/preferences/security/2fa/passkeys", "Save your backup codes")
	visit("passkeys-on-codes")
	b.click("I have saved my backup codes")
	b.choose("Turn on").want(200, s.provider+"/preferences/security", "Two-factor authentication is on.", "No authenticator app")
	visit("tab-passkeys-on")
	s.proofsAge(t, p)
	b.choose("Remove Work laptop").want(200, s.provider+"/login/confirm")
	visit("confirm-passkey")
	s.signOut(b, p)
	b.open(s.provider + "/login")
	b.signIn(p.email, p.password).want(200, s.provider+"/login/verify", "Use your passkey or security key for Harmony")
	visit("verify-passkey")
}

// Without JavaScript the pages say what is missing, and every other way works.
func testPasskeyWithoutScripts(t *testing.T, s *devStage) {
	if !s.plain { // with scripts it is testPasskey
		return
	}
	b, p := s.tab(t), s.resident(t, "Mary Keller")
	const missing = "Passkeys and security keys need JavaScript, which is off in this browser. Every other way works."
	b.open(s.provider+"/login").want(200, s.provider+"/login", missing)
	wantJS(b, `document.querySelector("form[data-passkey] button").hidden`, true)
	s.security(b, p)
	b.choose("Add a passkey or security key").want(200, s.provider+"/preferences/security/passkeys/add", missing)
	b.choose("Cancel").want(200, s.provider+"/preferences/security", "Passkeys and security keys")
}
