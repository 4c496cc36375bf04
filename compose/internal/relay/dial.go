// Package relay is the way into a network of containers that nothing outside can reach, the engine's machine included:
// a container with one small program in it stands on that network, and a connection is a process in that container
// whose standard streams the engine carries.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
	"github.com/sand-boxer/sandboxer/compose/internal/relay/wire"
)

// Reasons for which a connection is not made or breaks, for [errors.Is]. They are the words of the kernel in whose
// network the relay stands; other reasons are wrapped as plain text.
var (
	ErrRefused     = errors.New("connection refused")
	ErrReset       = errors.New("connection reset by peer")
	ErrNoRoute     = errors.New("no route to host")
	ErrUnreachable = errors.New("network is unreachable")
	ErrTimedOut    = errors.New("connection timed out")
)

// reason is the error that the relay's words stand for.
func reason(text string) error {
	for _, known := range []error{ErrRefused, ErrReset, ErrNoRoute, ErrUnreachable, ErrTimedOut} {
		if known.Error() == text {
			return known
		}
	}
	if text == "broken pipe" {
		return ErrReset
	}
	return errors.New(text)
}

// Dial connects to an address in the network of a running relay container. It returns once the connection is made; the
// context bounds only that, and it takes as long as the engine takes to start a process: 30 to 50 ms on an idle machine
// of two cores. A connection that cannot be made is a *[net.OpError] with one of the reasons above; without a relay to
// make it the error is the engine's, as [engine.IsNotFound] and [engine.IsConflict] tell, and [Ensure] mends it.
//
// The connection honours deadlines, whatever the engine's transport does, and has a CloseWrite method. Data written
// before Close is still delivered, if the peer takes it within 10 s. The peer's end is io.EOF only if all it sent has
// arrived; a connection that breaks, anywhere on the way, is an error. Its process ends with it; but if the peer takes
// nothing while more than fits on the way, about 1 MB, was sent to it, then only when the peer takes that or is gone.
func Dial(ctx context.Context, eng *engine.Client, container string, addr netip.AddrPort) (net.Conn, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if !addr.IsValid() || addr.Addr().Zone() != "" {
		return nil, fmt.Errorf("dial %v: an IP address without a zone is needed", addr)
	}
	process, err := eng.Exec(ctx, container, binary, "connect", addr.String())
	if err != nil {
		return nil, fmt.Errorf("dial %v through container %s: %w", addr, container, err)
	}
	stop := context.AfterFunc(ctx, func() { process.Close() })
	err = opened(process)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		process.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
	}
	return newConn(process, addr), nil
}

// opened reads the relay's first frame.
func opened(process *engine.Exec) error {
	kind, payload, err := readFrame(process, make([]byte, wire.MaxPayload))
	switch {
	case err != nil:
		return err
	case kind == wire.Failed:
		return reason(string(payload))
	case kind != wire.Open:
		return fmt.Errorf("the relay began with a frame of kind %d", kind)
	}
	return nil
}

// readFrame reads a frame into a buffer of the largest size. The end of the stream is always too early: a connection
// ends by a frame.
func readFrame(process *engine.Exec, buffer []byte) (wire.Kind, []byte, error) {
	header := buffer[:wire.HeaderSize]
	if _, err := io.ReadFull(process, header); err != nil {
		return 0, nil, tooEarly(process, err)
	}
	kind, n, ok := wire.ParseHeader(header)
	if !ok {
		// What the engine says when it could not start the program, or the program when it crashed.
		text, _ := io.ReadAll(io.LimitReader(process, 1<<10))
		return 0, nil, fmt.Errorf("the relay does not run: %q", append(header, text...))
	}
	if _, err := io.ReadFull(process, buffer[:n]); err != nil {
		return 0, nil, tooEarly(process, err)
	}
	return kind, buffer[:n], nil
}

func tooEarly(process *engine.Exec, err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if text := process.Stderr(); text != "" {
		return fmt.Errorf("the relay ended: %q: %w", text, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("the relay ended: %w", io.ErrUnexpectedEOF)
}
