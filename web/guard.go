package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// What a request may have at most.
const (
	maxBody   = 64 << 10
	maxFields = 200
)

// guard refuses what is not for us, cheapest first:
//
//   - a Host that is not the issuer's: 421. Case, a trailing dot and the
//     default port do not matter, and handlers see the canonical form;
//   - a method other than GET, HEAD and POST (and OPTIONS where JSON or
//     another origin is served): 405;
//   - a path that is not written plainly: 404;
//   - a query that cannot be decoded into text: 400;
//   - a POST from another origin, or from nobody knows where: 403;
//   - a POST with anything but one form in it: 415, larger than 64 KiB: 413,
//     with a field twice or with what is not text: 400.
//
// After it, r.PostForm is filled.
func (s *site) guard(x *exchange, r *http.Request) error {
	if r.Host != s.host {
		if s.fold(r.Host) != s.host {
			return &Error{Status: http.StatusMisdirectedRequest}
		}
		r.Host = s.host
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	case http.MethodOptions:
		if !s.crossOrigin(r) && !s.json(r.URL.Path) {
			return notAllowed(x)
		}
	default:
		return notAllowed(x)
	}
	if r.URL.RawPath != "" || !cleanPath(r.URL.Path) {
		return &Error{Status: http.StatusNotFound}
	}
	if err := checkText(r.URL.RawQuery); err != nil {
		return &Error{Status: http.StatusBadRequest, Err: err}
	}
	if r.Method != http.MethodPost {
		if r.ContentLength != 0 {
			r.Body = http.MaxBytesReader(x.ResponseWriter, r.Body, maxBody)
		}
		return nil
	}
	if !s.crossOrigin(r) {
		if err := s.ownOrigin(r); err != nil {
			return &Error{Status: http.StatusForbidden, Err: err}
		}
	}
	return readForm(x, r)
}

func (s *site) json(path string) bool { return s.JSON != nil && s.JSON(path) }
func (s *site) crossOrigin(r *http.Request) bool {
	return s.CrossOriginAllowed != nil && s.CrossOriginAllowed(r)
}

func notAllowed(w http.ResponseWriter) error {
	w.Header().Set("Allow", "GET, HEAD, POST")
	return &Error{Status: http.StatusMethodNotAllowed}
}

// fold brings a host into the one form in which hosts are compared.
func (s *site) fold(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), s.defaultPort)
	if name, port, ok := strings.Cut(host, ".:"); ok { // "id.example.com.:8443"
		return name + ":" + port
	}
	return strings.TrimSuffix(host, ".")
}

// cleanPath reports whether p is written as our own paths are: letters,
// digits and -._~ between single slashes, and no segment of dots.
func cleanPath(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	segment := 0 // where it began
	for i := 1; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			if !plain(p[i]) {
				return false
			}
			continue
		}
		switch name := p[segment+1 : i]; name {
		case "", ".", "..":
			if i < len(p) || name != "" {
				return false
			}
		}
		segment = i
	}
	return true
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// checkText reports whether s, a query or a form, decodes into UTF-8 without NUL.
func checkText(s string) error {
	if !strings.ContainsAny(s, "%;") && isASCII(s) {
		return nil
	}
	if strings.Contains(s, ";") {
		return errors.New("a semicolon is not encoded")
	}
	text, err := url.QueryUnescape(s)
	if err != nil {
		return err
	}
	if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return errors.New("not UTF-8, or a NUL in it")
	}
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] == 0 || s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// ownOrigin is net/http's protection against forged forms, made strict: since
// 2020 every browser says where a form comes from, so one that says nothing is
// refused too, and so is an Origin that contradicts Sec-Fetch-Site. ("null" is
// what a browser sends that hides the origin from everyone.)
func (s *site) ownOrigin(r *http.Request) error {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	switch {
	case origin == "" && site == "":
		return errors.New("neither Origin nor Sec-Fetch-Site")
	case origin != "" && origin != "null" && origin != s.origin:
		return errors.New("the Origin is another site")
	}
	return s.csrf.Check(r)
}

// readForm reads the body of a POST into r.PostForm. The body can be read again.
func readForm(x *exchange, r *http.Request) error {
	if r.ContentLength > maxBody {
		x.Header().Set("Connection", "close")
		return &Error{Status: http.StatusRequestEntityTooLarge}
	}
	if r.ContentLength == 0 && r.Header.Get("Content-Type") == "" {
		r.PostForm = url.Values{}
		return nil
	}
	if !isForm(r.Header) {
		x.Header().Set("Accept-Post", "application/x-www-form-urlencoded")
		return &Error{Status: http.StatusUnsupportedMediaType, Err: fmt.Errorf("Content-Type is %.64q", r.Header.Get("Content-Type"))}
	}
	body, err := io.ReadAll(http.MaxBytesReader(x.ResponseWriter, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &Error{Status: http.StatusRequestEntityTooLarge}
		}
		return &Error{Status: http.StatusRequestTimeout, Err: err}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	form := string(body)
	if strings.Count(form, "&") >= maxFields {
		return &Error{Status: http.StatusBadRequest, Err: errors.New("too many fields")}
	}
	if err := checkText(form); err != nil {
		return &Error{Status: http.StatusBadRequest, Err: err}
	}
	r.PostForm, err = url.ParseQuery(form)
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Err: err}
	}
	for name, values := range r.PostForm {
		if len(values) > 1 {
			return &Error{Status: http.StatusBadRequest, Err: fmt.Errorf("a field stands there twice: %.64q", name)}
		}
	}
	return nil
}

// isForm reports whether a body is one application/x-www-form-urlencoded form
// in UTF-8, not compressed.
func isForm(h http.Header) bool {
	types := h["Content-Type"]
	if len(types) != 1 || h.Get("Content-Encoding") != "" {
		return false
	}
	if types[0] == "application/x-www-form-urlencoded" {
		return true
	}
	kind, params, err := mime.ParseMediaType(types[0])
	charset := params["charset"]
	return err == nil && kind == "application/x-www-form-urlencoded" && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// LocalPath reports whether s is a path on this site, and nothing that a
// browser could take for another: plainly written from its first and only
// leading slash on, with a query perhaps, but with no host, backslash, control
// character or fragment.
func LocalPath(s string) (path string, ok bool) {
	if len(s) > 4096 {
		return "", false
	}
	p, query, _ := strings.Cut(s, "?")
	if !cleanPath(p) {
		return "", false
	}
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c > '~' || c == '\\' || c == '#' || c == '"' || c == '<' || c == '>' {
			return "", false
		}
	}
	if checkText(query) != nil {
		return "", false
	}
	return s, true
}
