package engine

import (
	"errors"
	"io"
	"net"
	"testing"
)

// TestReadOfAClosedConnection: a read that is in progress when its connection
// is given up may not take that for the end of what was sent.
func TestReadOfAClosedConnection(t *testing.T) {
	for range 5000 {
		c := newConn(&channel{closed: make(chan struct{})})
		result := make(chan error)
		reading := make(chan struct{})
		go func() {
			close(reading)
			_, err := c.Read(make([]byte, 1))
			result <- err
		}()
		<-reading
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("the read ended with %v, want %v", err, net.ErrClosed)
		}
	}
}

// A channel reports its own closing as an end of file, as channels of SSH do.
type channel struct {
	net.Conn
	closed chan struct{}
}

func (c *channel) Read([]byte) (int, error) {
	<-c.closed
	return 0, io.EOF
}

func (c *channel) Close() error {
	close(c.closed)
	return nil
}
