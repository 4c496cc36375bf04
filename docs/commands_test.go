package docs_test

import (
	"fmt"
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
	"docs/sandboxd.md":             "docs/sandboxd_test.go",
}

// notRun are those whose commands no test can run, and why.
var notRun = map[string]string{
	"registry/capabilities/execution.sandbox-provision.md": "reuse-surface and the State Hub's checkout are not part of this project",
}

// TestCommandsAreRun: every page with commands is run by a test, or it is said
// why not. That none of them is left out, the test sees to by its [script].
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
			if text := read(t, "../"+test); !strings.Contains(text, filepath.Base(path)) || !strings.Contains(text, "newScript(t, ") {
				t.Errorf("%s does not run %s", test, path)
			}
		}
		if !ok {
			t.Errorf("%s has commands that no test runs", path)
		}
	}
}

// TestCommandsOfPages: every call of the sandbox command and of sandboxd in a
// block names a command and flags that its help knows; programs and scripts
// that are run by path exist.
func TestCommandsOfPages(t *testing.T) {
	manual := newManual(t)
	for _, page := range pages(t) {
		for _, block := range fences(t, page, "sh", "console", "make") {
			for _, problem := range manual.problems(t, block.text) {
				t.Errorf("%s: %s", page, problem)
			}
			for _, m := range regexp.MustCompile(`(?:go run \./|\./|\$ )((?:examples|testdata|scripts)/[\w./-]+)`).FindAllStringSubmatch(block.text, -1) {
				if _, err := os.Stat("../" + m[1]); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
	}
	if manual.calls["sandbox"] < 30 || manual.calls["sandboxd"] < 3 {
		t.Errorf("found only these calls: %v", manual.calls)
	}
}

// TestManual: what a program does not know is told.
func TestManual(t *testing.T) {
	manual := newManual(t)
	for text, want := range map[string]string{
		"sandbox list --all -q":                        "",
		"$ sandbox hosts cordon here":                  "",
		"sandboxd --addr :0 --tokens x &":              "",
		"go run ./examples/sandboxd --workspaces .":    "",
		"sandboxd token --project shop >> tokens.yaml": "",
		"sandbox list --port 1":                        "sandbox list has no flag --port",
		"sandbox make":                                 `there is no command "sandbox make"`,
		"$ sandboxd --project x":                       "sandboxd has no flag --project",
		"sandboxd token --addr :0":                     "sandboxd token has no flag --addr",
		"go run ./examples/sandboxd --port 1":          "sandboxd has no flag --port",
	} {
		problems := manual.problems(t, text)
		if want == "" && len(problems) > 0 || want != "" && (len(problems) != 1 || !strings.Contains(problems[0], want)) {
			t.Errorf("%s: %q, want %q", text, problems, want)
		}
	}
}

// A manual is what programs say of themselves.
type manual struct {
	programs map[string]string // path by name
	help     map[string]string // by command
	calls    map[string]int    // that were looked up, by program
}

func newManual(t *testing.T) *manual {
	t.Helper()
	m := &manual{programs: map[string]string{}, help: map[string]string{}, calls: map[string]int{}}
	for _, name := range []string{"sandbox", "sandboxd"} {
		m.programs[name] = hosttest.Program(t, "examples/"+name)
	}
	return m
}

// of is the help of a command, empty if there is no such command.
func (m *manual) of(command string) string {
	if text, ok := m.help[command]; ok {
		return text
	}
	words := strings.Fields(command)
	out, err := exec.Command(m.programs[words[0]], append(words[1:], "--help")...).CombinedOutput()
	if err == nil && strings.Contains(string(out), command) {
		m.help[command] = string(out)
	}
	return m.help[command]
}

// problems are what calls in a text say that their programs do not know.
func (m *manual) problems(t *testing.T, text string) []string {
	t.Helper()
	var all []string
	for _, call := range callsIn(text) {
		command := path(call)
		m.calls[strings.Fields(command)[0]]++
		help := m.of(command)
		if help == "" {
			all = append(all, fmt.Sprintf("there is no command %q", command))
			continue
		}
		for _, flag := range regexp.MustCompile(`(?:^|\s)(--?[a-z][a-z-]*)`).FindAllStringSubmatch(call, -1) {
			if !regexp.MustCompile(`(?m)^ +(-[a-z], )?` + regexp.QuoteMeta(flag[1]) + `([\s,]|$)`).MatchString(help) {
				all = append(all, fmt.Sprintf("%s has no flag %s, in %q", command, flag[1], call))
			}
		}
	}
	return all
}

// callsIn are the calls of the sandbox command and of sandboxd, each up to the
// end of its simple command and without what is quoted or said in a comment.
func callsIn(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		line = regexp.MustCompile(`"[^"]*"|'[^']*'|\s#.*$`).ReplaceAllString(strings.TrimSpace(line), "ARG")
		for _, m := range regexp.MustCompile(`(?:^|[$;|&(@]\s?|\btrap '|go run \./examples/)(sandboxd?\b(?: [^|;&)>]*)?)`).FindAllStringSubmatch(line, -1) {
			all = append(all, strings.TrimSpace(m[1]))
		}
	}
	return all
}

// path is the part of a call that names a command.
func path(call string) string {
	words := strings.Fields(call)
	n := 2
	switch {
	case words[0] == "sandboxd":
		n = 1
		if len(words) > 1 && words[1] == "token" {
			n = 2
		}
	case len(words) > 2 && words[1] == "hosts" && regexp.MustCompile(`^[a-z]+$`).MatchString(words[2]):
		n = 3
	}
	return strings.Join(words[:min(n, len(words))], " ")
}
