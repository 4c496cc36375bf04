package docs_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/examples/sandbox/settings"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// TestREADME runs what the README shows: its first sandbox with what it
// prints, and every call of the command line. Its first block is run by CI.
func TestREADME(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	term := newcomer(t, bin)
	term.set("GOBIN", bin)
	page := newScript(t, "../README.md")
	blocks := page.blocks()
	page.ran(blocks[0].text) // by CI, see TestCIRunsREADME
	term.run(page, blocks[1:2])
	term.set("repo", repotest.Demo(t))
	term.run(page, blocks[2:])
	if ids := term.ids(bin); len(ids) < 2 {
		t.Errorf("the README makes only the sandboxes %q", ids)
	}
}

// TestCIRunsREADME: the README's first block is what CI runs.
func TestCIRunsREADME(t *testing.T) {
	first := fences(t, "../README.md", "sh")[0].text
	ci := read(t, "../.ci/run")
	for line := range strings.Lines(first) {
		command, _, _ := strings.Cut(line, "#")
		if !strings.Contains(ci, "\n"+strings.TrimSpace(command)+"\n") {
			t.Errorf(".ci/run does not run %s", command)
		}
	}
}

// TestConsolesOfPages runs the commands of the pages for siblings and for
// authors of extensions.
func TestConsolesOfPages(t *testing.T) {
	t.Parallel()
	term := newcomer(t, filepath.Dir(hosttest.Program(t, "examples/sandbox")))
	term.set("repo", repotest.Demo(t))
	for _, page := range []string{"integrations/glas-harness.md", "integrations/wise-validator.md", "integrations/snuggle-inventor.md", "writing-an-extension.md"} {
		s := newScript(t, page)
		term.run(s, s.blocks())
	}
}

// TestMakeTarget makes the target that stands in for an earlier one, in a
// repository whose check wants a sandbox that is ready.
func TestMakeTarget(t *testing.T) {
	t.Parallel()
	bin := filepath.Dir(hosttest.Program(t, "examples/sandbox"))
	term := newcomer(t, bin)
	repo := repotest.New(t, map[string]string{
		"compose.yaml": "services: {web: {build: ., command: [serve, \"8080\", hello]}}\n",
		"Makefile":     fences(t, "../extensions/README.md", "make")[0].text,
	})
	for _, tt := range []struct{ check, prints string }{
		{`sandbox get "$1" | grep '^state'`, "state ready (ready) for …\n…\n"},
		{"echo it is broken; false", "it is broken\n…\nexit code 2\n"},
	} {
		repotest.Write(t, filepath.Join(repo, "e2e/check"), "#!/bin/sh\n"+tt.check+"\n", 0o755)
		term.expect("make --no-print-directory -C '"+repo+"' e2e || echo \"exit code $?\"", exactly(tt.prints))
	}
	if ids := term.ids(bin); len(ids) != 2 {
		t.Errorf("the target made the sandboxes %q, want two", ids)
	}
}

// newcomer is the terminal of somebody who has configured nothing. Of the
// sandboxes made there nothing may be left.
func newcomer(t *testing.T, bin string) *terminal {
	t.Helper()
	hosttest.Require(t) // before the environment is copied: commands that run tests share the turn
	term := newTerminal(t, bin)
	host := hosttest.Default(t, term.home())
	for _, name := range []string{"GOPATH", "GOCACHE", "GOMODCACHE"} { // which are looked for at home
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		term.env = append(term.env, name+"="+strings.TrimSpace(string(out)))
	}
	term.known = append(term.known, "root@vm", settings.Actor())
	t.Cleanup(func() {
		for _, id := range term.ids(bin) {
			host.AssertNothing(id)
			_ = term.sandbox(bin, "destroy", "-q", id).Run() // what a failed test leaves
		}
	})
	return term
}

// ids are those of the sandboxes that the terminal's user ever had.
func (term *terminal) ids(bin string) []string {
	term.t.Helper()
	out, err := term.sandbox(bin, "list", "--all", "-q").Output()
	if err != nil {
		term.t.Errorf("sandbox list: %v", err)
	}
	return strings.Fields(string(out))
}

// sandbox runs beside the shell, which may have ended.
func (term *terminal) sandbox(bin string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "sandbox"), args...)
	cmd.Env = term.env
	return cmd
}
