package sandboxer

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Sentinels for [errors.Is]. Extensions wrap them; every error a [Client]
// returns matches exactly the ones that are true of it.
var (
	// ErrNotFound: no such sandbox, profile, extension, host, service or file.
	ErrNotFound = errors.New("not found")
	// ErrExists: a record with that id or idempotency key is already stored.
	ErrExists = errors.New("already exists")
	// ErrInvalid: the request or a document can never be served as it is written.
	ErrInvalid = errors.New("invalid")
	// ErrAdmission: the workspace asks for something the profile does not allow. See [AdmissionError].
	ErrAdmission = errors.New("refused by admission")
	// ErrUnsupported: a required control or feature cannot be enforced by the extension or host.
	ErrUnsupported = errors.New("not supported")
	// ErrState: the operation is not legal in the sandbox's state. See [TransitionError].
	ErrState = errors.New("not allowed in this state")
	// ErrConflict: another process changed the sandbox, or the idempotency key was used with another payload.
	ErrConflict = errors.New("conflict")
	// ErrLimit: a maximum (TTL, slots, disk) would be exceeded.
	ErrLimit = errors.New("limit reached")
	// ErrNoRoute: no host can serve the request. See [RouteError].
	ErrNoRoute = errors.New("no route")
	// ErrUnavailable: the host or its engine did not answer as needed; another host or a later try may succeed.
	ErrUnavailable = errors.New("unavailable")
	// ErrHostKey: the host's key is unknown, changed or revoked. Never retried.
	ErrHostKey = errors.New("host key not trusted")
	// ErrAuth: the host refused the credentials. Tried once, never retried.
	ErrAuth = errors.New("authentication refused")
	// ErrProvision: the backend could not build or start what was asked for. See [StageError].
	ErrProvision = errors.New("provisioning failed")
	// ErrReadyTimeout: the sandbox started and did not become ready within its bound. See [NotReadyError].
	ErrReadyTimeout = errors.New("not ready in time")
	// ErrNotReady: a service ended, crashed or reported itself unhealthy for good. See [NotReadyError].
	ErrNotReady = errors.New("not ready")
	// ErrResidue: something of the sandbox could not be proved absent. See [ResidueError].
	ErrResidue = errors.New("not proved absent")
)

// Error is what operations of a [Client] return: what was tried, on what,
// where, why it failed and what a person can do about it.
type Error struct {
	Op        string // the operation, as a person would type it: "create", "destroy"
	SandboxID string
	Extension string
	Host      string
	Stage     string // the stage that failed, when the extension knows: "upload", "build", "up"
	Err       error
	Hint      string // a remedy, in one sentence
}

// Error joins what is known into one line; the stage is named by Err, and the
// hint is left to the caller.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.SandboxID != "" {
		b.WriteString(" " + e.SandboxID)
	}
	if e.Host != "" {
		b.WriteString(" on " + e.Host)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call may succeed later without anybody
// changing the request, the profile or the host's configuration.
func Retryable(err error) bool {
	switch {
	case errors.Is(err, ErrHostKey), errors.Is(err, ErrAuth), errors.Is(err, ErrInvalid), errors.Is(err, ErrAdmission), errors.Is(err, ErrUnsupported):
		return false
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrResidue) || errors.Is(err, ErrReadyTimeout)
}

// Code names the kind of an error for programs that cannot use [errors.Is]:
// readers of events, of records and of HTTP answers. It is the most specific
// of the sentinels that err matches, "canceled" or "timeout" for the end of a
// context, "internal" for everything else, and "" for nil.
func Code(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range []struct {
		sentinel error
		code     string
	}{
		{ErrHostKey, "host_key"}, {ErrAuth, "auth"}, {ErrAdmission, "admission"}, {ErrUnsupported, "unsupported"}, {ErrLimit, "limit"},
		{ErrNoRoute, "no_route"}, {ErrReadyTimeout, "ready_timeout"}, {ErrNotReady, "not_ready"}, {ErrProvision, "provision"},
		{ErrResidue, "residue"}, {ErrState, "state"}, {ErrConflict, "conflict"}, {ErrExists, "exists"}, {ErrInvalid, "invalid"},
		{ErrNotFound, "not_found"}, {ErrUnavailable, "unavailable"}, {context.Canceled, "canceled"}, {context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, c.sentinel) {
			return c.code
		}
	}
	return "internal"
}

// Hint returns the remedy carried by err, or "".
func Hint(err error) string {
	var hinted interface{ hint() string }
	if errors.As(err, &hinted) {
		return hinted.hint()
	}
	return ""
}

func (e *Error) hint() string {
	if e.Hint != "" {
		return e.Hint
	}
	return Hint(e.Err)
}

// HintError attaches a remedy to an error without changing its text.
type HintError struct {
	Err    error
	Remedy string
}

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }
func (e *HintError) hint() string  { return e.Remedy }

// WithHint attaches a remedy to err. Without a remedy err stays as it is, and
// nil stays nil.
func WithHint(err error, format string, args ...any) error {
	remedy := fmt.Sprintf(format, args...)
	if err == nil || remedy == "" {
		return err
	}
	return &HintError{Err: err, Remedy: remedy}
}

// A FieldError is one thing wrong with a document or request. It matches [ErrInvalid].
type FieldError struct {
	File   string // empty when the value did not come from a file
	Line   int    // 1-based; 0 when unknown
	Field  string // "placement.prefer[0]"
	Reason string
}

func (e *FieldError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
		if e.Line > 0 {
			fmt.Fprintf(&b, "%d:", e.Line)
		}
		b.WriteString(" ")
	} else if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Is reports whether target is [ErrInvalid].
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// A TransitionError says that the transition table has no such edge. It matches [ErrState].
type TransitionError struct {
	From, To State
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("a sandbox that is %s cannot become %s", e.From, e.To)
}

// Is reports whether target is [ErrState].
func (e *TransitionError) Is(target error) bool { return target == ErrState }

// An AdmissionError lists everything the admission gate refused, at once. It matches [ErrAdmission].
type AdmissionError struct {
	Admission Admission
}

func (e *AdmissionError) Error() string {
	v := e.Admission.Violations
	if len(v) == 0 {
		return ErrAdmission.Error()
	}
	lines := make([]string, 0, len(v))
	for _, x := range v {
		lines = append(lines, x.String())
	}
	return fmt.Sprintf("%v: %s", ErrAdmission, strings.Join(lines, "; "))
}

// Is reports whether target is [ErrAdmission].
func (e *AdmissionError) Is(target error) bool { return target == ErrAdmission }

// A RouteError carries every candidate and why it was rejected. It matches
// [ErrNoRoute] and, through the candidates' own causes, what they failed on.
type RouteError struct {
	Route Route
}

func (e *RouteError) Error() string {
	if len(e.Route.Candidates) == 0 {
		return ErrNoRoute.Error() + ": no extension offers a host"
	}
	reasons := make([]string, 0, len(e.Route.Candidates))
	for _, c := range e.Route.Candidates {
		reasons = append(reasons, fmt.Sprintf("%s: %s", c.Host, c.Rejected))
	}
	return fmt.Sprintf("%v: %s", ErrNoRoute, strings.Join(reasons, "; "))
}

// Is reports whether target is [ErrNoRoute].
func (e *RouteError) Is(target error) bool { return target == ErrNoRoute }

// Unwrap exposes what the candidates failed on, so that a rejected host key or
// credential is still recognised behind "no route".
func (e *RouteError) Unwrap() []error {
	var causes []error
	for _, c := range e.Route.Candidates {
		if c.cause != nil {
			causes = append(causes, c.cause)
		}
	}
	return causes
}

// A StageError says which stage of provisioning failed and shows the end of
// its log. It matches [ErrProvision].
type StageError struct {
	Stage    string // "config", "pull", "build", "up"
	ExitCode int
	Message  string // the backend's own last word, one line
	Log      string // the last lines of the stage's output
}

func (e *StageError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s ended with exit code %d", e.Stage, e.ExitCode)
	}
	return fmt.Sprintf("%s: %s", e.Stage, e.Message)
}

// Is reports whether target is [ErrProvision].
func (e *StageError) Is(target error) bool { return target == ErrProvision }

// A NotReadyError says which service kept the sandbox from becoming ready. It
// matches [ErrReadyTimeout] when time ran out and [ErrNotReady] otherwise.
type NotReadyError struct {
	Service  string
	State    string // the last state seen: "exited (3)", "unhealthy", "restarting (4 times)"
	Log      string // the last lines the service wrote
	TimedOut bool
}

func (e *NotReadyError) Error() string {
	if e.TimedOut {
		return fmt.Sprintf("%v: service %s is %s", ErrReadyTimeout, e.Service, e.State)
	}
	return fmt.Sprintf("service %s is %s", e.Service, e.State)
}

// Is reports whether target is the sentinel described at [NotReadyError].
func (e *NotReadyError) Is(target error) bool {
	if e.TimedOut {
		return target == ErrReadyTimeout
	}
	return target == ErrNotReady
}

// A ResidueError lists what is still there, or cannot be looked at, after a
// teardown. It matches [ErrResidue].
type ResidueError struct {
	Residue []Resource
}

func (e *ResidueError) Error() string {
	names := make([]string, 0, len(e.Residue))
	for _, r := range e.Residue {
		names = append(names, r.String())
	}
	return fmt.Sprintf("%v: %s", ErrResidue, strings.Join(names, ", "))
}

// Is reports whether target is [ErrResidue].
func (e *ResidueError) Is(target error) bool { return target == ErrResidue }
