package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
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
	if version.OS != "linux" || info.OSType != "linux" || version.Arch == "" || info.Architecture == "" || version.KernelVersion == "" {
		t.Errorf("platform %+v, %+v", version, info)
	}
	if info.NCPU < 1 || info.MemTotal < 64<<20 || info.StorageDriver == "" || !strings.HasPrefix(info.RootDir, "/") {
		t.Errorf("machine %+v", info)
	}
	if info.CgroupVersion != "1" && info.CgroupVersion != "2" {
		t.Errorf("cgroup version %q", info.CgroupVersion)
	}
	if !slices.Contains(info.Runtimes, info.DefaultRuntime) {
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
		State: engine.State{Status: "running", Running: true}, RestartPolicy: engine.RestartPolicy{Name: "no"},
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

func TestNetworkDetailsAndMembership(t *testing.T) {
	e := enginetest.Start(t)
	ctx := t.Context()
	name := "sandboxer-test-" + e.ID
	network := e.Network(name, map[string]any{
		"Internal": true,
		"Options":  map[string]string{"com.docker.network.bridge.inhibit_ipv4": "true"},
		"IPAM":     map[string]any{"Config": []map[string]string{{"Subnet": "10.213.77.0/28"}}},
	})
	id := e.Run(engine.ContainerSpec{Name: name, Image: e.Program("testdata/program"), Cmd: []string{"sleep"}})
	if err := e.ConnectNetwork(ctx, network, id); err != nil {
		t.Fatal(err)
	}
	details, err := e.InspectNetwork(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	want := engine.NetworkDetails{
		Network:    engine.Network{ID: network, Name: name, Driver: "bridge", Internal: true, Labels: e.Labels()},
		Options:    map[string]string{"com.docker.network.bridge.inhibit_ipv4": "true"},
		Subnets:    []netip.Prefix{netip.MustParsePrefix("10.213.77.0/28")},
		Containers: map[string]string{id: name},
	}
	if diff := cmp.Diff(want, details, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if c := only(t, e); !want.Subnets[0].Contains(c.Networks[name].IPv4) {
		t.Errorf("address: %+v", c.Networks)
	}

	var refused *engine.Error
	if err := e.RemoveNetwork(ctx, network); !errors.As(err, &refused) || refused.StatusCode != http.StatusForbidden {
		t.Errorf("remove a network in use: %v", err)
	}
	if err := e.DisconnectNetwork(ctx, network, id, true); err != nil {
		t.Fatal(err)
	}
	if err := e.RemoveNetwork(ctx, network); err != nil {
		t.Fatal(err)
	}
	if _, err := e.InspectNetwork(ctx, network); !engine.IsNotFound(err) {
		t.Errorf("inspect what is removed: %v", err)
	}
}

func TestObjectsListsAllKindsByExactLabels(t *testing.T) {
	e := enginetest.Start(t)
	ctx := t.Context()
	name := "sandboxer-test-" + e.ID
	if found, err := e.Objects(ctx, e.Label); err != nil || len(found) != 0 {
		t.Fatalf("before: %v %v", found, err)
	}
	image := e.Program("testdata/program")
	network := e.Network(name, nil)
	e.Volume(name)
	container := e.Run(engine.ContainerSpec{Name: name, Image: image, Cmd: []string{"print", "0"}, Network: network})
	if _, err := e.WaitContainer(ctx, container); err != nil {
		t.Fatal(err)
	}
	images, err := e.Images(ctx, e.Label)
	if err != nil || len(images) != 1 || images[0].Size == 0 || time.Since(images[0].Created).Abs() > time.Hour {
		t.Fatal(images, err)
	}

	want := engine.Inventory{
		{Kind: engine.KindContainer, ID: container, Name: name, State: "exited", Labels: e.Labels()},
		{Kind: engine.KindNetwork, ID: network, Name: name, Labels: e.Labels()},
		{Kind: engine.KindVolume, ID: name, Name: name, Labels: e.Labels()},
		{Kind: engine.KindImage, ID: images[0].ID, Name: image, Labels: e.Labels()},
	}
	found, err := e.Objects(ctx, e.Label)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, labels := range [][]string{
		{e.Label + "x"}, {e.Label[:len(e.Label)-1]}, {enginetest.LabelKey + "="}, {e.Label, "dev.sandboxer.other=1"},
	} {
		if found, err := e.Objects(ctx, labels...); err != nil || len(found) != 0 {
			t.Errorf("by %q: %v %v", labels, found, err)
		}
	}
	for _, o := range want {
		if o.Kind == engine.KindVolume {
			continue
		}
		cli, err := exec.Command("docker", string(o.Kind), "ls", "-aq", "--no-trunc", "--filter", "label="+e.Label).CombinedOutput()
		if o.Kind == engine.KindNetwork {
			cli, err = exec.Command("docker", "network", "ls", "-q", "--no-trunc", "--filter", "label="+e.Label).CombinedOutput()
		}
		if err != nil || strings.TrimSpace(string(cli)) != o.ID {
			t.Errorf("the docker command lists %s %q, not %q (%v)", o.Kind, cli, o.ID, err)
		}
	}

	for _, o := range want {
		if err := e.Remove(ctx, o); err != nil {
			t.Error(err)
		}
	}
	if found, err := e.Objects(ctx, e.Label); err != nil || found == nil || len(found) != 0 {
		t.Errorf("after: %v %v", found, err)
	}
}

func TestUntaggedImagesAreListed(t *testing.T) {
	e := enginetest.Start(t)
	for range 2 { // the second takes the reference from the first
		e.Program("testdata/program")
	}
	images, err := e.Images(t.Context(), e.Label)
	if err != nil || len(images) != 2 {
		t.Fatal(images, err)
	}
	tags := append(images[0].Tags, images[1].Tags...)
	if len(tags) != 1 {
		t.Errorf("tags: %q", tags)
	}
}

func TestVolumesGoWithTheirContainer(t *testing.T) {
	e := enginetest.Start(t)
	ctx := t.Context()
	name := "sandboxer-test-" + e.ID
	e.Volume(name)
	id := e.Create("/containers/create", map[string]any{
		"Image": e.Program("testdata/program"), "Labels": e.Labels(),
		"HostConfig": map[string]any{"Binds": []string{name + ":/v"}},
	})
	if err := e.RemoveVolume(ctx, name); !engine.IsConflict(err) {
		t.Errorf("remove a volume in use: %v", err)
	}
	if err := e.RemoveContainer(ctx, id, engine.Removal{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	volumes, err := e.Volumes(ctx, e.Label)
	if err != nil || len(volumes) != 1 || volumes[0].Driver != "local" || !strings.HasPrefix(volumes[0].Mountpoint, "/") {
		t.Errorf("a named volume stays: %+v %v", volumes, err)
	}
	if err := e.RemoveVolume(ctx, name); err != nil {
		t.Error(err)
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

func logs(t *testing.T, e *enginetest.Engine, id string, options engine.LogOptions) string {
	t.Helper()
	stream, err := e.Logs(t.Context(), id, options)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLogs(t *testing.T) {
	e := enginetest.Start(t)
	image := e.Program("testdata/program")
	id := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"print", "0"}, Network: "none"})
	if _, err := e.WaitContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got, want := logs(t, e, id, engine.LogOptions{}), "one\ntwo\nthree\n"; got != want {
		t.Errorf("all: %q, want %q", got, want)
	}
	if got, want := logs(t, e, id, engine.LogOptions{Tail: 2, Follow: true}), "two\nthree\n"; got != want {
		t.Errorf("the last two, to the end: %q, want %q", got, want)
	}
	line, _, _ := strings.Cut(logs(t, e, id, engine.LogOptions{Timestamps: true}), "\n")
	stamp, text, _ := strings.Cut(line, " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != "one" || time.Since(at).Abs() > time.Minute {
		t.Errorf("with time: %q", line)
	}

	terminal := e.Create("/containers/create", map[string]any{
		"Image": image, "Cmd": []string{"print", "0"}, "Labels": e.Labels(), "Tty": true,
		"HostConfig": map[string]any{"NetworkMode": "none"},
	})
	if err := e.StartContainer(t.Context(), terminal); err != nil {
		t.Fatal(err)
	}
	if got, want := logs(t, e, terminal, engine.LogOptions{Follow: true}), "one\r\ntwo\r\nthree\r\n"; got != want {
		t.Errorf("of a terminal: %q, want %q", got, want)
	}

	silent := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"print", "0"}, Network: "none", LogDriver: "none"})
	stream, err := e.Logs(t.Context(), silent, engine.LogOptions{})
	if err == nil {
		_, err = io.ReadAll(stream)
		stream.Close()
	}
	if !hasType[*engine.Error](err) {
		t.Errorf("of a driver that keeps none: %v", err)
	}
	if _, err := e.Logs(t.Context(), "sandboxer-test-none", engine.LogOptions{}); !engine.IsNotFound(err) {
		t.Errorf("of no container: %v", err)
	}
}

func hasType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestFollowedLogsEndWithTheirContext(t *testing.T) {
	e := enginetest.Start(t)
	id := e.Run(engine.ContainerSpec{Image: e.Program("testdata/program"), Cmd: []string{"tick"}, Network: "none"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := e.Logs(ctx, id, engine.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	first := make([]byte, len("tick 0\ntick 1\n"))
	if _, err := io.ReadFull(stream, first); err != nil || string(first) != "tick 0\ntick 1\n" {
		t.Fatalf("%q %v", first, err)
	}
	cancel()
	if _, err := io.ReadAll(stream); !errors.Is(err, context.Canceled) {
		t.Errorf("after the cancellation: %v", err)
	}
}

// watch streams events in the background, from before the call returns.
func watch(t *testing.T, e *enginetest.Engine, filter engine.EventFilter) <-chan engine.Event {
	t.Helper()
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	filter.Since = info.SystemTime
	events := make(chan engine.Event)
	go func() {
		defer close(events)
		for ev, err := range e.Events(t.Context(), filter) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			select {
			case events <- ev:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return events
}

func TestEventsTellOfLabelledContainers(t *testing.T) {
	e := enginetest.Start(t)
	image := e.Program("testdata/program")
	events := watch(t, e, engine.EventFilter{Labels: []string{e.Label}, Kinds: []engine.Kind{engine.KindContainer}})
	id := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"print", "7"}, Network: "none"})
	var actions []string
	for ev := range events {
		actions = append(actions, ev.Action)
		if ev.Kind != engine.KindContainer || ev.ID != id || ev.Attributes[enginetest.LabelKey] != e.ID {
			t.Errorf("event: %+v", ev)
		}
		if ev.Action == "die" {
			if ev.Attributes["exitCode"] != "7" || time.Since(ev.Time).Abs() > time.Minute {
				t.Errorf("event: %+v", ev)
			}
			break
		}
	}
	if want := []string{"create", "start", "die"}; !slices.Equal(actions, want) {
		t.Errorf("actions %q, want %q", actions, want)
	}
}

func TestEventsEndWithTheirContext(t *testing.T) {
	e := enginetest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for ev, err := range e.Events(ctx, engine.EventFilter{Labels: []string{e.Label}}) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v %v", ev, err)
		}
	}
}

func TestImportReportsWhatTheStreamReports(t *testing.T) {
	e := enginetest.Start(t)
	reference := "sandboxer.local/test/broken:" + e.ID
	_, err := e.ImportImage(t.Context(), reference, strings.NewReader(strings.Repeat("this is no tar archive", 100)))
	if !hasType[*engine.Error](err) {
		t.Errorf("no archive: %v", err)
	}
	_, err = e.ImportImage(t.Context(), reference, bytes.NewReader(make([]byte, 1024)), "RUN something")
	if !hasType[*engine.Error](err) {
		t.Errorf("an instruction that cannot be: %v", err)
	}
	failing := io.MultiReader(bytes.NewReader(make([]byte, 512)), &failingReader{})
	if _, err = e.ImportImage(t.Context(), reference, failing); !errors.Is(err, errBroken) {
		t.Errorf("an archive that cannot be read: %v", err)
	}
	if err := e.RemoveImage(t.Context(), reference, true); !engine.IsNotFound(err) {
		t.Errorf("an image was made: %v", err)
	}
}

var errBroken = errors.New("broken on purpose")

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, errBroken }

func TestNamesCannotReachOtherEndpoints(t *testing.T) {
	e := enginetest.Start(t)
	for _, name := range []string{"", "/", "a/../b", "../networks", "x/json", "x?force=1", "x%2fjson", "x#", "ä", "x y", "x\n"} {
		err := e.RemoveContainer(t.Context(), name, engine.Removal{})
		if err == nil || hasType[*engine.Error](err) || errors.Is(err, engine.ErrUnreachable) {
			t.Errorf("container %q: %v", name, err)
		}
	}
	for _, name := range []string{"", "/x", "a/../../containers/b", "x?force=1", "x%2fjson"} {
		err := e.RemoveImage(t.Context(), name, false)
		if err == nil || hasType[*engine.Error](err) {
			t.Errorf("image %q: %v", name, err)
		}
	}
	if err := e.RemoveImage(t.Context(), fmt.Sprintf("sandboxer.local/test/%s:none", e.ID), false); !engine.IsNotFound(err) {
		t.Errorf("a reference with slashes: %v", err)
	}
}
