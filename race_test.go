package sandboxer_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// rounds is how often each race is run; most end differently.
const rounds = 200

// yield lets others run at every step.
func yield(context.Context, extensiontest.Step) error {
	runtime.Gosched()
	return nil
}

// ended requires one consistent end after all racers have returned.
func (w *world) ended(id string) {
	w.t.Helper()
	w.wantState(id, sandboxer.StateDestroyed, sandboxer.ReasonVerified)
	history := w.history(id)
	if n := strings.Count(history, "destroyed verified_absent"); n != 1 {
		w.t.Errorf("it ended %d times:\n%s", n, history)
	}
	if r := w.record(id); r.Operation != nil {
		w.t.Errorf("it ended, and is still claimed for %s", r.Operation.Kind)
	}
	w.empty()
}

func TestTwoDestroyWhileAThirdRecreates(t *testing.T) {
	var recreated, refused int
	for range rounds {
		w := newWorld(t)
		id := w.create(w.client(process{})).ID
		var racers sync.WaitGroup
		for range 2 {
			c := w.client(process{fault: yield})
			racers.Go(func() {
				if s, err := c.Destroy(context.Background(), id); err != nil || s.State != sandboxer.StateDestroyed {
					t.Errorf("destroy: %v, %v", s, err)
				}
			})
		}
		c := w.client(process{fault: yield})
		racers.Go(func() {
			s, err := c.Recreate(context.Background(), id)
			switch {
			case err == nil:
				recreated++ // and destroyed afterwards
			case errors.Is(err, sandboxer.ErrConflict), errors.Is(err, sandboxer.ErrState):
				refused++
				if s == nil || s.ID != id {
					t.Errorf("recreate: no sandbox beside %v", err)
				}
			default:
				t.Errorf("recreate: %v, want ErrConflict or ErrState", err)
			}
		})
		racers.Wait()
		if w.ended(id); t.Failed() {
			return
		}
	}
	t.Logf("recreated %d times, refused %d times", recreated, refused)
}

func TestCreateRacesDestroy(t *testing.T) {
	for range rounds {
		w := newWorld(t)
		born := make(chan string, 1)
		store := watchedStore{w.store, func(r *sandboxer.Record) error {
			if r.Sandbox.State == sandboxer.StateProvisioning {
				select {
				case born <- r.Sandbox.ID:
				default:
				}
			}
			return nil
		}}
		var racers sync.WaitGroup
		creator := w.client(process{fault: yield, store: store})
		racers.Go(func() {
			if _, err := creator.Create(context.Background(), basicRequest()); err != nil && !errors.Is(err, sandboxer.ErrConflict) {
				t.Errorf("create: %v, want ErrConflict", err)
			}
		})
		destroyer := w.client(process{fault: yield})
		racers.Go(func() {
			if s, err := destroyer.Destroy(context.Background(), <-born); err != nil || s.State != sandboxer.StateDestroyed {
				t.Errorf("destroy: %v, %v", s, err)
			}
		})
		racers.Wait()
		if w.ended(w.only()); t.Failed() {
			return
		}
	}
}

// Everything at once, on a few sandboxes: whatever the order was, a last
// Destroy of each leaves nothing.
func TestManyClientsAtOnce(t *testing.T) {
	for range 20 {
		w := newWorld(t)
		var ids []string
		for range 3 {
			ids = append(ids, w.create(w.client(process{})).ID)
		}
		var racers sync.WaitGroup
		for n := range 12 {
			c, id := w.client(process{fault: yield}), ids[n%len(ids)]
			racers.Go(func() {
				ctx := context.Background()
				var err error
				switch n % 6 {
				case 0, 1:
					_, err = c.Recreate(ctx, id)
				case 2:
					_, err = c.Activate(ctx, id)
				case 3:
					_, err = c.ExtendTTL(ctx, id, 2*basicProfile().TTL.Std())
				case 4:
					_, err = c.Reconcile(ctx, sandboxer.ReconcileOptions{Adopt: true})
				case 5:
					_, err = c.Destroy(ctx, id)
				}
				// a renewal may find its sandbox gone
				if err != nil && !errors.Is(err, sandboxer.ErrConflict) && !errors.Is(err, sandboxer.ErrState) && !errors.Is(err, sandboxer.ErrNotFound) {
					t.Errorf("operation %d: %v", n%6, err)
				}
			})
		}
		racers.Wait()
		for _, id := range ids {
			if _, err := w.client(process{}).Destroy(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		for _, id := range ids {
			w.ended(id)
		}
		if t.Failed() {
			return
		}
	}
}
