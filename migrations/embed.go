// Package migrations is the schema: one SQL file per step, named
// NNNN_what.sql, the same text for SQLite and PostgreSQL. Package db applies
// them in order, each once and in a transaction of its own, and remembers a
// checksum: a file that has been released is never changed, another is added.
package migrations

import "embed"

//go:embed *.sql
var FS embed.FS
