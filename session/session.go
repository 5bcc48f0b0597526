// Package session ties browsers to sessions: the cookies, the look-up, and the
// guard that asks for a session. The rows are account's.
package session

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/web"
)

// A Manager reads and writes the cookies of one issuer.
type Manager struct {
	accounts *account.Store
	secure   bool
	max      time.Duration
	prefix   string
}

// New returns a Manager for the provider at issuer. Over https every cookie is
// Secure and its name begins with __Host- (ASVS 3.3.1, 3.3.3); plain http, which
// only loopback may have, cannot carry such cookies. max is how long a browser
// keeps the session's cookie. prefix sets the cookies' names apart from another
// provider's on the same host; "" where there is none.
func New(accounts *account.Store, issuer *url.URL, max time.Duration, prefix string) *Manager {
	return &Manager{accounts: accounts, secure: issuer.Scheme == "https", max: max, prefix: prefix}
}

// The cookies' names, without the __Host- that https adds.
const (
	sessionCookie = "harmony-session"
	halfCookie    = "harmony-login"
	knownCookie   = "harmony-known"
	noticeCookie  = "harmony-notice"
	passkeyCookie = "harmony-passkey"
)

// Cookie returns the value of the cookie of this name. A cookie that comes twice
// counts as none: one of the two is not ours.
func (m *Manager) Cookie(r *http.Request, name string) string {
	c := r.CookiesNamed(m.name(name))
	if len(c) != 1 {
		return ""
	}
	return c[0].Value
}

// Cookies returns the names of the request's cookies that begin with prefix, in
// the order in which the browser sent them: the oldest first (RFC 6265 5.4).
func (m *Manager) Cookies(r *http.Request, prefix string) []string {
	var out []string
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, m.name(prefix)) {
			out = append(out, strings.TrimPrefix(c.Name, m.name("")))
		}
	}
	return out
}

// SetCookie sets a cookie that scripts cannot read, that is sent along when a
// workspace leads here and not with its posts (SameSite=Lax), for age or, if age
// is 0, until the browser closes. An age below 0 deletes it.
func (m *Manager) SetCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	c := &http.Cookie{Name: m.name(name), Value: value, Path: "/", Secure: m.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(age.Seconds())}
	if age < 0 {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func (m *Manager) name(n string) string {
	if m.secure {
		return "__Host-" + m.prefix + n
	}
	return m.prefix + n
}

// In returns the session of the request's browser, nil if it has none.
func (m *Manager) In(r *http.Request) (*account.Session, error) {
	in, err := m.accounts.Session(r.Context(), m.Cookie(r, sessionCookie))
	if errors.Is(err, account.ErrNoSession) {
		return nil, nil
	}
	return in, err
}

// Known returns what this browser holds of earlier sign-ins, for account.Attempt.
func (m *Manager) Known(r *http.Request) string { return m.Cookie(r, knownCookie) }

// Device is where a request came from.
func Device(r *http.Request) account.Device {
	a := web.Address(r)
	d := account.Device{Address: a.String(), Network: web.Network(a).String(), UserAgent: r.UserAgent()}
	const most = 400
	if len(d.UserAgent) > most {
		d.UserAgent = d.UserAgent[:most]
	}
	d.UserAgent = printable(d.UserAgent)
	return d
}

func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < 0x20 || c > 0x7e { // a header's value is ASCII (RFC 9110 5.5)
			b[i] = '?'
		}
	}
	return string(b)
}

// Start takes a person whose first proof was right through the gate. It reports
// whether that was enough: then a session is open, under a token that no browser
// had before (ASVS 7.2.4), and the browser is remembered. If not, the browser holds
// a half sign-in, which opens nothing and waits for Finish. Its errors are those
// of account.Store.Complete.
func (m *Manager) Start(w http.ResponseWriter, r *http.Request, l *account.Login) (whole bool, err error) {
	if err := m.Abandon(w, r); err != nil { // whoever else was half signed in here
		return false, err
	}
	p, err := m.accounts.Complete(r.Context(), l, m.Cookie(r, sessionCookie), m.Known(r))
	if err != nil {
		return false, err
	}
	if p.Half != "" {
		m.SetCookie(w, halfCookie, p.Half, account.HalfLife)
		return false, nil
	}
	m.Turn(w, p)
	return true, nil
}

// Half is who is half signed in in the request's browser. Its error is
// account.ErrNoLogin.
func (m *Manager) Half(r *http.Request) (*account.Half, error) {
	return m.accounts.Half(r.Context(), m.Cookie(r, halfCookie))
}

// Finish judges the second factor of who is half signed in and, if it is right,
// opens the session. Its errors are those of account.Store.Finish.
func (m *Manager) Finish(w http.ResponseWriter, r *http.Request, f account.SecondFactor) error {
	p, err := m.accounts.Finish(r.Context(), m.Cookie(r, halfCookie), f, m.Cookie(r, sessionCookie), m.Known(r), Device(r))
	if errors.Is(err, account.ErrNoLogin) {
		m.SetCookie(w, halfCookie, "", -1)
	}
	if err != nil {
		return err
	}
	m.SetCookie(w, halfCookie, "", -1)
	m.Turn(w, p)
	return nil
}

// Abandon forgets who is half signed in.
func (m *Manager) Abandon(w http.ResponseWriter, r *http.Request) error {
	half := m.Cookie(r, halfCookie)
	if half == "" {
		return nil
	}
	m.SetCookie(w, halfCookie, "", -1)
	return m.accounts.AbandonHalf(r.Context(), half)
}

// Prove judges a fresh proof of the person of a session. Its errors are those of
// account.Store.Prove.
func (m *Manager) Prove(w http.ResponseWriter, r *http.Request, in *account.Session, password string, second *account.SecondFactor) error {
	token, err := m.accounts.Prove(r.Context(), in, account.Proof{Password: password, Second: second, Browser: m.Known(r), Device: Device(r)})
	if err != nil {
		return err
	}
	m.Turn(w, account.Passage{Session: token})
	return nil
}

// AskPasskey asks the request's browser for a passkey: the answer is the JSON that
// navigator.credentials takes, and a cookie that comes back with what the browser
// says. in is who is signed in, for the uses that need somebody. That a browser cannot be
// asked is a *web.Error.
func (m *Manager) AskPasskey(w http.ResponseWriter, r *http.Request, use account.PasskeyUse, in *account.Session) error {
	var q *account.PasskeyRequest
	var err error
	old, d := m.Cookie(r, passkeyCookie), Device(r)
	switch {
	case use == account.PasskeySecond:
		q, err = m.accounts.AskSecond(r.Context(), m.Cookie(r, halfCookie), old, d)
	case use == account.PasskeyConfirm && in != nil:
		q, err = m.accounts.AskConfirm(r.Context(), in, old, d)
	case use == account.PasskeyAdd && in != nil:
		q, err = m.accounts.AskNew(r.Context(), in, old, d)
	default:
		q, err = m.accounts.AskSignIn(r.Context(), old, d)
	}
	throttled, _ := errors.AsType[*account.ThrottledError](err)
	switch {
	case throttled != nil:
		return &web.Error{Status: http.StatusTooManyRequests, RetryAfter: throttled.Wait, Err: err}
	case errors.Is(err, account.ErrProofNeeded):
		return &web.Error{Status: http.StatusForbidden, Err: err}
	case errors.Is(err, account.ErrNoLogin), errors.Is(err, account.ErrNotFound), errors.Is(err, account.ErrNoPasskeys), errors.Is(err, account.ErrTooMany):
		return &web.Error{Status: http.StatusNotFound, Err: err}
	case err != nil:
		return err
	}
	text, err := json.Marshal(q.Options)
	if err != nil {
		return err
	}
	m.SetCookie(w, passkeyCookie, q.Token, account.PasskeyLife)
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(text)
	return err
}

// Passkey is what the request's browser answered, nil if the form has no passkey in it.
// The browser is asked no more.
func (m *Manager) Passkey(w http.ResponseWriter, r *http.Request) *account.PasskeyAnswer {
	response := r.PostForm.Get("credential")
	if response == "" {
		return nil
	}
	a := &account.PasskeyAnswer{Token: m.Cookie(r, passkeyCookie), Response: response}
	m.SetCookie(w, passkeyCookie, "", -1)
	return a
}

// Turn gives the browser the new token of its session and, if p has it, what it is
// known by.
func (m *Manager) Turn(w http.ResponseWriter, p account.Passage) {
	m.SetCookie(w, sessionCookie, p.Session, m.max)
	if p.Known != "" {
		m.Remember(w, p.Known)
	}
}

// Remember gives the browser what it is known by, for account.Attempt.
func (m *Manager) Remember(w http.ResponseWriter, known string) {
	m.SetCookie(w, knownCookie, known, account.KnownFor)
}

// Notice leaves word of what was just done for the page that comes next: a key
// of the catalogue below "notice.", and a value that it names, or "".
func (m *Manager) Notice(w http.ResponseWriter, key, value string) {
	m.SetCookie(w, noticeCookie, m.accounts.SealNotice(url.Values{"n": {key}, "v": {value}}.Encode()), time.Minute)
}

// TakeNotice returns what Notice left, once.
func (m *Manager) TakeNotice(w http.ResponseWriter, r *http.Request) (key, value string) {
	c := m.Cookie(r, noticeCookie)
	if c == "" {
		return "", ""
	}
	m.SetCookie(w, noticeCookie, "", -1)
	q, err := url.ParseQuery(m.accounts.OpenNotice(c))
	if err != nil {
		return "", ""
	}
	return q.Get("n"), q.Get("v")
}

// End ends the session of the request's browser, if it has one, and who is half
// signed in there, and forgets the cookies. It returns the id of the session that it
// ended, or "".
func (m *Manager) End(w http.ResponseWriter, r *http.Request) (id string, err error) {
	if err := m.Abandon(w, r); err != nil {
		return "", err
	}
	id, err = m.end(r, "")
	if err == nil {
		m.SetCookie(w, sessionCookie, "", -1)
	}
	return id, err
}

// EndOnly ends the session of the request's browser if it is this one, even one
// that was idle for too long. It returns what End does.
func (m *Manager) EndOnly(w http.ResponseWriter, r *http.Request, sessionID string) (id string, err error) {
	id, err = m.end(r, sessionID)
	if err != nil || id == "" {
		return "", err
	}
	m.SetCookie(w, sessionCookie, "", -1)
	return id, m.Abandon(w, r)
}

func (m *Manager) end(r *http.Request, only string) (string, error) {
	return m.accounts.EndSession(r.Context(), m.Cookie(r, sessionCookie), only, account.Actor{Kind: "person"}, Device(r))
}

// Require guards a page: who has a session gets it, who has none is led to the
// sign-in page and back.
func (m *Manager) Require(page func(http.ResponseWriter, *http.Request, *account.Session) error) http.Handler {
	return web.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		in, err := m.In(r)
		if err != nil {
			return err
		}
		if in == nil {
			http.Redirect(w, r, "/login?"+url.Values{"to": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
			return nil
		}
		return page(w, r, in)
	})
}
