package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// A refusal is an error that is a problem already.
type refusal struct{ api.Problem }

func (r *refusal) Error() string { return r.Detail }

func refuse(status int, code string, class api.Class, format string, args ...any) *refusal {
	return &refusal{api.Problem{Status: status, Code: code, Class: class, Detail: fmt.Sprintf(format, args...)}}
}

// failed is the error of an operation that has something to show all the same.
type failed struct {
	error
	sandbox *sandboxer.Sandbox // as it is now
	plan    *sandboxer.Plan    // as far as it could be made
}

func (f *failed) Unwrap() error { return f.error }

// refuse answers with a problem.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if r.Context().Err() != nil && p.Status != http.StatusRequestTimeout {
		return // nobody listens; a body that came too late ends the context, too
	}
	if p.Status == http.StatusInternalServerError {
		s.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	switch p.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="sandboxd"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		if mayPass(err) {
			w.Header().Set("Retry-After", "5")
		}
	}
	s.reply(w, r, api.ProblemType, p.Status, p)
}

// mayPass reports whether waiting can help. It cannot where every host was
// rejected for what only a person can change.
func mayPass(err error) bool {
	var route *sandboxer.RouteError
	if !errors.As(err, &route) {
		return true
	}
	return slices.ContainsFunc(route.Unwrap(), func(cause error) bool {
		for _, lasting := range []error{sandboxer.ErrUnsupported, sandboxer.ErrHostKey, sandboxer.ErrAuth, sandboxer.ErrNotFound, sandboxer.ErrInvalid} {
			if errors.Is(cause, lasting) {
				return false
			}
		}
		return true
	})
}

// problemOf puts an error into the form that is sent.
func problemOf(err error) api.Problem {
	var p api.Problem
	var r *refusal
	if errors.As(err, &r) {
		p = r.Problem
	} else {
		p = api.Problem{Status: statusOf(err), Code: codeOf(err), Class: api.ClassOf(err), Detail: err.Error(), Retryable: sandboxer.Retryable(err)}
		explain(&p, err)
	}
	p.Type, p.Title, p.Hint = api.ProblemBase+p.Code, http.StatusText(p.Status), sandboxer.Hint(err)
	var f *failed
	if errors.As(err, &f) {
		p.Sandbox, p.Plan = f.sandbox, f.plan
	}
	return p
}

// explain adds what the errors of the library know.
func explain(p *api.Problem, err error) {
	var of *sandboxer.Error
	if errors.As(err, &of) {
		p.SandboxID, p.Extension, p.Host, p.Stage = of.SandboxID, of.Extension, of.Host, of.Stage
	}
	var admission *sandboxer.AdmissionError
	var route *sandboxer.RouteError
	var stage *sandboxer.StageError
	var notReady *sandboxer.NotReadyError
	var residue *sandboxer.ResidueError
	switch {
	case errors.As(err, &admission):
		p.Violations = admission.Admission.Violations
	case errors.As(err, &route):
		p.Route = &route.Route
	case errors.As(err, &notReady):
		p.Stage, p.Log = "ready", notReady.Log
	case errors.As(err, &stage):
		p.Log = stage.Log
	case errors.As(err, &residue):
		p.Residue = residue.Residue
	}
	p.Fields = fieldsOf(err)
}

// fieldsOf lists every FieldError behind err.
func fieldsOf(err error) []api.Field {
	if f, ok := err.(*sandboxer.FieldError); ok {
		return []api.Field{{Name: f.Field, Reason: f.Reason}}
	}
	var all []api.Field
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			all = fieldsOf(inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, fieldsOf(inner)...)
		}
	}
	return all
}

// codeOf adds to the library's codes that of a condition which does not hold.
func codeOf(err error) string {
	var changed *preconditionError
	if errors.As(err, &changed) {
		return "precondition"
	}
	return sandboxer.Code(err)
}

// statusOf says in HTTP's words what an error of the library means.
func statusOf(err error) int {
	var route *sandboxer.RouteError
	var tooMany *quotaError
	var changed *preconditionError
	switch {
	case errors.As(err, &tooMany):
		return http.StatusTooManyRequests
	case errors.As(err, &changed):
		return http.StatusPreconditionFailed
	case errors.As(err, &route) && api.ClassOf(err) == api.ClassNotFound:
		return http.StatusNotFound
	case errors.As(err, &route):
		return http.StatusServiceUnavailable
	}
	switch sandboxer.Code(err) {
	case "invalid", "admission", "unsupported", "limit":
		return http.StatusUnprocessableEntity
	case "not_found":
		return http.StatusNotFound
	case "state", "conflict", "exists":
		return http.StatusConflict
	case "provision", "not_ready":
		return http.StatusFailedDependency
	case "host_key", "auth", "residue":
		return http.StatusBadGateway
	case "ready_timeout", "timeout":
		return http.StatusGatewayTimeout
	case "unavailable", "canceled":
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// answer writes a JSON document.
func (s *Server) answer(c *call, status int, v any) error {
	s.reply(c, c.Request, api.JSONType, status, v)
	return nil
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, contentType string, status int, v any) {
	document, err := json.Marshal(v)
	if err != nil {
		s.log.ErrorContext(r.Context(), "answer cannot be written", "path", r.URL.Path, "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	s.send(w, contentType, status, append(document, '\n'))
}

func (s *Server) send(w http.ResponseWriter, contentType string, status int, body []byte) {
	patient(w)
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // who does not read it has left
}
