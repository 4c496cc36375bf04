//go:build linux

package main

import (
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sand-boxer/sandboxer/compose/internal/relay/wire"
)

// link is a TCP connection and the client at the standard streams. Plain system calls on two threads need less memory
// than package net, of which there may be hundreds in one container.
type link struct {
	socket  int
	ended   atomic.Bool // the client sends no more
	writing sync.Mutex  // of frames
}

func connect(target string) {
	addr, err := netip.ParseAddrPort(target)
	if err != nil || addr.Addr().Zone() != "" {
		fail("not an IP address and port: " + target)
	}
	l := &link{}
	if l.socket, err = open(addr); err != nil {
		l.fail(err)
	}
	done := make(chan struct{})
	go func() {
		l.toPeer() // and sees if the client leaves while the connection is being made
		close(done)
	}()
	if err := establish(l.socket, addr); err != nil {
		l.fail(err)
	}
	l.send(wire.Open, nil)
	l.toClient()
	<-done
}

func open(addr netip.AddrPort) (int, error) {
	family := syscall.AF_INET6
	if addr.Addr().Is4() {
		family = syscall.AF_INET
	}
	return syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
}

// establish connects and sets what makes sense once connected. Options are refinements: failing to set one is no error.
func establish(socket int, addr netip.AddrPort) error {
	var to syscall.Sockaddr = &syscall.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
	if addr.Addr().Is4() {
		to = &syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	}
	if err := syscall.Connect(socket, to); err != nil {
		return err
	}
	syscall.SetsockoptInt(socket, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
	syscall.SetsockoptInt(socket, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15)
	syscall.SetsockoptInt(socket, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 5)
	syscall.SetsockoptInt(socket, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3)
	return nil
}

// toClient passes on what the peer sends, up to its end.
func (l *link) toClient() {
	frame := make([]byte, wire.HeaderSize+wire.MaxPayload)
	for {
		n, err := read(l.socket, frame[wire.HeaderSize:])
		switch {
		case err != nil:
			l.fail(err)
		case n == 0 && l.wasReset():
			l.fail(syscall.ECONNRESET)
		case n == 0:
			l.send(wire.End, nil)
			return
		}
		l.sendFrame(frame, wire.Data, n)
	}
}

// wasReset tells a reset from an orderly end when a write has met with the error first: a read then finds an end. An
// orderly one leaves the connection half open, unless this side had ended too.
func (l *link) wasReset() bool {
	const closed = 7 // TCP_CLOSE; the state is the first byte of struct tcp_info
	info, err := syscall.GetsockoptInt(l.socket, syscall.IPPROTO_TCP, syscall.TCP_INFO)
	state := byte(info)
	return err == nil && state == closed && !l.ended.Load()
}

// toPeer passes on what the client sends. It returns after the client's last data, and ends the process if the client
// goes away.
func (l *link) toPeer() {
	payload := make([]byte, wire.MaxPayload)
	for {
		kind, n := l.receive(payload)
		switch kind {
		case wire.Data:
			l.write(payload[:n])
		case wire.End:
			l.ended.Store(true)
			syscall.Shutdown(l.socket, syscall.SHUT_WR)
			l.send(wire.Taken, nil)
			go l.untilGone()
			return
		default:
			l.abort("the client does not speak the relay's language")
		}
	}
}

// untilGone ends the process when the client has gone, for then nobody is there to receive.
func (l *link) untilGone() {
	var b [1]byte
	read(0, b[:])
	os.Exit(0)
}

// receive reads one frame.
func (l *link) receive(payload []byte) (wire.Kind, int) {
	var header [wire.HeaderSize]byte
	l.readFull(header[:])
	kind, n, ok := wire.ParseHeader(header[:])
	if !ok {
		return 0, 0
	}
	l.readFull(payload[:n])
	return kind, n
}

func (l *link) readFull(p []byte) {
	for len(p) > 0 {
		n, err := read(0, p)
		if n == 0 || err != nil {
			l.abort("the client has gone")
		}
		p = p[n:]
	}
}

// write sends to the peer. While the peer takes nothing the process does not see its client go; nor does the engine
// once what is on the way to the process is full.
func (l *link) write(p []byte) {
	for len(p) > 0 {
		n, err := syscall.Write(l.socket, p)
		if err != nil && err != syscall.EINTR {
			l.fail(err)
		}
		p = p[max(n, 0):]
	}
}

// read is the system call, repeated after a signal.
func read(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// abort ends the process and lets the peer know that what it received may not be all.
func (l *link) abort(reason string) {
	syscall.SetsockoptLinger(l.socket, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	fail(reason)
}

// fail ends the process after telling the client the reason.
func (l *link) fail(err error) {
	l.send(wire.Failed, []byte(err.Error()))
	fail(err.Error())
}

func (l *link) send(kind wire.Kind, payload []byte) {
	frame := make([]byte, wire.HeaderSize, wire.HeaderSize+len(payload))
	l.sendFrame(append(frame, payload...), kind, len(payload))
}

// sendFrame sends a frame of n bytes that stand behind the place for the header.
func (l *link) sendFrame(frame []byte, kind wire.Kind, n int) {
	wire.PutHeader(frame, kind, n)
	l.writing.Lock()
	defer l.writing.Unlock()
	for p := frame[:wire.HeaderSize+n]; len(p) > 0; {
		sent, err := syscall.Write(1, p)
		if err != nil && err != syscall.EINTR {
			l.abort("the client has gone")
		}
		p = p[max(sent, 0):]
	}
}
