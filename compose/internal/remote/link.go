package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// errLost says that a connection broke before anything was begun on it.
var errLost = errors.New("connection lost")

// errHostClosed is what a Host returns after Close.
var errHostClosed = fmt.Errorf("host: %w", net.ErrClosed)

// A link is one authenticated SSH connection.
type link struct {
	client *ssh.Client
	wire   *wire
	slots  *slots
	under  *link // to the jump host that carries this one; nil if there is none

	lost  chan struct{} // closed when the connection has ended
	err   error         // why; set before lost is closed
	tasks sync.WaitGroup

	mu     sync.Mutex
	reason error // why we ended it, if we did
}

func newLink(client *ssh.Client, w *wire, under *link, maxSessions int, keepalive time.Duration) *link {
	l := &link{client: client, wire: w, under: under, slots: newSlots(maxSessions), lost: make(chan struct{})}
	l.tasks.Go(l.watch)
	l.tasks.Go(func() { l.keepAlive(keepalive) })
	return l
}

func (l *link) watch() {
	err := l.client.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err = l.reason; l.err == nil {
		l.err = fmt.Errorf("connection lost: %w", err)
	}
	close(l.lost)
	if l.under != nil {
		l.under.close(l.err)
	}
}

// keepAlive ends a connection on which nothing arrives for three intervals,
// though it asks for an answer in each: the ssh package itself waits for ever.
func (l *link) keepAlive(interval time.Duration) {
	silence := 3 * interval
	var asking atomic.Bool
	tick := time.NewTimer(interval)
	defer tick.Stop()
	for {
		select {
		case <-l.lost:
			return
		case <-tick.C:
		}
		quiet := l.wire.quiet()
		if quiet >= silence {
			l.end(fmt.Errorf("connection lost: the host was silent for %v", silence))
			return
		}
		if asking.CompareAndSwap(false, true) {
			l.tasks.Go(func() {
				l.client.SendRequest("keepalive@openssh.com", true, nil)
				asking.Store(false)
			})
		}
		tick.Reset(min(interval, silence-quiet))
	}
}

// end breaks the connection off, and with it whatever waits on it.
func (l *link) end(reason error) {
	l.mu.Lock()
	if l.reason == nil {
		l.reason = reason
	}
	l.mu.Unlock()
	l.wire.Close()
}

// close ends the connection and waits for its goroutines.
func (l *link) close(reason error) {
	l.end(reason)
	l.tasks.Wait()
}

func (l *link) isLost() bool {
	select {
	case <-l.lost:
		return true
	default:
		return false
	}
}

// session opens a session on which a shell can be started. It waits while the
// host has none to spare for us.
func (l *link) session(ctx context.Context, patience time.Duration) (*channel, error) {
	var alone time.Time // since when the host refuses though we have none open
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if err := l.slots.acquire(ctx, l.lost); err != nil {
			return nil, err
		}
		ch, err := l.open(ctx, "session", nil, l.endSession)
		if isRefusal(err) {
			// The host may not have noticed yet that another has ended.
			if err = l.sleep(ctx, 25*time.Millisecond); err == nil {
				ch, err = l.open(ctx, "session", nil, l.endSession)
			} else {
				l.slots.release()
			}
		}
		if !isRefusal(err) {
			return ch, err
		}
		if l.slots.refused() {
			alone = time.Time{}
			continue
		}
		if alone.IsZero() {
			alone = time.Now()
		} else if time.Since(alone) > patience {
			return nil, fmt.Errorf("%w (%w)", ErrNoSession, err)
		}
		if err := l.sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// endSession gives back the slot of a session that is gone. sshd counts it
// until it has come around to tidying up. Where that matters, it is waited for:
// an answer to a later request is not sent before.
func (l *link) endSession() {
	if l.slots.tight() {
		l.client.SendRequest("keepalive@openssh.com", true, nil)
	}
	l.slots.release()
}

func isRefusal(err error) bool {
	var refusal *ssh.OpenChannelError
	return errors.As(err, &refusal)
}

func (l *link) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-l.lost:
		return errLost
	case <-ctx.Done():
		return ended(ctx)
	}
}

// open opens a channel. If the host refuses it the error is an
// *ssh.OpenChannelError; in every other case release is called once, when the
// channel no longer exists.
func (l *link) open(ctx context.Context, kind string, data []byte, release func()) (*channel, error) {
	type answer struct {
		ch  *channel
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		ch, requests, err := l.client.OpenChannel(kind, data)
		if err != nil {
			answered <- answer{err: err}
			return
		}
		answered <- answer{ch: newChannel(l, ch, requests, release)}
	}()
	var err error
	select {
	case a := <-answered:
		if a.err != nil && !isRefusal(a.err) {
			release()
			return nil, fmt.Errorf("%w: %w", errLost, a.err)
		}
		return a.ch, a.err
	case <-l.lost:
		err = errLost
	case <-ctx.Done():
		err = ended(ctx)
	}
	go func() { // whatever is opened after all is of no use to anybody
		if a := <-answered; a.err != nil {
			release()
		} else {
			a.ch.kill()
		}
	}()
	return nil, err
}

// A wire watches the bytes under a connection.
type wire struct {
	net.Conn
	start  time.Time
	heard  atomic.Int64 // when something last arrived, in nanoseconds since start
	broken atomic.Bool  // reading has failed
}

func newWire(c net.Conn) *wire { return &wire{Conn: c, start: time.Now()} }

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(int64(time.Since(w.start)))
	}
	if err != nil {
		w.broken.Store(true)
	}
	return n, err
}

// quiet returns how long nothing has arrived.
func (w *wire) quiet() time.Duration {
	return time.Since(w.start) - time.Duration(w.heard.Load())
}
