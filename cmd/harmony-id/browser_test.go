package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdpnet "github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/oauth2"

	"github.com/harmony/id/db/dbtest"
)

// The pages in a real Chromium, against the program as it is run: dev on SQLite
// and serve on PostgreSQL, through real sockets.

// chromiumPath is HARMONY_ID_TEST_CHROMIUM, or where Chromium commonly is. Its
// headless shell comes first: the same engine without the windows around it, which
// cost most of a new tab.
func chromiumPath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("HARMONY_ID_TEST_CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{
		"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Chromium.app/Contents/MacOS/Chromium",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("there is no Chromium: \"make tools\" installs it, or HARMONY_ID_TEST_CHROMIUM names the one to use")
	return ""
}

// startChromium starts a browser with nothing in it. It has no sandbox when
// root runs it, which Chromium insists on.
func startChromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromiumPath(t)),
		chromedp.Flag("headless", "new"),
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1280, 800),
		chromedp.Flag("host-resolver-rules", "MAP localhost 127.0.0.1"), // one address, whatever the machine has
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := chromedp.Cancel(end); err != nil {
			t.Errorf("Chromium does not end: %v", err)
		}
	})
	return ctx
}

// patience is how long a tab waits for anything, on a machine that does much else.
const patience = time.Minute

// A tab is a private window, with cookies of its own. When the test ends it has
// the test fail if any page complained, or asked another origin for something.
type tab struct {
	t       *testing.T
	ctx     context.Context
	hosted  []string // the origins whose pages may keep nothing in the browser
	asked   []string // the origins that pages of others may ask for something
	scripts bool

	mu         sync.Mutex
	documents  map[cdpnet.RequestID]string // what was navigated to
	requests   []*cdpnet.Request           // by which
	blocked    []string                    // what of it was not shown
	complaints []string
}

// newTab opens a tab that takes the pages of these origins for Harmony's.
func newTab(t *testing.T, chromium context.Context, hosted ...string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, hosted: hosted, scripts: true, documents: map[cdpnet.RequestID]string{}}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error { // as if no other window were before it
		_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}))
	t.Cleanup(func() {
		for _, c := range b.taken() {
			t.Errorf("in the browser: %s", c)
		}
	})
	return b
}

// listen is told everything that happens in the tab.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	complain := func(format string, args ...any) { b.complaints = append(b.complaints, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *cdpnet.EventRequestWillBeSent:
		if e.Type == cdpnet.ResourceTypeDocument {
			b.documents[e.RequestID] = e.Request.URL
			b.requests = append(b.requests, e.Request)
		} else if from := origin(e.DocumentURL); origin(e.Request.URL) != from && !slices.Contains(b.asked, origin(e.Request.URL)) && !strings.HasPrefix(e.Request.URL, "data:") {
			complain("%s asked for %s", e.DocumentURL, e.Request.URL)
		}
	case *cdpnet.EventLoadingFailed:
		if to, ok := b.documents[e.RequestID]; ok && e.ErrorText == "net::ERR_BLOCKED_BY_RESPONSE" {
			b.blocked = append(b.blocked, to)
		}
	case *log.EventEntryAdded:
		if _, ok := b.documents[e.Entry.NetworkRequestID]; ok && e.Entry.Source == log.EntrySourceNetwork {
			return // it says that a page has the status of an error
		}
		if e.Entry.Source == log.EntrySourceSecurity || e.Entry.Level == log.EntryLevelWarning || e.Entry.Level == log.EntryLevelError {
			complain("%s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		complain("console: %s", e.Type)
	case *runtime.EventExceptionThrown:
		complain("exception: %s", e.ExceptionDetails.Text)
	}
}

// posts are the paths that the tab posted to.
func (b *tab) posts() (paths []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if r.Method == http.MethodPost {
			paths = append(paths, strings.TrimPrefix(r.URL, origin(r.URL)))
		}
	}
	return paths
}

func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host
}

// taken are the complaints so far. They are not made again.
func (b *tab) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.complaints
	b.complaints = nil
	return c
}

// run1 runs an action and returns what it found.
func run1[T any](b *tab, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.where())
	}
	return v
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	run1(b, chromedp.Steps(steps...))
}

// js is the value of an expression, or of the promise that it makes.
func js[T any](b *tab, expression string) T {
	b.t.Helper()
	return run1(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// where tells what the tab shows, for a test that fails.
func (b *tab) where() string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	at, _ := chromedp.Run(ctx, chromedp.Location())
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	return fmt.Sprintf("%s\n%s (%v)", at, text, err)
}

// An arrival is the page that a tab came to.
type arrival struct {
	b      *tab
	status int64
	at     string
	header cdpnet.Headers
}

// leave does what leads to another page, and waits until that is there.
func (b *tab) leave(steps ...chromedp.Action[chromedp.Void]) arrival {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, steps...)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.where())
	}
	b.keepsNothing()
	return arrival{b, resp.Status, resp.URL, resp.Headers}
}

func (b *tab) open(address string) arrival {
	b.t.Helper()
	return b.leave(chromedp.Navigate(address))
}

// keepsNothing checks that a hosted page left nothing behind (WEB-13).
func (b *tab) keepsNothing() {
	b.t.Helper()
	if !b.scripts || !slices.Contains(b.hosted, js[string](b, "location.origin")) {
		return
	}
	if n := js[int](b, `(async () => localStorage.length + sessionStorage.length +
		(await indexedDB.databases()).length + (await caches.keys()).length)()`); n != 0 {
		b.t.Errorf("%d things are stored\n%s", n, b.where())
	}
}

// want checks the page and that it says this.
func (a arrival) want(status int64, at string, said ...string) arrival {
	a.b.t.Helper()
	if a.status != status || !strings.HasPrefix(a.at, at) {
		a.b.t.Fatalf("came to %s: %d, want %s: %d\n%s", a.at, a.status, at, status, a.b.where())
	}
	a.b.wantText(said...)
	return a
}

func (b *tab) wantText(said ...string) {
	b.t.Helper()
	text := strings.ReplaceAll(js[string](b, "document.title + '\\n' + document.body.innerText"), "\u00a0", " ")
	for _, s := range said {
		if !strings.Contains(text, s) {
			b.t.Errorf("the page does not say %q\n%s", s, text)
		}
	}
}

// wantJS checks an expression.
func wantJS[T comparable](b *tab, expression string, want T) {
	b.t.Helper()
	if got := js[T](b, expression); got != want {
		b.t.Errorf("%s is %v, want %v\n%s", expression, got, want, b.where())
	}
}

// withoutScripts turns JavaScript off in the tab's pages.
func (b *tab) withoutScripts() {
	b.t.Helper()
	b.scripts = false
	b.allowScripts(false)
}

func (b *tab) allowScripts(allow bool) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !allow})
		return err
	}))
}

const (
	emailField    = chromedp.CSS("#email")
	passwordField = chromedp.CSS("#password")
	submitButton  = chromedp.CSS("main form button[type=submit]")
	showButton    = chromedp.CSS(".reveal button")
)

// signIn fills in the sign-in page that the tab shows, and sends it.
func (b *tab) signIn(email, password string) arrival {
	b.t.Helper()
	return b.leave(
		chromedp.Clear(emailField), chromedp.SendKeys(emailField, email),
		chromedp.SendKeys(passwordField, password), chromedp.Click(submitButton))
}

// press clicks a link or a button that leads to another page.
func (b *tab) press(selector chromedp.CSS) arrival {
	b.t.Helper()
	return b.leave(chromedp.Click(selector))
}

// A devStage is what the stories about dev play on.
type devStage struct {
	*devHouse
	chromium context.Context
	axe      string
	help     *helpSite
	plain    bool // its browsers run no JavaScript
}

func (s *devStage) tab(t *testing.T) *tab {
	t.Helper()
	b := newTab(t, s.chromium, s.provider)
	if s.plain {
		b.withoutScripts()
	}
	return b
}

// TestBrowserDev is what a newcomer sees who runs dev.
func TestBrowserDev(t *testing.T) {
	t.Parallel()
	npm(t)
	s := &devStage{axe: string(must(os.ReadFile(filepath.Join(npmDir, "node_modules/axe-core/axe.min.js")))(t))}
	s.chromium = startChromium(t)
	s.help = startHelpSite(t)
	s.devHouse = startDev(t, filepath.Join(t.TempDir(), "data"), "--support-url", s.help.URL+"/help", "--privacy-url", s.help.URL+"/privacy")
	for _, story := range []struct {
		name string
		tell func(*testing.T, *devStage)
	}{
		{"ObserverSees", testObserver},
		{"SingleSignOn", testSingleSignOn},
		{"WrongPassword", testWrongPassword},
		{"ShowPassword", testShowPassword},
		{"WithoutScripts", testWithoutScripts},
		{"Keyboard", testKeyboard},
		{"Dialogs", testDialogs},
		{"PasteAndSend", testPasteAndSend},
		{"Weight", testWeight},
		{"EmptyMailbox", testEmptyMailbox},
		{"Passkey", testPasskey},
		{"SecurityKey", testSecurityKey},
		{"PasskeyRefused", testPasskeyRefused},
		{"PasskeyPages", testPasskeyPages},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, s) })
	}
	// What people do with their account they do with JavaScript and without.
	t.Run("Account", func(t *testing.T) {
		for name, plain := range map[string]bool{"Scripts": false, "NoScripts": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := *s
				s.plain = plain
				for _, story := range accountStories {
					t.Run(story.name, func(t *testing.T) { story.tell(t, &s) })
				}
			})
		}
	})
	if code := s.end(); code != 0 || t.Failed() {
		t.Errorf("exit code %d\n%s", code, &s.stderr)
	}
}

// What the tab checks on every page, it would find: a script in the page, a
// request to another origin, something stored.
func testObserver(t *testing.T, s *devStage) {
	b := s.tab(t)
	b.open(s.provider + "/login")
	for script, want := range map[string]string{
		`document.body.append(Object.assign(document.createElement("script"), { textContent: "1" }))`: "Content Security Policy",
		`fetch("` + s.acme + `/").catch(() => 0)`:                                                     "Content Security Policy",
		`console.error("x")`:                         "console: error",
		`setTimeout(() => { throw new Error("x") })`: "exception: Uncaught",
	} {
		js[chromedp.Void](b, script)
		// The console is told a moment later; what asks for it comes after.
		js[chromedp.Void](b, "new Promise((done) => setTimeout(done))")
		if c := b.taken(); len(c) == 0 || !strings.Contains(strings.Join(c, "\n"), want) {
			t.Errorf("%s: the tab saw %q", script, c)
		}
	}
	b.open(s.acme + "/")
	js[chromedp.Void](b, `fetch("`+s.provider+`/.well-known/openid-configuration").catch(() => 0)`)
	if c := b.taken(); len(c) == 0 {
		t.Error("the tab does not see requests to other origins")
	}
}

// The story of the README.
func testSingleSignOn(t *testing.T, s *devStage) {
	b, ada := s.tab(t), demoPeople[0]
	b.open(s.acme+"/").want(200, s.acme+"/", "Welcome to Acme", "Sign in with Harmony")
	b.press("a.btn.dark").want(200, s.provider+"/login", "Sign in – Harmony", "Sign in to continue to Acme")
	b.signIn(ada.Email, ada.Password).want(200, s.acme+"/", "Hello, Ada Lovelace", "ES256", "London")

	// Globex asks nothing.
	b.press(chromedp.CSS(`a[href="`+s.globex+`"]`)).want(200, s.globex, "Welcome to Globex")
	b.press("a.btn.dark").want(200, s.globex+"/", "Hello, Ada Lovelace")

	// Both refresh.
	token := func() string {
		t.Helper()
		return js[string](b, `[...document.querySelectorAll("dt")].find((e) => e.textContent === "Access token").nextElementSibling.textContent`)
	}
	for _, workspace := range []string{s.globex, s.acme} {
		b.open(workspace+"/").want(200, workspace+"/", "Hello, Ada Lovelace")
		before := token()
		b.press(`form[action="/refresh"] button`).want(200, workspace+"/", "Hello, Ada Lovelace")
		if token() == before {
			t.Errorf("%s shows the same access token after refreshing", workspace)
		}
	}

	// Acme asks for a fresh sign-in: the address is fixed.
	b.press(`a[href="/sign-in?fresh=1"]`).want(200, s.provider+"/login", "Confirm it’s you", ada.Email, "Not you?")
	wantJS(b, `document.querySelector("#email").readOnly && document.querySelector("#email").value`, ada.Email)
	wantJS(b, `document.activeElement.id`, "password")
	b.leave(chromedp.SendKeys(passwordField, ada.Password), chromedp.Click(submitButton)).want(200, s.acme+"/", "Hello, Ada Lovelace")

	// Signing out of Acme signs out of Harmony and comes back to Acme.
	b.press(`form[action="/sign-out"] button`).want(200, s.acme+"/signed-out", "Welcome to Acme")
	b.press("a.btn.dark").want(200, s.provider+"/login", "Sign in to continue to Acme")
	wantJS(b, `document.querySelector("#email").value + document.querySelector("#password").value`, "")
	b.open(s.provider+"/preferences/security").want(200, s.provider+"/login", "Sign in to Harmony")
}

func testWrongPassword(t *testing.T, s *devStage) {
	b, ada := s.tab(t), demoPeople[0]
	b.open(s.acme+"/sign-in").want(200, s.provider+"/login")
	b.signIn(ada.Email, "not her password").want(422, s.provider+"/login",
		"Error: ", "We couldn’t sign you in", "Check your email and password and try again.", "Sign in to continue to Acme")
	wantJS(b, `document.querySelector("#email").value`, ada.Email)
	wantJS(b, `document.querySelector("#password").value`, "")
	wantJS(b, `document.activeElement.getAttribute("role")`, "alert")
	b.do(chromedp.Click(chromedp.CSS("[role=alert] a")))
	wantJS(b, `document.activeElement.id`, "email")
	b.leave(chromedp.SendKeys(passwordField, ada.Password+kb.Enter)).want(200, s.acme+"/", "Hello, Ada Lovelace")
}

func testShowPassword(t *testing.T, s *devStage) {
	b := s.tab(t)
	b.open(s.provider + "/login")
	state := func(kind, pressed, label, status string) {
		t.Helper()
		wantJS(b, `document.querySelector("#password").type`, kind)
		wantJS(b, `document.querySelector(".reveal button").getAttribute("aria-pressed")`, pressed)
		wantJS(b, `document.querySelector(".reveal button").getAttribute("aria-label")`, label)
		wantJS(b, `document.querySelector(".reveal + [role=status]").textContent`, status)
	}
	state("password", "false", "Show password", "")
	b.do(chromedp.SendKeys(emailField, "ada@example.com"), chromedp.SendKeys(passwordField, "as you can see"), chromedp.Click(showButton))
	state("text", "true", "Hide password", "Your password is shown.")
	b.do(chromedp.Click(showButton))
	state("password", "false", "Show password", "Your password is hidden.")
	b.do(chromedp.Click(showButton))
	// Hidden again before it is sent, lest the browser keep it as a text.
	js[chromedp.Void](b, `document.forms[0].addEventListener("submit", (e) => e.preventDefault())`)
	b.do(chromedp.Click(submitButton))
	state("password", "false", "Show password", "Your password is shown.")
	wantJS(b, `document.querySelector("#password").value`, "as you can see")
}

func testWithoutScripts(t *testing.T, s *devStage) {
	b, ada := s.tab(t), demoPeople[0]
	b.withoutScripts()
	b.open(s.acme + "/")
	b.press("a.btn.dark").want(200, s.provider+"/login", "Sign in to continue to Acme")
	wantJS(b, `document.querySelector(".reveal button") === null`, true)
	b.signIn(ada.Email, "not her password").want(422, s.provider+"/login", "Check your email and password and try again.")
	wantJS(b, `document.querySelector("#email").value`, ada.Email)
	b.leave(chromedp.SendKeys(passwordField, ada.Password), chromedp.Click(submitButton)).want(200, s.acme+"/", "Hello, Ada Lovelace")
	b.open(s.globex+"/sign-in").want(200, s.globex+"/", "Hello, Ada Lovelace")
	b.open(s.acme + "/")
	b.press(`a[href="/sign-in?fresh=1"]`).want(200, s.provider+"/login", "Confirm it’s you", ada.Email)
	b.leave(chromedp.SendKeys(passwordField, ada.Password), chromedp.Click(submitButton)).want(200, s.acme+"/", "Hello, Ada Lovelace")

	// The account's menu opens. A link to sign out asks.
	b.open(s.provider+"/preferences/security").want(200, s.provider+"/preferences/security", "Account security", "Sign-in method: Harmony password.")
	b.do(chromedp.Click(chromedp.CSS(".menu summary")))
	b.do(chromedp.WaitVisible(chromedp.CSS(".menu form button")))
	b.open(s.provider+"/end_session").want(200, s.provider+"/end_session", "Sign out of Harmony?", ada.Name, "Acme", "Globex")
	b.press(`main a.btn`).want(200, s.provider+"/preferences/security", "Account security")
	b.open(s.provider + "/end_session")
	b.press(submitButton).want(200, s.provider+"/logout", "You’re signed out")
	b.open(s.acme+"/sign-in").want(200, s.provider+"/login", "Sign in to continue to Acme")
}

// Signing in by keyboard alone, with JavaScript and without (WEB-16).
func testKeyboard(t *testing.T, s *devStage) {
	for _, scripts := range []bool{true, false} {
		b, ada := s.tab(t), demoPeople[0]
		if !scripts {
			b.withoutScripts()
		}
		// focus checks what has the focus, and that one sees it.
		focus := func(label string) {
			t.Helper()
			wantJS(b, `((e) => e.labels?.[0]?.textContent ?? e.ariaLabel ?? e.innerText)(document.activeElement)`, label)
			wantJS(b, `((e) => e.matches(":focus-visible") && getComputedStyle(e).outlineStyle === "solid" &&
				parseFloat(getComputedStyle(e).outlineWidth) >= 2)(document.activeElement)`, true)
		}
		b.open(s.acme + "/")
		b.do(chromedp.KeyEvent(kb.Tab))
		focus("Sign in with Harmony")
		b.leave(chromedp.KeyEvent(kb.Enter)).want(200, s.provider+"/login")
		b.do(chromedp.WaitReady(chromedp.CSS("#email:focus")))
		focus("Email")
		b.do(chromedp.KeyEvent(ada.Email + kb.Tab))
		focus("Password")
		b.do(chromedp.KeyEvent(ada.Password + kb.Tab))
		if scripts {
			focus("Show password")
			b.do(chromedp.KeyEvent(" "))
			wantJS(b, `document.querySelector("#password").type`, "text")
			b.do(chromedp.KeyEvent(" " + kb.Tab))
		}
		focus("Sign in")
		b.leave(chromedp.KeyEvent(kb.Enter)).want(200, s.acme+"/", "Hello, Ada Lovelace")

		b.open(s.provider + "/preferences/security")
		b.do(chromedp.KeyEvent(kb.Tab))
		wantJS(b, `document.activeElement.tagName`, "SUMMARY")
		b.do(chromedp.KeyEvent(kb.Enter))
		wantJS(b, `document.querySelector(".menu").open`, true)
		if scripts {
			b.do(chromedp.KeyEvent(kb.Tab + kb.Escape))
			wantJS(b, `document.querySelector(".menu").open`, false)
			wantJS(b, `document.activeElement.tagName`, "SUMMARY")
			b.do(chromedp.KeyEvent(kb.Enter))
		}
		b.do(chromedp.KeyEvent(kb.Tab))
		focus("User preferences")
		b.do(chromedp.KeyEvent(kb.Tab))
		focus("Sign out")
		b.leave(chromedp.KeyEvent(kb.Enter)).want(200, s.provider+"/logout", "You’re signed out")
	}
}

// An elsewhere is a site that is not the provider's. It has two names: under one
// it is another origin of the provider's own site, under the other another site.
type elsewhere struct {
	sameSite, otherSite string

	mu    sync.Mutex
	pages map[string]string
}

func startElsewhere(t *testing.T) *elsewhere {
	e := &elsewhere{pages: map[string]string{"/": `<h1>Elsewhere</h1>`, "/callback": `<h1 id="back">Back at the workspace</h1>`}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		body, ok := e.pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>Elsewhere</title>`+body)
	}))
	t.Cleanup(server.Close)
	e.sameSite = server.URL
	e.otherSite = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return e
}

func (e *elsewhere) page(path, body string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pages[path] = body
}

// post makes a page that sends a form by itself.
func (e *elsewhere) post(path, action string, fields url.Values) {
	var b strings.Builder
	fmt.Fprintf(&b, `<form method="post" action="%s">`, html.EscapeString(action))
	for name, values := range fields {
		fmt.Fprintf(&b, `<input type="hidden" name="%s" value="%s">`, html.EscapeString(name), html.EscapeString(values[0]))
	}
	b.WriteString(`</form><script>addEventListener("load", () => document.forms[0].submit())</script>`)
	e.page(path, b.String())
}

// A serveStage is what the stories about serve play on.
type serveStage struct {
	*running
	chromium   context.Context
	at         string
	first, two *oauth2.Config // two workspaces elsewhere
	elsewhere  *elsewhere
}

func (s *serveStage) tab(t *testing.T) *tab { return newTab(t, s.chromium, s.at) }

// TestBrowserServe is what other sites can do to people at a provider, and what
// workspaces on other sites may.
func TestBrowserServe(t *testing.T) {
	t.Parallel()
	s := &serveStage{chromium: startChromium(t), elsewhere: startElsewhere(t)}
	sh, at := serveShell(t, dbtest.URL(t, "postgres"))
	s.at = at
	sh.run(adaPassword, "user", "create", "--email", adaEmail, "--name", "Ada Lovelace", "--password-stdin").want(0)
	register := func(name, at string) *oauth2.Config {
		made := sh.run("", "client", "create", "--name", name, "--redirect-uri", at+"/callback", "-o", "json").want(0)
		var p party
		if err := json.Unmarshal([]byte(made.stdout), &p); err != nil {
			t.Fatal(err)
		}
		return &oauth2.Config{
			ClientID: p.ID, ClientSecret: p.Secret, RedirectURL: at + "/callback", Scopes: []string{"openid"},
			Endpoint: oauth2.Endpoint{AuthURL: s.at + "/authorize", TokenURL: s.at + "/oauth/token", AuthStyle: oauth2.AuthStyleInHeader},
		}
	}
	s.first, s.two = register("First", s.elsewhere.otherSite), register("Second", s.elsewhere.sameSite)
	s.running = sh.start("serve")
	for _, story := range []struct {
		name string
		tell func(*testing.T, *serveStage)
	}{
		{"PostAuthorize", testPostAuthorize},
		{"LinkAuthorize", testLinkAuthorize},
		{"LoginCSRF", testLoginCSRF},
		{"Framing", testFraming},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, s) })
	}
	if code := s.end(); code != 0 || t.Failed() {
		t.Errorf("exit code %d\n%s", code, &s.stderr)
	}
}

// redeem waits until the tab is back at the workspace and redeems the code
// that it brought.
func (b *tab) redeem(w *oauth2.Config, verifier string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS("#back")))
	at := must(url.Parse(run1(b, chromedp.Location())))(b.t)
	if !strings.HasPrefix(at.String(), w.RedirectURL+"?") || at.Query().Get("state") != "s" {
		b.t.Fatalf("came back to %s", at)
	}
	token, err := w.Exchange(b.t.Context(), at.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil || token.Extra("id_token") == nil {
		b.t.Fatalf("redeeming the code: %v", err)
	}
}

// A workspace on another site posts its request (AZ-22): that signs in through
// our policy for forms (B1), and again without a question, although the browser
// sends no cookie of ours along with such a post (B2).
func testPostAuthorize(t *testing.T, s *serveStage) {
	b := s.tab(t)
	verifier := oauth2.GenerateVerifier()
	request := must(url.Parse(s.first.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier))))(t)
	s.elsewhere.post("/post", s.at+"/authorize", request.Query())

	b.do(chromedp.Navigate(s.elsewhere.otherSite+"/post"), chromedp.WaitVisible(emailField))
	b.wantText("Sign in to continue to First")
	b.signIn(adaEmail, adaPassword).want(200, s.first.RedirectURL)
	b.redeem(s.first, verifier)

	// prompt=none tells what the request alone, without a page of ours, can see.
	for _, prompt := range []string{"", "none"} {
		q := request.Query()
		if prompt != "" {
			q.Set("prompt", prompt)
		}
		s.elsewhere.post("/post", s.at+"/authorize", q)
		b.do(chromedp.Navigate(s.elsewhere.otherSite + "/post"))
		b.redeem(s.first, verifier)
	}
}

// A second workspace, on another site, asks nothing either by link (AZ-23, B3).
func testLinkAuthorize(t *testing.T, s *serveStage) {
	b := s.tab(t)
	verifier := oauth2.GenerateVerifier()
	for path, w := range map[string]*oauth2.Config{"/first": s.first, "/second": s.two} {
		s.elsewhere.page(path, `<a href="`+html.EscapeString(w.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)))+`">Sign in</a>`)
	}
	b.open(s.elsewhere.sameSite + "/second")
	b.press("a").want(200, s.at+"/login", "Sign in to continue to Second")
	b.signIn(adaEmail, adaPassword).want(200, s.two.RedirectURL)
	b.redeem(s.two, verifier)
	b.open(s.elsewhere.otherSite + "/first")
	b.press("a").want(200, s.first.RedirectURL)
	b.redeem(s.first, verifier)
}

// Nobody is signed in by another origin's form (LOGIN-07).
func testLoginCSRF(t *testing.T, s *serveStage) {
	s.elsewhere.post("/login", s.at+"/login", url.Values{"email": {adaEmail}, "password": {adaPassword}})
	for _, from := range []string{s.elsewhere.otherSite, s.elsewhere.sameSite} {
		b := s.tab(t)
		b.do(chromedp.Navigate(from+"/login"), chromedp.WaitVisible(chromedp.CSS("body.door")))
		b.wantText("Error: ", "We couldn’t be sure that was you")
		wantJS(b, `performance.getEntriesByType("navigation")[0].responseStatus`, 403)
		cookies, err := chromedp.Call(b.ctx, cdpnet.GetCookies, cdpnet.GetCookiesParams{URLs: []string{s.at + "/"}})
		if err != nil || len(cookies.Cookies) != 0 {
			t.Errorf("from %s: %v, cookies %v", from, err, cookies.Cookies)
		}
		b.open(s.at+"/preferences/security").want(200, s.at+"/login")
	}
}

// No page of ours is shown in another's frame (WEB-02).
func testFraming(t *testing.T, s *serveStage) {
	pages := []string{
		"/login", "/preferences/security", "/logout", "/end_session", "/authorize?client_id=nobody", "/nowhere",
		strings.TrimPrefix(s.first.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()), oauth2.SetAuthURLParam("prompt", "login")), s.at),
	}
	frame := func(b *tab, from, address string) (blocked []string) {
		t.Helper()
		s.elsewhere.page("/frame", `<iframe src="`+html.EscapeString(address)+`"></iframe>`)
		b.open(from+"/frame").want(200, from+"/frame")
		b.mu.Lock()
		defer b.mu.Unlock()
		blocked, b.blocked = b.blocked, nil
		return blocked
	}
	for _, signedIn := range []bool{false, true} {
		for _, from := range []string{s.elsewhere.otherSite, s.elsewhere.sameSite} {
			b := s.tab(t)
			if signedIn {
				b.open(s.at + "/login")
				b.signIn(adaEmail, adaPassword).want(200, s.at+"/preferences/security")
			}
			if blocked := frame(b, from, from+"/"); len(blocked) != 0 {
				t.Fatalf("a page that may be framed: %v blocked", blocked)
			}
			for _, page := range pages {
				if blocked := frame(b, from, s.at+page); len(blocked) != 1 || !strings.HasPrefix(blocked[0], s.at+"/") {
					t.Errorf("%s in a frame at %s (signed in: %v): blocked %v", page, from, signedIn, blocked)
				}
				b.taken() // the browser says why
			}
		}
	}
}
