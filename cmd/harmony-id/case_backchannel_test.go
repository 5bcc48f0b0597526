package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
)

// The security cases of telling workspaces that a session ended (LO-06 to LO-08;
// OIDC Back-Channel Logout 1.0).

// outside is the network as the provider finds it when it calls. Every host
// confirms, unless it was given another answer.
type outside struct {
	mu      sync.Mutex
	answers map[string]func(*http.Request) (*http.Response, error) // by host
	calls   []call
}

// A call is a request that came to somebody outside.
type call struct {
	host  string
	at    time.Time
	token string // the logout token
}

// RoundTrip notes the request and answers it.
func (o *outside) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || len(form) != 1 || len(r.Cookies()) > 0 {
		return nil, fmt.Errorf("not a logout request: %s %v %q", r.Method, r.Header, body)
	}
	o.mu.Lock()
	o.calls = append(o.calls, call{r.URL.Host, time.Now(), form.Get("logout_token")})
	act := o.answers[r.URL.Host]
	o.mu.Unlock()
	if act != nil {
		return act(r)
	}
	return answer(r, http.StatusOK, strings.NewReader("")), nil
}

// answers has a host act so.
func (w *world) answers(host string, act func(*http.Request) (*http.Response, error)) {
	w.outside.mu.Lock()
	defer w.outside.mu.Unlock()
	if w.outside.answers == nil {
		w.outside.answers = map[string]func(*http.Request) (*http.Response, error){}
	}
	w.outside.answers[host] = act
}

// status is the answer of a server that says this and no more.
func status(code int) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) { return answer(r, code, strings.NewReader("")), nil }
}

// hangs is a server that never answers.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// called is what came to a host since the last time.
func (w *world) called(host string) (out []call) {
	w.outside.mu.Lock()
	defer w.outside.mu.Unlock()
	w.outside.calls = slices.DeleteFunc(w.outside.calls, func(c call) bool {
		if c.host == host {
			out = append(out, c)
		}
		return c.host == host
	})
	return out
}

// told has everything told that is due, and returns who was told of what: a host and
// a session for each call.
func (w *world) told() []string {
	w.t.Helper()
	must(w.house.teller.Deliver(w.t.Context()))(w.t)
	w.outside.mu.Lock()
	calls := w.outside.calls
	w.outside.calls = nil
	w.outside.mu.Unlock()
	var out []string
	for _, c := range calls {
		out = append(out, c.host+" "+w.logoutToken(c.token)["sid"].(string))
	}
	slices.Sort(out)
	return out
}

// logoutToken verifies a token with the published keys, as the client's server does.
func (w *world) logoutToken(token string) map[string]any {
	w.t.Helper()
	r := must(http.NewRequestWithContext(context.Background(), http.MethodGet, issuer+"/jwks", nil))(w.t)
	res := must(network{w.house, "192.0.2.1"}.RoundTrip(r))(w.t)
	defer res.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(res.Body).Decode(&keys); err != nil {
		w.t.Fatal(err)
	}
	jws := must(jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA}))(w.t)
	head := jws.Signatures[0].Protected
	key := keys.Key(head.KeyID)
	if len(key) != 1 || head.Algorithm != key[0].Algorithm {
		w.t.Fatalf("signed with %s by %d keys", head.Algorithm, len(key))
	}
	claims := map[string]any{"alg": head.Algorithm, "typ": head.ExtraHeaders[jose.HeaderType]}
	if err := json.Unmarshal(must(jws.Verify(key[0]))(w.t), &claims); err != nil {
		w.t.Fatal(err)
	}
	return claims
}

// listens registers a workspace that wants to know when sessions end.
func (w *world) listens(id string, edits ...func(*idp.Client)) rp {
	w.t.Helper()
	c := idp.Client{ID: id, Name: strings.ToUpper(id[:1]) + id[1:], RedirectURIs: []string{"https://" + id + ".test/cb"}, RequirePKCE: true, BackchannelLogoutURI: "https://" + id + ".test/backchannel-logout"}
	for _, edit := range edits {
		edit(&c)
	}
	made := w.register(c)
	w.change(`UPDATE clients SET name = name WHERE id = $1`, id)
	return made
}

func sid(k *tokens) string { return k.claims()["sid"].(string) }

// LO-06: each workspace of the session gets one token that is its own, and nobody
// else gets any.
func TestLO06_EachWorkspaceIsTold(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		var all []rp
		for id, alg := range map[string]string{"one": "ES256", "two": "RS256", "three": "EdDSA"} {
			all = append(all, w.listens(id, func(c *idp.Client) { c.IDTokenAlg = alg }))
		}
		others, unredeemed := w.listens("others"), w.listens("unredeemed")
		w.forget()
		b := w.newBrowser()
		var k *tokens
		for range 2 { // two grants are one notice
			for _, c := range all {
				k = b.connect(c, adaEmail, adaPassword)
			}
		}
		b.connect(w.acme, adaEmail, adaPassword) // does not want to know
		b.again(unredeemed)                      // does not know of the session
		second := w.browserAt(w.house, "192.0.2.51")
		second.connect(others, adaEmail, adaPassword)
		second.connect(all[0], adaEmail, adaPassword)
		w.browserAt(w.house, "192.0.2.52").connect(others, bobEmail, bobPassword)
		if got := w.told(); got != nil {
			t.Fatalf("nobody signed out, and %q were told", got)
		}

		b.post("/logout", url.Values{})
		must(w.house.teller.Deliver(t.Context()))(t)
		seen := map[any]bool{}
		now := float64(time.Now().Unix())
		for _, c := range all {
			calls := w.called(c.id + ".test")
			if len(calls) != 1 {
				t.Fatalf("%s was told %d times", c.id, len(calls))
			}
			got := w.logoutToken(calls[0].token)
			want := map[string]any{
				"iss": issuer, "aud": c.id, "sub": w.ada.ID, "sid": sid(k), "iat": now, "exp": now + 120, "jti": got["jti"], "typ": "logout+jwt",
				"alg":    map[string]any{"one": "ES256", "two": "RS256", "three": "EdDSA"}[c.id],
				"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
			}
			if fmt.Sprint(got) != fmt.Sprint(want) { // no nonce among them
				t.Errorf("%s got %v, want %v", c.id, got, want)
			}
			if seen[got["jti"]] || len(fmt.Sprint(got["jti"])) < 20 {
				t.Errorf("jti %v", got["jti"])
			}
			seen[got["jti"]] = true
			// It is a logout token and no other: nothing here takes it.
			if w.userinfo(calls[0].token) != nil {
				t.Error("it opens userinfo")
			}
			second.asked(second.get(leave("id_token_hint", calls[0].token)))
		}
		time.Sleep(time.Hour)
		if got := w.told(); got != nil {
			t.Errorf("told again, or others: %q", got)
		}
	})
}

// LO-06, ASVS 7.4: whoever ends a session and however, its workspaces are told, and
// those of no other session.
func TestLO06_EveryEndTells(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(w *world, b, other *browser, k *tokens){ // ends other's session, by what b does or anyone else
		"its workspace": func(_ *world, _, other *browser, k *tokens) {
			other.get(leave("id_token_hint", k.IDToken, "post_logout_redirect_uri", farewell))
		},
		"its person": func(_ *world, _, other *browser, _ *tokens) { other.post("/logout", url.Values{}) },
		"another session": func(_ *world, b, _ *browser, k *tokens) {
			b.post("/preferences/sessions/end", url.Values{"id": {sid(k)}}).want(http.StatusOK, "/preferences/sessions")
		},
		"another session, all": func(_ *world, b, _ *browser, _ *tokens) {
			b.post("/preferences/sessions/end-others", url.Values{}).want(http.StatusOK, "/preferences/sessions")
		},
		"another session, it wasn't me": func(_ *world, b, _ *browser, _ *tokens) { b.post("/preferences/not-me", url.Values{}) },
		"a change of the password": func(_ *world, b, _ *browser, _ *tokens) {
			b.post(pathPassword, changeForm(adaPassword, newPassword)).want(http.StatusOK, "/preferences/security")
		},
		"the set-up of 2FA": func(_ *world, b, _ *browser, _ *tokens) {
			p := b.setUp()
			v := p.form(pathTurnOn)
			v.Set("code", p.scan().code())
			v.Set("saved", "on")
			v.Set("sign_out_others", "1")
			b.post(pathTurnOn, v).want(http.StatusOK, "/preferences/security")
		},
		"another person in its browser": func(w *world, _, other *browser, _ *tokens) {
			other.fill(other.get("/login?another=1"), bobEmail, bobPassword).want(http.StatusOK, "/preferences/security")
		},
		"an operator": func(w *world, _, _ *browser, k *tokens) {
			if err := w.newReplica().accounts.EndUserSession(w.t.Context(), w.ada.ID, sid(k), supporter); err != nil {
				w.t.Error(err)
			}
		},
		"its time": func(w *world, b, _ *browser, k *tokens) {
			w.exec(`UPDATE sessions SET expires_at = $1 WHERE id = $2`, time.Now().Add(time.Second).UnixMicro(), sid(k))
			time.Sleep(time.Second)
		},
		"the limit": func(w *world, _, _ *browser, k *tokens) {
			w.weaken(w.ada.ID, adaPassword)
			w.exec(`UPDATE sessions SET seen_at = seen_at - 1000 WHERE id = $1`, sid(k))
			for i := 0; w.count(`sessions WHERE id = $1 AND ended_at IS NULL`, sid(k)) == 1; i++ {
				if i == 60 {
					w.t.Fatal("no limit")
				}
				time.Sleep(time.Minute)
				w.browserAt(w.house, fmt.Sprintf("203.0.113.%d", i)).attempt(adaEmail, adaPassword)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				c := w.listens("told")
				w.forget()
				other := w.browserAt(w.house, "192.0.2.50")
				k := other.connect(c, adaEmail, adaPassword)
				b := w.newBrowser()
				keeps := b.connect(c, adaEmail, adaPassword)
				end(w, b, other, k)
				if got, want := w.told(), []string{"told.test " + sid(k)}; !slices.Equal(got, want) {
					t.Errorf("told %q, want %q", got, want)
				}
				w.goesOn(c, keeps)
			})
		})
	}
	// What ends every session of a person.
	for what, end := range map[string]func(w *world, s *account.Store) error{
		"a reset of the password": func(w *world, _ *account.Store) error {
			w.newBrowser().reset(w.link(), newPassword)
			return nil
		},
		"disabling": func(w *world, s *account.Store) error { return s.DisableUser(w.t.Context(), w.ada.ID, supporter) },
		"deleting":  func(w *world, s *account.Store) error { return s.DeleteUser(w.t.Context(), w.ada.ID, supporter) },
		"an operator, all": func(w *world, s *account.Store) error {
			_, err := s.EndUserSessions(w.t.Context(), w.ada.ID, supporter)
			return err
		},
		"a reset of 2FA": func(w *world, s *account.Store) error {
			w.exec(`INSERT INTO totp (user_id, secret_sealed, last_step, failures, backup_failures, enabled_at, codes_salt, codes_total, codes_made_at) VALUES ($1, $2, 0, 0, 0, 1, $2, 0, 1)`, w.ada.ID, []byte("x"))
			return s.ResetTwoFactor(w.t.Context(), w.ada.ID, "4711", supporter)
		},
		"a switch to Google": func(w *world, s *account.Store) error {
			return s.LinkGoogle(w.t.Context(), w.ada.ID, "https://accounts.google.com", "4711", "4711", supporter)
		},
	} {
		t.Run(what, func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				c := w.listens("told")
				w.forget()
				var want []string
				for range 2 {
					want = append(want, "told.test "+sid(w.newBrowser().connect(c, adaEmail, adaPassword)))
				}
				bobs := w.newBrowser().connect(c, bobEmail, bobPassword)
				w.mails()
				if err := end(w, w.house.accounts); err != nil {
					t.Fatal(err)
				}
				slices.Sort(want)
				if got := w.told(); !slices.Equal(got, want) {
					t.Errorf("told %q, want %q", got, want)
				}
				w.goesOn(c, bobs)
			})
		})
	}
}

// LO-07: a person who is deleted is forgotten, while their workspaces are still told.
func TestLO07_DeletedPersonIsForgotten(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.listens("told")
		w.forget()
		b := w.newBrowser()
		k := b.connect(c, adaEmail, adaPassword)
		b.enable()
		w.newBrowser().signIn(bobEmail, bobPassword)
		if err := w.house.accounts.DeleteUser(t.Context(), w.ada.ID, supporter); err != nil {
			t.Fatal(err)
		}
		dump := w.dump()
		for what, gone := range map[string]string{"address": adaEmail, "name": "Ada Lovelace"} {
			if strings.Contains(dump, gone) {
				t.Errorf("the database still has her %s", what)
			}
		}
		if n := w.count(`sessions WHERE user_id = '-' AND (address <> '' OR user_agent <> '')`); n != 0 {
			t.Error("the session that is kept says where she was")
		}
		for _, who := range []string{"-", "", w.ada.ID, adaEmail} {
			if u, err := w.house.accounts.FindUser(t.Context(), who); !errors.Is(err, account.ErrNotFound) {
				t.Errorf("%q: %v %v", who, u, err)
			}
		}
		if err := w.house.accounts.DeleteUser(t.Context(), "-", supporter); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("deleting nobody: %v", err)
		}
		if all := must(w.house.accounts.Users(t.Context(), "", 10))(t); slices.ContainsFunc(all, func(u *account.User) bool { return u.ID == "-" }) {
			t.Error("nobody is listed")
		}
		w.newBrowser().attempt("", "").wantStatus(http.StatusUnprocessableEntity)
		if got, want := w.told(), []string{"told.test " + sid(k)}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		time.Sleep(25 * time.Hour)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count(`sessions WHERE user_id = '-'`); n != 0 {
			t.Errorf("%d sessions are kept", n)
		}
	})
}

// A workspace that redeems its code while its person is being deleted gets nothing, or
// is told. (SQLite does one after the other.)
func TestLO07_RedeemedWhileDeleted(t *testing.T) {
	var between func()
	w := wellBehaved(t, "postgres", watch("DELETE FROM users", &between))
	c := w.listens("told")
	w.house = w.newReplica()
	b := w.newBrowser()
	b.signIn(adaEmail, adaPassword)
	f, code := b.again(c)
	answer, answered := make(chan *tokens, 1), make(chan struct{})
	between = func() {
		go func() {
			answer <- f.redeem(code)
			close(answered)
		}()
		select {
		case <-answered:
		case <-time.After(300 * time.Millisecond): // it waits for the deletion
		}
	}
	if err := w.house.accounts.DeleteUser(t.Context(), w.ada.ID, supporter); err != nil {
		t.Fatal(err)
	}
	if k, told := <-answer, w.told(); k.status == http.StatusOK && !slices.Equal(told, []string{"told.test " + sid(k)}) {
		t.Errorf("it got tokens, and was told %q", told)
	}
}

// goesOn checks that a session goes on of which nobody was told.
func (w *world) goesOn(c rp, k *tokens) {
	w.t.Helper()
	if w.count(`grants WHERE session_id = $1 AND (tell_at IS NOT NULL OR told_at IS NOT NULL)`, sid(k)) > 0 {
		w.t.Error("another session was told of")
	}
	c.refresh(k.RefreshToken).ok()
}

// LO-07: a workspace that does not answer is told again after a while that doubles,
// for a day; then everybody gives up, and house-keeping forgets the session.
func TestLO07_RetriesForADay(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.listens("broken")
		w.forget()
		w.answers("broken.test", status(http.StatusInternalServerError))
		b := w.newBrowser()
		k := b.connect(c, adaEmail, adaPassword)
		b.connect(c, adaEmail, adaPassword)
		b.post("/logout", url.Values{})
		ended := time.Now()
		var waits []time.Duration
		seen := map[string]bool{}
		last := ended
		for {
			must(w.house.teller.Deliver(t.Context()))(t)
			calls := w.called("broken.test")
			if len(calls) != 1 {
				t.Fatalf("after %s: %d calls", time.Since(ended), len(calls))
			}
			token := w.logoutToken(calls[0].token)
			if seen[token["jti"].(string)] || token["exp"].(float64) != float64(time.Now().Add(2*time.Minute).Unix()) {
				t.Errorf("after %s: not a token of its own: %v", time.Since(ended), token)
			}
			seen[token["jti"].(string)] = true
			waits, last = append(waits, time.Since(last)), time.Now()
			var next int64
			if err := w.db.QueryRow(t.Context(), `SELECT COALESCE(MIN(tell_at), 0) FROM grants`).Scan(&next); err != nil {
				t.Fatal(err)
			}
			if next == 0 {
				break
			}
			time.Sleep(time.Until(time.UnixMicro(next)) - time.Millisecond)
			must(w.house.teller.Deliver(t.Context()))(t)
			if n := len(w.called("broken.test")); n != 0 {
				t.Fatalf("after %s: told too early", time.Since(ended))
			}
			time.Sleep(time.Millisecond)
		}
		want := []time.Duration{0}
		for wait := 2 * time.Second; wait < time.Hour; wait *= 2 {
			want = append(want, wait)
		}
		if !slices.Equal(waits[:len(want)], want) || slices.Max(waits) != time.Hour || len(waits) > 40 {
			t.Errorf("waits of %v, want %v and then hours", waits, want)
		}
		if since := last.Sub(ended); since < 22*time.Hour || since > 24*time.Hour {
			t.Errorf("given up after %s", since)
		}
		if !strings.Contains(w.log.String(), `"logout given up"`) || !strings.Contains(w.log.String(), "answered 500") {
			t.Error("nobody hears of it")
		}
		w.answers("broken.test", nil)
		if got := w.told(); got != nil {
			t.Errorf("told after all: %q", got)
		}
		time.Sleep(2 * time.Hour)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count(`grants WHERE session_id = $1`, sid(k)); n != 0 {
			t.Errorf("%d grants are left", n)
		}
	})
}

// LO-07: one that recovers is told once more, and then no more.
func TestLO07_Recovers(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.listens("told")
		w.forget()
		var flood flood
		for what, act := range map[string]func(*http.Request) (*http.Response, error){
			"500": status(500), "400": status(400), "404": status(404), "202": status(202), "no network": func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
			"hangs": hangs, "an endless answer": func(r *http.Request) (*http.Response, error) {
				return answer(r, 503, &flood), nil
			},
		} {
			w.answers("told.test", act)
			b := w.newBrowser()
			k := b.connect(c, adaEmail, adaPassword)
			b.post("/logout", url.Values{})
			want := []string{"told.test " + sid(k)}
			if got := w.told(); !slices.Equal(got, want) {
				t.Fatalf("%s: told %q", what, got)
			}
			w.answers("told.test", status(http.StatusNoContent))
			time.Sleep(2 * time.Second)
			if got := w.told(); !slices.Equal(got, want) {
				t.Errorf("%s: told again %q", what, got)
			}
			time.Sleep(time.Hour)
			if got := w.told(); got != nil {
				t.Errorf("%s: told once more %q", what, got)
			}
		}
		if flood.read > 64<<10 {
			t.Errorf("%d bytes of an answer were read", flood.read)
		}
	})
}

// A flood never ends, and counts what was read of it.
type flood struct{ read int }

func (f *flood) Read(b []byte) (int, error) {
	f.read += len(b)
	return len(b), nil
}

// LO-07: who signs out waits for nobody, and no workspace for another.
func TestLO07_SlowWorkspace(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		slow, quick := w.listens("slow"), w.listens("quick")
		w.forget()
		var mu sync.Mutex
		var now, most int
		w.answers("slow.test", func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			defer func() { mu.Lock(); now--; mu.Unlock() }()
			return hangs(r)
		})
		w.weaken(w.ada.ID, adaPassword)
		var all []*browser
		for i := range 20 {
			b := w.browserAt(w.house, fmt.Sprintf("203.0.113.%d", i))
			b.connect(slow, adaEmail, adaPassword)
			all = append(all, b)
		}
		last := w.browserAt(w.house, "198.51.100.9")
		last.connect(slow, adaEmail, adaPassword)
		last.connect(quick, adaEmail, adaPassword)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.house.teller.Run(ctx) })
		began := time.Now()
		for _, b := range append(all, last) {
			b.once(http.MethodPost, "/logout", url.Values{}, nil).wantStatus(http.StatusSeeOther)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("signing out took %s", took)
		}
		time.Sleep(900 * time.Millisecond)
		if n := len(w.called("quick.test")); n != 1 {
			t.Errorf("quick was told %d times within a second", n)
		}
		time.Sleep(29 * time.Second) // 5 s each, 4 at once
		w.outside.mu.Lock()
		tried := map[string]bool{}
		for _, c := range w.outside.calls {
			tried[c.host+w.logoutToken(c.token)["sid"].(string)] = true
		}
		w.outside.mu.Unlock()
		stop()
		running.Wait()
		mu.Lock()
		defer mu.Unlock()
		if most != 4 || len(tried) != 21 {
			t.Errorf("slow: %d at once, %d of 21 tried", most, len(tried))
		}
	})
}

// A workspace hears within the moment of what happened here, and within a second of
// what happened at another replica.
func TestLO07_Promptly(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.listens("told")
		other := w.newReplica()
		w.forget()
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.house.teller.Run(ctx) })
		for range 3 {
			time.Sleep(123 * time.Millisecond)
			b := w.newBrowser()
			b.connect(c, adaEmail, adaPassword)
			began := time.Now()
			b.post("/logout", url.Values{})
			time.Sleep(time.Millisecond)
			if calls := w.called("told.test"); len(calls) != 1 || calls[0].at.After(began.Add(time.Millisecond)) {
				t.Errorf("told of its own act: %v", calls)
			}
			b.connect(c, adaEmail, adaPassword)
			time.Sleep(time.Second)
			must(w.house.accounts.EndUserSessions(t.Context(), w.ada.ID, supporter))(t)
			time.Sleep(time.Millisecond)
			if n := len(w.called("told.test")); n != 1 {
				t.Errorf("told %d times of an operator's act", n)
			}
			b.connect(c, adaEmail, adaPassword)
			b.at(other).post("/logout", url.Values{})
			time.Sleep(time.Second)
			if n := len(w.called("told.test")); n != 1 {
				t.Errorf("told %d times of another's act", n)
			}
		}
		// And of what is older than the look, as after a night without a provider.
		stop()
		running.Wait()
		b := w.newBrowser()
		b.connect(c, adaEmail, adaPassword)
		b.post("/logout", url.Values{})
		time.Sleep(12 * time.Hour)
		ctx, stop = context.WithCancel(t.Context())
		running.Go(func() { w.newReplica().teller.Run(ctx) })
		time.Sleep(time.Second)
		if n := len(w.called("told.test")); n != 1 {
			t.Errorf("told %d times of last night", n)
		}
		stop()
		running.Wait()
	})
}

// What a look back by a minute misses is found a little later: an end that took minutes to
// be committed within a minute, an older one within the hour, or within a minute if
// there was more to tell at once than could be told.
func TestLO07_LooksBack(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.listens("told")
		w.forget()
		w.weaken(w.ada.ID, adaPassword)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.house.teller.Run(ctx) })
		defer running.Wait()
		defer stop()
		// One sign-in after the other wakes the teller, so they all come before the ends.
		ended := func(ago ...time.Duration) {
			t.Helper()
			var ids []string
			for range ago {
				ids = append(ids, sid(w.newBrowser().connect(c, adaEmail, adaPassword)))
			}
			for i, id := range ids {
				w.exec(`UPDATE sessions SET ended_at = $1, ended_by = 'person' WHERE id = $2`, db.Micros(time.Now().Add(-ago[i])), id)
			}
		}
		toldAfter := func(wait time.Duration, want int) {
			t.Helper()
			time.Sleep(wait)
			if n := len(w.called("told.test")); n != want {
				t.Errorf("told %d times after %s, want %d", n, wait, want)
			}
		}
		toldAfter(2*time.Minute, 0)
		ended(5 * time.Minute)
		toldAfter(time.Minute+time.Second, 1)
		ended(3 * time.Hour)
		toldAfter(2*time.Minute, 0)
		toldAfter(time.Hour, 1)
		ended(3*time.Hour, 0, 0, 0, 0, 0)
		toldAfter(2*time.Minute+time.Second, 6)
	})
}

// LO-06: any number of replicas tell once.
func TestLO06_ToldOnce(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		c := w.register(idp.Client{ID: "told", Name: "Told", RedirectURIs: []string{"https://told.test/cb"}, RequirePKCE: true, BackchannelLogoutURI: "https://told.test/out"})
		time.Sleep(1100 * time.Millisecond)
		want := map[string]int{}
		for range 10 {
			b := w.newBrowser()
			want[sid(b.connect(c, adaEmail, adaPassword))] = 1
			b.connect(c, adaEmail, adaPassword)
			b.post("/logout", url.Values{})
		}
		var mu sync.Mutex
		sum := 0
		release(func(i int) {
			n, err := pick(i).teller.Deliver(context.Background())
			mu.Lock()
			defer mu.Unlock()
			if sum += n; err != nil {
				t.Error(err)
			}
		})
		got := map[string]int{}
		for _, call := range w.called("told.test") {
			got[w.logoutToken(call.token)["sid"].(string)]++
		}
		if sum != 10 || !maps.Equal(got, want) {
			t.Errorf("%d confirmed; told %v", sum, got)
		}
	})
}

// What a replica was telling when it was killed is told by another, once its lease
// is over; and what it says then, if it only slept, changes nothing.
func TestLO07_KilledReplica(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c := w.listens("told")
		other := w.newReplica()
		w.forget()
		b := w.newBrowser()
		b.connect(c, adaEmail, adaPassword)
		b.post("/logout", url.Values{})
		asleep, wakes := make(chan bool), make(chan bool)
		w.answers("told.test", func(r *http.Request) (*http.Response, error) {
			close(asleep)
			<-wakes
			return nil, r.Context().Err()
		})
		var killed sync.WaitGroup
		killed.Go(func() { must(other.teller.Deliver(context.Background()))(t) })
		<-asleep
		w.answers("told.test", nil)
		w.called("told.test")
		for range 29 {
			if got := w.told(); got != nil {
				t.Fatalf("told by two: %q", got)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		if got := w.told(); len(got) != 1 {
			t.Errorf("told %q", got)
		}
		close(wakes)
		killed.Wait()
		time.Sleep(time.Hour)
		if got := w.told(); got != nil {
			t.Errorf("told again: %q", got)
		}
	})
}

// LO-08: a redirect confirms nothing and leads nowhere.
func TestLO08_RedirectsAreNotFollowed(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		c := w.listens("told")
		w.forget()
		for _, code := range []int{301, 302, 303, 307, 308} {
			w.answers("told.test", func(r *http.Request) (*http.Response, error) {
				res := answer(r, code, strings.NewReader(""))
				res.Header.Set("Location", "https://metadata.test/")
				return res, nil
			})
			b := w.newBrowser()
			b.connect(c, adaEmail, adaPassword)
			b.post("/logout", url.Values{})
			if n := must(w.house.teller.Deliver(t.Context()))(t); n != 0 {
				t.Errorf("%d confirmed it", code)
			}
			if n := len(w.called("metadata.test")); n != 0 {
				t.Errorf("%d was followed", code)
			}
			w.answers("told.test", nil)
			time.Sleep(time.Minute)
			w.told()
		}
	})
}

// LO-08: a name that leads into the provider's own network is not gone to, unless
// the operator lets it.
func TestLO08_PrivateAddresses(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		w := wellBehaved(t, engine)
		came := make(chan string, 10)
		inside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { came <- r.URL.Path }))
		defer inside.Close()
		port := must(url.Parse(inside.URL))(t).Port()
		c := w.register(idp.Client{ID: "told", Name: "Told", RedirectURIs: []string{"https://told.test/cb"}, RequirePKCE: true, BackchannelLogoutURI: "https://told.test/out"})
		w.exec(`UPDATE clients SET backchannel_logout_uri = $1 WHERE id = 'told'`, "http://localhost:"+port+"/out") // as a name that came to mean another address
		guarded := w.newReplica(func(cfg *houseConfig) { cfg.idp.Outbound = nil })
		trusting := w.newReplica(func(cfg *houseConfig) { cfg.idp.Outbound, cfg.idp.AllowPrivate = nil, true })
		w.house = guarded
		b := w.newBrowser()
		b.connect(c, adaEmail, adaPassword)
		b.post("/logout", url.Values{})
		if n := must(guarded.teller.Deliver(t.Context()))(t); n != 0 || len(came) != 0 {
			t.Errorf("%d told, %d came", n, len(came))
		}
		if got := w.texts(`SELECT tell_result FROM grants`); len(got) != 1 || !strings.Contains(got[0], "is not a public address") {
			t.Errorf("results %q", got)
		}
		w.exec(`UPDATE grants SET tell_at = 1`)
		if n := must(trusting.teller.Deliver(t.Context()))(t); n != 1 || len(came) != 1 {
			t.Errorf("%d told, %d came", n, len(came))
		}
	})
}

// A grant that ended on its own is told of when its session ends, however much later.
func TestLO06_EndedGrants(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		c, deaf := w.listens("told"), w.listens("deaf")
		w.forget()
		b, f, code := w.granted(c)
		k := f.redeem(code).ok()
		f.redeem(code).refused(http.StatusBadRequest, "invalid_grant") // once too often
		b.connect(deaf, adaEmail, adaPassword)
		time.Sleep(48 * time.Hour)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.in(true)
		w.exec(`UPDATE clients SET disabled_at = 1 WHERE id = 'deaf'`) // is not told while it is disabled
		w.change(`UPDATE clients SET name = name`)
		b.post("/logout", url.Values{})
		if got, want := w.told(), []string{"told.test " + sid(k)}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		w.change(`UPDATE clients SET disabled_at = NULL`)
		w.forget()
		if got, want := w.told(), []string{"deaf.test " + sid(k)}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// The page after signing out shows what the workspaces answered, to the browser that
// signed out and for some minutes.
func TestSignedOutPage(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		good, slow := w.listens("good"), w.listens("slow")
		w.forget()
		w.answers("slow.test", status(http.StatusServiceUnavailable))
		b := w.newBrowser()
		b.connect(good, adaEmail, adaPassword)
		b.connect(slow, adaEmail, adaPassword)
		b.connect(w.acme, adaEmail, adaPassword)
		ended := time.Now().UTC()
		p := b.post("/logout", url.Values{})
		p.want(http.StatusOK, "/logout")
		says := func(p *page, refresh string, texts ...string) {
			t.Helper()
			if got := p.header.Get("Refresh"); got != refresh {
				t.Errorf("it comes again after %q seconds, want %q", got, refresh)
			}
			for _, s := range append(texts, "You’re signed out") {
				p.wantText(s)
			}
		}
		clock := func(t time.Time) string { return t.Format("15:04") + " UTC" }
		says(p, "1", "Good", "Slow", "Acme", "No answer yet", "by ", clock(ended.Add(5*time.Minute)))
		must(w.house.teller.Deliver(t.Context()))(t)
		p = b.get("/logout")
		says(p, "1", "Good", "Confirmed", "Signed out ", clock(ended), "No answer yet")
		if n := strings.Count(p.body, "Confirmed"); n != 1 {
			t.Errorf("%d confirmed", n)
		}
		// It is nobody else's, and nobody's guess.
		for _, value := range []string{"", "x", b.cookie("__Host-harmony-farewell") + "A", flip(b.cookie("__Host-harmony-farewell"), 20), w.texts(`SELECT id FROM sessions`)[0]} {
			stranger := w.browserAt(w.house, "192.0.2.70")
			stranger.plant("__Host-harmony-farewell", value)
			if p := stranger.get("/logout"); strings.Contains(p.body, "Good") || p.status != http.StatusOK {
				t.Errorf("%q shows it", value)
			}
		}
		copied := w.browserAt(w.house, "192.0.2.71") // its life does not depend on the browser's
		copied.plant("__Host-harmony-farewell", b.cookie("__Host-harmony-farewell"))
		time.Sleep(10 * time.Second)
		says(b.get("/logout"), "3", "No answer yet")
		time.Sleep(20 * time.Second)
		says(b.get("/logout"), "10", "No answer yet")
		time.Sleep(time.Minute)
		says(b.get("/logout"), "", "No answer yet")
		w.answers("slow.test", nil)
		must(w.house.teller.Deliver(t.Context()))(t)
		p = b.get("/logout")
		says(p, "", "Confirmed")
		if strings.Contains(p.body, "No answer") {
			t.Error("it still waits")
		}
		time.Sleep(5 * time.Minute)
		for _, x := range []*browser{b, copied} {
			if p := x.get("/logout"); strings.Contains(p.body, "Good") {
				t.Error("shown after its time")
			}
		}

		// Where a workspace is led back to, there is nothing to show, and what was shown is gone.
		b.signIn(adaEmail, adaPassword)
		b.post("/logout", url.Values{})
		if b.cookie("__Host-harmony-farewell") == "" {
			t.Error("no farewell")
		}
		k := b.connect(w.acme, bobEmail, bobPassword)
		b.get(leave("id_token_hint", k.IDToken, "post_logout_redirect_uri", farewell))
		if b.cookie("__Host-harmony-farewell") != "" {
			t.Error("the farewell outlives the next person's session")
		}
	})
}

// The discovery document says so (conformance.md 1.7).
func TestBackchannelMetadata(t *testing.T) {
	onOne(t, func(t *testing.T, w *world) {
		var m map[string]any
		if err := json.Unmarshal([]byte(w.newBrowser().get("/.well-known/openid-configuration").body), &m); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"backchannel_logout_supported", "backchannel_logout_session_supported"} {
			if m[name] != true {
				t.Errorf("%s is %v", name, m[name])
			}
		}
	})
}
