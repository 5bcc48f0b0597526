package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The dialogs of the Security tab, and what their pages do with codes.

// focused is the id of what has the focus.
const focused = `document.activeElement.id`

// A dialog takes the focus, keeps it, and gives it back to what opened it (TF-2).
func testDialogs(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Radia Perlman")
	s.security(b, p)

	// isDialog checks what has the focus, and that Tab does not lead out.
	isDialog := func(focus string) {
		t.Helper()
		wantJS(b, `document.querySelector("dialog").matches(":modal")`, true)
		wantJS(b, focused, focus)
		js[chromedp.Void](b, `document.addEventListener("focusin", (e) => { window.left ||= !document.querySelector("dialog").contains(e.target) })`)
		seen := map[string]bool{}
		for range 12 {
			b.do(chromedp.KeyEvent(kb.Tab))
			seen[js[string](b, `document.activeElement.innerText || `+focused)] = true
		}
		wantJS(b, `window.left === undefined || window.left === false`, true)
		if !seen["Cancel"] {
			t.Errorf("Tab leads to %v", seen)
		}
	}
	// leads checks that both ways out lead back to what opened the dialog.
	leads := func(opener, label, focus string) {
		t.Helper()
		for _, out := range []func() arrival{
			func() arrival { return b.leave(chromedp.KeyEvent(kb.Escape)) },
			func() arrival { return b.choose("Cancel") },
		} {
			wantJS(b, focused, opener)
			b.leave(chromedp.KeyEvent(kb.Enter))
			isDialog(focus)
			out().want(200, s.provider+"/preferences/security", label)
			wantJS(b, focused, opener)
		}
	}
	b.do(chromedp.Focus(chromedp.CSS("#enable-2fa")))
	leads("enable-2fa", "Enable 2FA", "dialog-title")

	// Leaving the set-up by Escape is asked about first.
	b.choose("Enable 2FA")
	b.choose("Enable 2FA").want(200, s.provider, "Set Up Two-Factor Authentication")
	isDialog("dialog-title")
	b.do(chromedp.Focus(chromedp.CSS("#saved")), chromedp.KeyEvent(kb.Escape))
	b.wantText("Set-up isn’t finished", "two-factor authentication stays off and these backup codes don’t work")
	wantJS(b, focused, "keep-going")
	b.click("Keep going")
	wantJS(b, focused, "saved")
	wantJS(b, `document.querySelector("#unfinished").checkVisibility()`, false)
	b.do(chromedp.KeyEvent(kb.Escape))
	b.leave(chromedp.KeyEvent(kb.Escape)).want(200, s.provider+"/preferences/security", "Two-factor authentication is off")
	wantJS(b, focused, "enable-2fa")

	// Who comes back finds the same, and Verify does not wait for a second press.
	b.choose("Enable 2FA").want(200, s.provider, "Set Up Two-Factor Authentication")
	b.do(chromedp.SendKeys(codeField, b.scan().code()))
	b.click("I have saved my backup codes")
	b.choose("Verify").want(200, s.provider+"/preferences/security", "Two-factor authentication is on")

	// What destroys something is not what Enter would press.
	b.do(chromedp.Focus(chromedp.CSS("#disable-2fa")))
	leads("disable-2fa", "Disable 2FA", "cancel")
	b.do(chromedp.Focus(chromedp.CSS("#new-codes")))
	leads("new-codes", "Make new codes", "dialog-title")
	s.proofsAge(t, p)
	b.open(s.provider + "/preferences/security")
	b.do(chromedp.Focus(chromedp.CSS("#disable-2fa")))
	leads("disable-2fa", "Disable 2FA", "code")
}

// Copy says what it did, Download gives a file that says whose codes they are, and
// Print prints them and nothing else (TF-6).
func testKeepCodes(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Barbara Liskov")
	s.security(b, p)
	b.choose("Enable 2FA")
	b.choose("Enable 2FA").want(200, s.provider, "Set Up Two-Factor Authentication")
	codes := b.codes()

	name, text := b.download("Download backup codes")
	if !regexp.MustCompile(`^harmony-backup-codes-` + regexp.QuoteMeta(p.email) + `-\d{4}-\d\d-\d\d\.txt$`).MatchString(name) {
		t.Errorf("the file is %s", name)
	}
	for _, said := range append(codes, "Harmony backup codes for "+p.email, "Each works once.", s.provider+"/login and choose “Use a backup code”") {
		if !strings.Contains(text, said) {
			t.Errorf("the file does not say %q:\n%s", said, text)
		}
	}

	b.printed(true)
	lines := strings.FieldsFunc(js[string](b, "document.body.innerText"), func(c rune) bool { return c == '\n' })
	b.printed(false)
	if len(lines) != 11 || !strings.HasPrefix(lines[0], "Harmony backup codes for "+p.email) || strings.Join(lines[1:], " ") != strings.Join(codes, " ") {
		t.Errorf("the paper says %q", lines)
	}

	if s.plain {
		wantJS(b, `[...document.querySelectorAll("[data-copy], #print")].some((e) => e.checkVisibility())`, false)
		return
	}
	b.mayUseClipboard()
	for _, c := range []struct{ button, want string }{{"Copy set-up key", b.scan().key}, {"Copy backup codes", strings.Join(codes, "\n")}} {
		b.click(c.button)
		b.do(chromedp.WaitVisible(chromedp.JSPath(`[...document.querySelectorAll("dialog [role=status]")].find((e) => e.textContent === "Copied")`)))
		wantJS(b, "navigator.clipboard.readText()", c.want)
	}
	js[chromedp.Void](b, "window.print = () => (window.printed = true)")
	b.click("Print backup codes")
	wantJS(b, "window.printed", true)
}

// printed has the page look as it does on paper.
func (b *tab) printed(on bool) {
	b.t.Helper()
	media := ""
	if on {
		media = "print"
	}
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: media})
		return err
	}))
}

// paste pastes into the field that has the focus.
func (b *tab) paste(text string) chromedp.Action[chromedp.Void] {
	b.t.Helper()
	js[chromedp.Void](b, fmt.Sprintf("navigator.clipboard.writeText(%q)", text))
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{
			Type: input.DispatchKeyEventTypeRawKeyDown, Key: "v", Code: "KeyV", WindowsVirtualKeyCode: 'V', Modifiers: int64(chromedp.ModifierCtrl), Commands: []string{"paste"},
		})
		return err
	})
}

// Passwords and codes can be pasted, a code with the space that apps show in it.
// At sign-in the sixth digit sends it, once, and after an error never (OTP-3,
// OTP-4).
func testPasteAndSend(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Frances Allen")
	b.mayUseClipboard()
	s.security(b, p)
	b.choose("Enable 2FA")
	b.choose("Enable 2FA").want(200, s.provider, "Set Up Two-Factor Authentication")
	ph := b.scan()
	code := ph.code()
	b.do(chromedp.Focus(codeField), b.paste(code[:3]+" "+code[3:]+"\n"))
	wantJS(b, `document.querySelector("#code").value`, code)
	b.staysPut()
	b.click("I have saved my backup codes")
	b.choose("Verify").want(200, s.provider+"/preferences/security", "Two-factor authentication is on")

	c := s.tab(t)
	c.mayUseClipboard()
	c.open(s.provider + "/login")
	c.do(chromedp.SendKeys(emailField, p.email), chromedp.Focus(passwordField))
	c.leave(c.paste(p.password), chromedp.Click(submitButton)).want(200, s.provider+"/login/verify", "We check it as soon as you enter the sixth digit.")
	c.leave(chromedp.Focus(codeField), c.paste(ph.wrong())).want(422, s.provider+"/login/verify", "That code isn’t right.")
	c.do(chromedp.WaitReady(chromedp.CSS("#code:focus"))) // a moment after the page is there
	wantJS(c, focused+` + document.querySelector("#code").value`, "code")
	if js[bool](c, `document.body.innerText.includes("We check it as soon as")`) {
		t.Error("after an error the page says that it sends the code by itself")
	}
	code = ph.code()
	c.do(chromedp.SendKeys(codeField, code))
	c.staysPut()
	c.choose("Verify").want(200, s.provider+"/preferences/security")
	if posts := c.posts(); strings.Join(posts, " ") != "/login /login/verify /login/verify" {
		t.Errorf("the browser posted to %q", posts)
	}
}

// staysPut checks that the page sends nothing by itself.
func (b *tab) staysPut() {
	b.t.Helper()
	before := len(b.posts())
	b.do(chromedp.Sleep(50 * time.Millisecond))
	if posts := b.posts(); len(posts) != before {
		b.t.Errorf("the page posted to %q", posts[before:])
	}
}
