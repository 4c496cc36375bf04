package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/moby/patternmatcher"
)

// walker collects what of a tree travels, and what cannot.
type walker struct {
	opt      Options
	excluded *exclusions
	found    []found
	bytes    int64
	problems []Problem
	skipped  []Problem
}

// found is an entry, of which mode and digest are filled in by hashing, and the file it was made from.
type found struct {
	Entry
	info fs.FileInfo
}

// place is a name that the walk has come to; the zero value is the tree itself.
type place struct {
	dir      *os.Root // the directory that holds it
	path     string
	depth    int  // components of path
	excluded bool // of interest only as a directory that something is kept in
	matched  patternmatcher.MatchInfo
}

// errFull ends a walk that has reached a limit.
var errFull = errors.New("limit reached")

const hintIgnore = "add it to " + IgnoreFile

// collect finds everything in the tree and, when it all may travel, hashes it. The error is that of the context or of
// a pattern; what is wrong with the tree is in w.problems.
func (w *walker) collect(ctx context.Context, root *os.Root) error {
	err := w.walk(ctx, root, place{})
	if errors.Is(err, errFull) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(w.problems) > 0 {
		return w.probe(ctx, root)
	}
	return w.hash(ctx, root)
}

// walk visits what is in dir, the directory at p. Each directory is entered through an [os.Root] of its own: what is
// put in its place meanwhile can lead nowhere.
func (w *walker) walk(ctx context.Context, dir *os.Root, p place) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := readNames(dir)
	if err != nil {
		w.unreadable(path.Join(".", p.path), err)
		return nil
	}
	for _, name := range names {
		if isGit(name) {
			continue
		}
		child := place{dir: dir, path: path.Join(p.path, name), depth: p.depth + 1}
		child.excluded, child.matched, err = w.excluded.match(child.path, p.matched)
		if err != nil {
			return err
		}
		if child.excluded && !w.excluded.mayKeepBelow(child.path) {
			continue
		}
		if err := w.visit(ctx, child); err != nil {
			return err
		}
	}
	return nil
}

func readNames(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (w *walker) visit(ctx context.Context, p place) error {
	info, err := p.dir.Lstat(path.Base(p.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		w.unreadable(p.path, err)
		return nil
	}
	if info.IsDir() {
		return w.visitDir(ctx, p, info)
	}
	if p.excluded {
		return nil
	}
	w.checkName(p.path)
	switch {
	case info.Mode().IsRegular():
		return w.add(found{Entry{Path: p.path, Kind: File, Size: info.Size()}, info})
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := p.dir.Readlink(path.Base(p.path))
		if err != nil {
			w.unreadable(p.path, err)
			return nil
		}
		e := Entry{Path: p.path, Kind: Symlink, Link: filepath.ToSlash(target)}
		if reason := badLink(e); reason != "" {
			w.problem(p.path, "is "+reason, "point it elsewhere, or "+hintIgnore)
		}
		return w.add(found{e, info})
	default:
		w.skipped = append(w.skipped, Problem{printable(p.path), "is " + special(info.Mode()), hintIgnore})
		return w.bounded()
	}
}

func (w *walker) visitDir(ctx context.Context, p place, info fs.FileInfo) error {
	if p.depth > w.opt.MaxDepth {
		w.problem(p.path, fmt.Sprintf("is more than %d directories deep", w.opt.MaxDepth), hintIgnore)
		return nil
	}
	dir, err := openDir(p.dir, path.Base(p.path), info)
	if err != nil {
		w.unreadable(p.path, err)
		return nil
	}
	defer dir.Close()
	before := len(w.found)
	if err := w.walk(ctx, dir, p); err != nil {
		return err
	}
	if p.excluded && len(w.found) == before {
		return nil
	}
	w.checkName(p.path)
	return w.add(found{Entry{Path: p.path, Kind: Dir, Mode: 0o755}, info})
}

func (w *walker) add(f found) error {
	w.found = append(w.found, f)
	w.bytes += f.Size
	return w.bounded()
}

// bounded ends the walk at a limit. What does not travel takes memory too.
func (w *walker) bounded() error {
	if len(w.found)+len(w.skipped) > w.opt.MaxFiles {
		w.problem(".", fmt.Sprintf("holds more than %d files and directories", w.opt.MaxFiles),
			"name what the services do not need in "+IgnoreFile+", or raise the limit")
		return errFull
	}
	if w.bytes > w.opt.MaxBytes || w.bytes < 0 {
		w.problem(".", fmt.Sprintf("holds more than %d bytes", w.opt.MaxBytes),
			"name what the services do not need in "+IgnoreFile+", or raise the limit")
		return errFull
	}
	return nil
}

func (w *walker) manifest() Manifest {
	entries := make([]Entry, len(w.found))
	for i, f := range w.found {
		entries[i] = f.Entry
	}
	return newManifest(entries)
}

func (w *walker) problem(at, reason, hint string) {
	w.problems = append(w.problems, Problem{Path: printable(at), Reason: reason, Hint: hint})
}

func (w *walker) checkName(at string) {
	if reason := badName(path.Base(at)); reason != "" {
		w.problem(at, "has a name that "+reason, "rename it, or "+hintIgnore)
	}
	if isMarker(at) {
		w.problem(at, "has the name of the file that ends an upload", "rename it, or "+hintIgnore)
	}
}

func (w *walker) unreadable(at string, err error) {
	if errors.Is(err, errReplaced) {
		w.problem(at, errReplaced.Error(), "stop what writes to it and try again, or "+hintIgnore)
		return
	}
	w.problem(at, "cannot be read: "+reasonOf(err), "make it readable, or "+hintIgnore)
}

// special names what is neither a directory, a regular file nor a symbolic link.
func special(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return "neither a file, a directory nor a symbolic link"
	}
}
