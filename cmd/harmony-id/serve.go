package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
)

type serveCommand struct {
	Issuer             string     `setting:"" placeholder:"URL" help:"Address of this provider, as people and workspaces write it: https://id.example.com. Fixed at the first start. Required."`
	EncryptionKeysFile string     `setting:"" placeholder:"FILE" help:"Keys that encrypt what the database keeps, as harmony-id secrets generate prints them. Required."`
	HTTPAddr           listenAddr `name:"http-addr" setting:"" default:":8080" placeholder:"ADDR" help:"Where to listen."`
	TLSCertFile        string     `name:"tls-cert-file" setting:"" placeholder:"FILE" help:"Certificate chain (PEM); read again when it changes. Without it a proxy in front ends TLS."`
	TLSKeyFile         string     `name:"tls-key-file" setting:"" placeholder:"FILE" help:"The certificate's key (PEM)."`
	TrustedProxies     networks   `setting:"" placeholder:"NETWORKS" help:"Proxies whose X-Forwarded-For is believed: 10.0.0.0/8,192.0.2.7. Default none."`

	databaseSettings
	sessionSettings
	tokenSettings
	rotationSettings
	outboundSettings
	OutboundCAFile string `name:"outbound-ca-file" setting:"" placeholder:"FILE" help:"Further certificate authorities (PEM) that workspaces' servers may have their certificates from, besides the system's."`
	passwordSettings
	mailSettings
	googleSettings
	placeSettings
	linkSettings

	Migrate           bool `help:"Migrate a PostgreSQL database at the start, as is always done with SQLite."`
	AllowIssuerChange bool `help:"Take the new issuer in place of the one that the database was first served under. Every workspace must then be configured anew."`
}

// Help shows an example.
func (serveCommand) Help() string {
	return example(`HARMONY_ID_ISSUER=https://id.example.com HARMONY_ID_ENCRYPTION_KEYS_FILE=keys.txt harmony-id serve`)
}

// check refuses settings that cannot be or do not fit together, each with what
// to write.
func (c serveCommand) check(p *program) (*url.URL, *secret.Ring, error) {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var issuer *url.URL
	if c.Issuer == "" {
		refuse("serve needs its own address: write %s=https://id.example.com (to try it on this machine: harmony-id dev)", variable("issuer"))
	} else {
		var err error
		if issuer, err = parseIssuer(c.Issuer); err != nil {
			refuse("%s: %w", p.settings.origin("issuer"), err)
		}
	}
	if c.EncryptionKeysFile == "" {
		refuse("serve needs encryption keys: run (umask 077; harmony-id secrets generate > keys.txt) and write %s=keys.txt", variable("encryption-keys-file"))
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		refuse("tls-cert-file and tls-key-file belong together: set the other one too")
	}
	if c.TLSCertFile != "" && issuer != nil && issuer.Scheme != "https" {
		refuse("there is a TLS certificate but the issuer is %s: write https://%s", issuer, issuer.Host)
	}
	for _, err := range []error{c.sessionSettings.check(), c.tokenSettings.check(), c.rotationSettings.check(), c.passwordSettings.check()} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, &exit{exitUsage, err}
	}
	ring, err := readRing(p, c.EncryptionKeysFile)
	return issuer, ring, err
}

// Run serves until ctx ends, and then finishes what runs.
func (c serveCommand) Run(ctx context.Context, p *program) (err error) {
	issuer, ring, err := c.check(p)
	if err != nil {
		return err
	}
	var certificates *tls.Config
	if c.TLSCertFile != "" {
		if certificates, err = serveTLS(c.TLSCertFile, c.TLSKeyFile, p.log); err != nil {
			return &exit{exitUsage, err}
		}
	}
	if issuer.Scheme == "https" && c.TLSCertFile == "" && len(c.TrustedProxies) == 0 {
		p.log.Warn("a proxy seems to end TLS, and none is trusted: all people share one address, and with it the limit on attempts. Write " +
			variable("trusted-proxies") + "=ADDRESS of the proxy")
	}
	sender, from, err := c.sender(p)
	if err != nil {
		return err
	}
	google, err := c.googleSettings.config(p)
	if err != nil {
		return err
	}
	places, err := c.places(p)
	if err != nil {
		return err
	}
	defer places.Close()
	boundMemory(p.environ, c.HashMemory)
	listener, err := listen(string(c.HTTPAddr), "http-addr")
	if err != nil {
		return err
	}
	defer listener.Close() // the server closes it too; here if it never came to that
	use := useToServe
	if c.Migrate {
		use = useAndMigrate
	}
	d, err := p.openDatabase(ctx, c.databaseSettings, use)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	err = idp.FreezeIssuer(ctx, d, issuer.String(), c.AllowIssuerChange)
	if errors.Is(err, idp.ErrOtherIssuer) {
		return usagef("%w. Every workspace knows the provider by its issuer. Write %s as it was, or --allow-issuer-change, this once, and then configure every workspace anew", err, variable("issuer"))
	}
	if err != nil {
		return err
	}
	protocol := idpConfig(issuer, c.tokenSettings, c.rotationSettings, c.outboundSettings)
	if protocol.Roots, err = roots(c.OutboundCAFile); err != nil {
		return usagef("%w", err)
	}
	house, err := newHouse(ctx, d, ring, houseConfig{
		issuer: issuer, account: accountConfig(c.sessionSettings, c.passwordSettings), idp: protocol,
		proxies: c.TrustedProxies, links: c.links(), places: places, mail: mail.Config{From: from}, sender: sender, google: google, log: p.log,
	})
	if err != nil {
		return err
	}
	server := newServer(house.handler, p.log)
	if server.TLSConfig = certificates; certificates != nil {
		listener = tls.NewListener(listener, certificates)
	}
	if _, err := fmt.Fprintf(p.stdout, "Harmony ID serves %s on %s\n", issuer, listener.Addr()); err != nil {
		return err
	}
	return serveUntil(ctx, p.log, drainTime, house, site{server, []net.Listener{listener}})
}

// The bounds of a connection. A sign-in may wait 5 s for its turn to be hashed,
// and a slow phone may be slow to send it.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeader         = 16 << 10
	drainTime         = 25 * time.Second
	cleanEvery        = time.Minute
)

func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // TLS handshakes with strangers, mostly
	}
}

// listen opens a port. key names the setting in the error.
func listen(addr, key string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, takenPort(addr, key)
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", key, err)
	}
	return l, nil
}

func takenPort(addr, key string) error {
	_, port, _ := net.SplitHostPort(addr)
	return fmt.Errorf("port %s is taken: stop what listens there, or choose another port with --%s", port, key)
}

// A site is a server and where it listens.
type site struct {
	server    *http.Server
	listeners []net.Listener
}

// serveUntil serves until ctx ends or a server fails, then stops accepting and
// waits up to patience for what still runs. Meanwhile the house is kept, its mails
// are sent and its workspaces told of sessions that end.
func serveUntil(ctx context.Context, log *slog.Logger, patience time.Duration, h *house, sites ...site) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	failed := make(chan error, 2*len(sites))
	for _, s := range sites {
		for _, l := range s.listeners {
			all.Go(func() {
				if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					failed <- fmt.Errorf("serving on %s: %w", l.Addr(), err)
					stop()
				}
			})
		}
	}
	all.Go(func() { keepHouse(ctx, log, h.clean) })
	all.Go(func() { h.mail.Run(ctx) })
	all.Go(func() { h.teller.Run(ctx) })
	<-ctx.Done()
	began := time.Now()
	log.Info("stopping", "up_to", patience.String())
	drain, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var drained sync.WaitGroup
	for _, s := range sites {
		drained.Go(func() {
			if err := s.server.Shutdown(drain); err != nil {
				log.Info("connections were cut off", "error", err)
				s.server.Close()
			}
		})
	}
	drained.Wait()
	all.Wait()
	log.Info("stopped", "after_ms", time.Since(began).Milliseconds())
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// keepHouse deletes what has expired, every minute until ctx ends.
func keepHouse(ctx context.Context, log *slog.Logger, clean func(context.Context) error) {
	every := time.NewTicker(cleanEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			if err := clean(ctx); err != nil && ctx.Err() == nil {
				log.Error("house-keeping", "error", err)
			}
		}
	}
}

// restMemory is what the program needs besides the passwords that it hashes.
const restMemory = 48 << 20

// boundMemory keeps the collector from letting the memory of finished password
// hashes pile up: each leaves 19 MiB. No more hashes run at once than there are
// processors, nor than hashing holds. Who sets GOMEMLIMIT or GOGC decides.
func boundMemory(environ []string, hashing byteSize) {
	for _, e := range environ {
		if strings.HasPrefix(e, "GOMEMLIMIT=") || strings.HasPrefix(e, "GOGC=") {
			return
		}
	}
	atOnce := min(int64(runtime.GOMAXPROCS(0)), int64(hashing/oneHash))
	debug.SetMemoryLimit(restMemory + atOnce*int64(oneHash))
}

// A certificate is read from its files again when they change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	version time.Time // the younger file's
	looked  time.Time
}

// lookEvery bounds how often the files are looked at.
const lookEvery = 10 * time.Second

func serveTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}, nil
}

func (c *certificate) changed() (time.Time, error) {
	cert, err := os.Stat(c.certFile)
	if err != nil {
		return time.Time{}, fmt.Errorf("tls-cert-file: %w", err)
	}
	key, err := os.Stat(c.keyFile)
	if err != nil {
		return time.Time{}, fmt.Errorf("tls-key-file: %w", err)
	}
	if key.ModTime().After(cert.ModTime()) {
		return key.ModTime(), nil
	}
	return cert.ModTime(), nil
}

func (c *certificate) load() error {
	version, err := c.changed()
	if err != nil {
		return err
	}
	certText, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("tls-cert-file: %w", err)
	}
	keyText, err := readSecret(c.keyFile)
	if err != nil {
		return fmt.Errorf("tls-key-file: %w", err)
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return fmt.Errorf("tls-cert-file and tls-key-file: %w", err)
	}
	c.current, c.version, c.looked = &pair, version, time.Now()
	return nil
}

// get is the certificate for a handshake. Files that are not right at the
// moment, as in the middle of a renewal, leave the old one in place.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.current, nil
	}
	c.looked = time.Now()
	version, err := c.changed()
	if err == nil && !version.Equal(c.version) {
		err = c.load()
	}
	if err != nil {
		c.log.Error("reading the certificate again; the old one stays", "error", err)
	}
	return c.current, nil
}
