// Package delivery_test looks at the way of events from processes that are
// killed to the reference State Hub, with real processes, stores and HTTP.
package delivery_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/sqlstore"
	"github.com/sand-boxer/sandboxer/statehub"
)

// What a process of a test does, on which store and for which hub.
const (
	roleVariable  = "SANDBOXER_TEST_ROLE"
	storeVariable = "SANDBOXER_TEST_STORE"
	hubVariable   = "SANDBOXER_TEST_HUB"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "live":
		err = live(context.Background())
	case "deliver":
		err = deliverAll(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// open is a client on a store whose events go to a hub. Its machines are in
// its memory: they end with the process, as if all had lost their power.
func open(ctx context.Context, store, address string) (*sandboxer.Client, error) {
	s, err := sqlstore.Open(ctx, store)
	if err != nil {
		return nil, err
	}
	cfg := sandboxer.Config{
		Store: s, Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})},
		Profiles: []sandboxer.Profile{{
			ID: "profile.basic", Isolation: sandboxer.IsolationContainer, TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(4 * time.Hour),
			Inputs: map[string]sandboxer.Input{"repo": {}}, Resources: sandboxer.Resources{CPUs: 1, Memory: 1 << 28},
		}},
	}
	if address != "" {
		if cfg.Sink, err = statehub.New(statehub.Config{URL: address}); err != nil {
			return nil, err
		}
	}
	return sandboxer.New(cfg)
}

func request() sandboxer.CreateRequest {
	return sandboxer.CreateRequest{
		Profile: "profile.basic", Inputs: map[string]string{"repo": "/src"},
		Consumer: sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAgent, Actor: "coder"},
	}
}

// live brings sandboxes up and down until it is killed.
func live(ctx context.Context) error {
	c, err := open(ctx, os.Getenv(storeVariable), os.Getenv(hubVariable))
	if err != nil {
		return err
	}
	go func() { _ = c.KeepDelivering(ctx) }()
	for {
		if err := life(ctx, c); err != nil {
			return err
		}
	}
}

// life is seven events: requested, provisioning, ready, active, extended,
// destroying, destroyed.
func life(ctx context.Context, c *sandboxer.Client) error {
	s, err := c.Create(ctx, request())
	if err != nil {
		return err
	}
	_, activated := c.Activate(ctx, s.ID)
	_, extended := c.ExtendTTL(ctx, s.ID, 2*time.Hour)
	_, destroyed := c.Destroy(ctx, s.ID)
	return errors.Join(activated, extended, destroyed)
}

// deliverAll delivers until nothing waits.
func deliverAll(ctx context.Context) error {
	c, err := open(ctx, os.Getenv(storeVariable), os.Getenv(hubVariable))
	if err != nil {
		return err
	}
	delivering, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.KeepDelivering(delivering) }()
	for err == nil {
		var list []sandboxer.Undelivered
		if list, err = c.Undelivered(ctx, ""); len(list) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	<-ended
	return errors.Join(err, c.Close())
}

// A worker is a process of a test.
type worker struct {
	*exec.Cmd
	ended chan struct{}
	err   error // of its end
}

func start(t *testing.T, role, store, address string) *worker {
	t.Helper()
	w := &worker{Cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	w.Env = append(os.Environ(), roleVariable+"="+role, storeVariable+"="+store, hubVariable+"="+address)
	w.Stderr = os.Stderr
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(w.ended); w.err = w.Wait() }()
	t.Cleanup(w.kill)
	return w
}

func (w *worker) kill() {
	_ = w.Process.Kill()
	<-w.ended
}

func (w *worker) over() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// end waits for a worker that ends by itself.
func (w *worker) end(t *testing.T) {
	t.Helper()
	<-w.ended
	if w.err != nil {
		t.Error(w.err)
	}
}

// A witness notes the ids of the events that a hub took, in the order in which
// it took them.
type witness struct {
	http.Handler
	mu    sync.Mutex
	taken []string
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	w.Handler.ServeHTTP(answer, r)
	if r.Method == http.MethodPost && answer.Code/100 == 2 {
		var event struct{ ID string }
		_ = json.Unmarshal(body, &event)
		w.mu.Lock()
		w.taken = append(w.taken, event.ID)
		w.mu.Unlock()
	}
	rw.WriteHeader(answer.Code)
	_, _ = rw.Write(answer.Body.Bytes())
}

// assertTook compares what the hub took with what the store holds: every
// event, per sandbox in order, and what came twice under the same id.
func (w *witness) assertTook(t *testing.T, events []sandboxer.Event) (duplicates int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	bySandbox := map[string][]string{}
	for _, e := range events {
		bySandbox[e.SandboxID] = append(bySandbox[e.SandboxID], e.ID)
	}
	seen, order := map[string]bool{}, map[string][]string{}
	for _, id := range w.taken {
		if seen[id] {
			duplicates++
			continue
		}
		seen[id] = true
		sandbox := id[:20]
		order[sandbox] = append(order[sandbox], id)
	}
	if len(seen) != len(events) {
		t.Errorf("the hub took %d different events, the store holds %d", len(seen), len(events))
	}
	for sandbox, want := range bySandbox {
		if !slices.Equal(order[sandbox], want) {
			t.Errorf("of %s the hub took %v, want %v", sandbox, order[sandbox], want)
		}
	}
	return duplicates
}

func newHub(t *testing.T) (*hub.Hub, *witness) {
	t.Helper()
	h, err := hub.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h, &witness{Handler: h}
}

// holds asks the hub itself how many events it holds.
func holds(t *testing.T, h http.Handler) int {
	t.Helper()
	n, cursor := 0, ""
	for {
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v1/events?limit=500&after="+cursor, nil))
		var page struct {
			Events []sandboxer.Event
			Next   string
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("the hub answers %d: %v: %s", answer.Code, err, answer.Body)
		}
		n += len(page.Events)
		if page.Next == "" {
			return n
		}
		cursor = page.Next
	}
}

func count(t *testing.T, c *sandboxer.Client) int {
	t.Helper()
	records, err := c.List(t.Context(), sandboxer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return len(records)
}

// TestNothingIsLostWhileTheHubIsDown: the hub is down for the whole life of 50
// sandboxes, and the client is killed again and again. When the hub is up,
// every event arrives, also if who delivers is killed.
func TestNothingIsLostWhileTheHubIsDown(t *testing.T) {
	const sandboxes = 50
	store := filepath.Join(t.TempDir(), "records.db")
	h, w := newHub(t)
	var up atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		w.ServeHTTP(rw, r)
	}))
	defer server.Close()
	c, err := open(t.Context(), store, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const kills = 10
	for n := range kills { // each time with about five sandboxes more
		worker := start(t, "live", store, server.URL)
		for enough := (n + 1) * sandboxes / kills; count(t, c) < enough; time.Sleep(time.Millisecond) {
			if worker.over() {
				t.Fatalf("a process ended by itself: %v", worker.err)
			}
		}
		worker.kill()
	}
	if _, err := c.Reconcile(t.Context(), sandboxer.ReconcileOptions{}); err != nil { // what the dead began is finished
		t.Fatal(err)
	}
	events, err := c.Events(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := c.Undelivered(t.Context(), "")
	if err != nil || len(waiting) != len(events) {
		t.Fatalf("%d of %d events wait, %v", len(waiting), len(events), err)
	}

	up.Store(true)
	first := start(t, "deliver", store, server.URL)
	for deadline := time.Now().Add(30 * time.Second); holds(t, h) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is delivered")
		}
	}
	first.kill() // in the middle; what it claimed is free again after half a minute
	for _, next := range []*worker{start(t, "deliver", store, server.URL), start(t, "deliver", store, server.URL)} {
		next.end(t)
	}
	duplicates := w.assertTook(t, events)
	if n := holds(t, h); n != len(events) {
		t.Errorf("the hub holds %d events, the store %d", n, len(events))
	}
	t.Logf("%d sandboxes, %d kills, %d events, %d came twice", count(t, c), kills+1, len(events), duplicates)
}

// TestTwoProcessesDeliver what a third records.
func TestTwoProcessesDeliver(t *testing.T) {
	store := filepath.Join(t.TempDir(), "records.db")
	h, w := newHub(t)
	server := httptest.NewServer(w)
	defer server.Close()
	c, err := open(t.Context(), store, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := life(t.Context(), c); err != nil { // so that neither ends at once
		t.Fatal(err)
	}
	one, two := start(t, "deliver", store, server.URL), start(t, "deliver", store, server.URL)
	for range 40 {
		if err := life(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	one.end(t)
	two.end(t)
	start(t, "deliver", store, server.URL).end(t) // both may have found nothing to do for a moment
	events, err := c.Events(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.assertTook(t, events); n != 0 {
		t.Errorf("%d events came twice though nobody died", n)
	}
	if n := holds(t, h); n != len(events) {
		t.Errorf("the hub holds %d events, the store %d", n, len(events))
	}
}

// BenchmarkDelivery pushes recorded events through the outbox to a hub on
// loopback, one request each.
//
//	go test ./examples/statehub -run '^$' -bench Delivery -benchtime 20000x
func BenchmarkDelivery(b *testing.B) {
	ctx := b.Context()
	store := filepath.Join(b.TempDir(), "records.db")
	h, err := hub.Open(ctx, filepath.Join(b.TempDir(), "hub.db"), hub.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	server := httptest.NewServer(h)
	defer server.Close()
	c, err := open(ctx, store, server.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const each = 7
	for range (b.N + each - 1) / each {
		if err := life(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	n, err := c.Deliver(ctx)
	if err != nil || n < b.N {
		b.Fatalf("delivered %d of %d, %v", n, b.N, err)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkCreateWithADeadHub compares creates without a hub, with one that
// refuses connections, and with one that never answers.
//
//	go test ./examples/statehub -run '^$' -bench DeadHub -benchtime 500x
func BenchmarkCreateWithADeadHub(b *testing.B) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer silent.Close()
	for name, address := range map[string]string{"none": "", "refuses": "http://127.0.0.1:1", "hangs": "http://" + silent.Addr().String()} {
		b.Run(name, func(b *testing.B) {
			c, err := open(b.Context(), filepath.Join(b.TempDir(), "records.db"), address)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = c.KeepDelivering(ctx) }()
			for b.Loop() {
				if _, err := c.Create(ctx, request()); err != nil {
					b.Fatal(err)
				}
			}
			cancel()
			<-ended
			_ = c.Close()
		})
	}
}
