package workspace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// IgnoreFile at the root of a tree names what does not travel, in the syntax of .dockerignore. It travels itself.
const IgnoreFile = ".sandboxerignore"

const maxIgnoreFile = 1 << 20

// exclusions decides which paths of a tree do not travel. Not safe for concurrent use.
type exclusions struct {
	matcher *patternmatcher.PatternMatcher
	keep    [][]string // the "!" patterns, split at slashes
}

// newExclusions takes the lines of the tree's own file first, so that those of the caller have the last word.
func newExclusions(tree, caller []string) (*exclusions, error) {
	patterns := append(tree, caller...)
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("exclude patterns: %w", err)
	}
	x := &exclusions{matcher: matcher}
	for _, p := range matcher.Patterns() {
		if p.Exclusion() {
			x.keep = append(x.keep, strings.Split(filepath.ToSlash(p.String()), "/"))
		}
	}
	return x, nil
}

// match reports whether path is excluded, given what matched its directory.
func (x *exclusions) match(path string, dir patternmatcher.MatchInfo) (bool, patternmatcher.MatchInfo, error) {
	excluded, info, err := x.matcher.MatchesUsingParentResults(path, dir)
	if err != nil {
		return false, info, fmt.Errorf("exclude patterns at %s: %w", printable(path), err)
	}
	return excluded, info, nil
}

// mayKeepBelow reports whether a "!" pattern could bring back something in the excluded directory dir. It errs towards
// yes, which costs only time.
func (x *exclusions) mayKeepBelow(dir string) bool {
	parts := strings.Split(dir, "/")
	for _, pattern := range x.keep {
		if couldMatchBelow(pattern, parts) {
			return true
		}
	}
	return false
}

func couldMatchBelow(pattern, dir []string) bool {
	for i, part := range dir {
		if i == len(pattern) {
			return false
		}
		if strings.Contains(pattern[i], "**") {
			return true
		}
		if pattern[i] != part && !strings.ContainsAny(pattern[i], `*?[\`) {
			return false
		}
	}
	return len(pattern) > len(dir)
}

// parsePatterns reads patterns line by line as .dockerignore has them and names the first that is malformed.
func parsePatterns(text string) ([]string, error) {
	patterns, err := ignorefile.ReadAll(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, p := range patterns {
		// A pattern is compiled when first used, and one with "!" is only used on what another has excluded.
		matcher, err := patternmatcher.New([]string{strings.TrimPrefix(p, "!")})
		if err == nil {
			_, err = matcher.MatchesOrParentMatches("x")
		}
		if err != nil || p == "!" {
			return nil, fmt.Errorf("%q is not a pattern", p)
		}
	}
	return patterns, nil
}

// readIgnoreFile returns the patterns of the tree's own file, none when there is no such file.
func readIgnoreFile(root *os.Root) ([]string, *Problem) {
	f, _, err := openRegular(root, IgnoreFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &Problem{IgnoreFile, reasonOf(err), "make it a readable regular file"}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile+1))
	if err != nil {
		return nil, &Problem{IgnoreFile, reasonOf(err), "make it a readable regular file"}
	}
	if len(text) > maxIgnoreFile {
		return nil, &Problem{IgnoreFile, "is larger than 1 MiB", "use fewer patterns"}
	}
	patterns, err := parsePatterns(string(text))
	if err != nil {
		return nil, &Problem{IgnoreFile, err.Error(), "write it in the syntax of .dockerignore"}
	}
	return patterns, nil
}
