package server

import (
	"context"
	"net/http"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// request reads a request for a sandbox and makes it the library's, on the
// account of whoever sent it.
func (c *call) request() (sandboxer.CreateRequest, error) {
	var given api.CreateRequest
	if err := readBody(c, &given); err != nil {
		return sandboxer.CreateRequest{}, err
	}
	req := sandboxer.CreateRequest{
		Profile: given.Profile, Inputs: given.Inputs, Labels: given.Labels, TTL: given.TTL,
		Policy: given.Policy, Host: given.Host, KeepFailed: given.KeepFailed,
	}
	var err error
	if req.Consumer, err = c.who.claim(given.Consumer); err != nil {
		return req, err
	}
	if repo, ok := req.Inputs[sandboxer.WorkspaceInput]; ok {
		req.Inputs[sandboxer.WorkspaceInput], err = c.who.workspace(repo)
	}
	return req, err
}

// key is the idempotency key, or empty.
func (c *call) key() (string, error) {
	key := c.params.text("Idempotency-Key")
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "Idempotency-Key: has characters other than printable ASCII")
	}
	return key, nil
}

// createSandbox works for as long as it takes, whoever waits. Only a create
// that nobody could find again ends with its client.
func (s *Server) createSandbox(c *call) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	req, err := c.request()
	if err != nil {
		return err
	}
	req.IdempotencyKey = key
	if err := s.ledger.room(c.Request.Context(), req, c.who.quota); err != nil {
		return err
	}
	e := newErrand()
	e.quota, e.fleeting = c.who.quota, key == ""
	w, err := s.begin("create", req.Consumer, e, func(ctx context.Context) (*sandboxer.Sandbox, error) {
		return s.client.Create(ctx, req)
	})
	if err != nil {
		return err
	}
	done, err := s.await(c, w)
	w.left <- err != nil
	switch {
	case err != nil:
		if e.fleeting {
			w.cancel()
		}
		return err
	case !done:
		return s.accepted(c, w)
	case w.err != nil:
		return &failed{error: w.err, sandbox: w.sandbox}
	}
	c.Header().Set("Location", locationOf(w.sandbox.ID))
	if e.created {
		return s.show(c, http.StatusCreated, w.sandbox)
	}
	return s.show(c, http.StatusOK, w.sandbox)
}

// planSandbox creates nothing.
func (s *Server) planSandbox(c *call) error {
	req, err := c.request()
	if err != nil {
		return err
	}
	plan, err := s.client.Plan(c.Request.Context(), req, sandboxer.PlanOptions{Probe: c.params.flag("probe")})
	if err != nil {
		return &failed{error: err, plan: plan}
	}
	return s.answer(c, http.StatusOK, plan)
}
