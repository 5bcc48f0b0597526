package idp

import (
	"crypto/rsa"
	"errors"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// A key that is brought along must not cost more to check a signature with than it is
// worth: one of the largest that fits into a header takes a core for 50 ms.
func TestRSAKeysThatAreTaken(t *testing.T) {
	for _, c := range []struct {
		bits uint
		e    int
		ok   bool
	}{
		{2047, 65537, false}, {2048, 65537, true}, {3072, 65537, true}, {4096, 65537, true}, {4096, 3, true},
		{4097, 65537, false}, {20000, 65537, false}, {2048, 1<<31 - 1, false},
	} {
		n := new(big.Int).Lsh(big.NewInt(1), c.bits-1)
		got := algsOf(jose.JSONWebKey{Key: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: c.e}})
		if ok := len(got) > 0; ok != c.ok {
			t.Errorf("%d bits, exponent %d: %v", c.bits, c.e, got)
		}
	}
}

// A redirect URI is registered in the one form in which it will be compared, and
// leads to its client and nowhere else (AD-06).
func TestAD06_RedirectURIs(t *testing.T) {
	for _, c := range []struct {
		uri                  string
		confidential, public bool
	}{
		{"https://acme.test/cb", true, true},
		{"https://acme.test", true, true},
		{"https://acme.test:8443/cb?tenant=1&x=%41+1", true, true},
		{"https://acme.test/a%2Fb/~c;d=1,2/$&'()!@", true, true},
		{"https://192.0.2.1/cb", true, true},
		{"https://[2001:db8::1]/cb", true, true},
		{"http://localhost:8081/cb", true, true},
		{"http://app.localhost/cb", true, true},
		{"http://127.0.0.1/cb", true, true},
		{"http://127.8.8.8:1/cb", true, true},
		{"http://[::1]:8081/cb", true, true},
		{"com.example.app:/cb", false, true},
		{"com.example.app://cb", false, true},

		{"", false, false},
		{" ", false, false},
		{"/cb", false, false},
		{"//acme.test/cb", false, false},
		{"acme.test/cb", false, false},
		{"https:", false, false},
		{"https:acme.test/cb", false, false},
		{"https:/acme.test/cb", false, false},
		{"https:///cb", false, false},
		{"https://:443/cb", false, false},
		{"http://acme.test/cb", false, false},
		{"http://localhost.acme.test/cb", false, false},
		{"http://notlocalhost/cb", false, false},
		{"http://127.0.0.1.acme.test/cb", false, false},
		{"http://192.0.2.1/cb", false, false},
		{"http://0.0.0.0/cb", false, false},
		{"http://2130706433/cb", false, false},
		{"http://[::ffff:192.0.2.1]/cb", false, false},
		{"http:///cb", false, false},
		{"https://169.254.169.254/cb", false, false},
		{"https://[fe80::1]/cb", false, false},
		{"https://[::ffff:169.254.169.254]/cb", false, false},
		{"https://acme.test/cb#", false, false},
		{"https://acme.test/cb#f", false, false},
		{"com.example.app:/cb#f", false, false},
		{"https://user@acme.test/cb", false, false},
		{"https://user:pw@acme.test/cb", false, false},
		{"https://@acme.test/cb", false, false},
		{"https://acme.test\\@evil.test/cb", false, false},
		{"https://acme.test/../cb", false, false},
		{"https://acme.test/a/./cb", false, false},
		{"https://acme.test/%2e%2e/cb", false, false},
		{"https://acme.test/a/%2E/cb", false, false},
		{"https://acme.test/cb/..", false, false},
		{"https://acme.test/..%2f", false, false},
		{"https://*.acme.test/cb", false, false},
		{"https://acme.test/*", false, false},
		{"https://acme.test/cb?*", false, false},
		{"https://acme.test/{id}", false, false},
		{"https://acme.test/c b", false, false},
		{" https://acme.test/cb", false, false},
		{"https://acme.test/cb\n", false, false},
		{"https://acme.test/cb\x00", false, false},
		{"https://acme.test/\"<script>", false, false},
		{"https://acme.test/é", false, false},
		{"https://аcme.test/cb", false, false},
		{"https://acme.test/%zz", false, false},
		{"https://acme.test/" + strings.Repeat("a", 2000), false, false},
		{"javascript:alert(1)", false, false},
		{"JavaScript://acme.test/%0aalert(1)", false, false},
		{"data:text/html,x", false, false},
		{"vbscript:x", false, false},
		{"file:///etc/passwd", false, false},
		{"ftp://acme.test/cb", false, false},
		{"myapp:/cb", false, false},
		{"urn:ietf:wg:oauth:2.0:oob", false, false},
		{"blob:https://acme.test/x", false, false},
		{"about:blank", false, false},
	} {
		for public, want := range map[bool]bool{false: c.confidential, true: c.public} {
			if err := checkRedirectURI(c.uri, public); (err == nil) != want {
				t.Errorf("checkRedirectURI(%q, %v) = %v, want it taken: %v", c.uri, public, err, want)
			}
		}
	}
}

// publicJWKS is the P-256 key of RFC 7517 A.1.
const publicJWKS = `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","alg":"ES256","kid":"1"}]}`

// LO-08: where a client is told of sign-outs is not within the provider's own
// network, unless the operator lets it be.
func TestLO08_BackchannelURIs(t *testing.T) {
	for _, c := range []struct {
		uri            string
		taken, trusted bool // by a provider that may go to private addresses
	}{
		{"https://acme.test/backchannel-logout", true, true},
		{"https://acme.test:8443/out?tenant=1", true, true},
		{"https://198.51.100.7/out", true, true},
		{"https://[2001:db8::1]/out", true, true},

		{"http://localhost:8081/out", false, true},
		{"http://127.0.0.1/out", false, true},
		{"http://[::1]/out", false, true},
		{"https://localhost/out", false, true},
		{"https://app.localhost/out", false, true},
		{"https://127.0.0.1/out", false, true},
		{"https://10.0.0.7/out", false, true},
		{"https://172.16.3.4/out", false, true},
		{"https://192.168.1.1/out", false, true},
		{"https://[fd00::1]/out", false, true},
		{"https://[::ffff:10.0.0.7]/out", false, true},

		{"https://169.254.169.254/latest/meta-data", false, false},
		{"https://[fe80::1]/out", false, false},
		{"https://0.0.0.0/out", false, false},
		{"https://[::]/out", false, false},
		{"https://100.64.0.1/out", false, false},
		{"https://224.0.0.1/out", false, false},
		{"https://[::ffff:169.254.169.254]/out", false, false},
		{"http://acme.test/out", false, false},
		{"http://10.0.0.7/out", false, false},
		{"https://acme.test/out#f", false, false},
		{"https://acme.test/out#", false, false},
		{"https://user:pw@acme.test/out", false, false},
		{"file:///etc/passwd", false, false},
		{"com.example.app:/out", false, false},
		{"gopher://acme.test/", false, false},
		{"//acme.test/out", false, false},
		{"/out", false, false},
		{" ", false, false},
	} {
		for allow, want := range map[bool]bool{false: c.taken, true: c.trusted} {
			if err := checkBackchannelURI(c.uri, allow); (err == nil) != want {
				t.Errorf("checkBackchannelURI(%q, %v) = %v, want it taken: %v", c.uri, allow, err, want)
			}
		}
	}
}

// What is refused is refused by Create, for either list, and nothing is written.
func TestAD06_Create(t *testing.T) {
	dbtest.EachDB(t, func(t *testing.T, d *db.DB) {
		clients := NewClients(d)
		good := Client{ID: "good", Name: "Good", RedirectURIs: []string{"https://good.test/cb"}, RequirePKCE: true}
		with := func(change func(*Client)) Client {
			c := good
			change(&c)
			return c
		}
		many := slices.Repeat([]string{"https://good.test/cb"}, 300)
		for what, c := range map[string]struct {
			client Client
			secret string
			field  string
		}{
			"no redirect URI":         {with(func(c *Client) { c.RedirectURIs = nil }), "", "redirect-uri"},
			"bad redirect URI":        {with(func(c *Client) { c.RedirectURIs = []string{"https://good.test/cb", "javascript:alert(1)"} }), "", "redirect-uri"},
			"http":                    {with(func(c *Client) { c.RedirectURIs = []string{"http://good.test/cb"} }), "", "redirect-uri"},
			"app scheme, with secret": {with(func(c *Client) { c.RedirectURIs = []string{"com.example.app:/cb"} }), "", "redirect-uri"},
			"300 redirect URIs":       {with(func(c *Client) { c.RedirectURIs = many }), "", "redirect-uri"},
			"bad post-logout URI":     {with(func(c *Client) { c.PostLogoutRedirectURIs = []string{"//evil.test"} }), "", "post-logout-redirect-uri"},
			"bad back-channel URI":    {with(func(c *Client) { c.BackchannelLogoutURI = "http://localhost/out" }), "", "backchannel-logout-uri"},
			"300 post-logout URIs":    {with(func(c *Client) { c.PostLogoutRedirectURIs = many }), "", "redirect-uri"},
			"bad id":                  {with(func(c *Client) { c.ID = "a b" }), "", "id"},
			"id of markup":            {with(func(c *Client) { c.ID = "<script>" }), "", "id"},
			"no name":                 {with(func(c *Client) { c.Name = "" }), "", "name"},
			"unknown method":          {with(func(c *Client) { c.AuthMethod = "client_secret_jwt" }), "", "auth-method"},
			"keys without the method": {with(func(c *Client) { c.JWKSURI = "https://good.test/jwks" }), "", "jwks"},
			"the method without keys": {with(func(c *Client) { c.AuthMethod = AuthKey }), "", "jwks"},
			"keys in both places":     {with(func(c *Client) { c.AuthMethod, c.JWKSURI, c.JWKS = AuthKey, "https://good.test/jwks", publicJWKS }), "", "jwks"},
			"jwks that is none":       {with(func(c *Client) { c.AuthMethod, c.JWKS = AuthKey, `[]` }), "", "jwks"},
			"jwks without a key":      {with(func(c *Client) { c.AuthMethod, c.JWKS = AuthKey, `{"keys":[]}` }), "", "jwks"},
			"jwks with a private key": {with(func(c *Client) {
				c.AuthMethod, c.JWKS = AuthKey, strings.Replace(publicJWKS, `"x":`, `"d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE","x":`, 1)
			}), "", "jwks"},
			"jwks with a secret key":  {with(func(c *Client) { c.AuthMethod, c.JWKS = AuthKey, `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}` }), "", "jwks"},
			"jwks for encryption":     {with(func(c *Client) { c.AuthMethod, c.JWKS = AuthKey, strings.Replace(publicJWKS, `"sig"`, `"enc"`, 1) }), "", "jwks"},
			"jwks for HS256":          {with(func(c *Client) { c.AuthMethod, c.JWKS = AuthKey, strings.Replace(publicJWKS, `"ES256"`, `"HS256"`, 1) }), "", "jwks"},
			"http jwks-uri":           {with(func(c *Client) { c.AuthMethod, c.JWKSURI = AuthKey, "http://good.test/jwks" }), "", "jwks-uri"},
			"keys and a secret":       {with(func(c *Client) { c.AuthMethod, c.JWKS = AuthKey, publicJWKS }), strings.Repeat("s", 32), "secret"},
			"alg none":                {with(func(c *Client) { c.IDTokenAlg = "none" }), "", "id-token-alg"},
			"alg HS256":               {with(func(c *Client) { c.IDTokenAlg = "HS256" }), "", "id-token-alg"},
			"public without PKCE":     {with(func(c *Client) { c.AuthMethod, c.RequirePKCE = AuthNone, false }), "", "require-pkce"},
			"public with a secret":    {with(func(c *Client) { c.AuthMethod = AuthNone }), strings.Repeat("s", 32), "secret"},
			"short secret":            {good, strings.Repeat("s", 31), "secret"},
			"scope with a quote":      {with(func(c *Client) { c.Scopes = []string{"openid", "api\"read"} }), "", "scope"},
			"scope with a backslash":  {with(func(c *Client) { c.Scopes = []string{`api\read`} }), "", "scope"},
			"scope with a space":      {with(func(c *Client) { c.Scopes = []string{"openid email"} }), "", "scope"},
			"scope of nothing":        {with(func(c *Client) { c.Scopes = []string{""} }), "", "scope"},
			"scope beyond ASCII":      {with(func(c *Client) { c.Scopes = []string{"é"} }), "", "scope"},
			"scope twice":             {with(func(c *Client) { c.Scopes = []string{"openid", "openid"} }), "", "scope"},
			"scopes too long":         {with(func(c *Client) { c.Scopes = []string{strings.Repeat("s", 1001)} }), "", "scope"},
			"unknown grant":           {with(func(c *Client) { c.GrantTypes = []string{grantCode, "password"} }), "", "grant"},
			"no grant":                {with(func(c *Client) { c.GrantTypes = []string{} }), "", "grant"},
			"refreshing alone":        {with(func(c *Client) { c.GrantTypes = []string{grantRefresh} }), "", "grant"},
			"public, as itself":       {with(func(c *Client) { c.AuthMethod, c.GrantTypes = AuthNone, []string{grantCode, grantClient} }), "", "grant"},
			"itself, redirect URI":    {with(func(c *Client) { c.GrantTypes = []string{grantClient} }), "", "redirect-uri"},
			"access token of no kind": {with(func(c *Client) { c.AccessToken = "JWT" }), "", "access-token"},
		} {
			_, plain, err := clients.Create(t.Context(), c.client, c.secret, "test")
			if invalid, ok := errors.AsType[*account.InvalidError](err); !ok || invalid.Field != c.field || plain != "" {
				t.Errorf("%s: %v", what, err)
			}
		}
		if list, err := clients.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%d clients, %v", len(list), err)
		}
		if _, _, err := clients.Create(t.Context(), good, "", "test"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := clients.Create(t.Context(), good, "", "test"); !errors.Is(err, ErrClientExists) {
			t.Errorf("the same once more: %v", err)
		}
	})
}

// What may be registered is one address: a parser and a browser agree on where
// it is, and an answer's parameters stay behind it.
func FuzzCheckRedirectURI(f *testing.F) {
	for _, seed := range []string{
		"https://acme.test/cb", "https://acme.test", "https://acme.test?", "https://acme.test/cb?x=%41&y", "http://localhost:8081/cb", "http://[::1]/cb", "com.example.app:/cb", "com.example.app:cb", "https://acme.test\\@evil.test", "https://a@b",
		"https://acme.test/#", "http://127.0.0.1.evil.test", "javascript:alert(1)", "https://[fe80::1%25eth0]/", "https://acme.test:/cb", "https://acme.test:99999/", "https://acme.test/%2e%2e/", "//x", "https://*", "a.b:", "https://acme.test/;a=b?c;d",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, s string, public bool) {
		if checkRedirectURI(s, public) != nil {
			return
		}
		u, err := url.Parse(s)
		if err != nil || len(s) > 2000 || strings.ContainsAny(s, "#\\<>\"*{}|^` \r\n\t\x00") || u.User != nil {
			t.Fatalf("%q was taken: %v", s, err)
		}
		switch {
		case u.Scheme == "https" && u.Hostname() != "":
		case u.Scheme == "http" && Loopback(u.Hostname()):
		case public && strings.Contains(u.Scheme, "."):
		default:
			t.Errorf("%q was taken", s)
		}
		if !public && checkRedirectURI(s, true) != nil {
			t.Errorf("%q is good for a confidential client and not for a public one", s)
		}
		to := withQuery(s, url.Values{"code": {"c&=#d"}, "state": {"s"}})
		back, err := url.Parse(to)
		if err != nil || back.Host != u.Host || back.Path != u.Path || back.Fragment != "" || !strings.HasPrefix(to, s) {
			t.Fatalf("%q answers at %q: %v", s, to, err)
		}
		if q := back.RawQuery; !strings.HasSuffix(q, "code=c%26%3D%23d&state=s") {
			t.Errorf("%q answers at %q", s, to)
		}
	})
}
