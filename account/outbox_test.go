package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/secret"
)

var (
	tester    = Actor{Kind: "operator", Name: "test"}
	someplace = Device{Address: "192.0.2.1", Network: "192.0.2.1/32", UserAgent: "a browser"}
)

// onOutbox runs fn in a bubble for each engine, with a store of one person, Ada.
func onOutbox(t *testing.T, fn func(t *testing.T, s *Store, ada *User)) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t, engine, Config{})
			fn(t, s, s.person(t, NewUser{Email: "ada@example.com", Name: "Ada Lovelace", Claims: Claims{Zoneinfo: "Europe/London"}}))
		})
	})
}

func (s *Store) person(t *testing.T, n NewUser) *User {
	t.Helper()
	u, err := s.CreateUser(t.Context(), n, tester)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (s *Store) record(t *testing.T, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := s.db.Tx(t.Context(), func(tx *db.Tx) error { return Record(t.Context(), tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
}

// ask has a link mailed to an address, from a network of its own.
func (s *Store) ask(t *testing.T, email, network string) {
	t.Helper()
	if err := s.RequestReset(t.Context(), email, Device{Address: "192.0.2.1", Network: network}); err != nil {
		t.Fatal(err)
	}
}

func (s *Store) claimed(t *testing.T, most int) []Letter {
	t.Helper()
	letters, err := s.ClaimLetters(t.Context(), most)
	if err != nil {
		t.Fatal(err)
	}
	return letters
}

// oneLetter claims the one letter that is due.
func (s *Store) oneLetter(t *testing.T) Letter {
	t.Helper()
	letters := s.claimed(t, 10)
	if len(letters) != 1 {
		t.Fatalf("letters: %+v", letters)
	}
	return letters[0]
}

func (s *Store) noLetter(t *testing.T, when string) {
	t.Helper()
	if letters := s.claimed(t, 10); len(letters) != 0 {
		t.Fatalf("%s: %+v", when, letters)
	}
}

func (s *Store) texts(t *testing.T, query string, args ...any) (texts []string) {
	t.Helper()
	rows, err := s.db.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return texts
}

// A letter has what its mail is made from.
func TestOutboxLetter(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		at := time.Now().Truncate(time.Microsecond)
		s.record(t, Event{Kind: EventTwoFactorReset, UserID: ada.ID, Actor: tester, Device: someplace, Detail: Detail{Case: "4711", Ended: 2}})
		time.Sleep(time.Hour)
		l := s.oneLetter(t)
		if !l.At.Equal(at) {
			t.Errorf("at %s, want %s", l.At, at)
		}
		l.ID, l.At = "", time.Time{}
		want := Letter{
			Kind: EventTwoFactorReset, Email: "ada@example.com", Name: "Ada Lovelace", Zone: "Europe/London", Method: MethodPassword,
			Device: Device{Address: someplace.Address, UserAgent: someplace.UserAgent}, Actor: tester, Detail: Detail{Case: "4711", Ended: 2},
		}
		if fmt.Sprintf("%+v", l) != fmt.Sprintf("%+v", want) {
			t.Errorf("letter\n%+v, want\n%+v", l, want)
		}
	})
}

// Of which events people are told, and that it was said wakes the worker.
func TestOutboxTold(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		told := []Event{
			{Kind: EventSignedIn, Detail: Detail{New: true}}, {Kind: EventCodeFailed, Detail: Detail{Failed: 3}}, {Kind: EventCodesPaused},
			{Kind: EventPasswordChanged}, {Kind: EventPasswordReset}, {Kind: EventPasswordSet}, {Kind: EventResetRequested}, {Kind: EventResetLinkMade},
			{Kind: EventTwoFactorEnabled}, {Kind: EventTwoFactorOff}, {Kind: EventTwoFactorReset}, {Kind: EventCodesMade}, {Kind: EventCodeUsed},
			{Kind: EventSessionEnded, Actor: tester}, {Kind: EventSessionsEnded, Actor: tester}, {Kind: EventRefreshReused},
		}
		quiet := []Event{
			{Kind: EventSignedIn}, {Kind: EventSignedInAgain, Detail: Detail{New: true}}, {Kind: EventSignedOut}, {Kind: EventCodeFailed, Detail: Detail{Failed: 1}},
			{Kind: EventCodeFailed, Detail: Detail{Failed: 4}, hushed: true}, {Kind: EventSignedIn, Detail: Detail{New: true}, hushed: true}, {Kind: EventRefreshReused, hushed: true}, {Kind: EventSessionEnded}, {Kind: EventSessionsEnded}, {Kind: EventInvited, Actor: tester}, {Kind: "mail_given_up"},
		}
		for _, e := range slices.Concat(quiet, told) {
			if e.UserID = ada.ID; e.Actor == (Actor{}) {
				e.Actor = person
			}
			s.record(t, e)
		}
		var got, want []string
		for _, l := range s.claimed(t, 100) {
			got = append(got, l.Kind)
		}
		for _, e := range told {
			want = append(want, e.Kind)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("told of %q, want %q", got, want)
		}

		select {
		case <-s.Letters():
		default:
		}
		s.ask(t, "ada@example.com", "a")
		s.ask(t, "ada@example.com", "b")
		select {
		case <-s.Letters():
		default:
			t.Error("the worker is not woken")
		}
		select {
		case <-s.Letters():
			t.Error("the worker is woken twice")
		default:
		}
	})
}

// A letter is one worker's for five minutes, then the next one's, until it is sent.
func TestOutboxLease(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		s.record(t, Event{Kind: EventPasswordChanged, UserID: ada.ID, Actor: tester})
		first := s.oneLetter(t)
		other := New(s.db, s.ring, Config{})
		other.noLetter(t, "claimed")
		time.Sleep(letterLease - time.Second)
		other.noLetter(t, "within the lease")
		time.Sleep(time.Second)
		second := other.oneLetter(t)
		if first.ID != second.ID || first.Tries != 0 || second.Tries != 1 {
			t.Errorf("first %+v, then %+v", first, second)
		}
		if err := other.LetterSent(t.Context(), second.ID); err != nil {
			t.Fatal(err)
		}
		// Whoever lost it is late with what they say.
		for _, err := range []error{
			s.LetterSent(t.Context(), first.ID), s.LetterFailed(t.Context(), first.ID, "no answer", time.Second), s.LetterGivenUp(t.Context(), first.ID, "late"),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		time.Sleep(7 * 24 * time.Hour)
		s.noLetter(t, "sent")
		if given := s.texts(t, `SELECT id FROM events WHERE kind = 'mail_given_up'`); len(given) != 0 {
			t.Errorf("given up: %q", given)
		}
	})
}

func TestOutboxFailed(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		s.record(t, Event{Kind: EventPasswordChanged, UserID: ada.ID, Actor: tester})
		l := s.oneLetter(t)
		for i, wait := range []time.Duration{30 * time.Second, time.Hour, 0} {
			if err := s.LetterFailed(t.Context(), l.ID, "no answer", wait); err != nil {
				t.Fatal(err)
			}
			if wait > 0 {
				time.Sleep(wait - time.Second)
				s.noLetter(t, "before the wait is over")
				time.Sleep(time.Second)
			}
			if again := s.oneLetter(t); again.ID != l.ID || again.Tries != i+1 {
				t.Errorf("again: %+v", again)
			}
		}
	})
}

// What is given up is not told any more, and it stands why.
func TestOutboxGivenUp(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		s.record(t, Event{Kind: EventPasswordChanged, UserID: ada.ID, Actor: tester})
		l := s.oneLetter(t)
		for range 2 {
			if err := s.LetterGivenUp(t.Context(), l.ID, "no such mailbox "+strings.Repeat("ö", 5000)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(7 * 24 * time.Hour)
		s.noLetter(t, "given up")
		given := s.texts(t, `SELECT detail FROM events WHERE kind = 'mail_given_up' AND user_id = $1 AND actor = 'mail'`, ada.ID)
		if len(given) != 1 || !strings.Contains(given[0], l.ID+": no such mailbox") || len(given[0]) > 1000 || !utf8.ValidString(given[0]) {
			t.Errorf("given up: %q", given)
		}
		events, err := s.Activity(t.Context(), ada.ID, time.Time{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Kind == "mail_given_up" {
				t.Errorf("the person is shown %+v", e)
			}
		}
	})
}

// Addresses that are nobody's, however many, hold up no letter, and nothing of
// them is kept. Who may not sign in is told nothing.
func TestOutboxNobody(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, _ *User) {
		s.person(t, NewUser{Email: "goo@example.com", Name: "Goo", Method: MethodGoogle})
		gone := s.person(t, NewUser{Email: "gone@example.com", Name: "Gone"})
		off := s.person(t, NewUser{Email: "off@example.com", Name: "Off"})
		for i := range 3*dueAtOnce + 7 {
			s.ask(t, fmt.Sprintf("nobody%d@example.org", i), fmt.Sprint(i/10))
			time.Sleep(time.Millisecond)
		}
		for _, email := range []string{"off@example.com", "gone@example.com", "ada@example.com", "goo@example.com"} {
			s.ask(t, email, "x")
		}
		s.record(t, Event{Kind: EventPasswordChanged, UserID: gone.ID, Actor: tester}, Event{Kind: EventPasswordChanged, UserID: off.ID, Actor: tester})
		if err := s.DeleteUser(t.Context(), gone.ID, tester); err != nil {
			t.Fatal(err)
		}
		if err := s.DisableUser(t.Context(), off.ID, tester); err != nil {
			t.Fatal(err)
		}
		letters := s.claimed(t, 4)
		to := map[string]bool{}
		for _, l := range letters {
			to[l.Email] = strings.HasPrefix(l.Token, resetPrefix)
		}
		if len(letters) != 2 || fmt.Sprint(to) != fmt.Sprint(map[string]bool{"ada@example.com": true, "goo@example.com": false}) {
			t.Errorf("letters with a link: %v", to)
		}
		s.noLetter(t, "all was claimed")
		if kept := s.texts(t, `SELECT id FROM events WHERE sealed IS NOT NULL OR kind = 'password_reset_requested' AND user_id IS NULL`); len(kept) != 0 {
			t.Errorf("%d addresses are kept", len(kept))
		}
		if due := s.texts(t, `SELECT kind FROM events WHERE due_at IS NOT NULL`); len(due) != 2 {
			t.Errorf("still due: %q", due)
		}
	})
}

// An address that cannot be read any more is given up; the others are told.
func TestOutboxKeyIsGone(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		s.ask(t, "ada@example.com", "a")
		s.ask(t, "nobody@example.org", "b")
		s.record(t, Event{Kind: EventPasswordChanged, UserID: ada.ID, Actor: tester})
		if _, err := New(s.db, nil, Config{}).ClaimLetters(t.Context(), 10); !errors.Is(err, ErrNoKeys) {
			t.Errorf("without any key: %v", err)
		}
		ring, err := secret.ParseRing(secret.GenerateKeyFile())
		if err != nil {
			t.Fatal(err)
		}
		other := New(s.db, ring, Config{})
		if l := other.oneLetter(t); l.Kind != EventPasswordChanged {
			t.Errorf("letter %+v", l)
		}
		if given := s.texts(t, `SELECT detail FROM events WHERE kind = 'mail_given_up'`); len(given) != 2 {
			t.Errorf("given up: %q", given)
		}
		time.Sleep(time.Hour)
		if l := s.oneLetter(t); l.Kind != EventPasswordChanged {
			t.Errorf("letter %+v", l)
		}
	})
}

// A link is made when its letter is claimed: it lives from then on, and ends the
// one before it, be that another letter's or the same letter's of an earlier try.
func TestOutboxLink(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, _ *User) {
		good := func(what, token string, want bool) {
			t.Helper()
			l, err := s.Link(t.Context(), token, someplace)
			if want && (err != nil || l.Email != "ada@example.com") || !want && !errors.Is(err, ErrNoLink) {
				t.Errorf("%s: %+v, %v", what, l, err)
			}
		}
		s.ask(t, "ada@example.com", "a")
		if made := s.texts(t, `SELECT user_id FROM resets`); len(made) != 0 {
			t.Error("a link was made before its letter was claimed")
		}
		time.Sleep(time.Hour)
		first := s.oneLetter(t)
		time.Sleep(letterLease)
		again := s.oneLetter(t)
		good("the first", first.Token, false)
		good("of the same letter, claimed again", again.Token, true)
		if first.ID != again.ID || first.Token == again.Token {
			t.Errorf("%+v, then %+v", first, again)
		}
		if err := s.LetterSent(t.Context(), again.ID); err != nil {
			t.Fatal(err)
		}
		s.ask(t, "ada@example.com", "b")
		newer := s.oneLetter(t)
		good("the one before", again.Token, false)
		good("the newer", newer.Token, true)
		time.Sleep(ResetLife - time.Second)
		good("before its end", newer.Token, true)
		time.Sleep(time.Second)
		good("at its end", newer.Token, false)
	})
}

// Of resets that were asked for, the newest is mailed, unless nobody waits for it
// any more.
func TestOutboxOvertaken(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		asked := Event{Kind: EventResetRequested, UserID: ada.ID, Actor: person}
		s.record(t, asked)
		first := s.oneLetter(t)
		if err := s.LetterFailed(t.Context(), first.ID, "no answer", time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.record(t, asked)
		second := s.oneLetter(t)
		if second.ID == first.ID {
			t.Error("the older is mailed")
		}
		if err := s.LetterFailed(t.Context(), second.ID, "no answer", resetWaits); err != nil {
			t.Fatal(err)
		}
		time.Sleep(resetWaits + time.Second)
		s.noLetter(t, "nobody waits for it any more")
		time.Sleep(24 * time.Hour)
		s.noLetter(t, "nor later")
	})
}

// Of those who claim at once, each letter is one's.
func TestOutboxAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		s := newStore(t, engine, Config{})
		two := New(s.db, s.ring, Config{})
		const people = 60
		for i := range people {
			email := fmt.Sprintf("p%d@example.com", i)
			s.person(t, NewUser{Email: email, Name: "P"})
			s.ask(t, email, fmt.Sprint(i))
			s.ask(t, "no"+email, fmt.Sprint(i))
		}
		var mu sync.Mutex
		claims := map[string]int{}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				which := []*Store{s, two}[i%2]
				for {
					letters, err := which.ClaimLetters(context.Background(), 4)
					if err != nil {
						t.Error(err)
					}
					if len(letters) > 4 {
						t.Errorf("%d letters", len(letters))
					}
					if len(letters) == 0 {
						return
					}
					mu.Lock()
					for _, l := range letters {
						claims[l.Email]++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		for email, n := range claims {
			if n != 1 {
				t.Errorf("%s: %d times", email, n)
			}
		}
		if len(claims) != people {
			t.Errorf("%d letters", len(claims))
		}
	})
}
