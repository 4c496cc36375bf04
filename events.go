package sandboxer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Event is one change of a sandbox's record. Events of a sandbox are
// numbered from 1 without gaps; a change and its event are one transaction of
// the store. From and State are equal where something other than the state
// changed, such as the expiry.
//
// Every event tells all that is known of the sandbox's identity at that
// moment, so that a reader who has one event needs no other. It never holds a
// secret, and of the inputs only those that the profile declares public:
// values of others are also taken out of Message and Reachability.
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
	ErrorCode  string    `json:"error_code,omitempty"` // see Code; of the failure behind Message
	Profile    string    `json:"profile_id"`
	Extension  string    `json:"extension_id,omitempty"`
	Host       string    `json:"host,omitempty"`
	Policy     Policy    `json:"route_policy,omitempty"`
	Consumer   Consumer  `json:"consumer"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	Previous   Duration  `json:"previous_duration,omitempty"` // time spent in From, when the state changed

	Inputs       map[string]string `json:"inputs,omitempty"`       // those that the profile declares public
	Loosened     []string          `json:"loosened,omitempty"`     // rules of admission that the profile allows and the workspace made use of
	Resources    *Resources        `json:"resources,omitempty"`    // the caps of every container that the profile asks for
	Estimate     *Cost             `json:"estimate,omitempty"`     // of the chosen host
	Reachability *Reachability     `json:"reachability,omitempty"` // while it can be reached
}

// newEvent describes the change of r from a state to what r holds now.
func newEvent(r *Record, from State, since time.Time, now time.Time) Event {
	s := r.Sandbox
	hide := redaction(s.Profile, s.Inputs)
	e := Event{
		Seq: r.Seq + 1, Time: now, SandboxID: s.ID, Generation: s.Generation,
		From: from, State: s.State, Reason: s.Reason, Message: hide(s.Message), ErrorCode: s.ErrorCode,
		Profile: s.Profile.ID, Extension: s.Extension, Host: s.Host, Policy: s.Route.Policy,
		Consumer: s.Consumer, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt,
		Inputs: publicInputs(s.Profile, s.Inputs), Loosened: s.Admission.loosenedRules(), Estimate: s.Route.estimate(s.Host),
	}
	e.ID = fmt.Sprintf("%s-%d", s.ID, e.Seq)
	if from != "" && from != s.State {
		e.Previous = Duration(now.Sub(since))
	}
	if s.Profile.Resources != (Resources{}) {
		e.Resources = &s.Profile.Resources
	}
	if s.State == StateReady || s.State == StateActive {
		e.Reachability = s.Reachability.redacted(hide)
	}
	return e
}

// publicInputs are the inputs whose values may leave the record.
func publicInputs(p Profile, inputs map[string]string) map[string]string {
	var public map[string]string
	for name, value := range inputs {
		if p.Inputs[name].Public {
			if public == nil {
				public = map[string]string{}
			}
			public[name] = value
		}
	}
	return public
}

// minRedacted is the length from which the value of an input is taken out of
// messages: shorter ones, such as "1", stand in every other word.
const minRedacted = 4

// redaction returns the function that takes the values of inputs that are not
// public out of a text, also as %q writes them; the longest first, since one
// may hold another.
func redaction(p Profile, inputs map[string]string) func(string) string {
	var private []string
	for name, value := range inputs {
		if !p.Inputs[name].Public && len(value) >= minRedacted {
			private = append(private, name)
		}
	}
	slices.SortFunc(private, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(inputs[b]), len(inputs[a])), cmp.Compare(a, b))
	})
	var pairs []string
	for _, name := range private {
		quoted := strconv.Quote(inputs[name])
		for _, form := range []string{inputs[name], quoted[1 : len(quoted)-1]} {
			pairs = append(pairs, form, "[input "+name+"]")
		}
	}
	return strings.NewReplacer(pairs...).Replace
}

// redacted is a copy without what a compose file may have taken from inputs:
// names of services and ports, and what they would have been published on.
func (r *Reachability) redacted(hide func(string) string) *Reachability {
	if r == nil {
		return nil
	}
	out := *r
	out.Services = slices.Clone(r.Services)
	for i := range out.Services {
		s := &out.Services[i]
		s.Name, s.State = hide(s.Name), hide(s.State)
		s.Containers, s.Ports = slices.Clone(s.Containers), slices.Clone(s.Ports)
		for j := range s.Containers {
			s.Containers[j] = hide(s.Containers[j])
		}
		for j := range s.Ports {
			s.Ports[j].Name, s.Ports[j].Published = hide(s.Ports[j].Name), hide(s.Ports[j].Published)
		}
	}
	return &out
}

// An EventSink receives events of each sandbox in order, at least once, after
// they are stored. An error never fails or delays the operation that caused
// the event: it stays in the store's outbox and is offered again, unless a
// [DeliveryError] says otherwise. Emit is called concurrently, for different
// sandboxes only, and returns promptly when ctx ends.
type EventSink interface {
	Emit(ctx context.Context, e Event) error
}

// EventSinkFunc makes a function an EventSink.
type EventSinkFunc func(ctx context.Context, e Event) error

// Emit calls f.
func (f EventSinkFunc) Emit(ctx context.Context, e Event) error { return f(ctx, e) }

// A DeliveryError is how a sink says more than that it did not take an event.
type DeliveryError struct {
	Err error
	// Permanent: offering this event again is of no use. It becomes a dead
	// letter at once, and the sandbox's next event is offered.
	Permanent bool
	// RetryAfter is how long the sink wants to be left alone, with all events.
	RetryAfter time.Duration
}

func (e *DeliveryError) Error() string { return e.Err.Error() }
func (e *DeliveryError) Unwrap() error { return e.Err }
