package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
)

// Operators set no passwords for people (ASVS 6.4.6): they hand over a link with
// which people set their own.

// A linkResult is a link that sets a password, in results.
type linkResult struct {
	User      userResult `json:"user" help:"the person"`
	Link      string     `json:"link" help:"opens the page on which the person sets a password; it works once, and is in this result alone"`
	ExpiresAt stamp      `json:"expires_at" help:"until when it works"`
}

// linkSetting is where links lead.
type linkSetting struct {
	Issuer string `setting:"" placeholder:"URL" help:"Address of the provider. Needed before its first start alone."`
}

// issuer is the address that the provider has had since its first start, or the
// one of the settings before that.
func (s linkSetting) issuer(ctx context.Context, p *program, d *db.DB) (string, error) {
	frozen, err := idp.FrozenIssuer(ctx, d)
	switch {
	case err != nil:
		return "", err
	case frozen != "" && s.Issuer != "" && s.Issuer != frozen:
		return "", usagef("%s: %w: it is %s, not %s", p.settings.origin("issuer"), idp.ErrOtherIssuer, frozen, s.Issuer)
	case frozen != "":
		return frozen, nil
	case s.Issuer == "":
		return "", usagef("a link needs the provider's address, which is not known before its first start: write %s=https://id.example.com", variable("issuer"))
	}
	u, err := parseIssuer(s.Issuer)
	if err != nil {
		return "", usagef("%s: %w", p.settings.origin("issuer"), err)
	}
	return u.String(), nil
}

// The bounds of a link's life (ASVS 6.4.1).
const minLinkLife, maxLinkLife = time.Minute, 30 * 24 * time.Hour

func checkLinkLife(life time.Duration) error {
	if life < minLinkLife || life > maxLinkLife {
		return usagef("--expires is %s: write a time from %s to %s", life, minLinkLife, maxLinkLife)
	}
	return nil
}

// link makes a person's link and shows it, this once.
func (o outputFlag) link(ctx context.Context, p *program, store *account.Store, u *account.User, issuer string, life time.Duration) error {
	if !u.DisabledAt.IsZero() {
		return &exit{exitRefused, fmt.Errorf("%s is disabled, and no link would work: harmony-id user enable comes first", u.Email)}
	}
	expires := time.Now().Add(life)
	token, err := store.MakeLink(ctx, u.ID, life, operator())
	if err != nil {
		return fmt.Errorf("%s: %w", u.Email, err)
	}
	r := linkResult{resultOfUser(u), issuer + "/login/reset?" + url.Values{"token": {token}}.Encode(), stamp(expires)}
	if o.Output == "json" {
		return writeJSON(p.stdout, r)
	}
	fmt.Fprintf(p.stderr, "harmony-id: this is the only time that the link is shown. Whoever opens it can set the password of %s.\n", u.Email)
	return writeFacts(p.stdout, [][2]string{{"ID", r.User.ID}, {"Email", r.User.Email}, {"Link", r.Link}, {"Works until", r.ExpiresAt.String()}})
}

type userResetLink struct {
	whichUser
	linkSetting

	Expires time.Duration `default:"24h" placeholder:"TIME" help:"How long the link works. Default 24h."`
}

// Help shows an example.
func (userResetLink) Help() string {
	return "Older links of the person end. Who has a password is told by email that the link was made; who has none is invited by it.\n\n" +
		example(`harmony-id user reset-link ada@example.com`)
}

// Run makes the link.
func (c userResetLink) Run(ctx context.Context, p *program) error {
	if err := checkLinkLife(c.Expires); err != nil {
		return err
	}
	return p.withDatabase(ctx, c.databaseSettings, useExisting, func(d *db.DB) error {
		issuer, err := c.issuer(ctx, p, d)
		if err != nil {
			return err
		}
		store := account.New(d, nil, account.Config{})
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		return c.outputFlag.link(ctx, p, store, u, issuer, c.Expires)
	})
}

type userInvite struct {
	newPerson
	linkSetting

	Expires time.Duration `default:"168h" placeholder:"TIME" help:"How long the link works. Default 168h."`

	outputFlag
	databaseSettings
}

// Help shows an example.
func (userInvite) Help() string {
	return example(`harmony-id user invite --email ada@example.com --name 'Ada Lovelace'`)
}

// Run creates the person and makes the link.
func (c userInvite) Run(ctx context.Context, p *program) error {
	if err := checkLinkLife(c.Expires); err != nil {
		return err
	}
	n, err := c.newUser()
	if err != nil {
		return err
	}
	return p.withDatabase(ctx, c.databaseSettings, useOrMake, func(d *db.DB) error {
		issuer, err := c.issuer(ctx, p, d)
		if err != nil {
			return err
		}
		store := account.New(d, nil, account.Config{})
		u, err := store.CreateUser(ctx, n, operator())
		if errors.Is(err, account.ErrEmailTaken) {
			return fmt.Errorf("%w; harmony-id user reset-link makes a link for a person who is there already", err)
		}
		if err != nil {
			return err
		}
		if err := c.outputFlag.link(ctx, p, store, u, issuer, c.Expires); err != nil {
			return fmt.Errorf("%w; %s is created, and harmony-id user reset-link makes the link", err, u.Email)
		}
		return nil
	})
}
