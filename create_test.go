package sandboxer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func TestLifeOfASandbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{})
		s := w.create(c)
		steps := []func(context.Context, string) (*sandboxer.Sandbox, error){
			c.Activate,
			func(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
				return c.ExtendTTL(ctx, id, 2*time.Hour)
			},
			c.Deactivate, c.Recreate, c.Activate, c.Destroy,
		}
		for i, step := range steps {
			time.Sleep(time.Minute)
			if _, err := step(t.Context(), s.ID); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
		w.wantHistory(s.ID,
			"1 requested requested",
			"1 provisioning routed @one",
			"1 ready ready @one",
			"1 active activated @one",
			"1 active ttl_extended @one",
			"1 ready deactivated @one",
			"1 destroying recreate @one",
			"2 requested recreate @one",
			"2 provisioning routed @one",
			"2 ready ready @one",
			"2 active activated @one",
			"2 destroying consumer_request @one",
			"2 destroyed verified_absent @one",
		)
		w.empty()
	})
}

func TestEventsCarryTheWholeStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{fault: extensiontest.SlowAt("provision", "volume", 90*time.Second)})
		begun := time.Now().UTC()
		s := w.create(c)
		events, err := c.Events(t.Context(), s.ID, 2)
		if err != nil || len(events) != 1 {
			t.Fatalf("events after 2: %v, %v", events, err)
		}
		want := sandboxer.Event{
			ID: s.ID + "-3", Seq: 3, Time: begun.Add(90 * time.Second), SandboxID: s.ID, Generation: 1,
			From: sandboxer.StateProvisioning, State: sandboxer.StateReady, Reason: sandboxer.ReasonReady,
			Profile: "profile.basic", Extension: "ext.fake", Host: "one", Policy: sandboxer.PolicyPreferSelfHosted,
			Consumer: basicRequest().Consumer, CreatedAt: begun, ExpiresAt: begun.Add(time.Hour), Previous: sandboxer.Duration(90 * time.Second),
			Reachability: s.Reachability,
		}
		if diff := cmp.Diff(want, events[0]); diff != "" {
			t.Errorf("the third event (-want +got):\n%s", diff)
		}
		time.Sleep(time.Minute)
		if s, err = c.ExtendTTL(t.Context(), s.ID, 2*time.Hour); err != nil || !s.StateSince.Equal(want.Time) {
			t.Errorf("it is %s since %v (%v), want since %v", s.State, s.StateSince, err, want.Time)
		}
	})
}

func TestCreateReturnsWhatIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := w.client(process{})
		req := basicRequest()
		req.Labels = map[string]string{"branch": "main", "kind": "override"}
		s, err := c.Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := c.Get(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stored, s, unexported); diff != "" {
			t.Errorf("Create and Get differ (-get +create):\n%s", diff)
		}
		now := time.Now().UTC()
		got := []any{s.Generation, s.State, s.Inputs, s.Labels, s.Extension, s.Host, s.CreatedAt, s.ReadyAt, s.ExpiresAt, s.MaxExpiresAt, s.Reachability.Project, len(s.Controls), s.Admission.Verdict}
		want := []any{1, sandboxer.StateReady, map[string]string{"repo": "/src", "ref": "main"}, map[string]string{"branch": "main", "kind": "override"},
			"ext.fake", "one", now, now, now.Add(time.Hour), now.Add(4 * time.Hour), s.ID, 1, sandboxer.Allow}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the sandbox (-want +got):\n%s", diff)
		}
		if !sandboxer.ValidID(s.ID) {
			t.Errorf("%q is not an id", s.ID)
		}
		if r := w.record(s.ID); r.Operation != nil || r.Handle.Generation != 1 || r.Handle.Host != "one" {
			t.Errorf("the record is claimed by %v and has the handle %v", r.Operation, r.Handle)
		}
	})
}

func TestRefusedCreatesLeaveNothing(t *testing.T) {
	deny := func(req sandboxer.ProvisionRequest) []sandboxer.Violation {
		if req.Inputs["repo"] != "/denied" {
			return nil
		}
		return []sandboxer.Violation{{Rule: "PRIVILEGED", Path: "services.api.privileged", File: "compose.yaml", Line: 7, Message: "is not allowed"}}
	}
	tests := map[string]struct {
		change func(*sandboxer.CreateRequest)
		match  []error
		want   string
		hint   string
	}{
		"no such profile": {func(r *sandboxer.CreateRequest) { r.Profile = "profile.none" },
			[]error{sandboxer.ErrNotFound}, `create: profile "profile.none": not found`, `configured profiles are: ["profile.basic"]`},
		"missing input": {func(r *sandboxer.CreateRequest) { r.Inputs = nil },
			[]error{sandboxer.ErrInvalid}, "create: inputs.repo: is required by profile.basic: the working tree", ""},
		"undeclared input": {func(r *sandboxer.CreateRequest) { r.Inputs["rpeo"] = "x" },
			[]error{sandboxer.ErrInvalid}, `create: inputs.rpeo: is not declared by profile.basic, which takes ["ref" "repo"]`, ""},
		"no project": {func(r *sandboxer.CreateRequest) { r.Consumer.Project = "" },
			[]error{sandboxer.ErrInvalid}, "create: consumer.project: is required: say on whose account the sandbox exists", ""},
		"no actor": {func(r *sandboxer.CreateRequest) { r.Consumer.Actor = "" },
			[]error{sandboxer.ErrInvalid}, "create: consumer.actor: is required: say on whose account the sandbox exists", ""},
		"no actor type": {func(r *sandboxer.CreateRequest) { r.Consumer.ActorType = "" },
			[]error{sandboxer.ErrInvalid}, `create: consumer.actor_type: "" is not one of "adm" (a person administering), "agt" (an AI agent), "atm" (an automation)`, ""},
		"several at once": {func(r *sandboxer.CreateRequest) { r.Consumer.Project, r.Inputs, r.Policy = "", nil, "cheapest" },
			[]error{sandboxer.ErrInvalid}, "create: consumer.project: is required: say on whose account the sandbox exists; " +
				"inputs.repo: is required by profile.basic: the working tree; " +
				`policy: "cheapest" is not one of ["explicit" "prefer-self-hosted" "lowest-cost"]`, ""},
		"too long a life": {func(r *sandboxer.CreateRequest) { r.TTL = sandboxer.Duration(5 * time.Hour) },
			[]error{sandboxer.ErrLimit}, "create: ttl 5h: limit reached: profile.basic allows at most 4h", "ask for at most 4h, or raise max_ttl in the profile"},
		"negative life": {func(r *sandboxer.CreateRequest) { r.TTL = -1 }, []error{sandboxer.ErrInvalid}, "create: ttl: is negative", ""},
		"reserved label": {func(r *sandboxer.CreateRequest) { r.Labels = map[string]string{"dev.sandboxer.id": "x"} },
			[]error{sandboxer.ErrInvalid}, "create: labels.dev.sandboxer.id: the prefix dev.sandboxer. is reserved", ""},
		"odd label": {func(r *sandboxer.CreateRequest) { r.Labels = map[string]string{"Branch": "x"} },
			[]error{sandboxer.ErrInvalid}, "create: labels.Branch: is not a label key: lower-case letters, digits and ._/- only", ""},
		"long label": {func(r *sandboxer.CreateRequest) { r.Labels = map[string]string{"a": strings.Repeat("x", 257)} },
			[]error{sandboxer.ErrInvalid}, "create: labels.a: the value is longer than 256 characters or not printable ASCII", ""},
		"long key": {func(r *sandboxer.CreateRequest) { r.IdempotencyKey = strings.Repeat("k", 257) },
			[]error{sandboxer.ErrInvalid}, "create: idempotency_key: is longer than 256 bytes", ""},
		"admission": {func(r *sandboxer.CreateRequest) { r.Inputs["repo"] = "/denied" },
			[]error{sandboxer.ErrAdmission}, "create: refused by admission: compose.yaml:7: services.api.privileged: is not allowed [PRIVILEGED]", ""},
		"no such host": {func(r *sandboxer.CreateRequest) { r.Host = "three" },
			[]error{sandboxer.ErrNoRoute, sandboxer.ErrNotFound}, "create: no route: three: host three: not found", "configured hosts are: one"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			req := basicRequest()
			tt.change(&req)
			s, err := w.client(process{judge: deny}).Create(t.Context(), req)
			if s != nil {
				t.Errorf("returned a sandbox that is %s", s.State)
			}
			wantError(t, err, "create", tt.match...)
			if err.Error() != tt.want {
				t.Errorf("\n got %s\nwant %s", err, tt.want)
			}
			if got := sandboxer.Hint(err); got != tt.hint {
				t.Errorf("hint\n got %s\nwant %s", got, tt.hint)
			}
			w.untouched()
		})
	}
}

func TestRefusalsAskNoHost(t *testing.T) {
	w := newWorld(t)
	var seen calls
	c := w.client(process{fault: seen.fault, judge: func(sandboxer.ProvisionRequest) []sandboxer.Violation {
		return []sandboxer.Violation{{Rule: "ALL", Path: "services", Message: "no"}}
	}})
	_, err := c.Create(t.Context(), basicRequest())
	wantError(t, err, "create", sandboxer.ErrAdmission)
	if ops := seen.ops(); len(ops) > 0 {
		t.Errorf("a refused create asked the host to %v", ops)
	}
}

func TestHintWithNothingConfigured(t *testing.T) {
	w := newWorld(t)
	_, err := w.client(process{profiles: []sandboxer.Profile{}}).Create(t.Context(), basicRequest())
	wantError(t, err, "create", sandboxer.ErrNotFound)
	if hint := sandboxer.Hint(err); hint != "configured profiles are: none" {
		t.Errorf("hint is %q", hint)
	}
}

func TestCreateWithTheWholeLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req := basicRequest()
		req.TTL = sandboxer.Duration(4 * time.Hour)
		s, err := newWorld(t).client(process{}).Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if !s.ExpiresAt.Equal(s.MaxExpiresAt) {
			t.Errorf("expires at %v of at most %v", s.ExpiresAt, s.MaxExpiresAt)
		}
	})
}

// Each failure of the backend is told by its kind, and nothing is left of it.
func TestFailedCreatesAreTornDown(t *testing.T) {
	stage := &sandboxer.StageError{Stage: "build", ExitCode: 1, Message: "no such file", Log: "step 1\nstep 2\n"}
	exited := &sandboxer.NotReadyError{Service: "api", State: "exited (3)", Log: "panic\n"}
	tests := map[string]struct {
		fault   extensiontest.Fault
		match   []error
		failure sandboxer.Failure
		message string // of the error, after the id
	}{
		"a stage fails": {extensiontest.FailAt("provision", "container", stage), []error{sandboxer.ErrProvision},
			sandboxer.Failure{Reason: sandboxer.ReasonProvisionFailed, Code: "provision", Stage: "build", Message: "container web: build: no such file", Log: "step 1\nstep 2\n"},
			" on one: container web: build: no such file"},
		"a service exits": {extensiontest.FailAt("ready", "", exited), []error{sandboxer.ErrNotReady},
			sandboxer.Failure{Reason: sandboxer.ReasonNotReady, Code: "not_ready", Stage: "ready", Service: "api", Message: "service api is exited (3)", Log: "panic\n"},
			" on one: service api is exited (3)"},
		"the host goes away": {extensiontest.FailAt("provision", "volume", sandboxer.ErrUnavailable), []error{sandboxer.ErrUnavailable},
			sandboxer.Failure{Reason: sandboxer.ReasonHostUnavailable, Code: "unavailable"}, ""},
		"provisioning hangs": {extensiontest.HangAt("provision", "volume"), []error{sandboxer.ErrProvision},
			sandboxer.Failure{Reason: sandboxer.ReasonProvisionTimeout, Code: "provision"}, ""},
		"it never gets ready": {extensiontest.HangAt("ready", ""), []error{sandboxer.ErrReadyTimeout},
			sandboxer.Failure{Reason: sandboxer.ReasonReadyTimeout, Code: "ready_timeout", Message: "not done within bounds.ready of 3m"}, " on one: not done within bounds.ready of 3m"},
		"a hint is kept": {extensiontest.FailAt("provision", "volume", sandboxer.WithHint(stage, "free some disk")), []error{sandboxer.ErrProvision},
			sandboxer.Failure{Reason: sandboxer.ReasonProvisionFailed, Code: "provision", Stage: "build", Log: "step 1\nstep 2\n", Hint: "free some disk"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				s, err := w.client(process{fault: tt.fault}).Create(t.Context(), basicRequest())
				wantError(t, err, "create", tt.match...)
				if s == nil {
					t.Fatal("no sandbox beside the error")
				}
				if want := "create " + s.ID + tt.message; tt.message != "" && err.Error() != want {
					t.Errorf("\n got %s\nwant %s", err, want)
				}
				if got := sandboxer.Hint(err); got != tt.failure.Hint {
					t.Errorf("hint is %q, want %q", got, tt.failure.Hint)
				}
				got := *s.Failure
				if tt.failure.Message == "" {
					got.Message = ""
				}
				if diff := cmp.Diff(tt.failure, got); diff != "" {
					t.Errorf("failure (-want +got):\n%s", diff)
				}
				w.wantState(s.ID, sandboxer.StateDestroyed, sandboxer.ReasonVerified)
				w.wantHistory(s.ID,
					"1 requested requested", "1 provisioning routed @one", "1 failed "+string(tt.failure.Reason)+" @one",
					"1 destroying failed_create @one", "1 destroyed verified_absent @one")
				if s.EndedAt.IsZero() || s.Removal.VerifiedAt.IsZero() {
					t.Errorf("ended %v, verified %v", s.EndedAt, s.Removal.VerifiedAt)
				}
				w.empty()
			})
		})
	}
}

func TestBoundsOfTheProfile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := basicProfile()
		p.Bounds = sandboxer.Bounds{Provision: sandboxer.Duration(7 * time.Second), Ready: sandboxer.Duration(11 * time.Second), Teardown: sandboxer.Duration(13 * time.Second)}
		for op, want := range map[string]time.Duration{"provision": 7 * time.Second, "ready": 11 * time.Second} {
			w := newWorld(t)
			c := w.client(process{profiles: []sandboxer.Profile{p}, fault: extensiontest.HangAt(op, "")})
			start := time.Now()
			_, _ = c.Create(t.Context(), basicRequest())
			if took := time.Since(start); took != want {
				t.Errorf("a %s that hangs took %v, want %v", op, took, want)
			}
			w.empty()
		}
		w := newWorld(t)
		c := w.client(process{profiles: []sandboxer.Profile{p}, fault: extensiontest.HangAt("teardown", "")})
		s := w.create(c)
		start := time.Now()
		_, err := c.Destroy(t.Context(), s.ID)
		if took := time.Since(start); took != 13*time.Second {
			t.Errorf("a teardown that hangs took %v, want 13s", took)
		}
		wantError(t, err, "destroy", sandboxer.ErrResidue)
		w.wantState(s.ID, sandboxer.StateDestroying, sandboxer.ReasonResidue)
	})
}

func TestLongLogsAreCut(t *testing.T) {
	w := newWorld(t)
	stage := &sandboxer.StageError{Stage: "build", Log: strings.Repeat("x", 40<<10) + "the end"}
	s, _ := w.client(process{fault: extensiontest.FailAt("provision", "network", stage)}).Create(t.Context(), basicRequest())
	if log := s.Failure.Log; len(log) != 16<<10 || !strings.HasSuffix(log, "the end") {
		t.Errorf("the log has %d bytes and ends in %q", len(log), log[len(log)-10:])
	}
}

func TestKeepFailed(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{fault: extensiontest.Times(1, extensiontest.FailAt("ready", "", &sandboxer.NotReadyError{Service: "api", State: "exited (1)"}))})
	req := basicRequest()
	req.KeepFailed = true
	s, err := c.Create(t.Context(), req)
	wantError(t, err, "create", sandboxer.ErrNotReady)
	w.wantState(s.ID, sandboxer.StateFailed, sandboxer.ReasonNotReady)
	if len(w.left(s.ID)) == 0 {
		t.Error("nothing is left to look at")
	}
	if _, err := c.Reconcile(t.Context(), sandboxer.ReconcileOptions{}); err != nil {
		t.Error(err)
	}
	w.wantState(s.ID, sandboxer.StateFailed, sandboxer.ReasonNotReady)
	conn, err := c.Dial(t.Context(), s.ID, extensiontest.EchoService, extensiontest.EchoPort)
	if err != nil {
		t.Errorf("a kept sandbox cannot be looked into: %v", err)
	} else {
		_ = conn.Close()
	}
	if s, err = c.Recreate(t.Context(), s.ID); err != nil || s.State != sandboxer.StateReady || s.Failure != nil {
		t.Errorf("recreated: %v, %s with failure %v", err, s.State, s.Failure)
	}
}

var errCallerLeft = errors.New("the caller left")

// A create whose context ends is undone on a context that has not.
func TestCanceledCreateIsTornDown(t *testing.T) {
	moments := map[string]extensiontest.Step{
		"before the record of the host": {Op: "provision", Stage: "record"},
		"amid provisioning":             {Op: "provision", Stage: "volume"},
		"while getting ready":           {Op: "ready"},
	}
	for name, at := range moments {
		for cause, want := range map[error]error{nil: context.Canceled, errCallerLeft: errCallerLeft} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				c := w.client(process{fault: func(ctx context.Context, s extensiontest.Step) error {
					if s.Op != at.Op || s.Stage != at.Stage {
						return nil
					}
					cancel(cause)
					return context.Cause(ctx)
				}})
				s, err := c.Create(ctx, basicRequest())
				wantError(t, err, "create")
				if !errors.Is(err, want) {
					t.Errorf("got %v, want the caller's cause %v", err, want)
				}
				w.wantState(w.only(), sandboxer.StateDestroyed, sandboxer.ReasonVerified)
				if s == nil || s.Failure == nil || s.Failure.Reason != sandboxer.ReasonCanceled {
					t.Errorf("the failure of %s is not %q", s.ID, sandboxer.ReasonCanceled)
				}
				w.empty()
			})
		}
	}
}

// A context may end at any write of the record, too.
func TestCreateCanceledAtTheStore(t *testing.T) {
	for write := 1; write <= 3; write++ {
		w := newWorld(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		n := 0
		store := watchedStore{w.store, func(*sandboxer.Record) error {
			if n++; n == write {
				cancel(errCallerLeft)
			}
			return nil
		}}
		_, err := w.client(process{store: store}).Create(ctx, basicRequest())
		wantError(t, err, "create")
		if !errors.Is(err, errCallerLeft) {
			t.Errorf("canceled at write %d: %v", write, err)
		}
		if write == 1 {
			w.untouched()
			continue
		}
		w.wantState(w.only(), sandboxer.StateDestroyed, sandboxer.ReasonVerified)
		w.empty()
	}
}

func TestProgressIsReported(t *testing.T) {
	w := newWorld(t)
	var stages []string
	ctx := sandboxer.WithProgress(t.Context(), func(p sandboxer.Progress) { stages = append(stages, p.Stage) })
	if _, err := w.client(process{}).Create(ctx, basicRequest()); err != nil {
		t.Fatal(err)
	}
	want := []string{"admission", "route", "record", "network", "volume", "container", "container"}
	if diff := cmp.Diff(want, stages); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}
