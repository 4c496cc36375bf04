package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A pool keeps one link to a host and dials it anew after it was lost.
type pool struct {
	dial func(context.Context) (*link, error)

	ctx    context.Context // of all dialling; canceled by close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	current  *link
	born     time.Time // of current
	attempt  *attempt  // in progress
	failures int       // in a row
	refusal  error     // why trying is pointless until
	resume   time.Time // then
}

// An attempt to dial is shared by all who wait for it.
type attempt struct {
	done chan struct{}
	link *link
	err  error
}

const (
	// refusalHold is how long a host that would not have us, or that we would
	// not have, is left alone: OpenSSH locks out whoever keeps trying.
	refusalHold = 30 * time.Second

	// A link that does not live this long counts as a failure to dial.
	shortLife = 5 * time.Second

	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

func newPool(dial func(context.Context) (*link, error)) *pool {
	p := &pool{dial: dial}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// get returns the link, dialling it if there is none. When ctx ends the
// dialling goes on for those who come later.
func (p *pool) get(ctx context.Context) (*link, error) {
	a, err := p.join()
	if err != nil {
		return nil, err
	}
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the connection: %w", ended(ctx))
	}
}

// join returns the attempt that succeeded, is in progress, or is begun now.
func (p *pool) join() (*attempt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errHostClosed
	}
	if p.current != nil && !p.current.isLost() {
		return succeeded(p.current), nil
	}
	if p.attempt != nil {
		return p.attempt, nil
	}
	if p.refusal != nil && time.Now().Before(p.resume) {
		return nil, p.refusal
	}
	if p.current != nil {
		if time.Since(p.born) < shortLife {
			p.failures++
		} else {
			p.failures = 0
		}
		p.current = nil
	}
	a := &attempt{done: make(chan struct{})}
	p.attempt = a
	wait := backoff(p.failures)
	p.tasks.Go(func() { p.try(a, wait) })
	return a, nil
}

func succeeded(l *link) *attempt {
	a := &attempt{done: make(chan struct{}), link: l}
	close(a.done)
	return a
}

func (p *pool) try(a *attempt, wait time.Duration) {
	select {
	case <-time.After(wait):
		a.link, a.err = p.dial(p.ctx)
	case <-p.ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		if a.link != nil {
			a.link.close(errHostClosed)
		}
		a.link, a.err = nil, errHostClosed
	}
	p.note(a)
	p.attempt = nil
	close(a.done)
}

// note remembers how an attempt ended.
func (p *pool) note(a *attempt) {
	p.refusal = nil
	switch {
	case a.err == nil:
		p.current, p.born = a.link, time.Now()
	case isRefusalOfUs(a.err):
		p.refusal, p.resume = a.err, time.Now().Add(refusalHold)
	default:
		p.failures++
	}
}

func isRefusalOfUs(err error) bool {
	var auth *AuthError
	var key *HostKeyError
	return errors.As(err, &auth) || errors.As(err, &key)
}

// backoff returns how long to wait before the next try after some failures in
// a row, at random so that clients who lost a host together do not come back
// together.
func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	limit := min(minBackoff<<min(failures-1, 10), maxBackoff)
	return limit/2 + rand.N(limit/2)
}

// close ends the link and any dialling, and waits for both.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	current := p.current
	p.mu.Unlock()
	p.cancel()
	if current != nil {
		current.close(errHostClosed)
	}
	p.tasks.Wait()
}
