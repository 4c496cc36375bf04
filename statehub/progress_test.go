package statehub_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

func TestSummary(t *testing.T) {
	const who = "wise-validator/atm:ci#4711: sandbox " + sandboxID + " of profile.compose-e2e "
	long := anEvent(4, sandboxer.StateProvisioning, sandboxer.StateFailed, sandboxer.ReasonProvisionFailed)
	long.Message = "build:\n\x1b[31m" + strings.Repeat("x", 5000)
	homeless := anEvent(1, "", sandboxer.StateRequested, sandboxer.ReasonRequested)
	homeless.Host = ""
	for _, test := range []struct {
		event sandboxer.Event
		want  string
	}{
		{homeless, who + "is now requested"},
		{ready(), who + "is now ready on build-1"},
		{anEvent(4, sandboxer.StateReady, sandboxer.StateActive, sandboxer.ReasonActivated), who + "is now active on build-1: activated"},
		{anEvent(5, sandboxer.StateActive, sandboxer.StateActive, sandboxer.ReasonExtended), who + "is still active on build-1: ttl extended to 2026-03-14T10:25:53Z"},
		{destroyed(), who + "is now destroyed on build-1: verified absent"},
		{long, who + "is now failed on build-1: provision failed (build: [31m" + strings.Repeat("x", 186) + "…)"},
	} {
		h := startHub(t, nil)
		cfg := eventsOnly(h.URL)
		cfg.Shape = statehub.ShapeProgress
		wantVerdict(t, emit(t, newSink(t, cfg), test.event), taken)
		var got struct{ Summary string }
		if err := json.Unmarshal([]byte(h.seen()[0].Body), &got); err != nil {
			t.Fatal(err)
		}
		if got.Summary != test.want {
			t.Errorf("got  %s\nwant %s", got.Summary, test.want)
		}
	}
}

// TestFields cannot break out of their place.
func TestFields(t *testing.T) {
	h := startHub(t, nil)
	cfg := eventsOnly(h.URL)
	cfg.Shape = statehub.ShapeProgress
	cfg.Fields = map[string]string{"topic_slug": `a","state":"x`, `we"ird`: "\x00\u2028", "empty": ""}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, emit(t, newSink(t, cfg), ready()), taken)
	var got map[string]any
	if err := json.Unmarshal([]byte(h.seen()[0].Body), &got); err != nil {
		t.Fatal(err)
	}
	for name, value := range cfg.Fields {
		if got[name] != value {
			t.Errorf("%q is %q, want %q", name, got[name], value)
		}
	}
	if got["state"] != "ready" || got["event_id"] != ready().ID {
		t.Errorf("the event is %v", got)
	}
}
