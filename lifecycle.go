package sandboxer

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// State is where a sandbox is in its life. See docs/lifecycle.md.
type State string

// The states. Readers should tolerate values they do not know.
const (
	StateRequested    State = "requested"    // recorded; nothing exists yet
	StateProvisioning State = "provisioning" // something may exist
	StateReady        State = "ready"        // reachable
	StateActive       State = "active"       // a consumer said that it is working in it
	StateFailed       State = "failed"       // unusable; may still own resources
	StateLost         State = "lost"         // host unreachable, or gone without us; may come back
	StateDestroying   State = "destroying"   // teardown has begun and is not yet proved
	StateDestroyed    State = "destroyed"    // proved absent; the end
)

// transitions is the one table of legal state changes. Destroying is legal
// from everywhere but the end; Recreate goes from destroying to requested.
var transitions = map[State][]State{
	StateRequested:    {StateProvisioning, StateFailed, StateDestroying},
	StateProvisioning: {StateReady, StateFailed, StateLost, StateDestroying},
	StateReady:        {StateActive, StateFailed, StateLost, StateDestroying},
	StateActive:       {StateReady, StateFailed, StateLost, StateDestroying},
	StateFailed:       {StateDestroying},
	StateLost:         {StateReady, StateActive, StateFailed, StateDestroying},
	StateDestroying:   {StateDestroyed, StateRequested},
	StateDestroyed:    {},
}

// States lists all states in the order of a life.
func States() []State {
	return []State{StateRequested, StateProvisioning, StateReady, StateActive, StateFailed, StateLost, StateDestroying, StateDestroyed}
}

// CanTransition reports whether the table has an edge from s to to.
func (s State) CanTransition(to State) bool { return slices.Contains(transitions[s], to) }

// Next lists the states that may follow s.
func (s State) Next() []State { return slices.Clone(transitions[s]) }

// Terminal reports whether nothing can follow s.
func (s State) Terminal() bool { return s == StateDestroyed }

// Reason is the machine-readable cause of a change. It accompanies every
// event; readers should tolerate values they do not know.
type Reason string

// The reasons. Expiry is a reason, not a state.
const (
	ReasonRequested        Reason = "requested"         // a consumer asked for a sandbox
	ReasonRouted           Reason = "routed"            // a host was chosen, provisioning starts
	ReasonFallback         Reason = "fallback"          // a host failed; once it is clean the next is tried
	ReasonResumed          Reason = "resumed"           // another process continues an abandoned create
	ReasonReady            Reason = "ready"             // reachable
	ReasonActivated        Reason = "activated"         // a consumer started work
	ReasonDeactivated      Reason = "deactivated"       // a consumer stopped work
	ReasonExtended         Reason = "ttl_extended"      // expiry moved to later
	ReasonConsumerRequest  Reason = "consumer_request"  // somebody called Destroy
	ReasonExpired          Reason = "ttl_expired"       // the lease ended
	ReasonRecreate         Reason = "recreate"          // torn down to be made again
	ReasonProvisionFailed  Reason = "provision_failed"  // upload, build or start failed
	ReasonProvisionTimeout Reason = "provision_timeout" // the provision bound ran out
	ReasonReadyTimeout     Reason = "ready_timeout"     // the ready bound ran out
	ReasonNotReady         Reason = "not_ready"         // a service failed for good
	ReasonCanceled         Reason = "canceled"          // the creator's context ended
	ReasonHostUnavailable  Reason = "host_unavailable"  // the host or its engine did not answer
	ReasonInterrupted      Reason = "interrupted"       // the process working on it is gone
	ReasonVanished         Reason = "vanished"          // the backend holds nothing of it, without us
	ReasonReturned         Reason = "returned"          // a lost sandbox was seen again
	ReasonAdopted          Reason = "adopted"           // found on a host, unknown to the store
	ReasonResidue          Reason = "residue"           // teardown left something it could not prove absent
	ReasonVerified         Reason = "verified_absent"   // the backend was asked and holds nothing
	ReasonFailedCreate     Reason = "failed_create"     // torn down because its create failed
)

// ActorType says what kind of actor stands behind a sandbox.
type ActorType string

// The actor types.
const (
	ActorAdmin      ActorType = "adm" // a person administering
	ActorAgent      ActorType = "agt" // an AI agent
	ActorAutomation ActorType = "atm" // an automation
)

// A Consumer is on whose account a sandbox exists. It is required, never
// changes, and stands in the record, in labels on every backend object, and
// in every event and meter. It is what the caller says; nothing proves it.
type Consumer struct {
	Project   string    `json:"project"`    // id of the calling project
	ActorType ActorType `json:"actor_type"` // adm, agt or atm
	Actor     string    `json:"actor"`      // who, within the type: "ci", "alice@laptop"
	Run       string    `json:"run,omitempty"`
}

var consumerText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}$`)

// Validate reports every problem at once, each a [*FieldError].
func (c Consumer) Validate() error {
	var problems fieldErrors
	for _, f := range []struct{ name, value string }{{"project", c.Project}, {"actor", c.Actor}, {"run", c.Run}} {
		switch {
		case f.value == "" && f.name == "run":
		case f.value == "":
			problems.add("consumer."+f.name, "is required: say on whose account the sandbox exists")
		case !consumerText.MatchString(f.value):
			problems.add("consumer."+f.name, "%q: only letters, digits and ._@:/+- are allowed, at most 128 of them", f.value)
		}
	}
	switch c.ActorType {
	case ActorAdmin, ActorAgent, ActorAutomation:
	default:
		problems.add("consumer.actor_type", `%q is not one of "adm" (a person administering), "agt" (an AI agent), "atm" (an automation)`, c.ActorType)
	}
	return problems.err()
}

// String reads "project/agt:actor", with the run where there is one.
func (c Consumer) String() string {
	s := c.Project + "/" + string(c.ActorType) + ":" + c.Actor
	if c.Run != "" {
		s += "#" + c.Run
	}
	return s
}

// A Sandbox is a copy of what is recorded; changing it changes nothing. All
// times are UTC.
type Sandbox struct {
	ID           string            `json:"id"`
	Generation   int               `json:"generation"` // 1, then one more for each Recreate
	State        State             `json:"state"`
	Reason       Reason            `json:"reason"`
	Message      string            `json:"message,omitempty"`
	ErrorCode    string            `json:"error_code,omitempty"` // see Code; of the failure behind Message
	Profile      Profile           `json:"profile"`              // as it was at creation
	Inputs       map[string]string `json:"inputs,omitempty"`
	Consumer     Consumer          `json:"consumer"`
	Labels       map[string]string `json:"labels,omitempty"`
	Extension    string            `json:"extension"`
	Host         string            `json:"host,omitempty"`
	Route        Route             `json:"route"`
	Admission    *Admission        `json:"admission,omitempty"` // what was rewritten so that it can run
	Reachability *Reachability     `json:"reachability,omitempty"`
	Controls     []Control         `json:"controls,omitempty"`
	Failure      *Failure          `json:"failure,omitempty"`
	Removal      *Removal          `json:"removal,omitempty"`  // the last teardown's evidence or residue
	Observed     *Observation      `json:"observed,omitempty"` // only from Client.Inspect: what the backend holds now
	CreatedAt    time.Time         `json:"created_at"`
	StateSince   time.Time         `json:"state_since"`
	ReadyAt      time.Time         `json:"ready_at,omitzero"`
	ExpiresAt    time.Time         `json:"expires_at"`
	MaxExpiresAt time.Time         `json:"max_expires_at"`
	EndedAt      time.Time         `json:"ended_at,omitzero"`
}

// Expired reports whether the sandbox's life is over at now.
func (s *Sandbox) Expired(now time.Time) bool { return !now.Before(s.ExpiresAt) }

// blame records what went wrong, for the next event too.
func (s *Sandbox) blame(cause error) { s.Message, s.ErrorCode = cause.Error(), Code(cause) }

// A Failure is why a sandbox became unusable, in a form that can be stored and shown.
type Failure struct {
	Reason  Reason `json:"reason"`
	Code    string `json:"code,omitempty"` // see the function Code
	Stage   string `json:"stage,omitempty"`
	Service string `json:"service,omitempty"`
	Message string `json:"message"`
	Log     string `json:"log,omitempty"` // the last lines, bounded to 16 KiB
	Hint    string `json:"hint,omitempty"`
}

// A Snapshot is reserved: a stored state of a sandbox. No operation makes one yet.
type Snapshot struct {
	ID        string          `json:"id"`
	SandboxID string          `json:"sandbox_id"`
	CreatedAt time.Time       `json:"created_at"`
	State     json.RawMessage `json:"state,omitempty"`
}

// fieldErrors collects problems of one value.
type fieldErrors []error

func (f *fieldErrors) add(field, format string, args ...any) {
	*f = append(*f, &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (f fieldErrors) err() error {
	if len(f) == 0 {
		return nil
	}
	return joined(f)
}

// joined reads as one sentence per problem, separated by semicolons.
type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }
