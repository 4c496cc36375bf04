package statehub

import (
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A progressEvent is a flat event for hubs that keep a log for people.
type progressEvent struct {
	ID        string              `json:"event_id"`
	Type      string              `json:"event_type"`
	Summary   string              `json:"summary"`
	Timestamp time.Time           `json:"timestamp"`
	SandboxID string              `json:"sandbox_id"`
	Profile   string              `json:"profile_id"`
	Extension string              `json:"extension_id,omitempty"`
	Host      string              `json:"host,omitempty"`
	Consumer  sandboxer.Consumer  `json:"consumer"`
	ActorType sandboxer.ActorType `json:"actor_type"`
	State     sandboxer.State     `json:"state"`
	Reason    sandboxer.Reason    `json:"reason"`
	Detail    sandboxer.Event     `json:"detail"`
}

func progress(e sandboxer.Event) progressEvent {
	return progressEvent{
		ID: e.ID, Type: "sandbox." + suffix(e), Summary: summary(e), Timestamp: e.Time,
		SandboxID: e.SandboxID, Profile: e.Profile, Extension: e.Extension, Host: e.Host,
		Consumer: e.Consumer, ActorType: e.Consumer.ActorType, State: e.State, Reason: e.Reason, Detail: e,
	}
}

// summary says in one sentence whose sandbox came to what, where and why.
func summary(e sandboxer.Event) string {
	var b strings.Builder
	b.WriteString(e.Consumer.String() + ": sandbox " + e.SandboxID + " of " + e.Profile)
	if e.From != e.State {
		b.WriteString(" is now ")
	} else {
		b.WriteString(" is still ")
	}
	b.WriteString(string(e.State))
	if e.Host != "" {
		b.WriteString(" on " + e.Host)
	}
	if string(e.Reason) != string(e.State) {
		b.WriteString(": " + strings.ReplaceAll(string(e.Reason), "_", " "))
	}
	if e.Reason == sandboxer.ReasonExtended && !e.ExpiresAt.IsZero() {
		b.WriteString(" to " + e.ExpiresAt.UTC().Format(time.RFC3339))
	}
	const shown = 200 // of a message; all of it is in the detail
	if message := cut(oneLine(e.Message), shown); message != "" {
		b.WriteString(" (" + message + ")")
	}
	return oneLine(b.String())
}

// withFields adds the operator's fields to an encoded object. None has the
// name of a field that is there.
func withFields(object []byte, fields map[string]string) ([]byte, error) {
	if len(fields) == 0 {
		return object, nil
	}
	more, err := encode(fields)
	if err != nil {
		return nil, err
	}
	return slices.Concat(object[:len(object)-1], []byte{','}, more[1:]), nil
}
