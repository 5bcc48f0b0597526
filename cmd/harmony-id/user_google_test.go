package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db/dbtest"
	"github.com/harmony/id/login"
)

// AD-09: support switches how a person signs in, under a case and not by mistake.
func TestUserGoogle(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		k := newDesk(t, engine)
		link := func(args ...string) ran { return k.run("", append([]string{"user", "link-google"}, args...)...) }
		unlink := func(args ...string) ran { return k.run("", append([]string{"user", "unlink-google"}, args...)...) }
		google := func(issuer, sub string) error {
			_, err := k.accounts.CheckGoogle(t.Context(), account.Identity{Issuer: issuer, Subject: sub, Email: adaEmail, EmailVerified: true}, true, visitor(chromeOnMac))
			return err
		}
		link(adaEmail, "--yes", "--case", "4711").want(exitUsage, "--sub")
		link(adaEmail, "--yes", "--sub", veraSub).want(exitUsage, "--case")
		link(adaEmail, "--yes", "--sub", veraSub, "--case", " ").want(exitRefused, "case: is empty")
		link(adaEmail, "--yes", "--sub", strings.Repeat("9", 256), "--case", "4711").want(exitRefused, "sub: is not a subject")
		link("nobody@example.com", "--yes", "--sub", veraSub, "--case", "4711").want(exitNotFound, "no such person")
		unlink(adaEmail, "--yes").want(exitUsage, "--case")

		token := k.signIn(adaEmail, adaPassword, chromeOnMac)
		k.letters()
		link(adaEmail, "--sub", veraSub, "--case", "4711").want(exitUsage, "--yes")
		if !k.lives(token) {
			t.Fatal("a switch that was not confirmed ended the session")
		}
		if u := link(adaEmail, "--sub", veraSub, "--case", "4711", "--yes", "-o", "json").want(0).object(userDetail{}); u["method"] != "google" || u["has_password"] != false {
			t.Errorf("after the switch: %v", u)
		}
		if k.lives(token) {
			t.Error("a session outlives the switch")
		}
		if l := k.told(account.EventMethodGoogle, adaEmail); l.Detail.Case != "4711" || l.Detail.Ended != 1 {
			t.Errorf("the mail is of %+v", l.Detail)
		}
		if _, err := k.try(adaEmail, adaPassword, chromeOnMac); !errors.Is(err, account.ErrWrong) {
			t.Errorf("the old password: %v", err)
		}
		if err := google(login.GoogleIssuer, veraSub); err != nil {
			t.Errorf("Google: %v", err)
		}
		if err := google("https://other.example", veraSub); !errors.Is(err, account.ErrOtherGoogle) {
			t.Errorf("the subject at another issuer: %v", err)
		}
		link(bobEmail, "--sub", veraSub, "--case", "4712", "--yes").want(exitRefused, "sub: belongs to another account")

		if u := unlink(adaEmail, "--case", "4713", "--yes", "-o", "json").want(0).object(userDetail{}); u["method"] != "password" || u["has_password"] != false {
			t.Errorf("after switching back: %v", u)
		}
		if l := k.told(account.EventMethodPassword, adaEmail); l.Detail.Case != "4713" {
			t.Errorf("the mail is of %+v", l.Detail)
		}
		if err := google(login.GoogleIssuer, veraSub); !errors.Is(err, account.ErrUsePassword) {
			t.Errorf("Google after switching back: %v", err)
		}

		// A provider that stands in for Google is named as serve's is.
		stand := k.with("HARMONY_ID_GOOGLE_ISSUER=https://other.example")
		stand.run("", "user", "link-google", bobEmail, "--sub", "b", "--case", "4714", "--yes").want(0)
		if err := google("https://other.example", "b"); err != nil {
			t.Errorf("the other provider: %v", err)
		}
	})
}
