package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harmony/id/account"
)

// A box is an outbox in memory. It is as strict as a real one: a letter that is
// claimed is nobody else's until its lease is over, and one that is done is done.
type box struct {
	mu     sync.Mutex
	due    map[string]time.Time // of those that are to be told
	letter map[string]account.Letter
	order  []string
	sent   []string
	gaveUp map[string]string
	claims int
	err    error // of every claim
	new    chan struct{}
}

const lease = 5 * time.Minute

func newBox(letters ...account.Letter) *box {
	b := &box{due: map[string]time.Time{}, letter: map[string]account.Letter{}, gaveUp: map[string]string{}, new: make(chan struct{}, 1)}
	b.put(letters...)
	return b
}

func (b *box) put(letters ...account.Letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range letters {
		b.due[l.ID], b.letter[l.ID], b.order = time.Now(), l, append(b.order, l.ID)
	}
}

func (b *box) ClaimLetters(_ context.Context, most int) (out []account.Letter, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claims++
	for _, id := range b.order {
		if due, ok := b.due[id]; ok && !due.After(time.Now()) && len(out) < most {
			l := b.letter[id]
			out = append(out, l)
			l.Tries++
			b.letter[id], b.due[id] = l, time.Now().Add(lease)
		}
	}
	return out, b.err
}

func (b *box) settle(ctx context.Context, id string, then func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, ok := b.due[id]; !ok {
		return fmt.Errorf("%s is done", id)
	}
	then()
	return nil
}

func (b *box) LetterSent(ctx context.Context, id string) error {
	return b.settle(ctx, id, func() { delete(b.due, id); b.sent = append(b.sent, id) })
}

func (b *box) LetterFailed(ctx context.Context, id, _ string, wait time.Duration) error {
	return b.settle(ctx, id, func() { b.due[id] = time.Now().Add(wait) })
}

func (b *box) LetterGivenUp(ctx context.Context, id, why string) error {
	return b.settle(ctx, id, func() { delete(b.due, id); b.gaveUp[id] = why })
}

func (b *box) Letters() <-chan struct{} { return b.new }

// told are the letters that were sent, and those that were given up.
func (b *box) told() (sent []string, gaveUp map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent), b.gaveUp
}

// looks is how often somebody looked for letters.
func (b *box) looks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.claims
}

// sendFunc is a Sender.
type sendFunc func(ctx context.Context, m Message) error

func (f sendFunc) Send(ctx context.Context, m Message) error { return f(ctx, m) }

// letters are some about one kind of event, of now.
func letters(n int) (out []account.Letter) {
	for i := range n {
		out = append(out, letter(account.EventPasswordChanged, account.Detail{}, func(l *account.Letter) {
			l.ID, l.At = fmt.Sprintf("evt_%02d", i), time.Now()
		}))
	}
	return out
}

// A logbook is a log of a test.
type logbook struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *logbook) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(strings.Lines(l.String()))
}

func newTestWorker(b *box, send sendFunc) (*Worker, *logbook) {
	log := new(logbook)
	return NewWorker(b, send, someCfg, nil, slog.New(slog.NewJSONHandler(log, nil))), log
}

// run has the worker work in the background until stop, which waits for it and
// says how long that took.
func run(t *testing.T, w *Worker) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	return func() time.Duration {
		began := time.Now()
		cancel()
		<-done
		return time.Since(began)
	}
}

func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(letters(50)...)
		var mu sync.Mutex
		var ids []string
		most, now := 0, 0
		w, log := newTestWorker(b, func(_ context.Context, m Message) error {
			mu.Lock()
			ids = append(ids, m.ID)
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		})
		n, err := w.Deliver(t.Context())
		if n != 50 || err != nil {
			t.Errorf("Deliver = %d, %v", n, err)
		}
		slices.Sort(ids)
		if sent, _ := b.told(); len(sent) != 50 || len(slices.Compact(ids)) != 50 || most != atOnce {
			t.Errorf("%d were sent, %d were written down, %d at once", len(ids), len(sent), most)
		}
		if n, err := w.Deliver(t.Context()); n != 0 || err != nil {
			t.Errorf("Deliver of nothing = %d, %v", n, err)
		}
		if l := log.lines(); len(l) != 0 {
			t.Errorf("log: %q", l)
		}
	})
}

// What fails is tried after waits that double up to an hour, for three days.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(letters(1)...)
		began := time.Now()
		var tries []time.Duration
		w, log := newTestWorker(b, func(context.Context, Message) error {
			tries = append(tries, time.Since(began))
			return errors.New("connection refused")
		})
		stop := run(t, w)
		time.Sleep(5 * 24 * time.Hour)
		stop()
		want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour}
		for i, wait := range want {
			if got := (tries[i+1] - tries[i]).Round(lookEvery); got < wait || got > wait+lookEvery {
				t.Errorf("wait %d is %s, want %s", i+1, got, wait)
			}
		}
		last := tries[len(tries)-1]
		if last < patience || last > patience+time.Hour+time.Minute {
			t.Errorf("the last try, of %d, is after %s", len(tries), last)
		}
		if _, gaveUp := b.told(); gaveUp["evt_00"] != "connection refused" {
			t.Errorf("given up: %v", gaveUp)
		}
		lines := log.lines()
		if len(lines) != len(tries) || !strings.Contains(lines[0], `"WARN"`) || !strings.Contains(lines[0], `"again_in":"30s"`) || !strings.Contains(lines[len(lines)-1], `"ERROR","msg":"mail given up","event":"evt_00"`) {
			t.Errorf("%d lines for %d tries: %q … %q", len(lines), len(tries), lines[0], lines[len(lines)-1])
		}
		if strings.Contains(strings.Join(lines, ""), "ada@") {
			t.Error("the log names the person")
		}
	})
}

// What is refused is given up at once, as is what nobody has words for, and the
// others are told all the same.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := letters(3)
		all[1].Kind = "made_up"
		b := newBox(all...)
		w, log := newTestWorker(b, func(_ context.Context, m Message) error {
			if m.ID == "evt_00" {
				return fmt.Errorf("mail server: %w", &Refused{errors.New("no such mailbox")})
			}
			return nil
		})
		if n, err := w.Deliver(t.Context()); n != 1 || err != nil {
			t.Errorf("Deliver = %d, %v", n, err)
		}
		sent, gaveUp := b.told()
		if !slices.Equal(sent, []string{"evt_02"}) || len(gaveUp) != 2 || !strings.Contains(gaveUp["evt_00"], "no such mailbox") || !strings.Contains(gaveUp["evt_01"], "made_up") {
			t.Errorf("sent %q, given up %v", sent, gaveUp)
		}
		lines := log.lines()
		slices.Sort(lines)
		if len(lines) != 2 || !strings.Contains(lines[0]+lines[1], `"kind":"made_up"`) || strings.Count(lines[0]+lines[1], `"mail given up"`) != 2 {
			t.Errorf("log: %q", lines)
		}
	})
}

// EM-07: one that hangs holds up nobody but itself, and whatever else comes
// meanwhile is told.
func TestOneHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(letters(30)...)
		w, _ := newTestWorker(b, func(ctx context.Context, m Message) error {
			if m.ID != "evt_02" {
				return nil
			}
			select {
			case <-time.After(sendTimeout):
				return errors.New("it took too long")
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		stop := run(t, w)
		time.Sleep(lookEvery + time.Second)
		if sent, _ := b.told(); len(sent) != 29 {
			t.Errorf("%d were sent", len(sent))
		}
		late := letter(account.EventSignedIn, account.Detail{}, func(l *account.Letter) { l.ID, l.At = "evt_late", time.Now() })
		b.put(late)
		time.Sleep(lookEvery + time.Second)
		if sent, _ := b.told(); len(sent) != 30 {
			t.Errorf("%d were sent while one hangs", len(sent))
		}
		stop()
	})
}

// When all that can be sent at once hang, no more are claimed than that: another
// worker may have the others.
func TestAllHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(letters(30)...)
		w, _ := newTestWorker(b, func(ctx context.Context, _ Message) error {
			<-ctx.Done()
			return ctx.Err()
		})
		stop := run(t, w)
		time.Sleep(time.Minute)
		other, _ := newTestWorker(b, func(context.Context, Message) error { return nil })
		if n, err := other.Deliver(t.Context()); n != 30-atOnce || err != nil {
			t.Errorf("Deliver = %d, %v", n, err)
		}
		if took := stop(); took != 0 {
			t.Errorf("it took %s to stop", took)
		}
	})
}

// A worker that stops leaves what it was sending to the next, at once; what it has
// sent by then is not sent again.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(letters(6)...)
		w, log := newTestWorker(b, func(ctx context.Context, m Message) error {
			<-ctx.Done()
			if m.ID == "evt_00" {
				return nil // was sent nevertheless
			}
			return ctx.Err()
		})
		stop := run(t, w)
		time.Sleep(time.Second)
		if took := stop(); took != 0 {
			t.Errorf("it took %s to stop", took)
		}
		if l := log.lines(); len(l) != 0 {
			t.Errorf("log: %q", l)
		}
		if sent, gaveUp := b.told(); !slices.Equal(sent, []string{"evt_00"}) || len(gaveUp) != 0 {
			t.Errorf("sent %q, given up %v", sent, gaveUp)
		}
		next, _ := newTestWorker(b, func(context.Context, Message) error { return nil })
		if n, err := next.Deliver(t.Context()); n != 5 || err != nil {
			t.Errorf("Deliver = %d, %v", n, err)
		}
	})
}

// Even a letter that had its three days is not given up because of a stop.
func TestStopGivesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := letters(1)
		old[0].At = time.Now().Add(-2 * patience)
		b := newBox(old...)
		w, _ := newTestWorker(b, func(ctx context.Context, _ Message) error {
			<-ctx.Done()
			return ctx.Err()
		})
		stop := run(t, w)
		time.Sleep(time.Second)
		stop()
		if _, gaveUp := b.told(); len(gaveUp) != 0 {
			t.Errorf("given up: %v", gaveUp)
		}
	})
}

// A worker looks when it is told to, and by itself.
func TestRunWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		w, _ := newTestWorker(b, func(context.Context, Message) error { return nil })
		stop := run(t, w)
		defer stop()
		synctest.Wait()
		b.put(letters(1)...)
		b.new <- struct{}{}
		synctest.Wait()
		if sent, _ := b.told(); len(sent) != 1 {
			t.Errorf("%d were sent when it was woken", len(sent))
		}
		more := letters(3)[1:]
		b.put(more...)
		synctest.Wait()
		if sent, _ := b.told(); len(sent) != 1 {
			t.Errorf("%d were sent before it looked", len(sent))
		}
		time.Sleep(lookEvery)
		synctest.Wait()
		if sent, _ := b.told(); len(sent) != 3 {
			t.Errorf("%d were sent once it looked", len(sent))
		}
		before := b.looks()
		time.Sleep(10 * lookEvery)
		synctest.Wait()
		if n := b.looks() - before; n > 11 {
			t.Errorf("it looked %d times in %s", n, 10*lookEvery)
		}
	})
}

// An outbox that fails is an operator's to hear of, and the worker goes on.
func TestOutboxFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(letters(1)...)
		b.err = errors.New("the database is gone")
		w, log := newTestWorker(b, func(context.Context, Message) error { return nil })
		if n, err := w.Deliver(t.Context()); err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("Deliver = %d, %v", n, err)
		}
		stop := run(t, w)
		time.Sleep(time.Second)
		b.mu.Lock()
		b.err = nil
		b.mu.Unlock()
		b.put(letters(2)[1:]...)
		time.Sleep(lookEvery)
		stop()
		if sent, _ := b.told(); !slices.Contains(sent, "evt_01") {
			t.Errorf("sent: %q", sent)
		}
		if l := log.lines(); len(l) != 1 || !strings.Contains(l[0], "the database is gone") {
			t.Errorf("log: %q", l)
		}
	})
}

// What cannot be written down is said, and does not stop the others.
func TestNotWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(letters(3)...)
		w, _ := newTestWorker(b, func(_ context.Context, m Message) error {
			if m.ID == "evt_01" {
				b.mu.Lock()
				delete(b.due, m.ID)
				b.mu.Unlock()
			}
			return nil
		})
		n, err := w.Deliver(t.Context())
		if n != 3 || err == nil || !strings.Contains(err.Error(), "evt_01") {
			t.Errorf("Deliver = %d, %v", n, err)
		}
	})
}
