package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
)

// adminSettings say where operators and their machines ask how it goes.
type adminSettings struct {
	AdminAddr listenAddr `name:"admin-addr" setting:"" default:"127.0.0.1:9090" placeholder:"ADDR" help:"Where to answer /healthz, /readyz and /metrics. Whoever reaches it needs no password: keep it on this machine or a network of your own."`
}

// The paths of the admin listener.
const (
	pathHealth  = "/healthz"
	pathReady   = "/readyz"
	pathMetrics = "/metrics"
	pathProfile = "/debug/pprof/"
)

// An admin answers on the admin listener. It has nothing to do with the public one.
type admin struct {
	db       *db.DB
	keys     *idp.Keys
	metrics  *metricSet
	profiles bool // answer /debug/pprof, too
	log      *slog.Logger

	draining atomic.Bool // no more work should come here
	mu       sync.Mutex
	said     string // why it was not ready when that was last logged; "": it was
}

// handler has the admin listener's routes.
func (a *admin) handler() http.Handler {
	r := http.NewServeMux()
	r.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	r.HandleFunc("GET "+pathReady, a.ready)
	r.Handle("GET "+pathMetrics, a.metrics.handler())
	if a.profiles {
		r.HandleFunc("GET "+pathProfile, pprof.Index)
		r.HandleFunc("GET "+pathProfile+"cmdline", pprof.Cmdline)
		r.HandleFunc("GET "+pathProfile+"profile", pprof.Profile)
		r.HandleFunc("GET "+pathProfile+"symbol", pprof.Symbol)
		r.HandleFunc("GET "+pathProfile+"trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if misdirected(q) {
			say(w, http.StatusMisdirectedRequest, "not the name of this listener")
			return
		}
		r.ServeHTTP(w, q)
	})
}

// misdirected reports whether a request is for somebody else. On loopback the admin
// listener has no name but localhost: a page whose name was made to lead here (DNS
// rebinding) reads nothing of it in an operator's browser. Who names nobody is no
// browser: HAProxy's checks are HTTP/1.0 and do not.
func misdirected(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return false
	}
	host := (&url.URL{Host: r.Host}).Hostname()
	_, err := netip.ParseAddr(host)
	return host != "" && err != nil && !loopback(strings.ToLower(host))
}

func say(w http.ResponseWriter, status int, word string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, word+"\n")
}

// ready says whether requests should be sent here. Why not stands in the log, when
// it changes.
func (a *admin) ready(w http.ResponseWriter, r *http.Request) {
	if a.draining.Load() {
		say(w, http.StatusServiceUnavailable, "draining")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookTime)
	defer cancel()
	err := serviceable(ctx, a.db, a.keys)
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	a.note(err)
	if err != nil {
		say(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	say(w, http.StatusOK, "ready")
}

func (a *admin) note(err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case why == a.said:
	case why == "":
		a.log.Info("ready again")
	case a.said == "":
		a.log.Warn("not ready", "error", why)
	}
	a.said = why
}

// serviceable says why this database cannot be served from: it does not answer, has
// yet to take steps of the schema or took one that this program is too old for, takes no
// writes (its disk is full), or has no key to sign with. Steps of a newer program that
// only add are no reason: that is how replicas are upgraded one after the other. Mail servers and Google are not asked: without
// them people still sign in.
func serviceable(ctx context.Context, d *db.DB, keys *idp.Keys) error {
	switch n, err := d.Pending(ctx); {
	case err != nil:
		return fmt.Errorf("reading the database's schema: %w", err)
	case n > 0:
		return fmt.Errorf("the database needs %d more steps of its schema", n)
	}
	if err := d.Writes(ctx); err != nil {
		return err
	}
	all, err := keys.List(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(k idp.KeyInfo) bool { return k.State == idp.KeyActive }) {
		return errors.New("there is no key to sign with")
	}
	return nil
}
