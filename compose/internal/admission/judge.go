package admission

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"

	"github.com/sand-boxer/sandboxer"
)

// The most of each that one sandbox may have, whatever the profile.
const (
	maxNetworks = 16
	maxVolumes  = 64
	maxPinned   = 200 // secrets, configs and copies of nested binds
)

// judge turns a loaded project into a plan, reporting what it refuses and what
// it changes.
type judge struct {
	Request
	*report
	paths   paths
	project *types.Project
	env     map[string]string // what variables were looked up in
	placed  string            // the runtime of the placement, when a canonical file is read back
	envs    *envFiles

	result   *Plan
	images   map[string]string // what services of this file build, by the name they give it
	provided map[string]string // secrets of the profile, by key of the file's
	bound    map[string]string // directories of volumes that are bind mounts, by key

	standIns map[string]location // empty directories, by the path of the host they stand for
	added    map[string][]string // what is wrong with the ADDs of Dockerfiles, by their text
	looked   int                 // bytes of Dockerfiles that were looked through
}

func (j *judge) plan() *Plan {
	j.result = &Plan{
		policy: j.Policy, id: j.ID, generation: j.Generation, services: map[string]*service{}, networks: map[string]*network{},
		volumes: map[string]*canonicalVolume{}, secrets: map[string]location{}, configs: map[string]location{},
	}
	if j.Tree != nil {
		j.reserved()
	} else if j.Policy.Egress == sandboxer.EgressAllowlist {
		withoutProxy(j.project)
	}
	j.totals()
	if j.denied() && len(j.project.Services) > 10*j.Policy.MaxContainers {
		return nil // one finding is enough
	}
	j.bound, j.standIns, j.added = map[string]string{}, map[string]location{}, map[string][]string{}
	j.topLevel()
	j.images = map[string]string{}
	for name, s := range j.project.Services {
		if s.Build != nil && s.Image != "" {
			j.images[normalImage(s.Image)] = min(cmp.Or(j.images[normalImage(s.Image)], name), name)
		}
	}
	for _, name := range j.project.ServiceNames() {
		j.service(name, j.project.Services[name])
	}
	j.pinNested()
	j.summarise()
	j.leadOut()
	return j.result
}

// grant refuses what a rule of class Profile governs, unless the profile
// names the rule; then it is recorded as loosened.
func (j *judge) grant(id string, at attr, message string, hint ...string) bool {
	if !j.Policy.allows(id) {
		j.deny(id, at, message, hint...)
		return false
	}
	j.loosen(id, at, message)
	return true
}

// totals bounds what the project adds up to.
func (j *judge) totals() {
	containers := 0
	for _, name := range j.project.ServiceNames() {
		s := j.project.Services[name]
		scale := s.GetScale()
		if scale > j.Policy.MaxContainers {
			j.deny("SCALE", attr{"services", name, scaleAttribute(s)}, fmt.Sprintf("asks for %d containers; the profile allows %d in all", scale, j.Policy.MaxContainers))
		}
		containers += min(scale, j.Policy.MaxContainers)
	}
	if containers > j.Policy.MaxContainers && !j.denied() {
		j.deny("SCALE", attr{"services"}, fmt.Sprintf("add up to %d containers; the profile allows %d", containers, j.Policy.MaxContainers))
	}
	if n := len(j.project.Services); n == 0 {
		j.deny("LOAD", attr{"services"}, "holds no service that runs", j.inactive())
	}
	if n := len(j.project.Networks); n > maxNetworks {
		j.deny("LIMIT", attr{"networks"}, fmt.Sprintf("has %d networks, more than %d", n, maxNetworks), "use fewer networks")
	}
	if n := len(j.project.Volumes); n > maxVolumes {
		j.deny("LIMIT", attr{"volumes"}, fmt.Sprintf("has %d volumes, more than %d", n, maxVolumes), "use fewer volumes")
	}
}

// inactive says what to do about a file of which nothing runs.
func (j *judge) inactive() string {
	var profiles []string
	for _, s := range j.project.DisabledServices {
		profiles = append(profiles, s.Profiles...)
	}
	if len(profiles) == 0 {
		return "add a service"
	}
	slices.Sort(profiles)
	return "activate a compose profile with the input profiles, or with config.profiles of the profile: " + strings.Join(slices.Compact(profiles), ", ")
}

// sibling finds the service whose container another names, if that does not
// wait for the other one itself. Names of containers are no longer theirs here.
func (j *judge) sibling(container, other string) (string, bool) {
	for _, name := range j.project.ServiceNames() {
		if j.project.Services[name].ContainerName == container && !j.waitsFor(name, other, map[string]bool{}) {
			return name, true
		}
	}
	return "", false
}

func (j *judge) waitsFor(name, other string, seen map[string]bool) bool {
	if name == other || seen[name] {
		return name == other
	}
	seen[name] = true
	s := j.project.Services[name]
	for _, mode := range []string{s.NetworkMode, s.Pid, s.Ipc} {
		if strings.HasPrefix(mode, types.ContainerPrefix) {
			return true // which may lead anywhere
		}
	}
	for next := range s.DependsOn {
		if j.waitsFor(next, other, seen) {
			return true
		}
	}
	return false
}

// shareServices replaces the container of a service of this file, where s
// shares something with it, by the service.
func (j *judge) shareServices(at attr, s *types.ServiceConfig) {
	share := func(rule string, at attr, container string) (string, bool) {
		service, ok := j.sibling(container, s.Name)
		if !ok {
			return "", false
		}
		j.rewrite(rule, at, fmt.Sprintf("becomes the service %s, whose container that is", service))
		s.DependsOn = maps.Clone(s.DependsOn)
		if s.DependsOn == nil {
			s.DependsOn = types.DependsOnConfig{}
		}
		if _, waits := s.DependsOn[service]; !waits {
			s.DependsOn[service] = types.ServiceDependency{Condition: types.ServiceConditionStarted, Restart: rule != "VOLUMES-FROM", Required: true}
		}
		return service, true
	}
	for _, mode := range []struct {
		rule, key string
		value     *string
	}{{"NETWORK-MODE", "network_mode", &s.NetworkMode}, {"PID-MODE", "pid", &s.Pid}, {"IPC-MODE", "ipc", &s.Ipc}} {
		if container, ok := strings.CutPrefix(*mode.value, types.ContainerPrefix); ok {
			if service, ok := share(mode.rule, at.at(mode.key), container); ok {
				*mode.value = types.ServicePrefix + service
			}
		}
	}
	s.VolumesFrom = slices.Clone(s.VolumesFrom)
	for i, v := range s.VolumesFrom {
		if container, ok := strings.CutPrefix(v, types.ContainerPrefix); ok {
			container, mode, _ := strings.Cut(container, ":")
			if service, ok := share("VOLUMES-FROM", at.at("volumes_from").item(i), container); ok {
				s.VolumesFrom[i] = strings.TrimSuffix(service+":"+mode, ":")
			}
		}
	}
}

func scaleAttribute(s types.ServiceConfig) string {
	if s.Scale == nil && s.Deploy != nil && s.Deploy.Replicas != nil {
		return "deploy"
	}
	return "scale"
}

// summarise fills the exported part of the plan.
func (j *judge) summarise() {
	p := j.result
	waited := map[string]bool{}
	for _, s := range j.project.Services {
		for name, d := range s.DependsOn {
			waited[name] = waited[name] || d.Condition == types.ServiceConditionCompletedSuccessfully
		}
	}
	attached, pulled := map[string]int{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.services)) {
		s, typed := p.services[name], j.project.Services[name]
		out := Service{
			Name: name, Built: s.built != "", Image: s.fixed.Image, Replicas: typed.GetScale(), OneShot: waited[name], RestartsAlways: restartsAlways(typed),
			HasHealthcheck: hasHealthcheck(typed.HealthCheck), Ports: ports(typed.Ports), NetworkMode: s.fixed.NetworkMode,
			Networks: slices.Sorted(maps.Keys(s.fixed.Networks)),
		}
		if out.Built {
			out.Image = DefaultImagePrefix(j.ID) + "/" + s.built
		} else {
			pulled[out.Image] = true
		}
		for _, key := range out.Networks {
			attached[key] += out.Replicas
		}
		p.Build = p.Build || s.build != nil
		p.Services = append(p.Services, out)
	}
	for _, key := range slices.Sorted(maps.Keys(p.networks)) {
		p.Networks = append(p.Networks, Network{Key: key, Internal: p.networks[key].internal, Containers: attached[key]})
	}
	p.Volumes = slices.Sorted(maps.Keys(p.volumes))
	p.Images = slices.Sorted(maps.Keys(pulled))
	slices.Sort(p.Mkdirs)
	p.Mkdirs = slices.Compact(p.Mkdirs)
}

func hasHealthcheck(h *types.HealthCheckConfig) bool {
	return h != nil && !h.Disable && len(h.Test) > 0 && h.Test[0] != "NONE"
}

func ports(in []types.ServicePortConfig) []Port {
	var out []Port
	for _, p := range in {
		out = append(out, Port{Target: int(p.Target), Protocol: cmp.Or(p.Protocol, "tcp"), Published: p.Published, Name: p.Name})
	}
	return out
}

// normalImage is an image's full name with a tag, or what was written if it is no image's name.
func normalImage(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.TagNameOnly(named).String()
}

// image says which image a service runs and, if it is built here, by what name below the prefix.
func (j *judge) image(at attr, name string, s types.ServiceConfig) (image, built string) {
	builder, sibling := j.images[normalImage(s.Image)]
	switch {
	case s.Build != nil:
		if s.Image != "" {
			j.rewrite("IMAGE", at, "is built and kept under a name of this sandbox alone")
		}
		return "", imageName(name, j.Generation)
	case s.Image == "":
		return "", "" // reported as inconsistent
	case sibling:
		return "", imageName(builder, j.Generation)
	}
	named, err := reference.ParseNormalizedNamed(s.Image)
	if err == nil && reference.FamiliarName(named) == "sha256" {
		err = errors.New("an image of the host is not named by its id")
	}
	if err != nil {
		j.deny("IMAGE", at, fmt.Sprintf("is %q, which is not the name of an image: %s", s.Image, strings.TrimPrefix(err.Error(), "invalid reference format: ")))
		return "", ""
	}
	named = reference.TagNameOnly(named)
	// The engine is told a name without docker.io. Without it, the rest may
	// begin with another registry.
	told := reference.FamiliarString(named)
	again, err := reference.ParseNormalizedNamed(told)
	switch {
	case err != nil || ofSandbox(again):
		j.deny("IMAGE", at, fmt.Sprintf("is %s, which belongs to a sandbox", s.Image))
	case again.String() != named.String():
		j.deny("IMAGE", at, fmt.Sprintf("is %s, which the engine takes for %s", s.Image, again))
	}
	return told, ""
}

// ofSandbox reports whether an image has a name of those that sandboxes build.
func ofSandbox(image reference.Named) bool {
	registry, _, _ := strings.Cut(reference.Domain(image), ":")
	return strings.EqualFold(registry+"/", imageNamespace)
}
