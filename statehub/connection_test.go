package statehub_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/statehub"
)

// TestIdleConnectionClosed: a hub closes connections that it was not asked on
// for a while. The next event finds that out and takes a new one.
func TestIdleConnectionClosed(t *testing.T) {
	leavesNothing(t)
	var conns, requests atomic.Int64
	s := newSink(t, eventsOnly(listen(t, func(c net.Conn) {
		conns.Add(1)
		r := bufio.NewReader(c)
		if first, err := http.ReadRequest(r); err != nil {
			return
		} else if _, err := io.Copy(io.Discard, first.Body); err != nil {
			return
		}
		requests.Add(1)
		fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		_, _ = r.ReadByte() // the second request begins: close without an answer
	})))
	for range 5 {
		wantVerdict(t, emit(t, s, ready()), taken)
	}
	if conns.Load() != 5 || requests.Load() != 5 {
		t.Errorf("%d connections and %d answers, want 5 of each", conns.Load(), requests.Load())
	}
}

// TestConnectionsAreReused, also after refusals and with bodies in the answers.
func TestConnectionsAreReused(t *testing.T) {
	var n atomic.Int64
	h := startHub(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) % 3 {
		case 0:
			http.Error(w, strings.Repeat("no ", 10000), http.StatusBadRequest)
		case 1:
			fmt.Fprint(w, `{"id":"x","duplicate":false}`)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	s := newSink(t, statehub.Config{URL: h.URL})
	for range 30 {
		_ = emit(t, s, ready())
	}
	if h.connections() != 1 {
		t.Errorf("%d connections for %d requests, want 1", h.connections(), n.Load())
	}
}

// TestConnectionsOfManySandboxes are kept for the next time.
func TestConnectionsOfManySandboxes(t *testing.T) {
	const sandboxes, rounds = 8, 5 // a client delivers so many at once
	arrived := make(chan struct{}, sandboxes)
	h := startHub(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		for len(arrived) < sandboxes { // so that none uses the connection of another
			time.Sleep(time.Millisecond)
		}
	})
	s := newSink(t, eventsOnly(h.URL))
	for range rounds {
		var all sync.WaitGroup
		for range sandboxes {
			all.Go(func() { _ = s.Emit(t.Context(), ready()) })
		}
		all.Wait()
		for range sandboxes {
			<-arrived
		}
	}
	if got := h.connections(); len(h.seen()) != sandboxes*rounds || got != sandboxes {
		t.Errorf("%d connections for %d requests, want %d", got, len(h.seen()), sandboxes)
	}
}

// TestClose ends the connections, so that the hub need not keep them.
func TestClose(t *testing.T) {
	leavesNothing(t)
	closed := make(chan struct{})
	s := newSink(t, eventsOnly(listen(t, func(c net.Conn) {
		readRequest(c)
		fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
		close(closed)
	})))
	wantVerdict(t, emit(t, s, ready()), taken)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection is still open")
	}
}
