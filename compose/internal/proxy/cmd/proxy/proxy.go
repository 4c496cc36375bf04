//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer/internal/allowlist"
)

// A proxy serves the requests of one sandbox.
type proxy struct {
	list   allowlist.List
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	plain  *httputil.ReverseProxy // for requests that are not CONNECT
	log    *log.Logger
}

// errRefused is told to the client with status 403.
var errRefused = errors.New("not on the allowlist of the sandbox's profile (network.allow)")

func newProxy(list allowlist.List, out io.Writer) *proxy {
	p := &proxy{list: list, lookup: net.DefaultResolver.LookupNetIP, log: log.New(out, "", log.LstdFlags|log.LUTC|log.Lmsgprefix)}
	p.plain = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.Host = r.In.URL.Host },
		Transport: &http.Transport{
			DialContext:           func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, address) },
			MaxIdleConns:          64,
			IdleConnTimeout:       time.Minute,
			ResponseHeaderTimeout: 10 * time.Minute,
		},
		FlushInterval: -1, // streams must not wait
		ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { p.fail(w, r.URL.Host, err) },
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.Scheme != "http" || r.URL.Host == "":
		http.Error(w, "sandboxer: this is a proxy: it takes CONNECT, and requests for http://…", http.StatusBadRequest)
	default:
		p.plain.ServeHTTP(w, r)
	}
}

// connect joins the client to the host it names.
func (p *proxy) connect(w http.ResponseWriter, r *http.Request) {
	peer, err := p.dial(r.Context(), r.Host)
	if err != nil {
		p.fail(w, r.Host, err)
		return
	}
	defer peer.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.fail(w, r.Host, err)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	join(client, buffered, peer.(*net.TCPConn))
}

// join copies both ways until both have ended.
func join(client net.Conn, fromClient io.Reader, peer *net.TCPConn) {
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(peer, fromClient)
		_ = peer.CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(client, peer)
		if c, ok := client.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
	})
	both.Wait()
}

// connectTime bounds how long one address may take to answer.
const connectTime = 30 * time.Second

// dial connects to "host:port" if the list allows it, and says so in the log.
// The addresses that were judged are the ones connected to.
func (p *proxy) dial(ctx context.Context, target string) (net.Conn, error) {
	conn, err := p.allowed(ctx, target)
	switch {
	case errors.Is(err, errRefused):
		p.log.Printf("refused %q", target)
	case err != nil:
		p.log.Printf("failed %q: %v", target, err)
	default:
		p.log.Printf("connected %q at %v", target, conn.RemoteAddr())
	}
	return conn, err
}

func (p *proxy) allowed(ctx context.Context, target string) (net.Conn, error) {
	host, digits, err := net.SplitHostPort(target)
	if err != nil {
		return nil, errRefused
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return nil, errRefused
	}
	addresses, err := p.addresses(ctx, host, uint16(port))
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: connectTime}
	for _, a := range addresses {
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a, uint16(port)).String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// addresses lists where a host may be connected to, one at least.
func (p *proxy) addresses(ctx context.Context, host string, port uint16) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" || !p.list.Lists(a, port) {
			return nil, errRefused
		}
		return []netip.Addr{a}, nil
	}
	if !p.list.AllowsName(host, port) {
		return nil, errRefused // before it is looked up: a query carries data out
	}
	found, err := p.lookup(ctx, "ip", strings.TrimSuffix(host, ".")+".")
	if err != nil {
		return nil, err
	}
	var allowed []netip.Addr
	for _, a := range found {
		if p.list.AllowsAddress(a, port) {
			allowed = append(allowed, a.Unmap())
		}
	}
	if len(allowed) == 0 {
		return nil, fmt.Errorf("%w: %s leads to %v, which no range of it holds", errRefused, host, found)
	}
	return allowed, nil
}

func (p *proxy) fail(w http.ResponseWriter, target string, err error) {
	code := http.StatusBadGateway
	if errors.Is(err, errRefused) {
		code = http.StatusForbidden
	}
	http.Error(w, fmt.Sprintf("sandboxer: %s: %v", target, err), code)
}
