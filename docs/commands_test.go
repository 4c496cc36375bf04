package docs_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
)

// notRun are the pages whose blocks of shell no test runs, and why. What is in
// them is compared with the command line's own help all the same.
var notRun = map[string]string{
	"../README.md": "make demo and make test are what runs this test; the calls stand for any sandbox, and TestTheFiveCalls makes them",
}

// TestShellBlocks: every block of shell is run by a test, or it is said why not.
func TestShellBlocks(t *testing.T) {
	executed := []string{"sandboxd.md", // by examples/sandboxd
		"runbooks/profile-compose-e2e.md", "runbooks/host.md", "runbooks/incident.md"}
	for _, page := range pages(t) {
		path := strings.TrimPrefix(page, "../docs/")
		if len(fences(t, page, "sh")) > 0 && !slices.Contains(executed, path) && notRun[path] == "" {
			t.Errorf("%s has blocks of shell that no test runs", path)
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
