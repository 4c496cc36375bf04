package relay_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
	"github.com/sand-boxer/sandboxer/internal/hosttest"
	"github.com/sand-boxer/sandboxer/internal/sshtest"
)

func TestRelayOverSSH(t *testing.T) {
	s := newSite(t)
	server := sshtest.Start(t, sshtest.Options{})
	proxy := sshtest.NewProxy(t, server.Addr)
	link := login(t, server, proxy.Addr)
	remote := engine.New(func(ctx context.Context) (net.Conn, error) { return link.DialContext(ctx, "unix", hosttest.Socket()) })
	dial := func(ctx context.Context, port uint16) (net.Conn, error) {
		return relay.Dial(ctx, remote, s.relay, netip.AddrPortFrom(s.addr, port))
	}

	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, 8080) }}
	client := &http.Client{Transport: transport}
	body := strings.Repeat("0123456789abcdef", 5<<20/16)
	resp, err := client.Post("http://server/hash", "", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(body))); err != nil || string(answer) != want {
		t.Errorf("%q %v, want %q", answer, err, want)
	}
	transport.CloseIdleConnections()
	s.awaitProcesses(t, 1)

	conn, err := dial(t.Context(), 9003)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if text, err := io.ReadAll(conn); err != nil || string(text) != "that is all" {
		t.Errorf("%q %v", text, err)
	}
	open, err := dial(t.Context(), 9001)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	proxy.Reset()
	if text, err := io.ReadAll(open); err == nil {
		t.Errorf("the link broke, and %q ended without an error", text)
	}
	if got := s.heard(t); !strings.Contains(got, "reset") {
		t.Errorf("the link broke, and the server heard %s", got)
	}
	s.awaitProcesses(t, 1)
}

func login(t *testing.T, server *sshtest.Server, addr string) *ssh.Client {
	t.Helper()
	pem, err := os.ReadFile(server.IdentityFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.New(server.KnownHostsFor(addr))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: server.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
