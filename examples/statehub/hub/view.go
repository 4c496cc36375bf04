package hub

import (
	"encoding/json"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A view is what the hub tells of a sandbox. The identity and the state are
// those of the newest that is known: mostly the last event, or a registration
// that came ahead of it.
type view struct {
	ID           string                  `json:"sandbox_id"`
	Generation   int                     `json:"generation"`
	State        sandboxer.State         `json:"state"`
	StateSince   time.Time               `json:"state_since,omitzero"`
	Reason       sandboxer.Reason        `json:"reason"`
	Message      string                  `json:"message,omitempty"`
	ErrorCode    string                  `json:"error_code,omitempty"`
	Profile      string                  `json:"profile_id"`
	Extension    string                  `json:"extension_id,omitempty"`
	Host         string                  `json:"host,omitempty"`
	Consumer     sandboxer.Consumer      `json:"consumer"`
	CreatedAt    time.Time               `json:"created_at,omitzero"`
	ExpiresAt    time.Time               `json:"expires_at,omitzero"`
	Reachability *sandboxer.Reachability `json:"reachability,omitempty"`

	Seq        int64 `json:"seq"`        // the highest number known of
	Events     int   `json:"events"`     // stored
	Duplicates int   `json:"duplicates"` // events that came again
	Gaps       []gap `json:"gaps"`       // numbers up to Seq whose events are missing

	Registered   bool              `json:"registered"`
	Registration *registrationView `json:"registration,omitempty"`
}

// A gap is a run of numbers, both ends included.
type gap struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// A registrationView is a registration as it was sent, and its times at the hub.
type registrationView struct {
	Document       json.RawMessage `json:"document"`
	RegisteredAt   time.Time       `json:"registered_at"`
	UpdatedAt      time.Time       `json:"updated_at"`
	DeregisteredAt time.Time       `json:"deregistered_at,omitzero"`
}

func (h *history) view() view {
	v := view{ID: h.id, Seq: h.seq, Events: len(h.events), Duplicates: h.duplicates, Gaps: h.gaps()}
	if r := h.registered; r != nil {
		v.Registered = r.ended.IsZero()
		v.Registration = &registrationView{json.RawMessage(r.document), r.at, r.updated, r.ended}
	}
	last := len(h.events) - 1
	if r := h.registered; r != nil && (last < 0 || r.Seq > h.events[last].Seq) {
		v.Generation, v.State, v.Reason, v.StateSince = r.Generation, r.State, r.Reason, r.UpdatedAt
		v.Profile, v.Extension, v.Host, v.Consumer = r.Profile, r.Extension, r.Host, r.Consumer
		v.CreatedAt, v.ExpiresAt, v.Reachability = r.CreatedAt, r.ExpiresAt, r.Reachability
		return v
	}
	if last < 0 {
		return v
	}
	e := h.events[last]
	v.Generation, v.State, v.Reason, v.Message, v.ErrorCode = e.Generation, e.State, e.Reason, e.Message, e.ErrorCode
	v.Profile, v.Extension, v.Host, v.Consumer = e.Profile, e.Extension, e.Host, e.Consumer
	v.CreatedAt, v.ExpiresAt, v.Reachability = e.CreatedAt, e.ExpiresAt, e.Reachability
	for i := last; i >= 0 && h.events[i].State == e.State; i-- {
		v.StateSince = h.events[i].Time
	}
	return v
}

// gaps never is nil, so that it is a list in JSON.
func (h *history) gaps() []gap {
	gaps, next := []gap{}, int64(1)
	for _, e := range h.events {
		if e.Seq > next {
			gaps = append(gaps, gap{next, e.Seq - 1})
		}
		next = e.Seq + 1
	}
	if h.seq >= next {
		gaps = append(gaps, gap{next, h.seq})
	}
	return gaps
}
