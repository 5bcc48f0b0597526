package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

type healthcheck struct {
	Ready bool `help:"Ask whether it should get requests (/readyz), not only whether it runs."`

	adminSettings
}

// Help shows an example.
func (healthcheck) Help() string {
	return "For containers and supervisors that have no other way to ask. It ends with 0 if the program that serves here answers that it is well, else with 1.\n\n" +
		example(`harmony-id healthcheck --ready`)
}

// probeTimeout bounds how long an answer of the admin listener is waited for.
const probeTimeout = 4 * time.Second

// Run asks the admin listener of this machine.
func (c healthcheck) Run(ctx context.Context, p *program) error {
	path := pathHealth
	if c.Ready {
		path = pathReady
	}
	word, err := c.ask(ctx, path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, word)
	return err
}

// ask returns the word that the admin listener answers; that it is not 200 is an error.
func (s adminSettings) ask(ctx context.Context, path string) (word string, err error) {
	host, port, err := net.SplitHostPort(string(s.AdminAddr))
	if err != nil {
		return "", usagef("admin-addr: %w", err)
	}
	switch host { // every address of the machine is one of it
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without the environment's proxy
	res, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("nothing answers on %s: %w", s.AdminAddr, err)
	}
	defer res.Body.Close()
	const most = 256
	text, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err != nil {
		return "", fmt.Errorf("reading the answer of %s: %w", s.AdminAddr, err)
	}
	word = strings.TrimSpace(string(text))
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s%s answers %d %s", s.AdminAddr, path, res.StatusCode, word)
	}
	return word, nil
}
