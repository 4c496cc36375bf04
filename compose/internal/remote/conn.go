package remote

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A stream is a two-way stream of bytes that knows no deadlines and whose
// reads and writes end only with its peer.
type stream interface {
	io.ReadWriter
	CloseWrite() error

	// gone is closed when nothing can pass in either direction any more.
	gone() <-chan struct{}

	// finish lets go of a stream whose peer is about to end it, and ends it
	// if the peer does not; kill ends it now. Both return at once and do
	// nothing to a stream that is gone.
	finish()
	kill()
}

// linger bounds how long a closed connection goes on to deliver what was
// written to it before.
const linger = 5 * time.Second

// A conn makes a stream a net.Conn with deadlines, half-close and a Close that
// ends blocked calls, by a pipe for each direction.
type conn struct {
	stream        stream
	local, remote net.Addr

	reads, writes net.Conn // our ends
	in, out       net.Conn // the stream's ends

	once     sync.Once
	closed   chan struct{}
	received chan struct{} // all that the stream had to give has been taken

	mu      sync.Mutex
	readErr error // why the stream ended, if it was not by end of file
}

func newConn(s stream, local, remote net.Addr) *conn {
	c := &conn{stream: s, local: local, remote: remote, closed: make(chan struct{}), received: make(chan struct{})}
	c.reads, c.in = net.Pipe()
	c.writes, c.out = net.Pipe()
	go c.receive()
	go c.send()
	go func() {
		<-s.gone()
		c.out.Close()
	}()
	return c
}

func (c *conn) receive() {
	_, err := io.Copy(c.in, c.stream)
	c.mu.Lock()
	c.readErr = err
	c.mu.Unlock()
	if err != nil {
		c.out.Close() // there is nobody to write to, either
	}
	c.in.Close()
	close(c.received)
}

// send lets go of the stream only when what was written before Close is on its
// way, and what there is to read has been read or is not wanted any more.
func (c *conn) send() {
	io.Copy(c.stream, c.out)
	c.out.Close()
	c.stream.CloseWrite()
	select {
	case <-c.closed:
	case <-c.received:
	}
	c.stream.finish()
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.reads.Read(p)
	if err == io.EOF {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.readErr != nil {
			err = c.readErr
		}
	}
	return n, c.wrap("read", err)
}

// Write returns when the stream has taken over p, which says nothing about its
// arrival.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.writes.Write(p)
	return n, c.wrap("write", err)
}

// wrap makes err what a net.Conn returns.
func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if pipe := (*net.OpError)(nil); errors.As(err, &pipe) {
		err = pipe.Err
	}
	select {
	case <-c.closed:
		err = net.ErrClosed
	default:
	}
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// CloseWrite tells the peer that nothing more will be written.
func (c *conn) CloseWrite() error { return c.writes.Close() }

func (c *conn) Close() error {
	err := error(&net.OpError{Op: "close", Net: c.remote.Network(), Addr: c.remote, Err: net.ErrClosed})
	c.once.Do(func() {
		err = nil
		close(c.closed)
		c.reads.Close()
		c.writes.Close()
		time.AfterFunc(linger, c.stream.kill)
	})
	return err
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// A pipe refuses a deadline only when it is closed and needs none.

func (c *conn) SetReadDeadline(t time.Time) error {
	c.reads.SetReadDeadline(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writes.SetWriteDeadline(t)
	return nil
}
