package statehub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/extensiontest"
	"github.com/sand-boxer/sandboxer/statehub"
)

// A step is one operation of a life and the number of the last event that it caused.
type step struct {
	name string
	last int64
}

// live takes a sandbox through its life while its events go to the sink. It
// returns when all were taken.
func live(t *testing.T, sink sandboxer.EventSink) (id string, steps []step) {
	t.Helper()
	c, err := sandboxer.New(sandboxer.Config{
		Extensions: []sandboxer.Extension{extensiontest.NewFake(extensiontest.FakeConfig{Backend: extensiontest.NewBackend()})},
		Profiles: []sandboxer.Profile{{
			ID: "profile.basic", Isolation: sandboxer.IsolationContainer,
			TTL: sandboxer.Duration(time.Hour), MaxTTL: sandboxer.Duration(4 * time.Hour),
			Inputs: map[string]sandboxer.Input{"repo": {Required: true}},
		}},
		Store: sandboxer.NewMemoryStore(), Sink: sink,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	delivering, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.KeepDelivering(delivering) }()
	for _, op := range []struct {
		name string
		do   func() (*sandboxer.Sandbox, error)
	}{
		{"create", func() (*sandboxer.Sandbox, error) {
			return c.Create(ctx, sandboxer.CreateRequest{
				Profile: "profile.basic", Inputs: map[string]string{"repo": "/src"},
				Consumer: sandboxer.Consumer{Project: "wise", ActorType: sandboxer.ActorAgent, Actor: "coder"},
			})
		}},
		{"activate", func() (*sandboxer.Sandbox, error) { return c.Activate(ctx, id) }},
		{"extend", func() (*sandboxer.Sandbox, error) { return c.ExtendTTL(ctx, id, 2*time.Hour) }},
		{"deactivate", func() (*sandboxer.Sandbox, error) { return c.Deactivate(ctx, id) }},
		{"recreate", func() (*sandboxer.Sandbox, error) { return c.Recreate(ctx, id) }},
		{"destroy", func() (*sandboxer.Sandbox, error) { return c.Destroy(ctx, id) }},
	} {
		s, err := op.do()
		if err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		id = s.ID
		events, err := c.Events(ctx, id, 0)
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step{op.name, events[len(events)-1].Seq})
	}
	for waiting := 1; waiting > 0; time.Sleep(time.Millisecond) {
		list, err := c.Undelivered(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		waiting = len(list)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	return id, steps
}

// sent is one event as a hub saw it, in either shape.
type sent struct {
	Type      string          `json:"type"`
	EventType string          `json:"event_type"`
	Data      sandboxer.Event `json:"data"`
	Detail    sandboxer.Event `json:"detail"`
}

// TestLife: the client's events reach a hub as the table in docs/statehub.md
// says, each registration before its event.
func TestLife(t *testing.T) {
	leavesNothing(t)
	rows := map[statehub.Shape][]string{}
	for _, shape := range []statehub.Shape{statehub.ShapeCloudEvents, statehub.ShapeProgress} {
		h := startHub(t, nil)
		id, steps := live(t, newSink(t, statehub.Config{URL: h.URL, Shape: shape}))
		requests := h.seen()
		for i := 0; i+1 < len(requests); i += 2 {
			registration, posted := requests[i], requests[i+1]
			if registration.Path != "/v1/sandboxes/"+id || posted.Method != "POST" {
				t.Fatalf("%v and %v do not belong together", registration, posted)
			}
			var got sent
			if err := json.Unmarshal([]byte(posted.Body), &got); err != nil {
				t.Fatal(err)
			}
			e := got.Data
			if shape == statehub.ShapeProgress {
				e = got.Detail
			}
			wantIdentity(t, registration, e)
			op := " "
			if len(steps) > 0 && (i == 0 || steps[0].last < e.Seq) {
				if i > 0 {
					steps = steps[1:]
				}
				op = " " + steps[0].name + " "
			}
			rows[shape] = append(rows[shape], fmt.Sprintf("|%s| %d | %s | %s | %s | `%s` |", op, e.Seq, e.State, e.Reason, registration.Method, got.Type+got.EventType))
		}
	}
	var table strings.Builder
	table.WriteString("| Operation | Event | State | Reason | Registration | `type` (cloudevents) | `event_type` (progress) |\n|---|---|---|---|---|---|---|\n")
	for i, row := range rows[statehub.ShapeCloudEvents] {
		other := rows[statehub.ShapeProgress][i]
		cut := strings.LastIndex(strings.TrimSuffix(other, " |"), "|")
		table.WriteString(row + other[cut+1:] + "\n")
		if strings.HasPrefix(row, other[:cut]) {
			continue
		}
		t.Errorf("the shapes differ in more than the type:\n%s\n%s", row, other)
	}
	if !strings.Contains(section(t, "The events of a life"), "\n"+table.String()) {
		t.Errorf("docs/statehub.md does not have this table:\n%s", table.String())
	}
}

// wantIdentity requires that a registration tells what its event tells.
func wantIdentity(t *testing.T, registration request, e sandboxer.Event) {
	t.Helper()
	if e.State == sandboxer.StateDestroyed {
		if registration.Method != "DELETE" || registration.Body != "" {
			t.Errorf("%v came with the last event, want a DELETE without a body", registration)
		}
		return
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(registration.Body), &got); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(text, &event); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"event_id": event["id"], "updated_at": event["time"], "actor_type": string(e.Consumer.ActorType)}
	for _, key := range []string{"sandbox_id", "generation", "state", "reason", "profile_id", "extension_id", "host", "consumer", "created_at", "expires_at", "reachability", "seq"} {
		if event[key] != nil {
			want[key] = event[key]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%v (-event +registration):\n%s", registration, diff)
	}
}
