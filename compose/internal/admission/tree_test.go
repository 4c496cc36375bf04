package admission_test

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
)

// memoryTree is a repository in memory. A path that ends in a slash is a
// directory, a text that begins with "-> " a symbolic link; parents need not be given.
type memoryTree map[string]string

func (t memoryTree) Lookup(p string) (workspace.Entry, bool) {
	if text, ok := t[p]; ok {
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			return workspace.Entry{Path: p, Kind: workspace.Symlink, Link: target}, true
		}
		return workspace.Entry{Path: p, Kind: workspace.File, Mode: 0o644, Size: int64(len(text))}, true
	}
	for name := range t {
		if p == "." || strings.HasPrefix(name, p+"/") {
			return workspace.Entry{Path: p, Kind: workspace.Dir, Mode: 0o755}, true
		}
	}
	return workspace.Entry{}, false
}

func (t memoryTree) ReadFile(p string, limit int64) ([]byte, error) {
	for at := p; at != "."; at = path.Dir(at) {
		if e, ok := t.Lookup(at); ok && e.Kind == workspace.Symlink {
			return nil, fmt.Errorf("%s: %w", p, workspace.ErrSymlink)
		}
	}
	switch e, ok := t.Lookup(p); {
	case !ok:
		return nil, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
	case e.Kind != workspace.File:
		return nil, fmt.Errorf("%s: %w", p, workspace.ErrNotRegular)
	case e.Size > limit:
		return nil, fmt.Errorf("%s: %w", p, workspace.ErrTooLarge)
	}
	return []byte(t[p]), nil
}
