package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/relay/wire"
)

// linger is how long after Close the relay may take to take the last written data.
const linger = 10 * time.Second

// conn is a connection through a relay. Two pipes stand between its user and the process, since pipes know deadlines
// and the process's streams do not; each pipe is used in one direction.
type conn struct {
	process *engine.Exec
	remote  net.Addr
	reads   net.Conn      // the user's end of the pipe from the process
	writes  net.Conn      // and of the pipe to it
	taken   chan struct{} // closed when the relay has all data, or is gone
	closing sync.Once

	mu       sync.Mutex
	readErr  error // why reading ends, if not by the peer's end
	writeErr error // why writing ends, if not by the user's
	written  bool  // the user has said that nothing more comes
}

func newConn(process *engine.Exec, remote netip.AddrPort) *conn {
	c := &conn{process: process, remote: net.TCPAddrFromAddrPort(remote), taken: make(chan struct{})}
	var received, toSend net.Conn
	c.reads, received = net.Pipe()
	c.writes, toSend = net.Pipe()
	go c.receive(received, toSend)
	go c.send(toSend)
	return c
}

// receive passes on the process's output, up to the peer's end.
func (c *conn) receive(received, toSend net.Conn) {
	done := sync.OnceFunc(func() { close(c.taken) })
	defer done()
	defer received.Close()
	defer toSend.Close() // first: who has read why it ended writes no more
	buffer := make([]byte, wire.MaxPayload)
	for ended := false; ; {
		kind, payload, err := readFrame(c.process, buffer)
		switch {
		case err != nil:
		case kind == wire.Data && !ended:
			received.Write(payload) // fails after Close, and what else comes is of interest yet
		case kind == wire.End:
			ended = true
			received.Close()
		case kind == wire.Taken:
			done()
		case kind == wire.Failed:
			err = reason(string(payload))
		default:
			err = fmt.Errorf("the relay sent a frame of kind %d out of turn", kind)
		}
		if err != nil {
			c.broke(err, !ended)
			return
		}
	}
}

// send passes on what the user writes, up to the user's CloseWrite or Close.
func (c *conn) send(toSend net.Conn) {
	defer toSend.Close()
	frame := make([]byte, wire.HeaderSize+wire.MaxPayload)
	for {
		n, err := toSend.Read(frame[wire.HeaderSize:])
		kind := wire.Data
		if errors.Is(err, io.EOF) {
			kind = wire.End
		} else if err != nil {
			return // broken
		}
		wire.PutHeader(frame, kind, n)
		if _, err := c.process.Write(frame[:wire.HeaderSize+n]); err != nil {
			c.broke(err, false)
			return
		}
		if kind == wire.End {
			return
		}
	}
}

// broke notes why writing fails from now on, and reading unless the peer had ended or Read is yet to find out itself.
func (c *conn) broke(err error, reading bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr == nil {
		c.writeErr = err
	}
	if reading {
		c.readErr = err
	}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.reads.Read(p)
	if errors.Is(err, io.EOF) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.readErr == nil {
			return n, io.EOF
		}
		err = c.readErr
	}
	return n, c.opError("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.writes.Write(p)
	if errors.Is(err, io.ErrClosedPipe) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.writeErr != nil && !c.written {
			err = c.writeErr
		}
	}
	return n, c.opError("write", err)
}

// opError is err as a connection of package net would give it.
func (c *conn) opError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.ErrClosedPipe):
		err = net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = os.ErrDeadlineExceeded // the pipe's own words around it mislead
	}
	return &net.OpError{Op: op, Net: "tcp", Addr: c.remote, Err: err}
}

// CloseWrite lets the peer see the end; reading goes on.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	c.written = true // what the relay does then, such as to end, is no reason to give
	c.mu.Unlock()
	return c.writes.Close()
}

// Close returns at once. What was written before still goes out, if the peer takes it within 10 s.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.CloseWrite()
		c.reads.Close()
		go func() {
			select {
			case <-c.taken:
			case <-time.After(linger):
			}
			c.process.Close()
		}()
	})
	return nil
}

// LocalAddr has no meaning outside the relay's network.
func (c *conn) LocalAddr() net.Addr  { return localAddr{} }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *conn) SetReadDeadline(t time.Time) error  { return c.reads.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.writes.SetWriteDeadline(t) }

type localAddr struct{}

func (localAddr) Network() string { return "tcp" }
func (localAddr) String() string  { return "relay" }
