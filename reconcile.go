package sandboxer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// Reap destroys every sandbox whose time is over and returns those that ended.
// Hosts honour leases by themselves; Reap makes the records follow. Call it
// on a timer. One that cannot be destroyed does not keep the others from it;
// the errors are joined.
func (c *Client) Reap(ctx context.Context) (_ []Sandbox, err error) {
	ctx, end := c.trace(ctx, "reap")
	defer func() { end(nil, err) }()
	records, err := c.store.List(ctx, Filter{States: living()})
	if err != nil {
		return nil, &Error{Op: "reap", Err: err}
	}
	var ended []Sandbox
	var problems []error
	for _, r := range records {
		if !r.Sandbox.Expired(c.now()) {
			continue
		}
		s, err := c.destroy(ctx, r.Sandbox.ID, ReasonExpired, "")
		if err != nil {
			problems = append(problems, err)
			continue
		}
		ended = append(ended, *s)
	}
	return ended, errors.Join(problems...)
}

func living() []State {
	return slices.DeleteFunc(States(), State.Terminal)
}

// ReconcileOptions say how far Reconcile goes.
type ReconcileOptions struct {
	// Adopt makes a record of every sandbox that a host holds and the store
	// does not know, so that it can be destroyed or used again. Without it
	// such sandboxes are only reported.
	Adopt bool
}

// A Report is what Reconcile did and found. Each sandbox stands in at most one list.
type Report struct {
	Destroyed  []string `json:"destroyed"`   // proved absent now: interrupted, expired, or a straggler of a destroyed one
	Lost       []string `json:"lost"`        // recorded as usable, but gone or unreachable
	Returned   []string `json:"returned"`    // was lost and is there again
	Adopted    []string `json:"adopted"`     // unknown to the store, now recorded
	Orphans    []Found  `json:"orphans"`     // unknown to the store and left alone
	InProgress []string `json:"in_progress"` // another process is at work on it
	Stuck      []string `json:"stuck"`       // should be gone, and could not be proved absent
	Unknown    []string `json:"unknown"`     // hosts that could not be asked
}

// Reconcile makes records and backends agree: it finishes what dead processes
// began, notices what vanished or came back, and finds what no record knows.
// It is safe to run at any time, in several processes at once. Problems with
// single sandboxes are in the report and joined in the error.
func (c *Client) Reconcile(ctx context.Context, opts ReconcileOptions) (_ *Report, err error) {
	ctx, end := c.trace(ctx, "reconcile")
	defer func() { end(nil, err) }()
	records, err := c.store.List(ctx, Filter{States: living()})
	if err != nil {
		return nil, &Error{Op: "reconcile", Err: err}
	}
	rec := &reconciler{Client: c, opts: opts, report: &Report{
		Destroyed: []string{}, Lost: []string{}, Returned: []string{}, Adopted: []string{}, Orphans: []Found{}, InProgress: []string{}, Stuck: []string{}, Unknown: []string{},
	}}
	for _, r := range records {
		rec.record(ctx, r)
	}
	for _, ext := range c.registry.All() {
		if lister, ok := ext.(Lister); ok {
			for _, h := range ext.Info().Hosts {
				rec.host(ctx, ext, lister, h)
			}
		}
	}
	return rec.report, errors.Join(rec.problems...)
}

type reconciler struct {
	*Client
	opts     ReconcileOptions
	report   *Report
	problems []error
}

// record brings one record and its backend together.
func (rec *reconciler) record(ctx context.Context, r *Record) {
	s := &r.Sandbox
	working := r.Operation != nil && !r.Operation.abandoned(rec.now())
	switch {
	case working && !s.Expired(rec.now()):
		rec.report.InProgress = append(rec.report.InProgress, s.ID)
	case s.Expired(rec.now()):
		rec.end(ctx, s.ID, ReasonExpired)
	case s.State == StateRequested, s.State == StateProvisioning:
		rec.end(ctx, s.ID, ReasonInterrupted)
	case s.State == StateDestroying:
		rec.end(ctx, s.ID, s.Reason)
	case s.State == StateFailed && r.Operation != nil:
		rec.end(ctx, s.ID, ReasonInterrupted)
	case s.State == StateReady, s.State == StateActive, s.State == StateLost:
		rec.look(ctx, r)
	}
}

func (rec *reconciler) end(ctx context.Context, id string, reason Reason) {
	if _, err := rec.destroy(ctx, id, reason, ""); err != nil {
		rec.report.Stuck = append(rec.report.Stuck, id)
		rec.problems = append(rec.problems, err)
		return
	}
	rec.report.Destroyed = append(rec.report.Destroyed, id)
}

// look compares a usable or lost record with what the backend holds.
func (rec *reconciler) look(ctx context.Context, r *Record) {
	o, err := rec.observe(ctx, r)
	if err != nil {
		rec.problems = append(rec.problems, fail("reconcile", r, err))
		return
	}
	switch {
	case o.Presence == Absent && o.Expired:
		rec.end(ctx, r.Sandbox.ID, ReasonExpired)
	case o.Presence == Absent:
		rec.lose(ctx, r, ReasonVanished, orElse(o.Detail, "the host holds nothing of it"))
	case o.Presence == Unknown:
		rec.lose(ctx, r, ReasonHostUnavailable, o.Detail)
	case r.Sandbox.State == StateLost:
		rec.regain(ctx, r)
	}
}

func (rec *reconciler) lose(ctx context.Context, r *Record, reason Reason, message string) {
	now, err := rec.edit(ctx, r.Sandbox.ID, func(now *Record) error {
		if now.Revision != r.Revision || now.Sandbox.State == StateLost && now.Sandbox.Reason == reason {
			return errUnchanged
		}
		return set(StateLost, reason, message)(now)
	})
	if err == nil && now.Sandbox.State == StateLost {
		rec.report.Lost = append(rec.report.Lost, r.Sandbox.ID)
	}
	rec.problem("reconcile", r, err)
}

// regain returns a lost sandbox to ready; whether somebody works in it is for its consumer to say again.
func (rec *reconciler) regain(ctx context.Context, r *Record) {
	now, err := rec.edit(ctx, r.Sandbox.ID, func(now *Record) error {
		if now.Revision != r.Revision {
			return errUnchanged
		}
		return set(StateReady, ReasonReturned, "")(now)
	})
	if err == nil && now.Sandbox.State == StateReady {
		rec.report.Returned = append(rec.report.Returned, r.Sandbox.ID)
	}
	rec.problem("reconcile", r, err)
}

func (rec *reconciler) problem(op string, r *Record, err error) {
	if err != nil {
		rec.problems = append(rec.problems, fail(op, r, err))
	}
}

// host finds what a host holds beyond the records.
func (rec *reconciler) host(ctx context.Context, ext Extension, lister Lister, h Host) {
	found, err := listBounded(ctx, lister, h.Name)
	if err != nil {
		rec.report.Unknown = append(rec.report.Unknown, h.Name)
		rec.problems = append(rec.problems, &Error{Op: "reconcile", Extension: ext.Info().ID, Host: h.Name, Err: err, Hint: Hint(err)})
		return
	}
	for _, f := range found {
		r, err := rec.store.Get(ctx, f.Handle.SandboxID)
		switch {
		case errors.Is(err, ErrNotFound) && rec.opts.Adopt:
			rec.adopt(ctx, ext, f)
		case errors.Is(err, ErrNotFound):
			rec.report.Orphans = append(rec.report.Orphans, f)
		case err != nil:
			rec.problem("reconcile", orID(r, f.Handle.SandboxID), err)
		case r.Sandbox.State == StateDestroyed:
			rec.straggler(ctx, ext, r, f)
		}
	}
}

func listBounded(ctx context.Context, lister Lister, host string) ([]Found, error) {
	ctx, cancel := askBounded(ctx)
	defer cancel()
	return lister.List(ctx, host)
}

// straggler removes what a create that lost its record left after the end.
func (rec *reconciler) straggler(ctx context.Context, ext Extension, r *Record, f Found) {
	ctx, cancel := detached(ctx, r.Sandbox.Profile.Bounds.Teardown)
	defer cancel()
	h := Handle{SandboxID: f.Handle.SandboxID, Host: f.Handle.Host}
	if _, err := ext.Teardown(ctx, h); err != nil {
		rec.report.Stuck = append(rec.report.Stuck, h.SandboxID)
		rec.problem("reconcile", r, err)
		return
	}
	rec.report.Destroyed = append(rec.report.Destroyed, h.SandboxID)
}

// adopt records a sandbox that only its host remembers.
func (rec *reconciler) adopt(ctx context.Context, ext Extension, f Found) {
	profile, known := rec.profiles[f.Profile]
	if !known {
		profile = Profile{ID: f.Profile, Extension: ext.Info().ID}.withDefaults()
	}
	now := rec.now()
	r := &Record{Handle: f.Handle, Sandbox: Sandbox{
		ID: f.Handle.SandboxID, Generation: max(1, f.Handle.Generation), State: StateReady, Reason: ReasonAdopted,
		Profile: profile, Consumer: f.Consumer, Extension: ext.Info().ID, Host: f.Handle.Host,
		Route:     Route{Policy: PolicyExplicit, Chosen: f.Handle.Host, Reason: "found there"},
		CreatedAt: f.CreatedAt, StateSince: now, ExpiresAt: f.ExpiresAt, MaxExpiresAt: f.ExpiresAt,
	}}
	ready, err := rec.waitBounded(ctx, ext, f.Handle, adoptBound, profile.Require)
	if err != nil {
		if !known || len(profile.Setup.SecretRefs) > 0 {
			err = wordless(err)
		}
		failure := failureOf(err)
		r.Sandbox.State, r.Sandbox.Failure = StateFailed, failure
		r.Sandbox.blame(err)
	} else {
		r.Sandbox.Reachability, r.Sandbox.Controls, r.Sandbox.ReadyAt = &ready.Reachability, ready.Controls, now
	}
	if err := rec.add(ctx, r, now); err != nil {
		rec.problem("reconcile", r, err)
		return
	}
	rec.report.Adopted = append(rec.report.Adopted, r.Sandbox.ID)
}

// wordless says which service is not ready without what the service said:
// that may hold secrets, which a process that gave it none cannot take out.
func wordless(err error) error {
	var notReady *NotReadyError
	if !errors.As(err, &notReady) {
		return err
	}
	state, _, _ := strings.Cut(notReady.State, ":")
	return &NotReadyError{Service: notReady.Service, State: state, TimedOut: notReady.TimedOut}
}

// adoptBound is how long an adopted sandbox may take to show that it is ready.
const adoptBound = Duration(10 * time.Second)
