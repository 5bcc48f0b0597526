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
	ClaimLetters(ctx context.Context, most int) ([]account.Letter, error)
	LetterSent(ctx context.Context, id string) error
	LetterFailed(ctx context.Context, id string, wait time.Duration) error
	LetterGivenUp(ctx context.Context, id, why string) error
	Letters() <-chan struct{}
}

// How a worker works: it looks for letters every so often, besides when it is
// woken, takes so many at a time and sends so many at once, so that one that
// hangs does not hold up the others.
const (
	lookEvery = 2 * time.Second
	claimed   = 20
	atOnce    = 4
)

// What failed is tried again after a wait that doubles, for three days.
const (
	firstWait = 30 * time.Second
	lastWait  = time.Hour
	patience  = 3 * 24 * time.Hour
)

// A Worker tells people what happened to their account. Any number of them may
// share one outbox.
type Worker struct {
	outbox Outbox
	sender Sender
	cfg    Config
	places *device.Places
	log    *slog.Logger
}

// NewWorker returns a worker, which works while Run runs.
func NewWorker(outbox Outbox, sender Sender, cfg Config, places *device.Places, log *slog.Logger) *Worker {
	if log == nil {
		log = slog.Default()
	}
	return &Worker{outbox: outbox, sender: sender, cfg: cfg, places: places, log: log}
}

// Run sends what there is to send until ctx ends. What it holds then is sent by
// the next worker, once its lease is over.
func (w *Worker) Run(ctx context.Context) {
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	for {
		if _, err := w.Deliver(ctx); err != nil && ctx.Err() == nil {
			w.log.Error("mail", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-w.outbox.Letters():
		}
	}
}

// Deliver sends everything that is due now and returns how many messages the mail
// server took. A message that it did not take is no error: it is tried again.
func (w *Worker) Deliver(ctx context.Context) (sent int, err error) {
	for {
		letters, err := w.outbox.ClaimLetters(ctx, claimed)
		if err != nil || len(letters) == 0 {
			return sent, err
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		var errs []error
		slots := make(chan struct{}, atOnce)
		for _, l := range letters {
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				ok, err := w.tell(ctx, l)
				mu.Lock()
				defer mu.Unlock()
				if ok {
					sent++
				}
				errs = append(errs, err)
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return sent, err
		}
	}
}

// tell sends one letter and writes down what became of it. The log names the
// event, not the person.
func (w *Worker) tell(ctx context.Context, l account.Letter) (sent bool, err error) {
	m, err := Compose(l, w.cfg, w.places)
	if err != nil {
		w.log.Error("mail given up", "event", l.ID, "kind", l.Kind, "error", err.Error())
		return false, w.outbox.LetterGivenUp(ctx, l.ID, err.Error())
	}
	err = w.sender.Send(ctx, m)
	if err == nil {
		return true, w.outbox.LetterSent(ctx, l.ID)
	}
	if ctx.Err() != nil {
		return false, nil // stopping: the lease ends by itself
	}
	_, refused := errors.AsType[*Refused](err)
	if refused || time.Since(l.At) > patience {
		w.log.Error("mail given up", "event", l.ID, "kind", l.Kind, "tries", l.Tries+1, "error", err.Error())
		return false, w.outbox.LetterGivenUp(ctx, l.ID, err.Error())
	}
	wait := min(lastWait, firstWait<<min(l.Tries, 7))
	w.log.Warn("mail delayed", "event", l.ID, "kind", l.Kind, "tries", l.Tries+1, "again_in", wait.String(), "error", err.Error())
	return false, w.outbox.LetterFailed(ctx, l.ID, wait)
}
