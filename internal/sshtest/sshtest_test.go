package sshtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func TestServerLetsInItsKeyOnly(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	if got := run(t, dial(t, s, s.Addr, s.KnownHosts), "echo hello"); got != "hello\n" {
		t.Errorf("session said %q", got)
	}
	if s.Logins() != 1 || s.Connections() != 1 {
		t.Errorf("%d logins over %d connections, want 1 over 1\n%s", s.Logins(), s.Connections(), s.Log())
	}
	s.Authorize(NewKey(t, "ed25519"))
	if _, err := tryDial(t, s, s.Addr, s.KnownHosts); err == nil {
		t.Error("a key that is no longer authorized was let in")
	}
}

func TestOptionsReachTheSession(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "shell"), []byte("#!/bin/sh\necho \"shell got $1 $2\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := Start(t, Options{Home: home, LoginShell: filepath.Join(home, "shell")})
	if got := run(t, dial(t, s, s.Addr, s.KnownHosts), `a "b" 'c'`); got != "shell got -c a \"b\" 'c'\n" {
		t.Errorf("login shell saw %q", got)
	}
	s = Start(t, Options{Home: home, Config: []string{"MaxSessions 1"}})
	if got := run(t, dial(t, s, s.Addr, s.KnownHosts), "echo $HOME"); got != home+"\n" {
		t.Errorf("HOME is %q, want %q", got, home)
	}
	client := dial(t, s, s.Addr, s.KnownHosts)
	first, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := client.NewSession(); err == nil {
		t.Error("MaxSessions 1 did not reach sshd")
	}
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{HostCA: true})
	old := s.KnownHosts
	ca := filepath.Join(t.TempDir(), "known_hosts")
	if err := writeLines(ca, []string{"@cert-authority " + KnownHostsName(s.Addr) + " " + s.CAKey}); err != nil {
		t.Fatal(err)
	}
	if _, err := tryDial(t, s, s.Addr, ca, ssh.CertAlgoED25519v01); err != nil {
		t.Errorf("host certificate: %v", err)
	}
	s.RotateHostKeys()
	var mismatch *knownhosts.KeyError
	if _, err := tryDial(t, s, s.Addr, old, ssh.KeyAlgoED25519); !errors.As(err, &mismatch) || len(mismatch.Want) != 3 {
		t.Errorf("after rotation the old known_hosts gave %v, want a mismatch with three known keys", err)
	}
	if _, err := tryDial(t, s, s.Addr, s.KnownHostsFor(s.Addr), ssh.KeyAlgoED25519); err != nil {
		t.Errorf("after rotation, with the new keys: %v", err)
	}
}

func TestStopEndsSessionsAndLeavesTheDetached(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	client := dial(t, s, s.Addr, s.KnownHosts)
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	const script = `setsid -f sh -c 'echo $$; exec sleep 60 >/dev/null 2>&1 </dev/null'; sleep 0.2; echo $$; exec sleep 60`
	if err := session.Start(script); err != nil {
		t.Fatal(err)
	}
	var detached, attached int
	if _, err := fmt.Fscan(out, &detached, &attached); err != nil {
		t.Fatal(err)
	}
	defer kill(t, detached)
	addr := s.Addr
	s.Stop()
	if state := stateOf(attached); state != "" && state != "Z" {
		t.Errorf("process %d of a session outlived the server", attached)
	}
	if state := stateOf(detached); state == "" || state == "Z" {
		t.Errorf("detached process %d ended with the server", detached)
	}
	if _, err := tryDial(t, s, s.Addr, s.KnownHosts); err == nil {
		t.Error("a stopped server accepted a connection")
	}
	s.Restart()
	if s.Addr != addr {
		t.Errorf("restarted on %s, want %s", s.Addr, addr)
	}
	dial(t, s, s.Addr, s.KnownHosts)
}

func TestProxyFaults(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	const nothing = 150 * time.Millisecond

	t.Run("stall and resume", func(t *testing.T) {
		p := NewProxy(t, s.Addr)
		client := dial(t, s, p.Addr, s.KnownHostsFor(p.Addr))
		p.Stall()
		answered := make(chan string, 1)
		go func() { answered <- run(t, client, "echo hello") }()
		select {
		case <-answered:
			t.Fatal("a stalled link carried data")
		case <-time.After(nothing):
		}
		p.Resume()
		if got := <-answered; got != "hello\n" {
			t.Errorf("after the stall: %q", got)
		}
	})
	t.Run("reset", func(t *testing.T) {
		p := NewProxy(t, s.Addr)
		client := dial(t, s, p.Addr, s.KnownHostsFor(p.Addr))
		p.Reset()
		if err := client.Wait(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("link ended with %v, want connection reset", err)
		}
	})
	t.Run("cut", func(t *testing.T) {
		p := NewProxy(t, s.Addr)
		client := dial(t, s, p.Addr, s.KnownHostsFor(p.Addr))
		p.Cut()
		if err := client.Wait(); !errors.Is(err, io.EOF) {
			t.Errorf("link ended with %v, want EOF", err)
		}
	})
	t.Run("cut after bytes", func(t *testing.T) {
		p := NewProxy(t, s.Addr)
		client := dial(t, s, p.Addr, s.KnownHostsFor(p.Addr))
		p.CutAfter(ToClient, 100<<10)
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		got, err := session.Output("head -c 1000000 /dev/zero")
		if err == nil || len(got) < 50<<10 || len(got) > 100<<10 {
			t.Errorf("%d bytes arrived, error %v; want nearly 102400 and an error", len(got), err)
		}
		dial(t, s, p.Addr, s.KnownHostsFor(p.Addr))
		if p.Opened() != 2 {
			t.Errorf("%d connections counted, want 2", p.Opened())
		}
	})
	t.Run("delay", func(t *testing.T) {
		p := NewProxy(t, s.Addr)
		client := dial(t, s, p.Addr, s.KnownHostsFor(p.Addr))
		p.Delay(50 * time.Millisecond)
		start := time.Now()
		client.SendRequest("keepalive@openssh.com", true, nil)
		if took := time.Since(start); took < 100*time.Millisecond {
			t.Errorf("a round trip over 2 × 50 ms took %v", took)
		}
	})
}

func dial(t *testing.T, s *Server, addr, knownHosts string) *ssh.Client {
	t.Helper()
	client, err := tryDial(t, s, addr, knownHosts)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	return client
}

func tryDial(t *testing.T, s *Server, addr, knownHosts string, algorithms ...string) (*ssh.Client, error) {
	t.Helper()
	pem, err := os.ReadFile(s.IdentityFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	check, err := knownhosts.New(knownHosts)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: check, HostKeyAlgorithms: algorithms,
	})
	if err == nil {
		t.Cleanup(func() { client.Close() })
	}
	return client, err
}

func run(t *testing.T, client *ssh.Client, command string) string {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Error(err)
		return ""
	}
	defer session.Close()
	out, err := session.Output(command)
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}
	return string(out)
}
