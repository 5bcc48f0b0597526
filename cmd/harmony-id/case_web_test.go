package main

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
)

// The security cases that every page and endpoint shares (WEB). Package web tests
// its guards one by one; here they stand where they belong, in front of everything.

// everywhere is every path that is served, and two that are not.
func everywhere() []string {
	return []string{
		"/", "/login", "/logout", "/preferences/security", "/authorize", "/authorize/resume", "/end_session", "/oauth/token", "/oauth/revoke", "/oauth/introspect", "/userinfo", "/jwks",
		"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/static/app.css", "/nowhere", "/preferences/nowhere",
	}
}

// stylesheet is where a page's stylesheet is: its name changes with its content.
func (p *page) stylesheet() string {
	p.t.Helper()
	m := regexp.MustCompile(`/static/app\.[0-9a-f]+\.css`).FindString(p.body)
	if m == "" {
		p.t.Fatal("the page has no stylesheet")
	}
	return m
}

// wantHeaders checks what every answer has to carry.
func (p *page) wantHeaders(what string) {
	p.t.Helper()
	h := p.header
	for name, want := range map[string]string{
		"Strict-Transport-Security": `^max-age=(3153[6-9]|315[4-9]|31[6-9]|3[2-9]|[4-9])\d+; includeSubDomains`, // a year at least
		"X-Content-Type-Options":    `^nosniff$`,
		"Referrer-Policy":           `^(same-origin|no-referrer)$`,
		"X-Request-Id":              `^[0-9a-f]{8}-[0-9a-f]{8}$`,
		"Cache-Control":             `^(no-store|public, max-age=300|public, max-age=31536000, immutable)$`,
		"Content-Security-Policy":   `default-src 'none'.*object-src 'none'.*base-uri 'none'.*frame-ancestors 'none'`,
	} {
		if got := h.Values(name); len(got) != 1 || !regexp.MustCompile(want).MatchString(strings.ReplaceAll(got[0], "form-action 'none'; ", "")) {
			p.t.Errorf("%s (%d): %s is %q", what, p.status, name, got)
		}
	}
	if csp := h.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "http") {
		p.t.Errorf("%s: policy %s", what, csp)
	}
	for _, telltale := range []string{"Server", "X-Powered-By", "Access-Control-Allow-Credentials"} {
		if got := h.Get(telltale); got != "" {
			p.t.Errorf("%s: %s: %s", what, telltale, got)
		}
	}
	if strings.HasPrefix(h.Get("Content-Type"), "text/html") && p.status/100 != 3 { // what leads on is not shown
		if h.Get("Cross-Origin-Opener-Policy") != "same-origin" || h.Get("Permissions-Policy") == "" || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/html; charset=utf-8" {
			p.t.Errorf("%s (%d): a page with %v", what, p.status, h)
		}
	}
	if h.Get("Cache-Control") != "no-store" && len(h.Values("Set-Cookie")) != 0 {
		p.t.Errorf("%s: a cookie that may be cached", what)
	}
}

// WEB-01, WEB-02, WEB-09: every answer, whatever its status, has every header.
// None may be framed.
func TestWEB01_Headers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "sqlite")
		b := w.newBrowser()
		seen := map[int]bool{}
		look := func(what string, p *page) {
			t.Helper()
			seen[p.status] = true
			p.wantHeaders(what)
		}
		visit := func(who string) {
			for _, path := range everywhere() {
				look(who+" GET "+path, b.once(http.MethodGet, path, nil, nil))
				look(who+" HEAD "+path, b.once(http.MethodHead, path, nil, nil))
				look(who+" PUT "+path, b.once(http.MethodPut, path, nil, nil))
				look(who+" OPTIONS "+path, b.once(http.MethodOptions, path, nil, nil))
				if path != "/logout" {
					look(who+" POST "+path, b.once(http.MethodPost, path, url.Values{"email": {"x"}}, nil))
				}
				look(who+" foreign POST "+path, b.once(http.MethodPost, path, url.Values{"a": {"b"}}, http.Header{"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}}))
				look(who+" JSON "+path, b.stream(path, strings.NewReader("{}"), 2, http.Header{"Content-Type": {"application/json"}}))
				look(who+" great POST "+path, b.stream(path, strings.NewReader(strings.Repeat("a", 100<<10)), -1))
				look(who+" bad query "+path, b.once(http.MethodGet, path+"?a=%zz", nil, nil))
			}
		}
		visit("nobody")
		css := b.get("/login").stylesheet()
		look("stylesheet", b.once(http.MethodGet, css, nil, nil))
		b.signIn(adaEmail, adaPassword)
		visit("Ada")
		f := w.acme.begin()
		p := b.once(http.MethodGet, f.url(), nil, nil)
		look("code", p)
		k := f.redeem(p2code(t, p)).ok()
		(&page{t: t, status: k.status, header: k.header}).wantHeaders("tokens")
		info := w.bearer(http.MethodGet, http.Header{"Authorization": {"Bearer " + k.AccessToken}}, nil)
		look("userinfo", info)
		if got := info.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("userinfo: %s", got)
		}
		look("not modified", b.once(http.MethodGet, "/jwks", nil, http.Header{"If-None-Match": {b.get("/jwks").header.Get("Etag")}}))
		look("misdirected", b.host("evil.test", "/login"))
		for range 11 {
			p = w.newBrowser().attempt(bobEmail, "guess")
		}
		look("throttled", p)
		w.exec(`ALTER TABLE sessions RENAME TO gone_sessions`)
		visit("in trouble,")
		for _, status := range []int{200, 204, 303, 304, 400, 401, 403, 404, 405, 413, 415, 421, 422, 429, 500} {
			if !seen[status] {
				t.Errorf("no answer with %d", status)
			}
		}
		if strings.Contains(w.log.String(), `"msg":"panic"`) {
			t.Error("a panic")
		}
	})
}

// p2code is the code that a redirect carries.
func p2code(t *testing.T, p *page) string {
	t.Helper()
	return must(url.Parse(p.header.Get("Location")))(t).Query().Get("code")
}

// host asks under another name.
func (b *browser) host(host, path string) *page {
	b.w.t.Helper()
	r := must(http.NewRequest(http.MethodGet, issuer+path, nil))(b.w.t)
	r.Host = host
	res := must(b.http.Transport.RoundTrip(r))(b.w.t)
	defer res.Body.Close()
	return &page{t: b.w.t, url: r.URL, status: res.StatusCode, header: res.Header, body: string(must(io.ReadAll(res.Body))(b.w.t))}
}

// marks are what a stranger sends to see it come back alive.
func marks() []string {
	return []string{
		`"><svg/onload=alert(1)>`, `</script><script>alert(1)</script>`, `'><img src=x onerror=alert(1)>`, `javascript:alert(1)`, `{{7*7}}`, `${7*7}`, `<%= 7*7 %>`,
		`%3Cscript%3Ealert(1)%3C/script%3E`, `%253Cscript%253E`, `" autofocus onfocus=alert(1) x="`, `-->`, `]]>`, `</title><script>alert(1)</script>`, "`${alert(1)}`", `\u003cscript\u003e`, `&#60;script&#62;`, "<\u2028script>", `<a href=//evil>click</a>`,
	}
}

// tagsRE finds what a browser takes for a tag.
var tagsRE = regexp.MustCompile(`<[a-zA-Z/!][^>]*>`)

// wantInert checks that a page has the tags it always has, none of them alive,
// whatever stands between them. plain is the same page with plain words.
func (p *page) wantInert(what string, plain *page) {
	p.t.Helper()
	if p.status != plain.status || !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") {
		return // another answer, which repeats nothing, or no page
	}
	names := func(body string) (out []string) {
		for _, tag := range tagsRE.FindAllString(body, -1) {
			out = append(out, regexp.MustCompile(`^</?[!a-zA-Z0-9]*|\s[a-zA-Z-]+(?:=|[\s>])`).FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(tag, `""`), -1)...)
		}
		return out
	}
	if got, want := names(p.body), names(plain.body); !slices.Equal(got, want) {
		p.t.Errorf("%s: other tags:\n%q\n%q\n%s", what, got, want, p.body)
	}
	for _, m := range regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(p.body, -1) {
		if to := strings.TrimPrefix(html.UnescapeString(m[1]), issuer); !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "#") || strings.HasPrefix(to, "//") || strings.Contains(to, "evil") && !strings.HasPrefix(to, "/login?") {
			p.t.Errorf("%s: a link to %q", what, to)
		}
	}
	if strings.Contains(p.body, ">49<") || strings.Contains(p.body, "alert(1)</script>") {
		p.t.Errorf("%s: alive:\n%s", what, p.body)
	}
}

// WEB-03: whatever stands in a parameter comes back as words or not at all.
func TestWEB03_Reflected(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b, in := w.newBrowser(), w.newBrowser()
		in.signIn(adaEmail, adaPassword)
		shown := 0
		for _, s := range append([]string{"plain"}, marks()...) {
			try := func(what string, ask func(s string) *page) {
				t.Helper()
				p := ask(s)
				if strings.Contains(html.UnescapeString(p.body), s) && s != "plain" {
					shown++
				}
				p.wantInert(fmt.Sprintf("%s with %q", what, s), ask("plain"))
			}
			w.exec(`DELETE FROM throttles`)
			try("to", func(s string) *page {
				return b.once(http.MethodGet, "/login?"+url.Values{"to": {"/" + s}}.Encode(), nil, nil)
			})
			try("email", func(s string) *page { return b.attempt(s, "x") })
			try("too long", func(s string) *page { return b.attempt(s, strings.Repeat("x", 300)) })
			try("login_hint", func(s string) *page { return b.get(w.acme.begin("login_hint", s).url()) })
			for _, name := range []string{"state", "nonce", "display", "ui_locales", "client_id", "redirect_uri", "scope"} {
				try(name, func(s string) *page { return b.get(w.acme.begin(name, s).url()) })
			}
			try("request", func(s string) *page {
				return b.once(http.MethodGet, "/authorize/resume?"+url.Values{"id": {s}}.Encode(), nil, nil)
			})
			try("state of the farewell", func(s string) *page {
				return in.once(http.MethodGet, "/end_session?"+url.Values{"client_id": {"acme"}, "post_logout_redirect_uri": {farewell}, "state": {s}}.Encode(), nil, nil)
			})
			try("farewell", func(s string) *page {
				return in.once(http.MethodGet, "/end_session?"+url.Values{"client_id": {"acme"}, "post_logout_redirect_uri": {s}}.Encode(), nil, nil)
			})
			try("path", func(s string) *page { return b.once(http.MethodGet, "/"+url.PathEscape(s), nil, nil) })
			try("language", func(s string) *page {
				return b.once(http.MethodGet, "/login", nil, http.Header{"Accept-Language": {s}, "Referer": {s}, "User-Agent": {s}})
			})
			try("host", func(s string) *page { return b.host(s, "/login") })
		}
		if shown < 3*len(marks()) {
			t.Errorf("only %d pages show what was entered: are these the right ones?", shown)
		}
	})
}

// WEB-04: the same for what is stored: names of people, names of workspaces, and
// what a browser calls itself.
func TestWEB04_Stored(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		pages := func(i int, person, workspace string) []*page {
			t.Helper()
			email := fmt.Sprintf("person%d@example.com", i)
			u := must(w.house.accounts.CreateUser(t.Context(), account.NewUser{Email: email, Name: person}, supporter))(t)
			w.exec(`UPDATE users SET password_changed_at = 1 WHERE id = $1`, u.ID)
			w.weaken(u.ID, "right")
			client := w.register(idp.Client{Name: workspace, RedirectURIs: []string{callback}, PostLogoutRedirectURIs: []string{farewell}, RequirePKCE: true})
			w.forget()
			b := w.browserAt(w.house, fmt.Sprintf("192.0.2.%d", i))
			b.header.Set("User-Agent", person)
			var out []*page
			f := client.begin("login_hint", email)
			out = append(out, b.arrive(f), b.fill(b.arrive(f), email, "wrong"))
			f.redeem(f.code(b.fill(b.arrive(f), email, "right"))).ok()
			out = append(out, b.get("/preferences/security"), b.get("/logout"))
			time.Sleep(time.Second)
			again := b.arrive(client.begin("prompt", "login"))
			again.wantText(workspace)
			out = append(out, again)
			return append(out, b.get("/end_session?"+url.Values{"client_id": {client.id}, "post_logout_redirect_uri": {farewell}, "state": {person}}.Encode()))
		}
		plain := pages(1, "Plain Person", "Plain Workspace")
		for i, s := range marks() {
			if strings.ContainsRune(s, '\u2028') {
				continue // no name: it cannot be seen
			}
			for j, p := range pages(2+i, s, s) {
				p.wantInert(fmt.Sprintf("page %d with %q", j, s), plain[j])
			}
		}
	})
}

// WEB-06: no page of another origin can read an answer that a cookie gave, nor
// ask with one. (TestZ04 has the endpoints of the protocol.)
func TestWEB06_CORS(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		open := []string{"/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/userinfo", "/oauth/token", "/oauth/revoke"}
		for _, path := range append(everywhere(), b.get("/login").stylesheet(), w.acme.begin().url()) {
			for _, origin := range []string{"https://evil.test", "https://evil.id.test", "null", "https://id.test.evil.test", "http://id.test"} {
				for _, method := range []string{http.MethodGet, http.MethodOptions} {
					p := b.once(method, path, nil, http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"}})
					got := p.header.Get("Access-Control-Allow-Origin")
					want := ""
					if slices.Contains(open, path) && (method == http.MethodOptions || !strings.HasPrefix(path, "/oauth/")) {
						want = "*"
					}
					if got != want || p.header.Get("Access-Control-Allow-Credentials") != "" {
						t.Errorf("%s %s from %s: origin %q, credentials %q", method, path, origin, got, p.header.Get("Access-Control-Allow-Credentials"))
					}
				}
			}
		}
	})
}

// WEB-07: other methods do nothing.
func TestWEB07_Methods(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		session := b.session()
		for _, path := range everywhere() {
			for _, method := range []string{"TRACE", "PUT", "DELETE", "PATCH", "CONNECT", "FOO", "get", "post", "PROPFIND"} {
				p := b.once(method, path, nil, http.Header{"Origin": {issuer}})
				if p.status != http.StatusMethodNotAllowed || p.header.Get("Allow") == "" || len(p.header.Values("Set-Cookie")) != 0 {
					t.Errorf("%s %s: %d %v", method, path, p.status, p.header)
				}
			}
		}
		// A header does not make a GET a POST, nor a POST a DELETE.
		for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
			b.once(http.MethodGet, "/logout", nil, http.Header{name: {"POST"}})
			b.once(http.MethodGet, "/logout?_method=POST", nil, http.Header{name: {"POST"}})
		}
		// And HEAD is GET without words.
		if p := b.once(http.MethodHead, "/logout", nil, nil); p.status != http.StatusOK {
			t.Errorf("HEAD: %d", p.status)
		}
		if !b.signedIn() || b.session() != session {
			t.Error("the session is another")
		}
	})
}

// WEB-08: no name but ours is answered to, and none but ours is ever written.
func TestWEB08_Host(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		paths := append(everywhere(), w.acme.begin().url())
		for _, host := range []string{"evil.test", "id.test.evil.test", "evil.id.test", "id.test:8443", "id.test@evil.test", "evil.test#id.test", "127.0.0.1", "[::1]", "localhost", "id.test evil.test", "id.test,evil.test", "id.testx", "xid.test", "id.test..", "id.test:443:443", "id.test:"} {
			for _, path := range paths {
				p := b.host(host, path)
				if p.status != http.StatusMisdirectedRequest || p.header.Get("Location") != "" || len(p.header.Values("Set-Cookie")) != 0 {
					t.Errorf("%s at %s: %d %v", path, host, p.status, p.header)
				}
				if strings.Contains(p.body, "evil") {
					t.Errorf("%s at %s repeats the name", path, host)
				}
			}
		}
		want := map[string]string{}
		for _, path := range paths[:len(paths)-1] {
			p := b.host("id.test", path)
			want[path] = fmt.Sprint(p.status, p.header.Get("Location"))
		}
		for _, host := range []string{"ID.TEST", "id.test:443", "id.test.", "Id.Test.:443"} {
			for path, want := range want {
				p := b.host(host, path)
				if got := fmt.Sprint(p.status, p.header.Get("Location")); got != want {
					t.Errorf("%s at %s: got %s, want %s", path, host, got, want)
				}
			}
			doc := b.host(host, "/.well-known/openid-configuration")
			if !strings.Contains(doc.body, `"issuer":"`+issuer+`"`) || strings.Contains(doc.body, ":443") || strings.Contains(doc.body, "ID.TEST") {
				t.Errorf("metadata at %s: %s", host, doc.body)
			}
		}
		// Nor does a header of a proxy that nobody trusts.
		forged := http.Header{"X-Forwarded-Host": {"evil.test"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Port": {"81"}, "X-Forwarded-Prefix": {"/evil"}, "Forwarded": {"host=evil.test;proto=http"}, "X-Original-Url": {"/logout"}, "X-Rewrite-Url": {"/logout"}, "X-Host": {"evil.test"}}
		for _, path := range paths {
			p := b.once(http.MethodGet, path, nil, forged)
			if strings.Contains(p.body+fmt.Sprint(p.header), "evil") {
				t.Errorf("%s: %v", path, p.header)
			}
			for _, c := range p.header.Values("Set-Cookie") {
				if !strings.Contains(c, "Secure") {
					t.Errorf("%s: %s", path, c)
				}
			}
		}
	})
}

// WEB-10: what goes wrong is told with a reference and nothing else; the log has
// the rest under it.
func TestWEB10_ErrorPages(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, engine)
			b := w.newBrowser()
			b.signIn(adaEmail, adaPassword)
			w.exec(`ALTER TABLE sessions RENAME TO gone_sessions`)
			inside := regexp.MustCompile(`(?i)gone_|sessions|sqlite|postgres|pgx|SELECT|relation|goroutine|\.go:|/home/|/root/|panic|Go-http|golang|mux`)
			for what, c := range map[string]struct {
				p      *page
				status int
			}{
				"404":              {b.once(http.MethodGet, "/nowhere", nil, nil), http.StatusNotFound},
				"405":              {b.once(http.MethodGet, "/oauth/token", nil, nil), http.StatusMethodNotAllowed},
				"413":              {b.stream("/login", strings.NewReader(strings.Repeat("a", 100<<10)), -1), http.StatusRequestEntityTooLarge},
				"403":              {b.once(http.MethodPost, "/login", url.Values{}, http.Header{"Origin": {"https://evil.test"}}), http.StatusForbidden},
				"500":              {b.once(http.MethodGet, "/preferences/security", nil, nil), http.StatusInternalServerError},
				"500 at sign-in":   {b.attempt(adaEmail, adaPassword), http.StatusInternalServerError},
				"500 at authorize": {b.once(http.MethodGet, w.acme.begin().url(), nil, nil), http.StatusInternalServerError},
			} {
				p := c.p
				if p.status != c.status {
					t.Errorf("%s: got %d, want %d", what, p.status, c.status)
				}
				words := tagsRE.ReplaceAllString(p.body, " ")
				if found := inside.FindString(words); found != "" {
					t.Errorf("%s tells %q:\n%s", what, found, p.body)
				}
				id := p.header.Get("X-Request-Id")
				if strings.HasPrefix(p.header.Get("Content-Type"), "text/html") && !strings.Contains(p.body, id) {
					t.Errorf("%s: no reference", what)
				}
				if p.status == http.StatusInternalServerError && !regexp.MustCompile(`"request":"`+id+`".*sessions`).MatchString(w.log.String()) {
					t.Errorf("%s: the log does not say why under %s", what, id)
				}
			}
		})
	})
}

// WEB-12: there is one way to write a path.
func TestWEB12_Paths(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		query := "?" + w.acme.begin().query.Encode()
		for _, path := range []string{
			"/authorize/", "/AUTHORIZE", "/Authorize", "/%61uthorize", "/authorize%2f", "/authorize;/", "/authorize;x=1", "/authorize%00", "/authorize%20", "/authorize.", "/./authorize", "/x/../authorize", "/authorize/.", "/authorize/..",
			"/authorize/%2e%2e/login", "/authorize%5c", `/authorize\`, "/authorize//resume", "/authorize/resume/", "/preferences/security/", "/preferences//security", "/preferences/%73ecurity", "/Preferences/security", "/preferences/security;.css", "/preferences/security.css", "/preferences/security%2f..%2f..%2fstatic",
			"/static/../preferences/security", "/static/..%2fpreferences%2fsecurity", "/x/../preferences/security", "/login/", "/LOGIN", "/login%2f", "/jwks/", "/oauth/token/", "/OAUTH/token", "/.well-known/openid-configuration/", "/.well-known//openid-configuration",
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				var form url.Values
				if method == http.MethodPost {
					form = url.Values{}
				}
				p := b.rawPath(method, path+query, form)
				if p.status != http.StatusNotFound || p.header.Get("Location") != "" || strings.Contains(p.body, "Ada") {
					t.Errorf("%s %s: %d to %q", method, path, p.status, p.header.Get("Location"))
				}
			}
		}
		for _, path := range []string{"//authorize", "//preferences/security", "///login", "//evil.test/login"} {
			if p := b.rawPath(http.MethodGet, path+query, nil); p.status != http.StatusNotFound || p.header.Get("Location") != "" {
				t.Errorf("%s: %d to %q", path, p.status, p.header.Get("Location"))
			}
		}
	})
}

// rawPath sends a request line as it stands.
func (b *browser) rawPath(method, target string, form url.Values) *page {
	b.w.t.Helper()
	r := must(http.NewRequest(method, issuer+"/", strings.NewReader(form.Encode())))(b.w.t)
	r.Header.Set("Origin", issuer)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range b.jar.Cookies(siteURL) {
		r.AddCookie(c)
	}
	u, err := url.ParseRequestURI(target)
	if err != nil { // net/http answers 400 to it
		return &page{t: b.w.t, url: r.URL, status: http.StatusNotFound, header: http.Header{}}
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
	in := r.Clone(b.w.t.Context())
	in.RequestURI, in.RemoteAddr, in.URL = target, "192.0.2.3:1", u
	in.Host = "id.test"
	rec := httptest.NewRecorder()
	b.http.Transport.(network).h.handler.ServeHTTP(rec, in)
	res := rec.Result()
	defer res.Body.Close()
	return &page{t: b.w.t, url: r.URL, status: res.StatusCode, header: res.Header, body: string(must(io.ReadAll(res.Body))(b.w.t))}
}

// WEB-14: programs send one kind of body, and so do pages.
func TestWEB14_ContentTypes(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		for _, path := range []string{"/oauth/token", "/oauth/revoke", "/oauth/introspect", "/userinfo", "/login", "/logout", "/authorize", "/end_session"} {
			for _, kind := range []string{"text/plain", "application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded; charset=utf-7", "application/xml", "application/x-www-form-urlencoded, text/plain", "text/plain; application/x-www-form-urlencoded"} {
				p := b.stream(path, strings.NewReader("grant_type=refresh_token&client_id=globex"), -1, http.Header{"Content-Type": {kind}})
				p.wantStatus(http.StatusUnsupportedMediaType)
			}
			b.stream(path, strings.NewReader("x"), 1, http.Header{"Content-Encoding": {"gzip"}}).wantStatus(http.StatusUnsupportedMediaType)
		}
	})
}

// WEB-15: no redirect repeats a post at another place (RFC 9700 4.12).
func TestWEB15_SeeOther(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		f := w.acme.begin()
		n := 0
		see := func(what string, p *page) *page {
			t.Helper()
			if p.header.Get("Location") == "" || p.status != http.StatusSeeOther {
				t.Errorf("%s: %d to %q", what, p.status, p.header.Get("Location"))
			}
			n++
			return p
		}
		see("a page for who is signed in", b.once(http.MethodGet, "/preferences/security", nil, nil))
		see("front", b.once(http.MethodGet, "/", nil, nil))
		to := see("authorize", b.once(http.MethodGet, f.url(), nil, nil)).header.Get("Location")
		see("posted authorize", b.once(http.MethodPost, "/authorize", f.query, nil))
		form := b.get(to).form("/login")
		form.Set("email", adaEmail)
		form.Set("password", adaPassword)
		to = see("sign-in", b.once(http.MethodPost, "/login", form, nil)).header.Get("Location")
		see("resume", b.once(http.MethodGet, to, nil, nil))
		see("sign-in page for who is signed in", b.once(http.MethodGet, "/login", nil, nil))
		see("refusal", b.once(http.MethodGet, w.acme.begin("scope", "email").url(), nil, nil))
		see("posted end_session", b.once(http.MethodPost, "/end_session", url.Values{"state": {"x"}}, nil))
		see("sign-out", b.once(http.MethodPost, "/logout", url.Values{"client_id": {"acme"}, "post_logout_redirect_uri": {farewell}}, nil))
		see("end_session for nobody", b.once(http.MethodGet, "/end_session", nil, nil))
	})
}

// WEB-17: there is nothing behind the static files.
func TestWEB17_Static(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		css := b.get("/login").stylesheet()
		for _, path := range []string{"/static", "/static/", "/static//", "/static/..%2f..%2fetc/passwd", "/static/../../etc/passwd", "/static/%00", "/static/app.css", "/static/app.css%00", "/static/.", "/static/html/layout.html", css + "/", css + "%00", strings.ToUpper(css), "/static/" + strings.Repeat("a", 5000)} {
			if p := b.rawPath(http.MethodGet, path, nil); p.status != http.StatusNotFound {
				t.Errorf("%.80s: %d", path, p.status)
			}
		}
		ranges := "bytes=0-"
		for i := range 2000 {
			ranges += fmt.Sprintf(",%d-%d", i, i+1)
		}
		p := b.once(http.MethodGet, css, nil, http.Header{"Range": {ranges}})
		if p.status != http.StatusOK && p.status != http.StatusRequestedRangeNotSatisfiable || len(p.body) > 64<<10 {
			t.Errorf("ranges: %d, %d bytes", p.status, len(p.body))
		}
		if cc := p.header.Get("Cache-Control"); cc != "public, max-age=31536000, immutable" {
			t.Errorf("Cache-Control: %s", cc)
		}
	})
}
