package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The upgrade of replicas one after the other (OP-04).

// migrateToTomorrow takes the step of a next release, as its migrate up does while this
// one serves: it adds a column to every table, some with a default, a table and an index.
func (w *world) migrateToTomorrow() {
	w.t.Helper()
	tables := `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'`
	if w.db.Engine() == "postgres" {
		tables = `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`
	}
	d := w.open()
	for i, table := range column(w.t, w, tables) {
		if table == "migrations" {
			continue
		}
		add := ` ADD COLUMN of_tomorrow TEXT`
		if i%2 == 0 {
			add = ` ADD COLUMN of_tomorrow BIGINT NOT NULL DEFAULT 0`
		}
		must(d.Exec(w.t.Context(), `ALTER TABLE `+table+add))(w.t)
	}
	for _, text := range []string{
		`CREATE TABLE tomorrow (id TEXT NOT NULL PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE)`,
		`CREATE INDEX tomorrow_user ON tomorrow (user_id)`,
		`INSERT INTO migrations (id, name, checksum, applied_at) VALUES (9999, '9999_of_tomorrow', 'x', 1)`,
	} {
		must(d.Exec(w.t.Context(), text))(w.t)
	}
}

// OP-04: while a replica of this release serves, the schema becomes that of the next
// one. Replicas that were there before and replicas that start after go on with what the
// others began, both ways, and so it stays when the upgrade is called off.
func TestOP04_OldBesideNew(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		before := w.house
		b := w.newBrowser()
		k := b.connect(w.globex, adaEmail, adaPassword)
		f, code := b.again(w.acme)
		waiting := w.newBrowser()
		wf := w.acme.begin()
		wp := waiting.get(wf.url())
		w.mails()
		link := w.link()

		w.migrateToTomorrow()
		after := w.newReplicaOver(w.open())
		w.exec(`INSERT INTO tomorrow (id, user_id) VALUES ('one', $1)`, w.ada.ID)
		w.acme.postAt(after, f.redemption(code), nil).ok()

		both := []*house{before, after}
		for i, h := range both {
			other := both[1-i]
			if !b.at(h).signedIn() {
				t.Fatal("the session is gone")
			}
			// What one begins the other goes on with: the password here, the workspace there.
			c := w.browserAt(h, "192.0.2.77")
			g := w.acme.begin()
			p := c.get(g.url())
			v := p.form("/login")
			v.Set("email", bobEmail)
			v.Set("password", bobPassword)
			at := c.at(other)
			tokens := w.acme.postAt(h, g.redemption(g.code(at.post("/login", v))), nil).ok()
			w.acme.postAt(other, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}}, nil).ok()
			k = w.globex.postAt(h, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {k.RefreshToken}}, nil).ok()
			time.Sleep(31 * time.Second)
			c.at(other).once(http.MethodPost, "/logout", url.Values{}, nil)
			if c.signedIn() {
				t.Error("signed out at one, and signed in at the other")
			}
			w.acme.postAt(h, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}}, nil).refused(http.StatusBadRequest, "invalid_grant")
			if err := h.clean(t.Context()); err != nil {
				t.Error(err)
			}
		}
		// What began before the step ends after it, at the new replica.
		v := wp.form("/login")
		v.Set("email", bobEmail)
		v.Set("password", bobPassword)
		w.acme.postAt(after, wf.redemption(wf.code(waiting.at(after).post("/login", v))), nil).ok()

		// Two-factor authentication is turned on at one and asked for at the other.
		d := w.browserAt(after, "192.0.2.78")
		d.signIn(bobEmail, bobPassword)
		app := d.enable()
		time.Sleep(31 * time.Second)
		e := w.browserAt(before, "192.0.2.79")
		e.verify(e.half(bobEmail, bobPassword), app.code()).want(http.StatusOK, "/preferences/security")

		// The upgrade is called off: replicas of this release start anew on the next one's schema.
		again := w.newReplicaOver(w.open())
		r := w.browserAt(again, "192.0.2.80")
		r.reset(strings.TrimPrefix(link, issuer), newPassword).want(http.StatusOK, "/login")
		r.signIn(adaEmail, newPassword)
		if applied, err := w.open().Migrate(t.Context()); err != nil || len(applied) != 0 {
			t.Errorf("migrating again: %v, %v", applied, err)
		}
	})
}
