// Package crowd fills an empty database with people, as a service of some size and
// age has them: what they sign in with, their sessions, what those gave to
// workspaces, and what happened. The people are real to the product: they sign in
// with the password, the code and the backup code that Fill tells of.
//
// It is for tests and measurements. The product does not have it, and it refuses a
// database in which there is anybody.
package crowd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/idp"
	"github.com/harmony/id/secret"
)

// A Size says how many there are. The zero value of a field means its default.
type Size struct {
	Users    int // default 1000
	Sessions int // default two for each person
	Grants   int // default five for each two sessions
	Over     int // of a hundred sessions, how many house-keeping has yet to delete
	Known    int // of how many people Filled tells; default 100
}

func (s Size) complete() Size {
	s.Users = cmp.Or(s.Users, 1000)
	s.Sessions = cmp.Or(s.Sessions, 2*s.Users)
	s.Grants = cmp.Or(s.Grants, 5*s.Sessions/2)
	s.Known = min(cmp.Or(s.Known, 100), s.Users)
	return s
}

// Password is everybody's who signs in with one.
const Password = "a crowd of honest strangers"

// A Person is one of the crowd, who signs in with Password.
type Person struct {
	ID, Email    string
	TOTP         string // what the authenticator app knows, in base32; "": there is none
	BackupCode   string // with TOTP: one that was not used
	RefreshToken string // of a living grant of Workspace
	Workspace    Workspace
}

// A Workspace is a confidential client.
type Workspace struct{ ID, Secret string }

// Filled is what came of Fill.
type Filled struct {
	People []Person
	Rows   map[string]int // by table
}

// chunk is how many people are written in one transaction.
const chunk = 1000

// Fill makes a crowd in a migrated database that nobody is in, with the keys of ring.
func Fill(ctx context.Context, databaseURL string, ring *secret.Ring, size Size) (*Filled, error) {
	d, err := db.Open(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	out, err := fill(ctx, d, databaseURL, ring, size.complete())
	return out, errors.Join(err, d.Close())
}

func fill(ctx context.Context, d *db.DB, databaseURL string, ring *secret.Ring, size Size) (*Filled, error) {
	var people int
	if err := d.QueryRow(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM users LIMIT 1) AS one`).Scan(&people); err != nil {
		return nil, err
	}
	if people > 0 {
		return nil, errors.New("there are people in this database: a crowd is made in an empty one")
	}
	m, err := newMaker(ctx, d, ring, size)
	if err != nil {
		return nil, fmt.Errorf("the first of the crowd: %w", err)
	}
	workers := 1 // as SQLite has writers
	open := func() (sink, error) { return sqliteSink{d}, nil }
	if d.Engine() == "postgres" {
		const most = 4
		workers = most
		open = func() (sink, error) { return openCopy(ctx, databaseURL) }
	}
	out := &Filled{Rows: map[string]int{}}
	known := make([][]Person, (size.Users+chunk-1)/chunk)
	var (
		next   atomic.Int64
		failed atomic.Bool
		mu     sync.Mutex // of out.Rows and errs
		errs   []error
		wg     sync.WaitGroup
	)
	work := func() error {
		s, err := open()
		if err != nil {
			return err
		}
		defer s.close()
		for !failed.Load() {
			n := int(next.Add(1)) - 1
			if n >= len(known) {
				return nil
			}
			tables, people := m.chunk(n)
			if err := s.write(ctx, tables); err != nil {
				return fmt.Errorf("people %d and after: %w", n*chunk, err)
			}
			known[n] = people
			mu.Lock()
			for _, t := range tables {
				out.Rows[t.name] += len(t.rows)
			}
			mu.Unlock()
		}
		return nil
	}
	for range workers {
		wg.Go(func() {
			if err := work(); err != nil {
				failed.Store(true)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, people := range known {
		out.People = append(out.People, people...)
	}
	return out, nil
}

// A pattern is what the product made for the first of the crowd, the rest has it as
// well: hashing takes too long to be done for each.
type pattern struct {
	passwordHash string
	codesSalt    []byte
	codeHashes   [][]byte // of a full set of backup codes
	codes        []string // the codes
}

// makePattern has a person sign up, sign in and set two-factor authentication up, and
// reads what that wrote.
func makePattern(ctx context.Context, d *db.DB, ring *secret.Ring) (*pattern, error) {
	store := account.New(d, ring, account.Config{})
	const email = "first@crowd.example"
	operator := account.Actor{Kind: "operator", Name: "crowd"}
	u, err := store.CreateUser(ctx, account.NewUser{Email: email, EmailVerified: true, Name: "First Of All", Password: Password}, operator)
	if err != nil {
		return nil, err
	}
	here := account.Device{Address: "192.0.2.1", Network: "192.0.2.1/32", UserAgent: agents[0]}
	l, err := store.CheckPassword(ctx, account.Attempt{Email: email, Password: Password, Device: here})
	if err != nil {
		return nil, err
	}
	way, err := store.Complete(ctx, l, "", "")
	if err != nil {
		return nil, err
	}
	in, err := store.Session(ctx, way.Session)
	if err != nil {
		return nil, err
	}
	if err := store.Enroll(ctx, in, account.PurposeTOTP, false); err != nil {
		return nil, err
	}
	shown, err := store.Enrollment(ctx, in, account.PurposeTOTP)
	if err != nil {
		return nil, err
	}
	code, err := totp.GenerateCode(shown.Key, time.Now())
	if err != nil {
		return nil, err
	}
	if _, err := store.EnableTwoFactor(ctx, in, code, false, here); err != nil {
		return nil, err
	}
	p := &pattern{codes: shown.Codes}
	if err := d.QueryRow(ctx, `SELECT u.password_hash, t.codes_salt FROM users u JOIN totp t ON t.user_id = u.id WHERE u.id = $1`, u.ID).Scan(&p.passwordHash, &p.codesSalt); err != nil {
		return nil, err
	}
	rows, err := d.Query(ctx, `SELECT code_hash FROM backup_codes WHERE user_id = $1`, u.ID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h []byte
		if err := rows.Scan(&h); err != nil {
			return nil, err
		}
		p.codeHashes = append(p.codeHashes, h)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	// Nobody is told by mail of what the crowd did.
	_, err = d.Exec(ctx, `UPDATE events SET due_at = NULL WHERE user_id = $1`, u.ID)
	return p, err
}

// The workspaces of the crowd: every fourth is public, every fourth wants to be told when a
// session ends, the last one asks people for their consent.
const workspaces = 12

func makeWorkspaces(ctx context.Context, d *db.DB) (out []workspace, err error) {
	clients := idp.NewClients(d)
	for i := range workspaces {
		c := idp.Client{
			ID: fmt.Sprintf("workspace-%02d", i), Name: fmt.Sprintf("Workspace %d", i), RequirePKCE: true,
			RedirectURIs: []string{fmt.Sprintf("https://workspace-%02d.example/callback", i)}, ThirdParty: i == workspaces-1,
		}
		switch i % 4 {
		case 1:
			c.AuthMethod = idp.AuthNone
		case 2:
			c.BackchannelLogoutURI = fmt.Sprintf("https://workspace-%02d.example/ended", i)
		}
		made, plain, err := clients.Create(ctx, c, "", "crowd")
		if err != nil {
			return nil, err
		}
		out = append(out, workspace{Client: made, secret: plain})
	}
	return out, nil
}

type workspace struct {
	*idp.Client
	secret string
}
