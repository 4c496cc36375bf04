//go:build linux

package compose_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/internal/repotest"
)

// A member is a service of a file of many, or a build, that does harm by what
// it asks for.
type member struct {
	asks string
	says string // the harm, as the service writes it or as it stands in what the engine keeps of its container
	rule string // refuses it, or rewrites it
}

const (
	neighbourSecret = "canary-of-the-neighbour"
	clientSecret    = "canary-of-the-client" // a variable of whoever runs compose or the library
)

// refusedTogether are services of one file. Besides the names that a danger's
// files may hold: PROGRAM is the image of testdata/escape, BYID the id of a
// neighbour's image, DISK and NUMBER a disk of the host, SHARED a file in the
// host's shared memory, GROUP a control group.
var refusedTogether = map[string]member{
	"volume-of-neighbour":        {`volumes: ["volume-of-neighbour:/x"], command: [show, /x/secret, "0"]`, neighbourSecret, "VOL-EXTERNAL"},
	"volumes-from-neighbour":     {`volumes_from: ["container:victim-db-1"], command: [show, /data/secret, "0"]`, neighbourSecret, "VOLUMES-FROM"},
	"processes-of-neighbour":     {`pid: "container:victim-db-1", command: [show, /proc/1/environ, "0"]`, neighbourSecret, "PID-MODE"},
	"shared-memory-of-neighbour": {`ipc: "container:victim-db-1", command: [show, /dev/shm/secret, "0"]`, neighbourSecret, "IPC-MODE"},
	"network-of-neighbour":       {`networks: [network-of-neighbour], command: [probe, "tcp:db:8080"]`, "tcp:db:8080 open", "NET-EXTERNAL"},
	"network-by-legacy-name":     {`networks: [network-by-legacy-name], command: [probe, "tcp:db:8080"]`, "tcp:db:8080 open", "NET-EXTERNAL"},
	"network-mode-named":         {`network_mode: victim_default, command: [probe, "tcp:victim-db-1:8080"]`, "tcp:victim-db-1:8080 open", "NETWORK-MODE"},
	"loopback-of-neighbour":      {`network_mode: "container:victim-db-1", command: [probe, "tcp:127.0.0.1:8080"]`, "tcp:127.0.0.1:8080 open", "NETWORK-MODE"},
	"image-by-id":                {`image: "BYID", command: [probe, "file:/secret"]`, neighbourSecret, "IMAGE"},
	"image-of-a-sandbox":         {`image: "sandboxer.local/victim/web:g1", command: [probe, "file:/secret"]`, neighbourSecret, "IMAGE"},

	"shared-memory-of-host":       {`ipc: host, command: [show, SHARED, "0"]`, canarySecret, "IPC-MODE"},
	"name-of-host":                {`uts: host, command: [show, /proc/sys/kernel/hostname, "0"]`, "HOSTNAME", "UTS-MODE"},
	"control-group-of-host":       {`cgroup_parent: /GROUP, command: [exit, "0", 0s]`, `"CgroupParent":"/GROUP"`, "CGROUP-PARENT"},
	"engine-by-attribute":         {`use_api_socket: true, command: [engine, /var/run/docker.sock]`, "the engine answers 200", "API-SOCKET"},
	"disk":                        {`devices: ["DISK:/dev/x"], command: [disk, "NUMBER", ` + canarySecret + `]`, "on the disk: true", "DEVICES"},
	"disk-by-rule":                {`device_cgroup_rules: ["b *:* rwm"], command: [disk, "NUMBER", ` + canarySecret + `]`, "on the disk: true", "DEVICE-CGROUP"},
	"file-by-handle":              {`image: PROGRAM, cap_add: [DAC_READ_SEARCH], command: [try, handle, ""]`, "handle  open", "CAP-ADD"},
	"no-seccomp":                  {`image: PROGRAM, security_opt: ["seccomp:unconfined"], command: [try, namespace, ""]`, "namespace  open", "SECURITY-OPT"},
	"no-masks":                    {`image: PROGRAM, security_opt: ["systempaths=unconfined"], command: [try, write, /proc/sys/vm/overcommit_memory]`, "overcommit_memory open", "SECURITY-OPT"},
	"IPv6-on-the-link":            {`sysctls: {net.ipv6.conf.all.disable_ipv6: "0"}, networks: [inside], command: [show, /proc/net/if_inet6, "0"]`, "fe800000000000000", "SYSCTL"},
	"routes-of-its-own":           {`sysctls: [net.ipv4.ip_forward=0], command: [show, /proc/sys/net/ipv4/ip_forward, "0"]`, `"0\n"`, "SYSCTL"},
	"interface-of-the-host":       {`networks: [interface-of-the-host], command: [probe, "tcp:203.0.113.81:80"]`, "tcp:203.0.113.81:80 open", "NET-DRIVER"},
	"host-by-name":                {`extra_hosts: ["h:host-gateway"], command: [probe, "tcp:h:7777"]`, "tcp:h:7777 open", "EXTRA-HOSTS"},
	"address-of-metadata-service": {`networks: {inside: {link_local_ips: [169.254.169.254]}}, command: [exit, "0", 0s]`, `"LinkLocalIPs":["169.254.169.254"]`, "NET-ENDPOINT"},

	"labels-outside":           {`label_file: CANARY/.env, command: [exit, "0", 0s]`, canarySecret, "ENVFILE"},
	"variables-through-a-link": {`env_file: link.env, command: [show, /proc/self/environ, "0"]`, canarySecret, "ENVFILE"},
	"variables-read-raw":       {`env_file: [{path: CANARY/.env, format: raw, required: false}], command: [show, /proc/self/environ, "0"]`, canarySecret, "ENVFILE"},
	"secret-outside":           {`secrets: [secret-outside], command: [show, /run/secrets/secret-outside, "0"]`, canarySecret, "SECRET-FILE"},
	"secret-through-a-link":    {`secrets: [secret-through-a-link], command: [show, /run/secrets/secret-through-a-link, "0"]`, canarySecret, "SECRET-SYMLINK"},
	"secret-of-the-client":     {`secrets: [secret-of-the-client], command: [show, /run/secrets/secret-of-the-client, "0"]`, clientSecret, "SECRET-ENV"},
	"config-outside":           {`configs: [config-outside], command: [show, /config-outside, "0"]`, canarySecret, "CONFIG-FILE"},
	"config-through-a-link":    {`configs: [config-through-a-link], command: [show, /config-through-a-link, "0"]`, canarySecret, "CONFIG-SYMLINK"},
	"config-of-the-client":     {`configs: [config-of-the-client], command: [show, /config-of-the-client, "0"]`, clientSecret, "CONFIG-ENV"},
	"seccomp-by-file":          {`security_opt: ["seccomp=CANARY/seccomp.json"], command: [exit, "0", 0s]`, canarySecret, "SECURITY-OPT"},
	"bind-through-a-link":      {`volumes: ["./dir:/x"], command: [show, /x/secret, "0"]`, canarySecret, "BIND-SYMLINK"},
}

// needs are commands that succeed on a machine where a member can do harm at
// all. Elsewhere it is only refused.
var needs = map[string][]string{
	"interface-of-the-host": {"sh", "-c", "ip link add link out name danger0 type macvlan && ip link delete danger0"},
	"IPv6-on-the-link":      {"test", "-e", "/proc/net/if_inet6"},
	"no-seccomp":            userNamespaces,
}

var userNamespaces = []string{"unshare", "--user", "true"}

// able leaves out the members that can do no harm on a machine.
func able(t *testing.T, m *machine, all map[string]member) map[string]member {
	some := maps.Clone(all)
	for name, command := range needs {
		command = append(m.engine.Enter(false), command...)
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil && all[name] != (member{}) {
			t.Logf("%s can do no harm on this machine: %v: %s", name, err, out)
			delete(some, name)
		}
	}
	return some
}

const refusedObjects = `
volumes:
  volume-of-neighbour: {external: true, name: victim_data}
networks:
  network-of-neighbour: {external: true, name: victim_default}
  network-by-legacy-name: {external: {name: victim_default}}
  interface-of-the-host:
    driver: macvlan
    driver_opts: {parent: out}
    ipam: {config: [{subnet: 198.51.100.0/24, gateway: 198.51.100.1, ip_range: 198.51.100.64/28}]}
  inside: {internal: true}
secrets:
  secret-outside: {file: CANARY/secret}
  secret-through-a-link: {file: ./link}
  secret-of-the-client: {environment: CLIENT_SECRET}
configs:
  config-outside: {file: CANARY/secret}
  config-through-a-link: {file: ./dir/secret}
  config-of-the-client: {environment: CLIENT_SECRET}
`

// builtTogether are builds of one file. Each has a Dockerfile of the repository
// or of the canary, and what it writes is told by what it tries.
var builtTogether = map[string]member{
	"context-outside":                     {`{context: CANARY}`, canarySecret, "BUILD-CONTEXT"},
	"context-through-a-link":              {`{context: ./dir, dockerfile_inline: "FROM IMAGE\nCOPY secret /s\nRUN [\"/app\", \"show\", \"/s\", \"0\"]\n"}`, canarySecret, "BUILD-SYMLINK"},
	"build-in-the-network-of-the-host":    {`{context: builds, dockerfile: loopback, network: host}`, "tcp:127.0.0.1:7777 open", "BUILD-NETWORK"},
	"build-in-the-network-of-a-neighbour": {`{context: builds, dockerfile: neighbour, network: "container:victim-db-1"}`, "tcp:127.0.0.1:8080 open", "BUILD-NETWORK"},
	"build-that-finds-the-host":           {`{context: builds, dockerfile: named, extra_hosts: ["h:host-gateway"]}`, "tcp:h:7777 open", "EXTRA-HOSTS"},
}

// rewrittenTogether are services of one file that is accepted: what they do
// when plain compose runs them they do not do in a sandbox.
var rewrittenTogether = map[string]member{
	"volume-by-name":        {`volumes: ["volume-by-name:/x"], command: [probe, "file:/x/secret"]`, neighbourSecret, "VOL-NAME"},
	"network-by-name":       {`networks: [network-by-name], command: [probe, "tcp:victim-db-1:8080"]`, "tcp:victim-db-1:8080 open", "NET-NAME"},
	"name-of-neighbour":     {`container_name: victim-cache-1, command: [exit, "0", 0s]`, `"Name":"/victim-cache-1"`, "CONTAINER-NAME"},
	"labels-of-ours":        {`labels: {dev.sandboxer.id: other}, command: [exit, "0", 0s]`, `"dev.sandboxer.id":"other"`, "LABELS"},
	"labels-of-compose":     {`labels: {com.docker.compose.sandboxer-test: forged}, command: [exit, "0", 0s]`, `"com.docker.compose.sandboxer-test":"forged"`, "LABELS"},
	"labels-of-others":      {`labels: ["traefik.enable=true"], command: [exit, "0", 0s]`, `"traefik.enable":"true"`, "LABELS"},
	"labels-of-a-file":      {`label_file: labels, command: [exit, "0", 0s]`, `"ofelia.job-local.x.command":"id"`, "LABELS"},
	"variable-of-client":    {`environment: [CLIENT_SECRET], command: [exit, "0", 0s]`, clientSecret, "ENV-NULL"},
	"variable-in-a-file":    {`env_file: names, command: [exit, "0", 0s]`, clientSecret, "ENV-NULL"},
	"resolver-outside":      {`dns: ["203.0.113.53"], command: [probe, "dns:stolen.outside.example"]`, "dns:stolen.outside.example open", "DNS"},
	"port-on-every-address": {`ports: ["5432:5432"], command: [exit, "0", 0s]`, `"HostPort":"5432"`, "PORTS"},
	"shared-memory-of-all":  {`volumes: ["/dev/shm:/dev/shm"], command: [probe, "file:SHARED"]`, canarySecret, "HOST-SHM"},
	"data-of-the-host":      {`volumes: ["DATA:/data"], command: [probe, "file:/data/secret"]`, canarySecret, "BIND-DATA"},
	"shared-memory-large":   {`shm_size: 100gb, command: [show, /proc/mounts, "0"]`, "size=104857600k", "SHM"},
	"memory-large":          {`deploy: {resources: {limits: {memory: 64G}}}, command: [exit, "0", 0s]`, `"Memory":68719476736`, "RESOURCES"},
	"processor-of-its-own":  {`cpuset: "0", cpu_shares: 4096, command: [exit, "0", 0s]`, `"CpusetCpus":"0"`, "RESOURCES"},
	"no-new-privileges-off": {`security_opt: ["no-new-privileges:false"], command: [show, /proc/self/status, "0"]`, "NoNewPrivs:\t0", "SECURITY-OPT"},
	"tmpfs-with-programs":   {`tmpfs: ["/t:exec,suid,dev"], command: [exit, "0", 0s]`, `"/t":"exec,suid,dev"`, "TMPFS"},
	"probe-without-pause":   {`healthcheck: {test: [CMD, /app, exit, "0", 0s], interval: 1ms}, command: [exit, "0", 0s]`, `"Interval":1000000}`, "HEALTHCHECK"},
}

const rewrittenObjects = `
volumes: {volume-by-name: {name: victim_data}}
networks: {network-by-name: {name: victim_network-by-name}}
`

// together is one danger of many members.
func together(members map[string]member, image, objects string) danger {
	var b strings.Builder
	b.WriteString("services:\n")
	for _, name := range slices.Sorted(maps.Keys(members)) {
		asks := members[name].asks
		if !strings.Contains(asks, "image: ") {
			asks = image + asks
		}
		fmt.Fprintf(&b, "  %s: {%s}\n", name, asks)
	}
	return danger{prepare: muchToLose, files: map[string]string{
		"compose.yaml": b.String() + objects, "labels": "ofelia.job-local.x.command=id\n", "names": "CLIENT_SECRET\n",
		"builds/loopback":  "FROM IMAGE\nRUN [\"/app\", \"probe\", \"tcp:127.0.0.1:7777\"]\n",
		"builds/neighbour": "FROM IMAGE\nRUN [\"/app\", \"probe\", \"tcp:127.0.0.1:8080\"]\n",
		"builds/named":     "FROM IMAGE\nRUN [\"/app\", \"probe\", \"tcp:h:7777\"]\n",
	}}
}

// muchToLose prepares all that members reach for. It is done twice.
func muchToLose(t *testing.T, x *exposed) {
	linkTo("link", "secret")(t, x)
	linkTo("link.env", ".env")(t, x)
	linkTo("dir", ".")(t, x)
	repotest.Write(t, filepath.Join(x.canary, "seccomp.json"), `{"defaultAction": "SCMP_ACT_ALLOW", "comment": "`+canarySecret+`"}`, 0o600)
	repotest.Write(t, filepath.Join(x.canary, "Dockerfile"), "FROM "+x.image+"\nCOPY secret /secret\nRUN [\"/app\", \"show\", \"/secret\", \"0\"]\n", 0o600)
	blockDevice(t, x)
	var disk syscall.Stat_t
	if err := syscall.Stat(x.scratch, &disk); err != nil {
		t.Fatal(err)
	}
	shared, data := filepath.Join(temporary(t, "/dev/shm"), "secret"), temporary(t, "/srv")
	repotest.Write(t, shared, canarySecret, 0o600)
	repotest.Write(t, filepath.Join(data, "secret"), canarySecret, 0o600)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	group := "danger-" + filepath.Base(data)
	t.Cleanup(func() { removeGroups(t, group) })
	x.names = append(x.names, "PROGRAM", "sandboxer-test/escape", "BYID", x.docker(t, "image", "inspect", "--format", "{{.Id}}", "sandboxer.local/victim/web:g1"),
		"DISK", x.scratch, "NUMBER", fmt.Sprintf("%d:%d", disk.Rdev>>8&0xfff, disk.Rdev&0xff), "SHARED", shared, "DATA", data, "HOSTNAME", host, "GROUP", group)
}

// temporary is a directory that is removed with the test.
func temporary(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "danger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// removeGroups removes control groups, which the engine leaves, of either version.
func removeGroups(t *testing.T, name string) {
	one, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", name))
	two, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", name))
	for _, dir := range append(one, two...) {
		if err := syscall.Rmdir(dir); err != nil {
			t.Errorf("removing %s: %v", dir, err)
		}
	}
}

// A neighbour's project is started by plain compose, with a secret in each place.
const neighbour = `
services:
  volume: {image: IMAGE, volumes: ["data:/data"], command: [write, /data/secret, SECRET]}
  layer: {image: IMAGE, command: [write, /secret, SECRET]}
  memory: {image: IMAGE, ipc: "service:db", command: [write, /dev/shm/secret, SECRET], depends_on: [db]}
  db: {image: IMAGE, ipc: shareable, environment: {PASSWORD: SECRET}, volumes: ["data:/data"], networks: [default, network-by-name], command: [serve, "8080", x]}
  last:
    image: IMAGE
    command: [exit, "0", 0s]
    depends_on: {volume: &done {condition: service_completed_successfully}, layer: *done, memory: *done}
`

// neighbours gives the engine a neighbour, and its socket the usual path.
func neighbours(t *testing.T, m *machine, image string) {
	t.Helper()
	dir := t.TempDir()
	repotest.Write(t, filepath.Join(dir, "compose.yaml"), strings.NewReplacer("IMAGE", image, "SECRET", neighbourSecret).Replace(neighbour)+"volumes: {data: {}}\nnetworks: {network-by-name: {}}\n", 0o600)
	up := exec.Command("docker", "compose", "--project-name", "victim", "up", "--detach")
	up.Dir = dir
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatalf("starting a neighbour: %v: %s", err, out)
	}
	t.Cleanup(func() {
		dockerDo(t, "compose", "--project-name", "victim", "down", "--volumes", "--timeout", "0")
		dockerDo(t, "rmi", "sandboxer.local/victim/web:g1", "sandboxer-test/escape")
	})
	dockerDo(t, "commit", "victim-layer-1", "sandboxer.local/victim/web:g1")
	importProgram(t, m.escape, "sandboxer-test/escape", `["/program"]`)
	m.do(t, true, "mount", "--bind", m.engine.Socket, "/var/run/docker.sock")
}

// dangersOfOneFile has many services do harm at once, since one file is enough
// to see all of it.
func dangersOfOneFile(t *testing.T, m *machine, image string) {
	t.Setenv("CLIENT_SECRET", clientSecret)
	neighbours(t, m, image)
	t.Run("services that are refused", func(t *testing.T) {
		x := expose(t, m, image)
		harmful := able(t, m, refusedTogether)
		x.lay(t, together(harmful, "image: IMAGE, ", refusedObjects))
		x.compose(t, "up")
		x.expectHarm(t, harmful, x.evidence(t, "danger"))
		x.down(t)
		x.lay(t, together(refusedTogether, "image: IMAGE, ", refusedObjects))
		x.expectRefusals(t, refusedTogether)
	})
	t.Run("builds that are refused", func(t *testing.T) {
		x := expose(t, m, image)
		d := together(builtTogether, "build: ", "")
		x.lay(t, d)
		out, _ := x.compose(t, "build")
		saw := map[string]string{}
		for name := range builtTogether {
			saw[name] = out
		}
		x.expectHarm(t, builtTogether, saw)
		x.lay(t, d)
		x.expectRefusals(t, builtTogether)
	})
	t.Run("services that are rewritten", func(t *testing.T) {
		x := expose(t, m, image)
		d := together(rewrittenTogether, "image: IMAGE, ", rewrittenObjects)
		x.lay(t, d)
		x.compose(t, "up")
		x.expectHarm(t, rewrittenTogether, x.evidence(t, "danger"))
		x.down(t)
		x.lay(t, d)
		box := x.create(t, request(x.repo))
		saw := x.evidence(t, "sbx-"+box.ID)
		for name, m := range rewrittenTogether {
			switch text, says := saw[name], x.said(m.says); {
			case text == "":
				t.Errorf("%s did not run", name)
			case strings.Contains(text, says):
				t.Errorf("%s does harm in a sandbox: %s", name, says)
			}
			if !slices.ContainsFunc(box.Admission.Rewrites, func(r sandboxer.Rewrite) bool { return r.Rule == m.rule && concerns(r.Path, name) }) {
				t.Errorf("%s is not rewritten by %s", name, m.rule)
			}
		}
	})
}

// said is a text in which names are replaced as in a file.
func (x *exposed) said(text string) string { return strings.NewReplacer(x.names...).Replace(text) }

func (x *exposed) expectHarm(t *testing.T, members map[string]member, saw map[string]string) {
	t.Helper()
	for name, m := range members {
		if says := x.said(m.says); !strings.Contains(saw[name], says) {
			t.Errorf("plain compose did no harm with %s, {%s}: nothing says %q:\n%s", name, m.asks, says, saw[name])
		}
	}
}

func (x *exposed) expectRefusals(t *testing.T, members map[string]member) {
	t.Helper()
	violations := x.refused(t)
	for name, m := range members {
		if !slices.ContainsFunc(violations, func(v sandboxer.Violation) bool { return v.Rule == m.rule && concerns(v.Path, name) }) {
			t.Errorf("%s is not refused by %s: %v", name, m.rule, violations)
		}
	}
}

// concerns says whether a path is of the service or the object of a name.
func concerns(path, name string) bool {
	_, rest, _ := strings.Cut(path, ".")
	return rest == name || strings.HasPrefix(rest, name+".")
}

// evidence is what each service of a project wrote and what the engine keeps
// of its container.
func (x *exposed) evidence(t *testing.T, project string) map[string]string {
	t.Helper()
	saw := map[string]string{}
	ids := strings.Fields(x.docker(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+project))
	for line := range strings.Lines(x.docker(t, append([]string{"inspect", "--format", "{{json .}}"}, ids...)...)) {
		var about struct {
			ID     string
			Config struct{ Labels map[string]string }
		}
		if err := json.Unmarshal([]byte(line), &about); err != nil {
			t.Fatal(err)
		}
		saw[about.Config.Labels["com.docker.compose.service"]] += x.docker(t, "logs", about.ID) + "\n" + line
	}
	return saw
}

// hooksThatHang, and a service that does not stop, hold up plain compose; a
// create ends at its bound all the same, and a destroy leaves nothing.
func hooksThatHang(t *testing.T, m *machine, image string) {
	const hour = `{command: [/app, exit, "0", 1h]}`
	x := expose(t, m, image, profileWith(t, "profile.short", func(p *sandboxer.Profile) { p.Bounds.Provision = sandboxer.Duration(5 * time.Second) }))
	d := danger{files: map[string]string{"compose.yaml": `
services:
  stop: {image: IMAGE, command: [serve, "80", x], pre_stop: [` + hour + `]}
  deaf: {image: IMAGE, command: [exit, "0", 1h], stop_signal: SIGURG, stop_grace_period: 240h}
  start: {image: IMAGE, command: [serve, "80", x], post_start: [` + hour + `], depends_on: [stop, deaf]}
`}}
	x.lay(t, d)
	x.compose(t, "up", "--detach", "stop", "deaf")
	if _, code := x.composeFor(t, 3*time.Second, "up", "--detach", "start"); code != -1 {
		t.Errorf("up does not wait for a hook: it ends with %d", code)
	}
	for _, service := range []string{"stop", "deaf"} {
		if out, code := x.composeFor(t, 2*time.Second, "--file", "compose.yaml", "stop", service); code != -1 || x.docker(t, "ps", "--quiet", "--filter", "name=danger-"+service) == "" {
			t.Errorf("%s does not hold up plain compose: it ends with %d: %s", service, code, out)
		}
	}
	x.down(t)
	x.lay(t, d)
	req := request(x.repo)
	req.Profile = "profile.short"
	box, err := x.Create(t.Context(), req)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("create does not end at its bound: %v", err)
	}
	x.destroy(t, box.ID) // within bounds of its own, a small part of an hour
}

// buildsThatDialOut reach what is outside where the profile lets them, and
// nothing where it does not.
func buildsThatDialOut(t *testing.T, m *machine, image string) {
	builds := func(egress sandboxer.Egress) sandboxer.Profile {
		return profileWith(t, "profile.builds-"+string(egress), func(p *sandboxer.Profile) { p.Config = fmt.Appendf(nil, `{"build_egress": %q}`, egress) })
	}
	x := expose(t, m, image, builds(sandboxer.EgressAllow), builds(sandboxer.EgressDeny))
	for egress, want := range map[sandboxer.Egress]sandboxer.ControlLevel{sandboxer.EgressAllow: sandboxer.Advisory, sandboxer.EgressDeny: sandboxer.Enforced} {
		token := "built-with-egress-" + string(egress)
		x.lay(t, danger{files: map[string]string{
			"compose.yaml": `services: {a: {build: ., command: [exit, "0", 0s]}}`,
			"Dockerfile":   "FROM IMAGE\nRUN [\"/app\", \"probe\", \"get:http://" + otherServer + "/" + token + "\"]\n",
		}})
		req := request(x.repo)
		req.Profile = "profile.builds-" + string(egress)
		box := x.create(t, req)
		if heard := m.outside.heard(token); heard != (egress == sandboxer.EgressAllow) {
			t.Errorf("with build_egress %s the witness outside heard the build: %v", egress, heard)
		}
		assertControls(t, box, map[string]sandboxer.ControlLevel{"network.builds": want})
	}
}
