// Package oteltrace shows what a [sandboxer.Client] does as OpenTelemetry
// spans: one for every operation and, inside it, one for every stage.
//
//	client, err := sandboxer.New(sandboxer.Config{Tracer: oteltrace.New(provider), …})
//
// An operation's span is named like "sandbox create", a stage's like
// "stage upload". Attributes hold the ids under which the sandbox is found in
// records, labels and events; they never hold an input's value or a secret.
//
//	sandbox.id, sandbox.generation, sandbox.state   profile.id, extension.id, host.name
//	consumer.project, consumer.actor_type, consumer.actor, consumer.run
//	error.type                                      sandboxer.Code of what failed
package oteltrace

import (
	"context"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/sand-boxer/sandboxer"
)

// scope is the instrumentation scope of all spans.
const scope = "github.com/sand-boxer/sandboxer"

// New returns a tracer that makes spans with provider, as children of the span
// in the context that an operation is called with.
func New(provider trace.TracerProvider) sandboxer.Tracer {
	tracer := provider.Tracer(scope)
	return func(ctx context.Context, name string, attributes ...slog.Attr) (context.Context, func(error, ...slog.Attr)) {
		if !strings.HasPrefix(name, "stage ") {
			name = "sandbox " + name
		}
		ctx, span := tracer.Start(ctx, name, trace.WithAttributes(convert(attributes)...))
		return ctx, func(err error, more ...slog.Attr) {
			span.SetAttributes(convert(more)...)
			if err != nil {
				span.SetAttributes(attribute.String("error.type", sandboxer.Code(err)))
				span.SetStatus(codes.Error, sandboxer.Code(err))
			}
			span.End()
		}
	}
}

// convert leaves out what is empty: it is not known.
func convert(attributes []slog.Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(attributes))
	for _, a := range attributes {
		switch a.Value.Kind() {
		case slog.KindInt64:
			out = append(out, attribute.Int64(a.Key, a.Value.Int64()))
		case slog.KindBool:
			out = append(out, attribute.Bool(a.Key, a.Value.Bool()))
		default:
			if text := a.Value.String(); text != "" {
				out = append(out, attribute.String(a.Key, text))
			}
		}
	}
	return out
}
