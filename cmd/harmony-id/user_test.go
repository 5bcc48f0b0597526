package main

import (
	"encoding/base32"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// A desk is a shell of the support's beside a provider that has the same database
// open.
type desk struct {
	shell
	db       *db.DB
	accounts *account.Store
	keys     string // the file of the encryption keys
}

// newDesk returns a desk on a fresh database of the engine. Ada and Bob have accounts.
func newDesk(t *testing.T, engine string) *desk {
	t.Helper()
	at := dbtest.URL(t, engine)
	k := &desk{shell: shell{t, []string{"HARMONY_ID_DATABASE_URL=" + at}}, keys: filepath.Join(t.TempDir(), "keys.txt")}
	text := secret.GenerateKeyFile()
	write(t, k.keys, string(text))
	k.db = must(db.Open(t.Context(), at))(t)
	t.Cleanup(func() { k.db.Close() })
	k.accounts = account.New(k.db, must(secret.ParseRing(text))(t), account.Config{})
	for email, password := range map[string]string{adaEmail: adaPassword, bobEmail: bobPassword} {
		must(k.accounts.CreateUser(t.Context(), account.NewUser{Email: email, Name: "Somebody", Password: password}, operator()))(t)
	}
	return k
}

const (
	chromeOnMac    = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
	firefoxOnLinux = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
)

// try is an attempt to sign in.
func (k *desk) try(email, password, userAgent string) (token string, err error) {
	l, err := k.accounts.CheckPassword(k.t.Context(), account.Attempt{Email: email, Password: password, Device: visitor(userAgent)})
	if err != nil {
		return "", err
	}
	p, err := k.accounts.Complete(k.t.Context(), l, "", "")
	return p.Session, err
}

func (k *desk) signIn(email, password, userAgent string) (token string) {
	k.t.Helper()
	return must(k.try(email, password, userAgent))(k.t)
}

func visitor(userAgent string) account.Device {
	return account.Device{Address: "192.0.2.10", Network: "192.0.2.10/32", UserAgent: userAgent}
}

// lives reports whether a session's token opens anything.
func (k *desk) lives(token string) bool {
	k.t.Helper()
	_, err := k.accounts.Session(k.t.Context(), token)
	if err != nil && !errors.Is(err, account.ErrNoSession) {
		k.t.Fatal(err)
	}
	return err == nil
}

// enable turns 2FA on for the person of a session, who goes on under a new token.
func (k *desk) enable(token string) string {
	k.t.Helper()
	ctx := k.t.Context()
	in := must(k.accounts.Session(ctx, token))(k.t)
	if err := k.accounts.Enroll(ctx, in, account.PurposeTOTP, false); err != nil {
		k.t.Fatal(err)
	}
	e := must(k.accounts.Enrollment(ctx, in, account.PurposeTOTP))(k.t)
	a := app{key: must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Key))(k.t)}
	return must(k.accounts.EnableTwoFactor(ctx, in, a.code(), false, visitor(chromeOnMac)))(k.t)
}

// letters are what people are yet to be told of, by kind.
func (k *desk) letters() map[string]account.Letter {
	k.t.Helper()
	all := map[string]account.Letter{}
	for _, l := range must(k.accounts.ClaimLetters(k.t.Context(), 100))(k.t) {
		all[l.Kind] = l
	}
	return all
}

// told checks that the person hears of an operator's act by email.
func (k *desk) told(kind, email string) account.Letter {
	k.t.Helper()
	l, ok := k.letters()[kind]
	if !ok || l.Email != email || l.Actor != operator() {
		k.t.Errorf("%s is told of %s by %s: %v, want %s and %s", l.Email, kind, l.Actor, ok, email, operator())
	}
	return l
}

func member(t *testing.T, m map[string]any, name string) map[string]any {
	t.Helper()
	inner, ok := m[name].(map[string]any)
	if !ok {
		t.Fatalf("%s = %v", name, m[name])
	}
	return inner
}

// AD-05: a reset of two-factor authentication has a case, ends every session and is
// told at once.
func TestUserReset2FA(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		reset := func(args ...string) ran { return k.run("", append([]string{"user", "reset-2fa"}, args...)...) }
		reset(adaEmail, "--yes").want(exitUsage, "--case")
		reset(adaEmail, "--yes", "--case", " ").want(exitRefused, "case: is empty")
		reset(adaEmail, "--yes", "--case", strings.Repeat("9", 61)).want(exitRefused, "case: is longer than 60")
		reset("nobody@example.com", "--yes", "--case", "4711").want(exitNotFound, "no such person")
		reset(adaEmail, "--yes", "--case", "4711").want(exitRefused, adaEmail+": two-factor authentication is off")

		token := k.enable(k.signIn(adaEmail, adaPassword, chromeOnMac))
		k.letters()
		k.run("", "user", "show", adaEmail).want(0, "on since", "10 of 10 backup codes left")
		shown := k.run("", "user", "show", adaEmail, "-o", "json").want(0)
		two := member(t, shown.object(userDetail{}), "two_factor")
		shown.fields(two, twoFactorResult{})
		if two["backup_codes_left"] != 10.0 || two["backup_codes_total"] != 10.0 || two["paused"] != false || two["enabled_at"] == nil {
			t.Errorf("two_factor = %v", two)
		}

		reset(adaEmail, "--case", "4711").want(exitUsage, "--yes")
		if !k.lives(token) {
			t.Fatal("a reset that was not confirmed ended the session")
		}
		if u := reset(adaEmail, "--case", "4711", "--yes", "-o", "json").want(0).object(userDetail{}); u["two_factor"] != nil {
			t.Errorf("after the reset: %v", u["two_factor"])
		}
		if k.lives(token) {
			t.Error("a session outlives the reset")
		}
		if l := k.told(account.EventTwoFactorReset, adaEmail); l.Detail.Case != "4711" {
			t.Errorf("the mail names case %q", l.Detail.Case)
		}
		k.signIn(adaEmail, adaPassword, chromeOnMac) // with the password alone
		reset(adaEmail, "--case", "4711", "--yes").want(exitRefused, "two-factor authentication is off")
	})
}

// link checks a result with a link and returns where the link leads.
func (r ran) link(issuer string, life time.Duration) string {
	r.t.Helper()
	m := r.object(linkResult{})
	r.fields(member(r.t, m, "user"), userResult{})
	link, _ := m["link"].(string)
	path, ok := strings.CutPrefix(link, issuer)
	if !ok || !strings.HasPrefix(path, "/login/reset?token=") {
		r.t.Fatalf("the link is %q", link)
	}
	until := must(time.Parse(time.RFC3339, fmt.Sprint(m["expires_at"])))(r.t)
	if off := time.Until(until) - life; off > 0 || off < -time.Minute {
		r.t.Errorf("it works until %s, which is %s off", until, off)
	}
	return path
}

// AD-03: operators set no passwords. The link that they hand over opens the page,
// and an older one does not.
func TestUserLinks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		link := func(args ...string) ran { return k.run("", append([]string{"user", "reset-link"}, args...)...) }
		invite := func(args ...string) ran { return k.run("", append([]string{"user", "invite"}, args...)...) }
		eve := []string{"--email", "Eve@example.com", "--name", "Eve"}

		// Before the first start nobody knows the provider's address.
		link(adaEmail).want(exitUsage, "HARMONY_ID_ISSUER=https://id.example.com")
		invite(eve...).want(exitUsage, "HARMONY_ID_ISSUER=https://id.example.com")
		k.run("", "user", "show", "eve@example.com").want(exitNotFound)
		link(adaEmail, "--issuer", "http://id.test").want(exitUsage, "--issuer", "write https://id.test")
		early := link(adaEmail, "--issuer", issuer, "-o", "json").want(0).link(issuer, 24*time.Hour)
		if err := idp.FreezeIssuer(t.Context(), k.db, issuer, false); err != nil {
			t.Fatal(err)
		}
		link(adaEmail, "--issuer", "https://other.test").want(exitUsage, "--issuer", issuer, "https://other.test")

		w := &world{t: t, db: k.db, ring: theRing(), log: &lockedBuffer{}}
		w.lendKeys()
		w.house = w.newReplica()
		w.keepKeys()
		k.letters()
		path := link(adaEmail, "--expires", "2h", "-o", "json").want(0).link(issuer, 2*time.Hour)
		k.told(account.EventResetLinkMade, adaEmail)
		p := w.newBrowser().get(path)
		p.want(http.StatusOK, "/login/reset")
		p.wantText(adaEmail)
		w.newBrowser().get(early).want(http.StatusGone, "/login/reset")

		made := invite(append(eve, "--email-verified", "-o", "json")...).want(0)
		path = made.link(issuer, 7*24*time.Hour)
		if u := member(t, made.object(linkResult{}), "user"); u["email"] != "eve@example.com" || u["has_password"] != false || u["email_verified"] != true {
			t.Errorf("the invited person is %v", u)
		}
		p = w.newBrowser().get(path)
		p.want(http.StatusOK, "/login/reset")
		p.wantText("eve@example.com")
		k.run("", "user", "show", "eve@example.com").want(0, "no password", "harmony-id user reset-link")
		invite(eve...).want(exitRefused, "another account has this email address", "harmony-id user reset-link")
		link("eve@example.com").want(0, issuer+"/login/reset?token=", "only time", "eve@example.com")
		w.newBrowser().get(path).want(http.StatusGone, "/login/reset")
	})
}

func TestUserLinkRefusals(t *testing.T) {
	k := newDesk(t, "sqlite")
	k.shell = k.with("HARMONY_ID_ISSUER=" + issuer)
	must(k.accounts.CreateUser(t.Context(), account.NewUser{Email: "gus@example.com", Name: "Gus", Method: account.MethodGoogle}, operator()))(t)
	k.run("", "user", "disable", bobEmail).want(0)
	unknown := filepath.Join(t.TempDir(), "claims.json")
	write(t, unknown, `{"admin":true}`)
	for _, c := range []struct {
		args string
		code int
		said string
	}{
		{"reset-link nobody@example.com", exitNotFound, "no such person"},
		{"reset-link gus@example.com", exitRefused, "gus@example.com: this person signs in with Google"},
		{"reset-link " + bobEmail, exitRefused, "harmony-id user enable"},
		{"reset-link " + adaEmail + " --expires 1s", exitUsage, "--expires is 1s: write a time from 1m0s to 720h0m0s"},
		{"reset-link " + adaEmail + " --expires 721h", exitUsage, "--expires is 721h0m0s"},
		{"reset-link " + adaEmail + " --expires soon", exitUsage, "soon"},
		{"invite --name Eve", exitUsage, "--email"},
		{"invite --email eve@example.com", exitUsage, "--name"},
		{"invite --name Eve --email eve", exitRefused, "email"},
		{"invite --name Eve --email eve@example.com --expires 0s", exitUsage, "--expires is 0s"},
		{"invite --name Eve --email eve@example.com --claims-file " + unknown, exitUsage, "admin"},
		{"invite --name Eve --email eve@example.com --password-stdin", exitUsage, "unknown flag --password-stdin"},
	} {
		if r := k.run(goodPassword, append([]string{"user"}, strings.Fields(c.args)...)...).want(c.code, c.said); strings.Contains(r.stdout, "token=") {
			t.Errorf("%s prints a link: %s", c.args, r.stdout)
		}
	}
	k.run("", "user", "show", "eve@example.com").want(exitNotFound)
}

// On a new machine an invitation may be the first command.
func TestInviteFirst(t *testing.T) {
	sh := shell{t, []string{"HARMONY_ID_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "new.db"), "HARMONY_ID_ISSUER=" + issuer}}
	sh.run("", "user", "invite", "--email", adaEmail, "--name", "Ada", "-o", "json").want(0).link(issuer, 7*24*time.Hour)
}

func TestUserSessions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		list := func(email string) []map[string]any {
			t.Helper()
			return k.run("", "user", "sessions", "list", email, "-o", "json").want(0).objects(sessionResult{})
		}
		end := func(args ...string) ran { return k.run("", append([]string{"user", "sessions", "end"}, args...)...) }
		if all := list(adaEmail); len(all) != 0 {
			t.Errorf("sessions of nobody: %v", all)
		}
		k.run("", "user", "sessions", "list", "nobody@example.com").want(exitNotFound, "no such person")
		end("nobody@example.com", "--all", "--yes").want(exitNotFound, "no such person")

		first, second := k.signIn(adaEmail, adaPassword, chromeOnMac), k.signIn(adaEmail, adaPassword, firefoxOnLinux)
		bobs := k.signIn(bobEmail, bobPassword, "")
		k.letters()
		k.run("", "user", "sessions", "list", adaEmail).want(0, "BROWSER", "Chrome", "macOS", "Firefox", "Linux", "192.0.2.10", "pwd")
		all := list(adaEmail)
		if len(all) != 2 {
			t.Fatalf("sessions = %v", all)
		}
		id := ""
		for _, s := range all {
			if s["browser"] == "Chrome" {
				id = fmt.Sprint(s["id"])
			}
			if s["address"] != "192.0.2.10" || s["place"] != "" || fmt.Sprint(s["amr"]) != "[pwd]" || s["created_at"] == nil || s["seen_at"] == nil {
				t.Errorf("session = %v", s)
			}
		}
		k.run("", "user", "sessions", "list", adaEmail, "--geoip-file", k.keys).want(exitUsage, "--geoip-file", k.keys)

		end(adaEmail).want(exitUsage, "--all")
		end(adaEmail, id, "--all").want(exitUsage, "--all")
		end(adaEmail, "ses_none").want(exitNotFound, adaEmail+" has no session ses_none")
		end(adaEmail, fmt.Sprint(list(bobEmail)[0]["id"])).want(exitNotFound, "has no session")
		if m := end(adaEmail, id, "-o", "json").want(0).object(sessionsEnded{}); m["ended"] != 1.0 {
			t.Errorf("ended = %v", m)
		}
		k.told(account.EventSessionEnded, adaEmail)
		if k.lives(first) || !k.lives(second) || !k.lives(bobs) {
			t.Error("it ended another session than the one that was named")
		}
		end(adaEmail, id).want(exitNotFound, "has no session")

		end(adaEmail, "--all").want(exitUsage, "--yes")
		if !k.lives(second) {
			t.Fatal("what was not confirmed ended the session")
		}
		end(adaEmail, "--all", "--yes").want(0, "Sessions ended", "1")
		k.told(account.EventSessionsEnded, adaEmail)
		if m := end(adaEmail, "--all", "--yes", "-o", "json").want(0).object(sessionsEnded{}); m["ended"] != 0.0 {
			t.Errorf("ended again = %v", m)
		}
		if k.lives(second) || !k.lives(bobs) {
			t.Error("it did not end all of hers, or some of Bob's")
		}
	})
}

// show says why sign-in is refused and until when, and unthrottle ends it.
func TestUserUnthrottle(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		refused := func(r ran) []any {
			t.Helper()
			limits, _ := r.want(0).object(userDetail{})["refused"].([]any)
			for _, l := range limits {
				r.fields(l.(map[string]any), refusalResult{})
			}
			return limits
		}
		show := func(args ...string) ran { return k.run("", append([]string{"user", "show", adaEmail}, args...)...) }
		unthrottle := func(args ...string) ran {
			return k.run("", append([]string{"user", "unthrottle", adaEmail}, args...)...)
		}
		withKeys := []string{"--encryption-keys-file", k.keys, "-o", "json"}

		k.enable(k.signIn(adaEmail, adaPassword, chromeOnMac))
		if limits := refused(show(withKeys...)); limits == nil || len(limits) != 0 {
			t.Errorf("refused before anything = %v", limits)
		}
		for {
			_, err := k.try(adaEmail, "not her password", chromeOnMac)
			if _, full := errors.AsType[*account.ThrottledError](err); full {
				break
			}
			if !errors.Is(err, account.ErrWrong) {
				t.Fatal(err)
			}
		}
		if limits := refused(show("-o", "json")); limits != nil {
			t.Errorf("refused without keys = %v", limits)
		}
		show().want(0, "--encryption-keys-file")
		limits := refused(show(withKeys...))
		if len(limits) != 1 || limits[0].(map[string]any)["limit"] != "password/account-network" {
			t.Fatalf("refused = %v", limits)
		}
		until := limits[0].(map[string]any)["until"].(string)
		if at := must(time.Parse(time.RFC3339, until))(t); time.Until(at) > 15*time.Minute || time.Until(at) < -time.Second {
			t.Errorf("refused until %s", until)
		}
		show("--encryption-keys-file", k.keys).want(0, "Refused", "passwords, from one network, until "+until)

		// Codes are paused too.
		must(k.db.Exec(t.Context(), `UPDATE totp SET failures = 100`))(t)
		show().want(0, "codes of the app, after too many wrong ones, until a backup code is used or harmony-id user unthrottle")
		limits = refused(show(withKeys...))
		if len(limits) != 2 || limits[0].(map[string]any)["limit"] != "codes" || limits[0].(map[string]any)["until"] != nil {
			t.Fatalf("refused = %v", limits)
		}

		unthrottle().want(exitUsage, "HARMONY_ID_ENCRYPTION_KEYS_FILE")
		k.run("", "user", "unthrottle", "nobody@example.com", "--encryption-keys-file", k.keys).want(exitNotFound, "no such person")
		r := unthrottle(withKeys...)
		if limits := refused(r); limits == nil || len(limits) != 0 {
			t.Errorf("refused after unthrottle = %v", limits)
		}
		if two := member(t, r.object(userDetail{}), "two_factor"); two["paused"] != false {
			t.Errorf("two_factor = %v", two)
		}
		if half, err := k.try(adaEmail, adaPassword, chromeOnMac); err != nil || half != "" {
			t.Errorf("after unthrottle: %v, or a session without a code", err)
		}
		k.run("", "user", "disable", adaEmail).want(0)
		show().want(0, "every sign-in, until harmony-id user enable")
	})
}

// Limits are kept under the encryption keys: with others none would be found, and
// none lifted.
func TestUnthrottleWithOtherKeys(t *testing.T) {
	k := newDesk(t, "sqlite")
	if err := idp.EnsureKeys(t.Context(), k.db, theRing()); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"show", "unthrottle"} {
		k.run("", "user", verb, adaEmail, "--encryption-keys-file", k.keys).want(exitFailed, "encryption key")
		k.run("", "user", verb, adaEmail, "--encryption-keys-file", filepath.Join(t.TempDir(), "none")).want(exitUsage, "--encryption-keys-file", "no such file")
	}
}
