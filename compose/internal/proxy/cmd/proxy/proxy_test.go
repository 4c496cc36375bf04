//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/internal/allowlist"
)

// A site is a proxy with its list, and a server that the proxy may have to reach.
type site struct {
	server *httptest.Server
	proxy  *httptest.Server
	log    *lockedBuffer

	lookups atomic.Int32
}

// lookup leads some names to the server's address, which is a private one.
func (s *site) lookup(_ context.Context, _, host string) ([]netip.Addr, error) {
	s.lookups.Add(1)
	if host == "rebound.invalid." {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// newSite allows the entries, in which PORT is the server's.
func newSite(t *testing.T, entries ...string) *site {
	t.Helper()
	s := &site{log: &lockedBuffer{}}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q", r.Method, r.Host, r.URL.Path, body)
	}))
	t.Cleanup(s.server.Close)
	for i := range entries {
		entries[i] = strings.ReplaceAll(entries[i], "PORT", s.port(t))
	}
	list, err := allowlist.ParseList(entries)
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(list, s.log)
	p.lookup = s.lookup
	s.proxy = httptest.NewServer(p)
	t.Cleanup(s.proxy.Close)
	return s
}

func (s *site) port(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(s.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// raw sends text to the proxy and returns all that comes back until the end.
func (s *site) raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestListedAddressesAreReached(t *testing.T) {
	s := newSite(t, "127.0.0.0/8:PORT")
	proxyURL, _ := url.Parse(s.proxy.URL)
	client := http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return proxyURL, nil }}}
	resp, err := client.Post(s.server.URL+"/a", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if want := `POST 127.0.0.1:` + s.port(t) + ` /a "hello"`; string(body) != want {
		t.Errorf("a plain request was answered %q, want %q", body, want)
	}
	answer := s.raw(t, "CONNECT 127.0.0.1:"+s.port(t)+" HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.Contains(answer, "GET inner /b") {
		t.Errorf("what came through a tunnel: %q", answer)
	}
	if log := s.log.String(); !strings.Contains(log, "connected \"127.0.0.1:"+s.port(t)+"\" at 127.0.0.1:") {
		t.Errorf("the log says %q", log)
	}
}

func TestEverythingElseIsRefused(t *testing.T) {
	s := newSite(t, "example.invalid:PORT", "rebound.invalid:PORT", "192.0.2.1:PORT")
	for _, target := range []string{
		"127.0.0.1:PORT", "[::1]:PORT", "[::ffff:127.0.0.1]:PORT", "0.0.0.0:PORT", "2130706433:PORT", "0x7f000001:PORT",
		"example.invalid:1", "other.invalid:PORT", "www.example.invalid:PORT", "169.254.169.254:80",
		"example.invalid", "example.invalid:", ":PORT", "[fe80::1%25lo]:PORT", "example.invalid:PORT@127.0.0.1:PORT",
		"rebound.invalid:PORT", // on the list, but it leads to an address that is private
	} {
		target = strings.ReplaceAll(target, "PORT", s.port(t))
		for _, request := range []string{
			"CONNECT " + target + " HTTP/1.1\r\nHost: example.invalid\r\nConnection: close\r\n\r\n",
			"GET http://" + target + "/ HTTP/1.1\r\nHost: example.invalid\r\nConnection: close\r\n\r\n",
		} {
			answer := s.raw(t, request)
			status, _, _ := strings.Cut(answer, "\r\n")
			if !strings.Contains(status, " 403 ") && !strings.Contains(status, " 400 ") {
				t.Errorf("%q was answered %q, want a refusal", request, status)
			}
		}
	}
	if log := s.log.String(); strings.Contains(log, "connected") {
		t.Errorf("a connection was made: %s", log)
	}
}

// A name that is refused must not be looked up: the query itself carries data
// out. One that is allowed is.
func TestRefusedNamesAreNotLookedUp(t *testing.T) {
	s := newSite(t, "allowed.invalid:443")
	s.raw(t, "CONNECT secret-data.attacker.invalid:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if s.lookups.Load() != 0 {
		t.Error("a name that is not on the list was looked up")
	}
	if answer := s.raw(t, "CONNECT allowed.invalid:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(answer, " 502 ") {
		t.Errorf("a name that does not resolve was answered %q", answer)
	}
	if s.lookups.Load() == 0 {
		t.Error("an allowed name was not looked up: this test looks at the wrong thing")
	}
}

func TestAListedRangeOpensAPrivateAddress(t *testing.T) {
	s := newSite(t, "rebound.invalid:PORT", "127.0.0.0/8:PORT")
	answer := s.raw(t, "GET http://rebound.invalid:"+s.port(t)+"/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if !strings.Contains(answer, "GET rebound.invalid:"+s.port(t)+" /x") {
		t.Errorf("answered %q", answer)
	}
}

func TestWhatIsNoProxyRequest(t *testing.T) {
	s := newSite(t, "127.0.0.1:PORT")
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
		"GET https://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
		"GET ftp://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
	} {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(s.raw(t, request))), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %v %v, want 400", request, resp, err)
		}
	}
}

// The Host header does not choose where a plain request goes.
func TestTheHostHeaderDoesNotCount(t *testing.T) {
	s := newSite(t, "127.0.0.1:PORT")
	answer := s.raw(t, "GET http://127.0.0.1:"+s.port(t)+"/x HTTP/1.1\r\nHost: elsewhere.invalid\r\nConnection: close\r\n\r\n")
	if !strings.Contains(answer, "GET 127.0.0.1:"+s.port(t)+" /x") {
		t.Errorf("the server saw another host: %q", answer)
	}
}
