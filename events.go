package sandboxer

import (
	"context"
	"fmt"
	"time"
)

// An Event is one change of a sandbox's record. Events of a sandbox are
// numbered from 1 without gaps; a change and its event are one transaction of
// the store. From and State are equal where something other than the state
// changed, such as the expiry.
type Event struct {
	ID         string    `json:"id"` // sandbox id and seq: equal ids are the same event
	Seq        int64     `json:"seq"`
	Time       time.Time `json:"time"` // UTC
	SandboxID  string    `json:"sandbox_id"`
	Generation int       `json:"generation"`
	From       State     `json:"from,omitempty"` // empty on the first event
	State      State     `json:"state"`
	Reason     Reason    `json:"reason"`
	Message    string    `json:"message,omitempty"`
	Profile    string    `json:"profile_id"`
	Extension  string    `json:"extension_id,omitempty"`
	Host       string    `json:"host,omitempty"`
	Policy     Policy    `json:"route_policy,omitempty"`
	Consumer   Consumer  `json:"consumer"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	Previous   Duration  `json:"previous_duration,omitempty"` // time spent in From, when the state changed
}

// An EventSink receives events of each sandbox in order, at least once, after
// they are stored. An error never fails or delays the operation that caused
// the event: it stays in the store's outbox and [Client.Deliver] offers it again.
type EventSink interface {
	Emit(ctx context.Context, e Event) error
}

// EventSinkFunc makes a function an EventSink.
type EventSinkFunc func(ctx context.Context, e Event) error

// Emit calls f.
func (f EventSinkFunc) Emit(ctx context.Context, e Event) error { return f(ctx, e) }

// newEvent describes the change of r from a state to what r holds now.
func newEvent(r *Record, from State, since time.Time, now time.Time) Event {
	s := r.Sandbox
	e := Event{
		Seq: r.Seq + 1, Time: now, SandboxID: s.ID, Generation: s.Generation,
		From: from, State: s.State, Reason: s.Reason, Message: s.Message,
		Profile: s.Profile.ID, Extension: s.Extension, Host: s.Host, Policy: s.Route.Policy,
		Consumer: s.Consumer, ExpiresAt: s.ExpiresAt,
	}
	e.ID = fmt.Sprintf("%s-%d", s.ID, e.Seq)
	if from != "" && from != s.State {
		e.Previous = Duration(now.Sub(since))
	}
	return e
}

// Deliver offers undelivered events to the configured sink until none is due,
// ctx ends, or the sink fails for every sandbox that has some. It returns how
// many were accepted. Several processes may deliver from one store: a claim
// with an expiry keeps them from each other's sandboxes. Call it on a timer or
// after operations; without a sink it does nothing.
func (c *Client) Deliver(ctx context.Context) (int, error) {
	if c.sink == nil {
		return 0, nil
	}
	delivered := 0
	for ctx.Err() == nil {
		batch, err := c.store.ClaimEvents(ctx, c.now().Add(deliveryClaim), deliveryBatch)
		if err != nil || len(batch) == 0 {
			return delivered, fail("deliver", nil, err)
		}
		n, err := c.deliverBatch(ctx, batch)
		delivered += n
		if err != nil {
			return delivered, fail("deliver", nil, err)
		}
	}
	return delivered, fail("deliver", nil, context.Cause(ctx))
}

const (
	deliveryClaim = 30 * time.Second
	deliveryBatch = 100
)

// deliverBatch emits events in order; a sandbox whose event was refused keeps
// the rest of its events for later, so that order holds.
func (c *Client) deliverBatch(ctx context.Context, batch []Event) (delivered int, err error) {
	refused := map[string]bool{}
	for _, e := range batch {
		if refused[e.SandboxID] {
			continue
		}
		if err := c.sink.Emit(ctx, e); err != nil {
			refused[e.SandboxID] = true
			c.log.WarnContext(ctx, "event not accepted", "sandbox", e.SandboxID, "seq", e.Seq, "error", err)
			if err := c.store.DelayEvents(ctx, e.SandboxID, c.now()); err != nil {
				return delivered, err
			}
			continue
		}
		delivered++
		if err := c.store.AckEvents(ctx, e.SandboxID, e.Seq); err != nil {
			return delivered, err
		}
	}
	return delivered, nil
}
