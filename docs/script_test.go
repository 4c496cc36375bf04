package docs_test

import (
	"slices"
	"strings"
	"testing"
)

// A script is a page whose commands a test runs in terminals, every one of
// them.
type script struct {
	t    *testing.T
	page string
	left []string // what nothing has run yet
}

// newScript has t fail if a command of the page was not run when t has ended.
func newScript(t *testing.T, page string) *script {
	t.Helper()
	s := &script{t: t, page: page}
	for _, block := range s.blocks() {
		s.left = append(s.left, commandsOf(block)...)
	}
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			return
		}
		for _, command := range s.left {
			t.Errorf("%s runs not everything of %s: not\n%s", t.Name(), page, command)
		}
	})
	return s
}

// blocks are those of commands, and what they print.
func (s *script) blocks() []fence {
	s.t.Helper()
	return fences(s.t, s.page, "sh", "text", "console")
}

// section are the blocks between a heading and the next.
func (s *script) section(heading string) []fence {
	s.t.Helper()
	_, rest, ok := strings.Cut(read(s.t, s.page), "# "+heading+"\n")
	if !ok {
		s.t.Fatalf("%s has no section %q", s.page, heading)
	}
	text, _, _ := strings.Cut(rest, "\n##")
	return fencesIn(text, "sh", "text", "console")
}

// ran notes that a command was run. One that stands in the page twice has to
// run twice.
func (s *script) ran(command string) {
	s.t.Helper()
	at := slices.Index(s.left, command)
	if at < 0 {
		s.t.Fatalf("%s has no such command, or it ran before:\n%s", s.page, command)
	}
	s.left = slices.Delete(s.left, at, at+1)
}

// commandsOf a block are one of sh, or those typed in a console.
func commandsOf(block fence) []string {
	var all []string
	switch block.language {
	case "sh":
		all = append(all, block.text)
	case "console":
		for _, c := range typed(block.text) {
			all = append(all, c.command)
		}
	}
	return all
}

// TestScript: a command of the page that no terminal ran is told.
func TestScript(t *testing.T) {
	const page = "testdata/page.md"
	here, root := newTerminal(t, ""), newTerminal(t, "")
	root.prompt = "# "
	s := newScript(t, page)
	for _, step := range []struct {
		run  func()
		left int
	}{
		{func() {}, 5},
		{func() { here.run(s, s.section("First")) }, 3},
		{func() { root.run(s, s.section("First")) }, 2},
		{func() { here.run(s, s.section("The same again")) }, 1},
		{func() { here.run(s, s.section("Last")) }, 0},
	} {
		if step.run(); len(s.left) != step.left {
			t.Fatalf("left are %q, want %d", s.left, step.left)
		}
	}
}
