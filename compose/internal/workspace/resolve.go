package workspace

import (
	"path"
	"strings"
)

// Resolved is what a path means in a tree.
type Resolved struct {
	Path    string // clean and relative to the tree, "." for the tree itself; empty unless Inside
	Inside  bool   // whether the path stays in the tree at every step
	Symlink string // the first symbolic link of the tree that the path passes through or ends at; empty if there is none
}

// Resolve cleans a slash-separated path that is relative to the tree, by its text alone, and reports whether it stays
// in the tree. It follows no symbolic link but reports the first that the path as given touches, also one that a later
// ".." takes away from the clean path: a kernel would have followed it. An absolute path is not inside. Whether
// anything exists at the path is for [Manifest.Lookup] to say.
func (m Manifest) Resolve(p string) Resolved {
	if path.IsAbs(p) {
		return Resolved{}
	}
	var r Resolved
	at := "."
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return Resolved{Symlink: r.Symlink}
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, part)
		if e, ok := m.Lookup(at); ok && e.Kind == Symlink && r.Symlink == "" {
			r.Symlink = at
		}
	}
	r.Path, r.Inside = at, true
	return r
}
