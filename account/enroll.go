package account

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/harmony/id/db"
)

// A Purpose is what an enrollment is for.
type Purpose string

// The purposes of enrollments.
const (
	PurposeTOTP  Purpose = "totp"  // an authenticator app, with backup codes
	PurposeCodes Purpose = "codes" // new backup codes
	PurposeKeys  Purpose = "keys"  // backup codes of who has passkeys, and no app
)

// enrollmentLife is how long what was shown can still be confirmed.
const enrollmentLife = 15 * time.Minute

// An Enrollment is what a session is being shown and has not confirmed yet.
// Nothing of it is of use before (NIST SP 800-63B-4 4.1: one factor must not yield
// another): the codes become valid in the transaction that confirms.
type Enrollment struct {
	Key       string // the set-up key: base32, without spaces
	URI       string // otpauth:, what the QR code says
	Codes     []string
	CreatedAt time.Time

	plain enrollmentPlain
}

// enrollmentPlain is what is sealed in the row.
type enrollmentPlain struct {
	Secret []byte   `json:"secret,omitempty"`
	Codes  []string `json:"codes"`
	Salt   []byte   `json:"salt"`
	Hashes [][]byte `json:"hashes"`
}

// Enroll begins to set up what purpose says, for one session. While that is not
// over, beginning again changes nothing, so that a reload or a second tab shows
// the same; anew throws it away. Another session's set-up ends. Its errors are
// ErrProofNeeded, ErrOn, ErrOff, ErrNotFound (without a passkey), ErrBusy and
// *ThrottledError.
func (s *Store) Enroll(ctx context.Context, in *Session, purpose Purpose, anew bool) error {
	if err := in.may(purpose); err != nil {
		return err
	}
	if !anew {
		if _, err := s.Enrollment(ctx, in, purpose); !errors.Is(err, ErrNoEnrollment) {
			return err
		}
	}
	if err := s.reserve(ctx, []lane{{"enroll/" + in.UserID, setUpsPerPerson, passwordWindow, false}}, time.Now()); err != nil {
		return err // ten hashes each: not for a loop
	}
	plain := enrollmentPlain{Codes: newBackupCodes(), Salt: newSalt()}
	if purpose == PurposeTOTP {
		plain.Secret = newTOTPSecret()
	}
	for _, code := range plain.Codes {
		canonical, _ := canonicalBackupCode(code)
		h, err := s.hashBackupCode(ctx, canonical, plain.Salt)
		if err != nil {
			return err
		}
		plain.Hashes = append(plain.Hashes, h)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return fmt.Errorf("beginning a set-up: %w", err)
	}
	now := time.Now()
	_, err = s.db.Exec(ctx, `
		INSERT INTO enrollments (user_id, session_id, purpose, sealed, created_at, expires_at)
		SELECT $1, $2, $3, $4, $5, $6 FROM sessions WHERE id = $2 AND ended_at IS NULL
		ON CONFLICT (user_id) DO UPDATE
		SET session_id = excluded.session_id, purpose = excluded.purpose, sealed = excluded.sealed, created_at = excluded.created_at, expires_at = excluded.expires_at
		WHERE $7 = 1 OR enrollments.session_id <> excluded.session_id OR enrollments.purpose <> excluded.purpose OR enrollments.expires_at <= excluded.created_at`,
		in.UserID, in.ID, string(purpose), s.pending.Seal(text, "enrollments/"+in.UserID), db.Micros(now), db.Micros(now.Add(enrollmentLife)), flag(anew))
	if err != nil {
		return fmt.Errorf("beginning a set-up: %w", err)
	}
	return nil
}

// may says what keeps a session from what purpose says.
func (in *Session) may(purpose Purpose) error {
	switch {
	case purpose == PurposeTOTP && in.App, purpose == PurposeKeys && in.TwoFactor:
		return ErrOn
	case purpose == PurposeKeys && !in.Passkeys:
		return ErrNotFound
	case purpose != PurposeCodes && !in.FreshBest():
		return ErrProofNeeded
	case purpose == PurposeCodes && !in.TwoFactor:
		return ErrOff
	case purpose == PurposeCodes && !in.SecondFresh():
		return ErrProofNeeded
	}
	return nil
}

// Enrollment returns what the session is being shown. Its errors are
// ErrNoEnrollment and those that say why the session may not go on with it.
func (s *Store) Enrollment(ctx context.Context, in *Session, purpose Purpose) (*Enrollment, error) {
	if err := in.may(purpose); err != nil {
		return nil, err
	}
	var sealed []byte
	var created int64
	err := s.db.QueryRow(ctx, `
		SELECT sealed, created_at FROM enrollments WHERE user_id = $1 AND session_id = $2 AND purpose = $3 AND expires_at > $4`,
		in.UserID, in.ID, string(purpose), db.Micros(time.Now())).Scan(&sealed, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoEnrollment
	}
	if err != nil {
		return nil, fmt.Errorf("reading a set-up: %w", err)
	}
	text, err := s.pending.Open(sealed, "enrollments/"+in.UserID)
	if err != nil {
		return nil, fmt.Errorf("set-up of %s: %w", in.UserID, err)
	}
	e := &Enrollment{CreatedAt: db.Time(created)}
	if err := json.Unmarshal(text, &e.plain); err != nil {
		return nil, fmt.Errorf("set-up of %s: %w", in.UserID, err)
	}
	e.Codes = e.plain.Codes
	if purpose == PurposeTOTP {
		e.Key = base32Key.EncodeToString(e.plain.Secret)
		e.URI = otpauth(e.Key, in.Email)
	}
	return e, nil
}

// otpauth is what an authenticator app reads from the QR code. Its defaults (SHA-1,
// six digits, 30 s) are left unsaid: some apps read them wrong.
func otpauth(key, email string) string {
	label := url.PathEscape(totpIssuer) + ":" + strings.ReplaceAll(url.QueryEscape(email), "+", "%20")
	return "otpauth://totp/" + label + "?secret=" + key + "&issuer=" + url.QueryEscape(totpIssuer)
}

// taken takes the enrollment away in the transaction that confirms it: of those
// who confirm at once, one wins and the others get ErrNoEnrollment.
func (e *Enrollment) taken(ctx context.Context, tx *db.Tx, in *Session, purpose Purpose) error {
	n, err := tx.Exec(ctx, `
		DELETE FROM enrollments WHERE user_id = $1 AND session_id = $2 AND purpose = $3 AND created_at = $4
		AND EXISTS (SELECT 1 FROM sessions WHERE id = $2 AND ended_at IS NULL)`,
		in.UserID, in.ID, string(purpose), db.Micros(e.CreatedAt))
	if err == nil && n == 0 {
		return ErrNoEnrollment
	}
	return err
}

// EnableTwoFactor confirms the set-up of a session by a code of the new
// authenticator: from then on every sign-in asks for one. The code's step is
// spent, the session is raised and goes on under a new token; with endOthers the
// person's other sessions end. Its errors are ErrWrong, ErrOn, ErrNoEnrollment,
// ErrProofNeeded and ErrNoSession.
func (s *Store) EnableTwoFactor(ctx context.Context, in *Session, code string, endOthers bool, d Device) (token string, err error) {
	e, err := s.Enrollment(ctx, in, PurposeTOTP)
	if err != nil {
		return "", err
	}
	digits, ok := sixDigits(code)
	if !ok {
		return "", ErrWrong
	}
	now := time.Now()
	step, err := matchStep(e.plain.Secret, digits, 0, now)
	if err != nil {
		return "", err
	}
	err = s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if err := e.taken(ctx, tx, in, PurposeTOTP); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `
			INSERT INTO totp (user_id, secret_sealed, last_step, failures, backup_failures, enabled_at, codes_salt, codes_total, codes_made_at)
			VALUES ($1, $2, $3, 0, 0, $4, $5, $6, $4)
			ON CONFLICT (user_id) DO UPDATE SET secret_sealed = excluded.secret_sealed, last_step = excluded.last_step,
				codes_salt = excluded.codes_salt, codes_total = excluded.codes_total, codes_made_at = excluded.codes_made_at
			WHERE length(totp.secret_sealed) = 0`, // an app beside passkeys
			in.UserID, s.totp.Seal(e.plain.Secret, "totp/"+in.UserID), step, db.Micros(now), e.plain.Salt, len(e.plain.Codes))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrOn
		}
		if err := insertBackupCodes(ctx, tx, in.UserID, e.plain.Hashes); err != nil {
			return err
		}
		if token, err = raise(ctx, tx, in, []string{amrOTP, amrMFA}, now); err != nil {
			return err
		}
		ev := Event{Kind: EventTwoFactorEnabled, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{Total: len(e.plain.Codes)}}
		if endOthers {
			if ev.Detail.Ended, err = endSessions(ctx, tx, in.UserID, in.ID, person, now); err != nil {
				return err
			}
		}
		return Record(ctx, tx, ev)
	})
	return token, s.told("enabling two-factor authentication", err)
}

// EnableByPasskeys confirms the backup codes of a person who wants their passkeys asked
// for: from then on every sign-in needs one, or a backup code; no app is asked for. The
// session goes on as it is; with endOthers the person's other sessions end. Its errors
// are ErrNoEnrollment, ErrProofNeeded, ErrOn, and ErrNotFound for who has no passkey.
func (s *Store) EnableByPasskeys(ctx context.Context, in *Session, endOthers bool, d Device) error {
	e, err := s.Enrollment(ctx, in, PurposeKeys)
	if err != nil {
		return err
	}
	now := time.Now()
	return s.told("enabling two-factor authentication", s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if err := e.taken(ctx, tx, in, PurposeKeys); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `
			INSERT INTO totp (user_id, secret_sealed, last_step, failures, backup_failures, enabled_at, codes_salt, codes_total, codes_made_at)
			SELECT $1, $2, 0, 0, 0, $3, $4, $5, $3 FROM users u WHERE u.id = $1 AND EXISTS (SELECT 1 FROM passkeys p WHERE p.user_id = u.id)
			ON CONFLICT DO NOTHING`, in.UserID, []byte{}, db.Micros(now), e.plain.Salt, len(e.plain.Codes))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		if err := insertBackupCodes(ctx, tx, in.UserID, e.plain.Hashes); err != nil {
			return err
		}
		ev := Event{Kind: EventTwoFactorEnabled, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{Total: len(e.plain.Codes)}}
		if endOthers {
			if ev.Detail.Ended, err = endSessions(ctx, tx, in.UserID, in.ID, person, now); err != nil {
				return err
			}
		}
		return Record(ctx, tx, ev)
	}))
}

// MakeCodes confirms new backup codes, which take the place of all others. Its
// errors are ErrNoEnrollment, ErrProofNeeded and ErrOff.
func (s *Store) MakeCodes(ctx context.Context, in *Session, d Device) error {
	e, err := s.Enrollment(ctx, in, PurposeCodes)
	if err != nil {
		return err
	}
	now := time.Now()
	return s.told("making backup codes", s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if err := e.taken(ctx, tx, in, PurposeCodes); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `UPDATE totp SET codes_salt = $1, codes_total = $2, codes_made_at = $3 WHERE user_id = $4`,
			e.plain.Salt, len(e.plain.Codes), db.Micros(now), in.UserID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrOff
		}
		if err := insertBackupCodes(ctx, tx, in.UserID, e.plain.Hashes); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventCodesMade, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: Detail{Total: len(e.plain.Codes)}})
	}))
}

// DisableTwoFactor deletes a person's authenticator and backup codes. It needs a
// second factor, spent here, unless the session proved one in the last minutes
// (then f is nil). The session goes on under a new token; what it and the others
// proved is one factor from now on. Its errors are ErrProofNeeded, ErrOff, ErrNoSession
// and those of a second factor that is not right.
func (s *Store) DisableTwoFactor(ctx context.Context, in *Session, f *SecondFactor, browser string, d Device) (token string, err error) {
	if !in.TwoFactor {
		return "", ErrOff
	}
	detail := Detail{AMR: in.AMR}
	var p *second
	switch {
	case f != nil:
		failed := Event{Kind: EventConfirmFailed, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d}
		if p, err = s.judge(ctx, failed, s.knownBrowser(browser, in.UserID, in.credential), *f); err != nil {
			return "", err
		}
		detail.AMR = p.amr()
	case !in.SecondFresh():
		return "", ErrProofNeeded
	}
	defer func() {
		if p != nil {
			err = s.refused(ctx, p.key, in.ID, d, err)
		}
	}()
	err = s.inTurn(ctx, in.UserID, func(tx *db.Tx) error {
		if p != nil {
			if _, err := spend(ctx, tx, in.UserID, p); err != nil {
				return err
			}
		}
		n, err := tx.Exec(ctx, `DELETE FROM totp WHERE user_id = $1`, in.UserID)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrOff
		}
		if err := forgetSecond(ctx, tx, in.UserID); err != nil {
			return err
		}
		if token, err = rotate(ctx, tx, in.ID); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: EventTwoFactorOff, UserID: in.UserID, SessionID: in.ID, Actor: person, Device: d, Detail: detail})
	})
	if p != nil {
		s.watch.SecondFactor(outcome(err))
	}
	return token, s.told("disabling two-factor authentication", err)
}

// forgetSecond deletes what goes with an authenticator that is gone: backup
// codes, set-ups, half sign-ins, and what sessions proved by it.
func forgetSecond(ctx context.Context, tx *db.Tx, userID string) error {
	for _, q := range []string{
		`DELETE FROM backup_codes WHERE user_id = $1`,
		`DELETE FROM enrollments WHERE user_id = $1`,
		`DELETE FROM logins WHERE user_id = $1`,
	} {
		if _, err := tx.Exec(ctx, q, userID); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		UPDATE sessions SET acr = $1, second_at = NULL, amr = CASE
			WHEN amr LIKE '`+amrPassword+` %' THEN '`+amrPassword+`' WHEN amr LIKE '`+amrFederated+` %' THEN '`+amrFederated+`'
			ELSE REPLACE(REPLACE(amr, ' `+amrOTP+`', ''), ' `+amrMFA+`', '') END
		WHERE user_id = $2 AND ended_at IS NULL AND `+notWhole, ACR1FA, userID)
	return err
}

// told is acted after an act that the person is told of: the worker is woken.
func (s *Store) told(doing string, err error) error {
	if err == nil {
		s.nudge()
	}
	return s.acted(doing, err)
}

// acted is the end of a person's act: an error that is not one of ours says what
// was being done.
func (s *Store) acted(doing string, err error) error {
	if err == nil {
		return nil
	}
	for _, ours := range []error{
		ErrWrong, ErrUsed, ErrPaused, ErrOn, ErrOff, ErrNoEnrollment, ErrProofNeeded, ErrNoSession, ErrNoLogin, ErrNoLink, ErrNotFound, ErrGoogle, ErrEmailTaken, ErrOtherGoogle,
		ErrNoCeremony, ErrUnknownPasskey, ErrNotVerified, ErrCloned, ErrPasskeyTaken, ErrTooMany, ErrLastWay,
	} {
		if errors.Is(err, ours) {
			return ours
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
