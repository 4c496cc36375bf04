package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// maxStderr bounds what an [Exec] keeps of a process's standard error, in bytes.
const maxStderr = 4 << 10

// Exec is a process in a running container: Read is its standard output and Write its standard input. Read and Write
// may be called at the same time, and Close and Stderr at any time.
//
// Closing does not end the process, which only sees the end of its input. What was written and not yet read by the
// process may be lost then (measured on 20.10), but not by CloseWrite.
type Exec struct {
	client *Client
	id     string
	conn   *conn
	out    *demux
	stderr *tail
}

// Exec starts a process in a running container. The context bounds the start alone; the caller closes the result. It
// is not found if there is no such container, and a conflict if it does not run. A command that could not be started
// is told to Read in the engine's words: that is when the engine tells.
func (c *Client) Exec(ctx context.Context, container string, cmd ...string) (*Exec, error) {
	path, err := join("containers", container, "exec")
	if err != nil {
		return nil, err
	}
	var created struct{ ID string }
	process := struct {
		AttachStdin, AttachStdout, AttachStderr bool
		Cmd                                     []string
	}{true, true, true, cmd}
	if err := c.call(ctx, request{method: http.MethodPost, path: path, body: process}, &created); err != nil {
		return nil, err
	}
	start, err := join("exec", created.ID, "start")
	if err != nil {
		return nil, err
	}
	conn, stream, err := c.hijack(ctx, request{method: http.MethodPost, path: start, body: struct{ Detach, Tty bool }{}})
	if err != nil {
		return nil, err
	}
	stderr := &tail{}
	return &Exec{client: c, id: created.ID, conn: conn, out: &demux{src: stream, stderr: stderr}, stderr: stderr}, nil
}

// hijack makes a request on a connection of its own that becomes a plain stream with the answer. What is read must be
// read from the stream, which may hold some of it already.
func (c *Client) hijack(ctx context.Context, r request) (*conn, io.Reader, error) {
	version, err := c.version(ctx)
	if err != nil {
		return nil, nil, err
	}
	req, err := r.build(ctx, *version)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, nil, unanswered(ctx, r.op(), err)
	}
	type answer struct {
		stream io.Reader
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		stream, err := upgrade(ctx, conn, r.op(), req)
		answered <- answer{stream, err}
	}()
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		a.err = unanswered(ctx, r.op(), ctx.Err())
	}
	if a.err != nil {
		conn.Close()
	}
	return conn, a.stream, a.err
}

// upgrade exchanges the request for an answer that says that a stream follows.
func upgrade(ctx context.Context, conn *conn, op string, req *http.Request) (io.Reader, error) {
	if err := req.Write(conn); err != nil {
		return nil, unanswered(ctx, op, err)
	}
	stream := bufio.NewReader(conn)
	resp, err := http.ReadResponse(stream, req)
	if err != nil {
		return nil, unanswered(ctx, op, err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode == http.StatusOK {
		return stream, nil
	}
	defer resp.Body.Close()
	return nil, readError(op, resp)
}

// Read reads the process's standard output. It is io.EOF when the process, and whatever inherited its output, ended.
func (e *Exec) Read(p []byte) (int, error) { return e.out.Read(p) }

// Write writes to the process's standard input. It may return before the process reads.
func (e *Exec) Write(p []byte) (int, error) { return e.conn.Write(p) }

// CloseWrite ends the process's standard input. It is [errors.ErrUnsupported] if the dialled connection has no
// CloseWrite method.
func (e *Exec) CloseWrite() error { return e.conn.CloseWrite() }

// Close gives up the streams. A Read in progress ends.
func (e *Exec) Close() error { return e.conn.Close() }

// Stderr is what the process wrote to standard error so far, of which Read has got hold; the last 4 KiB.
func (e *Exec) Stderr() string { return e.stderr.String() }

// ExitCode waits for the process to end and returns its exit code.
func (e *Exec) ExitCode(ctx context.Context) (int, error) {
	path, err := join("exec", e.id, "json")
	if err != nil {
		return 0, err
	}
	// The API has no way to wait for it.
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		var process struct {
			Running  bool
			ExitCode *int
		}
		if err := e.client.call(ctx, request{method: http.MethodGet, path: path}, &process); err != nil {
			return 0, err
		}
		if !process.Running && process.ExitCode != nil {
			return *process.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for exec %s: %w", e.id, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - maxStderr; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
