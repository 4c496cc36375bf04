package secrets

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/sand-boxer/sandboxer"
)

// A Config is the document secrets.yaml: it says where secrets come from and
// holds none. It is closed: an unknown key is an error.
type Config struct {
	// Secrets are the sources, by the names that profiles list under
	// setup.secret_refs.
	Secrets Sources `json:"secrets"`
}

// ParseConfig decodes and validates secrets.yaml, YAML or JSON. Every problem
// is a [*sandboxer.FieldError] with file, line and key; they are joined. file
// is only named in errors.
func ParseConfig(file string, data []byte) (Config, error) {
	var c Config
	if err := sandboxer.DecodeStrict(file, data, &c); err != nil {
		return Config{}, err
	}
	var root yaml.Node
	_ = yaml.Unmarshal(data, &root) // it was decoded above; JSON that YAML cannot read has no lines
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		for _, p := range c.Secrets[name].problems() {
			p.File, p.Line = file, lineOf(&root, "secrets", name, p.Field)
			p.Field = strings.TrimSuffix("secrets."+name+"."+p.Field, ".")
			problems = append(problems, p)
		}
	}
	if len(problems) > 0 {
		return Config{}, errors.Join(problems...)
	}
	return c, nil
}

// ParseSource reads the short form of a source, "env:NAME" or "file:/path", as
// command-line flags have it. The error does not repeat text, which may be a
// value in the wrong place.
func ParseSource(text string) (Source, error) {
	kind, rest, _ := strings.Cut(text, ":")
	var s Source
	switch kind {
	case "env":
		s.Env = rest
	case "file":
		s.File = rest
	default:
		return s, fmt.Errorf("%w: a source reads env:NAME or file:/path; commands belong in a file", sandboxer.ErrInvalid)
	}
	return s, s.Validate()
}

// lineOf finds a key, or the nearest that encloses it. It is 0 without a document.
func lineOf(n *yaml.Node, path ...string) int {
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	line := n.Line
	for _, key := range path {
		next := -1
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				next = i
			}
		}
		if next < 0 {
			break
		}
		line, n = n.Content[next].Line, n.Content[next+1]
	}
	return line
}
