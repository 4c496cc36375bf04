//go:build linux || darwin

package remote

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// via returns the configuration of a target behind a jump host.
func via(target, jump *sshtest.Server) SSHConfig {
	cfg, hop := configFor(target), configFor(jump)
	cfg.Via = &hop
	return cfg
}

func jumpServer(t *testing.T, config ...string) *sshtest.Server {
	return sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: append(config, "LogLevel DEBUG1")})
}

func TestJumpHosts(t *testing.T) {
	t.Parallel()
	target := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	first, second := jumpServer(t), jumpServer(t)
	cfg := via(target, second)
	hop := configFor(first)
	cfg.Via.Via = &hop
	h := open(t, cfg)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if r, err := h.Run(t.Context(), Command{Script: "echo $SSH_CONNECTION"}); err != nil || r.ExitCode != 0 {
				t.Errorf("%v %s", err, r.Stderr)
			}
		})
	}
	all.Wait()
	for name, server := range map[string]*sshtest.Server{"first": first, "second": second, "target": target} {
		if server.Connections() != 1 || server.Logins() != 1 {
			t.Errorf("%s: %d connections, %d logins; want one each", name, server.Connections(), server.Logins())
		}
	}
	for from, to := range map[*sshtest.Server]*sshtest.Server{first: second, second: target} {
		_, port, _ := net.SplitHostPort(to.Addr)
		if !strings.Contains(from.Log(), "server_request_direct_tcpip: originator 127.0.0.1 port 0, target 127.0.0.1 port "+port) {
			t.Errorf("no connection to port %s was asked for:\n%s", port, from.Log())
		}
	}
	// Connections through the target work as ever, and Close ends all three.
	h.Close()
	for _, server := range []*sshtest.Server{first, second, target} {
		eventually(t, "the connection is closed", func() bool {
			return strings.Contains(server.Log(), "Connection closed by") || strings.Contains(server.Log(), "Disconnected from") || strings.Contains(server.Log(), "Connection reset")
		})
	}
}

// A target that listens in a network of its own, on loopback, is out of the
// client's reach.
func TestTargetReachableThroughTheJumpHostAlone(t *testing.T) {
	t.Parallel()
	enter := network(t, "10.254.201.1/30", "10.254.201.2/30")
	target := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Enter: enter})
	jump := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Enter: enter, Host: "10.254.201.2"})
	var unreachable *UnreachableError
	if _, err := connect(t, target).Run(t.Context(), Command{}); !errors.As(err, &unreachable) {
		t.Fatalf("without the jump host: %v", err)
	}
	mustRun(t, open(t, via(target, jump)), Command{Script: ":"})
}

// network makes a network namespace with a link to this one, and returns the
// command that enters it.
func network(t *testing.T, here, there string) []string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("network namespaces need root on Linux")
	}
	holder := exec.Command("unshare", "--net", "sleep", "600")
	if err := holder.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { holder.Process.Kill(); holder.Wait() })
	pid := strconv.Itoa(holder.Process.Pid)
	mine, _ := os.Readlink("/proc/self/ns/net")
	eventually(t, "a network namespace", func() bool {
		ns, err := os.Readlink("/proc/" + pid + "/ns/net")
		return err == nil && ns != mine
	})
	enter := []string{"nsenter", "--net=/proc/" + pid + "/ns/net"}
	name := "sbx" + pid
	for _, line := range [][]string{
		{"ip", "link", "add", name, "type", "veth", "peer", "name", "peer", "netns", pid},
		{"ip", "address", "add", here, "dev", name},
		{"ip", "link", "set", name, "up"},
		append(enter[:2:2], "ip", "address", "add", there, "dev", "peer"),
		append(enter[:2:2], "ip", "link", "set", "peer", "up"),
		append(enter[:2:2], "ip", "link", "set", "lo", "up"),
	} {
		if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", line, err, out)
		}
	}
	return enter
}

func TestJumpHostsThatAreNotToBeUsed(t *testing.T) {
	t.Parallel()
	target := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	jump := jumpServer(t)
	closed := jumpServer(t, "AllowTcpForwarding no")
	stranger := sshtest.NewKey(t, "ed25519")
	other := publicKeyOf(t, sshtest.NewKey(t, "ed25519"))
	onTheWay := "on the way to " + target.Addr + ": "
	for name, tt := range map[string]struct {
		edit     func(*SSHConfig)
		is       func(error) bool
		says     []string
		atTarget int // connections that the target sees
	}{
		"key of the jump host unknown": {
			edit: func(c *SSHConfig) { c.Via.KnownHosts = c.KnownHosts },
			is:   isKeyError(HostKeyUnknown, jump.Addr), says: []string{onTheWay, jump.Addr},
		},
		"key of the jump host pinned to another": {
			edit: func(c *SSHConfig) { c.Via.HostKey = []string{other} },
			is:   isKeyError(HostKeyChanged, jump.Addr), says: []string{onTheWay, jump.Addr},
		},
		"key of the target unknown": {
			edit: func(c *SSHConfig) { c.KnownHosts = c.Via.KnownHosts },
			is:   isKeyError(HostKeyUnknown, target.Addr), atTarget: 1,
		},
		"key refused by the jump host": {
			edit: func(c *SSHConfig) { c.Via.IdentityFiles = []string{stranger} },
			is:   isAuthError(jump.Addr), says: []string{onTheWay, stranger},
		},
		"key refused by the target": {
			edit: func(c *SSHConfig) { c.IdentityFiles = []string{stranger} },
			is:   isAuthError(target.Addr), says: []string{stranger}, atTarget: 1,
		},
		"jump host does not forward": {
			edit: func(c *SSHConfig) { hop := configFor(closed); c.Via = &hop },
			is:   func(err error) bool { return errors.Is(err, ErrForwardingRefused) && !Temporary(err) },
			says: []string{target.Addr + ": jump host " + closed.Addr, "AllowTcpForwarding"},
		},
		"jump host does not listen": {
			edit: func(c *SSHConfig) { c.Via.Address = "127.0.0.1:1" },
			is:   Temporary, says: []string{onTheWay + "cannot reach 127.0.0.1:1"},
		},
		"target does not listen": {
			edit: func(c *SSHConfig) { c.Address = "127.0.0.1:1" },
			is:   Temporary, says: []string{"cannot reach 127.0.0.1:1: jump host " + jump.Addr, "refused"},
		},
		"target has no such name at the jump host": {
			edit: func(c *SSHConfig) { c.Address = "none.invalid:22" },
			is:   Temporary, says: []string{"cannot reach none.invalid:22: jump host " + jump.Addr},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, beforeJump := target.Connections(), jump.Connections()
			cfg := via(target, jump)
			tt.edit(&cfg)
			h := open(t, cfg)
			_, err := h.Run(t.Context(), Command{})
			if err == nil || !tt.is(err) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %q: %v", want, err)
				}
			}
			if n := target.Connections() - before; n != tt.atTarget {
				t.Errorf("%d connections to the target, want %d", n, tt.atTarget)
			}
			if Temporary(err) || errors.Is(err, ErrForwardingRefused) {
				return
			}
			if _, again := h.Run(t.Context(), Command{}); again == nil || jump.Connections()-beforeJump > 1 {
				t.Errorf("%d connections to the jump host, want one try; %v", jump.Connections()-beforeJump, again)
			}
		})
	}
	cfg := configFor(target)
	cfg.Via = &SSHConfig{Address: jump.Addr, IdentityFiles: []string{"/no/such/key"}}
	if _, err := SSH(cfg); err == nil || !strings.Contains(err.Error(), "jump host "+jump.Addr) {
		t.Errorf("%v does not name the jump host", err)
	}
}

func isKeyError(kind HostKeyKind, address string) func(error) bool {
	return func(err error) bool {
		var e *HostKeyError
		return errors.As(err, &e) && e.Kind == kind && e.Address == address
	}
}

func isAuthError(address string) func(error) bool {
	return func(err error) bool {
		var e *AuthError
		return errors.As(err, &e) && e.Address == address
	}
}

func TestSilentHops(t *testing.T) {
	t.Parallel()
	target := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	jump := jumpServer(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, edit := range map[string]func(*SSHConfig){
		"jump host": func(c *SSHConfig) { c.Via.Address = silent.Addr().String() },
		"target":    func(c *SSHConfig) { c.Address = silent.Addr().String() },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := via(target, jump)
			cfg.ConnectTimeout, cfg.Via.ConnectTimeout = time.Second, time.Second
			edit(&cfg)
			start := time.Now()
			_, err := open(t, cfg).Run(t.Context(), Command{})
			var unreachable *UnreachableError
			if !errors.As(err, &unreachable) || unreachable.Address != silent.Addr().String() || !strings.Contains(err.Error(), "no connection within 1s") {
				t.Errorf("got %v, want an UnreachableError of %s", err, silent.Addr())
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			h := open(t, cfg)
			if _, err := h.Run(ctx, Command{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("canceled: %v", err)
			}
			start = time.Now()
			h.Close()
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("Close took %v", took)
			}
		})
	}
}

func TestLostJumpHost(t *testing.T) {
	t.Parallel()
	target := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	jump := jumpServer(t)
	h := open(t, via(target, jump))
	mustRun(t, h, Command{Script: ":"})
	interrupted := make(chan error, 1)
	pid := t.TempDir() + "/pid"
	go func() {
		_, err := h.Run(t.Context(), Command{Script: "echo $$ >$pid\nsleep 60\n", Vars: map[string]string{"pid": pid}})
		interrupted <- err
	}()
	eventually(t, "the script runs", exists(pid))
	jump.Restart()
	if err := <-interrupted; !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %v, want ErrInterrupted", err)
	}
	mustRun(t, h, Command{Script: ":"})
	if target.Logins() != 2 || jump.Logins() != 2 {
		t.Errorf("%d and %d logins, want two each", jump.Logins(), target.Logins())
	}
}

func TestSilentJumpHostIsNoticed(t *testing.T) {
	t.Parallel()
	target := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	jump := jumpServer(t)
	proxy := sshtest.NewProxy(t, jump.Addr)
	cfg := via(target, jump)
	cfg.Via.Address, cfg.Via.KnownHosts = proxy.Addr, []string{jump.KnownHostsFor(proxy.Addr)}
	cfg.Keepalive, cfg.Via.Keepalive = time.Hour, 300*time.Millisecond
	h := open(t, cfg)
	mustRun(t, h, Command{Script: ":"})
	interrupted := make(chan error, 1)
	pid := t.TempDir() + "/pid"
	go func() {
		_, err := h.Run(t.Context(), Command{Script: "echo $$ >$pid\nsleep 60\n", Vars: map[string]string{"pid": pid}})
		interrupted <- err
	}()
	eventually(t, "the script runs", exists(pid))
	proxy.Stall()
	select {
	case err := <-interrupted:
		if !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), "silent") {
			t.Errorf("got %v, want ErrInterrupted by a silent host", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("not noticed within 10 s")
	}
}
