package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// asCommand makes the test binary be the command itself, so that a whole
// process can be killed.
const asCommand = "STATEHUB_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "1" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestKill: whatever was acknowledged before the hub was killed is there afterwards.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	cmd := exec.Command(os.Args[0], "--addr", "127.0.0.1:0", "--db", path)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := address(t, out)
	const senders, before = 8, 300
	acknowledged := make([][]string, senders)
	enough := make(chan struct{})
	var total, all sync.WaitGroup
	total.Add(senders)
	for i := range senders {
		all.Go(func() {
			for n := 0; ; n++ {
				if n == before/senders {
					total.Done()
				}
				sandbox := fmt.Sprintf("s%d-%d", i, n)
				if status, err := post(url, sandbox); err != nil || status != http.StatusAccepted {
					return // killed
				}
				acknowledged[i] = append(acknowledged[i], sandbox)
			}
		})
	}
	go func() { total.Wait(); close(enough) }()
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Error("the hub takes too little")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	all.Wait()
	h, err := hub.Open(t.Context(), path, hub.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	lost, kept := 0, 0
	for _, sandboxes := range acknowledged {
		for _, sandbox := range sandboxes {
			if has(t, h, sandbox) {
				kept++
			} else {
				lost++
			}
		}
	}
	if lost > 0 || kept < before-senders {
		t.Errorf("%d acknowledged events are lost, %d kept", lost, kept)
	}
	t.Logf("%d events acknowledged before the kill, all kept", kept)
}

// has asks the hub for a sandbox.
func has(t *testing.T, h *hub.Hub, sandbox string) bool {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/v1/sandboxes/"+sandbox, nil))
	return rec.Code == http.StatusOK
}
