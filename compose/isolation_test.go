package compose

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
)

const container, gvisor = sandboxer.IsolationContainer, sandboxer.IsolationGVisor

// A host offers what its engine has a runtime for, by the name the
// configuration gives.
func TestIsolationOfAHost(t *testing.T) {
	runc, runsc := engine.Runtime{Name: "runc", Path: "runc"}, engine.Runtime{Name: "runsc", Path: "/usr/local/bin/runsc"}
	tests := map[string]struct {
		name     string // of gVisor's runtime in the configuration
		standard string // the engine's default
		runtimes []engine.Runtime
		want     map[sandboxer.Isolation]string
	}{
		"a stock engine":             {"", "runc", []engine.Runtime{runc}, map[sandboxer.Isolation]string{container: ""}},
		"crun":                       {"", "crun", []engine.Runtime{{Name: "crun", Path: "crun"}}, map[sandboxer.Isolation]string{container: ""}},
		"gVisor as it installs":      {"", "runc", []engine.Runtime{runc, runsc}, map[sandboxer.Isolation]string{container: "", gvisor: "runsc"}},
		"gVisor as a shim":           {"", "runc", []engine.Runtime{runc, {Name: "runsc", Path: "io.containerd.runsc.v1"}}, map[sandboxer.Isolation]string{container: "", gvisor: "runsc"}},
		"gVisor by another name":     {"kvm", "runc", []engine.Runtime{runc, {Name: "kvm", Path: "/opt/runsc"}}, map[sandboxer.Isolation]string{container: "", gvisor: "kvm"}},
		"a name it does not have":    {"kvm", "runc", []engine.Runtime{runc, runsc}, map[sandboxer.Isolation]string{container: ""}},
		"runc by gVisor's name":      {"", "runc", []engine.Runtime{runc, {Name: "runsc", Path: "/usr/bin/runc"}}, map[sandboxer.Isolation]string{container: ""}},
		"gVisor as the default":      {"", "runsc", []engine.Runtime{runc, runsc}, map[sandboxer.Isolation]string{container: "runc", gvisor: "runsc"}},
		"gVisor and no other at all": {"", "runsc", []engine.Runtime{runsc}, map[sandboxer.Isolation]string{gvisor: "runsc"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h, facts := HostConfig{Name: "h", GVisorRuntime: tt.name}, &host.Facts{Runtime: tt.standard, Runtimes: tt.runtimes}
			got := map[sandboxer.Isolation]string{}
			for _, level := range []sandboxer.Isolation{container, gvisor, sandboxer.IsolationVM} {
				runtime, err := h.runtime(level, facts)
				if err == nil {
					got[level] = runtime
				} else if !errors.Is(err, sandboxer.ErrUnsupported) || sandboxer.Hint(err) == "" {
					t.Errorf("%s: %v, hint %q", level, err, sandboxer.Hint(err))
				}
				if slices.Contains(h.isolation(facts), level) != (err == nil) {
					t.Errorf("offers %v; %s: %v", h.isolation(facts), level, err)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("runtimes (-want +got):\n%s", diff)
			}
		})
	}
}

// What the engine did not do as it was told is an error or a lower level.
func TestIsolationIsReadBack(t *testing.T) {
	held := engine.ContainerDetails{Name: "c", Runtime: "runsc", Confinement: engine.Confinement{NoNewPrivileges: true, CapDrop: []string{"AUDIT_WRITE", "MKNOD", "NET_RAW"}}}
	tests := map[string]struct {
		change func(*engine.ContainerDetails, *host.Facts)
		err    bool
		lower  map[string]sandboxer.ControlLevel // controls that are not enforced
	}{
		"as it was told":      {func(*engine.ContainerDetails, *host.Facts) {}, false, nil},
		"all dropped":         {func(c *engine.ContainerDetails, _ *host.Facts) { c.Confinement.CapDrop = []string{"ALL"} }, false, nil},
		"rootless":            {func(_ *engine.ContainerDetails, f *host.Facts) { f.Remapped, f.Rootless = false, true }, false, nil},
		"not remapped":        {func(_ *engine.ContainerDetails, f *host.Facts) { f.Remapped = false }, false, levels("isolation.user_namespace")},
		"another runtime":     {func(c *engine.ContainerDetails, _ *host.Facts) { c.Runtime = "runc" }, true, nil},
		"privileged":          {func(c *engine.ContainerDetails, _ *host.Facts) { c.Confinement.Privileged = true }, true, nil},
		"may gain rights":     {func(c *engine.ContainerDetails, _ *host.Facts) { c.Confinement.NoNewPrivileges = false }, false, levels("isolation.no_new_privileges")},
		"one is not dropped":  {func(c *engine.ContainerDetails, _ *host.Facts) { c.Confinement.CapDrop = []string{"MKNOD", "NET_RAW"} }, false, levels("isolation.capabilities")},
		"one is added":        {func(c *engine.ContainerDetails, _ *host.Facts) { c.Confinement.CapAdd = []string{"MKNOD"} }, false, levels("isolation.capabilities")},
		"every one is added":  {func(c *engine.ContainerDetails, _ *host.Facts) { c.Confinement.CapAdd = []string{"ALL"} }, false, levels("isolation.capabilities")},
		"a harmless one only": {func(c *engine.ContainerDetails, _ *host.Facts) { c.Confinement.CapAdd = []string{"CHOWN"} }, false, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, facts := held, &host.Facts{Runtime: "runc", Remapped: true}
			tt.change(&c, facts)
			w := &watch{memory: &memory{Isolation: gvisor, Runtime: "runsc"}}
			controls, err := w.isolation(facts, []engine.ContainerDetails{held, c})
			if (err != nil) != tt.err {
				t.Fatalf("error %v", err)
			}
			var lower map[string]sandboxer.ControlLevel
			for _, control := range controls {
				if control.Level != sandboxer.Enforced {
					lower = levels(control.Name)
				}
			}
			if diff := cmp.Diff(tt.lower, lower); diff != "" {
				t.Errorf("not enforced (-want +got):\n%s", diff)
			}
		})
	}
}

func levels(name string) map[string]sandboxer.ControlLevel {
	return map[string]sandboxer.ControlLevel{name: sandboxer.Unsupported}
}

// A network that does not keep a sandbox in is an error, whichever way it leads out.
func TestNetworksAreReadBack(t *testing.T) {
	const id = "abcdefghij0123456789"
	shut := map[string]string{"com.docker.network.bridge.inhibit_ipv4": "true"}
	outside := map[string]string{host.LabelOutside: "1"}
	for name, tt := range map[string]struct {
		network engine.NetworkDetails
		closed  bool
	}{
		"closed":                    {engine.NetworkDetails{Network: engine.Network{Internal: true}, Options: shut}, true},
		"not internal":              {engine.NetworkDetails{Options: shut}, false},
		"with an address":           {engine.NetworkDetails{Network: engine.Network{Internal: true}}, false},
		"with IPv6":                 {engine.NetworkDetails{Network: engine.Network{Internal: true}, Options: shut, IPv6: true}, false},
		"the proxy's":               {engine.NetworkDetails{Network: engine.Network{Labels: outside}, Containers: map[string]string{"c": "sbx-" + id + "-sandboxer-proxy-1"}}, true},
		"the proxy's, with another": {engine.NetworkDetails{Network: engine.Network{Labels: outside}, Containers: map[string]string{"c": "sbx-" + id + "-web-1"}}, false},
	} {
		err := isClosed(id, tt.network)
		if (err == nil) != tt.closed || err != nil && !errors.Is(err, sandboxer.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := isClosed(id, engine.NetworkDetails{IPv6: true}); sandboxer.Hint(err) == "" {
		t.Errorf("does not say what to do about IPv6: %v", err)
	}
}
