package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/gorilla/mux"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/device"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/login"
	"github.com/harmony/id/mail"
	"github.com/harmony/id/secret"
	"github.com/harmony/id/security"
	"github.com/harmony/id/session"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// A houseConfig is what a provider is made from besides its database and keys.
type houseConfig struct {
	issuer  *url.URL
	account account.Config
	idp     idp.Config
	proxies []netip.Prefix
	links   templates.Links
	places  *device.Places // nil: no address has a place
	mail    mail.Config    // Issuer and Links are filled in
	sender  mail.Sender
	google  *login.GoogleConfig // nil: nobody signs in with Google; RedirectURL is filled in
	standIn bool                // dev's stand-in for Google: another look, other cookies
	log     *slog.Logger

	answered func(status int, took time.Duration) // is told of each answer; nil: nobody is
}

// A house is the provider, assembled.
type house struct {
	handler  http.Handler
	accounts *account.Store
	clients  *idp.Clients
	mail     *mail.Worker                // tells people what happened; its Run is the caller's to start
	teller   *idp.Teller                 // tells workspaces that sessions ended; so is its Run
	clean    func(context.Context) error // house-keeping, every minute or so
}

// newHouse assembles the provider over a migrated database. All its routes are
// here.
func newHouse(ctx context.Context, d *db.DB, ring *secret.Ring, cfg houseConfig) (*house, error) {
	if err := idp.EnsureKeys(ctx, d, ring); err != nil {
		return nil, err
	}
	if !cfg.standIn { // a host has one relying party, whatever the port
		cfg.account.Issuer = cfg.issuer
	}
	accounts := account.New(d, ring, cfg.account)
	cookies := ""
	if cfg.standIn { // another port of the same host shares its cookies
		cookies = "google-"
	}
	sessions := session.New(accounts, cfg.issuer, cfg.account.SessionMax, cookies)
	provider, err := idp.New(d, ring, sessions, cfg.idp)
	if err != nil {
		return nil, fmt.Errorf("assembling the provider: %w", err)
	}
	if err := provider.Load(ctx); err != nil {
		return nil, err
	}

	letters := cfg.mail
	letters.Issuer, letters.Links = cfg.issuer, cfg.links
	worker := mail.NewWorker(accounts, cfg.sender, letters, cfg.places, cfg.log)

	r := mux.NewRouter()
	provider.Routes(r)
	var google *login.Google
	if cfg.google != nil {
		c := *cfg.google
		c.RedirectURL = cfg.issuer.JoinPath("/login/google/callback").String()
		google = login.NewGoogle(c)
	}
	(&login.Handler{
		Accounts: accounts, Sessions: sessions, Google: google, PasswordMinLength: accounts.PasswordMinLength(),
		Pending: func(r *http.Request, to string, in *account.Session) (*login.Pending, error) {
			p, err := provider.Pending(r, to, in)
			return (*login.Pending)(p), err
		},
	}).Routes(r)
	(&security.Handler{
		Accounts: accounts, Sessions: sessions, Places: cfg.places, Issuer: cfg.issuer.String(),
		PasswordMinLength: accounts.PasswordMinLength(), AccessTokenTTL: cfg.idp.AccessTokenTTL,
		Allowed: func(ctx context.Context, userID string) (out []templates.AllowedApp, err error) {
			all, err := provider.Consents(ctx, userID)
			for _, c := range all {
				out = append(out, templates.AllowedApp(c))
			}
			return out, err
		},
		Withdraw:   provider.Withdraw,
		Workspaces: provider.Workspaces, Requiring2FA: provider.Requiring2FA,
		Waiting: func(r *http.Request, to string, in *account.Session) string {
			if p, err := provider.Pending(r, to, in); err == nil && p != nil {
				return p.Workspace
			}
			return ""
		},
	}).Routes(r)
	r.PathPrefix("/static/").Handler(web.Static())
	r.Handle("/", web.HandlerFunc(front)).Methods("GET", "HEAD")
	r.Handle("/preferences", web.HandlerFunc(front)).Methods("GET", "HEAD")
	r.NotFoundHandler = web.NotFound
	r.MethodNotAllowedHandler = web.MethodNotAllowed

	return &house{
		handler: web.Wrap(web.Config{
			Issuer: cfg.issuer, TrustedProxies: cfg.proxies, Log: cfg.log, Links: cfg.links, Home: "/", StandIn: cfg.standIn,
			CrossOriginAllowed: idp.CrossOriginAllowed, JSON: idp.AnswersJSON, Unavailable: db.Unavailable, Watch: cfg.answered,
		}, r),
		accounts: accounts,
		clients:  idp.NewClients(d),
		mail:     worker,
		teller:   provider.NewTeller(accounts.Ended(), cfg.log),
		clean: func(ctx context.Context) error {
			return errors.Join(accounts.Clean(ctx, provider.CleanSessions), provider.Clean(ctx), provider.RotateKeys(ctx))
		},
	}, nil
}

// front leads who typed the bare address to what they can do here.
func front(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, "/preferences/security", http.StatusSeeOther)
	return nil
}
