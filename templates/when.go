package templates

import (
	"html"
	"strconv"
	"strings"
	"time"
)

// A moment is a time as a page tells it. In a text with markup it becomes a time
// element; there and on its own the script tells it in the browser's zone, if
// the server did not know the person's.
type moment struct {
	At    string // RFC 3339, for machines
	Text  string
	Local string // what the script makes of it: "day", "time" or "datetime"; "" leaves it as it is
	Title string // the whole of it, where Text is less
}

func (m moment) markup() string {
	var b strings.Builder
	b.WriteString(`<time datetime="` + m.At + `"`)
	if m.Local != "" {
		b.WriteString(` data-local="` + m.Local + `"`)
	}
	if m.Title != "" {
		b.WriteString(` title="` + html.EscapeString(m.Title) + `"`)
	}
	b.WriteString(`>` + html.EscapeString(m.Text) + `</time>`)
	return b.String()
}

// zone is where the page's times are told, nil for UTC.
func (v *view) zone() *time.Location {
	if p, ok := v.Page.(interface{ zone() *time.Location }); ok {
		return p.zone()
	}
	return nil
}

// in is t where the person is, as far as that is known.
func (v *view) in(t time.Time) time.Time {
	if zone := v.zone(); zone != nil {
		return t.In(zone)
	}
	return t.UTC()
}

// moment is t as text; local is what the script may make of it.
func (v *view) moment(t time.Time, local, text string) moment {
	if v.zone() != nil {
		local = ""
	}
	return moment{At: t.UTC().Format(time.RFC3339), Text: text, Local: local}
}

// date writes the day of t as the text of key does.
func (v *view) date(key string, t time.Time) (string, error) {
	t = v.in(t)
	month := strconv.Itoa(int(t.Month()))
	return v.T(key, "day", t.Day(), "year", t.Year(), "month", v.Text["month."+month], "short", v.Text["month_short."+month],
		"weekday", v.Text["weekday."+strconv.Itoa(int(t.Weekday()))])
}

// clock is "13:41", and whose time that is where it is not the person's own.
func (v *view) clock(t time.Time) (string, error) {
	text := v.in(t).Format("15:04")
	if v.zone() != nil {
		return text, nil
	}
	return v.T("time.utc", "time", text)
}

// Day is "3 September 2026".
func (v *view) Day(t time.Time) (moment, error) {
	text, err := v.date("time.day", t)
	return v.moment(t, "day", text), err
}

// ShortDay is "12 Sep", with the year if that is another one.
func (v *view) ShortDay(t time.Time) (moment, error) {
	key := "time.short_day"
	if v.in(t).Year() != v.in(time.Now()).Year() {
		key = "time.short_year"
	}
	text, err := v.date(key, t)
	return v.moment(t, "day", text), err
}

// ShortDate is "3 Sep 2026".
func (v *view) ShortDate(t time.Time) (moment, error) {
	text, err := v.date("time.short_year", t)
	return v.moment(t, "day", text), err
}

// Clock is "13:41".
func (v *view) Clock(t time.Time) (moment, error) {
	text, err := v.clock(t)
	return v.moment(t, "time", text), err
}

// Moment is "3 September 2026, 13:41".
func (v *view) Moment(t time.Time) (moment, error) {
	text, err := v.whole(t)
	return v.moment(t, "datetime", text), err
}

func (v *view) whole(t time.Time) (string, error) {
	date, err := v.date("time.day", t)
	if err != nil {
		return "", err
	}
	clock, err := v.clock(t)
	if err != nil {
		return "", err
	}
	return v.T("time.day_time", "day", date, "time", clock)
}

// Ago is "3 hours ago", "yesterday" or "6 days ago".
func (v *view) Ago(t time.Time) (moment, error) {
	m := v.moment(t, "", "")
	var err error
	if m.Title, err = v.whole(t); err != nil {
		return m, err
	}
	m.Text, err = v.ago(t)
	return m, err
}

func (v *view) ago(t time.Time) (string, error) {
	age, days := time.Since(t), v.daysAgo(t)
	switch {
	case age < time.Minute:
		return v.T("time.now")
	case age < time.Hour:
		return v.count("time.ago_minute", int(age.Minutes()))
	case days == 0 || age < 12*time.Hour:
		return v.count("time.ago_hour", int(age.Hours()))
	case days == 1:
		return v.T("time.yesterday")
	}
	return v.count("time.ago_day", days)
}

// daysAgo is how many midnights have passed since t.
func (v *view) daysAgo(t time.Time) int {
	midnight := func(t time.Time) time.Time {
		y, m, d := v.in(t).Date()
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	}
	return int(midnight(time.Now()).Sub(midnight(t)) / (24 * time.Hour))
}

// dayHeading is "Today", "Yesterday" or "Sunday 20 September".
func (v *view) dayHeading(t time.Time) (string, error) {
	switch v.daysAgo(t) {
	case 0:
		return v.T("time.today")
	case 1:
		return v.T("time.yesterday_title")
	}
	return v.date("time.weekday", t)
}
