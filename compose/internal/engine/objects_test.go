package engine_test

import (
	"bytes"
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

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
)

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
	if all, err := e.Subnets(ctx); err != nil || !slices.Contains(all, want.Subnets[0]) {
		t.Errorf("subnets: %v %v", all, err)
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
