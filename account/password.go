package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// The longest password that is taken, in NFC. Whatever is longer is refused
// before it is hashed.
const maxPasswordRunes = 256

// maxTypedBytes is the longest that a keyboard can make of such a password: a
// character has 4 bytes at most, and up to three times as many when it is
// decomposed (Unicode Annex 15).
const maxTypedBytes = 3 * 4 * maxPasswordRunes

// params are Argon2id's (OWASP's first choice: 19 MiB, two passes, one lane).
type params struct {
	memory  uint32 // KiB
	time    uint32
	threads uint8
}

var current = params{memory: 19 << 10, time: 2, threads: 1}

const (
	saltBytes = 16
	hashBytes = 32
)

// How long an attempt waits for its turn to be hashed, and how many wait at the
// most, before ErrBusy.
const (
	hashWait  = 5 * time.Second
	hashQueue = 1024
)

// A hasher hashes no more passwords at once than its memory and the machine's
// processors allow; the rest wait their turn.
type hasher struct {
	memory  int64 // bytes
	slots   chan struct{}
	large   chan struct{} // whoever takes several slots, one at a time
	waiting atomic.Int64
	took    func(time.Duration) // is told of each hash
}

// slot is the memory of a slot in bytes.
func slot() int64 { return int64(current.memory) << 10 }

func newHasher(memory int64) *hasher {
	n := max(1, min(int64(runtime.GOMAXPROCS(0)), memory/slot()))
	return &hasher{memory: max(memory, slot()), slots: make(chan struct{}, n), large: make(chan struct{}, 1), took: func(time.Duration) {}}
}

// turn waits for a slot. Its errors are ErrBusy and the context's.
func (h *hasher) turn(ctx context.Context) (done func(), err error) {
	done = func() { <-h.slots }
	select {
	case h.slots <- struct{}{}:
		return done, nil
	default:
	}
	if h.waiting.Add(1) > hashQueue {
		h.waiting.Add(-1)
		return nil, ErrBusy
	}
	defer h.waiting.Add(-1)
	t := time.NewTimer(hashWait)
	defer t.Stop()
	select {
	case h.slots <- struct{}{}:
		return done, nil
	case <-t.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// turns waits for as many slots as a hash of so much memory, in bytes, has the room
// of, or for all. Its errors are those of turn.
func (h *hasher) turns(ctx context.Context, memory int64) (done func(), err error) {
	n := min(int((memory+slot()-1)/slot()), cap(h.slots))
	if n <= 1 {
		return h.turn(ctx)
	}
	var taken []func()
	done = func() {
		for _, give := range taken {
			give()
		}
	}
	select { // two of them would wait for each other's
	case h.large <- struct{}{}:
		taken = append(taken, func() { <-h.large })
	case <-time.After(hashWait):
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for range n {
		give, err := h.turn(ctx)
		if err != nil {
			done()
			return nil, err
		}
		taken = append(taken, give)
	}
	return done, nil
}

func (h *hasher) derive(ctx context.Context, password string, salt []byte, p params, size uint32) ([]byte, error) {
	memory := int64(p.memory) << 10
	if memory > h.memory {
		return nil, fmt.Errorf("a stored password hash needs %d KiB of memory, more than hash-memory", p.memory)
	}
	done, err := h.turns(ctx, memory)
	if err != nil {
		return nil, err
	}
	defer done()
	// NFC: what a person types is the same password on every keyboard (NIST SP 800-63B-4 3.1.1.2).
	began := time.Now()
	key := argon2.IDKey(norm.NFC.Bytes([]byte(password)), salt, p.time, p.memory, p.threads, size)
	h.took(time.Since(began))
	return key, nil
}

// hash returns the PHC string of a new password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	key, err := h.derive(ctx, password, salt, current, hashBytes)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, current.memory, current.time, current.threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

// check reports whether password is the one behind the PHC string, and whether
// the string should be made anew because its parameters are not today's, or
// another program made it.
func (h *hasher) check(ctx context.Context, password, phc string) (ok, stale bool, err error) {
	if !strings.HasPrefix(phc, "$argon2id$") {
		return h.checkForeign(ctx, password, phc)
	}
	p, salt, want, err := parsePHC(phc)
	if err != nil {
		return false, false, err
	}
	got, err := h.derive(ctx, password, salt, p, uint32(len(want)))
	if err != nil {
		return false, false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, p != current || len(salt) != saltBytes || len(want) != hashBytes, nil
}

// pretend costs what check costs: a thief who times the form must not learn who
// has an account (ASVS 6.3.8).
func (h *hasher) pretend(ctx context.Context, password string) error {
	_, err := h.derive(ctx, password, make([]byte, saltBytes), current, hashBytes)
	return err
}

var errPHC = errors.New("stored password hash is not one of ours")

func parsePHC(phc string) (p params, salt, key []byte, err error) {
	f := strings.Split(phc, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, errPHC
	}
	if _, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil {
		return p, nil, nil, errPHC
	}
	if f[3] != fmt.Sprintf("m=%d,t=%d,p=%d", p.memory, p.time, p.threads) { // with more (keyid, data) it is another hash
		return p, nil, nil, errPHC
	}
	if p.memory < 8 || p.memory > 1<<20 || p.time < 1 || p.time > 64 || p.threads < 1 {
		return p, nil, nil, errPHC
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(f[4])
	key, err2 := base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return p, nil, nil, errPHC
	}
	return p, salt, key, nil
}

func tooLong(password string) bool {
	return len(password) > maxTypedBytes || utf8.RuneCountInString(norm.NFC.String(password)) > maxPasswordRunes
}

// contextWords are refused as the better part of a password (ASVS 6.1.2).
var contextWords = []string{"harmony", "workspace", "password"}

// leftOver is how many characters a password must have besides the words that
// anyone would guess for this person and this product.
const leftOver = 8

// checkNewPassword says with a *WeakError why a password cannot be set
// (ASVS 6.2.1, 6.2.4, 6.2.5, 6.2.9, 6.2.11, 6.2.12: length, breaches and
// guessable words, no rules of composition).
func (s *Store) checkNewPassword(password, email, name string) error {
	password = norm.NFC.String(password)
	n := utf8.RuneCountInString(password)
	switch {
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return &WeakError{"symbols", "it has characters that no keyboard can type"}
	case n < s.cfg.PasswordMinLength:
		return &WeakError{"short", fmt.Sprintf("it has %d characters; %d are the least", n, s.cfg.PasswordMinLength)}
	case tooLong(password):
		return &WeakError{"long", fmt.Sprintf("it is longer than %d characters", maxPasswordRunes)}
	case breached(password):
		return &WeakError{"breached", "it is on a list of passwords known from breaches"}
	}
	local, _, _ := strings.Cut(email, "@")
	rest := strings.ToLower(password)
	for _, w := range append([]string{email, local, strings.ToLower(name)}, append(strings.Fields(strings.ToLower(name)), contextWords...)...) {
		if utf8.RuneCountInString(w) >= 4 {
			rest = strings.ReplaceAll(rest, w, "")
		}
	}
	if utf8.RuneCountInString(rest) < min(leftOver, n) {
		return &WeakError{"personal", "it is mostly your address, your name or the name of this product"}
	}
	return nil
}
