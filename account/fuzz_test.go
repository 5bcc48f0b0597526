package account

import (
	"encoding/json"
	"strings"
	"testing"
)

// An answer of a passkey that is passed on is JSON, and small.
func FuzzPlainJSON(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"a":1,"a":2}`, `{"a":{"b":[1,2,{"c":null}]}}`, "[[[[[[[[[]]]]]]]]]", `{"id":"x"} {}`, `{"a":}`, "\xff", `{"a":1e999}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if plainJSON(s) && (len(s) > maxAnswer || !json.Valid([]byte(s))) {
			t.Errorf("%q is taken", s)
		}
	})
}

// An address has one canonical form, which is its own.
func FuzzCanonicalEmail(f *testing.F) {
	for _, seed := range []string{"ada@example.com", " Ada@Example.COM ", "a@b", "ada@bücher.example", "ada@xn--bcher-kva.example", "a@b@c", "\u202eada@example.com", "ﬁ@example.com", "ada@example.com\x00", "K@example.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		email, err := CanonicalEmail(s)
		if err != nil {
			return
		}
		if again, err := CanonicalEmail(email); err != nil || again != email {
			t.Errorf("%q becomes %q, and that %q: %v", s, email, again, err)
		}
		if strings.Count(email, "@") < 1 || strings.ContainsFunc(email, unprintable) || strings.TrimSpace(email) != email {
			t.Errorf("%q becomes %q", s, email)
		}
	})
}

// A hash that another program made is kept in a form that is taken again, and costs
// no more than is allowed.
func FuzzForeignHash(f *testing.F) {
	for _, seed := range []string{
		"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "argon2$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
		"$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", "bcrypt$$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", "$2b$31$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
		"$pbkdf2-sha256$i=600000,l=32$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g", "pbkdf2_sha256$600000$salt$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g=", "$pbkdf2-sha512$999999999$$", "$5$rounds=1000$x$y", "",
	} {
		f.Add(seed)
	}
	const memory = 64 << 20
	f.Fuzz(func(t *testing.T, s string) {
		kept, err := foreignHash(s, memory)
		if err != nil {
			return
		}
		if again, err := foreignHash(kept, memory); err != nil || again != kept {
			t.Errorf("%q is kept as %q, and that as %q: %v", s, kept, again, err)
		}
	})
}
