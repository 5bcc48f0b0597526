package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/idp"
)

// Of every refusal of the protocol the log says what exactly differed, for whoever
// connects a workspace. Nothing of it is a secret.

// A logLine is a line of the log.
type logLine struct {
	Level, Msg, Request, Method, Path string
	Status                            int
	all                               string // everything in it, as text
}

func readLog(t testing.TB, text string) (lines []logLine) {
	t.Helper()
	for raw := range strings.Lines(text) {
		var l logLine
		var all map[string]any
		if err := json.Unmarshal([]byte(raw), &l); err != nil {
			continue // the library's, of another form
		}
		if err := json.Unmarshal([]byte(raw), &all); err != nil {
			t.Fatal(err)
		}
		l.all = fmt.Sprint(all)
		lines = append(lines, l)
	}
	return lines
}

// explained checks that the log explains every refusal that is in it.
func explained(t testing.TB, log string) {
	t.Helper()
	said := map[string]bool{}
	lines := readLog(t, log)
	for _, l := range lines {
		if l.Msg != "request" {
			said[l.Request] = true
		}
	}
	protocol := []string{"/authorize", "/authorize/resume", "/end_session", "/oauth/token", "/oauth/revoke", "/oauth/introspect", "/oauth/par", "/userinfo"}
	for _, l := range lines {
		if l.Msg == "request" && (l.Status == http.StatusBadRequest || l.Status == http.StatusUnauthorized) && slices.Contains(protocol, l.Path) && !said[l.Request] {
			t.Errorf("the log does not say why %s %s was refused with %d", l.Method, l.Path, l.Status)
		}
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		third := w.add(idp.Client{ID: "third", Name: "Third", RedirectURIs: []string{"https://third.test/cb"}, ThirdParty: true})
		strict := w.add(idp.Client{ID: "strict", Name: "Strict", RedirectURIs: []string{"https://strict.test/cb"}, Require2FA: true})
		job := w.add(machine("opaque"))
		ring := newKeyring(t, "ES256")
		keyed := w.add(ring.client("keyed"))
		pusher := w.add(idp.Client{ID: "pusher", Name: "Pusher", RedirectURIs: []string{"https://pusher.test/cb"}, RequirePKCE: true, RequirePAR: true})
		bound := w.add(idp.Client{ID: "bound", Name: "Bound", RedirectURIs: []string{"https://bound.test/cb"}, RequirePKCE: true, DPoP: true})
		mine, other := newProver(t, "ES256"), newProver(t, "ES256")
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		spa := b.connect(w.globex, adaEmail, adaPassword)

		get := func(path string) func() { return func() { b.get(path) } }
		ask := func(c rp, extra ...string) func() { return func() { b.get(c.begin(extra...).url()) } }
		post := func(c rp, pairs ...string) func() { return func() { c.post(formOf(pairs)) } }
		code := func(c rp) (*flow, string) {
			f := c.begin()
			return f, f.code(b.get(f.url()))
		}
		redeem := func(c rp, by rp, edits ...string) func() {
			return func() {
				f, granted := code(c)
				form := f.redemption(granted)
				for i := 0; i < len(edits); i += 2 {
					form.Set(edits[i], edits[i+1])
				}
				by.post(form)
			}
		}
		raw := func(c rp, path string, header http.Header, pairs ...string) func() {
			return func() { sendToken(t, w.house, c.request(path, formOf(pairs), header)) }
		}
		impostor := func(c rp, edit func(*rp)) rp { edit(&c); return c }
		wrongSecret := impostor(w.acme, func(c *rp) { c.secret = "not the secret of acme" })
		var (
			login   = []string{"authorization request refused", "acme", callback, "login_required"}
			invalid = []string{"authorization request refused", "acme", callback, "invalid_request"}
			grant   = []string{"token request refused", "client acme", "invalid_grant"}
		)
		with := func(most []string, more ...string) []string { return append(slices.Clone(most), more...) }

		for _, c := range []struct {
			name string
			act  func()
			says []string // one line of the log has all of it
		}{
			// Where nobody can be answered, the person sees a page.
			{"no client_id", ask(w.acme, "client_id", ""), []string{"refused", "without exactly one client_id"}},
			{"another client_id", ask(w.acme, "client_id", "acne"), []string{"refused", "unknown or disabled", `"acne"`}},
			{"another redirect_uri", ask(w.acme, "redirect_uri", callback+"/"), []string{"refused", "redirect_uri is not registered", `"acme"`, `got "` + callback + `/"`, callback + "?tenant=1"}},
			{"redirect_uri left out", ask(w.acme, "redirect_uri", ""), []string{"redirect_uri is not registered", `got ""`, callback}},
			{"state that is no text", ask(w.acme, "state", "\xff"), []string{"refused", "not UTF-8"}},
			{"a broken query", get("/authorize?client_id=%zz"), []string{"refused", "invalid URL escape"}},

			// The workspace gets an error, and its developer the particulars.
			{"a parameter twice", func() { b.get(w.acme.begin().url() + "&nonce=1") }, with(invalid, "nonce stands there more than once")},
			{"response_type", ask(w.acme, "response_type", "id_token token"), []string{"acme", "unsupported_response_type", `"id_token token"`}},
			{"no response_type", ask(w.acme, "response_type", ""), with(invalid, "response_type is missing")},
			{"response_mode", ask(w.acme, "response_mode", "fragment"), with(invalid, `"fragment"`)},
			{"request", ask(w.acme, "request", "eyJ"), []string{"acme", "request_not_supported"}},
			{"request_uri", ask(w.acme, "request_uri", "urn:x"), []string{"acme", "request_uri_not_supported"}},
			{"scope without openid", ask(w.acme, "scope", "profile email"), []string{"acme", "invalid_scope", `got "profile email"`, "registered is", "openid profile"}},
			{"no PKCE", ask(w.acme, "code_challenge", "", "code_challenge_method", ""), with(invalid, "this client has to use PKCE")},
			{"PKCE plain", ask(w.acme, "code_challenge_method", "plain"), with(invalid, "has to be S256", `"plain"`)},
			{"PKCE without a method", ask(w.acme, "code_challenge_method", ""), with(invalid, "has to be S256", `got ""`)},
			{"a challenge that is none", ask(w.acme, "code_challenge", "abc"), with(invalid, "not the base64url of a SHA-256")},
			{"prompt", ask(w.acme, "prompt", "create"), with(invalid, `"create"`)},
			{"prompt none and more", ask(w.acme, "prompt", "none login"), with(invalid, `"none login"`)},
			{"max_age", ask(w.acme, "max_age", "1h"), with(invalid, "max_age", `"1h"`)},
			{"claims", ask(w.acme, "claims", "{"), with(invalid, "claims", "unexpected end of JSON")},
			{"acr that nobody has", ask(w.acme, "claims", `{"id_token":{"acr":{"essential":true,"value":"loa4"}}}`), []string{"acme", "unmet_authentication_requirements", `"loa4"`}},
			{"another client's hint", ask(w.acme, "id_token_hint", spa.IDToken), with(invalid, "it is client globex's")},
			{"a hint that is none", ask(w.acme, "id_token_hint", "eyJ"), with(invalid, "id_token_hint", "not a JWT")},
			{"nobody signed in", func() { w.newBrowser().get(w.acme.begin("prompt", "none").url()) }, with(login, "nobody is signed in")},
			{"signed in long ago", func() {
				time.Sleep(2 * time.Second)
				b.get(w.acme.begin("prompt", "none", "max_age", "1").url())
			}, with(login, "max_age is 1", " 2 s ago")},
			{"somebody else", ask(w.acme, "prompt", "none", "claims", `{"id_token":{"sub":{"value":"usr_other"}}}`), with(login, "another person")},
			{"one factor", ask(strict, "prompt", "none"), []string{"strict", "interaction_required", "--require-2fa", "acr:1fa"}},
			{"one factor, two wished for", ask(w.acme, "prompt", "none", "claims", `{"id_token":{"acr":{"essential":true,"value":"urn:harmony:acr:2fa"}}}`), []string{"acme", "interaction_required", "acr_values or claims"}},
			{"no consent", ask(third, "prompt", "none"), []string{"third", "consent_required", `asked for are "openid`, `allowed ""`}},

			// A waiting request that is not this browser's.
			{"resume without an id", get("/authorize/resume"), []string{"refused", "its id is not one"}},
			{"resume elsewhere", get("/authorize/resume?id=" + strings.Repeat("a", 26)), []string{"refused", "no cookie of it"}},

			// The token endpoint: before anything else, the client.
			{"JSON", func() {
				r := w.acme.request("/oauth/token", nil, nil)
				r.Header.Set("Content-Type", "application/json")
				sendToken(t, w.house, r)
			}, []string{"refused", `"application/json"`}},
			{"in the query", raw(w.acme, "/oauth/token?grant_type=refresh_token", nil), []string{"parameters belong in the body", `"acme"`}},
			{"a field twice", func() { w.acme.post(url.Values{"grant_type": {"refresh_token", "refresh_token"}}) }, []string{"a field stands there twice", `"grant_type"`}},
			{"two ways", post(w.acme, "client_secret", "x"), []string{"one way only", "client_secret", `"acme"`}},
			{"two ids", post(w.acme, "client_id", "other"), []string{"two different client ids", `"other"`, `"acme"`}},
			{"Bearer for Basic", raw(w.acme, "/oauth/token", http.Header{"Authorization": {"Bearer x"}}), []string{"invalid_client", "not Basic"}},
			{"nobody", raw(w.acme, "/oauth/token", http.Header{"Authorization": nil}), []string{"invalid_client", "neither Authorization nor client_id"}},
			{"no assertion", raw(w.acme, "/oauth/token", http.Header{"Authorization": nil}, "client_assertion", "x", "client_assertion_type", "saml"), []string{"invalid_client", `"saml"`}},
			{"an unknown client", post(impostor(w.acme, func(c *rp) { c.id = "acne" }), "grant_type", "refresh_token"), []string{"invalid_client", `"acne" is unknown or disabled`}},
			{"a wrong secret", post(wrongSecret, "grant_type", "refresh_token"), []string{"invalid_client", "wrong secret of client acme"}},
			{"another way", post(impostor(w.acme, func(c *rp) { c.auth = idp.AuthPost }), "grant_type", "refresh_token"), []string{"invalid_client", "client acme used client_secret_post, registered is client_secret_basic"}},
			{"an assertion for somebody else", post(impostor(keyed, func(c *rp) {
				c.assert = ring.assertion("other")
			}), "grant_type", "client_credentials"), []string{"invalid_client", "client keyed", `"other"`}},
			{"no grant_type", post(w.acme), []string{"grant_type is missing", `"acme"`}},
			{"another grant_type", post(w.acme, "grant_type", "password"), []string{"unsupported_grant_type", `"password"`, `"acme"`}},
			{"a grant_type that it does not have", post(w.acme, "grant_type", "client_credentials"), []string{"client acme", "unauthorized_client", `got "client_credentials"`, "authorization_code refresh_token"}},
			{"no code", post(w.acme, "grant_type", "authorization_code"), []string{"client acme", "code is missing"}},
			{"no redirect_uri", post(w.acme, "grant_type", "authorization_code", "code", "hac_x"), []string{"client acme", "redirect_uri is missing"}},
			{"no refresh_token", post(w.acme, "grant_type", "refresh_token"), []string{"client acme", "refresh_token is missing"}},

			// Then what it brings.
			{"no code of ours", post(w.acme, "grant_type", "authorization_code", "code", "4/0Ab", "redirect_uri", callback), with(grant, "not a code of this provider")},
			{"another's code", redeem(w.globex, w.acme), with(grant, "the code is client globex's")},
			{"another redirect_uri", redeem(w.acme, w.acme, "redirect_uri", callback+"?tenant=1"), with(grant, `redirect_uri is "`+callback+`?tenant=1"`, `it was "`+callback+`"`)},
			{"another verifier", redeem(w.acme, w.acme, "code_verifier", strings.Repeat("v", 43)), with(grant, "does not fit the code_challenge")},
			{"no verifier", redeem(w.acme, w.acme, "code_verifier", ""), with(grant, "code_verifier is missing")},
			{"a late code", func() {
				f, granted := code(w.acme)
				time.Sleep(61 * time.Second)
				f.redeem(granted)
			}, with(grant, "the code has expired, it is of ")},
			{"a code twice", func() {
				f, granted := code(w.acme)
				f.redeem(granted).ok()
				f.redeem(granted)
			}, with(grant, "the code was used before, its grant has ended")},
			{"a code three times", func() {
				f, granted := code(w.acme)
				f.redeem(granted).ok()
				f.redeem(granted)
				f.redeem(granted)
			}, with(grant, "its grant ended at ")},
			{"a code that was made up", func() {
				f, granted := code(w.acme)
				f.redeem(granted[:len(granted)-8] + "AAAAAAAA")
			}, with(grant, "client acme's grant has another one now, or it was made up")},
			{"a code of nothing", func() {
				f, granted := code(w.acme)
				f.redeem("hac_" + strings.Repeat("a", 26) + granted[30:])
			}, with(grant, "its grant is gone")},
			{"no refresh token of ours", post(w.acme, "grant_type", "refresh_token", "refresh_token", "1//0e"), with(grant, "not a refresh token of this provider")},
			{"another's refresh token", func() { w.acme.refresh(spa.RefreshToken) }, with(grant, "it is client globex's")},
			{"another scope", post(w.acme, "grant_type", "refresh_token", "refresh_token", k.RefreshToken, "scope", "openid phone"), []string{"client acme", "invalid_scope", `got "openid phone"`, `granted is "openid profile email offline_access"`}},
			{"a scope without openid", post(w.acme, "grant_type", "refresh_token", "refresh_token", k.RefreshToken, "scope", "email"), []string{"client acme", "invalid_scope", "has to contain openid", `"email"`}},
			{"a scope of people", post(job, "grant_type", "client_credentials", "scope", "openid"), []string{"client machine-opaque", "invalid_scope", `got "openid"`, `"api.read api.write"`}},

			// The other endpoints.
			{"userinfo without a token", func() {
				r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, issuer+"/userinfo", nil))(t)
				must(network{w.house, "198.51.100.7"}.RoundTrip(r))(t).Body.Close()
			}, []string{"no access token"}},
			{"userinfo with another token", func() { w.userinfo("ya29") }, []string{"invalid_token", "not an access token of this provider"}},
			{"userinfo too late", func() {
				late := b.connect(w.acme, adaEmail, adaPassword)
				time.Sleep(6 * time.Minute)
				w.userinfo(late.AccessToken)
			}, []string{"invalid_token", "expired at "}},
			{"userinfo after revocation", func() {
				gone := b.connect(w.acme, adaEmail, adaPassword)
				w.acme.revoke(gone.RefreshToken)
				w.userinfo(gone.AccessToken)
			}, []string{"invalid_token", "its grant was revoked"}},
			{"revocation of nothing", raw(w.acme, "/oauth/revoke", nil), []string{"client acme", "token is missing"}},
			{"introspection of nothing", raw(w.acme, "/oauth/introspect", nil), []string{"token is missing", `"acme"`}},
			{"introspection by a public client", raw(w.globex, "/oauth/introspect", nil, "token", "x"), []string{"invalid_client", "no secret", `"globex"`}},

			// Signing out. Nobody is refused; what was not done has its reason.
			{"a hint twice", get("/end_session?id_token_hint=1&id_token_hint=2"), []string{"refused", "id_token_hint stands there more than once"}},
			{"no hint", get("/end_session?client_id=acme"), []string{"sign-out is asked about", "acme", "no id_token_hint"}},
			{"a hint that is none", get("/end_session?client_id=acme&id_token_hint=eyJ"), []string{"id_token_hint refused", "acme", "not a JWT"}},
			{"a hint of another client", get("/end_session?client_id=acme&id_token_hint=" + spa.IDToken), []string{"id_token_hint refused", "acme", "it is client globex's"}},
			{"a hint of another session", func() {
				other := w.newBrowser()
				hint := other.connect(w.acme, bobEmail, bobPassword).IDToken
				b.get("/end_session?id_token_hint=" + hint)
			}, []string{"sign-out is asked about", "acme", "another session"}},
			{"where to is not registered", get("/end_session?client_id=acme&post_logout_redirect_uri=https://acme.test/goodbye"), []string{"post_logout_redirect_uri is not registered", "acme", "https://acme.test/goodbye", farewell}},
			{"where to, of nobody", get("/end_session?post_logout_redirect_uri=" + farewell), []string{"post_logout_redirect_uri of nobody", farewell}},
			{"where to, of somebody unknown", get("/end_session?client_id=acne&post_logout_redirect_uri=" + farewell), []string{"post_logout_redirect_uri of nobody", "acne", farewell}},

			// Pushed requests, and tokens that are bound to a key.
			{"not pushed", ask(pusher), []string{"authorization request refused", "pusher", "has to push"}},
			{"pushed, and gone", get("/authorize?client_id=pusher&request_uri=urn:ietf:params:oauth:request_uri:hpr_" + strings.Repeat("A", 43)), []string{"refused", "request_uri is used, over", `"pusher"`}},
			{"another redirect_uri, pushed", func() { pusher.pushing(pusher.begin("redirect_uri", "https://pusher.test/").query, nil) }, []string{"client pusher", "redirect_uri is not registered", `"https://pusher.test/"`}},
			{"another's hint, pushed", func() { pusher.pushing(pusher.begin("id_token_hint", k.IDToken).query, nil) }, []string{"client pusher", "invalid_request", "it is client acme's"}},
			{"no proof", func() {
				f, granted := code(bound)
				f.redeem(granted)
			}, []string{"client bound", "invalid_dpop_proof", "registered to send one"}},
			{"a proof for elsewhere", func() {
				bound.postAt(w.house, formOf([]string{"grant_type", "refresh_token", "refresh_token", "x"}), mine.proof(http.MethodGet, "/oauth/token", ""))
			}, []string{"client bound", "invalid_dpop_proof", `htm is another method: "GET"`}},
			{"another key than the code's", func() {
				f := w.acme.begin("dpop_jkt", mine.jkt())
				other.redeem(f, f.code(b.get(f.url())))
			}, with(grant, "another key than the DPoP proof's")},
			{"no key for a bound refresh token", func() {
				f, granted := code(w.acme)
				w.acme.refresh(mine.redeem(f, granted).ok().RefreshToken)
			}, with(grant, "the DPoP key of the request is not the one")},

			// What was good once.
			{"a refresh token that was given up", func() {
				next := w.globex.refresh(spa.RefreshToken).ok()
				time.Sleep(31 * time.Second)
				w.globex.refresh(next.RefreshToken).ok()
				w.globex.refresh(spa.RefreshToken)
			}, []string{"client globex", "the refresh token was used before, its grant has ended"}},
			{"a refresh token after the sign-out", func() {
				b.get("/end_session?id_token_hint=" + k.IDToken)
				w.acme.refresh(k.RefreshToken)
			}, with(grant, "its session ended at ")},
			{"a refresh token that was left alone", func() {
				idle := b.connect(w.acme, adaEmail, adaPassword)
				time.Sleep(15 * 24 * time.Hour)
				w.acme.refresh(idle.RefreshToken)
			}, with(grant, "it is client acme's, last used at ")},
		} {
			before := len(w.log.String())
			c.act()
			lines := readLog(t, w.log.String()[before:])
			if !slices.ContainsFunc(lines, func(l logLine) bool {
				return l.Level == "INFO" && l.Msg != "request" && !slices.ContainsFunc(c.says, func(s string) bool { return !strings.Contains(l.all, s) })
			}) {
				t.Errorf("%s: no line says %q\nLOG %s", c.name, c.says, w.log.String()[before:])
			}
		}

		log := w.log.String()
		for what, s := range map[string]string{
			"Acme's secret": w.acme.secret, "a wrong secret": wrongSecret.secret, "an ID token": k.IDToken, "a state": "state-", "a nonce": "nonce-", "a verifier": strings.Repeat("v", 43), "an address": adaEmail,
		} {
			if strings.Contains(log, s) {
				t.Errorf("the log has %s", what)
			}
		}
	})
}

// formOf is a form of names and values.
func formOf(pairs []string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}
