package compose

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
)

// controls checks what the engine really made of the profile's promises.
func (w *watch) controls(ctx context.Context) ([]sandboxer.Control, error) {
	egress, err := w.egress(ctx)
	if err != nil {
		return nil, err
	}
	byService, err := w.containers(ctx)
	if err != nil {
		return nil, err
	}
	var all []engine.ContainerDetails
	for _, containers := range byService {
		all = append(all, containers...)
	}
	if open := published(all); len(open) > 0 {
		return nil, fmt.Errorf("ports %v are published on the host: %w", open, sandboxer.ErrUnsupported)
	}
	facts, err := w.machine.Probe(ctx)
	if err != nil {
		return nil, err
	}
	isolation, err := w.isolation(facts, all)
	if err != nil {
		return nil, err
	}
	return append(isolation,
		egress,
		sandboxer.Control{Name: "network.published", Level: sandboxer.Enforced, Detail: "no port is published on the host"},
		limit("resources.memory", facts, all, func(l engine.Limited) bool { return l.Memory > 0 }),
		limit("resources.cpus", facts, all, func(l engine.Limited) bool { return l.CPUs > 0 }),
		limit("resources.pids", facts, all, func(l engine.Limited) bool { return l.PIDs > 0 }),
		sandboxer.Control{Name: "resources.disk", Level: sandboxer.Advisory, Detail: "free space was checked before creation; nothing limits it afterwards"},
	), nil
}

// egress reads the networks back: one that is open though the profile denies
// it is an error, not a lower level.
func (w *watch) egress(ctx context.Context) (sandboxer.Control, error) {
	control := sandboxer.Control{Name: "network.egress", Level: sandboxer.Enforced, Detail: "allowed by the profile"}
	if w.memory.Egress == sandboxer.EgressAllow {
		return control, nil
	}
	control.Detail = "every network is internal and without a host address; names outside do not resolve"
	eng, err := w.machine.Engine(ctx)
	if err != nil {
		return control, err
	}
	networks, err := eng.Networks(ctx, host.LabelID+"="+w.id)
	if err != nil {
		return control, host.Classify(err)
	}
	for _, n := range networks {
		details, err := eng.InspectNetwork(ctx, n.ID)
		if err != nil {
			return control, host.Classify(err)
		}
		if !details.Internal || details.Options["com.docker.network.bridge.inhibit_ipv4"] != "true" {
			return control, fmt.Errorf("network %s is open though egress is denied: %w", n.Name, sandboxer.ErrUnsupported)
		}
	}
	return control, nil
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
