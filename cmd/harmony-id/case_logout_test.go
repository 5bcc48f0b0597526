package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/idp"
)

// The security cases of signing out (LO).

// leave is a link of a workspace to the end-session endpoint.
func leave(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return "/end_session?" + v.Encode()
}

// in checks that a browser is signed in, or is not.
func (b *browser) in(want bool) {
	b.w.t.Helper()
	if p := b.get("/preferences/security"); (p.url.Path == "/preferences/security") != want {
		b.w.t.Fatalf("signed in: %v, want %v", !want, want)
	}
}

// asked checks that a browser is asked whether it wants to sign out, and leads
// nowhere before it has answered.
func (b *browser) asked(p *page) url.Values {
	b.w.t.Helper()
	p.want(http.StatusOK, "/end_session")
	p.wantText("Sign out of Harmony?")
	b.in(true)
	return p.form("/logout")
}

func TestLO01_SignOutWithHint(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		for _, state := range []string{"", "s", "a b&c=d#e%41", "ABC" + strings.Repeat("x", 2000), `!"#$%&'()*,-./:<=>?@[\]^_{|}~` + "`", "日本"} {
			b := w.newBrowser()
			k := b.connect(w.acme, adaEmail, adaPassword)
			k2 := b.connect(w.globex, adaEmail, adaPassword)
			b.at(other).in(true)
			time.Sleep(2 * time.Hour) // the ID token has expired; it is a hint
			k = w.acme.refresh(k.RefreshToken).ok()
			args := []string{"id_token_hint", k.IDToken, "post_logout_redirect_uri", farewell}
			if state != "" {
				args = append(args, "state", state)
			}
			one := b.once(http.MethodGet, leave(args...), nil, nil)
			p := b.follow(one)
			if one.status != http.StatusSeeOther || p.status != 0 || !strings.HasPrefix(p.url.String(), farewell) || p.url.Query().Get("state") != state || p.url.Query().Has("state") != (state != "") || len(p.url.Query()) > 1 {
				t.Fatalf("state %q: %d %s", state, one.status, p.url)
			}
			w.dead(w.acme, k)
			w.dead(w.globex, k2)
			b.in(false)
			b.at(other).in(false)
			if c := must(http.ParseSetCookie(one.header.Get("Set-Cookie")))(t); c.Name != "__Host-harmony-session" || c.MaxAge >= 0 || c.Value != "" {
				t.Errorf("the session's cookie: %q", one.header.Get("Set-Cookie"))
			}
		}
	})
}

// An old ID token in the wrong hands signs nobody out (trap Z18, ASVS 10.6.2).
func TestLO02_Z18_HintWithoutTheSession(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		hint := leave("id_token_hint", k.IDToken)
		untouched := func() {
			t.Helper()
			b.in(true)
			if w.userinfo(k.AccessToken) == nil {
				t.Fatal("the access token is dead")
			}
			k = w.acme.refresh(k.RefreshToken).ok()
		}
		// A client without cookies.
		stranger := w.browserAt(w.house, "192.0.2.50")
		for range 2 {
			stranger.get(hint)
			stranger.post("/end_session", url.Values{"id_token_hint": {k.IDToken}})
			stranger.get(leave("id_token_hint", k.IDToken, "post_logout_redirect_uri", farewell))
		}
		untouched()
		// Somebody else's browser asks them.
		bob := w.browserAt(w.house, "192.0.2.51")
		bobs := bob.connect(w.acme, bobEmail, bobPassword)
		bob.asked(bob.get(hint))
		// And so does another browser of her own: it is another session.
		second := w.browserAt(w.house, "192.0.2.52")
		seconds := second.connect(w.acme, adaEmail, adaPassword)
		second.asked(second.get(hint))
		b.asked(b.get(leave("id_token_hint", seconds.IDToken)))
		b.asked(b.get(leave("id_token_hint", bobs.IDToken)))
		// A hint that fits the session but names another person does not exist, and is not believed.
		claims := with(k.claims(), "sub", w.bob.ID)
		b.asked(b.get(leave("id_token_hint", sign(t, w.signer("ES256", "JWT"), claims))))
		untouched()
		second.in(true)
		bob.in(true)
	})
}

// Nobody is led anywhere that is not registered for a client that is known.
func TestLO03_WhereToAfterwards(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.add(idp.Client{ID: "other", Name: "Other", RedirectURIs: []string{"https://other.test/cb"}, PostLogoutRedirectURIs: []string{"https://other.test/bye"}, RequirePKCE: true})
		b := w.newBrowser()
		here := func(what string, p *page) {
			t.Helper()
			if p.status != http.StatusOK || p.url.Host != "id.test" || strings.Contains(p.body, "evil.test") {
				t.Errorf("%s: %d at %s", what, p.status, p.url)
			}
		}
		for _, to := range []string{
			callback, "https://other.test/bye", farewell + "x", farewell + "/", farewell + "?foo=bar", farewell + "#x", "https://acme.test/by", "https://ACME.test/bye", "http://acme.test/bye",
			"//evil.test", "https://evil.test", "https://acme.test@evil.test/bye", "/\\evil.test", "javascript:alert(1)", "https://acme.test/%62ye", " " + farewell, farewell + " ",
		} {
			k := b.connect(w.acme, adaEmail, adaPassword)
			here(to, b.get(leave("id_token_hint", k.IDToken, "post_logout_redirect_uri", to, "state", "s")))
			b.in(false) // the hint was good
			here(to+", once more", b.get(leave("id_token_hint", k.IDToken, "post_logout_redirect_uri", to)))
			here(to+", by client_id", b.get(leave("client_id", "acme", "post_logout_redirect_uri", to)))
			// In the form of our page, sent by the person.
			b.signIn(adaEmail, adaPassword)
			here(to+", in the form", b.post("/logout", url.Values{"client_id": {"acme"}, "post_logout_redirect_uri": {to}, "state": {"s"}}))
			b.in(false)
		}

		// Who vouches for the workspace is missing: after the question the way ends here.
		b.signIn(adaEmail, adaPassword)
		for what, link := range map[string]string{
			"no hint, no client": leave("post_logout_redirect_uri", farewell, "state", "s"),
			"only a state":       leave("state", "s"),
			"nothing":            "/end_session",
			"an unknown client":  leave("client_id", "nobody", "post_logout_redirect_uri", farewell),
			"another client":     leave("client_id", "other", "post_logout_redirect_uri", farewell),
			"a bad hint":         leave("id_token_hint", "e30.bnVsbA.eA", "client_id", "acme", "post_logout_redirect_uri", farewell),
		} {
			form := b.asked(b.get(link))
			if len(form) != 0 {
				t.Errorf("%s: the form carries %v", what, form)
			}
		}
		here("after the question", b.post("/logout", b.asked(b.get(leave("post_logout_redirect_uri", farewell)))))
		b.in(false)

		// A hint and a client that contradict each other: neither.
		k := b.connect(w.acme, adaEmail, adaPassword)
		if form := b.asked(b.get(leave("id_token_hint", k.IDToken, "client_id", "other", "post_logout_redirect_uri", "https://other.test/bye"))); len(form) != 0 {
			t.Errorf("the form carries %v", form)
		}
		// Signed out already, with nothing to show for it.
		here("signed out", w.newBrowser().get(leave("client_id", "acme", "post_logout_redirect_uri", farewell)))

		// With a client that is known, and after the question, it leads to the workspace.
		form := b.asked(b.get(leave("client_id", "acme", "post_logout_redirect_uri", farewell, "state", "s 1")))
		if p := b.post("/logout", form); p.status != 0 || p.url.String() != farewell+"?state=s+1" {
			t.Errorf("after the question: %d %s", p.status, p.url)
		}
		b.in(false)

		// What stands there twice is not chosen from (trap Z9).
		for _, name := range []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state"} {
			p := w.newBrowser().get(leave("id_token_hint", k.IDToken, "client_id", "acme", "post_logout_redirect_uri", farewell, "state", "s") + "&" + name + "=x")
			if p.status != http.StatusBadRequest {
				t.Errorf("%s twice: %d at %s", name, p.status, p.url)
			}
		}
	})
}

// A link, an image or a form on any page can lead here. It asks; the answer has
// to come from our own page.
func TestLO04_NobodyIsSignedOutFromElsewhere(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		image := http.Header{"Referer": {"https://evil.test/"}, "Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Dest": {"image"}}
		for _, link := range []string{"/end_session", leave("client_id", "acme", "post_logout_redirect_uri", farewell), "/logout"} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				p := b.once(method, link, nil, image)
				if p.status != http.StatusOK && (method != http.MethodHead || p.status != http.StatusMethodNotAllowed) {
					t.Errorf("%s %s: %d", method, link, p.status)
				}
				b.in(true)
			}
		}
		evil := http.Header{"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}}
		b.asked(b.follow(b.once(http.MethodPost, "/end_session", url.Values{"client_id": {"acme"}, "post_logout_redirect_uri": {farewell}}, evil)))
		for _, header := range []http.Header{
			evil, {"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://sub.id.test"}, "Sec-Fetch-Site": {"same-site"}}, {"Origin": nil, "Sec-Fetch-Site": nil},
			{"Origin": {"http://id.test"}, "Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"same-origin"}},
		} {
			if p := b.once(http.MethodPost, "/logout", url.Values{}, header); p.status != http.StatusForbidden {
				t.Errorf("%v: %d", header, p.status)
			}
			b.in(true)
		}
		if w.userinfo(k.AccessToken) == nil {
			t.Error("the access token is dead")
		}
	})
}

func TestLO05_BadHints(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		atGlobex := b.connect(w.globex, adaEmail, adaPassword)
		for what, hint := range w.badHints(k.claims(), atGlobex) {
			for _, more := range [][]string{{"post_logout_redirect_uri", farewell, "state", "s"}, {"post_logout_redirect_uri", farewell, "client_id", "acme"}} {
				if what == "another client" && more[2] != "client_id" {
					continue // by itself it is globex's own, of this very session
				}
				p := b.get(leave(append(more, "id_token_hint", hint)...))
				if p.status != http.StatusOK || p.url.Path != "/end_session" {
					t.Fatalf("%s: %d at %s", what, p.status, p.url)
				}
				if form := b.asked(p); len(form) != 0 {
					t.Errorf("%s: the form carries %v", what, form)
				}
			}
		}
		// One that has expired will do.
		time.Sleep(2 * time.Hour)
		if p := b.get(leave("id_token_hint", k.IDToken, "post_logout_redirect_uri", farewell)); p.status != 0 || p.url.String() != farewell {
			t.Errorf("an expired hint: %d %s", p.status, p.url)
		}
		b.in(false)
		// Signed out, a bad one does not lead anywhere either.
		for what, hint := range w.badHints(k.claims(), atGlobex) {
			if what == "another client" {
				continue
			}
			if p := b.get(leave("id_token_hint", hint, "post_logout_redirect_uri", farewell)); p.status != http.StatusOK || p.url.Path != "/logout" {
				t.Errorf("%s, signed out: %d at %s", what, p.status, p.url)
			}
		}
	})
}

func TestLO09_TwiceIsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			b := w.newBrowser()
			k := b.connect(w.acme, adaEmail, adaPassword)
			v := url.Values{"id_token_hint": {k.IDToken}, "post_logout_redirect_uri": {farewell}, "state": {"s"}}
			events := w.count(`events WHERE kind = 'signed_out'`)
			for range 3 {
				var p *page
				if method == http.MethodGet {
					p = b.get("/end_session?" + v.Encode())
				} else {
					p = b.follow(b.once(method, "/end_session", v, http.Header{"Origin": {"https://acme.test"}, "Sec-Fetch-Site": {"cross-site"}}))
				}
				if p.status != 0 || p.url.String() != farewell+"?state=s" {
					t.Errorf("%s: %d %s", method, p.status, p.url)
				}
				b.in(false)
			}
			for range 2 {
				b.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
			}
			if n := w.count(`events WHERE kind = 'signed_out'`) - events; n != 1 {
				t.Errorf("%s: %d events", method, n)
			}
		}
	})
}

// The cookie that a browser held does not come back to life.
func TestLO10_SignOutButton(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		thief := w.browserAt(w.house, "192.0.2.60")
		thief.jar.SetCookies(must(url.Parse(issuer))(t), b.jar.Cookies(must(url.Parse(issuer))(t)))
		thief.in(true)

		p := b.get("/logout")
		p.want(http.StatusOK, "/logout")
		p.wantText("Acme")
		one := b.once(http.MethodPost, "/logout", p.form("/logout"), nil)
		if one.status != http.StatusSeeOther || one.header.Get("Location") != "/logout" || one.header.Get("Clear-Site-Data") != `"cache"` || one.header.Get("Cache-Control") != "no-store" {
			t.Errorf("sign-out: %d %v", one.status, one.header)
		}
		if c := must(http.ParseSetCookie(one.header.Get("Set-Cookie")))(t); c.Name != "__Host-harmony-session" || c.MaxAge >= 0 || !c.Secure || !c.HttpOnly || c.Path != "/" {
			t.Errorf("the session's cookie: %q", one.header.Get("Set-Cookie"))
		}
		b.follow(one).wantText("You’re signed out")
		for _, x := range []*browser{b, thief, thief.at(other), b.at(other)} {
			x.in(false)
		}
		w.dead(w.acme, k)
	})
}

func TestLO11_AfterSignOut(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		g, code := b.again(w.globex) // not redeemed yet
		f := w.acme.begin("prompt", "login")
		time.Sleep(time.Second)
		resume := b.submit(b.arrive(f), adaEmail, adaPassword) // not resumed yet
		b.post("/logout", url.Values{})

		quiet := w.acme.begin("prompt", "none")
		quiet.wantError(b.get(quiet.url()), "login_required")
		quiet = w.acme.begin("prompt", "none", "id_token_hint", k.IDToken)
		quiet.wantError(b.get(quiet.url()), "login_required")
		w.dead(w.acme, k)
		g.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		b.get(resume).want(http.StatusOK, "/login")

		// Whoever signs in next starts with a session of their own.
		k2 := b.connect(w.acme, bobEmail, bobPassword)
		if a, b := k.claims(), k2.claims(); a["sid"] == b["sid"] || b["sub"] != w.bob.ID {
			t.Errorf("before %v, after %v", a, b)
		}
		w.dead(w.acme, k)
	})
}
