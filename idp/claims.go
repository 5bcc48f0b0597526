package idp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/harmony/id/account"
)

// scopeOfClaim is the scope that a claim comes with (OIDC Core 5.4): who asks for a
// claim by its name has to be allowed that scope.
var scopeOfClaim = func() map[string]string {
	out := map[string]string{"address": "address"}
	for scope, names := range map[string]string{
		"profile": "name family_name given_name middle_name nickname preferred_username profile picture website gender birthdate zoneinfo locale updated_at",
		"email":   "email email_verified",
		"phone":   "phone_number phone_number_verified",
	} {
		for name := range strings.FieldsSeq(names) {
			out[name] = scope
		}
	}
	return out
}()

// A claimsRequest is what of the claims parameter is answered with a person's data
// (OIDC Core 5.5): names of claims besides those of the granted scopes. Its JSON is how
// it waits in a request and stands in a grant.
type claimsRequest struct {
	UserInfo []string `json:"userinfo,omitempty"`
	IDToken  []string `json:"id_token,omitempty"`
}

func (c *claimsRequest) empty() bool { return len(c.UserInfo) == 0 && len(c.IDToken) == 0 }

// text is the JSON, "" for one that asks for nothing.
func (c *claimsRequest) text() string {
	if c.empty() {
		return ""
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings can always be written
	}
	return string(b)
}

func readClaims(text string) (claimsRequest, error) {
	var c claimsRequest
	if text == "" {
		return c, nil
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("claims of a grant: %w", err)
	}
	return c, nil
}

// A claimWish is what a request says of one claim (OIDC Core 5.5.1).
type claimWish struct {
	Essential bool              `json:"essential"`
	Value     json.RawMessage   `json:"value"`
	Values    []json.RawMessage `json:"values"`
}

// strings are the values that would do, those that are text.
func (w *claimWish) strings() (out []string) {
	for _, raw := range append([]json.RawMessage{w.Value}, w.Values...) {
		var s string
		if json.Unmarshal(raw, &s) == nil && s != "" {
			out = append(out, s)
		}
	}
	return out
}

// mayClaim reports whether a client may ask for a claim by its name: it may have the
// scope that the claim is of.
func (c *Client) mayClaim(name string) bool {
	scope := scopeOfClaim[name]
	return scope != "" && slices.Contains(c.Scopes, scope)
}

var errClaims = &oauthError{"invalid_request", "claims is not what OpenID Connect Core 5.5 says"}

// takeClaims reads the claims parameter into r. What is not known, or not allowed to
// the client, is left out (OIDC Core 5.5: it is not an error not to return a claim).
func (r *request) takeClaims(text string) error {
	if text == "" {
		return nil
	}
	var asked struct {
		UserInfo map[string]*claimWish `json:"userinfo"`
		IDToken  map[string]*claimWish `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(text), &asked); err != nil {
		return fmt.Errorf("%w (%w)", errClaims, err)
	}
	names := func(wishes map[string]*claimWish) (out []string) {
		for name := range wishes {
			if r.client.mayClaim(name) {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out
	}
	r.Claims = claimsRequest{UserInfo: names(asked.UserInfo), IDToken: names(asked.IDToken)}

	if sub := asked.IDToken["sub"]; sub != nil {
		switch who := sub.strings(); {
		case len(who) == 0:
		case len(who) > 1 || r.HintSub != "" && r.HintSub != who[0]:
			return &oauthError{"invalid_request", "claims asks for more than one sub"}
		default:
			r.HintSub = who[0]
		}
	}
	if acr := asked.IDToken["acr"]; acr != nil {
		return r.takeACR(acr)
	}
	return nil
}

// takeACR reads what a request says of acr (OIDC Core 5.5.1.1). As an essential
// claim it is a demand, else a wish as in acr_values.
func (r *request) takeACR(w *claimWish) error {
	values := w.strings()
	if len(values) == 0 {
		return nil
	}
	for _, acr := range values {
		if acr == account.ACR1FA || acr == account.ACR2FA {
			r.Second = acr == account.ACR2FA
			r.Essential = r.Second && w.Essential && !slices.Contains(values, account.ACR1FA)
			return nil
		}
	}
	if w.Essential {
		return particular(&oauthError{"unmet_authentication_requirements", "no acr that is asked for is one that can be met here"}, strings.Join(values, " "))
	}
	return nil
}

// pick is the part of a person's claims that is asked for by name, as a JSON object
// with nothing else.
func pick(u *account.User, names []string) (json.RawMessage, error) {
	all := claimsFor(u, &grant{scope: "profile email phone address"})
	text, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("writing claims: %w", err)
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(text, &claims); err != nil {
		return nil, fmt.Errorf("writing claims: %w", err)
	}
	for name := range claims {
		if !slices.Contains(names, name) {
			delete(claims, name)
		}
	}
	return json.Marshal(claims)
}

// askedFor is the answer of the userinfo endpoint for a grant with claims that were
// asked for by name, besides those of its scopes.
func askedFor(u *account.User, g *grant) (json.RawMessage, error) {
	names := slices.Clone(g.claims.UserInfo)
	for name, scope := range scopeOfClaim {
		if g.has(scope) {
			names = append(names, name)
		}
	}
	return pick(u, append(names, "sub"))
}

// joined is one JSON object of two that have no name in common.
func joined(a, b []byte) ([]byte, error) {
	if len(a) < 2 || len(b) < 2 || a[0] != '{' || b[0] != '{' {
		return nil, errors.New("joining what are not objects")
	}
	if len(b) == 2 {
		return a, nil
	}
	if len(a) == 2 {
		return b, nil
	}
	return append(append(slices.Clone(a[:len(a)-1]), ','), b[1:]...), nil
}
