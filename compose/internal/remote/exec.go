package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// dialExec makes p a connection to cmd's script. It takes over p.
func dialExec(ctx context.Context, p process, cmd Command) (net.Conn, error) {
	nonce := newNonce()
	text, err := encode(formRaw, nonce, cmd)
	if err != nil {
		p.kill()
		return nil, err
	}
	e := &execStream{process: p, complaint: &tail{limit: 4 << 10}, complained: make(chan struct{})}
	out, errs := newFrame(nonce, &e.early), newFrame(nonce, e.complaint)
	go func() {
		io.Copy(errs, p.stderr())
		close(e.complained)
	}()
	begun := make(chan error, 1)
	go func() { begun <- e.begin(text, out) }()
	select {
	case err := <-begun:
		if err != nil {
			defer p.kill()
			return nil, e.explain(out, &errs.noise)
		}
		return newConn(e, execAddr{}, execAddr{}), nil
	case <-ctx.Done():
		p.kill()
		return nil, fmt.Errorf("%w: %w", ErrInterrupted, ended(ctx))
	}
}

// An execStream is a process from the begin of its raw script on.
type execStream struct {
	process
	early      bytes.Buffer  // output that came together with the begin marker
	complaint  *tail         // what the script says on standard error
	complained chan struct{} // closed at the end of that
}

// begin sends the script and skips what the login shell says before it.
func (e *execStream) begin(text io.Reader, out *frame) error {
	sent := make(chan struct{})
	go func() {
		io.Copy(e.process, text) // why it failed is for the reader to find out
		close(sent)
	}()
	buf := make([]byte, 4<<10)
	for !out.begun {
		n, err := e.process.Read(buf)
		out.Write(buf[:n])
		if err != nil && !out.begun {
			return err
		}
	}
	<-sent
	e.early.Write(out.held)
	return nil
}

// explain says why the script did not begin.
func (e *execStream) explain(out *frame, noise *tail) error {
	select {
	case <-e.complained:
	case <-time.After(statusWait):
	}
	return explain(e.process, out, noise)
}

// Read returns an error in place of the end of a script that failed.
func (e *execStream) Read(p []byte) (int, error) {
	if e.early.Len() > 0 {
		return e.early.Read(p)
	}
	n, err := e.process.Read(p)
	if err == io.EOF {
		err = e.end()
	}
	return n, err
}

func (e *execStream) end() error {
	late := time.After(statusWait)
	for _, end := range []<-chan struct{}{e.gone(), e.complained} {
		select {
		case <-end:
		case <-late:
			return io.EOF // it closed its output and goes on
		}
	}
	code, err := e.status()
	switch {
	case err != nil:
		return err
	case code == 0:
		return io.EOF
	}
	return fmt.Errorf("script ended with status %d: %s", code, strings.TrimSpace(string(e.complaint.bytes())))
}

type execAddr struct{}

func (execAddr) Network() string { return "exec" }
func (execAddr) String() string  { return "exec" }
