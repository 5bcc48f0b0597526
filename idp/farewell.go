package idp

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/templates"
	"github.com/harmony/id/web"
)

// The farewell says which workspaces have confirmed that a person is signed out. Its
// cookie names the session that ended, sealed: nobody but the browser that signed
// out sees the page, and it only for a while.
const (
	farewellCookie = "harmony-farewell"
	farewellLife   = 5 * time.Minute
)

// sayFarewell leads who was signed out to where they go next: where that is our own
// page, it will tell of the session that ended ("" for none).
func (s *Server) sayFarewell(w http.ResponseWriter, r *http.Request, ended string, l *leaving) error {
	switch {
	case ended == "":
	case l.redirectURI == "":
		until := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(farewellLife).UnixMicro()))
		sealed := s.farewell.Seal(append(until, ended...), "")
		s.sessions.SetCookie(w, farewellCookie, base64.RawURLEncoding.EncodeToString(sealed), farewellLife)
	case s.sessions.Cookie(r, farewellCookie) != "": // somebody else's, perhaps
		s.sessions.SetCookie(w, farewellCookie, "", -1)
	}
	return redirect(w, l.back())
}

// leftBehind is the session that sayFarewell was said of in this browser, "" for none.
func (s *Server) leftBehind(r *http.Request) (sessionID string, until time.Time) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s.sessions.Cookie(r, farewellCookie))
	if err != nil || len(b) == 0 {
		return "", time.Time{}
	}
	plain, err := s.farewell.Open(b, "")
	if err != nil || len(plain) < 8 {
		return "", time.Time{}
	}
	if until = time.UnixMicro(int64(binary.BigEndian.Uint64(plain))); !time.Now().Before(until) {
		return "", time.Time{}
	}
	return string(plain[8:]), until
}

// signedOut is the page after signing out. While a workspace has yet to answer it
// comes again by itself, less and less often.
func (s *Server) signedOut(w http.ResponseWriter, r *http.Request) error {
	page := templates.SignedOut{SignInURL: pathLogin}
	session, until := s.leftBehind(r)
	if session == "" {
		return web.Show(w, r, http.StatusOK, page)
	}
	for {
		var ended time.Time
		var err error
		if page.Workspaces, ended, err = s.receipts(r.Context(), session); err != nil {
			return err
		}
		age := time.Since(ended)
		if !page.Waits() {
			break
		}
		if age < farewellWaits && r.Context().Err() == nil { // most answer at once, and need no second look
			select {
			case <-time.After(farewellWaits / 8):
			case <-r.Context().Done():
			}
			continue
		}
		if again := comeAgain(age); again > 0 && time.Now().Add(again).Before(until) {
			w.Header().Set("Refresh", strconv.Itoa(int(again.Seconds())))
		}
		break
	}
	return web.Show(w, r, http.StatusOK, page)
}

// farewellWaits is how long after the end of the session the page waits for answers
// before it is shown.
const farewellWaits = 400 * time.Millisecond

// comeAgain is when the page comes again by itself that still waits for an answer so
// long after the end of the session; 0: it does not.
func comeAgain(age time.Duration) time.Duration {
	switch {
	case age > time.Minute:
		return 0
	case age > 15*time.Second:
		return 10 * time.Second
	case age > 4*time.Second:
		return 3 * time.Second
	}
	return time.Second
}

// receipts are what the workspaces that a session led to have answered, and when
// the session ended.
func (s *Server) receipts(ctx context.Context, sessionID string) (list []templates.Receipt, ended time.Time, err error) {
	const most = 100
	rows, err := s.db.Query(ctx, `
		SELECT c.name, c.backchannel_logout_uri <> '' AND c.disabled_at IS NULL, s.ended_at,
			MAX(CASE WHEN g.told_at IS NULL THEN 1 ELSE 0 END), MAX(CASE WHEN g.told_at IS NOT NULL AND g.tell_result <> '`+confirmedResult+`' THEN 1 ELSE 0 END), MAX(g.told_at)
		FROM grants g JOIN clients c ON c.id = g.client_id JOIN sessions s ON s.id = g.session_id
		WHERE g.session_id = $1 AND g.redeemed_at IS NOT NULL AND s.ended_at IS NOT NULL AND (g.ended_at IS NULL OR c.backchannel_logout_uri <> '')
		GROUP BY c.id, c.name, c.backchannel_logout_uri, c.disabled_at, s.ended_at ORDER BY c.name, c.id LIMIT $2`, sessionID, most)
	if err != nil {
		return nil, ended, fmt.Errorf("reading receipts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r templates.Receipt
		var tells bool
		var at, waits, failed int64
		var told sql.NullInt64
		if err := rows.Scan(&r.Workspace, &tells, &at, &waits, &failed, &told); err != nil {
			return nil, ended, fmt.Errorf("reading receipts: %w", err)
		}
		ended = db.Time(at)
		r.AccessEnds = ended.Add(s.cfg.AccessTokenTTL)
		switch {
		case !tells:
			r.State = templates.NotTold
		case waits == 1:
			r.State = templates.Waiting
		case failed == 1:
			r.State = templates.NoAnswer
		default:
			r.State, r.At = templates.Confirmed, db.Time(told.Int64)
		}
		list = append(list, r)
	}
	return list, ended, rows.Err()
}
