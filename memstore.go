package sandboxer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A MemoryStore is a [Store] that ends with its process. Use it in tests and
// in programs that outlive their sandboxes; after a crash only the hosts'
// leases clean up.
type MemoryStore struct {
	mu      sync.Mutex
	records map[string]*Record
	events  map[string][]Event
	outbox  map[string]*outboxState
}

// outboxState is how far the delivery of one sandbox's events has come.
type outboxState struct {
	delivered int64
	claimed   int64 // last event of the running claim
	failures  int
	due       time.Time
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{records: map[string]*Record{}, events: map[string][]Event{}, outbox: map[string]*outboxState{}}
}

// Create implements [Store].
func (m *MemoryStore) Create(_ context.Context, r *Record, events ...Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := r.Sandbox.ID
	if _, taken := m.records[id]; taken {
		return fmt.Errorf("sandbox %s: %w", id, ErrExists)
	}
	if r.Key != "" && m.byKey(r.Sandbox.Consumer.Project, r.Key) != nil {
		return fmt.Errorf("idempotency key: %w", ErrExists)
	}
	if err := checkSequence(0, r, events); err != nil {
		return err
	}
	r.Revision = 1
	m.records[id], m.outbox[id] = clone(r), &outboxState{}
	m.events[id] = slices.Clone(events)
	return nil
}

// Get implements [Store].
func (m *MemoryStore) Get(_ context.Context, id string) (*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[id]
	if !ok {
		return nil, fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	}
	return clone(r), nil
}

// GetByKey implements [Store].
func (m *MemoryStore) GetByKey(_ context.Context, project, key string) (*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.byKey(project, key); r != nil {
		return clone(r), nil
	}
	return nil, fmt.Errorf("idempotency key: %w", ErrNotFound)
}

func (m *MemoryStore) byKey(project, key string) *Record {
	for _, r := range m.records {
		if key != "" && r.Key == key && r.Sandbox.Consumer.Project == project {
			return r
		}
	}
	return nil
}

// List implements [Store].
func (m *MemoryStore) List(_ context.Context, f Filter) ([]*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Record
	for _, r := range m.records {
		if f.Matches(&r.Sandbox) {
			out = append(out, clone(r))
		}
	}
	slices.SortFunc(out, func(a, b *Record) int {
		return cmp.Or(a.Sandbox.CreatedAt.Compare(b.Sandbox.CreatedAt), cmp.Compare(a.Sandbox.ID, b.Sandbox.ID))
	})
	return out, nil
}

// Update implements [Store].
func (m *MemoryStore) Update(_ context.Context, r *Record, events ...Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := r.Sandbox.ID
	stored, ok := m.records[id]
	switch {
	case !ok:
		return fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	case stored.Revision != r.Revision:
		return fmt.Errorf("sandbox %s was changed by another process: %w", id, ErrConflict)
	}
	if err := checkSequence(stored.Seq, r, events); err != nil {
		return err
	}
	r.Revision++
	m.records[id] = clone(r)
	m.events[id] = append(m.events[id], events...)
	return nil
}

// checkSequence refuses events that would leave a gap in a sandbox's numbers.
func checkSequence(last int64, r *Record, events []Event) error {
	for _, e := range events {
		last++
		if e.Seq != last || e.SandboxID != r.Sandbox.ID {
			return fmt.Errorf("event %s of sandbox %s: number %d does not continue at %d: %w", e.ID, r.Sandbox.ID, e.Seq, last, ErrInvalid)
		}
	}
	if r.Seq != last {
		return fmt.Errorf("sandbox %s: seq %d does not match its last event %d: %w", r.Sandbox.ID, r.Seq, last, ErrInvalid)
	}
	return nil
}

// Events implements [Store].
func (m *MemoryStore) Events(_ context.Context, id string, after int64) ([]Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Event
	for owner, events := range m.events {
		if id == "" || id == owner {
			out = append(out, slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Seq <= after })...)
		}
	}
	if id != "" {
		return out, nil // by number, also where a clock was set back
	}
	slices.SortFunc(out, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.SandboxID, b.SandboxID), cmp.Compare(a.Seq, b.Seq))
	})
	return out, nil
}

// ClaimEvents implements [Store].
func (m *MemoryStore) ClaimEvents(_ context.Context, until time.Time, limit int) ([]Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Event
	now := time.Now()
	for id, box := range m.outbox {
		if len(out) >= limit || now.Before(box.due) {
			continue
		}
		pending := slices.DeleteFunc(slices.Clone(m.events[id]), func(e Event) bool { return e.Seq <= box.delivered })
		if len(pending) == 0 {
			continue
		}
		pending = pending[:min(len(pending), limit-len(out))]
		out = append(out, pending...)
		box.due, box.claimed = until, pending[len(pending)-1].Seq
	}
	return out, nil
}

// AckEvents implements [Store].
func (m *MemoryStore) AckEvents(_ context.Context, id string, seq int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	box, ok := m.outbox[id]
	if !ok {
		return fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	}
	seq = min(seq, int64(len(m.events[id]))) // what is yet to come is not delivered
	box.delivered, box.failures = max(seq, box.delivered), 0
	if seq >= box.claimed {
		box.due = time.Time{}
	}
	return nil
}

// DelayEvents implements [Store].
func (m *MemoryStore) DelayEvents(_ context.Context, id string, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	box, ok := m.outbox[id]
	if !ok {
		return fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	}
	box.failures++
	box.due = now.Add(Backoff(box.failures))
	return nil
}

// Backoff is how long delivery waits after n failures in a row: 1s doubling to 5m. Stores use it.
func Backoff(n int) time.Duration {
	const limit = 5 * time.Minute
	if n > 9 {
		return limit
	}
	return min(limit, time.Second<<max(0, n-1))
}

// clone copies a record deeply: what a store holds is never shared with a caller.
func clone(r *Record) *Record {
	text, err := json.Marshal(r)
	if err != nil {
		panic("record does not marshal: " + err.Error()) // every field is plain data
	}
	out := new(Record)
	if err := json.Unmarshal(text, out); err != nil {
		panic("record does not unmarshal: " + err.Error())
	}
	return out
}
