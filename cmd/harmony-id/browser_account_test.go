package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/harmony/id/db"
)

// What the help pages tell people about the security of their account, done in
// Chromium as they tell it, with JavaScript and without. Links, buttons and fields
// are found by the names that a screen reader has for them.

var accountStories = []struct {
	name string
	tell func(*testing.T, *devStage)
}{
	{"SecurityTab", testSecurityTab},
	{"ChangePassword", testChangePassword},
	{"ResetEmail", testResetEmail},
	{"ForgotPassword", testForgotPassword},
	{"EnableTwoFactor", testEnableTwoFactor},
	{"BackupCodes", testBackupCodes},
	{"DisableTwoFactor", testDisableTwoFactor},
	{"Sessions", testSessions},
	{"Activity", testActivity},
	{"KeepCodes", testKeepCodes},
	{"ResetTokenStays", testResetTokenStays},
	{"BackAfterSignOut", testBackAfterSignOut},
	{"PasskeyWithoutScripts", testPasskeyWithoutScripts},
	{"EveryPage", testEveryPage},
}

// A resident is somebody with an account of their own, so that no story is in
// another's way.
type resident struct{ name, email, password string }

// resident gives somebody an account.
func (s *devStage) resident(t *testing.T, name string) resident {
	t.Helper()
	p := resident{name, strings.ToLower(strings.ReplaceAll(name, " ", ".")) + "@example.com", "four grey herons at noon"}
	if s.plain {
		p.email = "plain." + p.email
	}
	sh := shell{t, []string{"HARMONY_ID_DATABASE_URL=" + s.database()}}
	sh.run(p.password, "user", "create", "--email", p.email, "--name", p.name, "--email-verified", "--password-stdin").want(0)
	return p
}

func (s *devStage) database() string { return sqliteScheme + filepath.Join(s.dir, devDatabase) }

// exec changes the database behind dev's back.
func (s *devStage) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	d := must(db.Open(t.Context(), s.database()))(t)
	defer d.Close()
	must(d.Exec(t.Context(), query, args...))(t)
}

// proofsAge has a person's proofs be older than what the account pages take.
func (s *devStage) proofsAge(t *testing.T, p resident) {
	t.Helper()
	const elevenMinutes = 11 * 60_000_000
	s.exec(t, `
		UPDATE sessions SET proved_at = proved_at - $1, second_at = second_at - $1
		WHERE user_id = (SELECT id FROM users WHERE email = $2)`, elevenMinutes, p.email)
}

// named is for queries: what a screen reader calls by this name and one can act
// on. There has to be one such thing.
func named(name string) chromedp.QueryOption {
	return chromedp.ByFunc(func(ctx context.Context, t *chromedp.Target, root *chromedp.Node) ([]cdp.NodeID, error) {
		tree, err := cdp.Call(ctx, t, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{NodeID: root.NodeID, AccessibleName: name})
		if err != nil {
			return nil, err
		}
		var found []cdp.BackendNodeID
		for _, n := range tree.Nodes {
			role, _ := strconv.Unquote(string(n.Role.Value))
			if !n.Ignored && slices.Contains([]string{"link", "button", "textbox", "checkbox", "DisclosureTriangle"}, role) {
				found = append(found, n.BackendDOMNodeID)
			}
		}
		if len(found) != 1 {
			return nil, nil
		}
		nodes, err := cdp.Call(ctx, t, dom.PushNodesByBackendIDsToFrontend, dom.PushNodesByBackendIDsToFrontendParams{BackendNodeIDs: found})
		return nodes.NodeIDs, err
	})
}

// choose follows a link or presses a button that leads to another page.
func (b *tab) choose(name string) arrival {
	b.t.Helper()
	return b.leave(chromedp.Click(name, named(name)))
}

// click presses what stays on the page.
func (b *tab) click(name string) {
	b.t.Helper()
	b.do(chromedp.Click(name, named(name)))
}

// fill puts a text into a field, all at once, as password managers do.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	for range 5 { // a dialog that opens meanwhile takes the focus away
		b.typeInto(name, text)
		if js[bool](b, "document.activeElement.value === "+strconv.Quote(text)) {
			return
		}
	}
}

func (b *tab) typeInto(name, text string) {
	b.t.Helper()
	b.do(chromedp.Clear(name, named(name)), chromedp.Focus(name, named(name)), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
		return err
	}))
}

// comesAs has the tab say that it is this browser.
func (b *tab) comesAs(userAgent string) *tab {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: userAgent})
		return err
	}))
	return b
}

// command runs a program that is none of ours.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("there is no %s: \"make tools\" installs it", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// A phone is an authenticator app that is none of ours: zbarimg reads the QR code,
// oathtool computes the codes.
type phone struct {
	t    *testing.T
	key  string
	last int64 // the time step of the last code
}

// scan holds a phone to the screen.
func (b *tab) scan() *phone {
	b.t.Helper()
	picture := filepath.Join(b.t.TempDir(), "screen.png")
	b.do(chromedp.ScrollIntoView(chromedp.CSS("img.qr")))
	b.rest()
	write(b.t, picture, string(run1(b, chromedp.CaptureScreenshot())))
	raw := command(b.t, "zbarimg", "--quiet", "--raw", "--nodbus", picture)
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || !strings.HasPrefix(u.Path, "/Harmony:") || u.Query().Get("issuer") != "Harmony" {
		b.t.Fatalf("the QR code says %q (%v)", raw, err)
	}
	return &phone{t: b.t, key: u.Query().Get("secret")}
}

// rest waits until nothing on the page moves.
func (b *tab) rest() {
	b.t.Helper()
	b.do(chromedp.Poll[chromedp.Void](`document.getAnimations().every((a) => a.playState === "finished")`))
}

// code is one that no other was: the present one or, so that nobody waits, the
// next. Clocks of phones may be ahead that far.
func (p *phone) code() string {
	p.t.Helper()
	const period = 30
	now := time.Now().Unix() / period
	p.last = max(p.last+1, now)
	if p.last > now+1 {
		p.t.Fatal("the phone has no other code for now")
	}
	return command(p.t, "oathtool", "--totp", "--base32", "--now", "@"+strconv.FormatInt(p.last*period, 10), p.key)
}

// wrong is a code that the phone shows at no time near.
func (p *phone) wrong() string {
	p.t.Helper()
	near := command(p.t, "oathtool", "--totp", "--base32", "--now", "@"+strconv.FormatInt(time.Now().Unix()-150, 10), "--window", "10", p.key)
	for i := 0; ; i++ {
		if code := fmt.Sprintf("%06d", i); !strings.Contains(near, code) {
			return code
		}
	}
}

// mail opens the newest message to somebody with this subject in the mailbox.
func (s *devStage) mail(b *tab, p resident, subject string) arrival {
	b.t.Helper()
	message := fmt.Sprintf(`[...document.querySelectorAll("nav a")].find((a) =>
		a.querySelector("b").textContent === %q && a.textContent.includes("To " + %q))`, subject, p.email)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		b.open(s.mailbox+"/").want(200, s.mailbox+"/", "Mailbox")
		if js[bool](b, message+" !== undefined") {
			break
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("no mail %q to %s\n%s", subject, p.email, b.where())
		}
	}
	return b.leave(chromedp.Click(chromedp.JSPath(message))).want(200, s.mailbox+"/messages/", subject, "To "+p.email)
}

// openLink follows the one link of the message that is open.
func (b *tab) openLink() arrival {
	b.t.Helper()
	return b.press("article .letter a")
}

const codeField = chromedp.CSS("#code")

var writtenCode = regexp.MustCompile(`\b[0-9A-Z]{5}-[0-9A-Z]{5}\b`)

// enterCode types a code where one is asked for at sign-in: the sixth digit sends
// it or, without JavaScript, the button does.
func (b *tab) enterCode(code string) arrival {
	b.t.Helper()
	if b.scripts {
		return b.leave(chromedp.SendKeys(codeField, code))
	}
	return b.leave(chromedp.SendKeys(codeField, code), chromedp.Click("Verify", named("Verify")))
}

// security signs somebody in at their Security tab.
func (s *devStage) security(b *tab, p resident) {
	b.t.Helper()
	b.open(s.provider+"/preferences/security").want(200, s.provider+"/login")
	b.signIn(p.email, p.password).want(200, s.provider+"/preferences/security", "Account security")
}

// enabled is security for somebody who has two-factor authentication from then on.
// It returns their phone and their backup codes.
func (s *devStage) enabled(b *tab, p resident) (*phone, []string) {
	b.t.Helper()
	s.security(b, p)
	b.choose("Enable 2FA")
	b.choose("Enable 2FA").want(200, s.provider+"/preferences/security/2fa", "Set Up Two-Factor Authentication")
	ph, codes := b.scan(), b.codes()
	b.do(chromedp.SendKeys(codeField, ph.code()))
	b.click("I have saved my backup codes")
	b.choose("Verify").want(200, s.provider+"/preferences/security", "Two-factor authentication is on")
	return ph, codes
}

// codes are the backup codes that the page shows.
func (b *tab) codes() []string {
	b.t.Helper()
	codes := b.texts(`[...document.querySelectorAll("#codes li")].map((e) => e.textContent)`)
	if len(codes) != 10 {
		b.t.Fatalf("%d backup codes: %q", len(codes), codes)
	}
	return codes
}

// saveCodes keeps the backup codes as a person does: copied or, without
// JavaScript, downloaded.
func (b *tab) saveCodes() (codes []string) {
	b.t.Helper()
	if b.scripts {
		b.mayUseClipboard()
		b.click("Copy backup codes")
		b.do(chromedp.WaitVisible(`Copied backup codes`, named("Copied backup codes")))
		codes = strings.Split(js[string](b, "navigator.clipboard.readText()"), "\n")
	} else {
		_, text := b.download("Download backup codes")
		codes = writtenCode.FindAllString(text, -1)
	}
	if want := b.codes(); !slices.Equal(codes, want) {
		b.t.Errorf("kept %q, want %q", codes, want)
	}
	return codes
}

// mayUseClipboard lets the tab's pages copy and the test read what they did.
func (b *tab) mayUseClipboard() {
	b.t.Helper()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(b.ctx, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
			Permission: &cdpbrowser.PermissionDescriptor{Name: name}, Setting: cdpbrowser.PermissionSettingGranted,
			BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// download presses what has the browser save a file.
func (b *tab) download(name string) (file, text string) {
	b.t.Helper()
	dir := b.t.TempDir()
	_, err := chromedp.CallBrowser(b.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, BrowserContextID: chromedp.FromContext(b.ctx).BrowserContextID,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.click(name)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.txt"))
		if len(files) != 1 {
			continue
		}
		// An empty one keeps the name until the other is complete.
		if text := string(must(os.ReadFile(files[0]))(b.t)); text != "" {
			return filepath.Base(files[0]), text
		}
	}
	b.t.Fatalf("%s saves no file\n%s", name, b.where())
	return "", ""
}

// "To open this tab, click your avatar at the bottom of the left sidebar → User
// preferences → Security. Security settings are stored on your user account and are
// shared across all your workspaces. […] The Security tab gives you three controls."
func testSecurityTab(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Edith Clarke")
	b.open(s.acme + "/")
	b.choose("Sign in with Harmony")
	b.signIn(p.email, p.password).want(200, s.acme+"/", "Hello, Edith Clarke")
	b.choose("Open Account security").want(200, s.provider+"/preferences/security", "Account security")
	b.choose("Activity").want(200, s.provider+"/preferences/activity")

	const avatar = `document.querySelector("aside summary .tile").getBoundingClientRect()`
	wantJS(b, avatar+".right < 64 && innerHeight - "+avatar+".bottom < 40", true)
	b.click(p.name + " " + p.email)
	b.choose("User preferences").want(200, s.provider+"/preferences/security")
	wantJS(b, `document.querySelector("nav [aria-current=page]").innerText`, "Security")
	b.wantText("Manage how you sign in: your password, two-factor authentication, and password-reset email.",
		"These settings apply to your account in every workspace.", "Sign-in method: Harmony password.")
	wantJS(b, `[...document.querySelectorAll("h2")].map((h) => h.innerText).join("; ")`,
		"Password reset email; Two-factor authentication (2FA); Change password; Passkeys and security keys")

	b.open(s.globex + "/")
	b.choose("Sign in with Harmony").want(200, s.globex+"/", "Hello, Edith Clarke")
	b.choose("Open Account security").want(200, s.provider+"/preferences/security", p.email)
}

// "Enter your Current Password. Enter your New Password and Confirm New Password.
// Click Save Changes."
func testChangePassword(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Hedy Lamarr")
	phone := s.tab(t)
	s.security(phone, p)
	s.security(b, p)
	change := func(current, anew, again string) arrival {
		t.Helper()
		b.fill("Current Password", current)
		b.fill("New Password", anew)
		b.fill("Confirm New Password", again)
		return b.choose("Save Changes")
	}
	change("not her password", newPassword, newPassword).want(422, s.provider, "Error: ", "Your current password isn’t right.")
	wantJS(b, `document.activeElement.getAttribute("role")`, "alert")
	change(p.password, newPassword, newPassword+"!").want(422, s.provider, "The two new passwords aren’t the same.")
	change(p.password, "password1234", "password1234").want(422, s.provider, "known from a breach")
	wantJS(b, `document.querySelector("#sign_out_others").checked`, true)
	change(p.password, newPassword, newPassword).want(200, s.provider+"/preferences/security", "Password changed.")

	// She stays signed in here, and nowhere else.
	b.choose("Sessions").want(200, s.provider+"/preferences/sessions", "You’re only signed in here.")
	phone.open(s.provider+"/preferences/security").want(200, s.provider+"/login")
	phone.signIn(p.email, p.password).want(422, s.provider+"/login", "Check your email and password and try again.")
	phone.signIn(p.email, newPassword).want(200, s.provider+"/preferences/security")
	s.mail(b, p, "Your Harmony password was changed")
}

// "Password reset email — send yourself a password-reset link. […] If you've
// forgotten your current password, use the password-reset email option instead,
// then sign back in with the new one."
func testResetEmail(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Joan Clarke")
	s.security(b, p)
	b.click("Forgot your current password?")
	if s.plain {
		wantJS(b, `document.querySelector(":target").id`, "send-reset")
	} else {
		wantJS(b, `document.activeElement.id`, "send-reset")
	}
	b.choose("Send reset email").want(200, s.provider+"/preferences/security", "We’ve sent a password-reset link to "+p.email)
	s.mail(b, p, "Reset your Harmony password")
	b.openLink().want(200, s.provider+"/login/reset", "Choose a new password", "For "+p.email,
		"This signs you out everywhere. Two-factor authentication stays as it is.")
	b.fill("New Password", newPassword)
	b.fill("Confirm New Password", newPassword)
	b.choose("Save Changes").want(200, s.provider+"/login", "Password changed. Sign in with the new one.")
	b.open(s.provider+"/preferences/security").want(200, s.provider+"/login") // the link signs nobody in
	b.signIn(p.email, newPassword).want(200, s.provider+"/preferences/security")
	s.mail(b, p, "Your Harmony password was reset")
}

// Who cannot sign in at all asks at the sign-in page. The answer is the same for
// every address, and the link works once.
func testForgotPassword(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Grete Hermann")
	ask := func(email string) string {
		t.Helper()
		b.open(s.provider + "/login")
		b.choose("Forgot password?").want(200, s.provider+"/login/forgot", "Enter your email and we’ll send you a password-reset link.")
		b.fill("Email", email)
		b.choose("Send reset link").want(200, s.provider+"/login/forgot", "Check your email")
		return js[string](b, "document.body.innerText")
	}
	if known, unknown := ask(p.email), ask("nobody."+p.email); known != unknown {
		t.Errorf("The page tells who has an account:\n%s\n%s", known, unknown)
	}
	s.mail(b, p, "Reset your Harmony password")
	message := run1(b, chromedp.Location())
	b.openLink().want(200, s.provider+"/login/reset")
	b.fill("New Password", newPassword)
	b.fill("Confirm New Password", newPassword)
	b.choose("Save Changes").want(200, s.provider+"/login")

	b.open(message)
	b.openLink().want(410, s.provider+"/login/reset", "This link has expired")
	b.choose("Get a new link").want(200, s.provider+"/login/forgot")
	b.choose("Back to sign in")
	b.signIn(p.email, newPassword).want(200, s.provider+"/preferences/security")
}

// "Click Enable 2FA in the right-hand panel. Confirm in the dialog by clicking the
// dark Enable 2FA button. The setup modal opens with a QR code and a list of backup
// codes. […] After 2FA is enabled, you'll be asked for a 6-digit code from your
// authenticator every time you start a new session."
func testEnableTwoFactor(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Mary Jackson")
	s.security(b, p)
	wantJS(b, `document.querySelector("#enable-2fa").getBoundingClientRect().left > innerWidth / 2`, true)
	b.choose("Enable 2FA").want(200, s.provider, "Enable two-factor authentication?", "Why enable 2FA?", "Protection Against Password Theft")
	const dark = `getComputedStyle(document.querySelector("dialog button[type=submit]")).backgroundColor`
	wantJS(b, dark, "rgb(25, 28, 27)")
	b.choose("Enable 2FA").want(200, s.provider+"/preferences/security/2fa", "Set Up Two-Factor Authentication")

	// The same QR code in the dark.
	b.look(1280, "dark")
	ph := b.scan()
	b.look(1280, "light")
	if again := b.scan(); again.key != ph.key {
		t.Errorf("the QR code says %s and %s", ph.key, again.key)
	}
	wantJS(b, `document.querySelector("#key").textContent.replaceAll(" ", "")`, ph.key)

	// Codes stand "at the bottom of the modal", and a mistyped one changes nothing.
	codes := b.saveCodes()
	wantJS(b, `document.querySelector("#codes").getBoundingClientRect().top > document.querySelector("#code").getBoundingClientRect().bottom`, true)
	b.fill("2. Enter verification code", ph.wrong())
	b.click("I have saved my backup codes")
	b.choose("Verify").want(422, s.provider, "Error: ", "Two-factor authentication isn’t on yet", "That code isn’t right.")
	if again := b.scan(); again.key != ph.key || !slices.Equal(b.codes(), codes) {
		t.Error("a wrong code shows another QR code, or other backup codes")
	}
	wantJS(b, `document.querySelector("#code").value + document.querySelector("#saved").checked`, "true")
	b.fill("2. Enter verification code", ph.code())
	b.choose("Verify").want(200, s.provider+"/preferences/security",
		"Two-factor authentication is on. You’ll be asked for a 6-digit code every time you start a new session.", "Backup codes: 10 of 10 left")
	s.mail(b, p, "Two-factor authentication is on")

	// A new session asks, and a second workspace in it does not.
	c := s.tab(t)
	c.open(s.acme + "/")
	c.choose("Sign in with Harmony")
	c.signIn(p.email, p.password).want(200, s.provider+"/login/verify",
		"Open your authenticator app and enter the 6-digit code for Harmony (", "Use a backup code")
	c.enterCode(ph.code()).want(200, s.acme+"/", "Hello, Mary Jackson", "otp", "urn:harmony:acr:2fa")
	c.choose("Open Globex").want(200, s.globex+"/")
	c.choose("Sign in with Harmony").want(200, s.globex+"/", "Hello, Mary Jackson")
	c.open(s.provider + "/preferences/security")
	c.click(p.name + " " + p.email)
	c.choose("Sign out").want(200, s.provider+"/logout")
	c.choose("Sign in again")
	c.signIn(p.email, p.password).want(200, s.provider+"/login/verify")
}

// "If you lose your phone or delete your authenticator app, these codes are the
// only way to regain access to your account." Each works once.
func testBackupCodes(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Katherine Johnson")
	_, codes := s.enabled(b, p)

	c := s.tab(t)
	c.open(s.acme + "/sign-in")
	c.signIn(p.email, p.password).want(200, s.provider+"/login/verify")
	c.choose("Use a backup code").want(200, s.provider+"/login/backup-code")
	c.fill("Backup code", strings.ToLower(strings.ReplaceAll(codes[3], "-", " ")))
	c.choose("Verify").want(200, s.provider+"/login/backup-code/used", "You used a backup code. 9 left.")
	c.choose("Continue").want(200, s.acme+"/", "Hello, Katherine Johnson")
	s.mail(c, p, "You used a backup code. 9 left")

	// "Make new codes": the old ones work until the new ones are saved.
	b.open(s.provider+"/preferences/security").want(200, s.provider, "Backup codes: 9 of 10 left")
	b.choose("Make new codes").want(200, s.provider+"/preferences/security/2fa/codes", "Make new backup codes?")
	b.choose("Make new codes").want(200, s.provider+"/preferences/security/2fa/codes", "Save your new backup codes")
	anew := b.saveCodes()
	b.click("I have saved my backup codes")
	b.choose("Use new codes").want(200, s.provider+"/preferences/security", "Your new backup codes are in use. The old ones no longer work.", "Backup codes: 10 of 10 left")

	d := s.tab(t)
	d.open(s.provider + "/login")
	d.signIn(p.email, p.password)
	d.choose("Use a backup code")
	d.fill("Backup code", codes[4])
	d.choose("Verify").want(422, s.provider+"/login/backup-code", "That backup code isn’t right, or it was used already.")
	d.fill("Backup code", anew[4])
	d.choose("Verify").want(200, s.provider+"/login/backup-code/used", "You used a backup code. 9 left.")
	d.choose("Continue").want(200, s.provider+"/preferences/security")
}

// "Click Disable 2FA on the Security tab and confirm. Once disabled, sign-in only
// requires your password — make sure you still have a strong, unique password
// before doing this." Who gave no code for ten minutes gives one.
func testDisableTwoFactor(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Dorothy Vaughan")
	ph, codes := s.enabled(b, p)
	const warning = "Once disabled, sign-in will only ask for your password. Make sure you still have a strong, unique password before doing this."
	b.choose("Disable 2FA").want(200, s.provider+"/preferences/security/2fa/off", "Disable two-factor authentication?", warning)
	b.choose("Cancel").want(200, s.provider+"/preferences/security", "Two-factor authentication is on")

	s.proofsAge(t, p)
	b.choose("Disable 2FA").want(200, s.provider+"/preferences/security/2fa/off", warning)
	b.fill("6-digit code or backup code", ph.wrong())
	b.choose("Disable 2FA").want(422, s.provider, "Two-factor authentication is still on")
	b.fill("6-digit code or backup code", codes[0]) // the phone may be what is lost
	b.choose("Disable 2FA").want(200, s.provider+"/preferences/security", "Two-factor authentication is off.", "Sign-in only asks for your password.")
	s.mail(b, p, "Two-factor authentication is off")

	c := s.tab(t)
	c.open(s.acme + "/sign-in")
	c.signIn(p.email, p.password).want(200, s.acme+"/", "Hello, Dorothy Vaughan")
}

// "Active sessions (other devices currently signed in) live on the Sessions tab."
func testSessions(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Annie Easley")
	mac, linux := s.tab(t).comesAs(chromeOnMac), s.tab(t).comesAs(firefoxOnLinux)
	mac.open(s.acme + "/sign-in")
	mac.signIn(p.email, p.password).want(200, s.acme+"/")
	mac.open(s.globex+"/sign-in").want(200, s.globex+"/")
	s.security(linux, p)
	s.security(b, p)
	b.choose("Sessions").want(200, s.provider+"/preferences/sessions", "This device", "Other sessions",
		"Chrome on macOS", "with password · Acme, Globex", "Firefox on Linux", "127.0.0.1", "Sign out all other sessions (2)")

	b.choose("Sign out Firefox on Linux, 127.0.0.1").want(200, s.provider+"/preferences/sessions", "That session is signed out.", "Sign out all other sessions (1)")
	linux.open(s.provider+"/preferences/security").want(200, s.provider+"/login")

	// Later the page first asks who it is.
	s.proofsAge(t, p)
	b.choose("Sign out all other sessions (1)").want(200, s.provider+"/login/confirm", "Confirm it’s you", "You’re about to sign out all other sessions.")
	b.fill("Password", p.password)
	b.choose("Confirm").want(200, s.provider+"/preferences/sessions/end-others", "Sign out all other sessions?")
	b.choose("Sign out all other sessions (1)").want(200, s.provider+"/preferences/sessions", "You signed out 1 other session.", "You’re only signed in here.")
	for _, workspace := range []string{s.acme, s.globex} {
		mac.until(workspace+"/", "You’re signed out, here and at Harmony.") // it is told
	}
	mac.open(s.acme+"/sign-in").want(200, s.provider+"/login")
}

// until opens a page again and again until it says this.
func (b *tab) until(address, said string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		b.open(address).want(200, address)
		if strings.Contains(js[string](b, "document.body.innerText"), said) {
			return
		}
	}
	b.t.Fatalf("%s never says %q\n%s", address, said, b.where())
}

// The Activity tab says what happened, and "This wasn’t me" leads through what is
// to be done.
func testActivity(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Valerie Thomas")
	s.security(b, p)
	thief := s.tab(t).comesAs(firefoxOnLinux)
	s.security(thief, p)
	b.choose("Activity").want(200, s.provider+"/preferences/activity", "Security activity", "Today",
		"Signed in on a new browser with password", "Firefox on Linux · 127.0.0.1 · ")
	b.leave(chromedp.Click(chromedp.CSS(".not-me"))).want(200, s.provider+"/preferences/not-me",
		"Secure your account", "1. Sign out all other sessions", "2. Change your password", "3. Enable 2FA")
	b.choose("Secure my account").want(200, s.provider+"/preferences/security", "All other sessions are signed out. Now change your password.")
	thief.open(s.provider+"/preferences/security").want(200, s.provider+"/login")
	b.choose("Activity").want(200, s.provider+"/preferences/activity", "Signed out 1 other session")
}
