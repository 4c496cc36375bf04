package statehub_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// No test of this package is parallel: some count goroutines and bytes.

// TestHugeAnswer: a body of 1 GiB costs neither memory nor time.
func TestHugeAnswer(t *testing.T) {
	const size, chunk = 1 << 30, 1 << 20
	data := bytes.Repeat([]byte("x"), chunk)
	for _, test := range []struct {
		name   string
		status int
		length bool
		want   verdict
	}{
		{"taken", 202, false, taken}, {"taken, its length told", 202, true, taken},
		{"failed", 500, false, retried}, {"failed, its length told", 500, true, retried},
		{"refused", 422, false, refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			leavesNothing(t)
			var written atomic.Int64
			h := startHub(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.length {
					w.Header().Set("Content-Length", fmt.Sprint(size))
				}
				w.WriteHeader(test.status)
				for written.Load() < size {
					n, err := w.Write(data)
					written.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
			s := newSink(t, eventsOnly(h.URL))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var err error
			took := wantWithin(t, 2*time.Second, func() { err = emit(t, s, ready()) })
			runtime.ReadMemStats(&after)
			wantVerdict(t, err, test.want)
			allocated := after.TotalAlloc - before.TotalAlloc
			if allocated > 2<<20 {
				t.Errorf("%d bytes were allocated for an answer of which 64 KiB are read", allocated)
			}
			if n := written.Load(); n > 64<<20 {
				t.Errorf("the hub could send %d bytes", n)
			}
			t.Logf("%v, %d KiB allocated, %d KiB sent by the hub", took.Round(time.Microsecond), allocated>>10, written.Load()>>10)
		})
	}
}

// TestHostileHubs: whatever happens on the connection, Emit ends in time, says
// what is to be done, and leaves nothing.
func TestHostileHubs(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, test := range map[string]struct {
		serve func(net.Conn)
		want  verdict
		says  string
		most  time.Duration // 0: at once
	}{
		"never answers":           {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, retried, "no answer in 300ms", timeout},
		"never reads":             {func(c net.Conn) { wait(t) }, retried, "no answer in 300ms", timeout},
		"closes":                  {func(c net.Conn) {}, retried, "", 0},
		"closes after the header": {func(c net.Conn) { readRequest(c) }, retried, "EOF", 0},
		"resets":                  {func(c net.Conn) { readRequest(c); reset(c) }, retried, "reset", 0},
		"does not speak HTTP":     {func(c net.Conn) { readRequest(c); fmt.Fprintf(c, "220-\x1b[31m%s\r\n", strings.Repeat("m", 2000)) }, retried, "malformed HTTP", 0},
		"begins the header only": {func(c net.Conn) {
			readRequest(c)
			drip(c, "HTTP/1.1 202 Accepted\r\nX-Long: ")
		}, retried, "no answer in 300ms", timeout},
		"has an endless header": {func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\n")
			for line := "X-A: " + strings.Repeat("a", 1000) + "\r\n"; ; {
				if _, err := io.WriteString(c, line); err != nil {
					return
				}
			}
		}, retried, "exceeded", 0},
		"says continue for ever": {func(c net.Conn) {
			readRequest(c)
			for {
				if _, err := fmt.Fprint(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
					return
				}
			}
		}, retried, "", timeout},
		"switches protocols": {func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, retried, "101 Switching Protocols", timeout},
		"drips a body after taking": {func(c net.Conn) {
			readRequest(c)
			drip(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 100000\r\n\r\n")
		}, taken, "", timeout},
		"drips a body after failing": {func(c net.Conn) {
			readRequest(c)
			drip(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100000\r\n\r\nout of disk")
		}, retried, "503 Service Unavailable: out of disk", timeout},
		"resets after taking": {func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 100000\r\n\r\nhalf")
			reset(c)
		}, taken, "", 0},
		"breaks off a chunk after taking": {func(c net.Conn) {
			readRequest(c)
			fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhalf")
		}, taken, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			cfg := eventsOnly(listen(t, test.serve))
			cfg.Timeout = sandboxer.Duration(timeout)
			s := newSink(t, cfg)
			var err error
			wantWithin(t, test.most+time.Second, func() { err = emit(t, s, ready()) })
			wantVerdict(t, err, test.want)
			if err == nil {
				return
			}
			text := err.Error()
			if !strings.Contains(text, test.says) {
				t.Errorf("the error %q does not say %q", text, test.says)
			}
			if len(text) > 400 || strings.ContainsAny(text, "\x1b\r\n") {
				t.Errorf("the error is not one short line: %q", text)
			}
		})
	}
}

// TestDripPatience: a body that never ends is not waited for until the timeout.
func TestDripPatience(t *testing.T) {
	leavesNothing(t)
	s := newSink(t, eventsOnly(listen(t, func(c net.Conn) {
		readRequest(c)
		drip(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 100000\r\n\r\n")
	})))
	took := wantWithin(t, 2*time.Second, func() { wantVerdict(t, emit(t, s, ready()), taken) })
	t.Log(took)
}

func TestNobodyListens(t *testing.T) {
	leavesNothing(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := newSink(t, eventsOnly("http://"+l.Addr().String()))
	wantVerdict(t, emit(t, s, ready()), retried)
}

// wait holds a connection open until the test ends, or a little longer than it needs.
func wait(t *testing.T) {
	select {
	case <-t.Context().Done():
	case <-time.After(2 * time.Second):
	}
}

func readRequest(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// reset closes c such that the other side is told of an error.
func reset(c net.Conn) {
	time.Sleep(20 * time.Millisecond) // what was written arrives first
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// drip writes the beginning at once and then a byte now and then, until nobody reads.
func drip(c net.Conn, beginning string) {
	_, err := io.WriteString(c, beginning)
	for err == nil {
		time.Sleep(20 * time.Millisecond)
		_, err = io.WriteString(c, "x")
	}
}

// echo answers with what it was sent.
func echo(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(c, "%s\r\n\r\n", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}
}
