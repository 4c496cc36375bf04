package remote

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeHost is dialled in memory: each dial takes a second and ends as told.
type fakeHost struct {
	mu    sync.Mutex
	fail  error
	dials []time.Time
	links []*link
}

func (f *fakeHost) dial(ctx context.Context) (*link, error) {
	f.mu.Lock()
	f.dials = append(f.dials, time.Now())
	f.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	here, _ := net.Pipe()
	l := &link{wire: newWire(here), lost: make(chan struct{})}
	f.links = append(f.links, l)
	return l, nil
}

// lose breaks the newest link.
func (f *fakeHost) lose() { close(f.links[len(f.links)-1].lost) }

func TestPoolDialsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		p := newPool(host.dial)
		defer p.close()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if l, err := p.get(t.Context()); err != nil || l == nil {
					t.Errorf("%v, %v", l, err)
				}
			})
		}
		all.Wait()
		if len(host.dials) != 1 {
			t.Errorf("%d dials, want 1", len(host.dials))
		}
		host.lose()
		if _, err := p.get(t.Context()); err != nil || len(host.dials) != 2 {
			t.Errorf("after a loss: %d dials, %v", len(host.dials), err)
		}
	})
}

func TestPoolGoesOnDialingForThoseWhoComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		p := newPool(host.dial)
		defer p.close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := p.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient: %v", err)
		}
		if _, err := p.get(t.Context()); err != nil || len(host.dials) != 1 {
			t.Errorf("patient: %v after %d dials", err, len(host.dials))
		}
	})
}

func TestPoolBacksOffFromAFailingHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{fail: &UnreachableError{Err: errors.New("down")}}
		p := newPool(host.dial)
		defer p.close()
		for range 12 {
			if _, err := p.get(t.Context()); err == nil {
				t.Fatal("reached")
			}
		}
		pause := func(i int) time.Duration { return host.dials[i].Sub(host.dials[i-1]) - time.Second }
		if p1, p2 := pause(1), pause(2); p1 < minBackoff/2 || p1 > minBackoff || p2 < minBackoff || p2 > 2*minBackoff {
			t.Errorf("first pauses %v, %v; want about %v, %v", p1, p2, minBackoff, 2*minBackoff)
		}
		if last := pause(11); last < maxBackoff/2 || last > maxBackoff {
			t.Errorf("last pause %v, want at most %v", last, maxBackoff)
		}
		// Once it has held for a while, a loss is repaired at once.
		host.fail = nil
		if _, err := p.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * shortLife)
		host.lose()
		start := time.Now()
		if _, err := p.get(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("redialled after %v, %v", time.Since(start), err)
		}
	})
}

func TestPoolSlowsDownForAHostThatKeepsBreaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		p := newPool(host.dial)
		defer p.close()
		for range 10 {
			if _, err := p.get(t.Context()); err != nil {
				t.Fatal(err)
			}
			host.lose()
		}
		if last := host.dials[9].Sub(host.dials[8]) - time.Second; last < maxBackoff/2 {
			t.Errorf("the tenth connection in a row that broke was dialled after %v", last)
		}
	})
}

func TestPoolLeavesAHostAloneThatWouldNotHaveUs(t *testing.T) {
	for _, refusal := range []error{&AuthError{Err: errors.New("no")}, &HostKeyError{Kind: HostKeyChanged}} {
		synctest.Test(t, func(t *testing.T) {
			host := &fakeHost{fail: refusal}
			p := newPool(host.dial)
			defer p.close()
			for range 20 {
				if _, err := p.get(t.Context()); !errors.Is(err, refusal) {
					t.Fatalf("got %v", err)
				}
				time.Sleep(time.Second)
			}
			if len(host.dials) != 1 {
				t.Errorf("%d dials in 20 s, want 1", len(host.dials))
			}
			host.fail = nil
			time.Sleep(refusalHold)
			if _, err := p.get(t.Context()); err != nil {
				t.Errorf("after the cause was removed: %v", err)
			}
		})
	}
}

func TestPoolCloseEndsDialing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(new(fakeHost).dial)
		done := make(chan error, 1)
		go func() {
			_, err := p.get(t.Context())
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		p.close()
		if err := <-done; !errors.Is(err, net.ErrClosed) || time.Since(start) > 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
