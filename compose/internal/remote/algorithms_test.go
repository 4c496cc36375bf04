//go:build linux || darwin

package remote

import (
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// insecure matches names of algorithms that are broken: SHA-1, MD5, DSA, CBC,
// RC4, and signatures by RSA as they were before SHA-2.
var insecure = regexp.MustCompile(`sha1|md5|ssh-dss|-cbc|arcfour|(^|,)ssh-rsa`)

// The server writes down what the client offered, and what came of it.
func TestOnlyModernAlgorithmsAreOffered(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), HostCA: true, Config: []string{"LogLevel DEBUG2"}})
	rsa := sshtest.NewKey(t, "rsa")
	server.Authorize(rsa)
	name := sshtest.KnownHostsName(server.Addr)
	for what, edit := range map[string]func(*SSHConfig){
		"known hosts": func(*SSHConfig) {},
		"rsa alone":   func(c *SSHConfig) { c.KnownHosts = []string{knownHosts(t, name+" "+server.HostKey("rsa"))} },
		"authority":   func(c *SSHConfig) { c.KnownHosts = []string{knownHosts(t, "@cert-authority * "+server.CAKey)} },
		"pinned":      func(c *SSHConfig) { c.HostKey = []string{server.HostKey("rsa")} },
	} {
		t.Run(what, func(t *testing.T) {
			before := len(server.Log())
			cfg := configFor(server)
			cfg.IdentityFiles = []string{rsa}
			edit(&cfg)
			mustRun(t, open(t, cfg), Command{Script: ":"})
			_, proposal, found := strings.Cut(server.Log()[before:], "peer client KEXINIT proposal")
			if !found {
				t.Fatalf("the server has not written down the proposal\n%s", server.Log()[before:])
			}
			for _, kind := range []string{"KEX algorithms", "host key algorithms", "ciphers ctos", "ciphers stoc", "MACs ctos", "MACs stoc"} {
				_, rest, _ := strings.Cut(proposal, kind+": ")
				names, _, _ := strings.Cut(rest, " [preauth]")
				if names == "" || insecure.MatchString(names) {
					t.Errorf("%s: %q", kind, names)
				}
			}
			if !strings.Contains(proposal, "pkalg rsa-sha2-512 ") || strings.Contains(proposal, "pkalg ssh-rsa") {
				t.Error("the key did not sign with SHA-2")
			}
		})
	}
}

// A server that has nothing better is refused, and the error names what it has.
func TestServersWithSHA1AloneAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config []string
		names  string
	}{
		{[]string{"KexAlgorithms diffie-hellman-group14-sha1"}, "diffie-hellman-group14-sha1"},
		{[]string{"MACs hmac-sha1", "Ciphers aes128-ctr"}, "hmac-sha1"},
		{[]string{"HostKeyAlgorithms ssh-rsa"}, "ssh-rsa"},
		{[]string{"Ciphers aes256-cbc"}, "aes256-cbc"},
	} {
		t.Run(tt.names, func(t *testing.T) {
			t.Parallel()
			server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: tt.config})
			cfg := configFor(server)
			cfg.KnownHosts = []string{knownHosts(t, sshtest.KnownHostsName(server.Addr)+" "+server.HostKey("rsa"))}
			_, err := open(t, cfg).Run(t.Context(), Command{})
			var none *ssh.AlgorithmNegotiationError
			if !errors.As(err, &none) || Temporary(err) || !strings.Contains(err.Error(), tt.names) {
				t.Errorf("got %v, want an AlgorithmNegotiationError that names %s", err, tt.names)
			}
		})
	}
	t.Run("signatures of the client", func(t *testing.T) {
		t.Parallel()
		server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{"PubkeyAcceptedAlgorithms ssh-rsa", "LogLevel DEBUG1"}})
		rsa := sshtest.NewKey(t, "rsa")
		server.Authorize(rsa)
		cfg := configFor(server)
		cfg.IdentityFiles = []string{rsa}
		_, err := open(t, cfg).Run(t.Context(), Command{})
		var auth *AuthError
		if !errors.As(err, &auth) || server.Logins() != 0 {
			t.Errorf("got %v, want an AuthError", err)
		}
		if log := server.Log(); strings.Contains(log, "pkalg ssh-rsa") {
			t.Errorf("SHA-1 was tried:\n%s", log)
		}
	})
}

func TestDSAKeysAreNotOffered(t *testing.T) {
	t.Parallel()
	if kinds, err := exec.Command("ssh", "-Q", "key").Output(); err != nil || !strings.Contains(string(kinds), "ssh-dss") {
		t.Skip("this OpenSSH makes no DSA keys any more")
	}
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	key := sshtest.NewKey(t, "dsa")
	cfg := configFor(server)
	cfg.IdentityFiles = []string{key}
	if _, err := SSH(cfg); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("in a file: %v", err)
	}
	cfg.IdentityFiles, cfg.AgentSocket = nil, sshtest.StartAgent(t, key)
	_, err := open(t, cfg).Run(t.Context(), Command{})
	var auth *AuthError
	if !errors.As(err, &auth) || !strings.Contains(err.Error(), "SHA-1 only") {
		t.Errorf("in an agent: got %v, want an AuthError that says why", err)
	}
}
