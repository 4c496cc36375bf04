package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// A registry knows which extension a name stands for.
func ExampleRegistry() {
	near := extensiontest.NewFake(extensiontest.FakeConfig{ID: "ext.near", Backend: extensiontest.NewBackend(sandboxer.Host{Name: "near"})})
	far := extensiontest.NewFake(extensiontest.FakeConfig{ID: "ext.far", Backend: extensiontest.NewBackend(sandboxer.Host{Name: "far"})})
	registry, err := sandboxer.NewRegistry(nil, near, far)
	if err != nil {
		log.Fatal(err)
	}
	for _, ext := range registry.All() {
		fmt.Println(ext.Info().ID, "offers", ext.Info().Hosts[0].Name)
	}
	_, err = registry.Lookup("ext.moon")
	fmt.Println(errors.Is(err, sandboxer.ErrNotFound))
	// Output:
	// ext.far offers far
	// ext.near offers near
	// true
}

// With manifests, what operators read and what the program has must agree.
func ExampleNewRegistry() {
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})
	planned := fake.Info()
	planned.ID = "ext.planned"
	_, err := sandboxer.NewRegistry([]sandboxer.ExtensionInfo{fake.Info(), planned}, fake)
	fmt.Println(err)
	// Output:
	// manifest ext.planned has no implementation: pass one in Config.Extensions: not found
}

// A host is what can be known of a machine without asking it; its status is
// what it answered.
func ExampleHost() {
	machines := extensiontest.NewBackend(
		sandboxer.Host{Name: "near", Address: "ssh://me@near.example", Region: "eu-central", Slots: 10},
		sandboxer.Host{Name: "far", Address: "ssh://me@far.example"},
	)
	machines.SetReachable("far", false)
	client := newClientOf(extensiontest.FakeConfig{Backend: machines})
	for _, status := range client.Hosts(context.Background()) {
		fmt.Printf("%s: %d slots, available: %v, %q\n", status.Host.Name, status.Host.Slots, status.Available, status.Reason)
	}
	// Output:
	// near: 10 slots, available: true, ""
	// far: 0 slots, available: false, "unavailable: host far does not answer"
}

// A sink takes events, in order for each sandbox. What it does not take is
// offered again.
func ExampleEventSink() {
	printed := sandboxer.EventSinkFunc(func(_ context.Context, e sandboxer.Event) error {
		_, err := fmt.Println(e.Seq, e.State, e.Reason)
		return err
	})
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})},
		Profiles:   newClient().Profiles(),
		Store:      sandboxer.NewMemoryStore(),
		Sink:       printed,
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Create(context.Background(), exampleRequest()); err != nil {
		log.Fatal(err)
	}
	delivered, err := client.Deliver(context.Background()) // or KeepDelivering, on a goroutine
	fmt.Println(delivered, err)
	// Output:
	// 1 requested requested
	// 2 provisioning routed
	// 3 ready ready
	// 3 <nil>
}

// The operator's resolver is asked for the names of the profile, and for no
// others; the record has the names only.
func ExampleSecretResolver() {
	vault := sandboxer.SecretResolverFunc(func(_ context.Context, req sandboxer.SecretRequest) ([]byte, error) {
		fmt.Println("asked for", req.Name, "by", req.Consumer)
		return []byte("hunter2"), nil
	})
	p := newClient().Profiles()[0]
	p.Setup.SecretRefs = []string{"db_password"}
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})},
		Profiles:   []sandboxer.Profile{p},
		Store:      sandboxer.NewMemoryStore(),
		Secrets:    vault,
	})
	if err != nil {
		log.Fatal(err)
	}
	s, err := client.Create(context.Background(), exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.State, s.Profile.Setup.SecretRefs, sandboxer.NewSecret([]byte("hunter2")))
	// Output:
	// asked for db_password by wise-validator/atm:ci
	// ready [db_password] [redacted]
}

// What one process recorded, another that has the same store goes on with.
func ExampleStore() {
	var store sandboxer.Store = sandboxer.NewMemoryStore() // package sqlstore has one that outlives processes
	machines := extensiontest.NewBackend()
	process := func() *sandboxer.Client {
		client, err := sandboxer.New(sandboxer.Config{
			Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: machines})},
			Profiles:   newClient().Profiles(), Store: store,
		})
		if err != nil {
			log.Fatal(err)
		}
		return client
	}
	s, err := process().Create(context.Background(), exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	s, err = process().Destroy(context.Background(), s.ID)
	fmt.Println(s.State, err)
	// Output:
	// destroyed <nil>
}

// Of two that read a record, one changes it.
func ExampleMemoryStore() {
	ctx, store := context.Background(), sandboxer.NewMemoryStore()
	if err := store.Create(ctx, &sandboxer.Record{Sandbox: sandboxer.Sandbox{ID: "aaaaaaaaaaaaaaaaaaaa"}}); err != nil {
		log.Fatal(err)
	}
	mine, _ := store.Get(ctx, "aaaaaaaaaaaaaaaaaaaa")
	theirs, _ := store.Get(ctx, "aaaaaaaaaaaaaaaaaaaa")
	fmt.Println(store.Update(ctx, theirs))
	err := store.Update(ctx, mine)
	fmt.Println(errors.Is(err, sandboxer.ErrConflict))
	// Output:
	// <nil>
	// true
}
