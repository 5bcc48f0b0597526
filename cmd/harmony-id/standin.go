package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
)

// The stand-in for Google that dev runs: a second provider of our own, with people,
// a database, cookies and a look of its own.

const (
	standInDatabase = "google.db"
	standInClient   = "harmony-id"
	standInPassword = "a stand-in for google"
	standInTTL      = 5 * time.Minute
)

// A standInPerson has an account at the stand-in, and is there to show something.
type standInPerson struct {
	account.NewUser
	shows string
	was   string // the address that the person's account here was made with, "" for none yet
}

var standInPeople = []standInPerson{
	{account.NewUser{Email: "gwen@example.net", EmailVerified: true, Name: "Gwen Google"}, "a first sign-in makes the account", ""},
	{account.NewUser{Email: "uma@example.net", Name: "Uma Unverified"}, "an address that is not verified is refused", ""},
	{account.NewUser{Email: "ada@example.com", EmailVerified: true, Name: "Ada at Google"}, "the address belongs to an account with a password", ""},
	{account.NewUser{Email: "rita.new@example.net", EmailVerified: true, Name: "Rita Renamed"}, "the address changed at Google since", "rita.old@example.net"},
}

// A standIn is the stand-in, assembled.
type standIn struct {
	house  *house
	db     *db.DB
	config login.GoogleConfig
}

// newStandIn assembles the stand-in at an address of its own, for the provider at
// issuer.
func newStandIn(ctx context.Context, dir string, ring *secret.Ring, at, issuer *url.URL, log *slog.Logger) (s *standIn, err error) {
	d, err := db.Open(ctx, sqliteScheme+filepath.Join(dir, standInDatabase))
	if err != nil {
		return nil, fmt.Errorf("opening the stand-in's database: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := ready(ctx, d, useAndMigrate); err != nil {
		return nil, err
	}
	if err := idp.FreezeIssuer(ctx, d, at.String(), true); err != nil {
		return nil, err
	}
	key := rand.Text() + rand.Text()
	clients := idp.NewClients(d)
	if err := clients.Delete(ctx, standInClient, "dev"); err != nil && !errors.Is(err, idp.ErrNotFound) {
		return nil, err
	}
	if _, _, err := clients.Create(ctx, idp.Client{
		ID: standInClient, Name: "Harmony", RedirectURIs: []string{issuer.JoinPath("/login/google/callback").String()}, RequirePKCE: true,
	}, key, "dev"); err != nil {
		return nil, fmt.Errorf("registering Harmony at the stand-in: %w", err)
	}
	h, err := newHouse(ctx, d, ring, houseConfig{
		issuer: at, standIn: true, mail: mail.Config{From: devFrom}, sender: mail.NewMailbox(), log: log,
		account: accountConfig(sessionSettings{}, passwordSettings{}), idp: idp.Config{Issuer: at.String(), AccessTokenTTL: standInTTL, RefreshIdle: standInTTL, RefreshMax: standInTTL},
	})
	if err != nil {
		return nil, err
	}
	return &standIn{h, d, login.GoogleConfig{Issuer: at.String(), ClientID: standInClient, Secret: key, SignUp: true}}, nil
}

// people makes who is not there yet, at the stand-in and here.
func (s *standIn) people(ctx context.Context, here *account.Store) error {
	by := account.Actor{Kind: "dev"}
	for _, p := range standInPeople {
		n := p.NewUser
		n.Password = standInPassword
		u, err := s.house.accounts.FindUser(ctx, n.Email)
		if errors.Is(err, account.ErrNotFound) {
			u, err = s.house.accounts.CreateUser(ctx, n, by)
		}
		if err != nil {
			return fmt.Errorf("creating %s at the stand-in: %w", n.Email, err)
		}
		if p.was == "" {
			continue
		}
		_, err = here.CreateUser(ctx, account.NewUser{
			Email: p.was, EmailVerified: true, Name: n.Name, Method: account.MethodGoogle, Google: &account.Identity{Issuer: s.config.Issuer, Subject: u.ID},
		}, by)
		if err != nil && !errors.Is(err, account.ErrEmailTaken) { // there from an earlier run
			return fmt.Errorf("creating %s: %w", p.was, err)
		}
	}
	return nil
}
