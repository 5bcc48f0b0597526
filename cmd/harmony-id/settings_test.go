package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// parse reads serve's settings as run does.
func parse(t *testing.T, environ []string, args ...string) (serveCommand, *sources, error) {
	t.Helper()
	var c commands
	s := newSources(environ)
	k, err := kong.New(&c, kong.Resolvers(s), kong.Bind(s, &program{}))
	if err != nil {
		t.Fatal(err)
	}
	s.know(k.Model)
	parsed, err := k.Parse(append([]string{"serve"}, args...))
	if err == nil {
		err = s.check(parsed)
	}
	return c.Serve, s, err
}

// Flag before environment before file before default, for every kind of setting.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "harmony.conf")
	write(t, file, "# settings\n\nhttp-addr = :1003\nsession-idle=3h\n  password-min-length =  13 \nsupport-url = \"https://example.com/#help\"\ntrusted-proxies = 10.0.0.0/8, 192.0.2.7\n")
	config := "HARMONY_ID_CONFIG=" + file
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		addr    listenAddr
		idle    time.Duration
		origin  string // of http-addr
	}{
		{"default", nil, nil, ":8080", 72 * time.Hour, ""},
		{"file", nil, []string{"--config", file}, ":1003", 3 * time.Hour, file + " line 3"},
		{"file by environment", []string{config}, nil, ":1003", 3 * time.Hour, file + " line 3"},
		{"environment", []string{config, "HARMONY_ID_HTTP_ADDR=:1002"}, nil, ":1002", 3 * time.Hour, "HARMONY_ID_HTTP_ADDR"},
		{"flag", []string{config, "HARMONY_ID_HTTP_ADDR=:1002", "HARMONY_ID_SESSION_IDLE=2h"}, []string{"--http-addr", ":1001"}, ":1001", 2 * time.Hour, "--http-addr"},
		{"empty is not there", []string{"HARMONY_ID_HTTP_ADDR="}, nil, ":8080", 72 * time.Hour, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, from, err := parse(t, c.environ, c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if s.HTTPAddr != c.addr || s.SessionIdle != c.idle || from.origin("http-addr") != c.origin {
				t.Errorf("http-addr = %s of %q, session-idle = %s; want %s of %q, %s", s.HTTPAddr, from.origin("http-addr"), s.SessionIdle, c.addr, c.origin, c.idle)
			}
			if c.name == "file" {
				if s.PasswordMinLength != 13 || s.SupportURL != "https://example.com/#help" || len(s.TrustedProxies) != 2 || s.TrustedProxies[1].String() != "192.0.2.7/32" {
					t.Errorf("from the file: %+v", s)
				}
			}
		})
	}
}

// Settings that cannot be stop every command, and say what to write.
func TestWrongSettings(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		f, err := os.CreateTemp(dir, "*.conf")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	open := file("database-url = postgres://u:p@h/d\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		said    []string
	}{
		{"unknown variable", []string{"HARMONY_ID_ISUER=x"}, nil, []string{"HARMONY_ID_ISUER: there is no such setting", "did you mean HARMONY_ID_ISSUER?"}},
		{"nothing like it", []string{"HARMONY_ID_XYZZY=x"}, nil, []string{"HARMONY_ID_XYZZY: there is no such setting"}},
		{"lower case variable", []string{"HARMONY_ID_issuer=x"}, nil, []string{"did you mean HARMONY_ID_ISSUER?"}},
		{"unknown key", nil, []string{"--config", file("\nhttp-adr = :1\n")}, []string{"line 2: there is no setting \"http-adr\", did you mean http-addr?"}},
		{"variable's spelling in the file", nil, []string{"--config", file("HARMONY_ID_HTTP_ADDR=:1\n")}, []string{"line 1", "did you mean http-addr?"}},
		{"key twice", nil, []string{"--config", file("log-level = info\nlog-level = warn\n")}, []string{"line 2: log-level stands in line 1 already"}},
		{"no key", nil, []string{"--config", file("just words\n")}, []string{"line 1: write it as key = value"}},
		{"no value", nil, []string{"--config", file("issuer =\n")}, []string{"line 1: issuer has no value"}},
		{"half a quotation", nil, []string{"--config", file(`issuer = "https://a.example` + "\n")}, []string{"line 1: the quotation marks"}},
		{"file names another", nil, []string{"--config", file("config = other\n")}, []string{"line 1"}},
		{"no such file", nil, []string{"--config", filepath.Join(dir, "none")}, []string{"no such file"}},
		{"bad value in the file", nil, []string{"--config", file("access-token-ttl = 5x\n")}, []string{"line 1:", "5x"}},
		{"bad value in the environment", []string{"HARMONY_ID_HASH_MEMORY=much"}, nil, []string{"HARMONY_ID_HASH_MEMORY:", "256MiB"}},
		{"bad value as a flag", nil, []string{"--http-addr", "8080"}, []string{"--http-addr", ":8080"}},
		{"log format", []string{"HARMONY_ID_LOG_FORMAT=xml"}, nil, []string{"HARMONY_ID_LOG_FORMAT:", "write json or text"}},
		{"log level", []string{"HARMONY_ID_LOG_LEVEL=loud"}, nil, []string{"HARMONY_ID_LOG_LEVEL:", "loud"}},
		{"every proxy", []string{"HARMONY_ID_TRUSTED_PROXIES=0.0.0.0/0"}, nil, []string{"every address"}},
		{"bad proxy", []string{"HARMONY_ID_TRUSTED_PROXIES=proxy"}, nil, []string{"10.0.0.0/8"}},
		{"bad link", []string{"HARMONY_ID_SUPPORT_URL=javascript:alert(1)"}, nil, []string{"HARMONY_ID_SUPPORT_URL:", "is not a link"}},
		{"secret twice", []string{"HARMONY_ID_DATABASE_URL=sqlite:a", "HARMONY_ID_DATABASE_URL_FILE=b"}, nil, []string{"HARMONY_ID_DATABASE_URL and HARMONY_ID_DATABASE_URL_FILE are both set"}},
		{"secret twice, elsewhere", []string{"HARMONY_ID_DATABASE_URL_FILE=b"}, []string{"--database-url", "sqlite:a"}, []string{"--database-url and HARMONY_ID_DATABASE_URL_FILE are both set"}},
		{"secret in a file for all", nil, []string{"--config", open}, []string{"line 1: database-url is a secret", "chmod 600"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			shell{t, c.environ}.run("", append([]string{"serve"}, c.args...)...).want(exitUsage, c.said...)
		})
	}
	// Commands that have no such setting refuse it all the same.
	shell{t, []string{"HARMONY_ID_ISUER=x"}}.run("", "secrets", "generate").want(exitUsage, "HARMONY_ID_ISSUER")
}

// A database URL may come from a file, and a password in it never from the
// command line.
func TestDatabaseURL(t *testing.T) {
	dir := t.TempDir()
	secretFile := filepath.Join(dir, "url")
	write(t, secretFile, "sqlite:"+filepath.Join(dir, "a.db")+"\n")
	shell{t, []string{"HARMONY_ID_DATABASE_URL_FILE=" + secretFile}}.run("", "migrate", "up").want(0)
	if _, err := os.Stat(filepath.Join(dir, "a.db")); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(secretFile, 0o644); err != nil {
		t.Fatal(err)
	}
	shell{t, []string{"HARMONY_ID_DATABASE_URL_FILE=" + secretFile}}.run("", "migrate", "status").want(exitUsage, "HARMONY_ID_DATABASE_URL_FILE", "chmod 600")
	for _, u := range []string{"postgres://harmony:hunter2@db/harmony", "postgres://db/harmony?user=u&password=hunter2", "postgres://u@db/harmony?sslkey=k.pem&sslpassword=hunter2"} {
		if r := (shell{t: t}).run("", "migrate", "status", "--database-url", u).want(exitUsage, "HARMONY_ID_DATABASE_URL"); strings.Contains(r.stderr, "hunter2") {
			t.Errorf("the password is shown: %s", r.stderr)
		}
	}
}

func TestParseIssuer(t *testing.T) {
	for _, good := range []string{"https://id.example.com", "https://id.example.com:8443", "http://localhost:8080", "http://127.0.0.1:9000", "http://[::1]:9000", "https://localhost"} {
		if u, err := parseIssuer(good); err != nil || u.String() != good {
			t.Errorf("parseIssuer(%q) = %v, %v", good, u, err)
		}
	}
	for bad, said := range map[string]string{
		"http://id.example.com":              "write https://id.example.com",
		"http://10.0.0.1":                    "write https://10.0.0.1",
		"http://localhost.example.com":       "write https://localhost.example.com",
		"https://id.example.com/":            "write it as https://id.example.com,",
		"https://id.example.com/tenant":      "has a path",
		"https://id.example.com?x=1":         "more than a host",
		"https://id.example.com#":            "more than a host",
		"https://ada:pw@id.example.com":      "more than a host",
		"https://ID.example.com":             "write it as https://id.example.com",
		"https://id.example.com.":            "write it as https://id.example.com",
		"https://id.example.com:443":         "write it as https://id.example.com",
		"http://localhost:80":                "write it as http://localhost",
		"id.example.com":                     "is not a URL",
		"ftp://id.example.com":               "is not a URL",
		"https://":                           "is not a URL",
		"https://:8443":                      "is not a URL",
		"https://id.example.com:port":        "is not a URL",
		"javascript://localhost/%0aalert(1)": "is not a URL",
	} {
		if _, err := parseIssuer(bad); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("parseIssuer(%q): %v, want an error that says %q", bad, err, said)
		}
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]byteSize{"256MiB": 256 << 20, "1GiB": 1 << 30, "19 MiB": 19 << 20, "4096": 4096, "512KiB": 512 << 10} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "MiB", "-1MiB", "1TB", "1.5GiB", "99999999999999999999", "9223372036854775807GiB"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q = %d, want an error", bad, got)
		}
	}
	if got := byteSize(256 << 20).String(); got != "256MiB" {
		t.Errorf("String = %s", got)
	}
}

// A setting is a field with its manual.
func TestEverySettingHasAManual(t *testing.T) {
	_, s, err := parse(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, flag := range s.keys {
		if flag.Help == "" || flag.PlaceHolder == "" {
			t.Errorf("%s has no help or placeholder", key)
		}
	}
	for key, flag := range s.keys {
		if flag.Tag.Has("secret") && s.keys[key+"-file"] == nil {
			t.Errorf("the secret %s has no %s-file", key, key)
		}
	}
}
