//go:build linux

package host

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A daemon is a Docker Engine of the test's own, in namespaces of its own: it
// may be stopped, and nobody else works on it.
type daemon struct {
	t      testing.TB
	socket string
	dir    string
	cmd    *exec.Cmd
}

func isolated(t testing.TB) *daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("an engine of its own needs root")
	}
	dir, err := os.MkdirTemp("", "engine-") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, dir: dir, socket: filepath.Join(dir, "sock")}
	put(t, filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600)
	t.Cleanup(func() {
		d.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d.start()
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	const script = `ip link set lo up; exec dockerd --config-file "$1/daemon.json" -H "unix://$1/sock" --data-root "$1/data" --exec-root "$1/exec" ` +
		`--pidfile "$1/pid" --containerd-namespace "${1##*/}" --containerd-plugins-namespace "${1##*/}-plugins"`
	d.cmd = exec.Command("unshare", "-n", "-m", "sh", "-c", script, "sh", d.dir)
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	up := eventually(60*time.Second, func() bool {
		return exec.Command("docker", "-H", "unix://"+d.socket, "info").Run() == nil
	})
	if !up {
		text, _ := os.ReadFile(filepath.Join(d.dir, "log"))
		d.t.Fatalf("the engine does not start:\n%s", text)
	}
}

func (d *daemon) stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
	d.cmd = nil
}

// TestEngineOfItsOwn has parts that one engine is started for.
func TestEngineOfItsOwn(t *testing.T) {
	t.Parallel()
	d := isolated(t)
	g := localRig(t, Config{Socket: d.socket})
	image := g.image()
	t.Run("failed build", func(t *testing.T) { failBuild(t, g.in(t)) })
	t.Run("killed build", func(t *testing.T) { killBuilds(t, g.in(t)) })
	t.Run("shared build", func(t *testing.T) { shareBuilds(t, g.in(t)) })
	t.Run("engine stopped", func(t *testing.T) { destroyWithoutEngine(t, g.in(t), d, image) })
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

func destroyWithoutEngine(t *testing.T, g *rig, d *daemon, image string) {
	s := g.reserve(nil)
	s.mustRun(held(image))
	d.stop()
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
	d.start()
	s.destroy()
}
