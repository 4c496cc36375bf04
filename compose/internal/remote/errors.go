package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrInterrupted says that a script was begun, or may have been, and its
	// end was not seen: the link broke, the context ended, or its shell was
	// killed. Its outcome is unknown.
	ErrInterrupted = errors.New("interrupted with unknown outcome")

	// ErrOutputLimit says that a script printed more than a Result holds. It
	// was ended.
	ErrOutputLimit = fmt.Errorf("script printed more than %d bytes", maxStdout)

	// ErrNoSession says that the host granted no session, though none of ours
	// was open: its sshd has MaxSessions 0, or sessions we lost sight of have
	// not ended.
	ErrNoSession = errors.New("host grants no session: check MaxSessions in its sshd_config")

	// ErrForwardingRefused says that the host did not open a connection for
	// us. Its sshd forbids forwarding (AllowTcpForwarding,
	// AllowStreamLocalForwarding, DisableForwarding), or nothing listens on
	// the socket.
	ErrForwardingRefused = errors.New("host refuses to forward")
)

// An UnreachableError says that no connection to the host came about, and
// nothing was run.
type UnreachableError struct {
	Address string // host:port
	Err     error  // from net, or why the handshake broke off

	dropped bool // the host hung up at once
}

func (e *UnreachableError) Error() string { return "cannot reach " + e.Address + ": " + e.Err.Error() }
func (e *UnreachableError) Unwrap() error { return e.Err }

// An AuthError says that the host did not let the user in, or that there was
// nothing to try. It was tried once.
type AuthError struct {
	Address string // host:port
	User    string
	Tried   []string // the keys offered, and those that could not be
	Err     error    // what the host or the agent said
}

func (e *AuthError) Error() string {
	msg := fmt.Sprintf("%s@%s: authentication failed: %v", e.User, e.Address, e.Err)
	if len(e.Tried) > 0 {
		msg += "; keys: " + strings.Join(e.Tried, ", ")
	}
	return msg
}

func (e *AuthError) Unwrap() error { return e.Err }

// HostKeyKind says what is wrong with a host key.
type HostKeyKind string

const (
	HostKeyUnknown HostKeyKind = "unknown" // nothing is known about the host
	HostKeyChanged HostKeyKind = "changed" // the host has another key than is known
	HostKeyRevoked HostKeyKind = "revoked" // the key, or the authority that signed it, is revoked
	HostKeyInvalid HostKeyKind = "invalid" // a certificate of a trusted authority that is not valid for the host, or that authority's own key
)

// A HostKeyError says that the host's key is not to be trusted. Nothing was
// sent to the host.
type HostKeyError struct {
	Address   string // host:port
	Kind      HostKeyKind
	Presented string   // the key the host showed, as "type SHA256:fingerprint"
	Expected  []string // what is known or pinned, in the same form
	File      string   // the known_hosts file that disagrees, if it is one line
	Line      int      // 1 is the first; 0 if there is no such line
	Detail    string   // more about Invalid
}

func (e *HostKeyError) Error() string {
	where := "the pinned key"
	if e.File != "" {
		where = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	expected := strings.Join(e.Expected, ", ")
	switch e.Kind {
	case HostKeyUnknown:
		return fmt.Sprintf("%s: host key is unknown: the host shows %s; compare it with ssh-keygen -lf on the host's own key files, then pin it or add it to known_hosts",
			e.Address, e.Presented)
	case HostKeyRevoked:
		return fmt.Sprintf("%s: host key is revoked: the host shows %s, which %s revokes; give the host a new key",
			e.Address, e.Presented, where)
	case HostKeyInvalid:
		return fmt.Sprintf("%s: host key is not valid: the host shows %s: %s; have it signed again",
			e.Address, e.Presented, e.Detail)
	default:
		return fmt.Sprintf("%s: host key has changed: the host shows %s, but %s says %s; somebody may be in between, or the host was installed anew: only then replace the known key",
			e.Address, e.Presented, where, expected)
	}
}

// A ShellError says that the account's login shell ended without running a
// POSIX shell, and so the script was not run.
type ShellError struct {
	Status string // how it ended
	Output string // the end of what it said instead
}

func (e *ShellError) Error() string {
	msg := "login shell did not run /bin/sh: " + e.Status
	if said := strings.TrimSpace(e.Output); said != "" {
		msg += ": " + said
	}
	return msg
}

// ended returns why ctx ended. The result is ctx.Err(), whatever the cause.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}
