// Package sshtest starts a real OpenSSH server for a test, and a proxy that
// breaks the link to it in the ways links break.
package sshtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Options vary a [Server]. The zero value is a server with OpenSSH's defaults.
type Options struct {
	// Config holds sshd_config lines. They come first in the file, and for
	// sshd the first value of a keyword wins.
	Config []string

	// Home is the HOME of sessions, and so where a login shell finds its rc
	// files; empty is the account's own. It takes the configuration's one
	// SetEnv line.
	Home string

	// LoginShell, an absolute path, is given each command line as "-c" would
	// give it to a login shell. Empty runs the account's own.
	LoginShell string

	// HostCA makes the server present host certificates, valid for 127.0.0.1,
	// beside its plain keys; [Server.CAKey] signed them.
	HostCA bool

	// Enter begins the command that runs sshd, such as "nsenter --net=…", and
	// Host is the address to listen on there; empty is 127.0.0.1.
	Enter []string
	Host  string
}

// A Server is an sshd on a loopback port that lets the current user in with a
// key made for the test. The test's cleanup ends it and all its connections.
type Server struct {
	Addr         string // host:port, the same after a restart
	User         string // the account to log in to
	IdentityFile string // the private key that is let in
	KnownHosts   string // a known_hosts file with the host keys of the start
	CAKey        string // the signer of host certificates, "type base64"; empty without HostCA

	t        testing.TB
	opts     Options
	dir      string
	sshd     string
	listener *listener // nil while stopped
}

// A listener is the running sshd that accepts connections.
type listener struct {
	process *os.Process
	leash   io.Closer // open for as long as sshd is to live
	exited  chan struct{}
}

// leashed becomes the command in its arguments and kills it when standard
// input ends: also when the test dies without cleaning up.
const leashed = `exec 3<&0; { read -r _ <&3; kill -9 $$; } & exec 3<&-; exec "$@" </dev/null`

// startLimit bounds how long sshd may take to listen, on a busy machine.
const startLimit = 20 * time.Second

// Start runs a server for the duration of t. Where no sshd is installed it
// skips t, or fails it if SANDBOXER_REQUIRE_ENGINE is 1.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	sshd, err := lookSSHD()
	if err != nil {
		if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	account, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, opts: opts, dir: t.TempDir(), sshd: sshd, User: account.Username}
	s.makeHostKeys()
	s.makeIdentity()
	if os.Geteuid() == 0 {
		// sshd separates privileges into this directory, which only the
		// distribution's service start creates.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.Stop)
	s.listenAnywhere()
	s.KnownHosts = s.KnownHostsFor(s.Addr)
	return s
}

func lookSSHD() (string, error) {
	if path, err := exec.LookPath("sshd"); err == nil {
		return filepath.Abs(path) // sshd runs itself again by its absolute path
	}
	for _, path := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("sshtest: no sshd in PATH or /usr/sbin: install openssh-server")
}

// listenAnywhere starts sshd on a port that was free a moment ago, and on
// another if somebody was quicker.
func (s *Server) listenAnywhere() {
	s.t.Helper()
	var err error
	for range 5 {
		s.Addr = freeAddr(s.t)
		if s.opts.Host != "" {
			_, port, _ := net.SplitHostPort(s.Addr)
			s.Addr = net.JoinHostPort(s.opts.Host, port)
		}
		if err = s.listen(); err == nil {
			return
		}
		if !strings.Contains(s.Log(), "Address already in use") {
			break
		}
	}
	s.t.Fatalf("sshtest: %v\n%s", err, s.Log())
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// listen starts sshd on s.Addr and returns when it listens. It does not probe
// the port: sshd would count that as a connection.
func (s *Server) listen() error {
	if err := s.writeConfig(); err != nil {
		return err
	}
	before := strings.Count(s.Log(), "Server listening on")
	args := append([]string{"-c", leashed, "sh"}, s.opts.Enter...)
	cmd := exec.Command("/bin/sh", append(args, s.sshd, "-D", "-f", s.path("sshd_config"), "-E", s.path("log"))...)
	leash, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l := &listener{process: cmd.Process, leash: leash, exited: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(l.exited)
	}()
	deadline := time.Now().Add(startLimit)
	for strings.Count(s.Log(), "Server listening on") == before {
		select {
		case <-l.exited:
			return fmt.Errorf("sshd did not start: %v", cmd.ProcessState)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			l.process.Kill()
			return fmt.Errorf("sshd did not listen within %v", startLimit)
		}
	}
	s.listener = l
	return nil
}

func (s *Server) writeConfig() error {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	lines := append([]string{}, s.opts.Config...)
	lines = append(lines,
		"ListenAddress "+host,
		"Port "+port,
		"AuthorizedKeysFile "+s.path("authorized_keys"),
		"LogLevel VERBOSE",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password",
		"PidFile none",
		"StrictModes no",
		"UsePAM no",
	)
	for _, kind := range hostKeyKinds() {
		lines = append(lines, "HostKey "+s.hostKeyFile(kind))
		if s.opts.HostCA {
			lines = append(lines, "HostCertificate "+s.hostKeyFile(kind)+"-cert.pub")
		}
	}
	if s.opts.Home != "" {
		lines = append(lines, "SetEnv HOME="+s.opts.Home)
	}
	if s.opts.LoginShell != "" {
		lines = append(lines, "ForceCommand "+s.opts.LoginShell+` -c "$SSH_ORIGINAL_COMMAND"`)
	}
	// Tests misbehave on purpose; the penalties that newer servers give for it
	// would spill into the next test.
	const noPenalties = "PerSourcePenalties no"
	if s.accepts(append(lines, noPenalties)) {
		lines = append(lines, noPenalties)
	}
	return writeLines(s.path("sshd_config"), lines)
}

// accepts reports whether this sshd takes the lines for a configuration.
func (s *Server) accepts(lines []string) bool {
	file := s.path("sshd_config.try")
	if err := writeLines(file, lines); err != nil {
		return false
	}
	return exec.Command(s.sshd, "-t", "-f", file).Run() == nil
}

func writeLines(path string, lines []string) error {
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// Stop ends the server and its connections at once, as a crash of the machine
// would. What a session detached from itself goes on.
func (s *Server) Stop() {
	if s.listener == nil {
		return
	}
	family := descendants(s.listener.process.Pid)
	for _, pid := range slices.Backward(family) {
		kill(s.t, pid)
	}
	s.listener.process.Kill()
	<-s.listener.exited
	s.listener.leash.Close()
	s.listener = nil
}

// Restart stops the server and starts it on the same address.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.listen(); err != nil {
		s.t.Fatalf("sshtest: %v\n%s", err, s.Log())
	}
}

// RotateHostKeys gives the server new host keys and restarts it. The
// known_hosts files written before keep the old ones.
func (s *Server) RotateHostKeys() {
	s.t.Helper()
	s.makeHostKeys()
	s.Restart()
}

// Log returns what sshd has logged so far, at level VERBOSE.
func (s *Server) Log() string {
	log, err := os.ReadFile(s.path("log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Error(err)
	}
	return string(log)
}

// Connections counts the TCP connections the server has seen.
func (s *Server) Connections() int {
	return strings.Count(s.Log(), "Connection from ")
}

// Logins counts the connections that were let in.
func (s *Server) Logins() int {
	return strings.Count(s.Log(), "Accepted publickey for ")
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }
