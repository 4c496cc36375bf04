package admission

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
)

// paths gives the paths of a loaded file a meaning.
type paths interface {
	find(p string) found
}

// found is what a path leads to.
type found struct {
	location
	inside bool // in the tree, or among the pins
	at     presence
	entry  workspace.Entry
}

// treePaths are those of the repository's file: relative to the project
// directory, or below the directory that compose-go read from.
type treePaths struct {
	tree       Tree
	projectDir string
	root       string
}

func (t treePaths) find(p string) found {
	rel, err := filepath.Rel(filepath.Join(t.root, "tree"), filepath.FromSlash(p))
	switch {
	case filepath.IsAbs(p) && t.root != "" && err == nil && !leaves(filepath.ToSlash(rel)):
		p = filepath.ToSlash(rel)
	case isForeign(p):
		return found{}
	default:
		p = path.Join(t.projectDir, filepath.ToSlash(p))
	}
	if leaves(p) {
		return found{}
	}
	at, entry := stat(t.tree, p)
	return found{location{path: p}, true, at, entry}
}

// placedPaths are those of a canonical file: absolute, below the workspace or
// the pins. What is there was seen when the file was made.
type placedPaths struct {
	workdir, pinDir string
}

func (t placedPaths) find(p string) found {
	for root, pin := range map[string]bool{t.workdir: false, t.pinDir: true} {
		if rest, ok := strings.CutPrefix(p, root); ok && path.Clean(p) == p && (rest == "" || rest[0] == '/') {
			return found{location{pin, path.Clean(strings.TrimPrefix(rest, "/"))}, true, file, workspace.Entry{Kind: workspace.File}}
		}
	}
	return found{}
}

// on is the absolute path of a location on a host.
func (l location) on(place Placement) string {
	if l.pin {
		return path.Join(place.PinDir, l.path)
	}
	return path.Join(place.Workdir, l.path)
}

// problem completes "PATH, which …" for what is not there as it should be.
func (f found) problem(p string) string {
	switch {
	case !f.inside:
		return fmt.Sprintf("%s, which is outside the repository", p)
	case f.at == symlink:
		return fmt.Sprintf("%s, which is or passes through the symbolic link %s", p, f.entry.Path)
	case f.at == missing:
		return fmt.Sprintf("%s, which does not exist", p)
	case f.at == below:
		return fmt.Sprintf("%s, which passes through the file %s", p, f.entry.Path)
	case f.at == directory:
		return fmt.Sprintf("%s, which is a directory", p)
	}
	return fmt.Sprintf("%s, which is a file", p)
}
