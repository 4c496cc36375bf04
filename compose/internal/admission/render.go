package admission

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
)

// A Placement is where on a host a plan runs.
type Placement struct {
	Project       string                  // the compose project, which is "sbx-" and the sandbox's id
	Workdir       string                  // absolute path of the tree on the host
	PinDir        string                  // absolute path of the directory that holds Plan.Pins, outside Workdir
	SecretDir     string                  // likewise of the directory that holds Plan.SecretFiles; needed if there are any
	Labels        map[string]string       // for every container, network and volume
	OutsideLabels map[string]string       // for the proxy's network that leads outside
	ImageLabels   map[string]string       // for every built image; Labels if nil
	ImagePrefix   string                  // DefaultImagePrefix(id) if empty
	Subnets       map[string]netip.Prefix // for every network of the plan, by key
	BridgeNames   map[string]string       // names of the host's interfaces, by key; optional
	Runtime       string                  // of every container, as the engine calls it; its default if empty
	Resolvers     []netip.Addr            // that containers ask for names outside, where the engine's own cannot be asked
	CPUs          float64                 // processors of the host: the engine refuses containers that ask for more; 0 is unknown
}

const (
	optionInhibit    = "com.docker.network.bridge.inhibit_ipv4"
	optionBridgeName = "com.docker.network.bridge.name"
)

// Render writes the canonical file: one YAML document, the same bytes for the
// same plan and placement, and all that the host's compose has to read. It is
// read back and judged again before it is returned, and rendering that must
// give the same bytes.
func (p *Plan) Render(place Placement) ([]byte, error) {
	if err := place.check(p); err != nil {
		return nil, err
	}
	text, err := p.render(place)
	if err != nil {
		return nil, err
	}
	if err := p.verify(text, place); err != nil {
		return nil, fmt.Errorf("the canonical file is not what was judged: %w", err)
	}
	return text, nil
}

func (place Placement) check(p *Plan) error {
	if place.Project != "sbx-"+p.id {
		return fmt.Errorf("project %q is not that of sandbox %s", place.Project, p.id)
	}
	dirs := map[string]string{"workdir": place.Workdir, "pin directory": place.PinDir}
	if len(p.SecretFiles) > 0 {
		dirs["secret directory"] = place.SecretDir
	}
	for what, dir := range dirs {
		if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" {
			return fmt.Errorf("the %s %q is not a clean absolute path", what, dir)
		}
	}
	for what, dir := range dirs {
		if what != "workdir" && strings.HasPrefix(dir+"/", place.Workdir+"/") {
			return fmt.Errorf("the %s %s lies in the workspace, where containers could change it", what, dir)
		}
	}
	for _, n := range p.Networks {
		if s, ok := place.Subnets[n.Key]; !ok || !s.IsValid() {
			return fmt.Errorf("no subnet for network %s", n.Key)
		}
	}
	if p.policy.gvisor() {
		return p.fixable(place)
	}
	return nil
}

func (p *Plan) render(place Placement) ([]byte, error) {
	out := canonicalFile{
		Name: place.Project, Services: map[string]canonicalService{}, Networks: map[string]canonicalNetwork{},
		Volumes: map[string]canonicalVolume{}, Secrets: map[string]canonicalContent{}, Configs: map[string]canonicalContent{},
	}
	for name, s := range p.services {
		out.Services[name] = s.on(place, p.id)
	}
	if p.policy.gvisor() {
		p.fixNames(out.Services, place)
	}
	for key, n := range p.networks {
		out.Networks[key] = p.networkOn(place, key, n)
	}
	for key, v := range p.volumes {
		placed := *v
		placed.Name, placed.Labels = place.Project+"_"+key, place.Labels
		out.Volumes[key] = placed
	}
	for key, l := range p.secrets {
		out.Secrets[key] = canonicalContent{File: l.on(place)}
	}
	for key, l := range p.configs {
		out.Configs[key] = canonicalContent{File: l.on(place)}
	}
	p.addProxy(&out, place)
	return encode(out)
}

func (s *service) on(place Placement, id string) canonicalService {
	out := s.fixed
	out.Labels, out.Runtime = place.Labels, place.Runtime
	if place.CPUs > 0 && (out.CPUs == 0 || out.CPUs > place.CPUs) {
		out.CPUs = place.CPUs
	}
	if s.built != "" {
		prefix := place.ImagePrefix
		if prefix == "" {
			prefix = DefaultImagePrefix(id)
		}
		out.Image = prefix + "/" + s.built
	}
	for _, m := range s.mounts {
		placed := m.canonicalMount
		if placed.Bind != nil {
			placed.Source = m.from.on(place)
		}
		out.Volumes = append(out.Volumes, placed)
	}
	if s.build != nil {
		out.Build = s.build.on(place)
	}
	return out
}

func (b *build) on(place Placement) *canonicalBuild {
	out := b.fixed
	out.Context, out.Dockerfile = b.context.on(place), b.dockerfile
	if b.pinned != "" {
		out.Dockerfile = path.Join(place.PinDir, b.pinned)
	}
	out.AdditionalContexts = maps.Clone(b.fixed.AdditionalContexts)
	for key, l := range b.contexts {
		out.AdditionalContexts[key] = l.on(place)
	}
	if out.Labels = place.ImageLabels; out.Labels == nil {
		out.Labels = place.Labels
	}
	return &out
}

// Dockerfiles lists the absolute paths of what images are built from, sorted.
func (p *Plan) Dockerfiles(place Placement) []string {
	var files []string
	for _, s := range p.services {
		if s.build == nil {
			continue
		}
		b := s.build.on(place)
		if !path.IsAbs(b.Dockerfile) {
			b.Dockerfile = path.Join(b.Context, b.Dockerfile)
		}
		files = append(files, b.Dockerfile)
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func (p *Plan) networkOn(place Placement, key string, n *network) canonicalNetwork {
	out := canonicalNetwork{
		Name: place.Project + "_" + key, Driver: "bridge", DriverOpts: maps.Clone(n.options), Labels: place.Labels,
		Internal: n.internal || p.policy.denies(),
		IPAM:     canonicalIPAM{Config: []canonicalSubnet{{Subnet: place.Subnets[key].String()}}},
	}
	if p.policy.gvisor() {
		out.IPAM.Config[0] = fixedSubnet(place.Subnets[key])
	}
	if out.DriverOpts == nil {
		out.DriverOpts = map[string]string{}
	}
	if p.policy.denies() {
		// Without an address of the host on the bridge there is no way to its services.
		out.DriverOpts[optionInhibit] = "true"
	}
	out.DriverOpts = p.bridge(out.DriverOpts, place, key)
	return out
}

// bridge adds the name of the host's interface, if there is one.
func (p *Plan) bridge(options map[string]string, place Placement, key string) map[string]string {
	if name := place.BridgeNames[key]; name != "" {
		if options == nil {
			options = map[string]string{}
		}
		options[optionBridgeName] = name
	}
	return options
}

// verify reads a canonical file as the host's compose will, judges it with
// nothing but the placement's directories to refer to, and renders it again.
func (p *Plan) verify(text []byte, place Placement) error {
	r := &report{}
	req := Request{File: "compose.yaml", ProjectDir: ".", ID: p.id, Generation: p.generation, Policy: p.policy}
	l := &loading{files: &files{root: os.TempDir(), report: r}, report: r, request: req, text: text, env: map[string]string{}}
	project, err := l.load(context.Background(), true)
	if err != nil {
		return err
	}
	l.reportFindings(project)
	j := &judge{Request: req, report: r, paths: placedPaths{place.Workdir, place.PinDir, place.SecretDir}, project: project, placed: place.Runtime}
	again := j.plan()
	if again != nil {
		again.proxied = p.proxied
	}
	if r.denied() {
		v := r.violations.noted[0]
		return fmt.Errorf("%s %s [%s]", v.at, v.message, v.rule.ID)
	}
	rendered, err := again.render(place)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, rendered) {
		return fmt.Errorf("it reads back differently: %s", firstDifference(text, rendered))
	}
	return nil
}

func firstDifference(a, b []byte) string {
	before, after := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i, line := range before {
		if i >= len(after) || line != after[i] {
			return fmt.Sprintf("line %d, %s", i+1, strings.TrimSpace(line))
		}
	}
	return fmt.Sprintf("after line %d", len(before))
}
