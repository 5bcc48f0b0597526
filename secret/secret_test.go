package secret

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func ring(t *testing.T, text string) *Ring {
	t.Helper()
	r, err := ParseRing([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGeneratedKeyFile(t *testing.T) {
	a, b := GenerateKeyFile(), GenerateKeyFile()
	if bytes.Equal(a, b) {
		t.Fatal("two key files are the same")
	}
	sealed := ring(t, string(a)).Box("p").Seal([]byte("plain"), "row")
	if _, err := ring(t, string(b)).Box("p").Open(sealed, "row"); !errors.Is(err, ErrSealed) {
		t.Errorf("another file's key opens it: %v", err)
	}
}

// CR-05: a key file that is not right says which line and never shows a key.
func TestKeyFileRefused(t *testing.T) {
	const key = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
	for text, want := range map[string]string{
		"":                            "no key",
		"# only a comment\n\n":        "no key",
		"k1 " + key:                   "line 1",
		"k1:" + key[:20]:              "line 1",
		"k1:!" + key[1:]:              "line 1",
		"a b:" + key:                  "line 1",
		"\nk1:" + key + "\nk1:" + key: "line 3",
		"k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=": "not random",
		strings.Repeat("k", 33) + ":" + key:               "line 1",
	} {
		_, err := ParseRing([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRing(%q) = %v, want %q in it", text, err, want)
		} else if strings.Contains(err.Error(), key[1:20]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

// CR-06, I16: what was sealed opens for its purpose and row only, and not with
// one bit changed.
func TestBox(t *testing.T) {
	const k1, k2 = "k1:q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=", "k2:EjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8="
	r := ring(t, k1)
	box := r.Box("signing key")
	sealed := box.Seal([]byte("plain"), "signing_keys/a")
	if got, err := box.Open(sealed, "signing_keys/a"); err != nil || string(got) != "plain" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if bytes.Contains(sealed, []byte("plain")) || bytes.Equal(sealed, box.Seal([]byte("plain"), "signing_keys/a")) {
		t.Error("not sealed, or sealed twice alike")
	}
	for what, open := range map[string]func() ([]byte, error){
		"another row":     func() ([]byte, error) { return box.Open(sealed, "signing_keys/b") },
		"another purpose": func() ([]byte, error) { return r.Box("browser").Open(sealed, "signing_keys/a") },
		"another ring":    func() ([]byte, error) { return ring(t, k2).Box("signing key").Open(sealed, "signing_keys/a") },
		"nothing":         func() ([]byte, error) { return box.Open(nil, "signing_keys/a") },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("%s: Open = %q, %v", what, got, err)
		}
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if _, err := box.Open(bad, "signing_keys/a"); !errors.Is(err, ErrSealed) {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, err)
			}
		}
		if _, err := box.Open(sealed[:i], "signing_keys/a"); !errors.Is(err, ErrSealed) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	// A new key in front seals; the old one still opens what it sealed.
	both := ring(t, k2+"\n"+k1)
	if got, err := both.Box("signing key").Open(sealed, "signing_keys/a"); err != nil || string(got) != "plain" {
		t.Errorf("after a new key: %q, %v", got, err)
	}
	if _, err := box.Open(both.Box("signing key").Seal([]byte("x"), "r"), "r"); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), `"k2"`) {
		t.Errorf("what the new key sealed, without it: %v", err)
	}
	if m := both.MACs("p", []byte("d")); len(m) != 2 || bytes.Equal(m[0], m[1]) || !bytes.Equal(m[1], r.MACs("p", []byte("d"))[0]) || bytes.Equal(m[0], both.MACs("q", []byte("d"))[0]) {
		t.Error("MACs are not one for each key and purpose")
	}
}

func TestToken(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := Token("hxx_")
		if !IsToken(s, "hxx_") || seen[s] {
			t.Fatalf("Token = %q", s)
		}
		seen[s] = true
		for _, bad := range []string{s[:len(s)-1], s + "A", "x" + s, strings.ToUpper(s[:4]) + s[4:], s[:10] + "\n" + s[11:], s[:10] + "=" + s[11:]} {
			if IsToken(bad, "hxx_") {
				t.Fatalf("IsToken(%q)", bad)
			}
		}
	}
	if bytes.Equal(Hash("a"), Hash("b")) || len(Hash("a")) != 32 {
		t.Error("Hash")
	}
}
