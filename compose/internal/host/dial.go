package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

// Dial connects to a port of a service through the sandbox's relay. The
// address is looked up at every call. ErrNotFound: no such service, or none of
// its containers runs on a network.
func (m *Machine) Dial(ctx context.Context, id, service string, port uint16) (net.Conn, error) {
	eng, err := m.Engine(ctx)
	if err != nil {
		return nil, err
	}
	containers, err := eng.Containers(ctx, LabelID+"="+id)
	if err != nil {
		return nil, Classify(err)
	}
	address, err := serviceAddress(ctx, eng, containers, service)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		container, err := m.ensureRelay(ctx, eng, id, containers)
		if err != nil {
			return nil, err
		}
		conn, err := relay.Dial(ctx, eng, container, netip.AddrPortFrom(address, port))
		if try == 0 && (engine.IsNotFound(err) || engine.IsConflict(err)) {
			// the relay was there a moment ago and is not now
			containers = slices.DeleteFunc(containers, func(c engine.Container) bool { return c.Labels[relay.VersionLabel] != "" })
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("service %s port %d: %w", service, port, Classify(err))
		}
		return conn, nil
	}
}

// ProbeFrom asks from within the sandbox, on all of its networks, for TCP
// connections to the targets, each for at most the bound. ErrNotFound: it has
// no network.
func (m *Machine) ProbeFrom(ctx context.Context, id string, bound time.Duration, targets []netip.AddrPort) (map[netip.AddrPort]relay.Outcome, error) {
	eng, container, err := m.relay(ctx, id)
	if err != nil {
		return nil, err
	}
	outcomes, err := relay.Probe(ctx, eng, container, bound, targets)
	return outcomes, Classify(err)
}

// DialAddress connects to an address on one of the sandbox's networks.
func (m *Machine) DialAddress(ctx context.Context, id string, target netip.AddrPort) (net.Conn, error) {
	eng, container, err := m.relay(ctx, id)
	if err != nil {
		return nil, err
	}
	conn, err := relay.Dial(ctx, eng, container, target)
	return conn, Classify(err)
}

func (m *Machine) relay(ctx context.Context, id string) (*engine.Client, string, error) {
	eng, err := m.Engine(ctx)
	if err != nil {
		return nil, "", err
	}
	containers, err := eng.Containers(ctx, LabelID+"="+id)
	if err != nil {
		return nil, "", Classify(err)
	}
	container, err := m.ensureRelay(ctx, eng, id, containers)
	return eng, container, err
}

// serviceAddress finds where a service is now: the first running container in
// order of name. One that shares another's network is found there.
func serviceAddress(ctx context.Context, eng *engine.Client, containers []engine.Container, service string) (netip.Addr, error) {
	slices.SortFunc(containers, func(a, b engine.Container) int { return strings.Compare(a.Name, b.Name) })
	known := map[string]bool{}
	for _, c := range containers {
		name := c.Labels["com.docker.compose.service"]
		known[name] = true
		if name != service || c.State != "running" {
			continue
		}
		if a, ok := ownAddress(c.Networks); ok {
			return a, nil
		}
		details, err := eng.InspectContainer(ctx, c.ID)
		if err != nil {
			return netip.Addr{}, Classify(err)
		}
		if other, shares := strings.CutPrefix(details.NetworkMode, "container:"); shares {
			target, err := eng.InspectContainer(ctx, other)
			if err != nil {
				return netip.Addr{}, Classify(err)
			}
			if a, ok := ownAddress(target.Networks); ok {
				return a, nil
			}
		}
	}
	if known[service] {
		return netip.Addr{}, fmt.Errorf("service %s has no running container on a network: %w", service, sandboxer.ErrNotFound)
	}
	delete(known, "")
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return netip.Addr{}, sandboxer.WithHint(fmt.Errorf("service %q: %w", service, sandboxer.ErrNotFound), "services with containers are: %q", names)
}

func ownAddress(networks map[string]engine.Endpoint) (netip.Addr, bool) {
	names := make([]string, 0, len(networks))
	for name := range networks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if a := networks[name].IPv4; a.IsValid() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// ensureRelay returns the sandbox's running relay, starting it if there is none.
func (m *Machine) ensureRelay(ctx context.Context, eng *engine.Client, id string, containers []engine.Container) (string, error) {
	for _, c := range containers {
		if c.Labels[relay.VersionLabel] != "" && c.State == "running" {
			return c.ID, nil
		}
	}
	networks, err := eng.Networks(ctx, LabelID+"="+id)
	if err != nil {
		return "", Classify(err)
	}
	spec, err := m.relaySpec(ctx, id)
	if err != nil {
		return "", err
	}
	for _, n := range networks {
		if n.Labels[LabelOutside] == "" {
			spec.Networks = append(spec.Networks, n.ID)
		}
	}
	if len(spec.Networks) == 0 {
		return "", fmt.Errorf("a network of %s: %w", id, sandboxer.ErrNotFound)
	}
	container, err := relay.Ensure(ctx, eng, spec)
	return container, Classify(err)
}

// relaySpec describes the sandbox's own relay. Its image is the sandbox's too,
// so that nothing of it stays when the sandbox goes.
func (m *Machine) relaySpec(ctx context.Context, id string) (relay.Spec, error) {
	facts, err := m.Probe(ctx)
	if err != nil {
		return relay.Spec{}, err
	}
	return relay.Spec{
		ID: id, Image: "sandboxer.local/" + id + "/relay:1", Arch: facts.Arch,
		Labels: map[string]string{LabelID: id, LabelRoot: facts.RootID},
	}, nil
}
