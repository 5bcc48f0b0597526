package mail

import (
	"context"
	"sync"
	"time"
)

// kept is how many messages a Mailbox keeps.
const kept = 200

// A Mailbox is a Sender that keeps what it is given, for a developer to read. It
// may be used by many goroutines.
type Mailbox struct {
	mu       sync.Mutex
	messages []Received // oldest first
}

// A Received is a message in a Mailbox.
type Received struct {
	Message
	At time.Time
}

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox { return &Mailbox{} }

// Send keeps the message; the oldest goes when there are too many.
func (b *Mailbox) Send(_ context.Context, m Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, Received{m, time.Now()})
	b.messages = b.messages[max(0, len(b.messages)-kept):]
	return nil
}

// Messages returns what there is, newest first.
func (b *Mailbox) Messages() []Received {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Received, 0, len(b.messages))
	for i := len(b.messages) - 1; i >= 0; i-- {
		out = append(out, b.messages[i])
	}
	return out
}

// Empty forgets everything.
func (b *Mailbox) Empty() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = nil
}
