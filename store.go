package sandboxer

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// A Record is a sandbox as stored: the public part, what the extension
// remembers, and who is working on it.
type Record struct {
	Sandbox     Sandbox    `json:"sandbox"`
	Handle      Handle     `json:"handle"`
	Operation   *Operation `json:"operation,omitempty"` // nil while nobody works on it
	Key         string     `json:"key,omitempty"`       // idempotency key of its create
	PayloadHash string     `json:"payload_hash,omitempty"`
	Seq         int64      `json:"seq"`      // of its last event
	Revision    int64      `json:"revision"` // changes with every Update
}

// An Operation is a claim on a record by the process that works on it. It is
// abandoned when that process is known to be gone or Deadline has passed.
type Operation struct {
	Kind     string    `json:"kind"`  // "create", "recreate", "destroy"
	Token    string    `json:"token"` // differs for every operation
	Process  Process   `json:"process"`
	Deadline time.Time `json:"deadline"`
}

// Filter selects records; zero fields match everything.
type Filter struct {
	States    []State
	Project   string
	ActorType ActorType
	Profile   string
	Host      string
	Labels    map[string]string // all must match
}

// Matches reports whether s passes the filter.
func (f Filter) Matches(s *Sandbox) bool {
	for k, v := range f.Labels {
		if got, ok := s.Labels[k]; !ok || got != v {
			return false
		}
	}
	return (len(f.States) == 0 || slices.Contains(f.States, s.State)) &&
		(f.Project == "" || f.Project == s.Consumer.Project) &&
		(f.ActorType == "" || f.ActorType == s.Consumer.ActorType) &&
		(f.Profile == "" || f.Profile == s.Profile.ID) &&
		(f.Host == "" || f.Host == s.Host)
}

// A Claim is what one process may deliver and nobody else meanwhile: events of
// one sandbox, in order.
type Claim struct {
	SandboxID string
	Until     time.Time // when it ends by itself; names it beside the sandbox
	Events    []Event
	Rewound   time.Time // when they were last made undelivered again; zero if never
}

// A Store keeps records and their events across processes. Methods may be
// called concurrently, also from several processes sharing the same storage.
// What a method returns belongs to the caller; what it is given is not kept.
//
// Create and Update write the record and the events in one transaction, so an
// event exists exactly if its change does. The caller numbers the events; a
// store refuses a number that does not continue the sandbox's own sequence.
type Store interface {
	// Create stores a new record at revision 1 and sets r.Revision. It
	// returns ErrExists if the id, or the pair of consumer project and
	// non-empty Key, is taken.
	Create(ctx context.Context, r *Record, events ...Event) error
	// Get returns ErrNotFound for an unknown id.
	Get(ctx context.Context, id string) (*Record, error)
	// GetByKey finds the record that was created with an idempotency key of a
	// project; ErrNotFound if there is none.
	GetByKey(ctx context.Context, project, key string) (*Record, error)
	// List returns matching records, oldest first.
	List(ctx context.Context, f Filter) ([]*Record, error)
	// Update replaces the record if r.Revision is the stored one, and
	// increments it; otherwise it returns ErrConflict and changes nothing.
	Update(ctx context.Context, r *Record, events ...Event) error
	// Events returns the events of a sandbox with a greater Seq, in order; an
	// empty id means all sandboxes, ordered by time, then sandbox, then Seq.
	Events(ctx context.Context, sandboxID string, after int64) ([]Event, error)

	// ClaimEvents returns up to limit undelivered events that are due and not
	// claimed, and claims their sandboxes until the given time. Events of one
	// sandbox are never split between claims.
	ClaimEvents(ctx context.Context, until time.Time, limit int) ([]Claim, error)
	// AckEvents marks the events of a claim up to and including seq as
	// delivered and forgets failures. With the last event of the claim it is
	// given back. Like the next two it is ErrConflict, and changes nothing,
	// once the sandbox was claimed by somebody else, given back or rewound; a
	// claim that only ended by itself still counts.
	AckEvents(ctx context.Context, c Claim, seq int64) error
	// DelayEvents gives a claim back. A reason counts as one more failure in a
	// row and is kept; without one nothing is counted. The sandbox's events are
	// due again at the time that due returns for the number of failures.
	DelayEvents(ctx context.Context, c Claim, reason string, due func(failures int) time.Time) error
	// BuryEvent is AckEvents for an event that was not taken and is given up
	// at that time: it becomes a dead letter with the reason.
	BuryEvent(ctx context.Context, c Claim, seq int64, reason string, at time.Time) error
	// RewindEvents makes the events of a sandbox from seq on undelivered
	// again at that time, due at once; none of them is a dead letter any more,
	// and whoever has a claim on them loses it. ErrNotFound for an unknown id.
	RewindEvents(ctx context.Context, sandboxID string, seq int64, at time.Time) error
	// Undelivered lists the events of a sandbox that are not delivered, and its
	// dead letters, ordered by Seq; an empty id means all sandboxes, ordered by
	// id, then Seq.
	Undelivered(ctx context.Context, sandboxID string) ([]Undelivered, error)
}

// An EventPosition is a place in the list of the events of all sandboxes; the
// zero one is before the first.
type EventPosition struct {
	Time      time.Time
	SandboxID string
	Seq       int64
}

// PositionOf is where e stands.
func PositionOf(e Event) EventPosition {
	return EventPosition{Time: e.Time, SandboxID: e.SandboxID, Seq: e.Seq}
}

// Before reports whether e comes after p.
func (p EventPosition) Before(e Event) bool {
	return cmp.Or(p.Time.Compare(e.Time), cmp.Compare(p.SandboxID, e.SandboxID), cmp.Compare(p.Seq, e.Seq)) < 0
}

// An EventPager is a [Store] that finds a part of the events of all sandboxes
// without reading the rest.
type EventPager interface {
	// EventsAfter returns at most limit events that come after a position, of
	// a project, or of all if it is empty, in the order of Events with an
	// empty id.
	EventsAfter(ctx context.Context, after EventPosition, project string, limit int) ([]Event, error)
}

// EventsAfter is that of a store that is an [EventPager]; of any other, all
// events are read.
func EventsAfter(ctx context.Context, s Store, after EventPosition, project string, limit int) ([]Event, error) {
	if pager, ok := s.(EventPager); ok {
		return pager.EventsAfter(ctx, after, project, limit)
	}
	events, err := s.Events(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	events = slices.DeleteFunc(events, func(e Event) bool {
		return !after.Before(e) || project != "" && e.Consumer.Project != project
	})
	return events[:min(len(events), limit)], nil
}
