//go:build linux || darwin

package remote

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

func TestUserCertificates(t *testing.T) {
	t.Parallel()
	ca := sshtest.NewKey(t, "ed25519")
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{"LogLevel DEBUG1", "TrustedUserCAKeys " + ca + ".pub"}})
	certified := func(t *testing.T, kind string, args ...string) string {
		t.Helper()
		key := sshtest.NewKey(t, kind)
		sshtest.Certify(t, ca, key, append([]string{"-n", server.User}, args...)...)
		return key
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind+" file", func(t *testing.T) {
			cfg := configFor(server)
			cfg.IdentityFiles = []string{certified(t, kind)}
			mustRun(t, open(t, cfg), Command{Script: ":"})
		})
		t.Run(kind+" in an agent", func(t *testing.T) {
			cfg := configFor(server)
			cfg.IdentityFiles, cfg.AgentSocket = nil, sshtest.StartAgent(t, certified(t, kind))
			mustRun(t, open(t, cfg), Command{Script: ":"})
		})
	}
	t.Run("encrypted file, key in an agent, certificate beside the file", func(t *testing.T) {
		key := sshtest.NewKey(t, "rsa")
		cfg := configFor(server)
		cfg.IdentityFiles, cfg.AgentSocket = []string{key}, sshtest.StartAgent(t, key)
		sshtest.Certify(t, ca, key, "-n", server.User)
		encrypt(t, key)
		mustRun(t, open(t, cfg), Command{Script: ":"})
	})
	if !strings.Contains(server.Log(), "pkalg rsa-sha2-512-cert-v01@openssh.com") || strings.Contains(server.Log(), "pkalg ssh-rsa") {
		t.Error("an RSA certificate was not used with SHA-2 alone")
	}
	t.Run("named, elsewhere than the key", func(t *testing.T) {
		key := certified(t, "ed25519")
		elsewhere := t.TempDir() + "/cert"
		move(t, key+"-cert.pub", elsewhere)
		cfg := configFor(server)
		cfg.IdentityFiles, cfg.CertificateFiles = []string{key}, []string{elsewhere}
		mustRun(t, open(t, cfg), Command{Script: ":"})
		cfg.AgentKeys, cfg.IdentityFiles, cfg.AgentSocket = true, nil, sshtest.StartAgent(t, key)
		mustRun(t, open(t, cfg), Command{Script: ":"})
		cfg.AgentSocket = NoAgent
		var auth *AuthError
		if _, err := open(t, cfg).Run(t.Context(), Command{}); !errors.As(err, &auth) || !strings.Contains(err.Error(), elsewhere+" (not offered") {
			t.Errorf("without its key: %v", err)
		}
		cfg.CertificateFiles = []string{elsewhere + "-none"}
		if _, err := SSH(cfg); err == nil || !strings.Contains(err.Error(), elsewhere+"-none") {
			t.Errorf("no such file: %v", err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		cfg := configFor(server)
		cfg.IdentityFiles = []string{certified(t, "ed25519", "-V", "20200101000000Z:20200102000000Z")}
		_, err := open(t, cfg).Run(t.Context(), Command{})
		var auth *AuthError
		if !errors.As(err, &auth) || len(auth.Tried) != 2 || !strings.Contains(err.Error(), "valid until 2020-01-02T00:00:00Z") {
			t.Errorf("got %v, want an AuthError that names the key, its certificate and until when that is valid", err)
		}
	})
	t.Run("a host that knows the key, not the authority", func(t *testing.T) {
		key := sshtest.NewKey(t, "ed25519")
		sshtest.Certify(t, sshtest.NewKey(t, "ed25519"), key, "-n", server.User)
		server.Authorize(key)
		cfg := configFor(server)
		cfg.IdentityFiles = []string{key}
		mustRun(t, open(t, cfg), Command{Script: ":"})
	})
	for name, spoil := range map[string]func(file string){
		"of another key": func(file string) {
			text, err := os.ReadFile(certified(t, "ed25519") + "-cert.pub")
			if err == nil {
				err = os.WriteFile(file, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"no certificate": func(file string) { os.WriteFile(file, []byte("nonsense"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			key := sshtest.NewKey(t, "ed25519")
			spoil(key + "-cert.pub")
			cfg := configFor(server)
			cfg.IdentityFiles = []string{key}
			if _, err := SSH(cfg); err == nil || !strings.Contains(err.Error(), key+"-cert.pub") {
				t.Errorf("%v does not name the file", err)
			}
		})
	}
}

func TestHostCertificates(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), HostCA: true})
	rsa := sshtest.NewKey(t, "rsa")
	for _, tt := range []struct {
		name   string
		args   []string // of ssh-keygen
		detail string   // empty: trusted
	}{
		{"SHA-2 signature", []string{"-n", "127.0.0.1"}, ""},
		{"SHA-1 signature", []string{"-n", "127.0.0.1", "-t", "ssh-rsa"}, "SHA-1"},
		{"expired", []string{"-n", "127.0.0.1", "-V", "20200101000000Z:20200102000000Z"}, "expired"},
		{"not valid yet", []string{"-n", "127.0.0.1", "-V", "20900101000000Z:20900102000000Z"}, "not yet valid"},
		{"for another host", []string{"-n", "127.0.0.2"}, "127.0.0.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.CertifyHostKeys(rsa, tt.args...)
			cfg := configFor(server)
			cfg.KnownHosts = []string{knownHosts(t, "@cert-authority "+sshtest.KnownHostsName(server.Addr)+" "+server.CAKey)}
			_, err := open(t, cfg).Run(t.Context(), Command{Script: ":"})
			if tt.detail == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var key *HostKeyError
			if !errors.As(err, &key) || key.Kind != HostKeyInvalid || !strings.Contains(key.Detail, tt.detail) {
				t.Errorf("got %v, want an invalid certificate: %s", err, tt.detail)
			}
		})
	}
	t.Run("the authority's key as the host's own", func(t *testing.T) {
		server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{"HostKeyAlgorithms ssh-ed25519"}})
		cfg := configFor(server)
		cfg.KnownHosts = []string{knownHosts(t, "@cert-authority "+sshtest.KnownHostsName(server.Addr)+" "+server.HostKey("ed25519"))}
		_, err := open(t, cfg).Run(t.Context(), Command{Script: ":"})
		var key *HostKeyError
		if !errors.As(err, &key) || key.Kind != HostKeyInvalid {
			t.Errorf("got %v, want a HostKeyError", err)
		}
	})
}
