package sqlstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

// Records outlive the process: what one client has created, another destroys.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "records-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, backend := context.Background(), extensiontest.NewBackend()
	open := func() *sandboxer.Client {
		store, err := sqlstore.Open(ctx, filepath.Join(dir, "sandboxer.db"))
		if err != nil {
			log.Fatal(err)
		}
		client, err := sandboxer.New(sandboxer.Config{
			Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: backend})}, // such as compose.New
			Profiles:   []sandboxer.Profile{{ID: "profile.example", Isolation: sandboxer.IsolationContainer, TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(time.Hour), Inputs: map[string]sandboxer.Input{"repo": {Required: true}}}},
			Store:      store,
		})
		if err != nil {
			log.Fatal(err)
		}
		return client
	}
	first := open()
	box, err := first.Create(ctx, sandboxer.CreateRequest{
		Profile: "profile.example", Inputs: map[string]string{"repo": "."},
		Consumer: sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAutomation, Actor: "ci"},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := first.Close(); err != nil { // closes the store as well
		log.Fatal(err)
	}

	second := open()
	defer second.Close()
	box, err = second.Destroy(ctx, box.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(box.State, box.Reason)
	// Output: destroyed verified_absent
}
