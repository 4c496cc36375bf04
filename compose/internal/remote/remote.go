// Package remote runs shell scripts on a machine and opens connections there,
// over SSH or on this machine itself.
//
// Nothing is installed on the machine. A script, the values it works on and
// the data it reads all travel on the standard input of one constant command,
// so that no value is ever part of a command line, and what the script prints
// is framed so that nothing else a login shell prints is taken for it.
package remote

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
)

// A Host runs scripts and opens connections on one machine. Its methods may be
// called concurrently.
//
// A machine that cannot be used is an [*UnreachableError], [*HostKeyError],
// [*AuthError] or [*ShellError], or else a matter of configuration that the
// message explains; what is worth another try says [Temporary].
type Host interface {
	// Run executes a script with the machine's POSIX shell, in the directory /
	// under umask 077, and returns when the script and what it printed have
	// ended. A script that ends with a status other than 0 is a Result, not an
	// error.
	//
	// After an error that is [ErrInterrupted] or [ErrOutputLimit], or comes
	// from the Command's Stdin or Stdout, the script may have run in part or
	// completely. After any other it has not been begun.
	//
	// When ctx ends Run returns at once. Then, and when the link to the machine
	// breaks, the script is ended by SIGTERM to its process group, two seconds
	// later SIGKILL; one with Stdin may take two seconds longer to notice. What
	// is to outlive Run has to leave that group (setsid) and let go of the
	// script's output.
	Run(ctx context.Context, cmd Command) (Result, error)

	// DialExec runs a script as Run does and returns its standard input and
	// output as a connection. Closing the connection, or its writing side,
	// ends the script's input. A script that fails makes Read return what it
	// wrote to standard error. Stdin and Stdout of the Command are not used.
	//
	// Until it is closed the connection occupies a session of the machine, of
	// which there may be only one: an idle one keeps Run waiting. Those of
	// DialUnix and DialTCP do not.
	DialExec(ctx context.Context, cmd Command) (net.Conn, error)

	// DialUnix connects to a socket on the machine by its absolute path.
	// It returns an error that is [ErrForwardingRefused] where the machine
	// does not let us, or where nothing listens: OpenSSH tells no difference.
	DialUnix(ctx context.Context, path string) (net.Conn, error)

	// DialTCP connects from the machine to an address.
	// It returns an error that is [ErrForwardingRefused] where the machine
	// does not let us.
	DialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	// Close breaks off what is going on and, over SSH, ends all connections. It
	// leaves nothing running on this side. Later calls fail with
	// [net.ErrClosed].
	Close() error
}

// A Command is a script and what it is given.
type Command struct {
	// Script is POSIX shell text, a constant of the program. Whatever varies
	// belongs into Vars or Stdin.
	Script string

	// Vars are shell variables of the script, not exported. Names match
	// [a-z][a-z0-9_]*; values may hold any byte but NUL and carriage return.
	Vars map[string]string

	// Stdin is what the commands of the script read; nil is empty. The script
	// cannot tell its end from a broken link, so data that have to be complete
	// must say so themselves. A Read of Stdin that blocks may return after Run
	// did; what it read is lost.
	Stdin io.Reader

	// Stdout receives what the script prints as it arrives, never after Run
	// has returned. An error it returns ends the script and is returned by
	// Run. Nil collects it in the Result.
	Stdout io.Writer
}

// A Result is what a script that ran to its end left.
type Result struct {
	Stdout   []byte // at most 8 MiB, more is [ErrOutputLimit]; empty if Command.Stdout is set
	Stderr   []byte // the last 64 KiB
	ExitCode int    // the script's own; 128 plus the signal's number if one killed it
}

const (
	maxStdout = 8 << 20
	maxStderr = 64 << 10
)

// Temporary reports whether another try may succeed without anybody changing
// anything: the host was not reached, broke off, or had no session to spare.
// It does not look at contexts; a caller whose own has ended knows.
func Temporary(err error) bool {
	var unreachable *UnreachableError
	return errors.As(err, &unreachable) || errors.Is(err, ErrInterrupted) || errors.Is(err, ErrNoSession)
}
