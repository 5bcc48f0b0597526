package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/gorilla/mux"
	"golang.org/x/oauth2"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// A workspace is a demo workspace: a small relying party as a team would write
// one, with a well-known client library. It knows nothing of the provider but
// its issuer. Its sessions live in its own memory, under cookies of its own
// name: on localhost all ports share their cookies.
type workspace struct {
	name   string
	url    *url.URL // where it is
	issuer *url.URL
	id     string // client_id
	secret string // "" for a public client
	other  *workspace
	client *http.Client // talks to the provider

	mu       sync.Mutex
	provider *oidc.Provider
	began    map[string]demoSignIn  // by state
	sessions map[string]demoSession // by cookie
	ended    map[string]time.Time   // the cookies of those that the provider ended
	told     map[string]time.Time   // the logout tokens that came, by jti
}

// A demoSignIn is a sign-in that was begun and has not come back.
type demoSignIn struct {
	browser, nonce, verifier string
	at                       time.Time
}

// A demoSession is somebody who is signed in at the workspace.
type demoSession struct {
	sub, sid string
	token    *oauth2.Token
	idToken  string
	userinfo json.RawMessage
	at       time.Time
}

// The bounds of a demo's memory.
const (
	signInLife      = 10 * time.Minute
	demoSessionLife = 12 * time.Hour
	demoMost        = 1000
)

func newWorkspace(name, id, secret string, at, issuer *url.URL) *workspace {
	return &workspace{
		name: name, url: at, issuer: issuer, id: id, secret: secret,
		client: &http.Client{Timeout: 15 * time.Second},
		began:  map[string]demoSignIn{}, sessions: map[string]demoSession{}, ended: map[string]time.Time{}, told: map[string]time.Time{},
	}
}

const callbackPath, signedOutPath, backchannelPath = "/callback", "/signed-out", "/backchannel-logout"

// registration is how the provider knows the workspace.
func (w *workspace) registration() idp.Client {
	c := idp.Client{
		ID: w.id, Name: w.name, AuthMethod: idp.AuthBasic, RequirePKCE: true,
		RedirectURIs:           []string{w.url.JoinPath(callbackPath).String()},
		PostLogoutRedirectURIs: []string{w.url.JoinPath(signedOutPath).String()},
		BackchannelLogoutURI:   w.url.JoinPath(backchannelPath).String(),
	}
	if w.secret == "" {
		c.AuthMethod = idp.AuthNone
	}
	return c
}

// demoWorkspaces registers Acme, which has a secret, and Globex, which has none.
func demoWorkspaces(ctx context.Context, clients *idp.Clients, issuer, acmeURL, globexURL *url.URL) ([]*workspace, error) {
	acme := newWorkspace("Acme", "acme", rand.Text()+rand.Text(), acmeURL, issuer)
	globex := newWorkspace("Globex", "globex", "", globexURL, issuer)
	acme.other, globex.other = globex, acme
	demos := []*workspace{acme, globex}
	for _, w := range demos {
		if err := w.register(ctx, clients); err != nil {
			return nil, fmt.Errorf("registering %s: %w", w.name, err)
		}
	}
	return demos, nil
}

// register makes the provider know the workspace as it is now. One that it
// knows already keeps its tokens.
func (w *workspace) register(ctx context.Context, clients *idp.Clients) error {
	const by = "dev"
	want := w.registration()
	have, err := clients.Get(ctx, w.id)
	switch {
	case errors.Is(err, idp.ErrNotFound):
	case err != nil:
		return err
	case slices.Equal(have.RedirectURIs, want.RedirectURIs) && slices.Equal(have.PostLogoutRedirectURIs, want.PostLogoutRedirectURIs) &&
		have.BackchannelLogoutURI == want.BackchannelLogoutURI && have.AuthMethod == want.AuthMethod:
		if w.secret != "" {
			_, err = clients.RotateSecret(ctx, w.id, w.secret, 0, by)
		}
		return err
	default:
		if err := clients.Delete(ctx, w.id, by); err != nil {
			return err
		}
	}
	_, _, err = clients.Create(ctx, want, w.secret, by)
	return err
}

// handler is the workspace's site.
func (w *workspace) handler(log *slog.Logger) http.Handler {
	r := mux.NewRouter()
	r.Handle("/", web.HandlerFunc(w.home)).Methods("GET", "HEAD")
	r.Handle("/sign-in", web.HandlerFunc(w.signIn)).Methods("GET")
	r.Handle(callbackPath, web.HandlerFunc(w.callback)).Methods("GET")
	r.Handle("/refresh", web.HandlerFunc(w.refresh)).Methods("POST")
	r.Handle("/sign-out", web.HandlerFunc(w.signOut)).Methods("POST")
	r.Handle(signedOutPath, web.HandlerFunc(w.signedOut)).Methods("GET", "HEAD")
	r.Handle(backchannelPath, web.HandlerFunc(w.backchannelLogout)).Methods("POST")
	r.PathPrefix("/static/").Handler(web.Static())
	r.NotFoundHandler = web.NotFound
	r.MethodNotAllowedHandler = web.MethodNotAllowed
	told := func(r *http.Request) bool { return r.URL.Path == backchannelPath } // by the provider, which is no browser
	return web.Wrap(web.Config{Issuer: w.url, Log: log.With("workspace", w.id), Home: "/", CrossOriginAllowed: told}, r)
}

// config is the client library's. The provider is asked for its endpoints when
// somebody first needs them.
func (w *workspace) config(ctx context.Context) (context.Context, *oauth2.Config, *oidc.Provider, error) {
	ctx = oidc.ClientContext(ctx, w.client)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.provider == nil {
		provider, err := oidc.NewProvider(oidc.ClientContext(context.Background(), w.client), w.issuer.String())
		if err != nil {
			return ctx, nil, nil, fmt.Errorf("asking the provider for its endpoints: %w", err)
		}
		w.provider = provider
	}
	endpoint := w.provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if w.secret == "" {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return ctx, &oauth2.Config{
		ClientID: w.id, ClientSecret: w.secret, Endpoint: endpoint, RedirectURL: w.url.JoinPath(callbackPath).String(),
		Scopes: []string{oidc.ScopeOpenID, "profile", "email", "phone", "address", oidc.ScopeOfflineAccess},
	}, w.provider, nil
}

// The demo's cookies: which browser began a sign-in, and who is signed in.
func (w *workspace) browserCookie() string { return w.id + "-demo-browser" }
func (w *workspace) sessionCookie() string { return w.id + "-demo-session" }

func setDemoCookie(rw http.ResponseWriter, name, value string, life time.Duration) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(life.Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(rw, c)
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// session returns the session of the browser.
func (w *workspace) session(r *http.Request) (demoSession, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.sessions[cookie(r, w.sessionCookie())]
	return s, ok && time.Since(s.at) < demoSessionLife
}

// keep puts v into m, which never holds more than demoMost.
func keep[V any](m map[string]V, key string, v V, age func(V) time.Duration, life time.Duration) {
	maps.DeleteFunc(m, func(_ string, v V) bool { return age(v) > life })
	if _, ok := m[key]; !ok && len(m) >= demoMost {
		for k := range m {
			delete(m, k)
			break
		}
	}
	m[key] = v
}

// home shows who is signed in, or offers to sign in.
func (w *workspace) home(rw http.ResponseWriter, r *http.Request) error {
	s, ok := w.session(r)
	if !ok {
		w.mu.Lock()
		_, signedOut := w.ended[cookie(r, w.sessionCookie())]
		w.mu.Unlock()
		return web.Show(rw, r, http.StatusOK, w.homePage(signedOut))
	}
	page, err := w.claimsPage(s)
	if err != nil {
		return err
	}
	return web.Show(rw, r, http.StatusOK, page)
}

// signIn sends the browser to the provider. With fresh=1 it asks for the
// password although somebody is signed in there.
func (w *workspace) signIn(rw http.ResponseWriter, r *http.Request) error {
	_, config, _, err := w.config(r.Context())
	if err != nil {
		return w.failed(rw, r, "temporarily_unavailable", err)
	}
	browser := cookie(r, w.browserCookie())
	if browser == "" {
		browser = rand.Text()
	}
	state := rand.Text()
	begun := demoSignIn{browser: browser, nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), at: time.Now()}
	w.mu.Lock()
	keep(w.began, state, begun, func(s demoSignIn) time.Duration { return time.Since(s.at) }, signInLife)
	w.mu.Unlock()
	options := []oauth2.AuthCodeOption{oidc.Nonce(begun.nonce), oauth2.S256ChallengeOption(begun.verifier)}
	if r.URL.Query().Get("fresh") == "1" {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	setDemoCookie(rw, w.browserCookie(), browser, signInLife)
	http.Redirect(rw, r, config.AuthCodeURL(state, options...), http.StatusSeeOther)
	return nil
}

// callback takes the provider's answer. What it checks, in this order: that this
// browser began it (state), that this provider answered (iss, RFC 9207), that it
// is no error, the code (PKCE), the ID token (signature, issuer, audience, life)
// and its nonce, and that userinfo is about the same person.
func (w *workspace) callback(rw http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	w.mu.Lock()
	begun, ok := w.began[q.Get("state")]
	delete(w.began, q.Get("state"))
	w.mu.Unlock()
	if !ok || time.Since(begun.at) > signInLife || !same(begun.browser, cookie(r, w.browserCookie())) {
		return w.failed(rw, r, "invalid_state", errors.New("this sign-in was not begun in this browser, or more than ten minutes ago"))
	}
	if q.Get("iss") != w.issuer.String() {
		return w.failed(rw, r, "invalid_issuer", errors.New("the answer is not from the provider that was asked"))
	}
	if code := q.Get("error"); code != "" {
		return w.failed(rw, r, code, errors.New(q.Get("error_description")))
	}
	ctx, config, _, err := w.config(r.Context())
	if err != nil {
		return w.failed(rw, r, "temporarily_unavailable", err)
	}
	token, err := config.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(begun.verifier))
	if err != nil {
		return w.failed(rw, r, "invalid_grant", err)
	}
	s, err := w.received(ctx, token, begun.nonce)
	if err != nil {
		return w.failed(rw, r, "invalid_token", err)
	}
	key := rand.Text()
	w.mu.Lock()
	delete(w.sessions, cookie(r, w.sessionCookie()))
	keep(w.sessions, key, s, func(s demoSession) time.Duration { return time.Since(s.at) }, demoSessionLife)
	w.mu.Unlock()
	setDemoCookie(rw, w.browserCookie(), "", 0)
	setDemoCookie(rw, w.sessionCookie(), key, demoSessionLife)
	http.Redirect(rw, r, "/", http.StatusSeeOther)
	return nil
}

// received checks a token response. nonce is "" for one that no browser saw.
func (w *workspace) received(ctx context.Context, token *oauth2.Token, nonce string) (demoSession, error) {
	ctx, config, provider, err := w.config(ctx)
	if err != nil {
		return demoSession{}, err
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := provider.Verifier(&oidc.Config{ClientID: w.id}).Verify(ctx, raw)
	if err != nil {
		return demoSession{}, err
	}
	if nonce != "" && !same(nonce, verified.Nonce) {
		return demoSession{}, errors.New("the ID token was made for another sign-in (nonce)")
	}
	if err := verified.VerifyAccessToken(token.AccessToken); err != nil {
		return demoSession{}, err
	}
	info, err := provider.UserInfo(ctx, config.TokenSource(ctx, token))
	if err != nil {
		return demoSession{}, err
	}
	if info.Subject != verified.Subject {
		return demoSession{}, errors.New("userinfo is about somebody else than the ID token")
	}
	s := demoSession{sub: verified.Subject, token: token, idToken: raw, at: time.Now()}
	var more struct {
		Session string `json:"sid"`
	}
	if err := verified.Claims(&more); err != nil {
		return demoSession{}, err
	}
	s.sid = more.Session
	return s, info.Claims(&s.userinfo)
}

// refresh gets new tokens without the browser's help.
func (w *workspace) refresh(rw http.ResponseWriter, r *http.Request) error {
	s, ok := w.session(r)
	if !ok {
		http.Redirect(rw, r, "/", http.StatusSeeOther)
		return nil
	}
	ctx, config, _, err := w.config(r.Context())
	if err != nil {
		return w.failed(rw, r, "temporarily_unavailable", err)
	}
	// A token without an access token is one that the library refreshes.
	token, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: s.token.RefreshToken}).Token()
	if err != nil {
		w.forget(rw, r)
		return w.failed(rw, r, "invalid_grant", err)
	}
	fresh, err := w.received(ctx, token, "")
	if err == nil && fresh.sub != s.sub { // OpenID Connect Core 12.2
		err = errors.New("the new tokens are about somebody else")
	}
	if err != nil {
		return w.failed(rw, r, "invalid_token", err)
	}
	w.mu.Lock()
	id := cookie(r, w.sessionCookie())
	if _, still := w.sessions[id]; still { // or they signed out meanwhile
		w.sessions[id] = fresh
	}
	w.mu.Unlock()
	http.Redirect(rw, r, "/", http.StatusSeeOther)
	return nil
}

// forget ends the demo's own session.
func (w *workspace) forget(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	delete(w.sessions, cookie(r, w.sessionCookie()))
	w.mu.Unlock()
	setDemoCookie(rw, w.sessionCookie(), "", 0)
}

// signOut ends the demo's session and sends the browser to the provider to end
// that one too (OpenID Connect RP-Initiated Logout).
func (w *workspace) signOut(rw http.ResponseWriter, r *http.Request) error {
	s, ok := w.session(r)
	w.forget(rw, r)
	_, _, provider, err := w.config(r.Context())
	if err != nil {
		return w.failed(rw, r, "temporarily_unavailable", err)
	}
	var metadata struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return w.failed(rw, r, "temporarily_unavailable", err)
	}
	end, err := url.Parse(metadata.EndSession)
	if err != nil || metadata.EndSession == "" {
		http.Redirect(rw, r, signedOutPath, http.StatusSeeOther)
		return nil
	}
	q := url.Values{"client_id": {w.id}, "post_logout_redirect_uri": {w.url.JoinPath(signedOutPath).String()}}
	if ok {
		q.Set("id_token_hint", s.idToken)
	}
	end.RawQuery = q.Encode()
	http.Redirect(rw, r, end.String(), http.StatusSeeOther)
	return nil
}

// backchannelLogout is where the provider says that a session ended, whoever ended
// it and wherever (OpenID Connect Back-Channel Logout): the sessions that it led to
// end here, too.
func (w *workspace) backchannelLogout(rw http.ResponseWriter, r *http.Request) error {
	sub, sid, err := w.loggedOut(r.Context(), r.PostForm.Get("logout_token"))
	if err != nil {
		web.Log(r.Context()).Warn("a logout token was refused", "workspace", w.id, "error", err)
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusBadRequest)
		return json.NewEncoder(rw).Encode(map[string]string{"error": "invalid_request", "error_description": err.Error()})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, s := range w.sessions {
		if s.sub == sub && s.sid == sid {
			delete(w.sessions, key)
			keep(w.ended, key, time.Now(), time.Since, demoSessionLife)
		}
	}
	rw.WriteHeader(http.StatusOK)
	return nil
}

// logoutSkew is how old a logout token may be.
const logoutSkew = 5 * time.Minute

// loggedOut checks a logout token. What it checks, in this order (2.6): signature,
// issuer, audience and life, as of an ID token; that it is none (typ, events, no
// nonce); that it is new (iat, jti).
func (w *workspace) loggedOut(ctx context.Context, raw string) (sub, sid string, err error) {
	ctx, _, provider, err := w.config(ctx)
	if err != nil {
		return "", "", err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: w.id}).Verify(ctx, raw)
	if err != nil {
		return "", "", err
	}
	var c struct {
		Session string                     `json:"sid"`
		ID      string                     `json:"jti"`
		Nonce   *string                    `json:"nonce"`
		Events  map[string]json.RawMessage `json:"events"`
	}
	var head struct {
		Type string `json:"typ"`
	}
	header, _, err := parts(raw)
	if err = errors.Join(err, json.Unmarshal(header, &head), verified.Claims(&c)); err != nil {
		return "", "", err
	}
	event, ok := c.Events["http://schemas.openid.net/event/backchannel-logout"]
	switch {
	case head.Type != "logout+jwt":
		return "", "", errors.New("it is not a logout token by its type")
	case !ok || !bytes.HasPrefix(event, []byte("{")):
		return "", "", errors.New("it is not about a logout (events)")
	case c.Nonce != nil:
		return "", "", errors.New("it has a nonce, as only ID tokens have")
	case verified.Subject == "" || c.Session == "":
		return "", "", errors.New("it does not say whose session ended (sub, sid)")
	case time.Since(verified.IssuedAt).Abs() > logoutSkew:
		return "", "", errors.New("it is not of the last minutes (iat)")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, again := w.told[c.ID]; again || c.ID == "" {
		return "", "", errors.New("it came before (jti)")
	}
	keep(w.told, c.ID, time.Now(), time.Since, 2*logoutSkew)
	return verified.Subject, c.Session, nil
}

// signedOut is where the provider leads back to.
func (w *workspace) signedOut(rw http.ResponseWriter, r *http.Request) error {
	if _, ok := w.session(r); ok { // somebody typed the address
		http.Redirect(rw, r, "/", http.StatusSeeOther)
		return nil
	}
	return web.Show(rw, r, http.StatusOK, w.homePage(true))
}

// failed shows what went wrong in the protocol's words: this is a demo, and who
// looks at it wants to know.
func (w *workspace) failed(rw http.ResponseWriter, r *http.Request, code string, err error) error {
	text := err.Error()
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		code, text = cmp.Or(refused.ErrorCode, code), refused.ErrorDescription
	}
	web.Log(r.Context()).Warn("sign-in at a demo workspace failed", "workspace", w.id, "code", code, "error", err)
	return web.Show(rw, r, http.StatusBadRequest, templates.DemoError{
		Workspace: w.name, Code: code, Description: text, SignInURL: "/sign-in", HomeURL: "/",
	})
}

func same(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// The order in which claims are shown; the rest follow by name.
var claimOrder = []string{
	"sub", "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "email", "email_verified",
	"phone_number", "phone_number_verified", "address", "birthdate", "gender", "zoneinfo", "locale", "website", "profile", "picture", "updated_at",
	"iss", "aud", "auth_time", "amr", "acr", "sid", "nonce", "at_hash", "iat", "exp",
}

// claims lists the members of a JSON object. Times are written out.
func claims(object []byte) ([]templates.DemoClaim, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(object, &m); err != nil {
		return nil, err
	}
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
	})
	var out []templates.DemoClaim
	for _, n := range names {
		out = append(out, templates.DemoClaim{Name: n, Value: claimText(n, m[n])})
	}
	return out, nil
}

func rank(name string) int {
	if i := slices.Index(claimOrder, name); i >= 0 {
		return i
	}
	return len(claimOrder)
}

func claimText(name string, raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var many []string
	if json.Unmarshal(raw, &many) == nil {
		return strings.Join(many, ", ")
	}
	var n int64
	if slices.Contains([]string{"auth_time", "iat", "exp", "updated_at"}, name) && json.Unmarshal(raw, &n) == nil {
		return time.Unix(n, 0).UTC().Format(demoTime)
	}
	return string(raw)
}

// parts are the header and the payload of a JWT, indented.
func parts(jwt string) (header, payload []byte, err error) {
	f := strings.Split(jwt, ".")
	if len(f) != 3 {
		return nil, nil, errors.New("not a JWT")
	}
	if header, err = indented(f[0]); err != nil {
		return nil, nil, err
	}
	payload, err = indented(f[1])
	return header, payload, err
}

func indented(part string) ([]byte, error) {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Indent(&b, text, "", "  ")
	return b.Bytes(), err
}

func (w *workspace) homePage(signedOut bool) templates.DemoHome {
	return templates.DemoHome{Workspace: w.name, SignInURL: "/sign-in", SignedOut: signedOut}
}

// claimsPage shows everything that a workspace receives.
func (w *workspace) claimsPage(s demoSession) (templates.DemoClaims, error) {
	header, payload, err := parts(s.idToken)
	if err != nil {
		return templates.DemoClaims{}, err
	}
	page := templates.DemoClaims{
		Workspace: w.name, Other: w.other.name, OtherURL: w.other.url.String(),
		FreshURL: "/sign-in?fresh=1", SecurityURL: w.issuer.JoinPath("/preferences/security").String(),
		SignOutURL: "/sign-out", RefreshURL: "/refresh",
		IDTokenHeader: string(header), IDTokenPayload: string(payload),
		AccessToken: s.token.AccessToken, RefreshToken: s.token.RefreshToken, Expires: s.token.Expiry.UTC().Format(demoTime),
	}
	if page.Claims, err = claims(payload); err != nil {
		return page, err
	}
	if page.UserInfo, err = claims(s.userinfo); err != nil {
		return page, err
	}
	var known struct {
		Name string `json:"name"`
		Alg  string `json:"alg"`
	}
	if err := errors.Join(json.Unmarshal(s.userinfo, &known), json.Unmarshal(header, &known)); err != nil {
		return page, err
	}
	page.Name, page.Algorithm = known.Name, known.Alg
	return page, nil
}

// demoTime is how the demo writes a time.
const demoTime = "2 Jan 2006, 15:04:05 UTC"
