package server

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// A feed tells streams which sandboxes have something new. It carries no
// events: streams read them from the store, so that a slow one loses nothing
// and holds nobody up.
type feed struct {
	mu   sync.Mutex
	subs map[*subscription]bool
}

func newFeed() *feed { return &feed{subs: map[*subscription]bool{}} }

// A subscription collects what one stream has yet to look at.
type subscription struct {
	only string // sandbox; empty is all
	wake chan struct{}

	mu      sync.Mutex
	dirty   map[string]bool
	reports map[string]report // the last of each sandbox
}

// A report is progress, and whose.
type report struct {
	api.Report
	consumer sandboxer.Consumer
}

func (f *feed) subscribe(only string) (*subscription, func()) {
	sub := &subscription{only: only, wake: make(chan struct{}, 1), dirty: map[string]bool{}, reports: map[string]report{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[sub] = true
	return sub, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, sub)
	}
}

func (f *feed) streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs)
}

// changed: there are new events of a sandbox.
func (f *feed) changed(id string) {
	f.tell(id, func(sub *subscription) { sub.dirty[id] = true })
}

func (f *feed) progressed(r report) {
	f.tell(r.SandboxID, func(sub *subscription) { sub.reports[r.SandboxID] = r })
}

func (f *feed) tell(id string, note func(*subscription)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for sub := range f.subs {
		if sub.only != "" && sub.only != id {
			continue
		}
		sub.mu.Lock()
		note(sub)
		sub.mu.Unlock()
		select {
		case sub.wake <- struct{}{}:
		default:
		}
	}
}

// take gives what was collected, and forgets it.
func (sub *subscription) take() (ids []string, reports []report) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	ids, reports = slices.Sorted(maps.Keys(sub.dirty)), slices.Collect(maps.Values(sub.reports))
	clear(sub.dirty)
	clear(sub.reports)
	return ids, reports
}

// lookEvery is how often the store is asked what other processes did.
const lookEvery = 2 * time.Second

// lookElsewhere makes streams follow what other processes do with the store:
// it compares the numbers of the live sandboxes' last events.
func (s *Server) lookElsewhere(ctx context.Context) {
	known := map[string]int64{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.feed.streams() == 0 {
			continue
		}
		live, err := s.ledger.List(ctx, sandboxer.Filter{States: living()})
		if err != nil {
			s.log.WarnContext(ctx, "the store cannot be read", "error", err)
			continue
		}
		now := map[string]int64{}
		for _, r := range live {
			now[r.Sandbox.ID] = r.Seq
			if known[r.Sandbox.ID] != r.Seq {
				s.feed.changed(r.Sandbox.ID)
			}
		}
		for id := range known {
			if _, still := now[id]; !still {
				s.feed.changed(id)
			}
		}
		known = now
	}
}
