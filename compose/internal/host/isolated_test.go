//go:build linux

package host

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
)

// TestEngineOfItsOwn has parts that one engine is started for.
func TestEngineOfItsOwn(t *testing.T) {
	t.Parallel()
	d := enginetest.StartDaemon(t, "")
	g := localRig(t, Config{Socket: d.Socket})
	image := g.image()
	t.Run("failed build", func(t *testing.T) { failBuild(t, g.in(t)) })
	t.Run("killed build", func(t *testing.T) { killBuilds(t, g.in(t)) })
	t.Run("a neighbour's build", func(t *testing.T) { spareNeighbour(t, g.in(t)) })
	t.Run("shared build", func(t *testing.T) { shareBuilds(t, g.in(t)) })
	t.Run("engine stopped", func(t *testing.T) { destroyWithoutEngine(t, g.in(t), d, image) })
}

// TestProbeRefusesAnUnknownDefaultRuntime: some act on what a container's environment says, with the host's rights.
func TestProbeRefusesAnUnknownDefaultRuntime(t *testing.T) {
	t.Parallel()
	d := enginetest.StartDaemon(t, `{"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "runc"}}}`)
	g := localRig(t, Config{Socket: d.Socket})
	_, err := g.Probe(t.Context())
	assertIs(t, err, sandboxer.ErrUnavailable)
	if err == nil || !strings.Contains(err.Error(), "by nvidia unless told otherwise") || !strings.Contains(sandboxer.Hint(err), "default-runtime") {
		t.Errorf("error %v, hint %q", err, sandboxer.Hint(err))
	}
}

// everything on the engine but the test's own image.
func (g *rig) everything() string {
	g.t.Helper()
	var all []string
	for _, id := range strings.Fields(g.docker("image", "ls", "-aq", "--no-trunc")) {
		if !slices.Contains(*g.images, id) {
			about, _ := exec.Command("docker", "-H", "unix://"+g.cfg.Socket, "image", "inspect", "--format", "{{.Parent}} {{.Container}} {{.ContainerConfig.Cmd}}", id).CombinedOutput()
			all = append(all, "image "+id+" "+string(about))
		}
	}
	for _, id := range strings.Fields(g.docker("ps", "-aq")) {
		all = append(all, "container "+id)
	}
	return strings.Join(all, "\n")
}

const stepsDockerfile = `FROM scratch
COPY app /app
RUN ["/app", "write", "/a"]
COPY app Dockerfile /b/
ENTRYPOINT ["/app"]
`

func failBuild(t *testing.T, g *rig) {
	s := g.reserve(map[string]string{"Dockerfile": stepsDockerfile + `RUN ["/app", "fail"]` + "\n"})
	_, err := s.run(chatty)
	assertIs(t, err, sandboxer.ErrProvision)
	if g.everything() == "" {
		t.Error("the failed build left nothing by itself: this test proves nothing")
	}
	s.destroy()
	if left := g.everything(); left != "" {
		t.Errorf("a failed build left\n%s", left)
	}
}

func killBuilds(t *testing.T, g *rig) {
	for offset := 300 * time.Millisecond; offset < 2*time.Second; offset += 200 * time.Millisecond {
		s := g.reserve(map[string]string{"Dockerfile": unique(stepsDockerfile)})
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context(), s.Reserved, s.job(chatty), io.Discard) }()
		time.Sleep(offset)
		log, _ := os.ReadFile(filepath.Join(g.root, "sb", s.id, "jobs/up/out"))
		s.destroy()
		<-done
		if left := g.everything(); left != "" {
			t.Errorf("a build killed after %v left\n%s\nits log was\n%s", offset, left, log)
			return
		}
	}
}

// spareNeighbour kills a build while a step of a neighbour's, of which the
// engine does not know yet what it was made of, looks like one of its own. An
// image that was saved and loaded is one that the engine never learns it of.
func spareNeighbour(t *testing.T, g *rig) {
	s := g.reserve(map[string]string{"Dockerfile": unique(stepsDockerfile) + `RUN ["/app", "hold"]` + "\n"})
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context(), s.Reserved, s.job(chatty), io.Discard) }()
	holds := func() bool {
		log, _ := os.ReadFile(filepath.Join(g.root, "sb", s.id, "jobs/up/out"))
		return bytes.Contains(log, []byte(`"hold"]`))
	}
	if !eventually(time.Minute, holds) {
		t.Fatal("the build does not begin")
	}
	tree := t.TempDir()
	put(t, filepath.Join(tree, "Dockerfile"), []byte(unique(dockerfile)), 0o644)
	program, err := app()
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(tree, "app"), program, 0o755)
	build := exec.Command("docker", "-H", "unix://"+g.cfg.Socket, "build", "-q", "--label", "com.docker.compose.image.builder=classic", tree)
	build.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	out, err := build.Output()
	if err != nil {
		t.Fatal(err)
	}
	made := strings.TrimSpace(string(out))
	archive := filepath.Join(tree, "image.tar")
	g.docker("save", "-o", archive, made)
	g.docker("rmi", made)
	g.docker("load", "-i", archive)
	s.destroy()
	<-done
	if !g.has("image", made) {
		t.Errorf("the neighbour's image %s is gone", made)
	}
	g.docker("rmi", made)
	if left := g.everything(); left != "" {
		t.Errorf("left are\n%s", left)
	}
}

// shareBuilds destroys sandboxes while others build the same.
func shareBuilds(t *testing.T, g *rig) {
	tree := g.snapshot(map[string]string{"Dockerfile": stepsDockerfile})
	done := make(chan error)
	for worker := range 3 {
		go func() {
			var err error
			for range 2 {
				s := &sandbox{rig: g, id: newID(), tree: tree}
				s.Reserved, err = g.Reserve(t.Context(), s.reservation())
				if err == nil {
					err = g.Upload(t.Context(), s.Reserved, tree, "0:0", "x", nil)
				}
				if err == nil {
					err = s.Run(t.Context(), s.Reserved, s.job(strings.Replace(chatty, "network_mode", "command: [hold]\n    network_mode", 1)), io.Discard)
				}
				time.Sleep(time.Duration(worker) * 100 * time.Millisecond)
				s.destroy()
				if err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if left := g.everything(); left != "" {
		t.Errorf("builds of one tree left\n%s", left)
	}
}

func destroyWithoutEngine(t *testing.T, g *rig, d *enginetest.Daemon, image string) {
	s := g.reserve(nil)
	s.mustRun(held(image))
	d.Stop()
	for _, m := range []*Machine{g.Machine, g.another()} {
		r, err := m.Teardown(t.Context(), s.id, 1)
		assertIs(t, err, sandboxer.ErrUnavailable)
		if !r.VerifiedAt.IsZero() || sandboxer.Hint(err) == "" {
			t.Errorf("without an engine: removal %+v, hint %q", r, sandboxer.Hint(err))
		}
		if sight, err := m.Look(t.Context(), s.id); err != nil || !sight.Present {
			t.Errorf("without an engine: looked at %+v, error %v", sight, err)
		}
		_, err = m.Objects(t.Context(), s.id)
		assertIs(t, err, sandboxer.ErrUnavailable)
	}
	d.Start()
	s.destroy()
}
