package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// A proxy does what deploy/haproxy.cfg says: it sends each request to the next replica
// that is ready, and what a replica certainly did not get to another.
type proxy struct {
	replicas []*replica
	ready    []atomic.Bool
	turn     atomic.Uint64
	to       http.Transport
}

func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	var lost error
	for range 2 * len(p.replicas) {
		i := int(p.turn.Add(1)) % len(p.replicas)
		if !p.ready[i].Load() && p.ready[(i+1)%len(p.replicas)].Load() {
			i = (i + 1) % len(p.replicas)
		}
		out := r.Clone(r.Context())
		out.URL.Host, out.Body = p.replicas[i].address, io.NopCloser(bytes.NewReader(body))
		resp, err := p.to.RoundTrip(out)
		if err == nil {
			return resp, nil
		}
		lost = err
		if failed, ok := errors.AsType[*net.OpError](err); r.Method != http.MethodGet && (!ok || failed.Op != "dial") {
			break
		}
	}
	return nil, lost
}

// startProxy runs a proxy until the test ends.
func (f *fleet) startProxy(t *testing.T) {
	t.Helper()
	p := &proxy{replicas: f.replicas, ready: make([]atomic.Bool, len(f.replicas))}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	for i, r := range f.replicas {
		go func() {
			for ctx.Err() == nil {
				p.ready[i].Store(r.ready(ctx))
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	certificate, err := tls.LoadX509KeyPair(f.pem, f.pem)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:"+f.port(), &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		Transport: p,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: f.replicas[0].address})
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { server.Close() })
}

// ST-05: a little of what "make endure" does: replicas that are real processes are killed,
// told to stop, and lose their connections to PostgreSQL, while people sign in.
func TestEndure(t *testing.T) {
	dir := t.TempDir()
	program, err := built(dir)
	if err != nil {
		t.Fatal(err)
	}
	database := dbtest.URL(t, "postgres")
	f, err := newFleet(dir, program, database, 500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.stopAll(); err != nil {
			t.Error(err)
		}
	})
	if err := f.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.startProxy(t)
	rec := &record{}
	l, err := newLoad(f, rec, 3, 3, betweenSignIns)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.enroll(), l.start()); err != nil {
		t.Fatal(err)
	}
	other := dbtest.New(t, "postgres")
	at, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	cut := func() error {
		for range 5 {
			if _, err := other.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, strings.TrimPrefix(at.Path, "/")); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}
	faults := []fault{
		{name: "kill -9 of a replica", cuts: true, cause: func() error { return f.kill(t.Context(), f.replicas[0]) }},
		{name: "connections to PostgreSQL are cut", away: true, cause: cut},
		{name: "rolling restart", cause: func() error { return f.roll(t.Context()) }},
		{name: "kill -9 of a replica", cuts: true, cause: func() error { return f.kill(t.Context(), f.replicas[1]) }},
	}
	for _, one := range faults {
		o, err := l.suffer(one)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", o.name, o.tally)
	}
	l.halt()
	careful := l.clients[0][0]
	careful.signedIn = time.Time{}
	careful.signIn()
	careful.leave(careful.devices[0])
	l.close()
	slips, err := f.slips()
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range slices.Concat(rec.wrongs, slips) {
		t.Error(wrong)
	}
	for _, act := range []string{
		"sign-in", "sign-in with two factors", "code redeemed", "refresh", "refresh, raced at both replicas", "session seen", "ended session refused", "a used authorization code refused",
	} {
		if rec.acts[act] == 0 {
			t.Errorf("nobody did: %s", act)
		}
	}
	t.Logf("%s; %v", rec.sum(), rec.acts)
	auditFinds(t, l.clients[0][1], rec, database)
}

// auditFinds shows that an audit finds what a provider forgot and what it takes twice.
func auditFinds(t *testing.T, p *person, rec *record, database string) {
	p.devices, p.gone, p.spentCodes, p.signedIn, rec.wrongs = nil, nil, nil, time.Time{}, nil
	d := p.signIn()
	if d == nil {
		t.Fatal("nobody can sign in")
	}
	p.connect(d, p.apps[0], false)
	if p.close(); len(rec.wrongs) > 0 || len(d.grants) != 1 {
		t.Fatalf("%d grants, %q", len(d.grants), rec.wrongs)
	}
	there, err := db.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	finds := func(change, words string) {
		t.Helper()
		rec.wrongs = nil
		if _, err := there.Exec(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		if p.close(); !slices.ContainsFunc(rec.wrongs, func(s string) bool { return strings.Contains(s, words) }) {
			t.Errorf("after %s: %q, want %q", change, rec.wrongs, words)
		}
	}
	finds(`UPDATE grants SET redeemed_at = NULL, ended_at = NULL`, "takes a used authorization code")
	finds(`UPDATE grants SET ended_at = 1`, "the refresh token of a session that goes on is refused")
	finds(`UPDATE sessions SET ended_at = 1`, "a session that was confirmed is gone")
	p.gone, p.devices = p.devices, nil
	finds(`UPDATE sessions SET ended_at = NULL`, "a session that has ended is there")
	finds(`UPDATE users SET password_hash = NULL`, "no password of hers is taken any more")
}
