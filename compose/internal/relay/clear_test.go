package relay_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

func writeProgram(t *testing.T, dir string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "program"), content, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestClearRemovesWhateverIsThere(t *testing.T) {
	s := emptySite(t)
	dir, outside := t.TempDir(), t.TempDir()
	canary := filepath.Join(outside, "canary")
	fill(t, dir, outside)
	if err := os.WriteFile(canary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := relay.Clear(t.Context(), s.Client, s.spec, dir); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("left: %v %v", entries, err)
		}
	}
	if _, err := os.Stat(canary); err != nil {
		t.Errorf("through a symbolic link: %v", err)
	}
	if containers, err := s.Containers(t.Context(), s.Label); err != nil || len(containers) != 0 {
		t.Errorf("containers: %+v %v", containers, err)
	}
}

// fill makes what containers of several users may leave behind.
func fill(t *testing.T, dir, outside string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	deep := filepath.Join(dir, strings.Repeat("deep/", 200))
	check(os.MkdirAll(deep, 0o755))
	check(os.WriteFile(filepath.Join(deep, "file"), make([]byte, 1<<20), 0o400))
	check(os.WriteFile(filepath.Join(dir, "..hidden \n$(x)"), nil, 0o000))
	check(os.Symlink(outside, filepath.Join(dir, "link")))
	check(os.Symlink("/", filepath.Join(dir, "root")))
	check(os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	others := filepath.Join(dir, "others")
	check(os.Mkdir(others, 0o700))
	check(os.Symlink(filepath.Join(outside, "canary"), filepath.Join(others, "canary")))
	check(os.Mkdir(filepath.Join(others, "sticky"), 0o700))
	check(os.WriteFile(filepath.Join(others, "sticky", "file"), nil, 0o600))
	if os.Geteuid() == 0 {
		check(os.Chown(filepath.Join(others, "sticky", "file"), 4321, 4321))
		check(os.Chown(filepath.Join(others, "sticky"), 1234, 1234))
		check(os.Chown(others, 1234, 1234))
	}
	check(os.Chmod(filepath.Join(others, "sticky"), 0o000|os.ModeSticky))
	check(os.Chmod(others, 0o000))
}

func TestClearOfWhatCannotBe(t *testing.T) {
	s := emptySite(t)
	for _, dir := range []string{"", "/", "relative", "/tmp/..", "/tmp/", "//tmp", "/tmp/./x"} {
		if err := relay.Clear(t.Context(), s.Client, s.spec, dir); err == nil || !strings.Contains(err.Error(), "absolute and clean") {
			t.Errorf("%q: %v", dir, err)
		}
	}
	if err := relay.Clear(t.Context(), s.Client, s.spec, t.TempDir()+"/none"); err == nil {
		t.Error("a directory that is not there")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := relay.Clear(t.Context(), s.Client, s.spec, file); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	if containers, err := s.Containers(t.Context(), s.Label); err != nil || len(containers) != 0 {
		t.Errorf("containers: %+v %v", containers, err)
	}
}
