package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A person keeps a ledger of what was confirmed to them, and does one thing after the
// other, so that it is exact.
type person struct {
	issuer   string
	record   *record
	front    road
	straight []road
	apps     []app

	email     string
	passwords []string      // the one that was confirmed last, and those of later changes of which nobody knows
	rest      time.Duration // between two of her sign-ins with a code, of which the provider takes five wrong ones in five minutes
	key       []byte        // of the authenticator app; nil: no two-factor authentication
	step      int64         // the last whose code was sent
	backup    []string      // the codes that were not sent yet
	devices   []*device
	gone      []*device // whose session has ended
	signedIn  time.Time // when that was last tried

	spentCodes  []redemption // authorization codes
	spentBackup []string
}

// An app is a workspace.
type app struct {
	id, secret string // secret "": a public client
	redirect   string
}

// A device is a browser that is signed in.
type device struct {
	*browser
	grants []*grant
}

// A grant is what a workspace keeps of a sign-in.
type grant struct {
	app     app
	refresh string
	earlier []string // refresh tokens that it was exchanged for
	rotated time.Time
}

// A redemption is a code and what proves whose it is.
type redemption struct {
	app            app
	code, verifier string
}

// betweenSignIns is the least time between a person's sign-ins: the provider judges a
// hundred of one address in a quarter of an hour.
const betweenSignIns = 10 * time.Second

// spareBackup is how many backup codes nobody uses: of those that are raced one is
// refused, and the provider takes five wrong ones in five minutes.
const spareBackup = 5

// both sends the same at once to both replicas.
func (p *person) both(send func(i int, via road) answer) (all []answer) {
	all = make([]answer, len(p.straight))
	var wg sync.WaitGroup
	for i, via := range p.straight {
		wg.Go(func() { all[i] = send(i, via) })
	}
	wg.Wait()
	return all
}

// once counts those that were taken of things that are good for one use, and reports
// whether all were answered.
func (p *person) once(what string, all []answer, taken func(answer) bool) (n int, known bool) {
	known = true
	for _, a := range all {
		if taken(a) {
			n++
		}
		known = known && !a.unknown()
	}
	if n > 1 {
		p.record.wrong("%s: %s was taken %d times: %s", p.email, what, n, all)
	}
	if n > 0 {
		p.record.did(what + ", raced at both replicas")
	}
	return n, known
}

// first proves the password, and says whether it was taken. nil: nobody knows, or it
// was not.
func (p *person) first() (b *browser, next string) {
	for i, password := range slices.Backward(p.passwords) {
		b = newBrowser(p.issuer, p.record)
		if a := b.again(p.front, "/login", nil); a.status != http.StatusOK {
			p.record.wrong("%s: %s", p.email, a)
			return nil, ""
		}
		a := b.send(p.front, "/login", url.Values{"email": {p.email}, "password": {password}})
		switch {
		case a.unknown():
			return nil, ""
		case a.status == http.StatusSeeOther:
			p.passwords = []string{password}
			return b, a.to(p.issuer)
		case i == 0:
			p.record.wrong("%s: no password of hers is taken any more, of %d: %s", p.email, len(p.passwords), a)
		}
	}
	return nil, ""
}

// signIn opens a session. nil: nobody knows, or it is too early.
func (p *person) signIn() *device {
	if time.Since(p.signedIn) < betweenSignIns {
		return nil
	}
	usesBackup := false
	step := time.Now().Unix() / 30
	if p.key != nil {
		usesBackup = len(p.backup) > spareBackup && (step <= p.step || mathrand.IntN(3) == 0)
		if time.Since(p.signedIn) < p.rest || !usesBackup && step <= p.step {
			return nil
		}
	}
	p.signedIn = time.Now()
	b, next := p.first()
	if b == nil {
		return nil
	}
	if p.key == nil {
		p.record.did("sign-in")
		return p.opened(b)
	}
	if !strings.HasPrefix(next, "/login/verify") {
		p.record.wrong("%s: no second factor is asked for, but %q", p.email, next)
		return nil
	}
	// Two browsers come with the same code, one to each replica.
	thief, _ := p.first()
	if thief == nil {
		return nil
	}
	who := []*browser{b, thief}
	path, form, what := "/login/verify", url.Values{}, "a code of an app"
	if usesBackup {
		path, what = "/login/backup-code", "a backup code"
		form.Set("backup_code", p.backup[0])
		p.spentBackup, p.backup = append(p.spentBackup, p.backup[0]), p.backup[1:]
	} else {
		step = time.Now().Unix() / 30
		form.Set("code", code(p.key, step))
		p.step = step
	}
	all := p.both(func(i int, via road) answer { return who[i].send(via, path, form) })
	n, known := p.once(what, all, proved)
	if known && n == 0 {
		p.record.wrong("%s: %s that was never used is refused: %s", p.email, what, all)
	}
	for i, a := range all {
		if proved(a) {
			p.record.did("sign-in with two factors")
			return p.opened(who[i])
		}
	}
	return nil
}

// proved reports whether a second factor was taken.
func proved(a answer) bool {
	path, _, _ := strings.Cut(a.header.Get("Location"), "?")
	return a.status == http.StatusSeeOther && path != "/login" && path != "/login/verify" // where one proves what was lost, or is still wanted
}

func (p *person) opened(b *browser) *device {
	d := &device{browser: b}
	p.devices = append(p.devices, d)
	return d
}

// connect signs in at a workspace with the session of a device. raced has both replicas
// redeem the code at once, which the grant does not survive.
func (p *person) connect(d *device, with app, raced bool) {
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	to := "/authorize?" + url.Values{
		"client_id": {with.id}, "redirect_uri": {with.redirect}, "response_type": {"code"}, "scope": {"openid offline_access"}, "state": {"s"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()
	a := d.again(p.front, to, nil)
	back, err := url.Parse(a.to(p.issuer))
	if a.status == 0 {
		return
	}
	if err != nil || !strings.HasPrefix(back.String(), with.redirect) || back.Query().Get("code") == "" {
		p.record.wrong("%s: no code for %s: %s", p.email, with.id, a)
		return
	}
	r := redemption{with, back.Query().Get("code"), verifier}
	p.spentCodes = append(p.spentCodes, r)
	if raced {
		p.once("an authorization code", p.both(func(_ int, via road) answer { return p.redeem(via, r) }), granted)
		return
	}
	if a = p.redeem(p.front, r); a.unknown() {
		// Was it spent? Then it is refused, and ends its grant: sign in again.
		a = p.redeem(p.front, r)
		if !granted(a) {
			return
		}
	}
	if !granted(a) {
		p.record.wrong("%s: a code that was never used is refused: %s", p.email, a)
		return
	}
	p.record.did("code redeemed")
	d.grants = append(d.grants, &grant{app: with, refresh: tokens(a).Refresh, rotated: time.Now()})
}

func granted(a answer) bool { return a.status == http.StatusOK }

type tokenAnswer struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
}

func tokens(a answer) (t tokenAnswer) {
	_ = json.Unmarshal([]byte(a.body), &t) // what is none has no tokens
	return t
}

// request is what a workspace's program sends, with its credentials.
func (w app) request(form url.Values) (url.Values, []string) {
	if w.secret == "" {
		form = maps.Clone(form) // others may send it, too
		form.Set("client_id", w.id)
		return form, nil
	}
	return form, []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(w.id)+":"+url.QueryEscape(w.secret)))}
}

func (p *person) token(via road, with app, form url.Values, send func(*browser, road, string, url.Values, ...string) answer) answer {
	form, header := with.request(form)
	return send(newBrowser(p.issuer, p.record), via, "/oauth/token", form, header...)
}

func (p *person) redeem(via road, r redemption) answer {
	return p.token(via, r.app, url.Values{"grant_type": {"authorization_code"}, "code": {r.code}, "redirect_uri": {r.app.redirect}, "code_verifier": {r.verifier}}, (*browser).send)
}

func refreshing(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

// renew refreshes. It is repeated until it is answered, as workspaces do: within the
// grace the same successor comes.
func (p *person) renew(g *grant) {
	began := time.Now()
	a := p.token(p.front, g.app, refreshing(g.refresh), (*browser).again)
	p.renewed(g, a, time.Since(began))
}

func (p *person) renewed(g *grant, a answer, took time.Duration) {
	next := tokens(a).Refresh
	switch {
	case a.status == 0:
		return
	case !granted(a) || next == "":
		p.record.wrong("%s: the refresh token of a session that goes on is refused, after %s: %s", p.email, took.Round(time.Millisecond), a)
		return
	}
	p.record.did("refresh")
	if next != g.refresh {
		p.record.did("rotation")
		g.earlier, g.refresh, g.rotated = append(g.earlier, g.refresh), next, time.Now()
	}
}

// race refreshes at both replicas at once. Who gets a successor gets the same.
func (p *person) race(g *grant) {
	all := p.both(func(_ int, via road) answer { return p.token(via, g.app, refreshing(g.refresh), (*browser).send) })
	next := ""
	for _, a := range all {
		if a.unknown() {
			continue
		}
		got := tokens(a).Refresh
		if next != "" && got != next {
			p.record.wrong("%s: a refresh token has two successors: %s", p.email, all)
		}
		next = got
		p.renewed(g, a, 0)
	}
	p.record.did("refresh, raced at both replicas")
}

// change changes the password, and perhaps ends all other sessions.
func (p *person) change(d *device, others bool) {
	anew := "endure " + rand.Text()
	form := url.Values{"current_password": {p.passwords[0]}, "new_password": {anew}, "confirm_password": {anew}}
	if others {
		form.Set("sign_out_others", "1")
	}
	a := d.send(p.front, "/preferences/security/password", form)
	rest := slices.DeleteFunc(slices.Clone(p.devices), func(o *device) bool { return o == d })
	switch {
	case a.unknown():
		p.passwords = append(p.passwords, anew)
		// The session has another cookie now, or not; and the others may have ended.
		p.devices = rest
		if others {
			p.devices = nil
		}
	case a.status == http.StatusSeeOther && a.to(p.issuer) == "/preferences/security":
		p.record.did("password changed")
		p.passwords = []string{anew}
		if others {
			p.record.did("other sessions ended")
			p.gone, p.devices = append(p.gone, rest...), []*device{d}
		}
	default:
		p.record.wrong("%s: the password is not changed: %s", p.email, a)
	}
}

// leave signs out. It is repeated until it is answered.
func (p *person) leave(d *device) {
	held := d.copied()
	a := d.again(p.front, "/logout", url.Values{})
	p.devices = slices.DeleteFunc(p.devices, func(o *device) bool { return o == d })
	if a.status == 0 {
		return
	}
	if a.status >= 400 {
		p.record.wrong("%s: not signed out: %s", p.email, a)
		return
	}
	p.record.did("sign-out")
	p.gone = append(p.gone, &device{browser: held, grants: d.grants})
}

// turn does one thing.
func (p *person) turn() {
	for len(p.devices) > 3 {
		p.leave(p.devices[0])
	}
	if d := p.signIn(); d != nil {
		p.connect(d, p.apps[mathrand.IntN(len(p.apps))], false)
		switch mathrand.IntN(5) {
		case 0:
			p.connect(d, p.apps[mathrand.IntN(len(p.apps))], true)
		case 1:
			p.change(d, false)
		case 2:
			p.change(d, true)
		}
		return
	}
	if len(p.devices) == 0 {
		return
	}
	d := p.devices[mathrand.IntN(len(p.devices))]
	if len(d.grants) == 0 || mathrand.IntN(4) == 0 {
		p.look(d)
		return
	}
	g := d.grants[mathrand.IntN(len(d.grants))]
	if mathrand.IntN(4) == 0 {
		p.race(g)
		return
	}
	p.renew(g)
}

// look sees that a session is there.
func (p *person) look(d *device) {
	if a := d.again(p.front, "/preferences/sessions", nil); a.status != 0 && a.status != http.StatusOK {
		p.record.wrong("%s: a session that was confirmed is gone: %s", p.email, a)
	}
	p.record.did("session seen")
}

// audit holds the ledger against the provider.
func (p *person) audit() {
	for _, d := range p.devices {
		p.look(d)
		for _, g := range d.grants {
			p.renew(g)
		}
	}
	for _, d := range p.gone[max(0, len(p.gone)-3):] {
		if a := d.copied().again(p.front, "/preferences/sessions", nil); a.status == http.StatusOK {
			p.record.wrong("%s: a session that has ended is there: %s", p.email, a)
		}
		for _, g := range d.grants {
			p.refused("a token of an ended session", g.app, refreshing(g.refresh))
		}
		p.record.did("ended session refused")
	}
}

// refused sees that something that was given up is refused by both replicas at once.
func (p *person) refused(what string, with app, form url.Values) {
	for i, a := range p.both(func(_ int, via road) answer { return p.token(via, with, form, (*browser).again) }) {
		if a.status != 0 && (a.status != http.StatusBadRequest || tokens(a).Error != "invalid_grant") {
			p.record.wrong("%s: replica %d takes %s: %s", p.email, i+1, what, a)
		}
	}
	p.record.did(what + " refused")
}

// close is the last audit. It uses everything again that is good for one use, which ends
// what it belongs to.
func (p *person) close() {
	p.audit()
	p.signedIn = time.Time{}
	if b, _ := p.first(); b == nil {
		p.record.wrong("%s: she cannot sign in", p.email)
	} else if p.record.did("password tried"); p.key != nil {
		for i, used := range p.spentBackup[:min(2, len(p.spentBackup))] {
			if a := b.send(p.straight[i%2], "/login/backup-code", url.Values{"backup_code": {used}}); proved(a) {
				p.record.wrong("%s: a backup code is taken again: %s", p.email, a)
			}
			p.record.did("a used backup code refused")
		}
	}
	for _, d := range p.devices {
		for _, g := range d.grants {
			if len(g.earlier) == 0 || time.Since(g.rotated) < 31*time.Second {
				continue // within the grace the successor is given once more
			}
			p.refused("a refresh token that was given up", g.app, refreshing(g.earlier[mathrand.IntN(len(g.earlier))]))
			p.refused("the successor of a token that was used again", g.app, refreshing(g.refresh))
		}
	}
	for _, r := range p.spentCodes {
		form := url.Values{"grant_type": {"authorization_code"}, "code": {r.code}, "redirect_uri": {r.app.redirect}, "code_verifier": {r.verifier}}
		p.refused("a used authorization code", r.app, form)
	}
}

// code is what an authenticator app shows (RFC 4226 5.3, RFC 6238 4.2).
func code(key []byte, step int64) string {
	m := hmac.New(sha1.New, key)
	_ = binary.Write(m, binary.BigEndian, step) // a hash takes everything
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

var (
	otpauthRE    = regexp.MustCompile(`otpauth://totp/[^"<\s]+`)
	backupCodeRE = regexp.MustCompile(`<li>([0-9A-Z]{5}-[0-9A-Z]{5})</li>`)
	hiddenRE     = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
)

// enable turns two-factor authentication on.
func (p *person) enable() error {
	const path = "/preferences/security/2fa"
	b, _ := p.first()
	if b == nil {
		return fmt.Errorf("%s cannot sign in", p.email)
	}
	a := b.again(p.front, path, url.Values{})
	for range 3 {
		if a.status == http.StatusSeeOther {
			a = b.again(p.front, a.to(p.issuer), nil)
		}
	}
	uri, err := url.Parse(html.UnescapeString(otpauthRE.FindString(a.body)))
	if err != nil {
		return err
	}
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(uri.Query().Get("secret"))
	if err != nil || len(key) == 0 {
		return fmt.Errorf("%s gets no key: %s", p.email, a)
	}
	for _, m := range backupCodeRE.FindAllStringSubmatch(a.body, -1) {
		p.backup = append(p.backup, m[1])
	}
	form := url.Values{}
	for _, m := range hiddenRE.FindAllStringSubmatch(a.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	p.step = time.Now().Unix() / 30
	form.Set("code", code(key, p.step))
	form.Set("saved", "on")
	if a = b.again(p.front, path+"/verify", form); a.status != http.StatusSeeOther || len(p.backup) != 10 {
		return fmt.Errorf("%s: two-factor authentication is not on: %s", p.email, a)
	}
	p.key, p.signedIn = key, time.Now()
	p.opened(b)
	return nil
}
