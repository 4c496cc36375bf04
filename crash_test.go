package sandboxer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// A deed is an operation during which a process dies.
type deed struct {
	before func(*world) string // makes what the deed needs, in good health
	do     func(context.Context, *sandboxer.Client, string) error
	fault  extensiontest.Fault // beside the death
}

func deeds() map[string]deed {
	create := func(ctx context.Context, c *sandboxer.Client, _ string) error {
		_, err := c.Create(ctx, keyedRequest())
		return err
	}
	ready := func(w *world) string { return w.create(w.client(process{})).ID }
	nothing := func(*world) string { return "" }
	return map[string]deed{
		"create": {before: nothing, do: create},
		"create that falls back": {before: nothing, do: create,
			fault: extensiontest.OnHost("one", extensiontest.FailAt("provision", "container", sandboxer.ErrUnavailable))},
		"create that fails": {before: nothing, do: create,
			fault: extensiontest.FailAt("ready", "", &sandboxer.NotReadyError{Service: "api", State: "exited (1)"})},
		"destroy": {before: ready, do: func(ctx context.Context, c *sandboxer.Client, id string) error {
			_, err := c.Destroy(ctx, id)
			return err
		}},
		"recreate": {before: ready, do: func(ctx context.Context, c *sandboxer.Client, id string) error {
			_, err := c.Recreate(ctx, id)
			return err
		}},
		"reconcile": {before: func(w *world) string {
			_, _ = w.client(process{store: w.mortal(2), fault: extensiontest.StopAt("provision", "container")}).Create(context.Background(), keyedRequest())
			return w.only()
		}, do: func(ctx context.Context, c *sandboxer.Client, _ string) error {
			_, err := c.Reconcile(ctx, sandboxer.ReconcileOptions{Adopt: true})
			return err
		}},
	}
}

// A rescue is what another process does after the death.
type rescue func(*world, *sandboxer.Client)

func rescues() map[string]rescue {
	destroyAll := func(w *world, c *sandboxer.Client) {
		records, err := w.store.List(context.Background(), sandboxer.Filter{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range records {
			if _, err := c.Destroy(context.Background(), r.Sandbox.ID); err != nil {
				w.t.Errorf("destroy: %v", err)
			}
		}
	}
	reconcile := func(w *world, c *sandboxer.Client) {
		if _, err := c.Reconcile(context.Background(), sandboxer.ReconcileOptions{Adopt: true}); err != nil {
			w.t.Errorf("reconcile: %v", err)
		}
	}
	return map[string]rescue{
		"reconcile": reconcile,
		"destroy":   destroyAll,
		"destroy after the store was lost": func(w *world, _ *sandboxer.Client) {
			w.forgetStore()
			c := w.client(process{})
			reconcile(w, c)
			destroyAll(w, c)
		},
		"recreate": func(w *world, c *sandboxer.Client) {
			records, _ := w.store.List(context.Background(), sandboxer.Filter{})
			for _, r := range records {
				if _, err := c.Recreate(context.Background(), r.Sandbox.ID); err != nil && !errors.Is(err, sandboxer.ErrState) {
					w.t.Errorf("recreate: %v", err)
				}
			}
			reconcile(w, c)
		},
		"create again": func(w *world, c *sandboxer.Client) {
			if _, err := c.Create(context.Background(), keyedRequest()); err != nil && !errors.Is(err, sandboxer.ErrState) {
				w.t.Errorf("create: %v", err)
			}
			reconcile(w, c)
		},
	}
}

// A process dies at every step it takes: at each write of the record, and at
// each thing it does to a machine. Whatever another process then does, every
// sandbox is either whole and recorded so, or gone and recorded so.
func TestDeathAtEveryStep(t *testing.T) {
	for name, d := range deeds() {
		for remedy, save := range rescues() {
			t.Run(name+"/"+remedy, func(t *testing.T) {
				for steps := 0; ; steps++ {
					w := newWorld(t, host("one"), host("two"))
					id := d.before(w)
					l := &life{steps: steps}
					dying := w.client(process{
						store: &mortalStore{w.store, l, deadProcess(t)},
						fault: extensiontest.Faults(l.fault, d.fault),
					})
					_ = d.do(t.Context(), dying, id)
					save(w, w.client(process{}))
					w.consistent(steps)
					if t.Failed() {
						t.Fatalf("died after %d steps", steps)
					}
					if !l.over() {
						if steps < 5 {
							t.Fatalf("the whole deed took %d steps: nothing was tested", steps)
						}
						return
					}
				}
			})
		}
	}
}

// consistent requires that records and machines agree and nobody is at work.
func (w *world) consistent(steps int) {
	w.t.Helper()
	records, err := w.store.List(context.Background(), sandboxer.Filter{})
	if err != nil {
		w.t.Fatal(err)
	}
	standing := 0
	for _, r := range records {
		s := r.Sandbox
		w.history(s.ID)
		held := len(w.left(s.ID))
		switch {
		case s.State == sandboxer.StateDestroyed && held == 0:
		case s.State == sandboxer.StateReady && held > 0 && r.Operation == nil:
			for _, object := range w.left(s.ID) {
				if !strings.HasSuffix(object, " on "+s.Host) {
					w.t.Errorf("it stands on %s, and there is also %s", s.Host, object)
				}
			}
			standing += held
			observed, err := w.client(process{}).Inspect(context.Background(), s.ID)
			if err != nil || observed.Observed.Presence != sandboxer.Present || r.Handle.Generation != s.Generation {
				w.t.Errorf("it is recorded as ready; the backend says %v, %v", observed.Observed, err)
			}
		default:
			w.t.Errorf("dead after %d steps: %s is %s, claimed by %v, and the backend holds %d objects of it\n%s",
				steps, s.ID, s.State, r.Operation, held, w.history(s.ID))
		}
	}
	if all := len(w.left("")); all != standing {
		w.t.Errorf("dead after %d steps: the backend holds %d objects, %d belong to sandboxes that stand", steps, all, standing)
	}
	report := w.reconcile(sandboxer.ReconcileOptions{Adopt: true})
	wantReport(w.t, report, sandboxer.Report{})
}
