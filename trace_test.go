package sandboxer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// A traceLog writes spans down when they end, with the one they are in.
type traceLog struct {
	mu    sync.Mutex
	ended []string
	open  int
}

type spanKey struct{}

func (l *traceLog) tracer(ctx context.Context, name string, attributes ...slog.Attr) (context.Context, func(error, ...slog.Attr)) {
	parent, _ := ctx.Value(spanKey{}).(string)
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	return context.WithValue(ctx, spanKey{}, name), func(err error, more ...slog.Attr) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		line := strings.TrimPrefix(parent+" > "+name, " > ")
		for _, a := range append(slices.Clone(attributes), more...) {
			if a.Key == "sandbox.state" || a.Key == "reason" {
				line += " " + a.Value.String()
			}
		}
		if err != nil {
			line += " failed: " + sandboxer.Code(err)
		}
		l.ended = append(l.ended, line)
	}
}

func TestOperationsAndStagesAreTraced(t *testing.T) {
	w := newWorld(t)
	var l traceLog
	c := w.client(process{tracer: l.tracer})
	var reported []string
	ctx := sandboxer.WithProgress(t.Context(), func(p sandboxer.Progress) { reported = append(reported, p.Stage) })
	s, err := c.Create(ctx, basicRequest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Destroy(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recreate(t.Context(), s.ID); err == nil {
		t.Fatal("recreated what is destroyed")
	}
	want := []string{"create > stage admission", "create > stage route"}
	if len(l.ended) < len(want) || !slices.Equal(l.ended[:2], want) {
		t.Errorf("spans begin %q, want %q", l.ended, want)
	}
	for _, line := range []string{"create ready", "destroy consumer_request destroyed", "recreate destroyed failed: state"} {
		if !slices.Contains(l.ended, line) {
			t.Errorf("no span %q in %q", line, l.ended)
		}
	}
	if l.open != 0 {
		t.Errorf("%d spans were never ended", l.open)
	}
	if !slices.Contains(reported, "admission") {
		t.Errorf("the caller's own progress is %q", reported)
	}
}

// The stage at which an operation failed carries the failure.
func TestTheStageThatFailedIsMarked(t *testing.T) {
	w := newWorld(t)
	var l traceLog
	fault := func(ctx context.Context, step extensiontest.Step) error {
		switch step.Op { // as an extension reports that has stages
		case "provision":
			sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "build"})
			return errors.New("odd")
		case "teardown":
			sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "teardown"})
		}
		return nil
	}
	c := w.client(process{tracer: l.tracer, fault: fault})
	if _, err := c.Create(t.Context(), basicRequest()); err == nil {
		t.Fatal("create succeeded")
	}
	want := []string{"create > stage build failed: internal", "create > stage teardown", "create destroyed failed: internal"}
	if n := len(l.ended); n < 3 || !slices.Equal(l.ended[n-3:], want) {
		t.Errorf("spans end %q, want %q", l.ended, want)
	}
}

// With a fallback, the stage that failed on each host is marked.
func TestEveryHostsFailureIsMarked(t *testing.T) {
	w := newWorld(t, sandboxer.Host{Name: "one"}, sandboxer.Host{Name: "two"})
	var l traceLog
	fault := func(ctx context.Context, step extensiontest.Step) error {
		if step.Op == "provision" {
			sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "reserve"})
			return sandboxer.ErrUnavailable
		}
		return nil
	}
	if _, err := w.client(process{tracer: l.tracer, fault: fault}).Create(t.Context(), basicRequest()); !errors.Is(err, sandboxer.ErrUnavailable) {
		t.Fatalf("create gave %v", err)
	}
	marked := 0
	for _, line := range l.ended {
		if line == "create > stage reserve failed: unavailable" {
			marked++
		}
	}
	if marked != 2 {
		t.Errorf("%d stages are marked, want one for each host: %q", marked, l.ended)
	}
}

// An operation inside another has its own stages, and the caller hears of each once.
func TestStagesOfNestedOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id := w.create(w.client(process{})).ID
		time.Sleep(2 * time.Hour) // its life is over
		var l traceLog
		report := func(ctx context.Context, step extensiontest.Step) error {
			if step.Op == "teardown" {
				sandboxer.ReportProgress(ctx, sandboxer.Progress{Stage: "teardown"})
			}
			return nil
		}
		heard := 0
		c := w.client(process{tracer: l.tracer, fault: report})
		ctx := sandboxer.WithProgress(t.Context(), func(sandboxer.Progress) { heard++ })
		if ended, err := c.Reap(ctx); err != nil || len(ended) != 1 || ended[0].ID != id {
			t.Fatalf("reap gave %v, %v", ended, err)
		}
		want := []string{"destroy > stage teardown", "reap > destroy ttl_expired destroyed", "reap"}
		if diff := cmp.Diff(want, l.ended); diff != "" {
			t.Errorf("spans (-want +got):\n%s", diff)
		}
		if heard == 0 {
			t.Error("the caller heard nothing")
		}
	})
}

// Every line about a sandbox names it, so that a log can be read by sandbox.
func TestEveryLogLineNamesItsSandbox(t *testing.T) {
	w := newWorld(t)
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	sink := sandboxer.EventSinkFunc(func(_ context.Context, e sandboxer.Event) error {
		if e.Seq == 2 {
			return &sandboxer.DeliveryError{Err: errors.New("no"), Permanent: true}
		}
		if e.Seq == 4 {
			return errors.New("not now")
		}
		return nil
	})
	c := w.client(process{log: log, sink: sink})
	id := w.create(c).ID
	if _, err := c.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	var messages []string
	for line := range strings.Lines(out.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		messages = append(messages, fmt.Sprint(fields["msg"]))
		if fields["sandbox"] != id {
			t.Errorf("a line does not name the sandbox: %s", line)
		}
	}
	want := []string{"sandbox recorded", "sandbox changed", "sandbox changed", "sandbox changed", "sandbox changed", "event given up", "event not taken"}
	if diff := cmp.Diff(want, messages); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
