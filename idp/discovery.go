package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/harmony/id/account"
	"github.com/harmony/id/web"
)

// discoveryDocument says what we do, and nothing else (OIDC Discovery 3, RFC 8414,
// RFC 9207).
func (s *Server) discoveryDocument() ([]byte, error) {
	b, err := json.Marshal(map[string]any{
		"issuer":                                                   s.cfg.Issuer,
		"authorization_endpoint":                                   s.cfg.Issuer + pathAuthorize,
		"token_endpoint":                                           s.cfg.Issuer + pathToken,
		"pushed_authorization_request_endpoint":                    s.cfg.Issuer + pathPush,
		"revocation_endpoint":                                      s.cfg.Issuer + pathRevoke,
		"revocation_endpoint_auth_methods_supported":               authMethods,
		"introspection_endpoint":                                   s.cfg.Issuer + pathIntrospect,
		"introspection_endpoint_auth_methods_supported":            slices.DeleteFunc(slices.Clone(authMethods), func(m string) bool { return m == AuthNone }),
		"userinfo_endpoint":                                        s.cfg.Issuer + pathUserinfo,
		"jwks_uri":                                                 s.cfg.Issuer + pathJWKS,
		"end_session_endpoint":                                     s.cfg.Issuer + pathEndSession,
		"scopes_supported":                                         allScopes,
		"response_types_supported":                                 []string{"code"},
		"response_modes_supported":                                 []string{modeQuery, modeFormPost},
		"grant_types_supported":                                    grantTypes,
		"subject_types_supported":                                  []string{"public"},
		"id_token_signing_alg_values_supported":                    algs,
		"token_endpoint_auth_methods_supported":                    authMethods,
		"token_endpoint_auth_signing_alg_values_supported":         assertionAlgs,
		"revocation_endpoint_auth_signing_alg_values_supported":    assertionAlgs,
		"introspection_endpoint_auth_signing_alg_values_supported": assertionAlgs,
		"dpop_signing_alg_values_supported":                        assertionAlgs,
		"code_challenge_methods_supported":                         []string{"S256"},
		"prompt_values_supported":                                  []string{"none", "login", "consent", "select_account"},
		"acr_values_supported":                                     []string{account.ACR1FA, account.ACR2FA},
		"ui_locales_supported":                                     []string{"en"},
		"claims_parameter_supported":                               true,
		"request_parameter_supported":                              false,
		"request_uri_parameter_supported":                          false,
		"request_object_signing_alg_values_supported":              []string{algRS256}, // none of them none
		"authorization_response_iss_parameter_supported":           true,
		"backchannel_logout_supported":                             true,
		"backchannel_logout_session_supported":                     true,
		"claims_supported": []string{
			"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash",
			"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
			"gender", "birthdate", "zoneinfo", "locale", "updated_at", "email", "email_verified", "phone_number", "phone_number_verified", "address",
		},
	})
	if err != nil {
		return nil, fmt.Errorf("writing the discovery document: %w", err)
	}
	return b, nil
}

func (s *Server) metadataDocument(*http.Request) ([]byte, error) { return s.metadata, nil }

func (s *Server) jwks(r *http.Request) ([]byte, error) {
	snap, err := s.state.get(r.Context())
	if err != nil {
		return nil, err
	}
	return snap.keys.jwks, nil
}

// document serves a public JSON document that any page may read and anyone may
// keep for five minutes.
func document(read func(*http.Request) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cors(w, r, "GET", "If-None-Match") {
			return
		}
		b, err := read(r)
		h := w.Header()
		h.Set("Content-Type", "application/json;charset=UTF-8")
		if err != nil {
			web.Log(r.Context()).ErrorContext(r.Context(), "document", "error", err.Error())
			h.Set("Cache-Control", "no-store")
			h.Set("Retry-After", web.RetrySoon)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		sum := sha256.Sum256(b)
		etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(b) // a reader that left is no fault of ours
	})
}
