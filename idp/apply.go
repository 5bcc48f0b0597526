package idp

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A field is one of what a client is registered with: its name in client metadata
// (RFC 7591), its column, and its value, which is a string, a []string or a bool.
type field struct {
	name, column string
	value        func(*Client) any
}

// fields are all that can be changed of a client, but for its secret.
var fields = []field{
	{"client_name", "name", func(c *Client) any { return c.Name }},
	{"redirect_uris", "redirect_uris", func(c *Client) any { return c.RedirectURIs }},
	{"post_logout_redirect_uris", "post_logout_redirect_uris", func(c *Client) any { return c.PostLogoutRedirectURIs }},
	{"backchannel_logout_uri", "backchannel_logout_uri", func(c *Client) any { return c.BackchannelLogoutURI }},
	{"token_endpoint_auth_method", "auth_method", func(c *Client) any { return c.AuthMethod }},
	{"jwks_uri", "jwks_uri", func(c *Client) any { return c.JWKSURI }},
	{"jwks", "jwks", func(c *Client) any { return c.JWKS }},
	{"id_token_signed_response_alg", "id_token_alg", func(c *Client) any { return c.IDTokenAlg }},
	{"require_pkce", "require_pkce", func(c *Client) any { return c.RequirePKCE }},
	{"require_pushed_authorization_requests", "require_par", func(c *Client) any { return c.RequirePAR }},
	{"dpop_bound_access_tokens", "dpop", func(c *Client) any { return c.DPoP }},
	{"require_2fa", "require_2fa", func(c *Client) any { return c.Require2FA }},
	{"third_party", "third_party", func(c *Client) any { return c.ThirdParty }},
	{"grant_types", "grant_types", func(c *Client) any { return c.GrantTypes }},
	{"scope", "scopes", func(c *Client) any { return c.Scopes }},
	{"access_token_format", "access_token", func(c *Client) any { return c.AccessToken }},
}

// stored is the field's value as its column keeps it.
func (f field) stored(c *Client) any {
	switch v := f.value(c).(type) {
	case []string:
		return list(v)
	case bool:
		return flag(v)
	default:
		return v
	}
}

// shown is the field's value for people; two that mean the same are shown alike.
func (f field) shown(c *Client) string {
	switch v := f.value(c).(type) {
	case []string:
		switch {
		case f.name == "scope":
			return strings.Join(v, " ")
		case len(v) == 0:
			return ""
		}
		return list(v)
	case bool:
		return strconv.FormatBool(v)
	case string:
		var document any
		if f.name == "jwks" && json.Unmarshal([]byte(v), &document) == nil {
			if b, err := json.Marshal(document); err == nil {
				return string(b)
			}
		}
		return v
	}
	return ""
}

// A Difference is one field of a client that is to become another.
type Difference struct {
	Field         string // its name in client metadata (RFC 7591)
	Before, After string
}

// Differences are what of one client another has otherwise.
func (c *Client) Differences(other *Client) (out []Difference) {
	for _, f := range fields {
		if before, after := f.shown(c), f.shown(other); before != after {
			out = append(out, Difference{f.name, before, after})
		}
	}
	return out
}

// ErrChanged means that somebody else changed a client between the plan and its
// execution.
var ErrChanged = errors.New("somebody else changed a client meanwhile; look again")

// Update changes what a client with this id is registered with, in place: its
// tokens stay good. Fields that are empty get the defaults of Create. before is the
// client as the caller knew it. A client that has no secret any more loses it at
// once; one that needs one from now on gets plain, or one that is made, which is
// returned this once. by is the operator's name. Errors: ErrNotFound, ErrChanged,
// *account.InvalidError.
func (c *Clients) Update(ctx context.Context, before *Client, n Client, plain, by string) (differences []Difference, shown string, err error) {
	n.ID = before.ID
	n.fillIn()
	if err := n.check(c.allowPrivate); err != nil {
		return nil, "", err
	}
	if differences = before.Differences(&n); len(differences) == 0 {
		return nil, "", nil
	}
	var names []string
	for _, d := range differences {
		names = append(names, d.Field)
	}
	set, args := make([]string, 0, len(fields)), []any{n.ID}
	for _, f := range fields {
		args = append(args, f.stored(&n))
		set = append(set, fmt.Sprintf("%s = $%d", f.column, len(args)))
	}
	switch {
	case n.hasSecret() && !before.hasSecret():
		if plain == "" {
			plain = secret.Token("hcs_")
		}
		shown = plain
		args = append(args, secret.Hash(plain))
		set = append(set, fmt.Sprintf("secret_hash = $%d", len(args)))
	case !n.hasSecret():
		set = append(set, "secret_hash = NULL, old_secret_hash = NULL, old_secret_until = NULL")
	}
	e := account.Event{Kind: "client_updated", ClientID: n.ID, Actor: operator(by), Detail: account.Detail{Other: strings.Join(names, " ")}}
	err = c.change(ctx, e, func(tx *db.Tx) error {
		if err := tx.Lock(ctx, "clients", n.ID); err != nil {
			return err
		}
		now, err := scanClient(tx.QueryRow(ctx, `SELECT `+clientColumns+` FROM clients WHERE id = $1`, n.ID).Scan)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case len(before.Differences(now)) > 0:
			return fmt.Errorf("%w: %s", ErrChanged, n.ID)
		}
		_, err = tx.Exec(ctx, `UPDATE clients SET `+strings.Join(set, ", ")+` WHERE id = $1`, args...)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return differences, shown, nil
}

// An Action is what a plan does to a client.
type Action string

// The actions of a plan.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
	ActionKeep   Action = "keep"  // it is as it should be
	ActionOther  Action = "other" // it is not asked for, and stays
)

// A Step is what a plan does to one client.
type Step struct {
	Action      Action
	Before      *Client // nil: there is none
	After       *Client // nil: it is deleted
	Differences []Difference
	Secret      string // that it will have, if it gets one; filled in by whoever executes the plan
}

// ID is the client's id.
func (s *Step) ID() string {
	if s.After != nil {
		return s.After.ID
	}
	return s.Before.ID
}

// NeedsSecret reports whether the step gives the client a secret.
func (s *Step) NeedsSecret() bool {
	return (s.Action == ActionCreate || s.Action == ActionUpdate) && s.After.hasSecret() && (s.Before == nil || !s.Before.hasSecret())
}

// Plan says what would make the registered clients those that are wanted, without
// doing it: clients that are wanted in the order in which they are, then the others, which
// are deleted with prune. Errors: *account.InvalidError, wrapped with the client's id.
func (c *Clients) Plan(ctx context.Context, wanted []Client, prune bool) ([]*Step, error) {
	there, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var steps []*Step
	for _, n := range wanted {
		n.fillIn()
		if err := n.check(c.allowPrivate); err != nil {
			return nil, fmt.Errorf("client %s: %w", n.ID, err)
		}
		s := &Step{Action: ActionCreate, After: &n}
		if i := slices.IndexFunc(there, func(t *Client) bool { return t.ID == n.ID }); i >= 0 {
			s.Action, s.Before = ActionUpdate, there[i]
			there = slices.Delete(there, i, i+1)
			if s.Differences = s.Before.Differences(&n); len(s.Differences) == 0 {
				s.Action = ActionKeep
			}
		} else {
			s.Differences = (&Client{}).Differences(&n)
		}
		steps = append(steps, s)
	}
	for _, t := range there {
		s := &Step{Action: ActionOther, Before: t, After: t}
		if prune {
			s.Action, s.After = ActionDelete, nil
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// Execute does what a plan says, all or nothing. by is the operator's name. Errors:
// ErrChanged, ErrClientExists, ErrNotFound.
func (c *Clients) Execute(ctx context.Context, steps []*Step, by string) error {
	return c.db.Tx(ctx, func(tx *db.Tx) error {
		in := &Clients{db: c.db, allowPrivate: c.allowPrivate, tx: tx}
		for _, s := range steps {
			var err error
			switch s.Action {
			case ActionCreate:
				_, s.Secret, err = in.Create(ctx, *s.After, s.Secret, by)
			case ActionUpdate:
				_, s.Secret, err = in.Update(ctx, s.Before, *s.After, s.Secret, by)
			case ActionDelete:
				err = in.Delete(ctx, s.ID(), by)
			}
			if err != nil {
				return fmt.Errorf("client %s: %w", s.ID(), err)
			}
		}
		return nil
	})
}
