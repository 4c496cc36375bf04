package hub_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// TestRestart: a hub that comes back says what it said before, and knows what
// it has.
func TestRestart(t *testing.T) {
	r := newRig(t, hub.Options{})
	lives := someLives(9, time.Now())
	for _, l := range lives {
		r.must(l.made...)
		r.put(registrationOf(l.made[0]))
	}
	r.post(lives[0].made[0])
	r.send("DELETE", "/v1/sandboxes/"+idOf(2), "")
	targets := []string{"/v1/events", "/v1/sandboxes", "/v1/sandboxes/" + idOf(2)}
	var before []string
	for _, target := range targets {
		before = append(before, r.get(target).body)
	}
	r.close()
	r.open(hub.Options{})
	for i, target := range targets {
		if got := r.get(target).body; got != before[i] {
			t.Errorf("%s\nbefore: %s\nafter:  %s", target, before[i], got)
		}
	}
	if a := r.postProgress(lives[0].made[0]); !decode[receipt](t, a).Duplicate {
		t.Errorf("an event of before: %d %s", a.status, a.body)
	}
}

func TestOpen(t *testing.T) {
	write := func(path, statement string) string {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("no database\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, says string }{
		{"no path", "", "not a file"},
		{"memory", ":memory:", "not a file"},
		{"a directory", dir, dir},
		{"not a database", text, text},
		{"another program's", write(filepath.Join(dir, "other"), "CREATE TABLE t (x)"), "another program"},
		{"a newer hub's", write(filepath.Join(dir, "newer"), "PRAGMA user_version = 99"), "newer hub"},
		{"below a file", filepath.Join(text, "hub.db"), text},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := os.ReadFile(tt.path)
			h, err := hub.Open(t.Context(), tt.path, hub.Options{})
			if err == nil {
				t.Fatal(h.Close(), "it was opened")
			}
			if !strings.Contains(err.Error(), tt.says) || sandboxer.Hint(err) == "" {
				t.Errorf("error %q with hint %q, want one that says %q", err, sandboxer.Hint(err), tt.says)
			}
			if after, _ := os.ReadFile(tt.path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
	made := filepath.Join(dir, "a", "b", "hub.db")
	h, err := hub.Open(t.Context(), made, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]os.FileMode{made: 0o600, filepath.Dir(made): 0o700 | os.ModeDir} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}
