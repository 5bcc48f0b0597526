package account

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// A Method is how a person signs in. It is fixed when the account is made.
type Method string

// The methods of sign-in.
const (
	MethodPassword Method = "password"
	MethodGoogle   Method = "google"
)

// A User is a person with an account.
type User struct {
	ID            string // also the sub of every token (public subject type)
	Email         string // lower case, NFC
	EmailVerified bool
	Name          string
	Claims        Claims
	Method        Method
	HasPassword   bool
	CreatedAt     time.Time
	UpdatedAt     time.Time
	DisabledAt    time.Time // zero: enabled
}

// Claims are the standard claims of a person (OIDC Core 5.1) that are not
// columns of User. The JSON is what a workspace receives.
type Claims struct {
	GivenName           string   `json:"given_name,omitempty"`
	FamilyName          string   `json:"family_name,omitempty"`
	MiddleName          string   `json:"middle_name,omitempty"`
	Nickname            string   `json:"nickname,omitempty"`
	PreferredUsername   string   `json:"preferred_username,omitempty"`
	Profile             string   `json:"profile,omitempty"`
	Picture             string   `json:"picture,omitempty"`
	Website             string   `json:"website,omitempty"`
	Gender              string   `json:"gender,omitempty"`
	Birthdate           string   `json:"birthdate,omitempty"` // YYYY-MM-DD, 0000-MM-DD or YYYY
	Zoneinfo            string   `json:"zoneinfo,omitempty"`
	Locale              string   `json:"locale,omitempty"`
	PhoneNumber         string   `json:"phone_number,omitempty"` // E.164
	PhoneNumberVerified bool     `json:"phone_number_verified,omitempty"`
	Address             *Address `json:"address,omitempty"`
}

// Address is the address claim (OIDC Core 5.1.1).
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

var (
	birthdate   = regexp.MustCompile(`^([0-9]{4}|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]))$`)
	phoneNumber = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
)

// maxClaim bounds the length of a claim in bytes.
const maxClaim = 1000

// check refuses claims that are not what OIDC Core 5.1 says they are: workspaces
// show them and make links of them.
func (c Claims) check() error {
	address := Address{}
	if c.Address != nil {
		address = *c.Address
	}
	for name, v := range map[string]string{
		"given_name": c.GivenName, "family_name": c.FamilyName, "middle_name": c.MiddleName, "nickname": c.Nickname,
		"preferred_username": c.PreferredUsername, "profile": c.Profile, "picture": c.Picture, "website": c.Website, "gender": c.Gender,
		"birthdate": c.Birthdate, "zoneinfo": c.Zoneinfo, "locale": c.Locale, "phone_number": c.PhoneNumber,
		"address.street_address": strings.ReplaceAll(address.StreetAddress, "\n", ""), "address.formatted": strings.ReplaceAll(address.Formatted, "\n", ""),
		"address.locality": address.Locality, "address.region": address.Region, "address.postal_code": address.PostalCode, "address.country": address.Country,
	} {
		if len(v) > maxClaim || !utf8.ValidString(v) || strings.ContainsFunc(v, unprintable) {
			return &InvalidError{name, fmt.Sprintf("is longer than %d bytes or has characters that cannot be seen", maxClaim)}
		}
	}
	for name, v := range map[string]string{"profile": c.Profile, "picture": c.Picture, "website": c.Website} {
		if u, err := url.Parse(v); v != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			return &InvalidError{name, "is not an http or https URL"}
		}
	}
	if c.Birthdate != "" && !birthdate.MatchString(c.Birthdate) {
		return &InvalidError{"birthdate", "is not YYYY-MM-DD, 0000-MM-DD or YYYY"}
	}
	if c.PhoneNumber != "" && !phoneNumber.MatchString(c.PhoneNumber) {
		return &InvalidError{"phone_number", "is not in the form +442079460000 (E.164)"}
	}
	return nil
}

// NewUser is what an account is made from. An empty Password makes an account
// that cannot sign in until it has one.
type NewUser struct {
	Email         string
	EmailVerified bool
	Name          string
	Claims        Claims
	Method        Method    // "" is MethodPassword
	Password      string    // of a person who signs in with one
	PasswordHash  string    // in its place, as another program made it: argon2id, bcrypt or PBKDF2
	Google        *Identity // who a person is who signs in with Google; its issuer and subject
	Device        Device    // where it was asked for
}

// The longest values that are kept.
const (
	maxEmail = 254 // RFC 5321 4.5.3.1.3
	maxName  = 200 // characters
)

// CanonicalEmail returns the one form in which an address is kept and compared:
// NFC, lower case, no space around it (I13 of the security cases). It refuses
// what is not exactly one plain address.
func CanonicalEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable) {
		return "", &InvalidError{"email", "has characters that no address has"}
	}
	s = norm.NFC.String(strings.ToLower(norm.NFC.String(s))) // a letter in lower case may go together with its marks
	if len(s) > maxEmail {
		return "", &InvalidError{"email", fmt.Sprintf("is longer than %d bytes", maxEmail)}
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || a.Name != "" || strings.ContainsAny(s, ` "(),:;<>[]\`) {
		return "", &InvalidError{"email", "is not an address such as ada@example.com"}
	}
	return s, nil
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point) || r == utf8.RuneError
}

// CheckName refuses a display name that is empty, over-long or holds characters
// that cannot be seen (control characters, text direction marks).
func CheckName(field, s string) error {
	switch n := utf8.RuneCountInString(s); {
	case strings.TrimSpace(s) == "":
		return &InvalidError{field, "is empty"}
	case n > maxName:
		return &InvalidError{field, fmt.Sprintf("has %d characters, more than %d", n, maxName)}
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable):
		return &InvalidError{field, "has characters that cannot be seen"}
	}
	return nil
}

// CreateUser makes an account. Its errors are
// *InvalidError, *WeakError and ErrEmailTaken.
func (s *Store) CreateUser(ctx context.Context, n NewUser, by Actor) (*User, error) {
	row, err := s.newRow(n)
	if err != nil {
		return nil, err
	}
	if n.Password != "" {
		if err := s.checkNewPassword(n.Password, row.user.Email, n.Name); err != nil {
			return nil, err
		}
		if row.hash, err = s.hasher.hash(ctx, n.Password); err != nil {
			return nil, err
		}
		row.user.HasPassword = true
	}
	err = s.db.Tx(ctx, func(tx *db.Tx) error { return row.insert(ctx, tx, by) })
	if taken(err) {
		return nil, ErrEmailTaken
	}
	if err != nil {
		return nil, fmt.Errorf("creating a person: %w", err)
	}
	return row.user, nil
}

// A newRow is a person whose account is about to be made.
type newRow struct {
	user            *User
	claims, hash    string
	issuer, subject *string
	device          Device
}

// newRow checks what an account is made from, but for a password in clear.
func (s *Store) newRow(n NewUser) (*newRow, error) {
	email, err := CanonicalEmail(n.Email)
	if err != nil {
		return nil, err
	}
	if err := CheckName("name", n.Name); err != nil {
		return nil, err
	}
	if err := n.Claims.check(); err != nil {
		return nil, err
	}
	r := &newRow{device: n.Device}
	switch {
	case n.Method == MethodGoogle && n.Password+n.PasswordHash != "":
		return nil, &InvalidError{"password", "is not for people who sign in with Google"}
	case n.Method == MethodGoogle && n.Google != nil:
		r.issuer, r.subject = &n.Google.Issuer, &n.Google.Subject
	}
	if n.PasswordHash != "" {
		if r.hash, err = foreignHash(n.PasswordHash, s.hasher.memory); err != nil {
			return nil, &InvalidError{"password_hash", err.Error()}
		}
	}
	claims, err := json.Marshal(n.Claims)
	if err != nil {
		return nil, fmt.Errorf("claims of a new person: %w", err)
	}
	r.claims = string(claims)
	now := time.Now().UTC()
	r.user = &User{
		ID: secret.ID("usr_"), Email: email, EmailVerified: n.EmailVerified, Name: n.Name, Claims: n.Claims,
		Method: cmp.Or(n.Method, MethodPassword), HasPassword: r.hash != "", CreatedAt: now, UpdatedAt: now,
	}
	return r, nil
}

// insert makes the account.
func (r *newRow) insert(ctx context.Context, tx *db.Tx, by Actor) error {
	var changed *int64
	at := db.Micros(r.user.CreatedAt)
	if r.hash != "" {
		changed = &at
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO users (id, email, email_verified, name, claims, method, password_hash, password_changed_at, created_at, updated_at, google_issuer, google_subject)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11)`,
		r.user.ID, r.user.Email, flag(r.user.EmailVerified), r.user.Name, r.claims, string(r.user.Method), orNull(r.hash), changed, at, r.issuer, r.subject); err != nil {
		return err
	}
	return Record(ctx, tx, Event{Kind: "user_created", UserID: r.user.ID, Actor: by, Device: r.device})
}

func taken(err error) bool {
	return db.IsConflict(err, "users", "email") || db.IsConflict(err, "users", "google_issuer,google_subject")
}

// UserColumns are the columns that ScanUser reads, of the table under this alias.
func UserColumns(alias string) string {
	return strings.ReplaceAll(`u.id, u.email, u.email_verified, u.name, u.claims, u.method, u.password_hash IS NOT NULL, u.created_at, u.updated_at, u.disabled_at`, "u.", alias+".")
}

var userColumns = UserColumns("users")

// ScanUser reads a person from a row of UserColumns, for packages that join the
// table to their own.
func ScanUser(scan func(...any) error) (*User, error) {
	var (
		u                User
		claims           string
		verified         int64
		created, updated int64
		disabled         sql.NullInt64
		method           string
	)
	if err := scan(&u.ID, &u.Email, &verified, &u.Name, &claims, &method, &u.HasPassword, &created, &updated, &disabled); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(claims), &u.Claims); err != nil {
		return nil, fmt.Errorf("claims of %s: %w", u.ID, err)
	}
	u.EmailVerified, u.Method = verified == 1, Method(method)
	u.CreatedAt, u.UpdatedAt = db.Time(created), db.Time(updated)
	if disabled.Valid {
		u.DisabledAt = db.Time(disabled.Int64)
	}
	return &u, nil
}

// FindUser returns the person with this id or email address, or ErrNotFound.
func (s *Store) FindUser(ctx context.Context, idOrEmail string) (*User, error) {
	column, value := "id", idOrEmail
	if strings.Contains(idOrEmail, "@") {
		email, err := CanonicalEmail(idOrEmail)
		if err != nil {
			return nil, ErrNotFound
		}
		column, value = "email", email
	}
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) || value == nobody {
		return nil, ErrNotFound
	}
	u, err := ScanUser(s.db.QueryRow(ctx, `SELECT `+userColumns+` FROM users WHERE `+column+` = $1`, value).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("finding a person: %w", err)
	}
	return u, nil
}

// Users returns up to limit people in the order of their addresses, beginning
// after the address after ("" for the first).
func (s *Store) Users(ctx context.Context, after string, limit int) ([]*User, error) {
	rows, err := s.db.Query(ctx, `SELECT `+userColumns+` FROM users WHERE email > $1 ORDER BY email LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("listing people: %w", err)
	}
	defer rows.Close()
	var out []*User
	for rows.Next() {
		u, err := ScanUser(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("listing people: %w", err)
		}
		out = append(out, u)
	}
	return out, rows.Err()
}

// DisableUser refuses a person every sign-in from now on and ends every session,
// and with them every code and token (ASVS 7.4.2). Disabling twice is the same as once.
func (s *Store) DisableUser(ctx context.Context, id string, by Actor) error {
	now := db.Micros(time.Now())
	return s.change(ctx, "disabling", id, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE users SET disabled_at = $1, updated_at = $1 WHERE id = $2 AND disabled_at IS NULL`, now, id)
		if err != nil {
			return err
		}
		if n == 0 {
			return exists(ctx, tx, id)
		}
		if _, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = $1, ended_by = $2 WHERE user_id = $3 AND ended_at IS NULL`, now, by.String(), id); err != nil {
			return err
		}
		if err := forgetLinks(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM enrollments WHERE user_id = $1`, id); err != nil {
			return err
		}
		return Record(ctx, tx, Event{Kind: "user_disabled", UserID: id, Actor: by})
	})
}

// EnableUser lets a disabled person sign in again. Sessions that ended stay ended.
func (s *Store) EnableUser(ctx context.Context, id string, by Actor) error {
	return s.change(ctx, "enabling", id, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE users SET disabled_at = NULL, updated_at = $1 WHERE id = $2 AND disabled_at IS NOT NULL`, db.Micros(time.Now()), id)
		if err != nil {
			return err
		}
		if n == 0 {
			return exists(ctx, tx, id)
		}
		return Record(ctx, tx, Event{Kind: "user_enabled", UserID: id, Actor: by})
	})
}

// nobody is whose the sessions of a deleted person are until their workspaces have
// been told: a row without an address, which nobody can find or sign in as.
const nobody = "-"

// DeleteUser deletes a person and ends every session, code and token. What happened
// stays recorded under the id alone; the id is never given again. Of the sessions their
// ids and times stay for a day, as of any session that ended, for workspaces are
// still to be told of them.
func (s *Store) DeleteUser(ctx context.Context, id string, by Actor) error {
	now := time.Now()
	return s.change(ctx, "deleting", id, func(tx *db.Tx) error {
		if err := exists(ctx, tx, id); err != nil {
			return err
		}
		if _, err := endSessions(ctx, tx, id, "", by, now); err != nil {
			return err
		}
		for _, q := range []struct {
			text string
			args []any
		}{
			{`INSERT INTO users (id, email, email_verified, name, claims, method, created_at, updated_at, disabled_at)
				VALUES ($1, '', 0, '', '{}', 'none', $2, $2, $2) ON CONFLICT (id) DO NOTHING`, []any{nobody, db.Micros(now)}},
			{`UPDATE sessions SET user_id = $1, address = '', user_agent = '' WHERE user_id = $2`, []any{nobody, id}},
			{`DELETE FROM users WHERE id = $1`, []any{id}},
			{`UPDATE events SET address = '', user_agent = '', detail = '{}', due_at = NULL, sealed = NULL WHERE user_id = $1`, []any{id}},
		} {
			if _, err := tx.Exec(ctx, q.text, q.args...); err != nil {
				return err
			}
		}
		return Record(ctx, tx, Event{Kind: "user_deleted", UserID: id, Actor: by})
	})
}

func (s *Store) change(ctx context.Context, doing, id string, fn func(*db.Tx) error) error {
	err := s.inTurn(ctx, id, fn)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s a person: %w", doing, err)
	}
	return err
}

func exists(ctx context.Context, tx *db.Tx, id string) error {
	var one int64
	err := tx.QueryRow(ctx, `SELECT 1 FROM users WHERE id = $1`, id).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) || id == nobody {
		return ErrNotFound
	}
	return err
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
