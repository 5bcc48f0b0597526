package secret

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
)

// CR-08: tokens and ids do not repeat, have no pattern, and every byte of a token
// is as likely as every other.
func TestRandom(t *testing.T) {
	const n = 10000
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-`)
	seen := map[string]bool{}
	var bytes, letters [256]int
	for range n {
		for _, s := range []string{Token("hxx_"), ID("row_")} {
			if seen[s] || uuid.MatchString(s[4:]) {
				t.Fatalf("%q", s)
			}
			seen[s] = true
		}
		b, err := base64.RawURLEncoding.DecodeString(Token(""))
		if err != nil || len(b) != 32 {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		for _, c := range b {
			bytes[c]++
		}
		id := ID("")
		if len(id) != 26 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Fatalf("ID = %q", id)
		}
		for _, c := range []byte(id) {
			letters[c]++
		}
	}
	// 1250 of each are expected, with a deviation of 35: eight of those never happen.
	for c, got := range bytes {
		if got < 1250-8*36 || got > 1250+8*36 {
			t.Errorf("byte %#x came %d times, want about 1250", c, got)
		}
	}
	for _, c := range "abcdefghijklmnopqrstuvwxyz234567" {
		if want := n * 26 / 32; letters[c] < want-8*90 || letters[c] > want+8*90 {
			t.Errorf("%q came %d times, want about %d", c, letters[c], want)
		}
	}
}

// I16: a MAC is another one for another purpose, for other data, and for other keys.
func TestMACs(t *testing.T) {
	a := ring(t, string(GenerateKeyFile()))
	seen := map[string]bool{}
	for _, r := range []*Ring{a, ring(t, string(GenerateKeyFile()))} {
		for _, purpose := range []string{"", "p", "pd", "box/p"} {
			for _, data := range []string{"", "d", "dd", "pd"} {
				m := r.MACs(purpose, []byte(data))
				if len(m) != 1 || len(m[0]) != 32 || seen[string(m[0])] {
					t.Fatalf("MAC of %q for %q", data, purpose)
				}
				seen[string(m[0])] = true
			}
		}
	}
}
