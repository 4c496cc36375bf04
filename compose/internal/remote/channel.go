package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"
)

// A channel is a session or a forwarded connection on a link.
type channel struct {
	ssh.Channel
	link *link

	closed chan struct{} // both sides have closed it, or the link is lost
	ended  bool          // the command has ended; set before closed is, like the next two
	code   int           // its exit code, unless
	signal string        // a signal killed it: "KILL"
}

func newChannel(l *link, ch ssh.Channel, requests <-chan *ssh.Request, release func()) *channel {
	c := &channel{Channel: ch, link: l, closed: make(chan struct{})}
	go func() {
		for r := range requests {
			c.handle(r)
		}
		close(c.closed)
		release()
	}()
	return c
}

func (c *channel) handle(r *ssh.Request) {
	switch r.Type {
	case "exit-status":
		if len(r.Payload) >= 4 {
			c.ended, c.code = true, int(binary.BigEndian.Uint32(r.Payload))
		}
	case "exit-signal":
		var msg struct {
			Signal     string
			CoreDumped bool
			Error      string
			Lang       string
		}
		if ssh.Unmarshal(r.Payload, &msg) == nil {
			c.ended, c.signal = true, msg.Signal
		}
	}
	if r.WantReply {
		r.Reply(false, nil)
	}
}

// exec has the host give a command line to the account's login shell.
func (c *channel) exec(ctx context.Context, command string) error {
	answered := make(chan error, 1)
	go func() {
		ok, err := c.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", errLost, err)
		case !ok:
			err = errors.New("host refuses to execute commands")
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ended(ctx)
	}
}

// Read tells the end of the data from the end of the link.
func (c *channel) Read(p []byte) (int, error) {
	n, err := c.Channel.Read(p)
	if err == io.EOF && c.link.wire.broken.Load() {
		<-c.link.lost
		err = c.link.err
	}
	return n, err
}

func (c *channel) stderr() io.Reader     { return c.Channel.Stderr() }
func (c *channel) gone() <-chan struct{} { return c.closed }

// kill does not wait for Close, which blocks while the link takes no data.
func (c *channel) kill() { go c.Channel.Close() }

// finish gives a session time to end by itself: the host counts one that was
// closed before as open until then.
func (c *channel) finish() {
	go func() {
		select {
		case <-c.closed:
		case <-time.After(killGrace):
			c.Channel.Close()
		}
	}()
}

func (c *channel) status() (int, error) {
	switch {
	case c.signal != "":
		return 0, fmt.Errorf("the shell was killed by SIG%s", c.signal)
	case c.ended:
		return c.code, nil
	case c.link.wire.broken.Load():
		<-c.link.lost
		return 0, c.link.err
	}
	return 0, errors.New("the host closed the session")
}

// A forward is a channel to a socket on the host.
type forward struct{ *channel }

// finish closes it at once. The host still delivers what it has received.
func (f forward) finish() { f.kill() }
