//go:build linux || darwin

package remote

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// inherited returns the environment of scripts on this machine.
func inherited() []string {
	env := []string{} // not nil, which is everything
	for _, name := range []string{
		"HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "XDG_RUNTIME_DIR",
		"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY",
	} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// A localProcess is a shell on this machine that leads a process group.
type localProcess struct {
	cmd               *exec.Cmd
	in, out, errs     *os.File
	ended             chan struct{} // the shell has been waited for
	killed, finished  chan struct{}
	killOnce, finOnce sync.Once
}

func startLocal(shell []string) (*localProcess, error) {
	p := &localProcess{
		cmd:   exec.Command(shell[0], append(shell[1:len(shell):len(shell)], "-c", firstLine)...),
		ended: make(chan struct{}), killed: make(chan struct{}), finished: make(chan struct{}),
	}
	p.cmd.Env = inherited()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	// Pipes of our own: those of exec.Cmd are closed as soon as the shell has
	// ended, with its output still in them.
	var theirs [3]*os.File
	var err1, err2, err3 error
	theirs[0], p.in, err1 = os.Pipe()
	p.out, theirs[1], err2 = os.Pipe()
	p.errs, theirs[2], err3 = os.Pipe()
	err := errors.Join(err1, err2, err3)
	if err == nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs[0], theirs[1], theirs[2]
		err = p.cmd.Start()
	}
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		p.closePipes()
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// supervise returns when the shell has ended and its user is done with it, and
// sees to both when the host closes.
func (p *localProcess) supervise(closed <-chan struct{}) {
	defer p.closePipes()
	select {
	case <-p.finished:
		select {
		case <-p.ended:
			return
		case <-p.killed:
		case <-closed:
		case <-time.After(killGrace):
		}
	case <-p.killed:
	case <-closed:
	}
	p.endGroup()
	<-p.ended
}

// endGroup ends the shell and what it started and did not detach.
func (p *localProcess) endGroup() {
	group := -p.cmd.Process.Pid
	if syscall.Kill(group, syscall.SIGTERM) != nil {
		return // nobody is left
	}
	for deadline := time.Now().Add(killGrace); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if syscall.Kill(group, 0) != nil {
			return
		}
	}
	syscall.Kill(group, syscall.SIGKILL)
}

func (p *localProcess) closePipes() {
	for _, f := range []*os.File{p.in, p.out, p.errs} {
		f.Close()
	}
}

func (p *localProcess) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *localProcess) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *localProcess) CloseWrite() error           { return p.in.Close() }
func (p *localProcess) stderr() io.Reader           { return p.errs }
func (p *localProcess) gone() <-chan struct{}       { return p.ended }
func (p *localProcess) kill()                       { p.killOnce.Do(func() { close(p.killed) }) }
func (p *localProcess) finish()                     { p.finOnce.Do(func() { close(p.finished) }) }

func (p *localProcess) status() (int, error) {
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return p.cmd.ProcessState.ExitCode(), nil
}
