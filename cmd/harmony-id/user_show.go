package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
)

// A userDetail is a person with what decides about their sign-in.
type userDetail struct {
	userResult

	TwoFactor *twoFactorResult `json:"two_factor" help:"two-factor authentication; null: it is off"`
	Passkeys  []passkeyResult  `json:"passkeys" help:"passkeys and security keys"`
	Refused   []refusalResult  `json:"refused" help:"limits that refuse the person now; null: unknown, for the encryption keys are not given"`
}

// A twoFactorResult is a person's two-factor authentication in results.
type twoFactorResult struct {
	EnabledAt        stamp `json:"enabled_at" help:"since when it is on"`
	App              bool  `json:"app" help:"whether there is an authenticator app; without, passkeys are asked for"`
	BackupCodesLeft  int   `json:"backup_codes_left" help:"how many backup codes were not used yet"`
	BackupCodesTotal int   `json:"backup_codes_total" help:"how many were made"`
	Paused           bool  `json:"paused" help:"whether codes of the app are refused after too many wrong ones, until a backup code is used or user unthrottle"`
}

// A passkeyResult is one of a person's passkeys and security keys in results.
type passkeyResult struct {
	Name       string `json:"name" help:"as the person calls it"`
	Model      string `json:"model" help:"what its maker calls it; empty: unknown"`
	Verifies   bool   `json:"verifies" help:"whether it checked who holds it at least once: it is two factors then"`
	Synced     bool   `json:"synced" help:"whether it may be on several devices"`
	CreatedAt  stamp  `json:"created_at" help:"when it was added"`
	LastUsedAt stamp  `json:"last_used_at" help:"when it was last used; null: never"`
}

// A refusalResult is a limit that refuses a person, in results.
type refusalResult struct {
	Limit string `json:"limit" help:"which one: password/account, password/account-network, password/account-network-day, password/browser, password/browser-day, code/account, code/account-day, code/browser, backup-code/account, backup-code/browser, reset/address, enroll, or codes for the pause after too many wrong ones"`
	Until stamp  `json:"until" help:"until when; null: until a backup code is used or user unthrottle"`
}

// pausedCodes is the limit that no time ends.
const pausedCodes = "codes"

// limitWords say what a limit refuses, and where.
var limitWords = map[string]string{
	"password/account":             "passwords, in browsers that are new to the person",
	"password/account-network":     "passwords, from one network",
	"password/account-network-day": "passwords, from one network, too many in a day",
	"password/browser":             "passwords, in one of the person's browsers",
	"password/browser-day":         "passwords, in one of the person's browsers, too many in a day",
	"code/account":                 "codes of the app, in browsers that are new to the person",
	"code/account-day":             "codes of the app, in browsers that are new to the person, too many in a day",
	"code/browser":                 "codes of the app, in one of the person's browsers",
	"backup-code/account":          "backup codes, in browsers that are new to the person",
	"backup-code/browser":          "backup codes, in one of the person's browsers",
	"reset/address":                "further emails with a reset link",
	"enroll":                       "codes that set up two-factor authentication",
	pausedCodes:                    "codes of the app, after too many wrong ones",
}

func (r refusalResult) String() string {
	until := "until " + r.Until.String()
	if r.Until.zero() {
		until = "until a backup code is used or harmony-id user unthrottle"
	}
	return cmp.Or(limitWords[r.Limit], r.Limit) + ", " + until
}

func detailOf(ctx context.Context, store *account.Store, u *account.User) (userDetail, error) {
	r := userDetail{userResult: resultOfUser(u), Passkeys: []passkeyResult{}}
	keys, err := store.Passkeys(ctx, u.ID)
	if err != nil {
		return r, err
	}
	for _, k := range keys.Keys {
		r.Passkeys = append(r.Passkeys, passkeyResult{k.Name, device.Model(k.Model), k.Verifies, k.Synced, stamp(k.CreatedAt), stamp(k.UsedAt)})
	}
	two, err := store.TwoFactor(ctx, u.ID)
	if err != nil {
		return r, err
	}
	if two != nil {
		r.TwoFactor = &twoFactorResult{
			EnabledAt: stamp(two.EnabledAt), App: two.App, BackupCodesLeft: two.CodesLeft, BackupCodesTotal: two.CodesTotal, Paused: two.Paused,
		}
	}
	refusals, err := store.Refusals(ctx, u)
	if errors.Is(err, account.ErrNoKeys) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	r.Refused = []refusalResult{}
	for _, f := range refusals {
		r.Refused = append(r.Refused, refusalResult{f.Limit, stamp(f.Until)})
	}
	slices.SortFunc(r.Refused, func(a, b refusalResult) int { return strings.Compare(a.Limit, b.Limit) })
	return r, nil
}

// why are the reasons for which the person cannot sign in, or not everywhere.
func (r userDetail) why() (reasons []string) {
	if !r.DisabledAt.zero() {
		reasons = append(reasons, "every sign-in, until harmony-id user enable")
	}
	if r.Method == account.MethodPassword && !r.HasPassword {
		reasons = append(reasons, "passwords, for none is set: harmony-id user reset-link makes a link that sets one")
	}
	for _, f := range r.Refused {
		reasons = append(reasons, f.String())
	}
	if r.Refused == nil && r.TwoFactor != nil && r.TwoFactor.Paused { // which takes no keys to know
		reasons = append(reasons, refusalResult{Limit: pausedCodes}.String())
	}
	return reasons
}

// detail prints a person with what decides about their sign-in.
func (o outputFlag) detail(ctx context.Context, p *program, store *account.Store, u *account.User) error {
	r, err := detailOf(ctx, store, u)
	if err != nil {
		return err
	}
	if o.Output == "json" {
		return writeJSON(p.stdout, r)
	}
	facts, err := r.facts()
	if err != nil {
		return err
	}
	two := "off"
	if t := r.TwoFactor; t != nil {
		two = fmt.Sprintf("on since %s, %d of %d backup codes left", t.EnabledAt, t.BackupCodesLeft, t.BackupCodesTotal)
		if !t.App {
			two += ", no app"
		}
	}
	facts = append(facts, [2]string{"Two-factor", two})
	for _, k := range r.Passkeys {
		used := "never used"
		if !k.LastUsedAt.zero() {
			used = "last used " + k.LastUsedAt.String()
		}
		facts = append(facts, [2]string{"Passkey", fmt.Sprintf("%s, added %s, %s", k.Name, k.CreatedAt, used)})
	}
	for _, reason := range r.why() {
		facts = append(facts, [2]string{"Refused", reason})
	}
	if r.Refused == nil {
		facts = append(facts, [2]string{"Limits", "harmony-id user show --encryption-keys-file FILE shows them"})
	}
	return writeFacts(p.stdout, facts)
}
