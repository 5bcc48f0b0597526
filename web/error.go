package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/harmony/id/templates"
)

// An Error is how a handler refuses. The person reads Title and Message, the
// operator reads Err. Title, Message and Action are keys of the catalogue of
// templates ("link_broken.title") or the words themselves; empty ones follow
// from the Status.
type Error struct {
	Status            int
	Title, Message    string
	Err               error         // for the log only
	RetryAfter        time.Duration // 0 for none
	Action, ActionURL string        // the button; by default the way home
}

// Error is what the log says.
func (e *Error) Error() string {
	s := strconv.Itoa(e.Status)
	if text := cmp.Or(e.Message, e.Title); text != "" {
		s += " " + text
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap is Err.
func (e *Error) Unwrap() error { return e.Err }

// A HandlerFunc handles a request or returns why it did not. Having written
// the answer, it returns nil.
type HandlerFunc func(http.ResponseWriter, *http.Request) error

// ServeHTTP calls f. An error becomes the error page (JSON, where Config says
// so): an *Error says which, any other is a 500, or a 503 if Config says that it
// passes, that tells nothing of itself.
func (f HandlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := f(w, r)
	if err == nil {
		return
	}
	x := from(r.Context())
	if x == nil {
		x = bare(w, r)
	}
	x.fail(r, err)
}

// NotFound answers what no route takes, MethodNotAllowed what one takes only
// by another method. They are for the router.
var (
	NotFound         http.Handler = HandlerFunc(notFound)
	MethodNotAllowed http.Handler = HandlerFunc(methodNotAllowed)
)

func notFound(http.ResponseWriter, *http.Request) error {
	return &Error{Status: http.StatusNotFound}
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	allow := "POST"
	if r.Method == http.MethodPost {
		allow = "GET, HEAD"
	}
	w.Header().Set("Allow", allow)
	return &Error{Status: http.StatusMethodNotAllowed}
}

// bare is the exchange of a request that did not come through Wrap.
func bare(w http.ResponseWriter, r *http.Request) *exchange {
	return &exchange{ResponseWriter: w, request: r, site: &site{log: slog.Default().Handler()}}
}

// fail logs err and shows the person what there is to show.
func (x *exchange) fail(r *http.Request, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Status: http.StatusInternalServerError, Err: err}
		switch {
		case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
			e.Status = statusClientGone
		case x.site.Unavailable != nil && x.site.Unavailable(err):
			e = unavailable(err)
		}
	}
	switch {
	case e.Status == statusClientGone:
		x.logError(slog.LevelInfo, "the client went away")
	case e.Status >= 500:
		x.logError(slog.LevelError, "error", slog.Int("status", e.Status), slog.String("error", err.Error()))
	case e.Err != nil:
		x.logError(slog.LevelInfo, "refused", slog.Int("status", e.Status), slog.String("error", err.Error()))
	}
	if x.status != 0 {
		panic(http.ErrAbortHandler) // half an answer is sent: cut the connection
	}
	x.answer(r, e)
}

// RetrySoon is the Retry-After, in seconds, of a 503 whose cause passes by itself
// or is being looked at: long enough not to add to it, short enough to be waited for.
const RetrySoon = "5"

// unavailable is the answer to who asked while err is so: that it is nobody's fault
// here, that what was sent may have been done, and when to ask again.
func unavailable(err error) *Error {
	wait, _ := time.ParseDuration(RetrySoon + "s")
	return &Error{Status: http.StatusServiceUnavailable, Title: "error.away.title", Message: "error.away.text", RetryAfter: wait, Err: err}
}

// answer shows e to whoever asked.
func (x *exchange) answer(r *http.Request, e *Error) {
	if e.RetryAfter > 0 {
		x.Header().Set("Retry-After", strconv.Itoa(e.seconds()))
	}
	if x.site.json(r.URL.Path) {
		x.failJSON(e)
		return
	}
	if err := x.show(e.Status, x.message(e)); err != nil {
		x.logError(slog.LevelError, "error", slog.String("error", err.Error()))
		x.Header()["Content-Type"] = []string{"text/plain; charset=utf-8"}
		x.WriteHeader(http.StatusInternalServerError)
		_, _ = x.Write([]byte("Something went wrong on our side. Reference: " + x.ids[0] + "\n"))
	}
}

// statusClientGone is nginx's: it stands in the log, nobody reads the answer.
const statusClientGone = 499

func (e *Error) seconds() int { return int(math.Ceil(e.RetryAfter.Seconds())) }

func (x *exchange) message(e *Error) templates.Message {
	m := templates.Message{
		Status:    e.Status,
		Title:     e.Title,
		Text:      e.Message,
		Action:    e.Action,
		ActionURL: e.ActionURL,
		Reference: x.ids[0],
	}
	if e.RetryAfter > 0 {
		m.Wait = e.seconds()
	}
	if e.Status == http.StatusMisdirectedRequest {
		m.Site, m.ActionURL = x.site.host, x.site.origin+x.site.Home
	} else if m.ActionURL == "" && x.site.Home != "" {
		m.Action, m.ActionURL = "error.home", x.site.Home
	}
	return m
}

// failJSON answers as OAuth does (RFC 6749, 5.2), whose texts are ASCII.
func (x *exchange) failJSON(e *Error) {
	code := "invalid_request"
	switch {
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusServiceUnavailable:
		code = "temporarily_unavailable"
	case e.Status >= 500:
		code = "server_error"
	}
	description := jsonTexts[e.Status]
	if description == "" {
		description = http.StatusText(e.Status)
	}
	body, _ := json.Marshal(map[string]string{"error": code, "error_description": description})
	h := x.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(e.Status)
	_, _ = x.Write(body)
}

// jsonTexts tell a developer what the guards refuse.
var jsonTexts = map[int]string{
	http.StatusBadRequest:            "the parameters cannot be read: a duplicate, too many, or not UTF-8",
	http.StatusForbidden:             "cross-origin requests are not allowed here",
	http.StatusRequestTimeout:        "the body did not arrive",
	http.StatusRequestEntityTooLarge: "the body is larger than 64 KiB",
	http.StatusUnsupportedMediaType:  "the body must be application/x-www-form-urlencoded in UTF-8",
	http.StatusMisdirectedRequest:    "the Host is not the issuer",
	http.StatusInternalServerError:   "something went wrong; the log has it under the X-Request-Id of this answer",
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Show answers with page p: rendered whole, then written, so that a page that
// cannot be rendered is an error and not half a page.
func Show(w http.ResponseWriter, r *http.Request, status int, p templates.Page) error {
	if x := from(r.Context()); x != nil {
		return x.show(status, p)
	}
	return bare(w, r).show(status, p)
}

func (x *exchange) show(status int, p templates.Page) error {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	if err := x.site.pages.Render(b, p); err != nil {
		return fmt.Errorf("rendering %T: %w", p, err)
	}
	h := x.Header()
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(b.Len())}
	h["Content-Type"] = htmlType
	h["Cross-Origin-Opener-Policy"] = sameOrigin
	h["Permissions-Policy"] = closedFeatures
	if to := templates.FormAction(p); to != "" {
		h["Content-Security-Policy"] = []string{leavingPolicy[0] + "; form-action " + source(to)}
	} else if templates.FormsLeave(p) {
		h["Content-Security-Policy"] = leavingPolicy
	} else {
		h["Content-Security-Policy"] = pagePolicy
	}
	x.WriteHeader(status)
	_, _ = x.Write(b.Bytes()) // whoever asked has gone
	return nil
}

// source is the CSP source of a URI that was checked (CSP 3 section 2.3.1): its
// origin, or its scheme where an origin cannot be written.
func source(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Host == "":
		return "'none'"
	case strings.Contains(u.Host, "["):
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}

// Static serves the files of templates under /static/. Their names change with
// their content, so they never expire. Ranges are not served.
func Static() http.Handler {
	return HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		a, ok := templates.Static(r.URL.Path)
		if !ok {
			return &Error{Status: http.StatusNotFound}
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return methodNotAllowed(w, r)
		}
		h := w.Header()
		h["Cache-Control"] = []string{"public, max-age=31536000, immutable"}
		h["Content-Type"] = []string{a.Type}
		h["Vary"] = []string{"Accept-Encoding"}
		data := a.Data
		if acceptsGzip(r) {
			data = a.Gzip
			h["Content-Encoding"] = []string{"gzip"}
		}
		h["Content-Length"] = []string{strconv.Itoa(len(data))}
		_, _ = w.Write(data)
		return nil
	})
}

// acceptsGzip is whether the client names gzip among what it decodes (RFC 9110
// section 12.5.3), with no weight of its own: one that weighs it gets plain files.
func acceptsGzip(r *http.Request) bool {
	for _, line := range r.Header["Accept-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				return true
			}
		}
	}
	return false
}
