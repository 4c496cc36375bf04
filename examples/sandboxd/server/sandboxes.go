package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// named is the sandbox of the path, if it is there for the caller. That of
// another project is not found, just as one that never was.
func (s *Server) named(c *call) (*sandboxer.Sandbox, error) {
	id := c.Request.PathValue("id")
	sandbox, err := s.client.Get(c.Request.Context(), id)
	if err != nil && sandboxer.Code(err) != "not_found" {
		return nil, err
	}
	if err != nil || !c.who.sees(sandbox.Consumer) {
		return nil, refuse(http.StatusNotFound, "not_found", api.ClassNotFound, "there is no sandbox %s", brief(id))
	}
	return sandbox, nil
}

func (s *Server) getSandbox(c *call) error {
	sandbox, err := s.named(c)
	if err != nil {
		return err
	}
	if c.params.flag("observe") {
		if sandbox, err = s.client.Inspect(c.Request.Context(), sandbox.ID); err != nil {
			return err
		}
		return s.answer(c, http.StatusOK, sandbox)
	}
	tag := tagOf(sandbox)
	if known := tags(c.params.list("If-None-Match")); matches(known, tag) || slices.Contains(known, "W/"+tag) {
		c.Header().Set("ETag", tag)
		c.WriteHeader(http.StatusNotModified)
		return nil
	}
	return s.show(c, http.StatusOK, sandbox)
}

// tags are the entity tags of a header.
func tags(header string) []string {
	var all []string
	for part := range strings.SplitSeq(header, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

// listSandboxes selects, and shows a page of what the caller sees.
func (s *Server) listSandboxes(c *call) error {
	after, err := cursorOf(c.params.text("cursor"))
	if err != nil {
		return err
	}
	f := sandboxer.Filter{
		Project: c.params.text("project"), ActorType: sandboxer.ActorType(c.params.text("actor_type")),
		Profile: c.params.text("profile"), Host: c.params.text("host"), Labels: c.params.pairs("label"),
	}
	for _, state := range c.params.all("state") {
		f.States = append(f.States, sandboxer.State(state))
	}
	if len(f.States) == 0 && !c.params.flag("all") {
		f.States = living()
	}
	if !c.who.admin {
		if f.Project != "" && f.Project != c.who.consumer.Project {
			return s.answer(c, http.StatusOK, api.SandboxPage{Sandboxes: []sandboxer.Sandbox{}})
		}
		f.Project = c.who.consumer.Project
	}
	all, err := s.client.List(c.Request.Context(), f)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(x sandboxer.Sandbox) bool { return !after.before(position{x.CreatedAt, x.ID, 0}) })
	page := api.SandboxPage{Sandboxes: append([]sandboxer.Sandbox{}, all...)}
	if limit := c.params.number("limit"); len(all) > limit {
		page.Sandboxes = all[:limit]
		last := all[limit-1]
		page.Next = position{last.CreatedAt, last.ID, 0}.cursor()
		c.linkNext(page.Next)
	}
	return s.answer(c, http.StatusOK, page)
}

// linkNext says where the next page is, also for clients that do not look into it.
func (c *call) linkNext(cursor string) {
	query := c.Request.URL.Query()
	query.Set("cursor", cursor)
	c.Header().Set("Link", "<"+c.Request.URL.EscapedPath()+"?"+query.Encode()+`>; rel="next"`)
}

// precondition is the errand of a change that may depend on the sandbox's state.
func (c *call) precondition(id string) *errand {
	e := newErrand()
	if given := tags(c.params.list("If-Match")); len(given) > 0 {
		e.only, e.match = id, given
	}
	return e
}

// destroySandbox goes on when its client leaves.
func (s *Server) destroySandbox(c *call) error {
	sandbox, err := s.named(c)
	if err != nil {
		return err
	}
	w, err := s.begin("destroy", sandbox.Consumer, c.precondition(sandbox.ID), func(ctx context.Context) (*sandboxer.Sandbox, error) {
		return s.client.Destroy(ctx, sandbox.ID)
	})
	if err != nil {
		return err
	}
	return s.finish(c, w)
}

// recreateSandbox wants to know of which state: what is in the sandbox is lost.
func (s *Server) recreateSandbox(c *call) error {
	sandbox, err := s.named(c)
	if err != nil {
		return err
	}
	e := c.precondition(sandbox.ID)
	if e.only == "" {
		return sandboxer.WithHint(refuse(http.StatusPreconditionRequired, "precondition_required", api.ClassUsage, "a recreate needs If-Match"),
			"send the ETag of the sandbox as you know it, or * for whatever it is now")
	}
	if repo, ok := sandbox.Inputs[sandboxer.WorkspaceInput]; ok {
		if err := c.who.stillThere(repo); err != nil {
			return err
		}
	}
	w, err := s.begin("recreate", sandbox.Consumer, e, func(ctx context.Context) (*sandboxer.Sandbox, error) {
		return s.client.Recreate(ctx, sandbox.ID)
	})
	if err != nil {
		return err
	}
	return s.finish(c, w)
}

func (s *Server) extendSandbox(c *call) error {
	var given api.ExtendRequest
	if err := readBody(c, &given); err != nil {
		return err
	}
	return s.change(c, func(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
		return s.client.ExtendTTL(ctx, id, given.TTL.Std())
	})
}

func (s *Server) activateSandbox(c *call) error { return s.change(c, s.client.Activate) }

func (s *Server) deactivateSandbox(c *call) error { return s.change(c, s.client.Deactivate) }

// change does what is done at once.
func (s *Server) change(c *call, do func(context.Context, string) (*sandboxer.Sandbox, error)) error {
	sandbox, err := s.named(c)
	if err != nil {
		return err
	}
	changed, err := do(withErrand(c.Request.Context(), c.precondition(sandbox.ID)), sandbox.ID)
	if err != nil {
		return &failed{error: err, sandbox: changed}
	}
	return s.show(c, http.StatusOK, changed)
}
