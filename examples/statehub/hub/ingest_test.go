package hub_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// A receipt is the hub's answer to an event.
type receipt struct {
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
}

// A problem is the hub's answer to what it refuses.
type problem struct {
	Type, Title, Detail string
	Status              int
}

// refused checks that an answer is a problem of a status that says something.
func refused(t *testing.T, a answer, status int, says string) {
	t.Helper()
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("answer %d, %s, want a problem of %d\n%s", a.status, a.header.Get("Content-Type"), status, a.body)
	}
	p := decode[problem](t, a)
	if p.Type == "" || p.Title != http.StatusText(status) || p.Status != status || !strings.Contains(p.Detail, says) {
		t.Errorf("problem %+v, want one of %d that says %q", p, status, says)
	}
}

// TestBothFormsAreOneEvent: whichever comes first, the other is a duplicate.
func TestBothFormsAreOneEvent(t *testing.T) {
	r := newRig(t, hub.Options{})
	events := newLife(idOf(1), time.Now()).up(time.Minute).made
	for i, tt := range []struct {
		post      func() answer
		status    int
		duplicate bool
	}{
		{func() answer { return r.post(events[0]) }, http.StatusAccepted, false},
		{func() answer { return r.post(events[0]) }, http.StatusOK, true},
		{func() answer { return r.postProgress(events[0]) }, http.StatusOK, true},
		{func() answer { return r.postProgress(events[1]) }, http.StatusAccepted, false},
		{func() answer { return r.postProgress(events[1]) }, http.StatusOK, true},
		{func() answer { return r.post(events[1]) }, http.StatusOK, true},
	} {
		a := tt.post()
		if got := decode[receipt](t, a); a.status != tt.status || got != (receipt{events[i/3].ID, tt.duplicate}) {
			t.Errorf("request %d: %d %s", i+1, a.status, a.body)
		}
	}
	if v := r.sandbox(idOf(1)); v.Events != 2 || v.Duplicates != 4 {
		t.Errorf("%d events, %d duplicates, want 2 and 4", v.Events, v.Duplicates)
	}
}

// TestConcurrentDuplicates: of many offers at once exactly one is the first.
func TestConcurrentDuplicates(t *testing.T) {
	r := newRig(t, hub.Options{})
	events := newLife(idOf(1), time.Now()).up(time.Minute).down(time.Minute, "ttl_expired").made
	const offers = 16
	first := make([]atomic.Int64, len(events))
	var all sync.WaitGroup
	for i := range events {
		for n := range offers {
			all.Go(func() {
				a := r.post(events[i])
				if n%2 == 1 {
					a = r.postProgress(events[i])
				}
				switch a.status {
				case http.StatusAccepted:
					first[i].Add(1)
				case http.StatusOK:
				default:
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
	}
	all.Wait()
	v := r.sandbox(idOf(1))
	if v.Events != len(events) || len(v.Gaps) != 0 || v.State != "destroyed" {
		t.Errorf("%+v, want %d events up to destroyed", v, len(events))
	}
	if total := offers*len(events) + offers/2*len(events); v.Duplicates != total-len(events) {
		t.Errorf("%d duplicates, want %d", v.Duplicates, total-len(events))
	}
	for i := range first {
		if n := first[i].Load(); n > 1 {
			t.Errorf("event %d was the first %d times", i+1, n)
		}
	}
}

// TestUnknownKeysAreKept: a newer client's event comes back as it was sent.
func TestUnknownKeysAreKept(t *testing.T) {
	r := newRig(t, hub.Options{})
	body := `{"specversion":"1.0","id":"abc-1","source":"s","type":"dev.sandboxer.sandbox.frozen","subject":"abc","time":"2026-01-31T12:00:00Z","traceparent":"x",
		"data":{"id":"abc-1","seq":1,"time":"2026-01-31T12:00:00.5+01:00","sandbox_id":"abc","generation":1,"state":"frozen","reason":"cold","profile_id":"p","consumer":{"project":"q"},"colour":{"b":[1, 2]}}}`
	if a := r.send("POST", "/v1/events", body, "Content-Type", cloudType+"; charset=UTF-8"); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := r.get("/v1/events"); !strings.Contains(a.body, `"colour":{"b":[1,2]}`) {
		t.Errorf("keys are lost: %s", a.body)
	}
	if v := r.sandbox("abc"); v.State != "frozen" || v.Reason != "cold" {
		t.Errorf("%+v", v)
	}
	if a := r.get("/"); a.status != http.StatusOK || !strings.Contains(a.body, "frozen") {
		t.Errorf("the page does not show the state: %d", a.status)
	}
}

func TestRefusedEvents(t *testing.T) {
	e := newLife(idOf(1), time.Now()).to(0, "requested", "requested", "").made[0]
	cloud, own := cloudEvent(e), progress(e)
	spoiled := func(change func(f fields) fields) fields {
		return change(fields(decode[map[string]any](t, answer{body: encode(t, e)})))
	}
	without := func(name string) fields { return spoiled(func(f fields) fields { return f.with(name, nil) }) }
	type refusal struct {
		name, target, contentType, body string
		status                          int
		says                            string
	}
	tests := []refusal{
		{"no content type", "/v1/events", "", encode(t, cloud), 415, cloudType},
		{"plain JSON", "/v1/events", jsonType, encode(t, cloud), 415, cloudType},
		{"batch", "/v1/events", "application/cloudevents-batch+json", "[]", 415, cloudType},
		{"other charset", "/v1/events", cloudType + "; charset=latin1", encode(t, cloud), 415, "UTF-8"},
		{"own form as CloudEvent", "/progress", cloudType, encode(t, own), 415, jsonType},
		{"empty body", "/v1/events", cloudType, "", 400, "not a CloudEvent"},
		{"no JSON", "/progress", jsonType, "{", 400, "not a progress event"},
		{"two documents", "/v1/events", cloudType, encode(t, cloud) + "{}", 400, "not a CloudEvent"},
		{"list", "/v1/events", cloudType, "[]", 400, "not a CloudEvent"},
		{"no UTF-8", "/v1/events", cloudType, "{\"id\":\"\xff\"}", 400, "UTF-8"},
		{"too large", "/v1/events", cloudType, `{"data":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "1048576"},
		{"too large, own form", "/progress", jsonType, `{"summary":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "1048576"},
	}
	for _, tt := range []struct {
		name   string
		change fields
		says   string
	}{
		{"specversion", cloud.with("specversion", "0.3"), "specversion"},
		{"no specversion", cloud.with("specversion", nil), "specversion"},
		{"no id", cloud.with("id", nil), "id is required"},
		{"no source", cloud.with("source", nil), "source is required"},
		{"no type", cloud.with("type", nil), "type"},
		{"another type", cloud.with("type", "com.example.order"), "dev.sandboxer.sandbox."},
		{"type without an end", cloud.with("type", "dev.sandboxer.sandbox."), "type"},
		{"no subject", cloud.with("subject", nil), "subject is required"},
		{"no time", cloud.with("time", nil), "time"},
		{"no data", cloud.with("data", nil), "data is required"},
		{"data is a text", cloud.with("data", "x"), "data is not an event"},
		{"data is not JSON", cloud.with("datacontenttype", "text/xml"), "datacontenttype"},
		{"another id", cloud.with("id", "other-1"), "must be equal"},
		{"another subject", cloud.with("subject", idOf(2)), "must be equal"},
		{"data without id", cloud.with("data", without("id")), "data.id"},
		{"data without sandbox_id", cloud.with("data", without("sandbox_id")), "data.sandbox_id"},
		{"data without seq", cloud.with("data", without("seq")), "data.seq"},
		{"data without time", cloud.with("data", without("time")), "data.time"},
		{"data without state", cloud.with("data", without("state")), "data.state"},
		{"data without reason", cloud.with("data", without("reason")), "data.reason"},
		{"id of another number", cloud.with("data", spoiled(func(f fields) fields { return f.with("seq", 7) })), idOf(1) + "-7"},
		{"several at once", cloud.with("source", nil).with("time", "yesterday"), `source is required; time is "yesterday"`},
	} {
		tests = append(tests, refusal{tt.name, "/v1/events", cloudType, encode(t, tt.change), 400, tt.says})
	}
	for _, tt := range []struct {
		name   string
		change fields
		says   string
	}{
		{"own form: no event_id", own.with("event_id", nil), "event_id is required"},
		{"own form: no event_type", own.with("event_type", nil), "event_type"},
		{"own form: another event_type", own.with("event_type", "job.ready"), "event_type"},
		{"own form: no timestamp", own.with("timestamp", nil), "timestamp"},
		{"own form: no sandbox_id", own.with("sandbox_id", nil), "sandbox_id is required"},
		{"own form: no detail", own.with("detail", nil), "detail is required"},
		{"own form: another event_id", own.with("event_id", "x-1"), "must be equal"},
		{"own form: another sandbox_id", own.with("sandbox_id", idOf(2)), "must be equal"},
		{"own form: hostile id", own.with("sandbox_id", "../x").with("detail", spoiled(func(f fields) fields { return f.with("sandbox_id", "../x") })), "not the id of a sandbox"},
	} {
		tests = append(tests, refusal{tt.name, "/progress", jsonType, encode(t, tt.change), 400, tt.says})
	}
	r := newRig(t, hub.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, r.send("POST", tt.target, tt.body, "Content-Type", tt.contentType), tt.status, tt.says)
		})
	}
	refused(t, r.send("POST", "/v1/events", encode(t, cloud), "Content-Type", cloudType, "Content-Encoding", "gzip"), 415, "gzip")
	if a := r.get("/v1/events"); !strings.Contains(a.body, `"events":[]`) {
		t.Errorf("something was stored: %s", a.body)
	}
}
