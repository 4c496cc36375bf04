//go:build linux

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// dockerfile makes an image of the program.
const dockerfile = "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n"

// unique makes a Dockerfile whose images no other build has use for.
func unique(dockerfile string) string {
	return strings.Replace(dockerfile, "FROM scratch\n", "FROM scratch\nENV TEST="+newID()+"\n", 1)
}

// full has every kind of object, and a file from the workspace.
const full = `
services:
  web:
    image: sandboxer.local/{id}/web:g1
    build: {context: "{dir}/src", labels: {dev.sandboxer.id: "{id}"}}
    labels: {labels}
    volumes: ["data:/data", "{dir}/src/conf:/conf:ro", /anonymous]
networks:
  default: {internal: true, labels: {labels}, ipam: {config: [{subnet: "{subnet}"}]}}
volumes:
  data: {labels: {labels}}
`

func TestWholeLife(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, g *rig) { live(t, g) })
	t.Run("root with spaces and quotes", func(t *testing.T) {
		t.Parallel()
		live(t, localRig(t, Config{Root: filepath.Join(t.TempDir(), `it's "a" $HOME of & its;own`)}))
	})
}

func live(t *testing.T, g *rig) {
	ctx := t.Context()
	s := g.reserve(map[string]string{"Dockerfile": unique(dockerfile), "conf/a": "a"})
	if g.reaper() == "" {
		t.Error("no reaper is on duty after the reservation")
	}
	out := s.mustRun(full)
	if !strings.HasPrefix(out, "::stage queue\n") || !strings.Contains(out, "\n::stage up\n") {
		t.Errorf("output lacks stages:\n%s", out)
	}
	objects, err := g.Objects(ctx, s.id)
	if err != nil || len(objects) != 4 {
		t.Errorf("objects %v, error %v; want one of each kind", objects, err)
	}

	sight, err := g.Look(ctx, s.id)
	if err != nil || !sight.Present || sight.Destroying || sight.Generation != 1 || sight.Attempt != s.Attempt || sight.Root != g.root || string(sight.Plan) != `{"plan":1}` {
		t.Errorf("looked at %+v, error %v", sight, err)
	}
	entries, err := g.List(ctx)
	if err != nil || len(entries) != 1 || entries[0].Generation != 1 || string(entries[0].Meta) != `{"id":"`+s.id+`"}` {
		t.Errorf("listed %+v, error %v", entries, err)
	}
	later := time.Now().Add(2 * time.Hour).Truncate(time.Second).UTC()
	if err := g.Renew(ctx, s.id, later); err != nil {
		t.Fatal(err)
	}
	if err := g.Renew(ctx, s.id, later.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if sight, err = g.Look(ctx, s.id); err != nil || !sight.Expires.Equal(later) {
		t.Errorf("the lease ends %v, error %v; want %v", sight.Expires, err, later)
	}

	removal, err := g.Teardown(ctx, s.id, 1)
	if err != nil || removal.VerifiedAt.IsZero() || len(removal.Residue) > 0 {
		t.Errorf("removal %+v, error %v", removal, err)
	}
	kinds := map[string]int{}
	for _, r := range removal.Removed {
		kinds[r.Kind]++
	}
	for _, kind := range []string{"container", "network", "volume", "image", "directory"} {
		if kinds[kind] != 1 {
			t.Errorf("%d of kind %s removed, want 1: %v", kinds[kind], kind, removal.Removed)
		}
	}
	g.assertNothing(s.id)
	for _, image := range steps(out) {
		if g.has("image", image) {
			t.Errorf("image %s of a step of the build is left", image)
		}
	}
	if sight, err = g.Look(ctx, s.id); err != nil || sight.Present {
		t.Errorf("afterwards looked at %+v, error %v", sight, err)
	}
	assertIs(t, g.Renew(ctx, s.id, later), sandboxer.ErrConflict)
	if entries, err := os.ReadDir(filepath.Join(g.root, "slots")); err != nil || len(entries) == 0 {
		t.Errorf("the root itself is gone: %v", err)
	}
}

// steps are the images that the classic builder reported.
func steps(out string) []string {
	var images []string
	for line := range strings.Lines(out) {
		if _, id, ok := strings.Cut(strings.TrimSpace(line), "---> "); ok && len(id) == 12 {
			images = append(images, id)
		}
	}
	return images
}
