package main

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"

	"github.com/harmony/id/mail"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// mailboxHandler is the page on which dev shows every mail, at an address of its
// own.
func mailboxHandler(box *mail.Mailbox, at *url.URL, log *slog.Logger) http.Handler {
	r := mux.NewRouter()
	r.Handle("/", web.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return showMailbox(w, r, box, "")
	})).Methods("GET", "HEAD")
	r.Handle("/messages/{id}", web.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return showMailbox(w, r, box, mux.Vars(r)["id"])
	})).Methods("GET", "HEAD")
	r.Handle("/messages/{id}/html", web.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		for _, m := range box.Messages() {
			if m.ID == mux.Vars(r)["id"] {
				h := w.Header()
				h.Set("Content-Type", "text/html; charset=utf-8")
				// The styles of a mail stand in it; nothing else of it acts.
				h.Set("Content-Security-Policy", "sandbox allow-popups allow-top-navigation-by-user-activation; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
				_, err := w.Write([]byte(m.HTML))
				return err
			}
		}
		return &web.Error{Status: http.StatusNotFound}
	})).Methods("GET", "HEAD")
	r.Handle("/empty", web.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		box.Empty()
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	})).Methods("POST")
	r.PathPrefix("/static/").Handler(web.Static())
	r.NotFoundHandler = web.NotFound
	r.MethodNotAllowedHandler = web.MethodNotAllowed
	return web.Wrap(web.Config{Issuer: at, Log: log, Home: "/"}, r)
}

// showMailbox shows the list, with the message of that id open, or the newest.
func showMailbox(w http.ResponseWriter, r *http.Request, box *mail.Mailbox, id string) error {
	page := templates.DemoMailbox{EmptyURL: "/empty"}
	for i, m := range box.Messages() {
		msg := templates.DemoMessage{
			URL: "/messages/" + m.ID, HTMLURL: "/messages/" + m.ID + "/html",
			Subject: m.Subject, From: m.From, To: m.To, At: m.At, Current: m.ID == id || id == "" && i == 0,
		}
		if msg.Current {
			msg.Text = letterLines(m.Text)
			open := msg
			page.Open = &open
		}
		page.Messages = append(page.Messages, msg)
	}
	if id != "" && page.Open == nil {
		return &web.Error{Status: http.StatusNotFound}
	}
	return web.Show(w, r, http.StatusOK, page)
}

// letterLines are the lines of a text, of which those that are an address can be
// followed.
func letterLines(text string) (lines []templates.DemoLine) {
	for line := range strings.SplitSeq(text, "\n") {
		l := templates.DemoLine{Text: line}
		if strings.HasPrefix(line, "http://") || strings.HasPrefix(line, "https://") {
			l.Link = line
		}
		lines = append(lines, l)
	}
	return lines
}
