package extensions_test

import (
	"errors"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensions"
)

func TestManifest(t *testing.T) {
	info, err := extensions.Manifest("ext.compose-ssh")
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != "ext.compose-ssh" || info.Version != "0.1.0" || info.Pricing != sandboxer.PricingSelfHosted ||
		!slices.Equal(info.Isolation, []sandboxer.Isolation{sandboxer.IsolationContainer, sandboxer.IsolationGVisor}) || len(info.Hosts) != 0 {
		t.Errorf("got %+v", info)
	}
	for _, id := range []string{"ext.none", "", "../extensions/ext.compose-ssh"} {
		if _, err := extensions.Manifest(id); !errors.Is(err, sandboxer.ErrNotFound) {
			t.Errorf("%q: got %v", id, err)
		}
	}
}

func TestLoadLaysOwnManifestsOverTheEmbedded(t *testing.T) {
	const rest = "version: 2.0.0\ncapabilities: [dial]\nisolation: [vm]\npricing: metered\n"
	all, err := extensions.Load(fstest.MapFS{
		"a.yaml": {Data: []byte("id: ext.compose-ssh\n" + rest)},
		"b.yaml": {Data: []byte("id: ext.another\n" + rest)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].ID != "ext.another" || all[1].ID != "ext.compose-ssh" || all[1].Version != "2.0.0" {
		t.Errorf("got %+v", all)
	}
	_, err = extensions.Load(fstest.MapFS{"c.yaml": {Data: []byte("id: ext.c\nhosts: [{name: one, address: 'local:'}]\n" + rest)}})
	if want := "extensions: c.yaml:2: hosts: hosts are configuration, not part of a manifest"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
