package sandboxer

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// A Forward is a local listener whose connections reach a port of a service.
// It is the one thing in this package that works in the background: from
// [Client.Forward] until Close.
type Forward struct {
	listener net.Listener
	stop     context.CancelFunc
	work     sync.WaitGroup
	mu       sync.Mutex
	err      error
}

// Forward listens on a loopback address (":0" when empty) and carries every
// connection to the service. The sandbox must exist; a service that does not
// answer shows as a closed connection and in [Forward.Err].
func (c *Client) Forward(ctx context.Context, id, service string, port int, listen string) (*Forward, error) {
	if _, _, err := c.usable(ctx, id); err != nil {
		return nil, fail("forward", &Record{Sandbox: Sandbox{ID: id}}, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", orElse(listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fail("forward", &Record{Sandbox: Sandbox{ID: id}}, err)
	}
	ctx, stop := context.WithCancel(ctx)
	f := &Forward{listener: l, stop: stop}
	f.work.Go(func() {
		f.accept(ctx, func(ctx context.Context) (net.Conn, error) { return c.Dial(ctx, id, service, port) })
	})
	f.work.Go(func() { <-ctx.Done(); _ = l.Close() })
	return f, nil
}

// Addr is where the forward listens.
func (f *Forward) Addr() net.Addr { return f.listener.Addr() }

// Err is the last reason why a connection could not be carried.
func (f *Forward) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Close stops listening, closes every connection and waits for the work to end.
func (f *Forward) Close() error {
	f.stop()
	f.work.Wait()
	return nil
}

func (f *Forward) accept(ctx context.Context, dial func(context.Context) (net.Conn, error)) {
	for {
		local, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.work.Go(func() {
			defer local.Close()
			remote, err := dial(ctx)
			if err != nil {
				f.mu.Lock()
				f.err = err
				f.mu.Unlock()
				return
			}
			defer remote.Close()
			join(ctx, local, remote)
		})
	}
}

// join copies both ways until both directions ended or ctx did, passing half-closes on.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = a.Close(); _ = b.Close() })
	defer stop()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, err := io.Copy(way[1], way[0])
			if half, ok := way[1].(interface{ CloseWrite() error }); ok && !errors.Is(err, net.ErrClosed) {
				_ = half.CloseWrite()
				return
			}
			_ = way[1].Close()
		})
	}
	both.Wait()
}
