package extensiontest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// RunStore checks every promise of [sandboxer.Store], one subtest each. open
// returns an empty store and, with t.Cleanup, closes it.
//
// Sharing one storage between processes is beyond what it can see: a store
// that promises it needs a test with real processes of its own.
func RunStore(t *testing.T, open func(t *testing.T) sandboxer.Store) {
	for _, c := range storeChecks() {
		t.Run(c.promise, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), storeBound)
			defer cancel()
			if err := c.check(ctx, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// storeBound ends a check whose store blocks, with a wide margin for slow disks.
const storeBound = 2 * time.Minute

// A storeCheck finds out, with a store of its own, whether one promise is
// kept. Its error lists everything that was not as promised.
type storeCheck struct {
	promise string
	check   func(context.Context, sandboxer.Store) error
}

func storeChecks() []storeCheck {
	return []storeCheck{
		{"create stores revision 1", checkCreate},
		{"a taken id is refused", checkTakenID},
		{"a key is taken within its project", checkTakenKey},
		{"an unknown sandbox is not found", checkUnknown},
		{"update replaces and counts", checkUpdate},
		{"a stale revision changes nothing", checkStale},
		{"concurrent creates have one winner", checkConcurrentCreates},
		{"concurrent updates lose nothing", checkConcurrentUpdates},
		{"each filter field selects", checkFilters},
		{"filters follow updates", checkFilterAfterUpdate},
		{"list is oldest first", checkListOrder},
		{"events have no gaps", checkSequence},
		{"events are read in order", checkEventOrder},
		{"events are read in parts", checkEventPages},
		{"a refused change leaves no event", checkRefusedEvents},
		{"nobody sees a change without its event", checkAtomicity},
		{"nothing is shared with the caller", checkNotShared},
		{"a claim holds its sandboxes", checkClaim},
		{"a claim expires", checkClaimExpiry},
		{"a claim that is over counts for nothing", checkClaimTaken},
		{"a claim keeps to its limit", checkClaimLimit},
		{"the last ack gives the claim back", checkRelease},
		{"an ack never takes back or runs ahead", checkAckBounds},
		{"failures are counted until an ack", checkDelay},
		{"a claim given back counts nothing", checkGivenBack},
		{"a dead letter is kept and passed over", checkBury},
		{"a rewind offers again from there", checkRewind},
		{"a rewind takes claims away", checkRewindWhileClaimed},
		{"undelivered tells what waits and why", checkUndelivered},
		{"two claimers never hold one sandbox", checkClaimers},
	}
}

// storeTime is in the precision that clients use.
var storeTime = time.Date(2026, 2, 3, 4, 5, 6, 789_012_000, time.UTC)

// storeRecord fills every kind of field, so that what a store drops is seen.
func storeRecord(n int, edits ...func(*sandboxer.Record)) *sandboxer.Record {
	id := fmt.Sprintf("sandbox%013d", n)
	r := &sandboxer.Record{
		Sandbox: sandboxer.Sandbox{
			ID: id, Generation: 1, State: sandboxer.StateRequested, Reason: sandboxer.ReasonRequested,
			Message: "50 % \"done\" – <&> \u2028 ' \\",
			Profile: sandboxer.Profile{ID: "profile.one", Extension: "ext.one", TTL: sandboxer.Duration(time.Hour)},
			Inputs:  map[string]string{"repo": "/srv/repo"}, Labels: map[string]string{"team": "blue", "dev.example/quoted'\"%_": ""},
			Consumer:  sandboxer.Consumer{Project: "project-a", ActorType: sandboxer.ActorAgent, Actor: "agent", Run: "run/7"},
			Extension: "ext.one", Host: "host-1",
			Route:     sandboxer.Route{Policy: sandboxer.PolicyExplicit, Candidates: []sandboxer.Candidate{{Host: "host-1", Estimate: &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 1}}}, Chosen: "host-1"},
			Admission: &sandboxer.Admission{Verdict: sandboxer.Allow, Rewrites: []sandboxer.Rewrite{{Rule: "PORT", Path: "services.api.ports"}}},
			CreatedAt: storeTime.Add(time.Duration(n) * time.Microsecond), StateSince: storeTime,
			ExpiresAt: storeTime.Add(time.Hour), MaxExpiresAt: storeTime.Add(2 * time.Hour),
		},
		Handle:      sandboxer.Handle{SandboxID: id, Generation: 1, Host: "host-1", State: json.RawMessage(`{"v":1}`)},
		Operation:   &sandboxer.Operation{Kind: "create", Token: "token", Process: sandboxer.Process{Machine: "m", PID: 7, Start: 9}, Deadline: storeTime.Add(time.Minute)},
		PayloadHash: "hash",
	}
	for _, edit := range edits {
		edit(r)
	}
	return r
}

// storeEvent is the next event of r, which it counts in r.
func storeEvent(r *sandboxer.Record) sandboxer.Event {
	r.Seq++
	s := r.Sandbox
	return sandboxer.Event{
		ID: fmt.Sprintf("%s-%d", s.ID, r.Seq), Seq: r.Seq, Time: storeTime.Add(time.Duration(r.Seq) * time.Second), SandboxID: s.ID,
		Generation: s.Generation, State: s.State, Reason: s.Reason, Message: s.Message, Profile: s.Profile.ID, Host: s.Host,
		Consumer: s.Consumer, ExpiresAt: s.ExpiresAt, Previous: sandboxer.Duration(time.Second),
		Inputs: map[string]string{"ref": "main"}, Resources: &sandboxer.Resources{CPUs: 1.5, Memory: 1 << 20},
		Estimate:     &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 1},
		Reachability: &sandboxer.Reachability{Services: []sandboxer.Service{{Name: "api", Ports: []sandboxer.Port{{Port: 80}}}}},
	}
}

func storeEvents(r *sandboxer.Record, n int) []sandboxer.Event {
	events := make([]sandboxer.Event, n)
	for i := range events {
		events[i] = storeEvent(r)
	}
	return events
}

// seedStore creates record n with some events.
func seedStore(ctx context.Context, s sandboxer.Store, n, events int, edits ...func(*sandboxer.Record)) (*sandboxer.Record, []sandboxer.Event, error) {
	r := storeRecord(n, edits...)
	all := storeEvents(r, events)
	if err := s.Create(ctx, r, all...); err != nil {
		return r, all, fmt.Errorf("create a plain record: %w", err)
	}
	return r, all, nil
}

// storeDiff is nil if got and want are the same document.
func storeDiff(what string, got, want any) error {
	g, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		return err
	}
	w, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		return err
	}
	if diff := cmp.Diff(string(w), string(g)); diff != "" {
		return fmt.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
	return nil
}

// storeRefused is nil if err is target.
func storeRefused(what string, err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return fmt.Errorf("%s: got error %v, want %q", what, err, target)
}

// storeHolds is nil if s holds exactly this record with exactly these events.
func storeHolds(ctx context.Context, s sandboxer.Store, want *sandboxer.Record, events []sandboxer.Event) error {
	got, err := s.Get(ctx, want.Sandbox.ID)
	if err != nil {
		return fmt.Errorf("get a stored record: %w", err)
	}
	return errors.Join(storeDiff("the stored record", got, want), storeHasEvents(ctx, s, want.Sandbox.ID, 0, events))
}

func storeHasEvents(ctx context.Context, s sandboxer.Store, id string, after int64, want []sandboxer.Event) error {
	got, err := s.Events(ctx, id, after)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return storeDiff(fmt.Sprintf("events of %q after %d", id, after), slices.Concat(got), slices.Concat(want))
}

// storeLacks is nil if s knows nothing of an id.
func storeLacks(ctx context.Context, s sandboxer.Store, id string) error {
	_, err := s.Get(ctx, id)
	return errors.Join(storeRefused("get "+id, err, sandboxer.ErrNotFound), storeHasEvents(ctx, s, id, 0, nil))
}

func checkCreate(ctx context.Context, s sandboxer.Store) error {
	r := storeRecord(1, func(r *sandboxer.Record) { r.Key, r.Revision = "key", 41 })
	events := storeEvents(r, 2)
	if err := s.Create(ctx, r, events...); err != nil {
		return err
	}
	want := storeRecord(1, func(r *sandboxer.Record) { r.Key, r.Revision, r.Seq = "key", 1, 2 })
	byKey, err := s.GetByKey(ctx, "project-a", "key")
	return errors.Join(
		err, storeDiff("the record after Create", r, want), storeHolds(ctx, s, want, events), storeDiff("the record by key", byKey, want),
		s.Create(ctx, storeRecord(2)), // without an event
	)
}

func checkTakenID(ctx context.Context, s sandboxer.Store) error {
	r, events, err := seedStore(ctx, s, 1, 1)
	other := storeRecord(1, func(r *sandboxer.Record) { r.Sandbox.Host, r.Key = "host-2", "key" })
	taken := s.Create(ctx, other, storeEvents(other, 2)...)
	_, byKey := s.GetByKey(ctx, "project-a", "key")
	return errors.Join(
		err, storeRefused("create with a taken id", taken, sandboxer.ErrExists),
		storeHolds(ctx, s, r, events), storeRefused("get by the refused key", byKey, sandboxer.ErrNotFound),
	)
}

func checkTakenKey(ctx context.Context, s sandboxer.Store) error {
	keyed := func(project, key string) func(*sandboxer.Record) {
		return func(r *sandboxer.Record) { r.Sandbox.Consumer.Project, r.Key = project, key }
	}
	first, events, err := seedStore(ctx, s, 1, 1, keyed("project-a", "key"))
	_, _, otherProject := seedStore(ctx, s, 2, 1, keyed("project-b", "key"))
	_, _, otherKey := seedStore(ctx, s, 3, 1, keyed("project-a", "Key"))
	_, _, noKey := seedStore(ctx, s, 4, 1)
	_, _, noKeyAgain := seedStore(ctx, s, 5, 1)
	_, _, taken := seedStore(ctx, s, 6, 1, keyed("project-a", "key"))
	problems := []error{
		err, otherProject, otherKey, noKey, noKeyAgain,
		storeRefused("create with a taken key", taken, sandboxer.ErrExists),
		storeLacks(ctx, s, storeRecord(6).Sandbox.ID), storeHolds(ctx, s, first, events),
	}
	for project, id := range map[string]string{"project-a": storeRecord(1).Sandbox.ID, "project-b": storeRecord(2).Sandbox.ID} {
		found, err := s.GetByKey(ctx, project, "key")
		if err != nil || found.Sandbox.ID != id {
			problems = append(problems, fmt.Errorf("key of %s: got %v, %v, want %s", project, found, err, id))
		}
	}
	for _, unknown := range [][2]string{{"project-c", "key"}, {"project-a", "other"}, {"project-a", ""}} {
		_, err := s.GetByKey(ctx, unknown[0], unknown[1])
		problems = append(problems, storeRefused(fmt.Sprintf("key %q of %s", unknown[1], unknown[0]), err, sandboxer.ErrNotFound))
	}
	return errors.Join(problems...)
}

func checkUnknown(ctx context.Context, s sandboxer.Store) error {
	_, _, err := seedStore(ctx, s, 1, 1)
	stranger := storeRecord(2, func(r *sandboxer.Record) { r.Revision = 1 })
	updated := s.Update(ctx, stranger, storeEvent(stranger))
	if errors.Is(updated, sandboxer.ErrConflict) { // not the stored revision either
		updated = sandboxer.ErrNotFound
	}
	return errors.Join(
		err, storeLacks(ctx, s, stranger.Sandbox.ID),
		storeRefused("update", updated, sandboxer.ErrNotFound), storeLacks(ctx, s, stranger.Sandbox.ID),
	)
}

func checkUpdate(ctx context.Context, s sandboxer.Store) error {
	r, events, err := seedStore(ctx, s, 1, 1)
	r.Sandbox.State, r.Sandbox.Host, r.Operation = sandboxer.StateReady, "host-2", nil
	r.Sandbox.Labels = map[string]string{"team": "red", "new": "label"}
	events = append(events, storeEvents(r, 2)...)
	first := s.Update(ctx, r, events[1:]...)
	counted := storeDiff("the revision after an update", r.Revision, 2)
	held := storeHolds(ctx, s, r, events)
	second := s.Update(ctx, r) // without an event
	return errors.Join(err, first, counted, held, second, storeDiff("the revision after two updates", r.Revision, 3), storeHolds(ctx, s, r, events))
}

func checkStale(ctx context.Context, s sandboxer.Store) error {
	r, events, err := seedStore(ctx, s, 1, 1)
	events = append(events, storeEvent(r))
	problems := []error{err, s.Update(ctx, r, events[1])}
	for _, revision := range []int64{0, 1, 3} {
		stale := storeRecord(1, func(r *sandboxer.Record) { r.Revision, r.Seq = revision, 1 })
		if revision == 3 {
			stale.Seq = 2
		}
		err := s.Update(ctx, stale, storeEvent(stale))
		problems = append(problems,
			storeRefused(fmt.Sprintf("update of revision %d where 2 is stored", revision), err, sandboxer.ErrConflict),
			storeDiff("the revision after a refused update", stale.Revision, revision),
			storeHolds(ctx, s, r, events))
	}
	return errors.Join(problems...)
}

// together runs f n times at once and joins the errors.
func together(n int, f func(i int) error) error {
	problems := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { problems[i] = f(i) })
	}
	all.Wait()
	return errors.Join(problems...)
}

func checkConcurrentCreates(ctx context.Context, s sandboxer.Store) error {
	var mu sync.Mutex
	winners := map[string]int{}
	create := func(race string, r *sandboxer.Record) error {
		err := s.Create(ctx, r, storeEvent(r))
		if errors.Is(err, sandboxer.ErrExists) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		winners[race]++
		return err
	}
	err := together(8, func(i int) error {
		return errors.Join(
			create("one id", storeRecord(1)),
			create("one key", storeRecord(100+i, func(r *sandboxer.Record) { r.Key = "key" })),
		)
	})
	records, listed := s.List(ctx, sandboxer.Filter{})
	return errors.Join(err, listed, storeDiff("winners", winners, map[string]int{"one id": 1, "one key": 1}), storeDiff("number of records", len(records), 2))
}

func checkConcurrentUpdates(ctx context.Context, s sandboxer.Store) error {
	const workers, each = 8, 15
	r, _, err := seedStore(ctx, s, 1, 1)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	revisions := map[int64]int{}
	err = together(workers, func(int) error {
		for done := 0; done < each; {
			mine, err := s.Get(ctx, r.Sandbox.ID)
			if err != nil {
				return err
			}
			mine.Sandbox.Generation++
			switch err := s.Update(ctx, mine, storeEvent(mine)); {
			case err == nil:
				done++
				mu.Lock()
				revisions[mine.Revision]++
				mu.Unlock()
			case !errors.Is(err, sandboxer.ErrConflict):
				return fmt.Errorf("an update that lost the race: %w", err)
			}
		}
		return nil
	})
	problems := []error{err}
	for revision, n := range revisions {
		if n > 1 {
			problems = append(problems, fmt.Errorf("revision %d was given to %d updates", revision, n))
		}
	}
	last, err := s.Get(ctx, r.Sandbox.ID)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	events, err := s.Events(ctx, r.Sandbox.ID, 0)
	total := int64(1 + workers*each)
	return errors.Join(append(problems, err, storeGapless(events),
		storeDiff("generation, revision, seq and events in the end",
			[]int64{int64(last.Sandbox.Generation), last.Revision, last.Seq, int64(len(events))}, []int64{total, total, total, total}))...)
}

// storeGapless is nil if the events of one sandbox are numbered from 1 on.
func storeGapless(events []sandboxer.Event) error {
	for i, e := range events {
		if e.Seq != int64(i+1) {
			return fmt.Errorf("event %d of %d has seq %d", i+1, len(events), e.Seq)
		}
	}
	return nil
}

// checkNotShared changes everything it gave and got, and expects no trace of it.
func checkNotShared(ctx context.Context, s sandboxer.Store) error {
	keyed := func(r *sandboxer.Record) { r.Key = "key" }
	r := storeRecord(1, keyed)
	events := storeEvents(r, 2)
	spoil := func(r *sandboxer.Record, events []sandboxer.Event) {
		r.Sandbox.Labels["team"], r.Sandbox.Inputs["repo"], r.Sandbox.Host = "spoiled", "spoiled", "spoiled"
		r.Operation.Token, r.Handle.State[5], r.Sandbox.Route.Candidates[0].Host = "spoiled", '9', "spoiled"
		r.Sandbox.Admission.Verdict = sandboxer.Deny
		for i := range events {
			e := &events[i]
			e.Message, e.Inputs["ref"], e.Resources.CPUs, e.Estimate.Currency, e.Reachability.Services[0].Name = "spoiled", "spoiled", 99, "spoiled", "spoiled"
		}
	}
	var want *sandboxer.Record
	var wantEvents []sandboxer.Event
	expect := func(revision int64, n int) {
		want = storeRecord(1, keyed)
		wantEvents = storeEvents(want, n)
		want.Revision = revision
	}
	problems := []error{s.Create(ctx, r, events...)}
	expect(1, 2)
	spoil(r, events)
	problems = append(problems, storeHolds(ctx, s, want, wantEvents))

	got, err := s.Get(ctx, want.Sandbox.ID)
	byKey, keyErr := s.GetByKey(ctx, "project-a", "key")
	listed, listErr := s.List(ctx, sandboxer.Filter{})
	read, readErr := s.Events(ctx, want.Sandbox.ID, 0)
	claimed, claimErr := s.ClaimEvents(ctx, time.Now(), 10)
	if err := errors.Join(err, keyErr, listErr, readErr, claimErr); err != nil {
		return err
	}
	spoil(got, read)
	spoil(byKey, eventsOf(claimed))
	for _, r := range listed {
		spoil(r, nil)
	}
	problems = append(problems, storeHolds(ctx, s, want, wantEvents))

	expect(1, 2)
	events = []sandboxer.Event{storeEvent(want)}
	problems = append(problems, s.Update(ctx, want, events...))
	spoil(want, events)
	expect(2, 3)
	return errors.Join(append(problems, storeHolds(ctx, s, want, wantEvents))...)
}
