package device

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/oschwald/maxminddb-golang/v2"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
)

// Places knows roughly where addresses are, from a file in MaxMind's DB format.
// Its methods are safe to be called at the same time; of a nil *Places, too, which
// knows nothing.
type Places struct {
	db atomic.Pointer[maxminddb.Reader]
}

// OpenPlaces reads a file of cities or countries: one laid out as GeoLite2, or one
// of plain country_code. It is held in memory whole, so that nobody who writes to
// it later stops the program. Its errors are the file's: that it cannot be read, is
// not in the format, or names no country.
func OpenPlaces(file string) (*Places, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for found := range db.Networks() {
		if place(found) != "" {
			p := new(Places)
			p.db.Store(db)
			return p, nil
		}
	}
	return nil, fmt.Errorf("%s: a file of %q names no country", file, db.Metadata.DatabaseType)
}

// Close lets go of the file. Look-ups know nothing from then on. It has no errors.
func (p *Places) Close() error {
	if p != nil {
		p.db.Store(nil)
	}
	return nil
}

// Lookup returns where a textual IP address is, in English: "Lisbon, Portugal",
// "Portugal", or "" for one that is private, unknown or not an address. It is a
// guess: whoever shows it says "approximate".
func (p *Places) Lookup(address string) string {
	if p == nil {
		return ""
	}
	ip, err := netip.ParseAddr(address)
	ip = ip.Unmap()
	db := p.db.Load()
	if err != nil || db == nil || !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return ""
	}
	return place(db.Lookup(ip))
}

// place returns the words for what was found.
func place(found maxminddb.Result) string {
	// What a file lacks, or has otherwise, stays empty.
	text := func(path ...any) (s string) {
		if found.DecodePath(&s, path...) != nil {
			return ""
		}
		return s
	}
	country := text("country", "names", "en")
	if country == "" {
		country = region(text("country", "iso_code"))
	}
	if country == "" {
		country = region(text("country_code"))
	}
	city := text("city", "names", "en")
	switch {
	case country == "" || city == "" || city == country:
		return country
	default:
		return city + ", " + country
	}
}

// renamed are countries that have another name since display's tables were made.
var renamed = map[string]string{"MK": "North Macedonia", "SZ": "Eswatini", "TR": "Türkiye"}

// region returns the English name of a country by its code of ISO 3166-1.
func region(code string) string {
	r, err := language.ParseRegion(code)
	if err != nil || !r.IsCountry() {
		return ""
	}
	if name, ok := renamed[r.String()]; ok {
		return name
	}
	return display.English.Regions().Name(r)
}
