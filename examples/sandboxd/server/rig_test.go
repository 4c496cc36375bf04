package server_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// A world is what outlives a server: machines in memory, and a store.
type world struct {
	backend *extensiontest.Backend
	store   sandboxer.Store
	fault   extensiontest.Fault
	work    string // directory of workspaces

	isolation sandboxer.Isolation // that profiles ask for, unless empty

	bodyPatience time.Duration // of its servers, unless 0
}

func newWorld(t testing.TB, hosts ...sandboxer.Host) *world {
	return &world{backend: extensiontest.NewBackend(hosts...), store: sandboxer.NewMemoryStore(), work: t.TempDir()}
}

// library is a client's configuration as a new process would build it.
// Admission refuses the input profiles=greedy.
func (w *world) library(t testing.TB) sandboxer.Config {
	t.Helper()
	all, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].Extension, all[i].Isolation = "", cmp.Or(w.isolation, all[i].Isolation)
	}
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend, Fault: w.fault, Judge: func(req sandboxer.ProvisionRequest) []sandboxer.Violation {
		if req.Inputs["profiles"] != "greedy" {
			return nil
		}
		return []sandboxer.Violation{{Rule: "PRIVILEGED", Path: "services.api.privileged", File: "compose.yaml", Line: 3, Message: "no", Hint: "leave it out"}}
	}})
	return sandboxer.Config{Extensions: []sandboxer.Extension{fake}, Profiles: all, Store: w.store}
}

// A rig is a running server, and how a test speaks to it. Every answer is held
// against the OpenAPI document.
type rig struct {
	t        testing.TB
	world    *world
	addr     string
	stop     func() // and wait for the end
	contract *contract
	token    string
}

// start runs a server on a world until the test ends or it is stopped.
func (w *world) start(t testing.TB, cfg server.Config) *rig {
	t.Helper()
	return w.startAt(t, cfg, "127.0.0.1:0")
}

func (w *world) startAt(t testing.TB, cfg server.Config, addr string) *rig {
	t.Helper()
	cfg.Workspaces = w.work
	if cfg.Consumer.Project == "" {
		cfg.Consumer = sandboxer.Consumer{Project: "local", ActorType: sandboxer.ActorAdmin, Actor: "tester"}
	}
	s, err := server.New(w.library(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if w.bodyPatience > 0 {
		s.SetBodyPatience(w.bodyPatience)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(s.Run(ctx, l), s.Close()) }()
	stopped := false
	r := &rig{t: t, world: w, addr: l.Addr().String(), contract: loadContract(t)}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		http.DefaultClient.CloseIdleConnections() // a shutdown waits for those that were never used
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the server does not end")
		}
	}
	t.Cleanup(r.stop)
	return r
}

// as is the rig with another token.
func (r *rig) as(token string) *rig {
	other := *r
	other.token = token
	return &other
}

// An answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   string
}

// request makes one; headers are pairs of names and values, of which an empty
// value takes the name away.
func (r *rig) request(ctx context.Context, method, target, body string, headers ...string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.addr+target, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	return req
}

func (r *rig) send(method, target, body string, headers ...string) answer {
	r.t.Helper()
	a, err := r.try(r.request(r.t.Context(), method, target, body, headers...))
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// try is send for goroutines of a test.
func (r *rig) try(req *http.Request) (answer, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	if err := r.contract.check(req, resp.StatusCode, resp.Header, text); err != nil {
		r.t.Errorf("%s %s: %v", req.Method, req.URL, err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}, nil
}

func (r *rig) get(target string, headers ...string) answer {
	r.t.Helper()
	return r.send("GET", target, "", headers...)
}

// want fails the test unless the answer has the status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

func decode[T any](t testing.TB, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

func (a answer) sandbox(t testing.TB) sandboxer.Sandbox {
	t.Helper()
	return decode[sandboxer.Sandbox](t, a)
}

// problem checks the status and code of a refusal.
func (a answer) problem(t testing.TB, status int, code string) api.Problem {
	t.Helper()
	p := decode[api.Problem](t, a)
	if a.status != status || p.Status != status || p.Code != code || p.Type != api.ProblemBase+code || p.Title != http.StatusText(status) {
		t.Fatalf("got %d %s, want %d %s: %s", a.status, p.Code, status, code, a.body)
	}
	return p
}

const body = `{"profile":"profile.compose-e2e","inputs":{"repo":"."}}`

// create makes a ready sandbox.
func (r *rig) create(headers ...string) sandboxer.Sandbox {
	r.t.Helper()
	return r.send("POST", "/v1/sandboxes", body, headers...).want(r.t, http.StatusCreated).sandbox(r.t)
}

// nothingLeft asks the machines.
func (w *world) nothingLeft(t testing.TB, id string) {
	t.Helper()
	left, err := w.backend.Leftovers(context.Background(), id)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// recorded lists what the store holds, whatever the server says.
func (w *world) recorded(t testing.TB) []sandboxer.Sandbox {
	t.Helper()
	records, err := w.store.List(context.Background(), sandboxer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var all []sandboxer.Sandbox
	for _, r := range records {
		all = append(all, r.Sandbox)
	}
	return all
}

// patience is for a machine that is busy with other tests.
const patience = time.Minute

// until waits for something that comes soon.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for: %s", what)
		}
	}
}

// A gate holds the steps of an operation back until it is opened.
type gate struct {
	reached, opened chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 1000), make(chan struct{})} }

func (g *gate) open() { close(g.opened) }

// at makes a fault of the gate.
func (g *gate) at(op, stage string) extensiontest.Fault {
	return func(ctx context.Context, s extensiontest.Step) error {
		if s.Op != op || stage != "" && s.Stage != stage {
			return nil
		}
		g.reached <- struct{}{}
		select {
		case <-g.opened:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A message is one server-sent event.
type message struct{ id, name, data string }

// follow opens a stream and hands its messages over until it ends or the test
// leaves it.
func (r *rig) follow(target string, headers ...string) (messages <-chan message, leave func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	resp, err := http.DefaultClient.Do(r.request(ctx, "GET", target, "", append([]string{"Accept", "text/event-stream"}, headers...)...))
	if err != nil {
		cancel()
		r.t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		cancel()
		r.t.Fatalf("a stream answers %s %s", resp.Status, kind)
	}
	out := make(chan message, 10000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(out)
		defer resp.Body.Close()
		readMessages(resp.Body, out)
	}()
	leave = func() { cancel(); <-ended }
	r.t.Cleanup(leave)
	return out, leave
}

func readMessages(text io.Reader, out chan<- message) {
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	var m message
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			m.id = value
		case "event":
			m.name = value
		case "data":
			m.data = value
		case "":
			if m.data != "" {
				out <- m
			}
			m = message{}
		}
	}
}

// next is the next event, progress passed over.
func next(t testing.TB, messages <-chan message) (sandboxer.Event, bool) {
	t.Helper()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return sandboxer.Event{}, false
			}
			if m.name != "" {
				continue
			}
			var e sandboxer.Event
			if err := json.Unmarshal([]byte(m.data), &e); err != nil || e.ID != m.id {
				t.Fatalf("%v in message %+v", err, m)
			}
			return e, true
		case <-time.After(patience):
			t.Fatal("the stream is silent")
		}
	}
}

// states are those of the events up to the end of a stream.
func states(t testing.TB, messages <-chan message) (all []string) {
	t.Helper()
	for {
		e, ok := next(t, messages)
		if !ok {
			return all
		}
		all = append(all, fmt.Sprintf("%d %s", e.Seq, e.State))
	}
}
