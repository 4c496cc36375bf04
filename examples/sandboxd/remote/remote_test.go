package remote_test

import (
	"bytes"
	"context"
	"errors"
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
		server.Config{Workspaces: w.dir, Consumer: sandboxer.Consumer{Project: "p", ActorType: "adm", Actor: "a"}})
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

// A create goes on while its server is restarted, and the client comes back to it.
func TestCreateAcrossARestart(t *testing.T) {
	w := newWorld(t)
	reached, until := make(chan bool, 9), make(chan bool)
	w.fault = hold(reached, until)
	stop := w.start(t)
	type result struct {
		s   *sandboxer.Sandbox
		err error
	}
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
