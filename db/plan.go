package db

import (
	"regexp"
	"strings"
)

// A Lock says who waits for a statement of the schema, and for how long.
type Lock string

// The locks, the mildest first.
const (
	LockNone   Lock = "none"   // nobody waits
	LockMoment Lock = "moment" // whoever uses the table waits, for a moment, however large it is
	LockRows   Lock = "rows"   // whoever writes one of the rows waits, the longer the more rows there are
	LockWrites Lock = "writes" // whoever writes waits, the longer the larger the table is
	LockAll    Lock = "all"    // whoever uses the table waits, the longer the larger it is
)

// A Statement is one statement of a step of the schema.
type Statement struct {
	SQL   string
	Table string // which it is about; "" if that is not known
	Lock  Lock
}

// A Plan is what a step that is pending will do.
type Plan struct {
	Migration
	Statements []Statement
}

var (
	createTable = regexp.MustCompile(`(?is)^CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)`)
	createIndex = regexp.MustCompile(`(?is)^CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?\w+\s+ON\s+(\w+)`)
	dropIndex   = regexp.MustCompile(`(?is)^DROP\s+INDEX\s`)
	addColumn   = regexp.MustCompile(`(?is)^ALTER\s+TABLE\s+(\w+)\s+ADD\s+COLUMN\s+\w+\s+(?:TEXT|BIGINT|BYTEA)(?:\s+NOT\s+NULL)?(?:\s+DEFAULT\s+(?:'[^']*'|-?[0-9]+|NULL))?$`)
	alterTable  = regexp.MustCompile(`(?is)^ALTER\s+TABLE\s+(\w+)`)
	changeRows  = regexp.MustCompile(`(?is)^(?:UPDATE|DELETE\s+FROM|INSERT\s+INTO)\s+(\w+)`)
	dropTable   = regexp.MustCompile(`(?is)^DROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?(\w+)`)
)

// PlanMigrations says what Migrate would do. A step is one transaction: a lock is held
// from its statement to the end of the step. What a statement does that this program
// cannot judge counts as LockAll.
func (d *DB) PlanMigrations(steps []Migration) []Plan {
	var plans []Plan
	fresh := map[string]bool{} // tables that the plan makes: nobody uses them yet
	for _, m := range steps {
		if !m.AppliedAt.IsZero() {
			continue
		}
		p := Plan{Migration: m}
		for _, text := range splitStatements(m.text) {
			p.Statements = append(p.Statements, judge(text, d.engine == "sqlite", fresh))
		}
		plans = append(plans, p)
	}
	return plans
}

func judge(text string, sqlite bool, fresh map[string]bool) Statement {
	s := Statement{SQL: text, Lock: LockAll}
	is := func(re *regexp.Regexp) bool {
		m := re.FindStringSubmatch(text)
		if len(m) > 1 {
			s.Table = m[1]
		}
		return m != nil
	}
	switch {
	case is(createTable):
		fresh[s.Table] = true
		s.Lock = LockNone
		if !sqlite && strings.Contains(strings.ToUpper(text), "REFERENCES") {
			s.Lock = LockMoment // on the tables that it refers to
		}
	case is(dropIndex):
		s.Lock = LockMoment
	case is(dropTable), is(addColumn):
		s.Lock = LockMoment
	case is(createIndex):
		s.Lock = LockWrites
	case is(changeRows):
		s.Lock = LockRows
		if sqlite { // which has one writer
			s.Lock = LockWrites
		}
	default:
		is(alterTable)
	}
	if fresh[s.Table] && s.Lock != LockMoment {
		s.Lock = LockNone
	}
	return s
}

// splitStatements splits a step into its statements, without comments.
func splitStatements(text string) (out []string) {
	var b strings.Builder
	end := func() {
		if s := strings.TrimSpace(b.String()); s != "" {
			out = append(out, s)
		}
		b.Reset()
	}
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, "--"):
			_, rest, _ := strings.Cut(text, "\n")
			text = "\n" + rest
		case text[0] == '\'':
			n := strings.IndexByte(text[1:], '\'')
			if n < 0 {
				n = len(text) - 2
			}
			b.WriteString(text[:n+2])
			text = text[n+2:]
		case text[0] == ';':
			end()
			text = text[1:]
		default:
			b.WriteByte(text[0])
			text = text[1:]
		}
	}
	end()
	return out
}
