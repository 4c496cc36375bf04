package statehub_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// events are of every kind of change.
func events() []sandboxer.Event {
	failed := anEvent(4, sandboxer.StateReady, sandboxer.StateFailed, sandboxer.ReasonNotReady)
	failed.Message, failed.ErrorCode = "service api: exited (3)\n<&> \u2028 \xff", "not_ready"
	bare := sandboxer.Event{
		ID: "x-1", Seq: 1, SandboxID: "x", Generation: 1, State: sandboxer.StateRequested, Reason: sandboxer.ReasonRequested, Profile: "p",
		Time: time.Date(2026, 3, 14, 10, 0, 0, 0, time.FixedZone("CET", 3600)),
	}
	return []sandboxer.Event{
		bare, documented(), failed, destroyed(),
		anEvent(2, sandboxer.StateActive, sandboxer.StateActive, sandboxer.ReasonExtended),
		anEvent(6, sandboxer.StateDestroying, sandboxer.StateDestroying, sandboxer.ReasonResidue),
	}
}

// TestCloudEvents are valid to the SDK, with every attribute that is documented.
func TestCloudEvents(t *testing.T) {
	types := map[string]string{}
	for _, e := range events() {
		h := startHub(t, nil)
		cfg := eventsOnly(h.URL)
		cfg.Source = "https://ci.example.net/sandboxer"
		wantVerdict(t, emit(t, newSink(t, cfg), e), taken)
		r := h.seen()[0]
		if got, want := r.Header.Get("Content-Type"), event.ApplicationCloudEventsJSON+"; charset=utf-8"; got != want || !utf8.ValidString(r.Body) {
			t.Errorf("the content type is %q, want %q, of valid UTF-8", got, want)
		}
		var got event.Event
		if err := json.Unmarshal([]byte(r.Body), &got); err != nil {
			t.Fatalf("%v in %s", err, r.Body)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%v in %s", err, r.Body)
		}
		attributes := map[string]any{
			"specversion": got.SpecVersion(), "id": got.ID(), "source": got.Source(), "subject": got.Subject(), "time": got.Time(),
			"datacontenttype": got.DataContentType(), "dataschema": got.DataSchema(),
		}
		maps.Copy(attributes, got.Extensions())
		want := map[string]any{
			"specversion": "1.0", "id": e.ID, "source": cfg.Source, "subject": e.SandboxID, "time": e.Time.UTC(),
			"datacontenttype": "application/json", "dataschema": schemaID(t), "sequence": fmt.Sprintf("%010d", e.Seq), "partitionkey": e.SandboxID,
		}
		if diff := cmp.Diff(want, attributes); diff != "" {
			t.Errorf("attributes (-want +got):\n%s", diff)
		}
		types[e.ID+" "+string(e.Reason)] = got.Type()
		var data sandboxer.Event
		if err := got.DataAs(&data); err != nil {
			t.Fatal(err)
		}
		if text := `"time":"` + e.Time.UTC().Format(time.RFC3339Nano) + `"`; strings.Count(r.Body, text) != 2 {
			t.Errorf("want %s twice in %s", text, r.Body)
		}
		e.Message = strings.ToValidUTF8(e.Message, "\uFFFD")
		if diff := cmp.Diff(e, data); diff != "" {
			t.Errorf("data (-want +got):\n%s", diff)
		}
	}
	want := map[string]string{
		"x-1 requested":                  "dev.sandboxer.sandbox.requested",
		sandboxID + "-3 ready":           "dev.sandboxer.sandbox.ready",
		sandboxID + "-4 not_ready":       "dev.sandboxer.sandbox.failed",
		sandboxID + "-5 verified_absent": "dev.sandboxer.sandbox.destroyed",
		sandboxID + "-2 ttl_extended":    "dev.sandboxer.sandbox.ttl_extended",
		sandboxID + "-6 residue":         "dev.sandboxer.sandbox.residue",
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

// schemaID is the published name of the schema of an event.
func schemaID(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../schemas/event.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		ID string `json:"$id"`
	}
	if err := json.Unmarshal(text, &schema); err != nil || schema.ID == "" {
		t.Fatalf("the schema has no $id: %v", err)
	}
	return schema.ID
}

// TestSequenceSorts: as text it has the order of the numbers, up to what a
// 32-bit number holds and beyond.
func TestSequenceSorts(t *testing.T) {
	h := startHub(t, nil)
	s := newSink(t, eventsOnly(h.URL))
	for _, seq := range []int64{1, 2, 9, 10, 99, 100, 1<<31 - 1, 1 << 31} {
		e := ready()
		e.Seq = seq
		wantVerdict(t, emit(t, s, e), taken)
	}
	var got []string
	for _, r := range h.seen() {
		var e struct{ Sequence string }
		if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Sequence)
	}
	if !slices.IsSorted(got) || len(slices.Compact(got)) != 8 {
		t.Errorf("not in order: %q", got)
	}
}
