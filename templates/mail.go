package templates

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Mail is an email to a person about their account. Its words stand in the
// catalogue below "mail." and Kind: subject, title, text and, where there is more
// to say, more, button, note and end. With _google behind it, a text is the one for
// people who sign in with Google.
type Mail struct {
	Kind     string
	Name     string         // the person's, or "" for a greeting without
	Email    string         // where it goes
	Google   bool           // the person signs in with Google
	At       time.Time      // when it happened; zero leaves it out
	Zone     *time.Location // the person's time zone, nil for UTC alone
	Device   *Device        // where it came from, nil leaves it out
	How      string         // how it was proved, a key below "mail.how.": "password"; "" leaves it out
	Ended    *int           // sessions that ended with it, nil leaves them out
	Left     *int           // backup codes that are left, nil leaves them out
	Case     string         // support's case number, or ""
	Client   string         // the name of the workspace that it is about, or ""
	Passkeys []string       // the names of the passkeys that it is about, "" for one that is not to be repeated
	Life     time.Duration  // how long the link works
	URL      string         // where the button leads, the one link; "" leaves it out
	Spelled  bool           // the URL is written out too, for people who trust no button
	Support  string         // where people get help, named at the end; "" leaves it out
}

// Parts are a rendered mail. Text and HTML say the same.
type Parts struct {
	Subject, Text, HTML string
}

// Render returns the mail in English. A Kind or How without words is an error.
func (m Mail) Render() (Parts, error) { return m.render(english()) }

// Product is the product's name, as mails are signed with.
func Product() string { return english().Text["product"] }

// A letterhead is what both parts of a mail are made from: its words.
type letterhead struct {
	*catalogue
	Subject, Title string
	Texts          []string // the greeting first
	Facts          []fact
	Button, URL    string
	Spelled        bool
	Note           string
	Help, Support  string
	End            string
}

// A fact is one line of what happened: "When: Thursday 24 September 2026, 14:41
// (WEST), 13:41 UTC".
type fact struct {
	Name, Value, Quiet, Second string
}

func (m Mail) render(c *catalogue) (Parts, error) {
	l, err := m.words(c)
	if err != nil {
		return Parts{}, fmt.Errorf("mail %s: %w", m.Kind, err)
	}
	var html bytes.Buffer
	if err := parsed().ExecuteTemplate(&html, "mail", l); err != nil {
		return Parts{}, fmt.Errorf("mail %s: %w", m.Kind, err)
	}
	return Parts{Subject: l.Subject, Text: l.text(), HTML: html.String()}, nil
}

// A speaker looks texts up until one is missing.
type speaker struct {
	*catalogue
	values []any // of every text
	err    error
}

// say is the text of key, with more values perhaps; empty after an error.
func (s *speaker) say(key string, values ...any) string {
	if s.err != nil {
		return ""
	}
	text, err := s.T(key, append(values, s.values...)...)
	s.err = err
	return text
}

// may is say for a text that need not be there: "" then.
func (s *speaker) may(key string) string {
	if _, ok := s.Text[key]; !ok {
		return ""
	}
	return s.say(key)
}

func (m Mail) words(c *catalogue) (*letterhead, error) {
	life, err := c.Wait(int(m.Life.Seconds()))
	if err != nil {
		return nil, err
	}
	s := &speaker{catalogue: c, values: []any{"name", m.Name, "email", m.Email, "life", life, "workspace", m.Client}}
	if m.Left != nil {
		s.values = append(s.values, "left", *m.Left)
	}
	// key is that of one of the kind's texts.
	key := func(text string) string {
		text = "mail." + m.Kind + "." + text
		if _, ok := c.Text[text+"_google"]; ok && m.Google {
			text += "_google"
		}
		return text
	}
	hello := "mail.hello_nameless"
	if m.Name != "" {
		hello = "mail.hello"
	}
	l := &letterhead{
		catalogue: c, Subject: s.say(key("subject")), Title: s.say(key("title")), Texts: []string{s.say(hello), s.say(key("text"))}, Facts: m.facts(s),
		URL: m.URL, Spelled: m.Spelled, Button: cmp.Or(s.may(key("button")), s.say("mail.not_me")), Note: s.may(key("note")),
		Help: s.say("mail.help"), Support: m.Support, End: cmp.Or(s.may(key("end")), s.say("mail.end")),
	}
	if more := s.may(key("more")); more != "" {
		l.Texts = append(l.Texts, more)
	}
	return l, s.err
}

func (m Mail) facts(s *speaker) []fact {
	var out []fact
	if !m.At.IsZero() {
		out = append(out, m.when(s))
	}
	if m.Device != nil {
		out = append(out, m.Device.facts(s)...)
	}
	if m.How != "" {
		out = append(out, fact{Name: s.say("mail.how"), Value: s.say("mail.how." + m.How)})
	}
	if m.Ended != nil {
		out = append(out, fact{Name: s.say("mail.sessions"), Value: s.number(*m.Ended, "mail.ended", "mail.ended_none")})
	}
	if m.Left != nil {
		out = append(out, fact{Name: s.say("mail.codes"), Value: s.number(*m.Left, "mail.left", "mail.left_none")})
	}
	out = append(out, m.passkeys(s)...)
	if m.Case != "" {
		out = append(out, fact{Name: s.say("mail.case"), Value: m.Case})
	}
	return out
}

// passkeys names the passkeys that it is about: one, and its new name where it has one,
// or those that a reset removed, or that it or another way to sign in left.
func (m Mail) passkeys(s *speaker) (out []fact) {
	names := make([]string, len(m.Passkeys))
	for i, name := range m.Passkeys {
		if names[i] = name; name == "" {
			names[i] = s.say("mail.unnamed")
		}
	}
	switch {
	case len(names) == 0:
	case m.Kind == "two_factor_reset":
		out = append(out, fact{Name: s.say("mail.passkeys_removed"), Value: strings.Join(names, ", ")})
	case m.Kind == "password_reset", m.Kind == "password_set", m.Kind == "method_google", m.Kind == "method_password":
		out = append(out, fact{Name: s.say("mail.passkeys_left"), Value: strings.Join(names, ", ")})
	default:
		out = append(out, fact{Name: s.say("mail.passkey"), Value: names[0]})
		if len(names) > 1 {
			out = append(out, fact{Name: s.say("mail.renamed"), Value: names[1]})
		}
	}
	return out
}

// number is the text of some for n, or that of none.
func (s *speaker) number(n int, some, none string) string {
	if n == 0 {
		return s.say(none)
	}
	return s.say(some, "n", n)
}

// when says the time in the person's zone and in UTC.
func (m Mail) when(s *speaker) fact {
	f := fact{Name: s.say("mail.when")}
	utc := m.At.UTC()
	at := utc
	if m.Zone != nil {
		at = m.At.In(m.Zone)
	}
	zone, _ := at.Zone()
	f.Value = s.moment("mail.date", at)
	if _, off := at.Zone(); off == 0 {
		f.Quiet = "UTC"
		return f
	}
	if strings.ContainsAny(zone, "+-") { // one without a name: "-03"
		zone = "UTC" + zone
	}
	f.Quiet = "(" + zone + ")"
	f.Second = s.moment("mail.utc", utc)
	if utc.Day() != at.Day() {
		f.Second = s.moment("mail.utc_day", utc)
	}
	return f
}

// moment is the text of key for a time.
func (s *speaker) moment(key string, t time.Time) string {
	return s.say(key,
		"weekday", s.say("weekday."+strconv.Itoa(int(t.Weekday()))), "day", t.Day(), "month", s.say("month."+strconv.Itoa(int(t.Month()))),
		"year", t.Year(), "time", t.Format("15:04"))
}

// facts are what is known of a device.
func (d *Device) facts(s *speaker) []fact {
	name, err := s.DeviceName(*d)
	if s.err == nil {
		s.err = err
	}
	out := []fact{{Name: s.say("mail.browser"), Value: name}}
	switch {
	case d.Place != "":
		out = append(out, fact{Name: s.say("mail.place"), Value: d.Place, Quiet: s.say("mail.approximate"), Second: d.Address})
	case d.Address != "":
		out = append(out, fact{Name: s.say("mail.address"), Value: d.Address})
	}
	return out
}

// text is the mail for programs that show no HTML.
func (l *letterhead) text() string {
	parts := append([]string{l.Title}, l.Texts...)
	var facts []string
	for _, f := range l.Facts {
		line := f.Name + ": " + f.Value
		if f.Quiet != "" {
			line += " " + f.Quiet
		}
		if f.Second != "" {
			line += ", " + f.Second
		}
		facts = append(facts, line)
	}
	parts = append(parts, strings.Join(facts, "\n"))
	if l.URL != "" {
		parts = append(parts, l.Button+":\n"+l.URL)
	}
	parts = append(parts, l.Note)
	if l.Support != "" {
		parts = append(parts, l.Help+" "+l.Text["support.contact"]+":\n"+l.Support)
	}
	parts = append(parts, l.End)
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return strings.Join(parts, "\n\n") + "\n"
}
