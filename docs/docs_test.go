// Package docs_test compares what the documents say with what the code does.
package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLifecycleDiagram: the diagrams have exactly the edges of the transition table.
func TestLifecycleDiagram(t *testing.T) {
	var want []string
	for _, s := range sandboxer.States() {
		for _, next := range s.Next() {
			want = append(want, string(s)+" --> "+string(next))
		}
	}
	slices.Sort(want)
	edge := regexp.MustCompile(`(?m)^\s+([a-z]+ --> [a-z]+)$`)
	for _, file := range []string{"lifecycle.md", "../README.md"} {
		var got []string
		for _, m := range edge.FindAllStringSubmatch(block(t, read(t, file), "stateDiagram-v2"), -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: edges (-table +diagram):\n%s", file, diff)
		}
	}
}

// TestLifecycleReasons: every state and reason is explained.
func TestLifecycleReasons(t *testing.T) {
	page := read(t, "lifecycle.md")
	for _, m := range regexp.MustCompile(`Reason = "([a-z_]+)"`).FindAllStringSubmatch(read(t, "../lifecycle.go"), -1) {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("lifecycle.md does not explain the reason %s", m[1])
		}
	}
	for _, s := range sandboxer.States() {
		if !strings.Contains(page, "\n| "+string(s)+" |") {
			t.Errorf("lifecycle.md does not explain the state %s", s)
		}
	}
}

// block is the fenced mermaid block that begins with kind.
func block(t *testing.T, page, kind string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "```mermaid\n"+kind)
	if !ok {
		t.Fatalf("no %s", kind)
	}
	text, _, _ := strings.Cut(rest, "```")
	return text
}

// TestREADMEProgram: the README shows the quickstart as it is, with at most 15
// lines in main.
func TestREADMEProgram(t *testing.T) {
	program := read(t, "../examples/quickstart/main.go")
	_, body, _ := strings.Cut(program, "func main() {\n")
	body, _, _ = strings.Cut(body, "\n}\n")
	if n := strings.Count(body, "\n") + 1; n > 16 {
		t.Errorf("the quickstart's main has %d lines", n)
	}
	_, shown, ok := strings.Cut(read(t, "../README.md"), "```go\n")
	if !ok {
		t.Fatal("README.md shows no program")
	}
	shown, _, _ = strings.Cut(shown, "```")
	_, program, _ = strings.Cut(program, "package main")
	if diff := cmp.Diff("package main"+program, shown); diff != "" {
		t.Errorf("README.md (-examples/quickstart/main.go +README.md):\n%s", diff)
	}
}

// TestErrorCodes: the contract lists every code that Code gives.
func TestErrorCodes(t *testing.T) {
	page := read(t, "meta-framework.md")
	codes := regexp.MustCompile(`\{(?:Err|context\.)[A-Za-z]+, "([a-z_]+)"\}`).FindAllStringSubmatch(read(t, "../errors.go"), -1)
	if len(codes) < 15 {
		t.Fatalf("found only %d codes in errors.go: this test looks for the wrong thing", len(codes))
	}
	for _, m := range codes {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("meta-framework.md does not list the error code %s", m[1])
		}
	}
}
