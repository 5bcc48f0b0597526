package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/harmony/id/account"
)

// An eventResult is something that happened, in results.
type eventResult struct {
	ID        string          `json:"id" help:"the event's id"`
	At        string          `json:"at" help:"when, to the microsecond"`
	Kind      string          `json:"kind" help:"what, in the past tense: signed_in, password_changed, client_created, …"`
	UserID    string          `json:"user_id" help:"the person it happened to; empty: nobody"`
	ClientID  string          `json:"client_id" help:"the workspace it has to do with"`
	SessionID string          `json:"session_id" help:"the session it has to do with"`
	Actor     string          `json:"actor" help:"who did it: person, operator:NAME, client:ID, …"`
	Address   string          `json:"address" help:"IP address that it came from"`
	UserAgent string          `json:"user_agent" help:"what the browser said of itself"`
	Detail    json.RawMessage `json:"detail" help:"what else there is to say, by its kind"`
}

func resultOfEvent(e *account.Event) (eventResult, error) {
	detail, err := json.Marshal(e.Detail)
	return eventResult{
		ID: e.ID, At: e.At.UTC().Format("2006-01-02T15:04:05.000000Z"), Kind: e.Kind, UserID: e.UserID, ClientID: e.ClientID, SessionID: e.SessionID,
		Actor: e.Actor.String(), Address: e.Device.Address, UserAgent: e.Device.UserAgent, Detail: detail,
	}, err
}

// A moment is a time on the command line: RFC 3339, or a day, which begins at
// midnight UTC.
type moment time.Time

// UnmarshalText reads the time.
func (m *moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			*m = moment(t)
			return nil
		}
	}
	return fmt.Errorf("%q is not a time such as 2026-11-28 or 2026-11-28T09:30:00Z", text)
}

// eventFilter says which events are meant.
type eventFilter struct {
	User   string   `placeholder:"ID|EMAIL" help:"Only what happened to this person. By the id also after the person is deleted."`
	Client string   `placeholder:"CLIENT_ID" help:"Only what has to do with this workspace."`
	Kind   []string `sep:"none" placeholder:"KIND" help:"Only events of this kind, such as signed_in. May be repeated."`
	Since  moment   `placeholder:"TIME" help:"Only from then on: 2026-11-28 or 2026-11-28T09:30:00Z."`
	Until  moment   `placeholder:"TIME" help:"Only before then."`
}

func (c eventFilter) filter(ctx context.Context, store *account.Store) (account.Filter, error) {
	f := account.Filter{UserID: c.User, ClientID: c.Client, Kinds: c.Kind, Since: time.Time(c.Since), Until: time.Time(c.Until)}
	if strings.Contains(c.User, "@") {
		u, err := (whichUser{User: c.User}).find(ctx, store)
		if err != nil {
			return f, err
		}
		f.UserID = u.ID
	}
	return f, nil
}

type auditList struct {
	eventFilter

	Limit int `default:"100" placeholder:"N" help:"How many at the most. Default 100."`

	outputFlag
	databaseSettings
}

// Help shows an example.
func (auditList) Help() string {
	return "The newest come first. What happened to people is kept for 90 days, what operators did for 400.\n\n" +
		example(`harmony-id audit list --user ada@example.com --since 2026-11-01`)
}

// Run lists events.
func (c auditList) Run(ctx context.Context, p *program) error {
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		f, err := c.filter(ctx, store)
		if err != nil {
			return err
		}
		events, err := store.LastEvents(ctx, f, c.Limit)
		if err != nil {
			return err
		}
		results := make([]eventResult, 0, len(events))
		rows := make([][]string, 0, len(events))
		for _, e := range events {
			r, err := resultOfEvent(e)
			if err != nil {
				return err
			}
			results = append(results, r)
			rows = append(rows, []string{stamp(e.At).String(), r.Kind, r.UserID, r.ClientID, r.Actor, r.Address})
		}
		if c.Output == "json" {
			return writeJSON(p.stdout, results)
		}
		return writeTable(p.stdout, []string{"AT", "KIND", "PERSON", "WORKSPACE", "BY", "ADDRESS"}, rows)
	})
}

type auditExport struct {
	eventFilter
	databaseSettings
}

// Help shows an example.
func (auditExport) Help() string {
	return "One JSON object a line on standard output, the oldest first, with the fields of an event; it needs little memory however many there are.\n\n" +
		example(`harmony-id audit export --since 2026-11-01 --until 2026-12-01 > november.ndjson`)
}

// Run writes events.
func (c auditExport) Run(ctx context.Context, p *program) error {
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		f, err := c.filter(ctx, store)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(p.stdout)
		err = store.Events(ctx, f, func(e *account.Event) error {
			r, err := resultOfEvent(e)
			if err != nil {
				return err
			}
			return writeLine(out, r)
		})
		if err != nil {
			return err
		}
		return out.Flush()
	})
}

// writeLine writes a result as a line of JSON, as writeJSON does.
func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, visible(string(b), func(rune) bool { return true })+"\n")
	return err
}
