package oteltrace_test

import (
	"context"
	"fmt"
	"log"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/oteltrace"
)

// A real program gives New the provider whose spans it exports.
func ExampleNew() {
	recorder := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder))
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})},
		Profiles: []sandboxer.Profile{{
			ID: "profile.example", Isolation: sandboxer.IsolationContainer, TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(time.Hour),
			Inputs: map[string]sandboxer.Input{"repo": {Required: true}},
		}},
		Store:  sandboxer.NewMemoryStore(),
		Tracer: oteltrace.New(provider),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Create(context.Background(), sandboxer.CreateRequest{
		Profile: "profile.example", Inputs: map[string]string{"repo": "."},
		Consumer: sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAgent, Actor: "coder"},
	}); err != nil {
		log.Fatal(err)
	}
	for _, span := range recorder.Ended() {
		fmt.Println(span.Name())
	}
	// Output:
	// stage admission
	// stage route
	// stage record
	// stage network
	// stage volume
	// stage container
	// sandbox create
}
