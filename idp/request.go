package idp

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A request is an authorization request that was checked (OIDC Core 3.1.2.1). Its
// JSON is how it waits in the database.
type request struct {
	ID          string `json:"-"`
	ClientID    string `json:"-"`
	RedirectURI string `json:"redirect_uri"`
	State       string `json:"state,omitempty"`
	Nonce       string `json:"nonce,omitempty"`
	Scope       string `json:"scope"`                    // what is asked for and allowed
	Challenge   string `json:"code_challenge,omitempty"` // S256
	FormPost    bool   `json:"form_post,omitempty"`      // response_mode: the answer is posted
	Prompt      string `json:"prompt,omitempty"`         // none, login or select_account
	MaxAge      *int64 `json:"max_age,omitempty"`        // seconds
	LoginHint   string `json:"login_hint,omitempty"`     // an address, for the form
	HintSub     string `json:"hint_sub,omitempty"`       // whom id_token_hint names
	AskAgain    bool   `json:"ask_again,omitempty"`      // prompt has consent
	Second      bool   `json:"second,omitempty"`         // acr_values or claims ask for a second factor
	Essential   bool   `json:"essential,omitempty"`      // and demand it

	JKT string `json:"dpop_jkt,omitempty"` // the key that its code is bound to (RFC 9449 10)

	Claims claimsRequest `json:"claims,omitzero"`

	CreatedAt time.Time `json:"-"`
	client    *Client
	consent   consent // of the person who is signed in, with a client that needs one
}

// A step is what an authorization request still needs.
type step int

const (
	stepNone          step = iota // nothing: it can be answered
	stepLogin                     // a person who signs in, perhaps again
	stepVerify                    // the second factor that the person has
	stepSetUp                     // a second factor, which the person is to set up first
	stepConsent                   // a person who allows it
	stepRefuse                    // a sign-in, which it forbids to ask for (prompt=none): login_required
	stepRefuseMore                // more than a sign-in, which it forbids to ask for: interaction_required
	stepRefuseConsent             // a consent, which it forbids to ask for: consent_required
)

// needs is the one place that decides what a request still needs, given the
// browser's session (nil: none). It is asked at /authorize and again each time
// that a step leads back to /authorize/resume.
func (r *request) needs(in *account.Session) step {
	if s := r.needsLogin(in); s != stepNone {
		return s
	}
	if s := r.needsSecond(in); s != stepNone {
		return s
	}
	return r.needsConsent()
}

// needsSecond decides about the second factor of a person who is signed in. What
// a client was registered to demand is demanded of everyone; acr_values is a wish
// (OIDC Core 3.1.2.1), which those can fulfil who have a second factor.
func (r *request) needsSecond(in *account.Session) step {
	s := stepNone
	switch {
	case !r.client.Require2FA && !r.Second && !r.Essential, in.ACR == account.ACR2FA:
	case in.TwoFactor, in.Verifies && (r.client.Require2FA || r.Essential): // a passkey that verifies is two factors
		s = stepVerify
	case r.client.Require2FA, r.Essential:
		s = stepSetUp
	}
	if s != stepNone && r.Prompt == "none" {
		return stepRefuseMore
	}
	return s
}

// needsLogin decides whether the person has to sign in, perhaps again.
func (r *request) needsLogin(in *account.Session) step {
	// Proofs since a waiting request began answer every demand for fresh ones. A
	// request that just arrived has seen none, whatever another replica's clock says.
	since := in != nil && r.ID != "" && !in.AuthTime.Before(r.CreatedAt)
	switch {
	case in == nil:
	case r.HintSub != "" && r.HintSub != in.UserID:
		if since {
			return stepRefuse // somebody else signed in than the workspace asked for
		}
	case since:
		return stepNone
	case r.Prompt == "login" || r.Prompt == "select_account":
	case r.MaxAge != nil && (time.Since(in.AuthTime) > time.Duration(*r.MaxAge)*time.Second || time.Since(in.AuthTime) < -account.MaxSkew):
	default:
		return stepNone
	}
	if r.Prompt == "none" {
		return stepRefuse
	}
	return stepLogin
}

// whyLogin says, for the log, why a person would have to sign in.
func (r *request) whyLogin(in *account.Session) string {
	switch {
	case in == nil:
		return "nobody is signed in in this browser"
	case r.HintSub != "" && r.HintSub != in.UserID:
		return "another person is signed in than the one whom id_token_hint or claims names"
	case r.MaxAge != nil:
		return fmt.Sprintf("max_age is %d, the person proved who they are %d s ago", *r.MaxAge, int64(time.Since(in.AuthTime).Seconds()))
	}
	return "prompt is " + r.Prompt
}

// whySecond says, for the log, who asks for a second factor.
func (r *request) whySecond(in *account.Session) string {
	who := "acr_values or claims ask for it"
	if r.client.Require2FA {
		who = "the client is registered with --require-2fa"
	}
	return fmt.Sprintf("%s, the session has %s", who, in.ACR)
}

// A pageError is a request that must not be answered at its redirect URI, for
// nobody knows whose it is (RFC 6749 4.1.2.1). what is for the operator's log.
type pageError struct {
	what string
	args []any
}

func (e *pageError) Error() string {
	var b strings.Builder
	b.WriteString(e.what)
	for i := 0; i+1 < len(e.args); i += 2 {
		fmt.Fprintf(&b, ", %v %q", e.args[i], e.args[i+1])
	}
	return b.String()
}

// An oauthError is an error that a workspace's program reads. Its texts are fixed
// and use the characters of RFC 6749 5.2 only; the log has the particulars.
type oauthError struct {
	code, description string
}

func (e *oauthError) Error() string { return e.code + ": " + e.description }

// particular is e with what came, and perhaps what was wanted in its place. That is for the log.
func particular(e *oauthError, came ...string) error {
	switch len(came) {
	case 0:
		return e
	case 1:
		return fmt.Errorf("%w (got %q)", e, short(came[0]))
	}
	return fmt.Errorf("%w (got %q, registered is %q)", e, short(came[0]), came[1])
}

// The errors that are named in more than one place.
var (
	errLoginRequired = &oauthError{"login_required", "the person has to sign in"}
	errInteraction   = &oauthError{"interaction_required", "the person has to prove a second factor"}
	errConsent       = &oauthError{"consent_required", "the person has to allow it"}
	errServer        = &oauthError{"server_error", "something went wrong here, try again"}
)

// The longest values that a request may carry.
const (
	maxState     = 4096
	maxNonce     = 4096
	maxLoginHint = 254
)

// parseRequest checks an authorization request. Its errors are *pageError, and
// *oauthError together with a request that has a client, a redirect URI and,
// unless that was the fault, a state to answer to. hint verifies an id_token_hint and
// returns its sub.
func parseRequest(q url.Values, clients map[string]*Client, hint func(token, clientID string) (string, error)) (*request, error) {
	// In the order in which a reader would ask: who, where to, what for, how.
	r := &request{CreatedAt: time.Now()}
	id := q["client_id"]
	if len(id) != 1 || id[0] == "" {
		return nil, &pageError{"authorization request without exactly one client_id", []any{"got", short(strings.Join(id, " "))}}
	}
	if r.client = clients[id[0]]; r.client == nil {
		return nil, &pageError{"authorization request of a client that is unknown or disabled", []any{"client_id", short(id[0])}}
	}
	r.ClientID = r.client.ID
	to := q["redirect_uri"]
	if len(to) != 1 || !slices.Contains(r.client.RedirectURIs, to[0]) {
		return nil, &pageError{"redirect_uri is not registered", []any{"client_id", r.ClientID, "got", short(strings.Join(to, " ")), "registered", r.client.RedirectURIs}}
	}
	r.RedirectURI = to[0]
	if !text(q.Get("state")) || len(q.Get("state")) > maxState {
		return nil, &pageError{"state is not text, or too long", []any{"client_id", r.ClientID}}
	}
	if len(q["state"]) == 1 {
		r.State = q.Get("state")
	}

	// The mode first: errors are answered in it, too.
	postable := strings.HasPrefix(r.RedirectURI, "https:") || strings.HasPrefix(r.RedirectURI, "http:")
	r.FormPost = len(q["response_mode"]) == 1 && q.Get("response_mode") == modeFormPost && postable

	// What came is for the log, unless it may be a secret or say who somebody is.
	refuse := func(code, description string, came ...string) (*request, error) {
		return r, particular(&oauthError{code, description}, came...)
	}
	for _, name := range parameters {
		switch v := q[name]; {
		case len(v) > 1:
			return refuse("invalid_request", name+" stands there more than once")
		case len(v) == 1 && !text(v[0]):
			return refuse("invalid_request", name+" is not text")
		}
	}
	switch {
	case q.Get("request") != "":
		return refuse("request_not_supported", "request objects are not supported")
	case q.Get("request_uri") != "":
		return refuse("request_uri_not_supported", "request_uri is not supported")
	case q.Get("registration") != "":
		return refuse("registration_not_supported", "registration is not supported")
	case q.Get("response_type") == "":
		return refuse("invalid_request", "response_type is missing")
	case q.Get("response_type") != "code":
		return refuse("unsupported_response_type", "the only response_type is code", q.Get("response_type"))
	case q.Get("response_mode") != "" && q.Get("response_mode") != modeQuery && !r.FormPost:
		return refuse("invalid_request", "the response_modes are query and, for an http or https redirect_uri, form_post", q.Get("response_mode"))
	case len(q.Get("nonce")) > maxNonce:
		return refuse("invalid_request", "nonce is too long")
	}
	r.Nonce = q.Get("nonce")

	asked := strings.Fields(q.Get("scope"))
	if !slices.Contains(asked, "openid") || !slices.Contains(r.client.Scopes, "openid") {
		return refuse("invalid_scope", "scope has to contain openid, and the client has to be allowed it", q.Get("scope"), strings.Join(r.client.Scopes, " "))
	}
	r.Scope = r.client.allowed(asked)

	r.Challenge = q.Get("code_challenge")
	switch method := q.Get("code_challenge_method"); {
	case r.Challenge == "" && r.client.RequirePKCE:
		return refuse("invalid_request", "code_challenge is missing: this client has to use PKCE")
	case r.Challenge == "" && method != "":
		return refuse("invalid_request", "code_challenge_method without code_challenge", method)
	case r.Challenge != "" && method != "S256":
		return refuse("invalid_request", "code_challenge_method has to be S256", method)
	case r.Challenge != "" && !sha256Text(r.Challenge):
		return refuse("invalid_request", "code_challenge is not the base64url of a SHA-256")
	}

	if r.JKT = q.Get("dpop_jkt"); r.JKT != "" && !sha256Text(r.JKT) {
		return refuse("invalid_request", "dpop_jkt is not the base64url of a SHA-256")
	}

	prompts := strings.Fields(q.Get("prompt"))
	for _, p := range prompts {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, p) {
			return refuse("invalid_request", "prompt has a value that is not supported", q.Get("prompt"))
		}
	}
	switch {
	case slices.Contains(prompts, "none") && len(prompts) > 1:
		return refuse("invalid_request", "prompt none stands alone", q.Get("prompt"))
	case slices.Contains(prompts, "none"):
		r.Prompt = "none"
	case slices.Contains(prompts, "login"):
		r.Prompt = "login"
	case slices.Contains(prompts, "select_account"):
		r.Prompt = "select_account"
	}
	r.AskAgain = slices.Contains(prompts, "consent")
	if v := q.Get("max_age"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return refuse("invalid_request", "max_age is not a number of seconds", v)
		}
		seconds := int64(n)
		r.MaxAge = &seconds
	}
	if v := q.Get("id_token_hint"); v != "" {
		sub, err := hint(v, r.ClientID)
		if err != nil {
			return r, fmt.Errorf("%w (%w)", &oauthError{"invalid_request", "id_token_hint is not an ID token that this client got here"}, err)
		}
		r.HintSub = sub
	}
	for _, acr := range strings.Fields(q.Get("acr_values")) { // in the order of preference
		if acr == account.ACR1FA || acr == account.ACR2FA {
			r.Second = acr == account.ACR2FA
			break
		}
	}
	if err := r.takeClaims(q.Get("claims")); err != nil {
		return r, err
	}
	if v := q.Get("login_hint"); len(v) <= maxLoginHint {
		r.LoginHint = v
	}
	return r, nil
}

// How an answer comes back (OAuth 2.0 Multiple Response Types 2.1, Form Post
// Response Mode).
const (
	modeQuery    = "query"
	modeFormPost = "form_post"
)

// parameters are those that may come once only (RFC 6749 3.1).
var parameters = []string{
	"state", "response_type", "response_mode", "scope", "nonce", "code_challenge", "code_challenge_method", "prompt", "max_age",
	"id_token_hint", "login_hint", "request", "request_uri", "registration", "acr_values", "claims", "dpop_jkt", "display", "ui_locales", "claims_locales",
}

// allowed returns the scopes of asked that the client may be given; what is
// unknown or not allowed is left out (RFC 6749 3.3), and the token response says
// what is granted.
func (c *Client) allowed(asked []string) string {
	var out []string
	for _, s := range slices.Concat(allScopes, c.ownScopes()) {
		if slices.Contains(asked, s) && slices.Contains(c.Scopes, s) && (s != "offline_access" || slices.Contains(c.GrantTypes, grantRefresh)) {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// text reports whether both engines keep s as it is.
func text(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// sha256Text reports whether s is 32 bytes in base64url without padding. (Its
// length, too, for the decoder skips line breaks.)
func sha256Text(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 32 && len(s) == 43
}

// short is s cut to what a log line may carry.
func short(s string) string {
	const most = 300
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}

// errNoRequest means that no request waits under this id for this browser.
var errNoRequest = errors.New("no such authorization request in this browser")

// keep lets a request wait for its browser.
func (s *Server) keep(ctx context.Context, r *request, browser string) error {
	params, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("keeping an authorization request: %w", err)
	}
	r.ID = secret.ID("")
	// Soft: a request that a power cut takes away is begun again.
	_, err = s.db.Exec(db.Soft(ctx), `
		INSERT INTO auth_requests (id, browser_hash, client_id, params, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		r.ID, secret.Hash(browser), r.ClientID, string(params), db.Micros(r.CreatedAt), db.Micros(r.CreatedAt.Add(requestTTL)))
	if err != nil {
		return fmt.Errorf("keeping an authorization request: %w", err)
	}
	return nil
}

// requestID is the form of a request's id, which is secret.ID("").
var requestID = regexp.MustCompile(`^[a-z2-7]{26}$`)

// waiting returns the request that waits under id for this browser, or
// errNoRequest, for one that is another browser's, over, or never was: which of them
// is for the log.
func (s *Server) waiting(hr *http.Request, id string) (*request, error) {
	if !requestID.MatchString(id) {
		return nil, fmt.Errorf("%w: its id is not one", errNoRequest)
	}
	ctx, browser := hr.Context(), s.sessions.Cookie(hr, requestCookie+id)
	if !secret.IsToken(browser, browserToken) {
		return nil, fmt.Errorf("%w: the browser has no cookie of it; it was answered, or another browser began it", errNoRequest)
	}
	r := &request{ID: id}
	var params string
	var created int64
	err := s.db.QueryRow(ctx, `
		SELECT client_id, params, created_at FROM auth_requests
		WHERE id = $1 AND browser_hash = $2 AND expires_at > $3`, id, secret.Hash(browser), db.Micros(time.Now())).
		Scan(&r.ClientID, &params, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: it waited too long, or its cookie is another's", errNoRequest)
	}
	if err != nil {
		return nil, fmt.Errorf("reading an authorization request: %w", err)
	}
	if err := json.Unmarshal([]byte(params), r); err != nil {
		return nil, fmt.Errorf("reading an authorization request: %w", err)
	}
	r.CreatedAt = db.Time(created)
	snap, err := s.state.current(ctx)
	if err != nil {
		return nil, err
	}
	// Decided late: the client must still be there, with this redirect URI.
	r.client = snap.clients[r.ClientID]
	if r.client == nil || !slices.Contains(r.client.RedirectURIs, r.RedirectURI) {
		return nil, fmt.Errorf("%w: client %s is not registered with %s any more", errNoRequest, r.ClientID, r.RedirectURI)
	}
	return r, nil
}
