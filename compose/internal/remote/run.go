package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A process is a shell on a host that waits for its first line. Its stream is
// its output and input.
type process interface {
	stream
	stderr() io.Reader

	// status says how the process ended, once it is gone: its exit code (128
	// plus the signal's number if one killed it), or why that is not known.
	status() (int, error)
}

// statusWait bounds how long after the end of one output the end of the other
// and the status may come.
const statusWait = 2 * time.Second

// killGrace is how long a process may take from SIGTERM to SIGKILL, or from the
// end of its script to its own.
const killGrace = 2 * time.Second

// run has p execute cmd. It is done with p when it returns.
func run(ctx context.Context, p process, cmd Command) (Result, error) {
	form := formNoInput
	if cmd.Stdin != nil {
		form = formInput
	}
	nonce := newNonce()
	text, err := encode(form, nonce, cmd)
	if err != nil {
		p.kill()
		return Result{}, err
	}
	var collected collector
	stdout := &sink{w: cmd.Stdout}
	if cmd.Stdout == nil {
		stdout.w = &collected
	}
	defer stdout.close()
	stderr := &tail{limit: maxStderr}

	r := &running{
		process: p,
		out:     newFrame(nonce, stdout),
		err:     newFrame(nonce, stderr),
		fed:     make(chan error, 1),
		read:    make(chan error, 2),
	}
	go r.feed(text, cmd.Stdin)
	go r.pick(p, r.out)
	go r.pick(p.stderr(), r.err)
	if err := r.wait(ctx); err != nil {
		p.kill()
		return Result{}, err
	}
	p.finish()
	return Result{Stdout: collected.Bytes(), Stderr: stderr.bytes(), ExitCode: r.out.exitCode}, nil
}

// A running is a process executing a script, with a goroutine for each stream.
type running struct {
	process
	out, err *frame
	fed      chan error // why the input could not be read
	read     chan error // for each of out and err how it ended, nil if completely
}

// feed writes the script and its input. Where there is no input the stream
// stays open: see inputLeash.
func (r *running) feed(text, input io.Reader) {
	if _, err := io.Copy(r.process, text); err != nil || input == nil {
		return // why a write failed is for the readers to find out
	}
	source := &source{r: input}
	if _, err := io.Copy(r.process, source); source.err != nil {
		r.fed <- fmt.Errorf("read the script's input: %w", source.err)
	} else if err == nil {
		r.CloseWrite()
	}
}

// A source remembers the error of its reader, to tell it from a writer's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

var errCutOff = errors.New("stream ended within its frame")

// pick reads a stream up to the end of its frame.
func (r *running) pick(from io.Reader, f *frame) {
	buf := make([]byte, 32<<10)
	for !f.ended {
		n, readErr := from.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			r.read <- err
			return
		}
		if readErr != nil && !f.ended {
			r.read <- errCutOff
			return
		}
	}
	r.read <- nil
}

// wait returns nil when the script has ended and its output is complete.
func (r *running) wait(ctx context.Context) error {
	var late <-chan time.Time
	for range 2 {
		select {
		case err := <-r.read:
			if errors.Is(err, errCutOff) {
				late = time.After(statusWait)
			} else if err != nil {
				return err
			}
		case err := <-r.fed:
			return err
		case <-late:
			return fmt.Errorf("%w: one of the script's outputs was closed", ErrInterrupted)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrInterrupted, ended(ctx))
		}
	}
	if r.out.ended {
		return nil
	}
	return explain(r.process, r.out, &r.err.noise)
}

// explain says why a process ended without its script having reported its end.
// Nobody else may be using out, which is its standard output.
func explain(p process, out *frame, complaint *tail) error {
	select {
	case <-p.gone():
	case <-time.After(statusWait):
		return fmt.Errorf("%w: the shell closed its output", ErrInterrupted)
	}
	code, err := p.status()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	if out.begun {
		return fmt.Errorf("%w: the shell ended with status %d", ErrInterrupted, code)
	}
	return &ShellError{
		Status: fmt.Sprintf("exit status %d", code),
		Output: string(bytes.Join([][]byte{out.noise.bytes(), complaint.bytes()}, []byte("\n"))),
	}
}
