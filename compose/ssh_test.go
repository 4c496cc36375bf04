package compose

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/remote"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// home makes a home directory with files of the given content.
func home(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What a host configuration and a file say together about the way to a host.
func TestWay(t *testing.T) {
	dir := home(t, map[string]string{
		".ssh/id_rsa": "", ".ssh/a": "", ".ssh/b": "", ".ssh/agents.pub": "", ".ssh/known_hosts": "", ".ssh/lab_hosts": "",
		".ssh/config": `
Host lab
  HostName lab.example.org
  User alice
  Port 2222
  IdentityFile ~/.ssh/a
  IdentityFile ~/.ssh/agents
  IdentityFile ~/.ssh/missing
  UserKnownHostsFile ~/.ssh/lab_hosts ~/.ssh/missing_hosts
  HostKeyAlias lab-key
  ConnectTimeout 3
  IdentityAgent none
  StrictHostKeyChecking no
Host only
  IdentityFile ~/.ssh/b
  IdentitiesOnly yes
Host usual
  IdentitiesOnly yes
Host behind
  ProxyJump ops@bastion:23,lab
Host bastion
  ProxyJump edge
Host lost
  UserKnownHostsFile ~/.ssh/missing_hosts
  GlobalKnownHostsFile none
`})
	at := func(name string) string { return filepath.Join(dir, ".ssh", name) }
	config := at("config")
	lab := remote.SSHConfig{
		Address: "lab.example.org:2222", User: "alice", HostKeyAlias: "lab-key", ConnectTimeout: 3 * time.Second, AgentSocket: "none",
		IdentityFiles: []string{at("a"), at("agents.pub")}, AgentKeys: true, KnownHosts: []string{at("lab_hosts")},
	}
	labWith := func(edit func(*remote.SSHConfig)) remote.SSHConfig {
		c := lab
		edit(&c)
		return c
	}
	for _, tt := range []struct {
		name string
		host HostConfig
		want remote.SSHConfig
	}{
		{"no file", HostConfig{Address: "ssh://lab"}, remote.SSHConfig{Address: "lab:22"}},
		{"no such alias", HostConfig{Address: "ssh://x@y:7", SSHConfig: config}, remote.SSHConfig{Address: "y:7", User: "x"}},
		{"alias", HostConfig{Address: "ssh://lab", SSHConfig: config}, lab},
		{"home directory", HostConfig{Address: "ssh://lab", SSHConfig: "~/.ssh/config"}, lab},
		{"user and port win", HostConfig{Address: "ssh://bob@lab:22", SSHConfig: config}, labWith(func(c *remote.SSHConfig) {
			c.Address, c.User = "lab.example.org:22", "bob"
		})},
		{"keys win", HostConfig{Address: "ssh://lab", SSHConfig: config, IdentityFiles: []string{"~/.ssh/b"}, HostKey: []string{"SHA256:x"}}, labWith(func(c *remote.SSHConfig) {
			c.IdentityFiles, c.AgentKeys, c.KnownHosts, c.HostKey = []string{at("b")}, false, nil, []string{"SHA256:x"}
		})},
		{"known hosts win", HostConfig{Address: "ssh://lab", SSHConfig: config, KnownHosts: []string{"/k"}}, labWith(func(c *remote.SSHConfig) {
			c.KnownHosts = []string{"/k"}
		})},
		{"identities only", HostConfig{Address: "ssh://only", SSHConfig: config}, remote.SSHConfig{Address: "only:22", IdentityFiles: []string{at("b")}}},
		{"usual identities only", HostConfig{Address: "ssh://usual", SSHConfig: config}, remote.SSHConfig{Address: "usual:22", IdentityFiles: []string{at("id_rsa")}}},
		{"known hosts that are not there widen nothing", HostConfig{Address: "ssh://lost", SSHConfig: config}, remote.SSHConfig{Address: "lost:22", KnownHosts: []string{at("missing_hosts")}}},
		{"jumps of the file", HostConfig{Address: "ssh://behind", SSHConfig: config}, remote.SSHConfig{
			Address: "behind:22", Via: new(labWith(func(c *remote.SSHConfig) {
				c.Via = &remote.SSHConfig{Address: "bastion:23", User: "ops", Via: &remote.SSHConfig{Address: "edge:22"}}
			})),
		}},
		{"jumps of the host configuration win", HostConfig{Address: "ssh://behind", SSHConfig: config, ProxyJump: []JumpHost{{Address: "ssh://lab"}}}, remote.SSHConfig{
			Address: "behind:22", Via: &lab,
		}},
		{"jumps without a file take keys and known hosts of the host", HostConfig{
			Address: "ssh://h", KnownHosts: []string{"/k"}, IdentityFiles: []string{"/i"},
			ProxyJump: []JumpHost{{Address: "ssh://a", HostKey: []string{"SHA256:x"}}, {Address: "ssh://b", KnownHosts: []string{"/kb"}, IdentityFiles: []string{"/ib"}}},
		}, remote.SSHConfig{
			Address: "h:22", KnownHosts: []string{"/k"}, IdentityFiles: []string{"/i"}, Via: &remote.SSHConfig{
				Address: "b:22", KnownHosts: []string{"/kb"}, IdentityFiles: []string{"/ib"}, Via: &remote.SSHConfig{
					Address: "a:22", HostKey: []string{"SHA256:x"}, IdentityFiles: []string{"/i"},
				},
			},
		}},
		{"pins of the host are not those of its jump host", HostConfig{
			Address: "ssh://h", HostKey: []string{"SHA256:x"}, ProxyJump: []JumpHost{{Address: "ssh://a"}},
		}, remote.SSHConfig{Address: "h:22", HostKey: []string{"SHA256:x"}, Via: &remote.SSHConfig{Address: "a:22"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := tt.host.withDefaults()
			w := &way{file: h.SSHConfig, host: h.itself()}
			got, err := w.to(h.ProxyJump)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if warned := strings.Join(w.warnings, "\n"); strings.HasPrefix(got.Address, "lab.") && !strings.Contains(warned, ".ssh/config:13: StrictHostKeyChecking no: not followed") {
				t.Errorf("warnings: %s", warned)
			}
		})
	}
}

func TestWayRefuses(t *testing.T) {
	dir := home(t, map[string]string{".ssh/config": `
Host round
  ProxyJump robin
Host robin
  ProxyJump round
Host option
  HostName -oProxyCommand=x
Host user
  User "a b"
Host port
  Port 70000
Host empty
  ProxyJump a,,b
Host trustless
  UserKnownHostsFile none
  GlobalKnownHostsFile none
Host keyless
  IdentityFile ~/.ssh/missing
  IdentitiesOnly yes
Host program
  ProxyCommand nc %h %p
Host through
  ProxyJump program
`})
	config := filepath.Join(dir, ".ssh/config")
	for alias, want := range map[string]string{
		"round": "more than 8 jump hosts", "option": "-oproxycommand=x", "user": `"a b"`, "port": "port", "empty": "jump host ssh://",
		"trustless": "host_key", "keyless": "IdentitiesOnly", "program": config + ":21: ProxyCommand", "through": "jump host ssh://program: ",
	} {
		_, err := New(Config{Hosts: []HostConfig{{Address: "ssh://" + alias, SSHConfig: config}}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "host "+alias+": ") || !errors.Is(err, sandboxer.ErrInvalid) {
			t.Errorf("%s: got %v, want %s", alias, err, want)
		}
	}
	_, err := New(Config{Hosts: []HostConfig{{Address: "ssh://x", SSHConfig: config + "-none"}}})
	if err == nil || !strings.Contains(err.Error(), config+"-none") {
		t.Errorf("no such file: %v", err)
	}
}

// An alias leads to a real host behind a real jump host.
func TestAliasBehindAJumpHost(t *testing.T) {
	jump := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	target := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	jumpHost, jumpPort, _ := net.SplitHostPort(jump.Addr)
	_, port, _ := net.SplitHostPort(target.Addr)
	dir := home(t, map[string]string{".ssh/config": "Host builder\n HostName localhost\n Port " + port + "\n HostKeyAlias builder-key\n ProxyJump bastion\n" +
		" IdentityFile " + target.IdentityFile + "\n UserKnownHostsFile ~/.ssh/builder\n" +
		"Host bastion\n HostName " + jumpHost + "\n Port " + jumpPort + "\n IdentityFile " + jump.IdentityFile + "\n UserKnownHostsFile " + jump.KnownHosts + "\n" +
		"Host *\n User " + jump.User + "\n IdentitiesOnly yes\n StrictHostKeyChecking no\n",
		".ssh/builder": "builder-key " + target.HostKey("ecdsa") + "\n"})
	h := HostConfig{Address: "ssh://builder", SSHConfig: "~/.ssh/config"}.withDefaults()
	transport, warnings, err := connect(h)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.Close()
	r, err := transport.Run(t.Context(), remote.Command{Script: "echo here\n"})
	if err != nil || string(r.Stdout) != "here\n" {
		t.Fatalf("%q, %v", r.Stdout, err)
	}
	if jump.Logins() != 1 || target.Logins() != 1 {
		t.Errorf("%d and %d logins, want one each", jump.Logins(), target.Logins())
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "StrictHostKeyChecking no") || !strings.Contains(warnings[0], "\nif the connection needs") {
		t.Errorf("warnings %q", warnings)
	}
	// StrictHostKeyChecking no lets nobody in that is not known.
	if err := os.WriteFile(filepath.Join(dir, ".ssh/builder"), []byte("other "+target.HostKey("ecdsa")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, _, err := connect(h)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var key *remote.HostKeyError
	if _, err := again.Run(t.Context(), remote.Command{Script: ":\n"}); !errors.As(err, &key) || key.Kind != remote.HostKeyUnknown {
		t.Errorf("unknown key: %v", err)
	}
}
