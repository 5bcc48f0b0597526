package main

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
)

// Signing in with Google in a real Chromium, through the stand-in that dev runs.

const googleLink = chromedp.CSS(`main a[href^="/login/google"]`)

func TestBrowserGoogle(t *testing.T) {
	t.Parallel()
	npm(t)
	s := &devStage{axe: string(must(os.ReadFile(filepath.Join(npmDir, "node_modules/axe-core/axe.min.js")))(t))}
	s.chromium = startChromium(t)
	s.devHouse = startDev(t, filepath.Join(t.TempDir(), "data"))
	for _, story := range []struct {
		name string
		tell func(*testing.T, *devStage)
	}{
		{"People", testGooglePeople},
		{"WithoutScripts", testGoogleWithoutScripts},
		{"SecondFactor", testGoogleSecondFactor},
		{"Accessibility", testGoogleAccessibility},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, s) })
	}
	if code := s.end(); code != 0 || t.Failed() {
		t.Errorf("exit code %d\n%s", code, &s.stderr)
	}
}

// googleTab is a tab that takes the stand-in's pages for such that may keep nothing, too.
func (s *devStage) googleTab(t *testing.T) *tab { return newTab(t, s.chromium, s.provider, s.google) }

// atStandIn continues with Google on the page that the tab shows.
func (s *devStage) atStandIn(b *tab, email string) arrival {
	b.t.Helper()
	b.press(googleLink).want(200, s.google+"/login", "Stand-in for Google", "Sign in to continue to Harmony")
	return b.signIn(email, standInPassword)
}

// Each of the stand-in's people shows what they are there for.
func testGooglePeople(t *testing.T, s *devStage) {
	for i, want := range []struct{ at, says string }{
		{s.acme + "/", "Hello, Gwen Google"},
		{s.provider + "/login", "Google hasn’t verified that email address."},
		{s.provider + "/login", "This email signs in with a Harmony password. Enter it here."},
		{s.acme + "/", "Hello, Rita Renamed"},
	} {
		b, person := s.googleTab(t), standInPeople[i]
		b.open(s.acme+"/sign-in").want(200, s.provider+"/login", "Sign in to continue to Acme", "Continue with Google")
		s.atStandIn(b, person.Email).want(200, want.at, want.says)
		switch i {
		case 0: // Globex asks nothing, and her Security tab is Google's
			b.open(s.globex+"/sign-in").want(200, s.globex+"/", "Hello, Gwen Google")
			b.open(s.provider+"/preferences/security").want(200, s.provider, "Sign-in method: Google.", "There is no Harmony password to reset.", "Change your Google password instead")
			wantJS(b, `document.querySelectorAll("input[type=password]").length`, 0)
			wantJS(b, `document.querySelector("main a[href*='google.com']").href`, "https://myaccount.google.com/security")
		case 1:
			b.open(s.provider+"/preferences/security").want(200, s.provider+"/login")
		case 2: // the address is filled in
			wantJS(b, `document.querySelector("#email").value`, person.Email)
			b.leave(chromedp.SendKeys(passwordField, demoPeople[0].Password), chromedp.Click(submitButton)).want(200, s.acme+"/", "Hello, Ada Lovelace")
		case 3:
			b.wantText(person.Email)
		}
	}
}

// Without JavaScript, and by a fresh sign-in that leads to Google alone.
func testGoogleWithoutScripts(t *testing.T, s *devStage) {
	b, gwen := s.googleTab(t), standInPeople[0]
	b.withoutScripts()
	b.open(s.acme + "/sign-in")
	s.atStandIn(b, gwen.Email).want(200, s.acme+"/", "Hello, Gwen Google")
	b.press(`a[href="/sign-in?fresh=1"]`).want(200, s.provider+"/login", "Confirm it’s you", gwen.Email, "Go to Google and back to go on.")
	wantJS(b, `document.querySelectorAll("form:not([data-passkey])").length`, 0)
	// The stand-in asks for its password again: prompt=select_account.
	b.press(googleLink).want(200, s.google+"/login")
	b.leave(chromedp.Clear(emailField), chromedp.SendKeys(emailField, gwen.Email), chromedp.SendKeys(passwordField, standInPassword), chromedp.Click(submitButton)).
		want(200, s.acme+"/", "Hello, Gwen Google")
}

// Two-factor authentication is Harmony's, and comes after Google.
func testGoogleSecondFactor(t *testing.T, s *devStage) {
	b, rita := s.googleTab(t), standInPeople[3]
	b.open(s.provider + "/login")
	s.atStandIn(b, rita.Email).want(200, s.provider+"/preferences/security", "Sign-in only asks for your Google account.")
	b.press("#enable-2fa").want(200, s.provider+pathTwoFactor, "Even if someone gets into your Google account")
	a := b.setUp()
	b.leave(chromedp.SendKeys(chromedp.CSS("#code"), a.code()), chromedp.Click(chromedp.CSS("#saved")), chromedp.Click(chromedp.CSS("dialog footer button.dark"))).
		want(200, s.provider+"/preferences/security", "Two-factor authentication is on.")

	c := s.googleTab(t)
	c.open(s.acme + "/sign-in")
	s.atStandIn(c, rita.Email).want(200, s.provider+"/login/verify", "Google confirmed your account. Now enter your Harmony code.")
	c.leave(chromedp.SendKeys(chromedp.CSS("#code"), a.codeAt(a.now()+1))).want(200, s.acme+"/", "Hello, Rita Renamed", account.ACR2FA)
}

// setUp goes on from the explanation of two-factor authentication to its set-up, and
// returns the app that was set up.
func (b *tab) setUp() *app {
	b.t.Helper()
	b.press("dialog form button[type=submit]").want(200, "", "Scan")
	p := &page{t: b.t, url: must(url.Parse(run1(b, chromedp.Location())))(b.t), body: js[string](b, "document.documentElement.outerHTML")}
	return p.scan()
}

// axe-core finds nothing on the pages that Google brings, in either look.
func testGoogleAccessibility(t *testing.T, s *devStage) {
	b, gwen := s.googleTab(t), standInPeople[0]
	visit := func(page string) {
		t.Helper()
		for _, width := range []int64{1280, 375} {
			for _, scheme := range []string{"light", "dark"} {
				b.look(width, scheme)
				for _, v := range b.violations(s.axe) {
					t.Errorf("%s, %d px, %s: %s", page, width, scheme, v)
				}
			}
		}
		b.look(320, "light")
		if wide := js[int](b, "document.documentElement.scrollWidth"); wide > 320 {
			t.Errorf("%s is %d px wide in a window of 320", page, wide)
		}
		b.look(1280, "light")
	}
	b.open(s.acme+"/sign-in").want(200, s.provider+"/login", "Continue with Google")
	visit("sign-in-google")
	b.press(googleLink).want(200, s.google+"/login", "Stand-in for Google")
	visit("stand-in")
	b.signIn(gwen.Email, "not the password").want(422, s.google+"/login")
	visit("stand-in-error")
	b.leave(chromedp.Clear(emailField), chromedp.SendKeys(emailField, standInPeople[1].Email), chromedp.SendKeys(passwordField, standInPassword), chromedp.Click(submitButton)).
		want(200, s.provider+"/login", "Google hasn’t verified that email address.")
	visit("sign-in-unverified")
	s.atStandIn(b, standInPeople[2].Email).want(200, s.provider+"/login", "This email signs in with a Harmony password.")
	visit("sign-in-password")
	s.atStandIn(b, gwen.Email).want(200, s.acme+"/", "Hello, Gwen Google")
	b.open(s.acme+"/sign-in?fresh=1").want(200, s.provider+"/login", "Confirm it’s you", "Go to Google and back")
	visit("confirm-google")
	b.open(s.provider+"/preferences/security").want(200, s.provider, "There is no Harmony password to reset.")
	visit("security-google")
	b.open(s.provider+"/login/google/callback").want(400, s.provider, "This Google sign-in is over")
	visit("google-over")

	// What a quarter of an hour does, for which no test waits.
	d := must(db.Open(t.Context(), sqliteScheme+filepath.Join(s.dir, devDatabase)))(t)
	defer d.Close()
	must(d.Exec(t.Context(), `UPDATE sessions SET proved_at = 0`))(t)
	b.open(s.provider+pathTwoFactor).want(200, s.provider+"/login/confirm", "Continue with Google")
	visit("confirm-proof")
	s.atStandIn(b, standInPeople[2].Email).want(403, s.provider+"/login/google/callback", "That was another Google account")
	visit("google-wrong")
	b.press(googleLink).want(200, s.google+"/login")
	b.signIn(gwen.Email, standInPassword).want(200, s.provider+pathTwoFactor, "Even if someone gets into your Google account")
	visit("enable-google")
}
