package templates

// A problem is what is wrong with the form of a page: first as keys of the
// catalogue, then, from (*view).Problem, in words.
type problem struct {
	Title  string // what did not work
	Text   string // what happened, and what to do
	Link   string // the id of the field that the summary leads to; "" for none
	At     string // the id of the field to blame; "" for none
	Beside string // what stands beside that field
	Dialog bool   // the form is in a dialog
	Wait   int    // seconds, for {wait}
	N      int    // for {n}
}

// Typed reports whether a code is at fault: its field is where the person goes on
// (OTP-5). After everything else the summary is read first (G-4).
func (p *problem) Typed() bool { return p.At == "code" || p.At == "backup_code" }

// wrongCode is what is wrong where a code of the app or a backup code is asked
// for, in the field of that name.
func wrongCode(title, field, err string, wait int) problem {
	p := problem{Title: title, Text: "problem." + err, Wait: wait}
	if err == Wrong || err == Used {
		p.Text, p.Beside = field+"."+err, field+"."+err+"_field"
		p.Link, p.At = field, field
	}
	return p
}

// notSaved is what is wrong where backup codes are shown and nobody said that
// they are saved.
func notSaved(title string) problem {
	return problem{Title: title, Text: "saved.missing", Link: "saved", At: "saved", Beside: "saved.missing_field"}
}

// Problem is what is wrong with the form of the page, nil for nothing.
func (v *view) Problem() (*problem, error) {
	page, ok := v.Page.(interface{ problem() problem })
	if !ok || !v.Page.failed() {
		return nil, nil
	}
	p := page.problem()
	wait, err := v.Wait(p.Wait)
	for _, s := range []*string{&p.Title, &p.Text, &p.Beside} {
		if err == nil && *s != "" {
			*s, err = v.T(*s, "wait", wait, "n", p.N)
		}
	}
	return &p, err
}

// Blame is the problem of the page if the field of that id is at fault, else nil.
func (v *view) Blame(id string) (*problem, error) {
	p, err := v.Problem()
	if p == nil || p.At != id {
		return nil, err
	}
	return p, err
}

// A secret is a field for a password.
type secret struct {
	*view
	ID       string // and its name
	Complete string // its autocomplete token
	Hint     string // what stands under it; "" for nothing
	Match    string // the id of the field that it repeats; "" for none
	Focus    bool   // the page begins with it
	Last     bool   // the form ends with it
}

// Password is the field for the password that a person signs in with.
func (v *view) Password(focus bool) secret {
	return secret{view: v, ID: "password", Complete: "current-password", Focus: focus, Last: true}
}

// CurrentPassword is the same in front of a new one.
func (v *view) CurrentPassword() secret {
	return secret{view: v, ID: "current_password", Complete: "current-password"}
}

// NewPassword is the field for a new password of so many characters at least. Its
// rules stand beside it from the beginning (CP-3).
func (v *view) NewPassword(least int, focus bool) (secret, error) {
	hint, err := v.T("password.hint", "n", least)
	return secret{view: v, ID: "new_password", Complete: "new-password", Hint: hint, Focus: focus}, err
}

// ConfirmPassword is the field in which it is entered again.
func (v *view) ConfirmPassword() secret {
	return secret{view: v, ID: "confirm_password", Complete: "new-password", Match: "new_password", Last: true}
}

// StartsWithCode reports whether the page begins with the field for a code.
func (v *view) StartsWithCode() (bool, error) {
	p, err := v.Problem()
	if p != nil {
		return p.Typed(), err
	}
	_, tab := v.Page.(Security)
	return !tab, err
}

// Sends reports whether the sixth digit sends the code: when signing in, and never
// after a mistake (OTP-4).
func (v *view) Sends() bool {
	_, ok := v.Page.(Verify)
	return ok && !v.Page.failed()
}
