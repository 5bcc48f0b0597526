package account

import (
	"crypto/sha256"
	_ "embed"
	"sort"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// breachedDigests are the digests of passwords that are known from breaches, in
// rising order, without anything between them. breached/generate.go made them of
// the million most common ones, and breached/NOTICE says whose list that is.
//
//go:embed breached/passwords.bin
var breachedDigests string

// digestBytes is how much of a SHA-256 is kept. Of a million passwords that are
// not on the list, fewer than one on average is taken for one that is.
const digestBytes = 5

// breached reports whether a password is on the list of those that are known
// from breaches (ASVS 6.2.4, 6.2.12; NIST SP 800-63B-4 3.1.1.2). Upper and lower
// case are the same to it: whoever guesses "password123" guesses "Password123".
func breached(password string) bool {
	sum := sha256.Sum256([]byte(strings.ToLower(norm.NFC.String(password))))
	want := string(sum[:digestBytes])
	at := func(i int) string { return breachedDigests[i*digestBytes : (i+1)*digestBytes] }
	n := len(breachedDigests) / digestBytes
	i := sort.Search(n, func(i int) bool { return at(i) >= want })
	return i < n && at(i) == want
}
