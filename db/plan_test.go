package db_test

import (
	"fmt"
	"testing"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

// A plan has every statement of the steps that are pending, and who waits for it.
func TestPlan(t *testing.T) {
	one := []string{"0001_one.sql", "CREATE TABLE a (id TEXT PRIMARY KEY);"}
	two := []string{"0002_two.sql", `-- It's a comment; with a semicolon.
CREATE TABLE b (id TEXT PRIMARY KEY, a_id TEXT REFERENCES a (id)); -- another
CREATE INDEX b_a ON b (a_id);
CREATE UNIQUE INDEX a_id ON a (id) WHERE id <> ';';
ALTER TABLE a ADD COLUMN n BIGINT NOT NULL DEFAULT 0;
ALTER TABLE a ADD COLUMN s TEXT;
ALTER TABLE a ADD COLUMN at TEXT DEFAULT (lower('X'));
UPDATE a SET s = 'it''s; so';
DROP INDEX b_a;
INSERT INTO b SELECT id, id FROM a;
SELECT 1`}
	want := map[string][]string{
		"sqlite":   {"b none", "b none", "a writes", "a moment", "a moment", "a all", "a writes", " moment", "b none", " all"},
		"postgres": {"b moment", "b none", "a writes", "a moment", "a moment", "a all", "a rows", " moment", "b none", " all"},
	}
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := connect(t, dbtest.Empty(t, engine))
		d.SetMigrations(schema(one...))
		if _, err := d.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		d.SetMigrations(schema(append(one, two...)...))
		steps, err := d.Migrations(ctx)
		if err != nil {
			t.Fatal(err)
		}
		plans := d.PlanMigrations(steps)
		if len(plans) != 1 || plans[0].Name != "0002_two" {
			t.Fatalf("%+v", plans)
		}
		var got []string
		for _, s := range plans[0].Statements {
			got = append(got, s.Table+" "+string(s.Lock))
		}
		if fmt.Sprint(got) != fmt.Sprint(want[engine]) {
			t.Errorf("got  %q\nwant %q", got, want[engine])
		}
		if s := plans[0].Statements[6].SQL; s != `UPDATE a SET s = 'it''s; so'` {
			t.Errorf("a statement: %q", s)
		}
	})
}

// No step of the product stops everybody who uses a table for as long as it is large.
func TestPlanOfTheProduct(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, engine string) {
		d := connect(t, dbtest.Empty(t, engine))
		steps, err := d.Migrations(ctx)
		if err != nil {
			t.Fatal(err)
		}
		plans := d.PlanMigrations(steps)
		if len(plans) != len(steps) {
			t.Errorf("%d of %d steps are planned", len(plans), len(steps))
		}
		for _, p := range plans {
			if len(p.Statements) == 0 {
				t.Errorf("%s has no statement", p.Name)
			}
			for _, s := range p.Statements {
				if s.Lock == db.LockAll {
					t.Errorf("%s: who waits for %q?", p.Name, s.SQL)
				}
			}
		}
	})
}
