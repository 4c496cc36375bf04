// Package hub is a reference State Hub: an HTTP service that takes the events
// and registrations of sandboxes, keeps them in an SQLite file and answers
// from them whose a sandbox is, where it stands, why it ended and what it
// used. It is for tests and for people; docs/statehub.md says how clients
// deliver to one.
package hub

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// Options configure a [Hub]. The zero value asks nobody for a token and logs nothing.
type Options struct {
	// Token, if set, must come with every request, as "Authorization: Bearer
	// TOKEN". A request that only reads may give it as the password of HTTP
	// Basic instead, which is what a browser asks a person for. Only /healthz
	// is open to all.
	Token string
	// OpenReads: requests that only read need no token.
	OpenReads bool
	// Logger is told of failures of the database. Optional.
	Logger *slog.Logger
}

// A Hub is a State Hub. It is an [http.Handler], safe for concurrent use.
//
// An answer 2xx to something sent means that it is stored durably: it is on
// the disk of the hub, synced, before it is answered. Requests that arrive
// while another one's transaction is synced share the next transaction, so
// that the rate does not hang on the disk alone. BenchmarkPostEvent measures
// it: 7,000 events per second over eight connections, on two processors that
// the sender uses too and a disk that syncs in 0.3 ms, against 11,000 if
// nothing were synced.
type Hub struct {
	store   *store
	pages   *pages
	log     *slog.Logger
	handler http.Handler
	token   *[sha256.Size]byte // nil if none is asked for
	open    bool               // reads need no token
}

// Open opens the database in the file at path, which is made with mode 0600
// if there is none, and missing directories with 0700. A file of another
// program or of a newer hub is an error and left as it is.
func Open(ctx context.Context, path string, opts Options) (*Hub, error) {
	h := &Hub{log: opts.Logger, open: opts.OpenReads}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if opts.Token != "" {
		sum := sha256.Sum256([]byte(opts.Token))
		h.token = &sum
	}
	var err error
	if h.pages, err = parsePages(); err != nil {
		return nil, err
	}
	if h.store, err = openStore(ctx, path); err != nil {
		return nil, err
	}
	h.handler = h.routes()
	return h, nil
}

// Close gives the database back. No request may be served afterwards.
func (h *Hub) Close() error { return h.store.close() }

// routes is everything that the hub answers.
func (h *Hub) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, m := range map[string]methods{
		"/v1/events":         {http.MethodPost: h.postEvent, http.MethodGet: h.listEvents},
		"/progress":          {http.MethodPost: h.postProgress},
		"/v1/sandboxes":      {http.MethodGet: h.listSandboxes},
		"/v1/sandboxes/{id}": {http.MethodGet: h.getSandbox, http.MethodPut: h.register, http.MethodDelete: h.deregister},
		"/v1/usage":          {http.MethodGet: h.usage},
		"/healthz":           {http.MethodGet: h.health},
		"/sandboxes/{id}":    {http.MethodGet: h.sandboxPage},
		"/{$}":               {http.MethodGet: h.timelinePage},
	} {
		mux.Handle(pattern, h.byMethod(m))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, r, refusal(http.StatusNotFound, "there is nothing at %s; the timeline is at /", brief(r.URL.Path)))
	})
	return mux
}

// ServeHTTP implements [http.Handler].
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !h.allowed(r, reads) {
		w.Header().Add("WWW-Authenticate", `Bearer realm="State Hub"`)
		if reads {
			w.Header().Add("WWW-Authenticate", `Basic realm="State Hub: the token is the password", charset="UTF-8"`)
		}
		h.refuse(w, r, refusal(http.StatusUnauthorized, "the hub's token is needed: Authorization: Bearer TOKEN"))
		return
	}
	h.handler.ServeHTTP(w, r)
}

func (h *Hub) allowed(r *http.Request, reads bool) bool {
	if h.token == nil || reads && (h.open || r.URL.Path == "/healthz") {
		return true
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		given = ""
		// a browser adds Basic to whatever another site makes it send, hence reads only
		if _, password, ok := r.BasicAuth(); ok && reads {
			given = password
		}
	}
	// sums are compared, so that not even the token's length can be measured
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	return subtle.ConstantTimeCompare(sum[:], h.token[:]) == 1
}

// shutdownPatience is how long requests that are being answered may take
// after the end of [Hub.Serve] was asked for.
const shutdownPatience = 10 * time.Second

// Serve answers on l until ctx ends, finishes what it is answering, and
// returns nil; what takes longer than ten seconds is cut off, which is an
// error. It closes l, not the hub.
func (h *Hub) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownPatience)
		defer cancel()
		err := server.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		ended <- err
	})
	if err := server.Serve(l); stop() || !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}
