package docs_test

import (
	"bytes"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// TestRunbooksHostAndIncident brings about what the pages are for, and runs
// their commands then.
func TestRunbooksHostAndIncident(t *testing.T) {
	hosttest.Require(t)
	bin := filepath.Dir(hosttest.Program(t, "examples/sandbox"))
	host, server := hosttest.SSH(t)
	term := newTerminal(t, bin, host)
	repo := repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., command: [serve, \"8080\", hello]}}\n"})
	id := term.sandbox("create", "-q", "--input", "repo="+repo)
	term.env = append(term.env, "id="+id)
	t.Cleanup(func() { host.AssertNothing(id) })

	const incident = "runbooks/incident.md"
	server.Stop()
	term.section(incident, "While it is away")
	server.Restart()
	term.section(incident, "When it is back")
	server.Stop()
	term.section(incident, "While it is stuck")
	server.Restart()
	term.section(incident, "When the cause is gone")
	term.env = append(term.env, "repo="+repo, "SANDBOXER_PROFILES="+demanding(t))
	term.section(incident, "A disk is full")
	term.run(fences(t, "runbooks/host.md", "sh", "text"))

	hub, start := stoppedHub(t)
	term.env = append(term.env, "SANDBOXER_HUB="+hub)
	term.section(incident, "While it is down")
	start()
	term.section(incident, "When it answers again")
}

// demanding is a directory with the reference profile, which wants more disk
// than there is.
func demanding(t *testing.T) string {
	t.Helper()
	text, err := fs.ReadFile(profiles.FS(), "profile.compose-e2e.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text = bytes.Replace(text, []byte("disk: 1Gi"), []byte("disk: 900Ti"), 1)
	if err := os.WriteFile(filepath.Join(dir, "demanding.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sandbox runs the command and returns what it printed.
func (term *terminal) sandbox(args ...string) string {
	term.t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", `exec sandbox "$@"`, "sh"}, args...)...)
	cmd.Env, cmd.Stderr = term.env, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		term.t.Fatalf("sandbox %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// section runs the blocks between a heading and the next.
func (term *terminal) section(page, heading string) {
	term.t.Helper()
	_, rest, ok := strings.Cut(read(term.t, page), "# "+heading+"\n")
	if !ok {
		term.t.Fatalf("%s has no section %q", page, heading)
	}
	text, _, _ := strings.Cut(rest, "\n##")
	file := filepath.Join(term.t.TempDir(), "section.md")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		term.t.Fatal(err)
	}
	term.run(fences(term.t, file, "sh", "text"))
}

// stoppedHub is a State Hub that takes everything, once it is started.
func stoppedHub(t *testing.T) (url string, start func()) {
	t.Helper()
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := reserved.Addr().String()
	if err := reserved.Close(); err != nil {
		t.Fatal(err)
	}
	return "http://" + address, func() {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
		_ = server.Listener.Close()
		server.Listener = listener
		server.Start()
		t.Cleanup(server.Close)
	}
}
