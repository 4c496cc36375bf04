package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
)

// withHub is the same command with a State Hub.
func (c *cli) withHub(t *testing.T, document string) *cli {
	t.Helper()
	sub := *c.with(t)
	sub.hub = filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(sub.hub, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return &sub
}

// ask reads a JSON answer of a server.
func ask[T any](t *testing.T, url string) T {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %s: %v: %s", url, resp.Status, err, body)
	}
	return decode[T](t, string(body))
}

// TestAHubSeesAWholeLife: what the real engine goes through arrives at the
// reference hub exactly as docs/statehub.md says, in both shapes.
func TestAHubSeesAWholeLife(t *testing.T) {
	hosttest.Require(t)
	c := newCLI(t, "address: 'local:'\nprice: {currency: EUR, micros_per_hour: 36000000}")
	repo := smallRepo(t)
	for _, shape := range []string{"cloudevents", "progress"} {
		t.Run(shape, func(t *testing.T) {
			h, err := hub.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), hub.Options{})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(h)
			t.Cleanup(func() { server.Close(); _ = h.Close() })
			c := c.withHub(t, "url: "+server.URL+"\nshape: "+shape+"\n")
			id := strings.TrimSpace(c.must("create", "-q", "--input", "repo="+repo, "--project", "shop", "--actor-type", "agt", "--actor", "coder"))
			t.Cleanup(func() { c.run("destroy", id) })
			c.must("activate", id)
			c.must("extend", id, "2h")
			c.must("recreate", id)
			c.must("destroy", id)

			var got []string
			events := ask[struct{ Events []sandboxer.Event }](t, server.URL+"/v1/events?sandbox_id="+id).Events
			for _, e := range events {
				got = append(got, fmt.Sprintf("%d %d %s %s", e.Seq, e.Generation, e.State, e.Reason))
			}
			want := []string{
				"1 1 requested requested", "2 1 provisioning routed", "3 1 ready ready", "4 1 active activated", "5 1 active ttl_extended",
				"6 1 destroying recreate", "7 2 requested recreate", "8 2 provisioning routed", "9 2 ready ready",
				"10 2 destroying consumer_request", "11 2 destroyed verified_absent",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events at the hub (-want +got):\n%s", diff)
			}
			recorded := decodeLines[sandboxer.Event](t, c.must("events", id, "--json"))
			if diff := cmp.Diff(recorded, events); diff != "" {
				t.Errorf("events (-recorded +at the hub):\n%s", diff)
			}
			if out := c.must("events", "--undelivered", "--json"); out != "" {
				t.Errorf("undelivered: %s", out)
			}
			used := ask[struct{ Meters []sandboxer.Meter }](t, server.URL+"/v1/usage?by=consumer").Meters
			if len(used) != 1 || used[0].Key != "shop/agt:coder" || used[0].Generations != 2 || used[0].Held <= 0 || len(used[0].Costs) != 1 || used[0].Costs[0].Micros <= 0 {
				t.Errorf("the hub says %+v was used", used)
			}
		})
	}
}

func decodeLines[T any](t *testing.T, text string) []T {
	t.Helper()
	var out []T
	for line := range strings.Lines(text) {
		out = append(out, decode[T](t, line))
	}
	return out
}

// TestUndeliveredEvents are shown with what became of them, and delivered when
// the hub is back.
func TestUndeliveredEvents(t *testing.T) {
	hosttest.Require(t)
	var answer atomic.Int32
	answer.Store(http.StatusServiceUnavailable)
	var mu sync.Mutex
	var taken []string // in the order of the first time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := int(answer.Load())
		if r.Method == http.MethodPost && status < 300 {
			var e struct{ ID string }
			_ = json.NewDecoder(r.Body).Decode(&e)
			mu.Lock()
			if !slices.Contains(taken, e.ID) {
				taken = append(taken, e.ID)
			}
			mu.Unlock()
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	c := newCLI(t, `address: "local:"`).withHub(t, "url: "+server.URL+"\n")
	start := time.Now()
	id := strings.TrimSpace(c.must("create", "-q", "--input", "repo="+smallRepo(t)))
	c.must("destroy", id)
	t.Logf("create and destroy with a hub that is down: %v", time.Since(start))

	quiet := *c // without a hub nothing is offered while one looks
	quiet.hub = ""
	waiting := decodeLines[sandboxer.Undelivered](t, quiet.must("events", id, "--undelivered", "--json"))
	if len(waiting) != 5 || waiting[0].Dead || !strings.Contains(waiting[0].Reason, "503") {
		t.Errorf("undelivered is %+v", waiting)
	}
	for line := range strings.Lines(quiet.must("events", id, "--undelivered", "--json")) {
		schema(t, "undelivered", line)
	}
	answer.Store(http.StatusBadRequest)
	time.Sleep(time.Until(waiting[0].DueAt) + 100*time.Millisecond)
	c.must("deliver")
	if text := quiet.must("events", "--undelivered"); !strings.Contains(text, "dead letter since") || !strings.Contains(text, "400") {
		t.Errorf("dead letters are shown as\n%s", text)
	}
	answer.Store(http.StatusAccepted)
	if n := strings.TrimSpace(c.must("redeliver", id)); n != "5" {
		t.Errorf("redeliver says %s dead letters, want 5", n)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{id + "-1", id + "-2", id + "-3", id + "-4", id + "-5"}
	if diff := cmp.Diff(want, taken); diff != "" {
		t.Errorf("the hub took (-want +got):\n%s", diff)
	}
	if _, out, _ := quiet.run("events", "--undelivered"); out != "" {
		t.Errorf("undelivered: %s", out)
	}
}

// TestUsageFormats are a table, JSON by its schema, and CSV.
func TestUsageFormats(t *testing.T) {
	hosttest.Require(t)
	c := newCLI(t, "address: 'local:'\nprice: {currency: EUR, micros_per_hour: 36000000}")
	id := strings.TrimSpace(c.must("create", "-q", "--input", "repo="+smallRepo(t), "--project", "shop"))
	c.must("destroy", id)
	if text := c.must("usage", "--by", "project"); !strings.Contains(text, "PROJECT") || !strings.Contains(text, "shop") || !strings.Contains(text, " EUR") {
		t.Errorf("usage prints\n%s", text)
	}
	for _, by := range []string{"consumer", "project", "host", "profile", "sandbox"} {
		document := c.must("usage", "--by", by, "--since", "1h", "--json")
		schema(t, "meter-list", document)
		if all := decode[[]sandboxer.Meter](t, document); len(all) == 0 || all[0].Sandboxes != 1 || all[0].CPUSeconds <= 0 {
			t.Errorf("by %s: %s", by, document)
		}
	}
	csv := strings.Split(strings.TrimSpace(c.must("usage", "--by", "sandbox", "--csv")), "\n")
	if len(csv) != 2 || !strings.HasPrefix(csv[0], "by,key,sandboxes,generations,sandbox_seconds") || !strings.HasSuffix(csv[0], ",cost_micros_EUR") || !strings.HasPrefix(csv[1], "sandbox,"+id+",1,1,") {
		t.Errorf("CSV is %q", csv)
	}
	if out := c.must("usage", "--until", "2026-01-01", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("before there was anything: %s", out)
	}
	for _, bad := range [][]string{{"usage", "--by", "planet"}, {"usage", "--since", "yesterday"}, {"usage", "--csv", "--json"}, {"deliver"}} {
		if code, _, text := c.run(bad...); code != exitUsage || text == "" {
			t.Errorf("%v ends with %d: %s", bad, code, text)
		}
	}
}
