package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// examined is what doctor finds, by check.
func (s shell) examined(code int, args ...string) map[string]checkResult {
	s.t.Helper()
	all := map[string]checkResult{}
	for _, r := range s.run("", append([]string{"doctor", "-o", "json"}, args...)...).want(code).objects(checkResult{}) {
		one := checkResult{r["check"].(string), r["state"].(string), r["found"].(string), r["fix"].(string)}
		if (one.State == stateOK) != (one.Fix == "") {
			s.t.Errorf("%s is %s, and what to do is %q", one.Check, one.State, one.Fix)
		}
		all[one.Check] = one
	}
	return all
}

func (r checkResult) want(t *testing.T, state, said string) {
	t.Helper()
	if r.State != state || !strings.Contains(r.Found+" "+r.Fix, said) {
		t.Errorf("%+v, want %s and %q", r, state, said)
	}
}

// A provider that is well is well in every line, and whatever happens to it stands in
// its line with what to do.
func TestDoctor(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		where := dbtest.Empty(t, engine)
		sh, at := serveShell(t, where)
		sh = sh.with("HARMONY_ID_ADMIN_ADDR=127.0.0.1:" + freePort())
		mail := func() shell {
			server, _ := mailServer(t, nil)
			return sh.with("HARMONY_ID_SMTP_URL=smtp://" + server)
		}
		if engine == "postgres" {
			mail().examined(exitFailed)["schema"].want(t, stateFail, "run harmony-id migrate up")
			sh.run("", "migrate", "up").want(0)
		}
		r := sh.start("serve")
		well := mail().examined(0)
		for _, check := range []string{"settings", "database", "schema", "encryption keys", "issuer", "clock", "signing keys", "mail outbox", "logout outbox", "serving here", "reachable", "JWKS", "proxies", "mail"} {
			well[check].want(t, stateOK, "")
		}
		well["TLS"].want(t, stateWarn, "https://") // which an issuer on this machine may be without
		mail().run("", "doctor").want(0, "STATE", "ok", "→ before others than this machine use it")

		// A mail, and a mail server that refuses.
		server, heard := mailServer(t, nil)
		sh.with("HARMONY_ID_SMTP_URL=smtp://"+server).examined(0, "--mail-to", "ada@example.com")["mail"].want(t, stateOK, "took a mail")
		if said := <-heard; !strings.Contains(said, "RCPT TO:<ada@example.com>") {
			t.Errorf("the server heard %s", said)
		}
		server, _ = mailServer(t, map[string]string{"AUTH": "535 5.7.8 hunter2 is wrong"})
		refused := sh.with("HARMONY_ID_SMTP_URL=smtp://ada:hunter2@" + server).examined(exitFailed)["mail"]
		refused.want(t, stateFail, "signing in")
		if strings.Contains(refused.Found, "hunter2") {
			t.Errorf("the password is shown: %s", refused.Found)
		}
		mail().run("", "doctor", "--mail-to", "ada").want(exitUsage, "--mail-to")

		// Other encryption keys, another issuer: wrong settings, and serve would say so.
		other := filepath.Join(t.TempDir(), "other.txt")
		write(t, other, string(secret.GenerateKeyFile()))
		mail().with("HARMONY_ID_ENCRYPTION_KEYS_FILE=" + other).examined(exitFailed)["encryption keys"].want(t, stateFail, "name the file")
		moved := mail().with("HARMONY_ID_ISSUER=" + strings.Replace(at, "127.0.0.1", "localhost", 1)).examined(exitFailed)
		moved["issuer"].want(t, stateFail, "HARMONY_ID_ISSUER="+at)
		moved["reachable"].want(t, stateFail, "421")
		mail().with("HARMONY_ID_GOOGLE_CLIENT_ID=x", "HARMONY_ID_GOOGLE_CLIENT_SECRET=y", "HARMONY_ID_GOOGLE_ISSUER=http://127.0.0.1:1", "HARMONY_ID_GOOGLE_OTHER_ISSUER=true").
			examined(exitFailed)["google"].want(t, stateFail, "let this machine reach")

		// What is late, and keys that nobody rotates.
		d := must(db.Open(t.Context(), where))(t)
		defer d.Close()
		exec := func(query string, args ...any) {
			t.Helper()
			must(d.Exec(t.Context(), query, args...))(t)
		}
		sh.run(goodPassword, "user", "create", "--email", "ada@example.com", "--name", "Ada", "--password-stdin").want(0)
		id := sh.run("", "user", "show", "ada@example.com", "-o", "json").want(0).object(userDetail{})["id"]
		late := func(age time.Duration) {
			exec(`DELETE FROM events WHERE id = 'late'`)
			exec(`INSERT INTO events (id, at, user_id, kind, actor, address, user_agent, detail, due_at, tries) VALUES ('late', $1, $2, 'signed_in', 'person', '', '', '{}', $3, 0)`,
				db.Micros(time.Now().Add(-age)), id, db.Micros(time.Now().Add(time.Hour)))
		}
		late(11 * time.Minute)
		mail().examined(0)["mail outbox"].want(t, stateWarn, "waits for 11m")
		late(2 * time.Hour)
		mail().examined(exitFailed)["mail outbox"].want(t, stateFail, "waits for 2h")
		exec(`DELETE FROM events WHERE id = 'late'`)
		exec(`UPDATE signing_keys SET active_at = active_at - $1`, (40 * 24 * time.Hour).Microseconds())
		mail().examined(0)["signing keys"].want(t, stateWarn, "for 40 days")
		if code := r.end(); code != 0 {
			t.Errorf("exit code %d", code)
		}

		// Nobody serves.
		gone := mail().examined(exitFailed)
		gone["serving here"].want(t, stateWarn, "nothing answers")
		gone["reachable"].want(t, stateFail, "refused")
		exec(`UPDATE signing_keys SET retired_at = 1`)
		mail().examined(exitFailed)["signing keys"].want(t, stateFail, "none signs")
	})
}

func TestDoctorWithoutDatabase(t *testing.T) {
	sh, _ := serveShell(t, "postgres://harmony:hunter2@127.0.0.1:1/harmony")
	found := sh.examined(exitFailed)
	found["database"].want(t, stateFail, "start the database")
	if strings.Contains(found["database"].Found, "hunter2") {
		t.Errorf("the password is shown: %s", found["database"].Found)
	}
	if _, ok := found["schema"]; ok {
		t.Error("it says something of the schema of a database that is not there")
	}
}

// What else may stand in a line, and cannot be had from a provider on this machine.
func TestDoctorJudges(t *testing.T) {
	issuer := must(url.Parse("https://id.example.com"))(t)
	examine := func(act func(*examination)) checkResult {
		e := &examination{}
		act(e)
		if len(e.found) != 1 {
			t.Fatalf("found %v", e.found)
		}
		return e.found[0]
	}
	for _, c := range []struct {
		left        time.Duration
		hsts        string
		state, said string
	}{
		{90 * 24 * time.Hour, "max-age=1", stateOK, "TLS 1.3, the certificate ends in 89 days"},
		{90 * 24 * time.Hour, "", stateWarn, "Strict-Transport-Security"},
		{13 * 24 * time.Hour, "max-age=1", stateWarn, "ends in 12 days"},
		{2 * 24 * time.Hour, "max-age=1", stateFail, "ends in 1 days"},
		{-time.Hour, "max-age=1", stateFail, "ends in -1 days"},
	} {
		res := &answered{header: http.Header{}, tls: &tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{{NotAfter: time.Now().Add(c.left)}}}}
		if c.hsts != "" {
			res.header.Set("Strict-Transport-Security", c.hsts)
		}
		examine(func(e *examination) { e.tls(res, &plan{house: houseConfig{issuer: issuer}}) }).want(t, c.state, c.said)
	}
	for _, c := range []struct {
		offset      time.Duration
		engine      string
		state, said string
	}{
		{10 * time.Millisecond, "postgres", stateOK, "agrees"}, {0, "sqlite", stateOK, "no other"},
		{-2 * time.Second, "postgres", stateWarn, "-2s ahead"}, {time.Minute, "postgres", stateFail, "1m0s ahead"},
	} {
		examine(func(e *examination) { e.offset(c.offset, c.engine) }).want(t, c.state, c.said)
	}
	for _, c := range []struct {
		cache       string
		state, said string
	}{
		{"public, max-age=300", stateOK, "for 5m0s"}, {"max-age=86400", stateWarn, "for 24h0m0s"}, {"public", stateWarn, "no max-age"}, {"max-age=x", stateWarn, "no max-age"},
	} {
		p := &plan{house: houseConfig{issuer: issuer, idp: idp.Config{Rotation: idp.DefaultRotation}}}
		examine(func(e *examination) {
			e.jwks(t.Context(), nil, p, "https://id.example.com/jwks", func(string, any) (*answered, error) {
				return &answered{header: http.Header{"Cache-Control": {c.cache}}}, nil
			})
		}).want(t, c.state, c.said)
	}
	for _, c := range []struct {
		settings    serveSettings
		state, said string
	}{
		{serveSettings{HTTPAddr: ":8080"}, stateWarn, "HARMONY_ID_TRUSTED_PROXIES"},
		{serveSettings{HTTPAddr: ":8080", TLSCertFile: "x"}, stateOK, "none"},
		{serveSettings{HTTPAddr: ":8080", TrustedProxies: must(proxies("10.0.0.0/8"))(t)}, stateOK, "10.0.0.0/8"},
	} {
		examine(func(e *examination) { e.proxies(c.settings, &plan{house: houseConfig{issuer: issuer}}) }).want(t, c.state, c.said)
	}
	for where, clear := range map[string]bool{
		"sqlite:x.db": false, "postgres:///harmony": false, "postgres://127.0.0.1/h": false, "postgres://localhost/h?sslmode=disable": false, "postgres:///h?host=/run/postgresql": false,
		"postgres://db.example.com/h": true, "postgres://db.example.com/h?sslmode=require": true, "postgres:///h?host=db.example.com": true,
		"postgres://db.example.com/h?sslmode=verify-full": false, "postgres://db.example.com/h?sslmode=verify-ca": false,
	} {
		if inTheClear(where, nil) != clear {
			t.Errorf("inTheClear(%s) = %v", where, !clear)
		}
	}
	if inTheClear("postgres://db.example.com/h", []string{"PGSSLMODE=verify-full"}) {
		t.Error("PGSSLMODE is not looked at")
	}
}

func proxies(text string) (n networks, err error) {
	err = n.UnmarshalText([]byte(text))
	return n, err
}

// Somebody else's provider, or one with another database, behind the issuer's address.
func TestDoctorMeetsAnother(t *testing.T) {
	answers := map[string]string{}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(answers[r.URL.Path]))
	}))
	defer other.Close()
	sh, _ := serveShell(t, dbtest.URL(t, "sqlite"))
	sh = sh.with("HARMONY_ID_ISSUER=" + other.URL)
	answers["/.well-known/openid-configuration"] = `{"issuer":"https://another.example"}`
	sh.examined(exitFailed)["reachable"].want(t, stateFail, `calls itself "https://another.example"`)
	answers["/.well-known/openid-configuration"] = "<html>"
	sh.examined(exitFailed)["reachable"].want(t, stateFail, "not JSON")
	sh.start("serve").end() // which makes keys
	answers["/.well-known/openid-configuration"] = `{"issuer":"` + other.URL + `","jwks_uri":"` + other.URL + `/jwks"}`
	answers["/jwks"] = `{"keys":[{"kid":"another"}]}`
	sh.examined(exitFailed)["JWKS"].want(t, stateFail, "is not published")
}

func TestHealthcheck(t *testing.T) {
	sh, _ := serveShell(t, dbtest.URL(t, "sqlite"))
	_, port, _ := net.SplitHostPort("127.0.0.1:" + freePort())
	sh = sh.with("HARMONY_ID_ADMIN_ADDR=127.0.0.1:" + port)
	sh.run("", "healthcheck").want(exitFailed, "nothing answers on 127.0.0.1:"+port)
	r := sh.start("serve")
	sh.run("", "healthcheck").want(0, "ok")
	sh.run("", "healthcheck", "--ready").want(0, "ready")
	sh.with("HARMONY_ID_ADMIN_ADDR=:"+port).run("", "healthcheck").want(0, "ok") // as a container says it
	sh.with("HARMONY_ID_ADMIN_ADDR=0.0.0.0:"+port).run("", "healthcheck").want(0, "ok")
	r.end()
	sh.run("", "healthcheck").want(exitFailed)

	// One that runs and is not ready is well, and not ready.
	w := newWorld(t, "sqlite")
	a := w.watched()
	a.draining.Store(true)
	draining := httptest.NewServer(a.handler())
	defer draining.Close()
	sh = sh.with("HARMONY_ID_ADMIN_ADDR=" + strings.TrimPrefix(draining.URL, "http://"))
	sh.run("", "healthcheck").want(0, "ok")
	sh.run("", "healthcheck", "--ready").want(exitFailed, "503 draining")
}
