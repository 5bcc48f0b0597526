package main

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A module is one check, under the suite's name.
type module struct {
	name string
	run  func(*check)

	// What only a browser proves (cookies with SameSite, the page's policy) runs in
	// Chromium: in the form_post plan, where the answer is a page, other modules.
	chromium, formPost bool
}

// A plan is what one certificate needs.
type plan struct {
	modules  []module
	formPost bool // response_mode=form_post in every request
}

var plans = map[string]plan{
	"basic":       {modules: basic},
	"config":      {modules: []module{{name: "oidcc-discovery-endpoint-verification", run: checkDiscovery}}},
	"formpost":    {modules: basic, formPost: true},
	"rp-logout":   {modules: rpLogout},
	"backchannel": {modules: backchannel},
	"beyond":      {modules: beyond},
}

func planNames() []string { return slices.Sorted(maps.Keys(plans)) }

// basic is oidcc-basic-certification-test-plan with static clients, in its order.
// With dynamic registration there are three more: oidcc-idtoken-signature,
// oidcc-idtoken-unsigned and oidcc-request-uri-unsigned-….
var basic = []module{
	{name: "oidcc-server", run: server, formPost: true},
	{name: "oidcc-response-type-missing", run: responseTypeMissing},
	{name: "oidcc-userinfo-get", run: userinfoBy(func(c *check, s *signIn) *answer {
		return c.fetch(http.MethodGet, c.text("userinfo_endpoint"), s.bearer(), nil)
	})},
	{name: "oidcc-userinfo-post-header", run: userinfoBy(func(c *check, s *signIn) *answer {
		return c.fetch(http.MethodPost, c.text("userinfo_endpoint"), s.bearer(), nil)
	})},
	{name: "oidcc-userinfo-post-body", run: userinfoBy(userinfoPostBody)},
	{name: "oidcc-ensure-request-without-nonce-succeeds-for-code-flow", run: func(c *check) {
		s := c.begin(params{"nonce": ""})
		c.code(s.sent, s.arrival)
	}},
	{name: "oidcc-scope-profile", run: scope("openid profile")},
	{name: "oidcc-scope-email", run: scope("openid email")},
	{name: "oidcc-scope-address", run: scope("openid address")},
	{name: "oidcc-scope-phone", run: scope("openid phone")},
	{name: "oidcc-scope-all", run: scope("openid email phone address profile")},
	{name: "oidcc-alternate-happy-flow", run: alternate},
	{name: "oidcc-display-page", run: happyWith(params{"display": "page"})},
	{name: "oidcc-display-popup", run: happyWith(params{"display": "popup"})},
	{name: "oidcc-prompt-login", run: promptLogin, chromium: true},
	{name: "oidcc-prompt-none-not-logged-in", run: promptNoneNotLoggedIn, formPost: true},
	{name: "oidcc-prompt-none-logged-in", run: func(c *check) { c.again(c.happy(nil), params{"prompt": "none"}) }, chromium: true},
	{name: "oidcc-max-age-1", run: maxAge1},
	{name: "oidcc-max-age-10000", run: func(c *check) {
		first := c.happy(params{"max_age": "15000"})
		second := c.again(first, params{"max_age": "10000"})
		if first.id["auth_time"] == nil || second.id["auth_time"] == nil {
			c.fail("an ID token lacks auth_time in spite of max_age")
		}
	}},
	{name: "oidcc-ensure-request-with-unknown-parameter-succeeds", run: happyWith(params{"extra": "foobar"})},
	{name: "oidcc-id-token-hint", run: func(c *check) {
		first := c.happy(nil)
		c.again(first, params{"prompt": "none", "id_token_hint": first.raw})
	}},
	{name: "oidcc-login-hint", run: func(c *check) {
		u, _ := url.Parse(c.text("issuer")) // SETUP parsed it
		c.happy(params{"login_hint": "buffy@" + u.Hostname()})
	}},
	{name: "oidcc-ui-locales", run: happyWith(params{"ui_locales": "se"})},
	{name: "oidcc-claims-locales", run: happyWith(params{"claims_locales": "se"})},
	{name: "oidcc-ensure-request-with-acr-values-succeeds", run: acrValues},
	{name: "oidcc-codereuse", run: codeReuse},
	{name: "oidcc-codereuse-30seconds", run: codeReuseLater},
	{name: "oidcc-ensure-registered-redirect-uri", run: func(c *check) {
		c.page(c.authorize(c.request(params{"redirect_uri": c.cfg.Callback + pathCallback + "/" + text(10, alnum)})))
	}},
	{name: "oidcc-ensure-post-request-succeeds", run: postRequest, chromium: true},
	{name: "oidcc-server-client-secret-post", run: func(c *check) {
		c.client = c.cfg.ClientPost
		c.setUp()
		c.happy(nil)
	}},
	{name: "oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported", run: requestObject},
	{name: "oidcc-claims-essential", run: claimsEssential},
	{name: "oidcc-ensure-request-object-with-redirect-uri", run: requestObjectRedirect},
	{name: "oidcc-refresh-token", run: refresh},
	{name: "oidcc-ensure-request-with-valid-pkce-succeeds", run: pkce},
}

func happyWith(changes params) func(*check) { return func(c *check) { c.happy(changes) } }

// known are the claims that an ID token has by itself.
var known = []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "at_hash", "c_hash", "nbf", "jti", "sid", "s_hash", "txn", "openbanking_intent_id"}

func server(c *check) {
	s := c.happy(nil)
	if len(s.code) < 16 || bits(s.code) <= 96 {
		c.fail("the code has %d bytes and %.0f bits of entropy", len(s.code), bits(s.code))
	}
	if s.tokens["expires_in"] == nil {
		c.warn("the token endpoint's answer has no expires_in")
	}
	for claim, of := range map[string]string{"at_hash": str(s.tokens, "access_token"), "c_hash": s.code} {
		if s.id[claim] != nil && str(s.id, claim) != half(str(s.header, "alg"), of) {
			c.fail("%s of the ID token is wrong", claim)
		}
	}
	for name := range s.id {
		if !slices.Contains(known, name) {
			c.warn("the ID token has the claim %s, which was not asked for", name)
		}
	}
}

func responseTypeMissing(c *check) {
	sent := c.request(params{"response_type": ""})
	if a := c.authorize(sent); a.back != nil {
		c.refused(sent, a, "unsupported_response_type", "invalid_request")
	} else {
		c.page(a)
	}
}

func userinfoBy(ask func(*check, *signIn) *answer) func(*check) {
	return func(c *check) {
		if a := ask(c, c.happy(nil)); a != nil {
			c.claims(a)
		}
	}
}

func userinfoPostBody(c *check, s *signIn) *answer {
	a := c.fetch(http.MethodPost, c.text("userinfo_endpoint"), "", url.Values{"access_token": {str(s.tokens, "access_token")}})
	if a.status/100 != 2 {
		c.warn("the userinfo endpoint does not take a token in the body: status %d", a.status)
		return nil
	}
	return a
}

func scope(asked string) func(*check) {
	return func(c *check) { c.scopes(asked, c.begin(params{"scope": asked})) }
}

func (c *check) scopes(asked string, s *signIn) {
	for name := range strings.FieldsSeq(asked) {
		if !c.lists("scopes_supported", name) {
			c.skip("scopes_supported lacks %s", name)
		}
	}
	c.finish(s, "")
	c.sameSub(s.id, s.userinfo)
	for name := range strings.FieldsSeq(asked) {
		if lack := missing(s.userinfo, claimsOf[name]); lack != nil {
			c.warn("userinfo lacks %s of the scope %s", strings.Join(lack, ", "), name)
		}
	}
	if strings.Contains(asked, "profile") {
		return
	}
	for _, name := range []string{"email", "name"} {
		if s.id[name] != nil {
			c.warn("the ID token has %s, which belongs in userinfo", name)
		}
	}
	if s.userinfo["name"] != nil {
		c.warn("userinfo has name, which was not asked for")
	}
}

func (c *check) sameSub(a, b map[string]any) {
	if str(a, "sub") != str(b, "sub") {
		c.fail("sub is %q and %q", str(a, "sub"), str(b, "sub"))
	}
}

func alternate(c *check) {
	s := &signIn{sent: c.request(params{"scope": "email openid"})}
	s.arrival = c.visit(visit{url: withQuery(c.text("authorization_endpoint"), backwards(s.sent))})
	c.scopes("email openid", s)
}

// again signs in once more in the same browser, which must not ask for anything.
func (c *check) again(first *signIn, changes params) *signIn {
	s := c.finish(c.begin(changes), "")
	if s.arrival.signedIn > 0 {
		c.fail("the person had to sign in again")
	}
	c.sameSub(first.id, s.id)
	a, b := first.id["auth_time"], s.id["auth_time"]
	if a != nil && b != nil && a != b {
		c.fail("auth_time changed from %v to %v, and nobody signed in", show(a), show(b))
	}
	return s
}

// anew signs in once more, and the person has to be asked.
func (c *check) anew(first *signIn, changes params) *signIn {
	s := c.finish(c.begin(changes), "")
	if s.arrival.signedIn == 0 {
		c.fail("the person did not have to sign in again")
	}
	a, was := first.id["auth_time"].(float64)
	if b, is := s.id["auth_time"].(float64); was && is && b <= a {
		c.fail("auth_time did not grow: %.0f, then %.0f", a, b)
	}
	return s
}

func promptLogin(c *check) {
	first := c.happy(nil)
	c.sleep(time.Second)
	c.anew(first, params{"prompt": "login"})
}

func maxAge1(c *check) {
	first := c.happy(nil)
	c.sleep(2 * time.Second)
	second := c.anew(first, params{"max_age": "1"})
	if t, ok := second.id["auth_time"].(float64); !ok || c.now().Unix()-int64(t) > 301 {
		c.fail("auth_time of the second ID token is missing or old: %v", second.id["auth_time"])
	}
}

// uiRequired are the errors of prompt=none.
var uiRequired = []string{"interaction_required", "login_required", "account_selection_required", "consent_required"}

func promptNoneNotLoggedIn(c *check) {
	sent := c.request(params{"prompt": "none", "state": text(128-len(unmangled), alnum) + unmangled})
	c.refused(sent, c.authorize(sent), uiRequired...)
}

func acrValues(c *check) {
	all, ok := strs(c.discovery, "acr_values_supported")
	if !ok {
		all = []string{"1", "2"}
	}
	s := c.happy(params{"acr_values": strings.Join(all, " ")})
	if !slices.Contains(all, str(s.id, "acr")) {
		c.warn("acr is %q, asked for was one of %s", str(s.id, "acr"), strings.Join(all, ", "))
	}
}

func codeReuse(c *check) {
	s := c.happy(nil)
	a := c.post(c.client, s.exchange)
	if a.status == http.StatusOK {
		c.warn("the code works twice")
		return
	}
	c.denied(a, "invalid_grant")
}

func codeReuseLater(c *check) {
	s := c.happy(nil)
	c.sleep(c.cfg.Pause)
	c.denied(c.post(c.client, s.exchange), "invalid_grant")
	if a := c.fetch(http.MethodGet, c.text("userinfo_endpoint"), s.bearer(), nil); a.status/100 != 4 {
		c.warn("the first access token still works after the code came twice: status %d", a.status)
	}
}

func postRequest(c *check) {
	s := &signIn{sent: c.request(nil)}
	s.arrival = c.visit(visit{url: c.text("authorization_endpoint"), post: s.sent})
	if s.arrival.back == nil {
		c.warn("the authorization endpoint takes no POST: status %d, %q", s.arrival.status, s.arrival.page)
		return
	}
	c.finish(s, "")
}

// objectSkips ends the modules about unsigned request objects if the provider
// says that it takes none.
func (c *check) objectSkips() {
	if algs, ok := strs(c.discovery, "request_object_signing_alg_values_supported"); ok && !slices.Contains(algs, "none") {
		c.skip("request_object_signing_alg_values_supported lacks none")
	}
}

// unsigned is a request object without signature.
func unsigned(v url.Values, client, issuer string) string {
	claims := map[string]any{"iss": client, "aud": issuer}
	for name := range v {
		claims[name] = v.Get(name)
	}
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part([]byte(show(claims))) + "."
}

func requestObject(c *check) {
	c.objectSkips()
	s := &signIn{sent: c.request(nil)}
	outside := url.Values{"request": {unsigned(s.sent, c.client.ID, c.text("issuer"))}}
	for _, name := range []string{"client_id", "redirect_uri", "response_type", "scope"} {
		outside.Set(name, s.sent.Get(name))
	}
	s.arrival = c.authorize(outside)
	if b := s.arrival.back; b != nil && (b.query.Get("error") == "request_not_supported" || b.form().Get("error") == "request_not_supported") {
		c.skip("request objects are not supported")
	}
	c.finish(s, "")
	if c.discovery["request_parameter_supported"] != true {
		c.warn("request objects work, but request_parameter_supported is not true")
	}
}

func requestObjectRedirect(c *check) {
	c.objectSkips()
	s := &signIn{sent: c.request(nil)}
	outside := maps.Clone(s.sent)
	outside.Set("request", unsigned(s.sent, c.client.ID, c.text("issuer")))
	outside.Set("redirect_uri", s.sent.Get("redirect_uri")+"_invalid")
	if s.arrival = c.authorize(outside); s.arrival.back == nil {
		c.page(s.arrival)
		return
	}
	c.finish(s, "")
}

func claimsEssential(c *check) {
	s := c.happy(params{"claims": `{"userinfo":{"name":{"essential":true}}}`})
	if s.userinfo["name"] == nil {
		c.warn("userinfo lacks name, which the claims parameter asked for")
	}
	if s.id["name"] != nil {
		c.warn("the ID token has name, which was asked for in userinfo")
	}
}

func pkce(c *check) {
	verifier := text(124, alnum) + unmangled
	sum := sha256.Sum256([]byte(verifier))
	c.finish(c.begin(params{"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256"}), verifier)
}

func refresh(c *check) {
	if !c.lists("grant_types_supported", "refresh_token") {
		c.warn("grant_types_supported lacks refresh_token")
	}
	first := c.refreshAs(c.cfg.Client, true, text(10, alnum))
	second := c.refreshAs(c.cfg.Client2, false, text(39, alnum)+unmangled)
	if first == "" || second == "" {
		c.skip("there is no refresh token")
	}
	c.denied(c.post(c.cfg.Client, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {second}}), "invalid_grant")
}

// refreshAs signs in with a client, refreshes once and returns the refresh token
// that it has then.
func (c *check) refreshAs(by client, repeat bool, nonce string) string {
	c.client = by
	changes := params{"nonce": nonce}
	if c.lists("scopes_supported", "offline_access") {
		changes["scope"], changes["prompt"] = "openid offline_access", "consent"
	}
	s := c.happy(changes)
	token := str(s.tokens, "refresh_token")
	if token == "" {
		return ""
	}
	c.refreshToken(token)
	c.sleep(time.Second)
	v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	if repeat {
		v.Set("scope", s.sent.Get("scope"))
	}
	a := c.post(by, v)
	fresh := a.object()
	if a.status != http.StatusOK || fresh == nil || a.kind() != "application/json" {
		c.stop("refreshing: status %d, %q: %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	if !strings.Contains(a.header.Get("Cache-Control"), "no-store") {
		c.fail("the refresh answer may be cached: Cache-Control %q", a.header.Get("Cache-Control"))
	}
	access := str(fresh, "access_token")
	if !strings.EqualFold(str(fresh, "token_type"), "bearer") || bits(access) <= 96 || strings.ContainsFunc(access, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.fail("the refreshed access token is no good bearer token: type %q, %.0f bits", str(fresh, "token_type"), bits(access))
	}
	c.expiresIn(fresh)
	if fresh["expires_in"] == nil {
		c.warn("the refresh answer has no expires_in")
	}
	if next := str(fresh, "refresh_token"); next != "" {
		token = next
		c.refreshToken(token)
	}
	if raw := str(fresh, "id_token"); raw != "" {
		_, id := c.verify("refreshed ID token", raw)
		for _, name := range []string{"iss", "sub", "aud", "azp"} {
			if show(id[name]) != show(s.id[name]) {
				c.fail("%s of the refreshed ID token is %v, it was %v", name, show(id[name]), show(s.id[name]))
			}
		}
		if id["auth_time"] != nil && id["auth_time"] != s.id["auth_time"] {
			c.fail("auth_time of the refreshed ID token is %v, it was %v", show(id["auth_time"]), show(s.id["auth_time"]))
		}
		if id["iat"] == s.id["iat"] {
			c.fail("iat of the refreshed ID token is the old one")
		}
	}
	s.tokens = fresh
	c.userinfo(http.MethodGet, s.bearer(), nil)
	return token
}

func (c *check) refreshToken(token string) {
	if len(token) < 16 || bits(token) <= 96 || strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.fail("the refresh token has %d bytes and %.0f bits of entropy, or odd characters", len(token), bits(token))
	}
}
