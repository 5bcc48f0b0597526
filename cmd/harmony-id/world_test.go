package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
)

// The world of the stories: a provider on a real database, people and
// workspaces, and browsers that reach it without a socket, so that a story can
// run in a synctest bubble.

const (
	issuer   = "https://id.test"
	callback = "https://acme.test/callback"
	farewell = "https://acme.test/bye"

	adaEmail    = "ada@example.com"
	adaPassword = "engine of analysis 1843"
	bobEmail    = "bob@example.com"
	bobPassword = "curious marmalade steamship"
)

type world struct {
	t       testing.TB
	url     string // of db
	db      *db.DB
	ring    *secret.Ring
	house   *house
	log     *lockedBuffer
	ada     *account.User
	bob     *account.User
	acme    rp // confidential, client_secret_basic
	globex  rp // public
	legacy  rp // confidential, client_secret_post, RS256, no PKCE needed
	replica []*house
	post    postbox
	outside outside // where the workspaces' servers are
}

// A postbox is the mail server of a world. It takes every message, until it is
// told to refuse.
type postbox struct {
	mu       sync.Mutex
	messages []mail.Message
	refuse   error
}

func (p *postbox) Send(_ context.Context, m mail.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	p.messages = append(p.messages, m)
	return nil
}

// mails has everything delivered that is due, and returns what came, which it
// empties the box of.
func (w *world) mails() []mail.Message {
	w.t.Helper()
	if _, err := w.house.mail.Deliver(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.post.mu.Lock()
	defer w.post.mu.Unlock()
	m := w.post.messages
	w.post.messages = nil
	return m
}

// mail is the one mail that came, whose subject says this.
func (w *world) mail(to, subject string) mail.Message {
	w.t.Helper()
	all := w.mails()
	if len(all) != 1 || all[0].To != to || !strings.Contains(all[0].Subject, subject) {
		w.t.Fatalf("mails: %+v, want one to %s about %q", all, to, subject)
	}
	return all[0]
}

var linkRE = regexp.MustCompile(`https://id\.test/login/reset\?token=(\S+)`)

// resetLink is the link of a mail that resets the password.
func resetLink(t testing.TB, m mail.Message) string {
	t.Helper()
	link := linkRE.FindString(m.Text)
	if link == "" || !strings.Contains(html.UnescapeString(m.HTML), link) {
		t.Fatalf("no link in %q, %s", m.Subject, m.Text)
	}
	return link
}

// An app is an authenticator app, which knows the RFC and nothing of ours.
type app struct {
	key   []byte
	codes []string // the backup codes that came with it
}

// codeAt is the code of a time step (RFC 4226 5.3, RFC 6238 4.2).
func (a *app) codeAt(step int64) string {
	m := hmac.New(sha1.New, a.key)
	_ = binary.Write(m, binary.BigEndian, step) // a hash takes everything
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// now is the present time step.
func (a *app) now() int64 { return time.Now().Unix() / 30 }

// code is what the app shows now.
func (a *app) code() string { return a.codeAt(a.now()) }

// wrong is a code that is none of any step near the present.
func (a *app) wrong() string {
	near := map[string]bool{}
	for d := int64(-5); d <= 5; d++ {
		near[a.codeAt(a.now()+d)] = true
	}
	for i := 0; ; i++ {
		if c := fmt.Sprintf("%06d", i); !near[c] {
			return c
		}
	}
}

var (
	otpauthRE    = regexp.MustCompile(`otpauth://totp/[^"<\s]+`)
	backupCodeRE = regexp.MustCompile(`<li>([0-9A-Z]{5}-[0-9A-Z]{5})</li>`)
)

// scan is the app that the set-up page shows.
func (p *page) scan() *app {
	p.t.Helper()
	uri, err := url.Parse(html.UnescapeString(otpauthRE.FindString(p.body)))
	if err != nil {
		p.t.Fatal(err)
	}
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(uri.Query().Get("secret"))
	if err != nil || len(key) == 0 {
		p.t.Fatalf("no key at %s (%d): %v\n%s", p.url, p.status, err, p.body)
	}
	return &app{key: key, codes: p.backupCodes()}
}

func (p *page) backupCodes() (codes []string) {
	for _, m := range backupCodeRE.FindAllStringSubmatch(p.body, -1) {
		codes = append(codes, m[1])
	}
	return codes
}

const (
	pathTwoFactor = "/preferences/security/2fa"
	pathTurnOn    = "/preferences/security/2fa/verify"
)

// setUp begins to set 2FA up and returns the page that shows it.
func (b *browser) setUp() *page {
	b.w.t.Helper()
	p := b.get(pathTwoFactor)
	if len(p.backupCodes()) == 0 {
		p = b.post(pathTwoFactor, p.form(pathTwoFactor))
	}
	p.want(http.StatusOK, pathTwoFactor)
	return p
}

// enable turns 2FA on for who is signed in.
func (b *browser) enable() *app {
	b.w.t.Helper()
	p := b.setUp()
	a := p.scan()
	v := p.form(pathTurnOn)
	v.Set("code", a.code())
	v.Set("saved", "on")
	b.post(pathTurnOn, v).want(http.StatusOK, "/preferences/security")
	return a
}

// verify enters a code on the page that asks for it.
func (b *browser) verify(p *page, code string) *page {
	b.w.t.Helper()
	v := p.form("/login/verify")
	v.Set("code", code)
	return b.post("/login/verify", v)
}

// half signs in as far as the code page.
func (b *browser) half(email, password string) *page {
	b.w.t.Helper()
	p := b.fill(b.get("/login?another=1"), email, password)
	p.want(http.StatusOK, "/login/verify")
	return p
}

// useBackupCode signs in with one from the code page on.
func (b *browser) useBackupCode(code string) *page {
	b.w.t.Helper()
	v := b.get("/login/backup-code").form("/login/backup-code")
	v.Set("backup_code", code)
	return b.post("/login/backup-code", v)
}

// An rp is a workspace as the stories play it.
type rp struct {
	assert           func() string // makes an assertion, for private_key_jwt
	w                *world
	id, secret, auth string
	redirect         string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newWorld returns a world on a fresh database of the engine.
func newWorld(t testing.TB, engine string, opts ...db.Option) *world {
	t.Helper()
	w := &world{t: t, url: dbtest.URL(t, engine), ring: theRing(), log: &lockedBuffer{}}
	w.db = w.open(opts...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the provider's log:\n%s", w.log)
		}
	})
	w.lendKeys()
	w.house = w.newReplica()
	w.keepKeys()
	ctx := t.Context()
	operator := account.Actor{Kind: "operator", Name: "test"}
	w.ada = must(w.house.accounts.CreateUser(ctx, account.NewUser{
		Email: adaEmail, Name: "Ada Lovelace", EmailVerified: true, Password: adaPassword,
		Claims: account.Claims{
			GivenName: "Ada", FamilyName: "Lovelace", MiddleName: "King", Nickname: "Countess", PreferredUsername: "ada",
			Profile: "https://people.test/ada", Picture: "https://people.test/ada.png", Website: "https://ada.test", Gender: "female",
			Birthdate: "1815-12-10", Zoneinfo: "Europe/London", Locale: "en-GB", PhoneNumber: "+442079460000", PhoneNumberVerified: true,
			Address: &account.Address{Formatted: "12 St James's Square, London", StreetAddress: "12 St James's Square", Locality: "London", Region: "London", PostalCode: "SW1Y 4JH", Country: "GB"},
		},
	}, operator))(t)
	w.bob = must(w.house.accounts.CreateUser(ctx, account.NewUser{Email: bobEmail, Name: "Bob Babbage", Password: bobPassword}, operator))(t)
	w.acme = w.register(idp.Client{ID: "acme", Name: "Acme", RedirectURIs: []string{callback, callback + "?tenant=1"}, PostLogoutRedirectURIs: []string{farewell}, RequirePKCE: true})
	w.globex = w.register(idp.Client{ID: "globex", Name: "Globex", RedirectURIs: []string{"https://globex.test/cb"}, AuthMethod: idp.AuthNone, RequirePKCE: true})
	w.legacy = w.register(idp.Client{ID: "legacy", Name: "Legacy", RedirectURIs: []string{"https://legacy.test/cb"}, AuthMethod: idp.AuthPost, IDTokenAlg: "RS256"})
	w.house = w.newReplica() // one that knows these clients from its start
	return w
}

// One ring and its signing keys serve every world: to make an RSA key takes longer
// than the rest of a world.
var (
	theKeys = sync.OnceValue(secret.GenerateKeyFile)
	theRing = sync.OnceValue(func() *secret.Ring {
		ring, err := secret.ParseRing(theKeys())
		if err != nil {
			panic(err)
		}
		return ring
	})
	lent struct {
		mu   sync.Mutex
		keys [][4]any
	}
)

func (w *world) lendKeys() {
	w.t.Helper()
	lent.mu.Lock()
	defer lent.mu.Unlock()
	ctx, now := w.t.Context(), db.Micros(time.Now())
	for _, k := range lent.keys {
		must(w.db.Exec(ctx, `INSERT INTO signing_keys (id, alg, public_jwk, private_sealed, created_at, active_at) VALUES ($1, $2, $3, $4, $5, $5)`, append(k[:], now)...))(w.t)
	}
}

func (w *world) keepKeys() {
	w.t.Helper()
	lent.mu.Lock()
	defer lent.mu.Unlock()
	if lent.keys != nil {
		return
	}
	rows := must(w.db.Query(w.t.Context(), `SELECT id, alg, public_jwk, private_sealed FROM signing_keys ORDER BY id`))(w.t)
	defer rows.Close()
	for rows.Next() {
		var id, alg, public string
		var sealed []byte
		if err := rows.Scan(&id, &alg, &public, &sealed); err != nil {
			w.t.Fatal(err)
		}
		lent.keys = append(lent.keys, [4]any{id, alg, public, sealed})
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
}

// open opens the world's database anew, as another process does.
func (w *world) open(opts ...db.Option) *db.DB {
	w.t.Helper()
	d := must(db.Open(context.Background(), w.url, opts...))(w.t)
	w.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return d
}

// newReplica returns another provider over the same database, with other
// settings perhaps.
func (w *world) newReplica(edits ...func(*houseConfig)) *house {
	w.t.Helper()
	return w.newReplicaOver(w.db, edits...)
}

// newReplicaOver is newReplica over a database that was opened for it alone.
func (w *world) newReplicaOver(d *db.DB, edits ...func(*houseConfig)) *house {
	w.t.Helper()
	u := must(url.Parse(issuer))(w.t)
	cfg := houseConfig{
		issuer:  u,
		account: account.Config{SessionIdle: 72 * time.Hour, SessionMax: 30 * 24 * time.Hour},
		idp: idp.Config{
			Outbound: &w.outside,
			Issuer:   issuer, AccessTokenTTL: 5 * time.Minute, RefreshIdle: 14 * 24 * time.Hour, RefreshMax: 30 * 24 * time.Hour, RefreshGrace: 30 * time.Second,
		},
		mail: mail.Config{From: "Harmony <no-reply@id.test>"}, sender: &w.post,
		log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	h, err := newHouse(w.t.Context(), d, w.ring, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.replica = append(w.replica, h)
	return h
}

func (w *world) register(c idp.Client) rp {
	w.t.Helper()
	made, plain, err := w.house.clients.Create(w.t.Context(), c, "", "test")
	if err != nil {
		w.t.Fatal(err)
	}
	known := rp{w: w, id: made.ID, secret: plain, auth: made.AuthMethod}
	if len(made.RedirectURIs) > 0 {
		known.redirect = made.RedirectURIs[0]
	}
	return known
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// forget lets a second pass, after which every replica has looked whether
// clients and keys changed (I5). Outside a bubble use fresh replicas instead.
func (w *world) forget() { time.Sleep(1100 * time.Millisecond) }

// A network answers requests to the issuer with a replica of the world.
type network struct {
	h       *house
	address string
}

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = n.address + ":4711"
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	in.URL = must(url.ParseRequestURI(in.RequestURI))(nopTB{})
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	n.h.handler.ServeHTTP(rec, in)
	res := rec.Result()
	res.Request = r
	return res, nil
}

// nopTB is for errors that cannot be.
type nopTB struct{ testing.TB }

func (nopTB) Helper()           {}
func (nopTB) Fatal(args ...any) { panic(args) }

// A browser has cookies, an address and a name, and sends what browsers send.
type browser struct {
	w      *world
	http   *http.Client
	jar    http.CookieJar
	header http.Header // sent with every request
}

// newBrowser returns a browser with empty jar at an address of its own.
func (w *world) newBrowser() *browser { return w.browserAt(w.house, "192.0.2.10") }

func (w *world) browserAt(h *house, address string) *browser {
	jar := must(cookiejar.New(nil))(w.t)
	return &browser{w: w, jar: jar, header: http.Header{"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64) Story/1.0"}}, http: &http.Client{
		Transport: network{h, address}, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// at is the same browser, talking to another replica.
func (b *browser) at(h *house) *browser {
	c := *b.http
	c.Transport = network{h, b.http.Transport.(network).address}
	return &browser{w: b.w, jar: b.jar, header: b.header, http: &c}
}

// A page is where a browser came to rest: a document of the provider's, or an
// address elsewhere, which is not fetched (status 0).
type page struct {
	t      testing.TB
	url    *url.URL
	status int
	header http.Header
	body   string
}

// once sends one request and follows nothing.
func (b *browser) once(method, to string, form url.Values, header http.Header) *page {
	b.w.t.Helper()
	if strings.HasPrefix(to, "/") {
		to = issuer + to
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(context.Background(), method, to, body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	for k, v := range b.header {
		r.Header[k] = v
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", issuer)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for k, v := range header {
		if v == nil {
			r.Header.Del(k)
		} else {
			r.Header[k] = v
		}
	}
	res, err := b.http.Do(r)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return readPage(b.w.t, res)
}

func readPage(t testing.TB, res *http.Response) *page {
	t.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &page{t: t, url: res.Request.URL, status: res.StatusCode, header: res.Header, body: string(text)}
}

// follow goes where redirects lead, within the provider.
func (b *browser) follow(p *page) *page {
	b.w.t.Helper()
	for range 10 {
		loc := p.header.Get("Location")
		if p.status/100 != 3 || loc == "" {
			return p
		}
		to, err := p.url.Parse(loc)
		if err != nil {
			b.w.t.Fatal(err)
		}
		if to.Scheme+"://"+to.Host != issuer {
			return &page{t: b.w.t, url: to}
		}
		p = b.once(http.MethodGet, to.String(), nil, nil)
	}
	b.w.t.Fatalf("redirects without end, last to %s", p.url)
	return nil
}

func (b *browser) get(to string) *page {
	b.w.t.Helper()
	return b.follow(b.once(http.MethodGet, to, nil, nil))
}

func (b *browser) post(to string, form url.Values) *page {
	b.w.t.Helper()
	return b.follow(b.once(http.MethodPost, to, form, nil))
}

var (
	formRE  = regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`)
	inputRE = regexp.MustCompile(`(?is)<input\b([^>]*)>`)
	attrRE  = regexp.MustCompile(`(?is)([a-z][a-z0-9-]*)\s*=\s*"([^"]*)"`)
)

func attributes(tag string) map[string]string {
	out := map[string]string{}
	for _, m := range attrRE.FindAllStringSubmatch(tag, -1) {
		out[strings.ToLower(m[1])] = html.UnescapeString(m[2])
	}
	return out
}

// form is the page's form that posts to action, with the values it stands at.
func (p *page) form(action string) url.Values {
	p.t.Helper()
	for _, m := range formRE.FindAllStringSubmatch(p.body, -1) {
		if attributes(m[1])["action"] != action {
			continue
		}
		v := url.Values{}
		for _, in := range inputRE.FindAllStringSubmatch(m[2], -1) {
			if a := attributes(in[1]); a["name"] != "" {
				v.Set(a["name"], a["value"])
			}
		}
		return v
	}
	p.t.Fatalf("no form to %s at %s (%d):\n%s", action, p.url, p.status, p.body)
	return nil
}

// fill fills in the sign-in form of a page and sends it.
func (b *browser) fill(p *page, email, password string) *page {
	b.w.t.Helper()
	v := p.form("/login")
	v.Set("email", email)
	v.Set("password", password)
	return b.post("/login", v)
}

// signIn signs a person in at the provider itself.
func (b *browser) signIn(email, password string) *page {
	b.w.t.Helper()
	p := b.fill(b.get("/login"), email, password)
	p.want(http.StatusOK, "/preferences/security")
	return p
}

// want checks where a browser came to rest.
func (p *page) want(status int, path string) {
	p.t.Helper()
	if p.status != status || p.url.Path != path {
		p.t.Fatalf("got %d at %s, want %d at %s:\n%s", p.status, p.url, status, path, p.body)
	}
}

func (p *page) wantText(s string) {
	p.t.Helper()
	if !strings.Contains(html.UnescapeString(p.body), s) {
		p.t.Fatalf("%s (%d) does not say %q:\n%s", p.url, p.status, s, p.body)
	}
}

// A flow is one authorization request of a workspace.
type flow struct {
	rp       rp
	query    url.Values
	verifier string
	pushed   string // the request_uri of its pushed request, or ""
}

// begin prepares an authorization request; extra parameters replace, empty ones
// remove.
func (c rp) begin(extra ...string) *flow {
	verifier := secret.Token("")
	sum := sha256.Sum256([]byte(verifier))
	f := &flow{rp: c, verifier: verifier, query: url.Values{
		"client_id": {c.id}, "redirect_uri": {c.redirect}, "response_type": {"code"}, "scope": {"openid profile email offline_access"},
		"state": {secret.ID("state-")}, "nonce": {secret.ID("nonce-")},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}}
	for i := 0; i < len(extra); i += 2 {
		if extra[i+1] == "" {
			f.query.Del(extra[i])
		} else {
			f.query.Set(extra[i], extra[i+1])
		}
	}
	return f
}

func (f *flow) url() string {
	if f.pushed != "" {
		return "/authorize?" + url.Values{"client_id": {f.rp.id}, "request_uri": {f.pushed}}.Encode()
	}
	return "/authorize?" + f.query.Encode()
}

// code is what the provider answered at the redirect URI.
func (f *flow) code(p *page) string {
	p.t.Helper()
	q := f.answer(p)
	if q.Get("code") == "" {
		p.t.Fatalf("no code at %s", p.url)
	}
	return q.Get("code")
}

// answer checks what is common to every answer: where, state, iss.
func (f *flow) answer(p *page) url.Values {
	p.t.Helper()
	if p.status != 0 || !strings.HasPrefix(p.url.String(), f.query.Get("redirect_uri")) {
		p.t.Fatalf("no answer to the workspace: %d at %s\n%s", p.status, p.url, p.body)
	}
	q := p.url.Query()
	if q.Get("state") != f.query.Get("state") || q.Get("iss") != issuer {
		p.t.Fatalf("answer with other state or iss: %s", p.url)
	}
	return q
}

// wantError checks that the workspace got this error.
func (f *flow) wantError(p *page, code string) {
	p.t.Helper()
	if q := f.answer(p); q.Get("error") != code || q.Has("code") {
		p.t.Fatalf("got %s, want error %s", p.url, code)
	}
}

// tokens is an answer of the token endpoint.
type tokens struct {
	t            testing.TB
	status       int
	header       http.Header
	raw          string
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

// post sends a form to the token endpoint with the client's authentication.
func (c rp) post(form url.Values) *tokens { return c.postAt(c.w.house, form, nil) }

func (c rp) postAt(h *house, form url.Values, header http.Header) *tokens {
	c.w.t.Helper()
	return sendToken(c.w.t, h, c.request("/oauth/token", form, header))
}

// request is a POST with the client's authentication.
func (c rp) request(path string, form url.Values, header http.Header) *http.Request {
	c.w.t.Helper()
	v := url.Values{}
	for k, x := range form {
		v[k] = x
	}
	if c.auth != idp.AuthBasic {
		v.Set("client_id", c.id)
	}
	if c.auth == idp.AuthPost {
		v.Set("client_secret", c.secret)
	}
	if c.assert != nil {
		v.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		v.Set("client_assertion", c.assert())
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, issuer+path, strings.NewReader(v.Encode()))
	if err != nil {
		c.w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.auth == idp.AuthBasic {
		r.SetBasicAuth(url.QueryEscape(c.id), url.QueryEscape(c.secret))
	}
	for k, x := range header {
		if x == nil {
			r.Header.Del(k)
		} else {
			r.Header[k] = x
		}
	}
	return r
}

func sendToken(t testing.TB, h *house, r *http.Request) *tokens {
	t.Helper()
	res, err := network{h, "198.51.100.7"}.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := &tokens{t: t, status: res.StatusCode, header: res.Header, raw: string(b)}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("token endpoint: %d %q: %v", res.StatusCode, b, err)
	}
	return out
}

// redeem exchanges a code.
func (f *flow) redeem(code string) *tokens {
	f.rp.w.t.Helper()
	return f.rp.post(f.redemption(code))
}

func (f *flow) redemption(code string) url.Values {
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.query.Get("redirect_uri")}}
	if f.query.Has("code_challenge") {
		v.Set("code_verifier", f.verifier)
	}
	return v
}

func (c rp) refresh(token string) *tokens {
	c.w.t.Helper()
	return c.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// ok checks that tokens were given.
func (k *tokens) ok() *tokens {
	k.t.Helper()
	if k.status != http.StatusOK || k.AccessToken == "" || k.IDToken == "" {
		k.t.Fatalf("token endpoint: %d %s", k.status, k.raw)
	}
	return k
}

// refused checks that none were, and why.
func (k *tokens) refused(status int, code string) {
	k.t.Helper()
	if k.status != status || k.Error != code || k.AccessToken != "" || k.IDToken != "" {
		k.t.Fatalf("token endpoint: %d %s, want %d %s", k.status, k.raw, status, code)
	}
}

// claims decodes the ID token. Its signature is for the clients of other
// projects to check.
func (k *tokens) claims() map[string]any {
	k.t.Helper()
	part := strings.Split(k.IDToken, ".")
	if len(part) != 3 {
		k.t.Fatalf("no JWT: %q", k.IDToken)
	}
	b, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		k.t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(b, &c); err != nil {
		k.t.Fatal(err)
	}
	return c
}

// userinfo asks for the claims of an access token; nil for a 401.
func (w *world) userinfo(access string) map[string]any {
	w.t.Helper()
	r := must(http.NewRequestWithContext(context.Background(), http.MethodGet, issuer+"/userinfo", nil))(w.t)
	r.Header.Set("Authorization", "Bearer "+access)
	res := must(network{w.house, "198.51.100.7"}.RoundTrip(r))(w.t)
	defer res.Body.Close()
	if res.StatusCode == http.StatusUnauthorized {
		return nil
	}
	var c map[string]any
	if err := json.NewDecoder(res.Body).Decode(&c); err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("userinfo: %d %v", res.StatusCode, err)
	}
	return c
}

// connect signs a person in at a workspace, through the sign-in page if the
// browser has no session, and returns the tokens.
func (b *browser) connect(c rp, email, password string, extra ...string) *tokens {
	b.w.t.Helper()
	f := c.begin(extra...)
	p := b.get(f.url())
	if p.status != 0 {
		p.want(http.StatusOK, "/login")
		p = b.fill(p, email, password)
	}
	return f.redeem(f.code(p)).ok()
}
