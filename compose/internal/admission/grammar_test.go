package admission_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"gopkg.in/yaml.v3"
)

// A grammar makes compose files that follow the schema of the Compose
// Specification. What is in them is decided by bytes, so that a fuzzer can
// learn which choices matter; where there are none left, the plainest choice
// is made.
type grammar struct {
	choices []byte
	root    map[string]any  // the schema
	visited map[string]bool // attributes that were written
	env     map[string]string
}

func newGrammar(choices []byte) *grammar {
	return &grammar{choices: choices, root: specification(), visited: map[string]bool{}, env: map[string]string{}}
}

var specification = sync.OnceValue(func() (root map[string]any) {
	if err := json.Unmarshal([]byte(schema.Schema), &root); err != nil {
		panic(err)
	}
	return root
})

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// choose is a number below n.
func (g *grammar) choose(n int) int {
	if len(g.choices) == 0 || n <= 1 {
		return 0
	}
	c := int(g.choices[0])
	g.choices = g.choices[1:]
	return c % n
}

func pick[T any](g *grammar, all []T) T { return all[g.choose(len(all))] }

// tree is a repository with a compose file, perhaps in several files, and variables.
func (g *grammar) tree() memoryTree {
	file, other := g.file(), map[string]any{}
	switch services, _ := file["services"].(map[string]any); g.choose(8) {
	case 1: // one service is included
		other["services"] = map[string]any{"inc": g.service()}
		file["include"] = pick(g, []any{[]any{"other.yml"}, []any{map[string]any{"path": "other.yml", "env_file": "dir/.env"}}, []any{map[string]any{"path": []any{"other.yml"}, "project_directory": "dir"}}})
	case 2: // one extends another of another file
		other["services"] = map[string]any{"base": g.service()}
		services["ext"] = map[string]any{"extends": map[string]any{"file": pick(g, []string{"other.yml", "./dir/../other.yml"}), "service": "base"}}
	case 3: // or of this
		services["ext"] = map[string]any{"extends": "a"}
	case 4: // an included file has the volumes, networks and secrets
		other = map[string]any{"services": map[string]any{"inc": map[string]any{"image": "x"}}}
		for _, section := range []string{"volumes", "networks", "secrets", "configs"} {
			if v, ok := file[section]; ok {
				other[section] = v
				delete(file, section)
			}
		}
		file["include"] = "other.yml"
		file["include"] = []any{"other.yml"}
	}
	var env strings.Builder
	for _, name := range slices.Sorted(maps.Keys(g.env)) {
		fmt.Fprintf(&env, "%s='%s'\n", name, strings.ReplaceAll(g.env[name], "'", `\'`))
	}
	return fuzzedTree(g.write(file), env.String(), g.write(other))
}

// write is a file in one of the notations of YAML.
func (g *grammar) write(file map[string]any) string {
	services, _ := file["services"].(map[string]any)
	names := slices.Sorted(maps.Keys(services))
	switch g.choose(4) {
	case 1:
		return string(must(json.Marshal(file)))
	case 2: // the first service is merged from an extension
		if len(names) == 0 {
			break
		}
		body := services[names[0]]
		services[names[0]] = "MERGED"
		text := string(must(yaml.Marshal(file)))
		text = strings.Replace(text, ": MERGED\n", ":\n        <<: *shared\n", 1)
		return "x-shared: &shared " + string(must(json.Marshal(body))) + "\n" + text
	case 3: // the last is an alias of the first
		if len(names) < 2 {
			break
		}
		first := services[names[0]]
		services[names[0]], services[names[len(names)-1]] = "ANCHOR", "ALIAS"
		text := string(must(yaml.Marshal(file)))
		text = strings.Replace(text, ": ANCHOR\n", ": &one "+string(must(json.Marshal(first)))+"\n", 1)
		return strings.Replace(text, ": ALIAS\n", ": *one\n", 1)
	}
	return string(must(yaml.Marshal(file)))
}

func (g *grammar) file() map[string]any {
	services := map[string]any{}
	for _, name := range []string{"a", "b", "c.d_e-f"}[:1+g.choose(5)%3] {
		services[name] = g.service()
	}
	file := map[string]any{"services": services}
	g.visited["services"], g.visited["services.*"] = true, true
	for _, section := range []string{"networks", "volumes", "secrets", "configs"} {
		entries := map[string]any{}
		for _, name := range []string{"n", "m"} {
			switch g.choose(6) {
			case 0, 2, 3, 4:
				entries[name] = map[string]any{"secrets": map[string]any{"file": "./dir/file"}, "configs": map[string]any{"content": "x"}}[section]
			case 1:
				if v := g.value(g.definition(strings.TrimSuffix(section, "s")), section+".*", 0); v != nil {
					entries[name] = v
				}
			}
		}
		if len(entries) > 0 {
			g.visited[section] = true
			file[section] = entries
		}
	}
	if g.choose(12) == 1 {
		key := pick(g, []string{"name", "version", "include", "jobs", "models", "x-a"})
		properties, _ := g.root["properties"].(map[string]any)
		if p, ok := properties[key].(map[string]any); ok {
			file[key] = g.value(p, key, 0)
		}
	}
	return file
}

// service has an image or a build, and some attributes more.
func (g *grammar) service() map[string]any {
	s := map[string]any{}
	if g.choose(4) != 1 {
		g.visited["services.*.image"] = true
		s["image"] = pick(g, []string{"alpine:3", "x", "ghcr.io/a/b@sha256:" + strings.Repeat("a", 64), "${IMAGE:-x}", "localhost:5000/x", "a.b/c/d", "alpine", "redis:7", "sha256:" + strings.Repeat("a", 64), "sandboxer.local/x/y:g1"})
	} else {
		s["build"] = "."
	}
	properties := g.properties(g.definition("service"))
	keys := slices.Sorted(maps.Keys(properties))
	for range g.choose(6) {
		key := pick(g, keys)
		s[key] = g.value(properties[key].(map[string]any), "services.*."+key, 0)
	}
	return s
}

// properties are those of an object and of what it is put together from.
func (g *grammar) properties(s map[string]any) map[string]any {
	all := map[string]any{}
	if ref, ok := s["$ref"].(string); ok {
		s = g.definition(strings.TrimPrefix(ref, "#/$defs/"))
	}
	parts, _ := s["allOf"].([]any)
	for _, part := range parts {
		if p, ok := part.(map[string]any); ok {
			maps.Copy(all, g.properties(p))
		}
	}
	own, _ := s["properties"].(map[string]any)
	maps.Copy(all, own)
	return all
}

func (g *grammar) definition(name string) map[string]any {
	d, _ := g.root["$defs"].(map[string]any)[name].(map[string]any)
	return d
}

// value follows a part of the schema; at is the attribute it belongs to.
func (g *grammar) value(s map[string]any, at string, depth int) any {
	g.visited[at] = true
	if ref, ok := s["$ref"].(string); ok {
		return g.value(g.definition(strings.TrimPrefix(ref, "#/$defs/")), at, depth)
	}
	for _, key := range []string{"oneOf", "anyOf"} {
		if options, ok := s[key].([]any); ok {
			option, _ := pick(g, options).(map[string]any)
			if len(option) > 0 && (option["type"] != nil || option["$ref"] != nil) {
				return g.value(option, at, depth)
			}
		}
	}
	if all, ok := s["enum"].([]any); ok {
		return pick(g, all)
	}
	if c, ok := s["const"]; ok {
		return c
	}
	kind := ""
	switch k := s["type"].(type) {
	case string:
		kind = k
	case []any:
		kind, _ = pick(g, k).(string)
	}
	if kind == "string" && at != "" {
		if kinds, ok := s["type"].([]any); ok && g.choose(3) > 0 {
			kind, _ = kinds[0].(string) // numbers and truth values are more often right than texts
		}
	}
	if depth > 8 {
		return nil
	}
	switch kind {
	case "object":
		return g.object(s, at, depth)
	case "array":
		items, _ := s["items"].(map[string]any)
		list := []any{}
		for range 1 + g.choose(3) {
			list = append(list, g.value(items, at+".[]", depth+1))
		}
		return list
	case "boolean":
		words := []any{true, false}
		if kinds, ok := s["type"].([]any); ok && slices.Contains(kinds, any("string")) {
			words = append(words, "true", "no", "Yes", "off")
		}
		return g.indirect(pick(g, words))
	case "integer":
		return g.indirect(pick(g, []any{1, 2, 0, 80, 1000, 65535, 1 << 31, 1 << 53, -1}))
	case "number":
		return g.indirect(pick(g, []any{1, 0.5, 0, 1e3, 1e300, -1}))
	case "null":
		return nil
	}
	return g.indirect(g.text(at))
}

func (g *grammar) object(s map[string]any, at string, depth int) any {
	out := map[string]any{}
	properties := g.properties(s)
	keys := slices.Sorted(maps.Keys(properties))
	required, _ := s["required"].([]any)
	for _, key := range required {
		if p, ok := properties[fmt.Sprint(key)].(map[string]any); ok {
			out[fmt.Sprint(key)] = g.value(p, at+"."+fmt.Sprint(key), depth+1)
		}
	}
	if len(keys) > 0 {
		for range 1 + g.choose(3) {
			key := pick(g, keys)
			out[key] = g.value(properties[key].(map[string]any), at+"."+key, depth+1)
		}
	}
	for _, open := range []any{s["additionalProperties"], first(s["patternProperties"])} {
		p, ok := open.(map[string]any)
		if allowed, free := open.(bool); free && allowed {
			p, ok = map[string]any{"type": "string"}, true
		}
		if !ok || len(keys) > 0 && g.choose(2) == 0 {
			continue
		}
		for range 1 + g.choose(2) {
			out[pick(g, keysOf(at))] = g.value(p, at+".*", depth+1)
		}
	}
	return out
}

// first is the part of the schema for keys that do not begin with x-.
func first(patterns any) any {
	m, _ := patterns.(map[string]any)
	for _, pattern := range slices.Sorted(maps.Keys(m)) {
		if pattern != "^x-" {
			return m[pattern]
		}
	}
	return nil
}

// indirect may put a value in a variable.
func (g *grammar) indirect(v any) any {
	text := fmt.Sprint(v)
	switch g.choose(10) {
	case 1:
		if !strings.ContainsAny(text, "${}\n'\"\\") {
			return "${UNSET:-" + text + "}"
		}
	case 2:
		if !strings.ContainsAny(text, "\n'\\\x00") {
			name := fmt.Sprintf("V%d", len(g.env))
			g.env[name] = text
			return pick(g, []string{"$" + name, "${" + name + "}", "${" + name + ":?none}"})
		}
	}
	return v
}

// keysOf are keys of an open mapping.
func keysOf(at string) []string {
	last := at[strings.LastIndexByte(at, '.')+1:]
	if known, ok := nastyKeys[last]; ok {
		return known
	}
	return []string{"n", "a", "m", "b", "A", "x.y", "default", "é", "<<", "0", "c.d_e-f"}
}

var nastyKeys = map[string][]string{
	"sysctls":             {"net.core.somaxconn", "net.ipv4.ip_forward", "kernel.core_pattern", "kernel.shm_rmid_forced", "net.ipv6.conf.all.disable_ipv6", "fs.mqueue.msg_max", "vm.swappiness", "net.ipv4.tcp_syncookies", "net.ipv4.conf.all.route_localnet"},
	"ulimits":             {"nofile", "core", "memlock", "nproc", "rtprio", "stack", "as"},
	"driver_opts":         {"type", "device", "o", "com.docker.network.bridge.name", "com.docker.network.driver.mtu", "com.docker.network.bridge.enable_icc", "com.docker.network.bridge.gateway_mode_ipv4"},
	"args":                {"A", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_SYNTAX", "HTTP_PROXY"},
	"labels":              {"a", "dev.sandboxer.id", "com.docker.compose.project", "traefik.enable"},
	"environment":         {"A", "LD_PRELOAD", "DOCKER_HOST", "NVIDIA_VISIBLE_DEVICES", "a.b-c", "é"},
	"additional_contexts": {"a", "alpine", "-x", "a=b", "x:y@z"},
	"extra_hosts":         {"h", "host.docker.internal", "é", "a:b"},
}

// text is a text for an attribute: one that says something there, or one that
// parsers disagree about.
func (g *grammar) text(at string) string {
	if g.choose(6) == 5 {
		var b strings.Builder
		for range 1 + g.choose(4) {
			b.WriteString(pick(g, nastyParts))
		}
		return b.String()
	}
	parts := strings.Split(at, ".")
	for i := len(parts) - 1; i > 0; i-- {
		if known, ok := nastyTexts[parts[i]]; ok {
			if g.choose(5) < 2 {
				return known[0]
			}
			return pick(g, known)
		}
	}
	return pick(g, []string{"a", "b", "n", "", "/etc", "../x", "host", "1", "10s", "${A}", "$$A", "true", "x=y", "/"})
}

var nastyParts = []string{
	"a", "/", "$$", "${A}", "${A:-b}", ":", "=", "..", "~", "\\", "\"", "'", "\n", "\r", "\t", " ", "#", "- ", "*", "&", "!", "%", "@", "`", "|", ">", "<<", "null", "0x1", "1e3",
	"é", "\u00a0", "\u2028", "\u0085", "\ufeff", "\x7f", "---", "host", "service:", "container:", "/etc", "/proc", ".git", "0", "-", ",", "ro", "z", "s", "k", "9999999999999999999",
}

var paths = []string{"./dir", ".", "./dir/file", "/", "/etc", "../x", "./dir/../..", "~/x", "./link", "./link/file", "./out", ".git", "./dir/.GIT/x", "./missing", "/var/run/docker.sock", "C:\\x", "//x", "./dir//file", "file:///etc", "https://x/y.git", "/proc/self/root", "./é", ""}

var modes = []string{"service:a", "none", "host", "container:x", "service:b", "private", "shareable", "bridge", "default", "service:nope", "ns:/proc/1/ns/net", "Host", " host", "service:", "service:host"}

var targets = []string{"/data", "/", "/proc", "/proc/sys/kernel/core_pattern", "/sys/fs/cgroup", "/dev/shm/x", "/dev/x", "data", "/../proc", "/data/../sys", "//proc", "/run/../dev", "C:/x", "/d a t a", "proc/x", "../x", "dev/sda", "/é"}

// nastyTexts are values that mean something, by the last part of an attribute that is known.
var nastyTexts = map[string][]string{
	"network_mode": modes, "pid": modes, "ipc": modes, "uts": modes, "userns_mode": modes, "cgroup": modes,
	"volumes": {
		"./dir:/data", "n:/data", "m:/data:ro", "/etc:/data", "../x:/x", "./dir:/x:ro", ".:/ws", "./dir/file:/f", "~/x:/x", "./link:/x", "/var/run/docker.sock:/s", "./.git:/g", "/data", "n:/proc", "./dir:/data:rshared", "./dir:/sys/x",
		"./dir:/data:nocopy,z", "\\\\.\\pipe\\x:/x", "${HOME}:/x", "./missing/new:/n", "/etc/localtime:/etc/localtime:ro", "n:relative", "./dir:/a:ro,rw", ".:/dev",
	},
	"source": append([]string{"n", "m"}, paths...), "target": targets, "type": {"bind", "volume", "tmpfs", "npipe", "cluster", "image", "none", "ext4"},
	"tmpfs": {"/t", "/t:size=1m,mode=1777", "/proc", "/t:size=9999999999999", "/t:dev,suid,exec", "relative", "/t:size=x", "/t:uid=0,gid=x", "/t:", "/t:size=-1", "/t:size=0", "/dev"},
	"file":  paths, "env_file": append([]string{"other.env", ".env"}, paths...), "label_file": paths, "path": paths, "context": append([]string{".", "service:b"}, paths...), "dockerfile": append([]string{"Dockerfile", "dir/Dockerfile", "../Dockerfile"}, paths...),
	"additional_contexts": append([]string{"service:b", "docker-image://alpine", "oci-layout:///x", "./dir"}, paths...), "build": append([]string{"."}, paths...), "project_directory": paths,
	"secrets": {"n", "m", "nope"}, "configs": {"n", "m", "nope"}, "networks": {"n", "m", "default", "host", "nope"}, "depends_on": {"b", "a", "nope"}, "links": {"b", "b:x", "a", "nope", "b:"},
	"volumes_from": {"b", "b:ro", "a", "container:x", "nope", "b:z"}, "external_links": {"x", "x:y"}, "extends": {"b", "a", "nope"}, "service": {"a", "b", "nope"},
	"cap_add": {"CHOWN", "SYS_ADMIN", "ALL", "cap_net_admin", "IPC_LOCK", "sys_nice", "MKNOD", " SYS_ADMIN", "CAP_CAP_CHOWN"}, "cap_drop": {"ALL", "CHOWN", "x"},
	"security_opt": {"no-new-privileges:true", "seccomp:unconfined", "apparmor=unconfined", "no-new-privileges=false", "label:disable", "no-new-privileges", "systempaths=unconfined"},
	"devices":      {"/dev/sda:/dev/sda", "/dev/fuse", "/dev/kvm:/dev/x:rwm", "vendor.com/class=x", "/dev/net/tun:/dev/net/tun:r"}, "device_cgroup_rules": {"a *:* rwm", "c 1:3 r"},
	"runtime": {"runc", "runsc", "/x", "nvidia"}, "cgroup_parent": {"/", "x.slice"}, "isolation": {"hyperv", "default"},
	"dns": {"8.8.8.8", "127.0.0.1", "host", "::1"}, "extra_hosts": {"h:10.0.0.1", "h=::1", "h:host-gateway", "h:169.254.169.254", "h=[::1]", "h", "h:x", "host-gateway:host-gateway"},
	"ports": {"80", "80:80", "127.0.0.1:1-3:1-3/udp", "1-65535:1-65535", "[::1]:80:80", "80:80/sctp", "a:b", "0:0"}, "expose": {"80", "80/tcp", "1-65535", "x", "80-81/udp", "-1"},
	"restart": {"always", "no", "on-failure", "on-failure:3", "on-failure:-1", "unless-stopped", "on-failure:99", "x", "on-failure:", "no:1"}, "condition": {"any", "none", "on-failure", "service_started", "service_healthy", "service_completed_successfully", "x"},
	"driver": {"local", "bridge", "json-file", "host", "none", "macvlan", "null", "overlay", "syslog", "x"}, "subnet": {"10.1.0.0/16", "8.8.8.0/24", "0.0.0.0/0", "169.254.169.0/24", "fd00::/64", "x"}, "gateway": {"10.1.0.1", "8.8.8.8"},
	"type_": {"tmpfs"}, "device": {"tmpfs", "/etc", "/dev/sda", "overlay", "./dir", ":/x"}, "o": {"size=1m", "bind", "lowerdir=/:/etc", "bind,size=1m", "uid=1000", "addr=1.2.3.4", "exec,suid", "size=9999999999999"},
	"driver_opts": {"tmpfs", "bind", "/etc", "./dir", "1500", "true", "none", "size=1m", "9001", "br0", "isolated"},
	"name":        {"x", "host", "sbx-other_n", "../x", "bridge"}, "external": {"true", "false"}, "environment": {"A=b", "A", "B=$$C", "=x", "SSH_CONNECTION", "A=", "LD_PRELOAD=/x"}, "content": {"x", "$$A", "${A}", ""},
	"platform": {"linux/amd64", "windows/amd64", "linux", "wasi/wasm", "linux/"}, "pull_policy": {"always", "never", "build", "every_1h", "x"}, "hostname": {"h", "h.x", "-x", "h\n"}, "image": {"x", "alpine:3", "scratch", "sandboxer.local/other/a:g1", "a b", "-x"},
	"interval": {"1s", "1ms", "0s", "-1s", "10h", "x"}, "start_interval": {"1s", "1ms"}, "timeout": {"1s", "0"}, "stop_grace_period": {"1s", "10h", "-1s", "0s"}, "stop_signal": {"SIGTERM", "KILL", "x; id"},
	"mem_limit": {"64m", "1t", "-1", "0", "9223372036854775807", "9e99g", "x"}, "memory": {"64m", "1t", "0"}, "memswap_limit": {"-1", "1g", "0"}, "shm_size": {"64m", "1t", "0"}, "size": {"1m", "1t", "-1", "0"}, "cpus": {"0.5", "1000", "-1", "0", "1e300", "NaN", "Inf"},
	"pids_limit": {"10", "-1", "0", "99999999"}, "oom_score_adj": {"500", "-500", "1000"}, "mode": {"0444", "0777", "07777", "host", "ingress", "replicated", "global", "global-job", "replicated-job"}, "scale": {"2", "1000", "0", "-1"}, "replicas": {"2", "1000", "0"},
	"user": {"1000", "root", "0:0", "é"}, "working_dir": {"/x", "x", "/proc"}, "network": {"none", "host", "default", "n", "container:x"}, "entitlements": {"security.insecure", "network.host"}, "ssh": {"default", "k=/x"}, "cache_from": {"type=local,src=/etc"}, "cache_to": {"type=local,dest=/x"},
	"provider": {"./dir/file", "x"}, "credential_spec": {"file:///x"}, "selinux": {"z", "Z"}, "propagation": {"rprivate", "shared", "rslave", "private"}, "subpath": {"..", "x"}, "consistency": {"cached"},
}

// TestGrammarReachesEverything: every attribute of the specification is
// written sooner or later, and of the files enough are accepted to say
// something about what is accepted.
func TestGrammarReachesEverything(t *testing.T) {
	visited := map[string]bool{}
	for seed := range uint64(6000) {
		g := newGrammar(randomBytes(seed, 400))
		g.tree()
		maps.Copy(visited, g.visited)
	}
	var never []string
	for _, p := range schema.AttributePaths() {
		// a job and what runs before a container have all that a service has
		if at := p.String(); !visited[at] && !strings.HasPrefix(at, "jobs.*.") && !strings.Contains(at, ".pre_start.[].") {
			never = append(never, at)
		}
	}
	if len(never) > 0 {
		t.Errorf("%d attributes are never written: %s", len(never), strings.Join(never, " "))
	}
	accepted := 0
	const files = 200
	for seed := range uint64(files) {
		if examine(t, newGrammar(randomBytes(seed, 20+int(seed)/2)).tree(), fuzzedPolicy(byte(seed))) {
			accepted++
		}
	}
	t.Logf("%d of %d files accepted", accepted, files)
	if accepted < files/20 {
		t.Errorf("only %d of %d files were accepted: nothing is known of the others", accepted, files)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
