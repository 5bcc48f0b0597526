package idp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// Workspaces are told when a session ends, whoever ended it (OIDC Back-Channel
// Logout 1.0). What is still to be told is never written down: it is the redeemed
// grants of sessions that are over, at clients that want to know, whose told_at is
// NULL. Any number of workers on any number of replicas may look for it.

// How a teller works: it looks every so often, for the acts of other replicas,
// besides when it is woken by those of its own. A client is told so many things at
// once, so that one that hangs holds up nobody else's.
const (
	tellEvery   = 500 * time.Millisecond
	perClient   = 4
	tellLease   = 30 * time.Second // outboundTimeout, and time to write the receipt
	noteTimeout = 5 * time.Second
)

// What failed is tried again after a wait that doubles, for a day after the end of
// the session. Then house-keeping deletes the session with its grants.
const (
	tellFirstWait = 2 * time.Second
	tellLastWait  = time.Hour
	tellPatience  = 24 * time.Hour
)

// How far back a look goes for sessions that ended. Once a minute one goes back further,
// for an end that took longer to commit than recentEnd, or that there was no time for. All
// the way it goes at the start, every hour, and a minute after a look found more than
// could be told at once: there may be tens of thousands of sessions that ended within a day.
const (
	recentEnd     = time.Minute
	lateEnd       = 10 * time.Minute
	lookBackEvery = time.Minute
	lookAllEvery  = time.Hour
)

// logoutTTL is the life of a logout token, two minutes at the most (OIDC
// Back-Channel Logout 2.6).
const logoutTTL = 2 * time.Minute

// logoutClaims are the claims of a logout token (OIDC Back-Channel Logout 2.4). It
// must not have a nonce, lest it be taken for an ID token.
type logoutClaims struct {
	Issuer   string              `json:"iss"`
	Subject  string              `json:"sub"`
	Audience string              `json:"aud"`
	IssuedAt int64               `json:"iat"`
	Expires  int64               `json:"exp"`
	ID       string              `json:"jti"`
	Session  string              `json:"sid"`
	Events   map[string]struct{} `json:"events"`
}

const eventLogout = "http://schemas.openid.net/event/backchannel-logout"

// A notice is that one client is to be told of the end of one session: all its
// grants there are one notice, which the first of them stands for.
type notice struct {
	grantID, sessionID, userID string
	client                     *Client
	keys                       keySet
	ended                      time.Time // when the session did
	tries                      int       // before this one
}

// A Teller tells workspaces that sessions ended.
type Teller struct {
	s    *Server
	wake <-chan struct{}
	log  *slog.Logger

	free chan struct{} // has a value when a client can be told more than before
	mu   sync.Mutex
	busy map[string]int // by client: how much it is being told
}

// NewTeller returns a Teller, which works while Run runs. wake has a value when a
// session may have ended in this process. Without a log it is the default one.
func (s *Server) NewTeller(wake <-chan struct{}, log *slog.Logger) *Teller {
	if log == nil {
		log = slog.Default()
	}
	return &Teller{s: s, wake: wake, log: log, free: make(chan struct{}, 1), busy: map[string]int{}}
}

// Run tells what there is to tell until ctx ends. What is not told by then is any
// teller's again.
func (t *Teller) Run(ctx context.Context) {
	every := time.NewTicker(tellEvery)
	defer every.Stop()
	var telling sync.WaitGroup
	defer telling.Wait()
	complain := func(err error) {
		if err != nil && ctx.Err() == nil {
			t.log.Error("telling workspaces", "error", err)
		}
	}
	var lookBack, lookAll time.Time // when to look further back again, and all the way
	for ctx.Err() == nil {
		now := time.Now()
		since := now.Add(-recentEnd)
		back, all := !now.Before(lookBack), !now.Before(lookAll)
		if back {
			since = now.Add(-lateEnd)
		}
		if all {
			since = now.Add(-tellPatience)
		}
		claimed, more, err := t.claim(ctx, now, since)
		complain(err)
		if err == nil && (back || all) {
			lookBack = now.Add(lookBackEvery)
		}
		if err == nil && all {
			lookAll = now.Add(lookAllEvery)
		}
		if soon := now.Add(lookBackEvery); more && lookAll.After(soon) {
			lookAll = soon
		}
		for _, n := range claimed {
			telling.Go(func() {
				_, err := t.tell(ctx, n)
				complain(err)
			})
		}
		if len(claimed) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-every.C:
		case <-t.wake:
		case <-t.free:
		}
	}
}

// Deliver tells everything that is due now and returns how much of it was
// confirmed. A workspace that does not confirm is no error: it is tried again.
func (t *Teller) Deliver(ctx context.Context) (confirmed int, err error) {
	var mu sync.Mutex
	var errs []error
	for {
		now := time.Now()
		claimed, _, err := t.claim(ctx, now, now.Add(-tellPatience))
		var telling sync.WaitGroup
		for _, n := range claimed {
			telling.Go(func() {
				ok, err := t.tell(ctx, n)
				mu.Lock()
				defer mu.Unlock()
				if ok {
					confirmed++
				}
				errs = append(errs, err)
			})
		}
		telling.Wait()
		if len(claimed) == 0 || err != nil {
			return confirmed, errors.Join(append(errs, err)...)
		}
	}
}

// claim claims what is due and can be told now, of sessions that ended since then
// and of those that were tried before. more says that there may be more of it.
func (t *Teller) claim(ctx context.Context, now, since time.Time) (claimed []notice, more bool, err error) {
	read, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout) // that we stop is no fault of the database's
	defer cancel()
	snap, err := t.s.state.current(read)
	if err != nil || !snap.tells() {
		return nil, false, err
	}
	due, err := t.s.dueNotices(ctx, snap, now, since)
	if err != nil {
		return nil, false, err
	}
	t.mu.Lock()
	due = slices.DeleteFunc(due, func(n notice) bool {
		full := t.busy[n.client.ID] >= perClient
		if !full {
			t.busy[n.client.ID]++
		}
		more = more || t.busy[n.client.ID] >= perClient
		return full
	})
	t.mu.Unlock()
	if len(due) == 0 {
		return nil, more, nil
	}
	claimed, err = t.s.claimNotices(ctx, due, now)
	for _, n := range due {
		if !slices.ContainsFunc(claimed, func(c notice) bool { return c.grantID == n.grantID }) {
			t.release(n.client.ID)
		}
	}
	return claimed, more, err
}

func (t *Teller) release(clientID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[clientID]--; t.busy[clientID] == 0 {
		delete(t.busy, clientID)
	}
	select {
	case t.free <- struct{}{}:
	default:
	}
}

// tell tells one client and writes down what became of it.
func (t *Teller) tell(ctx context.Context, n notice) (confirmed bool, err error) {
	defer t.release(n.client.ID)
	why := t.s.post(ctx, n)
	note, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	log := t.log.With("client_id", n.client.ID, "session", n.sessionID, "tries", n.tries+1)
	if why == nil {
		log.Info("logout told")
		t.s.cfg.Watch.Told("confirmed")
		return true, t.s.noteTold(note, n, confirmedResult)
	}
	wait := min(tellLastWait, tellFirstWait<<min(n.tries, 12))
	switch {
	case ctx.Err() != nil: // stopping
		wait = 0
	case time.Now().Add(wait).After(n.ended.Add(tellPatience)):
		log.Error("logout given up", "error", why.Error())
		t.s.cfg.Watch.Told("given_up")
		return false, t.s.noteTold(note, n, why.Error())
	default:
		log.Warn("logout delayed", "again_in", wait.String(), "error", why.Error())
		t.s.cfg.Watch.Told("delayed")
	}
	return false, t.s.noteFailed(note, n, why.Error(), wait)
}

// tells reports whether any client wants to be told.
func (s *snapshot) tells() bool {
	for _, c := range s.clients {
		if c.BackchannelLogoutURI != "" {
			return true
		}
	}
	return false
}

// clientOf is the client of a grant as the second condition beside its session.
// Written so, it has no index: SQLite, which keeps no statistics, would choose it in place
// of the session's, and read through all grants of the client.
func clientOf(grants string) string { return grants + `.client_id || ''` }

// dueNotices returns what is due now, perClient for each client at the most: what
// was tried least comes first. A session whose time is over has ended, too. A
// UNION, or a join with one, would have SQLite read both tables whole.
func (s *Server) dueNotices(ctx context.Context, snap *snapshot, now, since time.Time) ([]notice, error) {
	rows, err := s.db.Query(ctx, `
		SELECT id, session_id, client_id FROM (
			SELECT g.id, g.session_id, g.client_id, ROW_NUMBER() OVER (PARTITION BY g.client_id ORDER BY g.tell_tries, g.tell_at, g.id) AS nth
			FROM grants g JOIN clients c ON c.id = g.client_id
			WHERE g.session_id IN (
				SELECT id FROM sessions WHERE ended_at > $1
				UNION ALL SELECT id FROM sessions WHERE expires_at > $1 AND expires_at <= $2 AND ended_at IS NULL
				UNION ALL SELECT session_id FROM grants WHERE tell_at <= $2
			) AND g.redeemed_at IS NOT NULL AND g.told_at IS NULL AND (g.tell_at IS NULL OR g.tell_at <= $2)
				AND c.backchannel_logout_uri <> '' AND c.disabled_at IS NULL
				AND NOT EXISTS (
					SELECT 1 FROM grants o
					WHERE o.session_id = g.session_id AND `+clientOf("o")+` = g.client_id AND o.redeemed_at IS NOT NULL AND o.told_at IS NULL AND o.id < g.id)
		) AS due WHERE nth <= $3 ORDER BY nth, id`, db.Micros(since), db.Micros(now), perClient)
	if err != nil {
		return nil, fmt.Errorf("looking for clients to tell: %w", err)
	}
	defer rows.Close()
	var out []notice
	for rows.Next() {
		n := notice{keys: snap.keys}
		var clientID string
		if err := rows.Scan(&n.grantID, &n.sessionID, &clientID); err != nil {
			return nil, fmt.Errorf("looking for clients to tell: %w", err)
		}
		if n.client = snap.clients[clientID]; n.client != nil && n.client.BackchannelLogoutURI != "" {
			out = append(out, n)
		}
	}
	return out, rows.Err()
}

// claimNotices claims those that no other teller has: who does not say within
// tellLease what became of one loses it to the next. What is lost in a power cut is
// told twice, which does no harm.
func (s *Server) claimNotices(ctx context.Context, due []notice, now time.Time) (claimed []notice, err error) {
	lease := db.Micros(now.Add(tellLease))
	slices.SortFunc(due, func(a, b notice) int { return strings.Compare(a.grantID, b.grantID) }) // all tellers go by one order: none waits for another that waits for it
	err = s.db.Tx(db.Soft(ctx), func(tx *db.Tx) error {
		claimed = nil
		for _, n := range due {
			var ended int64
			err := tx.Returning(ctx, `
				UPDATE grants SET tell_at = $1, tell_tries = tell_tries + 1, tell_result = ''
				WHERE id = $2 AND told_at IS NULL AND (tell_at IS NULL OR tell_at <= $3)
				RETURNING user_id, tell_tries - 1, (SELECT COALESCE(s.ended_at, s.expires_at) FROM sessions s WHERE s.id = grants.session_id)`,
				[]any{lease, n.grantID, db.Micros(now)}, &n.userID, &n.tries, &ended)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `
				UPDATE grants SET tell_at = $1, tell_result = '' WHERE session_id = $2 AND `+clientOf("grants")+` = $3 AND redeemed_at IS NOT NULL AND told_at IS NULL AND id <> $4`,
				lease, n.sessionID, n.client.ID, n.grantID); err != nil {
				return err
			}
			n.ended = db.Time(ended)
			claimed = append(claimed, n)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claiming clients to tell: %w", err)
	}
	return claimed, nil
}

// confirmedResult is the tell_result of a grant whose client confirmed.
const confirmedResult = "confirmed"

// noteTold writes the receipt of a notice, or that it was given up. A grant that was
// redeemed after the claim has no tell_at: it is a notice of its own.
func (s *Server) noteTold(ctx context.Context, n notice, result string) error {
	return s.note(ctx, n, `tell_at = NULL, told_at = $1`, db.Micros(time.Now()), result)
}

// noteFailed has a client told again after wait.
func (s *Server) noteFailed(ctx context.Context, n notice, why string, wait time.Duration) error {
	return s.note(ctx, n, `tell_at = $1`, db.Micros(time.Now().Add(wait)), why)
}

func (s *Server) note(ctx context.Context, n notice, set string, at int64, result string) error {
	const most = 200
	result = strings.ToValidUTF8(result[:min(len(result), most)], "")
	_, err := s.db.Exec(db.Soft(ctx), `
		UPDATE grants SET `+set+`, tell_result = $2
		WHERE session_id = $3 AND `+clientOf("grants")+` = $4 AND tell_at IS NOT NULL AND told_at IS NULL`, at, result, n.sessionID, n.client.ID)
	if err != nil {
		return fmt.Errorf("noting what a client was told: %w", err)
	}
	return nil
}

// post sends a client its logout token. 200 confirms it, and so does the 204 that
// some frameworks make of it (OIDC Back-Channel Logout 2.8).
func (s *Server) post(ctx context.Context, n notice) error {
	now := time.Now()
	token, err := n.keys.sign(n.client.IDTokenAlg, typeLogoutToken, now, nil, logoutClaims{
		Issuer:   s.cfg.Issuer,
		Subject:  n.userID,
		Audience: n.client.ID,
		IssuedAt: now.Unix(),
		Expires:  now.Add(logoutTTL).Unix(),
		ID:       secret.ID(""),
		Session:  n.sessionID,
		Events:   map[string]struct{}{eventLogout: {}},
	})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.client.BackchannelLogoutURI, strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", "Harmony-ID")
	res, err := s.outbound.Do(r)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err // without the address, which may have a secret in it
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	const most = 4 << 10 // of what nobody reads: a short answer leaves the connection for the next
	_, _ = io.CopyN(io.Discard, res.Body, most)
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the workspace answered %d", res.StatusCode)
	}
	return nil
}
