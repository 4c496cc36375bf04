//go:build linux || darwin

package remote

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

// encrypt puts a passphrase on a key file, after which only an agent that has
// it already can use it.
func encrypt(t *testing.T, file string, format ...string) {
	t.Helper()
	args := append([]string{"-q", "-p", "-P", "", "-N", "passphrase", "-f", file}, format...)
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
}

func TestRefusedAuthenticationIsTriedOnce(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	stranger := sshtest.NewKey(t, "ed25519")
	cfg := configFor(server)
	cfg.IdentityFiles = []string{stranger}
	h := open(t, cfg)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			_, err := h.Run(t.Context(), Command{})
			var refused *AuthError
			if !errors.As(err, &refused) || Temporary(err) {
				t.Errorf("got %v, want an AuthError", err)
				return
			}
			if refused.Address != server.Addr || refused.User != server.User || len(refused.Tried) != 1 {
				t.Errorf("unexpected details: %+v", refused)
			}
			for _, want := range []string{stranger, fingerprint(t, publicKeyOf(t, stranger)), server.User + "@" + server.Addr} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %s: %v", want, err)
				}
			}
		})
	}
	all.Wait()
	if _, err := h.Run(t.Context(), Command{}); err == nil {
		t.Error("let in after all")
	}
	if server.Connections() != 1 || server.Logins() != 0 {
		t.Errorf("%d connections, %d logins; want one and none\n%s", server.Connections(), server.Logins(), server.Log())
	}
}

func TestHangingUpOnOurKeyIsNotAskedForTwice(t *testing.T) {
	t.Parallel()
	key := sshtest.NewKey(t, "ed25519")
	id, err := readIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	connections := make(chan net.Conn, 10)
	address := listenTo(t, "tcp", func(c net.Conn) {
		connections <- c
		cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			c.Close()
			return nil, errors.New("go away")
		}}
		cfg.AddHostKey(id.signer)
		ssh.NewServerConn(c, cfg)
	})
	h := open(t, SSHConfig{Address: address, User: "u", HostKey: []string{publicKeyOf(t, key)}, IdentityFiles: []string{key}})
	var unreachable *UnreachableError
	if _, err := h.Run(t.Context(), Command{}); !errors.As(err, &unreachable) {
		t.Errorf("got %v, want an UnreachableError", err)
	}
	if len(connections) != 1 {
		t.Errorf("%d connections, want 1", len(connections))
	}
}

func TestKeysThatAreLetIn(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	login := func(t *testing.T, key string, agent string, files ...string) {
		t.Helper()
		server.Authorize(key)
		cfg := configFor(server)
		cfg.IdentityFiles, cfg.AgentSocket = files, agent
		mustRun(t, open(t, cfg), Command{Script: ":"})
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind+" file", func(t *testing.T) {
			key := sshtest.NewKey(t, kind)
			login(t, key, "", key)
		})
		t.Run(kind+" in an agent", func(t *testing.T) {
			key := sshtest.NewKey(t, kind)
			login(t, key, sshtest.StartAgent(t, key))
		})
	}
	t.Run("second of two files", func(t *testing.T) {
		key := sshtest.NewKey(t, "ed25519")
		login(t, key, "", sshtest.NewKey(t, "ed25519"), key)
	})
	t.Run("encrypted file, key in the agent", func(t *testing.T) {
		key := sshtest.NewKey(t, "ed25519")
		agent := sshtest.StartAgent(t, sshtest.NewKey(t, "ed25519"), key)
		encrypt(t, key)
		login(t, key, agent, key)
	})
	t.Run("encrypted file of the old format", func(t *testing.T) {
		key := sshtest.NewKey(t, "rsa")
		agent := sshtest.StartAgent(t, key)
		encrypt(t, key, "-m", "PEM")
		login(t, key, agent, key)
	})
	t.Run("public key file, key in the agent", func(t *testing.T) {
		key := sshtest.NewKey(t, "ed25519")
		login(t, key, sshtest.StartAgent(t, key), key+".pub")
	})
}

func TestRSAKeysDoNotSignWithSHA1(t *testing.T) {
	t.Parallel()
	id, err := readIdentity(sshtest.NewKey(t, "rsa"))
	if err != nil {
		t.Fatal(err)
	}
	var k keyring
	k.add(id.signer, "test")
	signer, ok := k.signers[0].(ssh.MultiAlgorithmSigner)
	if !ok || !slices.Equal(signer.Algorithms(), []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}) {
		t.Errorf("%T may sign with more than SHA-2", k.signers[0])
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	encrypted := sshtest.NewKey(t, "ed25519")
	server.Authorize(encrypted)
	encrypt(t, encrypted)
	elsewhere := sshtest.NewKey(t, "ed25519")

	for name, cfg := range map[string]SSHConfig{
		"encrypted, no agent":            {IdentityFiles: []string{encrypted}},
		"encrypted, not in the agent":    {IdentityFiles: []string{encrypted}, AgentSocket: sshtest.StartAgent(t, elsewhere)},
		"encrypted, agent does not run":  {IdentityFiles: []string{encrypted}, AgentSocket: "/not/a/socket"},
		"public key, not in the agent":   {IdentityFiles: []string{encrypted + ".pub"}},
		"encrypted, beside a usable one": {IdentityFiles: []string{elsewhere, encrypted}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Address, cfg.User, cfg.KnownHosts = server.Addr, server.User, []string{server.KnownHosts}
			_, err := open(t, cfg).Run(t.Context(), Command{})
			var auth *AuthError
			if !errors.As(err, &auth) || !strings.Contains(err.Error(), cfg.IdentityFiles[len(cfg.IdentityFiles)-1]) || !strings.Contains(err.Error(), "ssh-add") {
				t.Errorf("got %v, want an AuthError that names the file and says what to do", err)
			}
		})
	}
	if server.Connections() != 0 {
		t.Error("a connection was made for nothing")
	}

	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{garbage, "/no/such/key"} {
		cfg := configFor(server)
		cfg.IdentityFiles = []string{file}
		if _, err := SSH(cfg); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("identity file %s: %v", file, err)
		}
	}
}

func TestAgentWithTooManyKeys(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	var keys []string
	for range 7 {
		keys = append(keys, sshtest.NewKey(t, "ed25519"))
	}
	cfg := configFor(server)
	cfg.IdentityFiles, cfg.AgentSocket = nil, sshtest.StartAgent(t, append(keys, server.IdentityFile)...)
	_, err := open(t, cfg).Run(t.Context(), Command{})
	var auth *AuthError
	if !errors.As(err, &auth) || !strings.Contains(err.Error(), "oo many authentication failures") {
		t.Errorf("got %v, want an AuthError that tells of too many failures", err)
	}
	// Naming the key offers no other.
	cfg.IdentityFiles = []string{server.IdentityFile + ".pub"}
	mustRun(t, open(t, cfg), Command{Script: ":"})
}

// One try for each credential, whatever the server would allow: a key that is
// in a file and in the agent is offered once, and nothing but keys is.
func TestEachCredentialIsTriedOnce(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir(), Config: []string{
		"LogLevel DEBUG1", "MaxAuthTries 4", "PasswordAuthentication yes", "KbdInteractiveAuthentication yes",
	}})
	rsa, ed25519, ecdsa := sshtest.NewKey(t, "rsa"), sshtest.NewKey(t, "ed25519"), sshtest.NewKey(t, "ecdsa")
	cfg := configFor(server)
	cfg.AgentSocket = sshtest.StartAgent(t, rsa, ed25519, ecdsa)
	for what, files := range map[string][]string{
		"in files and the agent, one file twice": {rsa, ed25519, ecdsa, rsa},
		"in the agent":                           nil,
	} {
		t.Run(what, func(t *testing.T) {
			before := len(server.Log())
			cfg.IdentityFiles = files
			_, err := open(t, cfg).Run(t.Context(), Command{})
			var auth *AuthError
			if !errors.As(err, &auth) || strings.Contains(err.Error(), "oo many") {
				t.Fatalf("got %v, want an AuthError within the limit", err)
			}
			log := server.Log()[before:]
			for _, key := range []string{rsa, ed25519, ecdsa} {
				refusal := regexp.MustCompile(`Failed publickey for .* ` + regexp.QuoteMeta(fingerprint(t, publicKeyOf(t, key))))
				if n := len(refusal.FindAllString(log, -1)); n != 1 {
					t.Errorf("%s was refused %d times", key, n)
				}
			}
			if strings.Contains(log, "method password") || strings.Contains(log, "method keyboard-interactive") {
				t.Error("another method than publickey was tried")
			}
		})
	}
	if server.Connections() != 2 {
		t.Errorf("%d connections, want 2\n%s", server.Connections(), server.Log())
	}
}

func TestFilesBeforeTheAgentsOtherKeys(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	file, locked := sshtest.NewKey(t, "ed25519"), sshtest.NewKey(t, "ed25519")
	encrypt(t, locked)
	cfg := configFor(server)
	cfg.AgentKeys, cfg.AgentSocket = true, sshtest.StartAgent(t, server.IdentityFile)
	cfg.IdentityFiles = []string{locked, file}
	mustRun(t, open(t, cfg), Command{Script: ":"})
	refused, accepted := strings.Index(server.Log(), fingerprint(t, publicKeyOf(t, file))), strings.Index(server.Log(), "Accepted publickey")
	if refused < 0 || refused > accepted {
		t.Error("the key of the file did not come first")
	}
	cfg.AgentSocket = NoAgent
	_, err := open(t, cfg).Run(t.Context(), Command{})
	var auth *AuthError
	if !errors.As(err, &auth) || !strings.Contains(err.Error(), locked+" (not offered: encrypted") {
		t.Errorf("got %v, want an AuthError that names the encrypted file", err)
	}
}

// TestDefaultKeys is not parallel: it moves the home directory.
func TestDefaultKeys(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{Home: t.TempDir()})
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	dir := filepath.Join(home, ".ssh")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := configFor(server)
	cfg.IdentityFiles, cfg.KnownHosts = nil, nil

	var key *HostKeyError
	var auth *AuthError
	if _, err := open(t, cfg).Run(t.Context(), Command{}); !errors.As(err, &auth) || !strings.Contains(err.Error(), "no key to offer") {
		t.Errorf("without any key: %v", err)
	}
	move(t, server.IdentityFile, filepath.Join(dir, "id_ed25519"))
	if _, err := open(t, cfg).Run(t.Context(), Command{}); !errors.As(err, &key) || key.Kind != HostKeyUnknown {
		t.Errorf("without a known_hosts file: %v", err)
	}
	move(t, server.KnownHosts, filepath.Join(dir, "known_hosts"))
	mustRun(t, open(t, cfg), Command{Script: ":"})

	encrypt(t, filepath.Join(dir, "id_ed25519"))
	if _, err := open(t, cfg).Run(t.Context(), Command{}); !errors.As(err, &auth) || !strings.Contains(err.Error(), filepath.Join(dir, "id_ed25519")+" (not offered: encrypted") {
		t.Errorf("with an encrypted key: %v", err)
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
