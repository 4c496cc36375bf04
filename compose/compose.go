// Package compose is the extension ext.compose-ssh: a repository with a
// compose file is copied to an isolated directory on a host reached by SSH (or
// on this machine), checked, hardened, brought up under a compose project of
// its own, reached without publishing a port, and torn down to the last object.
//
//	ext, err := compose.New(compose.Config{Hosts: hosts})
//	client, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, …})
//
// The compose file runs unedited. What it asks for is judged by a closed list
// on the client, before anything is created; what would clash with another
// copy or reach the host is rewritten or refused, see [Extension.Admit]. The
// host's compose reads one file, which this package wrote.
//
// Hosts need Docker Engine 20.10 or newer, the compose plugin 2.21 or newer
// and the usual command-line tools; nothing is installed on them. Membership
// in the docker group is root on that host: admission limits what a
// repository asks for, it does not make a container a security boundary.
package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
	"github.com/sand-boxer/sandboxer/extensions"
)

// ID is the extension's id, as profiles name it.
const ID = "ext.compose-ssh"

// Config configures an [Extension].
type Config struct {
	// Hosts in order of configuration; empty is this machine alone.
	Hosts []HostConfig
}

// An Extension establishes compose environments. It is safe for concurrent
// use; several processes may use the same hosts. It implements every optional
// interface of the root package but CostEstimator's dynamic pricing: a host's
// price is what its configuration says.
type Extension struct {
	info     sandboxer.ExtensionInfo
	configs  map[string]HostConfig
	warnings map[string][]string // of the hosts' SSH configuration
	machines map[string]*host.Machine
}

var _ interface {
	sandboxer.Extension
	sandboxer.Inspector
	sandboxer.Lister
	sandboxer.Admitter
	sandboxer.HostProber
	sandboxer.Dialer
	sandboxer.LogReader
	sandboxer.LeaseKeeper
	io.Closer
} = (*Extension)(nil)

// New checks the configuration, joined errors for all of it, and does no
// network I/O. Close the Extension, or the Client that holds it, when done.
func New(cfg Config) (*Extension, error) {
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = []HostConfig{{Name: "local", Address: "local:"}}
	}
	info, err := extensions.Manifest(ID)
	if err != nil {
		return nil, err
	}
	x := &Extension{info: info, configs: map[string]HostConfig{}, warnings: map[string][]string{}, machines: map[string]*host.Machine{}}
	var problems []error
	for _, h := range cfg.Hosts {
		if err := x.addHost(h); err != nil {
			problems = append(problems, err)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

func (x *Extension) addHost(h HostConfig) error {
	h = h.withDefaults()
	if err := h.Validate(); err != nil {
		return err
	}
	if _, dup := x.configs[h.Name]; dup {
		return fmt.Errorf("host %s is configured twice: %w", h.Name, sandboxer.ErrInvalid)
	}
	transport, warnings, err := connect(h)
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	x.configs[h.Name], x.warnings[h.Name] = h, warnings
	x.machines[h.Name] = host.New(host.Config{
		Name: h.Name, Root: h.Root, Socket: h.EngineSocket, Slots: h.Slots, CacheTTL: h.CacheTTL.Std(),
	}, transport)
	x.info.Hosts = append(x.info.Hosts, sandboxer.Host{
		Name: h.Name, Address: h.Address, Region: h.Region, Labels: h.Labels, Slots: h.Slots, Price: h.Price,
	})
	return nil
}

// Close ends the connections to all hosts. Sandboxes are not touched.
func (x *Extension) Close() error {
	var problems []error
	for _, m := range x.machines {
		problems = append(problems, m.Close())
	}
	return errors.Join(problems...)
}

// Info implements [sandboxer.Extension].
func (x *Extension) Info() sandboxer.ExtensionInfo {
	info := x.info
	info.Hosts = slices.Clone(x.info.Hosts)
	return info
}

func (x *Extension) machine(name string) (*host.Machine, error) {
	m, ok := x.machines[name]
	if !ok {
		return nil, fmt.Errorf("host %q of %s: %w", name, ID, sandboxer.ErrNotFound)
	}
	return m, nil
}

// ProbeHost implements [sandboxer.HostProber].
func (x *Extension) ProbeHost(ctx context.Context, name string) (sandboxer.HostStatus, error) {
	m, err := x.machine(name)
	if err != nil {
		return sandboxer.HostStatus{}, err
	}
	i := slices.IndexFunc(x.info.Hosts, func(h sandboxer.Host) bool { return h.Name == name })
	status := sandboxer.HostStatus{Host: x.info.Hosts[i], Warnings: slices.Clone(x.warnings[name])}
	facts, err := m.ProbeNow(ctx)
	if err != nil {
		status.Reason, status.Hint, status.Err = err.Error(), sandboxer.Hint(err), err
		return status, nil
	}
	status.Available, status.Cordoned, status.Sandboxes, status.Warnings = true, facts.Cordoned, facts.Sandboxes, append(status.Warnings, facts.Warnings...)
	status.FreeDisk = sandboxer.Bytes(facts.FreeBytes >> 20 << 20)
	status.Isolation = x.configs[name].isolation(facts)
	status.Facts = map[string]string{
		"engine": facts.Engine, "compose": facts.Compose, "runc": facts.Runc, "kernel": facts.Kernel, "arch": facts.Arch,
		"cpus":    strconv.Itoa(facts.CPUs),
		"storage": facts.Storage, "root": facts.Root, "user": facts.User, "rootless": strconv.FormatBool(facts.Rootless),
		"userns_remap": strconv.FormatBool(facts.Remapped), "runtimes": runtimes(facts),
		"firewall":   string(facts.Firewall),
		"clock_skew": facts.ClockSkew.String(),
	}
	return status, nil
}

// Harden installs the static rules by which a host closes itself and metadata
// services to sandboxes whose egress is open: one set for all sandboxes, those
// that run included, for interfaces that only sandboxes have. It needs root on
// the host and iptables. The rules are gone after a reboot; doing it again
// changes nothing. Whether they are in force is the fact "firewall" of
// [Extension.ProbeHost]: hardened, open, or unknown to an account that may not
// look. ErrNotFound: no such host.
func (x *Extension) Harden(ctx context.Context, name string) error {
	return x.setFirewall(ctx, name, host.FirewallHardened)
}

// Soften removes every rule that Harden installed.
func (x *Extension) Soften(ctx context.Context, name string) error {
	return x.setFirewall(ctx, name, host.FirewallOpen)
}

// Cordon has a host take no new sandboxes, from whatever client; those it has
// go on, and may be recreated there. Sandboxes whose creation came before are
// listed once it returns. It is for the host's root directory, lasts until
// [Extension.Uncordon], over reboots, and is told by [Extension.ProbeHost].
// ErrNotFound: no such host.
func (x *Extension) Cordon(ctx context.Context, name string) error {
	return x.setCordoned(ctx, name, true)
}

// Uncordon has a host take new sandboxes again.
func (x *Extension) Uncordon(ctx context.Context, name string) error {
	return x.setCordoned(ctx, name, false)
}

func (x *Extension) setCordoned(ctx context.Context, name string, cordoned bool) error {
	m, err := x.machine(name)
	if err != nil {
		return err
	}
	return m.SetCordoned(ctx, cordoned)
}

func (x *Extension) setFirewall(ctx context.Context, name string, want host.Firewall) error {
	m, err := x.machine(name)
	if err != nil {
		return err
	}
	return m.SetFirewall(ctx, want)
}

// Renew implements [sandboxer.LeaseKeeper].
func (x *Extension) Renew(ctx context.Context, h sandboxer.Handle, expires time.Time) error {
	m, err := x.machine(h.Host)
	if err != nil {
		return err
	}
	return m.Renew(ctx, h.SandboxID, expires)
}

// Teardown implements [sandboxer.Extension].
func (x *Extension) Teardown(ctx context.Context, h sandboxer.Handle) (sandboxer.Removal, error) {
	m, err := x.machine(h.Host)
	if err != nil {
		return sandboxer.Removal{}, err
	}
	if !sandboxer.ValidID(h.SandboxID) {
		return sandboxer.Removal{}, fmt.Errorf("%w: %q is not a sandbox id", sandboxer.ErrInvalid, h.SandboxID)
	}
	sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "teardown", Message: "removing everything of " + h.SandboxID})
	return m.Teardown(ctx, h.SandboxID, h.Generation)
}

// Dial implements [sandboxer.Dialer]. Nothing is published: the connection
// goes through a relay on the sandbox's own networks, started at the first
// call and removed with the sandbox.
func (x *Extension) Dial(ctx context.Context, h sandboxer.Handle, service string, port int) (net.Conn, error) {
	m, err := x.machine(h.Host)
	if err != nil {
		return nil, err
	}
	if port < 1 || port > 65535 {
		return nil, &sandboxer.FieldError{Field: "port", Reason: fmt.Sprintf("%d is not between 1 and 65535", port)}
	}
	return m.Dial(ctx, h.SandboxID, service, uint16(port))
}
