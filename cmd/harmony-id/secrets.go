package main

import "github.com/harmony/id/secret"

type secretsGenerate struct{}

// Help shows an example.
func (secretsGenerate) Help() string {
	return "Keep a copy of the file where the database's backups are not: without it they cannot be read.\n\n" +
		example(`(umask 077; harmony-id secrets generate > keys.txt); export HARMONY_ID_ENCRYPTION_KEYS_FILE=keys.txt`)
}

// Run prints a key file.
func (secretsGenerate) Run(p *program) error {
	_, err := p.stdout.Write(secret.GenerateKeyFile())
	return err
}
