package admission

import (
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/tree"
)

// Class says what becomes of an attribute.
type Class int

// The classes, from harmless to hopeless.
const (
	Allow   Class = iota // runs as written; its value may still be refused by another rule
	Rewrite              // accepted, and runs as this package says
	Profile              // refused unless the profile names the rule
	Never                // refused, whatever the profile says
)

// A Rule is one line of the policy. Attributes name what it governs; an
// attribute of the Compose Specification that no rule governs is refused.
type Rule struct {
	ID    string
	Class Class

	// Service and Project are attribute patterns, separated by spaces: below
	// services.* and from the top of the file. "*" is any key, "[]" any item,
	// and a trailing ".**" the attribute and everything below it.
	Service, Project string

	// ByValue leaves the judgement to code, because some values are fine.
	// Otherwise a Profile or Never rule refuses every value that is not zero.
	ByValue bool

	Reason string // what is wrong with it, completing "services.api.privileged …"
	Hint   string // what to write instead
	Grants string // what a profile that names a Profile rule lets through, and nothing else
}

// rules is the whole policy. Order matters to people only.
var rules = []Rule{
	{ID: "ALLOWED", Class: Allow,
		Project: "version services services.* networks networks.* volumes volumes.* secrets secrets.* configs configs.* networks.*.internal " +
			"networks.*.ipam networks.*.ipam.config include",
		Service: "command entrypoint working_dir user group_add init tty stdin_open attach stop_signal read_only environment environment.* " +
			"depends_on.** profiles build build.target build.no_cache build.no_cache_filter build.args build.args.* healthcheck.test healthcheck.disable " +
			"healthcheck.timeout healthcheck.start_period healthcheck.start_interval expose links extends.service post_start post_start.[].command post_start.[].user " +
			"post_start.[].working_dir post_start.[].environment.** volumes volumes.[].read_only volumes.[].consistency volumes.[].bind " +
			"volumes.[].volume volumes.[].volume.nocopy networks networks.* networks.*.aliases networks.*.priority secrets secrets.[].source secrets.[].target " +
			"configs configs.[].source configs.[].target " +
			"deploy deploy.mode deploy.endpoint_mode deploy.labels.** deploy.update_config.** deploy.rollback_config.** deploy.placement.** deploy.resources deploy.resources.limits " +
			"deploy.resources.reservations deploy.resources.reservations.cpus ports ports.[].target ports.[].name ports.[].app_protocol ports.[].protocol platform"},

	// What the file is and where it reads from.
	{ID: "YAML", Class: Never, Reason: "is not YAML that can be read", Hint: "docker compose config shows the same error"},
	{ID: "YAML-BOMB", Class: Never, Reason: "is larger than any compose file needs to be", Hint: "make the file smaller"},
	{ID: "YAML-TAG", Class: Never, Reason: "carries a tag", Hint: "remove the tag; only !reset and !override are understood"},
	{ID: "YAML-FILE", Class: Never, Reason: "cannot be read", Hint: "keep it as a regular file in the repository"},
	{ID: "LOAD", Class: Never, Reason: "does not follow the Compose Specification", Hint: "docker compose config shows the same error"},
	{ID: "UNKNOWN", Class: Never, Reason: "is an attribute that is not known to be safe", Hint: "remove it"},
	{ID: "VARIABLE", Class: Rewrite, Reason: "uses a variable that is not set", Hint: "declare it as an input of the profile, or set it in .env"},
	{ID: "INCLUDE", Class: Never, ByValue: true, Project: "include.[].path include.[].project_directory include.[].env_file",
		Reason: "leaves the repository or is not known before it is read", Hint: "name a regular file of the repository by a relative path, without variables"},
	{ID: "EXTENDS", Class: Never, ByValue: true, Service: "extends extends.file",
		Reason: "leaves the repository or is not known before it is read", Hint: "name a regular file of the repository by a relative path, without variables"},
	{ID: "ENVFILE", Class: Never, ByValue: true, Service: "env_file.** label_file",
		Reason: "cannot be read from the repository", Hint: "name a regular file of the repository; a file that may be missing is written {path: FILE, required: false}"},
	{ID: "ENVFILE-BOMB", Class: Never, Reason: "expands to more than can be used", Hint: "remove variables that refer to one another"},
	{ID: "DOTENV", Class: Rewrite, Reason: "steers docker on the machine it is read on and has no effect here"},
	{ID: "SPECIAL-FILE", Class: Rewrite, Reason: "is not copied to the host"},
	{ID: "OVERRIDE", Class: Rewrite, Reason: "is not merged: one file says what runs; include it, or name it as the compose file"},
	{ID: "PROJECT-NAME", Class: Rewrite, Project: "name", Reason: "is replaced by the sandbox's own project name"},
	{ID: "XEXT", Class: Rewrite, Reason: "is resolved where it is referenced and then dropped"},
	{ID: "JOBS", Class: Never, Project: "jobs.**", Reason: "needs a scheduler on the host", Hint: "make it a service that runs once"},
	{ID: "MODELS", Class: Never, Project: "models.**", Service: "models.**", Reason: "runs a model outside the sandbox", Hint: "run the model as a service"},
	{ID: "SCALE", Class: Never, ByValue: true, Service: "scale deploy.replicas", Reason: "starts more containers than the profile allows", Hint: "lower scale or deploy.replicas, or raise max_containers in the profile"},
	{ID: "LIMIT", Class: Never, Reason: "is more than one sandbox may have", Hint: "use fewer"},

	{ID: "MORE", Class: Rewrite, Reason: "stands for findings that are not listed: of each kind the first 500 are", Hint: "repair what is listed first"},
	{ID: "RESERVED", Class: Never, Reason: "is a name that the sandbox needs for itself", Hint: "choose another name"},

	// What runs.
	{ID: "IMAGE", Class: Never, ByValue: true, Service: "image", Reason: "is not an image this sandbox may run", Hint: "name a repository and a tag, such as postgres:16"},
	{ID: "PULL", Class: Rewrite, Service: "pull_policy pull_refresh_after build.pull", Reason: "does not apply: images are pulled once, when the host does not have them"},
	{ID: "PLATFORM", Class: Never, Reason: "is not a Linux platform", Hint: "write linux/amd64 or linux/arm64, or leave it out"},
	{ID: "CONTAINER-NAME", Class: Rewrite, Service: "container_name", Reason: "would clash with other copies"},
	{ID: "HOSTNAME", Class: Never, ByValue: true, Service: "hostname domainname", Reason: "is not a host name", Hint: "use letters, digits, dashes and dots"},
	{ID: "ENV-NULL", Class: Rewrite, Reason: "has no value here and is not passed on"},
	{ID: "LABELS", Class: Rewrite, Service: "labels.** build.labels.** volumes.[].volume.labels.**", Project: "networks.*.labels.** volumes.*.labels.** secrets.*.labels.** configs.*.labels.**",
		Reason: "is dropped: labels steer programs on the host"},
	{ID: "ANNOTATIONS", Class: Never, Service: "annotations.**", Reason: "steers the container runtime of the host", Hint: "remove it"},
	{ID: "RESTART", Class: Rewrite, Service: "restart deploy.restart_policy.**", Reason: "would outlive the sandbox"},
	{ID: "GRACE", Class: Rewrite, Service: "stop_grace_period", Reason: "is shortened"},
	{ID: "HEALTHCHECK", Class: Rewrite, Service: "healthcheck healthcheck.interval healthcheck.retries", Reason: "is bounded"},
	{ID: "PROVIDER", Class: Never, Service: "provider.**", Reason: "runs a program on the host", Hint: "remove it; run what it provides as a service"},
	{ID: "HOOK-PRIVILEGED", Class: Never, Service: "post_start.[].privileged pre_stop.[].privileged", Reason: "runs a command with every capability", Hint: "remove privileged from the hook"},
	{ID: "HOOK-PRESTOP", Class: Rewrite, Service: "pre_stop pre_stop.[].command pre_stop.[].user pre_stop.[].working_dir pre_stop.[].environment.**", Reason: "does not run: teardown reads no compose file"},
	{ID: "PRE-START", Class: Never, Service: "pre_start.**", Reason: "is a container of its own that older compose plugins do not know",
		Hint: "make it a service and depend on it with condition: service_completed_successfully"},
	{ID: "DEVELOP", Class: Rewrite, Service: "develop.**", Reason: "is dropped: nothing is watched"},
	{ID: "WINDOWS", Class: Never, Service: "credential_spec.** isolation build.isolation", Reason: "exists on Windows only", Hint: "remove it"},
	{ID: "UMASK", Class: Never, ByValue: true, Service: "umask", Reason: "is not known to the compose plugins in use", Hint: "set it in the command: sh -c 'umask 027; exec …'"},

	// Privileges and namespaces.
	{ID: "PRIVILEGED", Class: Never, Service: "privileged", Reason: "is root on the host", Hint: "remove it; add the single capability the program needs with cap_add"},
	{ID: "CAP-ADD", Class: Profile, ByValue: true, Service: "cap_add", Reason: "adds a capability beyond the engine's default set",
		Hint: "remove it, or let the profile allow CAP-ADD", Grants: "NET_ADMIN, SYS_NICE and SYS_PTRACE"},
	{ID: "CAP-DROP", Class: Allow, Service: "cap_drop"},
	{ID: "DEVICES", Class: Profile, ByValue: true, Service: "devices.**", Reason: "gives the container a device of the host",
		Hint: "remove it, or let the profile allow DEVICES", Grants: "/dev/fuse, /dev/kvm and /dev/net/tun"},
	{ID: "DEVICE-CGROUP", Class: Never, Service: "device_cgroup_rules", Reason: "opens devices of the host", Hint: "remove it"},
	{ID: "GPU", Class: Never, Service: "gpus.** deploy.resources.reservations.devices.** deploy.resources.reservations.generic_resources.**", Reason: "reserves a device of the host, whose driver then runs what the container's environment says", Hint: "remove it; which device of which host is more than a profile can allow"},
	{ID: "SECURITY-OPT", Class: Never, ByValue: true, Service: "security_opt", Reason: "takes a confinement off the container", Hint: "remove it; no-new-privileges:true is always set"},
	{ID: "USERNS", Class: Never, Service: "userns_mode", Reason: "leaves the user namespace of the engine", Hint: "remove it"},
	{ID: "PID-MODE", Class: Never, ByValue: true, Service: "pid", Reason: "shares processes with the host or another container", Hint: "write service:NAME to share with a service of this file"},
	{ID: "IPC-MODE", Class: Never, ByValue: true, Service: "ipc", Reason: "shares memory with the host or another container", Hint: "write private, shareable or service:NAME"},
	{ID: "UTS-MODE", Class: Never, Service: "uts", Reason: "shares the host's name", Hint: "remove it"},
	{ID: "CGROUP-MODE", Class: Never, ByValue: true, Service: "cgroup", Reason: "shows the host's control groups", Hint: "write private, or leave it out"},
	{ID: "CGROUP-PARENT", Class: Never, Service: "cgroup_parent", Reason: "leaves the sandbox's accounting", Hint: "remove it"},
	{ID: "RUNTIME", Class: Never, ByValue: true, Service: "runtime", Reason: "chooses a container runtime of the host", Hint: "remove it; the profile's isolation chooses the runtime"},
	{ID: "GVISOR", Class: Never, Reason: "cannot be had under gVisor", Hint: "write the file without it, or use a profile with isolation container"},
	{ID: "SYSCTL", Class: Profile, ByValue: true, Service: "sysctls.**", Reason: "is not a kernel setting of the container alone",
		Hint: "remove it, or set it on the host", Grants: "the IPv4 settings of the container's own network, net.ipv4.*"},
	{ID: "ULIMITS", Class: Profile, ByValue: true, Service: "ulimits.**", Reason: "sets a limit that protects the host",
		Hint: "only core, memlock, nofile, nproc and stack may be given", Grants: "as, cpu, data, fsize, locks, memlock, msgqueue, rss and sigpending"},
	{ID: "OOM", Class: Never, ByValue: true, Service: "oom_score_adj oom_kill_disable", Reason: "makes the kernel end others first", Hint: "remove it"},
	{ID: "CPU-RT", Class: Never, Service: "cpu_rt_period cpu_rt_runtime", Reason: "takes real-time processor time", Hint: "remove it"},
	{ID: "RESOURCES", Class: Rewrite, Service: "cpus mem_limit mem_reservation pids_limit memswap_limit cpu_count cpu_percent cpu_period cpu_quota cpu_shares cpuset mem_swappiness " +
		"blkio_config.** deploy.resources.limits.cpus deploy.resources.limits.memory deploy.resources.limits.pids deploy.resources.reservations.memory",
		Reason: "is bounded by the profile"},
	{ID: "SHM", Class: Rewrite, Service: "shm_size", Reason: "is bounded by the memory of the container"},
	{ID: "STORAGE-OPT", Class: Never, Service: "storage_opt", Reason: "overrides the storage limits of the host", Hint: "remove it"},
	{ID: "API-SOCKET", Class: Never, Service: "use_api_socket", Reason: "hands the container the engine and the registry credentials", Hint: "remove it"},
	{ID: "LOGGING", Class: Profile, ByValue: true, Service: "logging.**", Reason: "sends logs from the host",
		Hint: "remove it; logs are kept on the host and read with sandbox logs", Grants: "a file that asks for another log driver; it gets json-file all the same"},

	// Mounts.
	{ID: "VOL-TYPE", Class: Never, ByValue: true, Service: "volumes.[].type", Reason: "is not a mount a sandbox may have", Hint: "use bind, volume or tmpfs"},
	{ID: "VOL-TARGET", Class: Never, ByValue: true, Service: "volumes.[].target", Reason: "is not a place to mount on", Hint: "mount on an absolute path outside /proc, /sys and /dev"},
	{ID: "VOL-IMAGE", Class: Never, Service: "volumes.[].image.**", Reason: "mounts an image of the host", Hint: "copy the files in a build stage instead"},
	{ID: "VOL-SUBPATH", Class: Never, Service: "volumes.[].volume.subpath", Reason: "needs an engine newer than most", Hint: "mount the whole volume"},
	{ID: "BIND-OUTSIDE", Class: Never, ByValue: true, Service: "volumes.[].source", Reason: "is outside the repository",
		Hint: "bind a path of the repository, or use a named volume"},
	{ID: "BIND-DATA", Class: Rewrite, Reason: "names a data directory such as /mnt/media, /srv/app, /var/lib/app or /home/me/app: an empty one of the sandbox's own stands in for it, as compose would create it on a host without; nothing of the host is mounted"},
	{ID: "BIND-SYMLINK", Class: Never, Reason: "passes through a symbolic link, which the host would resolve", Hint: "bind the file or directory the link points to"},
	{ID: "BIND-GIT", Class: Never, Reason: "names .git, which is never copied to the host", Hint: "write what the container needs from it into a file"},
	{ID: "BIND-MISSING", Class: Never, Reason: "does not exist", Hint: "create it, or let bind.create_host_path be true"},
	{ID: "BIND-NESTED", Class: Rewrite, Reason: "lies in a directory that a container may write: it is mounted as a copy"},
	{ID: "BIND-PROPAGATION", Class: Never, ByValue: true, Service: "volumes.[].bind.propagation", Reason: "shares mounts with the host", Hint: "remove it"},
	{ID: "BIND-OPTIONS", Class: Rewrite, Service: "volumes.[].bind.create_host_path volumes.[].bind.recursive volumes.[].bind.selinux", Reason: "is dropped"},
	{ID: "HOST-TIME", Class: Rewrite, Reason: "is not mounted: set TZ in the environment to choose a time zone"},
	{ID: "HOST-SHM", Class: Rewrite, Reason: "is not mounted: the container has a /dev/shm of its own, as large as its memory unless shm_size says otherwise"},
	{ID: "TMPFS", Class: Rewrite, Service: "tmpfs volumes.[].tmpfs.**", Reason: "is bounded and mounted nosuid,nodev"},
	{ID: "VOLUMES-FROM", Class: Never, ByValue: true, Service: "volumes_from", Reason: "mounts what belongs to another container of the host", Hint: "name a service of this file"},

	// Network.
	{ID: "PORTS", Class: Rewrite, Service: "ports.[].published ports.[].host_ip ports.[].mode", Reason: "is not published on the host: reach it with Dial or forward"},
	{ID: "PORT-RANGE", Class: Profile, ByValue: true, Reason: "lists a longer range of ports than a service may have",
		Hint: "list the ports that are used; every port of a service can be dialed, listed or not", Grants: "up to 64 ports in one range, and 1024 in the file"},
	{ID: "NETWORK-MODE", Class: Never, ByValue: true, Service: "network_mode", Reason: "uses a network outside the sandbox", Hint: "remove it, or write none or service:NAME"},
	{ID: "NET-STATIC-IP", Class: Rewrite, Service: "networks.*.ipv4_address networks.*.ipv6_address", Reason: "is dropped: copies would clash; services reach one another by name"},
	{ID: "NET-ENDPOINT", Class: Never, Service: "networks.*.driver_opts.** networks.*.mac_address networks.*.link_local_ips networks.*.interface_name",
		Reason: "configures the network interface from the host", Hint: "remove it"},
	{ID: "NET-ALIAS", Class: Rewrite, Service: "networks.*.use_service_name_alias networks.*.gw_priority", Reason: "is dropped"},
	{ID: "MAC-ADDRESS", Class: Rewrite, Service: "mac_address", Reason: "is dropped"},
	{ID: "DNS", Class: Rewrite, Service: "dns dns_opt dns_search", Reason: "is dropped: names outside the sandbox do not resolve"},
	{ID: "EGRESS-PROXY", Class: Rewrite, Reason: "reach what the profile lists through a proxy"},
	{ID: "EXTRA-HOSTS", Class: Profile, ByValue: true, Service: "extra_hosts.** build.extra_hosts.**", Reason: "leads to the host",
		Hint: "name a literal address that is not the host's, or run the thing as a service", Grants: "host-gateway; whether it answers is for network.host_access"},
	{ID: "EXTERNAL-LINKS", Class: Never, Service: "external_links", Reason: "links to a container outside the sandbox", Hint: "run what it links to as a service"},
	{ID: "NET-EXTERNAL", Class: Profile, ByValue: true, Project: "networks.*.external.**", Reason: "is a network outside the sandbox",
		Hint: "remove external, or let the profile allow NET-EXTERNAL; the sandbox gets a network of its own", Grants: "a network of the sandbox's own instead"},
	{ID: "NET-NAME", Class: Rewrite, Project: "networks.*.name", Reason: "would clash with other copies"},
	{ID: "NET-DRIVER", Class: Never, ByValue: true, Project: "networks.*.driver", Reason: "is not a bridge network", Hint: "remove it, or write bridge"},
	{ID: "NET-DRIVER-OPTS", Class: Never, ByValue: true, Project: "networks.*.driver_opts.**", Reason: "configures the host's network", Hint: "remove it"},
	{ID: "NET-OPTIONS", Class: Rewrite, Project: "networks.*.attachable networks.*.enable_ipv4 networks.*.enable_ipv6", Reason: "is dropped: networks of a sandbox have IPv4 and no IPv6"},
	{ID: "NET-IPAM", Class: Never, ByValue: true, Project: "networks.*.ipam.driver networks.*.ipam.options.**", Reason: "is not the engine's own address management", Hint: "remove it"},
	{ID: "NET-SUBNET", Class: Never, ByValue: true, Project: "networks.*.ipam.config.[].subnet networks.*.ipam.config.[].gateway networks.*.ipam.config.[].ip_range networks.*.ipam.config.[].aux_addresses.**",
		Reason: "is not a private network", Hint: "remove it, or use one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"},

	// Builds.
	{ID: "BUILD-CONTEXT", Class: Never, ByValue: true, Service: "build.context", Reason: "is not a directory of the repository", Hint: "name a directory of the repository by a relative path"},
	{ID: "BUILD-REMOTE", Class: Never, Reason: "the host would fetch", Hint: "add it to the repository, as a submodule for instance"},
	{ID: "BUILD-SYMLINK", Class: Never, Reason: "passes through a symbolic link, which the host would resolve", Hint: "name the file or directory the link points to"},
	{ID: "BUILD-DOCKERFILE", Class: Never, ByValue: true, Service: "build.dockerfile", Reason: "is not a file of the repository", Hint: "name a file of the repository; the path starts at the build context"},
	{ID: "BUILD-ISOLATION", Class: Profile, Reason: "may run programs while it builds, outside gVisor", Hint: "name an image that is built elsewhere, or let the profile allow BUILD-ISOLATION", Grants: "builds that run programs on the host's kernel"},
	{ID: "BUILD-FETCH", Class: Profile, Reason: "is fetched by the engine, from inside the host's network", Hint: "copy a file of the repository with COPY, write a public host literally, or let the profile allow BUILD-FETCH",
		Grants: "an ADD from an address inside the host's network, or from one that variables decide"},
	{ID: "BUILD-INLINE", Class: Allow, Service: "build.dockerfile_inline"},
	{ID: "BUILD-ARGS", Class: Rewrite, Reason: "steers the builder of the host and is dropped"},
	{ID: "BUILD-EGRESS", Class: Rewrite, Reason: "may use the network while it builds; running containers may not"},
	{ID: "BUILD-NETWORK", Class: Never, ByValue: true, Service: "build.network", Reason: "builds in a network of the host", Hint: "remove it, or write none"},
	{ID: "BUILD-PRIVILEGED", Class: Never, Service: "build.privileged", Reason: "builds as root on the host", Hint: "remove it"},
	{ID: "BUILD-ENTITLEMENTS", Class: Never, Service: "build.entitlements", Reason: "takes the confinement off the build", Hint: "remove it"},
	{ID: "BUILD-SSH", Class: Never, Service: "build.ssh.**", Reason: "forwards keys of the host", Hint: "remove it; bring what the build needs in the repository"},
	{ID: "BUILD-SECRET", Class: Allow, Service: "build.secrets.**"},
	{ID: "BUILD-SECRET-REF", Class: Profile, ByValue: true, Reason: "gives a secret of the profile to the build, which may use the network",
		Hint: "let the running service read it, or let the profile allow BUILD-SECRET-REF", Grants: "the secret to the build"},
	{ID: "BUILD-ADDCTX", Class: Never, ByValue: true, Service: "build.additional_contexts.**", Reason: "is not a directory of the repository or a service of this file", Hint: "name a directory of the repository or service:NAME"},
	{ID: "BUILD-CACHE", Class: Rewrite, Service: "build.cache_from build.cache_to", Reason: "is dropped: the host's own cache is used"},
	{ID: "BUILD-TAGS", Class: Rewrite, Service: "build.tags", Reason: "is dropped: the image belongs to this sandbox alone"},
	{ID: "BUILD-PLATFORM", Class: Rewrite, Service: "build.platforms", Reason: "is dropped: the image is built for the service's platform"},
	{ID: "BUILD-RESOURCES", Class: Rewrite, Service: "build.shm_size build.ulimits.**", Reason: "is dropped"},
	{ID: "BUILD-ATTEST", Class: Rewrite, Service: "build.provenance build.sbom", Reason: "is dropped: nothing is published"},

	// Volumes, secrets and configs.
	{ID: "VOL-NAME", Class: Rewrite, Project: "volumes.*.name", Reason: "would share data with other copies"},
	{ID: "VOL-BIND", Class: Rewrite, Reason: "is bound where it is used: as a volume, the host would resolve its path"},
	{ID: "VOL-EXTERNAL", Class: Profile, ByValue: true, Project: "volumes.*.external.**", Reason: "is a volume outside the sandbox",
		Hint: "remove external, or let the profile allow VOL-EXTERNAL; the sandbox gets a volume of its own, empty at first", Grants: "a volume of the sandbox's own instead, empty at first"},
	{ID: "VOL-DRIVER", Class: Never, ByValue: true, Project: "volumes.*.driver", Reason: "is a plugin of the host", Hint: "remove it, or write local"},
	{ID: "VOL-DRIVER-OPTS", Class: Never, ByValue: true, Project: "volumes.*.driver_opts.**", Reason: "mounts something of the host", Hint: "remove it; a directory of the repository is bound with ./DIR:/PATH"},
	{ID: "SECRET-FILE", Class: Never, ByValue: true, Project: "secrets.*.file", Reason: "is not a file of the repository", Hint: "name a regular file of the repository, or have the profile provide it under setup.secret_refs"},
	{ID: "SECRET-SYMLINK", Class: Never, Reason: "passes through a symbolic link", Hint: "name the file the link points to"},
	{ID: "SECRET-ENV", Class: Never, ByValue: true, Project: "secrets.*.environment", Reason: "is a variable nobody declared", Hint: "have the profile provide it under setup.secret_refs, declare it as an input, or set it in .env"},
	{ID: "SECRET-EXTERNAL", Class: Never, Project: "secrets.*.external.** secrets.*.driver secrets.*.driver_opts.** secrets.*.template_driver", Reason: "comes from a store of the host", Hint: "have the profile provide it under setup.secret_refs, or use file"},
	{ID: "SECRET-REF", Class: Rewrite, Reason: "is a secret that the profile provides"},
	{ID: "CONFIG-FILE", Class: Never, ByValue: true, Project: "configs.*.file", Reason: "is not a file of the repository", Hint: "name a regular file of the repository, or use content"},
	{ID: "CONFIG-SYMLINK", Class: Never, Reason: "passes through a symbolic link", Hint: "name the file the link points to"},
	{ID: "CONFIG-ENV", Class: Never, ByValue: true, Project: "configs.*.environment", Reason: "is a variable nobody declared", Hint: "declare it as an input of the profile, or set it in .env"},
	{ID: "CONFIG-CONTENT", Class: Never, ByValue: true, Project: "configs.*.content", Reason: "is too long", Hint: "put it into a file of the repository"},
	{ID: "CONFIG-EXTERNAL", Class: Never, Project: "configs.*.external.** configs.*.template_driver", Reason: "comes from a store of the host", Hint: "use file or content"},
	{ID: "FILE-NAME", Class: Rewrite, Project: "secrets.*.name configs.*.name", Reason: "is dropped"},
	{ID: "FILE-ACCESS", Class: Rewrite, Service: "secrets.[].uid secrets.[].gid secrets.[].mode configs.[].uid configs.[].gid configs.[].mode",
		Reason: "does not apply: everybody in the container may read the file"},
	{ID: "DOLLAR-ESCAPE", Class: Rewrite, Reason: "keeps a literal $ that the host does not interpolate again"},
}

func ruleByID(id string) *Rule {
	if i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id }); i >= 0 {
		return &rules[i]
	}
	return nil
}

// refusesPresence reports whether the rule refuses its attributes whatever their value.
func (r *Rule) refusesPresence() bool {
	return r.Class >= Profile && !r.ByValue
}

// patterns are the attributes of r as patterns of whole paths.
func (r *Rule) patterns() []string {
	all := strings.Fields(r.Project)
	for attribute := range strings.FieldsSeq(r.Service) {
		all = append(all, "services.*."+attribute)
	}
	return all
}

// governs reports whether the pattern covers the attribute, both in parts.
func governs(pattern, attribute []string) bool {
	for i, part := range pattern {
		switch {
		case part == "**":
			return true
		case i >= len(attribute):
			return pattern[i] == "**"
		case part != "*" && part != attribute[i]:
			return false
		}
	}
	return len(pattern) == len(attribute)
}

// rulesFor finds the rules that govern an attribute, given as the parts of a
// schema path or of a path in a file whose items are "[]".
func rulesFor(attribute []string) []*Rule {
	var found []*Rule
	for i := range rules {
		for _, p := range rules[i].patterns() {
			if governs(strings.Split(p, "."), attribute) {
				found = append(found, &rules[i])
				break
			}
		}
	}
	return found
}

// supported lists the attributes that may occur in a file at all. The rest is
// reported by the loader, also what the specification gains after this was written.
func supported() []tree.Path {
	var paths []tree.Path
	for _, p := range schema.AttributePaths() {
		found := rulesFor(p.Parts())
		if len(found) > 0 && !slices.ContainsFunc(found, (*Rule).refusesPresence) {
			paths = append(paths, p)
		}
	}
	return paths
}
