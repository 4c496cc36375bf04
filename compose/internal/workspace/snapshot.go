package workspace

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options bound and filter a snapshot. The zero value means the defaults and excludes nothing.
type Options struct {
	// Exclude holds patterns in the syntax of .dockerignore. They follow those of the tree's IgnoreFile, so they have
	// the last word, also with "!".
	Exclude []string

	MaxFiles int   // most entries of any kind; 0 means 200,000
	MaxBytes int64 // most bytes of all regular files; 0 means 8 GiB
	MaxDepth int   // most directories inside one another; 0 means 100

	// Progress is told how many regular files and bytes have been hashed, often and never concurrently.
	Progress func(files int, bytes int64)
}

const (
	defaultMaxFiles = 200_000
	defaultMaxBytes = 8 << 30
	defaultMaxDepth = 100
)

// Snapshot is what a working tree held when it was taken. It keeps the manifest in memory and the tree's directory
// open; contents stay in the tree and are checked against the manifest whenever they are read again. It is immutable
// and safe for concurrent use until Close.
type Snapshot struct {
	Manifest

	// Skipped are the pipes, sockets and devices that do not travel: the first 20, sorted by path.
	Skipped []Problem

	root  *os.Root
	times []time.Time // modification times by index of entry
}

// Take walks dir, following no symbolic link, and hashes every regular file. dir itself may be reached through links.
// Nothing outside dir is read.
//
// What the tree holds and cannot travel is reported together in one [*Error]. A dir that does not exist gives an error
// that is [fs.ErrNotExist]; the error of a done ctx is returned as it is. A file or directory that vanishes before the
// walk looks at it is not part of the tree; one that changes later is an error.
func Take(ctx context.Context, dir string, opt Options) (*Snapshot, error) {
	opt.MaxFiles = cmp.Or(opt.MaxFiles, defaultMaxFiles)
	opt.MaxBytes = cmp.Or(opt.MaxBytes, defaultMaxBytes)
	opt.MaxDepth = cmp.Or(opt.MaxDepth, defaultMaxDepth)
	root, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	s, err := take(ctx, root, dir, opt)
	if err != nil {
		root.Close()
		return nil, err
	}
	return s, nil
}

func openTree(dir string) (*os.Root, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open workspace: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open workspace: %s is not a directory; name the directory that holds the compose file", printable(dir))
	}
	// The dot keeps a pipe that has taken the directory's place from blocking the open.
	root, err := os.OpenRoot(dir + string(filepath.Separator) + ".")
	if err != nil {
		return nil, fmt.Errorf("open workspace: %w", err)
	}
	return root, nil
}

func take(ctx context.Context, root *os.Root, dir string, opt Options) (*Snapshot, error) {
	own, problem := readIgnoreFile(root)
	if problem != nil {
		return nil, newError(dir, []Problem{*problem})
	}
	given, err := parsePatterns(strings.Join(opt.Exclude, "\n"))
	if err != nil {
		return nil, fmt.Errorf("exclude patterns: %w", err)
	}
	excluded, err := newExclusions(own, given)
	if err != nil {
		return nil, err
	}
	w := &walker{opt: opt, excluded: excluded}
	if err := w.collect(ctx, root); err != nil {
		return nil, err
	}
	if len(w.problems) > 0 {
		return nil, newError(dir, w.problems)
	}
	s := &Snapshot{Manifest: w.manifest(), Skipped: listed(w.skipped), root: root, times: make([]time.Time, len(w.found))}
	for _, f := range w.found {
		i, _ := s.find(f.Path)
		s.times[i] = f.info.ModTime()
	}
	return s, nil
}

func newError(dir string, problems []Problem) *Error {
	return &Error{Dir: dir, Problems: listed(problems), Total: len(problems)}
}

// listed sorts problems and keeps as many as are shown.
func listed(problems []Problem) []Problem {
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Reason, b.Reason))
	})
	return problems[:min(len(problems), maxProblems)]
}

// Close lets go of the tree's directory. Contents can no longer be read after it; the manifest can.
func (s *Snapshot) Close() error { return s.root.Close() }

// ReadFile returns the content of a regular file of the snapshot, of at most limit bytes. The path is resolved as
// [Manifest.Resolve] does. Its errors are [ErrOutside], [ErrSymlink], [fs.ErrNotExist] for what the snapshot does not
// hold, [ErrNotRegular], [ErrTooLarge], and [ErrChanged] when the tree no longer holds what was hashed.
func (s *Snapshot) ReadFile(path string, limit int64) ([]byte, error) {
	e, err := s.lookupFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(path), err)
	}
	if e.Size > limit {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d are read", printable(path), ErrTooLarge, e.Size, limit)
	}
	f, err := s.open(e)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content := make([]byte, e.Size)
	_, err = io.ReadFull(f, content)
	if sum := sha256.Sum256(content); err != nil || hex.EncodeToString(sum[:]) != e.SHA256 {
		return nil, changed(e, err)
	}
	return content, nil
}

func (s *Snapshot) lookupFile(path string) (Entry, error) {
	r := s.Resolve(path)
	if !r.Inside {
		return Entry{}, ErrOutside
	}
	if r.Symlink != "" {
		return Entry{}, ErrSymlink
	}
	e, ok := s.Lookup(r.Path)
	if !ok {
		return Entry{}, fs.ErrNotExist
	}
	if e.Kind != File {
		return Entry{}, ErrNotRegular
	}
	return e, nil
}

// open opens the regular file e of the snapshot, provided that its size is the one recorded.
func (s *Snapshot) open(e Entry) (*os.File, error) {
	f, info, err := openRegular(s.root, e.Path)
	if err != nil {
		return nil, changed(e, err)
	}
	if info.Size() != e.Size {
		f.Close()
		return nil, changed(e, nil)
	}
	return f, nil
}

func changed(e Entry, cause error) error {
	if cause == nil {
		return fmt.Errorf("%s %w", printable(e.Path), ErrChanged)
	}
	return fmt.Errorf("%s %w: %s", printable(e.Path), ErrChanged, reasonOf(cause))
}
