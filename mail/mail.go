// Package mail is what is said by email, to whom, for which event. It reads the
// events that account records in the transaction of an act, so that no act is
// without its message and no message without its act.
package mail

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
	"github.com/harmony/id/templates"
)

// A Message is one email to one person.
type Message struct {
	ID         string // the same each time that the same is sent, and no other's
	From, To   string // From may have a display name
	Subject    string
	Text, HTML string
}

// A Sender hands a message to whoever delivers it. An error that is a *Refused is
// for good, any other may pass.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// A Refused says that a message will not be taken, however often it is sent.
type Refused struct{ Err error }

func (r *Refused) Error() string { return "refused: " + r.Err.Error() }

// Unwrap is Err.
func (r *Refused) Unwrap() error { return r.Err }

// Config is what every message has in common.
type Config struct {
	// Issuer is the provider's address, where links lead.
	Issuer *url.URL
	// From is the sender, as ParseFrom returns it.
	From string
	// Links are the operator's pages; mails name support's.
	Links templates.Links
	// Watch is told what became of each attempt to send a mail, for the operator's
	// metrics: "sent", "delayed" or "given_up". Nil: nobody is told.
	Watch func(result string)
}

// ParseFrom reads the sender of mails, "no-reply@example.com" or with a display
// name in front; without one it is the product's.
func ParseFrom(s string) (string, error) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", errors.New("the sender has control characters")
	}
	a, err := netmail.ParseAddress(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a sender: write it as no-reply@example.com", s)
	}
	if a.Name == "" {
		a.Name = templates.Product()
	}
	return a.String(), nil
}

// few is how many backup codes are so few that the mail says so.
const few = 3

// Compose writes the message that a letter asks for. Its times are told in the
// person's zone and in UTC; its one link leads to the issuer. A kind without words
// is an error.
func Compose(l account.Letter, cfg Config, places *device.Places) (Message, error) {
	d := l.Detail
	m := templates.Mail{
		Kind: l.Kind, Name: greeted(l.Name), Email: l.Email, Google: l.Method == account.MethodGoogle, At: l.At, Zone: zone(l.Zone),
		Case: d.Case, Client: d.Client, URL: cfg.Issuer.JoinPath("/preferences/not-me").String(), Support: cfg.Links.Support,
	}
	if l.Actor.Kind == "person" {
		m.Device = browser(l.Device.UserAgent)
		m.Device.Place, m.Device.Address = places.Lookup(l.Device.Address), l.Device.Address
	}
	for _, name := range d.Passkeys {
		if link.MatchString(name) {
			name = ""
		}
		m.Passkeys = append(m.Passkeys, name)
	}
	id := l.ID
	switch l.Kind {
	case account.EventSignedIn:
		m.How = how(d.AMR)
	case account.EventCodeFailed:
		if how(d.AMR) == "passkey" {
			m.Kind, m.URL = "code_failed_key", cfg.Issuer.JoinPath("/preferences/security/passkeys").String()
		}
	case account.EventTwoFactorOff:
		m.How = second(d.AMR)
	case account.EventResetRequested:
		if l.Token == "" {
			m.Kind, m.URL = "google_reset", cfg.Issuer.JoinPath("/login").String()
			break
		}
		m.Life, m.Spelled = account.ResetLife, true
		m.URL = cfg.Issuer.JoinPath("/login/reset").String() + "?" + url.Values{"token": {l.Token}}.Encode()
		if l.Tries > 0 { // another link, another message: no mailbox may take it for the one before
			id += "-" + strconv.Itoa(l.Tries+1)
		}
	case account.EventPasswordChanged, account.EventPasswordReset, account.EventPasswordSet, account.EventTwoFactorReset, account.EventSessionsEnded,
		account.EventMethodGoogle, account.EventMethodPassword:
		m.Ended = &d.Ended
	case account.EventSessionEnded:
		m.Kind, m.Ended, m.Device = account.EventSessionsEnded, new(1), browser(d.Other)
	case account.EventTwoFactorEnabled:
		m.Ended, m.Left = &d.Ended, &d.Total
	case account.EventCodesMade:
		m.Left = &d.Total
	case account.EventPasskeyAdded:
		if d.Touch {
			m.Kind = "passkey_added_touch"
		}
	case account.EventPasskeyRemoved:
		m.Ended = &d.Ended
	case account.EventPasskeyRefused:
		m.URL = cfg.Issuer.JoinPath("/preferences/security/passkeys").String()
	case account.EventCodeUsed:
		m.Left = &d.Left
		switch {
		case d.Left == 0:
			m.Kind = "backup_code_none"
		case d.Left <= few:
			m.Kind = "backup_code_low"
		}
	}
	return compose(m, cfg, id)
}

// plain reports whether a name is of letters and what stands between them, which has
// no room for a telephone number.
func plain(name string) bool {
	n := 0
	for _, c := range name {
		if n++; n > 60 || !unicode.IsLetter(c) && (n == 1 || !unicode.IsMark(c) && !strings.ContainsRune(" '’.,()-", c)) {
			return false
		}
	}
	return n > 0
}

// link is what mail programs make a link of.
var link = regexp.MustCompile(`(?i)www\.|\.[\pL\pN-]{2,}`)

// greeted is the name to greet a person by. One that could be taken for anything
// but a name is left out: whoever chose it gets nothing said in our mails (EM-02).
func greeted(name string) string {
	if !plain(name) || link.MatchString(name) {
		return ""
	}
	return name
}

// browser is what a User-Agent says of itself.
func browser(userAgent string) *templates.Device {
	b := device.Parse(userAgent)
	return &templates.Device{Browser: b.Name, OS: b.OS, Kind: b.Kind}
}

// zone is the IANA time zone of that name, nil if there is none.
func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return nil
	}
	return z
}

func compose(m templates.Mail, cfg Config, id string) (Message, error) {
	parts, err := m.Render()
	if err != nil {
		return Message{}, err
	}
	return Message{ID: id, From: cfg.From, To: m.Email, Subject: parts.Subject, Text: parts.Text, HTML: parts.HTML}, nil
}

// TestMessage is what an operator sends to see whether mail leaves.
func TestMessage(cfg Config, to string) (Message, error) {
	return compose(templates.Mail{Kind: "test", Email: to, At: time.Now(), Support: cfg.Links.Support}, cfg, "test-"+time.Now().UTC().Format("20060102T150405.000000"))
}

// how says how somebody proved who they are, by the values of amr (RFC 8176): a key
// below "mail.how." in the catalogue, "" if they say nothing.
func how(amr []string) string {
	first, second := "", second(amr)
	switch {
	case slices.Contains(amr, "fed"):
		first = "google"
	case slices.Contains(amr, "pwd"):
		first = "password"
	case key(amr):
		first = "passkey"
		if second != "code" { // it was both factors
			second = ""
		}
	}
	if first != "" && second != "" {
		return first + "_" + second
	}
	return first + second
}

// second is how of the second factor alone.
func second(amr []string) string {
	switch {
	case slices.Contains(amr, "otp"):
		return "code"
	case key(amr):
		return "passkey"
	case slices.Contains(amr, "mfa"):
		return "backup_code"
	}
	return ""
}

func key(amr []string) bool { return slices.Contains(amr, "hwk") || slices.Contains(amr, "swk") }
