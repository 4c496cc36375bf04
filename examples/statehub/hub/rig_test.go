package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// A rig is a hub of the test's own, and how a test speaks to it.
type rig struct {
	t    testing.TB
	path string
	hub  *hub.Hub
}

func newRig(t testing.TB, opts hub.Options) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "hub.db")}
	r.open(opts)
	return r
}

func (r *rig) open(opts hub.Options) {
	r.t.Helper()
	h, err := hub.Open(r.t.Context(), r.path, opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.hub = h
	r.t.Cleanup(func() {
		if r.hub == h {
			r.close()
		}
	})
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.hub.Close(); err != nil {
		r.t.Error(err)
	}
	r.hub = nil
}

// An answer is what the hub said.
type answer struct {
	status int
	header http.Header
	body   string
}

// send makes one request; headers are pairs of names and values.
func (r *rig) send(method, target, body string, headers ...string) answer {
	r.t.Helper()
	req := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	r.hub.ServeHTTP(rec, req)
	text, err := io.ReadAll(rec.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{rec.Code, rec.Result().Header, string(text)}
}

const (
	jsonType  = "application/json"
	cloudType = "application/cloudevents+json"
)

func (r *rig) get(target string) answer { r.t.Helper(); return r.send("GET", target, "") }

func (r *rig) post(e sandboxer.Event) answer {
	r.t.Helper()
	return r.send("POST", "/v1/events", encode(r.t, cloudEvent(e)), "Content-Type", cloudType)
}

func (r *rig) postProgress(e sandboxer.Event) answer {
	r.t.Helper()
	return r.send("POST", "/progress", encode(r.t, progress(e)), "Content-Type", jsonType)
}

// must fails the test unless the hub took the events.
func (r *rig) must(events ...sandboxer.Event) {
	r.t.Helper()
	for _, e := range events {
		if a := r.post(e); a.status != http.StatusAccepted {
			r.t.Fatalf("event %s: %d %s", e.ID, a.status, a.body)
		}
	}
}

func encode(t testing.TB, v any) string {
	t.Helper()
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func decode[T any](t testing.TB, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// fields are a JSON object that a test may spoil.
type fields map[string]any

func (f fields) with(name string, value any) fields {
	changed := fields{}
	for k, v := range f {
		changed[k] = v
	}
	if changed[name] = value; value == nil {
		delete(changed, name)
	}
	return changed
}

func cloudEvent(e sandboxer.Event) fields {
	return fields{
		"specversion": "1.0", "id": e.ID, "source": "urn:sandboxer:test", "type": "dev.sandboxer.sandbox." + string(e.State),
		"subject": e.SandboxID, "time": e.Time, "datacontenttype": "application/json", "data": e,
	}
}

func progress(e sandboxer.Event) fields {
	return fields{
		"event_id": e.ID, "event_type": "sandbox." + string(e.Reason), "summary": "sandbox is " + string(e.State), "timestamp": e.Time,
		"sandbox_id": e.SandboxID, "profile_id": e.Profile, "extension_id": e.Extension, "host": e.Host,
		"consumer": e.Consumer, "actor_type": e.Consumer.ActorType, "state": e.State, "reason": e.Reason, "anything": 1, "detail": e,
	}
}

func registrationOf(e sandboxer.Event) fields {
	return fields{
		"sandbox_id": e.SandboxID, "generation": e.Generation, "state": e.State, "reason": e.Reason, "profile_id": e.Profile,
		"extension_id": e.Extension, "host": e.Host, "consumer": e.Consumer, "actor_type": e.Consumer.ActorType,
		"created_at": e.CreatedAt, "expires_at": e.ExpiresAt, "seq": e.Seq, "event_id": e.ID, "updated_at": e.Time,
	}
}

// A life makes the events of one sandbox, each some time after the one before.
type life struct {
	next sandboxer.Event
	made []sandboxer.Event
}

func newLife(id string, began time.Time) *life {
	began = began.UTC().Truncate(time.Microsecond)
	return &life{next: sandboxer.Event{
		Time: began, SandboxID: id, Generation: 1, Profile: "profile.compose-e2e", Extension: "ext.compose-ssh",
		Consumer:  sandboxer.Consumer{Project: "shop", ActorType: sandboxer.ActorAgent, Actor: "builder", Run: "r1"},
		CreatedAt: began, ExpiresAt: began.Add(2 * time.Hour),
	}}
}

// by gives it another consumer and host.
func (l *life) by(project, actor, host string) *life {
	l.next.Consumer.Project, l.next.Consumer.Actor, l.next.Host = project, actor, host
	return l
}

// to adds the next event.
func (l *life) to(after time.Duration, state sandboxer.State, reason sandboxer.Reason, message string) *life {
	e := l.next
	e.Seq++
	e.ID = fmt.Sprintf("%s-%d", e.SandboxID, e.Seq)
	e.From, e.State, e.Reason, e.Message = l.next.State, state, reason, message
	e.Time = e.Time.Add(after)
	l.next = e
	l.made = append(l.made, e)
	return l
}

// up brings it to ready.
func (l *life) up(build time.Duration) *life {
	return l.to(0, sandboxer.StateRequested, sandboxer.ReasonRequested, "").
		to(200*time.Millisecond, sandboxer.StateProvisioning, sandboxer.ReasonRouted, "sandboxer01 is the first that is preferred").
		to(build, sandboxer.StateReady, sandboxer.ReasonReady, "")
}

// down ends it.
func (l *life) down(after time.Duration, reason sandboxer.Reason) *life {
	return l.to(after, sandboxer.StateDestroying, reason, "").
		to(3*time.Second, sandboxer.StateDestroyed, sandboxer.ReasonVerified, "")
}

// idOf is a valid id that is told apart by a number.
func idOf(n int) string { return fmt.Sprintf("sandbox%013d", n) }

// A view is what the tests look at of a sandbox as the hub tells of it.
type view struct {
	ID           string             `json:"sandbox_id"`
	Generation   int                `json:"generation"`
	State        sandboxer.State    `json:"state"`
	StateSince   time.Time          `json:"state_since"`
	Reason       sandboxer.Reason   `json:"reason"`
	Host         string             `json:"host"`
	Consumer     sandboxer.Consumer `json:"consumer"`
	Seq          int64              `json:"seq"`
	Events       int                `json:"events"`
	Duplicates   int                `json:"duplicates"`
	Gaps         []gap              `json:"gaps"`
	Registered   bool               `json:"registered"`
	Registration *struct {
		Document       map[string]any `json:"document"`
		RegisteredAt   time.Time      `json:"registered_at"`
		UpdatedAt      time.Time      `json:"updated_at"`
		DeregisteredAt time.Time      `json:"deregistered_at"`
	} `json:"registration"`
}

type gap struct{ First, Last int64 }

func (r *rig) sandbox(id string) view {
	r.t.Helper()
	a := r.get("/v1/sandboxes/" + id)
	if a.status != http.StatusOK {
		r.t.Fatalf("sandbox %s: %d %s", id, a.status, a.body)
	}
	return decode[view](r.t, a)
}
