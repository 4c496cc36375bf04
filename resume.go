package sandboxer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// existing answers a create whose key is already known; done is false if it is not.
func (c *Client) existing(ctx context.Context, p *prepared) (s *Sandbox, done bool, err error) {
	for {
		r, err := c.store.GetByKey(ctx, p.Consumer.Project, p.IdempotencyKey)
		if errors.Is(err, ErrNotFound) {
			return nil, false, nil
		}
		if err != nil {
			return nil, true, fail("create", nil, err)
		}
		if r.PayloadHash != p.payload {
			return nil, true, fail("create", r, WithHint(fmt.Errorf("%w: the idempotency key was used for another request", ErrConflict), "use a new key, or repeat the first request unchanged"))
		}
		switch state := r.Sandbox.State; {
		case state == StateReady || state == StateActive || state == StateLost:
			return &r.Sandbox, true, nil
		case state != StateRequested && state != StateProvisioning:
			return &r.Sandbox, true, fail("create", r, WithHint(fmt.Errorf("the sandbox of this idempotency key is %s (%s): %w", state, r.Sandbox.Reason, ErrState), "use a new key for a new sandbox"))
		case r.Operation.abandoned(c.now()):
			if err := cmp.Or(c.resumable(r), c.hasResolver(r.Sandbox.Profile)); err != nil {
				return &r.Sandbox, true, fail("create", r, err)
			}
			claimed, err := c.claim(ctx, r.Sandbox.ID)
			if err == nil {
				s, err = c.resume(ctx, claimed)
				return s, true, err
			}
			if !errors.Is(err, ErrConflict) {
				return &r.Sandbox, true, fail("create", r, err)
			}
		}
		if err := sleep(ctx, jitter(200*time.Millisecond)); err != nil {
			return &r.Sandbox, true, fail("create", r, err)
		}
	}
}

// resumable reports that every host of the route can be worked on from here.
func (c *Client) resumable(r *Record) error {
	hosts := r.Sandbox.Route.accepted()
	if r.Sandbox.Host != "" {
		hosts = append(hosts, Candidate{Extension: r.Sandbox.Extension, Host: r.Sandbox.Host})
	}
	for _, h := range hosts {
		if _, err := c.extensionAt(h.Extension, h.Host); err != nil {
			return err
		}
	}
	return nil
}

// claim takes over a create whose process is gone; ErrConflict if another was faster.
func (c *Client) claim(ctx context.Context, id string) (*Record, error) {
	return c.edit(ctx, id, func(r *Record) error {
		if !r.Operation.abandoned(c.now()) || r.Sandbox.State != StateRequested && r.Sandbox.State != StateProvisioning {
			return fmt.Errorf("%w: another process resumed it", ErrConflict)
		}
		kind := "create"
		if r.Operation != nil {
			kind = r.Operation.Kind
		}
		r.Operation = c.newOperation(kind, r.Sandbox.Profile.workBound())
		r.Sandbox.Reason = ReasonResumed
		return nil
	})
}

// resume continues a claimed create; the extension adopts what exists.
func (c *Client) resume(ctx context.Context, r *Record) (*Sandbox, error) {
	left := r.Sandbox.Route.accepted()
	i := slices.IndexFunc(left, func(c Candidate) bool { return c.Host == r.Sandbox.Host })
	if i < 0 && r.Sandbox.Host != "" { // that host was given up, and may not be clean yet
		if _, err := c.removeBounded(ctx, r); err != nil {
			r, _, err = c.clean(ctx, c.registry.byHost[r.Sandbox.Host], r, err, false)
			return &r.Sandbox, fail("create", r, err)
		}
	}
	secrets, err := c.resolveSecrets(ctx, secretRequests(r.Sandbox.Profile, r.Sandbox.ID, r.Sandbox.Consumer))
	if err != nil {
		r, _, err = c.clean(ctx, c.registry.byHost[r.Sandbox.Host], r, err, false)
		return &r.Sandbox, fail("create", r, err)
	}
	left = left[max(i, 0):]
	return c.establish(ctx, "create", r, secrets, left)
}
