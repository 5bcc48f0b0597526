package account

import (
	"context"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// An Event says that something happened to a person or a client, and who did it.
type Event struct {
	Kind      string // in the past tense, as "signed_in"
	UserID    string // who it happened to, or ""
	ClientID  string // the workspace it has to do with, or ""
	SessionID string // the session it has to do with, or ""
	Actor     Actor
	Device    Device
}

// Record writes an event in the transaction of what it tells of, so that neither
// is without the other.
func Record(ctx context.Context, tx *db.Tx, e Event) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO events (id, at, kind, user_id, client_id, session_id, actor, address, user_agent, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '{}')`,
		secret.ID("evt_"), db.Micros(time.Now()), e.Kind, orNull(e.UserID), orNull(e.ClientID), orNull(e.SessionID),
		e.Actor.String(), e.Device.Address, e.Device.UserAgent)
	return err
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
