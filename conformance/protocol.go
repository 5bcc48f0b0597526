package main

import (
	"crypto"
	"crypto/rand"
	_ "crypto/sha512" // of at_hash
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The steps that modules have in common, as conformance.md §1.2 names them.

const (
	skew      = 5 * time.Minute
	unmangled = "-._~" // the end of a state or nonce that must come back as it was
)

// An answer is what a program gets from an endpoint.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) kind() string {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return kind
}

// object is the body as a JSON object, nil if it is none.
func (a *answer) object() map[string]any {
	var m map[string]any
	if json.Unmarshal(a.body, &m) != nil {
		return nil
	}
	return m
}

// fetch sends a program's request. auth is an Authorization header, or "".
func (c *check) fetch(verb, to, auth string, form url.Values) *answer {
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(c.ctx, verb, to, body)
	if err != nil {
		c.stop("%s: %v", to, err)
	}
	req.Header.Set("Accept", "application/json")
	if verb == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.stop("%v", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		c.stop("%s: %v", to, err)
	}
	return &answer{res.StatusCode, res.Header, text}
}

// text is a string member of the discovery document.
func (c *check) text(name string) string { return str(c.discovery, name) }

func str(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// strs is an array of strings.
func strs(m map[string]any, name string) (all []string, present bool) {
	list, present := m[name].([]any)
	for _, v := range list {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all, present
}

func (c *check) lists(name, value string) bool {
	all, _ := strs(c.discovery, name)
	return slices.Contains(all, value)
}

const wellKnown = "/.well-known/openid-configuration"

// setUp is SETUP: the discovery document and the keys.
func (c *check) setUp() *answer {
	a := c.fetch(http.MethodGet, strings.TrimSuffix(c.cfg.Issuer, "/")+wellKnown, "", nil)
	if c.discovery = a.object(); c.discovery == nil {
		c.stop("the discovery document is no JSON object (status %d)", a.status)
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "issuer"} {
		if u, err := url.Parse(c.text(name)); err != nil || u.Host == "" {
			c.stop("%s of the discovery document is no URL: %q", name, c.text(name))
		}
	}
	c.readKeys()
	method := "client_secret_basic"
	if c.client.post {
		method = "client_secret_post"
	}
	if all, ok := strs(c.discovery, "token_endpoint_auth_methods_supported"); ok && !slices.Contains(all, method) {
		c.fail("token_endpoint_auth_methods_supported lacks %s", method)
	}
	return a
}

// keyMembers are what a key of a type has to have.
var keyMembers = map[string][]string{"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}

func (c *check) readKeys() {
	c.keys = nil
	set := c.fetch(http.MethodGet, c.text("jwks_uri"), "", nil).object()
	if set == nil {
		c.stop("jwks_uri %q is no JSON object", c.text("jwks_uri"))
	}
	list, ok := set["keys"].([]any)
	if !ok || len(list) == 0 {
		c.fail("the JWKS has no keys")
	}
	seen := map[string]bool{}
	for _, v := range list {
		key, ok := v.(map[string]any)
		if !ok {
			c.fail("the JWKS holds what is no key")
			continue
		}
		kid := str(key, "kid")
		if strings.TrimSpace(kid) == "" {
			c.fail("a key has no kid")
		} else if seen[kid] {
			c.fail("two keys have the kid %s", kid)
		}
		seen[kid] = true
		for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
			if key[secret] != nil {
				c.fail("key %s is published with its private or symmetric member %s", kid, secret)
			}
		}
		members, known := keyMembers[str(key, "kty")]
		if !known {
			c.warn("key %s has the unknown type %q", kid, str(key, "kty"))
		}
		for _, name := range members {
			if b, err := base64.RawURLEncoding.DecodeString(str(key, name)); name != "crv" && (err != nil || len(b) == 0) {
				c.fail("member %s of key %s is not base64url", name, kid)
			}
		}
		if _, err := parseKey(key); known && err != nil {
			c.fail("key %s: %v", kid, err)
			continue
		}
		c.keys = append(c.keys, key)
	}
}

func parseKey(key map[string]any) (*jose.JSONWebKey, error) {
	text, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	k := &jose.JSONWebKey{}
	return k, k.UnmarshalJSON(text)
}

// verify checks the signature of a JWT with the published keys and returns its
// header and claims.
func (c *check) verify(what, token string) (header, claims map[string]any) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		c.stop("the %s is no JWT", what)
	}
	for i, to := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, to) != nil {
			c.stop("the %s is no JWT", what)
		}
	}
	alg, kid := str(header, "alg"), str(header, "kid")
	kty := map[byte]string{'R': "RSA", 'P': "RSA", 'E': "EC"}[(alg + " ")[0]]
	if alg == "EdDSA" {
		kty = "OKP"
	}
	var fitting []map[string]any
	for _, key := range c.keys {
		if str(key, "kty") == kty && (kid == "" || str(key, "kid") == kid) &&
			(key["alg"] == nil || str(key, "alg") == alg) && (key["use"] == nil || str(key, "use") == "sig") {
			fitting = append(fitting, key)
		}
	}
	if len(fitting) == 0 {
		c.fail("no published key fits the %s: alg %q, kid %q", what, alg, kid)
		return header, claims
	}
	if len(fitting) > 1 && kid != "" {
		c.fail("%d keys fit the %s: alg %q, kid %q", len(fitting), what, alg, kid)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		c.fail("the %s: %v", what, err)
		return header, claims
	}
	for _, key := range fitting {
		if k, err := parseKey(key); err == nil {
			if _, err = jws.Verify(k); err == nil {
				return header, claims
			}
		}
	}
	c.fail("the signature of the %s is wrong: alg %q, kid %q", what, alg, kid)
	return header, claims
}

// params are parameters of a request; an empty one is left out.
type params map[string]string

// request is a whole authorization request with these changes.
func (c *check) request(changes params) url.Values {
	v := url.Values{
		"client_id": {c.client.ID}, "nonce": {text(10, alnum)}, "redirect_uri": {c.cfg.Callback + pathCallback},
		"response_type": {"code"}, "scope": {"openid"}, "state": {text(10, alnum)},
	}
	if c.formPost {
		v.Set("response_mode", "form_post")
	}
	for name, value := range changes {
		v.Set(name, value)
		if value == "" {
			v.Del(name)
		}
	}
	return v
}

func withQuery(address, query string) string {
	if strings.Contains(address, "?") {
		return address + "&" + query
	}
	return address + "?" + query
}

// authorize is AUTHZ: the browser goes to the authorization endpoint.
func (c *check) authorize(v url.Values) *arrival {
	return c.visit(visit{url: withQuery(c.text("authorization_endpoint"), v.Encode()), silent: v.Get("prompt") == "none"})
}

// back is the answer that the browser brought, by the rules of CB and ERR for
// how it comes.
func (c *check) back(sent url.Values, a *arrival) url.Values {
	if a.back == nil {
		c.stop("the browser was not sent back, it is at %s: status %d, %q", origin(a.at), a.status, a.page)
	}
	got := a.back.query
	if a.back.path != pathCallback {
		c.fail("the browser was sent to %s", a.back.path)
	}
	if sent.Get("response_mode") == "form_post" {
		if a.back.method != http.MethodPost {
			c.fail("the answer came by %s, not by POST", a.back.method)
		} else if a.back.contentType != "application/x-www-form-urlencoded" {
			c.fail("the answer has the content type %q", a.back.contentType)
		}
		for _, name := range []string{"code", "error"} {
			if got.Has(name) {
				c.fail("%s stands in the URL in spite of form_post", name)
			}
		}
		if got = a.back.form(); a.back.method != http.MethodPost {
			got = a.back.query
		}
	} else if a.back.method != http.MethodGet {
		c.fail("the answer came by %s", a.back.method)
	}
	if iss := got.Get("iss"); got.Has("iss") && iss != c.text("issuer") {
		c.fail("iss is %q, not the issuer", iss)
	}
	if got.Get("state") != sent.Get("state") || got.Has("state") != sent.Has("state") {
		c.fail("state came back as %q, sent was %q", got.Get("state"), sent.Get("state"))
	}
	return got
}

// code is CB: the code that the browser brought.
func (c *check) code(sent url.Values, a *arrival) string {
	got := c.back(sent, a)
	if got.Has("error") {
		c.stop("error %s: %s", got.Get("error"), got.Get("error_description"))
	}
	if got.Get("code") == "" {
		c.stop("the answer has no code")
	}
	return got.Get("code")
}

// refused is ERR: the browser brought one of these errors.
func (c *check) refused(sent url.Values, a *arrival, allowed ...string) {
	got := c.back(sent, a)
	if got.Has("code") {
		c.fail("there is a code where an error has to be")
	}
	if !slices.Contains(allowed, got.Get("error")) {
		c.fail("error is %q, it has to be one of %s", got.Get("error"), strings.Join(allowed, ", "))
	}
	for name := range got {
		if !slices.Contains([]string{"error", "error_description", "error_uri", "state", "session_state", "iss", "code"}, name) {
			c.warn("the error comes with the parameter %q", name)
		}
	}
	c.wording(got.Get("error_description"), got.Get("error_uri"))
}

// wording checks the characters of an error's texts (RFC 6749 4.1.2.1, 5.2).
func (c *check) wording(description, uri string) {
	if strings.ContainsAny(description, "\r\n\t") {
		c.warn("error_description has line breaks or tabs")
	}
	bad := func(r rune) bool {
		return r == '"' || r == '\\' || r > '~' || r < ' ' && !strings.ContainsRune("\r\n\t", r)
	}
	if strings.ContainsFunc(description, bad) || strings.ContainsFunc(uri, bad) || strings.Contains(uri, " ") {
		c.fail("error_description or error_uri has characters that it may not have: %q, %q", description, uri)
	}
}

// page demands a page that explains itself and led nowhere. The suite wants a
// picture of it; a page with the status of an error is plain without one.
func (c *check) page(a *arrival) {
	switch {
	case a.back != nil:
		c.fail("the browser was sent to %s with %s", a.back.path, a.back.query.Encode())
	case a.kind != "text/html" || a.status != http.StatusOK && a.status/100 != 4:
		c.fail("status %d, content type %q: that is no page for a person", a.status, a.kind)
	case a.status == http.StatusOK:
		c.review("does this page say what went wrong, or ask? %q", a.page)
	default:
		c.info("error page, status %d: %q", a.status, a.page)
	}
}

// post sends a request to the token endpoint with the client's credentials.
func (c *check) post(by client, form url.Values) *answer {
	v := url.Values{}
	for name := range form {
		v.Set(name, form.Get(name))
	}
	if by.post {
		v.Set("client_id", by.ID)
		v.Set("client_secret", by.Secret)
		return c.fetch(http.MethodPost, c.text("token_endpoint"), "", v)
	}
	pair := url.QueryEscape(by.ID) + ":" + url.QueryEscape(by.Secret)
	return c.fetch(http.MethodPost, c.text("token_endpoint"), "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)), v)
}

// denied demands an error of the token endpoint.
func (c *check) denied(a *answer, code string) {
	o := a.object()
	if a.status != http.StatusBadRequest && (code != "invalid_client" || a.status != http.StatusUnauthorized) {
		c.fail("the token endpoint answers with status %d, not 400", a.status)
	}
	if a.kind() != "application/json" || o == nil {
		c.fail("the error of the token endpoint is no JSON: %q", a.header.Get("Content-Type"))
	}
	if str(o, "error") != code {
		c.fail("the token endpoint's error is %q, not %s", str(o, "error"), code)
	}
	c.wording(str(o, "error_description"), str(o, "error_uri"))
}

// A signIn is a happy path, so far as it went.
type signIn struct {
	sent     url.Values
	arrival  *arrival
	code     string
	exchange url.Values // the token request
	tokens   map[string]any
	raw      string // ID token
	header   map[string]any
	id       map[string]any
	userinfo map[string]any
}

// tokens is TOKEN and IDT.
func (c *check) tokens(s *signIn, verifier string) {
	s.exchange = url.Values{"grant_type": {"authorization_code"}, "code": {s.code}, "redirect_uri": {s.sent.Get("redirect_uri")}}
	if verifier != "" {
		s.exchange.Set("code_verifier", verifier)
	}
	a := c.post(c.client, s.exchange)
	if s.tokens = a.object(); a.status != http.StatusOK || s.tokens == nil || s.tokens["error"] != nil {
		c.stop("the token endpoint answers with status %d: %s", a.status, a.body)
	}
	if str(s.tokens, "access_token") == "" || str(s.tokens, "token_type") == "" {
		c.stop("the token endpoint's answer lacks access_token or token_type")
	}
	c.expiresIn(s.tokens)
	if s.raw = str(s.tokens, "id_token"); s.raw == "" {
		c.stop("the token endpoint's answer has no ID token")
	}
	s.header, s.id = c.idToken(s.raw, s.sent)
}

func (c *check) expiresIn(tokens map[string]any) {
	n, number := tokens["expires_in"].(float64)
	switch {
	case tokens["expires_in"] == nil:
		c.info("the token endpoint's answer has no expires_in")
	case !number || n < 1 || n > 31536000:
		c.fail("expires_in is %v", tokens["expires_in"])
	}
}

// idToken is IDT.
func (c *check) idToken(raw string, sent url.Values) (header, id map[string]any) {
	header, id = c.verify("ID token", raw)
	if str(id, "iss") != c.text("issuer") {
		c.fail("iss of the ID token is %q, not the issuer", str(id, "iss"))
	}
	c.audience("ID token", id)
	now := c.now()
	at := func(name string) (time.Time, bool) {
		n, ok := id[name].(float64)
		if id[name] != nil && !ok {
			c.fail("%s of the ID token is no number", name)
		}
		return time.Unix(int64(n), 0), ok
	}
	if exp, ok := at("exp"); !ok || exp.Before(now.Add(-skew)) || exp.After(now.AddDate(50, 0, 0)) {
		c.fail("exp of the ID token is missing, past or absurd: %v", id["exp"])
	}
	if iat, ok := at("iat"); !ok || iat.After(now.Add(skew)) || iat.Before(now.Add(-skew)) {
		c.fail("iat of the ID token is missing or not now: %v", id["iat"])
	}
	if auth, ok := at("auth_time"); ok && (auth.After(now.Add(skew)) || auth.Before(now.AddDate(-1, 0, 0))) {
		c.fail("auth_time of the ID token is absurd: %v", id["auth_time"])
	}
	if id["acr"] != nil && str(id, "acr") == "" {
		c.fail("acr of the ID token is no text: %v", id["acr"])
	}
	if nonce := sent.Get("nonce"); str(id, "nonce") != nonce || (id["nonce"] != nil) != (nonce != "") {
		c.fail("nonce of the ID token is %v, sent was %q", id["nonce"], nonce)
	}
	sub := str(id, "sub")
	if sub == "" || len(sub) > 255 || strings.ContainsFunc(sub, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.fail("sub of the ID token is %v", id["sub"])
	}
	c.claimTypes("ID token", id)
	return header, id
}

func (c *check) audience(what string, claims map[string]any) {
	all, _ := strs(claims, "aud")
	if str(claims, "aud") != c.client.ID && !slices.Contains(all, c.client.ID) {
		c.fail("aud of the %s is %v, not the client", what, claims["aud"])
	}
}

// claimsOf are the standard claims of the scopes (OIDC Core 5.4).
var claimsOf = map[string][]string{
	"profile": {"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at"},
	"email":   {"email", "email_verified"},
	"phone":   {"phone_number", "phone_number_verified"},
	"address": {"address"},
}

// claimTypes checks the types of standard claims (OIDC Core 5.1).
func (c *check) claimTypes(where string, claims map[string]any) {
	for name := range claims {
		if !slices.ContainsFunc(slices.Collect(mapValues(claimsOf)), func(all []string) bool { return slices.Contains(all, name) }) {
			continue
		}
		good := false
		switch v := claims[name].(type) {
		case bool:
			good = name == "email_verified" || name == "phone_number_verified"
		case float64:
			t := time.Unix(int64(v), 0)
			good = name == "updated_at" && t.Year() >= 1990 && t.Before(c.now().Add(skew))
		case map[string]any:
			good = name == "address"
			for _, part := range v {
				s, ok := part.(string)
				good = good && ok && s != ""
			}
		case string:
			good = strings.TrimSpace(v) != "" && v != "null" && !slices.Contains([]string{"email_verified", "phone_number_verified", "updated_at", "address"}, name)
			if name == "birthdate" {
				_, day := time.Parse(time.DateOnly, strings.Replace(v, "0000", "2000", 1))
				year, justYear := time.Parse("2006", v)
				good = day == nil || justYear == nil && year.Year() >= 1850 && year.Before(c.now())
			}
		}
		if !good {
			c.fail("%s in the %s is %v", name, where, claims[name])
		}
	}
}

func mapValues(m map[string][]string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// userinfo is UI, and what oidcc-userinfo-get checks of its answer.
func (c *check) userinfo(verb, auth string, form url.Values) map[string]any {
	if c.text("userinfo_endpoint") == "" {
		c.stop("there is no userinfo_endpoint")
	}
	return c.claims(c.fetch(verb, c.text("userinfo_endpoint"), auth, form))
}

func (c *check) claims(a *answer) map[string]any {
	o := a.object()
	if a.status != http.StatusOK {
		c.fail("the userinfo endpoint answers with status %d", a.status)
	}
	if a.kind() != "application/json" {
		c.fail("the userinfo endpoint answers with %q", a.header.Get("Content-Type"))
	}
	if o == nil {
		c.stop("the userinfo endpoint's answer is no JSON object")
	}
	if str(o, "sub") == "" {
		c.fail("the userinfo endpoint's answer has no sub")
	}
	if (o["_claim_names"] == nil) != (o["_claim_sources"] == nil) {
		c.fail("_claim_names and _claim_sources belong together")
	}
	c.claimTypes("userinfo", o)
	return o
}

func (s *signIn) bearer() string {
	return str(s.tokens, "token_type") + " " + str(s.tokens, "access_token")
}

// happy is the whole happy path, but SETUP, with these changes to the request.
func (c *check) happy(changes params) *signIn { return c.finish(c.begin(changes), "") }

func (c *check) begin(changes params) *signIn {
	s := &signIn{sent: c.request(changes)}
	s.arrival = c.authorize(s.sent)
	return s
}

func (c *check) finish(s *signIn, verifier string) *signIn {
	s.code = c.code(s.sent, s.arrival)
	c.tokens(s, verifier)
	s.userinfo = c.userinfo(http.MethodGet, s.bearer(), nil)
	return s
}

// bits is the Shannon entropy of a text.
func bits(s string) float64 {
	count := map[rune]float64{}
	for _, r := range s {
		count[r]++
	}
	sum := 0.0
	for _, n := range count {
		p := n / float64(len(s))
		sum -= p * math.Log2(p)
	}
	return sum * float64(len(s))
}

// half is the at_hash or c_hash of a value under a JWT's algorithm.
func half(alg, value string) string {
	h := crypto.SHA256
	if strings.HasSuffix(alg, "384") {
		h = crypto.SHA384
	} else if strings.HasSuffix(alg, "512") || alg == "EdDSA" {
		h = crypto.SHA512
	}
	w := h.New()
	_, _ = io.WriteString(w, value) // a hash takes everything
	sum := w.Sum(nil)
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
	alnum   = letters + digits
)

// text is n random characters of an alphabet.
func text(n int, alphabet string) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it does not fail
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// backwards is a query with its parameters in reverse order.
func backwards(v url.Values) string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	sort.Sort(sort.Reverse(sort.StringSlice(names)))
	for i, name := range names {
		names[i] = url.QueryEscape(name) + "=" + url.QueryEscape(v.Get(name))
	}
	return strings.Join(names, "&")
}

func missing(m map[string]any, names []string) (all []string) {
	for _, name := range names {
		if m[name] == nil {
			all = append(all, name)
		}
	}
	return all
}

func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
