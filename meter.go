package sandboxer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// MeterBy is what usage is added up by.
type MeterBy string

// The ways to add usage up.
const (
	BySandbox  MeterBy = "sandbox"
	ByConsumer MeterBy = "consumer" // project, actor type and actor, whatever the run
	ByProject  MeterBy = "project"
	ByHost     MeterBy = "host" // where it was at the time: one that fell back counts on both
	ByProfile  MeterBy = "profile"
)

// A Meter is what one group of sandboxes used within a window of time, derived
// from event histories alone. Nothing is billed.
//
// A sandbox is held while something of it may stand on a host: provisioning,
// ready, active, failed and destroying count, requested and destroyed do not,
// so neither does the moment between the generations of a recreate. Lost time
// counts if the sandbox was seen again: it was there all along. Lost time that
// ends otherwise, or has not ended, counts as nothing but lost.
type Meter struct {
	By          MeterBy           `json:"by"`
	Key         string            `json:"key"`                // the sandbox's id, the project, …; "none" where there is none
	Consumer    *Consumer         `json:"consumer,omitempty"` // with by sandbox, and without the run with by consumer
	Sandboxes   int               `json:"sandboxes"`          // that spent time in the window
	Generations int               `json:"generations"`        // that began to be provisioned in it
	Seconds     map[State]float64 `json:"seconds"`            // in each state
	Held        float64           `json:"sandbox_seconds"`    // held, as above
	// The caps that the profile asks for, times the containers that ran, times
	// the seconds in which they did: those ready or active, or lost and seen
	// again. A profile without caps counts as 0.
	CPUSeconds    float64  `json:"cpu_seconds"`
	MemorySeconds float64  `json:"memory_byte_seconds"`
	Costs         []Amount `json:"costs"` // by the hosts' prices, for the time held; empty where no price is known
}

// An Amount is money in millionths of a currency unit; a float is not money.
type Amount struct {
	Currency string `json:"currency"` // ISO 4217
	Micros   int64  `json:"micros"`
}

func (a Amount) String() string {
	sign, micros := "", a.Micros
	if micros < 0 {
		sign, micros = "-", -micros
	}
	return fmt.Sprintf("%s%d.%06d %s", sign, micros/1_000_000, micros%1_000_000, a.Currency)
}

// A Window is a span of time. A zero Until is now; a zero Since is the beginning.
type Window struct {
	Since, Until time.Time
}

// MeterOf derives the usage of one sandbox from its complete event history.
// The state it is in counts until the end of the window.
func MeterOf(events []Event, w Window) Meter {
	if len(events) == 0 {
		return Meter{By: BySandbox, Seconds: map[State]float64{}, Costs: []Amount{}}
	}
	for _, m := range MetersOf(events, BySandbox, w) {
		return m
	}
	e := events[0]
	return newTally(BySandbox, e.SandboxID, e).meter
}

// MetersOf adds up the usage in complete event histories of any number of
// sandboxes, in any order, and returns the groups in the order of their keys.
// Groups that spent no time in the window are left out.
func MetersOf(events []Event, by MeterBy, w Window) []Meter {
	if w.Until.IsZero() {
		w.Until = time.Now()
	}
	histories := map[string][]Event{}
	for _, e := range events {
		histories[e.SandboxID] = append(histories[e.SandboxID], e)
	}
	tallies := map[string]*tally{}
	for _, id := range slices.Sorted(maps.Keys(histories)) { // in a fixed order: sums of floats depend on it
		history := histories[id]
		slices.SortFunc(history, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
		for s := range spans(history, w) {
			key := cmp.Or(meterKey(by, s.Event), "none")
			if tallies[key] == nil {
				tallies[key] = newTally(by, key, s.Event)
			}
			tallies[key].add(s)
		}
	}
	out := make([]Meter, 0, len(tallies))
	for _, key := range slices.Sorted(maps.Keys(tallies)) {
		out = append(out, tallies[key].close())
	}
	return out
}

func meterKey(by MeterBy, e Event) string {
	switch by {
	case ByConsumer:
		return withoutRun(e.Consumer).String()
	case ByProject:
		return e.Consumer.Project
	case ByHost:
		return e.Host
	case ByProfile:
		return e.Profile
	}
	return e.SandboxID
}

func withoutRun(c Consumer) Consumer { c.Run = ""; return c }

// A span is the time between an event of a sandbox and the next.
type span struct {
	Event
	length     time.Duration
	starts     bool // a generation begins to be provisioned
	held       bool
	containers int // that ran
}

// spans yields the parts of a history that lie in the window.
func spans(history []Event, w Window) func(yield func(span) bool) {
	return func(yield func(span) bool) {
		containers, generation := 0, 0
		for i, e := range history {
			end := w.Until
			if i+1 < len(history) {
				end = earlier(history[i+1].Time, end)
			}
			if e.Reachability != nil {
				containers = running(e.Reachability)
			}
			start := later(e.Time, w.Since)
			s := span{Event: e, length: max(0, end.Sub(start)), held: held(history[i:])}
			if e.State == StateProvisioning && e.Generation != generation {
				generation = e.Generation
				s.starts = !e.Time.Before(w.Since) && e.Time.Before(w.Until)
			}
			if s.held && (e.State == StateReady || e.State == StateActive || e.State == StateLost) {
				s.containers = containers
			}
			inWindow := s.length > 0 || s.starts
			if !e.State.Terminal() && inWindow && !yield(s) {
				return
			}
		}
	}
}

// held reports that something of the sandbox may have stood on a host between
// the first of these events and the second.
func held(events []Event) bool {
	switch e := events[0]; e.State {
	case StateProvisioning, StateReady, StateActive, StateFailed, StateDestroying:
		return e.Host != ""
	case StateLost: // what it comes to after that tells
		i := slices.IndexFunc(events, func(e Event) bool { return e.State != StateLost })
		return i >= 0 && (events[i].State == StateReady || events[i].State == StateActive)
	}
	return false
}

func running(r *Reachability) int {
	n := 0
	for _, s := range r.Services {
		if s.State != "completed" {
			n += len(s.Containers)
		}
	}
	return n
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// A tally adds up one group. Money is exact until it is closed.
type tally struct {
	meter     Meter
	sandboxes map[string]bool
	costs     map[string]*big.Int // by currency, in micros per hour times nanoseconds
}

func newTally(by MeterBy, key string, e Event) *tally {
	t := &tally{sandboxes: map[string]bool{}, costs: map[string]*big.Int{}}
	t.meter = Meter{By: by, Key: key, Seconds: map[State]float64{}, Costs: []Amount{}}
	switch consumer := e.Consumer; by {
	case BySandbox:
		t.meter.Consumer = &consumer
	case ByConsumer:
		consumer = withoutRun(consumer)
		t.meter.Consumer = &consumer
	}
	return t
}

func (t *tally) add(s span) {
	t.sandboxes[s.SandboxID] = true
	if s.starts {
		t.meter.Generations++
	}
	seconds := s.length.Seconds()
	t.meter.Seconds[s.State] += seconds
	if !s.held {
		return
	}
	t.meter.Held += seconds
	if s.Resources != nil {
		t.meter.CPUSeconds += s.Resources.CPUs * float64(s.containers) * seconds
		t.meter.MemorySeconds += float64(s.Resources.Memory) * float64(s.containers) * seconds
	}
	if s.Estimate != nil {
		sum := t.costs[s.Estimate.Currency]
		if sum == nil {
			sum = new(big.Int)
			t.costs[s.Estimate.Currency] = sum
		}
		sum.Add(sum, new(big.Int).Mul(big.NewInt(s.Estimate.MicrosPerHour), big.NewInt(int64(s.length))))
	}
}

// close rounds money to the nearest micro, once.
func (t *tally) close() Meter {
	t.meter.Sandboxes = len(t.sandboxes)
	hour := big.NewInt(int64(time.Hour))
	for _, currency := range slices.Sorted(maps.Keys(t.costs)) {
		sum := t.costs[currency]
		sum.Add(sum, big.NewInt(int64(time.Hour)/2))
		t.meter.Costs = append(t.meter.Costs, Amount{Currency: currency, Micros: sum.Div(sum, hour).Int64()})
	}
	return t.meter
}

// Usage adds up what the recorded sandboxes used in a window, from their
// events. by must be one of the MeterBy values.
func (c *Client) Usage(ctx context.Context, by MeterBy, w Window) ([]Meter, error) {
	known := []MeterBy{BySandbox, ByConsumer, ByProject, ByHost, ByProfile}
	if !slices.Contains(known, by) {
		return nil, &Error{Op: "usage", Err: &FieldError{Field: "by", Reason: fmt.Sprintf("%q is not one of %s", by, strings.Trim(fmt.Sprintf("%q", known), "[]"))}}
	}
	events, err := c.store.Events(ctx, "", 0)
	if err != nil {
		return nil, &Error{Op: "usage", Err: err}
	}
	return MetersOf(events, by, w), nil
}
