package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

// cuttable dials the engine over connections that can all be cut.
type cuttable struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cuttable) dial(ctx context.Context) (net.Conn, error) {
	conn, err := enginetest.Dial(ctx)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
}

func TestNoGoroutineOutlivesItsConnection(t *testing.T) {
	s := newSite(t)
	s.Close()
	before := runtime.NumGoroutine()
	for range 5 {
		for _, port := range []uint16{8080, 9001, 9003, 9004} {
			conn := s.mustDial(t, port)
			if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	}
	s.Close()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestServerSeesThatItsClientBrokeOff(t *testing.T) {
	s := newSite(t)
	link := &cuttable{}
	conn, err := relay.Dial(t.Context(), engine.New(link.dial), s.relay, netip.AddrPortFrom(s.addr, 9003))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("that is all"))); err != nil {
		t.Fatal(err)
	}
	link.cut()
	if got := s.heard(t); !strings.Contains(got, "reset") {
		t.Errorf("the server heard %s", got)
	}
	if _, err := conn.Write(make([]byte, 1)); err == nil {
		_, err = conn.Write(make([]byte, 1)) // the first write may be on its way when the break is noticed
		if err == nil {
			t.Error("written to nobody")
		}
	}
	s.awaitProcesses(t, 1)
}

func TestNoProcessOutlivesItsConnection(t *testing.T) {
	s := newSite(t)
	const silent, web = 9005, 8080
	for name, test := range map[string]struct {
		port uint16
		use  func(conn net.Conn)
	}{
		"unused":     {silent, func(net.Conn) {}},
		"half ended": {silent, func(conn net.Conn) { closeWrite(t, conn) }},
		"being sent to, and not reading": {web, func(conn net.Conn) {
			fmt.Fprintf(conn, "GET /bytes?n=100000000 HTTP/1.1\r\nHost: server\r\n\r\n")
			conn.Read(make([]byte, 1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.mustDial(t, test.port)
			s.awaitProcesses(t, 2)
			test.use(conn)
			time.Sleep(50 * time.Millisecond)
			s.awaitProcesses(t, 2)
			conn.Close()
			s.awaitProcesses(t, 1)
		})
	}
	t.Run("stuck at a server that takes nothing, once that is gone", func(t *testing.T) {
		conn := s.mustDial(t, 9005)
		if err := conn.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(conn, endless{})
		t.Logf("%d bytes fit on the way: %v", n, err)
		conn.Close()
		if err := s.RemoveContainer(t.Context(), s.server, engine.Removal{Force: true}); err != nil {
			t.Fatal(err)
		}
		s.awaitProcesses(t, 1)
	})
}

func TestTwoHundredConnectionsAtOnce(t *testing.T) {
	s := newSite(t)
	conns := make([]net.Conn, 200)
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() { conns[i] = s.mustDial(t, 9001) })
	}
	all.Wait()
	if t.Failed() {
		return
	}
	body := bytes.Repeat([]byte("x"), 100_000)
	for _, conn := range conns {
		all.Go(func() {
			go conn.Write(body)
			if _, err := io.ReadFull(conn, make([]byte, len(body))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var stats struct {
		Memory struct{ Usage, Limit int64 } `json:"memory_stats"`
		Pids   struct{ Current int64 }      `json:"pids_stats"`
	}
	s.Get("/containers/"+s.relay+"/stats?stream=false&one-shot=true", &stats)
	t.Logf("%d KiB of memory, of %d; %d threads", stats.Memory.Usage>>10, stats.Memory.Limit>>10, stats.Pids.Current)
	if 5*stats.Memory.Usage > 4*stats.Memory.Limit {
		t.Error("less than a fifth of the memory is left")
	}
	for _, conn := range conns {
		conn.Close()
	}
	s.awaitProcesses(t, 1)
}
