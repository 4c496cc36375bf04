package sandboxer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer/internal/allowlist"
)

// A Profile says how a kind of sandbox is established: on which extension,
// how isolated, for how long, with what. Profiles are closed documents: an
// unknown key is an error that names file, line and key.
type Profile struct {
	ID          string            `json:"id"` // "profile.compose-e2e"
	Description string            `json:"description,omitempty"`
	Extension   string            `json:"extension,omitempty"` // id of the one that serves it; empty is any that offers the isolation
	Isolation   Isolation         `json:"isolation"`
	Network     Network           `json:"network,omitzero"`
	Workspace   Workspace         `json:"workspace,omitzero"`
	Inputs      map[string]Input  `json:"inputs,omitempty"` // by name; anything else is refused at create
	Scope       Scope             `json:"scope,omitempty"`
	TTL         Duration          `json:"ttl"`     // life of a sandbox when the request says nothing
	MaxTTL      Duration          `json:"max_ttl"` // counted from creation; ExtendTTL stops there
	Bounds      Bounds            `json:"bounds,omitzero"`
	Resources   Resources         `json:"resources,omitzero"`
	Setup       Setup             `json:"setup,omitzero"`
	Placement   Placement         `json:"placement,omitzero"`
	Expose      []Expose          `json:"expose,omitempty"`  // what must be reachable for the sandbox to count as ready
	Require     []string          `json:"require,omitempty"` // controls that must be enforced, such as "network.host": create fails where one is not
	CostClass   string            `json:"cost_class,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"` // copied to every sandbox of the profile
	Config      json.RawMessage   `json:"config,omitempty"` // the extension's own part, decoded strictly by it
}

// Egress says what a sandbox may reach outside itself.
type Egress string

// The egress modes. The zero value of [Network] means EgressDeny.
const (
	EgressDeny      Egress = "deny"
	EgressAllowlist Egress = "allowlist"
	EgressAllow     Egress = "allow"
)

// Network is the posture a profile requires. What a host cannot enforce is
// refused at create.
type Network struct {
	Egress     Egress   `json:"egress,omitempty"`      // deny unless set
	Allow      []string `json:"allow,omitempty"`       // with allowlist: "example.com" (ports 80 and 443), "*.example.com:443", "10.0.0.0/8:5432"
	HostAccess bool     `json:"host_access,omitempty"` // may reach services of the host itself
	DNS        []string `json:"dns,omitempty"`         // resolvers for egress allow; empty is the engine's
}

// WorkspaceMode says where the files of a sandbox come from.
type WorkspaceMode string

// The workspace modes. The zero value of [Workspace] means WorkspaceUpload.
const (
	WorkspaceUpload WorkspaceMode = "upload" // the working tree named by the input "repo" is copied to the host
)

// Workspace selects the files of a sandbox.
type Workspace struct {
	Mode    WorkspaceMode `json:"mode,omitempty"`
	Exclude []string      `json:"exclude,omitempty"` // .dockerignore patterns, added to the tree's .sandboxerignore
}

// An Input is a value a caller gives at create.
type Input struct {
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Default     string `json:"default,omitempty"`
	Public      bool   `json:"public,omitempty"` // its value may appear in events
}

// Scope says what one sandbox is meant to serve. It is recorded and shown;
// sandboxes are never shared behind their creator's back.
type Scope string

// The scopes.
const (
	ScopeRun     Scope = "run"     // one run of something, then destroyed
	ScopeSession Scope = "session" // a working session of one consumer
	ScopeProject Scope = "project" // everything a project does until it expires
)

// Bounds limit how long a phase may take. They are not the sandbox's life: that is its TTL.
type Bounds struct {
	Provision Duration `json:"provision,omitempty"` // 15m if zero
	Ready     Duration `json:"ready,omitempty"`     // 3m if zero
	Teardown  Duration `json:"teardown,omitempty"`  // 3m if zero
}

// Resources are the caps of every container; the sum is the sandbox's own affair.
type Resources struct {
	CPUs   float64 `json:"cpus,omitempty"`   // processors; 0 is the extension's default
	Memory Bytes   `json:"memory,omitempty"` // 0 is the extension's default
	PIDs   int64   `json:"pids,omitempty"`
	Disk   Bytes   `json:"disk,omitempty"` // free space the host must have before anything is created
}

// Setup is what the consumer wants to be told or given; values of secrets are
// never part of a profile, a record or an event.
type Setup struct {
	Metadata   map[string]string `json:"metadata,omitempty"`
	SecretRefs []string          `json:"secret_refs,omitempty"` // names only; Config.Secrets finds the values
}

// Placement says which hosts may take a sandbox, in which order.
type Placement struct {
	Policy   Policy   `json:"policy,omitempty"`   // prefer-self-hosted unless set
	Prefer   []string `json:"prefer,omitempty"`   // host names, first choice first
	Fallback []string `json:"fallback,omitempty"` // tried after Prefer; both empty means every host of the extension
}

// Expose names a port of a service that callers rely on.
type Expose struct {
	Service string `json:"service"`
	Port    int    `json:"port"`
	Name    string `json:"name,omitempty"`
}

// The defaults of [Bounds].
const (
	DefaultProvisionBound Duration = 15 * minute
	DefaultReadyBound     Duration = 3 * minute
	DefaultTeardownBound  Duration = 3 * minute
)

// WorkspaceInput is the input that names the working tree to upload.
const WorkspaceInput = "repo"

// withDefaults fills what the zero values stand for.
func (p Profile) withDefaults() Profile {
	setDefault(&p.Network.Egress, EgressDeny)
	setDefault(&p.Workspace.Mode, WorkspaceUpload)
	setDefault(&p.Scope, ScopeRun)
	setDefault(&p.Placement.Policy, PolicyPreferSelfHosted)
	setDefault(&p.Bounds.Provision, DefaultProvisionBound)
	setDefault(&p.Bounds.Ready, DefaultReadyBound)
	setDefault(&p.Bounds.Teardown, DefaultTeardownBound)
	return p
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

var controlName = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)*$`)

var profileID = regexp.MustCompile(`^profile\.[a-z0-9][a-z0-9.-]{0,62}$`)

// Validate reports every problem at once, each a [*FieldError].
func (p Profile) Validate() error {
	var problems fieldErrors
	bad := problems.add
	if !profileID.MatchString(p.ID) {
		bad("id", "%q is not a profile id: it reads like profile.compose-e2e", p.ID)
	}
	if p.Extension != "" && !extensionID.MatchString(p.Extension) {
		bad("extension", "%q is not an extension id: it reads like ext.compose-ssh", p.Extension)
	}
	oneOf(bad, "isolation", p.Isolation, IsolationContainer, IsolationGVisor, IsolationVM)
	oneOf(bad, "network.egress", p.Network.Egress, "", EgressDeny, EgressAllowlist, EgressAllow)
	if len(p.Network.Allow) > 0 && p.Network.Egress != EgressAllowlist {
		bad("network.allow", "has entries but network.egress is not allowlist")
	}
	for i, text := range p.Network.Allow {
		if _, err := allowlist.Parse(text); err != nil {
			bad(fmt.Sprintf("network.allow[%d]", i), "%v", err)
		}
	}
	for i, name := range p.Require {
		if !controlName.MatchString(name) {
			bad(fmt.Sprintf("require[%d]", i), "%q is not the name of a control: it reads like network.egress", name)
		}
	}
	oneOf(bad, "workspace.mode", p.Workspace.Mode, "", WorkspaceUpload)
	oneOf(bad, "scope", p.Scope, "", ScopeRun, ScopeSession, ScopeProject)
	oneOf(bad, "placement.policy", p.Placement.Policy, "", PolicyExplicit, PolicyPreferSelfHosted, PolicyLowestCost)
	switch {
	case p.TTL <= 0:
		bad("ttl", "is required and positive, such as 30m")
	case p.MaxTTL < p.TTL:
		bad("max_ttl", "%v is less than ttl %v", p.MaxTTL, p.TTL)
	}
	for _, b := range []struct {
		field string
		d     Duration
	}{{"provision", p.Bounds.Provision}, {"ready", p.Bounds.Ready}, {"teardown", p.Bounds.Teardown}} {
		if b.d < 0 {
			bad("bounds."+b.field, "is negative")
		}
	}
	if !finite(p.Resources.CPUs) || p.Resources.CPUs < 0 || p.Resources.PIDs < 0 || p.Resources.Memory < 0 || p.Resources.Disk < 0 {
		bad("resources", "has an amount that is negative or no number")
	}
	if len(p.Config) > 0 && !json.Valid(p.Config) {
		bad("config", "is not valid JSON")
	}
	for i, e := range p.Expose {
		if e.Service == "" || e.Port < 1 || e.Port > 65535 {
			bad(fmt.Sprintf("expose[%d]", i), "needs a service and a port between 1 and 65535")
		}
	}
	for i, name := range p.Setup.SecretRefs {
		switch field := fmt.Sprintf("setup.secret_refs[%d]", i); {
		case !secretName.MatchString(name):
			bad(field, "%q is not a name: letters, digits and ._- only, at most 128; values do not belong in a profile", name)
		case slices.Contains(p.Setup.SecretRefs[:i], name):
			bad(field, "%q is listed twice", name)
		}
	}
	if _, declared := p.Inputs[WorkspaceInput]; !declared {
		bad("inputs", "must declare %q, which names the working tree to upload", WorkspaceInput)
	}
	validateLabels(bad, "labels", p.Labels)
	return problems.err()
}

func oneOf[T ~string](bad func(field, format string, args ...any), field string, v T, allowed ...T) {
	if slices.Contains(allowed, v) {
		return
	}
	named := slices.DeleteFunc(slices.Clone(allowed), func(a T) bool { return a == "" })
	bad(field, "%q is not one of %q", v, named)
}

// ParseProfile decodes one YAML or JSON profile and validates it. Every
// problem is a [*FieldError] that names file, line and key.
func ParseProfile(file string, data []byte) (Profile, error) {
	var p Profile
	doc, err := decodeStrict(file, data, &p)
	if err != nil {
		return Profile{}, err
	}
	if err := p.Validate(); err != nil {
		return Profile{}, doc.locate(err)
	}
	return p, nil
}

// LoadProfiles parses every *.yaml file at the top of fsys. A file that
// fails does not hide the others: all problems are joined. Two files with one
// id are an error that names both.
func LoadProfiles(fsys fs.FS) ([]Profile, error) {
	return loadAll(fsys, ParseProfile, func(p Profile) string { return p.ID })
}

// loadAll is the shape shared by profiles and manifests: parse each file, refuse a second use of an id.
func loadAll[T any](fsys fs.FS, parse func(string, []byte) (T, error), id func(T) string) ([]T, error) {
	names, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, err
	}
	var problems []error
	first := map[string]string{}
	var all []T
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		v, err := parse(path.Base(name), data)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if other, dup := first[id(v)]; dup {
			problems = append(problems, &FieldError{File: name, Field: "id", Reason: fmt.Sprintf("%s is already defined in %s", id(v), other)})
			continue
		}
		first[id(v)] = name
		all = append(all, v)
	}
	return all, errors.Join(problems...)
}

// DecodeConfig decodes p.Config strictly into the extension's own struct; an
// absent config leaves v as it is.
func (p Profile) DecodeConfig(v any) error {
	if len(p.Config) == 0 {
		return nil
	}
	doc, err := decodeStrict("", p.Config, v)
	if err != nil {
		return doc.prefix("config", err)
	}
	return nil
}

// resolveInputs checks given against what the profile declares and fills defaults.
func (p Profile) resolveInputs(given map[string]string) (map[string]string, error) {
	var problems fieldErrors
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := p.Inputs[name]; !ok {
			problems.add("inputs."+name, "is not declared by %s, which takes %s", p.ID, quotedNames(p.Inputs))
		}
	}
	resolved := maps.Clone(given)
	if resolved == nil {
		resolved = map[string]string{}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Inputs)) {
		in := p.Inputs[name]
		if _, ok := resolved[name]; ok {
			continue
		}
		if in.Default != "" {
			resolved[name] = in.Default
		} else if in.Required {
			problems.add("inputs."+name, "is required by %s: %s", p.ID, orElse(in.Description, "no description given"))
		}
	}
	return resolved, problems.err()
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func quotedNames[V any](m map[string]V) string {
	if len(m) == 0 {
		return "none"
	}
	return fmt.Sprintf("%q", slices.Sorted(maps.Keys(m)))
}

var (
	labelKey  = regexp.MustCompile(`^[a-z0-9]([a-z0-9._/-]{0,126}[a-z0-9])?$`)
	labelText = regexp.MustCompile(`^[\x20-\x7e]{0,256}$`)
)

// reservedLabels is the prefix of the labels that sandboxer itself puts on backend objects.
const reservedLabels = "dev.sandboxer."

func validateLabels(bad func(field, format string, args ...any), field string, labels map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		switch {
		case !labelKey.MatchString(k):
			bad(field+"."+k, "is not a label key: lower-case letters, digits and ._/- only")
		case strings.HasPrefix(k, reservedLabels):
			bad(field+"."+k, "the prefix %s is reserved", reservedLabels)
		case !labelText.MatchString(labels[k]):
			bad(field+"."+k, "the value is longer than 256 characters or not printable ASCII")
		}
	}
}
