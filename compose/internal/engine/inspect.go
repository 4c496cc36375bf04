package engine

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ContainerDetails is a container as an inspection shows it.
type ContainerDetails struct {
	ID            string
	Name          string
	Image         string // as it was asked for
	ImageID       string
	Created       time.Time
	Labels        map[string]string
	TTY           bool
	State         State
	RestartCount  int // restarts by the engine's policy
	RestartPolicy RestartPolicy
	NetworkMode   string              // "none", "host", "container:<id>" or a network's name or id
	Networks      map[string]Endpoint // by the network's name
	DNS           []string            // resolvers it was given for names that are no container's
	Ports         []Port              // published ones, of a running container
	Limits        Limited
	Runtime       string // that runs it, as in [Info]
	Confinement   Confinement
}

// Limited is what a container may use; 0 is no limit.
type Limited struct {
	Memory int64   // bytes
	CPUs   float64 // processors
	PIDs   int64   // threads at once
}

// Confinement is what a container may do to its host.
type Confinement struct {
	Privileged      bool
	NoNewPrivileges bool     // whether no program gains rights by being started
	CapAdd, CapDrop []string // beside the engine's default set, as "NET_RAW" or "ALL", sorted
}

// State is what a container is doing or did last.
type State struct {
	Status     string // "created", "running", "paused", "restarting", "removing", "exited" or "dead"
	Running    bool   // also true while paused or restarting
	ExitCode   int    // of the last run
	OOMKilled  bool   // the engine may learn it a moment after the end, or never: exit code 137 then hints at it
	Error      string // why the container could not be started
	StartedAt  time.Time
	FinishedAt time.Time // zero before the first end
	Health     Health
}

// Health is the verdict of a container's health check.
type Health struct {
	Status        string // "starting", "healthy" or "unhealthy"; empty without a check
	FailingStreak int
	Output        string // of the last probe
}

// RestartPolicy says when the engine starts a container again.
type RestartPolicy struct {
	Name              string // "", "no", "always", "unless-stopped" or "on-failure"
	MaximumRetryCount int    // of "on-failure"; 0 is no maximum
}

// Port is a port of a container that is reached on an address of its host.
type Port struct {
	Container uint16
	Protocol  string // "tcp", "udp" or "sctp"
	Host      netip.AddrPort
}

// InspectContainer asks for everything about a container.
func (c *Client) InspectContainer(ctx context.Context, id string) (ContainerDetails, error) {
	path, err := join("containers", id, "json")
	if err != nil {
		return ContainerDetails{}, err
	}
	var answer inspection
	if err := c.call(ctx, request{method: http.MethodGet, path: path}, &answer); err != nil {
		return ContainerDetails{}, err
	}
	return answer.details(), nil
}

// inspection is a [ContainerDetails] as the API writes it.
type inspection struct {
	ID      string
	Name    string
	Image   string
	Created time.Time
	Config  struct {
		Image  string
		Labels map[string]string
		Tty    bool
	}
	State struct {
		State
		Health *struct {
			Status        string
			FailingStreak int
			Log           []struct{ Output string }
		}
	}
	RestartCount int
	HostConfig   struct {
		NetworkMode   string
		DNS           []string `json:"Dns"`
		RestartPolicy RestartPolicy
		Memory        int64
		NanoCPUs      int64 `json:"NanoCpus"`
		PidsLimit     *int64
		Runtime       string
		Privileged    bool
		SecurityOpt   []string
		CapAdd        []string
		CapDrop       []string
	}
	NetworkSettings struct {
		Networks map[string]endpoint
		Ports    map[string][]struct{ HostIP, HostPort string }
	}
}

func (i inspection) details() ContainerDetails {
	d := ContainerDetails{
		ID: i.ID, Name: strings.TrimPrefix(i.Name, "/"), Image: i.Config.Image, ImageID: i.Image, Created: i.Created,
		Labels: i.Config.Labels, TTY: i.Config.Tty, State: i.State.State, RestartCount: i.RestartCount,
		RestartPolicy: i.HostConfig.RestartPolicy, NetworkMode: i.HostConfig.NetworkMode, DNS: i.HostConfig.DNS,
		Networks: endpoints(i.NetworkSettings.Networks), Runtime: i.HostConfig.Runtime,
	}
	d.Confinement = Confinement{
		Privileged: i.HostConfig.Privileged, CapAdd: capabilities(i.HostConfig.CapAdd), CapDrop: capabilities(i.HostConfig.CapDrop),
		NoNewPrivileges: slices.ContainsFunc(i.HostConfig.SecurityOpt, isNoNewPrivileges),
	}
	d.Limits = Limited{Memory: i.HostConfig.Memory, CPUs: float64(i.HostConfig.NanoCPUs) / 1e9}
	if pids := i.HostConfig.PidsLimit; pids != nil {
		d.Limits.PIDs = max(0, *pids)
	}
	// Engines write "none" for a check that was switched off.
	if h := i.State.Health; h != nil && h.Status != "none" {
		d.State.Health = Health{Status: h.Status, FailingStreak: h.FailingStreak}
		if n := len(h.Log); n > 0 {
			d.State.Health.Output = h.Log[n-1].Output
		}
	}
	for port, bindings := range i.NetworkSettings.Ports {
		number, protocol, _ := strings.Cut(port, "/")
		inside, _ := strconv.ParseUint(number, 10, 16)
		for _, b := range bindings {
			d.Ports = append(d.Ports, Port{Container: uint16(inside), Protocol: protocol, Host: hostPort(b.HostIP, b.HostPort)})
		}
	}
	return d
}

// capabilities are written with and without a prefix, as the request wrote them.
func capabilities(written []string) []string {
	var names []string
	for _, c := range written {
		names = append(names, strings.TrimPrefix(strings.ToUpper(c), "CAP_"))
	}
	slices.Sort(names)
	return names
}

func isNoNewPrivileges(option string) bool {
	return slices.Contains([]string{"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}, option)
}

// hostPort is the address of a binding; an empty IP means every one.
func hostPort(ip, port string) netip.AddrPort {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		addr = netip.IPv4Unspecified()
	}
	number, _ := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(addr, uint16(number))
}

// NetworkDetails is a network as an inspection shows it.
type NetworkDetails struct {
	Network
	IPv6       bool // whether it has addresses of IPv6 too
	Options    map[string]string
	Subnets    []netip.Prefix
	Containers map[string]string // names of the connected containers, by id
}

// InspectNetwork asks for everything about a network. Engines allow several networks of one name, so that an id is
// the surer argument.
func (c *Client) InspectNetwork(ctx context.Context, id string) (NetworkDetails, error) {
	path, err := join("networks", id)
	if err != nil {
		return NetworkDetails{}, err
	}
	var answer struct {
		Network
		EnableIPv6 bool
		Options    map[string]string
		IPAM       struct{ Config []struct{ Subnet string } }
		Containers map[string]struct{ Name string }
	}
	if err := c.call(ctx, request{method: http.MethodGet, path: path}, &answer); err != nil {
		return NetworkDetails{}, err
	}
	details := NetworkDetails{Network: answer.Network, IPv6: answer.EnableIPv6, Options: answer.Options, Containers: map[string]string{}}
	for _, pool := range answer.IPAM.Config {
		if subnet, err := netip.ParsePrefix(pool.Subnet); err == nil {
			details.Subnets = append(details.Subnets, subnet)
		}
	}
	for id, container := range answer.Containers {
		details.Containers[id] = container.Name
	}
	return details, nil
}
