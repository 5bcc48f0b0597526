package account

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// LOGIN-18, DOS-08: as many hashes at once as the memory has room for, so that what
// hashes nothing goes on beside them. Who waits has their turn, and after five
// seconds an answer.
func TestHasherWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(1) // less than one: one all the same
		if cap(h.slots) != 1 {
			t.Fatalf("%d at once", cap(h.slots))
		}
		done, err := h.turn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 2)
		wait := func(ctx context.Context) {
			_, err := h.derive(ctx, "password", make([]byte, saltBytes), current, hashBytes)
			got <- err
		}
		began := time.Now()
		go wait(t.Context())
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("two at once: %v", err)
		default:
		}
		if err := <-got; !errors.Is(err, ErrBusy) || time.Since(began) != hashWait {
			t.Errorf("after %v: %v", time.Since(began), err)
		}

		// Whoever goes away waits no more.
		ctx, leave := context.WithCancel(t.Context())
		go wait(ctx)
		synctest.Wait()
		leave()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("left: %v", err)
		}

		// A turn that comes free is the next one's.
		go wait(t.Context())
		synctest.Wait()
		done()
		if err := <-got; err != nil {
			t.Errorf("a free turn: %v", err)
		}
		if h.waiting.Load() != 0 || len(h.slots) != 0 {
			t.Errorf("%d wait, %d turns are taken", h.waiting.Load(), len(h.slots))
		}
	})
}

// LOGIN-18: the queue has an end, and whoever finds it full is told so at once.
func TestHasherQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(1)
		if _, err := h.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range hashQueue {
			go func() { _, _ = h.turn(t.Context()) }()
		}
		synctest.Wait()
		began := time.Now()
		if _, err := h.turn(t.Context()); !errors.Is(err, ErrBusy) || time.Now() != began {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		time.Sleep(hashWait)
		synctest.Wait()
		if n := h.waiting.Load(); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

// LOGIN-02: a busy hasher is the same answer for who exists and who does not.
func TestBusyForEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, "sqlite", Config{HashMemory: 1})
		if _, err := s.CreateUser(t.Context(), NewUser{Email: "ada@example.com", Name: "Ada", Password: "engine of analysis"}, Actor{Kind: "operator"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateUser(t.Context(), NewUser{Email: "none@example.com", Name: "No Password"}, Actor{Kind: "operator"}); err != nil {
			t.Fatal(err)
		}
		s.hasher.slots <- struct{}{}
		for _, email := range []string{"ada@example.com", "none@example.com", "nobody@example.com", "no address"} {
			began := time.Now()
			_, err := s.CheckPassword(t.Context(), Attempt{Email: email, Password: "guess", Device: Device{Network: "192.0.2.1/32"}})
			if !errors.Is(err, ErrBusy) || time.Since(began) != hashWait {
				t.Errorf("%s: after %v %v", email, time.Since(began), err)
			}
		}
	})
}

// I4: what a hash of yesterday was made anew for is still the password that was
// checked, and not one that was set meanwhile.
func TestRehashLosesAgainstAnotherPassword(t *testing.T) {
	s := newStore(t, "sqlite", Config{})
	u, err := s.CreateUser(t.Context(), NewUser{Email: "ada@example.com", Name: "Ada", Password: "engine of analysis"}, Actor{Kind: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.rehash(t.Context(), u.ID, "the old one", "a hash that was there before"); err != nil {
		t.Fatal(err)
	}
	var hash string
	if err := s.db.QueryRow(t.Context(), `SELECT password_hash FROM users WHERE id = $1`, u.ID).Scan(&hash); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := s.hasher.check(t.Context(), "engine of analysis", hash); !ok || err != nil {
		t.Errorf("the password that was set is gone: %v", err)
	}
}

// Whatever can be set can be typed on every keyboard: composed and decomposed.
func TestTooLong(t *testing.T) {
	worst, factor := 'a', 0.0
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		c := norm.NFC.String(string(r))
		if f := float64(len(norm.NFD.String(c))) / float64(utf8.RuneCountInString(c)); f > factor {
			worst, factor = r, f
		}
	}
	for _, r := range []rune{'a', 'é', '각', '😀', '\u0390', '\U0001d15e', worst} {
		s := norm.NFC.String(string(r))
		n := maxPasswordRunes / utf8.RuneCountInString(s)
		most := strings.Repeat(s, n)
		if tooLong(most) || tooLong(norm.NFD.String(most)) {
			t.Errorf("%d times %q is refused", n, r)
		}
		if longer := strings.Repeat(s, n+1); !tooLong(longer) || !tooLong(norm.NFD.String(longer)) {
			t.Errorf("%d times %q is taken", n+1, r)
		}
	}
	if !tooLong(strings.Repeat("\u0301", 1<<20)) || !tooLong(strings.Repeat("\xff", 1<<20)) {
		t.Error("what is no text is taken")
	}
}

// I13: the form in which an address is kept is its own, whatever stands in it.
func TestCanonicalEmailIsItsOwn(t *testing.T) {
	for r := rune(1); r <= 0x1ffff; r++ {
		if 0x3400 <= r && r < 0xa000 || 0xac00 <= r && r < 0xe000 || r >= 0x10000 && !unicode.IsUpper(r) && !unicode.IsMark(r) {
			continue // Han and Hangul, and what has no case
		}
		for _, in := range []string{string(r) + "@example.com", "a" + string(r) + "\u0301\u0323b@example.com", "a@" + string(r) + "x.com"} {
			got, err := CanonicalEmail(in)
			if err != nil {
				if got != "" {
					t.Fatalf("CanonicalEmail(%q) = %q, %v", in, got, err)
				}
				continue
			}
			if again, err := CanonicalEmail(got); again != got || err != nil {
				t.Errorf("CanonicalEmail(%q) = %q, and of that %q, %v", in, got, again, err)
			}
			if strings.ContainsFunc(got, unprintable) || strings.ContainsAny(got, " \"(),:;<>[]\\") {
				t.Errorf("CanonicalEmail(%q) = %q", in, got)
			}
		}
	}
}

// A hash as the database could be made to hold costs no more than it may, and one
// of yesterday is told from one of today.
func TestPHCBounds(t *testing.T) {
	enc := base64.RawStdEncoding.EncodeToString
	phc := func(m, n, p, salt, key int) string {
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", m, n, p, enc(make([]byte, salt)), enc(make([]byte, key)))
	}
	for in, ok := range map[string]bool{
		phc(19456, 2, 1, 16, 32):                              true,
		phc(8, 1, 1, 8, 16):                                   true,
		phc(1<<20, 64, 255, 64, 64):                           true,
		phc(7, 1, 1, 16, 32):                                  false,
		phc(1<<20+1, 1, 1, 16, 32):                            false,
		phc(8, 0, 1, 16, 32):                                  false,
		phc(8, 65, 1, 16, 32):                                 false,
		phc(8, 1, 0, 16, 32):                                  false,
		phc(8, 1, 256, 16, 32):                                false,
		phc(-8, 1, 1, 16, 32):                                 false,
		phc(8, 1, 1, 7, 32):                                   false,
		phc(8, 1, 1, 16, 15):                                  false,
		phc(8, 1, 1, 16, 65):                                  false,
		strings.Replace(phc(8, 1, 1, 16, 32), "$v=19", "", 1): false,
		strings.Replace(phc(8, 1, 1, 16, 32), "m=8,t=1", "t=1,m=8", 1):  false,
		strings.Replace(phc(8, 1, 1, 16, 32), "argon2id", "argon2d", 1): false,
		strings.Replace(phc(8, 1, 1, 16, 32), "p=1", "p=1,data=eA", 1):  false,
		strings.Replace(phc(8, 1, 1, 16, 32), "m=8", "m=+8", 1):         false,
		phc(8, 1, 1, 16, 32) + "=":                                      false,
		phc(8, 1, 1, 16, 32) + "$x":                                     false,
		" " + phc(8, 1, 1, 16, 32):                                      false,
	} {
		if _, _, _, err := parsePHC(in); (err == nil) != ok {
			t.Errorf("parsePHC(%q): %v, want ok %v", in, err, ok)
		}
	}
	h := newHasher(1 << 30)
	for in, stale := range map[string]bool{phc(19456, 2, 1, 16, 32): false, phc(19456, 2, 1, 15, 32): true, phc(19456, 2, 1, 16, 31): true, phc(19455, 2, 1, 16, 32): true, phc(19456, 3, 1, 16, 32): true, phc(19456, 2, 2, 16, 32): true} {
		if ok, got, err := h.check(t.Context(), "x", in); ok || got != stale || err != nil {
			t.Errorf("check of %s = %v, %v, %v, want stale %v", in, ok, got, err, stale)
		}
	}
}
