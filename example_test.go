package sandboxer_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// newClient is a client of one machine in memory. A real program gives it an
// extension such as compose.New, and a store that outlives the process.
func newClient() *sandboxer.Client {
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{fake},
		Profiles: []sandboxer.Profile{{
			ID: "profile.example", Isolation: sandboxer.IsolationContainer,
			TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(8 * time.Hour),
			Inputs: map[string]sandboxer.Input{"repo": {Required: true}},
		}},
		Store: sandboxer.NewMemoryStore(),
	})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func exampleRequest() sandboxer.CreateRequest {
	return sandboxer.CreateRequest{
		Profile:  "profile.example",
		Inputs:   map[string]string{"repo": "/path/to/repo"},
		Consumer: sandboxer.Consumer{Project: "wise-validator", ActorType: sandboxer.ActorAutomation, Actor: "ci"},
	}
}

func ExampleClient_Create() {
	ctx, client := context.Background(), newClient()
	sandbox, err := client.Create(ctx, exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sandbox.State, "on", sandbox.Host)
	fmt.Println(sandbox.Route.Reason)
	for _, s := range sandbox.Reachability.Services {
		fmt.Println(s.Name, s.Ports[0].Port)
	}
	// Output:
	// ready on one
	// self-hosted, number 1 in placement order, self-hosted first
	// web 8080
	// echo 7
}

func ExampleClient_Destroy() {
	ctx, client := context.Background(), newClient()
	sandbox, err := client.Create(ctx, exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	sandbox, err = client.Destroy(ctx, sandbox.ID)
	if err != nil {
		log.Fatal(err) // call again: what is left is in sandbox.Removal.Residue
	}
	fmt.Println(sandbox.State, "because", sandbox.Reason)
	events, err := client.Events(ctx, sandbox.ID, 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range events {
		fmt.Println(e.Seq, e.State, e.Reason)
	}
	// Output:
	// destroyed because verified_absent
	// 1 requested requested
	// 2 provisioning routed
	// 3 ready ready
	// 4 destroying consumer_request
	// 5 destroyed verified_absent
}

func ExampleClient_Plan() {
	ctx, client := context.Background(), newClient()
	plan, err := client.Plan(ctx, exampleRequest(), sandboxer.PlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("host:", plan.Route.Chosen)
	fmt.Println("admission:", plan.Admission.Verdict)
	sandboxes, err := client.List(ctx, sandboxer.Filter{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("created:", len(sandboxes))
	// Output:
	// host: one
	// admission: allow
	// created: 0
}

func ExampleClient_Forward() {
	ctx, client := context.Background(), newClient()
	sandbox, err := client.Create(ctx, exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	forward, err := client.Forward(ctx, sandbox.ID, "web", 8080, "")
	if err != nil {
		log.Fatal(err)
	}
	defer forward.Close()
	response, err := http.Get("http://" + forward.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(strings.ReplaceAll(string(body), sandbox.ID, "<id>"))
	// Output:
	// <id> generation 1
}

func ExampleClient_Reconcile() {
	ctx := context.Background()
	machines := extensiontest.NewBackend()
	// newProcess is a program that shares the machines but not the store.
	newProcess := func() *sandboxer.Client {
		client, err := sandboxer.New(sandboxer.Config{
			Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: machines})},
			Profiles:   newClient().Profiles(),
			Store:      sandboxer.NewMemoryStore(),
		})
		if err != nil {
			log.Fatal(err)
		}
		return client
	}
	if _, err := newProcess().Create(ctx, exampleRequest()); err != nil {
		log.Fatal(err)
	}
	client := newProcess() // the first one's store is lost
	report, err := client.Reconcile(ctx, sandboxer.ReconcileOptions{Adopt: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range report.Adopted {
		sandbox, err := client.Destroy(ctx, id)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("adopted and", sandbox.State, "for", sandbox.Consumer)
	}
	// Output:
	// adopted and destroyed for wise-validator/atm:ci
}

func ExampleParseProfile() {
	_, err := sandboxer.ParseProfile("profile.e2e.yaml", []byte(`
id: profile.e2e
isolation: container
ttl: half an hour
max_ttl: 1h
lables: {team: wise}
inputs:
  repo: {required: true}
`))
	fmt.Println(err)
	// Output:
	// profile.e2e.yaml:4: ttl: "half an hour" is not a duration: write 90s, 30m or 1h30m
	// profile.e2e.yaml:6: lables: unknown key, did you mean "labels"?
}
