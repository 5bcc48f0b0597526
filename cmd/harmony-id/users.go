package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
)

// A userResult is a person in results.
type userResult struct {
	ID            string         `json:"id" help:"the person's id, also the sub of every token"`
	Email         string         `json:"email" help:"email address, in lower case"`
	EmailVerified bool           `json:"email_verified" help:"whether the address is known to be the person's"`
	Name          string         `json:"name" help:"full name"`
	Method        account.Method `json:"method" help:"how the person signs in: password or google"`
	HasPassword   bool           `json:"has_password" help:"whether a password is set"`
	Claims        account.Claims `json:"claims" help:"further standard claims (OpenID Connect Core 5.1)"`
	CreatedAt     stamp          `json:"created_at" help:"when the account was made"`
	UpdatedAt     stamp          `json:"updated_at" help:"when it last changed"`
	DisabledAt    stamp          `json:"disabled_at" help:"since when every sign-in is refused; null: it is not"`
}

func resultOfUser(u *account.User) userResult {
	return userResult{
		ID: u.ID, Email: u.Email, EmailVerified: u.EmailVerified, Name: u.Name, Method: u.Method,
		HasPassword: u.HasPassword, Claims: u.Claims,
		CreatedAt: stamp(u.CreatedAt), UpdatedAt: stamp(u.UpdatedAt), DisabledAt: stamp(u.DisabledAt),
	}
}

func (u userResult) state() string {
	switch {
	case !u.DisabledAt.zero():
		return "disabled"
	case u.Method == account.MethodPassword && !u.HasPassword:
		return "no password"
	}
	return "active"
}

func (o outputFlag) user(p *program, u *account.User) error {
	r := resultOfUser(u)
	if o.Output == "json" {
		return writeJSON(p.stdout, r)
	}
	facts, err := r.facts()
	if err != nil {
		return err
	}
	return writeFacts(p.stdout, facts)
}

func (r userResult) facts() ([][2]string, error) {
	claims, err := json.Marshal(r.Claims)
	if err != nil {
		return nil, err
	}
	if string(claims) == "{}" {
		claims = nil
	}
	return [][2]string{
		{"ID", r.ID}, {"Email", r.Email}, {"Email verified", yesNo(r.EmailVerified)}, {"Name", r.Name},
		{"Signs in with", string(r.Method)}, {"Has a password", yesNo(r.HasPassword)}, {"State", r.state()},
		{"Claims", string(claims)},
		{"Created", r.CreatedAt.String()}, {"Updated", r.UpdatedAt.String()}, {"Disabled", r.DisabledAt.String()},
	}, nil
}

// withDatabase runs one act on the database and closes it.
func (p *program) withDatabase(ctx context.Context, s databaseSettings, use databaseUse, act func(*db.DB) error) (err error) {
	d, err := p.openDatabase(ctx, s, use)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return act(d)
}

// withPeople runs one act on the store of people. It holds no encryption keys:
// nothing that the act does seals or opens.
func (p *program) withPeople(ctx context.Context, s databaseSettings, act func(*account.Store) error) error {
	return p.withDatabase(ctx, s, useExisting, func(d *db.DB) error {
		return act(account.New(d, nil, account.Config{}))
	})
}

// keySettings name the encryption keys, for commands that find what is kept under
// them.
type keySettings struct {
	EncryptionKeysFile string `setting:"" placeholder:"FILE" help:"Keys that encrypt what the database keeps, as harmony-id secrets generate prints them."`
}

// withKeys is withPeople for an act that goes further with encryption keys, if they
// are set. Other keys than the provider's would find nothing, and are refused.
func (p *program) withKeys(ctx context.Context, s databaseSettings, keys keySettings, act func(*account.Store) error) error {
	if keys.EncryptionKeysFile == "" {
		return p.withPeople(ctx, s, act)
	}
	ring, err := readRing(p, keys.EncryptionKeysFile)
	if err != nil {
		return err
	}
	return p.withDatabase(ctx, s, useExisting, func(d *db.DB) error {
		if err := idp.CheckKeys(ctx, d, ring); err != nil {
			return err
		}
		return act(account.New(d, ring, account.Config{}))
	})
}

// newPerson is what a person is created from, but for the password.
type newPerson struct {
	Email         string `required:"" placeholder:"ADDRESS" help:"Email address to sign in with."`
	Name          string `required:"" placeholder:"NAME" help:"Full name, as workspaces show it."`
	EmailVerified bool   `help:"The address is known to be the person's."`
	ClaimsFile    string `placeholder:"FILE" help:"JSON object with further standard claims (OpenID Connect Core 5.1), such as given_name, phone_number, address."`
}

func (n newPerson) newUser() (account.NewUser, error) {
	u := account.NewUser{Email: n.Email, Name: n.Name, EmailVerified: n.EmailVerified}
	if n.ClaimsFile == "" {
		return u, nil
	}
	var err error
	if u.Claims, err = readClaims(n.ClaimsFile); err != nil {
		return u, usagef("--claims-file: %w", err)
	}
	return u, nil
}

type userCreate struct {
	newPerson

	PasswordStdin bool `help:"Read the password from standard input, one line. Without it the person has no password and cannot sign in with one."`

	outputFlag
	databaseSettings
	passwordSettings
}

// Help shows an example.
func (userCreate) Help() string {
	return example(`printf %s 'correct horse battery staple' | harmony-id user create --email ada@example.com --name 'Ada Lovelace' --password-stdin`)
}

// Run creates the person.
func (c userCreate) Run(ctx context.Context, p *program) error {
	if err := c.passwordSettings.check(); err != nil {
		return &exit{exitUsage, err}
	}
	n, err := c.newUser()
	if err != nil {
		return err
	}
	if c.PasswordStdin {
		if n.Password, err = p.secretLine("--password-stdin"); err != nil {
			return err
		}
	}
	return p.withDatabase(ctx, c.databaseSettings, useOrMake, func(d *db.DB) error {
		u, err := account.New(d, nil, accountConfig(sessionSettings{}, c.passwordSettings)).CreateUser(ctx, n, operator())
		if err != nil {
			return err
		}
		if !u.HasPassword {
			fmt.Fprintf(p.stderr, "harmony-id: %s has no password and cannot sign in yet. harmony-id user reset-link makes a link that sets a first one.\n", u.Email)
		}
		return c.outputFlag.user(p, u)
	})
}

// readClaims reads a JSON object of standard claims and refuses names that are
// not among them.
func readClaims(file string) (account.Claims, error) {
	var claims account.Claims
	text, err := os.ReadFile(file)
	if err != nil {
		return claims, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&claims); err != nil {
		return claims, fmt.Errorf("%s: %w", file, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return claims, fmt.Errorf("%s: there is something after the JSON object", file)
	}
	return claims, nil
}

type userList struct {
	outputFlag
	databaseSettings
}

// Help shows an example.
func (userList) Help() string { return example(`harmony-id user list -o json`) }

// listPage is how many people one statement reads.
const listPage = 500

// Run lists everyone.
func (c userList) Run(ctx context.Context, p *program) error {
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		results := []userResult{}
		for after := ""; ; {
			page, err := store.Users(ctx, after, listPage)
			if err != nil {
				return err
			}
			for _, u := range page {
				results = append(results, resultOfUser(u))
				after = u.Email
			}
			if len(page) < listPage {
				break
			}
		}
		if c.Output == "json" {
			return writeJSON(p.stdout, results)
		}
		var rows [][]string
		for _, r := range results {
			rows = append(rows, []string{r.Email, r.Name, r.ID, string(r.Method), r.state(), r.CreatedAt.String()})
		}
		return writeTable(p.stdout, []string{"EMAIL", "NAME", "ID", "METHOD", "STATE", "CREATED"}, rows)
	})
}

// whichUser names one person.
type whichUser struct {
	User string `arg:"" placeholder:"ID|EMAIL" help:"The person's id or email address."`

	outputFlag
	databaseSettings
}

// change does something to the person and shows the person as it is then.
func (c whichUser) change(ctx context.Context, p *program, act func(context.Context, *account.Store, string) error) error {
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		if err := act(ctx, store, u.ID); err != nil {
			return err
		}
		if u, err = store.FindUser(ctx, u.ID); err != nil {
			return err
		}
		return c.outputFlag.user(p, u)
	})
}

func (c whichUser) find(ctx context.Context, store *account.Store) (*account.User, error) {
	u, err := store.FindUser(ctx, c.User)
	if errors.Is(err, account.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", err, c.User)
	}
	return u, err
}

type userShow struct {
	whichUser
	keySettings
}

// Help shows an example.
func (userShow) Help() string {
	return "It says why the person cannot sign in, and until when. The limits on attempts are among it if it is given the encryption keys, for they are kept under them.\n\n" +
		example(`harmony-id user show ada@example.com --encryption-keys-file keys.txt`)
}

// Run shows the person.
func (c userShow) Run(ctx context.Context, p *program) error {
	return p.withKeys(ctx, c.databaseSettings, c.keySettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		return c.outputFlag.detail(ctx, p, store, u)
	})
}

type userDisable struct{ whichUser }

// Help shows an example.
func (userDisable) Help() string { return example(`harmony-id user disable ada@example.com`) }

// Run disables the person.
func (c userDisable) Run(ctx context.Context, p *program) error {
	return c.change(ctx, p, func(ctx context.Context, s *account.Store, id string) error {
		return s.DisableUser(ctx, id, operator())
	})
}

type userEnable struct{ whichUser }

// Help shows an example.
func (userEnable) Help() string { return example(`harmony-id user enable ada@example.com`) }

// Run enables the person.
func (c userEnable) Run(ctx context.Context, p *program) error {
	return c.change(ctx, p, func(ctx context.Context, s *account.Store, id string) error {
		return s.EnableUser(ctx, id, operator())
	})
}

type userDelete struct {
	whichUser
	confirmFlag
}

// Help shows an example.
func (userDelete) Help() string { return example(`harmony-id user delete ada@example.com --yes`) }

// Run deletes the person and shows who it was.
func (c userDelete) Run(ctx context.Context, p *program) error {
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		if err := p.confirm(c.Yes, "Deleting "+u.Email); err != nil {
			return err
		}
		if err := store.DeleteUser(ctx, u.ID, operator()); err != nil {
			return err
		}
		return c.outputFlag.user(p, u)
	})
}

// example is a command's example in --help.
func example(command string) string { return "Example:\n\n    " + command }
