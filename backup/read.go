package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

var (
	// ErrDamaged means that a stream is not what Create wrote: it was cut off or
	// changed, or is something else.
	ErrDamaged = errors.New("the backup is damaged or cut off")
	// ErrIdentity means that a backup is encrypted, and to none of the identities.
	ErrIdentity = errors.New("the backup is encrypted with age, and no identity opens it")
	// ErrNotEmpty means that a database has rows already.
	ErrNotEmpty = errors.New("the database has rows already; a backup is restored into an empty one")
	// ErrNewer means that a later program wrote the stream, in a form or of a schema
	// that this one does not know.
	ErrNewer = errors.New("the backup was written by a newer program")
)

// A MissingKeysError says which encryption keys a backup needs and the ring lacks.
type MissingKeysError struct{ IDs []string }

func (e *MissingKeysError) Error() string {
	return "the encryption keys lack " + strings.Join(e.IDs, ", ") + ", which sealed values of the backup need"
}

// damaged is err as ErrDamaged.
func damaged(err error) error { return fmt.Errorf("%w: %w", ErrDamaged, err) }

// A visitor sees the tables and rows of a stream. The row is the visitor's until
// it returns.
type visitor struct {
	table func(name string, columns []db.Column) error
	row   func(row []any) error
}

// ageIntro begins what age encrypted.
const ageIntro = "age-encryption.org/"

// A stream is a backup of which the header was read.
type stream struct {
	Header
	lines     *lineReader
	encrypted bool
}

// open reads the header. Errors: ErrDamaged, ErrIdentity, ErrNewer.
func open(r io.Reader, identities []age.Identity) (*stream, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	s := &stream{}
	if intro, err := in.Peek(len(ageIntro)); err == nil && string(intro) == ageIntro {
		s.encrypted = true
		if len(identities) == 0 {
			return nil, ErrIdentity
		}
		plain, err := age.Decrypt(in, identities...)
		if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
			return nil, ErrIdentity
		}
		if err != nil {
			return nil, damaged(err)
		}
		in = bufio.NewReaderSize(plain, 64<<10)
	}
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return nil, damaged(err)
	}
	s.lines = &lineReader{r: bufio.NewReaderSize(unpacked, 64<<10), sum: sha256.New()}
	line, err := s.lines.next()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(line, &s.Header); err != nil || s.Backup != magic { // a newer one may say more of itself
		return nil, damaged(errors.New("it does not begin as one"))
	}
	if s.Version != version {
		return nil, fmt.Errorf("%w (form %d, this one knows %d)", ErrNewer, s.Version, version)
	}
	return s, nil
}

// read reads the rest. What the visitor saw is right only if read returns no error,
// for the checksum comes last. Errors: ErrDamaged, the visitor's.
func (s *stream) read(ctx context.Context, sealed []secret.Column, v visitor) (*Summary, error) {
	sum := &Summary{Header: s.Header, Encrypted: s.encrypted, Rows: map[string]int64{}, Keys: map[string]int64{}}
	end, err := readTables(ctx, s.lines, sum, sealed, v)
	if err != nil {
		return nil, err
	}
	if _, err := s.lines.r.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, damaged(errors.New("there is something after its end"))
	}
	if end.SHA256 != sum.SHA256 || !maps.Equal(end.Rows, sum.Rows) || !maps.Equal(end.Keys, sum.Keys) {
		return nil, damaged(errors.New("its checksum is not that of its rows"))
	}
	return sum, nil
}

func readTables(ctx context.Context, lines *lineReader, s *Summary, sealed []secret.Column, v visitor) (*endLine, error) {
	var (
		name    string
		columns []db.Column
		keys    keyCount
	)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		sum := lines.sum.Sum(nil)
		line, err := lines.next()
		if err != nil {
			return nil, err
		}
		if line[0] == '[' {
			row, err := readRow(line, columns)
			if err != nil {
				return nil, damaged(fmt.Errorf("table %s: %w", name, err))
			}
			if err := keys.add(row); err != nil {
				return nil, damaged(fmt.Errorf("table %s: %w", name, err))
			}
			if err := v.row(row); err != nil {
				return nil, fmt.Errorf("table %s: %w", name, err)
			}
			s.Rows[name]++
			continue
		}
		var end endLine
		if err := strict(line, &end); err == nil && end.End {
			s.SHA256 = hex.EncodeToString(sum)
			return &end, nil
		}
		var t tableLine
		if err := strict(line, &t); err != nil {
			return nil, damaged(err)
		}
		if columns, err = t.columns(); err != nil {
			return nil, damaged(err)
		}
		if _, twice := s.Rows[t.Table]; twice {
			return nil, damaged(fmt.Errorf("table %s comes twice", t.Table))
		}
		name = t.Table
		s.Rows[name] = 0
		keys = newKeyCount(db.Table{Name: name, Columns: columns}, sealed, s.Keys)
		if err := v.table(name, columns); err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
	}
}

func (t tableLine) columns() ([]db.Column, error) {
	if !slices.ContainsFunc(keeps, func(k kept) bool { return k.table == t.Table }) {
		return nil, fmt.Errorf("it has a table %q, which no backup holds", t.Table)
	}
	if len(t.Columns) != len(t.Types) || len(t.Columns) == 0 {
		return nil, fmt.Errorf("table %s has %d columns and %d types", t.Table, len(t.Columns), len(t.Types))
	}
	var columns []db.Column
	for i, name := range t.Columns {
		columns = append(columns, db.Column{Name: name, Type: t.Types[i]})
	}
	return columns, nil
}

// readRow reads a row, whose values are nil, a string, an int64 or a []byte each.
func readRow(line []byte, columns []db.Column) ([]any, error) {
	if len(columns) == 0 {
		return nil, errors.New("a row before a table")
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, err
	}
	if len(raw) != len(columns) {
		return nil, fmt.Errorf("a row has %d values, not %d", len(raw), len(columns))
	}
	row := make([]any, len(raw))
	for i, r := range raw {
		if string(r) == "null" {
			continue
		}
		var err error
		switch columns[i].Type {
		case "TEXT":
			var s string
			err = json.Unmarshal(r, &s)
			row[i] = s
		case "BIGINT":
			var n int64
			err = json.Unmarshal(r, &n)
			row[i] = n
		case "BYTEA":
			var s string
			if err = json.Unmarshal(r, &s); err == nil {
				row[i], err = base64.StdEncoding.Strict().DecodeString(s)
			}
		default:
			err = fmt.Errorf("type %q", columns[i].Type)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", columns[i].Name, err)
		}
	}
	return row, nil
}

// strict reads an object that has the members of v and no others.
func strict(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// A lineReader reads lines and hashes them.
type lineReader struct {
	r   *bufio.Reader
	sum hash.Hash
	buf []byte
}

// next is the next line, good until the one after. There is always one more, until
// the end line.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		if len(l.buf) > maxLine {
			return nil, damaged(fmt.Errorf("a line is longer than %d bytes", maxLine))
		}
		switch {
		case err == nil:
			l.sum.Write(l.buf)
			if len(l.buf) == 1 {
				return nil, damaged(errors.New("a line is empty"))
			}
			return l.buf, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, damaged(errors.New("it ends before its end"))
		default:
			return nil, damaged(err)
		}
	}
}

// Verify reads a backup to its end and says what it holds. With a ring it
// opens every sealed value as well. Errors: ErrDamaged, ErrIdentity, ErrNewer,
// *MissingKeysError, secret.ErrSealed.
func Verify(ctx context.Context, r io.Reader, sealed []secret.Column, identities []age.Identity, ring *secret.Ring) (*Summary, error) {
	var opens opener
	var opened int64
	in, err := open(r, identities)
	if err != nil {
		return nil, err
	}
	s, err := in.read(ctx, sealed, visitor{
		table: func(name string, columns []db.Column) error {
			opens = newOpener(name, columns, sealed, ring)
			return nil
		},
		row: func(row []any) error {
			n, err := opens.row(row)
			opened += n
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	s.Opened = opened
	return s, s.missing(ring)
}

// missing is a *MissingKeysError if the ring, which may be nil, lacks a key.
func (s *Summary) missing(ring *secret.Ring) error {
	if ring == nil {
		return nil
	}
	lacks := slices.DeleteFunc(s.KeyIDs(), ring.Has)
	if len(lacks) > 0 {
		return &MissingKeysError{lacks}
	}
	return nil
}

// An opener opens the sealed values of one table's rows whose keys it has.
type opener struct {
	ring    *secret.Ring
	columns []openColumn
}

type openColumn struct {
	secret.Column
	box        *secret.Box
	value, key int // where they stand in a row
}

func newOpener(table string, columns []db.Column, sealed []secret.Column, ring *secret.Ring) opener {
	o := opener{ring: ring}
	at := func(name string) int {
		return slices.IndexFunc(columns, func(c db.Column) bool { return c.Name == name })
	}
	for _, s := range sealed {
		if s.Table == table && ring != nil && at(s.Column) >= 0 && at(s.Key) >= 0 {
			o.columns = append(o.columns, openColumn{s, ring.Box(s.Purpose), at(s.Column), at(s.Key)})
		}
	}
	return o
}

// row opens those of one row, and says how many.
func (o opener) row(row []any) (opened int64, err error) {
	for _, c := range o.columns {
		b, ok := row[c.value].([]byte)
		if id, _ := secret.KeyOf(b); !ok || len(b) == 0 || !o.ring.Has(id) {
			continue // what is missing is said of all at the end
		}
		if _, err := c.box.Open(b, c.Row(row[c.key])); err != nil {
			return opened, fmt.Errorf("the row %v: %w", row[c.key], err)
		}
		opened++
	}
	return opened, nil
}
