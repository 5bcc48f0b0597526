package main

import (
	"context"
	"encoding/base32"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/db/dbtest/crowd"
	"github.com/harmony/id/idp"
)

// crowded is a world with nobody in it but a crowd.
func crowded(t *testing.T, engine string, size crowd.Size, opts ...db.Option) (*world, []crowd.Person) {
	t.Helper()
	url := dbtest.URL(t, engine)
	made, err := crowd.Fill(t.Context(), url, theRing(), size)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: must(db.Open(t.Context(), url, opts...))(t), ring: theRing(), log: &lockedBuffer{}}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the provider's log:\n%s", w.log)
		}
	})
	w.lendKeys()
	w.house = w.newReplica()
	w.keepKeys()
	return w, made.People
}

// rp is the workspace that has a person's refresh token.
func (w *world) workspaceOf(p crowd.Person) rp {
	return rp{w: w, id: p.Workspace.ID, secret: p.Workspace.Secret, auth: idp.AuthBasic}
}

// The crowd that measurements are made with are people like all others: they sign in with
// all that is theirs, find the sessions that they were given, and their workspaces go
// on with the tokens that they have.
func TestCrowd(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			w, people := crowded(t, engine, crowd.Size{Users: 200, Known: 200})
			if users, sessions, grants := w.count("users"), w.count("sessions"), w.count("grants"); users != 201 || sessions != 401 || grants != 1000 {
				t.Errorf("%d people, %d sessions, %d grants", users, sessions, grants) // with the first of all, and the session in which that set 2FA up
			}
			var plain, second, backup bool
			for _, p := range people {
				b := w.newBrowser()
				switch {
				case p.TOTP == "" && !plain:
					plain = true
					b.signIn(p.Email, crowd.Password)
				case p.BackupCode != "" && !backup:
					backup = true
					b.half(p.Email, crowd.Password)
					b.useBackupCode(p.BackupCode).want(http.StatusOK, "/login/backup-code/used")
				case p.TOTP != "" && !second:
					second = true
					app := &app{key: must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(p.TOTP))(t)}
					b.verify(b.half(p.Email, crowd.Password), app.code()).want(http.StatusOK, "/preferences/security")
				default:
					continue
				}
				sessions := b.get("/preferences/sessions")
				sessions.want(http.StatusOK, "/preferences/sessions")
				ws := w.workspaceOf(p)
				if made := must(w.house.clients.Get(t.Context(), ws.id))(t); !strings.Contains(sessions.body, made.Name) {
					t.Errorf("the sessions of %s do not name %s", p.Email, made.Name)
				}
				if claims := ws.refresh(p.RefreshToken).ok().claims(); claims["sub"] != p.ID {
					t.Errorf("the refresh token of %s is %v's", p.ID, claims["sub"])
				}
				b.get("/preferences/activity").want(http.StatusOK, "/preferences/activity")
			}
			if !plain || !second || !backup {
				t.Errorf("no one of some kind: %v %v %v", plain, second, backup)
			}
			for _, letter := range w.mails() {
				if !strings.HasPrefix(letter.To, "person") {
					t.Errorf("%s is told: %s", letter.To, letter.Subject)
				}
			}
		})
	})
}

// Nobody fills a database in which there is anybody.
func TestCrowdAmongPeople(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		url := dbtest.URL(t, engine)
		must(crowd.Fill(t.Context(), url, theRing(), crowd.Size{Users: 1}))(t)
		if _, err := crowd.Fill(t.Context(), url, theRing(), crowd.Size{Users: 1}); err == nil || !strings.Contains(err.Error(), "there are people in this database") {
			t.Errorf("a second crowd: %v", err)
		}
	})
}

var deleting = regexp.MustCompile(`^\s*DELETE FROM ([a-z_]+)`)

// A-DOS: house-keeping deletes all that has expired, and no transaction of it more than
// db.SweepRows rows, those that go with others among them: whoever signs in
// meanwhile waits for no more.
func TestHouseKeepingInSmallSteps(t *testing.T) {
	const most = 200
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			var w *world
			var watching atomic.Bool
			tables := []string{"sessions", "grants", "events", "throttles", "auth_requests", "resets", "logins", "ceremonies", "assertions"}
			total := func() (n int) {
				for _, table := range tables {
					n += w.count(table)
				}
				return n
			}
			before, steps := 0, 0
			look := func() {
				watching.Store(false)
				now := total()
				if gone := before - now; gone > most {
					t.Errorf("one step of house-keeping deleted %d rows", gone)
				}
				before = now
				watching.Store(true)
			}
			w, people := crowded(t, engine, crowd.Size{Users: 400, Grants: 3000, Over: 100, Known: 1}, db.Observe(func(_ context.Context, query string) {
				if watching.Load() && deleting.MatchString(query) {
					steps++
					look()
				}
			}))
			b := w.newBrowser()
			b.signIn(people[0].Email, crowd.Password)
			// One of them has more grants than go at once.
			w.exec(`UPDATE grants SET session_id = (SELECT MIN(id) FROM sessions WHERE ended_at IS NOT NULL)
				WHERE id IN (SELECT g.id FROM grants g JOIN sessions s ON s.id = g.session_id WHERE s.ended_at IS NOT NULL LIMIT 1000)`)
			before = total()
			watching.Store(true)
			if err := w.house.clean(t.Context()); err != nil {
				t.Fatal(err)
			}
			look()
			watching.Store(false)
			if n := w.count(`sessions WHERE ended_at < $1 OR expires_at < $1`, db.Micros(time.Now().Add(-24*time.Hour))); n != 0 || steps < 20 {
				t.Errorf("%d sessions are left that are over, after %d steps", n, steps)
			}
			if !b.signedIn() {
				t.Error("who lives is gone")
			}
		})
	})
}

var (
	// What grows with people. A letter is a table's other name, or a subquery's, which has no index.
	wholeRE  = regexp.MustCompile(`^SCAN (users|sessions|grants|events|throttles|passkeys|totp|backup_codes|consents)\b|^SCAN [a-z] USING`)
	clientRE = regexp.MustCompile(`USING (COVERING )?INDEX grants_client`)
	placeRE  = regexp.MustCompile(`\$(\d+)`)
)

// plan is how SQLite, which keeps no statistics and so decides by the text alone, goes
// about a statement.
func (w *world) plan(query string) (steps []string) {
	w.t.Helper()
	places := 0
	for _, m := range placeRE.FindAllStringSubmatch(query, -1) {
		n := 0
		if _, err := fmt.Sscan(m[1], &n); err != nil {
			w.t.Fatal(err)
		}
		places = max(places, n)
	}
	rows := must(w.db.Query(context.Background(), `EXPLAIN QUERY PLAN `+query, make([]any, places)...))(w.t)
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			w.t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return steps
}

// However many people there are, no request, no worker and no command that is about one
// of them reads a table from end to end, or through all that one workspace was granted.
func TestNoTableIsReadWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		seen := map[string]bool{}
		w, people := crowded(t, "sqlite", crowd.Size{Users: 50, Known: 50, Over: 20}, db.Observe(func(_ context.Context, query string) {
			mu.Lock()
			defer mu.Unlock()
			seen[query] = true
		}))
		ctx := t.Context()
		p := people[slices.IndexFunc(people, func(p crowd.Person) bool { return p.TOTP == "" })]
		b := w.newBrowser()
		b.signIn(p.Email, crowd.Password)
		for _, path := range []string{"/preferences/security", "/preferences/sessions", "/preferences/activity"} {
			b.get(path)
		}
		k := w.workspaceOf(p).refresh(p.RefreshToken).ok()
		w.userinfo(k.AccessToken)
		w.workspaceOf(p).introspect(k.AccessToken)
		b.post("/logout", url.Values{})
		if err := w.house.clean(ctx); err != nil {
			t.Fatal(err)
		}
		must(w.house.teller.Deliver(ctx))(t)
		w.mails()
		store := account.New(w.db, w.ring, account.Config{})
		u := must(store.FindUser(ctx, p.Email))(t)
		must(detailOf(ctx, store, u))(t)
		must(store.OldestLetter(ctx))(t)
		must(store.WaitingLetters(ctx, 100))(t)
		must(store.LastEvents(ctx, account.Filter{UserID: u.ID}, 10))(t)
		must(store.LastEvents(ctx, account.Filter{ClientID: "workspace-02"}, 10))(t)
		must(idp.OldestNotice(ctx, w.db))(t)
		must(idp.WaitingLogouts(ctx, w.db, 100))(t)
		if err := store.DisableUser(ctx, u.ID, supporter); err != nil {
			t.Fatal(err)
		}
		if err := store.DeleteUser(ctx, u.ID, supporter); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		queries := make([]string, 0, len(seen))
		for q := range seen {
			queries = append(queries, q)
		}
		mu.Unlock()
		if len(queries) < 50 {
			t.Errorf("%d statements, there are more", len(queries))
		}
		for _, q := range queries {
			if strings.Contains(q, "throttles WHERE key LIKE") { // what attempts there were within the hour
				continue
			}
			for _, step := range w.plan(q) {
				if wholeRE.MatchString(step) || clientRE.MatchString(step) {
					t.Errorf("%s:\n%s", step, q)
				}
			}
		}
	})
}
