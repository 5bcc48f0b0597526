package idp

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/secret"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// A cookie for each authorization request, its name ending in the request's id,
// binds it to the browser that began it (trap Z1 of the security cases): whoever
// only knows the id gets nothing. One cookie for all would be lost to the other
// of two workspaces that are opened at once.
const (
	requestCookie = "harmony-request-"
	browserToken  = "hbr_"
)

// maxRequestCookies bounds how many requests of one browser wait: more cookies
// would not fit into a request's headers.
const maxRequestCookies = 20

// authorize is the authorization endpoint (OIDC Core 3.1.2).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	q, err := s.browserQuery(w, r)
	if q == nil {
		return err
	}
	q, pushed, err := s.pull(r.Context(), q)
	if page, ok := errors.AsType[*pageError](err); ok {
		return startAgain(page)
	}
	if err != nil {
		return err
	}
	snap, err := s.state.current(r.Context())
	if err != nil {
		return err
	}
	req, err := s.parse(snap, q)
	if err == nil && req.client.RequirePAR && !pushed {
		err = &oauthError{"invalid_request", "this client has to push its authorization requests (RFC 9126)"}
	}
	if page, ok := errors.AsType[*pageError](err); ok {
		return brokenLink(page)
	}
	if _, ok := errors.AsType[*oauthError](err); ok {
		return s.answerError(w, r, req, err)
	}
	if err != nil {
		return err
	}
	return s.proceed(w, r, req)
}

// proceed does what a request needs: it answers, or leads on to a step.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request, req *request) error {
	in, err := s.sessions.In(r)
	if err != nil {
		return err
	}
	if err := s.consented(r.Context(), req, in); err != nil {
		return err
	}
	next := req.needs(in)
	switch next {
	case stepNone:
		return s.answerCode(w, r, req, in)
	case stepRefuse:
		return s.answerError(w, r, req, fmt.Errorf("%w (%s)", errLoginRequired, req.whyLogin(in)))
	case stepRefuseMore:
		return s.answerError(w, r, req, fmt.Errorf("%w (%s)", errInteraction, req.whySecond(in)))
	case stepRefuseConsent:
		return s.answerError(w, r, req, fmt.Errorf("%w (asked for are %q, allowed %q)", errConsent, strings.Join(req.asksFor(), " "), req.consent.scope))
	}
	if req.ID == "" {
		if err := s.await(w, r, req); err != nil {
			return err
		}
	}
	q := url.Values{"to": {pathResume + "?id=" + req.ID}}
	switch next {
	case stepVerify:
		q.Set("for", "workspace")
		return redirect(w, pathConfirm+"?"+q.Encode())
	case stepSetUp:
		return redirect(w, pathSetUp+"?"+q.Encode())
	case stepConsent:
		return redirect(w, pathConsent+"?"+url.Values{"id": {req.ID}}.Encode())
	}
	return redirect(w, pathLogin+"?"+q.Encode())
}

// await lets a request wait for its person, in this browser alone.
func (s *Server) await(w http.ResponseWriter, r *http.Request, req *request) error {
	if wait := s.flood.take(web.Network(web.Address(r)), time.Now()); wait > 0 {
		return &web.Error{Status: http.StatusTooManyRequests, RetryAfter: wait, Err: errors.New("too many authorization requests of this network wait")}
	}
	browser := secret.Token(browserToken)
	if err := s.keep(r.Context(), req, browser); err != nil {
		return err
	}
	if old := s.sessions.Cookies(r, requestCookie); len(old) >= maxRequestCookies {
		for _, name := range old[:len(old)-maxRequestCookies+1] {
			s.sessions.SetCookie(w, name, "", -1)
		}
	}
	s.sessions.SetCookie(w, requestCookie+req.ID, browser, requestTTL)
	return nil
}

// resume is where every step leads back to. It asks needs again, and only the
// browser that began the request, with a session of its own, gets the code.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) error {
	req, err := s.waiting(r, r.URL.Query().Get("id"))
	if errors.Is(err, errNoRequest) {
		return startAgain(err)
	}
	if err != nil {
		return err
	}
	return s.proceed(w, r, req)
}

// Pending is what the sign-in page should know of the request that a person will
// go on to.
type Pending struct {
	Workspace string // its display name
	LoginHint string
	Again     bool // there is a session, but it has to be proved afresh
	Another   bool // there is a session, but its person is not the one who is asked for
}

// Pending returns what waits at a local path for this browser, which has the
// session in (nil: none), or nil if the path is none of ours. A request that is over or another browser's is an
// error with a page of its own.
func (s *Server) Pending(r *http.Request, to string, in *account.Session) (*Pending, error) {
	path, query, _ := strings.Cut(to, "?")
	if path != pathResume {
		return nil, nil
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, startAgain(err)
	}
	req, err := s.waiting(r, q.Get("id"))
	if errors.Is(err, errNoRequest) {
		return nil, startAgain(err)
	}
	if err != nil {
		return nil, err
	}
	p := &Pending{Workspace: req.client.Name, LoginHint: req.LoginHint}
	if in != nil && req.needs(in) == stepLogin {
		p.Again = req.Prompt != "select_account" && (req.HintSub == "" || req.HintSub == in.UserID)
		p.Another = !p.Again
	}
	return p, nil
}

// maxQuery bounds a request in a URL: a request line and headers may have 16 KiB.
const maxQuery = 12 << 10

// browserQuery returns the parameters of a request that a browser brings to one
// of the two endpoints that workspaces may post to. A post is led to a GET of
// the same: the session's cookie is not sent along with another site's post
// (SameSite=Lax), and it is with the GET that follows. A nil result has been answered.
func (s *Server) browserQuery(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost {
		if err := r.ParseForm(); err != nil {
			return nil, badRequest(err)
		}
		if r.URL.RawQuery != "" {
			return nil, badRequest(errors.New("parameters in the body and in the query"))
		}
		to := r.URL.Path + "?" + r.PostForm.Encode()
		if len(to) > maxQuery {
			return nil, badRequest(errors.New("too long a form"))
		}
		return nil, redirect(w, to)
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest(err)
	}
	return q, nil
}

// answerCode gives the browser a code for the workspace.
func (s *Server) answerCode(w http.ResponseWriter, r *http.Request, req *request, in *account.Session) error {
	code, err := s.grant(r.Context(), req, in)
	if errors.Is(err, errNotGranted) {
		return startAgain(fmt.Errorf("%w, client_id %q", err, req.ClientID))
	}
	if err != nil {
		return err
	}
	if req.ID != "" {
		s.sessions.SetCookie(w, requestCookie+req.ID, "", -1)
	}
	return s.answer(w, r, req, url.Values{"code": {code}})
}

// answerError gives the workspace an error (OIDC Core 3.1.2.6): the oauthError that
// err has in it. The rest of err is for the log.
func (s *Server) answerError(w http.ResponseWriter, r *http.Request, req *request, err error) error {
	e, ok := errors.AsType[*oauthError](err)
	if !ok {
		return err
	}
	note(r, "authorization request refused", "client_id", req.ClientID, "redirect_uri", req.RedirectURI, "error", e.code, "why", strings.TrimPrefix(err.Error(), e.code+": "))
	return s.answer(w, r, req, url.Values{"error": {e.code}, "error_description": {e.description}})
}

// answer is the only way back to a workspace. It says whose answer it is (RFC 9207).
func (s *Server) answer(w http.ResponseWriter, r *http.Request, req *request, v url.Values) error {
	if req.State != "" {
		v.Set("state", req.State)
	}
	v.Set("iss", s.cfg.Issuer)
	if req.FormPost {
		p := templates.FormPost{Workspace: req.client.Name, Action: req.RedirectURI}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			p.Fields = append(p.Fields, templates.Field{Name: name, Value: v.Get(name)})
		}
		return web.Show(w, r, http.StatusOK, p)
	}
	return redirect(w, withQuery(req.RedirectURI, v))
}

// withQuery appends parameters to a registered URI and leaves the rest of it as
// it was registered, byte for byte.
func withQuery(uri string, v url.Values) string {
	if len(v) == 0 {
		return uri
	}
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
	}
	return uri + sep + v.Encode()
}

// redirect answers 303: no post is ever repeated at another place (RFC 9700 4.12).
func redirect(w http.ResponseWriter, to string) error {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func brokenLink(e *pageError) error {
	return &web.Error{Status: http.StatusBadRequest, Title: "link_broken.title", Message: "link_broken.text", Err: e}
}

func startAgain(err error) error {
	return &web.Error{Status: http.StatusBadRequest, Title: "sign_in_expired.title", Message: "sign_in_expired.text", Err: err}
}

func badRequest(err error) error { return &web.Error{Status: http.StatusBadRequest, Err: err} }
