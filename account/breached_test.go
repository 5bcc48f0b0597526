package account

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
)

// ASVS 6.2.4, 6.2.12: what everyone would try first is on the list, however it
// is typed.
func TestBreached(t *testing.T) {
	for _, in := range []string{
		"12345678", "1234567890", "123456789012", "1q2w3e4r", "1q2w3e4r5t", "1qaz2wsx", "zaq12wsx", "q1w2e3r4t5y6",
		"abcd1234", "qwerty123", "qwertyuiop", "password", "password1", "password123", "password1234", "passw0rd",
		"iloveyou", "iloveyou1", "sunshine", "princess", "football", "superman", "starwars", "trustno1", "letmein123",
	} {
		for _, typed := range []string{in, strings.ToUpper(in), strings.ToUpper(in[:1]) + in[1:]} {
			if !breached(typed) {
				t.Errorf("%q is not on the list", typed)
			}
		}
	}
	for _, in := range []string{"", "engine of analysis", "correct horse battery", " password123", "password123 ", "pässword123", "\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if breached(in) {
			t.Errorf("%q is on the list", in)
		}
	}
	for range 10_000 {
		if in := rand.Text(); breached(in) {
			t.Errorf("%q is on the list", in)
		}
	}
}

// The list is what generate.go writes: sorted, each digest once, and as many as
// it counted.
func TestBreachedList(t *testing.T) {
	const count = 474_743
	if len(breachedDigests) != count*digestBytes {
		t.Fatalf("%d bytes, want %d digests of %d", len(breachedDigests), count, digestBytes)
	}
	for i := digestBytes; i < len(breachedDigests); i += digestBytes {
		if before, at := breachedDigests[i-digestBytes:i], breachedDigests[i:i+digestBytes]; before >= at {
			t.Fatalf("digest %d: %x after %x", i/digestBytes, at, before)
		}
	}
}

// Each reason has its code, and the first that holds is given.
func TestWeakErrorCodes(t *testing.T) {
	s := newStore(t, "sqlite", Config{})
	for in, want := range map[string]string{
		"elevenchars":                   "short",
		"iloveyou1":                     "short",
		strings.Repeat("x", 257):        "long",
		"nul\x00in the middle":          "symbols",
		"Password1234":                  "breached",
		"q1w2e3r4t5y6":                  "breached",
		"lovelace.ada":                  "personal",
		"Harmony Workspace Password":    "personal",
		"correct horse battery staple!": "",
	} {
		err := s.checkNewPassword(in, "ada.lovelace@example.com", "Ada Lovelace")
		weak, _ := errors.AsType[*WeakError](err)
		if weak == nil {
			weak = &WeakError{}
		}
		if weak.Code != want || (err == nil) != (want == "") || (weak.Reason == "") != (want == "") {
			t.Errorf("%q: code %q, %v, want code %q", in, weak.Code, err, want)
		}
	}
}

func BenchmarkBreached(b *testing.B) {
	for b.Loop() {
		breached("a password that is on no list")
	}
}
