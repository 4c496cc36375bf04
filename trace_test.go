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
	fault := extensiontest.FailAt("provision", "", errors.New("odd"))
	c := w.client(process{tracer: l.tracer, fault: fault})
	if _, err := c.Create(t.Context(), basicRequest()); err == nil {
		t.Fatal("create succeeded")
	}
	if n := len(l.ended); n < 2 || !strings.HasSuffix(l.ended[n-2], "failed: internal") || !strings.HasPrefix(l.ended[n-1], "create") {
		t.Errorf("spans are %q", l.ended)
	}
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
