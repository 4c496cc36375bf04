package sandboxer

import (
	"context"
	"log/slog"
	"sync"
)

// A Tracer is told of every operation and, inside it, of every stage. It
// returns the context for what happens inside and a function that is called
// once at the end, with what is known then. Package oteltrace makes one of an
// OpenTelemetry tracer. It is called concurrently.
type Tracer func(ctx context.Context, name string, attributes ...slog.Attr) (context.Context, func(err error, attributes ...slog.Attr))

// trace begins an operation: the context to work with, and how it ends.
func (c *Client) trace(ctx context.Context, op string, attributes ...slog.Attr) (context.Context, func(s *Sandbox, err error)) {
	if c.tracer == nil {
		return ctx, func(*Sandbox, error) {}
	}
	outer, _ := ctx.Value(stagesKey{}).(*stages)
	ctx, end := c.tracer(ctx, op, attributes...)
	inner := &stages{tracer: c.tracer, ctx: ctx}
	if outer != nil { // an operation inside another: its stages are its own
		inner.next = outer.next
	} else {
		inner.next, _ = ctx.Value(progressKey{}).(func(Progress))
	}
	ctx = context.WithValue(WithProgress(ctx, inner.report), stagesKey{}, inner)
	return ctx, func(s *Sandbox, err error) {
		inner.finish(err)
		end(err, sandboxAttributes(s)...)
	}
}

type stagesKey struct{}

// stageFailed ends the stage that is under way with what it failed on: what
// comes is cleaning up.
func stageFailed(ctx context.Context, cause error) {
	if s, ok := ctx.Value(stagesKey{}).(*stages); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed = true
		s.close(cause)
	}
}

// sandboxAttributes are the ids under which a sandbox is found again.
func sandboxAttributes(s *Sandbox) []slog.Attr {
	if s == nil {
		return nil
	}
	return []slog.Attr{
		slog.String("sandbox.id", s.ID), slog.Int("sandbox.generation", s.Generation), slog.String("sandbox.state", string(s.State)),
		slog.String("profile.id", s.Profile.ID), slog.String("extension.id", s.Extension), slog.String("host.name", s.Host),
		slog.String("consumer.project", s.Consumer.Project), slog.String("consumer.actor_type", string(s.Consumer.ActorType)),
		slog.String("consumer.actor", s.Consumer.Actor), slog.String("consumer.run", s.Consumer.Run),
	}
}

// stages makes spans of the stages that an operation reports: one ends where
// the next begins.
type stages struct {
	tracer Tracer
	ctx    context.Context // of the operation's span
	next   func(Progress)  // the caller's own

	mu     sync.Mutex
	name   string
	end    func(error, ...slog.Attr)
	failed bool // a stage is marked as the one that failed
}

func (s *stages) report(p Progress) {
	s.mu.Lock()
	if p.Stage != s.name {
		s.close(nil)
		s.name = p.Stage
		_, s.end = s.tracer(s.ctx, "stage "+p.Stage, slog.String("stage", p.Stage))
	}
	s.mu.Unlock()
	if s.next != nil {
		s.next(p)
	}
}

// finish ends the last stage, which is the one that failed if the operation
// did and none is marked yet.
func (s *stages) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed {
		err = nil
	}
	s.close(err)
}

func (s *stages) close(err error) {
	if s.end != nil {
		s.end(err)
		s.end, s.name = nil, ""
	}
}
