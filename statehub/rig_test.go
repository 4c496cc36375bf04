package statehub_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

func newSink(t *testing.T, cfg statehub.Config) *statehub.Sink {
	t.Helper()
	s, err := statehub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// eventsOnly is a configuration without registration.
func eventsOnly(url string) statehub.Config {
	return statehub.Config{URL: url, Register: statehub.RegisterOff}
}

const sandboxID = "k3jx7w2m5q8v4n6b9c1d"

// anEvent is number seq of a sandbox, which came from a state to another.
func anEvent(seq int64, from, state sandboxer.State, reason sandboxer.Reason) sandboxer.Event {
	return eventOf(sandboxID, seq, from, state, reason)
}

func eventOf(id string, seq int64, from, state sandboxer.State, reason sandboxer.Reason) sandboxer.Event {
	at := time.Date(2026, 3, 14, 9, 26, 53, 589793000, time.UTC)
	return sandboxer.Event{
		ID: id + "-" + string('0'+rune(seq)), Seq: seq, Time: at, SandboxID: id, Generation: 1,
		From: from, State: state, Reason: reason, Profile: "profile.compose-e2e", Extension: "ext.compose-ssh", Host: "build-1",
		Consumer:  sandboxer.Consumer{Project: "wise-validator", ActorType: sandboxer.ActorAutomation, Actor: "ci", Run: "4711"},
		CreatedAt: at.Add(-time.Minute), ExpiresAt: at.Add(59 * time.Minute),
	}
}

func ready() sandboxer.Event {
	return anEvent(3, sandboxer.StateProvisioning, sandboxer.StateReady, sandboxer.ReasonReady)
}

func destroyed() sandboxer.Event {
	return anEvent(5, sandboxer.StateDestroying, sandboxer.StateDestroyed, sandboxer.ReasonVerified)
}

// A verdict is what an error of Emit says to the client.
type verdict struct {
	Taken, Permanent bool
	RetryAfter       time.Duration
}

var (
	taken   = verdict{Taken: true}
	retried = verdict{}
	refused = verdict{Permanent: true}
)

// verdictOf requires a DeliveryError where there is an error.
func verdictOf(t *testing.T, err error) verdict {
	t.Helper()
	if err == nil {
		return taken
	}
	d, ok := errors.AsType[*sandboxer.DeliveryError](err)
	if !ok {
		t.Fatalf("%v is a %T, want a *DeliveryError", err, err)
	}
	return verdict{Permanent: d.Permanent, RetryAfter: d.RetryAfter}
}

func wantVerdict(t *testing.T, err error, want verdict) {
	t.Helper()
	if got := verdictOf(t, err); got != want {
		t.Errorf("%v: the verdict is %+v, want %+v", err, got, want)
	}
	sentinel := sandboxer.ErrUnavailable
	if want.Permanent {
		sentinel = sandboxer.ErrInvalid
	}
	if err != nil && !errors.Is(err, sentinel) && !errors.Is(err, sandboxer.ErrAuth) {
		t.Errorf("%v does not match %v", err, sentinel)
	}
}

// wantWithin runs f, which has to return in time.
func wantWithin(t *testing.T, limit time.Duration, f func()) time.Duration {
	t.Helper()
	began := time.Now()
	f()
	took := time.Since(began)
	if took > limit {
		t.Errorf("took %v, want at most %v", took, limit)
	}
	return took
}

// leavesNothing requires, at the end of the test, after its other cleanups,
// that as many goroutines run as now.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

// A logBook is what was logged; it is safe for concurrent use.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// emit offers an event, with a bound for tests that hang.
func emit(t *testing.T, s *statehub.Sink, e sandboxer.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.Emit(ctx, e)
}
