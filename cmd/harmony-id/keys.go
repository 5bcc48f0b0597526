package main

import (
	"context"
	"errors"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
)

// rotationSettings say how signing keys come and go.
type rotationSettings struct {
	KeyRotateEvery time.Duration `setting:"" default:"720h" placeholder:"TIME" help:"A signing key signs for so long."`
	KeyPrepublish  time.Duration `setting:"" default:"48h" placeholder:"TIME" help:"A signing key is published for so long before it signs: longer than anybody keeps the JWKS."`
	KeyOverlap     time.Duration `setting:"" default:"48h" placeholder:"TIME" help:"A signing key is published for so long after its successor took over."`
}

func (s rotationSettings) rotation() idp.Rotation {
	return idp.Rotation{Every: s.KeyRotateEvery, Prepublish: s.KeyPrepublish, Overlap: s.KeyOverlap}
}

func (s rotationSettings) check() error { return s.rotation().Check() }

// A keyResult is a signing key in results.
type keyResult struct {
	KeyID     string `json:"kid" help:"its id, as in the JWKS"`
	Alg       string `json:"alg" help:"ES256, RS256 or EdDSA"`
	State     string `json:"state" help:"next: published, does not sign yet; active: signs; retiring: published for what it signed; retired: wiped, its public half still checks id_token_hint"`
	CreatedAt stamp  `json:"created_at" help:"when it was made"`
	ActiveAt  stamp  `json:"active_at" help:"when it begins to sign"`
	RetiredAt stamp  `json:"retired_at" help:"until when it is published; null: it has no successor yet"`
}

// keys prints every key.
func (o outputFlag) keys(ctx context.Context, p *program, keys *idp.Keys) error {
	all, err := keys.List(ctx)
	if err != nil {
		return err
	}
	results := make([]keyResult, 0, len(all))
	rows := make([][]string, 0, len(all))
	for _, k := range all {
		r := keyResult{k.ID, k.Alg, string(k.State), stamp(k.CreatedAt), stamp(k.ActiveAt), stamp(k.RetiredAt)}
		results = append(results, r)
		rows = append(rows, []string{r.KeyID, r.Alg, r.State, r.ActiveAt.String(), r.RetiredAt.String()})
	}
	if o.Output == "json" {
		return writeJSON(p.stdout, results)
	}
	return writeTable(p.stdout, []string{"KID", "ALG", "STATE", "SIGNS FROM", "PUBLISHED UNTIL"}, rows)
}

type keysList struct {
	outputFlag
	databaseSettings
}

// Help shows an example.
func (keysList) Help() string { return example(`harmony-id keys list`) }

// Run lists the signing keys.
func (c keysList) Run(ctx context.Context, p *program) error {
	return p.withDatabase(ctx, c.databaseSettings, useExisting, func(d *db.DB) error {
		return c.keys(ctx, p, idp.NewKeys(d, nil))
	})
}

type keysRotate struct {
	Emergency bool `help:"Somebody may have the keys: new ones sign at once, and nothing that the old ones signed is believed any more. Workspaces refuse sign-ins until they read the JWKS again."`

	outputFlag
	databaseSettings
	keySettings
	rotationSettings
	confirmFlag
}

// Help shows an example.
func (keysRotate) Help() string {
	return "Keys rotate by themselves. This publishes the next ones now; they sign when they were published for key-prepublish.\n\n" +
		example(`harmony-id keys rotate --encryption-keys-file keys.txt`)
}

// Run publishes the next keys, or replaces all.
func (c keysRotate) Run(ctx context.Context, p *program) error {
	if c.EncryptionKeysFile == "" {
		return usagef("new signing keys are kept under the encryption keys: write --encryption-keys-file FILE")
	}
	if err := c.rotationSettings.check(); err != nil {
		return usagef("%s", err)
	}
	ring, err := readRing(p, c.EncryptionKeysFile)
	if err != nil {
		return err
	}
	return p.withDatabase(ctx, c.databaseSettings, useExisting, func(d *db.DB) error {
		if err := idp.CheckKeys(ctx, d, ring); err != nil {
			return err
		}
		keys := idp.NewKeys(d, ring)
		if c.Emergency {
			if err := p.confirm(c.Yes, "Replacing all signing keys at once"); err != nil {
				return err
			}
			if err := keys.Replace(ctx, operator().Name); err != nil {
				return err
			}
			return c.keys(ctx, p, keys)
		}
		if err := keys.Rotate(ctx, c.rotation(), operator().Name); err != nil && !errors.Is(err, idp.ErrNextWaits) {
			return err
		}
		return c.keys(ctx, p, keys)
	})
}
