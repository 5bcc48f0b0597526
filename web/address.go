package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// Address is where a request comes from: the peer or, behind the proxies that
// Config trusts, the right-most address of X-Forwarded-For that is not one of
// them. What stands to the left of it anybody can have written. The zero Addr
// means that there is none (a Unix socket).
func Address(r *http.Request) netip.Addr {
	if x := from(r.Context()); x != nil {
		return x.address
	}
	return parseAddress(r.RemoteAddr)
}

// Network is the unit in which sources are counted: the address itself, or the
// /64 that an IPv6 customer can move in at will.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (s *site) client(r *http.Request) netip.Addr {
	addr := parseAddress(r.RemoteAddr)
	if len(s.TrustedProxies) == 0 {
		return addr
	}
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			if !s.trusts(addr) {
				return addr
			}
			hop := rest
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, hop = rest[:cut], rest[cut+1:]
			} else {
				more = false
			}
			next := parseAddress(strings.TrimSpace(hop))
			if !next.IsValid() {
				return addr
			}
			addr = next
		}
	}
	return addr
}

func (s *site) trusts(a netip.Addr) bool {
	for _, p := range s.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// parseAddress reads an address with or without a port.
func parseAddress(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}
