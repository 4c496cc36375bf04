//go:build linux || darwin

package remote

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// knownHosts writes a known_hosts file.
func knownHosts(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// hashed hashes the host names in a known_hosts file.
func hashed(t *testing.T, file string) string {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-H", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "|1|") {
		t.Fatalf("not hashed: %q, %v", text, err)
	}
	return file
}

// fingerprint returns what ssh-keygen -l prints for a public key.
func fingerprint(t *testing.T, key string) string {
	t.Helper()
	parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(parsed)
}

func TestTrustedHostKeys(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), HostCA: true})
	name := sshtest.KnownHostsName(server.Addr)
	ed25519, ecdsa, rsa := server.HostKey("ed25519"), server.HostKey("ecdsa"), server.HostKey("rsa")

	for what, file := range map[string]string{
		"all three keys":              server.KnownHosts,
		"ed25519 only":                knownHosts(t, name+" "+ed25519),
		"ecdsa only":                  knownHosts(t, name+" "+ecdsa),
		"rsa only":                    knownHosts(t, name+" "+rsa),
		"rsa only, hashed":            hashed(t, knownHosts(t, name+" "+rsa)),
		"all three, hashed":           hashed(t, knownHosts(t, name+" "+ed25519, name+" "+ecdsa, name+" "+rsa)),
		"wildcard without port":       knownHosts(t, "127.0.0.* "+ecdsa),
		"two keys of one kind":        knownHosts(t, name+" "+publicKeyOf(t, sshtest.NewKey(t, "ed25519")), name+" "+ed25519),
		"keys of other hosts, too":    knownHosts(t, "other.example "+rsa, name+" "+ecdsa, "*.example "+ed25519),
		"certificate authority":       knownHosts(t, "@cert-authority "+name+" "+server.CAKey),
		"authority, wildcard":         knownHosts(t, "@cert-authority * "+server.CAKey),
		"authority, and another":      knownHosts(t, "@cert-authority "+name+" "+publicKeyOf(t, sshtest.NewKey(t, "ed25519")), "@cert-authority "+name+" "+server.CAKey),
		"another key is revoked":      knownHosts(t, name+" "+ed25519, "@revoked * "+rsa),
		"comments and empty lines":    knownHosts(t, "# hosts", "", name+" "+ed25519+" a comment"),
		"negated for another host":    knownHosts(t, "127.0.0.*,!127.0.0.2 "+ed25519),
		"question mark":               knownHosts(t, strings.Replace(name, "127.0.0.1", "127.0.0.?", 1)+" "+ed25519),
		"hashed authority":            knownHosts(t, "@cert-authority "+xknownhosts.HashHostname(name)+" "+server.CAKey),
		"the key of a second pattern": knownHosts(t, "elsewhere,"+name+" "+ed25519),
	} {
		t.Run(what, func(t *testing.T) {
			cfg := configFor(server)
			cfg.KnownHosts = []string{file}
			mustRun(t, open(t, cfg), Command{Script: ":"})
		})
	}
	for what, pins := range map[string][]string{
		"fingerprint of ed25519": {fingerprint(t, ed25519)},
		"fingerprint of ecdsa":   {fingerprint(t, ecdsa)},
		"fingerprint of rsa":     {fingerprint(t, rsa)},
		"public key ed25519":     {ed25519},
		"public key rsa":         {rsa + " comment"},
		"one of several":         {fingerprint(t, server.CAKey), ecdsa},
	} {
		t.Run("pinned "+what, func(t *testing.T) {
			cfg := configFor(server)
			cfg.HostKey, cfg.KnownHosts = pins, []string{"/not/read"}
			mustRun(t, open(t, cfg), Command{Script: ":"})
		})
	}
	t.Run("an authority of another kind than the key it signed", func(t *testing.T) {
		server := sshtest.Start(t, sshtest.Options{
			Home: t.TempDir(), HostCA: true, Config: []string{"HostKeyAlgorithms rsa-sha2-512-cert-v01@openssh.com,ssh-ed25519"},
		})
		cfg := configFor(server)
		cfg.KnownHosts = []string{knownHosts(t, "@cert-authority "+sshtest.KnownHostsName(server.Addr)+" "+server.CAKey)}
		mustRun(t, open(t, cfg), Command{Script: ":"})
	})
	t.Run("two files", func(t *testing.T) {
		cfg := configFor(server)
		cfg.KnownHosts = []string{knownHosts(t, "other.example "+rsa), knownHosts(t, name+" "+ecdsa)}
		mustRun(t, open(t, cfg), Command{Script: ":"})
	})
}

func TestHostKeyAlias(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), HostCA: true})
	cfg := configFor(server)
	cfg.HostKeyAlias = "builder"
	for what, file := range map[string]string{
		"plain":  knownHosts(t, "builder "+server.HostKey("ecdsa")),
		"hashed": knownHosts(t, xknownhosts.HashHostname("builder")+" "+server.HostKey("rsa")),
	} {
		cfg.KnownHosts = []string{file}
		if _, err := open(t, cfg).Run(t.Context(), Command{Script: ":"}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	var e *HostKeyError
	cfg.HostKeyAlias = "Builder"
	mustRun(t, open(t, cfg), Command{Script: ":"})
	cfg.KnownHosts = []string{server.KnownHosts}
	if _, err := open(t, cfg).Run(t.Context(), Command{}); !errors.As(err, &e) || e.Kind != HostKeyUnknown || e.Address != server.Addr {
		t.Errorf("known by its address alone: %v", err)
	}
	// A certificate has to be for the alias, too.
	cfg.KnownHosts = []string{knownHosts(t, "@cert-authority builder "+server.CAKey)}
	if _, err := open(t, cfg).Run(t.Context(), Command{}); !errors.As(err, &e) || e.Kind != HostKeyInvalid {
		t.Errorf("certificate for the address: %v", err)
	}
	ca := sshtest.NewKey(t, "ed25519")
	server.CertifyHostKeys(ca, "-n", "builder")
	cfg.KnownHosts = []string{knownHosts(t, "@cert-authority builder "+server.CAKey)}
	mustRun(t, open(t, cfg), Command{Script: ":"})
}

func publicKeyOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text))[:2], " ")
}

func TestUntrustedHostKeys(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), HostCA: true})
	name := sshtest.KnownHostsName(server.Addr)
	ed25519, ecdsa, rsa := server.HostKey("ed25519"), server.HostKey("ecdsa"), server.HostKey("rsa")
	other, otherRSA := publicKeyOf(t, sshtest.NewKey(t, "ed25519")), publicKeyOf(t, sshtest.NewKey(t, "rsa"))
	_, port, _ := net.SplitHostPort(server.Addr)

	tests := []struct {
		name     string
		address  string // empty: the server's
		known    []string
		pins     []string
		kind     HostKeyKind
		shown    []string // public keys whose fingerprints the message holds
		expected []string // and these, as expected ones
		line     int
	}{
		{name: "unknown", known: []string{"other.example " + ed25519}, kind: HostKeyUnknown, shown: []string{ed25519}},
		{name: "unknown port", known: []string{"127.0.0.1 " + ed25519}, kind: HostKeyUnknown, shown: []string{ed25519}},
		{name: "negated", known: []string{"127.0.0.*,!127.0.0.1 " + ed25519}, kind: HostKeyUnknown, shown: []string{ed25519}},
		{name: "hashed, changed", known: []string{xknownhosts.HashHostname(name) + " " + other}, kind: HostKeyChanged, shown: []string{ed25519}, expected: []string{other}, line: 1},
		{name: "hashed, of another host", known: []string{xknownhosts.HashHostname("other.example") + " " + ed25519}, kind: HostKeyUnknown, shown: []string{ed25519}},
		{name: "changed", known: []string{"# hosts", name + " " + other}, kind: HostKeyChanged, shown: []string{ed25519}, expected: []string{other}, line: 2},
		{name: "changed, of the kind known", known: []string{name + " " + otherRSA}, kind: HostKeyChanged, shown: []string{rsa}, expected: []string{otherRSA}, line: 1},
		{name: "changed, line of the kind shown", known: []string{name + " " + otherRSA, name + " " + other}, kind: HostKeyChanged, shown: []string{rsa}, expected: []string{otherRSA, other}, line: 1},
		{name: "revoked", known: []string{name + " " + ed25519, "@revoked * " + ed25519}, kind: HostKeyRevoked, shown: []string{ed25519}, line: 2},
		{name: "another authority", known: []string{"@cert-authority " + name + " " + other}, kind: HostKeyChanged, shown: []string{server.CAKey}, expected: []string{other}, line: 1},
		{name: "revoked authority", known: []string{"@cert-authority " + name + " " + server.CAKey, "@revoked * " + server.CAKey}, kind: HostKeyRevoked, shown: []string{server.CAKey}, line: 2},
		{name: "certificate for a revoked key", known: []string{"@cert-authority " + name + " " + server.CAKey, "@revoked * " + ed25519}, kind: HostKeyRevoked, shown: []string{ed25519}, line: 2},
		{name: "certificate for another name", address: "localhost:" + port, known: []string{"@cert-authority * " + server.CAKey}, kind: HostKeyInvalid, shown: []string{server.CAKey}},
		{name: "pinned fingerprint differs", pins: []string{fingerprint(t, other)}, kind: HostKeyChanged, shown: []string{ed25519, ecdsa, rsa}, expected: []string{other}},
		{name: "pinned key differs", pins: []string{other}, kind: HostKeyChanged, shown: []string{ed25519}, expected: []string{other}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configFor(server)
			if tt.address != "" {
				cfg.Address = tt.address
			}
			file := knownHosts(t, tt.known...)
			cfg.KnownHosts, cfg.HostKey = []string{file}, tt.pins
			h := open(t, cfg)
			logins := server.Logins()
			_, err := h.Run(t.Context(), Command{Script: ":"})

			var e *HostKeyError
			if !errors.As(err, &e) || Temporary(err) {
				t.Fatalf("got %v, want a HostKeyError", err)
			}
			if e.Kind != tt.kind || e.Address != cfg.Address || e.Line != tt.line {
				t.Errorf("kind %s, address %s, line %d; want %s, %s, %d", e.Kind, e.Address, e.Line, tt.kind, cfg.Address, tt.line)
			}
			if tt.line > 0 && e.File != file {
				t.Errorf("file %q, want %q", e.File, file)
			}
			for _, key := range slices.Concat(tt.shown, tt.expected) {
				if !strings.Contains(err.Error(), fingerprint(t, key)) {
					t.Errorf("message lacks %s: %s", fingerprint(t, key), err)
				}
			}
			for _, key := range tt.expected {
				if !strings.Contains(strings.Join(e.Expected, "\n"), fingerprint(t, key)) {
					t.Errorf("expected %v lacks %s", e.Expected, fingerprint(t, key))
				}
			}
			connections := server.Connections()
			if _, again := h.Run(t.Context(), Command{Script: ":"}); !errors.As(again, &e) {
				t.Errorf("second run: %v", again)
			}
			if server.Connections() != connections {
				t.Error("the host was bothered again at once")
			}
			if server.Logins() != logins {
				t.Error("we logged in to a host that is not to be trusted")
			}
		})
	}
}

func TestRotatedHostKeys(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	h := connect(t, server)
	mustRun(t, h, Command{Script: ":"})
	old := server.HostKey("ed25519")
	server.RotateHostKeys()
	_, err := h.Run(t.Context(), Command{Script: ":"})
	var e *HostKeyError
	if !errors.As(err, &e) || e.Kind != HostKeyChanged {
		t.Fatalf("got %v, want a changed host key", err)
	}
	for _, key := range []string{old, server.HostKey("ed25519")} {
		if !strings.Contains(err.Error(), fingerprint(t, key)) {
			t.Errorf("message lacks %s: %s", fingerprint(t, key), err)
		}
	}
}

func TestHostKeyConfiguration(t *testing.T) {
	for _, pin := range []string{"", "SHA256:short", "MD5:00:11", "ssh-ed25519", "ssh-ed25519 AAAA!", "SHA256:" + strings.Repeat("!", 43)} {
		if _, err := SSH(SSHConfig{Address: "h:22", HostKey: []string{pin}}); err == nil {
			t.Errorf("pin %q was accepted", pin)
		}
	}
	for _, address := range []string{"", "host", ":22", "host:", "::1"} {
		if _, err := SSH(SSHConfig{Address: address}); err == nil || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("address %q: %v", address, err)
		}
	}
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	for name, file := range map[string]string{
		"missing":   filepath.Join(t.TempDir(), "none"),
		"malformed": knownHosts(t, "# fine", "host ssh-ed25519 nonsense!"),
	} {
		cfg := configFor(server)
		cfg.KnownHosts = []string{file}
		_, err := open(t, cfg).Run(t.Context(), Command{})
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s known_hosts file: %v does not name it", name, err)
		}
		if name == "malformed" && !strings.Contains(err.Error(), file+":2") {
			t.Errorf("%v does not name the line", err)
		}
	}
	if server.Connections() != 0 {
		t.Error("a connection was made for nothing")
	}
}
