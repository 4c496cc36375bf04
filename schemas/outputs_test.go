package schemas_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/profiles"
)

// A world is a client on two machines in memory, of which one cannot be reached.
type world struct {
	client  *sandboxer.Client
	backend *extensiontest.Backend
	request sandboxer.CreateRequest
}

func newWorld(t testing.TB) *world {
	t.Helper()
	all, err := profiles.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].Extension = ""
	}
	w := &world{backend: extensiontest.NewBackend(
		sandboxer.Host{Name: "one", Address: "local:", Slots: 3, Price: &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 1}},
		sandboxer.Host{Name: "dead", Address: "ssh://dead"},
	)}
	w.backend.SetReachable("dead", false)
	fake := extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend, Judge: func(req sandboxer.ProvisionRequest) []sandboxer.Violation {
		if req.Inputs["profiles"] != "greedy" {
			return nil
		}
		return []sandboxer.Violation{{Rule: "PRIVILEGED", Path: "services.api.privileged", Service: "api", File: "compose.yaml", Line: 3, Message: "no", Hint: "leave it out"}}
	}})
	w.client, err = sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{fake}, Profiles: all, Store: sandboxer.NewMemoryStore()})
	if err != nil {
		t.Fatal(err)
	}
	w.request = sandboxer.CreateRequest{
		Profile: all[0].ID, Inputs: map[string]string{"repo": "."},
		Consumer: sandboxer.Consumer{Project: "demo", ActorType: sandboxer.ActorAgent, Actor: "me"},
	}
	return w
}

// valid fails the test unless v, as JSON, is what the schema describes.
func valid(t *testing.T, schema string, v any) {
	t.Helper()
	if err := compile(t, schema, "").Validate(instance(t, v)); err != nil {
		text, _ := json.MarshalIndent(v, "", "  ")
		t.Errorf("%v\n%s", err, text)
	}
}

// Whatever a client answers on the way of a sandbox validates.
func TestAnswersOfAClient(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	valid(t, "create-request", w.request)
	valid(t, "profile", w.client.Profiles()[0])
	valid(t, "profile-list", w.client.Profiles())
	valid(t, "host-status-list", w.client.Hosts(ctx))
	for _, h := range w.client.Hosts(ctx) {
		valid(t, "host-status", h)
	}

	plan := done(w.client.Plan(ctx, w.request, sandboxer.PlanOptions{Probe: true}))(t)
	valid(t, "plan", plan)
	greedy := w.request
	greedy.Inputs = map[string]string{"repo": ".", "profiles": "greedy"}
	plan = done(w.client.Plan(ctx, greedy, sandboxer.PlanOptions{}))(t)
	if len(plan.Admission.Violations) == 0 {
		t.Fatal("nothing was refused")
	}
	valid(t, "plan", plan)
	nowhere := w.request
	nowhere.Host = "nowhere"
	plan, err := w.client.Plan(ctx, nowhere, sandboxer.PlanOptions{})
	if !errors.Is(err, sandboxer.ErrNoRoute) {
		t.Fatal(err)
	}
	valid(t, "plan", plan)

	s := done(w.client.Create(ctx, w.request))(t)
	valid(t, "sandbox", s)
	valid(t, "sandbox", done(w.client.Inspect(ctx, s.ID))(t))
	report, _ := w.client.Reconcile(ctx, sandboxer.ReconcileOptions{}) // the dead host is an error beside the report
	valid(t, "report", report)
	valid(t, "sandbox", done(w.client.Recreate(ctx, s.ID))(t))
	valid(t, "sandbox", done(w.client.Destroy(ctx, s.ID))(t))
	events := done(w.client.Events(ctx, s.ID, 0))(t)
	for _, e := range events {
		valid(t, "event", e)
	}
	meter := sandboxer.MeterOf(events, sandboxer.Window{})
	valid(t, "meter", meter)
	valid(t, "meter-list", []sandboxer.Meter{meter})
	valid(t, "sandbox-list", done(w.client.List(ctx, sandboxer.Filter{}))(t))
	valid(t, "sandbox-list", done(w.client.List(ctx, sandboxer.Filter{Project: "nobody"}))(t))
	var infos []sandboxer.ExtensionInfo
	for _, ext := range w.client.Registry().All() {
		infos = append(infos, ext.Info())
	}
	valid(t, "extension-list", infos)
}

// A store that lost its records leaves orphans, and adopts them; what is
// adopted has gaps that no created sandbox has.
func TestAnswersAboutOrphans(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	s := done(w.client.Create(ctx, w.request))(t)
	amnesia, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: w.backend})}, Store: sandboxer.NewMemoryStore(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range []sandboxer.ReconcileOptions{{}, {Adopt: true}} {
		report, _ := amnesia.Reconcile(ctx, opts)
		if len(report.Orphans)+len(report.Adopted) != 1 || !slices.Contains(report.Unknown, "dead") {
			t.Fatalf("got %+v", report)
		}
		valid(t, "report", report)
	}
	valid(t, "sandbox", done(amnesia.Get(ctx, s.ID))(t))
}

func TestAnswersAboutFailure(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	fake := extensiontest.NewFake(extensiontest.FakeConfig{
		Backend: w.backend,
		Fault: extensiontest.Faults(
			extensiontest.FailAt("ready", "", &sandboxer.NotReadyError{Service: "api", State: "exited (3)", Log: "no\n"}),
			extensiontest.FailAt("teardown", "", &sandboxer.ResidueError{Residue: []sandboxer.Resource{{Kind: "network", ID: "n"}}}),
		),
	})
	client, err := sandboxer.New(sandboxer.Config{Extensions: []sandboxer.Extension{fake}, Profiles: w.client.Profiles(), Store: sandboxer.NewMemoryStore()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.Create(ctx, w.request)
	if err == nil || s.Failure == nil {
		t.Fatalf("got %+v, %v", s, err)
	}
	valid(t, "sandbox", s)
}

// done ends the test on an error.
func done[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Every field set, and none: both are what the schema describes.
func TestFullAndEmptyAnswers(t *testing.T) {
	for name, typ := range published() {
		if slices.Contains(inputs(), name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			full := reflect.New(typ)
			fill(t, full.Elem())
			valid(t, name, full.Interface())
			if typ.Kind() != reflect.Slice {
				valid(t, name, reflect.New(typ).Interface())
			}
		})
	}
}

// fill sets everything that JSON can carry.
func fill(t *testing.T, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)))
		return
	case json.RawMessage:
		v.SetBytes([]byte(`{"key":[1]}`))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(90 * time.Minute))
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
				fill(t, v.Field(i))
			}
		}
	default:
		t.Fatalf("cannot set a %v", v.Type())
	}
}
