package sandboxer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"
)

// A CreateRequest asks for a sandbox.
type CreateRequest struct {
	Profile    string            `json:"profile"`               // id of a configured profile
	Inputs     map[string]string `json:"inputs,omitempty"`      // only those the profile declares
	Consumer   Consumer          `json:"consumer"`              // on whose account
	Labels     map[string]string `json:"labels,omitempty"`      // free, for List; the prefix dev.sandboxer. is reserved
	TTL        Duration          `json:"ttl,omitempty"`         // the profile's if zero; at most its max_ttl
	Policy     Policy            `json:"policy,omitempty"`      // the profile's if empty
	Host       string            `json:"host,omitempty"`        // use exactly this host
	KeepFailed bool              `json:"keep_failed,omitempty"` // leave a failed sandbox up, to look at, until it expires
	// IdempotencyKey makes repeated creates one: the same key and payload of a
	// project give the same sandbox, another payload is ErrConflict.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// A Plan is what Create would do, with nothing created.
type Plan struct {
	Profile   string    `json:"profile"`
	Route     Route     `json:"route"`
	Admission Admission `json:"admission"`
	Cost      *Cost     `json:"cost,omitempty"` // of the chosen host
}

// A request that has been checked against everything that needs no host.
type prepared struct {
	CreateRequest
	profile Profile
	inputs  map[string]string
	policy  Policy
	ttl     Duration
	payload string
}

func (c *Client) prepare(req CreateRequest) (*prepared, error) {
	profile, ok := c.profiles[req.Profile]
	if !ok {
		return nil, WithHint(fmt.Errorf("profile %q: %w", req.Profile, ErrNotFound), "configured profiles are: %s", quotedNames(c.profiles))
	}
	p := &prepared{CreateRequest: req, profile: profile, policy: req.Policy, ttl: req.TTL}
	var problems fieldErrors
	inputs, err := profile.resolveInputs(req.Inputs)
	p.inputs = inputs
	for _, err := range []error{req.Consumer.Validate(), err} {
		if err != nil {
			problems = append(problems, unjoin(err)...)
		}
	}
	setDefault(&p.policy, profile.Placement.Policy)
	setDefault(&p.ttl, profile.TTL)
	if req.Host != "" {
		p.policy = PolicyExplicit
	}
	oneOf(problems.add, "policy", p.policy, PolicyExplicit, PolicyPreferSelfHosted, PolicyLowestCost)
	if p.ttl < 0 {
		problems.add("ttl", "is negative")
	}
	validateLabels(problems.add, "labels", req.Labels)
	if len(req.IdempotencyKey) > 256 {
		problems.add("idempotency_key", "is longer than 256 bytes")
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	if err := c.hasResolver(profile); err != nil {
		return nil, err
	}
	if p.ttl > profile.MaxTTL {
		return nil, WithHint(fmt.Errorf("ttl %v: %w: %s allows at most %v", p.ttl, ErrLimit, profile.ID, profile.MaxTTL), "ask for at most %v, or raise max_ttl in the profile", profile.MaxTTL)
	}
	p.payload = payloadHash(req)
	return p, nil
}

// payloadHash is equal for equal requests, whatever their key.
func payloadHash(req CreateRequest) string {
	req.IdempotencyKey = ""
	text, _ := json.Marshal(req)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// request is what the extension is told; the host comes with each candidate.
func (p *prepared) request(id string, generation int, created, expires time.Time) ProvisionRequest {
	return ProvisionRequest{
		SandboxID: id, Generation: generation, Profile: p.profile, Inputs: p.inputs, Consumer: p.Consumer,
		Labels: p.labels(), CreatedAt: created, ExpiresAt: expires,
	}
}

func (p *prepared) labels() map[string]string {
	if len(p.profile.Labels)+len(p.Labels) == 0 {
		return nil
	}
	all := maps.Clone(p.profile.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, p.Labels)
	return all
}

// PlanOptions say how far Plan looks.
type PlanOptions struct {
	Probe bool // ask each host whether it can be used now; otherwise nothing is contacted
}

// Plan says where Create would put a sandbox, what admission says, and what
// it would cost, and creates nothing. Secrets are not asked for, only whether
// they can be, see [SecretChecker]. A denial is in Plan.Admission with a
// nil error; a request without a usable host returns the plan and a RouteError.
func (c *Client) Plan(ctx context.Context, req CreateRequest, opts PlanOptions) (_ *Plan, err error) {
	ctx, end := c.trace(ctx, "plan", slog.String("profile.id", req.Profile))
	defer func() { end(nil, err) }()
	p, err := c.prepare(req)
	if err != nil {
		return nil, fail("plan", nil, err)
	}
	now := c.now()
	preq := p.request(newID(), 1, now, now.Add(p.ttl.Std()))
	if err := c.checkSecrets(ctx, secretRequests(p.profile, preq.SandboxID, p.Consumer)); err != nil {
		return nil, fail("plan", nil, err)
	}
	route, routeErr := c.route(ctx, preq, p.policy, p.Host, opts.Probe)
	plan := &Plan{Profile: p.profile.ID, Route: route, Admission: Admission{Verdict: Allow, Violations: []Violation{}, Rewrites: []Rewrite{}}}
	if ext := c.firstExtension(route); ext != nil {
		if plan.Admission, err = c.admit(ctx, ext, preq); err != nil {
			return plan, fail("plan", nil, err)
		}
	}
	for _, cand := range route.Candidates {
		if cand.Host == route.Chosen && cand.Rejected == "" {
			plan.Cost = cand.Estimate
		}
	}
	return plan, fail("plan", nil, routeErr)
}

func (c *Client) firstExtension(r Route) Extension {
	for _, cand := range r.Candidates {
		if ext, ok := c.registry.byID[cand.Extension]; ok {
			return ext
		}
	}
	return nil
}

// admit asks the extension for its judgement; one without is content.
func (c *Client) admit(ctx context.Context, ext Extension, req ProvisionRequest) (Admission, error) {
	admission := Admission{Verdict: Allow}
	var err error
	if admitter, ok := ext.(Admitter); ok {
		admission, err = admitter.Admit(ctx, req)
	}
	// readers of the document find lists, also where there is nothing in them
	admission.Violations = append([]Violation{}, admission.Violations...)
	admission.Rewrites = append([]Rewrite{}, admission.Rewrites...)
	return admission, err
}

// Create returns a ready sandbox.
//
// A request that can be refused without a host is refused before anything is
// recorded: ErrNotFound, ErrInvalid, ErrLimit, ErrAdmission. Without a usable
// host it returns ErrNoRoute, and without a secret that the profile names the
// resolver's error, again with nothing recorded. After that the
// sandbox is returned together with the error: if it fails, what was made is
// torn down on a context detached from ctx, and the sandbox is destroyed with
// Failure set, or still destroying if absence could not be proved. With
// KeepFailed it stays failed instead. Errors of the backend are matched by
// ErrProvision, ErrReadyTimeout, ErrNotReady, ErrUnavailable.
//
// The next host of the route is tried only after ErrUnavailable, under a
// policy other than explicit, and only once the last host is proved clean.
func (c *Client) Create(ctx context.Context, req CreateRequest) (s *Sandbox, err error) {
	ctx, end := c.trace(ctx, "create", slog.String("profile.id", req.Profile), slog.String("consumer.project", req.Consumer.Project))
	defer func() { end(s, err) }()
	p, err := c.prepare(req)
	if err != nil {
		return nil, fail("create", nil, err)
	}
	if req.IdempotencyKey != "" {
		if s, done, err := c.existing(ctx, p); done {
			return s, err
		}
	}
	now := c.now()
	preq := p.request(newID(), 1, now, now.Add(p.ttl.Std()))
	unprobed, err := c.route(ctx, preq, p.policy, p.Host, false)
	if err != nil {
		return nil, fail("create", nil, err)
	}
	ReportProgress(ctx, Progress{Stage: "admission", Message: "checking the workspace"})
	admission, err := c.admit(ctx, c.firstExtension(unprobed), preq)
	if err != nil {
		return nil, fail("create", nil, err)
	}
	if admission.Verdict == Deny {
		return nil, fail("create", nil, &AdmissionError{Admission: admission})
	}
	ReportProgress(ctx, Progress{Stage: "route", Message: "asking the hosts"})
	route, err := c.route(ctx, preq, p.policy, p.Host, true)
	if err != nil {
		return nil, fail("create", nil, err)
	}
	secrets, err := c.resolveSecrets(ctx, secretRequests(p.profile, preq.SandboxID, p.Consumer))
	if err != nil {
		return nil, fail("create", nil, err)
	}
	r, err := c.record(ctx, p, preq, route, admission)
	if errors.Is(err, ErrExists) && req.IdempotencyKey != "" {
		// another process was faster with the same key
		if s, done, err := c.existing(ctx, p); done {
			return s, err
		}
	}
	if err != nil {
		return nil, fail("create", nil, err)
	}
	return c.establish(ctx, "create", r, secrets, route.accepted())
}

// record stores the sandbox as requested: from here on it can be found and finished by anybody.
func (c *Client) record(ctx context.Context, p *prepared, preq ProvisionRequest, route Route, admission Admission) (*Record, error) {
	r := &Record{
		Sandbox: Sandbox{
			ID: preq.SandboxID, Generation: 1, State: StateRequested, Reason: ReasonRequested,
			Profile: p.profile, Inputs: p.inputs, Consumer: p.Consumer, Labels: preq.Labels,
			Route: route, Admission: &admission, CreatedAt: preq.CreatedAt, StateSince: preq.CreatedAt,
			ExpiresAt: preq.ExpiresAt, MaxExpiresAt: preq.CreatedAt.Add(p.profile.MaxTTL.Std()),
		},
		Handle:    Handle{SandboxID: preq.SandboxID, Generation: 1},
		Operation: c.newOperation("create", p.profile.workBound()),
		Key:       p.IdempotencyKey, PayloadHash: p.payload,
	}
	if p.KeepFailed {
		r.Operation.Kind = keepFailed
	}
	return r, c.add(ctx, r, preq.CreatedAt)
}

// add stores a new record with its first event.
func (c *Client) add(ctx context.Context, r *Record, now time.Time) error {
	e := newEvent(r, "", time.Time{}, now)
	r.Seq = e.Seq
	if err := c.store.Create(ctx, r, e); err != nil {
		return err
	}
	c.handOff()
	c.log.InfoContext(ctx, "sandbox recorded", "sandbox", e.SandboxID, "seq", e.Seq, "state", e.State, "reason", e.Reason, "host", e.Host)
	return nil
}

// keepFailed is the operation kind of a create that leaves failures standing.
const keepFailed = "create-keep"

// workBound is how long establishing may take in all, teardown included.
func (p Profile) workBound() time.Duration {
	return (p.Bounds.Provision + p.Bounds.Ready + p.Bounds.Teardown).Std() + time.Minute
}

// establish provisions r on the first candidate that can take it.
func (c *Client) establish(ctx context.Context, op string, r *Record, secrets map[string]Secret, candidates []Candidate) (*Sandbox, error) {
	id, token := r.Sandbox.ID, r.Operation.Token
	for i, cand := range candidates {
		ext := c.registry.byHost[cand.Host]
		reason := ReasonRouted
		if i > 0 {
			reason = ReasonFallback
		}
		next, err := c.edit(ctx, id, owned(token, func(r *Record) error {
			r.Sandbox.State, r.Sandbox.Reason = StateProvisioning, reason
			r.Sandbox.Extension, r.Sandbox.Host = cand.Extension, cand.Host
			r.Sandbox.Route.choose(cand.Host)
			r.Handle = Handle{SandboxID: id, Generation: r.Sandbox.Generation, Host: cand.Host}
			r.Operation.Deadline = c.now().Add(r.Sandbox.Profile.workBound())
			return nil
		}))
		if err != nil {
			r, _, err = c.clean(ctx, ext, r, err, false)
			return &r.Sandbox, fail(op, r, err)
		}
		r = next
		cause := c.provision(ctx, ext, r, secrets)
		if cause == nil {
			return &r.Sandbox, nil
		}
		another := i+1 < len(candidates) && r.Sandbox.Route.Policy != PolicyExplicit && errors.Is(cause, ErrUnavailable) && ctx.Err() == nil
		var again bool
		if r, again, cause = c.clean(ctx, ext, r, cause, another); !again {
			return &r.Sandbox, fail(op, r, cause)
		}
	}
	return &r.Sandbox, fail(op, r, &RouteError{Route: r.Sandbox.Route})
}

// provision takes r from provisioning to ready, or says why not, showing no
// secret. On success r holds the stored record.
func (c *Client) provision(ctx context.Context, ext Extension, r *Record, secrets map[string]Secret) error {
	hide := conceal(secrets)
	return hide.error(c.provisionWith(hide.progress(ctx), ext, r, secrets))
}

func (c *Client) provisionWith(ctx context.Context, ext Extension, r *Record, secrets map[string]Secret) error {
	s := r.Sandbox
	handle, err := c.provisionBounded(ctx, ext, ProvisionRequest{
		SandboxID: s.ID, Generation: s.Generation, Host: s.Host, Profile: s.Profile, Inputs: s.Inputs,
		Consumer: s.Consumer, Labels: s.Labels, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt, Secrets: secrets,
	})
	if err != nil {
		return err
	}
	ready, err := c.waitBounded(ctx, ext, handle, s.Profile.Bounds.Ready, s.Profile.Require)
	if err != nil {
		return err
	}
	next, err := c.edit(ctx, s.ID, owned(r.Operation.Token, func(r *Record) error {
		r.Handle, r.Operation = handle, nil
		r.Sandbox.State, r.Sandbox.Reason = StateReady, ReasonReady
		r.Sandbox.Reachability, r.Sandbox.Controls = &ready.Reachability, ready.Controls
		r.Sandbox.ReadyAt = c.now()
		return nil
	}))
	if err != nil {
		return err
	}
	*r = *next
	return nil
}

func (c *Client) provisionBounded(ctx context.Context, ext Extension, req ProvisionRequest) (Handle, error) {
	bound := req.Profile.Bounds.Provision
	ctx, cancel := context.WithTimeoutCause(ctx, bound.Std(), &boundError{"provision", bound})
	defer cancel()
	return ext.Provision(ctx, req)
}

// waitBounded waits until the sandbox is ready and holds what the profile requires.
func (c *Client) waitBounded(ctx context.Context, ext Extension, h Handle, bound Duration, required []string) (Readiness, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bound.Std(), &boundError{"ready", bound})
	defer cancel()
	ready, err := ext.WaitReady(ctx, h)
	if err == nil {
		err = requirements(required, ready.Controls)
	}
	return ready, err
}

// A boundError says which bound of the profile ran out.
type boundError struct {
	phase string
	bound Duration
}

func (e *boundError) Error() string {
	return fmt.Sprintf("not done within bounds.%s of %v", e.phase, e.bound)
}

// Is makes a bound that ran out match the sentinel of its phase and the
// standard library's.
func (e *boundError) Is(target error) bool {
	switch e.phase {
	case "provision":
		return target == context.DeadlineExceeded || target == ErrProvision
	case "ready":
		return target == context.DeadlineExceeded || target == ErrReadyTimeout
	}
	return target == context.DeadlineExceeded || target == ErrResidue
}

// clean deals with a provisioning that failed: the failure is recorded, what
// was made is torn down unless it is to be kept, and again reports that the
// next candidate may be tried. The error returned is cause, or how the record
// was lost to another process.
func (c *Client) clean(ctx context.Context, ext Extension, r *Record, cause error, another bool) (fresh *Record, again bool, _ error) {
	callerLeft := ctx.Err() != nil
	stageFailed(ctx, cause)
	ctx, cancel := detached(ctx, r.Sandbox.Profile.Bounds.Teardown)
	defer cancel()
	id, token := r.Sandbox.ID, r.Operation.Token
	if another {
		next, err := c.edit(ctx, id, owned(token, func(r *Record) error {
			r.Sandbox.Route.reject(r.Sandbox.Host, cause)
			r.Sandbox.Reason = ReasonFallback
			r.Sandbox.blame(cause)
			return nil
		}))
		if err == nil {
			_, err = ext.Teardown(ctx, r.Handle)
		}
		if err == nil {
			return next, true, nil
		}
	}
	keep := r.Operation.Kind == keepFailed
	failed, err := c.edit(ctx, id, owned(token, func(r *Record) error {
		f := failureOf(cause)
		if callerLeft {
			f.Reason = ReasonCanceled
		}
		r.Sandbox.State, r.Sandbox.Reason, r.Sandbox.Failure = StateFailed, f.Reason, f
		r.Sandbox.blame(cause)
		if keep {
			r.Operation = nil
		}
		return nil
	}))
	if errors.Is(err, ErrConflict) {
		return c.abandon(ctx, ext, r, err), false, err
	}
	if err != nil {
		return c.abandon(ctx, ext, r, err), false, cause
	}
	if keep {
		return failed, false, cause
	}
	down, err := c.teardown(ctx, failed, ReasonFailedCreate, "")
	if err != nil {
		c.log.WarnContext(ctx, "teardown after a failed create", "sandbox", id, "error", err)
	}
	return cmp.Or(down, failed), false, cause
}

// abandon removes what was made for a record that now belongs to somebody else.
func (c *Client) abandon(ctx context.Context, ext Extension, r *Record, cause error) *Record {
	if r.Handle.Host != "" { // without a host nothing was made yet
		if _, err := ext.Teardown(ctx, r.Handle); err != nil {
			c.log.WarnContext(ctx, "teardown after losing the record", "sandbox", r.Sandbox.ID, "cause", cause, "error", err)
		}
	}
	if fresh, err := c.store.Get(ctx, r.Sandbox.ID); err == nil {
		return fresh
	}
	return r
}

// failureOf puts an error into the form that is stored and shown.
func failureOf(err error) *Failure {
	f := &Failure{Reason: reasonOf(err), Code: Code(err), Message: err.Error(), Hint: Hint(err)}
	var stage *StageError
	var notReady *NotReadyError
	switch {
	case errors.As(err, &stage):
		f.Stage, f.Log = stage.Stage, tail(stage.Log)
	case errors.As(err, &notReady):
		f.Stage, f.Service, f.Log = "ready", notReady.Service, tail(notReady.Log)
	}
	return f
}

// maxLog bounds what a record keeps of a log.
const maxLog = 16 << 10

func tail(s string) string {
	if len(s) > maxLog {
		s = s[len(s)-maxLog:]
	}
	return s
}

func reasonOf(err error) Reason {
	var bound *boundError
	isBound := errors.As(err, &bound)
	switch {
	case errors.Is(err, ErrReadyTimeout):
		return ReasonReadyTimeout
	case errors.Is(err, ErrNotReady):
		return ReasonNotReady
	case isBound:
		return ReasonProvisionTimeout
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ReasonCanceled
	case errors.Is(err, ErrUnavailable):
		return ReasonHostUnavailable
	}
	return ReasonProvisionFailed
}

// detached gives cleanup a context that the caller's end does not reach.
func detached(ctx context.Context, bound Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), bound.Std(), &boundError{"teardown", bound})
}
