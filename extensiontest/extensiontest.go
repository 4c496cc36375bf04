// Package extensiontest checks that a [sandboxer.Extension] keeps the promises
// that its interface makes, and that a [sandboxer.Store] keeps its own.
//
// [Run] is a test of an extension in one call; [Check] does the same for a
// program. Everything is judged by what is really on the backend, which the
// [Harness] looks at past the extension.
//
// [Fake] is an extension in memory. It keeps every promise, so it is the one
// to read before writing another, and it fails on demand, so programs can be
// tested against hosts that break.
package extensiontest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A Harness is what the checks need to know of an extension.
type Harness struct {
	// New returns a fresh value, as a new process would build it. All values
	// address the same backend. The kit closes those that are io.Closers.
	New func() (sandboxer.Extension, error)
	// Request is small and valid. Host, Profile, Inputs, Consumer, Labels and
	// Secrets are used as they are; the kit sets the rest.
	Request sandboxer.ProvisionRequest
	// Leftovers names what the backend still holds for a sandbox, each by its
	// kind: "network", "volume", "directory". It looks at the backend itself,
	// never through the extension.
	Leftovers func(ctx context.Context, id string) ([]string, error)
	// Invalid are requests that must be refused with ErrInvalid, ErrAdmission
	// or ErrUnsupported. The kit sets the same fields as in Request.
	Invalid []sandboxer.ProvisionRequest
	// Secrets are values in Request that must not appear in any handle, beside
	// those of Request.Secrets.
	Secrets []string
	// Dial is a port that a sandbox of Request serves. Optional.
	Dial *Target
	// Disconnect makes Request.Host unreachable until reconnect is called. Optional.
	Disconnect func(ctx context.Context) (reconnect func() error, err error)
	// Timeout bounds each check; 2m if zero.
	Timeout time.Duration
}

// A Target is a port of a service and how to tell that it answers.
type Target struct {
	Service string
	Port    int
	// Talk exchanges a few bytes with the service. Without it an open
	// connection counts as an answer.
	Talk func(net.Conn) error
}

// Run checks every promise in a subtest of its own. Checks of optional
// interfaces that the extension does not have are skipped.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if err := h.validate(); err != nil {
		t.Fatal(err)
	}
	for _, p := range promises() {
		t.Run(p.name, func(t *testing.T) {
			err := p.check(t.Context(), h)
			if skip, ok := errors.AsType[notApplicable](err); ok {
				t.Skip(skip)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Check checks every promise and joins what is broken, one error for each,
// reading "Name: what was found (why it matters)".
func Check(ctx context.Context, h Harness) error {
	if err := h.validate(); err != nil {
		return err
	}
	var broken []error
	for _, p := range promises() {
		err := p.check(ctx, h)
		if _, skip := errors.AsType[notApplicable](err); !skip {
			broken = append(broken, err)
		}
	}
	return errors.Join(broken...)
}

func (h Harness) validate() error {
	switch {
	case h.New == nil:
		return errors.New("harness: New is missing: it builds the extension")
	case h.Leftovers == nil:
		return errors.New("harness: Leftovers is missing: without it nothing can be proved absent")
	case h.Request.Host == "":
		return errors.New("harness: Request.Host is missing: name a host of the extension")
	}
	return nil
}

// A promise is one check: its name, why the rule exists, and the test of it.
type promise struct {
	name string
	why  string
	kept func(context.Context, *trial) error
}

const defaultTimeout = 2 * time.Minute

func (p promise) check(ctx context.Context, h Harness) error {
	limit := cmp.Or(h.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the check was not done within %v", limit))
	defer cancel()
	t := &trial{Harness: h}
	err := p.kept(ctx, t)
	if left := t.end(ctx); err == nil {
		err = left
	}
	if _, skip := errors.AsType[notApplicable](err); err == nil || skip {
		return err
	}
	return fmt.Errorf("%s: %w (%s)", p.name, err, p.why)
}

// notApplicable is why a check has nothing to check.
type notApplicable string

func (n notApplicable) Error() string { return string(n) }
