package templates

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTimes(t *testing.T) {
	lisbon := time.FixedZone("WEST", 3600)
	at := time.Date(2026, 9, 3, 23, 41, 0, 0, time.UTC)
	for _, c := range []struct {
		zone *time.Location
		show func(*view) (moment, error)
		want string
	}{
		{nil, func(v *view) (moment, error) { return v.Day(at) }, `<time datetime="2026-09-03T23:41:00Z" data-local="day">3 September 2026</time>`},
		{lisbon, func(v *view) (moment, error) { return v.Day(at) }, `<time datetime="2026-09-03T23:41:00Z">4 September 2026</time>`},
		{nil, func(v *view) (moment, error) { return v.ShortDate(at) }, `<time datetime="2026-09-03T23:41:00Z" data-local="day">3 Sep 2026</time>`},
		{nil, func(v *view) (moment, error) { return v.Clock(at) }, `<time datetime="2026-09-03T23:41:00Z" data-local="time">23:41 UTC</time>`},
		{lisbon, func(v *view) (moment, error) { return v.Clock(at) }, `<time datetime="2026-09-03T23:41:00Z">00:41</time>`},
		{nil, func(v *view) (moment, error) { return v.Moment(at) }, `<time datetime="2026-09-03T23:41:00Z" data-local="datetime">3 September 2026, 23:41 UTC</time>`},
	} {
		m, err := c.show(&view{Page: Activity{Account: Account{Zone: c.zone}}, catalogue: english()})
		if got := m.markup(); got != c.want || err != nil {
			t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
		}
	}
}

func TestAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is midnight, 1 January 2000, UTC
		time.Sleep(13*time.Hour + 41*time.Minute)
		now := time.Now()
		v := &view{Page: Activity{}, catalogue: english()}
		east := &view{Page: Activity{Account: Account{Zone: time.FixedZone("", 12*3600)}}, catalogue: english()} // it is 1:41 on the 2nd
		for _, c := range []struct {
			view      *view
			age       time.Duration
			ago, head string
		}{
			{v, -time.Hour, "a moment ago", "Today"}, // a clock that goes wrong
			{v, 0, "a moment ago", "Today"},
			{v, 90 * time.Second, "1 minute ago", "Today"},
			{v, 59 * time.Minute, "59 minutes ago", "Today"},
			{v, 3 * time.Hour, "3 hours ago", "Today"},
			{v, 13 * time.Hour, "13 hours ago", "Today"},
			{v, 14 * time.Hour, "yesterday", "Yesterday"},
			{v, 37 * time.Hour, "yesterday", "Yesterday"},
			{v, 38 * time.Hour, "2 days ago", "Thursday 30 December"},
			{v, 6 * 24 * time.Hour, "6 days ago", "Sunday 26 December"},
			{east, time.Hour, "1 hour ago", "Today"},
			{east, 2 * time.Hour, "2 hours ago", "Yesterday"},
			{east, 12 * time.Hour, "yesterday", "Yesterday"},
		} {
			m, err := c.view.Ago(now.Add(-c.age))
			if m.Text != c.ago || err != nil || m.Title == "" {
				t.Errorf("%s: %+v (%v), want %q", c.age, m, err, c.ago)
			}
			if got, err := c.view.dayHeading(now.Add(-c.age)); got != c.head || err != nil {
				t.Errorf("%s: %q (%v), want %q", c.age, got, err, c.head)
			}
		}
	})
}
