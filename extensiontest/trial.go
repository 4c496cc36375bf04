package extensiontest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A trial is one run of one check: the extension values it made and the
// sandboxes it may have to remove.
type trial struct {
	Harness
	values []sandboxer.Extension
	made   []sandboxer.Handle
}

var (
	errGaveUp     = errors.New("the caller gave up")
	errIgnoredEnd = errors.New("the end of its context was ignored")
)

// prompt is how soon after its context ended a call must have returned.
const prompt = 10 * time.Second

// call runs one method of the extension and gives up on it when it ignores
// the end of its context.
func call[T any](ctx context.Context, name string, method func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := method(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(prompt):
		var none T
		return none, fmt.Errorf("%s did not return within %v: %w", name, prompt, errIgnoredEnd)
	}
}

// value builds the extension as a new process would.
func (t *trial) value() (sandboxer.Extension, error) {
	ext, err := t.New()
	if err != nil {
		return nil, fmt.Errorf("harness: New: %w", err)
	}
	t.values = append(t.values, ext)
	return ext, nil
}

// request is Harness.Request for a sandbox of its own.
func (t *trial) request() sandboxer.ProvisionRequest { return t.filled(t.Request) }

func (t *trial) filled(req sandboxer.ProvisionRequest) sandboxer.ProvisionRequest {
	req.SandboxID, req.Generation = newID(), 1
	req.CreatedAt = time.Now().UTC().Truncate(time.Microsecond)
	req.ExpiresAt = req.CreatedAt.Add(time.Hour)
	return req
}

// newID draws an id of the form that Client gives to sandboxes.
func newID() string {
	return "t" + strings.ToLower(rand.Text())[:19]
}

// provision establishes req and checks that the handle names it.
func (t *trial) provision(ctx context.Context, ext sandboxer.Extension, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	t.made = append(t.made, byID(req))
	h, err := call(ctx, "Provision", func(ctx context.Context) (sandboxer.Handle, error) { return ext.Provision(ctx, req) })
	if err != nil {
		return h, fmt.Errorf("Provision: %w", err)
	}
	t.made = append(t.made, h)
	if h.SandboxID != req.SandboxID || h.Generation != req.Generation || h.Host != req.Host {
		return h, fmt.Errorf("Provision of %s, generation %d, on %s returned a handle of %s, generation %d, on %s",
			req.SandboxID, req.Generation, req.Host, h.SandboxID, h.Generation, h.Host)
	}
	if len(h.State) > 0 && !json.Valid(h.State) {
		return h, fmt.Errorf("Provision returned a handle whose state is not JSON: %q", h.State)
	}
	return h, nil
}

// establish provisions req and waits until it is ready.
func (t *trial) establish(ctx context.Context, ext sandboxer.Extension, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	h, err := t.provision(ctx, ext, req)
	if err != nil {
		return h, err
	}
	return h, t.ready(ctx, ext, h)
}

// standing gives a ready sandbox, for checks that begin with one.
func (t *trial) standing(ctx context.Context) (sandboxer.Extension, sandboxer.Handle, error) {
	ext, err := t.value()
	if err != nil {
		return nil, sandboxer.Handle{}, err
	}
	h, err := t.establish(ctx, ext, t.request())
	return ext, h, err
}

func (t *trial) ready(ctx context.Context, ext sandboxer.Extension, h sandboxer.Handle) error {
	_, err := call(ctx, "WaitReady", func(ctx context.Context) (sandboxer.Readiness, error) { return ext.WaitReady(ctx, h) })
	if err != nil {
		return fmt.Errorf("WaitReady: %w", err)
	}
	return nil
}

// gone requires that WaitReady knows nothing of h.
func (t *trial) gone(ctx context.Context, ext sandboxer.Extension, h sandboxer.Handle) error {
	if err := t.ready(ctx, ext, h); !errors.Is(err, sandboxer.ErrNotFound) {
		return fmt.Errorf("%s, want ErrNotFound", said(err, "WaitReady"))
	}
	return nil
}

// teardown calls Teardown and nothing else.
func teardown(ctx context.Context, ext sandboxer.Extension, h sandboxer.Handle) (sandboxer.Removal, error) {
	return call(ctx, "Teardown", func(ctx context.Context) (sandboxer.Removal, error) { return ext.Teardown(ctx, h) })
}

// remove requires that Teardown succeeds and that nothing is left.
func (t *trial) remove(ctx context.Context, ext sandboxer.Extension, h sandboxer.Handle) error {
	_, err := teardown(ctx, ext, h)
	if err != nil {
		return fmt.Errorf("Teardown: %w", err)
	}
	return t.nothing(ctx, h.SandboxID)
}

// prove is remove, and requires that Teardown says when it looked.
func (t *trial) prove(ctx context.Context, ext sandboxer.Extension, h sandboxer.Handle) error {
	removal, err := teardown(ctx, ext, h)
	switch {
	case err != nil:
		return fmt.Errorf("Teardown: %w", err)
	case len(removal.Residue) > 0:
		return fmt.Errorf("Teardown returned no error but the residue %v", removal.Residue)
	case removal.VerifiedAt.IsZero():
		return errors.New("Teardown returned no error but Removal.VerifiedAt is not set")
	}
	return t.nothing(ctx, h.SandboxID)
}

// nothing requires that the backend holds nothing of id.
func (t *trial) nothing(ctx context.Context, id string) error {
	left, err := t.holds(ctx, id)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("still on the backend: %s", strings.Join(left, ", "))
	}
	return err
}

// unchanged requires that the backend holds for id what it held before.
func (t *trial) unchanged(ctx context.Context, id string, before []string) error {
	after, err := t.holds(ctx, id)
	if err == nil && !slices.Equal(before, after) {
		err = fmt.Errorf("the backend held %s and now holds %s", list(before), list(after))
	}
	return err
}

// holds asks the backend itself, in a stable order.
func (t *trial) holds(ctx context.Context, id string) ([]string, error) {
	left, err := t.Leftovers(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("harness: Leftovers: %w", err)
	}
	return slices.Sorted(slices.Values(left)), nil
}

// end removes what the check left behind and closes the values. What cannot
// be removed is an error, so that nobody has to search for it.
func (t *trial) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
	defer cancel()
	var problems []error
	for _, h := range t.made {
		if t.nothing(ctx, h.SandboxID) == nil {
			continue
		}
		if ext, err := t.value(); err == nil {
			h.Generation = 0
			_, _ = teardown(ctx, ext, h)
		}
	}
	for _, h := range t.made {
		if err := t.nothing(ctx, h.SandboxID); err != nil {
			problems = append(problems, fmt.Errorf("after the check, sandbox %s: %w", h.SandboxID, err))
		}
	}
	for _, v := range t.values {
		if c, ok := v.(io.Closer); ok {
			problems = append(problems, c.Close())
		}
	}
	return errors.Join(problems...)
}

// byID is all that is known of a sandbox after a crash.
func byID(req sandboxer.ProvisionRequest) sandboxer.Handle {
	return sandboxer.Handle{SandboxID: req.SandboxID, Host: req.Host}
}

// said puts what a method returned into words.
func said(err error, method string) string {
	if err == nil {
		return method + " returned no error"
	}
	return err.Error()
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// moments are points in an operation that takes about as long as took: its
// start, and several in between.
func moments(took time.Duration) []time.Duration {
	return []time.Duration{0, took / 8, took / 4, took / 2, took * 3 / 4, took * 7 / 8}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
