package admission

import (
	"fmt"
	"path"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
)

// FileNames are the compose files looked for, in this order: compose's own
// names, in its order, at the root of the tree, then in e2e.
func FileNames() []string {
	var names []string
	for _, dir := range []string{"", "e2e"} {
		for _, name := range []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"} {
			names = append(names, path.Join(dir, name))
		}
	}
	return names
}

// A NoFileError says which compose files were looked for and are not in the
// tree. It matches [sandboxer.ErrNotFound].
type NoFileError struct {
	Looked []string
}

func (e *NoFileError) Error() string {
	return fmt.Sprintf("no compose file in the repository: looked for %s", strings.Join(e.Looked, ", "))
}

// Is reports whether target is [sandboxer.ErrNotFound].
func (e *NoFileError) Is(target error) bool { return target == sandboxer.ErrNotFound }

// findFile picks the compose file. What it finds may still be a link or a
// directory, which is for reading it to say.
func findFile(tree Tree, asked string) (string, error) {
	candidates := FileNames()
	if asked != "" {
		candidates = []string{asked}
	}
	for _, name := range candidates {
		clean := path.Clean(name)
		if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
			return "", &sandboxer.FieldError{Field: "compose_file", Reason: fmt.Sprintf("%q is not a path inside the repository", name)}
		}
		if at, _ := stat(tree, clean); at != missing {
			return clean, nil
		}
	}
	return "", &NoFileError{Looked: candidates}
}

// overrideFiles are those that compose merges without being told.
func overrideFiles(dir string) []string {
	var names []string
	for _, name := range []string{"compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml"} {
		names = append(names, path.Join(dir, name))
	}
	return names
}

// presence is what a path of the tree leads to.
type presence int

const (
	missing presence = iota
	file
	directory
	symlink // the path passes through or ends at a symbolic link
	below   // the path passes through a file
	absurd  // no file can have the path
)

// The most that Linux takes for a path and for a name in it, in bytes.
const (
	maxPath = 4095
	maxName = 255
)

// isAbsurd reports whether no file can have a path.
func isAbsurd(p string) bool {
	if len(p) > maxPath || strings.Contains(p, "\x00") {
		return true
	}
	for name := range strings.SplitSeq(p, "/") {
		if len(name) > maxName {
			return true
		}
	}
	return false
}

// stat looks a clean relative path up, component by component: a link in the
// middle would be followed by the host.
func stat(tree Tree, p string) (presence, workspace.Entry) {
	if p == "." {
		return directory, workspace.Entry{Path: ".", Kind: workspace.Dir}
	}
	for i, c := range p {
		if c != '/' {
			continue
		}
		switch e, ok := tree.Lookup(p[:i]); {
		case !ok:
			return missing, e
		case e.Kind == workspace.Symlink:
			return symlink, e
		case e.Kind != workspace.Dir:
			return below, e
		}
	}
	e, ok := tree.Lookup(p)
	switch {
	case !ok:
		return missing, e
	case e.Kind == workspace.Symlink:
		return symlink, e
	case e.Kind == workspace.Dir:
		return directory, e
	}
	return file, e
}

// namesGit reports whether a component of p is .git in any case.
func namesGit(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if strings.EqualFold(part, ".git") {
			return true
		}
	}
	return false
}
