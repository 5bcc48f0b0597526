package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	cdpnet "github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
)

// chromium is a running Chromium.
type chromium struct {
	ctx  context.Context
	ends []context.CancelFunc
}

// patience is how long a tab waits for a page.
const patience = 20 * time.Second

// startChromium starts a Chromium that trusts these certificates.
func startChromium(path string, roots []*x509.Certificate) (*chromium, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.Flag("headless", "new"), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("host-resolver-rules", "MAP localhost 127.0.0.1"))
	if path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	var hashes []string
	for _, c := range roots {
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		hashes = append(hashes, base64.StdEncoding.EncodeToString(sum[:]))
	}
	if hashes != nil {
		options = append(options, chromedp.Flag("ignore-certificate-errors-spki-list", strings.Join(hashes, ",")))
	}
	b := &chromium{}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	b.ends = append(b.ends, cancel)
	b.ctx, cancel = chromedp.NewContext(ctx)
	b.ends = append(b.ends, cancel)
	if err := chromedp.Do(b.ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *chromium) close() {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_ = chromedp.Cancel(ctx) // there is nothing to do about one that does not end
	for i := range b.ends {
		b.ends[len(b.ends)-1-i]()
	}
}

// A tab is a private window of Chromium.
type tab struct {
	r      *runner
	ctx    context.Context
	cancel context.CancelFunc

	mu   sync.Mutex
	last arrival // the last document
}

func (b *chromium) open(r *runner) (*tab, error) {
	t := &tab{r: r}
	t.ctx, t.cancel = chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	err := chromedp.Listen(t.ctx, func(event any) {
		if e, ok := event.(*cdpnet.EventResponseReceived); ok && e.Type == cdpnet.ResourceTypeDocument {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.last = arrival{at: e.Response.URL, status: int(e.Response.Status), kind: e.Response.MimeType}
		}
	})
	if err == nil {
		err = chromedp.Do(t.ctx)
	}
	return t, err
}

func (t *tab) close() { t.cancel() }

// look reads the page that the tab shows.
func (t *tab) look(ctx context.Context) (at *url.URL, body string, err error) {
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[[2]string]("[location.href, document.documentElement ? document.documentElement.outerHTML : \"\"]"))
	if err != nil {
		return nil, "", err
	}
	at, err = url.Parse(seen[0])
	return at, seen[1], err
}

func (t *tab) visit(ctx context.Context, v visit) (*arrival, error) {
	in, end := context.WithTimeout(t.ctx, 3*patience)
	defer end()
	defer context.AfterFunc(ctx, end)()
	switch {
	case v.post != nil:
		t.r.listen.posting(v.url, v.post)
		v.url = t.r.cfg.Callback + pathStart
		fallthrough
	case v.url != "":
		if _, err := chromedp.RunResponse(in, chromedp.Navigate(v.url)); err != nil {
			return nil, err
		}
	}
	signedIn, said := 0, 0
	for range maxSteps {
		at, body, err := t.look(in)
		if err != nil {
			return nil, err
		}
		m, f, button := t.r.next(at, body)
		ours := strings.HasPrefix(at.String(), t.r.cfg.Callback+"/")
		if m == moveSubmit || ours && at.Path == mustPath(t.r.cfg.Callback+pathStart) {
			if err := t.moved(in, at.String()); err != nil {
				return nil, err
			}
			continue
		}
		if ours || m == moveNone || v.silent {
			return t.rest(in, body, arrival{signedIn: signedIn, said: said, waits: m == moveYes})
		}
		if m == moveSignIn {
			if signedIn++; signedIn > 3 {
				return nil, fmt.Errorf("the sign-in form comes back: %s", readable(body))
			}
		} else {
			said++
		}
		if _, err := chromedp.RunResponse(in, fill(f, button)); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no end after %d pages", maxSteps)
}

// fill fills a form in and presses its button, as a person would.
func fill(f *form, button int) chromedp.Action[chromedp.Void] {
	values := map[string]string{}
	for _, d := range f.fields {
		if d.name != "" && (d.kind == "password" || isName(d)) {
			values[d.name] = d.value
		}
	}
	text, _ := json.Marshal(values) // strings alone
	script := fmt.Sprintf(`(() => {
		const f = document.forms[%d];
		for (const [name, value] of Object.entries(%s)) f.elements[name].value = value;
		const b = [...f.querySelectorAll('input[type=submit]'), ...f.querySelectorAll('button')].filter(b => b.type === 'submit')[%d];
		setTimeout(() => b ? b.click() : f.requestSubmit(), 0);
	})()`, f.index, text, button)
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[any](script))
		return err
	})
}

// moved waits until a page has led to another by itself.
func (t *tab) moved(ctx context.Context, from string) error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if at, _, err := t.look(ctx); err == nil && at.String() != from && at.Scheme != "about" {
			return nil // a page that goes away gives errors
		}
	}
	return fmt.Errorf("%w: %s", errNotSubmitted, from)
}

// rest makes the arrival of where the tab is.
func (t *tab) rest(ctx context.Context, body string, a arrival) (*arrival, error) {
	t.mu.Lock()
	a.at, a.status, a.kind = t.last.at, t.last.status, t.last.kind
	t.mu.Unlock()
	a.page = readable(body)
	cookies, err := chromedp.Call(ctx, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil {
		return nil, err
	}
	for _, c := range cookies.Cookies {
		a.setting = append(a.setting, &http.Cookie{Name: c.Name, Value: c.Value, Secure: c.Secure, HttpOnly: c.HTTPOnly})
	}
	return &a, nil
}

func mustPath(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Path
}
