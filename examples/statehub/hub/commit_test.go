package hub

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func openHub(t *testing.T) *Hub {
	t.Helper()
	h, err := Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

const small = `{"specversion":"1.0","id":"a-1","source":"s","type":"dev.sandboxer.sandbox.requested","subject":"a","time":"2026-01-31T12:00:00Z",
	"data":{"id":"a-1","seq":1,"time":"2026-01-31T12:00:00Z","sandbox_id":"a","state":"requested","reason":"requested","message":"MESSAGE"}}`

func post(h *Hub, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/v1/events", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/cloudevents+json")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

// TestFullDisk: what cannot be stored is not acknowledged, the sender is told
// to come back, and then it is taken.
func TestFullDisk(t *testing.T) {
	h := openHub(t)
	large := strings.Replace(small, "MESSAGE", strings.Repeat("x", 500_000), 1)
	limit := func(pages string) {
		t.Helper()
		if _, err := h.store.writer.db.Exec("PRAGMA max_page_count = " + pages); err != nil {
			t.Fatal(err)
		}
	}
	limit("20")
	for range 2 {
		rec := post(h, large)
		if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") != "1" || strings.Contains(rec.Body.String(), "full") {
			t.Errorf("a full disk: %d, Retry-After %q, %s", rec.Code, rec.Header().Get("Retry-After"), rec.Body)
		}
	}
	limit("100000")
	if rec := post(h, large); rec.Code != http.StatusAccepted {
		t.Errorf("with space again: %d %s", rec.Code, rec.Body)
	}
}

// TestRequestsShareTransactions: those that wait while one transaction is
// under way are in the next one, all of them.
func TestRequestsShareTransactions(t *testing.T) {
	h := openHub(t)
	w := h.store.writer
	w.turn <- struct{}{} // a transaction is under way
	const requests = 20
	seen := make([]*transaction, requests)
	var all sync.WaitGroup
	for i := range requests {
		all.Go(func() {
			if err := w.commit(func(t *transaction) error { seen[i] = t; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := 0; waiting < requests; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		waiting = len(w.waiting)
		w.mu.Unlock()
	}
	<-w.turn
	all.Wait()
	for i, t1 := range seen {
		if t1 == nil || t1 != seen[0] {
			t.Errorf("request %d has a transaction of its own", i)
		}
	}
}
