package secret

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// keySize is the length of a ring's key in bytes.
const keySize = 32

// maxKeyID bounds a key's id, which stands in front of every sealed value.
const maxKeyID = 32

var keyID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// A Ring holds the deployment's encryption keys. The first seals; all open.
// A Ring does not change after ParseRing and may be used by many goroutines.
type Ring struct {
	keys []ringKey
}

type ringKey struct {
	id    string
	bytes []byte
}

// GenerateKeyFile returns the text of a new key file with one key, in the form
// that ParseRing reads.
func GenerateKeyFile() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	id := make([]byte, 3)
	rand.Read(id)
	return fmt.Appendf(nil, `# Harmony ID encryption keys, one "id:base64" a line. The first key encrypts, all of them decrypt.
# Keep this file secret, keep a copy away from the database's backups, and never delete a key that is still in use.
k%s%x:%s
`, time.Now().UTC().Format("060102"), id, base64.StdEncoding.EncodeToString(key))
}

// ParseRing reads a key file: "id:base64" lines, of which the first encrypts;
// blank lines and lines that begin with # are passed over. It refuses a file
// with no key, a key that is not 32 bytes or all alike, and an id that comes
// twice. Its errors name the line and never show the key.
func ParseRing(text []byte) (*Ring, error) {
	r := &Ring{}
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, b64, ok := strings.Cut(line, ":")
		if !ok || !keyID.MatchString(id) {
			return nil, fmt.Errorf("line %d is not id:base64", n)
		}
		key, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return nil, fmt.Errorf("line %d: key %q is not base64", n, id)
		}
		if len(key) != keySize {
			return nil, fmt.Errorf("line %d: key %q has %d bytes, not %d", n, id, len(key), keySize)
		}
		if bytes.Count(key, key[:1]) == keySize {
			return nil, fmt.Errorf("line %d: key %q is not random", n, id)
		}
		if r.find(id) != nil {
			return nil, fmt.Errorf("line %d: key %q stands there twice", n, id)
		}
		r.keys = append(r.keys, ringKey{id, key})
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(r.keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return r, nil
}

// KeyID is the id of the key that seals now.
func (r *Ring) KeyID() string { return r.keys[0].id }

func (r *Ring) find(id string) []byte {
	for _, k := range r.keys {
		if k.id == id {
			return k.bytes
		}
	}
	return nil
}

func derive(key []byte, purpose string) []byte {
	out, err := hkdf.Key(sha256.New, key, nil, "harmony-id/"+purpose, keySize)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	return out
}

// Box returns the box for one purpose, such as "signing key". What one purpose
// sealed no other opens.
func (r *Ring) Box(purpose string) *Box {
	b := &Box{aeads: make(map[string]cipher.AEAD, len(r.keys)), id: r.keys[0].id}
	for _, k := range r.keys {
		aead, err := chacha20poly1305.NewX(derive(k.bytes, "box/"+purpose))
		if err != nil {
			panic(err) // only for a key of another length
		}
		b.aeads[k.id] = aead
	}
	return b
}

// MACs returns the HMAC-SHA-256 of data for one purpose under every key of the
// ring, the current key's first: who computes takes the first, who compares
// tries them all.
func (r *Ring) MACs(purpose string, data []byte) [][]byte {
	out := make([][]byte, 0, len(r.keys))
	for _, k := range r.keys {
		m := hmac.New(sha256.New, derive(k.bytes, "mac/"+purpose))
		m.Write(data)
		out = append(out, m.Sum(nil))
	}
	return out
}

// ErrSealed means that a sealed value does not open: it was changed, belongs to
// another row or purpose, or its key is not in the ring.
var ErrSealed = errors.New("sealed value does not open")

// A Box seals values for one purpose. It may be used by many goroutines.
type Box struct {
	id    string
	aeads map[string]cipher.AEAD
}

// Seal encrypts plain and binds it to row, which names the place it is kept at,
// as "signing_keys/abc".
func (b *Box) Seal(plain []byte, row string) []byte {
	aead := b.aeads[b.id]
	out := make([]byte, 0, 1+len(b.id)+aead.NonceSize()+len(plain)+aead.Overhead())
	out = append(out, byte(len(b.id)))
	out = append(out, b.id...)
	nonce := out[len(out) : len(out)+aead.NonceSize()]
	rand.Read(nonce)
	return aead.Seal(out[:len(out)+len(nonce)], nonce, plain, []byte(row))
}

// Open decrypts what Seal made for the same row. Its error is ErrSealed, which
// names the key's id where that is what is missing.
func (b *Box) Open(sealed []byte, row string) ([]byte, error) {
	if len(sealed) < 1 || int(sealed[0]) > maxKeyID || len(sealed) < 1+int(sealed[0]) {
		return nil, ErrSealed
	}
	id, rest := string(sealed[1:1+sealed[0]]), sealed[1+sealed[0]:]
	aead := b.aeads[id]
	if aead == nil {
		if !keyID.MatchString(id) {
			return nil, ErrSealed
		}
		return nil, fmt.Errorf("%w: no key %q in the ring", ErrSealed, id)
	}
	if len(rest) < aead.NonceSize() {
		return nil, ErrSealed
	}
	plain, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], []byte(row))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// Has reports whether the ring holds the key with this id.
func (r *Ring) Has(id string) bool { return r.find(id) != nil }

// KeyOf is the id of the key that sealed a value, or false for what is no sealed
// value.
func KeyOf(sealed []byte) (id string, ok bool) {
	if len(sealed) < 1 || len(sealed) < 1+int(sealed[0]) {
		return "", false
	}
	id = string(sealed[1 : 1+sealed[0]])
	return id, keyID.MatchString(id)
}

// A Column is a column of the database whose values are sealed, or are empty. Each
// value is bound to its table and to Key, the one column of the primary key: as text
// is, as bytes in hexadecimal.
type Column struct {
	Table, Column, Key string
	Purpose            string // of the Box
}

// Row is what a value of the column is bound to; key is a string or a []byte.
func (c Column) Row(key any) string {
	if b, ok := key.([]byte); ok {
		return fmt.Sprintf("%s/%x", c.Table, b)
	}
	return fmt.Sprintf("%s/%v", c.Table, key)
}
