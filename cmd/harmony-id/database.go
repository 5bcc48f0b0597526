package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/harmony/id/db"
)

// A databaseUse says what a command may do to a database that is not ready.
type databaseUse int

const (
	// useExisting needs a database with today's schema. What a newer program added to
	// it does no harm.
	useExisting databaseUse = iota
	// useWhole is useExisting, of whose schema the program knows all: it is for what
	// copies or changes everything.
	useWhole
	// useOrMake is useExisting, but makes the SQLite file that is not there yet.
	useOrMake
	// useToServe is useExisting, but brings the schema of an SQLite file up to date.
	useToServe
	// useAndMigrate brings the schema up to date.
	useAndMigrate
	// useToLook needs a database and does not look at its schema.
	useToLook
	// useAsItIs is useToLook, but makes the SQLite file that is not there yet.
	useAsItIs
)

const sqliteScheme = "sqlite:"

// openDatabase opens the database of the settings. What it does about a schema
// that is not today's, use says.
func (p *program) openDatabase(ctx context.Context, s databaseSettings, use databaseUse) (*db.DB, error) {
	where, err := s.url(p)
	if err != nil {
		return nil, err
	}
	file, sqlite := strings.CutPrefix(where, sqliteScheme)
	if sqlite && file == "" {
		return nil, usagef("the database's URL names no file: write it as %sharmony-id.db", sqliteScheme)
	}
	fresh := false
	if sqlite {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			if use == useExisting || use == useWhole || use == useToLook {
				return nil, fmt.Errorf("there is no database %s yet: harmony-id serve or migrate up makes it, --database-url names another", absolute(file))
			}
			fresh = true
		}
	}
	d, err := db.Open(ctx, where)
	if err != nil {
		return nil, err
	}
	if use == useOrMake && fresh || use == useToServe && sqlite {
		use = useAndMigrate
	}
	if err := ready(ctx, d, use); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func ready(ctx context.Context, d *db.DB, use databaseUse) error {
	switch use {
	case useToLook, useAsItIs:
		return nil
	case useAndMigrate:
		if _, err := d.Migrate(ctx); err != nil {
			return fmt.Errorf("migrating the database: %w", err)
		}
		return nil
	}
	steps, err := d.Migrations(ctx)
	if err != nil {
		return fmt.Errorf("reading the database's schema: %w", err)
	}
	n := 0
	for _, m := range steps {
		if m.Later && use == useWhole {
			return fmt.Errorf("%w: it holds migration %s", db.ErrNewerSchema, m.Name)
		}
		if m.AppliedAt.IsZero() {
			n++
		}
	}
	if n > 0 {
		return &exit{exitPending, fmt.Errorf("the database needs %d more steps of its schema: run harmony-id migrate up (harmony-id migrate status lists them)", n)}
	}
	return nil
}

// absolute is for messages: it shows in which directory a file was looked for.
func absolute(file string) string {
	if a, err := filepath.Abs(file); err == nil {
		return a
	}
	return file
}
