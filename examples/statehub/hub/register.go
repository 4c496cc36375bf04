package hub

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A registration says that a sandbox exists and what is known of it, beside
// its events. Keys that are not here are kept, too.
type registration struct {
	SandboxID    string                  `json:"sandbox_id"`
	Generation   int                     `json:"generation"`
	State        sandboxer.State         `json:"state"`
	Reason       sandboxer.Reason        `json:"reason"`
	Profile      string                  `json:"profile_id"`
	Extension    string                  `json:"extension_id"`
	Host         string                  `json:"host"`
	Consumer     sandboxer.Consumer      `json:"consumer"`
	ActorType    sandboxer.ActorType     `json:"actor_type"`
	CreatedAt    time.Time               `json:"created_at"`
	ExpiresAt    time.Time               `json:"expires_at"`
	Reachability *sandboxer.Reachability `json:"reachability"`
	Seq          int64                   `json:"seq"`
	EventID      string                  `json:"event_id"`
	UpdatedAt    time.Time               `json:"updated_at"`

	document string
}

func (r *registration) summary() summary {
	s := summary{
		id: r.SandboxID, seq: r.Seq, time: r.UpdatedAt, began: r.CreatedAt,
		state: string(r.State), project: r.Consumer.Project, host: r.Host, profile: r.Profile,
	}
	if s.began.IsZero() {
		s.began = r.UpdatedAt
	}
	return s
}

func decodeRegistration(text []byte, id string) (*registration, error) {
	r := &registration{document: string(text)}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, refusal(http.StatusBadRequest, "the body is not a registration: %s", cut(err.Error()))
	}
	var p problems
	p.unless(sandboxIDText.MatchString(r.SandboxID), "sandbox_id %q is not the id of a sandbox", brief(r.SandboxID))
	p.unless(r.SandboxID == id, "sandbox_id is %q, and the path has %q: they must be equal", brief(r.SandboxID), brief(id))
	p.unless(r.Seq >= 1, "seq is %d, want the number of the sandbox's last event, 1 or more", r.Seq)
	p.require("state", string(r.State))
	p.unless(!r.UpdatedAt.IsZero(), "updated_at is required")
	return r, p.err()
}

// register takes a registration. One that is older than the stored one changes
// nothing, and is not an error: registrations overtake each other.
func (h *Hub) register(w http.ResponseWriter, r *http.Request) error {
	text, err := body(w, r, "application/json")
	if err != nil {
		return err
	}
	given, err := decodeRegistration(text, r.PathValue("id"))
	if err != nil {
		return err
	}
	fresh, changed, err := h.store.register(given, time.Now())
	if err != nil {
		return err
	}
	status := http.StatusOK
	if fresh {
		status = http.StatusCreated
	}
	return h.answer(w, r, status, struct {
		SandboxID string `json:"sandbox_id"`
		Changed   bool   `json:"changed"` // false: a newer one is stored
	}{given.SandboxID, changed})
}

// deregister ends a registration. What is known of the sandbox stays.
func (h *Hub) deregister(w http.ResponseWriter, r *http.Request) error {
	known, err := h.store.deregister(r.PathValue("id"), time.Now())
	if err != nil {
		return err
	}
	if !known {
		return refusal(http.StatusNotFound, "sandbox %s was never registered", brief(r.PathValue("id")))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
