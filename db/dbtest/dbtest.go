// Package dbtest gives a test a database of its own, on each engine.
//
// SQLite needs nothing. PostgreSQL needs a server, named by the environment
// variable HARMONY_ID_TEST_POSTGRES; the command in db/dbtest/withpg starts a
// private one and sets it:
//
//	go run ./db/dbtest/withpg -- go test ./...
//
// New and URL migrate once in a process and copy the result after that. They
// may be called inside a testing/synctest bubble and outside one; a DB must be
// used where it was made. Nothing that they start outlives the call, except
// what belongs to the DB that New returns and that it closes when the test ends.
package dbtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/harmony/id/db"
	"github.com/harmony/id/migrations"
)

// Engines are the engines that the product runs on.
var Engines = []string{"sqlite", "postgres"}

// Each runs fn as a subtest for each engine.
func Each(t *testing.T, fn func(t *testing.T, engine string)) {
	for _, engine := range Engines {
		t.Run(engine, func(t *testing.T) { fn(t, engine) })
	}
}

// EachDB runs fn as a subtest for each engine, with a fresh, migrated database.
func EachDB(t *testing.T, fn func(t *testing.T, d *db.DB), opts ...db.Option) {
	Each(t, func(t *testing.T, engine string) { fn(t, New(t, engine, opts...)) })
}

// New opens a fresh, migrated database and closes it when the test ends.
func New(t testing.TB, engine string, opts ...db.Option) *db.DB {
	t.Helper()
	d, err := db.Open(context.Background(), URL(t, engine), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// URL makes a fresh, migrated database and says where it is. The database goes
// when the test ends.
func URL(t testing.TB, engine string) string {
	t.Helper()
	create, drop := sqliteURL, func(string) error { return nil }
	if engine == "postgres" {
		create, drop = postgresURL, dropPostgres
	}
	url, err := create(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(url); err != nil {
			t.Error(err)
		}
	})
	return url
}

// Empty makes a fresh database without a schema and says where it is. The
// database goes when the test ends.
func Empty(t testing.TB, engine string) string {
	t.Helper()
	if engine == "sqlite" {
		return "sqlite:" + filepath.Join(t.TempDir(), "empty.db")
	}
	server, err := postgresServer()
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if err := createPostgres(server, name, "template0"); err != nil {
		t.Fatal(err)
	}
	url := withDatabase(server, name)
	t.Cleanup(func() {
		if err := dropPostgres(url); err != nil {
			t.Error(err)
		}
	})
	return url
}

// sqliteTemplate is a migrated SQLite file.
var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "harmony-id-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "template.db")
	if err := migrate("sqlite:" + file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})

func sqliteURL(t testing.TB) (string, error) {
	template, err := sqliteTemplate()
	if err != nil {
		return "", err
	}
	file := filepath.Join(t.TempDir(), "test.db")
	return "sqlite:" + file, os.WriteFile(file, template, 0o600)
}

func migrate(url string) error {
	d, err := db.Open(context.Background(), url)
	if err != nil {
		return err
	}
	_, err = d.Migrate(context.Background())
	return errors.Join(err, d.Close())
}

func postgresServer() (string, error) {
	server := os.Getenv("HARMONY_ID_TEST_POSTGRES")
	if server == "" {
		return "", errors.New("HARMONY_ID_TEST_POSTGRES names no server: run the tests with \"go run ./db/dbtest/withpg -- go test\"")
	}
	return server, nil
}

// postgresTemplate names a migrated database on the server, which all the test
// programs that run there share.
var postgresTemplate = sync.OnceValues(func() (name string, err error) {
	server, err := postgresServer()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return "", err
	}
	for _, file := range names {
		text, err := fs.ReadFile(migrations.FS, file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d %s", file, len(text), text)
	}
	name = "template_" + hex.EncodeToString(sum.Sum(nil)[:8])
	err = onServer(server, func(ctx context.Context, c *sql.Conn) error {
		// The other test programs wait here, and go with the connection.
		if _, err := c.ExecContext(ctx, `SELECT pg_advisory_lock(4711)`); err != nil {
			return err
		}
		var there bool
		err := c.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, name).Scan(&there)
		if err != nil || there {
			return err
		}
		// Under another name until it is complete.
		if _, err := c.ExecContext(ctx, `DROP DATABASE IF EXISTS `+name+`_new WITH (FORCE)`); err != nil {
			return err
		}
		if _, err := c.ExecContext(ctx, `CREATE DATABASE `+name+`_new TEMPLATE template0`); err != nil {
			return err
		}
		if err := migrate(withDatabase(server, name+"_new")); err != nil {
			return err
		}
		_, err = c.ExecContext(ctx, `ALTER DATABASE `+name+`_new RENAME TO `+name)
		return err
	})
	return name, err
})

func postgresURL(testing.TB) (string, error) {
	template, err := postgresTemplate()
	if err != nil {
		return "", err
	}
	server, err := postgresServer()
	if err != nil {
		return "", err
	}
	name := "test_" + strings.ToLower(rand.Text())
	return withDatabase(server, name), createPostgres(server, name, template)
}

func createPostgres(server, name, template string) error {
	return onServer(server, func(ctx context.Context, c *sql.Conn) error {
		_, err := c.ExecContext(ctx, `CREATE DATABASE `+name+` TEMPLATE `+template)
		return err
	})
}

func dropPostgres(database string) error {
	u, err := url.Parse(database)
	if err != nil {
		return err
	}
	server, err := postgresServer()
	if err != nil {
		return err
	}
	return onServer(server, func(ctx context.Context, c *sql.Conn) error {
		_, err := c.ExecContext(ctx, `DROP DATABASE IF EXISTS `+strings.TrimPrefix(u.Path, "/")+` WITH (FORCE)`)
		return err
	})
}

// onServer runs fn with a connection that it opens and closes.
func onServer(server string, fn func(context.Context, *sql.Conn) error) error {
	ctx := context.Background()
	pool, err := sql.Open("pgx", server) // registered by package db
	if err != nil {
		return err
	}
	defer pool.Close()
	c, err := pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("the server of HARMONY_ID_TEST_POSTGRES: %w", err)
	}
	defer c.Close()
	return fn(ctx, c)
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	u.Path = "/" + name
	return u.String()
}
