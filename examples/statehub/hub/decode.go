package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// An event is one as it came. Readers must accept keys they do not know, and
// so does the hub: the document is kept as it was sent.
type event struct {
	sandboxer.Event
	document string
}

func (e *event) summary() summary {
	s := summary{
		id: e.SandboxID, seq: e.Seq, time: e.Time, began: e.CreatedAt,
		state: string(e.State), project: e.Consumer.Project, host: e.Host, profile: e.Profile,
	}
	if s.began.IsZero() {
		s.began = e.Time
	}
	return s
}

// eventType is the beginning of a CloudEvent's type; the state or the reason follows.
const eventType = "dev.sandboxer.sandbox."

// decodeCloudEvent reads a CloudEvent 1.0 in structured mode.
func decodeCloudEvent(text []byte) (*event, error) {
	var envelope struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Source          string          `json:"source"`
		Type            string          `json:"type"`
		Subject         string          `json:"subject"`
		Time            string          `json:"time"`
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(text, &envelope); err != nil {
		return nil, refusal(http.StatusBadRequest, "the body is not a CloudEvent: %s", cut(err.Error()))
	}
	var p problems
	p.unless(envelope.SpecVersion == "1.0", "specversion is %q, want 1.0", brief(envelope.SpecVersion))
	p.require("source", envelope.Source)
	p.unless(strings.HasPrefix(envelope.Type, eventType) && envelope.Type != eventType, "type is %q, want %s and the state or the reason", brief(envelope.Type), eventType)
	p.timestamp("time", envelope.Time)
	kind := envelope.DataContentType
	p.unless(kind == "" || strings.HasPrefix(kind, "application/json") || strings.HasSuffix(kind, "+json"), "datacontenttype is %q, want application/json", brief(kind))
	return p.event("data", envelope.Data, "id", envelope.ID, "subject", envelope.Subject)
}

// progressType is the beginning of a progress event's type.
const progressType = "sandbox."

// decodeProgress reads the hub's own form of an event.
func decodeProgress(text []byte) (*event, error) {
	var envelope struct {
		ID        string          `json:"event_id"`
		Type      string          `json:"event_type"`
		Timestamp string          `json:"timestamp"`
		SandboxID string          `json:"sandbox_id"`
		Detail    json.RawMessage `json:"detail"`
	}
	if err := json.Unmarshal(text, &envelope); err != nil {
		return nil, refusal(http.StatusBadRequest, "the body is not a progress event: %s", cut(err.Error()))
	}
	var p problems
	p.unless(strings.HasPrefix(envelope.Type, progressType) && envelope.Type != progressType, "event_type is %q, want %s and the state or the reason", brief(envelope.Type), progressType)
	p.timestamp("timestamp", envelope.Timestamp)
	return p.event("detail", envelope.Detail, "event_id", envelope.ID, "sandbox_id", envelope.SandboxID)
}

// sandboxIDText is wider than today's ids: other extensions may have others.
var sandboxIDText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// problems collects what is wrong with one body, all at once.
type problems []string

func (p *problems) unless(good bool, format string, args ...any) {
	if !good {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

func (p *problems) require(name, value string) { p.unless(value != "", "%s is required", name) }

func (p *problems) timestamp(name, value string) {
	_, err := time.Parse(time.RFC3339, value)
	p.unless(err == nil, "%s is %q, want a time such as 2026-01-31T12:00:00Z", name, brief(value))
}

func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return refusal(http.StatusBadRequest, "%s", strings.Join(p, "; "))
}

// event reads the event within an envelope, which must agree with it.
func (p *problems) event(field string, document json.RawMessage, idName, id, sandboxName, sandboxID string) (*event, error) {
	p.require(idName, id)
	p.require(sandboxName, sandboxID)
	if len(document) == 0 || string(document) == "null" {
		p.unless(false, "%s is required: the event as JSON", field)
		return nil, p.err()
	}
	e := &event{document: string(document)}
	if err := json.Unmarshal(document, &e.Event); err != nil {
		p.unless(false, "%s is not an event of a sandbox: %s", field, cut(err.Error()))
		return nil, p.err()
	}
	p.unless(id == "" || id == e.ID, "%s is %q and %s.id %q: they must be equal", idName, brief(id), field, brief(e.ID))
	p.unless(sandboxID == "" || sandboxID == e.SandboxID, "%s is %q and %s.sandbox_id %q: they must be equal", sandboxName, brief(sandboxID), field, brief(e.SandboxID))
	p.unless(sandboxIDText.MatchString(e.SandboxID), "%s.sandbox_id %q is not the id of a sandbox", field, brief(e.SandboxID))
	p.unless(e.Seq >= 1, "%s.seq is %d, want 1 or more", field, e.Seq)
	want := e.SandboxID + "-" + strconv.FormatInt(e.Seq, 10)
	p.unless(e.ID == want, "%s.id is %q, want the sandbox's id and the number of the event: %q", field, brief(e.ID), brief(want))
	p.unless(!e.Time.IsZero(), "%s.time is required", field)
	p.require(field+".state", string(e.State))
	p.require(field+".reason", string(e.Reason))
	return e, p.err()
}
