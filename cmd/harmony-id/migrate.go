package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/harmony/id/db"
)

// A migrationResult is a step of the schema in results.
type migrationResult struct {
	ID        int    `json:"id" help:"number of the step"`
	Name      string `json:"name" help:"what it is about"`
	AppliedAt stamp  `json:"applied_at" help:"when it was taken; null: pending"`
}

func (o outputFlag) migrations(p *program, all []db.Migration) error {
	results := make([]migrationResult, 0, len(all))
	rows := make([][]string, 0, len(all))
	for _, m := range all {
		r := migrationResult{m.ID, m.Name, stamp(m.AppliedAt)}
		results = append(results, r)
		applied := r.AppliedAt.String()
		if r.AppliedAt.zero() {
			applied = "pending"
		}
		rows = append(rows, []string{strconv.Itoa(r.ID), r.Name, applied})
	}
	if o.Output == "json" {
		return writeJSON(p.stdout, results)
	}
	return writeTable(p.stdout, []string{"ID", "NAME", "APPLIED"}, rows)
}

type migrateStatus struct {
	outputFlag
	databaseSettings
}

// Help shows an example.
func (migrateStatus) Help() string {
	return "The exit code is 5 while a step is pending.\n\n" + example(`harmony-id migrate status`)
}

// Run shows the steps.
func (c migrateStatus) Run(ctx context.Context, p *program) (err error) {
	d, err := p.openDatabase(ctx, c.databaseSettings, useToLook)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	all, err := d.Migrations(ctx)
	if err != nil {
		return fmt.Errorf("reading the database's schema: %w", err)
	}
	if err := c.outputFlag.migrations(p, all); err != nil {
		return err
	}
	return ready(ctx, d, useExisting)
}

type migrateUp struct {
	outputFlag
	databaseSettings
}

// Help shows an example.
func (migrateUp) Help() string {
	return example(`HARMONY_ID_DATABASE_URL=postgres://harmony@db/harmony harmony-id migrate up`)
}

// Run takes every pending step and shows those that it took.
func (c migrateUp) Run(ctx context.Context, p *program) (err error) {
	d, err := p.openDatabase(ctx, c.databaseSettings, useAsItIs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	before, err := d.Migrations(ctx)
	if err != nil {
		return fmt.Errorf("reading the database's schema: %w", err)
	}
	if _, err := d.Migrate(ctx); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	after, err := d.Migrations(ctx)
	if err != nil {
		return fmt.Errorf("reading the database's schema: %w", err)
	}
	done := map[int]bool{}
	for _, m := range before {
		done[m.ID] = !m.AppliedAt.IsZero()
	}
	var applied []db.Migration
	for _, m := range after {
		if !done[m.ID] {
			applied = append(applied, m)
		}
	}
	return c.outputFlag.migrations(p, applied)
}
