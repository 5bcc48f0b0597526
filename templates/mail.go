package templates

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Mail is an email to a person about their account. Its words stand in the
// catalogue below "mail." and Kind: subject, title, text and, where there is more
// to say, more, button and note.
type Mail struct {
	Kind    string
	Name    string         // the person's, or "" for a greeting without
	Email   string         // where it goes
	At      time.Time      // when it happened; zero leaves it out
	Zone    *time.Location // the person's time zone, nil for UTC alone
	Device  *Device        // where it came from, nil leaves it out
	How     string         // how it was proved, a key of the catalogue: "how.password"; "" leaves it out
	Ended   *int           // sessions that ended with it, nil leaves it out
	Left    *int           // backup codes that are left, nil leaves them out
	Total   int            // backup codes that were made
	Case    string         // support's case number, or ""
	Life    time.Duration  // how long the link works
	URL     string         // where the button leads, the one link; "" leaves it out
	Spelled bool           // the URL is written out too, for people who trust no button
	Support string         // where people get help, named at the end; "" leaves it out
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
	Texts          []string // the first begins with the greeting
	Facts          []fact
	Button, URL    string
	Spelled        bool
	Note, Support  string
	End            string
}

// A fact is one line of what happened: "When: Thursday, 14:41 (WEST), 13:41 UTC".
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
	text, err := l.text()
	if err != nil {
		return Parts{}, fmt.Errorf("mail %s: %w", m.Kind, err)
	}
	return Parts{Subject: l.Subject, Text: text, HTML: html.String()}, nil
}

// A speaker looks texts up until one is missing.
type speaker struct {
	*catalogue
	values []any
	err    error
}

// say is the text of key, empty after an error.
func (s *speaker) say(key string) string {
	if s.err != nil {
		return ""
	}
	text, err := s.T(key, s.values...)
	s.err = err
	return text
}

// may is say for a text that need not be there.
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
	s := &speaker{catalogue: c, values: []any{"name", m.Name, "email", m.Email, "total", m.Total, "life", life}}
	if m.Left != nil {
		s.values = append(s.values, "left", *m.Left)
	}
	key := "mail." + m.Kind
	hello := "mail.hello_nameless"
	if m.Name != "" {
		hello = "mail.hello"
	}
	l := &letterhead{
		catalogue: c, Subject: s.say(key + ".subject"), Title: s.say(key + ".title"),
		Texts: []string{s.say(hello) + " " + s.say(key+".text")},
		URL:   m.URL, Spelled: m.Spelled, Button: cmp.Or(s.may(key+".button"), s.say("mail.not_me")),
		Note: s.may(key + ".note"), Support: m.Support, End: s.say("mail.end"),
	}
	if more := s.may(key + ".more"); more != "" {
		l.Texts = append(l.Texts, more)
	}
	l.Facts = m.facts(s)
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
		out = append(out, fact{Name: s.say("mail.how"), Value: s.say(m.How)})
	}
	if m.Ended != nil {
		s.values = append(s.values, "n", *m.Ended)
		key := "mail.sessions"
		switch *m.Ended {
		case 0:
			key = "mail.no_session"
		case 1:
			key = "mail.session"
		}
		out = append(out, fact{Name: s.say("mail.ended"), Value: s.say(key)})
	}
	if m.Left != nil {
		f := fact{Name: s.say("mail.codes"), Value: strconv.Itoa(*m.Left)}
		if m.Total > 0 {
			f.Value = s.say("mail.codes_of")
		}
		out = append(out, f)
	}
	if m.Case != "" {
		out = append(out, fact{Name: s.say("mail.case"), Value: m.Case})
	}
	return out
}

// when says the time in the person's zone and in UTC.
func (m Mail) when(s *speaker) fact {
	f := fact{Name: s.say("mail.when")}
	utc := m.At.UTC().Format("15:04")
	if m.Zone == nil {
		f.Value, f.Quiet = s.date(m.At.UTC()), "UTC"
		return f
	}
	at := m.At.In(m.Zone)
	zone, _ := at.Zone()
	if strings.ContainsAny(zone, "+-") { // a zone without letters: "-03"
		zone = "UTC" + zone
	}
	f.Value, f.Quiet = s.date(at), "("+zone+")"
	f.Second = utc + " UTC"
	return f
}

func (s *speaker) date(t time.Time) string {
	s.values = append(s.values,
		"weekday", s.say("weekday."+strconv.Itoa(int(t.Weekday()))), "day", t.Day(), "month", s.say("month."+strconv.Itoa(int(t.Month()))),
		"year", t.Year(), "time", t.Format("15:04"))
	return s.say("mail.date")
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
func (l *letterhead) text() (string, error) {
	var b strings.Builder
	b.WriteString(l.Title + "\n\n")
	for _, t := range l.Texts {
		b.WriteString(t + "\n\n")
	}
	for _, f := range l.Facts {
		b.WriteString(f.Name + ": " + f.Value)
		if f.Quiet != "" {
			b.WriteString(" " + f.Quiet)
		}
		if f.Second != "" {
			b.WriteString(", " + f.Second)
		}
		b.WriteString("\n")
	}
	if len(l.Facts) > 0 {
		b.WriteString("\n")
	}
	if l.URL != "" {
		b.WriteString(l.Button + ":\n" + l.URL + "\n\n")
	}
	if l.Note != "" {
		b.WriteString(l.Note + "\n\n")
	}
	if l.Support != "" {
		help, err := l.T("support.contact")
		if err != nil {
			return "", err
		}
		b.WriteString(help + ": " + l.Support + "\n\n")
	}
	b.WriteString(l.End + "\n")
	return b.String(), nil
}
