//go:build linux || darwin

package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// listenTo serves connections with f until the test ends. The address is a
// socket's path if network is "unix".
func listenTo(t *testing.T, network string, f func(net.Conn)) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = socketPath(t)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	return l.Addr().String()
}

// echo sends back what it gets, and after its end says goodbye.
func echo(c net.Conn) {
	defer c.Close()
	io.Copy(c, c)
	io.WriteString(c, "bye")
}

// dialers are the ways to a service on a host: each starts f there and returns
// how to connect to it. The exec way needs f to be echo.
func dialers(t *testing.T, h Host, f func(net.Conn)) map[string]func() (net.Conn, error) {
	t.Helper()
	unix, tcp := listenTo(t, "unix", f), netip.MustParseAddrPort(listenTo(t, "tcp", f))
	return map[string]func() (net.Conn, error){
		"unix": func() (net.Conn, error) { return h.DialUnix(t.Context(), unix) },
		"tcp":  func() (net.Conn, error) { return h.DialTCP(t.Context(), tcp) },
	}
}

func testConnectionsCarryBytesBothWays(t *testing.T, h Host) {
	ways := dialers(t, h, echo)
	ways["exec"] = func() (net.Conn, error) {
		return h.DialExec(t.Context(), Command{Script: "cat; printf %s \"$last\"", Vars: map[string]string{"last": "bye"}})
	}
	for name, dial := range ways {
		t.Run(name, func(t *testing.T) {
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			data := bytes.Repeat([]byte("\x00\xff\r\n binary"), 300_000)
			go func() {
				c.Write(data)
				c.(interface{ CloseWrite() error }).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, append(data, "bye"...)) {
				t.Errorf("%d bytes came back of %d and a goodbye, error %v", len(got), len(data), err)
			}
			if name != "exec" && c.RemoteAddr().Network() != name {
				t.Errorf("remote address %v", c.RemoteAddr())
			}
		})
	}
}

func testOutputOfAnEndedScriptIsNotLost(t *testing.T, h Host) {
	c, err := h.DialExec(t.Context(), Command{Script: "head -c 60000 /dev/zero"}) // fits into a pipe
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.Sleep(200 * time.Millisecond)
	if got, err := io.ReadAll(c); len(got) != 60000 || err != nil {
		t.Errorf("read %d of 60000 bytes, %v", len(got), err)
	}
}

func testConnectionsAreNetConns(t *testing.T, h Host) {
	received := make(chan string, 10)
	silent := func(c net.Conn) {
		got, _ := io.ReadAll(c)
		received <- string(got)
		c.Close()
	}
	for name, dial := range dialers(t, h, silent) {
		t.Run(name, func(t *testing.T) {
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, err = c.Read(make([]byte, 1))
			var netErr net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &netErr) || !netErr.Timeout() || time.Since(start) > time.Second {
				t.Errorf("read deadline: %v after %v", err, time.Since(start))
			}
			c.SetDeadline(time.Time{})

			blocked := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				blocked <- err
			}()
			time.Sleep(20 * time.Millisecond)
			if _, err := c.Write([]byte("last words")); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := <-blocked; !errors.Is(err, net.ErrClosed) {
				t.Errorf("a read that Close ended: %v", err)
			}
			if got := <-received; got != "last words" {
				t.Errorf("the peer got %q of what was written before Close", got)
			}
			_, readErr := c.Read(make([]byte, 1))
			_, writeErr := c.Write([]byte("x"))
			for what, err := range map[string]error{"read": readErr, "write": writeErr, "second close": c.Close()} {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s after Close: %v", what, err)
				}
			}
		})
	}
}

func testWhatWasWrittenArrivesAfterClose(t *testing.T, h Host) {
	listen, received := make(chan struct{}), make(chan int64, 1)
	late := func(c net.Conn) {
		<-listen
		n, _ := io.Copy(io.Discard, c)
		received <- n
		c.Close()
	}
	for name, dial := range dialers(t, h, late) {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		// Write until everything on the way is full.
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		written, err := io.Copy(c, neverEnding{})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: write deadline: %v", name, err)
		}
		c.Close()
		listen <- struct{}{}
		if got := <-received; got != written {
			t.Errorf("%s: %d of %d bytes arrived", name, got, written)
		}
	}
}

func TestConnectionsNeedNoSession(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{"MaxSessions 1"}})
	h := connect(t, server)
	started, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go h.Run(ctx, Command{Script: "echo; exec sleep 60", Stdout: w})
	started.Read(make([]byte, 1))

	path := listenTo(t, "unix", echo)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			c, err := h.DialUnix(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "connection %d", i)
			c.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(c); string(got) != fmt.Sprintf("connection %dbye", i) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	all.Wait()
	if server.Connections() != 1 {
		t.Errorf("%d connections, want 1", server.Connections())
	}
}

func testHTTPOverASocket(t *testing.T, h Host) {
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/never" {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "hello")
	})}
	go server.Serve(l)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.DialUnix(ctx, path) },
	}}
	defer client.CloseIdleConnections()
	for range 3 {
		r, err := client.Get("http://engine/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if r.Body.Close(); string(body) != "hello" || err != nil {
			t.Errorf("got %q, %v", body, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", "http://engine/never", nil)
	if _, err := client.Do(request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request nobody answers: %v", err)
	}
}

func TestForwardingRefused(t *testing.T) {
	t.Parallel()
	for name, config := range map[string][]string{
		"each":           {"AllowTcpForwarding no", "AllowStreamLocalForwarding no"},
		"all forwarding": {"DisableForwarding yes"},
	} {
		t.Run(name, func(t *testing.T) {
			h := connect(t, sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: config}))
			for way, dial := range dialers(t, h, echo) {
				_, err := dial()
				var opErr *net.OpError
				if !errors.Is(err, ErrForwardingRefused) || !errors.As(err, &opErr) || opErr.Net != way || Temporary(err) {
					t.Errorf("%s: %v, want ErrForwardingRefused", way, err)
				}
			}
			// This is what the caller can do instead.
			c, err := h.DialExec(t.Context(), Command{Script: "exec cat"})
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		})
	}
}

func testNothingListens(t *testing.T, h Host) {
	mustRun(t, h, Command{Script: ":"})
	if _, err := h.DialUnix(t.Context(), "/no/such/socket"); err == nil || Temporary(err) {
		t.Errorf("unix: %v", err)
	}
	_, err := h.DialTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"))
	if err == nil || errors.Is(err, ErrForwardingRefused) || !strings.Contains(strings.ToLower(err.Error()), "connection refused") {
		t.Errorf("tcp: %v, want connection refused", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.DialTCP(ctx, netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Error("a context that had ended was no hindrance")
	}
}

func testDialExecOfAScriptThatFails(t *testing.T, h Host) {
	c, err := h.DialExec(t.Context(), Command{Script: "printf early; yes | head -n 20000 >&2; echo no such engine >&2; exit 3"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if string(got) != "early" || err == nil || !strings.Contains(err.Error(), "status 3: ") || !strings.HasSuffix(err.Error(), "no such engine") {
		t.Errorf("read %q, %v; want what the script said", got, err)
	}
	if _, err := h.DialExec(t.Context(), Command{Script: "\x00"}); err == nil {
		t.Error("a script with NUL was taken")
	}
}

func testClosingAnExecConnectionEndsItsScript(t *testing.T, h Host) {
	scripts := map[string]string{
		"that reads":          `sh -c 'echo $$ >"$1"; cat >/dev/null' sh "$pid"`,
		"that does not":       `sh -c 'echo $$ >"$1"; while echo; do sleep 0.1; done' sh "$pid"`,
		"that becomes a tool": `echo $$ >"$pid"; exec cat`,
	}
	dir := t.TempDir()
	for name, script := range scripts {
		pid := filepath.Join(dir, name)
		c, err := h.DialExec(t.Context(), Command{Script: script, Vars: map[string]string{"pid": pid}})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the script is under way", exists(pid))
		c.Close()
	}
	for name := range scripts {
		eventually(t, "the script "+name+" ends", func() bool { return !alive(t, filepath.Join(dir, name)) })
	}
}

func TestLostLinkIsNotTheEndOfTheData(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	for _, way := range []string{"unix", "tcp", "exec"} {
		h, proxy := through(t, server, SSHConfig{})
		ways := dialers(t, h, echo)
		ways["exec"] = func() (net.Conn, error) { return h.DialExec(t.Context(), Command{Script: "exec cat"}) }
		c, err := ways[way]()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "half")
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		proxy.Cut()
		if n, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF || !strings.Contains(err.Error(), "connection lost") {
			t.Errorf("%s: read %d bytes, %v; want that the connection was lost", way, n, err)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Errorf("%s: a write on a lost link succeeded", way)
		}
		c.Close()
	}
}

func closedErrors(t *testing.T, h Host) {
	t.Helper()
	_, err := h.Run(t.Context(), Command{})
	_, errExec := h.DialExec(t.Context(), Command{Script: "cat"})
	_, errUnix := h.DialUnix(t.Context(), "/nowhere")
	_, errTCP := h.DialTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"))
	for name, err := range map[string]error{"Run": err, "DialExec": errExec, "DialUnix": errUnix, "DialTCP": errTCP} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v, want net.ErrClosed", name, err)
		}
	}
}
