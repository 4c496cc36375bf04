package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

func TestDefaultPath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Setenv("LocalAppData", `C:\state`)
		if got, err := sqlstore.DefaultPath(); err != nil || got != `C:\state\sandboxer\sandboxer.db` {
			t.Errorf("got %s, %v", got, err)
		}
		return
	}
	for _, c := range []struct{ state, home, want string }{
		{"/state", "/home/a", "/state/sandboxer/sandboxer.db"},
		{"", "/home/a", "/home/a/.local/state/sandboxer/sandboxer.db"},
		{"relative", "/home/a", "/home/a/.local/state/sandboxer/sandboxer.db"},
	} {
		t.Setenv("XDG_STATE_HOME", c.state)
		t.Setenv("HOME", c.home)
		if got, err := sqlstore.DefaultPath(); err != nil || got != c.want {
			t.Errorf("XDG_STATE_HOME=%s HOME=%s: got %s, %v, want %s", c.state, c.home, got, err, c.want)
		}
	}
	t.Setenv("HOME", "")
	if _, err := sqlstore.DefaultPath(); !strings.Contains(sandboxer.Hint(err), "XDG_STATE_HOME") {
		t.Errorf("without a home: %v, hint %q", err, sandboxer.Hint(err))
	}
}

func TestPathsMayHoldAnyCharacter(t *testing.T) {
	name := "a ?#%41&=;+ü.db"
	if runtime.GOOS == "windows" {
		name = "a #%41&=;+ü.db"
	}
	path := filepath.Join(t.TempDir(), name)
	create(t, open(t, path), record(1))
	if _, err := open(t, path).Get(t.Context(), record(1).Sandbox.ID); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// TestOpenRefuses also expects that a refused file is left as it is.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ name, path, want, hint string }{
		{"no path", "", "it is not a file", "NewMemoryStore"},
		{"memory", ":memory:", "it is not a file", "NewMemoryStore"},
		{"text", write("text", []byte("hello")), "damaged or not a sandbox database", "move the file away"},
		{"damaged", damaged(t, filepath.Join(dir, "damaged")), "damaged or not a sandbox database", "move the file away"},
		{"another program's", foreign(t, filepath.Join(dir, "foreign")), "the database of another program", "give another path"},
		{"a directory", dir, "cannot be opened or written", "give another path"},
		{"below a file", filepath.Join(write("file", nil), "sandboxer.db"), "make the sandbox database", "give another path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := os.ReadFile(c.path)
			_, err := sqlstore.Open(t.Context(), c.path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) || !strings.Contains(sandboxer.Hint(err), c.hint) {
				t.Errorf("got error %v with hint %q, want %q and %q", err, sandboxer.Hint(err), c.want, c.hint)
			}
			if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

// damaged is a database whose pages were overwritten behind its header.
func damaged(t *testing.T, path string) string {
	s, err := sqlstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, record(1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x55}, 8000), 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func foreign(t *testing.T, path string) string {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE bookmarks (url TEXT)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnUpdateCannotTakeAKey(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	one, two := record(1), record(2)
	one.Key = "key"
	create(t, s, one)
	create(t, s, two)
	two.Key = "key"
	if err := s.Update(t.Context(), two, event(two, 1)...); !errors.Is(err, sandboxer.ErrExists) {
		t.Errorf("got error %v, want %v", err, sandboxer.ErrExists)
	}
	if events, err := s.Events(t.Context(), two.Sandbox.ID, 0); err != nil || len(events) != 1 {
		t.Errorf("%d events, %v, want 1", len(events), err)
	}
}

func TestWhatIsNotJSONIsInvalid(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	r := record(1)
	r.Handle.State = []byte("{")
	if err := s.Create(t.Context(), r, event(r, 1)...); !errors.Is(err, sandboxer.ErrInvalid) {
		t.Errorf("got error %v, want %v", err, sandboxer.ErrInvalid)
	}
}

func TestDeliveryOfAnUnknownSandbox(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	unknown := sandboxer.Claim{SandboxID: "unknown", Until: time.Now()}
	for _, err := range []error{
		s.AckEvents(t.Context(), unknown, 1), s.BuryEvent(t.Context(), unknown, 1, "reason", time.Now()), s.RewindEvents(t.Context(), "unknown", 1, time.Now()),
		s.DelayEvents(t.Context(), unknown, "down", func(int) time.Time { return time.Now() }),
	} {
		if !errors.Is(err, sandboxer.ErrNotFound) {
			t.Errorf("got error %v, want %v", err, sandboxer.ErrNotFound)
		}
	}
}

// lock keeps others from writing until it is called again.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestALockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandboxer.db")
	s := open(t, path)
	r := record(1)
	create(t, s, r)

	t.Run("is waited for", func(t *testing.T) {
		const held = 2500 * time.Millisecond // longer than SQLite itself waits
		start := time.Now()
		defer time.AfterFunc(held, lock(t, path)).Stop()
		if err := s.Update(t.Context(), r, event(r, 1)...); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited < held {
			t.Errorf("waited %v for a lock held for %v", waited, held)
		}
	})
	t.Run("can be read", func(t *testing.T) {
		defer lock(t, path)()
		if _, err := s.Get(t.Context(), r.Sandbox.ID); err != nil {
			t.Error(err)
		}
		open(t, path) // and opened
	})
	t.Run("until the context ends", func(t *testing.T) {
		defer lock(t, path)()
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, cause)
		defer cancel()
		start, next := time.Now(), *r
		err := s.Update(ctx, &next, event(&next, 1)...)
		if !errors.Is(err, cause) || time.Since(start) > 5*time.Second {
			t.Errorf("got error %v after %v, want %v", err, time.Since(start), cause)
		}
	})
	if err := s.Update(t.Context(), r, event(r, 1)...); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestACanceledContextChangesNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	r := record(1)
	create(t, s, r)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	next := *r
	_, getErr := s.Get(ctx, r.Sandbox.ID)
	for _, err := range []error{getErr, s.Update(ctx, &next, event(&next, 1)...)} {
		if !errors.Is(err, cause) {
			t.Errorf("got error %v, want %v", err, cause)
		}
	}
	if err := s.Update(t.Context(), r, event(r, 1)...); err != nil {
		t.Error(err)
	}
}

// TestACanceledUpdateIsAllOrNothing ends contexts at every moment of an
// update. How long an update takes is the machine's affair, so the time
// granted follows what was seen: more after one that was canceled, less after
// one that was done.
func TestACanceledUpdateIsAllOrNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sandboxer.db"))
	r := record(1)
	create(t, s, r)
	outcomes := map[bool]int{}
	granted := time.Millisecond
	for range 400 {
		ctx, cancel := context.WithTimeout(t.Context(), rand.N(granted))
		next := *r
		err := s.Update(ctx, &next, event(&next, 1)...)
		cancel()
		outcomes[err == nil]++
		if err == nil {
			granted = max(granted*9/10, 10*time.Microsecond)
		} else {
			granted = min(granted*11/10, time.Second)
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got error %v, want the end of the context", err)
		}
		if r, err = s.Get(t.Context(), r.Sandbox.ID); err != nil {
			t.Fatal(err)
		}
		if r.Revision != next.Revision {
			t.Fatalf("the update told revision %d, %d is stored", next.Revision, r.Revision)
		}
	}
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Errorf("%d updates were done, %d canceled, want some of each", outcomes[true], outcomes[false])
	}
	t.Logf("%d done, %d canceled", outcomes[true], outcomes[false])
}
