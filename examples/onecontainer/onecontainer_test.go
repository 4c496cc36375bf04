package onecontainer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/onecontainer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// TestConformance runs the kit that every extension must pass, on the real engine.
func TestConformance(t *testing.T) {
	image := imported(t)
	link := filepath.Join(t.TempDir(), "engine.sock")
	connect := func() error { return os.Symlink("/var/run/docker.sock", link) }
	if err := connect(); err != nil {
		t.Fatal(err)
	}
	profile := sandboxer.Profile{ID: "profile.one", Extension: onecontainer.ID, Isolation: sandboxer.IsolationContainer, Network: sandboxer.Network{Egress: sandboxer.EgressDeny}}
	request := sandboxer.ProvisionRequest{
		Host: "engine", Profile: profile, Inputs: map[string]string{"image": image, "repo": t.TempDir()},
		Consumer: sandboxer.Consumer{Project: "kit", ActorType: sandboxer.ActorAutomation, Actor: "go-test"},
	}
	vm, open, none, treeless, unknown := request, request, request, request, request
	vm.Profile.Isolation = sandboxer.IsolationVM
	open.Profile.Network.Egress = sandboxer.EgressAllow
	none.Inputs = map[string]string{"repo": "."}
	treeless.Inputs = map[string]string{"image": image}
	extensiontest.Run(t, extensiontest.Harness{
		New:       func() (sandboxer.Extension, error) { return &onecontainer.Extension{Engine: "unix://" + link}, nil },
		Request:   request,
		Leftovers: leftovers,
		Invalid:   []sandboxer.ProvisionRequest{vm, open, none, treeless},
		Disconnect: func(context.Context) (func() error, error) {
			return connect, os.Remove(link)
		},
		Timeout: time.Minute,
	})
	unknown.Inputs = map[string]string{"image": "no-such-image:never", "repo": "."}
	unknown.SandboxID, unknown.Generation = strings.ToLower("a"+rand.Text()[:19]), 1 // other runs may be under way
	x := new(onecontainer.Extension)
	h, err := x.Provision(t.Context(), unknown)
	if err == nil || !strings.Contains(err.Error(), "no-such-image") {
		t.Errorf("an image that the engine lacks: %v", err)
	}
	if _, err := x.Teardown(t.Context(), h); err != nil {
		t.Error(err)
	}
}

// TestClient uses it as a program would.
func TestClient(t *testing.T) {
	image, repo := imported(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(repo, "note"), []byte("from the working tree"), 0o600); err != nil {
		t.Fatal(err)
	}
	profile, err := sandboxer.ParseProfile("profile.yaml", []byte("id: profile.one\nextension: ext.one-container\nisolation: container\nttl: 1h\nmax_ttl: 1h\ninputs: {image: {}, repo: {}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{new(onecontainer.Extension)},
		Profiles:   []sandboxer.Profile{profile},
		Store:      sandboxer.NewMemoryStore(), // package sqlstore keeps records on disk
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	box, err := client.Create(t.Context(), sandboxer.CreateRequest{
		Profile: "profile.one", Inputs: map[string]string{"image": image, "repo": repo},
		Consumer: sandboxer.Consumer{Project: "demo", ActorType: sandboxer.ActorAgent, Actor: "me"},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("docker", "exec", box.Reachability.Services[0].Containers[0], "/app", "show", box.Reachability.Workdir+"/note", "0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "from the working tree") {
		t.Errorf("%v: %s", err, out)
	}
	if box, err = client.Destroy(t.Context(), box.ID); err != nil || box.State != sandboxer.StateDestroyed {
		t.Fatal(box, err)
	}
	if left, err := leftovers(t.Context(), box.ID); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// leftovers asks the engine, past the extension.
func leftovers(ctx context.Context, id string) ([]string, error) {
	var found []string
	for kind, args := range map[string][]string{"container": {"ps", "-aq", "--filter", "name=" + id}, "volume": {"volume", "ls", "-q", "--filter", "name=" + id}} {
		out, err := exec.CommandContext(ctx, "docker", args...).Output()
		if err != nil {
			return nil, err
		}
		for range strings.Fields(string(out)) {
			found = append(found, kind)
		}
	}
	return found, nil
}

// imported is an image of the test's own.
func imported(t *testing.T) string {
	t.Helper()
	hosttest.Require(t)
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
	load := exec.Command("docker", "import", "--change", `CMD ["/app","serve","8080","one"]`, "-")
	load.Stdin = &archive
	out, err := load.Output()
	if err != nil {
		t.Fatal(err)
	}
	image := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "rmi", "--force", image).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return image
}
