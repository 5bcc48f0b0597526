package idp

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestReachable(t *testing.T) {
	for _, c := range []struct {
		address         string
		public, private bool
	}{
		{"93.184.215.14", true, true}, {"2606:2800:21f:cb07::1", true, true}, {"::ffff:93.184.215.14", true, true},
		{"127.0.0.1", false, true}, {"127.9.9.9", false, true}, {"::1", false, true}, {"::ffff:127.0.0.1", false, true},
		{"10.0.0.1", false, true}, {"172.16.0.1", false, true}, {"192.168.1.1", false, true}, {"fd00::1", false, true}, {"::ffff:10.0.0.1", false, true},
		{"169.254.169.254", false, false}, {"fe80::1", false, false}, {"fe80::1%eth0", false, false}, {"::ffff:169.254.169.254", false, false},
		{"0.0.0.0", false, false}, {"0.1.2.3", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"ff02::1", false, false}, {"255.255.255.255", false, false},
		{"100.64.0.1", false, false}, {"192.0.0.8", false, false}, {"198.18.0.1", false, false}, {"240.0.0.1", false, false},
		{"64:ff9b::7f00:1", false, false}, {"2002:7f00:1::", false, false}, {"2001::1", false, false}, {"fec0::1", false, false},
	} {
		ip := netip.MustParseAddr(c.address)
		if reachable(ip, false) != c.public || reachable(ip, true) != c.private {
			t.Errorf("%s: %v, and %v where private networks are allowed", c.address, reachable(ip, false), reachable(ip, true))
		}
	}
}

func TestOutboundClient(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer here.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(here.URL, "http://"), ":")
	for _, at := range []string{here.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port} {
		if res, err := outboundClient(false, nil).Get(at); err == nil {
			res.Body.Close()
			t.Errorf("%s was reached", at)
		} else if !strings.Contains(err.Error(), "not a public address") {
			t.Errorf("%s: %v", at, err)
		}
	}
	res, err := outboundClient(true, nil).Get(here.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("got %d, want the redirect itself", res.StatusCode)
	}
}

func TestCheckOutboundURL(t *testing.T) {
	for s, ok := range map[string]bool{
		"https://acme.example.com/jwks": true, "https://acme.example.com:8443/jwks?x=1": true, "http://localhost:5556/jwks": true, "http://127.0.0.1/": true, "http://[::1]:1/": true,
		"http://acme.example.com/": false, "https:///jwks": false, "https://user@acme.example.com/": false, "https://acme.example.com/#x": false,
		"file:///etc/passwd": false, "ftp://acme.example.com/": false, "": false, "acme.example.com": false, "https://acme.example.com/ x": false, "gopher://localhost/": false,
		"https://" + strings.Repeat("a", 2000): false,
	} {
		if err := checkOutboundURL(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
