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

// A SecretFile is the value of one of the profile's secrets as some service is
// to find it. Its content is known to whoever provisions, and to no plan.
type SecretFile struct {
	Name   string // below Placement.SecretDir, one path element: "0001-db_password"
	Secret string // its name in Policy.Secrets

	// Who reads it in the container. Where a host cannot set this, anybody in
	// the container may; see access.
	UID, GID int
	Mode     uint32
}

// provides says which of the profile's secrets stands for one of the file, ""
// for none: the one of its key, or else of its name elsewhere. What else the
// file says of it does not count then.
func (p Policy) provides(key string, s types.SecretConfig) string {
	for _, name := range []string{key, s.Name, s.Environment} {
		if name != "" && slices.Contains(p.Secrets, name) {
			return name
		}
	}
	return ""
}

// provideSecrets finds those of the file's secrets that the profile provides.
func (j *judge) provideSecrets() {
	j.provided = map[string]string{}
	if j.Tree == nil { // a canonical file names where they lie
		return
	}
	used := map[string]bool{}
	for _, key := range j.project.SecretNames() {
		if name := j.Policy.provides(key, j.project.Secrets[key]); name != "" {
			j.provided[key], used[name] = name, true
			j.rewrite("SECRET-REF", attr{"secrets", key}, fmt.Sprintf("is the profile's secret %s, whatever the file says of its source", name))
		}
	}
	for _, name := range j.Policy.Secrets {
		if !used[name] {
			j.rewrite("SECRET-REF", attr{"setup", "secret_refs"}, fmt.Sprintf("names %s, which no service asks for: it is not brought to the host", name))
		}
	}
}

// secretMount is how a service gets a secret of the profile: mounted as compose
// mounts one that comes from a file.
func (j *judge) secretMount(name string, s types.ServiceConfig, r types.FileReferenceConfig) mount {
	target := cmp.Or(r.Target, r.Source)
	if !path.IsAbs(target) {
		target = path.Join("/run/secrets", target)
	}
	uid, gid, mode := access(s, j.project.Secrets[r.Source], r)
	return mount{
		canonicalMount: canonicalMount{Type: types.VolumeTypeBind, Target: target, ReadOnly: true, Bind: &canonicalBindOptions{}},
		from:           j.secretFile(SecretFile{Secret: name, UID: uid, GID: gid, Mode: mode}),
	}
}

// secretFile adds a file, or finds one that is the same.
func (j *judge) secretFile(f SecretFile) location {
	for _, have := range j.result.SecretFiles {
		if f.Name = have.Name; f == have {
			return location{secret: true, path: have.Name}
		}
	}
	f.Name = fmt.Sprintf("%04d-%s", len(j.result.SecretFiles)+1, f.Secret)
	j.result.SecretFiles = append(j.result.SecretFiles, f)
	return location{secret: true, path: f.Name}
}

// access says whose a secret is in the container of a service.
//
// The uid, gid and mode of the long form hold where plain compose lets them:
// not for a secret that comes from a file. Otherwise a service whose user is a
// number gets a file that only this user reads. For any other it is as the
// Compose Specification has it, readable by all in the container: images have
// users of their own, and many give up root before they read a secret.
func access(s types.ServiceConfig, source types.SecretConfig, r types.FileReferenceConfig) (uid, gid int, mode uint32) {
	const everybody, owner = 0o444, 0o400
	if source.File == "" && (r.UID != "" || r.GID != "" || r.Mode != nil) {
		mode = everybody
		if r.Mode != nil {
			mode = uint32(*r.Mode) & everybody
		}
		return number(r.UID), number(r.GID), mode
	}
	user, group, _ := strings.Cut(s.User, ":")
	if uid := number(user); uid != 0 {
		return uid, number(group), owner
	}
	return 0, 0, everybody
}

// number is 0 for what is no id.
func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
