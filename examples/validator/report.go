package main

import (
	"errors"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A report is the validator's own result. sand-boxer has no part in it.
type report struct {
	Verdict      verdict   `json:"verdict"`
	Why          string    `json:"why,omitempty"`
	Code         string    `json:"code,omitempty"` // of an error of sand-boxer's behind why
	Sandbox      string    `json:"sandbox,omitempty"`
	Host         string    `json:"host,omitempty"`
	Checks       []result  `json:"checks,omitempty"`
	ProvedAbsent time.Time `json:"proved_absent,omitzero"` // when the host was asked and held nothing any more
}

type result struct {
	Name    string  `json:"name"`
	Passed  bool    `json:"passed"`
	Problem string  `json:"problem,omitempty"`
	Seconds float64 `json:"seconds"`
}

type verdict string

const (
	passed  verdict = "passed"
	failed  verdict = "failed"  // the repository is at fault
	unknown verdict = "unknown" // something else is: nothing is known of the repository
)

// about takes from a sandbox what the report tells of it.
func (r *report) about(box *sandboxer.Sandbox) {
	if box == nil {
		return
	}
	r.Sandbox, r.Host = box.ID, box.Host
	if box.State == sandboxer.StateDestroyed && box.Removal != nil {
		r.ProvedAbsent = box.Removal.VerifiedAt
	}
}

// conclude is the verdict when every check was made.
func (r *report) conclude() {
	r.Verdict = passed
	if slices.ContainsFunc(r.Checks, func(c result) bool { return !c.Passed }) {
		r.Verdict = failed
	}
}

// blame is the verdict when err kept checks from being made.
func (r *report) blame(err error) {
	r.Why, r.Verdict = err.Error(), unknown
	var refused *sandboxer.Error
	if errors.As(err, &refused) {
		r.Code = sandboxer.Code(err)
	}
	for _, fault := range []error{errSuite, sandboxer.ErrAdmission, sandboxer.ErrProvision, sandboxer.ErrNotReady, sandboxer.ErrReadyTimeout} {
		if errors.Is(err, fault) {
			r.Verdict = failed
		}
	}
}
