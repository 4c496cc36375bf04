package sandboxer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Delivery says how events reach the sink. The zero value is useful.
type Delivery struct {
	// GiveUp is the age from which an event that is refused becomes a dead
	// letter: kept, shown by [Client.Undelivered], and offered again only by
	// [Client.Redeliver], from when on its age counts anew. 72h if zero;
	// negative is never.
	GiveUp Duration
	// Flush is the longest that [Client.Close] spends on delivering what is
	// due. 2s if zero; negative is not at all.
	Flush Duration
}

func (d Delivery) withDefaults() Delivery {
	setDefault(&d.GiveUp, 72*60*minute)
	setDefault(&d.Flush, Duration(2*time.Second))
	return d
}

const (
	// deliveryClaim is how long other processes leave claimed sandboxes alone.
	deliveryClaim = 30 * time.Second
	// deliveryBatch bounds the events in memory.
	deliveryBatch = 256
	// deliveryWorkers is how many sandboxes are delivered at once.
	deliveryWorkers = 8
	// sinkIsDown is the number of failures in a row, with no event taken in
	// between, after which the sink rather than the event is to blame.
	sinkIsDown = 3
	// deliveryPoll is how often [Client.KeepDelivering] looks for what other
	// processes recorded and for what is due again.
	deliveryPoll = time.Second
)

// KeepDelivering delivers events until ctx ends: those that this client
// records at once, those of other processes and those that are due again
// within about a second. Run it on a goroutine of yours, beside the
// operations; no operation waits for it. It returns nil when ctx ends; wait
// for that before you close the client.
func (c *Client) KeepDelivering(ctx context.Context) error {
	tick := time.NewTicker(deliveryPoll)
	defer tick.Stop()
	for ctx.Err() == nil {
		if _, err := c.Deliver(ctx); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "events cannot be read", "error", err)
		}
		select {
		case <-c.recorded:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// handOff tells a running KeepDelivering that there is something to do. It
// never blocks.
func (c *Client) handOff() {
	select {
	case c.recorded <- struct{}{}:
	default:
	}
}

// flush is the last delivery before the client closes. What it does not reach
// stays in the outbox.
func (c *Client) flush() {
	if c.sink == nil || c.delivery.Flush <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.delivery.Flush.Std())
	defer cancel()
	if _, err := c.Deliver(ctx); err != nil {
		c.log.WarnContext(ctx, "events are left for later", "error", err)
	}
}

// Deliver offers undelivered events to the configured sink until none is due,
// ctx ends, or the sink takes nothing or asks this client for a pause. It
// returns how many were accepted.
//
// Events of a sandbox are offered in order; one that is refused is offered
// again after a pause that doubles from 1 s to 5 min, up to a quarter shorter
// or longer, or as long as the sink asks. It holds up its own sandbox only,
// until it is too old (see [Delivery]) or refused for good (see
// [DeliveryError]) and becomes a dead letter.
//
// Several processes may deliver from one store: a claim with an expiry keeps
// them from each other's sandboxes. Without a sink nothing is done.
func (c *Client) Deliver(ctx context.Context) (int, error) {
	if c.sink == nil {
		return 0, nil
	}
	if c.now().UnixMicro() < c.quiet.Load() {
		return 0, nil // the sink asked to be left alone
	}
	pass := &delivery{Client: c}
	for ctx.Err() == nil && !pass.stopped() {
		claims, err := c.store.ClaimEvents(ctx, c.now().Add(deliveryClaim), deliveryBatch)
		if err != nil || len(claims) == 0 {
			return pass.delivered, fail("deliver", nil, err)
		}
		if err := pass.offer(ctx, claims); err != nil {
			return pass.delivered, fail("deliver", nil, err)
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return pass.delivered, nil // as much as there was time for
	}
	return pass.delivered, fail("deliver", nil, context.Cause(ctx))
}

// A delivery is one pass over the outbox.
type delivery struct {
	*Client

	mu        sync.Mutex
	delivered int
	failures  int           // in a row
	pause     time.Duration // that the sink asked for
}

// stopped reports that the sink is to be left alone.
func (d *delivery) stopped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pause > 0 || d.failures >= sinkIsDown
}

// offer delivers what was claimed, several sandboxes at once. Offers end early
// enough for what became of them to be recorded within the claim.
func (d *delivery) offer(ctx context.Context, claims []Claim) error {
	emitting, cancel := context.WithDeadlineCause(ctx, claims[0].Until.Add(-deliveryClaim/6), errClaimEnds)
	defer cancel()
	next := make(chan Claim)
	errs := make([]error, min(deliveryWorkers, len(claims)))
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for claim := range next {
				if err := d.sandbox(ctx, emitting, claim); !errors.Is(err, ErrConflict) { // else somebody else has them now
					errs[i] = errors.Join(errs[i], err)
				}
			}
		})
	}
	for _, claim := range claims {
		next <- claim
	}
	close(next)
	all.Wait()
	return errors.Join(errs...)
}

var errClaimEnds = errors.New("the sink took longer than events are kept from others")

// sandbox offers the events of a claim in order and records what became of
// them, also when the caller left. Its errors are the store's.
func (d *delivery) sandbox(caller, emitting context.Context, c Claim) error {
	ctx := context.WithoutCancel(caller)
	var taken int64
	acknowledge := func() error {
		if taken == 0 {
			return nil
		}
		return d.store.AckEvents(ctx, c, taken)
	}
	then := func(next func() error) error {
		if err := acknowledge(); err != nil {
			return err
		}
		return next()
	}
	for _, e := range c.Events {
		if emitting.Err() != nil || d.stopped() {
			return then(func() error { return d.giveBack(ctx, c) })
		}
		err := d.emit(emitting, e)
		switch {
		case err == nil:
			taken = e.Seq
		case errors.Is(caller.Err(), context.Canceled):
			return then(func() error { return d.giveBack(ctx, c) })
		case caller.Err() == nil && d.hopeless(c, e, err):
			d.log.ErrorContext(ctx, "event given up", "sandbox", c.SandboxID, "seq", e.Seq, "event", e.ID, "error", err)
			if err := then(func() error { return d.store.BuryEvent(ctx, c, e.Seq, err.Error(), d.now()) }); err != nil {
				return err
			}
			taken = 0
		default:
			d.log.WarnContext(ctx, "event not taken", "sandbox", c.SandboxID, "seq", e.Seq, "event", e.ID, "error", err)
			return then(func() error { return d.store.DelayEvents(ctx, c, err.Error(), d.again(err)) })
		}
	}
	return acknowledge()
}

// emit offers one event and notes what that says of the sink.
func (d *delivery) emit(ctx context.Context, e Event) error {
	err := d.sink.Emit(ctx, e)
	d.mu.Lock()
	defer d.mu.Unlock()
	var why *DeliveryError
	switch {
	case err == nil:
		d.delivered++
		d.failures = 0
	case errors.As(err, &why) && why.Permanent:
		d.failures = 0 // it answered
	default:
		d.failures++
		if why != nil && why.RetryAfter > 0 {
			d.pause = max(d.pause, why.RetryAfter)
			d.keepQuiet(d.now().Add(why.RetryAfter))
		}
	}
	return err
}

// keepQuiet leaves the sink alone until then, or longer if it asked for that
// before.
func (c *Client) keepQuiet(until time.Time) {
	for {
		old := c.quiet.Load()
		if until.UnixMicro() <= old || c.quiet.CompareAndSwap(old, until.UnixMicro()) {
			return
		}
	}
}

// hopeless reports that the event is not to be offered again. Events that
// somebody asked for again are as young as that wish.
func (d *delivery) hopeless(c Claim, e Event, err error) bool {
	var why *DeliveryError
	if errors.As(err, &why) && why.Permanent {
		return true
	}
	age := d.now().Sub(later(e.Time, c.Rewound))
	return d.delivery.GiveUp > 0 && age > d.delivery.GiveUp.Std()
}

// again says when events that were refused are due, after so many refusals in a row.
func (d *delivery) again(err error) func(failures int) time.Time {
	var why *DeliveryError
	asked := time.Duration(0)
	if errors.As(err, &why) {
		asked = why.RetryAfter
	}
	now := d.now()
	return func(failures int) time.Time { return now.Add(cmp.Or(asked, spread(Backoff(failures)))) }
}

// giveBack ends a claim without an offer: its events are due at once, or when
// the sink may be asked again.
func (d *delivery) giveBack(ctx context.Context, c Claim) error {
	d.mu.Lock()
	pause := d.pause
	if d.failures >= sinkIsDown {
		pause = max(pause, spread(Backoff(1)))
	}
	d.mu.Unlock()
	due := d.now().Add(pause)
	return d.store.DelayEvents(ctx, c, "", func(int) time.Time { return due })
}

// Backoff is how long delivery waits after n failures in a row: 1s doubling to 5m.
func Backoff(n int) time.Duration {
	const limit = 5 * time.Minute
	if n > 9 {
		return limit
	}
	return min(limit, time.Second<<max(0, n-1))
}

// spread moves a pause by up to a quarter, so that processes do not come back
// to a sink all at once.
func spread(d time.Duration) time.Duration { return d*3/4 + jitter(d/2) - d/4 }

// An Undelivered event is one that the sink has not taken.
type Undelivered struct {
	Event     Event     `json:"event"`
	Dead      bool      `json:"dead"`               // given up: offered again only by Redeliver
	Reason    string    `json:"reason,omitempty"`   // why the last offer failed; empty if there was none
	Failures  int       `json:"failures,omitempty"` // in a row, of its sandbox
	DueAt     time.Time `json:"due_at,omitzero"`    // when it is offered next, or a claim on it ends
	DeadSince time.Time `json:"dead_since,omitzero"`
}

// Undelivered lists what the sink has not taken, dead letters included,
// ordered by sandbox and number; an empty id means all sandboxes.
func (c *Client) Undelivered(ctx context.Context, id string) ([]Undelivered, error) {
	if id != "" {
		if _, err := c.store.Get(ctx, id); err != nil {
			return nil, &Error{Op: "undelivered", SandboxID: id, Err: err}
		}
	}
	list, err := c.store.Undelivered(ctx, id)
	if err != nil {
		return nil, &Error{Op: "undelivered", SandboxID: id, Err: err}
	}
	return list, nil
}

// Redeliver makes the dead letters of a sandbox due again, and with them,
// since order counts, every later event of the sandbox: the sink sees ids that
// it has seen. An empty id means all sandboxes. It returns the number of dead
// letters; offering them is Deliver's work.
func (c *Client) Redeliver(ctx context.Context, id string) (int, error) {
	list, err := c.Undelivered(ctx, id)
	if err != nil {
		return 0, renamed(err, "redeliver")
	}
	dead, first := 0, map[string]int64{}
	for _, u := range list {
		if !u.Dead {
			continue
		}
		dead++
		if _, seen := first[u.Event.SandboxID]; !seen {
			first[u.Event.SandboxID] = u.Event.Seq
		}
	}
	for id, seq := range first {
		if err := c.store.RewindEvents(ctx, id, seq, c.now()); err != nil {
			return 0, &Error{Op: "redeliver", SandboxID: id, Err: fmt.Errorf("event %d: %w", seq, err)}
		}
	}
	c.handOff()
	return dead, nil
}

// renamed is an error of another operation as that of op.
func renamed(err error, op string) error {
	var e *Error
	if errors.As(err, &e) {
		renamed := *e
		renamed.Op = op
		return &renamed
	}
	return err
}
