package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/harmony/id/account"
)

// outputFlag is the form of a command's result. The field names of the JSON are
// an interface: docs/commands.md lists them and a test compares.
type outputFlag struct {
	Output string `short:"o" enum:"table,json" default:"table" placeholder:"table|json" help:"Form of the result: table for people, json for programs."`
}

// confirmFlag is what a command has that cannot be undone.
type confirmFlag struct {
	Yes bool `help:"Do not ask. Needed where nobody can answer."`
}

// A stamp is a time in results: RFC 3339 in UTC, or null for "not yet".
type stamp time.Time

// MarshalJSON writes the time.
func (s stamp) MarshalJSON() ([]byte, error) {
	if time.Time(s).IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(s.String())
}

func (s stamp) String() string {
	if time.Time(s).IsZero() {
		return ""
	}
	return time.Time(s).UTC().Format(time.RFC3339)
}

// writeJSON writes a result for programs. Characters that a terminal or an eye
// would take for something else (escape codes of C1, text direction marks) are
// written as \uXXXX, which means the same.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, visible(b.String(), func(r rune) bool { return r != '\n' }))
	return err
}

// visible writes every character that cannot be seen and that hide agrees to as
// \uXXXX.
func visible(s string, hide func(rune) bool) string {
	if !strings.ContainsFunc(s, invisible) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !invisible(r) || !hide(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := surrogates(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func surrogates(r rune) (hi, lo rune) {
	r -= 0x10000
	return 0xd800 + r>>10, 0xdc00 + r&0x3ff
}

func invisible(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// writeTable writes rows under a header, in columns.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			row[i] = visible(cell, func(rune) bool { return true })
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// writeFacts writes one thing, a fact a line; empty facts are left out.
func writeFacts(w io.Writer, facts [][2]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", f[0], visible(f[1], func(rune) bool { return true }))
		}
	}
	return t.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// confirm asks before something that cannot be undone. Where nobody can answer
// it refuses and says what to write.
func (p *program) confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	if !terminal(p.stdin) {
		return usagef("%s cannot be undone: write --yes if you mean it", what)
	}
	fmt.Fprintf(p.stderr, "%s cannot be undone. Go on? [y/N] ", what)
	answer, err := bufio.NewReader(io.LimitReader(p.stdin, 64)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return &exit{exitRefused, errors.New("not done")}
	}
	return nil
}

// terminal reports whether somebody sits at the other end.
func terminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

// maxSecret bounds a secret on standard input.
const maxSecret = 4096

// secretLine reads the one line of standard input that holds a secret: a line
// end at its end does not belong to it, anything else does.
func (p *program) secretLine(flag string) (string, error) {
	if terminal(p.stdin) {
		fmt.Fprintf(p.stderr, "Reading one line for %s. It will show on the screen.\n", flag)
		line, err := bufio.NewReader(io.LimitReader(p.stdin, maxSecret)).ReadString('\n')
		if err != nil {
			return "", usagef("%s: there was no line to read", flag)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	text, err := io.ReadAll(io.LimitReader(p.stdin, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	if len(text) > maxSecret {
		return "", usagef("%s: more than %d bytes came on standard input", flag, maxSecret)
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if line == "" {
		return "", usagef("%s: nothing came on standard input", flag)
	}
	if strings.ContainsAny(line, "\r\n") {
		return "", usagef("%s: more than one line came on standard input", flag)
	}
	return line, nil
}

// operator is who runs the command, for the record.
func operator() account.Actor {
	a := account.Actor{Kind: "operator"}
	if u, err := user.Current(); err == nil {
		a.Name = u.Username
	}
	return a
}

func (s stamp) zero() bool { return time.Time(s).IsZero() }
