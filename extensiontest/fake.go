package extensiontest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// FakeConfig configures a [Fake].
type FakeConfig struct {
	// Backend is the machines. Required.
	Backend *Backend
	// ID is the extension's id; "ext.fake" if empty.
	ID string
	// Pricing is the pricing model; self-hosted if empty.
	Pricing sandboxer.PricingModel
	// Isolation is what manifest and hosts offer; containers if empty.
	Isolation []sandboxer.Isolation
	// Judge names what admission refuses in a request. Optional.
	Judge func(sandboxer.ProvisionRequest) []sandboxer.Violation
	// Fault is asked before every step. Optional.
	Fault Fault
}

// A Fake is the reference extension: it keeps sandboxes on a [Backend] and has
// every optional interface. One Fake stands for one process; it holds nothing
// that another could not find out from the Backend.
type Fake struct {
	cfg     FakeConfig
	stopped atomic.Bool
}

var (
	_ sandboxer.Extension     = (*Fake)(nil)
	_ sandboxer.CostEstimator = (*Fake)(nil)
	_ sandboxer.Inspector     = (*Fake)(nil)
	_ sandboxer.Lister        = (*Fake)(nil)
	_ sandboxer.Admitter      = (*Fake)(nil)
	_ sandboxer.HostProber    = (*Fake)(nil)
	_ sandboxer.Dialer        = (*Fake)(nil)
	_ sandboxer.LogReader     = (*Fake)(nil)
	_ sandboxer.LeaseKeeper   = (*Fake)(nil)
)

// NewFake returns a Fake as a new process would build it.
func NewFake(cfg FakeConfig) *Fake {
	cfg.ID = cmp.Or(cfg.ID, "ext.fake")
	cfg.Pricing = cmp.Or(cfg.Pricing, sandboxer.PricingSelfHosted)
	if len(cfg.Isolation) == 0 {
		cfg.Isolation = []sandboxer.Isolation{sandboxer.IsolationContainer}
	}
	return &Fake{cfg: cfg}
}

// Info implements [sandboxer.Extension].
func (f *Fake) Info() sandboxer.ExtensionInfo {
	return sandboxer.ExtensionInfo{
		ID: f.cfg.ID, Version: "1.0.0", Description: "sandboxes in memory",
		Capabilities: []string{"dial", "inspect", "lease", "list", "logs"},
		Isolation:    slices.Clone(f.cfg.Isolation), Pricing: f.cfg.Pricing, Hosts: f.cfg.Backend.hosts(),
	}
}

// fakeConfig is the extension's own part of a profile.
type fakeConfig struct {
	Volumes []string `json:"volumes,omitempty"`
	Allow   []string `json:"allow,omitempty"` // rules that are loosened
}

// fakeState is the extension's own part of a handle. Everything in it follows
// from the id, so a lost handle costs nothing.
type fakeState struct {
	Version int    `json:"version"`
	Project string `json:"project"`
}

// The kinds of objects, in the order in which Provision makes them.
const (
	kindRecord    = "record"
	kindNetwork   = "network"
	kindVolume    = "volume"
	kindContainer = "container"
)

// objects are everything a sandbox consists of. Names follow from the id alone.
func objects(id string, cfg fakeConfig) []sandboxer.Resource {
	all := []sandboxer.Resource{{Kind: kindRecord, ID: id, Name: id}, {Kind: kindNetwork, ID: id + "-net", Name: id + "-net"}}
	for _, v := range append([]string{"data"}, cfg.Volumes...) {
		all = append(all, sandboxer.Resource{Kind: kindVolume, ID: id + "-" + v, Name: id + "-" + v})
	}
	for _, s := range services(id) {
		all = append(all, sandboxer.Resource{Kind: kindContainer, ID: s.Containers[0], Name: s.Name})
	}
	return all
}

// Provision implements [sandboxer.Extension]. The machine's record is written
// first, so that whatever follows can be found and removed by anybody.
func (f *Fake) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	cfg, refused := f.accept(req)
	if refused != nil {
		return sandboxer.Handle{}, refused
	}
	h := handleOf(req)
	for _, r := range objects(req.SandboxID, cfg) {
		sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: r.Kind, Message: r.Name})
		if err := f.step(ctx, "provision", r.Kind, h); err != nil {
			return h, fmt.Errorf("%s %s: %w", r.Kind, r.Name, err)
		}
		err := f.cfg.Backend.on(req.Host, func(m *machine) error {
			if r.Kind == kindRecord {
				if err := m.open(foundOf(req, h)); err != nil {
					return err
				}
			}
			return m.add(h, r)
		})
		if err != nil {
			return h, err
		}
	}
	return h, nil
}

func handleOf(req sandboxer.ProvisionRequest) sandboxer.Handle {
	state, _ := json.Marshal(fakeState{Version: 1, Project: req.SandboxID})
	return sandboxer.Handle{SandboxID: req.SandboxID, Generation: req.Generation, Host: req.Host, State: state}
}

func foundOf(req sandboxer.ProvisionRequest, h sandboxer.Handle) sandboxer.Found {
	return sandboxer.Found{Handle: h, Profile: req.Profile.ID, Consumer: req.Consumer, CreatedAt: req.CreatedAt, ExpiresAt: req.ExpiresAt}
}

// accept refuses what can never be served, before anything exists.
func (f *Fake) accept(req sandboxer.ProvisionRequest) (fakeConfig, error) {
	var cfg fakeConfig
	if err := req.Profile.DecodeConfig(&cfg); err != nil {
		return cfg, err
	}
	if !slices.Contains(f.cfg.Isolation, req.Profile.Isolation) {
		return cfg, fmt.Errorf("isolation %s: %w", req.Profile.Isolation, sandboxer.ErrUnsupported)
	}
	for _, name := range req.Profile.Setup.SecretRefs {
		if len(req.Secrets[name].Reveal()) == 0 {
			return cfg, &sandboxer.FieldError{Field: "setup.secret_refs", Reason: fmt.Sprintf("names %q, of which no value was given", name)}
		}
	}
	if a := f.judge(req); a.Verdict == sandboxer.Deny {
		return cfg, &sandboxer.AdmissionError{Admission: a}
	}
	return cfg, nil
}

// judge compares what a request wants with what there is.
func (f *Fake) judge(req sandboxer.ProvisionRequest) sandboxer.Admission {
	a := sandboxer.Admission{Verdict: sandboxer.Allow, Violations: []sandboxer.Violation{}, Rewrites: []sandboxer.Rewrite{}}
	for i, e := range req.Profile.Expose {
		if !slices.ContainsFunc(services(""), func(s sandboxer.Service) bool { return s.Name == e.Service }) {
			a.Violations = append(a.Violations, sandboxer.Violation{
				Rule: "UNKNOWN_SERVICE", Path: fmt.Sprintf("expose[%d]", i), Service: e.Service,
				Message: "there is no such service", Hint: "expose web or echo",
			})
		}
	}
	var cfg fakeConfig
	_ = req.Profile.DecodeConfig(&cfg) // accept says what is wrong with it
	if f.cfg.Judge != nil {
		for _, v := range f.cfg.Judge(req) {
			if slices.Contains(cfg.Allow, v.Rule) {
				a.Loosened = append(a.Loosened, v)
			} else {
				a.Violations = append(a.Violations, v)
			}
		}
	}
	if len(a.Violations) > 0 {
		a.Verdict = sandboxer.Deny
	}
	return a
}

// WaitReady implements [sandboxer.Extension].
func (f *Fake) WaitReady(ctx context.Context, h sandboxer.Handle) (sandboxer.Readiness, error) {
	if err := f.step(ctx, "ready", "", h); err != nil {
		return sandboxer.Readiness{}, err
	}
	all := services(h.SandboxID)
	err := f.cfg.Backend.on(h.Host, func(m *machine) error {
		x, err := m.box(h)
		if err != nil {
			return err
		}
		for _, s := range all {
			if !slices.Contains(x.objects, sandboxer.Resource{Kind: kindContainer, ID: s.Containers[0], Name: s.Name}) {
				return &sandboxer.NotReadyError{Service: s.Name, State: "missing"}
			}
		}
		return nil
	})
	if err != nil {
		return sandboxer.Readiness{}, err
	}
	return sandboxer.Readiness{
		Reachability: sandboxer.Reachability{Address: "fake://" + h.Host, Project: h.SandboxID, Services: all},
		Controls:     []sandboxer.Control{{Name: "network.egress", Level: sandboxer.Enforced}},
	}, nil
}

// teardownRounds is how often Teardown looks again: what raced with it may
// have added something after it looked.
const teardownRounds = 3

// Teardown implements [sandboxer.Extension]. It works from the id: it asks the
// machine what there is, removes that, and asks again.
func (f *Fake) Teardown(ctx context.Context, h sandboxer.Handle) (sandboxer.Removal, error) {
	var removal sandboxer.Removal
	for range teardownRounds {
		doomed, err := f.condemn(ctx, h)
		if err != nil {
			return removal, err
		}
		if len(doomed) == 0 {
			removal.Residue, removal.VerifiedAt = nil, time.Now().UTC()
			return removal, nil
		}
		removal.Residue = nil
		for _, r := range doomed {
			err := f.discard(ctx, h, r)
			if err != nil && !isResidue(ctx, err) {
				return removal, err
			}
			if err != nil || r.Kind == kindRecord && len(removal.Residue) > 0 {
				removal.Residue = append(removal.Residue, r)
			} else {
				removal.Removed = append(removal.Removed, r)
			}
		}
		if len(removal.Residue) > 0 {
			break
		}
	}
	return removal, &sandboxer.ResidueError{Residue: removal.Residue}
}

// condemn looks at what is there and announces its removal.
func (f *Fake) condemn(ctx context.Context, h sandboxer.Handle) (doomed []sandboxer.Resource, err error) {
	if err := f.step(ctx, "teardown", "look", h); err != nil {
		return nil, err
	}
	err = f.cfg.Backend.on(h.Host, func(m *machine) error {
		doomed, err = m.condemn(h)
		return err
	})
	return doomed, err
}

func (f *Fake) discard(ctx context.Context, h sandboxer.Handle, r sandboxer.Resource) error {
	if err := f.step(ctx, "teardown", r.Kind, h); err != nil {
		return err
	}
	return f.cfg.Backend.on(h.Host, func(m *machine) error {
		m.drop(h.SandboxID, r)
		return nil
	})
}

// isResidue tells an object that would not go from a teardown that could not go on.
func isResidue(ctx context.Context, err error) bool {
	return ctx.Err() == nil && !errors.Is(err, ErrStopped) && !errors.Is(err, sandboxer.ErrUnavailable)
}

// EstimateCost implements [sandboxer.CostEstimator]: the price of the host.
func (f *Fake) EstimateCost(_ context.Context, req sandboxer.ProvisionRequest) (sandboxer.Cost, error) {
	for _, h := range f.cfg.Backend.hosts() {
		if h.Name == req.Host && h.Price != nil {
			return *h.Price, nil
		}
	}
	return sandboxer.Cost{}, fmt.Errorf("price of host %s: %w", req.Host, sandboxer.ErrNotFound)
}

// Inspect implements [sandboxer.Inspector].
func (f *Fake) Inspect(ctx context.Context, h sandboxer.Handle) (sandboxer.Observation, error) {
	o := sandboxer.Observation{Presence: sandboxer.Absent}
	err := f.step(ctx, "inspect", "", h)
	if err == nil {
		err = f.cfg.Backend.on(h.Host, func(m *machine) error {
			o.Expired = m.expired[h.SandboxID]
			if x, ok := m.boxes[h.SandboxID]; ok {
				o.Presence, o.Services, o.ExpiresAt = sandboxer.Present, services(h.SandboxID), x.ExpiresAt
				o.Resources = slices.Clone(x.objects)
			}
			return nil
		})
	}
	if err != nil {
		o = sandboxer.Observation{Presence: sandboxer.Unknown, Detail: err.Error()}
	}
	o.At = time.Now().UTC()
	return o, nil
}

// List implements [sandboxer.Lister].
func (f *Fake) List(ctx context.Context, host string) (all []sandboxer.Found, err error) {
	if err := f.step(ctx, "list", "", sandboxer.Handle{Host: host}); err != nil {
		return nil, err
	}
	err = f.cfg.Backend.on(host, func(m *machine) error {
		all = m.found()
		return nil
	})
	return all, err
}

// Admit implements [sandboxer.Admitter].
func (f *Fake) Admit(_ context.Context, req sandboxer.ProvisionRequest) (sandboxer.Admission, error) {
	var cfg fakeConfig
	if err := req.Profile.DecodeConfig(&cfg); err != nil {
		return sandboxer.Admission{}, err
	}
	return f.judge(req), nil
}

// ProbeHost implements [sandboxer.HostProber].
func (f *Fake) ProbeHost(ctx context.Context, host string) (sandboxer.HostStatus, error) {
	all := f.cfg.Backend.hosts()
	i := slices.IndexFunc(all, func(h sandboxer.Host) bool { return h.Name == host })
	if i < 0 {
		return sandboxer.HostStatus{}, fmt.Errorf("host %s: %w", host, sandboxer.ErrNotFound)
	}
	status := sandboxer.HostStatus{Host: all[i], Available: true, Isolation: slices.Clone(f.cfg.Isolation)}
	err := f.step(ctx, "probe", "", sandboxer.Handle{Host: host})
	if err == nil {
		err = f.cfg.Backend.on(host, func(m *machine) error {
			status.Sandboxes = len(m.boxes)
			return nil
		})
	}
	if err != nil {
		status.Available, status.Reason, status.Err = false, err.Error(), err
	}
	return status, nil
}

// Dial implements [sandboxer.Dialer]. The connection ends with the sandbox.
func (f *Fake) Dial(ctx context.Context, h sandboxer.Handle, service string, port int) (conn net.Conn, err error) {
	err = f.reach(ctx, "dial", h, func(x *box) error {
		conn, err = x.connect(service, port)
		return err
	})
	return conn, err
}

// Logs implements [sandboxer.LogReader].
func (f *Fake) Logs(ctx context.Context, h sandboxer.Handle, opts sandboxer.LogOptions) (text io.ReadCloser, err error) {
	err = f.reach(ctx, "logs", h, func(x *box) error {
		text = x.journal.reader(ctx, opts)
		return nil
	})
	return text, err
}

// Renew implements [sandboxer.LeaseKeeper].
func (f *Fake) Renew(ctx context.Context, h sandboxer.Handle, expires time.Time) error {
	return f.reach(ctx, "renew", h, func(x *box) error {
		if expires.After(x.ExpiresAt) {
			x.ExpiresAt = expires
		}
		return nil
	})
}

// reach does something to a sandbox that exists.
func (f *Fake) reach(ctx context.Context, op string, h sandboxer.Handle, do func(*box) error) error {
	if err := f.step(ctx, op, "", h); err != nil {
		return err
	}
	return f.cfg.Backend.on(h.Host, func(m *machine) error {
		x, err := m.box(h)
		if err != nil {
			return err
		}
		return do(x)
	})
}

// step is where a Fake can be slow, fail, hang or end. A context that has
// ended is an error with its cause.
func (f *Fake) step(ctx context.Context, op, stage string, h sandboxer.Handle) error {
	if f.stopped.Load() {
		return ErrStopped
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f.cfg.Fault == nil {
		return nil
	}
	err := f.cfg.Fault(ctx, Step{Op: op, Stage: stage, Host: h.Host, SandboxID: h.SandboxID})
	if errors.Is(err, ErrStopped) {
		f.stopped.Store(true)
	}
	if err == nil && f.stopped.Load() {
		return ErrStopped
	}
	return err
}
