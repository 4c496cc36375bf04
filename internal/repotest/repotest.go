// Package repotest lays out working trees for tests that build and run them on
// a real engine.
//
// The programs in a tree end with a few bytes of its own. Trees of different
// tests therefore share no step of a build, and what the engine keeps of one
// can be removed whatever another test is doing.
package repotest

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Dockerfile makes an image of the program of [New] that starts it.
const Dockerfile = "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n"

// New returns a working tree with the given files, the program
// compose/testdata/app as app, and, unless it is given, [Dockerfile].
func New(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	Write(t, filepath.Join(dir, "app"), string(App(t)), 0o755)
	Write(t, filepath.Join(dir, "Dockerfile"), Dockerfile, 0o644)
	for name, text := range files {
		Write(t, filepath.Join(dir, name), text, 0o644)
	}
	return dir
}

// App is the static program compose/testdata/app for Linux, unlike any other.
func App(t testing.TB) []byte {
	t.Helper()
	program, err := app()
	if err != nil {
		t.Fatal(err)
	}
	return salted(program)
}

// app compiles the program once.
var app = sync.OnceValues(func() ([]byte, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "app-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "app"), "./compose/testdata/app")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "app"))
})

// salted is a program with random bytes behind it, which no loader reads.
func salted(program []byte) []byte {
	return append(append([]byte{}, program...), rand.Text()...)
}

// Demo returns a copy of testdata/demo-repo, its programs compiled.
func Demo(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, "testdata", "demo-repo")
	if out, err := exec.Command("sh", filepath.Join(source, "build.sh")).CombinedOutput(); err != nil {
		t.Fatalf("building the demo repository: %v: %s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "demo-repo")
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"dist/api", "dist/store"} {
		path := filepath.Join(dir, program)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		Write(t, path, string(salted(text)), 0o755)
	}
	return dir
}

// Write writes a file and the directories above it.
func Write(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// moduleRoot is the directory above this one that holds go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory: %w", fs.ErrNotExist)
		}
		dir = parent
	}
	return "", err
}
