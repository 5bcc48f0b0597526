package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/idp"
)

const pathConsent = "/authorize/consent"

// strangers is a third-party client.
var strangers = idp.Client{
	ID: "stranger", Name: "Stranger & Co", RedirectURIs: []string{"https://stranger.test/cb"}, RequirePKCE: true, ThirdParty: true,
	Scopes: []string{"openid", "profile", "email", "offline_access", "api.read"},
}

func (w *world) stranger() rp { return w.add(strangers) }

// decide answers the consent page.
func (b *browser) decide(p *page, decision string) *page {
	b.w.t.Helper()
	p.want(http.StatusOK, pathConsent)
	form := p.form(pathConsent)
	form.Set("decision", decision)
	return b.post(pathConsent, form)
}

// AZ-18: a third-party client gets what its person allows, once they have; the page
// says who asks, for what and where it leads; what the form says besides counts for nothing.
func TestAZ18_Consent(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c, b := w.stranger(), w.newBrowser()
		f := c.begin("scope", "openid email api.read offline_access")
		p := b.fill(b.get(f.url()), adaEmail, adaPassword)
		p.want(http.StatusOK, pathConsent)
		for _, s := range []string{"Allow Stranger & Co?", "stranger.test", "See your email address", "api.read", adaEmail, "Stay connected"} {
			p.wantText(s)
		}
		if strings.Contains(p.body, "See your profile") {
			t.Error("the page names what is not asked for")
		}
		if n := w.count("grants"); n != 0 {
			t.Fatal("a code before anybody allowed it")
		}
		q := f.answer(b.decide(p, "deny"))
		if q.Get("error") != "access_denied" {
			t.Errorf("denied: %v", q)
		}

		// It has to be a post from our page, with the browser's own request.
		f = c.begin("scope", "openid email")
		p = b.get(f.url())
		form := p.form(pathConsent)
		form.Set("decision", "allow")
		if got := b.once(http.MethodGet, pathConsent+"?"+form.Encode(), nil, nil); got.status != http.StatusOK || w.count("consents") != 0 {
			t.Errorf("by GET: %d, %d consents", got.status, w.count("consents"))
		}
		evil := http.Header{"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}}
		if got := b.once(http.MethodPost, pathConsent, form, evil); got.status != http.StatusForbidden {
			t.Errorf("from another site: %d", got.status)
		}
		other := w.newBrowser()
		other.signIn(bobEmail, bobPassword)
		other.post(pathConsent, form).wantStatus(http.StatusBadRequest)
		for _, decision := range []string{"", "yes"} {
			b.decide(b.get(f.url()), decision).wantStatus(http.StatusBadRequest)
		}
		if n := w.count("consents"); n != 0 {
			t.Fatalf("%d consents", n)
		}

		// Allowed, remembered, and no more than was asked for.
		form.Set("scope", "openid profile email")
		k := f.redeem(f.code(b.post(pathConsent, form))).ok()
		if k.Scope != "openid email" || len(w.userinfo(k.AccessToken)) != 3 {
			t.Errorf("scope %q, userinfo %v", k.Scope, w.userinfo(k.AccessToken))
		}
		if got := w.texts(`SELECT scope FROM consents`); !slices.Equal(got, []string{"email openid"}) {
			t.Errorf("consents %q", got)
		}
		f = c.begin("scope", "openid email")
		f.code(b.get(f.url()))
		b.get("/preferences/activity").wantText("You allowed Stranger & Co what it asked for")

		time.Sleep(time.Second)
		// More is asked for again, and prompt=none cannot ask; a claim by name is more, too.
		for what, f := range map[string]*flow{
			"scope": c.begin("scope", "openid email profile"), "claim": c.begin("scope", "openid email", "claims", `{"userinfo":{"name":null}}`),
			"prompt": c.begin("scope", "openid email", "prompt", "consent"),
		} {
			b.get(f.url()).want(http.StatusOK, pathConsent)
			if what == "prompt" {
				f.code(b.decide(b.get(f.url()), "allow"))
				continue
			}
			f.query.Set("prompt", "none")
			f.wantError(b.get(f.url()), "consent_required")
		}
		// Another person is asked for themselves.
		f = c.begin("scope", "openid email")
		other.get(f.url()).want(http.StatusOK, pathConsent)
		// First-party workspaces ask nobody, not even if they say so.
		f = w.acme.begin("prompt", "consent")
		f.code(b.get(f.url()))
	})
}

// RF-06: what is taken back is dead at once, and asked for anew.
func TestRF06_ConsentWithdrawn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c, b := w.stranger(), w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := c.begin("scope", "openid email offline_access")
		k := f.redeem(f.code(b.decide(b.get(f.url()), "allow"))).ok()
		waiting := c.begin("scope", "openid email")
		code := waiting.code(b.get(waiting.url()))
		first := b.connect(w.acme, "", "")

		// Nobody else can take it back.
		bob := w.newBrowser()
		bob.signIn(bobEmail, bobPassword)
		bob.post("/preferences/sessions/withdraw", url.Values{"client": {"stranger"}}).want(http.StatusOK, "/preferences/sessions")
		c.refresh(k.RefreshToken).ok()

		p := b.get("/preferences/sessions")
		for _, s := range []string{"Apps you allowed", "Stranger & Co", "See your email address"} {
			p.wantText(s)
		}
		p = b.post("/preferences/sessions/withdraw", p.form("/preferences/sessions/withdraw"))
		p.want(http.StatusOK, "/preferences/sessions")
		p.wantText("Taken back. Its access has ended.")
		if strings.Contains(p.body, "Apps you allowed") {
			t.Error("it is still listed")
		}
		c.refresh(k.RefreshToken).refused(http.StatusBadRequest, "invalid_grant")
		waiting.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
		if w.userinfo(k.AccessToken) != nil {
			t.Error("the access token lives")
		}
		w.acme.refresh(first.RefreshToken).ok()
		b.get(f.url()).want(http.StatusOK, pathConsent)
		b.get("/preferences/activity").wantText("You took back what Stranger & Co was allowed")
	})
}

// AZ-19 for consents: one that is withdrawn while its code is being granted gives none.
func TestConsentDecidedLate(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		c, b := w.stranger(), w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		for round := range 4 {
			f := c.begin("scope", "openid email", "state", fmt.Sprint(round))
			f.code(b.decide(b.get(f.url()), "allow"))
			release(func(i int) {
				if i == 7 {
					b.at(pick(i)).once(http.MethodPost, "/preferences/sessions/withdraw", url.Values{"client": {"stranger"}}, nil)
					return
				}
				b.at(pick(i)).once(http.MethodGet, f.url(), nil, nil)
			})
			if n := w.count(`grants WHERE client_id = 'stranger' AND ended_at IS NULL`); n != 0 {
				t.Errorf("%d grants outlive what was taken back", n)
			}
		}
	})
}

// A consent goes with its person and with its client.
func TestConsentGoes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c, b := w.stranger(), w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		f := c.begin()
		f.code(b.decide(b.get(f.url()), "allow"))
		time.Sleep(time.Second)
		if err := w.house.clients.Delete(t.Context(), "stranger", "tess"); err != nil {
			t.Fatal(err)
		}
		if n := w.count("consents"); n != 0 {
			t.Errorf("%d consents of nobody", n)
		}
	})
}

// I4: nobody allows anything in a session that the request does not take: what is
// missing before is asked for before.
func TestConsentAfterSignIn(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c, b := w.stranger(), w.newBrowser()
		b.signIn(adaEmail, adaPassword)
		time.Sleep(time.Second)
		p := b.get(c.begin("prompt", "login").url())
		p.want(http.StatusOK, "/login")
		resume := must(url.Parse(p.form("/login").Get("to")))(t)
		for _, decision := range []string{"allow", "deny"} {
			b.post(pathConsent, url.Values{"id": {resume.Query().Get("id")}, "decision": {decision}}).want(http.StatusOK, "/login")
		}
		if n := w.count("consents"); n != 0 {
			t.Errorf("%d consents", n)
		}
	})
}

// What is taken back while something more is being allowed does not come back with
// it. (SQLite takes both in turn anyway.)
func TestConsentMeetsWithdrawal(t *testing.T) {
	var between func()
	w := wellBehaved(t, "postgres", watch("FOR NO KEY UPDATE", &between))
	c := w.register(strangers)
	b := w.browserAt(w.newReplica(), "192.0.2.10") // one that knows it from its start
	f := c.begin("scope", "openid email")
	b.decide(b.fill(b.get(f.url()), adaEmail, adaPassword), "allow")
	f = c.begin("scope", "openid profile")
	p := b.get(f.url())
	between = func() {
		b.post("/preferences/sessions/withdraw", url.Values{"client": {c.id}}).want(http.StatusOK, "/preferences/sessions")
	}
	b.decide(p, "allow")
	var scope string
	if err := w.db.QueryRow(t.Context(), `SELECT scope FROM consents WHERE client_id = $1`, c.id).Scan(&scope); err != nil || scope != "openid profile" {
		t.Errorf("allowed is %q: %v", scope, err)
	}
}
