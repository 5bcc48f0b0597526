package db_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/harmony/id/db"
	"github.com/harmony/id/db/dbtest"
)

var (
	makesTable  = regexp.MustCompile(`(?i)^CREATE TABLE (\w+)`)
	addsColumn  = regexp.MustCompile(`(?i)^ALTER TABLE (\w+) ADD COLUMN (\w+) (?:TEXT|BIGINT|BYTEA)(.*)$`)
	makesIndex  = regexp.MustCompile(`(?i)^CREATE (UNIQUE )?INDEX \w+ ON (\w+) \(([^)]*)\)`)
	changesRows = regexp.MustCompile(`(?is)^UPDATE (\w+) SET (\w+) = `)
)

// takes says what a step takes away from programs that do not know it; "" for nothing.
// They do not name the columns that it adds, and go on with the rest as it was.
func takes(statements []string) string {
	added := map[string]bool{} // tables, and columns as table.column
	for _, s := range statements {
		switch {
		case makesTable.MatchString(s):
			added[makesTable.FindStringSubmatch(s)[1]] = true
		case addsColumn.MatchString(s):
			m := addsColumn.FindStringSubmatch(s)
			if rest := strings.ToUpper(m[3]); strings.Contains(rest, "NOT NULL") && !strings.Contains(rest, "DEFAULT") ||
				strings.Contains(rest, "CHECK") || strings.Contains(rest, "UNIQUE") || strings.Contains(rest, "REFERENCES") {
				return s
			}
			added[m[1]+"."+m[2]] = true
		case makesIndex.MatchString(s):
			m := makesIndex.FindStringSubmatch(s)
			if m[1] == "" || added[m[2]] {
				continue
			}
			fresh := false // a unique index over a column that nobody else writes
			for column := range strings.SplitSeq(m[3], ",") {
				fresh = fresh || added[m[2]+"."+strings.TrimSpace(column)]
			}
			if !fresh {
				return s
			}
		case changesRows.MatchString(s):
			m := changesRows.FindStringSubmatch(s)
			if !added[m[1]] && !added[m[1]+"."+m[2]] {
				return s
			}
		default:
			return s
		}
	}
	return ""
}

// Every step of the product only adds, or says which programs can be beside it.
func TestStepsOnlyAdd(t *testing.T) {
	for _, c := range []struct {
		step string
		adds bool
	}{
		{`CREATE TABLE b (id TEXT); CREATE UNIQUE INDEX b_id ON b (id); UPDATE b SET id = 'x'`, true},
		{`ALTER TABLE a ADD COLUMN n BIGINT; CREATE UNIQUE INDEX a_n ON a (id, n); UPDATE a SET n = 1; CREATE INDEX a_m ON a (m)`, true},
		{`ALTER TABLE a ADD COLUMN n BIGINT NOT NULL DEFAULT 0`, true},
		{`ALTER TABLE a ADD COLUMN n BIGINT NOT NULL`, false},
		{`ALTER TABLE a ADD COLUMN n BIGINT CHECK (n > 0)`, false},
		{`ALTER TABLE a DROP COLUMN n`, false},
		{`ALTER TABLE a RENAME COLUMN n TO m`, false},
		{`ALTER TABLE a RENAME TO b`, false},
		{`ALTER TABLE a ALTER COLUMN n SET NOT NULL`, false},
		{`DROP TABLE a`, false},
		{`DROP INDEX a_n`, false},
		{`CREATE UNIQUE INDEX a_m ON a (m)`, false},
		{`UPDATE a SET m = 1`, false},
		{`DELETE FROM a`, false},
	} {
		if taken := takes(strings.Split(c.step, "; ")); (taken == "") != c.adds {
			t.Errorf("%s takes %q", c.step, taken)
		}
	}
	d := connect(t, dbtest.Empty(t, "sqlite"))
	steps, err := d.Migrations(ctx)
	if err != nil {
		t.Fatal(err)
	}
	plans := d.PlanMigrations(steps)
	if len(plans) == 0 {
		t.Fatal("no steps")
	}
	for _, p := range plans {
		if taken := takes(sqlOf(p)); taken != "" && !strings.Contains(p.Name, "-needs-") {
			t.Errorf("%s takes something from the programs before it: %s\nEither add, or call it %s-needs-NNNN, after the step of the first release that does without", p.Name, taken, p.Name)
		}
	}
}

func sqlOf(p db.Plan) (out []string) {
	for _, s := range p.Statements {
		out = append(out, strings.Join(strings.Fields(s.SQL), " "))
	}
	if len(out) == 0 {
		return []string{fmt.Sprintf("%s: nothing", p.Name)}
	}
	return out
}
