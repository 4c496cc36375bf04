package admission

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// engineCaps are the capabilities a container has unless they are dropped.
var engineCaps = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

// droppedCaps are never had: MKNOD with a device rule reads disks, NET_RAW
// forges packets on the bridge, AUDIT_WRITE writes the host's audit log.
var droppedCaps = []string{"AUDIT_WRITE", "MKNOD", "NET_RAW"}

// DroppedCapabilities are those that no container of a sandbox has.
func DroppedCapabilities() []string { return slices.Clone(droppedCaps) }

// grantedCaps may be added if the profile allows CAP-ADD; none leads out of the container.
var grantedCaps = []string{"NET_ADMIN", "SYS_NICE", "SYS_PTRACE"}

// Two capabilities that honest files ask for: IPC_LOCK keeps memory from
// being swapped, and locked memory counts against the container's limit like
// any other; without SYS_NICE, which starves neighbours, databases run as well.
const (
	capLock = "IPC_LOCK"
	capNice = "SYS_NICE"
)

// withoutIPv6 turns IPv6 off where it is 1. As 0 it reopens a way to the host.
var withoutIPv6 = regexp.MustCompile(`^net\.ipv6\.conf\.[a-z0-9_-]+\.disable_ipv6$`)

// safeSysctls belong to the container's own namespaces. IPv6 settings are not
// among them.
var safeSysctls = regexp.MustCompile(`^(net\.core\.somaxconn|net\.ipv4\.(tcp_[a-z0-9_]+|ip_local_port_range|ip_unprivileged_port_start|ping_group_range)|kernel\.(shm[a-z_]+|sem|msg[a-z_]+)|fs\.mqueue\.[a-z_]+)$`)

// grantedSysctls are of the container's network namespace as well.
var grantedSysctls = regexp.MustCompile(`^net\.ipv4\.[a-z0-9_.]+$`)

// grantedUlimits may be set if the profile allows ULIMITS. What is not there
// lets a process run before all others.
var grantedUlimits = []string{"as", "cpu", "data", "fsize", "locks", "msgqueue", "rss", "sigpending"}

// maxOpenFiles is the engine's own default bound.
const maxOpenFiles = 1 << 20

// confinement is what the container may do to its host.
func (j *judge) confinement(at attr, s types.ServiceConfig, c *canonicalService) {
	j.capabilities(at, s, c)
	c.SecurityOpt = []string{"no-new-privileges:true"}
	for i, opt := range s.SecurityOpt {
		name, value, _ := strings.Cut(strings.ReplaceAll(opt, "=", ":"), ":")
		switch {
		case name == "label" && value == "disable":
			j.rewrite("SECURITY-OPT", at.at("security_opt").item(i), "is dropped: the container keeps the label that the host gives it")
		case name != "no-new-privileges":
			j.refuse("SECURITY-OPT", at.at("security_opt").item(i), opt)
		case value == "false":
			j.rewrite("SECURITY-OPT", at.at("security_opt").item(i), "becomes no-new-privileges:true")
		}
	}
	own := func(value string, fine ...string) bool {
		return value == "" || strings.HasPrefix(value, types.ServicePrefix) || slices.Contains(fine, value)
	}
	if !own(s.Pid) {
		j.refuse("PID-MODE", at.at("pid"), s.Pid)
	}
	if !own(s.Ipc, "private", "shareable", "none") {
		j.refuse("IPC-MODE", at.at("ipc"), s.Ipc)
	}
	if s.Cgroup != "" && s.Cgroup != "private" {
		j.refuse("CGROUP-MODE", at.at("cgroup"), s.Cgroup)
	}
	if s.Umask != nil { // 000 asks for something, too
		j.deny("UMASK", at.at("umask"), "")
	}
	j.runtime(at, s)
	c.PidMode, c.IPCMode, c.Cgroup = s.Pid, s.Ipc, s.Cgroup
	for _, name := range slices.Sorted(maps.Keys(s.Sysctls)) {
		switch {
		case safeSysctls.MatchString(name), withoutIPv6.MatchString(name) && s.Sysctls[name] == "1":
		case grantedSysctls.MatchString(name):
			j.grant("SYSCTL", at.at("sysctls", name), "is a setting of the container's network that is not known to be harmless", "remove it, or let the profile allow SYSCTL")
		default:
			j.deny("SYSCTL", at.at("sysctls", name), "")
		}
	}
	c.Sysctls = s.Sysctls
	c.Devices = j.devices(at.at("devices"), s.Devices)
}

// grantedDevices work within the container's own namespaces. Others are
// disks, memory or hardware of the host.
var grantedDevices = []string{"/dev/fuse", "/dev/kvm", "/dev/net/tun"}

func (j *judge) devices(at attr, all []types.DeviceMapping) []string {
	var out []string
	for i, d := range all {
		switch {
		case !slices.Contains(grantedDevices, d.Source) || d.Target != "" && d.Target != d.Source || !permissions.MatchString(d.Permissions):
			j.deny("DEVICES", at.item(i), fmt.Sprintf("gives the container %s of the host, which no profile allows", d.Source), "remove it")
		case j.grant("DEVICES", at.item(i), fmt.Sprintf("gives the container %s of the host", d.Source)):
			out = append(out, d.Source+":"+d.Source+":"+cmp.Or(d.Permissions, "rwm"))
		}
	}
	return out
}

var permissions = regexp.MustCompile(`^(r?w?m?)$`)

func (j *judge) capabilities(at attr, s types.ServiceConfig, c *canonicalService) {
	for i, written := range s.CapAdd {
		name, from := capName(written), at.at("cap_add").item(i)
		switch {
		case slices.Contains(droppedCaps, name):
			j.rewrite("CAP-ADD", from, fmt.Sprintf("%s is not added", name))
		case slices.Contains(engineCaps, name):
			c.CapAdd = append(c.CapAdd, name)
		case name == capLock && j.Policy.Memory > 0:
			c.CapAdd = append(c.CapAdd, name)
		case name == capNice && !j.Policy.allows("CAP-ADD"):
			j.rewrite("CAP-ADD", from, fmt.Sprintf("%s is not added", name))
		case slices.Contains(grantedCaps, name):
			if j.grant("CAP-ADD", from, fmt.Sprintf("adds %s, which is more than the engine gives by default", name)) {
				c.CapAdd = append(c.CapAdd, name)
			}
		default:
			j.deny("CAP-ADD", from, fmt.Sprintf("adds %s, which no profile allows", name), "remove it")
		}
	}
	c.CapDrop = slices.Clone(droppedCaps)
	for _, written := range s.CapDrop {
		c.CapDrop = append(c.CapDrop, capName(written))
	}
	slices.Sort(c.CapAdd)
	slices.Sort(c.CapDrop)
	c.CapAdd, c.CapDrop = slices.Compact(c.CapAdd), slices.Compact(c.CapDrop)
}

func capName(written string) string {
	return strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(written)), "CAP_")
}

// The log of a container, bounded: an unbounded one fills the host's disk.
func boundedLog() canonicalLogging {
	return canonicalLogging{Driver: "json-file", Options: map[string]string{"max-size": "10m", "max-file": "3"}}
}

// sandboxOOMScore makes the kernel end a container before the host's daemons.
const sandboxOOMScore = 500

// resources is how much of the host the container may use.
func (j *judge) resources(at attr, s types.ServiceConfig, c *canonicalService) {
	limits, reserved := types.Resource{}, types.Resource{}
	if s.Deploy != nil && s.Deploy.Resources.Limits != nil {
		limits = *s.Deploy.Resources.Limits
	}
	if s.Deploy != nil && s.Deploy.Resources.Reservations != nil {
		reserved = *s.Deploy.Resources.Reservations
	}
	cpus := max(single(s.CPUS), single(limits.NanoCPUs.Value()))
	if math.IsNaN(cpus) || math.IsInf(cpus, 0) {
		j.deny("LOAD", at.at("cpus"), "is not a number of processors", "write a number such as 0.5")
		cpus = 0
	}
	c.CPUs = bounded(j, at.at("cpus"), cpus, j.Policy.CPUs)
	c.MemLimit = bounded(j, at.at("mem_limit"), max(int64(s.MemLimit), int64(limits.MemoryBytes)), j.Policy.Memory)
	c.PidsLimit = bounded(j, at.at("pids_limit"), max(s.PidsLimit, limits.Pids), j.Policy.PIDs)
	c.MemSwapLimit = c.MemLimit
	c.MemReservation = max(int64(s.MemReservation), int64(reserved.MemoryBytes))
	if c.MemLimit > 0 {
		c.MemReservation = min(c.MemReservation, c.MemLimit)
	}
	if s.MemSwapLimit != 0 && int64(s.MemSwapLimit) != c.MemLimit {
		j.rewrite("RESOURCES", at.at("memswap_limit"), "becomes the memory limit: containers do not swap")
	}
	if c.ShmSize = int64(s.ShmSize); c.ShmSize < 0 {
		j.deny("LOAD", at.at("shm_size"), "is negative", "write a size such as 64m")
	}
	if c.MemLimit > 0 && c.ShmSize > c.MemLimit {
		c.ShmSize = c.MemLimit
		j.rewrite("SHM", at.at("shm_size"), fmt.Sprintf("becomes %d bytes, the memory limit", c.ShmSize))
	}
	for key, given := range map[string]bool{
		"cpu_count": s.CPUCount != 0, "cpu_percent": s.CPUPercent != 0, "cpu_period": s.CPUPeriod != 0, "cpu_quota": s.CPUQuota != 0,
		"cpu_shares": s.CPUShares != 0, "cpuset": s.CPUSet != "", "mem_swappiness": s.MemSwappiness != 0, "blkio_config": s.BlkioConfig != nil,
	} {
		if given {
			j.rewrite("RESOURCES", at.at(key), "is dropped: it weighs this container against others of the host")
		}
	}
	j.oom(at, s)
	c.OOMScoreAdj = sandboxOOMScore
	c.Ulimits = j.ulimits(at.at("ulimits"), s.Ulimits)
	c.Logging = boundedLog()
	if l := s.Logging; l != nil {
		known := slices.Contains([]string{"", "json-file", "local", "none"}, l.Driver)
		if known || j.grant("LOGGING", at.at("logging", "driver"), fmt.Sprintf("is %s, which sends logs from the host", l.Driver)) {
			j.rewrite("LOGGING", at.at("logging"), "becomes json-file, 3 files of 10 MB")
		}
	}
}

// single is the shortest decimal that a float32 stands for.
func single(f float32) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	return v
}

// bounded is what a container gets of one resource: what it asks for, at most
// what the policy allows, which is also what it gets without asking.
func bounded[T int64 | float64](j *judge, at attr, asked, most T) T {
	switch {
	case most <= 0:
		return max(asked, 0)
	case asked <= 0:
		return most
	case asked > most:
		j.rewrite("RESOURCES", at, fmt.Sprintf("becomes %v, the most the profile allows", most))
		return most
	}
	return asked
}

func (j *judge) oom(at attr, s types.ServiceConfig) {
	switch {
	case s.OomScoreAdj < 0:
		j.deny("OOM", at.at("oom_score_adj"), "")
	case s.OomScoreAdj > 0 && s.OomScoreAdj != sandboxOOMScore:
		j.rewrite("OOM", at.at("oom_score_adj"), fmt.Sprintf("becomes %d", sandboxOOMScore))
	}
	if s.OomKillDisable {
		j.deny("OOM", at.at("oom_kill_disable"), "")
	}
}

// ulimits bounds nofile, drops nproc and memlock, and always forbids core
// dumps: the host handles them. The container's own limits cover processes
// and memory, locked or not; and an engine that may not raise memlock itself
// starts no container that asks for it.
func (j *judge) ulimits(at attr, all map[string]*types.UlimitsConfig) map[string]canonicalUlimit {
	out := map[string]canonicalUlimit{"core": {}}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		u := *all[name]
		if u.Single != 0 {
			u.Soft, u.Hard = u.Single, u.Single
		}
		switch name {
		case "nofile":
			bound := canonicalUlimit{Soft: openFiles(u.Soft), Hard: openFiles(u.Hard)}
			if bound.Soft != u.Soft || bound.Hard != u.Hard {
				j.rewrite("ULIMITS", at.at(name), fmt.Sprintf("becomes %d", maxOpenFiles))
			}
			out[name] = bound
		case "core":
			if u.Soft != 0 || u.Hard != 0 {
				j.rewrite("ULIMITS", at.at(name), "becomes 0: core dumps are handled by the host")
			}
		case "nproc":
			j.rewrite("ULIMITS", at.at(name), "is dropped: the limits of the container apply")
		case "stack":
			out[name] = canonicalUlimit{u.Soft, u.Hard}
		case "memlock":
			if j.Policy.Memory <= 0 || !j.Policy.allows("ULIMITS") {
				j.rewrite("ULIMITS", at.at(name), "is dropped: many engines cannot raise it; a program that is root locks memory with cap_add IPC_LOCK, or let the profile allow ULIMITS")
			} else if j.grant("ULIMITS", at.at(name), "raises how much memory may be locked") {
				out[name] = canonicalUlimit{u.Soft, u.Hard}
			}
		default:
			if !slices.Contains(grantedUlimits, name) {
				j.deny("ULIMITS", at.at(name), "sets a limit that protects the host, which no profile allows")
			} else if j.grant("ULIMITS", at.at(name), "") {
				out[name] = canonicalUlimit{u.Soft, u.Hard}
			}
		}
	}
	return out
}

func openFiles(n int) int {
	if n < 0 || n > maxOpenFiles {
		return maxOpenFiles
	}
	return n
}
