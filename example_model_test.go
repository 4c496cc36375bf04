package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// newClientOf is a client of machines in memory that behave as told.
func newClientOf(cfg extensiontest.FakeConfig, profiles ...sandboxer.Profile) *sandboxer.Client {
	client, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(cfg)},
		Profiles:   append(newClient().Profiles(), profiles...),
		Store:      sandboxer.NewMemoryStore(),
	})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// What a profile does not say has a default, which keeps more in than out.
func ExampleProfile() {
	p, err := sandboxer.ParseProfile("profile.e2e.yaml", []byte(`
id: profile.e2e
isolation: container
ttl: 30m
max_ttl: 2h
resources: {memory: 512Mi}
inputs:
  repo: {required: true}
`))
	if err != nil {
		log.Fatal(err)
	}
	client := newClientOf(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()}, p)
	p = client.Profiles()[0]
	fmt.Println(p.ID, "lives", p.TTL, "and", p.MaxTTL, "at most")
	fmt.Println("egress:", p.Network.Egress)
	fmt.Println("memory of each container:", p.Resources.Memory)
	fmt.Println("ready within:", p.Bounds.Ready)
	// Output:
	// profile.e2e lives 30m and 2h at most
	// egress: deny
	// memory of each container: 512Mi
	// ready within: 3m
}

// Every host that was considered stands in a route, with what spoke against it.
func ExampleRoute() {
	machines := extensiontest.NewBackend(sandboxer.Host{Name: "near"}, sandboxer.Host{Name: "far"})
	machines.SetReachable("near", false)
	client := newClientOf(extensiontest.FakeConfig{Backend: machines})
	sandbox, err := client.Create(context.Background(), exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("chosen:", sandbox.Route.Chosen)
	for _, c := range sandbox.Route.Candidates {
		fmt.Printf("%s: score %d, %s\n", c.Host, c.Score, c.Rejected)
	}
	// Output:
	// chosen: far
	// near: score 0, unavailable: host near does not answer
	// far: score 1,
}

// A sandbox tells where it is, for whom, how it is reached, and what holds it.
func ExampleSandbox() {
	s, err := newClient().Create(context.Background(), exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.State, "for", s.Consumer, "on", s.Host)
	fmt.Println("lives", s.ExpiresAt.Sub(s.CreatedAt).Round(time.Hour), "unless it is extended")
	for _, control := range s.Controls {
		fmt.Println(control.Name, "is", control.Level)
	}
	// Output:
	// ready for wise-validator/atm:ci on one
	// lives 1h0m0s unless it is extended
	// network.egress is enforced
}

// A program acts on what an error is, and a person on what it says.
func ExampleError() {
	greedy := extensiontest.FakeConfig{
		Backend: extensiontest.NewBackend(),
		Judge: func(sandboxer.ProvisionRequest) []sandboxer.Violation {
			return []sandboxer.Violation{{Rule: "PRIVILEGED", Path: "services.api.privileged", Message: "is root on the host", Hint: "remove it"}}
		},
	}
	_, err := newClientOf(greedy).Create(context.Background(), exampleRequest())
	fmt.Println("refused:", errors.Is(err, sandboxer.ErrAdmission), "code:", sandboxer.Code(err), "try again:", sandboxer.Retryable(err))
	var refused *sandboxer.AdmissionError
	if errors.As(err, &refused) {
		for _, v := range refused.Admission.Violations {
			fmt.Println(v.Path, v.Message+":", v.Hint)
		}
	}
	// Output:
	// refused: true code: admission try again: false
	// services.api.privileged is root on the host: remove it
}

// The first extension that offers a host answers for it.
func ExampleExtension() {
	var ext sandboxer.Extension = extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})
	info := ext.Info()
	fmt.Println(info.ID, info.Pricing, info.Isolation)
	_, dials := ext.(sandboxer.Dialer) // optional interfaces are found by asking
	fmt.Println("dials:", dials)
	h, err := ext.Provision(context.Background(), sandboxer.ProvisionRequest{
		SandboxID: "aaaaaaaaaaaaaaaaaaaa", Generation: 1, Host: "one", Profile: newClient().Profiles()[0], ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	removal, err := ext.Teardown(context.Background(), h)
	fmt.Println("proved absent:", !removal.VerifiedAt.IsZero(), err)
	// Output:
	// ext.fake self-hosted [container]
	// dials: true
	// proved absent: true <nil>
}

// An event is one change, with all that is known of the sandbox then.
func ExampleEvent() {
	client := newClient()
	s, err := client.Create(context.Background(), exampleRequest())
	if err != nil {
		log.Fatal(err)
	}
	events, err := client.Events(context.Background(), s.ID, 2)
	if err != nil {
		log.Fatal(err)
	}
	e := events[0]
	fmt.Println(e.Seq, e.From, "→", e.State, "on", e.Host, "by", e.Policy, "for", e.Consumer)
	// Output:
	// 3 provisioning → ready on one by prefer-self-hosted for wise-validator/atm:ci
}

// Usage follows from the history alone.
func ExampleMeter() {
	start := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	history := []sandboxer.Event{
		{Seq: 1, SandboxID: "a", State: sandboxer.StateRequested, Time: start},
		{Seq: 2, SandboxID: "a", Generation: 1, Host: "one", From: sandboxer.StateRequested, State: sandboxer.StateProvisioning, Time: start},
		{Seq: 3, SandboxID: "a", Generation: 1, Host: "one", From: sandboxer.StateProvisioning, State: sandboxer.StateReady, Time: start.Add(20 * time.Second)},
		{Seq: 4, SandboxID: "a", Generation: 1, Host: "one", From: sandboxer.StateReady, State: sandboxer.StateDestroying, Time: start.Add(80 * time.Second)},
		{Seq: 5, SandboxID: "a", Generation: 1, Host: "one", From: sandboxer.StateDestroying, State: sandboxer.StateDestroyed, Time: start.Add(82 * time.Second)},
	}
	m := sandboxer.MeterOf(history, sandboxer.Window{})
	fmt.Println("ready:", m.Seconds[sandboxer.StateReady], "held:", m.Held)
	// Output:
	// ready: 60 held: 82
}
