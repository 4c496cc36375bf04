package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

func TestStore(t *testing.T) {
	extensiontest.RunStore(t, func(t *testing.T) sandboxer.Store { return open(t, filepath.Join(t.TempDir(), "sandboxer.db")) })
}

func open(t testing.TB, path string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(n int) *sandboxer.Record {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return &sandboxer.Record{Sandbox: sandboxer.Sandbox{
		ID: fmt.Sprintf("sandbox%013d", n), Generation: 1, State: sandboxer.StateRequested,
		Consumer:  sandboxer.Consumer{Project: "project", ActorType: sandboxer.ActorAutomation, Actor: "test"},
		Labels:    map[string]string{"team": "blue"},
		CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}}
}

// event makes the next n events of r.
func event(r *sandboxer.Record, n int) []sandboxer.Event {
	var events []sandboxer.Event
	for range n {
		r.Seq++
		events = append(events, sandboxer.Event{
			ID: fmt.Sprintf("%s-%d", r.Sandbox.ID, r.Seq), Seq: r.Seq, SandboxID: r.Sandbox.ID, Time: time.Now().UTC(), State: r.Sandbox.State,
		})
	}
	return events
}

func create(t testing.TB, s *sqlstore.Store, r *sandboxer.Record) {
	t.Helper()
	if err := s.Create(t.Context(), r, event(r, 1)...); err != nil {
		t.Fatal(err)
	}
}
