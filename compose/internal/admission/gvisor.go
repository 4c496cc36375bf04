package admission

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// Under gVisor a container's network stack is its own: the engine's name
// server, which sits in the stack of the kernel, is not reached from it
// (google/gvisor#7469). So every container has a fixed address and knows the
// names of its neighbours from /etc/hosts. What needs a stack or a kernel that
// containers share cannot be had; much of it would start and then not work.

// runtime judges which runtime a service asks for.
func (j *judge) runtime(at attr, s types.ServiceConfig) {
	switch asked := s.Runtime; {
	case asked == "" || asked == j.placed:
	case j.Policy.gvisor() && asked == "runc":
		j.rewrite("RUNTIME", at.at("runtime"), "becomes the runtime of the profile's isolation, gvisor")
	case asked != "runc" && !(j.Policy.gvisor() && asked == "runsc"):
		j.refuse("RUNTIME", at.at("runtime"), asked)
	}
	if !j.Policy.gvisor() {
		return
	}
	if n := s.GetScale(); n > 1 {
		j.deny("GVISOR", at.at(scaleAttribute(s)), fmt.Sprintf("asks for %d containers: names are fixed to one address each, so a service has one container", n))
	}
	for key, mode := range map[string]string{"network_mode": s.NetworkMode, "pid": s.Pid, "ipc": s.Ipc} {
		if strings.HasPrefix(mode, types.ServicePrefix) {
			j.deny("GVISOR", at.at(key), fmt.Sprintf("is %s: every container has a kernel of its own and shares none of it", mode))
		}
	}
}

// buildRuntime refuses builds that run programs: the builder does so on the
// host's kernel, whatever the containers run under.
func (j *judge) buildRuntime(at attr, out *build) {
	if !j.Policy.gvisor() || j.Tree == nil {
		return
	}
	text, problem := j.readDockerfile(out)
	if problem != "" {
		return // refused elsewhere
	}
	if line := runsPrograms(text); line != "" {
		j.grant("BUILD-ISOLATION", at, fmt.Sprintf("may run programs on the host's kernel: %q", line))
	}
}

// idleInstructions of a Dockerfile start no program while it is built.
var idleInstructions = []string{"COPY", "ADD", "ENTRYPOINT", "CMD", "ENV", "LABEL", "EXPOSE", "USER", "WORKDIR", "VOLUME", "ARG", "STOPSIGNAL", "HEALTHCHECK", "SHELL", "MAINTAINER"}

// runsPrograms returns the first line of a Dockerfile that may start a program
// in the build, "" if there is none. What it does not know it takes for one:
// another frontend, the triggers of a base image, a line of a here-document.
func runsPrograms(dockerfile string) string {
	stages := []string{"scratch"}
	continued := false
	for line := range strings.Lines(dockerfile) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		directive := strings.ToLower(strings.Join(words, ""))
		switch {
		case strings.HasPrefix(directive, "#syntax="), strings.HasPrefix(directive, "#escape="), strings.Contains(line, "<<"):
			return line
		case line == "" || line[0] == '#':
			continue
		case continued, slices.Contains(idleInstructions, strings.ToUpper(words[0])):
		case strings.EqualFold(words[0], "FROM"):
			words = slices.DeleteFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "--") })
			if len(words) == 0 || !slices.Contains(stages, strings.ToLower(words[0])) {
				return line
			}
			if len(words) == 3 {
				stages = append(stages, strings.ToLower(words[2]))
			}
		default:
			return line
		}
		continued = strings.HasSuffix(line, `\`)
	}
	return ""
}

// dynamicBits is the size of the part of a subnet that the engine hands out
// itself, to the sandbox's own relay: its last four addresses.
const dynamicBits = 30

// FixedExtra is how many addresses a network needs besides those of its
// containers, the relay and the usual ones, when addresses are fixed.
const FixedExtra = 2

// fixable reports whether the networks have room for fixed addresses.
func (p *Plan) fixable(place Placement) error {
	if place.Runtime == "" {
		return fmt.Errorf("no runtime for isolation %s", p.policy.Isolation)
	}
	for _, n := range p.Networks {
		s := place.Subnets[n.Key]
		// network address, gateway, containers, and the engine's part with the broadcast address
		if need := 2 + n.Containers + 1<<(32-dynamicBits); !s.Addr().Is4() || bits.Len(uint(need-1)) > 32-s.Bits() {
			return fmt.Errorf("subnet %v of network %s has no room for %d containers", s, n.Key, n.Containers)
		}
	}
	return nil
}

// fixedSubnet keeps the engine from handing out a container's address while
// that container is down.
func fixedSubnet(s netip.Prefix) canonicalSubnet {
	last := nth(s, 1<<(32-s.Bits())-1<<(32-dynamicBits))
	return canonicalSubnet{Subnet: s.String(), Gateway: nth(s, 1).String(), IPRange: netip.PrefixFrom(last, dynamicBits).String()}
}

// nth is an address of a subnet of IPv4.
func nth(s netip.Prefix, n int) netip.Addr {
	raw := s.Masked().Addr().As4()
	binary.BigEndian.PutUint32(raw[:], binary.BigEndian.Uint32(raw[:])+uint32(n))
	return netip.AddrFrom4(raw)
}

// fixNames gives every container its addresses, by name of service from the
// third of each subnet on, and the names of those it shares a network with.
// Names that a file gives itself stay as they are.
func (p *Plan) fixNames(services map[string]canonicalService, place Placement) {
	byName := slices.Sorted(maps.Keys(services))
	used := map[string]int{}
	for _, name := range byName {
		s := services[name]
		s.Networks = maps.Clone(s.Networks)
		for key, attached := range s.Networks {
			attached.IPv4Address = nth(place.Subnets[key], 2+used[key]).String()
			s.Networks[key] = attached
			used[key]++
		}
		services[name] = s
	}
	for name, s := range services {
		s.ExtraHosts = withNeighbours(s, byName, services)
		if p.resolves(s) {
			s.Volumes = append(s.Volumes, canonicalMount{Type: "bind", Source: path.Join(place.PinDir, name+resolverSuffix), Target: resolverFile, ReadOnly: true, Bind: &canonicalBindOptions{}})
		}
		services[name] = s
	}
}

const (
	resolverFile   = "/etc/resolv.conf"
	resolverSuffix = ".resolv.conf" // of a pin; those of the plan itself begin with a number
)

// resolves reports whether a service needs to be told whom to ask for names outside.
func (p *Plan) resolves(s canonicalService) bool {
	own := slices.ContainsFunc(s.Volumes, func(m canonicalMount) bool { return path.Clean(m.Target) == resolverFile })
	return p.policy.gvisor() && !p.policy.denies() && len(s.Networks) > 0 && !own
}

// ResolverPins are the files that, besides Pins, a placement needs in its
// PinDir: the engine's name server is not reached under gVisor.
func (p *Plan) ResolverPins(place Placement) []Pin {
	var pins []Pin
	for _, name := range slices.Sorted(maps.Keys(p.services)) {
		s := p.services[name].on(place, p.id)
		if !p.resolves(s) {
			continue
		}
		servers := s.DNS
		for _, r := range place.Resolvers {
			if len(s.DNS) == 0 {
				servers = append(servers, r.String())
			}
		}
		text := ""
		for _, server := range servers {
			text += "nameserver " + server + "\n"
		}
		if len(s.DNSSearch) > 0 {
			text += "search " + strings.Join(s.DNSSearch, " ") + "\n"
		}
		if len(s.DNSOptions) > 0 {
			text += "options " + strings.Join(s.DNSOptions, " ") + "\n"
		}
		pins = append(pins, Pin{Name: name + resolverSuffix, Data: []byte(text), Mode: 0o644})
	}
	return pins
}

// withNeighbours is what a service's /etc/hosts says. A neighbour on several
// networks is known by its address on the first; a name that several
// neighbours have stands for all of them.
func withNeighbours(s canonicalService, byName []string, services map[string]canonicalService) []string {
	given := map[string]bool{}
	for _, entry := range s.ExtraHosts {
		given[entry[:strings.IndexAny(entry, ":=")]] = true
	}
	found := map[string][]string{}
	for _, neighbour := range byName {
		known := map[string]bool{}
		for _, key := range slices.Sorted(maps.Keys(s.Networks)) {
			there, shared := services[neighbour].Networks[key]
			if !shared {
				continue
			}
			for _, name := range slices.Concat([]string{neighbour}, there.Aliases, linked(s.Links, neighbour)) {
				if !known[name] && !given[name] {
					found[name] = append(found[name], name+":"+there.IPv4Address)
				}
				known[name] = true
			}
		}
	}
	for _, entry := range s.ExtraHosts {
		name := entry[:strings.IndexAny(entry, ":=")]
		found[name] = append(found[name], entry)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name]...)
	}
	return out
}

// linked lists the names that links give a service.
func linked(links []string, service string) []string {
	var names []string
	for _, l := range links {
		if to, alias, ok := strings.Cut(l, ":"); ok && to == service {
			names = append(names, alias)
		}
	}
	return names
}
