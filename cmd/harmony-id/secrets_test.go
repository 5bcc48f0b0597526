package main

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/rewrap"
	"github.com/harmony/id/secret"
)

// No sealed column is forgotten: each of the schema is known to the commands, with
// its table's primary key.
func TestEverySealedColumn(t *testing.T) {
	dbtest.EachDB(t, func(t *testing.T, d *db.DB) {
		var there, known []string
		err := d.Snapshot(t.Context(), func(tx *db.Tx) error {
			tables, err := tx.Tables(t.Context())
			for _, table := range tables {
				for _, c := range table.Columns {
					if c.Name == "sealed" || strings.HasSuffix(c.Name, "_sealed") {
						there = append(there, table.Name+"."+c.Name)
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range sealedColumns() {
			known = append(known, c.Table+"."+c.Column)
		}
		slices.Sort(known)
		if !slices.Equal(there, known) {
			t.Errorf("the schema has %q,\nand account.Sealed and idp.Sealed know %q", there, known)
		}
	})
}

// CR-04: the encryption key changes while everything runs: replicas that have both keys,
// in whatever order, serve before, while and after everything is sealed anew, and
// in the end the old key is needed by nothing.
func TestEncryptionKeyChanges(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		parse := func(text ...[]byte) *secret.Ring {
			return must(secret.ParseRing(slices.Concat(text...)))(t)
		}
		fresh := secret.GenerateKeyFile()
		behind, front, alone := parse(theKeys(), fresh), parse(fresh, theKeys()), parse(fresh)
		ada, a := w.twoFactor()
		one := w.newBrowser()
		one.signIn(bobEmail, bobPassword)
		one.setUp() // waits for its code
		w.newBrowser().forgot(adaEmail).wantStatus(http.StatusSeeOther)

		w.ring = behind
		early := w.newReplica()
		w.ring = front
		late := w.newReplica()
		signsIn := func(h *house) {
			t.Helper()
			time.Sleep(time.Minute)
			b := w.browserAt(h, "192.0.2.77")
			b.verify(b.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")
			f, code := b.again(w.acme)
			f.redeem(code).ok()
		}
		signsIn(early)
		signsIn(late)
		two := w.browserAt(late, "192.0.2.78")
		two.signIn(bobEmail, bobPassword)

		r, err := rewrap.Run(t.Context(), w.db, front, sealedColumns())
		if err != nil || r.Refused != 0 || r.Resealed < 3 {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, u := range must(rewrap.Uses(t.Context(), w.db, sealedColumns()))(t) {
			if u.KeyID != alone.KeyID() {
				t.Errorf("%d values of %s are sealed with %q", u.Values, u.Column.Table, u.KeyID)
			}
		}
		signsIn(early)
		signsIn(late)
		w.ring = alone
		last := w.newReplica()
		signsIn(last)
		if !ada.at(last).signedIn() {
			t.Error("a session ended with the key")
		}
		// What was on the way goes on.
		if p := one.at(last).get(pathTwoFactor); len(p.backupCodes()) == 0 {
			t.Errorf("the set-up does not open: %d", p.status)
		}
		w.house = last
		if !slices.ContainsFunc(w.mails(), func(m mail.Message) bool { return m.To == adaEmail && strings.Contains(m.Subject, "Reset") }) {
			t.Error("the reset that was asked for before is not mailed")
		}
	})
}

// The commands say which keys are needed, and end with 4 if one is missing.
func TestSecretsCommands(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		token := k.enable(k.signIn(adaEmail, adaPassword, chromeOnMac))
		old := must(secret.ParseRing(must(os.ReadFile(k.keys))(t)))(t)
		fresh := secret.GenerateKeyFile()
		newID := must(secret.ParseRing(fresh))(t).KeyID()
		mixed, alone := filepath.Join(t.TempDir(), "mixed.txt"), filepath.Join(t.TempDir(), "alone.txt")
		write(t, mixed, string(fresh)+string(must(os.ReadFile(k.keys))(t)))
		write(t, alone, string(fresh))

		k.run("", "secrets", "check").want(exitUsage, "--encryption-keys-file")
		uses := k.run("", "secrets", "check", "--encryption-keys-file", mixed, "-o", "json").want(0).objects(sealedResult{})
		if len(uses) != 1 || uses[0]["table"] != "totp" || uses[0]["key_id"] != old.KeyID() || uses[0]["values"] != 1.0 || uses[0]["current"] != false || uses[0]["known"] != true {
			t.Errorf("check = %v", uses)
		}
		k.run("", "secrets", "check", "--encryption-keys-file", alone).want(exitRefused, "not in the file", old.KeyID())
		k.run("", "secrets", "rewrap", "--encryption-keys-file", alone).want(exitRefused, "not in the file", old.KeyID())
		k.run("", "secrets", "rewrap", "--encryption-keys-file", mixed).want(0, "1 values were sealed with "+newID, "current")
		k.run("", "secrets", "rewrap", "--encryption-keys-file", mixed).want(0, "0 values were sealed")
		k.run("", "secrets", "check", "--encryption-keys-file", alone).want(0, "current", newID)
		// Another key of the same name.
		write(t, alone, newID+":"+base64.StdEncoding.EncodeToString(secret.Hash(secret.Token(""))))
		k.run("", "secrets", "check", "--encryption-keys-file", alone).want(exitRefused, "1 values do not open")
		k.run("", "secrets", "rewrap", "--encryption-keys-file", alone).want(exitRefused, "nothing was sealed")
		if !k.lives(token) {
			t.Error("a session ended")
		}
	})
}
