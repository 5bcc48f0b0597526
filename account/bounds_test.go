package account

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/db/dbtest"
)

// A clock that is ahead proves nothing.
func TestRecent(t *testing.T) {
	for d, want := range map[time.Duration]bool{
		0: true, -ProofLife + time.Second: true, -ProofLife - time.Second: false, time.Second: true, time.Minute: false, 24 * time.Hour: false,
	} {
		if got := recent(time.Now().Add(d)); got != want {
			t.Errorf("a proof of now%+v counts: %v", d, got)
		}
	}
	if recent(time.Time{}) {
		t.Error("no proof counts")
	}
}

// I4: the credential that was proved must be the one that is in force when a session
// opens, and when one is confirmed.
func TestProofOfAnOldPassword(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		c := newCrossing(t, engine)
		u := c.person(t, NewUser{Email: "ada@example.com", Name: "Ada", Password: turnPassword})
		in, l := c.signedIn(u)
		other, _ := c.signedIn(u)
		proved, changed := c.cross("UPDATE throttles", func() error { // the proof is judged to be right
			_, err := c.Prove(context.Background(), other, Proof{Password: turnPassword})
			return err
		}, func() error {
			return c.setPassword(in.UserID)
		})
		if changed != nil || engine == "postgres" && !errors.Is(proved, ErrWrong) {
			t.Errorf("change: %v, Prove: %v", changed, proved)
		}
		if _, err := c.Complete(t.Context(), l, "", ""); !errors.Is(err, ErrWrong) {
			t.Errorf("Complete: %v", err)
		}
	})
}

// setPassword changes a password in one statement, which needs no hash.
func (c *crossing) setPassword(userID string) error {
	_, err := c.db.Exec(context.Background(), `UPDATE users SET password_hash = 'another', password_changed_at = password_changed_at + 1 WHERE id = $1`, userID)
	return err
}

// I5: what a session asks for that ended meanwhile does not happen.
func TestActsOfAnEndedSession(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		c := newCrossing(t, engine)
		u := c.person(t, NewUser{Email: "ada@example.com", Name: "Ada", Password: turnPassword})
		in, _ := c.signedIn(u)
		other, _ := c.signedIn(u)
		if err := c.Enroll(t.Context(), in, PurposeTOTP, false); err != nil {
			t.Fatal(err)
		}
		e, err := c.Enrollment(t.Context(), in, PurposeTOTP)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.EndUserSession(t.Context(), u.ID, in.ID, tester); err != nil {
			t.Fatal(err)
		}
		if _, err := c.EnableTwoFactor(t.Context(), in, code(t, e.Key), true, Device{}); !errors.Is(err, ErrNoEnrollment) {
			t.Errorf("EnableTwoFactor: %v", err)
		}
		if _, err := c.EndOthers(t.Context(), in, Device{}); !errors.Is(err, ErrNoSession) {
			t.Errorf("EndOthers: %v", err)
		}
		if err := c.EndOther(t.Context(), in, other.ID, Device{}); !errors.Is(err, ErrNoSession) {
			t.Errorf("EndOther: %v", err)
		}
		if _, err := c.Prove(t.Context(), in, Proof{Password: turnPassword}); !errors.Is(err, ErrNoSession) {
			t.Errorf("Prove: %v", err)
		}
		if list, _, err := c.Sessions(t.Context(), u.ID, 10); err != nil || len(list) != 1 || list[0].ID != other.ID {
			t.Errorf("sessions: %+v, %v", list, err)
		}
	})
}

// LG-07: what happened to a person is forgotten when they are not shown it any more,
// what operators did a year and a month later, and what is left of a deleted person
// is an id.
func TestEventsAreForgotten(t *testing.T) {
	onOutbox(t, func(t *testing.T, s *Store, ada *User) {
		bob := s.person(t, NewUser{Email: "bob@example.com", Name: "Bob"})
		of := func(id string) []string {
			t.Helper()
			synctest.Wait()
			if err := s.Clean(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			return s.texts(t, `SELECT kind FROM events WHERE user_id = $1 AND kind <> 'user_created' ORDER BY at`, id)
		}
		s.record(t,
			Event{Kind: EventSignedIn, UserID: ada.ID, Actor: person, Device: someplace},
			Event{Kind: EventSignedIn, UserID: bob.ID, Actor: person, Device: someplace, Detail: Detail{AMR: []string{"pwd"}}},
			Event{Kind: EventUnthrottled, UserID: ada.ID, Actor: tester})
		time.Sleep(ActivityAge - time.Minute)
		if got := of(ada.ID); len(got) != 2 {
			t.Errorf("within the age: %q", got)
		}
		if err := s.DeleteUser(t.Context(), bob.ID, tester); err != nil {
			t.Fatal(err)
		}
		if got := s.texts(t, `SELECT address || user_agent || detail FROM events WHERE user_id = $1 AND kind = 'signed_in'`, bob.ID); len(got) != 1 || got[0] != "{}" {
			t.Errorf("of a deleted person: %q", got)
		}
		time.Sleep(2 * time.Minute)
		if got := of(ada.ID); len(got) != 1 || got[0] != EventUnthrottled {
			t.Errorf("after the age: %q", got)
		}
		time.Sleep(operatorActAge - ActivityAge)
		if got := of(ada.ID); len(got) != 0 {
			t.Errorf("a year later: %q", got)
		}
	})
}
