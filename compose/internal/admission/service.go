package admission

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// The bounds of a service.
const (
	maxRestarts      = 5
	maxGrace         = 10 * time.Second
	minProbeInterval = time.Second
	maxProbeRetries  = 1000
	maxInRow         = 31 // ports of one service with numbers in a row
	maxPortsTold     = 16 // of one service
)

// service judges one service.
func (j *judge) service(name string, s types.ServiceConfig) {
	at := attr{"services", name}
	out := &service{}
	j.result.services[name] = out
	j.shareServices(at, &s)
	c := &out.fixed
	c.Image, out.built = j.image(at.at("image"), name, s)
	j.program(at, s, c)
	j.lifecycle(at, s, c)
	j.confinement(at, s, c)
	j.resources(at, s, c)
	j.network(at, s, c)
	j.mounts(at, s, out)
	j.references(at, s, out)
	if s.Build != nil {
		out.build = j.build(at.at("build"), name, s)
	}
	for i, hook := range s.PreStart {
		j.preStart(at.at("pre_start").item(i), hook)
	}
	j.dropped(at, s)
	c.unrepeat()
	j.dollars(at, *c)
}

// unrepeat drops what a list says again. Two spellings of one value, such as
// 80 and "80", pass compose's own check for that until they are written alike.
func (c *canonicalService) unrepeat() {
	for _, l := range []*[]string{&c.GroupAdd, &c.Expose, &c.DNS, &c.DNSOptions, &c.DNSSearch, &c.ExtraHosts, &c.Links, &c.Tmpfs, &c.VolumesFrom} {
		*l = unrepeated(*l)
	}
}

func unrepeated(list []string) (once []string) {
	for _, text := range list {
		if !slices.Contains(once, text) {
			once = append(once, text)
		}
	}
	return once
}

// program is what runs in the container and what it sees.
func (j *judge) program(at attr, s types.ServiceConfig, c *canonicalService) {
	c.Entrypoint, c.Command = command(s.Entrypoint), command(s.Command)
	c.WorkingDir, c.User, c.GroupAdd = s.WorkingDir, s.User, s.GroupAdd
	c.Init, c.TTY, c.StdinOpen, c.ReadOnly = s.Init, s.Tty, s.StdinOpen, s.ReadOnly
	c.Environment = j.environment(at, s.ContainerSpec)
	c.Platform = s.Platform
	if s.Platform != "" && !linuxPlatform.MatchString(s.Platform) {
		j.refuse("PLATFORM", at.at("platform"), s.Platform)
	}
	for key, value := range map[string]string{"hostname": s.Hostname, "domainname": s.DomainName} {
		if value != "" && !hostName.MatchString(value) {
			j.refuse("HOSTNAME", at.at(key), strconv.Quote(value))
		}
	}
	c.Hostname, c.DomainName = s.Hostname, s.DomainName
	if n := s.GetScale(); n != 1 {
		c.Scale = &n
	}
	if s.PullPolicy != "" && s.PullPolicy != "missing" && s.Build == nil {
		j.rewrite("PULL", at.at("pull_policy"), "")
	}
}

var linuxPlatform = regexp.MustCompile(`^linux(/[A-Za-z0-9_-]+){0,2}$`)

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)

// command keeps the difference between no command and an empty one, which
// takes the image's away.
func command(c types.ShellCommand) *[]string {
	if c == nil {
		return nil
	}
	words := append([]string{}, c...)
	return &words
}

// environment merges the env files with what the service sets, as compose would.
func (j *judge) environment(at attr, spec types.ContainerSpec) map[string]string {
	env := map[string]string{}
	own := spec.Environment.ToMapping()
	maps.Copy(env, own)
	for i, e := range spec.EnvFiles {
		from := at.at("env_file").item(i)
		f := j.paths.find(e.Path)
		switch {
		case f.inside && f.at == missing && !bool(e.Required):
			continue
		case !f.inside || f.at != file || namesGit(f.path):
			j.deny("ENVFILE", from, "names "+f.problem(e.Path))
			continue
		case e.Format != "" && e.Format != "raw":
			j.deny("ENVFILE", from, fmt.Sprintf("has the format %q; write raw or nothing", e.Format))
			continue
		}
		j.envs.read(f.path, from, e.Format, env, func(name string) (string, bool) {
			if v, ok := j.env[name]; ok {
				return v, true
			}
			v, ok := own[name]
			return v, ok
		})
	}
	maps.Copy(env, own)
	for _, name := range slices.Sorted(maps.Keys(spec.Environment)) {
		if spec.Environment[name] == nil {
			delete(env, name)
			j.rewrite("ENV-NULL", at.at("environment", name), "")
		}
	}
	j.named(at.at("environment"), env)
	for i, p := range spec.LabelFiles {
		if f := j.paths.find(p); !f.inside || f.at != file || namesGit(f.path) {
			j.deny("ENVFILE", at.at("label_file").item(i), "names "+f.problem(p))
		} else {
			j.rewrite("LABELS", at.at("label_file"), "")
		}
	}
	return env
}

// named refuses a value without a name, as the engine does.
func (j *judge) named(at attr, values map[string]string) {
	if _, ok := values[""]; ok {
		j.deny("LOAD", at, "has a value without a name", "write NAME=VALUE")
	}
}

// lifecycle is when the container starts, stops and counts as well.
func (j *judge) lifecycle(at attr, s types.ServiceConfig, c *canonicalService) {
	c.StopSignal = s.StopSignal
	if d := s.StopGracePeriod; d != nil {
		grace := min(time.Duration(*d), maxGrace)
		if grace < time.Duration(*d) {
			j.rewrite("GRACE", at.at("stop_grace_period"), fmt.Sprintf("is shortened to %v", maxGrace))
		}
		c.StopGracePeriod = grace.String()
	}
	c.Restart = j.restart(at, s)
	for name, d := range s.DependsOn {
		if c.DependsOn == nil {
			c.DependsOn = map[string]canonicalDependency{}
		}
		c.DependsOn[name] = canonicalDependency{Condition: d.Condition, Restart: d.Restart, Required: d.Required}
	}
	c.Links = s.Links
	if s.HealthCheck != nil {
		c.HealthCheck = j.healthcheck(at.at("healthcheck"), s.HealthCheck)
	}
	for i, h := range s.PostStart {
		hook := canonicalHook{Command: h.Command, User: h.User, WorkingDir: h.WorkingDir, Environment: map[string]string{}}
		for name, v := range h.Environment {
			if v == nil {
				j.rewrite("ENV-NULL", at.at("post_start").item(i).at("environment", name), "")
				continue
			}
			hook.Environment[name] = *v
		}
		j.named(at.at("post_start").item(i).at("environment"), hook.Environment)
		c.PostStart = append(c.PostStart, hook)
	}
	if len(s.PreStop) > 0 {
		j.rewrite("HOOK-PRESTOP", at.at("pre_stop"), "")
	}
}

// restart bounds the restart policy, in whichever of its two spellings.
func (j *judge) restart(at attr, s types.ServiceConfig) string {
	policy, from := restartPolicy(s), at.at("restart")
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		from = at.at("deploy", "restart_policy")
	}
	bounded := fmt.Sprintf("on-failure:%d", maxRestarts)
	kind, count, _ := strings.Cut(policy, ":")
	switch {
	case policy == "" || policy == "no":
		return policy
	case kind == "on-failure" && count != "":
		n, err := strconv.Atoi(count)
		if err == nil && n > 0 && n <= maxRestarts {
			return policy
		}
	case kind == "on-failure", policy == "always", policy == "unless-stopped":
	default:
		j.deny("LOAD", from, fmt.Sprintf("is %q", policy), "write no, always, unless-stopped or on-failure:N")
	}
	j.rewrite("RESTART", from, fmt.Sprintf("becomes %s: nothing may outlive the sandbox", bounded))
	return bounded
}

// restartPolicy is what the file asks for, in the short spelling.
func restartPolicy(s types.ServiceConfig) string {
	if s.Deploy == nil || s.Deploy.RestartPolicy == nil {
		return s.Restart
	}
	deploy := s.Deploy.RestartPolicy
	if policy, known := map[string]string{"": "always", "any": "always", "none": "no"}[deploy.Condition]; known {
		return policy
	}
	if deploy.MaxAttempts != nil {
		return fmt.Sprintf("on-failure:%d", *deploy.MaxAttempts)
	}
	return "on-failure"
}

// restartsAlways reports that a service is not meant to end, not even well.
func restartsAlways(s types.ServiceConfig) bool {
	policy := restartPolicy(s)
	return policy == "always" || policy == "unless-stopped"
}

func (j *judge) healthcheck(at attr, h *types.HealthCheckConfig) *canonicalHealthCheck {
	out := &canonicalHealthCheck{Disable: h.Disable, Test: h.Test, Timeout: duration(h.Timeout), StartPeriod: duration(h.StartPeriod), Retries: h.Retries}
	if h.Disable {
		return &canonicalHealthCheck{Disable: true}
	}
	for _, d := range []struct {
		key  string
		from *types.Duration
		to   *string
	}{{"interval", h.Interval, &out.Interval}, {"start_interval", h.StartInterval, &out.StartInterval}} {
		*d.to = duration(d.from)
		if d.from != nil && *d.from > 0 && time.Duration(*d.from) < minProbeInterval {
			*d.to = minProbeInterval.String()
			j.rewrite("HEALTHCHECK", at.at(d.key), fmt.Sprintf("becomes %v", minProbeInterval))
		}
	}
	if h.Retries != nil && *h.Retries > maxProbeRetries {
		n := uint64(maxProbeRetries)
		out.Retries = &n
		j.rewrite("HEALTHCHECK", at.at("retries"), fmt.Sprintf("becomes %d", n))
	}
	return out
}

func duration(d *types.Duration) string {
	if d == nil {
		return ""
	}
	return time.Duration(*d).String()
}

// dropped names what has no meaning here and is not looked at any further.
func (j *judge) dropped(at attr, s types.ServiceConfig) {
	if len(s.Labels) > 0 {
		j.rewrite("LABELS", at.at("labels"), "")
	}
	for key := range s.Extensions {
		j.rewrite("XEXT", at.at(key), "")
	}
}

// dollars names what holds a $ when every variable is replaced.
func (j *judge) dollars(at attr, c canonicalService) {
	for _, part := range children(node(reflect.ValueOf(c))) {
		if found := find(part.value, attr{}, func(_ attr, text string) bool { return strings.Contains(text, "$") }); found != nil {
			j.rewrite("DOLLAR-ESCAPE", at.at(part.key.Value).at(found...), "")
		}
	}
}

// preStart judges what the loader's own check cannot: where an init container reads from.
func (j *judge) preStart(at attr, hook types.PreStartHook) {
	throwaway := &service{}
	j.mounts(at, types.ServiceConfig{ContainerSpec: types.ContainerSpec{Volumes: hook.Volumes}}, throwaway)
}

var imageComponent = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)

// imageName is what the image of a service is called below the sandbox's
// prefix. Compose allows service names that images may not have.
func imageName(service string, generation int) string {
	if !imageComponent.MatchString(service) {
		sum := sha256.Sum256([]byte(service))
		service = "service-" + hex.EncodeToString(sum[:8])
	}
	return fmt.Sprintf("%s:g%d", service, generation)
}
