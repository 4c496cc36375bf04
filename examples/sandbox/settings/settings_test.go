package settings

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAddress: an address alone may be an alias of ssh_config where there is one.
func TestAddress(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	looksIn := func(address string) string {
		t.Helper()
		all, err := (&Settings{Hosts: address}).LoadHosts()
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %v, %v", address, all, err)
		}
		return all[0].SSHConfig
	}
	if got := looksIn("ssh://build"); got != "" {
		t.Errorf("without a file, ssh_config is %q", got)
	}
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, sshConfig[len("~/"):]), []byte("Host build\n  HostName build.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := looksIn("ssh://build"); got != sshConfig {
		t.Errorf("ssh_config is %q, want %q", got, sshConfig)
	}
	if got := looksIn("local:"); got != "" {
		t.Errorf("this machine has ssh_config %q", got)
	}
}
