package main

import (
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// I9, I10, LOGIN-04, LOGIN-05: a day of guesses from everywhere, at two replicas, as a
// person and their attacker see it (TestSiege of account tries more of them).
func TestSiegeOfTheFrontDoor(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		begin := time.Now()
		replicas := []*house{w.house, w.newReplica()}
		owner := w.browserAt(w.house, "203.0.113.1")
		owner.signIn(adaEmail, adaPassword)
		w.weaken(w.ada.ID, adaPassword)
		var made, judged atomic.Int64
		guess := func(i int, address string) {
			made.Add(1)
			switch p := w.browserAt(replicas[i%2], address).attempt(adaEmail, "guess"); p.status {
			case http.StatusUnprocessableEntity:
				judged.Add(1)
			case http.StatusTooManyRequests:
			default:
				t.Errorf("%d for a guess", p.status)
			}
		}
		of := func(i int) string { return fmt.Sprintf("198.18.%d.%d", i>>8, i&255) }

		// One customer of an IPv6 network is one network, and locks out nobody else.
		for i := range 40 {
			guess(i, fmt.Sprintf("[2001:db8:1:2:%x::1]", i))
		}
		if n := judged.Load(); n != 10 {
			t.Errorf("%d guesses from one /64 were judged, want 10", n)
		}
		elsewhere := w.browserAt(w.house, "203.0.113.2")
		elsewhere.attempt(adaEmail, adaPassword).wantStatus(http.StatusSeeOther)
		w.weaken(w.ada.ID, adaPassword)

		// All at once, then one after another for as long as the day lasts.
		release(func(i int) {
			for j := range 6 {
				guess(i+j, of(i*6+j))
			}
		})
		in, tried, elsewhereIn, elsewhereTried := 0, 0, 0, 0
		for hour := range 24 {
			for i := range 6 {
				guess(i, of(1000+hour*6+i))
				guess(i, fmt.Sprintf("[2001:db8:2:%x::1]", hour*6+i))
				guess(i, "203.0.113.1") // where the owner is
				time.Sleep(time.Until(begin.Add(time.Duration(hour)*time.Hour + time.Duration(i+1)*10*time.Minute)))
			}
			if hour == 23 {
				break
			}
			owner.post("/logout", url.Values{}).want(http.StatusOK, "/logout")
			owner.attempt(adaEmail, "a slip").wantStatus(http.StatusUnprocessableEntity)
			if tried++; owner.attempt(adaEmail, adaPassword).status == http.StatusSeeOther {
				in++
				w.weaken(w.ada.ID, adaPassword)
			}
			elsewhere = w.browserAt(replicas[hour%2], fmt.Sprintf("100.64.0.%d", hour))
			if elsewhereTried++; elsewhere.attempt(adaEmail, adaPassword).status == http.StatusSeeOther {
				elsewhereIn++
				w.weaken(w.ada.ID, adaPassword)
			}
		}
		t.Logf("%d guesses made, %d judged; a known browser: %d of %d sign-ins; a new browser elsewhere: %d of %d", made.Load(), judged.Load(), in, tried, elsewhereIn, elsewhereTried)
		if n := judged.Load(); n > 100 || n < 80 {
			t.Errorf("%d guesses were judged in a day, want 100 at the most", n)
		}
		if in != tried {
			t.Errorf("the owner got in at %d of %d sign-ins", in, tried)
		}

		// Whose browser is new, and refused, has the link: that makes it a known one.
		for i := range 3 {
			guess(i, of(2000+i))
		}
		anew := w.browserAt(w.house, "100.64.1.1")
		p := anew.attempt(adaEmail, adaPassword)
		p.wantStatus(http.StatusTooManyRequests)
		p.wantText("Forgot password?")
		w.mails()
		anew.reset(w.link(), newPassword).want(http.StatusOK, "/login")
		w.browserAt(w.house, "100.64.1.1").attempt(adaEmail, newPassword).wantStatus(http.StatusTooManyRequests)
		anew.signIn(adaEmail, newPassword)
		// It is not so for the old password's browser any more.
		owner.attempt(adaEmail, newPassword).wantStatus(http.StatusTooManyRequests)
	})
}
