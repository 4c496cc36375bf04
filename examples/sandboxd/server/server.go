// Package server is sandboxd: the library over HTTP, for the operations of
// package api. docs/sandboxd.md says what clients can rely on.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// Config says who may do what, and for how long.
type Config struct {
	// Tokens name the consumers that may come. Without any, everybody who can
	// reach the server is an administrator: listen on loopback only.
	Tokens []Token
	// Consumer is on whose account sandboxes are where there are no tokens
	// and the request does not say it.
	Consumer sandboxer.Consumer
	// Workspaces is the directory below which working trees lie that requests
	// may name, for tokens that have none of their own. Required.
	Workspaces string
	// MaxWait is the longest that a request waits for work; 30 minutes if 0.
	MaxWait time.Duration
	// Drain is how long work may go on once the server is told to stop,
	// before it is ended and what it made is removed; 2 minutes if 0.
	Drain time.Duration
	// Logger; nil is silent.
	Logger *slog.Logger
}

// A Server answers requests. It is an [http.Handler], safe for concurrent use.
type Server struct {
	cfg     Config
	client  *sandboxer.Client
	feed    *feed
	ledger  *ledger
	metrics *metrics
	hosts   hostCache
	page    page
	log     *slog.Logger
	mux     *http.ServeMux

	bodyPatience time.Duration // how long a body may take to arrive

	base     context.Context // of all work; ends when work is to end
	end      context.CancelFunc
	stopping chan struct{} // closed when the server is told to stop
	mu       sync.Mutex    // guards draining, and work that begins
	draining bool
	work     sync.WaitGroup
}

// New makes a server with a client of its own, which it closes at [Server.Close].
func New(library sandboxer.Config, cfg Config) (*Server, error) {
	cfg.MaxWait = cmp.Or(cfg.MaxWait, 30*time.Minute)
	cfg.Drain = cmp.Or(cfg.Drain, 2*time.Minute)
	s := &Server{cfg: cfg, feed: newFeed(), metrics: newMetrics(), log: cfg.Logger, stopping: make(chan struct{}), bodyPatience: bodyPatience}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.cfg.Workspaces, err = directory(cfg.Workspaces); err != nil {
		return nil, err
	}
	for i := range s.cfg.Tokens {
		if err := s.cfg.Tokens[i].check(s.cfg.Workspaces); err != nil {
			return nil, fmt.Errorf("token %d: %w", i+1, err)
		}
	}
	if s.page, err = loadPage(); err != nil {
		return nil, err
	}
	if library.Store != nil {
		s.ledger = &ledger{Store: library.Store, feed: s.feed}
		library.Store = s.ledger
	}
	if s.client, err = sandboxer.New(library); err != nil {
		return nil, err
	}
	if s.mux, err = s.routes(); err != nil {
		return nil, errors.Join(err, s.client.Close())
	}
	s.base, s.end = context.WithCancel(context.Background())
	return s, nil
}

// directory is the absolute path, without links, of a directory that must exist.
func directory(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return "", sandboxer.WithHint(fmt.Errorf("directory of workspaces: %w", err), "name the directory below which working trees lie, with --workspaces")
	}
	return real, nil
}

// Close ends all work, waits for it and closes the client.
func (s *Server) Close() error {
	s.stop()
	s.end()
	s.work.Wait()
	return s.client.Close()
}

// A handler answers one operation.
type handler func(*Server, *call) error

// handlers has one for every operation of package api.
func handlers() map[string]handler {
	return map[string]handler{
		"createSandbox":     (*Server).createSandbox,
		"listSandboxes":     (*Server).listSandboxes,
		"getSandbox":        (*Server).getSandbox,
		"destroySandbox":    (*Server).destroySandbox,
		"recreateSandbox":   (*Server).recreateSandbox,
		"extendSandbox":     (*Server).extendSandbox,
		"activateSandbox":   (*Server).activateSandbox,
		"deactivateSandbox": (*Server).deactivateSandbox,
		"listSandboxEvents": (*Server).listSandboxEvents,
		"listEvents":        (*Server).listEvents,
		"planSandbox":       (*Server).planSandbox,
		"listProfiles":      (*Server).listProfiles,
		"listHosts":         (*Server).listHosts,
		"getUsage":          (*Server).getUsage,
		"getHealth":         (*Server).getHealth,
		"getMetrics":        (*Server).getMetrics,
		"getOpenAPI":        (*Server).getOpenAPI,
		"getPage":           (*Server).getPage,
	}
}

// routes are the operations of package api and nothing else.
func (s *Server) routes() (*http.ServeMux, error) {
	left := handlers()
	paths := map[string]map[string]http.HandlerFunc{}
	for _, o := range api.Operations() {
		handle, ok := left[o.ID]
		if !ok {
			return nil, fmt.Errorf("operation %s has no handler", o.ID)
		}
		delete(left, o.ID)
		if paths[o.Path] == nil {
			paths[o.Path] = map[string]http.HandlerFunc{}
		}
		paths[o.Path][o.Method] = s.serve(o, handle)
	}
	for id := range left {
		return nil, fmt.Errorf("there is a handler for %s, which is no operation", id)
	}
	mux := http.NewServeMux()
	for path, methods := range paths {
		mux.HandleFunc(path, s.byMethod(methods))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, refuse(http.StatusNotFound, "not_found", api.ClassNotFound, "there is nothing at %s; /openapi.json lists what there is", brief(r.URL.Path)))
	})
	return mux, nil
}

func (s *Server) byMethod(methods map[string]http.HandlerFunc) http.HandlerFunc {
	if get := methods[http.MethodGet]; get != nil {
		methods[http.MethodHead] = get
	}
	var all []string
	for m := range methods {
		all = append(all, m)
	}
	slices.Sort(all)
	allow := strings.Join(all, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		if handle := methods[r.Method]; handle != nil {
			handle(w, r)
			return
		}
		w.Header().Set("Allow", allow)
		s.refuse(w, r, refuse(http.StatusMethodNotAllowed, "method", api.ClassUsage, "%s is not possible at %s, only %s", brief(r.Method), brief(r.URL.Path), allow))
	}
}

// A call is one request to an operation, checked against the table.
type call struct {
	http.ResponseWriter
	Request   *http.Request
	operation api.Operation
	who       identity
	params    params
}

// Unwrap lets [http.ResponseController] through.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (s *Server) serve(o api.Operation, handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{ResponseWriter: w, Request: r, operation: o}
		var err error
		if c.who, err = s.identify(r, o); err == nil {
			c.params, err = readParams(o, r)
		}
		if err == nil {
			err = handle(s, c)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	}
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began, seen := time.Now(), &statusWriter{ResponseWriter: w}
	s.guarded(seen, r)
	s.metrics.answered(operationOf(r), seen.said(r), time.Since(began))
}

// guarded answers whoever may ask.
func (s *Server) guarded(w http.ResponseWriter, r *http.Request) {
	s.hurry(w, r)
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if err := s.guard(r); err != nil {
		s.refuse(w, r, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// operationOf is the id of the operation that a request was routed to, or
// "none".
func operationOf(r *http.Request) string {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	all := api.Operations()
	i := slices.IndexFunc(all, func(o api.Operation) bool { return o.Path == r.Pattern && o.Method == method })
	if i < 0 {
		return "none"
	}
	return all[i].ID
}

// statusLeft is the status of a request whose client left before an answer.
// It is never sent.
const statusLeft = 499

// A statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 before there is one
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// said is the status of the answer to a request.
func (w *statusWriter) said(r *http.Request) int {
	if w.status == 0 && r.Context().Err() != nil {
		return statusLeft
	}
	return cmp.Or(w.status, http.StatusOK)
}

// Unwrap lets [http.ResponseController] through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// brief bounds what an answer repeats of a request.
func brief(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
