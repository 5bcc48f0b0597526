package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/harmony/id/mail"
)

const mailboxAt = "http://localhost:8025"

// A mailboxPage is the page of a mailbox, as a test asks for it.
type mailboxPage struct {
	t       *testing.T
	box     *mail.Mailbox
	handler http.Handler
}

func newMailboxPage(t *testing.T, messages ...mail.Message) *mailboxPage {
	t.Helper()
	at, err := url.Parse(mailboxAt)
	if err != nil {
		t.Fatal(err)
	}
	box := mail.NewMailbox()
	for _, m := range messages {
		if err := box.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	return &mailboxPage{t, box, mailboxHandler(box, at, slog.New(slog.NewTextHandler(io.Discard, nil)))}
}

func (p *mailboxPage) do(method, path string, header http.Header, status int) *httptest.ResponseRecorder {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), method, mailboxAt+path, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	if w.Code != status {
		p.t.Fatalf("%s %s = %d, want %d", method, path, w.Code, status)
	}
	return w
}

// has fails if the page lacks one of the texts, or has one of the others.
func (p *mailboxPage) has(w *httptest.ResponseRecorder, texts []string, not ...string) {
	p.t.Helper()
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			p.t.Errorf("no %q in\n%s", text, w.Body)
		}
	}
	for _, text := range not {
		if strings.Contains(w.Body.String(), text) {
			p.t.Errorf("there is %q in\n%s", text, w.Body)
		}
	}
}

var someMails = []mail.Message{
	{
		ID: "evt_01", From: `"Harmony" <no-reply@id.test>`, To: "ada@example.com", Subject: "Reset your password",
		Text: "Hello Ada,\n\nopen this.\n\nChoose a new password:\nhttps://id.test/login/reset?token=hrp_x&y=z\n\nSent to ada@example.com.\n",
		HTML: "<!doctype html><title>Reset</title><style>p { color: red }</style><p>the HTML</p>",
	},
	{
		ID: "evt_02-2", From: "no-reply@id.test", To: "bob@example.com", Subject: `<script>alert("subject")</script>`,
		Text: "javascript:alert(1)\nsee https://id.test/\n<script>alert(2)</script>\n", HTML: "<p>of Bob",
	},
}

// The list, the newest first and open; another, opened.
func TestMailboxPage(t *testing.T) {
	p := newMailboxPage(t, someMails...)
	w := p.do("GET", "/", nil, http.StatusOK)
	p.has(w, []string{
		"Reset your password", "ada@example.com", "bob@example.com", `href="/messages/evt_01"`, `href="/messages/evt_02-2"`, `href="/messages/evt_02-2/html"`,
		"&lt;script&gt;alert(", "javascript:alert(1)", "see https://id.test/",
	}, "<script>alert", `href="javascript`, `href="https://id.test/"`, "open this.")
	if newest, oldest := strings.Index(w.Body.String(), "evt_02"), strings.Index(w.Body.String(), "evt_01"); newest > oldest {
		t.Error("the oldest comes first")
	}
	w = p.do("GET", "/messages/evt_01", nil, http.StatusOK)
	p.has(w, []string{`href="https://id.test/login/reset?token=hrp_x&amp;y=z"`, "<p>Hello Ada,</p>", "<p>open this.</p>", "<br>", "From &#34;Harmony&#34;"}, "see https://id.test/", "the HTML")
	if n := len(regexp.MustCompile(`aria-current="true"`).FindAllString(w.Body.String(), -1)); n != 1 {
		t.Errorf("%d messages are open", n)
	}
	if got := p.do("HEAD", "/messages/evt_01", nil, http.StatusOK).Header().Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") || strings.Contains(got, "unsafe") {
		t.Errorf("policy %s", got)
	}
	p.do("GET", "/static/app.css", nil, http.StatusNotFound) // only under the name that it is linked by
	link := regexp.MustCompile(`href="(/static/[^"]+\.css)"`).FindStringSubmatch(w.Body.String())
	if link == nil {
		t.Fatalf("no stylesheet in\n%s", w.Body)
	}
	p.do("GET", link[1], nil, http.StatusOK)
}

// A mail's HTML shows, and does nothing.
func TestMailboxHTML(t *testing.T) {
	p := newMailboxPage(t, someMails...)
	w := p.do("GET", "/messages/evt_01/html", nil, http.StatusOK)
	if w.Body.String() != someMails[0].HTML {
		t.Errorf("HTML: %s", w.Body)
	}
	policies := w.Header()["Content-Security-Policy"]
	if len(policies) != 1 {
		t.Fatalf("policies %q", policies)
	}
	for _, part := range []string{"sandbox ", "default-src 'none'", "style-src 'unsafe-inline'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policies[0], part) {
			t.Errorf("policy %q, without %q", policies[0], part)
		}
	}
	for _, part := range []string{"allow-scripts", "allow-same-origin", "allow-forms", "script-src", "img-src"} {
		if strings.Contains(policies[0], part) {
			t.Errorf("policy %q, with %q", policies[0], part)
		}
	}
	for name, want := range map[string]string{"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if w := p.do("HEAD", "/messages/evt_01/html", nil, http.StatusOK); w.Header().Get("Content-Type") == "" {
		t.Errorf("HEAD: %v", w.Header())
	}
}

func TestMailboxMissing(t *testing.T) {
	p := newMailboxPage(t, someMails...)
	for _, path := range []string{"/messages/evt_03", "/messages/evt_03/html", "/messages/", "/messages/evt_01/text", "/nothing", "/messages/evt_0%31%00", "/messages/..%2fevt_01"} {
		p.has(p.do("GET", path, nil, http.StatusNotFound), []string{"We can’t find that page"}, "the HTML", "hrp_x")
	}
	p.do("POST", "/", http.Header{"Origin": {mailboxAt}}, http.StatusMethodNotAllowed)
	p.do("GET", "/empty", nil, http.StatusMethodNotAllowed)
}

func TestMailboxEmpty(t *testing.T) {
	p := newMailboxPage(t)
	p.has(p.do("GET", "/", nil, http.StatusOK), []string{"No messages yet"}, "<form")

	p = newMailboxPage(t, someMails...)
	p.has(p.do("GET", "/", nil, http.StatusOK), []string{`<form method="post" action="/empty"`})
	for name, header := range map[string]http.Header{
		"another site":        {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}},
		"another port":        {"Origin": {"http://localhost:8080"}, "Sec-Fetch-Site": {"same-site"}},
		"a mail's own script": {"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}},
		"nothing is said":     nil,
	} {
		p.do("POST", "/empty", header, http.StatusForbidden)
		if n := len(p.box.Messages()); n != len(someMails) {
			t.Fatalf("%s: %d messages are left", name, n)
		}
	}
	w := p.do("POST", "/empty", http.Header{"Origin": {mailboxAt}, "Sec-Fetch-Site": {"same-origin"}}, http.StatusSeeOther)
	if to := w.Header().Get("Location"); to != "/" {
		t.Errorf("then to %s", to)
	}
	p.has(p.do("GET", "/", nil, http.StatusOK), []string{"No messages yet"})
	p.do("GET", "/messages/evt_01", nil, http.StatusNotFound)
}

// The page is at its address and no other (a rebound name gets nothing).
func TestMailboxHost(t *testing.T) {
	p := newMailboxPage(t, someMails...)
	r := httptest.NewRequestWithContext(t.Context(), "GET", "http://evil.test:8025/messages/evt_01", nil)
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	if w.Code != http.StatusMisdirectedRequest || strings.Contains(w.Body.String(), "hrp_x") {
		t.Errorf("%d %s", w.Code, fmt.Sprint(w.Body))
	}
}
