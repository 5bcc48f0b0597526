package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/harmony/id/account"
	"github.com/harmony/id/backup"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// sealedColumns are all columns whose values the encryption keys seal.
func sealedColumns() []secret.Column { return slices.Concat(account.Sealed(), idp.Sealed()) }

// A backupResult is a backup in results.
type backupResult struct {
	CreatedAt stamp            `json:"created_at" help:"the moment that its rows are of"`
	Schema    int              `json:"schema_version" help:"the step of the schema that it is of"`
	Engine    string           `json:"engine" help:"where it comes from: sqlite or postgres; either takes it"`
	Encrypted bool             `json:"encrypted" help:"whether it is encrypted with age"`
	Rows      map[string]int64 `json:"rows" help:"how many rows it has, by table"`
	Keys      map[string]int64 `json:"encryption_keys" help:"the ids of the encryption keys that it needs, and how many values each of them sealed"`
	Opened    int64            `json:"values_opened" help:"how many of these values were opened, to see that the encryption keys fit; 0 without them"`
	SHA256    string           `json:"sha256" help:"checksum of its rows"`
}

func resultOfBackup(s *backup.Summary) backupResult {
	return backupResult{stamp(s.At), s.Schema, s.Engine, s.Encrypted, s.Rows, s.Keys, s.Opened, s.SHA256}
}

func (r backupResult) facts() [][2]string {
	var tables []string
	var all int64
	for name, n := range r.Rows {
		all += n
		tables = append(tables, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(tables)
	var keys []string
	for id, n := range r.Keys {
		keys = append(keys, fmt.Sprintf("%s (%d values)", id, n))
	}
	slices.Sort(keys)
	facts := [][2]string{
		{"Created", r.CreatedAt.String()}, {"Schema", strconv.Itoa(r.Schema)}, {"Engine", r.Engine}, {"Encrypted", yesNo(r.Encrypted)},
		{"Rows", fmt.Sprintf("%d: %s", all, strings.Join(tables, ", "))}, {"Needs the keys", strings.Join(keys, ", ")},
	}
	if r.Opened > 0 {
		facts = append(facts, [2]string{"Opened", fmt.Sprintf("%d values", r.Opened)})
	}
	return append(facts, [2]string{"SHA-256", r.SHA256})
}

type backupCreate struct {
	Out            string   `name:"out" short:"o" default:"-" placeholder:"FILE|-" help:"Where to: a file that does not exist yet, or - for standard output (the default)."`
	Recipient      []string `sep:"none" placeholder:"AGE1…" help:"Encrypt to this age recipient, whose identity opens it. May be repeated."`
	RecipientsFile string   `placeholder:"FILE" help:"Encrypt to the age recipients of this file, one a line."`

	databaseSettings
}

// Help shows an example.
func (backupCreate) Help() string {
	return "Everything keeps running meanwhile. A backup goes into either engine. It holds no encryption keys, and it names those without which it is of no use. " +
		"Half sign-ins, links that set a password and limits on attempts are not in it; docs/backup.md has more.\n\n" +
		example(`harmony-id backup create --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p -o harmony-id.backup`)
}

// Run writes the backup and shows what it holds: where the backup itself is not.
func (c backupCreate) Run(ctx context.Context, p *program) (err error) {
	recipients, err := c.recipients()
	if err != nil {
		return err
	}
	if c.Out == "-" && terminal(p.stdout) {
		return usagef("a backup is not for a screen: write -o FILE, or send standard output somewhere")
	}
	return p.withDatabase(ctx, c.databaseSettings, useWhole, func(d *db.DB) error {
		if c.Out == "-" {
			s, err := backup.Create(ctx, d, p.stdout, sealedColumns(), recipients)
			if err != nil {
				return fmt.Errorf("making a backup: %w", err)
			}
			return writeFacts(p.stderr, resultOfBackup(s).facts())
		}
		var s *backup.Summary
		err := writeNew(c.Out, func(f *os.File) (err error) {
			s, err = backup.Create(ctx, d, f, sealedColumns(), recipients)
			return err
		})
		if err != nil {
			return fmt.Errorf("making a backup: %w", err)
		}
		return writeFacts(p.stdout, resultOfBackup(s).facts())
	})
}

func (c backupCreate) recipients() (all []age.Recipient, err error) {
	for _, r := range c.Recipient {
		some, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil {
			return nil, usagef("--recipient: %w", err)
		}
		all = append(all, some...)
	}
	if c.RecipientsFile != "" {
		text, err := os.ReadFile(c.RecipientsFile)
		if err != nil {
			return nil, usagef("--recipients-file: %w", err)
		}
		some, err := age.ParseRecipients(bytes.NewReader(text))
		if err != nil {
			return nil, usagef("--recipients-file: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// writeNew writes a file that is not there yet, for its owner's eyes only. It is
// durable when writeNew returns, and gone if that failed.
func writeNew(name string, write func(*os.File) error) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &exit{exitRefused, fmt.Errorf("%s exists already", name)}
	}
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// backupSource is a backup that is there.
type backupSource struct {
	File         string `arg:"" placeholder:"FILE|-" help:"The backup, or - for standard input."`
	IdentityFile string `placeholder:"FILE" help:"age identities, one of which opens it if it is encrypted."`

	keySettings
	outputFlag
}

// open returns the backup, the identities that may open it, and the encryption keys
// if they are named.
func (c backupSource) open(p *program) (r io.ReadCloser, ids []age.Identity, ring *secret.Ring, err error) {
	if c.IdentityFile != "" {
		text, err := readSecret(c.IdentityFile)
		if err != nil {
			return nil, nil, nil, usagef("--identity-file: %w", err)
		}
		if ids, err = age.ParseIdentities(bytes.NewReader(text)); err != nil {
			return nil, nil, nil, usagef("--identity-file: %w", err)
		}
	}
	if c.EncryptionKeysFile != "" {
		if ring, err = readRing(p, c.EncryptionKeysFile); err != nil {
			return nil, nil, nil, err
		}
	}
	if c.File == "-" {
		return io.NopCloser(p.stdin), ids, ring, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, nil, nil, usagef("%w", err)
	}
	return f, ids, ring, nil
}

// explainBackup adds what to do about it.
func explainBackup(err error) error {
	if errors.Is(err, backup.ErrIdentity) {
		return usagef("%w: write --identity-file FILE", err)
	}
	if errors.Is(err, backup.ErrNewer) {
		return &exit{exitPending, fmt.Errorf("%w: run the newer program", err)}
	}
	if s, ok := errors.AsType[*db.SchemaError](err); ok {
		return &exit{exitPending, fmt.Errorf("%w: restore into a database that no migration was run on", s)}
	}
	if m, ok := errors.AsType[*backup.MissingKeysError](err); ok {
		return &exit{exitRefused, fmt.Errorf("%w: add them to the file from where you keep them", m)}
	}
	if errors.Is(err, backup.ErrNotEmpty) || errors.Is(err, secret.ErrSealed) {
		return &exit{exitRefused, err}
	}
	return err
}

type backupVerify struct{ backupSource }

// Help shows an example.
func (backupVerify) Help() string {
	return "It reads all of it. With the encryption keys it opens every value that they sealed, too. It needs no database.\n\n" +
		example(`harmony-id backup verify harmony-id.backup --identity-file identity.txt --encryption-keys-file keys.txt`)
}

// Run reads the backup and shows what it holds.
func (c backupVerify) Run(ctx context.Context, p *program) (err error) {
	r, ids, ring, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	s, err := backup.Verify(ctx, r, sealedColumns(), ids, ring)
	if err != nil {
		return explainBackup(err)
	}
	if c.Output == "json" {
		return writeJSON(p.stdout, resultOfBackup(s))
	}
	return writeFacts(p.stdout, resultOfBackup(s).facts())
}

// A restoreResult is a restore in results.
type restoreResult struct {
	Backup        backupResult `json:"backup" help:"what was restored"`
	SessionsEnded int          `json:"sessions_ended" help:"sessions that ended with it, of which a workspace is told"`
}

type restoreCommand struct {
	backupSource
	databaseSettings

	Drill bool `help:"This is to see that it works: nobody will be told of anything, no workspace and no person."`
}

// Help shows an example.
func (restoreCommand) Help() string {
	return "Into an empty database, all of it or nothing. Everybody has to sign in again, with a code of their app that comes after the restore. " +
		"With the encryption keys it makes sure that they open what they sealed, before anything counts.\n\n" +
		example(`harmony-id restore harmony-id.backup --identity-file identity.txt --encryption-keys-file keys.txt`)
}

// Run restores the backup and shows what it held.
func (c restoreCommand) Run(ctx context.Context, p *program) (err error) {
	r, ids, ring, err := c.open(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return p.withDatabase(ctx, c.databaseSettings, useAsItIs, func(d *db.DB) error {
		s, ended, err := restore(ctx, d, r, ids, ring, c.Drill)
		if err != nil {
			return explainBackup(err)
		}
		if ring == nil && len(s.Keys) > 0 {
			fmt.Fprintf(p.stderr, "harmony-id: serve needs the encryption keys %s. Nobody looked whether you have them.\n", strings.Join(s.KeyIDs(), ", "))
		}
		result := restoreResult{resultOfBackup(s), ended}
		if c.Output == "json" {
			return writeJSON(p.stdout, result)
		}
		return writeFacts(p.stdout, append(result.Backup.facts(), [2]string{"Sessions ended", strconv.Itoa(ended)}))
	})
}

// restore restores a backup and does what follows from it.
func restore(ctx context.Context, d *db.DB, r io.Reader, ids []age.Identity, ring *secret.Ring, drill bool) (s *backup.Summary, ended int, err error) {
	s, err = backup.Restore(ctx, d, r, sealedColumns(), ids, ring, func(tx *db.Tx, made time.Time) (err error) {
		now := time.Now()
		if ended, err = account.Restored(ctx, tx, now, drill, operator()); err != nil {
			return err
		}
		return idp.Restored(ctx, tx, made, now, drill, operator().Name)
	})
	return s, ended, err
}
