package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/harmony/id/backup"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/secret"
)

func (w *world) backup() []byte {
	w.t.Helper()
	var b bytes.Buffer
	must(backup.Create(w.t.Context(), w.db, &b, sealedColumns(), nil))(w.t)
	return b.Bytes()
}

// restored is the world after its database was lost and restored into an engine.
// What was registered is as it was.
func (w *world) restored(text []byte, engine string, drill bool) *world {
	w.t.Helper()
	after := &world{t: w.t, db: dbtest.New(w.t, engine), ring: w.ring, log: w.log, ada: w.ada, bob: w.bob, acme: w.acme}
	if _, _, err := restore(w.t.Context(), after.db, bytes.NewReader(text), nil, w.ring, drill); err != nil {
		w.t.Fatal(err)
	}
	after.house = after.newReplica()
	after.acme.w = after
	return after
}

// moved is the same browser, before another world's provider.
func (b *browser) moved(w *world) *browser {
	m := b.at(w.house)
	m.w = w
	return m
}

// ST-14: after a restore, into either engine, everybody is who they were, nobody is
// signed in, and nothing that works once works.
func TestRestoreEndsWhatWasUnderWay(t *testing.T) {
	for _, to := range dbtest.Engines {
		t.Run("into "+to, func(t *testing.T) {
			onEach(t, func(t *testing.T, w *world) {
				listener := w.listens("listener")
				ring := newKeyring(t, "ES256")
				keyed := w.register(ring.client("keyed"))
				w.forget()
				ada := w.newBrowser()
				k := ada.connect(listener, adaEmail, adaPassword)
				a := ada.enable()
				time.Sleep(time.Minute)

				f, code := ada.again(w.acme)
				half := w.browserAt(w.house, "192.0.2.20")
				halfPage := half.half(adaEmail, adaPassword)
				link := must(w.house.accounts.MakeLink(t.Context(), w.bob.ID, time.Hour, operator()))(t)
				w.mails()
				w.newBrowser().forgot(adaEmail).wantStatus(http.StatusSeeOther)
				text := w.backup()
				seen, next := a.codeAt(a.now()), a.codeAt(a.now()+1) // used after the backup was made
				assertion := ring.assertion("keyed")()
				after := w.restored(text, to, false)
				listener.w, keyed.w, f.rp.w = after, after, after

				if got := after.told(); !slices.Equal(got, []string{"listener.test " + sid(k)}) {
					t.Errorf("told: %q", got)
				}
				if ada.moved(after).signedIn() {
					t.Error("a session goes on")
				}
				if p := half.moved(after).verify(halfPage, a.code()); p.url.Path != "/login" {
					t.Errorf("a half sign-in goes on at %s", p.url)
				}
				after.dead(listener, k)
				f.redeem(code).refused(http.StatusBadRequest, "invalid_grant")
				after.newBrowser().reset("/login/reset?token="+link, newPassword).wantStatus(http.StatusGone)
				for _, m := range after.mails() {
					if strings.Contains(m.Text, "/login/reset?token") {
						t.Errorf("a link is mailed: %s", m.Subject)
					}
				}
				keyed.assert = func() string { return assertion }
				keyed.post(url.Values{"grant_type": {"client_credentials"}}).refused(http.StatusUnauthorized, "invalid_client")
				for _, old := range []string{seen, next} {
					b := after.browserAt(after.house, "192.0.2.50")
					if b.verify(b.half(adaEmail, adaPassword), old); b.signedIn() {
						t.Error("a code from before the restore signs in")
					}
				}

				time.Sleep(time.Minute)
				b := after.browserAt(after.house, "192.0.2.51")
				b.verify(b.half(adaEmail, adaPassword), a.code()).want(http.StatusOK, "/preferences/security")
				after.browserAt(after.house, "192.0.2.52").connect(after.acme, bobEmail, bobPassword)
				keyed.assert = ring.assertion("keyed")
				keyed.post(url.Values{"grant_type": {"client_credentials"}}).refusedNot()
				if n := after.count(`events WHERE kind = 'database_restored' AND actor LIKE 'operator:%'`); n != 1 {
					t.Errorf("%d events say that the database was restored", n)
				}
			})
		})
	}
}

// In a drill nobody is told of anything.
func TestRestoreDrill(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		listener := w.listens("listener")
		w.forget()
		b := w.newBrowser()
		b.connect(listener, adaEmail, adaPassword)
		b.enable()
		after := w.restored(w.backup(), "sqlite", true)
		if got := after.told(); got != nil {
			t.Errorf("workspaces are told: %q", got)
		}
		if got := after.mails(); got != nil {
			t.Errorf("people are told: %+v", got)
		}
		if got := w.restored(w.backup(), "sqlite", false).mails(); len(got) == 0 {
			t.Error("after a restore in earnest nobody is told what they were to be told")
		}
	})
}

// A backup by the commands: from each engine into each, encrypted or not, through a
// file or a pipe; what it is refused for changes nothing.
func TestBackupCommands(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		k.enable(k.signIn(adaEmail, adaPassword, chromeOnMac))
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		identity := must(age.GenerateX25519Identity())(t)
		write(t, at("identity.txt"), identity.String()+"\n")
		write(t, at("recipients.txt"), "# us\n"+identity.Recipient().String()+"\n")
		write(t, at("other.txt"), string(secret.GenerateKeyFile()))
		ring := must(secret.ParseRing(must(os.ReadFile(k.keys))(t)))(t)

		k.run("", "backup", "create", "-o", at("plain")).want(0, "users 2", ring.KeyID()+" (1 values)")
		if info := must(os.Stat(at("plain")))(t); info.Mode().Perm() != 0o600 {
			t.Errorf("the backup's mode is %v", info.Mode())
		}
		k.run("", "backup", "create", "-o", at("plain")).want(exitRefused, "exists already")
		k.run("", "backup", "create", "-o", at("sealed"), "--recipient", identity.Recipient().String()).want(0, "Encrypted", "yes")
		k.run("", "backup", "create", "-o", at("sealed too"), "--recipients-file", at("recipients.txt")).want(0)
		k.run("", "backup", "create", "-o", at("x"), "--recipient", "age1nobody").want(exitUsage, "--recipient")
		k.run("", "backup", "create", "-o", at("x"), "--recipients-file", at("nowhere")).want(exitUsage, "--recipients-file")
		k.run("", "backup", "create", "-o", at("no/where")).want(exitFailed)
		piped := k.run("", "backup", "create").want(0)
		if !strings.Contains(piped.stderr, "users 2") {
			t.Errorf("on stderr: %s", piped.stderr)
		}

		none := shell{t, nil} // needs no database
		v := none.run("", "backup", "verify", at("sealed too"), "--identity-file", at("identity.txt"), "--encryption-keys-file", k.keys, "-o", "json").want(0).object(backupResult{})
		if v["encrypted"] != true || v["engine"] != engine || !reflect.DeepEqual(v["encryption_keys"], map[string]any{ring.KeyID(): 1.0}) || member(t, v, "rows")["users"] != 2.0 || v["values_opened"] != 1.0 {
			t.Errorf("verify = %v", v)
		}
		none.run("", "backup", "verify", at("plain"), "--encryption-keys-file", k.keys).want(0, "Opened", "1 values")
		if r := none.run("", "backup", "verify", at("plain")).want(0); strings.Contains(r.stdout, "Opened") {
			t.Errorf("without keys: %s", r.stdout)
		}
		none.run(piped.stdout, "backup", "verify", "-").want(0, "Needs the keys")
		none.run(piped.stdout[:len(piped.stdout)-3], "backup", "verify", "-").want(exitFailed, "damaged or cut off")
		none.run("", "backup", "verify", at("sealed")).want(exitUsage, "--identity-file")
		none.run("", "backup", "verify", at("nowhere")).want(exitUsage, "nowhere")
		none.run("", "backup", "verify", at("plain"), "--encryption-keys-file", at("other.txt")).want(exitRefused, ring.KeyID())

		for _, to := range dbtest.Engines {
			empty := shell{t, []string{"HARMONY_ID_DATABASE_URL=" + dbtest.Empty(t, to)}}
			empty.run("", "restore", at("plain"), "--encryption-keys-file", at("other.txt")).want(exitRefused, ring.KeyID())
			empty.run(piped.stdout[:len(piped.stdout)-3], "restore", "-").want(exitFailed, "damaged")
			empty.run("", "user", "list").want(exitPending)
			r := empty.run("", "restore", at("sealed"), "--identity-file", at("identity.txt"), "--encryption-keys-file", k.keys, "-o", "json").want(0).object(restoreResult{})
			if rows := member(t, member(t, r, "backup"), "rows"); rows["users"] != 2.0 || rows["totp"] != 1.0 || member(t, r, "backup")["values_opened"] != 1.0 {
				t.Errorf("restore = %v", r)
			}
			shown := empty.run("", "user", "show", adaEmail, "-o", "json").want(0).object(userDetail{})
			if member(t, shown, "two_factor") == nil {
				t.Errorf("Ada = %v", shown)
			}
			empty.run("", "restore", at("plain")).want(exitRefused, "has rows already")
			// Without the keys it says which ones serve needs.
			shell{t, []string{"HARMONY_ID_DATABASE_URL=" + dbtest.Empty(t, to)}}.run(piped.stdout, "restore", "-").want(0, "needs the encryption keys "+ring.KeyID())
		}
	})
}

// A backup of a schema that the program does not know, or of one before the
// database's, is refused and says what to do.
func TestRestoreOtherSchema(t *testing.T) {
	k := newDesk(t, "sqlite")
	text := k.run("", "backup", "create").want(0).stdout
	edit := func(old, anew string) string {
		plain := string(must(io.ReadAll(must(gzip.NewReader(strings.NewReader(text)))(t)))(t))
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		must(io.WriteString(w, strings.Replace(plain, old, anew, 1)))(t)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	v := must(version())(t)
	now := fmt.Sprintf(`"schema":%d`, v.SchemaVersion)
	migrated := onDatabase(t, "sqlite")
	migrated.run(edit(now, `"schema":9999`), "restore", "-").want(exitPending, "the backup was written by a newer program (step 9999", "run the newer program")
	migrated.run(edit(now, `"schema":1`), "restore", "-").want(exitFailed, "step 1 of the schema is")
	migrated.run(edit(now+`,"step":"`, `"schema":1,"step":"0001_house","was":"`), "restore", "-").want(exitPending, "no migration was run on")
}
