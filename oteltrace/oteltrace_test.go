package oteltrace_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/oteltrace"
)

// traced is a client of the in-memory extension, and the spans that it ended.
func traced(t *testing.T, fault extensiontest.Fault) (*sandboxer.Client, *tracetest.SpanRecorder, *sdk.TracerProvider) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder))
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend(), Fault: fault})},
		Profiles: []sandboxer.Profile{{
			ID: "profile.basic", Isolation: sandboxer.IsolationContainer, TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(time.Hour),
			Inputs: map[string]sandboxer.Input{"repo": {}, "token": {}},
		}},
		Store: sandboxer.NewMemoryStore(), Tracer: oteltrace.New(provider),
	})
	if err != nil {
		t.Fatal(err)
	}
	return client, recorder, provider
}

func request() sandboxer.CreateRequest {
	return sandboxer.CreateRequest{
		Profile: "profile.basic", Inputs: map[string]string{"repo": "/src", "token": "hunter2"},
		Consumer: sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAgent, Actor: "coder", Run: "7"},
	}
}

// attributes of a span as text.
func attributes(s sdk.ReadOnlySpan) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes() {
		out[string(a.Key)] = a.Value.String()
	}
	return out
}

func TestSpansOfALife(t *testing.T) {
	client, recorder, provider := traced(t, nil)
	ctx, caller := provider.Tracer("caller").Start(t.Context(), "caller")
	s, err := client.Create(ctx, request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Destroy(ctx, s.ID); err != nil {
		t.Fatal(err)
	}
	caller.End()
	parents, create := map[string]string{}, sdk.ReadOnlySpan(nil)
	names := map[string]string{}
	for _, span := range recorder.Ended() {
		names[span.SpanContext().SpanID().String()] = span.Name()
	}
	for _, span := range recorder.Ended() {
		parents[span.Name()] = names[span.Parent().SpanID().String()]
		if span.Name() == "sandbox create" {
			create = span
		}
	}
	for span, parent := range map[string]string{"sandbox create": "caller", "sandbox destroy": "caller", "stage admission": "sandbox create", "stage route": "sandbox create"} {
		if parents[span] != parent {
			t.Errorf("%s is inside %q, want %q; spans are %v", span, parents[span], parent, parents)
		}
	}
	want := map[string]string{
		"sandbox.id": s.ID, "sandbox.generation": "1", "sandbox.state": "ready", "profile.id": "profile.basic", "extension.id": s.Extension, "host.name": s.Host,
		"consumer.project": "shop", "consumer.actor_type": "agt", "consumer.actor": "coder", "consumer.run": "7",
	}
	if diff := cmp.Diff(want, attributes(create)); diff != "" {
		t.Errorf("attributes of create (-want +got):\n%s", diff)
	}
	for _, span := range recorder.Ended() {
		for key, value := range attributes(span) {
			if strings.Contains(value, "hunter2") || strings.Contains(value, "/src") {
				t.Errorf("%s holds an input: %s=%s", span.Name(), key, value)
			}
		}
	}
}

func TestAFailureIsTheStatusOfItsSpans(t *testing.T) {
	client, recorder, _ := traced(t, extensiontest.FailAt("provision", "", &sandboxer.StageError{Stage: "build", Message: "cannot log in with hunter2"}))
	if _, err := client.Create(t.Context(), request()); !errors.Is(err, sandboxer.ErrProvision) {
		t.Fatalf("create gave %v", err)
	}
	ended := recorder.Ended()
	create := ended[len(ended)-1]
	if got := create.Status(); got.Code != codes.Error || got.Description != "provision" || attributes(create)["error.type"] != "provision" {
		t.Errorf("create has status %v and attributes %v", got, attributes(create))
	}
	if stage := ended[len(ended)-2]; stage.Status().Code != codes.Error || !strings.HasPrefix(stage.Name(), "stage ") {
		t.Errorf("the span before it is %s with status %v", stage.Name(), stage.Status())
	}
}
