package sqlstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestMigrationIsAllOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandboxer.db")
	s := openAt(t, path)
	r := &sandboxer.Record{Sandbox: sandboxer.Sandbox{ID: "kept"}}
	if err := s.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	steps, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	published := len(steps)
	steps = append(steps, "ALTER TABLE sandboxes ADD COLUMN note TEXT NOT NULL DEFAULT 'new'", "ALTER TABLE nowhere ADD COLUMN note TEXT")
	note := func() (text string, err error) {
		err = s.reader.QueryRow("SELECT note FROM sandboxes WHERE id = 'kept'").Scan(&text)
		return text, err
	}

	broken := fmt.Sprintf("schema step %d", len(steps))
	if err := s.migrate(t.Context(), steps); err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("got error %v, want one that names %s", err, broken)
	}
	if _, err := note(); err == nil {
		t.Errorf("the step before stayed though %s failed", broken)
	}
	for range 2 { // the second time there is nothing to do
		if err := s.migrate(t.Context(), steps[:published+1]); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := note(); err != nil || text != "new" {
		t.Errorf("after the good step: %q, %v", text, err)
	}
	if _, err := s.Get(t.Context(), "kept"); err != nil {
		t.Error(err)
	}

	_, err = Open(t.Context(), path)
	newer := fmt.Sprintf("a newer version of this program wrote it (schema %d, known here are 1 to %d)", published+1, published)
	if !errors.Is(err, sandboxer.ErrInvalid) || !strings.Contains(err.Error(), newer) ||
		!strings.Contains(sandboxer.Hint(err), "update this program") {
		t.Errorf("a database of a newer program: got error %v with hint %q", err, sandboxer.Hint(err))
	}
}

// TestQueriesUseIndexes keeps the frequent ones from reading every sandbox
// that ever was.
func TestQueriesUseIndexes(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	list := func(f sandboxer.Filter) string {
		where, _ := conditions(f)
		return "SELECT document FROM sandboxes" + where + " ORDER BY created_at, id"
	}
	for _, c := range []struct{ query, index string }{
		{dueQuery, "outbox_due"},
		{pendingEvents, "sqlite_autoindex_events_1"},
		{list(sandboxer.Filter{States: []sandboxer.State{"ready", "active"}}), "sandboxes_by_state"},
		{list(sandboxer.Filter{Host: "host"}), "sandboxes_by_host"},
		{list(sandboxer.Filter{Project: "project"}), "sqlite_autoindex_sandboxes_2"},
		{list(sandboxer.Filter{Labels: map[string]string{"team": "blue"}}), "labels_by_value"},
		{list(sandboxer.Filter{}), "sandboxes_by_age"},
	} {
		rows, err := s.reader.Query("EXPLAIN QUERY PLAN "+c.query, 1, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, step)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "; "); !strings.Contains(text, "INDEX "+c.index) {
			t.Errorf("%s\nis done by %s, want index %s", c.query, text, c.index)
		}
	}
}
