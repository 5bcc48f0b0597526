package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A leaving is one way to ask for logout, and what has to come of it.
type leaving struct {
	change    func(*check, *signIn, url.Values) // of the good request
	back      bool                              // the browser comes back
	signedOut bool                              // nobody is signed in afterwards, once the person has said yes
}

func drop(names ...string) func(*check, *signIn, url.Values) {
	return func(_ *check, _ *signIn, v url.Values) {
		for _, name := range names {
			v.Del(name)
		}
	}
}

func put(name string, value func(*check, *signIn) string) func(*check, *signIn, url.Values) {
	return func(c *check, s *signIn, v url.Values) { v.Set(name, value(c, s)) }
}

// rpLogout is oidcc-rp-initiated-logout-certification-test-plan.
var rpLogout = []module{
	{name: "oidcc-rp-initiated-logout-discovery-endpoint-verification", run: func(c *check) { c.endSessionEndpoint() }},
	{name: "oidcc-rp-initiated-logout", run: logout(leaving{drop(), true, true}), chromium: true},
	{name: "oidcc-rp-initiated-logout-bad-post-logout-redirect-uri", run: logout(leaving{put("post_logout_redirect_uri", func(c *check, _ *signIn) string { return c.cfg.Callback + "/bad_post_logout_redirect_uri" }), false, false})},
	{name: "oidcc-rp-initiated-logout-modified-id-token-hint", run: logout(leaving{put("id_token_hint", withoutSignature), false, false})},
	{name: "oidcc-rp-initiated-logout-no-id-token-hint", run: logout(leaving{drop("id_token_hint"), false, false})},
	{name: "oidcc-rp-initiated-logout-no-params", run: logout(leaving{drop("id_token_hint", "post_logout_redirect_uri", "state"), false, true})},
	{name: "oidcc-rp-initiated-logout-no-post-logout-redirect-uri", run: logout(leaving{drop("post_logout_redirect_uri"), false, true})},
	{name: "oidcc-rp-initiated-logout-no-state", run: logout(leaving{drop("state"), true, true})},
	{name: "oidcc-rp-initiated-logout-only-state", run: logout(leaving{drop("id_token_hint", "post_logout_redirect_uri"), false, true})},
	{name: "oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri", run: logout(leaving{put("post_logout_redirect_uri", func(c *check, _ *signIn) string { return c.cfg.Callback + pathPostLogout + "?foo=bar" }), false, false})},
	{name: "oidcc-rp-initiated-logout-bad-id-token-hint", run: logout(leaving{put("id_token_hint", signedByClient), false, false})},
}

// backchannel is oidcc-backchannel-rp-initiated-logout-certification-test-plan.
var backchannel = []module{
	{name: "oidcc-backchannel-logout-discovery-endpoint-verification", run: func(c *check) {
		c.endSessionEndpoint()
		for _, name := range []string{"backchannel_logout_supported", "backchannel_logout_session_supported"} {
			if c.discovery[name] != true {
				c.fail("%s is %s, not true", name, show(c.discovery[name]))
			}
		}
	}},
	{name: "oidcc-backchannel-rp-initiated-logout", run: backchannelLogout, chromium: true},
}

func (c *check) endSessionEndpoint() {
	c.endpoints()
	if !https(c.text("end_session_endpoint")) {
		c.fail("end_session_endpoint %q is not an https URL", c.text("end_session_endpoint"))
	}
}

// punctuation is that of a logout's state: 21-7E without letters, digits, + and ;.
const punctuation = "!\"#$%&'()*,-./:<=>?@[\\]^_`{|}~"

// leave has somebody sign in, and returns that with a good logout request.
func (c *check) leave() (*signIn, url.Values) {
	if c.text("end_session_endpoint") == "" {
		c.stop("there is no end_session_endpoint")
	}
	s := c.happy(params{"state": text(128-len(unmangled), alnum) + unmangled})
	return s, url.Values{
		"id_token_hint": {s.raw}, "post_logout_redirect_uri": {c.cfg.Callback + pathPostLogout},
		"state": {text(50, letters) + text(10, digits) + punctuation[:30]},
	}
}

func logout(l leaving) func(*check) {
	return func(c *check) {
		s, v := c.leave()
		l.change(c, s, v)
		to := withQuery(c.text("end_session_endpoint"), v.Encode())
		if l.back {
			c.left(c.visit(visit{url: to}), v)
		} else {
			// First what the page is, then what comes of saying yes to it.
			a := c.visit(visit{url: to, silent: true})
			c.page(a)
			if a.waits {
				if then := c.visit(visit{}); then.back != nil {
					c.fail("having said yes, the browser was sent to %s", then.back.path)
				}
			}
		}
		if l.signedOut {
			c.loggedOut()
		}
	}
}

// left demands that a logout led back, with state and nothing else.
func (c *check) left(a *arrival, sent url.Values) {
	if a.back == nil || a.back.path != pathPostLogout {
		c.stop("the browser was not sent to the post-logout redirect URI, it is at %s: status %d, %q", origin(a.at), a.status, a.page)
	}
	if a.back.query.Get("state") != sent.Get("state") || a.back.query.Has("state") != sent.Has("state") {
		c.fail("state came back as %q, sent was %q", a.back.query.Get("state"), sent.Get("state"))
	}
	for name := range a.back.query {
		if name != "state" {
			c.warn("the post-logout redirect has the parameter %s", name)
		}
	}
}

// loggedOut demands that prompt=none finds nobody.
func (c *check) loggedOut() {
	sent := c.request(params{"prompt": "none"})
	a := c.authorize(sent)
	if a.back != nil && (a.back.query.Has("code") || a.back.form().Has("code")) {
		c.fail("the person is still signed in")
		return
	}
	c.refused(sent, a, uiRequired...)
}

// withoutSignature is the ID token with alg none.
func withoutSignature(_ *check, s *signIn) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg": "none"}`)) + "." + strings.Split(s.raw, ".")[1] + "."
}

// signedByClient is an ID token that the client made itself, with its secret.
func signedByClient(c *check, s *signIn) string {
	claims := map[string]any{}
	for name, v := range s.id {
		claims[name] = v
	}
	claims["iss"], claims["aud"] = c.client.ID, c.text("issuer")
	part := base64.RawURLEncoding.EncodeToString
	token := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part([]byte(show(claims)))
	mac := hmac.New(sha256.New, []byte(c.client.Secret))
	_, _ = io.WriteString(mac, token) // a hash takes everything
	return token + "." + part(mac.Sum(nil))
}

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

func backchannelLogout(c *check) {
	s, v := c.leave()
	a := c.visit(visit{url: withQuery(c.text("end_session_endpoint"), v.Encode())})
	got := c.listen.backchannel(c.ctx, c.patience)
	if got == nil {
		c.stop("nobody called %s%s", c.cfg.Callback, pathBackchannel)
	}
	if got.tls != 0 && got.tls != tls.VersionTLS13 {
		c.warn("the call came by %s", tls.VersionName(got.tls))
	}
	form := got.form()
	for name := range form {
		if name != "logout_token" {
			c.warn("the call has the parameter %s", name)
		}
	}
	header, claims := c.verify("logout token", form.Get("logout_token"))
	c.logoutToken(s, header, claims)
	c.left(a, v)
	c.loggedOut()
}

func (c *check) logoutToken(s *signIn, header, claims map[string]any) {
	if str(claims, "iss") != c.text("issuer") {
		c.fail("iss of the logout token is %q, not the issuer", str(claims, "iss"))
	}
	c.audience("logout token", claims)
	iat, ok := claims["iat"].(float64)
	if t := time.Unix(int64(iat), 0); !ok || t.Before(c.now().AddDate(0, 0, -1)) || t.After(c.now().Add(skew)) {
		c.fail("iat of the logout token is %v", claims["iat"])
	}
	if claims["jti"] == nil {
		c.fail("the logout token has no jti")
	}
	if events, _ := claims["events"].(map[string]any); len(events) != 1 || show(events[logoutEvent]) != "{}" {
		c.fail("events of the logout token is %s", show(claims["events"]))
	}
	if claims["nonce"] != nil {
		c.fail("the logout token has a nonce")
	}
	if claims["sub"] == nil && claims["sid"] == nil {
		c.fail("the logout token has neither sub nor sid")
	}
	for _, name := range []string{"sub", "sid"} {
		if claims[name] != nil && claims[name] != s.id[name] {
			c.fail("%s of the logout token is %v, of the ID token %v", name, claims[name], s.id[name])
		}
	}
	// The suite does not look at these two, the specification demands them.
	if exp, ok := claims["exp"].(float64); !ok || exp < iat || exp > iat+float64(10*60) {
		c.warn("exp of the logout token is missing or far away: %v", claims["exp"])
	}
	if typ := str(header, "typ"); !slices.Contains([]string{"logout+jwt", "JWT"}, typ) {
		c.warn("typ of the logout token is %q", typ)
	}
}
