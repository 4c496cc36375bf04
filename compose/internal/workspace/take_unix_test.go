//go:build unix

package workspace

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// within fails the test at once when do does not return, as an open of a pipe without a writer would not.
func within[T any](t *testing.T, limit time.Duration, do func() T) T {
	t.Helper()
	result := make(chan T, 1)
	go func() { result <- do() }()
	select {
	case r := <-result:
		return r
	case <-time.After(limit):
		t.Fatalf("still blocked after %v", limit)
		panic("unreachable")
	}
}

func mkfifo(t testing.TB, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

// problems takes dir and returns what is wrong with it.
func problems(t *testing.T, dir string, opt Options) []Problem {
	t.Helper()
	err := within(t, 20*time.Second, func() error {
		s, err := Take(t.Context(), dir, opt)
		if err == nil {
			s.Close()
		}
		return err
	})
	refused, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error is %v, want an *Error", err)
	}
	return refused.Problems
}

func TestSpecialFilesAreSkippedUnopened(t *testing.T) {
	dir := plant(t, t.TempDir(), "fine=1", "sub/")
	mkfifo(t, filepath.Join(dir, "sub/pipe"))
	t.Chdir(dir) // the path of a socket is short
	listener, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	want := []Problem{
		{"socket", "is a socket", hintIgnore},
		{"sub/pipe", "is a named pipe", hintIgnore},
	}
	if err := syscall.Mknod("null", syscall.S_IFCHR|0o666, 1<<8|3); err == nil {
		want = append([]Problem{{"null", "is a device", hintIgnore}}, want...)
	} else {
		t.Logf("no device among the files: %v", err)
	}
	s := mustTake(t, dir, Options{})
	if diff := cmp.Diff(want, s.Skipped); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"fine", "sub/"}, listing(s.Manifest)); diff != "" {
		t.Error(diff)
	}
	if refused := problems(t, dir, Options{MaxFiles: 3}); len(refused) != 1 || !strings.Contains(refused[0].Reason, "more than 3 files") {
		t.Errorf("what is skipped counts for nothing: %v", refused)
	}
	if s := mustTake(t, dir, Options{Exclude: []string{"socket", "sub/pipe", "null"}}); len(s.Skipped) > 0 {
		t.Errorf("what is excluded is named: %v", s.Skipped)
	}
}

func TestNamesThatMisleadAreRefusedQuoted(t *testing.T) {
	names := []string{"line\nbreak", "tab\t", "esc\x1b[2J", "del\x7f", "c1\u0085"}
	if runtime.GOOS == "linux" { // others refuse to create it
		names = append(names, "broken\xff")
	}
	dir := t.TempDir()
	for _, name := range names {
		plant(t, dir, name+"/in\nside=1")
	}
	got := problems(t, dir, Options{})
	fix := "rename it, or " + hintIgnore
	control := "has a name that holds a control character"
	want := []Problem{
		{`"broken\xff"`, "has a name that is not valid UTF-8", fix},
		{`"broken\xff/in\nside"`, control, fix},
		{`"c1\u0085"`, control, fix},
		{`"c1\u0085/in\nside"`, control, fix},
		{`"del\x7f"`, control, fix},
		{`"del\x7f/in\nside"`, control, fix},
		{`"esc\x1b[2J"`, control, fix},
		{`"esc\x1b[2J/in\nside"`, control, fix},
		{`"line\nbreak"`, control, fix},
		{`"line\nbreak/in\nside"`, control, fix},
		{`"tab\t"`, control, fix},
		{`"tab\t/in\nside"`, control, fix},
	}
	if runtime.GOOS != "linux" {
		want = want[2:]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := mustTake(t, dir, Options{Exclude: []string{"*", "!*/kept"}}); len(listing(s.Manifest)) > 0 {
		t.Errorf("took %q", listing(s.Manifest))
	}
}

func TestModesAreReducedToTheExecutableBit(t *testing.T) {
	dir := t.TempDir()
	want := map[string]uint32{}
	for name, mode := range map[string]uint32{"0400": 0o644, "0600": 0o644, "0666": 0o644, "0100": 0, "0755": 0o755, "0710": 0o755, "0601": 0o755, "4755": 0o755, "2644": 0o644, "1666": 0o644} {
		if mode == 0 {
			continue
		}
		want[name] = mode
		plant(t, dir, name+"=1")
		var bits uint32
		for _, digit := range name {
			bits = bits<<3 | uint32(digit-'0')
		}
		if err := syscall.Chmod(filepath.Join(dir, name), bits); err != nil {
			t.Fatal(err)
		}
	}
	plant(t, dir, "d/")
	if err := syscall.Chmod(filepath.Join(dir, "d"), 0o7700); err != nil {
		t.Fatal(err)
	}
	want["d"] = 0o755
	got := map[string]uint32{}
	for e := range mustTake(t, dir, Options{}).Entries() {
		got[e.Path] = e.Mode
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHardLinksAreFiles(t *testing.T) {
	dir := plant(t, t.TempDir(), "a=12")
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	s := mustTake(t, dir, Options{})
	a, _ := s.Lookup("a")
	b, _ := s.Lookup("b")
	if b.Path = "a"; a != b || s.Bytes() != 4 {
		t.Errorf("%+v and %+v, %d bytes", a, b, s.Bytes())
	}
}

// A superuser can read everything, so as one the test runs itself again as nobody.
func TestUnreadableIsNamed(t *testing.T) {
	const nobody = 65534
	if dir, again := os.LookupEnv("WORKSPACE_TEST_UNREADABLE"); again || os.Geteuid() != 0 {
		if !again {
			dir = unreadableTree(t)
		}
		fix := "make it readable, or " + hintIgnore
		want := []Problem{
			{"closed", "cannot be read: permission denied", fix},
			{"no-search", "cannot be read: permission denied", fix},
			{"secret", "cannot be read: permission denied", fix},
		}
		if diff := cmp.Diff(want, problems(t, dir, Options{})); diff != "" {
			t.Error(diff)
		}
		want = want[2:]
		if diff := cmp.Diff(want, problems(t, dir, Options{Exclude: []string{"closed", "no-search"}})); diff != "" {
			t.Errorf("with the directories excluded: %s", diff)
		}
		mustTake(t, dir, Options{Exclude: []string{"closed", "no-search", "secret"}})
		return
	}
	dir := unreadableTree(t)
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error { return os.Lchown(path, nobody, nobody) }); err != nil {
		t.Fatal(err)
	}
	program := copyOfThisTest(t)
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestUnreadableIsNamed$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "WORKSPACE_TEST_UNREADABLE="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	output, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte("--- PASS: TestUnreadableIsNamed")) {
		t.Errorf("as nobody: %v\n%s", err, output)
	}
}

// unreadableTree is in a directory that every user can enter.
func unreadableTree(t *testing.T) string {
	dir := openTempDir(t)
	plant(t, dir, "fine=1", "secret=1", "closed/x=1", "no-search/x=1")
	for path, mode := range map[string]fs.FileMode{"secret": 0, "closed": 0, "no-search": 0o600} {
		if err := os.Chmod(filepath.Join(dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func openTempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "workspace")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error { os.Chmod(path, 0o700); return nil })
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyOfThisTest(t *testing.T) string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(openTempDir(t), "program")
	if err := errors.Join(os.WriteFile(program, content, 0o755), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	return program
}

func TestReplacedByAPipeDoesNotBlock(t *testing.T) {
	root := func(t *testing.T, dir string) *os.Root {
		r, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	replace := func(t *testing.T, path string) fs.FileInfo {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		mkfifo(t, path)
		return info
	}
	t.Run("a file of the walk", func(t *testing.T) {
		dir := plant(t, t.TempDir(), "f=") // as long as a pipe
		info := replace(t, filepath.Join(dir, "f"))
		if err := within(t, 5*time.Second, func() error { _, err := openSame(root(t, dir), "f", info); return err }); err != errReplaced {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("a directory of the walk", func(t *testing.T) {
		dir := plant(t, t.TempDir(), "d/f=1")
		info := replace(t, filepath.Join(dir, "d"))
		if err := within(t, 5*time.Second, func() error { _, err := openDir(root(t, dir), "d", info); return err }); err == nil {
			t.Error("no error")
		}
	})
	t.Run("the tree", func(t *testing.T) {
		dir := t.TempDir()
		mkfifo(t, filepath.Join(dir, "p"))
		if err := within(t, 5*time.Second, func() error { _, err := os.OpenRoot(filepath.Join(dir, "p") + "/."); return err }); err == nil {
			t.Error("no error")
		}
	})
	t.Run("a file of the snapshot", func(t *testing.T) {
		dir := plant(t, t.TempDir(), "f=1")
		s := mustTake(t, dir, Options{})
		replace(t, filepath.Join(dir, "f"))
		err := within(t, 5*time.Second, func() error { return s.WriteTar(t.Context(), io.Discard, s.Diff(Manifest{}), nil) })
		if !errors.Is(err, ErrChanged) {
			t.Errorf("WriteTar: %v", err)
		}
		if err := within(t, 5*time.Second, func() error { _, err := s.ReadFile("f", 9); return err }); !errors.Is(err, ErrChanged) {
			t.Errorf("ReadFile: %v", err)
		}
	})
}

func TestAReplacedFileIsNotTheOneFound(t *testing.T) {
	for name, now := range map[string]string{"another file of the same size": "f=2", "a link to a file of the same size": "f->other"} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, t.TempDir(), "f=1", "other=2")
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			info, err := root.Lstat("f")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "old")); err != nil { // keeps the inode taken
				t.Fatal(err)
			}
			plant(t, dir, now)
			if _, err := openSame(root, "f", info); err != errReplaced {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestAFileThatGrowsIsNotTheOneFound(t *testing.T) {
	dir := plant(t, t.TempDir(), "f=1")
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := root.Lstat("f")
	if err != nil {
		t.Fatal(err)
	}
	plant(t, dir, "f=12")
	if _, err := openSame(root, "f", info); err != errReplaced {
		t.Errorf("error is %v", err)
	}
}

func TestWhatVanishesBeforeTheWalkLooksIsNotInTheTree(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	w := &walker{}
	if err := w.visit(t.Context(), place{dir: root, path: "gone", depth: 1}); err != nil || len(w.found)+len(w.problems) > 0 {
		t.Errorf("%v, %v, %v", err, w.found, w.problems)
	}
}

func TestADirectoryReplacedByALinkIsNotEntered(t *testing.T) {
	dir := plant(t, t.TempDir(), "d/f=1", "other/g=1")
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := root.Lstat("d")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"other", t.TempDir()} {
		if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
			t.Fatal(err)
		}
		plant(t, dir, "d->"+target)
		if _, err := openDir(root, "d", info); err == nil {
			t.Errorf("entered %s", target)
		}
	}
}

// Whatever a tree turns into while it is read, nothing blocks, and what comes out is what some state of the tree held.
func TestATreeThatKeepsChanging(t *testing.T) {
	const secret = "SECRET outside the tree"
	outside := plant(t, t.TempDir(), "secret="+secret, "f="+secret)
	dir := plant(t, t.TempDir(), "a=1", "d/f=1", "z/z=1")
	stop := make(chan struct{})
	var changing sync.WaitGroup
	defer changing.Wait()
	defer close(stop)
	for path, shapes := range map[string][]string{
		"x": {"x=1", "x/f=1", "x->" + outside + "/secret", "x->" + outside, "x->a", "fifo"},
		"d": {"d/f=1", "d->" + outside, "d->z", "d=1", "fifo", "d/.git/config=" + secret},
	} {
		changing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				os.RemoveAll(filepath.Join(dir, path))
				if shape := shapes[i%len(shapes)]; shape == "fifo" {
					syscall.Mkfifo(filepath.Join(dir, path), 0o644)
				} else {
					plantOne(dir, shape)
				}
			}
		})
	}
	sent, refused := 0, 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		var out bytes.Buffer
		err := within(t, 20*time.Second, func() error {
			s, err := Take(t.Context(), dir, Options{})
			if err != nil {
				return err
			}
			defer s.Close()
			s.ReadFile("x", 100)
			return s.WriteTar(t.Context(), &out, s.Diff(Manifest{}), nil)
		})
		if _, isError := errors.AsType[*Error](err); err != nil && !isError && !errors.Is(err, ErrChanged) {
			t.Fatalf("error is %v", err)
		}
		if content := unzipAll(out.Bytes()); bytes.Contains(content, []byte(secret)) {
			t.Fatal("sent what is outside the tree or in .git")
		}
		if err == nil {
			sent++
		} else {
			refused++
		}
	}
	if sent == 0 || refused == 0 {
		t.Errorf("%d sent, %d refused: the race was never lost or never won", sent, refused)
	}
	t.Logf("%d sent, %d refused", sent, refused)
}

func TestAFileCutShortWhileItIsRead(t *testing.T) {
	dir := plant(t, t.TempDir(), "log="+strings.Repeat("x", 4*bufferSize), "other=1")
	path := filepath.Join(dir, "log")
	cut := func(int, int64) { os.Truncate(path, 10) }
	_, err := Take(t.Context(), dir, Options{Progress: cut})
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Total != 1 || refused.Problems[0].Path != "log" || refused.Problems[0].Reason != "changed while the tree was read" {
		t.Errorf("error is %v", err)
	}
}
