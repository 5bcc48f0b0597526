package device

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// writePlaces writes a file in MaxMind's DB format 2.0, with 24-bit records, that
// holds a record for each of the networks, and returns its path.
func writePlaces(t *testing.T, ipVersion uint16, records map[string]any) string {
	t.Helper()
	type node [2]int // 0 is nothing, positive another node, negative what follows -1-offset in the data
	nodes := []node{{}}
	var data []byte
	for _, network := range slices.Sorted(maps.Keys(records)) {
		prefix := netip.MustParsePrefix(network)
		bits, n := prefix.Addr().AsSlice(), prefix.Bits()
		if prefix.Addr().Is4() && ipVersion == 6 {
			bits, n = append(make([]byte, 12), bits...), n+96
		}
		at := 0
		for i := range n {
			side := int(bits[i/8]>>(7-i%8)) & 1
			switch next := nodes[at][side]; {
			case i == n-1:
				nodes[at][side] = -1 - len(data)
			case next > 0:
				at = next
			case next == 0:
				nodes = append(nodes, node{})
				nodes[at][side] = len(nodes) - 1
				at = len(nodes) - 1
			default:
				t.Fatalf("%s is within another network", network)
			}
		}
		data = appendValue(data, records[network])
	}
	var file []byte
	for _, n := range nodes {
		for _, to := range n {
			switch {
			case to == 0:
				to = len(nodes)
			case to < 0:
				to = len(nodes) + 16 + (-1 - to)
			}
			file = append(file, byte(to>>16), byte(to>>8), byte(to))
		}
	}
	file = append(file, make([]byte, 16)...)
	file = append(file, data...)
	file = append(file, "\xab\xcd\xefMaxMind.com"...)
	file = appendValue(file, map[string]any{
		"binary_format_major_version": uint16(2), "binary_format_minor_version": uint16(0), "build_epoch": uint32(1790000000),
		"database_type": "Test", "ip_version": ipVersion, "node_count": uint32(len(nodes)), "record_size": uint16(24),
	})
	path := filepath.Join(t.TempDir(), "places.mmdb")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// appendValue appends a value as the format encodes it.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		if len(v) < 29 {
			return append(append(b, 2<<5|byte(len(v))), v...)
		}
		return append(append(b, 2<<5|29, byte(len(v)-29)), v...)
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, 5<<5|2), v)
	case uint32:
		return binary.BigEndian.AppendUint32(append(b, 6<<5|4), v)
	case map[string]any:
		b = append(b, 7<<5|byte(len(v)))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b = appendValue(appendValue(b, key), v[key])
		}
		return b
	default:
		panic("a value of another type")
	}
}

type record = map[string]any

// named is how GeoLite2 names a city and a country.
func named(english string, more record) record {
	r := record{"geoname_id": uint32(2267057), "names": record{"de": "anders", "en": english, "pt-BR": "outro"}}
	maps.Copy(r, more)
	return r
}

func open(t *testing.T, path string) *Places {
	t.Helper()
	p, err := OpenPlaces(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLookup(t *testing.T) {
	portugal := named("Portugal", record{"iso_code": "PT"})
	cities := writePlaces(t, 6, record{
		"192.0.2.0/25":      record{"city": named("Lisbon", nil), "country": portugal},
		"192.0.2.128/25":    record{"country": portugal, "registered_country": named("Spain", nil)},
		"198.51.100.0/25":   record{"city": named("Singapore", nil), "country": named("Singapore", nil)},
		"198.51.100.128/25": record{"city": named("Nowhere", nil), "registered_country": named("Spain", nil)},
		"203.0.113.0/25":    record{"country": record{"iso_code": "TR"}, "city": "a city that is not laid out so"},
		"203.0.113.128/25":  record{"city": named("São Tomé", nil), "country": named("São Tomé and Príncipe, and a name of length", nil)},
		"2001:db8::/33":     record{"city": named("Porto", nil), "country": portugal},
		"10.0.0.0/8":        record{"country": portugal},
		"127.0.0.0/8":       record{"country": portugal},
		"fc00::/7":          record{"country": portugal},
	})
	codes := record{
		"192.0.2.0/25":      record{"country_code": "PT"},
		"192.0.2.128/25":    record{"country_code": "MK"},
		"198.51.100.0/25":   record{"country_code": "XX"},
		"198.51.100.128/25": record{"country_code": "nonsense"},
		"203.0.113.0/24":    record{"country_code": "GB"},
	}
	for _, c := range []struct {
		what, path string
		want       map[string]string
	}{
		{"cities", cities, map[string]string{
			"192.0.2.1": "Lisbon, Portugal", "192.0.2.127": "Lisbon, Portugal", "::ffff:192.0.2.1": "Lisbon, Portugal",
			"192.0.2.128": "Portugal", "198.51.100.1": "Singapore", "198.51.100.200": "", "203.0.113.1": "Türkiye",
			"203.0.113.200": "São Tomé, São Tomé and Príncipe, and a name of length",
			"2001:db8::1":   "Porto, Portugal", "2001:db8:8000::1": "", "8.8.8.8": "",
			"10.1.2.3": "", "127.0.0.1": "", "::1": "", "fd00::1": "", "fe80::1%eth0": "", "0.0.0.0": "", "::": "", "224.0.0.1": "",
			"": "", "192.0.2.1:443": "", "192.0.2.0/24": "", "localhost": "",
		}},
		{"codes", writePlaces(t, 6, codes), map[string]string{
			"192.0.2.1": "Portugal", "192.0.2.200": "North Macedonia", "198.51.100.1": "", "198.51.100.200": "", "203.0.113.9": "United Kingdom",
		}},
		{"codes of IPv4 alone", writePlaces(t, 4, codes), map[string]string{
			"192.0.2.1": "Portugal", "::ffff:192.0.2.1": "Portugal", "2001:db8::1": "",
		}},
	} {
		p := open(t, c.path)
		for address, want := range c.want {
			if got := p.Lookup(address); got != want {
				t.Errorf("%s: Lookup(%q) = %q, want %q", c.what, address, got, want)
			}
		}
	}
}

// Where there is no file, and where it is closed, nothing is known.
func TestPlacesUnknown(t *testing.T) {
	var none *Places
	if got := none.Lookup("192.0.2.1"); got != "" {
		t.Errorf("no file: %q", got)
	}
	if err := none.Close(); err != nil {
		t.Error(err)
	}

	p := open(t, writePlaces(t, 4, record{"192.0.2.0/24": record{"country_code": "PT"}}))
	var looking sync.WaitGroup
	for range 8 {
		looking.Go(func() {
			for range 1000 {
				if got := p.Lookup("192.0.2.1"); got != "Portugal" && got != "" {
					t.Errorf("while it closes: %q", got)
					return
				}
			}
		})
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	looking.Wait()
	if got := p.Lookup("192.0.2.1"); got != "" {
		t.Errorf("closed: %q", got)
	}
}

// A file that tells no places is refused when it is opened, not found out later.
func TestOpenPlacesRefuses(t *testing.T) {
	good, err := os.ReadFile(writePlaces(t, 6, record{"192.0.2.0/24": record{"country_code": "PT"}}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bad.mmdb")
	for what, content := range map[string][]byte{
		"empty":   {},
		"text":    []byte("192.0.2.0/24,PT\n"),
		"cut":     good[:len(good)/2],
		"no tree": good[bytes.Index(good, []byte("\xab\xcd\xefMaxMind.com")):],
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPlaces(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
	networks := writePlaces(t, 6, record{"192.0.2.0/24": record{"autonomous_system_number": uint32(64496), "autonomous_system_organization": "Example"}})
	for _, path := range []string{networks, filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		if _, err := OpenPlaces(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
