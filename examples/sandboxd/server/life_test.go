package server_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

func TestALife(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	created := r.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"labels":{"ticket":"42"},"ttl":"10m","consumer":{"run":"r1"}}`).want(t, http.StatusCreated)
	s := created.sandbox(t)
	if s.State != sandboxer.StateReady || s.Consumer != (sandboxer.Consumer{Project: "local", ActorType: "adm", Actor: "tester", Run: "r1"}) || s.Labels["ticket"] != "42" || s.Inputs["repo"] != w.work {
		t.Errorf("created %+v", s)
	}
	at := created.header.Get("Location")
	if at != "/v1/sandboxes/"+s.ID {
		t.Errorf("Location %q", at)
	}
	got := r.get(at).want(t, http.StatusOK)
	if diff := cmp.Diff(created.body, got.body); diff != "" || got.header.Get("ETag") != created.header.Get("ETag") {
		t.Errorf("get differs from what create answered: %s", diff)
	}
	if o := r.get(at+"?observe=true").want(t, http.StatusOK).sandbox(t).Observed; o == nil || o.Presence != sandboxer.Present {
		t.Errorf("observed %+v", o)
	}
	if s := r.send("POST", at+"/activate", "").want(t, http.StatusOK).sandbox(t); s.State != sandboxer.StateActive {
		t.Errorf("activated, it is %s", s.State)
	}
	if s := r.send("POST", at+"/deactivate", "").want(t, http.StatusOK).sandbox(t); s.State != sandboxer.StateReady {
		t.Errorf("deactivated, it is %s", s.State)
	}
	if longer := r.send("POST", at+"/extend", `{"ttl":"2h"}`).want(t, http.StatusOK).sandbox(t); !longer.ExpiresAt.After(s.ExpiresAt) {
		t.Errorf("extended to %v", longer.ExpiresAt)
	}
	if s := r.send("POST", at+"/recreate", "", "If-Match", "*").want(t, http.StatusOK).sandbox(t); s.Generation != 2 || s.State != sandboxer.StateReady {
		t.Errorf("recreated, it is %s, generation %d", s.State, s.Generation)
	}
	for range 2 { // it may be repeated
		if s := r.send("DELETE", at, "").want(t, http.StatusOK).sandbox(t); s.State != sandboxer.StateDestroyed || s.Removal == nil || s.Removal.VerifiedAt.IsZero() {
			t.Errorf("destroyed, it is %s, %+v", s.State, s.Removal)
		}
	}
	w.nothingLeft(t, s.ID)
}

// Whatever goes wrong comes as a problem that says the same as the command line.
func TestRefusals(t *testing.T) {
	w := newWorld(t, sandboxer.Host{Name: "one", Address: "fake://one"}, sandboxer.Host{Name: "dead", Address: "fake://dead"})
	w.backend.SetReachable("dead", false)
	r := w.start(t, server.Config{})
	s := r.create()
	at := "/v1/sandboxes/" + s.ID
	const post, path = "POST", "/v1/sandboxes"
	for _, tt := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		code                       string
		class                      api.Class
		says                       string
	}{
		{"no JSON", post, path, `{`, nil, 400, "invalid", api.ClassUsage, "no JSON"},
		{"no UTF-8", post, path, "{\"profile\":\"\xff\"}", nil, 400, "invalid", api.ClassUsage, "no JSON"},
		{"nothing", post, path, "", []string{"Content-Type", "application/json"}, 400, "invalid", api.ClassUsage, "no JSON"},
		{"another type", post, path, "profile: x", []string{"Content-Type", "application/yaml"}, 415, "media_type", api.ClassUsage, "application/json"},
		{"compressed", post, path, body, []string{"Content-Encoding", "gzip"}, 415, "media_type", api.ClassUsage, "gzip"},
		{"too large", post, path, `{"profile":"` + strings.Repeat("x", 300<<10) + `"}`, nil, 413, "too_large", api.ClassUsage, "larger"},
		{"unknown key", post, path, `{"profile":"profile.compose-e2e","timeout":"1m"}`, nil, 422, "invalid", api.ClassUsage, "timeout"},
		{"a key of the library", post, path, `{"profile":"profile.compose-e2e","idempotency_key":"k"}`, nil, 422, "invalid", api.ClassUsage, "idempotency_key"},
		{"wrong type", post, path, `{"profile":7}`, nil, 422, "invalid", api.ClassUsage, "profile"},
		{"unknown profile", post, path, `{"profile":"profile.none"}`, nil, 404, "not_found", api.ClassNotFound, "profile.none"},
		{"unknown host", post, path, `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"host":"none"}`, nil, 404, "no_route", api.ClassNotFound, "none"},
		{"dead host", post, path, `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"host":"dead"}`, nil, 503, "no_route", api.ClassNoHost, "dead"},
		{"admission", post, path, `{"profile":"profile.compose-e2e","inputs":{"repo":".","profiles":"greedy"}}`, nil, 422, "admission", api.ClassRefused, "PRIVILEGED"},
		{"ttl too long", post, path, `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"ttl":"100h"}`, nil, 422, "limit", api.ClassRefused, "100h"},
		{"a tree outside", post, path, `{"profile":"profile.compose-e2e","inputs":{"repo":"../.."}}`, nil, 403, "forbidden", api.ClassRefused, "directory of workspaces"},
		{"an absolute tree outside", post, path, `{"profile":"profile.compose-e2e","inputs":{"repo":"/etc"}}`, nil, 403, "forbidden", api.ClassRefused, "directory of workspaces"},
		{"a key that is no text", post, path, body, []string{"Idempotency-Key", "é"}, 400, "invalid", api.ClassUsage, "Idempotency-Key"},
		{"a key too long", post, path, body, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, "invalid", api.ClassUsage, "Idempotency-Key"},
		{"no sandbox", "GET", path + "/aaaaaaaaaaaaaaaaaaaa", "", nil, 404, "not_found", api.ClassNotFound, "there is no sandbox"},
		{"method", "PUT", at, "", nil, 405, "method", api.ClassUsage, "DELETE, GET, HEAD"},
		{"path", "GET", "/v2", "", nil, 404, "not_found", api.ClassNotFound, "/openapi.json"},
		{"unknown parameter", "GET", path + "?colour=red", "", nil, 400, "invalid", api.ClassUsage, "colour"},
		{"twice", "GET", path + "?limit=1&limit=2", "", nil, 400, "invalid", api.ClassUsage, "2 times"},
		{"no number", "GET", path + "?limit=many", "", nil, 400, "invalid", api.ClassUsage, "limit"},
		{"no state", "GET", path + "?state=well", "", nil, 400, "invalid", api.ClassUsage, "state"},
		{"no label", "GET", path + "?label=x", "", nil, 400, "invalid", api.ClassUsage, "label"},
		{"no cursor", "GET", path + "?cursor=x", "", nil, 400, "invalid", api.ClassUsage, "cursor"},
		{"no query", "GET", path + "?%zz", "", nil, 400, "invalid", api.ClassUsage, "query"},
		{"no event", "GET", "/v1/events", "", []string{"Accept", "text/event-stream", "Last-Event-ID", "x"}, 400, "invalid", api.ClassUsage, "Last-Event-ID"},
		{"another's event", "GET", at + "/events", "", []string{"Accept", "text/event-stream", "Last-Event-ID", "aaaaaaaaaaaaaaaaaaaa-1"}, 400, "invalid", api.ClassUsage, "Last-Event-ID"},
		{"no meters", "GET", "/v1/usage?by=colour", "", nil, 400, "invalid", api.ClassUsage, "by"},
		{"no time", "GET", "/v1/usage?since=-1h", "", nil, 400, "invalid", api.ClassUsage, "since"},
		{"extend by nothing", post, at + "/extend", `{"ttl":"0s"}`, nil, 422, "invalid", api.ClassUsage, "ttl"},
		{"extend too far", post, at + "/extend", `{"ttl":"100h"}`, nil, 422, "limit", api.ClassRefused, "limit"},
		{"recreate of any state", post, at + "/recreate", "", nil, 428, "precondition_required", api.ClassUsage, "If-Match"},
		{"recreate of another state", post, at + "/recreate", "", []string{"If-Match", `"x", W/"y"`}, 412, "precondition", api.ClassConflict, "If-Match"},
		{"destroy of another state", "DELETE", at, "", []string{"If-Match", `"x"`}, 412, "precondition", api.ClassConflict, "If-Match"},
		{"activate of another state", post, at + "/activate", "", []string{"If-Match", `"x"`}, 412, "precondition", api.ClassConflict, "If-Match"},
		{"another's host name", "GET", at, "", []string{"Host", "evil.example:80"}, 403, "forbidden", api.ClassRefused, "evil.example"},
		{"another's page", "GET", at, "", []string{"Origin", "http://evil.example"}, 403, "forbidden", api.ClassRefused, "evil.example"},
		{"a form of another's page", post, path, body, []string{"Sec-Fetch-Site", "cross-site"}, 403, "forbidden", api.ClassRefused, "other sites"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := r.send(tt.method, tt.target, tt.body, tt.headers...).problem(t, tt.status, tt.code)
			if p.Class != tt.class || !strings.Contains(p.Detail, tt.says) {
				t.Errorf("class %s, want %s; detail %q, want %q", p.Class, tt.class, p.Detail, tt.says)
			}
		})
	}
	if n := len(w.recorded(t)); n != 1 {
		t.Errorf("refused requests left %d sandboxes", n-1)
	}
}

// A refusal by admission lists everything; one for lack of a host says why of each.
func TestWhatProblemsTell(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	p := r.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":".","profiles":"greedy"}}`).problem(t, 422, "admission")
	if len(p.Violations) != 1 || p.Violations[0].Hint != "leave it out" || p.Violations[0].Line != 3 {
		t.Errorf("violations %+v", p.Violations)
	}
	p = r.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"labels":{"A":"x"},"policy":"best","consumer":{"project":"?"}}`).problem(t, 422, "invalid")
	var names []string
	for _, f := range p.Fields {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"consumer.project", "policy", "labels.A"}, names); diff != "" {
		t.Errorf("fields: %s", diff)
	}
	w.backend.SetReachable("one", false)
	p = r.send("POST", "/v1/sandboxes", body).problem(t, 503, "no_route")
	if p.Route == nil || len(p.Route.Candidates) != 1 || p.Route.Candidates[0].Rejected == "" {
		t.Errorf("route %+v", p.Route)
	}
	p = r.send("POST", "/v1/plan?probe=true", body).problem(t, 503, "no_route")
	if p.Plan == nil || p.Plan.Admission.Verdict != sandboxer.Allow || len(p.Plan.Route.Candidates) != 1 {
		t.Errorf("plan %+v", p.Plan)
	}
}

// What fails on the host leaves nothing there, and the problem shows the sandbox.
func TestACreateThatFails(t *testing.T) {
	w := newWorld(t)
	w.fault = extensiontest.FailAt("provision", "container", &sandboxer.StageError{Stage: "build", ExitCode: 1, Message: "no such file", Log: "step 3\n"})
	r := w.start(t, server.Config{})
	p := r.send("POST", "/v1/sandboxes", body).problem(t, http.StatusFailedDependency, "provision")
	if p.Stage != "build" || p.Log != "step 3\n" || p.Sandbox == nil || p.Sandbox.State != sandboxer.StateDestroyed || p.Sandbox.Failure == nil || p.Class != api.ClassFailed {
		t.Errorf("problem %+v", p)
	}
	w.nothingLeft(t, "")
}

// Conditions are true at the very change: of two that saw the same state one wins.
func TestETagsDecide(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	s := r.create()
	at := "/v1/sandboxes/" + s.ID
	tag := r.get(at).header.Get("ETag")
	r.get(at, "If-None-Match", tag).want(t, http.StatusNotModified)
	r.get(at, "If-None-Match", `"x"`).want(t, http.StatusOK)
	const racers = 8
	statuses := make(chan int, racers)
	for range racers {
		go func() {
			a, err := r.try(r.request(t.Context(), "POST", at+"/recreate", "", "If-Match", tag))
			if err != nil {
				t.Error(err)
			}
			statuses <- a.status
		}()
	}
	count := map[int]int{}
	for range racers {
		count[<-statuses]++
	}
	if count[200] != 1 || count[200]+count[412]+count[409] != racers {
		t.Errorf("statuses %v, want one 200 and 412 or 409 for the rest", count)
	}
	if s := r.get(at).sandbox(t); s.Generation != 2 {
		t.Errorf("generation %d after one recreate", s.Generation)
	}
	r.get(at, "If-None-Match", tag).want(t, http.StatusOK)
}

// An extend of another state than the client means does not reach the host.
func TestAnExtendThatIsRefusedMovesNoLease(t *testing.T) {
	w := newWorld(t)
	var renewed atomic.Int64
	w.fault = func(_ context.Context, s extensiontest.Step) error {
		if s.Op == "renew" {
			renewed.Add(1)
		}
		return nil
	}
	r := w.start(t, server.Config{})
	at := "/v1/sandboxes/" + r.create().ID
	tag := r.get(at).header.Get("ETag")
	r.send("POST", at+"/activate", "").want(t, 200)
	r.send("POST", at+"/extend", `{"ttl":"2h"}`, "If-Match", tag).problem(t, 412, "precondition")
	if n := renewed.Load(); n > 0 {
		t.Errorf("the lease was moved %d times", n)
	}
	r.send("POST", at+"/extend", `{"ttl":"2h"}`, "If-Match", r.get(at).header.Get("ETag")).want(t, 200)
	if n := renewed.Load(); n != 1 {
		t.Errorf("the lease was moved %d times, want once", n)
	}
}

func TestTheSameKeyGivesTheSameSandbox(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	s := r.create("Idempotency-Key", "k1")
	again := r.send("POST", "/v1/sandboxes", body, "Idempotency-Key", "k1").want(t, http.StatusOK)
	if again.sandbox(t).ID != s.ID || again.header.Get("Location") != "/v1/sandboxes/"+s.ID {
		t.Errorf("another sandbox")
	}
	r.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"."},"ttl":"5m"}`, "Idempotency-Key", "k1").problem(t, 409, "conflict")
	if other := r.create("Idempotency-Key", "k2"); other.ID == s.ID {
		t.Error("another key gives the same sandbox")
	}
}

// Whoever does not want to wait is told where the sandbox is, and the work goes on.
func TestPreferences(t *testing.T) {
	for _, tt := range []struct{ prefer, applied string }{
		{"respond-async", "respond-async"}, {"wait=0", "wait=0"}, {"respond-async, wait=0", "respond-async, wait=0"}, {`foo="bar", respond-async`, "respond-async"},
	} {
		t.Run(tt.prefer, func(t *testing.T) {
			w, g := newWorld(t), newGate()
			w.fault = g.at("provision", "network")
			r := w.start(t, server.Config{})
			a := r.send("POST", "/v1/sandboxes", body, "Prefer", tt.prefer).want(t, http.StatusAccepted)
			s := a.sandbox(t)
			if s.State != sandboxer.StateRequested && s.State != sandboxer.StateProvisioning {
				t.Errorf("it is %s", s.State)
			}
			if a.header.Get("Location") != "/v1/sandboxes/"+s.ID || a.header.Get("Preference-Applied") != tt.applied {
				t.Errorf("headers %v", a.header)
			}
			g.open()
			until(t, "ready", func() bool { return r.get("/v1/sandboxes/"+s.ID).sandbox(t).State == sandboxer.StateReady })
		})
	}
	t.Run("a refusal is told at once", func(t *testing.T) {
		r := newWorld(t).start(t, server.Config{})
		r.send("POST", "/v1/sandboxes", `{"profile":"profile.none"}`, "Prefer", "respond-async").problem(t, 404, "not_found")
	})
	t.Run("destroy", func(t *testing.T) {
		w, g := newWorld(t), newGate()
		w.fault = g.at("teardown", "look")
		r := w.start(t, server.Config{})
		s := r.create()
		a := r.send("DELETE", "/v1/sandboxes/"+s.ID, "", "Prefer", "respond-async").want(t, http.StatusAccepted)
		if got := a.sandbox(t); got.State != sandboxer.StateDestroying {
			t.Errorf("it is %s", got.State)
		}
		g.open()
		until(t, "destroyed", func() bool { return r.get("/v1/sandboxes/"+s.ID).sandbox(t).State == sandboxer.StateDestroyed })
	})
}

// leaving sends a create and leaves once it has begun to provision.
func leaving(t *testing.T, r *rig, g *gate, headers ...string) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := r.try(r.request(ctx, "POST", "/v1/sandboxes", body, headers...))
		left <- err
	}()
	<-g.reached
	leave()
	if err := <-left; err == nil {
		t.Fatal("the create was answered")
	}
}

// A client that leaves and could not find its sandbox again leaves nothing behind.
func TestAClientThatLeavesWithoutAKey(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("provision", "container")
	r := w.start(t, server.Config{})
	leaving(t, r, g)
	until(t, "its end", func() bool {
		all := w.recorded(t)
		return len(all) == 1 && all[0].State == sandboxer.StateDestroyed
	})
	if s := w.recorded(t)[0]; s.Failure == nil || s.Failure.Reason != sandboxer.ReasonCanceled {
		t.Errorf("failure %+v", s.Failure)
	}
	w.nothingLeft(t, "")
}

// At whatever moment it leaves, also when all is done and only the answer is
// missing.
func TestAClientThatLeavesAtAnyMoment(t *testing.T) {
	for _, at := range []string{"probe ", "provision record", "provision network", "provision volume", "provision container", "ready ", "its record"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			client, leave := context.WithCancel(t.Context())
			moment := func(ctx context.Context, name string) {
				if name == at {
					leave()
					<-ctx.Done() // the server noticed, and the work goes on
				}
			}
			w.fault = func(ctx context.Context, s extensiontest.Step) error {
				moment(ctx, s.Op+" "+s.Stage)
				return nil
			}
			w.store = lateStore{w.store, func(ctx context.Context) { moment(ctx, "its record") }}
			r := w.start(t, server.Config{})
			if _, err := r.try(r.request(client, "POST", "/v1/sandboxes", body)); err == nil {
				t.Fatal("the create was answered")
			}
			until(t, "its end", func() bool {
				all := w.recorded(t)
				return len(all) == 0 && at == "probe " || len(all) == 1 && all[0].State == sandboxer.StateDestroyed
			})
			r.stop()
			w.nothingLeft(t, "")
			for _, s := range w.recorded(t) {
				if s.State != sandboxer.StateDestroyed {
					t.Errorf("it is %s", s.State)
				}
			}
		})
	}
}

// A lateStore calls a function when a sandbox became ready, before whoever
// wrote that learns that it is written.
type lateStore struct {
	sandboxer.Store
	ready func(context.Context)
}

func (s lateStore) Update(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	err := s.Store.Update(ctx, r, events...)
	if err == nil && r.Sandbox.State == sandboxer.StateReady {
		s.ready(ctx)
	}
	return err
}

// With a key the work goes on, and the key leads back to it.
func TestAClientThatLeavesWithAKey(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("provision", "container")
	r := w.start(t, server.Config{})
	leaving(t, r, g, "Idempotency-Key", "k")
	// while the first is at work a second joins
	joined := r.send("POST", "/v1/sandboxes", body, "Idempotency-Key", "k", "Prefer", "respond-async").want(t, http.StatusAccepted).sandbox(t)
	g.open()
	s := r.send("POST", "/v1/sandboxes", body, "Idempotency-Key", "k").want(t, http.StatusOK).sandbox(t)
	if s.ID != joined.ID || s.State != sandboxer.StateReady || len(w.recorded(t)) != 1 {
		t.Errorf("joined %s, then %s, which is %s", joined.ID, s.ID, s.State)
	}
}

// A destroy goes on, whoever listens.
func TestAClientThatLeavesADestroy(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("teardown", "container")
	r := w.start(t, server.Config{})
	s := r.create()
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-g.reached; leave() }()
	if _, err := r.try(r.request(ctx, "DELETE", "/v1/sandboxes/"+s.ID, "")); err == nil {
		t.Fatal("the destroy was answered")
	}
	g.open()
	until(t, "destroyed", func() bool { return r.get("/v1/sandboxes/"+s.ID).sandbox(t).State == sandboxer.StateDestroyed })
	w.nothingLeft(t, "")
}

// A server that is told to stop finishes what it began, also for those who wait.
func TestStoppingFinishesACreate(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("provision", "container")
	r := w.start(t, server.Config{})
	answered := make(chan answer, 1)
	go func() {
		a, err := r.try(r.request(t.Context(), "POST", "/v1/sandboxes", body))
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	<-g.reached
	time.AfterFunc(100*time.Millisecond, g.open)
	r.stop()
	if s := (<-answered).want(t, http.StatusCreated).sandbox(t); s.State != sandboxer.StateReady {
		t.Errorf("it is %s", s.State)
	}
	// the next server has it
	if all := decode[api.SandboxPage](t, w.start(t, server.Config{}).get("/v1/sandboxes")).Sandboxes; len(all) != 1 || all[0].State != sandboxer.StateReady {
		t.Errorf("afterwards %+v", all)
	}
}

// What does not finish within the drain is removed, not abandoned.
func TestStoppingEndsACreateThatHangs(t *testing.T) {
	w := newWorld(t)
	w.fault = extensiontest.HangAt("provision", "container")
	r := w.start(t, server.Config{Drain: 50 * time.Millisecond})
	s := r.send("POST", "/v1/sandboxes", body, "Prefer", "respond-async").want(t, http.StatusAccepted).sandbox(t)
	r.stop()
	if all := w.recorded(t); len(all) != 1 || all[0].ID != s.ID || all[0].State != sandboxer.StateDestroyed {
		t.Errorf("afterwards %+v", all)
	}
	w.nothingLeft(t, "")
}
