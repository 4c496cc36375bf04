package remote

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// slots bounds the sessions open on one connection. It starts from what we
// allow ourselves and learns what the host allows.
type slots struct {
	max int

	mu      sync.Mutex
	used    int
	limit   int           // at most max
	learned time.Time     // when the host last refused a session
	freed   chan struct{} // closed and replaced whenever a slot gets free
}

// A limit learned from a refusal is forgotten after a while, because sessions
// the host counted and we did not may have ended.
const forgetLimit = time.Minute

func newSlots(n int) *slots {
	return &slots{max: n, limit: n, freed: make(chan struct{})}
}

// acquire takes a slot, waiting for one until ctx ends or lost is closed.
func (s *slots) acquire(ctx context.Context, lost <-chan struct{}) error {
	for {
		s.mu.Lock()
		if s.limit < s.max && time.Since(s.learned) >= forgetLimit {
			s.limit = s.max
		}
		if s.used < s.limit {
			s.used++
			s.mu.Unlock()
			return nil
		}
		freed := s.freed
		s.mu.Unlock()

		select {
		case <-freed:
		case <-time.After(forgetLimit):
		case <-lost:
			return errLost
		case <-ctx.Done():
			return fmt.Errorf("wait for a free session: %w", ended(ctx))
		}
	}
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free()
}

func (s *slots) free() {
	s.used--
	close(s.freed)
	s.freed = make(chan struct{})
}

// tight reports whether the host allows fewer sessions than we would open.
func (s *slots) tight() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit < s.max
}

// refused gives back a slot for which the host granted no session, and reports
// whether others are open: then there is one to wait for, and no more than
// those are asked for from now on.
func (s *slots) refused() (others bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free()
	if s.used == 0 {
		return false
	}
	s.limit = min(s.limit, s.used)
	s.learned = time.Now()
	return true
}
