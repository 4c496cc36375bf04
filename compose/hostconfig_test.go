package compose

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

func TestParseHostAddress(t *testing.T) {
	tests := []struct {
		address          string
		name, user, addr string
		local            bool
	}{
		{address: "local:", name: "local", local: true},
		{address: "ssh://builder", name: "builder", addr: "builder:22"},
		{address: "ssh://alice@Builder.Example.org", name: "builder.example.org", user: "alice", addr: "Builder.Example.org:22"},
		{address: "ssh://alice@10.0.0.7:2222", name: "10.0.0.7", user: "alice", addr: "10.0.0.7:2222"},
		{address: "ssh://[2001:db8::7]", name: "2001-db8--7", addr: "[2001:db8::7]:22"},
		{address: "ssh://root@[::1]:2222", name: "1", user: "root", addr: "[::1]:2222"},
		{address: "ssh://[fe80::1%25eth0]", name: "fe80--1-eth0", addr: "[fe80::1%eth0]:22"},
		{address: "ssh://build_box", name: "build-box", addr: "build_box:22"},
		{address: "ssh://CORP%5Calice@builder", name: "builder", user: `CORP\alice`, addr: "builder:22"},
	}
	for _, test := range tests {
		t.Run(test.address, func(t *testing.T) {
			h, err := ParseHost(test.address)
			if err != nil {
				t.Fatal(err)
			}
			user, addr, ssh := h.sshTarget()
			if h.Name != test.name || h.Address != test.address || h.local() != test.local || ssh == test.local || user != test.user || addr != test.addr {
				t.Errorf("name %q, address %q, local %v, ssh %v, user %q, addr %q", h.Name, h.Address, h.local(), ssh, user, addr)
			}
			if h.Subnets != "10.201.0.0/16" {
				t.Errorf("subnets %q", h.Subnets)
			}
		})
	}
}

func TestParseHostRefuses(t *testing.T) {
	const forms = "address: is not the address of a host: write ssh://user@host:22, ssh://user@[2001:db8::7]:22, or local: for this machine"
	tests := []struct{ address, want string }{
		{"", "address: is required: write ssh://user@host:22, or local: for this machine"},
		{"builder", forms},
		{"alice@builder", forms},
		{"local", forms},
		{"local://", forms},
		{"tcp://builder:2375", forms},
		{"ssh:builder", forms},
		{"ssh://", forms},
		{"ssh://2001:db8::7", forms},
		{"ssh://builder:ssh", forms},
		{"ssh://bu ilder", forms},
		{"ssh://builder\n", forms},
		{"ssh://alice:hunter2@builder", "address: holds a password: use a key or an SSH agent, and take the password out"},
		{"ssh://alice:@builder", "address: holds a password: use a key or an SSH agent, and take the password out"},
		{"ssh://builder/", "address: goes on after the port: a directory on the host belongs in root"},
		{"ssh://builder/srv/sandboxer", "address: goes on after the port: a directory on the host belongs in root"},
		{"ssh://builder?x=1", "address: goes on after the port: a directory on the host belongs in root"},
		{"ssh://builder#x", "address: goes on after the port: a directory on the host belongs in root"},
		{"ssh://@builder", `address: has "" before the @, which is not the name of an account`},
		{"ssh://-oProxyCommand=x@builder", `address: has "-oProxyCommand=x" before the @, which is not the name of an account`},
		{"ssh://-builder", `address: has "-builder" as host, which is neither a name nor an address`},
		{"ssh://bu%20ilder", forms},
		{"ssh://[bu/ilder]", forms},
		{"ssh://builder:0", "address: has a port that is not between 1 and 65535"},
		{"ssh://builder:65536", "address: has a port that is not between 1 and 65535"},
		{"ssh://builder:", "address: has a port that is not between 1 and 65535"},
		{"ssh://[::]", "name: is required: nothing of the address can serve as one"},
	}
	for _, test := range tests {
		t.Run(test.address, func(t *testing.T) {
			h, err := ParseHost(test.address)
			if err == nil {
				t.Fatalf("accepted as %+v", h)
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
			if !errors.Is(err, sandboxer.ErrInvalid) {
				t.Error("does not match ErrInvalid")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("shows the password")
			}
		})
	}
}

func TestHostConfigValidate(t *testing.T) {
	key := "SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	tests := []struct {
		name string
		edit func(*HostConfig)
		want string
	}{
		{"as it is", func(*HostConfig) {}, ""},
		{"everything in place", func(h *HostConfig) {
			h.Name, h.Root, h.EngineSocket, h.Subnets = "a.b-c", "/srv/sandboxer", "/run/docker.sock", "192.168.0.0/16"
			h.HostKey, h.IdentityFiles = []string{key}, []string{"~/.ssh/id_ed25519"}
			h.Price, h.CacheTTL, h.Slots = &sandboxer.Cost{Currency: "EUR"}, 1, 1
		}, ""},
		{"name in capitals", func(h *HostConfig) { h.Name = "Builder" },
			`name: "Builder" is not a name for a host: lower-case letters, digits, . and - only, a letter or digit first, at most 63`},
		{"name too long", func(h *HostConfig) { h.Name = strings.Repeat("n", 64) },
			`name: "` + strings.Repeat("n", 64) + `" is not a name for a host: lower-case letters, digits, . and - only, a letter or digit first, at most 63`},
		{"name that is long enough", func(h *HostConfig) { h.Name = strings.Repeat("n", 63) }, ""},
		{"relative root", func(h *HostConfig) { h.Root = "sandboxer" },
			`root: "sandboxer" is not an absolute path on the host, of letters, digits and ._@+- only`},
		{"root of somebody's home", func(h *HostConfig) { h.Root = "~/sandboxer" },
			`root: "~/sandboxer" is not an absolute path on the host, of letters, digits and ._@+- only`},
		{"root is the root", func(h *HostConfig) { h.Root = "/" },
			`root: "/" is not an absolute path on the host, of letters, digits and ._@+- only`},
		{"root that climbs", func(h *HostConfig) { h.Root = "/srv/../etc" },
			`root: "/srv/../etc" is not an absolute path on the host, of letters, digits and ._@+- only`},
		{"root with a shell in it", func(h *HostConfig) { h.Root = "/srv/$(id)" },
			`root: "/srv/$(id)" is not an absolute path on the host, of letters, digits and ._@+- only`},
		{"runtime as path", func(h *HostConfig) { h.GVisorRuntime = "/usr/bin/runsc" },
			`gvisor_runtime: "/usr/bin/runsc" is not the name of a runtime of gVisor's: give the one under runtimes in the engine's daemon.json`},
		{"another's runtime", func(h *HostConfig) { h.GVisorRuntime = "runc" },
			`gvisor_runtime: "runc" is not the name of a runtime of gVisor's: give the one under runtimes in the engine's daemon.json`},
		{"socket as URL", func(h *HostConfig) { h.EngineSocket = "unix:///run/docker.sock" },
			`engine_socket: "unix:///run/docker.sock" is not the absolute path of a socket, such as /run/docker.sock`},
		{"slots", func(h *HostConfig) { h.Slots = -1 }, "slots: is negative: 0 is no limit"},
		{"subnets are no range", func(h *HostConfig) { h.Subnets = "10.201.0.0" },
			`subnets: "10.201.0.0" is not a range of IPv4 addresses such as 10.201.0.0/16`},
		{"subnets of IPv6", func(h *HostConfig) { h.Subnets = "fd00::/8" },
			`subnets: "fd00::/8" is not a range of IPv4 addresses such as 10.201.0.0/16`},
		{"subnets with host bits", func(h *HostConfig) { h.Subnets = "10.201.3.4/16" },
			"subnets: 10.201.3.4/16 has bits set after the prefix: did you mean 10.201.0.0/16?"},
		{"subnets too small", func(h *HostConfig) { h.Subnets = "10.201.0.0/21" },
			"subnets: 10.201.0.0/21 is too small: give a range of /20 or larger"},
		{"subnets just large enough", func(h *HostConfig) { h.Subnets = "172.31.240.0/20" }, ""},
		{"all private subnets of 10", func(h *HostConfig) { h.Subnets = "10.0.0.0/8" }, ""},
		{"subnets of somebody else", func(h *HostConfig) { h.Subnets = "8.0.0.0/8" },
			"subnets: 8.0.0.0/8 is not private: take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"},
		{"subnets partly of somebody else", func(h *HostConfig) { h.Subnets = "172.0.0.0/11" },
			"subnets: 172.0.0.0/11 is not private: take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"},
		{"subnets larger than the private block", func(h *HostConfig) { h.Subnets = "192.168.0.0/15" },
			"subnets: 192.168.0.0/15 is not private: take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"},
		{"currency", func(h *HostConfig) { h.Price = &sandboxer.Cost{Currency: "€"} },
			`price.currency: "€" is not a currency code such as EUR`},
		{"price", func(h *HostConfig) { h.Price = &sandboxer.Cost{Currency: "EUR", MicrosPerHour: -1} },
			"price.micros_per_hour: is negative"},
		{"cache", func(h *HostConfig) { h.CacheTTL = -1 }, "cache_ttl: is negative"},
		{"fingerprint cut short", func(h *HostConfig) { h.HostKey = []string{key[:39]} },
			`host_key[0]: "` + key[:39] + `" is neither a fingerprint such as ssh-keygen -l prints (SHA256:…) nor a public key (ssh-ed25519 AAAA…)`},
		{"old fingerprint", func(h *HostConfig) { h.HostKey = []string{key, "MD5:aa:bb"} },
			`host_key[1]: "MD5:aa:bb" is neither a fingerprint such as ssh-keygen -l prints (SHA256:…) nor a public key (ssh-ed25519 AAAA…)`},
		{"pinned and known", func(h *HostConfig) { h.HostKey, h.KnownHosts = []string{key}, []string{"~/known_hosts"} },
			"known_hosts: is not read when host_key pins the keys: take one of them out"},
		{"relative identity", func(h *HostConfig) { h.IdentityFiles = []string{"id_ed25519"} },
			`identity_files[0]: "id_ed25519" is neither an absolute path nor one below ~/`},
		{"identity of another account", func(h *HostConfig) { h.IdentityFiles = []string{"~bob/.ssh/id"} },
			`identity_files[0]: "~bob/.ssh/id" is neither an absolute path nor one below ~/`},
		{"keys without SSH", func(h *HostConfig) { h.Address, h.HostKey = "local:", []string{key} },
			"address: is local:, which uses no SSH: take host_key, known_hosts, identity_files, proxy_jump and ssh_config out"},
		{"jump host in place", func(h *HostConfig) {
			h.SSHConfig, h.ProxyJump = "~/.ssh/config", []JumpHost{{Address: "ssh://bastion", HostKey: []string{key}, IdentityFiles: []string{"~/.ssh/id"}}}
		}, ""},
		{"jump hosts that cannot be", func(h *HostConfig) {
			h.ProxyJump = []JumpHost{{Address: "bastion"}, {Address: "local:"}, {Address: "ssh://b", HostKey: []string{"MD5:aa"}, KnownHosts: []string{"/k"}, IdentityFiles: []string{"id"}}}
		}, `proxy_jump[0].address: is not the address of a host: write ssh://user@host:22, ssh://user@[2001:db8::7]:22, or local: for this machine
proxy_jump[1].address: is local:, which is not on the way to anywhere: write ssh://user@host:22
proxy_jump[2].host_key[0]: "MD5:aa" is neither a fingerprint such as ssh-keygen -l prints (SHA256:…) nor a public key (ssh-ed25519 AAAA…)
proxy_jump[2].known_hosts: is not read when host_key pins the keys: take one of them out
proxy_jump[2].identity_files[0]: "id" is neither an absolute path nor one below ~/`},
		{"relative configuration of SSH", func(h *HostConfig) { h.SSHConfig = "config" },
			`ssh_config: "config" is neither an absolute path nor one below ~/`},
		{"way without SSH", func(h *HostConfig) { h.Address, h.ProxyJump = "local:", []JumpHost{{Address: "ssh://b"}} },
			"address: is local:, which uses no SSH: take host_key, known_hosts, identity_files, proxy_jump and ssh_config out"},
		{"two problems", func(h *HostConfig) { h.Slots, h.CacheTTL = -1, -1 },
			"slots: is negative: 0 is no limit\ncache_ttl: is negative"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := HostConfig{Address: "ssh://builder"}
			test.edit(&h)
			err := h.Validate()
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// What is written once in the documentation of HostConfig must hold for a file.
func TestParseHosts(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	data, err := os.ReadFile(filepath.FromSlash("../schemas/testdata/hosts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseHosts("hosts.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	want := []HostConfig{
		{Name: "local", Address: "local:", Slots: 4, Subnets: DefaultSubnets},
		{
			Name: "builder", Address: "ssh://sbx@builder.example.org:2222", Root: "/srv/sandboxer", Slots: 20,
			Subnets: "10.64.0.0/16", Region: "eu-central", Labels: map[string]string{"disk": "nvme"},
			Price: &sandboxer.Cost{Currency: "EUR", MicrosPerHour: 120_000},
			HostKey: []string{
				"SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
				"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f builder",
			},
			IdentityFiles: []string{filepath.FromSlash("/home/alice/.ssh/sandboxer")},
			EngineSocket:  "/run/user/1000/docker.sock", GVisorRuntime: "kvm", CacheTTL: 72 * 60 * 60 * 1e9,
		},
		{
			Name: "2001-db8--7", Address: "ssh://[2001:db8::7]", Subnets: DefaultSubnets,
			KnownHosts: []string{filepath.FromSlash("/home/alice/.ssh/known_hosts_lab")},
			ProxyJump: []JumpHost{{
				Address: "ssh://ops@bastion.example.org", HostKey: []string{"SHA256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"},
				IdentityFiles: []string{filepath.FromSlash("/home/alice/.ssh/bastion")},
			}},
		},
		{Name: "lab2", Address: "ssh://lab2", Subnets: DefaultSubnets, SSHConfig: filepath.FromSlash("/home/alice/.ssh/config")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseHostsRefuses(t *testing.T) {
	tests := []struct{ name, data, want string }{
		{"empty", "", "hosts.yaml: is empty"},
		{"no hosts", "hosts:\n", `hosts.yaml:1: hosts: is empty: list at least one host, such as "- address: ssh://user@host"`},
		{"no such key", "host:\n- address: 'local:'\n", `hosts.yaml:1: host: unknown key, did you mean "hosts"?`},
		{"no such key of a host", "hosts:\n- address: 'local:'\n  password: x\n",
			"hosts.yaml:3: hosts[0].password: unknown key: known here are address, cache_ttl, engine_socket, gvisor_runtime, host_key, identity_files, known_hosts, labels, name, price, proxy_jump, region, root, slots, ssh_config, subnets"},
		{"wrong type", "hosts:\n- address: 'local:'\n  slots: many\n", `hosts.yaml:3: hosts[0].slots: "many" is not a whole number`},
		{"bad duration", "hosts:\n- address: 'local:'\n  cache_ttl: 3 days\n",
			`hosts.yaml:3: hosts[0].cache_ttl: "3 days" is not a duration: write 90s, 30m or 1h30m`},
		{"local without quotes", "hosts:\n- address: local:\n", "hosts.yaml:2: mapping values are not allowed in this context"},
		{"no address", "hosts:\n- name: builder\n  slots: 2\n",
			"hosts.yaml:2: hosts[0].address: is required: write ssh://user@host:22, or local: for this machine"},
		{"problems of several hosts", "hosts:\n- address: 'local:'\n  subnets: 8.0.0.0/8\n- address: ssh://builder\n  price:\n    currency: euro\n    micros_per_hour: 1\n  host_key:\n  - SHA256:short\n",
			`hosts.yaml:3: hosts[0].subnets: 8.0.0.0/8 is not private: take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16
hosts.yaml:6: hosts[1].price.currency: "euro" is not a currency code such as EUR
hosts.yaml:9: hosts[1].host_key[0]: "SHA256:short" is neither a fingerprint such as ssh-keygen -l prints (SHA256:…) nor a public key (ssh-ed25519 AAAA…)`},
		{"one name twice", "hosts:\n- address: ssh://builder:22\n- address: ssh://builder:2222\n",
			`hosts.yaml:3: hosts[1].name: "builder" is already the name of hosts[0]: name one of them otherwise`},
		{"JSON", "{\n\"hosts\": [\n{\"address\": \"local:\",\n\"slots\": -1}]}",
			"hosts.yaml:4: hosts[0].slots: is negative: 0 is no limit"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			hosts, err := ParseHosts("hosts.yaml", []byte(test.data))
			if err == nil {
				t.Fatalf("accepted as %+v", hosts)
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
			var field *sandboxer.FieldError
			if !errors.As(err, &field) || !errors.Is(err, sandboxer.ErrInvalid) {
				t.Errorf("%T holds no FieldError", err)
			}
		})
	}
}

func TestLocalPathsNeedAHome(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("USERPROFILE", "")
	t.Setenv("home", "")
	err := HostConfig{Address: "ssh://builder", IdentityFiles: []string{"~/.ssh/id"}}.Validate()
	if want := `identity_files[0]: "~/.ssh/id" is neither an absolute path nor one below ~/`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// FuzzParseAddress holds parseAddress to what the rest of the package relies on.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{"local:", "ssh://alice@builder:22", "ssh://[2001:db8::7]:2222", "ssh://a:b@c", "ssh://a%00@b", "ssh://[fe80::1%25eth0]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParseHost(text)
		if err != nil {
			return
		}
		user, addr, ssh := h.sshTarget()
		if ssh == h.local() {
			t.Errorf("%q: ssh %v, local %v", text, ssh, h.local())
		}
		if strings.ContainsFunc(user+addr, func(r rune) bool { return r < ' ' || r == 0x7f || r == ' ' }) || strings.HasPrefix(user, "-") || strings.HasPrefix(addr, "-") {
			t.Errorf("%q: user %q, addr %q", text, user, addr)
		}
	})
}
