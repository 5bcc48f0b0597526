package idp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// outboundTimeout is how long a workspace's server may take for an answer, all
// in all: nobody waits for a slow one.
const outboundTimeout = 5 * time.Second

// outboundClient returns the HTTP client for addresses that a registration
// names. It follows no redirect, uses no proxy, and connects to public addresses
// alone, whatever their name resolves to (ASVS 1.3.6): no registration makes the
// provider a door into the network that it stands in. allowPrivate opens loopback
// and private networks, for a provider that is itself on this machine. roots are the
// certificate authorities that are trusted, nil for the system's.
func outboundClient(allowPrivate bool, roots *x509.CertPool) *http.Client {
	dialer := &net.Dialer{
		Timeout: outboundTimeout,
		Control: func(_, address string, _ syscall.RawConn) error { // sees what the name was resolved to
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !reachable(at.Addr(), allowPrivate) {
				return fmt.Errorf("%s is not a public address", at.Addr())
			}
			return nil
		},
	}
	return &http.Client{
		Timeout:       outboundTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    outboundTimeout,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			MaxResponseHeaderBytes: 16 << 10,
			MaxIdleConnsPerHost:    2,
			MaxIdleConns:           100,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
		},
	}
}

// special are the networks of the registries of special-purpose addresses (RFC
// 6890) that netip does not know: shared, translated to or tunnelled through IPv4,
// benchmarks, reserved.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// reachable reports whether the provider may connect to an address.
func reachable(ip netip.Addr, allowPrivate bool) bool {
	ip = ip.Unmap()
	if ip.IsLoopback() || ip.IsPrivate() {
		return allowPrivate
	}
	if !ip.IsGlobalUnicast() { // unspecified, link-local, multicast, broadcast
		return false
	}
	for _, p := range special {
		if p.Contains(ip.WithZone("")) {
			return false
		}
	}
	return true
}

// checkOutboundURL takes what outboundClient may be sent to: https, or http on
// loopback.
func checkOutboundURL(s string) error {
	for _, c := range s {
		if c <= ' ' || c > '~' {
			return errors.New("has a character that belongs percent-encoded")
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || len(s) > 2000:
		return errors.New("is not an absolute URL")
	case u.Fragment != "":
		return errors.New("has a fragment")
	case u.User != nil:
		return errors.New("has a user name in it")
	case u.Scheme == "https", u.Scheme == "http" && Loopback(u.Hostname()):
		return nil
	}
	return errors.New("is neither https nor, on loopback, http")
}
