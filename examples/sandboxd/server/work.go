package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// A work is an operation that takes its time. It belongs to the server, not to
// the request that began it.
type work struct {
	*errand
	began   time.Time
	cancel  context.CancelFunc
	done    chan struct{}
	sandbox *sandboxer.Sandbox // these two once done
	err     error
	left    chan bool // whether the client of work that ends with it left unanswered
}

// begin starts a work, unless the server is stopping.
func (s *Server) begin(kind string, who sandboxer.Consumer, e *errand, do func(context.Context) (*sandboxer.Sandbox, error)) (*work, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, refuse(http.StatusServiceUnavailable, "unavailable", api.ClassNoHost, "the server is stopping")
	}
	ctx, cancel := context.WithCancel(withErrand(s.base, e))
	ctx = sandboxer.WithProgress(ctx, func(p sandboxer.Progress) {
		if id := e.sandbox(); id != "" {
			s.feed.progressed(report{api.Report{SandboxID: id, Progress: p}, who})
		}
	})
	w := &work{errand: e, began: time.Now(), cancel: cancel, done: make(chan struct{}), left: make(chan bool, 1)}
	s.work.Add(1)
	s.metrics.began(kind)
	go func() {
		defer s.work.Done()
		defer cancel()
		w.sandbox, w.err = do(ctx)
		s.metrics.ended(kind, w.err, time.Since(w.began))
		close(w.done)
		if e.fleeting && <-w.left {
			s.discard(w.sandbox)
		}
	}()
	return w, nil
}

// discard destroys what nobody could find again, also while the server stops:
// the client may have left when the sandbox was ready already.
func (s *Server) discard(sandbox *sandboxer.Sandbox) {
	if sandbox == nil || sandbox.State.Terminal() {
		return
	}
	if _, err := s.client.Destroy(context.WithoutCancel(s.base), sandbox.ID); err != nil {
		s.log.Warn("a sandbox whose client left is not destroyed", "sandbox", sandbox.ID, "error", err)
	}
}

// A preference is what a client says about waiting (RFC 7240); what cannot be
// understood is passed over.
type preference struct {
	wait    time.Duration
	applied string
}

func (s *Server) preference(given string) preference {
	p := preference{wait: s.cfg.MaxWait}
	async, waits := false, false
	for part := range strings.SplitSeq(given, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "respond-async":
			async = true
		case "wait":
			if n, err := strconv.Atoi(strings.Trim(value, `" `)); err == nil && n >= 0 && !waits {
				waits = true
				p.wait = min(p.wait, time.Duration(min(n, 1<<20))*time.Second)
				p.applied = "wait=" + strconv.Itoa(n)
			}
		}
	}
	if async && !waits {
		p.wait = 0
	}
	if async {
		p.applied = strings.TrimSuffix("respond-async, "+p.applied, ", ")
	}
	return p
}

// await waits as the client prefers. It reports whether the work is done;
// otherwise its sandbox is recorded. An error says that the client left, which
// counts also where the work ended at the same time.
func (s *Server) await(c *call, w *work) (done bool, err error) {
	defer func() {
		if c.Request.Context().Err() != nil {
			done, err = false, context.Cause(c.Request.Context())
		}
	}()
	patience := time.NewTimer(s.preference(c.params.list("Prefer")).wait)
	defer patience.Stop()
	select {
	case <-w.done:
		return true, nil
	case <-c.Request.Context().Done():
		return false, nil
	case <-patience.C:
	}
	select {
	case <-w.done:
		return true, nil
	case <-c.Request.Context().Done():
		return false, nil
	case <-w.recorded:
		return false, nil
	}
}

// accepted answers that the work goes on.
func (s *Server) accepted(c *call, w *work) error {
	now, err := s.client.Get(c.Request.Context(), w.errand.sandbox())
	if err != nil {
		return err
	}
	h := c.Header()
	h.Set("Location", locationOf(now.ID))
	h.Set("Retry-After", "1")
	if applied := s.preference(c.params.list("Prefer")).applied; applied != "" {
		h.Set("Preference-Applied", applied)
	}
	return s.answer(c, http.StatusAccepted, now)
}

func locationOf(id string) string { return "/v1/sandboxes/" + id }

// finish answers with what a work on a recorded sandbox came to.
func (s *Server) finish(c *call, w *work) error {
	done, err := s.await(c, w)
	switch {
	case err != nil:
		return err
	case !done:
		return s.accepted(c, w)
	case w.err != nil:
		return &failed{error: w.err, sandbox: w.sandbox}
	}
	return s.show(c, http.StatusOK, w.sandbox)
}

// show answers with a sandbox as it is recorded.
func (s *Server) show(c *call, status int, sandbox *sandboxer.Sandbox) error {
	c.Header().Set("ETag", tagOf(sandbox))
	return s.answer(c, status, sandbox)
}
