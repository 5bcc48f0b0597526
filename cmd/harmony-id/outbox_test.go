package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/idp"
)

// What was not delivered is listed with why; it is tried at once when an operator
// says so, and what is being tried stays whose it is.
func TestOutboxStory(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		hall := w.listens("hall")
		w.answers("hall.test", status(http.StatusBadGateway))
		w.forget()
		b := w.newBrowser()
		k := b.connect(hall, adaEmail, adaPassword)
		w.mails()
		b.enable() // of which a mail tells
		b.post("/logout", url.Values{})

		mails := func() []account.Waiting { return must(w.house.accounts.WaitingLetters(t.Context(), 10))(t) }
		logouts := func() []idp.Waiting { return must(idp.WaitingLogouts(t.Context(), w.db, 10))(t) }
		retry := func() (int, int) {
			return must(w.house.accounts.RetryLetters(t.Context()))(t), must(idp.RetryLogouts(t.Context(), w.db))(t)
		}
		if m, l := mails(), logouts(); len(m) != 1 || m[0].Kind != account.EventTwoFactorEnabled || m[0].UserID != w.ada.ID || m[0].Tries != 0 || m[0].Failed != "" ||
			len(l) != 1 || l[0].ClientID != "hall" || l[0].SessionID != sid(k) || l[0].UserID != w.ada.ID || l[0].Tries != 0 || !l[0].Next.IsZero() {
			t.Fatalf("before any attempt: %+v, %+v", m, l)
		}
		if m, l := retry(); m+l != 0 {
			t.Errorf("%d mails and %d logouts are tried again that were never tried", m, l)
		}

		since := time.Now()
		w.post.refuse = errors.New("421 come back later")
		must(w.house.mail.Deliver(t.Context()))(t)
		must(w.house.teller.Deliver(t.Context()))(t)
		w.called("hall.test")
		time.Sleep(time.Second)
		m, l := mails(), logouts()
		if len(m) != 1 || m[0].Tries != 1 || !strings.Contains(m[0].Failed, "421 come back later") || !m[0].Next.After(time.Now()) || m[0].Since.After(since) {
			t.Errorf("after an attempt: %+v", m)
		}
		if len(l) != 1 || l[0].Tries != 1 || !strings.Contains(l[0].Failed, "502") || !l[0].Next.After(time.Now()) || l[0].Since.After(since) {
			t.Errorf("after an attempt: %+v", l)
		}

		// Both work again, and nobody waits for them.
		w.post.refuse = nil
		w.answers("hall.test", status(http.StatusOK))
		if m := w.mails(); m != nil || w.told() != nil {
			t.Fatalf("it is not their time: %v", m)
		}
		if m, l := retry(); m != 1 || l != 1 {
			t.Errorf("%d mails and %d logouts are tried again, want 1 each", m, l)
		}
		// One worker has the mail; to retry does not take it away.
		if letters := must(w.house.accounts.ClaimLetters(t.Context(), 10))(t); len(letters) != 1 {
			t.Fatalf("%d letters are due", len(letters))
		}
		if m, _ := retry(); m != 0 || len(w.mails()) != 0 {
			t.Error("a mail that is being sent is sent by another, too")
		}
		if got := w.told(); len(got) != 1 {
			t.Errorf("told: %q", got)
		}
		if l := logouts(); len(l) != 0 {
			t.Errorf("what was told still waits: %+v", l)
		}
		if err := w.house.accounts.LetterSent(t.Context(), m[0].ID); err != nil || len(mails()) != 0 {
			t.Errorf("what was sent still waits: %v", err)
		}
	})
}

func TestOutboxCommands(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		k.run("", "outbox", "list", "-o", "json").want(0).objects(waitingResult{})
		k.enable(k.signIn(adaEmail, adaPassword, chromeOnMac))
		all := k.run("", "outbox", "list", "-o", "json").want(0).objects(waitingResult{})
		if len(all) == 0 || all[0]["type"] != "mail" || all[0]["tries"] != 0.0 {
			t.Errorf("list = %v", all)
		}
		for _, l := range must(k.accounts.ClaimLetters(t.Context(), 10))(t) {
			if err := k.accounts.LetterFailed(t.Context(), l.ID, "no such host", time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		k.run("", "outbox", "list").want(0, "TYPE", account.EventTwoFactorEnabled, "no such host")
		if one := k.run("", "outbox", "list", "--limit", "1", "-o", "json").want(0).objects(waitingResult{}); len(one) != 1 {
			t.Errorf("--limit 1 lists %d", len(one))
		}
		if r := k.run("", "outbox", "retry", "-o", "json").want(0).object(retryResult{}); r["mails"] != float64(len(all)) || r["logouts"] != 0.0 {
			t.Errorf("retry = %v", r)
		}
		k.run("", "outbox", "retry").want(0, "Logouts  0")
	})
}

// What happened is listed and exported, by whom, what and when.
func TestAudit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		k.run("", "client", "create", "--name", "Acme", "--id", "acme", "--redirect-uri", "https://acme.example.com/").want(0)
		k.signIn(adaEmail, adaPassword, chromeOnMac)
		k.signIn(bobEmail, bobPassword, "evil\x1b[2J\u202e")
		ada := must(k.accounts.FindUser(t.Context(), adaEmail))(t)

		list := func(args ...string) (kinds []string) {
			for _, e := range k.run("", append([]string{"audit", "list", "-o", "json"}, args...)...).want(0).objects(eventResult{}) {
				kinds = append(kinds, e["kind"].(string))
			}
			return kinds
		}
		export := func(args ...string) (all []eventResult) {
			t.Helper()
			out := k.run("", append([]string{"audit", "export"}, args...)...).want(0).stdout
			for line := range strings.Lines(out) {
				var e eventResult
				d := json.NewDecoder(bytes.NewReader([]byte(line)))
				d.DisallowUnknownFields()
				if err := d.Decode(&e); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				all = append(all, e)
			}
			if strings.ContainsAny(out, "\x1b\u202e") {
				t.Error("what a browser said of itself can run in a terminal")
			}
			return all
		}
		all := export()
		if len(all) != 5 || len(list()) != 5 || list()[0] != account.EventSignedIn || all[4].Kind != account.EventSignedIn {
			t.Fatalf("%+v", all)
		}
		for i := range all[1:] {
			if all[i].At > all[i+1].At {
				t.Errorf("%s comes before %s", all[i].At, all[i+1].At)
			}
		}
		last := all[3]
		if last.UserID != ada.ID || last.Actor != "person" || last.Address != "192.0.2.10" || last.SessionID == "" || !strings.Contains(string(last.Detail), "pwd") {
			t.Errorf("Ada's sign-in: %+v", last)
		}
		if a, b := export("--user", adaEmail), export("--user", ada.ID, "--kind", "signed_in", "--kind", "signed_out"); len(a) != 2 || len(b) != 1 || b[0].ID != last.ID {
			t.Errorf("of Ada: %+v, %+v", a, b)
		}
		if c := export("--client", "acme"); len(c) != 1 || c[0].Kind != "client_created" || c[0].ClientID != "acme" || !strings.HasPrefix(c[0].Actor, "operator") {
			t.Errorf("of acme: %+v", c)
		}
		tomorrow := time.Now().Add(24 * time.Hour).UTC()
		if a, b := list("--since", tomorrow.Format(time.RFC3339)), list("--until", tomorrow.Format(time.DateOnly), "--since", "2020-01-01"); len(a) != 0 || len(b) != 5 {
			t.Errorf("since tomorrow %q, until tomorrow %q", a, b)
		}
		if one := list("--limit", "1"); len(one) != 1 {
			t.Errorf("--limit 1: %q", one)
		}
		k.run("", "audit", "list").want(0, "KIND", "client_created", "operator")
		k.run("", "audit", "list", "--user", "nobody@example.com").want(exitNotFound)
		k.run("", "audit", "export", "--since", "yesterday").want(exitUsage, "is not a time such as")

		// Of a deleted person there is what happened, by the id.
		k.run("", "user", "delete", adaEmail, "--yes").want(0)
		if gone := export("--user", ada.ID); len(gone) != 3 || gone[2].Kind != "user_deleted" || gone[1].Address != "" {
			t.Errorf("of a deleted person: %+v", gone)
		}
	})
}

// An export is of one moment, and others write while it goes on.
func TestAuditExportStreams(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		k.signIn(adaEmail, adaPassword, chromeOnMac)
		seen := 0
		err := k.accounts.Events(t.Context(), account.Filter{}, func(*account.Event) error {
			seen++
			return k.accounts.DisableUser(t.Context(), must(k.accounts.FindUser(t.Context(), bobEmail))(t).ID, operator())
		})
		if err != nil || seen != 3 {
			t.Errorf("%d events, %v; want 3 of the moment at which it began", seen, err)
		}
	})
}
