package admission

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// maxContent bounds what a config may hold in the compose file itself.
const maxContent = 64 << 10

// content pins a secret or a config: a file that a container could replace is
// not mounted into another. family is the beginning of the rules' names.
func (j *judge) content(at attr, key string, c types.FileObjectConfig, family string) (location, bool) {
	if len(c.Labels) > 0 {
		j.rewrite("LABELS", at.at("labels"), "")
	}
	if c.Name != j.project.Name+"_"+key && !bool(c.External) && j.Tree != nil {
		j.rewrite("FILE-NAME", at.at("name"), "")
	}
	switch {
	case bool(c.External):
		return location{}, false // refused by its presence
	case c.Environment != "":
		value, ok := j.env[c.Environment]
		if !ok {
			j.refuse(family+"-ENV", at.at("environment"), c.Environment)
			return location{}, false
		}
		return j.pin(Pin{Data: []byte(value), Mode: j.contentMode(key, family)}, key), true
	case c.File == "":
		if len(c.Content) > maxContent {
			j.deny(family+"-CONTENT", at.at("content"), fmt.Sprintf("has %d bytes, more than %d", len(c.Content), maxContent))
			return location{}, false
		}
		return j.pin(Pin{Data: []byte(c.Content), Mode: j.contentMode(key, family)}, key), true
	}
	f := j.paths.find(c.File)
	switch {
	case f.inside && f.at == symlink:
		j.deny(family+"-SYMLINK", at.at("file"), "names "+f.problem(c.File))
	case !f.inside || namesGit(f.path) || f.at != file && f.at != directory:
		j.deny(family+"-FILE", at.at("file"), "names "+f.problem(c.File))
	case f.pin, f.secret:
		return f.location, true
	default:
		return j.pin(Pin{Source: f.path}, path.Base(f.path)), true
	}
	return location{}, false
}

// references are the secrets and configs that a service reads.
func (j *judge) references(at attr, s types.ServiceConfig, out *service) {
	c := &out.fixed
	for i, r := range s.Secrets {
		ref := j.reference(at.at("secrets").item(i), types.FileReferenceConfig(r), "/run/secrets")
		if name := j.provided[r.Source]; name != "" {
			out.mounts = append(out.mounts, j.secretMount(name, s, types.FileReferenceConfig(r)))
			continue
		}
		j.keptAccess(at.at("secrets").item(i), types.FileReferenceConfig(r))
		c.Secrets = append(c.Secrets, ref)
	}
	for i, r := range s.Configs {
		j.keptAccess(at.at("configs").item(i), types.FileReferenceConfig(r))
		c.Configs = append(c.Configs, j.reference(at.at("configs").item(i), types.FileReferenceConfig(r), "/"))
	}
}

const (
	readable   = 0o444
	executable = 0o111
)

// keptAccess reports what a service asks for and a file that is mounted for all
// who refer to it cannot have.
func (j *judge) keptAccess(at attr, r types.FileReferenceConfig) {
	for _, id := range []struct{ key, value string }{{"uid", r.UID}, {"gid", r.GID}} {
		if number(id.value) != 0 {
			j.rewrite("FILE-ACCESS", at.at(id.key), "")
		}
	}
	if r.Mode != nil && *r.Mode != readable && *r.Mode != readable|executable {
		j.rewrite("FILE-ACCESS", at.at("mode"), "")
	}
}

// contentMode is that of a secret or config whose content does not come from
// a file: what a service asks to run, such as a script, can be run.
func (j *judge) contentMode(key, family string) uint32 {
	for _, s := range j.project.Services {
		for _, r := range fileReferences(s, family) {
			if r.Source == key && r.Mode != nil && *r.Mode&executable != 0 {
				return readable | executable
			}
		}
	}
	return readable
}

func fileReferences(s types.ServiceConfig, family string) (all []types.FileReferenceConfig) {
	if family == "SECRET" {
		for _, r := range s.Secrets {
			all = append(all, types.FileReferenceConfig(r))
		}
		return all
	}
	for _, r := range s.Configs {
		all = append(all, types.FileReferenceConfig(r))
	}
	return all
}

// reference judges where a secret or config is mounted: by a relative name, below dir.
func (j *judge) reference(at attr, r types.FileReferenceConfig, dir string) canonicalReference {
	target := cmp.Or(r.Target, r.Source)
	if !path.IsAbs(target) {
		if strings.Contains(target, "..") {
			j.deny("VOL-TARGET", at.at("target"), fmt.Sprintf("is %s, which leaves its directory", target), "write a name or an absolute path")
		}
		target = path.Join(dir, target)
	}
	j.target(at, target)
	return canonicalReference{Source: r.Source, Target: r.Target}
}
