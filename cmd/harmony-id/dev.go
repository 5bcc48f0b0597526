package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
)

type devCommand struct {
	Issuer   string     `setting:"" placeholder:"URL" help:"Address of the provider; has to be this machine. Default http://localhost with the port of --http-addr."`
	HTTPAddr listenAddr `name:"http-addr" setting:"" default:"localhost:8080" placeholder:"ADDR" help:"Where the provider listens; this machine alone can reach it."`

	AcmeAddr   listenAddr `default:"localhost:8081" placeholder:"ADDR" help:"Where the demo workspace Acme listens. Default localhost:8081."`
	GlobexAddr listenAddr `default:"localhost:8082" placeholder:"ADDR" help:"Where the demo workspace Globex listens. Default localhost:8082."`
	MailAddr   listenAddr `default:"localhost:8025" placeholder:"ADDR" help:"Where the mailbox page listens, which shows every mail. Default localhost:8025."`
	GoogleAddr listenAddr `default:"localhost:8084" placeholder:"ADDR" help:"Where the stand-in for Google listens. Default localhost:8084."`
	Dir        string     `default:".harmony-id" placeholder:"DIR" help:"Where the database and the keys are. Default .harmony-id."`
	Fresh      bool       `help:"Forget everything that is in --dir and start anew."`

	sessionSettings
	tokenSettings
	passwordSettings
	placeSettings
	linkSettings
}

// Help shows an example.
func (devCommand) Help() string {
	return "The log is text and tells of warnings only, unless --log-format and --log-level say otherwise.\n\n" +
		example(`harmony-id dev --http-addr localhost:9080`)
}

// check refuses what is not this machine, and settings that do not fit together.
func (c devCommand) check() error {
	errs := []error{c.sessionSettings.check(), c.tokenSettings.check(), c.passwordSettings.check()}
	for _, a := range c.addresses() {
		if host, port, _ := net.SplitHostPort(string(a.addr)); host != "" && !loopback(host) {
			errs = append(errs, fmt.Errorf("dev serves this machine alone, and %s is not it: write --%s localhost:%s", host, a.key, port))
		}
	}
	if c.Issuer != "" {
		issuer, err := parseIssuer(c.Issuer)
		switch {
		case err == nil && loopback(issuer.Hostname()) && issuer.Scheme == "http":
		case err == nil || !strings.HasPrefix(c.Issuer, "http://localhost"):
			errs = append(errs, fmt.Errorf("dev has passwords that everybody knows, so its issuer has to be http://localhost:PORT, not %s: leave the issuer out, or use harmony-id serve", c.Issuer))
		default:
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &exit{exitUsage, err}
	}
	return nil
}

type devAddress struct {
	key  string
	addr listenAddr
}

func (c devCommand) addresses() []devAddress {
	return []devAddress{{"http-addr", c.HTTPAddr}, {"acme-addr", c.AcmeAddr}, {"globex-addr", c.GlobexAddr}, {"mail-addr", c.MailAddr}, {"google-addr", c.GoogleAddr}}
}

// Run serves the provider and two demo workspaces until ctx ends.
func (c devCommand) Run(ctx context.Context, p *program) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	c.startLog(p)
	log := p.log
	// The ports first: a taken one is what a second dev should hear of.
	var listeners [][]net.Listener
	var urls []*url.URL
	defer func() {
		for _, l := range slices.Concat(listeners...) {
			l.Close() // the servers close them too; here if it never came to that
		}
	}()
	for _, a := range c.addresses() {
		l, err := listenHere(ctx, string(a.addr), a.key)
		if err != nil {
			return err
		}
		listeners, urls = append(listeners, l), append(urls, urlOf(string(a.addr), l[0]))
	}
	issuer := urls[0]
	if c.Issuer != "" {
		if issuer, err = parseIssuer(c.Issuer); err != nil {
			return err
		}
		if issuer.Port() != urls[0].Port() {
			return usagef("the issuer is %s, but the provider listens on port %s: leave the issuer out, or write --http-addr localhost:%s", issuer, urls[0].Port(), issuer.Port())
		}
	}

	unlock, err := lockDir(c.Dir) // two on other ports must not share the data either
	if err != nil {
		return err
	}
	defer unlock()
	d, ring, err := c.data(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := idp.FreezeIssuer(ctx, d, issuer.String(), true); err != nil { // another port is no other house here
		return err
	}
	// Registered first: the house reads its clients when it is built.
	demos, err := demoWorkspaces(ctx, idp.NewClients(d).AllowPrivate(), issuer, urls[1], urls[2])
	if err != nil {
		return err
	}
	places, err := c.places(p)
	if err != nil {
		return err
	}
	defer places.Close()
	mailbox := mail.NewMailbox()
	google, err := newStandIn(ctx, c.Dir, ring, urls[4], issuer, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, google.db.Close()) }()
	house, err := newHouse(ctx, d, ring, houseConfig{
		issuer: issuer, account: accountConfig(c.sessionSettings, c.passwordSettings), idp: idpConfig(issuer, c.tokenSettings, rotationSettings{}, outboundSettings{}),
		links: c.links(), places: places, mail: mail.Config{From: devFrom}, sender: mailbox, google: &google.config, log: log,
	})
	if err != nil {
		return err
	}
	sites := []site{{newServer(house.handler, log), listeners[0]}}
	for i, w := range demos {
		sites = append(sites, site{newServer(w.handler(log), log), listeners[1+i]})
	}
	sites = append(sites, site{newServer(google.house.handler, log), listeners[4]})
	sites = append(sites, site{newServer(mailboxHandler(mailbox, urls[3], log), log), listeners[3]})
	for _, person := range demoPeople {
		if _, err := house.accounts.FindUser(ctx, person.Email); !errors.Is(err, account.ErrNotFound) {
			continue // there from an earlier run
		}
		if _, err := house.accounts.CreateUser(ctx, person, account.Actor{Kind: "dev"}); err != nil {
			return fmt.Errorf("creating %s: %w", person.Email, err)
		}
	}
	if err := google.people(ctx, house.accounts); err != nil {
		return err
	}
	if err := c.greet(p.stdout, issuer, urls[3], urls[4], demos); err != nil {
		return err
	}
	if err := (serving{log: log, house: house, sites: sites, patience: devDrainTime}).until(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, "\nStopped. What you did is kept in", c.Dir)
	return err
}

// startLog makes the log of a program that somebody watches: text, and no more than
// warnings, lest what is printed at the start scroll away.
func (devCommand) startLog(p *program) {
	format, level := logText, slog.LevelWarn
	if p.logChosen.format {
		format = p.logFormat
	}
	if p.logChosen.level {
		level = p.logLevel
	}
	p.startLog(format, level)
}

// devFrom is the sender of mails that never leave.
const devFrom = "Harmony <no-reply@harmony.example>"

// devDrainTime is short: browsers hold connections open that they may never
// use, and who pressed Ctrl-C waits.
const devDrainTime = time.Second

// The files in --dir.
const (
	devDatabase = "harmony-id.db"
	devKeys     = "encryption-keys.txt"
)

// data opens the database and the keys in --dir and makes what is not there.
func (c devCommand) data(ctx context.Context) (*db.DB, *secret.Ring, error) {
	if c.Fresh {
		for _, name := range []string{devDatabase, devDatabase + "-wal", devDatabase + "-shm", standInDatabase, standInDatabase + "-wal", standInDatabase + "-shm", devKeys} {
			if err := os.Remove(filepath.Join(c.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, nil, err
			}
		}
	}
	if err := writeOnce(filepath.Join(c.Dir, ".gitignore"), []byte("*\n")); err != nil {
		return nil, nil, err
	}
	keys := filepath.Join(c.Dir, devKeys)
	if err := writeOnce(keys, secret.GenerateKeyFile()); err != nil {
		return nil, nil, err
	}
	text, err := readSecret(keys)
	if err != nil {
		return nil, nil, err
	}
	ring, err := secret.ParseRing(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; --fresh starts anew", keys, err)
	}
	d, err := db.Open(ctx, sqliteScheme+filepath.Join(c.Dir, devDatabase))
	if err != nil {
		return nil, nil, fmt.Errorf("opening the database: %w", err)
	}
	if err := ready(ctx, d, useAndMigrate); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w; --fresh starts anew", err), d.Close())
	}
	return d, ring, nil
}

// lockDir makes the directory if need be and keeps every other dev out of it
// until unlock.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another harmony-id dev uses %s: stop it, or choose another directory with --dir", dir)
	}
	return func() { _ = f.Close() }, nil
}

// writeOnce writes a file that is not there yet, for its owner alone.
func writeOnce(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// listenHere listens on this machine alone: on every loopback address that
// localhost may mean to a browser, or on the one that addr names.
func listenHere(ctx context.Context, addr, key string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if host != "" && host != "localhost" {
		l, err := listen(addr, key)
		return []net.Listener{l}, err
	}
	if port == "0" { // any port that is free on both
		const tries = 20
		for range tries {
			l, err := listenHere(ctx, "localhost:"+freePort(), key)
			if err == nil || ctx.Err() != nil {
				return l, err
			}
		}
	}
	first, err := listen(net.JoinHostPort("127.0.0.1", port), key)
	if err != nil {
		return nil, err
	}
	second, err := net.Listen("tcp", net.JoinHostPort("::1", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errors.Join(takenPort(addr, key), first.Close())
	}
	if err != nil { // a machine without IPv6
		return []net.Listener{first}, nil
	}
	return []net.Listener{first, second}, nil
}

// freePort is a port that was free a moment ago.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// urlOf is how a browser of this machine writes the address.
func urlOf(addr string, l net.Listener) *url.URL {
	host, _, _ := net.SplitHostPort(addr)
	if host == "" {
		host = "localhost"
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))}
}

// greet says where everything is.
func (c devCommand) greet(w io.Writer, issuer, mailbox, google *url.URL, demos []*workspace) error {
	var b strings.Builder
	fmt.Fprintln(&b, "Harmony ID is running on this machine. Ctrl-C stops it.")
	fmt.Fprintln(&b)
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for i, demo := range demos {
		hint := "signing in here as well asks nothing"
		if i == 0 {
			hint = "start here: open it and choose Sign in with Harmony"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", demo.name, demo.url, hint)
	}
	fmt.Fprintf(t, "  Harmony ID\t%s\tthe provider itself, with the account pages\n", issuer)
	fmt.Fprintf(t, "  Mailbox\t%s\tevery mail that would have been sent\n", mailbox)
	t.Flush()
	fmt.Fprintln(&b)
	t = tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "  Sign in as\twith the password")
	for _, person := range demoPeople {
		fmt.Fprintf(t, "  %s\t%s\n", person.Email, person.Password)
	}
	t.Flush()
	fmt.Fprintf(&b, "\n  Or continue with Google, for which %s stands in; the password is %s\n", google, standInPassword)
	t = tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, person := range standInPeople {
		fmt.Fprintf(t, "  %s\t%s\n", person.Email, person.shows)
	}
	t.Flush()
	fmt.Fprintf(&b, "\n  Data is kept in %s; --fresh starts anew.\n\n", c.Dir)
	_, err := io.WriteString(w, b.String())
	return err
}

// demoPeople are everybody's: dev serves this machine alone.
var demoPeople = []account.NewUser{
	{
		Email: "ada@example.com", EmailVerified: true, Name: "Ada Lovelace", Password: "note-g-by-lamplight-1843",
		Claims: account.Claims{
			GivenName: "Ada", FamilyName: "Lovelace", MiddleName: "King", Nickname: "Ada", PreferredUsername: "ada",
			Profile: "https://example.com/people/ada", Picture: "https://example.com/people/ada.png", Website: "https://ada.example.com",
			Gender: "female", Birthdate: "1815-12-10", Zoneinfo: "Europe/London", Locale: "en-GB",
			PhoneNumber: "+442079460018", PhoneNumberVerified: true,
			Address: &account.Address{
				Formatted:     "12 St James's Square\nLondon\nSW1Y 4JH\nUnited Kingdom",
				StreetAddress: "12 St James's Square", Locality: "London", Region: "Greater London", PostalCode: "SW1Y 4JH", Country: "United Kingdom",
			},
		},
	},
	{
		Email: "grace@example.com", EmailVerified: true, Name: "Grace Hopper", Password: "moth-in-relay-seventy",
		Claims: account.Claims{
			GivenName: "Grace", FamilyName: "Hopper", MiddleName: "Brewster", Nickname: "Amazing Grace", PreferredUsername: "grace",
			Profile: "https://example.com/people/grace", Picture: "https://example.com/people/grace.png", Website: "https://grace.example.com",
			Gender: "female", Birthdate: "1906-12-09", Zoneinfo: "America/New_York", Locale: "en-US",
			PhoneNumber: "+12025550143", PhoneNumberVerified: true,
			Address: &account.Address{
				Formatted:     "1 Navy Yard\nArlington, VA 22202\nUnited States",
				StreetAddress: "1 Navy Yard", Locality: "Arlington", Region: "VA", PostalCode: "22202", Country: "United States",
			},
		},
	},
	{
		Email: "alan@example.com", EmailVerified: true, Name: "Alan Turing", Password: "bombe-rotors-at-dawn",
		Claims: account.Claims{
			GivenName: "Alan", FamilyName: "Turing", MiddleName: "Mathison", Nickname: "Prof", PreferredUsername: "alan",
			Profile: "https://example.com/people/alan", Picture: "https://example.com/people/alan.png", Website: "https://alan.example.com",
			Gender: "male", Birthdate: "1912-06-23", Zoneinfo: "Europe/London", Locale: "en-GB",
			PhoneNumber: "+441614960312", PhoneNumberVerified: true,
			Address: &account.Address{
				Formatted:     "Hollymeade, Adlington Road\nWilmslow\nSK9 2BJ\nUnited Kingdom",
				StreetAddress: "Hollymeade, Adlington Road", Locality: "Wilmslow", Region: "Cheshire", PostalCode: "SK9 2BJ", Country: "United Kingdom",
			},
		},
	},
}
