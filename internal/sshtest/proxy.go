package sshtest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Direction is a way through a [Proxy].
type Direction int

const (
	ToServer Direction = iota
	ToClient
)

// A Proxy forwards TCP connections to a server until it is told to misbehave.
// Faults act on the connections there are and on those to come.
type Proxy struct {
	Addr string // where clients connect, 127.0.0.1:port

	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	links  map[*link]bool
	ended  bool
	opened int
	delay  time.Duration
	flow   chan struct{} // closed while data flow, open while they are stalled
	cuts   [2]*int64     // bytes left before the cut, by direction; nil is no cut
}

// NewProxy starts a proxy to target (host:port) that ends with t.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		Addr: l.Addr().String(), target: target, listener: l,
		links: map[*link]bool{}, flow: make(chan struct{}),
	}
	close(p.flow)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Opened counts the connections accepted so far.
func (p *Proxy) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// Delay makes every byte arrive d later, in both directions. It adds latency
// and takes no bandwidth.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Stall stops forwarding and closes nothing: the peer has become silent.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flow:
		p.flow = make(chan struct{})
	default:
	}
}

// Resume undoes [Proxy.Stall]; what was held back is delivered.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flow:
	default:
		close(p.flow)
	}
}

// Cut closes the present connections in an orderly way.
func (p *Proxy) Cut() { p.each((*link).close) }

// Reset aborts the present connections, so that both ends see "connection
// reset by peer".
func (p *Proxy) Reset() { p.each((*link).reset) }

// CutAfter lets n more bytes pass in a direction, counted over all
// connections, and then closes the connection that carried the last of them.
// It happens once.
func (p *Proxy) CutAfter(d Direction, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[d] = &n
}

func (p *Proxy) each(f func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	l := &link{client: client, server: server.(*net.TCPConn), closed: make(chan struct{})}
	p.mu.Lock()
	p.links[l] = true
	p.opened++
	if p.ended {
		l.close()
	}
	p.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { p.forward(l, ToServer, l.client, l.server) })
	both.Go(func() { p.forward(l, ToClient, l.server, l.client) })
	both.Wait()
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

type chunk struct {
	data []byte
	due  time.Time
}

// forward carries one direction of a link. Reading is apart from writing so
// that a delay adds latency only.
func (p *Proxy) forward(l *link, d Direction, from, to *net.TCPConn) {
	chunks := make(chan chunk, 1024)
	go func() {
		defer close(chunks)
		for {
			buf := make([]byte, 16<<10)
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case chunks <- chunk{buf[:n], p.due()}:
				case <-l.closed:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range chunks {
		if !p.pass(l, c.due) {
			return
		}
		data, cut := p.allowance(d, c.data)
		if _, err := to.Write(data); err != nil || cut {
			l.close()
			return
		}
	}
	to.CloseWrite()
}

func (p *Proxy) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.delay)
}

// pass waits out the delay and any stall; it reports false when the link was
// closed meanwhile.
func (p *Proxy) pass(l *link, due time.Time) bool {
	select {
	case <-time.After(time.Until(due)):
	case <-l.closed:
		return false
	}
	p.mu.Lock()
	flow := p.flow
	p.mu.Unlock()
	select {
	case <-flow:
		return true
	case <-l.closed:
		return false
	}
}

// allowance returns the part of data that may still pass, and whether the link
// is to be cut after it.
func (p *Proxy) allowance(d Direction, data []byte) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.cuts[d]
	if left == nil {
		return data, false
	}
	if int64(len(data)) < *left {
		*left -= int64(len(data))
		return data, false
	}
	p.cuts[d] = nil
	return data[:*left], true
}

// A link is one forwarded connection.
type link struct {
	client, server *net.TCPConn
	once           sync.Once
	closed         chan struct{}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.closed)
		l.client.Close()
		l.server.Close()
	})
}

func (l *link) reset() {
	l.client.SetLinger(0)
	l.server.SetLinger(0)
	l.close()
}
