package extensiontest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// inAnHour is the end of a claim that must not expire during a check. No two
// are equal: the end names the claim.
func inAnHour() time.Time {
	return time.Now().Add(time.Hour + rand.N(time.Hour)).UTC().Truncate(time.Microsecond)
}

// A claimant claims and says how that ended, from one check to the next.
type claimant struct {
	ctx   context.Context
	store sandboxer.Store
	held  map[string]sandboxer.Claim // the last of each sandbox
	errs  []error
}

func claiming(ctx context.Context, s sandboxer.Store) *claimant {
	return &claimant{ctx: ctx, store: s, held: map[string]sandboxer.Claim{}}
}

func (c *claimant) err() error { return errors.Join(c.errs...) }

func (c *claimant) note(err error) { c.errs = append(c.errs, err) }

// claim expects exactly these events; of one sandbox in order, sandboxes in any.
func (c *claimant) claim(what string, until time.Time, limit int, want ...sandboxer.Event) {
	claims, err := c.store.ClaimEvents(c.ctx, until, limit)
	if err != nil {
		c.note(fmt.Errorf("claim %s: %w", what, err))
		return
	}
	var got []sandboxer.Event
	for _, claim := range claims {
		if !claim.Until.Equal(until) {
			c.note(fmt.Errorf("claim %s: it ends %v, want %v", what, claim.Until, until))
		}
		for _, e := range claim.Events {
			if e.SandboxID != claim.SandboxID {
				c.note(fmt.Errorf("claim %s: event %s stands in the claim of %s", what, e.ID, claim.SandboxID))
			}
		}
		c.held[claim.SandboxID] = claim
		got = append(got, claim.Events...)
	}
	bySandbox := func(a, b sandboxer.Event) int { return strings.Compare(a.SandboxID, b.SandboxID) }
	slices.SortStableFunc(got, bySandbox)
	slices.SortStableFunc(want, bySandbox)
	c.note(storeDiff("claim "+what, slices.Concat(got), slices.Concat(want)))
}

func (c *claimant) ack(id string, seq int64) { c.note(c.store.AckEvents(c.ctx, c.held[id], seq)) }

func (c *claimant) bury(id string, seq int64, reason string) {
	c.note(c.store.BuryEvent(c.ctx, c.held[id], seq, reason, storeTime))
}

func (c *claimant) rewind(id string, seq int64) {
	c.note(c.store.RewindEvents(c.ctx, id, seq, storeTime))
}

// delay expects so many failures to be counted.
func (c *claimant) delay(id, reason string, due time.Time, failures int) {
	counted := -1
	c.note(c.store.DelayEvents(c.ctx, c.held[id], reason, func(n int) time.Time { counted = n; return due }))
	c.note(storeDiff("failures counted", counted, failures))
}

// over expects that nothing can be done with a claim any more.
func (c *claimant) over(what string, claim sandboxer.Claim, seq int64) {
	for name, err := range map[string]error{
		"ack":   c.store.AckEvents(c.ctx, claim, seq),
		"bury":  c.store.BuryEvent(c.ctx, claim, seq, "late", storeTime),
		"delay": c.store.DelayEvents(c.ctx, claim, "late", func(int) time.Time { return time.Now().Add(-time.Second) }),
	} {
		if !errors.Is(err, sandboxer.ErrConflict) {
			c.note(fmt.Errorf("%s of %s: %v, want ErrConflict", name, what, err))
		}
	}
}

func (c *claimant) undelivered(what, id string, want ...sandboxer.Undelivered) {
	got, err := c.store.Undelivered(c.ctx, id)
	c.note(err)
	c.note(storeDiff(what, slices.Concat(got), want))
}

// seed makes a sandbox with so many events.
func (c *claimant) seed(n, events int) (*sandboxer.Record, []sandboxer.Event) {
	r, all, err := seedStore(c.ctx, c.store, n, events)
	c.note(err)
	return r, all
}

// add records one event more.
func (c *claimant) add(r *sandboxer.Record) sandboxer.Event {
	e := storeEvent(r)
	c.note(c.store.Update(c.ctx, r, e))
	return e
}

func justNow() time.Time { return time.Now().Add(-time.Second) }

func checkClaim(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	one, a := c.seed(1, 3)
	_, b := c.seed(2, 2)
	id := one.Sandbox.ID
	c.claim("everything", inAnHour(), 100, append(a, b...)...)
	c.claim("while all is claimed", inAnHour(), 100)
	c.add(one)
	c.claim("an event of a claimed sandbox", inAnHour(), 100)
	c.ack(id, 1)
	c.ack(id, 2)
	c.claim("a sandbox with a part delivered", inAnHour(), 100)
	return c.err()
}

func checkClaimExpiry(ctx context.Context, s sandboxer.Store) error {
	const length = 300 * time.Millisecond
	c := claiming(ctx, s)
	r, events := c.seed(1, 3)
	id := r.Sandbox.ID
	c.claim("until now", time.Now(), 100, events...)
	c.claim("what was claimed until now", time.Now().Add(-time.Minute), 100, events...)
	c.ack(id, 1) // ended, and nobody else's yet
	start := time.Now()
	c.claim("the rest, for a moment", start.Add(length), 100, events[1:]...)
	if err := c.err(); err != nil {
		return err
	}
	for {
		got, err := s.ClaimEvents(ctx, inAnHour(), 100)
		switch waited := time.Since(start); {
		case err != nil:
			return err
		case len(got) > 0 && waited < length:
			return fmt.Errorf("a claim for %v ended after %v", length, waited)
		case len(got) > 0:
			return storeDiff("what an expired claim left", got[0].Events, events[1:])
		case waited > length+10*time.Second:
			return fmt.Errorf("a claim for %v holds after %v", length, waited)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// checkClaimTaken: what a slow deliverer says of a claim that is somebody
// else's by now counts for nothing.
func checkClaimTaken(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, events := c.seed(1, 3)
	id := r.Sandbox.ID
	c.claim("by the slow one", time.Now().Add(-time.Minute), 100, events...)
	slow := c.held[id]
	c.claim("by another", inAnHour(), 100, events...)
	c.over("a claim that another has", slow, 2)
	c.claim("while the other holds it", inAnHour(), 100)
	c.ack(id, 3)
	c.over("a claim that was given back", c.held[id], 3)
	c.undelivered("undelivered", id)
	return c.err()
}

func checkClaimLimit(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	one, a := c.seed(1, 3)
	id := one.Sandbox.ID
	c.claim("two of three", inAnHour(), 2, a[:2]...)
	c.claim("the third while its sandbox is claimed", inAnHour(), 2)
	c.ack(id, 1)
	c.ack(id, 2)
	c.claim("the third", inAnHour(), 2, a[2])
	for n := 2; n < 7; n++ {
		c.seed(n, 1)
	}
	seen := map[string]bool{}
	for _, limit := range []int{3, 1, 3} {
		claims, err := s.ClaimEvents(ctx, inAnHour(), limit)
		c.note(err)
		n := 0
		for _, claim := range claims {
			n += len(claim.Events)
		}
		if want := min(limit, 5-len(seen)); n != want {
			c.note(fmt.Errorf("limit %d with %d events due: got %d, want %d", limit, 5-len(seen), n, want))
		}
		for _, claim := range claims {
			for _, e := range claim.Events {
				seen[e.ID] = true
			}
		}
	}
	c.note(storeDiff("different events claimed", len(seen), 5))
	return c.err()
}

func checkRelease(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, a := c.seed(1, 2)
	id := r.Sandbox.ID
	c.claim("both", inAnHour(), 100, a...)
	next := c.add(r)
	c.ack(id, 1)
	c.ack(id, 2)
	c.claim("what came during the claim", inAnHour(), 100, next)
	c.ack(id, 3)
	c.claim("with all delivered", inAnHour(), 100)
	return c.err()
}

func checkAckBounds(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, a := c.seed(1, 3)
	id := r.Sandbox.ID
	c.claim("all", inAnHour(), 100, a...)
	c.ack(id, 2)
	c.ack(id, 1)
	_ = s.AckEvents(ctx, c.held[id], 1000) // may be refused, must not deliver what is yet to come
	next := c.add(r)
	claims, err := s.ClaimEvents(ctx, inAnHour(), 100)
	if err != nil || len(claims) != 1 || !slices.ContainsFunc(claims[0].Events, func(e sandboxer.Event) bool { return e.ID == next.ID }) {
		c.note(fmt.Errorf("after an ack beyond the last event a claim gives %v, %v, want event %d", claims, err, next.Seq))
	} else if claims[0].Events[0].Seq < 3 {
		c.note(fmt.Errorf("an ack of 1 took the one of 2 back"))
	}
	return c.err()
}

func checkDelay(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, a := c.seed(1, 2)
	id := r.Sandbox.ID
	c.claim("both", inAnHour(), 100, a...)
	for n := 1; n <= 10; n++ {
		c.delay(id, "down", justNow(), n)
		c.claim(fmt.Sprintf("what is due again after failure %d", n), inAnHour(), 100, a...)
	}
	c.ack(id, 1)
	c.delay(id, "down", justNow(), 1) // counted anew after an ack
	c.claim("the rest", inAnHour(), 100, a[1])
	c.delay(id, "down", time.Now().Add(time.Hour), 2)
	c.claim("before it is due", inAnHour(), 100)
	return c.err()
}

func checkGivenBack(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, a := c.seed(1, 2)
	id := r.Sandbox.ID
	c.claim("both", inAnHour(), 100, a...)
	c.delay(id, "", justNow(), 0)
	c.claim("what was given back", inAnHour(), 100, a...)
	c.delay(id, "down", justNow(), 1)
	c.claim("after a failure", inAnHour(), 100, a...)
	due := storeTime
	c.delay(id, "", due, 1)
	waiting := func(e sandboxer.Event) sandboxer.Undelivered {
		return sandboxer.Undelivered{Event: e, Reason: "down", Failures: 1, DueAt: due}
	}
	c.undelivered("what was given back, with the reason of before", id, waiting(a[0]), waiting(a[1]))
	return c.err()
}

func checkBury(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, a := c.seed(1, 3)
	id := r.Sandbox.ID
	c.claim("all", inAnHour(), 100, a...)
	c.ack(id, 1)
	c.bury(id, 1, "delivered already")
	c.bury(id, 2, "too large")
	c.claim("while the claim lasts", inAnHour(), 100)
	c.bury(id, 3, "too old") // the last of the claim gives it back
	c.claim("dead letters", inAnHour(), 100)
	dead := []sandboxer.Undelivered{
		{Event: a[1], Dead: true, Reason: "too large", DeadSince: storeTime},
		{Event: a[2], Dead: true, Reason: "too old", DeadSince: storeTime},
	}
	c.undelivered("dead letters", id, dead...)
	next := c.add(r)
	c.claim("what comes after dead letters", inAnHour(), 100, next)
	return c.err()
}

func checkRewind(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, a := c.seed(1, 4)
	id := r.Sandbox.ID
	c.claim("all", inAnHour(), 100, a...)
	c.bury(id, 1, "first")
	c.bury(id, 2, "second")
	c.ack(id, 4)
	c.rewind(id, 2)
	c.claim("from the second on", inAnHour(), 100, a[1:]...)
	c.note(storeDiff("when it was rewound", c.held[id].Rewound, storeTime))
	c.ack(id, 2)
	c.rewind(id, 4) // beyond what is delivered: nothing to take back
	c.claim("after a rewind to what waits", inAnHour(), 100, a[2:]...)
	c.delay(id, "down", time.Now().Add(time.Hour), 1)
	c.rewind(id, 1)
	c.claim("everything, at once", inAnHour(), 100, a...)
	c.delay(id, "down", storeTime, 1) // counted anew
	waiting := make([]sandboxer.Undelivered, len(a))
	for i, e := range a {
		waiting[i] = sandboxer.Undelivered{Event: e, Reason: "down", Failures: 1, DueAt: storeTime}
	}
	c.undelivered("after a rewind to the start", id, waiting...)
	return c.err()
}

// checkRewindWhileClaimed: whoever delivers meanwhile cannot undo a rewind.
func checkRewindWhileClaimed(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	r, a := c.seed(1, 3)
	id := r.Sandbox.ID
	c.claim("all", inAnHour(), 100, a...)
	c.ack(id, 1)
	c.bury(id, 2, "refused")
	late := c.held[id]
	c.rewind(id, 2)
	c.over("a claim on what was rewound", late, 3)
	c.claim("what was rewound", inAnHour(), 100, a[1:]...)
	return c.err()
}

func checkUndelivered(ctx context.Context, s sandboxer.Store) error {
	c := claiming(ctx, s)
	one, a := c.seed(1, 3)
	two, b := c.seed(2, 1)
	due := storeTime.Add(time.Hour)
	c.undelivered("undelivered of what was never offered", two.Sandbox.ID, sandboxer.Undelivered{Event: b[0]})
	until := inAnHour()
	c.claim("all", until, 100, append(slices.Clone(a), b...)...)
	c.ack(one.Sandbox.ID, 1)
	c.delay(one.Sandbox.ID, "down", due, 1)
	waiting := func(e sandboxer.Event) sandboxer.Undelivered {
		return sandboxer.Undelivered{Event: e, Reason: "down", Failures: 1, DueAt: due}
	}
	claimed := sandboxer.Undelivered{Event: b[0], DueAt: until}
	c.undelivered("undelivered of one sandbox", one.Sandbox.ID, waiting(a[1]), waiting(a[2]))
	c.undelivered("undelivered of all sandboxes", "", waiting(a[1]), waiting(a[2]), claimed)
	c.ack(two.Sandbox.ID, 1)
	c.undelivered("undelivered when all is delivered", two.Sandbox.ID)
	c.undelivered("undelivered of an unknown sandbox", "nobody")
	return c.err()
}

// checkClaimers lets several deliverers work at once on sandboxes that change.
func checkClaimers(ctx context.Context, s sandboxer.Store) error {
	const sandboxes, each, claimers = 6, 6, 4
	for n := range sandboxes {
		if _, _, err := seedStore(ctx, s, n, each-1); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	holder, delivered, left := map[string]int{}, map[string]int64{}, sandboxes*each
	take := func(claimer int, claims []sandboxer.Claim) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range eventsOf(claims) {
			if other, held := holder[e.SandboxID]; held && other != claimer {
				return fmt.Errorf("claimers %d and %d both hold %s", other, claimer, e.SandboxID)
			}
			holder[e.SandboxID] = claimer
			if delivered[e.SandboxID]++; e.Seq != delivered[e.SandboxID] {
				return fmt.Errorf("event %d of %s came as number %d", e.Seq, e.SandboxID, delivered[e.SandboxID])
			}
			left--
		}
		return nil
	}
	ack := func(claims []sandboxer.Claim) error {
		for _, claim := range claims {
			for i, e := range claim.Events {
				if i == len(claim.Events)-1 { // before the store gives it to somebody else
					mu.Lock()
					delete(holder, e.SandboxID)
					mu.Unlock()
				}
				if err := s.AckEvents(ctx, claim, e.Seq); err != nil {
					return err
				}
			}
		}
		return nil
	}
	finished := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return left == 0
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("some events were never offered"))
	defer cancel()
	return together(claimers+1, func(i int) (err error) {
		defer func() {
			if err != nil {
				cancel()
			}
		}()
		if i == claimers {
			return storeExtend(ctx, s, sandboxes)
		}
		for !finished() {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			claims, err := s.ClaimEvents(ctx, inAnHour(), 4)
			if err := errors.Join(err, take(i, claims), ack(claims)); err != nil {
				return err
			}
		}
		return nil
	})
}

// eventsOf are the events of all claims.
func eventsOf(claims []sandboxer.Claim) []sandboxer.Event {
	var all []sandboxer.Event
	for _, c := range claims {
		all = append(all, c.Events...)
	}
	return all
}

// storeExtend adds one event to each of the first n sandboxes.
func storeExtend(ctx context.Context, s sandboxer.Store, n int) error {
	for i := range n {
		r, err := s.Get(ctx, storeRecord(i).Sandbox.ID)
		if err != nil {
			return err
		}
		if err := s.Update(ctx, r, storeEvent(r)); err != nil {
			return err
		}
	}
	return nil
}
