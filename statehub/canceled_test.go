package statehub_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

// TestCanceled: Emit ends with its context, whose cause it tells.
func TestCanceled(t *testing.T) {
	errLeft := errors.New("the caller left")
	ends := map[string]func(context.Context) (context.Context, context.CancelFunc, error){
		"canceled": func(ctx context.Context) (context.Context, context.CancelFunc, error) {
			ctx, cancel := context.WithCancelCause(ctx)
			timer := time.AfterFunc(50*time.Millisecond, func() { cancel(errLeft) })
			return ctx, func() { timer.Stop(); cancel(nil) }, errLeft
		},
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc, error) {
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			return ctx, cancel, context.DeadlineExceeded
		},
		"canceled before": func(ctx context.Context) (context.Context, context.CancelFunc, error) {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errLeft)
			return ctx, func() {}, errLeft
		},
	}
	for _, register := range []statehub.Register{statehub.RegisterAuto, statehub.RegisterOff} {
		for name, end := range ends {
			t.Run(name+", register "+string(register), func(t *testing.T) {
				leavesNothing(t)
				url := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
				s := newSink(t, statehub.Config{URL: url, Register: register})
				ctx, cancel, want := end(t.Context())
				defer cancel()
				var err error
				wantWithin(t, time.Second, func() { err = s.Emit(ctx, ready()) })
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if _, ok := errors.AsType[*sandboxer.DeliveryError](err); ok {
					t.Errorf("%v judges the hub, which had no time to answer", err)
				}
			})
		}
	}
}
