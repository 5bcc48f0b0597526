// Package migrations is the schema: one SQL file per step, named
// NNNN_what.sql, the same text for SQLite and PostgreSQL. Package db applies
// them in order, each once and in a transaction of its own, and remembers a
// checksum: a file that has been released is never changed, another is added.
//
// A step only adds, so that replicas of the release before, which do not know it,
// go on beside it. What is taken away or changes its meaning is so in a step of a later
// release, called NNNN_what-needs-MMMM.sql: programs that do not know step MMMM refuse
// to work with it, and it is released only once MMMM is in a release of its own.
package migrations

import "embed"

//go:embed *.sql
var FS embed.FS
