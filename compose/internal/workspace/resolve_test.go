//go:build unix

package workspace

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	s := mustTake(t, plant(t, t.TempDir(), "a/b/c=1", "link->a", "a/inner->b"), Options{})
	inside := func(path, symlink string) Resolved { return Resolved{Path: path, Inside: true, Symlink: symlink} }
	tests := []struct {
		path string
		want Resolved
	}{
		{"a/b/c", inside("a/b/c", "")},
		{"./a//b/./c/", inside("a/b/c", "")},
		{"", inside(".", "")},
		{".", inside(".", "")},
		{"a/..", inside(".", "")},
		{"a/../none/x", inside("none/x", "")},
		{"~/x", inside("~/x", "")},
		{"link", inside("link", "link")},
		{"link/b/c", inside("link/b/c", "link")},
		{"a/inner/c", inside("a/inner/c", "a/inner")},
		{"link/../a/inner", inside("a/inner", "link")},
		{"link/..", inside(".", "link")},
		{"..", Resolved{}},
		{"a/../..", Resolved{}},
		{"../tree/a", Resolved{}},
		{"a/../../a", Resolved{}},
		{"link/../../x", Resolved{Symlink: "link"}},
		{"/", Resolved{}},
		{"/a/b", Resolved{}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, s.Resolve(test.path)); diff != "" {
			t.Errorf("%q:\n%s", test.path, diff)
		}
	}
}

func TestLookup(t *testing.T) {
	s := mustTake(t, plant(t, t.TempDir(), "a/b=1", "a-b=1"), Options{})
	for path, want := range map[string]Kind{".": Dir, "a": Dir, "a/b": File, "a-b": File, "a/": 0, "b": 0, "": 0} {
		if e, ok := s.Lookup(path); e.Kind != want || ok != (want != 0) {
			t.Errorf("%q: %+v, %t", path, e, ok)
		}
	}
}
