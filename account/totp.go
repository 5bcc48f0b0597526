package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/harmony/id/db"
)

// Time-based one-time passwords as every authenticator app makes them (RFC 6238
// with SHA-1, six digits, 30 s): other values break some.
const (
	totpPeriod = 30 * time.Second
	totpSkew   = 1  // steps before and after the present one (RFC 6238 5.2)
	totpSecret = 20 // bytes (RFC 4226 R6)
	totpIssuer = "Harmony"
)

// maxCodeFailures is how many wrong codes in a row a person's authenticator
// survives (NIST SP 800-63B-4 3.2.2).
const maxCodeFailures = 100

// Backup codes: ten of 50 bits each, in Crockford's base32, so that no two
// characters look alike.
const (
	backupCodes     = 10
	backupCodeChars = 10
	crockford       = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

var base32Key = base32.StdEncoding.WithPadding(base32.NoPadding)

// sixDigits returns the six digits of a code as it was typed or pasted, spaces
// and hyphens left out (trap P1 of the security cases: one code is one string).
func sixDigits(typed string) (string, bool) {
	code := squeezed(typed)
	if len(code) != 6 || strings.Trim(code, "0123456789") != "" {
		return "", false
	}
	return code, true
}

// squeezed is what was typed without spaces and hyphens; "" for more than any
// code could be.
func squeezed(typed string) string {
	const most = 64
	if len(typed) > most {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Pd, r) || unicode.IsSpace(r) { // hyphens and dashes of every kind
			return -1
		}
		return r
	}, typed)
}

// canonicalBackupCode is the one form of a backup code: case, spaces, hyphens and
// Crockford's look-alikes (O for 0, I and L for 1) make no difference.
func canonicalBackupCode(typed string) (string, bool) {
	code := strings.NewReplacer("O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(squeezed(typed)))
	if len(code) != backupCodeChars || strings.Trim(code, crockford) != "" {
		return "", false
	}
	return code, true
}

// newBackupCodes are random and all different, as XXXXX-XXXXX.
func newBackupCodes() []string {
	var codes []string
	seen := map[string]bool{}
	for len(codes) < backupCodes {
		b := make([]byte, backupCodeChars)
		rand.Read(b)
		for i := range b {
			b[i] = crockford[b[i]&31]
		}
		if code := string(b); !seen[code] {
			seen[code] = true
			codes = append(codes, code[:backupCodeChars/2]+"-"+code[backupCodeChars/2:])
		}
	}
	return codes
}

// hashBackupCode is how a backup code is kept: Argon2id under its set's salt
// (ASVS 6.5.2). One attempt is one hash, however many codes there are.
func (s *Store) hashBackupCode(ctx context.Context, canonical string, salt []byte) ([]byte, error) {
	return s.hasher.derive(ctx, canonical, salt, current, hashBytes)
}

// stepAt is the time step of t.
func stepAt(t time.Time) int64 { return t.Unix() / int64(totpPeriod/time.Second) }

// matchStep returns the step for which code is right: the oldest after last among
// those that are accepted now. Its errors are ErrWrong and, for a code of a step
// that is not after last, ErrUsed. Every step costs the same.
func matchStep(key []byte, code string, last int64, now time.Time) (int64, error) {
	found, used := int64(0), false
	for step := stepAt(now) - totpSkew; step <= stepAt(now)+totpSkew; step++ {
		want, err := hotp.GenerateCodeCustom(base32Key.EncodeToString(key), uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, fmt.Errorf("computing a code: %w", err)
		}
		switch right := subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1; {
		case right && step <= last:
			used = true
		case right && found == 0:
			found = step
		}
	}
	switch {
	case found != 0:
		return found, nil
	case used:
		return 0, ErrUsed
	}
	return 0, ErrWrong
}

// A second is a second factor that was judged to be right, and not spent yet.
type second struct {
	step int64      // of an authenticator's code
	hash []byte     // of a backup code
	key  *assertion // of a passkey
}

// amr is what the proof adds to those of the first factor (RFC 8176). A backup
// code is no one-time password, only a second factor.
func (p *second) amr() []string {
	switch {
	case p.key != nil:
		return append(p.key.amr(), amrMFA)
	case p.hash != nil:
		return []string{amrMFA}
	}
	return []string{amrOTP, amrMFA}
}

// A SecondFactor is a code as a person typed it: of the authenticator app or, if
// Backup is set, a backup code. If Passkey is not nil it is that, and no code.
type SecondFactor struct {
	Code    string
	Backup  bool
	Passkey *PasskeyAnswer
}

// judge judges a second factor of the person of e, in a browser (the id of one in
// which they signed in before, or ""). Every attempt is counted before it is looked
// at, and a right one is only spent by spend. A wrong one is recorded as e, of the
// kind EventCodeFailed (after a first proof) or EventConfirmFailed (in a session).
// Its errors are ErrWrong, ErrUsed, ErrPaused, ErrOff, ErrBusy, *ThrottledError and, for
// a passkey, which nobody guesses and nothing counts, those of judgeKey.
func (s *Store) judge(ctx context.Context, e Event, known string, f SecondFactor) (*second, error) {
	p, err := s.judged(ctx, e, known, f)
	if err != nil { // of a right one its spending decides
		s.watch.SecondFactor(outcome(err))
	}
	return p, err
}

func (s *Store) judged(ctx context.Context, e Event, known string, f SecondFactor) (*second, error) {
	if f.Passkey != nil {
		return s.judgeKey(ctx, e, *f.Passkey)
	}
	kind, column, most := kindCode, "failures", maxCodeFailures
	afterFirst := e.Kind == EventCodeFailed
	if f.Backup {
		kind, column, most = kindBackupCode, "backup_failures", noLimit
	}
	lanes := codeLanes(kind, e.UserID, known)
	if err := s.reserve(ctx, lanes, time.Now()); err != nil {
		return nil, err
	}
	// Who hangs up now is judged and recorded all the same.
	ctx = context.WithoutCancel(ctx)
	// Counted as a failure first: a right code takes all of them back.
	var sealed, salt []byte
	var last int64
	var failed, failedLogin int
	err := s.db.Returning(db.Soft(ctx), `
		UPDATE totp SET `+column+` = `+column+` + 1, login_failures = login_failures + $3 WHERE user_id = $1 AND `+column+` < $2
		RETURNING secret_sealed, last_step, codes_salt, `+column+`, login_failures`,
		[]any{e.UserID, most, flag(afterFirst)}, &sealed, &last, &salt, &failed, &failedLogin)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.whyNoCode(ctx, e.UserID)
	}
	if err != nil {
		return nil, fmt.Errorf("counting a code: %w", err)
	}
	// What somebody who is signed in mistypes must not hide what somebody does who
	// only has the password.
	if e.Detail.Failed = failed; afterFirst {
		e.Detail.Failed = failedLogin
	}
	p := &second{}
	if f.Backup {
		p.hash, err = s.findBackupCode(ctx, e.UserID, f.Code, salt)
	} else {
		p.step, err = s.matchCode(e.UserID, f.Code, sealed, last)
	}
	switch {
	case err == nil:
		return p, s.giveBack(ctx, lanes)
	case errors.Is(err, ErrWrong), errors.Is(err, ErrUsed):
		if recording := s.recordFailure(ctx, e, !f.Backup && failed >= most); recording != nil {
			return nil, recording
		}
	}
	return nil, err
}

// noLimit is for what is not paused, however often it was wrong: backup codes have
// 50 bits.
const noLimit = 1 << 60

// recordFailure records a wrong code, and the pause that the last one of too many
// begins.
func (s *Store) recordFailure(ctx context.Context, e Event, pauses bool) error {
	paused := e
	paused.Kind = EventCodesPaused
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		if e.Kind == EventCodeFailed && e.Detail.Failed >= codeFailedTold {
			n, err := tx.Exec(ctx, `UPDATE totp SET login_told = 1 WHERE user_id = $1 AND login_told = 0`, e.UserID)
			if err != nil {
				return err
			}
			e.hushed = n == 0
		}
		if err := Record(ctx, tx, e); err != nil || !pauses {
			return err
		}
		return Record(ctx, tx, paused)
	})
	if err != nil {
		return fmt.Errorf("recording a wrong code: %w", err)
	}
	if e.told() || pauses {
		s.nudge()
	}
	return nil
}

func (s *Store) matchCode(userID, typed string, sealed []byte, last int64) (int64, error) {
	code, ok := sixDigits(typed)
	if !ok || len(sealed) == 0 { // or there is no app
		return 0, ErrWrong
	}
	key, err := s.totp.Open(sealed, "totp/"+userID)
	if err != nil {
		return 0, fmt.Errorf("authenticator of %s: %w", userID, err)
	}
	return matchStep(key, code, last, time.Now())
}

func (s *Store) whyNoCode(ctx context.Context, userID string) error {
	var one int64
	err := s.db.QueryRow(ctx, `SELECT 1 FROM totp WHERE user_id = $1`, userID).Scan(&one)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrOff
	case err != nil:
		return fmt.Errorf("reading an authenticator: %w", err)
	}
	return ErrPaused
}

// findBackupCode is the hash of a backup code that was not used yet, else ErrWrong.
func (s *Store) findBackupCode(ctx context.Context, userID, typed string, salt []byte) ([]byte, error) {
	code, ok := canonicalBackupCode(typed)
	if !ok {
		return nil, ErrWrong
	}
	hash, err := s.hashBackupCode(ctx, code, salt)
	if err != nil {
		return nil, err
	}
	var one int64
	err = s.db.QueryRow(ctx, `SELECT 1 FROM backup_codes WHERE user_id = $1 AND code_hash = $2`, userID, hash).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrWrong
	}
	if err != nil {
		return nil, fmt.Errorf("reading backup codes: %w", err)
	}
	return hash, nil
}

// spend spends a second factor in the transaction of what it is for: of those who
// come at once with the same code, one wins and the others get ErrUsed or
// ErrWrong. left is how many backup codes are left after one was spent. Either
// kind ends the count of wrong codes: that is how a pause ends.
func spend(ctx context.Context, tx *db.Tx, userID string, p *second) (left int, err error) {
	if p.key != nil {
		if err := p.key.use(ctx, tx, time.Now()); err != nil {
			return 0, err
		}
		_, err := tx.Exec(ctx, `UPDATE totp SET failures = 0, login_failures = 0, login_told = 0 WHERE user_id = $1`, userID)
		return 0, err
	}
	if p.hash == nil {
		n, err := tx.Exec(ctx, `UPDATE totp SET last_step = $1, failures = 0, login_failures = 0, login_told = 0 WHERE user_id = $2 AND last_step < $1`, p.step, userID)
		if err == nil && n == 0 {
			err = ErrUsed
		}
		return 0, err
	}
	n, err := tx.Exec(ctx, `DELETE FROM backup_codes WHERE user_id = $1 AND code_hash = $2`, userID, p.hash)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, ErrWrong
	}
	if _, err := tx.Exec(ctx, `UPDATE totp SET failures = 0, backup_failures = 0, login_failures = 0, login_told = 0 WHERE user_id = $1`, userID); err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, `SELECT COUNT(*) FROM backup_codes WHERE user_id = $1`, userID).Scan(&left)
	return left, err
}

// TwoFactor is what is known of a person's two-factor authentication.
type TwoFactor struct {
	EnabledAt   time.Time
	App         bool // an authenticator app; without, passkeys and backup codes are asked for
	CodesLeft   int  // backup codes
	CodesTotal  int
	CodesMadeAt time.Time
	Paused      bool // codes of the app are refused after too many wrong ones
}

// TwoFactor returns a person's two-factor authentication, nil if it is off.
func (s *Store) TwoFactor(ctx context.Context, userID string) (*TwoFactor, error) {
	var t TwoFactor
	var enabled, made int64
	var failures, app int
	err := s.db.QueryRow(ctx, `
		SELECT enabled_at, length(secret_sealed), codes_total, codes_made_at, failures, (SELECT COUNT(*) FROM backup_codes b WHERE b.user_id = totp.user_id)
		FROM totp WHERE user_id = $1`, userID).Scan(&enabled, &app, &t.CodesTotal, &made, &failures, &t.CodesLeft)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading two-factor authentication: %w", err)
	}
	t.EnabledAt, t.CodesMadeAt, t.Paused, t.App = db.Time(enabled), db.Time(made), failures >= maxCodeFailures, app > 0
	return &t, nil
}

func newTOTPSecret() []byte {
	key := make([]byte, totpSecret)
	rand.Read(key)
	return key
}

func newSalt() []byte {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	return salt
}

// insertBackupCodes puts the codes of a new set in the place of all others.
func insertBackupCodes(ctx context.Context, tx *db.Tx, userID string, hashes [][]byte) error {
	if _, err := tx.Exec(ctx, `DELETE FROM backup_codes WHERE user_id = $1`, userID); err != nil {
		return err
	}
	for _, h := range hashes {
		if _, err := tx.Exec(ctx, `INSERT INTO backup_codes (user_id, code_hash) VALUES ($1, $2)`, userID, h); err != nil {
			return err
		}
	}
	return nil
}

// MaskEmail hides most of an address from who looks over a shoulder:
// a•••e@example.com.
func MaskEmail(email string) string {
	local, domain, ok := strings.Cut(email, "@")
	r := []rune(local)
	switch {
	case !ok:
		return ""
	case len(r) < 3:
		return string(r[:min(1, len(r))]) + "•••@" + domain
	}
	return string(r[0]) + "•••" + string(r[len(r)-1]) + "@" + domain
}

// EitherCode is what was typed into a field that takes a code of the app as well
// as a backup code.
func EitherCode(typed string) *SecondFactor {
	_, digits := sixDigits(typed)
	return &SecondFactor{Code: typed, Backup: !digits}
}
