// Package backup writes all that a database cannot do without into one stream, and
// fills an empty database from it. The stream is the same for both engines: what
// SQLite gave, PostgreSQL takes, and the reverse.
//
// It is lines of JSON, compressed by gzip and encrypted with age if there is
// somebody to encrypt to: a header; for each table a line with its columns and then a
// line for each row, an array; at the end how many rows there were, which keys
// sealed values of them, and the SHA-256 of all lines before. A stream that was cut
// off has no such end, one that was damaged has another sum.
package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"compress/gzip"

	"filippo.io/age"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// toTell are the grants whose clients are still to be told when their session ends:
// of sessions and grants, nothing else is worth anything after a restore.
const toTell = `session_id IS NOT NULL AND redeemed_at IS NOT NULL AND told_at IS NULL
	AND client_id IN (SELECT id FROM clients WHERE backchannel_logout_uri <> '')`

// A kept is a table that a backup holds, and which of its rows.
type kept struct {
	table, where string
}

// keeps are the tables of a backup, what others refer to first.
var keeps = []kept{
	{table: "settings"},
	{table: "signing_keys"},
	{table: "users"},
	{table: "totp"},
	{table: "backup_codes"},
	{table: "passkeys"},
	{table: "clients"},
	{table: "consents"},
	{table: "sessions", where: `id IN (SELECT session_id FROM grants WHERE ` + toTell + `)`},
	{table: "grants", where: toTell},
	{table: "events", where: `sealed IS NULL`}, // with an address: a reset that is still to be mailed
}

// leaves are the tables that a backup leaves out, and why.
var leaves = map[string]string{
	"migrations":      "the restore takes the steps itself",
	"throttles":       "attempts of a moment ago",
	"logins":          "half sign-ins",
	"resets":          "links that work once",
	"enrollments":     "set-ups that nobody confirmed",
	"ceremonies":      "requests to passkeys that nobody answered yet",
	"google_flows":    "round trips that are under way",
	"auth_requests":   "sign-ins that are under way",
	"pushed_requests": "and those that are about to begin",
	"assertions":      "instead, the restore refuses all that were issued before it",
}

const (
	magic   = "harmony-id"
	version = 1

	// maxLine bounds a row, which is read whole.
	maxLine = 4 << 20
)

// A Header is what a backup says of itself before its rows.
type Header struct {
	Backup  string    `json:"backup"`  // magic
	Version int       `json:"version"` // of the form of the stream
	Schema  int       `json:"schema"`  // the last step that the database had taken
	Step    string    `json:"step"`    // its name
	Engine  string    `json:"engine"`
	At      time.Time `json:"at"` // the moment that the rows are of
}

// A tableLine begins a table.
type tableLine struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
	Types   []string `json:"types"`
}

// An endLine is the last line.
type endLine struct {
	End    bool             `json:"end"`
	Rows   map[string]int64 `json:"rows"`
	Keys   map[string]int64 `json:"keys"`
	SHA256 string           `json:"sha256"`
}

// A Summary is what is known of a backup once all of it was written or read.
type Summary struct {
	Header
	Rows      map[string]int64 // by table
	Keys      map[string]int64 // how many values each encryption key sealed, by its id
	Opened    int64            // how many of these were opened, to see that they do
	SHA256    string           // of its lines
	Encrypted bool
}

// KeyIDs are the ids of the encryption keys that the backup needs.
func (s *Summary) KeyIDs() []string {
	ids := make([]string, 0, len(s.Keys))
	for id := range s.Keys {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Create writes a backup of a database while it is in use: all rows are as they
// were at one moment, and no writer waits. It holds one row in memory at a time.
// With recipients the stream is encrypted to them. sealed are the columns whose keys
// it counts.
func Create(ctx context.Context, d *db.DB, w io.Writer, sealed []secret.Column, recipients []age.Recipient) (*Summary, error) {
	var closers []io.Closer
	if len(recipients) > 0 {
		encrypted, err := age.Encrypt(w, recipients...)
		if err != nil {
			return nil, err
		}
		w, closers = encrypted, append(closers, encrypted)
	}
	packed := gzip.NewWriter(w)
	closers = append(closers, packed)
	out := &lineWriter{w: bufio.NewWriterSize(packed, 64<<10), sum: sha256.New()}
	var s *Summary
	err := d.Snapshot(ctx, func(tx *db.Tx) (err error) {
		s, err = create(ctx, d, tx, out, sealed)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.Encrypted = len(recipients) > 0
	if err := out.w.Flush(); err != nil {
		return nil, err
	}
	for _, c := range slices.Backward(closers) {
		if err := c.Close(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func create(ctx context.Context, d *db.DB, tx *db.Tx, out *lineWriter, sealed []secret.Column) (*Summary, error) {
	s := &Summary{Header: Header{Backup: magic, Version: version, Engine: d.Engine(), At: time.Now().UTC()}, Rows: map[string]int64{}, Keys: map[string]int64{}}
	if err := tx.QueryRow(ctx, `SELECT id, name FROM migrations ORDER BY id DESC LIMIT 1`).Scan(&s.Schema, &s.Step); err != nil {
		return nil, fmt.Errorf("reading the schema's version: %w", err)
	}
	tables, err := tx.Tables(ctx)
	if err != nil {
		return nil, err
	}
	if err := known(tables); err != nil {
		return nil, err
	}
	if err := out.line(s.Header); err != nil {
		return nil, err
	}
	for _, k := range keeps {
		t := tables[slices.IndexFunc(tables, func(t db.Table) bool { return t.Name == k.table })]
		n, err := writeTable(ctx, tx, out, t, k.where, newKeyCount(t, sealed, s.Keys))
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Name, err)
		}
		s.Rows[t.Name] = n
	}
	s.SHA256 = hex.EncodeToString(out.sum.Sum(nil))
	return s, out.line(endLine{End: true, Rows: s.Rows, Keys: s.Keys, SHA256: s.SHA256})
}

// known refuses a schema with tables that nobody has said of whether a backup holds
// them: to leave them out in silence is worse.
func known(tables []db.Table) error {
	for _, t := range tables {
		if _, left := leaves[t.Name]; !left && !slices.ContainsFunc(keeps, func(k kept) bool { return k.table == t.Name }) {
			return fmt.Errorf("backups know nothing of the table %s", t.Name)
		}
	}
	for _, k := range keeps {
		if !slices.ContainsFunc(tables, func(t db.Table) bool { return t.Name == k.table }) {
			return fmt.Errorf("the database has no table %s", k.table)
		}
	}
	return nil
}

func writeTable(ctx context.Context, tx *db.Tx, out *lineWriter, t db.Table, where string, keys keyCount) (n int64, err error) {
	line := tableLine{Table: t.Name}
	for _, c := range t.Columns {
		line.Columns, line.Types = append(line.Columns, c.Name), append(line.Types, c.Type)
	}
	if err := out.line(line); err != nil {
		return 0, err
	}
	text := `SELECT ` + strings.Join(line.Columns, ", ") + ` FROM ` + t.Name
	if where != "" {
		text += ` WHERE ` + where
	}
	rows, err := tx.Query(ctx, text)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	scanned, values, err := targets(t.Columns)
	if err != nil {
		return 0, err
	}
	for rows.Next() {
		if err := ctx.Err(); err != nil { // SQLite's reads do not look
			return 0, err
		}
		if err := rows.Scan(scanned...); err != nil {
			return 0, err
		}
		row, err := values()
		if err != nil {
			return 0, err
		}
		if err := keys.add(row); err != nil {
			return 0, err
		}
		if err := out.line(row); err != nil {
			return 0, err
		}
		n++
	}
	return n, rows.Err()
}

// targets is what a row of the columns is scanned into, and the values that it then
// has: nil, a string, an int64 or a []byte each.
func targets(columns []db.Column) (scanned []any, values func() ([]any, error), err error) {
	for _, c := range columns {
		switch c.Type {
		case "TEXT":
			scanned = append(scanned, new(sql.NullString))
		case "BIGINT":
			scanned = append(scanned, new(sql.NullInt64))
		case "BYTEA":
			scanned = append(scanned, new([]byte))
		default:
			return nil, nil, fmt.Errorf("column %s is of the type %s", c.Name, c.Type)
		}
	}
	row := make([]any, len(columns))
	return scanned, func() ([]any, error) {
		for i, s := range scanned {
			row[i] = nil
			switch s := s.(type) {
			case *sql.NullString:
				if s.Valid && (!utf8.ValidString(s.String) || strings.ContainsRune(s.String, 0)) {
					return nil, fmt.Errorf("column %s holds what is no text", columns[i].Name)
				}
				if s.Valid {
					row[i] = s.String
				}
			case *sql.NullInt64:
				if s.Valid {
					row[i] = s.Int64
				}
			case *[]byte:
				switch {
				case *s != nil:
					row[i] = *s
				case columns[i].NotNull: // SQLite reads an empty one as nil
					row[i] = []byte{}
				}
			}
		}
		return row, nil
	}, nil
}

// A keyCount counts the keys of the sealed values of one table's rows.
type keyCount struct {
	columns []int
	counts  map[string]int64
}

func newKeyCount(t db.Table, sealed []secret.Column, counts map[string]int64) keyCount {
	k := keyCount{counts: counts}
	for _, s := range sealed {
		if i := slices.IndexFunc(t.Columns, func(c db.Column) bool { return c.Name == s.Column }); i >= 0 && s.Table == t.Name {
			k.columns = append(k.columns, i)
		}
	}
	return k
}

func (k keyCount) add(row []any) error {
	for _, i := range k.columns {
		b, ok := row[i].([]byte)
		if !ok || len(b) == 0 {
			continue
		}
		id, ok := secret.KeyOf(b)
		if !ok {
			return errors.New("a sealed value does not say which key sealed it")
		}
		k.counts[id]++
	}
	return nil
}

// A lineWriter writes lines of JSON and hashes them.
type lineWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

func (l *lineWriter) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if len(b) > maxLine {
		return fmt.Errorf("a row of %d bytes is larger than a backup can hold (%d)", len(b), maxLine)
	}
	l.sum.Write(b)
	_, err = l.w.Write(b)
	return err
}
