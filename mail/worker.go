package mail

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/harmony/id/account"
	"github.com/harmony/id/device"
)

// An Outbox has what is still to be told; account.Store is one.
type Outbox interface {
	// ClaimLetters returns up to most letters that are due, which are the caller's
	// alone for some minutes.
	ClaimLetters(ctx context.Context, most int) ([]account.Letter, error)
	LetterSent(ctx context.Context, id string) error
	LetterFailed(ctx context.Context, id, why string, wait time.Duration) error
	LetterGivenUp(ctx context.Context, id, why string) error
	// Letters has a value when there may be something new.
	Letters() <-chan struct{}
}

// How a worker works: it looks for letters every so often, besides when it is
// woken, and sends so many at once. It claims no more than it sends at once, so that
// no letter waits for another that hangs.
const (
	lookEvery = 2 * time.Second
	atOnce    = 4
)

// What failed is tried again after a wait that doubles, for three days.
const (
	firstWait = 30 * time.Second
	lastWait  = time.Hour
	patience  = 3 * 24 * time.Hour
)

// noteTimeout bounds how long it takes to write down what became of a letter,
// which is done even while stopping.
const noteTimeout = 5 * time.Second

// A Worker tells people what happened to their account. Any number of them may
// share one outbox.
type Worker struct {
	outbox Outbox
	sender Sender
	cfg    Config
	places *device.Places
	log    *slog.Logger
}

// NewWorker returns a worker, which works while Run runs. Without a log it is the
// default one.
func NewWorker(outbox Outbox, sender Sender, cfg Config, places *device.Places, log *slog.Logger) *Worker {
	if log == nil {
		log = slog.Default()
	}
	if cfg.Watch == nil {
		cfg.Watch = func(string) {}
	}
	return &Worker{outbox: outbox, sender: sender, cfg: cfg, places: places, log: log}
}

// Run sends what there is to send until ctx ends. What is not sent by then is any
// worker's again.
func (w *Worker) Run(ctx context.Context) {
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	r := newRound(w)
	defer r.all.Wait()
	for ctx.Err() == nil {
		n, err := r.take(ctx, func(_ bool, err error) { w.complain(ctx, err) })
		w.complain(ctx, err)
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-every.C:
		case <-w.outbox.Letters():
		}
	}
}

func (w *Worker) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		w.log.Error("mail", "error", err)
	}
}

// Deliver sends everything that is due now and returns how many messages the mail
// server took. A message that it did not take is no error: it is tried again.
func (w *Worker) Deliver(ctx context.Context) (sent int, err error) {
	var mu sync.Mutex
	var errs []error
	r := newRound(w)
	for {
		n, err := r.take(ctx, func(taken bool, err error) {
			mu.Lock()
			defer mu.Unlock()
			if taken {
				sent++
			}
			errs = append(errs, err)
		})
		if n == 0 || err != nil {
			r.all.Wait()
			return sent, errors.Join(append(errs, err)...)
		}
	}
}

// A round is the letters that a worker is sending.
type round struct {
	w    *Worker
	desk chan struct{} // holds a value for each
	all  sync.WaitGroup
}

func newRound(w *Worker) *round { return &round{w: w, desk: make(chan struct{}, atOnce)} }

// take waits until one more letter can be sent, claims as many as can be, and
// returns how many it is. Each is sent by itself, and then told to done.
func (r *round) take(ctx context.Context, done func(sent bool, err error)) (int, error) {
	select {
	case r.desk <- struct{}{}:
		<-r.desk
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	letters, err := r.w.outbox.ClaimLetters(ctx, cap(r.desk)-len(r.desk))
	for _, l := range letters {
		r.desk <- struct{}{}
		r.all.Go(func() {
			defer func() { <-r.desk }()
			done(r.w.tell(ctx, l))
		})
	}
	return len(letters), err
}

// tell sends one letter and writes down what became of it. The log names the
// event, not the person.
func (w *Worker) tell(ctx context.Context, l account.Letter) (sent bool, err error) {
	m, err := Compose(l, w.cfg, w.places)
	if err == nil {
		err = w.sender.Send(ctx, m)
	} else {
		err = &Refused{err}
	}
	note, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	_, refused := errors.AsType[*Refused](err)
	log := w.log.With("event", l.ID, "kind", l.Kind, "tries", l.Tries+1)
	switch {
	case err == nil:
		w.cfg.Watch("sent")
		return true, w.outbox.LetterSent(note, l.ID)
	case !refused && ctx.Err() != nil: // stopping
		return false, w.outbox.LetterFailed(note, l.ID, "", 0)
	case refused || time.Since(l.At) > patience:
		log.Error("mail given up", "error", err.Error())
		w.cfg.Watch("given_up")
		return false, w.outbox.LetterGivenUp(note, l.ID, err.Error())
	}
	wait := min(lastWait, firstWait<<min(l.Tries, 7))
	log.Warn("mail delayed", "again_in", wait.String(), "error", err.Error())
	w.cfg.Watch("delayed")
	return false, w.outbox.LetterFailed(note, l.ID, err.Error(), wait)
}
