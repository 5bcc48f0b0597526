package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
)

// Workspaces that other projects' client libraries make, as they are, against
// what serve serves: code with PKCE, refresh and userinfo, for each way in which
// a workspace proves itself and each signature that it may ask for.

// npmDir holds what the tests take from npm.
const npmDir = "testdata/clients"

// npm installs it if it is not there, at the versions of the lock file.
func npm(t *testing.T) {
	t.Helper()
	lock, err := os.Stat(filepath.Join(npmDir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if done, err := os.Stat(filepath.Join(npmDir, "node_modules", ".package-lock.json")); err == nil && !done.ModTime().Before(lock.ModTime()) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--prefix", npmDir, "--ignore-scripts", "--no-audit", "--no-fund")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v; \"make tools\" installs Node.js with npm, and npm needs its registry\n%s", cmd, err, out)
	}
}

// A party is a workspace that is registered at a provider that serves.
type party struct {
	Issuer     string `json:"issuer"`
	ID         string `json:"client_id"`
	Secret     string `json:"client_secret,omitempty"`
	AuthMethod string `json:"token_endpoint_auth_method"`
	Alg        string `json:"id_token_signed_response_alg"`
	Redirect   string `json:"redirect_uri"`
	DPoP       bool   `json:"dpop"` // its requests are pushed, too
}

// partyCallback is where nobody listens: the driver takes the answer from the
// redirect.
const partyCallback = "http://localhost:4/callback"

// A received is what a workspace got out of one sign-in.
type received struct {
	Claims        map[string]any `json:"claims"`   // of the ID token
	Userinfo      map[string]any `json:"userinfo"` // with the first access token
	Refreshed     map[string]any `json:"refreshed"`
	UserinfoAgain map[string]any `json:"userinfoAgain"` // with the second
	Renewed       bool           `json:"renewed"`       // whether the second is another one
	Type          string         `json:"type"`          // of the first, as the library writes it
	Header        map[string]any `json:"header"`        // of the ID token
}

// check is what any of them must have received.
func (r received) check(t *testing.T, p party) {
	t.Helper()
	for name, want := range map[string]any{"iss": p.Issuer, "aud": p.ID, "acr": "urn:harmony:acr:1fa"} {
		if r.Claims[name] != want || r.Refreshed[name] != want {
			t.Errorf("%s = %v and %v, want %v", name, r.Claims[name], r.Refreshed[name], want)
		}
	}
	for _, name := range []string{"sub", "sid", "auth_time"} {
		if r.Claims[name] == nil || r.Claims[name] != r.Refreshed[name] {
			t.Errorf("%s = %v, after refreshing %v", name, r.Claims[name], r.Refreshed[name])
		}
	}
	if r.Header["alg"] != p.Alg || r.Header["kid"] == nil {
		t.Errorf("the ID token's header is %v, want %s", r.Header, p.Alg)
	}
	if want := strings.ToLower(tokenTypes[p.DPoP]); strings.ToLower(r.Type) != want {
		t.Errorf("token_type %s, want %s", r.Type, want)
	}
	if !r.Renewed {
		t.Error("the same access token after refreshing")
	}
	for name, want := range map[string]any{"sub": r.Claims["sub"], "email": adaEmail, "email_verified": false, "name": "Ada Lovelace"} {
		if r.Userinfo[name] != want {
			t.Errorf("userinfo: %s = %v, want %v", name, r.Userinfo[name], want)
		}
	}
	if !reflect.DeepEqual(r.Userinfo, r.UserinfoAgain) {
		t.Errorf("userinfo = %v, after refreshing %v", r.Userinfo, r.UserinfoAgain)
	}
}

var tokenTypes = map[bool]string{false: "Bearer", true: "DPoP"}

// eachParty serves a provider and runs play for a workspace of every kind, and of the
// kinds whose requests are pushed and whose tokens are bound.
func eachParty(t *testing.T, engine string, bound bool, play func(*testing.T, party)) {
	sh, at := serveShell(t, dbtest.URL(t, engine))
	sh.run(adaPassword, "user", "create", "--email", adaEmail, "--name", "Ada Lovelace", "--password-stdin").want(0)
	var all []party
	for _, method := range []string{idp.AuthBasic, idp.AuthPost, idp.AuthNone} {
		for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
			made := sh.run("", "client", "create", "--name", alg+" "+method, "--redirect-uri", partyCallback,
				"--auth-method", method, "--id-token-alg", alg, "-o", "json").want(0)
			p := party{Issuer: at, Redirect: partyCallback}
			if err := json.Unmarshal([]byte(made.stdout), &p); err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		if !bound {
			continue
		}
		made := sh.run("", "client", "create", "--name", "Bound "+method, "--redirect-uri", partyCallback, "--auth-method", method, "--require-par", "--dpop", "-o", "json").want(0)
		p := party{Issuer: at, Redirect: partyCallback, DPoP: true}
		if err := json.Unmarshal([]byte(made.stdout), &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	r := sh.start("serve")
	for _, p := range all {
		t.Run(fmt.Sprint(p.AuthMethod, "/", p.Alg, "/", tokenTypes[p.DPoP]), func(t *testing.T) { play(t, p) })
	}
	if code := r.end(); code != 0 || t.Failed() {
		t.Errorf("exit code %d\n%s", code, &r.stderr)
	}
}

// signInAt signs Ada in where a workspace sends her and returns the address of
// the workspace that she came back to.
func (p party) signInAt(t *testing.T, authorize string) string {
	t.Helper()
	h := &devHouse{running: &running{t: t}, provider: p.Issuer, browser: newDevBrowser(t)}
	h.browser.CheckRedirect = func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), p.Redirect) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	form := h.open(authorize).want(http.StatusOK, p.Issuer+"/login").fields()
	form.Set("email", adaEmail)
	form.Set("password", adaPassword)
	req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, p.Issuer+"/login", strings.NewReader(form.Encode())))(t)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", p.Issuer)
	resp := must(h.browser.Do(req))(t)
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d at %s: no way back to the workspace\n%s", resp.StatusCode, resp.Request.URL, body)
	}
	return back.String()
}

// A driver is a program of Node's that plays workspaces, one after the other, and
// is driven by lines of JSON.
type driver struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Reader
	stderr  lockedBuffer
}

func startDriver(t *testing.T, name string) *driver {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	d := &driver{name: name, cmd: exec.CommandContext(ctx, "node", filepath.Join(npmDir, name+".mjs"))}
	d.cmd.Stderr = &d.stderr
	d.in = must(d.cmd.StdinPipe())(t)
	d.answers = bufio.NewReader(must(d.cmd.StdoutPipe())(t))
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("%v; \"make tools\" installs Node.js", err)
	}
	return d
}

func (d *driver) ask(t *testing.T, question, answer any) {
	t.Helper()
	err := json.NewEncoder(d.in).Encode(question)
	var line []byte
	if err == nil {
		line, err = d.answers.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, answer)
	}
	if err != nil {
		err = errors.Join(err, d.in.Close(), d.cmd.Wait())
		t.Fatalf("%s: %v\n%s", d.name, err, &d.stderr)
	}
}

// TestClientsNode are npm's openid-client and oauth4webapi, the certified
// libraries of Node.
func TestClientsNode(t *testing.T) {
	npm(t)
	dbtest.Each(t, func(t *testing.T, engine string) {
		drivers := []*driver{startDriver(t, "openid-client"), startDriver(t, "oauth4webapi")}
		eachParty(t, engine, true, func(t *testing.T, p party) {
			for _, d := range drivers {
				var begun struct{ Authorize string }
				d.ask(t, p, &begun)
				var r received
				d.ask(t, map[string]string{"callback": p.signInAt(t, begun.Authorize)}, &r)
				r.check(t, p)
			}
		})
		for _, d := range drivers {
			if err := errors.Join(d.in.Close(), d.cmd.Wait()); err != nil && !t.Failed() {
				t.Errorf("%s: %v\n%s", d.name, err, &d.stderr)
			}
		}
	})
}

// TestClientsGoOIDC is coreos/go-oidc with x/oauth2, as its examples have it.
func TestClientsGoOIDC(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		eachParty(t, engine, false, func(t *testing.T, p party) {
			ctx := t.Context()
			provider := must(oidc.NewProvider(ctx, p.Issuer))(t)
			endpoint := provider.Endpoint()
			endpoint.AuthStyle = oauth2.AuthStyleInParams
			if p.AuthMethod == idp.AuthBasic {
				endpoint.AuthStyle = oauth2.AuthStyleInHeader
			}
			config := &oauth2.Config{
				ClientID: p.ID, ClientSecret: p.Secret, Endpoint: endpoint, RedirectURL: p.Redirect,
				Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess},
			}
			verifier := oauth2.GenerateVerifier()
			authorize := config.AuthCodeURL("of my own", oidc.Nonce("for once"), oauth2.S256ChallengeOption(verifier))
			back := must(url.Parse(p.signInAt(t, authorize)))(t).Query()
			if back.Get("state") != "of my own" || back.Get("iss") != p.Issuer {
				t.Fatalf("came back with %v", back)
			}
			token := must(config.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(verifier)))(t)

			var r received
			checked := func(token *oauth2.Token) (claims map[string]any, raw string) {
				t.Helper()
				raw, _ = token.Extra("id_token").(string)
				id := must(provider.VerifierContext(ctx, &oidc.Config{ClientID: p.ID, SupportedSigningAlgs: []string{p.Alg}}).Verify(ctx, raw))(t)
				if err := errors.Join(id.VerifyAccessToken(token.AccessToken), id.Claims(&claims)); err != nil {
					t.Fatal(err)
				}
				return claims, raw
			}
			about := func(token *oauth2.Token) (claims map[string]any) {
				t.Helper()
				if err := must(provider.UserInfo(ctx, oauth2.StaticTokenSource(token)))(t).Claims(&claims); err != nil {
					t.Fatal(err)
				}
				return claims
			}
			var raw string
			r.Claims, raw = checked(token)
			if r.Claims["nonce"] != "for once" {
				t.Errorf("nonce = %v", r.Claims["nonce"])
			}
			header, _, _ := strings.Cut(raw, ".")
			if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(header))(t), &r.Header); err != nil {
				t.Fatal(err)
			}
			r.Userinfo = about(token)
			again := must(config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token())(t)
			r.Refreshed, _ = checked(again)
			r.Type = token.TokenType
			r.Renewed = again.AccessToken != token.AccessToken
			r.UserinfoAgain = about(again)
			r.check(t, p)

			// A public client's refresh token is spent, and so is a code.
			if _, err := config.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(verifier)); err == nil {
				t.Error("the code works twice")
			}
		})
	})
}
