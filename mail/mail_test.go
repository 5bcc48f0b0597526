package mail

import (
	"fmt"
	"html"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
	"github.com/harmony/id/templates"
)

const aToken = "hrp_01234567890123456789012345678901234567890"

var (
	someCfg = Config{Issuer: &url.URL{Scheme: "https", Host: "id.test"}, From: `"Harmony" <no-reply@id.test>`, Links: templates.Links{Support: "https://help.test/"}}
	someAt  = time.Date(2026, 9, 24, 13, 41, 7, 0, time.UTC)
	aMac    = account.Device{
		Address: "192.0.2.7", Network: "192.0.2.7/32",
		UserAgent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
	}
	aSupporter = account.Actor{Kind: "operator", Name: "sam"}
)

// letter is one to Ada about what she did, or what an operator did for her.
func letter(kind string, d account.Detail, edits ...func(*account.Letter)) account.Letter {
	l := account.Letter{
		ID: "evt_01", Kind: kind, At: someAt, Email: "ada@example.com", Name: "Ada Lovelace", Zone: "Europe/Lisbon", Method: account.MethodPassword,
		Device: aMac, Actor: account.Actor{Kind: "person"}, Detail: d,
	}
	for _, edit := range edits {
		edit(&l)
	}
	return l
}

func byOperator(l *account.Letter) { l.Actor, l.Device = aSupporter, account.Device{} }
func ofGoogle(l *account.Letter)   { l.Method = account.MethodGoogle }
func withLink(l *account.Letter)   { l.Token = aToken }

// A mailCase is a letter and what its mail says and does not say.
type mailCase struct {
	letter  account.Letter
	subject string
	leads   string // where its one link leads, if not to "This wasn't me"
	says    []string
	not     []string
}

// everyMail is every kind of mail there is.
func everyMail() map[string]mailCase {
	const when, from = "Thursday 24 September 2026, 14:41 (WEST), 13:41 UTC", "Chrome on macOS"
	notMine := "This wasn’t me"
	notAsked := "I didn’t ask for this"
	return map[string]mailCase{
		"new sign-in": {
			letter(account.EventSignedIn, account.Detail{AMR: []string{"pwd", "otp", "mfa"}, New: true}),
			"New sign-in to your Harmony account", "",
			[]string{when, from, "Lisbon, Portugal (approximate), 192.0.2.7", "How: Password and 6-digit code", notMine}, []string{"/login"},
		},
		"passkey added": {
			letter(account.EventPasskeyAdded, account.Detail{Passkeys: []string{"Work <b>laptop</b>"}}), "A passkey was added to your account", "",
			[]string{when, from, "Passkey: Work <b>laptop</b>", notMine}, nil,
		},
		"security key added": {
			letter(account.EventPasskeyAdded, account.Detail{Passkeys: []string{"Blue key"}, Touch: true}), "A security key was added to your account", "",
			[]string{when, from, "Passkey: Blue key\n", "can’t sign in with it alone", notMine}, []string{"can sign in with it."},
		},
		"passkey renamed": {
			letter(account.EventPasskeyRenamed, account.Detail{Passkeys: []string{"Work", "Home"}}), "A passkey of yours was renamed", "",
			[]string{when, from, "Passkey: Work\n", "New name: Home\n", notMine}, nil,
		},
		"passkey removed": {
			letter(account.EventPasskeyRemoved, account.Detail{Passkeys: []string{"Work"}, Ended: 2}), "A passkey was removed from your account", "",
			[]string{when, from, "Passkey: Work\n", "Sessions: 2 ended\n", notMine}, nil,
		},
		"passkey with a name that leads somewhere": {
			letter(account.EventPasskeyRemoved, account.Detail{Passkeys: []string{"call evil.example now"}}), "A passkey was removed from your account", "",
			[]string{"Passkey: one with a name that we don’t repeat here"}, []string{"evil"},
		},
		"passkey refused": {
			letter(account.EventPasskeyRefused, account.Detail{Passkeys: []string{"Work"}}), "We refused one of your passkeys", "https://id.test/preferences/security/passkeys",
			[]string{when, from, "Passkey: Work\n", "Remove it from your account"}, nil,
		},
		"password reset, with passkeys": {
			letter(account.EventPasswordReset, account.Detail{Ended: 1, Passkeys: []string{"Work", "Phone"}}), "Your Harmony password was reset", "",
			[]string{when, from, "Passkeys that still sign you in: Work, Phone\n"}, nil,
		},
		"2FA reset, with passkeys": {
			letter(account.EventTwoFactorReset, account.Detail{Case: "4711", Ended: 2, Passkeys: []string{"Work", "Phone"}}, byOperator), "Harmony support turned 2FA off", "",
			[]string{"Passkeys removed: Work, Phone\n", "4711"}, nil,
		},
		"three wrong codes": {
			letter(account.EventCodeFailed, account.Detail{Failed: 3}), "Someone knows your Harmony password", "",
			[]string{when, from, "change your password now", notMine}, []string{"Google"},
		},
		"three wrong codes, Google": {
			letter(account.EventCodeFailed, account.Detail{Failed: 3}, ofGoogle), "Someone got past your Google sign-in", "",
			[]string{when, from, "change your Google password now", notMine}, []string{"Your password"},
		},
		"codes paused": {
			letter(account.EventCodesPaused, account.Detail{Failed: 100}), "Codes from your app are paused", "",
			[]string{when, from, "A backup code still works", "change your password", notMine}, []string{"Google"},
		},
		"codes paused, Google": {
			letter(account.EventCodesPaused, account.Detail{Failed: 100}, ofGoogle), "Codes from your app are paused", "",
			[]string{when, from, "change your Google password", notMine}, []string{"Your password"},
		},
		"refresh token reused": {
			letter(account.EventRefreshReused, account.Detail{Client: "Acme"}, func(l *account.Letter) {
				l.Actor, l.Device = account.Actor{Kind: "client", Name: "acme"}, account.Device{}
			}),
			"Acme was disconnected from your Harmony account", "",
			[]string{when, "We ended this connection", "someone copied the key", "Your password and your sessions are as they were", "open Acme", "Secure your account"}, []string{"Browser", "acme", "{workspace}"},
		},
		"reset": {
			letter(account.EventResetRequested, account.Detail{}, withLink), "Reset your Harmony password", "https://id.test/login/reset?token=" + aToken,
			[]string{when, from, "It works once, for 30 minutes.", "ignore this message", "Choose a new password"}, []string{"not-me", notMine},
		},
		"reset, Google": {
			letter(account.EventResetRequested, account.Detail{}, ofGoogle), "You sign in with Google", "https://id.test/login",
			[]string{when, from, "you sign in with Google", "ignore this message"}, []string{"token", "hrp_", "/login/reset", notMine},
		},
		"password changed": {
			letter(account.EventPasswordChanged, account.Detail{Ended: 3}), "Your Harmony password was changed", "",
			[]string{when, from, "Sessions: 3 ended", notMine}, nil,
		},
		"password changed, here alone": {
			letter(account.EventPasswordChanged, account.Detail{}), "Your Harmony password was changed", "",
			[]string{when, from, "Sessions: None ended", notMine}, nil,
		},
		"password reset": {
			letter(account.EventPasswordReset, account.Detail{Ended: 1}), "Your Harmony password was reset", "",
			[]string{when, from, "Sessions: 1 ended", notMine}, nil,
		},
		"2FA on": {
			letter(account.EventTwoFactorEnabled, account.Detail{Total: 10, Ended: 2}), "Two-factor authentication is on", "",
			[]string{when, from, "Codes left: 10", "“Use a backup code”", "Sessions: 2 ended", notMine}, nil,
		},
		"2FA off": {
			letter(account.EventTwoFactorOff, account.Detail{AMR: []string{"pwd", "mfa"}}), "Two-factor authentication is off", "",
			[]string{when, from, "How: Backup code", "your password is strong", notMine}, []string{"Google"},
		},
		"2FA off, Google": {
			letter(account.EventTwoFactorOff, account.Detail{AMR: []string{"fed", "otp", "mfa"}}, ofGoogle), "Two-factor authentication is off", "",
			[]string{when, from, "How: 6-digit code", "your Google password is strong", notMine}, nil,
		},
		"backup code used": {
			letter(account.EventCodeUsed, account.Detail{Left: 7}), "You used a backup code. 7 left", "",
			[]string{when, from, "Codes left: 7", notMine}, []string{"Make new ones"},
		},
		"backup code used, few are left": {
			letter(account.EventCodeUsed, account.Detail{Left: 3}), "You used a backup code. 3 left", "",
			[]string{when, from, "Few backup codes are left", "Make new ones", "Codes left: 3", notMine}, nil,
		},
		"backup code used, none is left": {
			letter(account.EventCodeUsed, account.Detail{}), "You used your last backup code", "",
			[]string{when, from, "Make new ones", "Codes left: None", notMine}, []string{"Few"},
		},
		"backup codes made": {
			letter(account.EventCodesMade, account.Detail{Total: 10}), "New backup codes were made", "",
			[]string{when, from, "Codes left: 10", "The old ones no longer work", notMine}, nil,
		},
		"support ended a session": {
			letter(account.EventSessionEnded, account.Detail{Other: aMac.UserAgent}, byOperator), "Harmony support signed you out", "",
			[]string{when, "Browser: Chrome on macOS\nSessions: 1 ended", notAsked}, []string{"192.0.2.7", "sam", notMine},
		},
		"support ended all sessions": {
			letter(account.EventSessionsEnded, account.Detail{Ended: 4}, byOperator), "Harmony support signed you out", "",
			[]string{when, "Sessions: 4 ended", notAsked}, []string{"Browser", "sam", notMine},
		},
		"support reset 2FA": {
			letter(account.EventTwoFactorReset, account.Detail{Case: "4711", Ended: 2}, byOperator), "Harmony support turned 2FA off", "",
			[]string{when, "Case: 4711", "Sessions: 2 ended", notAsked}, []string{"Browser", "sam", notMine},
		},
		"support made a link": {
			letter(account.EventResetLinkMade, account.Detail{}, byOperator), "Support made a password-reset link", "",
			[]string{when, notAsked}, []string{"Browser", "sam", notMine, "hrp_"},
		},
	}
}

func mustCompose(t *testing.T, l account.Letter, cfg Config, places *device.Places) Message {
	t.Helper()
	m, err := Compose(l, cfg, places)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// somePlaces takes every address for one in Lisbon: a file in MaxMind's format of
// one node.
func somePlaces(t *testing.T) *device.Places {
	t.Helper()
	const to = "\x00\x00\x11" // what follows the node and 16 bytes of nothing
	named := func(name string) string {
		return "\xe1\x45names\xe1\x42en" + string(rune(0x40|len(name))) + name
	}
	file := to + to + strings.Repeat("\x00", 16) +
		"\xe2\x44city" + named("Lisbon") + "\x47country" + named("Portugal") +
		"\xab\xcd\xefMaxMind.com\xe6\x5bbinary_format_major_version\xa1\x02\x5bbinary_format_minor_version\xa0" +
		"\x4ddatabase_type\x44Test\x4aip_version\xa1\x04\x4anode_count\xc1\x01\x4brecord_size\xa1\x18"
	path := filepath.Join(t.TempDir(), "lisbon.mmdb")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	places, err := device.OpenPlaces(path)
	if err != nil {
		t.Fatal(err)
	}
	return places
}

var (
	tagRE     = regexp.MustCompile(`<[^>]*>`)
	hrefRE    = regexp.MustCompile(`href="([^"]*)"`)
	addressRE = regexp.MustCompile(`[a-z]+://\S+`)
	codeRE    = regexp.MustCompile(`\b(\d{6}|[0-9A-Z]{5}-[0-9A-Z]{5})\b`)
)

// shown are the texts that the HTML part shows.
func shown(m Message) (texts []string) {
	_, body, _ := strings.Cut(m.HTML, "<body")
	for _, text := range tagRE.Split("<body"+body, -1) {
		if text = strings.TrimSpace(html.UnescapeString(text)); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

// words are a text without the marks that only one of the parts needs.
func words(s string) string {
	return strings.Join(strings.Fields(strings.NewReplacer(":", " ", ",", " ").Replace(s)), " ")
}

// EM-06 and the rules of mails: short subjects, one link, one story in both parts,
// nothing from elsewhere, no secret but the one link's.
func TestCompose(t *testing.T) {
	places := somePlaces(t)
	for name, c := range everyMail() {
		t.Run(name, func(t *testing.T) {
			m := mustCompose(t, c.letter, someCfg, places)
			if m.ID != "evt_01" || m.From != someCfg.From || m.To != "ada@example.com" || m.Subject != c.subject {
				t.Errorf("%+v", m)
			}
			if n := utf8.RuneCountInString(m.Subject); n > 60 {
				t.Errorf("the subject has %d characters", n)
			}
			leads := c.leads
			if leads == "" {
				leads = "https://id.test/preferences/not-me"
			}
			if got := addressRE.FindAllString(m.Text, -1); !slices.Equal(got, []string{leads, "https://help.test/"}) {
				t.Errorf("the text leads to %q", got)
			}
			var hrefs []string
			for _, href := range hrefRE.FindAllStringSubmatch(m.HTML, -1) {
				hrefs = append(hrefs, html.UnescapeString(href[1]))
			}
			if !slices.Equal(hrefs, []string{leads, "https://help.test/"}) {
				t.Errorf("the HTML leads to %q", hrefs)
			}
			for _, not := range append(c.not, "src=", "url(", "@import", "<script", "<img", "<link", "<form", "http-equiv", "{", "%!", "e-mail") {
				if _, body, _ := strings.Cut(m.HTML, "</style>"); strings.Contains(m.Text, not) || strings.Contains(body, not) {
					t.Errorf("it says %q:\n%s", not, m.Text)
				}
			}
			for _, says := range append(c.says, "Hello Ada Lovelace,", "Sent to ada@example.com") {
				if !strings.Contains(m.Text, says) {
					t.Errorf("the text does not say %q:\n%s", says, m.Text)
				}
			}
			without := strings.ReplaceAll(m.Subject+m.Text+m.HTML, leads, "")
			if strings.Contains(without, "hrp_") || codeRE.MatchString(strings.ReplaceAll(strings.Join(shown(m), "\n")+m.Subject, aToken, "")) {
				t.Errorf("it has a secret:\n%s", without)
			}
			inHTML, inText := words(strings.Join(shown(m), " ")), words(m.Text)
			for line := range strings.Lines(m.Text) {
				if line = words(line); line != "https //help.test/" && line != words(leads) && !strings.Contains(inHTML, line) {
					t.Errorf("the HTML does not say %q:\n%s", line, inHTML)
				}
			}
			for _, text := range shown(m) {
				if !strings.Contains(inText, words(text)) && text != "Harmony" && text != "Or copy this address:" {
					t.Errorf("the text does not say %q:\n%s", text, m.Text)
				}
			}
		})
	}
}

// Where nobody gives support, no mail sends people there; where places are not
// known, the address stands for one.
func TestComposeWithLess(t *testing.T) {
	cfg := someCfg
	cfg.Links = templates.Links{}
	for name, c := range everyMail() {
		m := mustCompose(t, c.letter, cfg, nil)
		if strings.Contains(m.Text+m.HTML, "Contact support") || strings.Contains(m.Text, "Not sure") {
			t.Errorf("%s:\n%s", name, m.Text)
		}
		if by := c.letter.Actor.Kind; strings.Contains(m.Text, "Address: 192.0.2.7") != (by == "person") || strings.Contains(m.Text, "Place") {
			t.Errorf("%s:\n%s", name, m.Text)
		}
	}
	m := mustCompose(t, letter(account.EventPasswordChanged, account.Detail{}, func(l *account.Letter) { l.Device = account.Device{} }), cfg, nil)
	if !strings.Contains(m.Text, "Browser: Unknown browser\n") || strings.Contains(m.Text, "Address") {
		t.Error(m.Text)
	}
	cfg.Links.Support = "mailto:help@id.test"
	if m := mustCompose(t, letter(account.EventSignedIn, account.Detail{}), cfg, nil); !strings.Contains(m.HTML, `href="mailto:help@id.test"`) || !strings.Contains(m.Text, "mailto:help@id.test") {
		t.Error(m.HTML)
	}
}

// Times are the person's and UTC's.
func TestComposeTimes(t *testing.T) {
	for zone, want := range map[string]string{
		"Europe/Lisbon":    "Thursday 24 September 2026, 14:41 (WEST), 13:41 UTC",
		"America/New_York": "Thursday 24 September 2026, 09:41 (EDT), 13:41 UTC",
		"Asia/Kathmandu":   "Thursday 24 September 2026, 19:26 (UTC+0545), 13:41 UTC",
		"Pacific/Auckland": "Friday 25 September 2026, 01:41 (NZST), Thursday 13:41 UTC",
		"UTC":              "Thursday 24 September 2026, 13:41 UTC",
		"Etc/UTC":          "Thursday 24 September 2026, 13:41 UTC",
		"":                 "Thursday 24 September 2026, 13:41 UTC",
		"Local":            "Thursday 24 September 2026, 13:41 UTC",
		"Nowhere/Land":     "Thursday 24 September 2026, 13:41 UTC",
		"../../etc/passwd": "Thursday 24 September 2026, 13:41 UTC",
	} {
		m := mustCompose(t, letter(account.EventPasswordChanged, account.Detail{}, func(l *account.Letter) { l.Zone = zone }), someCfg, nil)
		if !strings.Contains(m.Text, "When: "+want+"\n") {
			t.Errorf("%s: %s", zone, m.Text)
		}
	}
}

// Every way to prove who one is has its words.
func TestComposeHow(t *testing.T) {
	for amr, want := range map[string]string{
		"": "", "sms": "", "hwk user mfa": "Passkey", "swk user otp mfa": "Security key and 6-digit code", "pwd swk user mfa": "Password and passkey", "fed hwk user mfa": "Google and passkey", "pwd": "Password", "pwd otp mfa": "Password and 6-digit code", "pwd mfa": "Password and backup code",
		"fed": "Google", "fed otp mfa": "Google and 6-digit code", "fed mfa": "Google and backup code", "otp": "6-digit code", "mfa": "Backup code",
	} {
		m := mustCompose(t, letter(account.EventSignedIn, account.Detail{AMR: strings.Fields(amr)}), someCfg, nil)
		if want == "" && strings.Contains(m.Text, "How:") || want != "" && !strings.Contains(m.Text, "How: "+want+"\n") {
			t.Errorf("%q: %s", amr, m.Text)
		}
	}
}

// Each link that is mailed is another message; the same message is the same.
func TestComposeID(t *testing.T) {
	tried := func(l *account.Letter) { l.Tries = 2 }
	if m := mustCompose(t, letter(account.EventSignedIn, account.Detail{}, tried), someCfg, nil); m.ID != "evt_01" {
		t.Errorf("a notice: %s", m.ID)
	}
	if m := mustCompose(t, letter(account.EventResetRequested, account.Detail{}, tried, withLink), someCfg, nil); m.ID != "evt_01-3" {
		t.Errorf("a link: %s", m.ID)
	}
}

// The issuer may be at a path.
func TestComposeIssuer(t *testing.T) {
	cfg := someCfg
	cfg.Issuer = &url.URL{Scheme: "https", Host: "example.com", Path: "/id/"}
	if m := mustCompose(t, letter(account.EventResetRequested, account.Detail{}, withLink), cfg, nil); !strings.Contains(m.Text, "\nhttps://example.com/id/login/reset?token="+aToken+"\n") {
		t.Error(m.Text)
	}
}

func TestComposeUnknown(t *testing.T) {
	for _, kind := range []string{"", "signed_out", "user_created", "made_up", "signed_in.subject"} {
		if m, err := Compose(letter(kind, account.Detail{}), someCfg, nil); err == nil {
			t.Errorf("%q: %+v", kind, m)
		}
	}
}

// EM-01, EM-02: whatever somebody is called, no mail says it for them.
func TestEM02_HostileNames(t *testing.T) {
	for _, name := range []string{
		"Ada\r\nBcc: eve@evil.test", "=?utf-8?q?Eve=0D=0ABcc:_eve@evil.test?=", `<a href="//evil.test">click</a>`, "<script>evil</script>", "Ada & Co",
		"\u202eevil", "Ada\u200b", "Ada\x00", "Ada\xff", "evil.test", "www.evil", "go to https://evil.test now", "eve@evil.test", "Ada evil.test/x",
		"Call +44 20 7946 0000", "Ada 0800 555 0100", "{name}", "%s", "*Ada*", strings.Repeat("evil ", 400), "", " ",
	} {
		for kind, c := range everyMail() {
			l := c.letter
			l.Name = name
			m := mustCompose(t, l, someCfg, nil)
			if !strings.Contains(m.Text, "\nHello,\n") || !slices.Contains(shown(m), "Hello,") || strings.Contains(m.Text+m.HTML, "evil") {
				t.Fatalf("%s, %q:\n%s", kind, name, m.Text)
			}
		}
	}
	for _, name := range []string{"Ada", "Ada Lovelace", "J. R. R. Tolkien", "J.R.R. Tolkien", "Conan O’Brien", "Conan O'Brien", "Jean-Luc Picard", "Łukasz Żółć", "村上 春樹", "محمد", "Sammy Davis, Jr.", "Z"} {
		m := mustCompose(t, letter(account.EventSignedIn, account.Detail{}, func(l *account.Letter) { l.Name = name }), someCfg, nil)
		if want := "Hello " + name + ","; !strings.Contains(m.Text, "\n"+want+"\n") || !slices.Contains(shown(m), want) {
			t.Errorf("%q:\n%s", name, m.Text)
		}
	}
}

// What else a mail quotes is escaped, even a name that is given to the template.
func TestHostileQuotes(t *testing.T) {
	const evil = `"><script>alert(1)</script><a href=//evil.test>`
	m := mustCompose(t, letter(account.EventTwoFactorReset, account.Detail{Case: evil}, byOperator), someCfg, nil)
	l := letter(account.EventSignedIn, account.Detail{}, func(l *account.Letter) { l.Device = account.Device{UserAgent: evil, Address: evil} })
	n := mustCompose(t, l, someCfg, nil)
	parts, err := templates.Mail{Kind: "signed_in", Name: evil, Email: evil, URL: "javascript:alert(1)", Support: "javascript:alert(1)"}.Render()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{m.HTML, n.HTML, parts.HTML} {
		if strings.Contains(page, "<script") || strings.Contains(page, "<a href=//") || strings.Contains(page, `"javascript:`) {
			t.Error(page)
		}
	}
}

func TestParseFrom(t *testing.T) {
	for in, want := range map[string]string{
		"no-reply@id.test":                        `"Harmony" <no-reply@id.test>`,
		"Acme Sign-in <no-reply@id.test>":         `"Acme Sign-in" <no-reply@id.test>`,
		`"Acme, Inc." <no-reply@id.test>`:         `"Acme, Inc." <no-reply@id.test>`,
		"Härmony <no-reply@id.test>":              `=?utf-8?q?H=C3=A4rmony?= <no-reply@id.test>`,
		"":                                        "",
		"Harmony":                                 "",
		"a@id.test, b@id.test":                    "",
		"Harmony <no-reply@id.test>\r\nBcc: x@y":  "",
		"Harmony\u0085 <no-reply@id.test>":        "",
		"no-reply@id.test\x00":                    "",
		"Harmony <no-reply@id.test> and somebody": "",
	} {
		if got, err := ParseFrom(in); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseFrom(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestTestMessage(t *testing.T) {
	m, err := TestMessage(Config{From: someCfg.From}, "ada@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if m.To != "ada@example.com" || addressRE.MatchString(m.Text) || strings.Contains(m.HTML, "href") || !strings.Contains(m.Text, "operator") || strings.Contains(m.Text, "protects") {
		t.Errorf("%+v", m)
	}
	if _, err := message(m); err != nil {
		t.Error(err)
	}
}

// A mailbox keeps the newest, and is empty when it was emptied.
func TestMailbox(t *testing.T) {
	b := NewMailbox()
	for i := range kept + 5 {
		if err := b.Send(t.Context(), Message{ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	all := b.Messages()
	if len(all) != kept || all[0].ID != fmt.Sprint(kept+4) || all[kept-1].ID != "5" || all[0].At.IsZero() {
		t.Errorf("%d messages, the first %+v", len(all), all[0])
	}
	b.Empty()
	if n := len(b.Messages()); n != 0 {
		t.Errorf("%d messages", n)
	}
}
