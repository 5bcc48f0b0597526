package login

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/harmony/id/account"
	"github.com/harmony/id/session"
	"github.com/harmony/id/web"
)

// GoogleIssuer is Google's own issuer.
const GoogleIssuer = "https://accounts.google.com"

// GoogleConfig is what an operator decides about signing in with Google.
type GoogleConfig struct {
	// Issuer is Google's, or the OpenID provider's that stands in for it.
	Issuer string
	// ClientID and Secret are what Google gave to this provider.
	ClientID, Secret string
	// RedirectURL is where Google leads back to.
	RedirectURL string
	// Domains are the Google Workspace domains (hd) whose people may sign in; none
	// means everybody's.
	Domains []string
	// SignUp makes an account for who comes for the first time.
	SignUp bool
	// Transport reaches the issuer. Nil: the network.
	Transport http.RoundTripper
	// Watch is told of sign-ins that failed here, for the operator's metrics:
	// "unavailable" (Google did not do its part) or "refused" (by Domains). Those that
	// got as far as an account are account's to tell of. Nil: nobody is told.
	Watch func(result string)
}

// What Google may take, and how much it may say (FED-13).
const (
	googleTimeout = 10 * time.Second
	googleAnswer  = 1 << 20
	// keysFor is how long its keys are believed before a signature that none of
	// them fits has them fetched again: forged tokens must not make us hammer Google
	// (FED-08).
	keysFor = time.Minute
	// metadataFor is how long its metadata is believed.
	metadataFor = 6 * time.Hour
)

// maxClockSkew is how far Google's clock may be ahead of ours.
const maxClockSkew = 5 * time.Minute

// errGoogle wraps everything that is Google's fault: slow, down, refusing, nonsense.
var errGoogle = errors.New("google")

// A Google is the way to Google and back. It may be used by many goroutines.
type Google struct {
	cfg    GoogleConfig
	client *http.Client

	mu       sync.Mutex
	provider *provider // the last that was fetched, nil before
	fetching *fetching // under way, nil if none is
}

// A provider is the issuer as its metadata has it.
type provider struct {
	*oidc.Provider
	config *oauth2.Config // remembers how the token endpoint wants the secret
	at     time.Time
}

// fetching is a fetch of metadata that many may wait for.
type fetching struct {
	done chan struct{}
	p    *provider
	err  error
}

// NewGoogle returns the way to the issuer of the configuration. It asks nothing of
// it before somebody signs in.
func NewGoogle(cfg GoogleConfig) *Google {
	transport := cfg.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy = nil
		t.DialContext = (&net.Dialer{Timeout: googleTimeout}).DialContext
		t.MaxResponseHeaderBytes = 64 << 10
		transport = t
	}
	if cfg.Watch == nil {
		cfg.Watch = func(string) {}
	}
	g := &Google{cfg: cfg}
	g.client = &http.Client{
		Timeout:       googleTimeout,
		Transport:     &guarded{next: transport, keys: map[string]*answer{}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
	}
	return g
}

// guarded bounds what is read of an answer, and asks for the same keys once a
// minute at the most.
type guarded struct {
	next http.RoundTripper

	mu      sync.Mutex
	jwksURL string
	keys    map[string]*answer
}

type answer struct {
	body []byte
	at   time.Time
}

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	isKeys := r.Method == http.MethodGet && r.URL.String() == g.jwksURL
	if a := g.keys[r.URL.String()]; isKeys && a != nil && time.Since(a.at) < keysFor {
		g.mu.Unlock()
		return respond(r, a.body), nil
	}
	g.mu.Unlock()
	res, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, googleAnswer+1))
	_ = res.Body.Close() // it was read
	if err == nil && len(body) > googleAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", googleAnswer)
	}
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK && r.Method == http.MethodGet {
		body = nil // it would end up in the log, and may repeat a token
	}
	if isKeys && res.StatusCode == http.StatusOK && json.Valid(body) {
		g.mu.Lock()
		g.keys[r.URL.String()] = &answer{body, time.Now()}
		g.mu.Unlock()
	}
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	res.ContentLength = int64(len(body))
	return res, nil
}

func respond(r *http.Request, body []byte) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(body))), ContentLength: int64(len(body)),
	}
}

// discover returns the issuer's metadata, from memory if it is there. What is old
// serves on while it is asked for again, and nobody asks while another does: a
// Google that hangs must not have people queue up.
func (g *Google) discover(ctx context.Context) (*provider, error) {
	g.mu.Lock()
	p, f := g.provider, g.fetching
	if f == nil && (p == nil || time.Since(p.at) >= metadataFor) {
		f = &fetching{done: make(chan struct{})}
		g.fetching = f
		go g.fetch(f)
	}
	g.mu.Unlock()
	if p != nil {
		return p, nil
	}
	select {
	case <-f.done:
		return f.p, f.err
	case <-ctx.Done():
		return nil, failed("metadata", ctx.Err())
	}
}

// Check sees that the issuer's metadata is there and can be used. Its errors are what
// a sign-in would have met.
func (g *Google) Check(ctx context.Context) error {
	_, err := g.discover(ctx)
	return err
}

// fetch gets the metadata. It does not end with the request that asked for it.
func (g *Google) fetch(f *fetching) {
	p, err := oidc.NewProvider(oidc.ClientContext(context.Background(), g.client), g.cfg.Issuer)
	if err == nil {
		err = g.checkMetadata(p)
	}
	if err != nil {
		f.err = failed("metadata", err)
	} else {
		f.p = &provider{Provider: p, at: time.Now(), config: &oauth2.Config{
			ClientID: g.cfg.ClientID, ClientSecret: g.cfg.Secret, Endpoint: p.Endpoint(), RedirectURL: g.cfg.RedirectURL, Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
		}}
	}
	g.mu.Lock()
	if g.fetching = nil; f.p != nil {
		g.provider = f.p
	}
	g.mu.Unlock()
	close(f.done)
}

// checkMetadata refuses endpoints that people or secrets must not be sent to: they
// have to be https, or http on the machine that the issuer itself is on.
func (g *Google) checkMetadata(p *oidc.Provider) error {
	var m struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := p.Claims(&m); err != nil {
		return err
	}
	issuer, err := url.Parse(g.cfg.Issuer)
	if err != nil {
		return err
	}
	endpoints := []string{p.Endpoint().AuthURL, p.Endpoint().TokenURL, m.JWKS}
	if p.UserInfoEndpoint() != "" {
		endpoints = append(endpoints, p.UserInfoEndpoint())
	}
	for _, s := range endpoints {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || issuer.Scheme != "http" || u.Host != issuer.Host) {
			return fmt.Errorf("endpoint %q cannot be used", s)
		}
	}
	guard := g.client.Transport.(*guarded)
	guard.mu.Lock()
	guard.jwksURL = m.JWKS
	guard.mu.Unlock()
	return nil
}

// leave is Google's page for a round trip: code flow with PKCE, state and nonce
// (RFC 9700 2.1.1). hint is the address that is expected, or "".
func (g *Google) leave(ctx context.Context, f *account.GoogleFlow, hint string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, googleTimeout)
	defer cancel()
	p, err := g.discover(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier), oauth2.SetAuthURLParam("prompt", "select_account")}
	if hint != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", hint))
	}
	if len(g.cfg.Domains) == 1 { // a wish; what counts is the claim
		options = append(options, oauth2.SetAuthURLParam("hd", g.cfg.Domains[0]))
	}
	return p.config.AuthCodeURL(f.State, options...), nil
}

// googleClaims are those of the ID token and of userinfo that count. email_verified
// is a string with some providers.
type googleClaims struct {
	Subject  string          `json:"sub"`
	Nonce    string          `json:"nonce"`
	AZP      string          `json:"azp"`
	Email    string          `json:"email"`
	Verified json.RawMessage `json:"email_verified"`
	Name     string          `json:"name"`
	Domain   string          `json:"hd"`
}

func (c googleClaims) verified() bool {
	return string(c.Verified) == "true" || string(c.Verified) == `"true"`
}

// errDomain means that somebody's Google Workspace domain is not one of ours.
var errDomain = errors.New("not of a domain that may sign in")

// arrive redeems a code and checks what came for it: signature, issuer, audience
// and life by the library, and the rest here (OIDC Core 3.1.3.7).
func (g *Google) arrive(ctx context.Context, f *account.GoogleFlow, code string) (*account.Identity, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, g.client), googleTimeout) // for all of it
	defer cancel()
	p, err := g.discover(ctx)
	if err != nil {
		return nil, err
	}
	token, err := p.config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return nil, failed("code", withoutBody(err))
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := p.Verifier(&oidc.Config{ClientID: g.cfg.ClientID, SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256, oidc.PS256, oidc.EdDSA}}).Verify(ctx, raw)
	if err != nil {
		return nil, failed("ID token", err)
	}
	var c googleClaims
	if err := verified.Claims(&c); err != nil {
		return nil, failed("ID token", err)
	}
	switch now := time.Now(); {
	case subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(f.Nonce)) != 1:
		return nil, fmt.Errorf("%w: the nonce is another sign-in's", errGoogle)
	case c.AZP != "" && c.AZP != g.cfg.ClientID, len(verified.Audience) > 1 && c.AZP == "":
		return nil, fmt.Errorf("%w: the ID token is for another party", errGoogle)
	case verified.IssuedAt.IsZero(), verified.IssuedAt.After(now.Add(maxClockSkew)):
		return nil, fmt.Errorf("%w: the ID token is not issued yet", errGoogle)
	}
	if c.Email == "" && p.UserInfoEndpoint() != "" {
		if err := g.ask(ctx, p, token, &c); err != nil {
			return nil, err
		}
	}
	if len(g.cfg.Domains) > 0 && !slices.Contains(g.cfg.Domains, strings.ToLower(c.Domain)) {
		return nil, errDomain
	}
	// The issuer as it is configured: Google's tokens may name it without https://.
	return &account.Identity{Issuer: g.cfg.Issuer, Subject: verified.Subject, Email: c.Email, EmailVerified: c.verified(), Name: c.Name}, nil
}

// ask gets the claims of userinfo from a provider whose ID tokens have only who it
// is (OIDC Core 5.3.2: the subject has to be the same).
func (g *Google) ask(ctx context.Context, p *provider, token *oauth2.Token, c *googleClaims) error {
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return failed("userinfo", err)
	}
	if info.Subject != c.Subject {
		return fmt.Errorf("%w: userinfo is about somebody else", errGoogle)
	}
	var more googleClaims
	if err := info.Claims(&more); err != nil {
		return failed("userinfo", err)
	}
	c.Email, c.Verified, c.Name, c.Domain = more.Email, more.Verified, more.Name, more.Domain
	return nil
}

// withoutBody is an error of the token endpoint without what it answered.
func withoutBody(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return fmt.Errorf("the token endpoint answered %d %s", refused.Response.StatusCode, printable(refused.ErrorCode))
	}
	return err
}

// failed is an error of Google's that says as much of what Google said as may
// stand in a log.
func failed(at string, err error) error {
	return fmt.Errorf("%w: %s: %s", errGoogle, at, printable(err.Error()))
}

// printable is what Google said as it may stand in a log.
func printable(s string) string {
	const most = 300
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), most)])
}

// flowCookie binds a round trip to the browser that began it.
const flowCookie = "harmony-google"

// google begins a round trip: to sign in or, with confirm, to confirm who is
// signed in.
func (h *Handler) google(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	to := local(q.Get("to"))
	in, err := h.Sessions.In(r)
	if err != nil {
		return err
	}
	sessionID, hint := "", ""
	if q.Has("confirm") {
		if in == nil {
			http.Redirect(w, r, withTo("/login", to), http.StatusSeeOther)
			return nil
		}
		sessionID = in.ID
	}
	if in != nil && in.Method == account.MethodGoogle && !q.Has("another") {
		hint = in.Email
	}
	f, err := h.Accounts.BeginGoogle(r.Context(), sessionID, to, session.Device(r))
	if t, ok := errors.AsType[*account.ThrottledError](err); ok {
		return &web.Error{Status: http.StatusTooManyRequests, RetryAfter: t.Wait, Err: err}
	}
	if err != nil {
		return err
	}
	away, err := h.Google.leave(r.Context(), f, hint)
	if err != nil {
		return h.googleFailed(err, to)
	}
	h.Sessions.SetCookie(w, flowCookie, f.Browser, 10*time.Minute)
	http.Redirect(w, r, away, http.StatusSeeOther)
	return nil
}

// googleFailed is the page of a Google that did not do its part. What it said is
// for the log.
func (h *Handler) googleFailed(err error, to string) error {
	h.Google.cfg.Watch("unavailable")
	return &web.Error{Status: http.StatusBadGateway, Title: "google_failed.title", Message: "google_failed.text", Action: "google_failed.action", ActionURL: withTo("/login", to), Err: err}
}

// googleCallback is where Google leads back to.
func (h *Handler) googleCallback(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f, err := h.Accounts.TakeGoogle(r.Context(), q.Get("state"), h.Sessions.Cookie(r, flowCookie))
	if errors.Is(err, account.ErrNoFlow) {
		return &web.Error{Status: http.StatusBadRequest, Title: "google_expired.title", Message: "google_expired.text", Action: "google_failed.action", ActionURL: "/login", Err: err}
	}
	if err != nil {
		return err
	}
	h.Sessions.SetCookie(w, flowCookie, "", -1)
	back := withTo("/login", f.To)
	if code := q.Get("error"); code != "" {
		web.Log(r.Context()).InfoContext(r.Context(), "google refused", "error", printable(code))
		if code != "access_denied" {
			return h.googleFailed(fmt.Errorf("%w: answered %s", errGoogle, printable(code)), f.To)
		}
		h.Sessions.Notice(w, "google_cancelled", "")
		http.Redirect(w, r, back, http.StatusSeeOther)
		return nil
	}
	if iss := q.Get("iss"); iss != "" && iss != h.Google.cfg.Issuer { // RFC 9207
		return h.googleFailed(fmt.Errorf("%w: the answer is another issuer's", errGoogle), f.To)
	}
	id, err := h.Google.arrive(r.Context(), f, q.Get("code"))
	if errors.Is(err, errGoogle) {
		return h.googleFailed(err, f.To)
	}
	if err == nil && f.SessionID != "" {
		return h.googleConfirmed(w, r, f, id)
	}
	var l *account.Login
	if err == nil {
		l, err = h.Accounts.CheckGoogle(r.Context(), *id, h.Google.cfg.SignUp, session.Device(r))
	}
	if err = h.start(w, r, l, f.To, err); err == nil {
		return nil
	}
	return h.googleRefused(w, r, f, id, err)
}

// googleRefused leads back to the sign-in page, which says why Google's person may
// not come in here. That an address has an account is told to none but who proved
// it at Google (GO-2).
func (h *Handler) googleRefused(w http.ResponseWriter, r *http.Request, f *account.GoogleFlow, id *account.Identity, err error) error {
	notice, email := "", ""
	switch {
	case errors.Is(err, errDomain):
		h.Google.cfg.Watch("refused")
		notice = "google_domain"
	case errors.Is(err, account.ErrUnverified):
		notice = "google_unverified"
	case errors.Is(err, account.ErrUsePassword):
		notice, email = "google_password", id.Email
	case errors.Is(err, account.ErrOtherGoogle):
		notice = "google_other"
	case errors.Is(err, account.ErrNoAccount), errors.Is(err, account.ErrWrong):
		notice = "google_no_account"
	case errors.Is(err, account.ErrNoIdentity):
		return h.googleFailed(err, f.To)
	default:
		return err
	}
	if id != nil {
		h.note(r, id.Email, err)
	}
	h.Sessions.Notice(w, notice, email)
	http.Redirect(w, r, "/login?"+url.Values{"to": {f.To}, "another": {"1"}}.Encode(), http.StatusSeeOther)
	return nil
}

// googleConfirmed ends a round trip that confirms who is signed in.
func (h *Handler) googleConfirmed(w http.ResponseWriter, r *http.Request, f *account.GoogleFlow, id *account.Identity) error {
	in, err := h.Sessions.In(r)
	if err != nil {
		return err
	}
	if in == nil || in.ID != f.SessionID {
		http.Redirect(w, r, withTo("/login", f.To), http.StatusSeeOther)
		return nil
	}
	token, err := h.Accounts.ProveGoogle(r.Context(), in, *id, session.Device(r))
	switch {
	case errors.Is(err, account.ErrOtherGoogle):
		h.note(r, in.Email, err)
		return &web.Error{Status: http.StatusForbidden, Title: "google_wrong.title", Message: "google_wrong.text", Action: "google_wrong.action", ActionURL: pathGoogle + "?" + url.Values{"confirm": {"1"}, "to": {f.To}}.Encode(), Err: err}
	case errors.Is(err, account.ErrNoSession):
		http.Redirect(w, r, withTo("/login", f.To), http.StatusSeeOther)
		return nil
	case errors.Is(err, account.ErrNoIdentity):
		return h.googleFailed(err, f.To)
	case err != nil:
		return err
	}
	h.Sessions.Turn(w, account.Passage{Session: token})
	http.Redirect(w, r, f.To, http.StatusSeeOther)
	return nil
}
