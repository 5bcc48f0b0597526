package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Every page in every state that it has, as people see it who differ in eyes,
// hands and windows.

// testEveryPage looks at each page in each way that there is.
func testEveryPage(t *testing.T, s *devStage) {
	b := s.tab(t)
	s.everyPage(b, func(page string) {
		t.Helper()
		b.inspect(s.axe, page)
	})
}

// An empty mailbox is a page, too.
func testEmptyMailbox(t *testing.T, s *devStage) {
	b := s.tab(t)
	b.open(s.mailbox + "/")
	if js[bool](b, `document.querySelector("form") !== null`) {
		b.choose("Empty the mailbox")
	}
	b.wantText("No messages yet")
	b.inspect(s.axe, "mailbox-empty")
}

// inspect looks at the page that the tab shows: with axe-core wide and narrow, light
// and dark; in forced colours; in a window of 320 px and in one that a zoom of 200 %
// leaves of 1280; and at what the pointer and the password manager find.
func (b *tab) inspect(axe, page string) {
	b.t.Helper()
	at := func(how string, found []string) {
		b.t.Helper()
		for _, f := range found {
			b.t.Errorf("%s, %s: %s", page, how, f)
		}
	}
	widths, schemes := []int64{1280, 375}, []string{"light", "dark"}
	if !b.scripts {
		// axe-core needs scripts. A page that came without does not change by them.
		b.allowScripts(true)
		defer b.allowScripts(false)
	}
	for i, width := range widths {
		for j, scheme := range schemes {
			if !b.scripts && i != j {
				continue // the other two are as they are with scripts
			}
			b.look(width, scheme)
			at(fmt.Sprintf("%d px, %s", width, scheme), b.violations(axe))
		}
	}
	b.look(1280, "dark", &emulation.MediaFeature{Name: "forced-colors", Value: "active"})
	at("forced colours", b.faded())
	b.look(320, "light")
	at("320 px", append(b.spills(), b.covered()...))
	b.look(640, "light")
	at("1280 px at 200 %", b.spills())
	b.look(1280, "light")
	at("1280 px", b.covered())
	if want, ok := fields[page]; ok {
		wantJS(b, fieldsOf, want)
	}
}

// look sets the width of the window and the person's taste. Nothing moves.
func (b *tab) look(width int64, scheme string, more ...*emulation.MediaFeature) {
	b.t.Helper()
	features := append(more, &emulation.MediaFeature{Name: "prefers-color-scheme", Value: scheme}, &emulation.MediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
	b.do(chromedp.EmulateViewport(width, 800), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	}))
}

// violations are what axe-core has to say of the page.
func (b *tab) violations(axe string) (found []string) {
	b.t.Helper()
	if !js[bool](b, "'axe' in window") {
		js[chromedp.Void](b, axe)
	}
	raw := js[string](b, `axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"],
	}).then((r) => JSON.stringify({
		passes: r.passes.length,
		violations: r.violations.map((v) => v.id + ": " + v.help + "\n" + v.nodes.map((n) => n.html + "\n" + n.failureSummary).join("\n")),
	}))`)
	var result struct {
		Passes     int
		Violations []string
	}
	if err := json.Unmarshal([]byte(raw), &result); err != nil || result.Passes == 0 {
		b.t.Fatalf("axe-core: %v %s", err, raw)
	}
	return result.Violations
}

// faded are the controls whose edge has the colour of what is behind it: in forced
// colours edges are all that tells them from text.
func (b *tab) faded() (found []string) {
	b.t.Helper()
	return b.texts(`[...document.querySelectorAll(".btn, .input, .code i, .dialog, .tabs [aria-current]")].filter((e) => {
		const style = getComputedStyle(e);
		return e.checkVisibility() && (style.borderBottomStyle !== "solid" || style.borderBottomColor === style.backgroundColor);
	}).map((e) => e.outerHTML.slice(0, 100))`)
}

// texts are those in the array that an expression makes.
func (b *tab) texts(expression string) (found []string) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(js[string](b, "JSON.stringify("+expression+")")), &found); err != nil {
		b.t.Fatal(err)
	}
	return found
}

// spills are the texts and the elements that do not fit into the window, whether it
// can be scrolled or they are cut off. The one input that is drawn as six boxes is
// wider than these.
func (b *tab) spills() (found []string) {
	b.t.Helper()
	return b.texts(`(() => {
		const found = [];
		const spills = (rects) => [...rects].some((r) => r.width > 1 && (r.left < -1 || r.right > innerWidth + 1));
		const text = document.createRange();
		const unseen = (e) => e && (getComputedStyle(e).clipPath === "inset(50%)" || unseen(e.parentElement));
		for (const e of document.querySelectorAll("body *:not(.code *, svg *)")) {
			if (unseen(e)) continue;
			if (spills(e.getClientRects())) found.push(e.outerHTML.slice(0, 100));
			for (const n of e.childNodes) {
				if (n.nodeType !== Node.TEXT_NODE) continue;
				text.selectNode(n);
				if (spills(text.getClientRects())) found.push(n.data.slice(0, 100));
			}
		}
		if (document.documentElement.scrollWidth > innerWidth) found.push("the page is " + document.documentElement.scrollWidth + " px wide");
		return found;
	})()`)
}

// covered are the controls that a pointer does not reach, because something lies over
// them.
func (b *tab) covered() (found []string) {
	b.t.Helper()
	return b.texts(`[...(document.querySelector("dialog:modal") ?? document).querySelectorAll("a, button, summary, input:not([type=hidden], .sr)")].filter((e) => {
		if (!e.checkVisibility()) return false;
		e.scrollIntoView({ block: "center" });
		const at = e.getClientRects()[0];
		return !e.contains(document.elementFromPoint(at.x + Math.min(at.width, 40) / 2, at.y + at.height / 2));
	}).map((e) => "covered: " + e.outerHTML.slice(0, 100))`)
}

// fieldsOf lists what a page or its dialog has people type into, and fields what
// that is on which page: password managers and phones go by it (LOGIN-17).
const fieldsOf = `[...(document.querySelector("dialog") ?? document).querySelectorAll("input:not([type=hidden], [type=checkbox])")]
	.map((e) => e.name + ": " + e.type + " " + e.autocomplete).join(", ")`

var fields = map[string]string{
	"sign-in":             "email: email username webauthn, password: password current-password",
	"forgot":              "email: email username",
	"reset":               "username: text username, new_password: password new-password, confirm_password: password new-password",
	"security-off":        "username: text username, current_password: password current-password, new_password: password new-password, confirm_password: password new-password",
	"set-up-2fa":          "code: text one-time-code",
	"verify":              "code: text one-time-code",
	"backup-code":         "backup_code: text off",
	"confirm-password":    "username: text username, password: password current-password",
	"confirm-code":        "code: text one-time-code",
	"confirm-backup-code": "backup_code: text off",
	"disable-dialog-code": "code: text one-time-code",
}

// everyPage leads a tab to each page that there is, and calls visit there.
func (s *devStage) everyPage(b *tab, visit func(page string)) {
	b.t.Helper()
	s.everySignInPage(b, visit)
	s.everyResetPage(b, s.resident(b.t, "Emmy Noether"), visit)
	p := s.resident(b.t, "Sofya Kovalevskaya")
	_, codes := s.everyTwoFactorPage(b, p, visit)
	s.everySessionPage(b, p, codes[9], visit)
	s.everyCodePage(b, p, codes[8], visit)
}

// everySignInPage are the pages of a workspace, of sign-in and of sign-out.
func (s *devStage) everySignInPage(b *tab, visit func(page string)) {
	b.t.Helper()
	ada := demoPeople[0]
	b.open(s.acme+"/").want(200, s.acme, "Welcome to Acme")
	visit("demo-home")
	b.press("a.btn.dark").want(200, s.provider+"/login", "Sign in to continue to Acme")
	visit("sign-in")
	b.signIn(ada.Email, "not the password").want(422, s.provider+"/login")
	visit("sign-in-error")
	b.signIn(ada.Email, ada.Password).want(200, s.acme+"/")
	visit("demo-claims")
	b.open(s.globex+"/sign-in").want(200, s.globex+"/")
	b.open(s.acme+"/sign-in?fresh=1").want(200, s.provider+"/login", "Confirm it’s you")
	visit("confirm")
	b.leave(chromedp.SendKeys(passwordField, "not the password"), chromedp.Click(submitButton)).want(422, s.provider+"/login", "We couldn’t confirm it’s you")
	visit("confirm-error")
	b.open(s.acme+"/callback?state=forged").want(400, s.acme, "Acme couldn’t sign you in")
	visit("demo-error")
	b.open(s.provider+"/end_session").want(200, s.provider, "Sign out of Harmony?")
	visit("sign-out")
	b.press(submitButton).want(200, s.provider+"/logout", "You’re signed out", "Acme", "Globex")
	for range 100 { // until both have answered: then the page stays as it is
		if !js[bool](b, `document.body.innerText.includes("No answer yet")`) {
			break
		}
		time.Sleep(100 * time.Millisecond)
		b.open(s.provider + "/logout")
	}
	b.wantText("Signed out at", "Confirmed")
	visit("signed-out")
	b.open(s.provider+"/login").want(200, s.provider, "Sign in to Harmony")
	visit("sign-in-bare")
	b.open(s.provider+"/authorize?client_id=nobody").want(400, s.provider, "This sign-in link doesn’t work")
	visit("link-broken")
	b.open(s.provider+"/nowhere").want(404, s.provider, "We can’t find that page")
	visit("not-found")
}

// unchecked has the browser send the page's forms without a look at them.
func (b *tab) unchecked() {
	b.t.Helper()
	js[chromedp.Void](b, `for (const form of document.forms) form.noValidate = true`)
}

// everyResetPage are the pages of a forgotten password, with the mailbox.
func (s *devStage) everyResetPage(b *tab, p resident, visit func(page string)) {
	b.t.Helper()
	b.open(s.provider + "/login")
	b.choose("Forgot password?").want(200, s.provider+"/login/forgot")
	visit("forgot")
	b.fill("Email", "emmy")
	b.unchecked()
	b.choose("Send reset link").want(422, s.provider+"/login/forgot", "That isn’t an email address.")
	visit("forgot-error")
	b.fill("Email", p.email)
	b.choose("Send reset link").want(200, s.provider+"/login/forgot")
	visit("forgot-sent")

	s.mail(b, p, "Reset your Harmony password")
	visit("mailbox")
	b.openLink().want(200, s.provider+"/login/reset")
	visit("reset")
	b.fill("New Password", newPassword)
	b.fill("Confirm New Password", newPassword+"!")
	b.choose("Save Changes").want(422, s.provider+"/login/reset", "The two new passwords aren’t the same.")
	visit("reset-error")
	b.fill("New Password", newPassword)
	b.fill("Confirm New Password", newPassword)
	b.choose("Save Changes").want(200, s.provider+"/login", "Password changed.")
	visit("reset-done")
	b.open(s.provider+"/login/reset").want(410, s.provider+"/login/reset", "This link has expired")
	visit("link-expired")
}

// everyTwoFactorPage are the Security tab and the dialogs over it.
func (s *devStage) everyTwoFactorPage(b *tab, p resident, visit func(page string)) (*phone, []string) {
	b.t.Helper()
	s.security(b, p)
	visit("security-off")
	b.click(p.name + " " + p.email)
	visit("security-menu")
	b.fill("Current Password", "not her password")
	b.fill("New Password", newPassword)
	b.fill("Confirm New Password", newPassword)
	b.choose("Save Changes").want(422, s.provider, "Your password wasn’t changed")
	visit("security-error")
	b.choose("Send reset email").want(200, s.provider+"/preferences/security", "We’ve sent")
	visit("security-notice")

	s.proofsAge(b.t, p)
	b.choose("Enable 2FA").want(200, s.provider+"/login/confirm", "You’re about to enable two-factor authentication.")
	visit("confirm-password")
	b.fill("Password", "not her password")
	b.choose("Confirm").want(422, s.provider+"/login/confirm", "We couldn’t confirm it’s you")
	visit("confirm-password-error")
	b.fill("Password", p.password)
	b.choose("Confirm").want(200, s.provider+"/preferences/security/2fa")
	visit("enable-dialog")
	b.choose("Enable 2FA").want(200, s.provider+"/preferences/security/2fa", "Set Up Two-Factor Authentication")
	visit("set-up-2fa")
	ph := b.scan()
	b.fill("2. Enter verification code", ph.wrong())
	b.click("I have saved my backup codes")
	b.choose("Verify").want(422, s.provider, "That code isn’t right.")
	visit("set-up-error")
	b.fill("2. Enter verification code", ph.code())
	b.click("I have saved my backup codes")
	b.unchecked()
	b.choose("Verify").want(422, s.provider, "Save your backup codes")
	visit("set-up-not-saved")
	b.do(chromedp.SendKeys(codeField, command(b.t, "oathtool", "--totp", "--base32", ph.key)))
	b.click("I have saved my backup codes")
	b.choose("Verify").want(200, s.provider+"/preferences/security", "Two-factor authentication is on")
	visit("security-on")

	b.choose("Make new codes").want(200, s.provider+"/preferences/security/2fa/codes")
	visit("new-codes-dialog")
	b.choose("Make new codes").want(200, s.provider+"/preferences/security/2fa/codes", "Save your new backup codes")
	visit("save-codes-dialog")
	codes := b.codes()
	b.unchecked()
	b.choose("Use new codes").want(422, s.provider, "Your new codes aren’t in use yet")
	visit("save-codes-error")
	b.click("I have saved my backup codes")
	b.choose("Use new codes").want(200, s.provider+"/preferences/security", "Your new backup codes are in use.")

	b.choose("Disable 2FA").want(200, s.provider+"/preferences/security/2fa/off")
	visit("disable-dialog")
	s.proofsAge(b.t, p)
	b.open(s.provider + "/preferences/security/2fa/off")
	visit("disable-dialog-code")
	b.fill("6-digit code or backup code", ph.wrong())
	b.choose("Disable 2FA").want(422, s.provider, "Two-factor authentication is still on")
	visit("disable-dialog-error")
	b.choose("Cancel")
	b.choose("Make new codes").want(200, s.provider+"/login/confirm", "You’re about to make new backup codes.")
	visit("confirm-code")
	b.fill("Enter verification code", ph.wrong())
	b.choose("Confirm").want(422, s.provider+"/login/confirm", "That code isn’t right.")
	visit("confirm-code-error")
	b.choose("Use a backup code").want(200, s.provider+"/login/confirm")
	visit("confirm-backup-code")
	b.choose("Cancel").want(200, s.provider+"/preferences/security")
	return ph, codes
}

// everySessionPage are the Sessions and Activity tabs.
func (s *devStage) everySessionPage(b *tab, p resident, code string, visit func(page string)) {
	b.t.Helper()
	b.choose("Sessions").want(200, s.provider+"/preferences/sessions", "You’re only signed in here.")
	visit("sessions-empty")
	mac := s.tab(b.t).comesAs(chromeOnMac)
	mac.open(s.acme + "/sign-in")
	mac.signIn(p.email, p.password)
	mac.choose("Use a backup code")
	mac.fill("Backup code", code)
	mac.choose("Verify")
	mac.choose("Continue").want(200, s.acme+"/")
	b.choose("Sessions").want(200, s.provider+"/preferences/sessions", "Chrome on macOS")
	visit("sessions")
	id := js[string](b, `document.querySelector("input[name=id]").value`)
	b.open(s.provider+"/preferences/sessions/end?id="+id).want(200, s.provider, "Sign out Chrome on macOS?")
	visit("end-session-dialog")
	b.choose("Cancel")
	b.open(s.provider+"/preferences/sessions/end-others").want(200, s.provider, "Sign out all other sessions?")
	visit("end-sessions-dialog")
	b.choose("Cancel")
	mac.open(s.provider + "/logout")
	mac.press(submitButton)
	b.open(s.provider + "/preferences/sessions/end")
	b.choose("Activity").want(200, s.provider+"/preferences/activity")
	visit("activity")
	b.leave(chromedp.Click(chromedp.CSS(".not-me"))).want(200, s.provider+"/preferences/not-me")
	visit("not-me")
	b.click(p.name + " " + p.email)
	b.choose("Sign out")
}

// everyCodePage are the pages that ask for a second factor at sign-in.
func (s *devStage) everyCodePage(b *tab, p resident, code string, visit func(page string)) {
	b.t.Helper()
	const user = `(SELECT id FROM users WHERE email = $1)`
	b.open(s.provider + "/login")
	b.signIn(p.email, p.password).want(200, s.provider+"/login/verify")
	visit("verify")
	b.choose("Can’t use either?").want(200, s.provider+"/login/recovery")
	visit("recovery")
	b.choose("Use your authenticator app").want(200, s.provider+"/login/verify")
	ph := &phone{t: b.t, key: "JBSWY3DPEHPK3PXP"} // not hers
	b.enterCode(ph.code()).want(422, s.provider+"/login/verify", "That code isn’t right.")
	visit("verify-error")
	a := arrival{}
	for a.status != 429 {
		b.fill("Enter verification code", ph.wrong())
		a = b.choose("Verify")
	}
	a.want(429, s.provider+"/login/verify", "Too many attempts. Try again in")
	visit("verify-throttled")
	s.exec(b.t, `DELETE FROM throttles`)
	s.exec(b.t, `UPDATE totp SET failures = 100 WHERE user_id = `+user, p.email)
	b.fill("Enter verification code", ph.wrong())
	b.choose("Verify").want(422, s.provider+"/login/verify", "Codes from your app are paused")
	visit("verify-paused")
	b.choose("Use a backup code").want(200, s.provider+"/login/backup-code")
	visit("backup-code")
	b.fill("Backup code", "AAAAA-AAAAA")
	b.choose("Verify").want(422, s.provider+"/login/backup-code")
	visit("backup-code-error")
	b.fill("Backup code", code)
	b.choose("Verify").want(200, s.provider+"/login/backup-code/used", "You used a backup code. 8 left.")
	visit("backup-code-used")
	s.exec(b.t, `DELETE FROM backup_codes WHERE user_id = `+user+` AND code_hash NOT IN (SELECT code_hash FROM backup_codes WHERE user_id = `+user+` LIMIT 2)`, p.email)
	b.open(s.provider+"/login/backup-code/used").want(200, s.provider, "few are left")
	visit("backup-code-used-few")
	s.exec(b.t, `UPDATE totp SET failures = 100 WHERE user_id = `+user, p.email)
	b.open(s.provider+"/preferences/security").want(200, s.provider, "2 of 10 left", "Codes from the app are paused")
	visit("security-few")
	s.exec(b.t, `DELETE FROM backup_codes WHERE user_id = `+user, p.email)
	b.open(s.provider+"/login/backup-code/used").want(200, s.provider, "You have no backup codes")
	visit("backup-code-used-none")
	b.choose("Make new codes").want(200, s.provider+"/preferences/security/2fa/codes", "You have none left.")
	visit("new-codes-dialog-none")
}
