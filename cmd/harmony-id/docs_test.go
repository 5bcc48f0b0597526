package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write docs/commands.md and the programs in docs/workspaces.md anew")

func model(t *testing.T) *kong.Application {
	t.Helper()
	var c commands
	s := newSources(nil)
	k, err := kong.New(&c, kong.Name("harmony-id"), kong.Resolvers(s), kong.Bind(s, &program{}))
	if err != nil {
		t.Fatal(err)
	}
	s.know(k.Model)
	return k.Model
}

func commandPaths(t *testing.T) (paths [][]string) {
	for _, leaf := range model(t).Leaves(true) {
		var path []string
		for n := leaf; n.Type == kong.CommandNode; n = n.Parent {
			path = append(path, n.Name)
		}
		slices.Reverse(path)
		paths = append(paths, path)
	}
	return paths
}

// results says what the commands of a noun print.
var results = []struct {
	title, commands string
	like            any
}{
	{"A person", "`user create`, `disable`, `enable` and `delete` print one, `user list` an array of them in the order of their addresses.", userResult{}},
	{"A person with what decides about sign-in", "`user show`, `reset-2fa`, `unthrottle`, `link-google` and `unlink-google` print one: a person with these fields besides.", userDetail{}},
	{"Two-factor authentication", "`two_factor` of a person.", twoFactorResult{}},
	{"A passkey", "`passkeys` of a person is an array of them, the oldest first.", passkeyResult{}},
	{"A limit that refuses", "`refused` of a person is an array of them.", refusalResult{}},
	{"A link that sets a password", "`user invite` and `user reset-link` print one.", linkResult{}},
	{"A session", "`user sessions list` prints an array of them, the last used first.", sessionResult{}},
	{"Sessions that were ended", "`user sessions end` prints it.", sessionsEnded{}},
	{"An import of people", "`user import` prints it.", importResult{}},
	{"What is wrong with a line", "`errors` of an import is an array of them.", importError{}},
	{"A workspace", "`client create`, `show`, `update`, `delete` and `rotate-secret` print one, `client list` an array of them. The names are those of OpenID Connect client registration (RFC 7591).", clientResult{}},
	{"What is done to a workspace", "`client apply` prints an array of them.", stepResult{}},
	{"A field that changes", "`differences` of what is done to a workspace is an array of them.", differenceResult{}},
	{"A signing key", "`keys list` and `keys rotate` print an array of all.", keyResult{}},
	{"A step of the schema", "`migrate status` prints an array of all, `migrate up` of those that it took.", migrationResult{}},
	{"Values that an encryption key sealed", "`secrets check` and `secrets rewrap` print an array of them.", sealedResult{}},
	{"A message that was not delivered yet", "`outbox list` prints an array of them, mails first.", waitingResult{}},
	{"What is tried again", "`outbox retry` prints it.", retryResult{}},
	{"An event", "`audit list` prints an array of them, `audit export` one a line.", eventResult{}},
	{"A backup", "`backup verify` prints one.", backupResult{}},
	{"A restore", "`restore` prints it.", restoreResult{}},
	{"A step of the schema that is pending", "`migrate plan` prints an array of them.", planResult{}},
	{"A statement of a step", "`statements` of a step that is pending is an array of them.", statementResult{}},
	{"What a check found", "`doctor` and `config check` print an array of them.", checkResult{}},
	{"A setting", "`config print` prints an array of all.", configResult{}},
	{"A mail that was sent", "`mail test` prints one.", mailTestResult{}},
	{"The version", "`version` prints it.", versionResult{}},
}

// TestCommandsPage compares docs/commands.md with the program that it is about.
func TestCommandsPage(t *testing.T) {
	var b strings.Builder
	app := model(t)
	b.WriteString(`# Commands and settings

This page is made from the program: ` + "`go test ./cmd/harmony-id -run TestCommandsPage -update`" + ` writes it anew, and a test compares.

Results go to stdout, the log and everything else to stderr. With ` + "`-o json`" + ` a result is JSON whose field names stay; new ones may be added.
Times are RFC 3339 in UTC. Secrets are never arguments: they come from standard input, from a file or from the environment.

| Exit code | Means |
|---|---|
| 0 | done |
| 1 | something failed; the same command may work later |
| 2 | the command line or the settings are wrong |
| 3 | there is no such person, session or workspace |
| 4 | refused by a rule (a weak password, an address that is taken, two-factor authentication that is off already, a redirect URI that cannot be safe); the same command will be refused again |
| 5 | the database's schema and the program do not fit: ` + "`harmony-id migrate up`" + `, or the newer program |

Commands that cannot be undone ask first; where nobody can answer they need ` + "`--yes`" + `.
On SQLite, ` + "`user create`, `user invite`, `user import`, `client create`, `migrate up`, `restore` and `serve`" + ` make a database that is not there yet; the others say that there is none.

## Commands

`)
	settings := map[string]*kong.Flag{}
	var order []string
	for _, leaf := range app.Leaves(true) {
		for _, group := range leaf.AllFlags(true) {
			for _, f := range group {
				if !f.Tag.Has("setting") {
					continue
				}
				if settings[f.Name] == nil {
					settings[f.Name] = f
					order = append(order, f.Name)
				}
			}
		}
	}
	for _, leaf := range app.Leaves(true) {
		fmt.Fprintf(&b, "### `harmony-id %s`\n\n%s\n\n", leaf.Path(), leaf.Help)
		note, sample, _ := strings.Cut(leaf.Detail, "Example:\n\n")
		if note = strings.TrimSpace(note); note != "" {
			fmt.Fprintf(&b, "%s\n\n", note)
		}
		fmt.Fprintf(&b, "```\n%s\n```\n\n", strings.TrimSpace(sample))
		var rows []string
		for _, a := range leaf.Positional {
			rows = append(rows, fmt.Sprintf("| `%s` | %s |", cell(a.Tag.PlaceHolder), cell(a.Help)))
		}
		var own []string
		for _, f := range leaf.Flags {
			if f.Tag.Has("setting") {
				own = append(own, "`"+f.Name+"`")
				continue
			}
			spelt := f.String()
			if f.Name == "require-pkce" {
				spelt = "--require-pkce=false"
			}
			help := f.Help
			if f.Required {
				help += " Required."
			}
			rows = append(rows, fmt.Sprintf("| `%s` | %s |", cell(spelt), cell(help)))
		}
		if len(rows) > 0 {
			fmt.Fprintf(&b, "| Argument | |\n|---|---|\n%s\n\n", strings.Join(rows, "\n"))
		}
		if len(own) > 0 {
			fmt.Fprintf(&b, "Settings: %s.\n\n", strings.Join(own, ", "))
		}
	}

	b.WriteString("## Results in JSON\n\n")
	for _, r := range results {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n| Field | Type | |\n|---|---|---|\n", r.title, r.commands)
		for _, f := range resultFields(r.like) {
			if f.inherited {
				continue
			}
			if f.help == "" {
				t.Errorf("%s.%s has no help", r.title, f.name)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.name, f.kind, cell(f.help))
		}
		b.WriteString("\n")
	}

	b.WriteString(`## Settings

Each has three spellings: ` + "`--http-addr`" + ` on the command line, ` + "`HARMONY_ID_HTTP_ADDR`" + ` in the environment, and ` + "`http-addr = :8080`" + ` as a line
of the file that ` + "`--config`" + ` or ` + "`HARMONY_ID_CONFIG`" + ` names. The command line counts before the environment, the environment before the file, the file before
the default. In the file, blank lines and lines that begin with ` + "`#`" + ` are passed over, and a value may stand in quotation marks. An empty variable is as good
as none. A variable ` + "`HARMONY_ID_…`" + ` or a key that does not exist stops the program, with the one that was probably meant. A secret may come from a file
in place of its variable (` + "`HARMONY_ID_DATABASE_URL_FILE`" + `); that both are set is an error, and so is a file of secrets that every user can read.
` + "`dev`" + ` has defaults of its own for some: it says so in ` + "`harmony-id dev --help`" + `.

| Environment | Default | |
|---|---|---|
`)
	serve := app.Leaves(true)
	i := slices.IndexFunc(serve, func(n *kong.Node) bool { return n.Path() == "serve" })
	for _, f := range serve[i].Flags { // serve's defaults are the real ones
		settings[f.Name] = f
	}
	for _, key := range order {
		f := settings[key]
		standard := "–"
		if f.HasDefault {
			standard = "`" + f.Default + "`"
		}
		if strings.HasSuffix(f.Help, "Required.") {
			standard = "required"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", variable(key), standard, cell(strings.TrimSuffix(f.Help, " Required.")))
	}

	file := filepath.Join("..", "..", "docs", "commands.md")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not about this program any more: go test ./cmd/harmony-id -run TestCommandsPage -update", file)
	}
}

// TestWorkspacesPage compares the programs in docs/workspaces.md with those that the
// tests run, and the commands that register them.
func TestWorkspacesPage(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "workspaces.md")
	text := string(must(os.ReadFile(page))(t))
	shown := map[string]bool{}
	made := regexp.MustCompile("(?ms)^<!-- workspace: (\\S+) -->\n(```[a-z]+\n)(.*?)^```$").ReplaceAllStringFunc(text, func(block string) string {
		m := regexp.MustCompile("(?s)^<!-- workspace: (\\S+) -->\n(```[a-z]+\n)").FindStringSubmatch(block)
		shown[m[1]] = true
		return m[0] + string(must(os.ReadFile(filepath.Join(npmDir, m[1])))(t)) + "```"
	})
	files, err := filepath.Glob(filepath.Join(npmDir, "workspace.*"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range append(files, filepath.Join(npmDir, "go", "main.go")) {
		if name := must(filepath.Rel(npmDir, file))(t); !shown[filepath.ToSlash(name)] {
			t.Errorf("%s does not show %s", page, name)
		}
	}
	for _, s := range append(workspaces, browserWorkspace) {
		said := strings.Join(s.registering, " ")
		if strings.Contains(said, "?") { // as a shell wants it
			said = strings.Replace(said, "APP", "'APP", 1) + "'"
		}
		if said = strings.Replace(said, "APP", "https://acme.example.com", 1); !strings.Contains(text, said) {
			t.Errorf("%s does not say that %s is registered with %s", page, s.name, said)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if made != text {
		t.Errorf("%s does not show the programs that are run: go test ./cmd/harmony-id -run TestWorkspacesPage -update", page)
	}
}

// pages are what people read of settings, commands and metrics besides docs/commands.md.
var pages = []string{
	"README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/operations.md", "docs/backup.md", "docs/workspaces.md", "docs/protocol.md", "docs/conformance.md",
	"deploy/Dockerfile", "deploy/compose.yaml", "deploy/harmony-id.service", "deploy/alerts.yaml", "deploy/haproxy.cfg",
}

var (
	saidVariable = regexp.MustCompile(`HARMONY_ID_[A-Z_]*[A-Z]`)
	saidMetric   = regexp.MustCompile(`harmony_id_[a-z_]*[a-z]`)
	saidCommand  = regexp.MustCompile(`(?:^|[^\w/.-]|\./)harmony-id ([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*)`)
	saidFlag     = regexp.MustCompile(`(?:^|[ \x60(])(--[a-z][a-z0-9-]+)`)
	saidLink     = regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)\s]*)?\)`)
	programs     = regexp.MustCompile("(?ms)^```.*?^```$")
	heading      = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// What these pages say of commands, flags, settings and metrics is true, and their links
// lead somewhere.
func TestPages(t *testing.T) {
	app, known := model(t), map[string]bool{}
	for _, leaf := range app.Leaves(true) {
		for n := leaf; n.Type == kong.CommandNode; n = n.Parent {
			known[n.Path()] = true
		}
		for _, f := range slices.Concat(leaf.AllFlags(false)...) {
			known["--"+f.Name] = true
			if f.Tag.Has("setting") {
				known[variable(f.Name)] = true
			}
		}
	}
	metrics := scrapeOfAll(t)
	read := func(page string) string { return string(must(os.ReadFile(filepath.Join(repository, page)))(t)) }
	for _, page := range pages {
		text := read(page)
		for _, said := range saidVariable.FindAllString(text, -1) {
			if !known[said] {
				t.Errorf("%s says %s, which does not exist", page, said)
			}
		}
		for _, said := range saidMetric.FindAllString(text, -1) {
			if !metrics.has(said, "", "") && !metrics.has(said+"_count", "", "") {
				t.Errorf("%s says %s, which does not exist", page, said)
			}
		}
		for line := range strings.Lines(text) {
			commands := saidCommand.FindAllStringSubmatch(line, -1)
			for _, said := range commands {
				words := strings.Fields(said[1])
				if !known[words[0]] || hasSubcommands(app, words[0]) && len(words) > 1 && !known[words[0]+" "+words[1]] {
					t.Errorf("%s says harmony-id %s, which does not exist", page, said[1])
				}
			}
			if len(commands) == 0 && !strings.HasSuffix(page, ".md") {
				continue // another program's
			}
			for _, said := range saidFlag.FindAllStringSubmatch(line, -1) {
				if !known[said[1]] {
					t.Errorf("%s says %s, which does not exist", page, said[1])
				}
			}
		}
		if !strings.HasSuffix(page, ".md") {
			continue
		}
		for _, link := range saidLink.FindAllStringSubmatch(programs.ReplaceAllString(text, ""), -1) {
			to := page
			if link[1] != "" {
				to = filepath.Join(filepath.Dir(page), link[1])
			}
			if _, err := os.Stat(filepath.Join(repository, to)); err != nil {
				t.Errorf("%s leads to %s: %v", page, link[1], err)
			} else if link[2] != "" && !slices.Contains(anchors(read(to)), link[2]) {
				t.Errorf("%s leads to %s of %s, which has %q", page, link[2], to, anchors(read(to)))
			}
		}
	}
}

func hasSubcommands(app *kong.Application, name string) bool {
	return slices.ContainsFunc(app.Children, func(n *kong.Node) bool { return n.Name == name && len(n.Children) > 0 })
}

// anchors are where a link may lead to within a page, as they are made of headings.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		all = append(all, "#"+slug)
	}
	return all
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
