package sandboxer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Destroy removes a sandbox and proves it absent. It is legal in every state;
// an already destroyed sandbox is not an error. A create or recreate that is
// under way loses the sandbox and removes what it made.
//
// With an error the sandbox stays destroying: ErrResidue lists what is left,
// ErrUnavailable says that the host could not be asked. Calling again, from
// any process, continues.
func (c *Client) Destroy(ctx context.Context, id string) (*Sandbox, error) {
	return c.destroy(ctx, id, ReasonConsumerRequest, "")
}

func (c *Client) destroy(ctx context.Context, id string, reason Reason, message string) (s *Sandbox, err error) {
	ctx, end := c.trace(ctx, "destroy", slog.String("sandbox.id", id), slog.String("reason", string(reason)))
	defer func() { end(s, err) }()
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, &Error{Op: "destroy", SandboxID: id, Err: err}
	}
	if r.Sandbox.State == StateDestroyed {
		return &r.Sandbox, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Sandbox.Profile.Bounds.Teardown.Std(), &boundError{"teardown", r.Sandbox.Profile.Bounds.Teardown})
	defer cancel()
	r, err = c.teardown(ctx, r, reason, message)
	return sandboxOf(r), fail("destroy", orID(r, id), err)
}

// sandboxOf is nil for a record that could not be read.
func sandboxOf(r *Record) *Sandbox {
	if r == nil {
		return nil
	}
	return &r.Sandbox
}

// teardown takes r over, removes it from its backend and records the proof.
func (c *Client) teardown(ctx context.Context, r *Record, reason Reason, message string) (*Record, error) {
	id := r.Sandbox.ID
	r, err := c.edit(ctx, id, func(r *Record) error {
		if r.Sandbox.State == StateDestroyed {
			return errUnchanged
		}
		r.Operation = c.newOperation("destroy", r.Sandbox.Profile.Bounds.Teardown.Std()+time.Minute)
		return set(StateDestroying, reason, message)(r)
	})
	if err != nil || r.Sandbox.State == StateDestroyed {
		return r, err
	}
	removal, cause := c.remove(ctx, r)
	return c.conclude(ctx, r, removal, cause)
}

// remove asks the backend to remove r; a sandbox that never had a host has nothing to remove.
func (c *Client) remove(ctx context.Context, r *Record) (Removal, error) {
	if r.Sandbox.Host == "" {
		return Removal{VerifiedAt: c.now()}, nil
	}
	ext, err := c.extensionOf(r)
	if err != nil {
		return Removal{}, err
	}
	h := r.Handle
	h.Generation = 0 // a destroy means every generation
	return ext.Teardown(ctx, h)
}

func (c *Client) extensionOf(r *Record) (Extension, error) {
	return c.extensionAt(r.Sandbox.Extension, r.Sandbox.Host)
}

// extensionAt finds who can look at a host; without one the host is
// unavailable from here, whatever others can do.
func (c *Client) extensionAt(id, host string) (Extension, error) {
	ext, err := c.registry.Lookup(id)
	if at, ok := c.registry.byHost[host]; err == nil && (!ok || at.Info().ID != id) {
		err = fmt.Errorf("host %s: %w", host, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: this client cannot look at the sandbox's backend: %w", ErrUnavailable, err)
	}
	return ext, nil
}

// conclude records what a teardown proved, or what it left. Any destroyer
// that has the proof may record the end.
func (c *Client) conclude(ctx context.Context, r *Record, removal Removal, cause error) (*Record, error) {
	stopped := stoppedBy(ctx, cause)
	ctx, cancel := detached(ctx, minute)
	defer cancel()
	token := r.Operation.Token
	done, err := c.edit(ctx, r.Sandbox.ID, func(r *Record) error {
		switch {
		case r.Sandbox.State == StateDestroyed:
			return errUnchanged
		case r.Sandbox.State != StateDestroying:
			return fmt.Errorf("%w: another process took the sandbox over; it is %s", ErrConflict, r.Sandbox.State)
		case cause != nil && (r.Operation == nil || r.Operation.Token != token):
			return errUnchanged // whoever took over records its own outcome
		}
		r.Operation, r.Sandbox.Removal = nil, &removal
		if cause == nil {
			r.Sandbox.EndedAt = c.now()
			return set(StateDestroyed, ReasonVerified, "")(r)
		}
		var residue *ResidueError
		if errors.As(cause, &residue) {
			r.Sandbox.Removal.Residue = residue.Residue
		}
		r.Sandbox.blame(cause)
		return set(StateDestroying, stopped, r.Sandbox.Message)(r)
	})
	if err != nil {
		return cmp.Or(done, r), errors.Join(cause, err)
	}
	if done.Sandbox.State == StateDestroyed {
		return done, nil
	}
	return done, cause
}

// stoppedBy says what kept a teardown from its proof.
func stoppedBy(ctx context.Context, cause error) Reason {
	var bound *boundError
	switch {
	case ctx.Err() != nil && !errors.As(context.Cause(ctx), &bound):
		return ReasonCanceled
	case errors.Is(cause, ErrUnavailable):
		return ReasonHostUnavailable
	}
	return ReasonResidue
}

// Recreate tears a sandbox down and establishes it again on the same host,
// under the same id, with Generation one higher and the same expiry. What
// admission refuses is refused before anything is torn down, and secrets are
// asked for anew before that.
//
// It is ErrState for a sandbox that is being destroyed, is destroyed or has
// expired, and ErrConflict while another process establishes it or when a
// Destroy comes in between. Other errors are those of Create and Destroy.
func (c *Client) Recreate(ctx context.Context, id string) (s *Sandbox, err error) {
	ctx, end := c.trace(ctx, "recreate", slog.String("sandbox.id", id))
	defer func() { end(s, err) }()
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, &Error{Op: "recreate", SandboxID: id, Err: err}
	}
	if err := c.recreatable(r); err != nil {
		return &r.Sandbox, fail("recreate", r, err)
	}
	admission, err := c.readmit(ctx, r)
	if err != nil {
		return &r.Sandbox, fail("recreate", r, err)
	}
	secrets, err := c.resolveSecrets(ctx, secretRequests(r.Sandbox.Profile, id, r.Sandbox.Consumer))
	if err != nil {
		return &r.Sandbox, fail("recreate", r, err)
	}
	r, err = c.edit(ctx, id, func(r *Record) error {
		if err := c.recreatable(r); err != nil {
			return err
		}
		r.Operation = c.newOperation("recreate", r.Sandbox.Profile.workBound())
		return set(StateDestroying, ReasonRecreate, "")(r)
	})
	if err != nil {
		return sandboxOf(r), fail("recreate", orID(r, id), err)
	}
	removal, cause := c.removeBounded(ctx, r)
	if cause != nil {
		return c.stopRecreate(ctx, r, removal, cause)
	}
	next, err := c.edit(ctx, id, owned(r.Operation.Token, func(r *Record) error {
		s := &r.Sandbox
		s.Generation++
		s.Reachability, s.Controls, s.Failure, s.ReadyAt = nil, nil, nil, time.Time{}
		s.Removal, s.Admission = &removal, &admission
		r.Handle = Handle{SandboxID: s.ID, Generation: s.Generation, Host: s.Host}
		return set(StateRequested, ReasonRecreate, "")(r)
	}))
	if err != nil {
		return c.stopRecreate(ctx, r, removal, err)
	}
	return c.establish(ctx, "recreate", next, secrets, []Candidate{{Extension: next.Sandbox.Extension, Host: next.Sandbox.Host}})
}

// stopRecreate ends a recreate between the old generation and the new one.
func (c *Client) stopRecreate(ctx context.Context, r *Record, removal Removal, cause error) (*Sandbox, error) {
	r, err := c.conclude(ctx, r, removal, cause)
	if err == nil {
		err = fmt.Errorf("%w: another process destroyed it", ErrConflict)
	}
	return &r.Sandbox, fail("recreate", r, err)
}

func (c *Client) removeBounded(ctx context.Context, r *Record) (Removal, error) {
	bound := r.Sandbox.Profile.Bounds.Teardown
	ctx, cancel := context.WithTimeoutCause(ctx, bound.Std(), &boundError{"teardown", bound})
	defer cancel()
	return c.remove(ctx, r)
}

func (c *Client) recreatable(r *Record) error {
	switch s := &r.Sandbox; {
	case s.State == StateDestroying || s.State == StateDestroyed || s.Host == "":
		return WithHint(fmt.Errorf("%w: it is %s", ErrState, s.State), "create a new sandbox")
	case s.Expired(c.now()):
		return WithHint(fmt.Errorf("%w: it expired at %s", ErrState, s.ExpiresAt.Format(time.RFC3339)), "create a new sandbox")
	case r.Operation != nil && !r.Operation.abandoned(c.now()):
		return fmt.Errorf("%w: another process is at work on it (%s)", ErrConflict, r.Operation.Kind)
	}
	return nil
}

func (c *Client) readmit(ctx context.Context, r *Record) (Admission, error) {
	ext, err := c.extensionOf(r)
	if err = cmp.Or(err, c.hasResolver(r.Sandbox.Profile)); err != nil {
		return Admission{}, err
	}
	s := r.Sandbox
	admission, err := c.admit(ctx, ext, ProvisionRequest{
		SandboxID: s.ID, Generation: s.Generation + 1, Host: s.Host, Profile: s.Profile, Inputs: s.Inputs,
		Consumer: s.Consumer, Labels: s.Labels, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt,
	})
	if err == nil && admission.Verdict == Deny {
		err = &AdmissionError{Admission: admission}
	}
	return admission, err
}
