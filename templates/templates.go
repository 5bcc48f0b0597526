// Package templates owns what people see: the pages, their words, the
// stylesheet, the script and the marks. A page is a Go struct; its words come
// from one catalogue. The package knows nothing of HTTP.
package templates

import (
	"embed"
	"html/template"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

//go:embed html/*.html
var sources embed.FS

var parsed = sync.OnceValue(func() *template.Template {
	return template.Must(template.ParseFS(sources, "html/*.html"))
})

// A Page is one of the structs of this package.
type Page interface {
	name() string         // its template
	title(v *view) string // its name, as the browser's tab shows it
	failed() bool         // the title says that something went wrong
	leaves() bool         // see FormsLeave
}

// FormsLeave reports whether a form of the page may end, after redirects, at
// another site. A browser that is told form-action 'self' checks the whole
// chain and would stop it there, so such a page is sent without.
func FormsLeave(p Page) bool { return p.leaves() }

// Links are the operator's own pages, shown at the foot of ours. An empty one
// is left out.
type Links struct {
	Support, Privacy, Terms string
}

// Any reports whether there is a link to show.
func (l Links) Any() bool { return l != Links{} }

// A Renderer writes pages. The zero value writes them in English, without links.
type Renderer struct {
	Links   Links
	StandIn bool // dev's stand-in for Google, which must not be taken for Harmony

	words *catalogue
}

// Render writes the page p with the zero Renderer.
func Render(w io.Writer, p Page) error { return Renderer{}.Render(w, p) }

// Render writes the page p. What was written before an error is of no use:
// render into a buffer.
func (r Renderer) Render(w io.Writer, p Page) error {
	v := &view{Page: p, Links: r.Links, StandIn: r.StandIn, catalogue: r.words}
	if v.catalogue == nil {
		v.catalogue = english()
	}
	return parsed().ExecuteTemplate(w, p.name(), v)
}

// A view is what a template sees: the page, and the words to show it with.
type view struct {
	Page    Page
	Links   Links
	StandIn bool
	*catalogue
}

// Title is the content of the title element.
func (v *view) Title() (string, error) {
	key := "title"
	if v.Page.failed() {
		key = "title_error"
	}
	return v.T(key, "page", v.Page.title(v))
}

// Asset is where the named static file is served.
func (v *view) Asset(name string) string { return StaticURL(name) }

// Demo reports whether the page is one of `harmony-id dev`, which have styles of
// their own.
func (v *view) Demo() bool { return v.StandIn || strings.HasPrefix(v.Page.name(), "demo-") }

// Tab is the tab of the account pages that the page is on, or "".
func (v *view) Tab() string {
	if p, ok := v.Page.(interface{ tab() string }); ok {
		return p.tab()
	}
	return ""
}

// Support is where people get help, or "".
func (v *view) Support() string { return v.Links.Support }

// Letter stands for a workspace: the first letter or digit of its name.
func (v *view) Letter(name string) string { return letter(name) }

func letter(name string) string {
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return string(unicode.ToUpper(r))
		}
	}
	return "·"
}

// initials stand for a person: the first letters of the first and the last
// word of the name or, without one, the first letter of the address.
func initials(name, email string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) })
	switch len(words) {
	case 0:
		return letter(email)
	case 1:
		return letter(words[0])
	}
	first, _ := utf8.DecodeRuneInString(words[0])
	last, _ := utf8.DecodeRuneInString(words[len(words)-1])
	return strings.ToUpper(string(first) + string(last))
}
