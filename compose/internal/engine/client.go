// Package engine is a client for the part of the Docker Engine API that establishing and removing sandboxes needs.
//
// It speaks HTTP over whatever a dial function returns: the engine's unix socket, a channel of an SSH connection that
// is forwarded to it, or the standard streams of "docker system dial-stdio". The API version is negotiated, from 1.41
// (Docker Engine 20.10) on.
//
// Every method takes names and ids as the engine does, may be called concurrently, and returns as soon as its context
// is done. There are three kinds of failure: an [*Error] is the engine's answer, [ErrUnreachable] says that there was
// none, and a context's own error says that the caller did not wait for it.
package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// maxAnswer bounds the answer to one call, in bytes.
const maxAnswer = 64 << 20

// Limits bound the connections of a [Client]. The stream of an [Exec] is a connection of its own and not counted.
type Limits struct {
	Conns    int           // at once, for calls, logs and events; a further one waits for its turn. 0 is no limit
	Idle     int           // kept open between calls; 0 is 4
	IdleTime time.Duration // how long they are kept; 0 is 90 s
}

// Client talks to one engine. It holds no goroutine but those of its open connections.
type Client struct {
	dial        func(ctx context.Context) (net.Conn, error)
	transport   *http.Transport
	negotiating chan struct{} // holds one token while somebody negotiates
	negotiated  atomic.Pointer[string]
}

// New is [NewLimited] with the default limits.
func New(dial func(ctx context.Context) (net.Conn, error)) *Client {
	return NewLimited(dial, Limits{})
}

// NewLimited returns a client that connects with dial, on its first call. The connections need no working deadlines,
// and closing one need not end a read in progress.
func NewLimited(dial func(ctx context.Context) (net.Conn, error), limits Limits) *Client {
	if limits.Idle == 0 {
		limits.Idle = 4
	}
	if limits.IdleTime == 0 {
		limits.IdleTime = 90 * time.Second
	}
	c := &Client{dial: dial, negotiating: make(chan struct{}, 1)}
	c.transport = &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
		MaxConnsPerHost:     limits.Conns,
		MaxIdleConnsPerHost: limits.Idle,
		IdleConnTimeout:     limits.IdleTime,
		DisableCompression:  true,
	}
	return c
}

func (c *Client) connect(ctx context.Context) (*conn, error) {
	raw, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(raw), nil
}

// Close closes the connections that no call is using. Calls in progress keep theirs, and a later call opens one anew.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// request is one call of the API.
type request struct {
	method string
	path   string // below the version, from join
	query  url.Values
	body   any       // sent as JSON, or nil
	stream io.Reader // sent as a tar archive, or nil
}

func (r request) op() string { return r.method + " " + r.path }

// join makes a path of fixed parts and a given name or id. One that could reach another endpoint is refused.
func join(kind, name string, action ...string) (string, error) {
	if !isName(name, kind == "images") {
		return "", fmt.Errorf("%q is not a name or id of %s", name, kind)
	}
	return "/" + strings.Join(append([]string{kind, name}, action...), "/"), nil
}

// isName reports whether the engine could know an object by that name; only references to images hold slashes.
func isName(name string, reference bool) bool {
	if name == "" || name[0] == '/' || strings.Contains(name, "..") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return false
		case reference && strings.ContainsRune("/:@", r):
			return false
		}
		return !strings.ContainsRune("_.-", r)
	})
}

// call makes a request and decodes the answer into out, unless out is nil. A
// kept connection may have been lost with the link under it, so what only
// reads is asked twice.
func (c *Client) call(ctx context.Context, r request, out any) error {
	err := c.callOnce(ctx, r, out)
	if r.method == http.MethodGet && errors.Is(err, ErrUnreachable) && ctx.Err() == nil {
		err = c.callOnce(ctx, r, out)
	}
	return err
}

func (c *Client) callOnce(ctx context.Context, r request, out any) error {
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return unanswered(ctx, r.op(), err)
	case len(answer) > maxAnswer:
		return fmt.Errorf("%s: the answer is longer than %d bytes", r.op(), maxAnswer)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: the engine's answer is not what the API says: %w", r.op(), err)
	}
	return nil
}

// do makes a request and returns the answer if it says success. The caller closes its body.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	resp, version, err := c.try(ctx, r)
	if e, ok := errors.AsType[*Error](err); ok && e.refusesVersion() {
		// The engine was replaced since the version was negotiated.
		c.negotiated.CompareAndSwap(version, nil)
		if r.stream == nil {
			resp, _, err = c.try(ctx, r)
		}
	}
	return resp, err
}

func (c *Client) try(ctx context.Context, r request) (*http.Response, *string, error) {
	version, err := c.version(ctx)
	if err != nil {
		return nil, nil, err
	}
	req, err := r.build(ctx, *version)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.send(ctx, r.op(), req)
	return resp, version, err
}

// send makes one HTTP exchange.
func (c *Client) send(ctx context.Context, op string, req *http.Request) (*http.Response, error) {
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, unanswered(ctx, op, err)
	}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(op, resp)
}

func (r request) build(ctx context.Context, version string) (*http.Request, error) {
	var body io.Reader
	contentType := ""
	switch {
	case r.stream != nil:
		body, contentType = r.stream, "application/x-tar"
	case r.body != nil:
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.op(), err)
		}
		body, contentType = bytes.NewReader(encoded), "application/json"
	}
	target := url.URL{Scheme: "http", Host: "engine", Path: "/v" + version + r.path, RawQuery: r.query.Encode()}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.op(), err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if r.method == http.MethodDelete {
		// Lets the transport repeat the request when a kept connection turns out to be dead; the header is not sent.
		req.Header["Idempotency-Key"] = nil
	}
	return req, nil
}
