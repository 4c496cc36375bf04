package remote

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// A watch follows the work of a server on a sandbox to its end.
type watch struct {
	*Client
	op      string // as a person would type it
	sandbox *sandboxer.Sandbox
	ended   func(now sandboxer.Event) bool // whether work that left a sandbox so has ended
	last    string                         // id of the last event that was dealt with
}

// end is the sandbox as the work left it. With an error of the connection it
// is as it was last known.
func (w *watch) end(ctx context.Context) (*sandboxer.Sandbox, error) {
	for heard := time.Now(); ; {
		connected, now, err := w.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return w.sandbox, context.Cause(ctx)
		case now != nil:
			return now, nil
		case err != nil && !errors.Is(err, sandboxer.ErrUnavailable):
			return w.sandbox, fmt.Errorf("%s %s: %w", w.op, w.sandbox.ID, err)
		case connected:
			heard = time.Now()
		case time.Since(heard) > w.patience:
			return w.sandbox, sandboxer.WithHint(fmt.Errorf("%s %s: the server has not answered for %v: %w", w.op, w.sandbox.ID, w.patience, err),
				"the server goes on with it once it runs again: get %s tells what came of it", w.sandbox.ID)
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.pause):
		}
	}
}

// follow reads one stream, from after the last event on. It reports whether
// there was one, and the sandbox if the work has ended; otherwise the stream
// broke off. An event only tells when to look: it may be of earlier work.
func (w *watch) follow(ctx context.Context) (connected bool, now *sandboxer.Sandbox, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	headers := []string{"Accept", api.StreamType}
	if w.last != "" {
		headers = append(headers, "Last-Event-ID", w.last)
	}
	resp, err := w.send(ctx, http.MethodGet, at(w.sandbox.ID, "/events"), nil, headers...)
	if err != nil {
		return false, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent { // nothing can follow
		now, err = w.Get(ctx, w.sandbox.ID)
		return true, now, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var id, name, data string
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			data = value
		case "":
			if data != "" {
				if now, err = w.told(ctx, name, data); now != nil || err != nil {
					return true, now, err
				}
			}
			w.last = cmp.Or(id, w.last)
			id, name, data = "", "", ""
		}
	}
	return true, nil, unreachable(ctx, cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}

// told passes progress on, and gives the sandbox if an event says that the
// work has ended and it has.
func (w *watch) told(ctx context.Context, name, data string) (*sandboxer.Sandbox, error) {
	if name == "progress" {
		var r api.Report
		if json.Unmarshal([]byte(data), &r) == nil {
			sandboxer.ReportProgress(ctx, r.Progress)
		}
		return nil, nil
	}
	var e sandboxer.Event
	if json.Unmarshal([]byte(data), &e) != nil || !w.ended(e) {
		return nil, nil
	}
	now, err := w.Get(ctx, w.sandbox.ID)
	if err != nil || !w.ended(sandboxer.Event{State: now.State, Reason: now.Reason, Generation: now.Generation, ErrorCode: now.ErrorCode}) {
		return nil, err
	}
	return now, nil
}

// removed reports whether a teardown has ended: it is gone, or its removal
// was given up. One that a server's end cut short, its next start goes on with.
func removed(now sandboxer.Event) bool {
	stopped := now.State == sandboxer.StateDestroying && now.ErrorCode != "" && now.Reason != sandboxer.ReasonCanceled
	return stopped || now.State == sandboxer.StateDestroyed
}

// established reports whether the work on a generation has ended.
func established(generation int, keepFailed bool) func(sandboxer.Event) bool {
	return func(now sandboxer.Event) bool {
		switch now.State {
		case sandboxer.StateReady, sandboxer.StateActive, sandboxer.StateLost:
			return now.Generation >= generation
		case sandboxer.StateFailed:
			return keepFailed
		}
		return removed(now)
	}
}

// wait watches work that is to leave a usable sandbox.
func (c *Client) wait(ctx context.Context, op string, s *sandboxer.Sandbox, generation int, keepFailed bool) (*sandboxer.Sandbox, error) {
	w := &watch{Client: c, op: op, sandbox: s, ended: established(generation, keepFailed)}
	now, err := w.end(ctx)
	if err != nil || now.State == sandboxer.StateReady || now.State == sandboxer.StateActive {
		return now, err
	}
	cause := now.Failure
	if now.Generation < generation { // that of an earlier one
		cause = nil
	}
	return now, failure(op, now, cause)
}
