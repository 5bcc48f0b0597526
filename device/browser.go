// Package device puts into words where a request came from: the browser that a
// User-Agent names, and the place of an address. Pages and mails show them.
package device

import (
	"strings"

	"github.com/mileusna/useragent"
)

// A Browser is what a User-Agent header says of itself, which anyone can write.
// Its words are from fixed sets, none is the header's own; what is not known is
// empty. There are no versions: browsers have stopped telling theirs.
type Browser struct {
	Name string // "Chrome", "Samsung Internet", "curl"
	OS   string // "macOS", "Windows", "Linux", "Android", "iPhone", "iPad", "ChromeOS"
	Kind string // "desktop", "phone" or "tablet"
}

// maxUserAgent bounds, in bytes, what is read of a header.
const maxUserAgent = 512

// names are the plain names of what the library knows. Whatever is not here has
// no name: an app that is built on Chrome is not Chrome.
var names = map[string]string{
	useragent.Chrome:           "Chrome",
	useragent.HeadlessChrome:   "Headless Chrome",
	useragent.Firefox:          "Firefox",
	useragent.Safari:           "Safari",
	useragent.Edge:             "Edge",
	useragent.Opera:            "Opera",
	useragent.OperaMini:        "Opera Mini",
	useragent.OperaTouch:       "Opera",
	useragent.Vivaldi:          "Vivaldi",
	useragent.SamsungBrowser:   "Samsung Internet",
	useragent.InternetExplorer: "Internet Explorer",
	"Trident":                  "Internet Explorer", // 11
	"Miui Browser":             "Mi Browser",
	"UCBrowser":                "UC Browser",
	"Konqueror":                "Konqueror",
	useragent.FacebookApp:      "Facebook",
	useragent.InstagramApp:     "Instagram",
	useragent.TiktokApp:        "TikTok",
	"curl":                     "curl",
	"Wget":                     "Wget",
}

// told are those that the library takes for the browser that they descend from.
var told = []struct{ token, name string }{
	{"Ddg/", "DuckDuckGo"},
	{"DuckDuckGo/", "DuckDuckGo"},
	{"Brave/", "Brave"},
	{"YaBrowser/", "Yandex Browser"},
	{"Whale/", "Whale"},
	{"OPX/", "Opera"},
	{"HuaweiBrowser/", "Huawei Browser"},
	{"GSA/", "Google app"},
	{"Silk/", "Silk"},
	{"OculusBrowser/", "Meta Quest Browser"},
	{"MicroMessenger/", "WeChat"},
	{"Chromium/", "Chromium"},
	{"SeaMonkey/", "SeaMonkey"},
	{"PaleMoon/", "Pale Moon"},
	{"PhantomJS/", ""},
	{"Electron/", ""},
}

// systems are the names of what the library knows of systems, but for Apple's
// small ones, which are known by the device.
var systems = map[string]string{
	useragent.Windows:  "Windows",
	useragent.MacOS:    "macOS",
	useragent.Linux:    "Linux",
	useragent.Android:  "Android",
	useragent.ChromeOS: "ChromeOS",
	useragent.Harmony:  "HarmonyOS",
}

// toldSystems are those that the library takes for another or for none.
var toldSystems = []struct{ token, name string }{
	{"Tizen", "Tizen"},
	{"Web0S", "webOS"},
	{"FreeBSD", "FreeBSD"},
	{"OpenBSD", "OpenBSD"},
}

// kinds are what runs a system. Android runs on more than one.
var kinds = map[string]string{
	"Windows": "desktop", "macOS": "desktop", "Linux": "desktop", "ChromeOS": "desktop", "FreeBSD": "desktop", "OpenBSD": "desktop",
	"iPhone": "phone", "iPad": "tablet",
}

// Parse says what kind of browser a User-Agent header names. A header that cannot
// be read, and one of a robot, gives the zero Browser; no header is an error.
func Parse(userAgent string) Browser {
	userAgent = userAgent[:min(len(userAgent), maxUserAgent)]
	says := func(token string) bool { return strings.Contains(userAgent, token) }
	ua := useragent.Parse(userAgent)
	if ua.Bot && ua.Name != useragent.HeadlessChrome || says("bot/") || says("Bot/") || says("rawler") || says("pider") {
		return Browser{}
	}

	b := Browser{Name: names[ua.Name], OS: systems[ua.OS]}
	for _, t := range told {
		if says(t.token) {
			b.Name = t.name
			break
		}
	}
	if ua.OS == useragent.IOS {
		b.OS = ua.Device // "iPhone" or "iPad"
	}
	// An iPad calls itself a Mac, unless it says what no Mac can be: a browser of
	// iOS, or mobile.
	if b.OS == "macOS" && (says("iOS/") || says("Mobile/") || says("OPT/") || says("OPX/") || says("GSA/")) {
		b.OS = "iPad"
	}
	for _, t := range toldSystems {
		if says(t.token) {
			b.OS = t.name
			break
		}
	}
	if b.Name == "Safari" && b.OS != "macOS" && b.OS != "iPhone" && b.OS != "iPad" {
		b.Name = "" // every other WebKit says so too
	}
	b.Kind = kinds[b.OS]
	switch {
	case b.OS != "Android" && b.OS != "HarmonyOS":
	case says("Tablet"):
		b.Kind = "tablet"
	case says("Mobile") || b.Name == "Opera Mini":
		b.Kind = "phone"
	case b.OS == "Android" && b.Name != "":
		b.Kind = "tablet" // Chrome says Mobile on phones alone, and the rest follow it
	}
	return b
}
