package extensiontest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// storeLists is nil if the filter selects exactly these records, in this order.
func storeLists(ctx context.Context, s sandboxer.Store, f sandboxer.Filter, want ...int) error {
	records, err := s.List(ctx, f)
	if err != nil {
		return fmt.Errorf("list %+v: %w", f, err)
	}
	got, wanted := []string{}, []string{}
	for _, r := range records {
		got = append(got, r.Sandbox.ID)
	}
	for _, n := range want {
		wanted = append(wanted, storeRecord(n).Sandbox.ID)
	}
	return storeDiff(fmt.Sprintf("list %+v", f), got, wanted)
}

// checkFilters seeds one record that passes every field and, for each field,
// one that differs in nothing else.
func checkFilters(ctx context.Context, s sandboxer.Store) error {
	differences := []func(*sandboxer.Record){
		func(*sandboxer.Record) {},
		func(r *sandboxer.Record) { r.Sandbox.State = sandboxer.StateReady },
		func(r *sandboxer.Record) { r.Sandbox.Consumer.Project = "project-b" },
		func(r *sandboxer.Record) { r.Sandbox.Consumer.ActorType = sandboxer.ActorAdmin },
		func(r *sandboxer.Record) { r.Sandbox.Profile.ID = "profile.two" },
		func(r *sandboxer.Record) { r.Sandbox.Host = "" },
		func(r *sandboxer.Record) { r.Sandbox.Labels = map[string]string{"team": "red", "size": "team"} },
		func(r *sandboxer.Record) { r.Sandbox.Labels = nil },
	}
	var problems []error
	for n, difference := range differences {
		_, _, err := seedStore(ctx, s, n, 1, difference)
		problems = append(problems, err)
	}
	full := sandboxer.Filter{
		States: []sandboxer.State{sandboxer.StateRequested}, Project: "project-a", ActorType: sandboxer.ActorAgent,
		Profile: "profile.one", Host: "host-1", Labels: map[string]string{"team": "blue", "dev.example/quoted'\"%_": ""},
	}
	for _, q := range []struct {
		filter sandboxer.Filter
		want   []int
	}{
		{sandboxer.Filter{}, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{full, []int{0}},
		{sandboxer.Filter{States: full.States}, []int{0, 2, 3, 4, 5, 6, 7}},
		{sandboxer.Filter{States: []sandboxer.State{sandboxer.StateReady, sandboxer.StateLost}}, []int{1}},
		{sandboxer.Filter{States: []sandboxer.State{sandboxer.StateReady, sandboxer.StateRequested}}, []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{sandboxer.Filter{States: []sandboxer.State{sandboxer.StateLost}}, nil},
		{sandboxer.Filter{Project: "project-a"}, []int{0, 1, 3, 4, 5, 6, 7}},
		{sandboxer.Filter{Project: "Project-A"}, nil},
		{sandboxer.Filter{Project: "project-%"}, nil},
		{sandboxer.Filter{ActorType: sandboxer.ActorAgent}, []int{0, 1, 2, 4, 5, 6, 7}},
		{sandboxer.Filter{Profile: "profile.one"}, []int{0, 1, 2, 3, 5, 6, 7}},
		{sandboxer.Filter{Host: "host-1"}, []int{0, 1, 2, 3, 4, 6, 7}},
		{sandboxer.Filter{Labels: map[string]string{"team": "blue"}}, []int{0, 1, 2, 3, 4, 5}},
		{sandboxer.Filter{Labels: map[string]string{"dev.example/quoted'\"%_": ""}}, []int{0, 1, 2, 3, 4, 5}},
		{sandboxer.Filter{Labels: map[string]string{"team": ""}}, nil},
		{sandboxer.Filter{Labels: map[string]string{"absent": ""}}, nil},
		{sandboxer.Filter{Labels: map[string]string{"team": "red", "size": "team"}}, []int{6}},
		{sandboxer.Filter{Labels: map[string]string{"team": "blue", "size": "team"}}, nil},
		{sandboxer.Filter{Project: "project-b", Host: "host-1"}, []int{2}},
		{sandboxer.Filter{Project: "project-b", Profile: "profile.two"}, nil},
	} {
		problems = append(problems, storeLists(ctx, s, q.filter, q.want...))
	}
	return errors.Join(problems...)
}

func checkFilterAfterUpdate(ctx context.Context, s sandboxer.Store) error {
	r, _, err := seedStore(ctx, s, 1, 1)
	r.Sandbox.State, r.Sandbox.Host, r.Sandbox.Profile.ID = sandboxer.StateReady, "host-2", "profile.two"
	r.Sandbox.Labels = map[string]string{"team": "red", "new": "label"}
	return errors.Join(err, s.Update(ctx, r, storeEvent(r)),
		storeLists(ctx, s, sandboxer.Filter{
			States: []sandboxer.State{sandboxer.StateReady}, Host: "host-2", Profile: "profile.two", Labels: r.Sandbox.Labels,
		}, 1),
		storeLists(ctx, s, sandboxer.Filter{States: []sandboxer.State{sandboxer.StateRequested}}),
		storeLists(ctx, s, sandboxer.Filter{Host: "host-1"}),
		storeLists(ctx, s, sandboxer.Filter{Profile: "profile.one"}),
		storeLists(ctx, s, sandboxer.Filter{Labels: map[string]string{"team": "blue"}}),
		storeLists(ctx, s, sandboxer.Filter{Labels: map[string]string{"dev.example/quoted'\"%_": ""}}),
	)
}

// checkListOrder has instants that sort otherwise as text: with and without a
// fraction, and in another zone.
func checkListOrder(ctx context.Context, s sandboxer.Store) error {
	east := time.FixedZone("east", 9*3600)
	created := []time.Time{
		storeTime.Truncate(time.Second),
		storeTime.Truncate(time.Second).Add(500 * time.Millisecond),
		storeTime.Truncate(time.Second).Add(500*time.Millisecond + time.Microsecond).In(east),
		storeTime.Truncate(time.Second).Add(time.Second),
	}
	var problems []error
	for _, n := range []int{2, 0, 3, 1} {
		_, _, err := seedStore(ctx, s, n, 1, func(r *sandboxer.Record) { r.Sandbox.CreatedAt = created[n] })
		problems = append(problems, err)
	}
	return errors.Join(append(problems, storeLists(ctx, s, sandboxer.Filter{}, 0, 1, 2, 3))...)
}

// checkSequence offers events that would leave a gap, on Create and on Update.
func checkSequence(ctx context.Context, s sandboxer.Store) error {
	r, events, err := seedStore(ctx, s, 1, 2)
	problems := []error{err}
	for _, bad := range []struct {
		name string
		edit func(r *sandboxer.Record, events []sandboxer.Event)
	}{
		{"a gap before", func(r *sandboxer.Record, e []sandboxer.Event) { e[0].Seq++; e[1].Seq++; r.Seq++ }},
		{"a gap within", func(r *sandboxer.Record, e []sandboxer.Event) { e[1].Seq++; r.Seq++ }},
		{"a repeated number", func(r *sandboxer.Record, e []sandboxer.Event) { e[1].Seq--; r.Seq-- }},
		{"an earlier number", func(r *sandboxer.Record, e []sandboxer.Event) { e[0].Seq--; e[1].Seq--; r.Seq-- }},
		{"another sandbox's event", func(_ *sandboxer.Record, e []sandboxer.Event) { e[1].SandboxID = storeRecord(9).Sandbox.ID }},
		{"a record ahead of its events", func(r *sandboxer.Record, _ []sandboxer.Event) { r.Seq++ }},
		{"a record behind its events", func(r *sandboxer.Record, _ []sandboxer.Event) { r.Seq-- }},
	} {
		fresh := storeRecord(2)
		offered := storeEvents(fresh, 2)
		bad.edit(fresh, offered)
		problems = append(problems, storeWrongSequence("create with "+bad.name, s.Create(ctx, fresh, offered...)), storeLacks(ctx, s, fresh.Sandbox.ID))

		next := storeRecord(1, func(n *sandboxer.Record) { n.Revision, n.Seq = r.Revision, r.Seq })
		offered = storeEvents(next, 2)
		bad.edit(next, offered)
		problems = append(problems, storeWrongSequence("update with "+bad.name, s.Update(ctx, next, offered...)), storeHolds(ctx, s, r, events))
	}
	return errors.Join(problems...)
}

// storeWrongSequence is nil if err refuses, and not as a race that is worth another try.
func storeWrongSequence(what string, err error) error {
	if err == nil || errors.Is(err, sandboxer.ErrConflict) || errors.Is(err, sandboxer.ErrExists) {
		return fmt.Errorf("%s: got error %v, want a refusal of its own", what, err)
	}
	return nil
}

// checkEventOrder has a clock that was set back: one sandbox's events come by
// number all the same.
func checkEventOrder(ctx context.Context, s sandboxer.Store) error {
	at := func(r *sandboxer.Record, seconds ...int) []sandboxer.Event {
		events := storeEvents(r, len(seconds))
		for i, sec := range seconds {
			events[i].Time = storeTime.Truncate(time.Second).Add(time.Duration(sec) * 500 * time.Millisecond)
		}
		return events
	}
	one, two := storeRecord(1), storeRecord(2)
	a, b := at(one, 1, 4, 5, 5, 9), at(two, 0, 4, 8, 3)
	byTime := []sandboxer.Event{b[0], a[0], b[3], a[1], b[1], a[2], a[3], b[2], a[4]}
	return errors.Join(
		s.Create(ctx, two, b...), s.Create(ctx, one, a...),
		storeHasEvents(ctx, s, one.Sandbox.ID, 0, a), storeHasEvents(ctx, s, two.Sandbox.ID, 0, b),
		storeHasEvents(ctx, s, one.Sandbox.ID, 3, a[3:]), storeHasEvents(ctx, s, one.Sandbox.ID, 5, nil),
		storeHasEvents(ctx, s, "", 0, byTime),
		storeHasEvents(ctx, s, "", 3, []sandboxer.Event{b[3], a[3], a[4]}),
	)
}

// checkEventPages reads all events in parts of every size, from every place,
// of a project and of all. A store that is no [sandboxer.EventPager] passes.
func checkEventPages(ctx context.Context, s sandboxer.Store) error {
	if _, ok := s.(sandboxer.EventPager); !ok {
		return nil
	}
	const sandboxes, each = 4, 3
	var problems []error
	for n := range sandboxes {
		r := storeRecord(n, func(r *sandboxer.Record) { r.Sandbox.Consumer.Project = []string{"project-a", "project-b"}[n%2] })
		events := storeEvents(r, each)
		for i := range events { // some at one moment, and one before its predecessor
			events[i].Consumer = r.Sandbox.Consumer
			events[i].Time = storeTime.Add(time.Duration([]int{0, 2, 1}[i]) * time.Microsecond)
		}
		problems = append(problems, s.Create(ctx, r, events...))
	}
	all, err := s.Events(ctx, "", 0)
	problems = append(problems, err, storeDiff("number of events", len(all), sandboxes*each))
	for _, project := range []string{"", "project-a", "project-b", "project-c"} {
		want := []sandboxer.Event{}
		for _, e := range all {
			if project == "" || e.Consumer.Project == project {
				want = append(want, e)
			}
		}
		for limit := 1; limit <= len(all)+1; limit++ {
			got, err := inParts(ctx, s, project, limit)
			problems = append(problems, err, storeDiff(fmt.Sprintf("events of project %q in parts of %d", project, limit), got, want))
		}
	}
	for _, at := range []time.Duration{-time.Second, 0, 1, time.Microsecond, 1500, 2 * time.Microsecond, time.Second} {
		from := sandboxer.EventPosition{Time: storeTime.Add(at)} // before every event of that moment
		want := []sandboxer.Event{}
		for _, e := range all {
			if !e.Time.Before(from.Time) {
				want = append(want, e)
			}
		}
		got, err := sandboxer.EventsAfter(ctx, s, from, "", 100)
		problems = append(problems, err, storeDiff(fmt.Sprintf("events from %v on", at), append([]sandboxer.Event{}, got...), want))
	}
	return errors.Join(problems...)
}

func inParts(ctx context.Context, s sandboxer.Store, project string, limit int) ([]sandboxer.Event, error) {
	all := []sandboxer.Event{}
	for after := (sandboxer.EventPosition{}); ; after = sandboxer.PositionOf(all[len(all)-1]) {
		part, err := sandboxer.EventsAfter(ctx, s, after, project, limit)
		if err != nil || len(part) == 0 {
			return all, err
		}
		if len(part) > limit || !after.Before(part[0]) {
			return all, fmt.Errorf("%d events that begin with %s, limit is %d after %+v", len(part), part[0].ID, limit, after)
		}
		all = append(all, part...)
	}
}

// checkRefusedEvents refuses changes for each possible cause and looks for
// events that stayed, also in the outbox.
func checkRefusedEvents(ctx context.Context, s sandboxer.Store) error {
	r, events, err := seedStore(ctx, s, 1, 1, func(r *sandboxer.Record) { r.Key = "key" })
	refuse := func(what string, err error) error {
		if err == nil {
			return fmt.Errorf("%s was not refused", what)
		}
		return nil
	}
	stale := storeRecord(1, func(r *sandboxer.Record) { r.Seq, r.Revision = 1, 9 })
	unknown := storeRecord(2, func(r *sandboxer.Record) { r.Seq, r.Revision = 1, 1 })
	takenID := storeRecord(1)
	takenKey := storeRecord(3, func(r *sandboxer.Record) { r.Key = "key" })
	half := storeRecord(1, func(n *sandboxer.Record) { n.Seq, n.Revision = 1, r.Revision })
	halfEvents := storeEvents(half, 2)
	halfEvents[1].Seq++
	problems := errors.Join(err,
		refuse("a stale update", s.Update(ctx, stale, storeEvent(stale))),
		refuse("an update of an unknown sandbox", s.Update(ctx, unknown, storeEvent(unknown))),
		refuse("a taken id", s.Create(ctx, takenID, storeEvents(takenID, 2)...)),
		refuse("a taken key", s.Create(ctx, takenKey, storeEvents(takenKey, 2)...)),
		refuse("a gap after a good event", s.Update(ctx, half, halfEvents...)),
		storeHolds(ctx, s, r, events), storeHasEvents(ctx, s, "", 0, events),
	)
	claimed, err := s.ClaimEvents(ctx, time.Now().Add(time.Hour), 100)
	return errors.Join(problems, err, storeDiff("undelivered events", eventsOf(claimed), events))
}

// checkAtomicity reads record and events in both orders while they change.
func checkAtomicity(ctx context.Context, s sandboxer.Store) error {
	r, _, err := seedStore(ctx, s, 1, 1)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	return together(3, func(i int) error {
		if i == 0 {
			defer close(done)
			for range 60 {
				if err := s.Update(ctx, r, storeEvents(r, 2)...); err != nil {
					return err
				}
			}
			return nil
		}
		for {
			if err := storeConsistent(ctx, s, storeRecord(1).Sandbox.ID); err != nil {
				return err
			}
			select {
			case <-done:
				return nil
			default:
			}
		}
	})
}

func storeConsistent(ctx context.Context, s sandboxer.Store, id string) error {
	before, err := s.Events(ctx, id, 0)
	if err != nil {
		return err
	}
	r, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	after, err := s.Events(ctx, id, 0)
	if err != nil {
		return err
	}
	if int64(len(before)) > r.Seq || int64(len(after)) < r.Seq {
		return fmt.Errorf("%d events, then a record with seq %d, then %d events", len(before), r.Seq, len(after))
	}
	return errors.Join(storeGapless(before), storeGapless(after))
}
