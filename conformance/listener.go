package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// The paths under config.Callback. They have to be registered.
const (
	pathCallback    = "/callback"
	pathPostLogout  = "/post_logout_redirect"
	pathBackchannel = "/backchannel_logout"
	pathStart       = "/start" // a page that posts the request of a module
)

// A call is a request that came to us.
type call struct {
	method, path, contentType string
	query                     url.Values
	body                      string
	tls                       uint16 // version, 0 if there is none
}

// form is the call's body as a form.
func (c *call) form() url.Values {
	v, err := url.ParseQuery(c.body)
	if err != nil {
		return nil
	}
	return v
}

// A listener is the relying party's site: it keeps what it is called with.
type listener struct {
	server *http.Server
	done   chan struct{}

	mu    sync.Mutex
	calls []*call
	start string // the page at pathStart
}

func newListener(cfg config) (*listener, error) {
	u, err := url.Parse(cfg.Callback)
	if err != nil || u.Host == "" || strings.HasSuffix(u.Path, "/") {
		return nil, fmt.Errorf("-callback %q is not a URL that paths can be added to", cfg.Callback)
	}
	address := cfg.Listen
	if address == "" {
		address = u.Host
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &listener{done: make(chan struct{})}
	l.server = &http.Server{Handler: http.StripPrefix(u.Path, http.HandlerFunc(l.serve)), ReadHeaderTimeout: 10 * time.Second}
	if cfg.CallbackCert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CallbackCert, cfg.CallbackKey)
		if err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	go func() {
		defer close(l.done)
		_ = l.server.Serve(ln) // until it is closed
	}()
	return l, nil
}

func (l *listener) close() {
	_ = l.server.Close()
	<-l.done
}

func (l *listener) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == "/favicon.ico" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.URL.Path == pathStart {
		_, _ = io.WriteString(w, l.start)
		return
	}
	c := &call{method: r.Method, path: r.URL.Path, contentType: r.Header.Get("Content-Type"), query: r.URL.Query(), body: string(body)}
	if r.TLS != nil {
		c.tls = r.TLS.Version
	}
	l.calls = append(l.calls, c)
	_, _ = io.WriteString(w, "<!doctype html><title>Back</title><p>Back at the relying party")
}

// posting puts a page at pathStart that posts a form.
func (l *listener) posting(to string, v url.Values) {
	var b strings.Builder
	fmt.Fprintf(&b, `<!doctype html><title>Start</title><form method="post" action="%s">`, html.EscapeString(to))
	for name := range v {
		fmt.Fprintf(&b, `<input type="hidden" name="%s" value="%s">`, html.EscapeString(name), html.EscapeString(v.Get(name)))
	}
	b.WriteString(`</form><script>document.forms[0].submit()</script>`)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = b.String()
}

// forget empties the list for the next module.
func (l *listener) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = nil
}

// browserCalls are those that a browser made.
func (l *listener) browserCalls() (calls []*call) { return l.callsOf(false) }

func (l *listener) callsOf(backchannel bool) (calls []*call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		if (c.path == pathBackchannel) == backchannel {
			calls = append(calls, c)
		}
	}
	return calls
}

// backchannel waits for the provider's call.
func (l *listener) backchannel(ctx context.Context, patience time.Duration) *call {
	for deadline := time.Now().Add(patience); ; {
		if calls := l.callsOf(true); len(calls) > 0 {
			return calls[0]
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func pemBlocks(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			var block *pem.Block
			if block, text = pem.Decode(text); block == nil || block.Type == "CERTIFICATE" && !yield(block.Bytes) {
				return
			}
		}
	}
}
