package device

import (
	"regexp"
	"testing"
)

func TestModel(t *testing.T) {
	for id, want := range map[string]string{
		"ea9b8d664d011d213ce4b6b48cb575d4": "Google Password Manager", "fbfc3007154e4ecc8c0b6e020557d7bd": "Apple Passwords",
		"": "", "00000000000000000000000000000000": "", "EA9B8D664D011D213CE4B6B48CB575D4": "",
	} {
		if got := Model(id); got != want {
			t.Errorf("Model(%q) = %q, want %q", id, got, want)
		}
	}
	for id, name := range models() {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) || name == "" {
			t.Errorf("%q: %q", id, name)
		}
	}
}
