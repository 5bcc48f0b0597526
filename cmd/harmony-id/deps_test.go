package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/harmony/id/"

// A room is what a package of the house may import: ours, modules from outside,
// and those packages of the standard library that not every room may have.
type room struct {
	ours    []string
	outside []string
	std     []string
}

// rooms is the import table of the house. A package that is not in it has no
// place in the house yet: give it a line.
var rooms = map[string]room{
	"secret":     {outside: []string{"golang.org/x/crypto/chacha20poly1305"}, std: []string{"crypto/hkdf"}},
	"migrations": {},
	"db":         {ours: []string{"migrations"}, outside: []string{"modernc.org/sqlite", "github.com/jackc/pgx/v5"}},
	"backup":     {ours: []string{"secret", "db"}, outside: []string{"filippo.io/age"}},
	"rewrap":     {ours: []string{"secret", "db"}},
	"templates":  {std: []string{"html/template"}},
	"web":        {ours: []string{"templates"}, std: []string{"net/http"}},
	"account": {
		ours:    []string{"secret", "db"},
		outside: []string{"golang.org/x/crypto/argon2", "golang.org/x/crypto/bcrypt", "golang.org/x/text/unicode/norm", "github.com/pquerna/otp", "github.com/go-webauthn/webauthn"},
	},
	"device":  {outside: []string{"github.com/mileusna/useragent", "github.com/oschwald/maxminddb-golang/v2", "golang.org/x/text/language"}},
	"mail":    {ours: []string{"account", "device", "templates"}, outside: []string{"github.com/wneessen/go-mail"}},
	"session": {ours: []string{"account", "web"}, std: []string{"net/http"}},
	"login": {
		ours:    []string{"account", "session", "web", "templates"},
		outside: []string{"github.com/gorilla/mux", "github.com/coreos/go-oidc/v3", "golang.org/x/oauth2"}, // Google
		std:     []string{"net/http"},
	},
	"security": {
		ours:    []string{"account", "device", "session", "web", "templates"},
		outside: []string{"github.com/gorilla/mux", "github.com/boombuler/barcode"},
		std:     []string{"net/http"},
	},
	"idp": {
		ours:    []string{"account", "session", "secret", "db", "web", "templates"},
		outside: []string{"github.com/zitadel/oidc/v3", "github.com/go-jose/go-jose/v4", "github.com/gorilla/mux"},
		std:     []string{"net/http"},
	},
	"cmd/harmony-id": {
		ours: []string{"account", "backup", "db", "device", "idp", "login", "mail", "migrations", "rewrap", "secret", "security", "session", "templates", "web"},
		outside: []string{
			"filippo.io/age", "github.com/alecthomas/kong", "github.com/gorilla/mux", "github.com/prometheus/client_golang", "go.yaml.in/yaml/v3",
			"github.com/coreos/go-oidc/v3", "golang.org/x/oauth2", // the demo workspaces
		},
		std: []string{"net/http"},
	},

	// A program of its own, which knows nothing of the house.
	"conformance": {
		outside: []string{"github.com/chromedp/chromedp", "github.com/chromedp/cdproto", "github.com/go-jose/go-jose/v4", "golang.org/x/text/language"},
		std:     []string{"net/http"},
	},

	// Only tests import these.
	"db/dbtest":          {ours: []string{"db", "migrations"}},
	"db/dbtest/postgres": {},
	"db/dbtest/withpg":   {ours: []string{"db/dbtest/postgres"}},
	"db/dbtest/endure":   {ours: []string{"db/dbtest/postgres"}},
	"db/dbtest/crowd":    {ours: []string{"account", "db", "idp", "secret"}, outside: []string{"github.com/jackc/pgx/v5", "github.com/pquerna/otp"}},
	"db/dbtest/fill":     {ours: []string{"db/dbtest/crowd", "secret"}},
}

// guarded are the packages of the standard library that a room has only if the
// table says so. The account of a person knows nothing of HTTP.
var guarded = []string{"net/http", "html/template", "crypto/hkdf", "database/sql/driver"}

// drivers are db's alone, in tests as well.
var drivers = []string{"modernc.org/sqlite", "github.com/jackc/pgx"}

type goPackage struct {
	ImportPath, Dir                    string
	Standard                           bool
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, e.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < len(rooms)-2 {
		t.Fatalf("go list knows %d packages, the table has %d", len(all), len(rooms))
	}
	return all
}

func within(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		r, ok := rooms[name]
		if !ok {
			t.Errorf("%s has no line in the table of the house", name)
			continue
		}
		for _, i := range p.Imports {
			ours, isOurs := strings.CutPrefix(i, module)
			switch {
			case isOurs:
				if !slices.Contains(r.ours, ours) {
					t.Errorf("%s imports our %s, which it may not", name, ours)
				}
			case standard(i):
				if slices.Contains(guarded, i) && !slices.Contains(r.std, i) && !strings.HasPrefix(name, "db") {
					t.Errorf("%s imports %s, which it may not", name, i)
				}
			case !within(i, r.outside):
				t.Errorf("%s imports %s, which it may not", name, i)
			}
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			if within(i, drivers) && name != "db" && name != "db/dbtest" {
				t.Errorf("the tests of %s import the driver %s; dbtest gives them a database", name, i)
			}
		}
	}
}

// TestSiblings is the rule that the table above must keep: no page's package
// imports another's.
func TestSiblings(t *testing.T) {
	siblings := []string{"idp", "login", "security"}
	for _, a := range siblings {
		for _, b := range siblings {
			if slices.Contains(rooms[a].ours, b) {
				t.Errorf("%s and %s are siblings: the seam between them is a URL", a, b)
			}
		}
	}
}

// A rule forbids words of the source outside of the rooms that they belong to.
type rule struct {
	what  string
	calls *regexp.Regexp // a package's name and a function's: http.Error
	text  *regexp.Regexp // what no string may say
	only  []string       // where: a package, or a file
}

var rules = []rule{
	{
		what:  "the environment is the command line's",
		calls: regexp.MustCompile(`^(os\.(Getenv|LookupEnv|Environ|ExpandEnv)|syscall\.(Getenv|Environ))$`),
		only:  []string{"cmd/harmony-id/main.go", "db/dbtest"},
	},
	{
		what:  "error pages are web's: return a *web.Error",
		calls: regexp.MustCompile(`^http\.(Error|NotFound|NotFoundHandler)$`),
		only:  []string{"web"},
	},
	{
		what:  "pages are written by web.Show",
		calls: regexp.MustCompile(`^templates\.(Render|Message)$`),
		only:  []string{"web"},
	},
	{
		what: "rows about a person are written by account alone",
		text: regexp.MustCompile(`(?is)\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(users|totp|enrollments|backup_codes|passkeys|resets|logins|sessions|throttles|events)\b`),
		only: []string{"account", "db/dbtest/crowd"},
	},
	{
		what: "rows of the protocol are written by idp alone",
		text: regexp.MustCompile(`(?is)\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(clients|auth_requests|grants|signing_keys|settings)\b`),
		only: []string{"idp"},
	},
	{
		what:  "only main ends the program",
		calls: regexp.MustCompile(`^(os\.Exit|log\.Fatal.*)$`),
		only:  []string{"cmd/harmony-id/main.go", "conformance/main.go", "db/dbtest"},
	},
}

func (r rule) allows(file string) bool {
	return slices.ContainsFunc(r.only, func(o string) bool { return file == o || strings.HasPrefix(file, o+"/") })
}

// breaches are the places in one file where a rule does not hold.
func (r rule) breaches(files *token.FileSet, f *ast.File) (at []token.Position) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && r.calls != nil && r.calls.MatchString(x.Name+"."+n.Sel.Name) {
				at = append(at, files.Position(n.Pos()))
			}
		case *ast.BasicLit:
			if n.Kind != token.STRING || r.text == nil {
				return true
			}
			if s, err := strconv.Unquote(n.Value); err == nil && r.text.MatchString(s) {
				at = append(at, files.Position(n.Pos()))
			}
		}
		return true
	})
	return at
}

func TestSource(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, file := range p.GoFiles {
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rules {
				if r.allows(name + "/" + file) {
					continue
				}
				for _, at := range r.breaches(files, f) {
					t.Errorf("%s/%s:%d: %s", name, file, at.Line, r.what)
				}
			}
		}
	}
}

// TestRules shows that each rule finds what it forbids.
func TestRules(t *testing.T) {
	for _, c := range []struct{ rule, source string }{
		{"the environment is the command line's", `var x = os.Getenv("X")`},
		{"the environment is the command line's", `var look = os.LookupEnv`},
		{"error pages are web's: return a *web.Error", `func f(w http.ResponseWriter) { http.Error(w, "", 500) }`},
		{"pages are written by web.Show", `var p = templates.Message{Status: 404}`},
		{"rows about a person are written by account alone", "var q = `UPDATE\n sessions SET ended_at = 1`"},
		{"rows of the protocol are written by idp alone", `var q = "DELETE FROM grants WHERE id = $1"`},
		{"only main ends the program", `func f() { os.Exit(1) }`},
	} {
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, "x.go", "package x\n"+c.source, 0)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return r.what == c.rule })
		if i < 0 || len(rules[i].breaches(files, f)) != 1 {
			t.Errorf("%q does not find %s", c.rule, c.source)
		}
	}
}
