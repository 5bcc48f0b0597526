package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// The workspaces of docs/workspaces.md, each a program of its own with another
// project's client library, against serve over https: a person signs in, their
// tokens are refreshed, they are signed out from elsewhere (back channel) and from here.

// A host is a provider that serves, with the authority of its certificate.
type host struct {
	sh  shell
	at  string
	ca  string // a file
	pin string // of its certificate, as Chromium takes it
	db  *db.DB
}

// A guest is a workspace that is to run: its registration and its person.
type guest struct {
	*host
	t             *testing.T
	name, url     string // of the workspace
	id, secret    string
	email, person string // who signs in there
}

// A workspaceStory starts a workspace and plays with it.
type workspaceStory struct {
	name        string
	registering []string // how it is registered besides, with APP for its address
	tell        func(*guest)
}

// playWorkspaces has all stories told at once, at one provider: most of the time
// they wait.
func playWorkspaces(t *testing.T, engine string, stories ...workspaceStory) {
	database := dbtest.URL(t, engine)
	ca, cert, key := authority(t, t.TempDir())
	leaf := must(tls.LoadX509KeyPair(cert, key))(t).Leaf
	pin := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	h := &host{ca: ca, pin: base64.StdEncoding.EncodeToString(pin[:])}
	h.sh, h.at = serveShell(t, database)
	h.at = strings.Replace(h.at, "http://127.0.0.1", "https://localhost", 1) // another site than the workspaces'
	// Access tokens live as long as the workspaces want them to live at least: each use refreshes.
	h.sh = h.sh.with("HARMONY_ID_ISSUER="+h.at, "HARMONY_ID_TLS_CERT_FILE="+cert, "HARMONY_ID_TLS_KEY_FILE="+key, "HARMONY_ID_ACCESS_TOKEN_TTL=10s")
	guests := make([]*guest, len(stories))
	for i, s := range stories {
		g := &guest{host: h, name: s.name, url: "http://127.0.0.1:" + freePort(), email: s.name + "@example.com", person: s.name + " Lovelace"}
		h.sh.run(adaPassword, "user", "create", "--email", g.email, "--name", g.person, "--password-stdin").want(0)
		register := []string{"client", "create", "--name", s.name, "-o", "json", "--allow-private-addresses", "--redirect-uri", g.url + "/callback", "--post-logout-redirect-uri", g.url + "/"}
		for _, more := range s.registering {
			register = append(register, strings.Replace(more, "APP", g.url, 1))
		}
		var p party
		if err := json.Unmarshal([]byte(h.sh.run("", register...).want(0).stdout), &p); err != nil {
			t.Fatal(err)
		}
		g.id, g.secret = p.ID, p.Secret
		guests[i] = g
	}
	h.db = must(db.Open(t.Context(), database))(t)
	t.Cleanup(func() { h.db.Close() })
	r := h.sh.start("serve")
	t.Run("workspaces", func(t *testing.T) {
		for i, s := range stories {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				guests[i].t = t
				s.tell(guests[i])
			})
		}
	})
	if code := r.end(); code != 0 || t.Failed() {
		t.Errorf("exit code %d\n%s", code, &r.stderr)
	}
}

// start runs the workspace's program until the test ends, and waits until it answers.
func (g *guest) start(environ []string, name string, args ...string) {
	g.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Env = append(os.Environ(), append(environ, "ISSUER="+g.at, "CLIENT_ID="+g.id, "CLIENT_SECRET="+g.secret, "APP_URL="+g.url,
		"NODE_EXTRA_CA_CERTS="+g.ca, "REQUESTS_CA_BUNDLE="+g.ca, "SSL_CERT_FILE="+g.ca)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		g.t.Fatalf("%v; \"make tools\" installs what is missing", err)
	}
	ended := make(chan struct{})
	var ending error
	go func() {
		ending = cmd.Wait()
		close(ended)
	}()
	g.t.Cleanup(func() {
		stop()
		<-ended
		if g.t.Failed() {
			g.t.Logf("%s says:\n%s", g.name, &log)
		}
	})
	g.until("answers", func() bool {
		select {
		case <-ended:
			g.t.Fatalf("%s ended: %v\n%s", g.name, ending, &log)
		default:
		}
		resp, err := http.Get(g.url + "/nowhere")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// until waits for something that happens elsewhere.
func (g *guest) until(what string, is func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("%s: it never %s", g.name, what)
		}
	}
}

// visitor is a browser of the workspace's person.
func (g *guest) visitor() *devHouse {
	browser := newDevBrowser(g.t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must(os.ReadFile(g.ca))(g.t))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	g.t.Cleanup(transport.CloseIdleConnections)
	browser.Transport = navigation{transport}
	return &devHouse{running: &running{t: g.t}, provider: g.at, browser: browser}
}

// navigation has requests say that they want a page, as a browser's do: Apache
// tells those of scripts to go away.
type navigation struct{ http.RoundTripper }

func (n navigation) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "text/html")
	return n.RoundTripper.RoundTrip(r)
}

// rename gives the person another name, which only who asks anew can know.
func (g *guest) rename(name string) {
	g.t.Helper()
	if n := must(g.db.Exec(g.t.Context(), `UPDATE users SET name = $1 WHERE email = $2`, name, strings.ToLower(g.email)))(g.t); n != 1 {
		g.t.Fatalf("%d people renamed", n)
	}
	g.person = name
}

const signedIn, nobody = "Signed in: ", "Nobody is signed in."

// tell is the story of a workspace with a page of its own for who is not signed in.
func (g *guest) tell() {
	t := g.t
	here, there := g.visitor(), g.visitor()
	for _, b := range []*devHouse{here, there} {
		b.open(g.url+"/").want(http.StatusOK, g.url+"/", nobody)
		p := b.open(g.url+"/sign-in").want(http.StatusOK, g.at+"/login", "Sign in to continue to "+g.name)
		b.signIn(p, g.email, adaPassword).want(http.StatusOK, g.url+"/", signedIn+g.person, strings.ToLower(g.email), "urn:harmony:acr:1fa")
	}
	g.rename(g.name + " King")
	here.open(g.url+"/").want(http.StatusOK, g.url+"/", signedIn+g.person)
	if refreshed := g.refreshed(); refreshed == 0 {
		t.Error("nothing was refreshed")
	}

	// An answer that this browser did not ask for is none.
	here.open(g.url+"/callback?"+url.Values{"code": {"hac_1"}, "state": {"s"}, "iss": {g.at}}.Encode()).want(http.StatusBadRequest, g.url)
	here.open(g.url+"/").want(http.StatusOK, g.url+"/", signedIn)

	// Who signs out there is signed out there, and here is not.
	g.signOutAtHarmony(there)
	g.until("heard that they signed out", func() bool { return strings.Contains(there.open(g.url+"/").body, nobody) })
	here.open(g.url+"/").want(http.StatusOK, g.url+"/", signedIn+g.person)

	hint := g.hintOf(here)
	here.open(g.url+"/").want(http.StatusOK, g.url+"/", nobody)
	here.open(g.url+"/sign-in").want(http.StatusOK, g.at+"/login") // the session at Harmony has ended, too

	// What is no logout token signs nobody out.
	here.signIn(here.open(g.url+"/sign-in"), g.email, adaPassword).want(http.StatusOK, g.url+"/", signedIn)
	for _, token := range []string{"", "hello", hint, hint[:len(hint)-4] + "AAAA"} {
		here.press(g.url+"/backchannel-logout", url.Values{"logout_token": {token}}).want(http.StatusBadRequest, g.url)
	}
	here.open(g.url+"/").want(http.StatusOK, g.url+"/", signedIn)
}

// refreshed is how many of the workspace's grants were refreshed.
func (g *guest) refreshed() (n int) {
	g.t.Helper()
	if err := g.db.QueryRow(g.t.Context(), `SELECT count(*) FROM grants WHERE client_id = $1 AND refreshed_at > redeemed_at`, g.id).Scan(&n); err != nil {
		g.t.Fatal(err)
	}
	return n
}

// signOutAtHarmony signs out on the provider's own page.
func (g *guest) signOutAtHarmony(b *devHouse) {
	g.t.Helper()
	b.press(g.at+"/logout", b.open(g.at+"/logout").want(http.StatusOK, g.at+"/logout", "Sign out of Harmony?").fields()).want(http.StatusOK, g.at+"/logout", "You’re signed out")
}

// hintOf signs out at the workspace, which leads to the provider and back, and
// returns the ID token that the workspace handed over.
func (g *guest) hintOf(b *devHouse) (hint string) {
	g.t.Helper()
	b.browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), g.at+"/end_session") {
			hint = r.URL.Query().Get("id_token_hint")
		}
		return nil
	}
	b.press(g.url+"/sign-out", nil).want(http.StatusOK, g.url+"/", nobody)
	if hint == "" {
		g.t.Fatal("the workspace hands over no ID token")
	}
	return hint
}

// workspaces are those that have a server and run on this system.
var workspaces = []workspaceStory{nodeWorkspace}

func TestWorkspaces(t *testing.T) {
	npm(t)
	dbtest.Each(t, func(t *testing.T, engine string) {
		t.Parallel() // most of the time is spent waiting
		playWorkspaces(t, engine, workspaces...)
	})
}

var nodeWorkspace = workspaceStory{"Node", []string{"--backchannel-logout-uri", "APP/backchannel-logout"}, func(g *guest) {
	g.start(nil, "node", filepath.Join(npmDir, "workspace.mjs"))
	g.tell()
}}

// browserWorkspace has no server of its own: a page that Chromium runs, a public
// client. Nobody can call it, so it hears of a sign-out when it renews.
var browserWorkspace = workspaceStory{"Browser", []string{"--public"}, func(g *guest) {
	t := g.t
	g.servePage()
	chromium := startChromium(t, chromedp.Flag("ignore-certificate-errors-spki-list", g.pin))
	b := newTab(t, chromium, g.at)
	b.asked = []string{g.at} // CORS: metadata, tokens, userinfo
	says := func(text string) {
		t.Helper()
		defer func() {
			if t.Failed() {
				t.Log(b.where())
			}
		}()
		g.until("says "+text, func() bool { return strings.Contains(js[string](b, `document.body.innerText`), text) })
	}
	enter := func() {
		t.Helper()
		b.open(g.url + "/")
		says(nobody)
		b.press("#sign-in").want(200, g.at+"/login", "Sign in to continue to Browser")
		b.signIn(g.email, adaPassword).want(200, g.url+"/callback")
		says(signedIn + g.person + ", " + strings.ToLower(g.email) + ", urn:harmony:acr:1fa")
		wantJS(b, `location.href`, g.url+"/")
	}
	enter()

	// Two that renew with the same refresh token get the same successor.
	wantJS(b, `(async () => {
		const { InMemoryWebStorage, UserManager, WebStorageStateStore } = await import("oidc-client-ts");
		const key = Object.keys(sessionStorage).find((k) => k.startsWith("oidc.user:")), user = sessionStorage[key];
		const { issuer: authority, client_id } = await (await fetch("/settings.json")).json();
		const [one, other] = await Promise.all([1, 2].map(async () => {
			const store = new InMemoryWebStorage();
			store.setItem(key, user);
			const userStore = new WebStorageStateStore({ store });
			return new UserManager({ authority, client_id, redirect_uri: location.href, userStore, automaticSilentRenew: false }).signinSilent();
		}));
		return one.refresh_token === other.refresh_token && one.access_token !== other.access_token;
	})()`, true)

	g.rename("Browser King")
	says(signedIn + g.person) // it renews by itself
	var rotated bool
	if err := g.db.QueryRow(t.Context(), `SELECT rotated_at IS NOT NULL FROM grants WHERE client_id = $1`, g.id).Scan(&rotated); err != nil || !rotated {
		t.Errorf("the refresh token was not exchanged (%v)", err)
	}

	g.sh.run("", "user", "sessions", "end", g.email, "--all", "--yes").want(0)
	says(nobody)
	refused := func() (complaints []string) {
		complaints = b.taken()
		for _, c := range complaints {
			if !strings.Contains(c, g.at+"/oauth/token") && !strings.Contains(c, g.at+"/userinfo") && c != "console: info" {
				t.Errorf("in the browser: %s", c)
			}
		}
		return complaints
	}
	if len(refused()) == 0 {
		t.Error("nothing was refused")
	}

	enter()
	b.press("#sign-out").want(200, g.url+"/")
	says(nobody)
	refused()                                    // what was under way
	b.press("#sign-in").want(200, g.at+"/login") // the session at Harmony has ended, too
}}

// servePage serves the page, the libraries and their settings.
func (g *guest) servePage() {
	modules := filepath.Join(npmDir, "node_modules")
	files := map[string]string{
		"/": filepath.Join(npmDir, "workspace.html"), "/callback": filepath.Join(npmDir, "workspace.html"), "/workspace.js": filepath.Join(npmDir, "workspace.js"),
		"/lib/oidc-client-ts.js": filepath.Join(modules, "oidc-client-ts", "dist", "esm", "oidc-client-ts.js"),
		"/lib/jwt-decode.js":     filepath.Join(modules, "jwt-decode", "build", "esm", "index.js"),
	}
	l := must(net.Listen("tcp", strings.TrimPrefix(g.url, "http://")))(g.t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch file := files[r.URL.Path]; {
		case r.URL.Path == "/settings.json":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"issuer": %q, "client_id": %q}`, g.at, g.id)
		case file == "":
			http.NotFound(w, r)
		default:
			http.ServeFile(w, r, file)
		}
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	g.t.Cleanup(server.Close)
}

// TestWorkspacesBrowser is the page alone, for its time is Chromium's.
func TestWorkspacesBrowser(t *testing.T) {
	t.Parallel()
	npm(t)
	playWorkspaces(t, "postgres", browserWorkspace)
}
