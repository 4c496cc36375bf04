package server_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
)

// Many clients at once each create a sandbox, watch it and destroy it. None
// sees an error, or an event that is not its own, missing or told twice.
func TestACrowd(t *testing.T) {
	const clients = 200
	w := newWorld(t)
	r := w.start(t, server.Config{})
	watching, leave := r.follow("/v1/events") // somebody watches them all
	began := time.Now()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { oneOfMany(t, r, fmt.Sprintf("client-%d", i)) })
	}
	all.Wait()
	t.Logf("%d clients took %v", clients, time.Since(began))
	told := map[string]int{}
	for ended := 0; ended < clients; {
		e, ok := next(t, watching)
		if !ok {
			t.Fatal("the stream of all ended")
		}
		if told[e.SandboxID]++; int64(told[e.SandboxID]) != e.Seq {
			t.Fatalf("event %d of %s comes as number %d", e.Seq, e.SandboxID, told[e.SandboxID])
		}
		if e.State.Terminal() {
			ended++
		}
	}
	leave()
	w.nothingLeft(t, "")
}

func oneOfMany(t *testing.T, r *rig, key string) {
	send := func(method, target, body string, status int, headers ...string) answer {
		a, err := r.try(r.request(t.Context(), method, target, body, headers...))
		if err != nil || a.status != status {
			t.Errorf("%s: %s %s: %v %d %s", key, method, target, err, a.status, a.body)
			return answer{body: "{}"}
		}
		return a
	}
	s := send("POST", "/v1/sandboxes", body, http.StatusAccepted, "Idempotency-Key", key, "Prefer", "respond-async").sandbox(t)
	resp, err := http.DefaultClient.Do(r.request(t.Context(), "GET", "/v1/sandboxes/"+s.ID+"/events", "", "Accept", "text/event-stream"))
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	messages := make(chan message, 100)
	go func() { defer close(messages); readMessages(resp.Body, messages) }()
	var seen []string
	for {
		e, ok := next(t, messages)
		if !ok {
			break
		}
		seen = append(seen, fmt.Sprintf("%d %s", e.Seq, e.State))
		if e.State == "ready" {
			go send("DELETE", "/v1/sandboxes/"+s.ID, "", http.StatusOK)
		}
	}
	if diff := cmp.Diff(wholeLife, seen); diff != "" {
		t.Errorf("%s saw: %s", key, diff)
	}
}
