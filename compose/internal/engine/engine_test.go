package engine_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
)

func TestVersionAndInfoDescribeTheEngine(t *testing.T) {
	e := enginetest.Start(t)
	version, err := e.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if version.Version != info.ServerVersion || version.Version == "" {
		t.Errorf("version %q, info %q", version.Version, info.ServerVersion)
	}
	if version.OS != "linux" || info.OSType != "linux" || version.Arch == "" || info.Architecture == "" || version.KernelVersion == "" || info.DefaultRuntime == "runc" && version.Runc == "" {
		t.Errorf("platform %+v, %+v", version, info)
	}
	if info.NCPU < 1 || info.MemTotal < 64<<20 || info.StorageDriver == "" || !strings.HasPrefix(info.RootDir, "/") {
		t.Errorf("machine %+v", info)
	}
	if info.CgroupVersion != "1" && info.CgroupVersion != "2" {
		t.Errorf("cgroup version %q", info.CgroupVersion)
	}
	if !slices.ContainsFunc(info.Runtimes, func(r engine.Runtime) bool { return r.Name == info.DefaultRuntime && r.Path != "" }) {
		t.Errorf("runtimes %q without the default %q", info.Runtimes, info.DefaultRuntime)
	}
	if age := time.Since(info.SystemTime).Abs(); age > time.Minute {
		t.Errorf("system time is off by %v", age)
	}
}

func TestContainerFromCreationToRemoval(t *testing.T) {
	e := enginetest.Start(t)
	image := e.Program("testdata/program")
	ctx := t.Context()
	name := "sandboxer-test-" + e.ID
	network := e.Network(name, nil)
	spec := engine.ContainerSpec{Name: name, Image: image, Cmd: []string{"sleep"}, Labels: e.Labels(), Network: network}

	id, err := e.CreateContainer(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if c := only(t, e); c.State != "created" || c.ID != id || c.Name != name || c.Image != image {
		t.Errorf("created: %+v", c)
	}
	if _, err := e.CreateContainer(ctx, spec); !engine.IsConflict(err) {
		t.Errorf("a second container of that name: %v", err)
	}
	if err := e.KillContainer(ctx, id, "SIGKILL"); !engine.IsConflict(err) {
		t.Errorf("kill what does not run: %v", err)
	}
	if _, err := e.Exec(ctx, id, "/program", "cat"); !engine.IsConflict(err) {
		t.Errorf("exec in what does not run: %v", err)
	}

	for range 2 { // the second time it runs already
		if err := e.StartContainer(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	details, err := e.InspectContainer(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := details.Networks[name]
	if endpoint.NetworkID != network || !endpoint.IPv4.Is4() {
		t.Errorf("networks: %+v", details.Networks)
	}
	want := engine.ContainerDetails{
		ID: id, Name: name, Image: image, ImageID: only(t, e).ImageID, Labels: e.Labels(), NetworkMode: network,
		State: engine.State{Status: "running", Running: true}, RestartPolicy: engine.RestartPolicy{Name: "no"}, Runtime: "runc",
	}
	if diff := cmp.Diff(want, details, cmpopts.IgnoreTypes(time.Time{}, map[string]engine.Endpoint{})); diff != "" {
		t.Errorf("running, -want +got:\n%s", diff)
	}
	if age := time.Since(details.State.StartedAt).Abs(); age > time.Minute || !details.State.FinishedAt.IsZero() {
		t.Errorf("times: %+v", details.State)
	}
	if c := only(t, e); c.State != "running" || c.Networks[name] != endpoint {
		t.Errorf("listed as %+v, inspected as %+v", c, endpoint)
	}

	if err := e.RemoveContainer(ctx, id, engine.Removal{}); !engine.IsConflict(err) {
		t.Errorf("remove what runs: %v", err)
	}
	for range 2 { // the second time it has ended already
		if err := e.StopContainer(ctx, id, time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if details, err = e.InspectContainer(ctx, id); err != nil || details.State.Status != "exited" || details.State.Running {
		t.Errorf("stopped: %+v %v", details.State, err)
	}
	if err := e.RemoveContainer(ctx, id, engine.Removal{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.InspectContainer(ctx, id); !engine.IsNotFound(err) {
		t.Errorf("inspect what is removed: %v", err)
	}
	if err := e.RemoveContainer(ctx, id, engine.Removal{Force: true}); !engine.IsNotFound(err) {
		t.Errorf("remove what is removed: %v", err)
	}
	if _, err := e.Exec(ctx, id, "/program", "cat"); !engine.IsNotFound(err) {
		t.Errorf("exec in what is removed: %v", err)
	}
}

// only is the one container of the test.
func only(t *testing.T, e *enginetest.Engine) engine.Container {
	t.Helper()
	containers, err := e.Containers(t.Context(), e.Label)
	if err != nil || len(containers) != 1 {
		t.Fatalf("%v %v", containers, err)
	}
	return containers[0]
}

func TestContainerIsAsConfinedAsItsSpec(t *testing.T) {
	e := enginetest.Start(t)
	id := e.Run(engine.ContainerSpec{
		Image: e.Program("testdata/program"), Cmd: []string{"status"}, User: "1234:1234", Network: "none", ReadOnly: true,
		CapDrop: []string{"ALL"}, CapAdd: []string{"FOWNER"}, SecurityOpt: []string{"no-new-privileges"},
		Memory: 64 << 20, Pids: 50,
	})
	if code, err := e.WaitContainer(t.Context(), id); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	text := logs(t, e, id, engine.LogOptions{})
	for _, line := range []string{"CapBnd:\t0000000000000008", "NoNewPrivs:\t1", "uid 1234", "read-only file system"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	details, err := e.InspectContainer(t.Context(), id)
	if err != nil || details.NetworkMode != "none" || details.Networks["none"].IPv4.IsValid() {
		t.Errorf("network: %+v %v", details, err)
	}
}

func TestStateTellsHowAContainerEnded(t *testing.T) {
	e := enginetest.Start(t)
	image := e.Program("testdata/program")

	failed := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"print", "7"}, Network: "none"})
	if code, err := e.WaitContainer(t.Context(), failed); code != 7 || err != nil {
		t.Errorf("wait: %d %v", code, err)
	}
	if s := state(t, e, failed); s.Status != "exited" || s.ExitCode != 7 || s.OOMKilled || s.FinishedAt.Before(s.StartedAt) {
		t.Errorf("exit 7: %+v", s)
	}

	// The engine would not surely notice it of a first process, whose end takes the account of its memory away;
	// of another's it tells when the first ends.
	hungry := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"sleep"}, Network: "none", Memory: 32 << 20})
	eater, err := e.Exec(t.Context(), hungry, "/program", "eat")
	if err != nil {
		t.Fatal(err)
	}
	defer eater.Close()
	if code, err := eater.ExitCode(t.Context()); code != 137 || err != nil {
		t.Errorf("eating: %d %v", code, err)
	}
	if err := e.StopContainer(t.Context(), hungry, 0); err != nil {
		t.Fatal(err)
	}
	if s := state(t, e, hungry); !s.OOMKilled {
		t.Errorf("out of memory: %+v", s)
	}

	broken, err := e.CreateContainer(t.Context(), engine.ContainerSpec{Image: image, Labels: e.Labels(), User: "nobody-known"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.StartContainer(t.Context(), broken); err == nil {
		t.Error("started as a user who does not exist")
	}
	if s := state(t, e, broken); s.Status != "created" || s.Error == "" {
		t.Errorf("not started: %+v", s)
	}
}

func state(t *testing.T, e *enginetest.Engine, id string) engine.State {
	t.Helper()
	details, err := e.InspectContainer(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return details.State
}

func TestHealthIsTheLastProbes(t *testing.T) {
	e := enginetest.Start(t)
	e.Program("testdata/program")
	images, err := e.Images(t.Context(), e.Label)
	if err != nil || len(images) != 1 {
		t.Fatal(images, err)
	}
	id := e.Create("/containers/create", map[string]any{
		"Image": images[0].ID, "Cmd": []string{"sleep"}, "Labels": e.Labels(),
		"Healthcheck": map[string]any{"Test": []string{"CMD", "/program", "print", "5"}, "Interval": time.Second / 5, "Retries": 2},
		"HostConfig":  map[string]any{"NetworkMode": "none"},
	})
	events := watch(t, e, engine.EventFilter{Labels: []string{e.Label}, Kinds: []engine.Kind{engine.KindContainer}})
	if err := e.StartContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if h := state(t, e, id).Health; h.Status != "starting" {
		t.Errorf("started: %+v", h)
	}
	for ev := range events {
		if ev.Action == "health_status: unhealthy" {
			break
		}
	}
	h := state(t, e, id).Health
	if h.Status != "unhealthy" || h.FailingStreak < 2 || !strings.Contains(h.Output, "three") {
		t.Errorf("failing: %+v", h)
	}
}

func TestPublishedPortsAreSeen(t *testing.T) {
	e := enginetest.Start(t)
	id := e.Create("/containers/create", map[string]any{
		"Image": e.Program("testdata/program"), "Cmd": []string{"sleep"}, "Labels": e.Labels(),
		"ExposedPorts": map[string]any{"80/tcp": struct{}{}, "53/udp": struct{}{}},
		"HostConfig":   map[string]any{"PortBindings": map[string]any{"80/tcp": []map[string]string{{"HostIp": "127.0.0.1"}}}},
	})
	if err := e.StartContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	details, err := e.InspectContainer(t.Context(), id)
	if err != nil || len(details.Ports) != 1 {
		t.Fatal(details.Ports, err)
	}
	p := details.Ports[0]
	if p.Container != 80 || p.Protocol != "tcp" || p.Host.Addr() != netip.MustParseAddr("127.0.0.1") || p.Host.Port() == 0 {
		t.Errorf("port: %+v", p)
	}
}

func TestBindsMustExist(t *testing.T) {
	e := enginetest.Start(t)
	dir := t.TempDir()
	image := e.Program("testdata/program")
	missing := engine.ContainerSpec{Image: image, Labels: e.Labels(), Binds: []engine.Bind{{Source: dir + "/none", Target: "/d"}}}
	if id, err := e.CreateContainer(t.Context(), missing); err == nil {
		t.Errorf("created %s with a source that is not there", id)
	}
	spec := engine.ContainerSpec{
		Image: image, Cmd: []string{"sleep"}, Network: "none", ReadOnly: true,
		Binds: []engine.Bind{{Source: dir, Target: "/d:with colon"}},
	}
	id := e.Run(spec)
	if s := state(t, e, id); !s.Running {
		t.Errorf("state: %+v", s)
	}
}

func hasType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
