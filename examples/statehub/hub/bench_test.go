package hub_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// connections is how many requests a client has under way at once.
const connections = 8

// BenchmarkPostEvent sends events over real connections, one request each, and
// reports how many of them are on the disk per second. The sender works on
// the same processors.
func BenchmarkPostEvent(b *testing.B) {
	r := newRig(b, hub.Options{})
	server := httptest.NewServer(r.hub)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	bodies := manyEvents(b, b.N)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range connections {
		all.Go(func() {
			for n := next.Add(1); n <= int64(len(bodies)); n = next.Add(1) {
				postTo(b, client, server.URL+"/v1/events", bodies[n-1])
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(len(bodies))/b.Elapsed().Seconds(), "events/s")
}

// manyEvents are bodies of n events of sandboxes that live eight events each.
func manyEvents(b *testing.B, n int) [][]byte {
	began := time.Now().Add(-time.Hour)
	var bodies [][]byte
	for i := 0; len(bodies) < n; i++ {
		l := newLife(idOf(i), began).by("shop", "worker", "sandboxer01")
		l.next.Estimate = &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 120_000}
		l.next.Reachability = &sandboxer.Reachability{Address: "local:", Project: idOf(i), Workdir: "/var/lib/sandboxer/sb/" + idOf(i) + "/src",
			Services: []sandboxer.Service{{Name: "api", Containers: []string{idOf(i) + "-api-1"}, State: "healthy", Ports: []sandboxer.Port{{Port: 8080}}}}}
		l.up(time.Minute).to(time.Minute, sandboxer.StateActive, sandboxer.ReasonActivated, "").
			to(time.Minute, sandboxer.StateReady, sandboxer.ReasonDeactivated, "").
			to(time.Minute, sandboxer.StateReady, sandboxer.ReasonExtended, "").down(time.Minute, sandboxer.ReasonConsumerRequest)
		for _, e := range l.made {
			bodies = append(bodies, []byte(encode(b, cloudEvent(e))))
		}
	}
	return bodies[:n]
}

func postTo(b *testing.B, client *http.Client, url string, body []byte) {
	resp, err := client.Post(url, cloudType, bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusAccepted {
		b.Errorf("%s, %v", resp.Status, err)
	}
}

// BenchmarkHandler is the hub's own share: no connections, one request after
// another, each synced alone.
func BenchmarkHandler(b *testing.B) {
	r := newRig(b, hub.Options{})
	bodies := manyEvents(b, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for _, body := range bodies {
		req := httptest.NewRequest("POST", "/v1/events", bytes.NewReader(body))
		req.Header.Set("Content-Type", cloudType)
		rec := httptest.NewRecorder()
		if r.hub.ServeHTTP(rec, req); rec.Code != http.StatusAccepted {
			b.Fatal(rec.Code, rec.Body)
		}
	}
}
