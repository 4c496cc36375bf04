package extensiontest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// inAnHour is the end of a claim that must not expire during a check.
func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// storeClaims is nil if a claim yields exactly these events; events of one
// sandbox in order, sandboxes in any.
func storeClaims(ctx context.Context, s sandboxer.Store, what string, until time.Time, limit int, want ...sandboxer.Event) error {
	got, err := s.ClaimEvents(ctx, until, limit)
	if err != nil {
		return fmt.Errorf("claim %s: %w", what, err)
	}
	bySandbox := func(a, b sandboxer.Event) int { return strings.Compare(a.SandboxID, b.SandboxID) }
	slices.SortStableFunc(got, bySandbox)
	slices.SortStableFunc(want, bySandbox)
	return storeDiff("claim "+what, slices.Concat(got), slices.Concat(want))
}

func checkClaim(ctx context.Context, s sandboxer.Store) error {
	one, a, err := seedStore(ctx, s, 1, 3)
	_, b, err2 := seedStore(ctx, s, 2, 2)
	first := storeClaims(ctx, s, "everything", inAnHour(), 100, append(a, b...)...)
	again := storeClaims(ctx, s, "while all is claimed", inAnHour(), 100)
	added := s.Update(ctx, one, storeEvent(one))
	return errors.Join(err, err2, first, again, added,
		storeClaims(ctx, s, "an event of a claimed sandbox", inAnHour(), 100),
		s.AckEvents(ctx, one.Sandbox.ID, 1), s.AckEvents(ctx, one.Sandbox.ID, 2),
		storeClaims(ctx, s, "a sandbox with a part delivered", inAnHour(), 100),
	)
}

func checkClaimExpiry(ctx context.Context, s sandboxer.Store) error {
	const claim = 300 * time.Millisecond
	r, events, err := seedStore(ctx, s, 1, 3)
	id := r.Sandbox.ID
	err = errors.Join(err,
		storeClaims(ctx, s, "until now", time.Now(), 100, events...),
		storeClaims(ctx, s, "what was claimed until now", time.Now().Add(-time.Minute), 100, events...),
		s.AckEvents(ctx, id, 1),
	)
	start := time.Now()
	err = errors.Join(err, storeClaims(ctx, s, "the rest, for a moment", start.Add(claim), 100, events[1:]...))
	if err != nil {
		return err
	}
	for {
		got, err := s.ClaimEvents(ctx, inAnHour(), 100)
		switch waited := time.Since(start); {
		case err != nil:
			return err
		case len(got) > 0 && waited < claim:
			return fmt.Errorf("a claim for %v ended after %v", claim, waited)
		case len(got) > 0:
			return storeDiff("what an expired claim left", got, events[1:])
		case waited > claim+10*time.Second:
			return fmt.Errorf("a claim for %v holds after %v", claim, waited)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func checkClaimLimit(ctx context.Context, s sandboxer.Store) error {
	one, a, err := seedStore(ctx, s, 1, 3)
	id := one.Sandbox.ID
	err = errors.Join(err,
		storeClaims(ctx, s, "two of three", inAnHour(), 2, a[:2]...),
		storeClaims(ctx, s, "the third while its sandbox is claimed", inAnHour(), 2),
		s.AckEvents(ctx, id, 1), s.AckEvents(ctx, id, 2),
		storeClaims(ctx, s, "the third", inAnHour(), 2, a[2]),
	)
	for n := 2; n < 7; n++ {
		_, _, seeded := seedStore(ctx, s, n, 1)
		err = errors.Join(err, seeded)
	}
	seen := map[string]bool{}
	for _, limit := range []int{3, 1, 3} {
		got, claimErr := s.ClaimEvents(ctx, inAnHour(), limit)
		err = errors.Join(err, claimErr)
		if want := min(limit, 5-len(seen)); len(got) != want {
			err = errors.Join(err, fmt.Errorf("limit %d with %d events due: got %d, want %d", limit, 5-len(seen), len(got), want))
		}
		for _, e := range got {
			seen[e.ID] = true
		}
	}
	return errors.Join(err, storeDiff("different events claimed", len(seen), 5))
}

func checkRelease(ctx context.Context, s sandboxer.Store) error {
	r, a, err := seedStore(ctx, s, 1, 2)
	id := r.Sandbox.ID
	first := storeClaims(ctx, s, "both", inAnHour(), 100, a...)
	next := storeEvent(r)
	return errors.Join(err, first, s.Update(ctx, r, next),
		s.AckEvents(ctx, id, 1), s.AckEvents(ctx, id, 2),
		storeClaims(ctx, s, "what came during the claim", inAnHour(), 100, next),
		s.AckEvents(ctx, id, 3),
		storeClaims(ctx, s, "with all delivered", inAnHour(), 100),
	)
}

func checkAckBounds(ctx context.Context, s sandboxer.Store) error {
	r, a, err := seedStore(ctx, s, 1, 3)
	id := r.Sandbox.ID
	err = errors.Join(err,
		storeClaims(ctx, s, "all", inAnHour(), 100, a...),
		s.AckEvents(ctx, id, 3), s.AckEvents(ctx, id, 1),
		storeClaims(ctx, s, "after a late ack", inAnHour(), 100),
	)
	_ = s.AckEvents(ctx, id, 1000) // may be refused, must not deliver what is yet to come
	next := storeEvent(r)
	return errors.Join(err, s.Update(ctx, r, next),
		storeClaims(ctx, s, "after an ack beyond the last event", inAnHour(), 100, next))
}

// dueNow makes events due at once and tells how many failures were counted.
func dueNow(failures *int) func(int) time.Time {
	return func(n int) time.Time { *failures = n; return time.Now().Add(-time.Second) }
}

func checkDelay(ctx context.Context, s sandboxer.Store) error {
	r, a, err := seedStore(ctx, s, 1, 2)
	id := r.Sandbox.ID
	err = errors.Join(err, storeClaims(ctx, s, "both", inAnHour(), 100, a...))
	for n := 1; n <= 10; n++ {
		counted := 0
		err = errors.Join(err,
			s.DelayEvents(ctx, id, "down", dueNow(&counted)),
			storeDiff("failures counted", counted, n),
			storeClaims(ctx, s, fmt.Sprintf("what is due again after failure %d", n), inAnHour(), 100, a...))
	}
	counted := 0
	return errors.Join(err,
		s.DelayEvents(ctx, id, "down", func(int) time.Time { return inAnHour() }),
		storeClaims(ctx, s, "before it is due", inAnHour(), 100),
		s.AckEvents(ctx, id, 1), // nobody holds a claim: the failures are forgotten, the delay is not
		s.DelayEvents(ctx, id, "down", dueNow(&counted)),
		storeDiff("failures counted after an ack", counted, 1),
		storeClaims(ctx, s, "a first failure after an ack", inAnHour(), 100, a[1]),
	)
}

func checkGivenBack(ctx context.Context, s sandboxer.Store) error {
	r, a, err := seedStore(ctx, s, 1, 2)
	id, counted := r.Sandbox.ID, -1
	err = errors.Join(err,
		storeClaims(ctx, s, "both", inAnHour(), 100, a...),
		s.DelayEvents(ctx, id, "", dueNow(&counted)),
		storeDiff("failures counted", counted, 0),
		storeClaims(ctx, s, "what was given back", inAnHour(), 100, a...),
		s.DelayEvents(ctx, id, "down", dueNow(&counted)),
		s.DelayEvents(ctx, id, "", dueNow(&counted)),
		storeDiff("failures counted after one", counted, 1),
	)
	list, listErr := s.Undelivered(ctx, id)
	if len(list) != 2 || list[0].Reason != "down" {
		err = errors.Join(err, fmt.Errorf("giving a claim back took the reason away: %+v", list))
	}
	return errors.Join(err, listErr)
}

func checkBury(ctx context.Context, s sandboxer.Store) error {
	r, a, err := seedStore(ctx, s, 1, 3)
	id := r.Sandbox.ID
	err = errors.Join(err,
		storeClaims(ctx, s, "all", inAnHour(), 100, a...),
		s.AckEvents(ctx, id, 1),
		s.BuryEvent(ctx, id, 2, "too large", storeTime),
		storeClaims(ctx, s, "while the claim lasts", inAnHour(), 100),
		s.BuryEvent(ctx, id, 3, "too old", storeTime), // the last of the claim gives it back
		storeClaims(ctx, s, "dead letters", inAnHour(), 100),
		s.BuryEvent(ctx, id, 1, "delivered long ago", storeTime),
	)
	next := storeEvent(r)
	err = errors.Join(err, s.Update(ctx, r, next), storeClaims(ctx, s, "what comes after dead letters", inAnHour(), 100, next))
	list, listErr := s.Undelivered(ctx, id)
	if len(list) == 3 {
		list = list[:2] // the third waits
	}
	want := []sandboxer.Undelivered{
		{Event: a[1], Dead: true, Reason: "too large", DeadSince: storeTime},
		{Event: a[2], Dead: true, Reason: "too old", DeadSince: storeTime},
	}
	return errors.Join(err, listErr, storeDiff("dead letters", list, want))
}

func checkRewind(ctx context.Context, s sandboxer.Store) error {
	r, a, err := seedStore(ctx, s, 1, 4)
	id, counted := r.Sandbox.ID, 0
	err = errors.Join(err,
		storeClaims(ctx, s, "all", inAnHour(), 100, a...),
		s.BuryEvent(ctx, id, 1, "first", storeTime),
		s.BuryEvent(ctx, id, 2, "second", storeTime),
		s.AckEvents(ctx, id, 4),
		s.RewindEvents(ctx, id, 2),
		storeClaims(ctx, s, "from the second on", inAnHour(), 100, a[1:]...),
	)
	dead := func(what string, want ...sandboxer.Undelivered) error {
		list, err := s.Undelivered(ctx, id)
		list = slices.DeleteFunc(list, func(u sandboxer.Undelivered) bool { return !u.Dead })
		return errors.Join(err, storeDiff(what, slices.Concat(list), want))
	}
	first := sandboxer.Undelivered{Event: a[0], Dead: true, Reason: "first", DeadSince: storeTime}
	return errors.Join(err, dead("dead letters before the rewind", first),
		s.AckEvents(ctx, id, 2),
		s.RewindEvents(ctx, id, 4), // beyond what is delivered: nothing to take back
		storeClaims(ctx, s, "after a rewind to what waits", inAnHour(), 100, a[2:]...),
		s.DelayEvents(ctx, id, "down", func(int) time.Time { return inAnHour() }),
		s.RewindEvents(ctx, id, 1),
		storeClaims(ctx, s, "everything, at once", inAnHour(), 100, a...),
		dead("dead letters after a rewind to the start"),
		s.DelayEvents(ctx, id, "down", dueNow(&counted)),
		storeDiff("failures counted after a rewind", counted, 1),
	)
}

func checkUndelivered(ctx context.Context, s sandboxer.Store) error {
	one, a, err := seedStore(ctx, s, 1, 3)
	two, b, err2 := seedStore(ctx, s, 2, 1)
	due := storeTime.Add(time.Hour)
	err = errors.Join(err, err2,
		s.AckEvents(ctx, one.Sandbox.ID, 1),
		s.DelayEvents(ctx, one.Sandbox.ID, "down", func(int) time.Time { return due }),
	)
	waiting := func(e sandboxer.Event) sandboxer.Undelivered {
		return sandboxer.Undelivered{Event: e, Reason: "down", Failures: 1, DueAt: due}
	}
	fresh := sandboxer.Undelivered{Event: b[0]}
	lists := func(what, id string, want ...sandboxer.Undelivered) error {
		got, err := s.Undelivered(ctx, id)
		return errors.Join(err, storeDiff(what, slices.Concat(got), want))
	}
	return errors.Join(err,
		lists("undelivered of one sandbox", one.Sandbox.ID, waiting(a[1]), waiting(a[2])),
		lists("undelivered of all sandboxes", "", waiting(a[1]), waiting(a[2]), fresh),
		s.AckEvents(ctx, one.Sandbox.ID, 3), s.AckEvents(ctx, two.Sandbox.ID, 1),
		lists("undelivered when all is delivered", ""),
		lists("undelivered of an unknown sandbox", "nobody"),
	)
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
	take := func(claimer int, events []sandboxer.Event) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
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
	ack := func(events []sandboxer.Event) error {
		for i, e := range events {
			if i == len(events)-1 || events[i+1].SandboxID != e.SandboxID { // before the store gives it to somebody else
				mu.Lock()
				delete(holder, e.SandboxID)
				mu.Unlock()
			}
			if err := s.AckEvents(ctx, e.SandboxID, e.Seq); err != nil {
				return err
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
			events, err := s.ClaimEvents(ctx, inAnHour(), 4)
			if err := errors.Join(err, take(i, events), ack(events)); err != nil {
				return err
			}
		}
		return nil
	})
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
