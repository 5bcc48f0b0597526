package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
)

// A sessionResult is a browser that a person is signed in with, in results.
type sessionResult struct {
	ID        string   `json:"id" help:"the session's id, also the sid of its ID tokens"`
	Browser   string   `json:"browser" help:"browser that it is in, by what that says of itself; empty: unknown"`
	OS        string   `json:"os" help:"system that the browser runs on; empty: unknown"`
	Address   string   `json:"address" help:"IP address that the person signed in from"`
	Place     string   `json:"place" help:"where that address is, roughly; empty: unknown"`
	AMR       []string `json:"amr" help:"how the person signed in (RFC 8176): pwd, otp, mfa"`
	CreatedAt stamp    `json:"created_at" help:"when the person signed in"`
	SeenAt    stamp    `json:"seen_at" help:"when it was last used, to the minute"`
}

func resultOfSession(i account.SessionInfo, places *device.Places) sessionResult {
	b := device.Parse(i.Device.UserAgent)
	return sessionResult{
		ID: i.ID, Browser: b.Name, OS: b.OS, Address: i.Device.Address, Place: places.Lookup(i.Device.Address),
		AMR: list(i.AMR), CreatedAt: stamp(i.CreatedAt), SeenAt: stamp(i.SeenAt),
	}
}

type userSessionsList struct {
	whichUser
	placeSettings
}

// Help shows an example.
func (userSessionsList) Help() string {
	return "One that was idle for too long is among them until it expires: what it gave to workspaces lives on.\n\n" +
		example(`harmony-id user sessions list ada@example.com`)
}

// Run lists the sessions, the last used first.
func (c userSessionsList) Run(ctx context.Context, p *program) error {
	places, err := c.places(p)
	if err != nil {
		return err
	}
	defer places.Close()
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		all, _, err := store.Sessions(ctx, u.ID, math.MaxInt32)
		if err != nil {
			return err
		}
		results := []sessionResult{}
		var rows [][]string
		for _, i := range all {
			r := resultOfSession(i, places)
			results = append(results, r)
			rows = append(rows, []string{r.ID, r.Browser, r.OS, r.CreatedAt.String(), r.SeenAt.String(), strings.Join(r.AMR, " "), r.Address, r.Place})
		}
		if c.Output == "json" {
			return writeJSON(p.stdout, results)
		}
		return writeTable(p.stdout, []string{"ID", "BROWSER", "SYSTEM", "SIGNED IN", "LAST SEEN", "BY", "ADDRESS", "PLACE"}, rows)
	})
}

// A sessionsEnded is how many sessions a command ended, in results.
type sessionsEnded struct {
	Ended int `json:"ended" help:"how many sessions it ended"`
}

type userSessionsEnd struct {
	whichUser
	confirmFlag

	Session string `arg:"" optional:"" placeholder:"SESSION-ID" help:"The session's id, as user sessions list shows it."`
	All     bool   `help:"End all of the person's sessions."`
}

// Help shows an example.
func (userSessionsEnd) Help() string {
	return "With a session end all codes and tokens that it led to. The person is told by email.\n\n" +
		example(`harmony-id user sessions end ada@example.com --all`)
}

// Run ends one session or all.
func (c userSessionsEnd) Run(ctx context.Context, p *program) error {
	if (c.Session == "") != c.All {
		return usagef("say which: a session's id, as harmony-id user sessions list shows it, or --all")
	}
	return p.withPeople(ctx, c.databaseSettings, func(store *account.Store) error {
		u, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		ended := 1
		if c.All {
			if err := p.confirm(c.Yes, "Ending all sessions of "+u.Email); err != nil {
				return err
			}
			ended, err = store.EndUserSessions(ctx, u.ID, operator())
		} else if err = store.EndUserSession(ctx, u.ID, c.Session, operator()); errors.Is(err, account.ErrNotFound) {
			return &exit{exitNotFound, fmt.Errorf("%s has no session %s", u.Email, c.Session)}
		}
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return writeJSON(p.stdout, sessionsEnded{ended})
		}
		return writeFacts(p.stdout, [][2]string{{"Sessions ended", strconv.Itoa(ended)}})
	})
}
