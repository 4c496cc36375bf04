package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
)

// wholeLife is what the stream of one sandbox tells.
var wholeLife = []string{"1 requested", "2 provisioning", "3 ready", "4 destroying", "5 destroyed"}

func TestStreamOfOne(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("provision", "network")
	r := w.start(t, server.Config{})
	s := r.send("POST", "/v1/sandboxes", body, "Prefer", "respond-async").want(t, http.StatusAccepted).sandbox(t)
	target := "/v1/sandboxes/" + s.ID + "/events"
	messages, _ := r.follow(target)
	<-g.reached
	g.open()
	until(t, "ready", func() bool { return r.get("/v1/sandboxes/"+s.ID).sandbox(t).State == sandboxer.StateReady })
	r.send("DELETE", "/v1/sandboxes/"+s.ID, "").want(t, http.StatusOK)
	if diff := cmp.Diff(wholeLife, states(t, messages)); diff != "" {
		t.Errorf("the stream: %s", diff)
	}
	// where a stream ended, another goes on: nothing is missing and nothing comes twice
	for after := range 5 {
		again, _ := r.follow(target, "Last-Event-ID", fmt.Sprintf("%s-%d", s.ID, after))
		if diff := cmp.Diff(wholeLife[after:], states(t, again)); diff != "" {
			t.Errorf("after %d: %s", after, diff)
		}
	}
	// nothing can follow, which tells a browser to stay away
	r.get(target, "Accept", "text/event-stream", "Last-Event-ID", s.ID+"-5").want(t, http.StatusNoContent)
}

// A stream takes the time to begin with, and says that it has no pages.
func TestParametersOfStreams(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	s := r.create()
	at := "/v1/sandboxes/" + s.ID
	time.Sleep(2 * time.Millisecond) // times are told in microseconds
	since := time.Now().UTC()
	later, _ := r.follow(at + "/events?since=" + since.Format(time.RFC3339Nano))
	r.send("POST", at+"/activate", "").want(t, 200)
	again, _ := r.follow(at + "/events?since=" + since.Format(time.RFC3339Nano))
	all, _ := r.follow(at + "/events?since=1h")
	r.send("DELETE", at, "").want(t, 200)
	rest := []string{"4 active", "5 destroying", "6 destroyed"}
	for name, messages := range map[string]<-chan message{"before it": later, "after it": again} {
		if diff := cmp.Diff(rest, states(t, messages)); diff != "" {
			t.Errorf("opened %s: %s", name, diff)
		}
	}
	if diff := cmp.Diff(append([]string{"1 requested", "2 provisioning", "3 ready"}, rest...), states(t, all)); diff != "" {
		t.Errorf("since an hour: %s", diff)
	}
	const stream = "text/event-stream"
	r.get(at+"/events?since="+time.Now().UTC().Format(time.RFC3339Nano), "Accept", stream).want(t, http.StatusNoContent)
	for _, target := range []string{at + "/events?limit=5", at + "/events?cursor=", "/v1/events?limit=5", "/v1/events?cursor=x"} {
		if p := r.get(target, "Accept", stream).problem(t, 400, "invalid"); !strings.Contains(p.Detail, "a stream has none") {
			t.Errorf("%s: %s", target, p.Detail)
		}
	}
}

// A pastless store has a past that is too long to be read at once.
type pastless struct {
	*sandboxer.MemoryStore
	t testing.TB
}

func (p pastless) Events(ctx context.Context, id string, after int64) ([]sandboxer.Event, error) {
	if id == "" {
		p.t.Error("all events of all time are read")
	}
	return p.MemoryStore.Events(ctx, id, after)
}

// An unpaged store cannot read events in parts.
type unpaged struct{ sandboxer.Store }

// A long past is told whole and in order, in pages and as a stream; a store
// that can read it in parts is asked for no more.
func TestALongPast(t *testing.T) {
	const sandboxes, each = 3, 420 // more than two parts of a stream
	for name, wrap := range map[string]func(*sandboxer.MemoryStore) sandboxer.Store{
		"in parts": func(m *sandboxer.MemoryStore) sandboxer.Store { return pastless{m, t} },
		"at once":  func(m *sandboxer.MemoryStore) sandboxer.Store { return unpaged{m} },
	} {
		t.Run(name, func(t *testing.T) {
			w, memory := newWorld(t), sandboxer.NewMemoryStore()
			w.store = wrap(memory)
			began := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
			var want []string
			for n := range sandboxes {
				r := &sandboxer.Record{Sandbox: sandboxer.Sandbox{ID: fmt.Sprintf("past%016d", n), State: sandboxer.StateDestroyed}, Seq: each}
				var events []sandboxer.Event
				for seq := range each {
					events = append(events, sandboxer.Event{ID: fmt.Sprintf("%s-%d", r.Sandbox.ID, seq+1), Seq: int64(seq + 1), SandboxID: r.Sandbox.ID, Time: began.Add(time.Duration(seq) * time.Millisecond)})
				}
				if err := memory.Create(t.Context(), r, events...); err != nil {
					t.Fatal(err)
				}
			}
			for seq := range each {
				for n := range sandboxes {
					want = append(want, fmt.Sprintf("past%016d-%d", n, seq+1))
				}
			}
			r := w.start(t, server.Config{})
			messages, leave := r.follow("/v1/events")
			var got []string
			for range want {
				e, _ := next(t, messages)
				got = append(got, e.ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the stream: %s", diff)
			}
			s := r.create() // what happens now follows
			if e, _ := next(t, messages); e.SandboxID != s.ID || e.Seq != 1 {
				t.Errorf("next comes %+v", e)
			}
			leave()
			messages, leave = r.follow("/v1/events", "Last-Event-ID", want[len(want)-1])
			for range sandboxes * each { // all of it lies within what may come again
				if e, _ := next(t, messages); e.SandboxID == s.ID {
					break
				} else if e.ID == want[len(want)-1] {
					t.Errorf("%s comes again", e.ID)
				}
			}
			leave()
			got = nil
			for cursor := ""; ; {
				page := decode[api.EventPage](t, r.get("/v1/events?limit=500&cursor="+cursor).want(t, 200))
				for _, e := range page.Events {
					got = append(got, e.ID)
				}
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
				t.Errorf("the pages: %s", diff)
			}
			r.get("/v1/usage").want(t, 200)
		})
	}
}

// Of a sandbox that was there before a stream begins, the stream tells what
// comes, and not what was.
func TestAStreamBeginsAtItsTime(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	s := r.create()
	time.Sleep(2 * time.Millisecond)
	messages, _ := r.follow("/v1/events?since=" + time.Now().UTC().Format(time.RFC3339Nano))
	r.send("POST", "/v1/sandboxes/"+s.ID+"/activate", "").want(t, 200)
	if e, _ := next(t, messages); e.SandboxID != s.ID || e.Seq != 4 {
		t.Errorf("it begins with %+v", e)
	}
	other := r.create()
	if e, _ := next(t, messages); e.SandboxID != other.ID || e.Seq != 1 {
		t.Errorf("next comes %+v", e)
	}
}

// While a client is away things happen; it misses none of them.
func TestResumeAfterAnInterruption(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	s := r.create()
	messages, leave := r.follow("/v1/events")
	var last string
	seen := map[string]bool{}
	for range 3 {
		e, _ := next(t, messages)
		last, seen[e.ID] = e.ID, true
	}
	leave()
	at := "/v1/sandboxes/" + s.ID
	r.send("POST", at+"/activate", "").want(t, 200)
	other := r.create()
	r.stop()
	r = w.start(t, server.Config{}) // the server was restarted, too
	messages, leave = r.follow("/v1/events", "Last-Event-ID", last)
	r.send("DELETE", at, "").want(t, 200)
	r.send("DELETE", "/v1/sandboxes/"+other.ID, "").want(t, 200)
	for ended := 0; ended < 2; {
		e, ok := next(t, messages)
		if !ok || seen[e.ID] {
			t.Fatalf("%s comes twice; the stream goes on: %v", e.ID, ok)
		}
		if seen[e.ID] = true; e.State.Terminal() {
			ended++
		}
	}
	leave()
	for _, id := range []string{s.ID, other.ID} {
		n := len(decode[api.EventPage](t, r.get("/v1/sandboxes/"+id+"/events")).Events)
		for seq := range n {
			if !seen[fmt.Sprintf("%s-%d", id, seq+1)] {
				t.Errorf("event %d of %s is missing", seq+1, id)
			}
		}
	}
}

// Progress comes in between, and has no id: it is not told again.
func TestStreamsTellProgress(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("provision", "")
	r := w.start(t, server.Config{})
	s := r.send("POST", "/v1/sandboxes", body, "Prefer", "respond-async").want(t, http.StatusAccepted).sandbox(t)
	messages, _ := r.follow("/v1/sandboxes/" + s.ID + "/events")
	if e, _ := next(t, messages); e.Seq != 1 {
		t.Fatalf("first %+v", e)
	}
	g.open()
	for m := range messages {
		if m.name != "progress" {
			continue
		}
		var report api.Report
		if err := json.Unmarshal([]byte(m.data), &report); err != nil || m.id != "" || report.SandboxID != s.ID || report.Stage == "" {
			t.Errorf("%+v, %v", m, err)
		}
		if err := r.contract.valid("#/components/schemas/Report", []byte(m.data), "GET"); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("no progress was told")
}

// What another process does with the same store is seen, too.
func TestStreamsSeeOtherProcesses(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	messages, _ := r.follow("/v1/events")
	other, err := sandboxer.New(w.library(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := other.Create(t.Context(), sandboxer.CreateRequest{Profile: "profile.compose-e2e", Inputs: map[string]string{"repo": "."}, Consumer: sandboxer.Consumer{Project: "p", ActorType: "agt", Actor: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := next(t, messages); e.SandboxID != s.ID || e.Seq != 1 {
		t.Errorf("first %+v", e)
	}
}

// Streams end when the server does, so that it can.
func TestStoppingEndsStreams(t *testing.T) {
	r := newWorld(t).start(t, server.Config{})
	messages, _ := r.follow("/v1/events")
	r.stop()
	if _, open := <-messages; open {
		t.Error("the stream goes on")
	}
}

// Pages follow each other without gap or repetition, whatever their size.
func TestPages(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 3 { // of one moment
		s := sandboxer.Sandbox{ID: fmt.Sprintf("twin%016d", i), State: sandboxer.StateFailed, CreatedAt: time.Unix(1e9, 0).UTC(), ExpiresAt: time.Now().Add(time.Hour)}
		want = append(want, s.ID)
		if err := w.store.Create(t.Context(), &sandboxer.Record{Sandbox: s}); err != nil {
			t.Fatal(err)
		}
	}
	r := w.start(t, server.Config{})
	const n = 7
	for len(want) < n {
		want = append(want, r.create().ID)
	}
	for limit := 1; limit <= n+1; limit++ {
		var got []string
		target := fmt.Sprintf("/v1/sandboxes?limit=%d", limit)
		for next := target; next != ""; {
			a := r.get(next).want(t, 200)
			page := decode[api.SandboxPage](t, a)
			for _, s := range page.Sandboxes {
				got = append(got, s.ID)
			}
			link := a.header.Get("Link")
			if (page.Next == "") != (link == "") {
				t.Fatalf("next %q, Link %q", page.Next, link)
			}
			next, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
	for _, target := range []string{"/v1/events?limit=4", "/v1/sandboxes/" + want[n-1] + "/events?limit=1"} {
		whole := decode[api.EventPage](t, r.get(strings.Split(target, "?")[0])).Events
		var parts []sandboxer.Event
		for cursor := ""; ; {
			page := decode[api.EventPage](t, r.get(target+"&cursor="+cursor).want(t, 200))
			parts = append(parts, page.Events...)
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if diff := cmp.Diff(whole, parts); diff != "" {
			t.Errorf("%s: %s", target, diff)
		}
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t, sandboxer.Host{Name: "one", Address: "fake://one"}, sandboxer.Host{Name: "two", Address: "fake://two"})
	r := w.start(t, server.Config{})
	post := func(more string) string {
		return r.send("POST", "/v1/sandboxes", `{"profile":"profile.compose-e2e","inputs":{"repo":"."}`+more+`}`).want(t, 201).sandbox(t).ID
	}
	names := map[string]string{
		post(`,"host":"one","labels":{"a":"1","b":"2"}`):                       "labelled",
		post(`,"host":"two","consumer":{"project":"shop","actor_type":"agt"}`): "agent's",
		post(`,"host":"one","labels":{"a":"1"},"consumer":{"project":"shop"}`): "shop's",
		post(`,"host":"one","consumer":{"project":"gone","actor_type":"atm"}`): "gone",
	}
	for id, name := range names {
		if name == "gone" {
			r.send("DELETE", "/v1/sandboxes/"+id, "").want(t, 200)
		}
	}
	for query, want := range map[string]string{
		"":                         "labelled agent's shop's",
		"all=true":                 "labelled agent's shop's gone",
		"state=destroyed":          "gone",
		"state=ready&state=active": "labelled agent's shop's",
		"project=shop":             "agent's shop's",
		"actor_type=agt":           "agent's",
		"host=two":                 "agent's",
		"profile=profile.none":     "",
		"label=a%3D1":              "labelled shop's",
		"label=a%3D1&label=b%3D2":  "labelled",
	} {
		var got []string
		for _, s := range decode[api.SandboxPage](t, r.get("/v1/sandboxes?"+query).want(t, 200)).Sandboxes {
			got = append(got, names[s.ID])
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
}

func TestHostsProfilesAndMetrics(t *testing.T) {
	w := newWorld(t, sandboxer.Host{Name: "one", Address: "fake://one", Slots: 3}, sandboxer.Host{Name: "free", Address: "fake://free"}, sandboxer.Host{Name: "dead", Address: "fake://dead", Slots: 1})
	w.backend.SetReachable("dead", false)
	r := w.start(t, server.Config{})
	r.create()
	var got []string
	for _, h := range decode[api.HostList](t, r.get("/v1/hosts").want(t, 200)).Hosts {
		free := "unknown"
		if h.FreeSlots != nil {
			free = fmt.Sprint(*h.FreeSlots)
		}
		got = append(got, fmt.Sprintf("%s %v %s", h.Host.Name, h.Available, free))
	}
	if diff := cmp.Diff([]string{"one true 2", "free true unknown", "dead false unknown"}, got); diff != "" {
		t.Errorf("hosts: %s", diff)
	}
	if all := decode[api.ProfileList](t, r.get("/v1/profiles").want(t, 200)).Profiles; len(all) != 1 || all[0].ID != "profile.compose-e2e" {
		t.Errorf("profiles %+v", all)
	}
	numbers := r.get("/metrics").want(t, 200).body
	for _, line := range []string{
		`sandboxd_sandboxes{state="ready"} 1`, `sandboxd_work_in_progress{kind="create"} 0`, `sandboxd_requests_total{operation="createSandbox",status="201"} 1`,
		`sandboxd_work_seconds_count{kind="create",outcome="done"} 1`, `sandboxd_request_seconds_bucket{operation="listHosts",le="+Inf"} 1`,
	} {
		if !strings.Contains(numbers, line+"\n") {
			t.Errorf("metrics lack %s:\n%s", line, numbers)
		}
	}
	r.get("/healthz").want(t, 200)
	r.send("HEAD", "/v1/hosts", "").want(t, 200)
}
