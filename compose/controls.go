package compose

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
)

// controls checks what the engine really made of the profile's promises.
func (w *watch) controls(ctx context.Context, p *posture) ([]sandboxer.Control, error) {
	byService, err := w.containers(ctx)
	if err != nil {
		return nil, err
	}
	var all, services []engine.ContainerDetails
	for name, containers := range byService {
		all = append(all, containers...)
		if name != admission.ProxyService { // which is ours, and runs none of the repository's code
			services = append(services, containers...)
		}
	}
	if open := published(all); len(open) > 0 {
		return nil, fmt.Errorf("ports %v are published on the host: %w", open, sandboxer.ErrUnsupported)
	}
	facts, err := w.machine.Probe(ctx)
	if err != nil {
		return nil, err
	}
	isolation, err := w.isolation(facts, services)
	if err != nil {
		return nil, err
	}
	network, err := w.networkControls(ctx, p, byService)
	if err != nil {
		return nil, err
	}
	controls := append(isolation, network...)
	controls = append(controls,
		sandboxer.Control{Name: "network.published", Level: sandboxer.Enforced, Detail: "no port is published on the host"},
		limit("resources.memory", facts, all, func(l engine.Limited) bool { return l.Memory > 0 }),
		limit("resources.cpus", facts, all, func(l engine.Limited) bool { return l.CPUs > 0 }),
		limit("resources.pids", facts, all, func(l engine.Limited) bool { return l.PIDs > 0 }),
		sandboxer.Control{Name: "resources.disk", Level: sandboxer.Advisory, Detail: "free space was checked before creation; nothing limits it afterwards"},
	)
	return append(controls, w.memory.Secrets.control()...), nil
}

// limit says whether every container has a limit that the engine holds.
func limit(name string, facts *host.Facts, all []engine.ContainerDetails, has func(engine.Limited) bool) sandboxer.Control {
	for _, c := range all {
		if !has(c.Limits) {
			return sandboxer.Control{Name: name, Level: sandboxer.Unsupported, Detail: "the engine gave " + c.Name + " none"}
		}
	}
	if facts.Rootless {
		return sandboxer.Control{Name: name, Level: sandboxer.Advisory, Detail: "set on every container; a rootless engine holds it only with delegated cgroups"}
	}
	return sandboxer.Control{Name: name, Level: sandboxer.Enforced, Detail: "set on every container"}
}

func published(all []engine.ContainerDetails) []string {
	var out []string
	for _, c := range all {
		for _, p := range c.Ports {
			if p.Host.IsValid() {
				out = append(out, p.Host.String()+"->"+strconv.Itoa(int(p.Container)))
			}
		}
	}
	return out
}
