package statehub

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A registration is the whole identity of a sandbox as of one event.
type registration struct {
	SandboxID    string                  `json:"sandbox_id"`
	Generation   int                     `json:"generation"`
	State        sandboxer.State         `json:"state"`
	Reason       sandboxer.Reason        `json:"reason"`
	Profile      string                  `json:"profile_id"`
	Extension    string                  `json:"extension_id,omitempty"`
	Host         string                  `json:"host,omitempty"`
	Consumer     sandboxer.Consumer      `json:"consumer"`
	ActorType    sandboxer.ActorType     `json:"actor_type"`
	CreatedAt    time.Time               `json:"created_at,omitzero"`
	ExpiresAt    time.Time               `json:"expires_at,omitzero"`
	Reachability *sandboxer.Reachability `json:"reachability,omitempty"`
	Seq          int64                   `json:"seq"`
	EventID      string                  `json:"event_id"`
	UpdatedAt    time.Time               `json:"updated_at"`
}

func registrationOf(e sandboxer.Event) registration {
	return registration{
		SandboxID: e.SandboxID, Generation: e.Generation, State: e.State, Reason: e.Reason,
		Profile: e.Profile, Extension: e.Extension, Host: e.Host, Consumer: e.Consumer, ActorType: e.Consumer.ActorType,
		CreatedAt: e.CreatedAt, ExpiresAt: e.ExpiresAt, Reachability: e.Reachability,
		Seq: e.Seq, EventID: e.ID, UpdatedAt: e.Time,
	}
}

// keepRegistered makes the hub's registration of the sandbox that of the
// event. Its error, after which the event is not sent, is that of a try which
// is to be repeated: what the hub refuses for good holds up no event, since
// the next one registers the whole identity anew.
func (s *Sink) keepRegistered(ctx context.Context, e sandboxer.Event) error {
	if s.cfg.Register == RegisterOff || s.unregistered.Load() {
		return nil
	}
	end := e.State == sandboxer.StateDestroyed
	r := request{method: http.MethodPut, url: s.base + s.cfg.Paths.Sandboxes + "/" + url.PathEscape(e.SandboxID), contentType: contentTypeJSON}
	var err error
	if end {
		r.method, r.contentType = http.MethodDelete, ""
	} else if r.body, err = encode(registrationOf(e)); err == nil {
		err = r.fits()
	}
	if err != nil {
		s.refused(ctx, e, r.failed(sandboxer.ErrInvalid, err.Error()))
		return nil
	}
	a, err := s.send(ctx, r)
	switch {
	case err != nil:
		return err
	case a.taken(), end && a.status == http.StatusNotFound:
	case !end && a.unknown():
		if s.unregistered.CompareAndSwap(false, true) {
			s.log.InfoContext(ctx, "the hub has no registration of sandboxes: only events are sent", "url", s.base+s.cfg.Paths.Sandboxes, "status", a.status)
		}
	case a.again() && !a.unknown():
		return a.err()
	default:
		s.refused(ctx, e, a.err())
	}
	return nil
}

func (s *Sink) refused(ctx context.Context, e sandboxer.Event, err error) {
	s.log.WarnContext(ctx, "registration refused", "sandbox", e.SandboxID, "seq", e.Seq, "event", e.ID, "error", err)
}
