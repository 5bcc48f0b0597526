package templates

// A notice tells what was just done.
type notice struct {
	Kind string // "good", "warn", or "" for what is neither
	Text string
	Keys bool // it stands in the section of passkeys, to which such a form leads back
}

// Notice is what the page has to tell besides what it is for, nil for nothing.
// What it is comes from the browser: a key that is unknown is nothing.
func (v *view) Notice() (*notice, error) {
	p, ok := v.Page.(interface{ notice() (key, value string) })
	if !ok {
		return nil, nil
	}
	name, value := p.notice()
	key := "notice." + name
	if _, ok := v.Text[key]; !ok {
		return nil, nil
	}
	n := &notice{Kind: "good"}
	switch name {
	case "passkey_added", "passkey_renamed", "passkey_removed":
		n.Keys = true
	case "nothing_to_end", "reset_waiting", "two_factor_on_already", "google_cancelled", "google_password":
		n.Kind = ""
	case "set_up_expired", "sign_in_over", "google_unverified", "google_other", "google_no_account", "google_domain":
		n.Kind = "warn"
	}
	if _, ok := v.Text[key+".1"]; ok && value == "1" {
		key += ".1"
	}
	var err error
	n.Text, err = v.T(key, "value", value)
	return n, err
}
