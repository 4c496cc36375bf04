package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sand-boxer/sandboxer"
)

// A screen is a real terminal, and what was written to it.
type screen struct {
	t      *testing.T
	master *os.File
	tty    *os.File // what a program has

	mu   sync.Mutex
	text strings.Builder
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("a terminal: %v", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatalf("unlocking the terminal: %v", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("the terminal's number: %v", err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, master: os.NewFile(uintptr(fd), "ptmx"), tty: tty}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buffer := make([]byte, 4096); ; {
			n, err := s.master.Read(buffer)
			s.mu.Lock()
			s.text.Write(buffer[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = s.tty.Close(); _ = s.master.Close(); <-ended })
	return s
}

// shown is all that was written, lines ended as programs end them.
func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.text.String(), "\r\n", "\n")
}

// wait waits until the screen has shown a text.
func (s *screen) wait(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.shown(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the screen does not show %q but\n%q", text, s.shown())
		}
	}
}

// start runs the command as a process that has the screen, with variables.
func (s *screen) start(c *cli, variables []string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := c.command(args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm", "NO_COLOR="), variables...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.tty, s.tty, s.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

const plainReady, greenReady = "  ready  ", "\x1b[32mready\x1b[0m"

// TestColourOnATerminal: states have colours, unless its owner or the terminal
// does not want any.
func TestColourOnATerminal(t *testing.T) {
	c := newCLI(t, `address: "local:"`)
	c.records()
	for _, tt := range []struct {
		name      string
		variables []string
		want      string
	}{
		{"plain", nil, greenReady},
		{"NO_COLOR", []string{"NO_COLOR=1"}, plainReady},
		{"a terminal that knows no colours", []string{"TERM=dumb"}, plainReady},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScreen(t)
			s.start(c, tt.variables, "list")
			s.wait(tt.want)
			if text := s.shown(); tt.want == plainReady && strings.Contains(text, "\x1b") {
				t.Errorf("the screen shows %q", text)
			}
		})
	}
}

// TestWatchOnATerminal: the list stands in place, also when there is nothing
// to list, and Ctrl-C is no error.
func TestWatchOnATerminal(t *testing.T) {
	some, none := newCLI(t, `address: "local:"`), newCLI(t, `address: "local:"`)
	some.records()
	const head = clearScreen + "every 1s, Ctrl-C ends\n\n"
	for _, tt := range []struct {
		name      string
		cli       *cli
		variables []string
		want      string
	}{
		{"sandboxes", some, nil, head + "ID "},
		{"their colours", some, nil, greenReady},
		{"NO_COLOR", some, []string{"NO_COLOR=1"}, plainReady},
		{"nothing", none, nil, head + "no sandboxes\n" + head + "no sandboxes\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t)
			cmd := s.start(tt.cli, tt.variables, "list", "--watch")
			s.wait(tt.want)
			if _, err := s.master.WriteString("\x03"); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil || !strings.HasPrefix(s.shown(), clearScreen) {
				t.Errorf("%v: %q", err, s.shown())
			}
		})
	}
}

// TestWatchOnADumbTerminal: where nothing can stand in place, changes are shown.
func TestWatchOnADumbTerminal(t *testing.T) {
	s := newScreen(t)
	c := newCLI(t, `address: "local:"`)
	s.start(c, []string{"TERM=dumb"}, "list", "--watch")
	s.wait("no sandboxes\n")
	c.records()
	s.wait(plainReady)
	if text := s.shown(); strings.Contains(text, "\x1b") || strings.Count(text, "no sandboxes") != 1 {
		t.Errorf("the screen shows %q", text)
	}
}

// TestProgressOnATerminal is one line that changes, if the terminal can.
func TestProgressOnATerminal(t *testing.T) {
	for terminal, changes := range map[string]bool{"xterm": true, "dumb": false} {
		t.Setenv("TERM", terminal)
		s := newScreen(t)
		p := (&app{streams: streams{err: s.tty}}).progress()
		p.report(sandboxer.Progress{Stage: "build", Message: "first"})
		p.report(sandboxer.Progress{Stage: "build", Message: "second"})
		p.report(sandboxer.Progress{Stage: "up"})
		p.done()
		s.wait("up ")
		text := s.shown()
		if strings.Contains(text, "second") != changes || strings.Contains(text, "\x1b[K") != changes {
			t.Errorf("%s shows %q", terminal, text)
		}
	}
}
