package account

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/secret"
)

func newStore(t testing.TB, engine string, cfg Config) *Store {
	t.Helper()
	ring, err := secret.ParseRing(secret.GenerateKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	return New(dbtest.New(t, engine), ring, cfg)
}

// I13: one form for each address, and nothing that is not one plain address.
func TestCanonicalEmail(t *testing.T) {
	for in, want := range map[string]string{
		"ada@example.com":           "ada@example.com",
		" Ada@Example.COM\t":        "ada@example.com",
		"o'brien+tag@sub.example":   "o'brien+tag@sub.example",
		"cafe\u0301@example.com":    "caf\u00e9@example.com",
		"":                          "",
		"ada":                       "",
		"ada@":                      "",
		"@example.com":              "",
		"a@b@example.com":           "",
		"Ada <ada@example.com>":     "",
		"<ada@example.com>":         "",
		"ada@example.com,b@x.test":  "",
		"ada@example.com;b@x.test":  "",
		`"ada"@example.com`:         "",
		"ada@[192.0.2.1]":           "",
		"ada @example.com":          "",
		"ada@example.com\r\nBcc: x": "",
		"ada\x00@example.com":       "",
		"ada\u202e@example.com":     "",
		"ada\uffff@example.com":     "",
		"ada\xff@example.com":       "",
		strings.Repeat("a", 250) + "@example.com": "",
	} {
		got, err := CanonicalEmail(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("CanonicalEmail(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestNewPassword(t *testing.T) {
	s := newStore(t, "sqlite", Config{})
	for in, ok := range map[string]bool{
		"correct horse battery":             true,
		"allinlowercase":                    true,
		"elevenchars":                       false,
		"twelve chars":                      true,
		strings.Repeat("😀", 64):             true,
		strings.Repeat("x😀y-", 64):          true,
		strings.Repeat("x😀y-", 64) + "z":    false,
		"harmony2026!":                      false,
		"harmony2026 on a long steam train": true,
		"ada.lovelace":                      false,
		"ada.lovelace@example.com":          false,
		"lovelace-ada-1815":                 true,
		"password1234":                      false,
		"nul\x00in the middle":              false,
		"invalid \xff utf-8 bytes":          false,
		"cafe\u0301 cafe\u0301":             false, // nine characters as they are kept
		"  spaces are kept  ":               true,
	} {
		err := s.checkNewPassword(in, "ada.lovelace@example.com", "Ada Lovelace")
		if _, weak := errors.AsType[*WeakError](err); (err == nil) != ok || err != nil && !weak {
			t.Errorf("%q: %v, want ok %v", in, err, ok)
		}
	}
}

// What workspaces make links of and show is what it should be.
func TestClaims(t *testing.T) {
	for _, c := range []Claims{
		{},
		{Profile: "https://people.test/ada", Website: "http://ada.test", Birthdate: "1815-12-10", PhoneNumber: "+442079460000", Zoneinfo: "Europe/London"},
		{Birthdate: "0000-12-10"}, {Birthdate: "1815"}, {Address: &Address{Formatted: "12 St James's Square\nLondon", Country: "GB"}},
	} {
		if err := c.check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for field, c := range map[string]Claims{
		"picture": {Picture: "javascript:alert(1)"}, "website": {Website: "//evil.test"}, "profile": {Profile: "data:text/html,x"},
		"birthdate": {Birthdate: "10.12.1815"}, "phone_number": {PhoneNumber: "020 7946 0000"},
		"nickname": {Nickname: strings.Repeat("x", maxClaim+1)}, "locale": {Locale: "en\x00"}, "gender": {Gender: "a\u202eb"},
		"address.country": {Address: &Address{Country: "G\nB"}},
	} {
		if invalid, ok := errors.AsType[*InvalidError](c.check()); !ok || invalid.Field != field {
			t.Errorf("%+v: %v, want %s refused", c, c.check(), field)
		}
	}
}

// A stored hash that is not one of ours is an error, never a panic and never a match.
func TestParsePHC(t *testing.T) {
	s := newStore(t, "sqlite", Config{})
	good, err := s.hasher.hash(t.Context(), "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if ok, stale, err := s.hasher.check(t.Context(), "correct horse battery", good); !ok || stale || err != nil {
		t.Fatalf("check = %v, %v, %v", ok, stale, err)
	}
	f := strings.Split(good, "$")
	for _, bad := range []string{
		"", "$", "$$$$$", "plain", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, f[3], "m=0,t=0,p=0", 1), strings.Replace(good, f[3], "m=19456,t=0,p=1", 1), strings.Replace(good, f[3], "m=4294967295,t=2,p=1", 1),
		strings.Replace(good, f[3], "m=19456,t=2,p=0", 1), strings.Replace(good, f[3], "m=19456,t=1000000,p=1", 1),
		strings.Replace(good, f[4], "", 1), strings.Replace(good, f[5], "", 1), strings.Replace(good, f[5], "!", 1), good + "$", "$2a$10$abcdefghijklmnopqrstuv",
	} {
		if ok, _, err := s.hasher.check(t.Context(), "correct horse battery", bad); ok || err == nil {
			t.Errorf("check against %q = %v, %v", bad, ok, err)
		}
	}
}

// However attempts come, a lane lets no more through in a window than its limit
// at once and its share of the time after.
func TestThrottleLetsThroughNoMore(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t, engine, Config{})
			lanes := s.passwordLanes("ada@example.com", "192.0.2.1/32", "")
			through := 0
			for range 4 * 15 {
				for range 3 {
					err := s.reserve(t.Context(), lanes, time.Now())
					if err == nil {
						through++
					} else if wait, ok := errors.AsType[*ThrottledError](err); !ok || wait.Wait <= 0 || wait.Wait > dayWindow/perAccountNetworkDay {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
			}
			// Thirty of the day at once and one in 48 minutes, as ten in a quarter of an hour let them.
			if want := 30 + 1; through < want-1 || through > want {
				t.Errorf("%d attempts in an hour, want %d", through, want)
			}
			// The wait that it says is the wait.
			err := s.reserve(t.Context(), lanes, time.Now())
			for err == nil {
				err = s.reserve(t.Context(), lanes, time.Now())
			}
			wait, _ := errors.AsType[*ThrottledError](err)
			time.Sleep(wait.Wait - time.Second)
			if err := s.reserve(t.Context(), lanes, time.Now()); err == nil {
				t.Error("let through before the wait was over")
			}
			time.Sleep(time.Second)
			if err := s.reserve(t.Context(), lanes, time.Now()); err != nil {
				t.Errorf("after the wait: %v", err)
			}
		})
	})
}

// 40 at once over two stores: ten get through, on both engines.
func TestThrottleAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		s := newStore(t, engine, Config{})
		two := New(s.db, s.ring, Config{})
		lanes := s.passwordLanes("ada@example.com", "192.0.2.1/32", "")
		now := time.Now()
		var mu sync.Mutex
		var through int
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				which := s
				if i%2 == 0 {
					which = two
				}
				err := which.reserve(t.Context(), lanes, now)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					through++
				} else if _, ok := errors.AsType[*ThrottledError](err); !ok {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if through != perAccountNetwork {
			t.Errorf("%d got through, want %d", through, perAccountNetwork)
		}
	})
}

// One lane's refusal costs the others nothing: a stranger who is refused at one
// network does not use up the account's attempts from everywhere.
func TestRefusedCostsNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		s := newStore(t, engine, Config{})
		now := time.Now()
		for range 200 {
			_ = s.reserve(t.Context(), s.passwordLanes("ada@example.com", "192.0.2.1/32", ""), now)
		}
		through := 0
		for i := range 10 {
			for range 10 {
				if s.reserve(t.Context(), s.passwordLanes("ada@example.com", "198.51.100."+strconv.Itoa(i)+"/32", ""), now) == nil {
					through++
				}
			}
		}
		if want := perAccountDay - perAccountNetwork; through != want {
			t.Errorf("%d more got through, want %d", through, want)
		}
	})
}

// A browser's memory of who signed in is worth nothing changed, after a while, with
// another credential, and is bounded.
func TestRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, "sqlite", Config{})
		held := ""
		for i := range 20 {
			held = s.remember(held, "usr_"+strconv.Itoa(i), int64(i))
		}
		if s.knownBrowser(held, "usr_19", 19) == "" || s.knownBrowser(held, "usr_12", 12) == "" {
			t.Error("forgot who was here last")
		}
		if s.knownBrowser(held, "usr_11", 11) != "" || s.knownBrowser(held, "usr_x", 0) != "" || s.knownBrowser(held, "", 0) != "" {
			t.Error("knows who was not here, or too many")
		}
		if s.knownBrowser(held, "usr_19", 20) != "" {
			t.Error("knows who had another password")
		}
		if len(held) > 1024 {
			t.Errorf("%d bytes", len(held))
		}
		for _, bad := range []string{"", "x", held[1:], held + "A", strings.ToLower(held), encode(s.browsers.Seal([]byte("id usr_19"), "")), encode(s.browsers.Seal([]byte("id usr_19 19 x"), ""))} {
			if s.knownBrowser(bad, "usr_19", 19) != "" {
				t.Errorf("believes %q", bad)
			}
		}
		time.Sleep(KnownFor)
		if s.knownBrowser(held, "usr_19", 19) != "" {
			t.Error("remembers for ever")
		}
		if s.knownBrowser(s.remember(held, "usr_19", 19), "usr_19", 19) == "" {
			t.Error("does not learn again")
		}
	})
}
