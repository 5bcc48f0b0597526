package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/idp"
)

// A clientResult is a workspace in results. The names are those of client
// metadata (RFC 7591 section 2, OpenID Connect Registration section 2).
type clientResult struct {
	ClientID               string          `json:"client_id" help:"the workspace's id"`
	ClientSecret           string          `json:"client_secret,omitempty" help:"its secret; in the results of create, rotate-secret and an update that gives it one alone, and absent for a public client"`
	ClientName             string          `json:"client_name" help:"name that people see"`
	RedirectURIs           []string        `json:"redirect_uris" help:"where people may come back to"`
	PostLogoutRedirectURIs []string        `json:"post_logout_redirect_uris" help:"where people may come back to after signing out"`
	BackchannelLogoutURI   string          `json:"backchannel_logout_uri" help:"where it is told that a session ended; empty: nowhere"`
	AuthMethod             string          `json:"token_endpoint_auth_method" help:"client_secret_basic, client_secret_post, private_key_jwt or none"`
	JWKSURI                string          `json:"jwks_uri,omitempty" help:"where its public keys are, for private_key_jwt"`
	JWKS                   json.RawMessage `json:"jwks,omitempty" help:"its public keys, for private_key_jwt"`
	IDTokenAlg             string          `json:"id_token_signed_response_alg" help:"ES256, RS256 or EdDSA"`
	RequirePKCE            bool            `json:"require_pkce" help:"whether sign-ins without PKCE are refused"`
	RequirePAR             bool            `json:"require_pushed_authorization_requests" help:"whether only requests that it pushed are taken (RFC 9126)"`
	DPoP                   bool            `json:"dpop_bound_access_tokens" help:"whether its tokens are always bound to a key of its own (RFC 9449)"`
	Require2FA             bool            `json:"require_2fa" help:"whether only people who proved a second factor get there"`
	ThirdParty             bool            `json:"third_party" help:"whether people are asked before it gets anything"`
	GrantTypes             []string        `json:"grant_types" help:"what it may use the token endpoint for"`
	Scope                  string          `json:"scope" help:"what it may ask for, with spaces between"`
	AccessToken            string          `json:"access_token_format" help:"opaque or jwt"`
	CreatedAt              stamp           `json:"created_at" help:"when it was registered"`
	OldSecretUntil         stamp           `json:"old_secret_until" help:"until when the secret before this one is taken, too; null: it is not"`
	DisabledAt             stamp           `json:"disabled_at" help:"since when it is refused; null: it is not"`
}

func resultOfClient(c *idp.Client, secret string) clientResult {
	return clientResult{
		ClientID: c.ID, ClientSecret: secret, ClientName: c.Name,
		RedirectURIs: list(c.RedirectURIs), PostLogoutRedirectURIs: list(c.PostLogoutRedirectURIs),
		BackchannelLogoutURI: c.BackchannelLogoutURI,
		AuthMethod:           c.AuthMethod, JWKSURI: c.JWKSURI, JWKS: json.RawMessage(c.JWKS), IDTokenAlg: c.IDTokenAlg, RequirePKCE: c.RequirePKCE, RequirePAR: c.RequirePAR, DPoP: c.DPoP, Require2FA: c.Require2FA, ThirdParty: c.ThirdParty,
		GrantTypes: list(c.GrantTypes), Scope: strings.Join(c.Scopes, " "), AccessToken: c.AccessToken,
		CreatedAt: stamp(c.CreatedAt), OldSecretUntil: stamp(c.OldSecretUntil), DisabledAt: stamp(c.DisabledAt),
	}
}

// list is s, never null in JSON.
func list(s []string) []string { return append([]string{}, s...) }

func (o outputFlag) client(p *program, c *idp.Client, secret string) error {
	r := resultOfClient(c, secret)
	if o.Output == "json" {
		return writeJSON(p.stdout, r)
	}
	if secret != "" {
		fmt.Fprintln(p.stderr, "harmony-id: this is the only time that the secret is shown.")
	}
	return writeFacts(p.stdout, [][2]string{
		{"client_id", r.ClientID}, {"client_secret", r.ClientSecret}, {"Name", r.ClientName},
		{"Redirect URIs", strings.Join(r.RedirectURIs, " ")}, {"After sign-out", strings.Join(r.PostLogoutRedirectURIs, " ")},
		{"Told of sign-outs at", r.BackchannelLogoutURI},
		{"Authenticates by", r.AuthMethod}, {"Its keys", r.JWKSURI + string(r.JWKS)}, {"ID tokens", r.IDTokenAlg}, {"Requires PKCE", yesNo(r.RequirePKCE)}, {"Requires PAR", yesNo(r.RequirePAR)}, {"Requires DPoP", yesNo(r.DPoP)}, {"Requires 2FA", yesNo(r.Require2FA)}, {"Third party", yesNo(r.ThirdParty)},
		{"Grant types", strings.Join(r.GrantTypes, " ")}, {"Scope", r.Scope}, {"Access tokens", r.AccessToken},
		{"Created", r.CreatedAt.String()}, {"Old secret until", r.OldSecretUntil.String()}, {"Disabled", r.DisabledAt.String()},
	})
}

// withClients runs one act on the register of workspaces.
func (p *program) withClients(ctx context.Context, s databaseSettings, use databaseUse, act func(*idp.Clients) error) (err error) {
	d, err := p.openDatabase(ctx, s, use)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return act(idp.NewClients(d))
}

type clientCreate struct {
	Name                  string   `required:"" placeholder:"NAME" help:"Name that people see on the sign-in page."`
	RedirectURI           []string `name:"redirect-uri" sep:"none" placeholder:"URI" help:"Where people may come back to; compared letter by letter. Needed for sign-in; may be repeated."`
	PostLogoutRedirectURI []string `name:"post-logout-redirect-uri" sep:"none" placeholder:"URI" help:"Where people may come back to after signing out. May be repeated."`
	BackchannelLogoutURI  string   `name:"backchannel-logout-uri" placeholder:"URI" help:"Where it is told that a session ended (OpenID Connect Back-Channel Logout)."`
	ID                    string   `placeholder:"ID" help:"client_id; made up if absent."`
	SecretStdin           bool     `help:"Read the secret from standard input, one line, in place of making one."`
	Public                bool     `help:"The workspace cannot keep a secret (browser, phone, desktop): --auth-method none."`
	AuthMethod            string   `enum:"client_secret_basic,client_secret_post,private_key_jwt,none," default:"" placeholder:"METHOD" help:"How it proves itself: client_secret_basic (default), client_secret_post, private_key_jwt or none."`
	JWKSFile              string   `name:"jwks-file" placeholder:"FILE" help:"Its public keys (JWKS), for private_key_jwt."`
	JWKSURI               string   `name:"jwks-uri" placeholder:"URI" help:"Where it publishes them, in place of a file: https, on the internet; fetched again when a new key is used."`
	IDTokenAlg            string   `name:"id-token-alg" enum:"ES256,RS256,EdDSA" default:"ES256" placeholder:"ALG" help:"Signature of its ID tokens: ES256 (default), RS256 or EdDSA."`
	RequirePKCE           bool     `name:"require-pkce" default:"true" negatable:"" help:"Refuse sign-ins without PKCE. Only a workspace with a secret may do without (--require-pkce=false)."`
	RequirePAR            bool     `name:"require-par" help:"Take only authorization requests that it pushed (RFC 9126), so that nothing of them stands in the browser's address."`
	DPoP                  bool     `name:"dpop" help:"Give it tokens only that are bound to a key of its own (DPoP, RFC 9449)."`
	Grant                 []string `sep:"none" placeholder:"GRANT" help:"What it may use the token endpoint for: authorization_code and refresh_token (the default), client_credentials. May be repeated."`
	Scope                 []string `sep:"none" placeholder:"SCOPE" help:"What it may ask for, by default everything about people: openid, profile, email, phone, address, offline_access. Others, such as api.read, are its own. May be repeated."`
	AccessToken           string   `enum:"opaque,jwt" default:"opaque" placeholder:"FORM" help:"Its access tokens: opaque (default), or jwt (RFC 9068) for resource servers that read them without asking."`
	Require2FA            bool     `name:"require-2fa" help:"Take only people who proved a second factor; who has none is led into setting it up first."`
	ThirdParty            bool     `name:"third-party" help:"It is somebody else's: people are asked before it gets anything, and can take that back."`

	outputFlag
	databaseSettings
	outboundSettings
}

// Help shows an example.
func (clientCreate) Help() string {
	return example(`harmony-id client create --name Acme --redirect-uri https://acme.example.com/callback
    harmony-id client create --name 'Acme reports' --grant client_credentials --scope reports.read --access-token jwt`)
}

// Run registers the workspace and shows its secret, this once.
func (c clientCreate) Run(ctx context.Context, p *program) error {
	method := c.AuthMethod
	switch {
	case c.Public && method != "" && method != idp.AuthNone:
		return usagef("--public and --auth-method %s do not fit together: leave one out", method)
	case c.Public:
		method = idp.AuthNone
	case method == "":
		method = idp.AuthBasic
	}
	if method == idp.AuthNone && c.SecretStdin {
		return usagef("a public client has no secret: leave out --secret-stdin, or --public")
	}
	if (method == idp.AuthKey) != (c.JWKSFile+c.JWKSURI != "") || c.JWKSFile != "" && c.JWKSURI != "" {
		return usagef("--auth-method private_key_jwt and one of --jwks-file and --jwks-uri belong together")
	}
	if method == idp.AuthKey && c.SecretStdin {
		return usagef("a workspace with private_key_jwt has no secret: leave out --secret-stdin")
	}
	jwks := ""
	if c.JWKSFile != "" {
		text, err := os.ReadFile(c.JWKSFile)
		if err != nil {
			return usagef("--jwks-file: %w", err)
		}
		jwks = string(text)
	}
	if method == idp.AuthNone && !c.RequirePKCE {
		return usagef("a public client is safe with PKCE alone: leave out --require-pkce=false")
	}
	signsIn := len(c.Grant) == 0 || slices.Contains(c.Grant, "authorization_code")
	if signsIn && len(c.RedirectURI) == 0 {
		return usagef("people have to come back somewhere: write --redirect-uri URI, or --grant client_credentials for a workspace in which nobody signs in")
	}
	var scopes []string // nil: the default
	if len(c.Scope) > 0 {
		scopes = strings.Fields(strings.Join(c.Scope, " "))
	}
	if signsIn && scopes != nil && !slices.Contains(scopes, "openid") {
		return usagef("nobody can sign in without --scope openid: the scopes that are named are all that it may ask for")
	}
	secret := ""
	if c.SecretStdin {
		var err error
		if secret, err = p.secretLine("--secret-stdin"); err != nil {
			return err
		}
	}
	return p.withClients(ctx, c.databaseSettings, useOrMake, func(clients *idp.Clients) error {
		if c.AllowPrivateAddresses {
			clients = clients.AllowPrivate()
		}
		made, shown, err := clients.Create(ctx, idp.Client{
			ID: c.ID, Name: c.Name, RedirectURIs: c.RedirectURI, PostLogoutRedirectURIs: c.PostLogoutRedirectURI, BackchannelLogoutURI: c.BackchannelLogoutURI,
			AuthMethod: method, IDTokenAlg: c.IDTokenAlg, RequirePKCE: c.RequirePKCE, RequirePAR: c.RequirePAR, DPoP: c.DPoP, Require2FA: c.Require2FA, ThirdParty: c.ThirdParty,
			GrantTypes: c.Grant, Scopes: scopes, AccessToken: c.AccessToken, JWKS: jwks, JWKSURI: c.JWKSURI,
		}, secret, operator().Name)
		if err != nil {
			return err
		}
		return c.outputFlag.client(p, made, shown)
	})
}

type clientList struct {
	outputFlag
	databaseSettings
}

// Help shows an example.
func (clientList) Help() string { return example(`harmony-id client list -o json`) }

// Run lists the workspaces.
func (c clientList) Run(ctx context.Context, p *program) error {
	return p.withClients(ctx, c.databaseSettings, useExisting, func(clients *idp.Clients) error {
		all, err := clients.List(ctx)
		if err != nil {
			return err
		}
		results := make([]clientResult, 0, len(all))
		rows := make([][]string, 0, len(all))
		for _, client := range all {
			r := resultOfClient(client, "")
			results = append(results, r)
			rows = append(rows, []string{r.ClientID, r.ClientName, r.AuthMethod, r.IDTokenAlg, strings.Join(r.RedirectURIs, " "), r.BackchannelLogoutURI, r.CreatedAt.String()})
		}
		if c.Output == "json" {
			return writeJSON(p.stdout, results)
		}
		return writeTable(p.stdout, []string{"CLIENT_ID", "NAME", "AUTHENTICATES BY", "ID TOKENS", "REDIRECT URIS", "TOLD OF SIGN-OUTS AT", "CREATED"}, rows)
	})
}

// whichClient names one workspace.
type whichClient struct {
	Client string `arg:"" placeholder:"CLIENT_ID" help:"The workspace's client_id."`

	outputFlag
	databaseSettings
}

// with finds the workspace, does something to it and shows it.
func (c whichClient) with(ctx context.Context, p *program, act func(*idp.Clients, *idp.Client) (secret string, err error)) error {
	return p.withClients(ctx, c.databaseSettings, useExisting, func(clients *idp.Clients) error {
		client, err := clients.Get(ctx, c.Client)
		if errors.Is(err, idp.ErrNotFound) {
			return fmt.Errorf("%w: %s", err, c.Client)
		}
		if err != nil {
			return err
		}
		secret, err := act(clients, client)
		if err != nil {
			return err
		}
		return c.outputFlag.client(p, client, secret)
	})
}

type clientShow struct{ whichClient }

// Help shows an example.
func (clientShow) Help() string { return example(`harmony-id client show acme`) }

// Run shows the workspace.
func (c clientShow) Run(ctx context.Context, p *program) error {
	return c.with(ctx, p, func(*idp.Clients, *idp.Client) (string, error) { return "", nil })
}

type clientDelete struct {
	whichClient
	confirmFlag
}

// Help shows an example.
func (clientDelete) Help() string { return example(`harmony-id client delete acme --yes`) }

// Run deletes the workspace and shows what it was.
func (c clientDelete) Run(ctx context.Context, p *program) error {
	return c.with(ctx, p, func(clients *idp.Clients, client *idp.Client) (string, error) {
		if err := p.confirm(c.Yes, "Deleting the workspace "+client.ID); err != nil {
			return "", err
		}
		return "", clients.Delete(ctx, client.ID, operator().Name)
	})
}

type clientRotate struct {
	whichClient
	confirmFlag

	SecretStdin bool          `help:"Read the new secret from standard input, one line, in place of making one."`
	KeepOld     time.Duration `placeholder:"TIME" help:"Take the old secret, too, for so long: 24h. At most 720h. Default: it is dead at once."`
}

// Help shows an example.
func (clientRotate) Help() string {
	return example(`harmony-id client rotate-secret acme --keep-old 24h --yes`)
}

// Run replaces the secret and shows the new one, this once.
func (c clientRotate) Run(ctx context.Context, p *program) error {
	secret := ""
	if c.SecretStdin {
		if !c.Yes {
			return usagef("--secret-stdin needs --yes, for standard input cannot also answer a question")
		}
		var err error
		if secret, err = p.secretLine("--secret-stdin"); err != nil {
			return err
		}
	}
	return c.with(ctx, p, func(clients *idp.Clients, client *idp.Client) (string, error) {
		if client.AuthMethod == idp.AuthNone || client.AuthMethod == idp.AuthKey {
			return "", fmt.Errorf("%s: %w", client.ID, idp.ErrNoSecret)
		}
		if err := p.confirm(c.Yes, "Replacing the secret of "+client.ID); err != nil {
			return "", err
		}
		shown, err := clients.RotateSecret(ctx, client.ID, secret, c.KeepOld, operator().Name)
		if err != nil {
			return "", err
		}
		now, err := clients.Get(ctx, client.ID)
		if err != nil {
			return "", err
		}
		*client = *now
		return shown, nil
	})
}
