package sshtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func hostKeyKinds() []string { return []string{"ed25519", "ecdsa", "rsa"} }

// NewKey makes a key pair without passphrase of a kind ssh-keygen knows
// ("ed25519", "ecdsa", "rsa") and returns the private key's file.
func NewKey(t testing.TB, kind string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "id_"+kind)
	keygen(t, keygenArgs(kind, file)...)
	return file
}

func keygenArgs(kind, file string) []string {
	args := []string{"-q", "-t", kind, "-N", "", "-C", "sshtest", "-f", file}
	if kind == "rsa" {
		args = append(args, "-b", "2048") // the default of 3072 costs a busy machine seconds
	}
	return args
}

func keygen(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command("ssh-keygen", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sshtest: ssh-keygen %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *Server) makeHostKeys() {
	s.t.Helper()
	for _, kind := range hostKeyKinds() {
		file := s.hostKeyFile(kind)
		os.Remove(file)
		keygen(s.t, keygenArgs(kind, file)...)
	}
	if s.opts.HostCA {
		s.signHostKeys()
	}
}

func (s *Server) signHostKeys() {
	s.t.Helper()
	ca := NewKey(s.t, "ed25519")
	for _, kind := range hostKeyKinds() {
		Certify(s.t, ca, s.hostKeyFile(kind), "-h", "-n", "127.0.0.1")
	}
	s.CAKey = publicKey(s.t, ca)
}

// Certify has the authority, a private key file, sign the public half of a key
// file, which writes the certificate beside it. args are more options of
// ssh-keygen: -h makes a host certificate, -n names whom it is for.
func Certify(t testing.TB, authority, file string, args ...string) {
	t.Helper()
	keygen(t, append(append([]string{"-q", "-s", authority, "-I", "sshtest"}, args...), file+".pub")...)
}

// CertifyHostKeys gives a server that has HostCA certificates by another
// authority, with more options of ssh-keygen, and restarts it.
func (s *Server) CertifyHostKeys(authority string, args ...string) {
	s.t.Helper()
	for _, kind := range hostKeyKinds() {
		Certify(s.t, authority, s.hostKeyFile(kind), append([]string{"-h"}, args...)...)
	}
	s.CAKey = publicKey(s.t, authority)
	s.Restart()
}

func (s *Server) makeIdentity() {
	s.t.Helper()
	s.IdentityFile = s.path("id_ed25519")
	keygen(s.t, keygenArgs("ed25519", s.IdentityFile)...)
	s.Authorize(s.IdentityFile)
}

// Authorize lets in whoever holds the private key in file, and nobody else
// any more.
func (s *Server) Authorize(file string) {
	s.t.Helper()
	if err := writeLines(s.path("authorized_keys"), []string{publicKey(s.t, file)}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) hostKeyFile(kind string) string { return s.path("host_" + kind) }

// HostKey returns the server's present public key of a kind ("ed25519",
// "ecdsa", "rsa"), as "type base64".
func (s *Server) HostKey(kind string) string {
	s.t.Helper()
	return publicKey(s.t, s.hostKeyFile(kind))
}

// KnownHostsFor writes a known_hosts file that knows the server's present keys
// under addr (the address of a [Proxy], say) and returns its path.
func (s *Server) KnownHostsFor(addr string) string {
	s.t.Helper()
	var lines []string
	for _, kind := range hostKeyKinds() {
		lines = append(lines, KnownHostsName(addr)+" "+s.HostKey(kind))
	}
	file := filepath.Join(s.t.TempDir(), "known_hosts")
	if err := writeLines(file, lines); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// KnownHostsName returns how known_hosts writes an address with a port that is
// not 22.
func KnownHostsName(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return "[" + host + "]:" + port
}

// publicKey reads "type base64" from the public half of the private key file.
func publicKey(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	return fields[0] + " " + fields[1]
}
