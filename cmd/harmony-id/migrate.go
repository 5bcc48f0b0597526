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

// A planResult is a step that is pending, in results.
type planResult struct {
	ID         int               `json:"id" help:"number of the step"`
	Name       string            `json:"name" help:"what it is about"`
	Statements []statementResult `json:"statements" help:"what it does, in this order and in one transaction"`
}

// A statementResult is one statement of a step, in results.
type statementResult struct {
	SQL   string `json:"sql" help:"the statement"`
	Table string `json:"table" help:"the table that it is about; empty: not known"`
	Lock  string `json:"lock" help:"who waits until the step is done: none: nobody; moment: who uses the table, for a moment; rows: who writes one of its rows, the longer the more there are; writes: who writes, the longer the larger the table is; all: who uses the table, the longer the larger it is"`
}

// locks says in words who waits.
var locks = map[db.Lock]string{
	db.LockNone:   "nobody waits",
	db.LockMoment: "who uses the table waits, for a moment",
	db.LockRows:   "who writes one of its rows waits, the longer the more there are",
	db.LockWrites: "who writes waits, the longer the larger the table is",
	db.LockAll:    "who uses the table waits, the longer the larger it is",
}

type migratePlan struct {
	outputFlag
	databaseSettings
}

// Help shows an example.
func (migratePlan) Help() string {
	return "A step is one transaction: who waits, waits until its end. Everything else goes on, and what serves meanwhile works with the new schema, too.\n\n" +
		example(`harmony-id migrate plan`)
}

// Run shows what migrate up would do.
func (c migratePlan) Run(ctx context.Context, p *program) error {
	return p.withDatabase(ctx, c.databaseSettings, useToLook, func(d *db.DB) error {
		steps, err := d.Migrations(ctx)
		if err != nil {
			return fmt.Errorf("reading the database's schema: %w", err)
		}
		plans := d.PlanMigrations(steps)
		if c.Output == "json" {
			results := make([]planResult, 0, len(plans))
			for _, plan := range plans {
				r := planResult{ID: plan.ID, Name: plan.Name, Statements: []statementResult{}}
				for _, s := range plan.Statements {
					r.Statements = append(r.Statements, statementResult{s.SQL, s.Table, string(s.Lock)})
				}
				results = append(results, r)
			}
			return writeJSON(p.stdout, results)
		}
		for _, plan := range plans {
			fmt.Fprintf(p.stdout, "-- Step %s\n\n", plan.Name)
			for _, s := range plan.Statements {
				about := locks[s.Lock]
				if s.Table != "" {
					about = s.Table + ": " + about
				}
				fmt.Fprintf(p.stdout, "-- %s\n%s;\n\n", about, s.SQL)
			}
		}
		if len(plans) == 0 {
			fmt.Fprintln(p.stderr, "harmony-id: the schema is up to date.")
		}
		return nil
	})
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
