package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/harmony/id/db/dbtest"
)

// Operators and support (AD). They work with commands on a machine that reaches the
// database; the provider serves nothing of it.

// AD-01: nobody administers over the network, whoever they are.
func TestAD01_NothingToAdministerOverTheNetwork(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		two := w.newBrowser()
		two.signIn(bobEmail, bobPassword)
		two.enable()
		half := w.newBrowser()
		half.half(bobEmail, bobPassword)
		in := w.newBrowser()
		k := in.connect(w.acme, adaEmail, adaPassword)
		for _, path := range []string{
			"/admin", "/admin/", "/admin/v1/users", "/api/users", "/users", "/clients", "/healthz", "/readyz", "/metrics", "/debug/pprof/", "/debug/vars", "/debug/whoami", "/register", "/connect/register",
		} {
			for who, p := range map[string]*page{
				"a stranger":         w.newBrowser().get(path),
				"half signed in":     half.get(path),
				"signed in":          in.get(path),
				"with 2FA":           two.get(path),
				"an access token":    w.newBrowser().once(http.MethodGet, path, nil, http.Header{"Authorization": {"Bearer " + k.AccessToken}}),
				"a stranger's write": w.newBrowser().once(http.MethodPost, path, map[string][]string{"email": {adaEmail}}, nil),
			} {
				if p.status != http.StatusNotFound {
					t.Errorf("%s, %s: %d", path, who, p.status)
				}
			}
		}
	})
}

// AD-04: what is shown of people and workspaces has nothing that would let somebody
// in (ASVS 6.4.6).
func TestAD04_NothingSecretIsShown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		token := k.enable(k.signIn(adaEmail, adaPassword, chromeOnMac))
		var made struct {
			ClientSecret string `json:"client_secret"`
		}
		if err := json.Unmarshal([]byte(k.run("", "client", "create", "--id", "acme", "--name", "Acme", "--redirect-uri", "https://acme.test/cb", "-o", "json").want(0).stdout), &made); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for _, args := range [][]string{
			{"user", "list"}, {"user", "show", adaEmail, "--encryption-keys-file", k.keys}, {"user", "sessions", "list", adaEmail},
			{"client", "list"}, {"client", "show", "acme"}, {"keys", "list"}, {"migrate", "status"},
		} {
			for _, form := range []string{"table", "json"} {
				said.WriteString(k.run("", append(args, "-o", form)...).want(0).stdout)
			}
		}
		for what, secret := range map[string]string{"the client's secret": made.ClientSecret, "a session's token": token, "a password hash": "$argon2", "a private key": `"d":`} {
			if secret == "" || strings.Contains(said.String(), secret) {
				t.Errorf("%s is shown, or there is none", what)
			}
		}
		// Whatever the database keeps as bytes is a hash or sealed, and neither is shown.
		for _, column := range []string{"token_hash FROM sessions", "secret_sealed FROM totp", "code_hash FROM backup_codes", "secret_hash FROM clients", "private_sealed FROM signing_keys"} {
			var b []byte
			if err := k.db.QueryRow(t.Context(), "SELECT "+column+" LIMIT 1").Scan(&b); err != nil {
				if strings.Contains(column, "signing_keys") { // nobody has served yet
					continue
				}
				t.Fatalf("%s: %v", column, err)
			}
			if strings.Contains(said.String(), fmt.Sprintf("%x", b)) || strings.Contains(said.String(), string(b)) {
				t.Errorf("%s is shown", column)
			}
		}
	})
}

// AD-07: a provider that starts for the first time has no accounts, no workspaces
// and no link that would make one.
func TestAD07_NobodyIsThereAtTheStart(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh, at := serveShell(t, dbtest.URL(t, engine))
		r := sh.start("serve")
		for _, noun := range []string{"user", "client"} {
			if got := strings.TrimSpace(sh.run("", noun, "list", "-o", "json").want(0).stdout); got != "[]" {
				t.Errorf("%s list = %s", noun, got)
			}
		}
		for _, guess := range [][2]string{{"admin@localhost", "admin"}, {"admin", "admin"}, {"root@localhost", "password"}, {"", ""}} {
			req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/login", strings.NewReader("email="+guess[0]+"&password="+guess[1])))(t)
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", at)
			req.Header.Set("Sec-Fetch-Site", "same-origin")
			res := must(http.DefaultTransport.RoundTrip(req))(t)
			res.Body.Close()
			if res.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("%q: %d", guess, res.StatusCode)
			}
		}
		if out := r.stdout.String() + r.stderr.String(); strings.Contains(out, "/login/reset") || strings.Contains(strings.ToLower(out), "password:") {
			t.Errorf("the start says how to get in:\n%s", out)
		}
	})
}

// AD-08: each act of an operator is written down: what, on whom, by whom, when. No
// command edits that.
func TestAD08_OperatorsActsAreRecorded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		ada := must(k.accounts.FindUser(t.Context(), adaEmail))(t).ID
		redirect := []string{"--redirect-uri", "https://acme.test/cb"}
		for _, act := range []struct {
			kind, on string // the person, or the workspace
			prepare  func()
			args     []string
		}{
			{"reset_link_made", ada, nil, []string{"user", "reset-link", adaEmail, "--issuer", "https://id.test"}},
			{"unthrottled", ada, nil, []string{"user", "unthrottle", adaEmail, "--encryption-keys-file", k.keys}},
			{"two_factor_reset", ada, func() { k.enable(k.signIn(adaEmail, adaPassword, chromeOnMac)) }, []string{"user", "reset-2fa", adaEmail, "--case", "4711", "--yes"}},
			{"sessions_ended", ada, func() { k.signIn(adaEmail, adaPassword, chromeOnMac) }, []string{"user", "sessions", "end", adaEmail, "--all", "--yes"}},
			{"method_google", ada, nil, []string{"user", "link-google", adaEmail, "--sub", "4711", "--case", "4711", "--yes"}},
			{"method_password", ada, nil, []string{"user", "unlink-google", adaEmail, "--case", "4711", "--yes"}},
			{"user_disabled", ada, nil, []string{"user", "disable", adaEmail}},
			{"user_enabled", ada, nil, []string{"user", "enable", adaEmail}},
			{"user_deleted", ada, nil, []string{"user", "delete", adaEmail, "--yes"}},
			{"client_created", "acme", nil, append([]string{"client", "create", "--id", "acme", "--name", "Acme"}, redirect...)},
			{"client_secret_rotated", "acme", nil, []string{"client", "rotate-secret", "acme", "--yes"}},
			{"client_deleted", "acme", nil, []string{"client", "delete", "acme", "--yes"}},
		} {
			if act.prepare != nil {
				act.prepare()
			}
			var last int64
			count := func() (n int64) {
				if err := k.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM events WHERE kind = $1 AND actor LIKE 'operator:%' AND (user_id = $2 OR client_id = $2) AND at > 0`, act.kind, act.on).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			last = count()
			k.run("", act.args...).want(0)
			if n := count() - last; n != 1 {
				t.Errorf("%s: %d events say so", strings.Join(act.args, " "), n)
			}
		}
		for _, path := range commandPaths(t) {
			if path[0] == "audit" && path[1] != "list" && path[1] != "export" {
				t.Errorf("%q", path)
			}
		}
	})
}
