// Package hosttest gives a test a host of its own on the engine of this
// machine, and looks at the engine and the disk themselves, past the library,
// to see that nothing is left there.
package hosttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// A Host is this machine with a root directory of the test's own.
type Host struct {
	Root string // what lies there is the test's
	File string // a hosts.yaml that has this host alone; Local and SSH name it here

	t testing.TB
}

// Local is this machine without SSH.
func Local(t testing.TB) *Host {
	t.Helper()
	Require(t)
	return Entry(t, "name: here\naddress: \"local:\"")
}

// SSH is this machine, reached through a real OpenSSH server.
func SSH(t testing.TB) (*Host, *sshtest.Server) {
	t.Helper()
	server := sshtest.Start(t, sshtest.Options{})
	return Behind(t, server), server
}

// Behind is this machine, reached through the server given.
func Behind(t testing.TB, server *sshtest.Server) *Host {
	t.Helper()
	Require(t)
	return Entry(t, fmt.Sprintf("name: here\naddress: ssh://%s@%s\nknown_hosts: [%s]\nidentity_files: [%s]",
		server.User, server.Addr, server.KnownHosts, server.IdentityFile))
}

// Default is this machine as the library takes it where nothing is configured:
// its root directory is not the test's alone. The home is that of the account
// that uses it.
func Default(t testing.TB, home string) *Host {
	t.Helper()
	Require(t)
	root := filepath.Join(home, ".local/state/sandboxer/host")
	if os.Geteuid() == 0 {
		root = "/var/lib/sandboxer"
	}
	return &Host{Root: root, t: t}
}

// Entry is the host of an entry of hosts.yaml, to which a root directory is
// added. Nothing of any sandbox may be there when t has ended.
func Entry(t testing.TB, entry string) *Host {
	t.Helper()
	dir := t.TempDir()
	h := &Host{Root: filepath.Join(dir, "host"), File: filepath.Join(dir, "hosts.yaml"), t: t}
	text := "hosts:\n  - " + strings.ReplaceAll(entry, "\n", "\n    ") + "\n    root: " + h.Root + "\n"
	if err := os.WriteFile(h.File, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.assertEmpty)
	return h
}

// AssertNothing asks the engine and the disk whether anything carries the id
// of a sandbox.
func (h *Host) AssertNothing(id string) {
	h.t.Helper()
	if id == "" {
		h.t.Fatal("hosttest: no id to look for")
	}
	for _, left := range Leftovers(h.Root, id) {
		h.t.Errorf("left of %s: %s", id, left)
	}
}

// assertEmpty waits until the host has removed what builds left.
func (h *Host) assertEmpty() {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var left []string
		for _, dir := range []string{"sb", "lock", "net", "cache/src", "cache/steps"} {
			below, _ := filepath.Glob(filepath.Join(h.Root, dir, "*"))
			left = append(left, below...)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.t.Errorf("left on disk: %q", left)
			return
		}
	}
}
