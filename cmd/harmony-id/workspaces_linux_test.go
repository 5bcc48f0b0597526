package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// The workspaces that come from Debian's packages, and the one that takes a
// certificate authority from its environment on Linux alone.
func init() { workspaces = append(workspaces, goWorkspace, pythonWorkspace, apacheWorkspace) }

var goWorkspace = workspaceStory{"Go", []string{"--backchannel-logout-uri", "APP/backchannel-logout"}, func(g *guest) {
	program := filepath.Join(g.t.TempDir(), "workspace")
	if out, err := exec.CommandContext(g.t.Context(), "go", "build", "-o", program, "./"+npmDir+"/go").CombinedOutput(); err != nil {
		g.t.Fatalf("go build: %v\n%s", err, out)
	}
	g.start(nil, program)
	g.tell()
}}

var pythonWorkspace = workspaceStory{"Python", []string{"--backchannel-logout-uri", "APP/backchannel-logout"}, func(g *guest) {
	g.start(nil, "/usr/bin/python3", filepath.Join(npmDir, "workspace.py")) // Debian's, which has Debian's Authlib
	g.tell()
}}

// apacheAround is what any Apache has around docs/workspaces.md's lines.
const apacheAround = `
ServerRoot %[1]s
ServerName localhost
Listen %[2]s
PidFile %[1]s/pid
ErrorLog /dev/stderr
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule auth_openidc_module /usr/lib/apache2/modules/mod_auth_openidc.so
OIDCCABundlePath %[3]s
Include %[4]s
`

// Apache signs in whoever comes, and tells the application behind it who it is.
var apacheWorkspace = workspaceStory{"Apache", []string{"--backchannel-logout-uri", "APP/callback?logout=backchannel"}, func(g *guest) {
	t := g.t
	var mu sync.Mutex
	tokens := map[string]bool{}
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		mu.Lock()
		defer mu.Unlock()
		tokens[h.Get("OIDC_access_token")] = true
		fmt.Fprintf(w, "%s%s, %s, %s", signedIn, h["Oidc_claim_name"], h["Oidc_claim_email"], h["Oidc_claim_acr"])
	}))
	defer backend.Close()
	dir := t.TempDir()
	config, ca := filepath.Join(dir, "httpd.conf"), filepath.Join(dir, "ca.pem")
	for _, path := range []string{filepath.Dir(dir), dir} { // its own user has to get there, where root runs the test
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(ca, must(os.ReadFile(g.ca))(t), 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, config, fmt.Sprintf(apacheAround, dir, strings.TrimPrefix(g.url, "http://"), ca, must(filepath.Abs(filepath.Join(npmDir, "workspace.conf")))(t)))
	g.start([]string{"BACKEND_URL=" + backend.URL, "CRYPTO_PASSPHRASE=" + strings.Repeat("only for this test ", 3)}, "/usr/sbin/apache2", "-f", config, "-DFOREGROUND")

	here, there := g.visitor(), g.visitor()
	for _, b := range []*devHouse{here, there} {
		p := b.open(g.url+"/").want(http.StatusOK, g.at+"/login", "Sign in to continue to Apache")
		b.signIn(p, g.email, adaPassword).want(http.StatusOK, g.url+"/", signedIn, g.person, strings.ToLower(g.email), "urn:harmony:acr:1fa")
	}
	seen := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(tokens)
	}
	before := seen()
	here.open(g.url+"/").want(http.StatusOK, g.url+"/", signedIn)
	if seen() == before || g.refreshed() == 0 {
		t.Error("nothing was refreshed")
	}

	// Nobody is who they say they are.
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/", nil))(t)
	req.Header["OIDC_CLAIM_name"] = []string{"Mallory"}
	if p := here.load(req, nil).want(http.StatusOK, g.url+"/", g.person); strings.Contains(p.body, "Mallory") {
		t.Errorf("the application believes %s", p.body)
	}

	g.signOutAtHarmony(there)
	g.until("heard that they signed out", func() bool { return there.open(g.url+"/").at.Path == "/login" })
	here.open(g.url+"/").want(http.StatusOK, g.url+"/", signedIn)
	here.open(g.url+"/callback?logout="+strings.ReplaceAll(g.url+"/", ":", "%3A")).want(http.StatusOK, g.at+"/login")
	here.open(g.at+"/preferences/security").want(http.StatusOK, g.at+"/login")
}}
