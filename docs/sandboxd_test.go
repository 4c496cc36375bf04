package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// TestSandboxd runs the page: a server for this machine, a life over HTTP, and
// a server that asks for tokens. Its records are those of the sandbox command,
// which looks afterwards that nothing is left.
func TestSandboxd(t *testing.T) {
	t.Parallel()
	bin := filepath.Dir(hosttest.Program(t, "examples/sandbox"))
	term := newcomer(t, bin)
	term.set("GOBIN", bin)
	term.instead = map[string]string{"sandboxd --workspaces": "sandboxd --addr 127.0.0.1:0 --workspaces"} // what else listens here is not the test's
	src := filepath.Join(term.home(), "src")
	if err := os.Mkdir(src, 0o700); err != nil {
		t.Fatal(err)
	}
	tree := repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., command: [serve, \"8080\", hello], ports: [\"80:8080\"]}}\n"})
	if err := os.Rename(tree, filepath.Join(src, "shop")); err != nil {
		t.Fatal(err)
	}
	page := newScript(t, "sandboxd.md")

	blocks := page.blocks()
	term.run(page, blocks[:1])
	term.set("SERVER", strings.NewReplacer(term.known...).Replace("http://127.0.0.1:8080"))
	term.run(page, page.section("A life"))
	term.stop()
	term.expect("cd", exactly("")) // where tokens.yaml may be written
	term.known = append(term.known, ":8443", ":0", "/srv/repos", src)
	term.run(page, page.section("Who may do what"))
	term.stop()
}

// stop ends the last command in the background.
func (term *terminal) stop() {
	term.t.Helper()
	term.expect("kill $!; wait $! || :", exactly(anything))
}
