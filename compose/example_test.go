package compose_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
)

// A plan says where a repository would run and what is refused of its compose
// file, on this machine, without an engine.
func ExampleNew() {
	repo, err := os.MkdirTemp("", "repo-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(repo)
	file := "services:\n  web:\n    image: nginx:1.27\n    ports: [\"80:80\"]\n  db:\n    image: postgres:16\n    privileged: true\n"
	if err := os.WriteFile(filepath.Join(repo, "compose.yaml"), []byte(file), 0o644); err != nil {
		log.Fatal(err)
	}

	hosts, err := compose.New(compose.Config{Hosts: []compose.HostConfig{{Name: "sandboxer01", Address: "ssh://me@sandboxer01.example:22"}}})
	if err != nil {
		log.Fatal(err)
	}
	known, err := profiles.Load()
	if err != nil {
		log.Fatal(err)
	}
	client, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{hosts}, Profiles: known, Store: sandboxer.NewMemoryStore()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	plan, err := client.Plan(context.Background(), sandboxer.CreateRequest{
		Profile: "profile.compose-e2e", Inputs: map[string]string{"repo": repo},
		Consumer: sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAgent, Actor: "builder"},
	}, sandboxer.PlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Route.Chosen, plan.Admission.Verdict)
	for _, v := range plan.Admission.Violations {
		fmt.Println(v)
	}
	// Output:
	// sandboxer01 deny
	// compose.yaml:7: services.db.privileged: is root on the host [PRIVILEGED]
}

func ExampleParseHosts() {
	hosts, err := compose.ParseHosts("hosts.yaml", []byte(`
hosts:
  - address: ssh://me@sandboxer01.example
    slots: 40
  - address: "local:"
`))
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range hosts {
		fmt.Println(h.Name, h.Address, h.Slots)
	}
	// Output:
	// sandboxer01.example ssh://me@sandboxer01.example 40
	// local local: 0
}

// Every problem is a FieldError of its own, with file and line.
func ExampleParseHosts_problems() {
	_, err := compose.ParseHosts("hosts.yaml", []byte("hosts:\n  - address: sandboxer01\n    slot: 3\n"))
	var field *sandboxer.FieldError
	fmt.Println(errors.As(err, &field), errors.Is(err, sandboxer.ErrInvalid))
	fmt.Println(err)
	// Output:
	// true true
	// hosts.yaml:3: hosts[0].slot: unknown key, did you mean "slots"?
}
