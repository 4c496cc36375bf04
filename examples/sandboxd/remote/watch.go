package remote

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

const (
	// watchPause is how long a watch waits before it connects again.
	watchPause = time.Second
	// watchPatience is how long a server may be away, as for a restart.
	watchPatience = time.Minute
)

// watch follows the events of a sandbox that is being created to the outcome.
func (c *Client) watch(ctx context.Context, s *sandboxer.Sandbox, keepFailed bool) (*sandboxer.Sandbox, error) {
	last, heard := "", time.Now()
	for {
		before := last
		outcome, err := c.follow(ctx, s.ID, &last, keepFailed)
		switch {
		case ctx.Err() != nil:
			return s, context.Cause(ctx)
		case outcome:
			return c.concluded(ctx, s)
		case err != nil && !errors.Is(err, sandboxer.ErrUnavailable):
			return s, err
		}
		if last != before {
			heard = time.Now()
		}
		if time.Since(heard) > watchPatience {
			return s, unreachable(ctx, io.ErrUnexpectedEOF)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

func (c *Client) concluded(ctx context.Context, s *sandboxer.Sandbox) (*sandboxer.Sandbox, error) {
	now, err := c.Get(ctx, s.ID)
	if err != nil {
		return s, err
	}
	if now.State == sandboxer.StateReady || now.State == sandboxer.StateActive || now.State == sandboxer.StateLost {
		return now, nil
	}
	return now, failure(now)
}

// follow reads one stream, from after the last event on. It reports whether
// the outcome of the create was told; otherwise the stream broke off.
func (c *Client) follow(ctx context.Context, id string, last *string, keepFailed bool) (outcome bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	headers := []string{"Accept", api.StreamType}
	if *last != "" {
		headers = append(headers, "Last-Event-ID", *last)
	}
	resp, err := c.send(ctx, http.MethodGet, at(id, "/events"), nil, headers...)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return true, nil
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var name, data string
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			*last = value
		case "event":
			name = value
		case "data":
			data = value
		case "":
			if data != "" && told(ctx, name, data, keepFailed) {
				return true, nil
			}
			name, data = "", ""
		}
	}
	return false, unreachable(ctx, cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}

// told passes progress on, and says whether an event is the outcome.
func told(ctx context.Context, name, data string, keepFailed bool) bool {
	if name == "progress" {
		var r api.Report
		if json.Unmarshal([]byte(data), &r) == nil {
			sandboxer.ReportProgress(ctx, r.Progress)
		}
		return false
	}
	var e sandboxer.Event
	if json.Unmarshal([]byte(data), &e) != nil {
		return false
	}
	switch e.State {
	case sandboxer.StateReady, sandboxer.StateActive, sandboxer.StateLost, sandboxer.StateDestroyed:
		return true
	case sandboxer.StateFailed:
		return keepFailed
	case sandboxer.StateDestroying:
		return e.ErrorCode != "" // removed as far as could be
	}
	return false
}
