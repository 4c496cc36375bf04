package admission

import (
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Compose is run in the project directory, so there PWD names it. A path that
// begins with it is written as the relative one it stands for; in any other
// place it would be a directory of the client's, and is not set.

// The attributes that hold paths: of a service, and from the top of a file.
// Those of include and extends are resolved where they are read. A Dockerfile is
// sought from its context, which is not known yet.
const (
	servicePaths = "volumes.[] volumes.[].source build build.context build.additional_contexts.* build.additional_contexts.[] " +
		"env_file env_file.[] env_file.[].path label_file label_file.[]"
	topPaths = "secrets.*.file configs.*.file volumes.*.driver_opts.device"
)

// startsHere matches the variable at the beginning of a path, or of the
// default of another variable there.
var startsHere = regexp.MustCompile(`^((?:[\w.-]+=)?(?:\$\{\w+:?-)?)\$(?:PWD|\{PWD(?::?[-?][^{}$]*)?\})($|[/:}])`)

// hereIn replaces the variable in all paths of a file, which start in base.
func (f *files) hereIn(s *source, base string) {
	for attribute := range strings.FieldsSeq(servicePaths) {
		f.hereAt(s.root, strings.Split("services.*."+attribute, "."), base)
	}
	for attribute := range strings.FieldsSeq(topPaths) {
		f.hereAt(s.root, strings.Split(attribute, "."), base)
	}
}

func (f *files) hereAt(n *yaml.Node, pattern []string, base string) {
	n = target(n)
	for i, c := range n.Content {
		switch {
		case n.Kind == yaml.MappingNode && (i%2 == 0 || pattern[0] != "*" && pattern[0] != n.Content[i-1].Value):
		case n.Kind == yaml.SequenceNode && pattern[0] != "[]":
		case len(pattern) > 1:
			f.hereAt(c, pattern[1:], base)
		default:
			if text := target(c).Value; f.here(text, base) != text {
				n.Content[i] = literal(f.here(text, base), c.Line)
				n.Content[i].Anchor = c.Anchor
			}
		}
	}
	if n.Kind == yaml.MappingNode {
		for _, m := range merged(n) {
			f.hereAt(m, pattern, base)
		}
	}
}

// here replaces the variable at the beginning of one path.
func (f *files) here(p, base string) string {
	m := startsHere.FindStringSubmatch(p)
	if m == nil || f.hasPWD {
		return p
	}
	rel, _ := filepath.Rel(filepath.FromSlash(base), filepath.FromSlash(f.projectDir)) // both are in the tree
	if rel = filepath.ToSlash(rel); !strings.HasPrefix(rel, ".") {
		rel = "./" + rel
	}
	return m[1] + strings.ReplaceAll(rel, "$", "$$") + m[2] + p[len(m[0]):]
}
