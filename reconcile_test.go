package sandboxer_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// reconcile runs Reconcile as a new process would.
func (w *world) reconcile(opts sandboxer.ReconcileOptions) *sandboxer.Report {
	w.t.Helper()
	report, err := w.client(process{}).Reconcile(context.Background(), opts)
	if err != nil {
		w.t.Errorf("reconcile: %v", err)
	}
	return report
}

// wantReport compares a report, in which an empty list is as good as none.
func wantReport(t *testing.T, got *sandboxer.Report, want sandboxer.Report) {
	t.Helper()
	if diff := cmp.Diff(&want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestReap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{})
		short := w.create(c)
		req := basicRequest()
		req.TTL = sandboxer.Duration(3 * time.Hour)
		long, err := c.Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Second)
		if ended, err := c.Reap(t.Context()); err != nil || len(ended) > 0 {
			t.Errorf("a second too early: %v, %v", ended, err)
		}
		time.Sleep(time.Second)
		ended, err := c.Reap(t.Context())
		if err != nil || len(ended) != 1 || ended[0].ID != short.ID || ended[0].State != sandboxer.StateDestroyed {
			t.Errorf("reaped %v, %v", ended, err)
		}
		w.wantHistory(short.ID, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one",
			"1 destroying ttl_expired @one", "1 destroyed verified_absent @one")
		w.wantState(long.ID, sandboxer.StateReady, sandboxer.ReasonReady)
	})
}

func TestReapGoesOnAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, host("one"), host("two"))
		c := w.client(process{})
		ids := map[string]string{}
		for _, h := range []string{"one", "two"} {
			req := basicRequest()
			req.Host = h
			s, err := c.Create(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			ids[h] = s.ID
		}
		time.Sleep(time.Hour)
		w.backend.SetReachable("one", false)
		ended, err := c.Reap(t.Context())
		if !errors.Is(err, sandboxer.ErrUnavailable) || len(ended) != 1 || ended[0].ID != ids["two"] {
			t.Errorf("reaped %v, %v", ended, err)
		}
		w.backend.SetReachable("one", true)
		if ended, err = c.Reap(t.Context()); err != nil || len(ended) != 1 || ended[0].ID != ids["one"] {
			t.Errorf("the next time: %v, %v", ended, err)
		}
	})
}

func TestReconcileOfAPeacefulWorld(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	id := w.create(c).ID
	gone := w.create(c).ID
	if _, err := c.Destroy(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	before := w.history(id)
	wantReport(t, w.reconcile(sandboxer.ReconcileOptions{Adopt: true}), sandboxer.Report{})
	if after := w.history(id); after != before {
		t.Errorf("reconcile wrote events:\n%s", after)
	}
}

func TestReconcileNoticesWhatVanished(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	w.backend.Wipe(id)
	for range 2 { // the second time nothing changes
		wantReport(t, w.reconcile(sandboxer.ReconcileOptions{}), sandboxer.Report{Lost: []string{id}})
	}
	w.wantHistory(id, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one", "1 lost vanished @one")
	if s := w.record(id).Sandbox; s.Message != "the host holds nothing of it" {
		t.Errorf("message is %q", s.Message)
	}
}

func TestReconcileLosesAndRegains(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	id := w.create(c).ID
	if _, err := c.Activate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.backend.SetReachable("one", false)
	report, err := c.Reconcile(t.Context(), sandboxer.ReconcileOptions{})
	if !errors.Is(err, sandboxer.ErrUnavailable) {
		t.Errorf("an unreachable host: %v", err)
	}
	wantReport(t, report, sandboxer.Report{Lost: []string{id}, Unknown: []string{"one"}})
	w.backend.SetReachable("one", true)
	wantReport(t, w.reconcile(sandboxer.ReconcileOptions{}), sandboxer.Report{Returned: []string{id}})
	w.wantHistory(id, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one", "1 active activated @one",
		"1 lost host_unavailable @one", "1 ready returned @one")
}

// What changes while a host is asked is somebody else's; the answer is then too old.
func TestReconcileDoesNotOverwriteWhatChangedMeanwhile(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	meanwhile := func(change func(*sandboxer.Client), answer error) *sandboxer.Report {
		asking := w.client(process{fault: func(_ context.Context, s extensiontest.Step) error {
			if s.Op != "inspect" {
				return nil
			}
			change(w.client(process{}))
			return answer
		}})
		report, err := asking.Reconcile(t.Context(), sandboxer.ReconcileOptions{})
		if err != nil {
			t.Error(err)
		}
		return report
	}
	report := meanwhile(func(c *sandboxer.Client) { _, _ = c.Activate(t.Context(), id) }, sandboxer.ErrUnavailable)
	wantReport(t, report, sandboxer.Report{})
	w.wantState(id, sandboxer.StateActive, sandboxer.ReasonActivated)

	w.backend.SetReachable("one", false)
	_, _ = w.client(process{}).Reconcile(t.Context(), sandboxer.ReconcileOptions{})
	w.backend.SetReachable("one", true)
	w.wantState(id, sandboxer.StateLost, sandboxer.ReasonHostUnavailable)
	report = meanwhile(func(c *sandboxer.Client) { _, _ = c.Reconcile(t.Context(), sandboxer.ReconcileOptions{}) }, nil)
	wantReport(t, report, sandboxer.Report{Returned: []string{id}})
	if n := strings.Count(w.history(id), "returned"); n != 1 {
		t.Errorf("it returned %d times", n)
	}
}

// A host that honoured the lease by a clock ahead of ours has ended the sandbox, not lost it.
func TestReconcileFollowsALeaseThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{wrap: func(f *extensiontest.Fake) sandboxer.Extension { return hasty{f} }})
		id := w.create(c).ID
		time.Sleep(50 * time.Minute)
		wantReport(t, w.reconcile(sandboxer.ReconcileOptions{}), sandboxer.Report{Destroyed: []string{id}})
		w.wantHistory(id, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one",
			"1 destroying ttl_expired @one", "1 destroyed verified_absent @one")
	})
}

// hasty gives its sandboxes a quarter of an hour less than it was told.
type hasty struct{ *extensiontest.Fake }

func (h hasty) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	req.ExpiresAt = req.ExpiresAt.Add(-15 * time.Minute)
	return h.Fake.Provision(ctx, req)
}

func TestReconcileEndsWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		req := basicRequest()
		req.KeepFailed = true
		failed, _ := w.client(process{fault: extensiontest.FailAt("ready", "", errors.New("broken"))}).Create(t.Context(), req)
		time.Sleep(time.Second)
		ready := w.create(w.client(process{})).ID
		time.Sleep(time.Hour)
		report := w.reconcile(sandboxer.ReconcileOptions{})
		wantReport(t, report, sandboxer.Report{Destroyed: []string{failed.ID, ready}})
		w.empty()
	})
}

func TestReconcileLeavesAloneWhatIsWorkedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{fault: extensiontest.SlowAt("ready", "", time.Minute)})
		done := make(chan error, 1)
		go func() { _, err := c.Create(t.Context(), basicRequest()); done <- err }()
		time.Sleep(time.Second)
		wantReport(t, w.reconcile(sandboxer.ReconcileOptions{Adopt: true}), sandboxer.Report{InProgress: []string{w.only()}})
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A process of another machine cannot be looked at; its deadline speaks for it.
func TestReconcileOfAnotherMachinesWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, _ = w.client(process{
			store: &mortalStore{w.store, &life{steps: 2}, sandboxer.Process{Machine: "elsewhere", PID: 1}},
			fault: extensiontest.StopAt("provision", "volume"),
		}).Create(t.Context(), basicRequest())
		id := w.only()
		time.Sleep(time.Until(w.record(id).Operation.Deadline))
		wantReport(t, w.reconcile(sandboxer.ReconcileOptions{}), sandboxer.Report{InProgress: []string{id}})
		time.Sleep(time.Second)
		wantReport(t, w.reconcile(sandboxer.ReconcileOptions{}), sandboxer.Report{Destroyed: []string{id}})
		w.empty()
	})
}

func TestReconcileReportsWhatIsStuck(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{fault: extensiontest.FailAt("teardown", "network", errors.New("in use"))})
	id := w.create(c).ID
	_, _ = c.Destroy(t.Context(), id)
	report, err := c.Reconcile(t.Context(), sandboxer.ReconcileOptions{})
	if !errors.Is(err, sandboxer.ErrResidue) {
		t.Errorf("reconcile: %v", err)
	}
	wantReport(t, report, sandboxer.Report{Stuck: []string{id}})
	wantReport(t, w.reconcile(sandboxer.ReconcileOptions{}), sandboxer.Report{Destroyed: []string{id}})
	w.empty()
}

// forgetStore is the world after its store was lost.
func (w *world) forgetStore() { w.store = obedientStore{sandboxer.NewMemoryStore()} }

func TestOrphansAreReportedAndLeftAlone(t *testing.T) {
	w := newWorld(t)
	s := w.create(w.client(process{}))
	w.forgetStore()
	before := w.left("")
	report := w.reconcile(sandboxer.ReconcileOptions{})
	if len(report.Orphans) != 1 {
		t.Fatalf("report is %+v", report)
	}
	got := report.Orphans[0]
	got.Handle.State = nil
	want := sandboxer.Found{Handle: sandboxer.Handle{SandboxID: s.ID, Generation: 1, Host: "one"}, Profile: "profile.basic",
		Consumer: s.Consumer, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("orphan (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, w.left("")); diff != "" {
		t.Errorf("backend (-before +after):\n%s", diff)
	}
}

func TestOrphansAreAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old := w.create(w.client(process{}))
		w.forgetStore()
		time.Sleep(time.Minute)
		wantReport(t, w.reconcile(sandboxer.ReconcileOptions{Adopt: true}), sandboxer.Report{Adopted: []string{old.ID}})
		w.wantHistory(old.ID, "1 ready adopted @one")
		s := w.record(old.ID).Sandbox
		got := []any{s.State, s.Consumer, s.Profile.ID, s.Profile.TTL, s.Extension, s.Host, s.CreatedAt, s.ExpiresAt, s.Reachability.Project}
		want := []any{sandboxer.StateReady, old.Consumer, "profile.basic", old.Profile.TTL, "ext.fake", "one", old.CreatedAt, old.ExpiresAt, old.ID}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("adopted (-want +got):\n%s", diff)
		}
		wantReport(t, w.reconcile(sandboxer.ReconcileOptions{Adopt: true}), sandboxer.Report{})

		c := w.client(process{})
		conn, err := c.Dial(t.Context(), old.ID, extensiontest.EchoService, extensiontest.EchoPort)
		if err != nil {
			t.Fatalf("an adopted sandbox cannot be dialled: %v", err)
		}
		_ = conn.Close()
		if s, err := c.Recreate(t.Context(), old.ID); err != nil || s.Generation != 2 {
			t.Errorf("an adopted sandbox cannot be recreated: %v", err)
		}
		if _, err := c.Destroy(t.Context(), old.ID); err != nil {
			t.Error(err)
		}
		w.empty()
	})
}

func TestHalfAnOrphanIsAdoptedAsFailed(t *testing.T) {
	w := newWorld(t)
	_, _ = w.client(process{fault: extensiontest.StopAt("provision", "container")}).Create(t.Context(), basicRequest())
	id := w.only()
	w.forgetStore()
	wantReport(t, w.reconcile(sandboxer.ReconcileOptions{Adopt: true}), sandboxer.Report{Adopted: []string{id}})
	w.wantState(id, sandboxer.StateFailed, sandboxer.ReasonAdopted)
	if f := w.record(id).Sandbox.Failure; f == nil || f.Service != "web" {
		t.Errorf("failure is %+v", f)
	}
	if _, err := w.client(process{}).Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
	w.empty()
}

func TestOrphanOfAnUnknownProfile(t *testing.T) {
	w := newWorld(t)
	other := basicProfile()
	other.ID = "profile.elsewhere"
	req := basicRequest()
	req.Profile = other.ID
	s, err := w.client(process{profiles: []sandboxer.Profile{other}}).Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.forgetStore()
	wantReport(t, w.reconcile(sandboxer.ReconcileOptions{Adopt: true}), sandboxer.Report{Adopted: []string{s.ID}})
	if _, err := w.client(process{}).Destroy(t.Context(), s.ID); err != nil {
		t.Error(err)
	}
	w.empty()
}

// However many orphans a host holds, each gets its own time to show that it is ready.
func TestManySlowOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for range 5 {
			w.create(w.client(process{}))
		}
		w.forgetStore()
		slow := w.client(process{fault: extensiontest.SlowAt("ready", "", 8*time.Second)})
		report, err := slow.Reconcile(t.Context(), sandboxer.ReconcileOptions{Adopt: true})
		if err != nil || len(report.Adopted) != 5 {
			t.Fatalf("report %+v, %v", report, err)
		}
		for _, id := range report.Adopted {
			w.wantState(id, sandboxer.StateReady, sandboxer.ReasonAdopted)
		}
	})
}

func TestReconcileAsksAHangingHostOnlyForSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		start := time.Now()
		report, err := w.client(process{fault: extensiontest.HangAt("list", "")}).Reconcile(t.Context(), sandboxer.ReconcileOptions{})
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("took %v, want 20s", took)
		}
		if e, ok := errors.AsType[*sandboxer.Error](err); !ok || e.Host != "one" || !errors.Is(err, sandboxer.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		wantReport(t, report, sandboxer.Report{Unknown: []string{"one"}})
	})
}

// What a loser made after the end was recorded is found by asking the host.
func TestStragglerOfADestroyedSandbox(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	r := w.record(id)
	if _, err := w.client(process{}).Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	late := extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend})
	if _, err := late.Provision(t.Context(), sandboxer.ProvisionRequest{SandboxID: id, Generation: 1, Host: "one", Profile: r.Sandbox.Profile, ExpiresAt: r.Sandbox.ExpiresAt}); err != nil {
		t.Fatal(err)
	}
	before := w.history(id)
	wantReport(t, w.reconcile(sandboxer.ReconcileOptions{Adopt: true}), sandboxer.Report{Destroyed: []string{id}})
	if after := w.history(id); after != before {
		t.Errorf("the end was written again:\n%s", after)
	}
	w.empty()
}

func TestReconcileInSeveralProcessesAtOnce(t *testing.T) {
	dead := deadProcess(t)
	for range 20 {
		w := newWorld(t)
		var ids []string
		for n := range 4 {
			_, _ = w.client(process{store: &mortalStore{w.store, &life{steps: 1 + n%2}, dead}, fault: extensiontest.StopAt("provision", "volume")}).Create(t.Context(), basicRequest())
		}
		records, _ := w.store.List(t.Context(), sandboxer.Filter{})
		for _, r := range records {
			ids = append(ids, r.Sandbox.ID)
		}
		var all sync.WaitGroup
		for range 3 {
			c := w.client(process{})
			all.Go(func() {
				if _, err := c.Reconcile(context.Background(), sandboxer.ReconcileOptions{Adopt: true}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, id := range ids {
			if s := w.record(id).Sandbox; s.State != sandboxer.StateDestroyed {
				t.Errorf("%s is %s", id, s.State)
			}
			if h := w.history(id); strings.Count(h, "destroyed") != 1 {
				t.Errorf("the end was recorded more than once:\n%s", h)
			}
		}
		w.empty()
	}
}

func TestEverySandboxIsInOneListOfTheReport(t *testing.T) {
	w := newWorld(t, host("one"), host("dead"))
	c := w.client(process{})
	for _, h := range []string{"one", "one", "dead"} {
		req := basicRequest()
		req.Host = h
		if _, err := c.Create(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	records, _ := w.store.List(t.Context(), sandboxer.Filter{Host: "one"})
	w.backend.Wipe(records[0].Sandbox.ID)
	w.backend.SetReachable("dead", false)
	report, _ := c.Reconcile(t.Context(), sandboxer.ReconcileOptions{Adopt: true})
	all := slices.Concat(report.Destroyed, report.Lost, report.Returned, report.Adopted, report.InProgress, report.Stuck)
	slices.Sort(all)
	if len(all) != 2 || len(slices.Compact(all)) != 2 {
		t.Errorf("report is %+v", report)
	}
}

// TestAdoptionTellsNoSecret: a process that gave a sandbox no secrets cannot
// take them out of what its services say, so it records none of that.
func TestAdoptionTellsNoSecret(t *testing.T) {
	w := newWorld(t)
	v := &vault{values: map[string]string{"db": hunter}}
	made := w.create(w.client(process{secrets: v, profiles: []sandboxer.Profile{secretProfile("db")}}))
	w.store = obedientStore{sandboxer.NewMemoryStore()}
	c := w.client(process{secrets: v, profiles: []sandboxer.Profile{secretProfile("db")}, wrap: func(f *extensiontest.Fake) sandboxer.Extension {
		return unready{f, &sandboxer.NotReadyError{Service: "web", State: "unhealthy: " + hunter, Log: hunter}}
	}})
	if _, err := c.Reconcile(t.Context(), sandboxer.ReconcileOptions{Adopt: true}); err != nil {
		t.Fatal(err)
	}
	told, _ := json.Marshal(w.record(made.ID))
	events, err := c.Events(t.Context(), made.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := json.Marshal(events)
	if text := string(told) + string(lines); strings.Contains(text, "hunter2") || !strings.Contains(text, "service web is unhealthy") {
		t.Errorf("recorded: %s", text)
	}
}

type unready struct {
	*extensiontest.Fake
	why error
}

func (u unready) WaitReady(context.Context, sandboxer.Handle) (sandboxer.Readiness, error) {
	return sandboxer.Readiness{}, u.why
}
