package main

import (
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/account"
)

// The model of the random walk (walk_test.go): what the provider owes its people, in as
// few words as possible. It knows no HTTP, no SQL and no cookie but by value.

const (
	sessionIdle = 72 * time.Hour
	sessionMax  = 30 * 24 * time.Hour
	refreshIdle = 14 * 24 * time.Hour
	refreshMax  = 30 * 24 * time.Hour
	accessLife  = 5 * time.Minute
	codeLife    = time.Minute
	grace       = 30 * time.Second
	setUpLife   = 15 * time.Minute
	requestLife = 30 * time.Minute
	triesOfHalf = 10
)

// A modelPerson is a person and all that they can prove.
type modelPerson struct {
	name, email, id string
	exists          bool
	disabled        bool
	google          bool   // signs in with Google, and has no password
	password        string // "": none
	old             []string
	credential      int // changes with the password
	app             *app
	lastStep        int64
	codes           []string // backup codes that are left
	spent           []string
	keys, removed   []*softKey
	setUp           *modelSetUp
	links           []*modelLink
}

type modelSetUp struct {
	s   *modelSession
	app *app
	at  time.Time
}

type modelLink struct {
	url, kind string
	p         *modelPerson
	ends      time.Time
	dead      bool
}

// A modelSession is a session; a rotated token opens it no more.
type modelSession struct {
	id, token      string
	p              *modelPerson
	ended          bool
	credential     int
	expires, seen  time.Time
	authed, proved time.Time
	second         time.Time // zero: none
	amr, acr       string
}

type modelHalf struct {
	token   string
	p       *modelPerson
	amr     string
	tries   int
	expires time.Time
	dead    bool
}

// A modelGrant is what a code led to.
type modelGrant struct {
	f                  *flow
	s                  *modelSession
	code               string
	amr, acr           string
	authed             time.Time
	made               time.Time
	spent, ended       bool
	refresh            []string // in the order of their generations; a confidential client has one
	refreshed, rotated time.Time
	idToken            string
}

type modelAccess struct {
	token string
	g     *modelGrant
	ends  time.Time
}

type modelRequest struct {
	id       string
	f        *flow
	jar      *jar
	ends     time.Time
	answered bool
}

type walkModel struct {
	people   []*modelPerson
	sessions []*modelSession
	halves   []*modelHalf
	grants   []*modelGrant
	access   []*modelAccess
	requests []*modelRequest
}

// session is whose token this is, alive or not; nil: nobody's.
func (m *walkModel) session(token string) *modelSession {
	for _, s := range m.sessions {
		if token != "" && s.token == token {
			return s
		}
	}
	return nil
}

// living is the live session of a token, or nil.
func (m *walkModel) living(token string) *modelSession {
	if s := m.session(token); s != nil && s.holds() && time.Since(s.seen) < sessionIdle {
		return s
	}
	return nil
}

// in is the live session of a token, which this uses.
func (m *walkModel) in(token string) *modelSession {
	s := m.living(token)
	if s != nil && time.Since(s.seen) >= time.Minute {
		s.seen = time.Now()
	}
	return s
}

// holds is what tokens of workspaces ask of their session: idleness is not.
func (s *modelSession) holds() bool {
	return !s.ended && !s.p.disabled && s.credential == s.p.credential && time.Now().Before(s.expires)
}

func fresh(t time.Time) bool { return !t.IsZero() && time.Since(t) <= account.ProofLife }

// best is whether the best that the person has was proved in the last minutes.
func (s *modelSession) best() bool {
	if s.p.app != nil {
		return fresh(s.second)
	}
	return fresh(s.proved)
}

func (m *walkModel) half(token string) *modelHalf {
	for _, h := range m.halves {
		if token != "" && h.token == token && !h.dead && h.tries < triesOfHalf && time.Now().Before(h.expires) && !h.p.disabled {
			return h
		}
	}
	return nil
}

// abandon forgets a half sign-in.
func (m *walkModel) abandon(token string) {
	if h := m.half(token); h != nil {
		h.dead = true
	}
}

// first is what of amr is the first factor's.
func first(amr string) string {
	f := strings.Fields(amr)
	if len(f) > 0 && (f[0] == "pwd" || f[0] == "fed") {
		return f[0]
	}
	return strings.Join(slices.DeleteFunc(f, func(a string) bool { return a == "otp" || a == "mfa" }), " ")
}

const oneKey = "hwk user mfa" // a passkey that was both factors

// signIn is a sign-in in a browser that held the session of the token old. It goes on with
// it if it is the same person's and alive, else it ends.
func (m *walkModel) signIn(p *modelPerson, old, amr, acr string) (s *modelSession, goesOn bool) {
	now := time.Now()
	if s = m.session(old); s != nil && s.p == p && !s.ended && now.Before(s.expires) && now.Sub(s.seen) < sessionIdle {
		goesOn = true
	} else {
		if s != nil {
			s.ended = true
		}
		s = &modelSession{p: p}
		m.sessions = append(m.sessions, s)
	}
	s.credential, s.expires, s.seen, s.authed, s.proved, s.amr, s.acr = p.credential, now.Add(sessionMax), now, now, now, amr, acr
	if s.second = (time.Time{}); acr == account.ACR2FA {
		s.second = now
	}
	return s, goesOn
}

// raise is a second factor that was proved in a session.
func (s *modelSession) raise(second string) {
	s.second, s.acr = time.Now(), account.ACR2FA
	if s.amr != oneKey {
		s.amr = first(s.amr) + " " + second
	}
}

// endSessions ends a person's sessions but for one.
func (m *walkModel) endSessions(p *modelPerson, keep *modelSession) {
	for _, s := range m.sessions {
		if s.p == p && s != keep && time.Now().Before(s.expires) {
			s.ended = true
		}
	}
}

func (m *walkModel) endHalves(p *modelPerson) {
	for _, h := range m.halves {
		if h.p == p {
			h.dead = true
		}
	}
}

// newCredential is another way to sign in: what was begun with the former is dead.
func (m *walkModel) newCredential(p *modelPerson) {
	if p.password != "" {
		p.old = append(p.old, p.password)
	}
	p.password = ""
	p.credential++
	m.forgetBegun(p)
}

// forgetBegun ends links and half sign-ins.
func (m *walkModel) forgetBegun(p *modelPerson) {
	for _, l := range p.links {
		l.dead = true
	}
	m.endHalves(p)
}

// without is a person whose second factor is gone, and what sessions proved by it.
func (m *walkModel) without(p *modelPerson) {
	p.app, p.setUp = nil, nil
	p.spent, p.codes = append(p.spent, p.codes...), nil
	m.endHalves(p)
	for _, s := range m.sessions {
		if s.p == p && !s.ended && s.amr != oneKey {
			s.amr, s.acr, s.second = first(s.amr), account.ACR1FA, time.Time{}
		}
	}
}

// step is the time step for which a code of the person's app is right, 0 for none.
func (p *modelPerson) step(code string) int64 {
	for step := p.app.now() - 1; p.app != nil && step <= p.app.now()+1; step++ {
		if step > p.lastStep && p.app.codeAt(step) == code {
			return step
		}
	}
	return 0
}

// spend spends a code of the app or a backup code, and says what it adds to amr; "": it
// is not right.
func (p *modelPerson) spend(code string) string {
	if p.app == nil {
		return ""
	}
	if i := slices.Index(p.codes, code); i >= 0 {
		p.codes = slices.Delete(slices.Clone(p.codes), i, i+1)
		p.spent = append(p.spent, code)
		return "mfa"
	}
	if step := p.step(code); step != 0 {
		p.lastStep = step
		return "otp mfa"
	}
	return ""
}

// alive is what every use of a grant asks.
func (g *modelGrant) alive() bool { return !g.ended && g.s.holds() }

func (g *modelGrant) public() bool { return g.f.rp.secret == "" }

// redeem spends the code. Whoever comes first does; who comes later, and who comes
// wrong, ends the grant.
func (g *modelGrant) redeem(right bool) bool {
	switch {
	case g.spent:
		g.ended = true
		return false
	case !g.alive():
		return false
	}
	g.spent = true
	if !right || time.Since(g.made) > codeLife {
		g.ended = true
		return false
	}
	g.refreshed = time.Now()
	return true
}

// renew uses a refresh token of the grant by its client. known is its generation, the
// last being current. It returns whether tokens are given, and whether there is a new
// generation among them.
func (g *modelGrant) renew(generation int, needsTwo bool) (ok, next bool) {
	current := len(g.refresh) - 1
	now := time.Now()
	switch {
	case !g.alive():
		return false, false
	case generation == current:
		if now.Sub(g.refreshed) >= refreshIdle || now.Sub(g.made) >= refreshMax {
			return false, false
		}
		g.refreshed = now
		if next = g.public() && (g.rotated.IsZero() || now.Sub(g.rotated) > grace); next {
			g.rotated = now
		}
	case generation == current-1 && now.Sub(g.rotated) <= grace:
		// the successor, once more
	default:
		g.ended = true
		return false, false
	}
	return !needsTwo || !g.lessened(), next
}

// lessened is whether the second factor of the grant is none any more.
func (g *modelGrant) lessened() bool {
	return g.s.acr == account.ACR1FA && g.acr == account.ACR2FA && g.amr != oneKey
}

// says is what an ID token says now of how its person signed in.
func (g *modelGrant) says(refreshed bool) (acr, amr string) {
	if refreshed && g.lessened() {
		return account.ACR1FA, first(g.amr)
	}
	return g.acr, g.amr
}
