package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// A recorder is a sink that can refuse.
type recorder struct {
	mu     sync.Mutex
	refuse func(sandboxer.Event) error
	seen   []string
}

func (r *recorder) Emit(_ context.Context, e sandboxer.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		if err := r.refuse(e); err != nil {
			return err
		}
	}
	r.seen = append(r.seen, e.ID)
	return nil
}

// of lists what was received of one sandbox.
func (r *recorder) of(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var numbers []string
	for _, e := range r.seen {
		if n, ok := strings.CutPrefix(e, id+"-"); ok {
			numbers = append(numbers, n)
		}
	}
	return strings.Join(numbers, " ")
}

func TestEventsAreDeliveredInOrderAndOnce(t *testing.T) {
	w := newWorld(t)
	var sink recorder
	c := w.client(process{sink: &sink})
	first, second := w.create(c).ID, w.create(c).ID
	if n, err := c.Deliver(t.Context()); err != nil || n != 6 {
		t.Errorf("delivered %d, %v", n, err)
	}
	if _, err := c.Destroy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Deliver(t.Context()); err != nil || n != 2 {
		t.Errorf("delivered %d more, %v", n, err)
	}
	if n, err := c.Deliver(t.Context()); err != nil || n != 0 {
		t.Errorf("with nothing new: delivered %d, %v", n, err)
	}
	if got := sink.of(first) + "; " + sink.of(second); got != "1 2 3 4 5; 1 2 3" {
		t.Errorf("received %s", got)
	}
}

func TestASinkThatIsDownHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		down := true
		sink.refuse = func(sandboxer.Event) error {
			if down {
				return errors.New("hub is down")
			}
			return nil
		}
		c := w.client(process{sink: &sink})
		start := time.Now()
		id := w.create(c).ID
		if n, err := c.Deliver(t.Context()); err != nil || n != 0 || time.Since(start) != 0 {
			t.Errorf("delivered %d, %v, after %v", n, err, time.Since(start))
		}
		// the pause doubles: 1s, 2s, 4s …
		for n, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			asked := 0
			sink.refuse = func(sandboxer.Event) error { asked++; return errors.New("hub is down") }
			time.Sleep(wait - time.Millisecond)
			_, _ = c.Deliver(t.Context())
			if asked != 0 {
				t.Errorf("pause %d: asked again before %v", n, wait)
			}
			time.Sleep(time.Millisecond)
			_, _ = c.Deliver(t.Context())
			if asked != 1 {
				t.Errorf("pause %d: asked %d times after %v, want once", n, asked, wait)
			}
		}
		sink.refuse, down = nil, false
		time.Sleep(8 * time.Second)
		if n, err := c.Deliver(t.Context()); err != nil || n != 3 || sink.of(id) != "1 2 3" {
			t.Errorf("when it is back: delivered %d, %v: %s", n, err, sink.of(id))
		}
	})
}

func TestARefusedEventHoldsOnlyItsSandbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		c := w.client(process{sink: &sink})
		sick, well := w.create(c).ID, w.create(c).ID
		sink.refuse = func(e sandboxer.Event) error {
			if e.ID == sick+"-2" {
				return errors.New("not now")
			}
			return nil
		}
		if n, err := c.Deliver(t.Context()); err != nil || n != 4 {
			t.Errorf("delivered %d, %v", n, err)
		}
		if got := sink.of(sick) + "; " + sink.of(well); got != "1; 1 2 3" {
			t.Errorf("received %s", got)
		}
		sink.refuse = nil
		time.Sleep(time.Second)
		_, _ = c.Deliver(t.Context())
		if got := sink.of(sick); got != "1 2 3" {
			t.Errorf("received %s", got)
		}
	})
}

func TestSeveralProcessesDeliverInOrder(t *testing.T) {
	w := newWorld(t)
	var sink recorder
	sink.refuse = func(sandboxer.Event) error { time.Sleep(100 * time.Microsecond); return nil }
	var ids []string
	for range 10 {
		ids = append(ids, w.create(w.client(process{})).ID)
	}
	var all sync.WaitGroup
	for range 4 {
		c := w.client(process{sink: &sink})
		all.Go(func() {
			if _, err := c.Deliver(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if got := sink.of(id); got != "1 2 3" {
			t.Errorf("received %q", got)
		}
	}
}

func TestDeliverEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	c := w.client(process{sink: sandboxer.EventSinkFunc(func(context.Context, sandboxer.Event) error { cancel(errCallerLeft); return nil })})
	w.create(c)
	if _, err := c.Deliver(ctx); !errors.Is(err, errCallerLeft) {
		t.Errorf("got %v", err)
	} else {
		wantError(t, err, "deliver")
	}
}

func TestWithoutASinkNothingIsDelivered(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	w.create(c)
	if n, err := c.Deliver(t.Context()); n != 0 || err != nil {
		t.Errorf("delivered %d, %v", n, err)
	}
}

// A client whose store fails says so with the operation's name.
func TestStoreFailuresAreErrorsOfTheOperation(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	c := w.client(process{store: brokenStore{w.store}, sink: &recorder{}})
	ctx := t.Context()
	for op, do := range map[string]func() error{
		"get":       func() error { _, err := c.Get(ctx, id); return err },
		"list":      func() error { _, err := c.List(ctx, sandboxer.Filter{}); return err },
		"events":    func() error { _, err := c.Events(ctx, "", 0); return err },
		"create":    func() error { _, err := c.Create(ctx, basicRequest()); return err },
		"destroy":   func() error { _, err := c.Destroy(ctx, id); return err },
		"recreate":  func() error { _, err := c.Recreate(ctx, id); return err },
		"reap":      func() error { _, err := c.Reap(ctx); return err },
		"reconcile": func() error { _, err := c.Reconcile(ctx, sandboxer.ReconcileOptions{}); return err },
		"deliver":   func() error { _, err := c.Deliver(ctx); return err },
	} {
		err := do()
		wantError(t, err, op)
		if !errors.Is(err, errBrokenStore) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if left := w.left(""); len(left) != len(w.left(id)) {
		t.Errorf("a create without a record left %v", left)
	}
}

var errBrokenStore = errors.New("disk error")

type brokenStore struct{ sandboxer.Store }

func (brokenStore) Create(context.Context, *sandboxer.Record, ...sandboxer.Event) error {
	return errBrokenStore
}
func (brokenStore) Get(context.Context, string) (*sandboxer.Record, error) {
	return nil, errBrokenStore
}
func (brokenStore) List(context.Context, sandboxer.Filter) ([]*sandboxer.Record, error) {
	return nil, errBrokenStore
}
func (brokenStore) Events(context.Context, string, int64) ([]sandboxer.Event, error) {
	return nil, errBrokenStore
}
func (brokenStore) ClaimEvents(context.Context, time.Time, int) ([]sandboxer.Event, error) {
	return nil, errBrokenStore
}

func TestMeterCountsTimeByState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{fault: extensiontest.Faults(extensiontest.SlowAt("ready", "", 10*time.Second), extensiontest.SlowAt("teardown", "look", time.Second))})
		id := w.create(c).ID
		steps := []struct {
			after time.Duration
			do    func(context.Context, string) (*sandboxer.Sandbox, error)
		}{{time.Minute, c.Activate}, {2 * time.Minute, c.Deactivate}, {3 * time.Minute, c.Activate}, {4 * time.Minute, c.Destroy}}
		for _, step := range steps {
			time.Sleep(step.after)
			if _, err := step.do(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		events, err := c.Events(t.Context(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := sandboxer.MeterOf(events, time.Now())
		want := sandboxer.Meter{
			SandboxID: id, Consumer: basicRequest().Consumer, Extension: "ext.fake", Host: "one",
			Seconds: map[sandboxer.State]float64{
				sandboxer.StateRequested: 0, sandboxer.StateProvisioning: 10, sandboxer.StateReady: 240, sandboxer.StateActive: 360,
				sandboxer.StateDestroying: 2, // the look before and the look after
			},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("meter (-want +got):\n%s", diff)
		}
		living := sandboxer.MeterOf(events[:3], events[2].Time.Add(5*time.Second))
		if living.Seconds[sandboxer.StateReady] != 5 {
			t.Errorf("a sandbox that stands was ready for %v s, want 5 so far", living.Seconds[sandboxer.StateReady])
		}
	})
}

func TestBackoffOfDelivery(t *testing.T) {
	var got []string
	for _, n := range []int{0, 1, 2, 8, 9, 10, 100} {
		got = append(got, fmt.Sprintf("%d:%v", n, sandboxer.Backoff(n)))
	}
	if want := "0:1s 1:1s 2:2s 8:2m8s 9:4m16s 10:5m0s 100:5m0s"; strings.Join(got, " ") != want {
		t.Errorf("\n got %v\nwant %s", got, want)
	}
}
