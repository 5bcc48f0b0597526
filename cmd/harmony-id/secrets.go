package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/harmony/id/db"
	"github.com/harmony/id/rewrap"
	"github.com/harmony/id/secret"
)

type secretsGenerate struct{}

// Help shows an example.
func (secretsGenerate) Help() string {
	return "Keep a copy of the file where the database's backups are not: without it they cannot be read.\n\n" +
		example(`(umask 077; harmony-id secrets generate > keys.txt); export HARMONY_ID_ENCRYPTION_KEYS_FILE=keys.txt`)
}

// Run prints a key file.
func (secretsGenerate) Run(p *program) error {
	_, err := p.stdout.Write(secret.GenerateKeyFile())
	return err
}

// A sealedResult is how many values of a column one encryption key sealed, in results.
type sealedResult struct {
	Table   string `json:"table" help:"the table"`
	Column  string `json:"column" help:"its column"`
	KeyID   string `json:"key_id" help:"id of the encryption key"`
	Values  int64  `json:"values" help:"how many values it sealed"`
	Current bool   `json:"current" help:"whether it is the first key of the file, which seals"`
	Known   bool   `json:"known" help:"whether the file has it; if not, these values do not open"`
}

// sealed prints which keys sealed what, and reports the keys that are in use, those
// that the ring lacks among them.
func (o outputFlag) sealed(p *program, ring *secret.Ring, uses []rewrap.Use) (missing []string, err error) {
	results := make([]sealedResult, 0, len(uses))
	rows := make([][]string, 0, len(uses))
	for _, u := range uses {
		r := sealedResult{u.Column.Table, u.Column.Column, u.KeyID, u.Values, u.KeyID == ring.KeyID(), ring.Has(u.KeyID)}
		results = append(results, r)
		state := "old"
		switch {
		case r.Current:
			state = "current"
		case !r.Known:
			state = "not in the file"
			if !slices.Contains(missing, u.KeyID) {
				missing = append(missing, u.KeyID)
			}
		}
		rows = append(rows, []string{u.Column.Table + "." + u.Column.Column, u.KeyID, state, strconv.FormatInt(u.Values, 10)})
	}
	if o.Output == "json" {
		return missing, writeJSON(p.stdout, results)
	}
	return missing, writeTable(p.stdout, []string{"COLUMN", "KEY", "STATE", "VALUES"}, rows)
}

// ringed is what a command has that works on sealed values.
type ringed struct {
	keySettings
	outputFlag
	databaseSettings
}

// with runs one act with the ring, shows what sealed values there are then, and
// refuses a ring that lacks a key of one or, by what the act found, does not open one.
func (c ringed) with(ctx context.Context, p *program, act func(*db.DB, *secret.Ring) (rewrap.Result, error)) error {
	if c.EncryptionKeysFile == "" {
		return usagef("this is about the encryption keys: write --encryption-keys-file FILE")
	}
	ring, err := readRing(p, c.EncryptionKeysFile)
	if err != nil {
		return err
	}
	return p.withDatabase(ctx, c.databaseSettings, useWhole, func(d *db.DB) error {
		r, err := act(d, ring)
		if errors.Is(err, rewrap.ErrOtherKey) {
			return &exit{exitRefused, fmt.Errorf("%w; nothing was sealed. Use the file that serve uses", err)}
		}
		if err != nil {
			return err
		}
		uses, err := rewrap.Uses(ctx, d, sealedColumns())
		if err != nil {
			return err
		}
		missing, err := c.sealed(p, ring, uses)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return &exit{exitRefused, fmt.Errorf("the file lacks %q, which sealed values that are in use", missing)}
		}
		if r.Refused > 0 {
			return &exit{exitRefused, fmt.Errorf("%d values do not open and stay as they are: %w", r.Refused, r.Why)}
		}
		return nil
	})
}

type secretsCheck struct{ ringed }

// Help shows an example.
func (secretsCheck) Help() string {
	return "It opens every value and shows how many each key sealed. A key of which there are none is needed by nothing in the database any more; docs/backup.md says what else it is for. " +
		"It ends with 4 if values are sealed with a key that the file lacks, or do not open.\n\n" +
		example(`harmony-id secrets check --encryption-keys-file keys.txt`)
}

// Run opens and counts the values.
func (c secretsCheck) Run(ctx context.Context, p *program) error {
	return c.with(ctx, p, func(d *db.DB, ring *secret.Ring) (rewrap.Result, error) {
		return rewrap.Check(ctx, d, ring, sealedColumns())
	})
}

type secretsRewrap struct{ ringed }

// Help shows an example.
func (secretsRewrap) Help() string {
	return "The first key of the file seals, the others open. Every process that serves must have the new key in its file before, or it cannot read what is sealed with it. " +
		"Everything keeps running; a rewrap that was stopped is run again. It shows what secrets check shows.\n\n" +
		example(`harmony-id secrets rewrap --encryption-keys-file keys.txt`)
}

// Run seals everything with the first key.
func (c secretsRewrap) Run(ctx context.Context, p *program) error {
	return c.with(ctx, p, func(d *db.DB, ring *secret.Ring) (rewrap.Result, error) {
		r, err := rewrap.Run(ctx, d, ring, sealedColumns())
		if err == nil {
			fmt.Fprintf(p.stderr, "harmony-id: %d values were sealed with %s.\n", r.Resealed, ring.KeyID())
		}
		return r, err
	})
}
