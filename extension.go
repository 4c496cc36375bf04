package sandboxer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// An Extension establishes sandboxes on one kind of backend.
//
// Programs call a [Client]; only Client and the conformance kit call an
// Extension. Methods may be called concurrently, also for the same sandbox and
// by several processes at once. A method must not keep or change what it is
// given. Everything beyond these four methods is an optional interface that
// Client finds by type assertion: [CostEstimator], [Inspector], [Lister],
// [Admitter], [HostProber], [Dialer], [LogReader], [LeaseKeeper], [io.Closer].
//
// Run extensiontest.Run before publishing an implementation.
type Extension interface {
	// Info describes the extension. It is constant, cheap and does no I/O.
	Info() ExtensionInfo

	// Provision creates the resources for req and returns how to find them.
	// It is called again with the same SandboxID and Generation after a crash
	// and must then adopt what exists. Names of backend resources follow from
	// SandboxID alone, and the backend's own record of the sandbox (with its
	// lease, ending at req.ExpiresAt) is written before the first resource.
	// If ctx ends, Provision returns promptly with an error wrapping
	// context.Cause(ctx); it may leave a part behind, which Teardown removes.
	// It returns ErrInvalid or ErrAdmission for a request it can never serve,
	// such as one whose Secrets lack a name of the profile's secret_refs,
	// ErrUnavailable if another host or a later try may succeed, and
	// ErrConflict if somebody else tore the sandbox down meanwhile.
	// Together with an error the Handle may be partly filled.
	Provision(ctx context.Context, req ProvisionRequest) (Handle, error)

	// WaitReady blocks until the sandbox can be reached and says how.
	// Whether the application inside is any good belongs to the consumer.
	// It returns ErrNotFound if nothing exists for h, a NotReadyError when a
	// service has failed for good or ctx ended while one was not ready.
	WaitReady(ctx context.Context, h Handle) (Readiness, error)

	// Teardown removes everything Provision created and proves it absent by
	// looking again. It returns a nil error only if nothing is left, also when
	// nothing was there. It may be called concurrently and repeatedly, during
	// or after a failed or canceled Provision, from a new process, and with an
	// h that holds only SandboxID and Host: Generation 0 means every generation.
	// While a newer generation than h's exists, it is left alone and the error
	// is ErrConflict. What could not be removed is reported as a ResidueError;
	// an unreachable host as ErrUnavailable.
	Teardown(ctx context.Context, h Handle) (Removal, error)
}

// A CostEstimator prices a request without creating anything.
type CostEstimator interface {
	EstimateCost(ctx context.Context, req ProvisionRequest) (Cost, error)
}

// An Inspector tells what is really there. Absent means that the backend was
// asked and holds nothing; a backend that cannot be asked is Unknown, with the
// error that kept it from answering in Observation.Detail and a nil error.
type Inspector interface {
	Inspect(ctx context.Context, h Handle) (Observation, error)
}

// A Lister names every sandbox that host holds, known to this process or not.
// [Client.Reconcile] uses it to find orphans. An unreachable host is
// ErrUnavailable, never an empty list.
type Lister interface {
	List(ctx context.Context, host string) ([]Found, error)
}

// An Admitter judges a request without creating anything and without needing
// its host. A denial is a verdict in Admission, not an error.
type Admitter interface {
	Admit(ctx context.Context, req ProvisionRequest) (Admission, error)
}

// A HostProber says whether a host can be used now and what it offers. Hosts
// that cannot are reported in HostStatus, with the cause; the error is for
// hosts that the extension does not have. A warning of HostStatus has what to
// do about it as its second line.
type HostProber interface {
	ProbeHost(ctx context.Context, host string) (HostStatus, error)
}

// A Dialer opens a connection to a port of a service inside a sandbox. The
// address is resolved at each call. Unknown services are ErrNotFound; a
// refused connection is a net error.
type Dialer interface {
	Dial(ctx context.Context, h Handle, service string, port int) (net.Conn, error)
}

// A LogReader reads what a service wrote. The reader must be closed.
type LogReader interface {
	Logs(ctx context.Context, h Handle, opts LogOptions) (io.ReadCloser, error)
}

// A LeaseKeeper moves the time at which the backend removes the sandbox by
// itself, with no client alive. It never moves it to an earlier time.
type LeaseKeeper interface {
	Renew(ctx context.Context, h Handle, expires time.Time) error
}

// Isolation is the boundary between a sandbox and its host.
type Isolation string

// The isolation levels a profile may ask for, weakest first.
const (
	IsolationContainer Isolation = "container" // shared kernel, hardened container
	IsolationGVisor    Isolation = "gvisor"    // user-space kernel (runsc)
	IsolationVM        Isolation = "vm"        // a machine of its own
)

// PricingModel says who is paid for a sandbox.
type PricingModel string

// The pricing models.
const (
	PricingSelfHosted PricingModel = "self-hosted" // machines you own; cost is what the host configuration says
	PricingMetered    PricingModel = "metered"     // a provider bills by use
)

// ExtensionInfo is an extension's manifest: what routing and operators may
// know without calling the backend. Manifests live in extensions/*.yaml.
type ExtensionInfo struct {
	ID           string       `json:"id"` // "ext.compose-ssh"
	Version      string       `json:"version"`
	Description  string       `json:"description,omitempty"`
	Capabilities []string     `json:"capabilities"`
	Isolation    []Isolation  `json:"isolation"`
	Pricing      PricingModel `json:"pricing"`
	Regions      []string     `json:"regions,omitempty"`
	Hosts        []Host       `json:"hosts,omitempty"` // added by configuration, never in a manifest file
}

// A Host is a place an extension can put sandboxes. It holds no credentials.
type Host struct {
	Name    string            `json:"name"`
	Address string            `json:"address"` // "ssh://user@host:22" or "local:"
	Region  string            `json:"region,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Slots   int               `json:"slots,omitempty"` // most sandboxes at once; 0 is no limit
	Price   *Cost             `json:"price,omitempty"` // for one sandbox; nil is unknown
}

// A ProvisionRequest is everything an extension needs to establish a sandbox.
type ProvisionRequest struct {
	SandboxID  string // 20 characters [a-z0-9], a letter first: valid as a compose project and as a path element
	Generation int    // 1, then one more for each Recreate
	Host       string // chosen by the router and recorded before Provision is called; empty in Admit
	Profile    Profile
	Inputs     map[string]string
	Consumer   Consumer
	Labels     map[string]string
	CreatedAt  time.Time
	ExpiresAt  time.Time
	// Secrets are the values of Profile.Setup.SecretRefs; nil outside of
	// Provision. They reach the services of the sandbox and nothing else: no
	// handle, label, argument list, environment, message or file that is kept.
	Secrets map[string]Secret
}

// A Handle is the extension's memory of one sandbox. Client stores it and
// gives it back, perhaps years and processes later. It holds no secrets.
type Handle struct {
	SandboxID  string          `json:"sandbox_id"`
	Generation int             `json:"generation,omitempty"`
	Host       string          `json:"host"`
	State      json.RawMessage `json:"state,omitempty"` // the extension's own, self-versioned
}

// Readiness is what WaitReady found.
type Readiness struct {
	Reachability Reachability
	Controls     []Control
}

// Reachability says where a ready sandbox is. [Client.Dial] opens connections
// to it; a harness that wants to execute commands uses Address and Containers
// with its own SSH or engine connection. No credentials are in it.
type Reachability struct {
	Address  string    `json:"address,omitempty"` // the host's address: "ssh://user@host:22" or "local:"
	Project  string    `json:"project,omitempty"` // the backend's name for the whole, e.g. the compose project
	Workdir  string    `json:"workdir,omitempty"` // the workspace on the host
	Services []Service `json:"services,omitempty"`
}

// A Service is one named part of a sandbox.
type Service struct {
	Name       string   `json:"name"`
	Containers []string `json:"containers,omitempty"` // backend names, for exec by the consumer
	State      string   `json:"state,omitempty"`      // as last seen: "running", "healthy", "completed"
	Ports      []Port   `json:"ports,omitempty"`
}

// A Port of a service. It is reached with [Client.Dial], never published.
type Port struct {
	Port      int    `json:"port"`                // inside the sandbox
	Protocol  string `json:"protocol,omitempty"`  // "tcp" (default) or "udp"
	Published string `json:"published,omitempty"` // what the workspace's file would have published, for orientation
	Name      string `json:"name,omitempty"`
}

// ControlLevel says how far a control of a profile holds.
type ControlLevel string

// The levels of enforcement.
const (
	Enforced    ControlLevel = "enforced"    // the backend holds it and it was checked
	Advisory    ControlLevel = "advisory"    // asked for, not proved
	Unsupported ControlLevel = "unsupported" // not available here
)

// A Control is one promise of a profile and what became of it.
type Control struct {
	Name   string       `json:"name"` // "network.egress", "resources.memory"
	Level  ControlLevel `json:"level"`
	Detail string       `json:"detail,omitempty"`
}

// Presence distinguishes what is there, what is not, and what cannot be told.
type Presence string

// The three answers of an [Inspector].
const (
	Present Presence = "present"
	Absent  Presence = "absent"
	Unknown Presence = "unknown"
)

// An Observation is what a backend holds for one sandbox at one moment.
type Observation struct {
	Presence  Presence   `json:"presence"`
	Detail    string     `json:"detail,omitempty"` // why unknown, or what is odd
	Services  []Service  `json:"services,omitempty"`
	Resources []Resource `json:"resources,omitempty"`
	ExpiresAt time.Time  `json:"expires_at,omitzero"` // the lease the backend itself holds
	Expired   bool       `json:"expired,omitempty"`   // absent because the backend honoured the lease
	At        time.Time  `json:"at"`
}

// A Resource is one object of a backend.
type Resource struct {
	Kind string `json:"kind"` // "container", "network", "volume", "image", "directory", "process"
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// String gives the kind and the name, or the id where there is no name.
func (r Resource) String() string {
	if r.Name != "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.ID
}

// A Removal is the evidence of a teardown.
type Removal struct {
	Removed    []Resource `json:"removed,omitempty"`
	Residue    []Resource `json:"residue,omitempty"`    // empty once proved absent
	VerifiedAt time.Time  `json:"verified_at,omitzero"` // when the backend was last looked at and held nothing
}

// A Found sandbox is what a host itself remembers of one, enough to adopt it
// into a store that lost its record.
type Found struct {
	Handle    Handle    `json:"handle"`
	Profile   string    `json:"profile,omitempty"`
	Consumer  Consumer  `json:"consumer,omitzero"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// HostStatus is what a probe of a host found.
type HostStatus struct {
	Host      Host              `json:"host"`
	Available bool              `json:"available"`
	Reason    string            `json:"reason,omitempty"` // why not available
	Hint      string            `json:"hint,omitempty"`
	Cordoned  bool              `json:"cordoned,omitempty"`  // takes no new sandboxes; those it has go on
	Sandboxes int               `json:"sandboxes"`           // how many are there now
	FreeDisk  Bytes             `json:"free_disk,omitempty"` // where sandboxes would lie; 0 is unknown
	Facts     map[string]string `json:"facts,omitempty"`
	Isolation []Isolation       `json:"isolation,omitempty"` // what this host proved it can do
	Warnings  []string          `json:"warnings,omitempty"`
	Err       error             `json:"-"` // the cause behind Reason, for errors.Is
}

// Verdict is the outcome of admission.
type Verdict string

// The two verdicts.
const (
	Allow Verdict = "allow"
	Deny  Verdict = "deny"
)

// Admission is the judgement of a workspace against a profile.
type Admission struct {
	Verdict    Verdict     `json:"verdict"`
	Violations []Violation `json:"violations"`
	Rewrites   []Rewrite   `json:"rewrites"`
	Loosened   []Violation `json:"loosened,omitempty"` // what would be a violation if the profile did not allow its rule
}

// loosenedRules are the rules behind Loosened, sorted. A nil Admission has none.
func (a *Admission) loosenedRules() []string {
	if a == nil {
		return nil
	}
	var ids []string
	for _, v := range a.Loosened {
		ids = append(ids, v.Rule)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// A Violation is one thing a workspace asks for and may not have.
type Violation struct {
	Rule    string `json:"rule"`              // stable id: "PRIVILEGED"
	Path    string `json:"path"`              // attribute path: "services.api.privileged"
	Service string `json:"service,omitempty"` // the service it belongs to
	File    string `json:"file,omitempty"`    // relative to the workspace
	Line    int    `json:"line,omitempty"`    // 1-based; 0 when unknown
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to write instead
}

// String reads "compose.yaml:4: services.web.privileged: message [RULE]", less what is not known.
func (v Violation) String() string {
	var where string
	if v.File != "" && v.Line > 0 {
		where = fmt.Sprintf("%s:%d: ", v.File, v.Line)
	} else if v.File != "" {
		where = v.File + ": "
	}
	if v.Path != "" {
		where += v.Path + ": "
	}
	return fmt.Sprintf("%s%s [%s]", where, v.Message, v.Rule)
}

// A Rewrite is one thing that runs otherwise than the workspace says, so that
// it can run beside others.
type Rewrite struct {
	Rule    string `json:"rule"`
	Path    string `json:"path"`
	Message string `json:"message"`
}

// LogOptions select what [Client.Logs] reads.
type LogOptions struct {
	Service    string // empty: all services
	Tail       int    // last lines of each container; 0 is all
	Follow     bool
	Timestamps bool
}
