package hub

import "net/http"

// postEvent takes a CloudEvent.
func (h *Hub) postEvent(w http.ResponseWriter, r *http.Request) error {
	text, err := body(w, r, "application/cloudevents+json")
	if err != nil {
		return err
	}
	e, err := decodeCloudEvent(text)
	if err != nil {
		return err
	}
	return h.take(w, r, e)
}

// postProgress takes the hub's own form of an event.
func (h *Hub) postProgress(w http.ResponseWriter, r *http.Request) error {
	text, err := body(w, r, "application/json")
	if err != nil {
		return err
	}
	e, err := decodeProgress(text)
	if err != nil {
		return err
	}
	return h.take(w, r, e)
}

// A receipt says what became of an event.
type receipt struct {
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
}

// take stores an event, whichever form it came in.
func (h *Hub) take(w http.ResponseWriter, r *http.Request, e *event) error {
	duplicate, err := h.store.addEvent(e)
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	if duplicate {
		status = http.StatusOK
	}
	return h.answer(w, r, status, receipt{ID: e.ID, Duplicate: duplicate})
}
