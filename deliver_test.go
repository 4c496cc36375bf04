package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A recorder is a sink that can refuse.
type recorder struct {
	takes  time.Duration // to answer
	mu     sync.Mutex
	refuse func(sandboxer.Event) error
	asked  int
	seen   []string
}

func (r *recorder) Emit(_ context.Context, e sandboxer.Event) error {
	time.Sleep(r.takes)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.refuse != nil {
		if err := r.refuse(e); err != nil {
			return err
		}
	}
	r.seen = append(r.seen, e.ID)
	return nil
}

// answer sets how the sink refuses; nil takes everything.
func (r *recorder) answer(refuse func(sandboxer.Event) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse, r.asked = refuse, 0
}

// offers is how often the sink was asked since its answer was set.
func (r *recorder) offers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
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

var errDown = errors.New("hub is down")

func down(sandboxer.Event) error { return errDown }

// deliver expects a pass that delivers n events.
func deliver(t *testing.T, c *sandboxer.Client, n int) {
	t.Helper()
	if got, err := c.Deliver(t.Context()); err != nil || got != n {
		t.Errorf("delivered %d, %v, want %d", got, err, n)
	}
}

func TestEventsAreDeliveredInOrderAndOnce(t *testing.T) {
	w := newWorld(t)
	var sink recorder
	c := w.client(process{sink: &sink})
	first, second := w.create(c).ID, w.create(c).ID
	deliver(t, c, 6)
	if _, err := c.Destroy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	deliver(t, c, 2)
	deliver(t, c, 0)
	if got := sink.of(first) + "; " + sink.of(second); got != "1 2 3 4 5; 1 2 3" {
		t.Errorf("received %s", got)
	}
}

func TestPausesDoubleWhileTheSinkIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		sink.answer(down)
		c := w.client(process{sink: &sink})
		id := w.create(c).ID
		deliver(t, c, 0)
		for n, pause := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} { // each up to a quarter shorter or longer
			sink.answer(down)
			time.Sleep(pause*3/4 - time.Millisecond)
			deliver(t, c, 0)
			if sink.offers() != 0 {
				t.Errorf("pause %d: asked again before %v", n, pause*3/4)
			}
			time.Sleep(pause/2 + 2*time.Millisecond)
			deliver(t, c, 0)
			if sink.offers() != 1 {
				t.Errorf("pause %d: asked %d times after %v, want once", n, sink.offers(), pause*5/4)
			}
		}
		list, err := c.Undelivered(t.Context(), id)
		if err != nil || len(list) != 3 || list[0].Dead || list[0].Reason != "hub is down" || list[0].Failures != 4 || !list[0].DueAt.After(time.Now()) {
			t.Errorf("undelivered is %+v, %v", list, err)
		}
		sink.answer(nil)
		time.Sleep(10 * time.Second)
		deliver(t, c, 3)
		if sink.of(id) != "1 2 3" {
			t.Errorf("received %s", sink.of(id))
		}
	})
}

func TestARefusedEventHoldsOnlyItsSandbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		c := w.client(process{sink: &sink})
		sick, well := w.create(c).ID, w.create(c).ID
		sink.answer(func(e sandboxer.Event) error {
			if e.ID == sick+"-2" {
				return errors.New("not now")
			}
			return nil
		})
		deliver(t, c, 4)
		if got := sink.of(sick) + "; " + sink.of(well); got != "1; 1 2 3" {
			t.Errorf("received %s", got)
		}
		sink.answer(nil)
		time.Sleep(2 * time.Second)
		deliver(t, c, 2)
		if got := sink.of(sick); got != "1 2 3" {
			t.Errorf("received %s", got)
		}
	})
}

// A sink that takes nothing is left alone for the rest of the pass.
func TestADeadSinkIsNotAskedForEverySandbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sink := recorder{takes: 10 * time.Second}
		sink.answer(down)
		c := w.client(process{sink: &sink})
		var ids []string
		for range 50 {
			ids = append(ids, w.create(w.client(process{})).ID)
		}
		deliver(t, c, 0)
		if n := sink.offers(); n > 10 { // three failures, and what was under way beside them
			t.Errorf("a dead sink was asked %d times in one pass", n)
		}
		sink.answer(nil)
		sink.takes = 0
		time.Sleep(10 * time.Second)
		deliver(t, c, 150)
		for _, id := range ids {
			if sink.of(id) != "1 2 3" {
				t.Errorf("received %q", sink.of(id))
			}
		}
	})
}

func TestASinkThatAsksForAPauseGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		sink.answer(func(sandboxer.Event) error {
			return &sandboxer.DeliveryError{Err: errors.New("too many"), RetryAfter: time.Minute}
		})
		c := w.client(process{sink: &sink})
		id := w.create(c).ID
		deliver(t, c, 0)
		sink.answer(nil)
		time.Sleep(59 * time.Second)
		other := w.create(c).ID // its events are due, the sink is not
		deliver(t, c, 0)
		if sink.offers() != 0 {
			t.Error("asked before the pause ended")
		}
		time.Sleep(time.Second)
		deliver(t, c, 6)
		if got := sink.of(id) + "; " + sink.of(other); got != "1 2 3; 1 2 3" {
			t.Errorf("received %s", got)
		}
	})
}

func TestAnEventRefusedForGoodIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		c := w.client(process{sink: &sink})
		id, other := w.create(c).ID, w.create(c).ID
		sink.answer(func(e sandboxer.Event) error {
			if e.ID == id+"-2" {
				return &sandboxer.DeliveryError{Err: errors.New("400 Bad Request"), Permanent: true}
			}
			return nil
		})
		deliver(t, c, 5)
		if got := sink.of(id) + "; " + sink.of(other); got != "1 3; 1 2 3" {
			t.Errorf("received %s", got)
		}
		list, err := c.Undelivered(t.Context(), "")
		if err != nil || len(list) != 1 || list[0].Event.ID != id+"-2" || !list[0].Dead || list[0].Reason != "400 Bad Request" || !list[0].DeadSince.Equal(time.Now()) {
			t.Fatalf("undelivered is %+v, %v", list, err)
		}
		sink.answer(nil)
		time.Sleep(24 * time.Hour)
		deliver(t, c, 0) // it stays dead by itself
		if n, err := c.Redeliver(t.Context(), id); n != 1 || err != nil {
			t.Errorf("redeliver gave %d, %v", n, err)
		}
		deliver(t, c, 2)
		if got := sink.of(id); got != "1 3 2 3" { // the later one again, so that order holds from there
			t.Errorf("received %s", got)
		}
		if list, _ := c.Undelivered(t.Context(), ""); len(list) != 0 {
			t.Errorf("undelivered is %+v", list)
		}
		if n, err := c.Redeliver(t.Context(), ""); n != 0 || err != nil {
			t.Errorf("with no dead letter redeliver gave %d, %v", n, err)
		}
	})
}

func TestAnEventThatIsTooOldIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		sink.answer(down)
		c := w.client(process{sink: &sink, delivery: sandboxer.Delivery{GiveUp: sandboxer.Duration(30 * time.Minute)}})
		id := w.create(c).ID
		for range 15 {
			deliver(t, c, 0)
			time.Sleep(2 * time.Minute)
		}
		if _, err := c.ExtendTTL(t.Context(), id, 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		deliver(t, c, 0)
		list, err := c.Undelivered(t.Context(), id)
		if err != nil || len(list) != 4 || !list[0].Dead || !list[2].Dead || list[3].Dead {
			t.Errorf("after half an hour undelivered is %+v, %v", list, err)
		}
		sink.answer(nil)
		time.Sleep(10 * time.Minute)
		deliver(t, c, 1) // what is younger
		if sink.of(id) != "4" {
			t.Errorf("received %s", sink.of(id))
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

// A claim that ends leaves the rest to others; nothing is lost or reordered.
func TestASlowSinkGivesTheRestBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slow := sandboxer.EventSinkFunc(func(ctx context.Context, _ sandboxer.Event) error {
			select {
			case <-time.After(20 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		id := w.create(w.client(process{})).ID
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		if n, err := w.client(process{sink: slow}).Deliver(ctx); n != 1 || err != nil {
			t.Errorf("in 25 s delivered %d, %v, want the first", n, err)
		}
		list, err := w.client(process{}).Undelivered(t.Context(), id)
		if err != nil || len(list) != 2 || list[0].Event.Seq != 2 {
			t.Fatalf("undelivered is %+v, %v", list, err)
		}
		time.Sleep(2 * time.Second)
		var sink recorder
		deliver(t, w.client(process{sink: &sink}), 2)
		if sink.of(id) != "2 3" {
			t.Errorf("received %s", sink.of(id))
		}
	})
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
	var sink recorder
	deliver(t, w.client(process{sink: &sink}), 2) // the claim was given back
}

func TestWithoutASinkNothingIsDelivered(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	w.create(c)
	deliver(t, c, 0)
	if list, err := c.Undelivered(t.Context(), ""); err != nil || len(list) != 3 {
		t.Errorf("undelivered is %+v, %v", list, err)
	}
}

// KeepDelivering takes what this client records at once, and what others
// record within a second.
func TestKeepDelivering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		c := w.client(process{sink: &sink})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.KeepDelivering(ctx) }()
		synctest.Wait()
		own := w.create(c).ID
		synctest.Wait()
		if sink.of(own) != "1 2 3" {
			t.Errorf("of its own it delivered %q at once", sink.of(own))
		}
		others := w.create(w.client(process{})).ID
		time.Sleep(time.Second)
		synctest.Wait()
		if sink.of(others) != "1 2 3" {
			t.Errorf("of others it delivered %q within a second", sink.of(others))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Operations do not wait for a sink that hangs, and Close waits as long as it
// is told.
func TestASinkThatHangsHoldsNothingUp(t *testing.T) {
	hangs := sandboxer.EventSinkFunc(func(ctx context.Context, _ sandboxer.Event) error { <-ctx.Done(); return ctx.Err() })
	for _, tt := range []struct{ flush, want time.Duration }{{0, 2 * time.Second}, {5 * time.Second, 5 * time.Second}, {-1, 0}} {
		t.Run(fmt.Sprint("flush ", tt.flush), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c := w.client(process{sink: hangs, delivery: sandboxer.Delivery{Flush: sandboxer.Duration(tt.flush)}})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- c.KeepDelivering(ctx) }()
				synctest.Wait()
				start := time.Now()
				id := w.create(c).ID
				if _, err := c.Destroy(t.Context(), id); err != nil || time.Since(start) != 0 {
					t.Errorf("create and destroy took %v, %v", time.Since(start), err)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				start = time.Now()
				if err := c.Close(); err != nil || time.Since(start) != tt.want {
					t.Errorf("close took %v, %v, want %v", time.Since(start), err, tt.want)
				}
				list, err := w.client(process{}).Undelivered(t.Context(), "")
				if err != nil || len(list) != 5 || slices.ContainsFunc(list, func(u sandboxer.Undelivered) bool { return u.Dead }) {
					t.Errorf("undelivered is %+v, %v", list, err)
				}
			})
		})
	}
}

// What hangs until the caller has no more time is a failure, never the end of
// an event: the sink refused nothing.
func TestFlushBuriesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.create(w.client(process{})).ID
		time.Sleep(100 * time.Hour)
		hangs := sandboxer.EventSinkFunc(func(ctx context.Context, _ sandboxer.Event) error { <-ctx.Done(); return ctx.Err() })
		if err := w.client(process{sink: hangs}).Close(); err != nil {
			t.Fatal(err)
		}
		list, err := w.client(process{}).Undelivered(t.Context(), id)
		if err != nil || len(list) != 3 || list[0].Dead || list[0].Failures != 1 {
			t.Errorf("undelivered is %+v, %v", list, err)
		}
	})
}

// A sink that never answers is asked ever less often, and events grow too old.
func TestASinkThatNeverAnswersFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var asked atomic.Int32
		hangs := sandboxer.EventSinkFunc(func(ctx context.Context, _ sandboxer.Event) error { asked.Add(1); <-ctx.Done(); return ctx.Err() })
		c := w.client(process{sink: hangs, delivery: sandboxer.Delivery{GiveUp: sandboxer.Duration(time.Hour)}})
		id := w.create(c).ID
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
		defer cancel()
		if err := c.KeepDelivering(ctx); err != nil {
			t.Fatal(err)
		}
		if n := asked.Load(); n > 20 {
			t.Errorf("in 50 minutes it was asked %d times", n)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_ = c.KeepDelivering(ctx)
		list, err := c.Undelivered(t.Context(), id)
		if err != nil || len(list) != 3 || !list[0].Dead || !strings.Contains(list[0].Reason, "deadline") {
			t.Errorf("after two hours undelivered is %+v, %v", list, err)
		}
	})
}

// What somebody asks for again is as young as that wish.
func TestRedeliveredEventsAreYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var sink recorder
		sink.answer(func(sandboxer.Event) error {
			return &sandboxer.DeliveryError{Err: errors.New("400"), Permanent: true}
		})
		c := w.client(process{sink: &sink})
		id := w.create(c).ID
		deliver(t, c, 0)
		time.Sleep(100 * time.Hour)
		if n, err := c.Redeliver(t.Context(), id); n != 3 || err != nil {
			t.Fatalf("redeliver gave %d, %v", n, err)
		}
		sink.answer(func(sandboxer.Event) error {
			return &sandboxer.DeliveryError{Err: errors.New("429"), RetryAfter: time.Second}
		})
		deliver(t, c, 0)
		sink.answer(nil)
		time.Sleep(2 * time.Second)
		deliver(t, c, 3)
		if sink.of(id) != "1 2 3" {
			t.Errorf("received %s", sink.of(id))
		}
	})
}

// The longest pause counts, whoever of several passes was given it.
func TestAPauseIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := w.create(w.client(process{})).ID
		w.create(w.client(process{}))
		var answered atomic.Int32
		sink := sandboxer.EventSinkFunc(func(_ context.Context, e sandboxer.Event) error {
			answered.Add(1)
			time.Sleep(time.Second) // both are under way
			if e.SandboxID == first {
				return &sandboxer.DeliveryError{Err: errors.New("429"), RetryAfter: time.Hour}
			}
			time.Sleep(time.Second)
			return &sandboxer.DeliveryError{Err: errDown, RetryAfter: time.Second}
		})
		c := w.client(process{sink: sink})
		deliver(t, c, 0)
		asked := answered.Load()
		w.create(w.client(process{}))
		time.Sleep(50 * time.Minute)
		deliver(t, c, 0)
		if n := answered.Load(); n != asked {
			t.Errorf("asked %d times within the pause", n-asked)
		}
	})
}

func TestCloseDeliversWhatIsDue(t *testing.T) {
	w := newWorld(t)
	var sink recorder
	c := w.client(process{sink: &sink})
	id := w.create(c).ID
	if err := c.Close(); err != nil || sink.of(id) != "1 2 3" {
		t.Errorf("close gave %v and delivered %q", err, sink.of(id))
	}
}

func TestUndeliveredOfAnUnknownSandbox(t *testing.T) {
	c := newWorld(t).client(process{})
	_, err := c.Undelivered(t.Context(), "nobody")
	wantError(t, err, "undelivered", sandboxer.ErrNotFound)
	_, err = c.Redeliver(t.Context(), "nobody")
	wantError(t, err, "redeliver", sandboxer.ErrNotFound)
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
