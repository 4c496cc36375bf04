package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func TestAStuckLockIsNamed(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	s.patience = 100 * time.Millisecond
	other, err := sql.Open("sqlite", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	err = s.Create(t.Context(), &sandboxer.Record{Sandbox: sandboxer.Sandbox{ID: "late"}})
	if err == nil || !strings.Contains(err.Error(), s.path+" was locked by another process") || !strings.Contains(sandboxer.Hint(err), "which process") {
		t.Errorf("got error %v with hint %q", err, sandboxer.Hint(err))
	}
}

// TestCommitsAreDurable holds the settings that a power cut would test.
func TestCommitsAreDurable(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "fullfsync": "1", "foreign_keys": "1"} {
		var got string
		if err := s.writer.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, %v, want %s", pragma, got, err, want)
		}
	}
}

// TestAFullDisk lets SQLite believe that the disk ends where the file does now.
func TestAFullDisk(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	limitPages := func(n int) {
		if _, err := s.writer.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	r := &sandboxer.Record{Sandbox: sandboxer.Sandbox{ID: "large", Message: strings.Repeat("x", 1<<20)}}
	limitPages(1)
	err := s.Create(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), s.path+": no space left") || !strings.Contains(sandboxer.Hint(err), "free some space in "+filepath.Dir(s.path)) {
		t.Errorf("got error %v with hint %q", err, sandboxer.Hint(err))
	}
	if _, err := s.Get(t.Context(), "large"); !errors.Is(err, sandboxer.ErrNotFound) {
		t.Errorf("after the refused create: got error %v, want %v", err, sandboxer.ErrNotFound)
	}
	limitPages(1 << 30)
	if err := s.Create(t.Context(), r); err != nil {
		t.Errorf("with space again: %v", err)
	}
}
