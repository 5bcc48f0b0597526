package account

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"
)

// Hashes of passwords that other programs made. They are taken as they are, and
// made anew when their person signs in.

// The bounds of hashes that are taken in. Whoever signs in has the provider
// compute one: it must not cost more than about a second, or more memory than
// there is.
const (
	maxForeignMemory  = 128 << 10 // KiB, of Argon2id
	maxForeignWork    = 1 << 20   // KiB times passes, of Argon2id
	maxForeignThreads = 16
	maxForeignCost    = 14        // of bcrypt; each more doubles it
	maxForeignRounds  = 2_000_000 // of PBKDF2
	minForeignRounds  = 1000      // RFC 8018 4.2
	maxForeignSalt    = 128       // bytes
)

// bcryptBytes is as much of a password as bcrypt looks at.
const bcryptBytes = 72

var (
	bcryptHash = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)
	// As PHC has it, and as passlib does, with and without "i=" and the length.
	pbkdf2Hash = regexp.MustCompile(`^\$pbkdf2-(sha256|sha512)\$(?:i=)?([0-9]{1,9})(?:,l=[0-9]{1,3})?\$([A-Za-z0-9+/.]*=*)\$([A-Za-z0-9+/.]+=*)$`)
	// As Django has it; the salt is text.
	djangoHash = regexp.MustCompile(`^pbkdf2_(sha256|sha512)\$([0-9]{1,9})\$([!-#%-~]+)\$([A-Za-z0-9+/]+=*)$`)
)

// foreignHash returns the form in which a hash that another program made is kept,
// or says why it cannot be taken. memory bounds hashing at once, in bytes.
func foreignHash(s string, memory int64) (kept string, err error) {
	s = strings.TrimPrefix(s, "bcrypt$") // Django's
	if after, ok := strings.CutPrefix(s, "argon2$"); ok {
		s = "$" + after
	}
	if m := djangoHash.FindStringSubmatch(s); m != nil {
		s = fmt.Sprintf("$pbkdf2-%s$i=%s$%s$%s", m[1], m[2], base64.RawStdEncoding.EncodeToString([]byte(m[3])), m[4])
	}
	switch {
	case strings.HasPrefix(s, "$argon2id$"):
		p, _, _, err := parsePHC(s)
		switch {
		case err != nil:
			return "", errors.New("is not Argon2id as $argon2id$v=19$m=…,t=…,p=…$SALT$HASH")
		case p.memory > maxForeignMemory || int64(p.memory)<<10 > memory:
			return "", fmt.Errorf("needs %d KiB of memory, more than %d or than hash-memory", p.memory, maxForeignMemory)
		case uint64(p.memory)*uint64(p.time) > maxForeignWork || p.threads > maxForeignThreads:
			return "", errors.New("costs too much at each sign-in")
		}
		return s, nil
	case strings.HasPrefix(s, "$2"):
		m := bcryptHash.FindStringSubmatch(s)
		if m == nil {
			return "", errors.New("is not bcrypt as $2b$12$…, of 60 characters")
		}
		if cost, err := strconv.Atoi(m[1]); err != nil || cost < bcrypt.MinCost || cost > maxForeignCost {
			return "", fmt.Errorf("has the cost %s, not %d to %d", m[1], bcrypt.MinCost, maxForeignCost)
		}
		return s, nil
	case strings.HasPrefix(s, "$pbkdf2-"):
		d, err := parsePBKDF2(s)
		if err != nil {
			return "", err
		}
		enc := base64.RawStdEncoding.EncodeToString
		return fmt.Sprintf("$pbkdf2-%s$i=%d$%s$%s", d.name, d.rounds, enc(d.salt), enc(d.key)), nil
	}
	return "", errors.New("is none of argon2id, bcrypt, pbkdf2-sha256 and pbkdf2-sha512")
}

// A derived is a hash of PBKDF2 (RFC 8018 5.2).
type derived struct {
	name      string
	fn        func() hash.Hash
	rounds    int
	salt, key []byte
}

func parsePBKDF2(s string) (*derived, error) {
	m := pbkdf2Hash.FindStringSubmatch(s)
	if m == nil {
		return nil, errors.New("is not PBKDF2 as $pbkdf2-sha256$i=600000$SALT$HASH")
	}
	d := &derived{name: m[1], fn: sha256.New}
	if d.name == "sha512" {
		d.fn = sha512.New
	}
	var err error
	if d.rounds, err = strconv.Atoi(m[2]); err != nil || d.rounds < minForeignRounds || d.rounds > maxForeignRounds {
		return nil, fmt.Errorf("has %s iterations, not %d to %d", m[2], minForeignRounds, maxForeignRounds)
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(plainBase64(m[3]))
	key, err2 := base64.RawStdEncoding.DecodeString(plainBase64(m[4]))
	if err1 != nil || err2 != nil || len(salt) > maxForeignSalt || len(key) < 16 || len(key) > d.fn().Size() {
		return nil, errors.New("has a salt or a hash that is not base64, or not as long as they are")
	}
	d.salt, d.key = salt, key
	return d, nil
}

// plainBase64 is base64 without padding, and with + where passlib writes a dot.
func plainBase64(s string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "="), ".", "+")
}

// checkForeign is check for a hash that another program made. stale says whether it
// can be made anew from this password: not from one of which bcrypt saw only the
// beginning, for the rest may be mistyped.
func (h *hasher) checkForeign(ctx context.Context, password, kept string) (ok, stale bool, err error) {
	plain := norm.NFC.String(password)
	var d *derived
	if !strings.HasPrefix(kept, "$2") {
		if d, err = parsePBKDF2(kept); err != nil {
			return false, false, errPHC
		}
	}
	done, err := h.turn(ctx)
	if err != nil {
		return false, false, err
	}
	defer done()
	began := time.Now()
	defer func() { h.took(time.Since(began)) }()
	if d == nil {
		err := bcrypt.CompareHashAndPassword([]byte(kept), []byte(plain))
		if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, false, nil
		}
		if err != nil {
			return false, false, errPHC
		}
		return true, len(plain) <= bcryptBytes, nil
	}
	key, err := pbkdf2.Key(d.fn, plain, d.salt, d.rounds, len(d.key))
	if err != nil {
		return false, false, fmt.Errorf("a stored password hash: %w", err)
	}
	return subtle.ConstantTimeCompare(key, d.key) == 1, true, nil
}
