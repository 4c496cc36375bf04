package extensiontest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// A Step is a point in the work of a [Fake]: it is about to do something to a machine.
type Step struct {
	Op        string // "provision", "ready", "teardown", "inspect", "list", "probe", "dial", "logs", "renew"
	Stage     string // with "provision" and "teardown", the kind of the object: "record", "network", "volume", "container"
	Host      string
	SandboxID string // empty with "list" and "probe"
}

// A Fault is asked before every step of a [Fake]. An error makes the step
// fail; blocking until ctx ends makes it hang. An error at a stage of
// "teardown" leaves that one object behind, as residue. A Fault may be called
// concurrently.
type Fault func(ctx context.Context, s Step) error

// ErrStopped from a [Fault] ends the Fake as if its process had died at that
// step: nothing is cleaned up, and every later call returns ErrStopped
// without touching a machine.
var ErrStopped = errors.New("the process is gone")

// FailAt fails a step with err. An empty stage means every stage of op.
func FailAt(op, stage string, err error) Fault {
	return at(op, stage, func(context.Context) error { return err })
}

// StopAt ends the Fake at a step.
func StopAt(op, stage string) Fault { return FailAt(op, stage, ErrStopped) }

// HangAt keeps a step from ever being done: it ends with its context.
func HangAt(op, stage string) Fault {
	return at(op, stage, func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

// SlowAt delays a step.
func SlowAt(op, stage string, d time.Duration) Fault {
	return at(op, stage, func(ctx context.Context) error {
		pause(ctx, d)
		return context.Cause(ctx)
	})
}

func at(op, stage string, f func(context.Context) error) Fault {
	return func(ctx context.Context, s Step) error {
		if s.Op != op || stage != "" && s.Stage != stage {
			return nil
		}
		return f(ctx)
	}
}

// Times lets f fail n times and is then silent.
func Times(n int, f Fault) Fault {
	var failed atomic.Int64
	return func(ctx context.Context, s Step) error {
		if failed.Load() >= int64(n) {
			return nil
		}
		err := f(ctx, s)
		if err != nil {
			failed.Add(1)
		}
		return err
	}
}

// OnHost confines f to one host.
func OnHost(host string, f Fault) Fault {
	return func(ctx context.Context, s Step) error {
		if s.Host != host {
			return nil
		}
		return f(ctx, s)
	}
}

// Faults asks each in turn, passing over nil; the first error counts.
func Faults(all ...Fault) Fault {
	return func(ctx context.Context, s Step) error {
		for _, f := range all {
			if f == nil {
				continue
			}
			if err := f(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
}
