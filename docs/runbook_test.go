package docs_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// TestRunbookComposeE2E runs the whole page against a host that is reached
// through a real OpenSSH server.
func TestRunbookComposeE2E(t *testing.T) {
	t.Parallel()
	host, server := hosttest.SSH(t)
	bin := filepath.Dir(hosttest.Program(t, "examples/sandbox"))
	_, port, _ := strings.Cut(server.Addr, ":")
	onHost := fmt.Sprintf("ssh -F /dev/null -o UserKnownHostsFile=%s -i %s -p %s %s@127.0.0.1", server.KnownHosts, server.IdentityFile, port, server.User)
	page := newScript(t, "runbooks/profile-compose-e2e.md")
	newTerminal(t, bin, "SANDBOXER_HOSTS="+host.File, "root="+host.Root, "repo="+repotest.Demo(t), "on_host="+onHost).run(page, page.blocks())
}
