package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const (
	// reapEvery is how often records follow the leases that hosts ended.
	reapEvery = 30 * time.Second
	// reconcileEvery is how often records and hosts are compared.
	reconcileEvery = 5 * time.Minute
)

// Run answers on l and cares for the sandboxes until ctx ends: it reconciles
// first, which ends what a killed server left half done, then at times, reaps
// what has expired, and delivers events to the hub.
//
// At the end nothing new begins, streams end, and work under way may finish
// within Config.Drain; what takes longer is ended and what it made is removed,
// within the profile's bound. Requests that wait for work get their answer. It
// closes l, not the server.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s,
		// there is no limit for whole requests and answers: some wait long, see patient
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	care, stopCare := context.WithCancel(context.WithoutCancel(ctx))
	var caring sync.WaitGroup
	caring.Go(func() { s.lookElsewhere(care) })
	caring.Go(func() { s.care(care) })
	caring.Go(func() { _ = s.client.KeepDelivering(care) }) // nil, when care ends
	defer func() { stopCare(); caring.Wait() }()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.stop()
	closed := make(chan error, 1)
	go func() { closed <- server.Shutdown(context.WithoutCancel(ctx)) }()
	s.drain()
	return s.lastAnswers(server, closed)
}

// stop lets nothing new begin, and ends streams.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.draining = true
		close(s.stopping)
	}
}

// drain waits for work, and ends what takes too long.
func (s *Server) drain() {
	finished := make(chan struct{})
	go func() { defer close(finished); s.work.Wait() }()
	select {
	case <-finished:
		return
	case <-time.After(s.cfg.Drain):
		s.log.Warn("work takes too long and is ended", "after", s.cfg.Drain)
	}
	s.end()
	<-finished
}

// answerPatience is how long answers may take once all work is done.
const answerPatience = 10 * time.Second

func (s *Server) lastAnswers(server *http.Server, closed <-chan error) error {
	select {
	case err := <-closed:
		return err
	case <-time.After(answerPatience):
		return server.Close()
	}
}

// care does what a person with the command line would do from time to time.
func (s *Server) care(ctx context.Context) {
	reap, reconcile := time.NewTicker(reapEvery), time.NewTicker(reconcileEvery)
	defer reap.Stop()
	defer reconcile.Stop()
	s.reconcile(ctx)
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-reap.C:
			_, err = s.client.Reap(ctx)
		case <-reconcile.C:
			s.reconcile(ctx)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			s.log.WarnContext(ctx, "not everything that expired could be destroyed", "error", err)
		}
	}
}

func (s *Server) reconcile(ctx context.Context) {
	report, err := s.client.Reconcile(ctx, sandboxer.ReconcileOptions{})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.log.WarnContext(ctx, "records and hosts do not agree yet", "error", err)
	}
	if report != nil && len(report.Destroyed)+len(report.Lost)+len(report.Returned)+len(report.Stuck)+len(report.Orphans) > 0 {
		s.log.InfoContext(ctx, "reconciled", "destroyed", report.Destroyed, "lost", report.Lost, "returned", report.Returned, "stuck", report.Stuck, "orphans", len(report.Orphans))
	}
}
