package engine_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
)

func logs(t *testing.T, e *enginetest.Engine, id string, options engine.LogOptions) string {
	t.Helper()
	stream, err := e.Logs(t.Context(), id, options)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLogs(t *testing.T) {
	e := enginetest.Start(t)
	image := e.Program("testdata/program")
	id := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"print", "0"}, Network: "none"})
	if _, err := e.WaitContainer(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got, want := logs(t, e, id, engine.LogOptions{}), "one\ntwo\nthree\n"; got != want {
		t.Errorf("all: %q, want %q", got, want)
	}
	if got, want := logs(t, e, id, engine.LogOptions{Tail: 2, Follow: true}), "two\nthree\n"; got != want {
		t.Errorf("the last two, to the end: %q, want %q", got, want)
	}
	line, _, _ := strings.Cut(logs(t, e, id, engine.LogOptions{Timestamps: true}), "\n")
	stamp, text, _ := strings.Cut(line, " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != "one" || time.Since(at).Abs() > time.Minute {
		t.Errorf("with time: %q", line)
	}

	terminal := e.Create("/containers/create", map[string]any{
		"Image": image, "Cmd": []string{"print", "0"}, "Labels": e.Labels(), "Tty": true,
		"HostConfig": map[string]any{"NetworkMode": "none"},
	})
	if err := e.StartContainer(t.Context(), terminal); err != nil {
		t.Fatal(err)
	}
	if got, want := logs(t, e, terminal, engine.LogOptions{Follow: true}), "one\r\ntwo\r\nthree\r\n"; got != want {
		t.Errorf("of a terminal: %q, want %q", got, want)
	}

	silent := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"print", "0"}, Network: "none", LogDriver: "none"})
	stream, err := e.Logs(t.Context(), silent, engine.LogOptions{})
	if err == nil {
		_, err = io.ReadAll(stream)
		stream.Close()
	}
	if !hasType[*engine.Error](err) {
		t.Errorf("of a driver that keeps none: %v", err)
	}
	if _, err := e.Logs(t.Context(), "sandboxer-test-none", engine.LogOptions{}); !engine.IsNotFound(err) {
		t.Errorf("of no container: %v", err)
	}
}

func TestFollowedLogsEndWithTheirContext(t *testing.T) {
	e := enginetest.Start(t)
	id := e.Run(engine.ContainerSpec{Image: e.Program("testdata/program"), Cmd: []string{"tick"}, Network: "none"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := e.Logs(ctx, id, engine.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	first := make([]byte, len("tick 0\ntick 1\n"))
	if _, err := io.ReadFull(stream, first); err != nil || string(first) != "tick 0\ntick 1\n" {
		t.Fatalf("%q %v", first, err)
	}
	cancel()
	if _, err := io.ReadAll(stream); !errors.Is(err, context.Canceled) {
		t.Errorf("after the cancellation: %v", err)
	}
}

// watch streams events in the background, from before the call returns.
func watch(t *testing.T, e *enginetest.Engine, filter engine.EventFilter) <-chan engine.Event {
	t.Helper()
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	filter.Since = info.SystemTime
	events := make(chan engine.Event)
	go func() {
		defer close(events)
		for ev, err := range e.Events(t.Context(), filter) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			select {
			case events <- ev:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return events
}

func TestEventsTellOfLabelledContainers(t *testing.T) {
	e := enginetest.Start(t)
	image := e.Program("testdata/program")
	events := watch(t, e, engine.EventFilter{Labels: []string{e.Label}, Kinds: []engine.Kind{engine.KindContainer}})
	id := e.Run(engine.ContainerSpec{Image: image, Cmd: []string{"print", "7"}, Network: "none"})
	var actions []string
	for ev := range events {
		actions = append(actions, ev.Action)
		if ev.Kind != engine.KindContainer || ev.ID != id || ev.Attributes[enginetest.LabelKey] != e.ID {
			t.Errorf("event: %+v", ev)
		}
		if ev.Action == "die" {
			if ev.Attributes["exitCode"] != "7" || time.Since(ev.Time).Abs() > time.Minute {
				t.Errorf("event: %+v", ev)
			}
			break
		}
	}
	if want := []string{"create", "start", "die"}; !slices.Equal(actions, want) {
		t.Errorf("actions %q, want %q", actions, want)
	}
}

func TestEventsEndWithTheirContext(t *testing.T) {
	e := enginetest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for ev, err := range e.Events(ctx, engine.EventFilter{Labels: []string{e.Label}}) {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v %v", ev, err)
		}
	}
}
