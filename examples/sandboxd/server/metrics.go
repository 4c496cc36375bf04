package server

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// metrics are the server's own numbers.
type metrics struct {
	mu       sync.Mutex
	requests map[[2]string]int64 // by operation and status
	seconds  map[string]*histogram
	under    map[string]int // work under way, by kind
	works    map[[2]string]*histogram
}

func newMetrics() *metrics {
	return &metrics{requests: map[[2]string]int64{}, seconds: map[string]*histogram{}, under: map[string]int{}, works: map[[2]string]*histogram{}}
}

// bounds are the upper ends of the buckets, in seconds.
func bounds() []float64 {
	return []float64{0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 900}
}

type histogram struct {
	buckets []int64
	count   int64
	sum     float64
}

func (h *histogram) add(d time.Duration) {
	if h.buckets == nil {
		h.buckets = make([]int64, len(bounds()))
	}
	for i, most := range bounds() {
		if d.Seconds() <= most {
			h.buckets[i]++
		}
	}
	h.count++
	h.sum += d.Seconds()
}

func of[K comparable](all map[K]*histogram, key K) *histogram {
	if all[key] == nil {
		all[key] = &histogram{}
	}
	return all[key]
}

func (m *metrics) answered(operation string, status int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[[2]string{operation, strconv.Itoa(status)}]++
	of(m.seconds, operation).add(took)
}

func (m *metrics) began(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.under[kind]++
}

func (m *metrics) ended(kind string, err error, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.under[kind]--
	of(m.works, [2]string{kind, cmp.Or(sandboxer.Code(err), "done")}).add(took)
}

// getMetrics writes the numbers as Prometheus reads them.
func (s *Server) getMetrics(c *call) error {
	live, err := s.client.List(c.Request.Context(), sandboxer.Filter{States: living()})
	if err != nil {
		return err
	}
	states := map[sandboxer.State]int{}
	for _, sandbox := range live {
		states[sandbox.State]++
	}
	var out bytes.Buffer
	head(&out, "sandboxd_sandboxes", "gauge", "Sandboxes that are not destroyed, by state.")
	for _, state := range living() {
		fmt.Fprintf(&out, "sandboxd_sandboxes{state=%q} %d\n", state, states[state])
	}
	head(&out, "sandboxd_event_streams", "gauge", "Streams of events that are open.")
	fmt.Fprintf(&out, "sandboxd_event_streams %d\n", s.feed.streams())
	s.metrics.write(&out)
	s.send(c, c.operation.Answers[0].Type, http.StatusOK, out.Bytes())
	return nil
}

func head(out *bytes.Buffer, name, kind, about string) {
	fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, about, name, kind)
}

func (m *metrics) write(out *bytes.Buffer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	head(out, "sandboxd_work_in_progress", "gauge", "Creates, recreates and destroys under way.")
	for _, kind := range slices.Sorted(maps.Keys(m.under)) {
		fmt.Fprintf(out, "sandboxd_work_in_progress{kind=%q} %d\n", kind, m.under[kind])
	}
	pairs := func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }
	head(out, "sandboxd_requests_total", "counter", "Requests, by operation (none: of no operation) and status (499: the client left before an answer).")
	for _, k := range slices.SortedFunc(maps.Keys(m.requests), pairs) {
		fmt.Fprintf(out, "sandboxd_requests_total{operation=%q,status=%q} %d\n", k[0], k[1], m.requests[k])
	}
	head(out, "sandboxd_request_seconds", "histogram", "How long requests took, waiting and streaming included.")
	for _, k := range slices.Sorted(maps.Keys(m.seconds)) {
		m.seconds[k].write(out, "sandboxd_request_seconds", fmt.Sprintf("operation=%q", k))
	}
	head(out, "sandboxd_work_seconds", "histogram", "How long creates, recreates and destroys took, by outcome: done, or the code of the error.")
	for _, k := range slices.SortedFunc(maps.Keys(m.works), pairs) {
		m.works[k].write(out, "sandboxd_work_seconds", fmt.Sprintf("kind=%q,outcome=%q", k[0], k[1]))
	}
}

func (h *histogram) write(out *bytes.Buffer, name, labels string) {
	for i, most := range bounds() {
		fmt.Fprintf(out, "%s_bucket{%s,le=%q} %d\n", name, labels, strconv.FormatFloat(most, 'g', -1, 64), h.buckets[i])
	}
	fmt.Fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %d\n", name, labels, h.count)
	fmt.Fprintf(out, "%s_sum{%s} %g\n%s_count{%s} %d\n", name, labels, h.sum, name, labels, h.count)
}
