package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// tokenBytes is the randomness of a token: 256 bits (RFC 9700 4.13, ASVS 7.2.3 ask 128).
const tokenBytes = 32

// Token returns prefix and 43 characters of base64url: 256 random bits.
func Token(prefix string) string {
	b := make([]byte, tokenBytes)
	rand.Read(b)
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// IsToken reports whether s has the form that Token gives for prefix.
func IsToken(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || len(rest) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	return err == nil && len(b) == tokenBytes // the decoder skips line breaks
}

// ID returns a new name for a row: prefix and 130 random bits as 26 letters and
// digits in lower case. It cannot be guessed, and it is not a secret.
func ID(prefix string) string {
	return prefix + strings.ToLower(rand.Text())
}

// Hash is how a token is stored: its SHA-256. A token has 256 random bits, so
// the hash needs no salt and no work factor.
func Hash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
