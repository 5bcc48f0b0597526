package templates

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"sync"
)

//go:embed catalogue_en.json
var englishJSON []byte

var english = sync.OnceValue(func() *catalogue {
	c, err := parseCatalogue(englishJSON)
	if err != nil {
		panic(err)
	}
	return c
})

// A catalogue holds every word of the pages in one language, by key. In a
// text, {name} stands for a value; where the template allows it (M), *stars*
// make bold, `backticks` make code and ~tildes~ keep on one line.
type catalogue struct {
	Lang string            `json:"lang"`
	Dir  string            `json:"dir"`
	Text map[string]string `json:"text"`
}

func parseCatalogue(data []byte) (*catalogue, error) {
	c := new(catalogue)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("reading the catalogue: %w", err)
	}
	return c, nil
}

// T is the text of key with values, given as name and value by turns, put in.
// A key without a text, or a text without its value, is an error.
func (c *catalogue) T(key string, values ...any) (string, error) {
	text, ok := c.Text[key]
	if !ok {
		return "", fmt.Errorf("the catalogue has no text %q", key)
	}
	return fill(key, text, values, plain)
}

// M is T for a text with markup. The values are escaped; a moment becomes a time
// element.
func (c *catalogue) M(key string, values ...any) (template.HTML, error) {
	text, ok := c.Text[key]
	if !ok {
		return "", fmt.Errorf("the catalogue has no text %q", key)
	}
	text = template.HTMLEscapeString(text)
	text = pairs(text, "*", `<b>`, `</b>`)
	text = pairs(text, "`", `<span class="mono">`, `</span>`)
	text = pairs(text, "~", `<span class="nb">`, `</span>`)
	text, err := fill(key, text, values, func(value any) string {
		if m, ok := value.(moment); ok {
			return m.markup()
		}
		return template.HTMLEscapeString(plain(value))
	})
	return template.HTML(text), err //nolint:gosec // the values were escaped
}

// Say is the text of s where s is a key, and else s itself: a handler may name
// a text of the catalogue or bring its own words.
func (c *catalogue) Say(s string, values ...any) (string, error) {
	if _, ok := c.Text[s]; !ok {
		return s, nil
	}
	return c.T(s, values...)
}

// Label is the plain name of a claim, or "".
func (c *catalogue) Label(claim string) string { return c.Text["claim."+claim] }

// Wait says how long a number of seconds is: "42 seconds", "3 minutes".
func (c *catalogue) Wait(seconds int) (string, error) {
	seconds = max(seconds, 1)
	if seconds <= 120 {
		return c.count("wait.second", seconds)
	}
	return c.count("wait.minute", (seconds+59)/60)
}

func (c *catalogue) count(key string, n int) (string, error) {
	if n == 1 {
		return c.T(key)
	}
	return c.T(key+"s", "n", n)
}

// fill puts values, as write writes them, in the places that text has for them.
func fill(key, text string, values []any, write func(any) string) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return "", fmt.Errorf("text %q: { without }", key)
		}
		value, ok := lookup(values, name)
		if !ok {
			return "", fmt.Errorf("text %q: no value for {%s}", key, name)
		}
		b.WriteString(write(value))
		text = after
	}
}

func lookup(values []any, name string) (any, bool) {
	for i := 0; i+1 < len(values); i += 2 {
		if values[i] == name {
			return values[i+1], true
		}
	}
	return nil, false
}

func plain(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case moment:
		return v.Text
	default:
		return fmt.Sprint(v)
	}
}

// pairs replaces each pair of marks in s by an opening and a closing tag.
func pairs(s, mark, opening, closing string) string {
	parts := strings.Split(s, mark)
	if len(parts)%2 == 0 {
		return s
	}
	var b strings.Builder
	for i, part := range parts {
		switch {
		case i == 0:
		case i%2 == 1:
			b.WriteString(opening)
		default:
			b.WriteString(closing)
		}
		b.WriteString(part)
	}
	return b.String()
}
