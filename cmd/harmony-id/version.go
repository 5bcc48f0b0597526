package main

import (
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/harmony/id/migrations"
)

// A versionResult is the version in results.
type versionResult struct {
	Version       string `json:"version" help:"version of the module"`
	Commit        string `json:"commit" help:"commit that it was built from; empty if unknown"`
	Modified      bool   `json:"modified" help:"whether the tree had changes"`
	SchemaVersion int    `json:"schema_version" help:"the last step of the schema that it knows"`
	GoVersion     string `json:"go_version" help:"Go release that built it"`
}

type versionCommand struct{ outputFlag }

// Help shows an example.
func (versionCommand) Help() string { return example(`harmony-id version -o json`) }

// Run shows the version.
func (c versionCommand) Run(p *program) error {
	v, err := version()
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(p.stdout, v)
	}
	commit := v.Commit
	if v.Modified {
		commit += " and changes"
	}
	return writeFacts(p.stdout, [][2]string{
		{"Version", v.Version}, {"Commit", commit}, {"Schema", strconv.Itoa(v.SchemaVersion)}, {"Go", v.GoVersion},
	})
}

// version is what the linker wrote into the program.
func version() (versionResult, error) {
	v := versionResult{Version: "unknown", GoVersion: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	steps, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return v, err
	}
	for _, name := range steps {
		number, _, _ := strings.Cut(name, "_")
		n, err := strconv.Atoi(number)
		if err != nil {
			return v, fmt.Errorf("migration %s has no number", name)
		}
		v.SchemaVersion = max(v.SchemaVersion, n)
	}
	return v, nil
}
