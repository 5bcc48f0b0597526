package main

import (
	"context"
	"fmt"

	"github.com/harmony/id/account"
)

type userReset2FA struct {
	whichUser
	confirmFlag

	Case string `required:"" placeholder:"NUMBER" help:"Case under which it stands how the person proved who they are; they are told it."`
}

// Help shows an example.
func (userReset2FA) Help() string {
	return "For a person who lost the app, the backup codes and their passkeys, or whose account somebody else had a hand in. Every passkey is removed, too, and named in the email that they get. All their sessions end.\n\n" +
		example(`harmony-id user reset-2fa ada@example.com --case 4711`)
}

// Run turns two-factor authentication off and shows the person.
func (c userReset2FA) Run(ctx context.Context, p *program) error {
	if err := account.CheckCase(c.Case); err != nil {
		return err
	}
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		if err := p.confirm(c.Yes, "Turning off two-factor authentication of "+u.Email); err != nil {
			return err
		}
		if err := store.ResetTwoFactor(ctx, u.ID, c.Case, operator()); err != nil {
			return fmt.Errorf("%s: %w", u.Email, err)
		}
		return c.outputFlag.detail(ctx, p, store, u)
	})
}

type userUnthrottle struct {
	whichUser
	keySettings
}

// Help shows an example.
func (userUnthrottle) Help() string {
	return "The limits of networks, which are not one person's, stay. It needs the encryption keys.\n\n" +
		example(`harmony-id user unthrottle ada@example.com --encryption-keys-file keys.txt`)
}

// Run lifts the limits and shows the person.
func (c userUnthrottle) Run(ctx context.Context, p *program) error {
	return p.withKeys(ctx, c.databaseSettings, c.keySettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		if err := store.Unthrottle(ctx, u, operator()); err != nil {
			return err
		}
		return c.outputFlag.detail(ctx, p, store, u)
	})
}
