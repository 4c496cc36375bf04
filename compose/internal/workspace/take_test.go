//go:build unix

package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// plant lays out a tree in dir, one spec an entry: "d/" a directory, "f=text" a file, "f*=text" an executable file,
// "l->target" a symbolic link. Directories above an entry are made as needed.
func plant(t testing.TB, dir string, specs ...string) string {
	t.Helper()
	for _, spec := range specs {
		if err := plantOne(dir, spec); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func plantOne(dir, spec string) error {
	path, text, isFile := strings.Cut(spec, "=")
	if linkPath, target, isLink := strings.Cut(spec, "->"); isLink && len(linkPath) < len(path) {
		path, text, isFile = linkPath, target, false
	} else if !isFile {
		return os.MkdirAll(filepath.Join(dir, spec), 0o755)
	}
	mode := fs.FileMode(0o644)
	if name, executable := strings.CutSuffix(path, "*"); executable {
		path, mode = name, 0o755
	}
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if !isFile {
		return os.Symlink(text, path)
	}
	return errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode))
}

// mustTake takes a snapshot that is closed when the test ends.
func mustTake(t testing.TB, dir string, opt Options) *Snapshot {
	t.Helper()
	s, err := Take(t.Context(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestWhatTravels(t *testing.T) {
	tests := []struct {
		name  string
		tree  []string
		given []string
		want  []string
	}{
		{"an empty tree", nil, nil, []string{}},
		{"tracked, ignored, untracked and hidden files and empty directories",
			[]string{".gitignore=dist\n.env\n", ".env=A=1", ".dockerignore=*\n", "dist/app*=bin", "empty/", ".github/ci.yml=on"}, nil,
			[]string{".dockerignore", ".env", ".github/", ".github/ci.yml", ".gitignore", "dist/", "dist/app*", "empty/"}},
		{"no .git, directory or file, at any depth, in any case",
			[]string{".git/config=x", "sub/.git=gitdir: ../.git", "sub/a=1", "deep/er/.GIT/hooks/post*=x", ".gitmodules=m", "x.git/HEAD=h"}, nil,
			[]string{".gitmodules", "deep/", "deep/er/", "sub/", "sub/a", "x.git/", "x.git/HEAD"}},
		{"no pattern brings .git back",
			[]string{".git/config=x", "a/.git/config=x", "a/b=1", ".sandboxerignore=a\n!**/.git\n!.git\n!**/.git/config\n"}, []string{"!.git/**"},
			[]string{".sandboxerignore"}},
		{"less what the ignore file names",
			[]string{".sandboxerignore=# secrets\nnode_modules\n**/*.log\n/top\n", "node_modules/a/b=1", "sub/node_modules/c=1", "x.log=1", "sub/y.log=1", "top=1", "sub/top=1"}, nil,
			[]string{".sandboxerignore", "sub/", "sub/node_modules/", "sub/node_modules/c", "sub/top"}},
		{"the caller's patterns follow the tree's",
			[]string{".sandboxerignore=*.txt\n", "a.txt=1", "b.txt=1", "c.md=1"}, []string{"!b.txt", "c.*", ".sandboxerignore"},
			[]string{"b.txt"}},
		{"a file kept inside an excluded directory brings the directories above it",
			[]string{"vendor/a/b/keep=1", "vendor/a/b/drop=1", "vendor/other/drop=1"}, []string{"vendor", "!vendor/a/b/keep"},
			[]string{"vendor/", "vendor/a/", "vendor/a/b/", "vendor/a/b/keep"}},
		{"a file kept by a wildcard inside an excluded directory",
			[]string{"vendor/a/keep.go=1", "vendor/a/drop=1", "vendor/b/drop=1"}, []string{"vendor", "!**/*.go"},
			[]string{"vendor/", "vendor/a/", "vendor/a/keep.go"}},
		{"what is excluded from a directory that is kept",
			[]string{"a/b/c=1", "a/b/keep/no=1", "a/d=1"}, []string{"a", "!a", "a/b"},
			[]string{"a/", "a/d"}},
		{"everything excluded", []string{"a=1", "b/c=1"}, []string{"*"}, []string{}},
		{"a tree's own marker, when excluded", []string{".sandboxer-manifest=1", "sub/.sandboxer-manifest=1"}, []string{".sandboxer-manifest"},
			[]string{"sub/", "sub/.sandboxer-manifest"}},
		{"names that a shell would trip over",
			[]string{"a b=1", "-rf=1", "$(id)=1", "'q'\"=1", "ünï/çødé=1", "~=1", "back\\slash=1", "..dots=1", "a;b&c|d=1", "*.star=1"}, nil,
			[]string{"$(id)", "'q'\"", "*.star", "-rf", "..dots", "a b", "a;b&c|d", "back\\slash", "~", "ünï/", "ünï/çødé"}},
		{"relative links that stay inside",
			[]string{"a/file=1", "to-file->a/file", "to-dir->a", "a/up->../a/./file", "self->.", "a/root->..", "by-link->to-dir/file", "slash->a/"}, nil,
			[]string{"a/", "a/file", "a/root->..", "a/up->../a/./file", "by-link->to-dir/file", "self->.", "slash->a/", "to-dir->a", "to-file->a/file"}},
		{"links to nothing and to what is excluded",
			[]string{"gone->nowhere/at/all", ".env->secrets/.env", "secrets/.env=1", "hook->.git/hooks/x", ".git/hooks/x=1", "through->secrets/../b"}, []string{"secrets"},
			[]string{".env->secrets/.env", "gone->nowhere/at/all", "hook->.git/hooks/x", "through->secrets/../b"}},
		{"a link whose text leaves the tree but whose way does not",
			[]string{"sub/deep/", "d->sub/deep", "l->d/../../x"}, nil,
			[]string{"d->sub/deep", "l->d/../../x", "sub/", "sub/deep/"}},
		{"links that lead out, or nowhere", []string{"etc->/etc", "up->../..", "a/b->../../x", "loop->loop", "l->etc/passwd"}, nil,
			[]string{"a/", "a/b->../../x", "etc->/etc", "l->etc/passwd", "loop->loop", "up->../.."}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := mustTake(t, plant(t, t.TempDir(), test.tree...), Options{Exclude: test.given})
			if diff := cmp.Diff(test.want, listing(s.Manifest)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsRefused(t *testing.T) {
	limit := "name what the services do not need in .sandboxerignore, or raise the limit"
	tests := []struct {
		name string
		tree []string
		opt  Options
		want []Problem
	}{
		{"a link target with a control character", []string{"l->a\x1b[2Jb"}, Options{},
			[]Problem{{"l", `is a symbolic link to "a\x1b[2Jb", which holds a control character`, "point it elsewhere, or add it to .sandboxerignore"}}},
		{"the marker's name", []string{".sandboxer-manifest=1"}, Options{},
			[]Problem{{".sandboxer-manifest", "has the name of the file that ends an upload", "rename it, or add it to .sandboxerignore"}}},
		{"the marker's name in another case", []string{".Sandboxer-Manifest/a=1"}, Options{},
			[]Problem{{".Sandboxer-Manifest", "has the name of the file that ends an upload", "rename it, or add it to .sandboxerignore"}}},
		{"too many entries", []string{"a=1", "b=1", "c/"}, Options{MaxFiles: 2},
			[]Problem{{".", "holds more than 2 files and directories", limit}}},
		{"too many bytes", []string{"a=123", "b=123"}, Options{MaxBytes: 5},
			[]Problem{{".", "holds more than 5 bytes", limit}}},
		{"too deep", []string{"a/b/c/d=1", "x/y/z=1"}, Options{MaxDepth: 2},
			[]Problem{{"a/b/c", "is more than 2 directories deep", "add it to .sandboxerignore"}}},
		{"a malformed ignore file", []string{".sandboxerignore=a\n[\n"}, Options{},
			[]Problem{{".sandboxerignore", `"[" is not a pattern`, "write it in the syntax of .dockerignore"}}},
		{"a range that runs backwards", []string{".sandboxerignore=![b-a]\n"}, Options{},
			[]Problem{{".sandboxerignore", `"![b-a]" is not a pattern`, "write it in the syntax of .dockerignore"}}},
		{"a bare exclamation mark", []string{".sandboxerignore=!\n"}, Options{},
			[]Problem{{".sandboxerignore", `"!" is not a pattern`, "write it in the syntax of .dockerignore"}}},
		{"a huge ignore file", []string{".sandboxerignore=" + strings.Repeat("a\n", 1<<19+1)}, Options{},
			[]Problem{{".sandboxerignore", "is larger than 1 MiB", "use fewer patterns"}}},
		{"an ignore file that is a link", []string{"real=a\n", ".sandboxerignore->real"}, Options{},
			[]Problem{{".sandboxerignore", "passes through a symbolic link", "make it a readable regular file"}}},
		{"an ignore file that is a directory", []string{".sandboxerignore/"}, Options{},
			[]Problem{{".sandboxerignore", "is not a regular file", "make it a readable regular file"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := plant(t, t.TempDir(), test.tree...)
			_, err := Take(t.Context(), dir, test.opt)
			got, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error is %v, want an *Error", err)
			}
			if diff := cmp.Diff(&Error{Dir: dir, Problems: test.want, Total: len(test.want)}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLimitsAllowWhatTheyName(t *testing.T) {
	dir := plant(t, t.TempDir(), "a/b/c=123")
	s := mustTake(t, dir, Options{MaxFiles: 3, MaxBytes: 3, MaxDepth: 2})
	if s.Files() != 1 || s.Bytes() != 3 {
		t.Errorf("%d files, %d bytes", s.Files(), s.Bytes())
	}
}

func TestAllProblemsAreReportedTogether(t *testing.T) {
	dir := plant(t, t.TempDir(), "fine=1")
	for i := range 25 {
		plant(t, dir, fmt.Sprintf("link%02d->/etc\t", i))
	}
	_, err := Take(t.Context(), dir, Options{})
	got, ok := errors.AsType[*Error](err)
	if !ok || len(got.Problems) != 20 || got.Total != 25 || got.Problems[19].Path != "link19" {
		t.Fatalf("got %#v", err)
	}
	text := err.Error()
	for _, want := range []string{"25 problems", "\n  link00: is a symbolic link to \"/etc\\t\"", "add it to .sandboxerignore", "\n  and 5 more"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing from\n%s", want, text)
		}
	}
}

func TestMissingDirectoryIsNotExist(t *testing.T) {
	_, err := Take(t.Context(), filepath.Join(t.TempDir(), "none"), Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestFileAsTreeIsNamed(t *testing.T) {
	dir := plant(t, t.TempDir(), "compose.yaml=x")
	_, err := Take(t.Context(), filepath.Join(dir, "compose.yaml"), Options{})
	if err == nil || !strings.Contains(err.Error(), "compose.yaml is not a directory; name the directory") {
		t.Errorf("error is %v", err)
	}
}

func TestMalformedPatternOfTheCallerIsNamed(t *testing.T) {
	_, err := Take(t.Context(), t.TempDir(), Options{Exclude: []string{"ok", "![a"}})
	if err == nil || !strings.Contains(err.Error(), `"![a" is not a pattern`) {
		t.Errorf("error is %v", err)
	}
}

func TestTreeMayBeReachedThroughALink(t *testing.T) {
	dir := plant(t, t.TempDir(), "tree/a=1", "link->tree")
	s := mustTake(t, filepath.Join(dir, "link"), Options{})
	if diff := cmp.Diff([]string{"a"}, listing(s.Manifest)); diff != "" {
		t.Error(diff)
	}
}

func TestTakeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := plant(t, t.TempDir(), "a=1", "b=2")
	_, err := Take(ctx, dir, Options{Progress: func(int, int64) { cancel() }})
	if err != context.Canceled {
		t.Errorf("error while hashing is %v", err)
	}
	if _, err := Take(ctx, dir, Options{}); err != context.Canceled {
		t.Errorf("error before the walk is %v", err)
	}
}

func TestTakeReportsProgress(t *testing.T) {
	dir := plant(t, t.TempDir(), "a=12", "b/c=345", "big="+strings.Repeat("x", 3*bufferSize))
	var files int
	var bytes int64
	s := mustTake(t, dir, Options{Progress: func(f int, b int64) {
		if f < files || b < bytes {
			t.Errorf("progress went from %d, %d back to %d, %d", files, bytes, f, b)
		}
		files, bytes = f, b
	}})
	if files != 3 || bytes != 3*bufferSize+5 || s.Files() != files || s.Bytes() != bytes {
		t.Errorf("progress ended at %d files and %d bytes, the snapshot has %d and %d", files, bytes, s.Files(), s.Bytes())
	}
}

// goldenTree has every kind of entry, and every kind of name that is encoded.
func goldenTree(t testing.TB, dir string) string {
	plant(t, dir, "compose.yaml=services: {}\n", ".env=A=1\n", "bin/run me*=#!/bin/sh\n", "data/empty/", "latest->bin/run me", "ünï=", "gone->a\\b")
	for _, name := range []string{"compose.yaml", "bin/run me"} {
		if err := os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Unix(1_700_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDigestIsTheSameEverywhere(t *testing.T) {
	s := mustTake(t, goldenTree(t, t.TempDir()), Options{})
	if diff := cmp.Diff(goldenManifest, string(s.Encode())); diff != "" {
		t.Error(diff)
	}
	if s.Digest() != goldenDigest {
		t.Errorf("digest is %s, want %s", s.Digest(), goldenDigest)
	}
}

func TestDigestIgnoresTimes(t *testing.T) {
	dir := goldenTree(t, t.TempDir())
	before := mustTake(t, dir, Options{}).Digest()
	if err := os.Chtimes(filepath.Join(dir, ".env"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if after := mustTake(t, dir, Options{}).Digest(); after != before {
		t.Errorf("digest went from %s to %s", before, after)
	}
}

func TestReadFile(t *testing.T) {
	dir := plant(t, t.TempDir(), "compose.yaml=text", "sub/a=1", "link->sub", "file-link->compose.yaml", "secret=1")
	s := mustTake(t, dir, Options{Exclude: []string{"secret"}})
	content, err := s.ReadFile("./sub/../compose.yaml", 4)
	if err != nil || string(content) != "text" {
		t.Errorf("got %q, %v", content, err)
	}
	tests := []struct {
		path string
		want error
	}{
		{"compose.yaml", ErrTooLarge},
		{"../compose.yaml", ErrOutside},
		{"sub/../../x", ErrOutside},
		{"/etc/passwd", ErrOutside},
		{"link/a", ErrSymlink},
		{"link/../compose.yaml", ErrSymlink},
		{"file-link", ErrSymlink},
		{"sub", ErrNotRegular},
		{".", ErrNotRegular},
		{"", ErrNotRegular},
		{"none", fs.ErrNotExist},
		{"secret", fs.ErrNotExist},
		{"compose.yaml/x", fs.ErrNotExist},
	}
	for _, test := range tests {
		if _, err := s.ReadFile(test.path, 3); !errors.Is(err, test.want) {
			t.Errorf("%q: error is %v, want %v", test.path, err, test.want)
		}
	}
}

func TestReadFileRefusesWhatHasChanged(t *testing.T) {
	tests := []struct{ name, now string }{
		{"other bytes of the same size", "f=abcd"},
		{"longer", "f=12345"},
		{"shorter", "f=123"},
		{"empty", "f="},
		{"a directory", "f/"},
		{"a link to the same bytes", "f->same"},
		{"gone", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := plant(t, t.TempDir(), "f=1234", "same=1234")
			s := mustTake(t, dir, Options{})
			if err := os.Remove(filepath.Join(dir, "f")); err != nil {
				t.Fatal(err)
			}
			if test.now != "" {
				plant(t, dir, test.now)
			}
			if content, err := s.ReadFile("f", 10); !errors.Is(err, ErrChanged) || !strings.HasPrefix(err.Error(), "f ") {
				t.Errorf("got %q, %v", content, err)
			}
		})
	}
}

func TestReadFileAcceptsTheSameBytesInANewFile(t *testing.T) {
	dir := plant(t, t.TempDir(), "f=1234")
	s := mustTake(t, dir, Options{})
	plant(t, dir, "g=1234")
	if err := os.Rename(filepath.Join(dir, "g"), filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if content, err := s.ReadFile("f", 10); err != nil || string(content) != "1234" {
		t.Errorf("got %q, %v", content, err)
	}
}
