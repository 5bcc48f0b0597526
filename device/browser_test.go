package device

import (
	"slices"
	"strings"
	"testing"
)

const (
	mac     = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/"
	windows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
	linux   = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
	android = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
	iphone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	ipad    = "Mozilla/5.0 (iPad; CPU OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	like    = " (KHTML, like Gecko) "
)

// Headers as browsers of 2025 and 2026 send them. Since the reduction of Chrome's
// every Android is "Android 10; K", and every Mac is 10_15_7.
var browsers = map[string]Browser{
	mac + "537.36" + like + "Chrome/142.0.0.0 Safari/537.36":                                                                                                 {"Chrome", "macOS", "desktop"},
	windows + "Chrome/142.0.0.0 Safari/537.36":                                                                                                               {"Chrome", "Windows", "desktop"},
	linux + "Chrome/142.0.0.0 Safari/537.36":                                                                                                                 {"Chrome", "Linux", "desktop"},
	android + "Chrome/142.0.0.0 Mobile Safari/537.36":                                                                                                        {"Chrome", "Android", "phone"},
	android + "Chrome/142.0.0.0 Safari/537.36":                                                                                                               {"Chrome", "Android", "tablet"},
	iphone + "CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1":                                                                                                {"Chrome", "iPhone", "phone"},
	ipad + "CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1":                                                                                                  {"Chrome", "iPad", "tablet"},
	mac + "605.1.15" + like + "CriOS/142 Version/11.1.1 Safari/605.1.15":                                                                                     {"Chrome", "iPad", "tablet"},
	"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36" + like + "Chrome/142.0.0.0 Safari/537.36":                                                  {"Chrome", "ChromeOS", "desktop"},
	"Mozilla/5.0 (X11; CrOS aarch64 16295.0.0) AppleWebKit/537.36" + like + "Chrome/138.0.0.0 Safari/537.36":                                                 {"Chrome", "ChromeOS", "desktop"},
	"Mozilla/5.0 (X11; FreeBSD amd64) AppleWebKit/537.36" + like + "Chrome/140.0.0.0 Safari/537.36":                                                          {"Chrome", "FreeBSD", "desktop"},
	"Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP2A.240805.005; wv) AppleWebKit/537.36" + like + "Version/4.0 Chrome/138.0.7204.63 Mobile Safari/537.36": {"Chrome", "Android", "phone"},
	linux + "Ubuntu Chromium/140.0.0.0 Chrome/140.0.0.0 Safari/537.36":                                                                                       {"Chromium", "Linux", "desktop"},

	mac + "605.1.15" + like + "Version/26.0 Safari/605.1.15":                                       {"Safari", "macOS", "desktop"}, // an iPad's Safari says no other
	iphone + "Version/26.0 Mobile/15E148 Safari/604.1":                                             {"Safari", "iPhone", "phone"},
	ipad + "Version/18.6 Mobile/15E148 Safari/604.1":                                               {"Safari", "iPad", "tablet"},
	iphone + "Mobile/15E148":                                                                       {"", "iPhone", "phone"}, // within an app
	mac + "605.1.15" + like + "Mobile/15E148":                                                      {"", "iPad", "tablet"},
	"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15" + like + "Version/26.0 Safari/605.1.15": {"", "Linux", "desktop"}, // GNOME Web

	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0":                      {"Firefox", "macOS", "desktop"},
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0":                          {"Firefox", "Windows", "desktop"},
	"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                    {"Firefox", "Linux", "desktop"},
	"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0":                            {"Firefox", "Linux", "desktop"},
	"Mozilla/5.0 (Android 15; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0":                                      {"Firefox", "Android", "phone"},
	"Mozilla/5.0 (Android 15; Tablet; rv:145.0) Gecko/145.0 Firefox/145.0":                                      {"Firefox", "Android", "tablet"},
	iphone + "FxiOS/145.0 Mobile/15E148 Safari/605.1.15":                                                        {"Firefox", "iPhone", "phone"},
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15) AppleWebKit/605.1.15" + like + "FxiOS/145.0 Safari/605.1.15": {"Firefox", "iPad", "tablet"},
	"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0 SeaMonkey/2.53.22":                  {"SeaMonkey", "Linux", "desktop"},

	windows + "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0":                      {"Edge", "Windows", "desktop"},
	mac + "537.36" + like + "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0":        {"Edge", "macOS", "desktop"},
	linux + "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0":                        {"Edge", "Linux", "desktop"},
	windows + "Chrome/70.0.3538.102 Safari/537.36 Edge/18.19045":                  {"Edge", "Windows", "desktop"},
	android + "Chrome/142.0.0.0 Mobile Safari/537.36 EdgA/142.0.0.0":              {"Edge", "Android", "phone"},
	iphone + "Version/18.0 EdgiOS/142.0.3595.66 Mobile/15E148 Safari/605.1.15":    {"Edge", "iPhone", "phone"},
	mac + "605.1.15" + like + "Version/18.0 EdgiOS/142.0.3595.66 Safari/605.1.15": {"Edge", "iPad", "tablet"},
	"Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko":       {"Internet Explorer", "Windows", "desktop"},

	android + "SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36":                                                            {"Samsung Internet", "Android", "phone"},
	linux + "SamsungBrowser/29.0 Chrome/136.0.0.0 Safari/537.36":                                                                     {"Samsung Internet", "Android", "tablet"},
	"Mozilla/5.0 (SMART-TV; LINUX; Tizen 9.0) AppleWebKit/537.36" + like + "SamsungBrowser/7.0 Chrome/120.0.6099.5 TV Safari/537.36": {"Samsung Internet", "Tizen", ""},
	"Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36" + like + "Chrome/120.0.6099.270 Safari/537.36 WebAppManager":             {"Chrome", "webOS", ""},

	windows + "Chrome/141.0.0.0 Safari/537.36 OPR/125.0.0.0":                                                                                                                             {"Opera", "Windows", "desktop"},
	android + "Chrome/141.0.0.0 Mobile Safari/537.36 OPR/92.0.0.0":                                                                                                                       {"Opera", "Android", "phone"},
	iphone + "Version/18.7 Mobile/15E148 Safari/604.1 OPT/6.3.0":                                                                                                                         {"Opera", "iPhone", "phone"},
	iphone + "Version/18.7 Mobile/15E148 Safari/604.1 OPX/2.9.0":                                                                                                                         {"Opera", "iPhone", "phone"},
	"Opera/9.80 (Android; Opera Mini/94.0.2254/191.300; U; en) Presto/2.12.423 Version/12.16":                                                                                            {"Opera Mini", "Android", "phone"},
	linux + "Chrome/142.0.0.0 Safari/537.36 Vivaldi/7.7.3851.48":                                                                                                                         {"Vivaldi", "Linux", "desktop"},
	windows + "Chrome/138.0.0.0 YaBrowser/25.8.0.0 Safari/537.36":                                                                                                                        {"Yandex Browser", "Windows", "desktop"},
	iphone + "Version/18.5 YaBrowser/25.9.4.553.10 Mobile/15E148 Safari/604.1":                                                                                                           {"Yandex Browser", "iPhone", "phone"},
	windows + "Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0 Ddg/142.0.0.0":                                                                                                               {"DuckDuckGo", "Windows", "desktop"},
	mac + "605.1.15" + like + "Version/18.6 Safari/605.1.15 Ddg/18.6":                                                                                                                    {"DuckDuckGo", "macOS", "desktop"},
	"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36" + like + "Version/4.0 Chrome/138.0.0.0 Mobile DuckDuckGo/5 Safari/537.36":                                                       {"DuckDuckGo", "Android", "phone"},
	windows + "Chrome/138.0.0.0 Whale/4.33.325.17 Safari/537.36":                                                                                                                         {"Whale", "Windows", "desktop"},
	"Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36" + like + "Silk/138.5.11 like Chrome/138.0.7204.179 Safari/537.36":                                                       {"Silk", "Android", "tablet"},
	"Mozilla/5.0 (Linux; Android 14; Quest 3) AppleWebKit/537.36" + like + "OculusBrowser/40.2.0.9 Chrome/138.0.7204.243 VR Safari/537.36":                                               {"Meta Quest Browser", "Android", "tablet"},
	"Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36" + like + "Chrome/132.0.0.0 Safari/537.36 ArkWeb/6.0.0.47 Mobile HuaweiBrowser/5.1.5.310":                                   {"Huawei Browser", "HarmonyOS", "phone"},
	"Mozilla/5.0 (Linux; U; Android 14; en-gb; 2201116SG Build/UKQ1) AppleWebKit/537.36" + like + "Version/4.0 Chrome/125.0.6422.186 Mobile Safari/537.36 XiaoMi/MiuiBrowser/14.40.0-gn": {"Mi Browser", "Android", "phone"},

	iphone + "GSA/393.0.826310166 Mobile/15E148 Safari/604.1":                                                     {"Google app", "iPhone", "phone"},
	iphone + "Mobile/22G100 Instagram 403.0.0.31.79 (iPhone16,2; iOS 18_6; en_GB; en-GB; scale=3.00; 1290x2796)":  {"Instagram", "iPhone", "phone"},
	iphone + "Mobile/22G100 [FBAN/FBIOS;FBAV/533.0.0.36.105;FBBV/797230141;FBDV/iPhone16,2;FBMD/iPhone;FBSN/iOS]": {"Facebook", "iPhone", "phone"},
	iphone + "Mobile/22G100 MicroMessenger/8.0.63(0x18003f2f) NetType/WIFI Language/en":                           {"WeChat", "iPhone", "phone"},

	// What is built on a browser is not that browser.
	mac + "537.36" + like + "Code/1.105.1 Chrome/138.0.7204.251 Electron/37.6.0 Safari/537.36":  {"", "macOS", "desktop"},
	linux + "Slack/4.46.101 Chrome/140.0.0.0 Electron/38.2.2 Safari/537.36":                     {"", "Linux", "desktop"},
	"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/538.1" + like + "PhantomJS/2.1.1 Safari/538.1": {"", "Linux", "desktop"},
	linux + "HeadlessChrome/142.0.0.0 Safari/537.36":                                            {"Headless Chrome", "Linux", "desktop"},
	linux + "HeadlessEdg/142.0.0.0 Chrome/142.0.0.0 Safari/537.36":                              {"", "Linux", "desktop"},

	// Programs and robots.
	"curl/8.16.0":            {"curl", "", ""},
	"Wget/1.25.0":            {"Wget", "", ""},
	"Go-http-client/2.0":     {},
	"python-requests/2.32.5": {},
	"okhttp/5.1.0":           {},
	"node":                   {},
	"Dalvik/2.1.0 (Linux; U; Android 15; Pixel 9 Build/BP1A.250505.005)":                                                                                 {"", "Android", ""},
	"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)":                                                                           {},
	"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/141.0.7390.122 Safari/537.36": {},
	"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/136.0.0.0 Safari/537.36":       {},
	"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)":                                             {},
	linux + "Chrome/133.0.0.0 Safari/537.36 (compatible; SomeBot/1.0; bots@example.com)":                                                                 {},
	linux + "Chrome/133.0.0.0 Safari/537.36 (a crawler)":                                                                                                 {},
	"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)":                                                                                         {},

	// What says nothing, and what says too much.
	"":                                       {},
	"Mozilla/5.0":                            {},
	"-":                                      {},
	"<script>alert(1)</script>":              {},
	"Your account is blocked. Call 555 0100": {},
	"Chrome\x00\xff/1.0":                     {},
}

func TestParse(t *testing.T) {
	for in, want := range browsers {
		if got := Parse(in); got != want {
			t.Errorf("Parse(%q) = %+v, want %+v", in, got, want)
		}
	}
}

// What comes after the bound is not read.
func TestParseIsBounded(t *testing.T) {
	long := linux + "Chrome/142.0.0.0 Safari/537.36 "
	for _, more := range []string{strings.Repeat("a/1 ", 1<<18), strings.Repeat("(", 1<<20), strings.Repeat("x", maxUserAgent) + " Edg/142.0.0.0"} {
		if got, want := Parse(long+more), Parse((long + more)[:maxUserAgent]); got != want {
			t.Errorf("%.150q…: %+v, of its beginning %+v", long+more, got, want)
		}
	}
}

// A stranger's text is never shown: every word is one of ours.
func FuzzParse(f *testing.F) {
	for in := range browsers {
		f.Add(in)
	}
	words := []string{"", "iPhone", "iPad"}
	for _, name := range names {
		words = append(words, name)
	}
	for _, t := range told {
		words = append(words, t.name)
	}
	for _, name := range systems {
		words = append(words, name)
	}
	for _, t := range toldSystems {
		words = append(words, t.name)
	}
	f.Fuzz(func(t *testing.T, in string) {
		b := Parse(in)
		if !slices.Contains(words, b.Name) || !slices.Contains(words, b.OS) || !slices.Contains([]string{"", "desktop", "phone", "tablet"}, b.Kind) {
			t.Errorf("Parse(%q) = %+v", in, b)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	hostile := strings.Repeat("a;", maxUserAgent/2)
	for b.Loop() {
		Parse(hostile)
	}
}
