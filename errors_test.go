package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func TestErrorTexts(t *testing.T) {
	whole := &sandboxer.Error{Op: "create", SandboxID: "abc", Extension: "ext.fake", Host: "desk", Stage: "build", Err: &sandboxer.StageError{Stage: "build", Message: "no such file"}, Hint: "look"}
	tests := map[string]error{
		"create abc on desk: build: no such file":        whole,
		"list: disk error":                               &sandboxer.Error{Op: "list", Err: errBrokenStore},
		"a.yaml:3: ttl: is required":                     &sandboxer.FieldError{File: "a.yaml", Line: 3, Field: "ttl", Reason: "is required"},
		"a.yaml: is empty":                               &sandboxer.FieldError{File: "a.yaml", Reason: "is empty"},
		"line 3: ttl: is required":                       &sandboxer.FieldError{Line: 3, Field: "ttl", Reason: "is required"},
		"ttl: is required":                               &sandboxer.FieldError{Field: "ttl", Reason: "is required"},
		"a sandbox that is lost cannot become requested": &sandboxer.TransitionError{From: sandboxer.StateLost, To: sandboxer.StateRequested},
		"refused by admission":                           &sandboxer.AdmissionError{},
		"refused by admission: a.yaml:3: services.a.privileged: is not allowed [PRIVILEGED]; services.b: is odd [ODD]": &sandboxer.AdmissionError{Admission: sandboxer.Admission{Violations: []sandboxer.Violation{
			{Rule: "PRIVILEGED", Path: "services.a.privileged", File: "a.yaml", Line: 3, Message: "is not allowed"}, {Rule: "ODD", Path: "services.b", Message: "is odd"},
		}}},
		"no route: no extension offers a host":   &sandboxer.RouteError{},
		"no route: a: is full; b: is down":       &sandboxer.RouteError{Route: sandboxer.Route{Candidates: []sandboxer.Candidate{{Host: "a", Rejected: "is full"}, {Host: "b", Rejected: "is down"}}}},
		"up ended with exit code 17":             &sandboxer.StageError{Stage: "up", ExitCode: 17},
		"service db is exited (3)":               &sandboxer.NotReadyError{Service: "db", State: "exited (3)"},
		"not ready in time: service db is empty": &sandboxer.NotReadyError{Service: "db", State: "empty", TimedOut: true},
		"not proved absent: network n, volume 7": &sandboxer.ResidueError{Residue: []sandboxer.Resource{{Kind: "network", ID: "5", Name: "n"}, {Kind: "volume", ID: "7"}}},
	}
	for want, err := range tests {
		if got := err.Error(); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}

func TestEachErrorIsItsSentinel(t *testing.T) {
	tests := map[error]error{
		&sandboxer.FieldError{}:                  sandboxer.ErrInvalid,
		&sandboxer.TransitionError{}:             sandboxer.ErrState,
		&sandboxer.AdmissionError{}:              sandboxer.ErrAdmission,
		&sandboxer.RouteError{}:                  sandboxer.ErrNoRoute,
		&sandboxer.StageError{}:                  sandboxer.ErrProvision,
		&sandboxer.NotReadyError{}:               sandboxer.ErrNotReady,
		&sandboxer.NotReadyError{TimedOut: true}: sandboxer.ErrReadyTimeout,
		&sandboxer.ResidueError{}:                sandboxer.ErrResidue,
	}
	for err, want := range tests {
		for name, sentinel := range allSentinels() {
			if got := errors.Is(fmt.Errorf("wrapped: %w", err), sentinel); got != (sentinel == want) {
				t.Errorf("%T matches %s: %v", err, name, got)
			}
		}
	}
}

func TestRetryable(t *testing.T) {
	tests := map[error]bool{
		sandboxer.ErrUnavailable: true, sandboxer.ErrResidue: true, sandboxer.ErrReadyTimeout: true,
		sandboxer.ErrInvalid: false, sandboxer.ErrAdmission: false, sandboxer.ErrHostKey: false, sandboxer.ErrAuth: false,
		sandboxer.ErrProvision: false, sandboxer.ErrNotReady: false, context.Canceled: false, nil: false,
	}
	for err, want := range tests {
		if got := sandboxer.Retryable(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	for _, never := range []error{sandboxer.ErrHostKey, sandboxer.ErrAuth, sandboxer.ErrUnsupported} {
		if sandboxer.Retryable(fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, never)) {
			t.Errorf("unavailable because %v is called retryable", never)
		}
	}
}

func TestHints(t *testing.T) {
	cause := sandboxer.WithHint(sandboxer.ErrUnavailable, "start %s", "sshd")
	tests := map[string]error{
		"start sshd": fmt.Errorf("dial: %w", cause),
		"mine":       &sandboxer.Error{Op: "x", Err: cause, Hint: "mine"},
		"":           sandboxer.ErrUnavailable,
	}
	for want, err := range tests {
		if got := sandboxer.Hint(err); got != want {
			t.Errorf("%v: hint %q, want %q", err, got, want)
		}
	}
	if got := sandboxer.Hint(&sandboxer.Error{Op: "x", Err: cause}); got != "start sshd" {
		t.Errorf("through an Error: %q", got)
	}
	if cause.Error() != "unavailable" || !errors.Is(cause, sandboxer.ErrUnavailable) {
		t.Errorf("a hint changed the error to %v", cause)
	}
	if sandboxer.WithHint(nil, "x") != nil || sandboxer.Hint(nil) != "" {
		t.Error("nothing with a hint is something")
	}
	if got := sandboxer.Hint(fmt.Errorf("probe: %w", sandboxer.WithHint(cause, ""))); got != "start sshd" {
		t.Errorf("an empty hint hides the one below it: %q", got)
	}
}

// Why a host was rejected is recognised behind the lack of a route.
func TestRouteErrorKeepsItsCauses(t *testing.T) {
	w := newWorld(t)
	failing := fmt.Errorf("%w: SHA256:abc", sandboxer.ErrHostKey)
	_, err := w.client(process{fault: func(_ context.Context, s extensiontest.Step) error {
		if s.Op == "probe" {
			return sandboxer.WithHint(failing, "compare the fingerprint")
		}
		return nil
	}}).Create(t.Context(), basicRequest())
	wantError(t, err, "create", sandboxer.ErrNoRoute, sandboxer.ErrHostKey)
	if got := sandboxer.Hint(err); got != "compare the fingerprint" {
		t.Errorf("hint is %q", got)
	}
}
