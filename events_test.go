package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// An event tells whose sandbox it is, where, what was asked for and how it is
// reached; of the inputs only those that are public.
func TestAnEventTellsTheWholeIdentity(t *testing.T) {
	w := newWorld(t, sandboxer.Host{Name: "one", Price: &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 20_000}})
	profile := basicProfile()
	profile.Resources = sandboxer.Resources{CPUs: 2, Memory: 1 << 30}
	profile.Inputs["ref"] = sandboxer.Input{Default: "main", Public: true}
	c := w.client(process{profiles: []sandboxer.Profile{profile}})
	s := w.create(c)
	events, err := c.Events(t.Context(), s.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := events[2]
	want := sandboxer.Event{
		ID: s.ID + "-3", Seq: 3, Time: s.StateSince, SandboxID: s.ID, Generation: 1, From: sandboxer.StateProvisioning, State: sandboxer.StateReady, Reason: sandboxer.ReasonReady,
		Profile: "profile.basic", Extension: "ext.fake", Host: "one", Policy: sandboxer.PolicyPreferSelfHosted, Consumer: basicRequest().Consumer,
		CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt, Previous: got.Previous,
		Inputs: map[string]string{"ref": "main"}, Resources: &profile.Resources,
		Estimate: &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 20_000}, Reachability: s.Reachability,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the event of being ready (-want +got):\n%s", diff)
	}
	if events[0].Reachability != nil || events[0].Estimate != nil || events[0].Host != "" {
		t.Errorf("the first event tells what was not known yet: %+v", events[0])
	}
}

// What a failure says may hold what the caller gave; that does not leave the record.
func TestAMessageHoldsNoPrivateInput(t *testing.T) {
	w := newWorld(t)
	profile := basicProfile()
	profile.Inputs["repo"] = sandboxer.Input{Required: true, Public: true}
	for _, private := range []string{"token", "longer", "short", "quoted"} {
		profile.Inputs[private] = sandboxer.Input{}
	}
	fault := func(_ context.Context, step extensiontest.Step) error {
		if step.Op == "provision" {
			return &sandboxer.StageError{Stage: "build", ExitCode: 1, Message: fmt.Sprintf("/src: cannot log in with hunter2 or hunter2-and-more; ab; %q", `pass"word`)}
		}
		return nil
	}
	c := w.client(process{profiles: []sandboxer.Profile{profile}, fault: fault})
	req := basicRequest()
	req.Inputs = map[string]string{"repo": "/src", "token": "hunter2", "longer": "hunter2-and-more", "short": "ab", "quoted": `pass"word`}
	s, err := c.Create(t.Context(), req)
	if !errors.Is(err, sandboxer.ErrProvision) {
		t.Fatalf("create gave %v", err)
	}
	events, _ := c.Events(t.Context(), s.ID, 0)
	const want = `build: /src: cannot log in with [input token] or [input longer]; ab; "[input quoted]"`
	for _, e := range events {
		if e.State == sandboxer.StateFailed && (!strings.HasSuffix(e.Message, want) || e.ErrorCode != "provision") {
			t.Errorf("the failure's event says %q (%s), want %q (provision)", e.Message, e.ErrorCode, want)
		}
		if _, private := e.Inputs["token"]; private {
			t.Errorf("event %d holds a private input: %v", e.Seq, e.Inputs)
		}
	}
	if s.Failure.Code != "provision" {
		t.Errorf("the record's failure has code %q", s.Failure.Code)
	}
}

func TestCodesNameTheMostSpecificKind(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("odd"), "internal"},
		{fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, sandboxer.ErrHostKey), "host_key"},
		{fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, sandboxer.ErrLimit), "limit"},
		{&sandboxer.NotReadyError{TimedOut: true}, "ready_timeout"},
		{&sandboxer.NotReadyError{}, "not_ready"},
		{&sandboxer.RouteError{}, "no_route"},
		{&sandboxer.AdmissionError{}, "admission"},
		{&sandboxer.ResidueError{}, "residue"},
		{&sandboxer.FieldError{}, "invalid"},
		{&sandboxer.TransitionError{}, "state"},
		{&sandboxer.Error{Op: "get", Err: sandboxer.ErrNotFound}, "not_found"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
	} {
		if got := sandboxer.Code(tt.err); got != tt.want {
			t.Errorf("%v has code %q, want %q", tt.err, got, tt.want)
		}
	}
}

// A client whose store fails says so with the operation's name.
func TestStoreFailuresAreErrorsOfTheOperation(t *testing.T) {
	w := newWorld(t)
	id := w.create(w.client(process{})).ID
	c := w.client(process{store: brokenStore{w.store}, sink: &recorder{}})
	ctx := t.Context()
	for op, do := range map[string]func() error{
		"get":       func() error { _, err := c.Get(ctx, id); return err },
		"list":      func() error { _, err := c.List(ctx, sandboxer.Filter{}); return err },
		"events":    func() error { _, err := c.Events(ctx, "", 0); return err },
		"create":    func() error { _, err := c.Create(ctx, basicRequest()); return err },
		"destroy":   func() error { _, err := c.Destroy(ctx, id); return err },
		"recreate":  func() error { _, err := c.Recreate(ctx, id); return err },
		"reap":      func() error { _, err := c.Reap(ctx); return err },
		"reconcile": func() error { _, err := c.Reconcile(ctx, sandboxer.ReconcileOptions{}); return err },
		"deliver":   func() error { _, err := c.Deliver(ctx); return err },
		"usage":     func() error { _, err := c.Usage(ctx, sandboxer.ByProject, sandboxer.Window{}); return err },
		"redeliver": func() error { _, err := c.Redeliver(ctx, ""); return err },
	} {
		err := do()
		wantError(t, err, op)
		if !errors.Is(err, errBrokenStore) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if left := w.left(""); len(left) != len(w.left(id)) {
		t.Errorf("a create without a record left %v", left)
	}
}

var errBrokenStore = errors.New("disk error")

type brokenStore struct{ sandboxer.Store }

func (brokenStore) Create(context.Context, *sandboxer.Record, ...sandboxer.Event) error {
	return errBrokenStore
}
func (brokenStore) Get(context.Context, string) (*sandboxer.Record, error) {
	return nil, errBrokenStore
}
func (brokenStore) List(context.Context, sandboxer.Filter) ([]*sandboxer.Record, error) {
	return nil, errBrokenStore
}
func (brokenStore) Events(context.Context, string, int64) ([]sandboxer.Event, error) {
	return nil, errBrokenStore
}
func (brokenStore) Undelivered(context.Context, string) ([]sandboxer.Undelivered, error) {
	return nil, errBrokenStore
}
func (brokenStore) ClaimEvents(context.Context, time.Time, int) ([]sandboxer.Claim, error) {
	return nil, errBrokenStore
}

// What a profile loosened stands in the plan, the record and every event of
// the sandbox, also when another generation makes use of something else.
func TestWhatWasLoosenedIsSaid(t *testing.T) {
	w := newWorld(t)
	profile := basicProfile()
	profile.Config = []byte(`{"allow": ["CAP-ADD", "DEVICES"]}`)
	used := "CAP-ADD"
	c := w.client(process{profiles: []sandboxer.Profile{profile}, judge: func(sandboxer.ProvisionRequest) []sandboxer.Violation {
		return []sandboxer.Violation{{Rule: used, Path: "services.web", File: "compose.yaml", Line: 7, Message: "adds NET_ADMIN"}}
	}})
	plan, err := c.Plan(t.Context(), basicRequest(), sandboxer.PlanOptions{})
	if err != nil || plan.Admission.Verdict != sandboxer.Allow || len(plan.Admission.Loosened) != 1 || plan.Admission.Loosened[0].Line != 7 {
		t.Fatalf("plan: %+v %v", plan.Admission, err)
	}
	s := w.create(c)
	used = "DEVICES"
	if _, err := c.Recreate(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	again, err := c.Get(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if s.Admission.Loosened[0].Rule != "CAP-ADD" || again.Admission.Loosened[0].Rule != "DEVICES" {
		t.Errorf("recorded: %+v, then %+v", s.Admission.Loosened, again.Admission.Loosened)
	}
	events, err := c.Events(t.Context(), s.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]string{0: "[CAP-ADD]", 2: "[CAP-ADD]", len(events) - 1: "[DEVICES]"} {
		if got := fmt.Sprint(events[i].Loosened); got != want {
			t.Errorf("event %d: %s, want %s", i, got, want)
		}
	}
}
