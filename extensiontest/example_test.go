package extensiontest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// An extension's own test calls Run with such a harness; a program calls Check.
func ExampleCheck() {
	machines := extensiontest.NewBackend()
	broken := extensiontest.Harness{
		New: func() (sandboxer.Extension, error) {
			return oblivious{extensiontest.NewFake(extensiontest.FakeConfig{Backend: machines})}, nil
		},
		Request: sandboxer.ProvisionRequest{
			Host:     "one",
			Profile:  sandboxer.Profile{ID: "profile.example", Isolation: sandboxer.IsolationContainer},
			Consumer: sandboxer.Consumer{Project: "example", ActorType: sandboxer.ActorAdmin, Actor: "me"},
		},
		Leftovers: machines.Leftovers,
	}
	fmt.Println(extensiontest.Check(context.Background(), broken))
	// Output:
	// WaitReadyUnknown: WaitReady returned no error, want ErrNotFound (what does not exist never becomes ready)
}

// oblivious finds ready what never existed.
type oblivious struct{ *extensiontest.Fake }

func (o oblivious) WaitReady(ctx context.Context, h sandboxer.Handle) (sandboxer.Readiness, error) {
	if h.Generation == 0 {
		return sandboxer.Readiness{}, nil
	}
	return o.Fake.WaitReady(ctx, h)
}

// A store's own test runs the kit on empty stores.
func ExampleRunStore() {
	_ = func(t *testing.T) { // TestStore
		extensiontest.RunStore(t, func(*testing.T) sandboxer.Store { return sandboxer.NewMemoryStore() })
	}
	// Output:
}

// An extension's own test runs the kit on a bench of machines.
func ExampleRun() {
	_ = func(t *testing.T) { // TestExtension
		machines := extensiontest.NewBackend()
		extensiontest.Run(t, extensiontest.Harness{
			New: func() (sandboxer.Extension, error) {
				return extensiontest.NewFake(extensiontest.FakeConfig{Backend: machines}), nil
			},
			Request: sandboxer.ProvisionRequest{
				Host:     "one",
				Profile:  sandboxer.Profile{ID: "profile.example", Isolation: sandboxer.IsolationContainer},
				Consumer: sandboxer.Consumer{Project: "example", ActorType: sandboxer.ActorAdmin, Actor: "me"},
			},
			Leftovers: machines.Leftovers,
		})
	}
	// Output:
}
