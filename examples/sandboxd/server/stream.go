package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

const (
	// streamPulse is how often a stream that has nothing to tell says so: it
	// keeps proxies from closing it, and finds out that a client is gone.
	streamPulse = 15 * time.Second
	// streamRetry is how long clients wait before they come back.
	streamRetry = time.Second
	// resumeOverlap is how far before its last event a resumed stream of all
	// sandboxes begins: an event may be recorded a little later than one that
	// bears a later time.
	resumeOverlap = 10 * time.Second
	// streamPart is how many events of the past are read at once.
	streamPart = 500
)

// A stream is a client that reads server-sent events.
type stream struct {
	*call
	connection *http.ResponseController
	sub        *subscription
	sent       map[string]int64 // number of the last event, by sandbox
}

// streamOne tells the events of one sandbox, each once and without gaps, until
// it is destroyed. With since it begins with the first from then on.
func (s *Server) streamOne(c *call, id string) error {
	of, after, err := c.lastEvent()
	switch err := cmp.Or(err, c.noPage()); {
	case err != nil:
		return err
	case of != "" && of != id:
		return refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "Last-Event-ID: %q is not an event of sandbox %s", brief(c.params.text("Last-Event-ID")), id)
	}
	sub, leave := s.feed.subscribe(id)
	defer leave()
	events, err := s.client.Events(c.Request.Context(), id, after)
	if err != nil {
		return err
	}
	sent := after
	since := c.params.moment("since")
	for len(events) > 0 && events[0].Time.Before(since) {
		sent, events = events[0].Seq, events[1:]
	}
	if len(events) == 0 {
		if now, err := s.client.Get(c.Request.Context(), id); err == nil && now.State.Terminal() {
			c.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	st := s.open(c, sub)
	st.sent[id] = sent
	s.run(st, events, func(e sandboxer.Event) bool { return e.State.Terminal() })
	return nil
}

// streamAll tells the events of all sandboxes that the caller sees. What has
// been is read in parts: it may be long.
func (s *Server) streamAll(c *call) error {
	ctx := c.Request.Context()
	of, seq, err := c.lastEvent()
	if err := cmp.Or(err, c.noPage()); err != nil {
		return err
	}
	sub, leave := s.feed.subscribe("")
	defer leave()
	from := sandboxer.EventPosition{Time: c.params.moment("since")}
	last, err := s.event(ctx, of, seq)
	if err != nil {
		return err
	}
	if last != nil {
		from.Time = last.Time.Add(-resumeOverlap)
	}
	// what comes later of a sandbox that is alive begins here, even if nothing
	// of it is as young as the beginning of the stream
	live, err := s.ledger.List(ctx, sandboxer.Filter{States: living()})
	if err != nil {
		return err
	}
	backlog, err := s.client.EventsAfter(ctx, from, c.who.project(), streamPart)
	if err != nil {
		return err
	}
	st := s.open(c, sub)
	for _, r := range live {
		st.sent[r.Sandbox.ID] = r.Seq
	}
	if last != nil {
		st.sent[of] = max(seq, st.sent[of])
	}
	for len(backlog) == streamPart && s.running() {
		from = sandboxer.PositionOf(backlog[streamPart-1])
		if !st.events(backlog, of, seq) {
			return nil
		}
		if backlog, err = s.client.EventsAfter(ctx, from, c.who.project(), streamPart); err != nil {
			return nil // the client comes back
		}
	}
	if st.events(backlog, of, seq) {
		s.run(st, nil, func(sandboxer.Event) bool { return false })
	}
	return nil
}

// event is one event of a sandbox, nil if there is none.
func (s *Server) event(ctx context.Context, id string, seq int64) (*sandboxer.Event, error) {
	if id == "" {
		return nil, nil
	}
	events, err := s.ledger.Events(ctx, id, seq-1)
	if err != nil || len(events) == 0 || events[0].Seq != seq {
		return nil, err
	}
	return &events[0], nil
}

// running is false once the server is told to stop.
func (s *Server) running() bool {
	select {
	case <-s.stopping:
		return false
	default:
		return true
	}
}

// events tells a part of what has been, but of one sandbox only what comes
// after a number. It reports whether the stream goes on.
func (st *stream) events(part []sandboxer.Event, of string, after int64) bool {
	for _, e := range part {
		if (e.SandboxID != of || e.Seq > after) && !st.event(e) {
			return false
		}
	}
	return true
}

func (s *Server) open(c *call, sub *subscription) *stream {
	st := &stream{call: c, connection: http.NewResponseController(c), sub: sub, sent: map[string]int64{}}
	c.Header().Set("Content-Type", api.StreamType)
	c.Header().Set("X-Accel-Buffering", "no")
	c.WriteHeader(http.StatusOK)
	st.write(fmt.Sprintf("retry: %d\n\n", streamRetry.Milliseconds())) // what follows finds out whether somebody reads
	return st
}

// run tells the backlog and then what happens, until an event is the last, the
// client leaves or the server stops. A client that comes back goes on where it was.
func (s *Server) run(st *stream, backlog []sandboxer.Event, last func(sandboxer.Event) bool) {
	pulse := time.NewTicker(streamPulse)
	defer pulse.Stop()
	var reports []report // after the events that they belong to
	for {
		for _, e := range backlog {
			if !st.event(e) || last(e) {
				return
			}
		}
		for _, r := range reports {
			if !st.report(r) {
				return
			}
		}
		backlog, reports = backlog[:0], nil
		select {
		case <-st.Request.Context().Done():
			return
		case <-s.stopping:
			return
		case <-pulse.C:
			if !st.write(":\n\n") {
				return
			}
		case <-st.sub.wake:
			var ids []string
			ids, reports = st.sub.take()
			for _, id := range ids {
				events, err := s.client.Events(st.Request.Context(), id, st.sent[id])
				if err != nil {
					return
				}
				backlog = append(backlog, events...)
			}
		}
	}
}

// event tells one event unless it is not for the caller. It reports whether
// the stream goes on.
func (st *stream) event(e sandboxer.Event) bool {
	st.sent[e.SandboxID] = max(e.Seq, st.sent[e.SandboxID])
	if !st.who.sees(e.Consumer) {
		return true
	}
	text, err := json.Marshal(e)
	return err == nil && st.write(fmt.Sprintf("id: %s\ndata: %s\n\n", e.ID, text))
}

func (st *stream) report(r report) bool {
	if !st.who.sees(r.consumer) {
		return true
	}
	text, err := json.Marshal(r.Report)
	return err == nil && st.write(fmt.Sprintf("event: progress\ndata: %s\n\n", text))
}

func (st *stream) write(text string) bool {
	patient(st)
	if _, err := st.Write([]byte(text)); err != nil {
		return false
	}
	return st.connection.Flush() == nil
}
