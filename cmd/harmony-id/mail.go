package main

import (
	"context"
	"fmt"

	"github.com/harmony/id/account"
	"github.com/harmony/id/mail"
)

// A mailTestResult is a mail that the server took, in results.
type mailTestResult struct {
	Server  string `json:"server" help:"the mail server that took it"`
	From    string `json:"from" help:"its sender"`
	To      string `json:"to" help:"where it goes"`
	Subject string `json:"subject" help:"its subject"`
}

type mailTest struct {
	To string `required:"" placeholder:"ADDRESS" help:"Where the mail goes."`

	outputFlag
	mailSettings
}

// Help shows an example.
func (mailTest) Help() string {
	return "It ends with 0 once the mail server has taken the mail, else it says why not, in the server's words.\n\n" +
		example(`harmony-id mail test --to ada@example.com`)
}

// Run sends one mail and waits for the server's answer.
func (c mailTest) Run(ctx context.Context, p *program) error {
	to, err := account.CanonicalEmail(c.To)
	if err != nil {
		return usagef("--to: %w", err)
	}
	sender, from, err := c.sender(p)
	if err != nil {
		return err
	}
	m, err := mail.TestMessage(mail.Config{From: from}, to)
	if err != nil {
		return err
	}
	if err := sender.Send(ctx, m); err != nil {
		return fmt.Errorf("the mail was not sent: %w", err)
	}
	r := mailTestResult{sender.String(), m.From, m.To, m.Subject}
	if c.Output == "json" {
		return writeJSON(p.stdout, r)
	}
	fmt.Fprintln(p.stderr, "harmony-id: the mail server took it. Whether it arrives, only the mailbox shows.")
	return writeFacts(p.stdout, [][2]string{{"Server", r.Server}, {"From", r.From}, {"To", r.To}, {"Subject", r.Subject}})
}
