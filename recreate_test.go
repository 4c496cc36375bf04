package sandboxer_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func TestRecreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, host("one"), host("two"))
		c := w.client(process{})
		req := basicRequest()
		req.Host = "two"
		before, err := c.Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		after, err := c.Recreate(t.Context(), before.ID)
		if err != nil {
			t.Fatal(err)
		}
		got := []any{after.ID, after.Generation, after.State, after.Host, after.ExpiresAt, after.CreatedAt, after.ReadyAt, after.Route.Chosen}
		want := []any{before.ID, 2, sandboxer.StateReady, "two", before.ExpiresAt, before.CreatedAt, time.Now().UTC(), "two"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("recreated (-want +got):\n%s", diff)
		}
		if h := w.record(before.ID).Handle; h.Generation != 2 {
			t.Errorf("the handle is of generation %d", h.Generation)
		}
	})
}

func TestRecreateOfWhatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{fault: extensiontest.Times(1, extensiontest.FailAt("teardown", "network", errors.New("in use")))})
		id := w.create(c).ID
		_, _ = c.Destroy(t.Context(), id)
		for _, state := range []sandboxer.State{sandboxer.StateDestroying, sandboxer.StateDestroyed} {
			s, err := c.Recreate(t.Context(), id)
			wantError(t, err, "recreate", sandboxer.ErrState)
			if s.State != state {
				t.Errorf("it is %s, want %s", s.State, state)
			}
			_, _ = c.Destroy(t.Context(), id)
		}
		expired := w.create(c).ID
		time.Sleep(2 * time.Hour)
		_, err := c.Recreate(t.Context(), expired)
		wantError(t, err, "recreate", sandboxer.ErrState)
	})
}

func TestRecreateIsAdmittedBeforeAnythingIsTornDown(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	before := w.left(id)
	strict := w.client(process{judge: func(sandboxer.ProvisionRequest) []sandboxer.Violation {
		return []sandboxer.Violation{{Rule: "NEW", Path: "services", Message: "no longer allowed"}}
	}})
	_, err := strict.Recreate(t.Context(), id)
	wantError(t, err, "recreate", sandboxer.ErrAdmission)
	w.wantState(id, sandboxer.StateReady, sandboxer.ReasonReady)
	if diff := cmp.Diff(before, w.left(id)); diff != "" {
		t.Errorf("backend (-before +after):\n%s", diff)
	}
}

func TestRecreateWhileAnotherIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{fault: extensiontest.SlowAt("ready", "", time.Minute)})
		done := make(chan error, 1)
		go func() { _, err := c.Create(t.Context(), basicRequest()); done <- err }()
		time.Sleep(time.Second)
		_, err := w.client(process{}).Recreate(t.Context(), w.only())
		wantError(t, err, "recreate", sandboxer.ErrConflict)
		if err := <-done; err != nil {
			t.Errorf("the create was disturbed: %v", err)
		}
	})
}

// Wherever a Destroy comes in between, the recreate loses and leaves nothing.
func TestDestroyDuringRecreate(t *testing.T) {
	moments := []extensiontest.Step{
		{Op: "teardown", Stage: "look"}, {Op: "teardown", Stage: "record"}, {Op: "provision", Stage: "record"}, {Op: "provision", Stage: "container"}, {Op: "ready"},
	}
	for _, at := range moments {
		w := newWorld(t)
		id := w.create(w.client(process{})).ID
		destroyer := w.client(process{})
		once := false
		c := w.client(process{fault: func(_ context.Context, s extensiontest.Step) error {
			if s.Op == at.Op && s.Stage == at.Stage && !once {
				once = true
				if _, err := destroyer.Destroy(context.Background(), id); err != nil {
					t.Errorf("at %v: destroy: %v", at, err)
				}
			}
			return nil
		}})
		s, err := c.Recreate(t.Context(), id)
		wantError(t, err, "recreate", sandboxer.ErrConflict)
		if s == nil || s.State != sandboxer.StateDestroyed {
			t.Errorf("at %v: returned %+v", at, s)
		}
		w.wantState(id, sandboxer.StateDestroyed, sandboxer.ReasonVerified)
		w.history(id)
		w.empty()
	}
}

// A recreate whose teardown fails while somebody else destroys has not succeeded.
func TestRecreateThatFailsWhileAnotherDestroys(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	destroyer := w.client(process{})
	c := w.client(process{fault: func(_ context.Context, s extensiontest.Step) error {
		if s.Op != "teardown" {
			return nil
		}
		_, _ = destroyer.Destroy(context.Background(), id)
		return sandboxer.ErrUnavailable
	}})
	s, err := c.Recreate(t.Context(), id)
	wantError(t, err, "recreate", sandboxer.ErrConflict)
	if s == nil || s.State != sandboxer.StateDestroyed {
		t.Errorf("returned %+v", s)
	}
}

func TestRecreateOnAnUnreachableHost(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	id := w.create(c).ID
	w.backend.SetReachable("one", false)
	_, err := c.Recreate(t.Context(), id)
	wantError(t, err, "recreate", sandboxer.ErrUnavailable)
	if r := w.record(id); r.Sandbox.State != sandboxer.StateDestroying || r.Operation != nil {
		t.Errorf("the record is %s, claimed by %v", r.Sandbox.State, r.Operation)
	}
}

func TestRecreateThatCannotComeUp(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	s, err := w.client(process{fault: extensiontest.FailAt("ready", "", &sandboxer.NotReadyError{Service: "api", State: "exited (1)"})}).Recreate(t.Context(), id)
	wantError(t, err, "recreate", sandboxer.ErrNotReady)
	if s.State != sandboxer.StateDestroyed || s.Failure == nil || s.Generation != 2 {
		t.Errorf("it is %s with failure %v, generation %d", s.State, s.Failure, s.Generation)
	}
	w.empty()
}

// A context may end at any write of a recreate; the record is never left
// claimed by a process that went on to other things.
func TestRecreateCanceledAtTheStore(t *testing.T) {
	for write := 1; write <= 4; write++ {
		w := newWorld(t)
		id := w.create(w.client(process{})).ID
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		n := 0
		store := watchedStore{w.store, func(*sandboxer.Record) error {
			if n++; n == write {
				cancel(errCallerLeft)
			}
			return nil
		}}
		_, err := w.client(process{store: store}).Recreate(ctx, id)
		if !errors.Is(err, errCallerLeft) {
			t.Errorf("canceled at write %d: %v", write, err)
		}
		if r := w.record(id); r.Operation != nil {
			t.Errorf("canceled at write %d: the record is %s and claimed for %s", write, r.Sandbox.State, r.Operation.Kind)
		}
		if _, err := w.client(process{}).Reconcile(t.Context(), sandboxer.ReconcileOptions{}); err != nil {
			t.Error(err)
		}
		if s := w.record(id).Sandbox; write > 1 && s.State != sandboxer.StateDestroyed {
			t.Errorf("canceled at write %d: it ended %s", write, s.State)
		}
		w.history(id)
	}
}
