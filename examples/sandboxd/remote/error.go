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
	case **sandboxer.ResidueError:
		if len(e.Residue) > 0 {
			*t = &sandboxer.ResidueError{Residue: e.Residue}
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

// failure is the error of watched work that left no usable sandbox.
func failure(op string, s *sandboxer.Sandbox, f *sandboxer.Failure) error {
	switch {
	case f != nil:
		e := problemWith(op, s, f.Code, f.Message)
		e.Stage, e.Log = f.Stage, f.Log
		return sandboxer.WithHint(e, "%s", f.Hint)
	case s.State == sandboxer.StateLost:
		return sandboxer.WithHint(problemWith(op, s, "unavailable", fmt.Sprintf("it is lost (%s): %s", s.Reason, s.Message)),
			"see with get whether it comes back, or destroy it")
	case s.State == sandboxer.StateDestroying:
		return unfinished(op, s)
	}
	return problemWith(op, s, "conflict", fmt.Sprintf("it is %s (%s): somebody else destroyed it", s.State, s.Reason))
}

// unfinished is the error of a watched teardown without its proof.
func unfinished(op string, s *sandboxer.Sandbox) error {
	e := problemWith(op, s, s.ErrorCode, s.Message)
	if s.Removal != nil {
		e.Residue = s.Removal.Residue
	}
	return sandboxer.WithHint(e, "destroy it again: that goes on where this ended")
}

func problemWith(op string, s *sandboxer.Sandbox, code, detail string) *Error {
	return &Error{api.Problem{
		Code: code, Class: api.ClassOf(sentinels()[code]), Detail: fmt.Sprintf("%s %s: %s", op, s.ID, detail),
		SandboxID: s.ID, Host: s.Host, Extension: s.Extension, Sandbox: s,
	}}
}
