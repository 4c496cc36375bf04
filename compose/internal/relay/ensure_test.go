package relay_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

func TestManyCallersGetOneRelay(t *testing.T) {
	for range 3 {
		s := emptySite(t)
		ids := make([]string, 8)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				client := engine.New(enginetest.Dial) // as another process would
				defer client.Close()
				id, err := relay.Ensure(t.Context(), client, s.spec)
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = id
				if details, err := client.InspectContainer(t.Context(), id); err != nil || !details.State.Running {
					t.Errorf("returned before it runs: %+v %v", details.State, err)
				}
			})
		}
		all.Wait()
		if len(slices.Compact(ids)) != 1 {
			t.Errorf("several: %q", ids)
		}
		if containers, err := s.Containers(t.Context(), s.Label); err != nil || len(containers) != 1 || containers[0].Name != "sbx-"+s.ID+"-relay" {
			t.Errorf("containers: %+v %v", containers, err)
		}
		s.removeAll(t)
	}
}

// removeAll removes what carries the test's label and proves that nothing is left.
func (s *site) removeAll(t *testing.T) {
	t.Helper()
	found, err := s.Objects(t.Context(), s.Label)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range found {
		if err := s.Remove(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
	if left, err := s.Objects(t.Context(), s.Label); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func (s *site) ensure(t *testing.T) string {
	t.Helper()
	id, err := relay.Ensure(t.Context(), s.Client, s.spec)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEnsureMendsWhatItFinds(t *testing.T) {
	s := emptySite(t)
	id := s.ensure(t)
	if again := s.ensure(t); again != id {
		t.Errorf("a second relay: %s and %s", id, again)
	}
	image := only(t, s).ImageID

	if err := s.StopContainer(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	if again := s.ensure(t); again != id || only(t, s).State != "running" {
		t.Errorf("stopped: %s became %s, %+v", id, again, only(t, s))
	}

	second := "sandboxer-test-" + s.ID + "-2"
	s.isolated(second)
	s.spec.Networks = append(s.spec.Networks, second)
	for range 2 {
		if again := s.ensure(t); again != id {
			t.Errorf("another network: %s became %s", id, again)
		}
	}
	if networks := only(t, s).Networks; len(networks) != 2 || !networks[second].IPv4.IsValid() {
		t.Errorf("networks: %+v", networks)
	}

	if err := s.RemoveContainer(t.Context(), id, engine.Removal{Force: true}); err != nil {
		t.Fatal(err)
	}
	if again := s.ensure(t); again == id || only(t, s).ImageID != image || len(only(t, s).Networks) != 2 {
		t.Errorf("removed: %s became %s, %+v", id, again, only(t, s))
	}
}

// only is the one container with the test's label.
func only(t *testing.T, s *site) engine.Container {
	t.Helper()
	containers, err := s.Containers(t.Context(), s.Label)
	if err != nil || len(containers) != 1 {
		t.Fatalf("%+v %v", containers, err)
	}
	return containers[0]
}

func TestAnotherVersionIsReplacedAndAnotherContainerIsNot(t *testing.T) {
	s := emptySite(t)
	s.ensure(t)
	image := only(t, s).ImageID
	s.spec.Name = "sandboxer-test-" + s.ID + "-relay"

	old := s.Labels()
	old[relay.VersionLabel] = "0"
	before := s.Create("/containers/create?name="+s.spec.Name, map[string]any{"Image": image, "Cmd": []string{"hold"}, "Labels": old})
	if id := s.ensure(t); id == before {
		t.Error("an old version stays")
	}
	if err := s.RemoveContainer(t.Context(), s.spec.Name, engine.Removal{Force: true}); err != nil {
		t.Fatal(err)
	}

	for name, labels := range map[string]map[string]string{
		"no relay":          {},
		"another sandbox's": {relay.VersionLabel: "1", enginetest.LabelKey: "other"},
	} {
		// The image gives a container its labels.
		labels = maps.Clone(labels)
		for _, key := range []string{relay.VersionLabel, enginetest.LabelKey} {
			if _, ok := labels[key]; !ok {
				labels[key] = "none"
			}
		}
		foreign := s.Create("/containers/create?name="+s.spec.Name, map[string]any{"Image": image, "Labels": labels})
		if id, err := relay.Ensure(t.Context(), s.Client, s.spec); err == nil || !strings.Contains(err.Error(), "name is taken") {
			t.Errorf("%s: %s %v", name, id, err)
		}
		if _, err := s.InspectContainer(t.Context(), foreign); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.RemoveContainer(t.Context(), foreign, engine.Removal{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEnsureLeavesNothingWhenItFails(t *testing.T) {
	s := emptySite(t)
	network := s.spec.Networks
	none := "sandboxer-test-" + s.ID + "-none"
	for name, networks := range map[string][]string{"the first network is gone": {none}, "the second network is gone": {network[0], none}} {
		s.spec.Networks = networks
		if id, err := relay.Ensure(t.Context(), s.Client, s.spec); !engine.IsNotFound(err) {
			t.Errorf("%s: %s %v", name, id, err)
		}
		s.hasOnlyItsNetwork(t, name)
	}

	s.spec.Networks = nil
	if _, err := relay.Ensure(t.Context(), s.Client, s.spec); err == nil {
		t.Error("no network")
	}
	s.spec.Networks, s.spec.Arch = network, "mips"
	if _, err := relay.Ensure(t.Context(), s.Client, s.spec); err == nil || !strings.Contains(err.Error(), `"mips"`) {
		t.Errorf("no such architecture: %v", err)
	}
	s.spec.Arch, s.spec.Labels = "amd64", map[string]string{enginetest.LabelKey: s.ID, "key": "two\nlines"}
	if _, err := relay.Ensure(t.Context(), s.Client, s.spec); err == nil || !strings.Contains(err.Error(), "control characters") {
		t.Errorf("a label of two lines: %v", err)
	}
	s.hasOnlyItsNetwork(t, "bad specs")
}

func TestEnsureThatIsCancelledLeavesNothing(t *testing.T) {
	s := emptySite(t)
	cancelled := 0
	for patience := time.Millisecond; ; patience += 10 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		id, err := relay.Ensure(ctx, s.Client, s.spec)
		cancel()
		if err == nil {
			t.Logf("cancelled %d times; %s in %v", cancelled, id, patience)
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("after %v: %v", patience, err)
		}
		cancelled++
		s.hasOnlyItsNetwork(t, patience.String())
	}
	if cancelled < 3 {
		t.Errorf("cancelled %d times only", cancelled)
	}
}

func (s *site) hasOnlyItsNetwork(t *testing.T, when string) {
	t.Helper()
	// The engine may still be at work on what nobody waits for any more.
	time.Sleep(100 * time.Millisecond)
	found, err := s.Objects(t.Context(), s.Label)
	if err != nil || len(found) != 1 || found[0].Kind != engine.KindNetwork {
		t.Errorf("%s: on the engine are %v %v", when, found, err)
	}
}

func TestRelayIsConfined(t *testing.T) {
	s := emptySite(t)
	id := s.ensure(t)
	type limits struct {
		ReadonlyRootfs, Privileged bool
		CapAdd, CapDrop            []string
		SecurityOpt                []string
		Memory, MemorySwap         int64
		PidsLimit                  int64
		RestartPolicy              struct{ Name string }
		LogConfig                  struct{ Type string }
		Sysctls                    map[string]string
		Binds                      []string
		PortBindings               map[string]any
	}
	var got struct {
		Config struct {
			User   string
			Labels map[string]string
		}
		HostConfig limits
	}
	s.Get("/containers/"+id+"/json", &got)
	want := limits{
		ReadonlyRootfs: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
		Memory: 256 << 20, MemorySwap: 256 << 20, PidsLimit: 2048, Sysctls: map[string]string{"net.ipv4.ip_forward": "0"},
		PortBindings: map[string]any{},
	}
	want.RestartPolicy.Name, want.LogConfig.Type = "no", "none"
	if got.HostConfig.PortBindings == nil {
		want.PortBindings = nil
	}
	if diff := cmp.Diff(want, got.HostConfig); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Config.User != "65534:65534" {
		t.Errorf("user %q", got.Config.User)
	}
	labels := s.Labels()
	labels[relay.VersionLabel] = "1"
	images, err := s.Images(t.Context(), s.Label)
	if err != nil || len(images) != 1 {
		t.Fatal(images, err)
	}
	if !maps.Equal(got.Config.Labels, labels) || !maps.Equal(images[0].Labels, labels) {
		t.Errorf("labels of the container %v, of the image %v", got.Config.Labels, images[0].Labels)
	}
}

func TestLabelsArriveAsTheyAre(t *testing.T) {
	s := emptySite(t)
	for key, value := range map[string]string{
		"plain": "v", "empty": "", "spaces": " a  b ", "quotes": `say "hi" and 'ho'`, "dollar": "$HOME ${PATH} $$", "back": `a\b\\c\`,
		"equals": "a=b=c", "unicode": "zażółć 日本", "hash": "# no comment", "json": `["a"]`, "with space": "x", "with$dollar": "x",
	} {
		s.spec.Labels["dev.sandboxer.test."+key] = value
	}
	id := s.ensure(t)
	details, err := s.InspectContainer(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	images, err := s.Images(t.Context(), s.Label)
	if err != nil || len(images) != 1 {
		t.Fatal(images, err)
	}
	want := maps.Clone(s.spec.Labels)
	want[relay.VersionLabel] = "1"
	if diff := cmp.Diff(want, details.Labels); diff != "" {
		t.Errorf("container, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(want, images[0].Labels); diff != "" {
		t.Errorf("image, -want +got:\n%s", diff)
	}
}

func TestHoldEndsWhenAskedAndReapsOrphans(t *testing.T) {
	s := emptySite(t)
	s.ensure(t)
	dir := t.TempDir()
	writeProgram(t, dir, s.Compile("testdata/server"))
	s.relay = s.Run(engine.ContainerSpec{
		Image: "sandboxer.local/relay:" + s.ID, Cmd: []string{"hold"}, Network: "none", Binds: []engine.Bind{{Source: dir, Target: "/t"}},
	})
	parent, err := s.Exec(t.Context(), s.relay, "/t/program", "orphan")
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	if code, err := parent.ExitCode(t.Context()); code != 0 || err != nil {
		t.Fatal(code, err, parent.Stderr())
	}
	s.awaitProcesses(t, 2) // the orphan lives on
	s.awaitProcesses(t, 1)
	lists, err := s.Exec(t.Context(), s.relay, "/t/program", "processes")
	if err != nil {
		t.Fatal(err)
	}
	defer lists.Close()
	if text, err := io.ReadAll(lists); err != nil || !strings.Contains(string(text), "(relay) S") || strings.Contains(string(text), " Z") {
		t.Errorf("processes: %s %v", text, err)
	}

	begin := time.Now()
	if err := s.StopContainer(t.Context(), s.relay, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if details, err := s.InspectContainer(t.Context(), s.relay); err != nil || details.State.ExitCode != 0 {
		t.Errorf("%+v %v", details.State, err)
	}
}
