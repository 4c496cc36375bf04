package compose

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
	"github.com/sand-boxer/sandboxer/compose/internal/proxy"
)

// memory is what the extension remembers of a sandbox: in the handle, and on
// the host as plan.json for whoever has only the id.
type memory struct {
	Schema     int                     `json:"schema"`
	Services   []serviceMemory         `json:"services"`
	Networks   map[string]netip.Prefix `json:"networks"`
	Egress     sandboxer.Egress        `json:"egress"`
	Allow      []string                `json:"allow,omitempty"` // with egress allowlist
	HostAccess bool                    `json:"host_access,omitempty"`
	Proxied    bool                    `json:"proxied,omitempty"`
	Builds     sandboxer.Egress        `json:"builds,omitempty"` // of builds, if there are any
	Limits     sandboxer.Resources     `json:"limits"`
	Expose     []sandboxer.Expose      `json:"expose,omitempty"`
	Secrets    *secretMemory           `json:"secrets,omitempty"`   // nil: it was given none
	Isolation  sandboxer.Isolation     `json:"isolation,omitempty"` // container if empty
	Runtime    string                  `json:"runtime,omitempty"`   // of every container; the engine's default if empty
}

type serviceMemory struct {
	Name      string           `json:"name"`
	Replicas  int              `json:"replicas"`
	OneShot   bool             `json:"one_shot,omitempty"`
	Restarts  bool             `json:"restarts,omitempty"` // the file wants it to run again whenever it ends
	HasHealth bool             `json:"has_health,omitempty"`
	Ports     []sandboxer.Port `json:"ports,omitempty"`
}

// meta is what the host keeps to describe a sandbox to a client that lost its store.
type meta struct {
	Schema     int                `json:"schema"`
	ID         string             `json:"id"`
	Generation int                `json:"generation"`
	Profile    string             `json:"profile"`
	Consumer   sandboxer.Consumer `json:"consumer"`
	CreatedAt  time.Time          `json:"created_at"`
}

// project is the compose project of a sandbox.
func project(id string) string { return "sbx-" + id }

// Provision implements [sandboxer.Extension].
func (x *Extension) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (h sandboxer.Handle, err error) {
	defer func() { err = withCause(ctx, err) }()
	h = sandboxer.Handle{SandboxID: req.SandboxID, Generation: req.Generation, Host: req.Host}
	m, err := x.machine(req.Host)
	if err != nil {
		return h, err
	}
	if !sandboxer.ValidID(req.SandboxID) {
		return h, fmt.Errorf("%w: %q is not a sandbox id", sandboxer.ErrInvalid, req.SandboxID)
	}
	if err := complete(req); err != nil {
		return h, err
	}
	d, err := x.draft(ctx, req)
	if err != nil {
		return h, err
	}
	defer d.close()
	if d.admission.Verdict == sandboxer.Deny {
		return h, &sandboxer.AdmissionError{Admission: d.admission}
	}
	p := &provisioning{Machine: m, req: req, draft: d, config: x.configs[req.Host], source: source(req.Inputs[inputRepo])}
	mem, err := p.run(ctx)
	if err != nil {
		return h, err
	}
	h.State, err = json.Marshal(mem)
	return h, err
}

// withCause makes an error that came of the caller's giving up say so in the
// caller's own words.
func withCause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// source names where a tree comes from, so that the next upload of it sends
// only what changed. It is a digest: the host learns no path.
func source(dir string) string {
	abs, _ := filepath.Abs(dir)
	name, _ := os.Hostname()
	sum := sha256.Sum256([]byte(name + "\x00" + abs))
	return hex.EncodeToString(sum[:8])
}

type provisioning struct {
	*host.Machine
	req     sandboxer.ProvisionRequest
	draft   *draft
	config  HostConfig
	runtime string // what containers run under
	source  string
}

// preparations bounds how often the preparation is done again because
// another sandbox was faster.
const preparations = 10

func (p *provisioning) run(ctx context.Context) (*memory, error) {
	facts, err := p.Probe(ctx)
	if err != nil {
		return nil, err
	}
	if p.runtime, err = p.config.runtime(p.req.Profile.Isolation, facts); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		reserved, err := p.reserve(ctx)
		if err != nil {
			return nil, err
		}
		mem, err := p.prepareAndRun(ctx, reserved)
		again := errors.Is(err, host.ErrSubnetTaken) || errors.Is(err, host.ErrTreeGone)
		if !again || try == preparations {
			return mem, err
		}
	}
}

func (p *provisioning) reserve(ctx context.Context) (*host.Reserved, error) {
	p.stage(ctx, "reserve", "")
	record, err := json.Marshal(meta{
		Schema: 1, ID: p.req.SandboxID, Generation: p.req.Generation, Profile: p.req.Profile.ID,
		Consumer: p.req.Consumer, CreatedAt: p.req.CreatedAt,
	})
	if err != nil {
		return nil, err
	}
	reserved, err := p.Reserve(ctx, host.Reservation{
		ID: p.req.SandboxID, Generation: p.req.Generation, Attempt: rand.Text(), Expires: p.req.ExpiresAt,
		DiskBytes: max(int64(p.req.Profile.Resources.Disk), 3*p.draft.tree.Bytes()+64<<20),
		Tree:      p.draft.tree.Digest(), Source: p.source, Meta: record,
	})
	if err != nil {
		return nil, err
	}
	if reserved.Tree != p.draft.tree.Digest() && len(reserved.Networks) == 0 {
		return nil, sandboxer.WithHint(fmt.Errorf("%w: the working tree changed since the create that is resumed", sandboxer.ErrConflict), "destroy the sandbox and create a new one")
	}
	return reserved, nil
}

// prepareAndRun uploads what is missing, places the canonical file and runs
// the job to its end.
func (p *provisioning) prepareAndRun(ctx context.Context, r *host.Reserved) (*memory, error) {
	if err := p.upload(ctx, r); err != nil {
		return nil, err
	}
	networks, err := p.networks(ctx, r)
	if err != nil {
		return nil, err
	}
	mem := p.memory(networks)
	mem.Secrets = p.secretMemory(r)
	job, err := p.job(ctx, r, mem)
	if err != nil {
		return nil, err
	}
	if err := p.placeSecrets(ctx, r); err != nil {
		return nil, err
	}
	err = p.Run(ctx, r, job, &jobOutput{ctx: ctx})
	var stage *sandboxer.StageError
	if errors.As(err, &stage) && stage.Stage == "up" {
		err = p.explain(ctx, mem, err)
	}
	return mem, err
}

func (p *provisioning) upload(ctx context.Context, r *host.Reserved) error {
	if len(r.Networks) > 0 { // placed before: the tree is in use already
		return nil
	}
	if r.Cached {
		p.stage(ctx, "upload", "the host has this tree already")
		return nil
	}
	total := p.draft.tree.Bytes()
	err := p.Upload(ctx, r, p.draft.tree, fmt.Sprintf("%d:%d", max(0, os.Getuid()), max(0, os.Getgid())), p.source, func(sent int64) {
		sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "upload", Done: sent, Total: total, Unit: "bytes"})
	})
	if err == nil {
		r.Cached = true
	}
	return err
}

// networks keeps what an earlier try claimed and otherwise picks free subnets.
func (p *provisioning) networks(ctx context.Context, r *host.Reserved) (map[string]netip.Prefix, error) {
	if len(r.Networks) > 0 {
		return r.Networks, nil
	}
	taken, err := p.engineSubnets(ctx)
	if err != nil {
		return nil, err
	}
	wanted := map[string]int{}
	for _, n := range p.draft.plan.Networks {
		wanted[n.Key] = n.Containers
		if p.req.Profile.Isolation == sandboxer.IsolationGVisor {
			wanted[n.Key] += admission.FixedExtra
		}
	}
	return allocate(p.config.pool(), wanted, append(taken, r.Taken...))
}

func (p *provisioning) memory(networks map[string]netip.Prefix) *memory {
	mem := &memory{Schema: 1, Isolation: p.req.Profile.Isolation, Runtime: p.runtime, Networks: networks, Egress: p.req.Profile.Network.Egress, Allow: p.req.Profile.Network.Allow, HostAccess: p.req.Profile.Network.HostAccess, Proxied: p.draft.plan.Proxied(), Limits: p.req.Profile.Resources, Expose: p.req.Profile.Expose}
	if p.draft.plan.Build {
		mem.Builds = p.draft.plan.BuildEgress()
	}
	for _, s := range p.draft.plan.Services {
		mem.Services = append(mem.Services, serviceMemory{Name: s.Name, Replicas: s.Replicas, OneShot: s.OneShot, Restarts: s.RestartsAlways, HasHealth: s.HasHealthcheck, Ports: ports(s.Ports)})
	}
	return mem
}

func ports(in []admission.Port) []sandboxer.Port {
	var out []sandboxer.Port
	for _, p := range in {
		out = append(out, sandboxer.Port{Port: p.Target, Protocol: p.Protocol, Published: p.Published, Name: p.Name})
	}
	return out
}

// job renders the canonical file and everything beside it. Built images carry
// only the id: each further label is a step of the classic builder, half a
// second or more.
func (p *provisioning) job(ctx context.Context, r *host.Reserved, mem *memory) (host.Job, error) {
	about, err := p.Probe(ctx)
	if err != nil {
		return host.Job{}, err
	}
	plan := p.draft.plan
	place := admission.Placement{
		Project: project(p.req.SandboxID), Workdir: r.Dir() + "/src", PinDir: r.Dir() + "/pins", SecretDir: r.Secrets,
		OutsideLabels: p.outsideLabels(r),
		BridgeNames:   bridgeNames(p.req.SandboxID, p.req.Profile.Network, mem.Networks), Labels: p.labels(r), ImageLabels: map[string]string{host.LabelID: p.req.SandboxID}, Subnets: mem.Networks, Runtime: p.runtime, Resolvers: about.Resolvers, CPUs: float64(about.CPUs),
	}
	canonical, err := plan.Render(place)
	if err != nil {
		return host.Job{}, err
	}
	facts, err := json.Marshal(mem)
	if err != nil {
		return host.Job{}, err
	}
	job := host.Job{
		Project: project(p.req.SandboxID), Build: plan.Build, Bound: p.req.Profile.Bounds.Provision.Std(), Networks: mem.Networks, Mkdirs: plan.Mkdirs,
		Dockerfiles: plan.Dockerfiles(place),
		Files:       []host.File{{Path: "compose.yaml", Mode: 0o600, Data: canonical}, {Path: "plan.json", Mode: 0o600, Data: facts}},
	}
	for _, s := range plan.Services {
		if !s.Built {
			job.Images = append(job.Images, [2]string{s.Name, s.Image})
		}
	}
	if plan.Proxied() {
		image, err := proxy.Image(about.Arch)
		if err != nil {
			return host.Job{}, err
		}
		job.Import, job.ImportAs = image, admission.ProxyImage(p.req.SandboxID)
	}
	for _, pin := range slices.Concat(plan.Pins, plan.ResolverPins(place)) {
		job.Files = append(job.Files, host.File{Path: "pins/" + pin.Name, Mode: int64(pin.Mode), Data: pin.Data, Dir: pin.Dir, Copy: pin.Source})
	}
	return job, nil
}

// labels stand on every object of the sandbox: whose it is can be read from
// the engine alone.
func (p *provisioning) labels(r *host.Reserved) map[string]string {
	c := p.req.Consumer
	labels := map[string]string{
		host.LabelID: p.req.SandboxID, host.LabelRoot: r.RootID,
		"dev.sandboxer.generation": fmt.Sprint(p.req.Generation), "dev.sandboxer.profile": p.req.Profile.ID,
		"dev.sandboxer.project": c.Project, "dev.sandboxer.actor-type": string(c.ActorType), "dev.sandboxer.actor": c.Actor,
		"dev.sandboxer.created": p.req.CreatedAt.Format(time.RFC3339),
	}
	if c.Run != "" {
		labels["dev.sandboxer.run"] = c.Run
	}
	return labels
}

func (p *provisioning) outsideLabels(r *host.Reserved) map[string]string {
	labels := p.labels(r)
	labels[host.LabelOutside] = "1"
	return labels
}

func (p *provisioning) stage(ctx context.Context, stage, message string) {
	sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: stage, Message: message})
}

// jobOutput turns the job's output into progress.
type jobOutput struct {
	ctx   context.Context
	stage string
	line  strings.Builder
}

func (o *jobOutput) Write(b []byte) (int, error) {
	for _, c := range b {
		if c != '\n' && c != '\r' {
			o.line.WriteByte(c)
			continue
		}
		o.report(strings.TrimSpace(o.line.String()))
		o.line.Reset()
	}
	return len(b), nil
}

func (o *jobOutput) report(line string) {
	if stage, ok := strings.CutPrefix(line, "::stage "); ok {
		o.stage, line = stage, ""
	} else if line == "" {
		return
	}
	sandboxer.ReportProgress(o.ctx, sandboxer.Progress{Stage: o.stage, Message: line})
}
