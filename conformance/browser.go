package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A browser is what the test person uses: it keeps cookies, follows redirects and
// fills in forms.
type browser interface {
	// visit goes where a visit says and comes to rest at our callback or at a page
	// that it has nothing more to do on.
	visit(ctx context.Context, v visit) (*arrival, error)
}

// A visit is what a browser is told to do.
type visit struct {
	url    string     // "": goes on with the page that it rests at
	post   url.Values // posted by a page of ours, if not nil
	silent bool       // answers nothing that it is asked
}

// An arrival is where a browser came to rest.
type arrival struct {
	at       string
	status   int
	kind     string // media type
	page     string // what a person reads there
	signedIn int    // how often it filled in a password
	said     int    // how often it said yes
	waits    bool   // it could say yes
	back     *call  // set if it is back at our site
	setting  []*http.Cookie
}

var errNotSubmitted = errors.New("the page with the answer did not post itself")

// maxSteps is how many pages a browser goes through before it gives up.
const maxSteps = 12

// A form is what a browser can fill in.
type form struct {
	index        int // of the page's forms
	action, verb string
	fields       []field
	buttons      []field // with their texts as kind
}

type field struct {
	kind, name, value string
	readonly          bool
	autocomplete      string
}

const tagRest = `((?:[^>"']|"[^"]*"|'[^']*')*)>`

var (
	formRE   = regexp.MustCompile(`(?is)<form\b` + tagRest + `(.*?)</form>`)
	fieldRE  = regexp.MustCompile(`(?is)<input\b` + tagRest)
	buttonRE = regexp.MustCompile(`(?is)<button\b` + tagRest + `(.*?)</button>`)
	attrRE   = regexp.MustCompile(`([a-zA-Z][-\w:]*)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?`)
	tagRE    = regexp.MustCompile(`(?is)<(script|style|svg|head)\b.*?</(script|style|svg|head)>|<[^>]*>`)
)

func attributes(tag string) map[string]string {
	out := map[string]string{}
	for _, m := range attrRE.FindAllStringSubmatch(tag, -1) {
		out[strings.ToLower(m[1])] = html.UnescapeString(strings.Trim(m[2], `"'`))
	}
	return out
}

// readable is the text of HTML, on one line and not too long.
func readable(body string) string {
	words := strings.Fields(html.UnescapeString(tagRE.ReplaceAllString(body, " ")))
	text := []rune(strings.Join(words, " "))
	return string(text[:min(len(text), 160)])
}

// forms reads the forms of a page.
func forms(at *url.URL, body string) (all []form) {
	for i, m := range formRE.FindAllStringSubmatch(body, -1) {
		a := attributes(m[1])
		f := form{index: i, action: at.String(), verb: http.MethodGet}
		if to, err := at.Parse(a["action"]); err == nil && a["action"] != "" {
			f.action = to.String()
		}
		if strings.EqualFold(a["method"], http.MethodPost) {
			f.verb = http.MethodPost
		}
		for _, in := range fieldRE.FindAllStringSubmatch(m[2], -1) {
			a := attributes(in[1])
			_, readonly := a["readonly"]
			d := field{strings.ToLower(a["type"]), a["name"], a["value"], readonly, a["autocomplete"]}
			switch _, checked := a["checked"]; {
			case d.kind == "submit":
				f.buttons = append(f.buttons, field{kind: d.value, name: d.name, value: d.value})
			case d.kind == "button" || (d.kind == "checkbox" || d.kind == "radio") && !checked:
			default:
				f.fields = append(f.fields, d)
			}
		}
		for _, b := range buttonRE.FindAllStringSubmatch(m[2], -1) {
			if a := attributes(b[1]); a["type"] == "" || strings.EqualFold(a["type"], "submit") {
				f.buttons = append(f.buttons, field{kind: readable(b[2]), name: a["name"], value: a["value"]})
			}
		}
		all = append(all, f)
	}
	return all
}

func (f *form) field(is func(field) bool) *field {
	if i := slices.IndexFunc(f.fields, is); i >= 0 {
		return &f.fields[i]
	}
	return nil
}

// isName reports whether a field is for the name that a person signs in with.
func isName(d field) bool {
	return slices.Contains([]string{"", "text", "email"}, d.kind) && !d.readonly &&
		(strings.Contains(d.autocomplete, "username") || slices.Contains([]string{"username", "user", "email", "login", "identifier", "name"}, strings.ToLower(d.name)))
}

// A move is what there is to do on a page.
type move int

const (
	moveNone   move = iota
	moveSubmit      // an answer that posts itself
	moveSignIn      // a password
	moveYes         // a question
)

// next decides what to do on a page. The form that it returns is filled in; button
// is the index of the one to press, -1 for none.
func (r *runner) next(at *url.URL, body string) (m move, f *form, button int) {
	all := forms(at, body)
	for i := range all {
		if strings.HasPrefix(all[i].action, r.cfg.Callback+"/") && all[i].verb == http.MethodPost {
			return moveSubmit, &all[i], -1
		}
	}
	for i := range all {
		f := &all[i]
		password, name := f.field(func(d field) bool { return d.kind == "password" }), f.field(isName)
		if password == nil && (name == nil || name.autocomplete == "") {
			continue
		}
		if name != nil {
			name.value = r.cfg.User.Name
		}
		if password != nil {
			password.value = r.cfg.User.Password
		}
		return moveSignIn, f, min(0, len(f.buttons)-1)
	}
	for i := range all {
		for j, b := range all[i].buttons {
			if r.confirm.MatchString(b.kind) {
				return moveYes, &all[i], j
			}
		}
	}
	return moveNone, nil, -1
}

// A plainBrowser is one of plain HTTP: it runs no scripts, and it knows nothing of
// SameSite and Content-Security-Policy.
type plainBrowser struct {
	r    *runner
	http http.Client
	at   *url.URL
	body string
	rest arrival
}

func newPlainBrowser(r *runner) *plainBrowser {
	jar, _ := cookiejar.New(nil) // it cannot fail without options
	b := &plainBrowser{r: r, http: *r.http}
	b.http.Jar = jar
	return b
}

func (b *plainBrowser) visit(ctx context.Context, v visit) (*arrival, error) {
	b.rest.signedIn, b.rest.said, b.rest.setting = 0, 0, nil
	if v.url != "" {
		verb := http.MethodGet
		if v.post != nil {
			verb = http.MethodPost
		}
		if err := b.load(ctx, verb, v.url, v.post, b.r.cfg.Callback); err != nil {
			return nil, err
		}
	}
	for range maxSteps {
		m, f, button := b.r.next(b.at, b.body)
		b.rest.waits = m == moveYes
		if strings.HasPrefix(b.at.String(), b.r.cfg.Callback+"/") || m == moveNone || v.silent && m != moveSubmit {
			a := b.rest
			return &a, nil
		}
		switch m {
		case moveSignIn:
			if b.rest.signedIn++; b.rest.signedIn > 3 {
				return nil, fmt.Errorf("the sign-in form comes back: %s", readable(b.body))
			}
		case moveYes:
			b.rest.said++
		}
		values := url.Values{}
		for _, d := range f.fields {
			if d.name != "" {
				values.Add(d.name, d.value)
			}
		}
		if button >= 0 && f.buttons[button].name != "" {
			values.Set(f.buttons[button].name, f.buttons[button].value)
		}
		if f.verb == http.MethodGet {
			to, err := url.Parse(f.action)
			if err != nil {
				return nil, err
			}
			to.RawQuery = values.Encode()
			f.action, values = to.String(), nil
		}
		if err := b.load(ctx, f.verb, f.action, values, b.at.Scheme+"://"+b.at.Host); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no end after %d pages, last at %s: %s", maxSteps, b.at, readable(b.body))
}

// load goes to an address, and on to where it is redirected to.
func (b *plainBrowser) load(ctx context.Context, verb, to string, post url.Values, from string) error {
	for range maxSteps {
		var body io.Reader
		if verb == http.MethodPost {
			body = strings.NewReader(post.Encode())
		}
		req, err := http.NewRequestWithContext(ctx, verb, to, body)
		if err != nil {
			return err
		}
		h := req.Header
		h.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Conformance/1.0")
		h.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		if verb == http.MethodPost {
			h.Set("Content-Type", "application/x-www-form-urlencoded")
			h.Set("Origin", from)
			h.Set("Sec-Fetch-Site", map[bool]string{true: "same-origin", false: "cross-site"}[from == req.URL.Scheme+"://"+req.URL.Host])
		}
		res, err := b.http.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
		res.Body.Close()
		if err != nil {
			return err
		}
		b.rest.setting = append(b.rest.setting, res.Cookies()...)
		b.at, b.body = req.URL, string(text)
		kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
		b.rest.at, b.rest.status, b.rest.kind, b.rest.page = to, res.StatusCode, kind, readable(b.body)
		where := res.Header.Get("Location")
		if res.StatusCode/100 != 3 || where == "" {
			return nil
		}
		next, err := req.URL.Parse(where)
		if err != nil {
			return fmt.Errorf("redirect to no URL: %w", err)
		}
		to = next.String()
		if verb == http.MethodPost && res.StatusCode != http.StatusTemporaryRedirect && res.StatusCode != http.StatusPermanentRedirect {
			verb = http.MethodGet
		}
	}
	return fmt.Errorf("redirects without end, last to %s", to)
}
