package engine

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// The minor API versions, of major version 1, whose answers this package reads rightly: from Docker Engine 20.10 to
// the newest whose list of changes was read for it.
const (
	oldestAPI = 41
	newestAPI = 56
)

// Ping asks the engine for a sign of life and negotiates the API version anew.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.renegotiate(ctx)
	return err
}

// version is the negotiated API version. One caller negotiates, the others wait for it; when it fails, each tries for
// itself, since the reason may have been its context.
func (c *Client) version(ctx context.Context) (*string, error) {
	if v := c.negotiated.Load(); v != nil {
		return v, nil
	}
	select {
	case c.negotiating <- struct{}{}:
		defer func() { <-c.negotiating }()
	case <-ctx.Done():
		return nil, fmt.Errorf("GET /_ping: %w", ctx.Err())
	}
	if v := c.negotiated.Load(); v != nil {
		return v, nil
	}
	return c.renegotiate(ctx)
}

func (c *Client) renegotiate(ctx context.Context) (*string, error) {
	newest, err := c.ping(ctx)
	if err != nil {
		return nil, err
	}
	v, err := negotiate(newest)
	if err != nil {
		return nil, err
	}
	c.negotiated.Store(&v)
	return &v, nil
}

// ping returns the newest API version that the engine speaks.
func (c *Client) ping(ctx context.Context) (string, error) {
	const op = "GET /_ping"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", op, err)
	}
	resp, err := c.send(ctx, op, req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)); err != nil { // read out, the connection can be kept
		return "", unanswered(ctx, op, err)
	}
	return resp.Header.Get("Api-Version"), nil
}

// negotiate picks the newest version both sides speak. The engine's oldest needs no asking: it is never newer than
// the newest, and one beyond newestAPI gets an answer that says so.
func negotiate(engine string) (string, error) {
	major, minor, _ := strings.Cut(engine, ".")
	n, err := strconv.Atoi(minor)
	if err != nil || major != "1" {
		return "", fmt.Errorf("GET /_ping: the answer names API version %q: is this a container engine's socket?", engine)
	}
	if n < oldestAPI {
		return "", fmt.Errorf("%w: its API version is %s, not 1.%d or newer", ErrTooOld, engine, oldestAPI)
	}
	return "1." + strconv.Itoa(min(n, newestAPI)), nil
}
