package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
	"github.com/harmony/id/secret"
)

// A random walk through everything that people, thieves, workspaces and operators can do
// (operations 4.0 of the security cases), against the model of walk_model_test.go. What
// the walk finds is told with the shortest walk that still finds it.

var walkFor = flag.Duration("walk", 0, "walk at random for so long, on each engine; 0: a few walks")

const walkSteps = 120

// A walkStep is one act. What its numbers choose among is what is there when it comes, so
// that a walk makes sense without any of its steps.
type walkStep struct {
	act string
	n   [5]int
}

// A divergence is where provider and model part.
type divergence string

// walkTB has a helper that gives up end this walk and no more.
type walkTB struct{ testing.TB }

func (walkTB) Helper()                      {}
func (walkTB) Failed() bool                 { return false }
func (walkTB) Fatal(args ...any)            { panic(divergence(fmt.Sprint(args...))) }
func (walkTB) Fatalf(f string, args ...any) { panic(divergence(fmt.Sprintf(f, args...))) }
func (walkTB) Error(args ...any)            { panic(divergence(fmt.Sprint(args...))) }
func (walkTB) Errorf(f string, args ...any) { panic(divergence(fmt.Sprintf(f, args...))) }

// A jar is one browser.
type jar struct {
	name           string
	b              *browser
	held, heldHalf []string // cookies that it, or somebody else, held once
	requests       []*modelRequest
	back           string // the last way back from Google
}

type walk struct {
	*world
	walkModel
	google *upstream
	houses []*house
	vault  rp // demands two factors
	jars   []*jar

	serial int // of passwords and keys
	trace  []string

	n  [5]int // the step's numbers
	on *house // the replica that it is at
}

// A walkAct is done in a jar, and says what came of it.
type walkAct struct {
	weight int // how often it comes
	do     func(*walk, *jar) string
}

// walkActs are what a walk is made of.
var walkActs = map[string]walkAct{
	"LOGIN": {16, (*walk).login}, "OTP": {12, (*walk).otp}, "LOGOUT": {2, (*walk).logout}, "STEAL": {4, (*walk).steal},
	"AUTHZ": {12, (*walk).authz}, "RESUME": {5, (*walk).resume}, "TOKEN": {12, (*walk).token}, "REFRESH": {12, (*walk).renewal},
	"REVOKE": {2, (*walk).revoke}, "END": {2, (*walk).end}, "RESETREQ": {3, (*walk).askReset}, "RESETSET": {4, (*walk).setReset},
	"CHPW": {4, (*walk).change}, "CONFIRM": {5, (*walk).confirm}, "MFA-START": {5, (*walk).start2FA}, "MFA-VERIFY": {9, (*walk).verify2FA},
	"MFA-OFF": {3, (*walk).off2FA}, "CODES-NEW": {2, (*walk).newCodes}, "KEY-REG": {4, (*walk).addKey}, "KEY-LOGIN": {4, (*walk).keyLogin},
	"KEY-SECOND": {3, (*walk).keySecond}, "KEY-OFF": {2, (*walk).removeKey}, "SESS-END": {3, (*walk).endOther}, "SESS-END-OTHERS": {2, (*walk).endOthers},
	"GOOGLE": {6, (*walk).withGoogleAs}, "GOOGLE-AGAIN": {1, (*walk).googleAgain}, "OPERATOR": {3, (*walk).operator}, "TIME": {12, (*walk).passes}, "KILL": {1, (*walk).kill},
}

func newSteps(seed uint64, n int) []walkStep {
	r := rand.New(rand.NewPCG(seed, 0))
	var names []string
	for name, a := range walkActs {
		for range a.weight {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	steps := make([]walkStep, n)
	for i := range steps {
		steps[i].act = names[r.IntN(len(names))]
		for j := range steps[i].n {
			steps[i].n[j] = r.IntN(1 << 20)
		}
	}
	return steps
}

// along walks these steps in a world of their own and returns what was done and, if
// provider and model part, where.
func along(t *testing.T, engine string, steps []walkStep) (trace []string, parted string) {
	synctest.Test(t, func(t *testing.T) {
		k := &walk{}
		defer func() {
			trace = k.trace
			if r := recover(); r != nil {
				d, ok := r.(divergence)
				if !ok {
					panic(r)
				}
				parted = string(d)
			}
		}()
		k.begin(walkTB{t}, engine)
		for _, s := range steps {
			k.step(s)
		}
		k.looksAround()
	})
	return trace, parted
}

func (k *walk) begin(t testing.TB, engine string) {
	k.world = newWorld(t, engine)
	k.google = k.world.withGoogle()
	k.vault = k.register(idp.Client{ID: "vault", Name: "Vault", RedirectURIs: []string{"https://vault.test/cb"}, RequirePKCE: true, Require2FA: true})
	k.houses = []*house{k.newReplica(k.google.join()), k.newReplica(k.google.join())}
	k.people = []*modelPerson{
		{name: "ada", email: adaEmail, id: k.world.ada.ID, exists: true, password: adaPassword},
		{name: "bob", email: bobEmail, id: k.bob.ID, exists: true, password: bobPassword},
		{name: "vera", email: veraEmail},
	}
	for i := range 3 {
		k.jars = append(k.jars, &jar{name: fmt.Sprint("jar", i), b: k.browserAt(k.houses[0], fmt.Sprintf("192.0.2.%d", 20+i))})
	}
	k.mails()
}

// step does one step, which is also one look at the jar and at the tokens afterwards.
func (k *walk) step(s walkStep) {
	time.Sleep(time.Millisecond)    // no two acts are at the very same time
	k.exec(`DELETE FROM throttles`) // how often one may is for TestSiege to ask
	k.n = s.n
	j := k.jars[s.n[0]%len(k.jars)]
	for i := range k.jars { // mostly where it makes sense
		if other := k.jars[(s.n[0]+i)%len(k.jars)]; s.n[0]>>4%4 != 0 && k.suits(s.act, other) {
			j = other
			break
		}
	}
	k.on = k.houses[s.n[1]>>10%2]
	k.world.house = k.on
	j.b = j.b.at(k.on)
	what := walkActs[s.act].do(k, j)
	k.trace = append(k.trace, fmt.Sprintf("%s %s %s", j.name, s.act, what))
	j.remember()
	k.looksAt(j)
	k.looksAt(k.jars[s.n[1]%len(k.jars)])
	k.looksAtTokens(s.n[1])
}

// suits reports whether an act can come to something in a jar.
func (k *walk) suits(act string, j *jar) bool {
	s := k.living(j.session())
	switch act {
	case "LOGIN", "KEY-LOGIN", "GOOGLE":
		return s == nil && k.walkModel.half(j.half()) == nil
	case "OTP", "KEY-SECOND":
		return k.walkModel.half(j.half()) != nil
	case "MFA-START":
		return s != nil && s.p.app == nil && fresh(s.proved)
	case "MFA-VERIFY":
		return s != nil && s.p.setUp != nil && s.p.setUp.s == s && fresh(s.proved)
	case "MFA-OFF":
		return s != nil && s.p.app != nil
	case "CODES-NEW":
		return s != nil && s.p.app != nil && fresh(s.second)
	case "KEY-REG", "KEY-OFF":
		return s != nil && s.best()
	case "SESS-END", "SESS-END-OTHERS":
		return s != nil && fresh(s.proved)
	}
	return s != nil
}

func (j *jar) session() string { return j.b.cookie(sessionCookieName) }
func (j *jar) half() string    { return j.b.cookie(halfCookieName) }

func (j *jar) remember() {
	if c := j.session(); c != "" && !slices.Contains(j.held, c) {
		j.held = append(j.held, c)
	}
	if c := j.half(); c != "" && !slices.Contains(j.heldHalf, c) {
		j.heldHalf = append(j.heldHalf, c)
	}
}

// pick is the element that a number chooses, recent ones rather than old.
func pick[T any](list []T, n int) (one T, ok bool) {
	if len(list) == 0 {
		return one, false
	}
	if n%4 != 0 {
		list = list[max(0, len(list)-4):]
	}
	return list[n/4%len(list)], true
}

func (k *walk) differ(what string, got, want any) {
	k.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		k.t.Fatalf("%s: the provider says %v, the model %v", what, got, want)
	}
}

// looksAt asks who is signed in in a jar.
func (k *walk) looksAt(j *jar) {
	p := j.b.at(k.on).once(http.MethodGet, "/preferences/security", nil, nil)
	got := "nobody"
	if p.status == http.StatusOK {
		for _, one := range k.people {
			if strings.Contains(p.body, one.email) {
				got = one.name
			}
		}
	} else if p.status != http.StatusSeeOther {
		k.t.Fatalf("%d\n%s", p.status, p.body)
	}
	want := "nobody"
	if s := k.in(j.session()); s != nil {
		want = s.p.name
	}
	k.differ(j.name+" is signed in as", got, want)
	// Half is nothing, and lives as long as it should.
	p = j.b.at(k.on).once(http.MethodGet, "/login/verify", nil, nil)
	k.differ(j.name+" is half signed in", p.status == http.StatusOK, k.walkModel.half(j.half()) != nil)
}

// looksAtTokens asks about the newest tokens, and some others.
func (k *walk) looksAtTokens(n int) {
	some := k.access[max(0, len(k.access)-6):]
	if len(k.access) > 0 {
		some = append(slices.Clone(some), k.access[n%len(k.access)])
	}
	for _, a := range some {
		k.differ("an access token of "+a.g.f.rp.id+"'s is good", k.userinfo(a.token) != nil, a.g.alive() && time.Now().Before(a.ends))
	}
	for i, g := range k.grants {
		if i < len(k.grants)-4 && i != n%len(k.grants) || g.public() || len(g.refresh) == 0 {
			continue
		}
		good := g.alive() && time.Since(g.refreshed) < refreshIdle && time.Since(g.made) < refreshMax
		k.differ("a refresh token of "+g.f.rp.id+"'s is good", k.active(g.f.rp, g.refresh[0]), good)
	}
}

func (k *walk) looksAround() {
	for _, j := range k.jars {
		k.looksAt(j)
	}
	for i := range max(len(k.access), len(k.grants)) {
		k.looksAtTokens(i)
	}
	for _, bad := range []string{`"msg":"panic"`, `"status":500`} {
		if strings.Contains(k.log.String(), bad) {
			k.t.Fatalf("the log says %s\n%s", bad, k.log)
		}
	}
}

// active is what introspection says of a client's own token.
func (k *walk) active(c rp, token string) bool {
	res := must(network{k.on, "198.51.100.7"}.RoundTrip(c.request("/oauth/introspect", url.Values{"token": {token}}, nil)))(k.t)
	defer res.Body.Close()
	var told struct{ Active bool }
	if err := json.NewDecoder(res.Body).Decode(&told); err != nil || res.StatusCode != http.StatusOK {
		k.t.Fatalf("introspection: %d %v", res.StatusCode, err)
	}
	return told.Active
}

// came is what became of a way in: "in", "half" or "no".
func (j *jar) came(act func()) string {
	session, half := j.session(), j.half()
	act()
	switch {
	case j.session() != "" && j.session() != session:
		return "in"
	case j.half() != "" && j.half() != half:
		return "half"
	}
	return "no"
}

// enters is a first proof that is right, or is not: what comes of it at the provider has
// to be what comes of it here.
func (k *walk) enters(j *jar, p *modelPerson, right bool, amr, acr string, act func()) string {
	session, half := j.session(), j.half()
	want := "no"
	if right {
		k.abandon(half)
		if want = "in"; p.app != nil && acr != account.ACR2FA {
			want = "half"
		}
	}
	k.differ("a sign-in", j.came(act), want)
	switch want {
	case "in":
		k.opened(j, p, session, amr, acr)
	case "half":
		k.halves = append(k.halves, &modelHalf{token: j.half(), p: p, amr: amr, expires: time.Now().Add(account.HalfLife)})
	}
	return p.name + ": " + want
}

// opened notes the session that the jar has by now.
func (k *walk) opened(j *jar, p *modelPerson, before, amr, acr string) {
	s, goesOn := k.signIn(p, before, amr, acr)
	s.token = j.session()
	id := k.text(`SELECT id FROM sessions WHERE token_hash = $1`, secret.Hash(s.token))
	if goesOn {
		k.differ("the session goes on", id, s.id)
	}
	if !goesOn && slices.ContainsFunc(k.sessions, func(o *modelSession) bool { return o.id == id }) {
		k.t.Fatal("an old session goes on")
	}
	s.id = id
}

func (k *walk) text(query string, args ...any) (s string) {
	if err := k.db.QueryRow(context.Background(), query, args...).Scan(&s); err != nil {
		k.t.Fatal(err)
	}
	return s
}

// who is one of the people, mostly one who can sign in.
func (k *walk) who() *modelPerson {
	for i := range k.people {
		if p := k.people[(k.n[2]+i)%len(k.people)]; p.exists && !p.disabled || k.n[2]>>4%4 == 0 {
			return p
		}
	}
	return k.people[k.n[2]%len(k.people)]
}

// likely is those of a list that are, if there are any and the number does not say otherwise.
func likely[T any](list []T, n int, are func(T) bool) []T {
	var some []T
	for _, one := range list {
		if are(one) {
			some = append(some, one)
		}
	}
	if len(some) == 0 || n>>8%4 == 0 {
		return list
	}
	return some
}

// password is one that is right, or was, or never was.
func (k *walk) password(p *modelPerson, n int) (typed string, right bool) {
	switch {
	case n%8 == 0 && len(p.old) > 0:
		typed = p.old[n/8%len(p.old)]
	case n%8 == 1 || p.password == "":
		typed = "never was anybody's"
	default:
		typed = p.password
	}
	return typed, p.exists && !p.disabled && !p.google && typed == p.password
}

func (k *walk) newPassword() string {
	k.serial++
	return fmt.Sprintf("violet lantern orchard %d", k.serial)
}

func (k *walk) login(j *jar) string {
	p := k.who()
	typed, right := k.password(p, k.n[3])
	return fmt.Sprintf("%q as ", typed) + k.enters(j, p, right, "pwd", account.ACR1FA, func() { j.b.attempt(p.email, typed) })
}

// code is one of a person's app or from their paper: right, used, of another step, of
// another's, or made up.
func (k *walk) code(p *modelPerson, n int) (code string, backup bool) {
	if n&1 == 0 {
		from := p.codes
		if n>>1%3 == 0 {
			from = k.people[n>>3%len(k.people)].spent
		}
		if len(from) > 0 {
			return from[n>>4%len(from)], true
		}
	}
	if p.app == nil {
		return "000000", false
	}
	switch n >> 1 % 8 {
	case 0:
		return p.app.wrong(), false
	case 1:
		return p.app.codeAt(p.lastStep), false
	case 2:
		return p.app.codeAt(p.app.now() - 1), false
	case 3:
		return p.app.codeAt(p.app.now() + 1), false
	case 4:
		return p.app.codeAt(p.app.now() - 2), false
	}
	return p.app.code(), false
}

// finishes is a second factor in a jar that is half signed in, or is not.
func (k *walk) finishes(j *jar, judge func(*modelHalf) string, act func()) string {
	session, h := j.session(), k.walkModel.half(j.half())
	want, amr := "no", ""
	if h != nil {
		if amr = judge(h); amr != "" {
			want, h.dead = "in", true
		} else {
			h.tries++
		}
	}
	k.differ("a second factor", j.came(act), want)
	if want == "in" {
		k.opened(j, h.p, session, first(h.amr)+" "+amr, account.ACR2FA)
	}
	return want
}

func (k *walk) otp(j *jar) string {
	p := k.who()
	if h := k.walkModel.half(j.half()); h != nil && k.n[3]%8 != 0 {
		p = h.p
	}
	code, backup := k.code(p, k.n[4])
	to, field := "/login/verify", "code"
	if backup {
		to, field = "/login/backup-code", "backup_code"
	}
	return code + ": " + k.finishes(j, func(h *modelHalf) string { return h.p.spend(code) }, func() { j.b.once(http.MethodPost, to, url.Values{field: {code}}, nil) })
}

func (k *walk) keySecond(j *jar) string {
	h := k.walkModel.half(j.half())
	if h == nil || len(h.p.keys)+len(h.p.removed) == 0 {
		return "-"
	}
	key, good := k.key(h.p, k.n[3])
	p := j.b.once(http.MethodPost, pathAskKey, url.Values{"use": {"second"}}, nil)
	if p.status != http.StatusOK {
		k.differ("somebody without a passkey is asked for one", len(h.p.keys), 0)
		return "not asked"
	}
	return k.finishes(j, func(*modelHalf) string {
		if good {
			return oneKey
		}
		return ""
	}, func() {
		j.b.once(http.MethodPost, "/login/verify", url.Values{"credential": {key.sign(k.asked(p))}}, nil)
	})
}

func (k *walk) asked(p *page) (q askedKey) {
	if err := json.Unmarshal([]byte(p.body), &q); err != nil {
		k.t.Fatal(err)
	}
	return q
}

// key is one of a person's, or one that was theirs.
func (k *walk) key(p *modelPerson, n int) (key *softKey, good bool) {
	if len(p.removed) > 0 && (n%3 == 0 || len(p.keys) == 0) {
		return p.removed[n/3%len(p.removed)], false
	}
	return p.keys[n/3%len(p.keys)], true
}

func (k *walk) keyLogin(j *jar) string {
	p, _ := pick(likely(k.people, k.n[4], func(p *modelPerson) bool { return len(p.keys) > 0 }), k.n[2])
	if len(p.keys)+len(p.removed) == 0 {
		return "-"
	}
	key, good := k.key(p, k.n[3])
	return k.enters(j, p, good && !p.disabled, oneKey, account.ACR2FA, func() {
		j.b.once(http.MethodPost, pathPasskey, url.Values{"credential": {key.sign(j.b.askKey(pathAskKey, "sign_in"))}}, nil)
	})
}

func (k *walk) withGoogleAs(j *jar) string {
	p := k.who()
	j.back = k.google.consents(j.b.toGoogle(pathGoogle), somebody("sub-"+p.name, p.email))
	anew := !p.exists
	if anew {
		p.exists, p.google = true, true
	}
	out := k.enters(j, p, p.google && !p.disabled, "fed", account.ACR1FA, func() { j.b.get(j.back) })
	if anew {
		p.id = must(k.on.accounts.FindUser(context.Background(), p.email))(k.t).ID
	}
	return out
}

// googleAgain comes back from Google once more, perhaps in another jar.
func (k *walk) googleAgain(j *jar) string {
	from := k.jars[k.n[2]%len(k.jars)]
	if from.back == "" {
		return "-"
	}
	k.differ("coming back from Google again", j.came(func() { j.b.once(http.MethodGet, from.back, nil, nil) }), "no")
	return from.name
}

func (k *walk) logout(j *jar) string {
	k.abandon(j.half())
	if s := k.session(j.session()); s != nil {
		s.ended = true
	}
	j.b.post("/logout", url.Values{}).wantStatus(http.StatusOK)
	k.differ("cookies after signing out", j.session()+j.half(), "")
	return ""
}

// steal puts a cookie into the jar that it, or another, held once.
func (k *walk) steal(j *jar) string {
	from := k.jars[k.n[2]%len(k.jars)]
	if c, ok := pick(from.held, k.n[3]); ok && k.n[4]%2 == 0 {
		j.b.plant(sessionCookieName, c)
		return "a session of " + from.name
	}
	if c, ok := pick(from.heldHalf, k.n[3]); ok {
		j.b.plant(halfCookieName, c)
		return "a half sign-in of " + from.name
	}
	return "-"
}

// granted notes the code at which a browser came to rest, if it is one.
func (k *walk) granted(f *flow, p *page, s *modelSession) bool {
	if p.status != 0 || f.answer(p).Get("code") == "" {
		return false
	}
	if s != nil { // else the model does not have it, and what comes next says so
		k.grants = append(k.grants, &modelGrant{f: f, s: s, code: f.code(p), amr: s.amr, acr: s.acr, authed: s.authed, made: time.Now()})
	}
	return true
}

func (k *walk) authz(j *jar) string {
	c := []rp{k.acme, k.globex, k.vault}[k.n[2]%3]
	prompt := []string{"", "", "", "none", "login"}[k.n[3]%5]
	f := c.begin("prompt", prompt)
	s := k.in(j.session())
	p := j.b.get(f.url())
	want := s != nil && prompt != "login" && (c.id != "vault" || s.acr == account.ACR2FA)
	k.differ("AUTHZ at "+c.id+" gives a code", k.granted(f, p, s), want)
	if !want && prompt != "none" {
		q := p.url.Query()
		to := must(url.Parse(q.Get("to")))(k.t)
		if strings.HasPrefix(q.Get("to"), "/preferences") { // a set-up that wants a proof first
			to = must(url.Parse(to.Query().Get("to")))(k.t)
		}
		id := to.Query().Get("id")
		if id == "" {
			k.t.Fatalf("nothing waits at %s (%d)", p.url, p.status)
		}
		r := &modelRequest{id: id, f: f, jar: j, ends: time.Now().Add(requestLife)}
		k.requests = append(k.requests, r)
		j.requests = append(j.requests, r)
	}
	return fmt.Sprintf("%s prompt=%q: %v", c.id, prompt, want)
}

func (k *walk) resume(j *jar) string {
	r, ok := pick(k.requests, k.n[2])
	if k.n[3]%4 != 0 {
		r, ok = pick(j.requests, k.n[2])
	}
	if !ok {
		return "-"
	}
	s := k.in(j.session())
	const most = 20 // that wait in one browser
	bound := r.jar == j && slices.Contains(j.requests[max(0, len(j.requests)-most):], r)
	want := bound && !r.answered && time.Now().Before(r.ends) && s != nil && (r.f.rp.id != "vault" || s.acr == account.ACR2FA)
	if r.f.query.Get("prompt") == "login" && s != nil {
		want = want && !s.authed.Before(r.ends.Add(-requestLife))
	}
	p := j.b.get("/authorize/resume?id=" + r.id)
	k.differ("RESUME of "+r.jar.name+"'s request gives a code", k.granted(r.f, p, s), want)
	r.answered = r.answered || want
	return fmt.Sprintf("of %s: %v", r.jar.name, want)
}

// given notes tokens, and that they say what is true.
func (k *walk) given(g *modelGrant, t *tokens, refreshed bool) {
	c := t.ok().claims()
	acr, amr := g.says(refreshed)
	k.differ("the ID token", fmt.Sprint(c["sub"], c["acr"], c["amr"], c["auth_time"], c["sid"]),
		fmt.Sprint(g.s.p.id, acr, strings.Fields(amr), float64(g.authed.Unix()), g.s.id))
	k.access = append(k.access, &modelAccess{t.AccessToken, g, time.Now().Add(accessLife)})
	g.idToken = t.IDToken
}

func (k *walk) token(*jar) string {
	g, ok := pick(likely(k.grants, k.n[4], func(g *modelGrant) bool { return !g.spent && time.Since(g.made) < codeLife }), k.n[2])
	if !ok {
		return "-"
	}
	form, c, right := g.f.redemption(g.code), g.f.rp, true
	switch k.n[3] % 12 {
	case 0:
		form.Set("code_verifier", secret.Token("another")) // wrong, and burns the code
		right = false
	case 1:
		form.Set("redirect_uri", "https://evil.test/")
		right = false
	case 2:
		c, right = k.legacy, false // another client, with credentials of its own
	}
	want := g.redeem(right)
	t := c.postAt(k.on, form, nil)
	k.differ("TOKEN at "+c.id, t.AccessToken != "", want)
	if want {
		k.given(g, t, false)
		g.refresh = []string{t.RefreshToken}
	}
	return fmt.Sprintf("%s %v: %v", g.f.rp.id, right, want)
}

func (k *walk) renewal(*jar) string {
	g, ok := pick(likely(k.grants, k.n[4], func(g *modelGrant) bool { return len(g.refresh) > 0 && g.alive() }), k.n[2])
	if !ok || len(g.refresh) == 0 {
		return "-"
	}
	generation := len(g.refresh) - 1
	switch k.n[3] % 6 {
	case 0:
		generation = max(0, generation-1)
	case 1:
		generation = k.n[4] % len(g.refresh)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {g.refresh[generation]}}
	if k.n[3]%13 == 0 { // another client's changes nothing
		k.legacy.postAt(k.on, form, nil).refused(http.StatusBadRequest, "invalid_grant")
		return "another client's"
	}
	want, next := g.renew(generation, g.f.rp.id == "vault")
	t := g.f.rp.postAt(k.on, form, nil)
	k.differ(fmt.Sprintf("REFRESH at %s with generation %d of %d", g.f.rp.id, generation, len(g.refresh)), t.AccessToken != "", want)
	if want {
		k.given(g, t, true)
		if next {
			if slices.Contains(g.refresh, t.RefreshToken) {
				k.t.Fatal("REFRESH gives an old refresh token")
			}
			g.refresh = append(g.refresh, t.RefreshToken)
		}
		k.differ("the refresh token that REFRESH gives is the current one", t.RefreshToken, g.refresh[len(g.refresh)-1])
	}
	return fmt.Sprintf("%s %d of %d: %v", g.f.rp.id, generation, len(g.refresh), want)
}

func (k *walk) revoke(*jar) string {
	a, ok := pick(k.access, k.n[2])
	if !ok {
		return "-"
	}
	c, token, good := a.g.f.rp, a.token, time.Now().Before(a.ends) && a.g.alive()
	if n := len(a.g.refresh); k.n[3]%2 == 0 && n > 0 {
		token, good = a.g.refresh[n-1], true
	}
	if k.n[4]%3 == 0 {
		c, good = k.legacy, false
	}
	res := must(network{k.on, "198.51.100.7"}.RoundTrip(c.request("/oauth/revoke", url.Values{"token": {token}}, nil)))(k.t)
	defer res.Body.Close()
	k.differ("REVOKE", res.StatusCode, http.StatusOK)
	if good {
		a.g.ended = true
	}
	return fmt.Sprintf("by %s: %v", c.id, good)
}

// end is a sign-out that a workspace asks for, with an ID token of some session.
func (k *walk) end(j *jar) string {
	g, ok := pick(k.grants, k.n[2])
	if !ok || g.idToken == "" {
		return "-"
	}
	s := k.session(j.session())
	out := s != nil && s == g.s && !s.ended
	k.in(j.session()) // uses it
	if out {
		s.ended = true
		k.abandon(j.half())
	}
	j.b.get("/end_session?" + url.Values{"id_token_hint": {g.idToken}}.Encode())
	k.differ("END takes the cookie", out && j.session() == "", out)
	return fmt.Sprint(out)
}

func (k *walk) askReset(j *jar) string {
	p := k.who()
	j.b.forgot(p.email).wantStatus(http.StatusSeeOther)
	link := ""
	for _, m := range k.mails() {
		if m.To == p.email {
			if l := linkRE.FindString(m.Text); l != "" {
				link = l
			}
		}
	}
	want := p.exists && !p.google && !p.disabled
	k.differ("a link is mailed to "+p.name, link != "", want)
	if want {
		p.replaceLink(&modelLink{url: link, kind: "email", ends: time.Now().Add(account.ResetLife)})
	}
	return fmt.Sprintf("%s: %v", p.name, want)
}

// replaceLink gives a person a link, which ends their older one of its kind.
func (p *modelPerson) replaceLink(l *modelLink) {
	for _, o := range p.links {
		o.dead = o.dead || o.kind == l.kind
	}
	l.p = p
	p.links = append(p.links, l)
}

func (k *walk) setReset(j *jar) string {
	var all []*modelLink
	for _, p := range k.people {
		all = append(all, p.links...)
	}
	l, ok := pick(likely(all, k.n[4], func(l *modelLink) bool { return !l.dead }), k.n[2])
	if !ok {
		return "-"
	}
	p, anew := l.p, k.newPassword()
	want := !l.dead && time.Now().Before(l.ends) && !p.disabled && !p.google
	if want {
		k.newCredential(p)
		p.password, p.setUp = anew, nil
		k.endSessions(p, nil)
		k.abandon(j.half()) // whoever it was: the sign-in page begins anew
	}
	at := j.b.reset(l.url, anew)
	k.differ("RESETSET", at.status == http.StatusOK && at.url.Path == "/login", want)
	return fmt.Sprintf("%s: %v", p.name, want)
}

// turned notes that the jar's session goes on under a new token.
func (k *walk) turned(j *jar, s *modelSession, before string) {
	if s.token = j.session(); s.token == before || s.token == "" {
		k.t.Fatal("the session goes on under its old token")
	}
}

func (k *walk) change(j *jar) string {
	before := j.session()
	s := k.in(before)
	p := k.who()
	if s != nil {
		p = s.p
	}
	typed, right := k.password(p, k.n[3])
	anew := k.newPassword()
	form := changeForm(typed, anew)
	if k.n[4]%2 == 0 {
		form.Del("sign_out_others")
	}
	want := s != nil && right
	j.b.once(http.MethodPost, pathPassword, form, nil)
	k.differ("CHPW", j.session() != before, want)
	if want {
		was := p.credential
		k.newCredential(p)
		p.password = anew
		for _, o := range k.sessions {
			if o.p == p && !o.ended && o.credential == was {
				o.credential = p.credential
			}
		}
		k.turned(j, s, before)
		if s.proved = time.Now(); form.Has("sign_out_others") {
			k.endSessions(p, s)
		}
	}
	return fmt.Sprintf("%s: %v", p.name, want)
}

func (k *walk) confirm(j *jar) string {
	before := j.session()
	s := k.in(before)
	if s == nil {
		return "-"
	}
	p, form := s.p, url.Values{"for": {"end_session"}, "to": {"/preferences/sessions"}}
	second, want := "", false
	switch code, backup := k.code(p, k.n[4]); {
	case k.n[3]%3 == 0 && !p.google:
		typed, right := k.password(p, k.n[4])
		form.Set("with", "password")
		form.Set("password", typed)
		want = right
	case k.n[3]%3 == 1 && len(p.keys) > 0:
		key, good := k.key(p, k.n[4])
		form.Set("with", "passkey")
		form.Set("credential", key.sign(j.b.askKey(pathAskKey, "confirm")))
		if want = good; good {
			second = oneKey
		}
	case p.app == nil:
		return "-"
	case backup:
		form.Set("with", "backup_code")
		form.Set("backup_code", code)
		second = p.spend(code)
		want = second != ""
	default:
		form.Set("with", "code")
		form.Set("code", code)
		second = p.spend(code)
		want = second != ""
	}
	j.b.once(http.MethodPost, "/login/confirm", form, nil)
	k.differ("CONFIRM", j.session() != before, want)
	if want {
		k.turned(j, s, before)
		if s.proved = time.Now(); second != "" {
			s.raise(second)
		}
	}
	return fmt.Sprintf("with %s: %v", form.Get("with"), want)
}

func (k *walk) start2FA(j *jar) string {
	s := k.in(j.session())
	p := j.b.post(pathTwoFactor, url.Values{})
	want := s != nil && s.p.app == nil && fresh(s.proved)
	shown := p.status == http.StatusOK && len(p.backupCodes()) > 0
	k.differ("MFA-START shows a code", shown, want)
	if want {
		a, was := p.scan(), s.p.setUp
		if was != nil && was.s == s && time.Since(was.at) < setUpLife {
			k.differ("the set-up that is shown again", b64url(a.key), b64url(was.app.key))
		} else {
			s.p.setUp = &modelSetUp{s, a, time.Now()}
		}
	}
	return fmt.Sprint(want)
}

func (k *walk) verify2FA(j *jar) string {
	before := j.session()
	s := k.in(before)
	var of *modelSetUp // whose code is typed, whoever's browser it is
	for i := range k.people {
		if p := k.people[(k.n[2]+i)%len(k.people)]; p.setUp != nil {
			of = p.setUp
		}
	}
	if s != nil && s.p.setUp != nil && k.n[3]%8 != 0 {
		of = s.p.setUp
	}
	if of == nil {
		return "-"
	}
	code := of.app.code()
	if k.n[3]%5 == 0 {
		code = of.app.wrong()
	}
	form := url.Values{"code": {code}, "saved": {"on"}}
	if k.n[4]%2 == 0 {
		form.Set("sign_out_others", "on")
	}
	want := s != nil && s.p.setUp == of && of.s == s && time.Since(of.at) < setUpLife && s.p.app == nil && fresh(s.proved) && k.n[3]%5 != 0
	j.b.once(http.MethodPost, pathTurnOn, form, nil)
	k.differ("MFA-VERIFY", j.session() != before, want)
	if want {
		p := s.p
		p.app, p.codes, p.lastStep, p.setUp = of.app, of.app.codes, of.app.now(), nil
		k.turned(j, s, before)
		s.raise("otp mfa")
		if form.Has("sign_out_others") {
			k.endSessions(p, s)
		}
	}
	return fmt.Sprint(want)
}

func (k *walk) off2FA(j *jar) string {
	before := j.session()
	s := k.in(before)
	if s == nil || s.p.app == nil {
		return "-"
	}
	p := s.p
	code, want := "", fresh(s.second)
	if k.n[3]%4 != 0 {
		code, _ = k.code(p, k.n[4])
		want = p.spend(code) != ""
	}
	j.b.once(http.MethodPost, pathOff, url.Values{"code": {code}}, nil)
	k.differ("MFA-OFF", j.session() != before, want)
	if want {
		k.without(p)
		k.turned(j, s, before)
	}
	return fmt.Sprintf("%q: %v", code, want)
}

func (k *walk) newCodes(j *jar) string {
	s := k.in(j.session())
	const path = "/preferences/security/2fa/codes"
	p := j.b.post(path, url.Values{})
	want := s != nil && s.p.app != nil && fresh(s.second)
	k.differ("CODES-NEW shows codes", p.status == http.StatusOK && len(p.backupCodes()) > 0, want)
	if want {
		j.b.post(path+"/save", url.Values{"saved": {"on"}}).wantStatus(http.StatusOK)
		s.p.spent = append(s.p.spent, s.p.codes...)
		s.p.codes = p.backupCodes()
	}
	return fmt.Sprint(want)
}

func (k *walk) addKey(j *jar) string {
	s := k.in(j.session())
	p := j.b.once(http.MethodPost, pathAskNewKey, url.Values{}, nil)
	want := s != nil && s.best()
	k.differ("KEY-REG is asked for", p.status == http.StatusOK, want)
	if want {
		key := newSoftKey()
		k.serial++
		j.b.post(pathAddKey, url.Values{"name": {fmt.Sprint("key ", k.serial)}, "credential": {key.register(k.asked(p))}}).want(http.StatusOK, "/preferences/security")
		s.p.keys = append(s.p.keys, key)
	}
	return fmt.Sprint(want)
}

func (k *walk) removeKey(j *jar) string {
	s, owner := k.in(j.session()), k.who()
	if s != nil && k.n[3]%4 != 0 {
		owner = s.p
	}
	if len(owner.keys) == 0 {
		return "-"
	}
	i := k.n[4] % len(owner.keys)
	key := owner.keys[i]
	id := k.text(`SELECT id FROM passkeys WHERE credential_id = $1`, key.id)
	j.b.once(http.MethodPost, pathRemovePasskey, url.Values{"id": {id}}, nil)
	last := owner.password == "" && !owner.google && len(owner.keys) == 1
	want := s != nil && s.p == owner && s.best() && !last
	k.differ("KEY-OFF", k.count(`passkeys WHERE id = $1`, id) == 0, want)
	if want {
		owner.keys = slices.Delete(slices.Clone(owner.keys), i, i+1)
		owner.removed = append(owner.removed, key)
		k.endHalves(owner)
	}
	return fmt.Sprintf("%s: %v", owner.name, want)
}

func (k *walk) endOther(j *jar) string {
	s := k.in(j.session())
	o, ok := pick(k.sessions, k.n[2])
	if !ok {
		return "-"
	}
	want := s != nil && o != s && o.p == s.p && fresh(s.proved) && !o.ended && time.Now().Before(o.expires)
	p := j.b.once(http.MethodPost, "/preferences/sessions/end", url.Values{"id": {o.id}}, nil)
	k.differ("SESS-END", p.status == http.StatusSeeOther && p.header.Get("Location") == "/preferences/sessions", want)
	o.ended = o.ended || want
	return fmt.Sprint(want)
}

func (k *walk) endOthers(j *jar) string {
	s := k.in(j.session())
	want := s != nil && fresh(s.proved)
	p := j.b.once(http.MethodPost, "/preferences/sessions/end-others", url.Values{}, nil)
	k.differ("SESS-END-OTHERS", p.status == http.StatusSeeOther && p.header.Get("Location") == "/preferences/sessions", want)
	if want {
		k.endSessions(s.p, s)
		k.endHalves(s.p)
	}
	return fmt.Sprint(want)
}

// operator is an act of support.
func (k *walk) operator(*jar) string {
	p, store, ctx := k.who(), k.on.accounts, context.Background()
	if !p.exists {
		return "-"
	}
	var err error
	what := []string{"disable", "enable", "enable", "reset-2fa", "end sessions", "link", "link-google", "unlink-google"}[k.n[3]%8]
	if p.disabled && k.n[4]%4 != 0 {
		what = "enable"
	}
	switch what {
	case "disable":
		err = store.DisableUser(ctx, p.id, supporter)
		if !p.disabled {
			p.disabled, p.setUp = true, nil
			for _, s := range k.sessions {
				s.ended = s.ended || s.p == p
			}
			k.forgetBegun(p)
		}
	case "enable":
		err = store.EnableUser(ctx, p.id, supporter)
		p.disabled = false
	case "reset-2fa":
		if p.app == nil && len(p.keys) == 0 {
			return "-"
		}
		err = store.ResetTwoFactor(ctx, p.id, "CASE-1", supporter)
		k.without(p)
		p.removed, p.keys = append(p.removed, p.keys...), nil
		k.endSessions(p, nil)
	case "end sessions":
		_, err = store.EndUserSessions(ctx, p.id, supporter)
		k.endSessions(p, nil)
		k.endHalves(p)
	case "link":
		if p.google {
			return "-"
		}
		kind := "operator"
		if p.password == "" {
			kind = "invitation"
		}
		var token string
		token, err = store.MakeLink(ctx, p.id, time.Hour, supporter)
		p.replaceLink(&modelLink{url: issuer + "/login/reset?token=" + token, kind: kind, ends: time.Now().Add(time.Hour)})
	case "link-google", "unlink-google":
		if what == "link-google" {
			err = store.LinkGoogle(ctx, p.id, login.GoogleIssuer, "sub-"+p.name, "CASE-2", supporter)
		} else {
			err = store.UnlinkGoogle(ctx, p.id, "CASE-3", supporter)
		}
		k.newCredential(p)
		p.google, p.setUp = what == "link-google", nil
		k.endSessions(p, nil)
	}
	if err != nil {
		k.t.Fatalf("%s %s: %v", what, p.name, err)
	}
	return what + " " + p.name
}

// passes is time, and now and then the house-keeping that comes with it.
func (k *walk) passes(*jar) string {
	d := []time.Duration{
		time.Second, 7 * time.Second, 29 * time.Second, 31 * time.Second, 31 * time.Second, 61 * time.Second, 2 * time.Minute, 4*time.Minute + 3*time.Second, 11 * time.Minute, 31*time.Minute + 7*time.Second,
		time.Hour + 11*time.Second, 25*time.Hour + 13*time.Second, 73*time.Hour + 17*time.Second, 15*24*time.Hour + 19*time.Second,
	}[min(k.n[2]%15, k.n[3]%20, k.n[1]%30, 13)]
	time.Sleep(d)
	if k.n[4]%2 == 0 {
		if err := k.on.clean(context.Background()); err != nil {
			k.t.Fatal(err)
		}
	}
	return d.String()
}

// kill has a new process take a replica's place.
func (k *walk) kill(*jar) string {
	i := k.n[2] % 2
	k.houses[i] = k.newReplica(k.google.join())
	return fmt.Sprint("replica ", i)
}

// shortest is the shortest walk that still parts provider and model, found by leaving out
// what can be.
func shortest(t *testing.T, engine string, steps []walkStep) []walkStep {
	tries := 80
	for chunk := len(steps) / 2; chunk > 0; chunk /= 2 {
		for at := 0; at < len(steps) && tries > 0; tries-- {
			less := slices.Delete(slices.Clone(steps), at, min(at+chunk, len(steps)))
			if _, parted := along(t, engine, less); parted != "" {
				steps = less
			} else {
				at += chunk
			}
		}
	}
	return steps
}

// I1 to I5, I11, I12: whatever order people, thieves, workspaces and operators do things
// in, on two replicas of which one dies now and then, the provider does what the model
// says.
func TestWalk(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		began, walks, steps := time.Now(), 0, 0
		came := map[string]int{}
		seeds := []uint64{1, 2, uint64(began.UnixNano())}
		for i := 0; i < len(seeds) || time.Since(began) < *walkFor; i++ {
			seed := uint64(began.UnixNano()) + uint64(i)
			if i < len(seeds) {
				seed = seeds[i]
			}
			way := newSteps(seed, walkSteps)
			trace, parted := along(t, engine, way)
			walks, steps = walks+1, steps+len(trace)
			for _, line := range trace {
				_, act, _ := strings.Cut(line, " ")
				act, outcome, _ := strings.Cut(act, " ")
				came[act+" "+outcome[strings.LastIndex(outcome, " ")+1:]]++
			}
			if parted == "" {
				continue
			}
			way = shortest(t, engine, way[:min(len(way), len(trace)+1)])
			trace, again := along(t, engine, way)
			t.Fatalf("seed %d: %s\nthe shortest walk (%d steps) there:\n%s\n%s\n(%+v)", seed, parted, len(way), strings.Join(trace, "\n"), again, way[len(way)-1])
		}
		t.Logf("%d walks of %d steps in all, of seeds 1, 2 and from %d on", walks, steps, seeds[2])
		t.Logf("what came of them: %v", came)
	})
}
