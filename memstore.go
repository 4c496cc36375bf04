package sandboxer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	reason    string    // of the last failure
	due       time.Time // not to be claimed before; the end of a claim names it
	rewound   time.Time
	dead      map[int64]deadLetter
}

type deadLetter struct {
	reason string
	at     time.Time
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
	m.records[id], m.outbox[id] = clone(r), &outboxState{dead: map[int64]deadLetter{}}
	m.events[id] = cloneAll(events)
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
	m.events[id] = append(m.events[id], cloneAll(events)...)
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
			out = append(out, cloneAll(slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return e.Seq <= after }))...)
		}
	}
	if id != "" {
		return out, nil // by number, also where a clock was set back
	}
	sortByTime(out)
	return out, nil
}

func sortByTime(events []Event) {
	slices.SortFunc(events, func(a, b Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.SandboxID, b.SandboxID), cmp.Compare(a.Seq, b.Seq))
	})
}

// EventsAfter implements [EventPager].
func (m *MemoryStore) EventsAfter(_ context.Context, after EventPosition, project string, limit int) ([]Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Event
	for id, events := range m.events {
		if project != "" && m.records[id].Sandbox.Consumer.Project != project {
			continue
		}
		for _, e := range events {
			if after.Before(e) {
				out = append(out, e)
			}
		}
	}
	sortByTime(out)
	return cloneAll(out[:min(len(out), limit)]), nil
}

// ClaimEvents implements [Store].
func (m *MemoryStore) ClaimEvents(_ context.Context, until time.Time, limit int) ([]Claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Claim
	now := time.Now()
	for id, box := range m.outbox {
		if limit <= 0 || now.Before(box.due) {
			continue
		}
		pending := slices.DeleteFunc(slices.Clone(m.events[id]), func(e Event) bool { return e.Seq <= box.delivered })
		if len(pending) == 0 {
			continue
		}
		pending = pending[:min(len(pending), limit)]
		limit -= len(pending)
		out = append(out, Claim{SandboxID: id, Until: until, Events: cloneAll(pending), Rewound: box.rewound})
		box.due, box.claimed = until, pending[len(pending)-1].Seq
	}
	return out, nil
}

// AckEvents implements [Store].
func (m *MemoryStore) AckEvents(_ context.Context, c Claim, seq int64) error {
	return m.deliver(c, seq, nil)
}

// BuryEvent implements [Store].
func (m *MemoryStore) BuryEvent(_ context.Context, c Claim, seq int64, reason string, at time.Time) error {
	return m.deliver(c, seq, &deadLetter{reason, at.UTC()})
}

// deliver marks events as delivered, the last of them perhaps as dead.
func (m *MemoryStore) deliver(c Claim, seq int64, dead *deadLetter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	box, err := m.claimed(c)
	if err != nil {
		return err
	}
	seq = min(seq, int64(len(m.events[c.SandboxID]))) // what is yet to come is not delivered
	if dead != nil && seq > box.delivered {
		box.dead[seq] = *dead
	}
	box.delivered, box.failures, box.reason = max(seq, box.delivered), 0, ""
	if seq >= box.claimed {
		box.due = time.Time{}
	}
	return nil
}

// claimed is the outbox of a claim that nobody has taken away.
func (m *MemoryStore) claimed(c Claim) (*outboxState, error) {
	box, ok := m.outbox[c.SandboxID]
	switch {
	case !ok:
		return nil, fmt.Errorf("sandbox %s: %w", c.SandboxID, ErrNotFound)
	case !box.due.Equal(c.Until):
		return nil, fmt.Errorf("events of sandbox %s: %w: the claim on them is over", c.SandboxID, ErrConflict)
	}
	return box, nil
}

// DelayEvents implements [Store].
func (m *MemoryStore) DelayEvents(_ context.Context, c Claim, reason string, due func(failures int) time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	box, err := m.claimed(c)
	if err != nil {
		return err
	}
	if reason != "" {
		box.failures++
		box.reason = reason
	}
	box.due = due(box.failures)
	return nil
}

// RewindEvents implements [Store].
func (m *MemoryStore) RewindEvents(_ context.Context, id string, seq int64, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	box, ok := m.outbox[id]
	if !ok {
		return fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	}
	box.delivered = max(0, min(box.delivered, seq-1))
	box.failures, box.reason, box.due, box.rewound = 0, "", time.Time{}, at.UTC()
	maps.DeleteFunc(box.dead, func(dead int64, _ deadLetter) bool { return dead >= seq })
	return nil
}

// Undelivered implements [Store].
func (m *MemoryStore) Undelivered(_ context.Context, id string) ([]Undelivered, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Undelivered
	for _, owner := range slices.Sorted(maps.Keys(m.outbox)) {
		if id != "" && id != owner {
			continue
		}
		box := m.outbox[owner]
		for _, e := range cloneAll(m.events[owner]) {
			dead, isDead := box.dead[e.Seq]
			switch {
			case isDead:
				out = append(out, Undelivered{Event: e, Dead: true, Reason: dead.reason, DeadSince: dead.at})
			case e.Seq > box.delivered:
				out = append(out, Undelivered{Event: e, Reason: box.reason, Failures: box.failures, DueAt: box.due})
			}
		}
	}
	return out, nil
}

// clone copies a record or an event deeply: what a store holds is never shared
// with a caller.
func clone[T any](v *T) *T {
	text, err := json.Marshal(v)
	if err != nil {
		panic("record does not marshal: " + err.Error()) // every field is plain data
	}
	out := new(T)
	if err := json.Unmarshal(text, out); err != nil {
		panic("record does not unmarshal: " + err.Error())
	}
	return out
}

func cloneAll(events []Event) []Event {
	if events == nil {
		return nil
	}
	out := make([]Event, len(events))
	for i := range events {
		out[i] = *clone(&events[i])
	}
	return out
}
