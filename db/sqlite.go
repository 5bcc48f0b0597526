package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
)

func (d *DB) openSQLite(ctx context.Context, path string) error {
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///") || strings.ContainsAny(path, "?#\x00") {
		return fmt.Errorf(`"sqlite:%s" is not "sqlite:" and a file's path`, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := createFile(path); err != nil {
		return err
	}
	// What every connection must have stands in its name. FULL: what has been
	// answered survives a power cut. No double-quoted strings: a misspelt
	// column is an error.
	name := (&url.URL{Scheme: "file", OmitHost: true, Path: path}).String() +
		"?_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1&_txlock=immediate&_dqs=0"
	reads, err := sqlite.NewConnector(name + "&_query_only=1")
	if err != nil {
		return err
	}
	writes, err := sqlite.NewConnector(name)
	if err != nil {
		return err
	}
	d.engine = "sqlite"
	if d.writer, err = newWriter(ctx, writes); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// Reads use the processor and wait for nothing, so a few more connections
	// than processors do; spare ones for lists that are read slowly.
	n := max(8, 2*runtime.GOMAXPROCS(0))
	d.pool = sql.OpenDB(sqliteConnector{reads})
	d.pool.SetMaxOpenConns(n)
	d.pool.SetMaxIdleConns(n)
	if err := d.pool.PingContext(ctx); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), d.Close())
	}
	return nil
}

// creating is held while a new file is open here: closing a file drops every
// lock that the process has on it, SQLite's too, so nobody may have it open
// at that moment. (https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_)
var creating sync.Mutex

// createFile makes an empty file that only its owner can read, unless there is
// one. SQLite gives its write-ahead log the same mode.
func createFile(path string) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s does not exist", dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	creating.Lock()
	defer creating.Unlock()
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory, not a file", path)
	case err == nil:
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// A sqliteConnector opens connections that keep their statements prepared.
type sqliteConnector struct{ driver.Connector }

func (c sqliteConnector) Connect(ctx context.Context) (driver.Conn, error) {
	for end := time.Now().Add(5 * time.Second); ; {
		conn, err := c.Connector.Connect(ctx)
		if err == nil {
			return &sqliteConn{inner: conn.(sqliteDriverConn), stmts: map[string]*sqliteStmt{}}, nil
		}
		// Two processes that make the file at the same time may find each
		// other changing its journal mode, for which SQLite does not wait.
		if !busy(err) || time.Now().After(end) {
			return nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type sqliteDriverConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
}

type sqliteDriverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// A sqliteConn is the driver's connection with two differences: it prepares
// each text once, and it does not have the driver start a goroutine per
// statement to watch the context, because the statements here are short.
type sqliteConn struct {
	inner  sqliteDriverConn
	stmts  map[string]*sqliteStmt
	broken error // the error that ended the transaction, until the writer clears it
}

type sqliteStmt struct {
	sqliteDriverStmt
	open bool // its rows are still being read
}

// maxStmts bounds the prepared statements of a connection. The texts of the
// product are far fewer; the bound is for a text that somebody puts together.
const maxStmts = 500

// prepared is query's statement, or nil if it has to go without one.
func (c *sqliteConn) prepared(query string) (*sqliteStmt, error) {
	if s, ok := c.stmts[query]; ok {
		if s.open {
			return nil, nil
		}
		return s, nil
	}
	if !worthKeeping(query) || len(c.stmts) >= maxStmts {
		return nil, nil
	}
	s, err := c.inner.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	kept := &sqliteStmt{sqliteDriverStmt: s.(sqliteDriverStmt)}
	c.stmts[query] = kept
	return kept, nil
}

// worthKeeping reports whether query is one of those that come again and
// again, and not a schema's change or a PRAGMA, some of which act when they
// are prepared.
func worthKeeping(query string) bool {
	query = strings.TrimLeft(query, " \t\r\n")
	for _, verb := range []string{"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK"} {
		if len(query) > len(verb) && strings.EqualFold(query[:len(verb)], verb) || query == verb {
			return true
		}
	}
	return false
}

func (c *sqliteConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := c.prepared(query)
	var res driver.Result
	switch {
	case err != nil:
	case s != nil:
		res, err = s.ExecContext(context.Background(), args)
	default:
		res, err = c.inner.ExecContext(context.Background(), query, args)
	}
	return res, c.noted(err)
}

func (c *sqliteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := c.prepared(query)
	var rows driver.Rows
	switch {
	case err != nil:
	case s != nil:
		rows, err = s.QueryContext(context.Background(), args)
	default:
		rows, err = c.inner.QueryContext(context.Background(), query, args)
	}
	if err != nil {
		return nil, c.noted(err)
	}
	if s != nil {
		s.open = true
	}
	return &sqliteRows{Rows: rows, conn: c, stmt: s}, nil
}

func (c *sqliteConn) noted(err error) error {
	if err != nil && c.broken == nil && !harmless(err) {
		c.broken = err
	}
	return err
}

func (c *sqliteConn) Prepare(query string) (driver.Stmt, error) { return c.inner.Prepare(query) }
func (c *sqliteConn) Ping(ctx context.Context) error            { return c.inner.Ping(ctx) }

func (c *sqliteConn) Begin() (driver.Tx, error) {
	return nil, errors.New("db: the writer begins its transactions itself")
}

func (c *sqliteConn) Close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	c.stmts = nil
	return errors.Join(append(errs, c.inner.Close())...)
}

// sqliteRows are the driver's rows, which notice when they are done with.
type sqliteRows struct {
	driver.Rows
	conn *sqliteConn
	stmt *sqliteStmt
}

func (r *sqliteRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err != nil && !errors.Is(err, io.EOF) {
		return r.conn.noted(err)
	}
	return err
}

func (r *sqliteRows) Close() error {
	if r.stmt != nil {
		r.stmt.open = false
	}
	return r.conn.noted(r.Rows.Close())
}
