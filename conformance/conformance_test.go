package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// against returns a runner for a provider that is right but for one thing.
func against(t *testing.T, defect, chromium string) (*runner, *provider) {
	t.Helper()
	callback := "http://127.0.0.1:" + freePort(t)
	p := newProvider(t, callback, defect)
	r, err := newRunner(providerConfig(t, p, chromium))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	r.sleep, r.now = p.sleep, p.clock
	return r, p
}

func providerConfig(t *testing.T, p *provider, chromium string) config {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.site.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config{
		Issuer: p.site.URL, CAFile: ca, Callback: p.callback, Confirm: defaultConfirm, Chromium: chromium, Browser: os.Getenv("HARMONY_ID_TEST_CHROMIUM"), Pause: 30e9,
		Client: client{ID: "one", Secret: p.clients["one"]}, Client2: client{ID: "two", Secret: p.clients["two"]}, ClientPost: client{ID: "three", Secret: p.clients["three"]},
	}
	cfg.User.Name, cfg.User.Password = "ann", "secret"
	return cfg
}

func (r *runner) named(t *testing.T, planName, name string) result {
	t.Helper()
	for _, m := range plans[planName].modules {
		if m.name == name {
			return r.module(t.Context(), job{planName, plans[planName], m})
		}
	}
	t.Fatalf("the plan %s has no module %s", planName, name)
	return result{}
}

// A provider that does everything right gets nothing but PASS, and the pages of
// logout for a person to look at.
func TestRightProvider(t *testing.T) {
	r, _ := against(t, "", "none")
	for _, name := range planNames() {
		for _, m := range plans[name].modules {
			res := r.named(t, name, m.name)
			if res.Verdict != passed && (res.Verdict != reviewed || name != "rp-logout" || strings.Contains(m.name, "-no-state")) {
				t.Errorf("%s %s %s: %+v", res.Verdict, name, m.name, res.Notes)
			}
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// breaks says which module sees which defect, and with what verdict if it is not
// FAIL.
var breaks = []struct {
	defect, plan, module string
	as                   verdict
}{
	// discovery
	{"issuer differs", "config", "oidcc-discovery-endpoint-verification", ""},
	{"no RS256", "config", "oidcc-discovery-endpoint-verification", ""},
	{"endpoint by http", "config", "oidcc-discovery-endpoint-verification", ""},
	{"scopes as text", "config", "oidcc-discovery-endpoint-verification", ""},
	{"no such locale", "config", "oidcc-discovery-endpoint-verification", ""},
	{"unknown member", "config", "oidcc-discovery-endpoint-verification", warning},
	{"authorization without URL", "basic", "oidcc-server", ""},
	{"post not in the metadata", "basic", "oidcc-server-client-secret-post", ""},
	{"endpoint by http", "rp-logout", "oidcc-rp-initiated-logout-discovery-endpoint-verification", ""},
	{"no end of sessions", "rp-logout", "oidcc-rp-initiated-logout-discovery-endpoint-verification", ""},
	{"no back-channel", "backchannel", "oidcc-backchannel-logout-discovery-endpoint-verification", ""},
	// jwks
	{"private key published", "config", "oidcc-discovery-endpoint-verification", ""},
	{"no kid", "basic", "oidcc-server", ""},
	{"kid twice", "basic", "oidcc-server", ""},
	{"key for encryption", "basic", "oidcc-server", ""},
	{"key is no point", "config", "oidcc-discovery-endpoint-verification", ""},
	// ID token
	{"wrong signature", "basic", "oidcc-server", ""},
	{"iss of another in the ID token", "basic", "oidcc-server", ""},
	{"aud of another", "basic", "oidcc-server", ""},
	{"expired", "basic", "oidcc-server", ""},
	{"issued long ago", "basic", "oidcc-server", ""},
	{"no sub", "basic", "oidcc-server", ""},
	{"at_hash of nothing", "basic", "oidcc-server", ""},
	{"acr is a number", "basic", "oidcc-server", ""},
	{"claims in the ID token", "basic", "oidcc-server", warning},
	{"no ID token", "basic", "oidcc-server", ""},
	{"expires_in as text", "basic", "oidcc-server", ""},
	{"code is short", "basic", "oidcc-server", ""},
	// nonce, state, iss
	{"nonce lost", "basic", "oidcc-server", ""},
	{"nonce of another", "basic", "oidcc-server", ""},
	{"nonce demanded", "basic", "oidcc-ensure-request-without-nonce-succeeds-for-code-flow", ""},
	{"state lost", "basic", "oidcc-server", ""},
	{"state cut", "basic", "oidcc-prompt-none-not-logged-in", ""},
	{"iss of another", "basic", "oidcc-server", ""},
	{"no iss", "beyond", "beyond-issuer-in-answers", ""},
	// code reuse
	{"code works twice", "basic", "oidcc-codereuse", warning},
	{"code works twice", "basic", "oidcc-codereuse-30seconds", ""},
	{"another error of the token endpoint", "basic", "oidcc-codereuse", ""},
	{"tokens outlive the code", "basic", "oidcc-codereuse-30seconds", warning},
	{"grants for any client", "beyond", "beyond-code-bound-to-client", ""},
	{"code for any redirect URI", "beyond", "beyond-code-bound-to-redirect-uri", ""},
	// client authentication, PKCE
	{"any secret", "beyond", "beyond-client-authentication", ""},
	{"no client_secret_post", "basic", "oidcc-server-client-secret-post", ""},
	{"PKCE refused", "basic", "oidcc-ensure-request-with-valid-pkce-succeeds", ""},
	{"any verifier", "beyond", "beyond-pkce-wrong-verifier", ""},
	// scopes, claims, userinfo
	{"another person in userinfo", "basic", "oidcc-scope-email", ""},
	{"email_verified as text", "basic", "oidcc-scope-email", ""},
	{"claims in the ID token", "basic", "oidcc-scope-email", warning},
	{"address as text", "basic", "oidcc-scope-address", ""},
	{"phone is empty", "basic", "oidcc-scope-phone", ""},
	{"birthdate of somebody else's calendar", "basic", "oidcc-scope-all", ""},
	{"another person in userinfo", "basic", "oidcc-scope-profile", ""},
	{"no locale", "basic", "oidcc-scope-profile", warning},
	{"scopes as text", "basic", "oidcc-scope-profile", skipped},
	{"order matters", "basic", "oidcc-alternate-happy-flow", ""},
	{"no sub in userinfo", "basic", "oidcc-userinfo-get", ""},
	{"userinfo by GET alone", "basic", "oidcc-userinfo-post-header", ""},
	{"no sub in userinfo", "basic", "oidcc-userinfo-post-body", ""},
	{"no token in the body", "basic", "oidcc-userinfo-post-body", warning},
	{"claims parameter ignored", "basic", "oidcc-claims-essential", warning},
	{"claims refused", "basic", "oidcc-claims-essential", ""},
	// parameters
	{"display refused", "basic", "oidcc-display-page", ""},
	{"display refused", "basic", "oidcc-display-popup", ""},
	{"locales refused", "basic", "oidcc-ui-locales", ""},
	{"locales refused", "basic", "oidcc-claims-locales", ""},
	{"acr refused", "basic", "oidcc-ensure-request-with-acr-values-succeeds", ""},
	{"login_hint refused", "basic", "oidcc-login-hint", ""},
	{"unknown parameter refused", "basic", "oidcc-ensure-request-with-unknown-parameter-succeeds", ""},
	{"error of its own", "basic", "oidcc-response-type-missing", ""},
	{"state lost", "basic", "oidcc-ensure-post-request-succeeds", ""},
	{"authorize takes no POST", "basic", "oidcc-ensure-post-request-succeeds", warning},
	{"request object ignored", "basic", "oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported", ""},
	{"state lost", "basic", "oidcc-ensure-request-object-with-redirect-uri", ""},
	{"request objects not listed", "basic", "oidcc-ensure-request-object-with-redirect-uri", skipped},
	// prompt, max_age, id_token_hint
	{"none asks", "basic", "oidcc-prompt-none-not-logged-in", ""},
	{"another error for none", "basic", "oidcc-prompt-none-not-logged-in", ""},
	{"detail in the error", "basic", "oidcc-prompt-none-not-logged-in", warning},
	{"none always refused", "basic", "oidcc-prompt-none-logged-in", ""},
	{"prompt ignored", "basic", "oidcc-prompt-login", ""},
	{"auth_time stays", "basic", "oidcc-prompt-login", ""},
	{"max_age ignored", "basic", "oidcc-max-age-1", ""},
	{"no auth_time", "basic", "oidcc-max-age-1", ""},
	{"always asks", "basic", "oidcc-max-age-10000", ""},
	{"no auth_time", "basic", "oidcc-max-age-10000", ""},
	{"hint refused", "basic", "oidcc-id-token-hint", ""},
	// redirect URI
	{"redirects anywhere", "basic", "oidcc-ensure-registered-redirect-uri", ""},
	{"error page by accident", "basic", "oidcc-ensure-registered-redirect-uri", ""},
	// form_post
	{"form_post ignored", "formpost", "oidcc-server", ""},
	{"errors by query", "formpost", "oidcc-prompt-none-not-logged-in", ""},
	{"code in the URL, too", "formpost", "oidcc-server", ""},
	// refresh
	{"refresh answer may be cached", "basic", "oidcc-refresh-token", ""},
	{"another person after refreshing", "basic", "oidcc-refresh-token", ""},
	{"auth_time after refreshing", "basic", "oidcc-refresh-token", ""},
	{"grants for any client", "basic", "oidcc-refresh-token", ""},
	// logout
	{"session stays", "rp-logout", "oidcc-rp-initiated-logout", ""},
	{"state of logout cut", "rp-logout", "oidcc-rp-initiated-logout", ""},
	{"state of its own", "rp-logout", "oidcc-rp-initiated-logout-no-state", ""},
	{"leaves for anywhere", "rp-logout", "oidcc-rp-initiated-logout-bad-post-logout-redirect-uri", ""},
	{"leaves for anywhere", "rp-logout", "oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri", ""},
	{"hint is believed", "rp-logout", "oidcc-rp-initiated-logout-modified-id-token-hint", ""},
	{"hint is believed", "rp-logout", "oidcc-rp-initiated-logout-bad-id-token-hint", ""},
	{"leaves without a question", "rp-logout", "oidcc-rp-initiated-logout-no-id-token-hint", ""},
	{"leaves for the usual place", "rp-logout", "oidcc-rp-initiated-logout-no-params", ""},
	{"leaves for the usual place", "rp-logout", "oidcc-rp-initiated-logout-no-post-logout-redirect-uri", ""},
	{"session stays", "rp-logout", "oidcc-rp-initiated-logout-only-state", ""},
	{"session stays", "beyond", "beyond-end-session-post", ""},
	{"leaves without a question", "beyond", "beyond-logout-asks", ""},
	{"another sid each time", "beyond", "beyond-session-id", ""},
	{"cookie for scripts", "beyond", "beyond-cookies", ""},
	// back-channel logout
	{"nobody is called", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
	{"wrong signature of the logout token", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
	{"logout token with nonce", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
	{"logout token of another", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
	{"logout token for another", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
	{"logout token for nothing", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
	{"logout token without jti", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
	{"logout token without time", "backchannel", "oidcc-backchannel-rp-initiated-logout", ""},
}

// Every module finds what it is there for.
func TestBrokenProviders(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range breaks {
		t.Run(b.module+"/"+b.defect, func(t *testing.T) {
			r, p := against(t, b.defect, "none")
			if b.defect == "nobody is called" {
				r.patience = 0
			}
			if b.as == "" {
				b.as = failure
				seen[b.module] = true
			}
			res := r.named(t, b.plan, b.module)
			if res.Verdict != b.as || !p.met {
				t.Errorf("%s, want %s (met: %v): %+v", res.Verdict, b.as, p.met, res.Notes)
			}
			t.Logf("%+v", res.Notes)
		})
	}
	for name, p := range plans {
		for _, m := range p.modules {
			if !seen[m.name] && name != "formpost" {
				t.Errorf("no provider fails %s", m.name)
			}
		}
	}
}

// What plain HTTP does not see: a page whose policy keeps its own script from
// running posts nothing. And Chromium gets through what is right.
func TestChromium(t *testing.T) {
	r, p := against(t, "", "some")
	for defect, want := range map[string]verdict{"": passed, "policy forbids scripts": failure} {
		p.become(defect)
		if res := r.named(t, "formpost", "oidcc-server"); res.Verdict != want {
			t.Errorf("%q: %s, want %s: %+v", defect, res.Verdict, want, res.Notes)
		}
	}
}

// The command: results as a table and as JSON, and the exit code.
func TestRun(t *testing.T) {
	callback := "http://127.0.0.1:" + freePort(t)
	p := newProvider(t, callback, "no RS256")
	text, err := json.Marshal(providerConfig(t, p, "none"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "provider.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		says   string
	}{
		{[]string{"-config", file, "-plan", "config"}, exitFailed, "FAIL", "lacks RS256"},
		{[]string{"-config", file, "-plan", "basic", "-module", "userinfo-get", "-o", "json"}, 0, `"verdict": "PASS"`, `"module": "oidcc-userinfo-get"`},
		{[]string{"-config", file, "-plan", "none"}, exitUsage, "", ""},
		{[]string{"-plan", "basic"}, exitUsage, "", ""},
		{[]string{"-config", file, "-callback", "https://127.0.0.1:1"}, exitUsage, "", ""},
		{[]string{"-config", file, "-chromium", "often"}, exitUsage, "", ""},
	} {
		var stdout, stderr bytes.Buffer
		code, err := run(t.Context(), c.args, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stdout.String(), c.says) {
			t.Errorf("%q: %d, %v\n%s%s", c.args, code, err, &stdout, &stderr)
		}
	}
}

// docs/conformance.md names every module.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range plans {
		for _, m := range p.modules {
			if !strings.Contains(string(text), "`"+m.name+"`") {
				t.Errorf("docs/conformance.md lacks %s of %s", m.name, name)
			}
		}
	}
}
