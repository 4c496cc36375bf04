package docs_test

import (
	"bytes"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// TestRunbookIncident brings about what the page is for, and runs its commands
// then.
func TestRunbookIncident(t *testing.T) {
	t.Parallel()
	hosttest.Require(t)
	bin := filepath.Dir(hosttest.Program(t, "examples/sandbox"))
	host, server := hosttest.SSH(t)
	term := newTerminal(t, bin, "SANDBOXER_HOSTS="+host.File, "root="+host.Root)
	onHost := newTerminal(t, bin, "root="+host.Root)
	onHost.prompt = "# "
	repo := repotest.New(t, map[string]string{"compose.yaml": "services: {web: {build: ., command: [serve, \"8080\", hello]}}\n"})
	id := term.create(repo)
	t.Cleanup(func() { host.AssertNothing(id) })
	term.set("id", id)
	onHost.set("id", id)

	incident := newScript(t, "runbooks/incident.md")
	server.Stop()
	term.run(incident, incident.section("While it is away"))
	server.Restart()
	term.run(incident, incident.section("When it is back"))
	server.Stop()
	term.run(incident, incident.section("While it is stuck"))
	onHost.run(incident, incident.section("While it is stuck"))
	server.Restart()
	term.run(incident, incident.section("When the cause is gone"))
	term.set("repo", repo)
	term.set("SANDBOXER_PROFILES", demanding(t))
	term.run(incident, incident.section("A disk is full"))
	onHost.run(incident, incident.section("A disk is full"))

	hub, start := stoppedHub(t)
	term.set("SANDBOXER_HUB", hub)
	term.run(incident, incident.section("While it is down"))
	start()
	term.run(incident, incident.section("When it answers again"))
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
