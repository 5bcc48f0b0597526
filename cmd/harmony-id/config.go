package main

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type configCheck struct {
	Offline bool `help:"Look at the settings and the files that they name alone: ask no database and no server."`

	outputFlag
	serveSettings
}

// Help shows an example.
func (configCheck) Help() string {
	return "It looks at the settings as serve does, and then whether the database, the mail server and Google take them. " +
		"The exit code is 2 if a setting is wrong, 5 if the database needs a step of its schema, 1 if something does not answer as it should.\n\n" +
		example(`harmony-id config check --config harmony-id.conf`)
}

// Run checks the settings.
func (c configCheck) Run(ctx context.Context, p *program) error {
	plan, err := c.plan(p)
	if err != nil {
		return err
	}
	defer plan.house.places.Close()
	e := &examination{}
	e.ok("settings", "right")
	if !c.Offline {
		if d := e.database(ctx, p, c.serveSettings, plan); d != nil {
			if err := d.Close(); err != nil {
				return err
			}
		}
		e.mail(ctx, c.serveSettings, plan, "")
		e.google(ctx, plan)
	}
	return e.report(p, c.outputFlag)
}

// A configResult is a setting in results.
type configResult struct {
	Key    string `json:"key" help:"its name, as in the file of settings"`
	Value  string `json:"value" help:"its value; of a secret, what may be shown of it"`
	Secret bool   `json:"secret" help:"whether something was left out of the value"`
	Origin string `json:"origin" help:"where it was written: a flag, a variable, or a file and its line; default if nowhere"`
}

type configPrint struct {
	Origin bool `help:"Show where each value was written."`

	outputFlag
	serveSettings
}

// Help shows an example.
func (configPrint) Help() string {
	return "What is printed without --origin is a file of settings, in which secrets are commented out and without their value.\n\n" +
		example(`harmony-id config print --origin`)
}

// Run prints what serve would keep to.
func (c configPrint) Run(parsed *kong.Context, p *program) error {
	var results []configResult
	var rows [][]string
	for _, f := range parsed.Flags() {
		if !f.Tag.Has("setting") {
			continue
		}
		value, err := settingText(f.Target)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		r := configResult{Key: f.Name, Value: value, Origin: p.settings.origin(f.Name)}
		if f.Name == configKey && p.settings.path != "" && r.Origin == "" { // which no resolver gives
			r.Value, r.Origin = p.settings.path, variable(configKey)
		}
		if r.Origin == "" {
			r.Origin = "default"
		}
		if f.Tag.Has("secret") {
			r.Value, r.Secret = redacted(value)
		}
		results = append(results, r)
		rows = append(rows, []string{r.Key, r.Value, r.Origin})
	}
	switch {
	case c.Output == "json":
		return writeJSON(p.stdout, results)
	case c.Origin:
		return writeTable(p.stdout, []string{"SETTING", "VALUE", "WRITTEN IN"}, rows)
	}
	for _, r := range results {
		line := fmt.Sprintf("%s = %s\n", r.Key, r.Value)
		if r.Secret || r.Value == "" || r.Key == configKey { // a file cannot name another
			line = "# " + strings.TrimRight(line, " \n") + "\n"
		}
		if _, err := io.WriteString(p.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

// settingText is a setting's value as one writes it.
func settingText(v reflect.Value) (string, error) {
	switch x := v.Interface().(type) {
	case []string:
		return strings.Join(x, ","), nil
	case fmt.Stringer:
		return x.String(), nil
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		return string(text), err
	default:
		return fmt.Sprint(x), nil
	}
}

// redacted is what may be shown of a secret: a URL without its password, of anything
// else nothing.
func redacted(value string) (shown string, hidden bool) {
	if value == "" {
		return "", false
	}
	if strings.HasPrefix(value, sqliteScheme) {
		return value, false
	}
	const mask = "(secret)"
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return mask, true
	}
	if !hasPassword(u) {
		return value, false
	}
	q := u.Query()
	for name := range q {
		if name != "host" && name != "port" && name != "sslmode" {
			q.Del(name)
		}
	}
	u.RawQuery = q.Encode()
	return u.Redacted(), true
}

type configTemplate struct{}

// Help shows an example.
func (configTemplate) Help() string {
	return example(`(umask 077; harmony-id config template > harmony-id.conf)`)
}

// Run prints a file of settings in which everything is commented out.
func (configTemplate) Run(parsed *kong.Context, p *program) error {
	leaves := parsed.Model.Leaves(true)
	i := slices.IndexFunc(leaves, func(n *kong.Node) bool { return n.Path() == "serve" })
	if i < 0 {
		return errors.New("there is no command serve")
	}
	var b strings.Builder
	b.WriteString("# Settings of harmony-id: it reads this file if --config or " + variable(configKey) + " names it.\n" +
		"# Lines that begin with # are passed over. Where a value is shown, it is the default.\n")
	for _, f := range slices.Concat(leaves[i].AllFlags(true)...) {
		if !f.Tag.Has("setting") || f.Name == configKey {
			continue
		}
		b.WriteByte('\n')
		for _, line := range wrapped(f.Help, 96) {
			b.WriteString("# " + line + "\n")
		}
		value := f.PlaceHolder
		if f.HasDefault {
			value = f.Default
		}
		fmt.Fprintf(&b, "# %s = %s\n", f.Name, value)
	}
	_, err := io.WriteString(p.stdout, b.String())
	return err
}

// wrapped breaks text into lines of most characters or, where a word is longer, of one
// word.
func wrapped(text string, most int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > most {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
