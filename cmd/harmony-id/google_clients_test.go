package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/db/dbtest"
)

// TestGoogleOIDCProvider has serve sign people in with an OpenID provider that is not
// ours in Google's place: npm's oidc-provider, through real sockets, with either kind
// of signature.
func TestGoogleOIDCProvider(t *testing.T) {
	npm(t)
	dbtest.Each(t, func(t *testing.T, engine string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "node", filepath.Join(npmDir, "oidc-provider.mjs"))
		var stderr lockedBuffer
		cmd.Stderr = &stderr
		in := must(cmd.StdinPipe())(t)
		answers := bufio.NewReader(must(cmd.StdoutPipe())(t))
		if err := cmd.Start(); err != nil {
			t.Fatalf("%v; \"make tools\" installs Node.js", err)
		}
		say := func(line map[string]any) {
			t.Helper()
			err := json.NewEncoder(in).Encode(line)
			if err == nil {
				_, err = answers.ReadBytes('\n')
			}
			if err != nil {
				err = errors.Join(err, in.Close(), cmd.Wait())
				t.Fatalf("oidc-provider: %v\n%s", err, &stderr)
			}
		}

		sh, at := serveShell(t, dbtest.URL(t, engine))
		other := "http://127.0.0.1:" + freePort()
		const key = "a secret between the two of them"
		say(map[string]any{
			"issuer": other, "client_id": "harmony", "client_secret": key, "redirect_uris": []string{at + "/login/google/callback"},
			"id_token_signed_response_alg": map[string]string{"sqlite": "RS256", "postgres": "ES256"}[engine],
		})
		sh.run(adaPassword, "user", "create", "--email", adaEmail, "--name", "Ada Lovelace", "--password-stdin").want(0)
		r := sh.with("HARMONY_ID_GOOGLE_CLIENT_ID=harmony", "HARMONY_ID_GOOGLE_CLIENT_SECRET="+key, "HARMONY_ID_GOOGLE_ISSUER="+other).start("serve", "--google-other-issuer")

		browser := func() *devHouse { return &devHouse{running: &running{t: t}, provider: at, browser: newDevBrowser(t)} }
		const home, google = "/preferences/security", "/login/google"
		say(vera())
		h := browser()
		if p := h.open(at+"/login").want(http.StatusOK, at+"/login"); googleButton.FindString(p.body) == "" {
			t.Errorf("the page does not offer it:\n%s", p.body)
		}
		h.open(at+google).want(http.StatusOK, at+home, "You sign in with Google", "Vera G. Oogle")
		h.open(at+google+"?confirm=1").want(http.StatusOK, at+home)
		browser().open(at+google).want(http.StatusOK, at+home, "Vera G. Oogle") // the same account
		var people []map[string]any
		if err := json.Unmarshal([]byte(sh.run("", "user", "list", "-o", "json").want(0).stdout), &people); err != nil || len(people) != 2 {
			t.Errorf("%d people, %v", len(people), err)
		}
		say(somebody("another", "another@gmail.com"))
		browser().open(at+google).want(http.StatusOK, at+home)
		say(somebody("ada", adaEmail))
		browser().open(at+google).want(http.StatusOK, at+"/login", "This email signs in with a Harmony password.")
		say(somebody("uma", "uma@gmail.com", "email_verified", false))
		browser().open(at+google).want(http.StatusOK, at+"/login", "Google hasn’t verified that email address")
		if log := r.stderr.String(); strings.Contains(log, key) || strings.Contains(log, "vera@") {
			t.Errorf("the log has a secret:\n%s", log)
		}
		// Without it, people with a password sign in as ever.
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("oidc-provider: %v\n%s", err, &stderr)
		}
		h = browser()
		h.signIn(h.open(at+"/login"), adaEmail, adaPassword).want(http.StatusOK, at+home, "Ada Lovelace")
		if code := r.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, &r.stderr)
		}
	})
}
