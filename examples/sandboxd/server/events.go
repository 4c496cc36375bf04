package server

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// listSandboxEvents shows the history of one sandbox, or streams it.
func (s *Server) listSandboxEvents(c *call) error {
	sandbox, err := s.named(c)
	if err != nil {
		return err
	}
	if c.wantsStream() {
		return s.streamOne(c, sandbox.ID)
	}
	after, err := cursorOf(c.params.text("cursor"))
	if err != nil {
		return err
	}
	events, err := s.client.Events(c.Request.Context(), sandbox.ID, after.seq)
	if err != nil {
		return err
	}
	since := c.params.moment("since")
	return s.eventPage(c, slices.DeleteFunc(events, func(e sandboxer.Event) bool { return e.Time.Before(since) }))
}

// listEvents shows the history of all that the caller sees, or streams it.
func (s *Server) listEvents(c *call) error {
	if c.wantsStream() {
		return s.streamAll(c)
	}
	after, err := cursorOf(c.params.text("cursor"))
	if err != nil {
		return err
	}
	if since := c.params.moment("since"); after.time.Before(since) {
		after = position{time: since}
	}
	from := sandboxer.EventPosition{Time: after.time, SandboxID: after.sandbox, Seq: after.seq}
	events, err := s.client.EventsAfter(c.Request.Context(), from, c.who.project(), c.params.number("limit")+1)
	if err != nil {
		return err
	}
	return s.eventPage(c, events)
}

// eventPage shows the first of the events that come after the cursor.
func (s *Server) eventPage(c *call, events []sandboxer.Event) error {
	page := api.EventPage{Events: append([]sandboxer.Event{}, events...)}
	if limit := c.params.number("limit"); len(events) > limit {
		page.Events = events[:limit]
		last := events[limit-1]
		page.Next = position{last.Time, last.SandboxID, last.Seq}.cursor()
		c.linkNext(page.Next)
	}
	return s.answer(c, http.StatusOK, page)
}

// noPage refuses the parameters of pages, which a stream has none of.
func (c *call) noPage() error {
	for _, name := range []string{"limit", "cursor"} {
		if len(c.params.all(name)) > 0 {
			return refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "%s: is of pages, and a stream has none: leave it out, or do not accept %s", name, api.StreamType)
		}
	}
	return nil
}

func (c *call) wantsStream() bool {
	for part := range strings.SplitSeq(strings.Join(c.Request.Header.Values("Accept"), ","), ",") {
		kind, _, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(kind), api.StreamType) {
			return true
		}
	}
	return false
}

// lastEvent reads Last-Event-ID: a sandbox and the number of its last event
// that was seen. Without the header both are zero.
func (c *call) lastEvent() (id string, seq int64, err error) {
	text := c.params.text("Last-Event-ID")
	if text == "" {
		return "", 0, nil
	}
	dash := strings.LastIndexByte(text, '-')
	if dash > 0 {
		if seq, err = strconv.ParseInt(text[dash+1:], 10, 64); err == nil && seq >= 0 {
			return text[:dash], seq, nil
		}
	}
	return "", 0, refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "Last-Event-ID: %q is not the id of an event", brief(text))
}
