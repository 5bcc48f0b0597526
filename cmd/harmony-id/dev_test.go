package main

import (
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A devHouse is what dev serves, and a browser in front of it that reaches it
// through real sockets.
type devHouse struct {
	*running
	provider, acme, globex, mailbox, google string
	dir                                     string
	browser                                 *http.Client
}

// devArgs are dev's arguments on free ports.
func devArgs(dir string) (args []string, urls [5]string) {
	args = []string{"dev", "--dir", dir}
	for i, key := range []string{"--http-addr", "--acme-addr", "--globex-addr", "--mail-addr", "--google-addr"} {
		address := "localhost:" + freePort()
		for slices.Contains(urls[:i], "http://"+address) { // given back meanwhile
			address = "localhost:" + freePort()
		}
		args, urls[i] = append(args, key, address), "http://"+address
	}
	return args, urls
}

func startDev(t *testing.T, dir string, more ...string) *devHouse {
	t.Helper()
	args, urls := devArgs(dir)
	r := shell{t: t}.start(append(args, more...)...)
	return &devHouse{r, urls[0], urls[1], urls[2], urls[3], urls[4], dir, newDevBrowser(t)}
}

func newDevBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport}
}

// A devPage is a page that the browser came to.
type devPage struct {
	t      *testing.T
	status int
	at     *url.URL
	body   string
}

func (h *devHouse) load(req *http.Request, err error) devPage {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := h.browser.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return devPage{h.t, resp.StatusCode, resp.Request.URL, html.UnescapeString(string(body))}
}

func (h *devHouse) open(address string) devPage {
	h.t.Helper()
	return h.load(http.NewRequestWithContext(h.t.Context(), http.MethodGet, address, nil))
}

// press posts a form as a page of the same site does.
func (h *devHouse) press(address string, form url.Values) devPage {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
	}
	return h.load(req, err)
}

func (p devPage) want(status int, prefix string, said ...string) devPage {
	p.t.Helper()
	if p.status != status || !strings.HasPrefix(p.at.String(), prefix) {
		p.t.Fatalf("%s: %d, want %s: %d\n%s", p.at, p.status, prefix, status, p.body)
	}
	for _, s := range said {
		if !strings.Contains(p.body, s) {
			p.t.Errorf("%s does not say %q\n%s", p.at, s, p.body)
		}
	}
	return p
}

var (
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)"`)
	monoValue   = func(name string) *regexp.Regexp {
		return regexp.MustCompile(`(?s)` + name + `.{0,40}</dt>\s*<dd[^>]*>([^<]+)<`)
	}
)

func (p devPage) fields() url.Values {
	v := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(p.body, -1) {
		v.Set(m[1], m[2])
	}
	return v
}

// shown is the value that a demo page shows under a name.
func (p devPage) shown(name string) string {
	p.t.Helper()
	m := monoValue(name).FindStringSubmatch(p.body)
	if m == nil {
		p.t.Fatalf("%s does not show %s\n%s", p.at, name, p.body)
	}
	return m[1]
}

// signIn signs in where the browser stands.
func (h *devHouse) signIn(p devPage, email, password string) devPage {
	h.t.Helper()
	form := p.fields()
	form.Set("email", email)
	form.Set("password", password)
	return h.press(p.at.Scheme+"://"+p.at.Host+"/login", form)
}

var googleButton = regexp.MustCompile(`href="(/login/google\?[^"]+)"`)

// withGoogle continues with Google where the browser stands, as one of the people of
// the stand-in.
func (h *devHouse) withGoogle(p devPage, email string) devPage {
	h.t.Helper()
	m := googleButton.FindStringSubmatch(p.body)
	if m == nil {
		h.t.Fatalf("%s does not offer Google\n%s", p.at, p.body)
	}
	p = h.open(h.provider+m[1]).want(200, h.google+"/login", "Stand-in for Google", "Sign in to continue to Harmony")
	return h.signIn(p, email, standInPassword)
}

// The newcomer's two minutes: Acme asks for a password, Globex asks nothing,
// both refresh, a fresh sign-in is asked for, and signing out ends it for both.
func TestDev(t *testing.T) {
	h := startDev(t, filepath.Join(t.TempDir(), "data"))
	for _, said := range []string{h.provider, h.acme, h.globex, h.mailbox, h.google, "ada@example.com", demoPeople[0].Password, "Ctrl-C"} {
		if !strings.Contains(h.stdout.String(), said) {
			t.Errorf("it does not print %q:\n%s", said, &h.stdout)
		}
	}
	h.open(h.mailbox+"/").want(200, h.mailbox)
	h.open(h.acme+"/").want(200, h.acme, "Sign in with Harmony")
	p := h.open(h.acme+"/sign-in").want(200, h.provider+"/login", "Acme")
	h.signIn(p, "ada@example.com", "not her password").want(422, h.provider+"/login")
	p = h.signIn(p, "ada@example.com", demoPeople[0].Password).want(200, h.acme+"/", "Ada Lovelace", "+442079460018", "ES256")
	sub, sid, access := p.shown("<code>sub</code>"), p.shown("<code>sid</code>"), p.shown("Access token")

	// Single sign-on: nothing is asked, the person and the session are the same.
	p = h.open(h.globex+"/sign-in").want(200, h.globex+"/", "Ada Lovelace")
	if p.shown("<code>sub</code>") != sub || p.shown("<code>sid</code>") != sid {
		t.Errorf("Globex sees another person or session")
	}
	// One demo's cookies do not put out another's: all three share the host.
	h.open(h.acme+"/").want(200, h.acme, "Ada Lovelace")

	// Refreshing works for the client with a secret and for the one without.
	p = h.press(h.acme+"/refresh", nil).want(200, h.acme+"/", "Ada Lovelace")
	if p.shown("Access token") == access {
		t.Error("the same access token after refreshing")
	}
	h.press(h.globex+"/refresh", nil).want(200, h.globex+"/", "Ada Lovelace")
	h.press(h.globex+"/refresh", nil).want(200, h.globex+"/", "Ada Lovelace")

	// A fresh sign-in asks again, with the address fixed.
	p = h.open(h.acme+"/sign-in?fresh=1").want(200, h.provider+"/login", "ada@example.com")
	h.signIn(p, "ada@example.com", demoPeople[0].Password).want(200, h.acme+"/", "Ada Lovelace")

	// Signing out at Acme ends the session at the provider and comes back.
	p = h.press(h.acme+"/sign-out", nil)
	if strings.HasPrefix(p.at.String(), h.provider) {
		p = h.press(h.provider+"/logout", p.fields())
	}
	p.want(200, h.acme+"/signed-out", "Sign in with Harmony")
	for range 100 { // Globex is told of it, too
		if p = h.open(h.globex + "/"); strings.Contains(p.body, "Sign in with Harmony") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.want(200, h.globex, "You’re signed out, here and at Harmony", "Sign in with Harmony")
	h.press(h.globex+"/refresh", nil).want(200, h.globex+"/", "Sign in with Harmony")
	h.open(h.globex+"/sign-in").want(200, h.provider+"/login")

	if code := h.end(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &h.stderr)
	}
}

// Everyone of the demo people can sign in, and has every standard claim.
func TestDemoPeople(t *testing.T) {
	h := startDev(t, t.TempDir())
	for _, person := range demoPeople {
		h.browser = newDevBrowser(t)
		p := h.signIn(h.open(h.acme+"/sign-in"), person.Email, person.Password).want(200, h.acme+"/", person.Name)
		for _, claim := range []string{
			"given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender", "birthdate",
			"zoneinfo", "locale", "updated_at", "email", "email_verified", "phone_number", "phone_number_verified", "address",
		} {
			p.shown("<code>" + claim + "</code>")
		}
	}
}

// The people of the stand-in for Google show what they are there for, and again after
// a restart.
func TestDevGoogle(t *testing.T) {
	args, urls := devArgs(t.TempDir())
	for _, run := range []string{"first", "second"} {
		h := &devHouse{running: shell{t: t}.start(args...), provider: urls[0], acme: urls[1], mailbox: urls[3], google: urls[4]}
		said := []string{h.google, standInPassword}
		for _, person := range standInPeople {
			said = append(said, person.Email, person.shows)
		}
		for _, s := range said {
			if !strings.Contains(h.stdout.String(), s) {
				t.Errorf("it does not print %q:\n%s", s, &h.stdout)
			}
		}
		for i, want := range []struct{ at, says string }{
			{h.acme + "/", "Hello, Gwen Google"},
			{h.provider + "/login", "Google hasn’t verified that email address"},
			{h.provider + "/login", "This email signs in with a Harmony password. Enter it here."},
			{h.acme + "/", "Hello, Rita Renamed"},
		} {
			h.browser = newDevBrowser(t)
			p := h.withGoogle(h.open(h.acme+"/sign-in"), standInPeople[i].Email).want(200, want.at, want.says)
			switch i {
			case 2: // and the password it is
				h.signIn(p, demoPeople[0].Email, demoPeople[0].Password).want(200, h.acme+"/", "Hello, Ada Lovelace")
			case 3:
				if got := p.shown("<code>email</code>"); got != standInPeople[i].Email {
					t.Errorf("Rita’s address is %s", got)
				}
				if run == "first" {
					h.open(h.mailbox+"/").want(200, h.mailbox, "Your Harmony email address changed", standInPeople[i].was)
				}
			}
		}
		// The two share a host, but no session: signing out at one is not signing out at the other.
		h.press(h.google+"/logout", nil).want(200, h.google+"/logout", "Stand-in for Google")
		h.open(h.provider+"/preferences/security").want(200, h.provider+"/preferences/security", "You sign in with Google", "Rita Renamed")
		if code := h.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, &h.stderr)
		}
	}
}

// What a demo workspace refuses: an answer that it did not ask for, one from
// another browser, one from another provider, and one of its own twice.
func TestDemoRefuses(t *testing.T) {
	h := startDev(t, t.TempDir())
	h.open(h.acme+"/callback?code=x&state=y").want(400, h.acme, "invalid_state")

	stay := h.browser.CheckRedirect
	h.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	begin := func(query string) url.Values {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.acme+"/sign-in"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		to, err := resp.Location()
		if err != nil {
			t.Fatal(err)
		}
		return to.Query()
	}
	q := begin("?fresh=1")
	for name, want := range map[string]string{"response_type": "code", "client_id": "acme", "code_challenge_method": "S256", "prompt": "login", "redirect_uri": h.acme + "/callback"} {
		if q.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, q.Get(name), want)
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(q.Get(name)) < 20 {
			t.Errorf("%s = %q", name, q.Get(name))
		}
	}
	if !strings.Contains(q.Get("scope"), "offline_access") {
		t.Errorf("scope = %q", q.Get("scope"))
	}
	answer := func(state, iss string) string {
		return h.acme + "/callback?" + url.Values{"state": {state}, "iss": {iss}, "error": {"access_denied"}}.Encode()
	}
	h.open(answer(q.Get("state"), "https://evil.example")).want(400, h.acme, "invalid_issuer")
	h.open(answer(q.Get("state"), h.provider)).want(400, h.acme, "invalid_state") // its state is spent
	h.open(answer(begin("").Get("state"), h.provider)).want(400, h.acme, "access_denied")

	state := begin("").Get("state")
	mine := h.browser.Jar
	h.browser.Jar = newDevBrowser(t).Jar
	h.open(answer(state, h.provider)).want(400, h.acme, "invalid_state")
	h.browser.Jar, h.browser.CheckRedirect = mine, stay

	// Another site cannot press its buttons.
	for _, path := range []string{"/sign-out", "/refresh"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.acme+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "https://evil.example")
		h.load(req, nil).want(403, h.acme)
	}
}

// Data is kept between runs, for its owner alone, and --fresh forgets it.
func TestDevKeepsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	subject := func(more ...string) (sub, keys string) {
		t.Helper()
		h := startDev(t, dir, more...)
		defer h.end()
		p := h.signIn(h.open(h.acme+"/sign-in"), "ada@example.com", demoPeople[0].Password).want(200, h.acme+"/")
		_, keys = fetch(t, http.DefaultClient, h.provider+"/jwks")
		return p.shown("<code>sub</code>"), keys
	}
	sub, keys := subject()
	for name, mode := range map[string]os.FileMode{devKeys: 0o600, devDatabase: 0o600, ".gitignore": 0o600, ".": 0o700 | os.ModeDir} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", name, info.Mode(), err, mode)
		}
	}
	if again, sameKeys := subject(); again != sub || sameKeys != keys {
		t.Errorf("a second run, on other ports: sub %s, want %s; or other keys", again, sub)
	}
	kept := filepath.Join(dir, "mine.txt")
	write(t, kept, "not dev's")
	if fresh, otherKeys := subject("--fresh"); fresh == sub || otherKeys == keys {
		t.Errorf("--fresh kept the people or the keys")
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("--fresh took what is not its own: %v", err)
	}
}

// A second dev on other ports does not touch the first one's data, not even to
// begin afresh.
func TestDevAlone(t *testing.T) {
	dir := t.TempDir()
	h := startDev(t, dir)
	args, _ := devArgs(dir)
	shell{t: t}.run("", append(args, "--fresh")...).want(exitFailed, "another harmony-id dev uses "+dir)
	h.signIn(h.open(h.acme+"/sign-in"), "ada@example.com", demoPeople[0].Password).want(200, h.acme+"/")
	h.end()
	startDev(t, dir).end() // the lock ends with the process
}

// dev is for this machine: it refuses everything that others could reach.
func TestDevRefuses(t *testing.T) {
	for _, c := range []struct {
		environ, args []string
		said          string
	}{
		{nil, []string{"--issuer", "https://id.example.com"}, "harmony-id serve"},
		{[]string{"HARMONY_ID_ISSUER=https://id.example.com"}, nil, "leave the issuer out"},
		{nil, []string{"--issuer", "http://localhost.evil.example:8080"}, "localhost"},
		{nil, []string{"--issuer", "http://localhost:8080/x"}, "has a path"},
		{nil, []string{"--issuer", "http://localhost:1", "--http-addr", "localhost:0", "--acme-addr", "localhost:0", "--globex-addr", "localhost:0", "--mail-addr", "localhost:0", "--google-addr", "localhost:0"}, "leave the issuer out"},
		{nil, []string{"--http-addr", "0.0.0.0:8080"}, "write --http-addr localhost:8080"},
		{nil, []string{"--acme-addr", "192.0.2.1:8081"}, "write --acme-addr localhost:8081"},
		{nil, []string{"--globex-addr", "[::]:8082"}, "write --globex-addr localhost:8082"},
		{nil, []string{"--mail-addr", "192.0.2.1:8025"}, "write --mail-addr localhost:8025"},
		{nil, []string{"--google-addr", "192.0.2.1:8084"}, "write --google-addr localhost:8084"},
	} {
		shell{t, c.environ}.run("", append([]string{"dev", "--dir", t.TempDir()}, c.args...)...).want(exitUsage, c.said)
	}
	for _, address := range []string{":0", "localhost:0", "127.0.0.1:0"} {
		listeners, err := listenHere(t.Context(), address, "http-addr")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range listeners {
			if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
				t.Errorf("%s listens on %s", address, l.Addr())
			}
			l.Close()
		}
	}
}

// A taken port is named with its flag, on whichever loopback address it is
// taken, and --fresh has not touched anything by then.
func TestDevTakenPort(t *testing.T) {
	dir := t.TempDir()
	startDev(t, dir).end()
	before, err := os.ReadFile(filepath.Join(dir, devKeys))
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range []string{"http-addr", "acme-addr", "globex-addr", "mail-addr", "google-addr"} {
		for _, host := range []string{"127.0.0.1", "::1"} {
			args, urls := devArgs(dir)
			port := must(url.Parse(urls[i]))(t).Port()
			l, err := net.Listen("tcp", net.JoinHostPort(host, port))
			if err != nil {
				continue // a machine without IPv6
			}
			shell{t: t}.run("", append(args, "--fresh")...).want(exitFailed, "port "+port+" is taken", "--"+key)
			l.Close()
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, devKeys)); err != nil || string(after) != string(before) {
		t.Errorf("--fresh forgot the data of a house that could not be built: %v", err)
	}
}
