package host

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
)

// Facts are what a probe found out.
type Facts struct {
	Root       string
	RootID     string
	Socket     string
	User       string
	UID        int
	Kernel     string
	Machine    string
	CPUs       int
	FreeBytes  int64
	Sandboxes  int
	Cordoned   bool          // takes no new sandboxes
	ClockSkew  time.Duration // the host's clock minus ours, to the second
	Compose    string        // version as the plugin prints it, "dev" for source builds
	Engine     string        // version
	APIVersion string
	Storage    string
	Arch       string
	Rootless   bool   // the engine runs without root's rights
	InMemory   bool   // secrets can lie on a file system in memory
	Remapped   bool   // root in a container is another user outside
	Runtime    string // that the engine runs containers by unless told otherwise
	Runc       string // version; empty if the engine does not say
	Runtimes   []engine.Runtime
	Resolvers  []netip.Addr // name servers that the host asks, less those on the host itself; three at most
	Addresses  []netip.Addr // of the host, IPv4, less loopback; the first 32
	Listening  []uint16     // some of the TCP ports on which the host listens on all addresses
	Firewall   Firewall
	Warnings   []string // see sandboxer.HostProber
}

// warn adds what is weaker than it could be, and what to do about it.
func (f *Facts) warn(remedy, format string, args ...any) {
	f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...)+"\n"+remedy)
}

// probeAge is how long a probe is believed.
const probeAge = time.Minute

// minCompose is the first release whose output and options the scripts rely on.
const minCompose = "2.21"

// Probe finds out whether the machine can hold sandboxes. Every reason
// against it is an error with a remedy that matches ErrUnavailable, ErrHostKey
// or ErrAuth. Its answer is kept for a minute.
func (m *Machine) Probe(ctx context.Context) (*Facts, error) {
	if f := m.known(); f != nil {
		return f, nil
	}
	select {
	case m.probing <- struct{}{}:
		defer func() { <-m.probing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if f := m.known(); f != nil {
		return f, nil
	}
	return m.ProbeNow(ctx)
}

// known returns the facts that are still believed.
func (m *Machine) known() *Facts {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.probed) < probeAge {
		return m.facts
	}
	return nil
}

// forget has the next Probe ask.
func (m *Machine) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.facts = nil
}

// ProbeNow is Probe without believing an earlier one.
func (m *Machine) ProbeNow(ctx context.Context) (*Facts, error) {
	before := time.Now()
	out, err := m.run(ctx, step{names: []string{"rules", "probe"}})
	if err != nil {
		return nil, err
	}
	halfway := before.Add(time.Since(before) / 2)
	f, err := parseFacts(string(out), halfway)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.socket = f.Socket
	m.mu.Unlock()
	if err := m.probeEngine(ctx, f); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.facts, m.probed = f, time.Now()
	m.mu.Unlock()
	return f, nil
}

func unavailable(hint, format string, args ...any) error {
	return sandboxer.WithHint(fmt.Errorf("%w: "+format, append([]any{sandboxer.ErrUnavailable}, args...)...), "%s", hint)
}

func parseFacts(out string, at time.Time) (*Facts, error) {
	f := &Facts{}
	var missing []string
	values := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "missing":
			missing = append(missing, value)
		case "address":
			if a, err := netip.ParseAddr(value); err == nil {
				f.Addresses = append(f.Addresses, a)
			}
		case "listens":
			if port, err := strconv.ParseUint(value, 16, 16); err == nil {
				f.Listening = append(f.Listening, uint16(port))
			}
		}
		values[key] = value
	}
	number := func(key string) int64 { n, _ := strconv.ParseInt(values[key], 10, 64); return n }
	f.Root, f.RootID, f.Socket, f.User = values["root"], values["root_id"], values["socket"], values["user"]
	f.Kernel, f.Machine, f.Compose = values["kernel"], values["machine"], values["compose"]
	f.UID, f.CPUs, f.Sandboxes = int(number("uid")), int(number("cpus")), int(number("sandboxes"))
	f.Firewall = Firewall(values["firewall"])
	f.InMemory, f.Cordoned = values["memory"] == "yes", values["cordoned"] == "yes"
	f.FreeBytes = number("free_kb") << 10
	for text := range strings.FieldsSeq(values["resolvers"]) {
		if a, err := netip.ParseAddr(text); err == nil {
			f.Resolvers = append(f.Resolvers, a)
		}
	}
	f.ClockSkew = time.Unix(number("clock"), 0).Sub(at).Round(time.Second)
	switch {
	case len(missing) > 0:
		return nil, unavailable("install them on the host; Debian: coreutils util-linux tar gzip findutils sed grep mawk", "the host lacks %s", strings.Join(missing, ", "))
	case values["docker"] == "absent":
		return nil, unavailable("install Docker Engine 20.10 or newer on the host; Debian: apt-get install docker.io", "the host has no docker command")
	case values["socket_state"] == "absent":
		return nil, unavailable("start the Docker Engine on the host, or set engine_socket in the host configuration", "no Docker Engine listens on %s", f.Socket)
	case values["socket_state"] == "refused":
		return nil, unavailable("add the account to the docker group on the host", "user %s may not use %s", f.User, f.Socket)
	case f.Compose == "":
		return nil, unavailable("install the docker compose plugin "+minCompose+" or newer on the host", "the host's docker has no compose plugin")
	case olderThan(f.Compose, minCompose), len(versionNumbers(f.Compose)) == 0 && values["compose_progress"] != "yes":
		return nil, unavailable("install the docker compose plugin "+minCompose+" or newer on the host", "the host's compose plugin %s is too old", f.Compose)
	}
	if olderThan(f.Compose, "2.40.2") {
		f.warn("upgrade the compose plugin of the host to 2.40.2 or newer", "compose before 2.40.2 has CVE-2025-62725; sandboxes do not use remote includes, other users of the host may")
	}
	if !f.InMemory {
		f.warn("mount a tmpfs at /dev/shm of the host, with mode 1777; a directory there that another account took is that account's to remove", "there is no tmpfs at /dev/shm that the account can use; secrets of sandboxes lie on disk")
	}
	if f.ClockSkew > time.Minute || f.ClockSkew < -time.Minute {
		f.warn("have both machines keep time, by NTP", "the host's clock differs by %v; leases end by the host's clock", f.ClockSkew)
	}
	return f, nil
}

// olderThan compares the numeric parts of versions; one that has none, such as
// "dev", is not older than anything.
func olderThan(version, floor string) bool {
	have, want := versionNumbers(version), versionNumbers(floor)
	if len(have) == 0 {
		return false
	}
	for i := range want {
		h := 0
		if i < len(have) {
			h = have[i]
		}
		if h != want[i] {
			return h < want[i]
		}
	}
	return false
}

func versionNumbers(v string) []int {
	var out []int
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "-")
	v, _, _ = strings.Cut(v, "+")
	for part := range strings.SplitSeq(v, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}

// knownRuntimes may be an engine's default. Others do things for a container
// that asks for them in its environment or annotations, with the host's rights.
var knownRuntimes = []string{"runc", "io.containerd.runc.v2", "crun", "runsc"}

// minEngine is the oldest engine that the network posture was measured on.
const minEngine = "20.10"

func (m *Machine) probeEngine(ctx context.Context, f *Facts) error {
	var info engine.Info
	var version engine.Version
	err := ask(ctx, func() (err error) {
		if info, err = m.engine.Info(ctx); err == nil {
			version, err = m.engine.Version(ctx)
		}
		return err
	})
	if err != nil {
		return Classify(err)
	}
	f.Engine, f.Storage, f.Arch, f.Runtimes = info.ServerVersion, info.StorageDriver, info.Architecture, info.Runtimes
	f.Runc, f.Rootless, f.Remapped, f.Runtime = version.Runc, info.Rootless(), info.UserNamespaces(), info.DefaultRuntime
	switch {
	case !slices.Contains(knownRuntimes, f.Runtime):
		return unavailable("set default-runtime to runc in the engine's configuration, or remove it there", "the host's engine runs containers by %s unless told otherwise, and builds always: what that does with them is not known", f.Runtime)
	case info.OSType != "linux":
		return unavailable("use a host with a Linux engine", "the host's engine runs %s containers", info.OSType)
	case olderThan(f.Engine, minEngine):
		return unavailable("upgrade to Docker Engine "+minEngine+" or newer", "the host's Docker Engine %s is too old", f.Engine)
	}
	if olderThan(f.Engine, "28") {
		f.warn("upgrade the Docker Engine of the host to 28 or newer", "Docker Engine before 28 routes container addresses to the host's neighbours; sandboxes with denied egress are not affected")
	}
	if escapable(f.Runc) {
		f.warn("upgrade runc on the host to 1.2.8, 1.3.3 or newer, or see that the distribution's package has the fixes", "runc %s may have CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881, by which a container gets out, unless the distribution has mended them; 1.2.8 and 1.3.3 have", f.Runc)
	}
	return nil
}

// escapable reports whether a version of runc is one that had known ways out
// of a container when it was released.
func escapable(runc string) bool {
	return olderThan(runc, "1.2.8") || !olderThan(runc, "1.3") && olderThan(runc, "1.3.3")
}
