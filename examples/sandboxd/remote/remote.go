// Package remote is a client of sandboxd with the operations of
// [sandboxer.Client], so that a program can work with either.
package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// A Client speaks to one server. It is safe for concurrent use. Errors that
// the server answered match the sentinels of package sandboxer, and an
// [*Error]; one without an answer matches sandboxer.ErrUnavailable.
type Client struct {
	base, token     string
	http            *http.Client
	pause, patience time.Duration // of a watch
}

// New returns a client of the server at an address such as
// http://127.0.0.1:8080. The token may be empty.
func New(server, token string) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("server %q: %w: want an address such as http://127.0.0.1:8080", server, sandboxer.ErrInvalid)
	}
	// a token goes nowhere but where it was meant for
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: strings.TrimSuffix(server, "/"), token: token, http: &http.Client{CheckRedirect: stay}, pause: watchPause, patience: watchPatience}, nil
}

// send makes a request; headers are pairs of names and values. An answer that
// is a problem becomes an error.
func (c *Client) send(ctx context.Context, method, path string, body any, headers ...string) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", api.JSONType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp, nil
}

func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return sandboxer.WithHint(fmt.Errorf("%w: %w", sandboxer.ErrUnavailable, err), "see that sandboxd runs and that --server is its address")
}

// do sends a request and decodes the document that answers it.
func (c *Client) do(ctx context.Context, method, path string, body, into any, headers ...string) (*http.Response, error) {
	resp, err := c.send(ctx, method, path, body, headers...)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return nil, unreachable(ctx, err)
	}
	return resp, nil
}

// sandbox does an operation that is answered with a sandbox. With an error the
// sandbox is as the failed operation left it, if the server says so.
func (c *Client) sandbox(ctx context.Context, method, path string, body any, headers ...string) (*sandboxer.Sandbox, error) {
	var s sandboxer.Sandbox
	if _, err := c.do(ctx, method, path, body, &s, headers...); err != nil {
		return left(err), err
	}
	return &s, nil
}

func at(id string, more ...string) string {
	return "/v1/sandboxes/" + url.PathEscape(id) + strings.Join(more, "")
}

// cleanupPatience is how long a create that is given up may take to say so.
const cleanupPatience = 10 * time.Second

// Create is [sandboxer.Client.Create]. The server works, and this client
// watches: progress goes where sandboxer.WithProgress says. When ctx ends, or
// no answer comes, a create without an idempotency key is destroyed; one with
// a key goes on.
func (c *Client) Create(ctx context.Context, req sandboxer.CreateRequest) (*sandboxer.Sandbox, error) {
	key := cmp.Or(req.IdempotencyKey, rand.Text()) // a request that is sent again makes no second sandbox
	s, goesOn, err := c.post(ctx, req, key)
	switch {
	case err != nil && req.IdempotencyKey == "" && unanswered(err):
		return nil, errors.Join(err, c.takeBack(ctx, req, key))
	case err != nil || !goesOn:
		return s, err
	}
	now, err := c.wait(ctx, "create", s, s.Generation, req.KeepFailed)
	if ctx.Err() != nil && req.IdempotencyKey == "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupPatience)
		defer cancel()
		err = errors.Join(err, c.discard(ctx, s))
	}
	return now, err
}

// post asks for a sandbox.
func (c *Client) post(ctx context.Context, req sandboxer.CreateRequest, key string) (s *sandboxer.Sandbox, goesOn bool, err error) {
	return c.begin(ctx, http.MethodPost, "/v1/sandboxes", request(req), "Idempotency-Key", key)
}

// begin starts work on a sandbox. It reports whether the server goes on with
// it; otherwise the sandbox is as the work left it.
func (c *Client) begin(ctx context.Context, method, path string, body any, headers ...string) (s *sandboxer.Sandbox, goesOn bool, err error) {
	s = new(sandboxer.Sandbox)
	resp, err := c.do(ctx, method, path, body, s, append(headers, "Prefer", "respond-async")...)
	if err != nil {
		return left(err), false, err
	}
	return s, resp.StatusCode == http.StatusAccepted, nil
}

// unanswered reports whether the server may have got the request of an error
// and said nothing to it.
func unanswered(err error) bool {
	var answer *Error
	var network *net.OpError
	return !errors.As(err, &answer) && !(errors.As(err, &network) && network.Op == "dial")
}

// takeBack destroys what came of a create of which no answer came. Only the
// same request with the same key can tell what that is; and from then on the
// key is used, should the first request still be on its way.
func (c *Client) takeBack(ctx context.Context, req sandboxer.CreateRequest, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupPatience)
	defer cancel()
	s, _, err := c.post(ctx, req, key)
	switch {
	case s != nil:
		return c.discard(ctx, s)
	case err != nil && unanswered(err):
		return sandboxer.WithHint(fmt.Errorf("the server may go on with the create: %w", err), "see with list whether it does, and destroy what it made")
	}
	return nil // it was refused: there is nothing
}

// discard tells the server to destroy what nobody waits for.
func (c *Client) discard(ctx context.Context, s *sandboxer.Sandbox) error {
	if s.State.Terminal() {
		return nil
	}
	_, _, err := c.begin(ctx, http.MethodDelete, at(s.ID), nil)
	return err
}

// request is what the server wants to know; who asks is said only where it
// is not left to the token.
func request(req sandboxer.CreateRequest) api.CreateRequest {
	r := api.CreateRequest{
		Profile: req.Profile, Inputs: req.Inputs, Labels: req.Labels, TTL: req.TTL, Policy: req.Policy, Host: req.Host, KeepFailed: req.KeepFailed,
	}
	if who := req.Consumer; who != (sandboxer.Consumer{}) {
		r.Consumer = &api.Claim{Project: who.Project, ActorType: who.ActorType, Actor: who.Actor, Run: who.Run}
	}
	return r
}

// Plan is [sandboxer.Client.Plan].
func (c *Client) Plan(ctx context.Context, req sandboxer.CreateRequest, opts sandboxer.PlanOptions) (*sandboxer.Plan, error) {
	var plan sandboxer.Plan
	if _, err := c.do(ctx, http.MethodPost, fmt.Sprintf("/v1/plan?probe=%v", opts.Probe), request(req), &plan); err != nil {
		var e *Error
		if errors.As(err, &e) {
			return e.Plan, err
		}
		return nil, err
	}
	return &plan, nil
}

// Get is [sandboxer.Client.Get].
func (c *Client) Get(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
	return c.sandbox(ctx, http.MethodGet, at(id), nil)
}

// Inspect is [sandboxer.Client.Inspect].
func (c *Client) Inspect(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
	return c.sandbox(ctx, http.MethodGet, at(id, "?observe=true"), nil)
}

// List is [sandboxer.Client.List].
func (c *Client) List(ctx context.Context, f sandboxer.Filter) ([]sandboxer.Sandbox, error) {
	query := url.Values{"limit": {"1000"}}
	for name, value := range map[string]string{"project": f.Project, "actor_type": string(f.ActorType), "profile": f.Profile, "host": f.Host} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for _, s := range f.States {
		query.Add("state", string(s))
	}
	if len(f.States) == 0 {
		query.Set("all", "true")
	}
	for key, value := range f.Labels {
		query.Add("label", key+"="+value)
	}
	var all []sandboxer.Sandbox
	for {
		var page api.SandboxPage
		if _, err := c.do(ctx, http.MethodGet, "/v1/sandboxes?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		if all = append(all, page.Sandboxes...); page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}

// Destroy is [sandboxer.Client.Destroy], with progress as Create tells it; the
// server goes on when ctx ends.
func (c *Client) Destroy(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
	s, goesOn, err := c.begin(ctx, http.MethodDelete, at(id), nil)
	if err != nil || !goesOn {
		return s, err
	}
	w := &watch{Client: c, op: "destroy", sandbox: s, ended: removed}
	now, err := w.end(ctx)
	if err == nil && !now.State.Terminal() {
		err = unfinished("destroy", now)
	}
	return now, err
}

// Recreate is [sandboxer.Client.Recreate], of the state in which the sandbox
// is now, with progress as Create tells it; the server goes on when ctx ends.
func (c *Client) Recreate(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
	var before sandboxer.Sandbox
	resp, err := c.do(ctx, http.MethodGet, at(id), nil, &before)
	if err != nil {
		return nil, err
	}
	s, goesOn, err := c.begin(ctx, http.MethodPost, at(id, "/recreate"), nil, "If-Match", resp.Header.Get("ETag"))
	if err != nil || !goesOn {
		return s, err
	}
	return c.wait(ctx, "recreate", s, before.Generation+1, false)
}

// ExtendTTL is [sandboxer.Client.ExtendTTL].
func (c *Client) ExtendTTL(ctx context.Context, id string, d time.Duration) (*sandboxer.Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, at(id, "/extend"), api.ExtendRequest{TTL: sandboxer.Duration(d)})
}

// Activate is [sandboxer.Client.Activate].
func (c *Client) Activate(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, at(id, "/activate"), nil)
}

// Deactivate is [sandboxer.Client.Deactivate].
func (c *Client) Deactivate(ctx context.Context, id string) (*sandboxer.Sandbox, error) {
	return c.sandbox(ctx, http.MethodPost, at(id, "/deactivate"), nil)
}

// Events is [sandboxer.Client.Events].
func (c *Client) Events(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
	path := "/v1/events"
	if id != "" {
		path = at(id, "/events")
	}
	var all []sandboxer.Event
	for cursor := ""; ; {
		var page api.EventPage
		if _, err := c.do(ctx, http.MethodGet, path+"?limit=1000&cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Events {
			if e.Seq > after {
				all = append(all, e)
			}
		}
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

// Usage is [sandboxer.Client.Usage], of what the token may see.
func (c *Client) Usage(ctx context.Context, by sandboxer.MeterBy, w sandboxer.Window) ([]sandboxer.Meter, error) {
	query := url.Values{"by": {string(by)}}
	for name, t := range map[string]time.Time{"since": w.Since, "until": w.Until} {
		if !t.IsZero() {
			query.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	var usage api.Usage
	_, err := c.do(ctx, http.MethodGet, "/v1/usage?"+query.Encode(), nil, &usage)
	return usage.Meters, err
}

// Hosts is [sandboxer.Client.Hosts], as the server found them lately.
func (c *Client) Hosts(ctx context.Context) ([]sandboxer.HostStatus, error) {
	var list api.HostList
	if _, err := c.do(ctx, http.MethodGet, "/v1/hosts", nil, &list); err != nil {
		return nil, err
	}
	var all []sandboxer.HostStatus
	for _, room := range list.Hosts {
		all = append(all, room.HostStatus)
	}
	return all, nil
}

// Profiles are those that requests to the server may name.
func (c *Client) Profiles(ctx context.Context) ([]sandboxer.Profile, error) {
	var list api.ProfileList
	_, err := c.do(ctx, http.MethodGet, "/v1/profiles", nil, &list)
	return list.Profiles, err
}
