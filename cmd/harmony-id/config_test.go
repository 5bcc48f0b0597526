package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/harmony/id/db/dbtest"
)

func TestConfigCheck(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh, _ := serveShell(t, dbtest.Empty(t, engine))
		sh.run("", "config", "check", "--offline").want(0, "settings", "right")
		server, _ := mailServer(t, nil)
		sh = sh.with("HARMONY_ID_SMTP_URL=smtp://" + server)
		if engine == "sqlite" {
			sh.run("", "config", "check").want(exitFailed, "there is no database", "→ start serve once")
		} else {
			sh.run("", "config", "check").want(exitPending, "steps are pending", "→ run harmony-id migrate up")
		}
		sh.run("", "migrate", "up").want(0)
		server, _ = mailServer(t, nil)
		all := sh.with("HARMONY_ID_SMTP_URL=smtp://"+server).run("", "config", "check", "-o", "json").want(0).objects(checkResult{})
		for _, r := range all {
			if r["check"] == "issuer" { // nobody has served from it
				if r["state"] != stateWarn {
					t.Errorf("%v", r)
				}
			} else if r["state"] != stateOK || r["fix"] != "" {
				t.Errorf("%v", r)
			}
		}
	})
}

// Everything that serve refuses, config check refuses in the same words; and nothing
// else of the settings is looked at.
func TestConfigCheckRefuses(t *testing.T) {
	sh, _ := serveShell(t, dbtest.URL(t, "sqlite"))
	for name, c := range map[string]struct {
		variable string
		said     string
	}{
		"no issuer":           {"HARMONY_ID_ISSUER=", "HARMONY_ID_ISSUER=https://id.example.com"},
		"missing keys":        {"HARMONY_ID_ENCRYPTION_KEYS_FILE=" + filepath.Join(t.TempDir(), "none"), "no such file"},
		"no sender":           {"HARMONY_ID_MAIL_FROM=", "HARMONY_ID_MAIL_FROM=no-reply@example.com"},
		"half of Google":      {"HARMONY_ID_GOOGLE_CLIENT_ID=x", "belong together"},
		"no places":           {"HARMONY_ID_GEOIP_FILE=none", "no such file"},
		"no authorities":      {"HARMONY_ID_OUTBOUND_CA_FILE=none", "outbound-ca-file"},
		"unknown":             {"HARMONY_ID_ISUER=x", "did you mean HARMONY_ID_ISSUER?"},
		"idle over max":       {"HARMONY_ID_SESSION_IDLE=1000h", "session-idle"},
		"a negative delay":    {"HARMONY_ID_DRAIN_DELAY=-1s", "drain-delay is -1s: write 0s or more"},
		"no address at all":   {"HARMONY_ID_ADMIN_ADDR=9090", "127.0.0.1:8080"},
		"two that are absent": {"HARMONY_ID_ISSUER=\nHARMONY_ID_TLS_KEY_FILE=x", "tls-cert-file and tls-key-file belong together"},
	} {
		t.Run(name, func(t *testing.T) {
			env := shell{t, sh.with(strings.Split(c.variable, "\n")...).environ}
			env.run("", "config", "check", "--offline").want(exitUsage, c.said)
			env.run("", "serve").want(exitUsage, c.said)
		})
	}
}

// What is printed can be used, says where it comes from, and has no secret.
func TestConfigPrint(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "harmony-id.conf")
	write(t, file, "session-idle = 3h\nsupport-url = \"https://example.com/#help\"\ntrusted-proxies = 10.0.0.0/8, 192.0.2.7\nsmtp-url = smtps://ada:hunter2@mail.example.com\n")
	sh := shell{t, []string{
		"HARMONY_ID_CONFIG=" + file, "HARMONY_ID_DATABASE_URL=postgres://harmony:hunter2@db.example.com/harmony?sslmode=verify-full&password=hunter2",
		"HARMONY_ID_GOOGLE_CLIENT_SECRET=hunter2", "HARMONY_ID_GOOGLE_DOMAINS=example.com,example.org", "HARMONY_ID_GOOGLE_SIGN_UP=false", "HARMONY_ID_HASH_MEMORY=1GiB",
	}}
	values := map[string][2]string{}
	for _, r := range sh.run("", "config", "print", "-o", "json", "--log-level", "warn").want(0).objects(configResult{}) {
		values[r["key"].(string)] = [2]string{r["value"].(string), r["origin"].(string)}
	}
	for key, want := range map[string][2]string{
		"config":               {file, "HARMONY_ID_CONFIG"},
		"log-level":            {"WARN", "--log-level"},
		"http-addr":            {":8080", "default"},
		"session-idle":         {"3h0m0s", file + " line 1"},
		"support-url":          {"https://example.com/#help", file + " line 2"},
		"trusted-proxies":      {"10.0.0.0/8,192.0.2.7", file + " line 3"},
		"smtp-url":             {"smtps://ada:xxxxx@mail.example.com", file + " line 4"},
		"database-url":         {"postgres://harmony:xxxxx@db.example.com/harmony?sslmode=verify-full", "HARMONY_ID_DATABASE_URL"},
		"google-client-secret": {"(secret)", "HARMONY_ID_GOOGLE_CLIENT_SECRET"},
		"google-domains":       {"example.com,example.org", "HARMONY_ID_GOOGLE_DOMAINS"},
		"google-sign-up":       {"false", "HARMONY_ID_GOOGLE_SIGN_UP"},
		"hash-memory":          {"1GiB", "HARMONY_ID_HASH_MEMORY"},
		"issuer":               {"", "default"},
	} {
		if values[key] != want {
			t.Errorf("%s is %q, want %q", key, values[key], want)
		}
	}
	for _, args := range [][]string{{}, {"--origin"}, {"-o", "json"}} {
		if r := sh.run("", append([]string{"config", "print"}, args...)...).want(0); strings.Contains(r.stdout+r.stderr, "hunter2") {
			t.Errorf("%q shows a secret:\n%s", args, r.stdout)
		}
	}
	sh.run("", "config", "print", "--origin").want(0, "WRITTEN IN", file+" line 1", "HARMONY_ID_HASH_MEMORY")

	// What it prints is a file of settings that says the same.
	printed := sh.run("", "config", "print").want(0).stdout
	again := filepath.Join(dir, "again.conf")
	write(t, again, printed)
	secrets := shell{t, []string{sh.environ[1], "HARMONY_ID_CONFIG=" + again}}
	if r := secrets.run("", "config", "print").want(0); withoutComments(r.stdout) != withoutComments(printed) {
		t.Errorf("it reads itself as\n%s\nwant\n%s", r.stdout, printed)
	}
}

func withoutComments(text string) string {
	return regexp.MustCompile(`(?m)^(#.*)?\n`).ReplaceAllString(text, "")
}

// The template has every setting of serve; its values are the defaults, and with the
// comments taken away where a default is, it is read.
func TestConfigTemplate(t *testing.T) {
	text := (shell{t: t}).run("", "config", "template").want(0).stdout
	_, sources, err := parse(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	var uncommented strings.Builder
	has := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# ([a-z0-9-]+) = (.*)$`).FindAllStringSubmatch(text, -1) {
		f := sources.keys[m[1]]
		if f == nil {
			t.Errorf("%s is no setting", m[1])
			continue
		}
		has[m[1]] = true
		if f.HasDefault {
			if m[2] != f.Default {
				t.Errorf("%s = %s, the default is %s", m[1], m[2], f.Default)
			}
			uncommented.WriteString(strings.TrimPrefix(m[0], "# ") + "\n")
		}
	}
	for _, leaf := range model(t).Leaves(true) {
		if leaf.Path() != "serve" {
			continue
		}
		for _, group := range leaf.AllFlags(true) {
			for _, f := range group {
				if f.Tag.Has("setting") && f.Name != configKey && !has[f.Name] {
					t.Errorf("%s is missing", f.Name)
				}
			}
		}
	}
	for line := range strings.Lines(text) {
		if line != "\n" && !strings.HasPrefix(line, "# ") {
			t.Errorf("%q is not commented out", line)
		}
	}
	file := filepath.Join(t.TempDir(), "harmony-id.conf")
	if err := os.WriteFile(file, []byte(text+uncommented.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := (shell{t: t}).run("", "config", "print").want(0).stdout
	read := (shell{t, []string{"HARMONY_ID_CONFIG=" + file}}).run("", "config", "print").want(0).stdout
	if withoutComments(read) != withoutComments(plain) {
		t.Errorf("the template means\n%s\nwant\n%s", read, plain)
	}
}
