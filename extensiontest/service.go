package extensiontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Every fake sandbox runs the same two services.
const (
	WebService  = "web" // speaks HTTP and answers "<id> generation <n>" and a line end
	WebPort     = 8080
	EchoService = "echo" // returns what it is sent
	EchoPort    = 7
)

// services describes what runs in a sandbox.
func services(id string) []sandboxer.Service {
	service := func(name string, port int) sandboxer.Service {
		return sandboxer.Service{Name: name, Containers: []string{id + "-" + name + "-1"}, State: "running", Ports: []sandboxer.Port{{Port: port, Protocol: "tcp"}}}
	}
	return []sandboxer.Service{service(WebService, WebPort), service(EchoService, EchoPort)}
}

// connect opens a connection to a service of x, which ends with x.
func (x *box) connect(service string, port int) (net.Conn, error) {
	all := services(x.Handle.SandboxID)
	i := slices.IndexFunc(all, func(s sandboxer.Service) bool { return s.Name == service })
	if i < 0 {
		return nil, fmt.Errorf("service %s: %w", service, sandboxer.ErrNotFound)
	}
	if all[i].Ports[0].Port != port {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	x.conns[far] = true
	go x.serve(service, far)
	return near, nil
}

// serve is what runs in the container: it ends when the connection does.
func (x *box) serve(service string, conn net.Conn) {
	if service == EchoService {
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
		return
	}
	answer := fmt.Sprintf("%s generation %d\n", x.Handle.SandboxID, x.Handle.Generation)
	_ = http.Serve(&single{conn: conn}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.journal.write(service, r.Method+" "+r.URL.Path)
		_, _ = io.WriteString(w, answer)
	}))
}

// single is a listener with one connection.
type single struct {
	conn net.Conn
}

func (s *single) Accept() (net.Conn, error) {
	if s.conn == nil {
		return nil, net.ErrClosed
	}
	conn := s.conn
	s.conn = nil
	return conn, nil
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

// A journal is what the services of a sandbox wrote.
type journal struct {
	mu    sync.Mutex
	lines []line
	ended bool
	more  chan struct{} // closed and replaced when something changes
}

type line struct {
	at            time.Time
	service, text string
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

func (j *journal) write(service, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line{time.Now(), service, text})
	close(j.more)
	j.more = make(chan struct{})
}

// end tells readers that nothing follows.
func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.ended {
		j.ended = true
		close(j.more)
		j.more = make(chan struct{})
	}
}

// reader reads the journal as opts say. One that follows ends with ctx, with
// the sandbox, or when it is closed.
func (j *journal) reader(ctx context.Context, opts sandboxer.LogOptions) io.ReadCloser {
	ctx, stop := context.WithCancelCause(ctx)
	r := &journalReader{journal: j, ctx: ctx, stop: stop, opts: opts}
	if opts.Tail > 0 {
		r.skip = max(0, len(r.selected())-opts.Tail)
	}
	return r
}

type journalReader struct {
	*journal
	ctx  context.Context
	stop context.CancelCauseFunc
	opts sandboxer.LogOptions
	skip int // lines already read
	rest string
}

// selected are the lines of the services that are wanted.
func (r *journalReader) selected() []line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.lines), func(l line) bool { return r.opts.Service != "" && r.opts.Service != l.service })
}

func (r *journalReader) Read(p []byte) (int, error) {
	for r.rest == "" {
		r.mu.Lock()
		more, ended := r.more, r.ended
		r.mu.Unlock()
		lines := r.selected()[r.skip:]
		if len(lines) == 0 && (ended || !r.opts.Follow) {
			return 0, io.EOF
		}
		for _, l := range lines {
			r.rest += r.format(l)
		}
		r.skip += len(lines)
		if len(lines) > 0 {
			break
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *journalReader) format(l line) string {
	var b strings.Builder
	if r.opts.Timestamps {
		b.WriteString(l.at.UTC().Format(time.RFC3339Nano) + " ")
	}
	fmt.Fprintf(&b, "%s | %s\n", l.service, l.text)
	return b.String()
}

var errReaderClosed = errors.New("the log reader was closed")

func (r *journalReader) Close() error {
	r.stop(errReaderClosed)
	return nil
}
