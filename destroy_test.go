package sandboxer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func TestUnknownIDIsNotFound(t *testing.T) {
	c := newWorld(t).client(process{})
	const id = "aaaaaaaaaaaaaaaaaaaa"
	operations := map[string]func(context.Context) error{
		"get":        func(ctx context.Context) error { _, err := c.Get(ctx, id); return err },
		"events":     func(ctx context.Context) error { _, err := c.Events(ctx, id, 0); return err },
		"inspect":    func(ctx context.Context) error { _, err := c.Inspect(ctx, id); return err },
		"activate":   func(ctx context.Context) error { _, err := c.Activate(ctx, id); return err },
		"deactivate": func(ctx context.Context) error { _, err := c.Deactivate(ctx, id); return err },
		"extend":     func(ctx context.Context) error { _, err := c.ExtendTTL(ctx, id, time.Hour); return err },
		"recreate":   func(ctx context.Context) error { _, err := c.Recreate(ctx, id); return err },
		"destroy":    func(ctx context.Context) error { _, err := c.Destroy(ctx, id); return err },
		"dial":       func(ctx context.Context) error { _, err := c.Dial(ctx, id, "web", 80); return err },
		"logs":       func(ctx context.Context) error { _, err := c.Logs(ctx, id, sandboxer.LogOptions{}); return err },
		"forward":    func(ctx context.Context) error { _, err := c.Forward(ctx, id, "web", 80, ""); return err },
	}
	for op, do := range operations {
		err := do(t.Context())
		wantError(t, err, op, sandboxer.ErrNotFound)
		if want := op + " " + id + ": sandbox " + id + ": not found"; err.Error() != want {
			t.Errorf("\n got %s\nwant %s", err, want)
		}
	}
}

func TestDestroyTwice(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	s := w.create(c)
	first, err := c.Destroy(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if first.State != sandboxer.StateDestroyed || first.Removal.VerifiedAt.IsZero() || len(first.Removal.Removed) == 0 || first.EndedAt.IsZero() {
		t.Errorf("destroyed: %s, removal %+v, ended %v", first.State, first.Removal, first.EndedAt)
	}
	second, err := c.Destroy(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second, unexported); diff != "" {
		t.Errorf("the second destroy changed the record (-first +second):\n%s", diff)
	}
	w.wantHistory(s.ID, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one",
		"1 destroying consumer_request @one", "1 destroyed verified_absent @one")
	w.empty()
}

func TestDestroyFromEveryState(t *testing.T) {
	states := map[sandboxer.State]func(*world) string{
		sandboxer.StateReady: func(w *world) string { return w.create(w.client(process{})).ID },
		sandboxer.StateActive: func(w *world) string {
			c := w.client(process{})
			s := w.create(c)
			_, _ = c.Activate(w.t.Context(), s.ID)
			return s.ID
		},
		sandboxer.StateFailed: func(w *world) string {
			req := basicRequest()
			req.KeepFailed = true
			s, _ := w.client(process{fault: extensiontest.FailAt("ready", "", errors.New("broken"))}).Create(w.t.Context(), req)
			return s.ID
		},
		sandboxer.StateLost: func(w *world) string {
			c := w.client(process{})
			s := w.create(c)
			w.backend.SetReachable("one", false)
			_, _ = c.Reconcile(w.t.Context(), sandboxer.ReconcileOptions{})
			w.backend.SetReachable("one", true)
			return s.ID
		},
		sandboxer.StateRequested: func(w *world) string {
			_, _ = w.client(process{store: w.mortal(1)}).Create(w.t.Context(), basicRequest())
			return w.only()
		},
		sandboxer.StateProvisioning: func(w *world) string {
			_, _ = w.client(process{store: w.mortal(2), fault: extensiontest.StopAt("provision", "volume")}).Create(w.t.Context(), basicRequest())
			return w.only()
		},
		sandboxer.StateDestroying: func(w *world) string {
			c := w.client(process{fault: extensiontest.FailAt("teardown", "network", errors.New("in use"))})
			s := w.create(c)
			_, _ = c.Destroy(w.t.Context(), s.ID)
			return s.ID
		},
	}
	for state, reach := range states {
		t.Run(string(state), func(t *testing.T) {
			w := newWorld(t)
			id := reach(w)
			if got := w.record(id).Sandbox.State; got != state {
				t.Fatalf("the sandbox is %s", got)
			}
			s, err := w.client(process{}).Destroy(t.Context(), id)
			if err != nil || s.State != sandboxer.StateDestroyed {
				t.Errorf("destroy: %v, %s", err, s.State)
			}
			w.history(id)
			w.empty()
		})
	}
	if len(states)+1 != len(sandboxer.States()) {
		t.Errorf("%d of %d living states were tried", len(states), len(sandboxer.States())-1)
	}
}

func TestResidueIsKeptUntilProvedAbsent(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{fault: extensiontest.Times(1, extensiontest.FailAt("teardown", "volume", errors.New("volume is in use")))})
	id := w.create(c).ID
	s, err := c.Destroy(t.Context(), id)
	wantError(t, err, "destroy", sandboxer.ErrResidue)
	if !sandboxer.Retryable(err) {
		t.Error("residue is not called retryable")
	}
	want := []sandboxer.Resource{{Kind: "volume", ID: id + "-data", Name: id + "-data"}, {Kind: "record", ID: id, Name: id}}
	if diff := cmp.Diff(want, s.Removal.Residue); diff != "" {
		t.Errorf("residue (-want +got):\n%s", diff)
	}
	if wantText := "destroy " + id + " on one: not proved absent: volume " + id + "-data, record " + id; err.Error() != wantText {
		t.Errorf("\n got %s\nwant %s", err, wantText)
	}
	if !s.Removal.VerifiedAt.IsZero() || !s.EndedAt.IsZero() || w.record(id).Operation != nil {
		t.Errorf("verified %v, ended %v, claimed by %v", s.Removal.VerifiedAt, s.EndedAt, w.record(id).Operation)
	}
	s, err = w.client(process{}).Destroy(t.Context(), id)
	if err != nil || len(s.Removal.Residue) > 0 || s.Removal.VerifiedAt.IsZero() {
		t.Errorf("the second destroy: %v, %+v", err, s.Removal)
	}
	w.wantHistory(id, "1 requested requested", "1 provisioning routed @one", "1 ready ready @one",
		"1 destroying consumer_request @one", "1 destroying residue @one",
		"1 destroying consumer_request @one", "1 destroyed verified_absent @one")
	w.empty()
}

func TestDestroyOnAnUnreachableHost(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	id := w.create(c).ID
	w.backend.SetReachable("one", false)
	s, err := c.Destroy(t.Context(), id)
	wantError(t, err, "destroy", sandboxer.ErrUnavailable)
	if s.State != sandboxer.StateDestroying || s.Reason != sandboxer.ReasonHostUnavailable {
		t.Errorf("it is %s (%s)", s.State, s.Reason)
	}
	w.backend.SetReachable("one", true)
	if _, err := c.Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
	w.empty()
}

// Whoever took a sandbox over records what became of it; who failed before does not.
func TestAFailedDestroyDoesNotDisturbTheNext(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	begun, goOn, done := make(chan bool), make(chan bool), make(chan error, 1)
	var once sync.Once
	second := w.client(process{fault: func(context.Context, extensiontest.Step) error {
		once.Do(func() { begun <- true; <-goOn })
		return nil
	}})
	first := w.client(process{fault: func(_ context.Context, s extensiontest.Step) error {
		if s.Op != "teardown" {
			return nil
		}
		go func() { _, err := second.Destroy(context.Background(), id); done <- err }()
		<-begun
		return sandboxer.ErrUnavailable
	}})
	_, err := first.Destroy(t.Context(), id)
	wantError(t, err, "destroy", sandboxer.ErrUnavailable)
	if r := w.record(id); r.Operation == nil || r.Sandbox.Reason != sandboxer.ReasonConsumerRequest {
		t.Errorf("the second's record is %s (%s), claimed by %v", r.Sandbox.State, r.Sandbox.Reason, r.Operation)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.wantState(id, sandboxer.StateDestroyed, sandboxer.ReasonVerified)
}

func TestDestroyWithoutItsExtension(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	other := extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend(host("elsewhere")), ID: "ext.other"})
	c, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{other}, Store: w.store})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Destroy(t.Context(), id)
	wantError(t, err, "destroy", sandboxer.ErrUnavailable, sandboxer.ErrNotFound)
	w.wantState(id, sandboxer.StateDestroying, sandboxer.ReasonHostUnavailable)
	if len(w.left(id)) == 0 {
		t.Fatal("this test is about a sandbox that is still there")
	}
}

func TestDestroyWhoseCallerLeaves(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	ctx, cancel := context.WithCancelCause(t.Context())
	c := w.client(process{fault: func(ctx context.Context, s extensiontest.Step) error {
		if s.Op == "teardown" && s.Stage == "volume" {
			cancel(errCallerLeft)
			return context.Cause(ctx)
		}
		return nil
	}})
	_, err := c.Destroy(ctx, id)
	wantError(t, err, "destroy")
	if !errors.Is(err, errCallerLeft) {
		t.Errorf("got %v", err)
	}
	if r := w.record(id); r.Operation != nil || r.Sandbox.State != sandboxer.StateDestroying || r.Sandbox.Reason != sandboxer.ReasonCanceled {
		t.Errorf("the record is %s (%s), claimed by %v", r.Sandbox.State, r.Sandbox.Reason, r.Operation)
	}
	if _, err := w.client(process{}).Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
	w.empty()
}

// What a store did not take must not be shown as if it had.
func TestDestroyThatCannotBeRecorded(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	errFull := errors.New("disk full")
	store := watchedStore{w.store, func(r *sandboxer.Record) error {
		if r.Sandbox.State == sandboxer.StateDestroyed {
			return errFull
		}
		return nil
	}}
	s, err := w.client(process{store: store}).Destroy(t.Context(), id)
	if !errors.Is(err, errFull) || s == nil || s.State != sandboxer.StateDestroying {
		t.Errorf("returned %+v with %v, want a sandbox that is still destroying", s, err)
	}
}

// A store that was restored from a backup knows an older generation than the host holds.
func TestDestroyFromAnOldBackup(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	old := w.record(id)
	if _, err := w.client(process{}).Recreate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	events, _ := w.store.Events(t.Context(), id, 0)
	w.forgetStore()
	if err := w.store.Create(t.Context(), old, events[:old.Seq]...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client(process{}).Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
	w.empty()
}

// A create that loses its record removes what it made and says why.
func TestDestroyDuringCreate(t *testing.T) {
	for _, at := range []extensiontest.Step{{Op: "provision", Stage: "record"}, {Op: "provision", Stage: "volume"}, {Op: "ready"}} {
		w := newWorld(t)
		destroyer := w.client(process{})
		var destroyed error
		c := w.client(process{fault: func(_ context.Context, s extensiontest.Step) error {
			if s.Op == at.Op && s.Stage == at.Stage {
				_, destroyed = destroyer.Destroy(context.Background(), s.SandboxID)
			}
			return nil
		}})
		s, err := c.Create(t.Context(), basicRequest())
		if destroyed != nil {
			t.Errorf("at %v: destroy: %v", at, destroyed)
		}
		wantError(t, err, "create", sandboxer.ErrConflict)
		if s == nil || s.State != sandboxer.StateDestroyed {
			t.Errorf("at %v: returned %+v", at, s)
		}
		w.wantState(w.only(), sandboxer.StateDestroyed, sandboxer.ReasonVerified)
		w.history(w.only())
		w.empty()
	}
}

// elsewhere is a client of the same store that has the extension but not the host.
func (w *world) elsewhere() *sandboxer.Client {
	w.t.Helper()
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend(host("elsewhere"))})
	c, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{fake}, Profiles: []sandboxer.Profile{basicProfile()}, Store: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestHostThatIsNotConfiguredHere(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	c := w.elsewhere()

	s, err := c.Inspect(t.Context(), id)
	if err != nil || s.Observed.Presence != sandboxer.Unknown {
		t.Errorf("inspect: %v, %+v", err, s.Observed)
	}
	_, err = c.Recreate(t.Context(), id)
	wantError(t, err, "recreate", sandboxer.ErrUnavailable, sandboxer.ErrNotFound)
	w.wantState(id, sandboxer.StateReady, sandboxer.ReasonReady)
	_, err = c.Dial(t.Context(), id, "web", 80)
	wantError(t, err, "dial", sandboxer.ErrUnavailable, sandboxer.ErrNotFound)
	_, err = c.Destroy(t.Context(), id)
	wantError(t, err, "destroy", sandboxer.ErrUnavailable, sandboxer.ErrNotFound)
	if want := "destroy " + id + " on one: unavailable: this client cannot look at the sandbox's backend: host one: not found"; err.Error() != want {
		t.Errorf("\n got %s\nwant %s", err, want)
	}
	w.wantState(id, sandboxer.StateDestroying, sandboxer.ReasonHostUnavailable)
}

func TestAbandonedCreateIsNotResumedWithoutItsHosts(t *testing.T) {
	for writes := 1; writes <= 2; writes++ { // requested, then provisioning
		w := newWorld(t)
		_, _ = w.client(process{store: w.mortal(writes), fault: extensiontest.StopAt("provision", "volume")}).Create(t.Context(), keyedRequest())
		_, err := w.elsewhere().Create(t.Context(), keyedRequest())
		wantError(t, err, "create", sandboxer.ErrUnavailable, sandboxer.ErrNotFound)
		if s, err := w.client(process{}).Create(t.Context(), keyedRequest()); err != nil || s.ID != w.only() {
			t.Errorf("where the host is configured: %v, %v", s, err)
		}
	}
}
