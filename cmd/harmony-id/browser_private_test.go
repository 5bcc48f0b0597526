package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdpnet "github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
)

// What a browser has to fetch, and what it tells others and keeps.

// A scale weighs what a tab fetches.
type scale struct {
	mu    sync.Mutex
	open  int
	heads map[cdpnet.RequestID]float64 // bytes of a response before its content
	bytes float64                      // of all content
}

// weigh puts the tab, with nothing in its cache, on a scale.
func (b *tab) weigh() *scale {
	b.t.Helper()
	w := &scale{heads: map[cdpnet.RequestID]float64{}}
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cdpnet.SetCacheDisabled, cdpnet.SetCacheDisabledParams{CacheDisabled: true})
		return err
	}))
	err := chromedp.Listen(b.ctx, func(event any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch e := event.(type) {
		case *cdpnet.EventRequestWillBeSent:
			if e.RedirectResponse == nil {
				w.open++
			}
		case *cdpnet.EventResponseReceived:
			if strings.HasPrefix(e.Response.URL, "http") { // the QR code is in the page
				w.heads[e.RequestID] = e.Response.EncodedDataLength
			}
		case *cdpnet.EventLoadingFinished:
			w.open--
			if head, ok := w.heads[e.RequestID]; ok {
				w.bytes += e.EncodedDataLength - head
			}
		case *cdpnet.EventLoadingFailed:
			w.open--
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return w
}

// shows is the weight of all that came since it was asked for last, once nothing
// more comes.
func (w *scale) shows(t *testing.T) int {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		w.mu.Lock()
		if w.open == 0 && w.bytes > 0 {
			defer w.mu.Unlock()
			n := int(w.bytes)
			w.bytes = 0
			return n
		}
		w.mu.Unlock()
	}
	t.Fatal("the page goes on loading")
	return 0
}

// Pages are light: sign-in weighs 30 kB at most with all that belongs to it, the
// set-up with its QR code 60 kB.
func testWeight(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Margaret Hamilton")
	w := b.weigh()
	b.open(s.acme+"/sign-in").want(200, s.provider+"/login", "Sign in to continue to Acme")
	if n := w.shows(t); n < 5_000 || n > 30_000 {
		t.Errorf("sign-in weighs %d bytes", n)
	} else {
		fmt.Println("sign-in", n)
	}
	s.security(b, p)
	b.choose("Enable 2FA")
	w.shows(t)
	b.choose("Enable 2FA").want(200, s.provider, "Set Up Two-Factor Authentication")
	if n := w.shows(t); n < 5_000 || n > 60_000 {
		t.Errorf("the set-up weighs %d bytes", n)
	} else {
		fmt.Println("set-up", n)
	}
}

// A helpSite is where the support of a provider has its pages: another site, which
// notes what browsers say of where they come from.
type helpSite struct {
	*httptest.Server
	mu       sync.Mutex
	referers []string
}

func startHelpSite(t *testing.T) *helpSite {
	h := &helpSite{}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.referers = append(h.referers, r.Referer())
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>Help</title><h1>Help</h1>`)
	}))
	t.Cleanup(h.Close)
	return h
}

// heard are the Referers so far. They are not told again.
func (h *helpSite) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	heard := h.referers
	h.referers = nil
	return heard
}

// trustsAnyone has the tab take every certificate.
func (b *tab) trustsAnyone() {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
		return err
	}))
}

// The token of a reset link goes to the provider, once, and from then on is in no
// address, no history and no Referer, not even when the page leads to another site
// (RST-11).
func testResetTokenStays(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Stephanie Shirley")
	b.trustsAnyone()
	var mu sync.Mutex
	var referers []string
	if err := chromedp.Listen(b.ctx, func(event any) {
		if e, ok := event.(*cdpnet.EventRequestWillBeSentExtraInfo); ok {
			mu.Lock()
			defer mu.Unlock()
			referers = append(referers, fmt.Sprint(e.Headers["Referer"]))
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.open(s.provider + "/login/forgot")
	b.fill("Email", p.email)
	b.choose("Send reset link")
	s.mail(b, p, "Reset your Harmony password")
	token := js[string](b, `new URL(document.querySelector("article .letter a").href).searchParams.get("token")`)
	if len(token) < 20 {
		t.Fatalf("the link has the token %q", token)
	}
	a := b.openLink().want(200, s.provider+"/login/reset")
	if a.at != s.provider+"/login/reset" || fmt.Sprint(a.header["Cache-Control"]) != "no-store" {
		t.Errorf("came to %s, Cache-Control %s", a.at, a.header["Cache-Control"])
	}
	b.choose("Help").want(200, s.help.URL+"/help", "Help")
	b.open(s.provider+"/login/reset").want(200, s.provider+"/login/reset", "For "+p.email)

	if heard := s.help.heard(); !slices.Equal(heard, []string{""}) {
		t.Errorf("the other site heard %q", heard)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(referers) < 8 || strings.Contains(strings.Join(referers, " "), token) {
		t.Errorf("Referers: %q", referers)
	}
	for _, e := range run1(b, chromedp.NavigationEntries()).Entries {
		if strings.Contains(e.URL, token) {
			t.Errorf("the history has %s", e.URL)
		}
	}
}

// Who comes to a browser after somebody signed out finds nothing of theirs by
// going back (ACC-09).
func testBackAfterSignOut(t *testing.T, s *devStage) {
	b, p := s.tab(t), s.resident(t, "Karen Jones")
	s.security(b, p)
	b.choose("Sessions")
	b.choose("Activity")
	b.click(p.name + " " + p.email)
	b.choose("Sign out").want(200, s.provider+"/logout", "You’re signed out")
	for range 3 {
		b.leave(chromedp.NavigateBack()).want(200, s.provider+"/login")
		if said := js[string](b, "document.documentElement.outerHTML"); strings.Contains(said, p.email) || strings.Contains(said, p.name) {
			t.Errorf("going back shows %s", said)
		}
	}
}
