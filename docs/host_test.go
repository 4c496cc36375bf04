package docs_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// TestRunbookHost runs the page's commands for the client, and those for root
// on the host, on this machine, with a network of the test's own, so that the
// firewall rules are its own too. What root changes lies in a layer that goes
// with the test.
func TestRunbookHost(t *testing.T) {
	t.Parallel()
	requireRoot(t)
	hosttest.Require(t)
	enter := ownNetwork(t)
	server := sshtest.Start(t, sshtest.Options{Enter: enter})
	host := hosttest.Behind(t, server)
	page := newScript(t, "runbooks/host.md")

	root := newTerminal(t, "")
	root.prompt, root.enter = "# ", append(enter, layered(t)...)
	root.instead = map[string]string{
		"apt-get install": "apt-get --simulate install",                         // would change packages
		"loginctl enable": "loginctl --help | grep --quiet '  enable-linger' #", // needs the systemd of a booted machine
	}
	root.run(page, page.blocks())

	term := newTerminal(t, filepath.Dir(hosttest.Program(t, "examples/sandbox")), "SANDBOXER_HOSTS="+host.File)
	term.enter = enter
	term.alias("sandboxer01", server)
	id := term.create(repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., command: [serve, \"8080\", hello]}}\n"}))
	t.Cleanup(func() { host.AssertNothing(id) })
	term.run(page, page.blocks())
}

// requireRoot skips a test that needs root, and fails it if
// SANDBOXER_REQUIRE_ENGINE is 1.
func requireRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Getuid() == 0:
	case os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1":
		t.Fatal("namespaces need root, and SANDBOXER_REQUIRE_ENGINE asks for every test: run it as root")
	default:
		t.Skip("namespaces need root")
	}
}

// ownNetwork is how commands enter a network namespace with nothing but a
// loopback interface, which lasts as long as the test.
func ownNetwork(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(output, make([]byte, len("up\n"))); err != nil {
		t.Fatalf("a network namespace: %v", err)
	}
	return []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", cmd.Process.Pid)}
}

// layered is how commands are run that write to layers over the directories of
// the machine, and see memory of their own as shared memory.
func layered(t *testing.T) []string {
	const script = `
mount -t tmpfs tmpfs "$1"
for dir in /etc /home /var/log /var/mail; do
	mkdir -p "$1$dir/upper" "$1$dir/work"
	mount -t overlay overlay -o "lowerdir=$dir,upperdir=$1$dir/upper,workdir=$1$dir/work" "$dir"
done
mount -t tmpfs tmpfs /dev/shm
mkdir /dev/shm/sandboxer-0
shift
exec "$@"`
	return []string{"unshare", "--mount", "sh", "-euc", script, "sh", t.TempDir()}
}

// alias makes a server known as name to the terminal's user, as ssh_config does.
func (term *terminal) alias(name string, server *sshtest.Server) {
	term.t.Helper()
	address, port, _ := strings.Cut(server.Addr, ":")
	text := fmt.Sprintf("Host %s\n  HostName %s\n  Port %s\n  IdentityFile %s\n  UserKnownHostsFile %s\n", name, address, port, server.IdentityFile, server.KnownHosts)
	repotest.Write(term.t, filepath.Join(term.home(), ".ssh/config"), text, 0o600)
}
