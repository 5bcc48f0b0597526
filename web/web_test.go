package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/templates"
)

// A house is a site with a few rooms, and its log.
type house struct {
	http.Handler
	log   bytes.Buffer
	calls int // of a handler behind the guards
}

func newHouse(t *testing.T, edit func(*Config)) *house {
	t.Helper()
	issuer, err := url.Parse("https://id.example.com")
	if err != nil {
		t.Fatal(err)
	}
	h := new(house)
	cfg := Config{
		Issuer:             issuer,
		Log:                slog.New(slog.NewJSONHandler(&h.log, nil)),
		Home:               "/preferences/security",
		CrossOriginAllowed: func(r *http.Request) bool { return r.URL.Path == "/oauth/token" },
		JSON:               func(path string) bool { return path == "/oauth/token" || path == "/jwks" },
	}
	if edit != nil {
		edit(&cfg)
	}
	mux := http.NewServeMux()
	ok := HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		h.calls++
		_, err := fmt.Fprintf(w, "%s %s %s", r.Host, Address(r), r.PostFormValue("email"))
		return err
	})
	for _, path := range []string{"/{$}", "/login", "/oauth/token", "/jwks", "/preferences/{tab}"} {
		mux.Handle(path, ok)
	}
	mux.Handle("/page", HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return Show(w, r, http.StatusOK, templates.SignIn{})
	}))
	mux.Handle("/leaving", HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return Show(w, r, http.StatusOK, templates.SignIn{AnyOrigin: true})
	}))
	mux.Handle("/broken-page", HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return Show(w, r, http.StatusOK, templates.SignIn{Error: "unheard-of"})
	}))
	mux.Handle("/broken-error", HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return &Error{Status: http.StatusBadRequest, Title: "demo.page"} // which lacks its workspace
	}))
	mux.Handle("/fails", HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("reading users: %w", errors.New("SELECT secret FROM users: disk on fire"))
	}))
	mux.Handle("/panics", HandlerFunc(func(http.ResponseWriter, *http.Request) error { panic("SELECT secret") }))
	mux.Handle("/half", HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "half an ans")
		return errors.New("lost the rest")
	}))
	mux.Handle("/refuses", HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return &Error{Status: http.StatusTooManyRequests, Title: "Slow down", Message: "link_broken.text", Err: errors.New("for the log"), RetryAfter: 1500 * time.Millisecond, Action: "Go on", ActionURL: "/on"}
	}))
	mux.Handle("/post-only", MethodNotAllowed)
	mux.Handle("/redirects", http.RedirectHandler("/login", http.StatusSeeOther))
	mux.Handle("/static/", Static())
	mux.Handle("/", NotFound)
	h.Handler = Wrap(cfg, mux)
	return h
}

// do sends a request as a browser on our own page would; edit makes it another.
func (h *house) do(method, target, body string, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if strings.HasPrefix(target, "/") {
		r.Host = "id.example.com"
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://id.example.com")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func (h *house) lines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(h.log.String()) {
		m := make(map[string]any)
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

func want(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Errorf("got %d, want %d: %s", w.Code, status, w.Body)
	}
}

// WEB-01: every answer carries the headers, whatever its status and its kind.
func TestHeadersOnEveryAnswer(t *testing.T) {
	h := newHouse(t, nil)
	for _, c := range []struct {
		method, target string
		status         int
		document       bool
	}{
		{"GET", "/page", 200, true},
		{"GET", "/leaving", 200, true},
		{"GET", "/login", 200, false},
		{"GET", "/jwks", 200, false},
		{"GET", "/redirects", 303, false},
		{"GET", templates.StaticURL("app.css"), 200, false},
		{"GET", "/page?%ff", 400, true},
		{"GET", "/nowhere", 404, true},
		{"PUT", "/page", 405, true},
		{"PUT", "/jwks", 405, false},
		{"GET", "http://evil.example/page", 421, true},
		{"GET", "/refuses", 429, true},
		{"GET", "/fails", 500, true},
		{"GET", "/panics", 500, true},
	} {
		w := h.do(c.method, c.target, "", nil)
		want(t, w, c.status)
		header := w.Header()
		for name, value := range map[string]string{
			"Strict-Transport-Security": "max-age=63072000; includeSubDomains",
			"X-Content-Type-Options":    "nosniff",
			"Referrer-Policy":           "same-origin",
		} {
			if got := header.Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", c.target, name, got, value)
			}
		}
		policy := header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "object-src 'none'", "base-uri 'none'"} { // WEB-02
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy has no %s", c.target, part)
			}
		}
		if c.document && (header.Get("Cross-Origin-Opener-Policy") != "same-origin" || header.Get("Permissions-Policy") == "") {
			t.Errorf("%s: a document with %v", c.target, header)
		}
		if header.Get("Server") != "" || header.Get("X-Powered-By") != "" {
			t.Errorf("%s: a banner", c.target)
		}
	}
}

func TestNoHSTSWithoutHTTPS(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Issuer = &url.URL{Scheme: "http", Host: "localhost:8080"} })
	w := h.do("GET", "http://localhost:8080/page", "", nil)
	want(t, w, 200)
	if w.Header()["Strict-Transport-Security"] != nil {
		t.Error("HSTS on plain HTTP")
	}
}

// B1: a form that ends at a workspace must not be held back by form-action,
// and no other form may leave.
func TestFormAction(t *testing.T) {
	h := newHouse(t, nil)
	for target, has := range map[string]bool{"/page": true, "/nowhere": true, "/leaving": false} {
		policy := h.do("GET", target, "", nil).Header().Get("Content-Security-Policy")
		if strings.Contains(policy, "; form-action 'self'") != has || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %s", target, policy)
		}
	}
}

// WEB-08: the Host is the issuer's or nothing is answered, and no other
// spelling of it gets further than the guard.
func TestHost(t *testing.T) {
	h := newHouse(t, nil)
	for _, host := range []string{"id.example.com", "ID.Example.COM", "id.example.com.", "id.example.com:443", "ID.example.com.:443"} {
		w := h.do("GET", "/login", "", func(r *http.Request) { r.Host = host })
		want(t, w, 200)
		if !strings.HasPrefix(w.Body.String(), "id.example.com ") {
			t.Errorf("the handler sees %q for %q", w.Body, host)
		}
	}
	for _, host := range []string{"", "evil.example", "id.example.com:80", "id.example.com:8443", "id.example.com..", "xid.example.com", "id.example.com@evil.example", "127.0.0.1", "id.example.com:443:443"} {
		w := h.do("GET", "/login", "", func(r *http.Request) {
			r.Host = host
			r.Header.Set("X-Forwarded-Host", "id.example.com")
		})
		want(t, w, http.StatusMisdirectedRequest)
		if strings.Contains(w.Body.String(), "evil") || !strings.Contains(w.Body.String(), "https://id.example.com/preferences/security") {
			t.Errorf("%q: %s", host, w.Body)
		}
	}
	ported := newHouse(t, func(c *Config) { c.Issuer = &url.URL{Scheme: "https", Host: "ID.example.com:8443"} })
	want(t, ported.do("GET", "https://id.example.com.:8443/login", "", nil), 200)
	want(t, ported.do("GET", "https://id.example.com/login", "", nil), http.StatusMisdirectedRequest)
	local := newHouse(t, func(c *Config) { c.Issuer = &url.URL{Scheme: "http", Host: "[::1]:8080"} })
	want(t, local.do("GET", "http://[::1]:8080/login", "", nil), 200)
	want(t, local.do("GET", "http://[::1]/login", "", nil), http.StatusMisdirectedRequest)
}

// WEB-07: no method but ours has any effect anywhere.
func TestMethods(t *testing.T) {
	h := newHouse(t, nil)
	for _, method := range []string{"TRACE", "PUT", "DELETE", "PATCH", "CONNECT", "FOO", "OPTIONS", "get"} {
		for _, target := range []string{"/login", "/preferences/security"} {
			w := h.do("GET", target, "", func(r *http.Request) { r.Method = method })
			want(t, w, http.StatusMethodNotAllowed)
			if w.Header().Get("Allow") != "GET, HEAD, POST" {
				t.Errorf("Allow is %q", w.Header().Get("Allow"))
			}
		}
	}
	if h.calls != 0 {
		t.Errorf("%d got through", h.calls)
	}
	want(t, h.do("HEAD", "/login", "", nil), 200)
	want(t, h.do("OPTIONS", "/jwks", "", nil), 200)
	want(t, h.do("OPTIONS", "/oauth/token", "", nil), 200)
	if w := h.do("GET", "/post-only", "", nil); w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("%d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

// WEB-06: nothing is readable by other origins unless its handler says so.
func TestNoCORS(t *testing.T) {
	h := newHouse(t, nil)
	for _, target := range []string{"/login", "/page", "/jwks", "/oauth/token", "/nowhere", templates.StaticURL("app.js")} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			w := h.do(method, target, "", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })
			for name := range w.Header() {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s: %s", method, target, name)
				}
			}
		}
	}
}

// WEB-12: a path is written one way, so that no check is passed by writing it
// another.
func TestPaths(t *testing.T) {
	h := newHouse(t, nil)
	for _, target := range []string{
		"//login", "/%6cogin", "/login%2f", "/login%00", "/login;/", "/login;x=1", "/x/../login", "/./login", "/login/.", "/login/..",
		"/x//login", "/login//", `/\login`, "/login%20", "/login%0a", "/lo%67in", "/LOGIN", "/login/", "/ℓogin", "/login%3f", "/preferences/%2e%2e/login", "/login*", "/login!", "/static/..%2f..%2fetc/passwd",
	} {
		r := httptest.NewRequest("GET", "https://id.example.com/", nil)
		u, err := url.ParseRequestURI(strings.ReplaceAll(target, "ℓ", "%E2%84%93"))
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d", target, w.Code)
		}
	}
	if h.calls != 0 {
		t.Errorf("%d got through", h.calls)
	}
	for _, target := range []string{"/", "/login", "/preferences/security", "/preferences/a-b.c_d~9"} {
		want(t, h.do("GET", target, "", nil), 200)
	}
}

// LOGIN-15, DOS-05 and I14: a request says one thing, in text, or is refused.
func TestQueriesAndForms(t *testing.T) {
	h := newHouse(t, nil)
	for _, query := range []string{"a=%00", "a=%ff", "a=%C3&b=%A9", "a=%zz", "a=%", "a=1;b=2", "a=\xff"} {
		want(t, h.do("GET", "/login", "", func(r *http.Request) { r.URL.RawQuery = query }), http.StatusBadRequest)
	}
	for _, body := range []string{
		"email=a&email=b", "email=a%00", "email=%ff", "email=\xff", "email=\x00", "email=%", "email=a;b=c", "email=%C3&b=%A9",
		strings.Repeat("a=&", 15_000), manyFields(maxFields + 1),
	} {
		want(t, h.do("POST", "/login", body, nil), http.StatusBadRequest)
	}
	if h.calls != 0 {
		t.Errorf("%d got through", h.calls)
	}
	want(t, h.do("GET", "/login?a=%C3%A9&b=x+y&state=a.b-c_d~", "", nil), 200)
	want(t, h.do("POST", "/login", manyFields(maxFields), nil), 200)
	if w := h.do("POST", "/login", "email=%C3%A9%26&b=+", nil); !strings.HasSuffix(w.Body.String(), " é&") {
		t.Errorf("the handler reads %q", w.Body)
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte('&')
		}
		fmt.Fprintf(&b, "f%d=1", i)
	}
	return b.String()
}

// LOGIN-15, WEB-14: a form is the only body there is.
func TestContentTypes(t *testing.T) {
	h := newHouse(t, nil)
	for _, kind := range []string{"application/json", "text/plain", "multipart/form-data; boundary=x", "", "application/x-www-form-urlencoded; charset=utf-16", "application/x-www-form-urlencoded; charset", "APPLICATION/xml"} {
		w := h.do("POST", "/login", `email=a`, func(r *http.Request) {
			r.Header.Del("Content-Type")
			if kind != "" {
				r.Header.Set("Content-Type", kind)
			}
		})
		want(t, w, http.StatusUnsupportedMediaType)
	}
	want(t, h.do("POST", "/login", "email=a", func(r *http.Request) { r.Header.Add("Content-Type", "application/json") }), http.StatusUnsupportedMediaType)
	want(t, h.do("POST", "/login", "email=a", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), http.StatusUnsupportedMediaType)
	if h.calls != 0 {
		t.Errorf("%d got through", h.calls)
	}
	want(t, h.do("POST", "/login", "email=a", func(r *http.Request) {
		r.Header.Set("Content-Type", "Application/X-WWW-Form-Urlencoded;charset=UTF-8")
	}), 200)
	// POST /userinfo with the token in a header has no body and no type.
	want(t, h.do("POST", "/oauth/token", "", func(r *http.Request) { r.Header.Del("Content-Type") }), 200)
}

// DOS-01: what is too large is refused without being read.
func TestBodies(t *testing.T) {
	h := newHouse(t, nil)
	full := "email=" + strings.Repeat("a", maxBody-len("email="))
	want(t, h.do("POST", "/login", full, nil), 200)
	w := h.do("POST", "/login", full+"a", nil)
	want(t, w, http.StatusRequestEntityTooLarge)
	if w.Header().Get("Connection") != "close" {
		t.Error("the connection waits for the rest")
	}
	endless := &counter{}
	for _, length := range []int64{-1, 100 << 20} {
		w := h.do("POST", "/login", "", func(r *http.Request) {
			r.Body = io.NopCloser(endless)
			r.ContentLength = length
		})
		want(t, w, http.StatusRequestEntityTooLarge)
	}
	if endless.n > 2*maxBody {
		t.Errorf("read %d bytes of an endless body", endless.n)
	}
	// Also where nobody expects a body.
	var read int64
	get := Wrap(Config{Issuer: &url.URL{Scheme: "https", Host: "id.example.com"}, Log: slog.New(slog.DiscardHandler)}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		read, _ = io.Copy(io.Discard, r.Body)
	}))
	r := httptest.NewRequest("GET", "https://id.example.com/", io.LimitReader(endless, 100<<20))
	get.ServeHTTP(httptest.NewRecorder(), r)
	if read > maxBody {
		t.Errorf("a GET brought %d bytes", read)
	}
}

type counter struct{ n int }

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'a'
	}
	c.n += len(b)
	return len(b), nil
}

// LOGIN-07, ACC-04: a form of another site, or of nobody knows where, changes
// nothing. B2: the endpoints of the protocol are exempt, and no others.
func TestCrossOriginForms(t *testing.T) {
	const own = "https://id.example.com"
	h := newHouse(t, nil)
	for _, c := range []struct {
		origin, site string
		ok           bool
	}{
		{own, "same-origin", true},
		{"", "same-origin", true},
		{own, "", true},
		{own, "none", true},
		{"null", "same-origin", true}, // a browser that hides where it comes from
		{"", "", false},
		{"null", "", false},
		{"https://evil.example", "cross-site", false},
		{"https://evil.example", "", false},
		{"https://evil.example", "same-origin", false},
		{"https://evil.example", "none", false},
		{"", "cross-site", false},
		{"null", "cross-site", false},
		{own, "cross-site", false},
		{"https://sibling.example.com", "same-site", false},
		{own, "same-site", false},
		{"https://id.example.com:8443", "", false},
		{"http://id.example.com", "", false},
		{"https://id.example.com.evil.example", "", false},
	} {
		edit := func(r *http.Request) {
			r.Header.Del("Origin")
			r.Header.Del("Sec-Fetch-Site")
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			if c.site != "" {
				r.Header.Set("Sec-Fetch-Site", c.site)
			}
		}
		status := http.StatusForbidden
		if c.ok {
			status = http.StatusOK
		}
		h.calls = 0
		if w := h.do("POST", "/login", "email=a", edit); w.Code != status || h.calls != 0 != c.ok {
			t.Errorf("Origin %q, Sec-Fetch-Site %q: got %d, %d calls", c.origin, c.site, w.Code, h.calls)
		}
		want(t, h.do("POST", "/oauth/token", "code=a", edit), 200)
		want(t, h.do("GET", "/login", "", edit), 200)
	}
}

// OP-02: an address is what the network or a listed proxy says, never what a
// stranger writes.
func TestAddress(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		peer      string
		forwarded []string
		trusted   bool
		want      string
	}{
		{"203.0.113.7:5", nil, false, "203.0.113.7"},
		{"203.0.113.7:5", []string{"1.2.3.4"}, false, "203.0.113.7"},
		{"203.0.113.7:5", []string{"1.2.3.4"}, true, "203.0.113.7"}, // not a listed proxy
		{"10.0.0.1:5", []string{"1.2.3.4"}, false, "10.0.0.1"},
		{"10.0.0.1:5", []string{"1.2.3.4"}, true, "1.2.3.4"},
		{"10.0.0.1:5", []string{"6.6.6.6, 1.2.3.4"}, true, "1.2.3.4"},           // the left is forged
		{"10.0.0.1:5", []string{"6.6.6.6", "1.2.3.4"}, true, "1.2.3.4"},         // in a line of its own
		{"10.0.0.1:5", []string{"6.6.6.6, 1.2.3.4, 10.0.0.2"}, true, "1.2.3.4"}, // two proxies
		{"10.0.0.1:5", []string{"1.2.3.4", "10.0.0.2,10.0.0.3"}, true, "1.2.3.4"},
		{"10.0.0.1:5", []string{"10.0.0.2"}, true, "10.0.0.2"}, // someone inside
		{"10.0.0.1:5", []string{"1.2.3.4, nonsense"}, true, "10.0.0.1"},
		{"10.0.0.1:5", []string{""}, true, "10.0.0.1"},
		{"10.0.0.1:5", []string{"1.2.3.4:777"}, true, "1.2.3.4"},
		{"10.0.0.1:5", []string{"[2001:db8::1]:777"}, true, "2001:db8::1"},
		{"[fd00::1]:5", []string{"[2001:db8::1]"}, true, "2001:db8::1"},
		{"[::ffff:10.0.0.1]:5", []string{"::ffff:1.2.3.4"}, true, "1.2.3.4"},
		{"[fe80::1%eth0]:5", nil, true, "fe80::1"},
		{"@", []string{"1.2.3.4"}, true, "invalid IP"},
	} {
		h := newHouse(t, func(cfg *Config) {
			if c.trusted {
				cfg.TrustedProxies = prefixes
			}
		})
		w := h.do("GET", "/login", "", func(r *http.Request) {
			r.RemoteAddr = c.peer
			r.Header["X-Forwarded-For"] = c.forwarded
			r.Header.Set("X-Real-Ip", "6.6.6.6")
			r.Header.Set("Forwarded", "for=6.6.6.6")
		})
		if got := strings.TrimSuffix(strings.TrimPrefix(w.Body.String(), "id.example.com "), " "); got != c.want {
			t.Errorf("%s %q: got %s, want %s", c.peer, c.forwarded, got, c.want)
		}
		if got := h.lines(t)[0]["address"]; got != c.want {
			t.Errorf("the log says %v, want %s", got, c.want)
		}
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.7":            "203.0.113.7/32",
		"::ffff:203.0.113.7":     "203.0.113.7/32",
		"2001:db8:1:2:3:4:5:6":   "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::%e0": "2001:db8:1:2::/64",
	} {
		if got := Network(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("Network(%s) = %s, want %s", in, got, want)
		}
	}
	if p := Network(netip.Addr{}); p.IsValid() {
		t.Errorf("Network of nothing is %s", p)
	}
}

// WEB-10: an error page has words and a reference, the log has the cause.
func TestErrorPages(t *testing.T) {
	h := newHouse(t, nil)
	for target, status := range map[string]int{"/nowhere": 404, "/fails": 500, "/panics": 500, "/broken-page": 500, "/refuses": 429} {
		h.log.Reset()
		w := h.do("GET", target, "", nil)
		want(t, w, status)
		body, id := w.Body.String(), w.Header().Get("X-Request-Id")
		if w.Header().Get("Content-Type") != "text/html; charset=utf-8" || len(id) != 17 || !strings.Contains(body, id) {
			t.Errorf("%s: %v\n%s", target, w.Header(), body)
		}
		for _, secret := range []string{"SELECT", "disk", "unheard", "goroutine", "/work", ".go:", "for the log"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s: the page says %q", target, secret)
			}
		}
		lines := h.lines(t)
		if target != "/nowhere" && (len(lines) != 2 || lines[0]["request"] != id || lines[0]["error"] == nil) {
			t.Errorf("%s: the log says %v", target, lines)
		}
		if last := lines[len(lines)-1]; last["status"] != float64(status) {
			t.Errorf("%s: the access log says %v", target, last)
		}
	}
	w := h.do("GET", "/broken-error", "", nil)
	want(t, w, 500)
	if got := w.Body.String(); got != "Something went wrong on our side. Reference: "+w.Header().Get("X-Request-Id")+"\n" {
		t.Errorf("got %q", got)
	}
	w = h.do("GET", "/refuses", "", nil)
	for _, words := range []string{"Slow down</h1>", "Your account is fine.", "Try again in 2 seconds.", `href="/on">Go on</a>`} {
		if !strings.Contains(w.Body.String(), words) {
			t.Errorf("no %q in %s", words, w.Body)
		}
	}
	if w.Header().Get("Retry-After") != "2" {
		t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
	}
	if w := h.do("GET", "/nowhere", "", nil); !strings.Contains(w.Body.String(), `href="/preferences/security"`) {
		t.Errorf("no way home in %s", w.Body)
	}
}

// What the program needs is away: that is nobody's fault here, passes, and is said so,
// to people and to programs.
func TestUnavailable(t *testing.T) {
	for target, said := range map[string]string{"/fails": "it may have gone through", "/jwks": `"error":"temporarily_unavailable"`} {
		h := newHouse(t, func(cfg *Config) {
			cfg.Unavailable = func(err error) bool { return strings.Contains(err.Error(), "disk on fire") }
			cfg.JSON = func(path string) bool { return target == "/jwks" }
		})
		w := h.do("GET", "/fails", "", nil)
		want(t, w, http.StatusServiceUnavailable)
		if w.Header().Get("Retry-After") != "5" || !strings.Contains(w.Body.String(), said) || strings.Contains(w.Body.String(), "disk") {
			t.Errorf("%s: %v\n%s", target, w.Header(), w.Body)
		}
		if lines := h.lines(t); len(lines) != 2 || lines[0]["level"] != "ERROR" || lines[1]["status"] != float64(503) {
			t.Errorf("the log says %v", lines)
		}
		want(t, h.do("GET", "/broken-page", "", nil), http.StatusInternalServerError)
		want(t, h.do("GET", "/refuses", "", nil), http.StatusTooManyRequests)
	}
}

// A program is answered in its own language, in the words that RFC 6749 allows.
func TestErrorsInJSON(t *testing.T) {
	h := newHouse(t, nil)
	for _, c := range []struct {
		method, target, body, kind string
		status                     int
	}{
		{"POST", "/oauth/token", "a=1&a=2", "application/x-www-form-urlencoded", 400},
		{"PUT", "/jwks", "", "", 405},
		{"POST", "/oauth/token", strings.Repeat("a", maxBody+1), "application/x-www-form-urlencoded", 413},
		{"POST", "/oauth/token", "{}", "application/json", 415},
		{"POST", "/jwks", "", "", 403},
		{"GET", "http://evil.example/jwks", "", "", 421},
	} {
		w := h.do(c.method, c.target, c.body, func(r *http.Request) {
			r.Header.Set("Content-Type", c.kind)
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Del("Origin")
		})
		want(t, w, c.status)
		var got map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got["error"] != "invalid_request" || got["error_description"] == "" || len(got) != 2 {
			t.Errorf("%d: %s (%v)", c.status, w.Body, err)
		}
		if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d: %v", c.status, w.Header())
		}
	}
	for status, text := range jsonTexts {
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
			t.Errorf("%d: %q", status, text)
		}
	}
}

// Half an answer is not made to look like a whole one.
func TestHalfAnAnswerIsCutOff(t *testing.T) {
	h := newHouse(t, nil)
	defer func() {
		if p, _ := recover().(error); !errors.Is(p, http.ErrAbortHandler) {
			t.Errorf("recovered %v", p)
		}
		if lines := h.lines(t); len(lines) != 2 || lines[1]["status"] != float64(200) || lines[1]["bytes"] != float64(11) {
			t.Errorf("the log says %v", lines)
		}
	}()
	h.do("GET", "/half", "", nil)
}

func TestClientGone(t *testing.T) {
	h := newHouse(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "https://id.example.com/", nil)
	x := &exchange{ResponseWriter: httptest.NewRecorder(), request: r, site: &site{log: slog.NewJSONHandler(&h.log, nil)}}
	x.fail(r, fmt.Errorf("reading: %w", context.Canceled))
	if lines := h.lines(t); lines[0]["level"] != "INFO" {
		t.Errorf("a closed tab is an error: %v", lines)
	}
}

// LG-06: what stands in a query is nobody's business.
// LG-02: one line for a request, and nothing in it that a terminal obeys.
func TestAccessLog(t *testing.T) {
	h := newHouse(t, nil)
	agent := "\x1b[2J\r\n\u2028\u009b\"" + strings.Repeat("x", 64<<10)
	w := h.do("POST", "/login?code=SECRET&state=SECRET", "password=SECRET", func(r *http.Request) {
		r.Header.Set("User-Agent", agent)
		r.Header.Set("X-Request-Id", "SECRET\r\nforged")
		r.Header.Set("Authorization", "Bearer SECRET")
		r.Header.Set("Referer", "https://id.example.com/?SECRET")
		r.AddCookie(&http.Cookie{Name: "session", Value: "SECRET"})
	})
	want(t, w, 200)
	lines := h.lines(t)
	if len(lines) != 1 || strings.Contains(h.log.String(), "SECRET") {
		t.Fatalf("the log says %s", h.log.String())
	}
	got := lines[0]
	var names []string
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	if all := []string{"address", "agent", "bytes", "level", "method", "ms", "msg", "path", "request", "status", "time"}; !reflect.DeepEqual(names, all) {
		t.Errorf("the line has %v, want %v", names, all)
	}
	if got["method"] != "POST" || got["path"] != "/login" || got["status"] != float64(200) || got["bytes"] != float64(w.Body.Len()) || got["address"] != "192.0.2.1" {
		t.Errorf("the line is %v", got)
	}
	if s := got["agent"].(string); len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("agent is %q", s)
	}
	if got["request"] != w.Header().Get("X-Request-Id") {
		t.Errorf("request is %v, the answer says %q", got["request"], w.Header().Get("X-Request-Id"))
	}
	h.log.Reset()
	h.do("GET", "/"+strings.Repeat("%1b", 10_000), "", nil)
	if s := h.lines(t)[0]["path"].(string); len(s) > 200 {
		t.Errorf("path has %d bytes", len(s))
	}
}

func TestRequestIDAndLog(t *testing.T) {
	var log bytes.Buffer
	var id string
	h := Wrap(Config{Issuer: &url.URL{Scheme: "http", Host: "localhost"}, Log: slog.New(slog.NewJSONHandler(&log, nil))}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id = RequestID(r.Context())
		Log(r.Context()).Info("hello")
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://localhost/", nil))
	if id == "" || !strings.Contains(log.String(), `"msg":"hello","request":"`+id+`"`) {
		t.Errorf("id %q, log %s", id, log.String())
	}
	if RequestID(t.Context()) != "" || Log(t.Context()) == nil {
		t.Error("outside of Wrap")
	}
	seen := make(map[string]bool)
	for range 10_000 {
		id := newID()
		if seen[id] {
			t.Fatal("an id came twice")
		}
		seen[id] = true
	}
}

// A trusted proxy's id of a request goes on here: in the log, in the answer and on the
// error page. Nobody else's does, nor what is no id.
func TestRequestIDOfProxy(t *testing.T) {
	const given = "0f3c9b7e-5a1d-4c2b-9e8f-7a6b5c4d3e2f"
	for _, c := range []struct {
		name, peer string
		ids        []string
		taken      bool
	}{
		{"the proxy's", "10.0.0.1:5", []string{given}, true},
		{"a stranger's", "203.0.113.7:5", []string{given}, false},
		{"none", "10.0.0.1:5", nil, false},
		{"two", "10.0.0.1:5", []string{given, given}, false},
		{"short", "10.0.0.1:5", []string{"1234567"}, false},
		{"long", "10.0.0.1:5", []string{strings.Repeat("a", 65)}, false},
		{"a line end", "10.0.0.1:5", []string{"12345678\n"}, false},
		{"markup", "10.0.0.1:5", []string{"<b>12345678</b>"}, false},
		{"another script", "10.0.0.1:5", []string{"１２３４５６７８"}, false},
	} {
		h := newHouse(t, func(cfg *Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
		w := h.do("GET", "/fails", "", func(r *http.Request) { r.RemoteAddr, r.Header["X-Request-Id"] = c.peer, c.ids })
		id := w.Header().Get("X-Request-Id")
		if taken := len(c.ids) > 0 && id == c.ids[0]; taken != c.taken || !c.taken && len(id) != 17 {
			t.Errorf("%s: the answer says %q of %q", c.name, id, c.ids)
		}
		if !strings.Contains(w.Body.String(), id) {
			t.Errorf("%s: the page does not say %s", c.name, id)
		}
		for _, line := range h.lines(t) {
			if line["request"] != id {
				t.Errorf("%s: the log says %v, not %s", c.name, line, id)
			}
		}
	}
}

// WEB-09: nothing is kept but what never changes, and that without cookies.
// WEB-17: the static files are those that there are.
func TestStaticAndCaching(t *testing.T) {
	h := newHouse(t, nil)
	for _, target := range []string{"/page", "/login", "/nowhere", "/fails", "/redirects", "/jwks"} {
		if got := h.do("GET", target, "", nil).Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control is %q", target, got)
		}
	}
	for name, kind := range map[string]string{"app.css": "text/css; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "logo.svg": "image/svg+xml", "rings.svg": "image/svg+xml"} {
		w := h.do("GET", templates.StaticURL(name), "", func(r *http.Request) {
			r.Header.Set("Range", "bytes="+strings.Repeat("0-0,", 5000)+"0-0")
		})
		want(t, w, 200)
		header := w.Header()
		plain := w.Body.Bytes()
		if header.Get("Content-Encoding") != "" || header.Get("Vary") != "Accept-Encoding" || !bytes.Contains(plain, []byte("}")) && !bytes.Contains(plain, []byte("<svg")) {
			t.Errorf("%s, plain: %v", name, header)
		}
		for accepted, packed := range map[string]bool{"gzip, deflate, br, zstd": true, "br,GZIP": true, "br": false, "gzip;q=0": false, "xgzip": false} {
			w := h.do("GET", templates.StaticURL(name), "", func(r *http.Request) { r.Header.Set("Accept-Encoding", accepted) })
			body := io.Reader(w.Body)
			if packed != (w.Header().Get("Content-Encoding") == "gzip") {
				t.Errorf("%s for %q: %v", name, accepted, w.Header())
			} else if packed {
				z, err := gzip.NewReader(body)
				if err != nil {
					t.Fatal(err)
				}
				body = z
			}
			if data, err := io.ReadAll(body); err != nil || !bytes.Equal(data, plain) {
				t.Errorf("%s for %q is another file: %v", name, accepted, err)
			}
		}
		if header.Get("Cache-Control") != "public, max-age=31536000, immutable" || header.Get("Content-Type") != kind || header["Set-Cookie"] != nil {
			t.Errorf("%s: %v", name, header)
		}
	}
	want(t, h.do("POST", templates.StaticURL("app.css"), "", nil), 405)
	for _, target := range []string{"/static/", "/static/app.css", "/static//app.css", "/static/..%2f..%2fetc/passwd", "/static/%00", "/static/../go.mod", "/static/html/layout.html"} {
		want(t, h.do("GET", target, "", nil), 404)
	}
}

// LOGIN-14: what comes in as "go on to" stays on this site.
func TestLocalPath(t *testing.T) {
	for _, c := range []struct {
		in string
		ok bool
	}{
		{"/", true},
		{"/preferences/security", true},
		{"/authorize/resume?id=abc_DEF-123", true},
		{"/authorize?redirect_uri=https%3A%2F%2Facme.example%2Fcb&scope=openid+email", true},
		{"/a?b=//c", true},
		{"", false},
		{"preferences", false},
		{"//evil.example", false},
		{"///evil.example", false},
		{"https:evil.example", false},
		{"https://evil.example", false},
		{"http:///evil.example", false},
		{`/\evil.example`, false},
		{`\/evil.example`, false},
		{`/a\b`, false},
		{`/a?b=\c`, false},
		{"/%09/evil.example", false},
		{"/\t/evil.example", false},
		{" /a", false},
		{"/a b", false},
		{"/a\r\nSet-Cookie: x=y", false},
		{"/a?b=c\r\nSet-Cookie: x=y", false},
		{"javascript:alert(1)", false},
		{"https://op@evil.example", false},
		{"/@evil.example", false},
		{"\u2215evil.example", false},
		{"/\u2215evil.example", false},
		{"/./evil", false},
		{"/../evil", false},
		{"/a/..//evil.example", false},
		{"/a#b", false},
		{"/a?b=%00", false},
		{"/a?b=%ff", false},
		{"/a?b=\xff", false},
		{"/" + strings.Repeat("a", 5000), false},
	} {
		if got, ok := LocalPath(c.in); ok != c.ok || ok && got != c.in || !ok && got != "" {
			t.Errorf("LocalPath(%q) = %q, %v, want %v", c.in, got, ok, c.ok)
		}
	}
}

// Handlers also work on their own, as in other packages' tests.
func TestOutsideOfWrap(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	if err := Show(w, r, 200, templates.SignIn{}); err != nil || w.Code != 200 {
		t.Errorf("%v, %d", err, w.Code)
	}
	w = httptest.NewRecorder()
	NotFound.ServeHTTP(w, r)
	want(t, w, 404)
	if got := Address(r).String(); got != "192.0.2.1" {
		t.Errorf("Address = %s", got)
	}
}

func TestError(t *testing.T) {
	inner := errors.New("row is gone")
	err := fmt.Errorf("opening: %w", &Error{Status: 410, Message: "expired", Err: inner})
	if err.Error() != "opening: 410 expired: row is gone" || !errors.Is(err, inner) {
		t.Error(err)
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func BenchmarkWrap(b *testing.B) {
	body := []byte(strings.Repeat("x", 1500))
	length := []string{"1500"}
	h := Wrap(Config{
		Issuer: &url.URL{Scheme: "https", Host: "id.example.com"},
		Log:    slog.New(slog.NewJSONHandler(io.Discard, nil)),
	}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Length"] = length
		_, _ = w.Write(body)
	}))
	r := httptest.NewRequest("GET", "https://id.example.com/.well-known/openid-configuration", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36")
	w := discard{make(http.Header, 8)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		h.ServeHTTP(w, r)
	}
}
