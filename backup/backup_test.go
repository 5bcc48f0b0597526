package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/secret"
)

var ctx = context.Background()

// No table is forgotten: each of the schema is kept or left out, and each that is
// kept or left out is there.
func TestEveryTable(t *testing.T) {
	dbtest.EachDB(t, func(t *testing.T, d *db.DB) {
		var there []string
		err := d.Snapshot(ctx, func(tx *db.Tx) error {
			tables, err := tx.Tables(ctx)
			for _, table := range tables {
				there = append(there, table.Name)
				if len(table.Columns) == 0 {
					t.Errorf("%s has no columns", table.Name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, k := range keeps {
			said = append(said, k.table)
		}
		for name := range leaves {
			said = append(said, name)
		}
		slices.Sort(said)
		slices.Sort(there)
		if !slices.Equal(said, there) {
			t.Errorf("the schema has %q,\nand backups know of %q:\nput a new table into keeps or into leaves of backup.go", there, said)
		}

		exec(t, d, `CREATE TABLE forgotten (id TEXT)`)
		if _, err := Create(ctx, d, io.Discard, nil, nil); err == nil || !strings.Contains(err.Error(), "forgotten") {
			t.Errorf("a table that nobody thought of: %v", err)
		}
	})
}

func exec(t *testing.T, d *db.DB, query string, args ...any) {
	t.Helper()
	if _, err := d.Exec(ctx, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func made(t *testing.T, d *db.DB, recipients ...age.Recipient) ([]byte, *Summary) {
	t.Helper()
	var b bytes.Buffer
	s, err := Create(ctx, d, &b, columns, recipients)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), s
}

func nothing(*db.Tx, time.Time) error { return nil }

var columns = []secret.Column{
	{Table: "totp", Column: "secret_sealed", Key: "user_id", Purpose: "totp"},
	{Table: "signing_keys", Column: "private_sealed", Key: "id", Purpose: "signing key"},
}

func newRing(t *testing.T) *secret.Ring {
	t.Helper()
	r, err := secret.ParseRing(secret.GenerateKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill puts something into every table that is kept, with every kind of value.
func fill(t *testing.T, d *db.DB, ring *secret.Ring) {
	t.Helper()
	exec(t, d, `INSERT INTO settings (name, value) VALUES ('issuer', 'https://id.test')`)
	exec(t, d, `INSERT INTO signing_keys (id, alg, public_jwk, private_sealed, created_at, active_at, retired_at) VALUES ('old', 'ES256', '{}', $1, 1, 2, 3), ('new', 'ES256', '{}', $2, 1, 2, NULL)`,
		[]byte{}, ring.Box("signing key").Seal([]byte("key"), "signing_keys/new"))
	for i := range 250 {
		exec(t, d, `INSERT INTO users (id, email, email_verified, name, claims, method, password_hash, created_at, updated_at) VALUES ($1, $2, 1, $3, '{"a":"\n"}', 'password', NULL, $4, $4)`,
			fmt.Sprint("usr_", i), fmt.Sprint("p", i, "@example.com"), "Ada \u2028 \"<&>\" 😀", -1<<63+int64(i))
	}
	exec(t, d, `INSERT INTO totp (user_id, secret_sealed, last_step, failures, backup_failures, enabled_at, codes_salt, codes_total, codes_made_at) VALUES ('usr_0', $1, 9, 0, 0, 9007199254740993, $2, 0, 0)`,
		ring.Box("totp").Seal([]byte("secret"), "totp/usr_0"), []byte{0, 255, 10})
	exec(t, d, `INSERT INTO backup_codes (user_id, code_hash) VALUES ('usr_0', $1)`, []byte("hash"))
	exec(t, d, `UPDATE users SET passkey_handle = $1 WHERE id = 'usr_0'`, []byte("handle"))
	exec(t, d, `INSERT INTO passkeys (id, user_id, credential_id, public_key, name, aaguid, transports, sign_count, verifies, synced, backed_up, created_at) VALUES ('key', 'usr_0', $1, $1, 'Key', '', '', 4294967295, 1, 0, 0, 1)`, []byte{0, 1, 255})
	exec(t, d, `INSERT INTO clients (id, name, auth_method, redirect_uris, post_logout_redirect_uris, grant_types, scopes, id_token_alg, require_pkce, created_at, backchannel_logout_uri)
		VALUES ('told', 'Told', 'none', '[]', '[]', '[]', '[]', 'ES256', 1, 1, 'https://told.test/'), ('mute', 'Mute', 'none', '[]', '[]', '[]', '[]', 'ES256', 1, 1, '')`)
	exec(t, d, `INSERT INTO consents (user_id, client_id, scope, given_at) VALUES ('usr_0', 'told', 'openid', 1)`)
	for _, id := range []string{"heard", "unheard"} {
		exec(t, d, `INSERT INTO sessions (id, token_hash, user_id, auth_time, amr, acr, address, user_agent, created_at, seen_at, expires_at) VALUES ($1, $2, 'usr_0', 1, '', '', '', '', 1, 1, 1)`, id, []byte(id))
	}
	for id, g := range map[string]struct {
		client, session string
		redeemed, told  any
	}{
		"to tell": {"told", "heard", 1, nil}, "told": {"told", "heard", 1, 1}, "a code": {"told", "unheard", nil, nil}, "mute": {"mute", "unheard", 1, nil},
	} {
		exec(t, d, `INSERT INTO grants (id, session_id, client_id, scope, nonce, redirect_uri, challenge, auth_time, amr, acr, created_at, redeemed_at, told_at) VALUES ($1, $2, $3, '', '', '', '', 1, '', '', 1, $4, $5)`,
			id, g.session, g.client, g.redeemed, g.told)
	}
	exec(t, d, `INSERT INTO events (id, at, kind, user_id, actor, address, user_agent, detail, sealed) VALUES ('evt', 1, 'x', NULL, '', '', '', '{}', NULL), ('reset', 1, 'x', NULL, '', '', '', '{}', $1)`, []byte("sealed"))
	// What is left out.
	exec(t, d, `INSERT INTO throttles (key, tat) VALUES ('k', 1)`)
	exec(t, d, `INSERT INTO assertions (jti_hash, expires_at) VALUES ($1, 1)`, []byte("jti"))
	exec(t, d, `INSERT INTO logins (token_hash, user_id, amr, credential, new_browser, tries, created_at, expires_at) VALUES ($1, 'usr_0', '', 0, 0, 0, 1, 1)`, []byte("login"))
	exec(t, d, `INSERT INTO resets (token_hash, user_id, kind, created_at, expires_at) VALUES ($1, 'usr_0', 'email', 1, 1)`, []byte("reset"))
	exec(t, d, `INSERT INTO enrollments (user_id, session_id, purpose, sealed, created_at, expires_at) VALUES ('usr_0', 'heard', 'totp', $1, 1, 1)`, []byte("sealed"))
	exec(t, d, `INSERT INTO google_flows (state_hash, browser_hash, go_on, sealed, created_at, expires_at) VALUES ($1, $1, '', $1, 1, 1)`, []byte("flow"))
	exec(t, d, `INSERT INTO pushed_requests (uri_hash, client_id, params, expires_at) VALUES ($1, 'told', '', 1)`, []byte("uri"))
	exec(t, d, `INSERT INTO ceremonies (token_hash, purpose, sealed, created_at, expires_at) VALUES ($1, 'sign_in', $1, 1, 1)`, []byte("ceremony"))
	exec(t, d, `INSERT INTO auth_requests (id, browser_hash, client_id, params, created_at, expires_at) VALUES ('req', $1, 'told', '{}', 1, 1)`, []byte("browser"))
}

// dump is every row of every table, sorted.
func dump(t *testing.T, d *db.DB) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := d.Snapshot(ctx, func(tx *db.Tx) error {
		tables, err := tx.Tables(ctx)
		if err != nil {
			return err
		}
		for _, table := range tables {
			if table.Name == "migrations" {
				continue
			}
			var b bytes.Buffer
			out[table.Name] = []string{}
			w := &lineWriter{w: bufio.NewWriter(&b), sum: sha256.New()}
			if _, err := writeTable(ctx, tx, w, table, "", keyCount{}); err != nil {
				return err
			}
			if err := w.w.Flush(); err != nil {
				return err
			}
			rows := strings.Split(strings.TrimSpace(b.String()), "\n")[1:]
			slices.Sort(rows)
			out[table.Name] = append(out[table.Name], rows...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What one engine gave, either takes, value for value; what works once is in
// no backup.
func TestRoundTrip(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, from string) {
		ring, source := newRing(t), dbtest.New(t, from)
		fill(t, source, ring)
		text, summary := made(t, source)
		want := dump(t, source)
		for name, rows := range want {
			if len(rows) == 0 {
				t.Fatalf("the test has nothing in %s", name)
			}
			if leaves[name] != "" {
				want[name] = []string{}
			}
		}
		want["sessions"] = slices.DeleteFunc(want["sessions"], func(r string) bool { return strings.HasPrefix(r, `["unheard"`) })
		want["grants"] = slices.DeleteFunc(want["grants"], func(r string) bool { return !strings.HasPrefix(r, `["to tell"`) })
		want["events"] = slices.DeleteFunc(want["events"], func(r string) bool { return strings.HasPrefix(r, `["reset"`) })
		for _, to := range dbtest.Engines {
			for what, url := range map[string]string{"empty": dbtest.Empty(t, to), "migrated": dbtest.URL(t, to)} {
				target := connect(t, url)
				s, err := Restore(ctx, target, bytes.NewReader(text), columns, nil, ring, nothing)
				if err != nil {
					t.Fatalf("into %s %s: %v", what, to, err)
				}
				if s.SHA256 != summary.SHA256 || s.Rows["users"] != 250 || s.Keys[ring.KeyID()] != 2 || !s.At.Equal(summary.At) {
					t.Errorf("into %s %s: %+v, want %+v", what, to, s, summary)
				}
				got := dump(t, target)
				for name := range want {
					if !slices.Equal(got[name], want[name]) {
						t.Errorf("into %s %s: %s has %.300q, want %.300q", what, to, name, got[name], want[name])
					}
				}
				if _, err := Restore(ctx, target, bytes.NewReader(text), columns, nil, ring, nothing); !errors.Is(err, ErrNotEmpty) {
					t.Errorf("a second time into %s: %v", to, err)
				}
			}
		}
	})
}

func connect(t *testing.T, url string) *db.DB {
	t.Helper()
	d, err := db.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// acts is a writer that does something when it is first written to.
type acts struct {
	io.Writer
	act func()
}

func (a *acts) Write(p []byte) (int, error) {
	if act := a.act; act != nil {
		a.act = nil
		act()
	}
	return a.Writer.Write(p)
}

// While a backup is being written, whoever writes does not wait, and the backup has
// nothing of it: it is of one moment.
func TestWhileInUse(t *testing.T) {
	dbtest.EachDB(t, func(t *testing.T, d *db.DB) {
		fill(t, d, newRing(t))
		claims := strings.Repeat("x", 1000)
		for i := range 100 { // more than what is buffered
			exec(t, d, `UPDATE users SET claims = $1 WHERE id = $2`, claims, fmt.Sprint("usr_", i))
		}
		before := dump(t, d)
		var b bytes.Buffer
		acted := false
		s, err := Create(ctx, d, &acts{&b, func() {
			acted = true
			exec(t, d, `INSERT INTO events (id, at, kind, actor, address, user_agent, detail) VALUES ('later', 1, 'x', '', '', '', '{}')`)
			exec(t, d, `DELETE FROM consents`)
			exec(t, d, `UPDATE clients SET name = 'Later'`)
		}}, columns, nil)
		if err != nil || !acted {
			t.Fatal(acted, err)
		}
		if s.Rows["events"] != 1 || s.Rows["consents"] != 1 {
			t.Errorf("rows %v", s.Rows)
		}
		target := dbtest.New(t, d.Engine())
		if _, err := Restore(ctx, target, &b, columns, nil, nil, nothing); err != nil {
			t.Fatal(err)
		}
		got := dump(t, target)
		for _, name := range []string{"users", "clients", "consents"} {
			if !slices.Equal(got[name], before[name]) {
				t.Errorf("%s has %.300q, want %.300q", name, got[name], before[name])
			}
		}
		exec(t, d, `DELETE FROM events`) // the connection went back as it was
	})
}

// A backup that was cut off, changed or added to is found out, by whoever reads it
// and before anything counts.
func TestDamage(t *testing.T) {
	ring, d := newRing(t), dbtest.New(t, "sqlite")
	fill(t, d, ring)
	text, _ := made(t, d)
	plain := unpack(t, text)
	lines := bytes.SplitAfter(plain, []byte("\n"))
	lines = lines[:len(lines)-1]
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	encrypted, _ := made(t, d, identity.Recipient())

	damaged := map[string][]byte{"empty": nil, "no backup": []byte("no backup"), "another's": pack(t, []byte("{\"backup\":\"x\"}\n")), "added to": append(slices.Clone(text), text...)}
	for _, n := range []int{1, 5, 20, len(text) / 2, len(text) - 9, len(text) - 1} {
		damaged[fmt.Sprint("cut to ", n)] = text[:n]
		changed := slices.Clone(text)
		changed[n] ^= 1
		if n > 9 { // the gzip header's own bytes may change
			damaged[fmt.Sprint("changed at ", n)] = changed
		}
	}
	for n := range lines { // cut between lines, and packed anew
		if n > 20 && n < len(lines)-20 {
			continue
		}
		damaged[fmt.Sprint("lines up to ", n)] = pack(t, bytes.Join(lines[:n], nil))
		damaged[fmt.Sprint("without line ", n)] = pack(t, bytes.Join(slices.Delete(slices.Clone(lines), n, n+1), nil))
	}
	damaged["another row"] = pack(t, bytes.Replace(plain, []byte("p17@"), []byte("p18@"), 1))
	damaged["another count"] = pack(t, bytes.Replace(plain, []byte(`"users":250}`), []byte(`"users":251}`), 1))
	damaged["another key"] = pack(t, bytes.Replace(plain, []byte(`"`+ring.KeyID()+`":2`), []byte(`"`+ring.KeyID()+`":3`), 1))
	damaged["more at the end"] = pack(t, append(slices.Clone(plain), "{}\n"...))
	damaged["a table of its own"] = pack(t, bytes.Replace(plain, []byte(`{"table":"consents"`), []byte(`{"table":"throttles"`), 1))
	damaged["a column of its own"] = pack(t, bytes.Replace(plain, []byte(`"given_at"`), []byte(`"given; at"`), 1))
	damaged["a type of its own"] = pack(t, bytes.Replace(plain, []byte(`["TEXT","TEXT","TEXT","BIGINT"]`), []byte(`["TEXT","TEXT","TEXT","TEXT"]`), 1))
	damaged["a long line"] = pack(t, append(slices.Clone(lines[0]), bytes.Repeat([]byte("x"), maxLine+1)...))
	damaged["an empty line"] = pack(t, slices.Concat(lines[0], []byte("\n"), bytes.Join(lines[1:], nil)))
	target := dbtest.New(t, "sqlite")
	for what, b := range damaged {
		if _, err := Verify(ctx, bytes.NewReader(b), columns, nil, ring); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Verify says %v", what, err)
		}
		if _, err := Restore(ctx, target, bytes.NewReader(b), columns, nil, ring, nothing); err == nil {
			t.Fatalf("%s: restored", what)
		}
	}
	for name, rows := range dump(t, target) {
		if len(rows) > 0 {
			t.Errorf("damaged backups left %d rows in %s", len(rows), name)
		}
	}

	for _, n := range []int{len(encrypted) / 2, len(encrypted) - 1} {
		if _, err := Verify(ctx, bytes.NewReader(encrypted[:n]), columns, []age.Identity{identity}, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("encrypted and cut to %d: %v", n, err)
		}
	}
	newer := pack(t, []byte(`{"backup":"harmony-id","version":2,"more":"x"}`+"\n"))
	if _, err := Verify(ctx, bytes.NewReader(newer), columns, nil, nil); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer form: %v", err)
	}
}

// Whoever writes a right checksum under a stream that Create would not write gets no
// further with it: the checksum is against accidents, and not all that there is.
func TestForged(t *testing.T) {
	const head = `{"backup":"harmony-id","version":1,"schema":1,"step":"0001_house"}`
	const settings, row = `{"table":"settings","columns":["name","value"],"types":["TEXT","TEXT"]}`, `["a","b"]`
	if s, err := Verify(ctx, bytes.NewReader(forged(t, head, settings, row)), columns, nil, nil); err != nil || s.Rows["settings"] != 1 {
		t.Fatalf("a right one: %+v, %v", s, err)
	}
	for what, lines := range map[string][]string{
		"a table twice":           {head, settings, row, settings, row},
		"a table of no backup":    {head, strings.Replace(settings, "settings", "throttles", 1), row},
		"a row before a table":    {head, `[]`, settings, row},
		"more values than fit":    {head, settings, `["a","b","c"]`},
		"a value of another type": {head, settings, `["a",1]`},
		"bytes that are none":     {head, `{"table":"settings","columns":["value"],"types":["BYTEA"]}`, `["AB=="]`},
		"a type that is none":     {head, `{"table":"settings","columns":["name"],"types":["JSON"]}`, `["a"]`},
		"a table without columns": {head, `{"table":"settings","columns":[],"types":[]}`},
		"columns without a type":  {head, `{"table":"settings","columns":["name","value"],"types":["TEXT"]}`},
		"a table that says more":  {head, strings.Replace(settings, "{", `{"where":"1=1",`, 1), row},
		"a row that is too long":  {head, settings, `["a","` + strings.Repeat("b", maxLine) + `"]`},
		"no beginning":            {settings, row},
	} {
		if _, err := Verify(ctx, bytes.NewReader(forged(t, lines...)), columns, nil, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, table := range map[string]string{
		"a column that the schema lacks": `{"table":"settings","columns":["name","value, name"],"types":["TEXT","TEXT"]}`,
		"a column of another type":       `{"table":"settings","columns":["name","value"],"types":["TEXT","BYTEA"]}`,
	} {
		target := dbtest.New(t, "sqlite")
		steps, err := target.Migrations(ctx)
		if err != nil {
			t.Fatal(err)
		}
		last := steps[len(steps)-1]
		newest := fmt.Sprintf(`{"backup":"harmony-id","version":1,"schema":%d,"step":%q}`, last.ID, last.Name)
		if err := restoring(target, forged(t, newest, table, `["a","YQ=="]`), nil, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// forged is a stream of these lines with the end that they would have.
func forged(t *testing.T, lines ...string) []byte {
	t.Helper()
	plain := strings.Join(lines, "\n") + "\n"
	end := endLine{End: true, Rows: map[string]int64{}, Keys: map[string]int64{}, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(plain)))}
	name := ""
	for _, line := range lines {
		var table tableLine
		if json.Unmarshal([]byte(line), &table) == nil && table.Table != "" {
			name = table.Table
			end.Rows[name] = 0
		} else if line[0] == '[' {
			end.Rows[name]++
		}
	}
	last, err := json.Marshal(end)
	if err != nil {
		t.Fatal(err)
	}
	return pack(t, append([]byte(plain), append(last, '\n')...))
}

func unpack(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func pack(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Only who holds an identity reads an encrypted backup, and only with the
// encryption keys is it of use.
func TestKeys(t *testing.T) {
	ring, d := newRing(t), dbtest.New(t, "sqlite")
	fill(t, d, ring)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	text, summary := made(t, d, identity.Recipient())
	if !summary.Encrypted || bytes.Contains(text, []byte("example.com")) || !strings.HasPrefix(string(text), ageIntro) {
		t.Errorf("not encrypted: %+v", summary)
	}
	if got := summary.KeyIDs(); !slices.Equal(got, []string{ring.KeyID()}) {
		t.Errorf("it needs %q", got)
	}
	for what, ids := range map[string][]age.Identity{"nobody": nil, "another": {other}} {
		if _, err := Verify(ctx, bytes.NewReader(text), columns, ids, nil); !errors.Is(err, ErrIdentity) {
			t.Errorf("%s opens it: %v", what, err)
		}
	}
	ids := []age.Identity{other, identity}
	if s, err := Verify(ctx, bytes.NewReader(text), columns, ids, ring); err != nil || s.SHA256 != summary.SHA256 || !s.Encrypted {
		t.Errorf("Verify = %+v, %v", s, err)
	}

	target := dbtest.New(t, "sqlite")
	missing, ok := errors.AsType[*MissingKeysError](restoring(target, text, ids, newRing(t)))
	if !ok || !slices.Equal(missing.IDs, []string{ring.KeyID()}) || !strings.Contains(missing.Error(), ring.KeyID()) {
		t.Errorf("without the key: %v", missing)
	}
	exec(t, d, `UPDATE totp SET secret_sealed = $1`, ring.Box("totp").Seal([]byte("secret"), "totp/usr_1")) // of another row
	moved, _ := made(t, d)
	if err := restoring(target, moved, nil, ring); !errors.Is(err, secret.ErrSealed) {
		t.Errorf("a value that does not open: %v", err)
	}
	if n := dump(t, target)["users"]; len(n) > 0 {
		t.Errorf("refused, and left %d people", len(n))
	}
	if err := restoring(target, moved, nil, nil); err != nil {
		t.Errorf("without looking: %v", err)
	}
}

func restoring(d *db.DB, text []byte, ids []age.Identity, ring *secret.Ring) error {
	_, err := Restore(ctx, d, bytes.NewReader(text), columns, ids, ring, nothing)
	return err
}
