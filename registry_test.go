package sandboxer_test

import (
	"errors"
	"io"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func fakeExtension(id string, hosts ...string) sandboxer.Extension {
	var all []sandboxer.Host
	for _, h := range hosts {
		all = append(all, host(h))
	}
	return extensiontest.NewFake(extensiontest.FakeConfig{ID: id, Backend: extensiontest.NewBackend(all...)})
}

// manifestOf is the manifest of an extension as a file would hold it.
func manifestOf(ext sandboxer.Extension) sandboxer.ExtensionInfo {
	info := ext.Info()
	info.Hosts = nil
	return info
}

func TestRegistry(t *testing.T) {
	a, b := fakeExtension("ext.a", "one", "two"), fakeExtension("ext.b", "three")
	nameless := extensiontest.NewFake(extensiontest.FakeConfig{ID: "ext.c", Backend: extensiontest.NewBackend(sandboxer.Host{Address: "local:"})})
	tests := map[string]struct {
		manifests  []sandboxer.ExtensionInfo
		extensions []sandboxer.Extension
		want       string
		match      error
	}{
		"without manifests":         {nil, []sandboxer.Extension{b, a}, "", nil},
		"one to one":                {[]sandboxer.ExtensionInfo{manifestOf(a), manifestOf(b)}, []sandboxer.Extension{b, a}, "", nil},
		"without an implementation": {[]sandboxer.ExtensionInfo{manifestOf(a), manifestOf(b)}, []sandboxer.Extension{a}, "manifest ext.b has no implementation: pass one in Config.Extensions: not found", sandboxer.ErrNotFound},
		"without a manifest":        {[]sandboxer.ExtensionInfo{manifestOf(a)}, []sandboxer.Extension{a, b}, "extension ext.b has no manifest: not found", sandboxer.ErrNotFound},
		"neither way":               {[]sandboxer.ExtensionInfo{manifestOf(a)}, []sandboxer.Extension{b}, "manifest ext.a has no implementation: pass one in Config.Extensions: not found\nextension ext.b has no manifest: not found", sandboxer.ErrNotFound},
		"no manifest at all":        {[]sandboxer.ExtensionInfo{}, []sandboxer.Extension{a}, "extension ext.a has no manifest: not found", sandboxer.ErrNotFound},
		"an id twice":               {nil, []sandboxer.Extension{a, fakeExtension("ext.a", "four")}, "extension ext.a is given twice: invalid", sandboxer.ErrInvalid},
		"a host twice":              {nil, []sandboxer.Extension{a, fakeExtension("ext.b", "two")}, "host two of ext.b is already a host of ext.a: invalid", sandboxer.ErrInvalid},
		"a host without a name":     {nil, []sandboxer.Extension{nameless}, "extension ext.c: hosts[0].name: is required", sandboxer.ErrInvalid},
		"an incomplete manifest": {nil, []sandboxer.Extension{bare{a}},
			`extension without id: id: "" is not an extension id: it reads like ext.compose-ssh; version: "" is not a semantic version such as 1.0.0; ` +
				`capabilities: is required: what the extension can do; isolation: is required: at least one isolation level; pricing: "" is not one of ["self-hosted" "metered"]`, sandboxer.ErrInvalid},
	}
	for name, tt := range tests {
		r, err := sandboxer.NewRegistry(tt.manifests, tt.extensions...)
		if text(err) != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, tt.want)
		}
		if tt.match != nil && !errors.Is(err, tt.match) {
			t.Errorf("%s: %v does not match %v", name, err, tt.match)
		}
		if err == nil {
			var ids []string
			for _, ext := range r.All() {
				ids = append(ids, ext.Info().ID)
			}
			if diff := cmp.Diff([]string{"ext.a", "ext.b"}, ids); diff != "" {
				t.Errorf("%s: all (-want +got):\n%s", name, diff)
			}
		}
	}
}

// bare has an empty manifest.
type bare struct{ sandboxer.Extension }

func (bare) Info() sandboxer.ExtensionInfo { return sandboxer.ExtensionInfo{} }

func TestLookup(t *testing.T) {
	a := fakeExtension("ext.a", "one")
	r, err := sandboxer.NewRegistry(nil, a)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Lookup("ext.a"); err != nil || got != a {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = r.Lookup("ext.b")
	if !errors.Is(err, sandboxer.ErrNotFound) || sandboxer.Hint(err) != `registered are: ["ext.a"]` {
		t.Errorf("got %v with the hint %q", err, sandboxer.Hint(err))
	}
}

func TestLoadManifests(t *testing.T) {
	file := func(id string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("id: " + id + "\nversion: 1.0.0\ncapabilities: [dial]\nisolation: [container]\npricing: metered\n")}
	}
	got, err := sandboxer.LoadManifests(fstest.MapFS{"a.yaml": file("ext.a"), "b.yaml": file("ext.b")})
	if err != nil || len(got) != 2 || got[0].ID != "ext.a" || got[0].Pricing != sandboxer.PricingMetered {
		t.Errorf("loaded %v, %v", got, err)
	}
	_, err = sandboxer.LoadManifests(fstest.MapFS{"a.yaml": file("ext.a"), "b.yaml": file("ext.a")})
	if want := "b.yaml: id: ext.a is already defined in a.yaml"; text(err) != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestNewReportsEverythingAtOnce(t *testing.T) {
	p := basicProfile()
	p.TTL = 0
	lost := basicProfile()
	lost.ID, lost.Extension = "profile.lost", "ext.none"
	_, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{fakeExtension("ext.a", "one")},
		Profiles:   []sandboxer.Profile{p, lost, basicProfile(), basicProfile()},
	})
	wantError(t, err, "configure", sandboxer.ErrInvalid, sandboxer.ErrNotFound)
	want := `configure: store: is required: open one with sqlstore.Open, or NewMemoryStore for a store that ends with the process
profile.basic: ttl: is required and positive, such as 30m
profile.lost: extension ext.none: not found
profile.basic is given twice: invalid`
	if err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	_, err = sandboxer.New(sandboxer.Config{Store: sandboxer.NewMemoryStore()})
	if want := "configure: extensions: is empty: give at least one, such as compose.New"; text(err) != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestProfilesAreListedWithDefaults(t *testing.T) {
	other := basicProfile()
	other.ID = "profile.another"
	c := newWorld(t).client(process{profiles: []sandboxer.Profile{basicProfile(), other}})
	got := c.Profiles()
	if len(got) != 2 || got[0].ID != "profile.another" || got[1].ID != "profile.basic" {
		t.Fatalf("profiles are %v", got)
	}
	p := got[1]
	defaults := []any{p.Network.Egress, p.Workspace.Mode, p.Scope, p.Placement.Policy, p.Bounds}
	want := []any{sandboxer.EgressDeny, sandboxer.WorkspaceUpload, sandboxer.ScopeRun, sandboxer.PolicyPreferSelfHosted,
		sandboxer.Bounds{Provision: sandboxer.DefaultProvisionBound, Ready: sandboxer.DefaultReadyBound, Teardown: sandboxer.DefaultTeardownBound}}
	if diff := cmp.Diff(want, defaults); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if len(c.Registry().All()) != 1 {
		t.Error("the registry is not the client's")
	}
}

func TestCloseClosesWhatCanBeClosed(t *testing.T) {
	w := newWorld(t)
	var closed []string
	note := func(name string, err error) closing {
		return func() error { closed = append(closed, name); return err }
	}
	failing := errors.New("cannot")
	c := w.client(process{
		wrap: func(f *extensiontest.Fake) sandboxer.Extension {
			return struct {
				sandboxer.Extension
				io.Closer
			}{f, note("extension", failing)}
		},
		store: struct {
			sandboxer.Store
			io.Closer
		}{w.store, note("store", nil)},
	})
	if err := c.Close(); !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"extension", "store"}, closed); diff != "" {
		t.Errorf("closed (-want +got):\n%s", diff)
	}
	if err := w.client(process{}).Close(); err != nil {
		t.Errorf("with nothing to close: %v", err)
	}
}

type closing func() error

func (c closing) Close() error { return c() }
