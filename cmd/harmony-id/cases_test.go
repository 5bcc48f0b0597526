package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Which test plays which attack. testdata/cases.tsv has the cases that a release
// may not be without: those of priority P0 and P1, with the outcome that is required.

// notPlayed are the cases that no test can play, and why.
var notPlayed = map[string]string{
	"LOGIN-19": "nobody signs up here: operators create people",
	"EM-03":    "an address cannot be changed here",
	"EM-08":    "an address cannot be changed here",
	"AD-02":    "there are no administrators' accounts: who can run the program beside the database administers, and AD-08 sees that it is recorded",
}

var (
	inName = regexp.MustCompile(`([A-Z]{2,5})(\d\d)`)
	inText = regexp.MustCompile(`\b([A-Z]{2,5})-(\d\d)\b`)
)

// played are the tests that play a case: they have its id in their name, in their
// comment, or in a comment or text within.
func played(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "node_modules") || filepath.Base(path) == "cases_test.go" {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(strings.ToLower(fn.Name.Name), "test") && !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			text := fn.Doc.Text()
			for _, c := range file.Comments {
				if fn.Pos() < c.Pos() && c.End() < fn.End() {
					text += " " + c.Text()
				}
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					text += " " + l.Value
				}
				return true
			})
			for _, m := range append(inName.FindAllStringSubmatch(fn.Name.Name, -1), inText.FindAllStringSubmatch(text, -1)...) {
				if id := m[1] + "-" + m[2]; !slices.Contains(out[id], fn.Name.Name) {
					out[id] = append(out[id], fn.Name.Name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCasesPage sees that every case has its test, and keeps the page about them;
// -update writes it anew.
func TestCasesPage(t *testing.T) {
	tests := played(t)
	var page strings.Builder
	page.WriteString(`# Attacks, and the tests that play them

This page is made from the tests: ` + "`go test ./cmd/harmony-id -run TestCasesPage -update`" + ` writes it anew, and fails when a case has no test. P0 is what would
hand over an account, a factor, a token or a secret; P1 is defence in depth, availability and privacy.

A is the attacker, V a person with a password, V2 one with two-factor authentication, VG one who signs in with Google, VK one with a passkey; jarA and jarV are
their browsers, R1 and R2 replicas over one database. Words in capitals are requests: LOGIN, OTP and BACKUP the steps of signing in (SIGNIN all of them), AUTHZ an
authorization request, RESUME its continuation, TOKEN, REFRESH, UI (userinfo), REVOKE, INTROSPECT and END the endpoints, RESETREQ, RESETGET and RESETSET a forgotten
password, CHPW its change, MFA-… two-factor authentication, KEY-… passkeys, SESS-… the Sessions tab, GOOGLE a sign-in at Google, PAR(n) n of them at once on both
replicas, KILL the end of a process, DUMP, LOGS and MAILS what is stored, logged and sent.
`)
	text, err := os.ReadFile("testdata/cases.tsv")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cell := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cell) != 4 {
			t.Fatalf("cases.tsv: %q", line)
		}
		if cell[0] == "#" {
			fmt.Fprintf(&page, "\n## %s: %s\n\n| | | Attack | Has to be | Test |\n|---|---|---|---|---|\n", cell[1], cell[2])
			continue
		}
		id := cell[0]
		known[id] = true
		by := "not played: " + notPlayed[id]
		switch {
		case len(tests[id]) > 0 && notPlayed[id] != "":
			t.Errorf("%s is said not to be played, but is by %q", id, tests[id])
		case len(tests[id]) > 0:
			by = "`" + strings.Join(tests[id], "`, `") + "`"
		case notPlayed[id] == "":
			t.Errorf("no test plays %s: %s; has to be: %s", id, cell[2], cell[3])
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n", id, cell[1], cell[2], cell[3], by)
	}
	for id := range notPlayed {
		if !known[id] {
			t.Errorf("%s is no case", id)
		}
	}
	const file = "../../docs/security-cases.md"
	if *update {
		write(t, file, page.String())
	}
	if was, err := os.ReadFile(file); err != nil || string(was) != page.String() {
		t.Errorf("%s is not about these tests any more: go test ./cmd/harmony-id -run TestCasesPage -update", file)
	}
}
