package db

import "io/fs"

// SetMigrations gives d another schema than the product's.
func (d *DB) SetMigrations(files fs.FS) { d.files = files }
