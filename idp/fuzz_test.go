package idp

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What strangers send, read by what reads it: nothing of it panics, and what is
// taken is what it says it is.

// A proof is for an address of ours only if every reader of URLs agrees that it is.
func FuzzSameURI(f *testing.F) {
	const want = "https://id.test/oauth/token"
	for _, seed := range []string{
		want, want + "?x=y#z", "HTTPS://ID.TEST:443/oauth/token", "https://id.test:8443/oauth/token", "https://id.test@evil.test/oauth/token", "https://evil.test/https://id.test/oauth/token",
		"https://id.test/oauth/../oauth/token", "https://id.test//oauth/token", "https://id.test/oauth/token/", "https://id.test/oauth%2Ftoken", "https:id.test/oauth/token", "//id.test/oauth/token", "", "https://id.test\\@x/oauth/token", "https://[id.test]/oauth/token",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !sameURI(s, want) {
			return
		}
		u, err := url.Parse(s)
		if err != nil || !strings.EqualFold(u.Scheme, "https") || !strings.EqualFold(u.Hostname(), "id.test") || u.Port() != "" && u.Port() != "443" || u.EscapedPath() != "/oauth/token" || u.User != nil {
			t.Errorf("%q is taken for %s", s, want)
		}
	})
}

// Keys that are taken can sign what is taken, and there are so many at the most.
func FuzzParseKeys(f *testing.F) {
	for _, seed := range []string{
		`{"keys":[]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"enc"}]}`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"keys":null}`, `[]`, `{"keys":[1]}`,
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":""}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		keys, others, err := parseKeys([]byte(s))
		if err != nil {
			return
		}
		if len(keys) > maxKeys || others < 0 {
			t.Errorf("%d keys, %d others", len(keys), others)
		}
		for _, k := range keys {
			if !k.IsPublic() || !k.Valid() || len(algsOf(k)) == 0 {
				t.Errorf("%+v was taken", k)
			}
		}
	})
}

// An assertion that is read is signed in an algorithm that is taken.
func FuzzReadAssertion(f *testing.F) {
	for _, seed := range []string{
		"", "..", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.AAAA", "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsieCJdfQ.e30.AAAA",
		"eyJhbGciOiJFUzI1NiJ9.eyJhdWQiOlsiYSIsImIiXX0.AAAA", "eyJhbGciOiJFUzI1NiJ9.W10.AAAA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := readAssertion(s)
		if err == nil && (a == nil || !strings.Contains(strings.Join(assertionAlgs, " "), a.alg)) {
			t.Errorf("%q: %+v", s, a)
		}
	})
}

// Claims that are taken are known and allowed, and come back from a grant as they
// went in.
func FuzzTakeClaims(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", `{"userinfo":{"email":null,"name":{"essential":true},"x":1}}`, `{"id_token":{"sub":{"value":"usr_1"},"acr":{"essential":true,"values":["urn:harmony:acr:2fa"]}}}`, `{"id_token":{"acr":{"values":[1,null,{}]}}}`, `{"userinfo":{"email":{"essential":"yes"}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &request{client: &Client{Scopes: []string{"openid", "email"}}}
		if r.takeClaims(s) != nil {
			return
		}
		for _, name := range append(r.Claims.UserInfo, r.Claims.IDToken...) {
			if scopeOfClaim[name] != "email" {
				t.Errorf("%q: %s was taken", s, name)
			}
		}
		back, err := readClaims(r.Claims.text())
		if err != nil || len(back.UserInfo) != len(r.Claims.UserInfo) || len(back.IDToken) != len(r.Claims.IDToken) ||
			len(back.UserInfo)+len(back.IDToken) > 0 && !reflect.DeepEqual(back, r.Claims) {
			t.Errorf("%q: %+v came back as %+v: %v", s, r.Claims, back, err)
		}
	})
}

// A proof's claims are refused for what is wrong with them, whatever it is.
func FuzzDPoPClaims(f *testing.F) {
	f.Add(`{"jti":"x","htm":"POST","htu":"https://id.test/oauth/token","iat":1}`)
	f.Add(`{"iat":1e300}`)
	f.Add(`{"iat":-1e300,"jti":"x"}`)
	f.Fuzz(func(t *testing.T, s string) {
		var c dpopClaims
		if json.Unmarshal([]byte(s), &c) != nil {
			return
		}
		if why := c.wrong("POST", "https://id.test/oauth/token", "token", time.Unix(1, 0)); why == "" && (c.ID == "" || c.Method != "POST" || c.Token != tokenHash("token")) {
			t.Errorf("%q is right", s)
		}
	})
}
