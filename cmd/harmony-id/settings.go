package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
	"github.com/harmony/id/templates"
)

// A setting is a field with the tag setting. Its key is spelt --http-addr on the
// command line, HARMONY_ID_HTTP_ADDR in the environment and http-addr in the
// file that --config names; the first of these that is there counts, else the
// field's default. A setting with the tag secret has a twin whose key ends in
// -file; that both are set is an error.

const environPrefix = "HARMONY_ID_"

// databaseSettings say where the data is.
type databaseSettings struct {
	DatabaseURL     string `setting:"" secret:"" default:"sqlite:harmony-id.db" placeholder:"URL" help:"Database: sqlite:FILE or postgres://USER@HOST/NAME. As a flag it may not hold a password: write it in the environment or in a file."`
	DatabaseURLFile string `setting:"" placeholder:"FILE" help:"File that holds the database's URL."`
}

// sessionSettings say how long people stay signed in.
type sessionSettings struct {
	SessionIdle time.Duration `setting:"" default:"72h" placeholder:"TIME" help:"A session ends when it was not used for so long."`
	SessionMax  time.Duration `setting:"" default:"720h" placeholder:"TIME" help:"A session ends after so long, however busy it is."`
}

// tokenSettings say how long workspaces may act on what a session gave them.
type tokenSettings struct {
	AccessTokenTTL time.Duration `name:"access-token-ttl" setting:"" default:"5m" placeholder:"TIME" help:"Life of an access token."`
	RefreshIdle    time.Duration `setting:"" default:"336h" placeholder:"TIME" help:"A refresh token dies when it was not used for so long."`
	RefreshMax     time.Duration `setting:"" default:"720h" placeholder:"TIME" help:"Refreshing ends after so long; never later than the session."`
	RefreshGrace   time.Duration `setting:"" default:"30s" placeholder:"TIME" help:"For so long a public client that refreshes twice gets the same new refresh token again."`
}

// outboundSettings say where the provider may go when a workspace's registration
// names an address.
type outboundSettings struct {
	AllowPrivateAddresses bool `setting:"" placeholder:"BOOL" help:"Let addresses that workspaces are registered with, such as --backchannel-logout-uri, be on this machine or a private network. An issuer on localhost always may."`
}

// roots are the system's certificate authorities and those of a file; nil without a
// file.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("outbound-ca-file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("outbound-ca-file: %s has no certificate (PEM)", file)
	}
	return pool, nil
}

// passwordSettings bound new passwords and the cost of checking them.
type passwordSettings struct {
	PasswordMinLength int      `setting:"" default:"12" placeholder:"N" help:"Least number of characters of a new password; 8 at least."`
	HashMemory        byteSize `setting:"" default:"256MiB" placeholder:"SIZE" help:"Memory for hashing passwords at once; who finds it taken waits."`
}

// mailSettings say how mail leaves.
type mailSettings struct {
	SMTPURL     string `name:"smtp-url" setting:"" secret:"" placeholder:"URL" help:"Mail server: smtps://USER:PASSWORD@HOST (TLS from the start) or smtp://USER:PASSWORD@HOST (STARTTLS, which only a server on this machine may lack). As a flag it may not hold a password. Required."`
	SMTPURLFile string `name:"smtp-url-file" setting:"" placeholder:"FILE" help:"File that holds the mail server's URL."`
	MailFrom    string `setting:"" placeholder:"ADDRESS" help:"Sender of every mail, as no-reply@example.com or Harmony <no-reply@example.com>. Required."`
}

// googleSettings say who signs in with Google.
type googleSettings struct {
	GoogleClientID         string   `name:"google-client-id" setting:"" placeholder:"ID" help:"Client id that Google gave to this provider. Without it nobody signs in with Google."`
	GoogleClientSecret     string   `name:"google-client-secret" setting:"" secret:"" placeholder:"SECRET" help:"Client secret that came with it; not as a flag."`
	GoogleClientSecretFile string   `name:"google-client-secret-file" setting:"" placeholder:"FILE" help:"File that holds the client secret."`
	GoogleDomains          []string `name:"google-domains" setting:"" placeholder:"DOMAINS" help:"Google Workspace domains (hd) whose people may sign in, with commas between. Default everybody."`
	GoogleSignUp           bool     `name:"google-sign-up" setting:"" default:"true" negatable:"" placeholder:"BOOL" help:"Make an account for who comes from Google for the first time."`
	GoogleIssuer           string   `name:"google-issuer" setting:"" default:"https://accounts.google.com" placeholder:"URL" help:"OpenID provider that stands in for Google; needs --google-other-issuer."`
	GoogleOtherIssuer      bool     `name:"google-other-issuer" setting:"" placeholder:"BOOL" help:"Take another google-issuer than Google's own: whoever runs it decides who gets into every Google account."`
}

// config is what login keeps to, nil if nobody signs in with Google.
func (s googleSettings) config(p *program) (*login.GoogleConfig, error) {
	secret := s.GoogleClientSecret
	if s.GoogleClientSecretFile != "" {
		text, err := readSecret(s.GoogleClientSecretFile)
		if err != nil {
			return nil, usagef("%s: %w", p.settings.origin("google-client-secret-file"), err)
		}
		secret = strings.TrimSpace(string(text))
	}
	switch {
	case p.settings.origin("google-client-secret") == "--google-client-secret":
		return nil, usagef("--google-client-secret can be read by every user of the machine: write it in %s or name a file with --google-client-secret-file", variable("google-client-secret"))
	case s.GoogleClientID == "" && secret == "":
		return nil, nil
	case s.GoogleClientID == "" || secret == "":
		return nil, usagef("google-client-id and google-client-secret belong together: set the other one too")
	}
	if s.GoogleIssuer != login.GoogleIssuer {
		if !s.GoogleOtherIssuer {
			return nil, usagef("google-issuer is %s and not Google: whoever runs it decides who gets into every Google account here. Write --google-other-issuer if you mean it", s.GoogleIssuer)
		}
		if _, err := parseIssuer(strings.TrimSuffix(s.GoogleIssuer, "/")); err != nil {
			return nil, usagef("google-issuer: %w", err)
		}
		p.log.Warn("people of google sign in with another OpenID provider", "google_issuer", s.GoogleIssuer)
	}
	cfg := &login.GoogleConfig{Issuer: s.GoogleIssuer, ClientID: s.GoogleClientID, Secret: secret, SignUp: s.GoogleSignUp}
	for _, d := range s.GoogleDomains {
		if d = strings.ToLower(strings.TrimSpace(d)); d != "" {
			cfg.Domains = append(cfg.Domains, d)
		}
	}
	if len(s.GoogleDomains) > 0 && len(cfg.Domains) == 0 || slices.ContainsFunc(cfg.Domains, func(d string) bool { return strings.ContainsAny(d, "@ */") }) {
		return nil, usagef("%s: %q are not domains: write them as example.com,example.org", p.settings.origin("google-domains"), s.GoogleDomains)
	}
	return cfg, nil
}

// placeSettings say where addresses are.
type placeSettings struct {
	GeoIPFile string `name:"geoip-file" setting:"" placeholder:"FILE" help:"MaxMind database (mmdb) that knows where addresses are. Without it pages and mails name none."`
}

// linkSettings are the links at the foot of the pages; one that is not set is
// not shown.
type linkSettings struct {
	SupportURL pageURL `setting:"" placeholder:"URL" help:"Where people find help: https://… or mailto:…"`
	PrivacyURL pageURL `setting:"" placeholder:"URL" help:"Privacy notice."`
	TermsURL   pageURL `setting:"" placeholder:"URL" help:"Terms of use."`
}

func (s databaseSettings) url(p *program) (string, error) {
	if s.DatabaseURLFile != "" {
		text, err := readSecret(s.DatabaseURLFile)
		if err != nil {
			return "", usagef("%s: %w", p.settings.origin("database-url-file"), err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	if p.settings.origin("database-url") == "--database-url" {
		if u, err := url.Parse(s.DatabaseURL); err != nil || hasPassword(u) {
			return "", usagef("--database-url holds a password, which every user of the machine can read there: write it in %s or name a file with --database-url-file", variable("database-url"))
		}
	}
	return s.DatabaseURL, nil
}

// url is the mail server's URL, "" if none is set.
func (s mailSettings) url(p *program) (string, error) {
	if s.SMTPURLFile != "" {
		text, err := readSecret(s.SMTPURLFile)
		if err != nil {
			return "", usagef("%s: %w", p.settings.origin("smtp-url-file"), err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	if p.settings.origin("smtp-url") == "--smtp-url" {
		if u, err := url.Parse(s.SMTPURL); err != nil || hasPassword(u) {
			return "", usagef("--smtp-url holds a password, which every user of the machine can read there: write it in %s or name a file with --smtp-url-file", variable("smtp-url"))
		}
	}
	return s.SMTPURL, nil
}

// sender is the way to the mail server, with the sender's address. What is wrong
// is said with what to write.
func (s mailSettings) sender(p *program) (*mail.SMTP, string, error) {
	at, err := s.url(p)
	switch {
	case err != nil:
		return nil, "", err
	case at == "":
		return nil, "", usagef("people are told by email of what happens to their account: write %s=smtps://USER:PASSWORD@HOST or name a file with %s", variable("smtp-url"), variable("smtp-url-file"))
	case s.MailFrom == "":
		return nil, "", usagef("mails need a sender: write %s=no-reply@example.com", variable("mail-from"))
	}
	server, err := mail.NewSMTP(at)
	if err != nil {
		return nil, "", usagef("%s: %w", cmp.Or(p.settings.origin("smtp-url"), p.settings.origin("smtp-url-file")), err)
	}
	from, err := mail.ParseFrom(s.MailFrom)
	if err != nil {
		return nil, "", usagef("%s: %w", p.settings.origin("mail-from"), err)
	}
	return server, from, nil
}

// places opens the database of places; nil without one.
func (s placeSettings) places(p *program) (*device.Places, error) {
	if s.GeoIPFile == "" {
		return nil, nil
	}
	places, err := device.OpenPlaces(s.GeoIPFile)
	if err != nil {
		return nil, usagef("%s: %w", p.settings.origin("geoip-file"), err)
	}
	return places, nil
}

// hasPassword reports whether a URL holds a password, or that of a client key.
func hasPassword(u *url.URL) bool {
	_, set := u.User.Password()
	return set || u.Query().Has("password") || u.Query().Has("sslpassword")
}

func (s sessionSettings) check() error {
	return errors.Join(
		atLeast("session-idle", s.SessionIdle, time.Minute),
		atLeast("session-max", s.SessionMax, time.Minute),
		notAbove("session-idle", s.SessionIdle, "session-max", s.SessionMax))
}

func (s tokenSettings) check() error {
	return errors.Join(
		atLeast("access-token-ttl", s.AccessTokenTTL, time.Second),
		atLeast("refresh-idle", s.RefreshIdle, time.Second),
		atLeast("refresh-max", s.RefreshMax, time.Second),
		atLeast("refresh-grace", s.RefreshGrace, 0),
		notAbove("access-token-ttl", s.AccessTokenTTL, "refresh-max", s.RefreshMax),
		notAbove("refresh-idle", s.RefreshIdle, "refresh-max", s.RefreshMax),
		notAbove("refresh-grace", s.RefreshGrace, "refresh-idle", s.RefreshIdle))
}

// The bounds of a password's least length: ASVS 6.2.1, and what people can be
// asked for (ASVS 6.2.9).
const minPasswordLength, maxPasswordLength = 8, 64

// oneHash is the memory of one password hash (pages.md: Argon2id, m = 19 MiB).
const oneHash = byteSize(19 << 20)

func (s passwordSettings) check() error {
	if s.PasswordMinLength < minPasswordLength || s.PasswordMinLength > maxPasswordLength {
		return fmt.Errorf("password-min-length is %d: write a number from %d to %d", s.PasswordMinLength, minPasswordLength, maxPasswordLength)
	}
	if s.HashMemory < oneHash {
		return fmt.Errorf("hash-memory is %s, too little for one password: write %s or more", s.HashMemory, oneHash)
	}
	return nil
}

func (s linkSettings) links() templates.Links {
	return templates.Links{Support: string(s.SupportURL), Privacy: string(s.PrivacyURL), Terms: string(s.TermsURL)}
}

func atLeast(key string, v, least time.Duration) error {
	if v < least {
		return fmt.Errorf("%s is %s: write %s or more", key, v, least)
	}
	return nil
}

func notAbove(key string, v time.Duration, bound string, most time.Duration) error {
	if v > most {
		return fmt.Errorf("%s (%s) is more than %s (%s): lower the first or raise the second", key, v, bound, most)
	}
	return nil
}

// accountConfig is what account keeps to.
func accountConfig(s sessionSettings, p passwordSettings) account.Config {
	return account.Config{
		HashMemory: int64(p.HashMemory), PasswordMinLength: p.PasswordMinLength,
		SessionIdle: s.SessionIdle, SessionMax: s.SessionMax,
	}
}

// idpConfig is what idp keeps to.
func idpConfig(issuer *url.URL, s tokenSettings, r rotationSettings, o outboundSettings) idp.Config {
	return idp.Config{
		Issuer: issuer.String(), AccessTokenTTL: s.AccessTokenTTL,
		RefreshIdle: s.RefreshIdle, RefreshMax: s.RefreshMax, RefreshGrace: s.RefreshGrace,
		Rotation:     r.rotation(),
		AllowPrivate: o.AllowPrivateAddresses || loopback(issuer.Hostname()),
	}
}

// parseIssuer reads an issuer: https://HOST[:PORT] and nothing more, or http
// where the host is this machine.
func parseIssuer(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, fmt.Errorf("issuer %q is not a URL: write it as https://id.example.com", s)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, fmt.Errorf("issuer %q has more than a host: write it as https://%s", s, u.Host)
	case u.Path != "":
		return nil, fmt.Errorf("issuer %q has a path: write it as %s://%s, without a slash at the end", s, u.Scheme, u.Host)
	case u.Host != strings.ToLower(u.Host) || strings.HasSuffix(u.Hostname(), "."):
		return nil, fmt.Errorf("issuer %q is compared letter by letter: write it as %s://%s", s, u.Scheme, strings.ToLower(strings.TrimSuffix(u.Host, ".")))
	case u.Port() == map[string]string{"https": "443", "http": "80"}[u.Scheme]:
		return nil, fmt.Errorf("issuer %q names the port that %s has anyway: write it as %s://%s", s, u.Scheme, u.Scheme, u.Hostname())
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("issuer %q is http, which anyone on the way can read and change: write https://%s (http is for localhost alone)", s, u.Host)
	}
	return u, nil
}

// loopback reports whether a host is this machine and no other.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// readRing reads the encryption keys. It never makes them.
func readRing(p *program, file string) (*secret.Ring, error) {
	text, err := readSecret(file)
	if err != nil {
		return nil, usagef("%s: %w", p.settings.origin("encryption-keys-file"), err)
	}
	ring, err := secret.ParseRing(text)
	if err != nil {
		return nil, usagef("%s: %s: %w; harmony-id secrets generate prints a right one", p.settings.origin("encryption-keys-file"), file, err)
	}
	return ring, nil
}

// maxSecretFile bounds a file that holds a secret or settings.
const maxSecretFile = 1 << 20

// readSecret reads a file that must be nobody else's to read.
func readSecret(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0 {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	if err := private(name, info); err != nil {
		return nil, err
	}
	if info.Size() > maxSecretFile {
		return nil, fmt.Errorf("%s has %d bytes: that is no file of secrets", name, info.Size())
	}
	return os.ReadFile(name)
}

// private refuses a file that every user of the machine may read. Windows keeps
// no such bits.
func private(name string, info os.FileInfo) error {
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s can be read by every user of this machine (mode %04o): run chmod 600 %s", name, info.Mode().Perm(), name)
	}
	return nil
}

// A byteSize is a number of bytes, written as 268435456, 256MiB or 1GiB.
type byteSize int64

var byteUnits = []struct {
	name string
	size byteSize
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

// UnmarshalText reads a size.
func (b *byteSize) UnmarshalText(text []byte) error {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > int64(1<<62/u.size) {
			break
		}
		*b = byteSize(n) * u.size
		return nil
	}
	return fmt.Errorf("%q is not a size: write it as 256MiB", text)
}

func (b byteSize) String() string {
	for _, u := range byteUnits {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// A pageURL is a link that people can follow.
type pageURL string

// UnmarshalText reads a link.
func (p *pageURL) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" || err == nil && u.Scheme == "mailto" && u.Opaque != "" {
		*p = pageURL(text)
		return nil
	}
	return fmt.Errorf("%q is not a link: write it as https://example.com/help or mailto:help@example.com", text)
}

// A listenAddr is where a server listens: HOST:PORT or :PORT.
type listenAddr string

// UnmarshalText reads an address.
func (l *listenAddr) UnmarshalText(text []byte) error {
	_, port, err := net.SplitHostPort(string(text))
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not an address: write it as :8080 or 127.0.0.1:8080", text)
	}
	*l = listenAddr(text)
	return nil
}

// networks are addresses and networks with commas between them.
type networks []netip.Prefix

// UnmarshalText reads a list.
func (n *networks) UnmarshalText(text []byte) error {
	*n = nil
	for s := range strings.SplitSeq(string(text), ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			*n = append(*n, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("%q is not a network: write it as 10.0.0.0/8", s)
		}
		if p.Bits() == 0 {
			return fmt.Errorf("%s is every address there is, and so anyone could pose as anyone: name your proxies' network", s)
		}
		*n = append(*n, p.Masked())
	}
	return nil
}

func (n networks) String() string {
	all := make([]string, 0, len(n))
	for _, p := range n {
		if p.IsSingleIP() {
			all = append(all, p.Addr().String())
		} else {
			all = append(all, p.String())
		}
	}
	return strings.Join(all, ",")
}

// A logFormat is json or text.
type logFormat string

const (
	logJSON logFormat = "json"
	logText logFormat = "text"
)

// UnmarshalText reads a format.
func (f *logFormat) UnmarshalText(text []byte) error {
	if v := logFormat(text); v != logJSON && v != logText {
		return fmt.Errorf("%q is not a log format: write json or text", text)
	}
	*f = logFormat(text)
	return nil
}

// configFile names the file of settings. It has two spellings: a file cannot
// name another.
type configFile string

// BeforeResolve makes the name that stands on the command line known to the
// sources before they are asked for anything.
func (configFile) BeforeResolve(ctx *kong.Context, trace *kong.Path, s *sources) error {
	if name, ok := ctx.FlagValue(trace.Flag).(configFile); ok && name != "" {
		s.path = string(name)
	}
	return nil
}

const configKey = "config"

// sources are where settings come from besides the command line.
type sources struct {
	path    string            // the file
	environ map[string]string // by variable; empty ones are as good as not there
	file    map[string]fileValue
	read    bool
	keys    map[string]*kong.Flag // what can be set at all
	origins map[string]string     // key → where its value was written
}

type fileValue struct {
	text string
	line int
}

// A settingError is a setting that cannot be. It says where it stands and what
// to write.
type settingError struct {
	origin string
	err    error
}

func (e *settingError) Error() string { return e.origin + ": " + e.err.Error() }
func (e *settingError) Unwrap() error { return e.err }

func newSources(environ []string) *sources {
	s := &sources{environ: map[string]string{}, origins: map[string]string{}}
	for _, e := range environ {
		if name, value, _ := strings.Cut(e, "="); strings.HasPrefix(name, environPrefix) && value != "" {
			s.environ[name] = value
		}
	}
	s.path = s.environ[variable(configKey)]
	return s
}

// settingsGroup is the settings' own part of --help.
var settingsGroup = &kong.Group{Key: "settings", Title: "Settings (as a flag, as a variable of the environment, or as a line \"key = value\" of the file):"}

// know collects the settings of every command: a variable may be there for
// another command than the one that runs.
func (s *sources) know(app *kong.Application) {
	s.keys = map[string]*kong.Flag{}
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error { // the visitor returns no error
		if f, ok := node.(*kong.Flag); ok && f.Tag.Has("setting") {
			s.keys[f.Name] = f
			f.Group = settingsGroup
		}
		return next(nil)
	})
}

// origin says where a setting's value was written, "" for its default.
func (s *sources) origin(key string) string { return s.origins[key] }

// Validate is nothing: what nobody knows, load refuses.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve gives the parser the value of a flag that is not on the command line.
func (s *sources) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !flag.Tag.Has("setting") || flag.Name == configKey {
		return nil, nil
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	text, origin := s.environ[variable(flag.Name)], variable(flag.Name)
	if text == "" {
		v, ok := s.file[flag.Name]
		if !ok {
			return nil, nil
		}
		text, origin = v.text, fmt.Sprintf("%s line %d", s.path, v.line)
	}
	s.origins[flag.Name] = origin
	trial := reflect.New(flag.Target.Type()).Elem()
	if err := flag.Parse(kong.Scan().PushTyped(text, kong.FlagValueToken), trial); err != nil {
		return nil, &settingError{origin, cmp.Or(errors.Unwrap(err), err)}
	}
	return text, nil
}

// load reads the file once and refuses every key and variable that nobody knows.
func (s *sources) load() error {
	if s.read {
		return nil
	}
	s.read = true
	for _, name := range slices.Sorted(maps.Keys(s.environ)) {
		key := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, environPrefix), "_", "-"))
		if s.keys[key] == nil || variable(key) != name {
			return &settingError{name, fmt.Errorf("there is no such setting%s", s.guess(key, variable))}
		}
	}
	if s.path == "" {
		return nil
	}
	return s.loadFile()
}

func (s *sources) loadFile() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return &settingError{configKey, err}
	}
	if info.Size() > maxSecretFile {
		return &settingError{configKey, fmt.Errorf("%s has %d bytes: that is no file of settings", s.path, info.Size())}
	}
	text, err := os.ReadFile(s.path)
	if err != nil {
		return &settingError{configKey, err}
	}
	s.file = map[string]fileValue{}
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	lines.Buffer(nil, maxSecretFile)
	for n := 1; lines.Scan(); n++ {
		refuse := func(format string, args ...any) error {
			return &settingError{fmt.Sprintf("%s line %d", s.path, n), fmt.Errorf(format, args...)}
		}
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !utf8.ValidString(line) {
			return refuse("this is not UTF-8 text")
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			return refuse("write it as key = value")
		}
		if key == configKey {
			return refuse("a file of settings cannot name another")
		}
		flag := s.keys[key]
		if flag == nil {
			return refuse("there is no setting %q%s", key, s.guess(key, func(k string) string { return k }))
		}
		if first, ok := s.file[key]; ok {
			return refuse("%s stands in line %d already", key, first.line)
		}
		if strings.HasPrefix(value, `"`) {
			if value, err = strconv.Unquote(value); err != nil {
				return refuse("the quotation marks around the value do not fit together")
			}
		}
		if value == "" {
			return refuse("%s has no value: write one, or take the line out", key)
		}
		if flag.Tag.Has("secret") {
			if err := private(s.path, info); err != nil {
				return refuse("%s is a secret, and %w", key, err)
			}
		}
		s.file[key] = fileValue{value, n}
	}
	if err := lines.Err(); err != nil {
		return &settingError{configKey, fmt.Errorf("%s: %w", s.path, err)}
	}
	return nil
}

// check notes what stood on the command line and refuses secrets that are given
// twice.
func (s *sources) check(parsed *kong.Context) error {
	if err := s.load(); err != nil { // a command without settings asked for none
		return usageError(err)
	}
	for _, path := range parsed.Path {
		if path.Flag != nil && !path.Resolved {
			s.origins[path.Flag.Name] = "--" + path.Flag.Name
		}
	}
	for key, flag := range s.keys {
		a, b := s.origin(key), s.origin(key+"-file")
		if flag.Tag.Has("secret") && a != "" && b != "" {
			return usagef("%s and %s are both set: take one of them out", a, b)
		}
	}
	return nil
}

// guess proposes the known key that is nearest to what was written.
func (s *sources) guess(key string, spell func(string) string) string {
	key = strings.ToLower(strings.ReplaceAll(key, "_", "-"))
	key = strings.TrimPrefix(key, "harmony-id-")
	best, distance := "", 1+len(key)/3
	for _, k := range slices.Sorted(maps.Keys(s.keys)) {
		if d := editDistance(key, k); d <= distance && (best == "" || d < editDistance(key, best)) {
			best = k
		}
	}
	if best == "" {
		return "; harmony-id serve --help lists them"
	}
	return fmt.Sprintf(", did you mean %s?", spell(best))
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// describe is a flag's line in --help: what it does, its default, its other
// spelling.
func describe(v *kong.Value) string {
	text := v.Help
	if v.Flag == nil || !v.Tag.Has("setting") {
		return text
	}
	if v.HasDefault {
		text += " Default " + v.Default + "."
	}
	return text + " (" + variable(v.Name) + ")"
}
