package compose

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/host"
)

const (
	// settled is how long a service without a health check must have run to
	// count as up: compose calls one that dies after two seconds up as well.
	settled = time.Second
	// crashLoop is the number of restarts after which a service is given up.
	crashLoop = 3
	// pollAtLeast is how often services are looked at when no event says to.
	pollAtLeast = 500 * time.Millisecond
)

// WaitReady implements [sandboxer.Extension]. It never asks compose: its
// --wait fails good one-shots and passes crash loops. A service is ready when
// every replica is healthy, or, without a health check, has run for a second
// without restarting; a one-shot when it ended with 0, and so is any other
// that the file does not restart always.
func (x *Extension) WaitReady(ctx context.Context, h sandboxer.Handle) (_ sandboxer.Readiness, err error) {
	defer func() { err = withCause(ctx, err) }()
	m, err := x.machine(h.Host)
	if err != nil {
		return sandboxer.Readiness{}, err
	}
	mem, sight, err := recall(ctx, m, h)
	if err != nil {
		return sandboxer.Readiness{}, err
	}
	w := &watch{machine: m, id: h.SandboxID, memory: mem}
	looking, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := make(chan error, 1)
	var p *posture
	go func() {
		var err error
		p, err = w.lookOut(looking)
		seen <- err
	}()
	services, err := w.untilReady(ctx)
	if err != nil {
		cancel()
		<-seen
		return sandboxer.Readiness{}, err
	}
	if err := <-seen; err != nil {
		return sandboxer.Readiness{}, err
	}
	if err := w.untilExposed(ctx); err != nil {
		return sandboxer.Readiness{}, err
	}
	controls, err := w.controls(ctx, p)
	if err != nil {
		return sandboxer.Readiness{}, err
	}
	return sandboxer.Readiness{Controls: controls, Reachability: sandboxer.Reachability{
		Address: x.configs[h.Host].Address, Project: project(h.SandboxID),
		Workdir: sight.Root + "/sb/" + h.SandboxID + "/src", Services: services,
	}}, nil
}

// recall reads what was placed on the host for the sandbox. The host's copy
// counts: the handle may be from before a crash.
func recall(ctx context.Context, m *host.Machine, h sandboxer.Handle) (*memory, *host.Sight, error) {
	sight, err := m.Look(ctx, h.SandboxID)
	if err != nil {
		return nil, nil, err
	}
	if !sight.Present || len(sight.Plan) == 0 {
		return nil, nil, fmt.Errorf("sandbox %s on %s: %w", h.SandboxID, h.Host, sandboxer.ErrNotFound)
	}
	mem := new(memory)
	if err := json.Unmarshal(sight.Plan, mem); err != nil {
		return nil, nil, fmt.Errorf("the host's record of %s: %w", h.SandboxID, err)
	}
	return mem, sight, nil
}

// A watch looks at the containers of one sandbox.
type watch struct {
	machine *host.Machine
	id      string
	memory  *memory
}

// untilReady looks until every service is ready, one failed for good, or ctx ended.
func (w *watch) untilReady(ctx context.Context) ([]sandboxer.Service, error) {
	wake, stop, err := w.events(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	var last *sandboxer.NotReadyError
	for {
		services, waiting, err := w.look(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, w.timedOut(ctx, last)
		case err != nil:
			return nil, err
		case waiting == nil:
			return services, nil
		}
		if last == nil || *last != *waiting {
			sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "ready", Message: fmt.Sprintf("waiting for %s: %s", waiting.Service, waiting.State)})
		}
		last = waiting
		select {
		case <-wake:
		case <-time.After(pollAtLeast):
		case <-ctx.Done():
			return nil, w.timedOut(ctx, last)
		}
	}
}

// timedOut says which service kept the sandbox from being ready when ctx ended.
func (w *watch) timedOut(ctx context.Context, last *sandboxer.NotReadyError) error {
	if last == nil || errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Cause(ctx)
	}
	last.TimedOut = true
	w.addLog(context.WithoutCancel(ctx), last)
	return fmt.Errorf("%w: %w", last, context.Cause(ctx))
}

// events wakes at every event of the sandbox's containers. The stream may
// break; then the regular look is all there is.
func (w *watch) events(ctx context.Context) (<-chan struct{}, context.CancelFunc, error) {
	eng, err := w.machine.Engine(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	wake, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		for _, err := range eng.Events(ctx, engine.EventFilter{Labels: []string{host.LabelID + "=" + w.id}, Kinds: []engine.Kind{engine.KindContainer}}) {
			if err != nil {
				return
			}
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	return wake, func() { cancel(); <-done }, nil
}

// look inspects every container once. waiting is the first service that is
// not ready yet, nil when all are; a service that failed for good is an error.
func (w *watch) look(ctx context.Context) (services []sandboxer.Service, waiting *sandboxer.NotReadyError, err error) {
	byService, err := w.containers(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range w.memory.Services {
		seen := sandboxer.Service{Name: s.Name, Ports: s.Ports}
		up := 0
		for _, c := range byService[s.Name] {
			state, verdict := judge(s, c)
			seen.Containers, seen.State = append(seen.Containers, c.Name), state
			switch verdict {
			case failed:
				e := &sandboxer.NotReadyError{Service: s.Name, State: state}
				w.addLog(ctx, e)
				return nil, nil, e
			case ready:
				up++
			case pending:
				waiting = cmp.Or(waiting, &sandboxer.NotReadyError{Service: s.Name, State: state})
			}
		}
		if missing := s.Replicas - up; missing > 0 && waiting == nil {
			waiting = &sandboxer.NotReadyError{Service: s.Name, State: fmt.Sprintf("missing %d of %d containers", missing, s.Replicas)}
		}
		services = append(services, seen)
	}
	return services, waiting, nil
}

// containers inspects the sandbox's containers, by service, in order of name.
func (w *watch) containers(ctx context.Context) (map[string][]engine.ContainerDetails, error) {
	eng, err := w.machine.Engine(ctx)
	if err != nil {
		return nil, err
	}
	list, err := eng.Containers(ctx, host.LabelID+"="+w.id)
	if err != nil {
		return nil, host.Classify(err)
	}
	slices.SortFunc(list, func(a, b engine.Container) int { return strings.Compare(a.Name, b.Name) })
	out := map[string][]engine.ContainerDetails{}
	for _, c := range list {
		service := c.Labels[composeService]
		if service == "" || c.Labels["com.docker.compose.oneoff"] == "True" {
			continue
		}
		details, err := eng.InspectContainer(ctx, c.ID)
		if engine.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, host.Classify(err)
		}
		out[service] = append(out[service], details)
	}
	return out, nil
}

// composeService is the label by which compose says what a container is of.
const composeService = "com.docker.compose.service"

type verdict int

const (
	pending verdict = iota
	ready
	failed
)

// judge says what a container is doing and what that means for its service.
func judge(s serviceMemory, c engine.ContainerDetails) (state string, v verdict) {
	restarts := ""
	if c.RestartCount > 0 {
		restarts = fmt.Sprintf(" after %d restarts", c.RestartCount)
	}
	switch st := c.State; {
	case st.OOMKilled && !st.Running:
		return "out of memory" + restarts, failed
	case c.RestartCount >= crashLoop:
		return fmt.Sprintf("crashing: exit code %d%s", st.ExitCode, restarts), failed
	case st.Status == "exited" && st.ExitCode == 0 && (s.OneShot || !s.Restarts):
		return "completed", ready
	case st.Status == "exited" && st.ExitCode == 0:
		return "ended with code 0, though the file restarts it always", failed
	case st.Status == "exited" && !restartsOnFailure(c), st.Status == "dead":
		return fmt.Sprintf("exited with code %d%s", st.ExitCode, restarts), failed
	case st.Status == "created" && st.Error != "":
		return "not started: " + st.Error, failed
	case st.Status != "running":
		return st.Status + restarts, pending
	case s.OneShot:
		return "running", pending
	case st.Health.Status == "unhealthy":
		return "unhealthy: " + orUnsaid(lastLine(st.Health.Output)), failed
	case st.Health.Status == "healthy":
		return "healthy", ready
	case st.Health.Status != "":
		return "running, health " + st.Health.Status, pending
	case time.Since(st.StartedAt) < settled:
		return "just started" + restarts, pending
	}
	return "running" + restarts, ready
}

func restartsOnFailure(c engine.ContainerDetails) bool {
	return c.RestartPolicy.Name == "on-failure" && (c.RestartPolicy.MaximumRetryCount == 0 || c.RestartCount < c.RestartPolicy.MaximumRetryCount)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func orUnsaid(s string) string { return cmp.Or(s, "its check says nothing") }

// logLines is how much of a failing service's log an error carries.
const logLines = 50

// addLog fetches the end of the service's log; without one the state has to do.
func (w *watch) addLog(ctx context.Context, e *sandboxer.NotReadyError) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	byService, err := w.containers(ctx)
	if err != nil {
		return
	}
	eng, err := w.machine.Engine(ctx)
	if err != nil {
		return
	}
	var b bytes.Buffer
	for _, c := range byService[e.Service] {
		if logs, err := eng.Logs(ctx, c.ID, engine.LogOptions{Tail: logLines}); err == nil {
			b.Write(wholeLines(logs, 16<<10))
			_ = logs.Close()
		}
	}
	e.Log = b.String()
}

// wholeLines reads up to the last line that ends within limit: half a secret
// would not be known as one.
func wholeLines(r io.Reader, limit int64) []byte {
	text, _ := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(text)) > limit {
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	return text
}

// untilExposed waits until every port that the profile relies on accepts a connection.
func (w *watch) untilExposed(ctx context.Context) error {
	for _, e := range w.memory.Expose {
		for {
			conn, err := w.machine.Dial(ctx, w.id, e.Service, uint16(e.Port))
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-time.After(pollAtLeast):
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", &sandboxer.NotReadyError{Service: e.Service, State: fmt.Sprintf("not accepting connections on port %d: %v", e.Port, err), TimedOut: true}, context.Cause(ctx))
			}
		}
	}
	return nil
}

// explain looks for the service behind a failed start: compose only says that
// one did not start.
func (p *provisioning) explain(ctx context.Context, mem *memory, cause error) error {
	w := &watch{machine: p.Machine, id: p.req.SandboxID, memory: mem}
	_, _, err := w.look(ctx)
	var notReady *sandboxer.NotReadyError
	if errors.As(err, &notReady) {
		return fmt.Errorf("%w (%w)", notReady, cause)
	}
	return cause
}

// engineSubnets lists the subnets that the host's engine uses already.
func (p *provisioning) engineSubnets(ctx context.Context) ([]netip.Prefix, error) {
	eng, err := p.Engine(ctx)
	if err != nil {
		return nil, err
	}
	subnets, err := eng.Subnets(ctx)
	return subnets, host.Classify(err)
}
