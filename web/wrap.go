// Package web is what every page and endpoint has in common: the guards in
// front of the handlers, handlers that return errors, the one error page,
// headers, the access log, and the rule for redirects.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/harmony/id/templates"
)

// A Config says what Wrap protects.
type Config struct {
	// Issuer is the public address: the one origin that requests may name.
	Issuer *url.URL
	// TrustedProxies are the networks whose X-Forwarded-For and X-Request-Id are
	// believed.
	TrustedProxies []netip.Prefix
	// Log takes the access log and the errors. Default slog.Default().
	Log *slog.Logger
	// Links stand at the foot of the pages.
	Links templates.Links
	// StandIn gives the pages the look of dev's stand-in for Google.
	StandIn bool
	// Home is the local path that error pages offer to go to; "" for none.
	Home string
	// CrossOriginAllowed reports the endpoints of the protocol that other
	// origins may POST to. Nil: there are none.
	CrossOriginAllowed func(*http.Request) bool
	// JSON reports the paths that answer errors in JSON, not with a page, and
	// may be asked for OPTIONS. Nil: there are none.
	JSON func(path string) bool
	// Unavailable reports whether an error that is no *Error says that something
	// behind the handlers does not work at the moment, which makes it a 503 with a
	// Retry-After in place of a 500. Nil: none says so.
	Unavailable func(err error) bool
	// Watch is told of each answer, for the operator's metrics. Nil: nobody is told.
	Watch func(status int, took time.Duration)
}

// site is a Config made ready for use.
type site struct {
	Config
	host        string // of the issuer, canonical
	defaultPort string // ":443" or ":80", which host leaves out
	origin      string
	https       bool
	log         slog.Handler
	csrf        *http.CrossOriginProtection
	pages       templates.Renderer
}

// An exchange is one request and its answer. It is the ResponseWriter that
// handlers see, and travels in the context.
type exchange struct {
	http.ResponseWriter
	site    *site
	request *http.Request
	ids     [1]string
	address netip.Addr
	start   time.Time
	status  int // 0: nothing sent yet
	bytes   int64
}

type contextKey struct{}

func from(ctx context.Context) *exchange {
	x, _ := ctx.Value(contextKey{}).(*exchange)
	return x
}

// RequestID is the id of the request, its trusted proxy's or one of our own: it stands in the log, in
// the X-Request-Id header and on error pages. It is "" outside of Wrap.
func RequestID(ctx context.Context) string {
	if x := from(ctx); x != nil {
		return x.ids[0]
	}
	return ""
}

// Log is the logger of Config, with the request's id.
func Log(ctx context.Context) *slog.Logger {
	if x := from(ctx); x != nil {
		return slog.New(x.site.log).With("request", x.ids[0])
	}
	return slog.Default()
}

// Header values that never change. Their capacity is their length, so that
// Header.Add copies.
var (
	noStore        = []string{"no-store"}
	nosniff        = []string{"nosniff"}
	sameOrigin     = []string{"same-origin"}
	hsts           = []string{"max-age=63072000; includeSubDomains"}
	apiPolicy      = []string{"default-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
	pagePolicy     = []string{leavingPolicy[0] + "; form-action 'self'"}
	leavingPolicy  = []string{"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"}
	closedFeatures = []string{"accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), " +
		"magnetometer=(), microphone=(), midi=(), payment=(), screen-wake-lock=(), serial=(), usb=(), xr-spatial-tracking=(), " +
		"publickey-credentials-get=(self), publickey-credentials-create=(self)"}
	htmlType = []string{"text/html; charset=utf-8"}
	jsonType = []string{"application/json"}
)

// Wrap puts the guards in front of next. In this order: the request gets its
// id; a panic becomes the 500 page; every answer gets the security
// headers, and no-store unless the handler says otherwise; then, as guard
// lists them, what is not for us is refused; at last a line is logged, which
// has the path but never the query.
func Wrap(cfg Config, next http.Handler) http.Handler {
	s := &site{
		Config: cfg,
		https:  cfg.Issuer.Scheme == "https",
		csrf:   http.NewCrossOriginProtection(),
		pages:  templates.Renderer{Links: cfg.Links, StandIn: cfg.StandIn},
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
	s.log = s.Log.Handler()
	s.defaultPort = ":80"
	if s.https {
		s.defaultPort = ":443"
	}
	s.host = s.fold(cfg.Issuer.Host)
	s.origin = cfg.Issuer.Scheme + "://" + s.host

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, site: s, start: time.Now()}
		x.ids[0] = s.requestID(r)
		x.address = s.client(r)
		r = r.WithContext(context.WithValue(r.Context(), contextKey{}, x))
		x.request = r
		defer x.end()

		h := w.Header()
		h["X-Request-Id"] = x.ids[:]
		h["Cache-Control"] = noStore
		h["Content-Security-Policy"] = apiPolicy
		h["Referrer-Policy"] = sameOrigin
		h["X-Content-Type-Options"] = nosniff
		if s.https {
			h["Strict-Transport-Security"] = hsts
		}
		if err := s.guard(x, r); err != nil {
			x.fail(r, err)
			return
		}
		next.ServeHTTP(x, r)
	})
}

// requestID is the id that a trusted proxy gave to the request, so that its log and
// ours can be laid side by side, or a new one. A stranger's would only confuse.
func (s *site) requestID(r *http.Request) string {
	if len(s.TrustedProxies) > 0 && s.trusts(parseAddress(r.RemoteAddr)) {
		if given := r.Header["X-Request-Id"]; len(given) == 1 && isID(given[0]) {
			return given[0]
		}
	}
	return newID()
}

// isID reports whether s can stand in a log, on a page and in a person's letter to
// support.
func isID(s string) bool {
	const least, most = 8, 64
	if len(s) < least || len(s) > most {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// newID is unlikely to repeat; nothing depends on its being hard to guess.
func newID() string {
	const digits = "0123456789abcdef"
	var b [17]byte
	n := rand.Uint64()
	for i := range b {
		if i == 8 {
			b[i] = '-'
			continue
		}
		b[i] = digits[n&15]
		n >>= 4
	}
	return string(b[:])
}

// WriteHeader remembers the status for the log.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes for the log.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(b)
	x.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// end is deferred: it turns a panic into an answer, and logs the request.
func (x *exchange) end() {
	p := recover()
	if err, _ := p.(error); p != nil && !errors.Is(err, http.ErrAbortHandler) {
		x.logError(slog.LevelError, "panic", slog.String("error", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		if x.status == 0 {
			x.answer(x.request, &Error{Status: http.StatusInternalServerError})
			p = nil
		} else {
			p = http.ErrAbortHandler // half an answer is sent: cut the connection
		}
	}
	x.access()
	if p != nil {
		panic(p)
	}
}

// access writes the line of the access log.
func (x *exchange) access() {
	if x.status == 0 {
		x.status = http.StatusOK // net/http sends it for us
	}
	now := time.Now()
	if x.site.Watch != nil {
		x.site.Watch(x.status, now.Sub(x.start))
	}
	ctx := x.request.Context()
	if !x.site.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	r := slog.NewRecord(now, slog.LevelInfo, "request", 0)
	r.AddAttrs(
		slog.String("request", x.ids[0]),
		slog.String("method", printable(x.request.Method, 16)),
		slog.String("path", printable(x.request.URL.EscapedPath(), 200)),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.bytes),
		slog.Float64("ms", float64(now.Sub(x.start).Microseconds())/1000),
		slog.String("address", x.address.String()),
		slog.String("agent", printable(x.request.UserAgent(), 200)),
	)
	_ = x.site.log.Handle(ctx, r) // there is nowhere else to say it
}

func (x *exchange) logError(level slog.Level, msg string, attrs ...slog.Attr) {
	ctx := x.request.Context()
	if !x.site.log.Enabled(ctx, level) {
		return
	}
	r := slog.NewRecord(time.Now(), level, msg, 0)
	r.AddAttrs(slog.String("request", x.ids[0]), slog.String("path", printable(x.request.URL.EscapedPath(), 200)))
	r.AddAttrs(attrs...)
	_ = x.site.log.Handle(ctx, r)
}

// printable is s without anything but printable ASCII, cut to max bytes: what
// a stranger sent must not play with the terminal of whoever reads the log.
func printable(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strings.Map(func(r rune) rune {
				if r < ' ' || r > '~' {
					return '?'
				}
				return r
			}, s)
		}
	}
	return s
}
