// Package sandboxer establishes environments ("sandboxes") on machines you
// own, and takes them away again, provably.
//
// It owns where a sandbox runs, how it is established and for how long, on
// whose account and at what cost. It never runs tests, judges an application,
// runs agents or writes code: that belongs to the consumer.
//
// # The parts
//
// A [Profile] says what kind of sandbox is wanted. An [Extension] knows how to
// establish one on some kind of backend; the first is ext.compose-ssh in
// package compose. A [Store] keeps records and events across processes;
// package sqlstore is the usual one. A [Client] ties them together:
//
//	client, err := sandboxer.New(sandboxer.Config{Extensions: …, Profiles: …, Store: …})
//	sandbox, err := client.Create(ctx, sandboxer.CreateRequest{Profile: "profile.compose-e2e", …})
//	conn, err := client.Dial(ctx, sandbox.ID, "api", 8080)
//	_, err = client.Destroy(ctx, sandbox.ID)
//
// # What can be relied on
//
// The record of a sandbox is stored before its backend is touched, and the
// backend writes its own record before the first resource exists. After any
// crash, another process can finish the work from the id alone: Destroy is
// legal in every state, and [Client.Reconcile] finishes what was interrupted.
// A sandbox is [StateDestroyed] only after its backend was asked and held
// nothing; what could not be asked is unknown, never absent.
//
// Every change of a record is an [Event], written in the same transaction and
// numbered without gaps. Every sandbox names its [Consumer].
//
// The package starts no goroutine that outlives a call, except in [Forward],
// logs only to the logger it is given, and has no global state.
package sandboxer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Config configures a [Client].
type Config struct {
	// Extensions are the backends. At least one is required.
	Extensions []Extension
	// Manifests, if not nil, must match Extensions one to one; see [NewRegistry].
	Manifests []ExtensionInfo
	// Profiles that requests may name. Each is validated by [New].
	Profiles []Profile
	// Store keeps records and events. Required: sqlstore.Open for one that
	// outlives the process, [NewMemoryStore] for one that does not.
	Store Store
	// Secrets finds the values that profiles name under setup.secret_refs.
	// Without it such profiles are refused.
	Secrets SecretResolver
	// Sink receives events while [Client.KeepDelivering] runs, when
	// [Client.Deliver] is called and at [Client.Close]. Optional.
	Sink EventSink
	// Delivery says how events reach the sink.
	Delivery Delivery
	// Logger; nil is silent. Every line about a sandbox names it.
	Logger *slog.Logger
	// Tracer is told of operations and their stages. Optional.
	Tracer Tracer
}

// A Client establishes sandboxes. It is safe for concurrent use, and several
// processes may share a Store. Every error it returns is an [*Error].
type Client struct {
	registry *Registry
	profiles map[string]Profile
	store    Store
	secrets  SecretResolver
	sink     EventSink
	delivery Delivery
	recorded chan struct{} // holds a token when an event was recorded that KeepDelivering has not seen
	quiet    atomic.Int64  // Unix microseconds until which the sink wants to be left alone
	log      *slog.Logger
	tracer   Tracer
}

// New validates everything it can, reports all problems joined, and does no
// network I/O.
func New(cfg Config) (*Client, error) {
	c := &Client{
		profiles: map[string]Profile{}, store: cfg.Store, secrets: cfg.Secrets, log: cfg.Logger, tracer: cfg.Tracer,
		sink: cfg.Sink, delivery: cfg.Delivery.withDefaults(), recorded: make(chan struct{}, 1),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var problems []error
	if cfg.Store == nil {
		problems = append(problems, &FieldError{Field: "store", Reason: "is required: open one with sqlstore.Open, or NewMemoryStore for a store that ends with the process"})
	}
	if len(cfg.Extensions) == 0 {
		problems = append(problems, &FieldError{Field: "extensions", Reason: "is empty: give at least one, such as compose.New"})
	}
	registry, err := NewRegistry(cfg.Manifests, cfg.Extensions...)
	problems = append(problems, err)
	c.registry = registry
	for _, p := range cfg.Profiles {
		problems = append(problems, c.addProfile(p))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, &Error{Op: "configure", Err: err}
	}
	return c, nil
}

func (c *Client) addProfile(p Profile) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("%s: %w", p.ID, err)
	}
	if _, dup := c.profiles[p.ID]; dup {
		return fmt.Errorf("%s is given twice: %w", p.ID, ErrInvalid)
	}
	if c.registry != nil && p.Extension != "" {
		if _, err := c.registry.Lookup(p.Extension); err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
	}
	c.profiles[p.ID] = p.withDefaults()
	return nil
}

// Close delivers what is due to the sink for as long as [Delivery.Flush]
// allows, then closes the extensions and the store where they can be closed.
// No method may be called afterwards.
func (c *Client) Close() error {
	c.flush()
	var problems []error
	for _, ext := range c.registry.All() {
		if closer, ok := ext.(io.Closer); ok {
			problems = append(problems, closer.Close())
		}
	}
	if closer, ok := c.store.(io.Closer); ok {
		problems = append(problems, closer.Close())
	}
	return errors.Join(problems...)
}

// Registry returns the extensions the client works with.
func (c *Client) Registry() *Registry { return c.registry }

// Profiles returns the configured profiles, defaults filled in, ordered by id.
func (c *Client) Profiles() []Profile {
	out := make([]Profile, 0, len(c.profiles))
	for _, id := range slices.Sorted(maps.Keys(c.profiles)) {
		out = append(out, c.profiles[id])
	}
	return out
}

// Get returns what is recorded of a sandbox, or ErrNotFound. Nothing is
// contacted; see [Client.Inspect] for what is really there.
func (c *Client) Get(ctx context.Context, id string) (*Sandbox, error) {
	r, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, &Error{Op: "get", SandboxID: id, Err: err}
	}
	return &r.Sandbox, nil
}

// List returns the recorded sandboxes that match, oldest first.
func (c *Client) List(ctx context.Context, f Filter) ([]Sandbox, error) {
	records, err := c.store.List(ctx, f)
	if err != nil {
		return nil, &Error{Op: "list", Err: err}
	}
	out := make([]Sandbox, 0, len(records))
	for _, r := range records {
		out = append(out, r.Sandbox)
	}
	return out, nil
}

// Events returns the recorded events of a sandbox with a greater Seq, in
// order; an empty id means all sandboxes.
func (c *Client) Events(ctx context.Context, id string, after int64) ([]Event, error) {
	if id != "" {
		if _, err := c.store.Get(ctx, id); err != nil {
			return nil, &Error{Op: "events", SandboxID: id, Err: err}
		}
	}
	events, err := c.store.Events(ctx, id, after)
	if err != nil {
		return nil, &Error{Op: "events", SandboxID: id, Err: err}
	}
	return events, nil
}

// EventsAfter returns at most limit recorded events that come after a
// position, by time, of a project, or of all if it is empty.
func (c *Client) EventsAfter(ctx context.Context, after EventPosition, project string, limit int) ([]Event, error) {
	events, err := EventsAfter(ctx, c.store, after, project, limit)
	if err != nil {
		return nil, &Error{Op: "events", Err: err}
	}
	return events, nil
}

// Hosts probes every configured host, all at once, and reports them in the
// order of configuration. A host that cannot be used is in the list with the reason.
func (c *Client) Hosts(ctx context.Context) []HostStatus {
	var statuses []HostStatus
	var probes []func()
	for _, ext := range c.registry.All() {
		prober, canProbe := ext.(HostProber)
		for _, h := range ext.Info().Hosts {
			statuses = append(statuses, HostStatus{Host: h, Available: true})
			if !canProbe {
				continue
			}
			i := len(statuses) - 1
			probes = append(probes, func() {
				ctx, cancel := askBounded(ctx)
				defer cancel()
				status, err := prober.ProbeHost(ctx, h.Name)
				if err != nil {
					status = HostStatus{Host: h, Reason: err.Error(), Hint: Hint(err), Err: err}
				}
				statuses[i] = status
			})
		}
	}
	done := make(chan struct{})
	for _, probe := range probes {
		go func() { defer func() { done <- struct{}{} }(); probe() }()
	}
	for range probes {
		<-done
	}
	return statuses
}

// now is in UTC and in a precision that survives JSON and every store.
func (c *Client) now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// fail wraps err with what is known of r; nil stays nil.
func fail(op string, r *Record, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Err: err, Hint: Hint(err)}
	if r != nil {
		e.SandboxID, e.Extension, e.Host = r.Sandbox.ID, r.Sandbox.Extension, r.Sandbox.Host
	}
	var stage *StageError
	if errors.As(err, &stage) {
		e.Stage = stage.Stage
	}
	return e
}
