package crowd

import (
	"context"
	crand "crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

const day = 24 * time.Hour

// The ages of a service that goes on: no session is older than 30 days, and nothing of
// a person's activity than 90.
const (
	sessionLife = 30 * day
	oldest      = 3 * 365 * day // accounts
)

var (
	given  = []string{"Ada", "Bob", "Carla", "Dmitri", "Eun-ji", "Fatima", "Goran", "Hana", "Iñaki", "Jamal", "Kaja", "Liam", "Mei", "Nils", "Oyelaran", "Priya"}
	family = []string{"Abara", "Björk", "Castellanos", "Dubois", "Eriksen", "Fernandes", "Georgiou", "Haddad", "Ito", "Jankowska", "Kovács", "Lindqvist"}
	zones  = []string{"Europe/London", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "America/Sao_Paulo"}
	agents = []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
		"Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
	}
)

// A maker makes the rows of people. It may be used by many goroutines.
type maker struct {
	size       Size
	now        time.Time
	first      *pattern
	workspaces []workspace
	seal       func(key []byte, userID string) []byte // an authenticator's key
}

func newMaker(ctx context.Context, d *db.DB, ring *secret.Ring, size Size) (*maker, error) {
	m := &maker{size: size, now: time.Now()}
	var err error
	if m.first, err = makePattern(ctx, d, ring); err != nil {
		return nil, err
	}
	if m.workspaces, err = makeWorkspaces(ctx, d); err != nil {
		return nil, err
	}
	columns := account.Sealed()
	i := slices.IndexFunc(columns, func(c secret.Column) bool { return c.Table == "totp" })
	box := ring.Box(columns[i].Purpose)
	m.seal = func(key []byte, userID string) []byte { return box.Seal(key, columns[i].Row(userID)) }
	return m, nil
}

// tables are the rows of a chunk of people, in an order that the references allow.
type tables struct {
	users, totp, codes, passkeys, consents, resets, logins, ceremonies, sessions, grants, events, throttles, requests, assertions *table
}

func newTables() *tables {
	of := func(name, columns string) *table {
		return &table{name: name, columns: strings.Fields(strings.ReplaceAll(columns, ",", " "))}
	}
	return &tables{
		users:      of("users", "id, email, email_verified, name, claims, method, password_hash, password_changed_at, created_at, updated_at, google_issuer, google_subject, passkey_handle"),
		totp:       of("totp", "user_id, secret_sealed, last_step, failures, backup_failures, enabled_at, codes_salt, codes_total, codes_made_at"),
		codes:      of("backup_codes", "user_id, code_hash"),
		passkeys:   of("passkeys", "id, user_id, credential_id, public_key, name, aaguid, transports, sign_count, verifies, synced, backed_up, created_at, used_at"),
		consents:   of("consents", "user_id, client_id, scope, given_at"),
		resets:     of("resets", "token_hash, user_id, kind, created_at, expires_at"),
		logins:     of("logins", "token_hash, user_id, amr, credential, new_browser, tries, created_at, expires_at"),
		ceremonies: of("ceremonies", "token_hash, purpose, sealed, created_at, expires_at"),
		sessions:   of("sessions", "id, token_hash, user_id, auth_time, amr, acr, address, user_agent, created_at, seen_at, expires_at, ended_at, ended_by, proved_at, second_at, credential"),
		grants: of("grants", `id, session_id, user_id, client_id, request_id, scope, nonce, redirect_uri, challenge, auth_time, amr, acr, code_hash,
			created_at, redeemed_at, refresh_hash, prev_refresh_hash, rotated_at, refreshed_at, ended_at, told_at, tell_tries, tell_result`),
		events:     of("events", "id, at, kind, user_id, client_id, session_id, actor, address, user_agent, detail"),
		throttles:  of("throttles", "key, tat"),
		requests:   of("auth_requests", "id, browser_hash, client_id, params, created_at, expires_at"),
		assertions: of("assertions", "jti_hash, expires_at"),
	}
}

func (t *tables) list() []*table {
	return []*table{t.users, t.totp, t.codes, t.passkeys, t.consents, t.resets, t.logins, t.ceremonies, t.sessions, t.grants, t.events, t.throttles, t.requests, t.assertions}
}

// chunk makes the n-th chunk of people.
func (m *maker) chunk(n int) ([]*table, []Person) {
	w := &writer{maker: m, tables: newTables(), rand: rand.New(rand.NewPCG(uint64(n), 0))}
	for i := n * chunk; i < min((n+1)*chunk, m.size.Users); i++ {
		w.person(i)
	}
	return w.list(), w.known
}

// A writer makes the rows of one chunk.
type writer struct {
	*maker
	*tables
	rand  *rand.Rand
	known []Person
}

// share is how many of all there are for the i-th of n.
func share(all, i, n int) (from, to int) { return all * i / n, all * (i + 1) / n }

func random(n int) []byte {
	b := make([]byte, n)
	crand.Read(b)
	return b
}

func text(n int) string { return base64.RawURLEncoding.EncodeToString(random(n)) }

// ago is a time that is between so much and so much ago.
func (w *writer) ago(least, most time.Duration) time.Time {
	return w.now.Add(-least - time.Duration(w.rand.Int64N(int64(most-least))))
}

// between is a time between two, of which the first may be the later one.
func (w *writer) between(a, b time.Time) time.Time {
	if !b.After(a) {
		return a
	}
	return a.Add(time.Duration(w.rand.Int64N(int64(b.Sub(a)))))
}

// in reports whether it is one of so many in a hundred.
func (w *writer) in(percent int) bool { return w.rand.IntN(100) < percent }

func pick[T any](w *writer, of []T) T { return of[w.rand.IntN(len(of))] }

func (w *writer) address() string {
	if w.in(30) {
		return fmt.Sprintf("2001:db8:%x:%x::%x", w.rand.IntN(1<<16), w.rand.IntN(1<<16), w.rand.IntN(1<<16))
	}
	return fmt.Sprintf("%d.%d.%d.%d", 1+w.rand.IntN(222), w.rand.IntN(256), w.rand.IntN(256), w.rand.IntN(256))
}

// A human is somebody whose rows are being made.
type human struct {
	id, email  string
	created    time.Time
	credential int64
	amr, acr   string
	second     bool
	known      *Person
}

// person makes somebody with all that is theirs. Of ten people two sign in with Google;
// a quarter has an authenticator app, an eighth a passkey.
func (w *writer) person(i int) {
	h := human{
		id: secret.ID("usr_"), email: fmt.Sprintf("person%07d@crowd.example", i), created: w.ago(sessionLife+2*day, oldest),
		amr: "pwd", acr: account.ACR1FA, second: i%4 == 1,
	}
	google, passkey := i%5 == 4, i%8 == 3
	at := db.Micros(h.created)
	var hash, changed, issuer, subject, handle any
	if google {
		issuer, subject, h.amr = "https://accounts.google.com", fmt.Sprintf("1%020d", w.rand.Int64()), "fed"
	} else {
		hash, changed, h.credential = w.first.passwordHash, at, at
	}
	if passkey {
		handle = random(64)
	}
	if i < w.size.Known && !google {
		h.known = &Person{ID: h.id, Email: h.email}
	}
	first, last := pick(w, given), pick(w, family)
	method := account.MethodPassword
	if google {
		method = account.MethodGoogle
	}
	w.users.add(h.id, h.email, int64(1), first+" "+last, asJSON(account.Claims{GivenName: first, FamilyName: last, Zoneinfo: pick(w, zones)}), string(method),
		hash, changed, at, at, issuer, subject, handle)
	if w.now.Sub(h.created) < 390*day {
		w.event(h.created, "user_created", h, "", "operator:import", account.Detail{})
	}
	if h.second {
		w.secondFactor(i, &h)
	}
	if passkey {
		w.passkeys.add(secret.ID("pky_"), h.id, random(32), random(77), "iPhone", "fbfc3007154e4ecc8c0b6e020557d7bd", "hybrid internal",
			int64(0), int64(1), int64(1), int64(1), at, db.Micros(w.ago(0, sessionLife)))
	}
	if third := w.workspaces[len(w.workspaces)-1]; w.in(10) {
		w.consents.add(h.id, third.ID, "openid profile email offline_access", db.Micros(w.ago(0, sessionLife)))
	}
	w.passing(i, h)
	from, to := share(w.size.Sessions, i, w.size.Users)
	for s := from; s < to; s++ {
		w.session(s, h, s == from)
	}
	w.event(w.ago(sessionLife+day, 88*day), account.EventSignedIn, h, "", "person", account.Detail{AMR: strings.Fields(h.amr)})
	if w.in(10) {
		w.event(w.ago(0, 88*day), account.EventPasswordChanged, h, "", "person", account.Detail{Ended: 1})
	}
	if h.known != nil {
		w.known = append(w.known, *h.known)
	}
}

func (w *writer) secondFactor(i int, h *human) {
	const keyBytes = 20
	key := random(keyBytes)
	enabled := w.between(h.created, w.now)
	h.amr, h.acr = h.amr+" otp mfa", account.ACR2FA
	w.totp.add(h.id, w.seal(key, h.id), int64(0), int64(0), int64(0), db.Micros(enabled), w.first.codesSalt, int64(len(w.first.codeHashes)), db.Micros(enabled))
	for _, hash := range w.first.codeHashes[i/4%3:] { // some have used one or two
		w.codes.add(h.id, hash)
	}
	if h.known != nil {
		h.known.TOTP = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
		if i/4%3 == 0 {
			h.known.BackupCode = w.first.codes[0]
		}
	}
	w.event(enabled, account.EventTwoFactorEnabled, *h, "", "person", account.Detail{Total: len(w.first.codeHashes)})
}

// passing makes what goes by itself within minutes or hours.
func (w *writer) passing(i int, h human) {
	soon := func(life time.Duration) (created, expires int64) {
		at := w.ago(0, 2*life) // half of it is over
		return db.Micros(at), db.Micros(at.Add(life))
	}
	if i%50 == 0 {
		for range 2 {
			who := hex.EncodeToString(random(16))
			w.throttles.add("password/account/"+who, db.Micros(w.ago(-10*time.Minute, 10*time.Minute)))
			w.throttles.add("password/all/"+who+"/"+w.address()+"/32", db.Micros(w.ago(-10*time.Minute, 10*time.Minute)))
		}
	}
	if i%200 == 0 {
		created, expires := soon(account.ResetLife)
		w.resets.add(random(32), h.id, "email", created, expires)
		created, expires = soon(30 * time.Minute)
		w.requests.add(secret.ID(""), random(32), pick(w, w.workspaces).ID,
			`{"redirect_uri":"https://workspace.example/callback","state":"`+text(16)+`","nonce":"`+text(16)+`","scope":"openid profile email offline_access","code_challenge":"`+text(32)+`"}`, created, expires)
		created, expires = soon(5 * time.Minute)
		w.ceremonies.add(random(32), "signin", random(180), created, expires)
		_, expires = soon(5 * time.Minute)
		w.assertions.add(random(32), expires)
	}
	if i%500 == 0 {
		created, expires := soon(account.HalfLife)
		w.logins.add(random(32), h.id, "pwd", h.credential, int64(0), int64(0), created, expires)
	}
}

func (w *writer) event(at time.Time, kind string, h human, sessionID, actor string, d account.Detail) {
	address, agent := w.address(), pick(w, agents)
	if strings.HasPrefix(actor, "operator") {
		address, agent = "", ""
	}
	var session any
	if sessionID != "" {
		session = sessionID
	}
	w.events.add(secret.ID("evt_"), db.Micros(at), kind, h.id, nil, session, actor, address, agent, asJSON(d))
}

// session makes a session with its grants. first is the person's first one: it lives, if
// the person is known.
func (w *writer) session(n int, h human, first bool) {
	id := secret.ID("ses_")
	created := w.ago(time.Minute, sessionLife+day) // the last of them ended within a day
	ends := w.now
	var endedAt, endedBy, secondAt any
	living := first && h.known != nil
	switch {
	case living:
		created = w.ago(time.Hour, 20*day)
	case w.in(w.size.Over):
		created = w.ago(sessionLife+day+time.Minute, sessionLife+3*day)
		if w.in(50) {
			ends = w.ago(day+time.Minute, 2*day)
			endedAt, endedBy = db.Micros(ends), "person"
		}
	case w.in(2):
		ends = w.between(created, w.now)
		if w.now.Sub(ends) > day {
			ends = w.ago(time.Hour, day-time.Minute)
			created = ends.Add(-time.Hour)
		}
		endedAt, endedBy = db.Micros(ends), "person"
	}
	expires := created.Add(sessionLife)
	if expires.Before(ends) {
		ends = expires
	}
	over := ends.Before(w.now)
	seen := w.between(created, ends)
	at := db.Micros(created)
	if h.second {
		secondAt = at
	}
	address, agent := w.address(), pick(w, agents)
	w.sessions.add(id, random(32), h.id, at, h.amr, h.acr, address, agent, at, db.Micros(seen), db.Micros(expires), endedAt, endedBy, at, secondAt, h.credential)
	w.event(created, account.EventSignedIn, h, id, "person", account.Detail{AMR: strings.Fields(h.amr), New: w.in(40)})
	if endedAt != nil {
		w.event(ends, account.EventSignedOut, h, id, "person", account.Detail{})
	}
	from, to := share(w.size.Grants, n, w.size.Sessions)
	for g := from; g < to; g++ {
		w.grant(g, id, h, created, seen, ends, over, living && g == from)
	}
}

func (w *writer) grant(n int, sessionID string, h human, opened, seen, ends time.Time, over, known bool) {
	id := secret.ID("")
	c := w.workspaces[n%len(w.workspaces)]
	for known && (c.Public() || c.ThirdParty) {
		n++
		c = w.workspaces[n%len(w.workspaces)]
	}
	token := secret.Token("hrt_" + id + "_")
	created := w.between(opened, seen)
	refreshed := w.between(created, ends)
	if known {
		refreshed = w.now.Add(-time.Minute)
		h.known.RefreshToken, h.known.Workspace = token, Workspace{c.ID, c.secret}
	}
	var request, prev, rotated, ended, told any
	result := ""
	if w.in(50) { // the others needed no page
		request = secret.ID("")
	}
	if c.Public() {
		prev, rotated = random(32), db.Micros(refreshed)
	}
	if !known && w.in(1) {
		ended = db.Micros(w.between(w.now.Add(-day), w.now))
	}
	if over && c.BackchannelLogoutURI != "" {
		told, result = db.Micros(ends.Add(time.Second)), "confirmed"
	}
	at := db.Micros(created)
	w.grants.add(id, sessionID, h.id, c.ID, request, "openid profile email offline_access", text(16), c.RedirectURIs[0], text(32), db.Micros(opened), h.amr, h.acr, random(32),
		at, at, secret.Hash(token), prev, rotated, db.Micros(refreshed), ended, told, int64(0), result)
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of strings and numbers
	}
	return string(b)
}
