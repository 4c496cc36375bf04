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
	read(p string) bool // whether the path is one that was read from on this machine
}

// found is what a path leads to.
type found struct {
	location
	inside bool // in the tree, or among the pins or secrets
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
	if isAbsurd(p) {
		return found{at: absurd}
	}
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

func (t treePaths) read(p string) bool {
	return t.root != "" && strings.HasPrefix(filepath.Clean(p)+string(filepath.Separator), filepath.Dir(t.root)+string(filepath.Separator))
}

// placedPaths are those of a canonical file: absolute, below the workspace or
// the pins or the secrets. What is there was seen when the file was made.
type placedPaths struct {
	workdir, pinDir, secretDir string
}

func (t placedPaths) find(p string) found {
	for _, area := range []struct {
		root string
		location
	}{{t.workdir, location{}}, {t.pinDir, location{pin: true}}, {t.secretDir, location{secret: true}}} {
		rest, ok := strings.CutPrefix(p, area.root)
		if ok && area.root != "" && path.Clean(p) == p && (rest == "" || rest[0] == '/') {
			area.path = path.Clean(strings.TrimPrefix(rest, "/"))
			return found{area.location, true, file, workspace.Entry{Kind: workspace.File}}
		}
	}
	return found{}
}

func (t placedPaths) read(string) bool { return false }

// on is the absolute path of a location on a host.
func (l location) on(place Placement) string {
	switch {
	case l.pin:
		return path.Join(place.PinDir, l.path)
	case l.secret:
		return path.Join(place.SecretDir, l.path)
	}
	return path.Join(place.Workdir, l.path)
}

// problem completes "PATH, which …" for what is not there as it should be.
func (f found) problem(p string) string {
	switch {
	case f.at == absurd:
		return fmt.Sprintf("%s, which no file can be called", p)
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

// isRemote reports whether a path is a URL or a short form of one, as the
// builder and compose's own loaders take them.
func isRemote(p string) bool {
	for _, prefix := range []string{"github.com/", "git@", "oci:", "docker-image:", "target:"} {
		if strings.HasPrefix(p, prefix) {
			return true
		}
	}
	return strings.Contains(p, "://")
}

// isForeign reports whether a path starts somewhere else than in the tree, on any system.
func isForeign(p string) bool {
	drive := len(p) > 1 && p[1] == ':' && (p[0]|0x20) >= 'a' && (p[0]|0x20) <= 'z'
	return path.IsAbs(p) || strings.HasPrefix(p, "~") || strings.HasPrefix(p, `\`) || drive || filepath.IsAbs(p)
}

// leaves reports whether a clean relative path leads out of the tree.
func leaves(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }
