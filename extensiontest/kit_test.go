package extensiontest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

func TestFakeKeepsItsPromises(t *testing.T) {
	Run(t, newBench(nil).harness(nil))
}

func TestSlowFakeKeepsItsPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := Check(t.Context(), newBench(slow).harness(nil)); err != nil {
			t.Error(err)
		}
	})
}

func TestExtensionWithoutOptionalInterfacesKeepsItsPromises(t *testing.T) {
	h := newBench(nil).harness(func(f *Fake) sandboxer.Extension { return struct{ sandboxer.Extension }{f} })
	if err := Check(t.Context(), h); err != nil {
		t.Error(err)
	}
}

func TestFailureSaysWhatAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(slow).harness(needsGeneration)
		id := ""
		leftovers := h.Leftovers
		h.Leftovers = func(ctx context.Context, of string) ([]string, error) {
			left, err := leftovers(ctx, of)
			if len(left) > 0 {
				id = of
			}
			return slices.DeleteFunc(left, func(name string) bool { return !strings.HasPrefix(name, "record") }), err
		}
		got := promises()[slices.IndexFunc(promises(), func(p promise) bool { return p.name == "TeardownByIDOnly" })].check(t.Context(), h)
		want := fmt.Sprintf("TeardownByIDOnly: still on the backend: record %s on one (a crash may lose the handle but never the id)", id)
		if got == nil || got.Error() != want {
			t.Errorf("got  %v\nwant %s", got, want)
		}
	})
}

// TestRunReportsBrokenPromises runs itself with an extension that breaks one.
func TestRunReportsBrokenPromises(t *testing.T) {
	if os.Getenv("SANDBOXER_TEST_BROKEN") != "" {
		Run(t, newBench(nil).harness(func(f *Fake) sandboxer.Extension {
			forgiving := func(ctx context.Context, h sandboxer.Handle) (sandboxer.Removal, error) {
				h.Generation = 0
				return f.Teardown(ctx, h)
			}
			return struct{ sandboxer.Extension }{broken{Fake: f, teardown: forgiving}}
		}))
		return
	}
	child := exec.Command(os.Args[0], "-test.v", "-test.run=^TestRunReportsBrokenPromises$")
	child.Env = append(os.Environ(), "SANDBOXER_TEST_BROKEN=1")
	out, err := child.CombinedOutput()
	if err == nil {
		t.Error("a broken extension passed")
	}
	for _, want := range []string{
		"--- FAIL: TestRunReportsBrokenPromises/StaleTeardown", "a handle of generation 1 removed generation 2",
		"--- PASS: TestRunReportsBrokenPromises/TeardownByIDOnly",
		"--- SKIP: TestRunReportsBrokenPromises/Inspect", "the extension is no sandboxer.Inspector",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "--- FAIL: TestRunReportsBrokenPromises/"); n != 1 {
		t.Errorf("%d checks failed, want one:\n%s", n, out)
	}
}

// A lease is read wherever the extension shows it.
func TestShortenedLeaseIsSeenThroughTheList(t *testing.T) {
	h := newBench(nil).harness(func(f *Fake) sandboxer.Extension {
		return struct {
			sandboxer.Extension
			sandboxer.Lister
			sandboxer.LeaseKeeper
		}{f, f, shortening{f}}
	})
	if err := Check(t.Context(), h); !cmp.Equal(failed(err), []string{"Renew"}) {
		t.Errorf("got %v", err)
	}
}

// shortening obeys every renewal.
type shortening struct{ *Fake }

func (s shortening) Renew(_ context.Context, h sandboxer.Handle, until time.Time) error {
	return s.cfg.Backend.on(h.Host, func(m *machine) error { m.boxes[h.SandboxID].ExpiresAt = until; return nil })
}

func TestIncompleteHarness(t *testing.T) {
	whole := newBench(nil).harness(nil)
	for name, spoil := range map[string]func(*Harness){
		"New": func(h *Harness) { h.New = nil }, "Leftovers": func(h *Harness) { h.Leftovers = nil }, "Request.Host": func(h *Harness) { h.Request.Host = "" },
	} {
		h := whole
		spoil(&h)
		if err := Check(t.Context(), h); err == nil || !strings.HasPrefix(err.Error(), "harness: "+name+" is missing") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestHarnessThatSeesNothingIsNoProof(t *testing.T) {
	h := newBench(nil).harness(nil)
	h.Leftovers = func(context.Context, string) ([]string, error) { return nil, nil }
	err := Check(t.Context(), h)
	if err == nil || !strings.Contains(err.Error(), "ProvisionThenTeardown: harness: Leftovers sees nothing") {
		t.Errorf("got %v", err)
	}
}

// Each extension breaks one rule; exactly the checks that watch over it must fail.
func TestBrokenExtensionsAreCaught(t *testing.T) {
	for name, m := range mutants() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(slow)
				err := Check(t.Context(), b.harness(func(f *Fake) sandboxer.Extension { return m.build(b, f) }))
				time.Sleep(2 * time.Hour) // until calls that the check gave up on have returned
				if diff := cmp.Diff(m.fails, failed(err)); diff != "" {
					t.Errorf("checks that fail (-want +got):\n%s\n%v", diff, err)
				}
			})
		})
	}
}

// failed names the checks in a joined error.
func failed(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var names []string
	for _, e := range joined.Unwrap() {
		name, _, _ := strings.Cut(e.Error(), ":")
		names = append(names, name)
	}
	return names
}

// A bench is one backend and what mutants share over all their values.
type bench struct {
	backend *Backend
	fault   Fault
	mu      sync.Mutex
	marks   map[string]int    // free for the mutant
	strays  map[string]string // objects that no record knows, by the id of their sandbox
}

func newBench(fault Fault) *bench {
	return &bench{
		backend: NewBackend(sandboxer.Host{Name: "one", Address: "fake://one", Price: &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 5000}}),
		fault:   fault, marks: map[string]int{}, strays: map[string]string{},
	}
}

// mark counts how often something happened.
func (b *bench) mark(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.marks[what]++
	return b.marks[what]
}

func (b *bench) unmark(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.marks, what)
}

func (b *bench) stray(id, object string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.strays[id] = object
}

func (b *bench) tidy(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.strays, id)
}

func (b *bench) leftovers(ctx context.Context, id string) ([]string, error) {
	left, err := b.backend.Leftovers(ctx, id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if object, ok := b.strays[id]; ok {
		left = append(left, object)
	}
	return left, err
}

// slow makes every step of consequence take some time, so that races have a middle.
func slow(ctx context.Context, s Step) error {
	return Faults(SlowAt("provision", "", 10*time.Millisecond), SlowAt("teardown", "", 10*time.Millisecond))(ctx, s)
}

func (b *bench) harness(wrap func(*Fake) sandboxer.Extension) Harness {
	request := sandboxer.ProvisionRequest{
		Host: "one",
		Profile: sandboxer.Profile{
			ID: "profile.fake", Isolation: sandboxer.IsolationContainer, Config: json.RawMessage(`{"volumes":["cache"]}`),
			Expose: []sandboxer.Expose{{Service: WebService, Port: WebPort}}, Setup: sandboxer.Setup{SecretRefs: []string{"token"}},
		},
		Secrets:  map[string]sandboxer.Secret{"token": sandboxer.NewSecret([]byte("battery staple"))},
		Inputs:   map[string]string{"repo": "/repo", "password": "horse battery"},
		Consumer: sandboxer.Consumer{Project: "kit", ActorType: sandboxer.ActorAutomation, Actor: "test"},
	}
	unknownKey, unknownService, vm := request, request, request
	unknownKey.Profile.Config = json.RawMessage(`{"colour":"red"}`)
	unknownService.Profile.Expose = []sandboxer.Expose{{Service: "db", Port: 5432}}
	vm.Profile.Isolation = sandboxer.IsolationVM
	return Harness{
		New: func() (sandboxer.Extension, error) {
			f := NewFake(FakeConfig{Backend: b.backend, Fault: b.fault})
			if wrap != nil {
				return wrap(f), nil
			}
			return f, nil
		},
		Request:   request,
		Leftovers: b.leftovers,
		Invalid:   []sandboxer.ProvisionRequest{unknownKey, unknownService, vm},
		Secrets:   []string{"horse battery"},
		Dial:      &Target{Service: EchoService, Port: EchoPort, Talk: echoes},
		Disconnect: func(context.Context) (func() error, error) {
			b.backend.SetReachable("one", false)
			return func() error { b.backend.SetReachable("one", true); return nil }, nil
		},
	}
}

func echoes(conn net.Conn) error {
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != "hello" {
		return fmt.Errorf("sent hello, got %q", got)
	}
	return nil
}

// A broken extension is a Fake with some methods replaced.
type broken struct {
	*Fake
	info      func() sandboxer.ExtensionInfo
	provision func(context.Context, sandboxer.ProvisionRequest) (sandboxer.Handle, error)
	ready     func(context.Context, sandboxer.Handle) (sandboxer.Readiness, error)
	teardown  func(context.Context, sandboxer.Handle) (sandboxer.Removal, error)
	inspect   func(context.Context, sandboxer.Handle) (sandboxer.Observation, error)
	list      func(context.Context, string) ([]sandboxer.Found, error)
	dial      func(context.Context, sandboxer.Handle, string, int) (net.Conn, error)
	logs      func(context.Context, sandboxer.Handle, sandboxer.LogOptions) (io.ReadCloser, error)
	renew     func(context.Context, sandboxer.Handle, time.Time) error
	estimate  func(context.Context, sandboxer.ProvisionRequest) (sandboxer.Cost, error)
	admit     func(context.Context, sandboxer.ProvisionRequest) (sandboxer.Admission, error)
	probe     func(context.Context, string) (sandboxer.HostStatus, error)
}

func (b broken) Info() sandboxer.ExtensionInfo {
	if b.info != nil {
		return b.info()
	}
	return b.Fake.Info()
}

func (b broken) Provision(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Handle, error) {
	if b.provision != nil {
		return b.provision(ctx, req)
	}
	return b.Fake.Provision(ctx, req)
}

func (b broken) WaitReady(ctx context.Context, h sandboxer.Handle) (sandboxer.Readiness, error) {
	if b.ready != nil {
		return b.ready(ctx, h)
	}
	return b.Fake.WaitReady(ctx, h)
}

func (b broken) Teardown(ctx context.Context, h sandboxer.Handle) (sandboxer.Removal, error) {
	if b.teardown != nil {
		return b.teardown(ctx, h)
	}
	return b.Fake.Teardown(ctx, h)
}

func (b broken) Inspect(ctx context.Context, h sandboxer.Handle) (sandboxer.Observation, error) {
	if b.inspect != nil {
		return b.inspect(ctx, h)
	}
	return b.Fake.Inspect(ctx, h)
}

func (b broken) List(ctx context.Context, host string) ([]sandboxer.Found, error) {
	if b.list != nil {
		return b.list(ctx, host)
	}
	return b.Fake.List(ctx, host)
}

func (b broken) Dial(ctx context.Context, h sandboxer.Handle, service string, port int) (net.Conn, error) {
	if b.dial != nil {
		return b.dial(ctx, h, service, port)
	}
	return b.Fake.Dial(ctx, h, service, port)
}

func (b broken) Logs(ctx context.Context, h sandboxer.Handle, opts sandboxer.LogOptions) (io.ReadCloser, error) {
	if b.logs != nil {
		return b.logs(ctx, h, opts)
	}
	return b.Fake.Logs(ctx, h, opts)
}

func (b broken) Renew(ctx context.Context, h sandboxer.Handle, until time.Time) error {
	if b.renew != nil {
		return b.renew(ctx, h, until)
	}
	return b.Fake.Renew(ctx, h, until)
}

func (b broken) EstimateCost(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Cost, error) {
	if b.estimate != nil {
		return b.estimate(ctx, req)
	}
	return b.Fake.EstimateCost(ctx, req)
}

func (b broken) Admit(ctx context.Context, req sandboxer.ProvisionRequest) (sandboxer.Admission, error) {
	if b.admit != nil {
		return b.admit(ctx, req)
	}
	return b.Fake.Admit(ctx, req)
}

func (b broken) ProbeHost(ctx context.Context, host string) (sandboxer.HostStatus, error) {
	if b.probe != nil {
		return b.probe(ctx, host)
	}
	return b.Fake.ProbeHost(ctx, host)
}

func needsGeneration(f *Fake) sandboxer.Extension {
	return broken{Fake: f, teardown: func(ctx context.Context, h sandboxer.Handle) (sandboxer.Removal, error) {
		if h.Generation == 0 {
			return sandboxer.Removal{VerifiedAt: time.Now()}, nil
		}
		return f.Teardown(ctx, h)
	}}
}

var errBroken = errors.New("broken on purpose")

// TestPageCounts: the page for authors of extensions says how many promises the
// kit checks.
func TestPageCounts(t *testing.T) {
	page, err := os.ReadFile("../docs/writing-an-extension.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("`extensiontest.Run` checks %d promises", len(promises())); !strings.Contains(string(page), want) {
		t.Errorf("docs/writing-an-extension.md does not say: %s", want)
	}
}
