package statehub_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A request as the hub saw it.
type request struct {
	Method, Path string
	Header       http.Header
	Body         string
}

func (r request) String() string { return r.Method + " " + r.Path }

// A hub takes everything, unless answer says otherwise, and remembers it.
type hub struct {
	*httptest.Server
	answer http.HandlerFunc

	mu       sync.Mutex
	requests []request
	conns    int
}

// newHub is a hub that is not started yet.
func newHub(t *testing.T, answer http.HandlerFunc) *hub {
	t.Helper()
	h := &hub{answer: answer}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(h.serve))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.conns++
		}
	}
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return h
}

func startHub(t *testing.T, answer http.HandlerFunc) *hub {
	t.Helper()
	h := newHub(t, answer)
	h.Start()
	return h
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.requests = append(h.requests, request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header, Body: string(body)})
	h.mu.Unlock()
	if h.answer == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	h.answer(w, r)
}

func (h *hub) seen() []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]request{}, h.requests...)
}

// lines is what was seen, one request a line.
func (h *hub) lines() string {
	var b strings.Builder
	for _, r := range h.seen() {
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}

func (h *hub) connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns
}

// statuses answers by method, and 202 to methods that are not given.
func statuses(byMethod map[string]int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := byMethod[r.Method]
		if status == 0 {
			status = http.StatusAccepted
		}
		w.WriteHeader(status)
	}
}

// listen serves every connection with f, which owns it, until the test ends.
func listen(t *testing.T, f func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() { defer c.Close(); f(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + l.Addr().String()
}
