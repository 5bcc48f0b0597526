package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A load is people who sign in, refresh, change and leave, and look at what became of
// it. Each client has people of its own.
type load struct {
	fleet   *fleet
	record  *record
	clients [][]*person
	orders  []chan *sync.WaitGroup // have a client audit its people

	watcher   *person // does nothing but ask
	writes    *watch  // how long nobody could refresh
	documents *watch  // how long nobody could read the JWKS

	stop    context.CancelFunc
	running sync.WaitGroup
}

// newLoad makes people and workspaces: clients times each, of whom every third gets
// two-factor authentication and rests for so long between sign-ins with a code.
func newLoad(f *fleet, rec *record, clients, each int, rest time.Duration) (*load, error) {
	l := &load{fleet: f, record: rec, writes: &watch{}, documents: &watch{}}
	apps := []app{{id: "spa", redirect: "https://spa.example.com/callback"}, {id: "web", redirect: "https://web.example.com/callback"}}
	for i := range apps {
		args := []string{"client", "create", "--id", apps[i].id, "--name", apps[i].id, "--redirect-uri", apps[i].redirect, "-o", "json"}
		if apps[i].id == "spa" {
			args = append(args, "--public")
		}
		text, err := f.run("", args...)
		if err != nil {
			return nil, err
		}
		var made struct {
			Secret string `json:"client_secret"`
		}
		if err := json.Unmarshal([]byte(text), &made); err != nil {
			return nil, fmt.Errorf("client create: %w", err)
		}
		apps[i].secret = made.Secret
	}
	var lines strings.Builder
	for c := range clients + 1 {
		front, straight := roads(f, rec, c)
		var all []*person
		if c == clients {
			each = 1
		}
		for i := range each {
			p := &person{
				issuer: f.issuer, record: rec, front: front, straight: straight, apps: apps, rest: rest,
				email: fmt.Sprintf("person%d.%d@example.com", c, i), passwords: []string{"endure " + rand.Text()},
			}
			line, err := importLine(p)
			if err != nil {
				return nil, err
			}
			fmt.Fprintln(&lines, line)
			all = append(all, p)
		}
		if c == clients {
			l.watcher = all[0]
			break
		}
		l.clients, l.orders = append(l.clients, all), append(l.orders, make(chan *sync.WaitGroup))
	}
	file := filepath.Join(f.dir, "people.ndjson")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		return nil, err
	}
	_, err := f.run("", "user", "import", "-f", file)
	return l, err
}

// importLine is a person as "user import" reads them.
func importLine(p *person) (string, error) {
	const rounds, salt = 1000, "endurance"
	key, err := pbkdf2.Key(sha256.New, p.passwords[0], []byte(salt), rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	line, err := json.Marshal(map[string]any{
		"email": p.email, "email_verified": true, "name": "Endurance " + p.email,
		"password_hash": fmt.Sprintf("pbkdf2_sha256$%d$%s$%s", rounds, salt, base64.StdEncoding.EncodeToString(key)),
	})
	return string(line), err
}

// enroll gives every third of each client's people an app.
func (l *load) enroll() error {
	errs := make([]error, len(l.clients))
	var all sync.WaitGroup
	for c, people := range l.clients {
		all.Go(func() {
			for i, p := range people {
				if i%3 == 0 {
					errs[c] = errors.Join(errs[c], p.enable())
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// start has everybody begin.
func (l *load) start() error {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for c, people := range l.clients {
		l.running.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case done := <-l.orders[c]:
					for _, p := range people {
						p.audit()
					}
					done.Done()
				case <-time.After(20 * time.Millisecond):
					people[i%len(people)].turn()
				}
			}
		})
	}
	p := l.watcher
	d := p.signIn()
	if d == nil {
		stop()
		return errors.New("nobody can sign in")
	}
	if p.connect(d, p.apps[1], false); len(d.grants) != 1 {
		stop()
		return errors.New("nobody can connect")
	}
	g := d.grants[0]
	l.running.Go(func() {
		l.writes.run(ctx, 20*time.Millisecond, func() bool {
			return granted(p.token(p.front, g.app, refreshing(g.refresh), (*browser).send))
		})
	})
	l.running.Go(func() {
		b := newBrowser(p.issuer, p.record)
		l.documents.run(ctx, 50*time.Millisecond, func() bool {
			a := b.send(p.front, "/jwks", nil)
			if a.status != http.StatusOK {
				l.record.wrong("workspaces cannot verify tokens: %s", a)
			}
			return a.status == http.StatusOK
		})
	})
	return nil
}

// audit has everybody hold their ledger against the provider, and waits for it.
func (l *load) audit() {
	var all sync.WaitGroup
	all.Add(len(l.orders))
	for _, o := range l.orders {
		o <- &all
	}
	all.Wait()
}

// halt stops the load.
func (l *load) halt() {
	l.stop()
	l.running.Wait()
}

// close has everybody close their ledger.
func (l *load) close() {
	var all sync.WaitGroup
	for _, people := range l.clients {
		all.Go(func() {
			for _, p := range people {
				p.close()
			}
		})
	}
	all.Wait()
}

// A fault is what is done to a provider under load, and what nobody may notice of it.
type fault struct {
	name  string
	cuts  bool // requests may be cut: what they run in is killed
	away  bool // requests may be answered with 503: there is no database
	cause func() error
}

// An outcome is what was noticed.
type outcome struct {
	fault
	tally
	writes, documents time.Duration // the longest that nobody was served
}

// suffer causes a fault, and then has everybody look at their ledger.
func (l *load) suffer(f fault) (outcome, error) {
	began, before := time.Now(), l.record.sum()
	if err := f.cause(); err != nil {
		return outcome{}, fmt.Errorf("%s: %w", f.name, err)
	}
	l.audit()
	o := outcome{f, l.record.sum().minus(before), l.writes.longest(began), l.documents.longest(began)}
	if o.cut > 0 && !f.cuts {
		l.record.wrong("%s: %d requests were cut", f.name, o.cut)
	}
	if o.tally.away > 0 && !f.away {
		l.record.wrong("%s: %d requests were answered with 503", f.name, o.tally.away)
	}
	return o, nil
}
