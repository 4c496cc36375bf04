package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
)

// run are the pages with blocks of commands, by the test that runs them.
var run = map[string]string{
	"README.md":                    "docs/readme_test.go",
	"docs/integrations/*.md":       "docs/readme_test.go",
	"docs/writing-an-extension.md": "docs/readme_test.go",
	"extensions/README.md":         "docs/readme_test.go",
	"docs/runbooks/profile-*.md":   "docs/runbook_test.go",
	"docs/runbooks/host.md":        "docs/host_test.go",
	"docs/runbooks/incident.md":    "docs/incident_test.go",
	"docs/sandboxd.md":             "examples/sandboxd/main_test.go",
}

// notRun are those whose commands no test can run, and why.
var notRun = map[string]string{
	"registry/capabilities/execution.sandbox-provision.md": "reuse-surface and the State Hub's checkout are not part of this project",
}

// TestCommandsAreRun: every block of commands is run by a test, or it is said why not.
func TestCommandsAreRun(t *testing.T) {
	for _, page := range pages(t) {
		path := strings.TrimPrefix(page, "../")
		if len(fences(t, page, "sh", "bash", "shell", "console", "make")) == 0 || notRun[path] != "" {
			continue
		}
		ok := false
		for glob, test := range run {
			if match, err := filepath.Match(glob, path); err != nil || !match {
				continue
			}
			ok = true
			if name := filepath.Base(path); !strings.Contains(read(t, "../"+test), name) {
				t.Errorf("%s does not run %s", test, path)
			}
		}
		if !ok {
			t.Errorf("%s has commands that no test runs", path)
		}
	}
}

// TestCommandsOfPages: every call of the sandbox command in a block names a
// command and flags that its help knows; programs and scripts that are run by
// path exist.
func TestCommandsOfPages(t *testing.T) {
	sandbox := hosttest.Program(t, "examples/sandbox")
	help := map[string]string{}
	calls := 0
	for _, page := range pages(t) {
		for _, block := range fences(t, page, "sh", "console", "make") {
			for _, call := range callsIn(block.text) {
				calls++
				command := path(call)
				text, ok := help[command]
				if !ok {
					out, err := exec.Command(sandbox, append(strings.Fields(command), "--help")...).CombinedOutput()
					text = string(out)
					if help[command] = text; err != nil || !strings.Contains(text, "sandbox "+command) {
						t.Errorf("%s: there is no command %q", page, "sandbox "+command)
					}
				}
				for _, flag := range regexp.MustCompile(`(?:^|\s)(--?[a-z][a-z-]*)`).FindAllStringSubmatch(call, -1) {
					if !regexp.MustCompile(`(?m)(^|[\s,])` + regexp.QuoteMeta(flag[1]) + `([\s,]|$)`).MatchString(text) {
						t.Errorf("%s: sandbox %s has no flag %s, in %q", page, command, flag[1], call)
					}
				}
			}
			for _, m := range regexp.MustCompile(`(?:go run \./|\./|\$ )((?:examples|testdata|scripts)/[\w./-]+)`).FindAllStringSubmatch(block.text, -1) {
				if _, err := os.Stat("../" + m[1]); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
	}
	if calls < 30 {
		t.Errorf("found only %d calls", calls)
	}
}

// callsIn are the calls of the sandbox command, each up to the end of its
// simple command and without what is quoted or said in a comment.
func callsIn(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		line = regexp.MustCompile(`"[^"]*"|'[^']*'|\s#.*$`).ReplaceAllString(strings.TrimSpace(line), "ARG")
		for _, m := range regexp.MustCompile(`(?:^|[$;|&(@]\s?|\btrap ')sandbox ([^|;&)>]*)`).FindAllStringSubmatch(line, -1) {
			all = append(all, strings.TrimSpace(m[1]))
		}
	}
	return all
}

// path is the part of a call that names a command.
func path(call string) string {
	words := strings.Fields(call)
	if len(words) > 1 && words[0] == "hosts" && regexp.MustCompile(`^[a-z]+$`).MatchString(words[1]) {
		return words[0] + " " + words[1]
	}
	return words[0]
}
