//go:build linux

package host

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/compose/internal/remote"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// A rig is a Machine over a root directory of the test's own, and the engine
// it works on, which the test asks by itself.
type rig struct {
	*Machine
	t         testing.TB
	root      string
	transport func() remote.Host
	real      *engine.Client
	images    *[]string // of the test
}

// in is the rig for a part of the test.
func (g *rig) in(t testing.TB) *rig {
	part := *g
	part.t = t
	return &part
}

// onEach runs a test on this machine and through a real SSH server.
func onEach(t *testing.T, test func(t *testing.T, g *rig)) {
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		test(t, localRig(t, Config{}))
	})
	t.Run("ssh", func(t *testing.T) {
		t.Parallel()
		server := sshtest.Start(t, sshtest.Options{})
		test(t, newRig(t, Config{}, func() remote.Host { return sshHost(t, server, server.Addr) }))
	})
}

func localRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	return newRig(t, cfg, func() remote.Host { return localHost(t) })
}

// proxyRig reaches the host through a proxy that breaks the link.
func proxyRig(t testing.TB) (*rig, *sshtest.Proxy) {
	t.Helper()
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr)
	return newRig(t, Config{}, func() remote.Host { return sshHost(t, server, proxy.Addr) }), proxy
}

func localHost(t testing.TB) remote.Host {
	t.Helper()
	h, err := remote.Local()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func sshHost(t testing.TB, server *sshtest.Server, addr string) remote.Host {
	t.Helper()
	h, err := remote.SSH(remote.SSHConfig{
		Address: addr, User: server.User, KnownHosts: []string{server.KnownHostsFor(addr)}, IdentityFiles: []string{server.IdentityFile},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newRig(t testing.TB, cfg Config, transport func() remote.Host) *rig {
	t.Helper()
	hosttest.Turn(t)
	if cfg.Root == "" {
		cfg.Root = filepath.Join(t.TempDir(), "root")
	}
	if cfg.Socket == "" {
		cfg.Socket = hosttest.Socket()
	}
	socket := cfg.Socket
	g := &rig{t: t, root: cfg.Root, transport: transport, images: new([]string)}
	g.real = engine.New(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", socket) })
	if err := g.real.Ping(t.Context()); err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	g.Machine = New(cfg, transport())
	t.Cleanup(func() { // after those of the sandboxes
		g.assertRootEmpty()
		for _, id := range *g.images {
			if err := g.real.RemoveImage(context.Background(), id, true); err != nil {
				t.Error(err)
			}
		}
		g.Close()
		g.real.Close()
	})
	return g
}

// another is a second process's Machine for the same host.
func (g *rig) another() *Machine {
	m := New(g.cfg, g.transport())
	g.t.Cleanup(func() { m.Close() })
	return m
}

// source is where all trees of the tests come from.
const source = "repository"

func newID() string { return "t" + strings.ToLower(rand.Text()[:19]) }

// app is the program of the tests' containers, compiled once.
var app = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "app-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "app"), "./testdata/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "app"))
})

// A sandbox is one that a test works on. Its cleanup removes it and asserts
// that nothing of it is left.
type sandbox struct {
	*rig
	id   string
	tree *workspace.Snapshot
	*Reserved
}

// reserve reserves and uploads a working tree of the given files and the
// program, named app.
func (g *rig) reserve(files map[string]string) *sandbox {
	g.t.Helper()
	s := &sandbox{rig: g, id: newID(), tree: g.snapshot(files)}
	g.t.Cleanup(s.destroy)
	r, err := g.Reserve(g.t.Context(), s.reservation())
	if err != nil {
		g.t.Fatal(err)
	}
	s.Reserved = r
	if err := g.Upload(g.t.Context(), r, s.tree, "0:0", source, nil); err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *rig) snapshot(files map[string]string) *workspace.Snapshot {
	g.t.Helper()
	program, err := app()
	if err != nil {
		g.t.Fatal(err)
	}
	dir := g.t.TempDir()
	put(g.t, filepath.Join(dir, "app"), program, 0o755)
	for name, text := range files {
		put(g.t, filepath.Join(dir, name), []byte(text), 0o644)
	}
	return take(g.t, dir)
}

func take(t testing.TB, dir string) *workspace.Snapshot {
	t.Helper()
	tree, err := workspace.Take(t.Context(), dir, workspace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func put(t testing.TB, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}

func (s *sandbox) reservation() Reservation {
	return Reservation{
		ID: s.id, Generation: 1, Attempt: rand.Text(), Expires: time.Now().Add(time.Hour),
		Tree: s.tree.Digest(), Source: source, Meta: []byte(`{"id":"` + s.id + `"}`),
	}
}

// job renders a compose file: {labels}, {id}, {dir} and {subnet} stand for the
// sandbox's.
func (s *sandbox) job(compose string) Job {
	j := Job{Project: "sbx-" + s.id, Build: strings.Contains(compose, "build:"), Bound: time.Minute, Networks: map[string]netip.Prefix{}}
	if strings.Contains(compose, "{subnet}") {
		j.Networks["default"] = randomSubnet()
		compose = strings.ReplaceAll(compose, "{subnet}", j.Networks["default"].String())
	}
	compose = strings.NewReplacer(
		"{labels}", fmt.Sprintf("{%s: %s, %s: %q}", LabelID, s.id, LabelRoot, s.RootID), "{id}", s.id, "{dir}", inYAML(s.Dir()),
	).Replace(compose)
	if j.Build {
		j.Dockerfiles = []string{s.Dir() + "/src/Dockerfile"}
	}
	j.Files = []File{{Path: "compose.yaml", Mode: 0o600, Data: []byte(compose)}, {Path: "plan.json", Mode: 0o600, Data: []byte(`{"plan":1}`)}}
	return j
}

// inYAML is a text as it stands between double quotes in a compose file.
func inYAML(text string) string {
	quoted := strings.ReplaceAll(strconv.Quote(text), "$", "$$")
	return quoted[1 : len(quoted)-1]
}

// randomSubnet is one of thousands, so that tests seldom want the same.
func randomSubnet() netip.Prefix {
	b := make([]byte, 2)
	rand.Read(b)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 202, b[0], b[1] & 0xf0}), 28)
}

// run runs a job and returns what it wrote.
func (s *sandbox) run(compose string) (string, error) {
	s.t.Helper()
	var out bytes.Buffer
	err := s.Run(s.t.Context(), s.Reserved, s.job(compose), &out)
	return out.String(), err
}

func (s *sandbox) mustRun(compose string) string {
	s.t.Helper()
	out, err := s.run(compose)
	if err != nil {
		s.t.Fatalf("run: %v\n%s", err, out)
	}
	return out
}

func (s *sandbox) destroy() {
	s.t.Helper()
	if _, err := s.Teardown(context.Background(), s.id, 0); err != nil {
		s.t.Errorf("teardown: %v", err)
	}
	s.assertNothing(s.id)
}

// assertNothing asks the engine and the file system, not the Machine, whether
// anything of the sandboxes is left.
func (g *rig) assertNothing(ids ...string) {
	g.t.Helper()
	for _, id := range ids {
		for _, left := range g.onEngine(id) {
			g.t.Errorf("left on the engine: %v", left)
		}
		_ = filepath.WalkDir(g.root, func(path string, _ os.DirEntry, err error) error {
			if err == nil && strings.Contains(filepath.Base(path), id) {
				g.t.Errorf("left in the root directory: %s", path)
			}
			return nil
		})
	}
}

func (g *rig) onEngine(id string) engine.Inventory {
	g.t.Helper()
	var all engine.Inventory
	for _, label := range []string{LabelID + "=" + id, "com.docker.compose.project=sbx-" + id} {
		found, err := g.real.Objects(context.Background(), label)
		if err != nil {
			g.t.Error(err)
		}
		all = append(all, found...)
	}
	return all
}

// assertRootEmpty looks for files of sandboxes, and for processes that have to
// do with the root.
func (g *rig) assertRootEmpty() {
	g.t.Helper()
	// the reaper looks around to its end, and removes what builds left once no other build stands on it
	if !eventually(time.Minute, func() bool { return len(g.processes("")) == 0 }) {
		g.t.Errorf("left running: %q", g.processes(""))
	}
	for _, dir := range []string{"sb", "lock", "net", "cache/src", "cache/steps"} {
		entries, err := os.ReadDir(filepath.Join(g.root, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			g.t.Error(err)
		}
		for _, e := range entries {
			g.t.Errorf("left in the root directory: %s/%s", dir, e.Name())
		}
	}
}

// processes lists those whose command line names something below the root.
func (g *rig) processes(below string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		if bytes.Contains(line, []byte(filepath.Join(g.root, below))) {
			found = append(found, strings.Split(file, "/")[2]+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	slices.Sort(found)
	return found
}

// reaper returns the host's reaper's process id, "" if there is none.
func (g *rig) reaper() string {
	for _, p := range g.processes("slots/reaper.sh") {
		pid, _, _ := strings.Cut(p, " ")
		return pid
	}
	return ""
}

func eventually(limit time.Duration, what func() bool) bool {
	for deadline := time.Now().Add(limit); !what(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// image makes an image of the program for a test, and returns its reference.
func (g *rig) image() string {
	g.t.Helper()
	program, err := app()
	if err != nil {
		g.t.Fatal(err)
	}
	reference := "sandboxer.local/test/host:" + newID()
	id, err := g.real.ImportImage(context.Background(), reference, archive(g.t, program), `ENTRYPOINT ["/app"]`, "LABEL "+enginetest.LabelKey+"="+newID())
	if err != nil {
		g.t.Fatal(err)
	}
	*g.images = append(*g.images, id)
	return reference
}

// docker asks the engine by the command that people use.
func (g *rig) docker(args ...string) string {
	g.t.Helper()
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+g.cfg.Socket)
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Errorf("docker %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// has reports whether the engine has an object.
func (g *rig) has(kind, id string) bool {
	cmd := exec.Command("docker", kind, "inspect", id)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+g.cfg.Socket)
	return cmd.Run() == nil
}

func archive(t testing.TB, program []byte) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func assertIs(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("error is %v, want one that is %v", err, target)
	}
}
