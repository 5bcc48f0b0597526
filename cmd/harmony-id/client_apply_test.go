package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
)

// A workspace is changed in place: what is not named stays, its tokens stay good,
// and every replica knows within a second.
func TestClientUpdateStory(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		other := w.newReplica()
		b := w.newBrowser()
		k := b.connect(w.acme, adaEmail, adaPassword)
		clients := w.newReplica().clients
		before := must(clients.Get(t.Context(), "acme"))(t)
		n := *before
		n.RedirectURIs = []string{"https://acme.test/new"}
		n.Name = "Acme Ltd"
		changed, secret, err := clients.Update(t.Context(), before, n, "", "test")
		if err != nil || secret != "" || len(changed) != 2 {
			t.Fatalf("%v, %q, %v", changed, secret, err)
		}
		if _, _, err := clients.Update(t.Context(), before, n, "", "test"); err == nil || !strings.Contains(err.Error(), idp.ErrChanged.Error()) {
			t.Errorf("over what somebody else did: %v", err)
		}
		w.forget()
		if w.userinfo(k.AccessToken) == nil {
			t.Error("an access token ended")
		}
		w.acme.refresh(k.RefreshToken).ok()
		f := w.acme.begin()
		b.at(other).get(f.url()).wantStatus(http.StatusBadRequest) // the old redirect URI
		f = w.acme.begin("redirect_uri", "https://acme.test/new")
		f.redeem(f.code(b.at(other).get(f.url()))).ok()
		if n := w.count(`events WHERE kind = 'client_updated' AND client_id = 'acme' AND actor = 'operator:test' AND detail LIKE '%client_name redirect_uris%'`); n != 1 {
			t.Errorf("%d events say what changed", n)
		}
	})
}

// A client whose scopes are narrowed keeps its grants, and has less of them from then
// on (I4): by a token that it has, by the next one, by a code that waits, and by name.
func TestClientScopesNarrowed(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		clients := idp.NewClients(w.db)
		narrow := func(id string, scopes ...string) {
			t.Helper()
			before := must(clients.Get(context.Background(), id))(t)
			n := *before
			n.Scopes = scopes
			if _, _, err := clients.Update(context.Background(), before, n, "", "test"); err != nil {
				t.Fatal(err)
			}
			w.forget()
		}
		const all, byName = "openid profile email phone offline_access", `{"userinfo":{"name":null,"email":null},"id_token":{"name":null,"email":null}}`
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for _, c := range []rp{w.acme, w.globex} {
			f, code := b.again(c, "scope", all)
			k := f.redeem(code).ok()
			f, code = b.again(c, "scope", "openid offline_access", "claims", byName)
			named := f.redeem(code).ok()
			if info := w.userinfo(named.AccessToken); info["name"] == nil || info["email"] == nil {
				t.Fatalf("by name: %v", info)
			}
			f, code = b.again(c, "scope", all)
			narrow(c.id, "openid", "email", "offline_access")
			if info := w.userinfo(k.AccessToken); info["name"] != nil || info["email"] != adaEmail {
				t.Errorf("%s: a token from before tells %v", c.id, info)
			}
			if c.auth != idp.AuthNone {
				if got := c.introspect(k.AccessToken); got["scope"] != "openid email offline_access" {
					t.Errorf("introspection: %v", got)
				}
			}
			for what, k := range map[string]*tokens{"a refresh": c.refresh(k.RefreshToken).ok(), "a code from before": f.redeem(code).ok()} {
				if info := w.userinfo(k.AccessToken); k.Scope != "openid email offline_access" || info["name"] != nil || info["email"] != adaEmail {
					t.Errorf("%s: %s: %q, %v", c.id, what, k.Scope, info)
				}
			}
			named = c.refresh(named.RefreshToken).ok()
			if claims := w.claimsOf(named.IDToken, "ES256", "JWT"); claims["name"] != nil || claims["email"] != adaEmail {
				t.Errorf("%s: the ID token says %v", c.id, claims)
			}
			if info := w.userinfo(named.AccessToken); info["name"] != nil || info["email"] != adaEmail {
				t.Errorf("%s: by name: %v", c.id, info)
			}
			f, code = b.again(c)
			narrow(c.id, "openid", "email")
			c.refresh(named.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
			if k := f.redeem(code).ok(); k.RefreshToken != "" || k.Scope != "openid email" {
				t.Errorf("%s: without offline_access: %s", c.id, k.raw)
			}
		}
	})
}

func TestClientUpdate(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh := onDatabase(t, engine)
		made := sh.run("", "client", "create", "--name", "Acme", "--id", "acme", "--redirect-uri", "https://acme.example.com/a", "--post-logout-redirect-uri", "https://acme.example.com/", "-o", "json").
			want(0).object(clientResult{})
		update := func(args ...string) ran { return sh.run("", append([]string{"client", "update", "acme"}, args...)...) }
		update().want(0, "nothing to change")
		keys := filepath.Join(t.TempDir(), "jwks.json")
		write(t, keys, string(must(json.Marshal(newKeyring(t, "ES256").public()))(t)))

		c := update("--name", "Acme Ltd", "--redirect-uri", "https://acme.example.com/b", "--redirect-uri", "https://acme.example.com/c", "--post-logout-redirect-uri", "",
			"--backchannel-logout-uri", "https://acme.example.com/out", "--id-token-alg", "RS256", "--require-pkce=false", "--require-2fa=true", "--third-party=true", "--access-token", "jwt",
			"--scope", "openid email", "--grant", "authorization_code", "-o", "json").want(0, "client_name: Acme → Acme Ltd", "→ (none)").object(clientResult{})
		for field, want := range map[string]any{
			"client_name": "Acme Ltd", "redirect_uris": []any{"https://acme.example.com/b", "https://acme.example.com/c"}, "post_logout_redirect_uris": []any{},
			"backchannel_logout_uri": "https://acme.example.com/out", "id_token_signed_response_alg": "RS256", "require_pkce": false, "require_2fa": true, "third_party": true,
			"access_token_format": "jwt", "scope": "openid email", "grant_types": []any{"authorization_code"}, "created_at": made["created_at"], "client_secret": nil,
		} {
			if !reflect.DeepEqual(c[field], want) {
				t.Errorf("%s = %v, want %v", field, c[field], want)
			}
		}
		// One field, and nothing else with it.
		c = update("--backchannel-logout-uri", "", "-o", "json").want(0).object(clientResult{})
		if c["backchannel_logout_uri"] != "" || c["client_name"] != "Acme Ltd" || c["require_pkce"] != false || c["require_2fa"] != true {
			t.Errorf("after one change: %v", c)
		}
		// From a secret to keys, and back.
		if c = update("--auth-method", "private_key_jwt", "--jwks-file", keys, "-o", "json").want(0).object(clientResult{}); c["client_secret"] != nil || c["jwks"] == nil {
			t.Errorf("with keys: %v", c)
		}
		d := must(db.Open(t.Context(), strings.TrimPrefix(sh.environ[0], "HARMONY_ID_DATABASE_URL=")))(t)
		defer d.Close()
		var secrets int
		if err := d.QueryRow(t.Context(), `SELECT count(*) FROM clients WHERE secret_hash IS NOT NULL OR old_secret_hash IS NOT NULL`).Scan(&secrets); err != nil || secrets != 0 {
			t.Errorf("%d secrets are left, %v", secrets, err)
		}
		sh.run("", "client", "rotate-secret", "acme", "--yes").want(exitRefused, "no secret")
		c = update("--auth-method", "client_secret_post", "-o", "json").want(0).object(clientResult{})
		if secret, _ := c["client_secret"].(string); len(secret) < 32 || c["jwks"] != nil {
			t.Errorf("with a secret again: %v", c)
		}

		for _, r := range []struct {
			args string
			code int
			said string
		}{
			{"--redirect-uri http://acme.example.com/cb", exitRefused, "use https"},
			{"--redirect-uri=", exitRefused, "needed at least once"},
			{"--auth-method none", exitRefused, "require-pkce"},
			{"--auth-method private_key_jwt", exitRefused, "jwks"},
			{"--auth-method x", exitRefused, "auth-method"},
			{"--jwks-uri https://a.example/jwks", exitRefused, "of no use"},
			{"--jwks-uri https://a.example/jwks --jwks-file " + keys, exitUsage, "do not fit together"},
			{"--jwks-file /nowhere", exitUsage, "--jwks-file"},
			{"--id-token-alg none", exitRefused, "id-token-alg"},
			{"--backchannel-logout-uri https://10.0.0.7/", exitRefused, "allow-private-addresses"},
			{"--scope openid --scope openid", exitRefused, "twice"},
		} {
			update(strings.Fields(r.args)...).want(r.code, r.said)
		}
		update("--backchannel-logout-uri", "https://10.0.0.7/", "--allow-private-addresses").want(0)
		sh.run("", "client", "update", "nobody", "--name", "X").want(exitNotFound, "no such client: nobody")
	})
}

const clientsYAML = `
clients:
  - client_id: acme
    client_name: Acme
    secret: generate
    redirect_uris: [https://acme.example.com/callback]
    post_logout_redirect_uris:
      - https://acme.example.com/
  - client_id: app
    client_name: App
    token_endpoint_auth_method: none
    redirect_uris: ["com.example.app:/callback"]
  - client_id: reports
    client_name: Reports
    secret: generate
    grant_types: [client_credentials]
    scope: reports.read reports.write
    access_token_format: jwt
`

// A file of workspaces is applied once, then it is as it should be; a change is made
// in place; what is not in it goes only with --prune.
func TestClientApply(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh := onDatabase(t, engine)
		dir := t.TempDir()
		file, out := filepath.Join(dir, "clients.yaml"), filepath.Join(dir, "secrets")
		write(t, file, clientsYAML)
		apply := func(args ...string) ran {
			return sh.run("", append([]string{"client", "apply", "-f", file}, args...)...)
		}
		sh.run("", "client", "create", "--name", "Other", "--id", "other", "--redirect-uri", "https://other.example.com/").want(0)

		apply().want(exitUsage, "--secrets-out")
		apply("--dry-run").want(0, "+ acme", "client_name: Acme", "secret: generated", "3 created, 0 changed, 0 deleted, 0 as they should be, 1 not in the file")
		sh.run("", "client", "show", "acme").want(exitNotFound)
		r := apply("--secrets-out", out).want(0, "3 created")
		if info := must(os.Stat(out))(t); info.Mode().Perm() != 0o600 {
			t.Errorf("the secrets' mode is %v", info.Mode())
		}
		secrets := map[string]string{}
		for line := range strings.Lines(string(must(os.ReadFile(out))(t))) {
			var s secretLine
			if err := json.Unmarshal([]byte(line), &s); err != nil || len(s.Secret) < 32 || strings.Contains(r.stdout+r.stderr, s.Secret) {
				t.Errorf("%q: %v", line, err)
			}
			secrets[s.ClientID] = s.Secret
		}
		if len(secrets) != 2 || secrets["acme"] == "" || secrets["reports"] == "" {
			t.Errorf("secrets of %v", secrets)
		}
		d := must(db.Open(t.Context(), strings.TrimPrefix(sh.environ[0], "HARMONY_ID_DATABASE_URL=")))(t)
		defer d.Close()
		if c := must(idp.NewClients(d).Get(t.Context(), "acme"))(t); !c.RequirePKCE || c.AuthMethod != idp.AuthBasic || !slices.Contains(c.Scopes, "offline_access") {
			t.Errorf("acme = %+v", c)
		}
		c := sh.run("", "client", "show", "reports", "-o", "json").want(0).object(clientResult{})
		if c["scope"] != "reports.read reports.write" || c["access_token_format"] != "jwt" {
			t.Errorf("reports = %v", c)
		}

		// Again: nothing, and no secret is asked for.
		apply().want(0, "0 created, 0 changed, 0 deleted, 3 as they should be, 1 not in the file")
		if steps := apply("--dry-run", "-o", "json").want(0).objects(stepResult{}); len(steps) != 4 || steps[0]["action"] != "keep" || steps[3]["action"] != "other" {
			t.Errorf("again: %v", steps)
		}

		write(t, file, strings.Replace(clientsYAML, "client_name: App", "client_name: The App\n    require_2fa: true", 1))
		apply().want(0, "~ app", "client_name: App → The App", "require_2fa: false → true", "0 created, 1 changed")
		apply("--prune").want(exitUsage, "--yes")
		sh.run("", "client", "show", "other").want(0)
		apply("--prune", "--dry-run").want(0, "- other", "1 deleted")
		apply("--prune", "--yes").want(0, "- other", "1 deleted")
		sh.run("", "client", "show", "other").want(exitNotFound)
		var events int
		if err := d.QueryRow(t.Context(), `SELECT count(*) FROM events WHERE kind IN ('client_created', 'client_updated', 'client_deleted')`).Scan(&events); err != nil || events != 6 {
			t.Errorf("%d events, %v; want 6", events, err)
		}
		// The secrets that were generated are those that count: a public client that gets one.
		write(t, file, strings.Replace(clientsYAML, "token_endpoint_auth_method: none\n    redirect_uris: [\"com.example.app:/callback\"]", "secret: generate\n    redirect_uris: [https://app.example.com/]", 1))
		apply("--secrets-out", out).want(exitRefused, "exists already")
		apply("--secrets-out", out+"2").want(0, "token_endpoint_auth_method: none → client_secret_basic", "secret: generated")
	})
}

// All of a file is applied, or nothing.
func TestClientApplyAllOrNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := dbtest.New(t, engine)
		clients := idp.NewClients(d)
		wanted := []idp.Client{
			{ID: "a", Name: "A", RedirectURIs: []string{"https://a.example/"}, RequirePKCE: true, AuthMethod: idp.AuthNone},
			{ID: "b", Name: "B", RedirectURIs: []string{"https://b.example/"}, RequirePKCE: true, AuthMethod: idp.AuthNone},
		}
		steps := must(clients.Plan(t.Context(), wanted, false))(t)
		if _, _, err := clients.Create(t.Context(), wanted[1], "", "somebody else"); err != nil {
			t.Fatal(err)
		}
		if err := clients.Execute(t.Context(), steps, "test"); err == nil || !strings.Contains(err.Error(), idp.ErrClientExists.Error()) {
			t.Errorf("over what somebody else made: %v", err)
		}
		if all := must(clients.List(t.Context()))(t); len(all) != 1 || all[0].ID != "b" {
			t.Errorf("%d clients are there", len(all))
		}
	})
}

// What cannot be read or registered changes nothing and is named.
func TestClientApplyRefusals(t *testing.T) {
	sh := onDatabase(t, "sqlite")
	for text, want := range map[string]string{
		"":                                 "no client",
		"clients: []":                      "no client",
		"clients: {}":                      "cannot unmarshal",
		"client: []":                       "field client not found",
		clientsYAML + "---\nclients: []\n": "more than one document",
		strings.Replace(clientsYAML, "client_id: app", "client_id: acme", 1):                                                          "client acme stands there twice",
		strings.Replace(clientsYAML, "client_id: app", "client_ids: app", 1):                                                          "client_ids not found",
		strings.Replace(clientsYAML, "  - client_id: app\n    client", "  - client", 1):                                               "client 2 has no client_id",
		strings.Replace(clientsYAML, "secret: generate", "secret: hunter2", 1):                                                        "client acme: secret is",
		strings.Replace(clientsYAML, "    secret: generate\n", "", 1):                                                                 "client acme needs a secret",
		strings.Replace(clientsYAML, "token_endpoint_auth_method: none", "token_endpoint_auth_method: none\n    secret: generate", 1): "client app: a workspace with none has no secret",
		strings.Replace(clientsYAML, "https://acme.example.com/callback", "http://acme.example.com/callback", 1):                      "client acme: redirect-uri",
		strings.Replace(clientsYAML, "client_name: App", "client_name: ''", 1):                                                        "client app: name",
	} {
		r := sh.run(text, "client", "apply", "-f", "-", "--secrets-out", filepath.Join(t.TempDir(), "out"), "--prune", "--yes")
		if r.code != exitUsage && r.code != exitRefused || !strings.Contains(r.stderr, want) {
			t.Errorf("%s\n%d: %s, want %q", text, r.code, r.stderr, want)
		}
	}
	if all := sh.run("", "client", "list", "-o", "json").want(0).objects(clientResult{}); len(all) != 0 {
		t.Errorf("registered: %v", all)
	}
}

// A file can say of a workspace all that results say of one, by the same names.
func TestClientsFileHasEveryField(t *testing.T) {
	var known []string
	for f := range reflect.TypeFor[clientEntry]().Fields() {
		known = append(known, f.Tag.Get("yaml"))
	}
	for _, f := range resultFields(clientResult{}) {
		if !slices.Contains([]string{"client_secret", "created_at", "old_secret_until", "disabled_at"}, f.name) && !slices.Contains(known, f.name) {
			t.Errorf("a file of workspaces cannot say %s", f.name)
		}
	}
}
