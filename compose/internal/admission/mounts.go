package admission

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// sharedMemory of the host is bound by what needs more of it than the engine
// gives, such as browsers.
const sharedMemory = "/dev/shm"

// mounts judges everything a service mounts but secrets and configs.
func (j *judge) mounts(at attr, s types.ServiceConfig, out *service) {
	for i, v := range s.Volumes {
		from := at.at("volumes").item(i)
		j.target(from, v.Target)
		if dir := j.bound[v.Source]; dir != "" && v.Type == types.VolumeTypeVolume {
			// The engine does not create what such a volume stands for.
			v.Type, v.Source, v.Bind = types.VolumeTypeBind, dir, &types.ServiceVolumeBind{}
		}
		m := mount{canonicalMount: canonicalMount{Type: v.Type, Target: v.Target, ReadOnly: v.ReadOnly}}
		keep := true
		switch v.Type {
		case types.VolumeTypeBind:
			if v.Source == sharedMemory && path.Clean(v.Target) == sharedMemory {
				j.rewrite("HOST-SHM", from, "")
				out.fixed.ShmSize = cmp.Or(out.fixed.ShmSize, out.fixed.MemLimit)
				continue
			}
			m.from, keep = j.bind(from, v)
			m.Bind = &canonicalBindOptions{}
		case types.VolumeTypeVolume:
			m.Source = v.Source
			if v.Volume != nil && v.Volume.NoCopy {
				m.Volume = &canonicalVolumeUse{NoCopy: true}
			}
			if v.Volume != nil && len(v.Volume.Labels) > 0 {
				j.rewrite("LABELS", from, "")
			}
		case types.VolumeTypeTmpfs:
			m.Tmpfs = j.tmpfsMount(from, v.Tmpfs, out.fixed.MemLimit)
		case types.VolumeTypeImage:
			j.deny("VOL-IMAGE", from, "")
			continue
		default:
			j.deny("VOL-TYPE", from, fmt.Sprintf("is of type %s", v.Type))
			continue
		}
		if keep {
			out.mounts = append(out.mounts, m)
		}
	}
	for i, v := range s.VolumesFrom {
		from := at.at("volumes_from").item(i)
		name, mode, _ := strings.Cut(v, ":")
		if _, ok := j.project.Services[name]; !ok || mode != "" && mode != "ro" && mode != "rw" {
			j.deny("VOLUMES-FROM", from, fmt.Sprintf("is %s, which is no service of this file", v))
			continue
		}
		out.fixed.VolumesFrom = append(out.fixed.VolumesFrom, v)
	}
	for i, t := range s.Tmpfs {
		out.fixed.Tmpfs = append(out.fixed.Tmpfs, j.tmpfs(at.at("tmpfs").item(i), t, out.fixed.MemLimit))
	}
}

// target judges where something is mounted.
func (j *judge) target(at attr, target string) {
	clean := path.Clean(target)
	switch {
	case isAbsurd(target):
		j.deny("VOL-TARGET", at.at("target"), fmt.Sprintf("is %s, which no file can be called", target))
	case len(target) > 1 && target[1] == ':':
		j.deny("VOL-TARGET", at.at("target"), fmt.Sprintf("is %s, which reads like a Windows drive", target), "give the volume a name of more than one letter")
	case !path.IsAbs(target):
		j.deny("VOL-TARGET", at.at("target"), fmt.Sprintf("is %q, which is not absolute", target))
	case clean == "/dev/shm" || strings.HasPrefix(clean, "/dev/shm/"):
	case clean == "/":
		j.deny("VOL-TARGET", at.at("target"), "is the root of the container")
	default:
		for _, special := range []string{"/proc", "/sys", "/dev"} {
			if clean == special || strings.HasPrefix(clean, special+"/") {
				j.deny("VOL-TARGET", at.at("target"), fmt.Sprintf("is %s, which belongs to the kernel", clean))
			}
		}
	}
}

// bind finds the source of a bind mount. It is not kept if it is refused or
// means nothing here.
func (j *judge) bind(at attr, v types.ServiceVolumeConfig) (location, bool) {
	if b := v.Bind; b != nil {
		if b.Propagation != "" && b.Propagation != types.PropagationRPrivate && b.Propagation != types.PropagationPrivate {
			j.deny("BIND-PROPAGATION", at, fmt.Sprintf("is mounted %s, which shares mounts with the host", b.Propagation))
		}
		if b.SELinux != "" || b.Recursive != "" {
			j.rewrite("BIND-OPTIONS", at, "is mounted without its selinux and recursive options")
		}
	}
	if v.Source == "/etc/localtime" || v.Source == "/etc/timezone" {
		j.rewrite("HOST-TIME", at, "")
		return location{}, false
	}
	f := j.paths.find(v.Source)
	switch {
	case f.at == absurd:
		j.deny("BIND-MISSING", at, "binds "+f.problem(v.Source), "name a path of at most 4095 bytes, with names of at most 255")
	case !f.inside:
		return j.outside(at, v)
	case namesGit(f.path):
		j.deny("BIND-GIT", at, fmt.Sprintf("binds %s, which is never copied to the host", v.Source))
	case f.at == symlink:
		j.deny("BIND-SYMLINK", at, "binds "+f.problem(v.Source))
	case f.at == below, f.at == missing && v.Bind != nil && !bool(v.Bind.CreateHostPath):
		j.deny("BIND-MISSING", at, "binds "+f.problem(v.Source))
	default:
		if f.at == missing {
			j.result.Mkdirs = append(j.result.Mkdirs, f.path)
		}
		return f.location, true
	}
	return location{}, false
}

// hostOwn are directories of every Linux system: what is in them is the host's.
// Below /home and /var/lib it has what it came with and what is hidden.
var hostOwn = []string{"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"}

// hostLibraries are directories of /var/lib whose content is the system's.
var hostLibraries = []string{"apt", "cni", "containerd", "containers", "dbus", "docker", "dpkg", "kubelet", "lxc", "lxd", "pacman", "rancher", "rpm", "snapd", "systemd"}

// isHostOwn reports whether an absolute path is what any Linux system has, or
// what somebody keeps at home and compose would not create.
func isHostOwn(source string) bool {
	parts := strings.Split(strings.TrimPrefix(path.Clean(source), "/"), "/")
	if len(parts) > 2 && !strings.Contains(source, "/.") {
		switch {
		case parts[0] == "home":
			return false
		case parts[0] == "var" && parts[1] == "lib":
			return slices.Contains(hostLibraries, parts[2])
		}
	}
	return slices.Contains(hostOwn, parts[0])
}

// outside judges a bind of what is not in the repository. Compose creates a
// directory that the host does not have; where a stock host has none, an empty
// one of the sandbox's own is the same to every container.
func (j *judge) outside(at attr, v types.ServiceVolumeConfig) (location, bool) {
	source, missing := v.Source, j.misses(v.Source)
	switch {
	case strings.HasSuffix(source, "docker.sock"):
		j.deny("BIND-OUTSIDE", at, fmt.Sprintf("binds %s, which is root on the host", source), "remove it; no sandbox is given the engine")
	case strings.HasPrefix(source, "~"):
		j.deny("BIND-OUTSIDE", at, fmt.Sprintf("binds %s, a home directory", source))
	case !path.IsAbs(source) || path.Clean(source) != strings.TrimSuffix(source, "/") || isHostOwn(source) || j.Tree == nil || j.paths.read(source):
		j.deny("BIND-OUTSIDE", at, fmt.Sprintf("binds %s, which is outside the repository", source))
	case missing != "": // what it names is not what was meant
		j.deny("BIND-OUTSIDE", at, fmt.Sprintf("binds %s, which is outside the repository; %s", source, variableUnset(missing)), declare(missing))
	case v.Bind != nil && !bool(v.Bind.CreateHostPath):
		j.deny("BIND-OUTSIDE", at, fmt.Sprintf("binds %s, which the host must already have", source))
	default:
		j.rewrite("BIND-DATA", at, fmt.Sprintf("binds %s, which is outside the repository: an empty directory of the sandbox's own stands in for it", source))
		source = path.Clean(source)
		if _, ok := j.standIns[source]; !ok {
			j.standIns[source] = j.pin(Pin{Dir: true, Mode: 0o755}, path.Base(source))
		}
		return j.standIns[source], true
	}
	return location{}, false
}

// misses is the variable that is not set in what gave a mount its source.
func (j *judge) misses(source string) (name string) {
	for text, missing := range j.hollow {
		if rest, ok := strings.CutPrefix(text, source); ok && (rest == "" || rest[0] == ':') && (name == "" || missing < name) {
			name = missing
		}
	}
	return name
}

// pinNested moves every bind out of the workspace that lies below a directory
// some container may write to: there it could be replaced by a link before it
// is mounted, at the start or at any restart. The copy is shared by all who
// bind the same path.
func (j *judge) pinNested() {
	writable := map[string]bool{}
	j.eachBind(func(_ attr, m *mount) {
		if !m.ReadOnly && m.from.inTree() {
			writable[m.from.path] = true
		}
	})
	pins := map[string]location{}
	j.eachBind(func(at attr, m *mount) {
		if !m.from.inTree() || !belowAny(m.from.path, writable) {
			return
		}
		if j.Tree == nil {
			j.deny("BIND-NESTED", at, "")
			return
		}
		j.rewrite("BIND-NESTED", at, fmt.Sprintf("binds %s, which lies in a directory that a container may write: it is mounted as a copy of its own", m.from.path))
		to, ok := pins[m.from.path]
		if !ok {
			at, _ := stat(j.Tree, m.from.path)
			to = j.pin(Pin{Source: m.from.path}, path.Base(m.from.path))
			if at == missing {
				last := &j.result.Pins[len(j.result.Pins)-1]
				last.Source, last.Dir, last.Mode = "", true, 0o755
			}
			pins[m.from.path] = to
		}
		m.from = to
	})
}

func belowAny(p string, dirs map[string]bool) bool {
	for p != "." {
		if p = path.Dir(p); dirs[p] {
			return true
		}
	}
	return false
}

func (j *judge) eachBind(do func(at attr, m *mount)) {
	for _, name := range j.project.ServiceNames() {
		s := j.result.services[name]
		if s == nil {
			continue
		}
		for i := range s.mounts {
			if s.mounts[i].Type == types.VolumeTypeBind {
				do(attr{"services", name, "volumes"}, &s.mounts[i])
			}
		}
	}
}

// maxPinBase is what a pin's name has of the name of what is copied, in bytes:
// the host takes no more than 255 in all.
const maxPinBase = 200

// pin adds a file or directory outside the workspace.
func (j *judge) pin(p Pin, base string) location {
	if len(j.result.Pins) == maxPinned {
		j.deny("LIMIT", attr{"services"}, fmt.Sprintf("need more than %d copies of files: secrets, configs and binds below writable directories", maxPinned), "bind directories instead of single files")
	}
	base = strings.Map(plainRune, base)
	base = base[max(0, len(base)-maxPinBase):]
	p.Name = fmt.Sprintf("%04d-%s", len(j.result.Pins)+1, base)
	j.result.Pins = append(j.result.Pins, p)
	return location{pin: true, path: p.Name}
}

// plainRune keeps names of pins to what every shell and archive leaves alone.
func plainRune(r rune) rune {
	if r < 0x80 && (isNameByte(byte(r)) || r == '.' || r == '-') {
		return r
	}
	return '_'
}

// tmpfsMount bounds the long form of a tmpfs.
func (j *judge) tmpfsMount(at attr, t *types.ServiceVolumeTmpfs, memory int64) *canonicalTmpfs {
	out := &canonicalTmpfs{Size: memory}
	if t != nil {
		out.Mode = t.Mode & 0o1777
		out.Size = smaller(int64(t.Size), memory)
	}
	if t == nil || int64(t.Size) != out.Size || t.Mode != out.Mode {
		j.rewrite("TMPFS", at, fmt.Sprintf("is bounded to %d bytes", out.Size))
	}
	if *out == (canonicalTmpfs{}) {
		return nil
	}
	return out
}

// byteSize reads a size as compose writes them.
func byteSize(s string) (int64, error) {
	var size types.UnitBytes
	err := size.DecodeMapstructure(s)
	return int64(size), err
}

// tmpfsSize reads the size of a tmpfs, which may be a part of the memory there
// is: here, of what the container has.
func tmpfsSize(s string, memory int64) (int64, error) {
	percent, ok := strings.CutSuffix(s, "%")
	if !ok {
		return byteSize(s)
	}
	part, err := strconv.ParseUint(percent, 10, 8)
	return memory / 100 * int64(part), err
}

// smaller is the lesser of a size that was asked for and one that is allowed, where 0 is none.
func smaller(asked, most int64) int64 {
	if asked <= 0 || most > 0 && asked > most {
		return most
	}
	return asked
}

// tmpfs bounds the short form, TARGET:OPTIONS.
func (j *judge) tmpfs(at attr, written string, memory int64) string {
	target, options, _ := strings.Cut(written, ":")
	j.target(at, target)
	kept, size := []string{"nosuid", "nodev"}, memory
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "size":
			asked, err := tmpfsSize(cmp.Or(value, "0"), memory)
			if err != nil {
				j.deny("LOAD", at, fmt.Sprintf("has the size %q", value), "write a size such as 64m")
			}
			size = smaller(asked, memory)
		case "mode", "uid", "gid", "nr_inodes":
			if _, err := strconv.ParseUint(value, 10, 32); err != nil {
				j.deny("LOAD", at, fmt.Sprintf("has %s %q", key, value), "write a number")
			}
			kept = append(kept, option)
		case "exec", "noexec", "ro", "rw", "noatime":
			kept = append(kept, option)
		}
	}
	if size > 0 {
		kept = append(kept, fmt.Sprintf("size=%d", size))
	}
	slices.Sort(kept)
	bounded := target + ":" + strings.Join(slices.Compact(kept), ",")
	if bounded != written {
		j.rewrite("TMPFS", at, "becomes "+bounded)
	}
	return bounded
}
