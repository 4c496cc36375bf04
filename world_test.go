package sandboxer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// unexported ignores what does not survive a store.
var unexported = cmpopts.IgnoreUnexported(sandboxer.Candidate{})

// A world is the machines and the store that several clients share.
type world struct {
	t       *testing.T
	backend *extensiontest.Backend
	store   sandboxer.Store
}

func newWorld(t *testing.T, hosts ...sandboxer.Host) *world {
	t.Helper()
	return &world{t: t, backend: extensiontest.NewBackend(hosts...), store: obedientStore{sandboxer.NewMemoryStore()}}
}

// A process says how one client is built; zero fields are the world's own.
type process struct {
	fault    extensiontest.Fault
	judge    func(sandboxer.ProvisionRequest) []sandboxer.Violation
	wrap     func(*extensiontest.Fake) sandboxer.Extension
	store    sandboxer.Store
	secrets  sandboxer.SecretResolver
	sink     sandboxer.EventSink
	delivery sandboxer.Delivery
	tracer   sandboxer.Tracer
	log      *slog.Logger
	profiles []sandboxer.Profile
}

// client builds what a new process would: nothing but world and process is shared.
func (w *world) client(p process) *sandboxer.Client {
	w.t.Helper()
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend, Fault: p.fault, Judge: p.judge})
	var ext sandboxer.Extension = fake
	if p.wrap != nil {
		ext = p.wrap(fake)
	}
	if p.store == nil {
		p.store = w.store
	}
	if p.profiles == nil {
		p.profiles = []sandboxer.Profile{basicProfile()}
	}
	c, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{ext}, Profiles: p.profiles, Store: p.store, Secrets: p.secrets, Sink: p.sink, Delivery: p.delivery, Tracer: p.tracer, Logger: p.log})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// basicProfile lives an hour, at most four.
func basicProfile() sandboxer.Profile {
	return sandboxer.Profile{
		ID: "profile.basic", Isolation: sandboxer.IsolationContainer,
		TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(4 * time.Hour),
		Inputs: map[string]sandboxer.Input{"repo": {Required: true, Description: "the working tree"}, "ref": {Default: "main"}},
		Labels: map[string]string{"kind": "test"},
	}
}

func basicRequest() sandboxer.CreateRequest {
	return sandboxer.CreateRequest{
		Profile: "profile.basic", Inputs: map[string]string{"repo": "/src"},
		Consumer: sandboxer.Consumer{Project: "wise", ActorType: sandboxer.ActorAutomation, Actor: "ci"},
	}
}

// create makes a sandbox that has to come up.
func (w *world) create(c *sandboxer.Client) *sandboxer.Sandbox {
	w.t.Helper()
	s, err := c.Create(w.t.Context(), basicRequest())
	if err != nil {
		w.t.Fatalf("create: %v", err)
	}
	return s
}

// left names what the machines hold of a sandbox, or of all.
func (w *world) left(id string) []string {
	w.t.Helper()
	left, err := w.backend.Leftovers(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return left
}

// empty requires that the machines hold nothing.
func (w *world) empty() {
	w.t.Helper()
	if left := w.left(""); len(left) > 0 {
		w.t.Errorf("still on the backend: %s", strings.Join(left, ", "))
	}
}

// untouched requires that neither store nor machines hold anything.
func (w *world) untouched() {
	w.t.Helper()
	w.empty()
	records, err := w.store.List(context.Background(), sandboxer.Filter{})
	if err != nil || len(records) > 0 {
		w.t.Errorf("the store holds %d records (%v), want none", len(records), err)
	}
}

func (w *world) record(id string) *sandboxer.Record {
	w.t.Helper()
	r, err := w.store.Get(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// only is the id of the one sandbox that the store holds.
func (w *world) only() string {
	w.t.Helper()
	records, err := w.store.List(context.Background(), sandboxer.Filter{})
	if err != nil || len(records) != 1 {
		w.t.Fatalf("the store holds %d records (%v), want one", len(records), err)
	}
	return records[0].Sandbox.ID
}

// history reads the events of a sandbox, one line each, and requires that
// they are numbered without gaps and agree with each other and the record.
func (w *world) history(id string) string {
	w.t.Helper()
	events, err := w.store.Events(context.Background(), id, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	previous := sandboxer.State("")
	for i, e := range events {
		if e.Seq != int64(i+1) || e.ID != fmt.Sprintf("%s-%d", id, i+1) || e.SandboxID != id {
			w.t.Errorf("event %d is numbered %d and called %s", i+1, e.Seq, e.ID)
		}
		if e.From != previous {
			w.t.Errorf("event %d comes from %q, but the one before ended in %q", e.Seq, e.From, previous)
		}
		if e.From != "" && e.From != e.State && !e.From.CanTransition(e.State) {
			w.t.Errorf("event %d goes from %s to %s, which the table does not allow", e.Seq, e.From, e.State)
		}
		previous = e.State
		fmt.Fprintf(&b, "%d %s %s", e.Generation, e.State, e.Reason)
		if e.Host != "" {
			b.WriteString(" @" + e.Host)
		}
		b.WriteString("\n")
	}
	if r := w.record(id); r.Seq != int64(len(events)) || r.Sandbox.State != previous {
		w.t.Errorf("the record is %s at event %d; the events end with %s at %d", r.Sandbox.State, r.Seq, previous, len(events))
	}
	return b.String()
}

// wantHistory compares the events of a sandbox with "generation state reason @host" lines.
func (w *world) wantHistory(id string, lines ...string) {
	w.t.Helper()
	if diff := gocmp.Diff(strings.Join(lines, "\n")+"\n", w.history(id)); diff != "" {
		w.t.Errorf("events (-want +got):\n%s", diff)
	}
}

// wantError requires that err is an *Error of op which matches every sentinel given, and no other.
func wantError(t *testing.T, err error, op string, sentinels ...error) {
	t.Helper()
	e, ok := errors.AsType[*sandboxer.Error](err)
	if !ok {
		t.Fatalf("got error %v, want an *Error", err)
	}
	if e.Op != op {
		t.Errorf("%v: Op is %q, want %q", err, e.Op, op)
	}
	for name, sentinel := range allSentinels() {
		if got, want := errors.Is(err, sentinel), slices.Contains(sentinels, sentinel); got != want {
			t.Errorf("%v: matches %s is %v, want %v", err, name, got, want)
		}
	}
}

func allSentinels() map[string]error {
	return map[string]error{
		"ErrNotFound": sandboxer.ErrNotFound, "ErrExists": sandboxer.ErrExists, "ErrInvalid": sandboxer.ErrInvalid,
		"ErrAdmission": sandboxer.ErrAdmission, "ErrUnsupported": sandboxer.ErrUnsupported, "ErrState": sandboxer.ErrState,
		"ErrConflict": sandboxer.ErrConflict, "ErrLimit": sandboxer.ErrLimit, "ErrNoRoute": sandboxer.ErrNoRoute,
		"ErrUnavailable": sandboxer.ErrUnavailable, "ErrHostKey": sandboxer.ErrHostKey, "ErrAuth": sandboxer.ErrAuth,
		"ErrProvision": sandboxer.ErrProvision, "ErrReadyTimeout": sandboxer.ErrReadyTimeout, "ErrNotReady": sandboxer.ErrNotReady,
		"ErrResidue": sandboxer.ErrResidue,
	}
}

// wantState requires the stored state and reason.
func (w *world) wantState(id string, state sandboxer.State, reason sandboxer.Reason) {
	w.t.Helper()
	s := w.record(id).Sandbox
	if s.State != state || s.Reason != reason {
		w.t.Errorf("%s is %s (%s: %s), want %s (%s)", id, s.State, s.Reason, s.Message, state, reason)
	}
}

// An obedientStore hears the end of a context, as stores on a network do.
type obedientStore struct {
	sandboxer.Store
}

func (o obedientStore) Create(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return o.Store.Create(ctx, r, events...)
}

func (o obedientStore) Get(ctx context.Context, id string) (*sandboxer.Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return o.Store.Get(ctx, id)
}

func (o obedientStore) Update(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return o.Store.Update(ctx, r, events...)
}

func (o obedientStore) List(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return o.Store.List(ctx, f)
}

// A watchedStore calls before every write; what that returns is the store's answer.
type watchedStore struct {
	sandboxer.Store
	before func(r *sandboxer.Record) error
}

func (s watchedStore) Create(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if err := s.before(r); err != nil {
		return err
	}
	return s.Store.Create(ctx, r, events...)
}

func (s watchedStore) Update(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if err := s.before(r); err != nil {
		return err
	}
	return s.Store.Update(ctx, r, events...)
}

// calls counts the steps of fakes by operation.
type calls struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *calls) fault(_ context.Context, s extensiontest.Step) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = map[string]int{}
	}
	c.count[s.Op]++
	return nil
}

func (c *calls) ops() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.count))
}

func host(name string) sandboxer.Host { return sandboxer.Host{Name: name, Address: "fake://" + name} }

// ctxEndingAfter gives a context that ends with a cause of its own.
func ctxEndingAfter(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(t.Context(), d, errCallerLeft)
}

// A life is what is left of a process: so many steps, and then none.
type life struct {
	mu    sync.Mutex
	steps int
	dead  bool
}

var errDead = errors.New("this process is dead")

// step takes one step, if there is one left.
func (l *life) step() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.steps == 0 {
		l.dead = true
	}
	if l.dead {
		return errDead
	}
	l.steps--
	return nil
}

func (l *life) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead || l.steps == 0
}

// fault makes every step on a machine a step of l.
func (l *life) fault(context.Context, extensiontest.Step) error {
	if l.step() != nil {
		return extensiontest.ErrStopped
	}
	return nil
}

// A mortalStore is the store as a process sees it that dies after some writes:
// from then on nothing reaches it. What it wrote was claimed by a process that
// is gone, as others find it after a crash.
type mortalStore struct {
	sandboxer.Store
	*life
	process sandboxer.Process // that is gone; of this machine unless it says otherwise
}

// mortal gives a store to a process that dies after so many writes.
func (w *world) mortal(writes int) *mortalStore {
	return &mortalStore{w.store, &life{steps: writes}, deadProcess(w.t)}
}

func (m *mortalStore) Create(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if err := m.step(); err != nil {
		return err
	}
	return posthumous(r, m.process, func(r *sandboxer.Record) error { return m.Store.Create(ctx, r, events...) })
}

func (m *mortalStore) Update(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	if err := m.step(); err != nil {
		return err
	}
	return posthumous(r, m.process, func(r *sandboxer.Record) error { return m.Store.Update(ctx, r, events...) })
}

func (m *mortalStore) Get(ctx context.Context, id string) (*sandboxer.Record, error) {
	if m.over() {
		return nil, errDead
	}
	return m.Store.Get(ctx, id)
}

func (m *mortalStore) List(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
	if m.over() {
		return nil, errDead
	}
	return m.Store.List(ctx, f)
}

// posthumous writes r as claimed by a process that has ended.
func posthumous(r *sandboxer.Record, by sandboxer.Process, write func(*sandboxer.Record) error) error {
	written := *r
	if r.Operation != nil {
		op := *r.Operation
		by.Machine = cmp.Or(by.Machine, op.Process.Machine)
		op.Process = by
		written.Operation = &op
	}
	err := write(&written)
	r.Revision = written.Revision
	return err
}

// deadProcess is a process that has ended, of this machine.
func deadProcess(t *testing.T) sandboxer.Process {
	t.Helper()
	p, err := endedProcess()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// endedProcess starts a process once and waits for its end.
var endedProcess = sync.OnceValues(func() (sandboxer.Process, error) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		return sandboxer.Process{}, err
	}
	return sandboxer.Process{PID: cmd.ProcessState.Pid(), Start: 1}, nil
})
