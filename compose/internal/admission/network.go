package admission

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// network is what the service is attached to and what names it knows.
func (j *judge) network(at attr, s types.ServiceConfig, c *canonicalService) {
	j.ports(at.at("ports"), s.Ports)
	c.Expose = j.expose(at.at("expose"), s.Expose)
	if s.MacAddress != "" {
		j.rewrite("MAC-ADDRESS", at.at("mac_address"), "")
	}
	switch mode := s.NetworkMode; {
	case mode == "none" || strings.HasPrefix(mode, types.ServicePrefix):
		c.NetworkMode = mode
	case mode == "bridge" || mode == "default":
		j.rewrite("NETWORK-MODE", at.at("network_mode"), "becomes the sandbox's default network")
		c.Networks = map[string]canonicalAttachment{"default": {}}
		if j.result.networks["default"] == nil {
			j.result.networks["default"] = &network{}
		}
	case mode != "":
		j.refuse("NETWORK-MODE", at.at("network_mode"), mode)
	}
	for key, n := range s.Networks {
		if c.Networks == nil {
			c.Networks = map[string]canonicalAttachment{}
		}
		c.Networks[key] = j.attachment(at.at("networks", key), s, n)
	}
	if s.ContainerName != "" {
		j.rewrite("CONTAINER-NAME", at.at("container_name"), "becomes a name on the sandbox's networks: a container of that name would clash with other copies")
	}
	j.names(at, s, c)
}

func (j *judge) attachment(at attr, s types.ServiceConfig, n *types.ServiceNetworkConfig) canonicalAttachment {
	out := canonicalAttachment{}
	if n == nil {
		n = &types.ServiceNetworkConfig{}
	}
	aliases := slices.Clone(n.Aliases)
	if s.ContainerName != "" {
		aliases = append(aliases, s.ContainerName)
	}
	slices.Sort(aliases)
	out.Aliases, out.Priority = slices.Compact(aliases), n.Priority
	for key, address := range map[string]string{"ipv4_address": n.Ipv4Address, "ipv6_address": n.Ipv6Address} {
		if address != "" {
			j.rewrite("NET-STATIC-IP", at.at(key), "")
		}
	}
	if n.UseServiceNameAlias != nil && !*n.UseServiceNameAlias {
		j.rewrite("NET-ALIAS", at.at("use_service_name_alias"), "is dropped: a service is always known by its name")
	}
	if n.GatewayPriority != 0 {
		j.rewrite("NET-ALIAS", at.at("gw_priority"), "")
	}
	return out
}

// names is how the container resolves names.
func (j *judge) names(at attr, s types.ServiceConfig, c *canonicalService) {
	c.ExtraHosts = j.extraHosts(at.at("extra_hosts"), s.ExtraHosts)
	given := map[string]bool{"dns": len(s.DNS) > 0, "dns_opt": len(s.DNSOpts) > 0, "dns_search": len(s.DNSSearch) > 0}
	if !j.Policy.denies() {
		c.DNS, c.DNSOptions, c.DNSSearch = s.DNS, s.DNSOpts, s.DNSSearch
		return
	}
	if len(c.Networks) > 0 {
		// Service discovery does not go through here: what is left are names
		// outside, which some engines resolve from the host.
		c.DNS = []string{"127.0.0.1"}
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if given[key] && !slices.Equal([]string(s.DNS), c.DNS) {
			j.rewrite("DNS", at.at(key), "")
		}
	}
}

func (j *judge) extraHosts(at attr, hosts types.HostsList) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		for _, address := range hosts[name] {
			ip, err := netip.ParseAddr(address)
			switch {
			case address == "host-gateway":
				if !j.Policy.HostAccess {
					j.grant("EXTRA-HOSTS", at.at(name), "is host-gateway, the host itself", "run the thing as a service of this file, or let the profile allow EXTRA-HOSTS")
				}
				out = append(out, name+":"+address)
			case err != nil:
				j.deny("EXTRA-HOSTS", at.at(name), fmt.Sprintf("is %q, which is not an address", address), "name a literal address")
			case ip.Is4():
				out = append(out, name+":"+address)
			default:
				out = append(out, name+"="+address)
			}
		}
	}
	return out
}

// ports are not published; what was asked for is remembered for reaching it.
func (j *judge) ports(at attr, all []types.ServicePortConfig) {
	if len(all) == 0 {
		return
	}
	if n := longestRow(all); n > maxInRow {
		j.grant("PORT-RANGE", at, fmt.Sprintf("lists %d ports in a row; a service may list %d", n, maxInRow))
	}
	var published []string
	for _, p := range all {
		if p.Published != "" && len(published) < maxPortsTold {
			published = append(published, fmt.Sprintf("%s for %d", p.Published, p.Target))
		}
	}
	if len(published) == 0 {
		j.rewrite("PORTS", at, "")
		return
	}
	j.rewrite("PORTS", at, fmt.Sprintf("takes no port of the host (%s): reach it with Dial or forward", strings.Join(published, ", ")))
}

// longestRow is how many ports follow one another, as those of a range do. One
// by one, a file may list as many as it has room for: none is published.
func longestRow(all []types.ServicePortConfig) int {
	longest, row := 0, 0
	for i, p := range all {
		if row++; i > 0 && (p.Target != all[i-1].Target+1 || p.Protocol != all[i-1].Protocol) {
			row = 1
		}
		longest = max(longest, row)
	}
	return longest
}

var exposed = regexp.MustCompile(`^(\d+)(?:-(\d+))?(?:/(?:tcp|udp|sctp))?$`)

func (j *judge) expose(at attr, all types.StringOrNumberList) []string {
	for i, e := range all {
		m := exposed.FindStringSubmatch(e)
		if m == nil {
			j.deny("LOAD", at.item(i), fmt.Sprintf("is %q, which is not a port", e), "write a port or PORT/tcp")
			continue
		}
		from, _ := strconv.Atoi(m[1])
		to, _ := strconv.Atoi(cmp.Or(m[2], m[1]))
		if to-from >= maxPortRange {
			j.deny("PORT-RANGE", at.item(i), "")
		}
	}
	return all
}
