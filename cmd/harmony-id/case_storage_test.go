package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// Many at once, and a database that goes away (ST, DOS).

// ST-04: sign-ins, refreshes and pages of many people at once, on both replicas,
// are each answered as if they were alone. SQLite has one writer; nobody is told
// that it is locked.
func TestST04_ManyAtOnce(t *testing.T) {
	atOnce(t, func(t *testing.T, w *world, pick func(int) *house) {
		w.weaken(w.ada.ID, adaPassword)
		in := w.newBrowser()
		k := in.connect(w.acme, adaEmail, adaPassword)
		const each = 64
		var all sync.WaitGroup
		for i := range each {
			h := pick(i)
			all.Go(func() {
				if i%6 != 0 { // a password takes its time; more at once than there is time for are told to wait
					return
				}
				if p := w.browserAt(h, fmt.Sprintf("198.51.100.%d", i)).attempt(adaEmail, adaPassword); p.status != http.StatusSeeOther {
					t.Errorf("a sign-in: %d %s", p.status, p.body)
				}
			})
			all.Go(func() {
				if r := w.acme.postAt(h, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}}, nil); r.status != http.StatusOK {
					t.Errorf("a refresh: %d %s", r.status, r.raw)
				}
			})
			all.Go(func() {
				if p := in.at(h).get("/preferences/security"); p.status != http.StatusOK {
					t.Errorf("a page: %d", p.status)
				}
			})
		}
		all.Wait()
		if n := w.count(`sessions WHERE user_id = $1 AND ended_at IS NULL`, w.ada.ID); n != 1+11 {
			t.Errorf("%d sessions", n)
		}
		if log := w.log.String(); strings.Contains(log, "locked") || strings.Contains(log, `"status":50`) {
			t.Error("somebody was told that the database is locked, or got a 50x")
		}
	})
}

// ST-05: PostgreSQL's connections are cut again and again, as by a restart, while
// workspaces refresh. What was confirmed is there, what was not is an honest 503, and
// once the database is back so is everybody, without anybody's help.
func TestST05_ConnectionsAreCut(t *testing.T) {
	w := newWorld(t, "postgres")
	k := w.newBrowser().connect(w.globex, adaEmail, adaPassword)
	var name string
	if err := w.db.QueryRow(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	other := must(db.Open(t.Context(), dbtest.URL(t, "postgres")))(t)
	t.Cleanup(func() { other.Close() })
	refused, served := 0, 0
	for i := range 60 {
		if i%3 == 0 {
			must(other.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name))(t)
		}
		switch r := w.globex.refresh(k.RefreshToken); r.status {
		case http.StatusOK:
			k, served = r, served+1
		case http.StatusServiceUnavailable:
			refused++
			if strings.Contains(r.raw, "SQLSTATE") || strings.Contains(r.raw, "backend") {
				t.Errorf("the answer tells of the database: %s", r.raw)
			}
		default:
			t.Fatalf("refresh %d: %d %s", i, r.status, r.raw)
		}
	}
	if served < 20 {
		t.Errorf("%d served, %d refused", served, refused)
	}
	w.globex.refresh(k.RefreshToken).ok()
}

// DOS-06: authorization requests that nobody goes on with stay half an hour, each
// no larger than the address that it came in, and meanwhile hold up nobody.
func TestDOS06_RequestsThatNobodyFinishes(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		const many = 2000
		for range many {
			w.newBrowser().once(http.MethodGet, w.acme.begin("nonce", strings.Repeat("n", 1000)).url(), nil, nil)
		}
		if n := w.count(`auth_requests`); n != many {
			t.Fatalf("%d wait", n)
		}
		if n := w.count(`auth_requests WHERE LENGTH(params) > 16000`); n != 0 {
			t.Errorf("%d are large", n)
		}
		w.newBrowser().connect(w.acme, adaEmail, adaPassword)
		time.Sleep(31 * time.Minute)
		if err := w.house.clean(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count(`auth_requests`); n != 0 {
			t.Errorf("%d are kept", n)
		}
	})
}

// OP-05: serve knows nothing of what dev and the tests have: no setting of theirs,
// no mailbox, no stand-in for Google, no demo people.
func TestOP05_ServeHasNothingOfDev(t *testing.T) {
	sh, at := serveShell(t, dbtest.URL(t, "sqlite"))
	for _, variable := range []string{"HARMONY_ID_TEST=1", "HARMONY_ID_TEST_POSTGRES=postgres://x", "HARMONY_ID_DEV=1", "HARMONY_ID_CLOCK=0", "HARMONY_ID_MAIL_ADDR=127.0.0.1:1", "HARMONY_ID_ACME_ADDR=127.0.0.1:1", "HARMONY_ID_FRESH=1"} {
		name, _, _ := strings.Cut(variable, "=")
		sh.with(variable).run("", "serve").want(exitUsage, name)
	}
	sh.start("serve")
	for _, path := range []string{"/mail", "/mailbox", "/demo", "/dev", "/google", "/login/google", "/login/google/callback"} {
		if status, _ := fetch(t, http.DefaultClient, at+path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	if _, body := fetch(t, http.DefaultClient, at+"/login"); strings.Contains(body, "Google") || strings.Contains(body, "demo") {
		t.Errorf("the sign-in page offers what is not set:\n%s", body)
	}
}
