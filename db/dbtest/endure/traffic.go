package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A tally counts answers. A cut is a request that got none: the connection broke, or
// the proxy says so.
type tally struct {
	requests, served, away, cut int
}

func (a tally) minus(b tally) tally {
	return tally{a.requests - b.requests, a.served - b.served, a.away - b.away, a.cut - b.cut}
}

func (a tally) String() string {
	return fmt.Sprintf("%d requests, %d times 503, %d cut", a.requests, a.away, a.cut)
}

// A record is what happened, and what should not have.
type record struct {
	mu     sync.Mutex
	tally  tally
	wrongs []string
	acts   map[string]int
}

// wrong notes what should not have happened.
func (r *record) wrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrongs = append(r.wrongs, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// did counts an act that was confirmed, or a refusal that was right.
func (r *record) did(act string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.acts == nil {
		r.acts = map[string]int{}
	}
	r.acts[act]++
}

func (r *record) sum() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tally
}

// An answer is what came of a request.
type answer struct {
	status int // 0: none came, or only the proxy's word that none came
	header http.Header
	body   string
	what   string // of the request, for messages
}

// unknown reports whether nobody can tell if what was asked for was done.
func (a answer) unknown() bool { return a.status == 0 || a.status == http.StatusServiceUnavailable }

// to is where the answer leads, as a path here or an address elsewhere.
func (a answer) to(issuer string) string {
	return strings.TrimPrefix(a.header.Get("Location"), issuer)
}

func (a answer) String() string {
	return fmt.Sprintf("%s: %d %s %.300q", a.what, a.status, a.header.Get("Location"), a.body)
}

// A road is a way to the provider: through the proxy, or straight to a replica, as the
// proxy would send it there.
type road struct {
	record *record // nil: a replica that is down there is no matter
	http.RoundTripper
}

// roads are the way through the proxy, and those straight to the replicas, of a client
// at an address of its own.
func roads(f *fleet, rec *record, client int) (front road, straight []road) {
	from := fmt.Sprintf("127.0.1.%d", client+1)
	front = road{rec, &http.Transport{
		DialContext:     (&net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: f.roots}, ForceAttemptHTTP2: client%2 == 0, MaxIdleConnsPerHost: 4,
	}}
	for _, r := range f.replicas {
		straight = append(straight, road{nil, &direct{r.address, from, &http.Transport{MaxIdleConnsPerHost: 2}}})
	}
	return front, straight
}

// direct sends to one replica what is addressed to the issuer.
type direct struct {
	address, from string
	*http.Transport
}

func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.Host = r.URL.Host
	out.URL.Scheme, out.URL.Host = "http", d.address
	out.Header.Set("X-Forwarded-For", d.from)
	resp, err := d.Transport.RoundTrip(out)
	if err == nil {
		resp.Request = r
	}
	return resp, err
}

// A browser has cookies.
type browser struct {
	issuer string
	record *record
	jar    http.CookieJar
}

func newBrowser(issuer string, rec *record) *browser {
	jar, _ := cookiejar.New(nil) // it never fails
	return &browser{issuer, rec, jar}
}

// copied is a browser with the same cookies, whose changes the other does not see.
func (b *browser) copied() *browser {
	c := newBrowser(b.issuer, b.record)
	u, err := url.Parse(b.issuer)
	if err != nil {
		panic(err)
	}
	var all []*http.Cookie
	for _, one := range b.jar.Cookies(u) {
		all = append(all, &http.Cookie{Name: one.Name, Value: one.Value, Path: "/", Secure: true})
	}
	c.jar.SetCookies(u, all)
	return c
}

const requestTime = 40 * time.Second

// send sends one request and follows nothing. form nil is a GET.
func (b *browser) send(via road, path string, form url.Values, header ...string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	what := method + " " + strings.SplitN(path, "?", 2)[0]
	r, err := http.NewRequestWithContext(ctx, method, b.issuer+path, body)
	if err != nil {
		b.record.wrong("%s: %v", what, err)
		return answer{what: what}
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Endure/1.0")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.issuer)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: via, Jar: b.jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a := answer{what: what}
	resp, err := client.Do(r)
	if err == nil {
		var text []byte
		if text, err = io.ReadAll(resp.Body); err == nil {
			a.status, a.header, a.body = resp.StatusCode, resp.Header, string(text)
		}
		resp.Body.Close()
	}
	b.judge(via, &a)
	return a
}

// judge counts an answer and looks at what every answer has to be like.
func (b *browser) judge(via road, a *answer) {
	ours := a.header.Get("X-Request-Id") != ""
	if (a.status == http.StatusBadGateway || a.status == http.StatusGatewayTimeout) && !ours {
		a.status = 0
	}
	switch {
	case a.status == http.StatusServiceUnavailable:
		if a.header.Get("Retry-After") == "" {
			b.record.wrong("a 503 that does not say when to come again: %s", a)
		}
	case a.status >= 500:
		b.record.wrong("%s", a)
	case a.status == http.StatusTooManyRequests:
		b.record.wrong("this load should meet no limit: %s", a)
	}
	if via.record == nil {
		return
	}
	via.record.mu.Lock()
	defer via.record.mu.Unlock()
	via.record.tally.requests++
	switch a.status {
	case 0:
		via.record.tally.cut++
	case http.StatusServiceUnavailable:
		via.record.tally.away++
	default:
		via.record.tally.served++
	}
}

// again sends what may be sent twice, until it is answered. The zero answer means that
// it never was.
func (b *browser) again(via road, path string, form url.Values, header ...string) answer {
	var a answer
	for end := time.Now().Add(requestTime); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if a = b.send(via, path, form, header...); !a.unknown() {
			return a
		}
	}
	b.record.wrong("it does not come back: %s", a)
	return answer{what: a.what}
}

// A watch looks how long nobody is served: it asks again and again for what reads or
// writes one thing.
type watch struct {
	mu   sync.Mutex
	good []time.Time // when it was served
}

// run asks until ctx ends.
func (w *watch) run(ctx context.Context, every time.Duration, ask func() bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ask() {
				w.mu.Lock()
				w.good = append(w.good, time.Now())
				w.mu.Unlock()
			}
		}
	}
}

// longest is the longest time since from in which nobody was served.
func (w *watch) longest(from time.Time) (gap time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, _ := slices.BinarySearchFunc(w.good, from, time.Time.Compare)
	last := from
	for _, at := range w.good[i:] {
		gap, last = max(gap, at.Sub(last)), at
	}
	return max(gap, time.Since(last))
}
