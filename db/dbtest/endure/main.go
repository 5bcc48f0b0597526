// Command endure runs two replicas of harmony-id on PostgreSQL behind HAProxy, has
// people sign in, refresh, change passwords and sign out all the time, and meanwhile
// kills replicas, restarts PostgreSQL, restarts the replicas one after the other and
// promotes a standby:
//
//	go run ./db/dbtest/endure
//
// Everybody keeps a ledger of what was confirmed to them. After each fault it is held
// against the provider: what was confirmed is there, what ended stays ended, and what
// is good for one use was taken once, also when both replicas are asked at once. An
// answer of 500 is never right, and a 503 only without a database. It exits with 1 if
// anything of this is not so.
//
// It needs what tools/install.sh installs, and HAProxy. The files that it leaves with
// -keep are logs and what its servers ran with.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/harmony/id/db/dbtest/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "endure:", err)
		os.Exit(1)
	}
}

// options are how much is to be endured.
type options struct {
	configuration           string
	kills, restarts, rounds int
	clients, people         int
	keep                    string
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var o options
	flags := flag.NewFlagSet("endure", flag.ContinueOnError)
	flags.StringVar(&o.configuration, "haproxy", "deploy/haproxy.cfg", "HAProxy's configuration `file`, in which addresses and certificate are replaced")
	flags.IntVar(&o.kills, "kills", 20, "how many times a replica is killed")
	flags.IntVar(&o.restarts, "restarts", 5, "how many times PostgreSQL is restarted")
	flags.IntVar(&o.rounds, "rolling", 3, "how many times both replicas are restarted one after the other, before the standby is promoted and after")
	flags.IntVar(&o.clients, "clients", 8, "how many do something at once")
	flags.IntVar(&o.people, "people", 6, "how many people each of them is, two or more")
	flags.StringVar(&o.keep, "keep", "", "`directory` to leave logs and configuration in")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.clients < 1 || o.people < 2 {
		return errors.New("at least one client, who is two people")
	}
	dir := o.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "harmony-id-endure-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return endure(ctx, o, dir, out)
}

// built builds the program that is to endure.
func built(dir string) (string, error) {
	program := filepath.Join(dir, "harmony-id")
	cmd := exec.Command("go", "build", "-o", program, "github.com/harmony/id/cmd/harmony-id")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// What the servers are told. A standby that lost its primary looks for it at once, for
// nothing is confirmed meanwhile.
var serverSettings = []string{"wal_retrieve_retry_interval=200ms"}

func endure(ctx context.Context, o options, dir string, out io.Writer) (err error) {
	program, err := built(dir)
	if err != nil {
		return err
	}
	primary, err := postgres.New(serverSettings...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, primary.Remove()) }()
	standby, err := primary.Standby(serverSettings...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, standby.Remove()) }()
	f, err := newFleet(dir, program, postgres.URL(primary, standby), 5*time.Second)
	if err != nil {
		return err
	}
	if _, err := f.run("", "migrate", "up"); err != nil {
		return err
	}
	// From now on what is confirmed is on both.
	if err := primary.Exec(`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stopAll()) }()
	if err := f.startAll(ctx); err != nil {
		return err
	}
	proxy, err := f.startHAProxy(o.configuration)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.stop()) }()
	time.Sleep(2 * time.Second) // it has looked who is ready

	rec := &record{}
	l, err := newLoad(f, rec, o.clients, o.people, 75*time.Second)
	if err != nil {
		return err
	}
	if err := l.enroll(); err != nil {
		return err
	}
	if err := l.start(); err != nil {
		return err
	}
	began := time.Now()
	var all []outcome
	for _, one := range faults(ctx, o, f, primary, standby) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		got, err := l.suffer(one)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %s; longest without refreshing %s\n", got.name, got.tally, got.writes.Round(10*time.Millisecond))
		all = append(all, got)
	}
	l.halt()
	time.Sleep(31 * time.Second) // no refresh token has any grace left
	l.close()
	return report(out, all, rec, f, time.Since(began))
}

// faults are everything that is done, in this order.
func faults(ctx context.Context, o options, f *fleet, primary, standby *postgres.Server) (all []fault) {
	all = append(all, fault{name: "nothing", cause: func() error { time.Sleep(10 * time.Second); return nil }})
	for i := range o.kills {
		all = append(all, fault{name: "kill -9 of a replica", cuts: true, cause: func() error { return f.kill(ctx, f.replicas[i%len(f.replicas)]) }})
	}
	for i := range o.restarts {
		one := fault{name: "restart of PostgreSQL", away: true, cause: func() error { return restart(primary, syscall.SIGINT) }}
		if i%2 == 1 {
			one.name, one.cause = "crash of PostgreSQL", func() error { return restart(primary, syscall.SIGQUIT) }
		}
		all = append(all, one)
	}
	rolling := fault{name: "rolling restart", cause: func() error { return f.roll(ctx) }}
	all = append(all, slices.Repeat([]fault{rolling}, o.rounds)...)
	all = append(all, fault{name: "promotion of the standby", away: true, cause: func() error {
		if err := primary.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		if err := standby.Promote(); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		return nil
	}})
	return append(all, rolling)
}

// kill kills a replica and starts another in its place, as whatever watches over it does.
func (f *fleet) kill(ctx context.Context, r *replica) error {
	time.Sleep(time.Duration(mathrand.IntN(500)) * time.Millisecond)
	if _, err := r.stop(syscall.SIGKILL); err != nil {
		return err
	}
	time.Sleep(time.Duration(mathrand.IntN(1000)) * time.Millisecond)
	if err := r.start(); err != nil {
		return err
	}
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	time.Sleep(time.Second) // the proxy sends to it again
	return nil
}

// restart ends PostgreSQL and starts it again.
func restart(pg *postgres.Server, sig syscall.Signal) error {
	if err := pg.Signal(sig); err != nil {
		return err
	}
	if err := pg.Start(); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	return nil
}

// roll restarts the replicas one after the other, each told to stop by SIGTERM.
func (f *fleet) roll(ctx context.Context) error {
	for _, r := range f.replicas {
		state, err := r.stop(syscall.SIGTERM)
		if err != nil {
			return err
		}
		if state.ExitCode() != 0 {
			return fmt.Errorf("replica %s, told to stop: %s", r.name, state)
		}
		if err := r.start(); err != nil {
			return err
		}
		if err := r.awaitReady(ctx); err != nil {
			return err
		}
		time.Sleep(time.Second) // the proxy sends to it again
	}
	return nil
}

// report prints the figures, and fails if anything was wrong.
func report(out io.Writer, all []outcome, rec *record, f *fleet, took time.Duration) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nfault\ttimes\trequests\tcut\t503\tlongest without refreshing\tmedian\tlongest without JWKS")
	var names []string
	by := map[string][]outcome{}
	for _, o := range all {
		if by[o.name] == nil {
			names = append(names, o.name)
		}
		by[o.name] = append(by[o.name], o)
	}
	for _, name := range names {
		var sum tally
		var documents time.Duration
		for _, o := range by[name] {
			sum = tally{sum.requests + o.requests, sum.served + o.served, sum.away + o.tally.away, sum.cut + o.cut}
			documents = max(documents, o.documents)
		}
		slices.SortFunc(by[name], func(a, b outcome) int { return cmp.Compare(a.writes, b.writes) })
		longest, median := by[name][len(by[name])-1].writes, by[name][len(by[name])/2].writes
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", name, len(by[name]), sum.requests, sum.cut, sum.away,
			longest.Round(time.Millisecond), median.Round(time.Millisecond), documents.Round(time.Millisecond))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s in %s; confirmed, or rightly refused:\n", rec.sum(), took.Round(time.Second))
	var acts []string
	for act, n := range rec.acts {
		acts = append(acts, fmt.Sprintf("%7d %s", n, act))
	}
	slices.Sort(acts)
	slices.Reverse(acts)
	fmt.Fprintln(out, strings.Join(acts, "\n"))
	slips, err := f.slips()
	if err != nil {
		return err
	}
	for _, line := range slips {
		rec.wrong("%s", line)
	}
	if len(rec.wrongs) > 0 {
		return fmt.Errorf("%d things are not as they should be:\n%s", len(rec.wrongs), strings.Join(rec.wrongs[:min(40, len(rec.wrongs))], "\n"))
	}
	return nil
}
