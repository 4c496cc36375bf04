package server

import (
	"time"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// SetBodyPatience shortens how long bodies may take to arrive. Call it before
// the server answers.
func (s *Server) SetBodyPatience(d time.Duration) { s.bodyPatience = d }

// ProblemOf is the problem that an error becomes.
func ProblemOf(err error) api.Problem { return problemOf(err) }

// OwnErrors are what only the server's store refuses.
func OwnErrors() []error { return []error{&quotaError{}, &preconditionError{}} }
