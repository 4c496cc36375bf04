package statehub_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

const (
	putLine    = "PUT /v1/sandboxes/" + sandboxID + "\n"
	deleteLine = "DELETE /v1/sandboxes/" + sandboxID + "\n"
	postLine   = "POST /v1/events\n"
)

// TestRegistration: what each answer to a registration does to its event and
// to the next.
func TestRegistration(t *testing.T) {
	for name, test := range map[string]struct {
		register statehub.Register
		answers  map[string]int
		event    sandboxer.Event
		want     verdict
		requests string // for two events
		logged   int    // lines
		says     string
	}{
		"registered":           {"", nil, ready(), taken, putLine + postLine + putLine + postLine, 0, ""},
		"deregistered":         {"", nil, destroyed(), taken, deleteLine + postLine + deleteLine + postLine, 0, ""},
		"off":                  {statehub.RegisterOff, nil, ready(), taken, postLine + postLine, 0, ""},
		"off at the end":       {statehub.RegisterOff, nil, destroyed(), taken, postLine + postLine, 0, ""},
		"none at the hub: 404": {"", map[string]int{"PUT": 404}, ready(), taken, putLine + postLine + postLine, 1, "status=404"},
		"none at the hub: 405": {"", map[string]int{"PUT": 405}, ready(), taken, putLine + postLine + postLine, 1, "status=405"},
		"none at the hub: 501": {"", map[string]int{"PUT": 501}, ready(), taken, putLine + postLine + postLine, 1, "status=501"},
		"refused":              {"", map[string]int{"PUT": 400}, ready(), taken, putLine + postLine + putLine + postLine, 2, "event=" + ready().ID},
		"not allowed":          {"", map[string]int{"PUT": 403}, ready(), taken, putLine + postLine + putLine + postLine, 2, "authentication refused"},
		"failed":               {"", map[string]int{"PUT": 503}, ready(), retried, putLine + putLine, 0, ""},
		"too many":             {"", map[string]int{"PUT": 429}, ready(), retried, putLine + putLine, 0, ""},
		"redirected":           {"", map[string]int{"PUT": 307}, ready(), retried, putLine + putLine, 0, ""},
		"the end: 404":         {"", map[string]int{"DELETE": 404}, destroyed(), taken, deleteLine + postLine + deleteLine + postLine, 0, ""},
		"the end: 405":         {"", map[string]int{"DELETE": 405}, destroyed(), taken, deleteLine + postLine + deleteLine + postLine, 2, "sandbox=" + sandboxID},
		"the end: 501":         {"", map[string]int{"DELETE": 501}, destroyed(), taken, deleteLine + postLine + deleteLine + postLine, 2, "seq=5"},
		"the end: 409":         {"", map[string]int{"DELETE": 409}, destroyed(), taken, deleteLine + postLine + deleteLine + postLine, 2, "event=" + destroyed().ID},
		"the end: failed":      {"", map[string]int{"DELETE": 500}, destroyed(), retried, deleteLine + deleteLine, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, statuses(test.answers))
			book := &logBook{}
			s := newSink(t, statehub.Config{URL: h.URL, Register: test.register, Logger: book.logger()})
			for range 2 {
				wantVerdict(t, emit(t, s, test.event), test.want)
			}
			if diff := cmp.Diff(test.requests, h.lines()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if got := strings.Count(book.String(), "\n"); got != test.logged || !strings.Contains(book.String(), test.says) {
				t.Errorf("want %d lines that say %q, logged was:\n%s", test.logged, test.says, book)
			}
		})
	}
}

// TestEventRefusedAfterRegistration: the two answers do not mix.
func TestEventRefusedAfterRegistration(t *testing.T) {
	h := startHub(t, statuses(map[string]int{"POST": 400}))
	wantVerdict(t, emit(t, newSink(t, statehub.Config{URL: h.URL}), ready()), refused)
	if diff := cmp.Diff(putLine+postLine, h.lines()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestNoRegistrationIsLoggedOnce, whichever of many events finds it out.
func TestNoRegistrationIsLoggedOnce(t *testing.T) {
	h := startHub(t, statuses(map[string]int{"PUT": 404}))
	book := &logBook{}
	s := newSink(t, statehub.Config{URL: h.URL, Logger: book.logger()})
	const sandboxes, events = 16, 5
	var all sync.WaitGroup
	errs := make([]error, sandboxes)
	for i := range sandboxes {
		all.Go(func() {
			for range events {
				if err := s.Emit(t.Context(), eventOf(fmt.Sprintf("s%02d", i), 3, sandboxer.StateProvisioning, sandboxer.StateReady, sandboxer.ReasonReady)); err != nil {
					errs[i] = err
				}
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if got := strings.Count(book.String(), "\n"); got != 1 {
		t.Errorf("logged %d lines, want 1:\n%s", got, book)
	}
	wantVerdict(t, emit(t, s, destroyed()), taken)
	count := map[string]int{}
	for _, r := range h.seen() {
		count[r.Method]++
	}
	if count[http.MethodPost] != sandboxes*events+1 || count[http.MethodPut] > sandboxes || count[http.MethodDelete] > 0 {
		t.Errorf("%v requests, want %d events, at most one registration for each of %d sandboxes, and no DELETE", count, sandboxes*events+1, sandboxes)
	}
	if h.connections() > 2*sandboxes { // one that becomes free may come too late for a new one
		t.Errorf("%d connections for %d sandboxes", h.connections(), sandboxes)
	}
}

// TestRegistrationPath: an id is one element of the path, whatever is in it.
func TestRegistrationPath(t *testing.T) {
	h := startHub(t, nil)
	s := newSink(t, statehub.Config{URL: h.URL + "/hub/", Paths: statehub.Paths{Sandboxes: "/boxes", Events: "/in"}})
	if err := emit(t, s, eventOf("../a b?c#d", 1, "", sandboxer.StateRequested, sandboxer.ReasonRequested)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("PUT /hub/boxes/..%2Fa%20b%3Fc%23d\nPOST /hub/in\n", h.lines()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
