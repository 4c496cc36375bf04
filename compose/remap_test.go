//go:build linux

package compose_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// TestUsersAreRemapped: on an engine that takes root in a container for another
// user, a sandbox runs, says so, and no file of a repository undoes it.
func TestUsersAreRemapped(t *testing.T) {
	hosttest.Require(t)
	if out, err := exec.Command(userNamespaces[0], userNamespaces[1:]...).CombinedOutput(); err != nil {
		t.Skipf("the kernel gives no user namespaces: %v: %s", err, out)
	}
	engine := enginetest.StartDaemon(t, `{"userns-remap": "default"}`)
	t.Setenv("DOCKER_HOST", "unix://"+engine.Socket) // for what the test asks itself
	image := importedImage(t)
	x := expose(t, &machine{engine: engine}, image)
	status, err := x.ext.ProbeHost(t.Context(), "here")
	if err != nil || status.Facts["userns_remap"] != "true" || status.Facts["rootless"] != "false" {
		t.Fatalf("the host's facts are %v, %v", status.Facts, err)
	}
	repo := repotest.New(t, map[string]string{"content/page.txt": "page", "compose.yaml": strings.ReplaceAll(`
services:
  web: {build: ., command: [serve, "8080", hello], volumes: ["state:/state", "./content:/content:ro"], depends_on: {seed: {condition: service_completed_successfully}}}
  seed: {image: IMAGE, command: [write, /state/seed, planted], volumes: ["state:/state"]}
volumes: {state: {}}
`, "IMAGE", image)})
	box := x.create(t, request(repo))
	wantControl(t, box, "isolation.user_namespace", sandboxer.Enforced, "another user outside")
	if of := strings.Fields(get(t, x.Client, box.ID, "web", 8080, "/file?path=/proc/self/uid_map")); len(of) != 3 || of[0] != "0" || of[1] == "0" {
		t.Errorf("users are mapped as %q", of)
	}
	for path, want := range map[string]string{"/state/seed": "planted", "/content/page.txt": "page"} {
		if text := get(t, x.Client, box.ID, "web", 8080, "/file?path="+path); text != want {
			t.Errorf("%s holds %q, want %q", path, text, want)
		}
	}
	x.realAndGone(t, danger{files: oneService(`userns_mode: host, command: [show, /proc/self/uid_map, "0"]`), harm: says("4294967295"), rule: "USERNS"})
}
