package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A verdict is what came of a module, or of one thing in it.
type verdict string

// The verdicts. All but FAIL can be certified; a person has to look at REVIEW.
const (
	passed   verdict = "PASS"
	skipped  verdict = "SKIP"
	warning  verdict = "WARN"
	reviewed verdict = "REVIEW"
	failure  verdict = "FAIL"
	info     verdict = "INFO" // of notes alone: never counts
)

var severity = []verdict{info, passed, skipped, warning, reviewed, failure}

// A note is one thing that a module has to say.
type note struct {
	Verdict verdict `json:"verdict"`
	Text    string  `json:"text"`
}

// A result is what came of a module.
type result struct {
	Plan    string  `json:"plan"`
	Module  string  `json:"module"`
	Verdict verdict `json:"verdict"`
	Notes   []note  `json:"notes"`
	Seconds float64 `json:"seconds"`
}

// A job is a module in a plan.
type job struct {
	planName string
	plan     plan
	module   module
}

// A runner runs modules against one provider.
type runner struct {
	cfg     config
	http    *http.Client // programs' requests: no cookies, no redirects followed
	roots   []*x509.Certificate
	confirm *regexp.Regexp
	listen  *listener
	tabs    *chromium // nil until a module needs it

	sleep    func(time.Duration)
	now      func() time.Time
	patience time.Duration // for the provider to call
}

func newRunner(cfg config) (*runner, error) {
	cfg.ClientPost.post = true
	r := &runner{cfg: cfg, sleep: time.Sleep, now: time.Now, patience: 10 * time.Second}
	var err error
	if r.confirm, err = regexp.Compile(cfg.Confirm); err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	for _, file := range []string{cfg.CAFile, cfg.CallbackCert} {
		if file == "" {
			continue
		}
		certs, err := readCertificates(file)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			pool.AddCert(c)
		}
		r.roots = append(r.roots, certs...)
	}
	r.http = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
	r.listen, err = newListener(cfg)
	return r, err
}

func (r *runner) close() {
	if r.tabs != nil {
		r.tabs.close()
	}
	r.http.CloseIdleConnections()
	r.listen.close()
}

func readCertificates(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for block := range pemBlocks(text) {
		c, err := x509.ParseCertificate(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// A check is one run of a module: what it has found so far, and a browser that
// nobody has used.
type check struct {
	*runner
	ctx      context.Context
	formPost bool
	browser  browser
	client   client

	document  *answer // the discovery document as it came
	discovery map[string]any
	keys      []map[string]any
	notes     []note
}

// end is what ends a module at once.
type end struct{}

func (c *check) note(v verdict, format string, args ...any) {
	n := note{v, strings.ToValidUTF8(fmt.Sprintf(format, args...), "?")}
	if !slices.Contains(c.notes, n) {
		c.notes = append(c.notes, n)
	}
}

func (c *check) fail(format string, args ...any)   { c.note(failure, format, args...) }
func (c *check) warn(format string, args ...any)   { c.note(warning, format, args...) }
func (c *check) info(format string, args ...any)   { c.note(info, format, args...) }
func (c *check) review(format string, args ...any) { c.note(reviewed, format, args...) }

// stop fails and ends the module: what follows would make no sense.
func (c *check) stop(format string, args ...any) {
	c.fail(format, args...)
	panic(end{})
}

// skip ends the module: the provider does not have what it is about.
func (c *check) skip(format string, args ...any) {
	c.note(skipped, format, args...)
	panic(end{})
}

// module runs one module.
func (r *runner) module(ctx context.Context, j job) result {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	began := time.Now()
	r.listen.forget()
	c := &check{runner: r, ctx: ctx, formPost: j.plan.formPost, client: r.cfg.Client}
	in := j.module.chromium
	if j.plan.formPost {
		in = j.module.formPost
	}
	c.watch(in && r.cfg.Chromium == "some" || r.cfg.Chromium == "all", j.module.run)
	worst := passed
	for _, n := range c.notes {
		if slices.Index(severity, n.Verdict) > slices.Index(severity, worst) {
			worst = n.Verdict
		}
	}
	return result{j.planName, j.module.name, worst, c.notes, time.Since(began).Seconds()}
}

// watch gives a module its browser and sees to its end.
func (c *check) watch(inChromium bool, run func(*check)) {
	defer func() {
		if p := recover(); p != nil && p != (end{}) {
			panic(p)
		}
	}()
	c.browser = newPlainBrowser(c.runner)
	if inChromium {
		if c.tabs == nil {
			tabs, err := startChromium(c.cfg.Browser, c.roots)
			if err != nil {
				c.stop("Chromium does not start: %v; -chromium none does without", err)
			}
			c.tabs = tabs
		}
		tab, err := c.tabs.open(c.runner)
		if err != nil {
			c.stop("Chromium: %v", err)
		}
		defer tab.close()
		c.browser = tab
	}
	c.document = c.setUp()
	run(c)
}

// visit has the browser go somewhere and returns where it came to rest. What
// called us meanwhile is in its back.
func (c *check) visit(v visit) *arrival {
	before := len(c.listen.browserCalls())
	a, err := c.browser.visit(c.ctx, v)
	if err != nil && a == nil {
		a = &arrival{}
	}
	if calls := c.listen.browserCalls()[before:]; len(calls) > 0 {
		a.back = calls[len(calls)-1]
		if len(calls) > 1 {
			c.fail("the browser was sent back %d times", len(calls))
		}
	}
	if errors.Is(err, errNotSubmitted) {
		c.stop("%v", err)
	} else if err != nil {
		c.stop("in the browser: %v", err)
	}
	return a
}
