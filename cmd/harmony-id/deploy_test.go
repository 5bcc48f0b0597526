package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What deploy/ has is read by the parsers of the programs that it is for
// (tools/read), and every name in it that is the product's has to be one.

const repository = "../.."

// readFile reads a file of the repository as another program does.
func readFile(t *testing.T, kind, name string, v any) {
	t.Helper()
	path := must(filepath.Abs(filepath.Join(repository, name)))(t)
	cmd := exec.CommandContext(t.Context(), "go", "run", "-C", filepath.Join(repository, "tools", "read"), ".", kind, path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s cannot be read: %v\n%s", name, err, &stderr)
	}
	must(1, json.Unmarshal(out, v))(t)
}

// accepts checks that serve takes these variables, as far as they go.
func accepts(t *testing.T, where string, environ []string) serveCommand {
	t.Helper()
	c, _, err := parse(t, environ)
	if err != nil {
		t.Errorf("%s: %v", where, err)
	}
	return c
}

// runs checks that there is such a command.
func runs(t *testing.T, where string, args []string) {
	t.Helper()
	if r := (shell{t: t}).run("", append(slices.Clone(args), "--help")...); r.code != 0 {
		t.Errorf("%s: there is no command %q: %s", where, args, r.stderr)
	}
}

type instruction struct {
	Name        string
	Flags, Args []string
	JSON        bool
}

func (i instruction) flag(name string) string {
	for _, f := range i.Flags {
		if v, ok := strings.CutPrefix(f, "--"+name+"="); ok {
			return v
		}
	}
	return ""
}

// The image is the static program and nothing else, run by nobody in particular.
func TestDockerfile(t *testing.T) {
	var all []instruction
	readFile(t, "dockerfile", "deploy/Dockerfile", &all)
	from := slices.IndexFunc(all, func(i instruction) bool { return i.Name == "FROM" && i.Args[0] == "scratch" })
	if from < 0 {
		t.Fatal("the last stage is not empty at its beginning")
	}
	mod := string(must(os.ReadFile(filepath.Join(repository, "go.mod")))(t))
	if version := strings.TrimPrefix(all[0].Args[0], "golang:"); !strings.Contains(mod, "\ngo "+version) {
		t.Errorf("it is built with Go %s, go.mod says otherwise", version)
	}
	makefile := string(must(os.ReadFile(filepath.Join(repository, "Makefile")))(t))
	built, made := "", map[string]bool{}
	for _, i := range all[1:from] {
		switch i.Name {
		case "FROM":
			t.Error("more than one stage builds")
		case "RUN":
			if m := regexp.MustCompile(`CGO_ENABLED=0 go build -trimpath -o (\S+) \./cmd/harmony-id`).FindStringSubmatch(i.Args[0]); m != nil {
				built = m[1]
			}
			for _, m := range regexp.MustCompile(`mkdir (\S+)`).FindAllStringSubmatch(i.Args[0], -1) {
				made[m[1]] = true
			}
		}
	}
	if built == "" || !strings.Contains(makefile, "CGO_ENABLED=0 $(GO) build -trimpath -o bin/harmony-id ./cmd/harmony-id") {
		t.Error("it is not built as make build does")
	}
	files, environ, last := map[string]string{}, []string{}, map[string]instruction{}
	for _, i := range all[from+1:] {
		switch i.Name {
		case "RUN", "ADD":
			t.Errorf("%s in the last stage, where there is nothing to run", i.Name)
		case "COPY":
			if i.flag("from") != "build" || len(i.Args) != 2 {
				t.Errorf("COPY %v: all comes from the build", i.Args)
			}
			if src := i.Args[0]; src != built && !made[src] && !strings.HasPrefix(src, "/etc/ssl/certs/") {
				t.Errorf("COPY %s, which the build does not make", src)
			}
			files[i.Args[1]] = i.flag("chown")
		case "ENV":
			environ = append(environ, i.Args[0]+"="+i.Args[1])
		}
		last[i.Name] = i
	}
	user := strings.Join(last["USER"].Args, "")
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("it runs as %q; by number, so that a cluster sees that it is not root", user)
	}
	c := accepts(t, "ENV", environ)
	if string(c.HTTPAddr) != ":"+last["EXPOSE"].Args[0] {
		t.Errorf("it listens on %s and exposes %v", c.HTTPAddr, last["EXPOSE"].Args)
	}
	data := last["VOLUME"].Args[0]
	if owner, ok := files[data]; !ok || owner != user || !strings.HasPrefix(c.DatabaseURL, "sqlite:"+data+"/") || last["WORKDIR"].Args[0] != data {
		t.Errorf("data in %s of %q, the database is %s", data, owner, c.DatabaseURL)
	}
	for _, name := range []string{"ENTRYPOINT", "CMD", "HEALTHCHECK"} {
		if !last[name].JSON {
			t.Errorf("%s needs a shell", name)
		}
	}
	program := last["ENTRYPOINT"].Args[0]
	if _, ok := files[program]; !ok {
		t.Errorf("the program is %s, which is not there", program)
	}
	runs(t, "CMD", last["CMD"].Args)
	health := last["HEALTHCHECK"]
	if health.Args[0] != "CMD" || health.Args[1] != program {
		t.Errorf("HEALTHCHECK %v", health.Args)
	}
	runs(t, "HEALTHCHECK", health.Args[2:])
	if wait := must(time.ParseDuration(health.flag("timeout")))(t); wait <= probeTimeout {
		t.Errorf("HEALTHCHECK waits for %s, the probe for %s", wait, probeTimeout)
	}
	if last["STOPSIGNAL"].Args[0] != "SIGTERM" {
		t.Error("it is not stopped by SIGTERM")
	}
	ignored := strings.Fields(string(must(os.ReadFile(filepath.Join(repository, "deploy", "Dockerfile.dockerignore")))(t)))
	if !slices.Contains(ignored, "deploy/secrets") {
		t.Error("secrets are sent to whatever builds the image")
	}
}

type composeService struct {
	Image, Command any
	Environment    map[string]string
	Secrets        []string
	Ports          []string
	Networks       []string
	Volumes        []string
	ReadOnly       bool            `json:"read_only"`
	CapDrop        []string        `json:"cap_drop"`
	SecurityOpt    []string        `json:"security_opt"`
	StopGrace      string          `json:"stop_grace_period"`
	Build          json.RawMessage `json:"build"`
	Healthcheck    struct {
		Test    []string
		Timeout string
	}
	DependsOn map[string]struct{ Condition string } `json:"depends_on"`
}

// written replaces ${NAME:-value} and ${NAME:?example} by what stands there.
var written = regexp.MustCompile(`\$\{([A-Z_]+):[-?]([^}]*)\}`)

func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]composeService
		Networks map[string]any
		Volumes  map[string]any
		Secrets  map[string]struct{ File string }
	}
	readFile(t, "yaml", "deploy/compose.yaml", &file)
	for name, s := range file.Services {
		for _, n := range s.Networks {
			if _, ok := file.Networks[n]; !ok {
				t.Errorf("%s: no network %s", name, n)
			}
		}
		for _, n := range s.Secrets {
			if f, ok := file.Secrets[n]; !ok || !strings.HasPrefix(f.File, "./secrets/") {
				t.Errorf("%s: no secret %s", name, n)
			}
		}
		for _, v := range s.Volumes {
			if from, _, _ := strings.Cut(v, ":"); from == "" || !hasKey(file.Volumes, from) {
				t.Errorf("%s: no volume %s", name, v)
			}
		}
		for n, d := range s.DependsOn {
			other, ok := file.Services[n]
			if !ok || d.Condition == "service_healthy" && len(other.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s", name, n)
			}
		}
		for key, value := range s.Environment {
			if path, ok := strings.CutPrefix(value, "/run/secrets/"); ok && !slices.Contains(s.Secrets, path) {
				t.Errorf("%s: %s names the secret %s, which it is not given", name, key, path)
			}
		}
		if s.Image != "harmony-id" {
			continue
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s may do more than it has to", name)
		}
		var build struct{ Context, Dockerfile string }
		must(1, json.Unmarshal(s.Build, &build))(t)
		if _, err := os.Stat(filepath.Join(repository, "deploy", build.Context, build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var args []string
		for _, a := range s.Command.([]any) {
			args = append(args, a.(string))
		}
		runs(t, name, args)
		var environ []string
		for key, value := range s.Environment {
			if m := written.FindStringSubmatch(value); m != nil {
				if m[1] != key {
					t.Errorf("%s: %s is set from %s", name, key, m[1])
				}
				value = m[2]
			}
			environ = append(environ, key+"="+value)
		}
		c := accepts(t, name, environ)
		if c.DatabaseURLFile == "" {
			t.Errorf("%s: the image's database would be used", name)
		}
		if args[0] != "serve" {
			continue
		}
		if c.Issuer == "" || c.EncryptionKeysFile == "" || c.SMTPURLFile == "" || c.MailFrom == "" || len(c.TrustedProxies) == 0 {
			t.Errorf("%s: serve needs more: %v", name, environ)
		}
		_, port, _ := strings.Cut(string(c.HTTPAddr), ":")
		if !slices.Equal(s.Ports, []string{"127.0.0.1:" + port + ":" + port}) {
			t.Errorf("%s: ports %v, it listens on %s", name, s.Ports, c.HTTPAddr)
		}
		if test := s.Healthcheck.Test; len(test) < 3 || test[0] != "CMD" || test[1] != "/harmony-id" {
			t.Errorf("%s: healthcheck %v", name, test)
		} else {
			runs(t, name, test[2:])
		}
		if wait := must(time.ParseDuration(s.Healthcheck.Timeout))(t); wait <= probeTimeout {
			t.Errorf("%s: the healthcheck waits for %s", name, wait)
		}
		if grace := must(time.ParseDuration(s.StopGrace))(t); grace <= c.DrainDelay+drainTime {
			t.Errorf("%s: it is killed after %s, and takes up to %s", name, grace, c.DrainDelay+drainTime)
		}
	}
	if len(file.Services) != 3 {
		t.Errorf("%d services", len(file.Services))
	}
}

func hasKey[V any](m map[string]V, key string) bool {
	_, ok := m[key]
	return ok
}

// The unit is read by systemd where there is one; what of it is ours has to be.
func TestSystemdUnit(t *testing.T) {
	const name = "harmony-id.service"
	text := string(must(os.ReadFile(filepath.Join(repository, "deploy", name)))(t))
	values := map[string][]string{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = line
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				t.Fatalf("not a setting: %q", line)
			}
			values[section+key] = append(values[section+key], value)
		}
	}
	command := strings.Fields(values["[Service]ExecStart"][0])
	runs(t, "ExecStart", command[1:])
	credentials := map[string]bool{}
	for _, c := range values["[Service]LoadCredential"] {
		id, _, _ := strings.Cut(c, ":")
		credentials[id] = true
	}
	dir := t.TempDir()
	var environ []string
	for _, e := range values["[Service]Environment"] {
		key, value, _ := strings.Cut(e, "=")
		id, ok := strings.CutPrefix(value, "%d/")
		if !ok || !credentials[id] {
			t.Errorf("%s is not one of the credentials", e)
		}
		if key == variable(configKey) {
			value = filepath.Join(dir, id)
			write(t, value, "")
		}
		environ = append(environ, key+"="+value)
	}
	c := accepts(t, "Environment", environ)
	if c.EncryptionKeysFile == "" || c.SMTPURLFile == "" || c.DatabaseURL != "sqlite:harmony-id.db" || values["[Service]WorkingDirectory"][0] != "%S/"+values["[Service]StateDirectory"][0] {
		t.Errorf("%v, database %s in %v", environ, c.DatabaseURL, values["[Service]WorkingDirectory"])
	}
	stop := must(time.ParseDuration(values["[Service]TimeoutStopSec"][0] + "s"))(t)
	if stop <= c.DrainDelay+drainTime {
		t.Errorf("it is killed after %s, and takes up to %s", stop, c.DrainDelay+drainTime)
	}
	for key, want := range map[string]string{
		"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "CapabilityBoundingSet": "",
		"MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes", "SystemCallArchitectures": "native", "UMask": "0077", "LimitCORE": "0",
	} {
		if got := values["[Service]"+key]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s=%v, want %s", key, got, want)
		}
	}
	systemd, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // what could be read without it was
	}
	// It wants to see the program.
	unit := filepath.Join(dir, name)
	write(t, unit, strings.ReplaceAll(text, command[0], must(os.Executable())(t)))
	for _, args := range [][]string{{"verify", "--man=no", unit}, {"security", "--offline=yes", "--threshold=20", unit}} {
		if out, err := exec.CommandContext(t.Context(), systemd, args...).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze %v: %v\n%s", args[:1], err, out)
		}
	}
}

// Every alert is about metrics that there are, with labels that they have, and
// docs/operations.md says what to do.
func TestAlerts(t *testing.T) {
	var rules []struct {
		Alert, Expr, For    string
		Labels, Annotations map[string]string
		Metrics             []struct {
			Name   string
			Labels map[string][]string
		}
	}
	readFile(t, "rules", "deploy/alerts.yaml", &rules)
	if len(rules) == 0 {
		t.Fatal("no alerts")
	}
	have := scrapeOfAll(t)
	page := string(must(os.ReadFile(filepath.Join(repository, "docs", "operations.md")))(t))
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.Alert] || r.Annotations["summary"] == "" || r.Labels["severity"] != "page" && r.Labels["severity"] != "ticket" || len(r.Metrics) == 0 {
			t.Errorf("%+v", r)
		}
		seen[r.Alert] = true
		if !strings.Contains(page, "`"+r.Alert+"`") {
			t.Errorf("docs/operations.md does not say what to do about %s", r.Alert)
		}
		for _, m := range r.Metrics {
			if !have.has(m.Name, "", "") {
				t.Errorf("%s: there is no metric %s", r.Alert, m.Name)
			}
			for label, values := range m.Labels {
				for _, v := range values {
					if !have.has(m.Name, label, v) {
						t.Errorf("%s: no %s has %s=%q", r.Alert, m.Name, label, v)
					}
				}
			}
		}
	}
	for _, alert := range regexp.MustCompile("`(HarmonyID[A-Z][A-Za-z]+)`").FindAllStringSubmatch(page, -1) {
		if !seen[alert[1]] {
			t.Errorf("docs/operations.md speaks of %s, which is no alert", alert[1])
		}
	}
}

// has reports whether there is a sample of a name, with a label's value if one is
// given.
func (s scrape) has(name, label, value string) bool {
	for sample := range s {
		base, labels, _ := strings.Cut(sample, "{")
		if base == name && (label == "" || strings.Contains("{"+strings.ReplaceAll(labels, ",", ",{"), fmt.Sprintf("{%s=%q", label, value))) {
			return true
		}
	}
	return false
}

// scrapeOfAll is a scrape of a provider that has just begun.
func scrapeOfAll(t *testing.T) scrape {
	t.Helper()
	return newWorld(t, "sqlite").watched().scrape(t)
}
