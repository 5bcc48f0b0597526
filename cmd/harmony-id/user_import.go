package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
)

// An importLine is a line of a file of people.
type importLine struct {
	Email         string         `json:"email"`
	EmailVerified bool           `json:"email_verified"`
	Name          string         `json:"name"`
	PasswordHash  string         `json:"password_hash"`
	Claims        account.Claims `json:"claims"`
}

func (l importLine) newUser() account.NewUser {
	return account.NewUser{Email: l.Email, EmailVerified: l.EmailVerified, Name: l.Name, PasswordHash: l.PasswordHash, Claims: l.Claims}
}

// An importResult is an import in results.
type importResult struct {
	Lines    int           `json:"lines" help:"lines that were read"`
	Imported int           `json:"imported" help:"people whose accounts were made; with --dry-run, would be"`
	Skipped  int           `json:"skipped" help:"people who had one already, with --skip-existing"`
	Errors   []importError `json:"errors" help:"what is wrong with the file; if there is anything, nobody was imported"`
}

// An importError is what is wrong with one line, in results.
type importError struct {
	Line   int    `json:"line" help:"number of the line; the first is 1"`
	Reason string `json:"reason" help:"what is wrong with it"`
}

type userImport struct {
	File         string `name:"file" short:"f" required:"" placeholder:"FILE" help:"File of people, a JSON object a line. It is read twice."`
	DryRun       bool   `help:"Look at every line, and import nobody."`
	SkipExisting bool   `help:"Pass over people whose address has an account already: they stay as they are."`

	outputFlag
	databaseSettings
	passwordSettings
}

// Help shows an example.
func (userImport) Help() string {
	return `A line is {"email": …, "name": …} and, if there is, "email_verified", "password_hash" and "claims" (OpenID Connect Core 5.1). The hash is Argon2id, bcrypt, PBKDF2 with SHA-256 or SHA-512, ` +
		"or Django's form of one of these; it is made anew when its person signs in. All lines are looked at first, and if one is wrong nobody is imported. " +
		"Then accounts are made a hundred at a time: an import that was stopped goes on with --skip-existing. Nobody is told by email.\n\n" +
		example(`harmony-id user import -f users.ndjson --dry-run`)
}

// importAtOnce is how many accounts one transaction makes: few enough that nobody
// who signs in meanwhile notices.
const importAtOnce = 100

// Run imports the people of the file.
func (c userImport) Run(ctx context.Context, p *program) (err error) {
	if err := c.passwordSettings.check(); err != nil {
		return &exit{exitUsage, err}
	}
	f, err := os.Open(c.File)
	if err != nil {
		return usagef("--file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.withDatabase(ctx, c.databaseSettings, useOrMake, func(d *db.DB) error {
		store := account.New(d, nil, accountConfig(sessionSettings{}, c.passwordSettings))
		r, skip, err := c.look(ctx, store, f)
		if err != nil {
			return err
		}
		if len(r.Errors) == 0 && !c.DryRun {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return usagef("--file: %w", err)
			}
			if r.Imported, err = load(ctx, store, f, skip); err != nil {
				return fmt.Errorf("%w; %d people are imported, and --skip-existing goes on", err, r.Imported)
			}
		}
		if err := c.outputFlag.imported(p, r); err != nil {
			return err
		}
		if n := len(r.Errors); n > 0 {
			return &exit{exitRefused, fmt.Errorf("%d of %d lines are wrong, and nobody is imported", n, r.Lines)}
		}
		return nil
	})
}

// look checks every line. skip are those to pass over.
func (c userImport) look(ctx context.Context, store *account.Store, f io.Reader) (r importResult, skip map[int]bool, err error) {
	r.Errors = []importError{}
	skip, seen := map[int]bool{}, map[string]int{}
	err = eachLine(f, func(n int, line []byte) error {
		r.Lines++
		wrong := func(reason string) { r.Errors = append(r.Errors, importError{n, reason}) }
		l, err := parseImport(line)
		if err != nil {
			wrong(err.Error())
			return nil
		}
		email, err := store.CheckImport(ctx, l.newUser())
		invalid, isInvalid := errors.AsType[*account.InvalidError](err)
		switch first := seen[email]; {
		case isInvalid:
			wrong(invalid.Error())
		case err != nil && !errors.Is(err, account.ErrEmailTaken):
			return err
		case first > 0:
			wrong(fmt.Sprintf("email: the same as in line %d", first))
		case err != nil && c.SkipExisting:
			skip[n] = true
			r.Skipped++
			seen[email] = n
		case err != nil:
			wrong("email: " + err.Error())
		default:
			r.Imported++
			seen[email] = n
		}
		return nil
	})
	if len(r.Errors) > 0 {
		r.Imported = 0
	}
	return r, skip, err
}

// load makes the accounts of lines that were looked at.
func load(ctx context.Context, store *account.Store, f io.Reader, skip map[int]bool) (imported int, err error) {
	var batch []account.NewUser
	flush := func() error {
		if err := store.Import(ctx, batch, operator()); err != nil {
			return err
		}
		imported += len(batch)
		batch = batch[:0]
		return nil
	}
	err = eachLine(f, func(n int, line []byte) error {
		if skip[n] {
			return nil
		}
		l, err := parseImport(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if batch = append(batch, l.newUser()); len(batch) < importAtOnce {
			return nil
		}
		return flush()
	})
	if err != nil {
		return imported, err
	}
	return imported, flush()
}

// maxImportLine bounds a line, which is read whole.
const maxImportLine = 64 << 10

// eachLine calls fn for each line that is not blank.
func eachLine(r io.Reader, fn func(n int, line []byte) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxImportLine)
	n := 1
	for ; sc.Scan(); n++ {
		if line := bytes.TrimSpace(sc.Bytes()); len(line) > 0 {
			if err := fn(n, line); err != nil {
				return err
			}
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return &exit{exitRefused, fmt.Errorf("line %d is longer than %d bytes", n, maxImportLine)}
	}
	return sc.Err()
}

func parseImport(line []byte) (l importLine, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return l, fmt.Errorf("is not such an object: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, errors.New("has something after the object")
	}
	return l, nil
}

func (o outputFlag) imported(p *program, r importResult) error {
	if o.Output == "json" {
		return writeJSON(p.stdout, r)
	}
	if len(r.Errors) > 0 {
		rows := make([][]string, 0, len(r.Errors))
		for _, e := range r.Errors {
			rows = append(rows, []string{strconv.Itoa(e.Line), e.Reason})
		}
		return writeTable(p.stdout, []string{"LINE", "WRONG"}, rows)
	}
	return writeFacts(p.stdout, [][2]string{{"Lines", strconv.Itoa(r.Lines)}, {"Imported", strconv.Itoa(r.Imported)}, {"Skipped", strconv.Itoa(r.Skipped)}})
}
