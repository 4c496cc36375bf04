package directory_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/directory"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// TestConformance: the extension keeps every promise of the interface.
func TestConformance(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	extensiontest.Run(t, extensiontest.Harness{
		New:     func() (sandboxer.Extension, error) { return directory.Extension{Root: root}, nil },
		Request: request(t),
		Leftovers: func(_ context.Context, id string) ([]string, error) {
			entries, err := os.ReadDir(root)
			if os.IsNotExist(err) {
				return nil, nil
			}
			var left []string
			for _, e := range entries {
				if strings.Contains(e.Name(), id) {
					left = append(left, "directory "+e.Name())
				}
			}
			return left, err
		},
		Invalid: []sandboxer.ProvisionRequest{{Host: "here", Profile: profile, Inputs: map[string]string{"repo": "/no/such/tree"}}},
	})
	if left, _ := filepath.Glob(filepath.Join(root, ".*")); len(left) > 0 {
		t.Errorf("left in the root: %q", left)
	}
}

var profile = sandboxer.Profile{ID: "profile.copy", Isolation: sandboxer.IsolationContainer}

// request copies a tree of some hundred files, so that there is time to
// interfere.
func request(t *testing.T) sandboxer.ProvisionRequest {
	t.Helper()
	tree := t.TempDir()
	for i := range 20 {
		dir := filepath.Join(tree, fmt.Sprint("d", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for j := range 20 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", j)), []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return sandboxer.ProvisionRequest{
		Host: "here", Profile: profile, Inputs: map[string]string{"repo": tree},
		Consumer: sandboxer.Consumer{Project: "tests", ActorType: sandboxer.ActorAutomation, Actor: "go-test"},
	}
}

// TestThroughTheClient: with the client it is an extension like any other.
func TestThroughTheClient(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	copies := profile
	copies.Inputs = map[string]sandboxer.Input{"repo": {Required: true}}
	copies.TTL, copies.MaxTTL = sandboxer.DefaultReadyBound, sandboxer.DefaultReadyBound
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{directory.Extension{Root: root}},
		Profiles:   []sandboxer.Profile{copies}, Store: sandboxer.NewMemoryStore(),
	})
	if err != nil {
		t.Fatal(err)
	}
	req := request(t)
	box, err := client.Create(t.Context(), sandboxer.CreateRequest{Profile: copies.ID, Inputs: req.Inputs, Consumer: req.Consumer})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(box.Reachability.Workdir, "d19", "f19")); err != nil || string(text) != "text" {
		t.Errorf("the copy has %q, %v", text, err)
	}
	if box, err = client.Recreate(t.Context(), box.ID); err != nil || box.Generation != 2 {
		t.Errorf("recreated as generation %d, %v", box.Generation, err)
	}
	if box, err = client.Destroy(t.Context(), box.ID); err != nil || box.State != sandboxer.StateDestroyed {
		t.Errorf("destroyed: %s, %v", box.State, err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("left in the root: %v, %v", entries, err)
	}
}
