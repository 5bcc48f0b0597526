package db

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// A ConflictError says that a row could not be written because another has
// the same value in a column, or the same values in columns, that must be
// unique. It wraps the driver's error.
type ConflictError struct {
	Table  string
	Column string // several are joined with commas, as declared: "tenant,email"
	err    error
}

// Error names what was in conflict, never the value.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("another row of %s has the same %s", e.Table, e.Column)
}

// Unwrap is the driver's error.
func (e *ConflictError) Unwrap() error { return e.err }

// IsConflict reports whether err is a ConflictError about the column, or the
// columns joined with commas, of the table.
func IsConflict(err error, table, column string) bool {
	c, ok := errors.AsType[*ConflictError](err)
	return ok && c.Table == table && c.Column == column
}

// conflict is err, as a ConflictError if it is one.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return sqliteConflict(e)
		}
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "23505" {
		return &ConflictError{Table: e.TableName, Column: conflictColumns(e), err: err}
	}
	return err
}

// sqliteConflict reads "… UNIQUE constraint failed: users.tenant, users.email (2067)".
func sqliteConflict(e *sqlite.Error) error {
	_, list, _ := strings.Cut(e.Error(), "constraint failed: ")
	if _, after, ok := strings.Cut(list, "constraint failed: "); ok {
		list = after
	}
	if i := strings.LastIndex(list, " ("); i >= 0 {
		list = list[:i]
	}
	c := &ConflictError{err: e}
	var columns []string
	for part := range strings.SplitSeq(list, ", ") {
		table, column, _ := strings.Cut(part, ".")
		c.Table, columns = table, append(columns, column)
	}
	c.Column = strings.Join(columns, ",")
	return c
}

// conflictColumns reads "Key (tenant, email)=(…) already exists.", whose words
// depend on the server's language and whose brackets do not. The server leaves
// it out for a role that may not read the row; then the constraint's own name
// has to do.
func conflictColumns(e *pgconn.PgError) string {
	if _, rest, ok := strings.Cut(e.Detail, "("); ok {
		if list, _, ok := strings.Cut(rest, ")=("); ok {
			return strings.ReplaceAll(list, ", ", ",")
		}
	}
	name := strings.TrimPrefix(e.ConstraintName, e.TableName+"_")
	return strings.TrimSuffix(name, "_key")
}

// harmless reports whether SQLite goes on with the transaction in which a
// statement failed with err: it has undone the statement and nothing else.
// (https://sqlite.org/lang_transaction.html, "Response To Errors Within A
// Transaction".)
func harmless(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return !ok || slices.Contains([]int{
		sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE,
		sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_MISUSE,
	}, e.Code()&0xff)
}

// busy reports whether err says that another process holds SQLite's lock.
func busy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// missingTable reports whether err says that a table does not exist.
func missingTable(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "42P01"
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && strings.Contains(e.Error(), "no such table")
}
