package sandboxer_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func keyedRequest() sandboxer.CreateRequest {
	req := basicRequest()
	req.IdempotencyKey = "run-42"
	return req
}

func TestSameKeyAndPayloadGiveTheSameSandbox(t *testing.T) {
	w := newWorld(t)
	first, err := w.client(process{}).Create(t.Context(), keyedRequest())
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.client(process{}).Create(t.Context(), keyedRequest())
	if err != nil || second.ID != first.ID {
		t.Errorf("the second create: %v, %v; want %s", second, err, first.ID)
	}
	w.only()
}

func TestSameKeyWhateverBecameOfTheSandbox(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	s, err := c.Create(t.Context(), keyedRequest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Activate(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	for _, state := range []sandboxer.State{sandboxer.StateActive, sandboxer.StateLost} {
		again, err := c.Create(t.Context(), keyedRequest())
		if err != nil || again.ID != s.ID || again.State != state {
			t.Errorf("got %v, %v; want %s, %s", again, err, s.ID, state)
		}
		w.backend.Wipe(s.ID)
		w.reconcile(sandboxer.ReconcileOptions{})
	}
}

func TestSameKeyWithAnotherPayloadIsAConflict(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	first, err := c.Create(t.Context(), keyedRequest())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*sandboxer.CreateRequest){
		"input": func(r *sandboxer.CreateRequest) { r.Inputs = map[string]string{"repo": "/other"} },
		"life":  func(r *sandboxer.CreateRequest) { r.TTL = sandboxer.Duration(time.Minute) },
		"label": func(r *sandboxer.CreateRequest) { r.Labels = map[string]string{"a": "b"} },
		"actor": func(r *sandboxer.CreateRequest) { r.Consumer.Actor = "somebody" },
	} {
		req := keyedRequest()
		change(&req)
		_, err := c.Create(t.Context(), req)
		wantError(t, err, "create", sandboxer.ErrConflict)
		if hint := sandboxer.Hint(err); hint != "use a new key, or repeat the first request unchanged" {
			t.Errorf("%s: hint is %q", name, hint)
		}
	}
	if w.only() != first.ID {
		t.Error("another sandbox was made")
	}
}

func TestKeysBelongToProjects(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	one, err := c.Create(t.Context(), keyedRequest())
	if err != nil {
		t.Fatal(err)
	}
	req := keyedRequest()
	req.Consumer.Project = "glas"
	other, err := c.Create(t.Context(), req)
	if err != nil || other.ID == one.ID {
		t.Errorf("another project with the same key got %v, %v", other, err)
	}
}

func TestConcurrentCreatorsWithOneKeyGetOneSandbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{fault: extensiontest.SlowAt("provision", "", time.Second)})
		var mu sync.Mutex
		ids := map[string]int{}
		var creators sync.WaitGroup
		for range 8 {
			creators.Go(func() {
				s, err := c.Create(t.Context(), keyedRequest())
				if err != nil {
					t.Error(err)
					return
				}
				if s.State != sandboxer.StateReady {
					t.Errorf("one creator got a sandbox that is %s", s.State)
				}
				mu.Lock()
				defer mu.Unlock()
				ids[s.ID]++
			})
		}
		creators.Wait()
		if len(ids) != 1 {
			t.Errorf("eight creators got the sandboxes %v, want one", ids)
		}
		w.wantHistory(w.only(), "1 requested requested", "1 provisioning routed @one", "1 ready ready @one")
	})
}

func TestKeyOfAnEndedSandboxIsSpent(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{})
	s, err := c.Create(t.Context(), keyedRequest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Destroy(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	again, err := c.Create(t.Context(), keyedRequest())
	wantError(t, err, "create", sandboxer.ErrState)
	if again == nil || again.ID != s.ID {
		t.Errorf("beside the error stands %v, want the ended sandbox", again)
	}
	w.only()
}

func TestWaitingForAnotherCreatorEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slow := w.client(process{fault: extensiontest.SlowAt("ready", "", time.Minute)})
		done := make(chan struct{})
		go func() { defer close(done); _, _ = slow.Create(t.Context(), keyedRequest()) }()
		time.Sleep(time.Second)
		ctx, cancel := ctxEndingAfter(t, 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := w.client(process{}).Create(ctx, keyedRequest())
		wantError(t, err, "create")
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("waited %v for a creator that takes a minute, want 5s", took)
		}
		<-done
		w.wantState(w.only(), sandboxer.StateReady, sandboxer.ReasonReady)
	})
}

// A creator that died leaves a record that the same request takes over.
func TestAbandonedCreateIsResumed(t *testing.T) {
	for _, stage := range []string{"record", "volume", "container"} {
		w := newWorld(t)
		dying := w.client(process{fault: extensiontest.StopAt("provision", stage), store: w.mortal(2)})
		_, _ = dying.Create(t.Context(), keyedRequest())
		id := w.only()
		w.wantState(id, sandboxer.StateProvisioning, sandboxer.ReasonRouted)
		s, err := w.client(process{}).Create(t.Context(), keyedRequest())
		if err != nil {
			t.Errorf("resuming a create that died at %s: %v", stage, err)
			continue
		}
		if s.ID != id {
			t.Errorf("got %s, want the abandoned %s", s.ID, id)
		}
		w.wantHistory(id,
			"1 requested requested", "1 provisioning routed @one", "1 provisioning resumed @one",
			"1 provisioning routed @one", "1 ready ready @one")
	}
}

func TestOneOfManyResumesAnAbandonedCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dying := w.client(process{fault: extensiontest.StopAt("provision", "volume"), store: w.mortal(2)})
		_, _ = dying.Create(t.Context(), keyedRequest())
		id := w.only()
		var creators, arrived sync.WaitGroup
		arrived.Add(4)
		for range 4 {
			c := w.client(process{
				store: &meetingStore{Store: w.store, arrived: &arrived},
				fault: extensiontest.SlowAt("provision", "", time.Second),
			})
			creators.Go(func() {
				if s, err := c.Create(t.Context(), keyedRequest()); err != nil || s.ID != id || s.State != sandboxer.StateReady {
					t.Errorf("got %v, %v; want %s, ready", s, err, id)
				}
			})
		}
		creators.Wait()
		w.wantHistory(id,
			"1 requested requested", "1 provisioning routed @one", "1 provisioning resumed @one",
			"1 provisioning routed @one", "1 ready ready @one")
	})
}

// A meetingStore makes clients that look for a key wait for each other, so
// that all of them see the same record.
type meetingStore struct {
	sandboxer.Store
	arrived *sync.WaitGroup
	once    sync.Once
}

func (m *meetingStore) GetByKey(ctx context.Context, project, key string) (*sandboxer.Record, error) {
	r, err := m.Store.GetByKey(ctx, project, key)
	m.once.Do(func() { m.arrived.Done(); m.arrived.Wait() })
	return r, err
}
