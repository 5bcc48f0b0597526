package account

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// Passkeys and security keys: WebAuthn Level 3. The library compares an answer with
// what was asked; what is asked, that an answer counts once, and what it proves is
// decided here.
//
// A key that verified its holder (PIN, fingerprint, face) is both factors. One that
// only felt a touch is one: after a password or Google it is the second; as the
// first it leads to the code of the app, and opens nothing for who has no app.

// A PasskeyUse is what a browser is asked for a passkey for.
type PasskeyUse string

// The uses of passkeys.
const (
	PasskeySignIn  PasskeyUse = "sign_in" // the first proof of somebody who is not known yet
	PasskeySecond  PasskeyUse = "second"  // the second factor of who is half signed in
	PasskeyConfirm PasskeyUse = "confirm" // a fresh proof of who is signed in
	PasskeyAdd     PasskeyUse = "add"     // a new one of who is signed in
)

// PasskeyLife is how long a browser has to answer.
const PasskeyLife = 5 * time.Minute

const (
	maxPasskeys     = 20       // of one person
	maxPasskeyName  = 60       // characters
	maxCredentialID = 1023     // bytes (WebAuthn L3 7.1)
	maxAnswer       = 32 << 10 // bytes
	maxAnswerDepth  = 8
	handleBytes     = 32 // of a user handle (WebAuthn L3 14.6.1)

	ceremonyPrefix = "hpk_"
)

// Proofs that come from a passkey (RFC 8176). user is that somebody touched it.
const (
	amrHardware = "hwk" // it does not leave its device
	amrSoftware = "swk" // it may be synced
	amrUser     = "user"
)

var (
	// ErrNoPasskeys means that passkeys cannot be used: the issuer has no name that
	// browsers bind them to.
	ErrNoPasskeys = errors.New("the issuer cannot have passkeys")
	// ErrNoCeremony means that this browser was not asked for this passkey: it
	// answered before, too late, or another browser was.
	ErrNoCeremony = errors.New("no passkey was asked for here, or not any more")
	// ErrUnknownPasskey means that nobody has the passkey, or not any more.
	ErrUnknownPasskey = errors.New("nobody has this passkey")
	// ErrNotVerified means that a key did not check who holds it, where that is
	// needed.
	ErrNotVerified = errors.New("the passkey did not verify who holds it")
	// ErrCloned means that a key counts fewer uses than were seen: there may be a
	// copy of it. It is refused and its person is told.
	ErrCloned = errors.New("the passkey may have been copied")
	// ErrPasskeyTaken means that the key is registered already, by whomever.
	ErrPasskeyTaken = errors.New("the passkey is registered already")
	// ErrTooMany means that a person has as many passkeys as one can have.
	ErrTooMany = errors.New("no more passkeys")
	// ErrLastWay means that it is the person's last way to sign in, or the last
	// second factor while two-factor authentication is on.
	ErrLastWay = errors.New("it is the last one")
)

// newWebAuthn is the relying party at the origin of the issuer, nil if it cannot be
// one: an IP address is no domain.
func newWebAuthn(issuer *url.URL) *webauthn.WebAuthn {
	if issuer == nil {
		return nil
	}
	timeout := webauthn.TimeoutConfig{Enforce: true, Timeout: PasskeyLife, TimeoutUVD: PasskeyLife}
	w, err := webauthn.New(&webauthn.Config{
		RPID: issuer.Hostname(), RPDisplayName: totpIssuer, RPOrigins: []string{issuer.Scheme + "://" + issuer.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationPreferred,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: timeout, Registration: timeout},
		// What nobody asked for means nothing here, and password managers send some.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil
	}
	return w
}

// HasPasskeys reports whether people can have passkeys here.
func (s *Store) HasPasskeys() bool { return s.keys != nil }

// PasskeyDomain is the relying party's id, "" where there are no passkeys.
func (s *Store) PasskeyDomain() string {
	if s.keys == nil {
		return ""
	}
	return s.keys.Config.RPID
}

// A Passkey is a passkey or security key of a person.
type Passkey struct {
	ID         string
	Name       string // as the person calls it
	Model      string // its AAGUID, "" if it does not say
	Transports []string
	Verifies   bool // it checked who holds it at least once
	Synced     bool // it may be on several devices
	BackedUp   bool // and it was, when it was last used
	CreatedAt  time.Time
	UsedAt     time.Time // zero: never

	credential webauthn.Credential
}

// CredentialID is what the browser knows it by.
func (p *Passkey) CredentialID() []byte { return p.credential.ID }

// Passkeys are a person's passkeys.
type Passkeys struct {
	Handle []byte // what they know the person by; nil: there never was one
	Keys   []Passkey
}

// Passkeys returns a person's passkeys, the oldest first, in one read.
func (s *Store) Passkeys(ctx context.Context, userID string) (*Passkeys, error) {
	p, err := readPasskeys(ctx, s.db, userID)
	if err != nil {
		return nil, fmt.Errorf("reading passkeys: %w", err)
	}
	return p, nil
}

// A reader reads inside of a transaction or outside.
type reader interface {
	Query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func readPasskeys(ctx context.Context, from reader, userID string) (*Passkeys, error) {
	rows, err := from.Query(ctx, `
		SELECT u.passkey_handle, p.id, p.credential_id, p.public_key, p.name, p.aaguid, p.transports, p.sign_count, p.verifies, p.synced, p.backed_up, p.created_at, p.used_at
		FROM users u LEFT JOIN passkeys p ON p.user_id = u.id WHERE u.id = $1 ORDER BY p.created_at, p.id`, userID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := &Passkeys{}
	for rows.Next() {
		var id, name, model, transports sql.NullString
		var credential, public []byte
		var count, verifies, synced, backedUp, created, used sql.NullInt64
		if err := rows.Scan(&out.Handle, &id, &credential, &public, &name, &model, &transports, &count, &verifies, &synced, &backedUp, &created, &used); err != nil {
			return nil, err
		}
		if !id.Valid {
			continue
		}
		p := Passkey{
			ID: id.String, Name: name.String, Model: model.String, Transports: strings.Fields(transports.String),
			Verifies: verifies.Int64 == 1, Synced: synced.Int64 == 1, BackedUp: backedUp.Int64 == 1, CreatedAt: db.Time(created.Int64),
		}
		if used.Valid {
			p.UsedAt = db.Time(used.Int64)
		}
		p.credential = credentialOf(credential, public, count.Int64, p.Verifies, p.Synced, p.BackedUp)
		for _, t := range p.Transports {
			p.credential.Transport = append(p.credential.Transport, protocol.AuthenticatorTransport(t))
		}
		out.Keys = append(out.Keys, p)
	}
	return out, rows.Err()
}

func credentialOf(id, public []byte, count int64, verifies, synced, backedUp bool) webauthn.Credential {
	return webauthn.Credential{
		ID: id, PublicKey: public, AttestationFormat: string(protocol.AttestationFormatNone),
		Flags:         webauthn.CredentialFlags{UserPresent: true, UserVerified: verifies, BackupEligible: synced, BackupState: backedUp},
		Authenticator: webauthn.Authenticator{SignCount: uint32(min(count, 1<<32-1))},
	}
}

func (p *Passkeys) names() (names []string) {
	for _, k := range p.Keys {
		names = append(names, k.Name)
	}
	return names
}

// An owner is a person as the library knows them.
type owner struct {
	handle      []byte
	name, email string
	keys        []webauthn.Credential
}

func (o *owner) WebAuthnID() []byte                         { return o.handle }
func (o *owner) WebAuthnName() string                       { return o.email }
func (o *owner) WebAuthnDisplayName() string                { return o.name }
func (o *owner) WebAuthnCredentials() []webauthn.Credential { return o.keys }

func (p *Passkeys) owner(name, email string) *owner {
	o := &owner{handle: p.Handle, name: name, email: email}
	for _, k := range p.Keys {
		o.keys = append(o.keys, k.credential)
	}
	return o
}

// A PasskeyRequest is what a browser is asked for.
type PasskeyRequest struct {
	Options any    // its JSON is for the browser: {"publicKey": …}
	Token   string // stays with the browser; the only copy
}

// A PasskeyAnswer is what a browser answered.
type PasskeyAnswer struct {
	Token    string // of the request
	Response string // the JSON of the PublicKeyCredential

	half string // the token of the half sign-in that it is for
}

// A ceremony is what is sealed of a request.
type ceremony struct {
	Data webauthn.SessionData `json:"data"`
	Half []byte               `json:"half,omitempty"` // hash of the half sign-in's token
}

// AskSignIn asks for a passkey of anybody: that it takes no address is why it tells
// nothing about one. old is the token of what the browser was asked before, or "":
// that is over. Its errors, as of the others that ask, are ErrNoPasskeys and
// *ThrottledError.
func (s *Store) AskSignIn(ctx context.Context, old string, d Device) (*PasskeyRequest, error) {
	if s.keys == nil {
		return nil, ErrNoPasskeys
	}
	options, data, err := s.keys.BeginDiscoverableLogin()
	if err != nil {
		return nil, fmt.Errorf("asking for a passkey: %w", err)
	}
	return s.askFor(ctx, PasskeySignIn, "", old, ceremony{Data: *data}, options, d)
}

// AskSecond asks for a passkey of who is half signed in. It may return ErrNoLogin, too,
// and ErrNotFound for who has none.
func (s *Store) AskSecond(ctx context.Context, half, old string, d Device) (*PasskeyRequest, error) {
	h, err := s.Half(ctx, half)
	if err != nil {
		return nil, err
	}
	return s.askOwn(ctx, PasskeySecond, h.UserID, "", old, secret.Hash(half), d)
}

// AskConfirm asks for a passkey of who is signed in. It may return ErrNotFound, too,
// for who has none.
func (s *Store) AskConfirm(ctx context.Context, in *Session, old string, d Device) (*PasskeyRequest, error) {
	return s.askOwn(ctx, PasskeyConfirm, in.UserID, in.ID, old, nil, d)
}

func (s *Store) askOwn(ctx context.Context, use PasskeyUse, userID, sessionID, old string, half []byte, d Device) (*PasskeyRequest, error) {
	if s.keys == nil {
		return nil, ErrNoPasskeys
	}
	all, err := s.Passkeys(ctx, userID)
	if err != nil {
		return nil, err
	}
	if len(all.Keys) == 0 {
		return nil, ErrNotFound
	}
	options, data, err := s.keys.BeginLogin(all.owner("", ""))
	if err != nil {
		return nil, fmt.Errorf("asking for a passkey: %w", err)
	}
	return s.askFor(ctx, use, sessionID, old, ceremony{Data: *data, Half: half}, options, d)
}

// AskNew asks for a new passkey of who is signed in: not one that they have already,
// discoverable and verifying if it can be, of an algorithm that is listed, and without
// attestation. It may return ErrProofNeeded and ErrTooMany, too.
func (s *Store) AskNew(ctx context.Context, in *Session, old string, d Device) (*PasskeyRequest, error) {
	if s.keys == nil {
		return nil, ErrNoPasskeys
	}
	if !in.FreshBest() {
		return nil, ErrProofNeeded
	}
	all, err := s.Passkeys(ctx, in.UserID)
	if err != nil {
		return nil, err
	}
	if len(all.Keys) >= maxPasskeys {
		return nil, ErrTooMany
	}
	if all.Handle == nil {
		if all.Handle, err = s.newHandle(ctx, in.UserID); err != nil {
			return nil, err
		}
	}
	o := all.owner(in.Name, in.Email)
	options, data, err := s.keys.BeginRegistration(o,
		webauthn.WithCredentialParameters(webauthn.CredentialParametersRecommendedL3()),
		webauthn.WithExclusions(webauthn.Credentials(o.keys).CredentialDescriptors()))
	if err != nil {
		return nil, fmt.Errorf("asking for a passkey: %w", err)
	}
	return s.askFor(ctx, PasskeyAdd, in.ID, old, ceremony{Data: *data}, options, d)
}

// newHandle gives a person a user handle, once.
func (s *Store) newHandle(ctx context.Context, userID string) (handle []byte, err error) {
	made := make([]byte, handleBytes)
	rand.Read(made)
	err = s.db.Returning(ctx, `UPDATE users SET passkey_handle = COALESCE(passkey_handle, $1) WHERE id = $2 RETURNING passkey_handle`, []any{made, userID}, &handle)
	if err != nil {
		return nil, fmt.Errorf("making a user handle: %w", err)
	}
	return handle, nil
}

// askFor writes down what a browser is asked for. What the same browser or session was
// asked before is over.
func (s *Store) askFor(ctx context.Context, use PasskeyUse, sessionID, old string, c ceremony, options any, d Device) (*PasskeyRequest, error) {
	if err := s.reserve(ctx, []lane{{"passkey/network/" + d.Network, passkeysPerNetwork, passwordWindow, false}}, time.Now()); err != nil {
		return nil, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("asking for a passkey: %w", err)
	}
	token, now := secret.Token(ceremonyPrefix), time.Now()
	hash := secret.Hash(token)
	if old != "" || sessionID != "" {
		if _, err := s.db.Exec(db.Soft(ctx), `DELETE FROM ceremonies WHERE token_hash = $1 OR session_id = $2`, secret.Hash(old), orNull(sessionID)); err != nil {
			return nil, fmt.Errorf("asking for a passkey: %w", err)
		}
	}
	_, err = s.db.Exec(db.Soft(ctx), `
		INSERT INTO ceremonies (token_hash, purpose, session_id, sealed, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		hash, string(use), orNull(sessionID), s.ceremonies.Seal(text, "ceremonies/"+hex.EncodeToString(hash)), db.Micros(now), db.Micros(now.Add(PasskeyLife)))
	if err != nil {
		return nil, fmt.Errorf("asking for a passkey: %w", err)
	}
	return &PasskeyRequest{Options: options, Token: token}, nil
}

// take takes what a browser was asked for, once: of those who answer at once, one
// gets it and the others ErrNoCeremony.
func (s *Store) take(ctx context.Context, use PasskeyUse, sessionID string, a PasskeyAnswer) (*ceremony, error) {
	if s.keys == nil || !secret.IsToken(a.Token, ceremonyPrefix) {
		return nil, ErrNoCeremony
	}
	hash := secret.Hash(a.Token)
	var sealed []byte
	err := s.db.Returning(ctx, `
		DELETE FROM ceremonies WHERE token_hash = $1 AND purpose = $2 AND COALESCE(session_id, '') = $3 AND expires_at > $4 RETURNING sealed`,
		[]any{hash, string(use), sessionID, db.Micros(time.Now())}, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoCeremony
	}
	if err != nil {
		return nil, fmt.Errorf("taking an answer: %w", err)
	}
	text, err := s.ceremonies.Open(sealed, "ceremonies/"+hex.EncodeToString(hash))
	if err != nil {
		return nil, fmt.Errorf("taking an answer: %w", err)
	}
	var c ceremony
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("taking an answer: %w", err)
	}
	if use == PasskeySecond && !bytes.Equal(c.Half, secret.Hash(a.half)) {
		return nil, ErrNoCeremony
	}
	return &c, nil
}

// plainJSON reports whether an answer is one JSON value of a size and depth that
// answers have, in which no name stands twice.
func plainJSON(s string) bool {
	if len(s) > maxAnswer {
		return false
	}
	dec := json.NewDecoder(strings.NewReader(s))
	depth := 0
	var value func() bool
	value = func() bool {
		t, err := dec.Token()
		if err != nil {
			return false
		}
		open, ok := t.(json.Delim)
		if !ok {
			return true
		}
		if depth++; depth > maxAnswerDepth {
			return false
		}
		names := map[string]bool{}
		for dec.More() {
			if open == '{' {
				t, err := dec.Token()
				name, ok := t.(string)
				if err != nil || !ok || names[name] {
					return false
				}
				names[name] = true
			}
			if !value() {
				return false
			}
		}
		depth--
		_, err = dec.Token() // what closes it
		return err == nil
	}
	if !value() {
		return false
	}
	_, err := dec.Token()
	return errors.Is(err, io.EOF)
}

// An assertion is an answer that was found right, and not used yet.
type assertion struct {
	passkeyID, userID, name    string
	count                      uint32
	verified, synced, backedUp bool
}

// amr says in what an assertion consists, without what it amounts to.
func (a *assertion) amr() []string {
	if a.synced {
		return []string{amrSoftware, amrUser}
	}
	return []string{amrHardware, amrUser}
}

// assert compares an answer with what was asked: of the person userID or, if that is
// "", of whomever's key it is. Its errors are ErrWrong and ErrUnknownPasskey.
func (s *Store) assert(ctx context.Context, c *ceremony, userID, response string) (*assertion, error) {
	if !plainJSON(response) {
		return nil, ErrWrong
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(response))
	if err != nil {
		return nil, ErrWrong
	}
	a := &assertion{}
	err = s.db.QueryRow(ctx, `SELECT id, user_id, name FROM passkeys WHERE credential_id = $1`, parsed.RawID).Scan(&a.passkeyID, &a.userID, &a.name)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrUnknownPasskey
	}
	if err != nil {
		return nil, fmt.Errorf("finding a passkey: %w", err)
	}
	if userID != "" && a.userID != userID {
		return nil, ErrWrong
	}
	all, err := s.Passkeys(ctx, a.userID)
	if err != nil {
		return nil, err
	}
	o := all.owner("", "")
	var used *webauthn.Credential
	if userID == "" {
		// Whose key it is says the key's row; the handle in the answer has to say the same.
		_, used, err = s.keys.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return o, nil }, c.Data, parsed)
	} else {
		used, err = s.keys.ValidateLogin(o, c.Data, parsed)
	}
	if err != nil {
		return nil, ErrWrong
	}
	data := parsed.Response.AuthenticatorData
	a.count, a.verified = data.Counter, data.Flags.HasUserVerified()
	a.synced, a.backedUp = used.Flags.BackupEligible, data.Flags.HasBackupState()
	return a, nil
}

// use writes down that a key was used, in the transaction of what for. It refuses one
// that is gone by now (ErrWrong), and one whose count is not above every one that it
// showed before (ErrCloned); one that does not count says 0 each time.
func (a *assertion) use(ctx context.Context, tx *db.Tx, now time.Time) error {
	n, err := tx.Exec(ctx, `
		UPDATE passkeys SET sign_count = $1, backed_up = $2, verifies = CASE WHEN CAST($3 AS BIGINT) = 1 THEN 1 ELSE verifies END, used_at = $4
		WHERE id = $5 AND user_id = $6 AND (sign_count < $1 OR sign_count = 0 AND CAST($1 AS BIGINT) = 0)`,
		int64(a.count), flag(a.backedUp), flag(a.verified), db.Micros(now), a.passkeyID, a.userID)
	if err != nil || n == 1 {
		return err
	}
	var one int64
	err = tx.QueryRow(ctx, `SELECT 1 FROM passkeys WHERE id = $1`, a.passkeyID).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrWrong
	}
	if err != nil {
		return err
	}
	return ErrCloned
}

// refused records a key that was refused because there may be a copy of it, if that is
// what err says; the transaction in which that was found came to nothing.
func (s *Store) refused(ctx context.Context, a *assertion, sessionID string, d Device, err error) error {
	if a == nil || !errors.Is(err, ErrCloned) {
		return err
	}
	e := Event{Kind: EventPasskeyRefused, UserID: a.userID, SessionID: sessionID, Actor: person, Device: d, Detail: Detail{Passkeys: []string{a.name}}}
	recording := s.db.Tx(context.WithoutCancel(ctx), func(tx *db.Tx) error { return Record(ctx, tx, e) })
	return errors.Join(err, s.told("recording a refused passkey", recording))
}

// CheckPasskey judges a passkey as the first proof of whoever's it is. If it verified
// its holder it is both factors (see Complete). Its errors are ErrNoCeremony, ErrWrong
// (also for a person who is disabled), ErrUnknownPasskey, and ErrNotVerified for a key
// that was only touched, of a person who has no authenticator app to ask for a code of.
func (s *Store) CheckPasskey(ctx context.Context, answer PasskeyAnswer, d Device) (*Login, error) {
	l, err := s.checkPasskey(ctx, answer, d)
	if err != nil {
		s.watch.SignIn("passkey", outcome(err))
	}
	return l, err
}

func (s *Store) checkPasskey(ctx context.Context, answer PasskeyAnswer, d Device) (*Login, error) {
	c, err := s.take(ctx, PasskeySignIn, "", answer)
	if err != nil {
		return nil, err
	}
	a, err := s.assert(ctx, c, "", answer.Response)
	if err != nil {
		return nil, err
	}
	var set, disabled, app sql.NullInt64
	err = s.db.QueryRow(ctx, `
		SELECT u.password_changed_at, u.disabled_at, length(t.secret_sealed) FROM users u LEFT JOIN totp t ON t.user_id = u.id WHERE u.id = $1`, a.userID).
		Scan(&set, &disabled, &app)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && disabled.Valid:
		return nil, ErrWrong
	case err != nil:
		return nil, fmt.Errorf("finding who signs in: %w", err)
	case !a.verified && app.Int64 == 0:
		return nil, ErrNotVerified
	}
	l := &Login{userID: a.userID, amr: a.amr(), credential: set.Int64, device: d, twoFactor: true, key: a}
	if a.verified {
		l.amr = append(l.amr, amrMFA)
	}
	return l, nil
}

// judgeKey judges a passkey as the second factor of the person of e, or as a fresh
// proof of who is signed in. Of a person without two-factor authentication it has to
// verify its holder: a touch alone proves less than their password.
func (s *Store) judgeKey(ctx context.Context, e Event, answer PasskeyAnswer) (*second, error) {
	use, sessionID := PasskeySecond, ""
	if e.Kind != EventCodeFailed {
		use, sessionID = PasskeyConfirm, e.SessionID
	}
	c, err := s.take(ctx, use, sessionID, answer)
	if err != nil {
		return nil, err
	}
	a, err := s.assert(ctx, c, e.UserID, answer.Response)
	if err != nil {
		return nil, err
	}
	if use == PasskeyConfirm && !a.verified {
		two, err := s.TwoFactor(ctx, e.UserID)
		if err != nil {
			return nil, err
		}
		if two == nil {
			return nil, ErrNotVerified
		}
	}
	return &second{key: a}, nil
}

// checkPasskeyName is the name of a passkey as it is kept. Its error is *InvalidError.
func checkPasskeyName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if err := CheckName("name", name); err != nil {
		return "", err
	}
	if n := len([]rune(name)); n > maxPasskeyName {
		return "", &InvalidError{"name", fmt.Sprintf("has %d characters, more than %d", n, maxPasskeyName)}
	}
	return name, nil
}

// AddPasskey registers the passkey that AskNew asked for. It needs the same recent
// proof. Its errors are ErrNoCeremony, ErrProofNeeded, ErrWrong, ErrPasskeyTaken,
// ErrTooMany, ErrNoSession and, before the answer is taken, *InvalidError for the name.
func (s *Store) AddPasskey(ctx context.Context, in *Session, answer PasskeyAnswer, name string, d Device) error {
	if !in.FreshBest() {
		return ErrProofNeeded
	}
	name, err := checkPasskeyName(name)
	if err != nil {
		return err
	}
	c, err := s.take(ctx, PasskeyAdd, in.ID, answer)
	if err != nil {
		return err
	}
	if !plainJSON(answer.Response) {
		return ErrWrong
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer.Response))
	if err != nil {
		return ErrWrong
	}
	k, err := s.keys.CreateCredential(&owner{handle: c.Data.UserID}, c.Data, parsed)
	if err != nil || len(k.ID) == 0 || len(k.ID) > maxCredentialID {
		return ErrWrong
	}
	if _, err := webauthncose.ParsePublicKey(k.PublicKey); err != nil {
		return ErrWrong
	}
	model := ""
	if aaguid := k.Authenticator.AAGUID; slices.ContainsFunc(aaguid, func(b byte) bool { return b != 0 }) {
		model = hex.EncodeToString(aaguid)
	}
	now := time.Now()
	return s.told("adding a passkey", s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if err := alive(ctx, tx, in.ID); err != nil {
			return err
		}
		var have int
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM passkeys WHERE user_id = $1`, in.UserID).Scan(&have); err != nil {
			return err
		}
		if have >= maxPasskeys {
			return ErrTooMany
		}
		n, err := tx.Exec(ctx, `
			INSERT INTO passkeys (id, user_id, credential_id, public_key, name, aaguid, transports, sign_count, verifies, synced, backed_up, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (credential_id) DO NOTHING`,
			secret.ID("pky_"), in.UserID, k.ID, k.PublicKey, name, model, transports(k.Transport), int64(k.Authenticator.SignCount),
			flag(k.Flags.UserVerified), flag(k.Flags.BackupEligible), flag(k.Flags.BackupState), db.Micros(now))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrPasskeyTaken
		}
		return Record(ctx, tx, Event{Kind: EventPasskeyAdded, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{Passkeys: []string{name}, Touch: !k.Flags.UserVerified}})
	}))
}

// transports are those that the specification knows, of what a key says of itself.
func transports(said []protocol.AuthenticatorTransport) string {
	var known []string
	for _, t := range []protocol.AuthenticatorTransport{protocol.USB, protocol.NFC, protocol.BLE, protocol.SmartCard, protocol.Hybrid, protocol.Internal} {
		if slices.Contains(said, t) {
			known = append(known, string(t))
		}
	}
	return strings.Join(known, " ")
}

// RenamePasskey gives a passkey of the person another name. Its errors are
// *InvalidError, ErrNotFound and ErrNoSession.
func (s *Store) RenamePasskey(ctx context.Context, in *Session, id, name string, d Device) error {
	name, err := checkPasskeyName(name)
	if err != nil {
		return err
	}
	return s.told("renaming a passkey", s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if err := alive(ctx, tx, in.ID); err != nil {
			return err
		}
		var old string
		err := tx.QueryRow(ctx, `SELECT name FROM passkeys WHERE id = $1 AND user_id = $2`, id, in.UserID).Scan(&old)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil || old == name {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE passkeys SET name = $1 WHERE id = $2`, name, id); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventPasskeyRenamed, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{Passkeys: []string{old, name}}})
	}))
}

// RemovePasskey deletes a passkey of the person: nobody signs in with it from then on.
// Sessions that it began go on unless the others are to end, whatever began them. It needs a recent proof, by the second factor of who has one. Its errors are
// ErrProofNeeded, ErrLastWay, ErrNotFound and ErrNoSession.
func (s *Store) RemovePasskey(ctx context.Context, in *Session, id string, endOthers bool, d Device) error {
	if !in.FreshBest() {
		return ErrProofNeeded
	}
	return s.told("removing a passkey", s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if err := alive(ctx, tx, in.ID); err != nil {
			return err
		}
		last, err := lastWay(ctx, tx, in.UserID, id)
		if err != nil {
			return err
		}
		e := Event{Kind: EventPasskeyRemoved, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d}
		var name string
		err = tx.Returning(ctx, `DELETE FROM passkeys WHERE id = $1 AND user_id = $2 RETURNING name`, []any{id, in.UserID}, &name)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if last {
			return ErrLastWay
		}
		// One whose first proof it was waits for a code alone.
		if _, err := tx.Exec(ctx, `DELETE FROM logins WHERE user_id = $1`, in.UserID); err != nil {
			return err
		}
		e.Detail.Passkeys = []string{name}
		if endOthers {
			if e.Detail.Ended, err = endSessions(ctx, tx, in.UserID, in.ID, person, time.Now()); err != nil {
				return err
			}
		}
		return Record(ctx, tx, e)
	}))
}

// lastWay reports whether a person cannot be without this passkey: it is the last second
// factor of who has no app while two-factor authentication is on, or the last way in of
// who has neither a password nor Google. A key that never verified its holder is a way
// in with an app only.
func lastWay(ctx context.Context, tx *db.Tx, userID, id string) (bool, error) {
	var others, verifying int
	var method string
	var password, app sql.NullInt64
	err := tx.QueryRow(ctx, `
		SELECT u.method, length(u.password_hash), length(t.secret_sealed), (SELECT COUNT(*) FROM passkeys p WHERE p.user_id = u.id AND p.id <> $2),
			(SELECT COUNT(*) FROM passkeys p WHERE p.user_id = u.id AND p.id <> $2 AND p.verifies = 1)
		FROM users u LEFT JOIN totp t ON t.user_id = u.id WHERE u.id = $1`, userID, id).Scan(&method, &password, &app, &others, &verifying)
	if app.Int64 > 0 {
		verifying = others
	}
	return app.Valid && app.Int64 == 0 && others == 0 || Method(method) == MethodPassword && !password.Valid && verifying == 0, err
}
