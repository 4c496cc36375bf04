// Command quickstart brings up the compose environment of the working tree in
// the current directory, says what can be reached, and removes it again.
package main

import (
	"context"
	"fmt"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/sqlstore"
)

func main() {
	ctx := context.Background()
	store, err := sqlstore.Open(ctx, "sandboxer.db")
	check(err)
	hosts, err := compose.New(compose.Config{}) // this machine; or Hosts: ssh://user@host
	check(err)
	known, err := profiles.Load()
	check(err)
	client, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{hosts}, Profiles: known, Store: store})
	check(err)
	defer client.Close()
	box, err := client.Create(ctx, sandboxer.CreateRequest{Profile: "profile.compose-e2e", Inputs: map[string]string{"repo": "."},
		Consumer: sandboxer.Consumer{Project: "demo", ActorType: sandboxer.ActorAgent, Actor: "quickstart"}})
	check(err)
	defer client.Destroy(ctx, box.ID)
	fmt.Println(box.ID, box.State, box.Reachability.Services)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
