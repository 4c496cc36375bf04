package admission

import (
	"reflect"
	"strings"
)

// The canonical file, field by field: what is not here cannot be written.

// canonicalKeys are the attributes that a canonical file can have.
func canonicalKeys() map[string]bool {
	keys := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
				keys[name] = true
				walk(t.Field(i).Type)
			}
		}
	}
	walk(reflect.TypeFor[canonicalFile]())
	return keys
}

type canonicalFile struct {
	Name     string                      `yaml:"name"`
	Services map[string]canonicalService `yaml:"services"`
	Networks map[string]canonicalNetwork `yaml:"networks,omitempty"`
	Volumes  map[string]canonicalVolume  `yaml:"volumes,omitempty"`
	Secrets  map[string]canonicalContent `yaml:"secrets,omitempty"`
	Configs  map[string]canonicalContent `yaml:"configs,omitempty"`
}

type canonicalService struct {
	Image           string                         `yaml:"image"`
	Runtime         string                         `yaml:"runtime,omitempty"`
	Build           *canonicalBuild                `yaml:"build,omitempty"`
	Platform        string                         `yaml:"platform,omitempty"`
	Scale           *int                           `yaml:"scale,omitempty"`
	Entrypoint      *[]string                      `yaml:"entrypoint,omitempty"`
	Command         *[]string                      `yaml:"command,omitempty"`
	WorkingDir      string                         `yaml:"working_dir,omitempty"`
	User            string                         `yaml:"user,omitempty"`
	GroupAdd        []string                       `yaml:"group_add,omitempty"`
	Hostname        string                         `yaml:"hostname,omitempty"`
	DomainName      string                         `yaml:"domainname,omitempty"`
	Environment     map[string]string              `yaml:"environment,omitempty"`
	Init            *bool                          `yaml:"init,omitempty"`
	TTY             bool                           `yaml:"tty,omitempty"`
	StdinOpen       bool                           `yaml:"stdin_open,omitempty"`
	ReadOnly        bool                           `yaml:"read_only,omitempty"`
	StopSignal      string                         `yaml:"stop_signal,omitempty"`
	StopGracePeriod string                         `yaml:"stop_grace_period,omitempty"`
	Restart         string                         `yaml:"restart,omitempty"`
	DependsOn       map[string]canonicalDependency `yaml:"depends_on,omitempty"`
	Links           []string                       `yaml:"links,omitempty"`
	HealthCheck     *canonicalHealthCheck          `yaml:"healthcheck,omitempty"`
	PostStart       []canonicalHook                `yaml:"post_start,omitempty"`
	Expose          []string                       `yaml:"expose,omitempty"`
	NetworkMode     string                         `yaml:"network_mode,omitempty"`
	Networks        map[string]canonicalAttachment `yaml:"networks,omitempty"`
	DNS             []string                       `yaml:"dns,omitempty"`
	DNSOptions      []string                       `yaml:"dns_opt,omitempty"`
	DNSSearch       []string                       `yaml:"dns_search,omitempty"`
	ExtraHosts      []string                       `yaml:"extra_hosts,omitempty"`
	Volumes         []canonicalMount               `yaml:"volumes,omitempty"`
	VolumesFrom     []string                       `yaml:"volumes_from,omitempty"`
	Tmpfs           []string                       `yaml:"tmpfs,omitempty"`
	Secrets         []canonicalReference           `yaml:"secrets,omitempty"`
	Configs         []canonicalReference           `yaml:"configs,omitempty"`
	CapAdd          []string                       `yaml:"cap_add,omitempty"`
	CapDrop         []string                       `yaml:"cap_drop,omitempty"`
	SecurityOpt     []string                       `yaml:"security_opt,omitempty"`
	Devices         []string                       `yaml:"devices,omitempty"`
	PidMode         string                         `yaml:"pid,omitempty"`
	IPCMode         string                         `yaml:"ipc,omitempty"`
	Cgroup          string                         `yaml:"cgroup,omitempty"`
	Sysctls         map[string]string              `yaml:"sysctls,omitempty"`
	Ulimits         map[string]canonicalUlimit     `yaml:"ulimits,omitempty"`
	ShmSize         int64                          `yaml:"shm_size,omitempty"`
	CPUs            float64                        `yaml:"cpus,omitempty"`
	MemLimit        int64                          `yaml:"mem_limit,omitempty"`
	MemSwapLimit    int64                          `yaml:"memswap_limit,omitempty"`
	MemReservation  int64                          `yaml:"mem_reservation,omitempty"`
	PidsLimit       int64                          `yaml:"pids_limit,omitempty"`
	OOMScoreAdj     int                            `yaml:"oom_score_adj,omitempty"`
	Logging         canonicalLogging               `yaml:"logging"`
	Labels          map[string]string              `yaml:"labels,omitempty"`
}

type canonicalBuild struct {
	Context            string               `yaml:"context"`
	Dockerfile         string               `yaml:"dockerfile"`
	Target             string               `yaml:"target,omitempty"`
	Args               map[string]string    `yaml:"args,omitempty"`
	AdditionalContexts map[string]string    `yaml:"additional_contexts,omitempty"`
	NoCache            bool                 `yaml:"no_cache,omitempty"`
	NoCacheFilter      []string             `yaml:"no_cache_filter,omitempty"`
	Network            string               `yaml:"network,omitempty"`
	ExtraHosts         []string             `yaml:"extra_hosts,omitempty"`
	Secrets            []canonicalReference `yaml:"secrets,omitempty"`
	Labels             map[string]string    `yaml:"labels,omitempty"`
}

type canonicalDependency struct {
	Condition string `yaml:"condition"`
	Restart   bool   `yaml:"restart,omitempty"`
	Required  bool   `yaml:"required"`
}

type canonicalHealthCheck struct {
	Test          []string `yaml:"test,omitempty"`
	Interval      string   `yaml:"interval,omitempty"`
	Timeout       string   `yaml:"timeout,omitempty"`
	Retries       *uint64  `yaml:"retries,omitempty"`
	StartPeriod   string   `yaml:"start_period,omitempty"`
	StartInterval string   `yaml:"start_interval,omitempty"`
	Disable       bool     `yaml:"disable,omitempty"`
}

type canonicalHook struct {
	Command     []string          `yaml:"command"`
	User        string            `yaml:"user,omitempty"`
	WorkingDir  string            `yaml:"working_dir,omitempty"`
	Environment map[string]string `yaml:"environment,omitempty"`
}

type canonicalAttachment struct {
	Aliases         []string `yaml:"aliases,omitempty"`
	Priority        int      `yaml:"priority,omitempty"`
	GatewayPriority int      `yaml:"gw_priority,omitempty"`
	IPv4Address     string   `yaml:"ipv4_address,omitempty"`
}

type canonicalMount struct {
	Type     string                `yaml:"type"`
	Source   string                `yaml:"source,omitempty"`
	Target   string                `yaml:"target"`
	ReadOnly bool                  `yaml:"read_only,omitempty"`
	Bind     *canonicalBindOptions `yaml:"bind,omitempty"`
	Volume   *canonicalVolumeUse   `yaml:"volume,omitempty"`
	Tmpfs    *canonicalTmpfs       `yaml:"tmpfs,omitempty"`
}

// canonicalBindOptions always says no: compose creates nothing on the host.
type canonicalBindOptions struct {
	CreateHostPath bool `yaml:"create_host_path"`
}

type canonicalVolumeUse struct {
	NoCopy bool `yaml:"nocopy,omitempty"`
}

type canonicalTmpfs struct {
	Size int64  `yaml:"size,omitempty"`
	Mode uint32 `yaml:"mode,omitempty"`
}

type canonicalReference struct {
	Source string `yaml:"source"`
	Target string `yaml:"target,omitempty"`
}

type canonicalUlimit struct {
	Soft int `yaml:"soft"`
	Hard int `yaml:"hard"`
}

type canonicalLogging struct {
	Driver  string            `yaml:"driver"`
	Options map[string]string `yaml:"options"`
}

type canonicalNetwork struct {
	Name       string            `yaml:"name"`
	Driver     string            `yaml:"driver"`
	DriverOpts map[string]string `yaml:"driver_opts,omitempty"`
	Internal   bool              `yaml:"internal,omitempty"`
	EnableIPv6 bool              `yaml:"enable_ipv6"` // always no, and said: engines can have another default
	IPAM       canonicalIPAM     `yaml:"ipam"`
	Labels     map[string]string `yaml:"labels,omitempty"`
}

type canonicalIPAM struct {
	Config []canonicalSubnet `yaml:"config"`
}

type canonicalSubnet struct {
	Subnet  string `yaml:"subnet"`
	IPRange string `yaml:"ip_range,omitempty"`
	Gateway string `yaml:"gateway,omitempty"`
}

type canonicalVolume struct {
	Name       string            `yaml:"name"`
	Driver     string            `yaml:"driver"`
	DriverOpts map[string]string `yaml:"driver_opts,omitempty"`
	Labels     map[string]string `yaml:"labels,omitempty"`
}

// canonicalContent is a secret or a config.
type canonicalContent struct {
	File string `yaml:"file"`
}
