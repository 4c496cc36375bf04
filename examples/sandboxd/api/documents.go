// Package api is the contract between sandboxd and its clients: the documents
// they exchange, the problems, and the table of operations from which both the
// server's routes and the OpenAPI document are made.
package api

import (
	"github.com/sand-boxer/sandboxer"
)

// A CreateRequest asks for a sandbox. The idempotency key travels in the
// header Idempotency-Key.
type CreateRequest struct {
	Profile string `json:"profile"` // id of a profile of the server
	// Inputs are those that the profile declares. The input repo is the path
	// of a working tree on the server's machine, relative to the directory of
	// workspaces, and must lie below it.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Consumer is on whose account the sandbox is. What is left out is the
	// token's; what is given must be the token's, except run, unless the
	// token is an administrator's.
	Consumer   *Claim             `json:"consumer,omitempty"`
	Labels     map[string]string  `json:"labels,omitempty"`      // free, for listing; the prefix dev.sandboxer. is reserved
	TTL        sandboxer.Duration `json:"ttl,omitempty"`         // the profile's if left out; at most its max_ttl
	Policy     sandboxer.Policy   `json:"policy,omitempty"`      // the profile's if left out
	Host       string             `json:"host,omitempty"`        // use exactly this host
	KeepFailed bool               `json:"keep_failed,omitempty"` // leave a failed sandbox up, to look at, until it expires
}

// A Claim is what a client says of itself.
type Claim struct {
	Project   string              `json:"project,omitempty"`
	ActorType sandboxer.ActorType `json:"actor_type,omitempty"`
	Actor     string              `json:"actor,omitempty"`
	Run       string              `json:"run,omitempty"` // of the client's choice
}

// An ExtendRequest asks for a longer life.
type ExtendRequest struct {
	TTL sandboxer.Duration `json:"ttl"` // from now
}

// A SandboxPage is one part of a list of sandboxes, oldest first.
type SandboxPage struct {
	Sandboxes []sandboxer.Sandbox `json:"sandboxes"`
	Next      string              `json:"next,omitempty"` // cursor of the next page; left out on the last
}

// An EventPage is one part of a list of events.
type EventPage struct {
	Events []sandboxer.Event `json:"events"`
	Next   string            `json:"next,omitempty"` // cursor of the next page; left out on the last
}

// A ProfileList holds the profiles that requests may name.
type ProfileList struct {
	Profiles []sandboxer.Profile `json:"profiles"`
}

// A HostList holds every configured host as it was at one moment.
type HostList struct {
	Hosts []HostRoom `json:"hosts"`
}

// A HostRoom is what a probe of a host found, and how much room there is.
type HostRoom struct {
	sandboxer.HostStatus
	FreeSlots *int `json:"free_slots,omitempty"` // left out where there is no limit or the host did not answer
}

// Usage is what sandboxes used within a window of time.
type Usage struct {
	Meters []sandboxer.Meter `json:"meters"`
}

// Health says that the server can use its store.
type Health struct {
	Status string `json:"status"` // "ok"
}

// A Report is one step of a long operation, as the event stream tells it.
type Report struct {
	SandboxID string `json:"sandbox_id"`
	sandboxer.Progress
}
