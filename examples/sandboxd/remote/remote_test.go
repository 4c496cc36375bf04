package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/remote"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// A world is machines and records in memory, and where their server listens.
type world struct {
	backend *extensiontest.Backend
	store   *sandboxer.MemoryStore
	fault   extensiontest.Fault
	judge   func(sandboxer.ProvisionRequest) []sandboxer.Violation
	dir     string
	addr    string

	wait, drain time.Duration // of the server; its own if 0
}

func newWorld(t *testing.T) *world {
	return &world{backend: extensiontest.NewBackend(), store: sandboxer.NewMemoryStore(), dir: t.TempDir(), addr: "127.0.0.1:0"}
}

// start runs a server, and returns how to stop it and wait for its end.
func (w *world) start(t *testing.T) (stop func()) {
	t.Helper()
	all, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	all[0].Extension = ""
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend, Fault: w.fault, Judge: w.judge})
	s, err := server.New(
		sandboxer.Config{Extensions: []sandboxer.Extension{fake}, Profiles: all, Store: w.store},
		server.Config{Workspaces: w.dir, MaxWait: w.wait, Drain: w.drain, Consumer: sandboxer.Consumer{Project: "p", ActorType: "adm", Actor: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(s.Run(ctx, l), s.Close()) }()
	var stopped atomic.Bool
	stop = func() {
		cancel()
		http.DefaultClient.CloseIdleConnections() // a shutdown waits for those that were never used
		if stopped.CompareAndSwap(false, true) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func (w *world) client(t *testing.T) *remote.Client {
	t.Helper()
	c, err := remote.New("http://"+w.addr, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(key string) sandboxer.CreateRequest {
	return sandboxer.CreateRequest{Profile: "profile.compose-e2e", Inputs: map[string]string{"repo": "."}, IdempotencyKey: key}
}

// hold keeps creates at a stage until it is closed.
func hold(reached chan<- bool, until <-chan bool) extensiontest.Fault {
	return func(ctx context.Context, s extensiontest.Step) error {
		if s.Op != "provision" || s.Stage != "volume" {
			return nil
		}
		reached <- true
		select {
		case <-until:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A result is what an operation that somebody waits for came to.
type result struct {
	s   *sandboxer.Sandbox
	err error
}

// A create goes on while its server is restarted, and the client comes back to it.
func TestCreateAcrossARestart(t *testing.T) {
	w := newWorld(t)
	reached, until := make(chan bool, 9), make(chan bool)
	w.fault = hold(reached, until)
	stop := w.start(t)
	results := make(chan result, 1)
	go func() {
		s, err := w.client(t).Create(t.Context(), request(""))
		results <- result{s, err}
	}()
	<-reached
	time.AfterFunc(100*time.Millisecond, func() { close(until) })
	stop()
	w.start(t)
	if r := <-results; r.err != nil || r.s.State != sandboxer.StateReady {
		t.Errorf("got %+v, %v", r.s, r.err)
	}
}

// A destroy and a recreate are followed to their end, however long the server
// lets a request wait.
func TestTheEndOfLongWork(t *testing.T) {
	stuck := extensiontest.FailAt("teardown", "network", errors.New("busy"))
	broken := &sandboxer.StageError{Stage: "build", Message: "no such file", Log: "step 3\n"}
	second := func(f extensiontest.Fault) extensiontest.Fault { // only once the sandbox was there
		var made atomic.Bool
		return func(ctx context.Context, s extensiontest.Step) error {
			if made.Load() {
				return f(ctx, s)
			}
			if s.Op == "ready" {
				made.Store(true)
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name     string
		fault    extensiontest.Fault
		recreate bool
		state    sandboxer.State
		want     error
		says     string
	}{
		{name: "destroy", state: sandboxer.StateDestroyed},
		{name: "destroy that leaves something", fault: stuck, state: sandboxer.StateDestroying, want: sandboxer.ErrResidue, says: "-net"},
		{name: "recreate", recreate: true, state: sandboxer.StateReady},
		{name: "recreate that fails", fault: second(extensiontest.FailAt("provision", "container", broken)), recreate: true, state: sandboxer.StateDestroyed, want: sandboxer.ErrProvision, says: "no such file"},
		{name: "recreate that cannot remove", fault: stuck, recreate: true, state: sandboxer.StateDestroying, want: sandboxer.ErrResidue, says: "-net"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.wait = time.Millisecond
			w.fault = extensiontest.Faults(tt.fault, extensiontest.SlowAt("teardown", "look", 20*time.Millisecond))
			w.start(t)
			c := w.client(t)
			s, err := c.Create(t.Context(), request(""))
			if err != nil {
				t.Fatal(err)
			}
			do := c.Destroy
			if tt.recreate {
				do = c.Recreate
			}
			now, err := do(t.Context(), s.ID)
			if !errors.Is(err, tt.want) || tt.want != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v that says %s", err, tt.want, tt.says)
			}
			if now == nil || now.State != tt.state || tt.state == sandboxer.StateReady && now.Generation != 2 {
				t.Errorf("got %+v, want it %s", now, tt.state)
			}
			var residue *sandboxer.ResidueError
			if tt.want == sandboxer.ErrResidue && (!errors.As(err, &residue) || len(residue.Residue) == 0) {
				t.Errorf("%v does not list what is left", err)
			}
		})
	}
}

// What an earlier attempt came to is not taken for the end of this one.
func TestDestroyAgain(t *testing.T) {
	w := newWorld(t)
	w.fault = extensiontest.Faults(extensiontest.Times(1, extensiontest.FailAt("teardown", "network", errors.New("busy"))), extensiontest.SlowAt("teardown", "look", 20*time.Millisecond))
	w.start(t)
	c := w.client(t)
	s, err := c.Create(t.Context(), request(""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Destroy(t.Context(), s.ID); !errors.Is(err, sandboxer.ErrResidue) {
		t.Fatalf("the first: %v", err)
	}
	if s, err := c.Destroy(t.Context(), s.ID); err != nil || s.State != sandboxer.StateDestroyed {
		t.Errorf("the second: %+v, %v", s, err)
	}
}

// A destroy that the server's end cuts short is finished by its next start,
// and the client waits for that.
func TestDestroyAcrossARestart(t *testing.T) {
	w := newWorld(t)
	w.drain = time.Millisecond
	reached := make(chan bool, 9)
	w.fault = extensiontest.Times(1, func(ctx context.Context, s extensiontest.Step) error {
		if s.Op != "teardown" || s.Stage != "container" {
			return nil
		}
		reached <- true
		<-ctx.Done()
		return context.Cause(ctx)
	})
	stop := w.start(t)
	c := w.client(t)
	s, err := c.Create(t.Context(), request(""))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan result, 1)
	go func() {
		s, err := c.Destroy(t.Context(), s.ID)
		ended <- result{s, err}
	}()
	<-reached
	stop()
	w.start(t)
	if r := <-ended; r.err != nil || r.s.State != sandboxer.StateDestroyed {
		t.Errorf("got %+v, %v", r.s, r.err)
	}
}

// A server that answers is not given up, however often its streams break off
// with nothing to tell; one that is away is, and the error says of what.
func TestPatience(t *testing.T) {
	const id, patience = "aaaaaaaaaaaaaaaaaaaa", 100 * time.Millisecond
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("away %v", away), func(t *testing.T) {
			began := time.Now()
			quiet := func() bool { return time.Since(began) < 5*patience }
			state := func() string {
				if quiet() {
					return "provisioning"
				}
				return "ready"
			}
			fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPost:
					w.WriteHeader(http.StatusAccepted)
					fmt.Fprintf(w, `{"id":%q,"state":"requested","generation":1}`, id)
				case !strings.HasSuffix(r.URL.Path, "/events"):
					fmt.Fprintf(w, `{"id":%q,"state":%q,"generation":1}`, id, state())
				case away:
					panic(http.ErrAbortHandler)
				case quiet():
					fmt.Fprint(w, "retry: 1000\n\n")
				default:
					fmt.Fprintf(w, "id: %s-3\ndata: {\"state\":\"ready\",\"generation\":1}\n\n", id)
				}
			}))
			defer fake.Close()
			c, err := remote.New(fake.URL, "")
			if err != nil {
				t.Fatal(err)
			}
			c.SetPatience(5*time.Millisecond, patience)
			_, err = c.Create(t.Context(), request("k"))
			if away && (!errors.Is(err, sandboxer.ErrUnavailable) || !strings.Contains(err.Error(), id) || !strings.Contains(sandboxer.Hint(err), id)) {
				t.Errorf("got %v, hint %q, want one that names the sandbox", err, sandboxer.Hint(err))
			}
			if !away && err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A sandbox that is lost when its create ends is none that can be used.
func TestCreateThatIsLost(t *testing.T) {
	const id = "aaaaaaaaaaaaaaaaaaaa"
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprintf(w, `{"id":%q,"state":"provisioning","generation":1}`, id)
		case strings.HasSuffix(r.URL.Path, "/events"):
			fmt.Fprintf(w, "id: %s-3\ndata: {\"state\":\"ready\",\"generation\":1}\n\n", id)
		default:
			fmt.Fprintf(w, `{"id":%q,"state":"lost","reason":"vanished","message":"the host holds nothing of it","generation":1}`, id)
		}
	}))
	defer fake.Close()
	c, err := remote.New(fake.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Create(t.Context(), request("k"))
	var answer *remote.Error
	if !errors.As(err, &answer) || answer.Class.Exit() != 5 || !errors.Is(err, sandboxer.ErrUnavailable) || !strings.Contains(err.Error(), "holds nothing") {
		t.Errorf("got %v, want exit code 5", err)
	}
	if s == nil || s.State != sandboxer.StateLost {
		t.Errorf("it is %+v", s)
	}
}

// Progress comes to whoever waits, as it does without a server between.
func TestProgress(t *testing.T) {
	w := newWorld(t)
	reached, until := make(chan bool, 9), make(chan bool)
	w.fault = extensiontest.Faults(hold(reached, until), extensiontest.SlowAt("provision", "container", 100*time.Millisecond))
	w.start(t)
	var stages atomic.Int64
	ctx := sandboxer.WithProgress(t.Context(), func(p sandboxer.Progress) {
		if p.Stage == "container" {
			stages.Add(1)
		}
	})
	go func() {
		<-reached
		for !w.watched(t) {
			time.Sleep(5 * time.Millisecond)
		}
		close(until)
	}()
	if _, err := w.client(t).Create(ctx, request("")); err != nil || stages.Load() == 0 {
		t.Errorf("%d reports of the last stage, %v", stages.Load(), err)
	}
}

// watched reports whether somebody follows a stream.
func (w *world) watched(t *testing.T) bool {
	resp, err := http.Get("http://" + w.addr + "/metrics")
	if err != nil {
		t.Error(err)
		return true
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err != nil || strings.Contains(string(text), "sandboxd_event_streams 1\n")
}

// Whoever gives a create up is left with nothing, unless a key leads back to it.
func TestCreateThatIsGivenUp(t *testing.T) {
	for _, key := range []string{"", "k"} {
		t.Run("key "+key, func(t *testing.T) {
			w := newWorld(t)
			reached, until := make(chan bool, 9), make(chan bool)
			w.fault = hold(reached, until)
			w.start(t)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-reached; time.Sleep(50 * time.Millisecond); cancel() }()
			if _, err := w.client(t).Create(ctx, request(key)); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			close(until)
			want := sandboxer.StateDestroyed
			if key != "" {
				want = sandboxer.StateReady
			}
			w.eventually(t, string(want)+" sandbox", func(all []sandboxer.Sandbox) bool { return len(all) == 1 && all[0].State == want })
			if key != "" {
				if s, err := w.client(t).Create(t.Context(), request(key)); err != nil || s.State != sandboxer.StateReady {
					t.Errorf("the key leads to %+v, %v", s, err)
				}
			}
		})
	}
}

// What comes of a create that is given up, or cut off, before the server has
// said anything of it is destroyed all the same: nobody else knows the key.
func TestCreateWithoutAnAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(cancel, cut func())
		want error
	}{
		{"given up", func(cancel, _ func()) { cancel() }, context.Canceled},
		{"cut off", func(_, cut func()) { cut() }, sandboxer.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			asked, until := make(chan bool, 1), make(chan bool)
			var judged atomic.Int64
			w.judge = func(sandboxer.ProvisionRequest) []sandboxer.Violation {
				if judged.Add(1) == 1 { // the admission of the first request; nothing is recorded yet
					asked <- true
					<-until
				}
				return nil
			}
			w.start(t)
			behind, cut := w.behind(t)
			c, err := remote.New(behind, "")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { <-asked; tt.end(cancel, cut) }()
			if _, err := c.Create(ctx, request("")); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			close(until) // now the first request goes on
			w.eventually(t, "one sandbox, destroyed", func(all []sandboxer.Sandbox) bool {
				return len(all) == 1 && all[0].State == sandboxer.StateDestroyed
			})
		})
	}
}

// behind is the address of a proxy before the server, and how to cut the
// connection of the first request for a sandbox; the server goes on with it.
func (w *world) behind(t *testing.T) (address string, cut func()) {
	target, err := url.Parse("http://" + w.addr)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.ErrorLog = log.New(io.Discard, "", 0) // of whoever left
	gone := make(chan bool)
	var posts atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || posts.Add(1) > 1 {
			pass.ServeHTTP(answer, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		first := r.Clone(context.WithoutCancel(r.Context()))
		first.Body = io.NopCloser(bytes.NewReader(body))
		go pass.ServeHTTP(httptest.NewRecorder(), first)
		select {
		case <-gone:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL, func() { close(gone) }
}

// eventually waits for what the server lists to be as it is to be.
func (w *world) eventually(t *testing.T, what string, is func([]sandboxer.Sandbox) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		all, err := w.client(t).List(t.Context(), sandboxer.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if is(all) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s: %+v", what, all)
		}
	}
}

// What goes wrong matches what it would without a server between.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	cause := &sandboxer.StageError{Stage: "build", Message: "no such file", Log: "step 3\n"}
	w.fault = extensiontest.FailAt("provision", "container", sandboxer.WithHint(cause, "add the file"))
	w.start(t)
	c := w.client(t)
	s, err := c.Create(t.Context(), request(""))
	var stage *sandboxer.StageError
	if !errors.Is(err, sandboxer.ErrProvision) || sandboxer.Code(err) != "provision" || !errors.As(err, &stage) || stage.Log != "step 3\n" || sandboxer.Hint(err) != "add the file" {
		t.Errorf("got %v, code %s, hint %q", err, sandboxer.Code(err), sandboxer.Hint(err))
	}
	if s == nil || s.State != sandboxer.StateDestroyed {
		t.Fatalf("it is %+v", s)
	}
	_, getErr := c.Get(t.Context(), "aaaaaaaaaaaaaaaaaaaa")
	_, activateErr := c.Activate(t.Context(), s.ID)
	_, nowhere := remote.New("ftp://x", "")
	for _, tt := range []struct{ got, want error }{{getErr, sandboxer.ErrNotFound}, {activateErr, sandboxer.ErrState}, {nowhere, sandboxer.ErrInvalid}} {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
}

// A plan without a usable host shows what is known, as it does without a server between.
func TestPlanWithoutAHost(t *testing.T) {
	w := newWorld(t)
	w.backend.SetReachable("one", false)
	w.start(t)
	plan, err := w.client(t).Plan(t.Context(), request(""), sandboxer.PlanOptions{Probe: true})
	if !errors.Is(err, sandboxer.ErrNoRoute) || plan == nil || len(plan.Route.Candidates) != 1 || plan.Route.Candidates[0].Rejected == "" {
		t.Errorf("got %+v, %v", plan, err)
	}
	if plan, err := w.client(t).Plan(t.Context(), sandboxer.CreateRequest{Profile: "profile.none"}, sandboxer.PlanOptions{}); !errors.Is(err, sandboxer.ErrNotFound) || plan != nil {
		t.Errorf("of no profile: %+v, %v", plan, err)
	}
}
