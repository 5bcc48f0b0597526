package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/idp"
)

// Pushed authorization requests (RFC 9126).

// pushAnswer is what the endpoint answered.
type pushAnswer struct {
	*page
	URI       string `json:"request_uri"`
	ExpiresIn int64  `json:"expires_in"`
	Error     string `json:"error"`
}

// pushing sends a form to the endpoint with the client's authentication.
func (c rp) pushing(form url.Values, header http.Header) *pushAnswer {
	c.w.t.Helper()
	a := &pushAnswer{page: c.send(c.request("/oauth/par", form, header))}
	if err := json.Unmarshal([]byte(a.body), a); err != nil {
		c.w.t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	return a
}

// push pushes the flow's request. Its url is then the short one.
func (f *flow) push() *pushAnswer {
	f.rp.w.t.Helper()
	a := f.rp.pushing(f.query, nil)
	f.pushed = a.URI
	return a
}

func (a *pushAnswer) ok() *pushAnswer {
	a.t.Helper()
	if a.status != http.StatusCreated || !strings.HasPrefix(a.URI, "urn:ietf:params:oauth:request_uri:hpr_") || a.ExpiresIn != 60 || a.header.Get("Cache-Control") != "no-store" {
		a.t.Fatalf("pushing: %d %s %v", a.status, a.body, a.header)
	}
	return a
}

func (a *pushAnswer) refused(status int, code string) {
	a.t.Helper()
	if a.status != status || a.Error != code || a.URI != "" {
		a.t.Fatalf("pushing: %d %s, want %d %s", a.status, a.body, status, code)
	}
}

func TestPushedRequest(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		keys := newKeyring(t, "ES256")
		keyed := w.add(keys.client("keyed"))
		keyed.assert = keys.assertion("keyed")
		b := w.newBrowser()
		for _, c := range []rp{w.acme, w.globex, keyed} {
			// The browser may have to sign in first; the request waits as any other.
			f := c.begin()
			f.push().ok()
			p := b.get(f.url())
			if p.status != 0 {
				p = b.fill(p, adaEmail, adaPassword)
			}
			if k := f.redeem(f.code(p)).ok(); k.claims()["nonce"] != f.query.Get("nonce") {
				t.Errorf("%s: nonce %v", c.id, k.claims()["nonce"])
			}
			// Once.
			b.get(f.url()).wantBroken(expiredLink)
			w.newBrowser().get(f.url()).wantBroken(expiredLink)
		}
		// What the browser brings besides counts for nothing.
		f := w.acme.begin("state", "pushed")
		f.push().ok()
		more := url.Values{"redirect_uri": {"https://evil.test/"}, "scope": {"openid"}, "prompt": {"login"}, "state": {"another"}, "response_mode": {"form_post"}}
		if k := f.redeem(f.code(b.get(f.url() + "&" + more.Encode()))).ok(); k.RefreshToken == "" {
			t.Errorf("scope %q", k.Scope)
		}
		// And it is the client's own, and for a minute.
		f = w.acme.begin()
		f.push().ok()
		b.get("/authorize?" + url.Values{"client_id": {"globex"}, "request_uri": {f.pushed}}.Encode()).wantBroken(expiredLink)
		b.get("/authorize?" + url.Values{"request_uri": {f.pushed}}.Encode()).wantBroken(expiredLink)
		b.get("/authorize?" + url.Values{"client_id": {"acme", "acme"}, "request_uri": {f.pushed}}.Encode()).wantBroken(expiredLink)
		b.get("/authorize?" + url.Values{"client_id": {"acme"}, "request_uri": {f.pushed + "A"}}.Encode()).wantBroken(expiredLink)
		time.Sleep(59 * time.Second)
		f.code(b.get(f.url()))
		f.push().ok()
		time.Sleep(61 * time.Second)
		b.get(f.url()).wantBroken(expiredLink)
		f.push().ok()
		if w.count("pushed_requests") == 0 {
			t.Error("nothing waits")
		}
		time.Sleep(61 * time.Second)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count("pushed_requests"); n != 0 {
			t.Errorf("%d are kept", n)
		}
	})
}

// What the authorization endpoint refuses is refused at once, and who does not
// prove to be the client pushes nothing.
func TestPushedRequestRefused(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		for what, c := range map[string]struct {
			change url.Values
			code   string
		}{
			"another redirect_uri":    {url.Values{"redirect_uri": {"https://evil.test/"}}, "invalid_request"},
			"no redirect_uri":         {url.Values{"redirect_uri": nil}, "invalid_request"},
			"no response_type":        {url.Values{"response_type": nil}, "invalid_request"},
			"another response_type":   {url.Values{"response_type": {"token"}}, "unsupported_response_type"},
			"no scope":                {url.Values{"scope": nil}, "invalid_scope"},
			"no PKCE":                 {url.Values{"code_challenge": nil}, "invalid_request"},
			"plain PKCE":              {url.Values{"code_challenge_method": {"plain"}}, "invalid_request"},
			"another's request":       {url.Values{"client_id": {"globex"}}, "invalid_request"},
			"a request_uri":           {url.Values{"request_uri": {"urn:ietf:params:oauth:request_uri:hpr_x"}}, "invalid_request"},
			"a request object":        {url.Values{"request": {"e30.e30."}}, "request_not_supported"},
			"a parameter twice":       {url.Values{"state": {"a", "b"}}, "invalid_request"},
			"a key that is not one":   {url.Values{"dpop_jkt": {"x"}}, "invalid_request"},
			"a state that is no text": {url.Values{"state": {"\xff"}}, "invalid_request"},
		} {
			f := w.acme.begin()
			for name, v := range c.change {
				f.query[name] = v
			}
			t.Log(what)
			w.acme.pushing(f.query, nil).refused(http.StatusBadRequest, c.code)
		}
		f := w.acme.begin()
		wrong := w.acme
		wrong.secret = "x"
		wrong.pushing(f.query, nil).refused(http.StatusUnauthorized, "invalid_client")
		w.acme.pushing(f.query, http.Header{"Authorization": nil}).refused(http.StatusUnauthorized, "invalid_client")
		for _, method := range []string{http.MethodGet, http.MethodPut} {
			if p := w.newBrowser().once(method, "/oauth/par", nil, nil); p.status != http.StatusMethodNotAllowed {
				t.Errorf("%s: %d", method, p.status)
			}
		}
		r := w.acme.request("/oauth/par?"+f.query.Encode(), f.query, nil)
		if p := w.acme.send(r); p.status != http.StatusBadRequest {
			t.Errorf("parameters in the query: %d", p.status)
		}
		if n := w.count("pushed_requests"); n != 0 {
			t.Errorf("%d were kept all the same", n)
		}
		if strings.Contains(w.dump(), "client_secret=") {
			t.Error("a secret is kept")
		}
	})
}

// A client that is registered so pushes, or gets an answer that says why not.
func TestPushedRequestRequired(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.add(idp.Client{ID: "pusher", Name: "Pusher", RedirectURIs: []string{"https://pusher.test/cb"}, RequirePKCE: true, RequirePAR: true, AuthMethod: idp.AuthPost})
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := c.begin()
		f.wantError(b.get(f.url()), "invalid_request")
		f.query.Set("request_uri", "https://pusher.test/request")
		f.wantError(b.get(f.url()), "request_uri_not_supported")
		f = c.begin()
		f.push().ok()
		f.redeem(f.code(b.get(f.url()))).ok()
		if dump := w.dump(); strings.Contains(dump, c.secret) {
			t.Error("its secret is kept")
		}
	})
}

// What nobody will read is not kept, and no more is kept than a browser could bring: who
// pushes for a public client is anybody.
func TestPushedRequestIsBounded(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := w.globex.begin("password", "a misplaced secret", "more", strings.Repeat("m", 60000))
		f.push().ok()
		if n := w.count("pushed_requests WHERE params LIKE '%misplaced%' OR LENGTH(params) > 1000"); n != 0 {
			t.Error("more is kept than is read")
		}
		f.redeem(f.code(b.get(f.url()))).ok()
		for _, long := range []string{strings.Repeat("c", 13<<10), strings.Repeat("é", 3<<10)} { // which take six bytes in a URL
			f = w.globex.begin("claims", `{"userinfo":{"`+long+`":null}}`)
			w.globex.pushing(f.query, nil).refused(http.StatusBadRequest, "invalid_request")
		}
		f = w.globex.begin("claims", `{"userinfo":{"`+strings.Repeat("c", 10<<10)+`":null}}`)
		f.push().ok()
		f.redeem(f.code(b.get(f.url()))).ok()
	})
}

func TestPushedRequestRace(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for range 5 {
			f := w.acme.begin()
			f.push().ok()
			var got [racers]*page
			release(func(i int) { got[i] = b.at(pick(i)).get(f.url()) })
			winners := 0
			for _, p := range got {
				if p.status == 0 {
					f.code(p)
					winners++
				} else {
					p.wantBroken(expiredLink)
				}
			}
			if winners != 1 {
				t.Fatalf("%d of %d browsers came with one request_uri", winners, racers)
			}
		}
	})
}
