package sshtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// StartAgent runs an ssh-agent that holds the given private keys for the
// duration of t, and returns its socket.
func StartAgent(t testing.TB, keys ...string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	cmd := exec.Command("/bin/sh", "-c", leashed, "sh", "ssh-agent", "-D", "-a", socket)
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		leash.Close()
		os.RemoveAll(dir)
	})
	for deadline := time.Now().Add(startLimit); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshtest: ssh-agent did not listen within %v", startLimit)
		}
	}
	for _, key := range keys {
		add := exec.Command("ssh-add", "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("sshtest: ssh-add: %v\n%s", err, out)
		}
	}
	return socket
}
