package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
)

func TestVersionIsTheNewestBothSpeak(t *testing.T) {
	for _, test := range []struct {
		newest, oldest int
		want           string // in the path, or in the error
	}{
		{41, 12, "/v1.41/info"},
		{47, 24, "/v1.47/info"},
		{52, 44, "/v1.52/info"},
		{70, 44, "/v1.56/info"},
		{40, 12, "1.40"},
		{90, 60, "Minimum supported API version is 1.60"},
	} {
		t.Run(fmt.Sprintf("1.%d", test.newest), func(t *testing.T) {
			var path atomic.Value
			f := start(t, map[string]http.HandlerFunc{"/info": func(w http.ResponseWriter, r *http.Request) {
				path.Store(r.URL.Path)
				io.WriteString(w, "{}")
			}})
			f.newest, f.oldest = test.newest, test.oldest
			_, err := f.client(t, engine.Limits{}).Info(t.Context())
			if strings.HasPrefix(test.want, "/") {
				if err != nil || path.Load() != test.want {
					t.Errorf("asked for %v (%v), want %s", path.Load(), err, test.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			if old := test.newest < 41; errors.Is(err, engine.ErrTooOld) != old {
				t.Errorf("too old is %v: %v", !old, err)
			}
		})
	}
}

func TestManyFirstCallsNegotiateOnce(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{"/info": says(`{"NCPU":2}`)})
	c := f.client(t, engine.Limits{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if info, err := c.Info(t.Context()); err != nil || info.NCPU != 2 {
				t.Errorf("%+v %v", info, err)
			}
		})
	}
	all.Wait()
	if n := f.pings.Load(); n != 1 {
		t.Errorf("%d negotiations", n)
	}
}

func TestReplacedEngineIsNegotiatedWithAnew(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{"/info": says(`{"NCPU":2}`)})
	c := f.client(t, engine.Limits{})
	for _, versions := range [][2]int{{41, 12}, {52, 44}, {45, 24}} {
		f.newest, f.oldest = versions[0], versions[1]
		if _, err := c.Info(t.Context()); err != nil {
			t.Errorf("engine of %v: %v", versions, err)
		}
	}
}

func TestWaitingForANegotiationEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	c := engine.New(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestUnreachableIsNoAnswerOfTheEngine(t *testing.T) {
	for name, test := range map[string]struct {
		client *engine.Client
		cause  error
	}{
		"nobody listens": {engine.New(func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", t.TempDir()+"/none.sock")
		}), syscall.ENOENT},
		"dial fails":        {engine.New(func(context.Context) (net.Conn, error) { return nil, errBroken }), errBroken},
		"closed at once":    {breaking(t, ""), io.EOF},
		"noise":             {breaking(t, "Welcome to this machine!\r\n\r\n"), nil},
		"half an answer":    {breaking(t, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 90\r\n\r\n{"), io.ErrUnexpectedEOF},
		"half a header":     {breaking(t, "HTTP/1.1 200 OK\r\nApi-Ver"), nil},
		"half a chunk":      {breaking(t, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n90\r\n{"), io.ErrUnexpectedEOF},
		"chunks, no ending": {breaking(t, "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"), io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.client.Info(t.Context())
			if !errors.Is(err, engine.ErrUnreachable) || hasType[*engine.Error](err) {
				t.Errorf("info: %v", err)
			}
			if test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("info: %v does not wrap %v", err, test.cause)
			}
			if found, err := test.client.Objects(t.Context(), "a=b"); !errors.Is(err, engine.ErrUnreachable) || found != nil {
				t.Errorf("objects: %v %v", found, err)
			}
			if _, err := test.client.Exec(t.Context(), "x", "y"); !errors.Is(err, engine.ErrUnreachable) {
				t.Errorf("exec: %v", err)
			}
		})
	}
}

func TestLimitsBoundConnections(t *testing.T) {
	slow := func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Millisecond)
		io.WriteString(w, "{}")
	}
	f := start(t, map[string]http.HandlerFunc{"/info": slow})
	c := f.client(t, engine.Limits{Conns: 3, Idle: 2})
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if _, err := c.Info(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := f.most.Load(); n != 3 {
		t.Errorf("%d connections at once", n)
	}
	eventually(t, "two connections are kept", func() bool { return f.connections.Load() == 2 })
	c.Close()
	eventually(t, "none is kept", func() bool { return f.connections.Load() == 0 })
}

func TestCancelledCallClosesItsConnection(t *testing.T) {
	for name, answer := range map[string]string{"before the answer": "", "in the answer": "{"} {
		t.Run(name, func(t *testing.T) {
			f := start(t, map[string]http.HandlerFunc{"/info": func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, answer)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			c := f.client(t, engine.Limits{})
			if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, engine.ErrUnreachable) {
				t.Error(err)
			}
			eventually(t, "the connection is closed", func() bool { return f.connections.Load() == 0 })
		})
	}
}

// stubborn is a connection that cannot be closed for now, like a channel of an SSH connection whose buffers are full.
type stubborn struct {
	net.Conn
	closable chan struct{}
}

func (s stubborn) Close() error {
	<-s.closable
	return s.Conn.Close()
}

func TestCallsDoNotWaitForTheirConnectionToClose(t *testing.T) {
	answers := execing(piece(1, "half")[:10])
	answers["/info"] = func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "{")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	f := start(t, answers)
	closable := make(chan struct{})
	defer close(closable)
	c := engine.New(func(ctx context.Context) (net.Conn, error) {
		conn, err := f.dial(ctx)
		return stubborn{conn, closable}, err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Info(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	process, err := c.Exec(t.Context(), "c1", "command")
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Close(); err != nil {
		t.Error(err)
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	answers := execing(piece(1, "output"))
	answers["/info"] = says("{}")
	f := start(t, answers)
	before := runtime.NumGoroutine()
	c := f.client(t, engine.Limits{})
	for range 10 {
		if _, err := c.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		process, err := c.Exec(t.Context(), "c1", "command")
		if err != nil {
			t.Fatal(err)
		}
		process.Close()
	}
	c.Close()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestDeadKeptConnectionIsNotNoticed(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{
		"/info":       says(`{"NCPU":2}`),
		"/volumes/v1": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
	})
	c := f.client(t, engine.Limits{})
	for range 20 {
		if _, err := c.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.server.CloseClientConnections()
		if err := c.RemoveVolume(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
}
