package main

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// What happens when the process dies in the middle (ST-02, ST-03): an act is done
// or not done, never half.

// A grave has the goroutine that sends the n-th statement from now on die there,
// before it is sent. Its transaction is undone, as a server undoes that of a
// connection that is gone; what the act would have sent after it is never sent.
type grave struct {
	mu   sync.Mutex
	left int // 0: nobody dies
	died bool
}

func (g *grave) digs(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left, g.died = n, false
}

// fills reports whether somebody died.
func (g *grave) fills() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = 0
	return g.died
}

func (g *grave) observe(context.Context, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left == 0 {
		return
	}
	if g.left--; g.left == 0 {
		g.died = true
		panic(http.ErrAbortHandler)
	}
}

// facts are what an act may change, each a number that can be compared.
func (w *world) facts() map[string]int {
	w.t.Helper()
	out := map[string]int{}
	for name, what := range map[string]string{
		"second factors":     `totp`,
		"backup codes":       `backup_codes`,
		"unconfirmed":        `enrollments`,
		"reset links":        `resets`,
		"half sign-ins":      `logins`,
		"live sessions":      `sessions WHERE ended_at IS NULL`,
		"raised sessions":    `sessions WHERE ended_at IS NULL AND acr = '` + account.ACR2FA + `'`,
		"codes spent":        `grants WHERE redeemed_at IS NOT NULL`,
		"grants ended":       `grants WHERE ended_at IS NOT NULL`,
		"refreshes":          `grants WHERE rotated_at IS NOT NULL`,
		"codes":              `grants`,
		"passwords of today": `users WHERE password_changed_at > created_at + 1000000`,
		"events":             `events`,
	} {
		out[name] = w.count(what)
	}
	return out
}

// keepPeople returns what makes everybody again who they are now, signed in nowhere.
func (w *world) keepPeople() (fresh func()) {
	w.t.Helper()
	type row struct {
		id, hash string
		changed  int64
	}
	var people []row
	rows := must(w.db.Query(w.t.Context(), `SELECT id, password_hash, password_changed_at FROM users WHERE password_hash IS NOT NULL`))(w.t)
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.hash, &r.changed); err != nil {
			w.t.Fatal(err)
		}
		people = append(people, r)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		w.mails()
		for _, table := range []string{"grants", "sessions", "logins", "resets", "enrollments", "backup_codes", "totp", "throttles", "events"} {
			w.exec(`DELETE FROM ` + table)
		}
		for _, r := range people {
			w.exec(`UPDATE users SET password_hash = $1, password_changed_at = $2 WHERE id = $3`, r.hash, r.changed, r.id)
		}
	}
}

// difference is what differs, without what does not.
func difference(before, after map[string]int) map[string]int {
	out := map[string]int{}
	for name, n := range after {
		if n != before[name] {
			out[name] = n - before[name]
		}
	}
	return out
}

// TestST02_ST03_DoneOrNotDone has each act die at its first statement, at its
// second, and so on until it lives, on both engines.
func TestST02_ST03_DoneOrNotDone(t *testing.T) {
	// Each prepares, and returns the request that does it.
	acts := map[string]func(w *world) func() *page{
		"enable 2FA, and sign out others": func(w *world) func() *page {
			b := w.newBrowser()
			w.newBrowser().signIn(adaEmail, adaPassword)
			b.signIn(adaEmail, adaPassword)
			p := b.setUp()
			v := p.form(pathTurnOn)
			v.Set("code", p.scan().code())
			v.Set("saved", "on")
			v.Set("sign_out_others", "on")
			return func() *page { return b.once(http.MethodPost, pathTurnOn, v, nil) }
		},
		"a reset of the password": func(w *world) func() *page {
			b := w.newBrowser()
			b.get(strings.TrimPrefix(w.link(), issuer)).want(http.StatusOK, "/login/reset")
			w.newBrowser().signIn(adaEmail, adaPassword)
			v := url.Values{"new_password": {newPassword}, "confirm_password": {newPassword}}
			return func() *page { return b.once(http.MethodPost, "/login/reset", v, nil) }
		},
		"a change of the password": func(w *world) func() *page {
			b := w.newBrowser()
			w.newBrowser().signIn(adaEmail, adaPassword)
			b.signIn(adaEmail, adaPassword)
			v := url.Values{"current_password": {adaPassword}, "new_password": {newPassword}, "confirm_password": {newPassword}, "sign_out_others": {"1"}}
			return func() *page { return b.once(http.MethodPost, "/preferences/security/password", v, nil) }
		},
		"a sign-in": func(w *world) func() *page {
			b := w.newBrowser()
			v := b.get("/login").form("/login")
			v.Set("email", adaEmail)
			v.Set("password", adaPassword)
			return func() *page { return b.once(http.MethodPost, "/login", v, nil) }
		},
		"a code for a workspace": func(w *world) func() *page {
			b := w.newBrowser()
			p := b.fill(b.get("/login"), adaEmail, adaPassword)
			p.want(http.StatusOK, "/preferences/security")
			f := w.acme.begin()
			return func() *page { return b.once(http.MethodGet, f.url(), nil, nil) }
		},
		"code to tokens": func(w *world) func() *page {
			_, f, code := w.granted(w.globex)
			return func() *page { return w.globex.send(w.globex.request("/oauth/token", f.redemption(code), nil)) }
		},
		"a refresh": func(w *world) func() *page {
			k := w.newBrowser().connect(w.globex, adaEmail, adaPassword)
			v := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}}
			return func() *page { return w.globex.send(w.globex.request("/oauth/token", v, nil)) }
		},
		"a code that is used twice": func(w *world) func() *page {
			_, f, code := w.granted(w.globex)
			f.redeem(code).ok()
			return func() *page { return w.globex.send(w.globex.request("/oauth/token", f.redemption(code), nil)) }
		},
		"the end of the other sessions": func(w *world) func() *page {
			b := w.newBrowser()
			w.newBrowser().connect(w.acme, adaEmail, adaPassword)
			b.signIn(adaEmail, adaPassword)
			return func() *page { return b.once(http.MethodPost, "/preferences/sessions/end-others", url.Values{}, nil) }
		},
		"a sign-out": func(w *world) func() *page {
			b := w.newBrowser()
			b.connect(w.acme, adaEmail, adaPassword)
			return func() *page { return b.once(http.MethodPost, "/logout", url.Values{}, nil) }
		},
	}
	dbtest.Each(t, func(t *testing.T, engine string) {
		for what, prepare := range acts {
			t.Run(strings.ReplaceAll(what, " ", "_"), func(t *testing.T) {
				t.Parallel()
				g := &grave{}
				w := newWorld(t, engine, db.Observe(g.observe))
				fresh := w.keepPeople()
				act := prepare(w)
				before := w.facts()
				if p := act(); p.status >= 500 {
					t.Fatalf("%d %s", p.status, p.body)
				}
				whole := difference(before, w.facts())
				if len(whole) == 0 {
					t.Fatal("the act changes nothing")
				}
				for n := 1; ; n++ {
					fresh()
					act = prepare(w)
					before = w.facts()
					g.digs(n)
					died := func() (died bool) {
						defer func() { died = recover() != nil }()
						act()
						return false
					}()
					if died = g.fills() || died; !died {
						if n < 2 {
							t.Error("nobody died")
						}
						return
					}
					if got := difference(before, w.facts()); len(got) > 0 && !maps.Equal(got, whole) {
						t.Errorf("dead at statement %d: %v, whole is %v", n, got, whole)
					}
				}
			})
		}
	})
}
