//go:build linux || darwin

package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

func TestManyRunsShareOneConnection(t *testing.T) {
	t.Parallel()
	for _, maxSessions := range []int{10, 2, 1} {
		t.Run(fmt.Sprintf("MaxSessions %d", maxSessions), func(t *testing.T) {
			server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{fmt.Sprintf("MaxSessions %d", maxSessions)}})
			h := connect(t, server)
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					want := fmt.Sprintf("run %d\n", i)
					r, err := h.Run(t.Context(), Command{Script: `echo "run $i"`, Vars: map[string]string{"i": fmt.Sprint(i)}})
					if err != nil || string(r.Stdout) != want {
						t.Errorf("%q, %v; want %q", r.Stdout, err, want)
					}
				})
			}
			all.Wait()
			if server.Connections() != 1 || server.Logins() != 1 {
				t.Errorf("%d connections, %d logins; want one", server.Connections(), server.Logins())
			}
			// A refusal is an error in the host's log. There are to be few, and
			// none once it is known how many sessions the host allows.
			if n := strings.Count(server.Log(), "no more sessions"); n > 20 {
				t.Errorf("%d sessions were refused", n)
			}
		})
	}
}

func TestCanceledRunFreesTheOnlySession(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{"MaxSessions 1"}})
	h := connect(t, server)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := h.Run(ctx, Command{Script: "exec sleep 60"})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		start := time.Now()
		mustRun(t, h, Command{Script: ":"})
		if took := time.Since(start); took > time.Second {
			t.Errorf("the next run waited %v for a session", took)
		}
	}
	// Waiting for a session ends with the context, too.
	started, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go h.Run(ctx, Command{Script: "echo; exec sleep 60", Stdout: w})
	started.Read(make([]byte, 1))
	impatient, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := h.Run(impatient, Command{Script: ":"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another holds the only session: %v", err)
	}
}

func TestHostWithoutSessions(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{"MaxSessions 0"}})
	cfg := configFor(server)
	cfg.ConnectTimeout = 500 * time.Millisecond
	h := open(t, cfg)
	if _, err := h.Run(t.Context(), Command{}); !errors.Is(err, ErrNoSession) || !Temporary(err) {
		t.Errorf("got %v, want ErrNoSession", err)
	}
}

func TestBrokenLinkInterruptsAndTheNextRunRedials(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	tests := map[string]struct {
		breakLink func(*sshtest.Proxy)
		input     io.Reader
	}{
		"reset":           {breakLink: (*sshtest.Proxy).Reset},
		"cut":             {breakLink: (*sshtest.Proxy).Cut},
		"cut, with input": {breakLink: (*sshtest.Proxy).Cut, input: strings.NewReader("unread")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, proxy := through(t, server, SSHConfig{})
			pid := filepath.Join(t.TempDir(), "pid")
			done := make(chan error, 1)
			go func() {
				_, err := h.Run(t.Context(), Command{
					Script: `sh -c 'echo $$ >"$1"; exec sleep 60' sh "$pid"`,
					Vars:   map[string]string{"pid": pid}, Stdin: tt.input,
				})
				done <- err
			}()
			eventually(t, "the script is under way", exists(pid))
			tt.breakLink(proxy)
			if err := <-done; !errors.Is(err, ErrInterrupted) || !Temporary(err) {
				t.Errorf("got %v, want ErrInterrupted", err)
			} else if name == "reset" && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%v does not say why", err)
			}
			eventually(t, "the script ends with its link", func() bool { return !alive(t, pid) })

			mustRun(t, h, Command{Script: ":"})
			if proxy.Opened() != 2 {
				t.Errorf("%d connections, want the broken one and another", proxy.Opened())
			}
			// A link that broke while nobody used it is nobody's error.
			tt.breakLink(proxy)
			mustRun(t, h, Command{Script: ":"})
		})
	}
}

func TestLinkCutAtAnyByteIsNeverTakenForSuccess(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	data := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	cuts := []int64{1, 500, 1500, 3000, 100_000, 250_000}
	for _, direction := range []sshtest.Direction{sshtest.ToServer, sshtest.ToClient} {
		for _, n := range cuts {
			h, proxy := through(t, server, SSHConfig{})
			mustRun(t, h, Command{Script: ":"})
			proxy.CutAfter(direction, n)
			r, err := h.Run(t.Context(), Command{Script: "cat", Stdin: bytes.NewReader(data)})
			switch {
			case err == nil && proxy.Opened() == 1:
				t.Errorf("direction %d, %d bytes: the link was not cut", direction, n)
			case err == nil: // before anything was begun: done anew
				if !bytes.Equal(r.Stdout, data) || r.ExitCode != 0 {
					t.Errorf("direction %d, %d bytes: exit %d with %d bytes", direction, n, r.ExitCode, len(r.Stdout))
				}
			case !errors.Is(err, ErrInterrupted):
				t.Errorf("direction %d, %d bytes: %v, want ErrInterrupted", direction, n, err)
			}
			h.Close()
		}
	}
}

func TestSilentHostIsGivenUp(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	const keepalive = 500 * time.Millisecond // so long may a machine that is busy with other tests say nothing
	h, proxy := through(t, server, SSHConfig{Keepalive: keepalive})

	// One that answers is not, however long a script is silent.
	mustRun(t, h, Command{Script: "sleep 3"})

	started, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := h.Run(t.Context(), Command{Script: "echo; sleep 60", Stdout: w})
		done <- err
	}()
	started.Read(make([]byte, 1))
	proxy.Stall()
	start := time.Now()
	err := <-done
	if took := time.Since(start); took < 2*keepalive || took > 4*keepalive+3*time.Second {
		t.Errorf("given up after %v, want about %v", took, 3*keepalive)
	}
	if !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), "silent for 1.5s") {
		t.Errorf("got %v", err)
	}
	proxy.Resume()
	mustRun(t, h, Command{Script: ":"})
}

func TestSlowLinkIsNotSilent(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	h, proxy := through(t, server, SSHConfig{Keepalive: time.Second})
	mustRun(t, h, Command{Script: ":"})
	proxy.Delay(600 * time.Millisecond) // an answer takes longer than an interval
	r, err := h.Run(t.Context(), Command{
		Script: "sleep 4; head -c 4000000 /dev/zero", Stdout: io.Discard,
	})
	if err != nil || r.ExitCode != 0 {
		t.Errorf("exit %d, %v", r.ExitCode, err)
	}
}

func TestServerRestart(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	h := connect(t, server)
	mustRun(t, h, Command{Script: ":"})
	server.Stop()
	var unreachable *UnreachableError
	if _, err := h.Run(t.Context(), Command{}); !errors.As(err, &unreachable) || !errors.Is(err, syscall.ECONNREFUSED) || !Temporary(err) {
		t.Errorf("while the server is down: %v, want an UnreachableError for connection refused", err)
	}
	server.Restart()
	mustRun(t, h, Command{Script: ":"})
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	server.Stop()
	for name, address := range map[string]string{
		"nobody listens":   server.Addr,
		"no such name":     "no-such-host.invalid:22",
		"no handshake":     silent.Addr().String(),
		"no ssh server":    webServer(t),
		"hangs up at once": hangUp(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configFor(server)
			cfg.Address, cfg.ConnectTimeout = address, 3*time.Second
			if name == "no handshake" {
				cfg.ConnectTimeout = 200 * time.Millisecond
			}
			h := open(t, cfg)
			start := time.Now()
			_, err := h.Run(t.Context(), Command{})
			var unreachable *UnreachableError
			if !errors.As(err, &unreachable) || unreachable.Address != address || !Temporary(err) {
				t.Errorf("got %v, want an UnreachableError", err)
			}
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func hangUp(t *testing.T) string {
	return serve(t, func(c net.Conn) {})
}

func webServer(t *testing.T) string {
	return serve(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
}

func serve(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
			f(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestCrowdedServerIsTriedAgain(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{"MaxStartups 1:100:2"}})
	crowd, err := net.Dial("tcp", server.Addr) // an unauthenticated connection: all others are dropped
	if err != nil {
		t.Fatal(err)
	}
	crowd.Read(make([]byte, 1))
	time.AfterFunc(150*time.Millisecond, func() { crowd.Close() })
	mustRun(t, connect(t, server), Command{Script: ":"})
	if server.Logins() != 1 {
		t.Errorf("%d logins, want 1", server.Logins())
	}
	if n := strings.Count(server.Log(), "MaxStartups"); n == 0 {
		t.Errorf("no connection was dropped\n%s", server.Log())
	}
}

func TestDialingIsSharedAndOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	h, proxy := through(t, server, SSHConfig{})
	proxy.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := h.Run(ctx, Command{}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrInterrupted) {
		t.Errorf("impatient caller: %v", err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := h.Run(t.Context(), Command{Script: ":"}); err != nil {
				t.Error(err)
			}
		})
	}
	proxy.Resume()
	all.Wait()
	if proxy.Opened() != 1 {
		t.Errorf("%d connections, want 1", proxy.Opened())
	}
}

// TestCloseLeavesNothing is not parallel: it counts goroutines and descriptors.
func TestCloseLeavesNothing(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for name, disturb := range map[string]func(*sshtest.Proxy){
		"healthy": func(*sshtest.Proxy) {},
		"stalled": (*sshtest.Proxy).Stall,
		"reset":   (*sshtest.Proxy).Reset,
	} {
		proxy := sshtest.NewProxy(t, server.Addr)
		cfg := configFor(server)
		cfg.Address, cfg.KnownHosts = proxy.Addr, []string{server.KnownHostsFor(proxy.Addr)}
		h := open(t, cfg)
		mustRun(t, h, Command{Script: ":"})
		ctx, cancel := context.WithCancel(t.Context())
		c, err := h.DialExec(ctx, Command{Script: "exec cat"})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 12 { // more than there are sessions
			all.Go(func() { h.Run(ctx, Command{Script: "exec sleep 60"}) })
		}
		all.Go(func() { h.Run(ctx, Command{Script: "exec sleep 60", Stdin: neverEnding{}}) })
		time.Sleep(100 * time.Millisecond)
		disturb(proxy)
		cancel()
		all.Wait()
		start := time.Now()
		h.Close()
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s: Close took %v", name, took)
		}
		c.Close()
		proxy.Cut()
	}
	l := local(t)
	mustRun(t, l, Command{Script: "cat", Stdin: strings.NewReader("x")})
	c, err := l.DialExec(t.Context(), Command{Script: "exec cat"})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c.Close()

	const proxies = 3 // each has a goroutine and a listener until the test ends
	t.Cleanup(func() {
		if t.Failed() {
			stacks := make([]byte, 1<<20)
			t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
		}
	})
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+proxies })
	eventually(t, "descriptors are closed", func() bool { return openFiles(t) <= files+proxies })
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
