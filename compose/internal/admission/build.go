package admission

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// build judges how the image of a service is built.
func (j *judge) build(at attr, name string, s types.ServiceConfig) *build {
	b := s.Build
	out := &build{fixed: canonicalBuild{Target: b.Target, NoCache: b.NoCache, NoCacheFilter: unrepeated(b.NoCacheFilter), Network: b.Network, Args: map[string]string{}}}
	context, ok := j.context(at.at("context"), "BUILD-CONTEXT", b.Context)
	if ok {
		out.context = context
		j.ignoreFile(at.at("context"), path.Join(context.path, ".dockerignore"))
		ok = j.dockerfile(at, name, b, out)
	}
	out.contexts = map[string]location{}
	out.fixed.AdditionalContexts = map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(b.AdditionalContexts)) {
		from := b.AdditionalContexts[key]
		if !contextName.MatchString(key) {
			j.refuse("BUILD-ADDCTX", at.at("additional_contexts"), strconv.Quote(key))
		}
		if service, ok := strings.CutPrefix(from, types.ServicePrefix); ok && j.project.Services[service].Build != nil {
			out.fixed.AdditionalContexts[key] = from
		} else if l, ok := j.context(at.at("additional_contexts", key), "BUILD-ADDCTX", from); ok {
			out.contexts[key] = l
			j.ignoreFile(at.at("additional_contexts", key), path.Join(l.path, ".dockerignore"))
		}
	}
	j.buildArgs(at, b, out)
	if b.Network != "" && b.Network != "none" && b.Network != "default" {
		j.refuse("BUILD-NETWORK", at.at("network"), b.Network)
	}
	switch {
	case b.Network == "none":
	case j.Policy.OfflineBuilds:
		out.fixed.Network = "none"
		j.rewrite("BUILD-EGRESS", at, "has no network while it builds, as the profile says (config.build_egress: deny)")
	case j.Policy.denies():
		j.rewrite("BUILD-EGRESS", at, "")
	}
	out.fixed.ExtraHosts = unrepeated(j.extraHosts(at.at("extra_hosts"), b.ExtraHosts))
	for i, r := range b.Secrets {
		out.fixed.Secrets = append(out.fixed.Secrets, j.buildSecret(at.at("secrets").item(i), r))
	}
	j.buildDropped(at, b)
	if ok {
		j.fetches(at, out)
		j.buildRuntime(at, out)
		j.siblingBases(at, name, out)
	}
	return out
}

// contextName is what a Dockerfile can call a context, images' names included.
var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)

// context finds a directory that is sent to the builder.
func (j *judge) context(at attr, rule, from string) (location, bool) {
	if isRemote(from) && rule == "BUILD-CONTEXT" {
		j.refuse("BUILD-REMOTE", at, from)
		return location{}, false
	}
	f := j.paths.find(from)
	switch {
	case isRemote(from) || strings.HasPrefix(from, types.ServicePrefix) || !f.inside || namesGit(f.path):
		j.refuse(rule, at, from)
	case f.at == symlink:
		j.deny("BUILD-SYMLINK", at, "is "+f.problem(from))
	case f.at != directory && j.Tree != nil:
		j.deny(rule, at, "is "+f.problem(from))
	default:
		return f.location, true
	}
	return location{}, false
}

// dockerfile finds the Dockerfile, or pins the one in the compose file: the
// classic builder ignores it there and would build another.
func (j *judge) dockerfile(at attr, name string, b *types.BuildConfig, out *build) (ok bool) {
	if b.DockerfileInline != "" {
		out.pinned = j.pin(Pin{Data: []byte(b.DockerfileInline), Mode: 0o644}, name+".Dockerfile").path
		return true
	}
	out.dockerfile = filepath.ToSlash(b.Dockerfile)
	written := b.Dockerfile
	if !isForeign(written) {
		written = path.Join(b.Context, out.dockerfile)
	}
	f := j.paths.find(written)
	switch {
	case j.Tree == nil && f.inside:
		if f.pin {
			out.dockerfile, out.pinned = "", f.path
		}
		return true
	case !f.inside || namesGit(f.path):
		j.deny("BUILD-DOCKERFILE", at.at("dockerfile"), fmt.Sprintf("is %s, which is outside the repository", b.Dockerfile))
	case f.at == symlink:
		j.deny("BUILD-SYMLINK", at.at("dockerfile"), "is "+f.problem(b.Dockerfile))
	case f.at != file:
		j.deny("BUILD-DOCKERFILE", at.at("dockerfile"), "is "+f.problem(b.Dockerfile))
	default:
		rel, _ := filepath.Rel(filepath.FromSlash(out.context.path), filepath.FromSlash(f.path))
		out.dockerfile = filepath.ToSlash(rel)
		j.ignoreFile(at.at("dockerfile"), f.path+".dockerignore")
		return true
	}
	return false
}

// ignoreFile refuses a .dockerignore that leads out of the repository: the
// build reads it on the host, with the rights of the host's account.
func (j *judge) ignoreFile(at attr, p string) {
	if j.Tree == nil {
		return // a canonical file: this was judged before
	}
	switch presence, e := stat(j.Tree, p); {
	case presence != symlink:
	case e.Path == p && path.Clean(e.Link) == e.Link && fs.ValidPath(path.Join(path.Dir(p), e.Link)) && !path.IsAbs(e.Link):
		if presence, _ := stat(j.Tree, path.Join(path.Dir(p), e.Link)); presence != symlink {
			return
		}
		fallthrough
	default:
		j.deny("BUILD-SYMLINK", at, fmt.Sprintf("would read %s, a symbolic link that leads out of the repository or to another", p))
	}
}

func (j *judge) buildArgs(at attr, b *types.BuildConfig, out *build) {
	for _, key := range slices.Sorted(maps.Keys(b.Args)) {
		switch value := b.Args[key]; {
		case strings.HasPrefix(key, "BUILDKIT_"):
			j.rewrite("BUILD-ARGS", at.at("args", key), "")
		case value == nil:
			j.rewrite("ENV-NULL", at.at("args", key), "")
		default:
			out.fixed.Args[key] = *value
		}
	}
	j.named(at.at("args"), out.fixed.Args)
	// Cache mounts are shared by everybody on the host unless they have a namespace.
	out.fixed.Args["BUILDKIT_CACHE_MOUNT_NS"] = j.ID
}

func (j *judge) buildSecret(at attr, r types.ServiceSecretConfig) canonicalReference {
	if strings.ContainsAny(r.Target, ",=\n") || strings.ContainsAny(r.Source, ",=\n") {
		j.deny("BUILD-SECRET", at, fmt.Sprintf("has the target %q", r.Target), "use a plain name")
	}
	if name := j.provided[r.Source]; name != "" {
		j.grant("BUILD-SECRET-REF", at, fmt.Sprintf("gives the profile's secret %s to the build, which may use the network", name))
		j.result.secrets[r.Source] = j.secretFile(SecretFile{Secret: name, Mode: 0o400})
	}
	return canonicalReference{Source: r.Source, Target: r.Target}
}

// buildDropped names what the host's builder is not told.
func (j *judge) buildDropped(at attr, b *types.BuildConfig) {
	for _, d := range []struct {
		rule, key string
		given     bool
	}{
		{"BUILD-CACHE", "cache_from", len(b.CacheFrom) > 0},
		{"BUILD-CACHE", "cache_to", len(b.CacheTo) > 0},
		{"BUILD-TAGS", "tags", len(b.Tags) > 0},
		{"LABELS", "labels", len(b.Labels) > 0},
		{"PULL", "pull", b.Pull},
		{"BUILD-PLATFORM", "platforms", len(b.Platforms) > 0},
		{"BUILD-RESOURCES", "shm_size", b.ShmSize != 0},
		{"BUILD-RESOURCES", "ulimits", len(b.Ulimits) > 0},
		{"BUILD-ATTEST", "provenance", b.Provenance != ""},
		{"BUILD-ATTEST", "sbom", b.SBOM != ""},
	} {
		if d.given {
			j.rewrite(d.rule, at.at(d.key), "")
		}
	}
}
