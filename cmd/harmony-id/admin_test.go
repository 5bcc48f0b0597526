package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/db/dbtest"
)

var quietLog = slog.New(slog.DiscardHandler)

// OP-03: healthz asks nobody, readyz the database, and neither says more than it is
// asked.
func TestOP03_Ready(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		log := &lockedBuffer{}
		a := w.watched()
		a.log = slog.New(slog.NewTextHandler(log, nil))
		want := func(when string, status int, body string) {
			t.Helper()
			if code, text := a.asks(t, pathReady); code != status || text != body {
				t.Errorf("%s: readyz says %d %q, want %d %q", when, code, text, status, body)
			}
			if code, text := a.asks(t, pathHealth); code != 200 || text != "ok\n" {
				t.Errorf("%s: healthz says %d %q", when, code, text)
			}
		}
		said := func(words string) {
			t.Helper()
			if n := strings.Count(log.String(), words); n != 1 {
				t.Errorf("the log says %q %d times, want once: %s", words, n, log)
			}
		}
		want("all is well", 200, "ready\n")

		w.post.refuse = fmt.Errorf("no mail today")
		b := w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		w.mails()
		want("without mail", 200, "ready\n")

		// The next program's schema: this one has yet to be replaced, and serves on.
		w.exec(`INSERT INTO migrations (id, name, checksum, applied_at) VALUES (9999, '9999_of_tomorrow', 'x', 1)`)
		want("on a newer schema", 200, "ready\n")
		w.exec(`UPDATE migrations SET name = '9999_of_tomorrow-needs-9998' WHERE id = 9999`)
		want("on a schema that it is too old for", 503, "not ready\n")
		said("it holds migration 9999_of_tomorrow-needs-9998")
		w.exec(`DELETE FROM migrations WHERE id = 9999`)
		want("on its own", 200, "ready\n")

		// A step that this program needs and the database does not have.
		const last = `(SELECT MAX(id) FROM (SELECT id FROM migrations) AS all_of_them)`
		kept := column(t, w, `SELECT id || '|' || name || '|' || checksum FROM migrations WHERE id = `+last)[0]
		w.exec(`DELETE FROM migrations WHERE id = ` + last)
		want("a step of the schema is pending", 503, "not ready\n")
		want("still pending", 503, "not ready\n")
		said("1 more steps of its schema")
		f := strings.Split(kept, "|")
		w.exec(`INSERT INTO migrations (id, name, checksum, applied_at) VALUES (CAST($1 AS BIGINT), $2, $3, 1)`, f[0], f[1], f[2])
		want("taken", 200, "ready\n")
		if n := strings.Count(log.String(), "ready again"); n != 2 {
			t.Errorf("the log says %d times that it is ready again", n)
		}

		w.exec(`UPDATE signing_keys SET retired_at = 1`)
		want("no key signs", 503, "not ready\n")
		w.exec(`UPDATE signing_keys SET retired_at = NULL`)
		want("a key signs", 200, "ready\n")

		a.draining.Store(true)
		want("draining", 503, "draining\n")
		a.draining.Store(false)

		must(1, w.db.Close())(t)
		want("no database", 503, "not ready\n")
		for _, path := range []string{"/", "/debug/pprof/", "/debug/vars", "/metrics/x", "/readyz/"} {
			if code, _ := a.asks(t, path); code != 404 {
				t.Errorf("%s: %d, want 404", path, code)
			}
		}
	})
}

// The admin listener is there beside the public one, on this machine, and the public
// one knows nothing of it (LG-05). Profiles are for who asked for them.
func TestLG05_AdminListener(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	admin := "127.0.0.1:" + freePort()
	sh = sh.with("HARMONY_ID_ADMIN_ADDR=" + admin)
	r := sh.start("serve")
	for path, said := range map[string]string{pathHealth: "ok", pathReady: "ready", pathMetrics: "harmony_id_signin_total"} {
		if status, body := fetch(t, http.DefaultClient, "http://"+admin+path); status != 200 || !strings.Contains(body, said) {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
	if status, _ := fetch(t, http.DefaultClient, "http://"+admin+pathProfile+"cmdline"); status != 404 {
		t.Errorf("profiles: %d", status)
	}
	for _, path := range []string{pathHealth, pathReady, pathMetrics, pathProfile, pathProfile + "cmdline", "/debug/vars", "/debug/whoami", "/admin/v1"} {
		if status, _ := fetch(t, http.DefaultClient, at+path); status != 404 {
			t.Errorf("%s on the public listener: %d", path, status)
		}
	}
	resp := must(http.Post("http://"+admin+pathReady, "text/plain", strings.NewReader("x")))(t)
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	// Whose name leads here is not the listener of this machine.
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:9090": 421, "localhost.evil.example:1": 421,
		"localhost": 200, "LocalHost:9090": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "10.1.2.3:9090": 200,
	} {
		r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+pathMetrics, nil))(t)
		r.Host = host
		res := must(http.DefaultClient.Do(r))(t)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("Host %q: %d, want %d", host, res.StatusCode, want)
		}
	}
	// A load balancer's check, as HAProxy makes it: HTTP/1.0 and no Host.
	check := must(net.Dial("tcp", admin))(t)
	fmt.Fprintf(check, "GET %s HTTP/1.0\r\n\r\n", pathReady)
	if said := must(io.ReadAll(check))(t); !strings.HasPrefix(string(said), "HTTP/1.0 200 ") {
		t.Errorf("a check without a Host: %s", said)
	}
	check.Close()
	// A second one is told which setting to change.
	_, port, _ := net.SplitHostPort(admin)
	sh.with("HARMONY_ID_HTTP_ADDR=127.0.0.1:0").run("", "serve").want(exitFailed, "port "+port+" is taken", "--admin-addr")
	r.end()

	r = sh.with("HARMONY_ID_ADMIN_PPROF=true").start("serve")
	defer r.end()
	if status, body := fetch(t, http.DefaultClient, "http://"+admin+pathProfile+"goroutine?debug=1"); status != 200 || !strings.Contains(body, "goroutine profile:") {
		t.Errorf("profiles: %d %.200s", status, body)
	}
	if status, _ := fetch(t, http.DefaultClient, at+pathProfile); status != 404 {
		t.Errorf("profiles on the public listener: %d", status)
	}
}

// Told to stop, the program says so on the admin listener and goes on taking requests
// for a while; then it takes no more, and finishes what runs.
func TestDrainDelay(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	admin := "127.0.0.1:" + freePort()
	r := sh.with("HARMONY_ID_ADMIN_ADDR="+admin, "HARMONY_ID_DRAIN_DELAY=2s").start("serve")
	host := strings.TrimPrefix(at, "http://")
	if status, body := fetch(t, http.DefaultClient, "http://"+admin+pathReady); status != 200 {
		t.Fatalf("readyz: %d %s", status, body)
	}
	// A connection that is kept alive ends with the first answer after that, so that none
	// is just being written to when the rest is closed.
	kept := &http.Client{Transport: &http.Transport{}}
	ends := func() bool {
		t.Helper()
		resp := must(kept.Get(at + "/login"))(t)
		must(io.Copy(io.Discard, resp.Body))(t)
		resp.Body.Close()
		return resp.Close
	}
	if ends() {
		t.Error("no connection is kept alive")
	}
	r.stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		status, body := fetch(t, client, "http://"+admin+pathReady)
		if status == http.StatusServiceUnavailable && body == "draining\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("readyz says %d %s", status, body)
		}
	}
	// Not a connection is refused that a load balancer sends before it has noticed.
	if status, _ := fetch(t, client, at+"/login"); status != 200 {
		t.Errorf("a request while draining: %d", status)
	}
	if !ends() {
		t.Error("a connection is kept alive that will be closed")
	}
	if status, _ := fetch(t, client, "http://"+admin+pathHealth); status != 200 {
		t.Errorf("healthz while draining: %d", status)
	}
	conn := must(net.Dial("tcp", host))(t)
	defer conn.Close()
	body := url.Values{"email": {"nobody@example.com"}, "password": {"wrong wrong wrong"}}.Encode()
	fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", host, at, len(body), body[:5])
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", host)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("it goes on accepting")
		}
	}
	// What runs is finished, and who watches can still see it.
	if status, _ := fetch(t, client, "http://"+admin+pathMetrics); status != 200 {
		t.Errorf("metrics while a request runs: %d", status)
	}
	fmt.Fprint(conn, body[5:])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the request that ran was cut off: %v", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("status %d", resp.StatusCode)
	}
	conn.Close()
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &r.stderr)
	}
}

// A listener that breaks ends the program at once, with what happened.
func TestBrokenListener(t *testing.T) {
	w := newWorld(t, "sqlite")
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	a := w.watched()
	admins := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	done := make(chan error, 1)
	go func() {
		done <- serving{
			log: quietLog, house: w.house, sites: []site{{newServer(w.house.handler, quietLog), []net.Listener{l}}},
			admin: a, adminSite: site{newServer(a.handler(), quietLog), []net.Listener{admins}}, delay: time.Hour, patience: time.Second,
		}.until(context.Background())
	}()
	l.Close()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on with a listener that is closed")
	}
}
