package extensiontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// optional is a check of an interface that an extension need not have.
func optional[T any](kept func(context.Context, *trial, sandboxer.Extension, T) error) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		ext, err := t.value()
		if err != nil {
			return err
		}
		can, ok := ext.(T)
		if !ok {
			return notApplicable(fmt.Sprintf("the extension is no %v", reflect.TypeFor[T]()))
		}
		return kept(ctx, t, ext, can)
	}
}

func inspect(ctx context.Context, t *trial, ext sandboxer.Extension, inspector sandboxer.Inspector) error {
	unknown := byID(t.request())
	if err := observed(ctx, inspector, unknown, sandboxer.Absent); err != nil {
		return fmt.Errorf("of an unknown id: %w", err)
	}
	h, err := t.establish(ctx, ext, t.request())
	if err != nil {
		return err
	}
	if err := observed(ctx, inspector, h, sandboxer.Present); err != nil {
		return fmt.Errorf("of a ready sandbox: %w", err)
	}
	if err := t.remove(ctx, ext, h); err != nil {
		return err
	}
	if err := observed(ctx, inspector, h, sandboxer.Absent); err != nil {
		return fmt.Errorf("after a teardown: %w", err)
	}
	return nil
}

func observed(ctx context.Context, inspector sandboxer.Inspector, h sandboxer.Handle, want sandboxer.Presence) error {
	o, err := call(ctx, "Inspect", func(ctx context.Context) (sandboxer.Observation, error) { return inspector.Inspect(ctx, h) })
	switch {
	case err != nil:
		return fmt.Errorf("Inspect: %w", err)
	case o.Presence != want:
		return fmt.Errorf("Inspect says %s (%s), want %s", o.Presence, o.Detail, want)
	case o.At.IsZero():
		return errors.New("Inspect does not say when: Observation.At is not set")
	case want == sandboxer.Absent && o.Expired:
		return errors.New("Inspect says that the lease ended, which it did not")
	case want == sandboxer.Unknown && o.Detail == "":
		return errors.New("Inspect does not say why: Observation.Detail is empty")
	}
	return nil
}

func lists(ctx context.Context, t *trial, ext sandboxer.Extension, lister sandboxer.Lister) error {
	req := t.request()
	if _, err := t.establish(ctx, ext, req); err != nil {
		return err
	}
	found, err := find(ctx, lister, req)
	switch {
	case err != nil:
		return err
	case found == nil:
		return errors.New("List does not name a ready sandbox")
	case found.Handle.Host != req.Host || found.Handle.Generation != req.Generation:
		return fmt.Errorf("List names generation %d on %q, want generation %d on %q", found.Handle.Generation, found.Handle.Host, req.Generation, req.Host)
	case found.Profile != req.Profile.ID || found.Consumer != req.Consumer:
		return fmt.Errorf("List says that it is a %q of %v, want %q of %v", found.Profile, found.Consumer, req.Profile.ID, req.Consumer)
	case !found.ExpiresAt.Truncate(time.Second).Equal(req.ExpiresAt.Truncate(time.Second)):
		return fmt.Errorf("List says that it expires at %v, want %v", found.ExpiresAt, req.ExpiresAt)
	}
	if err := t.remove(ctx, ext, found.Handle); err != nil {
		return fmt.Errorf("the handle that List gave: %w", err)
	}
	if found, err = find(ctx, lister, req); err == nil && found != nil {
		err = errors.New("List still names a sandbox that was torn down")
	}
	return err
}

func find(ctx context.Context, lister sandboxer.Lister, req sandboxer.ProvisionRequest) (*sandboxer.Found, error) {
	all, err := call(ctx, "List", func(ctx context.Context) ([]sandboxer.Found, error) { return lister.List(ctx, req.Host) })
	if err != nil {
		return nil, fmt.Errorf("List: %w", err)
	}
	i := slices.IndexFunc(all, func(f sandboxer.Found) bool { return f.Handle.SandboxID == req.SandboxID })
	if i < 0 {
		return nil, nil
	}
	return &all[i], nil
}

func dials(ctx context.Context, t *trial, ext sandboxer.Extension, dialer sandboxer.Dialer) error {
	if t.Dial == nil {
		return notApplicable("Harness.Dial is not set")
	}
	h, err := t.establish(ctx, ext, t.request())
	if err != nil {
		return err
	}
	if err := t.talk(ctx, dialer, h); err != nil {
		return err
	}
	conn, err := dial(ctx, dialer, h, "no-such-service", t.Dial.Port)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, sandboxer.ErrNotFound) {
		return fmt.Errorf("a service that does not exist: %s, want ErrNotFound", said(err, "Dial"))
	}
	if err := t.remove(ctx, ext, h); err != nil {
		return err
	}
	if t.talk(ctx, dialer, h) == nil {
		return errors.New("a sandbox that was torn down still answers")
	}
	return nil
}

func dial(ctx context.Context, dialer sandboxer.Dialer, h sandboxer.Handle, service string, port int) (net.Conn, error) {
	return call(ctx, "Dial", func(ctx context.Context) (net.Conn, error) { return dialer.Dial(ctx, h, service, port) })
}

// talk opens a connection to the harness's target and lets it speak.
func (t *trial) talk(ctx context.Context, dialer sandboxer.Dialer, h sandboxer.Handle) error {
	conn, err := dial(ctx, dialer, h, t.Dial.Service, t.Dial.Port)
	if err != nil {
		return fmt.Errorf("Dial %s:%d: %w", t.Dial.Service, t.Dial.Port, err)
	}
	defer conn.Close()
	if t.Dial.Talk == nil {
		return nil
	}
	if err := t.Dial.Talk(conn); err != nil {
		return fmt.Errorf("%s:%d does not answer: %w", t.Dial.Service, t.Dial.Port, err)
	}
	return nil
}

func logs(ctx context.Context, t *trial, ext sandboxer.Extension, reader sandboxer.LogReader) error {
	h, err := t.establish(ctx, ext, t.request())
	if err != nil {
		return err
	}
	for _, follow := range []bool{false, true} {
		if err := readLogs(ctx, reader, h, follow); err != nil {
			return err
		}
	}
	return t.remove(ctx, ext, h)
}

// readLogs reads to the end, which a reader that follows reaches when its context ends.
func readLogs(ctx context.Context, reader sandboxer.LogReader, h sandboxer.Handle, follow bool) error {
	opts := sandboxer.LogOptions{Follow: follow}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	text, err := call(reading, "Logs", func(ctx context.Context) (io.ReadCloser, error) { return reader.Logs(ctx, h, opts) })
	if err != nil {
		return fmt.Errorf("Logs: %w", err)
	}
	if follow {
		defer time.AfterFunc(100*time.Millisecond, cancel).Stop()
	}
	_, err = call(reading, "reading Logs to the end", func(context.Context) (int64, error) { return io.Copy(io.Discard, text) })
	if err != nil && !follow || errors.Is(err, errIgnoredEnd) {
		return fmt.Errorf("Logs: %w", err)
	}
	return text.Close()
}

func renew(ctx context.Context, t *trial, ext sandboxer.Extension, keeper sandboxer.LeaseKeeper) error {
	req := t.request()
	h, err := t.establish(ctx, ext, req)
	if err != nil {
		return err
	}
	later := req.ExpiresAt.Add(time.Hour)
	for _, until := range []time.Time{later, req.ExpiresAt} {
		_, err := call(ctx, "Renew", func(ctx context.Context) (struct{}, error) { return struct{}{}, keeper.Renew(ctx, h, until) })
		if err != nil {
			return fmt.Errorf("Renew: %w", err)
		}
		if lease, known := t.lease(ctx, ext, req, h); known && lease.Before(later.Truncate(time.Second)) {
			return fmt.Errorf("the lease ends at %v after a Renew until %v and one until %v, want the later", lease, later, until)
		}
	}
	return t.remove(ctx, ext, h)
}

// lease reads when the backend itself would remove the sandbox.
func (t *trial) lease(ctx context.Context, ext sandboxer.Extension, req sandboxer.ProvisionRequest, h sandboxer.Handle) (time.Time, bool) {
	if inspector, ok := ext.(sandboxer.Inspector); ok {
		o, err := inspector.Inspect(ctx, h)
		return o.ExpiresAt, err == nil && !o.ExpiresAt.IsZero()
	}
	if lister, ok := ext.(sandboxer.Lister); ok {
		found, err := find(ctx, lister, req)
		if err == nil && found != nil {
			return found.ExpiresAt, true
		}
	}
	return time.Time{}, false
}

func estimateCost(ctx context.Context, t *trial, _ sandboxer.Extension, estimator sandboxer.CostEstimator) error {
	req := t.request()
	price := func() (sandboxer.Cost, error) {
		return call(ctx, "EstimateCost", func(ctx context.Context) (sandboxer.Cost, error) { return estimator.EstimateCost(ctx, req) })
	}
	first, firstErr := price()
	second, secondErr := price()
	switch {
	case first != second || (firstErr == nil) != (secondErr == nil):
		return fmt.Errorf("EstimateCost said %v (%v) and then %v (%v)", first, firstErr, second, secondErr)
	case firstErr == nil && (first.MicrosPerHour < 0 || len(first.Currency) != 3):
		return fmt.Errorf("EstimateCost said %v, want no less than nothing, in an ISO 4217 currency", first)
	}
	return t.nothing(ctx, req.SandboxID)
}

func admit(ctx context.Context, t *trial, _ sandboxer.Extension, admitter sandboxer.Admitter) error {
	req := t.request()
	host := req.Host
	req.Host = "" // admission comes before routing
	a, err := call(ctx, "Admit", func(ctx context.Context) (sandboxer.Admission, error) { return admitter.Admit(ctx, req) })
	switch {
	case err != nil:
		return fmt.Errorf("Admit: %w", err)
	case a.Verdict != sandboxer.Allow:
		return fmt.Errorf("Admit says %q to Harness.Request: %v", a.Verdict, a.Violations)
	}
	req.Host = host
	t.made = append(t.made, byID(req))
	return t.nothing(ctx, req.SandboxID)
}

func probeHost(ctx context.Context, t *trial, _ sandboxer.Extension, prober sandboxer.HostProber) error {
	status, err := probe(ctx, prober, t.Request.Host)
	switch {
	case err != nil:
		return fmt.Errorf("ProbeHost: %w", err)
	case !status.Available:
		return fmt.Errorf("ProbeHost says that %s is not available: %s", t.Request.Host, status.Reason)
	case status.Host.Name != t.Request.Host:
		return fmt.Errorf("ProbeHost of %s reports %q", t.Request.Host, status.Host.Name)
	case !slices.Contains(status.Isolation, t.Request.Profile.Isolation):
		return fmt.Errorf("ProbeHost reports the isolation levels %q, and Harness.Request needs %q", status.Isolation, t.Request.Profile.Isolation)
	}
	if _, err := probe(ctx, prober, "no-such-host"); err == nil {
		return errors.New("ProbeHost returned no error for a host that the extension does not have")
	}
	return nil
}

func probe(ctx context.Context, prober sandboxer.HostProber, host string) (sandboxer.HostStatus, error) {
	return call(ctx, "ProbeHost", func(ctx context.Context) (sandboxer.HostStatus, error) { return prober.ProbeHost(ctx, host) })
}

func hostUnreachable(ctx context.Context, t *trial) (err error) {
	if t.Disconnect == nil {
		return notApplicable("Harness.Disconnect is not set")
	}
	ext, h, err := t.standing(ctx)
	if err != nil {
		return err
	}
	reconnect, err := t.Disconnect(ctx)
	if err != nil {
		return fmt.Errorf("harness: Disconnect: %w", err)
	}
	broken := t.unreachable(ctx, ext, h)
	if err := reconnect(); err != nil {
		return fmt.Errorf("harness: reconnect: %w", err)
	}
	if broken != nil {
		return fmt.Errorf("while the host cannot be reached: %w", broken)
	}
	return t.remove(ctx, ext, h)
}

// unreachable requires the truth about h from an extension that cannot ask.
func (t *trial) unreachable(ctx context.Context, ext sandboxer.Extension, h sandboxer.Handle) error {
	if _, err := teardown(ctx, ext, h); !errors.Is(err, sandboxer.ErrUnavailable) {
		return fmt.Errorf("%s, want ErrUnavailable", said(err, "Teardown"))
	}
	if _, err := t.provision(ctx, ext, t.request()); !errors.Is(err, sandboxer.ErrUnavailable) {
		return fmt.Errorf("%s, want ErrUnavailable", said(err, "Provision"))
	}
	if inspector, ok := ext.(sandboxer.Inspector); ok {
		if err := observed(ctx, inspector, h, sandboxer.Unknown); err != nil {
			return err
		}
	}
	if lister, ok := ext.(sandboxer.Lister); ok {
		if _, err := find(ctx, lister, sandboxer.ProvisionRequest{Host: h.Host}); !errors.Is(err, sandboxer.ErrUnavailable) {
			return fmt.Errorf("%s, want ErrUnavailable", said(err, "List"))
		}
	}
	if prober, ok := ext.(sandboxer.HostProber); ok {
		if status, err := probe(ctx, prober, h.Host); err != nil || status.Available || status.Reason == "" {
			return fmt.Errorf("ProbeHost says available %v (%q) with error %v, want a reason and no error", status.Available, status.Reason, err)
		}
	}
	return nil
}
