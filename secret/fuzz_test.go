package secret

import (
	"bytes"
	"testing"
)

// A file of keys that is taken seals and opens.
func FuzzParseRing(f *testing.F) {
	f.Add(GenerateKeyFile())
	for _, seed := range []string{"", "# nothing\n", "k1:AAAA\n", "k1:" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", ":\n", "k1\n", "k 1:x\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := ParseRing(text)
		if err != nil {
			return
		}
		box := ring.Box("fuzz")
		sealed := box.Seal([]byte("plain"), "row")
		if id, ok := KeyOf(sealed); !ok || id != ring.KeyID() {
			t.Errorf("sealed with %q, says %q", ring.KeyID(), id)
		}
		if plain, err := box.Open(sealed, "row"); err != nil || !bytes.Equal(plain, []byte("plain")) {
			t.Errorf("%q: %v", plain, err)
		}
	})
}

// What was not sealed here does not open, whatever it is.
func FuzzOpen(f *testing.F) {
	ring, err := ParseRing(GenerateKeyFile())
	if err != nil {
		f.Fatal(err)
	}
	box := ring.Box("fuzz")
	f.Add(box.Seal([]byte("plain"), "another row"))
	f.Add([]byte{})
	f.Add([]byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		KeyOf(sealed)
		if plain, err := box.Open(sealed, "row"); err == nil {
			t.Errorf("%x opens: %q", sealed, plain)
		}
	})
}
