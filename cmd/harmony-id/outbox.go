package main

import (
	"context"
	"strconv"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
)

// A waitingResult is a message that was not delivered yet, in results.
type waitingResult struct {
	Type      string `json:"type" help:"mail: to a person; logout: to a workspace, that a session ended"`
	Kind      string `json:"kind" help:"what a mail is about, as in audit list; empty for a logout"`
	EventID   string `json:"event_id" help:"id of what a mail is about"`
	UserID    string `json:"user_id" help:"the person; empty while it is not known whose the address is"`
	ClientID  string `json:"client_id" help:"the workspace that is to be told"`
	SessionID string `json:"session_id" help:"the session that ended"`
	Since     stamp  `json:"since" help:"since when it waits"`
	Tries     int    `json:"tries" help:"how often it was tried"`
	NextAt    stamp  `json:"next_at" help:"when it is tried next; null: at once"`
	LastError string `json:"last_error" help:"why the last attempt failed; empty: it was not tried, or is being tried"`
}

type outboxList struct {
	Limit int `default:"1000" placeholder:"N" help:"How many of each type at the most. Default 1000."`

	outputFlag
	databaseSettings
}

// Help shows an example.
func (outboxList) Help() string {
	return "Those that wait for the longest come first. What was given up is not among them: audit list --kind mail_given_up has it.\n\n" +
		example(`harmony-id outbox list`)
}

// Run lists what was not delivered yet.
func (c outboxList) Run(ctx context.Context, p *program) error {
	return p.withDatabase(ctx, c.databaseSettings, useExisting, func(d *db.DB) error {
		mails, err := account.New(d, nil, account.Config{}).WaitingLetters(ctx, c.Limit)
		if err != nil {
			return err
		}
		logouts, err := idp.WaitingLogouts(ctx, d, c.Limit)
		if err != nil {
			return err
		}
		results := make([]waitingResult, 0, len(mails)+len(logouts))
		for _, w := range mails {
			results = append(results, waitingResult{Type: "mail", Kind: w.Kind, EventID: w.ID, UserID: w.UserID, Since: stamp(w.Since), Tries: w.Tries, NextAt: stamp(w.Next), LastError: w.Failed})
		}
		for _, w := range logouts {
			results = append(results, waitingResult{Type: "logout", UserID: w.UserID, ClientID: w.ClientID, SessionID: w.SessionID, Since: stamp(w.Since), Tries: w.Tries, NextAt: stamp(w.Next), LastError: w.Failed})
		}
		if c.Output == "json" {
			return writeJSON(p.stdout, results)
		}
		rows := make([][]string, 0, len(results))
		for _, r := range results {
			rows = append(rows, []string{r.Type, r.Kind + r.ClientID, r.UserID, r.Since.String(), strconv.Itoa(r.Tries), r.NextAt.String(), r.LastError})
		}
		return writeTable(p.stdout, []string{"TYPE", "WHAT OR WHOM", "PERSON", "SINCE", "TRIES", "NEXT", "LAST ERROR"}, rows)
	})
}

// A retryResult is what is tried again, in results.
type retryResult struct {
	Mails   int `json:"mails" help:"mails that are due now"`
	Logouts int `json:"logouts" help:"ends of sessions that workspaces are told of now"`
}

type outboxRetry struct {
	outputFlag
	databaseSettings
}

// Help shows an example.
func (outboxRetry) Help() string {
	return "For when a mail server or a workspace works again: whoever serves tries what failed at once, not when its time comes.\n\n" +
		example(`harmony-id outbox retry`)
}

// Run makes due now what failed.
func (c outboxRetry) Run(ctx context.Context, p *program) error {
	return p.withDatabase(ctx, c.databaseSettings, useExisting, func(d *db.DB) (err error) {
		var r retryResult
		if r.Mails, err = account.New(d, nil, account.Config{}).RetryLetters(ctx); err != nil {
			return err
		}
		if r.Logouts, err = idp.RetryLogouts(ctx, d); err != nil {
			return err
		}
		if c.Output == "json" {
			return writeJSON(p.stdout, r)
		}
		return writeFacts(p.stdout, [][2]string{{"Mails", strconv.Itoa(r.Mails)}, {"Logouts", strconv.Itoa(r.Logouts)}})
	})
}
