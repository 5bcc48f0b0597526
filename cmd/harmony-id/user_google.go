package main

import (
	"context"
	"fmt"

	"github.com/harmony/id/account"
	"github.com/harmony/id/login"
)

type userLinkGoogle struct {
	whichUser
	confirmFlag

	Sub          string `required:"" placeholder:"SUB" help:"The person's subject (sub) at Google, as its ID tokens have it; an address is no identity."`
	GoogleIssuer string `name:"google-issuer" setting:"" default:"https://accounts.google.com" placeholder:"URL" help:"OpenID provider that stands in for Google; needs --google-other-issuer."`
	Case         string `required:"" placeholder:"NUMBER" help:"Case under which it stands how the person proved who they are; they are told it."`
}

// Help shows an example.
func (userLinkGoogle) Help() string {
	return "The password stops working, all sessions end, and the person is told by email, with the passkeys that still sign them in: harmony-id user reset-2fa removes those.\n\n" +
		example(`harmony-id user link-google ada@example.com --sub 110169484474386276334 --case 4711`)
}

// Run has the person sign in with Google from now on.
func (c userLinkGoogle) Run(ctx context.Context, p *program) error {
	if c.GoogleIssuer == "" {
		c.GoogleIssuer = login.GoogleIssuer
	}
	return c.switchMethod(ctx, p, c.Yes, "Google", func(store *account.Store, id string) error {
		return store.LinkGoogle(ctx, id, c.GoogleIssuer, c.Sub, c.Case, operator())
	})
}

type userUnlinkGoogle struct {
	whichUser
	confirmFlag

	Case string `required:"" placeholder:"NUMBER" help:"Case under which it stands how the person proved who they are; they are told it."`
}

// Help shows an example.
func (userUnlinkGoogle) Help() string {
	return "Google does not open the account any more, all sessions end, and the person is told by email, with the passkeys that still sign them in: harmony-id user reset-2fa removes those. harmony-id user reset-link gives them a link to set a password.\n\n" +
		example(`harmony-id user unlink-google ada@example.com --case 4711`)
}

// Run has the person sign in with a password from now on.
func (c userUnlinkGoogle) Run(ctx context.Context, p *program) error {
	return c.switchMethod(ctx, p, c.Yes, "a password", func(store *account.Store, id string) error {
		return store.UnlinkGoogle(ctx, id, c.Case, operator())
	})
}

func (c whichUser) switchMethod(ctx context.Context, p *program, yes bool, to string, act func(*account.Store, string) error) error {
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		if err := p.confirm(yes, fmt.Sprintf("Switching %s to sign-in with %s", u.Email, to)); err != nil {
			return err
		}
		if err := act(store, u.ID); err != nil {
			return fmt.Errorf("%s: %w", u.Email, err)
		}
		if u, err = store.FindUser(ctx, u.ID); err != nil {
			return err
		}
		return c.outputFlag.detail(ctx, p, store, u)
	})
}
