package sandboxer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func priced(name, currency string, micros int64) sandboxer.Host {
	h := host(name)
	h.Price = &sandboxer.Cost{Currency: currency, MicrosPerHour: micros}
	return h
}

// A market is a self-hosted and a metered extension, each with its own machines.
type market struct {
	owned, rented *extensiontest.Backend
	fault         extensiontest.Fault
	store         sandboxer.Store
}

func (m market) client(t *testing.T, change func(*sandboxer.Profile)) *sandboxer.Client {
	t.Helper()
	p := basicProfile()
	if change != nil {
		change(&p)
	}
	var exts []sandboxer.Extension
	if m.owned != nil {
		exts = append(exts, extensiontest.NewFake(extensiontest.FakeConfig{Backend: m.owned, ID: "ext.owned", Fault: m.fault}))
	}
	if m.rented != nil {
		exts = append(exts, extensiontest.NewFake(extensiontest.FakeConfig{Backend: m.rented, ID: "ext.a-rented", Pricing: sandboxer.PricingMetered, Fault: m.fault}))
	}
	if m.store == nil {
		m.store = sandboxer.NewMemoryStore()
	}
	c, err := sandboxer.New(sandboxer.Config{Extensions: exts, Profiles: []sandboxer.Profile{p}, Store: m.store})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// describe puts a route into one line per candidate.
func describe(r sandboxer.Route) string {
	var b strings.Builder
	for _, c := range r.Candidates {
		fmt.Fprintf(&b, "%d %s", c.Score, c.Host)
		if c.Estimate != nil {
			fmt.Fprintf(&b, " %v", *c.Estimate)
		}
		if c.Rejected != "" {
			fmt.Fprintf(&b, ": %s", c.Rejected)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "-> %s (%s)\n", r.Chosen, r.Reason)
	return b.String()
}

func TestPolicies(t *testing.T) {
	owned := []sandboxer.Host{host("desk"), priced("rack", "EUR", 40_000)}
	rented := []sandboxer.Host{priced("cloud-a", "EUR", 90_000), priced("cloud-b", "EUR", 10_000)}
	prefer := func(names ...string) func(*sandboxer.Profile) {
		return func(p *sandboxer.Profile) { p.Placement.Prefer = names }
	}
	tests := map[string]struct {
		policy  sandboxer.Policy
		host    string
		profile func(*sandboxer.Profile)
		want    string
	}{
		"self-hosted first, as configured": {sandboxer.PolicyPreferSelfHosted, "", nil,
			"1 desk\n2 rack 0.040000 EUR/h\n3 cloud-a 0.090000 EUR/h\n4 cloud-b 0.010000 EUR/h\n" +
				"-> desk (self-hosted, number 1 in placement order, self-hosted first)\n"},
		"self-hosted first, as placed": {sandboxer.PolicyPreferSelfHosted, "", prefer("cloud-b", "rack", "desk"),
			"1 rack 0.040000 EUR/h\n2 desk\n3 cloud-b 0.010000 EUR/h\n" +
				"-> rack (self-hosted, number 1 in placement order, self-hosted first)\n"},
		"fallback comes after prefer": {sandboxer.PolicyPreferSelfHosted, "", func(p *sandboxer.Profile) {
			p.Placement.Prefer, p.Placement.Fallback = []string{"rack"}, []string{"desk"}
		},
			"1 rack 0.040000 EUR/h\n2 desk\n-> rack (self-hosted, number 1 in placement order, self-hosted first)\n"},
		"lowest cost, unknown last": {sandboxer.PolicyLowestCost, "", nil,
			"1 cloud-b 0.010000 EUR/h\n2 rack 0.040000 EUR/h\n3 cloud-a 0.090000 EUR/h\n4 desk\n" +
				"-> cloud-b (lowest estimate, 0.010000 EUR/h)\n"},
		"lowest cost of what is known to nobody": {sandboxer.PolicyLowestCost, "", prefer("desk"),
			"1 desk\n-> desk (no host with a known cost is left)\n"},
		"explicit, by the request": {sandboxer.PolicyExplicit, "rack", prefer("desk"),
			"1 rack 0.040000 EUR/h\n-> rack (the only host that explicit placement allows)\n"},
		"explicit, by the profile": {sandboxer.PolicyExplicit, "", prefer("rack", "desk"),
			"1 rack 0.040000 EUR/h\n-> rack (the only host that explicit placement allows)\n"},
		"a host makes it explicit": {"", "desk", nil,
			"1 desk\n-> desk (the only host that explicit placement allows)\n"},
		"the extension confines": {"", "", func(p *sandboxer.Profile) { p.Extension = "ext.a-rented" },
			"1 cloud-a 0.090000 EUR/h\n2 cloud-b 0.010000 EUR/h\n-> cloud-a (metered, number 1 in placement order, self-hosted first)\n"},
		"an unknown host is rejected": {"", "", prefer("ghost", "desk"),
			"1 desk\n0 ghost: host ghost: not found\n-> desk (self-hosted, number 1 in placement order, self-hosted first)\n"},
		"a host of another extension is rejected": {"", "", func(p *sandboxer.Profile) { p.Extension, p.Placement.Prefer = "ext.owned", []string{"cloud-a", "rack"} },
			"1 rack 0.040000 EUR/h\n0 cloud-a: host cloud-a: not found\n-> rack (self-hosted, number 1 in placement order, self-hosted first)\n"},
		"named twice is tried once": {"", "", func(p *sandboxer.Profile) {
			p.Placement.Prefer, p.Placement.Fallback = []string{"desk", "rack", "desk"}, []string{"rack"}
		},
			"1 desk\n2 rack 0.040000 EUR/h\n-> desk (self-hosted, number 1 in placement order, self-hosted first)\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := market{owned: extensiontest.NewBackend(owned...), rented: extensiontest.NewBackend(rented...)}.client(t, tt.profile)
			req := basicRequest()
			req.Policy, req.Host = tt.policy, tt.host
			for _, probe := range []bool{false, true} {
				plan, err := c.Plan(t.Context(), req, sandboxer.PlanOptions{Probe: probe})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, describe(plan.Route)); diff != "" {
					t.Errorf("route with probe %v (-want +got):\n%s", probe, diff)
				}
			}
		})
	}
}

// Costs in different currencies cannot be compared, and must not make those
// that can be come out in the wrong order.
func TestLowestCostWithSeveralCurrencies(t *testing.T) {
	c := market{owned: extensiontest.NewBackend(priced("a", "EUR", 50), priced("b", "USD", 10), priced("c", "EUR", 30), priced("d", "USD", 5), host("e"))}.client(t, nil)
	req := basicRequest()
	req.Policy = sandboxer.PolicyLowestCost
	plan, err := c.Plan(t.Context(), req, sandboxer.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := "1 c 0.000030 EUR/h\n2 a 0.000050 EUR/h\n3 d 0.000005 USD/h\n4 b 0.000010 USD/h\n5 e\n-> c (lowest estimate, 0.000030 EUR/h)\n"
	if diff := cmp.Diff(want, describe(plan.Route)); diff != "" {
		t.Errorf("route (-want +got):\n%s", diff)
	}
}

func TestExplicitNeedsToKnowWhere(t *testing.T) {
	c := market{owned: extensiontest.NewBackend(host("a"), host("b"))}.client(t, nil)
	req := basicRequest()
	req.Policy = sandboxer.PolicyExplicit
	_, err := c.Create(t.Context(), req)
	wantError(t, err, "create", sandboxer.ErrInvalid)
	if want := `create: host: policy explicit needs a host: name one of ["a" "b"] in the request or in placement.prefer`; err.Error() != want {
		t.Errorf("\n got %s\nwant %s", err, want)
	}
	one := market{owned: extensiontest.NewBackend(host("a"))}.client(t, nil)
	if s, err := one.Create(t.Context(), req); err != nil || s.Host != "a" {
		t.Errorf("with one host: %v, %v", s, err)
	}
}

func TestRejectionsSayWhy(t *testing.T) {
	full := host("full")
	full.Slots = 1
	tests := map[string]struct {
		spoil  func(t *testing.T, b *extensiontest.Backend)
		fault  extensiontest.Fault
		change func(*sandboxer.Profile)
		match  error
		want   string
	}{
		"no slot is free": {spoil: func(t *testing.T, b *extensiontest.Backend) {
			if _, err := (market{owned: b}).client(t, nil).Create(t.Context(), basicRequest()); err != nil {
				t.Fatal(err)
			}
		}, match: sandboxer.ErrLimit, want: "limit reached: all 1 slots are taken"},
		"it does not answer": {spoil: func(_ *testing.T, b *extensiontest.Backend) { b.SetReachable("full", false) },
			match: sandboxer.ErrUnavailable, want: "unavailable: host full does not answer"},
		"it answers too late": {fault: extensiontest.HangAt("probe", ""),
			match: sandboxer.ErrUnavailable, want: "unavailable: no answer within 20s"},
		"its key is not trusted": {fault: extensiontest.FailAt("probe", "", fmt.Errorf("%w: SHA256:abc", sandboxer.ErrHostKey)),
			match: sandboxer.ErrHostKey, want: "host key not trusted: SHA256:abc"},
		"it does not offer the isolation": {change: func(p *sandboxer.Profile) { p.Extension, p.Isolation = "ext.owned", sandboxer.IsolationVM },
			match: sandboxer.ErrUnsupported, want: "isolation vm: not supported by ext.owned, which offers container"},
		"no extension offers the isolation": {change: func(p *sandboxer.Profile) { p.Extension, p.Isolation = "", sandboxer.IsolationVM },
			match: sandboxer.ErrUnsupported, want: "isolation vm: not supported by ext.owned, which offers container"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := extensiontest.NewBackend(full)
				if tt.spoil != nil {
					tt.spoil(t, b)
				}
				before, _ := b.Leftovers(t.Context(), "")
				store := sandboxer.NewMemoryStore()
				s, err := market{owned: b, fault: tt.fault, store: store}.client(t, tt.change).Create(t.Context(), basicRequest())
				wantError(t, err, "create", sandboxer.ErrNoRoute, tt.match)
				if s != nil {
					t.Errorf("returned the sandbox %s", s.ID)
				}
				if want := "create: no route: full: " + tt.want; err.Error() != want {
					t.Errorf("\n got %s\nwant %s", err, want)
				}
				after, _ := b.Leftovers(t.Context(), "")
				records, _ := store.List(t.Context(), sandboxer.Filter{})
				if diff := cmp.Diff(before, after); diff != "" || len(records) > 0 {
					t.Errorf("%d records; backend (-before +after):\n%s", len(records), diff)
				}
			})
		})
	}
}

// A manifest says what an extension can do; a host proves what it can.
func TestAHostMayOfferLessThanItsManifest(t *testing.T) {
	w := newWorld(t, host("plain"), host("hardened"))
	p := basicProfile()
	p.Isolation = sandboxer.IsolationGVisor
	both := []sandboxer.Isolation{sandboxer.IsolationContainer, sandboxer.IsolationGVisor}
	ext := patchy{extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend, Isolation: both})}
	c, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: []sandboxer.Profile{p}, Store: w.store})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Create(t.Context(), basicRequest())
	if err != nil || s.Host != "hardened" {
		t.Fatalf("created %v, %v", s, err)
	}
	if got, want := s.Route.Candidates[0].Rejected, "isolation gvisor: not supported by host plain, which offers container"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// A cordoned host is passed over, or, where no other is left, the reason.
func TestACordonedHostIsNoRoute(t *testing.T) {
	w := newWorld(t, host("cordoned"), host("other"))
	ext := cordoned{extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend})}
	c, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: []sandboxer.Profile{basicProfile()}, Store: w.store})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Create(t.Context(), basicRequest())
	if err != nil || s.Host != "other" {
		t.Fatalf("created %v, %v", s, err)
	}
	req := basicRequest()
	req.Host = "cordoned"
	_, err = c.Create(t.Context(), req)
	wantError(t, err, "create", sandboxer.ErrNoRoute, sandboxer.ErrUnavailable)
	if !strings.Contains(fmt.Sprint(err), "cordoned: it takes no new sandboxes") {
		t.Errorf("error %v does not say why", err)
	}
	if got := sandboxer.Hint(err); got != "uncordon cordoned, or name another host" {
		t.Errorf("hint %q", got)
	}
}

// cordoned has one of its hosts cordoned.
type cordoned struct{ *extensiontest.Fake }

func (c cordoned) ProbeHost(ctx context.Context, name string) (sandboxer.HostStatus, error) {
	s, err := c.Fake.ProbeHost(ctx, name)
	s.Cordoned = name == "cordoned"
	return s, err
}

// patchy has gVisor on one of its hosts only.
type patchy struct{ *extensiontest.Fake }

func (p patchy) ProbeHost(ctx context.Context, name string) (sandboxer.HostStatus, error) {
	s, err := p.Fake.ProbeHost(ctx, name)
	if name == "plain" {
		s.Isolation = s.Isolation[:1]
	}
	return s, err
}

// What a manifest rules out is ruled out without asking anybody.
func TestUnsupportedIsolationNeedsNoProbe(t *testing.T) {
	w := newWorld(t)
	p := basicProfile()
	p.Extension, p.Isolation = "ext.fake", sandboxer.IsolationGVisor
	plain := func(f *extensiontest.Fake) sandboxer.Extension { return struct{ sandboxer.Extension }{f} }
	c := w.client(process{profiles: []sandboxer.Profile{p}, wrap: plain})
	_, err := c.Plan(t.Context(), basicRequest(), sandboxer.PlanOptions{})
	wantError(t, err, "plan", sandboxer.ErrNoRoute, sandboxer.ErrUnsupported)
	_, err = c.Create(t.Context(), basicRequest())
	wantError(t, err, "create", sandboxer.ErrNoRoute, sandboxer.ErrUnsupported)
	w.untouched()
}

func TestPlanCreatesNothingAndAsksNobody(t *testing.T) {
	w := newWorld(t, priced("one", "EUR", 7))
	w.backend.SetReachable("one", false)
	var seen calls
	c := w.client(process{fault: seen.fault})
	plan, err := c.Plan(t.Context(), basicRequest(), sandboxer.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := []any{plan.Profile, plan.Route.Chosen, plan.Admission.Verdict, plan.Cost}
	want := []any{"profile.basic", "one", sandboxer.Allow, &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 7}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if ops := seen.ops(); len(ops) > 0 {
		t.Errorf("an unprobed plan asked the host to %v", ops)
	}
	plan, err = c.Plan(t.Context(), basicRequest(), sandboxer.PlanOptions{Probe: true})
	wantError(t, err, "plan", sandboxer.ErrNoRoute, sandboxer.ErrUnavailable)
	if plan == nil || plan.Route.Chosen != "" || plan.Route.Candidates[0].Rejected == "" || plan.Cost != nil {
		t.Errorf("a probed plan of an unreachable host: %+v", plan)
	}
	w.untouched()
}

func TestPlanShowsADenialWithoutAnError(t *testing.T) {
	w := newWorld(t)
	violation := sandboxer.Violation{Rule: "PRIVILEGED", Path: "services.api", Message: "no"}
	c := w.client(process{judge: func(sandboxer.ProvisionRequest) []sandboxer.Violation { return []sandboxer.Violation{violation} }})
	plan, err := c.Plan(t.Context(), basicRequest(), sandboxer.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Admission.Verdict != sandboxer.Deny || !cmp.Equal(plan.Admission.Violations, []sandboxer.Violation{violation}) {
		t.Errorf("admission is %+v", plan.Admission)
	}
	w.untouched()
}

func TestPlanRefusesWhatCreateRefuses(t *testing.T) {
	c := newWorld(t).client(process{})
	req := basicRequest()
	req.Inputs = nil
	_, err := c.Plan(t.Context(), req, sandboxer.PlanOptions{})
	wantError(t, err, "plan", sandboxer.ErrInvalid)
}

func TestFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, host("one"), host("two"), host("three"))
		c := w.client(process{fault: extensiontest.Faults(
			extensiontest.OnHost("one", extensiontest.FailAt("provision", "volume", sandboxer.ErrUnavailable)),
			extensiontest.OnHost("two", extensiontest.FailAt("ready", "", sandboxer.ErrUnavailable)),
		)})
		s, err := c.Create(t.Context(), basicRequest())
		if err != nil {
			t.Fatal(err)
		}
		w.wantHistory(s.ID,
			"1 requested requested",
			"1 provisioning routed @one",
			"1 provisioning fallback @one",
			"1 provisioning fallback @two",
			"1 provisioning fallback @two",
			"1 provisioning fallback @three",
			"1 ready ready @three",
		)
		want := "0 one: volume " + s.ID + "-data: unavailable\n0 two: unavailable\n3 three\n-> three (self-hosted, number 3 in placement order, self-hosted first)\n"
		if diff := cmp.Diff(want, describe(s.Route)); diff != "" {
			t.Errorf("route (-want +got):\n%s", diff)
		}
		for _, name := range w.left("") {
			if !strings.HasSuffix(name, "on three") {
				t.Errorf("left behind: %s", name)
			}
		}
	})
}

func TestNoFallback(t *testing.T) {
	unavailable := extensiontest.OnHost("one", extensiontest.FailAt("provision", "volume", sandboxer.ErrUnavailable))
	tests := map[string]struct {
		fault  extensiontest.Fault
		policy sandboxer.Policy
		state  sandboxer.State
		match  []error
	}{
		"under explicit": {unavailable, sandboxer.PolicyExplicit, sandboxer.StateDestroyed, []error{sandboxer.ErrUnavailable}},
		"after a failure of the sandbox itself": {extensiontest.OnHost("one", extensiontest.FailAt("provision", "volume", &sandboxer.StageError{Stage: "build"})), "",
			sandboxer.StateDestroyed, []error{sandboxer.ErrProvision}},
		"while the host is not proved clean": {extensiontest.Faults(unavailable, extensiontest.OnHost("one", extensiontest.FailAt("teardown", "", sandboxer.ErrUnavailable))), "",
			sandboxer.StateDestroying, []error{sandboxer.ErrUnavailable}},
		"while there is residue": {extensiontest.Faults(unavailable, extensiontest.OnHost("one", extensiontest.FailAt("teardown", "network", errors.New("in use")))), "",
			sandboxer.StateDestroying, []error{sandboxer.ErrUnavailable}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, host("one"), host("two"))
			p := basicProfile()
			p.Placement.Prefer = []string{"one", "two"}
			req := basicRequest()
			req.Policy = tt.policy
			s, err := w.client(process{fault: tt.fault, profiles: []sandboxer.Profile{p}}).Create(t.Context(), req)
			wantError(t, err, "create", tt.match...)
			if s.State != tt.state || s.Host != "one" {
				t.Errorf("it is %s on %s, want %s on one", s.State, s.Host, tt.state)
			}
			if events := w.history(s.ID); strings.Contains(events, "@two") {
				t.Errorf("the second host was used:\n%s", events)
			}
		})
	}
}

func TestNoFallbackForACallerThatLeft(t *testing.T) {
	w := newWorld(t, host("one"), host("two"))
	ctx, cancel := context.WithCancelCause(t.Context())
	c := w.client(process{fault: extensiontest.OnHost("one", func(_ context.Context, s extensiontest.Step) error {
		if s.Stage != "volume" || s.Op != "provision" {
			return nil
		}
		cancel(errCallerLeft)
		return sandboxer.ErrUnavailable
	})})
	s, err := c.Create(ctx, basicRequest())
	wantError(t, err, "create", sandboxer.ErrUnavailable)
	if strings.Contains(w.history(s.ID), "@two") {
		t.Error("the second host was used")
	}
	w.empty()
}

func TestEveryHostFails(t *testing.T) {
	w := newWorld(t, host("one"), host("two"))
	s, err := w.client(process{fault: extensiontest.FailAt("provision", "volume", sandboxer.ErrUnavailable)}).Create(t.Context(), basicRequest())
	wantError(t, err, "create", sandboxer.ErrUnavailable)
	w.wantState(s.ID, sandboxer.StateDestroyed, sandboxer.ReasonVerified)
	w.empty()
}

// However long the hosts of a route take, nobody else may think that the work
// was abandoned while its process is alive.
func TestFallbackKeepsItsClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, host("one"), host("two"), host("three"))
		slow := func(ctx context.Context, s extensiontest.Step) error {
			if s.Op != "provision" || s.Stage != "volume" {
				return nil
			}
			time.Sleep(14 * time.Minute)
			if s.Host == "three" {
				return nil
			}
			return sandboxer.ErrUnavailable
		}
		done := make(chan error, 1)
		go func() {
			_, err := w.client(process{fault: slow}).Create(t.Context(), basicRequest())
			done <- err
		}()
		other := w.client(process{})
		for range 41 {
			time.Sleep(time.Minute)
			report, err := other.Reconcile(t.Context(), sandboxer.ReconcileOptions{})
			if err != nil || len(report.InProgress) != 1 {
				t.Errorf("after %v: %+v, %v", time.Since(w.record(w.only()).Sandbox.CreatedAt), report, err)
				break
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestHostsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, host("one"), host("dead"), host("slow"))
		w.backend.SetReachable("dead", false)
		c := w.client(process{fault: extensiontest.OnHost("slow", extensiontest.HangAt("probe", ""))})
		start := time.Now()
		statuses := c.Hosts(t.Context())
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("asking took %v, want what one host may take, 20s", took)
		}
		var got []string
		for _, s := range statuses {
			got = append(got, fmt.Sprintf("%s %v %s", s.Host.Name, s.Available, s.Reason))
		}
		want := []string{"one true ", "dead false unavailable: host dead does not answer", "slow false unavailable: no answer within 20s"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("hosts (-want +got):\n%s", diff)
		}
		if !errors.Is(statuses[1].Err, sandboxer.ErrUnavailable) {
			t.Errorf("the cause is %v", statuses[1].Err)
		}
	})
}

func TestHostsWithoutProberAreTakenAsConfigured(t *testing.T) {
	w := newWorld(t)
	c := w.client(process{wrap: func(f *extensiontest.Fake) sandboxer.Extension { return struct{ sandboxer.Extension }{f} }})
	if got := c.Hosts(t.Context()); len(got) != 1 || !got[0].Available || got[0].Host.Name != "one" {
		t.Errorf("hosts are %+v", got)
	}
	w.create(c)
}

func TestCostReads(t *testing.T) {
	for want, c := range map[string]sandboxer.Cost{
		"0.000000 EUR/h": {Currency: "EUR"}, "1.500000 USD/h": {Currency: "USD", MicrosPerHour: 1_500_000}, "0.000001 EUR/h": {Currency: "EUR", MicrosPerHour: 1},
	} {
		if got := c.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
