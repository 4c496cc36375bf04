//go:build linux

package host

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

// TestResidueSaysWhatToDo: where the engine does not let a network go, though
// no container is on it, the sandbox is not absent, and the hint says how it
// gets there. A docker command that removes no network stands in for an engine
// that counts an endpoint too many.
func TestResidueSaysWhatToDo(t *testing.T) {
	g := localRig(t, Config{})
	s := g.reserve(nil)
	s.mustRun(`
services:
  web: {image: "` + g.image() + `", command: [hold], labels: {labels}, stop_grace_period: 0s}
networks:
  default: {internal: true, labels: {labels}, ipam: {config: [{subnet: "{subnet}"}]}}
`)
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "docker"), []byte("#!/bin/sh\n[ \"$1 $2\" != 'network rm' ] || exit 1\nexec "+docker+" \"$@\"\n"), 0o755)
	t.Run("kept", func(t *testing.T) {
		t.Setenv("PATH", dir+":/usr/sbin:/usr/bin:/sbin:/bin")
		removal, err := g.another().Teardown(t.Context(), s.id, 1)
		assertIs(t, err, sandboxer.ErrResidue)
		if len(removal.Residue) != 1 || removal.Residue[0].Kind != "network" || !removal.VerifiedAt.IsZero() {
			t.Errorf("removal %+v, want the network as residue", removal)
		}
		if hint := sandboxer.Hint(err); !strings.Contains(hint, "restart the Docker Engine") {
			t.Errorf("hint %q", hint)
		}
	})
	if r, err := g.Teardown(t.Context(), s.id, 1); err != nil || r.VerifiedAt.IsZero() {
		t.Errorf("once it lets go: %+v, %v", r, err)
	}
}
