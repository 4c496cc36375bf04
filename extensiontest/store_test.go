package extensiontest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func TestMemoryStore(t *testing.T) {
	RunStore(t, func(*testing.T) sandboxer.Store { return sandboxer.NewMemoryStore() })
}

// TestKitCatchesBrokenStores shows for every promise a store that breaks it.
func TestKitCatchesBrokenStores(t *testing.T) {
	unbroken := map[string]func(context.Context, sandboxer.Store) error{}
	for _, c := range storeChecks() {
		unbroken[c.promise] = c.check
	}
	checks := maps.Clone(unbroken)
	for _, b := range brokenStores() {
		t.Run(b.defect, func(t *testing.T) {
			delete(unbroken, b.promise)
			check, ok := checks[b.promise]
			if !ok {
				t.Fatalf("the kit has no check %q", b.promise)
			}
			s := &brokenStore{MemoryStore: sandboxer.NewMemoryStore()}
			b.breakIt(s)
			err := check(t.Context(), s)
			if err == nil {
				t.Errorf("the check %q passed", b.promise)
			}
			t.Log(err)
		})
	}
	for promise := range unbroken {
		t.Errorf("no store breaks %q: its check may be unable to fail", promise)
	}
}

// A brokenStore is a good one but for the methods that are replaced.
type brokenStore struct {
	*sandboxer.MemoryStore
	create func(context.Context, *sandboxer.Record, []sandboxer.Event) error
	get    func(context.Context, string) (*sandboxer.Record, error)
	byKey  func(context.Context, string, string) (*sandboxer.Record, error)
	list   func(context.Context, sandboxer.Filter) ([]*sandboxer.Record, error)
	update func(context.Context, *sandboxer.Record, []sandboxer.Event) error
	events func(context.Context, string, int64) ([]sandboxer.Event, error)
	claim  func(context.Context, time.Time, int) ([]sandboxer.Claim, error)
	ack    func(context.Context, sandboxer.Claim, int64) error
	delay  func(context.Context, sandboxer.Claim, string, func(int) time.Time) error
	bury   func(context.Context, sandboxer.Claim, int64, string, time.Time) error
	rewind func(context.Context, string, int64, time.Time) error

	undelivered func(context.Context, string) ([]sandboxer.Undelivered, error)
	page        func(context.Context, sandboxer.EventPosition, string, int) ([]sandboxer.Event, error)
}

func (b *brokenStore) EventsAfter(ctx context.Context, after sandboxer.EventPosition, project string, limit int) ([]sandboxer.Event, error) {
	if b.page != nil {
		return b.page(ctx, after, project, limit)
	}
	return b.MemoryStore.EventsAfter(ctx, after, project, limit)
}

func (b *brokenStore) Create(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if b.create != nil {
		return b.create(ctx, r, events)
	}
	return b.MemoryStore.Create(ctx, r, events...)
}

func (b *brokenStore) Get(ctx context.Context, id string) (*sandboxer.Record, error) {
	if b.get != nil {
		return b.get(ctx, id)
	}
	return b.MemoryStore.Get(ctx, id)
}

func (b *brokenStore) GetByKey(ctx context.Context, project, key string) (*sandboxer.Record, error) {
	if b.byKey != nil {
		return b.byKey(ctx, project, key)
	}
	return b.MemoryStore.GetByKey(ctx, project, key)
}

func (b *brokenStore) List(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
	if b.list != nil {
		return b.list(ctx, f)
	}
	return b.MemoryStore.List(ctx, f)
}

func (b *brokenStore) Update(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if b.update != nil {
		return b.update(ctx, r, events)
	}
	return b.MemoryStore.Update(ctx, r, events...)
}

func (b *brokenStore) Events(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
	if b.events != nil {
		return b.events(ctx, id, after)
	}
	return b.MemoryStore.Events(ctx, id, after)
}

func (b *brokenStore) ClaimEvents(ctx context.Context, until time.Time, limit int) ([]sandboxer.Claim, error) {
	if b.claim != nil {
		return b.claim(ctx, until, limit)
	}
	return b.MemoryStore.ClaimEvents(ctx, until, limit)
}

func (b *brokenStore) AckEvents(ctx context.Context, c sandboxer.Claim, seq int64) error {
	if b.ack != nil {
		return b.ack(ctx, c, seq)
	}
	return b.MemoryStore.AckEvents(ctx, c, seq)
}

func (b *brokenStore) DelayEvents(ctx context.Context, c sandboxer.Claim, reason string, due func(int) time.Time) error {
	if b.delay != nil {
		return b.delay(ctx, c, reason, due)
	}
	return b.MemoryStore.DelayEvents(ctx, c, reason, due)
}

func (b *brokenStore) BuryEvent(ctx context.Context, c sandboxer.Claim, seq int64, reason string, at time.Time) error {
	if b.bury != nil {
		return b.bury(ctx, c, seq, reason, at)
	}
	return b.MemoryStore.BuryEvent(ctx, c, seq, reason, at)
}

func (b *brokenStore) RewindEvents(ctx context.Context, id string, seq int64, at time.Time) error {
	if b.rewind != nil {
		return b.rewind(ctx, id, seq, at)
	}
	return b.MemoryStore.RewindEvents(ctx, id, seq, at)
}

func (b *brokenStore) Undelivered(ctx context.Context, id string) ([]sandboxer.Undelivered, error) {
	if b.undelivered != nil {
		return b.undelivered(ctx, id)
	}
	return b.MemoryStore.Undelivered(ctx, id)
}

type defect struct {
	defect  string
	promise string
	breakIt func(*brokenStore)
}

func brokenStores() []defect {
	return slices.Concat(brokenRecords(), brokenFilters(), brokenEvents(), brokenOutboxes())
}

func brokenRecords() []defect {
	return []defect{
		{"drops a field", "create stores revision 1", func(b *brokenStore) {
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				stored := *r
				stored.Operation = nil
				err := b.MemoryStore.Create(ctx, &stored, events...)
				r.Revision = stored.Revision
				return err
			}
		}},
		{"does not tell the revision", "create stores revision 1", func(b *brokenStore) {
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				stored := *r
				return b.MemoryStore.Create(ctx, &stored, events...)
			}
		}},
		{"creates over a taken id", "a taken id is refused", func(b *brokenStore) {
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				if err := b.MemoryStore.Create(ctx, r, events...); !errors.Is(err, sandboxer.ErrExists) {
					return err
				}
				return nil
			}
		}},
		{"has keys of all projects in one space", "a key is taken within its project", func(b *brokenStore) {
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				all, _ := b.MemoryStore.List(ctx, sandboxer.Filter{})
				if r.Key != "" && slices.ContainsFunc(all, func(o *sandboxer.Record) bool { return o.Key == r.Key }) {
					return sandboxer.ErrExists
				}
				return b.MemoryStore.Create(ctx, r, events...)
			}
		}},
		{"takes keys twice", "a key is taken within its project", func(b *brokenStore) {
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				if _, err := b.MemoryStore.GetByKey(ctx, r.Sandbox.Consumer.Project, r.Key); err == nil {
					r.Key = ""
				}
				return b.MemoryStore.Create(ctx, r, events...)
			}
		}},
		{"finds records without a key by the empty key", "a key is taken within its project", func(b *brokenStore) {
			b.byKey = func(ctx context.Context, project, key string) (*sandboxer.Record, error) {
				if key == "" {
					return storeRecord(4), nil
				}
				return b.MemoryStore.GetByKey(ctx, project, key)
			}
		}},
		{"invents unknown records", "an unknown sandbox is not found", func(b *brokenStore) {
			b.get = func(ctx context.Context, id string) (*sandboxer.Record, error) {
				if r, err := b.MemoryStore.Get(ctx, id); err == nil {
					return r, nil
				}
				return storeRecord(2), nil
			}
		}},
		{"creates on update", "an unknown sandbox is not found", func(b *brokenStore) {
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				if err := b.MemoryStore.Update(ctx, r, events...); !errors.Is(err, sandboxer.ErrNotFound) {
					return err
				}
				return b.MemoryStore.Create(ctx, r, events...)
			}
		}},
		{"keeps the old labels", "update replaces and counts", func(b *brokenStore) {
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				stored := *r
				if old, err := b.MemoryStore.Get(ctx, r.Sandbox.ID); err == nil {
					stored.Sandbox.Labels = old.Sandbox.Labels
				}
				err := b.MemoryStore.Update(ctx, &stored, events...)
				r.Revision = stored.Revision
				return err
			}
		}},
		{"ignores the revision", "a stale revision changes nothing", func(b *brokenStore) {
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				return updateAnyway(ctx, b.MemoryStore, r, events)
			}
		}},
		{"looks, then creates", "concurrent creates have one winner", func(b *brokenStore) {
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				_, err := b.MemoryStore.Get(ctx, r.Sandbox.ID)
				time.Sleep(2 * time.Millisecond)
				created := b.MemoryStore.Create(ctx, r, events...)
				if err != nil && errors.Is(created, sandboxer.ErrExists) {
					return nil
				}
				return created
			}
		}},
		{"looks at the revision, then updates", "concurrent updates lose nothing", func(b *brokenStore) {
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				if now, err := b.MemoryStore.Get(ctx, r.Sandbox.ID); err != nil || now.Revision != r.Revision {
					return sandboxer.ErrConflict
				}
				time.Sleep(time.Millisecond)
				return updateAnyway(ctx, b.MemoryStore, r, events)
			}
		}},
		{"calls a lost race something else", "concurrent updates lose nothing", func(b *brokenStore) {
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				time.Sleep(time.Millisecond)
				if err := b.MemoryStore.Update(ctx, r, events...); err != nil {
					return sandboxer.ErrInvalid
				}
				return nil
			}
		}},
		{"gives out one copy", "nothing is shared with the caller", func(b *brokenStore) {
			cache := map[string]*sandboxer.Record{}
			b.get = func(ctx context.Context, id string) (*sandboxer.Record, error) {
				if cache[id] == nil {
					cache[id], _ = b.MemoryStore.Get(ctx, id)
				}
				return cache[id], nil
			}
		}},
		{"keeps what it was given", "nothing is shared with the caller", func(b *brokenStore) {
			var kept *sandboxer.Record
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				kept = r
				return b.MemoryStore.Create(ctx, r, events...)
			}
			b.get = func(context.Context, string) (*sandboxer.Record, error) { return kept, nil }
		}},
	}
}

// updateAnyway makes any revision and any event numbers fit.
func updateAnyway(ctx context.Context, s *sandboxer.MemoryStore, r *sandboxer.Record, events []sandboxer.Event) error {
	now, err := s.Get(ctx, r.Sandbox.ID)
	if err != nil {
		return err
	}
	r.Revision, r.Seq = now.Revision, now.Seq
	return s.Update(ctx, r, renumbered(r, events)...)
}

// renumbered makes events continue at r.
func renumbered(r *sandboxer.Record, events []sandboxer.Event) []sandboxer.Event {
	events = slices.Clone(events)
	for i := range events {
		r.Seq++
		events[i].Seq, events[i].SandboxID = r.Seq, r.Sandbox.ID
	}
	return events
}

func brokenFilters() []defect {
	forgets := func(name string, forget func(*sandboxer.Filter)) defect {
		return defect{"forgets the filter by " + name, "each filter field selects", func(b *brokenStore) {
			b.list = func(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
				forget(&f)
				return b.MemoryStore.List(ctx, f)
			}
		}}
	}
	return []defect{
		forgets("state", func(f *sandboxer.Filter) { f.States = nil }),
		forgets("project", func(f *sandboxer.Filter) { f.Project = "" }),
		forgets("actor type", func(f *sandboxer.Filter) { f.ActorType = "" }),
		forgets("profile", func(f *sandboxer.Filter) { f.Profile = "" }),
		forgets("host", func(f *sandboxer.Filter) { f.Host = "" }),
		forgets("labels", func(f *sandboxer.Filter) { f.Labels = nil }),
		forgets("all states but one", func(f *sandboxer.Filter) { f.States = f.States[:min(1, len(f.States))] }),
		forgets("labels without a value", func(f *sandboxer.Filter) {
			f.Labels = maps.Clone(f.Labels)
			maps.DeleteFunc(f.Labels, func(_, v string) bool { return v == "" })
		}),
		{"selects by what was created", "filters follow updates", func(b *brokenStore) {
			created := map[string]*sandboxer.Record{}
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				err := b.MemoryStore.Create(ctx, r, events...)
				created[r.Sandbox.ID], _ = b.MemoryStore.Get(ctx, r.Sandbox.ID)
				return err
			}
			b.list = func(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
				all, err := b.MemoryStore.List(ctx, sandboxer.Filter{})
				return slices.DeleteFunc(all, func(r *sandboxer.Record) bool { return !f.Matches(&created[r.Sandbox.ID].Sandbox) }), err
			}
		}},
		{"lists newest first", "list is oldest first", func(b *brokenStore) {
			b.list = func(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
				all, err := b.MemoryStore.List(ctx, f)
				slices.Reverse(all)
				return all, err
			}
		}},
		{"sorts times as text", "list is oldest first", func(b *brokenStore) {
			b.list = func(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
				all, err := b.MemoryStore.List(ctx, f)
				text := func(r *sandboxer.Record) string { return r.Sandbox.CreatedAt.UTC().Format(time.RFC3339Nano) }
				slices.SortFunc(all, func(a, b *sandboxer.Record) int { return strings.Compare(text(a), text(b)) })
				return all, err
			}
		}},
	}
}

func brokenEvents() []defect {
	return []defect{
		{"renumbers events", "events have no gaps", func(b *brokenStore) {
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				return updateAnyway(ctx, b.MemoryStore, r, events)
			}
		}},
		{"renumbers first events", "events have no gaps", func(b *brokenStore) {
			b.create = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				r.Seq = 0
				return b.MemoryStore.Create(ctx, r, renumbered(r, events)...)
			}
		}},
		{"takes a gap for a race", "events have no gaps", func(b *brokenStore) {
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				if err := b.MemoryStore.Update(ctx, r, events...); err != nil {
					return sandboxer.ErrConflict
				}
				return nil
			}
		}},
		{"reads events by time", "events are read in order", func(b *brokenStore) {
			b.events = func(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
				events, err := b.MemoryStore.Events(ctx, id, after)
				slices.SortStableFunc(events, func(a, b sandboxer.Event) int { return a.Time.Compare(b.Time) })
				return events, err
			}
		}},
		{"reads events by sandbox", "events are read in order", func(b *brokenStore) {
			b.events = func(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
				events, err := b.MemoryStore.Events(ctx, id, after)
				slices.SortStableFunc(events, func(a, b sandboxer.Event) int { return strings.Compare(a.SandboxID, b.SandboxID) })
				return events, err
			}
		}},
		{"includes the event it was to read after", "events are read in order", func(b *brokenStore) {
			b.events = func(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
				return b.MemoryStore.Events(ctx, id, after-1)
			}
		}},
		{"repeats the event that a part ended with", "events are read in parts", func(b *brokenStore) {
			b.page = func(ctx context.Context, after sandboxer.EventPosition, project string, limit int) ([]sandboxer.Event, error) {
				after.Seq--
				return b.MemoryStore.EventsAfter(ctx, after, project, limit)
			}
		}},
		{"goes on with the next moment", "events are read in parts", func(b *brokenStore) {
			b.page = func(ctx context.Context, after sandboxer.EventPosition, project string, limit int) ([]sandboxer.Event, error) {
				return b.MemoryStore.EventsAfter(ctx, sandboxer.EventPosition{Time: after.Time.Add(time.Microsecond)}, project, limit)
			}
		}},
		{"shows every project", "events are read in parts", func(b *brokenStore) {
			b.page = func(ctx context.Context, after sandboxer.EventPosition, _ string, limit int) ([]sandboxer.Event, error) {
				return b.MemoryStore.EventsAfter(ctx, after, "", limit)
			}
		}},
		{"knows no limit", "events are read in parts", func(b *brokenStore) {
			b.page = func(ctx context.Context, after sandboxer.EventPosition, project string, _ int) ([]sandboxer.Event, error) {
				return b.MemoryStore.EventsAfter(ctx, after, project, 1000)
			}
		}},
		{"writes events before it knows", "a refused change leaves no event", func(b *brokenStore) {
			var left []sandboxer.Event
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				err := b.MemoryStore.Update(ctx, r, events...)
				if err != nil {
					left = append(left, events...)
				}
				return err
			}
			b.events = func(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
				events, err := b.MemoryStore.Events(ctx, id, after)
				return append(events, left...), err
			}
		}},
		{"writes the event later than its change", "nobody sees a change without its event", func(b *brokenStore) {
			var visible atomic.Int64
			visible.Store(1)
			b.update = func(ctx context.Context, r *sandboxer.Record, events []sandboxer.Event) error {
				err := b.MemoryStore.Update(ctx, r, events...)
				time.Sleep(time.Millisecond)
				visible.Store(r.Seq)
				return err
			}
			b.events = func(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
				limit := visible.Load()
				events, err := b.MemoryStore.Events(ctx, id, after)
				return slices.DeleteFunc(events, func(e sandboxer.Event) bool { return e.Seq > limit }), err
			}
		}},
	}
}

func brokenOutboxes() []defect {
	claimsUntil := func(name, promise string, until func(time.Time) time.Time) defect {
		return defect{name, promise, func(b *brokenStore) {
			b.claim = func(ctx context.Context, t time.Time, limit int) ([]sandboxer.Claim, error) {
				return b.MemoryStore.ClaimEvents(ctx, until(t), limit)
			}
		}}
	}
	claims := func(name, promise string, change func([]sandboxer.Claim) []sandboxer.Claim) defect {
		return defect{name, promise, func(b *brokenStore) {
			b.claim = func(ctx context.Context, until time.Time, limit int) ([]sandboxer.Claim, error) {
				claims, err := b.MemoryStore.ClaimEvents(ctx, until, limit)
				return change(claims), err
			}
		}}
	}
	return []defect{
		claimsUntil("does not hold claims", "a claim holds its sandboxes", func(time.Time) time.Time { return time.Time{} }),
		claimsUntil("holds claims for ever", "a claim expires", func(t time.Time) time.Time { return t.AddDate(100, 0, 0) }),
		claimsUntil("ends claims early", "a claim expires", func(t time.Time) time.Time { return t.Add(-100 * time.Millisecond) }),
		claims("claims in reverse", "a claim holds its sandboxes", func(claims []sandboxer.Claim) []sandboxer.Claim {
			for _, c := range claims {
				slices.Reverse(c.Events)
			}
			return claims
		}),
		claims("forgets rewinds", "a rewind offers again from there", func(claims []sandboxer.Claim) []sandboxer.Claim {
			for i := range claims {
				claims[i].Rewound = time.Time{}
			}
			return claims
		}),
		{"ignores the limit", "a claim keeps to its limit", func(b *brokenStore) {
			b.claim = func(ctx context.Context, until time.Time, _ int) ([]sandboxer.Claim, error) {
				return b.MemoryStore.ClaimEvents(ctx, until, 1000)
			}
		}},
		{"holds a claim after its last ack", "the last ack gives the claim back", func(b *brokenStore) {
			held := map[string]time.Time{}
			b.claim = func(ctx context.Context, until time.Time, limit int) ([]sandboxer.Claim, error) {
				claims, err := b.MemoryStore.ClaimEvents(ctx, until, limit)
				claims = slices.DeleteFunc(claims, func(c sandboxer.Claim) bool { return time.Now().Before(held[c.SandboxID]) })
				for _, c := range claims {
					held[c.SandboxID] = until
				}
				return claims, err
			}
		}},
		{"takes an ack back", "an ack never takes back or runs ahead", func(b *brokenStore) {
			b.ack = func(ctx context.Context, c sandboxer.Claim, seq int64) error {
				if seq < 2 {
					return b.MemoryStore.RewindEvents(ctx, c.SandboxID, seq+1, time.Now())
				}
				return b.MemoryStore.AckEvents(ctx, c, seq)
			}
		}},
		{"counts events to come as delivered", "an ack never takes back or runs ahead", func(b *brokenStore) {
			acked := map[string]int64{}
			b.ack = func(ctx context.Context, c sandboxer.Claim, seq int64) error {
				acked[c.SandboxID] = max(seq, acked[c.SandboxID])
				return b.MemoryStore.AckEvents(ctx, c, seq)
			}
			b.claim = func(ctx context.Context, until time.Time, limit int) ([]sandboxer.Claim, error) {
				claims, err := b.MemoryStore.ClaimEvents(ctx, until, limit)
				for i, c := range claims {
					claims[i].Events = slices.DeleteFunc(c.Events, func(e sandboxer.Event) bool { return e.Seq <= acked[c.SandboxID] })
				}
				return claims, err
			}
		}},
		{"heeds a claim that another has", "a claim that is over counts for nothing", func(b *brokenStore) {
			last := map[string]sandboxer.Claim{}
			b.claim = func(ctx context.Context, until time.Time, limit int) ([]sandboxer.Claim, error) {
				claims, err := b.MemoryStore.ClaimEvents(ctx, until, limit)
				for _, c := range claims {
					last[c.SandboxID] = c
				}
				return claims, err
			}
			b.ack = func(ctx context.Context, c sandboxer.Claim, seq int64) error {
				return b.MemoryStore.AckEvents(ctx, last[c.SandboxID], seq)
			}
		}},
		{"counts one failure only", "failures are counted until an ack", func(b *brokenStore) {
			b.delay = func(ctx context.Context, c sandboxer.Claim, reason string, due func(int) time.Time) error {
				if err := b.MemoryStore.AckEvents(ctx, c, 0); err != nil {
					return err
				}
				return b.MemoryStore.DelayEvents(ctx, c, reason, due)
			}
		}},
		{"never forgets failures", "failures are counted until an ack", func(b *brokenStore) {
			failures := 0
			b.delay = func(ctx context.Context, c sandboxer.Claim, reason string, due func(int) time.Time) error {
				failures++
				return b.MemoryStore.DelayEvents(ctx, c, reason, func(int) time.Time { return due(failures) })
			}
		}},
		{"keeps the claim when delayed", "failures are counted until an ack", func(b *brokenStore) {
			b.delay = func(_ context.Context, _ sandboxer.Claim, _ string, due func(int) time.Time) error {
				due(1)
				return nil
			}
		}},
		{"counts a claim given back", "a claim given back counts nothing", func(b *brokenStore) {
			b.delay = func(ctx context.Context, c sandboxer.Claim, _ string, due func(int) time.Time) error {
				return b.MemoryStore.DelayEvents(ctx, c, "given back", due)
			}
		}},
		{"loses dead letters", "a dead letter is kept and passed over", func(b *brokenStore) {
			b.bury = func(ctx context.Context, c sandboxer.Claim, seq int64, _ string, _ time.Time) error {
				return b.MemoryStore.AckEvents(ctx, c, seq)
			}
		}},
		{"offers dead letters again", "a dead letter is kept and passed over", func(b *brokenStore) {
			b.bury = func(ctx context.Context, c sandboxer.Claim, seq int64, reason string, at time.Time) error {
				return errors.Join(b.MemoryStore.BuryEvent(ctx, c, seq, reason, at), b.MemoryStore.RewindEvents(ctx, c.SandboxID, seq, at))
			}
		}},
		{"rewinds one event only", "a rewind offers again from there", func(b *brokenStore) {
			b.rewind = func(ctx context.Context, id string, seq int64, at time.Time) error {
				return b.MemoryStore.RewindEvents(ctx, id, seq+1, at)
			}
		}},
		{"lets a late ack undo a rewind", "a rewind takes claims away", func(b *brokenStore) {
			b.ack = func(ctx context.Context, c sandboxer.Claim, seq int64) error {
				err := b.MemoryStore.AckEvents(ctx, c, seq)
				if errors.Is(err, sandboxer.ErrConflict) {
					err = nil
				}
				return err
			}
		}},
		{"hides what is claimed", "undelivered tells what waits and why", func(b *brokenStore) {
			b.undelivered = func(ctx context.Context, id string) ([]sandboxer.Undelivered, error) {
				list, err := b.MemoryStore.Undelivered(ctx, id)
				return slices.DeleteFunc(list, func(u sandboxer.Undelivered) bool { return !u.DueAt.IsZero() }), err
			}
		}},
		{"gives a sandbox to whoever asks", "two claimers never hold one sandbox", func(b *brokenStore) {
			var mu sync.Mutex
			b.claim = func(ctx context.Context, _ time.Time, limit int) ([]sandboxer.Claim, error) {
				mu.Lock()
				claims, err := b.MemoryStore.ClaimEvents(ctx, time.Time{}, limit)
				mu.Unlock()
				time.Sleep(time.Millisecond) // the other claimers ask meanwhile
				return claims, err
			}
		}},
	}
}
