package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/db/dbtest"
)

// A shell runs the program as its main does.
type shell struct {
	t       *testing.T
	environ []string
}

type ran struct {
	t              *testing.T
	args           []string
	code           int
	stdout, stderr string
}

func (s shell) run(stdin string, args ...string) ran {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second) // for one that should have refused, and serves
	defer cancel()
	code := run(ctx, args, s.environ, strings.NewReader(stdin), &stdout, &stderr)
	return ran{s.t, args, code, stdout.String(), stderr.String()}
}

// onDatabase is a shell whose commands work on a fresh, migrated database.
func onDatabase(t *testing.T, engine string) shell {
	return shell{t, []string{"HARMONY_ID_DATABASE_URL=" + dbtest.URL(t, engine)}}
}

func (r ran) want(code int, said ...string) ran {
	r.t.Helper()
	if r.code != code {
		r.t.Errorf("%q: exit code %d, want %d\nstdout: %s\nstderr: %s", r.args, r.code, code, r.stdout, r.stderr)
	}
	for _, s := range said {
		if !strings.Contains(r.stdout+r.stderr, s) {
			r.t.Errorf("%q does not say %q\nstdout: %s\nstderr: %s", r.args, s, r.stdout, r.stderr)
		}
	}
	return r
}

// object is the JSON object on stdout, whose members must be those of like.
func (r ran) object(like any) map[string]any {
	r.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &m); err != nil {
		r.t.Fatalf("%q: %v\nstdout: %s\nstderr: %s", r.args, err, r.stdout, r.stderr)
	}
	r.fields(m, like)
	return m
}

func (r ran) objects(like any) []map[string]any {
	r.t.Helper()
	var all []map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		r.t.Fatalf("%q: %v\nstdout: %s\nstderr: %s", r.args, err, r.stdout, r.stderr)
	}
	for _, m := range all {
		r.fields(m, like)
	}
	return all
}

func (r ran) fields(m map[string]any, like any) {
	r.t.Helper()
	for _, f := range resultFields(like) {
		if _, ok := m[f.name]; !ok && !f.optional {
			r.t.Errorf("%q: no field %s in %v", r.args, f.name, m)
		}
	}
	for name := range m {
		if !slices.ContainsFunc(resultFields(like), func(f resultField) bool { return f.name == name }) {
			r.t.Errorf("%q: field %s is not documented", r.args, name)
		}
	}
}

type resultField struct {
	name, help, kind string
	optional         bool
	inherited        bool // from a result that it is besides
}

// resultFields are the members of a result, by its tags.
func resultFields(like any) (fields []resultField) {
	for f := range reflect.TypeOf(like).Fields() {
		if f.Anonymous {
			for _, f := range resultFields(reflect.Zero(f.Type).Interface()) {
				f.inherited = true
				fields = append(fields, f)
			}
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		kind := map[string]string{"bool": "boolean", "int": "number", "int64": "number", "slice": "array of strings", "struct": "object", "map": "object", "ptr": "object or null"}[f.Type.Kind().String()]
		switch {
		case f.Type == reflect.TypeFor[stamp]():
			kind = "time or null"
		case f.Type == reflect.TypeFor[json.RawMessage]():
			kind = "object"
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			kind = "array of objects or null"
		}
		if kind == "" {
			kind = "string"
		}
		fields = append(fields, resultField{name: name, help: f.Tag.Get("help"), kind: kind, optional: options == "omitempty"})
	}
	return fields
}

const goodPassword = "a quiet harbour at dusk"

func TestUsers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh := onDatabase(t, engine)
		claims := filepath.Join(t.TempDir(), "claims.json")
		write(t, claims, `{"given_name":"Ada","address":{"country":"GB"}}`)

		before := time.Now().UTC().Truncate(time.Second)
		ada := sh.run(goodPassword+"\n", "user", "create", "--email", "Ada@Example.COM", "--name", "Ada Lovelace", "--email-verified",
			"--claims-file", claims, "--password-stdin", "-o", "json").want(0).object(userResult{})
		for field, want := range map[string]any{
			"email": "ada@example.com", "name": "Ada Lovelace", "email_verified": true, "has_password": true, "method": "password", "disabled_at": nil,
			"claims": map[string]any{"given_name": "Ada", "address": map[string]any{"country": "GB"}},
		} {
			if !reflect.DeepEqual(ada[field], want) {
				t.Errorf("%s = %v, want %v", field, ada[field], want)
			}
		}
		at, err := time.Parse("2006-01-02T15:04:05Z", ada["created_at"].(string))
		if err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("created_at = %v, %v; want now in UTC", ada["created_at"], err)
		}
		id := ada["id"].(string)

		sh.run("", "user", "create", "--email", "bob@example.com", "--name", "Bob").
			want(0, "bob@example.com has no password and cannot sign in", "harmony-id user reset-link", "no password")
		sh.run("", "user", "show", "ADA@example.com").want(0, id, "Ada Lovelace", "active")
		sh.run("", "user", "show", id, "-o", "json").want(0).object(userDetail{})
		sh.run("", "user", "list").want(0, "EMAIL", "ada@example.com", "bob@example.com")
		if all := sh.run("", "user", "list", "-o", "json").want(0).objects(userResult{}); len(all) != 2 || all[0]["email"] != "ada@example.com" {
			t.Errorf("list = %v", all)
		}

		if u := sh.run("", "user", "disable", "ada@example.com", "-o", "json").want(0).object(userResult{}); u["disabled_at"] == nil {
			t.Errorf("disable shows %v", u)
		}
		sh.run("", "user", "show", id).want(0, "disabled")
		if u := sh.run("", "user", "enable", id, "-o", "json").want(0).object(userResult{}); u["disabled_at"] != nil {
			t.Errorf("enable shows %v", u)
		}

		sh.run("", "user", "delete", id).want(exitUsage, "--yes")
		sh.run("", "user", "show", id).want(0)
		sh.run("", "user", "delete", id, "--yes").want(0, "ada@example.com")
		for _, args := range [][]string{{"show"}, {"disable"}, {"enable"}, {"delete", "--yes"}} {
			sh.run("", append([]string{"user", args[0], id}, args[1:]...)...).want(exitNotFound, "no such person")
		}
	})
}

func TestUserRefusals(t *testing.T) {
	sh := onDatabase(t, "sqlite")
	create := func(stdin string, args ...string) ran {
		return sh.run(stdin, append([]string{"user", "create", "--name", "Ada", "--email", "ada@example.com"}, args...)...)
	}
	unknown := filepath.Join(t.TempDir(), "claims.json")
	write(t, unknown, `{"admin":true}`)
	for name, c := range map[string]struct {
		stdin string
		args  []string
		code  int
		said  string
	}{
		"weak":          {"short\n", []string{"--password-stdin"}, exitRefused, "password refused"},
		"nothing":       {"", []string{"--password-stdin"}, exitUsage, "nothing came"},
		"two lines":     {goodPassword + "\nmore\n", []string{"--password-stdin"}, exitUsage, "more than one line"},
		"too much":      {strings.Repeat("x", 5000), []string{"--password-stdin"}, exitUsage, "4096"},
		"in arguments":  {"", []string{"--password", goodPassword}, exitUsage, "unknown flag --password"},
		"bad address":   {"", []string{"--email", "ada"}, exitRefused, "email"},
		"unknown claim": {"", []string{"--claims-file", unknown}, exitUsage, "admin"},
		"no such file":  {"", []string{"--claims-file", "nowhere.json"}, exitUsage, "nowhere.json"},
		"bad length":    {"", []string{"--password-min-length", "4"}, exitUsage, "write a number from 8 to 64"},
	} {
		t.Run(name, func(t *testing.T) {
			r := create(c.stdin, c.args...)
			r.t = t
			r.want(c.code, c.said)
			if strings.Contains(r.stdout+r.stderr, goodPassword) {
				t.Errorf("the password is shown: %s%s", r.stdout, r.stderr)
			}
		})
	}
	create(goodPassword, "--password-stdin").want(0)
	create(goodPassword, "--password-stdin").want(exitRefused, "another account has this email address")
}

func TestClients(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh := onDatabase(t, engine)
		c := sh.run("", "client", "create", "--name", "Acme", "--id", "acme", "--redirect-uri", "https://acme.example.com/a,b", "--redirect-uri", "https://acme.example.com/c",
			"--post-logout-redirect-uri", "https://acme.example.com/bye", "--id-token-alg", "RS256", "--require-pkce=false", "-o", "json").want(0).object(clientResult{})
		secret, _ := c["client_secret"].(string)
		for field, want := range map[string]any{
			"client_id": "acme", "client_name": "Acme", "token_endpoint_auth_method": "client_secret_basic", "id_token_signed_response_alg": "RS256", "require_pkce": false,
			"redirect_uris":             []any{"https://acme.example.com/a,b", "https://acme.example.com/c"},
			"post_logout_redirect_uris": []any{"https://acme.example.com/bye"},
			"grant_types":               []any{"authorization_code", "refresh_token"},
			"scope":                     "openid profile email phone address offline_access", "access_token_format": "opaque",
		} {
			if !reflect.DeepEqual(c[field], want) {
				t.Errorf("%s = %v, want %v", field, c[field], want)
			}
		}
		if len(secret) < 32 {
			t.Errorf("client_secret = %q", secret)
		}
		for _, args := range [][]string{{"show", "acme"}, {"list"}, {"show", "acme", "-o", "json"}, {"list", "-o", "json"}} {
			if r := sh.run("", append([]string{"client"}, args...)...).want(0, "acme"); strings.Contains(r.stdout, secret) || strings.Contains(r.stdout, "client_secret\"") {
				t.Errorf("%q shows the secret: %s", args, r.stdout)
			}
		}

		public := sh.run("", "client", "create", "--name", "Globex", "--id", "globex", "--redirect-uri", "https://globex.example.com/cb", "--public", "-o", "json").want(0).object(clientResult{})
		if _, ok := public["client_secret"]; ok || public["token_endpoint_auth_method"] != "none" || public["require_pkce"] != true {
			t.Errorf("public client = %v", public)
		}
		sh.run("", "client", "rotate-secret", "globex", "--yes").want(exitRefused, "public")

		const out = "https://10.0.0.7/out"
		inside := sh.with("HARMONY_ID_ALLOW_PRIVATE_ADDRESSES=true").run("", "client", "create", "--name", "Inside", "--id", "inside", "--redirect-uri", "https://inside.example.com/cb",
			"--backchannel-logout-uri", out, "-o", "json").want(0).object(clientResult{})
		if inside["backchannel_logout_uri"] != out {
			t.Errorf("told of sign-outs at %v", inside["backchannel_logout_uri"])
		}
		sh.run("", "client", "show", "inside").want(0, out)
		sh.run("", "client", "list").want(0, out)
		sh.run("", "client", "delete", "inside", "--yes").want(0)

		own := strings.Repeat("s3cret-", 6)
		brought := sh.run(own+"\n", "client", "create", "--name", "Initech", "--id", "initech", "--redirect-uri", "http://localhost:3000/cb", "--secret-stdin", "--auth-method", "client_secret_post", "-o", "json").
			want(0).object(clientResult{})
		if brought["client_secret"] != own || brought["token_endpoint_auth_method"] != "client_secret_post" {
			t.Errorf("client with its own secret = %v", brought)
		}

		reports := sh.run("", "client", "create", "--name", "Reports", "--id", "reports", "--grant", "client_credentials", "--scope", "api.read api.write", "--access-token", "jwt", "-o", "json").
			want(0).object(clientResult{})
		if !reflect.DeepEqual(reports["grant_types"], []any{"client_credentials"}) || reports["scope"] != "api.read api.write" || reports["access_token_format"] != "jwt" || reports["client_secret"] == nil {
			t.Errorf("client of its own = %v", reports)
		}
		if bare := sh.run("", "client", "create", "--name", "Bare", "--id", "bare", "--grant", "client_credentials", "-o", "json").want(0).object(clientResult{}); bare["scope"] != "" || len(bare["redirect_uris"].([]any)) != 0 {
			t.Errorf("client without scopes = %v", bare)
		}
		sh.run("", "client", "delete", "bare", "--yes").want(0)
		file := filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(file, must(json.Marshal(newKeyring(t, "ES256").public()))(t), 0o600); err != nil {
			t.Fatal(err)
		}
		keyed := sh.run("", "client", "create", "--name", "Keyed", "--id", "keyed", "--grant", "client_credentials", "--auth-method", "private_key_jwt", "--jwks-file", file, "-o", "json").
			want(0).object(clientResult{})
		if jwks, _ := keyed["jwks"].(map[string]any); keyed["client_secret"] != nil || keyed["token_endpoint_auth_method"] != "private_key_jwt" || jwks["keys"] == nil {
			t.Errorf("client with keys = %v", keyed)
		}
		sh.run("", "client", "rotate-secret", "keyed", "--yes").want(exitRefused, "no secret")
		sh.run("", "client", "delete", "keyed", "--yes").want(0)
		sh.run("", "client", "delete", "reports", "--yes").want(0)

		sh.run("", "client", "rotate-secret", "acme").want(exitUsage, "--yes")
		rotated := sh.run("", "client", "rotate-secret", "acme", "--yes", "-o", "json").want(0).object(clientResult{})
		if rotated["client_secret"] == secret || rotated["client_secret"] == nil {
			t.Errorf("rotate-secret = %v", rotated)
		}
		if rotated["old_secret_until"] != nil {
			t.Errorf("the old secret is kept unasked: %v", rotated)
		}
		if kept := sh.run("", "client", "rotate-secret", "acme", "--yes", "--keep-old", "24h", "-o", "json").want(0).object(clientResult{}); kept["old_secret_until"] == nil {
			t.Errorf("rotate-secret --keep-old = %v", kept)
		}
		sh.run("", "client", "rotate-secret", "acme", "--yes", "--keep-old", "721h").want(exitRefused, "keep-old")
		if r := sh.run(own, "client", "rotate-secret", "acme", "--yes", "--secret-stdin").want(0, own, "only time"); !strings.Contains(r.stdout, "client_secret") {
			t.Errorf("rotate-secret shows %s", r.stdout)
		}
		if all := sh.run("", "client", "list", "-o", "json").want(0).objects(clientResult{}); len(all) != 3 {
			t.Errorf("list = %v", all)
		}
		sh.run("", "client", "delete", "acme").want(exitUsage, "--yes")
		sh.run("", "client", "delete", "acme", "--yes").want(0, "Acme")
		for _, verb := range []string{"show", "delete", "rotate-secret"} {
			args := []string{"client", verb, "acme"}
			if verb != "show" {
				args = append(args, "--yes")
			}
			sh.run("", args...).want(exitNotFound, "no such client: acme")
		}
	})
}

// AD-06 and what else cannot be registered.
func TestClientRefusals(t *testing.T) {
	sh := onDatabase(t, "sqlite")
	for _, c := range []struct {
		args string
		code int
		said string
	}{
		{"--redirect-uri http://acme.example.com/cb", exitRefused, "use https"},
		{"--redirect-uri javascript:alert(1)", exitRefused, "redirect-uri"},
		{"--redirect-uri data:text/html,x", exitRefused, "redirect-uri"},
		{"--redirect-uri https://*.example.com/cb", exitRefused, "wildcard"},
		{"--redirect-uri https://acme.example.com/cb#x", exitRefused, "fragment"},
		{"--redirect-uri https://ada@acme.example.com/cb", exitRefused, "user name"},
		{"--redirect-uri https://acme.example.com/a/../b", exitRefused, "dot segment"},
		{"--redirect-uri https://169.254.169.254/cb", exitRefused, "link-local"},
		{"--redirect-uri /cb", exitRefused, "absolute"},
		{strings.Repeat("--redirect-uri https://acme.example.com/cb ", 300), exitRefused, "more than"},
		{"--redirect-uri https://a.example/cb --post-logout-redirect-uri http://a.example/", exitRefused, "post-logout-redirect-uri"},
		{"--redirect-uri https://a.example/cb --backchannel-logout-uri http://a.example/out", exitRefused, "backchannel-logout-uri"},
		{"--redirect-uri https://a.example/cb --backchannel-logout-uri https://a.example/out#x", exitRefused, "fragment"},
		{"--redirect-uri https://a.example/cb --backchannel-logout-uri https://10.0.0.7/out", exitRefused, "allow-private-addresses"},
		{"--redirect-uri https://a.example/cb --backchannel-logout-uri http://localhost:3000/out", exitRefused, "allow-private-addresses"},
		{"--redirect-uri https://a.example/cb --backchannel-logout-uri https://169.254.169.254/ --allow-private-addresses", exitRefused, "link-local"},
		{"", exitUsage, "--redirect-uri"},
		{"--redirect-uri https://a.example/cb --public --auth-method client_secret_post", exitUsage, "do not fit together"},
		{"--redirect-uri https://a.example/cb --public --secret-stdin", exitUsage, "has no secret"},
		{"--redirect-uri https://a.example/cb --public --require-pkce=false", exitUsage, "PKCE"},
		{"--redirect-uri https://a.example/cb --id-token-alg none", exitUsage, "id-token-alg"},
		{"--redirect-uri https://a.example/cb --auth-method private_key_jwt", exitUsage, "--jwks-file"},
		{"--redirect-uri https://a.example/cb --jwks-uri https://a.example/jwks", exitUsage, "private_key_jwt"},
		{"--redirect-uri https://a.example/cb --auth-method private_key_jwt --jwks-uri https://a.example/jwks --jwks-file x", exitUsage, "one of"},
		{"--redirect-uri https://a.example/cb --auth-method private_key_jwt --jwks-uri https://a.example/jwks --secret-stdin", exitUsage, "no secret"},
		{"--redirect-uri https://a.example/cb --auth-method private_key_jwt --jwks-uri http://a.example/jwks", exitRefused, "jwks-uri"},
		{"--redirect-uri https://a.example/cb --auth-method private_key_jwt --jwks-file /nowhere", exitUsage, "--jwks-file"},
		{"--redirect-uri https://a.example/cb --auth-method client_secret_jwt", exitUsage, "auth-method"},
		{"--redirect-uri https://a.example/cb --grant refresh_token", exitRefused, "without authorization_code"},
		{"--redirect-uri https://a.example/cb --grant password", exitRefused, "client_credentials"},
		{"--redirect-uri https://a.example/cb --grant client_credentials", exitRefused, "of no use"},
		{"--grant client_credentials --public", exitRefused, "keep a secret"},
		{"--grant client_credentials --grant authorization_code", exitUsage, "--redirect-uri"},
		{"--redirect-uri https://a.example/cb --scope api.read", exitUsage, "openid"},
		{`--grant client_credentials --scope a"b`, exitRefused, "not a scope"},
		{`--grant client_credentials --scope a --scope a`, exitRefused, "twice"},
		{`--grant client_credentials --scope ` + strings.Repeat("a", 1001), exitRefused, "more than"},
		{"--redirect-uri https://a.example/cb --access-token paseto", exitUsage, "access-token"},
		{"--redirect-uri https://a.example/cb --id a/b", exitRefused, "id"},
		{"--redirect-uri https://a.example/cb --secret hunter2", exitUsage, "unknown flag --secret"},
	} {
		r := sh.run("short", append([]string{"client", "create", "--name", "Acme"}, strings.Fields(c.args)...)...)
		r.want(c.code, c.said)
	}
	sh.run("short\n", "client", "create", "--name", "Acme", "--redirect-uri", "https://a.example/cb", "--secret-stdin").want(exitRefused, "secret")
	if all := sh.run("", "client", "list", "-o", "json").want(0).objects(clientResult{}); len(all) != 0 {
		t.Errorf("a refused client is registered: %v", all)
	}
}

// AD-10: what a name holds must not run in the terminal that lists it.
func TestHostileText(t *testing.T) {
	hostile := "a\x1b[2Jb\u202ec\u009bd\U000e0001"
	var table, facts, object bytes.Buffer
	if err := writeTable(&table, []string{"NAME"}, [][]string{{hostile}}); err != nil {
		t.Fatal(err)
	}
	if err := writeFacts(&facts, [][2]string{{"Name", hostile}}); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(&object, map[string]string{"name": hostile, "kept": "=cmd()|<script>"}); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{table.String(), facts.String(), object.String()} {
		if strings.ContainsAny(out, "\x1b\u202e\u009b\U000e0001") {
			t.Errorf("a character that cannot be seen is written: %q", out)
		}
	}
	var back map[string]string
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || back["name"] != hostile || back["kept"] != "=cmd()|<script>" {
		t.Errorf("the JSON means %q, %v", back, err)
	}
}

func TestMigrate(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh := shell{t, []string{"HARMONY_ID_DATABASE_URL=" + dbtest.Empty(t, engine)}}
		if engine == "sqlite" {
			sh.run("", "migrate", "status").want(exitFailed, "there is no database")
			sh.run("", "user", "list").want(exitFailed, "there is no database")
		} else {
			for _, m := range sh.run("", "migrate", "status", "-o", "json").want(exitPending).objects(migrationResult{}) {
				if m["applied_at"] != nil {
					t.Errorf("pending step = %v", m)
				}
			}
			sh.run("", "migrate", "status").want(exitPending, "pending", "harmony-id migrate up")
			sh.run("", "user", "list").want(exitPending, "harmony-id migrate up")
			sh.run("", "client", "create", "--name", "Acme", "--redirect-uri", "https://a.example/cb").want(exitPending)
		}
		sh.run("", "migrate", "plan").want(map[string]int{"sqlite": exitFailed, "postgres": 0}[engine])
		if engine == "postgres" {
			sh.run("", "migrate", "plan").want(0, "-- Step 0001_house", "CREATE TABLE users", "-- events: who uses the table waits, for a moment\nALTER TABLE events")
			if plan := sh.run("", "migrate", "plan", "-o", "json").want(0).objects(planResult{}); len(plan) < 2 || plan[0]["name"] != "0001_house" {
				t.Errorf("plan = %v", plan)
			}
			sh.run("", "migrate", "status").want(exitPending) // a plan changes nothing
		}
		applied := sh.run("", "migrate", "up", "-o", "json").want(0).objects(migrationResult{})
		if len(applied) == 0 || applied[0]["id"] != 1.0 || applied[0]["applied_at"] == nil {
			t.Errorf("migrate up = %v", applied)
		}
		if again := sh.run("", "migrate", "up", "-o", "json").want(0).objects(migrationResult{}); len(again) != 0 {
			t.Errorf("migrate up again = %v", again)
		}
		sh.run("", "migrate", "plan").want(0, "up to date")
		sh.run("", "migrate", "status").want(0, applied[0]["name"].(string))
		sh.run("", "user", "list").want(0)
	})
}

// OP-04: a program that is older than the database's schema goes on with what only
// adds to it, except where it would leave out what it does not know. On a schema that
// needs a newer one it refuses to do anything, and says what to do.
func TestOP04_OlderProgram(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		sh := k.with("HARMONY_ID_ISSUER=https://id.example.com", "HARMONY_ID_ENCRYPTION_KEYS_FILE="+k.keys, "HARMONY_ID_SMTP_URL=smtp://localhost:1", "HARMONY_ID_MAIL_FROM=no-reply@example.com")
		must(k.db.Exec(t.Context(), `INSERT INTO migrations (id, name, checksum, applied_at) VALUES (9998, '9998_later', 'x', 1)`))(t)
		for _, args := range [][]string{{"user", "list"}, {"client", "list"}, {"migrate", "status"}, {"migrate", "plan"}, {"migrate", "up"}, {"keys", "list"}, {"audit", "export"}, {"outbox", "list"}} {
			k.run("", args...).want(exitOK)
		}
		k.run("", "migrate", "status").want(exitOK, "9998_later")
		sh.with("HARMONY_ID_HTTP_ADDR=127.0.0.1:0", "HARMONY_ID_ADMIN_ADDR=127.0.0.1:0", "HARMONY_ID_DRAIN_DELAY=0s").start("serve").end()
		for _, args := range [][]string{{"backup", "create"}, {"secrets", "check", "--encryption-keys-file", k.keys}, {"secrets", "rewrap", "--encryption-keys-file", k.keys}} {
			k.run("", args...).want(exitPending, "9998_later", "run the newer program")
		}
		must(k.db.Exec(t.Context(), `INSERT INTO migrations (id, name, checksum, applied_at) VALUES (9999, '9999_less-needs-9998', 'x', 1)`))(t)
		sh.run("", "serve", "--http-addr", "127.0.0.1:0").want(exitPending, "9999_less", "run the newer program")
		for _, args := range [][]string{
			{"user", "list"}, {"client", "list"}, {"backup", "create"}, {"migrate", "status"}, {"migrate", "plan"}, {"migrate", "up"},
			{"keys", "list"}, {"audit", "export"}, {"outbox", "list"}, {"secrets", "rewrap", "--encryption-keys-file", k.keys},
		} {
			k.run("", args...).want(exitPending, "9999_less", "run the newer program")
		}
	})
}

// On a new machine the first command may be any that creates something.
func TestFirstCommandMakesDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new.db")
	sh := shell{t, []string{"HARMONY_ID_DATABASE_URL=sqlite:" + file}}
	sh.run("", "client", "create", "--name", "Acme", "--redirect-uri", "https://a.example/cb").want(0)
	sh.run("", "client", "list").want(0, "Acme")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}
	lost := shell{t, []string{"HARMONY_ID_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "no", "such.db")}}
	lost.run("", "client", "create", "--name", "Acme", "--redirect-uri", "https://a.example/cb").want(exitFailed, "no")
}

func TestSecretsGenerate(t *testing.T) {
	sh := shell{t: t}
	a, b := sh.run("", "secrets", "generate").want(0), sh.run("", "secrets", "generate").want(0)
	if a.stdout == b.stdout || a.stderr != "" {
		t.Errorf("two files alike, or something on stderr: %q", a.stderr)
	}
}

func TestVersion(t *testing.T) {
	sh := shell{t: t}
	v := sh.run("", "version", "-o", "json").want(0).object(versionResult{})
	if v["schema_version"].(float64) < 1 || !strings.HasPrefix(v["go_version"].(string), "go1.") {
		t.Errorf("version = %v", v)
	}
	sh.run("", "version").want(0, "Go", "Schema")
	sh.run("", "--version").want(0, "Go", "Schema")
}

func TestUsage(t *testing.T) {
	sh := shell{t: t}
	sh.run("").want(exitUsage, "harmony-id dev", "serve")
	sh.run("", "--help").want(0, "user create", "user sessions list", "client rotate-secret", "migrate up", "mail test")
	sh.run("", "bogus").want(exitUsage, "bogus")
	sh.run("", "user", "show").want(exitUsage)
	sh.run("", "user", "list", "-o", "xml").want(exitUsage)
	sh.run("", "serve", "--isuer", "x").want(exitUsage, "--issuer")
}

// Every command has a help with an example that begins with the program's name
// or its environment.
func TestHelp(t *testing.T) {
	sh := shell{t: t}
	for _, path := range commandPaths(t) {
		r := sh.run("", append(slices.Clone(path), "--help")...).want(0, "Example:")
		_, rest, _ := strings.Cut(r.stdout, "Example:")
		if !strings.Contains(rest, "harmony-id "+strings.Join(path, " ")) {
			t.Errorf("%q has no example of itself:\n%s", path, r.stdout)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A command that is told to stop says so and is not a crash.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"user", "list"}, []string{"HARMONY_ID_DATABASE_URL=" + dbtest.URL(t, "sqlite")}, strings.NewReader(""), &stdout, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "stopped before it was done") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
