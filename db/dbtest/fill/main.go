// Command fill makes a crowd of people in an empty, migrated database, to measure
// with:
//
//	go run ./db/dbtest/fill -database postgres://… -encryption-keys-file keys.txt -users 1000000 -known 2000 -out users.jsonl
//
// The file has the people who are known, one JSON object a line: how they sign in, and
// a refresh token with its client. It is written to for its owner's eyes only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/harmony/id/db/dbtest/crowd"
	"github.com/harmony/id/secret"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}

// A line is a person in the file.
type line struct {
	Username     string `json:"username"`
	Password     string `json:"password"`
	TOTP         string `json:"totp,omitempty"`
	BackupCode   string `json:"backup_code,omitempty"`
	RefreshToken string `json:"refresh_token"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	var size crowd.Size
	flags := flag.NewFlagSet("fill", flag.ContinueOnError)
	database := flags.String("database", "", "the database: sqlite:FILE or postgres://…; nobody may be in it")
	keys := flags.String("encryption-keys-file", "", "the encryption keys of the provider")
	out := flags.String("out", "", "the file for the people who are known; it must not exist")
	flags.IntVar(&size.Users, "users", 1000, "people")
	flags.IntVar(&size.Sessions, "sessions", 0, "sessions; 0: two for each person")
	flags.IntVar(&size.Grants, "grants", 0, "grants; 0: five for each two sessions")
	flags.IntVar(&size.Over, "over", 0, "of a hundred sessions, how many house-keeping has yet to delete")
	flags.IntVar(&size.Known, "known", 100, "of how many people the file tells, those with Google left out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *database == "" || *keys == "" || flags.NArg() > 0 {
		return errors.New("-database and -encryption-keys-file are needed, and nothing besides flags")
	}
	text, err := os.ReadFile(*keys)
	if err != nil {
		return err
	}
	ring, err := secret.ParseRing(text)
	if err != nil {
		return fmt.Errorf("%s: %w", *keys, err)
	}
	began := time.Now()
	made, err := crowd.Fill(ctx, *database, ring, size)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(made.Rows)) {
		fmt.Fprintf(stdout, "%-14s %9d\n", name, made.Rows[name])
	}
	fmt.Fprintf(stdout, "in %s\n", time.Since(began).Round(time.Second))
	if *out == "" {
		return nil
	}
	return write(*out, made.People)
}

func write(name string, people []crowd.Person) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for e := json.NewEncoder(f); len(people) > 0; people = people[1:] {
		p := people[0]
		if err := e.Encode(line{p.Email, crowd.Password, p.TOTP, p.BackupCode, p.RefreshToken, p.Workspace.ID, p.Workspace.Secret}); err != nil {
			return err
		}
	}
	return nil
}
