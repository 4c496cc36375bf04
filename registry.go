package sandboxer

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
)

// A Registry is a fixed set of extensions. It is immutable and safe for concurrent use.
type Registry struct {
	byID   map[string]Extension
	byHost map[string]Extension
}

// NewRegistry checks every extension's manifest and that ids and host names
// are used once. With manifests, each must have an implementation and each
// implementation a manifest. All problems are joined; they match ErrInvalid
// or ErrNotFound.
func NewRegistry(manifests []ExtensionInfo, extensions ...Extension) (*Registry, error) {
	r := &Registry{byID: map[string]Extension{}, byHost: map[string]Extension{}}
	var problems []error
	for _, ext := range extensions {
		info := ext.Info()
		if err := info.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("extension %s: %w", orElse(info.ID, "without id"), err))
			continue
		}
		if _, dup := r.byID[info.ID]; dup {
			problems = append(problems, fmt.Errorf("extension %s is given twice: %w", info.ID, ErrInvalid))
			continue
		}
		r.byID[info.ID] = ext
		for _, h := range info.Hosts {
			if other, dup := r.byHost[h.Name]; dup {
				problems = append(problems, fmt.Errorf("host %s of %s is already a host of %s: %w", h.Name, info.ID, other.Info().ID, ErrInvalid))
			}
			r.byHost[h.Name] = ext
		}
	}
	if manifests != nil {
		problems = append(problems, r.match(manifests)...)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return r, nil
}

// match compares manifests with implementations in both directions.
func (r *Registry) match(manifests []ExtensionInfo) []error {
	var problems []error
	declared := map[string]bool{}
	for _, m := range manifests {
		declared[m.ID] = true
		if _, ok := r.byID[m.ID]; !ok {
			problems = append(problems, fmt.Errorf("manifest %s has no implementation: pass one in Config.Extensions: %w", m.ID, ErrNotFound))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.byID)) {
		if !declared[id] {
			problems = append(problems, fmt.Errorf("extension %s has no manifest: %w", id, ErrNotFound))
		}
	}
	return problems
}

// Lookup returns ErrNotFound, with the known ids, for an id that is not registered.
func (r *Registry) Lookup(id string) (Extension, error) {
	if ext, ok := r.byID[id]; ok {
		return ext, nil
	}
	return nil, WithHint(fmt.Errorf("extension %s: %w", id, ErrNotFound), "registered are: %s", quotedNames(r.byID))
}

// All returns the extensions ordered by id.
func (r *Registry) All() []Extension {
	all := make([]Extension, 0, len(r.byID))
	for _, id := range slices.Sorted(maps.Keys(r.byID)) {
		all = append(all, r.byID[id])
	}
	return all
}

var (
	extensionID      = regexp.MustCompile(`^ext\.[a-z0-9][a-z0-9.-]{0,62}$`)
	extensionVersion = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
)

// Validate reports every problem at once, each a [*FieldError].
func (i ExtensionInfo) Validate() error {
	var problems fieldErrors
	if !extensionID.MatchString(i.ID) {
		problems.add("id", "%q is not an extension id: it reads like ext.compose-ssh", i.ID)
	}
	if !extensionVersion.MatchString(i.Version) {
		problems.add("version", "%q is not a semantic version such as 1.0.0", i.Version)
	}
	if len(i.Capabilities) == 0 {
		problems.add("capabilities", "is required: what the extension can do")
	}
	if len(i.Isolation) == 0 {
		problems.add("isolation", "is required: at least one isolation level")
	}
	for n, level := range i.Isolation {
		oneOf(problems.add, fmt.Sprintf("isolation[%d]", n), level, IsolationContainer, IsolationGVisor, IsolationVM)
	}
	oneOf(problems.add, "pricing", i.Pricing, PricingSelfHosted, PricingMetered)
	for n, h := range i.Hosts {
		if h.Name == "" {
			problems.add(fmt.Sprintf("hosts[%d].name", n), "is required")
		}
	}
	return problems.err()
}

// ParseManifest decodes one extension manifest and validates it. Every
// problem is a [*FieldError] that names file, line and key.
func ParseManifest(file string, data []byte) (ExtensionInfo, error) {
	var info ExtensionInfo
	doc, err := decodeStrict(file, data, &info)
	if err != nil {
		return ExtensionInfo{}, err
	}
	err = info.Validate()
	if len(info.Hosts) > 0 {
		err = errors.Join(err, &FieldError{Field: "hosts", Reason: "hosts are configuration, not part of a manifest"})
	}
	if err != nil {
		return ExtensionInfo{}, doc.locate(err)
	}
	return info, nil
}

// LoadManifests parses every *.yaml file at the top of fsys, joining all
// problems. Two files with one id are an error that names both.
func LoadManifests(fsys fs.FS) ([]ExtensionInfo, error) {
	return loadAll(fsys, ParseManifest, func(i ExtensionInfo) string { return i.ID })
}
