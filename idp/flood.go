package idp

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// maxWaiting is how many authorization requests one network may have waiting in this
// process: more than a great office begins in half an hour, and little to keep (I18).
const maxWaiting = 10_000

// A flood bounds how many authorization requests wait of each network. It keeps no
// row, for it guards against rows; a replica that starts again begins anew.
type flood struct {
	mu    sync.Mutex
	tats  map[netip.Prefix]time.Time // theoretical arrival times (GCRA)
	swept time.Time
}

// sweepEvery bounds how often networks that are at rest are forgotten.
const sweepEvery = time.Minute

// take counts a request, or says how long it has to wait.
func (f *flood) take(network netip.Prefix, now time.Time) (wait time.Duration) {
	const interval = requestTTL / maxWaiting
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tats == nil || now.Sub(f.swept) > sweepEvery {
		if f.tats == nil {
			f.tats = map[netip.Prefix]time.Time{}
		}
		maps.DeleteFunc(f.tats, func(_ netip.Prefix, tat time.Time) bool { return tat.Before(now) })
		f.swept = now
	}
	tat := f.tats[network]
	if tat.Before(now) {
		tat = now
	}
	if wait = tat.Sub(now) - (requestTTL - interval); wait > 0 {
		return wait
	}
	f.tats[network] = tat.Add(interval)
	return 0
}
