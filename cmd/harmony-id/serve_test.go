package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/secret"
)

// running is the program while it serves.
type running struct {
	t              *testing.T
	stdout, stderr lockedBuffer
	stop           context.CancelFunc
	done           chan int
}

// start runs a command that serves and waits until it says so.
func (s shell) start(args ...string) *running {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: s.t, stop: stop, done: make(chan int, 1)}
	go func() { r.done <- run(ctx, args, s.environ, strings.NewReader(""), &r.stdout, &r.stderr) }()
	s.t.Cleanup(func() { r.end() })
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(r.stdout.String(), "Harmony ID serves") && !strings.Contains(r.stdout.String(), "--fresh starts anew"); {
		select {
		case code := <-r.done:
			r.done <- code
			s.t.Fatalf("%q ended with %d\n%s%s", args, code, &r.stdout, &r.stderr)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q does not serve\n%s%s", args, &r.stdout, &r.stderr)
		}
	}
	return r
}

// end stops the program as a signal does and returns its exit code.
func (r *running) end() int {
	r.t.Helper()
	r.stop()
	select {
	case code := <-r.done:
		r.done <- code
		return code
	case <-time.After(40 * time.Second):
		r.t.Fatalf("does not stop\n%s%s", &r.stdout, &r.stderr)
		return -1
	}
}

// serveShell is a shell with everything that serve needs, and its issuer.
func serveShell(t *testing.T, database string) (shell, string) {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.txt")
	write(t, keys, string(secret.GenerateKeyFile()))
	address := "127.0.0.1:" + freePort()
	return shell{t, []string{
		"HARMONY_ID_ISSUER=http://" + address, "HARMONY_ID_HTTP_ADDR=" + address,
		"HARMONY_ID_ENCRYPTION_KEYS_FILE=" + keys, "HARMONY_ID_DATABASE_URL=" + database,
		"HARMONY_ID_ADMIN_ADDR=127.0.0.1:0", "HARMONY_ID_DRAIN_DELAY=0s",
		"HARMONY_ID_SMTP_URL=smtp://127.0.0.1:1", "HARMONY_ID_MAIL_FROM=no-reply@example.com", // nobody listens there: mail waits
	}}, "http://" + address
}

// with is the shell with more in its environment; what is there already is replaced.
func (s shell) with(variables ...string) shell {
	environ := []string{}
	for _, e := range s.environ {
		name, _, _ := strings.Cut(e, "=")
		keep := true
		for _, v := range variables {
			keep = keep && !strings.HasPrefix(v, name+"=")
		}
		if keep {
			environ = append(environ, e)
		}
	}
	return shell{s.t, append(environ, variables...)}
}

func fetch(t *testing.T, client *http.Client, address string) (int, string) {
	t.Helper()
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh, at := serveShell(t, dbtest.Empty(t, engine))
		var args []string
		if engine == "postgres" {
			sh.run("", "serve").want(exitPending, "harmony-id migrate up")
			args = []string{"--migrate"}
		}
		r := sh.start(append([]string{"serve"}, args...)...)
		if want := "Harmony ID serves " + at + " on " + strings.TrimPrefix(at, "http://") + "\n"; r.stdout.String() != want {
			t.Errorf("it prints %q, want %q", r.stdout.String(), want)
		}
		status, body := fetch(t, http.DefaultClient, at+"/.well-known/openid-configuration")
		var metadata struct{ Issuer string }
		if err := json.Unmarshal([]byte(body), &metadata); status != 200 || err != nil || metadata.Issuer != at {
			t.Errorf("discovery: %d %s", status, body)
		}
		_, before := fetch(t, http.DefaultClient, at+"/jwks")

		// Operators work beside a provider that serves.
		sh.run(goodPassword, "user", "create", "--email", "ada@example.com", "--name", "Ada", "--password-stdin").want(0)
		sh.run("", "client", "create", "--id", "acme", "--name", "Acme", "--redirect-uri", "https://acme.example.com/cb").want(0)
		if code := r.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, &r.stderr)
		}

		// A second start finds everything, and needs no --migrate.
		r = sh.start("serve")
		if _, after := fetch(t, http.DefaultClient, at+"/jwks"); after != before {
			t.Errorf("other keys after a restart:\n%s\n%s", before, after)
		}
		if code := r.end(); code != 0 {
			t.Errorf("exit code %d\n%s", code, &r.stderr)
		}
		for line := range strings.Lines(r.stderr.String()) {
			var entry struct {
				Time  time.Time
				Level string
			}
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "" || entry.Time.Location() != time.UTC {
				t.Errorf("log line %q: %v", line, err)
			}
		}

		// The issuer is frozen.
		other := strings.Replace(at, "127.0.0.1", "localhost", 1)
		sh.with("HARMONY_ID_ISSUER="+other).run("", "serve").want(exitUsage, at, other, "HARMONY_ID_ISSUER", "--allow-issuer-change")
		sh.with("HARMONY_ID_ISSUER="+other).start("serve", "--allow-issuer-change").end()
		sh.run("", "serve").want(exitUsage, "--allow-issuer-change")
	})
}

// OP-01: settings that serve refuses, and what it says to write.
func TestServeRefuses(t *testing.T) {
	sh, _ := serveShell(t, dbtest.URL(t, "sqlite"))
	dir := t.TempDir()
	readable, short, empty, twice := filepath.Join(dir, "readable"), filepath.Join(dir, "short"), filepath.Join(dir, "empty"), filepath.Join(dir, "twice")
	write(t, readable, string(secret.GenerateKeyFile()))
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, short, "k1:c2hvcnQ=\n")
	write(t, empty, "# nothing\n")
	key := strings.TrimPrefix(string(secret.GenerateKeyFile()), "#")
	write(t, twice, string(secret.GenerateKeyFile())+"k1:"+strings.Repeat("A", 43)+"=\n"+key[strings.LastIndex(key, "\nk")+1:])
	for _, c := range []struct {
		name     string
		variable string
		args     []string
		code     int
		said     []string
	}{
		{"no issuer", "HARMONY_ID_ISSUER=", nil, exitUsage, []string{"HARMONY_ID_ISSUER=https://id.example.com", "harmony-id dev"}},
		{"http issuer", "HARMONY_ID_ISSUER=http://id.example.com", nil, exitUsage, []string{"HARMONY_ID_ISSUER:", "write https://id.example.com"}},
		{"issuer with a path", "HARMONY_ID_ISSUER=https://id.example.com/x", nil, exitUsage, []string{"has a path"}},
		{"no keys", "HARMONY_ID_ENCRYPTION_KEYS_FILE=", nil, exitUsage, []string{"harmony-id secrets generate"}},
		{"missing keys", "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + filepath.Join(dir, "none"), nil, exitUsage, []string{"HARMONY_ID_ENCRYPTION_KEYS_FILE:", "no such file"}},
		{"readable keys", "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + readable, nil, exitUsage, []string{"mode 0644", "chmod 600 " + readable}},
		{"short key", "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + short, nil, exitUsage, []string{short, "5 bytes", "secrets generate"}},
		{"no key in it", "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + empty, nil, exitUsage, []string{empty}},
		{"a key of zeros", "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + twice, nil, exitUsage, []string{twice}},
		{"keys in a directory", "HARMONY_ID_ENCRYPTION_KEYS_FILE=" + dir, nil, exitUsage, []string{"is not a file"}},
		{"no mail server", "HARMONY_ID_SMTP_URL=", nil, exitUsage, []string{"HARMONY_ID_SMTP_URL=smtps://USER:PASSWORD@HOST", "HARMONY_ID_SMTP_URL_FILE"}},
		{"no sender", "HARMONY_ID_MAIL_FROM=", nil, exitUsage, []string{"HARMONY_ID_MAIL_FROM=no-reply@example.com"}},
		{"bad mail server", "HARMONY_ID_SMTP_URL=mail.example.com", nil, exitUsage, []string{"HARMONY_ID_SMTP_URL:", "write it as smtps://USER:PASSWORD@HOST"}},
		{"bad sender", "HARMONY_ID_MAIL_FROM=nobody", nil, exitUsage, []string{"HARMONY_ID_MAIL_FROM:", "write it as no-reply@example.com"}},
		{"mail password as a flag", "HARMONY_ID_SMTP_URL=", []string{"--smtp-url", "smtps://ada:hunter2@mail.example.com"}, exitUsage, []string{"--smtp-url holds a password", "HARMONY_ID_SMTP_URL"}},
		{"no such places", "HARMONY_ID_GEOIP_FILE=" + filepath.Join(dir, "none"), nil, exitUsage, []string{"HARMONY_ID_GEOIP_FILE:", "no such file"}},
		{"certificate without key", "", []string{"--tls-cert-file", readable}, exitUsage, []string{"belong together"}},
		{"certificate and http", "", []string{"--tls-cert-file", readable, "--tls-key-file", short}, exitUsage, []string{"write https://"}},
		{"idle over max", "HARMONY_ID_SESSION_IDLE=1000h", nil, exitUsage, []string{"session-idle (1000h0m0s) is more than session-max (720h0m0s)"}},
		{"refresh over max", "HARMONY_ID_REFRESH_IDLE=1000h", nil, exitUsage, []string{"refresh-idle", "refresh-max"}},
		{"token that never lives", "HARMONY_ID_ACCESS_TOKEN_TTL=0s", nil, exitUsage, []string{"access-token-ttl is 0s: write 1s or more"}},
		{"negative time", "HARMONY_ID_SESSION_MAX=-1h", nil, exitUsage, []string{"session-max is -1h0m0s"}},
		{"short passwords", "HARMONY_ID_PASSWORD_MIN_LENGTH=7", nil, exitUsage, []string{"password-min-length is 7: write a number from 8 to 64"}},
		{"no memory", "HARMONY_ID_HASH_MEMORY=1MiB", nil, exitUsage, []string{"hash-memory is 1MiB", "19MiB or more"}},
		{"no such directory", "HARMONY_ID_DATABASE_URL=sqlite:" + filepath.Join(dir, "no", "such.db"), nil, exitFailed, []string{filepath.Join(dir, "no")}},
		{"no file", "HARMONY_ID_DATABASE_URL=sqlite:", nil, exitUsage, []string{"sqlite:harmony-id.db"}},
		{"another engine", "HARMONY_ID_DATABASE_URL=mysql://db", nil, exitFailed, []string{"postgres://"}},
		{"another's address", "HARMONY_ID_HTTP_ADDR=192.0.2.1:8080", nil, exitFailed, []string{"http-addr"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := sh
			if c.variable != "" {
				env = sh.with(c.variable)
			}
			env.t = t
			if r := env.run("", append([]string{"serve"}, c.args...)...).want(c.code, c.said...); strings.Contains(r.stderr, "hunter2") {
				t.Errorf("the password is shown: %s", r.stderr)
			}
		})
	}
}

// CR-05: with another key file the provider does not start, and makes no keys.
func TestServeWithOtherKeys(t *testing.T) {
	sh, _ := serveShell(t, dbtest.URL(t, "sqlite"))
	sh.start("serve").end()
	other := filepath.Join(t.TempDir(), "other.txt")
	write(t, other, string(secret.GenerateKeyFile()))
	sh.with("HARMONY_ID_ENCRYPTION_KEYS_FILE="+other).run("", "serve").want(exitFailed, "encryption key")
}

func TestTakenPort(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	r := sh.start("serve")
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(at, "http://"))
	sh.run("", "serve").want(exitFailed, "port "+port+" is taken", "--http-addr")
	r.end()
}

// A request that runs when the program is told to stop is finished; new ones
// are not taken.
func TestDrain(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	r := sh.start("serve")
	host := strings.TrimPrefix(at, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := url.Values{"email": {"nobody@example.com"}, "password": {"wrong wrong wrong"}}.Encode()
	fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", host, at, len(body), body[:5])
	time.Sleep(100 * time.Millisecond) // the handler waits for the rest
	r.stop()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", host)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("it goes on accepting")
		}
	}
	fmt.Fprint(conn, body[5:])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the request that ran was cut off: %v", err)
	}
	if resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("status %d", resp.StatusCode)
	}
	conn.Close()
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &r.stderr)
	}
}

// FED-17: who decides who gets into every Google account is Google, unless an
// operator says otherwise in so many words; and its secret is nobody else's to read.
func TestFED17_GoogleSettings(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	dir := t.TempDir()
	file, open := filepath.Join(dir, "secret"), filepath.Join(dir, "open")
	write(t, file, "hunter2 of Google\n")
	write(t, open, "hunter2 of Google\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	const id, key = "HARMONY_ID_GOOGLE_CLIENT_ID=4711.apps.googleusercontent.com", "HARMONY_ID_GOOGLE_CLIENT_SECRET=hunter2 of Google"
	other := func(issuer string) []string { return []string{id, key, "HARMONY_ID_GOOGLE_ISSUER=" + issuer} }
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		said    []string
	}{
		{"id without secret", []string{id}, nil, []string{"google-client-id and google-client-secret belong together"}},
		{"secret without id", []string{key}, nil, []string{"belong together"}},
		{"secret as a flag", []string{id}, []string{"--google-client-secret", "hunter2 of Google"}, []string{"--google-client-secret can be read by every user", "HARMONY_ID_GOOGLE_CLIENT_SECRET", "--google-client-secret-file"}},
		{"secret twice", []string{id, key, "HARMONY_ID_GOOGLE_CLIENT_SECRET_FILE=" + file}, nil, []string{"are both set"}},
		{"secret for all to read", []string{id, "HARMONY_ID_GOOGLE_CLIENT_SECRET_FILE=" + open}, nil, []string{"HARMONY_ID_GOOGLE_CLIENT_SECRET_FILE", "chmod 600"}},
		{"no such file", []string{id, "HARMONY_ID_GOOGLE_CLIENT_SECRET_FILE=" + filepath.Join(dir, "none")}, nil, []string{"HARMONY_ID_GOOGLE_CLIENT_SECRET_FILE", "no such file"}},
		{"another issuer", other("https://other.example"), nil, []string{"google-issuer is https://other.example and not Google", "--google-other-issuer"}},
		{"one that looks like Google's", other("https://accounts.google.com.evil"), nil, []string{"not Google"}},
		{"Google's with a slash", other("https://accounts.google.com/"), nil, []string{"not Google"}},
		{"Google's in the clear", other("http://accounts.google.com"), nil, []string{"not Google"}},
		{"in the clear", other("http://other.example"), []string{"--google-other-issuer"}, []string{"google-issuer", "write https://other.example"}},
		{"no URL", other("other.example"), []string{"--google-other-issuer"}, []string{"google-issuer", "is not a URL"}},
		{"domains that are none", []string{id, key, "HARMONY_ID_GOOGLE_DOMAINS=,"}, nil, []string{"HARMONY_ID_GOOGLE_DOMAINS", "example.com,example.org"}},
		{"addresses for domains", []string{id, key, "HARMONY_ID_GOOGLE_DOMAINS=example.com,@example.org"}, nil, []string{"HARMONY_ID_GOOGLE_DOMAINS", "@example.org"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := shell{t, sh.environ}.with(c.environ...).run("", append([]string{"serve"}, c.args...)...).want(exitUsage, c.said...)
			if strings.Contains(r.stdout+r.stderr, "hunter2") {
				t.Errorf("it tells the secret: %s%s", r.stdout, r.stderr)
			}
		})
	}
	const offer = "Continue with Google"
	for _, c := range []struct {
		name    string
		environ []string
		offered bool
		logged  string
	}{
		{"not set up", nil, false, ""},
		{"Google", []string{id, "HARMONY_ID_GOOGLE_CLIENT_SECRET_FILE=" + file}, true, ""},
		{"another, on purpose", append(other("https://other.example"), "HARMONY_ID_GOOGLE_OTHER_ISSUER=true"), true, "https://other.example"},
		{"another on this machine", append(other("http://127.0.0.1:1"), "HARMONY_ID_GOOGLE_OTHER_ISSUER=true"), true, "http://127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := shell{t, sh.environ}.with(c.environ...).start("serve")
			_, page := fetch(t, http.DefaultClient, at+"/login")
			r.end()
			if strings.Contains(page, offer) != c.offered {
				t.Errorf("%s is offered: %v\n%s", offer, !c.offered, page)
			}
			const warning = "people of google sign in with another OpenID provider"
			if log := r.stderr.String(); strings.Contains(log, warning) != (c.logged != "") || !strings.Contains(log, c.logged) || strings.Contains(log, "hunter2") {
				t.Errorf("the log is %s", log)
			}
		})
	}
}

// A header over 16 KiB is refused before anybody looks at it.
func TestHeaderLimit(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	defer sh.start("serve").end()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/jwks", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Big", strings.Repeat("x", 32<<10))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", resp.StatusCode)
	}
}

// certify writes a certificate for localhost and its key.
func certify(t *testing.T, certFile, keyFile string, serial int64) *x509.Certificate {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	der := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{SerialNumber: big.NewInt(serial)}, key.Public(), key))(t)
	private := must(x509.MarshalPKCS8PrivateKey(key))(t)
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return must(x509.ParseCertificate(der))(t)
}

func TestServeTLS(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(at, "http://"))
	at = "https://localhost:" + port
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert := certify(t, certFile, keyFile, 1)
	sh = sh.with("HARMONY_ID_ISSUER="+at, "HARMONY_ID_TLS_CERT_FILE="+certFile, "HARMONY_ID_TLS_KEY_FILE="+keyFile)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r := sh.start("serve")
	resp, err := (&http.Client{Transport: transport}).Get(at + "/login")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s %s, HSTS %q", resp.Proto, resp.Status, resp.Header.Get("Strict-Transport-Security"))
	}
	old, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err == nil {
		old.Close()
		t.Error("it speaks TLS 1.1")
	}
	r.end()

	if err := os.Chmod(keyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	sh.run("", "serve").want(exitUsage, "tls-key-file", "chmod 600")
}

// A certificate that was renewed is taken without a restart; one that is broken
// leaves the old one in place.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var log bytes.Buffer
	certify(t, certFile, keyFile, 1)
	c := &certificate{certFile: certFile, keyFile: keyFile, log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		got := must(c.get(nil))(t)
		return must(x509.ParseCertificate(got.Certificate[0]))(t).SerialNumber.Int64()
	}
	later := func(d time.Duration) {
		t.Helper()
		c.looked = time.Time{}
		for _, f := range []string{certFile, keyFile} {
			if err := os.Chtimes(f, time.Now().Add(d), time.Now().Add(d)); err != nil {
				t.Fatal(err)
			}
		}
	}
	certify(t, certFile, keyFile, 2)
	if got := serial(); got != 1 {
		t.Errorf("serial %d within ten seconds, want the old one", got)
	}
	later(time.Minute)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after renewal, want 2", got)
	}
	write(t, keyFile, "half")
	later(2 * time.Minute)
	if got := serial(); got != 2 || !strings.Contains(log.String(), "the old one stays") {
		t.Errorf("serial %d with a broken key, want 2; log: %s", got, &log)
	}
}
