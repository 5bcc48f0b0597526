package templates

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

var someLinks = Links{Support: "https://help.example/", Privacy: "https://example.com/privacy", Terms: "https://example.com/terms"}

// everyPage is each page in each of its states. Words that are data, not copy,
// have no letters (see TestNoHardCodedText).
func everyPage() map[string]Page {
	pages := map[string]Page{
		"sign in":                       SignIn{},
		"sign in, for a workspace":      SignIn{Workspace: "1", To: "/2", AnyOrigin: true},
		"sign in, with a hint":          SignIn{Workspace: "1", Email: "3@4.5"},
		"confirm":                       SignIn{Fixed: true, Workspace: "1", Name: "6 7", Email: "3@4.5", OtherURL: "/8"},
		"confirm, nobody's name":        SignIn{Fixed: true, Email: "3@4.5"},
		"sign in, or with Google":       SignIn{Workspace: "1", To: "/2", GoogleURL: "/9"},
		"sign in, password after all":   SignIn{Workspace: "1", Email: "3@4.5", Notice: "google_password", GoogleURL: "/9"},
		"confirm, or with Google":       SignIn{Fixed: true, Name: "6 7", Email: "3@4.5", OtherURL: "/8", GoogleURL: "/9"},
		"confirm, only Google":          SignIn{Fixed: true, Google: true, Workspace: "1", Name: "6 7", Email: "3@4.5", OtherURL: "/8", GoogleURL: "/9"},
		"message":                       Message{Status: 200, Title: "1", Text: "2"},
		"message, with everything":      Message{Status: 400, Title: "link_broken.title", Text: "link_broken.text", Wait: 90, Action: "error.home", ActionURL: "/1", Reference: "2-3"},
		"message, wrong site":           Message{Status: 421, Site: "1", ActionURL: "https://1/"},
		"message, a status of no words": Message{Status: 418},
		"message, a worse one":          Message{Status: 599},
		"sign out":                      SignOut{Action: "/1"},
		"sign out, with everything":     SignOut{Name: "1 2", Email: "3@4.5", Workspaces: []string{"6", "7"}, Fields: []Field{{"8", "9"}}, Action: "/10", StayURL: "/11", AnyOrigin: true},
		"signed out":                    SignedOut{SignInURL: "/1"},
		"consent":                       Consent{Workspace: "1", Host: "2", Name: "6 7", Email: "3@4.5", Scopes: []string{"openid", "profile", "email", "phone", "address", "offline_access", "8.9"}, Action: "/10", ID: "11"},
		"consent, for an app":           Consent{Workspace: "1", Email: "3@4.5", Scopes: []string{"openid"}, Action: "/10", ID: "11"},
		"going on by a form":            FormPost{Workspace: "1", Action: "https://2/3", Fields: []Field{{"4", "5"}}},
		"signed out, confirmed":         SignedOut{SignInURL: "/1", Workspaces: []Receipt{{Workspace: "2", State: Confirmed, At: time.Now(), AccessEnds: time.Now().Add(time.Minute)}}},
		"signed out, everything":        SignedOut{SignInURL: "/1", Workspaces: receipts()},
		"signed out, no answer":         SignedOut{SignInURL: "/1", Workspaces: receipts()[2:]},
		"demo home":                     DemoHome{Workspace: "1", SignInURL: "/2"},
		"demo home, signed out":         DemoHome{Workspace: "1", SignInURL: "/2", SignedOut: true},
		"demo claims": DemoClaims{Workspace: "1", Name: "2", Claims: []DemoClaim{{"iss", "3"}, {"4", "5"}}, Algorithm: "6",
			IDTokenHeader: "{}", IDTokenPayload: "[]", AccessToken: "7", RefreshToken: "8", Expires: "9",
			Other: "10", OtherURL: "/11", FreshURL: "/12", SecurityURL: "/13", SignOutURL: "/14",
			UserInfo: []DemoClaim{{"sub", "15"}, {"16", "17"}}, RefreshURL: "/18"},
		"demo claims, the least": DemoClaims{Workspace: "1", SignOutURL: "/2"},
		"demo error":             DemoError{Workspace: "1", Code: "2", Description: "3", SignInURL: "/4", HomeURL: "/5"},
	}
	maps.Copy(pages, accountPages())
	for _, e := range []string{"", Wrong, WrongPasskey, UnknownPasskey, NotVerified, Cloned, PasskeyOver} {
		pages["sign in, with passkeys "+e] = SignIn{Workspace: "1", To: "/2", GoogleURL: "/9", Passkeys: true, Signal: "{}", Error: e}
		pages["confirm, with passkeys "+e] = SignIn{Fixed: true, Email: "3@4.5", OtherURL: "/8", Passkeys: true, Error: e}
	}
	pages["confirm, only Google, with passkeys"] = SignIn{Fixed: true, Google: true, Email: "3@4.5", OtherURL: "/8", GoogleURL: "/9", Passkeys: true}
	for _, e := range []string{Wrong, Throttled, TooLong, Busy} {
		pages["sign in, "+e] = SignIn{Workspace: "1", Email: "3@4.5", Error: e, Wait: 42}
		pages["confirm, "+e] = SignIn{Fixed: true, Email: "3@4.5", OtherURL: "/8", Error: e, Wait: 1}
	}
	for key := range english().Text {
		var status int
		if n, _ := fmt.Sscanf(key, "error.%d.title", &status); n == 1 {
			pages[fmt.Sprint("message ", status)] = Message{Status: status, Site: "1", Reference: "2"}
		}
	}
	return pages
}

// receipts are one in each state.
func receipts() []Receipt {
	soon, past := time.Now().Add(time.Minute), time.Now().Add(-time.Minute)
	return []Receipt{
		{Workspace: "2", State: Confirmed, At: time.Now(), AccessEnds: soon}, {Workspace: "3", State: Waiting, AccessEnds: soon},
		{Workspace: "4", State: NoAnswer, AccessEnds: past}, {Workspace: "5", State: NotTold, AccessEnds: soon},
	}
}

func render(t *testing.T, r Renderer, p Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Render(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A node is an element or a run of text.
type node struct {
	name  string // "" for text
	text  string
	attrs map[string]string
	in    []string // the elements around it
}

var void = []string{"meta", "link", "input", "br", "img"}

// parse reads HTML as strictly as a validator does: every element is closed
// in its turn, every attribute stands there once.
func parse(t *testing.T, page string) []node {
	t.Helper()
	if !strings.HasPrefix(page, "<!doctype html>\n") {
		t.Error("no doctype")
	}
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict = false
	d.Entity = xml.HTMLEntity
	var nodes []node
	var stack []string
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			attrs := make(map[string]string)
			for _, a := range token.Attr {
				if _, twice := attrs[a.Name.Local]; twice {
					t.Errorf("<%s> has %s twice", token.Name.Local, a.Name.Local)
				}
				attrs[a.Name.Local] = a.Value
			}
			nodes = append(nodes, node{name: token.Name.Local, attrs: attrs, in: slices.Clone(stack)})
			if !slices.Contains(void, token.Name.Local) {
				stack = append(stack, token.Name.Local)
			}
		case xml.EndElement:
			if slices.Contains(void, token.Name.Local) {
				continue // the decoder's own, of a <path/>
			}
			if len(stack) == 0 || stack[len(stack)-1] != token.Name.Local {
				t.Fatalf("</%s> closes %v", token.Name.Local, stack)
			}
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if s := strings.TrimSpace(string(token)); s != "" {
				nodes = append(nodes, node{text: s, in: slices.Clone(stack)})
			}
		}
	}
	if len(stack) != 0 {
		t.Errorf("not closed: %v", stack)
	}
	return nodes
}

// G-1, G-4, G-7 and what a validator and a screen reader ask of every page.
func TestPages(t *testing.T) {
	for name, p := range everyPage() {
		for _, links := range []Links{{}, someLinks} {
			t.Run(name, func(t *testing.T) { checkPage(t, p, render(t, Renderer{Links: links}, p)) })
		}
	}
}

// Nobody takes dev's stand-in for Google for Harmony, on whichever page.
func TestStandIn(t *testing.T) {
	for name, p := range everyPage() {
		if strings.HasPrefix(p.name(), "demo-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			page := render(t, Renderer{StandIn: true}, p)
			checkPage(t, p, page)
			if brand := `<span class="brand">Stand-in for Google</span>`; strings.Count(page, brand) != 1 || !strings.Contains(page, StaticURL("demo.css")) || !strings.Contains(page, " standin\"") {
				t.Errorf("the page looks like Harmony’s:\n%s", page)
			}
		})
	}
}

func checkPage(t *testing.T, p Page, page string) {
	ids := make(map[string]string)
	count := make(map[string]int)
	var title string
	nodes := parse(t, page)
	for _, n := range nodes {
		count[n.name]++
		if n.name == "" && slices.Contains(n.in, "title") {
			title = n.text
		}
		if id := n.attrs["id"]; id != "" {
			if ids[id] != "" {
				t.Errorf("id %q stands there twice", id)
			}
			ids[id] = n.name
		}
	}
	if count["h1"] != 1 || count["main"] != 1 || count["title"] != 1 {
		t.Errorf("%d h1, %d main, %d title, want one of each", count["h1"], count["main"], count["title"])
	}
	if !strings.HasSuffix(title, " – Harmony") || strings.HasPrefix(title, "Error: ") != p.failed() {
		t.Errorf("title %q, failed %v", title, p.failed())
	}
	labels := make(map[string]bool)
	for _, n := range nodes {
		if n.name == "label" {
			labels[n.attrs["for"]] = true
		}
	}
	for _, n := range nodes {
		for attr, value := range n.attrs {
			if strings.HasPrefix(attr, "on") || attr == "style" {
				t.Errorf("<%s %s>: the policy stops it", n.name, attr)
			}
			if attr == "href" && (value == "" || value == "#") {
				t.Errorf("<%s> leads nowhere", n.name)
			}
			var refs []string
			if slices.Contains([]string{"for", "form", "aria-labelledby", "aria-describedby", "aria-controls", "data-copy", "data-match", "data-sends"}, attr) {
				refs = strings.Fields(value)
			}
			if target, local := strings.CutPrefix(value, "#"); attr == "href" && local {
				refs = []string{target}
			}
			for _, id := range refs {
				if ids[id] == "" {
					t.Errorf("<%s %s=%q> refers to nothing", n.name, attr, value)
				}
			}
		}
		switch n.name {
		case "html":
			if n.attrs["lang"] != "en" || n.attrs["dir"] != "ltr" {
				t.Errorf("html has %v", n.attrs)
			}
		case "meta":
			if strings.Contains(n.attrs["content"], "scalable") {
				t.Error("zooming is forbidden")
			}
		case "form":
			if n.attrs["method"] != "post" || n.attrs["action"] == "" {
				t.Errorf("form has %v", n.attrs)
			}
		case "button":
			if n.attrs["type"] == "" {
				t.Error("a button has no type")
			}
		case "input":
			hidden := n.attrs["type"] == "hidden" || n.attrs["aria-hidden"] == "true"
			if !hidden && !labels[n.attrs["id"]] {
				t.Errorf("input %q has no label", n.attrs["name"])
			}
			if n.attrs["autocomplete"] == "off" && n.attrs["name"] != "backup_code" && n.attrs["name"] != "name" || n.attrs["placeholder"] != "" {
				t.Errorf("input has %v", n.attrs)
			}
		case "svg":
			if n.attrs["aria-hidden"] != "true" {
				t.Error("a decoration is read out")
			}
		case "script", "link":
			url := n.attrs["src"] + n.attrs["href"]
			if _, ok := Static(url); !ok {
				t.Errorf("%q is not a static file of ours", url)
			}
		}
		if n.name == "" && slices.Contains(n.in, "script") {
			t.Error("a script stands in the page")
		}
	}
	checkFocus(t, p, nodes)
}

// checkFocus checks where a page begins: at its error summary or, where a code was
// wrong, at the field for the next one; in a dialog if there is one.
func checkFocus(t *testing.T, p Page, nodes []node) {
	var focused, invalid, alerts, dialogs []node
	for _, n := range nodes {
		_, focus := n.attrs["autofocus"]
		if focus {
			focused = append(focused, n)
		}
		if n.attrs["aria-invalid"] == "true" {
			invalid = append(invalid, n)
		}
		if n.attrs["role"] == "alert" {
			alerts = append(alerts, n)
		}
		if n.name == "dialog" {
			dialogs = append(dialogs, n)
		}
	}
	if len(focused) > 1 || len(dialogs) > 1 {
		t.Errorf("focus on %v, dialogs %v", focused, dialogs)
	}
	if len(dialogs) > 0 && (len(focused) == 0 || !slices.Contains(focused[0].in, "dialog") || focused[0].name == "button") {
		t.Errorf("with a dialog, the focus is on %v", focused)
	}
	if _, ok := p.(interface{ problem() problem }); !ok || !p.failed() {
		if len(alerts)+len(invalid) > 0 {
			t.Errorf("an error where there is none: %v %v", alerts, invalid)
		}
		return
	}
	if len(alerts) != 1 || len(focused) != 1 || slices.Contains(alerts[0].in, "dialog") != (len(dialogs) > 0) {
		t.Fatalf("alerts %v, focus on %v", alerts, focused)
	}
	onField := focused[0].name == "input" && focused[0].attrs["aria-invalid"] == "true" && strings.HasSuffix(focused[0].attrs["name"], "code")
	if !onField && (focused[0].attrs["id"] != "error" || focused[0].attrs["tabindex"] != "-1") {
		t.Errorf("the focus is on %v", focused[0])
	}
	for _, n := range invalid {
		if !strings.Contains(n.attrs["aria-describedby"], "-error") {
			t.Errorf("%v does not say what is wrong with it", n)
		}
	}
}

// SI-1, SI-2: what password managers and phones need, to the letter.
func TestSignInFields(t *testing.T) {
	want := map[string]map[string]string{
		"email": {
			"class": "input", "id": "email", "name": "email", "type": "email", "autocomplete": "username webauthn", "inputmode": "email",
			"autocapitalize": "none", "spellcheck": "false", "dir": "ltr", "required": "required", "autofocus": "autofocus",
		},
		"password": {
			"class": "input", "id": "password", "name": "password", "type": "password", "autocomplete": "current-password",
			"autocapitalize": "none", "spellcheck": "false", "enterkeyhint": "go", "required": "required",
		},
	}
	for _, n := range parse(t, render(t, Renderer{}, SignIn{})) {
		if n.name == "input" && !maps.Equal(n.attrs, want[n.attrs["name"]]) {
			t.Errorf("got  %v\nwant %v", n.attrs, want[n.attrs["name"]])
		}
	}
}

func input(t *testing.T, p Page, name string) map[string]string {
	t.Helper()
	for _, n := range parse(t, render(t, Renderer{}, p)) {
		if n.name == "input" && n.attrs["name"] == name {
			return n.attrs
		}
	}
	return nil
}

// G-4, SI-6, SI-7, SI-11: what is kept, where the focus is, what is blamed.
func TestSignInStates(t *testing.T) {
	for _, c := range []struct {
		name                string
		page                SignIn
		focusEmail, focusPW bool
		invalid             bool
		want, not           string
	}{
		{"plain", SignIn{}, true, false, false, "<h1>Sign in to Harmony</h1>", "Use another account"},
		{"hint", SignIn{Workspace: "Acme", Email: "ada@example.com"}, false, true, false, "<h1>Sign in to continue to Acme</h1>", "alert"},
		{"wrong", SignIn{Email: "ada@example.com", Error: Wrong}, false, false, true, "Check your email and password and try again.", "attempts"},
		{"too long", SignIn{Error: TooLong}, false, false, true, "too long", "attempts"},
		{"throttled", SignIn{Email: "ada@example.com", Error: Throttled, Wait: 42}, false, false, false, "Too many attempts. Try again in 42 seconds.", "password and"},
		{"throttled for long", SignIn{Error: Throttled, Wait: 841}, false, false, false, "Try again in 15 minutes.", "seconds"},
		{"busy", SignIn{Email: "ada@example.com", Error: Busy, Wait: 1}, false, false, false, "Try again in 1 second.", "seconds"},
		{"fixed", SignIn{Fixed: true, Workspace: "Acme", Email: "ada@example.com", OtherURL: "/login?other=1"}, false, true, false, `<a href="/login?other=1">Use another account</a>`, `type="email"`},
		{"fixed, wrong", SignIn{Fixed: true, Email: "ada@example.com", Error: Wrong}, false, false, true, `<a href="#password">Check your password`, `type="email"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := html.UnescapeString(render(t, Renderer{}, c.page))
			if !strings.Contains(page, c.want) || strings.Contains(page, c.not) {
				t.Errorf("want %q and not %q in\n%s", c.want, c.not, page)
			}
			email, password := input(t, c.page, "email"), input(t, c.page, "password")
			if email["value"] != c.page.Email {
				t.Errorf("email is %q, want %q", email["value"], c.page.Email)
			}
			if _, ok := password["value"]; ok {
				t.Error("the password came back")
			}
			if _, ok := email["autofocus"]; ok != c.focusEmail {
				t.Errorf("focus on email: %v", ok)
			}
			if _, ok := password["autofocus"]; ok != c.focusPW {
				t.Errorf("focus on password: %v", ok)
			}
			if got := password["aria-invalid"] == "true"; got != c.invalid {
				t.Errorf("password is invalid: %v", got)
			}
		})
	}
}

// B1: only where a form may end at a workspace is form-action left out.
func TestFormsLeave(t *testing.T) {
	for _, c := range []struct {
		page Page
		want bool
	}{
		{SignIn{}, false},
		{SignIn{AnyOrigin: true}, true},
		{SignOut{}, false},
		{SignOut{AnyOrigin: true}, true},
		{SignedOut{}, false},
		{FormPost{}, true},
		{Consent{}, true},
		{Message{}, false},
		{Security{}, false},
		{Verify{}, false},
		{Verify{AnyOrigin: true}, true},
		{BackupCode{}, false},
		{BackupCode{AnyOrigin: true}, true},
		{Confirm{}, false},
		{Confirm{AnyOrigin: true}, true},
		{Forgot{}, false},
		{Reset{}, false},
		{DemoMailbox{}, false},
	} {
		if got := FormsLeave(c.page); got != c.want {
			t.Errorf("FormsLeave(%+v) = %v", c.page, got)
		}
	}
}

// G-8: with every text of the catalogue in brackets, no letter of a page
// stands outside of them, and the direction of the language is obeyed.
func TestNoHardCodedText(t *testing.T) {
	pseudo := &catalogue{Lang: "en-XA", Dir: "rtl", Text: make(map[string]string)}
	for key, text := range english().Text {
		pseudo.Text[key] = "⟦" + regexp.MustCompile(`\{\w+\}|[*~`+"`"+`]`).ReplaceAllString(text, "⟧$0⟦") + "⟧"
	}
	words := regexp.MustCompile(`⟦[^⟦⟧]*⟧`)
	for name, p := range everyPage() {
		page := render(t, Renderer{Links: someLinks, words: pseudo}, p)
		if !strings.Contains(page, `<html lang="en-XA" dir="rtl">`) {
			t.Errorf("%s: language or direction ignored", name)
		}
		for _, n := range parse(t, page) {
			texts := []string{n.text}
			if slices.Contains(n.in, "code") {
				texts = nil // names of the protocol
			}
			for attr, value := range n.attrs {
				if slices.Contains([]string{"data-local", "data-copy", "data-match", "data-sends", "data-passkey", "data-signal"}, attr) {
					continue // for the script
				}
				if attr == "alt" || attr == "title" || attr == "aria-label" || attr == "placeholder" || strings.HasPrefix(attr, "data-") {
					texts = append(texts, value)
				}
			}
			for _, text := range texts {
				if rest := words.ReplaceAllString(text, ""); strings.ContainsFunc(rest, unicode.IsLetter) {
					t.Errorf("%s: %q is not in the catalogue", name, rest)
				}
			}
		}
	}
}

// Every text is used, every key that a template names exists (or TestPages
// fails), and the copy says "email".
func TestCatalogue(t *testing.T) {
	var used bytes.Buffer
	for _, dir := range []string{"html", "."} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if name := dir + "/" + e.Name(); strings.HasSuffix(name, ".html") || strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				used.Write(data)
			}
		}
	}
	// Named in part by the code, or by handlers for a Message.
	computed := regexp.MustCompile(`^(claim|error|method|event|how|with|weak|notice|month|month_short|weekday)\.|^field\.((show|hide)\.)?\w*(password|code)$` +
		`|^confirm\.(for|with|use)\.|^problem\.|^(code|backup_code)\.(wrong|used)(_field)?$|^(set_up|codes)\.unfinished_text$|^sign_in\.(throttled|too_long|busy|wrong|wrong_passkey|unknown_passkey|not_verified|cloned|passkey_over)$` +
		`|^(link_broken|sign_in_expired|cookies_blocked|link_expired|google_account|google_failed|google_expired|google_wrong|prove_none|codes_gone|session_gone|passkey_gone)\.|^codes_file\.|^consent\.scope\.|^mail\.\w+\.\w+$`)
	for key, text := range english().Text {
		one, plural := strings.CutSuffix(key, "s")
		counted := plural && english().Text[one] != "" // see (*catalogue).count
		if !counted && !computed.MatchString(key) && !strings.Contains(used.String(), `"`+key+`"`) {
			t.Errorf("%s is used nowhere", key)
		}
		if regexp.MustCompile(`(?i)e-mail|'|"|\.\.\.`).MatchString(text) {
			t.Errorf("%s: %q: write email, ’, “ ” and …", key, text)
		}
	}
}

// WEB-03, WEB-04: nothing that a stranger chose becomes markup, a script or a
// link that runs one, in any field of any page.
func TestHostileStringsAreEscaped(t *testing.T) {
	for _, evil := range []string{
		`"><svg/onload=alert(1)>`, `</script><script>alert(1)</script>`, `javascript:alert(1)`, `{{7*7}}`, `%3Cscript%3E`, `%253Cscript%253E`,
		`' autofocus onfocus=alert(1) x='`, "\u202e\x00\xff", `{n} *b* ` + "`c`", strings.Repeat("W", 5000),
	} {
		for name, p := range everyPage() {
			hostile := reflect.New(reflect.TypeOf(p)).Elem()
			hostile.Set(reflect.ValueOf(p))
			poison(hostile, evil)
			p := hostile.Interface().(Page)
			page := render(t, Renderer{Links: Links{evil, evil, evil}}, p)
			clean := parse(t, strings.ToValidUTF8(page, "?"))
			for _, n := range clean {
				if n.name == "script" && len(n.attrs) != 2 || n.attrs["onload"] != "" || n.attrs["onfocus"] != "" {
					t.Fatalf("%s, %q: <%s %v>", name, evil, n.name, n.attrs)
				}
				for _, attr := range []string{"href", "action", "src"} {
					if strings.HasPrefix(strings.ToLower(strings.TrimSpace(n.attrs[attr])), "javascript:") {
						t.Fatalf("%s: %s=%q", name, attr, n.attrs[attr])
					}
				}
				if strings.Contains(n.text, "49") {
					t.Fatalf("%s: %q was evaluated", name, evil)
				}
			}
			if strings.Contains(page, "<svg/onload") || strings.Contains(page, "<script>") {
				t.Fatalf("%s: %q came out as it is", name, evil)
			}
		}
	}
}

// poison sets every string in v to evil, but for those that are not free text. What
// v points to is made anew, for pages share it.
func poison(v reflect.Value, evil string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(evil)
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			key := slices.Contains([]string{"Error", "Reason", "Method", "With", "QR", "URI"}, field.Name) || field.Name == "Others" && v.Type() == reflect.TypeFor[Confirm]()
			if field.IsExported() && !key {
				poison(v.Field(i), evil)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Type() != reflect.TypeFor[*time.Location]() {
			anew := reflect.New(v.Type().Elem())
			anew.Elem().Set(v.Elem())
			poison(anew.Elem(), evil)
			v.Set(anew)
		}
	case reflect.Slice:
		n := max(2, v.Len())
		anew := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			if i < v.Len() {
				anew.Index(i).Set(v.Index(i))
			}
			poison(anew.Index(i), evil)
		}
		v.Set(anew)
	}
}

// The budget of pages.md: what a phone on a slow line has to fetch.
func TestSizes(t *testing.T) {
	size := func(name string) int {
		a, ok := Static(StaticURL(name))
		if !ok {
			t.Fatal(name)
		}
		return len(a.Data)
	}
	if n := size("app.css"); n >= 20_000 {
		t.Errorf("app.css has %d bytes", n)
	}
	if n := size("app.js"); n >= 10_000 {
		t.Errorf("app.js has %d bytes", n)
	}
	// All that a page brings along.
	sum := func(p Page) int {
		sum := len(render(t, Renderer{Links: someLinks}, p))
		for _, name := range assetNames {
			if name != "demo.css" {
				a, _ := Static(StaticURL(name))
				sum += len(a.Gzip) // as browsers get it
			}
		}
		return sum
	}
	if n := sum(SignIn{Workspace: "Acme", Email: "ada@example.com", Error: Wrong, Passkeys: true, GoogleURL: "/login/google", To: "/authorize/resume?id=01234567890123456789012345"}); n >= 30_000 {
		t.Errorf("the sign-in page has %d bytes in all", n)
	}
	setUp := accountPages()["set up, wrong"].(Security)
	setUp.SetUp.QR = "data:image/svg+xml;base64," + strings.Repeat("PHN2ZyB4", 6<<10/8) // of version 7
	if n := sum(setUp); n >= 60_000 {
		t.Errorf("the set-up page has %d bytes in all", n)
	}
}

func TestStatic(t *testing.T) {
	css, _ := Static(StaticURL("app.css"))
	for _, u := range regexp.MustCompile(`url\(([^)]*)\)`).FindAllSubmatch(css.Data, -1) {
		if _, ok := Static("/static/" + string(u[1])); !ok {
			t.Errorf("the stylesheet refers to %s", u[1])
		}
	}
	if bytes.Contains(css.Data, []byte("@import")) || bytes.Contains(css.Data, []byte("//")) {
		t.Error("the stylesheet fetches something from elsewhere")
	}
	for _, u := range []string{"/static/app.css", "/static/", "/static", "", "/static/../catalogue_en.json", "/static/logo.svg"} {
		if a, ok := Static(u); ok {
			t.Errorf("Static(%q) = %s", u, a.URL)
		}
	}
}

func TestInitials(t *testing.T) {
	for _, c := range []struct{ name, email, want string }{
		{"Ada Lovelace", "x@example.com", "AL"},
		{"Ada King Lovelace", "x@example.com", "AL"},
		{"ada", "x@example.com", "A"},
		{"", "ada@example.com", "A"},
		{"  ", "9@example.com", "9"},
		{"Émile Zola (he)", "x@example.com", "ÉH"},
		{"李 小龍", "x@example.com", "李小"},
		{"\u202e<>", "", "·"},
	} {
		if got := initials(c.name, c.email); got != c.want {
			t.Errorf("initials(%q, %q) = %q, want %q", c.name, c.email, got, c.want)
		}
	}
}

func TestMessageSaysKeyOrWords(t *testing.T) {
	page := render(t, Renderer{}, Message{Status: 410, Title: "link_broken.title", Text: "Words of my own."})
	if !strings.Contains(page, "This sign-in link doesn’t work</h1>") || !strings.Contains(page, "Words of my own.") {
		t.Error(page)
	}
	page = render(t, Renderer{}, Message{Status: 410, Wait: 1})
	if !strings.Contains(page, "This link has expired</h1>") || !strings.Contains(page, "Try again in 1 second.") {
		t.Error(page)
	}
}

func BenchmarkRender(b *testing.B) {
	var buf bytes.Buffer
	for b.Loop() {
		buf.Reset()
		if err := Render(&buf, SignIn{Workspace: "Acme", Email: "ada@example.com"}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMarkup(t *testing.T) {
	c := &catalogue{Text: map[string]string{"k": "a < *{b}* and `{c}`"}}
	got, err := c.M("k", "b", `<i>*{c}*`, "c", "`x`")
	if want := "a &lt; <b>&lt;i&gt;*{c}*</b> and <span class=\"mono\">`x`</span>"; string(got) != want || err != nil {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
	for _, key := range []string{"k", "none"} {
		if got, err := c.M(key, "b", "only"); err == nil {
			t.Errorf("M(%q) = %s without its values", key, got)
		}
	}
}
