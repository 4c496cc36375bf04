package relay_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/engine/enginetest"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

// site is a network that nothing outside can reach, with a server on it and a relay.
type site struct {
	*enginetest.Engine
	network string // id
	server  string // container
	addr    netip.Addr
	spec    relay.Spec
	relay   string // container
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := emptySite(t)
	s.server = s.Run(engine.ContainerSpec{Image: s.Program("testdata/server"), Cmd: []string{"serve"}, Network: s.network})
	details, err := s.InspectContainer(t.Context(), s.server)
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range details.Networks {
		s.addr = endpoint.IPv4
	}
	if s.relay, err = relay.Ensure(t.Context(), s.Client, s.spec); err != nil {
		t.Fatal(err)
	}
	s.awaitServer(t)
	return s
}

// emptySite has no server and no relay yet.
func emptySite(t testing.TB) *site {
	t.Helper()
	s := &site{Engine: enginetest.Start(t)}
	s.network = s.isolated("sandboxer-test-" + s.ID)
	version, err := s.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.spec = relay.Spec{ID: s.ID, Labels: s.Labels(), Networks: []string{s.network}, Arch: version.Arch}
	return s
}

func (s *site) isolated(name string) string {
	return s.Network(name, map[string]any{
		"Internal": true,
		"Options":  map[string]string{"com.docker.network.bridge.inhibit_ipv4": "true"},
	})
}

func (s *site) awaitServer(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn, err := s.dial(t.Context(), 8080)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *site) dial(ctx context.Context, port uint16) (net.Conn, error) {
	return relay.Dial(ctx, s.Client, s.relay, netip.AddrPortFrom(s.addr, port))
}

// mustDial is closed with the test.
func (s *site) mustDial(t testing.TB, port uint16) net.Conn {
	t.Helper()
	conn, err := s.dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// http is a client whose every request goes to the server.
func (s *site) http(t testing.TB) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, 8080) },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func get(t testing.TB, client *http.Client, path string) string {
	t.Helper()
	resp, err := client.Get("http://server" + path)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}
