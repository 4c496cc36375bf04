//go:build linux

package host

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// reserveOnly reserves for a working tree that lies in dir.
func (g *rig) reserveOnly(dir string) *sandbox {
	g.t.Helper()
	s := &sandbox{rig: g, id: newID(), tree: take(g.t, dir)}
	g.t.Cleanup(s.destroy)
	r, err := g.Reserve(g.t.Context(), s.reservation())
	if err != nil {
		g.t.Fatal(err)
	}
	s.Reserved = r
	return s
}

// upload sends the tree and returns how many bytes of content that took.
func (s *sandbox) upload() int64 {
	s.t.Helper()
	return s.uploadBy(s.Machine)
}

func (s *sandbox) uploadBy(m *Machine) int64 {
	s.t.Helper()
	var sent int64
	if err := m.Upload(s.t.Context(), s.Reserved, s.tree, "0:0", source, func(n int64) { sent = n }); err != nil {
		s.t.Fatal(err)
	}
	s.assertCached()
	return sent
}

// assertCached compares what lies on the host with what was sent.
func (s *sandbox) assertCached() {
	s.t.Helper()
	if got := take(s.t, filepath.Join(s.root, "cache/src", s.tree.Digest(), "tree")).Digest(); got != s.tree.Digest() {
		s.t.Errorf("the host holds a tree with digest %s, sent was %s", got, s.tree.Digest())
	}
	// the host has to notice first that a link is broken
	if !eventually(5*time.Second, func() bool {
		stages, _ := filepath.Glob(filepath.Join(s.root, "cache/src/.*"))
		return len(stages) == 0
	}) {
		s.t.Error("the broken upload is still on the host")
	}
}

// incompressible is as much random text as it says.
func incompressible(size int) []byte {
	b := make([]byte, size)
	rand.Read(b)
	return b
}

func TestUploadSendsWhatIsMissing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "large"), incompressible(300_000), 0o644)
		put(t, filepath.Join(dir, "same/deep/file"), []byte("same"), 0o755)
		put(t, filepath.Join(dir, "changed"), []byte("old"), 0o644)
		put(t, filepath.Join(dir, "deleted/a 'b' \"c\""), []byte("gone"), 0o644)
		put(t, filepath.Join(dir, "-rf"), []byte("gone"), 0o644)
		put(t, filepath.Join(dir, "becomes-dir"), []byte("file"), 0o644)
		put(t, filepath.Join(dir, "becomes-link/x"), []byte("dir"), 0o644)
		if err := os.Symlink("same", filepath.Join(dir, "becomes-file")); err != nil {
			t.Fatal(err)
		}
		first := g.reserveOnly(dir)
		if sent := first.upload(); sent != first.tree.Bytes() {
			t.Errorf("the first upload sent %d bytes of %d", sent, first.tree.Bytes())
		}
		again := g.reserveOnly(dir)
		if sent := again.upload(); sent != 0 || !again.Cached {
			t.Errorf("the same tree again sent %d bytes; cached %v", sent, again.Cached)
		}

		for _, gone := range []string{"deleted", "-rf", "becomes-dir", "becomes-link", "becomes-file"} {
			if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
				t.Fatal(err)
			}
		}
		put(t, filepath.Join(dir, "changed"), []byte("changed"), 0o644)
		put(t, filepath.Join(dir, "becomes-dir/x"), []byte("dir"), 0o644)
		put(t, filepath.Join(dir, "becomes-file"), []byte("file"), 0o644)
		if err := os.Symlink("same/deep", filepath.Join(dir, "becomes-link")); err != nil {
			t.Fatal(err)
		}
		delta := g.reserveOnly(dir)
		if delta.Base != first.tree.Digest() {
			t.Errorf("base is %q, want the earlier tree", delta.Base)
		}
		if sent, want := delta.upload(), int64(len("changed")+len("dir")+len("file")); sent != want {
			t.Errorf("the changed tree sent %d bytes, want %d", sent, want)
		}
		first.assertCached()
	})
}

func TestUploadWithoutItsBase(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), []byte("a"), 0o644)
	first := g.reserveOnly(dir)
	first.upload()
	for name, harm := range map[string]func() error{
		"manifest": func() error { return os.Remove(filepath.Join(g.root, "cache/src", first.Tree, "manifest")) },
		"file":     func() error { return os.Remove(filepath.Join(g.root, "cache/src", first.Tree, "tree/a")) },
		"all":      func() error { return os.RemoveAll(filepath.Join(g.root, "cache/src", first.Tree)) },
	} {
		t.Run(name, func(t *testing.T) {
			first.Reserved.Cached = false
			first.upload()
			put(t, filepath.Join(dir, "b"), []byte(name), 0o644)
			s := g.in(t).reserveOnly(dir)
			if s.Base != first.Tree {
				t.Fatalf("base is %q", s.Base)
			}
			if err := harm(); err != nil {
				t.Fatal(err)
			}
			err := s.Upload(t.Context(), s.Reserved, s.tree, "0:0", "x", nil)
			if name == "file" { // found out only by counting
				assertIs(t, err, sandboxer.ErrUnavailable)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s.assertCached()
		})
		os.RemoveAll(filepath.Join(g.root, "cache/src", first.Tree))
	}
}

func TestUploadOverACutLink(t *testing.T) {
	t.Parallel()
	g, proxy := proxyRig(t)
	dir := t.TempDir()
	for _, offset := range []int64{20_000, 100_000, 299_000, 600_000, 606_000} {
		put(t, filepath.Join(dir, "large"), incompressible(600_000), 0o644)
		s := g.reserveOnly(dir)
		client := g.another() // one that is cut off often waits long before it dials
		if _, err := client.Look(t.Context(), s.id); err != nil {
			t.Fatal(err)
		}
		opened := proxy.Opened()
		proxy.CutAfter(sshtest.ToServer, offset)
		s.uploadBy(client)
		if proxy.Opened() == opened {
			t.Errorf("a cut after %d bytes did not break the link", offset)
		}
	}
}

func TestUploadRefusesWhatIsIncomplete(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), bytes.Repeat([]byte("a"), 512), 0o644)
	put(t, filepath.Join(dir, "b"), bytes.Repeat([]byte("b"), 512), 0o644)
	s := g.reserveOnly(dir)
	var whole bytes.Buffer
	if err := s.tree.WriteTar(t.Context(), &whole, s.tree.Diff(workspace.Manifest{}), nil); err != nil {
		t.Fatal(err)
	}
	archive := unzip(t, whole.Bytes())
	damaged := bytes.Replace(archive, bytes.Repeat([]byte("b"), 512), nil, 1)
	for name, stream := range map[string][]byte{
		"nothing":                  nil,
		"half":                     whole.Bytes()[:whole.Len()/2],
		"without the gzip trailer": whole.Bytes()[:whole.Len()-4],
		"without the marker":       zip(t, archive[:2048]),
		"without the last file":    zip(t, append(slices.Clone(archive[:1024]), archive[2048:]...)),
		"with damage":              zip(t, damaged),
		"no archive":               []byte("hello"),
	} {
		vars := map[string]string{"owner": "0:0", "source": "x", "base": "", "delete": "", "entries": strconv.Itoa(count(s.tree.Entries()))}
		for k, v := range s.vars() {
			vars[k] = v
		}
		_, err := g.Machine.run(t.Context(), step{names: []string{"upload"}, vars: vars, stdin: func() io.ReadCloser { return io.NopCloser(bytes.NewReader(stream)) }})
		if !isExit(err, 79) {
			t.Errorf("%s: error %v, want an upload that arrived incomplete", name, err)
		}
		if entries, err := os.ReadDir(filepath.Join(g.root, "cache/src")); err != nil || len(entries) > 0 {
			t.Errorf("%s: left in the cache: %v %v", name, entries, err)
		}
	}
	s.upload()
}

func unzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func zip(t *testing.T, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUploadOfATreeThatChanges(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "large"), incompressible(300_000), 0o644)
		put(t, filepath.Join(dir, "z"), []byte("before"), 0o644)
		s := g.reserveOnly(dir)
		put(t, filepath.Join(dir, "z"), []byte("behind"), 0o644)
		err := s.Upload(t.Context(), s.Reserved, s.tree, "0:0", "x", nil)
		assertIs(t, err, workspace.ErrChanged)
		if errors.Is(err, sandboxer.ErrUnavailable) || err == nil || !strings.HasPrefix(err.Error(), "z ") {
			t.Errorf("error %v does not blame the file", err)
		}
	})
}

func TestUploadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "large"), incompressible(8<<20), 0o644)
		s := g.reserveOnly(dir)
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		err := s.Upload(ctx, s.Reserved, s.tree, "0:0", "x", func(sent int64) {
			if sent > 1<<20 {
				cancel(enough)
			}
		})
		assertIs(t, err, enough)
		if !eventually(5*time.Second, func() bool { stages, _ := filepath.Glob(filepath.Join(s.root, "cache/src/*")); return len(stages) == 0 }) {
			t.Error("the broken upload is still on the host")
		}
	})
}

// TestUploadNobodyListensTo: a script that cannot even say what went wrong
// removes what it made.
func TestUploadNobodyListensTo(t *testing.T) {
	t.Parallel()
	g := localRig(t, Config{})
	dir := t.TempDir()
	put(t, filepath.Join(dir, "large"), incompressible(100_000), 0o644)
	s := g.reserveOnly(dir)
	var whole bytes.Buffer
	if err := s.tree.WriteTar(t.Context(), &whole, s.tree.Diff(workspace.Manifest{}), nil); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"root": g.root, "socket": g.cfg.Socket, "owner": "0:0", "source": "x", "base": "", "delete": "", "entries": "2"}
	maps.Copy(vars, s.vars())
	var text strings.Builder
	for name, value := range vars {
		fmt.Fprintf(&text, "%s=%s\n", name, quote(value))
	}
	heard, said, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	heard.Close()
	cmd := exec.Command("sh", "-c", text.String()+script("upload"))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(whole.Bytes()[:whole.Len()/2]), said
	if err := cmd.Run(); err == nil {
		t.Error("half a tree was taken")
	}
	if stages, _ := filepath.Glob(filepath.Join(g.root, "cache/src/.*")); len(stages) > 0 {
		t.Errorf("left of the upload: %q", stages)
	}
}
