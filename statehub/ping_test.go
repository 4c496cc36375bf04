package statehub_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

// TestPing: a hub that answers is there, whatever it thinks of a HEAD.
func TestPing(t *testing.T) {
	for status, want := range map[int]error{
		200: nil, 204: nil, 400: nil, 404: nil, 405: nil, 501: nil,
		301: sandboxer.ErrUnavailable, 429: sandboxer.ErrUnavailable, 500: sandboxer.ErrUnavailable, 503: sandboxer.ErrUnavailable,
		401: sandboxer.ErrAuth, 403: sandboxer.ErrAuth,
	} {
		h := startHub(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if err := newSink(t, statehub.Config{URL: h.URL}).Ping(t.Context()); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%d: %v, want %v", status, err, want)
		}
	}
}

// TestPingAsks: a HEAD of where events go, with the token.
func TestPingAsks(t *testing.T) {
	for shape, want := range map[statehub.Shape]string{"": "HEAD /v1/events", statehub.ShapeProgress: "HEAD /progress"} {
		h := startHub(t, nil)
		if err := newSink(t, statehub.Config{URL: h.URL, Shape: shape, Token: "to-ken"}).Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := h.seen()
		if len(all) != 1 || h.lines() != want+"\n" || all[0].Header.Get("Authorization") != "Bearer to-ken" || all[0].Body != "" {
			t.Errorf("%+v, want %s", all, want)
		}
	}
}

// TestPingEnds: with its context, and where nobody listens.
func TestPingEnds(t *testing.T) {
	h := startHub(t, nil)
	h.Close()
	s := newSink(t, statehub.Config{URL: h.URL})
	if err := s.Ping(t.Context()); !errors.Is(err, sandboxer.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	left := errors.New("the caller left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(left)
	if err := s.Ping(ctx); !errors.Is(err, left) {
		t.Errorf("%v", err)
	}
}
