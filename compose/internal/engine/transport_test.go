package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

type dialer = func(ctx context.Context) (net.Conn, error)

// transports are the ways to an engine.
func transports(t *testing.T) map[string]dialer {
	server := sshtest.Start(t, sshtest.Options{})
	client := login(t, server, server.Addr)
	return map[string]dialer{
		"unix socket":         enginetest.Dial,
		"streamlocal channel": streamlocal(client),
		"standard streams":    dialStdio,
		"session channel":     session(client),
	}
}

func login(t *testing.T, server *sshtest.Server, addr string) *ssh.Client {
	t.Helper()
	pem, err := os.ReadFile(server.IdentityFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.New(server.KnownHostsFor(addr))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: server.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func streamlocal(client *ssh.Client) dialer {
	return func(ctx context.Context) (net.Conn, error) {
		return client.DialContext(ctx, "unix", hosttest.Socket())
	}
}

// stdio is a connection made of a process's standard streams.
type stdio struct {
	io.Reader
	io.WriteCloser
	end  func() error
	once sync.Once
}

func (s *stdio) CloseWrite() error { return s.WriteCloser.Close() }

func (s *stdio) Close() error {
	s.once.Do(func() { s.end() })
	return nil
}

func (*stdio) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (*stdio) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (*stdio) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (*stdio) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (*stdio) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

func dialStdio(context.Context) (net.Conn, error) {
	command := exec.Command("docker", "system", "dial-stdio")
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	end := func() error {
		command.Process.Kill()
		return command.Wait()
	}
	return &stdio{Reader: out, WriteCloser: in, end: end}, command.Start()
}

func session(client *ssh.Client) dialer {
	return func(context.Context) (net.Conn, error) {
		s, err := client.NewSession()
		if err != nil {
			return nil, err
		}
		in, err := s.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := s.StdoutPipe()
		if err != nil {
			return nil, err
		}
		return &stdio{Reader: out, WriteCloser: in, end: s.Close}, s.Start("exec docker system dial-stdio")
	}
}

func TestEveryTransportCarriesEveryKindOfExchange(t *testing.T) {
	local := enginetest.Start(t)
	id := local.Run(engine.ContainerSpec{Image: local.Program("testdata/program"), Cmd: []string{"tick"}, Network: "none"})
	for name, dial := range transports(t) {
		t.Run(name, func(t *testing.T) {
			e := engine.NewLimited(dial, engine.Limits{Conns: 2, Idle: 1})
			t.Cleanup(e.Close)

			found, err := e.Objects(t.Context(), local.Label) // four calls at once
			if err != nil || len(found) != 2 {
				t.Errorf("objects: %v %v", found, err)
			}

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			logs, err := e.Logs(ctx, id, engine.LogOptions{Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(logs, make([]byte, len("tick 0\n"))); err != nil {
				t.Errorf("logs: %v", err)
			}
			cancel()
			if _, err := io.ReadAll(logs); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled logs: %v", err)
			}

			testHash(t, e, id)
			testCat(t, e, id)
			testNoCommand(t, e, id)
		})
	}
}

// testHash sends 5 MiB, ends the input and then gets the answer.
func testHash(t *testing.T, e *engine.Client, container string) {
	t.Helper()
	process, err := e.Exec(t.Context(), container, "/program", "hash")
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	body := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	if _, err := io.Copy(process, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if err := process.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(process)
	if want := fmt.Sprintf("%x", sha256.Sum256(body)); err != nil || string(answer) != want {
		t.Errorf("hash: %q %v, want %q", answer, err, want)
	}
	if want := fmt.Sprintf("read %d <nil>\n", len(body)); process.Stderr() != want {
		t.Errorf("standard error: %q, want %q", process.Stderr(), want)
	}
	if code, err := process.ExitCode(t.Context()); code != 3 || err != nil {
		t.Errorf("exit code: %d %v", code, err)
	}
}

// testCat talks to and fro, and gives up while the process waits.
func testCat(t *testing.T, e *engine.Client, container string) {
	t.Helper()
	process, err := e.Exec(t.Context(), container, "/program", "cat")
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	for _, line := range []string{"to\n", "and\n", "fro\n"} {
		if _, err := io.WriteString(process, line); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(line))
		if _, err := io.ReadFull(process, back); err != nil || string(back) != line {
			t.Fatalf("%q %v, want %q", back, err, line)
		}
	}
	time.AfterFunc(50*time.Millisecond, func() { process.Close() })
	if _, err := process.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of a closed stream: %v", err)
	}
	if code, err := process.ExitCode(t.Context()); code != 0 || err != nil {
		t.Errorf("cat saw the end of its input: %d %v", code, err)
	}
}

func testNoCommand(t *testing.T, e *engine.Client, container string) {
	t.Helper()
	process, err := e.Exec(t.Context(), container, "/no-such-program")
	if err != nil {
		if !hasType[*engine.Error](err) || !strings.Contains(err.Error(), "no-such-program") {
			t.Errorf("no such command: %v", err)
		}
		return
	}
	defer process.Close()
	text, _ := io.ReadAll(process)
	if !strings.Contains(string(text), "no-such-program") {
		t.Errorf("no such command: %q", text)
	}
	if code, err := process.ExitCode(t.Context()); code < 126 || err != nil {
		t.Errorf("no such command: %d %v", code, err)
	}
}

// A channel's Close does not end a Read when the other side has fallen silent.
func TestContextEndsCallsOnASilentConnection(t *testing.T) {
	local := enginetest.Start(t)
	id := local.Run(engine.ContainerSpec{Image: local.Program("testdata/program"), Cmd: []string{"tick"}, Network: "none"})
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr)
	client := login(t, server, proxy.Addr)
	e := engine.New(streamlocal(client))
	if err := e.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	follow, cancelFollow := context.WithCancel(t.Context())
	defer cancelFollow()
	logs, err := e.Logs(follow, id, engine.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	proxy.Stall()

	calls := map[string]func(ctx context.Context) error{
		"kept connection": func(ctx context.Context) error { _, err := e.Info(ctx); return err },
		"new connection":  func(ctx context.Context) error { _, err := engine.New(streamlocal(client)).Info(ctx); return err },
		"exec":            func(ctx context.Context) error { _, err := e.Exec(ctx, id, "/program", "cat"); return err },
		"logs": func(ctx context.Context) error {
			context.AfterFunc(ctx, cancelFollow)
			_, err := io.ReadAll(logs)
			if errors.Is(err, context.Canceled) {
				return ctx.Err()
			}
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			begin := time.Now()
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, engine.ErrUnreachable) {
				t.Error(err)
			}
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestCutConnectionIsUnreachable(t *testing.T) {
	local := enginetest.Start(t)
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr)
	e := engine.New(streamlocal(login(t, server, proxy.Addr)))
	ended := make(chan error, 1)
	go func() {
		for _, err := range e.Events(t.Context(), engine.EventFilter{Labels: []string{local.Label}}) {
			ended <- err
		}
	}()
	time.Sleep(200 * time.Millisecond)
	proxy.Cut()
	if err := <-ended; !errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("events: %v", err)
	}
	if found, err := e.Objects(t.Context(), local.Label); !errors.Is(err, engine.ErrUnreachable) || found != nil {
		t.Errorf("objects: %v %v", found, err)
	}
}
