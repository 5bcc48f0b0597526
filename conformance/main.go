// Conformance puts an OpenID provider through what certification checks: the
// modules of the OpenID Foundation's suite, under their names and with their
// severities, without the suite. It knows nothing of ours and can be pointed at
// any provider:
//
//	go run ./conformance --config provider.json --plan all
//
// docs/conformance.md says what the provider has to have registered.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	os.Exit(code)
}

// A client is registered at the provider.
type client struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	post   bool   // client_secret_post
}

// A config is everything that is known of the provider. It is read from a file,
// and flags change it.
type config struct {
	Issuer string `json:"issuer"`
	CAFile string `json:"ca_file"` // PEM, besides those that the system trusts

	Client     client `json:"client"`  // client_secret_basic
	Client2    client `json:"client2"` // client_secret_basic
	ClientPost client `json:"client_secret_post"`

	User struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	} `json:"user"`

	// Callback is where everything of ours is, as the provider and the browser
	// reach it; Listen is the address to listen at, if it is not Callback's.
	Callback     string `json:"callback"`
	CallbackCert string `json:"callback_cert"`
	CallbackKey  string `json:"callback_key"`
	Listen       string `json:"listen"`

	Confirm  string        `json:"confirm"`  // text of the buttons that say yes
	Chromium string        `json:"chromium"` // none, some or all of the modules
	Browser  string        `json:"browser"`  // the program
	Pause    time.Duration `json:"-"`        // of oidcc-codereuse-30seconds
}

const defaultConfirm = `(?i)^(allow|accept|approve|agree|authori[sz]e|continue|confirm|consent|grant|yes|sign out|log ?out|end session)\b`

// Exit codes.
const (
	exitFailed = 1 // a module did
	exitUsage  = 2
)

// run is main, testable.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	cfg := config{Callback: "http://127.0.0.1:8765", Confirm: defaultConfirm, Chromium: "some"}
	f := flag.NewFlagSet("conformance", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Func("config", "JSON `file` of everything below; flags after it count before it", func(name string) error {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &cfg)
	})
	f.StringVar(&cfg.Issuer, "issuer", "", "the provider's issuer")
	f.StringVar(&cfg.CAFile, "ca-file", "", "PEM `file` of certificates to trust")
	for _, c := range []struct {
		to         *client
		name, what string
	}{{&cfg.Client, "client", "client_secret_basic"}, {&cfg.Client2, "client2", "client_secret_basic"}, {&cfg.ClientPost, "client-post", "client_secret_post"}} {
		f.StringVar(&c.to.ID, c.name, "", "`id` of a client with "+c.what)
		f.StringVar(&c.to.Secret, c.name+"-secret", "", "its `secret`")
	}
	f.StringVar(&cfg.User.Name, "user", "", "`name` that the test person signs in with")
	f.StringVar(&cfg.User.Password, "password", "", "the test person's `password`")
	f.StringVar(&cfg.Callback, "callback", cfg.Callback, "`URL` under which the provider and browsers reach this program")
	f.StringVar(&cfg.CallbackCert, "callback-cert", "", "PEM `file` of its certificate, if it is https")
	f.StringVar(&cfg.CallbackKey, "callback-key", "", "PEM `file` of the certificate's key")
	f.StringVar(&cfg.Listen, "listen", "", "`address` to listen at, if it is not the callback's")
	f.StringVar(&cfg.Confirm, "confirm", cfg.Confirm, "`regexp` of the buttons that say yes on pages that ask something")
	f.StringVar(&cfg.Chromium, "chromium", cfg.Chromium, "`which` modules run in Chromium: none, some (those that only a browser proves), all")
	f.StringVar(&cfg.Browser, "browser", "", "`path` of Chromium, if it is not found")
	f.DurationVar(&cfg.Pause, "pause", 30*time.Second, "how long oidcc-codereuse-30seconds waits")
	plan := f.String("plan", "all", "`plan`s, separated by commas: "+strings.Join(planNames(), ", ")+", all")
	only := f.String("module", "", "`regexp` of the modules to run")
	output := f.String("o", "table", "`form` of the results: table or json")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0, nil
	} else if err != nil {
		return exitUsage, nil // it said so
	}
	if err := cfg.check(f.Args()); err != nil {
		return exitUsage, err
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		return exitUsage, err
	}
	names := strings.Split(*plan, ",")
	if *plan == "all" {
		names = planNames()
	}
	var todo []job
	for _, name := range names {
		p, ok := plans[name]
		if !ok || *output != "table" && *output != "json" {
			return exitUsage, fmt.Errorf("-plan is one of %s or all, -o table or json", strings.Join(planNames(), ", "))
		}
		for _, m := range p.modules {
			if chosen.MatchString(m.name) {
				todo = append(todo, job{name, p, m})
			}
		}
	}
	r, err := newRunner(cfg)
	if err != nil {
		return exitUsage, err
	}
	defer r.close()

	results := make([]result, 0, len(todo))
	failed := 0
	for _, j := range todo {
		if ctx.Err() != nil {
			return exitFailed, ctx.Err()
		}
		res := r.module(ctx, j)
		results = append(results, res)
		if res.Verdict == failure {
			failed++
		}
		if *output == "table" {
			printRow(stdout, res)
		}
	}
	if *output == "json" {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		err = e.Encode(results)
	} else {
		_, err = fmt.Fprintf(stdout, "%d modules, %d failed\n", len(results), failed)
	}
	if err != nil || failed > 0 {
		return exitFailed, err
	}
	return 0, nil
}

// check refuses a config that could not work.
func (c *config) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is not a flag", rest[0])
	case c.Issuer == "":
		return fmt.Errorf("-issuer or -config is missing; -help lists everything")
	case (c.CallbackCert == "") != (c.CallbackKey == ""):
		return fmt.Errorf("-callback-cert and -callback-key belong together")
	case strings.HasPrefix(c.Callback, "https:") != (c.CallbackCert != ""):
		return fmt.Errorf("an https -callback and -callback-cert belong together")
	case !slices.Contains([]string{"none", "some", "all"}, c.Chromium):
		return fmt.Errorf("-chromium is none, some or all")
	}
	return nil
}

// printRow writes a result as soon as it is there, and under it what it has to say.
func printRow(w io.Writer, r result) {
	fmt.Fprintf(w, "%-6s  %-11s  %s\n", r.Verdict, r.Plan, r.Module)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "%21s  %s: %s\n", "", n.Verdict, n.Text)
	}
}
