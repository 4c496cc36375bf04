package admission

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/proxy"
)

// With egress allowlist every network is cut off as with deny, and the
// canonical file holds one service more: the proxy, which stands on them and
// on a network of its own that leads outside.
const (
	ProxyService   = "sandboxer-proxy"
	OutsideNetwork = "sandboxer-outside"
)

const (
	proxyMemory = 256 << 20
	proxyPIDs   = 256
)

// reserved refuses the names that the canonical file itself uses.
func (j *judge) reserved() {
	if _, taken := j.project.Services[ProxyService]; taken {
		j.refuse("RESERVED", attr{"services", ProxyService}, ProxyService)
	}
	if _, taken := j.project.Networks[OutsideNetwork]; taken {
		j.refuse("RESERVED", attr{"networks", OutsideNetwork}, OutsideNetwork)
	}
}

// withoutProxy takes out of a canonical file what render added to it.
func withoutProxy(p *types.Project) {
	delete(p.Services, ProxyService)
	delete(p.Networks, OutsideNetwork)
}

// leadOut finds the networks that the proxy serves: those that services stand
// on and that the file itself does not cut off.
func (j *judge) leadOut() {
	p := j.result
	if p.policy.Egress != sandboxer.EgressAllowlist || j.Tree == nil {
		return // all networks of a canonical file are internal
	}
	for _, n := range p.Networks {
		if !n.Internal && n.Containers > 0 {
			p.proxied = append(p.proxied, n.Key)
		}
	}
	if len(p.proxied) == 0 {
		return
	}
	p.Networks = append(p.Networks, Network{Key: OutsideNetwork, Containers: 1})
	j.rewrite("EGRESS-PROXY", attr{"services"}, fmt.Sprintf("reach %s through a proxy: HTTP_PROXY and HTTPS_PROXY are set where the file does not set them; nothing else gets out",
		orNothing(strings.Join(p.policy.Destinations, ", "))))
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// Proxied reports whether the sandbox has a proxy.
func (p *Plan) Proxied() bool { return len(p.proxied) > 0 }

// ProxyImage is the name of the proxy's image, which must be on the host
// before the canonical file is brought up.
func ProxyImage(id string) string { return DefaultImagePrefix(id) + "/proxy:1" }

// proxyAddress is the last usable address of a subnet: the engine gives them
// out from the first.
func proxyAddress(subnet netip.Prefix) netip.Addr {
	first := binary.BigEndian.Uint32(subnet.Masked().Addr().AsSlice())
	var last [4]byte
	binary.BigEndian.PutUint32(last[:], first+1<<(32-subnet.Bits())-2)
	return netip.AddrFrom4(last)
}

// addProxy adds the proxy, and the services' way to it.
func (p *Plan) addProxy(out *canonicalFile, place Placement) {
	if !p.Proxied() {
		return
	}
	for name, s := range out.Services {
		if key, ok := p.proxyFor(name); ok {
			out.Services[name] = p.throughProxy(s, place, key)
		}
	}
	out.Services[ProxyService] = p.proxyService(place)
	out.Networks[OutsideNetwork] = canonicalNetwork{
		Name: place.Project + "_" + OutsideNetwork, Driver: "bridge", Labels: place.OutsideLabels, DriverOpts: p.bridge(nil, place, OutsideNetwork),
		IPAM: canonicalIPAM{Config: []canonicalSubnet{{Subnet: place.Subnets[OutsideNetwork].String()}}},
	}
}

func (p *Plan) proxyService(place Placement) canonicalService {
	command := []string{}
	networks := map[string]canonicalAttachment{OutsideNetwork: {Priority: 1000}} // the default route leads there
	for _, key := range p.proxied {
		address := proxyAddress(place.Subnets[key])
		networks[key] = canonicalAttachment{IPv4Address: address.String()}
		command = append(command, netip.AddrPortFrom(address, proxy.Port).String())
	}
	command = append(append(command, "--"), p.policy.Destinations...)
	cpus := 1.0
	if place.CPUs > 0 {
		cpus = min(cpus, place.CPUs)
	}
	return canonicalService{
		Image: ProxyImage(p.id), Entrypoint: &[]string{proxy.Path}, Command: &command, User: "65534:65534", ReadOnly: true, Restart: fmt.Sprintf("on-failure:%d", maxRestarts),
		Networks: networks, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges:true"},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "0"}, // engines turn it on: no way from one network to another
		CPUs:    cpus, MemLimit: proxyMemory, MemSwapLimit: proxyMemory, PidsLimit: proxyPIDs, Labels: place.Labels, Logging: boundedLog(),
	}
}

// proxyFor finds the network over which a service reaches the proxy.
func (p *Plan) proxyFor(name string) (string, bool) {
	for range len(p.services) {
		s := p.services[name]
		if s == nil {
			return "", false
		}
		for _, key := range p.proxied {
			if _, attached := s.fixed.Networks[key]; attached {
				return key, true
			}
		}
		other, shares := strings.CutPrefix(s.fixed.NetworkMode, types.ServicePrefix)
		if !shares {
			return "", false
		}
		name = other
	}
	return "", false
}

// throughProxy tells a service where the proxy is, in the variables that
// programs look for, unless the file sets them.
func (p *Plan) throughProxy(s canonicalService, place Placement, key string) canonicalService {
	s.Environment = maps.Clone(s.Environment)
	if s.Environment == nil {
		s.Environment = map[string]string{}
	}
	address := "http://" + netip.AddrPortFrom(proxyAddress(place.Subnets[key]), proxy.Port).String()
	for variable, value := range map[string]string{"HTTP_PROXY": address, "HTTPS_PROXY": address, "NO_PROXY": p.notProxied(place)} {
		for _, spelling := range []string{variable, strings.ToLower(variable)} {
			if _, set := s.Environment[spelling]; !set {
				s.Environment[spelling] = value
			}
		}
	}
	s.DependsOn = maps.Clone(s.DependsOn)
	if s.DependsOn == nil {
		s.DependsOn = map[string]canonicalDependency{}
	}
	s.DependsOn[ProxyService] = canonicalDependency{Condition: types.ServiceConditionStarted, Required: true}
	return s
}

// notProxied lists what lies inside the sandbox.
func (p *Plan) notProxied(place Placement) string {
	inside := map[string]bool{}
	for name, s := range p.services {
		inside[name] = true
		if s.fixed.Hostname != "" {
			inside[s.fixed.Hostname] = true
		}
		for _, n := range s.fixed.Networks {
			for _, alias := range n.Aliases {
				inside[alias] = true
			}
		}
		for _, link := range s.fixed.Links {
			_, alias, _ := strings.Cut(link, ":")
			inside[alias] = alias != ""
		}
	}
	for key := range p.networks {
		inside[place.Subnets[key].String()] = true
	}
	maps.DeleteFunc(inside, func(_ string, there bool) bool { return !there })
	return strings.Join(append([]string{"localhost", "127.0.0.1", "::1"}, slices.Sorted(maps.Keys(inside))...), ",")
}
