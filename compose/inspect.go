package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
)

// Inspect implements [sandboxer.Inspector]: absent only if both the host's
// files and the engine were asked and hold nothing.
func (x *Extension) Inspect(ctx context.Context, h sandboxer.Handle) (sandboxer.Observation, error) {
	o := sandboxer.Observation{Presence: sandboxer.Unknown, At: time.Now().UTC()}
	m, err := x.machine(h.Host)
	if err != nil {
		o.Detail = err.Error()
		return o, nil
	}
	sight, err := m.Look(ctx, h.SandboxID)
	if err != nil {
		o.Detail = err.Error()
		return o, nil
	}
	o.Resources, err = m.Objects(ctx, h.SandboxID)
	if err != nil {
		o.Detail = err.Error()
		return o, nil
	}
	o.ExpiresAt = sight.Expires
	if sight.Secrets != "" {
		o.Resources = append(o.Resources, sandboxer.Resource{Kind: "secrets", ID: sight.Secrets, Name: sight.Secrets})
	}
	if !sight.Present && len(o.Resources) == 0 {
		o.Presence = sandboxer.Absent
		return o, nil
	}
	o.Presence = sandboxer.Present
	switch {
	case !sight.Present:
		o.Detail = "its directory is gone, its objects are not"
	case sight.Destroying:
		o.Detail = "it is being destroyed"
	case len(sight.Plan) == 0:
		o.Detail = "it is being established"
	default:
		o.Services, o.Detail = x.services(ctx, m, h, sight)
		if mem, err := remembered(sight); err == nil && mem.Secrets != nil && sight.Secrets == "" {
			o.Detail = lostSecrets
		}
	}
	return o, nil
}

// services says how each one does; one that failed does not hide the others.
func (x *Extension) services(ctx context.Context, m *host.Machine, h sandboxer.Handle, sight *host.Sight) ([]sandboxer.Service, string) {
	mem, err := remembered(sight)
	if err != nil {
		return nil, "the host's record cannot be read: " + err.Error()
	}
	w := &watch{machine: m, id: h.SandboxID, memory: mem}
	byService, err := w.containers(ctx)
	if err != nil {
		return nil, err.Error()
	}
	var out []sandboxer.Service
	detail := ""
	for _, s := range mem.Services {
		seen := sandboxer.Service{Name: s.Name, Ports: s.Ports, State: "absent"}
		for _, c := range byService[s.Name] {
			state, verdict := judge(s, c)
			seen.Containers, seen.State = append(seen.Containers, c.Name), state
			if verdict == failed {
				detail = fmt.Sprintf("service %s is %s", s.Name, state)
			}
		}
		if len(seen.Containers) < s.Replicas {
			detail = fmt.Sprintf("service %s has %d of %d containers", s.Name, len(seen.Containers), s.Replicas)
		}
		out = append(out, seen)
	}
	return out, detail
}

func remembered(sight *host.Sight) (*memory, error) {
	mem := new(memory)
	return mem, json.Unmarshal(sight.Plan, mem)
}

// List implements [sandboxer.Lister].
func (x *Extension) List(ctx context.Context, name string) ([]sandboxer.Found, error) {
	m, err := x.machine(name)
	if err != nil {
		return nil, err
	}
	entries, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]sandboxer.Found, 0, len(entries))
	for _, e := range entries {
		var about meta
		if err := json.Unmarshal(e.Meta, &about); err != nil {
			return nil, fmt.Errorf("host %s describes a sandbox with %q: %w", name, e.Meta, err)
		}
		out = append(out, sandboxer.Found{
			Handle:  sandboxer.Handle{SandboxID: about.ID, Generation: e.Generation, Host: name},
			Profile: about.Profile, Consumer: about.Consumer, CreatedAt: about.CreatedAt, ExpiresAt: e.Expires,
		})
	}
	return out, nil
}

// Logs implements [sandboxer.LogReader]. With several containers each line
// begins with its container's name.
func (x *Extension) Logs(ctx context.Context, h sandboxer.Handle, opts sandboxer.LogOptions) (io.ReadCloser, error) {
	m, err := x.machine(h.Host)
	if err != nil {
		return nil, err
	}
	mem, _, err := recall(ctx, m, h)
	if err != nil {
		return nil, err
	}
	known := slices.ContainsFunc(mem.Services, func(s serviceMemory) bool { return s.Name == opts.Service })
	if opts.Service != "" && !known {
		return nil, unknownService(mem, opts.Service)
	}
	w := &watch{machine: m, id: h.SandboxID, memory: mem}
	byService, err := w.containers(ctx)
	if err != nil {
		return nil, err
	}
	var wanted []engine.ContainerDetails
	for _, s := range mem.Services {
		if opts.Service == "" || opts.Service == s.Name {
			wanted = append(wanted, byService[s.Name]...)
		}
	}
	eng, err := m.Engine(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	out, in := io.Pipe()
	merged := &merge{out: in, prefix: len(wanted) > 1}
	var all sync.WaitGroup
	for _, c := range wanted {
		logs, err := eng.Logs(ctx, c.ID, engine.LogOptions{Tail: opts.Tail, Follow: opts.Follow, Timestamps: opts.Timestamps})
		if err != nil {
			cancel()
			return nil, host.Classify(err)
		}
		all.Go(func() { defer logs.Close(); merged.copy(c.Name, logs) })
	}
	go func() { all.Wait(); cancel(); _ = in.Close() }()
	return &logReader{PipeReader: out, cancel: cancel}, nil
}

func unknownService(mem *memory, name string) error {
	names := make([]string, 0, len(mem.Services))
	for _, s := range mem.Services {
		names = append(names, s.Name)
	}
	return sandboxer.WithHint(fmt.Errorf("service %q: %w", name, sandboxer.ErrNotFound), "services are: %q", names)
}
