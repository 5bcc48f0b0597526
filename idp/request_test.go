package idp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/secret"
)

// needs is the one place that decides. The table has every combination of what a
// request can demand with what a browser can have.
func TestNeeds(t *testing.T) {
	const (
		me, other = "usr_me", "usr_other"
		columns   = 5
	)
	// L sign in, N nothing, R refuse. Columns: no session; one whose proof is an hour
	// old; 5 seconds old; as old as the request; younger than the request.
	for _, c := range []struct {
		prompt, maxAge, hint string
		want                 string
	}{
		{"", "", "", "LNNNN"},
		{"", "0", "", "LLLNN"},
		{"", "4", "", "LLLNN"},
		{"", "60", "", "LLNNN"},
		{"", "", me, "LNNNN"},
		{"", "0", me, "LLLNN"},
		{"", "4", me, "LLLNN"},
		{"", "60", me, "LLNNN"},
		{"", "", other, "LLLRR"},
		{"", "0", other, "LLLRR"},
		{"", "4", other, "LLLRR"},
		{"", "60", other, "LLLRR"},

		{"none", "", "", "RNNNN"},
		{"none", "0", "", "RRRNN"},
		{"none", "4", "", "RRRNN"},
		{"none", "60", "", "RRNNN"},
		{"none", "", me, "RNNNN"},
		{"none", "0", me, "RRRNN"},
		{"none", "4", me, "RRRNN"},
		{"none", "60", me, "RRNNN"},
		{"none", "", other, "RRRRR"},
		{"none", "0", other, "RRRRR"},
		{"none", "4", other, "RRRRR"},
		{"none", "60", other, "RRRRR"},

		{"login", "", "", "LLLNN"},
		{"login", "0", "", "LLLNN"},
		{"login", "4", "", "LLLNN"},
		{"login", "60", "", "LLLNN"},
		{"login", "", me, "LLLNN"},
		{"login", "0", me, "LLLNN"},
		{"login", "4", me, "LLLNN"},
		{"login", "60", me, "LLLNN"},
		{"login", "", other, "LLLRR"},
		{"login", "0", other, "LLLRR"},
		{"login", "4", other, "LLLRR"},
		{"login", "60", other, "LLLRR"},

		{"select_account", "", "", "LLLNN"},
		{"select_account", "0", "", "LLLNN"},
		{"select_account", "4", "", "LLLNN"},
		{"select_account", "60", "", "LLLNN"},
		{"select_account", "", me, "LLLNN"},
		{"select_account", "0", me, "LLLNN"},
		{"select_account", "4", me, "LLLNN"},
		{"select_account", "60", me, "LLLNN"},
		{"select_account", "", other, "LLLRR"},
		{"select_account", "0", other, "LLLRR"},
		{"select_account", "4", other, "LLLRR"},
		{"select_account", "60", other, "LLLRR"},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			time.Sleep(20 * time.Second) // the person takes a while
			r := &request{client: &Client{}, ID: "waits", Prompt: c.prompt, HintSub: c.hint, CreatedAt: began}
			if c.maxAge != "" {
				n := must(time.ParseDuration(c.maxAge + "s"))
				seconds := int64(n.Seconds())
				r.MaxAge = &seconds
			}
			var got strings.Builder
			for i := range columns {
				in := &account.Session{UserID: me}
				switch i {
				case 0:
					in = nil
				case 1:
					in.AuthTime = began.Add(-time.Hour)
				case 2: // at the time of the decision 25 seconds ago
					in.AuthTime = began.Add(-5 * time.Second)
				case 3:
					in.AuthTime = began
				case 4:
					in.AuthTime = began.Add(10 * time.Second)
				}
				got.WriteByte("NLVSCRMX"[r.needs(in)])
			}
			if got.String() != c.want {
				t.Errorf("prompt %q, max_age %q, hint %q: got %s, want %s", c.prompt, c.maxAge, c.hint, got.String(), c.want)
			}
		})
	}
}

// The very second counts: max_age is how old a proof may be, not how old it must
// not be.
func TestNeedsMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &account.Session{UserID: "usr_me", AuthTime: time.Now()}
		time.Sleep(time.Minute)
		sixty := int64(60)
		r := &request{client: &Client{}, MaxAge: &sixty, CreatedAt: time.Now()}
		if got := r.needs(in); got != stepNone {
			t.Errorf("after 60 seconds: %d", got)
		}
		time.Sleep(time.Microsecond)
		if got := r.needs(in); got != stepLogin {
			t.Errorf("after more than 60 seconds: %d", got)
		}
	})
}

// What needs decides about the second factor, once nothing else is needed.
func TestNeedsSecond(t *testing.T) {
	now := time.Now()
	one, two := account.ACR1FA, account.ACR2FA
	for _, c := range []struct {
		demanded, wished bool // by the client's registration, by acr_values
		prompt           string
		acr              string
		has              bool // two-factor authentication, by now
		want             step
	}{
		{false, false, "", one, false, stepNone},
		{false, false, "", one, true, stepNone},
		{false, true, "", one, false, stepNone}, // a wish that cannot be fulfilled
		{false, true, "", one, true, stepVerify},
		{false, true, "", two, true, stepNone},
		{false, true, "none", one, true, stepRefuseMore},
		{false, true, "none", one, false, stepNone},
		{true, false, "", one, false, stepSetUp},
		{true, false, "", one, true, stepVerify},
		{true, false, "", two, true, stepNone},
		{true, false, "", two, false, stepNone}, // a passkey that verified; who turns two-factor authentication off has the sessions of its codes lowered
		{true, false, "none", one, false, stepRefuseMore},
		{true, false, "none", one, true, stepRefuseMore},
		{true, true, "none", two, true, stepNone},
	} {
		r := &request{client: &Client{Require2FA: c.demanded}, Second: c.wished, Prompt: c.prompt, CreatedAt: now}
		in := &account.Session{UserID: "usr_me", AuthTime: now, ACR: c.acr, TwoFactor: c.has}
		if got := r.needs(in); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// acr_values is in the order of preference (OIDC Core 3.1.2.1).
func TestACRValues(t *testing.T) {
	clients := map[string]*Client{"acme": {ID: "acme", RedirectURIs: []string{"https://acme.test/cb"}, Scopes: allScopes, GrantTypes: []string{grantCode}}}
	for values, want := range map[string]bool{
		"": false, account.ACR2FA: true, account.ACR1FA: false, account.ACR2FA + " " + account.ACR1FA: true, account.ACR1FA + " " + account.ACR2FA: false,
		"urn:other " + account.ACR2FA: true, "urn:other": false,
	} {
		q := url.Values{"client_id": {"acme"}, "redirect_uri": {"https://acme.test/cb"}, "response_type": {"code"}, "scope": {"openid"}, "acr_values": {values}}
		r, err := parseRequest(q, clients, nil)
		if err != nil || r.Second != want {
			t.Errorf("%q: %v, %v", values, r.Second, err)
		}
	}
}

// OP-07: another replica's clock may be ahead. A proof from the future is not
// fresh, and none answers a request that only just arrived.
func TestOP07_NeedsWithSkew(t *testing.T) {
	zero := int64(0)
	for what, r := range map[string]*request{
		"login": {client: &Client{}, Prompt: "login", CreatedAt: time.Now()}, "max_age": {client: &Client{}, MaxAge: &zero, CreatedAt: time.Now()}, "select": {client: &Client{}, Prompt: "select_account", CreatedAt: time.Now()},
	} {
		if got := r.needs(&account.Session{UserID: "usr_me", AuthTime: time.Now().Add(90 * time.Second)}); got != stepLogin {
			t.Errorf("%s: %d", what, got)
		}
	}
	g := &grant{clientID: "acme", createdAt: time.Now().Add(90 * time.Second)}
	if why := wrongRedemption(testClients["acme"], g, "u", "u", "", "", time.Now()); !strings.HasPrefix(why, "the code has expired") {
		t.Errorf("a code from the future: %q", why)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var testClients = map[string]*Client{
	"acme":   {ID: "acme", Name: "Acme", RedirectURIs: []string{"https://acme.test/cb", "https://acme.test/cb?a=%41"}, AuthMethod: AuthBasic, RequirePKCE: true, GrantTypes: []string{grantCode, grantRefresh}, Scopes: allScopes},
	"public": {ID: "public", Name: "Public", RedirectURIs: []string{"com.example.app:/cb"}, AuthMethod: AuthNone, RequirePKCE: true, GrantTypes: []string{grantCode}, Scopes: []string{"openid", "email", "offline_access"}},
	"legacy": {ID: "legacy", Name: "Legacy", RedirectURIs: []string{"https://legacy.test/cb"}, AuthMethod: AuthPost, GrantTypes: []string{grantCode, grantRefresh}, Scopes: []string{"openid"}},
}

// errorText is what RFC 6749 5.2 lets an error say.
var errorText = regexp.MustCompile(`^[\x20\x21\x23-\x5b\x5d-\x7e]+$`)

// Whatever a request says, it ends as a page, as an error that its client can
// read, or as a request that keeps what the client is registered for.
func FuzzParseRequest(f *testing.F) {
	const challenge = "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
	const acme = "client_id=acme&redirect_uri=https%3A%2F%2Facme.test%2Fcb&response_type=code&scope=openid"
	for _, seed := range []string{
		"", "client_id", "client_id=acme", acme, acme + challenge, acme + challenge + "&state=s&nonce=n&prompt=login&max_age=0&login_hint=a%40b.c&display=page&ui_locales=se&acr_values=1",
		acme + challenge + "&id_token_hint=good&prompt=none", acme + challenge + "&id_token_hint=e30.bnVsbA.eA", acme + challenge + "&max_age=-1", acme + challenge + "&max_age=9999999999999999999",
		acme + challenge + "&max_age=2147483647&prompt=select_account+consent", acme + challenge + "&prompt=none+login", acme + challenge + "&state=a&state=b", acme + challenge + "&client_id=acme", acme + challenge + "&redirect_uri=",
		acme + "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM%0A&code_challenge_method=S256", acme + "&code_challenge=x&code_challenge_method=plain", acme + challenge + "&state=%FF%00", acme + challenge + "&nonce=%C3%28",
		acme + challenge + "&request=x", acme + challenge + "&request_uri=http://x", acme + challenge + "&response_mode=fragment", "client_id=legacy&redirect_uri=https://legacy.test/cb&response_type=code&scope=openid+email+phone",
		"client_id=public&redirect_uri=com.example.app:/cb&response_type=code&scope=offline_access+openid+email+profile" + challenge, "client_id=public&redirect_uri=com.example.app:/cb&response_type=code&scope=openid",
		"client_id=acme&redirect_uri=https%253A%252F%252Facme.test%252Fcb", "client_id=acme&redirect_uri=https://acme.test/cb?a=A", "%zz", ";", "&&&=", acme + challenge + "&max_age=%2B5",
	} {
		f.Add(seed)
	}
	hint := func(token, clientID string) (string, error) {
		if token != "good" || testClients[clientID] == nil {
			return "", errors.New("bad")
		}
		return "usr_me", nil
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return // was answered before
		}
		r, err := parseRequest(q, testClients, hint)
		if page, ok := errors.AsType[*pageError](err); ok {
			if r != nil || page.Error() == "" {
				t.Fatalf("a page with a request: %+v", r)
			}
			return
		}
		// From here on the client is known, and the answer goes to an address of its own.
		if r == nil || r.client != testClients[r.ClientID] || !slices.Contains(r.client.RedirectURIs, r.RedirectURI) || len(q["client_id"]) != 1 || len(q["redirect_uri"]) != 1 ||
			r.ClientID != q.Get("client_id") || r.RedirectURI != q.Get("redirect_uri") {
			t.Fatalf("%q: %+v, %v", raw, r, err)
		}
		if !text(r.State) {
			t.Errorf("%q: the answer would have the state %q", raw, r.State)
		}
		if r.State != q.Get("state") && len(q["state"]) == 1 || r.State != "" && len(q["state"]) != 1 {
			t.Errorf("%q: state %q", raw, r.State)
		}
		if refused, ok := errors.AsType[*oauthError](err); ok {
			if !errorText.MatchString(refused.code) || !errorText.MatchString(refused.description) {
				t.Errorf("%q: %v", raw, refused)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		for name, v := range q {
			if slices.Contains(parameters, name) && len(v) > 1 {
				t.Errorf("%q: %s twice", raw, name)
			}
		}
		if q.Get("response_type") != "code" || q.Get("request") != "" || q.Get("request_uri") != "" {
			t.Errorf("%q was taken", raw)
		}
		if r.Challenge == "" && r.client.RequirePKCE || r.Challenge != "" && (q.Get("code_challenge_method") != "S256" || !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(r.Challenge)) || r.Challenge != q.Get("code_challenge") {
			t.Errorf("%q: challenge %q", raw, r.Challenge)
		}
		granted := strings.Fields(r.Scope)
		if !slices.Contains(granted, "openid") {
			t.Errorf("%q: scope %q", raw, r.Scope)
		}
		for _, s := range granted {
			if !slices.Contains(r.client.Scopes, s) || !slices.Contains(strings.Fields(q.Get("scope")), s) || s == "offline_access" && !slices.Contains(r.client.GrantTypes, grantRefresh) {
				t.Errorf("%q: scope %q", raw, r.Scope)
			}
		}
		if !slices.Contains([]string{"", "none", "login", "select_account"}, r.Prompt) || r.MaxAge != nil && (*r.MaxAge < 0 || time.Duration(*r.MaxAge)*time.Second < 0) || (r.MaxAge == nil) != (q.Get("max_age") == "") {
			t.Errorf("%q: prompt %q, max_age %v", raw, r.Prompt, r.MaxAge)
		}
		if (r.HintSub != "") != (q.Get("id_token_hint") != "") || len(r.LoginHint) > maxLoginHint || len(r.Nonce) > maxNonce || r.Nonce != q.Get("nonce") {
			t.Errorf("%q: %+v", raw, r)
		}
		// It waits in the database as it is.
		back := request{ClientID: r.ClientID, CreatedAt: r.CreatedAt, client: r.client}
		if err := json.Unmarshal(must(json.Marshal(r)), &back); err != nil || !reflect.DeepEqual(&back, r) {
			t.Errorf("%q waits as %+v, %v; was %+v", raw, back, err, r)
		}
		// And the answer says what it should, beside what was registered.
		to := must(url.Parse(withQuery(r.RedirectURI, url.Values{"code": {"c"}, "state": {r.State}})))
		if got := to.Query(); got.Get("code") != "c" || got.Get("state") != r.State || !strings.HasPrefix(to.String(), r.RedirectURI) || strings.ContainsAny(to.String(), "\r\n") {
			t.Errorf("%q: answer %s", raw, to)
		}
	})
}

func FuzzVerifierText(f *testing.F) {
	for _, seed := range []string{"", strings.Repeat("a", 42), strings.Repeat("a", 43), strings.Repeat("~", 128), strings.Repeat("-", 129), strings.Repeat("é", 43), strings.Repeat("a", 43) + "\n", strings.Repeat("\xff", 43), strings.Repeat("a", 42) + "+", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"} {
		f.Add(seed)
	}
	want := regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`) // RFC 7636 4.1
	f.Fuzz(func(t *testing.T, s string) {
		if got := verifierText(s); got != want.MatchString(s) {
			t.Errorf("verifierText(%q) = %v", s, got)
		}
	})
}

func FuzzGrantOf(f *testing.F) {
	id := strings.Repeat("a2", 13)
	for _, seed := range []string{
		"", "hac_", newHandle(codePrefix, id), newHandle(refreshPrefix, id), newHandle(accessPrefix, id), secret.Token("hac_"), secret.Token("hac_" + id), secret.Token("hac_" + strings.ToUpper(id) + "_"), newHandle(codePrefix, id) + "\n",
		newHandle(codePrefix, strings.Repeat("_", 26)), newHandle(codePrefix, strings.Repeat("é", 13)), newHandle(codePrefix, "'; DROP TABLE grants; --aa"), newHandle("hac", "_"+id), newHandle(codePrefix, id)[1:], strings.Repeat("\xff", 74), newHandle(codePrefix, id[1:]) + "A",
	} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`^(h(?:ac|rt)_)([a-z2-7]{26})_((?s).{43})$`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, prefix := range []string{codePrefix, refreshPrefix} {
			got, ok := grantOf(s, prefix)
			if !ok {
				if got != "" {
					t.Errorf("grantOf(%q) = %q, false", s, got)
				}
				if m := form.FindStringSubmatch(s); m != nil && m[1] == prefix {
					if b, err := base64.RawURLEncoding.Strict().DecodeString(m[3]); err == nil && len(b) == 32 {
						t.Errorf("grantOf(%q) knows no grant", s)
					}
				}
				continue
			}
			m := form.FindStringSubmatch(s)
			if m == nil || m[1] != prefix || m[2] != got {
				t.Errorf("grantOf(%q, %s) = %q", s, prefix, got)
			}
		}
	})
}

// A refresh token that was given out is known for one, under every key of the
// ring; nothing else is.
func TestMadeHere(t *testing.T) {
	id, other := secret.ID(""), secret.ID("")
	file := secret.GenerateKeyFile()
	s := &Server{ring: must(secret.ParseRing(file))}
	token := s.newRefreshToken(id)
	next := s.successors(id, token)[0]
	for _, good := range []string{token, next} {
		if got, ok := grantOf(good, refreshPrefix); !ok || got != id {
			t.Fatalf("%q is of %q", good, got)
		}
		if !s.madeHere(id, good) {
			t.Errorf("%q was made here", good)
		}
		if s.madeHere(other, good) {
			t.Errorf("%q passes for another grant's", good)
		}
		for i := len(good) - 43; i < len(good)-1; i++ { // of the last character two bits are none
			changed := []byte(good)
			if changed[i]++; changed[i] == good[i] || !secret.IsToken(string(changed), good[:len(good)-43]) {
				continue
			}
			if s.madeHere(id, string(changed)) {
				t.Errorf("%q passes with another character %d", good, i)
			}
		}
	}
	if s.madeHere(id, newHandle(refreshPrefix, id)) {
		t.Error("a made-up token passes")
	}
	if next == token || s.successors(id, token)[0] != next || s.successors(id, next)[0] == token || s.successors(other, token)[0] == next {
		t.Error("successors repeat")
	}
	// With a new key in front what was given out is known, and its successor is found.
	rotated := &Server{ring: must(secret.ParseRing(append(secret.GenerateKeyFile(), file...)))}
	if !rotated.madeHere(id, token) || !rotated.madeHere(id, next) {
		t.Error("a key that was added makes tokens unknown")
	}
	if after := rotated.successors(id, token); len(after) != 2 || after[0] == next || after[1] != next || !rotated.madeHere(id, after[0]) {
		t.Errorf("successors under two keys: %q, under the old one %q", after, next)
	}
	if s.madeHere(id, rotated.newRefreshToken(id)) {
		t.Error("a key that is not there knows a token")
	}
	if stranger := (&Server{ring: must(secret.ParseRing(secret.GenerateKeyFile()))}); stranger.madeHere(id, token) || stranger.successors(id, token)[0] == next {
		t.Error("another provider's ring does as well")
	}
}

// A third-party client is answered when its person has allowed all that it asks for,
// and again when it asks for that.
func TestNeedsConsent(t *testing.T) {
	began := time.Now().Add(-time.Minute)
	in := &account.Session{UserID: "usr_me", AuthTime: began.Add(-time.Hour)}
	for _, c := range []struct {
		given  string
		at     time.Time
		third  bool
		again  bool
		prompt string
		want   step
	}{
		{"", time.Time{}, false, true, "", stepNone},
		{"", time.Time{}, true, false, "", stepConsent},
		{"", time.Time{}, true, false, "none", stepRefuseConsent},
		{"email openid", began.Add(-time.Hour), true, false, "", stepNone},
		{"email openid", began.Add(-time.Hour), true, false, "none", stepNone},
		{"openid", began.Add(-time.Hour), true, false, "", stepConsent},
		{"email", began.Add(-time.Hour), true, false, "none", stepRefuseConsent},
		{"email openid", began.Add(-time.Hour), true, true, "", stepConsent},
		{"email openid", began.Add(time.Second), true, true, "", stepNone},
	} {
		r := &request{ID: "x", Scope: "openid email", Prompt: c.prompt, AskAgain: c.again, CreatedAt: began, client: &Client{ThirdParty: c.third}, consent: consent{c.given, c.at}}
		if got := r.needs(in); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}
