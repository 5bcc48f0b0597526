package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

type clientUpdate struct {
	whichClient
	outboundSettings

	Name                  *string  `placeholder:"NAME" help:"Name that people see on the sign-in page."`
	RedirectURI           []string `name:"redirect-uri" sep:"none" placeholder:"URI" help:"Where people may come back to, in place of all that there were. May be repeated; '' for none."`
	PostLogoutRedirectURI []string `name:"post-logout-redirect-uri" sep:"none" placeholder:"URI" help:"Where people may come back to after signing out, in place of all that there were. May be repeated; '' for none."`
	BackchannelLogoutURI  *string  `name:"backchannel-logout-uri" placeholder:"URI" help:"Where it is told that a session ended; '' for nowhere."`
	AuthMethod            *string  `placeholder:"METHOD" help:"How it proves itself: client_secret_basic, client_secret_post, private_key_jwt or none. A secret that it does not need any more is dead at once, one that it needs is shown."`
	JWKSFile              *string  `name:"jwks-file" placeholder:"FILE" help:"Its public keys (JWKS), for private_key_jwt, in place of those that there were."`
	JWKSURI               *string  `name:"jwks-uri" placeholder:"URI" help:"Where it publishes them, in place of a file."`
	IDTokenAlg            *string  `name:"id-token-alg" placeholder:"ALG" help:"Signature of its ID tokens: ES256, RS256 or EdDSA."`
	RequirePKCE           *bool    `name:"require-pkce" placeholder:"BOOL" help:"Whether sign-ins without PKCE are refused."`
	Grant                 []string `sep:"none" placeholder:"GRANT" help:"What it may use the token endpoint for, in place of all that it might. May be repeated."`
	Scope                 []string `sep:"none" placeholder:"SCOPE" help:"What it may ask for, in place of all that it might. May be repeated; '' for nothing."`
	AccessToken           *string  `placeholder:"FORM" help:"Its access tokens: opaque or jwt."`
	RequirePAR            *bool    `name:"require-par" placeholder:"BOOL" help:"Whether only authorization requests that it pushed are taken (RFC 9126)."`
	DPoP                  *bool    `name:"dpop" placeholder:"BOOL" help:"Whether its tokens are always bound to a key of its own (DPoP, RFC 9449)."`
	Require2FA            *bool    `name:"require-2fa" placeholder:"BOOL" help:"Whether only people who proved a second factor get there."`
	ThirdParty            *bool    `name:"third-party" placeholder:"BOOL" help:"Whether people are asked before it gets anything."`
}

// Help shows an example.
func (clientUpdate) Help() string {
	return "What is not named stays as it is; its tokens and its secret stay good.\n\n" +
		example(`harmony-id client update acme --redirect-uri https://acme.example.com/callback --redirect-uri https://www.acme.example.com/callback --require-2fa=true`)
}

// Run changes the workspace and shows it.
func (c clientUpdate) Run(ctx context.Context, p *program) error {
	return c.with(ctx, p, func(clients *idp.Clients, client *idp.Client) (string, error) {
		if c.AllowPrivateAddresses {
			clients = clients.AllowPrivate()
		}
		n := *client
		if err := c.edit(&n); err != nil {
			return "", err
		}
		changed, shown, err := clients.Update(ctx, client, n, "", operator().Name)
		if err != nil {
			return "", err
		}
		for _, d := range changed {
			fmt.Fprintf(p.stderr, "harmony-id: %s: %s → %s\n", d.Field, shownValue(d.Before), shownValue(d.After))
		}
		if len(changed) == 0 {
			fmt.Fprintln(p.stderr, "harmony-id: nothing to change.")
		}
		now, err := clients.Get(ctx, client.ID)
		if err != nil {
			return "", err
		}
		*client = *now
		return shown, nil
	})
}

// edit makes of a workspace what the flags say.
func (c clientUpdate) edit(n *idp.Client) error {
	for from, to := range map[**string]*string{
		&c.Name: &n.Name, &c.BackchannelLogoutURI: &n.BackchannelLogoutURI, &c.AuthMethod: &n.AuthMethod, &c.IDTokenAlg: &n.IDTokenAlg, &c.AccessToken: &n.AccessToken,
	} {
		if *from != nil {
			*to = **from
		}
	}
	for from, to := range map[**bool]*bool{&c.RequirePKCE: &n.RequirePKCE, &c.RequirePAR: &n.RequirePAR, &c.DPoP: &n.DPoP, &c.Require2FA: &n.Require2FA, &c.ThirdParty: &n.ThirdParty} {
		if *from != nil {
			*to = **from
		}
	}
	for from, to := range map[*[]string]*[]string{&c.RedirectURI: &n.RedirectURIs, &c.PostLogoutRedirectURI: &n.PostLogoutRedirectURIs, &c.Grant: &n.GrantTypes} {
		if *from != nil {
			*to = slices.DeleteFunc(slices.Clone(*from), func(s string) bool { return s == "" })
		}
	}
	if c.Scope != nil {
		n.Scopes = append([]string{}, strings.Fields(strings.Join(c.Scope, " "))...)
	}
	if c.JWKSFile != nil && c.JWKSURI != nil {
		return usagef("--jwks-file and --jwks-uri do not fit together: leave one out")
	}
	if c.JWKSURI != nil {
		n.JWKS, n.JWKSURI = "", *c.JWKSURI
	}
	if c.JWKSFile != nil {
		text, err := os.ReadFile(*c.JWKSFile)
		if err != nil {
			return usagef("--jwks-file: %w", err)
		}
		n.JWKS, n.JWKSURI = string(text), ""
	}
	if n.AuthMethod != idp.AuthKey && c.JWKSFile == nil && c.JWKSURI == nil {
		n.JWKS, n.JWKSURI = "", "" // it had them for private_key_jwt
	}
	return nil
}

// shownValue is a value in a difference, which must be seen to be there.
func shownValue(s string) string {
	if s == "" {
		return "(none)"
	}
	return visible(s, func(rune) bool { return true })
}

// A clientsFile is all workspaces, as a file keeps them.
type clientsFile struct {
	Clients []clientEntry `yaml:"clients"`
}

// A clientEntry is a workspace in a file. The names are those of a workspace in
// results; what is left out has its default.
type clientEntry struct {
	ClientID               string    `yaml:"client_id"`
	Secret                 string    `yaml:"secret"` // "generate", or nothing
	ClientName             string    `yaml:"client_name"`
	RedirectURIs           []string  `yaml:"redirect_uris"`
	PostLogoutRedirectURIs []string  `yaml:"post_logout_redirect_uris"`
	BackchannelLogoutURI   string    `yaml:"backchannel_logout_uri"`
	AuthMethod             string    `yaml:"token_endpoint_auth_method"`
	JWKSURI                string    `yaml:"jwks_uri"`
	JWKS                   yaml.Node `yaml:"jwks"`
	IDTokenAlg             string    `yaml:"id_token_signed_response_alg"`
	RequirePKCE            *bool     `yaml:"require_pkce"`
	RequirePAR             bool      `yaml:"require_pushed_authorization_requests"`
	DPoP                   bool      `yaml:"dpop_bound_access_tokens"`
	Require2FA             bool      `yaml:"require_2fa"`
	ThirdParty             bool      `yaml:"third_party"`
	GrantTypes             []string  `yaml:"grant_types"`
	Scope                  *string   `yaml:"scope"`
	AccessToken            string    `yaml:"access_token_format"`
}

const secretGenerate = "generate"

func (e clientEntry) client() (idp.Client, error) {
	n := idp.Client{
		ID: e.ClientID, Name: e.ClientName, RedirectURIs: e.RedirectURIs, PostLogoutRedirectURIs: e.PostLogoutRedirectURIs, BackchannelLogoutURI: e.BackchannelLogoutURI,
		AuthMethod: e.AuthMethod, JWKSURI: e.JWKSURI, IDTokenAlg: e.IDTokenAlg, RequirePKCE: e.RequirePKCE == nil || *e.RequirePKCE, RequirePAR: e.RequirePAR, DPoP: e.DPoP, Require2FA: e.Require2FA, ThirdParty: e.ThirdParty,
		GrantTypes: e.GrantTypes, AccessToken: e.AccessToken,
	}
	if e.Scope != nil {
		n.Scopes = append([]string{}, strings.Fields(*e.Scope)...)
	}
	if !e.JWKS.IsZero() {
		var document any
		if err := e.JWKS.Decode(&document); err != nil {
			return n, err
		}
		b, err := json.Marshal(document)
		if err != nil {
			return n, fmt.Errorf("jwks: %w", err)
		}
		n.JWKS = string(b)
	}
	if e.Secret != "" && e.Secret != secretGenerate {
		return n, fmt.Errorf("secret is %q and nothing else, for secrets have no place in this file", secretGenerate)
	}
	return n, nil
}

// readClients reads a file of workspaces. Its errors name what is wrong with it, and
// are the operator's to mend.
func readClients(r io.Reader) (wanted []idp.Client, generate map[string]bool, err error) {
	const most = 16 << 20
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > most {
		return nil, nil, fmt.Errorf("it is larger than %d bytes", most)
	}
	var file clientsFile
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("there is more than one document in it")
	}
	if len(file.Clients) == 0 {
		return nil, nil, errors.New("there is no client in it")
	}
	generate = map[string]bool{}
	for i, e := range file.Clients {
		n, err := e.client()
		switch {
		case e.ClientID == "":
			return nil, nil, fmt.Errorf("client %d has no client_id", i+1)
		case err != nil:
			return nil, nil, fmt.Errorf("client %s: %w", e.ClientID, err)
		case slices.ContainsFunc(wanted, func(w idp.Client) bool { return w.ID == n.ID }):
			return nil, nil, fmt.Errorf("client %s stands there twice", n.ID)
		}
		wanted = append(wanted, n)
		generate[n.ID] = e.Secret == secretGenerate
	}
	return wanted, generate, nil
}

// A stepResult is what is done to a workspace, in results.
type stepResult struct {
	ClientID    string             `json:"client_id" help:"the workspace's id"`
	Action      string             `json:"action" help:"create, update, delete, keep (it is as it should be) or other (the file does not have it, and it stays)"`
	Secret      bool               `json:"secret" help:"whether it gets a secret"`
	Differences []differenceResult `json:"differences" help:"what changes"`
}

// A differenceResult is one field that changes, in results.
type differenceResult struct {
	Field  string `json:"field" help:"its name in a workspace in results"`
	Before string `json:"before" help:"what it was; empty if there was nothing"`
	After  string `json:"after" help:"what it becomes"`
}

func (o outputFlag) steps(p *program, steps []*idp.Step) error {
	if o.Output == "json" {
		results := make([]stepResult, 0, len(steps))
		for _, s := range steps {
			r := stepResult{ClientID: s.ID(), Action: string(s.Action), Secret: s.NeedsSecret(), Differences: []differenceResult{}}
			for _, d := range s.Differences {
				r.Differences = append(r.Differences, differenceResult(d))
			}
			results = append(results, r)
		}
		return writeJSON(p.stdout, results)
	}
	counts := map[idp.Action]int{}
	for _, s := range steps {
		counts[s.Action]++
		sign := map[idp.Action]string{idp.ActionCreate: "+", idp.ActionUpdate: "~", idp.ActionDelete: "-"}[s.Action]
		if sign == "" {
			continue
		}
		fmt.Fprintf(p.stdout, "%s %s\n", sign, s.ID())
		for _, d := range s.Differences {
			if s.Action == idp.ActionCreate {
				fmt.Fprintf(p.stdout, "    %s: %s\n", d.Field, shownValue(d.After))
			} else {
				fmt.Fprintf(p.stdout, "    %s: %s → %s\n", d.Field, shownValue(d.Before), shownValue(d.After))
			}
		}
		if s.NeedsSecret() {
			fmt.Fprintln(p.stdout, "    secret: generated")
		}
	}
	_, err := fmt.Fprintf(p.stdout, "%d created, %d changed, %d deleted, %d as they should be, %d not in the file\n",
		counts[idp.ActionCreate], counts[idp.ActionUpdate], counts[idp.ActionDelete], counts[idp.ActionKeep], counts[idp.ActionOther])
	return err
}

type clientApply struct {
	File       string `name:"file" short:"f" required:"" placeholder:"FILE|-" help:"YAML file of workspaces, or - for standard input."`
	DryRun     bool   `help:"Show what would change, and change nothing."`
	Prune      bool   `help:"Delete workspaces that the file does not have, with all their tokens."`
	SecretsOut string `placeholder:"FILE" help:"Where secrets go that are generated: a file that does not exist yet, for its owner's eyes only, a JSON object a line."`

	confirmFlag
	outputFlag
	databaseSettings
	outboundSettings
}

// Help shows an example.
func (clientApply) Help() string {
	return "Makes the registered workspaces those of a file, and shows the difference; a second time there is none. A file is {clients: [{client_id: …, client_name: …, …}]}, with the names of a workspace in JSON (below); " +
		"what is left out has its default. A workspace with a secret says secret: generate, and gets one when it is made. All of it is done, or nothing.\n\n" +
		example(`harmony-id client apply -f clients.yaml --secrets-out secrets.ndjson --dry-run`)
}

// Run does what the file asks for.
func (c clientApply) Run(ctx context.Context, p *program) error {
	in := p.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return usagef("--file: %w", err)
		}
		defer f.Close()
		in = f
	}
	wanted, generate, err := readClients(in)
	if err != nil {
		return usagef("--file: %w", err)
	}
	return p.withClients(ctx, c.databaseSettings, useOrMake, func(clients *idp.Clients) error {
		if c.AllowPrivateAddresses {
			clients = clients.AllowPrivate()
		}
		steps, err := clients.Plan(ctx, wanted, c.Prune)
		if err != nil {
			return err
		}
		secrets, deleted, err := c.prepare(steps, generate)
		if err != nil {
			return err
		}
		if c.DryRun {
			return c.outputFlag.steps(p, steps)
		}
		if deleted > 0 {
			if err := p.confirm(c.Yes, fmt.Sprintf("Deleting %d workspaces", deleted)); err != nil {
				return err
			}
		}
		execute := func() error { return clients.Execute(ctx, steps, operator().Name) }
		if len(secrets) == 0 {
			err = execute()
		} else {
			// The secrets are safe before they count, and gone if they do not.
			err = writeNew(c.SecretsOut, func(f *os.File) error {
				e := json.NewEncoder(f)
				for _, s := range secrets {
					if err := e.Encode(s); err != nil {
						return err
					}
				}
				if err := f.Sync(); err != nil {
					return err
				}
				return execute()
			})
		}
		if err != nil {
			return err
		}
		return c.outputFlag.steps(p, steps)
	})
}

// A secretLine is a line of the file of generated secrets.
type secretLine struct {
	ClientID string `json:"client_id"`
	Secret   string `json:"client_secret"`
}

// prepare generates the secrets of a plan and counts what it deletes.
func (c clientApply) prepare(steps []*idp.Step, generate map[string]bool) (secrets []secretLine, deleted int, err error) {
	for _, s := range steps {
		switch {
		case s.Action == idp.ActionDelete:
			deleted++
		case generate[s.ID()] && (s.After.AuthMethod == idp.AuthNone || s.After.AuthMethod == idp.AuthKey):
			return nil, 0, usagef("--file: client %s: a workspace with %s has no secret", s.ID(), s.After.AuthMethod)
		case !s.NeedsSecret():
		case !generate[s.ID()]:
			return nil, 0, usagef("--file: client %s needs a secret: write secret: %s", s.ID(), secretGenerate)
		case c.SecretsOut == "" && !c.DryRun:
			return nil, 0, usagef("client %s gets a secret: write --secrets-out FILE", s.ID())
		default:
			s.Secret = secret.Token("hcs_")
			secrets = append(secrets, secretLine{s.ID(), s.Secret})
		}
	}
	return secrets, deleted, nil
}
