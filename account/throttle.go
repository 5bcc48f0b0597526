package account

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/db"
)

// A lane is one throttle that an attempt must pass: so many attempts in a
// window. Attempts are counted before they are judged (I9 of the security
// cases); a right one is given back, except by a lane that counts them all. Lanes that are passed together have one window.
type lane struct {
	key    string
	limit  int
	window time.Duration
	all    bool // right attempts count, too
}

// The windows over which lanes count.
const (
	passwordWindow = 15 * time.Minute
	codeWindow     = 5 * time.Minute
	resetWindow    = time.Hour
	dayWindow      = 24 * time.Hour
)

// The lanes of password sign-in (ASVS 6.1.1, 6.3.1). A browser in which the
// person has signed in before has lanes of its own, so that no stranger can
// lock the owner out. All others share a day's attempts at an address: a hundred at
// the most, from however many networks, of which one alone takes no more than its share,
// so that it locks out nobody who comes from elsewhere.
const (
	perBrowser           = 10  // one person from one browser that they signed in with before
	perBrowserDay        = 50  // the same in a day: a thief at a browser is no owner
	perAccountNetwork    = 10  // one address from one network
	perAccountNetworkDay = 30  // the same in a day
	perAccountDay        = 50  // one address from everywhere, in a day
	perNetwork           = 100 // all addresses from one network
	allPerNetwork        = 100 // one address from one network, or known browser, right passwords too: each costs a hash and a row (I18)
)

// The lanes of the second factor (NIST SP 800-63B-4 3.2.2). Each kind of code has
// its own, so that neither answers for the other; who gets here knows the
// password, so the owner's browser has a lane apart from a thief's.
const (
	codesPerBrowser = 5
	codesPerAccount = 5
	codesPerDay     = 25 // the app's, in browsers that are new to the person: days pass before a thief pauses them (maxCodeFailures)
	setUpsPerPerson = 20

	googlePerNetwork = 200 // round trips to Google from one network

	// Every sign-in page that is open asks for a passkey, again and again: this is for
	// offices with one address.
	passkeysPerNetwork = 2000
)

// A person hears once an hour at the most of new browsers in one network.
const newSignInWindow = time.Hour

// The lanes of password resets. An address that has had its share gets the same
// answer and no further mail.
const (
	resetsPerAddress = 3   // mails for one address
	resetsPerNetwork = 20  // forms from one network
	linksPerNetwork  = 100 // links that are none, from one network
)

func (l lane) interval() time.Duration { return l.window / time.Duration(l.limit) }

// passwordLanes are the lanes of an attempt at an address, or at what was typed
// in place of one. known is the browser's id if the
// person signed in with it before.
func (s *Store) passwordLanes(email, network, known string) []lane {
	who := s.pseudonym(email)
	if known != "" {
		return inOrder(
			lane{"password/all/" + who + "/" + known, allPerNetwork, passwordWindow, true},
			lane{"password/browser/" + who + "/" + known, perBrowser, passwordWindow, false},
			lane{"password/browser-day/" + who + "/" + known, perBrowserDay, dayWindow, false},
		)
	}
	return inOrder(
		lane{"password/account-network/" + who + "/" + network, perAccountNetwork, passwordWindow, false},
		lane{"password/account-network-day/" + who + "/" + network, perAccountNetworkDay, dayWindow, false},
		lane{"password/all/" + who + "/" + network, allPerNetwork, passwordWindow, true},
		lane{"password/account/" + who, perAccountDay, dayWindow, false},
		lane{"password/network/" + network, perNetwork, passwordWindow, false},
	)
}

// inOrder is one order for all who reserve: they never wait for each other's rows.
func inOrder(lanes ...lane) []lane {
	slices.SortFunc(lanes, func(a, b lane) int { return strings.Compare(a.key, b.key) })
	return lanes
}

// The kinds of codes.
const (
	kindCode       = "code"
	kindBackupCode = "backup-code"
)

// codeLanes are the lanes of a second factor's code.
func codeLanes(kind, userID, known string) []lane {
	if known != "" {
		return []lane{{kind + "/browser/" + userID + "/" + known, codesPerBrowser, codeWindow, false}}
	}
	lanes := []lane{{kind + "/account/" + userID, codesPerAccount, codeWindow, false}}
	if kind == kindCode { // nobody guesses the 50 bits of a backup code
		lanes = append(lanes, lane{kind + "/account-day/" + userID, codesPerDay, dayWindow, false})
	}
	return inOrder(lanes...)
}

func (s *Store) pseudonym(email string) string {
	return hex.EncodeToString(s.ring.MACs("throttle", []byte(email))[0][:16])
}

// Pseudonym stands for an address in the log: the same for every way to write it,
// and of no use without the encryption keys.
func (s *Store) Pseudonym(email string) string {
	if canonical, err := CanonicalEmail(email); err == nil {
		email = canonical
	}
	return s.pseudonym(email)
}

// reserve counts one attempt in every lane, or refuses it with a
// *ThrottledError and, but for attempts at the same instant, counts it in none (GCRA: a row's tat, its theoretical arrival time, moves on by
// an interval an attempt and may be ahead of now by a window at most). It is one
// statement: the check over all lanes keeps one lane's refusal from costing the
// others, the check in the update holds against attempts at the same instant.
func (s *Store) reserve(ctx context.Context, lanes []lane, now time.Time) error {
	var values, full, most []string
	args := []any{db.Micros(now)}
	for _, l := range lanes {
		n := len(args)
		args = append(args, l.key, db.Micros(now.Add(l.interval())), db.Micros(now.Add(l.window-l.interval())))
		values = append(values, fmt.Sprintf("(CAST($%d AS TEXT), CAST($%d AS BIGINT))", n+1, n+2))
		full = append(full, fmt.Sprintf("(key = $%d AND tat > $%d)", n+1, n+3))
		most = append(most, fmt.Sprintf("WHEN $%d THEN CAST($%d AS BIGINT)", n+1, n+3))
	}
	n, err := s.db.Exec(db.Soft(ctx), `
		INSERT INTO throttles (key, tat)
		SELECT column1, column2 FROM (VALUES `+strings.Join(values, ", ")+`) AS v
		WHERE NOT EXISTS (SELECT 1 FROM throttles WHERE `+strings.Join(full, " OR ")+`)
		ON CONFLICT (key) DO UPDATE
		SET tat = CASE WHEN throttles.tat > $1 THEN throttles.tat ELSE $1 END + (excluded.tat - $1)
		WHERE throttles.tat <= CASE excluded.key `+strings.Join(most, " ")+` END`, args...)
	if err != nil {
		return fmt.Errorf("throttle: %w", err)
	}
	if n == int64(len(lanes)) {
		return nil
	}
	wait, refused := time.Second, lanes[0]
	for _, l := range lanes {
		var tat int64
		err := s.db.QueryRow(ctx, `SELECT tat FROM throttles WHERE key = $1`, l.key).Scan(&tat)
		if errors.Is(err, sql.ErrNoRows) {
			continue // gone meanwhile: it is not what one waits for
		}
		if err != nil {
			return fmt.Errorf("throttle: %w", err)
		}
		if one := db.Time(tat).Sub(now.Add(l.window - l.interval())); one > wait {
			wait, refused = one, l
		}
	}
	s.watch.Throttled(refused.name())
	return &ThrottledError{Wait: wait}
}

// first reports whether this is the first of its kind within window, in the
// transaction of what it is for.
func first(ctx context.Context, tx *db.Tx, key string, now time.Time, window time.Duration) (bool, error) {
	n, err := tx.Exec(ctx, `
		INSERT INTO throttles (key, tat) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET tat = excluded.tat WHERE throttles.tat <= $3`,
		key, db.Micros(now.Add(window)), db.Micros(now))
	return n == 1, err
}

// giveBack undoes one reservation of each lane that does not count all: the attempt
// was right.
func (s *Store) giveBack(ctx context.Context, lanes []lane) error {
	lanes = slices.DeleteFunc(slices.Clone(lanes), func(l lane) bool { return l.all })
	if len(lanes) == 0 {
		return nil
	}
	var text strings.Builder
	text.WriteString(`UPDATE throttles SET tat = tat - CASE key`)
	var args []any
	for _, l := range lanes {
		fmt.Fprintf(&text, " WHEN $%d THEN CAST($%d AS BIGINT)", len(args)+1, len(args)+2)
		args = append(args, l.key, l.interval().Microseconds())
	}
	text.WriteString(" END WHERE key IN (")
	for i := range lanes {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "$%d", 2*i+1)
	}
	text.WriteString(")")
	if _, err := s.db.Exec(db.Soft(ctx), text.String(), args...); err != nil {
		return fmt.Errorf("throttle: %w", err)
	}
	return nil
}
