package admission

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// topLevel judges what services refer to. What no service that runs refers to
// is not there any more.
func (j *judge) topLevel() {
	for _, key := range j.project.NetworkNames() {
		j.topNetwork(attr{"networks", key}, key, j.project.Networks[key])
	}
	for _, key := range j.project.VolumeNames() {
		j.topVolume(attr{"volumes", key}, key, j.project.Volumes[key])
	}
	j.provideSecrets()
	for _, key := range j.project.SecretNames() {
		if j.provided[key] != "" {
			continue
		}
		if l, ok := j.content(attr{"secrets", key}, key, types.FileObjectConfig(j.project.Secrets[key]), "SECRET"); ok {
			j.result.secrets[key] = l
		}
	}
	for _, key := range j.project.ConfigNames() {
		if l, ok := j.content(attr{"configs", key}, key, types.FileObjectConfig(j.project.Configs[key]), "CONFIG"); ok {
			j.result.configs[key] = l
		}
	}
}

// The driver options of a network that do no harm: the first is kept, the
// others are decided by the profile.
const optionMTU = "com.docker.network.driver.mtu"

var idleNetworkOptions = []string{"encrypted", "com.docker.network.bridge.enable_icc", "com.docker.network.bridge.enable_ip_masquerade"}

func (j *judge) topNetwork(at attr, key string, n types.NetworkConfig) {
	out := &network{internal: n.Internal, options: map[string]string{}}
	j.result.networks[key] = out
	if j.Tree == nil {
		j.keepOptions(n, out)
		return
	}
	if bool(n.External) && slices.Contains([]string{"host", "bridge", "none"}, n.Name) {
		j.deny("NET-EXTERNAL", at.at("external"), fmt.Sprintf("is the network %s of the engine, which no profile allows", n.Name), "remove it")
	} else if bool(n.External) {
		j.grant("NET-EXTERNAL", at.at("external"), "")
	}
	switch n.Driver {
	case "", "bridge":
	case "overlay":
		j.rewrite("NET-DRIVER", at.at("driver"), "becomes bridge: the sandbox is on one host")
	default:
		j.refuse("NET-DRIVER", at.at("driver"), n.Driver)
	}
	if n.Name != j.project.Name+"_"+key && !bool(n.External) {
		j.rewrite("NET-NAME", at.at("name"), fmt.Sprintf("becomes %s_%s: a network of that name would be shared with other copies", j.project.Name, key))
	}
	j.keepOptions(n, out)
	for _, option := range slices.Sorted(maps.Keys(n.DriverOpts)) {
		switch {
		case slices.Contains(idleNetworkOptions, option):
			j.rewrite("NET-OPTIONS", at.at("driver_opts", option), "is dropped")
		case out.options[option] == "":
			j.deny("NET-DRIVER-OPTS", at.at("driver_opts", option), "")
		}
	}
	if n.Ipam.Driver != "" && n.Ipam.Driver != "default" {
		j.refuse("NET-IPAM", at.at("ipam", "driver"), n.Ipam.Driver)
	}
	if len(n.Ipam.Options) > 0 {
		j.deny("NET-IPAM", at.at("ipam", "options"), "")
	}
	for i, pool := range n.Ipam.Config {
		if pool != nil {
			j.pool(at.at("ipam", "config").item(i), *pool)
		}
	}
	for option, given := range map[string]bool{"attachable": n.Attachable, "enable_ipv4": n.EnableIPv4 != nil && !*n.EnableIPv4, "enable_ipv6": n.EnableIPv6 != nil && *n.EnableIPv6} {
		if given {
			j.rewrite("NET-OPTIONS", at.at(option), "")
		}
	}
	if len(n.Labels) > 0 {
		j.rewrite("LABELS", at.at("labels"), "")
	}
}

func (j *judge) keepOptions(n types.NetworkConfig, out *network) {
	if mtu, err := strconv.Atoi(n.DriverOpts[optionMTU]); err == nil && mtu >= 576 && mtu <= 9000 {
		out.options[optionMTU] = strconv.Itoa(mtu)
	}
}

// pool accepts private addresses; which ones are used is the host's to say.
func (j *judge) pool(at attr, p types.IPAMPool) {
	for _, a := range []struct{ key, value string }{{"subnet", p.Subnet}, {"ip_range", p.IPRange}} {
		if a.value == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(a.value)
		if err != nil || !private(prefix) {
			j.refuse("NET-SUBNET", at.at(a.key), a.value)
			continue
		}
		j.rewrite("NET-SUBNET", at.at(a.key), "becomes a subnet that is free on the host: with this one, two copies would clash")
	}
	addresses := map[string]string{"gateway": p.Gateway}
	for name, a := range p.AuxiliaryAddresses {
		addresses["aux_addresses."+name] = a
	}
	for _, key := range slices.Sorted(maps.Keys(addresses)) {
		if addresses[key] == "" {
			continue
		}
		a, err := netip.ParseAddr(addresses[key])
		if err != nil || !a.IsPrivate() {
			j.deny("NET-SUBNET", at.at(strings.SplitN(key, ".", 2)...), fmt.Sprintf("is %s, which is not a private address", addresses[key]))
		}
	}
}

func private(p netip.Prefix) bool {
	for _, block := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} {
		b := netip.MustParsePrefix(block)
		if b.Bits() <= p.Bits() && b.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

func (j *judge) topVolume(at attr, key string, v types.VolumeConfig) {
	out := &canonicalVolume{Driver: "local"}
	j.result.volumes[key] = out
	if v.External {
		j.grant("VOL-EXTERNAL", at.at("external"), "")
	}
	if v.Driver != "" && v.Driver != "local" {
		j.refuse("VOL-DRIVER", at.at("driver"), v.Driver)
	}
	if v.Name != j.project.Name+"_"+key && !bool(v.External) && j.Tree != nil {
		j.rewrite("VOL-NAME", at.at("name"), fmt.Sprintf("becomes %s_%s: a volume of that name would be shared with other copies", j.project.Name, key))
	}
	if len(v.Labels) > 0 {
		j.rewrite("LABELS", at.at("labels"), "")
	}
	if len(v.DriverOpts) == 0 {
		return
	}
	if dir, ok := boundDirectory(v.DriverOpts); ok && j.paths.find(dir).inside {
		j.rewrite("VOL-BIND", at.at("driver_opts"), "")
		j.bound[key] = dir
		delete(j.result.volumes, key)
		return
	}
	options, ok := j.tmpfsVolume(v.DriverOpts)
	if !ok {
		j.deny("VOL-DRIVER-OPTS", at.at("driver_opts"), "")
	} else if options["o"] != v.DriverOpts["o"] {
		j.rewrite("TMPFS", at.at("driver_opts", "o"), "becomes "+options["o"])
	}
	out.DriverOpts = options
}

// boundDirectory recognises the volume that is a bind mount by another name.
func boundDirectory(options map[string]string) (string, bool) {
	kind, dir := options["type"], options["device"]
	return dir, len(options) <= 3 && (kind == "" || kind == "none" || kind == "bind") && dir != "" && options["o"] == "bind"
}

// tmpfsVolume rewrites the only driver options that mount nothing of the
// host: a tmpfs, with a size and plain options. A list of what to forbid
// would not do: any file system type can mount something.
func (j *judge) tmpfsVolume(options map[string]string) (map[string]string, bool) {
	for key := range options {
		if key != "type" && key != "device" && key != "o" {
			return nil, false
		}
	}
	if options["type"] != "tmpfs" || options["device"] != "tmpfs" {
		return nil, false
	}
	kept, size := []string{"nodev", "nosuid"}, j.Policy.Memory
	for option := range strings.SplitSeq(options["o"], ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "":
		case "size":
			asked, err := tmpfsSize(value, j.Policy.Memory)
			if err != nil {
				return nil, false
			}
			size = smaller(asked, j.Policy.Memory)
		case "uid", "gid", "mode", "nr_inodes":
			if _, err := strconv.ParseUint(value, 10, 32); err != nil {
				return nil, false
			}
			kept = append(kept, option)
		case "noexec", "exec", "nodev", "nosuid", "noatime":
			kept = append(kept, option)
		default:
			return nil, false
		}
	}
	if size > 0 {
		kept = append(kept, fmt.Sprintf("size=%d", size))
	}
	slices.Sort(kept)
	return map[string]string{"type": "tmpfs", "device": "tmpfs", "o": strings.Join(slices.Compact(kept), ",")}, true
}
