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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
)

// serveSettings are what serve keeps to: those of every part of the provider.
type serveSettings struct {
	Issuer             string     `setting:"" placeholder:"URL" help:"Address of this provider, as people and workspaces write it: https://id.example.com. Fixed at the first start. Required."`
	EncryptionKeysFile string     `setting:"" placeholder:"FILE" help:"Keys that encrypt what the database keeps, as harmony-id secrets generate prints them. Required."`
	HTTPAddr           listenAddr `name:"http-addr" setting:"" default:":8080" placeholder:"ADDR" help:"Where to listen."`
	TLSCertFile        string     `name:"tls-cert-file" setting:"" placeholder:"FILE" help:"Certificate chain (PEM); read again when it changes. Without it a proxy in front ends TLS."`
	TLSKeyFile         string     `name:"tls-key-file" setting:"" placeholder:"FILE" help:"The certificate's key (PEM)."`
	TrustedProxies     networks   `setting:"" placeholder:"NETWORKS" help:"Proxies whose X-Forwarded-For and X-Request-Id are believed: 10.0.0.0/8,192.0.2.7. Default none."`

	adminSettings
	AdminPprof bool          `setting:"" placeholder:"BOOL" help:"Answer /debug/pprof on the admin listener, too, for whoever looks for what costs time or memory."`
	DrainDelay time.Duration `setting:"" default:"5s" placeholder:"TIME" help:"Told to stop, go on serving for so long while /readyz answers 503, so that a load balancer sends no more."`

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
}

type serveCommand struct {
	serveSettings

	Migrate           bool `help:"Migrate a PostgreSQL database at the start, as is always done with SQLite."`
	AllowIssuerChange bool `help:"Take the new issuer in place of the one that the database was first served under. Every workspace must then be configured anew."`
}

// Help shows an example.
func (serveCommand) Help() string {
	return example(`HARMONY_ID_ISSUER=https://id.example.com HARMONY_ID_ENCRYPTION_KEYS_FILE=keys.txt harmony-id serve`)
}

// check refuses settings that cannot be or do not fit together, each with what
// to write.
func (c serveSettings) check(p *program) (*url.URL, *secret.Ring, error) {
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
	for _, err := range []error{c.sessionSettings.check(), c.tokenSettings.check(), c.rotationSettings.check(), c.passwordSettings.check(), atLeast("drain-delay", c.DrainDelay, 0)} {
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

// A plan is settings that were read, checked and made into what a house is built
// from.
type plan struct {
	ring         *secret.Ring
	certificates *tls.Config // nil: a proxy ends TLS
	house        houseConfig
}

// plan reads everything that the settings name but the database. What is wrong is said
// with what to write. The caller closes the plan's places.
func (c serveSettings) plan(p *program) (*plan, error) {
	issuer, ring, err := c.check(p)
	if err != nil {
		return nil, err
	}
	out := &plan{ring: ring}
	if c.TLSCertFile != "" {
		if out.certificates, err = serveTLS(c.TLSCertFile, c.TLSKeyFile, p.log); err != nil {
			return nil, &exit{exitUsage, err}
		}
	}
	sender, from, err := c.sender(p)
	if err != nil {
		return nil, err
	}
	google, err := c.googleSettings.config(p)
	if err != nil {
		return nil, err
	}
	protocol := idpConfig(issuer, c.tokenSettings, c.rotationSettings, c.outboundSettings)
	if protocol.Roots, err = roots(c.OutboundCAFile); err != nil {
		return nil, usagef("%w", err)
	}
	places, err := c.places(p)
	if err != nil {
		return nil, err
	}
	out.house = houseConfig{
		issuer: issuer, account: accountConfig(c.sessionSettings, c.passwordSettings), idp: protocol,
		proxies: c.TrustedProxies, links: c.links(), places: places, mail: mail.Config{From: from}, sender: sender, google: google, log: p.log,
	}
	return out, nil
}

// unknownProxy reports whether a proxy seems to end TLS whose word is not believed.
func (c serveSettings) unknownProxy(issuer *url.URL) bool {
	return issuer.Scheme == "https" && c.TLSCertFile == "" && len(c.TrustedProxies) == 0
}

// Run serves until ctx ends, and then finishes what runs.
func (c serveCommand) Run(ctx context.Context, p *program) (err error) {
	plan, err := c.plan(p)
	if err != nil {
		return err
	}
	defer plan.house.places.Close()
	issuer := plan.house.issuer
	if c.unknownProxy(issuer) {
		p.log.Warn("a proxy seems to end TLS, and none is trusted: all people share one address, and with it the limit on attempts. Write " +
			variable("trusted-proxies") + "=ADDRESS of the proxy")
	}
	boundMemory(p.environ, c.HashMemory)
	listener, err := listen(string(c.HTTPAddr), "http-addr")
	if err != nil {
		return err
	}
	defer listener.Close() // the server closes it too; here if it never came to that
	adminListener, err := listen(string(c.AdminAddr), "admin-addr")
	if err != nil {
		return err
	}
	defer adminListener.Close()
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
	metrics := newMetrics()
	metrics.watch(&plan.house)
	house, err := newHouse(ctx, d, plan.ring, plan.house)
	if err != nil {
		return err
	}
	metrics.registry.MustRegister(newStateCollector(d))
	probes := &admin{db: d, keys: idp.NewKeys(d, nil), metrics: metrics, profiles: c.AdminPprof, log: p.log}
	server := newServer(house.handler, p.log)
	if server.TLSConfig = plan.certificates; plan.certificates != nil {
		listener = tls.NewListener(listener, plan.certificates)
	}
	if _, err := fmt.Fprintf(p.stdout, "Harmony ID serves %s on %s\n", issuer, listener.Addr()); err != nil {
		return err
	}
	p.log.Info("serving", "issuer", issuer.String(), "addr", listener.Addr().String(), "admin_addr", adminListener.Addr().String(), "database", d.Engine())
	adminServer := newServer(probes.handler(), p.log)
	adminServer.WriteTimeout = profileTimeout
	return serving{
		log: p.log, house: house, sites: []site{{server, []net.Listener{listener}}},
		admin: probes, adminSite: site{adminServer, []net.Listener{adminListener}},
		delay: c.DrainDelay, patience: drainTime,
	}.until(ctx)
}

// The bounds of a connection. A sign-in may wait 5 s for its turn to be hashed,
// and a slow phone may be slow to send it. Nobody holds a connection for longer than
// half a minute by sending or reading slowly (DOS-04).
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 20 * time.Second
	writeTimeout      = 30 * time.Second
	profileTimeout    = 2 * time.Minute // of the admin listener: a profile takes its time
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

// serving is what runs while the program serves.
type serving struct {
	log       *slog.Logger
	house     *house
	sites     []site
	admin     *admin        // nil: nobody is told how it goes
	adminSite site          // of admin
	delay     time.Duration // how long it goes on, told to stop, while admin says so
	patience  time.Duration // how long it then waits for what still runs
}

// until serves until ctx ends or a server fails. Told to stop, it first says so on
// the admin listener and goes on for its delay, and then stops accepting and waits up
// to its patience for what still runs. Meanwhile the house is kept, its mails are sent
// and its workspaces told of sessions that end.
func (s serving) until(ctx context.Context) error {
	broken, breaks := context.WithCancel(context.Background())
	defer breaks()
	work, rest := context.WithCancel(context.Background())
	defer rest()
	sites := s.sites
	if s.admin != nil {
		sites = append(slices.Clone(sites), s.adminSite)
	}
	var stopping atomic.Bool
	for _, one := range s.sites {
		one.server.Handler = parting(&stopping, one.server.Handler)
	}
	var servers, workers sync.WaitGroup
	failed := make(chan error, 2*len(sites))
	for _, one := range sites {
		for _, l := range one.listeners {
			servers.Go(func() {
				if err := one.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					failed <- fmt.Errorf("serving on %s: %w", l.Addr(), err)
					breaks()
				}
			})
		}
	}
	workers.Go(func() { keepHouse(work, s.log, s.house.clean) })
	workers.Go(func() { s.house.mail.Run(work) })
	workers.Go(func() { s.house.teller.Run(work) })
	select {
	case <-ctx.Done():
	case <-broken.Done():
	}
	began := time.Now()
	stopping.Store(true)
	s.log.Info("stopping", "after", s.delay.String(), "up_to", s.patience.String())
	if s.admin != nil {
		s.admin.draining.Store(true)
		select {
		case <-time.After(s.delay):
		case <-broken.Done():
		}
	}
	rest()
	drain, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	var drained sync.WaitGroup
	for _, one := range s.sites {
		drained.Go(func() { s.shutDown(drain, one) })
	}
	drained.Wait()
	workers.Wait()
	if s.admin != nil { // to the end: who watches sees how it goes
		s.shutDown(drain, s.adminSite)
	}
	servers.Wait()
	s.log.Info("stopped", "after_ms", time.Since(began).Milliseconds())
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// parting has answers that are given while the program stops end their connections.
// Those that are kept alive until it closes them may just then be written to, and that
// request would be lost.
func parting(stopping *atomic.Bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopping.Load() {
			w.Header().Set("Connection", "close") // HTTP/2 has it, too: net/http sends GOAWAY
		}
		next.ServeHTTP(w, r)
	})
}

func (s serving) shutDown(ctx context.Context, one site) {
	if err := one.server.Shutdown(ctx); err != nil {
		s.log.Info("connections were cut off", "error", err)
		one.server.Close()
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
