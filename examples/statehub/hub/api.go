package hub

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// How many things one answer lists, unless the query says otherwise.
const (
	usualLimit = 500
	mostLimit  = 5000
)

// listEvents answers with events as they were sent, by sandbox and number.
// Next is the id of the last one if there are more, to be given as after.
func (h *Hub) listEvents(w http.ResponseWriter, r *http.Request) error {
	p := queryOf(r.URL, "sandbox_id", "project", "since", "after", "limit")
	f := eventFilter{sandbox: p.text("sandbox_id"), project: p.text("project"), since: p.since("since", time.Now())}
	f.afterSandbox, f.afterSeq = p.eventID("after")
	limit := p.number("limit", usualLimit, 1, mostLimit)
	if err := p.problems.err(); err != nil {
		return err
	}
	f.limit = limit + 1
	documents, err := h.store.documents(r.Context(), f)
	if err != nil {
		return err
	}
	answer := struct {
		Events []json.RawMessage `json:"events"`
		Next   string            `json:"next"`
	}{Events: documents}
	if len(documents) > limit {
		answer.Events = documents[:limit]
		var last sandboxer.Event
		if err := json.Unmarshal(documents[limit-1], &last); err != nil {
			return err
		}
		answer.Next = last.ID
	}
	if answer.Events == nil {
		answer.Events = []json.RawMessage{}
	}
	return h.answer(w, r, http.StatusOK, answer)
}

// listSandboxes answers with sandboxes, the newest first. Next is the id of
// the last one if there are more, to be given as after.
func (h *Hub) listSandboxes(w http.ResponseWriter, r *http.Request) error {
	p := queryOf(r.URL, "project", "host", "profile", "state", "registered", "after", "limit")
	f := filter{
		project: p.text("project"), host: p.text("host"), profile: p.text("profile"), state: p.text("state"),
		registered: p.flag("registered"), after: p.text("after"),
	}
	limit := p.number("limit", usualLimit, 1, mostLimit)
	if err := p.problems.err(); err != nil {
		return err
	}
	f.limit = limit + 1
	found, err := h.store.histories(r.Context(), f)
	if err != nil {
		return err
	}
	answer := struct {
		Sandboxes []view `json:"sandboxes"`
		Next      string `json:"next"`
	}{Sandboxes: []view{}}
	if len(found) > limit {
		found = found[:limit]
		answer.Next = found[limit-1].id
	}
	for _, history := range found {
		answer.Sandboxes = append(answer.Sandboxes, history.view())
	}
	return h.answer(w, r, http.StatusOK, answer)
}

func (h *Hub) getSandbox(w http.ResponseWriter, r *http.Request) error {
	found, err := h.store.histories(r.Context(), filter{id: r.PathValue("id"), limit: 1})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return refusal(http.StatusNotFound, "sandbox %s is not known here", brief(r.PathValue("id")))
	}
	return h.answer(w, r, http.StatusOK, found[0].view())
}

// usage adds up what sandboxes used, from their events alone.
func (h *Hub) usage(w http.ResponseWriter, r *http.Request) error {
	now := time.Now().UTC()
	p := queryOf(r.URL, "by", "since")
	by := p.choice("by", string(sandboxer.ByConsumer), string(sandboxer.ByProject), string(sandboxer.ByHost), string(sandboxer.ByProfile), string(sandboxer.BySandbox))
	window := sandboxer.Window{Since: p.since("since", now).UTC(), Until: now}
	if err := p.problems.err(); err != nil {
		return err
	}
	events, err := h.store.used(r.Context(), window.Since)
	if err != nil {
		return err
	}
	return h.answer(w, r, http.StatusOK, struct {
		By     string            `json:"by"`
		Since  time.Time         `json:"since,omitzero"`
		Until  time.Time         `json:"until"`
		Meters []sandboxer.Meter `json:"meters"`
	}{by, window.Since, window.Until, sandboxer.MetersOf(events, sandboxer.MeterBy(by), window)})
}
