package compose

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
	"github.com/sand-boxer/sandboxer/compose/internal/proxy"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

// The beginnings of the names of the host's interfaces. Static rules of the
// host hold for them, see host.Harden: containers behind the first reach
// nothing but each other, behind the second no service of the host, and behind
// any no metadata service.
const (
	bridgeClosed = "sbxd"
	bridgeOpen   = "sbxo"
	bridgeHost   = "sbxh" // as open, and services of the host may be reached
)

// bridgeNames names the interface of every network. A name has 15 characters
// at most, hence the digest.
func bridgeNames(id string, n sandboxer.Network, networks map[string]netip.Prefix) map[string]string {
	names := map[string]string{}
	for key := range networks {
		prefix := bridgeClosed
		switch {
		case key == admission.OutsideNetwork:
			prefix = bridgeOpen
		case n.Egress == sandboxer.EgressAllow && n.HostAccess:
			prefix = bridgeHost
		case n.Egress == sandboxer.EgressAllow:
			prefix = bridgeOpen
		}
		sum := sha256.Sum256([]byte(id + "/" + key))
		names[key] = prefix + hex.EncodeToString(sum[:5])
	}
	return names
}

// answerTime is how long the network posture's probe waits for an answer: a
// host answers its own containers in far less than a millisecond.
const answerTime = 300 * time.Millisecond

// metadata is where clouds serve credentials to whoever can connect.
var metadata = netip.MustParseAddrPort("169.254.169.254:80")

// maxNeighbours bounds how many containers of other sandboxes are tried.
const maxNeighbours = 8

// A posture is what was found from inside the sandbox's networks.
type posture struct {
	networks   bool // it has any
	hardened   bool // the host's rules are in force
	host       []netip.AddrPort
	neighbours []netip.AddrPort
	outcomes   map[netip.AddrPort]relay.Outcome
}

// look tries, from inside, what the profile may have closed.
func (w *watch) lookOut(ctx context.Context) (*posture, error) {
	facts, err := w.machine.Probe(ctx)
	if err != nil {
		return nil, err
	}
	p := &posture{host: hostTargets(facts, w.memory.Networks), hardened: facts.Firewall == host.FirewallHardened}
	if p.neighbours, err = w.neighbours(ctx, facts.RootID); err != nil {
		return nil, err
	}
	targets := slices.Concat(p.host, p.neighbours, []netip.AddrPort{metadata})
	p.outcomes, err = w.machine.ProbeFrom(ctx, w.id, answerTime, targets)
	if errors.Is(err, sandboxer.ErrNotFound) {
		return p, nil
	}
	p.networks = true
	return p, err
}

// hostTargets are the host's addresses, those on the sandbox's own networks
// included, with ports that would answer: a closed port answers too.
func hostTargets(facts *host.Facts, networks map[string]netip.Prefix) []netip.AddrPort {
	ports := []uint16{22}
	for _, port := range facts.Listening {
		if len(ports) < 2 && port != 22 {
			ports = append(ports, port)
		}
	}
	addresses := slices.Clone(facts.Addresses)
	for _, subnet := range networks {
		addresses = append(addresses, subnet.Masked().Addr().Next())
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	var targets []netip.AddrPort
	for _, a := range slices.Compact(addresses) {
		for _, port := range ports {
			targets = append(targets, netip.AddrPortFrom(a, port))
		}
	}
	return targets
}

// neighbours are some containers of other sandboxes.
func (w *watch) neighbours(ctx context.Context, root string) ([]netip.AddrPort, error) {
	eng, err := w.machine.Engine(ctx)
	if err != nil {
		return nil, err
	}
	all, err := eng.Containers(ctx, host.LabelRoot+"="+root)
	if err != nil {
		return nil, host.Classify(err)
	}
	var found []netip.AddrPort
	for _, c := range all {
		if c.Labels[host.LabelID] == w.id || c.State != "running" {
			continue
		}
		for _, endpoint := range c.Networks {
			if endpoint.IPv4.IsValid() && len(found) < maxNeighbours {
				found = append(found, netip.AddrPortFrom(endpoint.IPv4, 80))
			}
		}
	}
	return found, nil
}

// reached lists those of the targets that answered.
func (p *posture) reached(targets ...netip.AddrPort) []string {
	var out []string
	for _, t := range targets {
		if p.outcomes[t].Reached() {
			out = append(out, t.String())
		}
	}
	return out
}

// networkControls says what the network posture is. One that is not what the
// profile says is an error, not a lower level.
func (w *watch) networkControls(ctx context.Context, p *posture, containers map[string][]engine.ContainerDetails) ([]sandboxer.Control, error) {
	builds := sandboxer.Control{Name: "network.builds", Level: sandboxer.Enforced, Detail: "nothing was built"}
	switch w.memory.Builds {
	case sandboxer.EgressDeny:
		builds.Detail = "builds have no network"
	case sandboxer.EgressAllow:
		builds.Level, builds.Detail = sandboxer.Advisory, "builds may use the network; config.build_egress: deny closes it"
	}
	var controls []sandboxer.Control
	var err error
	if w.memory.Egress == sandboxer.EgressAllow {
		controls, err = w.openControls(p)
	} else {
		controls, err = w.closedControls(ctx, p, containers)
	}
	return append(controls, builds), err
}

// closedControls are those of egress deny and allowlist.
func (w *watch) closedControls(ctx context.Context, p *posture, containers map[string][]engine.ContainerDetails) ([]sandboxer.Control, error) {
	if open := p.reached(slices.Concat(p.host, p.neighbours, []netip.AddrPort{metadata})...); len(open) > 0 {
		return nil, fmt.Errorf("%s can be reached from inside though egress is closed: %w", strings.Join(open, ", "), sandboxer.ErrUnsupported)
	}
	if err := w.networksAreClosed(ctx); err != nil {
		return nil, err
	}
	for _, all := range containers {
		for _, c := range all {
			if len(c.Networks) > 0 && c.Labels[composeService] != admission.ProxyService && !slices.Equal(c.DNS, []string{"127.0.0.1"}) {
				return nil, fmt.Errorf("container %s resolves names outside though egress is closed: %w", c.Name, sandboxer.ErrUnsupported)
			}
		}
	}
	egress := sandboxer.Control{Name: "network.egress", Level: sandboxer.Enforced, Detail: "every network is internal and without a host address"}
	if w.memory.Egress == sandboxer.EgressAllowlist {
		if err := w.proxyRefuses(ctx, containers); err != nil {
			return nil, err
		}
		egress.Detail = "only through the sandbox's proxy, to " + orNone(w.memory.Allow)
	}
	// A socket bound to an interface sends past the routing table, and the host
	// takes what is sent to everybody: see the table in docs/security.md.
	hostAccess := sandboxer.Control{Name: "network.host", Level: sandboxer.Advisory,
		Detail: tried(len(p.host), "addresses and ports of the host") + "; broadcasts can arrive there until the host is hardened"}
	if p.hardened || !p.networks {
		hostAccess = sandboxer.Control{Name: "network.host", Level: sandboxer.Enforced, Detail: tried(len(p.host), "addresses and ports of the host") + "; closed by the host's rules too"}
	}
	return []sandboxer.Control{
		egress,
		hostAccess,
		{Name: "network.metadata", Level: sandboxer.Enforced, Detail: "tried from inside: no answer from " + metadata.Addr().String()},
		{Name: "network.neighbours", Level: sandboxer.Enforced, Detail: tried(len(p.neighbours), "addresses of other sandboxes")},
		{Name: "network.dns", Level: sandboxer.Enforced, Detail: "names outside do not resolve"},
	}, nil
}

func tried(n int, what string) string {
	return fmt.Sprintf("tried from inside: none of %d %s answered", n, what)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// openControls are those of egress allow: what is closed is the host's doing.
func (w *watch) openControls(p *posture) ([]sandboxer.Control, error) {
	closed := func(name string, open []string, what string, proved bool) sandboxer.Control {
		switch {
		case len(open) > 0:
			return sandboxer.Control{Name: name, Level: sandboxer.Unsupported, Detail: fmt.Sprintf("%s can be reached from inside, at %s; hardening the host closes it", what, strings.Join(open, ", "))}
		case proved:
			return sandboxer.Control{Name: name, Level: sandboxer.Enforced, Detail: what + " cannot be reached: closed by the host's rules, and tried from inside"}
		}
		return sandboxer.Control{Name: name, Level: sandboxer.Advisory, Detail: what + " did not answer when tried from inside; no rule of the host closes it"}
	}
	hostAccess := closed("network.host", p.reached(p.host...), "the host", p.hardened || !p.networks)
	if w.memory.HostAccess {
		hostAccess = sandboxer.Control{Name: "network.host", Level: sandboxer.Enforced, Detail: "allowed by the profile"}
	}
	neighbours := sandboxer.Control{Name: "network.neighbours", Level: sandboxer.Enforced, Detail: tried(len(p.neighbours), "addresses of other sandboxes")}
	if open := p.reached(p.neighbours...); len(open) > 0 {
		return nil, fmt.Errorf("other sandboxes can be reached from inside, at %s: %w", strings.Join(open, ", "), sandboxer.ErrUnsupported)
	} else if len(p.neighbours) == 0 {
		neighbours.Level, neighbours.Detail = sandboxer.Advisory, "the engine keeps networks apart; there was no other sandbox to try it on"
	}
	return []sandboxer.Control{
		{Name: "network.egress", Level: sandboxer.Enforced, Detail: "allowed by the profile"},
		hostAccess,
		closed("network.metadata", p.reached(metadata), "the metadata address "+metadata.Addr().String(), p.hardened || !p.networks),
		neighbours,
	}, nil
}

// networksAreClosed reads the networks back.
func (w *watch) networksAreClosed(ctx context.Context) error {
	eng, err := w.machine.Engine(ctx)
	if err != nil {
		return err
	}
	networks, err := eng.Networks(ctx, host.LabelID+"="+w.id)
	if err != nil {
		return host.Classify(err)
	}
	for _, n := range networks {
		details, err := eng.InspectNetwork(ctx, n.ID)
		if err != nil {
			return host.Classify(err)
		}
		if err := isClosed(w.id, details); err != nil {
			return err
		}
	}
	return nil
}

// isClosed judges one network of a sandbox whose egress is closed.
func isClosed(id string, n engine.NetworkDetails) error {
	switch {
	case n.IPv6: // an address of the host too: inhibit_ipv4 is about IPv4 alone
		return fmt.Errorf("network %s has IPv6 though egress is closed: %w", n.Name, sandboxer.WithHint(sandboxer.ErrUnsupported,
			"the engine gives IPv6 to new networks: take it out of default-network-opts in the engine's daemon.json, or bring the compose plugin up to date"))
	case n.Labels[host.LabelOutside] != "":
		for _, name := range n.Containers {
			if !strings.HasPrefix(name, project(id)+"-"+admission.ProxyService+"-") {
				return fmt.Errorf("container %s is on the proxy's network %s: %w", name, n.Name, sandboxer.ErrUnsupported)
			}
		}
	case !n.Internal || n.Options["com.docker.network.bridge.inhibit_ipv4"] != "true":
		return fmt.Errorf("network %s is open though egress is closed: %w", n.Name, sandboxer.ErrUnsupported)
	}
	return nil
}

// proxyRefuses asks the proxy for something that no list holds.
func (w *watch) proxyRefuses(ctx context.Context, containers map[string][]engine.ContainerDetails) error {
	if !w.memory.Proxied {
		return nil
	}
	for _, c := range containers[admission.ProxyService] {
		for name, endpoint := range c.Networks {
			if c.State.Running && !strings.HasSuffix(name, "_"+admission.OutsideNetwork) {
				return w.askProxy(ctx, netip.AddrPortFrom(endpoint.IPv4, proxy.Port))
			}
		}
	}
	return fmt.Errorf("the sandbox's proxy does not run: %w", sandboxer.ErrUnavailable)
}

func (w *watch) askProxy(ctx context.Context, at netip.AddrPort) error {
	conn, err := w.machine.DialAddress(ctx, w.id, at)
	if err != nil {
		return fmt.Errorf("the sandbox's proxy: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	const unlisted = "not-listed.invalid:1"
	if _, err := io.WriteString(conn, "CONNECT "+unlisted+" HTTP/1.1\r\nHost: "+unlisted+"\r\n\r\n"); err != nil {
		return fmt.Errorf("the sandbox's proxy: %w", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("the sandbox's proxy: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		return fmt.Errorf("the sandbox's proxy answered %s to what is not on the list: %w", answer.Status, sandboxer.ErrUnsupported)
	}
	return nil
}
