//go:build linux || darwin

package remote

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Local returns this machine as a Host. Scripts see the part of this process's
// environment that a login session would have: account, paths, and where the
// Docker engine is. Its Close ends scripts, but not the connections made by
// DialUnix and DialTCP.
//
// It fails on systems other than Linux and macOS.
func Local() (Host, error) {
	return newLocalHost("/bin/sh"), nil
}

type localHost struct {
	shell []string // what runs a script: a command to append "-c" and text to

	mu      sync.Mutex
	closed  chan struct{}
	running sync.WaitGroup
}

func newLocalHost(shell ...string) *localHost {
	return &localHost{shell: shell, closed: make(chan struct{})}
}

func (h *localHost) Run(ctx context.Context, cmd Command) (Result, error) {
	p, err := h.start(ctx)
	if err != nil {
		return Result{}, err
	}
	return run(ctx, p, cmd)
}

func (h *localHost) DialExec(ctx context.Context, cmd Command) (net.Conn, error) {
	p, err := h.start(ctx)
	if err != nil {
		return nil, err
	}
	return dialExec(ctx, p, cmd)
}

func (h *localHost) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	return h.dial(ctx, "unix", path)
}

func (h *localHost) DialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	return h.dial(ctx, "tcp", addr.String())
}

func (h *localHost) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if h.isClosed() {
		return nil, errHostClosed
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (h *localHost) Close() error {
	h.mu.Lock()
	if !h.isClosed() {
		close(h.closed)
	}
	h.mu.Unlock()
	h.running.Wait()
	return nil
}

func (h *localHost) isClosed() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}

func (h *localHost) start(ctx context.Context) (*localProcess, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed() {
		return nil, errHostClosed
	}
	p, err := startLocal(h.shell)
	if err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	h.running.Go(func() { p.supervise(h.closed) })
	return p, nil
}
