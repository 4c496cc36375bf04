package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

func TestOnlyTheRelayReachesAnIsolatedNetwork(t *testing.T) {
	s := newSite(t)
	open := s.Run(engine.ContainerSpec{
		Image: "sandboxer.local/test/server:" + s.ID, Cmd: []string{"serve"}, Network: s.Network("sandboxer-test-"+s.ID+"-open", nil),
	})
	details, err := s.InspectContainer(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range details.Networks {
		if err := directly(t, endpoint.IPv4); err != nil {
			t.Fatalf("a plain network: %v", err)
		}
	}

	if directly(t, s.addr) == nil {
		t.Error("the network is not isolated")
	}
	if got, want := get(t, s.http(t), "/hello"), "hello from server"; got != want {
		t.Errorf("through the relay: %q, want %q", got, want)
	}
}

// directly asks a server without the relay, for two seconds. That something accepts a connection is not enough: where
// all ways out lead through a proxy, something always does.
func directly(t *testing.T, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		host := netip.AddrPortFrom(addr, 8080).String()
		text, err := hello(ctx, client, host)
		if err == nil && text == "hello from "+host {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%q %v", text, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func hello(ctx context.Context, client *http.Client, host string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/hello", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	return string(text), err
}

func TestFiftyRequestsAtOnce(t *testing.T) {
	s := newSite(t)
	client := s.http(t)
	for range 2 { // the second time over kept connections
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := get(t, client, "/hello"); got != "hello from server" {
					t.Errorf("%q", got)
				}
			})
		}
		all.Wait()
	}
	client.CloseIdleConnections()
	s.awaitProcesses(t, 1)
}

// awaitProcesses waits until the relay has so many processes.
func (s *site) awaitProcesses(t *testing.T, want int) {
	t.Helper()
	var top struct{ Processes [][]string }
	for range 500 {
		s.Get("/containers/"+s.relay+"/top", &top)
		if len(top.Processes) == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the relay has not %d processes: %q", want, top.Processes)
}

func TestFiveMebibytesBothWays(t *testing.T) {
	s := newSite(t)
	client := s.http(t)
	body := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	resp, err := client.Post("http://server/hash", "", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("%x", sha256.Sum256(body)); err != nil || string(answer) != want {
		t.Errorf("up: %q %v, want %q", answer, err, want)
	}
	if got := get(t, client, fmt.Sprintf("/bytes?n=%d", len(body))); got != string(body) {
		t.Errorf("down: %d bytes, or not the same", len(got))
	}

	echo := s.mustDial(t, 9001)
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		if _, err := echo.Write(body); err != nil {
			t.Error(err)
		}
	})
	back := make([]byte, len(body))
	if _, err := io.ReadFull(echo, back); err != nil || !bytes.Equal(back, body) {
		t.Errorf("both at once: %v", err)
	}
}

func closeWrite(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

func TestEitherSideMayFinishFirst(t *testing.T) {
	s := newSite(t)
	asks := s.mustDial(t, 9002)
	if _, err := io.WriteString(asks, "question"); err != nil {
		t.Fatal(err)
	}
	closeWrite(t, asks)
	if _, err := asks.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
	answer, err := io.ReadAll(asks)
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte("question"))); err != nil || string(answer) != want {
		t.Errorf("the client first: %q %v, want %q", answer, err, want)
	}

	hears := s.mustDial(t, 9003)
	text, err := io.ReadAll(hears)
	if err != nil || string(text) != "that is all" {
		t.Fatalf("the server first: %q %v", text, err)
	}
	if _, err := hears.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	closeWrite(t, hears)
	if got, want := s.heard(t), "100000 <nil>"; got != want {
		t.Errorf("the server heard %s, want %s", got, want)
	}
	s.awaitProcesses(t, 1) // both ways have ended
}

// heard is what the server's port 9003 got last: how many bytes, and what error.
func (s *site) heard(t *testing.T) string {
	t.Helper()
	conn := s.mustDial(t, 9006)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	s := newSite(t)
	for range 10 {
		conn := s.mustDial(t, 9003)
		if _, err := conn.Read(make([]byte, 1)); err != nil { // and leave the rest
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, 300_000)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if _, err := conn.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if got, want := s.heard(t), "300000 <nil>"; got != want {
			t.Errorf("the server heard %s, want %s", got, want)
		}
	}
	s.awaitProcesses(t, 1)
}

func TestConnectionsThatAreNotMade(t *testing.T) {
	s := newSite(t)
	for name, test := range map[string]struct {
		addr netip.AddrPort
		want []error // any of them; engines differ in the routes they give and in how they switch IPv6 off
	}{
		"nobody listens":     {netip.AddrPortFrom(s.addr, 1), []error{relay.ErrRefused}},
		"nobody is there":    {netip.AddrPortFrom(unused(t, s), 8080), []error{relay.ErrNoRoute}},
		"another network":    {netip.MustParseAddrPort("198.51.100.1:80"), []error{relay.ErrUnreachable, relay.ErrNoRoute}},
		"no IPv6":            {netip.MustParseAddrPort("[2001:db8::1]:80"), nil},
		"IPv4 in IPv6 dress": {netip.AddrPortFrom(netip.AddrFrom16(s.addr.As16()), 1), []error{relay.ErrRefused}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			conn, err := relay.Dial(ctx, s.Client, s.relay, test.addr)
			if err == nil {
				conn.Close()
			}
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" || op.Addr.(*net.TCPAddr).Port != int(test.addr.Port()) {
				t.Errorf("%v is no dial error", err)
			}
			if test.want != nil && !slices.ContainsFunc(test.want, func(want error) bool { return errors.Is(err, want) }) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
	for _, addr := range []netip.AddrPort{{}, netip.MustParseAddrPort("[fe80::1%eth0]:80")} {
		if _, err := relay.Dial(t.Context(), s.Client, s.relay, addr); err == nil || !strings.Contains(err.Error(), "address") {
			t.Errorf("%v: %v", addr, err)
		}
	}
	s.awaitProcesses(t, 1)
}

// unused is an address of the site's network that nobody has.
func unused(t *testing.T, s *site) netip.Addr {
	t.Helper()
	network, err := s.InspectNetwork(t.Context(), s.network)
	if err != nil {
		t.Fatal(err)
	}
	addr := s.addr
	for range 10 {
		addr = addr.Next()
	}
	if !network.Subnets[0].Contains(addr) {
		t.Fatalf("%v is not in %v", addr, network.Subnets[0])
	}
	return addr
}

func TestWithoutARelayTheErrorIsTheEngines(t *testing.T) {
	s := newSite(t)
	addr := netip.AddrPortFrom(s.addr, 8080)
	if _, err := relay.Dial(t.Context(), s.Client, "sandboxer-test-none", addr); !engine.IsNotFound(err) {
		t.Errorf("no such container: %v", err)
	}
	if _, err := relay.Dial(t.Context(), s.Client, s.server, addr); err == nil || !strings.Contains(err.Error(), "/relay") {
		t.Errorf("no relay in the container: %v", err)
	}
	if err := s.StopContainer(t.Context(), s.relay, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.Dial(t.Context(), s.Client, s.relay, addr); !engine.IsConflict(err) {
		t.Errorf("a stopped relay: %v", err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	s := newSite(t)
	for _, patience := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 300 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begin := time.Now()
		_, err := relay.Dial(ctx, s.Client, s.relay, netip.AddrPortFrom(unused(t, s), 80)) // silent for seconds
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", patience, err)
		}
		if took := time.Since(begin); took > patience+time.Second {
			t.Errorf("after %v: took %v", patience, took)
		}
	}
	s.awaitProcesses(t, 1)
}

func TestBrokenConnectionsAreNotAnEnd(t *testing.T) {
	t.Run("the server resets", func(t *testing.T) {
		s := newSite(t)
		conn := s.mustDial(t, 9004)
		if _, err := io.WriteString(conn, "?"); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); !errors.Is(err, relay.ErrReset) {
			t.Errorf("%q %v", text, err)
		}
		if _, err := conn.Write([]byte("?")); !errors.Is(err, relay.ErrReset) {
			t.Errorf("write: %v", err)
		}
		s.awaitProcesses(t, 1)
	})
	t.Run("the server resets while being written to", func(t *testing.T) {
		s := newSite(t)
		for range 10 {
			conn := s.mustDial(t, 9004)
			go io.Copy(conn, endless{})
			if text, err := io.ReadAll(conn); !errors.Is(err, relay.ErrReset) {
				t.Errorf("%q %v", text, err)
			}
			conn.Close()
		}
		s.awaitProcesses(t, 1)
	})
	t.Run("the server dies", func(t *testing.T) {
		s := newSite(t)
		resp, err := s.http(t).Get("http://server/die")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%d bytes and no error", len(text))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if conn, err := s.dial(ctx, 8080); err == nil {
			conn.Close()
			t.Error("connected to what is gone")
		}
	})
	t.Run("the relay is killed", func(t *testing.T) {
		s := newSite(t)
		conn := s.mustDial(t, 9001)
		if err := s.KillContainer(t.Context(), s.relay, "SIGKILL"); err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q %v", text, err)
		}
		if _, err := conn.Write([]byte("?")); err == nil {
			t.Error("written to nobody")
		}
	})
}

// endless is an input that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestDeadlines(t *testing.T) {
	s := newSite(t)
	conn := s.mustDial(t, 9001)
	isTimeout := func(what string, err error) {
		t.Helper()
		var network net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &network) || !network.Timeout() {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), "pipe") || !strings.HasSuffix(err.Error(), ": i/o timeout") {
			t.Errorf("%s: said as %q", what, err)
		}
	}
	set := func(f func(time.Time) error, after time.Duration) {
		t.Helper()
		if err := f(time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	one := make([]byte, 1)

	set(conn.SetReadDeadline, 50*time.Millisecond)
	_, err := conn.Read(one)
	isTimeout("read", err)
	set(conn.SetDeadline, -time.Second)
	_, err = conn.Write(one)
	isTimeout("write", err)
	_, err = conn.Read(one)
	isTimeout("read", err)

	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(one); err != nil || one[0] != 'x' {
		t.Errorf("after the deadline: %q %v", one, err)
	}

	deaf := s.mustDial(t, 9005)
	set(deaf.SetWriteDeadline, 2*time.Second)
	_, err = io.Copy(deaf, endless{})
	isTimeout("write to a server that does not read", err)

	client := s.http(t)
	client.Timeout = 200 * time.Millisecond
	begin := time.Now()
	if _, err := client.Get("http://server/slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow answer: %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("slow answer: took %v", took)
	}
}

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

func BenchmarkDial(b *testing.B) {
	s := newSite(b)
	for b.Loop() {
		conn, err := s.dial(b.Context(), 9001)
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	s := newSite(b)
	conn := s.mustDial(b, 9001)
	one := make([]byte, 1)
	for b.Loop() {
		if _, err := conn.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(one); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownload(b *testing.B) {
	s := newSite(b)
	client := s.http(b)
	const size = 16 << 20
	b.SetBytes(size)
	for b.Loop() {
		resp, err := client.Get(fmt.Sprintf("http://server/bytes?n=%d", size))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}
