package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
	"github.com/harmony/id/mail"
)

type doctor struct {
	MailTo string `placeholder:"ADDRESS" help:"Send a mail there, too, and not only sign in to the mail server."`

	outputFlag
	serveSettings
}

// Help shows an example.
func (doctor) Help() string {
	return "Run it with the settings of serve, beside it. Each line is ok, warn or fail, and says what to do. The exit code is 1 if one says fail, 5 if the only one is that the database needs a step of its schema.\n\n" +
		example(`harmony-id doctor --config harmony-id.conf`)
}

// Run examines a provider.
func (c doctor) Run(ctx context.Context, p *program) (err error) {
	to := ""
	if c.MailTo != "" {
		if to, err = account.CanonicalEmail(c.MailTo); err != nil {
			return usagef("--mail-to: %w", err)
		}
	}
	plan, err := c.plan(p)
	if err != nil {
		return err
	}
	defer plan.house.places.Close()
	e := &examination{}
	e.ok("settings", "right")
	d := e.database(ctx, p, c.serveSettings, plan)
	if d != nil {
		defer func() { err = errors.Join(err, d.Close()) }()
		e.clock(ctx, d)
		e.signing(ctx, d, c.rotation())
		e.outboxes(ctx, d)
	}
	e.listener(ctx, c.adminSettings)
	e.provider(ctx, d, plan)
	e.proxies(c.serveSettings, plan)
	e.mail(ctx, c.serveSettings, plan, to)
	e.google(ctx, plan)
	return e.report(p, c.outputFlag)
}

// A checkResult is what was found of one thing, in results.
type checkResult struct {
	Check string `json:"check" help:"what was looked at"`
	State string `json:"state" help:"ok, warn or fail"`
	Found string `json:"found" help:"what was found"`
	Fix   string `json:"fix" help:"what to do; empty if it is ok"`
}

// The states of a check.
const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "fail"
)

// An examination collects what is found. Each thing is looked at however the others are.
type examination struct {
	found   []checkResult
	pending bool // the database needs a step of its schema
}

func (e *examination) ok(check, found string, args ...any) {
	e.found = append(e.found, checkResult{check, stateOK, fmt.Sprintf(found, args...), ""})
}

func (e *examination) warn(check, fix, found string, args ...any) {
	e.found = append(e.found, checkResult{check, stateWarn, fmt.Sprintf(found, args...), fix})
}

func (e *examination) fail(check, fix, found string, args ...any) {
	e.found = append(e.found, checkResult{check, stateFail, fmt.Sprintf(found, args...), fix})
}

// report prints what was found. That something failed is an error.
func (e *examination) report(p *program, o outputFlag) error {
	var err error
	if o.Output == "json" {
		err = writeJSON(p.stdout, e.found)
	} else {
		rows := make([][]string, 0, len(e.found))
		for _, r := range e.found {
			rows = append(rows, []string{r.State, r.Check, r.Found})
			if r.Fix != "" {
				rows = append(rows, []string{"", "", "→ " + r.Fix})
			}
		}
		err = writeTable(p.stdout, []string{"STATE", "CHECK", "FOUND"}, rows)
	}
	if err != nil {
		return err
	}
	failed := 0
	for _, r := range e.found {
		if r.State == stateFail {
			failed++
		}
	}
	switch {
	case failed == 0:
		return nil
	case failed == 1 && e.pending:
		return &exit{exitPending, errors.New("the database needs a step of its schema")}
	case failed == 1:
		return errors.New("one check failed")
	}
	return fmt.Errorf("%d checks failed", failed)
}

// database opens the database and looks whether serve would take it: schema,
// encryption keys, issuer. The caller closes it; nil if there is none to look into.
func (e *examination) database(ctx context.Context, p *program, c serveSettings, plan *plan) *db.DB {
	const fix = "start the database or mend database-url; its own log says more"
	where, err := c.databaseSettings.url(p)
	if err != nil {
		e.fail("database", "mend database-url", "%s", err)
		return nil
	}
	d, err := p.openDatabase(ctx, c.databaseSettings, useToLook)
	if err != nil {
		if file, isFile := strings.CutPrefix(where, sqliteScheme); isFile && file != "" {
			e.fail("database", "start serve once, or mend database-url", "%s", err)
			return nil
		}
		e.fail("database", fix, "%s", err)
		return nil
	}
	if inTheClear(where, p.environ) {
		e.warn("database", "add sslmode=verify-full (and sslrootcert=FILE) to database-url", "%s answers, on another machine and without a verified TLS connection", d.Engine())
	} else {
		e.ok("database", "%s answers", d.Engine())
	}
	steps, err := d.Migrations(ctx)
	n, later := 0, 0
	for _, m := range steps {
		if m.AppliedAt.IsZero() {
			n++
		}
		if m.Later {
			later++
		}
	}
	switch {
	case errors.Is(err, db.ErrNewerSchema):
		e.fail("schema", "run the newer program", "%s", err)
		return d
	case err != nil:
		e.fail("schema", "restore the program or the database from before the change", "%s", err)
		return d
	case n > 0:
		e.pending = true
		e.fail("schema", "run harmony-id migrate up", "%d steps are pending", n)
		return d
	}
	if later > 0 {
		e.warn("schema", "replace this program, too; until then it goes on", "a newer program took %d more steps, beside which this one works", later)
	} else {
		e.ok("schema", "up to date")
	}
	if err := idp.CheckKeys(ctx, d, plan.ring); err != nil {
		e.fail("encryption keys", "name the file that this database was used with", "%s", err)
	} else {
		e.ok("encryption keys", "they open what the database keeps")
	}
	switch frozen, err := idp.FrozenIssuer(ctx, d); {
	case err != nil:
		e.fail("issuer", fix, "%s", err)
	case frozen == "":
		e.warn("issuer", "start serve", "this database was not served yet")
	case frozen != plan.house.issuer.String():
		e.fail("issuer", "write "+variable("issuer")+"="+frozen+", or serve once with --allow-issuer-change and configure every workspace anew", "the database was served as %s, the setting is %s", frozen, plan.house.issuer)
	default:
		e.ok("issuer", "%s, as at the first start", frozen)
	}
	return d
}

// inTheClear reports whether a database's URL leads to another machine without a TLS
// connection whose certificate is checked (ASVS 12.3.1).
func inTheClear(where string, environ []string) bool {
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return false
	}
	host, mode := u.Hostname(), u.Query().Get("sslmode")
	if h := u.Query().Get("host"); h != "" {
		host = h
	}
	for _, v := range environ {
		if m, ok := strings.CutPrefix(v, "PGSSLMODE="); ok && mode == "" {
			mode = m
		}
	}
	return host != "" && !strings.HasPrefix(host, "/") && !loopback(host) && mode != "verify-full" && mode != "verify-ca"
}

// A clock may be off by so much before it is said, and before codes, tokens and
// replicas disagree.
const (
	offsetWarn = time.Second
	offsetFail = 30 * time.Second
)

func (e *examination) clock(ctx context.Context, d *db.DB) {
	offset, err := d.ClockOffset(ctx)
	if err != nil {
		e.fail("clock", "look at the database", "%s", err)
		return
	}
	e.offset(offset, d.Engine())
}

func (e *examination) offset(offset time.Duration, engine string) {
	const fix = "run a time service (chrony, systemd-timesyncd) on both machines"
	switch {
	case offset.Abs() >= offsetFail:
		e.fail("clock", fix, "the database's clock is %s ahead of this one", offset.Round(time.Millisecond))
	case offset.Abs() >= offsetWarn:
		e.warn("clock", fix, "the database's clock is %s ahead of this one", offset.Round(time.Millisecond))
	case engine == "sqlite":
		e.ok("clock", "%s; SQLite has no other to compare it with", time.Now().UTC().Format(time.RFC3339))
	default:
		e.ok("clock", "agrees with the database's")
	}
}

// signing looks at the signing keys: whether some sign, and whether they rotate.
func (e *examination) signing(ctx context.Context, d *db.DB, plan idp.Rotation) {
	all, err := idp.NewKeys(d, nil).List(ctx)
	if err != nil {
		e.fail("signing keys", "look at the lines above", "%s", err)
		return
	}
	var oldest time.Duration
	var active []string
	for _, k := range all {
		if k.State == idp.KeyActive {
			active = append(active, k.Alg)
			oldest = max(oldest, time.Since(k.ActiveAt))
		}
	}
	switch days := strconv.Itoa(int(oldest.Hours() / 24)); {
	case len(all) == 0:
		e.warn("signing keys", "start serve", "there are none yet: the first start makes them")
	case len(active) == 0:
		e.fail("signing keys", "run harmony-id keys rotate --emergency", "none signs")
	case oldest > plan.Every+plan.Prepublish:
		e.warn("signing keys", "look why the provider that serves does not rotate them: its log says house-keeping", "the oldest that signs has done so for %s days, and key-rotate-every is %s", days, plan.Every)
	default:
		e.ok("signing keys", "%s sign, the oldest for %s days", strings.Join(active, ", "), days)
	}
}

// What waits to be told so long is late, and so long is a fault.
const (
	outboxWarn = 10 * time.Minute
	outboxFail = time.Hour
)

func (e *examination) outboxes(ctx context.Context, d *db.DB) {
	for _, o := range []struct {
		check, fix string
		oldest     func(context.Context) (time.Time, error)
	}{
		{"mail outbox", "see that serve runs and that the mail line is ok; its log says \"mail delayed\" and why", account.New(d, nil, account.Config{}).OldestLetter},
		{"logout outbox", "its log says \"logout delayed\", of which workspace and why", func(ctx context.Context) (time.Time, error) { return idp.OldestNotice(ctx, d) }},
	} {
		at, err := o.oldest(ctx)
		late := time.Since(at).Round(time.Second)
		switch {
		case err != nil:
			e.fail(o.check, "look at the lines above", "%s", err)
		case at.IsZero():
			e.ok(o.check, "empty")
		case late >= outboxFail:
			e.fail(o.check, o.fix, "the oldest waits for %s", late)
		case late >= outboxWarn:
			e.warn(o.check, o.fix, "the oldest waits for %s", late)
		default:
			e.ok(o.check, "the oldest waits for %s", late)
		}
	}
}

// listener looks whether a provider serves on this machine.
func (e *examination) listener(ctx context.Context, s adminSettings) {
	word, err := s.ask(ctx, pathReady)
	if err != nil {
		e.warn("serving here", "start serve, or run this where it runs; its log says why it is not ready", "%s", err)
		return
	}
	e.ok("serving here", "%s answers %s", s.AdminAddr, word)
}

// outwardTimeout bounds each request to the provider's own address.
const outwardTimeout = 10 * time.Second

// answered is what a document came with.
type answered struct {
	header http.Header
	tls    *tls.ConnectionState // nil: in the clear
}

// provider asks for the provider's documents at its own address, as workspaces do.
func (e *examination) provider(ctx context.Context, d *db.DB, plan *plan) {
	issuer := plan.house.issuer.String()
	client := &http.Client{
		Timeout: outwardTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: plan.house.idp.Roots, MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	const fix = "have DNS, the firewall and the proxy lead from that address to serve"
	get := func(at string, v any) (*answered, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		if err != nil {
			return nil, err
		}
		res, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		const most = 1 << 20
		body, err := io.ReadAll(io.LimitReader(res.Body, most))
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode != http.StatusOK:
			return nil, fmt.Errorf("%s answers %s", at, res.Status)
		case json.Unmarshal(body, v) != nil:
			return nil, fmt.Errorf("%s answers something that is not JSON", at)
		}
		return &answered{res.Header, res.TLS}, nil
	}
	var metadata struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	res, err := get(issuer+"/.well-known/openid-configuration", &metadata)
	switch {
	case err != nil:
		e.fail("reachable", fix, "from this machine: %s", err)
		return
	case metadata.Issuer != issuer:
		e.fail("reachable", fix, "what answers there calls itself %q", metadata.Issuer)
		return
	}
	e.ok("reachable", "%s answers this machine as itself; whether it answers the world, only the world can see", issuer)
	e.tls(res, plan)
	e.jwks(ctx, d, plan, metadata.JWKS, get)
}

// Certificates that end so soon should have been renewed by now.
const (
	certificateWarn = 14 * 24 * time.Hour
	certificateFail = 3 * 24 * time.Hour
)

// tls looks at the connection that the provider's documents came by, and whether what
// protects people's browsers comes through.
func (e *examination) tls(res *answered, plan *plan) {
	if res.tls == nil {
		e.warn("TLS", "before others than this machine use it: serve under https://", "%s is not encrypted", plan.house.issuer)
		return
	}
	left := time.Until(res.tls.PeerCertificates[0].NotAfter)
	days := int(math.Floor(left.Hours() / 24))
	switch {
	case left < certificateFail:
		e.fail("TLS", "renew the certificate", "the certificate ends in %d days", days)
	case left < certificateWarn:
		e.warn("TLS", "see that the certificate is renewed", "the certificate ends in %d days", days)
	case res.header.Get("Strict-Transport-Security") == "":
		e.warn("TLS", "have the proxy leave the headers of answers alone", "Strict-Transport-Security does not come through")
	default:
		e.ok("TLS", "%s, the certificate ends in %d days", tls.VersionName(res.tls.Version), days)
	}
}

// jwks compares the keys that workspaces see with those of the database, and how long
// they may keep them with how long a key is published before it signs.
func (e *examination) jwks(ctx context.Context, d *db.DB, plan *plan, at string, get func(string, any) (*answered, error)) {
	var published struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	res, err := get(at, &published)
	if err != nil {
		e.fail("JWKS", "look at the provider's log", "%s", err)
		return
	}
	if d != nil {
		ours, err := idp.NewKeys(d, nil).List(ctx)
		if err != nil {
			e.fail("JWKS", "look at the lines above", "%s", err)
			return
		}
		for _, k := range ours {
			if k.State != idp.KeyActive {
				continue
			}
			if !slices.ContainsFunc(published.Keys, func(p struct {
				ID string `json:"kid"`
			}) bool {
				return p.ID == k.ID
			}) {
				e.fail("JWKS", "see that what answers there serves from this database, and that no cache keeps an older answer", "key %s, which signs, is not published at %s", k.ID, at)
				return
			}
		}
	}
	cache := res.header.Get("Cache-Control")
	age := maxAge(cache)
	switch {
	case age < 0:
		e.warn("JWKS", "have the proxy leave Cache-Control alone", "no max-age comes through (Cache-Control %q): workspaces may keep keys for as long as they like", cache)
	case age > plan.house.idp.Rotation.Prepublish/4:
		e.warn("JWKS", "have the proxy leave Cache-Control alone, or raise key-prepublish", "workspaces may keep keys for %s, and one is published %s before it signs", age, plan.house.idp.Rotation.Prepublish)
	default:
		e.ok("JWKS", "%d keys, which workspaces keep for %s", len(published.Keys), age)
	}
}

// maxAge is the max-age of a Cache-Control, -1 for none (RFC 9111 5.2.2.1).
func maxAge(header string) time.Duration {
	for part := range strings.SplitSeq(header, ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(part), "max-age="); ok {
			if n, err := strconv.ParseUint(text, 10, 31); err == nil {
				return time.Duration(n) * time.Second
			}
		}
	}
	return -1
}

// proxies looks whether the address of each person can be told.
func (e *examination) proxies(c serveSettings, plan *plan) {
	switch _, port, _ := net.SplitHostPort(string(c.HTTPAddr)); {
	case c.unknownProxy(plan.house.issuer):
		e.warn("proxies", "write "+variable("trusted-proxies")+"=ADDRESS of the proxy", "a proxy seems to end TLS in front of port %s, and none is trusted: all people share one address, and with it the limit on attempts", port)
	case len(c.TrustedProxies) == 0:
		e.ok("proxies", "none: an address is what the connection says")
	default:
		e.ok("proxies", "X-Forwarded-For is believed of %s", c.TrustedProxies)
	}
}

// mail signs in to the mail server and, if there is an address, sends it a mail.
func (e *examination) mail(ctx context.Context, c serveSettings, plan *plan, to string) {
	const fix = "mend smtp-url or the mail server: until then people are told of nothing, and nobody can reset a password"
	server, ok := plan.house.sender.(*mail.SMTP)
	if !ok {
		return
	}
	if to == "" {
		if err := server.Check(ctx); err != nil {
			e.fail("mail", fix, "%s", err)
			return
		}
		e.ok("mail", "%s lets us in; doctor --mail-to sends one", server)
		return
	}
	m, err := mail.TestMessage(mail.Config{From: plan.house.mail.From}, to)
	if err == nil {
		err = server.Send(ctx, m)
	}
	if err != nil {
		e.fail("mail", fix, "%s", err)
		return
	}
	e.ok("mail", "%s took a mail; whether it arrives, only the mailbox shows", server)
}

// google asks for Google's metadata.
func (e *examination) google(ctx context.Context, plan *plan) {
	if plan.house.google == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, outwardTimeout)
	defer cancel()
	if err := login.NewGoogle(*plan.house.google).Check(ctx); err != nil {
		e.fail("google", "let this machine reach "+plan.house.google.Issuer+"; until then nobody signs in with Google", "%s", err)
		return
	}
	e.ok("google", "%s answers", plan.house.google.Issuer)
}
