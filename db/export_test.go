package db

import "io/fs"

// SetMigrations gives d another schema than the product's.
func (d *DB) SetMigrations(files fs.FS) { d.files = files }

// ShortPatience has SQLite's writer give up a lock that another process holds after
// this many looks for it.
func ShortPatience(tries int) (restore func()) {
	before := lockTries
	lockTries = tries
	return func() { lockTries = before }
}
