package hub

import (
	"net/http"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A detail is what the page of one sandbox shows.
type detail struct {
	frame
	row
	Known   bool
	Span    string
	Ticks   []tick
	History []line
	Meter   sandboxer.Meter
	Held    string
	Costs   string
}

// A line is an event, or a gap between two.
type line struct {
	*sandboxer.Event
	Gap *gap
}

func (h *Hub) sandboxPage(w http.ResponseWriter, r *http.Request) error {
	now := time.Now().UTC()
	p := queryOf(r.URL, "refresh")
	refresh := p.number("refresh", 0, 1, 3600)
	if err := p.problems.err(); err != nil {
		return err
	}
	id := r.PathValue("id")
	found, err := h.store.histories(r.Context(), filter{id: id, limit: 1})
	if err != nil {
		return err
	}
	page := detail{frame: h.pages.frame(refresh, now)}
	if len(found) == 0 {
		page.ID = id
		return h.pages.show(w, http.StatusNotFound, "sandbox.html", page)
	}
	history := found[0]
	s := spanOf(found, time.Time{}, now)
	page.Known, page.row = true, rowOf(history, s, now)
	page.Ticks, page.Span = s.ticks(), moment(s.from)[:19]+" to "+moment(s.to)[:19]
	page.History = linesOf(history.events, page.Gaps)
	page.Meter = sandboxer.MeterOf(history.events, sandboxer.Window{Until: now})
	page.Held, page.Costs = seconds(page.Meter.Held), costs(page.Meter.Costs)
	return h.pages.show(w, http.StatusOK, "sandbox.html", page)
}

// linesOf puts the gaps, which are in order, where the events are missing.
func linesOf(events []sandboxer.Event, gaps []gap) []line {
	var out []line
	for i := range events {
		for len(gaps) > 0 && gaps[0].First < events[i].Seq {
			out, gaps = append(out, line{Gap: &gaps[0]}), gaps[1:]
		}
		out = append(out, line{Event: &events[i]})
	}
	for i := range gaps {
		out = append(out, line{Gap: &gaps[i]})
	}
	return out
}
