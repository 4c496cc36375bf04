package statehub

import (
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const (
	contentTypeCloudEvent = "application/cloudevents+json; charset=utf-8"
	contentTypeJSON       = "application/json"

	// eventSchema is the published schema of an event's data.
	eventSchema = "https://github.com/sand-boxer/sandboxer/schemas/event.schema.json"
)

// A cloudEventJSON is a CloudEvent 1.0 in structured mode, with the extensions
// sequence and partitioning.
//
// There is no sequencetype: "Integer" promises numbers without gaps for the
// source, and ours are without gaps for each sandbox.
type cloudEventJSON struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema"`
	Sequence        string          `json:"sequence"` // of the sandbox; sorts as text
	PartitionKey    string          `json:"partitionkey"`
	Data            sandboxer.Event `json:"data"`
}

func cloudEvent(source string, e sandboxer.Event) cloudEventJSON {
	return cloudEventJSON{
		SpecVersion: "1.0", ID: e.ID, Source: source, Type: "dev.sandboxer.sandbox." + suffix(e),
		Subject: e.SandboxID, Time: e.Time, DataContentType: contentTypeJSON, DataSchema: eventSchema,
		Sequence: fmt.Sprintf("%010d", e.Seq), PartitionKey: e.SandboxID, Data: e,
	}
}
