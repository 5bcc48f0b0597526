package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db/dbtest"
)

// Of "a quiet harbour at dusk", by libxcrypt and Python's hashlib.
const (
	byBcrypt = "$2b$04$abcdefghijklmnopqrstuupTFg8QlJCEYuJ/lauzBeSt/lhscQDq."
	byPBKDF2 = "pbkdf2_sha256$60000$seasalt2$wQkZ+gk+Wtqb48ASQqxfi5A1SxHEUJPhSjWiEEo801U="
)

// People come with the hashes that another program made, sign in with the passwords
// that they had, and have a hash of ours from then on.
func TestUserImport(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		file := filepath.Join(t.TempDir(), "users.ndjson")
		write(t, file, `{"email":"Grace@Example.com","name":"Grace Hopper","email_verified":true,"password_hash":"`+byBcrypt+`","claims":{"given_name":"Grace"}}

{"email":"mary@example.com","name":"Mary Somerville","password_hash":"`+byPBKDF2+`"}
{"email":"none@example.com","name":"No Password"}
`)
		r := k.run("", "user", "import", "-f", file, "--dry-run", "-o", "json").want(0).object(importResult{})
		if r["lines"] != 3.0 || r["imported"] != 3.0 {
			t.Errorf("dry run: %v", r)
		}
		k.run("", "user", "show", "grace@example.com").want(exitNotFound)
		k.run("", "user", "import", "-f", file).want(0, "Imported  3")
		grace := k.run("", "user", "show", "grace@example.com", "-o", "json").want(0).object(userDetail{})
		if grace["name"] != "Grace Hopper" || grace["email_verified"] != true || grace["has_password"] != true || !reflect.DeepEqual(grace["claims"], map[string]any{"given_name": "Grace"}) {
			t.Errorf("Grace = %v", grace)
		}
		k.run("", "user", "show", "none@example.com").want(0, "no password")

		hash := func(email string) (hash string) {
			t.Helper()
			if err := k.db.QueryRow(t.Context(), `SELECT password_hash FROM users WHERE email = $1`, email).Scan(&hash); err != nil {
				t.Fatal(err)
			}
			return hash
		}
		for _, email := range []string{"grace@example.com", "mary@example.com"} {
			before := hash(email)
			if _, err := k.try(email, goodPassword+"!", chromeOnMac); !errors.Is(err, account.ErrWrong) {
				t.Errorf("%s signs in with a wrong password: %v", email, err)
			}
			if hash(email) != before {
				t.Errorf("%s: a wrong password made the hash anew", email)
			}
			token := k.signIn(email, goodPassword, chromeOnMac)
			if after := hash(email); !strings.HasPrefix(after, "$argon2id$v=19$m=19456,t=2,p=1$") {
				t.Errorf("%s has the hash %s after signing in", email, after)
			}
			if !k.lives(token) {
				t.Errorf("%s: the session ended with the old hash", email)
			}
			k.signIn(email, goodPassword, chromeOnMac)
		}
		if all := k.letters(); all[account.EventPasswordChanged].ID != "" || all["user_created"].ID != "" {
			t.Errorf("people are told: %v", all)
		}

		k.run("", "user", "import", "-f", file).want(exitRefused, "another account has this email address", "3 of 3 lines are wrong")
		again := k.run("", "user", "import", "-f", file, "--skip-existing", "-o", "json").want(0).object(importResult{})
		if again["imported"] != 0.0 || again["skipped"] != 3.0 {
			t.Errorf("again: %v", again)
		}
	})
}

// What is wrong is said of each line, by its number and without the hash; then
// nobody is imported.
func TestUserImportRefusals(t *testing.T) {
	k := newDesk(t, "sqlite")
	dir := t.TempDir()
	lines := []string{
		`{"email":"good@example.com","name":"Good"}`,
		`{"email":"no address","name":"X"}`,
		`{"email":"a@example.com","name":" "}`,
		`{"email":"b@example.com","name":"B","password_hash":"5f4dcc3b5aa765d61d8327deb882cf99"}`,
		`{"email":"c@example.com","name":"C","password_hash":"$2b$31$abcdefghijklmnopqrstuuG.O.HVoYYaE8RwNH5tk8SUwuX1qNKJO"}`,
		`{"email":"d@example.com","name":"D","password":"in clear"}`,
		`{"email":"e@example.com","name":"E","claims":{"admin":true}}`,
		`{"email":"GOOD@example.com","name":"Twice"}`,
		`{"email":"` + adaEmail + `","name":"Ada"}`,
		`{"email":"f@example.com","name":"F"} {}`,
		`[]`,
		`{"email":"g@example.com","name":"G","claims":{"birthdate":"yesterday"}}`,
	}
	file := filepath.Join(dir, "users.ndjson")
	write(t, file, strings.Join(lines, "\n"))
	ran := k.run("", "user", "import", "-f", file, "-o", "json").want(exitRefused, "11 of 12 lines are wrong")
	var r importResult
	if err := json.Unmarshal([]byte(ran.stdout), &r); err != nil {
		t.Fatal(err)
	}
	want := []string{"2 email", "3 name", "4 password_hash", "5 password_hash: has the cost 31", "6 is not such an object", "7 is not such an object", "8 email: the same as in line 1", "9 email: another account", "10 has something after", "11 is not such an object", "12 birthdate"}
	if len(r.Errors) != len(want) || r.Imported != 0 {
		t.Fatalf("%+v", r)
	}
	for i, e := range r.Errors {
		if got := fmt.Sprintf("%d %s", e.Line, e.Reason); !strings.HasPrefix(got, want[i]) || strings.Contains(got, "5f4dcc") || strings.Contains(got, "in clear") {
			t.Errorf("%q, want %q", got, want[i])
		}
	}
	k.run("", "user", "import", "-f", file).want(exitRefused, "LINE", "has the cost 31")
	k.run("", "user", "show", "good@example.com").want(exitNotFound)
	k.run("", "user", "import", "-f", filepath.Join(dir, "nowhere")).want(exitUsage, "--file")
	write(t, file, lines[0]+"\n"+`{"email":"`+strings.Repeat("x", maxImportLine)+`"}`)
	k.run("", "user", "import", "-f", file).want(exitRefused, "line 2 is longer")
}

// Ten thousand people come in seconds, whatever their hashes cost: none is computed.
func TestUserImportTenThousand(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		sh := onDatabase(t, engine)
		var b strings.Builder
		for i := range 10_000 {
			fmt.Fprintf(&b, `{"email":"p%d@example.com","name":"P","password_hash":"$2b$14$abcdefghijklmnopqrstuuG.O.HVoYYaE8RwNH5tk8SUwuX1qNKJO"}`+"\n", i)
		}
		file := filepath.Join(t.TempDir(), "users.ndjson")
		write(t, file, b.String())
		sh.run("", "user", "import", "-f", file).want(0, "10000")
		if all := sh.run("", "user", "list", "-o", "json").want(0).objects(userResult{}); len(all) != 10_000 {
			t.Errorf("%d people", len(all))
		}
	})
}
