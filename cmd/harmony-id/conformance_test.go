package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harmony/id/db/dbtest"
)

// What certification checks, by the runner in conformance/, against the program
// as it is run: https, both engines, in Chromium where only a browser proves it.

// demanded are the plans that may not have a FAIL, and the warnings and pages
// that are as we want them. docs/conformance.md gives the reasons.
var demanded = struct {
	plans    string
	accepted map[string]string // what a module other than PASS has to say
}{
	plans: "basic,config,formpost,rp-logout,backchannel,beyond",
	accepted: map[string]string{
		"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": `lacks none`,
		"oidcc-ensure-request-object-with-redirect-uri":                                `lacks none`,

		"oidcc-rp-initiated-logout-bad-post-logout-redirect-uri":            `You’re signed out`,
		"oidcc-rp-initiated-logout-modified-id-token-hint":                  `Sign out of Harmony\?`,
		"oidcc-rp-initiated-logout-no-id-token-hint":                        `Sign out of Harmony\?`,
		"oidcc-rp-initiated-logout-no-params":                               `Sign out of Harmony\?`,
		"oidcc-rp-initiated-logout-no-post-logout-redirect-uri":             `You’re signed out`,
		"oidcc-rp-initiated-logout-only-state":                              `Sign out of Harmony\?`,
		"oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri": `You’re signed out`,
		"oidcc-rp-initiated-logout-bad-id-token-hint":                       `Sign out of Harmony\?`,
	},
}

// authority writes a certificate authority and a certificate by it for this
// machine, and returns the files.
func authority(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Conformance CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootKey, leafKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	ca, cert, key = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		ca:   {Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey))(t)},
		cert: {Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey))(t)},
		key:  {Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(leafKey))(t)},
	} {
		write(t, file, string(pem.EncodeToMemory(block)))
	}
	return ca, cert, key
}

// everyClaim is a person with all of OIDC Core 5.1 that is not in her account.
const everyClaim = `{"given_name": "Ada", "family_name": "Lovelace", "middle_name": "King", "nickname": "Countess", "preferred_username": "ada",
	"profile": "https://people.example.com/ada", "picture": "https://people.example.com/ada.png", "website": "https://ada.example.com",
	"gender": "female", "birthdate": "1815-12-10", "zoneinfo": "Europe/London", "locale": "en-GB",
	"phone_number": "+442079460000", "phone_number_verified": true,
	"address": {"formatted": "12 St James’s Square, London", "street_address": "12 St James’s Square", "locality": "London", "region": "London", "postal_code": "SW1Y 4JH", "country": "GB"}}`

func TestConformance(t *testing.T) {
	runner := filepath.Join(t.TempDir(), "conformance")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", runner, module+"conformance").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dbtest.Each(t, func(t *testing.T, engine string) {
		for replicas := 1; replicas <= 2; replicas++ {
			t.Run(fmt.Sprintf("%d", replicas), func(t *testing.T) {
				t.Parallel() // most of the time is spent waiting
				chromium := "none"
				if engine == "sqlite" && replicas == 1 { // once is enough
					chromium = "some"
				}
				conform(t, runner, engine, replicas, chromium)
			})
		}
	})
}

// roundRobin is a proxy over https that sends each request to the next replica,
// as one in front of a provider does.
func roundRobin(t *testing.T, address, cert, key string, replicas []string) {
	t.Helper()
	var turn atomic.Uint64
	listener := must(net.Listen("tcp", address))(t)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: replicas[turn.Add(1)%uint64(len(replicas))]})
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}}}
	go func() {
		if err := server.ServeTLS(listener, cert, key); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the proxy: %v", err)
		}
	}()
	t.Cleanup(func() { server.Close() })
}

// conform has the runner demand its plans of a provider of one replica, or of
// several behind a proxy.
func conform(t *testing.T, runner, engine string, replicas int, chromium string) {
	dir := t.TempDir()
	ca, cert, key := authority(t, dir)
	sh, _ := serveShell(t, dbtest.URL(t, engine))
	address := "127.0.0.1:" + freePort()
	_, port, _ := net.SplitHostPort(address)
	site := "https://127.0.0.1:" + freePort() // another site than localhost, so that SameSite counts
	sh = sh.with("HARMONY_ID_ISSUER=https://localhost:"+port, "HARMONY_ID_HTTP_ADDR="+address, "HARMONY_ID_OUTBOUND_CA_FILE="+ca)

	claims := filepath.Join(dir, "claims.json")
	write(t, claims, everyClaim)
	sh.run(adaPassword, "user", "create", "--email", adaEmail, "--name", "Ada Lovelace", "--email-verified", "--claims-file", claims, "--password-stdin").want(0)
	type credentials struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
	}
	register := func(id, method string) credentials {
		var p party
		made := sh.run("", "client", "create", "--id", id, "--name", id, "--auth-method", method, "--require-pkce=false", "-o", "json",
			"--redirect-uri", site+"/callback", "--post-logout-redirect-uri", site+"/post_logout_redirect", "--backchannel-logout-uri", site+"/backchannel_logout", "--allow-private-addresses").want(0)
		if err := json.Unmarshal([]byte(made.stdout), &p); err != nil {
			t.Fatal(err)
		}
		return credentials{p.ID, p.Secret}
	}
	config := filepath.Join(dir, "provider.json")
	write(t, config, string(must(json.Marshal(map[string]any{
		"issuer": "https://localhost:" + port, "ca_file": ca, "user": map[string]string{"name": adaEmail, "password": adaPassword},
		"client": register("first", "client_secret_basic"), "client2": register("second", "client_secret_basic"), "client_secret_post": register("third", "client_secret_post"),
		"callback": site, "callback_cert": cert, "callback_key": key, "browser": chromiumPath(t), "chromium": chromium,
	}))(t)))
	if replicas == 1 {
		sh.with("HARMONY_ID_TLS_CERT_FILE="+cert, "HARMONY_ID_TLS_KEY_FILE="+key).start("serve")
	} else {
		var behind []string
		for range replicas {
			behind = append(behind, "127.0.0.1:"+freePort())
			sh.with("HARMONY_ID_HTTP_ADDR="+behind[len(behind)-1], "HARMONY_ID_TRUSTED_PROXIES=127.0.0.1").start("serve")
		}
		roundRobin(t, address, cert, key, behind)
	}

	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), runner, "-config", config, "-plan", demanded.plans, "-pause", "100ms", "-o", "json")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if _, failed := errors.AsType[*exec.ExitError](err); !failed || stdout.Len() == 0 {
			t.Fatalf("%v\n%s", err, &stderr)
		}
	}
	var results []struct {
		Plan, Module, Verdict string
		Notes                 []struct{ Verdict, Text string }
	}
	if err := json.Unmarshal(stdout.Bytes(), &results); err != nil || len(results) < 90 {
		t.Fatalf("%d results: %v\n%s", len(results), err, &stderr)
	}
	for _, r := range results {
		wanted, ok := demanded.accepted[r.Module]
		if r.Verdict == "FAIL" || (r.Verdict != "PASS") != ok || ok && (len(r.Notes) != 1 || !regexp.MustCompile(wanted).MatchString(r.Notes[0].Text)) {
			t.Errorf("%s %s %s: %+v, accepted is %q", r.Verdict, r.Plan, r.Module, r.Notes, wanted)
		}
	}
}
