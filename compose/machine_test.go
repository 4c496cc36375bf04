//go:build linux

package compose_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// Where what stands outside the machine is found: what a profile lists, what
// it does not, a resolver, and where clouds serve credentials. The machine
// itself is at machineAddress.
const (
	listedServer, otherServer = "203.0.113.80:80", "203.0.113.81:80"
	outsideResolver           = "203.0.113.53:53"
	metadataServer            = "169.254.169.254:80"
	machineAddress            = "198.51.100.2"
)

// A machine is a host of the test's own, entered over SSH: an engine, a server
// and a resolver on every address of it, and a network outside it with
// witnesses. All of it is in namespaces that end with the test.
type machine struct {
	*rig
	engine  *enginetest.Daemon
	escape  string // the program testdata/escape
	outside *witness
	host    *witness
}

func newMachine(t *testing.T, more ...sandboxer.Profile) *machine {
	t.Helper()
	m := bareMachine(t)
	m.do(t, true, "mount", "--bind", writeFile(t, "nameserver 127.0.0.1\n"), "/etc/resolv.conf") // the host's resolver is on the host
	server := sshtest.Start(t, sshtest.Options{Enter: m.engine.Enter(false)})
	addr := m.tunnel(t, server.Addr)
	config := sshHost(t, server, addr)
	config.EngineSocket = m.engine.Socket
	m.rig = newRig(t, config, more...)
	return m
}

// bareMachine is a machine that nobody enters.
func bareMachine(t *testing.T) *machine {
	t.Helper()
	hosttest.Require(t)
	if os.Getuid() != 0 && os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
		t.Fatal("an engine of its own needs root")
	}
	m := &machine{engine: enginetest.StartDaemon(t, ""), escape: filepath.Join(t.TempDir(), "escape")}
	t.Setenv("DOCKER_HOST", "unix://"+m.engine.Socket) // for what the test asks itself
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", m.escape, "./testdata/escape")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.connectOutside(t)
	m.host = startWitness(t, append(m.engine.Enter(false), m.escape, "witness", "0.0.0.0:53", ":7777"))
	return m
}

// connectOutside makes the network that the machine's default route leads to.
func (m *machine) connectOutside(t *testing.T) {
	t.Helper()
	const script = `ip link set lo up; for a in 203.0.113.80 203.0.113.81 203.0.113.53 169.254.169.254; do ip address add $a/32 dev lo; done; exec "$@"`
	m.outside = startWitness(t, []string{"unshare", "--net", "sh", "-c", script, "sh", m.escape, "witness", listedServer, otherServer, outsideResolver, metadataServer})
	pid := strconv.Itoa(m.outside.process.Pid)
	m.do(t, false, "ip", "link", "add", "out", "type", "veth", "peer", "name", "lan", "netns", pid)
	m.do(t, false, "ip", "address", "add", machineAddress+"/24", "dev", "out")
	m.do(t, false, "ip", "link", "set", "out", "up")
	for _, line := range []string{"address add 198.51.100.1/24 dev lan", "link set lan up"} {
		run(t, append([]string{"nsenter", "--target", pid, "--net", "ip"}, strings.Fields(line)...))
	}
	m.do(t, false, "ip", "route", "add", "default", "via", "198.51.100.1")
}

// do runs a command on the machine.
func (m *machine) do(t *testing.T, mounts bool, command ...string) string {
	t.Helper()
	return run(t, append(m.engine.Enter(mounts), command...))
}

func run(t *testing.T, command []string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tunnel leads from an address of this machine's loopback to one of the other.
func (m *machine) tunnel(t *testing.T, to string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	enter := append(m.engine.Enter(false), m.escape, "connect", to)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			cmd := exec.Command(enter[0], enter[1:]...)
			cmd.Stdin, cmd.Stdout = conn, conn
			go func() { defer conn.Close(); _ = cmd.Run() }()
		}
	}()
	return listener.Addr().String()
}

// A witness is a program that tells what arrives where it stands.
type witness struct {
	process *os.Process
	mu      sync.Mutex
	tokens  map[string]bool
}

func startWitness(t *testing.T, command []string) *witness {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	told, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &witness{process: cmd.Process, tokens: map[string]bool{}}
	lines, ready := bufio.NewScanner(told), make(chan bool, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ready <- lines.Scan() && lines.Text() == "ready"
		for lines.Scan() {
			w.mu.Lock()
			w.tokens[lines.Text()] = true
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = leash.Close()
		<-done
		_ = cmd.Wait()
	})
	if !<-ready {
		<-done
		_ = cmd.Wait()
		t.Fatalf("%s: %s", command, complaint.String())
	}
	return w
}

func (w *witness) saw(token string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tokens[token]
}

// heard says whether a line that arrived holds a text.
func (w *witness) heard(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range w.tokens {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// importProgram gives the engine an image of a static program alone. It may be
// run as root by whoever runs it as /setuid.
func importProgram(t *testing.T, program, name, entrypoint string) {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	add := func(name, text string, mode int64) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text)), ModTime: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	add("program", string(text), 0o755)
	add("setuid", string(text), 0o4755)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "import", "--change", "ENTRYPOINT "+entrypoint, "-", name)
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("importing the image: %v: %s", err, out)
	}
}
