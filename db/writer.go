package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// maxBatch is how many writes share a commit at most.
const maxBatch = 64

// A writer is SQLite's one writing connection and the queue before it.
//
// There is no goroutine that owns it. Whoever finds it free leads: it takes
// what waits, its own job included, runs it all in one transaction, and hands
// the lead to the first of those that came meanwhile. So a lone write costs
// no change of goroutine, and a crowd shares the wait for the disk. The
// function of a DB.Tx always runs on the goroutine that called it.
type writer struct {
	pool *sql.DB
	conn *sql.Conn
	raw  *sqliteConn // conn, below database/sql
	// The leader's alone, as conn and raw are.
	soft  bool // commits do not wait for the disk
	crowd bool // the last batch was of several jobs, or others came meanwhile

	mu     sync.Mutex
	queue  []*job
	spare  []*job // the last batch's memory
	busy   bool   // somebody leads
	closed bool
	idle   chan struct{} // closed when nobody leads any more; made by close
}

// A job is one write: a statement, or a transaction's function.
type job struct {
	ctx       context.Context
	soft      bool
	query     string
	args      []any
	dest      []any
	returning bool
	fn        func(*Tx) error
	observe   func(ctx context.Context, query string)

	n    int64
	err  error
	gone bool // fn left its goroutine, by panic or runtime.Goexit: nobody waits for the answer

	turn chan turn     // tells the goroutine that waits what to do
	ran  chan struct{} // tells the leader that fn has run
}

type turn int

const (
	turnAnswered turn = iota
	turnToRun
	turnToLead
)

// A batch is what runs in one transaction.
type batch struct {
	jobs  []*job
	own   *job // the leader's: it needs no waking
	begun bool
	next  int
	err   error // what broke the transaction, for all of them
}

func newWriter(ctx context.Context, c driver.Connector) (*writer, error) {
	w := &writer{pool: sql.OpenDB(sqliteConnector{c})}
	w.pool.SetMaxOpenConns(1)
	var err error
	if w.conn, err = w.pool.Conn(ctx); err != nil {
		return nil, errors.Join(err, w.pool.Close())
	}
	err = w.conn.Raw(func(c any) error {
		w.raw = c.(*sqliteConn)
		return nil
	})
	if err == nil {
		_, err = w.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout=%d", lockPatience))
	}
	if err != nil {
		return nil, errors.Join(err, w.pool.Close())
	}
	return w, nil
}

func (w *writer) close() error {
	w.mu.Lock()
	w.closed = true
	if w.busy {
		w.idle = make(chan struct{})
		w.mu.Unlock()
		<-w.idle
	} else {
		w.mu.Unlock()
	}
	return errors.Join(w.conn.Close(), w.pool.Close())
}

// do runs j and returns its error, once it is committed or cannot be.
func (w *writer) do(j *job) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.queue = append(w.queue, j)
	if !w.busy {
		w.busy = true
		w.mu.Unlock()
		w.lead(j)
		return j.err
	}
	j.turn = make(chan turn, 1)
	if j.fn != nil {
		j.ran = make(chan struct{}, 1)
	}
	w.mu.Unlock()
	for {
		switch <-j.turn {
		case turnAnswered:
			return j.err
		case turnToLead:
			w.lead(j)
			return j.err
		case turnToRun:
			w.runForLeader(j)
		}
	}
}

func (w *writer) runForLeader(j *job) {
	j.gone = true
	defer func() { j.ran <- struct{}{} }()
	w.transaction(j)
	j.gone = false
}

// lead takes the jobs that wait, own first among them, and runs them.
func (w *writer) lead(own *job) {
	if w.crowd { // those just answered may be about to write again: let them share this commit
		runtime.Gosched()
	}
	w.mu.Lock()
	b := &batch{jobs: w.queue, own: own}
	w.queue = w.spare[:0]
	if len(b.jobs) > maxBatch {
		w.queue = append(w.queue, b.jobs[maxBatch:]...)
		b.jobs = b.jobs[:maxBatch]
	}
	w.mu.Unlock()
	w.run(b)
}

// run does what is left of b, answers its jobs and hands the lead on.
func (w *writer) run(b *batch) {
	if !b.begun {
		b.err = w.begin(b)
		b.begun = true
	}
	for b.err == nil && b.next < len(b.jobs) {
		j := b.jobs[b.next]
		b.next++
		w.step(b, j)
		b.err = w.raw.broken
	}
	if b.err == nil {
		if err := w.control("COMMIT"); err != nil {
			b.err = fmt.Errorf("committing: %w", err)
		}
	}
	if b.err != nil {
		_ = w.control("ROLLBACK") // SQLite may have done so itself
		w.raw.broken = nil
	}
	for _, j := range b.jobs {
		if b.err != nil && j.err == nil {
			j.n, j.err = 0, b.err
		}
		if j != b.own && !j.gone {
			j.turn <- turnAnswered
		}
	}
	w.handOn(b)
}

func (w *writer) handOn(b *batch) {
	clear(b.jobs)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crowd = len(b.jobs) > 1 || len(w.queue) > 0
	w.spare = b.jobs[:0]
	if len(w.queue) > 0 {
		w.queue[0].turn <- turnToLead
		return
	}
	w.busy = false
	if w.idle != nil {
		close(w.idle)
	}
}

func (w *writer) begin(b *batch) error {
	soft := true
	for _, j := range b.jobs {
		soft = soft && j.soft
	}
	if soft != w.soft {
		pragma := "PRAGMA synchronous=FULL"
		if soft {
			pragma = "PRAGMA synchronous=NORMAL"
		}
		if err := w.control(pragma); err != nil {
			return err
		}
		w.soft = soft
	}
	return w.lock()
}

// Another process may have SQLite's lock. SQLite itself looks for it less and less
// often, down to ten times a second, and beside a process that writes all the time,
// for whom the lock is free for moments only, may find it taken for five seconds. So
// it is told to give up early and then begins to look anew.
const lockPatience = 10 // milliseconds, in which SQLite looks four times or five

var lockTries = 500 // of so long: five seconds in all; a test waits less

func (w *writer) lock() error {
	for try := 1; ; try++ {
		err := w.control("BEGIN IMMEDIATE")
		if !busy(err) || try == lockTries {
			return err
		}
		w.raw.broken = nil
	}
}

// step runs one job of b on its own goroutine, or on this one if any will do.
func (w *writer) step(b *batch, j *job) {
	if j.err = j.ctx.Err(); j.err != nil {
		return
	}
	switch {
	case j.fn == nil:
		w.statement(j)
	case j != b.own:
		j.turn <- turnToRun
		<-j.ran
	default:
		j.gone = true
		defer func() {
			if j.gone { // this goroutine is ending, and others wait for it
				go w.run(b)
			}
		}()
		w.transaction(j)
		j.gone = false
	}
}

func (w *writer) statement(j *job) {
	if j.returning {
		j.err = returning(context.Background(), w.conn, j.query, j.args, j.dest)
	} else {
		j.n, j.err = exec(context.Background(), w.conn, j.query, j.args)
	}
}

// transaction runs j's function between savepoints, so that the others of its
// batch do not notice when it fails.
func (w *writer) transaction(j *job) {
	if j.err = w.control("SAVEPOINT job"); j.err != nil {
		return
	}
	tx := &Tx{via: w.conn, observe: j.observe, local: true}
	ok := false
	defer func() {
		tx.end()
		if !ok {
			_ = w.control("ROLLBACK TO job") // if it fails, the whole batch does
		}
		if err := w.control("RELEASE job"); ok {
			j.err = err
		}
	}()
	j.err = j.fn(tx)
	ok = j.err == nil
}

// control runs a statement of the writer's own. Any failure breaks the batch.
func (w *writer) control(statement string) error {
	_, err := w.conn.ExecContext(context.Background(), statement)
	if err != nil && w.raw.broken == nil {
		w.raw.broken = err
	}
	return err
}
