package main

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
)

// beyond is no plan of the suite's: what a provider has to do and the suite does
// not see.
var beyond = []module{
	{name: "beyond-client-authentication", run: clientAuthentication},
	{name: "beyond-code-bound-to-client", run: func(c *check) {
		s := c.begin(nil)
		s.code = c.code(s.sent, s.arrival)
		c.denied(c.post(c.cfg.Client2, url.Values{"grant_type": {"authorization_code"}, "code": {s.code}, "redirect_uri": {s.sent.Get("redirect_uri")}}), "invalid_grant")
	}},
	{name: "beyond-code-bound-to-redirect-uri", run: func(c *check) {
		s := c.begin(nil)
		s.code = c.code(s.sent, s.arrival)
		c.denied(c.post(c.client, url.Values{"grant_type": {"authorization_code"}, "code": {s.code}, "redirect_uri": {s.sent.Get("redirect_uri") + "x"}}), "invalid_grant")
	}},
	{name: "beyond-pkce-wrong-verifier", run: func(c *check) {
		sum := sha256.Sum256([]byte(text(64, alnum)))
		s := c.begin(params{"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256"})
		s.code = c.code(s.sent, s.arrival)
		c.denied(c.post(c.client, url.Values{"grant_type": {"authorization_code"}, "code": {s.code}, "redirect_uri": {s.sent.Get("redirect_uri")}, "code_verifier": {text(64, alnum)}}), "invalid_grant")
	}},
	{name: "beyond-issuer-in-answers", run: issuerInAnswers},
	{name: "beyond-session-id", run: sessionID},
	{name: "beyond-cookies", run: cookies},
	{name: "beyond-logout-asks", run: logoutAsks},
	{name: "beyond-end-session-post", run: endSessionPost, chromium: true},
}

func clientAuthentication(c *check) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {"x"}, "redirect_uri": {c.cfg.Callback + pathCallback}}
	for _, by := range []client{
		{c.client.ID, c.client.Secret + "x", false}, {c.client.ID, c.client.Secret + "x", true},
		{"nobody", c.client.Secret, false}, {c.client.ID, "", true},
	} {
		a := c.post(by, form)
		c.denied(a, "invalid_client")
		if !by.post && (a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "") {
			c.fail("wrong credentials in the Authorization header get status %d, WWW-Authenticate %q", a.status, a.header.Get("WWW-Authenticate"))
		}
	}
}

// issuerInAnswers is RFC 9207.
func issuerInAnswers(c *check) {
	if c.discovery["authorization_response_iss_parameter_supported"] != true {
		c.skip("authorization_response_iss_parameter_supported is not true")
	}
	for _, prompt := range []string{"none", ""} { // an error and a success
		sent := c.request(params{"prompt": prompt})
		if got := c.back(sent, c.authorize(sent)); got.Get("iss") != c.text("issuer") {
			c.fail("iss of the answer is %q", got.Get("iss"))
		}
	}
}

// sessionID demands that sid names the session: the same for two clients in one
// browser, another after signing in anew.
func sessionID(c *check) {
	first := c.happy(nil)
	if first.id["sid"] == nil {
		c.skip("the ID token has no sid")
	}
	c.client = c.cfg.Client2
	if second := c.happy(nil); second.id["sid"] != first.id["sid"] {
		c.fail("two clients in one session have the sids %v and %v", first.id["sid"], second.id["sid"])
	}
	c.client, c.browser = c.cfg.Client, newPlainBrowser(c.runner)
	if other := c.happy(nil); other.id["sid"] == first.id["sid"] {
		c.fail("two sessions have the same sid")
	}
}

func cookies(c *check) {
	for _, k := range c.begin(nil).arrival.setting {
		if k.MaxAge >= 0 && k.Value != "" && (!k.HttpOnly || !k.Secure && https(c.text("issuer")) || k.SameSite == http.SameSiteNoneMode) {
			c.fail("the cookie %s can be read or sent where it should not be: %s", k.Name, k.Raw)
		}
	}
}

// logoutAsks demands that a bare link ends no session before its person said yes:
// an image on any page could do it.
func logoutAsks(c *check) {
	first, _ := c.leave()
	c.visit(visit{url: c.text("end_session_endpoint"), silent: true})
	c.again(first, params{"prompt": "none"})
}

// endSessionPost is RP-Initiated Logout 2: the endpoint takes POST as well.
func endSessionPost(c *check) {
	_, v := c.leave()
	c.left(c.visit(visit{url: c.text("end_session_endpoint"), post: v}), v)
	c.loggedOut()
}
