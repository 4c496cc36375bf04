package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWorkplan: every task has a row, and the evidence exists: each path, and
// each test in the folder of the path that was named before it.
func TestWorkplan(t *testing.T) {
	page := read(t, "workplan.md")
	for i := range 10 {
		if task := fmt.Sprintf("\n| T%02d ", i+1); strings.Count(page, task) != 1 {
			t.Errorf("workplan.md has no row %q, or several", task[1:])
		}
	}
	tests := 0
	for line := range strings.Lines(page) {
		folder := ""
		for _, m := range regexp.MustCompile("`([^`\\s]+)`").FindAllStringSubmatch(line, -1) {
			switch name := m[1]; {
			case strings.HasPrefix(name, "Test"):
				tests++
				if !declared(t, folder, name) {
					t.Errorf("there is no %s in %s", name, folder)
				}
			case strings.Contains(name, "/") && !strings.HasPrefix(name, "~"):
				if _, err := os.Stat("../" + name); err != nil {
					t.Errorf("evidence: %v", err)
				}
				folder = filepath.Dir("../" + name)
			case strings.HasSuffix(name, "_test.go"):
				folder = ".."
			}
		}
	}
	if tests < 15 {
		t.Errorf("only %d tests are named", tests)
	}
}

func declared(t *testing.T, folder, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.Contains(read(t, file), "\nfunc "+test+"(t *testing.T)") {
			return true
		}
	}
	return false
}
