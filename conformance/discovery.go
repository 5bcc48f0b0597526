package main

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// metadata are the members of a discovery document that are known (OIDC Discovery
// 3, RFC 8414, the registry of IANA) and what they are.
var metadata = map[string]string{
	"issuer": "url", "authorization_endpoint": "url", "token_endpoint": "url", "userinfo_endpoint": "url", "jwks_uri": "url",
	"registration_endpoint": "url", "end_session_endpoint": "url", "introspection_endpoint": "url", "revocation_endpoint": "url",
	"pushed_authorization_request_endpoint": "url", "device_authorization_endpoint": "url", "backchannel_authentication_endpoint": "url",
	"check_session_iframe": "url", "service_documentation": "url", "op_policy_uri": "url", "op_tos_uri": "url",

	"scopes_supported": "strings", "response_types_supported": "strings", "response_modes_supported": "strings", "grant_types_supported": "strings",
	"acr_values_supported": "strings", "subject_types_supported": "strings", "prompt_values_supported": "strings",
	"id_token_signing_alg_values_supported": "strings", "id_token_encryption_alg_values_supported": "strings", "id_token_encryption_enc_values_supported": "strings",
	"userinfo_signing_alg_values_supported": "strings", "userinfo_encryption_alg_values_supported": "strings", "userinfo_encryption_enc_values_supported": "strings",
	"request_object_signing_alg_values_supported": "strings", "request_object_encryption_alg_values_supported": "strings", "request_object_encryption_enc_values_supported": "strings",
	"token_endpoint_auth_methods_supported": "strings", "token_endpoint_auth_signing_alg_values_supported": "strings",
	"revocation_endpoint_auth_methods_supported": "strings", "revocation_endpoint_auth_signing_alg_values_supported": "strings",
	"introspection_endpoint_auth_methods_supported": "strings", "introspection_endpoint_auth_signing_alg_values_supported": "strings",
	"authorization_signing_alg_values_supported": "strings", "introspection_signing_alg_values_supported": "strings",
	"display_values_supported": "strings", "claim_types_supported": "strings", "claims_supported": "strings", "claims_locales_supported": "strings",
	"ui_locales_supported": "strings", "code_challenge_methods_supported": "strings", "dpop_signing_alg_values_supported": "strings",

	"claims_parameter_supported": "bool", "request_parameter_supported": "bool", "request_uri_parameter_supported": "bool", "require_request_uri_registration": "bool",
	"authorization_response_iss_parameter_supported": "bool", "require_pushed_authorization_requests": "bool", "require_signed_request_object": "bool",
	"backchannel_logout_supported": "bool", "backchannel_logout_session_supported": "bool", "frontchannel_logout_supported": "bool",
	"frontchannel_logout_session_supported": "bool", "tls_client_certificate_bound_access_tokens": "bool",
	"mtls_endpoint_aliases": "object", "signed_metadata": "string",
}

var scopeRE = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]+$`)

// checkDiscovery is oidcc-discovery-endpoint-verification.
func checkDiscovery(c *check) {
	if c.document.status != http.StatusOK || c.document.kind() != "application/json" {
		c.fail("the discovery document comes with status %d as %q", c.document.status, c.document.header.Get("Content-Type"))
	}
	if c.text("issuer") != c.cfg.Issuer && strings.TrimSuffix(c.text("issuer"), "/") != strings.TrimSuffix(c.cfg.Issuer, "/") {
		c.fail("issuer is %q, it was found at %s", c.text("issuer"), c.cfg.Issuer)
	}
	if u, err := url.Parse(c.text("issuer")); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		c.fail("issuer %q is not an https URL with a host and a path alone", c.text("issuer"))
	}
	for name, v := range c.discovery {
		good := true
		switch metadata[name] {
		case "url", "string":
			_, good = v.(string)
		case "strings":
			list, ok := v.([]any)
			all, _ := strs(c.discovery, name)
			good = ok && len(all) == len(list)
		case "bool":
			_, good = v.(bool)
		case "object":
			_, good = v.(map[string]any)
		default:
			c.warn("%s is unknown", name)
		}
		if !good {
			c.fail("%s is %s", name, show(v))
		}
	}
	c.endpoints()
	if !https(c.text("jwks_uri")) {
		c.fail("jwks_uri %q is not https", c.text("jwks_uri"))
	}
	if c.text("userinfo_endpoint") == "" {
		c.warn("userinfo_endpoint is missing")
	}
	types, _ := strs(c.discovery, "response_types_supported")
	if !slices.ContainsFunc(types, func(s string) bool {
		all := strings.Fields(s)
		return len(all) > 0 && !slices.ContainsFunc(all, func(t string) bool { return !slices.Contains([]string{"code", "id_token", "token"}, t) })
	}) {
		c.fail("response_types_supported has none of OpenID Connect's: %v", types)
	}
	if !c.lists("subject_types_supported", "public") && !c.lists("subject_types_supported", "pairwise") {
		c.fail("subject_types_supported has neither public nor pairwise")
	}
	if !c.lists("id_token_signing_alg_values_supported", "RS256") {
		c.fail("id_token_signing_alg_values_supported lacks RS256")
	}
	if !c.lists("request_object_signing_alg_values_supported", "RS256") {
		c.warn("request_object_signing_alg_values_supported lacks RS256")
	}
	if c.discovery["claims_supported"] == nil {
		c.warn("claims_supported is missing")
	}
	if grants, ok := strs(c.discovery, "grant_types_supported"); ok && len(grants) == 0 {
		c.fail("grant_types_supported is empty")
	}
	scopes, ok := strs(c.discovery, "scopes_supported")
	switch {
	case !ok:
		c.warn("scopes_supported is missing")
	case !slices.Contains(scopes, "openid"):
		c.fail("scopes_supported lacks openid")
	}
	for _, s := range scopes {
		if !scopeRE.MatchString(s) {
			c.fail("%q is no scope", s)
		}
	}
	for _, name := range []string{"ui_locales_supported", "claims_locales_supported"} {
		tags, _ := strs(c.discovery, name)
		for _, s := range tags {
			if tag, err := language.Parse(s); err != nil {
				c.fail("%s has %q: %v", name, s, err)
			} else if tag.String() != s {
				c.warn("%s has %q, which is written %s", name, s, tag)
			}
		}
	}
	if methods, _ := strs(c.discovery, "code_challenge_methods_supported"); len(methods) > 0 && !slices.Contains(methods, "S256") && !slices.Contains(methods, "plain") {
		c.fail("code_challenge_methods_supported has neither S256 nor plain: %v", methods)
	}
}

func https(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "https" && u.Host != ""
}

// endpoints demands https of every endpoint.
func (c *check) endpoints() {
	for name, v := range c.discovery {
		if s, _ := v.(string); strings.HasSuffix(name, "_endpoint") && !https(s) {
			c.fail("%s %q is not an https URL", name, s)
		}
	}
}
