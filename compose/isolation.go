package compose

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
)

// defaultGVisorRuntime is the name that gVisor's own installation registers.
const defaultGVisorRuntime = "runsc"

func (h HostConfig) gvisorRuntime() string {
	if h.GVisorRuntime == "" {
		return defaultGVisorRuntime
	}
	return h.GVisorRuntime
}

// isolation lists the levels that a host's engine is set up for.
func (h HostConfig) isolation(f *host.Facts) []sandboxer.Isolation {
	var offered []sandboxer.Isolation
	for _, level := range []sandboxer.Isolation{sandboxer.IsolationContainer, sandboxer.IsolationGVisor} {
		if _, err := h.runtime(level, f); err == nil {
			offered = append(offered, level)
		}
	}
	return offered
}

// runtime is what the containers of a sandbox run under, empty for the
// engine's default.
func (h HostConfig) runtime(level sandboxer.Isolation, f *host.Facts) (string, error) {
	gvisor := h.gvisorRuntime()
	switch {
	case level == sandboxer.IsolationContainer && f.Runtime != gvisor && f.Runtime != defaultGVisorRuntime:
		return "", nil
	case level == sandboxer.IsolationContainer && hasRuntime(f, "runc"):
		return "runc", nil
	case level == sandboxer.IsolationGVisor && hasRuntime(f, gvisor):
		return gvisor, nil
	}
	return "", sandboxer.WithHint(fmt.Errorf("isolation %s: %w by host %s, whose engine has the runtimes %s", level, sandboxer.ErrUnsupported, h.Name, runtimes(f)),
		"install gVisor's runsc on the host and register it under runtimes in the engine's daemon.json")
}

// hasRuntime reports whether the engine has a runtime of that name. A name
// alone is not believed where it stands for the common runtime.
func hasRuntime(f *host.Facts, name string) bool {
	return slices.ContainsFunc(f.Runtimes, func(r engine.Runtime) bool {
		program := path.Base(r.Path)
		return r.Name == name && (name == "runc" || !slices.Contains([]string{"runc", "crun", "io.containerd.runc.v2"}, program))
	})
}

// runtimes names what the engine runs containers by, its default first.
func runtimes(f *host.Facts) string {
	names := []string{f.Runtime}
	for _, r := range f.Runtimes {
		if r.Name != f.Runtime {
			names = append(names, r.Name)
		}
	}
	return strings.Join(names, ", ")
}

// isolation reads back what keeps the containers from their host. One that
// runs under another runtime than it was to, or as root of the host, is an
// error, not a lower level.
func (w *watch) isolation(facts *host.Facts, all []engine.ContainerDetails) ([]sandboxer.Control, error) {
	for _, c := range all {
		if want := cmp.Or(w.memory.Runtime, facts.Runtime); c.Runtime != want {
			return nil, fmt.Errorf("container %s runs under %q, and not under %s: %w", c.Name, c.Runtime, want, sandboxer.ErrUnsupported)
		}
		if c.Confinement.Privileged {
			return nil, fmt.Errorf("container %s is privileged: %w", c.Name, sandboxer.ErrUnsupported)
		}
	}
	level := sandboxer.Control{Name: "isolation", Level: sandboxer.Enforced, Detail: "every container runs under " + cmp.Or(w.memory.Runtime, facts.Runtime) + ", on the kernel of the host"}
	controls := []sandboxer.Control{level}
	if w.memory.Isolation == sandboxer.IsolationGVisor {
		controls[0].Detail = "every container runs under " + w.memory.Runtime + ", on a kernel of its own; what Dial goes through is no container of the file"
		controls = append(controls, builds(w.memory.Builds != ""))
	}
	return append(controls,
		confined("isolation.no_new_privileges", "no program in a container gains rights by being started", all, func(c engine.Confinement) bool { return c.NoNewPrivileges }),
		confined("isolation.capabilities", "no container has "+strings.Join(admission.DroppedCapabilities(), ", "), all, withoutDropped),
		userNamespace(facts),
	), nil
}

// builds says what an isolation above that of containers means for builds.
func builds(any bool) sandboxer.Control {
	c := sandboxer.Control{Name: "isolation.builds", Level: sandboxer.Enforced, Detail: "nothing was built on the host"}
	if any {
		c.Level, c.Detail = sandboxer.Advisory, "the host built images; programs that a build runs, if the profile allows them (BUILD-ISOLATION), share the kernel of the host"
	}
	return c
}

// confined says whether every container is held by a confinement.
func confined(name, detail string, all []engine.ContainerDetails, holds func(engine.Confinement) bool) sandboxer.Control {
	for _, c := range all {
		if !holds(c.Confinement) {
			return sandboxer.Control{Name: name, Level: sandboxer.Unsupported, Detail: "the engine does not say so of " + c.Name}
		}
	}
	return sandboxer.Control{Name: name, Level: sandboxer.Enforced, Detail: detail}
}

func withoutDropped(c engine.Confinement) bool {
	for _, name := range admission.DroppedCapabilities() {
		dropped := slices.Contains(c.CapDrop, name) || slices.Contains(c.CapDrop, "ALL")
		if !dropped || slices.Contains(c.CapAdd, name) || slices.Contains(c.CapAdd, "ALL") {
			return false
		}
	}
	return true
}

func userNamespace(f *host.Facts) sandboxer.Control {
	c := sandboxer.Control{Name: "isolation.user_namespace", Level: sandboxer.Enforced}
	switch {
	case f.Rootless:
		c.Detail = "the engine runs without root's rights, and so does root in a container"
	case f.Remapped:
		c.Detail = "root in a container is another user outside"
	default:
		c.Level, c.Detail = sandboxer.Unsupported, "root in a container is root outside, less what is taken from it; the engine has neither userns-remap nor rootless mode on"
	}
	return c
}
