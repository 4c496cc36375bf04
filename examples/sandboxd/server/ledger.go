package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/sand-boxer/sandboxer"
)

// A ledger is the store that the server's client works with. It keeps, at the
// very change that matters, what only the server knows of a request: that the
// sandbox must not have changed, and how many the consumer may have. The first
// holds against every process, the second against this one: another server on
// the same store may let one in at the same moment. And it tells whoever waits
// that there is something to see.
type ledger struct {
	sandboxer.Store
	feed     *feed
	creating sync.Mutex // from counting the sandboxes of a consumer to adding one
}

// An errand is what the store must know of the operation that a context belongs to.
type errand struct {
	quota    int      // most live sandboxes of the consumer; 0 is no limit
	fleeting bool     // it ends with its client, who tells the work whether it left
	only     string   // id of the sandbox that must not have changed
	match    []string // and its entity tags

	mu       sync.Mutex
	changed  bool          // it has, by this operation
	created  bool          // the sandbox is new
	looks    int           // at the sandbox of an idempotency key
	id       string        // of the sandbox, once it is known
	recorded chan struct{} // closed then
}

func newErrand() *errand { return &errand{recorded: make(chan struct{})} }

type errandKey struct{}

func withErrand(ctx context.Context, e *errand) context.Context {
	return context.WithValue(ctx, errandKey{}, e)
}

func errandOf(ctx context.Context) *errand {
	e, _ := ctx.Value(errandKey{}).(*errand)
	return e
}

// found notes which sandbox the work is on.
func (e *errand) found(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.id == "" {
		e.id = id
		close(e.recorded)
	}
}

// sandbox is empty as long as nothing is recorded.
func (e *errand) sandbox() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.id
}

// Create implements [sandboxer.Store].
func (l *ledger) Create(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	e := errandOf(ctx)
	if e != nil && e.quota > 0 {
		l.creating.Lock()
		defer l.creating.Unlock()
		if err := l.underQuota(ctx, r.Sandbox.Consumer, e.quota); err != nil {
			return err
		}
	}
	if err := l.Store.Create(ctx, r, events...); err != nil {
		return err
	}
	if e != nil {
		e.created = true
		e.found(r.Sandbox.ID)
	}
	l.feed.changed(r.Sandbox.ID)
	return nil
}

// room refuses early what Create would refuse after admission and the probes
// of hosts. A key that was used makes no sandbox, and needs no room.
func (l *ledger) room(ctx context.Context, req sandboxer.CreateRequest, quota int) error {
	if quota == 0 {
		return nil
	}
	if req.IdempotencyKey != "" {
		_, err := l.Store.GetByKey(ctx, req.Consumer.Project, req.IdempotencyKey)
		if !errors.Is(err, sandboxer.ErrNotFound) {
			return err
		}
	}
	return l.underQuota(ctx, req.Consumer, quota)
}

func (l *ledger) underQuota(ctx context.Context, c sandboxer.Consumer, quota int) error {
	live, err := l.List(ctx, sandboxer.Filter{Project: c.Project, ActorType: c.ActorType, States: living()})
	if err != nil {
		return err
	}
	live = slices.DeleteFunc(live, func(r *sandboxer.Record) bool { return r.Sandbox.Consumer.Actor != c.Actor })
	if len(live) >= quota {
		return &quotaError{quota: quota, consumer: c}
	}
	return nil
}

func living() []sandboxer.State {
	return slices.DeleteFunc(sandboxer.States(), sandboxer.State.Terminal)
}

// A quotaError matches [sandboxer.ErrLimit].
type quotaError struct {
	quota    int
	consumer sandboxer.Consumer
}

func (e *quotaError) Error() string {
	e.consumer.Run = ""
	return fmt.Sprintf("%v: %s has %d live sandboxes, as many as it may", sandboxer.ErrLimit, e.consumer, e.quota)
}

func (e *quotaError) Is(target error) bool { return target == sandboxer.ErrLimit }

// Get implements [sandboxer.Store]. Until the operation's own first change the
// record must be the one that the request means; that change is by
// compare-and-swap, so nobody comes between.
func (l *ledger) Get(ctx context.Context, id string) (*sandboxer.Record, error) {
	r, err := l.Store.Get(ctx, id)
	if e := errandOf(ctx); err == nil && e != nil && e.only == id {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.changed && !matches(e.match, tagOf(&r.Sandbox)) {
			return nil, &preconditionError{}
		}
	}
	return r, err
}

// A preconditionError matches [sandboxer.ErrConflict].
type preconditionError struct{}

func (*preconditionError) Error() string {
	return "conflict: the sandbox is not as If-Match says: it was changed meanwhile"
}

func (*preconditionError) Is(target error) bool { return target == sandboxer.ErrConflict }

// Update implements [sandboxer.Store].
func (l *ledger) Update(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if err := l.Store.Update(ctx, r, events...); err != nil {
		return err
	}
	if e := errandOf(ctx); e != nil {
		e.mu.Lock()
		e.changed = true
		e.mu.Unlock()
		e.found(r.Sandbox.ID)
	}
	l.feed.changed(r.Sandbox.ID)
	return nil
}

// GetByKey implements [sandboxer.Store]. Whoever looks a second time has seen
// that the request is the same, and waits for its sandbox.
func (l *ledger) GetByKey(ctx context.Context, project, key string) (*sandboxer.Record, error) {
	r, err := l.Store.GetByKey(ctx, project, key)
	if e := errandOf(ctx); err == nil && e != nil {
		if e.looks++; e.looks > 1 {
			e.found(r.Sandbox.ID)
		}
	}
	return r, err
}

// EventsAfter implements [sandboxer.EventPager], with what the store can do.
func (l *ledger) EventsAfter(ctx context.Context, after sandboxer.EventPosition, project string, limit int) ([]sandboxer.Event, error) {
	return sandboxer.EventsAfter(ctx, l.Store, after, project, limit)
}

// Close implements [io.Closer].
func (l *ledger) Close() error {
	if closer, ok := l.Store.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// tagOf is the entity tag of what is recorded of a sandbox.
func tagOf(s *sandboxer.Sandbox) string {
	recorded := *s
	recorded.Observed = nil
	text, err := json.Marshal(recorded)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// matches compares strongly: a weak tag matches nothing.
func matches(tags []string, tag string) bool {
	return slices.Contains(tags, "*") || slices.Contains(tags, tag)
}
