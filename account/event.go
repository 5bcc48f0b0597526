package account

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// An Event says that something happened to a person or a client, and who did it.
type Event struct {
	ID        string // made by Record
	At        time.Time
	Kind      string // in the past tense, as "signed_in"
	UserID    string // who it happened to, or ""
	ClientID  string // the workspace it has to do with, or ""
	SessionID string // the session it has to do with, or ""
	Actor     Actor
	Device    Device
	Detail    Detail

	hushed bool   // the person heard of its like a moment ago
	sealed []byte // the address of somebody who is yet to be looked up
}

// Detail is what an event tells besides. The JSON is how it is kept.
type Detail struct {
	AMR      []string `json:"amr,omitempty"`      // the proofs (RFC 8176)
	New      bool     `json:"new,omitempty"`      // the browser had not been seen before
	Left     int      `json:"left,omitempty"`     // backup codes that are left
	Total    int      `json:"total,omitempty"`    // backup codes that were made
	Ended    int      `json:"ended,omitempty"`    // sessions that ended with it
	Failed   int      `json:"failed,omitempty"`   // wrong codes in a row
	Case     string   `json:"case,omitempty"`     // support's case number
	Client   string   `json:"client,omitempty"`   // the workspace's name, as it was
	Passkeys []string `json:"passkeys,omitempty"` // their names: the one that it is about (and its new one), or those that a reset removed or left
	Touch    bool     `json:"touch,omitempty"`    // the passkey was only touched, and did not check who holds it
	Other    string   `json:"other,omitempty"`    // the User-Agent of a session that was ended, or why a mail was given up
}

// The kinds of events that have to do with how people sign in.
const (
	EventSignedIn         = "signed_in"
	EventSignedInAgain    = "signed_in_again" // or proved it afresh
	EventSignedOut        = "signed_out"
	EventCodeFailed       = "code_failed"    // after a right first proof
	EventConfirmFailed    = "confirm_failed" // a wrong code, in a session
	EventCodesPaused      = "codes_paused"   // too many wrong ones
	EventPasswordChanged  = "password_changed"
	EventPasswordReset    = "password_reset"
	EventPasswordSet      = "password_set" // the first one, by an invitation
	EventResetRequested   = "password_reset_requested"
	EventResetLinkMade    = "reset_link_made" // by an operator
	EventTwoFactorEnabled = "two_factor_enabled"
	EventTwoFactorOff     = "two_factor_disabled"
	EventTwoFactorReset   = "two_factor_reset" // by an operator
	EventCodesMade        = "backup_codes_made"
	EventCodeUsed         = "backup_code_used"
	EventSessionEnded     = "session_ended"
	EventSessionsEnded    = "sessions_ended"
	EventInvited          = "invited"
	EventUnthrottled      = "unthrottled"
	EventEmailChanged     = "email_changed"   // at Google
	EventMethodGoogle     = "method_google"   // by an operator
	EventMethodPassword   = "method_password" // by an operator
	EventRefreshReused    = "refresh_token_reused"
	EventPasskeyAdded     = "passkey_added"
	EventPasskeyRenamed   = "passkey_renamed"
	EventPasskeyRemoved   = "passkey_removed"
	EventPasskeyRefused   = "passkey_refused" // there may be a copy of it
)

// codeFailedTold is how many wrong codes after a first factor the person is told of,
// once until a right one comes: their password was right, so somebody knows it
// (ASVS 6.3.5).
const codeFailedTold = 3

// told reports whether the person has to hear of the event by email: every change
// of how they sign in, whoever made it, and signs of a thief (ASVS 6.3.5, 6.3.7).
func (e *Event) told() bool {
	switch e.Kind {
	case EventSignedIn:
		return e.Detail.New && !e.hushed
	case EventRefreshReused:
		return !e.hushed
	case EventCodeFailed:
		return e.Detail.Failed >= codeFailedTold && !e.hushed
	case EventSessionEnded, EventSessionsEnded:
		return e.Actor.Kind == "operator"
	case EventCodesPaused, EventPasswordChanged, EventPasswordReset, EventPasswordSet, EventResetRequested, EventResetLinkMade,
		EventTwoFactorEnabled, EventTwoFactorOff, EventTwoFactorReset, EventCodesMade, EventCodeUsed,
		EventEmailChanged, EventMethodGoogle, EventMethodPassword,
		EventPasskeyAdded, EventPasskeyRenamed, EventPasskeyRemoved, EventPasskeyRefused:
		return true
	}
	return false
}

// Record writes an event in the transaction of what it tells of, so that neither
// is without the other. If its person has to hear of it, it is due to be told.
func Record(ctx context.Context, tx *db.Tx, e Event) error {
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return fmt.Errorf("recording %s: %w", e.Kind, err)
	}
	if e.ID == "" {
		e.ID = newEventID()
	}
	now := db.Micros(time.Now())
	var due *int64
	if e.told() {
		due = &now
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO events (id, at, kind, user_id, client_id, session_id, actor, address, user_agent, detail, due_at, sealed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		e.ID, now, e.Kind, orNull(e.UserID), orNull(e.ClientID), orNull(e.SessionID),
		e.Actor.String(), e.Device.Address, e.Device.UserAgent, string(detail), due, e.sealed)
	return err
}

// reusedTold is how long a person who was told that a workspace's refresh token
// came back is not told of the same workspace again: one with a fault in it may do so
// every minute.
const reusedTold = 24 * time.Hour

// RecordRefreshReused records that a refresh token came back that had been exchanged
// for another (RFC 9700 4.14.2). Its person is told, for it may have been stolen.
func RecordRefreshReused(ctx context.Context, tx *db.Tx, e Event) error {
	e.Kind = EventRefreshReused
	var before int64
	err := tx.QueryRow(ctx, `SELECT count(*) FROM events WHERE user_id = $1 AND at > $2 AND kind = $3 AND client_id = $4`,
		e.UserID, db.Micros(time.Now().Add(-reusedTold)), e.Kind, e.ClientID).Scan(&before)
	if err != nil {
		return fmt.Errorf("recording %s: %w", e.Kind, err)
	}
	e.hushed = before > 0
	return Record(ctx, tx, e)
}

func newEventID() string { return secret.ID("evt_") }

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// ActivityAge is how far back a person's activity is shown.
const ActivityAge = 90 * 24 * time.Hour

// operatorActAge is how long it is kept what operators did: for whoever looks into
// an incident a year later.
const operatorActAge = 400 * 24 * time.Hour

// activityKinds are the events that are the person's own to see. What failed
// before a first proof was right is not among them: it tells of strangers.
var activityKinds = []string{
	EventSignedIn, EventSignedInAgain, EventSignedOut, EventCodeFailed, EventConfirmFailed, EventCodesPaused, EventPasswordSet, EventPasswordChanged, EventPasswordReset,
	EventResetRequested, EventResetLinkMade, EventTwoFactorEnabled, EventTwoFactorOff, EventTwoFactorReset, EventCodesMade, EventCodeUsed,
	EventSessionEnded, EventSessionsEnded, EventInvited, EventUnthrottled, EventEmailChanged, EventMethodGoogle, EventMethodPassword, EventRefreshReused,
	EventPasskeyAdded, EventPasskeyRenamed, EventPasskeyRemoved, EventPasskeyRefused, "user_created", "user_disabled", "user_enabled", "consent_given", "consent_withdrawn",
}

// Activity returns up to most events of a person, the newest first, from before
// the given time (zero: from now) back to ActivityAge.
func (s *Store) Activity(ctx context.Context, userID string, before time.Time, most int) ([]Event, error) {
	now := time.Now()
	if before.IsZero() {
		before = now.Add(time.Second)
	}
	rows, err := s.db.Query(ctx, `
		SELECT `+eventColumns+` FROM events
		WHERE user_id = $1 AND at < $2 AND at > $3 AND kind IN ('`+strings.Join(activityKinds, "', '")+`')
		ORDER BY at DESC, id DESC LIMIT $4`,
		userID, db.Micros(before), db.Micros(now.Add(-ActivityAge)), most)
	if err != nil {
		return nil, fmt.Errorf("reading a person's activity: %w", err)
	}
	defer rows.Close()
	var out []Event
	for rows.Next() {
		e, err := scanEvent(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("reading a person's activity: %w", err)
		}
		out = append(out, *e)
	}
	return out, rows.Err()
}

const eventColumns = `id, at, kind, user_id, session_id, actor, address, user_agent, detail`

func scanEvent(scan func(...any) error, more ...any) (*Event, error) {
	var (
		e             Event
		at            int64
		user, session sql.NullString
		actor, detail string
	)
	if err := scan(append([]any{&e.ID, &at, &e.Kind, &user, &session, &actor, &e.Device.Address, &e.Device.UserAgent, &detail}, more...)...); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(detail), &e.Detail); err != nil {
		return nil, fmt.Errorf("detail of %s: %w", e.ID, err)
	}
	e.At, e.UserID, e.SessionID = db.Time(at), user.String, session.String
	e.Actor.Kind, e.Actor.Name, _ = strings.Cut(actor, ":")
	return &e, nil
}
