package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are the documents of the repository, by their path from here.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Fatalf("found only %d pages: this test looks for the wrong thing", len(all))
	}
	return all
}

// A fence is a fenced block of a page.
type fence struct {
	language, text string
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

func fences(t *testing.T, page string, languages ...string) []fence {
	t.Helper()
	return fencesIn(read(t, page), languages...)
}

func fencesIn(text string, languages ...string) []fence {
	var all []fence
	for _, m := range fenced.FindAllStringSubmatch(text, -1) {
		if slices.Contains(languages, m[1]) {
			all = append(all, fence{m[1], m[2]})
		}
	}
	return all
}

// prose is a page without its blocks.
func prose(t *testing.T, page string) string {
	t.Helper()
	return fenced.ReplaceAllString(read(t, page), "")
}

var link = regexp.MustCompile(`\]\(([^)#:]*)(#[^):]*)?\)`)

// TestIndex: every page stands in the index.
func TestIndex(t *testing.T) {
	listed := map[string]bool{"README.md": true}
	for _, m := range link.FindAllStringSubmatch(prose(t, "README.md"), -1) {
		listed[filepath.Clean(m[1])] = true
	}
	for _, page := range pages(t) {
		if path := strings.TrimPrefix(page, "../docs/"); !listed[path] {
			t.Errorf("docs/README.md does not list %s", strings.TrimPrefix(page, "../"))
		}
	}
}

// TestLinks: every relative link of every page leads somewhere, and so does
// its anchor.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(prose(t, page), -1) {
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if anchor := strings.TrimPrefix(m[2], "#"); anchor != "" && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s links to %s, which has no heading %s", page, m[1], m[2])
			}
		}
	}
}

// anchors are what a page's headings are linked by: their text in lower case,
// with dashes for spaces and without punctuation.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(prose(t, page), -1) {
		text := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(text, " ", "-"))
	}
	return all
}

// TestGoBlocks: every block of Go stands, line for line, in a Go file that the
// page links to, where the compiler and tests see it.
func TestGoBlocks(t *testing.T) {
	blocks := 0
	for _, page := range pages(t) {
		for _, block := range fences(t, page, "go") {
			blocks++
			if !slices.ContainsFunc(sources(t, page), func(source string) bool { return strings.Contains(source, unindented(block.text)) }) {
				t.Errorf("%s shows what stands in no Go file that it links to:\n%s", page, block.text)
			}
		}
	}
	if blocks < 6 {
		t.Errorf("found only %d blocks", blocks)
	}
}

// sources are the Go files of the examples that a page links to.
func sources(t *testing.T, page string) []string {
	t.Helper()
	dirs := map[string]bool{}
	for _, m := range regexp.MustCompile(`examples/[a-z]+`).FindAllString(read(t, page), -1) {
		dirs[m] = true
	}
	var all []string
	for dir := range dirs {
		files, err := filepath.Glob("../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			all = append(all, unindented(read(t, file)))
		}
	}
	return all
}

// unindented compares blocks that stand deeper in their file.
func unindented(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Join(lines, "\n")
}
