package hub_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

type eventList struct {
	Events []sandboxer.Event
	Next   string
}

type sandboxList struct {
	Sandboxes []view
	Next      string
}

// TestOrderAndGaps: whatever the order of arrival, the order of the numbers
// comes out, and what is missing is named until it comes.
func TestOrderAndGaps(t *testing.T) {
	r := newRig(t, hub.Options{})
	all := newLife(idOf(1), time.Now().Add(-time.Hour)).up(time.Minute).
		to(time.Minute, "active", "activated", "").to(time.Minute, "active", "ttl_extended", "").down(time.Minute, "consumer_request").made
	for i, tt := range []struct {
		seq   int64
		state string
		gaps  []gap
	}{
		{2, "provisioning", []gap{{1, 1}}},
		{5, "active", []gap{{1, 1}, {3, 4}}},
		{4, "active", []gap{{1, 1}, {3, 3}}},
		{1, "active", []gap{{3, 3}}},
		{7, "destroyed", []gap{{3, 3}, {6, 6}}},
		{3, "destroyed", []gap{{6, 6}}},
		{6, "destroyed", []gap{}},
	} {
		r.must(all[tt.seq-1])
		v := r.sandbox(idOf(1))
		if string(v.State) != tt.state || v.Events != i+1 {
			t.Errorf("after event %d: %s with %d events, want %s", tt.seq, v.State, v.Events, tt.state)
		}
		if list := decode[sandboxList](t, r.get("/v1/sandboxes?state="+tt.state)); len(list.Sandboxes) != 1 {
			t.Errorf("after event %d: it is not found as %s", tt.seq, tt.state)
		}
		if diff := cmp.Diff(tt.gaps, v.Gaps); diff != "" {
			t.Errorf("after event %d: gaps (-want +got):\n%s", tt.seq, diff)
		}
		if tt.seq == 4 && !v.StateSince.Equal(all[3].Time) {
			t.Errorf("active since %v, want %v: an extension changes no state", v.StateSince, all[3].Time)
		}
	}
	if got := decode[eventList](t, r.get("/v1/events?sandbox_id="+idOf(1))); !cmp.Equal(all, got.Events) {
		t.Errorf("events (-want +got):\n%s", cmp.Diff(all, got.Events))
	}
}

func TestListEvents(t *testing.T) {
	r := newRig(t, hub.Options{})
	now := time.Now()
	var want []string
	for i, l := range someLives(12, now) {
		slices.Reverse(l.made) // the order of arrival does not matter
		r.must(l.made...)
		for n := range l.made {
			want = append(want, fmt.Sprintf("%s-%d", idOf(i+1), n+1))
		}
	}
	var got []string
	for next, pages := "", 0; pages == 0 || next != ""; pages++ {
		list := decode[eventList](t, r.get("/v1/events?limit=7&after="+next))
		for _, e := range list.Events {
			got = append(got, e.ID)
		}
		if next = list.Next; next != "" && len(list.Events) != 7 || pages > len(want) {
			t.Fatalf("page %d has %d events", pages, len(list.Events))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ids by pages (-want +got):\n%s", diff)
	}
	since := url.QueryEscape(now.Add(-30 * time.Minute).UTC().Format(time.RFC3339))
	for query, good := range map[string]func(sandboxer.Event) bool{
		"sandbox_id=" + idOf(3):                 func(e sandboxer.Event) bool { return e.SandboxID == idOf(3) },
		"project=billing":                       func(e sandboxer.Event) bool { return e.Consumer.Project == "billing" },
		"since=30m":                             func(e sandboxer.Event) bool { return now.Sub(e.Time) < 31*time.Minute },
		"since=" + since + "&project=shop":      func(e sandboxer.Event) bool { return now.Sub(e.Time) < 31*time.Minute && e.Consumer.Project == "shop" },
		"sandbox_id=" + idOf(3) + "&after=zz-1": nil,
		"project=nobody":                        nil,
	} {
		list := decode[eventList](t, r.get("/v1/events?"+query))
		if (good == nil) != (len(list.Events) == 0) || list.Next != "" {
			t.Errorf("%s: %d events, next %q", query, len(list.Events), list.Next)
		}
		for _, e := range list.Events {
			if !good(e) {
				t.Errorf("%s gives %s of %s at %v", query, e.ID, e.Consumer.Project, e.Time)
			}
		}
	}
}

func TestListSandboxes(t *testing.T) {
	r := newRig(t, hub.Options{})
	for i, l := range someLives(16, time.Now()) {
		r.must(l.made...)
		if i < 4 {
			r.put(registrationOf(l.made[len(l.made)-1]))
		}
	}
	r.send("DELETE", "/v1/sandboxes/"+idOf(1), "")
	for query, want := range map[string]func(v view) bool{
		"":                            func(view) bool { return true },
		"project=billing":             func(v view) bool { return v.Consumer.Project == "billing" },
		"host=builder-eu":             func(v view) bool { return v.Host == "builder-eu" },
		"state=ready":                 func(v view) bool { return v.State == "ready" },
		"state=ready&project=shop":    func(v view) bool { return v.State == "ready" && v.Consumer.Project == "shop" },
		"profile=profile.compose-e2e": func(view) bool { return true },
		"profile=other":               func(view) bool { return false },
		"registered=true":             func(v view) bool { return v.ID >= idOf(2) && v.ID <= idOf(4) },
		"registered=false":            func(v view) bool { return v.ID == idOf(1) || v.ID >= idOf(5) },
	} {
		matching := 0
		for i := range 16 {
			if want(r.sandbox(idOf(i + 1))) {
				matching++
			}
		}
		seen := map[string]bool{}
		for next, pages := "", 0; pages == 0 || next != ""; pages++ {
			list := decode[sandboxList](t, r.get("/v1/sandboxes?limit=3&after="+next+"&"+query))
			for _, v := range list.Sandboxes {
				if seen[v.ID] || !want(v) {
					t.Errorf("%s gives %s, twice or wrongly", query, v.ID)
				}
				seen[v.ID] = true
			}
			next = list.Next
		}
		if len(seen) != matching {
			t.Errorf("%s gives %d sandboxes, want %d", query, len(seen), matching)
		}
	}
}

// TestUsage is what the library computes from the same events.
func TestUsage(t *testing.T) {
	r := newRig(t, hub.Options{})
	var events []sandboxer.Event
	for _, l := range someLives(16, time.Now()) {
		r.must(l.made...)
		events = append(events, l.made...)
	}
	for _, by := range []sandboxer.MeterBy{sandboxer.ByConsumer, sandboxer.ByProject, sandboxer.ByHost, sandboxer.ByProfile, sandboxer.BySandbox} {
		for _, since := range []string{"", "1h"} {
			got := decode[struct {
				By           string
				Since, Until time.Time
				Meters       []sandboxer.Meter
			}](t, r.get("/v1/usage?by="+string(by)+"&since="+since))
			want := sandboxer.MetersOf(events, by, sandboxer.Window{Since: got.Since, Until: got.Until})
			// sums of floats depend on the order in which they are made
			if diff := cmp.Diff(want, got.Meters, cmpopts.EquateApprox(0, 1e-6)); diff != "" || got.By != string(by) || got.Since.IsZero() != (since == "") {
				t.Errorf("by %s since %q (-want +got):\n%s", by, since, diff)
			}
		}
	}
	if a := r.get("/v1/usage"); !strings.Contains(a.body, `"by":"consumer"`) || !strings.Contains(a.body, `"currency":"EUR"`) {
		t.Errorf("usage by default: %s", a.body)
	}
}

func TestRefusedQuestions(t *testing.T) {
	r := newRig(t, hub.Options{})
	for _, tt := range []struct {
		method, target string
		status         int
		says           string
	}{
		{"GET", "/nothing", 404, "/nothing"},
		{"GET", "/v1", 404, "/v1"},
		{"GET", "/v1/sandboxes/" + idOf(1), 404, "not known"},
		{"POST", "/", 405, "GET, HEAD"},
		{"GET", "/progress", 405, "POST"},
		{"DELETE", "/v1/events", 405, "GET, HEAD, POST"},
		{"POST", "/v1/sandboxes", 405, "GET, HEAD"},
		{"PATCH", "/v1/sandboxes/x", 405, "DELETE, GET, HEAD, PUT"},
		{"PUT", "/healthz", 405, "GET, HEAD"},
		{"OPTIONS", "/v1/usage", 405, "GET, HEAD"},
		{"GET", "/v1/events?limit=0", 400, "1 to 5000"},
		{"GET", "/v1/events?limit=many", 400, "1 to 5000"},
		{"GET", "/v1/events?since=yesterday", 400, "24h"},
		{"GET", "/v1/events?since=-1h", 400, "24h"},
		{"GET", "/v1/events?after=x", 400, "id of an event"},
		{"GET", "/v1/events?sandbox=x", 400, "sandbox_id"},
		{"GET", "/v1/events?limit=1&limit=2", 400, "2 times"},
		{"GET", "/v1/events?%zz", 400, "cannot be read"},
		{"GET", "/v1/sandboxes?registered=yes", 400, "true or false"},
		{"GET", "/v1/usage?by=moon", 400, "consumer, project, host, profile, sandbox"},
		{"GET", "/sandboxes/x?refresh=no", 400, "refresh"},
	} {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			a := r.send(tt.method, tt.target, "")
			refused(t, a, tt.status, tt.says)
			if allow := a.header.Get("Allow"); tt.status == http.StatusMethodNotAllowed && allow != tt.says {
				t.Errorf("Allow: %s, want %s", allow, tt.says)
			}
		})
	}
	if a := r.get("/healthz"); a.status != http.StatusOK || strings.TrimSpace(a.body) != `{"status":"ok"}` {
		t.Errorf("health: %d %s", a.status, a.body)
	}
	if a := r.send("HEAD", "/v1/events", ""); a.status != http.StatusOK {
		t.Errorf("HEAD: %d", a.status)
	}
}
