package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/login"
	"github.com/harmony/id/secret"
)

// An upstream plays Google, in process and without a socket. It does what an OpenID
// provider does until it is told to do something else.
type upstream struct {
	t testing.TB

	mu       sync.Mutex
	keys     []jose.JSONWebKey // published; the first signs
	codes    map[string]consent
	calls    map[string]int // by host and path
	secrets  []string       // whatever it gave out that is nobody else's business
	metadata map[string]any

	// What it does in place of what it should; nil: what it should.
	claims func(map[string]any)                                     // edits those of the ID token
	mint   func(claims map[string]any) string                       // makes the ID token
	answer func(at string, r *http.Request) (*http.Response, error) // nil, nil: as it should
	lax    bool                                                     // does not look at PKCE and redeems a code again
}

// A consent is what somebody agreed to at Google.
type consent struct {
	query  url.Values
	claims map[string]any
}

// Where Google has its endpoints.
const (
	googleHost     = "accounts.google.com"
	googleMetadata = googleHost + "/.well-known/openid-configuration"
	googleAuth     = googleHost + "/o/oauth2/v2/auth"
	googleToken    = "oauth2.googleapis.com/token"
	googleKeys     = "www.googleapis.com/oauth2/v3/certs"
	googleUserinfo = "openidconnect.googleapis.com/v1/userinfo"

	googleClient = "4711-harmony.apps.googleusercontent.com"
	googleSecret = "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gle"
)

// Two RSA keys serve every test: to make one takes longer than a story.
var googleRSA = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

func googleKey(i int, kid string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: googleRSA()[i], KeyID: kid, Algorithm: "RS256", Use: "sig"}
}

// withGoogle has the world's people sign in with Google from now on, and returns
// it. Other replicas that should are made with upstream.join.
func (w *world) withGoogle(edits ...func(*login.GoogleConfig)) *upstream {
	w.t.Helper()
	g := &upstream{
		t: w.t, keys: []jose.JSONWebKey{googleKey(0, "first")}, codes: map[string]consent{}, calls: map[string]int{},
		metadata: map[string]any{
			"issuer": login.GoogleIssuer, "authorization_endpoint": "https://" + googleAuth, "token_endpoint": "https://" + googleToken,
			"jwks_uri": "https://" + googleKeys, "userinfo_endpoint": "https://" + googleUserinfo,
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		},
	}
	w.house = w.newReplica(g.join(edits...))
	return g
}

// join is the edit that has a replica know this Google.
func (g *upstream) join(edits ...func(*login.GoogleConfig)) func(*houseConfig) {
	return func(c *houseConfig) {
		c.google = &login.GoogleConfig{Issuer: login.GoogleIssuer, ClientID: googleClient, Secret: googleSecret, SignUp: true, Transport: g}
		for _, edit := range edits {
			edit(c.google)
		}
	}
}

// called is how often an endpoint was asked.
func (g *upstream) called(at string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[at]
}

// tell changes what it does.
func (g *upstream) tell(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// behave makes it an honest provider again.
func (g *upstream) behave() {
	g.tell(func() { g.claims, g.mint, g.answer, g.lax = nil, nil, nil, false })
}

// RoundTrip answers.
func (g *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	at := r.URL.Host + r.URL.Path
	g.mu.Lock()
	g.calls[at]++
	answer := g.answer
	g.mu.Unlock()
	if r.URL.Scheme != "https" {
		g.t.Errorf("asked in the clear: %s", r.URL)
	}
	if answer != nil {
		if res, err := answer(at, r); res != nil || err != nil {
			return res, err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch at {
	case googleMetadata:
		return jsonAnswer(r, http.StatusOK, g.metadata), nil
	case googleKeys:
		var set jose.JSONWebKeySet
		for _, k := range g.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		return jsonAnswer(r, http.StatusOK, set), nil
	case googleToken:
		return g.token(r)
	}
	return nil, errors.New("nobody is there: " + at)
}

func (g *upstream) token(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	refuse := func(code string) (*http.Response, error) {
		return jsonAnswer(r, http.StatusBadRequest, map[string]string{"error": code, "error_description": "Bad <script>alert(1)</script> " + form.Get("code")}), nil
	}
	id, key, basic := r.BasicAuth()
	if !basic {
		id, key = form.Get("client_id"), form.Get("client_secret")
	}
	c, known := g.codes[form.Get("code")]
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	switch challenge := base64.RawURLEncoding.EncodeToString(sum[:]); {
	case id != googleClient || key != googleSecret:
		return refuse("invalid_client")
	case !known, form.Get("grant_type") != "authorization_code", form.Get("redirect_uri") != c.query.Get("redirect_uri"),
		!g.lax && challenge != c.query.Get("code_challenge"):
		return refuse("invalid_grant")
	}
	if !g.lax {
		delete(g.codes, form.Get("code"))
	}
	now := time.Now().Unix()
	claims := with(map[string]any{
		"iss": login.GoogleIssuer, "aud": googleClient, "azp": googleClient, "iat": now, "exp": now + 3600, "nonce": c.query.Get("nonce"),
	})
	for k, v := range c.claims {
		claims[k] = v
	}
	if g.claims != nil {
		g.claims(claims)
	}
	mint := g.mint
	if mint == nil {
		mint = func(claims map[string]any) string { return g.sign(g.keys[0], claims) }
	}
	answer := map[string]any{
		"access_token": secret.Token("ya29_"), "refresh_token": secret.Token("1//"), "token_type": "Bearer", "expires_in": 3599, "id_token": mint(claims),
	}
	g.secrets = append(g.secrets, form.Get("code"), form.Get("code_verifier"), answer["access_token"].(string), answer["refresh_token"].(string), answer["id_token"].(string))
	return jsonAnswer(r, http.StatusOK, answer), nil
}

// sign makes an ID token with a key.
func (g *upstream) sign(key jose.JSONWebKey, claims any) string {
	g.t.Helper()
	alg := jose.SignatureAlgorithm(key.Algorithm)
	return sign(g.t, must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT")))(g.t), claims)
}

// publicPEM is the first key as a file that somebody might take for a secret.
func (g *upstream) publicPEM() []byte {
	der := must(x509.MarshalPKIXPublicKey(g.keys[0].Public().Key))(g.t)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func jsonAnswer(r *http.Request, status int, v any) *http.Response {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return answer(r, status, strings.NewReader(string(text)))
}

func answer(r *http.Request, status int, body io.Reader) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(body), ContentLength: -1,
	}
}

// A drip is a body that comes byte by byte, one each second, without end.
type drip struct{ ctx context.Context }

func (d drip) Read(b []byte) (int, error) {
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(time.Second):
		b[0] = ' '
		return 1, nil
	}
}

// consents is what happens at Google: whoever these claims are about chooses their
// account. It returns where Google leads back to.
func (g *upstream) consents(at *url.URL, who map[string]any) string {
	g.t.Helper()
	code := secret.Token("4/")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.codes[code] = consent{at.Query(), who}
	g.secrets = append(g.secrets, code)
	return g.back(at, url.Values{"code": {code}})
}

// back is where Google leads back to with this answer.
func (g *upstream) back(at *url.URL, q url.Values) string {
	g.t.Helper()
	to := must(url.Parse(at.Query().Get("redirect_uri")))(g.t)
	if to.Scheme+"://"+to.Host != issuer {
		g.t.Fatalf("redirect_uri %s", to)
	}
	if at.Query().Has("state") {
		q.Set("state", at.Query().Get("state"))
	}
	to.RawQuery = q.Encode()
	return to.RequestURI()
}

// toGoogle goes where a page's button leads, and returns the address at Google that
// it comes to.
func (b *browser) toGoogle(path string) *url.URL {
	b.w.t.Helper()
	p := b.get(path)
	if p.status != 0 || p.url.Host+p.url.Path != googleAuth {
		b.w.t.Fatalf("%s leads to %s (%d), not to Google\n%s", path, p.url, p.status, p.body)
	}
	return p.url
}

// withGoogle signs in with Google from the path on, as whom these claims are about.
func (b *browser) withGoogle(g *upstream, path string, who map[string]any) *page {
	b.w.t.Helper()
	return b.get(g.consents(b.toGoogle(path), who))
}

var linkTagRE = regexp.MustCompile(`(?is)<a\b([^>]*)>`)

// googleLink is where the Google button of a page leads.
func (p *page) googleLink() string {
	p.t.Helper()
	for _, m := range linkTagRE.FindAllStringSubmatch(p.body, -1) {
		if to := attributes(m[1])["href"]; strings.HasPrefix(to, "/login/google") {
			return to
		}
	}
	p.t.Fatalf("no way to Google at %s (%d)\n%s", p.url, p.status, p.body)
	return ""
}

// somebody are the claims that Google has of a person.
func somebody(sub, email string, more ...any) map[string]any {
	return with(map[string]any{"sub": sub, "email": email, "email_verified": true, "name": "Vera G. Oogle"}, more...)
}

const (
	veraSub   = "110169484474386276334"
	veraEmail = "vera@gmail.com"
)

func vera(more ...any) map[string]any { return somebody(veraSub, veraEmail, more...) }
