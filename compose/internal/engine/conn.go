package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// conn is a dialled connection whose Close returns at once and ends a Read in progress. Giving up on a call means
// closing its connection, but closing a channel of an SSH connection only asks the other side to close it, and one
// that has fallen silent neither answers nor, at worst, takes the question.
type conn struct {
	net.Conn
	received *io.PipeReader
}

func newConn(raw net.Conn) *conn {
	received, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, raw)
		in.CloseWithError(err) // nil becomes io.EOF
	}()
	return &conn{Conn: raw, received: received}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.received.Read(p)
	if errors.Is(err, io.ErrClosedPipe) {
		err = net.ErrClosed
	}
	return n, err
}

func (c *conn) Close() error {
	// first, or the end that closing makes would be taken for the other side's
	err := c.received.Close()
	go c.Conn.Close()
	return err
}

func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a %T cannot be closed for writing alone: %w", c.Conn, errors.ErrUnsupported)
	}
	return half.CloseWrite()
}
