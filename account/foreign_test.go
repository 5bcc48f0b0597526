package account

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Hashes of "engine of analysis 1843" that other programs made: libxcrypt and
// Python's hashlib.
const foreignPassword = "engine of analysis 1843"

var foreignHashes = map[string]string{
	"bcrypt 2b":         "$2b$04$Z.t3bJ8wE7jDO2i./9LRV.pmmpiu2IhLQNbCtFkn5Stw11KuAOffu",
	"bcrypt of Django":  "bcrypt$$2b$04$abcdefghijklmnopqrstuuG.O.HVoYYaE8RwNH5tk8SUwuX1qNKJO",
	"PBKDF2 of passlib": "$pbkdf2-sha256$29000$cGVwcGVy.//.$QDlFtI6Yw4HFGpAPtehf1yeWlosTGpgope1L3/chQ/Y",
	"PBKDF2 of PHC":     "$pbkdf2-sha256$i=29000,l=32$cGVwcGVy+//+$QDlFtI6Yw4HFGpAPtehf1yeWlosTGpgope1L3/chQ/Y",
	"PBKDF2, padded":    "$pbkdf2-sha256$i=29000$cGVwcGVy+//+$QDlFtI6Yw4HFGpAPtehf1yeWlosTGpgope1L3/chQ/Y=",
	"PBKDF2-512":        "$pbkdf2-sha512$29000$cGVwcGVy.//.$xLz2aJnS1ycDsE1cRSR9yYakwW05.cnYtaZG7CInzwf87tTieXjztZqcV62/.g/mzUbXY022PRYtzw2qCd2pdA",
	"PBKDF2 of Django":  "pbkdf2_sha256$60000$seasalt2$j+rPkmhIAXmxiD+DnKnknYYTQvs5wDHUDDkIna/8qlM=",
	"PBKDF2-512 of PHC": "$pbkdf2-sha512$i=29000,l=64$cGVwcGVy+//+$xLz2aJnS1ycDsE1cRSR9yYakwW05+cnYtaZG7CInzwf87tTieXjztZqcV62/+g/mzUbXY022PRYtzw2qCd2pdA",
}

// A hash that another program made is right for its password and no other, and is
// to be made anew.
func TestForeignHashes(t *testing.T) {
	h := newHasher(256 << 20)
	for what, s := range foreignHashes {
		kept, err := foreignHash(s, h.memory)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if ok, stale, err := h.check(t.Context(), foreignPassword, kept); !ok || !stale || err != nil {
			t.Errorf("%s: right %v, stale %v, %v", what, ok, stale, err)
		}
		for _, wrong := range []string{"", "engine of analysis 1844", foreignPassword + " "} {
			if ok, _, err := h.check(t.Context(), wrong, kept); ok || err != nil {
				t.Errorf("%s: %q is right: %v, %v", what, wrong, ok, err)
			}
		}
		if again, err := foreignHash(kept, h.memory); again != kept || err != nil {
			t.Errorf("%s: %q is kept as %q, %v", what, kept, again, err)
		}
	}
	if len(h.slots) != 0 || h.waiting.Load() != 0 {
		t.Error("turns are taken")
	}
}

// bcrypt sees the first 72 bytes of a password. A longer one is not made anew: what
// comes after them may be mistyped, and would be right from then on.
func TestBcryptSeesTheBeginning(t *testing.T) {
	const kept = "$2y$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i" // of 80 times x, and of 72
	h := newHasher(256 << 20)
	for n, stale := range map[int]bool{72: true, 73: false, 80: false} {
		if ok, got, err := h.check(t.Context(), strings.Repeat("x", n), kept); !ok || got != stale || err != nil {
			t.Errorf("%d characters: right %v, stale %v, %v; want stale %v", n, ok, got, err, stale)
		}
	}
	if ok, _, err := h.check(t.Context(), strings.Repeat("x", 71), kept); ok || err != nil {
		t.Errorf("71 characters are right: %v, %v", ok, err)
	}
}

// A hash costs no more at each sign-in than about a second and the memory that
// there is, whoever made it.
func TestForeignBounds(t *testing.T) {
	const salt, key = "c29tZSBzYWx0", "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	argon := func(params string) string { return "$argon2id$v=19$" + params + "$" + salt + key }
	pbkdf2 := func(rounds string) string { return "$pbkdf2-sha256$i=" + rounds + "$" + salt + key }
	bcrypt := func(cost string) string {
		return "$2b$" + cost + "$abcdefghijklmnopqrstuuG.O.HVoYYaE8RwNH5tk8SUwuX1qNKJO"
	}
	for in, ok := range map[string]bool{
		argon("m=65536,t=3,p=4"):            true,
		"argon2" + argon("m=65536,t=3,p=4"): true, // Django
		argon("m=131072,t=8,p=16"):          true,
		argon("m=131073,t=1,p=1"):           false,
		argon("m=131072,t=9,p=1"):           false,
		argon("m=65536,t=3,p=17"):           false,
		argon("m=8,t=65,p=1"):               false,
		strings.Replace(argon("m=65536,t=3,p=4"), "argon2id", "argon2i", 1): false,
		bcrypt("04"):       true,
		bcrypt("14"):       true,
		bcrypt("15"):       false,
		bcrypt("31"):       false,
		bcrypt("03"):       false,
		bcrypt("12") + "x": false,
		strings.Replace(bcrypt("12"), "2b", "2x", 1): false,
		pbkdf2("1000"):                           true,
		pbkdf2("2000000"):                        true,
		pbkdf2("2000001"):                        false,
		pbkdf2("999"):                            false,
		pbkdf2("99999999999999999999"):           false,
		pbkdf2("1000")[:40]:                      false,
		pbkdf2("1000") + strings.Repeat("A", 60): false,
		"$pbkdf2-sha256$i=1000$" + strings.Repeat("A", 200) + key: false,
		"$pbkdf2-sha1$i=1000$" + salt + key:                       false,
		"pbkdf2_sha1$1000$salt" + key:                             false,
		"5f4dcc3b5aa765d61d8327deb882cf99":                        false,
		"{SSHA}x":                                                 false,
		foreignPassword:                                           false,
	} {
		if _, err := foreignHash(in, 256<<20); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", in, err, ok)
		} else if err != nil && strings.Contains(err.Error(), "AAAA") {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
	if _, err := foreignHash(argon("m=65536,t=3,p=4"), 40<<20); err == nil {
		t.Error("more than hash-memory was taken")
	}
	// One that is there all the same, for hash-memory was lowered, is not computed.
	if _, _, err := newHasher(40<<20).check(t.Context(), "x", argon("m=65536,t=1,p=1")); err == nil || !strings.Contains(err.Error(), "hash-memory") {
		t.Errorf("with less memory: %v", err)
	}
}

// A hash of several times the memory takes as many turns, so that all together
// stay within the bound; two such do not wait for each other for ever.
func TestLargeHashesTakeSeveralTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(256 << 20)
		h.slots = make(chan struct{}, 4)
		done, err := h.turns(t.Context(), 3*slot()-1)
		if err != nil || len(h.slots) != 3 {
			t.Fatalf("%d turns, %v", len(h.slots), err)
		}
		began := time.Now()
		if _, err := h.turns(t.Context(), 2*slot()); !errors.Is(err, ErrBusy) || time.Since(began) != hashWait || len(h.slots) != 3 {
			t.Errorf("a second large one: %d turns, %v after %v", len(h.slots), err, time.Since(began))
		}
		small, err := h.turns(t.Context(), slot())
		if err != nil || len(h.slots) != 4 {
			t.Fatalf("a small one: %v", err)
		}
		done()
		if len(h.slots) != 1 || len(h.large) != 0 {
			t.Errorf("%d turns are taken", len(h.slots))
		}
		// All that there are, and no more.
		ctx, leave := context.WithCancel(t.Context())
		got := make(chan error)
		go func() {
			_, err := h.turns(ctx, 100*slot())
			got <- err
		}()
		synctest.Wait()
		leave()
		if err := <-got; !errors.Is(err, context.Canceled) || len(h.slots) != 1 || len(h.large) != 0 {
			t.Errorf("who went away: %v, %d turns", err, len(h.slots))
		}
		small()
		all, err := h.turns(t.Context(), 100*slot())
		if err != nil || len(h.slots) != 4 {
			t.Fatalf("all of them: %v, %d turns", err, len(h.slots))
		}
		all()
	})
}
