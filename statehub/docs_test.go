package statehub_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

// section is the part of docs/statehub.md below a heading of any level.
func section(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/statehub.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`(?m)^##+ `).Split(string(text), -1)
	for _, part := range parts {
		if name, rest, _ := strings.Cut(part, "\n"); name == heading {
			return rest
		}
	}
	t.Fatalf("docs/statehub.md has no section %q", heading)
	return ""
}

// blocks are the fenced blocks of a language in a section, in order.
func blocks(t *testing.T, heading, language string) []string {
	t.Helper()
	var all []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(section(t, heading), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("docs/statehub.md shows no %s in section %q", language, heading)
	}
	return all
}

// documented is an event that has everything.
func documented() sandboxer.Event {
	e := ready()
	e.Policy = "prefer-self-hosted"
	e.Previous = sandboxer.Duration(41*time.Second + 300*time.Millisecond)
	e.Inputs = map[string]string{"ref": "main"}
	e.Resources = &sandboxer.Resources{CPUs: 2, Memory: 2 << 30}
	e.Estimate = &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 12_000}
	e.Reachability = &sandboxer.Reachability{
		Address: "ssh://ci@build-1:22", Project: sandboxID, Workdir: "/var/lib/sandboxer/trees/9f2c",
		Services: []sandboxer.Service{{Name: "api", Containers: []string{sandboxID + "-api-1"}, State: "healthy", Ports: []sandboxer.Port{{Port: 8080, Protocol: "tcp"}}}},
	}
	return e
}

// shown writes a request as the document shows it.
func shown(t *testing.T, r request) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\n", r.Method, r.Path)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if name != "User-Agent" && name != "Content-Length" {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(r.Header[name], ", "))
		}
	}
	if r.Body != "" {
		var body bytes.Buffer
		if err := json.Indent(&body, []byte(r.Body), "", "  "); err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		fmt.Fprintf(&b, "\n%s\n", body.String())
	}
	return b.String()
}

// TestDocumentedRequests: docs/statehub.md shows exactly what is sent, and
// what it shows as answers is taken.
func TestDocumentedRequests(t *testing.T) {
	for _, test := range []struct {
		section string
		cfg     statehub.Config
		events  []sandboxer.Event
	}{
		{"cloudevents", statehub.Config{Register: statehub.RegisterOff}, []sandboxer.Event{documented()}},
		{"progress", statehub.Config{
			Register: statehub.RegisterOff, Shape: statehub.ShapeProgress, Fields: map[string]string{"topic_slug": "sandboxes", "workstream_id": "ws-12"},
		}, []sandboxer.Event{ready()}},
		{"Registration", statehub.Config{}, []sandboxer.Event{documented(), destroyed()}},
	} {
		t.Run(test.section, func(t *testing.T) {
			examples := blocks(t, test.section, "http")
			requests, answers := []string{}, map[string]string{}
			for i := 0; i+1 < len(examples); i += 2 {
				method, _, _ := strings.Cut(examples[i], " ")
				requests, answers[method] = append(requests, examples[i]), examples[i+1]
			}
			h := startHub(t, func(w http.ResponseWriter, r *http.Request) {
				if text := answers[r.Method]; text != "" {
					replay(t, w, text)
				}
			})
			cfg := test.cfg
			cfg.URL, cfg.Token = h.URL, "TOKEN"
			s := newSink(t, cfg)
			for _, e := range test.events {
				wantVerdict(t, emit(t, s, e), taken)
			}
			got := []string{}
			for _, r := range h.seen() {
				if cfg.Register == statehub.RegisterOff || r.Method != http.MethodPost {
					got = append(got, shown(t, r))
				}
			}
			if diff := cmp.Diff(requests, got); diff != "" {
				t.Errorf("requests (-docs/statehub.md +sent):\n%s\nall that was sent:\n%s", diff, strings.Join(got, "\n"))
			}
		})
	}
}

// replay answers with what the document shows.
func replay(t *testing.T, w http.ResponseWriter, text string) {
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text+"\n")), nil) // a block ends with its text
	if err != nil {
		t.Errorf("%v in:\n%s", err, text)
		return
	}
	defer res.Body.Close()
	maps.Copy(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body)
}
