package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// A terminal runs blocks of shell as their reader would, with the sandbox
// command, hosts and records of the test's own.
type terminal struct {
	t    *testing.T
	host *hosttest.Host
	env  []string
}

// newTerminal gets a directory that holds the program sandbox.
func newTerminal(t *testing.T, bin string, host *hosttest.Host, env ...string) *terminal {
	home := t.TempDir()
	env = append(env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+home,
		"XDG_CONFIG_HOME="+filepath.Join(home, "config"), "XDG_STATE_HOME="+filepath.Join(home, "state"),
		"SANDBOXER_HOSTS="+host.File, "root="+host.Root)
	return &terminal{t: t, host: host, env: append(os.Environ(), env...)}
}

// run executes the blocks as one script, as far as it comes, and compares what
// each printed with the block of text that follows it.
func (term *terminal) run(blocks []fence) {
	term.t.Helper()
	if len(blocks) == 0 {
		term.t.Fatal("there is nothing to run")
	}
	var script strings.Builder
	var wants []string
	for i, b := range blocks {
		if b.language != "sh" {
			continue
		}
		fmt.Fprintf(&script, "%s\necho '%s'\n", b.text, endOfBlock)
		want := anything
		if i+1 < len(blocks) && blocks[i+1].language == "text" {
			want = blocks[i+1].text
		}
		wants = append(wants, want)
	}
	var out, errOut bytes.Buffer
	cmd := exec.Command("sh", "-eu", "-c", script.String())
	cmd.Env, cmd.Stdout, cmd.Stderr = term.env, &out, &errOut
	if err := cmd.Run(); err != nil {
		term.t.Errorf("%v\n%s%s", err, &out, &errOut)
	}
	said := strings.Split(out.String(), endOfBlock+"\n")
	for i, want := range wants[:min(len(wants), len(said)-1)] {
		if !pattern(want).MatchString(fold(said[i])) {
			term.t.Errorf("block %d printed\n%s\nand the page says\n%s", i+1, fold(said[i]), want)
		}
	}
}

const (
	endOfBlock = "-----8<-----"
	anything   = "…\n"
)

// pattern matches a text in which … stands for anything within a line, and on
// a line of its own for any number of lines.
func pattern(text string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.Lines(fold(text)) {
		if line == anything {
			b.WriteString(`(?:.*\n)*`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

// fold makes of any white space within a line one blank.
func fold(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

// TestRunbookComposeE2E runs the whole page against a host that is reached
// through a real OpenSSH server.
func TestRunbookComposeE2E(t *testing.T) {
	host, server := hosttest.SSH(t)
	bin := filepath.Dir(hosttest.Program(t, "examples/sandbox"))
	_, port, _ := strings.Cut(server.Addr, ":")
	onHost := fmt.Sprintf("ssh -F /dev/null -o UserKnownHostsFile=%s -i %s -p %s %s@127.0.0.1", server.KnownHosts, server.IdentityFile, port, server.User)
	newTerminal(t, bin, host, "repo="+repotest.Demo(t), "on_host="+onHost).run(fences(t, "runbooks/profile-compose-e2e.md", "sh", "text"))
}
