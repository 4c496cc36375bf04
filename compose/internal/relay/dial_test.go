package relay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/relay"
)

func TestOnlyTheRelayReachesAnIsolatedNetwork(t *testing.T) {
	s := newSite(t)
	open := s.Run(engine.ContainerSpec{
		Image: "sandboxer.local/test/server:" + s.ID, Cmd: []string{"serve"}, Network: s.Network("sandboxer-test-"+s.ID+"-open", nil),
	})
	details, err := s.InspectContainer(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range details.Networks {
		if err := directly(t, endpoint.IPv4); err != nil {
			t.Fatalf("a plain network: %v", err)
		}
	}

	if directly(t, s.addr) == nil {
		t.Error("the network is not isolated")
	}
	if got, want := get(t, s.http(t), "/hello"), "hello from server"; got != want {
		t.Errorf("through the relay: %q, want %q", got, want)
	}
}

// directly asks a server without the relay, for two seconds. That something accepts a connection is not enough: where
// all ways out lead through a proxy, something always does.
func directly(t *testing.T, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		host := netip.AddrPortFrom(addr, 8080).String()
		text, err := hello(ctx, client, host)
		if err == nil && text == "hello from "+host {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%q %v", text, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func hello(ctx context.Context, client *http.Client, host string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/hello", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	return string(text), err
}

func TestFiftyRequestsAtOnce(t *testing.T) {
	s := newSite(t)
	client := s.http(t)
	for range 2 { // the second time over kept connections
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := get(t, client, "/hello"); got != "hello from server" {
					t.Errorf("%q", got)
				}
			})
		}
		all.Wait()
	}
	client.CloseIdleConnections()
	s.awaitProcesses(t, 1)
}

// awaitProcesses waits until the relay has so many processes.
func (s *site) awaitProcesses(t *testing.T, want int) {
	t.Helper()
	var top struct{ Processes [][]string }
	for range 500 {
		s.Get("/containers/"+s.relay+"/top", &top)
		if len(top.Processes) == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the relay has not %d processes: %q", want, top.Processes)
}

// heard is what the server's port 9003 got last: how many bytes, and what error.
func (s *site) heard(t *testing.T) string {
	t.Helper()
	conn := s.mustDial(t, 9006)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConnectionsThatAreNotMade(t *testing.T) {
	s := newSite(t)
	for name, test := range map[string]struct {
		addr netip.AddrPort
		want []error // any of them; engines differ in the routes they give and in how they switch IPv6 off
	}{
		"nobody listens":     {netip.AddrPortFrom(s.addr, 1), []error{relay.ErrRefused}},
		"nobody is there":    {netip.AddrPortFrom(unused(t, s), 8080), []error{relay.ErrNoRoute}},
		"another network":    {netip.MustParseAddrPort("198.51.100.1:80"), []error{relay.ErrUnreachable, relay.ErrNoRoute}},
		"no IPv6":            {netip.MustParseAddrPort("[2001:db8::1]:80"), nil},
		"IPv4 in IPv6 dress": {netip.AddrPortFrom(netip.AddrFrom16(s.addr.As16()), 1), []error{relay.ErrRefused}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			conn, err := relay.Dial(ctx, s.Client, s.relay, test.addr)
			if err == nil {
				conn.Close()
			}
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" || op.Addr.(*net.TCPAddr).Port != int(test.addr.Port()) {
				t.Errorf("%v is no dial error", err)
			}
			if test.want != nil && !slices.ContainsFunc(test.want, func(want error) bool { return errors.Is(err, want) }) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
	for _, addr := range []netip.AddrPort{{}, netip.MustParseAddrPort("[fe80::1%eth0]:80")} {
		if _, err := relay.Dial(t.Context(), s.Client, s.relay, addr); err == nil || !strings.Contains(err.Error(), "address") {
			t.Errorf("%v: %v", addr, err)
		}
	}
	s.awaitProcesses(t, 1)
}

// unused is an address of the site's network that nobody has.
func unused(t *testing.T, s *site) netip.Addr {
	t.Helper()
	network, err := s.InspectNetwork(t.Context(), s.network)
	if err != nil {
		t.Fatal(err)
	}
	addr := s.addr
	for range 10 {
		addr = addr.Next()
	}
	if !network.Subnets[0].Contains(addr) {
		t.Fatalf("%v is not in %v", addr, network.Subnets[0])
	}
	return addr
}

func TestWithoutARelayTheErrorIsTheEngines(t *testing.T) {
	s := newSite(t)
	addr := netip.AddrPortFrom(s.addr, 8080)
	if _, err := relay.Dial(t.Context(), s.Client, "sandboxer-test-none", addr); !engine.IsNotFound(err) {
		t.Errorf("no such container: %v", err)
	}
	if _, err := relay.Dial(t.Context(), s.Client, s.server, addr); err == nil || !strings.Contains(err.Error(), "/relay") {
		t.Errorf("no relay in the container: %v", err)
	}
	if err := s.StopContainer(t.Context(), s.relay, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.Dial(t.Context(), s.Client, s.relay, addr); !engine.IsConflict(err) {
		t.Errorf("a stopped relay: %v", err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	s := newSite(t)
	for _, patience := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 300 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begin := time.Now()
		_, err := relay.Dial(ctx, s.Client, s.relay, netip.AddrPortFrom(unused(t, s), 80)) // silent for seconds
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", patience, err)
		}
		if took := time.Since(begin); took > patience+time.Second {
			t.Errorf("after %v: took %v", patience, took)
		}
	}
	s.awaitProcesses(t, 1)
}
