package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// An Error is a problem that the server answered with.
type Error struct{ api.Problem }

func (e *Error) Error() string { return e.Detail }

// Is reports whether the server's error matched a sentinel of package sandboxer.
func (e *Error) Is(target error) bool { return target != nil && sentinels()[e.Code] == target }

// As finds the errors of package sandboxer that carry more than a text.
func (e *Error) As(target any) bool {
	switch t := target.(type) {
	case **sandboxer.AdmissionError:
		if len(e.Violations) > 0 {
			*t = &sandboxer.AdmissionError{Admission: sandboxer.Admission{Verdict: sandboxer.Deny, Violations: e.Violations}}
			return true
		}
	case **sandboxer.RouteError:
		if e.Route != nil {
			*t = &sandboxer.RouteError{Route: *e.Route}
			return true
		}
	case **sandboxer.StageError:
		if e.Log != "" {
			*t = &sandboxer.StageError{Stage: e.Stage, Message: e.Detail, Log: e.Log}
			return true
		}
	}
	return false
}

// sentinels by code; see sandboxer.Code.
func sentinels() map[string]error {
	all := map[string]error{
		"unauthorized": sandboxer.ErrAuth, "forbidden": sandboxer.ErrAuth, "precondition": sandboxer.ErrConflict,
		"precondition_required": sandboxer.ErrInvalid, "method": sandboxer.ErrInvalid, "media_type": sandboxer.ErrInvalid, "too_large": sandboxer.ErrInvalid,
	}
	for _, err := range []error{
		sandboxer.ErrHostKey, sandboxer.ErrAuth, sandboxer.ErrAdmission, sandboxer.ErrUnsupported, sandboxer.ErrLimit, sandboxer.ErrNoRoute,
		sandboxer.ErrReadyTimeout, sandboxer.ErrNotReady, sandboxer.ErrProvision, sandboxer.ErrResidue, sandboxer.ErrState, sandboxer.ErrConflict,
		sandboxer.ErrExists, sandboxer.ErrInvalid, sandboxer.ErrNotFound, sandboxer.ErrUnavailable,
	} {
		all[sandboxer.Code(err)] = err
	}
	return all
}

// problem reads an answer that is no success.
func problem(resp *http.Response) error {
	var p api.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Code == "" {
		return fmt.Errorf("%w: the server answers %s, which is not what sandboxd says", sandboxer.ErrUnavailable, resp.Status)
	}
	return sandboxer.WithHint(&Error{p}, "%s", p.Hint)
}

// left is the sandbox that an error shows, or nil.
func left(err error) *sandboxer.Sandbox {
	var e *Error
	if errors.As(err, &e) {
		return e.Sandbox
	}
	return nil
}

// failure is the error of a create whose end was watched.
func failure(s *sandboxer.Sandbox) error {
	f := s.Failure
	if f == nil {
		return &Error{api.Problem{Code: "conflict", Class: api.ClassConflict, Detail: fmt.Sprintf("create %s: it is %s (%s): somebody else destroyed it", s.ID, s.State, s.Reason), SandboxID: s.ID, Sandbox: s}}
	}
	e := &Error{api.Problem{
		Code: f.Code, Detail: fmt.Sprintf("create %s: %s", s.ID, f.Message), SandboxID: s.ID, Host: s.Host, Extension: s.Extension,
		Stage: f.Stage, Log: f.Log, Sandbox: s,
	}}
	e.Class = api.ClassOf(sentinels()[f.Code])
	return sandboxer.WithHint(e, "%s", f.Hint)
}
