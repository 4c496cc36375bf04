package workspace

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrChanged says that a file is no longer what the snapshot recorded. Taking the snapshot again is the remedy.
	ErrChanged = errors.New("changed after the snapshot was taken")
	// ErrOutside says that a path leaves the tree.
	ErrOutside = errors.New("leaves the tree")
	// ErrSymlink says that a component of a path is a symbolic link.
	ErrSymlink = errors.New("passes through a symbolic link")
	// ErrNotRegular says that a path names something else than a regular file.
	ErrNotRegular = errors.New("is not a regular file")
	// ErrTooLarge says that a file is larger than its reader allows.
	ErrTooLarge = errors.New("is too large")
)

// maxProblems bounds the problems that are listed.
const maxProblems = 20

// Error says why a tree cannot be taken. It lists everything that one walk found, so that one edit can mend it all.
type Error struct {
	Dir      string    // the tree, as given to Take
	Problems []Problem // sorted by path, the first 20
	Total    int       // how many there are, listed or not
}

// Problem is one thing in a tree that does not travel.
type Problem struct {
	Path   string // relative to the tree, "." for the tree itself; a Go string literal when not printable as it is
	Reason string // what is wrong with it
	Hint   string // what to do about it
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "workspace %s cannot be copied", printable(e.Dir))
	separator := ": "
	if e.Total > 1 {
		fmt.Fprintf(&b, ", %d problems", e.Total)
		separator = "\n  "
	}
	for _, p := range e.Problems {
		b.WriteString(separator)
		b.WriteString(p.String())
	}
	if more := e.Total - len(e.Problems); more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	return b.String()
}

// String is the problem on one line.
func (p Problem) String() string {
	return p.Path + ": " + p.Reason + "; " + p.Hint
}

// printable is path itself, or a Go string literal when a terminal or a log could be misled by it.
func printable(path string) string {
	if utf8.ValidString(path) && strings.IndexFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return path
	}
	return strconv.Quote(path)
}
