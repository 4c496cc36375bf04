package api

import (
	"errors"

	"github.com/sand-boxer/sandboxer"
)

// ProblemType is the media type of a [Problem].
const ProblemType = "application/problem+json"

// ProblemBase is what the type of a problem begins with; its code follows.
const ProblemBase = "https://github.com/sand-boxer/sandboxer/problems/"

// A Problem is a refusal or a failure as RFC 9457 has it.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code is the kind of the error, as in events and records; besides those
	// of the library there are unauthorized, forbidden, method, media_type,
	// too_large, precondition and precondition_required.
	Code      string `json:"code"`
	Class     Class  `json:"class"`
	Hint      string `json:"hint,omitempty"`      // what to do about it
	Retryable bool   `json:"retryable,omitempty"` // the same request may succeed later

	SandboxID string `json:"sandbox_id,omitempty"`
	Extension string `json:"extension,omitempty"`
	Host      string `json:"host,omitempty"`
	Stage     string `json:"stage,omitempty"` // that failed
	Log       string `json:"log,omitempty"`   // the last lines of what failed

	Fields     []Field               `json:"fields,omitempty"`     // what is wrong with the request, all at once
	Violations []sandboxer.Violation `json:"violations,omitempty"` // what admission refused
	Route      *sandboxer.Route      `json:"route,omitempty"`      // why no host can take it
	Residue    []sandboxer.Resource  `json:"residue,omitempty"`    // what could not be proved absent
	Sandbox    *sandboxer.Sandbox    `json:"sandbox,omitempty"`    // as the failed operation left it
	Plan       *sandboxer.Plan       `json:"plan,omitempty"`       // as far as it could be made
}

// A Field is one thing wrong with a request.
type Field struct {
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason"`
}

// Class says what kind of failure it is; the command line's exit codes are these.
type Class string

// The classes.
const (
	ClassFailed   Class = "failed"    // 1: it was tried and did not work
	ClassUsage    Class = "usage"     // 2: the request is not as it must be
	ClassNotFound Class = "not_found" // 3: no such thing
	ClassRefused  Class = "refused"   // 4: admission, policy or a limit
	ClassNoHost   Class = "no_host"   // 5: no route, or a host is unavailable
	ClassConflict Class = "conflict"  // 6: the sandbox's state or somebody else stands against it
)

// Exit is the exit code of the command line for the class.
func (c Class) Exit() int {
	switch c {
	case ClassUsage:
		return 2
	case ClassNotFound:
		return 3
	case ClassRefused:
		return 4
	case ClassNoHost:
		return 5
	case ClassConflict:
		return 6
	}
	return 1
}

// ClassOf is the class of an error of the library.
func ClassOf(err error) Class {
	is := func(sentinels ...error) bool {
		for _, s := range sentinels {
			if errors.Is(err, s) {
				return true
			}
		}
		return false
	}
	var route *sandboxer.RouteError
	switch {
	case errors.As(err, &route):
		return classOfRoute(route)
	case is(sandboxer.ErrAdmission, sandboxer.ErrUnsupported, sandboxer.ErrLimit):
		return ClassRefused
	case is(sandboxer.ErrConflict, sandboxer.ErrState, sandboxer.ErrExists):
		return ClassConflict
	case is(sandboxer.ErrProvision, sandboxer.ErrNotReady, sandboxer.ErrReadyTimeout, sandboxer.ErrResidue):
		return ClassFailed
	case is(sandboxer.ErrUnavailable, sandboxer.ErrHostKey, sandboxer.ErrAuth):
		return ClassNoHost
	case is(sandboxer.ErrNotFound):
		return ClassNotFound
	case is(sandboxer.ErrInvalid):
		return ClassUsage
	}
	return ClassFailed
}

// classOfRoute tells a host that does not exist from one that cannot be used.
func classOfRoute(e *sandboxer.RouteError) Class {
	causes := e.Unwrap()
	for _, cause := range causes {
		if !errors.Is(cause, sandboxer.ErrNotFound) {
			return ClassNoHost
		}
	}
	if len(causes) > 0 {
		return ClassNotFound
	}
	return ClassNoHost
}
