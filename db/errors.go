package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
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

// inTheWay reports whether err says that PostgreSQL undid a transaction because of
// another: they would not have been one after the other, or waited for each other.
func inTheWay(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
}

// unsent reports whether err says that nothing was sent to PostgreSQL, for want of a
// connection.
func unsent(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok || errors.Is(err, driver.ErrBadConn) // which the driver only says then
}

// lost reports whether err says that the connection to PostgreSQL broke, or that none
// could be made.
func lost(err error) bool {
	if unsent(err) { // whatever a server said to it
		return true
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		// Connection exceptions; it stops, has crashed, or does not take any yet or any more.
		return strings.HasPrefix(e.Code, "08") || slices.Contains([]string{"57P01", "57P02", "57P03", "53300"}, e.Code)
	}
	if _, ok := errors.AsType[net.Error](err); ok && !errors.Is(err, context.DeadlineExceeded) { // which looks like one
		return true
	}
	return slices.ContainsFunc([]error{sql.ErrConnDone, pgconn.ErrConnClosed, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed}, func(e error) bool { return errors.Is(err, e) })
}

// Unavailable reports whether err says that the database did not do its part, and
// that the statement is not to blame: it cannot be reached, stops or starts, broke
// the connection, has no room, may only be read, took too long, or others stayed in
// the way. The same may work in a moment. What broke off may have been done.
func Unavailable(err error) bool {
	if err == nil {
		return false
	}
	if lost(err) || errors.Is(err, ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		// 25006: it is a standby. 57014: it took longer than its settings allow. 53: it lacks resources. 58: its machine fails.
		return inTheWay(err) || e.Code == "25006" || e.Code == "57014" || strings.HasPrefix(e.Code, "53") || strings.HasPrefix(e.Code, "58")
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return slices.Contains([]int{sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL}, e.Code()&0xff)
	}
	return false
}
