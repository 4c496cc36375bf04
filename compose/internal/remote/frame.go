package remote

import (
	"bytes"
	"io"
	"strconv"
	"sync"
)

// A frame picks what a script wrote out of a stream in which other things may
// come before and after it.
type frame struct {
	begin, beat, end []byte // the markers; beats are dropped
	payload          io.Writer
	noise            tail // what came before the begin

	begun, ended bool
	exitCode     int // valid once ended

	held []byte // not yet decided upon
}

func newFrame(nonce string, payload io.Writer) *frame {
	return &frame{
		begin: []byte(nonce + " begin\n"), beat: []byte(nonce + " beat\n"), end: []byte(nonce + " end "),
		payload: payload, noise: tail{limit: 4 << 10},
	}
}

// Write takes the next part of the stream. It passes on each byte as soon as it
// is certain that no marker begins with it, and fails only if the payload's
// writer does.
func (f *frame) Write(p []byte) (int, error) {
	f.held = append(f.held, p...)
	if !f.begun && !f.findBegin() {
		return len(p), nil
	}
	return len(p), f.passOn()
}

func (f *frame) findBegin() bool {
	i := bytes.Index(f.held, f.begin)
	if i < 0 {
		keep := partial(f.held, f.begin)
		f.noise.Write(f.held[:len(f.held)-keep])
		f.held = append(f.held[:0], f.held[len(f.held)-keep:]...)
		return false
	}
	f.begun = true
	f.noise.Write(f.held[:i])
	f.held = append(f.held[:0], f.held[i+len(f.begin):]...)
	return true
}

func (f *frame) passOn() error {
	if f.ended {
		f.held = nil
		return nil
	}
	f.held = bytes.ReplaceAll(f.held, f.beat, nil)
	n := bytes.Index(f.held, f.end)
	if n >= 0 {
		f.parseEnd(f.held[n+len(f.end):])
	} else {
		n = len(f.held) - max(partial(f.held, f.end), partial(f.held, f.beat))
	}
	if n == 0 {
		return nil
	}
	_, err := f.payload.Write(f.held[:n])
	f.held = append(f.held[:0], f.held[n:]...)
	return err
}

// parseEnd reads the exit code behind the end marker, once all of it is there.
func (f *frame) parseEnd(rest []byte) {
	digits, _, complete := bytes.Cut(rest, []byte("\n"))
	code, err := strconv.Atoi(string(digits))
	f.ended = complete && err == nil
	f.exitCode = code
}

// partial returns how many bytes at the end of b are a beginning of marker.
func partial(b, marker []byte) int {
	for n := min(len(b), len(marker)-1); n > 0; n-- {
		if bytes.HasSuffix(b, marker[:n]) {
			return n
		}
	}
	return 0
}

// A tail keeps the last bytes written to it. It may be written to and read
// concurrently.
type tail struct {
	limit int

	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*t.limit {
		t.b = append(t.b[:0], t.b[len(t.b)-t.limit:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.b[max(0, len(t.b)-t.limit):])
}

// A sink passes writes on until it is closed, and not after that.
type sink struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return 0, io.ErrClosedPipe
	}
	return s.w.Write(p)
}

// close waits for a Write that is going on.
func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = nil
}

// A collector is a buffer that refuses to grow beyond maxStdout.
type collector struct{ bytes.Buffer }

func (c *collector) Write(p []byte) (int, error) {
	if c.Len()+len(p) > maxStdout {
		return 0, ErrOutputLimit
	}
	return c.Buffer.Write(p)
}
