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
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
	"github.com/harmony/id/templates"
)

// A Message is one email to one person.
type Message struct {
	ID         string // the event's: the same each time that it is tried
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

// kinds are the words for each kind of event that people are told of.
var kinds = []string{
	account.EventSignedIn, account.EventCodeFailed, account.EventCodesPaused, account.EventResetRequested, account.EventPasswordChanged,
	account.EventPasswordReset, account.EventTwoFactorEnabled, account.EventTwoFactorOff, account.EventCodeUsed, account.EventCodesMade,
	account.EventSessionEnded, account.EventSessionsEnded, account.EventTwoFactorReset, account.EventResetLinkMade,
	account.EventEmailChanged, account.EventMethodGoogle, account.EventMethodPassword,
}

// few is how many backup codes are so few that the mail says so.
const few = 3

// Compose writes the message that a letter asks for. A kind without words is an
// error.
func Compose(l account.Letter, cfg Config, places *device.Places) (Message, error) {
	if !slices.Contains(kinds, l.Kind) {
		return Message{}, fmt.Errorf("no mail is written for %q", l.Kind)
	}
	m := templates.Mail{
		Kind: l.Kind, Name: l.Name, Email: l.Email, At: l.At, Case: l.Detail.Case, Support: cfg.Links.Support,
		URL: cfg.Issuer.JoinPath("/preferences/not-me").String(),
	}
	if zone, err := time.LoadLocation(l.Zone); err == nil && l.Zone != "" && l.Zone != "Local" {
		m.Zone = zone
	}
	if l.Actor.Kind == "person" {
		b := device.Parse(l.Device.UserAgent)
		m.Device = &templates.Device{Browser: b.Name, OS: b.OS, Kind: b.Kind, Place: places.Lookup(l.Device.Address), Address: l.Device.Address}
	}
	d := l.Detail
	switch l.Kind {
	case account.EventSignedIn, account.EventTwoFactorOff:
		m.How = "how." + How(d.AMR)
	case account.EventResetRequested:
		m.Life, m.Spelled = account.ResetLife, true
		if l.Token == "" {
			m.Kind, m.URL, m.Spelled = "google_reset", cfg.Issuer.JoinPath("/login").String(), false
			break
		}
		m.URL = cfg.Issuer.JoinPath("/login/reset").String() + "?" + url.Values{"token": {l.Token}}.Encode()
	case account.EventPasswordChanged, account.EventPasswordReset, account.EventTwoFactorReset, account.EventMethodGoogle, account.EventMethodPassword:
		m.Ended = &d.Ended
	case account.EventTwoFactorEnabled:
		m.Total = d.Total
		m.Ended = &d.Ended
	case account.EventCodeUsed:
		m.Left = &d.Left
		if d.Left <= few {
			m.Kind = "backup_code_low"
		}
	case account.EventSessionEnded, account.EventSessionsEnded:
		m.Kind = account.EventSessionsEnded
	}
	return compose(m, cfg, l.ID)
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

// How says in a key of the catalogue below "how." how somebody proved who they
// are (RFC 8176).
func How(amr []string) string {
	var first, second string
	switch {
	case slices.Contains(amr, "fed"):
		first = "google"
	case slices.Contains(amr, "pwd"):
		first = "password"
	}
	switch {
	case slices.Contains(amr, "otp"):
		second = "code"
	case slices.Contains(amr, "mfa"):
		second = "backup_code"
	}
	switch {
	case first == "" && second == "":
		return "unknown"
	case first == "" || second == "":
		return first + second
	}
	return first + "_" + second
}
