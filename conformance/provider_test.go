package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A provider is a small one that does everything right, except for one thing.
type provider struct {
	t        *testing.T
	site     *httptest.Server
	callback string
	defect   string // what it does wrong, "" for nothing
	met      bool   // whether it came to that
	key      *ecdsa.PrivateKey
	clients  map[string]string // secrets by id

	mu       sync.Mutex
	ahead    time.Duration // of its clock
	sessions map[string]*session
	codes    map[string]*grant
	access   map[string]*grant
	refresh  map[string]*grant
}

type session struct {
	id       string
	authTime time.Time
	to       []string // clients
}

type grant struct {
	sent    url.Values
	session *session
	used    bool
	ended   bool
}

var signingKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

func newProvider(t *testing.T, callback, defect string) *provider {
	p := &provider{
		t: t, callback: callback, defect: defect, key: signingKey(),
		clients:  map[string]string{"one": strings.Repeat("1", 32), "two": strings.Repeat("2", 32), "three": strings.Repeat("3", 32)},
		sessions: map[string]*session{}, codes: map[string]*grant{}, access: map[string]*grant{}, refresh: map[string]*grant{},
	}
	p.site = httptest.NewTLSServer(p)
	t.Cleanup(p.site.Close)
	return p
}

// is reports whether the defect is this one.
func (p *provider) is(defect string) bool {
	p.met = p.met || defect == p.defect
	return defect == p.defect
}

// become makes it wrong in another way.
func (p *provider) become(defect string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.defect = defect
}

func (p *provider) now() time.Time { return time.Now().Add(p.ahead) }

// sleep passes the time without waiting.
func (p *provider) sleep(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead += d
}

func (p *provider) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now()
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // what is no form has no fields
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.URL.Path {
	case wellKnown:
		p.reply(w, 200, p.metadata())
	case "/jwks":
		p.reply(w, 200, map[string]any{"keys": p.published()})
	case "/authorize", "/login":
		p.authorize(w, r)
	case "/token":
		p.token(w, r)
	case "/userinfo":
		p.userinfo(w, r)
	case "/end_session", "/leave":
		p.endSession(w, r)
	default:
		w.WriteHeader(404)
	}
}

func (p *provider) reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	if !p.is("refresh answer may be cached") {
		w.Header().Set("Cache-Control", "no-store")
	}
	if status == 401 {
		w.Header().Set("WWW-Authenticate", "Basic")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (p *provider) page(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.is("policy forbids scripts") {
		w.Header().Set("Content-Security-Policy", "script-src 'none'")
	}
	w.WriteHeader(status)
	fmt.Fprint(w, "<!doctype html><title>Provider</title><body>", body)
}

func (p *provider) metadata() map[string]any {
	at := p.site.URL
	m := map[string]any{
		"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "userinfo_endpoint": at + "/userinfo",
		"jwks_uri": at + "/jwks", "end_session_endpoint": at + "/end_session", "response_types_supported": []string{"code"},
		"scopes_supported":         []string{"openid", "profile", "email", "phone", "address", "offline_access"},
		"response_modes_supported": []string{"query", "form_post"}, "grant_types_supported": []string{"authorization_code", "refresh_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256", "RS256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"}, "code_challenge_methods_supported": []string{"S256"},
		"request_object_signing_alg_values_supported": []string{"RS256", "none"}, "claims_supported": []string{"sub"}, "ui_locales_supported": []string{"en-GB"},
		"authorization_response_iss_parameter_supported": true, "backchannel_logout_supported": true, "backchannel_logout_session_supported": true,
		"acr_values_supported": []string{"1"}, "request_parameter_supported": true, "claims_parameter_supported": true,
	}
	for defect, edit := range map[string][2]any{
		"issuer differs":             {"issuer", "https://other.example"},
		"no RS256":                   {"id_token_signing_alg_values_supported", []string{"ES256"}},
		"endpoint by http":           {"introspection_endpoint", "http://id.example/introspect"},
		"scopes as text":             {"scopes_supported", "openid"},
		"no such locale":             {"ui_locales_supported", []string{"no_such_locale_at_all"}},
		"no end of sessions":         {"end_session_endpoint", nil},
		"no back-channel":            {"backchannel_logout_supported", false},
		"post not in the metadata":   {"token_endpoint_auth_methods_supported", []string{"client_secret_basic"}},
		"unknown member":             {"colour", "blue"},
		"authorization without URL":  {"authorization_endpoint", "authorize"},
		"request objects not listed": {"request_object_signing_alg_values_supported", []string{"RS256"}},
	} {
		if p.is(defect) {
			m[edit[0].(string)] = edit[1]
		}
	}
	return m
}

func (p *provider) published() (keys []map[string]any) {
	text, err := jose.JSONWebKey{Key: p.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}.MarshalJSON()
	if p.is("private key published") {
		text, err = jose.JSONWebKey{Key: p.key, KeyID: "k", Algorithm: "ES256", Use: "sig"}.MarshalJSON()
	}
	key := map[string]any{}
	if err != nil || json.Unmarshal(text, &key) != nil {
		p.t.Error(err)
	}
	switch {
	case p.is("no kid"):
		delete(key, "kid")
	case p.is("kid twice"):
		keys = append(keys, key)
	case p.is("key for encryption"):
		key["use"] = "enc"
	case p.is("key is no point"):
		key["x"] = key["y"]
	}
	return append(keys, key)
}

func (p *provider) sign(typ string, claims map[string]any) string {
	key := p.key
	if p.is("wrong signature") || p.is("wrong signature of the logout token") && typ != "JWT" {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		p.t.Error(err)
		return ""
	}
	jws, err := s.Sign([]byte(show(claims)))
	if err != nil {
		p.t.Error(err)
		return ""
	}
	token, _ := jws.CompactSerialize()
	return token
}

func (p *provider) session(r *http.Request) *session {
	if k, err := r.Cookie("session"); err == nil {
		return p.sessions[k.Value]
	}
	return nil
}

func (p *provider) begin(w http.ResponseWriter) *session {
	s := &session{id: text(20, alnum), authTime: p.now()}
	token := text(30, alnum)
	p.sessions[token] = s
	http.SetCookie(w, &http.Cookie{Name: "session", Value: token, Path: "/", Secure: true, HttpOnly: !p.is("cookie for scripts"), SameSite: http.SameSiteLaxMode})
	return s
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	v := r.Form
	if r.URL.Path == "/login" {
		v, _ = url.ParseQuery(r.PostFormValue("request"))
	} else if r.Method == "POST" {
		if !p.is("authorize takes no POST") {
			http.Redirect(w, r, "/authorize?"+v.Encode(), http.StatusSeeOther)
		}
		return
	}
	if token := v.Get("request"); token != "" && !p.is("request object ignored") {
		inner := map[string]string{}
		b, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if json.Unmarshal(b, &inner) == nil {
			v = maps.Clone(v)
			v.Del("request")
			for name, value := range inner {
				v.Set(name, value)
			}
		}
	}
	if p.clients[v.Get("client_id")] == "" || v.Get("redirect_uri") != p.callback+pathCallback && !p.is("redirects anywhere") {
		p.page(w, map[bool]int{true: 500, false: 400}[p.is("error page by accident")], "This link is broken")
		return
	}
	refuse := func(code, description string) {
		p.answer(w, r, v, url.Values{"error": {code}, "error_description": {description}})
	}
	switch {
	case v.Get("response_type") == "":
		if p.is("error of its own") {
			refuse("broken", `say "code"`)
			return
		}
		refuse("invalid_request", "response_type is missing")
		return
	case p.is("nonce demanded") && v.Get("nonce") == "", p.is("PKCE refused") && v.Has("code_challenge"), p.is("acr refused") && v.Has("acr_values"),
		p.is("display refused") && v.Has("display"), p.is("locales refused") && (v.Has("ui_locales") || v.Has("claims_locales")), p.is("claims refused") && v.Has("claims"),
		p.is("unknown parameter refused") && v.Has("extra"), p.is("order matters") && strings.HasPrefix(v.Get("scope"), "email"):
		refuse("invalid_request", "not like this")
		return
	case p.is("hint refused") && v.Has("id_token_hint"), p.is("login_hint refused") && v.Has("login_hint"):
		refuse("login_required", "nobody knows that person")
		return
	}
	s := p.session(r)
	if r.URL.Path == "/login" {
		if r.PostFormValue("username") != "ann" || r.PostFormValue("password") != "secret" {
			p.login(w, v)
			return
		}
		old := s
		if s = p.begin(w); p.is("auth_time stays") && old != nil {
			s.authTime = old.authTime
		}
	} else {
		age, err := time.ParseDuration(v.Get("max_age") + "s")
		old := s != nil && err == nil && p.now().Sub(s.authTime) > age && !p.is("max_age ignored")
		again := v.Get("prompt") == "login" && !p.is("prompt ignored")
		if s == nil || old || again || p.is("always asks") {
			if v.Get("prompt") == "none" && !p.is("none asks") {
				refuse(map[bool]string{true: "access_denied", false: "login_required"}[p.is("another error for none")], "sign in")
				return
			}
			p.login(w, v)
			return
		}
		if v.Get("prompt") == "none" && p.is("none always refused") {
			refuse("login_required", "sign in")
			return
		}
	}
	code := text(30, alnum)
	if p.is("code is short") {
		code = text(8, alnum)
	}
	s.to = append(s.to, v.Get("client_id"))
	p.codes[code] = &grant{sent: v, session: s}
	p.answer(w, r, v, url.Values{"code": {code}})
}

func (p *provider) login(w http.ResponseWriter, v url.Values) {
	p.page(w, 200, `<form method="post" action="/login"><input type="hidden" name="request" value="`+html.EscapeString(v.Encode())+`">
		<input name="username" autocomplete="username"><input type='password' name=password><button>Sign in</button></form>`)
}

func (p *provider) answer(w http.ResponseWriter, r *http.Request, sent, v url.Values) {
	v.Set("iss", p.site.URL)
	if sent.Has("state") {
		v.Set("state", sent.Get("state"))
	}
	switch state := sent.Get("state"); {
	case p.is("state lost"):
		v.Del("state")
	case p.is("state cut"):
		v.Set("state", state[:min(len(state), 100)])
	case p.is("iss of another"):
		v.Set("iss", "https://other.example")
	case p.is("no iss"):
		v.Del("iss")
	case p.is("detail in the error") && v.Has("error"):
		v.Set("error_hint", "none")
	}
	to := sent.Get("redirect_uri")
	if sent.Get("response_mode") != "form_post" || p.is("form_post ignored") || p.is("errors by query") && v.Has("error") {
		http.Redirect(w, r, withQuery(to, v.Encode()), http.StatusSeeOther)
		return
	}
	b := `<form method="post" action="` + html.EscapeString(to) + `">`
	if p.is("code in the URL, too") {
		b = `<form method="post" action="` + html.EscapeString(withQuery(to, v.Encode())) + `">`
	}
	for name := range v {
		b += `<input type="hidden" name="` + name + `" value="` + html.EscapeString(v.Get(name)) + `">`
	}
	p.page(w, 200, b+`<button>Continue</button></form><script>document.forms[0].submit()</script>`)
}

func (p *provider) authenticated(r *http.Request) string {
	id, secret, ok := r.BasicAuth()
	if !ok {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		if p.is("no client_secret_post") {
			return ""
		}
	}
	if p.clients[id] == "" || p.clients[id] != secret && !p.is("any secret") {
		return ""
	}
	return id
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	deny := func(status int, code string) {
		if p.is("another error of the token endpoint") {
			code = "invalid_request"
		}
		p.reply(w, status, map[string]any{"error": code})
	}
	id := p.authenticated(r)
	if id == "" {
		deny(401, "invalid_client")
		return
	}
	fresh := r.PostFormValue("grant_type") == "refresh_token"
	g := p.codes[r.PostFormValue("code")]
	if fresh {
		g = p.refresh[r.PostFormValue("refresh_token")]
	}
	if g == nil || g.ended || g.sent.Get("client_id") != id && !p.is("grants for any client") {
		deny(400, "invalid_grant")
		return
	}
	if !fresh {
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		challenge := g.sent.Get("code_challenge")
		switch {
		case g.used && !p.is("code works twice"):
			g.ended = !p.is("tokens outlive the code")
			fallthrough
		case g.sent.Get("redirect_uri") != r.PostFormValue("redirect_uri") && !p.is("code for any redirect URI"),
			challenge != "" && challenge != base64.RawURLEncoding.EncodeToString(sum[:]) && !p.is("any verifier"):
			deny(400, "invalid_grant")
			return
		}
		g.used = true
	}
	access := text(30, alnum)
	p.access[access] = g
	out := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": p.sign("JWT", p.idToken(g, access, fresh))}
	if slices.Contains(strings.Fields(g.sent.Get("scope")), "offline_access") && !fresh {
		token := text(30, alnum)
		p.refresh[token] = g
		out["refresh_token"] = token
	}
	switch {
	case p.is("expires_in as text"):
		out["expires_in"] = "300"
	case p.is("no ID token"):
		delete(out, "id_token")
	}
	p.reply(w, 200, out)
}

func (p *provider) idToken(g *grant, access string, fresh bool) map[string]any {
	now := p.now()
	c := map[string]any{
		"iss": p.site.URL, "sub": "ann-1", "aud": g.sent.Get("client_id"), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"auth_time": g.session.authTime.Unix(), "sid": g.session.id, "at_hash": half("ES256", access), "acr": "1",
	}
	if n := g.sent.Get("nonce"); n != "" && !fresh {
		c["nonce"] = n
	}
	for defect, edit := range map[string][2]any{
		"iss of another in the ID token": {"iss", "https://other.example"},
		"aud of another":                 {"aud", "another"},
		"expired":                        {"exp", now.Add(-time.Hour).Unix()},
		"issued long ago":                {"iat", now.Add(-time.Hour).Unix()},
		"no sub":                         {"sub", nil},
		"at_hash of nothing":             {"at_hash", half("ES256", "")},
		"nonce lost":                     {"nonce", nil},
		"nonce of another":               {"nonce", "another"},
		"no auth_time":                   {"auth_time", nil},
		"acr is a number":                {"acr", 1},
		"another sid each time":          {"sid", text(20, alnum)},
		"claims in the ID token":         {"email", "ann@example.com"},
	} {
		if p.is(defect) {
			c[edit[0].(string)] = edit[1]
		}
	}
	if fresh && p.is("another person after refreshing") {
		c["sub"] = "bob-1"
	}
	if fresh && p.is("auth_time after refreshing") {
		c["auth_time"] = now.Unix()
	}
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

var everything = map[string]any{
	"name": "Ann", "given_name": "Ann", "family_name": "A", "middle_name": "B", "nickname": "an", "preferred_username": "ann", "profile": "https://ann.example",
	"picture": "https://ann.example/p", "website": "https://ann.example/w", "gender": "female", "birthdate": "1990-01-02", "zoneinfo": "Europe/London", "locale": "en-GB",
	"updated_at": 1700000000, "email": "ann@example.com", "email_verified": true, "phone_number": "+1", "phone_number_verified": false,
	"address": map[string]any{"formatted": "12 St"},
}

func (p *provider) userinfo(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if t := r.PostFormValue("access_token"); t != "" {
		token = t
	}
	g := p.access[token]
	if g == nil || g.ended || p.is("userinfo by GET alone") && r.Method == "POST" || p.is("no token in the body") && r.PostFormValue("access_token") != "" {
		p.reply(w, 401, map[string]any{"error": "invalid_token"})
		return
	}
	out := map[string]any{"sub": "ann-1"}
	for scope, names := range claimsOf {
		for _, name := range names {
			if slices.Contains(strings.Fields(g.sent.Get("scope")), scope) || name == "name" && g.sent.Has("claims") && !p.is("claims parameter ignored") {
				out[name] = everything[name]
			}
		}
	}
	switch {
	case p.is("another person in userinfo"):
		out["sub"] = "bob-1"
	case p.is("email_verified as text") && out["email"] != nil:
		out["email_verified"] = "true"
	case p.is("address as text") && out["address"] != nil:
		out["address"] = "12 St"
	case p.is("phone is empty") && out["phone_number"] != nil:
		out["phone_number"] = ""
	case p.is("birthdate of somebody else's calendar") && out["birthdate"] != nil:
		out["birthdate"] = "2.1.1990"
	case p.is("no locale"):
		delete(out, "locale")
	case p.is("no sub in userinfo"):
		delete(out, "sub")
	}
	p.reply(w, 200, out)
}

func (p *provider) endSession(w http.ResponseWriter, r *http.Request) {
	v := r.Form
	s := p.session(r)
	var hint map[string]any
	if jws, err := jose.ParseSignedCompact(v.Get("id_token_hint"), []jose.SignatureAlgorithm{jose.ES256}); err == nil {
		if text, err := jws.Verify(p.key.Public()); err == nil {
			_ = json.Unmarshal(text, &hint)
		}
	}
	if parts := strings.Split(v.Get("id_token_hint"), "."); len(parts) == 3 && p.is("hint is believed") {
		text, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(text, &hint)
	}
	asked := r.URL.Path == "/leave"
	if hint == nil && !asked && !p.is("leaves without a question") {
		p.page(w, 200, `Sign out? <form method="post" action="/leave"><button name="yes" value="1">Sign out</button></form>`)
		return
	}
	if s != nil && !p.is("session stays") {
		for token := range p.sessions {
			if p.sessions[token] == s {
				delete(p.sessions, token)
			}
		}
		if !p.is("nobody is called") {
			p.call(s)
		}
	}
	to := v.Get("post_logout_redirect_uri")
	if to == "" && p.is("leaves for the usual place") {
		to = p.callback + pathPostLogout
	}
	if to == "" || to != p.callback+pathPostLogout && !p.is("leaves for anywhere") {
		p.page(w, 200, "You are signed out")
		return
	}
	out := url.Values{}
	if v.Has("state") || p.is("state of its own") {
		out.Set("state", v.Get("state"))
	}
	if p.is("state of logout cut") {
		out.Set("state", v.Get("state")[:10])
	}
	http.Redirect(w, r, withQuery(to, out.Encode()), http.StatusSeeOther)
}

// call is back-channel logout.
func (p *provider) call(s *session) {
	c := map[string]any{
		"iss": p.site.URL, "aud": s.to[0], "iat": p.now().Unix(), "exp": p.now().Add(time.Minute).Unix(), "jti": text(20, alnum),
		"sub": "ann-1", "sid": s.id, "events": map[string]any{logoutEvent: map[string]any{}},
	}
	for defect, edit := range map[string][2]any{
		"logout token with nonce":   {"nonce", "n"},
		"logout token of another":   {"sid", "another"},
		"logout token for another":  {"aud", "another"},
		"logout token for nothing":  {"events", map[string]any{}},
		"logout token without jti":  {"jti", nil},
		"logout token without time": {"iat", nil},
	} {
		if p.is(defect) {
			c[edit[0].(string)] = edit[1]
		}
	}
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	res, err := http.PostForm(p.callback+pathBackchannel, url.Values{"logout_token": {p.sign("logout+jwt", c)}})
	if err == nil {
		res.Body.Close()
	}
}
