package workspace

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
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

// linkCheck resolves the symbolic links of a tree the way a kernel does, each once.
type linkCheck struct {
	tree Manifest
	seen map[string]*linkTarget
}

type linkTarget struct {
	path string
	bad  string // why there is no path
}

const linkLoops = "loops"

func newLinkCheck(m Manifest) *linkCheck {
	return &linkCheck{tree: m, seen: map[string]*linkTarget{}}
}

// reason says what forbids the link e to travel, "" when nothing does.
func (c *linkCheck) reason(e Entry) string {
	if reason := badName(e.Link); reason != "" || e.Link == "" {
		return fmt.Sprintf("a symbolic link to %q, which %s", e.Link, cmp.Or(reason, "is empty"))
	}
	if target := c.follow(e); target.bad != "" {
		return fmt.Sprintf("a symbolic link to %q, which %s", e.Link, target.bad)
	}
	return ""
}

// follow resolves the link e through all links on its way. What is not in the tree counts as a directory, so that a
// link stays harmless when something comes to be there.
func (c *linkCheck) follow(e Entry) *linkTarget {
	if known, ok := c.seen[e.Path]; ok {
		return known
	}
	result := &linkTarget{bad: linkLoops} // what a link that leads back here gets to see
	c.seen[e.Path] = result
	result.path, result.bad = c.walk(path.Dir(e.Path), e.Link)
	return result
}

func (c *linkCheck) walk(from, target string) (at, bad string) {
	if path.IsAbs(target) || filepath.VolumeName(target) != "" {
		return "", "is absolute"
	}
	at = from
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return "", "leaves the tree"
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, part)
		if e, ok := c.tree.Lookup(at); ok && e.Kind == Symlink {
			next := c.follow(e)
			switch next.bad {
			case "":
				at = next.path
			case linkLoops:
				return "", linkLoops
			default:
				return "", "passes through " + printable(at) + ", which does not stay in the tree"
			}
		}
	}
	return at, ""
}
