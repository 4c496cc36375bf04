//go:build unix

package workspace

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stream is what WriteTar sends of the difference to base.
func stream(t testing.TB, s *Snapshot, base Manifest) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.WriteTar(t.Context(), &out, s.Diff(base), nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestStreamIsAsDocumented(t *testing.T) {
	dir := goldenTree(t, t.TempDir())
	long := strings.Repeat("d/", 60) + strings.Repeat("n", 150)
	plant(t, dir, long+"=1", "long-link->"+long)
	if err := os.Chmod(filepath.Join(dir, "compose.yaml"), 0o4600); err != nil {
		t.Fatal(err)
	}
	s := mustTake(t, dir, Options{})
	raw := stream(t, s, Manifest{})
	if again := stream(t, s, Manifest{}); !bytes.Equal(raw, again) {
		t.Error("two streams of one snapshot differ")
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(unzipped)
	var names []string
	var last *tar.Header
	for h, err := archive.Next(); err != io.EOF; h, err = archive.Next() {
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.Format != tar.FormatGNU || len(h.PAXRecords) > 0 {
			t.Errorf("header is %+v", h)
		}
		path := strings.TrimSuffix(h.Name, "/")
		e, ok := s.Lookup(path)
		switch {
		case path == MarkerName:
			content, _ := io.ReadAll(archive)
			if string(content) != string(s.Encode()) {
				t.Errorf("marker holds %q", content)
			}
		case !ok,
			h.Typeflag == tar.TypeDir && (e.Kind != Dir || h.Mode != 0o755 || path == h.Name),
			h.Typeflag == tar.TypeReg && (e.Kind != File || h.Mode != int64(e.Mode) || h.Size != e.Size),
			h.Typeflag == tar.TypeSymlink && (e.Kind != Symlink || h.Linkname != e.Link),
			!strings.ContainsRune("\x00025", rune(h.Typeflag)):
			t.Errorf("header is %+v of %+v", h, e)
		}
		if path == "compose.yaml" && !h.ModTime.Equal(time.Unix(1_700_000_000, 0)) {
			t.Errorf("compose.yaml is of %v", h.ModTime)
		}
		names, last = append(names, path), h
	}
	if last.Name != MarkerName {
		t.Errorf("last is %s", last.Name)
	}
	var want []string
	for e := range s.Entries() {
		want = append(want, e.Path)
	}
	if diff := cmp.Diff(append(want, MarkerName), names); diff != "" {
		t.Error(diff)
	}
	if rest, err := io.ReadAll(unzipped); err != nil || len(bytes.Trim(rest, "\x00")) > 0 {
		t.Errorf("after the archive: %q, %v", rest, err)
	}
}

// receiver runs the script of the package documentation with one family of tools.
type receiver struct {
	name string
	run  func(ctx context.Context, script string) *exec.Cmd
}

// receivers are the families of tools found on this machine. On Linux, which hosts run, GNU tar must be.
func receivers(t *testing.T) []receiver {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("hosts run Linux and its tar")
	}
	version, err := exec.Command("tar", "--version").Output()
	if err != nil || !bytes.Contains(version, []byte("GNU tar")) {
		t.Fatalf("this test needs GNU tar, which is not %q, %v", version, err)
	}
	all := []receiver{{"gnu", func(ctx context.Context, script string) *exec.Cmd {
		return exec.CommandContext(ctx, "sh", "-c", script)
	}}}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Log("busybox is not installed: only GNU tar is tested")
		return all
	}
	tools := t.TempDir()
	for _, tool := range []string{"tar", "gzip", "gunzip", "sha256sum", "mv", "rm", "xargs", "cp"} {
		if err := os.Symlink(busybox, filepath.Join(tools, tool)); err != nil {
			t.Fatal(err)
		}
	}
	return append(all, receiver{"busybox", func(ctx context.Context, script string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, busybox, "sh", "-c", script)
		cmd.Env = []string{"PATH=" + tools}
		return cmd
	}})
}

// documentedScript is the indented block of the package documentation.
func documentedScript(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for line := range strings.Lines(string(text)) {
		if code, ok := strings.CutPrefix(line, "//\t"); ok {
			script.WriteString(code)
		}
	}
	if !strings.Contains(script.String(), "--no-same-owner --no-same-permissions -xzf -") {
		t.Fatalf("no script in the documentation but %q", script.String())
	}
	return script.String()
}

// receive feeds stream to the documented script and reports whether it accepted the tree in stage.
func (r receiver) receive(t *testing.T, stage, digest string, stream []byte) bool {
	t.Helper()
	cmd := r.run(t.Context(), documentedScript(t))
	cmd.Env = append(cmd.Environ(), "stage="+stage, "digest="+digest)
	cmd.Stdin = bytes.NewReader(stream)
	output, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	if err == nil && len(output) > 0 {
		t.Errorf("accepted, but said %q", output)
	}
	return err == nil
}

// diskTree is what a directory holds: the modes of directories, mode, time and content of files, targets of links.
func diskTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line = fmt.Sprintf("%s %d %s", line, info.ModTime().Unix(), content)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line = "-> " + target
		}
		tree[strings.TrimPrefix(path, dir+"/")] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// awkwardTree has what tar programs are known to differ about.
func awkwardTree(t *testing.T, dir string) string {
	long := strings.Repeat("long directory name/", 12)
	return plant(t, goldenTree(t, dir),
		"-rf=1", "--checkpoint=1", "$(id)=1", "'q'\"=1", "back\\slash=1", "a\\nb=1", "..dots=1", "~=1", "*.star=1", " lead=1", "trail =1", "#c=1",
		long+strings.Repeat("n", 200)+"=deep", strings.Repeat("ü", 120)+"=wide", strings.Repeat("x", 101)+"=101", "dir/"+strings.Repeat("y", 99)+"=99",
		"to-long->"+long+strings.Repeat("n", 200), "up/there->../compose.yaml", "up/root->..", "self->.", "big="+strings.Repeat("0123456789abcde\n", 40_000))
}

func TestSystemTarReproducesTheTree(t *testing.T) {
	dir := awkwardTree(t, t.TempDir())
	s := mustTake(t, dir, Options{})
	sent := stream(t, s, Manifest{})
	want := diskTree(t, dir)
	for _, r := range receivers(t) {
		t.Run(r.name, func(t *testing.T) {
			stage := filepath.Join(t.TempDir(), "stage")
			plant(t, stage, "./")
			if !r.receive(t, stage, s.Digest(), sent) {
				t.Fatal("a complete stream was refused")
			}
			if diff := cmp.Diff(want, diskTree(t, stage)); diff != "" {
				t.Error(diff)
			}
			if again := mustTake(t, stage, Options{}); again.Digest() != s.Digest() {
				t.Errorf("digest of the copy is %s, want %s", again.Digest(), s.Digest())
			}
			if kept, err := os.ReadFile(stage + ".manifest"); err != nil || string(kept) != string(s.Encode()) {
				t.Errorf("kept manifest is %q, %v", kept, err)
			}
		})
	}
}

func TestSystemTarAppliesADifference(t *testing.T) {
	outside := t.TempDir()
	old := plant(t, t.TempDir(), "leads-out->"+outside, "gone-out->"+outside+"/", "stays-out->../../etc", "same=1", "edit=old", "mode=1", "gone dir/a=1", "gone=1", "to-dir=1", "to-file/x/y=1", "link->same", "to-link/z=1", "deep/er/edit=old", "deep/er/same=1")
	tree := plant(t, t.TempDir(), "leads-out/x=1", "stays-out->../../etc", "to-out->"+outside, "same=1", "edit=new", "mode*=1", "to-dir/new=1", "to-file=1", "link->edit", "to-link->deep/er", "deep/er/edit=new", "deep/er/same=1", "added $x/y=1")
	base, s := mustTake(t, old, Options{}), mustTake(t, tree, Options{})
	d := s.Diff(base.Manifest)
	if d.Bytes() >= s.Bytes() {
		t.Errorf("the difference has %d of %d bytes", d.Bytes(), s.Bytes())
	}
	sent := stream(t, s, base.Manifest)
	for _, r := range receivers(t) {
		t.Run(r.name, func(t *testing.T) {
			work := t.TempDir()
			cached, stage := filepath.Join(work, "cached"), filepath.Join(work, "stage")
			plant(t, cached, "./")
			if !r.receive(t, cached, base.Digest(), stream(t, base, Manifest{})) {
				t.Fatal("the base was refused")
			}
			before := diskTree(t, cached)
			prepare := r.run(t.Context(), `cp -al "$cached" "$stage" && cd "$stage" && xargs -0 rm -rf --`)
			prepare.Env = append(prepare.Environ(), "cached="+cached, "stage="+stage)
			prepare.Stdin = strings.NewReader(strings.Join(d.Delete, "\x00"))
			if out, err := prepare.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !r.receive(t, stage, s.Digest(), sent) {
				t.Fatal("a complete difference was refused")
			}
			if again := mustTake(t, stage, Options{}); again.Digest() != s.Digest() {
				t.Errorf("the difference made\n%s\nof\n%s", again.Encode(), s.Encode())
			}
			if diff := cmp.Diff(before, diskTree(t, cached)); diff != "" {
				t.Errorf("the base, sharing files with the copy, changed:\n%s", diff)
			}
			if diff := cmp.Diff(map[string]string{}, diskTree(t, outside)); diff != "" {
				t.Errorf("a link was followed out of the tree:\n%s", diff)
			}
		})
	}
}

func TestTruncatedStreamIsNeverAccepted(t *testing.T) {
	dir := awkwardTree(t, t.TempDir())
	s := mustTake(t, dir, Options{})
	whole := stream(t, s, Manifest{})
	cuts := []int{0, 1, 9, 10, 11}
	for i := 1; i <= 25; i++ {
		cuts = append(cuts, len(whole)*i/26)
	}
	for i := 1; i <= 16; i++ {
		cuts = append(cuts, len(whole)-i)
	}
	for _, r := range receivers(t) {
		for _, cut := range cuts {
			t.Run(fmt.Sprintf("%s/%d of %d", r.name, cut, len(whole)), func(t *testing.T) {
				stage := plant(t, filepath.Join(t.TempDir(), "stage"), "./")
				if r.receive(t, stage, s.Digest(), whole[:cut]) {
					t.Errorf("accepted with %d of %d entries", len(diskTree(t, stage)), len(s.entries))
				}
			})
		}
	}
}

// The gzip trailer does not help when what was cut is the archive inside it.
func TestArchiveCutAtAnEntryIsNeverAccepted(t *testing.T) {
	dir := plant(t, t.TempDir(), "a=1", "b/c=2", "d->a", "e=3")
	s := mustTake(t, dir, Options{})
	unzipped, err := gzip.NewReader(bytes.NewReader(stream(t, s, Manifest{})))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	marker := bytes.Index(archive, []byte(MarkerName))
	for _, r := range receivers(t) {
		succeeded := 0
		for cut := 512; cut <= marker; cut += 512 {
			var again bytes.Buffer
			zipped := gzip.NewWriter(&again)
			if _, err := zipped.Write(archive[:cut]); err != nil {
				t.Fatal(err)
			}
			if err := zipped.Close(); err != nil {
				t.Fatal(err)
			}
			stage := plant(t, filepath.Join(t.TempDir(), "stage"), "./")
			if r.receive(t, stage, s.Digest(), again.Bytes()) {
				t.Errorf("%s accepted the first %d of %d bytes", r.name, cut, len(archive))
			}
			if _, err := os.Stat(filepath.Join(stage, "a")); err == nil {
				succeeded++
			}
		}
		if succeeded == 0 {
			t.Errorf("%s extracted nothing from any cut: the test tells nothing about the marker", r.name)
		}
	}
}

func TestAnotherTreesStreamIsNotAccepted(t *testing.T) {
	s := mustTake(t, plant(t, t.TempDir(), "a=1"), Options{})
	other := mustTake(t, plant(t, t.TempDir(), "a=2"), Options{})
	for _, r := range receivers(t) {
		stage := plant(t, filepath.Join(t.TempDir(), "stage"), "./")
		if r.receive(t, stage, s.Digest(), stream(t, other, Manifest{})) {
			t.Errorf("%s accepted it", r.name)
		}
	}
}

func TestWriteTarFailsWhenAFileHasChanged(t *testing.T) {
	const secret = "SECRET outside the tree"
	outside := plant(t, t.TempDir(), "secret="+secret)
	big := strings.Repeat("x", 2*bufferSize)
	tests := []struct{ name, now string }{
		{"other bytes of the same size", "f=" + big[1:] + "y"},
		{"longer", "f=" + big + "x"},
		{"shorter", "f=" + big[1:]},
		{"empty", "f="},
		{"a directory", "f/"},
		{"a link out of the tree", "f->" + outside + "/secret"},
		{"a link to the same bytes", "f->same"},
		{"gone", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := plant(t, t.TempDir(), "a=1", "f="+big, "same="+big)
			s := mustTake(t, dir, Options{})
			if err := os.Remove(filepath.Join(dir, "f")); err != nil {
				t.Fatal(err)
			}
			if test.now != "" {
				plant(t, dir, test.now)
			}
			var out bytes.Buffer
			err := s.WriteTar(t.Context(), &out, s.Diff(Manifest{}), nil)
			if !errors.Is(err, ErrChanged) || !strings.HasPrefix(err.Error(), "f ") {
				t.Errorf("error is %v", err)
			}
			if content := unzipAll(out.Bytes()); bytes.Contains(content, []byte(secret)) || bytes.Contains(content, []byte(MarkerName)) {
				t.Error("sent what it must not")
			}
		})
	}
}

// A directory on the way that has become a link out of the tree is not followed, even to the same bytes.
func TestNothingIsReadThroughAReplacedDirectory(t *testing.T) {
	outside := plant(t, t.TempDir(), "f=1234")
	dir := plant(t, t.TempDir(), "d/f=1234")
	s := mustTake(t, dir, Options{})
	if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	plant(t, dir, "d->"+outside)
	if err := s.WriteTar(t.Context(), io.Discard, s.Diff(Manifest{}), nil); !errors.Is(err, ErrChanged) {
		t.Errorf("WriteTar: %v", err)
	}
	if _, err := s.ReadFile("d/f", 10); !errors.Is(err, ErrChanged) {
		t.Errorf("ReadFile: %v", err)
	}
}

// unzipAll is as much as can be decompressed of a stream, complete or not.
func unzipAll(stream []byte) []byte {
	unzipped, err := gzip.NewReader(bytes.NewReader(stream))
	if err != nil {
		return nil
	}
	content, _ := io.ReadAll(unzipped)
	return content
}

func TestWriteTarSendsOnlyItsOwnEntries(t *testing.T) {
	s := mustTake(t, plant(t, t.TempDir(), "a=1"), Options{})
	other := mustTake(t, plant(t, t.TempDir(), "a=2"), Options{})
	err := s.WriteTar(t.Context(), io.Discard, other.Diff(Manifest{}), nil)
	if err == nil || !strings.Contains(err.Error(), "a is not an entry of this snapshot") {
		t.Errorf("error is %v", err)
	}
}

func TestWriteTarReportsProgress(t *testing.T) {
	s := mustTake(t, plant(t, t.TempDir(), "a=1", "b="+strings.Repeat("x", 3*bufferSize)), Options{})
	d := s.Diff(Manifest{})
	var out bytes.Buffer
	var packed, sent int64
	err := s.WriteTar(t.Context(), &out, d, func(p, n int64) {
		if p < packed || n < sent {
			t.Errorf("progress went from %d, %d back to %d, %d", packed, sent, p, n)
		}
		packed, sent = p, n
	})
	if err != nil || packed != d.Bytes() || sent != int64(out.Len()) {
		t.Errorf("progress ended at %d of %d bytes packed, %d of %d sent, %v", packed, d.Bytes(), sent, out.Len(), err)
	}
}

func TestWriteTarEndsWithItsContext(t *testing.T) {
	s := mustTake(t, plant(t, t.TempDir(), "a="+strings.Repeat("x", 4*bufferSize)), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	err := s.WriteTar(ctx, io.Discard, s.Diff(Manifest{}), func(packed, _ int64) {
		if packed > bufferSize {
			t.Errorf("packed %d bytes after the end of the context", packed)
		}
		cancel()
	})
	if err != context.Canceled {
		t.Errorf("error is %v", err)
	}
}

var errBroken = errors.New("broken pipe")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteTarFailsWithItsWriter(t *testing.T) {
	random := make([]byte, 1<<20)
	for i, x := 0, uint32(1); i < len(random); i++ {
		x = x*1664525 + 1013904223
		random[i] = byte(x >> 24)
	}
	for _, content := range []string{"", string(random)} {
		s := mustTake(t, plant(t, t.TempDir(), "a="+content), Options{})
		if err := s.WriteTar(t.Context(), brokenWriter{}, s.Diff(Manifest{}), nil); !errors.Is(err, errBroken) {
			t.Errorf("error with %d bytes is %v", len(content), err)
		}
	}
}
