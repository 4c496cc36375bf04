package admission_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
	"gopkg.in/yaml.v3"
)

// An oracle has its own idea of what a canonical file may hold. It shares
// neither code nor YAML library nor tables with the rules: what both overlook,
// two people have overlooked. Whatever is not listed here is called unsafe, so
// an attribute that the canonical file gains is judged twice.
type oracle struct {
	tree     admission.Tree
	policy   admission.Policy
	place    admission.Placement
	services map[string]any
	writable map[string]bool // directories of the workspace that some container may write to
	binds    []string        // paths of the workspace that are mounted
	problems []string
}

// unsafe lists what in a canonical file must not be there.
func unsafe(text []byte, tree admission.Tree, policy admission.Policy, place admission.Placement) []string {
	o := &oracle{tree: tree, policy: policy, place: place, writable: map[string]bool{}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root any
	if err := decoder.Decode(&root); err != nil {
		return []string{err.Error()}
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		o.say("/", "more than one document")
	}
	root = o.text("", root)
	if m, ok := root.(map[string]any); ok {
		o.services, _ = m["services"].(map[string]any)
	}
	o.object("", root, fields{
		"name":     o.is(place.Project),
		"services": o.each(o.service),
		"networks": o.each(o.network),
		"volumes":  o.each(o.volume),
		"secrets":  o.each(o.content),
		"configs":  o.each(o.content),
	})
	for _, b := range o.binds {
		for dir := b; dir != "."; {
			if dir = path.Dir(dir); o.writable[dir] {
				o.say("binds", "%s lies in %s, where a container can replace it by a link", b, dir)
			}
		}
	}
	return o.problems
}

type check func(at string, v any)

type fields map[string]check

func (o *oracle) say(at, format string, args ...any) {
	o.problems = append(o.problems, at+": "+fmt.Sprintf(format, args...))
}

// text undoes the doubling of $, as compose will when it interpolates, and
// notices a $ that is not doubled.
func (o *oracle) text(at string, v any) any {
	switch v := v.(type) {
	case string:
		if strings.Contains(strings.ReplaceAll(v, "$$", ""), "$") {
			o.say(at, "a variable is left in %q", v)
		}
		return strings.ReplaceAll(v, "$$", "$")
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = o.text(at+"/"+k, e)
		}
		return out
	case []any:
		var out []any
		for i, e := range v {
			out = append(out, o.text(fmt.Sprintf("%s/%d", at, i), e))
		}
		return out
	case map[any]any:
		o.say(at, "keys that are no text")
	}
	return v
}

func (o *oracle) object(at string, v any, known fields) {
	m, ok := v.(map[string]any)
	if !ok {
		o.say(at, "is %T, no mapping", v)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if judge := known[key]; judge != nil {
			judge(at+"/"+key, m[key])
		} else {
			o.say(at+"/"+key, "is not known to be safe: %v", m[key])
		}
	}
}

func (o *oracle) each(judge check) check {
	return func(at string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			o.say(at, "is %T, no mapping", v)
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			judge(at+"/"+key, m[key])
		}
	}
}

func (o *oracle) list(judge check) check {
	return func(at string, v any) {
		l, ok := v.([]any)
		if !ok && v != nil {
			o.say(at, "is %T, no list", v)
		}
		for i, e := range l {
			judge(fmt.Sprintf("%s/%d", at, i), e)
		}
	}
}

func (o *oracle) is(want ...any) check {
	return func(at string, v any) {
		if !slices.Contains(want, v) {
			o.say(at, "is %v, want one of %v", v, want)
		}
	}
}

func (o *oracle) same(want any) check {
	return func(at string, v any) {
		if !reflect.DeepEqual(v, want) {
			o.say(at, "is %v, want %v", v, want)
		}
	}
}

func (o *oracle) like(pattern string) check {
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	return o.string(func(at, s string) {
		if !re.MatchString(s) {
			o.say(at, "is %q", s)
		}
	})
}

func (o *oracle) string(judge func(at, s string)) check {
	return func(at string, v any) {
		if s, ok := v.(string); ok {
			judge(at, s)
		} else {
			o.say(at, "is %T, no text", v)
		}
	}
}

// free is text that only the container sees.
func (o *oracle) free() check { return o.string(func(string, string) {}) }

func (o *oracle) bool() check { return o.is(true, false) }

func (o *oracle) number(least, most float64) check {
	return func(at string, v any) {
		var n float64
		switch v := v.(type) {
		case int:
			n = float64(v)
		case int64:
			n = float64(v)
		case uint64:
			n = float64(v)
		case float64:
			n = v
		default:
			o.say(at, "is %T, no number", v)
			return
		}
		if n < least || most > 0 && n > most {
			o.say(at, "is %v, not from %v to %v", n, least, most)
		}
	}
}

func (o *oracle) duration(least, most time.Duration) check {
	return o.string(func(at, s string) {
		if d, err := time.ParseDuration(s); err != nil || d < least || d > most {
			o.say(at, "is %q", s)
		}
	})
}

func (o *oracle) labels() check {
	want := map[string]any{}
	for k, v := range o.place.Labels {
		want[k] = v
	}
	return o.same(want)
}

func (o *oracle) granted(rule string) bool { return slices.Contains(o.policy.Allow, rule) }

func (o *oracle) open() bool { return o.policy.Egress == sandboxer.EgressAllow }

const eternity = time.Duration(1<<63 - 1)

func (o *oracle) service(at string, v any) {
	s, _ := v.(map[string]any)
	for _, must := range []string{"image", "cap_drop", "security_opt", "logging", "oom_score_adj", "ulimits", "labels"} {
		if _, ok := s[must]; !ok {
			o.say(at, "has no %s", must)
		}
	}
	bounded := map[string]bool{"mem_limit": o.policy.Memory > 0, "memswap_limit": o.policy.Memory > 0, "cpus": o.policy.CPUs > 0, "pids_limit": o.policy.PIDs > 0}
	for key, needed := range bounded {
		if v, ok := s[key]; needed && (!ok || v == 0) { // zero is no limit
			o.say(at, "has no %s", key)
		}
	}
	if s["memswap_limit"] != s["mem_limit"] {
		o.say(at, "may swap: memory %v, with swap %v", s["mem_limit"], s["memswap_limit"])
	}
	if _, attached := s["networks"]; attached && !o.open() {
		o.same([]any{"127.0.0.1"})(at+"/dns", s["dns"])
	} else if dns := s["dns"]; dns != nil && !o.open() {
		o.say(at+"/dns", "is %v", dns)
	}
	o.object(at, v, fields{
		"image": o.image(), "build": o.build, "platform": o.like(`linux(/[A-Za-z0-9_-]+){0,2}`), "scale": o.number(0, 25),
		"entrypoint": o.list(o.free()), "command": o.list(o.free()), "working_dir": o.free(), "user": o.free(), "group_add": o.list(o.free()),
		"hostname": o.like(`[A-Za-z0-9._-]+`), "domainname": o.like(`[A-Za-z0-9._-]+`), "environment": o.each(o.free()),
		"init": o.bool(), "tty": o.bool(), "stdin_open": o.bool(), "read_only": o.bool(), "stop_signal": o.free(),
		"stop_grace_period": o.duration(-eternity, 10*time.Second), "restart": o.like(`no|on-failure:[1-5]`),
		"depends_on": func(at string, v any) {
			m, _ := v.(map[string]any)
			for name := range m {
				o.sibling(at, name)
			}
			o.each(func(at string, v any) {
				o.object(at, v, fields{"condition": o.like(`service_(started|healthy|completed_successfully)`), "restart": o.bool(), "required": o.bool()})
			})(at, v)
		},
		"links": o.list(o.string(func(at, s string) {
			name, _, _ := strings.Cut(s, ":")
			o.sibling(at, name)
		})),
		"healthcheck": func(at string, v any) {
			o.object(at, v, fields{
				"test": o.list(o.free()), "interval": o.duration(-eternity, eternity), "timeout": o.duration(-eternity, eternity), "retries": o.number(0, 1000),
				"start_period": o.duration(-eternity, eternity), "start_interval": o.duration(-eternity, eternity), "disable": o.bool(),
			})
			m, _ := v.(map[string]any)
			for _, key := range []string{"interval", "start_interval"} { // zero is the engine's own
				if d, err := time.ParseDuration(fmt.Sprint(m[key])); err == nil && d > 0 && d < time.Second {
					o.say(at+"/"+key, "is %v", d)
				}
			}
		},
		"post_start": o.list(func(at string, v any) {
			o.object(at, v, fields{"command": o.list(o.free()), "user": o.free(), "working_dir": o.free(), "environment": o.each(o.free())})
		}),
		"expose":       o.list(o.like(`\d+(-\d+)?(/(tcp|udp|sctp))?`)),
		"network_mode": o.shared("none"), "pid": o.shared(), "ipc": o.shared("none", "private", "shareable"), "cgroup": o.is("private"),
		"networks": o.each(func(at string, v any) {
			o.object(at, v, fields{"aliases": o.list(o.free()), "priority": o.number(-1e18, 1e18), "gw_priority": o.number(-1e18, 1e18)})
		}),
		"dns": o.list(o.free()), "dns_opt": o.list(o.free()), "dns_search": o.list(o.free()),
		"extra_hosts": o.list(o.extraHost()), "volumes": o.list(o.mount),
		"volumes_from": o.list(o.string(func(at, s string) {
			name, mode, _ := strings.Cut(s, ":")
			o.sibling(at, name)
			o.is("", "ro", "rw")(at, mode)
		})),
		"tmpfs": o.list(o.string(o.tmpfs)), "secrets": o.references("/run/secrets"), "configs": o.references("/"),
		"cap_add": o.list(o.capability()), "cap_drop": o.capDrop, "security_opt": o.same([]any{"no-new-privileges:true"}), "devices": o.list(o.device()),
		"sysctls": func(at string, v any) {
			m, _ := v.(map[string]any)
			switched := regexp.MustCompile(`^net\.ipv6\.conf\.[^.]+\.disable_ipv6$`)
			for name, value := range m {
				if switched.MatchString(name) && value == "1" {
					continue
				}
				o.sysctl(at, name)
				o.free()(at, value)
			}
		},
		"ulimits": o.ulimits, "shm_size": o.number(0, float64(o.policy.Memory)), "cpus": o.number(0, o.policy.CPUs), "mem_limit": o.number(0, float64(o.policy.Memory)),
		"memswap_limit": o.number(0, float64(o.policy.Memory)), "mem_reservation": o.number(0, float64(o.policy.Memory)), "pids_limit": o.number(0, float64(o.policy.PIDs)),
		"oom_score_adj": o.is(500), "logging": o.same(map[string]any{"driver": "json-file", "options": map[string]any{"max-size": "10m", "max-file": "3"}}), "labels": o.labels(),
	})
}

func (o *oracle) sibling(at, name string) {
	if _, ok := o.services[name]; !ok {
		o.say(at, "%q is no service of the file", name)
	}
}

// shared is a namespace of its own or of a service of the file.
func (o *oracle) shared(fine ...string) check {
	return o.string(func(at, s string) {
		if name, ok := strings.CutPrefix(s, "service:"); ok {
			o.sibling(at, name)
		} else if !slices.Contains(fine, s) {
			o.say(at, "is %q", s)
		}
	})
}

func (o *oracle) image() check {
	return o.string(func(at, s string) {
		own := "sandboxer.local/" + strings.TrimPrefix(o.place.Project, "sbx-") + "/"
		switch {
		case strings.HasPrefix(s, own):
			if !regexp.MustCompile(`^[a-z0-9._-]+:g\d+$`).MatchString(strings.TrimPrefix(s, own)) {
				o.say(at, "is %q", s)
			}
		case !regexp.MustCompile(`^([A-Za-z0-9.-]+(:\d+)?/)?[a-z0-9._-]+(/[a-z0-9._-]+)*(:[\w][\w.-]*)?(@sha256:[0-9a-f]{64})?$`).MatchString(s) && !strings.Contains(s, "@"):
			o.say(at, "is %q", s)
		case strings.Contains(s, "sandboxer.local/"):
			o.say(at, "is %q of another sandbox", s)
		case regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}(:latest)?$`).MatchString(s):
			o.say(at, "is an id")
		}
	})
}

func (o *oracle) build(at string, v any) {
	b, _ := v.(map[string]any)
	context, _ := b["context"].(string)
	if args, _ := b["args"].(map[string]any); args["BUILDKIT_CACHE_MOUNT_NS"] != strings.TrimPrefix(o.place.Project, "sbx-") {
		o.say(at, "shares the cache of others")
	}
	inWorkspace := o.string(func(at, p string) { o.inWorkspace(at, p) })
	o.object(at, v, fields{
		"context": inWorkspace,
		"dockerfile": o.string(func(at, s string) {
			if path.IsAbs(s) && strings.HasPrefix(path.Clean(s), o.place.PinDir+"/") {
				return
			}
			if path.IsAbs(s) {
				o.say(at, "is %q", s)
			}
			o.inWorkspace(at, path.Join(context, s))
		}),
		"target": o.free(), "no_cache": o.bool(), "no_cache_filter": o.list(o.free()), "network": o.is("none", "default"),
		"args": o.each(o.free()), "extra_hosts": o.list(o.extraHost()), "labels": o.labels(),
		"additional_contexts": o.each(o.string(func(at, s string) {
			if name, ok := strings.CutPrefix(s, "service:"); ok {
				o.sibling(at, name)
				return
			}
			o.inWorkspace(at, s)
		})),
		"secrets": o.references("/run/secrets"),
	})
}

// inWorkspace judges an absolute path of the host below the workspace, and
// what the tree has there, and returns it relative to the workspace.
func (o *oracle) inWorkspace(at, p string) string {
	rel, ok := strings.CutPrefix(p+"/", o.place.Workdir+"/")
	if rel = strings.TrimSuffix(rel, "/"); !ok || path.Clean(p) != p {
		o.say(at, "is %q, not in the workspace", p)
		return "."
	}
	walked := ""
	for part := range strings.SplitSeq(rel, "/") {
		walked = path.Join(walked, part)
		if strings.EqualFold(part, ".git") {
			o.say(at, "is %q", p)
		}
		if e, ok := o.tree.Lookup(walked); ok && walked != "" && e.Kind == workspace.Symlink {
			o.say(at, "is %q, which passes through a link", p)
		}
	}
	return path.Clean(rel)
}

func (o *oracle) extraHost() check {
	return o.string(func(at, s string) {
		i := strings.IndexAny(s, ":=")
		if i < 0 {
			o.say(at, "is %q", s)
			return
		}
		address := strings.Trim(s[i+1:], "[]")
		if _, err := netip.ParseAddr(address); err != nil && !(address == "host-gateway" && (o.policy.HostAccess || o.granted("EXTRA-HOSTS"))) {
			o.say(at, "is %q", s)
		}
	})
}

func (o *oracle) target(at, t string) {
	if !path.IsAbs(t) {
		o.say(at, "is mounted on %q, which is not absolute", t)
	}
	clean := path.Clean(t)
	if clean == "/dev/shm" || strings.HasPrefix(clean, "/dev/shm/") {
		return
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(clean, "/"), "/")
	if slices.Contains([]string{"", "proc", "sys", "dev"}, top) {
		o.say(at, "is mounted on %s", clean)
	}
}

func (o *oracle) mount(at string, v any) {
	m, _ := v.(map[string]any)
	source, _ := m["source"].(string)
	target, _ := m["target"].(string)
	o.target(at, target)
	known := fields{"type": o.is("bind", "volume", "tmpfs"), "target": o.free(), "read_only": o.bool()}
	switch m["type"] {
	case "bind":
		known["source"] = o.free()
		known["bind"] = o.same(map[string]any{"create_host_path": false})
		if m["bind"] == nil {
			o.say(at, "may create its source on the host")
		}
		if pin, ok := strings.CutPrefix(source, o.place.PinDir+"/"); ok {
			o.like(`[0-9]{4}-[A-Za-z0-9._-]*`)(at, pin)
			break
		}
		p := o.inWorkspace(at, source)
		o.binds = append(o.binds, p)
		if m["read_only"] != true {
			o.writable[p] = true
		}
	case "volume":
		known["source"] = o.like(`[A-Za-z0-9._-]*`)
		known["volume"] = func(at string, v any) { o.object(at, v, fields{"nocopy": o.bool()}) }
	case "tmpfs":
		known["tmpfs"] = func(at string, v any) {
			o.object(at, v, fields{"size": o.number(0, float64(o.policy.Memory)), "mode": o.number(0, 0o1777)})
		}
	}
	o.object(at, v, known)
}

func (o *oracle) tmpfs(at, s string) {
	target, options, _ := strings.Cut(s, ":")
	o.target(at, target)
	given := strings.Split(options, ",")
	if !slices.Contains(given, "nosuid") || !slices.Contains(given, "nodev") {
		o.say(at, "is %q, neither nosuid nor nodev", s)
	}
	o.mountOptions(at, given)
}

func (o *oracle) mountOptions(at string, options []string) {
	sized := o.policy.Memory == 0
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n <= 0 || o.policy.Memory > 0 && n > o.policy.Memory {
				o.say(at, "has %s", option)
			}
			sized = true
		case "mode", "uid", "gid", "nr_inodes", "nosuid", "nodev", "exec", "noexec", "ro", "rw", "noatime":
		default:
			o.say(at, "has the option %q", option)
		}
	}
	if !sized {
		o.say(at, "has no size")
	}
}

// references are secrets or configs; one that is mounted by a bare name lies in dir.
func (o *oracle) references(dir string) check {
	return o.list(func(at string, v any) {
		m, _ := v.(map[string]any)
		source, _ := m["source"].(string)
		target, _ := m["target"].(string)
		if target == "" {
			target = source
		}
		if !path.IsAbs(target) {
			if dir != "/" && (path.Clean(target) == ".." || strings.HasPrefix(path.Clean(target), "../")) {
				o.say(at, "is mounted on %q", target)
			}
			target = path.Join(dir, target)
		}
		o.target(at, target)
		o.object(at, v, fields{"source": o.like(`[A-Za-z0-9._-]+`), "target": o.free()})
	})
}

func (o *oracle) capability() check {
	fine := []any{"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
	if o.policy.Memory > 0 {
		fine = append(fine, "IPC_LOCK") // locked memory counts against the container's
	}
	if o.granted("CAP-ADD") {
		fine = append(fine, "IPC_LOCK", "NET_ADMIN", "SYS_NICE", "SYS_PTRACE")
	}
	return o.is(fine...)
}

func (o *oracle) capDrop(at string, v any) {
	dropped, _ := v.([]any)
	for _, name := range []any{"AUDIT_WRITE", "MKNOD", "NET_RAW"} {
		if !slices.Contains(dropped, name) {
			o.say(at, "keeps %s", name)
		}
	}
}

func (o *oracle) device() check {
	return o.string(func(at, s string) {
		ok, _ := regexp.MatchString(`^(/dev/(?:fuse|kvm|net/tun)):(/dev/(?:fuse|kvm|net/tun)):r?w?m?$`, s)
		if from, to, _ := strings.Cut(s, ":"); !ok || !o.granted("DEVICES") || !strings.HasPrefix(to, from+":") {
			o.say(at, "is %q", s)
		}
	})
}

func (o *oracle) sysctl(at, name string) {
	own := `net\.core\.somaxconn|net\.ipv4\.(tcp_\w+|ip_local_port_range|ip_unprivileged_port_start|ping_group_range)|kernel\.(shm\w+|sem|msg\w+)|fs\.mqueue\.\w+`
	if o.granted("SYSCTL") {
		own += `|net\.ipv4\.[\w.]+`
	}
	if !regexp.MustCompile(`^(?:` + own + `)$`).MatchString(name) {
		o.say(at, "sets %s", name)
	}
}

func (o *oracle) ulimits(at string, v any) {
	m, _ := v.(map[string]any)
	for name, limit := range m {
		most := float64(1 << 63)
		switch name {
		case "core":
			o.same(map[string]any{"soft": 0, "hard": 0})(at+"/core", limit)
		case "nofile":
			most = 1 << 20
		case "stack":
		case "memlock":
			if o.policy.Memory <= 0 || !o.granted("ULIMITS") {
				o.say(at, "locks memory")
			}
		default:
			if !o.granted("ULIMITS") || !slices.Contains([]string{"as", "cpu", "data", "fsize", "locks", "msgqueue", "rss", "sigpending"}, name) {
				o.say(at, "sets %s", name)
			}
		}
		o.object(at+"/"+name, limit, fields{"soft": o.number(-1, most), "hard": o.number(-1, most)})
	}
}

func (o *oracle) network(at string, v any) {
	n, _ := v.(map[string]any)
	key := path.Base(at)
	if n["enable_ipv6"] != false {
		o.say(at, "may have IPv6")
	}
	if options, _ := n["driver_opts"].(map[string]any); !o.open() && (n["internal"] != true || options["com.docker.network.bridge.inhibit_ipv4"] != "true") {
		o.say(at, "leads out of the sandbox")
	}
	o.object(at, v, fields{
		"name": o.is(o.place.Project + "_" + key), "driver": o.is("bridge"), "internal": o.bool(), "enable_ipv6": o.is(false), "labels": o.labels(),
		"ipam": o.same(map[string]any{"config": []any{map[string]any{"subnet": o.place.Subnets[key].String()}}}),
		"driver_opts": func(at string, v any) {
			o.object(at, v, fields{"com.docker.network.bridge.inhibit_ipv4": o.is("true"), "com.docker.network.driver.mtu": o.like(`\d{3,4}`)})
		},
	})
}

func (o *oracle) volume(at string, v any) {
	o.object(at, v, fields{
		"name": o.is(o.place.Project + "_" + path.Base(at)), "driver": o.is("local"), "labels": o.labels(),
		"driver_opts": func(at string, v any) {
			o.object(at, v, fields{"type": o.is("tmpfs"), "device": o.is("tmpfs"), "o": o.string(func(at, s string) { o.mountOptions(at, strings.Split(s, ",")) })})
			if m, _ := v.(map[string]any); m["type"] != "tmpfs" || m["device"] != "tmpfs" {
				o.say(at, "is %v", v)
			}
		},
	})
}

// content is the file of a secret or config, which no container can replace.
func (o *oracle) content(at string, v any) {
	o.object(at, v, fields{"file": o.string(func(at, s string) {
		pin, ok := strings.CutPrefix(s, o.place.PinDir+"/")
		if o.like(`[0-9]{4}-[A-Za-z0-9._-]*`)(at, pin); !ok {
			o.say(at, "is %q", s)
		}
	})})
}

// unsafePlan lists what a plan would take to the host that it must not.
func unsafePlan(p *admission.Plan, tree admission.Tree, policy admission.Policy) []string {
	o := &oracle{tree: tree, policy: policy, place: placement(p), writable: map[string]bool{}}
	containers := 0
	for _, s := range p.Services {
		containers += s.Replicas
	}
	if containers > policy.MaxContainers {
		o.say("services", "%d containers", containers)
	}
	for _, pin := range p.Pins {
		o.like(`[0-9]{4}-[A-Za-z0-9._-]*`)("pins", pin.Name)
		if pin.Source != "" {
			if o.inWorkspace("pins", path.Join(o.place.Workdir, pin.Source)); path.Clean(pin.Source) != pin.Source {
				o.say("pins", "%q", pin.Source)
			}
		}
	}
	for _, dir := range p.Mkdirs {
		o.inWorkspace("mkdirs", path.Join(o.place.Workdir, dir))
	}
	return o.problems
}

// TestOracleNotices plants what is dangerous into a file that is not.
func TestOracleNotices(t *testing.T) {
	req := request(memoryTree{
		"compose.yaml": `
services:
  a:
    image: alpine:3
    command: ["echo", "$$HOME"]
    volumes: ["./src:/src", "./src/conf:/conf:ro", "data:/data"]
    tmpfs: ["/tmp"]
    networks: [front]
    secrets: [s]
    pid: "service:b"
    cap_drop: [CHOWN]
  b: {build: ., restart: always, networks: [front]}
networks: {front: {}}
volumes: {data: {driver_opts: {type: tmpfs, device: tmpfs, o: "size=1m"}}}
secrets: {s: {file: ./s.txt}}
`, "Dockerfile": "FROM scratch", "s.txt": "x", "src/conf/f": "x", "link": "-> /etc",
	})
	plan, _, _ := accept(t, req)
	place := placement(plan)
	text, err := plan.Render(place)
	if err != nil {
		t.Fatal(err)
	}
	if found := unsafe(text, req.Tree, req.Policy, place); len(found) > 0 {
		t.Fatalf("calls a safe file unsafe: %v\n%s", found, text)
	}
	firstService := "  a:\n    image: \"alpine:3\"\n"
	for _, change := range [][2]string{
		{firstService, firstService + "    privileged: true\n"},
		{firstService, firstService + "    devices: [\"/dev/sda:/dev/sda:rwm\"]\n"},
		{firstService, firstService + "    ports: [\"80:80\"]\n"},
		{firstService, firstService + "    extends: {file: x.yaml, service: a}\n"},
		{firstService, firstService + "    provider: {type: x}\n"},
		{firstService, firstService + "    env_file: [x]\n"},
		{firstService, firstService + "    container_name: victim\n"},
		{firstService, firstService + "    cap_add: [SYS_ADMIN]\n"},
		{firstService, firstService + "    sysctls: {kernel.core_pattern: x}\n"},
		{firstService, firstService + "    network_mode: host\n"},
		{firstService, firstService + "    ipc: host\n"},
		{firstService, firstService + "    volumes_from: [\"container:x\"]\n"},
		{firstService, "  a:\n    image: \"sandboxer.local/other/a:g1\"\n"},
		{"name: \"sbx-", "include: [x]\nname: \"sbx-"},
		{"service:b", "container:b"}, {"service:b", "host"}, {"service:b", "service:c"},
		{"$$HOME", "$HOME"}, {"no-new-privileges:true", "seccomp:unconfined"}, {"      - \"MKNOD\"\n", ""},
		{"on-failure:5", "always"}, {"json-file", "syslog"}, {"internal: true", "internal: false"}, {"\"enable_ipv6\": false", "\"enable_ipv6\": true"}, {"    \"enable_ipv6\": false\n", ""}, {"inhibit_ipv4\": \"true\"", "inhibit_ipv4\": \"false\""},
		{"\"com.docker.network.bridge.inhibit_ipv4\"", "\"com.docker.network.bridge.name\""}, {"driver: \"bridge\"", "driver: \"macvlan\""},
		{"_front\"", "_fronts\""}, {"device: \"tmpfs\"", "device: \"/etc\""}, {"nodev,nosuid,size", "bind,nodev,nosuid,size"}, {"10.201.0.0/28", "10.0.0.0/8"},
		{"/src/src\"", "/src/.git\""}, {"/src/src\"", "/src/link\""}, {"/src/src\"", "\""}, {workdir + "/src\"", "/etc\""}, {workdir + "/src\"", workdir + "/../x\""},
		{pinDir + "/0002-conf", workdir + "/src/conf"}, {"create_host_path: false", "create_host_path: true"},
		{"target: \"/src\"", "target: \"/proc/x\""}, {"nodev,nosuid,size=2147483648\"", "size=2147483648\""}, {"nodev,nosuid,size=2147483648", "nodev,nosuid"},
		{"127.0.0.1", "8.8.8.8"}, {"mem_limit: 2147483648", "mem_limit: 2147483649"}, {"memswap_limit: 2147483648", "memswap_limit: -1"}, {"oom_score_adj: 500", "oom_score_adj: -500"},
		{"dev.sandboxer.id", "dev.sandboxer.di"}, {"dockerfile: \"Dockerfile\"", "dockerfile: \"../Dockerfile\""}, {"context: \"" + workdir, "context: \"https://x/"},
		{"BUILDKIT_CACHE_MOUNT_NS\": \"" + id, "BUILDKIT_CACHE_MOUNT_NS\": \"x"}, {"pids_limit: 1024", "pids_limit: 0"}, {"hard: 0", "hard: 1"}, {"file: \"" + pinDir, "file: \"/etc"},
	} {
		bad := strings.Replace(string(text), change[0], change[1], 1)
		if bad == string(text) {
			t.Errorf("the file has no %q", change[0])
		} else if len(unsafe([]byte(bad), req.Tree, req.Policy, place)) == 0 {
			t.Errorf("%q instead of %q is not noticed", change[1], change[0])
		}
	}
}
