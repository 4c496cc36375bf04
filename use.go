package sandboxer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// Activate records that the consumer works in the sandbox. Repeating it is
// harmless; ErrState unless the sandbox is ready or active.
func (c *Client) Activate(ctx context.Context, id string) (*Sandbox, error) {
	return c.move(ctx, "activate", id, StateActive, ReasonActivated)
}

// Deactivate records that the consumer stopped working in the sandbox.
func (c *Client) Deactivate(ctx context.Context, id string) (*Sandbox, error) {
	return c.move(ctx, "deactivate", id, StateReady, ReasonDeactivated)
}

func (c *Client) move(ctx context.Context, op, id string, to State, reason Reason) (s *Sandbox, err error) {
	ctx, end := c.trace(ctx, op, slog.String("sandbox.id", id))
	defer func() { end(s, err) }()
	r, err := c.edit(ctx, id, func(r *Record) error {
		switch r.Sandbox.State {
		case to:
			return errUnchanged
		case StateReady, StateActive:
			return set(to, reason, "")(r)
		}
		return &TransitionError{From: r.Sandbox.State, To: to}
	})
	if err != nil {
		return nil, fail(op, orID(r, id), err)
	}
	return &r.Sandbox, nil
}

// ExtendTTL makes the sandbox live at least d from now. It never shortens a
// life; beyond MaxExpiresAt it is ErrLimit and changes nothing. The backend's
// lease is moved before the record, so the backend never reaps too early; if
// the record then cannot be changed, the lease stays where it is, and the
// sandbox ends when its record says, by Reap. ErrState for a sandbox that is
// being destroyed or is destroyed.
func (c *Client) ExtendTTL(ctx context.Context, id string, d time.Duration) (s *Sandbox, err error) {
	ctx, end := c.trace(ctx, "extend", slog.String("sandbox.id", id))
	defer func() { end(s, err) }()
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, &Error{Op: "extend", SandboxID: id, Err: err}
	}
	until := c.now().Add(d)
	if d <= 0 {
		return nil, fail("extend", r, &FieldError{Field: "ttl", Reason: "is not positive"})
	}
	if err := extendable(r, until); err != nil {
		return nil, fail("extend", r, err)
	}
	if !until.After(r.Sandbox.ExpiresAt) {
		return &r.Sandbox, nil
	}
	if err := c.renew(ctx, r, until); err != nil {
		return nil, fail("extend", r, err)
	}
	r, err = c.edit(ctx, id, func(r *Record) error {
		if err := extendable(r, until); err != nil {
			return err
		}
		if !until.After(r.Sandbox.ExpiresAt) {
			return errUnchanged
		}
		r.Sandbox.ExpiresAt, r.Sandbox.Reason = until, ReasonExtended
		return nil
	})
	if err != nil {
		return nil, fail("extend", orID(r, id), err)
	}
	return &r.Sandbox, nil
}

func extendable(r *Record, until time.Time) error {
	s := &r.Sandbox
	if s.State == StateDestroying || s.State == StateDestroyed {
		return fmt.Errorf("%w: it is %s", ErrState, s.State)
	}
	if until.After(s.MaxExpiresAt) {
		return WithHint(fmt.Errorf("%w: it may live until %s", ErrLimit, s.MaxExpiresAt.Format(time.RFC3339)),
			"ask for less, or raise max_ttl in %s for new sandboxes", s.Profile.ID)
	}
	return nil
}

// renew moves the lease of a sandbox that may have one.
func (c *Client) renew(ctx context.Context, r *Record, until time.Time) error {
	if r.Sandbox.Host == "" {
		return nil
	}
	ext, err := c.extensionOf(r)
	if err != nil {
		return err
	}
	keeper, ok := ext.(LeaseKeeper)
	if !ok {
		return nil
	}
	return keeper.Renew(ctx, r.Handle, until)
}

// Inspect is Get with Observed filled in from the backend. The record is not
// changed: that is Reconcile's work. A host that cannot be asked is
// Presence Unknown, not an error.
func (c *Client) Inspect(ctx context.Context, id string) (*Sandbox, error) {
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, &Error{Op: "inspect", SandboxID: id, Err: err}
	}
	o, err := c.observe(ctx, r)
	if err != nil {
		return nil, fail("inspect", r, err)
	}
	r.Sandbox.Observed = &o
	return &r.Sandbox, nil
}

// observe asks the backend; what it cannot tell is Unknown.
func (c *Client) observe(ctx context.Context, r *Record) (Observation, error) {
	o := Observation{Presence: Unknown, At: c.now()}
	if r.Sandbox.Host == "" {
		o.Presence, o.Detail = Absent, "no host was chosen yet"
		return o, nil
	}
	ext, err := c.extensionOf(r)
	if err != nil {
		o.Detail = err.Error()
		return o, nil
	}
	inspector, ok := ext.(Inspector)
	if !ok {
		o.Detail = fmt.Sprintf("%s cannot be asked", r.Sandbox.Extension)
		return o, nil
	}
	ctx, cancel := askBounded(ctx)
	defer cancel()
	return inspector.Inspect(ctx, r.Handle)
}

// Dial opens a connection to a port of a service of a sandbox. The address is
// resolved at each call, so it survives restarts inside the sandbox. Nothing
// is published on the host. ErrState unless the sandbox is ready, active,
// failed or lost; ErrNotFound for an unknown service; ErrUnsupported if the
// extension cannot dial.
func (c *Client) Dial(ctx context.Context, id, service string, port int) (net.Conn, error) {
	r, ext, err := c.usable(ctx, id)
	if err != nil {
		return nil, fail("dial", orID(r, id), err)
	}
	dialer, ok := ext.(Dialer)
	if !ok {
		return nil, fail("dial", r, fmt.Errorf("dialling: %w by %s", ErrUnsupported, r.Sandbox.Extension))
	}
	conn, err := dialer.Dial(ctx, r.Handle, service, port)
	return conn, fail("dial", r, err)
}

// Logs reads what services of a sandbox wrote. Close the reader. Errors are
// those of [Client.Dial].
func (c *Client) Logs(ctx context.Context, id string, opts LogOptions) (io.ReadCloser, error) {
	r, ext, err := c.usable(ctx, id)
	if err != nil {
		return nil, fail("logs", orID(r, id), err)
	}
	reader, ok := ext.(LogReader)
	if !ok {
		return nil, fail("logs", r, fmt.Errorf("logs: %w by %s", ErrUnsupported, r.Sandbox.Extension))
	}
	logs, err := reader.Logs(ctx, r.Handle, opts)
	return logs, fail("logs", r, err)
}

func (c *Client) usable(ctx context.Context, id string) (*Record, Extension, error) {
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	switch r.Sandbox.State {
	case StateRequested, StateProvisioning, StateDestroying, StateDestroyed:
		return r, nil, fmt.Errorf("%w: it is %s", ErrState, r.Sandbox.State)
	}
	ext, err := c.extensionOf(r)
	return r, ext, err
}

// orID makes an error about a record that could not be read still name its id.
func orID(r *Record, id string) *Record {
	if r == nil {
		return &Record{Sandbox: Sandbox{ID: id}}
	}
	return r
}
