package compose_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// importedImage is an image of the program that no sandbox has to build.
func importedImage(t testing.TB) string {
	t.Helper()
	program := repotest.App(t)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := "sandboxer-test/app:" + strings.ToLower(rand.Text())
	cmd := exec.Command("docker", "import", "--change", `ENTRYPOINT ["/app"]`, "-", name)
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("importing the image: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "rmi", name).CombinedOutput(); err != nil {
			t.Errorf("removing the image: %v: %s", err, out)
		}
	})
	return name
}

// A rig is a client on one host of the test's own.
type rig struct {
	*sandboxer.Client
	ext   *compose.Extension
	store sandboxer.Store
	more  []sandboxer.Profile // besides the embedded ones
	host  compose.HostConfig
	root  string
}

// localRig works on this machine, below a root directory of the test's own.
func localRig(t testing.TB, more ...sandboxer.Profile) *rig {
	t.Helper()
	hosttest.Require(t)
	return newRig(t, compose.HostConfig{Name: "here", Address: "local:", Root: filepath.Join(t.TempDir(), "host")}, more...)
}

// sshRig works through a real OpenSSH server on loopback.
func sshRig(t testing.TB) (*rig, *sshtest.Server) {
	t.Helper()
	hosttest.Require(t)
	server := sshtest.Start(t, sshtest.Options{})
	return newRig(t, sshHost(t, server, server.Addr)), server
}

func sshHost(t testing.TB, server *sshtest.Server, addr string) compose.HostConfig {
	return compose.HostConfig{
		Name: "there", Address: "ssh://" + server.User + "@" + addr, Root: filepath.Join(t.TempDir(), "host"),
		KnownHosts: []string{server.KnownHostsFor(addr)}, IdentityFiles: []string{server.IdentityFile},
	}
}

func newRig(t testing.TB, host compose.HostConfig, more ...sandboxer.Profile) *rig {
	t.Helper()
	r := &rig{host: host, root: host.Root, store: sandboxer.NewMemoryStore(), more: more}
	r.Client, r.ext = r.another(t)
	t.Cleanup(func() { r.assertRootEmpty(t) }) // after those of the sandboxes
	return r
}

// another is a second process's client over the same store and host.
func (r *rig) another(t testing.TB) (*sandboxer.Client, *compose.Extension) {
	t.Helper()
	ext, err := compose.New(compose.Config{Hosts: []compose.HostConfig{r.host}})
	if err != nil {
		t.Fatal(err)
	}
	known, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	client, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: slices.Concat(known, variants(known[0]), r.more), Store: r.store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, ext
}

// variants of the reference profile: one with bounds that suit a failing test,
// and others of other isolation.
func variants(reference sandboxer.Profile) []sandboxer.Profile {
	quick, gvisor, open, listed, vm := reference, reference, reference, reference, reference
	quick.ID, quick.Bounds.Ready = "profile.quick", sandboxer.Duration(8*time.Second)
	gvisor.ID, gvisor.Isolation = "profile.gvisor", sandboxer.IsolationGVisor
	open.ID, open.Isolation, open.Network.Egress = "profile.gvisor-open", sandboxer.IsolationGVisor, sandboxer.EgressAllow
	listed.ID, listed.Isolation = "profile.gvisor-listed", sandboxer.IsolationGVisor
	listed.Network = sandboxer.Network{Egress: sandboxer.EgressAllowlist, Allow: []string{"example.com:443"}}
	vm.ID, vm.Isolation = "profile.vm", sandboxer.IsolationVM
	return []sandboxer.Profile{quick, gvisor, open, listed, vm}
}

func request(repo string) sandboxer.CreateRequest {
	return sandboxer.CreateRequest{
		Profile: "profile.compose-e2e", Inputs: map[string]string{"repo": repo},
		Consumer: sandboxer.Consumer{Project: "tests", ActorType: sandboxer.ActorAutomation, Actor: "go-test"},
	}
}

func (r *rig) create(t testing.TB, req sandboxer.CreateRequest) *sandboxer.Sandbox {
	t.Helper()
	s, err := r.Create(t.Context(), req)
	if s != nil {
		t.Cleanup(func() { r.destroy(t, s.ID) })
	}
	if err != nil {
		t.Fatalf("create: %v\n%s", err, logOf(err))
	}
	return s
}

// destroy removes a sandbox and looks at the engine and the disk itself.
func (r *rig) destroy(t testing.TB, id string) {
	t.Helper()
	if _, err := r.Destroy(context.WithoutCancel(t.Context()), id); err != nil {
		t.Errorf("destroy: %v", err)
	}
	r.assertNothing(t, id)
}

// assertNothing asks the engine and the file system, not the library.
func (r *rig) assertNothing(t testing.TB, id string) {
	t.Helper()
	for _, left := range r.leftovers(id) {
		t.Errorf("left of %s: %s", id, left)
	}
}

func (r *rig) leftovers(id string) []string { return hosttest.Leftovers(r.root, id) }

// assertRootEmpty checks that the host's directory holds no sandbox's files,
// and before long no note of what its builds left on the engine.
func (r *rig) assertRootEmpty(t testing.TB) {
	t.Helper()
	if r.host.CacheTTL > 0 { // the rest of the cache leaves with the directory
		_ = os.WriteFile(filepath.Join(r.root, "cache", "ttl"), []byte("0\n"), 0o600)
	}
	notes := filepath.Join(r.root, "cache", "steps")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if entries, _ := os.ReadDir(notes); len(entries) == 0 {
			break
		}
	}
	dirs := []string{"sb", "lock", "net", "cache/steps"}
	if r.host.CacheTTL == 0 {
		dirs = append(dirs, "cache/src")
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(r.root, dir))
		if err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
		for _, e := range entries {
			t.Errorf("left in the host's directory: %s/%s", dir, e.Name())
		}
	}
}

// get asks a service of a sandbox over a connection of the library's.
func get(t testing.TB, c *sandboxer.Client, id, service string, port int, path string) string {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx, id, service, port) },
	}}
	resp, err := client.Get("http://" + service + path)
	if err != nil {
		t.Fatalf("asking %s of %s: %v", service, id, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func logOf(err error) string {
	var stage *sandboxer.StageError
	var notReady *sandboxer.NotReadyError
	switch {
	case errors.As(err, &notReady):
		return notReady.Log
	case errors.As(err, &stage):
		return stage.Log
	}
	return ""
}

func readAll(t testing.TB, r io.ReadCloser) string {
	t.Helper()
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
